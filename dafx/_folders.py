"""The user's folders: the home folder, and where what is found out is kept.

A user may have no home folder (a container that runs under a number), or none
that can be written. What would be kept there is then kept for the process.
"""

import atexit
import functools
import logging
import os
import pathlib
import shutil
import tempfile

_log = logging.getLogger('dafx')

# What has folders of its own among the user's caches.
_KEEPERS = ('dafx', 'librosa', 'matplotlib', 'numba')


def expand_user(path: str | os.PathLike, flag: str = '') -> pathlib.Path:
  """Returns a path whose first '~' is the user's home folder.

  Args:
    path: A path, with a '~' or without.
    flag: What the path can be given by, such as '--save_dir'.

  Raises:
    ValueError: There is a '~', and no home folder that it could stand for.
  """
  try:
    return pathlib.Path(path).expanduser()
  except RuntimeError as error:
    way = f'by {flag}' if flag else 'without ~'
    raise ValueError(
      f'{path}: the home folder that ~ stands for is not known here (HOME is '
      f'not set, or there is no such user). Give the path {way}, or set HOME.'
    ) from error


def resolved(path: str | os.PathLike) -> pathlib.Path:
  """Returns an absolute path without links; those in a circle stay.

  Args:
    path: A path, there or not.
  """
  return pathlib.Path(os.path.realpath(path))


def check_output_folder(folder: str | os.PathLike, flag: str):
  """Looks whether a folder can be made or written, and makes nothing.

  Args:
    folder: A path, with a '~' or without.
    flag: What it was given by, such as '--save_dir'.

  Raises:
    ValueError: The path is empty, or there is a '~' and no home folder.
    OSError: There is a file in its place, or it may not be written.
  """
  if not os.fspath(folder):
    raise ValueError(f'{flag} is empty. Give the path of a folder.')
  path = expand_user(folder, flag).absolute()
  there = next(p for p in (path, *path.parents) if os.path.lexists(p))
  if not there.is_dir():
    raise NotADirectoryError(
      f'{flag}={folder}: {there} is no folder. Give the path of one, there or '
      'not.'
    )
  if not os.access(there, os.W_OK | os.X_OK):
    raise PermissionError(
      f'{flag}={folder}: {there} may not be written. Give another path.'
    )


def check_is_text(folder: str | os.PathLike, flag: str):
  """Looks whether TensorFlow can write to a folder, by its name.

  Args:
    folder: A path.
    flag: What it was given by, such as '--save_dir'.

  Raises:
    ValueError: There are bytes in it that are no text.
  """
  try:
    str(folder).encode()
  except UnicodeEncodeError as error:
    raise ValueError(
      f'{flag}={folder} has bytes that are no text (UTF-8), and TensorFlow '
      'writes to no such folder. Rename it, or give another.'
    ) from error


def user_cache() -> pathlib.Path | None:
  """Returns the folder of the user's caches; None without a home folder.

  XDG Base Directory Specification, which passes over what is not absolute.
  """
  root = pathlib.Path(os.environ.get('XDG_CACHE_HOME', ''))
  if not root.is_absolute():
    root = pathlib.Path(os.path.expanduser('~/.cache'))
  return root if root.is_absolute() else None


@functools.cache
def say_nothing_is_kept():
  """Says, once, that nothing is kept from one run to the next, and why."""
  root = user_cache()
  _log.warning(
    '%s: what dafx compiles and finds out about plugins is not kept, and each '
    'start takes longer. XDG_CACHE_HOME=<a folder that can be written> in the '
    'environment mends it.',
    f'{root} cannot be written' if root else 'There is no home folder',
  )


def _can_write(folder: pathlib.Path) -> bool:
  """Says whether a folder is there or can be made, and takes files."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
  except OSError:
    return False
  return True


@functools.cache
def _temporary() -> pathlib.Path:
  """Returns a folder that is there as long as the process.

  Raises:
    OSError: No folder can be written at all.
  """
  for root in (None, '/dev/shm'):  # None: the first of tempfile's own choices
    try:
      folder = pathlib.Path(tempfile.mkdtemp(prefix='dafx-', dir=root))
    except OSError:
      continue
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
  raise OSError(
    'There is no folder that can be written, not even a temporary one, and '
    'Numba, which dafx compiles with, needs one. Set TMPDIR to one.'
  )


def _takes_caches(root: pathlib.Path) -> bool:
  """Says whether a folder takes all that is kept below it."""
  folders = [root / name for name in _KEEPERS]
  return _can_write(root) and all(
    _can_write(folder) for folder in folders if folder.exists()
  )


@functools.cache
def prepare_caches():
  """Gives all packages that keep things a folder that they can write.

  Without, Numba raises where it may not write beside the sources either,
  librosa raises and Numba and Keras write to a folder that is called '~' where
  there is no home folder, and Matplotlib warns at each start. To be called
  before these packages are imported.

  Raises:
    OSError: No folder can be written at all.
  """
  root = user_cache()
  if root is None or not _takes_caches(root):
    temporary = _temporary()
    say_nothing_is_kept()
    root = temporary
  os.environ['XDG_CACHE_HOME'] = str(root)
  config = os.path.expanduser(os.environ.get('XDG_CONFIG_HOME') or '~/.config')
  if not (
    os.path.isabs(config) and _can_write(pathlib.Path(config, 'matplotlib'))
  ):
    os.environ.setdefault('MPLCONFIGDIR', str(root / 'matplotlib'))
  if not os.path.isabs(os.path.expanduser('~')):
    os.environ.setdefault('KERAS_HOME', str(root / 'keras'))
