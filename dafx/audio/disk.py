"""Files on a disk: room for them, and writing them whole or not at all."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator


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
