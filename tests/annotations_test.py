"""The public API has type hints: what mypy cannot ask for by itself."""

import ast

import examples_test
import pytest


def _functions(tree: ast.Module, name: str):
  """Yields (name, function) of what a public name can be called by."""
  for node in tree.body:
    if isinstance(node, ast.FunctionDef) and node.name == name:
      yield name, node
    if isinstance(node, ast.ClassDef) and node.name == name:
      for method in node.body:
        if isinstance(method, ast.FunctionDef) and (
          method.name == '__init__' or not method.name.startswith('_')
        ):
          yield f'{name}.{method.name}', method


def _lacks(function: ast.FunctionDef) -> list[str]:
  """Returns the arguments, and 'return', that have no type hint."""
  arguments = function.args
  named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
  missing = [
    a.arg
    for a in named
    if a.annotation is None and a.arg not in ('self', 'cls')
  ]
  decorators = {getattr(d, 'attr', '') for d in function.decorator_list}
  if function.returns is None and function.name != '__init__':
    if 'setter' not in decorators and _gives(function):
      missing.append('return')
  return missing


def _gives(function: ast.FunctionDef) -> bool:
  """Whether a function returns or yields something."""
  inner = [
    n
    for child in ast.walk(function)
    if child is not function
    and isinstance(child, (ast.FunctionDef, ast.Lambda))
    for n in ast.walk(child)
  ]
  return any(
    (isinstance(n, ast.Return) and n.value is not None)
    or isinstance(n, (ast.Yield, ast.YieldFrom))
    for n in ast.walk(function)
    if n not in inner
  )


def _missing(package: str) -> list[str]:
  faults = []
  for name, path in examples_test.EXPORTS[package].items():
    tree = ast.parse(path.read_text(encoding='utf-8'))
    for full_name, function in _functions(tree, name):
      faults += [f'{full_name}: {hint}' for hint in _lacks(function)]
  return faults


@pytest.mark.parametrize('package', sorted(examples_test.EXPORTS))
def test_the_public_api_has_type_hints(package):
  assert _missing(package) == []
