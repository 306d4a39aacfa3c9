"""Pairs in shards, which are TFRecord files: one per split in place of many."""

import os
import pathlib
import struct
import weakref
from collections.abc import Iterator

import gin
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from dafx.audio import disk, scans, sources
from dafx.audio import files as audio_files
from dafx.training import labels, reading
from dafx.training.data import folders, provider, shard_index

# A record lies between the length with its checksum and its own checksum.
_HEADER_BYTES = struct.calcsize('<QI')
_FOOTER_BYTES = struct.calcsize('<I')
_MAX_BYTES = 2**31 - 2**20  # a message of protobuf is below 2 GiB
_BLOCK = 2**16  # samples that are read at a time
_SIDES = ('input', 'target')


def records(file: pathlib.Path) -> Iterator[tuple[bytes, int]]:
  """Yields (record, its place in the file); TensorFlow checks checksums."""
  place = 0
  dataset = tf.data.TFRecordDataset(os.fspath(file))
  for record in dataset.as_numpy_iterator():
    place += _HEADER_BYTES
    yield record, place
    place += len(record) + _FOOTER_BYTES


def _parse(record: bytes, place: int, path: pathlib.Path):
  """Returns what a record holds, and where."""
  feature = tf.train.Example.FromString(record).features.feature
  n_channels = feature['n_channels'].int64_list.value[0]
  sample_rate = feature['sample_rate'].int64_list.value[0]
  if n_channels < 1 or sample_rate < 1:
    raise ValueError(f'{n_channels} channels at {sample_rate} Hz')
  sides = [feature[s].bytes_list.value[0] for s in ('audio', 'target')]
  n_bytes = {len(side) for side in sides}
  if len(n_bytes) != 1 or len(sides[0]) % (4 * n_channels):
    raise ValueError('input and target differ in length')
  if not sides[0]:
    raise ValueError('a pair without samples')
  name = feature['name'].bytes_list.value[0].decode('utf-8', 'surrogateescape')
  if not disk.is_safe_name(name):  # files of an evaluation are called so
    raise ValueError(f'{name!r} is no name of a pair')
  events = zip(
    feature['event_kind'].bytes_list.value,
    feature['event_start'].int64_list.value,
    feature['event_stop'].int64_list.value,
    strict=True,
  )
  return shard_index.Record(
    path,
    name,
    sample_rate,
    n_channels,
    len(sides[0]) // (4 * n_channels),
    (place + record.index(sides[0]), place + record.index(sides[1])),
    place + len(record),
    tuple(labels.Event(kind.decode(), *ends) for kind, *ends in events),
  )


def _read_records(path, file):
  """Returns the records of a file, from its index where that is right."""
  indexed = shard_index.read(path, file)
  if indexed is not None:
    return indexed
  try:
    return [_parse(*record, path) for record in records(path)]
  except (tf.errors.OpError, DecodeError, IndexError, ValueError) as error:
    raise ValueError(
      f'{path} is damaged or holds no pairs; write it again (dafx_prepare '
      f'--tfrecord). {type(error).__name__}: {error}'
    ) from error


@gin.register(module='dafx.training.data')
class ShardProvider(folders.PairProvider):
  """Crops of pairs stored in TFRecord files; see `write_tfrecord`.

  Only what a crop needs is read, so that a file may be larger than memory.

  Args:
    path: Folder with one `<split>.tfrecord` per split, or with several files
      `<split>.tfrecord-00000-of-00004`. Beside such shards lies an index, so
      that they need not be read whole at each start.
    split: Which of them.
    sample_rate: Rate of batches, in Hz. Their records must have it.
    n_samples: Length of a crop; silence follows a record that is shorter.
    n_channels: Channels of batches. Their records must have them.
    preprocessor: As of `FolderProvider`.
    augmentation: As of `FolderProvider`.
    fade_samples: As of `FolderProvider`.
    crops_per_file: As of `FolderProvider`.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: Records that cannot be read.
  """

  def _find(self, path, split):
    paths = shard_index.find(path, split)
    self._files = {}
    found = []
    for file in paths:
      # Kept open: the file that takes its place may have others' samples here.
      opened = open(file, 'rb')
      weakref.finalize(self, opened.close)
      self._files[file] = opened.fileno()
      found += _read_records(file, opened.fileno())
    if not found:
      raise ValueError(
        f'{paths[0]} is empty; write it again (dafx_prepare --tfrecord).'
      )
    if len(paths) > 1:  # in the order of a single file
      found.sort(key=lambda record: record.name)
    return found

  def _place(self, pair):
    return f'{pair.name!r} of {pair.path}'

  def _read_side(self, record, side, start, n_samples):
    """Returns a part of input (side 0) or target, [n_samples, n_channels]."""
    sample_bytes = 4 * record.n_channels
    place = record.offsets[side] + sample_bytes * start
    file = self._files[record.path]
    content = os.pread(file, sample_bytes * n_samples, place)
    audio = np.frombuffer(content, '<f4').reshape(n_samples, record.n_channels)
    name = f'The {_SIDES[side]} of {self._place(record)}'
    audio_files.check_finite(audio, record.sample_rate, start, name)
    return audio

  def _read(self, index, start, n_samples):
    record = self.pairs[index]
    return np.stack(
      [self._read_side(record, side, start, n_samples) for side in (0, 1)]
    )

  def _jobs(self):
    return [
      scans.Job(
        record.path,
        self._source(record, side).blocks,
        record.sample_rate,
        f'{record.name} ({_SIDES[side]})',
      )
      for record in self.pairs
      for side in (0, 1)
    ]

  def _source(self, record, side):
    """Returns one side of a record as a source."""

    def blocks():
      for start in range(0, record.n_samples, _BLOCK):
        n_samples = min(_BLOCK, record.n_samples - start)
        yield self._read_side(record, side, start, n_samples)

    form = record.sample_rate, record.n_samples, record.n_channels
    return sources.Source(*form, blocks)

  def items(self) -> list[provider.Item]:
    """Returns the records, at their own rates and with all their channels."""
    scans.check(self._jobs())
    return [
      provider.Item(
        name=record.name,
        input=self._source(record, 0),
        target=self._source(record, 1),
        events=record.events,
        version=reading.version(record.path),
      )
      for record in self.pairs
    ]


