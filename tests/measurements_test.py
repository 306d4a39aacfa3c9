"""The tables of the documents are those that benchmarks write."""

import ast
import json
import pathlib
import shlex
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_BENCHMARKS = _ROOT / 'benchmarks'
sys.path.insert(0, str(_BENCHMARKS))

import results  # noqa: E402
import write_tables  # noqa: E402

_RESULTS = sorted(path.stem for path in write_tables.RESULTS.glob('*.json'))
_SCRIPTS = sorted(_BENCHMARKS.glob('*.py'))
# Those that are run, not only imported.
_RUN = [path for path in _SCRIPTS if 'app.run(' in path.read_text()]


def _tree(path):
  return ast.parse(path.read_text(encoding='utf-8'))


def _calls(path, module):
  """Yields (function, call) of all calls of a module's functions."""
  for node in ast.walk(_tree(path)):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
      if isinstance(node.func.value, ast.Name) and node.func.value.id == module:
        yield node.func.attr, node


def _with_imports(path):
  """Returns a benchmark and those that it imports."""
  found = [path]
  for script in found:
    for node in ast.walk(_tree(script)):
      names = node.names if isinstance(node, ast.Import) else ()
      others = [_BENCHMARKS / f'{alias.name}.py' for alias in names]
      found += [p for p in others if p in _SCRIPTS and p not in found]
  return found


def _flags_of(path):
  """Returns the flags that a benchmark has, without running it."""
  values = flags.FlagValues()
  for script in _with_imports(path):
    for function, call in _calls(script, 'flags'):
      if not function.startswith('DEFINE_'):
        continue
      name = ast.literal_eval(call.args[0])
      assert name not in values, f'--{name} is defined twice'
      define, choices = getattr(flags, function), ()
      if function == 'DEFINE_enum':
        choices = (ast.literal_eval(call.args[2]),)
      define(name, None, *choices, '', flag_values=values)
  return values


def _results(name):
  path = write_tables.RESULTS / f'{name}.json'
  return json.loads(path.read_text(encoding='utf-8'))


@pytest.mark.parametrize('page', write_tables.PAGES, ids=lambda p: p.stem)
def test_page_and_results_agree(page):
  text = page.read_text(encoding='utf-8')
  assert write_tables.filled(text) == text, 'run benchmarks/write_tables.py'


def test_every_result_has_its_table():
  shown = write_tables.shown()
  assert len(shown) == len(set(shown))
  assert set(_RESULTS) <= set(shown)


@pytest.mark.parametrize('name', _RESULTS)
def test_command_can_be_given(name):
  content = _results(name)
  write_tables.check(name, content)
  python, script, *arguments = shlex.split(content['command'])
  path = _ROOT / script
  assert python == 'python' and path in _SCRIPTS
  values = _flags_of(path)
  assert values([script, '--write_results', *arguments]) == [script]
  assert values.write_results


def test_a_flag_that_is_not_there_is_found():
  values = _flags_of(_BENCHMARKS / 'chains.py')
  with pytest.raises(flags.UnrecognizedFlagError, match='n_seed'):
    values(['chains.py', '--n_sed=1'])
  with pytest.raises(flags.IllegalFlagValueError, match='n_seeds'):
    values(['chains.py', '--n_seeds=a'])


@pytest.mark.parametrize('name', _RESULTS)
def test_benchmark_writes_the_results_that_name_it(name):
  script = _ROOT / shlex.split(_results(name)['command'])[1]
  names = [
    ast.unparse(call.args[0])
    for function, call in _calls(script, 'results')
    if function == 'write'
  ]
  # A name may be put together, as learning's is of its task.
  assert any(
    name == text.strip("'") or text.startswith("f'") for text in names
  ), names


