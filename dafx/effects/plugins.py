"""`LV2Plugin` makes a DDSP processor of any LV2 plugin."""

import zlib
from collections.abc import Mapping, Sequence

import ddsp
import gin
import numpy as np
import tensorflow as tf

from dafx import core, gradients, lv2

_GRADIENTS = ('spsa', 'central_differences')
_INPUT_GRADIENTS = ('adjoint', 'straight_through', 'none')
_CHANNELS = ('mono', 'stereo')


@gin.register(module='dafx.effects')
class LV2Plugin(ddsp.processors.Processor):
  """Any LV2 plugin as a processor with gradients.

  Audio is [batch, n_samples] or [batch, n_samples, n_channels]. Mono audio
  feeds all audio inputs of the plugin and comes back as mono, the mean of its
  outputs, unless `channels` is 'stereo'. Audio with channels goes to the audio
  inputs in port order; a plugin with one input and one output renders each
  channel by itself, under the same controls.

  Controls are [batch, n_frames, n_controls]: frame t holds from sample t * hop
  on, hop being n_samples / n_frames rounded up. One frame is a static setting.

  The gradient to the controls is an estimate by renders at controls nearby
  (`dafx.gradients`); that to the audio runs the plugin backwards in time.

  Args:
    uri: URI of the plugin.
    trainable: Symbols of the controls that come from a network, in its order.
      By default all that take a range of values.
    fixed: Values of other controls by symbol, in port units. All else stays at
      the plugin's defaults.
    ranges: (low, high) in port units, by symbol, where a trainable control is
      to move in less than the plugin's range.
    scales: 'log' or 'linear' by symbol, where not what the port suggests.
    sample_rate: Rate of the audio, in Hz.
    block_size: Largest number of samples per run of the plugin.
    channels: What mono audio comes back as: 'mono' or 'stereo' (all outputs).
    gradient: Estimator of the gradient to the controls: 'spsa' or
      'central_differences' (slow, without noise).
    n_probes: Directions per item and step for 'spsa'; two renders each.
    epsilon: Size of the perturbation, of the control's range.
    memory: Frames after its own that a frame of controls is credited with;
      None for the whole rest of the item.
    directions: 'hadamard' or 'rademacher'; see `gradients.draw_directions`.
    input_gradient: Gradient to the audio: 'adjoint' (two renders, and only if
      something before the plugin is trained), 'straight_through' (as if the
      plugin were a wire) or 'none' (asking for it is an error).
    input_epsilon: Size of the perturbation of the audio for 'adjoint', relative
      to the audio; 1 for a plugin that is linear in its audio.
    seed: Seed of the directions; the name is mixed in, so that the plugins of
      a chain draw different ones.
    n_threads: Items rendered side by side; all processors by default.
    compensate_latency: Whether to take the plugin's latency out.
    warm_up: Samples of silence before each item, which hide what plugins do at
      their start.
    strict: Whether output that is not finite is an error.
    isolation: Where the plugin runs: 'thread' (of this process) or 'process',
      in which one that crashes or hangs costs an lv2.PluginError, not the run.
    name: Name of the layer, which is the node's in a DAG.

  Raises:
    ValueError: An unknown plugin, symbol or option, or a value or range outside
      the plugin's; the message names what is allowed.
    lv2.PluginError: The plugin cannot be run here.
  """

  def __init__(
    self,
    uri: str,
    trainable: Sequence[str] | None = None,
    fixed: Mapping[str, float] | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
    scales: Mapping[str, str] | None = None,
    sample_rate: int = 16000,
    block_size: int = 1024,
    channels: str = 'mono',
    gradient: str = 'spsa',
    n_probes: int = 1,
    epsilon: float = 0.01,
    memory: int | None = 1,
    directions: str = 'hadamard',
    input_gradient: str = 'adjoint',
    input_epsilon: float = 0.1,
    seed: int = 0,
    n_threads: int | None = None,
    compensate_latency: bool = True,
    warm_up: int = 1024,
    strict: bool = False,
    isolation: str = 'thread',
    name: str = 'lv2_plugin',
  ):
    super().__init__(name=name)
    for option, value, allowed in (
      ('channels', channels, _CHANNELS),
      ('gradient', gradient, _GRADIENTS),
      ('input_gradient', input_gradient, _INPUT_GRADIENTS),
      ('directions', directions, gradients.DIRECTIONS),
    ):
      if value not in allowed:
        raise ValueError(f'{option}={value!r} must be one of {allowed}.')
    self.uri = uri
    self.channels = channels
    self.gradient = gradient
    self.n_probes = n_probes
    self.epsilon = epsilon
    self.memory = memory
    self.directions = directions
    self.input_gradient = input_gradient
    self.input_epsilon = input_epsilon
    self.seed = seed + zlib.crc32(name.encode())
    # Counts the steps of training, so that each draws directions of its own;
    # with the model in a checkpoint, a resumed run draws what it would have.
    self.gradient_step = tf.Variable(
      0, trainable=False, dtype=tf.int64, name='gradient_step'
    )

    fixed = dict(fixed or {})
    if trainable is None:
      trainable = [
        p.symbol
        for p in lv2.get_plugin(uri).controls.values()
        if not p.is_discrete and p.symbol not in fixed
      ]
    self._renderer_options = dict(
      uri=uri,
      controls=tuple(trainable),
      fixed=fixed,
      block_size=block_size,
      n_threads=n_threads,
      compensate_latency=compensate_latency,
      warm_up=warm_up,
      strict=strict,
      isolation=isolation,
    )
    self.set_sample_rate(sample_rate)
    self._set_ranges(dict(ranges or {}), dict(scales or {}))

  def set_sample_rate(self, sample_rate: int):
    """Goes on at another rate of the audio; controls keep their meaning."""
    self.sample_rate = sample_rate
    self.renderer = lv2.Renderer(
      sample_rate=sample_rate, **self._renderer_options
    )

  def _set_ranges(self, ranges, scales):
    """Sets low, high and is_log per control from ports and overrides."""
    plugin = self.plugin
    for option, given in (('ranges', ranges), ('scales', scales)):
      for symbol in given:
        plugin.control(symbol)
        if symbol not in self.symbols:
          raise ValueError(
            f'{option} names {symbol!r}, which is not trainable; trainable '
            f'are {", ".join(self.symbols) or "none"}.'
          )
    lows, highs, is_log = [], [], []
    for symbol in self.symbols:
      port = plugin.control(symbol)
      if port.is_discrete:
        raise ValueError(
          f'{symbol!r} of {self.uri} takes single values only '
          f'({port.describe_range()}): it has no gradient. Set it in `fixed`.'
        )
      bounds = tuple(ranges.get(symbol, (port.minimum, port.maximum)))
      if len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise ValueError(
          f'The range {bounds} of {symbol!r} must be (low, high), low < '
          f'high, within {port.describe_range()}.'
        )
      for bound in bounds:
        lv2.check_value(plugin, symbol, bound)
      scale = scales.get(symbol)
      if scale is None:
        # A narrower range may start above 0 where the port's does not.
        gain_from_zero = port.logarithmic and not port.is_discrete
        scale = 'log' if gain_from_zero and bounds[0] > 0 else port.scale
      if scale not in ('log', 'linear') or (scale == 'log' and bounds[0] <= 0):
        raise ValueError(
          f'scale {scale!r} of {symbol!r}, from {bounds[0]:g} to '
          f"{bounds[1]:g}, must be 'linear', or 'log' for a range above 0."
        )
      lows.append(bounds[0])
      highs.append(bounds[1])
      is_log.append(scale == 'log')
    self.low = np.array(lows, np.float32)
    self.high = np.array(highs, np.float32)
    self.is_log = np.array(is_log, bool)

  @property
  def plugin(self) -> lv2.Plugin:
    """What the plugin says of itself."""
    return self.renderer.plugin

  @property
  def symbols(self) -> tuple[str, ...]:
    """Symbols of the trainable controls, in order."""
    return self.renderer.controls

  @property
  def n_controls(self) -> int:
    """Number of trainable controls."""
    return len(self.symbols)

  @property
  def default_controls(self) -> np.ndarray:
    """The plugin's defaults as network outputs: in [0, 1], [n_controls]."""
    defaults = [self.plugin.control(s).default for s in self.symbols]
    return self.to_unit(np.array(defaults)).astype(np.float32)

  def to_unit(self, values: np.ndarray) -> np.ndarray:
    """Maps port units to [0, 1]; [..., n_controls] both."""
    return core.range_to_unit(values, self.low, self.high, self.is_log)

  def to_port_units(self, unit):
    """Maps [0, 1] to port units; array or tensor, [..., n_controls]."""
    values = core.unit_to_range(unit, self.low, self.high, self.is_log)
    return values

  def get_controls(self, audio: tf.Tensor, controls: tf.Tensor):
    """Maps network outputs to port units.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: In [0, 1], shape [batch, n_frames, n_controls], or [batch,
        n_controls] for one setting per item. What lies outside is clipped.

    Returns:
      {'audio': as it came, 'controls': port units, [batch, n_frames,
      n_controls]}.

    Raises:
      ValueError: Controls of another number than the plugin's.
    """
    controls = tf.cast(controls, tf.float32)
    if controls.shape.rank == 2:
      controls = controls[:, tf.newaxis, :]
    if controls.shape.rank != 3 or controls.shape[-1] != self.n_controls:
      raise ValueError(
        f'controls has shape {controls.shape}; {self.name!r} takes [batch, '
        f'n_frames, {self.n_controls}] for {", ".join(self.symbols)}.'
      )
    unit = tf.clip_by_value(controls, 0.0, 1.0)
    return dict(audio=audio, controls=self.to_port_units(unit))

  def get_signal(self, audio: tf.Tensor, controls: tf.Tensor) -> tf.Tensor:
    """Renders audio through the plugin.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].

    Returns:
      Audio of shape [batch, n_samples] for mono, else [batch, n_samples,
      n_channels].

    Raises:
      ValueError: A number of channels that the plugin does not take.
    """
    audio = tf.cast(audio, tf.float32)
    is_mono = audio.shape.rank == 2
    if is_mono:
      audio = audio[..., tf.newaxis]
    if audio.shape.rank != 3:
      raise ValueError(
        f'audio has shape {audio.shape}; it must be [batch, n_samples] or '
        '[batch, n_samples, n_channels].'
      )
    to_mono = audio.shape[-1] == 1 and self.channels == 'mono'
    audio = self._spread_channels(audio)
    # Two terms, so that each gradient is worked out only if it is asked for:
    # the second one is zero, and carries the gradient to the audio.
    signal = self._render_for_controls(tf.stop_gradient(audio), controls)
    signal += self._carry_audio_gradient(audio, tf.stop_gradient(controls))
    if to_mono:
      signal = tf.reduce_mean(signal, axis=-1, keepdims=True)
    return signal[..., 0] if is_mono and signal.shape[-1] == 1 else signal

  def _spread_channels(self, audio):
    """Feeds mono audio to all inputs; checks the channels of other audio."""
    n_in, n_out = self.renderer.n_channels_in, self.renderer.n_channels_out
    n_channels = audio.shape[-1]
    if n_channels == 1:
      return tf.repeat(audio, max(n_in, 1), axis=-1)
    if n_channels != n_in and (n_in, n_out) != (1, 1):
      inputs = ', '.join(p.symbol for p in self.plugin.audio_inputs)
      raise ValueError(
        f'audio has {n_channels} channels; {self.name!r} ({self.uri}) takes '
        f'{n_in} ({inputs}), or mono.'
      )
    return audio

  def _n_channels_out(self, n_channels_in: int) -> int:
    is_mono_plugin = self.renderer.n_channels_in == 1
    folds = is_mono_plugin and self.renderer.n_channels_out == 1
    return n_channels_in if folds else self.renderer.n_channels_out

  def _render_for_controls(self, audio, controls):
    """Renders, with a gradient to the controls only."""
    step = tf.identity(self.gradient_step)

    @tf.custom_gradient
    def render(controls):
      signal = tf.numpy_function(
        self.render, [audio, controls], tf.float32, stateful=False
      )
      n_out = self._n_channels_out(audio.shape[-1])
      signal.set_shape([*audio.shape[:-1], n_out])

      def gradient(upstream):
        result = tf.numpy_function(
          self.control_gradient,
          [audio, controls, upstream, step],
          tf.float32,
          stateful=False,
        )
        result.set_shape(controls.shape)
        # Set, not added to: asked twice, a step has the same gradient.
        self.gradient_step.assign(step + 1)
        return result

      return signal, gradient

    return render(controls)

  def _carry_audio_gradient(self, audio, controls):
    """Returns zeros in the shape of the output with a gradient to the audio."""
    n_out = self._n_channels_out(audio.shape[-1])

    @tf.custom_gradient
    def carry(audio):
      zeros = tf.zeros_like(audio[..., :1])

      def gradient(upstream):
        if self.input_gradient == 'none':
          raise ValueError(
            f'The gradient to the audio of {self.name!r} is asked for, but '
            "input_gradient='none'. Choose 'adjoint', or do not train what "
            'comes before the plugin.'
          )
        if audio.shape[-1] != n_out:
          raise ValueError(
            f'{self.name!r} has {audio.shape[-1]} audio inputs and {n_out} '
            'outputs: the gradient to its audio is only known for as many '
            "of both. Set input_gradient='none' and train nothing before it."
          )
        if self.input_gradient == 'straight_through':
          return upstream
        result = tf.numpy_function(
          self.audio_gradient,
          [audio, controls, upstream],
          tf.float32,
          stateful=False,
        )
        result.set_shape(audio.shape)
        return result

      return tf.repeat(zeros, n_out, axis=-1), gradient

    return carry(audio)

  def render(
    self,
    audio: np.ndarray,
    controls: np.ndarray,
    hop_size: int | None = None,
  ) -> np.ndarray:
    """Renders NumPy audio; `get_signal` without gradients.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      hop_size: Samples per frame; n_samples / n_frames rounded up by default.

    Returns:
      Audio of shape [batch, n_samples, n_channels out].
    """
    n_items, n_samples, n_channels = audio.shape
    if (
      n_channels
      == self._n_channels_out(n_channels)
      != (self.renderer.n_channels_out)
    ):
      # A mono plugin: channels become items of their own.
      audio = np.moveaxis(audio, -1, 1).reshape(-1, n_samples, 1)
      controls = np.repeat(controls, n_channels, axis=0)
      signal = self.renderer.render(audio, controls, hop_size)
      return np.moveaxis(signal.reshape(n_items, n_channels, n_samples), 1, -1)
    return self.renderer.render(audio, controls, hop_size)

  def control_gradient(self, audio, controls, upstream, step) -> np.ndarray:
    """Estimates the gradient to the controls.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      upstream: Gradient to the output, [batch, n_samples, n_channels out].
      step: Training step, for the directions.

    Returns:
      Gradient in port units, shape [batch, n_frames, n_controls], float32.
    """

    def render(points, items):
      values = self.to_port_units(points).astype(np.float32)
      return self.render(audio[items], values)

    if self.gradient == 'spsa':
      gradient = gradients.spsa(
        render,
        self.to_unit(controls),
        upstream,
        epsilon=self.epsilon,
        n_probes=self.n_probes,
        memory=self.memory,
        directions=self.directions,
        seed=self.seed,
        step=int(step),
      )
    else:
      gradient = gradients.central_differences(
        render, self.to_unit(controls), upstream, epsilon=self.epsilon
      )
    slope = core.unit_to_range_slope(controls, self.low, self.high, self.is_log)
    return (gradient / slope).astype(np.float32)

  def audio_gradient(self, audio, controls, upstream) -> np.ndarray:
    """Estimates the gradient to the audio by time reversal.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      upstream: Gradient to the output, of the shape of the audio.

    Returns:
      Gradient of the shape of the audio, float32.
    """
    n_samples, n_frames = audio.shape[1], controls.shape[1]
    hop_size = -(-n_samples // n_frames)
    # Whole frames, so that they have the same borders backwards.
    padding = ((0, 0), (0, n_frames * hop_size - n_samples), (0, 0))
    backwards = np.tile(controls[:, ::-1], (2, 1, 1))
    gradient = gradients.reversal_adjoint(
      lambda signals: self.render(signals.astype(np.float32), backwards),
      np.pad(audio, padding),
      np.pad(upstream, padding),
      epsilon=self.input_epsilon,
    )
    return gradient[:, :n_samples].astype(np.float32)
