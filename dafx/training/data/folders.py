"""Pairs of input and target audio in folders.

They are split by file:

    <path>/train/input/song.flac    <path>/train/target/song.flac
    <path>/valid/input/...          <path>/valid/target/...
    <path>/test/...

What is labelled in a pair lies beside them, in <path>/test/labels/speech.csv.
"""

import abc
import dataclasses
import os
import pathlib

import gin
import numpy as np

from dafx import _folders
from dafx.audio import files as audio_files
from dafx.audio import scans, sources
from dafx.training import labels, reading
from dafx.training.data import provider

# What the gin files of tasks take the folder of pairs by.
PATH_FLAG = '--gin_param="data_path = \'<folder>\'"'


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two files of one length: what goes in and what shall come out.

  Attributes:
    name: Path of the files below their folders, without suffix.
    input_path: File of the input.
    target_path: File of the target.
    sample_rate: Of both, in Hz.
    n_channels: Of both.
    n_samples: Of both, per channel.
    events: What is labelled in them.
  """

  name: str
  input_path: pathlib.Path
  target_path: pathlib.Path
  sample_rate: int
  n_channels: int
  n_samples: int
  events: tuple[labels.Event, ...] = ()


def find_pairs(folder: str | os.PathLike) -> list[Pair]:
  """Returns the pairs below `folder`/input and `folder`/target, by name.

  Args:
    folder: Folder of one split.

  Raises:
    FileNotFoundError: A folder is missing or holds no audio.
    ValueError: Files without partner, two of one name, or partners that differ
      in rate, channels or length; the message names all of them.
  """
  folder = pathlib.Path(folder)
  files: dict[str, dict[str, pathlib.Path]] = {'input': {}, 'target': {}}
  faults = []
  for side, by_name in files.items():
    for path in audio_files.find_audio(folder / side):
      name = path.relative_to(folder / side).with_suffix('').as_posix()
      if name in by_name:
        faults.append(f'{path} has the name of {by_name[name]}')
      by_name[name] = path
  for side, other in (('input', 'target'), ('target', 'input')):
    for name in sorted(set(files[side]) - set(files[other])):
      faults.append(f'{files[side][name]} has no partner in {folder / other}')
  pairs = []
  for name in sorted(set(files['input']) & set(files['target'])):
    paths = files['input'][name], files['target'][name]
    infos = [audio_files.read_info(path) for path in paths]
    faults += reading.differences(paths, infos)
    form = infos[0].samplerate, infos[0].channels, infos[0].frames
    events = labels.read_events(labels.events_path(folder, name))
    pairs.append(Pair(name, *paths, *form, events))
  if faults:
    raise ValueError(
      f'{len(faults)} faults in the pairs of {folder}:\n  '
      + '\n  '.join(faults)
      + '\nMend these files, or move them elsewhere; dafx_prepare makes pairs '
      'that fit.'
    )
  return pairs


class PairProvider(provider.CropProvider):
  """A provider of pairs that lie in a folder, by split.

  A subclass finds them (`_find`) and says where they are (`_place`).

  Args:
    As of `FolderProvider`.

  Attributes:
    pairs: What was found, each with `sample_rate`, `n_channels` and
      `n_samples`.
  """

  def __init__(
    self,
    path: str = gin.REQUIRED,
    split: str = 'train',
    sample_rate: int = 16000,
    n_samples: int = 32000,
    n_channels: int = 1,
    preprocessor=None,
    augmentation=None,
    fade_samples: int = 0,
    crops_per_file: int = 1,
  ):
    super().__init__(
      sample_rate,
      n_samples,
      n_channels,
      preprocessor,
      augmentation,
      fade_samples,
      crops_per_file,
    )
    self.pairs = self._find(_folders.expand_user(path, PATH_FLAG), split)

  @abc.abstractmethod
  def _find(self, path: pathlib.Path, split: str) -> list:
    """Returns the pairs of a split."""

  @abc.abstractmethod
  def _place(self, pair) -> str:
    """Returns where a pair is, for messages."""

  @abc.abstractmethod
  def _jobs(self) -> list[scans.Job]:
    """Returns what is to be looked at before the pairs are used."""

  @property
  def n_items(self) -> int:
    """Number of pairs."""
    return len(self.pairs)

  def _length(self, index):
    return self.pairs[index].n_samples

  def _name(self, index):
    return self._place(self.pairs[index])

  def _check(self):
    faults = [
      f'{self._place(pair)}: {value} {what}, not {wanted}'
      for pair in self.pairs
      for what, value, wanted in (
        ('Hz', pair.sample_rate, self.sample_rate),
        ('channels', pair.n_channels, self.n_channels),
      )
      if value != wanted
    ]
    if faults:
      raise ValueError(
        f'{len(faults)} pairs do not fit the settings:\n  '
        + '\n  '.join(faults)
        + '\nPrepare them again (dafx_prepare, with '
        f'--sample_rate={self.sample_rate} --n_channels={self.n_channels}), or '
        'set the macro sample_rate, which the model shares, or '
        f'{type(self).__name__}.n_channels.'
      )
    scans.check(self._jobs())


@gin.register(module='dafx.training.data')
class FolderProvider(PairProvider):
  """Crops of pairs of audio files.

  Args:
    path: Folder with the splits.
    split: Which of them: 'train', 'valid' or 'test'.
    sample_rate: Rate of batches, in Hz. Their files must have it.
    n_samples: Length of a crop; silence follows a file that is shorter.
    n_channels: Channels of batches. Their files must have them.
    preprocessor: What is done to both sides first, a `Preprocessor`; None for
      nothing.
    augmentation: How crops are varied where they are drawn at random, such as
      `NoiseAndGain`. None for not at all.
    fade_samples: Length of the fades at both ends of a crop.
    crops_per_file: Without shuffling, as in validation, so many crops are taken
      of each file, spread evenly from its first sample to its last; fewer where
      fewer cover it, and the beginning alone if it is 1.

  Raises:
    FileNotFoundError: A folder is missing or empty.
    ValueError: Pairs that do not fit together.

  Examples:
    >>> import tempfile
    >>> import numpy as np
    >>> from dafx.audio import files
    >>> from dafx.training import data
    >>> folder = tempfile.mkdtemp()
    >>> for side in ('input', 'target'):
    ...   path = f'{folder}/train/{side}/song.wav'
    ...   files.write(path, np.zeros([32000, 1]), sample_rate=16000)
    >>> pairs = data.find_pairs(f'{folder}/train')
    >>> isinstance(pairs[0], data.Pair), pairs[0].n_samples
    (True, 32000)
    >>> songs = data.FolderProvider(folder, sample_rate=16000, n_samples=8000)
    >>> songs.features
    {'audio': [8000], 'target': [8000]}
    >>> data.write_tfrecord(pairs, f'{folder}/train.tfrecord')
    >>> shard = data.ShardProvider(folder, sample_rate=16000, n_samples=8000)
    >>> [item.name for item in shard.items()]
    ['song']
  """

  def _find(self, path, split):
    try:
      return find_pairs(path / split)
    except FileNotFoundError as error:
      raise FileNotFoundError(
        f'{error} `dafx_prepare --help` says how pairs are made; '
        f'{type(self).__name__}.path (the macro data_path) says where they are.'
      ) from error

  def _place(self, pair):
    return str(pair.input_path)

  def _read(self, index, start, n_samples):
    pair = self.pairs[index]
    paths = pair.input_path, pair.target_path
    return np.stack([audio_files.read(p, start, n_samples)[0] for p in paths])

  def _jobs(self):
    return [
      scans.of_file(path, pair.sample_rate)
      for pair in self.pairs
      for path in (pair.input_path, pair.target_path)
    ]

  def items(self) -> list[provider.Item]:
    """Returns the files, at their own rates and with all their channels."""
    scans.check(self._jobs())
    return [
      provider.Item(
        name=pair.name,
        input=sources.from_file(pair.input_path),
        target=sources.from_file(pair.target_path),
        events=pair.events,
        version=reading.version(pair.input_path, pair.target_path),
      )
      for pair in self.pairs
    ]
