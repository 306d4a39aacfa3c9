"""The home folder and the caches, where there are none to be written."""

import os
import pathlib
import pwd
import subprocess
import sys
import tempfile

import pytest

from dafx import _folders

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# Nobody can write there, root included.
_UNWRITABLE = '/dev/null/cache'


@pytest.fixture
def no_home(monkeypatch):
  """A user without HOME and without an entry in passwd."""

  def no_entry(uid):
    raise KeyError(uid)

  monkeypatch.delenv('HOME', raising=False)
  monkeypatch.setattr(pwd, 'getpwuid', no_entry)


def test_expands_the_home_folder(monkeypatch):
  monkeypatch.setenv('HOME', '/home/ada')
  assert _folders.expand_user('~/run') == pathlib.Path('/home/ada/run')
  assert _folders.expand_user('run') == pathlib.Path('run')


def test_says_which_flag_to_give_without_a_home_folder(no_home):
  with pytest.raises(ValueError, match=r'~/run: .* by --save_dir, or set HOME'):
    _folders.expand_user('~/run', '--save_dir')
  assert _folders.expand_user('/run', '--save_dir') == pathlib.Path('/run')


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ('/tmp/caches', '/tmp/caches'),
    ('', '/home/ada/.cache'),
    ('relative', '/home/ada/.cache'),
  ],
)
def test_user_cache_is_as_xdg_has_it(monkeypatch, given, expected):
  monkeypatch.setenv('HOME', '/home/ada')
  monkeypatch.setenv('XDG_CACHE_HOME', given)
  assert _folders.user_cache() == pathlib.Path(expected)


def test_no_user_cache_without_a_home_folder(monkeypatch, no_home):
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  assert _folders.user_cache() is None


def test_says_that_no_folder_can_be_written(monkeypatch):
  def fail(**kwargs):
    raise PermissionError(kwargs)

  monkeypatch.setattr(tempfile, 'mkdtemp', fail)
  monkeypatch.setenv('XDG_CACHE_HOME', _UNWRITABLE)
  with pytest.raises(OSError, match='Set TMPDIR to one'):
    _folders.prepare_caches.__wrapped__()


@pytest.mark.parametrize('home', [None, _UNWRITABLE])
def test_compiles_where_nothing_can_be_kept(tmp_path, home):
  # Stands for a user without an entry in passwd, on a read-only installation.
  code = """
import os, pwd
def no_entry(uid):
  raise KeyError(uid)
pwd.getpwuid = no_entry
import dafx
dafx._folders.prepare_caches()  # as for all modules that compile
import matplotlib, numba, pooch
from numba.core import caching
caching.InTreeCacheLocator.from_function = lambda *args: None
numba.njit(cache=True)(dafx._folders.user_cache)  # raises without a folder
pooch.os_cache('librosa')  # as librosa does when it is imported
matplotlib.get_configdir(), matplotlib.get_cachedir()
print(os.environ['XDG_CACHE_HOME'])
"""
  environment = {'PATH': os.environ['PATH'], 'PYTHONPATH': str(_ROOT)}
  if home:
    environment['HOME'] = home
  result = subprocess.run(
    [sys.executable, '-c', code],
    cwd=tmp_path,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  folder = pathlib.Path(result.stdout.strip())
  assert folder.is_absolute() and not folder.exists()  # gone with the process
  assert not list(tmp_path.iterdir())  # no folder that is called '~'
  (line,) = result.stderr.splitlines()
  assert 'XDG_CACHE_HOME=<a folder that can be written>' in line
  start = f'{home}/.cache cannot be written' if home else 'There is no home'
  assert line.startswith(start)
