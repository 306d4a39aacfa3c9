"""What processors with controls in [0, 1] have in common, and `Gain`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ddsp
import gin
import numpy as np
import tensorflow as tf

from dafx import _arguments, core, processors


@processors.register_record
@dataclasses.dataclass(frozen=True)
class Control:
  """A control of a processor.

  Attributes:
    symbol: Name, with the unit.
    low: Value at 0.
    high: Value at 1.
    default: Value to start from.
    is_log: Whether equal steps are equal ratios.
    minimum: Least value that makes sense.
    maximum: Largest value that makes sense.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import effects
    >>> effects.Control('gain_db', -24.0, 24.0, default=0.0).high
    24.0
  """

  symbol: str
  low: float
  high: float
  default: float
  is_log: bool = False
  minimum: float = -np.inf
  maximum: float = np.inf


class Controlled(processors.Processor):
  """A processor that controls in [0, 1] set, frame by frame or once.

  Audio is [batch, n_samples], or [batch, n_samples, n_channels], whose channels
  are processed each by itself under the same controls; in `stream` they belong
  into the batch. Subclasses give `stream` and, where they keep a state,
  `initial_state`.

  Args:
    controls: All controls that there are.
    trainable: Symbols of the controls that come from outside, in this order;
      by default all that are not fixed.
    fixed: Values of the others by symbol, in their units; by default the
      controls' defaults.
    ranges: (low, high) by symbol, in units, where not the usual ones. A range
      of one value leaves a control without effect.
    name: Name of the layer, which is the node's in a DAG.

  Raises:
    ValueError: An unknown symbol, or a value or range that makes no sense.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import effects
    >>> isinstance(effects.Gain(), effects.Controlled)
    True
  """

  control_map: core.ControlMap
  receptive_field: int | None = None

  def __init__(
    self,
    controls: Sequence[Control],
    trainable: Sequence[str] | None,
    fixed: Mapping[str, float] | None,
    ranges: Mapping[str, Sequence[float]] | None,
    name: str,
  ):
    super().__init__(name=name, trainable=True)
    known = {c.symbol: c for c in controls}
    trainable, fixed, ranges = _read(known, trainable, fixed, ranges, name)
    chosen = [known[s] for s in trainable]
    pairs = [ranges.get(c.symbol, (c.low, c.high)) for c in chosen]
    low = np.array([low for low, _ in pairs], np.float32)
    high = np.array([high for _, high in pairs], np.float32)
    is_log = np.array([c.is_log for c in chosen], bool)
    defaults = np.array([c.default for c in chosen])
    # A control whose default is out of its range starts in the middle.
    inside = (defaults >= low) & (defaults <= high)
    one_value = low == high
    normalised = core.range_to_unit(
      defaults, low, np.where(one_value, high + 1, high), is_log
    )
    normalised = np.where(inside & ~one_value, normalised, 0.5)
    self.control_map = core.ControlMap(
      symbols=tuple(trainable),
      low=low,
      high=high,
      is_log=is_log,
      defaults=normalised.astype(np.float32),
      units=tuple(_unit_of(c.symbol) for c in chosen),
      fixed={
        s: float(fixed.get(s, c.default))
        for s, c in known.items()
        if s not in trainable
      },
    )

  @property
  def symbols(self) -> tuple[str, ...]:
    """Symbols of the controls that come from outside, in order."""
    return self.control_map.symbols

  @property
  def n_controls(self) -> int:
    """Number of controls that come from outside."""
    return self.control_map.n_controls

  def get_controls(
    self, audio: tf.Tensor, controls: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Maps controls to units.

    Args:
      audio: Shape [batch, n_samples].
      controls: In [0, 1], shape [batch, n_frames, n_controls], or [batch,
        n_controls] for one setting per item. What lies outside is clipped. None
        for a processor without controls.

    Returns:
      {'audio': as it came, 'controls': in units, [batch, n_frames,
      n_controls]}.

    Raises:
      ValueError: Shapes that do not fit.
    """
    return {'audio': audio, 'controls': self.to_units(controls)}

  def to_units(self, controls: tf.Tensor) -> tf.Tensor:
    """Maps [0, 1] to units; [batch(, n_frames), n_controls]."""
    if controls is None:
      controls = tf.zeros([1, 1, 0])
    controls = core.number_tensor('controls', controls)
    if controls.shape.rank == 2:
      controls = controls[:, tf.newaxis, :]
    if controls.shape.rank != 3 or controls.shape[-1] != self.n_controls:
      raise ValueError(
        f'controls has shape {controls.shape}; {self.name!r} takes [batch, '
        f'n_frames, {self.n_controls}] for {", ".join(self.symbols) or "none"}.'
      )
    return self.control_map.to_port_units(tf.clip_by_value(controls, 0.0, 1.0))

  def settings(self, controls: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns all controls by symbol, [batch or 1, n_frames or 1], in units."""
    fixed = self.control_map.fixed
    settings = {s: tf.fill([1, 1], v) for s, v in fixed.items()}
    settings.update(zip(self.symbols, tf.unstack(controls, axis=-1)))
    return settings

  def get_signal(self, audio: tf.Tensor, controls: tf.Tensor) -> tf.Tensor:
    """Processes audio from the initial state on.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: In units, shape [batch, n_frames, n_controls]. Frame t holds
        from sample t * hop on, hop being n_samples / n_frames rounded up.

    Returns:
      Audio of the same shape, latency taken out.

    Raises:
      ValueError: Audio of another shape.
    """
    return self._by_channel(self._process, controls, audio)

  def _process(self, controls, audio):
    """Processes [batch, n_samples] from the initial state on."""
    state = self.initial_state(core.batch_size(audio))
    return self.stream(state, audio, controls)[0]

  def _by_channel(self, process, controls, *signals):
    """Processes channels as items.

    Args:
      process: From (controls, *signals), each [batch, n_samples], to audio of
        that shape.
      controls: In units, shape [batch, n_frames, n_controls].
      *signals: Audio of one shape, [batch, n_samples] or [batch, n_samples,
        n_channels].

    Returns:
      Audio of that shape.

    Raises:
      ValueError: Another shape, or others than the first one's.
    """
    tensors = [core.audio_tensor('audio', signal) for signal in signals]
    shape = tensors[0].shape
    if shape.rank not in (2, 3) or not all(
      signal.shape.is_compatible_with(shape) for signal in tensors
    ):
      raise ValueError(
        f'audio has shape {", ".join(str(s.shape) for s in tensors)}; '
        f'{self.name!r} takes [batch, n_samples] or [batch, n_samples, '
        'n_channels].'
      )
    if shape.rank == 2:
      return process(controls, *tensors)
    n_channels = shape[2]
    if controls.shape[0] != 1:
      controls = tf.repeat(controls, n_channels, axis=0)
    items = [
      tf.reshape(tf.transpose(signal, [0, 2, 1]), [-1, shape[1]])
      for signal in tensors
    ]
    channels = tf.reshape(process(controls, *items), [-1, n_channels, shape[1]])
    return tf.transpose(channels, [0, 2, 1])

  def stream(
    self, state: Any, audio: tf.Tensor, controls: tf.Tensor
  ) -> tuple[Any, Any]:
    """Processes the next chunk; arguments as for `get_signal`.

    Returns:
      (audio, state).
    """
    raise NotImplementedError  # abstract


def _unit_of(symbol: str) -> str:
  """Returns the unit that ends a symbol, such as 'dB' of 'gain_db'."""
  ends = {'db': 'dB', 'hz': 'Hz', 'ms': 'ms'}
  return ends.get(symbol.rpartition('_')[2], '')


def _read(known, trainable, fixed, ranges, name):
  """Returns options of `Controlled`, checked, or raises ValueError."""
  example = next(iter(known), 'gain_db')
  fixed = _arguments.by_name('fixed', fixed, f"{{'{example}': 1.0}}")
  ranges = _arguments.by_name('ranges', ranges, f"{{'{example}': (0.0, 1.0)}}")
  if trainable is None:
    trainable = [s for s in known if s not in fixed]
  trainable = _arguments.names('trainable', trainable, example)
  for option, symbols in (
    ('trainable', trainable),
    ('fixed', fixed),
    ('ranges', ranges),
  ):
    for symbol in symbols:
      if symbol not in known:
        raise ValueError(
          f'{option} of {name!r} names {symbol!r}; there are '
          f'{", ".join(known)}.'
        )
  for symbol in ranges:
    if symbol not in trainable:
      raise ValueError(
        f'ranges of {name!r} names {symbol!r}, which is not trainable; '
        f'trainable are {", ".join(trainable) or "none"}.'
      )
  for symbol in fixed:
    if symbol in trainable:
      raise ValueError(f'{symbol!r} of {name!r} is trainable and fixed.')
    _check(known[symbol], fixed[symbol], name)
  for symbol, bounds in ranges.items():
    if not _arguments.are_numbers(bounds, 2) or bounds[0] > bounds[1]:
      raise ValueError(
        f'The range {bounds!r} of {symbol!r} must be (low, high), with '
        'low <= high.'
      )
    for bound in bounds:
      _check(known[symbol], bound, name)
  return trainable, fixed, ranges


def _check(control, value, name):
  """Raises ValueError for a value that makes no sense."""
  lowest = max(control.minimum, 1e-9 if control.is_log else -np.inf)
  if not _arguments.is_number(value):
    raise ValueError(
      f'{control.symbol}={value!r} of {name!r} must be a number, in its unit.'
    )
  if not lowest <= value <= control.maximum:
    raise ValueError(
      f'{control.symbol}={value:g} of {name!r} must be from {lowest:g} to '
      f'{control.maximum:g}.'
    )


def hold(frames, n_samples: int):
  """Holds each frame's value for its samples.

  Args:
    frames: Shape [batch, n_frames]. Frame t holds from sample t * hop on, hop
      being n_samples / n_frames rounded up.
    n_samples: Number of samples.

  Returns:
    Shape [batch, n_samples]; a single frame comes back as it is, [batch, 1].
  """
  n_frames = frames.shape[1]
  if n_frames == 1:
    return frames
  hop = core.frame_hop(n_samples, n_frames)
  return tf.repeat(frames, hop, axis=1)[:, :n_samples]


@gin.register(module='dafx.effects')
class Gain(Controlled):
  """Gain, offset and polarity: y = polarity * gain * x + offset.

  Controls: `gain_db` (-40 to 40 dB), `offset` (-2 to 2) and `polarity` (-1 to
  1), in which a polarity can be learned: it passes through 0. By default only
  the gain is trainable; the others have no effect.

  Args:
    trainable: Symbols of the controls that come from outside.
    fixed: Values of the others by symbol, such as {'polarity': -1}.
    ranges: (low, high) by symbol, where not those above.
    name: Name of the layer.

  Raises:
    ValueError: An unknown symbol, or a value or range that makes no sense.
  """

  receptive_field = 1

  def __init__(
    self,
    trainable: Sequence[str] | None = ('gain_db',),
    fixed: Mapping[str, float] | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
    name: str = 'gain',
  ):
    controls = (
      Control('gain_db', -40.0, 40.0, 0.0),
      Control('offset', -2.0, 2.0, 0.0),
      Control('polarity', -1.0, 1.0, 1.0, minimum=-1.0, maximum=1.0),
    )
    super().__init__(controls, trainable, fixed, ranges, name)

  def stream(
    self, state: Any, audio: tf.Tensor, controls: tf.Tensor
  ) -> tuple[Any, Any]:
    """Processes the next chunk; see `Controlled`."""
    settings = {
      s: hold(v, audio.shape[1]) for s, v in self.settings(controls).items()
    }
    gain = ddsp.core.db_to_amplitude(settings['gain_db'])
    gain = settings['polarity'] * gain
    return gain * audio + settings['offset'], state
