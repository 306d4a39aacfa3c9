"""What users met with work that ends in the middle: kill -9, a power cut.

Kind: what is half written counts for whole, or what was done is done again in
another way. `--kills=20` kills each work as often, not 5 times.
"""

import json
import os
import pathlib
import subprocess
import sys

import killing
import numpy as np
import pytest
import tensorflow as tf

from dafx.training import data

ROOT = pathlib.Path(__file__).parents[2]


def files_in(folder):
  """Returns contents by name, but for checkpoints, summaries and leavings."""
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
    and not path.name.startswith(('.', 'ckpt-', 'events.out', 'operative_'))
  }


def weights_in(folder):
  """Returns all values of all checkpoints, by checkpoint and name."""
  found = {}
  for path in folder.rglob('ckpt-*.index'):
    reader = tf.train.load_checkpoint(str(path.with_suffix('')))
    place = path.relative_to(folder).with_suffix('').as_posix()
    for name in reader.get_variable_to_shape_map():
      if '/' in name:  # not the graph of objects, whose names are counted
        found[place, name] = reader.get_tensor(name)
  return found


@pytest.mark.slow
@pytest.mark.parametrize('work', killing.WORKS)
def test_killed_at_random_it_goes_on_as_if_it_had_not_been(
  work, tmp_path, pytestconfig
):
  count = pytestconfig.getoption('kills')
  result = subprocess.run(
    [sys.executable, killing.__file__, work, str(count), '0', tmp_path],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    errors='replace',
  )
  assert not result.returncode, result.stderr[-3000:]
  said = json.loads(result.stdout)
  assert said['killed'] == count
  whole = tmp_path / 'whole'
  ours, weights = files_in(whole), weights_in(whole)
  assert (work == 'train') == bool(weights)
  assert work == 'train' or len(ours) > 4
  for run in range(said['runs']):
    folder = tmp_path / f'killed-{run}'
    assert files_in(folder) == ours
    theirs = weights_in(folder)
    assert theirs.keys() == weights.keys()
    for key, value in weights.items():
      np.testing.assert_array_equal(theirs[key], value, str(key))


def test_what_is_written_again_is_the_same_in_any_process(tmp_path):
  """Features of a record are a map, whose order is protobuf's own."""
  killing.make_own(tmp_path / 'train')
  data.write_tfrecord(data.find_pairs(tmp_path / 'train'), tmp_path / 'a')
  for record in tf.data.TFRecordDataset(str(tmp_path / 'a')):
    features = tf.train.Example.FromString(record.numpy()).features.feature
    places = [record.numpy().index(name.encode()) for name in sorted(features)]
    assert places == sorted(places)
