"""Test of the demo music's rendering; conftest.py says where it is left out."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CLIP = 'test/alla_turca.flac'  # the piece of the fewest parts


@pytest.mark.slow
def test_the_script_renders_the_clip_that_ships(tmp_path):
  result = subprocess.run(
    [
      sys.executable,
      _ROOT / 'scripts/render_demo_music.py',
      f'--output_dir={tmp_path}',
      '--piece=alla_turca',
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  assert {path.name for path in tmp_path.rglob('*.*')} == {'alla_turca.flac'}
  rendered, _ = soundfile.read(tmp_path / _CLIP)
  shipped, _ = soundfile.read(
    _ROOT / 'dafx/training/data_preparation/demo_audio' / _CLIP
  )
  # FluidSynth 2.3 gives the same samples; leave room for other versions.
  error = rendered - shipped
  assert np.sum(error**2) < 1e-3 * np.sum(shipped**2)
