"""Each tutorial runs from its first cell to its last, which check it."""

import os
import pathlib
import subprocess
import sys

import nbclient
import nbformat
import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_TUTORIALS = sorted((_ROOT / 'dafx/colab/tutorials').glob('*.ipynb'))


def test_there_are_tutorials():
  assert _TUTORIALS


@pytest.mark.parametrize('path', _TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_is_stored_as_it_should_be(path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  assert notebook.metadata.kernelspec.name == 'python3'
  cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
  assert all(not cell.outputs for cell in cells)
  assert all(cell.execution_count is None for cell in cells)
  # What a tutorial promises it checks at its end.
  assert 'assert ' in cells[-1].source


@pytest.mark.parametrize('path', _TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path, tmp_path, monkeypatch):
  inherited = os.environ.get('PYTHONPATH')
  paths = [str(_ROOT), *([inherited] if inherited else [])]
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join(paths))
  monkeypatch.setenv('IPYTHONDIR', str(tmp_path))
  monkeypatch.delenv('TF_CPP_MIN_LOG_LEVEL', raising=False)
  notebook = nbformat.read(path, as_version=4)
  client = nbclient.NotebookClient(
    notebook,
    timeout=None,
    kernel_name='python3',
    resources={'metadata': {'path': str(tmp_path)}},
  )
  client.execute()
  # What is imported first says nothing of the machine that it runs on.
  imports = next(
    cell
    for cell in notebook.cells
    if cell.cell_type == 'code' and 'import dafx' in cell.source
  )
  streams = [o for o in imports.outputs if o.output_type == 'stream']
  assert [o.text for o in streams if o.name == 'stderr'] == []


def test_only_information_is_left_out():
  code = """
import os
from dafx.colab import startup
lines = (
  b'WARNING: All log messages before absl::InitializeLog() is called are\\n'
  b'I0000 00:00:17.1 1 port.cc:153] oneDNN custom operations are on.\\n'
  b'W0000 00:00:17.1 1 a.cc:1] beware\\n'
  b'E0000 00:00:17.1 1 b.cc:2] out of memory\\n'
  b'I am no log line\\n'
  b'the last one, without an end'
)
try:
  with startup.without_information():
    os.write(2, lines)
    raise KeyError
except KeyError:
  os.write(2, b'\\nI0000 after')
"""
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=_ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stderr.splitlines() == [
    'W0000 00:00:17.1 1 a.cc:1] beware',
    'E0000 00:00:17.1 1 b.cc:2] out of memory',
    'I am no log line',
    'the last one, without an end',
    'I0000 after',
  ]
