"""How to bring a used plugin instance back to its start, and where it is noted.

A new instance always starts afresh, but some plugins take longer to make than
to render with (LSP's: 1 ms). For those, `probing` finds a cheaper way, which
must give the very samples of a new instance after any use that it tries. What
it finds is kept on disk, by plugin, version, sample rate, block size, controls
and fixed values: a filter that is off is reset by less than one that is on.
"""

import dataclasses
import json
import logging
import os
import pathlib
import tempfile
import threading

from dafx.lv2 import errors, processes, world

_log = logging.getLogger('dafx.lv2')
_lock = threading.Lock()
_FORMAT = 2  # of the file and of what is probed


@dataclasses.dataclass(frozen=True)
class Method:
  """A way to the start state.

  Attributes:
    kind: 'instance' makes a new instance; 'reset' goes on with the old one.
    activate: For 'reset', whether to deactivate and activate it.
    n_silence: For 'reset', samples of silence to run then.
    instance_ms: Measured cost of a new instance.
    reset_ms: Measured cost of the reset.
    repeatable: Whether two new instances give the same samples at all.
  """

  kind: str = 'instance'
  activate: bool = False
  n_silence: int = 0
  instance_ms: float = 0.0
  reset_ms: float = 0.0
  repeatable: bool = True


INSTANCE = Method()


def cache_path() -> pathlib.Path:
  """Returns the file that methods are kept in."""
  root = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return pathlib.Path(root).expanduser() / 'dafx' / 'fresh_state.json'


def _key(plugin: world.Plugin, settings: dict) -> str:
  text = json.dumps(settings, sort_keys=True, default=list)
  return f'{_FORMAT} {plugin.version} {text}'


def _read() -> dict:
  try:
    return json.loads(cache_path().read_text(encoding='utf-8'))
  except (OSError, ValueError):  # none yet, or damaged: made anew
    return {}


def _note(key: str, method: Method):
  """Keeps a method; a cache that cannot be written is done without."""
  path = cache_path()
  with _lock:
    entries = {**_read(), key: dataclasses.asdict(method)}
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
      with tempfile.NamedTemporaryFile(
        'w', dir=path.parent, delete=False, encoding='utf-8'
      ) as file:
        json.dump(entries, file, indent=1)
      os.replace(file.name, path)
    except OSError as error:
      _log.warning('%s cannot be written (%s).', path, error)


def find(plugin: world.Plugin, settings: dict) -> Method:
  """Returns the cheapest way to a plugin's start state, probed or known.

  The probe runs in a worker process; a plugin that fails there gets new
  instances.

  Args:
    plugin: The plugin.
    settings: 'uri', 'sample_rate', 'block_size', 'controls' and 'fixed', as
      `renderer.Renderer` takes them.
  """
  key = _key(plugin, settings)
  known = _read().get(key)
  if known is not None:
    return Method(**known)
  _log.info('Looking for a cheap way to the start state of %s.', plugin.uri)
  try:
    found = processes.call(
      'dafx.lv2.probing', 'fresh_state', settings, time_limit_s=60.0
    )
    method = Method(**found)
  except errors.PluginError as error:
    _log.warning('Probing the fresh state failed: %s', error)
    method = INSTANCE
  _note(key, method)
  return method


def disprove(plugin: world.Plugin, settings: dict):
  """Notes that a reset did not lead to the start: new instances from now on."""
  _log.warning(
    '%s did not return to its start by the way that was probed; it gets new '
    'instances from now on.',
    plugin.uri,
  )
  _note(_key(plugin, settings), INSTANCE)
