"""Writes the tables of docs/measurements.md from benchmarks/results.

    python benchmarks/write_tables.py

A table of the page stands between `<!-- table: NAME -->` and `<!-- end -->`.
Its figures are in results/NAME.json, with the command that measures them (null
where no benchmark does), the columns, and a list per row. To renew them, run
the command, put what it prints into the file, and run this.
"""

import json
import pathlib
import re

_ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = _ROOT / 'docs/measurements.md'
RESULTS = _ROOT / 'benchmarks/results'
_TABLE = re.compile(r'(<!-- table: (\w+) -->\n).*?(<!-- end -->)', re.DOTALL)


def table(name: str) -> str:
  """Returns results as a Markdown table, the command under it.

  Args:
    name: Of the file in `RESULTS`, without its suffix.

  Raises:
    ValueError: A row of another length than the columns.
  """
  content = json.loads((RESULTS / f'{name}.json').read_text(encoding='utf-8'))
  columns, rows = content['columns'], content['rows']
  if any(len(row) != len(columns) for row in rows):
    raise ValueError(f'{name}.json: a row has not {len(columns)} entries.')
  cells = [[_cell(value) for value in row] for row in rows]
  lines = [columns, ['---'] * len(columns), *cells]
  text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
  command = content['command']
  source = f'Measured by `{command}`.' if command else 'No benchmark prints it.'
  return f'\n{text}\n\n{source}\n\n'


def _cell(value) -> str:
  if value is None:
    return ''
  text = f'{value:,}' if isinstance(value, int) else str(value)
  return text.replace('-', '−') if isinstance(value, (int, float)) else text


def filled(page: str) -> str:
  """Returns a page with its tables as the results have them."""
  return _TABLE.sub(lambda m: m[1] + table(m[2]) + m[3], page)


def main():
  """Writes the page."""
  PAGE.write_text(filled(PAGE.read_text(encoding='utf-8')), encoding='utf-8')


if __name__ == '__main__':
  main()
