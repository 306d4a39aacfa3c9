"""`LV2Plugin` makes a DDSP processor of any LV2 plugin."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
import numpy as np
import tensorflow as tf

from dafx import _arguments, gradients, lv2
from dafx.effects import (
  black_box,
  plugin_channels,
  plugin_controls,
  plugin_streams,
  side_chains,
  strategies,
)


@gin.register(module='dafx.effects')
class LV2Plugin(black_box.BlackBoxProcessor):
  """Any LV2 plugin as a processor with gradients.

  Audio is [batch, n_samples] or [batch, n_samples, n_channels]. Mono audio
  feeds all audio inputs of the plugin and comes back as mono, the mean of its
  outputs, unless `channels` is 'stereo'. Audio with channels goes to the audio
  inputs in port order; a plugin with one input and one output renders each
  channel by itself, under the same controls. Side chains are no channels: they
  hear what goes in, unless the audio has a channel for each of them too, or a
  third input, `sidechain`, is given.

  Controls are [batch, n_frames, n_controls]: frame t holds from sample t * hop
  on, hop being n_samples / n_frames rounded up. One frame is a static setting.

  Args:
    uri: URI of the plugin.
    trainable: Symbols of the controls that come from a network, in its order.
      By default all that take a range of values and are safe to train: not
      those that the host sets, that change a display, or that move the latency.
      The last cannot be trained at all.
    fixed: Values of others by symbol, in port units, and of parameters by URI.
    ranges: (low, high) in port units, by symbol, where a trainable control is
      to move in less than the plugin's range. What is in Hz stays below half
      of the sample rate. None is the plugin's own end of the range. A third
      entry, 'log' or 'linear', is the scale, where that is not what the port
      suggests ('' for that). A fourth is where a network starts, in port units,
      where that is not the plugin's default.
    sample_rate: Rate of the audio, in Hz.
    channels: What mono audio comes back as: 'mono' or 'stereo' (all outputs).
    control_gradient: Estimator of the gradient to the controls, such as
      `gradients.Spsa(n_probes=4)` or `gradients.CentralDifferences()` (slow,
      without noise). None for `Spsa()` as gin has it.
    audio_gradient: Estimator of the gradient to the audio: `gradients.Reversal`
      (two renders, exact for linear plugins), `GainFilter` (for gains that
      ride on the level), `StraightThrough` (as if the plugin were a wire),
      `NoAudioGradient` or `BestAdjoint`, which compares the first three with
      differences now and then. None for `BestAdjoint()` as gin has it.
    host: How the plugin is run; None for `Host()` as gin has it.
    preset: Label or URI of a preset, in place of the plugin's defaults, also
      where a network starts; what else it holds (state, files) is restored.
    name: Name of the layer, which is the node's in a DAG.

  Raises:
    ValueError: An unknown plugin, symbol or option, a value or range outside
      the plugin's, or a file that is not there; the message names what is
      allowed.
    KeyError: An unknown parameter or preset.
    TypeError: An argument of version 0.1.0 that has moved.
    lv2.PluginError: The plugin cannot be run here, or cannot use a file or the
      state of a preset.
  """

  uri: str
  has_free_rate = bears_threads = True
  changeable: tuple[str, ...] = ('sample_rate', 'channels')

  def __init__(
    self,
    uri: str,
    trainable: Sequence[str] | None = None,
    fixed: Mapping[str, Any] | None = None,
    ranges: Mapping[str, Sequence] | None = None,
    sample_rate: int = 16000,
    channels: str = 'mono',
    control_gradient: gradients.ControlEstimator | None = None,
    audio_gradient: gradients.AudioAdjoint | None = None,
    host: strategies.Host | None = None,
    preset: str | None = None,
    name: str = 'lv2_plugin',
  ):
    super().__init__(name=name)
    if channels not in ('mono', 'stereo'):
      raise ValueError(f"channels={channels!r} must be 'mono' or 'stereo'.")
    self.uri = uri
    self.channels = channels
    self.host = strategies.default_host() if host is None else host
    strategies.check_type(self.host, strategies.Host)
    self.preset = preset
    self._fixed = _arguments.by_name('fixed', fixed, "{'gain': 0.5}")
    ranges = _arguments.by_name('ranges', ranges, "{'gain': (0.0, 2.0)}")
    self._sample_rate = sample_rate
    if trainable is None:
      trainable = plugin_controls.safe_symbols(
        lv2.get_plugin(uri), self._fixed, self._moves_of_latency
      )
    # What `render` gets values for.
    self._rendered = _arguments.names('trainable', trainable)
    self.set_sample_rate(sample_rate)
    self.control_map = plugin_controls.map_controls(
      self.renderer, self._rendered, ranges, self.name
    )
    plugin_controls.check_latency(uri, self._moves_of_latency(self._rendered))
    self._set_gradients(control_gradient, audio_gradient)

  def _moves_of_latency(self, symbols):
    return lv2.moves_of_latency(
      self.uri,
      self.sample_rate,
      symbols,
      self._fixed,
      self.host.block_size,
      self.host.isolation,
      self.host.time_limit_s,
      self.preset,
    )

  def arguments(self) -> dict[str, Any]:
    """Returns arguments of the constructor that make a plugin like this one."""
    # By name, whatever another version of the plugin has.
    symbols = list(self.estimated_map.symbols)
    return {**super().arguments(), 'trainable': symbols, 'host': self.host}

  @property
  def sample_rate(self) -> int:
    """Rate of the audio, in Hz."""
    return self._sample_rate

  @sample_rate.setter
  def sample_rate(self, sample_rate: int):
    self.set_sample_rate(sample_rate)

  def set_sample_rate(self, sample_rate: int):
    """Goes on at another rate of the audio; controls keep their meaning."""
    self._sample_rate = sample_rate
    options = dict(
      uri=self.uri,
      sample_rate=sample_rate,
      controls=self._rendered,
      fixed=self._fixed,
      preset=self.preset,
      **dataclasses.asdict(self.host),
    )
    self.renderer = lv2.Renderer(**options)
    self.state_preset = self.renderer.state_preset
    self._memories = {}
    self._stream = plugin_streams.PluginStream(
      self, lambda: lv2.Renderer(stateful=True, **options)
    )

  @property
  def plugin(self) -> lv2.Plugin:
    """What the plugin says of itself."""
    return self.renderer.plugin

  @property
  def identity(self) -> str:
    """URI of the plugin."""
    return self.uri

  @property
  def version(self) -> str:
    """Version of the plugin, and of the Debian package that it came in."""
    return self.plugin.full_version

  @property
  def port_values(self) -> dict[str, float]:
    """Values of the ports that nobody sets, by symbol: the defaults."""
    values = self.renderer.initial_values
    given = {*self._rendered, *self.control_map.fixed}
    return {
      symbol: float(values[port.index])
      for symbol, port in self.plugin.controls.items()
      if symbol not in given
    }

  @property
  def parameter_values(self) -> dict[str, Any]:
    """What the plugin was given beyond its ports, such as files, by URI."""
    return self.renderer.parameters

  def hold_ports(self, values: Mapping[str, float]):
    """Sets ports of `port_values`; see `Node`."""
    self._fixed = {**self._fixed, **values}
    self.set_sample_rate(self.sample_rate)

  @property
  def is_isolated(self) -> bool:
    """Whether the plugin runs in processes of its own."""
    return self.host.isolation == 'process'

  @property
  def title(self) -> str:
    """Name of the node, and of the plugin."""
    return f'{self.name}: {self.plugin.name}'

  @property
  def latency(self) -> int:
    """Samples by which `stream` is late; `get_signal` takes them out."""
    return self.renderer.latency

  @property
  def block_size(self) -> int:
    """Largest number of samples per run of the plugin."""
    return self.renderer.block_size

  def initial_state(self, batch_size: int) -> tf.Tensor:
    """Begins a stream, and ends the one before; see `plugin_streams`.

    Args:
      batch_size: Number of items, which `stream` sees by itself.

    Returns:
      The state before the first sample; it can be streamed from once.

    Raises:
      ValueError: It runs whole blocks only.
    """
    del batch_size
    return self._stream.begin()

  def stream(
    self,
    state: Any,
    audio: tf.Tensor,
    controls: tf.Tensor,
    sidechain: tf.Tensor | None = None,
  ) -> tuple[Any, Any]:
    """Renders the next chunk.

    Args:
      state: From `initial_state`, or from the chunk before.
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      sidechain: As of `get_controls`.

    Returns:
      (audio, late by `latency`, and the state). It has no gradient: asking for
      one raises ValueError.

    Raises:
      ValueError: A number of channels that the plugin does not take.
    """
    return self._stream.go_on(state, audio, controls, sidechain)

  def get_controls(
    self,
    audio: tf.Tensor,
    controls: tf.Tensor | None = None,
    sidechain: tf.Tensor | None = None,
  ) -> dict[str, tf.Tensor]:
    """Maps network outputs to port units.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: As of `BlackBoxProcessor`.
      sidechain: Audio for the side chains, of that length, with channels or
        without; they hear `audio` by default. It gets no gradient by itself.

    Returns:
      {'audio': as it came, 'controls': port units, [batch, n_frames,
      n_controls]}, and 'sidechain' where it is given.
    """
    found = super().get_controls(audio, controls)
    return found if sidechain is None else {**found, 'sidechain': sidechain}

  def get_signal(
    self,
    audio: tf.Tensor,
    controls: tf.Tensor,
    sidechain: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Renders audio; see `BlackBoxProcessor`.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      sidechain: As of `get_controls`.

    Returns:
      Audio of shape [batch, n_samples] for mono, else [batch, n_samples,
      n_channels].

    Raises:
      ValueError: Channels that the plugin does not take.
    """
    if sidechain is None:
      return super().get_signal(audio, controls)
    return side_chains.run(
      self._keyed_signal, self.plugin, audio, controls, sidechain,
      is_mixed=self.channels == 'mono',
    )  # fmt: skip

  def _keyed_signal(self, audio, controls):
    """As `get_signal`, of audio with a channel for each input."""
    n_out = self.renderer.n_channels_out
    return self._signal(audio, [controls], n_out, render=self.render_keyed)

  def n_channels_out(self, n_channels: int) -> int:
    """Returns the number of channels that come out.

    Args:
      n_channels: Number of channels that go in.

    Raises:
      ValueError: The plugin takes another number.
    """
    return plugin_channels.n_channels_out(
      self.renderer, n_channels, self.channels == 'mono', self.name
    )

  def render(
    self,
    audio: np.ndarray,
    controls: np.ndarray,
    hop_size: int | None = None,
    rows: np.ndarray | None = None,
    renderer: lv2.Renderer | None = None,
  ) -> np.ndarray:
    """Renders NumPy audio; `get_signal` without gradients.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      hop_size: Samples per frame; n_samples / n_frames rounded up by default.
      rows: Which row of `audio` each item takes, [batch]; its own by default.
      renderer: What renders, if not `self.renderer`.

    Returns:
      Audio of shape [batch, n_samples, n_channels out].
    """
    renderer = renderer or self.renderer
    n_items, n_channels = len(controls), audio.shape[-1]
    self.n_renders += n_items
    if n_channels > 1 and plugin_channels.are_apart(self.renderer):
      if rows is not None:
        audio = audio[rows]
      items = plugin_channels.split(audio)
      controls = np.repeat(controls, n_channels, axis=0)
      with lv2.crashes_in(np.repeat(range(n_items), n_channels)):
        signal = renderer.render(items, controls, hop_size)
      return plugin_channels.join(signal, n_channels)
    signal = renderer.render(audio, controls, hop_size, rows)
    is_mixed = signal.shape[-1] != self.n_channels_out(n_channels)
    return plugin_channels.mix(signal) if is_mixed else signal

  def render_keyed(
    self,
    audio: np.ndarray,
    controls: np.ndarray,
    hop_size: int | None = None,
    rows: np.ndarray | None = None,
    renderer: lv2.Renderer | None = None,
  ) -> np.ndarray:
    """As `render`, of audio with a channel for each input, side chains too.

    Returns:
      Audio with all channels that come out.
    """
    self.n_renders += len(controls)
    return (renderer or self.renderer).render(audio, controls, hop_size, rows)

  def measure_memory(
    self, n_samples: int, n_frames: int, n_channels: int = 1
  ) -> int:
    """Measures the memory with mono audio, which any plugin takes."""
    del n_channels
    return super().measure_memory(n_samples, n_frames)

  def gradient_to_audio(
    self,
    audio: np.ndarray,
    controls: tf.Tensor,
    cotangent: np.ndarray,
    n_calls: int | None = None,
    first_key: int = 0,
    render: Callable | None = None,
  ) -> np.ndarray:
    """Estimates the gradient to the audio; see `BlackBoxProcessor`."""
    n_items, _, n_channels = audio.shape
    if (
      render or n_channels == 1 or not plugin_channels.are_apart(self.renderer)
    ):
      return super().gradient_to_audio(
        audio, controls, cotangent, n_calls, first_key, render
      )
    with lv2.crashes_in(np.repeat(range(n_items), n_channels)):
      gradient = super().gradient_to_audio(
        plugin_channels.split(audio),
        np.repeat(controls, n_channels, axis=0),
        plugin_channels.split(cotangent),
        n_calls,
        first_key * n_channels,
      )
    return plugin_channels.join(gradient, n_channels)
