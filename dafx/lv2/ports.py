"""Ports of plugins: what each takes, and how its values are told of."""

import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dafx.lv2 import lilv

_LV2 = 'http://lv2plug.in/ns/lv2core#'
_ATOM = 'http://lv2plug.in/ns/ext/atom#'
_PORT_GROUPS = 'http://lv2plug.in/ns/ext/port-groups#'
_PORT_PROPS = 'http://lv2plug.in/ns/ext/port-props#'
_MINIMUM_SIZE = 'http://lv2plug.in/ns/ext/resize-port#minimumSize'
_UNITS = 'http://lv2plug.in/ns/extensions/units#'

# Units of a port whose perception goes by ratios, not differences.
# 'G' is LSP's for a linear gain; makers that name no unit for gains do so too.
_RATIO_UNITS = frozenset(('', 'coef', 'G', 'Hz', 'kHz', 'MHz', 'ms', 's'))
# From which ratio of maximum to minimum on such a port is logarithmic.
_WIDE = 10.0
# What makers call inputs that they do not declare as side chains (Calf's).
_SIDE_CHAIN = re.compile(r'side[ _-]?chain', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Port:
  """One port of a plugin.

  Attributes:
    index: Place among the plugin's ports; moves between plugin versions.
    symbol: The stable name.
    name: The name for people.
    kind: 'control', 'audio', 'cv', 'atom' or 'other'.
    is_input: Whether the plugin reads from it.
    default: Value at the start, in port units (controls only).
    minimum: Lowest value, in port units.
    maximum: Highest value, in port units.
    unit: Symbol of the unit, such as 'Hz' or 'dB'; '' if it has none.
    logarithmic: Whether the plugin itself calls the port logarithmic.
    integer: Whether it takes whole numbers only.
    toggled: Whether it is a switch.
    enumeration: Whether it takes the values of its scale points only.
    scale_points: (value, label) pairs, by value.
    designation: URI of its meaning, or ''.
    optional: Whether it may stay unconnected.
    per_sample_rate: Whether minimum and maximum (and a default between them)
      to be multiplied by the sample rate; see `at_rate`.
    n_bytes: For atom ports, the buffer that it needs, in bytes.
    is_side_chain: Whether it is an audio input that is only listened to: so by
      lv2:isSideChain, its designation, its group or its name.

  Examples:
    >>> from dafx import lv2
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> port = lv2.get_plugin(uri).control('ratio')
    >>> (
    ...   isinstance(port, lv2.Port),
    ...   port.default,
    ...   port.describe_range(),
    ...   port.scale,
    ... )
    (True, 2.0, '1 to 20 coef', 'log')
  """

  index: int
  symbol: str
  name: str
  kind: str
  is_input: bool
  default: float = 0.0
  minimum: float = 0.0
  maximum: float = 1.0
  unit: str = ''
  logarithmic: bool = False
  integer: bool = False
  toggled: bool = False
  enumeration: bool = False
  scale_points: tuple[tuple[float, str], ...] = ()
  designation: str = ''
  optional: bool = False
  per_sample_rate: bool = False
  n_bytes: int = 0
  is_side_chain: bool = False

  @property
  def is_discrete(self) -> bool:
    """Whether the port takes single values, not a range of them."""
    return self.integer or self.toggled or self.enumeration

  @property
  def slack(self) -> float:
    """How far beyond the range a value may be that was rounded to float32."""
    return 1e-5 * max(abs(self.minimum), abs(self.maximum))

  @property
  def scale(self) -> str:
    """'log' where equal ratios sound like equal steps, 'linear' elsewhere.

    A port that calls itself logarithmic is; so is a gain, a frequency, a time
    or a port without a unit whose range is positive and at least 1 to 10.
    """
    if self.is_discrete or self.minimum <= 0.0:
      return 'linear'
    wide = self.maximum / self.minimum >= _WIDE
    if self.logarithmic or (wide and self.unit in _RATIO_UNITS):
      return 'log'
    return 'linear'

  def nearest(self, values: npt.ArrayLike) -> np.ndarray:
    """Returns the closest values that the port takes.

    Args:
      values: In port units, any shape.

    Returns:
      Values of the same shape: those of scale points for an enumeration, whole
      numbers for integers and switches, as they are for all else; none of them
      out of the range.
    """
    values = np.asarray(values)
    taken = self.single_values
    ends = (self.minimum, self.maximum)
    if isinstance(taken, range) and taken:
      values, ends = np.round(values), (float(taken[0]), float(taken[-1]))
    elif taken:
      points = np.array(taken, np.float32)
      distances = np.abs(values[..., np.newaxis] - points)
      return points[np.argmin(distances, axis=-1)]
    return values if self.per_sample_rate else np.clip(values, *ends)

  @property
  def single_values(self) -> Sequence[float]:
    """What a port takes that takes single values: all in its range, in order.

    Those of the scale points of an enumeration, otherwise whole numbers, as a
    range object. None of a port that takes all between its ends.
    """
    if not self.is_discrete:
      return ()
    points = [
      value
      for value, _ in self.scale_points
      if self.minimum - self.slack <= value <= self.maximum + self.slack
    ]
    if self.enumeration and points:
      return points
    return range(math.ceil(self.minimum), math.floor(self.maximum) + 1)

  def at_rate(self, sample_rate: float) -> 'Port':
    """Returns the port with the values that it has at a sample rate, in Hz."""
    if not self.per_sample_rate:
      return self
    low, high = self.minimum * sample_rate, self.maximum * sample_rate
    default = self.default
    if self.minimum <= default <= self.maximum:
      default *= sample_rate
    return dataclasses.replace(
      self,
      minimum=low,
      maximum=high,
      default=min(max(default, low), high),
      per_sample_rate=False,
    )

  def describe_range(self) -> str:
    """Returns the range for messages, such as '10 to 20000 Hz'."""
    unit = f' {self.unit}' if self.unit else ''
    if self.per_sample_rate:
      unit = ' times the sample rate'
    return f'{self.minimum:g} to {self.maximum:g}{unit}'


def _complete_range(default, minimum, maximum):
  """Fills in what a port does not say of its range, which has two ends."""
  default, minimum, maximum = (
    value if math.isfinite(value) else math.nan
    for value in (default, minimum, maximum)
  )
  if math.isnan(minimum):
    minimum = 0.0 if math.isnan(default) else min(0.0, default)
  if math.isnan(maximum):
    maximum = max(1.0, minimum if math.isnan(default) else default)
  if maximum < minimum:
    minimum, maximum = maximum, minimum
  if math.isnan(default):
    default = minimum
  return default, minimum, maximum


def _read_unit(port: lilv.Port) -> str:
  """Returns the symbol of a port's unit, such as 'Hz', or ''."""
  uri = port.text(_UNITS + 'unit')
  if uri.startswith(_UNITS):
    # 'coef' and the like have an empty or unprintable symbol.
    name = uri[len(_UNITS) :]
    return {'hz': 'Hz', 'khz': 'kHz', 'mhz': 'MHz', 'db': 'dB', 'pc': '%'}.get(
      name, name
    )
  return port.text_of_object(_UNITS + 'unit', _UNITS + 'symbol')


_KINDS = {
  'control': _LV2 + 'ControlPort',
  'audio': _LV2 + 'AudioPort',
  'cv': _LV2 + 'CVPort',
  'atom': _ATOM + 'AtomPort',
}


def _is_side_chain(port: lilv.Port, found: Port) -> bool:
  group = _PORT_GROUPS + 'group'
  return found.is_input and bool(
    port.has_property(_LV2 + 'isSideChain')
    or found.designation == _PORT_GROUPS + 'sideChain'
    or port.text_of_object(group, _PORT_GROUPS + 'sideChainOf')
    or _SIDE_CHAIN.search(f'{found.symbol} {found.name}')
  )


def read(port: lilv.Port, index: int) -> Port:
  """Returns what a plugin says of one of its ports.

  Args:
    port: The port.
    index: Its place among the plugin's ports.
  """
  reports_latency = port.has_property(_LV2 + 'reportsLatency')
  designation = port.text(_LV2 + 'designation')
  found = Port(
    index=index,
    symbol=port.symbol,
    name=port.name,
    kind=next((k for k, uri in _KINDS.items() if port.is_a(uri)), 'other'),
    is_input=port.is_a(_LV2 + 'InputPort'),
    optional=port.has_property(_LV2 + 'connectionOptional'),
    designation=_LV2 + 'latency' if reports_latency else designation,
  )
  if found.kind == 'atom':
    n_bytes = port.number(_MINIMUM_SIZE)
    return dataclasses.replace(
      found, n_bytes=8192 if math.isnan(n_bytes) else int(n_bytes)
    )
  if found.kind == 'audio':
    return dataclasses.replace(found, is_side_chain=_is_side_chain(port, found))
  if found.kind not in ('control', 'cv'):
    return found

  per_sample_rate = port.has_property(_LV2 + 'sampleRate')
  default, minimum, maximum = _complete_range(*port.value_range())
  if not per_sample_rate:
    default = min(max(default, minimum), maximum)
  return dataclasses.replace(
    found,
    default=default,
    minimum=minimum,
    maximum=maximum,
    unit=_read_unit(port),
    logarithmic=port.has_property(_PORT_PROPS + 'logarithmic'),
    integer=port.has_property(_LV2 + 'integer'),
    toggled=port.has_property(_LV2 + 'toggled'),
    enumeration=port.has_property(_LV2 + 'enumeration'),
    scale_points=tuple(port.scale_points()),
    per_sample_rate=per_sample_rate,
  )
