"""Recordings of an instrument with pitch and loudness, in TFRecord files."""

import dataclasses
import os
import pathlib
import re
import weakref
from collections.abc import Mapping, Sequence

import gin
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from dafx import _folders
from dafx.audio import disk, sources
from dafx.training import reading
from dafx.training.data import provider, tfrecords

# What a record holds, as DDSP's `ddsp_prepare_tfrecord` writes it.
CURVES = ('f0_hz', 'f0_confidence', 'loudness_db')


def record_of(example: bytes) -> dict[str, np.ndarray]:
  """Reads what `write_examples` or DDSP wrote.

  Args:
    example: A record.

  Returns:
    Lists of numbers by name.
  """
  features = tf.train.Example.FromString(example).features.feature
  return {
    name: np.array(feature.float_list.value, np.float32)
    for name, feature in features.items()
    if feature.float_list.value
  }


def write_examples(
  examples: Sequence[Mapping[str, np.ndarray]], path: str | os.PathLike
):
  """Writes records that DDSP's TFRecordProvider reads too, whole or not at all.

  Args:
    examples: Numbers by name, such as 'audio' and those of `CURVES`.
    path: The file.

  Examples:
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from dafx.training import data
    >>> curves = {key: np.ones(250) for key in data.CURVES}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   path = pathlib.Path(folder) / 'train.tfrecord'
    ...   data.write_examples([{'audio': np.zeros(16000), **curves}], path)
    ...   provider = data.InstrumentProvider(folder, n_samples=16000)
    ...   batch = next(iter(provider.get_batch(2)))
    >>> batch['f0_hz'].shape
    TensorShape([2, 250, 1])
  """
  with (
    disk.replacing(path) as temporary,
    tf.io.TFRecordWriter(os.fspath(temporary)) as writer,
  ):
    for example in examples:
      features = {
        name: tf.train.Feature(float_list=tf.train.FloatList(value=values))
        for name, values in example.items()
      }
      message = tf.train.Example(features=tf.train.Features(feature=features))
      writer.write(message.SerializeToString())


@dataclasses.dataclass(frozen=True)
class _Place:
  """Where a record lies."""

  path: pathlib.Path
  number: int
  start: int
  n_bytes: int

  def __str__(self) -> str:
    """Returns what it is called in messages."""
    return f'record {self.number} of {self.path}'


