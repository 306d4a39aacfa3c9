"""Each tutorial runs from its first cell to its last, which check it."""

import os
import pathlib

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


@pytest.mark.slow
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
