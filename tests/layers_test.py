"""Modules import only downward, as docs/design.md has it."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1] / 'dafx'
# A module may import those of the levels before its own, and none of its own.
LEVELS = (
  ('core', 'audio', 'lv2', 'gradients', 'processors'),
  ('neural', 'losses', 'metrics', 'synths'),
  ('effects',),
  ('training',),
  ('commands',),
  ('colab',),
)
TRAINING_LEVELS = (
  ('ledger', 'measures'),
  (
    'plotting',
    'profiling',
    'labels',
    'preprocessing',
    'augmentation',
    'encoders',
    'train_util',
    'progress_bar',
    'checkpoints',
    'pretraining',
  ),
  ('data', 'clip_audio', 'block_plots'),
  ('report', 'summaries'),
  ('findings',),
  ('tfrecords', 'effect_pairs'),
  ('effect_data',),
  ('models', 'effect_models'),
  ('listening', 'rendering'),
  ('trainers',),
  ('inference',),
  ('evaluators', 'effect_inference', 'data_preparation'),
  ('demonstration',),
)
GRADIENTS_LEVELS = (
  ('black_box',),
  ('adjoint', 'differences', 'directional', 'response', 'spsa'),
)
LV2_LEVELS = (
  ('_host', 'errors'),
  ('world', 'processes', 'shelf'),
  ('fresh_state', 'instances'),
  ('renderer',),
  ('worker', 'presets', 'probing'),
  ('cards',),
)
# Files, host and estimators know nothing of TensorFlow and gin.
PURE = ('audio', 'lv2', 'gradients')


def imported_names(path):
  """Yields the full names of all that a file imports, anywhere in it."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path} has a relative import'
      for alias in node.names:
        yield f'{node.module}.{alias.name}'


def files(package):
  single = ROOT / f'{package}.py'
  return [single] if single.exists() else sorted((ROOT / package).rglob('*.py'))


def level_of(name, levels):
  return next(i for i, level in enumerate(levels) if name in level)


def faults(paths_by_module, prefix, levels):
  found = []
  for module, paths in paths_by_module.items():
    own = level_of(module, levels)
    for path in paths:
      for name in imported_names(path):
        if not name.startswith(prefix):
          continue
        other = name[len(prefix) :].split('.')[0]
        known = [n for level in levels for n in level]
        if other == module or other not in known:
          continue
        if level_of(other, levels) >= own:
          found.append(f'{path.name} imports {name}')
  return found


def test_package_imports_downward():
  modules = {n: files(n) for level in LEVELS for n in level}
  assert all(modules.values())
  assert faults(modules, 'dafx.', LEVELS) == []


@pytest.mark.parametrize(
  'package, levels',
  [
    ('training', TRAINING_LEVELS),
    ('gradients', GRADIENTS_LEVELS),
    ('lv2', LV2_LEVELS),
  ],
)
def test_subpackages_import_downward(package, levels):
  folder = ROOT / package
  modules = {}
  for level in levels:
    for name in level:
      path = folder / f'{name}.py'
      modules[name] = [path] if path.exists() else []
      if (folder / name).is_dir():
        modules[name] = sorted((folder / name).rglob('*.py'))
  listed = {p for paths in modules.values() for p in paths}
  there = {p for p in folder.rglob('*.py') if p.stem != '__init__'}
  there -= {folder / 'build_host.py'}
  assert not there - listed, 'modules that no level names'
  assert faults(modules, f'dafx.{package}.', levels) == []


def test_every_module_has_a_level():
  there = {
    p.stem
    for p in ROOT.iterdir()
    if (p.suffix == '.py' or (p / '__init__.py').exists())
    and not p.stem.startswith('_')
  }
  assert there == {name for level in LEVELS for name in level}


@pytest.mark.parametrize('package', PURE)
def test_files_host_and_gradients_are_numpy_only(package):
  for path in files(package):
    names = list(imported_names(path))
    assert not [n for n in names if n.split('.')[0] in ('tensorflow', 'gin')]


def test_the_check_can_fail():
  wrong = (('losses', 'metrics'), ('effects',), ('core', 'lv2', 'gradients'))
  modules = {'effects': files('effects'), 'core': files('core')}
  assert faults(modules, 'dafx.', wrong) != []
