"""Items of a batch on threads, and what becomes of them at an interrupt."""

import atexit
import collections
import contextlib
import functools
import itertools
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sized
from typing import Any

from dafx.lv2 import errors


class _Here(threading.local):
  """What holds in a thread."""

  gives_way = False


_here = _Here()


@contextlib.contextmanager
def giving_way() -> Iterator[None]:
  """Has batches that this thread renders within wait behind all others.

  It is for what is not needed yet: as soon as another batch comes, threads go
  to that with their next item.

  Examples:
    >>> import numpy as np
    >>> from dafx import lv2
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> renderer = lv2.Renderer(uri, 44100)
    >>> with lv2.giving_way():
    ...   renderer.render(np.zeros([4, 1024, 2], np.float32)).shape
    (4, 1024, 2)
  """
  before = _here.gives_way
  _here.gives_way = True
  try:
    yield
  finally:
    _here.gives_way = before


class _Batch:
  """Items that threads take one after the other, as long as there are some.

  Threads meet in nothing but counters, which the interpreter's lock guards: a
  future for each item would take longer than many a render.

  Args:
    render_item: Called with the index of an item.
    n_items: Number of items, 1 or more.
    gives_way: Whether others are to be rendered first.

  Attributes:
    results: What was returned, by item.
    gives_way: As given.
  """

  def __init__(
    self, render_item: Callable[[int], Any], n_items: int, gives_way: bool
  ):
    self.gives_way = gives_way
    self.results: list = [None] * n_items
    self._render_item = render_item
    self._numbers = iter(range(n_items))
    self._ended = itertools.count(1)
    self._is_done = threading.Lock()
    self._is_done.acquire()

  def run(self, others: Sized = ()) -> bool:
    """Takes items until none is left, or there are others to give way to.

    Returns:
      Whether none is left.
    """
    for i in self._numbers:
      self.results[i] = self._render_item(i)
      if next(self._ended) == len(self.results):
        self._is_done.release()
      if others:
        return False
    return True

  def wait(self):
    """Returns when all items have ended."""
    self._is_done.acquire()
    self._is_done.release()


class _Pool:
  """Threads to render on, which batches share in the order in which they come.

  Those that give way come behind all others.

  Args:
    n_threads: How many.
  """

  def __init__(self, n_threads: int):
    # A ticket for each entry of the two; none is without its entry.
    self._tickets: queue.SimpleQueue[bool] = queue.SimpleQueue()
    self.first: collections.deque[_Batch] = collections.deque()
    self._behind: collections.deque[_Batch] = collections.deque()
    self._lock = threading.Lock()  # taken by the threads alone
    self._process_id = os.getpid()
    self._threads = [
      threading.Thread(target=self._work, name='dafx_render', daemon=True)
      for _ in range(n_threads)
    ]
    for thread in self._threads:
      thread.start()
    # A plugin that runs while the process is taken down would crash it.
    atexit.register(self._end)

  def _work(self):
    while self._tickets.get():
      with self._lock:
        batch = (self.first or self._behind).popleft()
      if not batch.run(self.first if batch.gives_way else ()):
        self._add(batch)
      del batch  # which would be kept until the next one
    with contextlib.suppress(IndexError):
      while True:  # at exit: what has given way
        self._behind.pop().run()

  def _add(self, batch):
    (self._behind if batch.gives_way else self.first).append(batch)
    self._tickets.put(True)

  def _end(self):
    if os.getpid() == self._process_id:  # a fork has none of the threads
      for _ in self._threads:
        self._tickets.put(False)
      for thread in self._threads:
        thread.join()

  def begin(self, batch: _Batch):
    """Has as many threads as there are items, or all, run a batch."""
    for _ in range(min(len(batch.results), len(self._threads))):
      self._add(batch)


@functools.cache
def _pool(n_threads: int, process_id: int) -> _Pool:
  """Returns the threads to render on; a forked process makes its own."""
  del process_id
  return _Pool(n_threads)


class Stop:
  """The first error of a batch, raised when a `with` block ends.

  What Ctrl-C raises waits as well: it would leave plugins running, and could
  come while a lock of the threads is held.

  Args:
    holds_interrupts: Whether Ctrl-C waits.
  """

  def __init__(self, holds_interrupts: bool):
    self.error: BaseException | None = None
    self._handler: Callable[..., Any] | None = None
    if threading.current_thread() is threading.main_thread():
      handler = signal.getsignal(signal.SIGINT)
      if holds_interrupts and callable(handler):
        self._handler = handler

  def _handle(self, number, frame):
    assert self._handler is not None
    try:
      self._handler(number, frame)
    except BaseException as error:  # noqa: BLE001  KeyboardInterrupt, say
      self.note(error)

  def note(self, error: BaseException):
    """Keeps the first error."""
    self.error = self.error or error

  def __enter__(self) -> 'Stop':
    """Holds interrupts from here on."""
    if self._handler:
      signal.signal(signal.SIGINT, self._handle)
    return self

  def __exit__(self, *_):
    """Raises the first error."""
    if self._handler:
      signal.signal(signal.SIGINT, self._handler)
    if self.error:
      raise self.error


def render_all(
  render_item: Callable[[int], Any], n_items: int, n_threads: int, stop: Stop
) -> list:
  """Calls a function for each item, on threads.

  After an error no item begins, and it ends when those that have begun do: a
  plugin, and what it writes to, are in use until then.

  Args:
    render_item: Called with the index of an item.
    n_items: Number of items.
    n_threads: As many run side by side.
    stop: What keeps the first error, and raises it.

  Returns:
    What it returned, by item.
  """

  def attempt(i):
    if stop.error is None:
      try:
        return render_item(i)
      except errors.CrashError as error:
        error.item = i
        stop.note(error)
      except BaseException as error:  # noqa: BLE001  raised by `stop`
        stop.note(error)
    return None

  if n_threads == 1 or n_items <= 1:
    return [attempt(i) for i in range(n_items)]
  batch = _Batch(attempt, n_items, _here.gives_way)
  try:
    _pool(n_threads, os.getpid()).begin(batch)
    batch.wait()
  except BaseException as error:  # of another signal's handler
    stop.note(error)
    batch.run()  # none begins any more
    batch.wait()
    raise
  return batch.results
