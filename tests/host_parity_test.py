"""Real plugins: as in ffmpeg, sample by sample, and nothing left behind."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from dafx import lv2

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'benchmarks'))

import host_parity  # noqa: E402

CALF = 'http://calf.sourceforge.net/plugins/'
LSP = 'http://lsp-plug.in/plugins/lv2/'
SWH = 'http://plugin.org.uk/swh-plugins/'
X42 = 'http://gareus.org/oss/lv2/'
MDA = 'http://drobilla.net/plugins/mda/'
INVADA = 'http://invadarecords.com/plugins/lv2/'

STABLE = [
  CALF + 'Compressor',
  CALF + 'MultibandCompressor',
  CALF + 'Reverb',
  CALF + 'Saturator',
  LSP + 'graph_equalizer_x16_mono',
  LSP + 'limiter_mono',
  LSP + 'mb_compressor_stereo',
  LSP + 'sc_compressor_stereo',  # with inputs for a side chain
  LSP + 'crossover_stereo',  # with more outputs than inputs
  SWH + 'amp',
  SWH + 'gverb',
  SWH + 'sc4',
  SWH + 'plate',
  X42 + 'fil4#stereo',
  X42 + 'darc#mono',
  MDA + 'Overdrive',
  MDA + 'Limiter',
  INVADA + 'tube/mono',
  INVADA + 'phaser/stereo',
  'http://hippie.lt/lv2/gate',
]

# Of all makers; with workers, threads of their own and much memory.
LEAKS = [
  CALF + 'Reverb',
  LSP + 'impulse_responses_stereo',
  LSP + 'limiter_stereo',
  LSP + 'mb_compressor_ms',
  SWH + 'gverb',
  X42 + 'fil4#mono',
  X42 + 'zeroconvolv#CfgStereo',
  MDA + 'Ambience',
  INVADA + 'erreverb/mono',
  'urn:zamaudio:ZamComp',
]

# One thread: on two, how many instances are alive is a matter of chance. What
# malloc keeps of freed memory is no leak, nor is a worker process that waits.
_RENDER_OFTEN = """
import ctypes, gc, json, os, sys, threading
import numpy as np
from dafx import lv2
from dafx.lv2 import processes

def measure():
  for thread in threading.enumerate():
    if thread.name == 'dafx_instances':  # makes some ahead, and ends
      thread.join()
  processes.stop_workers()
  gc.collect()
  ctypes.CDLL(None).malloc_trim(0)
  with open('/proc/self/statm') as file:
    n_pages = int(file.read().split()[1])
  n_files, n_threads = (
    len(os.listdir('/proc/self/' + kind)) for kind in ('fd', 'task'))
  return n_pages * os.sysconf('SC_PAGE_SIZE') / 1e6, n_files, n_threads

def render(renderer, n_batches):
  audio = np.random.default_rng(0).standard_normal(
    (2, 2048, renderer.n_channels_in))
  for _ in range(n_batches):
    renderer.render(0.1 * audio)

# The threads that renders share, and the files that the first one opens.
render(lv2.Renderer(sys.argv[1], 48000, n_threads=2), 25)
grown = {}
for uri in sys.argv[1:]:
  before = measure()
  renderer = lv2.Renderer(uri, 48000, n_threads=1)
  render(renderer, 25)  # 50 items, each from a fresh instance
  early = measure()
  render(renderer, 75)
  late = measure()
  del renderer
  after = measure()
  grown[uri] = [late[0] - early[0], late[1] - early[1], late[2] - early[2],
                after[1] - before[1], after[2] - before[2]]
print(json.dumps(grown))
"""


@pytest.mark.parametrize('uri', STABLE)
def test_sounds_as_in_ffmpeg(uri):
  plugin = lv2.get_plugin(uri)
  audio = host_parity.make_input(len(plugin.audio_inputs), 16 * 1024)
  theirs = host_parity.render_ffmpeg(uri, audio, len(plugin.audio_outputs))
  assert theirs.output is not None, theirs.fault
  assert theirs.block_sizes == (host_parity.BLOCK_SIZE,)
  renderer = lv2.Renderer(
    uri,
    host_parity.SAMPLE_RATE,
    block_size=host_parity.BLOCK_SIZE,
    compensate_latency=False,
  )
  here = renderer.render(audio[np.newaxis])[0]
  assert np.max(np.abs(here)) > 0.01
  np.testing.assert_allclose(here, theirs.output, rtol=0.0, atol=1e-6)


@pytest.mark.slow
def test_explains_defaults_that_go_with_the_sample_rate():
  # ffmpeg leaves the factor out; told the products, it gives the same samples.
  row = host_parity.compare(SWH + 'triplePara', limit=60.0)
  assert row['difference'] > 0.01
  assert row['kind'] == 'sample rate'
  assert row['evidence']['values given'] <= host_parity.TIGHT


@pytest.mark.slow
def test_leaves_nothing_behind():
  done = subprocess.run(
    [sys.executable, '-c', _RENDER_OFTEN, *LEAKS],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  grown = json.loads(done.stdout.splitlines()[-1])
  assert list(grown) == LEAKS
  for uri, (megabytes, *files_and_threads) in grown.items():
    assert megabytes < 5.0, uri
    assert not any(files_and_threads), (uri, files_and_threads)
