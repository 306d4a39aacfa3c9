"""What plugins keep beyond their ports, as instances begin with it.

Files and other parameters, and the state of a preset. A plugin takes them by
its state interface; what it does not take is an error.
"""

import hashlib
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dafx.lv2 import _host, lilv, parameters, world

_ffi = _host.ffi
_lib = _host.lib
_log = logging.getLogger('dafx.lv2')

_CONTROL = 'http://lv2plug.in/ns/lv2core#control'
_NO_PORT = 2**32 - 1
_MESSAGE_BYTES = 128  # that a message takes beside its value, at most


def describe_parameters(
  plugin: world.Plugin, values: Mapping[str, Any]
) -> dict[str, str]:
  """Says what a plugin was given, so that other files are noticed.

  Args:
    plugin: The plugin.
    values: Of its parameters by URI, as `Renderer.parameters` has them.

  Returns:
    Words by the short name of the parameter: of a file, what is in it, wherever
    it lies.

  Examples:
    >>> from dafx import lv2
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> lv2.describe_parameters(lv2.get_plugin(uri), {})
    {}
  """
  words = {}
  for uri, value in values.items():
    parameter = plugin.parameter(uri)
    words[parameter.short_name] = f'fixed at {value}'
    if parameter.is_file:
      content = pathlib.Path(value).read_bytes()
      digest = hashlib.sha256(content).hexdigest()[:16]
      words[parameter.short_name] = f'a file of SHA-256 {digest}'
  return words


class SilenceWatch:
  """Warns, once, of a plugin for files or presets that gives silence.

  None may be given, or one that it cannot read: a plugin says neither.

  Args:
    plugin: The plugin.
    given: What its parameters were set to, by URI.
    preset_uri: Of a preset whose state was restored; '' for none.
  """

  def __init__(
    self, plugin: world.Plugin, given: Mapping[str, Any], preset_uri: str
  ):
    self._plugin = plugin
    self._given = dict(given)
    is_given = bool(given or preset_uri)
    # One without controls has all it knows from what it is given.
    self._needs_preset = not (is_given or plugin.files or plugin.controls)
    self._is_done = not (is_given or plugin.files or self._needs_preset)

  def look(
    self, audio: np.ndarray, out: np.ndarray, rows: np.ndarray | None = None
  ):
    """Looks at what went in and what came out.

    Args:
      audio: Shape [n_audio, ...].
      out: Of any shape.
      rows: Which of `audio` went in, [batch]; None for all.
    """
    if self._is_done:
      return
    if not (audio if rows is None else audio[np.unique(rows)]).any():
      return
    self._is_done = True
    if out.any() or (self._needs_preset and not self._plugin.has_presets):
      return
    files = [p.uri for p in self._plugin.files]
    given = [uri for uri in files if uri in self._given]
    why = 'It may not be able to read what it was given.'
    if files and not given:
      why = (
        f'It takes files, of which none is given here: {", ".join(files)}. '
        'Give one by `fixed`, or by --file of dafx_plugins render.'
      )
    elif self._needs_preset:
      why = (
        'It has presets, which may hold what it needs; `dafx_plugins show` '
        'names them. Give one by `preset`, or by --preset of dafx_plugins '
        'render.'
      )
    elif given:
      why = 'It may not be able to read ' + ', '.join(
        f'{uri}={self._given[uri]!r}' for uri in given
      )
    _log.warning('%s gives silence. %s', self._plugin.uri, why)


class State:
  """A state to begin with; `instances.Instance` gives it to a plugin.

  Args:
    plugin: The plugin.
    values: Of its parameters by URI, as `parameters.resolve` returns them.
    preset_uri: Of a preset whose state is restored; '' for none. What `values`
      has besides wins.
    by_messages: Whether values are sent as messages where a plugin takes them
      so alone.

  Attributes:
    handle: What the C part of the host takes.
  """

  def __init__(
    self,
    plugin: world.Plugin,
    values: Mapping[str, Any],
    preset_uri: str = '',
    by_messages: bool = True,
  ):
    self._plugin = plugin
    self._values = dict(values)
    self._preset_uri = preset_uri
    with lilv.lock:
      self._preset = (
        lilv.open_world().state(preset_uri) if preset_uri else _ffi.NULL
      )
    bodies: list = []
    rows: list[dict] = []
    for uri, value in values.items():
      kind = plugin.parameter(uri).kind
      body = parameters.pack(kind, value)
      bodies.append(_ffi.from_buffer('char[]', bytearray(body)))
      rows.append(
        {
          'key': lilv.map_uri(uri),
          'type': lilv.map_uri(parameters.type_uri(kind)),
          'size': len(body),
          'value': bodies[-1],
        }
      )
    self._bodies = bodies
    self._rows = _ffi.new('DafxProperty[]', rows)
    self.handle = _ffi.new(
      'DafxState*',
      {
        'preset': self._preset,
        'n_properties': len(rows),
        'properties': self._rows,
        'path_type': lilv.map_uri(parameters.type_uri('path')),
        'message_port': (
          self._message_port(sum(map(len, bodies))) if by_messages else _NO_PORT
        ),
      },
    )

  def _message_port(self, n_bytes: int) -> int:
    """Returns the index of the port that takes so many bytes of values."""
    declared = {parameter.uri for parameter in self._plugin.parameters}
    n_bytes += _MESSAGE_BYTES * (1 + len(self._values))
    if declared.issuperset(self._values):
      for port in self._plugin.ports:
        if port.kind == 'atom' and port.is_input and port.n_bytes >= n_bytes:
          if port.designation == _CONTROL:
            return port.index
    return _NO_PORT

  def why_unused(self, instance) -> str:
    """Returns why an instance could not take it, or ''.

    Args:
      instance: Its handle.
    """
    problem = _lib.dafx_instance_state_problem(instance)
    if problem == _lib.DAFX_STATE_FINE:
      return ''
    uri = self._plugin.uri
    what = self._describe()
    if problem == _lib.DAFX_STATE_NO_INTERFACE:
      return (
        f'{uri} keeps no state (no state:interface), so it cannot take {what}.'
      )
    if problem == _lib.DAFX_STATE_NO_FILE:
      path = _ffi.string(_lib.dafx_instance_state_path(instance)).decode(
        'utf-8', 'replace'
      )
      return (
        f'{uri}: {what} names {path}, which is not there or cannot be read.'
      )
    if problem == _lib.DAFX_STATE_REFUSED:
      status = _lib.dafx_instance_state_status(instance)
      return (
        f'{uri} refuses {what} (its restore returned {status}). '
        'DAFX_LV2_LOG=1 in the environment shows what it says.'
      )
    asked: list[str] = []
    while number := _lib.dafx_instance_state_asked(instance, len(asked)):
      asked.append(lilv.unmap(number))
    return (
      f'{uri} does not take {what}; it asked for '
      f'{", ".join(asked) or "nothing"}.'
    )

  def _describe(self) -> str:
    parts = [f'{uri}={value!r}' for uri, value in self._values.items()]
    if self._preset_uri:
      parts.insert(0, f'the state of the preset {self._preset_uri}')
    return ', '.join(parts)
