"""The user's folders: the home folder, and where what is found out is kept.

A user may have no home folder (a container that runs under a number), or none
that can be written. What would be kept there is then kept for the process.
"""

import atexit
import functools
import importlib.util
import logging
import os
import pathlib
import shutil
import tempfile

_log = logging.getLogger('dafx')

# Packages with functions that Numba keeps compiled, beside their sources if it
# may write there.
_COMPILED_PACKAGES = ('dafx', 'librosa', 'resampy')


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
    '%s: compiled functions and what is found out about plugins are not kept, '
    'and each start takes longer. XDG_CACHE_HOME=<a folder that can be '
    'written> in the environment mends it.',
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


def _writes_beside_sources() -> bool:
  """Says whether Numba may write beside the sources that it compiles."""
  folders = set()
  for package in _COMPILED_PACKAGES:
    spec = importlib.util.find_spec(package)
    for root in spec.submodule_search_locations if spec else ():
      folders |= {path.parent for path in pathlib.Path(root).rglob('*.py')}
  return all(_can_write(folder / '__pycache__') for folder in folders)


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


def _cache_of(package: str) -> pathlib.Path:
  """Returns a folder for what another package keeps, kept itself if it can."""
  root = user_cache()
  if root is not None and _can_write(root / package):
    return root / package
  say_nothing_is_kept()
  return _temporary() / package


def _is_given(variable: str) -> bool:
  """Says whether the environment names a folder that can be written."""
  folder = os.environ.get(variable)
  return bool(folder) and _can_write(pathlib.Path(folder))


@functools.cache
def prepare_caches():
  """Gives Numba, Matplotlib and Keras folders that they can write.

  Without, Numba raises, Matplotlib warns at each start, and both Numba and
  Keras write to a folder that is called '~' where there is no home folder.
  Folders that serve stay as they are. To be called before these packages are
  imported.

  Raises:
    OSError: No folder can be written at all.
  """
  if not _is_given('NUMBA_CACHE_DIR') and not _writes_beside_sources():
    os.environ['NUMBA_CACHE_DIR'] = str(_cache_of('numba'))
  config = os.path.expanduser(os.environ.get('XDG_CONFIG_HOME') or '~/.config')
  if not _is_given('MPLCONFIGDIR') and not (
    os.path.isabs(config) and _can_write(pathlib.Path(config, 'matplotlib'))
  ):
    os.environ['MPLCONFIGDIR'] = str(_cache_of('matplotlib'))
  if not os.path.isabs(os.path.expanduser('~')):
    os.environ.setdefault('KERAS_HOME', str(_temporary() / 'keras'))
