"""Items of a batch on threads, and what becomes of them at an interrupt."""

import concurrent.futures.thread  # loaded late, it can hang in a fork
import functools
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from dafx.lv2 import errors


@functools.cache
def _executor(n_threads: int, process_id: int):
  """Returns the threads to render on; a forked process makes its own."""
  del process_id
  return concurrent.futures.thread.ThreadPoolExecutor(n_threads, 'dafx_render')


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

  if n_threads == 1 or n_items == 1:
    return [attempt(i) for i in range(n_items)]
  executor = _executor(n_threads, os.getpid())
  futures: list[concurrent.futures.Future] = []
  try:
    for i in range(n_items):
      futures.append(executor.submit(attempt, i))
    return [future.result() for future in futures]
  except BaseException as error:  # of another signal's handler
    stop.note(error)
    concurrent.futures.wait(futures)
    raise
