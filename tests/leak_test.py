"""Instances leave nothing behind: no memory, no file, no thread."""

import json
import subprocess
import sys

import pytest

PLUGINS = (
  'urn:dafx-test:cross',
  'http://calf.sourceforge.net/plugins/MultibandCompressor',
  'http://calf.sourceforge.net/plugins/Reverb',
  'http://lsp-plug.in/plugins/lv2/limiter_mono',
  'http://lsp-plug.in/plugins/lv2/graph_equalizer_x16_stereo',
  'http://invadarecords.com/plugins/lv2/tube/mono',
  'http://drobilla.net/plugins/mda/Delay',
  'http://plugin.org.uk/swh-plugins/gverb',
  'http://gareus.org/oss/lv2/fil4#mono',
  'urn:zamaudio:ZamComp',
)
# In a process of its own, which does nothing else.
PROGRAM = """
import ctypes, gc, json, os, sys, threading
import numpy as np
from dafx import lv2

def held():
  for thread in threading.enumerate():
    if thread.name == 'dafx_instances':  # makes some ahead, and ends
      thread.join()
  gc.collect()
  ctypes.CDLL(None).malloc_trim(0)  # what is free counts as free
  pages = int(open('/proc/self/statm').read().split()[1])
  return (
    pages * os.sysconf('SC_PAGESIZE') / 2**20,
    len(os.listdir('/proc/self/fd')),
    len(os.listdir('/proc/self/task')),
  )

def use(uri):
  renderer = lv2.Renderer(uri, 48000, n_threads=1)
  audio = np.ones((2, 512, max(renderer.n_channels_in, 1)), np.float32)
  renderer.render(audio)
  instance = renderer.new_instance()
  renderer.run(instance, audio[0].T, renderer.default_controls(), 512)
  instance.renew()

n, *uris = sys.argv[1:]
for uri in uris:
  for i in range(int(n)):
    use(uri)
    if i == 100:
      before = held()
  print(json.dumps([uri, before, held()]))
"""


@pytest.mark.slow
def test_instances_leave_nothing_behind():
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, '1000', *PLUGINS],
    capture_output=True,
    text=True,
    check=True,
  )
  lines = done.stdout.splitlines()
  assert len(lines) == len(PLUGINS)
  for line in lines:
    uri, (mib, n_files, n_threads), after = json.loads(line)
    assert after[0] < mib + 5.0, f'{uri}: {after[0] - mib:.1f} MiB'
    assert after[1] <= n_files and after[2] <= n_threads, uri
