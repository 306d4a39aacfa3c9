"""What LV2 plugins are installed, and what each says of itself.

Plugins are read through lilv once per process, on first use; a plugin's ports
are addressed by symbol, because indices move between versions of a plugin.
"""

import ctypes
import dataclasses
import difflib
import functools
import math
import os
import pathlib
import threading

import numpy as np

from dafx.lv2 import _host

_ffi = _host.ffi
_lib = _host.lib

# The C library's vector maths, which some plugins call without saying that they
# need it, such as Invada's tube as Debian 13 has it. Programs that are linked
# with it can load them.
try:
  ctypes.CDLL('libmvec.so.1', mode=ctypes.RTLD_GLOBAL)
except OSError:  # another C library, or another processor
  pass

_LV2 = 'http://lv2plug.in/ns/lv2core#'
_ATOM = 'http://lv2plug.in/ns/ext/atom#'
_BUF_SIZE = 'http://lv2plug.in/ns/ext/buf-size#'
_PORT_PROPS = 'http://lv2plug.in/ns/ext/port-props#'
_STATE = 'http://lv2plug.in/ns/ext/state#'
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

  def nearest(self, values: np.ndarray) -> np.ndarray:
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
    return np.round(values) if self.is_discrete else np.asarray(values)

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
    handle: The lilv plugin, for `renderer`.
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
  handle: object = dataclasses.field(repr=False)

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


class _World:
  """lilv's view of the installed plugins. Use under `_lock`."""

  def __init__(self):
    self.handle = _lib.lilv_world_new()
    _lib.lilv_world_load_all(self.handle)
    self.plugins = _lib.lilv_world_get_all_plugins(self.handle)
    self._nodes = {}

  def node(self, uri: str):
    """Returns the node of a URI; the world keeps it."""
    if uri not in self._nodes:
      self._nodes[uri] = _lib.lilv_new_uri(self.handle, uri.encode())
    return self._nodes[uri]

  def find(self, subject, predicate: str):
    """Returns the first object of a subject's predicate as text, or ''."""
    nodes = _lib.lilv_world_find_nodes(
      self.handle, subject, self.node(predicate), _ffi.NULL
    )
    found = [_text(n) for n in _iterate(nodes, 'nodes')] if nodes else []
    if nodes:
      _lib.lilv_nodes_free(nodes)
    return found[0] if found else ''


_lock = threading.RLock()  # lilv is not thread-safe
_world = None
_plugins = {}


def _open_world() -> _World:
  global _world
  if _world is None:
    _world = _World()
  return _world


def _iterate(collection, kind: str):
  """Yields the elements of one of lilv's collections."""
  position = getattr(_lib, f'lilv_{kind}_begin')(collection)
  while not getattr(_lib, f'lilv_{kind}_is_end')(collection, position):
    yield getattr(_lib, f'lilv_{kind}_get')(collection, position)
    position = getattr(_lib, f'lilv_{kind}_next')(collection, position)


def _text(node) -> str:
  if node == _ffi.NULL:
    return ''
  return _ffi.string(_lib.lilv_node_as_string(node)).decode('utf-8', 'replace')


def _take_text(node) -> str:
  """Returns the text of a node that is ours to free."""
  text = _text(node)
  _lib.lilv_node_free(node)
  return text


def _number(node) -> float:
  if node == _ffi.NULL or not (
    _lib.lilv_node_is_float(node) or _lib.lilv_node_is_int(node)
  ):
    return math.nan
  return _lib.lilv_node_as_float(node)


def _first_value(plugin, world: _World, predicate: str) -> str:
  nodes = _lib.lilv_plugin_get_value(plugin, world.node(predicate))
  values = [_text(n) for n in _iterate(nodes, 'nodes')] if nodes else []
  if nodes:
    _lib.lilv_nodes_free(nodes)
  return values[0] if values else ''


def _read_range(plugin, port) -> tuple[float, float, float]:
  """Returns (default, minimum, maximum), NaN where a port does not say."""
  nodes = [_ffi.new('LilvNode**') for _ in range(3)]
  _lib.lilv_port_get_range(plugin, port, *nodes)
  values = tuple(_number(node[0]) for node in nodes)
  for node in nodes:
    _lib.lilv_node_free(node[0])
  return values


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


