"""Parameters of plugins: what they keep that is no port, such as a file.

A plugin declares them by patch:writable. They are set as properties of its
state (https://lv2plug.in/ns/ext/state).
"""

import dataclasses
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from dafx import _folders
from dafx.lv2 import errors, lilv

_ATOM = 'http://lv2plug.in/ns/ext/atom#'
_LABEL = 'http://www.w3.org/2000/01/rdf-schema#label'
_RANGE = 'http://www.w3.org/2000/01/rdf-schema#range'
_WRITABLE = 'http://lv2plug.in/ns/ext/patch#writable'

# Kinds of values that can be set, and how numbers are packed.
_KINDS = {
  'Path': 'path',
  'String': 'string',
  'Bool': 'bool',
  'Int': 'int',
  'Long': 'long',
  'Float': 'float',
  'Double': 'double',
}
_TYPES = {kind: _ATOM + name for name, kind in _KINDS.items()}
# Those that a state may have, too.
_KINDS_OF_TYPES = {
  **{uri: kind for kind, uri in _TYPES.items()},
  _ATOM + 'URID': 'urid',
  _ATOM + 'Chunk': 'chunk',
}
_FORMATS = {'bool': 'i', 'int': 'i', 'long': 'q', 'float': 'f', 'double': 'd'}


# LSP's plugins (1.2) declare their parameters without the plugin's own URI, and
# ask for them with it.
_LSP_DECLARED = 'http://lsp-plug.in//ports#'


@dataclasses.dataclass(frozen=True)
class Parameter:
  """What a plugin keeps under a name of its own.

  Attributes:
    uri: The name.
    label: Its name for people, or ''.
    kind: 'path' (a file), 'string', 'bool', 'int', 'long', 'float' or 'double';
      '' for what dafx cannot set.

  Examples:
    >>> from dafx import lv2
    >>> lv2.Parameter('urn:example:ir', 'Impulse response', 'path').is_file
    True
  """

  uri: str
  label: str
  kind: str

  @property
  def is_file(self) -> bool:
    """Whether it is the path of a file."""
    return self.kind == 'path'

  @property
  def short_name(self) -> str:
    """What stands behind the last '#', '/' or ':' of its URI."""
    return self.uri.replace('#', '/').replace(':', '/').rsplit('/', 1)[-1]


@dataclasses.dataclass(frozen=True)
class Property:
  """A part of the state of a plugin.

  Attributes:
    uri: Its name.
    kind: As of `Parameter`, or 'urid' (the name of something), or 'chunk'
      (bytes); '' for what dafx cannot write.
    value: A path, text or URI as str; a number; or bytes.

  Examples:
    >>> from dafx import lv2
    >>> lv2.Property('urn:example:gain', 'float', 0.5).value
    0.5
  """

  uri: str
  kind: str
  value: Any

  @property
  def is_written(self) -> bool:
    """Whether a file can hold it, and there is something to hold."""
    return bool(self.kind) and self.value not in ('', b'')


def read(plugin: lilv.Plugin) -> tuple[Parameter, ...]:
  """Returns what a plugin declares, by URI; use under `lilv.lock`."""
  found = [_of_uri(uri) for uri in plugin.texts(_WRITABLE)]
  return tuple(
    dataclasses.replace(p, uri=_asked_for(p.uri, plugin.uri))
    for p in sorted(found, key=lambda p: p.uri)
  )


def _of_uri(uri: str) -> Parameter:
  opened = lilv.open_world()
  name = opened.text(uri, _RANGE).removeprefix(_ATOM)
  return Parameter(uri, opened.text(uri, _LABEL), _KINDS.get(name, ''))


def _asked_for(uri: str, plugin_uri: str) -> str:
  """Returns the URI that a plugin asks for, of the one that it declares."""
  if uri.startswith(_LSP_DECLARED):
    return f'{plugin_uri}/ports#{uri.removeprefix(_LSP_DECLARED)}'
  return uri


def is_uri(key: str) -> bool:
  """Returns whether a key names a parameter; symbols of ports have no ':'."""
  return ':' in key


