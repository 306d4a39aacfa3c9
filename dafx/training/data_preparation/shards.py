"""Pairs that were prepared, as TFRecord files of each split."""

import pathlib

from dafx.audio import disk
from dafx.training import data
from dafx.training.data import shard_index, tfrecords
from dafx.training.data_preparation import files


def write_tfrecords(output_dir: pathlib.Path, n_shards: int = 1):
  """Writes train and valid as TFRecord, if their pairs have changed.

  Args:
    output_dir: Where the pairs are; gets <split>.tfrecord, or as many shards,
      and tfrecords.json.
    n_shards: Files of each split.

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
    paths = shard_index.shard_paths(path, n_shards)

    def of_now(content=content, paths=paths):
      sizes = [p.stat().st_size for p in paths if p.exists()]
      return {'pairs': content, 'n_bytes': sum(sizes)} if sizes else None

    if of_now() is None or state.get(split) != of_now():
      found = data.find_pairs(output_dir / split)
      n_bytes = sum(8 * pair.n_samples * pair.n_channels for pair in found)
      disk.check_room(output_dir, n_bytes, path.name)
      tfrecords.write_tfrecord(found, path, n_shards)
      state[split] = of_now()
      files.write_json(state_path, state)
