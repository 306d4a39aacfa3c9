"""Modules import only from rooms above their own; see docs/architecture.md."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# Rooms, from the ground up. A room is a package or a module; what a longer
# name claims is not part of it. A module imports from rows above its own, and
# from its own room; rooms of one row do not know each other.
ROWS = (
  ('dafx._folders',),
  ('dafx._environment', 'dafx._arguments'),
  ('dafx',),
  ('dafx.core', 'dafx.audio', 'dafx.lv2', 'dafx.gradients'),
  ('dafx.processors', 'dafx.losses', 'dafx.metrics', 'dafx.pitch'),
  ('dafx.neural', 'dafx.synths', 'dafx.lv2.cards'),
  ('dafx.neural.nam',),
  ('dafx.effects', 'dafx.sessions'),
  ('dafx.training', 'dafx.training.plotting'),
  ('dafx.training.data', 'dafx.training.models'),
  (
    'dafx.training.trainers',
    'dafx.training.inference',
    'dafx.training.data_preparation',
  ),
  ('dafx.training.evaluation',),
  ('dafx.training.matching',),
  ('dafx.commands',),
  ('dafx.colab', 'dafx.ddsp'),
)
# The same within rooms that have an order of their own.
GRADIENTS = (
  ('black_box', 'figures'),
  ('adjoint', 'differences', 'response', 'spsa'),
  ('directional',),
)
LV2 = (
  ('_host', 'build_host', 'errors', 'forks', 'packages'),
  ('items', 'latency', 'lilv', 'nonfinite', 'processes', 'shelf'),
  ('parameters', 'ports'),
  ('world',),
  ('presets', 'states', 'stimuli'),
  ('instances',),
  ('inputs', 'supply', 'unheard'),
  ('batches',),
  ('renderer',),
  ('saving', 'worker', 'safety'),
  ('preset_files',),
)
CARDS = (
  ('binding', 'card'),
  ('experiments', 'listing', 'neutral', 'text'),
  ('file_levels',),
  ('checks',),
)
EVALUATION = (
  ('clip_audio', 'ledger', 'measures', 'rule'),
  ('report', 'tables'),
  ('evaluate', 'findings'),
  ('conclusion', 'demonstration'),
)
MATCHING = (
  ('distances', 'chain', 'pairing'),
  ('newton', 'problem'),
  ('character', 'descent', 'hand'),
  ('search',),
  ('references', 'result'),
  ('matcher', 'page', 'settings'),
  ('files',),
)
# Files, host, estimators and sessions know nothing of TensorFlow and gin.
PURE = ('dafx.audio', 'dafx.lv2', 'dafx.gradients', 'dafx.sessions')


def modules():
  """Returns the path of each module of dafx by its full name."""
  found = {}
  for path in sorted((ROOT / 'dafx').rglob('*.py')):
    parts = path.relative_to(ROOT).with_suffix('').parts
    found['.'.join(p for p in parts if p != '__init__')] = path
  return found


MODULES = modules()


def imported_names(path):
  """Yields the full names of all that a file imports, anywhere in it."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path} has a relative import'
      for alias in node.names:
        yield f'{node.module}.{alias.name}'


def room_of(name, rows):
  """Returns (row, room) of a dotted name: that of its longest prefix."""
  rooms = {room: i for i, row in enumerate(rows) for room in row}
  parts = name.split('.')
  for n in range(len(parts), 0, -1):
    room = '.'.join(parts[:n])
    if room in rooms:
      return rooms[room], room
  return None


def faults(paths_by_module, rows):
  """Returns a line for each import that does not go upward."""
  found = []
  for module, path in paths_by_module.items():
    own = room_of(module, rows)
    for name in imported_names(path):
      other = room_of(name, rows)
      if own is None or other is None or other[1] == own[1]:
        continue
      if other[0] >= own[0]:
        found.append(f'{module} imports {name}')
  return found


def rows_within(package, rows):
  return [[f'{package}.{name}' for name in row] for row in rows]


def test_rooms_import_from_rows_above():
  assert faults(MODULES, ROWS) == []


@pytest.mark.parametrize(
  'package, rows',
  [
    ('dafx.gradients', GRADIENTS),
    ('dafx.lv2', LV2),
    ('dafx.lv2.cards', CARDS),
    ('dafx.training.evaluation', EVALUATION),
    ('dafx.training.matching', MATCHING),
  ],
)
def test_modules_of_a_room_import_from_rows_above(package, rows):
  rows = rows_within(package, rows)
  inside = {n: p for n, p in MODULES.items() if room_of(n, rows)}
  there = {n for n, p in MODULES.items() if n.rpartition('.')[0] == package}
  packages = {n for n in there if MODULES[n].name == '__init__.py'}
  assert not there - packages - set(inside), 'modules that no row names'
  assert faults(inside, rows) == []


def test_every_module_has_a_room():
  rooms = {room for row in ROWS for room in row}
  assert rooms <= set(MODULES), 'rooms without a module'
  # Only the package itself is its own room: what is new gets one.
  ground = [n for n in MODULES if room_of(n, ROWS)[1] == 'dafx']
  assert ground == ['dafx']
  packages = {n for n, p in MODULES.items() if p.name == '__init__.py'}
  assert packages <= rooms


@pytest.mark.parametrize('package', PURE)
def test_pure_rooms_are_numpy_only(package):
  paths = [p for n, p in MODULES.items() if f'{n}.'.startswith(f'{package}.')]
  assert paths
  for path in paths:
    roots = {name.split('.')[0] for name in imported_names(path)}
    assert not roots & {'tensorflow', 'gin', 'ddsp'}


def test_the_check_can_fail():
  assert faults(MODULES, ROWS[::-1]) != []
  inference = next(row for row in ROWS if 'dafx.training.inference' in row)
  rows = [inference, *(row for row in ROWS if row != inference)]
  assert any(
    line.startswith('dafx.training.inference.')
    for line in faults(MODULES, rows)
  )
