"""`LV2Chain` makes one black box of several plugins in a row."""

import math
from collections.abc import Sequence
from typing import Any

import gin
import numpy as np
import tensorflow as tf

from dafx import core, gradients
from dafx.effects import black_box, strategies
from dafx.effects import plugins as lv2_plugins


@gin.register(module='dafx.effects')
class LV2Chain(black_box.BlackBoxProcessor):
  """Plugins in a row as one processor, with one estimate for all controls.

  Each probe perturbs the controls of all plugins at once and renders the chain
  twice, so nothing has to be known of how the gradient passes a plugin on its
  way to those before it. Against that, the controls of all plugins disturb each
  other's estimates; docs/gradients.md says when this is worth it.

  The signal is that of the plugins as nodes of a DAG, one after the other.
  Audio and controls are as for `LV2Plugin`; controls are those of all plugins
  in the order of the chain, as one tensor or one for each plugin. Tensors with
  one frame hold it for all the frames of the others.

  Args:
    plugins: The processors, in order.
    n_plugins: Plugins that are in use, from the first one on; the others are
      not rendered and their controls have a gradient of zero. For training a
      chain progressively. All by default; can be set later.
    control_gradient: Estimator of the gradient to the controls, whose symbols
      are 'name of the plugin/symbol'. None for `gradients.Spsa()` as gin has
      it. Those of the plugins are not used.
    audio_gradient: Estimator of the gradient to the audio. None for those of
      the plugins, from the last one to the first.
    name: Name of the layer, which is the node's in a DAG.

  Raises:
    ValueError: No plugins, two of one name, or a `DiscreteLV2Plugin`.
    TypeError: An argument of version 0.1.0 that has moved.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import effects
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> plugins = [
    ...   effects.LV2Plugin(uri, trainable=['threshold'], name=name)
    ...   for name in ('first', 'second')
    ... ]
    >>> chain = effects.LV2Chain(plugins)
    >>> isinstance(chain, effects.BlackBoxProcessor)
    True
    >>> chain(tf.zeros([1, 1000]), tf.fill([1, 1, 2], 0.5)).shape
    TensorShape([1, 1000])
  """

  bears_threads = True
  changeable = ('n_plugins',)
  _run_seed = 0

  def __init__(
    self,
    plugins: Sequence[lv2_plugins.LV2Plugin],
    n_plugins: int | None = None,
    control_gradient: gradients.ControlEstimator | None = None,
    audio_gradient: gradients.AudioAdjoint | None = None,
    name: str = 'lv2_chain',
  ):
    super().__init__(name=name)
    names = [plugin.name for plugin in plugins]
    if not names or len(set(names)) < len(names):
      raise ValueError(
        f'plugins are named {names}; a chain needs at least one, and each a '
        "name of its own, such as LV2Plugin(name='limiter_2')."
      )
    for plugin in plugins:
      if isinstance(plugin.control_map, core.ChoiceMap):
        raise ValueError(
          f'{plugin.name!r} chooses by scores, which a chain does not know of. '
          'Make it a node of its own, or put its choices into `fixed`.'
        )
    self.plugins = list(plugins)
    self.n_plugins = len(names) if n_plugins is None else n_plugins
    self.control_map = self._map_of(self.plugins)
    self._set_gradients(control_gradient, audio_gradient)

  def _set_gradients(self, control_gradient, audio_gradient):
    """Sets the strategies; None for gin's, and for those of the plugins."""
    if control_gradient is None:
      control_gradient = strategies.default_control_gradient()
    self.control_gradient = control_gradient
    self._audio_gradient: Any = None
    if audio_gradient is not None:
      self.audio_gradient = audio_gradient

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

  def values_of_members(self, controls: tf.Tensor) -> dict:
    """Splits controls into those of each plugin in use, by its name."""
    names = [plugin.name for plugin in self._in_use]
    return dict(zip(names, self.split_controls(controls)))

  @staticmethod
  def _map_of(plugins):
    return core.concatenate_maps({p.name: p.control_map for p in plugins})

  @property
  def estimated_map(self) -> core.ControlMap:
    """The controls of the plugins in use."""
    return self._map_of(self._in_use)

  @property
  def n_renders(self) -> int:
    """Items that the plugins in use have rendered so far."""
    return sum(plugin.n_renders for plugin in self._in_use)

  @property
  def run_seed(self) -> int:
    """Seed of the run; the plugins get it too."""
    return self._run_seed

  @run_seed.setter
  def run_seed(self, seed: int):
    self._run_seed = seed
    for plugin in self.plugins:
      plugin.run_seed = seed

  def set_sample_rate(self, sample_rate: int):
    """Goes on at another rate of the audio; controls keep their meaning."""
    for plugin in self.plugins:
      plugin.set_sample_rate(sample_rate)

  def split_controls(self, controls: tf.Tensor) -> list:
    """Splits [..., n_controls], array or tensor, into one for each plugin."""
    ends = np.cumsum([plugin.n_controls for plugin in self.plugins])
    starts = [0, *ends[:-1]]
    return [controls[..., start:end] for start, end in zip(starts, ends)]

  def get_controls(
    self,
    audio: tf.Tensor,
    controls: tf.Tensor | Sequence[tf.Tensor],
    *more: tf.Tensor,
  ) -> dict[str, tf.Tensor]:
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
    parts: list[slice | None] = [None] * len(self.plugins)
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

  def n_channels_out(self, n_channels: int) -> int:
    """Returns the number of channels that come out.

    Args:
      n_channels: Number of channels that go in.

    Raises:
      ValueError: A plugin takes another number.
    """
    for plugin in self._in_use:
      n_channels = plugin.n_channels_out(n_channels)
    return n_channels

  def check_audio_gradient(self, n_in: int, n_out: int):
    """Raises ValueError where there is no gradient to the audio."""
    if self.audio_gradient is not None:
      super().check_audio_gradient(n_in, n_out)
      return
    for plugin in self._in_use:
      n_out = plugin.n_channels_out(n_in)
      plugin.check_audio_gradient(n_in, n_out)
      n_in = n_out

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
    self,
    audio: np.ndarray,
    controls: np.ndarray,
    hop_size: int | None = None,
    rows: np.ndarray | None = None,
  ) -> np.ndarray:
    """Renders NumPy audio; `get_signal` without gradients.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      hop_size: Samples per frame; n_samples / n_frames rounded up by default.
      rows: Which row of `audio` each item takes, [batch]; its own by default.

    Returns:
      Audio of shape [batch, n_samples, n_channels out].
    """
    for plugin, values in zip(self._in_use, self.split_controls(controls)):
      audio = plugin.render(audio, values, hop_size, rows)
      rows = None  # what has come out is there for each item
    return audio

  def measure_memory(
    self, n_samples: int, n_frames: int, n_channels: int = 1
  ) -> int:
    """Returns the longest memory of the plugins in use, in frames."""
    return max(
      plugin.measure_memory(n_samples, n_frames, n_channels)
      for plugin in self._in_use
    )

  def gradient_to_audio(
    self,
    audio: np.ndarray,
    controls: tf.Tensor,
    cotangent: np.ndarray,
    n_calls: int | None = None,
    first_key: int = 0,
  ) -> np.ndarray:
    """Estimates the gradient to the audio; see `BlackBoxProcessor`."""
    if self.audio_gradient is not None:
      return super().gradient_to_audio(
        audio, controls, cotangent, n_calls, first_key
      )
    # What comes out of the last plugin is not needed.
    signals = [audio]
    pairs = list(zip(self._in_use, self.split_controls(controls)))
    for plugin, values in pairs[:-1]:
      signals.append(plugin.render(signals[-1], values))
    for (plugin, values), signal in zip(reversed(pairs), reversed(signals)):
      cotangent = plugin.gradient_to_audio(
        signal, values, cotangent, first_key=first_key
      )
    return cotangent