def write_tfrecord(
  pairs: list[folders.Pair], path: str | os.PathLike, n_shards: int = 1
):
  """Writes pairs into a TFRecord file, whole, under a temporary name first.

  Each record holds 'name', 'sample_rate', 'n_channels', 'audio' and 'target' as
  little-endian float32, samples before channels, and for what is labelled in it
  'event_kind', 'event_start' and 'event_stop', in samples.

  Args:
    pairs: What to write.
    path: The file.
    n_shards: With more than one, that many files `<path>-00000-of-00004` take
      the place of the file, each with an index beside it. Pair i goes to shard
      i % n_shards.

  Raises:
    ValueError: A pair that is damaged, or too long for a record.
  """
  path = pathlib.Path(path)
  for pair in pairs:
    if 8 * pair.n_samples * pair.n_channels > _MAX_BYTES:
      raise ValueError(
        f'{pair.name!r} has {pair.n_samples} samples; a record holds up to '
        f'{_MAX_BYTES // (8 * pair.n_channels)}. Cut it, or train on the files.'
      )
  written = shard_index.shard_paths(path, n_shards)
  for index, shard in enumerate(written):
    write_shard(pairs[index::n_shards], shard, with_index=n_shards > 1)
  shard_index.drop_others(path, written)


def write_shard(
  pairs: list[folders.Pair], path: pathlib.Path, with_index: bool
):
  """Writes one file of records; see `write_tfrecord`.

  Args:
    pairs: What to write, none of which is too long.
    path: The file.
    with_index: Whether to write an index beside it.

  Raises:
    ValueError: A pair that is damaged.
  """
  found, place = [], 0
  with (
    disk.replacing(path) as temporary,
    tf.io.TFRecordWriter(os.fspath(temporary)) as writer,
  ):
    for pair in pairs:
      record = serialise(pair)
      writer.write(record)
      place += _HEADER_BYTES
      found.append(_parse(record, place, path))
      place += len(record) + _FOOTER_BYTES
  if with_index:
    shard_index.write(path, found)


def serialise(pair: folders.Pair) -> bytes:
  """Returns the record of a pair: the same bytes in any process.

  Args:
    pair: What to write.

  Raises:
    ValueError: A pair that is damaged.
  """

  def feature(value):
    values = value if isinstance(value, list) else [value]
    if all(isinstance(v, bytes) for v in values):
      return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

  sides = reading.read_pair(pair.input_path, pair.target_path)
  values = dict(
    name=pair.name.encode('utf-8', 'surrogateescape'),
    sample_rate=sides.sample_rate,
    n_channels=sides.audio.shape[1],
    audio=sides.audio.astype('<f4').tobytes(),
    target=sides.target.astype('<f4').tobytes(),
    event_kind=[event.kind.encode() for event in pair.events],
    event_start=[event.start for event in pair.events],
    event_stop=[event.stop for event in pair.events],
  )
  features = {key: feature(value) for key, value in values.items()}
  example = tf.train.Example(features=tf.train.Features(feature=features))
  # Of one order, which otherwise changes from process to process.
  return example.SerializeToString(deterministic=True)