def split(fixed: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the values of ports, by symbol, and those of parameters, by URI."""
  ports = {key: value for key, value in fixed.items() if not is_uri(key)}
  return ports, {key: fixed[key] for key in fixed if key not in ports}


def choose(parameters: Sequence[Parameter], name: str, uri: str) -> Parameter:
  """Returns the parameter of a plugin by its URI or `short_name`.

  Args:
    parameters: Those that the plugin declares.
    name: The URI, or what stands behind its last '#', '/' or ':'. A URI that
      others declare will do: some plugins take more than they say.
    uri: Of the plugin, for messages.

  Raises:
    KeyError: There is none, or more than one; those that there are are named.
  """
  name = _asked_for(name, uri)
  found = [p for p in parameters if name in (p.uri, p.short_name)]
  if not found and is_uri(name) and not any(c in name for c in ' <>"\n'):
    with lilv.lock:
      found = [p for p in [_of_uri(name)] if p.kind]
  if len(found) == 1:
    return found[0]
  hint = errors.hint_of_names(name, (p.uri for p in parameters))
  raise KeyError(f'{name!r} is no parameter of {uri}. {hint}')


def resolve(
  parameters: Sequence[Parameter], values: Mapping[str, Any], uri: str
) -> dict[str, str | int | float | bool]:
  """Returns values as they are to be set, which JSON can hold.

  Args:
    parameters: Those that the plugin declares.
    values: By URI.
    uri: Of the plugin, for messages.

  Returns:
    By URI; paths of files are absolute.

  Raises:
    KeyError: No such parameter.
    ValueError: A value of another type, or a file that is not there.
  """
  resolved = {}
  for name, value in values.items():
    parameter = choose(parameters, name, uri)
    resolved[parameter.uri] = _resolve_value(parameter, value)
  return resolved


def _resolve_value(parameter: Parameter, value):
  what = f'fixed[{parameter.uri!r}]={value!r}'
  if parameter.is_file:
    if not isinstance(value, (str, os.PathLike)):
      raise ValueError(f'{what} must be the path of a file.')
    path = _folders.expand_user(value).absolute()
    # Path.is_file raises for a name that is too long.
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
      raise ValueError(
        f'{what}: there is no file {path}, or it cannot be read. Give the path '
        'of one; relative paths are seen from the current folder.'
      )
    return str(path)
  if not parameter.kind:
    raise ValueError(
      f'{what} cannot be set: dafx sets {", ".join(_TYPES)}. A preset of the '
      'plugin can hold it.'
    )
  kinds = {
    'string': (str,),
    'bool': (bool,),
    'int': (int,),
    'long': (int,),
    'float': (int, float),
    'double': (int, float),
  }[parameter.kind]
  if not isinstance(value, kinds) or (
    isinstance(value, bool) and parameter.kind != 'bool'
  ):
    raise ValueError(f'{what} must be of the kind {parameter.kind}.')
  try:
    pack(parameter.kind, value)
  except (struct.error, OverflowError) as error:
    raise ValueError(f'{what} is no {parameter.kind}: {error}.') from error
  return value


def pack(kind: str, value) -> bytes:
  """Returns a value as an atom's body has it."""
  if kind in _FORMATS:
    return struct.pack(_FORMATS[kind], value)
  return os.fsencode(value) + b'\0'


def unpack(uri: str, type_uri: str, body: bytes) -> Property:
  """Returns what an atom holds, as a property of a name.

  Args:
    uri: The name.
    type_uri: URI of the atom's type.
    body: What is in it.
  """
  kind = _KINDS_OF_TYPES.get(type_uri, '')
  value: Any = body
  if kind in _FORMATS:
    (value,) = struct.unpack(_FORMATS[kind], body)
    value = bool(value) if kind == 'bool' else value
  elif kind in ('path', 'string'):
    value = os.fsdecode(body.rstrip(b'\0'))
  elif kind == 'urid':
    value = lilv.unmap(*struct.unpack('I', body))
  return Property(uri, kind, value)


def type_uri(kind: str) -> str:
  """Returns the URI of the atom's type for a kind."""
  return _TYPES[kind]
