"""Items of a batch on threads, and what becomes of them at an interrupt."""

import atexit
import functools
import itertools
import os
import queue
import signal
import threading
from collections.abc import Callable
from typing import Any

from dafx.lv2 import errors

# How late a signal may be heard while items are waited for.
_LOOK_S = 0.05


class _Batch:
  """Items that threads take one after the other, as long as there are some.

  Threads meet in nothing but counters, which the interpreter's lock guards: a
  future for each item would take longer than many a render.

  Args:
    render_item: Called with the index of an item.
    n_items: Number of items, 1 or more.

  Attributes:
    results: What was returned, by item.
  """

  def __init__(self, render_item: Callable[[int], Any], n_items: int):
    self.results: list = [None] * n_items
    self._render_item = render_item
    self._numbers = iter(range(n_items))
    self._ended = itertools.count(1)
    self._is_over = False
    self._woken = threading.Lock()
    self._woken.acquire()

  def run(self):
    """Takes items until none is left."""
    for i in self._numbers:
      self.results[i] = self._render_item(i)
      if next(self._ended) == len(self.results):
        self._is_over = True
        self._woken.release()

  def wait(self):
    """Returns when all items have ended.

    What a signal's handler raises may leave it at any point, also with the lock
    taken, and it can be called again. A signal that came just before the lock
    was waited for does not end the wait: its handler runs at the next look.
    """
    while not self._is_over:
      self._woken.acquire(timeout=_LOOK_S)


class _Pool:
  """Threads to render on, which batches share in the order in which they come.

  Args:
    n_threads: How many; fewer where the system gives no more.
  """

  def __init__(self, n_threads: int):
    self._calls: queue.SimpleQueue = queue.SimpleQueue()
    self._process_id = os.getpid()
    self._threads: list[threading.Thread] = []
    for _ in range(n_threads):
      thread = threading.Thread(
        target=self._work, name='dafx_render', daemon=True
      )
      try:
        thread.start()
      except RuntimeError:
        break
      self._threads.append(thread)
    # A plugin that runs while the process is taken down would crash it.
    atexit.register(self._end)

  def _work(self):
    while call := self._calls.get():
      call()
      del call  # which would keep the batch until the next one

  def _end(self):
    if os.getpid() == self._process_id:  # a fork has none of the threads
      for _ in self._threads:
        self._calls.put(None)
      for thread in self._threads:
        thread.join()

  def begin(self, batch: _Batch):
    """Has as many threads as there are items, or all, run a batch.

    Without threads, it is run here.
    """
    if not self._threads:
      batch.run()
    for _ in range(min(len(batch.results), len(self._threads))):
      self._calls.put(batch.run)


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
  batch = _Batch(attempt, n_items)
  try:
    _pool(n_threads, os.getpid()).begin(batch)
    batch.wait()
  except BaseException as error:  # of another signal's handler
    stop.note(error)
    batch.run()  # none begins any more
    batch.wait()
    raise
  return batch.results
