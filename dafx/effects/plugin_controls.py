"""How the controls of a plugin are mapped, from its ports and given ranges."""

import logging
from collections.abc import Callable, Container, Mapping, Sequence

import numpy as np

from dafx import _arguments, core, lv2

_log = logging.getLogger('dafx.effects')

# Controls in Hz are moved up to this part of the sample rate.
_HIGHEST_FREQUENCY = 0.49


def map_controls(
  renderer: lv2.Renderer,
  symbols: Sequence[str],
  ranges: Mapping[str, Sequence],
  name: str,
) -> core.ControlMap:
  """Returns the map of controls that come from a network.

  Args:
    renderer: Renders the plugin, at the rate and with what is fixed.
    symbols: Of the controls, in order.
    ranges: As of `LV2Plugin`.
    name: Of the node, for messages.

  Raises:
    ValueError: A range that the plugin does not take, or of another control.
  """
  plugin = renderer.plugin
  for symbol in ranges:
    plugin.control(symbol)
    if symbol not in symbols:
      raise ValueError(
        f'ranges names {symbol!r}, which is not trainable; trainable are '
        f'{", ".join(symbols) or "none"}.'
      )
  ports = [plugin.control(symbol) for symbol in symbols]
  rows = [_range_of(renderer, p, ranges.get(p.symbol), name) for p in ports]
  low = np.array([low for low, _, _ in rows], np.float32)
  high = np.array([high for _, high, _ in rows], np.float32)
  is_log = np.array([is_log for _, _, is_log in rows], bool)
  starts = np.array(
    [
      _start_of(port, row, ranges.get(port.symbol), default_of(renderer, port))
      for port, row in zip(ports, rows)
    ]
  )
  return core.ControlMap(
    symbols=tuple(symbols),
    low=low,
    high=high,
    is_log=is_log,
    defaults=core.range_to_unit(starts, low, high, is_log),
    units=tuple(port.unit for port in ports),
    fixed=renderer.fixed,
    labels=tuple(port.name for port in ports),
  )


def safe_symbols(
  plugin: lv2.Plugin,
  fixed: Container[str],
  find_moves: Callable[[Sequence[str]], Container[str]],
) -> list[str]:
  """Returns which controls are trained by default.

  Args:
    plugin: The plugin.
    fixed: Symbols of controls that are set.
    find_moves: Says which of some controls move the latency, by symbol.
  """
  symbols = [
    p.symbol
    for p in plugin.controls.values()
    if not p.is_discrete and p.symbol not in fixed
    if not lv2.reason_not_to_train(p)
  ]
  moves = find_moves(symbols)
  return [symbol for symbol in symbols if symbol not in moves]


def check_latency(uri: str, moves: Mapping[str, tuple[int, int]]):
  """Raises ValueError for a control that moves the latency.

  Args:
    uri: Of the plugin.
    moves: Lowest and highest latency in samples, by the symbol of what moves
      it.
  """
  for symbol, (low, high) in moves.items():
    raise ValueError(
      f'{symbol!r} of {uri} moves its latency, from {low} to {high} samples. '
      'It is taken out as it is at the defaults, so the sound would move in '
      f'time: {symbol!r} cannot be trained. Set it in `fixed`.'
    )


def default_of(renderer: lv2.Renderer, port: lv2.Port) -> float:
  """Returns the value of a port that nobody sets: the preset's, if any."""
  return float(renderer.initial_values[port.index])


def _start_of(port, row, given, default):
  """Returns where a network starts with a port whose range is known."""
  if given is None or len(given) < 4:
    return default
  (low, high, _), start = row, given[3]
  if not low <= start <= high:
    raise ValueError(
      f'ranges starts {port.symbol!r} at {start:g}, which must lie in its '
      f'range, from {low:g} to {high:g}.'
    )
  return start


def _range_of(renderer, port, given, name):
  """Returns (low, high, is logarithmic) of a port; `given` may be None."""
  if port.is_discrete:
    raise ValueError(
      f'{port.symbol!r} of {renderer.plugin.uri} takes single values only '
      f'({port.describe_range()}): it has no gradient. Set it in `fixed`.'
    )
  given = _read_range(port.symbol, given)
  ends = zip((given or (None, None)), (port.minimum, port.maximum))
  bounds = [end if own is None else own for own, end in ends]
  low, high, scale = core.parse_range(port.symbol, (*bounds, *given[2:3]))
  for bound in (low, high):
    lv2.check_value(renderer.plugin, port.symbol, bound)
  low, high = _below_nyquist(port, (low, high), renderer.sample_rate, name)
  if not scale:
    # A narrower range may start above 0 where the port's does not.
    gain_from_zero = port.logarithmic and not port.is_discrete
    scale = 'log' if gain_from_zero and low > 0 else port.scale
  if scale == 'log' and low <= 0:
    raise ValueError(
      f'The scale of {port.symbol!r} is logarithmic, which takes a range '
      f'above 0, not one from {low:g}. Give it in `ranges`, as in '
      f"{{{port.symbol!r}: ({low:g}, {high:g}, 'linear')}}."
    )
  return low, high, scale == 'log'


def _read_range(symbol, given):
  """Returns what `ranges` has for a control, () for nothing, or ValueError."""
  if given is None:
    return ()
  if (
    isinstance(given, (list, tuple))
    or isinstance(given, np.ndarray)
    and given.ndim
  ) and 2 <= len(given) <= 4:
    ends, scale, start = given[:2], [*given[2:3]], given[3:4]
    are_ends = all(end is None or _arguments.is_number(end) for end in ends)
    is_scale = all(isinstance(name, str) for name in scale)
    if are_ends and is_scale and all(map(_arguments.is_number, start)):
      return tuple(given)
  raise ValueError(
    f'ranges has {given!r} for {symbol!r}; it must be (low, high), or (low, '
    "high, 'log') or (low, high, 'linear'), or one of these with a start "
    "behind: numbers in port units, or None for the plugin's own end."
  )


def _below_nyquist(port, bounds, sample_rate, name):
  """Cuts the range of a frequency where filters blow up (Calf's, to 1e38)."""
  low, high = bounds
  limit = _HIGHEST_FREQUENCY * sample_rate
  # One that is higher as a whole is no filter's.
  if port.unit != 'Hz' or high <= limit or low >= limit:
    return bounds
  _log.info(
    '%s of %s moves from %g to %g Hz, not to %g: the rate is %g Hz.',
    port.symbol, name, low, limit, high, sample_rate,
  )  # fmt: skip
  return low, limit
