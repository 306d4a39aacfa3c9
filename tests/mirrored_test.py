"""Several replicas of one process, as GPUs are: equal to one."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

WORKER = pathlib.Path(__file__).with_name('mirrored_worker.py')


@pytest.mark.slow
@pytest.mark.parametrize('by_whole', [False, True])
def test_two_replicas_are_one(tmp_path, by_whole):
  results, weights = [], []
  for n_replicas in (1, 2):
    out = tmp_path / f'{n_replicas}.npz'
    words = {'n_replicas': n_replicas, 'out': str(out), 'by_whole': by_whole}
    found = subprocess.run(
      [sys.executable, str(WORKER), json.dumps(words)],
      capture_output=True,
      text=True,
      timeout=240,
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
    )
    assert found.returncode == 0, found.stderr[-5000:]
    result = json.loads(found.stdout.splitlines()[-1])
    # Replicas that train each by itself would seem to be right.
    assert result['replicas'] == n_replicas
    assert result['shapes'] == [[4 // n_replicas, 2048]]
    assert result['alike']
    results.append(result)
    with np.load(out) as file:
      weights.append([file[key] for key in file.files])
  alone, two = results
  np.testing.assert_allclose(two['losses'], alone['losses'], atol=1e-6)
  assert alone['losses'][-1] < alone['losses'][0]
  for found, expected in zip(two['ways'], alone['ways'], strict=True):
    assert found[:2] == expected[:2]
    np.testing.assert_allclose(found[2], expected[2], rtol=3e-6)
  assert alone['ways'][1][1] == 6  # a gradient to the audio, each step
  for ours, theirs in zip(*weights, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
