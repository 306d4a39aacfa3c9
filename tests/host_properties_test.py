"""Properties of renders of every installed plugin, real ones by ten makers."""

import random

import host_properties
import pytest

from dafx import lv2
from dafx.lv2 import processes

LSP = 'http://lsp-plug.in/plugins/lv2/'
SWH = 'http://plugin.org.uk/swh-plugins/'

# Of which `check` says that they are not repeatable, and the kind of reason.
DEVIANTS = {
  LSP + 'noise_generator_x1': 'clock',
  LSP + 'noise_generator_x2': 'clock',
  LSP + 'noise_generator_x4': 'clock',
  SWH + 'vynil': 'random',
}
# Of which it says that streams are not exact: from the second chunk on it gives
# NaN, unless its runs follow each other with nothing between.
NO_STREAMS = {SWH + 'chebstortion': 'memory'}
# Their libraries do not load: they lack a library that they need.
BROKEN = [SWH + 'mbeq', SWH + 'pitchScaleHQ']
REPEATABILITY = ('instances_error', 'alike_error', 'memory_error')
PROPERTIES = ('fresh', 'order', 'threads', 'chunks')
_N_QUICK = 24
_TIME_LIMIT_S = 300.0


def effects():
  """Returns the URIs of all real plugins with audio in and out."""
  plugins = [lv2.get_plugin(uri) for uri in lv2.list_uris()]
  return [
    p.uri
    for p in plugins
    if p.audio_inputs and p.audio_outputs
    if not p.uri.startswith('urn:dafx-test:')
  ]


def parameters():
  """Returns all of them, but for a sample marked slow."""
  good = [u for u in effects() if u not in DEVIANTS and u not in BROKEN]
  quick = random.Random(0).sample(good, _N_QUICK)
  return [
    pytest.param(uri, marks=[] if uri in quick else pytest.mark.slow)
    for uri in good
  ]


def measure(uri):
  # In a worker: what crashes fails one test.
  return processes.call(
    'host_properties', 'measure', {'uri': uri}, _TIME_LIMIT_S
  )


@pytest.mark.parametrize('uri', parameters())
def test_renders_depend_on_their_inputs_alone(uri):
  found = measure(uri)
  assert {k: found[k] for k in REPEATABILITY} == dict.fromkeys(REPEATABILITY, 0)
  if uri in NO_STREAMS:
    assert found.pop('chunks') > 0
    found['chunks'] = 0
  assert {k: found[k] for k in PROPERTIES} == dict.fromkeys(PROPERTIES, 0)


@pytest.mark.parametrize('uri', DEVIANTS)
def test_known_deviants_still_deviate(uri):
  found = measure(uri)
  assert max(found[k] for k in REPEATABILITY) > 0
  assert found['fresh'] > 0


@pytest.mark.parametrize('uri', BROKEN)
def test_plugins_that_do_not_load_still_do_not(uri):
  with pytest.raises(lv2.PluginError, match='its library does not load'):
    measure(uri)


@pytest.mark.parametrize(
  'name, depends', [('gain', False), ('late', False), ('block', True)]
)
def test_block_dependence_is_seen(name, depends):
  found = measure(f'urn:dafx-test:{name}')
  assert found.pop('depends_on_block') == depends
  assert found == dict.fromkeys((*REPEATABILITY, *PROPERTIES), 0)


def test_faults_are_seen(monkeypatch):
  # The measure itself: a plugin whose state outlives its renewal fails.
  render = lv2.Renderer.render
  calls = []

  def drifting(self, audio, controls):
    calls.append(1)
    return render(self, audio, controls) + 1e-6 * len(calls)

  monkeypatch.setattr(lv2.Renderer, 'render', drifting)
  found = host_properties.measure('urn:dafx-test:gain')
  assert all(found[k] > 0 for k in (*REPEATABILITY, *PROPERTIES))
