"""Files on a disk: room, place, one writer at a time, whole or not at all."""

import contextlib
import fcntl
import logging
import os
import pathlib
import shutil
from collections.abc import Iterator

_log = logging.getLogger('dafx')

# Bounds of a name that becomes a path: most file systems have these of the
# parts, and no published set lies so deep.
_MOST_PART_BYTES, _MOST_BYTES, _MOST_PARTS = 255, 1024, 32


def check_room(folder: str | os.PathLike, n_bytes: int, purpose: str):
  """Raises OSError where a disk has too little room.

  Args:
    folder: Where; it need not exist.
    n_bytes: How much is needed.
    purpose: What for; the message begins with it.
  """
  there = pathlib.Path(folder).absolute()
  while not there.exists():
    there = there.parent
  free = shutil.disk_usage(there).free
  if free < n_bytes:
    raise OSError(
      f'{purpose} needs {size(n_bytes)} in {folder}, where {size(free)} are '
      'free. Free some, or choose another folder.'
    )


def size(n_bytes: float) -> str:
  """Returns a number of bytes in the unit that suits it.

  Args:
    n_bytes: How many.

  Examples:
    >>> from dafx.audio import disk
    >>> disk.size(0), disk.size(352_844), disk.size(1.5e9)
    ('0 kB', '353 kB', '1.5 GB')
  """
  for unit, factor in (('GB', 1e9), ('MB', 1e6)):
    if n_bytes >= factor:
      return f'{n_bytes / factor:.1f} {unit}'
  return f'{n_bytes / 1e3:.0f} kB'


def is_safe_name(name: str) -> bool:
  """Returns whether a name that a file gives may become a path below a folder.

  Not where it is empty, leads up or to the root, or is longer or deeper than
  file systems and people have it.

  Args:
    name: The name, with `/` between folders.
  """
  try:
    content = os.fsencode(name)
  except UnicodeEncodeError:
    return False
  parts = pathlib.PurePosixPath(name).parts
  return (
    0 < len(parts) <= _MOST_PARTS
    and len(content) <= _MOST_BYTES
    and b'\0' not in content
    and not name.startswith(('/', '\\'))
    and all(p != '..' for p in parts)
    and all(len(os.fsencode(p)) <= _MOST_PART_BYTES for p in parts)
  )


def inside(folder: str | os.PathLike, name: str) -> pathlib.Path:
  """Returns the path of a name that a file gives, inside of a folder.

  Args:
    folder: Which.
    name: As of `is_safe_name`.

  Raises:
    ValueError: It would lie outside, by itself or by a link on the way.
  """
  path = pathlib.Path(folder) / name
  if not is_safe_name(name):
    raise ValueError(f'{name!r} is no name of a file inside of {folder}.')
  if not path.parent.resolve().is_relative_to(pathlib.Path(folder).resolve()):
    raise ValueError(
      f'{path} lies outside of {folder}, by a link: {path.parent.resolve()}. '
      'Nothing is written or deleted there.'
    )
  return path


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Has a file written whole or not at all.

  Args:
    path: The file.

  Yields:
    Where to write it, in the same folder. It takes the file's place at the end;
    what raises before leaves the file as it was.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f'.{path.stem}.partial{path.suffix}')
  temporary.unlink(missing_ok=True)  # it may be a link to somewhere else
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: str | os.PathLike, task: str) -> Iterator[None]:
  """Keeps others from doing the same in a folder meanwhile.

  The lock goes with the process, however it ends. On a file system that knows
  no locks there is none.

  Args:
    folder: Which; it is made if it is not there.
    task: What is at work, such as 'dafx_prepare', for the message.

  Raises:
    OSError: Another one is at work in it.
  """
  path = pathlib.Path(folder) / '.lock'
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, 'a', encoding='utf-8') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      # The one before may have taken it away since it was opened.
      is_ours = path.exists() and os.path.samestat(
        os.fstat(file.fileno()), path.stat()
      )
    except BlockingIOError:
      is_ours = False
    except OSError as error:
      is_ours = True
      _log.warning(
        '%s cannot be locked (%s): start no other %s in it meanwhile.',
        folder,
        error.strerror,
        task,
      )
    if not is_ours:
      raise OSError(
        f'Another {task} is at work in {folder}. Wait for its end, or choose '
        'another folder.'
      )
    try:
      yield
    finally:
      path.unlink(missing_ok=True)
