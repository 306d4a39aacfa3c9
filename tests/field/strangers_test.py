"""What a stranger's file may do: nothing but to be read.

Each group of tests begins with a line on the kind of fault that it stands for.
"""

import pathlib

import gin
import pytest

from dafx.training import gin_files, gin_text, inference

HARMLESS = """\
# Written by dafx.
import ddsp
import dafx.effects
import tensorflow as tf
from dafx.training import models

macro = [1, {'a': @effects.Gain()}]
effects.Gain.trainable = ['gain_db']
make_model.model = @models.EffectModel()
"""


@pytest.fixture(autouse=True)
def _without_gin():
  gin.clear_config()
  yield
  gin.clear_config()


def run_of(tmp_path, text):
  folder = tmp_path / 'run'
  folder.mkdir(exist_ok=True)
  (folder / 'operative_config-0.gin').write_text(text)
  return folder


# -------- A config is read with a list of what is allowed. --------------------
WRONG = [
  ('import os\nos.system.command = "true"', 1, 'imports os'),
  ('\nimport os.path as dafx', 2, 'imports os.path'),
  (
    'from __gin__ import dynamic_registration',
    1,
    'imports __gin__.dynamic_registration',
  ),
  ('from subprocess import run', 1, 'imports subprocess.run'),
  ('import dafxtra', 1, 'imports dafxtra'),
  ('import gin.config', 1, 'imports gin.config'),
  ("include '/etc/passwd'", 1, 'includes /etc/passwd'),
  ('make_model.model = @dafx.training.train()', 1, 'calls dafx.training.train'),
  ('a = [{1: (0, @x/evaluate)}]', 1, 'calls x/evaluate'),
  ('\n\na.b:\n  c = 1\n  d = @train()', 5, 'calls train'),
]


@pytest.mark.parametrize('text, line, said', WRONG, ids=[w[2] for w in WRONG])
def test_what_a_run_may_not_do_is_refused_with_the_line(
  tmp_path, text, line, said
):
  folder = run_of(tmp_path, text)
  place = f'operative_config-0.gin, line {line}: the config {said}'
  for read in (
    gin_files.check_operative_config,
    gin_files.parse_operative_config,
    inference.load_model,
    inference.load_setting,
  ):
    with pytest.raises(ValueError, match='.*' + place.replace('.', r'\.')):
      read(folder)


def test_what_makes_models_is_allowed(tmp_path):
  folder = run_of(tmp_path, HARMLESS)
  bound = gin_files.check_operative_config(folder)
  assert bound['Gain', 'trainable'] == ['gain_db']
  assert isinstance(bound['make_model', 'model'], gin_text.Reference)


def test_a_module_that_the_user_names_is_allowed(tmp_path, monkeypatch):
  """The two remedies of the message."""
  (tmp_path / 'field_module.py').write_text(
    'import gin\n@gin.register\ndef of_field(x=1):\n  return x\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  folder = run_of(tmp_path, 'import field_module\nof_field.x = 3\n')
  with pytest.raises(ValueError, match='--gin_module=MODULE'):
    gin_files.parse_operative_config(folder)
  for kwargs in ({'modules': ['field_module']}, {'trust': True}):
    gin.clear_config()
    gin_files.parse_operative_config(folder, **kwargs)
    assert gin.query_parameter('of_field.x') == 3
  # One name does not stand for others that begin so.
  with pytest.raises(ValueError, match='imports field_module'):
    gin_files.parse_operative_config(folder, ['field'])


def test_a_config_is_bounded_and_a_file(tmp_path):
  folder = run_of(tmp_path, '')
  with open(folder / 'operative_config-0.gin', 'wb') as file:
    file.truncate(2**24 + 1)
  with pytest.raises(ValueError, match='has 16777217 bytes'):
    gin_files.parse_operative_config(folder)
  (folder / 'operative_config-7.gin').mkdir()
  assert gin_files.newest_operative_config(folder) == pathlib.Path(
    folder / 'operative_config-0.gin'
  )
