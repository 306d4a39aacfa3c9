"""Every name of the public API has an example, and all examples run."""

import ast
import doctest
import functools
import importlib
import importlib.util
import pathlib
import re

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_FILES = sorted(
  path
  for path in (_ROOT / 'dafx').rglob('*.py')
  if '>>> ' in path.read_text(encoding='utf-8')
)
# What stands in a document's tested snippets is an example too.
_DOCUMENTS = [_ROOT / 'README.md', *sorted((_ROOT / 'docs').glob('*.md'))]
_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _pages():
  """Returns scripts/docs_pages.py as a module."""
  path = _ROOT / 'scripts/docs_pages.py'
  spec = importlib.util.spec_from_file_location('docs_pages', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _docstrings(path: pathlib.Path) -> list[str]:
  """Returns all docstrings of a file."""
  tree = ast.parse(path.read_text(encoding='utf-8'))
  kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
  found = (ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, kinds))
  return [text for text in found if text]


@functools.cache
def _shown() -> set[str]:
  """Returns the words of the code of all examples and snippets."""
  parser, code = doctest.DocTestParser(), []
  for path in _FILES:
    for text in _docstrings(path):
      code += [example.source for example in parser.get_examples(text)]
  for path in _DOCUMENTS:
    text = path.read_text(encoding='utf-8')
    code += re.findall(r'^```python\n(.*?)^```', text, re.M | re.S)
  return set(re.findall(r'\w+', '\n'.join(code)))


EXPORTS = _pages().exports()


@pytest.mark.parametrize('package', sorted(EXPORTS))
def test_every_public_name_has_an_example(package):
  shown = _shown()
  assert [name for name in EXPORTS[package] if name not in shown] == []


def test_public_names_are_found():
  assert EXPORTS['dafx.losses']['EsrLoss'].name == 'time_domain.py'
  assert EXPORTS['dafx.neural.nam']['read'].name == 'files.py'


def _module_name(path: pathlib.Path) -> str:
  parts = path.relative_to(_ROOT).with_suffix('').parts
  return '.'.join(parts).removesuffix('.__init__')


@pytest.mark.parametrize('path', _FILES, ids=_module_name)
def test_examples_run(path, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  module = importlib.import_module(_module_name(path))
  result = doctest.testmod(module, optionflags=_OPTIONS)
  assert result.attempted and not result.failed
