"""The tables of docs/measurements.md are those of benchmarks/results."""

import importlib.util
import pathlib
import re

_ROOT = pathlib.Path(__file__).resolve().parents[1]


def _script():
  path = _ROOT / 'benchmarks/write_tables.py'
  spec = importlib.util.spec_from_file_location('write_tables', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_page_and_results_agree():
  script = _script()
  page = script.PAGE.read_text(encoding='utf-8')
  assert script.filled(page) == page, 'run benchmarks/write_tables.py'


def test_every_result_has_its_table():
  script = _script()
  shown = re.findall(r'<!-- table: (\w+) -->', script.PAGE.read_text())
  assert sorted(shown) == sorted(p.stem for p in script.RESULTS.glob('*.json'))


def test_tables_are_markdown(tmp_path, monkeypatch):
  script = _script()
  monkeypatch.setattr(script, 'RESULTS', tmp_path)
  (tmp_path / 'a.json').write_text(
    '{"command": "x", "columns": ["n", "m"], '
    '"rows": [[1500, -0.5], ["a", null]]}'
  )
  page = 'Text\n<!-- table: a -->\nold\n<!-- end -->\n'
  assert script.filled(page) == (
    'Text\n<!-- table: a -->\n\n| n | m |\n| --- | --- |\n| 1,500 | −0.5 |\n'
    '| a |  |\n\nMeasured by `x`.\n\n<!-- end -->\n'
  )


def test_a_table_that_no_benchmark_prints_says_so(tmp_path, monkeypatch):
  script = _script()
  monkeypatch.setattr(script, 'RESULTS', tmp_path)
  (tmp_path / 'a.json').write_text(
    '{"command": null, "columns": ["n"], "rows": [[1]]}'
  )
  assert 'No benchmark prints it.' in script.table('a')