@pytest.mark.parametrize('path', _RUN, ids=lambda path: path.stem)
def test_a_benchmark_writes_results_in_the_one_way(path):
  assert {'json', 'write_results'} <= set(_flags_of(path))
  calls = {function for function, _ in _calls(path, 'results')}
  assert {'write', 'keep'} <= calls


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """Returns a folder for results, and a page that shows 'a'."""
  page = tmp_path / 'page.md'
  page.write_text('Text\n<!-- table: a -->\nold\n<!-- end -->\n')
  monkeypatch.setattr(write_tables, 'RESULTS', tmp_path)
  monkeypatch.setattr(write_tables, 'PAGES', (page,))
  return tmp_path


def test_tables_are_markdown(folder):
  (folder / 'a.json').write_text(
    '{"command": "x", "dafx": "0.1.0", "note": "Old.", '
    '"columns": ["n", "m"], "rows": [[1500, -0.5], ["a-b", null]]}'
  )
  write_tables.main()
  assert (folder / 'page.md').read_text() == (
    'Text\n<!-- table: a -->\n\n| n | m |\n| --- | --- |\n| 1,500 | −0.5 |\n'
    '| a-b |  |\n\nMeasured by `x` with dafx 0.1.0. Old.\n\n<!-- end -->\n'
  )


def test_a_place_without_results_is_left_empty(folder):
  write_tables.main()
  assert (folder / 'page.md').read_text() == (
    'Text\n<!-- table: a -->\n<!-- end -->\n'
  )


def test_a_table_without_a_command_is_refused(folder):
  (folder / 'a.json').write_text(
    '{"command": null, "dafx": "0.1.0", "columns": ["n"], "rows": [[1]]}'
  )
  with pytest.raises(ValueError, match='no command'):
    write_tables.main()


def test_a_row_of_another_length_is_refused(folder):
  (folder / 'a.json').write_text(
    '{"command": "x", "dafx": "0.1.0", "columns": ["n"], "rows": [[1, 2]]}'
  )
  with pytest.raises(ValueError, match='a row has not 1 entries'):
    write_tables.main()


@pytest.fixture
def given(monkeypatch):
  """Gives flags as a command line would."""
  monkeypatch.setattr(sys, 'argv', ['/somewhere/bench.py'])
  saved = flagsaver.save_flag_values()
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()

  def give(**values):
    for name, value in values.items():
      setattr(flags.FLAGS, name, value)

  yield give
  flagsaver.restore_flag_values(saved)


def test_a_benchmark_writes_its_results_and_the_page(folder, given):
  given(write_results=True)
  rows = [['a', 2, 0.123456], ['b', None, float('inf')]]
  results.write('a', ['x', 'y', 'z'], rows, decimals=3)
  content = json.loads((folder / 'a.json').read_text())
  assert content['command'] == 'python benchmarks/bench.py'
  assert content['rows'] == [['a', 2, 0.123], ['b', None, None]]
  assert content['n_processors'] >= 1 and content['dafx']
  text = (folder / 'page.md').read_text()
  assert '| a | 2 | 0.123 |' in text
  assert f'with dafx {content["dafx"]}' in text and content['date'] in text


def test_results_without_a_place_are_told(folder, given, capsys):
  given(write_results=True)
  results.write('a', ['x'], [[1]])
  assert 'No page' not in capsys.readouterr().out
  results.write('b', ['x'], [[1]])
  assert '<!-- table: b -->' in capsys.readouterr().out


def test_without_the_flag_nothing_is_written(folder, given):
  given(write_results=False, json=None)
  results.write('a', ['x'], [[1]])
  results.keep([1])
  assert not list(folder.glob('*.json'))


def test_rows_are_kept_where_the_flag_says(tmp_path, given):
  given(json=str(tmp_path / 'rows.json'))
  results.keep([{'x': 1.0}])
  assert json.loads((tmp_path / 'rows.json').read_text()) == [{'x': 1.0}]


def test_versions_of_plugins_are_those_of_their_packages():
  uri = 'http://invadarecords.com/plugins/lv2/tube/mono'
  plugins = results.versions([uri, 'urn:of:nobody'])['plugins']
  assert list(plugins) == ['invada-studio-plugins-lv2']
  assert plugins['invada-studio-plugins-lv2'][0].isdigit()
