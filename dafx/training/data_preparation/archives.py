"""What archives hold: unpacked within a folder, and within bounds."""

import bz2
import gzip
import lzma
import pathlib
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from dafx.audio import disk
from dafx.audio import files as audio_files
from dafx.training.data_preparation import files

_CHUNK_BYTES = 2**18
# An archive holds so many times its own size at most, or this. Audio comes to
# two or three times, silence to more.
_MOST_TIMES, _MOST_BYTES = 20, 2**30
# No header of a tar file is longer than this.
_MOST_AT_ONCE = 2**24
_MOST_MEMBERS = 10**5
# Beginnings of compressed files, and what opens them.
_OPENERS = (
  (b'\x1f\x8b', gzip.open),
  (b'BZh', bz2.open),
  (b'\xfd7zXZ\x00', lzma.open),
)
_DAMAGES = (
  zipfile.BadZipFile,
  tarfile.TarError,
  EOFError,
  gzip.BadGzipFile,
  zlib.error,
  lzma.LZMAError,
  struct.error,
  OverflowError,
  UnicodeError,
  # zipfile's, of a password that is asked for and of an unknown compression.
  RuntimeError,
  # Of members that are files and folders of others at once.
  FileExistsError,
  NotADirectoryError,
  IsADirectoryError,
)


class _Bounded:
  """A file of which no more is read than may be, nor much at once."""

  def __init__(self, file, most_bytes):
    self._file, self._most_bytes = file, most_bytes

  def _check(self, place):
    if place > self._most_bytes:
      raise audio_files.FileError(
        f'it holds more than {self._most_bytes / 1e9:.2f} GB'
      )

  def read(self, n_bytes):
    if n_bytes > _MOST_AT_ONCE:
      raise audio_files.FileError(f'a header of it has {n_bytes} bytes')
    self._check(self._file.tell() + n_bytes - _MOST_AT_ONCE)
    return self._file.read(n_bytes)

  def seek(self, place):
    self._check(place)
    return self._file.seek(place)

  def tell(self):
    return self._file.tell()


def _members(archive, most_bytes):
  """Yields (name, size, function that opens it) of all files of an archive."""
  if zipfile.is_zipfile(archive):
    with zipfile.ZipFile(archive) as file:
      for info in file.infolist():
        if not info.is_dir():
          yield info.filename, info.file_size, lambda i=info: file.open(i)
    return
  with open(archive, 'rb') as raw:
    start = raw.read(8)
    raw.seek(0)
    opener = next((o for magic, o in _OPENERS if start.startswith(magic)), None)
    inner: Any = _Bounded(opener(raw) if opener else raw, most_bytes)
    with tarfile.open(fileobj=inner, mode='r:') as tar:
      for member in tar:
        if member.isfile():
          yield member.name, member.size, lambda m=member: tar.extractfile(m)
      while inner.read(_CHUNK_BYTES):
        pass  # the checksum of a compressed file comes last


def _is_rubbish(name: str) -> bool:
  parts = pathlib.PurePosixPath(name).parts
  return '__MACOSX' in parts or parts[-1].startswith('.')


def unpack(
  archive: pathlib.Path,
  folder: pathlib.Path,
  wanted: Callable[[str], bool],
  part_of: pathlib.Path | None = None,
) -> list[pathlib.Path]:
  """Unpacks an archive; files that are there in their size are left.

  Nothing is written outside of the folder, and no more than 20 times the size
  of the archive, or 1 GiB.

  Args:
    archive: .zip, .tar or a compressed .tar.
    folder: Where to.
    wanted: Says of a member's name whether to unpack it.
    part_of: The file that the archive was taken from, if it is a part of one.

  Returns:
    The files.

  Raises:
    ValueError: The archive is damaged, holds more than it may, or nothing that
      is wanted.
    OSError: No room.
  """
  state_path = folder / 'unpacked.json'
  stat = archive.stat()
  mark = [archive.name, stat.st_size, stat.st_mtime_ns]
  state = files.read_state(state_path)
  is_same = state.get('archive') == mark
  known = state.get('members') or {}
  if is_same and _are_there(folder, known):
    return [folder / name for name in known]
  # Files of an archive that this one took the place of are not trusted.
  files.write_json(state_path, {'archive': mark, 'members': {'': -1}})
  most_bytes = max(_MOST_TIMES * stat.st_size, _MOST_BYTES)
  members, n_bytes = {}, 0
  try:
    for name, size, open_member in _members(archive, most_bytes):
      if not disk.is_safe_name(name) or _is_rubbish(name) or not wanted(name):
        continue
      members[name] = size
      n_bytes += size
      if n_bytes > most_bytes or len(members) > _MOST_MEMBERS:
        raise audio_files.FileError(
          f'it unpacks to more than {_MOST_MEMBERS} files or '
          f'{most_bytes / 1e9:.2f} GB'
        )
      path = disk.inside(folder, name)
      if is_same and path.exists() and path.stat().st_size == size:
        continue
      disk.check_room(folder, size, f'{name} of {archive.name}')
      path.parent.mkdir(parents=True, exist_ok=True)
      with disk.replacing(path) as temporary:
        with open_member() as source, open(temporary, 'wb') as target:
          shutil.copyfileobj(source, target, _CHUNK_BYTES)
        if temporary.stat().st_size != size:
          raise EOFError(f'{name} ends too early')
  except (*_DAMAGES, audio_files.FileError) as error:
    what = (str(error).splitlines() or [''])[0]
    raise ValueError(
      f'{part_of or archive} is damaged or no archive ({type(error).__name__}: '
      f'{what}). Rename it, and the same command downloads it again.'
    ) from error
  if not members:
    raise ValueError(
      f'{archive} holds none of the files that are wanted; is it the published '
      'one?'
    )
  files.write_json(state_path, {'archive': mark, 'members': members})
  return [folder / name for name in members]


def _are_there(folder, members) -> bool:
  """Whether what a state says was unpacked is there, in its size."""
  return (
    isinstance(members, dict)
    and bool(members)
    and all(
      disk.is_safe_name(name)
      and (folder / name).exists()
      and (folder / name).stat().st_size == size
      for name, size in members.items()
    )
  )
