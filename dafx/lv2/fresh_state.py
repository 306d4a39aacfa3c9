"""How to bring a used plugin instance back to its start, and where it is noted.

A new instance always starts afresh, but some plugins take longer to make one
than to render with it (LSP's read a manifest each time: 1.3 ms). Those are
rewound: the memory that an instance holds is set back to what it held when it
was new (`_memory.c`), which is fast and does not depend on what it did since.
It fails where a plugin keeps state elsewhere: in memory of other libraries,
static data or threads. So `probing` tries it in a worker process; it must give
the very samples of a new instance after any use. What is found is kept on disk,
by plugin, version, sample rate and block size.
"""

import dataclasses
import json
import logging
import os
import pathlib
import tempfile
import threading

from dafx import _folders
from dafx.lv2 import errors, processes, world

_log = logging.getLogger('dafx.lv2')
_lock = threading.Lock()
_FORMAT = 4  # of the file and of what is probed


@dataclasses.dataclass(frozen=True)
class Method:
  """A way to the start state.

  Attributes:
    kind: 'instance' makes a new instance; 'rewind' sets back a used one.
    instance_ms: Measured cost of a new instance.
    rewind_ms: Measured cost of rewinding; 0 if that cannot be.
    repeatable: Whether two new instances give the same samples at all.
    error: Largest difference that is left between two renders from the start: 0
      unless it is not repeatable.
  """

  kind: str = 'instance'
  instance_ms: float = 0.0
  rewind_ms: float = 0.0
  repeatable: bool = True
  error: float = 0.0


INSTANCE = Method()

# What could not be written, by the same keys.
_not_kept: dict[str, dict] = {}


def cache_path() -> pathlib.Path | None:
  """Returns the file that methods are kept in; None without a home folder."""
  root = _folders.user_cache()
  return root / 'dafx' / 'fresh_state.json' if root else None


def _key(plugin: world.Plugin, sample_rate: float, block_size: int) -> str:
  return f'{_FORMAT} {plugin.uri} {plugin.version} {sample_rate:g} {block_size}'


def _read() -> dict:
  path = cache_path()
  try:
    kept = json.loads(path.read_text(encoding='utf-8')) if path else {}
  except (OSError, ValueError):  # none yet, or damaged: made anew
    kept = {}
  return {**kept, **_not_kept}


def _write(entries: dict) -> bool:
  """Writes the file, and says whether that could be."""
  path = cache_path()
  if path is None:
    return False
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
      'w', dir=path.parent, delete=False, encoding='utf-8'
    ) as file:
      json.dump(entries, file, indent=1)
    os.replace(file.name, path)
  except OSError:
    return False
  return True


def _note(key: str, method: Method):
  """Keeps a method: on disk if that can be, else as long as the process."""
  entry = {key: dataclasses.asdict(method)}
  with _lock:
    if not _write({**_read(), **entry}):
      _not_kept.update(entry)
      _folders.say_nothing_is_kept()


def find(plugin: world.Plugin, sample_rate: float, block_size: int) -> Method:
  """Returns the cheapest way to a plugin's start state, probed or known.

  The probe runs in a worker process; a plugin that fails there gets new
  instances.

  Args:
    plugin: The plugin.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.
  """
  key = _key(plugin, sample_rate, block_size)
  known = _read().get(key)
  if isinstance(known, dict) and known.keys() == vars(INSTANCE).keys():
    return Method(**known)
  _log.info('Looking for a cheap way to the start state of %s.', plugin.uri)
  arguments = dict(
    uri=plugin.uri, sample_rate=sample_rate, block_size=block_size
  )
  try:
    found = processes.call(
      'dafx.lv2.probing', 'fresh_state', arguments, time_limit_s=60.0
    )
    method = Method(**found)
  except errors.PluginError as error:
    _log.warning('Probing the fresh state failed: %s', error)
    method = INSTANCE
  _note(key, method)
  return method


def remember(
  plugin: world.Plugin, sample_rate: float, block_size: int, method: Method
):
  """Keeps the way to a plugin's start state that was found anew."""
  _note(_key(plugin, sample_rate, block_size), method)


def disprove(plugin: world.Plugin, sample_rate: float, block_size: int):
  """Notes that a rewind missed the start: new instances from now on."""
  _log.warning(
    '%s did not return to its start when it was rewound, as it had in the '
    'probe; it gets new instances from now on.',
    plugin.uri,
  )
  remember(plugin, sample_rate, block_size, INSTANCE)
