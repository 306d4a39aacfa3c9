"""Writes the tables of the documents from benchmarks/results.

    python benchmarks/write_tables.py

A table stands between `<!-- table: NAME -->` and `<!-- end -->` in one of
`PAGES`. Its figures are in results/NAME.json, which a benchmark writes itself
with --write_results; it then calls this. By hand nothing is copied: after a
change of the pages or of how tables look, run this.
"""

import json
import pathlib
import re

_ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = (
  _ROOT / 'docs/measurements.md',
  _ROOT / 'docs/scaling.md',
  _ROOT / 'dafx/training/trained/mastering/model_card.md',
)
RESULTS = _ROOT / 'benchmarks/results'
_TABLE = re.compile(r'(<!-- table: (\w+) -->\n).*?(<!-- end -->)', re.DOTALL)


def check(name: str, content: dict):
  """Refuses results that make no table.

  Raises:
    ValueError: No command, or a row of another length than the columns.
  """
  if not content['command']:
    raise ValueError(f'{name}.json: no command measures it.')
  n_columns = len(content['columns'])
  if any(len(row) != n_columns for row in content['rows']):
    raise ValueError(f'{name}.json: a row has not {n_columns} entries.')


def to_json(content: dict) -> str:
  """Returns results as JSON, a row per line."""
  lines = []
  for key, value in content.items():
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if key == 'rows':
      rows = [
        json.dumps(row, ensure_ascii=False, allow_nan=False) for row in value
      ]
      text = '[\n    ' + ',\n    '.join(rows) + '\n  ]'
    lines.append(f'  {json.dumps(key)}: {text}')
  return '{\n' + ',\n'.join(lines) + '\n}\n'


def table(name: str) -> str:
  """Returns results as a Markdown table, and where they are from under it.

  Args:
    name: Of the file in `RESULTS`, without its suffix.

  Raises:
    ValueError: What `check` refuses.
  """
  content = json.loads((RESULTS / f'{name}.json').read_text(encoding='utf-8'))
  check(name, content)
  columns = content['columns']
  cells = [[_cell(value) for value in row] for row in content['rows']]
  lines = [columns, ['---'] * len(columns), *cells]
  text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
  return f'\n{text}\n\n{source(content)}\n\n'


def source(content: dict) -> str:
  """Returns a sentence that says where results are from.

  Args:
    content: Of a file of results. Of what it leaves out nothing is said. Older
      ones have a 'note', which goes when they are measured anew.
  """
  versions = [f'dafx {content["dafx"]}']
  if 'tensorflow' in content:
    versions.append(f'TensorFlow {content["tensorflow"]}')
  versions += [
    f'{package} {version or "of unknown version"}'
    for package, version in content.get('plugins', {}).items()
  ]
  text = f'Measured by `{content["command"]}` with {", ".join(versions)}'
  if 'date' in content:
    text += (
      f', on {content["date"]}, on {content["n_processors"]} processors '
      f'(load before: {content["load_before"]})'
    )
  note = f' {content["note"]}' if 'note' in content else ''
  return f'{text}.{note}'


def _cell(value) -> str:
  if value is None:
    return ''
  text = f'{value:,}' if isinstance(value, int) else str(value)
  return text.replace('-', '−') if isinstance(value, (int, float)) else text


def filled(page: str) -> str:
  """Returns a page with its tables as the results have them.

  A place for what was not measured yet is left empty.
  """
  return _TABLE.sub(lambda m: m[1] + _content(m[2]) + m[3], page)


def _content(name):
  return table(name) if (RESULTS / f'{name}.json').is_file() else ''


def shown() -> list[str]:
  """Returns the names of the tables of all pages."""
  texts = [page.read_text(encoding='utf-8') for page in PAGES]
  return [match[2] for text in texts for match in _TABLE.finditer(text)]


def main():
  """Writes the pages, and says which results stand on none."""
  for page in PAGES:
    text = filled(page.read_text(encoding='utf-8'))
    page.write_text(text, encoding='utf-8')
  for path in sorted(RESULTS.glob('*.json')):
    if path.stem not in shown():
      print(
        f'No page shows {path.name}. Write <!-- table: {path.stem} --> and '
        '<!-- end --> on lines of their own where it belongs, and run '
        'python benchmarks/write_tables.py'
      )


if __name__ == '__main__':
  main()
