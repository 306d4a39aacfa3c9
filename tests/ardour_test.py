"""Ardour itself, without a window, plays sessions as dafx renders them.

conftest.py says where this file is left out.
"""

import subprocess

import ardour
import numpy as np
import pytest
import soundfile

from dafx import lv2, sessions
from dafx.audio import sources

TEST = 'urn:dafx-test:'
COMPRESSOR = 'http://calf.sourceforge.net/plugins/Compressor'
LIMITER = 'http://calf.sourceforge.net/plugins/Limiter'
RATE = 44100
# An export reads automation at samples 0, 256 and then every 1,024.
FIRST, CYCLE = 256, 1024
# The limiter's buffer is not in its start state when the export begins.
WARM_UP = 1024


def on_the_grid(automation, n_samples, n_late, n_behind):
  """Returns what a control holds at each sample of the input, [n_samples].

  The samples of all latency, this plugin's and that behind it, are a cycle too.
  A plugin's own shifts what is read, and the session's points undo that.
  """
  later = np.arange(n_samples) - n_late - n_behind
  read = np.where(later < FIRST, 0, FIRST + (later - FIRST) // CYCLE * CYCLE)
  read = np.where(later < 0, 0, read + n_behind) + n_late
  samples = automation.times_s * RATE
  values = automation.values.astype(np.float64)
  if automation.is_log:
    return np.exp(np.interp(read, samples, np.log(values)))
  return np.interp(read, samples, values)


def render(session, samples):
  """Renders what a session says, on Ardour's grid."""
  signal = samples * 10.0 ** (session.gain_db / 20.0)
  latencies = [session.latency(plugin) for plugin in session.plugins]
  for place, plugin in enumerate(session.plugins):
    n_late, n_behind = latencies[place], sum(latencies[place + 1 :])
    moving = list(plugin.automation)
    fixed = {s: v for s, v in plugin.values.items() if s not in moving}
    renderer = lv2.Renderer(
      plugin.uri, RATE, moving, fixed, block_size=FIRST, warm_up=WARM_UP
    )
    frames = [
      on_the_grid(automation, len(samples), n_late, n_behind)
      for automation in plugin.automation.values()
    ]
    frames = np.stack(frames, -1)[np.newaxis] if frames else None
    items = signal[np.newaxis]
    if session.n_copies(plugin) > 1:  # channels as items
      items = signal.T[..., np.newaxis]
      frames = None if frames is None else np.repeat(frames, len(items), 0)
    items = renderer.render(items, frames, 1)
    signal = items[..., 0].T if session.n_copies(plugin) > 1 else items[0]
  return signal * 10.0 ** (session.fader_db / 20.0)


def line(*points, is_log=False):
  times_s, values = zip(*points)
  return sessions.Automation(times_s, values, is_log)


CHAINS = {
  'static': [
    sessions.Plugin(TEST + 'gain', {'amount': 1.5}),
    sessions.Plugin(COMPRESSOR, {'ratio': 6.0, 'threshold': 0.05}),
    sessions.Plugin(LIMITER, {'limit': 0.2, 'auto_level': 0, 'asc': 0}),
  ],
  'moving': [
    sessions.Plugin(
      TEST + 'gain', {}, {'amount': line((0, 0.2), (0.7, 3.0), is_log=True)}
    ),
    sessions.Plugin(
      COMPRESSOR,
      {'ratio': 6.0},
      {
        'threshold': line((0, 0.02), (0.6, 0.5), is_log=True),
        'makeup': line((0.1, 1.0), (0.4, 4.0), (0.9, 2.0)),
      },
    ),
    sessions.Plugin(
      LIMITER,
      {'auto_level': 0, 'asc': 0},
      {'limit': line((0, 0.8), (0.8, 0.1), is_log=True)},
    ),
  ],
}  # fmt: skip


def export(folder, name):
  """Returns what Ardour makes of a session, [n_samples, n_channels]."""
  path = folder.parent / 'exported.wav'
  subprocess.run(
    [ardour.export_command(), '-b', 'float', '-o', path, folder, name],
    capture_output=True,
    check=True,
    timeout=300,
  )
  exported, rate = soundfile.read(path, dtype='float32', always_2d=True)
  assert rate == RATE
  return exported


@pytest.mark.slow
@pytest.mark.parametrize('chain', CHAINS)
def test_an_export_is_what_dafx_renders(chain, tmp_path):
  rng = np.random.default_rng(0)
  loud, quiet = np.float32(0.3), np.float32(0.03)
  gate = np.where(np.arange(RATE) // 5000 % 2, loud, quiet)[:, np.newaxis]
  samples = (gate * rng.standard_normal([RATE, 2])).astype(np.float32)
  target = (0.1 * rng.standard_normal([RATE, 2])).astype(np.float32)
  session = sessions.Session(
    'so ng', CHAINS[chain], sources.from_array(samples, RATE),
    sources.from_array(target, RATE), gain_db=-3.0, fader_db=-2.0,
  )  # fmt: skip
  folder = sessions.write(session, tmp_path / 'song_session')
  exported = export(folder, 'so ng')
  assert exported.shape == samples.shape
  expected = render(session, samples)
  assert np.std(expected) > 0.01
  np.testing.assert_allclose(exported, expected, atol=1e-6)


# Plugins that need a file: the parameter, and what else they need.
CONVOLVERS = {
  TEST + 'keeper': ('taps', {}),
  'http://gareus.org/oss/lv2/zeroconvolv#CfgMono': ('ir', {}),
  'http://gareus.org/oss/lv2/convoLV2#Mono': ('impulse', {}),
  'http://lsp-plug.in/plugins/lv2/impulse_responses_mono': (
    'ifn', {'cs': 1, 'dry': 0, 'fft': 1},
  ),
}  # fmt: skip
# The keeper has its taps after some cycles.
LOADED = RATE // 2


@pytest.mark.slow
def test_a_session_opens_with_the_files_of_its_plugins(tmp_path):
  response = np.zeros(200, np.float32)
  response[[0, 10, 199]] = 0.5, 0.25, -0.2
  wav, text = tmp_path / 'a room.wav', tmp_path / 'a room.txt'
  soundfile.write(wav, response, RATE, 'FLOAT')
  np.savetxt(text, response)
  plugins = []
  for uri, (name, values) in CONVOLVERS.items():
    path = text if uri.startswith(TEST) else wav
    kept = {lv2.get_plugin(uri).parameter(name).uri: path}
    plugins.append(sessions.Plugin(uri, values, parameters=kept))
  rng = np.random.default_rng(0)
  samples = (0.1 * rng.standard_normal([RATE, 2])).astype(np.float32)
  session = sessions.Session('a', plugins, sources.from_array(samples, RATE))
  expected = samples.T[..., np.newaxis]  # channels as items
  for plugin in plugins:
    expected = session.renderer(plugin).render(expected)
  folder = sessions.write(session, tmp_path / 'song_session')
  wav.unlink()  # the session has its own
  text.unlink()
  exported = export(folder, 'a')
  assert np.std(expected) > 1e-3
  np.testing.assert_allclose(
    exported[LOADED:], expected[:, LOADED:, 0].T, atol=1e-6
  )
