"""Instances in their start state, some of them made ahead on idle processors.

An instance of LSP's takes 1.3 ms to make, longer than many a render. Where
instances are that costly, a thread makes as many as the last batch had items,
while nothing renders. It ends when there is nothing more to make or a batch
begins, so none is left behind at exit or in a fork.
"""

import collections
import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator

from dafx.lv2 import errors, instances

# Cost of an instance from which on some are made ahead. Starting a thread takes
# a fifth of it.
_COSTLY_S = 3e-4
# Of silence before it begins: where batches follow each other at once, it would
# only hold up the next one.
_PAUSE_S = 1e-3
# Per supply.
_MAX_AHEAD = 16
_MAX_BYTES = 32 << 20


def default_n_threads() -> int:
  """Returns the number of processors that this process may use.

  Examples:
    >>> from dafx import lv2
    >>> lv2.default_n_threads() >= 1
    True
  """
  return len(os.sched_getaffinity(0))


class _Maker:
  """Makes instances ahead for all supplies of the process, in one thread.

  Args:
    n_processors: With one alone, it makes none.
  """

  def __init__(self, n_processors: int):
    self._lock = threading.Lock()
    self._n_processors = n_processors
    self._n_rendering = 0
    self._waiting: collections.deque[Supply] = collections.deque()
    self._thread: threading.Thread | None = None

  def begin_render(self):
    """Notes that a batch begins."""
    with self._lock:
      self._n_rendering += 1

  def end_render(self, supply: 'Supply'):
    """Notes that it has ended, and that the supply may want instances."""
    with self._lock:
      self._n_rendering -= 1
      if self._n_processors < 2:
        return
      if supply.n_missing() and supply not in self._waiting:
        self._waiting.append(supply)
      # One that an error has ended is not alive.
      if self._may_make() and not (self._thread and self._thread.is_alive()):
        thread = threading.Thread(target=self._run, name='dafx_instances')
        try:
          thread.start()
        except RuntimeError:  # the system gives no more, or the process ends
          return
        self._thread = thread

  def _may_make(self) -> bool:
    return bool(self._waiting) and not self._n_rendering

  def _run(self):
    time.sleep(_PAUSE_S)
    while True:
      with self._lock:
        if not self._may_make():
          self._thread = None
          return
        supply = self._waiting.popleft()
      if supply.make_one():
        with self._lock:
          self._waiting.append(supply)


_maker = _Maker(default_n_threads())


def _begin_anew():
  """Forgets the threads of the process that this one is a fork of."""
  global _maker
  _maker = _Maker(default_n_threads())


os.register_at_fork(after_in_child=_begin_anew)


class Supply:
  """Gives instances in their start state, and takes them back used.

  Args:
    make: Makes a new instance.

  Attributes:
    n_wanted: Instances that the next batch is likely to want.
  """

  def __init__(self, make: Callable[[], instances.Instance]):
    self._make = make
    # Only `append` and `pop`, which need no lock.
    self._fresh: collections.deque[instances.Instance] = collections.deque()
    self._used: collections.deque[instances.Instance] = collections.deque()
    self._n_renewed = 0
    self._cost_s = math.inf  # of one made anew, the shortest
    self._n_bytes = 0  # of one
    self.n_wanted = 1

  def take(self) -> instances.Instance:
    """Returns an instance that no one else has, in its start state.

    Raises:
      errors.PluginError: The plugin refuses.
    """
    try:
      return self._fresh.pop()
    except IndexError:
      return self._make_fresh()

  def _make_fresh(self) -> instances.Instance:
    """Makes a used instance anew, or one more."""
    try:
      instance = self._used.pop()
    except IndexError:
      return self._make()
    start = time.perf_counter()
    instance.renew()
    self.note_renewals(1, time.perf_counter() - start)
    return instance

  def lend(self, n_items: int, n_at_once: int) -> list[instances.Instance]:
    """Returns instances for a batch, which makes used ones anew by itself.

    Args:
      n_items: Items of the batch.
      n_at_once: As many of them, at most, are rendered at the same time.

    Returns:
      Instances that no one else has, used or in their start state: n_at_once,
      or up to n_items of those made ahead.

    Raises:
      errors.PluginError: The plugin refuses.
    """
    lent: list[instances.Instance] = []
    for shelf, n_most in ((self._fresh, n_items), (self._used, n_at_once)):
      while shelf and len(lent) < n_most:
        try:
          lent.append(shelf.pop())
        except IndexError:  # another thread was faster
          break
    while len(lent) < n_at_once:
      lent.append(self._make())
    return lent

  def note_renewals(self, n_renewed: int, seconds: float):
    """Notes what it took to make instances anew.

    Args:
      n_renewed: How many.
      seconds: The shortest; others may have taken the processor.
    """
    if n_renewed:
      self._n_renewed += n_renewed
      self._cost_s = min(self._cost_s, seconds)

  def give_back(self, instance: instances.Instance):
    """Takes an instance that was given, and that no one uses any more."""
    self._n_bytes = instance.n_bytes
    (self._used if instance.is_used else self._fresh).append(instance)

  @contextlib.contextmanager
  def loan(self) -> Iterator[instances.Instance]:
    """Yields an instance for a render; one whose render fails is dropped."""
    instance = self.take()
    yield instance
    self.give_back(instance)

  @contextlib.contextmanager
  def batch(self, n_items: int) -> Iterator[None]:
    """Renders a batch within; makes instances ahead for the next one behind.

    Args:
      n_items: Number of its items.
    """
    self.n_wanted = n_items
    maker = _maker
    maker.begin_render()
    try:
      yield
    finally:
      maker.end_render(self)

  def n_missing(self) -> int:
    """Returns how many instances are to be made ahead."""
    if self._n_renewed < 3 or self._cost_s < _COSTLY_S:
      return 0
    n_most = min(_MAX_AHEAD, _MAX_BYTES // max(self._n_bytes, 1))
    return max(min(self.n_wanted, n_most) - len(self._fresh), 0)

  def make_one(self) -> bool:
    """Makes an instance ahead if one is missing; returns whether more are."""
    if not self.n_missing():
      return False
    try:
      self._fresh.append(self._make_fresh())
    except errors.PluginError:  # the next render says so
      return False
    return self.n_missing() > 0
