"""What lilv says of installed plugins, as Python values.

The only module that calls lilv. It reads the folders of LV2_PATH once per
process, on first use. lilv is not thread-safe: hold `lock` around all use of a
`World` and of what it returns.
"""

import functools
import math
import os
import pathlib
import threading
from collections.abc import Iterator

from dafx.lv2 import _host

_ffi = _host.ffi
_lib = _host.lib

lock = threading.RLock()
# So that a fork does not find it held by a thread that it does not have.
os.register_at_fork(
  before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
)

# How each of lilv's collections is gone through: begin, is_end, get, next.
_NODES = (
  _lib.lilv_nodes_begin,
  _lib.lilv_nodes_is_end,
  _lib.lilv_nodes_get,
  _lib.lilv_nodes_next,
)
_PLUGINS = (
  _lib.lilv_plugins_begin,
  _lib.lilv_plugins_is_end,
  _lib.lilv_plugins_get,
  _lib.lilv_plugins_next,
)
_SCALE_POINTS = (
  _lib.lilv_scale_points_begin,
  _lib.lilv_scale_points_is_end,
  _lib.lilv_scale_points_get,
  _lib.lilv_scale_points_next,
)


def _iterate(collection, functions) -> Iterator:
  """Yields the elements of one of lilv's collections; none of NULL."""
  begin, is_end, get, next_of = functions
  if collection == _ffi.NULL:
    return
  position = begin(collection)
  while not is_end(collection, position):
    yield get(collection, position)
    position = next_of(collection, position)


def _text(node) -> str:
  if node == _ffi.NULL:
    return ''
  return _ffi.string(_lib.lilv_node_as_string(node)).decode('utf-8', 'replace')


def _take_text(node) -> str:
  """Returns the text of a node that is ours to free."""
  text = _text(node)
  _lib.lilv_node_free(node)
  return text


def _take_texts(nodes) -> list[str]:
  """Returns the texts of nodes that are ours to free."""
  texts = [_text(node) for node in _iterate(nodes, _NODES)]
  if nodes != _ffi.NULL:
    _lib.lilv_nodes_free(nodes)
  return texts


def _number(node) -> float:
  """Returns the number that a node holds; NaN if it holds none."""
  if node == _ffi.NULL or not (
    _lib.lilv_node_is_float(node) or _lib.lilv_node_is_int(node)
  ):
    return math.nan
  return _lib.lilv_node_as_float(node)


def file_path(uri: str) -> pathlib.Path:
  """Returns the path of a URI that begins with 'file:'."""
  path = _lib.lilv_file_uri_parse(uri.encode(), _ffi.NULL)
  text = _ffi.string(path).decode('utf-8', 'surrogateescape')
  _lib.lilv_free(path)
  return pathlib.Path(text)


def map_uri(uri: str) -> int:
  """Returns the number that stands for a URI in this process."""
  return _lib.dafx_map(uri.encode())


def unmap(number: int) -> str:
  """Returns the URI that a number of `map_uri` stands for."""
  return _ffi.string(_lib.dafx_unmap(number)).decode('utf-8', 'replace')


