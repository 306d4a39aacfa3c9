"""Pairs made on Apache Beam, and by several processes: the same bytes."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from dafx.training.data_preparation import beam, mastering, side_by_side

RATE = 22050
IN_MEMORY = ('direct_running_mode=in_memory',)
IN_TWO_PROCESSES = (
  'direct_running_mode=multi_processing',
  'direct_num_workers=2',
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def mixes(tmp_path_factory):
  folder = tmp_path_factory.mktemp('mixes')
  rng = np.random.default_rng(0)
  for split in ('train', 'valid', 'test'):
    (folder / split).mkdir()
    for i in range(2):
      mix = 0.1 * rng.standard_normal((RATE, 2))
      soundfile.write(folder / split / f'{split}_{i}.wav', mix, RATE)
  return folder


def prepare(mixes, output, workers):
  counts = {'train': 3, 'valid': 1, 'test': 1}
  mastering.prepare_from_mixes(mixes, output, RATE, 1, counts, workers=workers)


def contents(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file() and path.name != '.lock'
  }


@pytest.fixture(scope='module')
def expected(mixes, tmp_path_factory):
  output = tmp_path_factory.mktemp('alone')
  prepare(mixes, output, side_by_side.HERE)
  found = contents(output)
  assert 'manifest.json' in found and len(found) == 1 + 2 * (6 + 2 + 2)
  return found


@pytest.mark.parametrize('options', [IN_MEMORY, IN_TWO_PROCESSES])
def test_pairs_made_on_beam_are_the_same_to_the_byte(
  mixes, expected, tmp_path, options
):
  prepare(mixes, tmp_path, beam.Beam(tmp_path, 'DirectRunner', options))
  assert contents(tmp_path) == expected


def test_two_processes_make_the_same_bytes(mixes, expected, tmp_path):
  prepare(mixes, tmp_path, side_by_side.Processes(2))
  assert contents(tmp_path) == expected


def test_what_was_interrupted_goes_on_on_beam(mixes, expected, tmp_path):
  workers = beam.Beam(tmp_path, 'DirectRunner', IN_MEMORY)
  broken = mixes / 'train' / 'zz_silent.wav'
  soundfile.write(broken, np.zeros((RATE, 2)), RATE)
  try:
    with pytest.raises(ValueError, match='zz_silent.wav is silent'):
      prepare(mixes, tmp_path, workers)
  finally:
    broken.unlink()
  begun = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.flac')}
  assert begun
  prepare(mixes, tmp_path, workers)
  assert contents(tmp_path) == expected
  for path, time_ns in begun.items():
    assert path.stat().st_mtime_ns == time_ns


def test_a_fault_of_a_job_comes_as_it_was_raised(tmp_path):
  workers = beam.Beam(tmp_path, 'DirectRunner', IN_MEMORY)
  with pytest.raises(FileNotFoundError, match='none.json'):
    list(workers.run_all(pathlib.Path.read_text, [(tmp_path / 'none.json',)]))
  with pytest.raises(ValueError, match='Expecting value'):
    list(workers.run_all(json.loads, [('1',), ('no',), ('2',)]))
  assert list(workers.run_all(json.loads, [('1',), ('[2]',)])) == [1, [2]]
  assert list(workers.run_all(json.loads, [])) == []
  assert not list(tmp_path.iterdir())


def command(*words):
  script = (
    'from dafx.commands import dafx_prepare as c; c.console_entry_point()'
  )
  return subprocess.run(
    [sys.executable, '-c', script, *map(str, words)],
    capture_output=True,
    text=True,
    check=False,
  )


def test_the_command_makes_the_same_on_beam(tmp_path):
  rng = np.random.default_rng(0)
  for i in range(6):
    audio = 0.1 * rng.standard_normal(RATE // 2)
    for side, gain in (('dry', 1.0), ('wet', 0.5)):
      path = tmp_path / side / f'{i}.wav'
      path.parent.mkdir(exist_ok=True)
      soundfile.write(path, gain * audio, RATE)
  found = []
  for name, words in (
    ('alone', []),
    ('beam', ['--runner=DirectRunner', f'--runner_options={IN_MEMORY[0]}']),
  ):
    result = command(
      'folder',
      f'--input={tmp_path / "dry"}',
      f'--target={tmp_path / "wet"}',
      f'--output_dir={tmp_path / name}',
      '--tfrecord',
      '--tfrecord_shards=2',
      *words,
    )
    assert result.returncode == 0, result.stderr
    found.append(contents(tmp_path / name))
  assert found[0] == found[1]
  assert any('.tfrecord' in name for name in found[0])
