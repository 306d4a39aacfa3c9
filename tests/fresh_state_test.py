"""Ways back to the start state: found, kept, and never trusted blindly."""

import json

import numpy as np
import pytest

from dafx import lv2
from dafx.lv2 import fresh_state, probing

RATE = 22050
LIMITER = 'http://lsp-plug.in/plugins/lv2/limiter_mono'


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))


@pytest.fixture
def looks_for_a_way(monkeypatch):
  """Makes every plugin look for a cheap way, however cheap instances are."""
  monkeypatch.setattr('dafx.lv2.renderer._CHEAP_INSTANCE_S', 0.0)


def settings(uri, controls, fixed=None):
  return dict(
    uri=uri,
    sample_rate=RATE,
    block_size=1024,
    controls=controls,
    fixed=fixed or {},
  )


def noise(*shape, seed=0, level=0.3):
  rng = np.random.default_rng(seed)
  return (level * rng.standard_normal(shape)).astype(np.float32)


def test_a_state_that_outlives_activate_needs_a_new_instance():
  found = probing.fresh_state(**settings('urn:dafx-test:onepole', ['amount']))
  assert found['kind'] == 'instance' and found['repeatable']


def test_a_limiter_needs_only_a_short_silence():
  found = probing.fresh_state(
    **settings(LIMITER, ['th'], {'alr': 0.0, 'boost': 1.0})
  )
  assert found['kind'] == 'reset' and found['n_silence'] > 0
  assert found['reset_ms'] < found['instance_ms']


def test_what_is_found_is_kept_by_settings():
  plugin = lv2.get_plugin(LIMITER)
  with_boost = settings(LIMITER, ['th'], {'alr': 0.0, 'boost': 1.0})
  found = fresh_state.find(plugin, with_boost)
  kept = json.loads(fresh_state.cache_path().read_text())
  assert len(kept) == 1
  assert next(iter(kept.values()))['n_silence'] == found.n_silence
  assert fresh_state.find(plugin, with_boost) == found
  fresh_state.disprove(plugin, with_boost)
  assert fresh_state.find(plugin, with_boost) == fresh_state.INSTANCE


def test_a_damaged_cache_is_made_anew():
  fresh_state.cache_path().parent.mkdir(parents=True)
  fresh_state.cache_path().write_text('{"half')
  plugin = lv2.get_plugin('urn:dafx-test:gain')
  fresh_state.find(plugin, settings(plugin.uri, ['amount']))
  assert json.loads(fresh_state.cache_path().read_text())


def test_renders_by_reset_equal_those_of_new_instances(looks_for_a_way):
  limiter = lv2.Renderer(
    LIMITER, RATE, ['th'], {'alr': 0, 'boost': 1}, n_threads=1, start='probed'
  )
  audio = noise(1, 20000, 1)
  controls = np.random.default_rng(0).uniform(0.01, 1, (6, 1, 5, 1))
  for frames in controls:  # each after the one before
    alone = lv2.Renderer(LIMITER, RATE, ['th'], {'alr': 0, 'boost': 1})
    np.testing.assert_array_equal(
      limiter.render(audio, frames), alone.render(audio, frames)
    )
  assert limiter._method.kind == 'reset'


def test_a_wrong_way_is_found_out(looks_for_a_way, monkeypatch, caplog):
  wrong = fresh_state.Method('reset', activate=True)
  monkeypatch.setattr(fresh_state, 'find', lambda *_: wrong)
  onepole = lv2.Renderer(
    'urn:dafx-test:onepole', RATE, ['amount'], n_threads=1, start='probed'
  )
  audio, controls = noise(1, 500, 1), np.full((1, 1, 1), 0.9, np.float32)
  first = onepole.render(audio, controls)
  for _ in range(3):
    np.testing.assert_array_equal(onepole.render(audio, controls), first)
  assert onepole._method == fresh_state.INSTANCE
  assert 'did not return to its start' in caplog.text


def test_a_plugin_that_dies_in_the_probe_gets_new_instances(caplog):
  plugin = lv2.get_plugin('urn:dafx-test:fatal')
  found = fresh_state.find(plugin, settings(plugin.uri, ['amount']))
  assert found == fresh_state.INSTANCE
  assert 'Probing the fresh state failed' in caplog.text
