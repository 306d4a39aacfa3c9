"""What dafx needs of a process: said where it is missing, and not before."""

import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

from dafx import _environment

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_DDSP = 'pip install --no-deps ddsp==3.7.0'
# Keeps packages out, as if they were not installed.
_WITHOUT = """
import sys
class Without:
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in {packages}:
      raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Without())
"""


def run_without(packages, code) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, '-c', _WITHOUT.format(packages=packages) + code],
    env={**os.environ, 'PYTHONPATH': str(_ROOT)},
    capture_output=True,
    text=True,
  )


def test_hosts_and_gradients_need_neither_tensorflow_nor_ddsp():
  heavy = {'tensorflow', 'tf_keras', 'tensorflow_probability', 'ddsp', 'crepe'}
  result = run_without(
    heavy,
    """
import dafx
dafx.lv2
assert not {'scipy', 'numba', 'librosa', 'matplotlib'} & set(sys.modules)
dafx.gradients, dafx.metrics
import dafx.lv2.cards.checks, dafx.commands.dafx_run
import dafx.training.data_preparation
from dafx.commands import dafx_prepare
from dafx.training.data_preparation import mastering
for name in ('effects', 'core', 'training.models'):
  try:
    __import__(f'dafx.{name}')
  except ImportError as error:
    print(error)
from dafx.commands import dafx_plugins
sys.argv = ['dafx_plugins', 'list', '--filter=urn:dafx-test:gain']
dafx_plugins.console_entry_point()
""",
  )
  assert result.returncode == 0, result.stderr
  *refusals, _, gain, _ = result.stdout.splitlines()
  assert gain.startswith('urn:dafx-test:gain')
  assert len(refusals) == 3 and len(set(refusals)) == 1
  assert refusals[0].startswith('dafx needs tensorflow, tf_keras, ')
  assert "pip install 'tensorflow>=" in refusals[0]


def test_a_command_says_in_one_line_that_ddsp_is_missing():
  result = run_without(
    {'ddsp'},
    """
try:
  import dafx.training.models
except ImportError as error:
  print(error)
from dafx.commands import dafx_run
sys.argv = ['dafx_run', '--mode=train', '--gin_file=mastering.gin']
sys.argv += ['--gin_param=data_path = "."']  # one that is there
dafx_run.console_entry_point()
""",
  )
  assert result.returncode == 1
  text = result.stdout.strip()
  assert text.startswith('dafx needs ddsp, ') and text.endswith(_DDSP)
  assert f'dafx_run: {text}' in result.stderr.splitlines()
  assert 'Traceback' not in result.stderr


def test_what_to_install_is_what_setup_installs():
  text = (_ROOT / 'setup.py').read_text(encoding='utf-8')
  for requirement in _environment._REQUIREMENTS.values():
    assert f"'{requirement}'" in text
  assert _DDSP in text


@pytest.mark.parametrize('case', ['loaded', 'chosen'])
def test_tf_keras_that_is_keras_3_is_refused(monkeypatch, case):
  if case == 'loaded':
    keras = types.SimpleNamespace(__version__='3.9.0')
    tensorflow = types.SimpleNamespace(keras=keras)
    monkeypatch.setitem(sys.modules, 'tensorflow', tensorflow)
  else:
    monkeypatch.setenv('TF_USE_LEGACY_KERAS', '0')
  with pytest.raises(ImportError, match='dafx needs Keras 2 .* Import dafx'):
    _environment.demand_tensorflow()


@pytest.mark.slow
def test_layers_refuse_symbolic_tensors_of_keras_3():
  import keras
  import tensorflow as tf

  from dafx import effects, processors

  assert keras.__version__.startswith('3')
  group = processors.ProcessorGroup(
    dag=[(effects.Gain(), ['audio', 'gain_db'])]
  )
  for package in (keras, tf.keras):
    audio = package.Input((64,), batch_size=1)
    controls = package.Input((1, 1), batch_size=1)
    inputs = {'audio': audio, 'gain_db': controls}
    for call in (
      lambda a=audio, c=controls: effects.Gain()(a, c),
      lambda a=audio, c=controls: effects.Gain()(a, controls=c),
      lambda i=inputs: group(i),
      lambda a=audio: effects.Const(1)(a),
    ):
      if package is keras:
        with pytest.raises(TypeError, match='dafx needs Keras 2 .* Keras 3'):
          call()
      else:
        call()
  out = effects.Gain()(np.ones((1, 64), np.float32), np.zeros((1, 1, 1)))
  assert out.shape == (1, 64)
