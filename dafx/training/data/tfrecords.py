"""Pairs in TFRecord files: one file per split in place of many."""

import contextlib
import dataclasses
import os
import pathlib
import struct
import weakref

import gin
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from dafx.audio import files as audio_files
from dafx.training.data import folders

# A record lies between the length with its checksum and its own checksum.
_HEADER_BYTES = struct.calcsize('<QI')
_FOOTER_BYTES = struct.calcsize('<I')
_MAX_BYTES = 2**31 - 2**20  # a message of protobuf is below 2 GiB


def _records(file: pathlib.Path):
  """Yields (record, its place in the file); TensorFlow checks checksums."""
  place = 0
  dataset = tf.data.TFRecordDataset(os.fspath(file))
  for record in dataset.as_numpy_iterator():
    place += _HEADER_BYTES
    yield record, place
    place += len(record) + _FOOTER_BYTES


@dataclasses.dataclass(frozen=True)
class _Item:
  """What a record holds, and where in the file input and target begin."""

  name: str
  sample_rate: int
  n_channels: int
  n_samples: int
  offsets: tuple[int, int]

  @classmethod
  def parse(cls, record: bytes, place: int):
    feature = tf.train.Example.FromString(record).features.feature
    n_channels = feature['n_channels'].int64_list.value[0]
    sides = [feature[s].bytes_list.value[0] for s in ('audio', 'target')]
    n_bytes = {len(side) for side in sides}
    if len(n_bytes) != 1 or len(sides[0]) % (4 * n_channels):
      raise ValueError('input and target differ in length')
    return cls(
      feature['name'].bytes_list.value[0].decode(),
      feature['sample_rate'].int64_list.value[0],
      n_channels,
      len(sides[0]) // (4 * n_channels),
      tuple(place + record.index(side) for side in sides),
    )


@gin.register(module='dafx.training.tfrecords')
class TFRecordProvider(folders.PairProvider):
  """Crops of pairs stored in TFRecord files; see `write_tfrecord`.

  Only what a crop needs is read, so that a file may be larger than memory.

  Args:
    path: Folder with one `<split>.tfrecord` per split.
    split: Which of them.
    sample_rate: Rate that the records must have, in Hz.
    n_samples: Length of a crop; silence follows a record that is shorter.
    n_channels: Channels that the records must have.
    preprocessor: As of `FolderProvider`.
    augmentation: As of `FolderProvider`.
    fade_samples: As of `FolderProvider`.
    crops_per_file: As of `FolderProvider`.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: Records that do not fit these settings, or cannot be read.
  """

  def _open(self, path, split):
    file = path / f'{split}.tfrecord'
    if not file.exists():
      raise FileNotFoundError(
        f'{file}: there is no such file; dafx_prepare --tfrecord writes it.'
      )
    # Kept open: the file that takes its place may have others' samples here.
    self._file = open(file, 'rb')
    weakref.finalize(self, self._file.close)
    try:
      self.items = [_Item.parse(*found) for found in _records(file)]
    except (tf.errors.OpError, DecodeError, IndexError, ValueError) as error:
      raise ValueError(
        f'{file} is damaged or holds no pairs; write it again (dafx_prepare '
        f'--tfrecord). {type(error).__name__}: {error}'
      ) from error
    if not self.items:
      raise ValueError(
        f'{file} is empty; write it again (dafx_prepare --tfrecord).'
      )
    for item in self.items:
      if (item.sample_rate, item.n_channels) != (
        self.sample_rate,
        self.n_channels,
      ):
        raise ValueError(
          f'{item.name!r} of {file} has {item.sample_rate} Hz and '
          f'{item.n_channels} channels; wanted are {self.sample_rate} Hz '
          f'and {self.n_channels} channels.'
        )

  @property
  def n_items(self) -> int:
    """Number of records."""
    return len(self.items)

  def _length(self, index):
    return self.items[index].n_samples

  def _read(self, index, start, n_samples):
    item = self.items[index]
    shape = (n_samples, item.n_channels)
    sample_bytes = 4 * item.n_channels
    sides = []
    for offset in item.offsets:
      place = offset + sample_bytes * start
      content = os.pread(self._file.fileno(), sample_bytes * n_samples, place)
      sides.append(np.frombuffer(content, '<f4').reshape(shape))
    return np.stack(sides)


def write_tfrecord(pairs: list[folders.Pair], path: str | os.PathLike):
  """Writes pairs into a TFRecord file, whole, under a temporary name first.

  Each record holds 'name', 'sample_rate', 'n_channels', 'audio' and 'target' as
  little-endian float32, samples before channels, and for what is labelled in it
  'event_kind', 'event_start' and 'event_stop', in samples.

  Args:
    pairs: What to write.
    path: The file.

  Raises:
    ValueError: A pair that is damaged, or too long for a record.
  """

  def feature(value):
    values = value if isinstance(value, list) else [value]
    if all(isinstance(v, bytes) for v in values):
      return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

  for pair in pairs:
    if 8 * pair.n_samples * pair.n_channels > _MAX_BYTES:
      raise ValueError(
        f'{pair.name!r} has {pair.n_samples} samples; a record holds up to '
        f'{_MAX_BYTES // (8 * pair.n_channels)}. Cut it, or train on the files.'
      )
  temporary = f'{os.fspath(path)}.partial'
  with contextlib.ExitStack() as stack:
    stack.callback(lambda: pathlib.Path(temporary).unlink(missing_ok=True))
    writer = stack.enter_context(tf.io.TFRecordWriter(temporary))
    for pair in pairs:
      sides = [
        audio_files.read(path)[0]
        for path in (pair.input_path, pair.target_path)
      ]
      values = dict(
        name=pair.name.encode(),
        sample_rate=pair.sample_rate,
        n_channels=pair.n_channels,
        audio=sides[0].astype('<f4').tobytes(),
        target=sides[1].astype('<f4').tobytes(),
        event_kind=[event.kind.encode() for event in pair.events],
        event_start=[event.start for event in pair.events],
        event_stop=[event.stop for event in pair.events],
      )
      features = {key: feature(value) for key, value in values.items()}
      example = tf.train.Example(features=tf.train.Features(feature=features))
      writer.write(example.SerializeToString())
    writer.close()
    os.replace(temporary, path)
