"""What the controls of a node mean: [0, 1] to port units and back."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from dafx import _arguments
from dafx.core import units


@dataclasses.dataclass(frozen=True, eq=False)
class ControlMap:
  """Maps what a network gives, in [0, 1], to port units and back.

  Port units are what a plugin's port or an effect's control takes, such as
  decibels. Subclasses may take more values than there are symbols.

  Attributes:
    symbols: Names of the controls that come from outside, in their order.
    low: Values at 0, in port units, shape [n_symbols], float32.
    high: Values at 1, in port units, shape [n_symbols], float32.
    is_log: Which move by equal ratios, shape [n_symbols].
    defaults: Where a network starts, in [0, 1], shape [n_controls],
      float32.
    units: Units of the controls, such as 'dB'; '' for none.
    fixed: Values of the other controls that are set, in port units, by symbol.
    labels: What a person calls the controls; their symbols by default.

  Examples:
    >>> from dafx import core
    >>> gain = core.ControlMap(
    ...   symbols=('gain',),
    ...   low=np.array([-12.0]),
    ...   high=np.array([12.0]),
    ...   is_log=np.array([False]),
    ...   defaults=np.array([0.5]),
    ...   units=('dB',),
    ... )
    >>> gain.to_port_units(np.array([0.75])).tolist()
    [6.0]
    >>> gain.describe()
    {'gain': 'from -12 to 12'}
  """

  symbols: tuple[str, ...]
  low: np.ndarray
  high: np.ndarray
  is_log: np.ndarray
  defaults: np.ndarray
  units: tuple[str, ...]
  fixed: Mapping[str, float] = dataclasses.field(default_factory=dict)
  labels: tuple[str, ...] = ()

  def __post_init__(self):
    """Makes arrays of sequences; ValueError for what is none."""
    for name, kind in (
      ('low', np.float32),
      ('high', np.float32),
      ('is_log', bool),
      ('defaults', np.float32),
    ):
      values = _arguments.number_array(name, vars(self)[name]).astype(kind)
      object.__setattr__(self, name, values)
    symbols = _arguments.names('symbols', self.symbols)
    object.__setattr__(self, 'symbols', symbols)
    example = "{'gain': 0.5}"
    fixed = _arguments.by_name('fixed', self.fixed, example)
    object.__setattr__(self, 'fixed', fixed)
    for name in ('low', 'high', 'is_log'):
      if vars(self)[name].shape != (len(symbols),):
        raise ValueError(
          f'{name} has shape {vars(self)[name].shape}; it must be '
          f'[{len(symbols)}], a value for each of the symbols.'
        )
    if not self.labels:
      object.__setattr__(self, 'labels', self.symbols)

  @property
  def n_controls(self) -> int:
    """Number of values that come from outside, in [0, 1]."""
    return len(self.symbols)

  def to_port_units(
    self, normalised: np.ndarray | tf.Tensor
  ) -> np.ndarray | tf.Tensor:
    """Maps [0, 1] to port units.

    Args:
      normalised: Array or tensor, shape [..., n_controls].

    Returns:
      Values of the same shape and kind.
    """
    return units.unit_to_range(normalised, self.low, self.high, self.is_log)

  def to_normalised(self, values: np.ndarray) -> np.ndarray:
    """Maps port units to [0, 1], clipped; [..., n_controls], float64."""
    return units.range_to_unit(values, self.low, self.high, self.is_log)

  def slope(self, values: np.ndarray) -> np.ndarray:
    """Returns the derivative of `to_port_units` where it gives `values`."""
    return units.unit_to_range_slope(values, self.low, self.high, self.is_log)

  def describe(self) -> dict[str, str]:
    """Says in words what each control means, by symbol.

    A checkpoint is refused where this differs: its weights would set something
    else.
    """
    rows = zip(self.symbols, self.low, self.high, self.is_log)
    meanings = {
      symbol: f'from {low:.6g} to {high:.6g}'
      + (', logarithmic' if is_log else '')
      for symbol, low, high, is_log in rows
    }
    # The order of fixed values has no meaning, and gin changes it.
    for symbol, value in sorted(self.fixed.items()):
      meanings.setdefault(symbol, f'fixed at {value:.6g}')
    return meanings


@dataclasses.dataclass(frozen=True, eq=False)
class ChoiceMap(ControlMap):
  """A `ControlMap` with controls that take single values only.

  A network gives a value for each control with a range, then a score for each
  combination of the values that the other controls may take.

  Attributes:
    choices: Values that may be chosen, in port units, by symbol. These symbols
      are the last ones of `symbols`, in this order.
    combinations: All combinations of these values, in port units, shape
      [n_combinations, n_choices], float32.

  Examples:
    >>> from dafx import core
    >>> mode = core.ChoiceMap(
    ...   symbols=('mode',),
    ...   low=np.array([0.0]),
    ...   high=np.array([2.0]),
    ...   is_log=np.array([False]),
    ...   defaults=np.full(3, 0.5),
    ...   units=('',),
    ...   choices={'mode': (0.0, 1.0, 2.0)},
    ...   combinations=np.array([[0.0], [1.0], [2.0]]),
    ... )
    >>> mode.n_controls
    3
    >>> mode.describe()
    {'mode': 'one of 0, 1, 2'}
  """

  choices: Mapping[str, tuple[float, ...]] = dataclasses.field(
    default_factory=dict
  )
  combinations: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros([1, 0], np.float32)
  )

  @property
  def n_ranged(self) -> int:
    """Number of controls with a range."""
    return len(self.symbols) - len(self.choices)

  @property
  def n_controls(self) -> int:
    """Number of controls with a range and of scores."""
    return self.n_ranged + len(self.combinations)

  def describe(self) -> dict[str, str]:
    """Says in words what each control means, by symbol."""
    meanings = super().describe()
    for symbol, values in self.choices.items():
      meanings[symbol] = 'one of ' + ', '.join(f'{v:.6g}' for v in values)
    return meanings


def parse_range(symbol: str, bounds: Sequence) -> tuple[float, float, str]:
  """Reads a range as users write it.

  Args:
    symbol: Name of the control.
    bounds: (low, high), or (low, high, scale) with the scale 'log' or 'linear'.

  Returns:
    (low, high, scale), the scale being '' where none is given.

  Raises:
    ValueError: Anything else, or a range from 0 or below for 'log'.

  Examples:
    >>> from dafx import core
    >>> core.parse_range('freq0', (20.0, 2000.0, 'log'))
    (20.0, 2000.0, 'log')
  """
  is_range = isinstance(bounds, (list, tuple, np.ndarray))
  is_range = is_range and np.ndim(bounds[:2]) == 1 and len(bounds) in (2, 3)
  low, high, scale = (*bounds, '')[:3] if is_range else (0.0, 0.0, '')
  is_range = _arguments.are_numbers((low, high), 2) and low < high
  if not is_range or scale not in ('', 'log', 'linear'):
    raise ValueError(
      f'The range {bounds!r} of {symbol!r} must be (low, high), low < '
      "high, or (low, high, 'log') or (low, high, 'linear')."
    )
  if scale == 'log' and low <= 0:
    raise ValueError(
      f"The range {bounds!r} of {symbol!r} must be above 0 for 'log'."
    )
  return low, high, scale


def make_control_map(
  ranges: Mapping[str, Sequence],
  defaults: Mapping[str, float] | None = None,
  units: Mapping[str, str] | None = None,
) -> ControlMap:
  """Makes a control map of ranges by symbol.

  >>> from dafx import core
  >>> ranges = {'threshold_db': (-60, 0), 'ratio': (1, 16, 'log')}
  >>> controls = core.make_control_map(ranges, defaults={'ratio': 4})
  >>> controls.to_port_units(controls.defaults)
  array([-30.,   4.], dtype=float32)

  Args:
    ranges: (low, high) in port units, or with 'log' behind where equal steps
      are equal ratios, by symbol.
    defaults: Where a network starts, in port units, by symbol; the middle of
      the range by default.
    units: Units by symbol, such as 'dB'.

  Returns:
    A map of these controls, in the order of `ranges`.

  Raises:
    ValueError: A range that is none, or a default that is not in it.
    KeyError: A default or unit of a control that is not in `ranges`.
  """
  ranges = _arguments.by_name('ranges', ranges, "{'gain_db': (-12, 12)}")
  defaults = _arguments.by_name('defaults', defaults, "{'gain_db': 0.0}")
  units = _arguments.by_name('units', units, "{'gain_db': 'dB'}")
  for symbol in [*defaults, *units]:
    if symbol not in ranges:
      raise KeyError(f'{symbol!r} has no range; there are {", ".join(ranges)}.')
  rows = {s: parse_range(s, bounds) for s, bounds in ranges.items()}
  for symbol, value in defaults.items():
    low, high, _ = rows[symbol]
    if not _arguments.is_number(value) or not low <= value <= high:
      raise ValueError(
        f'The default {symbol}={value!r} must be from {low:g} to {high:g}.'
      )
  control_map = ControlMap(
    symbols=tuple(rows),
    low=np.array([low for low, _, _ in rows.values()]),
    high=np.array([high for _, high, _ in rows.values()]),
    is_log=np.array([scale == 'log' for _, _, scale in rows.values()]),
    defaults=np.full(len(rows), 0.5),
    units=tuple(units.get(symbol, '') for symbol in rows),
  )
  values = control_map.to_port_units(control_map.defaults)
  values = [defaults.get(s, v) for s, v in zip(rows, values)]
  return dataclasses.replace(
    control_map, defaults=control_map.to_normalised(np.array(values))
  )


def concatenate_maps(maps: Mapping[str, ControlMap]) -> ControlMap:
  """Returns the controls of several nodes as those of one.

  Args:
    maps: Control maps by the name of the node, in order.

  Returns:
    A map whose symbols are 'name/symbol'.

  Examples:
    >>> from dafx import core, effects
    >>> maps = {name: effects.Gain().control_map for name in ('in', 'out')}
    >>> core.concatenate_maps(maps).symbols
    ('in/gain_db', 'out/gain_db')
  """
  parts = list(maps.values())

  return ControlMap(
    symbols=tuple(f'{n}/{s}' for n, part in maps.items() for s in part.symbols),
    low=np.concatenate([part.low for part in parts]),
    high=np.concatenate([part.high for part in parts]),
    is_log=np.concatenate([part.is_log for part in parts]),
    defaults=np.concatenate([part.defaults for part in parts]),
    units=tuple(unit for part in parts for unit in part.units),
    fixed={
      f'{n}/{s}': v for n, part in maps.items() for s, v in part.fixed.items()
    },
    labels=tuple(label for part in parts for label in part.labels),
  )
