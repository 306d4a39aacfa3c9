"""The table of cases is whole: each test that it names is there."""

import ast
import pathlib
import re

FOLDER = pathlib.Path(__file__).parent


def rows():
  """Returns (what users met, tests) of each row of the table."""
  found = []
  for line in (FOLDER / 'README.md').read_text().splitlines():
    cells = [cell.strip() for cell in line.strip().strip('|').split('|')]
    if line.startswith('| ') and cells[0] not in ('Met', '---'):
      found.append((cells[0], re.findall(r'`(\w+(?:/\w+)?)::(\w+)`', cells[1])))
  return found


def names_in(file):
  tree = ast.parse((FOLDER / f'{file}.py').resolve().read_text())
  return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_test_that_the_table_names_is_there():
  table = rows()
  assert len(table) > 25
  assert len({met for met, _ in table}) == len(table)
  known = {}
  for met, tests in table:
    assert tests, f'{met}: no test'
    for file, name in tests:
      path = file if (FOLDER / f'{file}.py').exists() else f'../{file}'
      names = known.setdefault(path, names_in(path))
      assert name in names, f'{met}: {file}.py has no {name}'
      assert name.startswith('test_')