class Port:
  """A port of a plugin.

  Args:
    world: What the plugin is in.
    plugin: lilv's plugin.
    index: The port's place among those of the plugin.
  """

  def __init__(self, world: 'World', plugin, index: int):
    self._world = world
    self._plugin = plugin
    self._port = _lib.lilv_plugin_get_port_by_index(plugin, index)

  @property
  def symbol(self) -> str:
    """Its stable name."""
    return _text(_lib.lilv_port_get_symbol(self._plugin, self._port))

  @property
  def name(self) -> str:
    """Its name for people."""
    return _take_text(_lib.lilv_port_get_name(self._plugin, self._port))

  def is_a(self, uri: str) -> bool:
    """Returns whether it is of a class, such as lv2:AudioPort."""
    node = self._world.node(uri)
    return bool(_lib.lilv_port_is_a(self._plugin, self._port, node))

  def has_property(self, uri: str) -> bool:
    """Returns whether it has a port property, such as lv2:integer."""
    node = self._world.node(uri)
    return bool(_lib.lilv_port_has_property(self._plugin, self._port, node))

  def _get(self, predicate: str):
    node = self._world.node(predicate)
    return _lib.lilv_port_get(self._plugin, self._port, node)

  def text(self, predicate: str) -> str:
    """Returns the first object of a predicate as text, or ''."""
    return _take_text(self._get(predicate))

  def number(self, predicate: str) -> float:
    """Returns the first object of a predicate, NaN if it is no number."""
    node = self._get(predicate)
    value = _number(node)
    _lib.lilv_node_free(node)
    return value

  def text_of_object(self, predicate: str, next_predicate: str) -> str:
    """As `text` of `next_predicate`, of the first object of `predicate`."""
    node = self._get(predicate)
    if node == _ffi.NULL:
      return ''
    text = self._world.first_text(node, next_predicate)
    _lib.lilv_node_free(node)
    return text

  def value_range(self) -> tuple[float, float, float]:
    """Returns (default, minimum, maximum), NaN where it does not say."""
    nodes = [_ffi.new('LilvNode**') for _ in range(3)]
    _lib.lilv_port_get_range(self._plugin, self._port, *nodes)
    default, minimum, maximum = (_number(node[0]) for node in nodes)
    for node in nodes:
      _lib.lilv_node_free(node[0])
    return default, minimum, maximum

  def scale_points(self) -> list[tuple[float, str]]:
    """Returns (value, label) of its scale points, by value."""
    points = _lib.lilv_port_get_scale_points(self._plugin, self._port)
    found = sorted(
      (
        _number(_lib.lilv_scale_point_get_value(point)),
        _text(_lib.lilv_scale_point_get_label(point)),
      )
      for point in _iterate(points, _SCALE_POINTS)
    )
    if points != _ffi.NULL:
      _lib.lilv_scale_points_free(points)
    return found


class Plugin:
  """An installed plugin.

  Args:
    world: What it is in.
    handle: lilv's plugin, which the C part of the host takes too.

  Attributes:
    handle: As above.
  """

  def __init__(self, world: 'World', handle):
    self._world = world
    self.handle = handle

  @property
  def uri(self) -> str:
    """Its name in LV2."""
    return _text(_lib.lilv_plugin_get_uri(self.handle))

  @property
  def name(self) -> str:
    """Its name for people."""
    return _take_text(_lib.lilv_plugin_get_name(self.handle))

  @property
  def author(self) -> str:
    """Who made it, or ''."""
    return _take_text(_lib.lilv_plugin_get_author_name(self.handle))

  @property
  def class_label(self) -> str:
    """Label of its LV2 class."""
    its_class = _lib.lilv_plugin_get_class(self.handle)
    return _text(_lib.lilv_plugin_class_get_label(its_class))

  @property
  def bundle_path(self) -> pathlib.Path:
    """Folder that it lies in."""
    return file_path(_text(_lib.lilv_plugin_get_bundle_uri(self.handle)))

  @property
  def library_path(self) -> pathlib.Path | None:
    """Its library; None if its bundle names none."""
    node = _lib.lilv_plugin_get_library_uri(self.handle)
    return None if node == _ffi.NULL else file_path(_text(node))

  @property
  def required_features(self) -> list[str]:
    """URIs of what it needs from a host."""
    return _take_texts(_lib.lilv_plugin_get_required_features(self.handle))

  def has_feature(self, uri: str) -> bool:
    """Returns whether it needs a feature of the host, or can use it."""
    node = self._world.node(uri)
    return bool(_lib.lilv_plugin_has_feature(self.handle, node))

  def text(self, predicate: str) -> str:
    """Returns the first object of a predicate as text, or ''."""
    node = self._world.node(predicate)
    texts = _take_texts(_lib.lilv_plugin_get_value(self.handle, node))
    return texts[0] if texts else ''

  def texts(self, predicate: str) -> list[str]:
    """Returns all objects of a predicate as texts."""
    node = self._world.node(predicate)
    return _take_texts(_lib.lilv_plugin_get_value(self.handle, node))

  def related(self, class_uri: str) -> list[str]:
    """Returns the URIs of what belongs to it and is of a class, as presets."""
    nodes = _lib.lilv_plugin_get_related(
      self.handle, self._world.node(class_uri)
    )
    uris = [
      _text(n) for n in _iterate(nodes, _NODES) if _lib.lilv_node_is_uri(n)
    ]
    if nodes != _ffi.NULL:
      _lib.lilv_nodes_free(nodes)
    return uris

  def ports(self) -> list[Port]:
    """Returns its ports, by index."""
    n_ports = _lib.lilv_plugin_get_num_ports(self.handle)
    return [Port(self._world, self.handle, i) for i in range(n_ports)]

  def default_state(self):
    """Returns lilv's default state, which the C part of the host restores.

    It is freed with the object that is returned.
    """
    return self._world.state(self.uri)


