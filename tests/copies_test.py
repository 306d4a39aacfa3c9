"""What goes between a GPU and processors in a step: no more than it must."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

WORKER = pathlib.Path(__file__).with_name('copies_worker.py')
# What the test puts in, what comes out of the step, and an order of ops.
_NOT_OF_PLUGINS = ('batch', 'Identity', 'AddN', 'GroupCrossDevice')


@pytest.mark.slow
def test_audio_between_two_plugins_stays_where_they_are():
  found = subprocess.run(
    [sys.executable, str(WORKER)],
    capture_output=True,
    text=True,
    timeout=240,
    env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
  )
  assert found.returncode == 0, found.stderr[-5000:]
  sent = {'CPU:0': [], 'CPU:1': []}  # processors, and what stands for a GPU
  for place, kind, name in json.loads(found.stdout.splitlines()[-1]):
    if kind == 'float32' and not name.startswith(_NOT_OF_PLUGINS):
      sent[place].append(name)
  # Controls of each, and the gradient to the last output.
  assert len(sent['CPU:1']) == 3, sent
  # The last output, and the gradient to the controls of each.
  assert len(sent['CPU:0']) == 3, sent
