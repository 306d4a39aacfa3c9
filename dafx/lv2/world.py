"""What LV2 plugins are installed, and what each says of itself.

Plugins are read through lilv once per process, on first use; a plugin's ports
are addressed by symbol, because indices move between versions of a plugin.
"""

import dataclasses
import difflib
import functools
import math
import pathlib

import numpy as np
import numpy.typing as npt

from dafx.lv2 import lilv, packages

_LV2 = 'http://lv2plug.in/ns/lv2core#'
_ATOM = 'http://lv2plug.in/ns/ext/atom#'
_BUF_SIZE = 'http://lv2plug.in/ns/ext/buf-size#'
_PORT_PROPS = 'http://lv2plug.in/ns/ext/port-props#'
_STATE = 'http://lv2plug.in/ns/ext/state#'
_MINIMUM_SIZE = 'http://lv2plug.in/ns/ext/resize-port#minimumSize'
_UNITS = 'http://lv2plug.in/ns/extensions/units#'

FIXED_BLOCK_FEATURES = (
  _BUF_SIZE + 'fixedBlockLength',
  _BUF_SIZE + 'powerOf2BlockLength',
)
SUPPORTED_FEATURES = frozenset(
  (
    'http://lv2plug.in/ns/ext/urid#map',
    'http://lv2plug.in/ns/ext/urid#unmap',
    'http://lv2plug.in/ns/ext/options#options',
    'http://lv2plug.in/ns/ext/worker#schedule',
    'http://lv2plug.in/ns/ext/log#log',
    _STATE + 'mapPath',
    _STATE + 'freePath',
    _STATE + 'loadDefaultState',
    _BUF_SIZE + 'boundedBlockLength',
    _BUF_SIZE + 'coarseBlockLength',
    *FIXED_BLOCK_FEATURES,
    # Promises about the host's behaviour, which need no code.
    _LV2 + 'hardRTCapable',
    _LV2 + 'isLive',
  )
)

# Units of a port whose perception goes by ratios, not differences.
# 'G' is LSP's for a linear gain; makers that name no unit for gains do so too.
_RATIO_UNITS = frozenset(('', 'coef', 'G', 'Hz', 'kHz', 'MHz', 'ms', 's'))
# From which ratio of maximum to minimum on such a port is logarithmic.
_WIDE = 10.0


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
      numbers for integers and switches, as they are for all else.
    """
    if self.enumeration and self.scale_points:
      points = np.array([value for value, _ in self.scale_points], np.float32)
      distances = np.abs(np.asarray(values)[..., np.newaxis] - points)
      return points[np.argmin(distances, axis=-1)]
    values = np.asarray(values)
    return np.round(values) if self.is_discrete else values

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


@dataclasses.dataclass(frozen=True, eq=False)
class Plugin:
  """What an installed plugin says of itself.

  Attributes:
    uri: Its name in LV2.
    name: Its name for people.
    author: Who made it, or ''.
    plugin_class: Label of its LV2 class, such as 'Compressor'.
    version: 'minor.micro' of the plugin.
    bundle_path: Folder that it lies in.
    ports: All its ports, by index.
    required_features: URIs of what it needs from a host.
    loads_default_state: Whether it wants its default state restored.
    lilv_plugin: Where this was read, for `instances` and `presets`.

  Examples:
    >>> from dafx import lv2
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> plugin = lv2.get_plugin(uri)
    >>> isinstance(plugin, lv2.Plugin), plugin.name, len(plugin.audio_inputs)
    (True, 'Calf Compressor', 2)
  """

  uri: str
  name: str
  author: str
  plugin_class: str
  version: str
  bundle_path: pathlib.Path
  ports: tuple[Port, ...]
  required_features: tuple[str, ...]
  loads_default_state: bool
  lilv_plugin: lilv.Plugin = dataclasses.field(repr=False)

  @functools.cached_property
  def controls(self) -> dict[str, Port]:
    """Control inputs by symbol."""
    return {
      p.symbol: p for p in self.ports if p.kind == 'control' and p.is_input
    }

  @functools.cached_property
  def audio_inputs(self) -> tuple[Port, ...]:
    """Audio inputs in port order: the channels that go in."""
    return tuple(p for p in self.ports if p.kind == 'audio' and p.is_input)

  @functools.cached_property
  def audio_outputs(self) -> tuple[Port, ...]:
    """Audio outputs in port order: the channels that come out."""
    return tuple(p for p in self.ports if p.kind == 'audio' and not p.is_input)

  @functools.cached_property
  def latency_port(self) -> Port | None:
    """The control output that reports the latency in samples, or None."""
    for port in self.ports:
      if port.kind == 'control' and not port.is_input:
        if port.designation == _LV2 + 'latency':
          return port
    return None

  @property
  def needs_fixed_block(self) -> bool:
    """Whether each run must have just the block size in samples."""
    return any(f in self.required_features for f in FIXED_BLOCK_FEATURES)

  def at_rate(self, sample_rate: float) -> 'Plugin':
    """Returns the plugin with its ports' values at a sample rate, in Hz."""
    if not any(p.per_sample_rate for p in self.ports):
      return self
    ports = tuple(p.at_rate(sample_rate) for p in self.ports)
    return dataclasses.replace(self, ports=ports)

  def control(self, symbol: str) -> Port:
    """Returns the control input of a symbol.

    Args:
      symbol: The port's symbol.

    Raises:
      KeyError: No such control; the closest symbols are named.
    """
    if symbol in self.controls:
      return self.controls[symbol]
    near = difflib.get_close_matches(symbol, self.controls, n=5, cutoff=0.5)
    hint = (
      f'The closest are {", ".join(near)}.'
      if near
      else f'It has {", ".join(self.controls) or "none"}.'
    )
    raise KeyError(
      f'symbol={symbol!r} is no control input of {self.uri}. {hint}'
    )