class World:
  """All that is installed; `open_world` returns that of this process.

  Attributes:
    handle: lilv's world.
  """

  def __init__(self):
    self.handle = _lib.lilv_world_new()
    _lib.lilv_world_load_all(self.handle)
    self._plugins = _lib.lilv_world_get_all_plugins(self.handle)
    self._nodes = {}

  def node(self, uri: str):
    """Returns the node of a URI; the world keeps it."""
    if uri not in self._nodes:
      self._nodes[uri] = _lib.lilv_new_uri(self.handle, uri.encode())
    return self._nodes[uri]

  def plugin_uris(self) -> list[str]:
    """Returns the URIs of all plugins, in lilv's order."""
    return [
      _text(_lib.lilv_plugin_get_uri(plugin))
      for plugin in _iterate(self._plugins, _PLUGINS)
    ]

  def plugin(self, uri: str) -> Plugin | None:
    """Returns the plugin of a valid URI; None if it is not installed."""
    handle = _lib.lilv_plugins_get_by_uri(self._plugins, self.node(uri))
    return None if handle == _ffi.NULL else Plugin(self, handle)

  def _find(self, subject, predicate: str):
    """Returns the objects of a node's predicate, ours to free, or NULL."""
    return _lib.lilv_world_find_nodes(
      self.handle, subject, self.node(predicate), _ffi.NULL
    )

  def first_text(self, subject, predicate: str) -> str:
    """Returns the first object of a node's predicate as text, or ''."""
    texts = _take_texts(self._find(subject, predicate))
    return texts[0] if texts else ''

  def text(self, uri: str, predicate: str) -> str:
    """Returns the first object of a predicate of a URI as text, or ''."""
    return self.first_text(self.node(uri), predicate)

  def texts(self, uri: str, predicate: str) -> list[str]:
    """Returns all objects of a predicate of a URI as texts."""
    return _take_texts(self._find(self.node(uri), predicate))

  def records(
    self, uri: str, predicate: str, fields: tuple[str, ...]
  ) -> list[tuple[str, ...]]:
    """Returns what is said of each object of a predicate.

    Args:
      uri: The subject.
      predicate: Its predicate.
      fields: Predicates of the objects.

    Returns:
      Per object the texts of its fields, '' for what it lacks.
    """
    nodes = self._find(self.node(uri), predicate)
    found = [
      tuple(self.first_text(node, field) for field in fields)
      for node in _iterate(nodes, _NODES)
    ]
    if nodes != _ffi.NULL:
      _lib.lilv_nodes_free(nodes)
    return found

  def state(self, uri: str):
    """Returns the state that a plugin or a preset has, NULL for none.

    It is freed with the object that is returned.
    """
    state = _lib.lilv_state_new_from_world(
      self.handle, _lib.dafx_urid_map(), self.node(uri)
    )
    return state if state == _ffi.NULL else _ffi.gc(state, _lib.lilv_state_free)

  def load_resource(self, uri: str) -> int:
    """Reads the files that rdfs:seeAlso names; returns how many it read."""
    return _lib.lilv_world_load_resource(self.handle, self.node(uri))

  def unload_resource(self, uri: str):
    """Forgets what `load_resource` read."""
    _lib.lilv_world_unload_resource(self.handle, self.node(uri))


@functools.cache
def open_world() -> World:
  """Returns the world of this process, which is read at the first call."""
  return World()
