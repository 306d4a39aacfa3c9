"""What tests share: the project's own test plugins; what may be missing."""

import importlib.util
import os
import pathlib
import shutil
import sys
import tempfile

import pytest

import dafx  # noqa: F401  What makes ddsp importable, so before it.

sys.path.insert(0, os.path.dirname(__file__))

import ardour  # noqa: E402
import browser  # noqa: E402
import hosts  # noqa: E402
from plugins import build  # noqa: E402

# Where Debian and Ubuntu put plugins; lilv's own default, which LV2_PATH
# replaces.
_SYSTEM = ('~/.lv2', '/usr/lib/lv2', '/usr/local/lib/lv2')


# Files that take longest go first, so that no worker is left alone with one at
# the end. Whatever is not here comes behind, in order of the alphabet.
_LONGEST = (
  'trainers_test.py',
  'gin_test.py',
  'tutorials_test.py',
  'instrument_test.py',
  'keras_test.py',
  'inference_test.py',
  'dafx_run_test.py',
  'effect_gin_test.py',
  'dafx_plugins_test.py',
  'examples_test.py',
  'demonstration_test.py',
)
# What needs a browser.
_IN_BROWSER = 'page_test.py'
# What needs FluidSynth.
_BY_FLUIDSYNTH = 'demo_render_test.py'
# What needs Ardour.
_BY_ARDOUR = 'ardour_test.py'
# What needs namespaces of Linux.
_ON_HOSTS = 'hosts_test.py'
# What needs Apache Beam.
_ON_BEAM = 'beam_test.py'


def pytest_addoption(parser):
  """Adds --browser and --kills."""
  parser.addoption(
    '--browser',
    choices=('auto', 'required'),
    default='auto',
    help=f'{_IN_BROWSER}: run it where a browser is, or fail without one.',
  )
  parser.addoption(
    '--kills',
    type=int,
    default=5,
    help='field/kills_test.py: how often each kind of work is killed.',
  )


def pytest_ignore_collect(collection_path, config):
  """Leaves out what needs a program that is not there."""
  del config
  if collection_path.name == _IN_BROWSER and not browser.is_there():
    return True
  if collection_path.name == _BY_FLUIDSYNTH and not shutil.which('fluidsynth'):
    return True
  if collection_path.name == _BY_ARDOUR and not ardour.export_command():
    return True
  if collection_path.name == _ON_HOSTS and not hosts.are_there():
    return True
  if collection_path.name == _ON_BEAM and not _has_beam():
    return True
  return None


def _has_beam():
  return importlib.util.find_spec('apache_beam') is not None


def pytest_collection_modifyitems(items):
  """Sorts the tests; within a file they stay in order."""
  place = {name: i for i, name in enumerate(_LONGEST)}
  items.sort(key=lambda item: place.get(item.path.name, len(place)))


def pytest_terminal_summary(terminalreporter):
  """Says what was left out."""
  if not browser.is_there():
    terminalreporter.write_line(
      f'No browser: tests/{_IN_BROWSER} was left out. To run it, '
      f'{browser.REMEDY}.'
    )
  if not shutil.which('fluidsynth'):
    terminalreporter.write_line(
      f'No FluidSynth: tests/{_BY_FLUIDSYNTH} was left out. To run it, '
      '`scripts/setup music`.'
    )
  if not ardour.export_command():
    terminalreporter.write_line(
      f'No Ardour: tests/{_BY_ARDOUR} was left out. To run it, {ardour.REMEDY}.'
    )
  if not hosts.are_there():
    terminalreporter.write_line(
      f'No two hosts: tests/{_ON_HOSTS} was left out. To run it, '
      f'{hosts.REMEDY}.'
    )
  if not _has_beam():
    terminalreporter.write_line(
      f'No Apache Beam: tests/{_ON_BEAM} was left out. To run it, in an '
      "environment of its own: pip install 'dafx[beam]'."
    )


@pytest.fixture
def empty_gin():
  """Has gin know nothing; undone afterwards."""
  import gin

  prefixes = gin.config._LOCATION_PREFIXES
  former = list(prefixes)
  gin.clear_config()
  yield
  gin.clear_config()
  prefixes[:] = former


@pytest.fixture
def fresh_gin(empty_gin):
  """Has gin know nothing but where dafx's files are; undone afterwards."""
  del empty_gin
  from dafx.training import gin_files

  gin_files.add_gin_search_paths()


def pytest_configure(config):
  """Builds the test plugins before anything looks for plugins."""
  if config.getoption('browser') == 'required' and not browser.is_there():
    raise pytest.UsageError(
      f'--browser=required, and tests/{_IN_BROWSER} finds no browser: '
      f'{browser.REMEDY}.'
    )
  folder = tempfile.TemporaryDirectory(prefix='dafx-test-lv2-')
  build.build(pathlib.Path(folder.name))
  pytest.lv2_folder = folder  # kept until the process ends
  system = [os.path.expanduser(path) for path in _SYSTEM]
  multiarch = f'/usr/lib/{sys.implementation._multiarch}/lv2'
  os.environ['LV2_PATH'] = os.pathsep.join([folder.name, *system, multiarch])
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
