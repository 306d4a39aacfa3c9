"""Batches on the host's own threads: right, interrupted, failed, forked."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from dafx import lv2

RATE = 22050
TEST = 'urn:dafx-test:'
N_THREADS = 3


def renderer(name='onepole', n_threads=N_THREADS, **kwargs):
  return lv2.Renderer(
    TEST + name, RATE, ['amount'], n_threads=n_threads, **kwargs
  )


def noise(n_items, n_samples=3000, n_channels=1):
  rng = np.random.default_rng(n_items)
  shape = (n_items, n_samples, n_channels)
  return rng.standard_normal(shape).astype(np.float32)


def amounts(n_items, n_frames=4):
  rng = np.random.default_rng(n_items + 1)
  return rng.uniform(0.1, 0.9, (n_items, n_frames, 1)).astype(np.float32)


@pytest.mark.parametrize('n_items', [1, 2, 3, 50])
@pytest.mark.parametrize('n_threads', [1, 2, N_THREADS, 64])
def test_any_number_of_threads_gives_what_items_give_alone(n_items, n_threads):
  audio, controls = noise(n_items), amounts(n_items)
  alone = renderer(n_threads=1)
  want = [
    alone.render(audio[i : i + 1], controls[i : i + 1])[0].copy()
    for i in range(n_items)
  ]
  host = renderer(n_threads=n_threads)
  for _ in range(2):
    np.testing.assert_array_equal(host.render(audio, controls), want)


@pytest.mark.parametrize('isolation', lv2.ISOLATIONS)
def test_rows_stand_for_a_copy_of_the_audio(isolation):
  audio, controls = noise(3, n_channels=2)[..., ::-1][..., :1], amounts(7)
  rows = [2, 0, 0, 1, 2, 1, 0]
  host = renderer(isolation=isolation)
  want = host.render(audio[rows], controls).copy()
  np.testing.assert_array_equal(host.render(audio, controls, rows=rows), want)
  host = renderer(isolation=isolation, stateful=True)
  np.testing.assert_array_equal(host.render(audio, controls, rows=rows), want)


@pytest.mark.parametrize(
  'rows, message',
  [
    ([0, 3], r'0 to 2: audio has 3 rows'),
    ([-1, 0], '0 to 2'),
    ([], 'one or more'),
    ([0.0, 1.0], 'whole numbers'),
    ([[0, 1]], 'whole numbers'),
    ([0, 1, 2], r'it must be \[3, n_frames'),
  ],
)
def test_rows_that_are_not_there_are_refused(rows, message):
  with pytest.raises(ValueError, match=message):
    renderer().render(noise(3), amounts(2), rows=rows)


def test_audio_lies_in_memory_as_it_likes():
  host = renderer()
  audio = noise(4, n_samples=1000)
  want = host.render(audio).copy()
  backwards = np.ascontiguousarray(audio[:, ::-1])[:, ::-1]
  np.testing.assert_array_equal(host.render(backwards), want)
  spread = np.zeros((1000, 3, 4, 2), np.float32)
  spread[:, 1, :, :1] = audio.transpose(1, 0, 2)
  np.testing.assert_array_equal(
    host.render(spread[:, 1, :, :1].transpose(1, 0, 2)), want
  )
  odd = np.zeros(audio.nbytes + 1, np.uint8)[1:].view(np.float32)
  odd = odd.reshape(audio.shape)
  odd[:] = audio
  assert not odd.flags.aligned
  np.testing.assert_array_equal(host.render(odd), want)


def test_as_many_run_side_by_side_as_there_are_threads():
  # Silent unless three run at the same time.
  host = renderer('together', compensate_latency=False)
  for n_items in (3, 9):
    audio = noise(n_items, n_samples=300)
    np.testing.assert_array_equal(host.render(audio), audio)


def test_batches_of_several_callers_share_the_threads():
  host = renderer()
  audio, controls = noise(20), amounts(20)
  want = host.render(audio, controls).copy()
  found = [None] * 4

  def render(k):
    for _ in range(20):
      found[k] = host.render(audio, controls).copy()

  threads = [threading.Thread(target=render, args=(k,)) for k in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  for each in found:
    np.testing.assert_array_equal(each, want)


@pytest.mark.parametrize('n_threads', [1, N_THREADS])
def test_a_bad_item_ends_the_batch_and_the_next_is_right(n_threads):
  host = renderer(n_threads=n_threads)
  audio = noise(40)
  want = host.render(audio).copy()
  bad = audio.copy()
  bad[5, 100:103] = np.nan
  bad[30, 7] = np.inf
  for _ in range(3):
    with pytest.raises(ValueError, match='holds [31] values that are NaN'):
      host.render(bad)
    np.testing.assert_array_equal(host.render(audio), want)
  with pytest.raises(ValueError, match='holds 3 values that are NaN'):
    host.render(bad, np.zeros((9, 1, 1), np.float32), rows=[5] * 9)


def test_a_state_that_is_refused_is_said_in_words(monkeypatch):
  host = renderer('fickle')
  host.render(noise(8))
  monkeypatch.setenv('DAFX_TEST_REFUSE', '1')
  with pytest.raises(lv2.PluginError, match='fickle could not be instantiated'):
    for _ in range(2):  # some are in their start state
      host.render(noise(8))


@pytest.mark.parametrize('n_threads', [1, N_THREADS])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGUSR1])
def test_signals_end_a_batch_early(n_threads, number):
  # So many items that the batch lasts for seconds.
  audio = noise(1, 200000)
  rows = np.zeros(20000, np.int64)
  host = renderer(n_threads=n_threads, block_size=16)
  small = host.render(audio[:, :100]).copy()
  host.render(audio)
  timer = threading.Timer(0.1, os.kill, (os.getpid(), number))

  def handle(number, frame):
    raise InterruptedError('enough')

  former = signal.signal(number, handle)
  memory = np.empty(0, np.float32)
  try:
    timer.start()
    with pytest.raises(InterruptedError, match='enough'):
      for _ in range(10**6):
        memory = host.render(audio[:, :5000], rows=rows[:2000])
  finally:
    timer.join()
    signal.signal(number, former)
  del memory
  np.testing.assert_array_equal(host.render(audio[:, :100]), small)


INTERRUPTED = f"""
import sys
import numpy as np
from dafx import lv2
from dafx.lv2 import batches
audio = np.random.default_rng(0).standard_normal((8, 2000, 1))
host = lv2.Renderer('{TEST}onepole', {RATE}, n_threads=3, block_size=16)
want = host.render(audio).copy()
n_events, is_through = 0, False
while not is_through:
  n_left = n_events = n_events + 1
  def interrupt(frame, event, argument):
    global n_left
    n_left -= frame.f_code.co_filename == batches.__file__
    if not n_left:
      raise InterruptedError
  try:
    sys.setprofile(interrupt)
    host.render(audio)
    sys.setprofile(None)
    is_through = True
  except InterruptedError:
    sys.setprofile(None)
  assert np.array_equal(host.render(audio), want)
