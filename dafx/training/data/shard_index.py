"""What lies where in shards, which are then not read whole at each start."""

import dataclasses
import json
import os
import pathlib
import re
import struct

from absl import logging

from dafx.audio import disk, json_files
from dafx.audio import files as audio_files
from dafx.training import labels

# A record ends with the checksum of its content.
_CHECKSUM = struct.Struct('<I')
_MOST = 2**62
# Of some 100,000 records.
_MOST_BYTES = 2**28


@dataclasses.dataclass(frozen=True)
class Record:
  """What a record holds, and where.

  Attributes:
    path: The file.
    name: Of the pair.
    sample_rate: In Hz.
    n_channels: Of both sides.
    n_samples: Of both sides, per channel.
    offsets: Where in the file the samples of input and target begin.
    end: Where its content ends, and its checksum begins.
    events: What is labelled in it.
  """

  path: pathlib.Path
  name: str
  sample_rate: int
  n_channels: int
  n_samples: int
  offsets: tuple[int, int]
  end: int
  events: tuple[labels.Event, ...]


def shard_paths(path: pathlib.Path, n_shards: int) -> list[pathlib.Path]:
  """Returns the files that take the place of one: itself, if it is one.

  Args:
    path: Of a single file, such as 'train.tfrecord'.
    n_shards: How many there are.
  """
  if n_shards == 1:
    return [path]
  return [
    path.with_name(f'{path.name}-{i:05}-of-{n_shards:05}')
    for i in range(n_shards)
  ]


def index_path(path: pathlib.Path) -> pathlib.Path:
  """Returns where the index of a file is."""
  return path.with_name(f'{path.name}.index.json')


def _sets(path):
  """Returns the shards of a file that are there, by their full number."""
  name = re.compile(rf'{re.escape(path.name)}-(\d+)-of-(\d+)')
  found: dict[int, list[pathlib.Path]] = {}
  if path.parent.is_dir():
    for each in sorted(path.parent.iterdir()):
      if match := name.fullmatch(each.name):
        found.setdefault(int(match[2]), []).append(each)
  return found


def find(folder: pathlib.Path, split: str) -> list[pathlib.Path]:
  """Returns the files of a split: one, or shards.

  Args:
    folder: Where they are.
    split: Which split.

  Raises:
    FileNotFoundError: There are none, or some are missing.
    ValueError: There are two sets of shards.
  """
  path = folder / f'{split}.tfrecord'
  if path.exists():
    return [path]
  sets = _sets(path)
  if not sets:
    raise FileNotFoundError(
      f'{path}: there is no such file; dafx_prepare --tfrecord writes it.'
    )
  if len(sets) > 1:
    raise ValueError(
      f'{path}-*: there are shards of {" and of ".join(map(str, sorted(sets)))}'
      ' files. Move those that are not meant to another folder.'
    )
  ((n_shards, found),) = sets.items()
  expected = shard_paths(path, n_shards)
  if found != expected:
    missing = [p.name for p in expected if p not in found]
    raise FileNotFoundError(
      f'{path}-*: of {n_shards} shards {", ".join(missing[:3])} '
      f'{"are" if len(missing) > 1 else "is"} missing; dafx_prepare '
      f'--tfrecord --tfrecord_shards={n_shards} writes them.'
    )
  return found


def drop_others(path: pathlib.Path, keep: list[pathlib.Path]):
  """Deletes the file and shards of it but those to keep, with their indices.

  Args:
    path: The single file.
    keep: What was written last.
  """
  end = r'(-\d+-of-\d+)?(\.index\.json)?'
  name = re.compile(re.escape(path.name) + end)
  kept = {*keep, *map(index_path, keep)}
  for each in list(path.parent.iterdir()):
    if name.fullmatch(each.name) and each not in kept:
      each.unlink()


def _state(path, file, ends):
  """Returns what tells a file from others: size, first and last checksum."""
  ends = [ends[0], ends[-1]] if ends else []
  return [
    os.fstat(file).st_size,
    *(os.pread(file, _CHECKSUM.size, end).hex() for end in ends),
  ]


def write(path: pathlib.Path, found: list[Record]):
  """Writes the index of a file.

  Args:
    path: The file.
    found: Its records.
  """
  with open(path, 'rb') as file:
    state = _state(path, file.fileno(), [record.end for record in found])
  rows = []
  for record in found:
    row = dataclasses.asdict(record)
    del row['path']
    row['events'] = [[e.kind, e.start, e.stop] for e in record.events]
    rows.append(row)
  with disk.replacing(index_path(path)) as temporary:
    content = {'state': state, 'records': rows}
    temporary.write_text(json.dumps(content), encoding='utf-8')


def _parse(place, path, n_bytes):
  """Returns the record of an entry, which lies within the file."""
  integer = {
    key: place[key].integer(1, _MOST)
    for key in ('sample_rate', 'n_channels', 'n_samples')
  }
  end = place['end'].integer(1, n_bytes)
  size = 4 * integer['n_channels'] * integer['n_samples']
  offsets = [p.integer(0, end - size) for p in place['offsets'].entries(2)]
  name = place['name'].text()
  if len(offsets) != 2 or not disk.is_safe_name(name):
    raise place.error('a record')
  events = []
  for event in place['events'].entries():
    kind, start, stop = event.entries(3)
    events.append(
      labels.Event(kind.text(), start.integer(0, _MOST), stop.integer(0, _MOST))
    )
  form = integer['sample_rate'], integer['n_channels'], integer['n_samples']
  return Record(path, name, *form, (offsets[0], offsets[1]), end, tuple(events))


def read(path: pathlib.Path, file: int) -> list[Record] | None:
  """Reads the index of a file.

  That a file has changed is seen by its size, and the checksums of its first
  and last record.

  Args:
    path: The file.
    file: The same, opened.

  Returns:
    Its records; None if there is no index, or one of another file.
  """
  if not index_path(path).exists():
    return None
  try:
    content = json_files.read(index_path(path), _MOST_BYTES)
    n_bytes = os.fstat(file).st_size
    found = [_parse(p, path, n_bytes) for p in content['records'].entries()]
    if content['state'].value == _state(path, file, [r.end for r in found]):
      return found
  except (audio_files.FileError, ValueError) as error:
    logging.warning('%s The records are read anew.', error)
    return None
  logging.warning(
    '%s is not of this file: the records are read anew.', index_path(path)
  )
  return None
