"""Brings pairs of files into the layout that training reads."""

import pathlib
import zlib

import soundfile

from dafx.training import data, train_util
from dafx.training.data_preparation import files


def _assign_splits(pairs, output_dir):
  """Returns {split: pairs}; those that lie in a split already stay in it."""
  splits = {'test': [], 'valid': [], 'train': []}
  new = []
  for pair in sorted(pairs, key=lambda p: zlib.crc32(p.name.encode())):
    for split, members in splits.items():
      if files.find_written(output_dir / split / 'input' / pair.name):
        members.append(pair)
        break
    else:
      new.append(pair)
  tenth = max(1, len(pairs) // 10)
  for pair in new:
    unfilled = [s for s in ('test', 'valid') if len(splits[s]) < tenth]
    splits[[*unfilled, 'train'][0]].append(pair)
  return splits


def prepare_from_pairs(
  pairs_dir: pathlib.Path,
  output_dir: pathlib.Path,
  sample_rate: int,
  n_channels: int,
):
  """Brings the user's own pairs into the layout that training reads.

  A tenth of the files goes to `test` and a tenth to `valid`, in the order of a
  hash of their names. What lies in output_dir already stays in its split and as
  it is, so that others can be added.

  Args:
    pairs_dir: Folder with `input` and `target` folders of files of one name.
    output_dir: Gets the pairs; see `dafx.training.data`.
    sample_rate: Rate of train and valid, in Hz; test keeps the files'.
    n_channels: Channels of train and valid.

  Raises:
    FileNotFoundError: There are no pairs.
    ValueError: Pairs that do not fit together, fewer than three, or files in
      output_dir that other settings made.
  """
  pairs = data.find_pairs(pairs_dir)
  if len(pairs) < 3:
    raise ValueError(
      f'{pairs_dir} holds {len(pairs)} pairs; train, valid and test need one '
      'each.'
    )
  for pair in pairs:
    if n_channels not in (1, pair.n_channels):
      raise ValueError(
        f'{pair.input_path} has {pair.n_channels} channels, which cannot '
        f'become n_channels={n_channels}; only a mix to 1 is made.'
      )
  missing = []
  for split, members in _assign_splits(pairs, output_dir).items():
    for pair in members:
      form = sample_rate, n_channels
      if split == 'test':
        form = pair.sample_rate, pair.n_channels
      for side, path in (
        ('input', pair.input_path),
        ('target', pair.target_path),
      ):
        file = output_dir / split / side / pair.name
        if not files.is_there(file, *form):
          missing.append((path, file, form))
  progress = train_util.Progress(len(missing), label='Preparing')
  for path, file, form in missing:
    audio, rate = soundfile.read(path, dtype='float32', always_2d=True)
    files.write_audio(file, files.conform(audio, rate, *form), form[0])
    progress.update(path.name)
  progress.close()