assert n_events > 20
"""


def test_an_interrupt_wherever_it_comes_leaves_nothing_in_use():
  # Before and after each call. Memory that is freed is overwritten.
  subprocess.run(
    [sys.executable, '-c', INTERRUPTED],
    env={**os.environ, 'MALLOC_PERTURB_': '165'},
    check=True,
    timeout=120,
  )


LATE = f"""
import atexit, os, threading, time
import numpy as np

def n_threads():
  return len(os.listdir('/proc/self/task'))

def see():  # behind the host's own
  n_asked = 0
  @batches._ffi.def_extern(name='dafx_goes_on')
  def ask(who):
    nonlocal n_asked
    n_asked += 1
    return True
  time.sleep(0.2)
  was_quiet = not n_asked and n_threads() == n_before - 5
  os._exit(not was_quiet or not np.array_equal(host.render(audio), want))

atexit.register(see)
from dafx import lv2
from dafx.lv2 import batches
host = lv2.Renderer('{TEST}onepole', {RATE}, n_threads=5)
audio = np.random.default_rng(0).standard_normal((4, 2000, 1))
want = host.render(audio).copy()
is_begun = threading.Event()
def forever():
  while True:
    host.render(audio)
    host.render(audio[:1])
    is_begun.set()
threading.Thread(target=forever, daemon=True).start()
is_begun.wait()
n_before = n_threads()
"""


def test_no_thread_begins_once_they_were_ended():
  # Whoever ends the process may render yet; no one else does.
  subprocess.run(
    [sys.executable, '-c', LATE], env=os.environ, check=True, timeout=120
  )


HANDLED = f"""
import atexit, os, signal, sys
import numpy as np
from dafx import lv2
from dafx.lv2 import batches
host = lv2.Renderer('{TEST}onepole', {RATE}, n_threads=int(sys.argv[1]))
audio = np.zeros((64, 200000, 1), np.float32)
want = host.render(audio[:8]).copy()
def end(*_):
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  atexit._run_exitfuncs()
  assert np.array_equal(host.render(audio[:8]), want)
  os._exit(3)