@gin.register(module='dafx.training.data')
class InstrumentProvider(provider.CropProvider):
  """Recordings of an instrument, with the pitch and loudness of each frame.

  A batch has 'audio', 'target', which is the same, 'f0_hz', 'f0_confidence' and
  'loudness_db'. Records are those of `dafx_prepare solo`, or of DDSP's
  `ddsp_prepare_tfrecord`; an item is a part of one that has `n_samples`.

  Args:
    path: Folder of the records, or a file; of a folder those whose name begins
      with the split are taken, such as train.tfrecord-00000-of-00010.
    split: Which of them: 'train', 'valid' or 'test'.
    sample_rate: Rate of the audio, in Hz. The records must have it.
    frame_rate: Frames per second. The records must have it.
    n_samples: Length of a crop, in whole frames.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: Records that cannot be read, or of another length, rate or frame
      rate; the message says which.
  """

  frame_rate: int

  def __init__(
    self,
    path: str | os.PathLike = gin.REQUIRED,
    split: str = 'train',
    sample_rate: int = 16000,
    frame_rate: int = 250,
    n_samples: int = 64000,
  ):
    super().__init__(sample_rate, n_samples, n_channels=1)
    if frame_rate < 1 or sample_rate % frame_rate:
      raise ValueError(
        f'frame_rate={frame_rate} does not divide sample_rate={sample_rate}: '
        'a frame must hold whole samples, as with 250 at 16000 or 48000 Hz.'
      )
    self.frame_rate = frame_rate
    self.hop_size = sample_rate // frame_rate
    n_frames = n_samples // self.hop_size
    if n_frames < 1 or n_samples % self.hop_size:
      raise ValueError(
        f'n_samples={n_samples} must be a multiple of {self.hop_size}, the '
        f'samples of a frame, as {max(n_frames, 1) * self.hop_size} is.'
      )
    self._files: dict[pathlib.Path, int] = {}
    self._places = self._find(_folders.expand_user(path), split)
    first = self._record(self._places[0])
    self._check_record(first)
    n_crops = len(first['audio']) // n_samples
    self._crops = [(p, k) for p in self._places for k in range(n_crops)]

  def _find(self, path, split):
    paths = [path]
    if path.is_dir():
      name = re.compile(rf'{re.escape(split)}\.tfrecord(-\d+-of-\d+)?')
      paths = sorted(p for p in path.iterdir() if name.fullmatch(p.name))
    if not paths or not paths[0].exists():
      raise FileNotFoundError(
        f'{path}: there is no {split}.tfrecord; `dafx_prepare solo` writes it.'
      )
    places = []
    for file in paths:
      opened = open(file, 'rb')
      weakref.finalize(self, opened.close)
      self._files[file] = opened.fileno()
      try:
        places += [
          _Place(file, number, start, len(record))
          for number, (record, start) in enumerate(tfrecords.records(file))
        ]
      except tf.errors.OpError as error:
        raise ValueError(
          f'{file} is damaged or no TFRecord file; write it again. {error}'
        ) from error
    if not places:
      raise ValueError(f'{paths[0]} is empty; write it again.')
    return places

  def _record(self, place):
    number = self._files[place.path]
    content = os.pread(number, place.n_bytes, place.start)
    try:
      return record_of(content)
    except DecodeError as error:
      raise ValueError(f'{place} is damaged; write it again.') from error

  def _check_record(self, record):
    """Raises ValueError for a record that does not fit the arguments."""
    place = self._places[0].path
    missing = [key for key in ('audio', *CURVES) if key not in record]
    if missing:
      raise ValueError(
        f'{place} lacks {", ".join(missing)}; it has {", ".join(record)}. '
        '`dafx_prepare solo` and `ddsp_prepare_tfrecord` write these.'
      )
    n_samples, n_frames = len(record['audio']), len(record['f0_hz'])
    # DDSP's centred records have a frame more.
    expected = n_samples * self.frame_rate / self.sample_rate
    if n_frames - expected not in (0, 1):
      found = n_frames * self.sample_rate / n_samples
      raise ValueError(
        f'The records of {place} have {n_samples} samples and {n_frames} '
        f'frames. That is {found:g} frames per second at {self.sample_rate} '
        f'Hz, and {self.frame_rate} are asked for. Set sample_rate and '
        'frame_rate as they were prepared, or prepare them anew.'
      )
    if n_samples < self.n_samples:
      raise ValueError(
        f'The records of {place} have {n_samples} samples, which is less than '
        f'n_samples={self.n_samples}. Set n_samples to that, or prepare longer '
        'ones.'
      )

  @property
  def n_items(self) -> int:
    """Crops of an epoch."""
    return len(self._crops)

  @property
  def features(self) -> dict[str, list[int]]:
    """Audio, and curves of one value per frame."""
    frames = [self.n_samples // self.hop_size, 1]
    return {**super().features, **dict.fromkeys(CURVES, frames)}

  def _length(self, index):
    return self.n_samples

  def _name(self, index):
    return str(self._crops[index][0])

  def _part(self, index):
    """Returns the features of a crop, each [n]."""
    place, number = self._crops[index]
    record = self._record(place)
    n_frames = self.n_samples // self.hop_size
    parts = {key: record[key] for key in ('audio', *CURVES)}
    for key, values in parts.items():
      size = self.n_samples if key == 'audio' else n_frames
      parts[key] = values[number * size : (number + 1) * size]
      if len(parts[key]) != size or not np.isfinite(parts[key]).all():
        raise ValueError(
          f'{key!r} of {place} has another length than in the first one, or '
          'values that are not finite; prepare it again.'
        )
    return parts

  def _read(self, index, start, n_samples):
    audio = self._part(index)['audio'][start : start + n_samples]
    return np.stack([audio[:, np.newaxis]] * 2)

  def _more(self, index):
    part = self._part(index)
    return {key: part[key] for key in CURVES}

  def items(self) -> list[provider.Item]:
    """Returns the records, each as input and target."""
    found = []
    for position, place in enumerate(self._places):
      audio = self._record(place)['audio'][:, np.newaxis]
      source = sources.from_array(audio, self.sample_rate)
      name = f'{place.path.name}_{position}'
      version = reading.version(place.path)
      found.append(
        provider.Item(name, input=source, target=source, version=version)
      )
    return found
