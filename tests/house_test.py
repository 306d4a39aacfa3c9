"""Rules of the house that can be read off the code: lengths, and no probing.

What a thing can do is declared by its class, so nothing asks with `hasattr` or
`getattr`; the places that may are named here, with what they meet.
"""

import ast
import collections
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted((ROOT / 'dafx').rglob('*.py'))
MOST_LINES_OF_A_MODULE = 450
MOST_LINES_OF_A_FUNCTION = 70  # without its docstring

# Where foreign things are met, and how often they are asked.
FOREIGN = {
  'dafx/core/given.py': 1,  # tensors, arrays and lists
  'dafx/_environment.py': 2,  # modules that may be stand-ins
  'dafx/processors/dag.py': 1,  # processors of DDSP's group
  'dafx/processors/layers.py': 3,  # attributes that Keras saves; tensors
  'dafx/processors/node.py': 2,  # what is DDSP's or Keras's
}


def name_of(path):
  return path.relative_to(ROOT).as_posix()


def functions_of(tree):
  """Yields (name, lines without the docstring) of all functions."""
  for node in ast.walk(tree):
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
      n_lines = node.end_lineno - node.lineno + 1
      if ast.get_docstring(node) is not None:
        docstring = node.body[0]
        n_lines -= docstring.end_lineno - docstring.lineno + 1
      yield node.name, n_lines


def n_probes(tree):
  """Counts where `hasattr` and `getattr` are named, called or not."""
  return sum(
    isinstance(node, ast.Name) and node.id in ('hasattr', 'getattr')
    for node in ast.walk(tree)
  )


def test_modules_are_short():
  long = {
    name_of(path)
    for path in MODULES
    if len(path.read_text().splitlines()) > MOST_LINES_OF_A_MODULE
  }
  assert long == set()


def test_functions_are_short():
  long = {
    (name_of(path), name)
    for path in MODULES
    for name, n_lines in functions_of(ast.parse(path.read_text()))
    if n_lines > MOST_LINES_OF_A_FUNCTION
  }
  assert long == set()


def test_only_foreign_things_are_asked_what_they_have():
  found = collections.Counter(
    {name_of(path): n_probes(ast.parse(path.read_text())) for path in MODULES}
  )
  assert found - collections.Counter(FOREIGN) == {}
  # None is named that meets nothing: the list says where foreign things are.
  assert not [name for name, n in FOREIGN.items() if found[name] < n]


def test_the_counts_can_fail():
  text = (
    'def f(x):\n  """One.\n\n  Two.\n  """\n  y = x\n  return hasattr(y, "z")\n'
  )
  tree = ast.parse(text)
  assert list(functions_of(tree)) == [('f', 3)]
  assert n_probes(tree) == 1
  assert n_probes(ast.parse('def __getattr__(name): ...')) == 0
