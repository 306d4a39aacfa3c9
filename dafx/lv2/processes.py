"""Worker processes, in which a plugin can crash or hang and take nothing down.

A worker is a new Python process (no fork) that renders as `renderer` does.
Audio goes through shared memory, the rest through a socket. Workers are kept
and reused, unless they hold much memory; one that dies is replaced by the next
call, and what it died of is raised as `errors.PluginError`.
"""

import atexit
import contextlib
import json
import mmap
import multiprocessing.connection
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
import weakref

import numpy as np

from dafx.lv2 import errors

_INITIAL_BYTES = 1 << 22
_START_LIMIT_S = 60.0
# Plugins may keep memory for good. A worker that holds more than this is ended
# when it has answered.
_MOST_BYTES = 1 << 30
# Set in workers, which need no worker of their own.
is_worker = False


class SharedMemory:
  """Memory that two processes see, and that grows.

  Args:
    descriptor: File descriptor of the memory; None makes it.
  """

  def __init__(self, descriptor: int | None = None):
    if descriptor is None:
      descriptor = os.memfd_create('dafx')
      os.ftruncate(descriptor, _INITIAL_BYTES)
    self.descriptor = descriptor
    self._map = mmap.mmap(descriptor, os.fstat(descriptor).st_size)

  def arrays(self, *shapes):
    """Returns float32 arrays of these shapes, one behind the other."""
    sizes = [4 * int(np.prod(shape)) for shape in shapes]
    # Each begins at a multiple of 64 bytes, as memory of its own would.
    offsets = np.cumsum([0] + [-(-size // 64) * 64 for size in sizes])
    if offsets[-1] > len(self._map):
      n_bytes = os.fstat(self.descriptor).st_size
      if offsets[-1] > n_bytes:
        n_bytes = int(max(offsets[-1], 2 * n_bytes))
        os.ftruncate(self.descriptor, n_bytes)
      # The old map goes when the last array on it does.
      self._map = mmap.mmap(self.descriptor, n_bytes)
    return [
      np.ndarray(shape, np.float32, self._map, int(offset))
      for shape, offset in zip(shapes, offsets, strict=False)
    ]

  def close(self):
    """Gives the descriptor back."""
    os.close(self.descriptor)


class _Worker:
  """A process that renders, and the ways to it."""

  def __init__(self):
    self.memory = SharedMemory()
    ours, theirs = socket.socketpair()
    # The second pair only ends: a worker whose parent is gone sees it, even
    # while a plugin of it hangs.
    life, their_life = socket.socketpair()
    descriptors = (theirs.fileno(), their_life.fileno(), self.memory.descriptor)
    path = os.pathsep.join(p or os.getcwd() for p in sys.path)
    output = None if os.environ.get('DAFX_LV2_LOG') else subprocess.DEVNULL
    self.process = subprocess.Popen(
      [sys.executable, '-m', 'dafx.lv2.worker', *map(str, descriptors)],
      pass_fds=descriptors,
      env={**os.environ, 'PYTHONPATH': path},
      stdin=subprocess.DEVNULL,
      stdout=output,
      stderr=output,
    )
    theirs.close()
    their_life.close()
    self._life = life
    self.connection = multiprocessing.connection.Connection(ours.detach())
    # Its start does not count into any render's time.
    if not self.connection.poll(_START_LIMIT_S):
      self.stop()
      raise errors.PluginError(
        f'A worker process did not start within {_START_LIMIT_S:g} s.'
      )
    try:
      self.connection.recv()
    except EOFError as error:
      self.stop()
      raise errors.PluginError(
        'A worker process could not start; `python -m dafx.lv2.worker` says '
        'why.'
      ) from error

  def call(self, message, time_limit_s: float):
    """Sends a message and returns the answer.

    Raises:
      _WorkerDiedError: There is none; the text says what happened.
    """
    try:
      self.connection.send(message)
      if not self.connection.poll(time_limit_s):
        raise _WorkerDiedError(f'hung for more than {time_limit_s:g} s')
      return self.connection.recv()
    except (EOFError, ConnectionError) as error:
      raise _WorkerDiedError(self._describe_end()) from error

  def n_bytes(self) -> int:
    """Returns how much memory the process holds; 0 if it has ended."""
    try:
      with open(f'/proc/{self.process.pid}/statm', encoding='ascii') as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE
    except (OSError, IndexError):
      return 0

  def _describe_end(self) -> str:
    code = self.process.wait()
    if code < 0:
      return f'crashed ({signal.Signals(-code).name})'
    return f'ended its process by exit({code})'

  def stop(self):
    """Ends the process, whatever it does."""
    self.process.kill()
    self.process.wait()
    self.connection.close()
    self._life.close()
    self.memory.close()


class _WorkerDiedError(Exception):
  """A worker gave no answer."""


_lock = threading.Lock()
os.register_at_fork(
  before=_lock.acquire,
  after_in_parent=_lock.release,
  after_in_child=_lock.release,
)
_idle: list[_Worker] = []
_owner = os.getpid()


@contextlib.contextmanager
def _borrowed_worker():
  """Yields a worker that no one else uses; one that dies is not kept."""
  global _owner
  with _lock:
    if _owner != os.getpid():  # a fork must not share its parent's workers
      _idle.clear()
      _owner = os.getpid()
    worker = _idle.pop() if _idle else None
  worker = worker or _Worker()
  try:
    yield worker
  except BaseException:
    worker.stop()
    raise
  if worker.n_bytes() > _MOST_BYTES:
    worker.stop()
    return
  with _lock:
    _idle.append(worker)


@contextlib.contextmanager
def _own_worker():
  """Yields a new worker, and ends it."""
  worker = _Worker()
  try:
    yield worker
  finally:
    worker.stop()


@atexit.register
def stop_workers():
  """Ends all idle workers; new ones start when they are needed."""
  with _lock:
    workers = list(_idle) if _owner == os.getpid() else []
    _idle.clear()
  for worker in workers:
    worker.stop()


def n_idle_workers() -> int:
  """Returns how many workers wait for work."""
  return len(_idle)


def _settings_text(settings) -> str:
  return json.dumps(settings, sort_keys=True, default=list)


def _ask(worker, message, settings, what, time_limit_s):
  """Returns a worker's answer, or raises what it failed by."""
  try:
    kind, answer = worker.call(message, time_limit_s)
  except _WorkerDiedError as error:
    raise errors.CrashError(
      f'{settings["uri"]} {error} {what}. Its process is replaced; this one is '
      f'not harmed. Settings: {_settings_text(settings)}',
      settings['uri'],
    ) from error
  if kind == 'error':
    raise errors.PluginError(answer)
  return answer


def call(
  module: str,
  function: str,
  arguments: dict,
  time_limit_s: float,
  in_new_process: bool = False,
):
  """Calls a function of dafx.lv2 in a worker.

  Args:
    module: Full name of its module.
    function: Its name.
    arguments: By name; 'uri' is the plugin that it looks at. All can be written
      as JSON.
    time_limit_s: Seconds after which it counts as hung.
    in_new_process: Whether to run it in a worker that has run nothing before
      and ends then.

  Returns:
    What it returns.

  Raises:
    errors.PluginError: The plugin fails; a CrashError, if it crashes or hangs.
  """
  if is_worker:
    return pkgutil.resolve_name(f'{module}:{function}')(**arguments)
  workers = _own_worker if in_new_process else _returned_on_plugin_error
  with workers() as worker:
    message = ('call', arguments, module, function)
    return _ask(worker, message, arguments, f'in {function}', time_limit_s)


def open_renderer(settings: dict, time_limit_s: float) -> int:
  """Makes a renderer in a worker, as a trial.

  Args:
    settings: Arguments of `renderer.Renderer`; all can be written as JSON.
    time_limit_s: Seconds after which it counts as hung.

  Returns:
    The plugin's latency in samples.

  Raises:
    errors.PluginError: The plugin fails; a CrashError, if it crashes or hangs.
  """
  with _returned_on_plugin_error() as worker:
    what = 'when it was instantiated'
    return _ask(worker, ('open', settings), settings, what, time_limit_s)


def render(settings, audio, controls, hop_size, out, time_limit_s) -> int:
  """Renders one item in a worker.

  Args:
    settings: As for `open_renderer`.
    audio: Shape [n_channels, n_samples].
    controls: In port units, shape [n_frames, n_controls].
    hop_size: Samples per frame.
    out: Where to write, shape [n_channels_out, n_samples].
    time_limit_s: Seconds after which it counts as hung.

  Returns:
    Number of samples not finite, which are zero.

  Raises:
    errors.PluginError: The plugin fails; a CrashError, if it crashes or hangs.
  """
  with _returned_on_plugin_error() as worker:
    return _exchange(
      worker, ('render', settings, hop_size), audio, controls, out, time_limit_s
    )


def _exchange(worker, message, audio, controls, out, time_limit_s) -> int:
  """Has a worker render; the shapes of the arrays follow the message."""
  shapes = (audio.shape, controls.shape, out.shape)
  arrays = worker.memory.arrays(*shapes)
  arrays[0][:] = audio
  arrays[1][:] = controls
  settings = message[1]
  at = errors.describe_controls(settings['controls'], controls)
  what = f'while it rendered {audio.shape[1]} samples at {at}'
  n_nonfinite = _ask(worker, (*message, shapes), settings, what, time_limit_s)
  out[:] = arrays[2]
  return n_nonfinite


def _stop_own(worker, owner: int):
  """Ends a worker, unless this is a fork of the process that started it."""
  if os.getpid() == owner:
    worker.stop()


class Stream:
  """Renders one item, chunk after chunk, in a worker of its own.

  `renderer` uses it as it uses an `instances.Instance` that goes on.

  Args:
    settings: As for `open_renderer`; its latency is not taken out.
    time_limit_s: Seconds after which a chunk counts as hung.

  Attributes:
    is_used: Whether it has left its start state.
  """

  def __init__(self, settings: dict, time_limit_s: float):
    self._settings = settings
    self._time_limit_s = time_limit_s
    self._worker = _Worker()
    self._end = weakref.finalize(self, _stop_own, self._worker, os.getpid())
    self.is_used = False

  def run(self, audio, controls, hop_size, out, warm_up: int = 0) -> int:
    """Renders on; see `instances.Instance.run`.

    Raises:
      errors.PluginError: The plugin fails, crashes or hangs; or it has done so
        before.
    """
    if not self._end.alive:
      raise errors.PluginError(
        f'{self._settings["uri"]} has ended in the midst of its audio; begin '
        'anew by reset_state().'
      )
    self.is_used = True
    message = ('go_on', self._settings, hop_size, warm_up)
    try:
      return _exchange(
        self._worker, message, audio, controls, out, self._time_limit_s
      )
    except BaseException:  # what it holds is no longer known
      self.close()
      raise

  def close(self):
    """Ends the worker."""
    self._end()


@contextlib.contextmanager
def _returned_on_plugin_error():
  """As `_borrowed_worker`, but keeps a worker that only reported an error."""
  failure = None
  with _borrowed_worker() as worker:
    try:
      yield worker
    except errors.PluginError as error:
      if worker.process.poll() is not None or isinstance(
        error, errors.CrashError
      ):
        raise
      failure = error
  if failure is not None:
    raise failure
