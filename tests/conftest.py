"""What all tests share: the project's own test plugins on LV2_PATH."""

import os
import pathlib
import sys
import tempfile

import pytest

import dafx  # noqa: F401  What makes ddsp importable, so before it.

sys.path.insert(0, os.path.dirname(__file__))

from plugins import build  # noqa: E402

# Where Debian and Ubuntu put plugins; lilv's own default, which LV2_PATH
# replaces.
_SYSTEM = ('~/.lv2', '/usr/lib/lv2', '/usr/local/lib/lv2')


def pytest_configure(config):
  """Builds the test plugins before anything looks for plugins."""
  del config
  folder = tempfile.TemporaryDirectory(prefix='dafx-test-lv2-')
  build.build(pathlib.Path(folder.name))
  pytest.lv2_folder = folder  # kept until the process ends
  system = [os.path.expanduser(path) for path in _SYSTEM]
  multiarch = f'/usr/lib/{sys.implementation._multiarch}/lv2'
  os.environ['LV2_PATH'] = os.pathsep.join([folder.name, *system, multiarch])
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
