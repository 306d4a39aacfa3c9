"""Ways back to the start state: found, kept, and never trusted blindly."""

import ctypes
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dafx import _folders, lv2
from dafx.lv2 import fresh_state, probing

RATE = 22050
TEST = 'urn:dafx-test:'
LIMITER = 'http://lsp-plug.in/plugins/lv2/limiter_mono'


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))


def noise(*shape, seed=0, level=0.3):
  rng = np.random.default_rng(seed)
  return (level * rng.standard_normal(shape)).astype(np.float32)


def test_a_state_in_its_own_memory_is_rewound():
  for name in ('gain', 'onepole', 'delay'):
    instance = lv2.Renderer(TEST + name, RATE, ['amount']).new_instance(True)
    audio, controls = noise(1, 500), np.full((1, 1), 0.9, np.float32)
    first, second = np.zeros((2, 1, 500), np.float32)
    instance.run(audio, controls, 500, first)
    assert instance.rewind() and not instance.is_used
    instance.run(audio, controls, 500, second)
    np.testing.assert_array_equal(first, second)


def test_a_plugin_that_takes_memory_as_it_runs_is_not_rewound():
  renderer = lv2.Renderer(TEST + 'grows', RATE, ['amount'])
  instance = renderer.new_instance(can_rewind=True)
  assert instance.rewind()
  controls = renderer.default_controls()
  first = renderer.run(instance, noise(1, 100), controls, 100)[0]
  assert not instance.rewind() and instance.is_used
  instance.renew()
  second = renderer.run(instance, noise(1, 100), controls, 100)[0]
  np.testing.assert_array_equal(first, second)


def test_who_holds_what_instances_share_is_not_rewound():
  renderer = lv2.Renderer(TEST + 'shared', RATE, compensate_latency=False)
  first, second = (renderer.new_instance(can_rewind=True) for _ in '12')
  assert not first.rewind() and second.rewind()
  del first, second
  gc.collect()
  first, second = (renderer.new_instance(can_rewind=c) for c in (False, True))
  first.renew()  # the second holds it up
  assert second.rewind()
  second.renew()
  assert second.rewind()


def test_a_probe_tells_who_can_be_rewound():
  limiter = probing.fresh_state(LIMITER, RATE, 1024)
  assert limiter['kind'] == 'rewind' and limiter['repeatable']
  assert 0 < limiter['rewind_ms'] < limiter['instance_ms'] / 2
  # Its state lies where rewinding does not reach.
  hidden = probing.fresh_state(TEST + 'hidden', RATE, 1024)
  assert hidden['kind'] == 'instance' and hidden['repeatable']


def test_what_is_found_is_kept():
  plugin = lv2.get_plugin(LIMITER)
  found = fresh_state.find(plugin, RATE, 512)
  (kept,) = json.loads(fresh_state.cache_path().read_text()).values()
  assert kept == vars(found) and found.kind == 'rewind'
  assert fresh_state.find(plugin, RATE, 512) == found
  fresh_state.disprove(plugin, RATE, 512)
  assert fresh_state.find(plugin, RATE, 512) == fresh_state.INSTANCE


def test_a_damaged_cache_is_made_anew():
  fresh_state.cache_path().parent.mkdir(parents=True)
  fresh_state.cache_path().write_text('{"half')
  fresh_state.find(lv2.get_plugin(TEST + 'gain'), RATE, 1024)
  assert json.loads(fresh_state.cache_path().read_text())


@pytest.mark.parametrize('cache', ['/dev/null/cache', None])
def test_what_cannot_be_kept_lasts_as_long_as_the_process(
  monkeypatch, caplog, cache
):
  monkeypatch.setattr(_folders, 'user_cache', lambda: cache and Path(cache))
  monkeypatch.setattr(fresh_state, '_not_kept', {})
  _folders.say_nothing_is_kept.cache_clear()
  gain, delay = (lv2.get_plugin(TEST + name) for name in ('gain', 'delay'))
  found = fresh_state.find(gain, RATE, 1024)
  fresh_state.find(delay, RATE, 1024)
  assert [r.name for r in caplog.records if r.levelname == 'WARNING'] == [
    'dafx'
  ]
  monkeypatch.setattr(fresh_state.processes, 'call', None)  # no more probes
  assert fresh_state.find(gain, RATE, 1024) == found


def test_rewound_instances_give_what_new_ones_give():
  limiter, alone = (
    lv2.Renderer(LIMITER, RATE, ['th', 'alr'], {'boost': 1}, start=start)
    for start in ('probed', 'instance')
  )
  rng = np.random.default_rng(0)
  for _ in range(4):  # each after the one before
    controls = rng.uniform([0.01, 0], 1, (6, 5, 2))
    audio = noise(6, 5000, 1, seed=int(rng.integers(99)), level=rng.random())
    np.testing.assert_array_equal(
      limiter.render(audio, controls), alone.render(audio, controls)
    )
  assert limiter._rewinds and not alone._rewinds
  assert limiter._n_rewinds > 8  # more than are compared anyway


def test_a_wrong_way_is_found_out(monkeypatch, caplog):
  monkeypatch.setattr('dafx.lv2.renderer._CHEAP_INSTANCE_S', 0.0)
  wrong = fresh_state.Method('rewind')
  monkeypatch.setattr(fresh_state, 'find', lambda *_: wrong)
  hidden = lv2.Renderer(TEST + 'hidden', RATE, ['amount'], n_threads=1)
  audio, controls = noise(1, 500, 1), np.full((1, 1, 1), 0.9, np.float32)
  first = hidden.render(audio, controls)
  for _ in range(5):
    np.testing.assert_array_equal(hidden.render(audio, controls), first)
  assert not hidden._rewinds
  assert 'did not return to its start' in caplog.text


def test_a_plugin_that_dies_in_the_probe_gets_new_instances(caplog):
  found = fresh_state.find(lv2.get_plugin(TEST + 'fatal'), RATE, 1024)
  assert found == fresh_state.INSTANCE
  assert 'Probing the fresh state failed' in caplog.text


def test_memory_that_a_plugin_never_wrote_is_zero():
  renderer = lv2.Renderer(TEST + 'uninitialised', RATE, n_threads=1)
  audio = noise(3, 1000, 1)
  for _ in range(3):  # it leaves ones in what it gives back
    np.testing.assert_array_equal(renderer.render(audio), audio)


def test_random_numbers_are_the_instances_own():
  libc = ctypes.CDLL(None)
  libc.srand(1)
  numbers = np.float32([libc.rand() for _ in range(50)])
  renderer = lv2.Renderer(TEST + 'random', RATE, n_threads=2)
  out = renderer.render(noise(4, 50, 1))
  np.testing.assert_array_equal(out[..., 0], np.tile(numbers, (4, 1)))


def test_plain_memory_on_request():
  code = f"""
import numpy as np
from dafx import lv2
renderer = lv2.Renderer('{TEST}random', {RATE}, n_threads=1)
audio = np.zeros((2, 50, 1), np.float32)
out = renderer.render(audio)
assert not np.array_equal(out[0], out[1])
assert not renderer.new_instance(can_rewind=True).rewind()
"""
  environment = {**os.environ, 'DAFX_LV2_PLAIN_MEMORY': '1'}
  subprocess.run([sys.executable, '-c', code], env=environment, check=True)
