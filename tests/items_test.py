"""Items on threads: all of them once, and none after an error."""

import collections
import os
import signal
import threading
import time

import pytest

from dafx.lv2 import errors, items

N_THREADS = 3


def render(function, n_items, n_threads=N_THREADS):
  with items.Stop(holds_interrupts=False) as stop:
    return items.render_all(function, n_items, n_threads, stop)


@pytest.mark.parametrize('n_items', [0, 1, 2, 3, 50])
@pytest.mark.parametrize('n_threads', [1, N_THREADS])
def test_each_item_is_rendered_once(n_items, n_threads):
  calls = collections.Counter()

  def double(item):
    calls[item] += 1
    return 2 * item

  assert render(double, n_items, n_threads) == [2 * i for i in range(n_items)]
  assert calls == collections.Counter(range(n_items))


def test_as_many_run_side_by_side_as_there_are_threads():
  # Each waits for two others: with fewer threads none would go on.
  together = threading.Barrier(N_THREADS)
  render(lambda item: together.wait(60.0), 2 * N_THREADS)


def test_batches_share_the_threads():
  # The short one ends while an item of the long one still runs.
  is_short_over = threading.Event()

  def long(item):
    assert item or is_short_over.wait(60.0)

  thread = threading.Thread(target=render, args=(long, 2))
  thread.start()
  assert render(lambda item: item, 10) == list(range(10))
  is_short_over.set()
  thread.join()


@pytest.mark.parametrize('n_threads', [1, N_THREADS])
def test_no_item_begins_after_an_error(n_threads):
  begun = []

  def fail(item):
    begun.append(item)
    if item == 5:
      raise errors.CrashError('it crashed', 'urn:a')
    if item > 5:
      time.sleep(0.01)

  with pytest.raises(errors.CrashError) as caught:
    render(fail, 100, n_threads)
  assert caught.value.item == 5
  assert 5 in begun and len(begun) < 100


def test_a_signal_waits_for_the_items_that_have_begun():
  begun, ended = [], []

  def interrupted(item):
    begun.append(item)
    if item == 2:
      os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.05)
    ended.append(item)

  def handle(number, frame):
    raise TimeoutError

  former = signal.signal(signal.SIGUSR1, handle)
  try:
    with pytest.raises(TimeoutError):
      render(interrupted, 100)
  finally:
    signal.signal(signal.SIGUSR1, former)
  assert sorted(begun) == sorted(ended) and len(begun) < 100
  assert render(lambda item: item, 4) == [0, 1, 2, 3]


class LateSignal:
  """A lock; what it raises comes when it is already taken."""

  def __init__(self, lock):
    self.lock, self.is_late = lock, True

  def acquire(self, timeout):
    is_taken = self.lock.acquire(timeout=timeout)
    if self.is_late:
      self.is_late = False
      raise TimeoutError
    return is_taken

  def release(self):
    self.lock.release()


def test_a_signal_that_comes_as_the_wait_ends_leaves_no_lock_taken():
  batch = items._Batch(lambda item: item, 2)
  batch._woken = LateSignal(batch._woken)
  batch._woken.release()  # as the last item does, at the same time
  with pytest.raises(TimeoutError):
    batch.wait()
  batch._is_over = True
  thread = threading.Thread(target=batch.wait, daemon=True)
  thread.start()
  thread.join(10)
  assert not thread.is_alive()


def test_a_fork_has_threads_of_its_own():
  render(lambda item: item, 4)
  child = os.fork()
  if not child:
    os._exit(render(lambda item: item, 4) != [0, 1, 2, 3])
  assert os.waitpid(child, 0)[1] == 0