@batches._ffi.def_extern(name='dafx_goes_on')
def dafx_goes_on(who):
  if signal.getsignal(signal.SIGTERM) is end:
    signal.raise_signal(signal.SIGTERM)
  return True
signal.signal(signal.SIGTERM, end)
while True:
  host.render(audio)
"""


@pytest.mark.parametrize('n_threads', [1, 2])
def test_a_handler_ends_all_while_its_own_batch_is_rendered(n_threads):
  # The end does not wait for who called it.
  command = [sys.executable, '-c', HANDLED, str(n_threads)]
  result = subprocess.run(command, env=os.environ, timeout=60)
  assert result.returncode == 3


NESTED = f"""
import threading, time
import numpy as np
from dafx import lv2
from dafx.lv2 import batches
host = lv2.Renderer('{TEST}onepole', {RATE}, n_threads=2)
audio = np.zeros((64, 400000, 1), np.float32)
is_asked = threading.Event()
@batches._ffi.def_extern(name='dafx_goes_on')
def dafx_goes_on(who):
  if not is_asked.is_set():
    is_asked.set()
    time.sleep(0.3)  # until the process ends
    host.render(audio[:2])
  return True
def forever():
  while True:
    host.render(audio)
threading.Thread(target=forever, daemon=True).start()
is_asked.wait()
"""


def test_who_renders_in_a_question_does_not_hold_up_the_end():
  # As what the garbage collector calls there may.
  subprocess.run(
    [sys.executable, '-c', NESTED], env=os.environ, check=True, timeout=60
  )


PROGRAM = f"""
import os, threading
import numpy as np
from dafx import lv2
host = lv2.Renderer('{TEST}onepole', {RATE}, n_threads=3)
audio = np.random.default_rng(0).standard_normal((16, 20000, 1))
want = host.render(audio).copy()
is_over = threading.Event()
def render():
  while not is_over.is_set():
    assert np.array_equal(host.render(audio), want)
thread = threading.Thread(target=render)
thread.start()
for _ in range(10):
  child = os.fork()  # while another thread's batch is rendered
  if not child:
    os._exit(not np.array_equal(host.render(audio), want))
  assert os.waitpid(child, 0)[1] == 0
is_over.set()
thread.join()
def forever():
  while True:
    host.render(audio)
threading.Thread(target=forever, daemon=True).start()
"""


def test_forks_and_ends_of_the_process():
  # It ends while a thread that no one waits for renders.
  subprocess.run(
    [sys.executable, '-c', PROGRAM], env=os.environ, check=True, timeout=120
  )
