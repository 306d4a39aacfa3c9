"""Instances made ahead: how many, by whom, and that no one hears of it."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from dafx import lv2
from dafx.lv2 import supply

RATE = 22050
TEST = 'urn:dafx-test:'


@pytest.fixture(autouse=True)
def costly(monkeypatch):
  """Counts each instance as costly; two processors, whatever there are."""
  monkeypatch.setattr(supply, '_COSTLY_S', 0.0)
  monkeypatch.setattr(supply, '_maker', supply._Maker(n_processors=2))


def renderer(name='onepole', n_threads=1, **kwargs):
  return lv2.Renderer(
    TEST + name, RATE, ['amount'], n_threads=n_threads, **kwargs
  )


def noise(n_items, n_samples=300):
  rng = np.random.default_rng(n_items)
  return rng.standard_normal((n_items, n_samples, 1)).astype(np.float32)


def wait():
  thread = supply._maker._thread
  if thread is not None:
    thread.join()


def n_fresh(renderer):
  wait()
  return len(renderer._supply._fresh)


def test_as_many_are_made_as_a_batch_has_items():
  host = renderer()
  host.render(noise(6))
  assert n_fresh(host) == 6
  for n_items in (6, 2, 5):
    new = renderer().render(noise(n_items))
    np.testing.assert_array_equal(host.render(noise(n_items)), new)
  assert n_fresh(host) <= 6


def test_they_are_bounded_in_number_and_memory(monkeypatch):
  monkeypatch.setattr(supply, '_MAX_AHEAD', 3)
  host = renderer()
  host.render(noise(8))
  assert n_fresh(host) == 3
  big = renderer('uninitialised')  # more than 4000 bytes
  monkeypatch.setattr(supply, '_MAX_BYTES', 9000)
  big.render(noise(8))
  assert n_fresh(big) == 2


def test_cheap_ones_are_not_made_ahead(monkeypatch):
  monkeypatch.setattr(supply, '_COSTLY_S', 1e9)
  host = renderer()
  host.render(noise(8))
  assert n_fresh(host) == 0


def test_none_are_made_by_one_processor(monkeypatch):
  monkeypatch.setattr(supply, '_maker', supply._Maker(n_processors=1))
  host = renderer()
  host.render(noise(8))
  assert n_fresh(host) == 0


def test_none_are_made_while_a_batch_renders():
  host, other = renderer(), renderer()
  with host._supply.batch(1):
    other.render(noise(8))
    assert n_fresh(other) == 0
  assert n_fresh(other) == 8


def test_no_thread_is_left_behind():
  host = renderer()
  host.render(noise(8))
  wait()
  names = [thread.name for thread in threading.enumerate()]
  assert 'dafx_instances' not in names


def test_a_plugin_that_refuses_is_named_by_the_render(monkeypatch):
  host = renderer('fickle')
  host.render(noise(4))
  wait()
  monkeypatch.setenv('DAFX_TEST_REFUSE', '1')
  host.render(noise(4))  # all of them made before
  wait()
  assert not host._supply._fresh
  with pytest.raises(lv2.PluginError, match='instantiated again'):
    host.render(noise(1))
  monkeypatch.delenv('DAFX_TEST_REFUSE')
  np.testing.assert_array_equal(host.render(noise(3)), noise(3))


PROGRAM = f"""
import os, sys
import numpy as np
from dafx import lv2
from dafx.lv2 import supply
supply._COSTLY_S = 0.0
supply._maker = supply._Maker(n_processors=2)
host = lv2.Renderer('{TEST}onepole', {RATE}, n_threads=1)
audio = np.random.default_rng(0).standard_normal((16, 300, 1))
want = host.render(audio).copy()
for _ in range(10):
  host.render(audio)
  child = os.fork()  # while instances are being made
  if not child:
    right = np.array_equal(host.render(audio), want)
    supply._maker._thread and supply._maker._thread.join()
    os._exit(0 if right and len(host._supply._fresh) >= 16 else 1)
  assert os.waitpid(child, 0)[1] == 0
host.render(audio)  # and ends in their midst
"""


def test_forks_and_ends_of_the_process():
  subprocess.run(
    [sys.executable, '-c', PROGRAM], env=os.environ, check=True, timeout=120
  )


def refuse_threads(monkeypatch, n_given):
  """Has the system give so many threads and no more."""
  start, given = threading.Thread.start, []

  def start_or_refuse(thread):
    if len(given) >= n_given:
      raise RuntimeError("can't start new thread")
    given.append(thread)
    start(thread)

  monkeypatch.setattr(threading.Thread, 'start', start_or_refuse)


@pytest.mark.parametrize('stateful', [False, True])
@pytest.mark.parametrize('n_given', [0, 2])
def test_a_system_that_gives_few_threads_is_borne(
  monkeypatch, stateful, n_given
):
  audio = noise(6)
  want = renderer().render(audio)
  wait()
  # Of a number that no other test has threads of.
  host = renderer(n_threads=41 + n_given, stateful=stateful)
  refuse_threads(monkeypatch, n_given)
  for _ in range(3):
    if stateful:
      host.reset_state()
    np.testing.assert_array_equal(host.render(audio), want)