def _complete_range(default, minimum, maximum):
  """Fills in what a port does not say of its range."""
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


def _read_port(port: lilv.Port, index: int) -> Port:
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


def _read_plugin(plugin: lilv.Plugin) -> Plugin:
  version = '.'.join(
    plugin.text(_LV2 + part) or '0' for part in ('minorVersion', 'microVersion')
  )
  return Plugin(
    uri=plugin.uri,
    name=plugin.name,
    author=plugin.author,
    plugin_class=plugin.class_label,
    version=version,
    bundle_path=plugin.bundle_path,
    ports=tuple(_read_port(port, i) for i, port in enumerate(plugin.ports())),
    required_features=tuple(sorted(plugin.required_features)),
    loads_default_state=plugin.has_feature(_STATE + 'loadDefaultState'),
    lilv_plugin=plugin,
  )


_plugins: dict[str, Plugin] = {}  # by URI; use under `lilv.lock`


def list_uris() -> list[str]:
  """Returns the URIs of all installed plugins, sorted.

  Installed is what lies in the folders of the variable LV2_PATH, or in the
  standard ones (such as /usr/lib/lv2) where it is not set, at the first use.

  Examples:
    >>> from dafx import lv2
    >>> 'http://calf.sourceforge.net/plugins/Compressor' in lv2.list_uris()
    True
  """
  with lilv.lock:
    return sorted(lilv.open_world().plugin_uris())


def get_plugin(uri: str) -> Plugin:
  """Returns what the plugin of a URI says of itself.

  Args:
    uri: The plugin's URI, such as
      'http://calf.sourceforge.net/plugins/Compressor'.

  Raises:
    ValueError: None of that URI is installed; the closest
      ones are named.

  Examples:
    >>> from dafx import lv2
    >>> plugin = lv2.get_plugin(
    ...   'http://calf.sourceforge.net/plugins/Compressor'
    ... )
    >>> plugin.control('attack').unit
    'ms'
  """
  with lilv.lock:
    if uri not in _plugins:
      found = None
      if uri and not any(c in uri for c in ' <>"\n') and ':' in uri:
        found = lilv.open_world().plugin(uri)
      if found is None:
        raise ValueError(_not_found_message(uri))
      _plugins[uri] = _read_plugin(found)
    return _plugins[uri]


def _not_found_message(uri: str) -> str:
  uris = list_uris()
  package = packages.package_of(uri)
  makers = {packages.package_of(known) for known in uris}
  if package is not None and package not in makers:
    return (
      f'uri={uri!r}: no such LV2 plugin is installed. Debian and Ubuntu have '
      f'it in {package}: sudo apt-get install {package}. If it lies elsewhere, '
      'set LV2_PATH to the folder that holds it.'
    )
  if not uris:
    return (
      f'uri={uri!r}: no LV2 plugin is installed. Install some (Debian: '
      'apt-get install calf-plugins lsp-plugins-lv2) or set LV2_PATH to the '
      'folder that holds them.'
    )

  def tail(text):
    return text.rstrip('/').rsplit('/', 1)[-1].rsplit('#', 1)[-1].lower()

  # Makers share long prefixes: what differs is the last part.
  by_tail: dict[str, list[str]] = {}
  for known in uris:
    by_tail.setdefault(tail(known), []).append(known)
  near = difflib.get_close_matches(uri, uris, n=3, cutoff=0.8)
  for match in difflib.get_close_matches(tail(uri), by_tail, n=3, cutoff=0.6):
    near.extend(u for u in by_tail[match] if u not in near)
  hint = (
    f'The closest are {", ".join(near[:3])}.'
    if near
    else f'{len(uris)} others are: dafx.lv2.list_uris() names them.'
  )
  return f'uri={uri!r}: no such LV2 plugin is installed. {hint}'