def _read_unit(world: _World, plugin, port) -> str:
  """Returns the symbol of a port's unit, such as 'Hz', or ''."""
  node = _lib.lilv_port_get(plugin, port, world.node(_UNITS + 'unit'))
  if node == _ffi.NULL:
    return ''
  uri = _text(node)
  symbol = world.find(node, _UNITS + 'symbol')
  _lib.lilv_node_free(node)
  if uri.startswith(_UNITS):
    # 'coef' and the like have an empty or unprintable symbol.
    name = uri[len(_UNITS) :]
    return {'hz': 'Hz', 'khz': 'kHz', 'mhz': 'MHz', 'db': 'dB', 'pc': '%'}.get(
      name, name
    )
  return symbol


def _read_port(world: _World, plugin, index: int) -> Port:
  port = _lib.lilv_plugin_get_port_by_index(plugin, index)

  def is_a(uri):
    return _lib.lilv_port_is_a(plugin, port, world.node(uri))

  def has(uri):
    return _lib.lilv_port_has_property(plugin, port, world.node(uri))

  kinds = {
    'control': _LV2 + 'ControlPort',
    'audio': _LV2 + 'AudioPort',
    'cv': _LV2 + 'CVPort',
    'atom': _ATOM + 'AtomPort',
  }
  common = dict(
    index=index,
    symbol=_text(_lib.lilv_port_get_symbol(plugin, port)),
    name=_take_text(_lib.lilv_port_get_name(plugin, port)),
    kind=next((k for k, uri in kinds.items() if is_a(uri)), 'other'),
    is_input=bool(is_a(_LV2 + 'InputPort')),
    optional=bool(has(_LV2 + 'connectionOptional')),
    designation=_take_text(
      _lib.lilv_port_get(plugin, port, world.node(_LV2 + 'designation'))
    ),
  )
  if has(_LV2 + 'reportsLatency'):
    common['designation'] = _LV2 + 'latency'
  if common['kind'] == 'atom':
    size = _lib.lilv_port_get(
      plugin,
      port,
      world.node('http://lv2plug.in/ns/ext/resize-port#minimumSize'),
    )
    n_bytes = _number(size)
    _lib.lilv_node_free(size)
    return Port(**common, n_bytes=8192 if math.isnan(n_bytes) else int(n_bytes))
  if common['kind'] not in ('control', 'cv'):
    return Port(**common)

  per_sample_rate = bool(has(_LV2 + 'sampleRate'))
  default, minimum, maximum = _complete_range(*_read_range(plugin, port))
  if not per_sample_rate:
    default = min(max(default, minimum), maximum)
  points = _lib.lilv_port_get_scale_points(plugin, port)
  scale_points = []
  if points != _ffi.NULL:
    scale_points = sorted(
      (
        _number(_lib.lilv_scale_point_get_value(p)),
        _text(_lib.lilv_scale_point_get_label(p)),
      )
      for p in _iterate(points, 'scale_points')
    )
    _lib.lilv_scale_points_free(points)
  return Port(
    **common,
    default=default,
    minimum=minimum,
    maximum=maximum,
    unit=_read_unit(world, plugin, port),
    logarithmic=bool(has(_PORT_PROPS + 'logarithmic')),
    integer=bool(has(_LV2 + 'integer')),
    toggled=bool(has(_LV2 + 'toggled')),
    enumeration=bool(has(_LV2 + 'enumeration')),
    scale_points=tuple(scale_points),
    per_sample_rate=per_sample_rate,
  )


def _file_path(node) -> pathlib.Path:
  path = _lib.lilv_file_uri_parse(_lib.lilv_node_as_string(node), _ffi.NULL)
  text = _ffi.string(path).decode('utf-8', 'surrogateescape')
  _lib.lilv_free(path)
  return pathlib.Path(text)


