"""Room on a disk, which is asked for before it is needed."""

import os
import pathlib
import shutil


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
