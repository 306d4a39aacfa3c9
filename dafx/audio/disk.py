"""Files on a disk: room for them, one writer at a time, whole or not at all."""

import contextlib
import fcntl
import logging
import os
import pathlib
import shutil
from collections.abc import Iterator

_log = logging.getLogger('dafx')


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
      f'{purpose} needs {n_bytes / 1e9:.2f} GB in {folder}, where '
      f'{free / 1e9:.2f} GB are free. Free some, or choose another folder.'
    )


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
