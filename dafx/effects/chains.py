"""`LV2Chain` makes one black box of several plugins in a row."""

import math
import zlib
from collections.abc import Sequence

import gin
import numpy as np
import tensorflow as tf

from dafx import core, gradients
from dafx.effects import estimated
from dafx.effects import plugins as lv2_plugins

_GRADIENTS = ('spsa', 'central_differences')
_INPUT_GRADIENTS = ('adjoint', 'straight_through', 'none')


@gin.register(module='dafx.effects')
class LV2Chain(estimated.BlackBoxProcessor):
  """Plugins in a row as one processor, with one estimate for all controls.

  Each probe perturbs the controls of all plugins at once and renders the chain
  twice, so nothing has to be known of how the gradient passes a plugin on its
  way to those before it. Against that, the controls of all plugins disturb each
  other's estimates; see `joining.compare` for when this is worth it.

  The signal is that of the plugins as nodes of a DAG, one after the other.
  Audio and controls are as for `LV2Plugin`; controls are those of all plugins
  in the order of the chain, as one tensor or one for each plugin. Tensors with
  one frame hold it for all the frames of the others.

  Args:
    plugins: The processors, in order. Of what they say on gradients, the sizes
      of perturbations and `input_gradient` are used.
    n_plugins: Plugins that are in use, from the first one on; the others are
      not rendered and their controls have a gradient of zero. For training a
      chain progressively. All by default; can be set later.
    gradient: Estimator of the gradient to the controls: 'spsa' or
      'central_differences' (slow, without noise).
    n_probes: Directions per item and step for 'spsa'; `sides` renders of the
      chain each.
    sides: For 'spsa', 2 renders each direction and its opposite, 1 compares
      with what was rendered already; half the cost, and less exact.
    memory: Frames after its own that a frame of controls is credited with;
      None for the whole rest of the item; 'auto' for the longest of what is
      measured of the plugins.
    hold: Frames that 'spsa' moves together; see `LV2Plugin`.
    smoothing: Frames to either side that estimates are averaged with; see
      `LV2Plugin`.
    directions: 'hadamard' or 'rademacher'; see `gradients.draw_directions`.
    input_gradient: Gradient to the audio: 'adjoint' (by each plugin's own
      `input_gradient`, from the last one to the first), 'straight_through' (as
      if the chain were a wire) or 'none' (asking for it is an error).
    log_gradients: Whether to keep figures of each control gradient in
      `gradient_stats`; see `LV2Plugin`.
    seed: Seed of the directions; the name is mixed in.
    name: Name of the layer, which is the node's in a DAG.

  Raises:
    ValueError: No plugins, two of one name, or an unknown option.
  """

  receptive_field = None
  changeable = (
    'n_plugins',
    'gradient',
    'n_probes',
    'sides',
    'memory',
    'hold',
    'smoothing',
    'directions',
    'input_gradient',
    'log_gradients',
  )

  def __init__(
    self,
    plugins: Sequence[lv2_plugins.LV2Plugin],
    n_plugins: int | None = None,
    gradient: str = 'spsa',
    n_probes: int = 1,
    sides: int = 2,
    memory: int | str | None = 'auto',
    hold: int = 1,
    smoothing: int = 0,
    directions: str = 'hadamard',
    input_gradient: str = 'adjoint',
    log_gradients: bool = False,
    seed: int = 0,
    name: str = 'lv2_chain',
  ):
    super().__init__(name=name)
    for option, value, allowed in (
      ('gradient', gradient, _GRADIENTS),
      ('input_gradient', input_gradient, _INPUT_GRADIENTS),
      ('directions', directions, gradients.DIRECTIONS),
    ):
      if value not in allowed:
        raise ValueError(f'{option}={value!r} must be one of {allowed}.')
    names = [plugin.name for plugin in plugins]
    if not names or len(set(names)) < len(names):
      raise ValueError(
        f'plugins are named {names}; a chain needs at least one, and each a '
        "name of its own, such as LV2Plugin(name='limiter_2')."
      )
    self.plugins = list(plugins)
    self.n_plugins = len(names) if n_plugins is None else n_plugins
    self.gradient = gradient
    self.n_probes = n_probes
    self.sides = sides
    if isinstance(memory, str) and memory != 'auto':
      raise ValueError(
        f"memory={memory!r} must be a number of frames, None or 'auto'."
      )
    self.memory = memory
    self.hold = hold
    self.smoothing = smoothing
    self.directions = directions
    self.input_gradient = input_gradient
    self.log_gradients = log_gradients
    self.gradient_stats = {}
    self.seed = seed + zlib.crc32(name.encode())
    # Counts the steps of training; see LV2Plugin.
    self.gradient_step = self.add_counter('gradient_step', 0)

  @property
  def n_plugins(self) -> int:
    """Plugins in use, from the first one on."""
    return self._n_plugins

  @n_plugins.setter
  def n_plugins(self, n_plugins: int):
    if not 1 <= n_plugins <= len(self.plugins):
      raise ValueError(
        f'n_plugins={n_plugins} must be from 1 to {len(self.plugins)}, the '
        f'number of plugins of {self.name!r}.'
      )
    self._n_plugins = int(n_plugins)

  @property
  def sample_rate(self) -> int:
    """Rate of the audio, in Hz."""
    return self.plugins[0].sample_rate

  @property
  def has_free_rate(self) -> bool:
    """Whether all of its plugins take other rates."""
    return all(plugin.has_free_rate for plugin in self.plugins)

  @property
  def latency(self) -> int:
    """Samples by which the plugins in use are late, all together."""
    return sum(plugin.latency for plugin in self._in_use)

  @property
  def block_size(self) -> int:
    """Samples that all plugins render in whole blocks of."""
    return math.lcm(*(plugin.block_size for plugin in self.plugins))

  @property
  def members(self) -> list[lv2_plugins.LV2Plugin]:
    """The plugins."""
    return self.plugins

  def run_members(self, n_members: int):
    """Sets `n_plugins`."""
    self.n_plugins = n_members

  def values_of_members(self, controls) -> dict:
    """Splits controls into those of each plugin in use, by its name."""
    names = [plugin.name for plugin in self._in_use]
    return dict(zip(names, self.split_controls(controls)))

  @property
  def control_map(self) -> core.ControlMap:
    """The controls of all plugins, as 'name of the plugin/symbol'."""
    return core.concatenate_maps({p.name: p.control_map for p in self.plugins})

  def gradient_figures(self):
    """Returns figures of the last gradient; see `log_gradients`."""
    return self.gradient_stats

  def set_sample_rate(self, sample_rate: int):
    """Goes on at another rate of the audio; controls keep their meaning."""
    for plugin in self.plugins:
      plugin.set_sample_rate(sample_rate)

  @property
  def symbols(self) -> tuple[str, ...]:
    """Trainable controls as 'name of the plugin/symbol', in order."""
    return tuple(f'{p.name}/{s}' for p in self.plugins for s in p.symbols)

  @property
  def n_controls(self) -> int:
    """Number of trainable controls of all plugins."""
    return sum(plugin.n_controls for plugin in self.plugins)

  def split_controls(self, controls) -> list:
    """Splits [..., n_controls], array or tensor, into one for each plugin."""
    ends = np.cumsum([plugin.n_controls for plugin in self.plugins])
    starts = [0, *ends[:-1]]
    return [controls[..., start:end] for start, end in zip(starts, ends)]

  def get_controls(
    self,
    audio: tf.Tensor,
    controls: tf.Tensor | Sequence[tf.Tensor],
    *more: tf.Tensor,
  ):
    """Maps network outputs to port units.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: In [0, 1]: a tensor [batch, n_frames, n_controls] or [batch,
        n_controls] of all controls, or a list of one for each plugin. What lies
        outside is clipped.
      *more: The tensors of the plugins behind the first, if not in a list. (A
        functional model of Keras can only be saved with the list.)

    Returns:
      {'audio': as it came, 'controls': port units of all plugins, [batch,
      n_frames, n_controls]}.

    Raises:
      ValueError: Another number of tensors or controls than the chain's, or
        tensors of different numbers of frames.
    """
    controls = [*tf.nest.flatten(controls), *more]
    if len(controls) == 1:
      width = controls[0].shape[-1]
      if width != self.n_controls:
        raise ValueError(
          f'controls has {width} entries; {self.name!r} takes '
          f'{self.n_controls}, those of '
          f'{", ".join(f"{p.name} ({p.n_controls})" for p in self.plugins)}.'
        )
      controls = self.split_controls(controls[0])
    if len(controls) != len(self.plugins):
      raise ValueError(
        f'{self.name!r} got {len(controls)} tensors of controls; it takes one '
        f'of all, or one for each of its {len(self.plugins)} plugins.'
      )
    parts = [
      plugin.get_controls(audio, values)['controls']
      for plugin, values in zip(self.plugins, controls)
    ]
    counts = {part.shape[1] for part in parts}
    n_frames = max(counts)
    if counts - {1, n_frames}:
      raise ValueError(
        f'controls of {self.name!r} have {sorted(counts)} frames; they must '
        'have as many each, or one.'
      )
    parts = [
      part if part.shape[1] == n_frames else tf.repeat(part, n_frames, axis=1)
      for part in parts
    ]
    return dict(audio=audio, controls=tf.concat(parts, axis=-1))

  def get_signal(self, audio: tf.Tensor, controls: tf.Tensor) -> tf.Tensor:
    """Renders audio through the chain.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].

    Returns:
      Audio of shape [batch, n_samples] for mono, else [batch, n_samples,
      n_channels].

    Raises:
      ValueError: A number of channels that a plugin does not take.
    """
    audio, is_mono = estimated.with_channels(audio)
    n_out = self._n_channels_out(audio.shape[-1])

    def to_controls(*arrays):
      return [self.control_gradient(*arrays)]

    def check():
      is_wire = self.input_gradient == 'straight_through'
      estimated.check_input_gradient(
        self.name, [self] if is_wire else [self, *self._in_use]
      )

    signal = estimated.render_with_gradient(
      self.render,
      to_controls,
      tf.stop_gradient(audio),
      [controls],
      n_out,
      self.gradient_step,
    )
    signal += estimated.carry_audio_gradient(
      self.audio_gradient, audio, [controls], n_out, check
    )
    return signal[..., 0] if is_mono and n_out == 1 else signal

  def as_nodes(self, keys: Sequence[str]) -> list[tuple]:
    """Returns the nodes of a DAG that the chain stands for.

    Streaming runs these: between them the latency of each plugin is known.

    Args:
      keys: Inputs of the chain's own node: audio, then controls of all plugins
        or of each.

    Returns:
      (processor, input keys, slice of the controls that are its own or None) of
      each plugin in use. The last one's signal is the chain's.

    Raises:
      ValueError: Another number of keys than the chain takes.
    """
    audio, *controls = keys
    parts = [None] * len(self.plugins)
    if len(controls) == 1 < len(self.plugins):
      ends = np.cumsum([plugin.n_controls for plugin in self.plugins])
      parts = [slice(e - p.n_controls, e) for p, e in zip(self.plugins, ends)]
      controls = controls * len(self.plugins)
    if len(controls) != len(self.plugins):
      raise ValueError(
        f'{self.name!r} got the inputs {list(keys)}; it takes audio, and one '
        f'for all controls or for each of its {len(self.plugins)} plugins.'
      )
    nodes = []
    for plugin, key, part in zip(self._in_use, controls, parts):
      nodes.append((plugin, [audio, key], part))
      audio = f'{plugin.name}/signal'
    return nodes

  @property
  def _in_use(self) -> list[lv2_plugins.LV2Plugin]:
    return self.plugins[: self.n_plugins]

  def _n_channels_out(self, n_channels: int) -> int:
    """Returns the channels that come out; raises where a plugin refuses."""
    for plugin in self._in_use:
      plugin.check_channels(n_channels)
      n_channels = plugin.n_channels_out(n_channels)
    return n_channels

  def signals(
    self, audio: np.ndarray, controls: np.ndarray, hop_size: int | None = None
  ) -> list[np.ndarray]:
    """Renders NumPy audio; returns what goes into and out of each plugin.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      hop_size: Samples per frame; n_samples / n_frames rounded up by default.

    Returns:
      The audio, and what comes out of each plugin in use, each [batch,
      n_samples, n_channels].
    """
    signals = [audio]
    for plugin, values in zip(self._in_use, self.split_controls(controls)):
      signals.append(plugin.render(signals[-1], values, hop_size))
    return signals

  def render(
    self, audio: np.ndarray, controls: np.ndarray, hop_size: int | None = None
  ) -> np.ndarray:
    """Renders NumPy audio; `get_signal` without gradients.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      hop_size: Samples per frame; n_samples / n_frames rounded up by default.

    Returns:
      Audio of shape [batch, n_samples, n_channels out].
    """
    for plugin, values in zip(self._in_use, self.split_controls(controls)):
      audio = plugin.render(audio, values, hop_size)
    return audio

  def control_gradient(
    self, audio, controls, upstream, step, signal=None
  ) -> np.ndarray:
    """Estimates the gradient to the controls of all plugins at once.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      upstream: Gradient to the output, [batch, n_samples, n_channels out].
      step: Training step, for the directions.
      signal: The output, where it is known, for `sides` = 1.

    Returns:
      Gradient in port units, shape [batch, n_frames, n_controls], float32; zero
      for plugins that are not in use.
    """
    control_map = core.concatenate_maps(
      {p.name: p.control_map for p in self._in_use}
    )
    n_used = control_map.n_controls
    epsilons = np.concatenate([p.epsilons_at(step) for p in self._in_use])
    used = controls[..., :n_used]

    def render(points, items):
      values = control_map.to_port_units(points).astype(np.float32)
      return self.render(audio[items], values)

    unit = control_map.to_normalised(used)
    estimates = self._control_estimator(
      control_map.symbols, epsilons
    ).estimates(
      render,
      unit,
      upstream,
      symbols=control_map.symbols,
      measure_memory=self._measure_memory,
      signal=signal,
      seed=self.seed,
      step=int(step),
    )
    if self.log_gradients:
      self.gradient_stats = estimated.gradient_figures(
        control_map.symbols,
        estimates,
        unit,
        epsilons,
        sum(plugin.n_renders for plugin in self._in_use),
      )
    result = np.zeros(controls.shape, np.float32)
    result[..., :n_used] = estimates.mean(0) / control_map.slope(used)
    return result

  def _control_estimator(self, symbols, epsilons):
    sizes = dict(zip(symbols, map(float, epsilons)))
    if self.gradient == 'central_differences':
      return gradients.CentralDifferences(epsilons=sizes)
    return gradients.Spsa(
      n_probes=self.n_probes,
      sides=self.sides,
      memory=self.memory,
      hold=self.hold,
      smoothing=self.smoothing,
      directions=self.directions,
      epsilons=sizes,
    )

  def _measure_memory(self, n_samples, n_frames):
    """Returns the longest memory of the plugins, in frames."""
    return max(
      plugin.measure_memory(n_samples, n_frames) for plugin in self._in_use
    )

  def audio_gradient(self, audio, controls, upstream) -> np.ndarray:
    """Estimates the gradient to the audio that goes into the chain.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      upstream: Gradient to the output, [batch, n_samples, n_channels out].

    Returns:
      Gradient of the shape of the audio, float32.
    """
    if self.input_gradient == 'straight_through':
      wire = gradients.StraightThrough()
      return wire.pull_back(
        self.render, audio, upstream, sample_rate=self.sample_rate
      )[0]
    # What comes out of the last plugin is not needed.
    signals = [audio]
    pairs = list(zip(self._in_use, self.split_controls(controls)))
    for plugin, values in pairs[:-1]:
      signals.append(plugin.render(signals[-1], values))
    for (plugin, values), signal in zip(reversed(pairs), reversed(signals)):
      upstream = plugin.audio_gradient(signal, values, upstream)
    return upstream
