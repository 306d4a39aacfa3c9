"""Pairs that were prepared, as one TFRecord file for each split."""

import pathlib

from dafx.audio import disk
from dafx.training import data
from dafx.training.data import tfrecords
from dafx.training.data_preparation import files


def write_tfrecords(output_dir: pathlib.Path):
  """Writes train and valid as TFRecord, if their pairs have changed.

  Args:
    output_dir: Where the pairs are; gets <split>.tfrecord and tfrecords.json.

  Raises:
    OSError: No room on the disk.
  """
  state_path = output_dir / 'tfrecords.json'
  state = files.read_state(state_path)
  notes = files.Manifest(output_dir).pairs
  for split in ('train', 'valid'):
    path = output_dir / f'{split}.tfrecord'
    content = [
      [key, note['input']['sha256'], note['target']['sha256']]
      for key, note in sorted(notes.items())
      if note['split'] == split
    ]
    size = path.stat().st_size if path.exists() else None
    if size is None or state.get(split) != {'pairs': content, 'n_bytes': size}:
      found = data.find_pairs(output_dir / split)
      n_bytes = sum(8 * pair.n_samples * pair.n_channels for pair in found)
      disk.check_room(output_dir, n_bytes, path.name)
      tfrecords.write_tfrecord(found, path)
      state[split] = {'pairs': content, 'n_bytes': path.stat().st_size}
      files.write_json(state_path, state)