def _read_plugin(world: _World, plugin) -> Plugin:
  uri = _text(_lib.lilv_plugin_get_uri(plugin))
  features = _lib.lilv_plugin_get_required_features(plugin)
  required = tuple(sorted(_text(n) for n in _iterate(features, 'nodes')))
  _lib.lilv_nodes_free(features)
  version = '.'.join(
    _first_value(plugin, world, _LV2 + part) or '0'
    for part in ('minorVersion', 'microVersion')
  )
  return Plugin(
    uri=uri,
    name=_take_text(_lib.lilv_plugin_get_name(plugin)),
    author=_take_text(_lib.lilv_plugin_get_author_name(plugin)),
    plugin_class=_text(
      _lib.lilv_plugin_class_get_label(_lib.lilv_plugin_get_class(plugin))
    ),
    version=version,
    bundle_path=_file_path(_lib.lilv_plugin_get_bundle_uri(plugin)),
    ports=tuple(
      _read_port(world, plugin, i)
      for i in range(_lib.lilv_plugin_get_num_ports(plugin))
    ),
    required_features=required,
    loads_default_state=bool(
      _lib.lilv_plugin_has_feature(
        plugin, world.node(_STATE + 'loadDefaultState')
      )
    ),
    handle=plugin,
  )


def list_uris() -> list[str]:
  """Returns the URIs of all installed plugins, sorted.

  Installed is what lies in the folders of the variable LV2_PATH, or in the
  standard ones (such as /usr/lib/lv2) where it is not set, at the first use.
  """
  with _lock:
    world = _open_world()
    return sorted(
      _text(_lib.lilv_plugin_get_uri(p))
      for p in _iterate(world.plugins, 'plugins')
    )


def get_plugin(uri: str) -> Plugin:
  """Returns what the plugin of a URI says of itself.

  Args:
    uri: The plugin's URI, such as
      'http://calf.sourceforge.net/plugins/Compressor'.

  Raises:
    ValueError: None of that URI is installed; the closest
      ones are named.
  """
  with _lock:
    if uri not in _plugins:
      world = _open_world()
      handle = _ffi.NULL
      if uri and not any(c in uri for c in ' <>"\n') and ':' in uri:
        handle = _lib.lilv_plugins_get_by_uri(world.plugins, world.node(uri))
      if handle == _ffi.NULL:
        raise ValueError(_not_found_message(uri))
      _plugins[uri] = _read_plugin(world, handle)
    return _plugins[uri]


def _not_found_message(uri: str) -> str:
  uris = list_uris()
  if not uris:
    return (
      f'uri={uri!r}: no LV2 plugin is installed. Install some (Debian: '
      'apt-get install calf-plugins lsp-plugins-lv2) or set LV2_PATH to the '
      'folder that holds them.'
    )

  def tail(text):
    return text.rstrip('/').rsplit('/', 1)[-1].rsplit('#', 1)[-1].lower()

  # Makers share long prefixes: what differs is the last part.
  by_tail = {}
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


def library_path(plugin: Plugin) -> pathlib.Path | None:
  """Returns a plugin's library, or None if its bundle names none."""
  with _lock:
    node = _lib.lilv_plugin_get_library_uri(plugin.handle)
    return None if node == _ffi.NULL else _file_path(node)


def why_not_loaded(plugin: Plugin) -> str:
  """Returns why a plugin's library cannot be loaded, or '' if it can."""
  path = library_path(plugin)
  if path is None:
    return f'{plugin.bundle_path} names no library for it'
  try:
    ctypes.CDLL(os.fspath(path))
  except OSError as error:  # names the file, and what it lacks
    return str(error)
  return ''


def load_default_state(plugin: Plugin):
  """Returns lilv's default state of a plugin, or NULL if it wants none."""
  if not plugin.loads_default_state:
    return _ffi.NULL
  with _lock:
    world = _open_world()
    return _lib.lilv_state_new_from_world(
      world.handle, _lib.dafx_urid_map(), world.node(plugin.uri)
    )


def instantiation_lock() -> threading.RLock:
  """Returns the lock to hold while lilv instantiates a plugin."""
  return _lock
