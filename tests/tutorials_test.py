"""Each notebook runs from its first cell to its last, which check it."""

import os
import pathlib

import nbclient
import nbformat
import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_TUTORIALS = sorted((_ROOT / 'dafx/colab/tutorials').glob('*.ipynb'))
_DEMOS = _ROOT / 'dafx/colab/demos'
# What stands behind the parameters of a demo, so that it takes seconds.
_SMALL = {
  'pitch': "SECONDS, TRACKERS = 3.0, ['swift_f0']",
  'timbre_transfer': '',
  'train_instrument': 'SECONDS, N_STEPS = 40, 16',
}


def test_there_are_notebooks():
  assert _TUTORIALS
  assert {path.stem for path in _DEMOS.glob('*.ipynb')} == set(_SMALL)


@pytest.mark.parametrize(
  'path',
  [*_TUTORIALS, *sorted(_DEMOS.glob('*.ipynb'))],
  ids=lambda path: path.stem,
)
def test_notebook_is_stored_as_it_should_be(path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  assert notebook.metadata.kernelspec.name == 'python3'
  cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
  assert all(not cell.outputs for cell in cells)
  assert all(cell.execution_count is None for cell in cells)
  # What a tutorial promises it checks at its end.
  assert 'assert ' in cells[-1].source


def run(path, folder, parameters=''):
  """Runs a notebook in a folder; checks what its imports say."""
  notebook = nbformat.read(path, as_version=4)
  cells = notebook.cells
  places = [i for i, cell in enumerate(cells) if 'tags' in cell.metadata]
  for place in places:
    cells.insert(place + 1, nbformat.v4.new_code_cell(parameters))
  inherited = os.environ.get('PYTHONPATH')
  paths = [str(_ROOT), *([inherited] if inherited else [])]
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('PYTHONPATH', os.pathsep.join(paths))
    patch.setenv('IPYTHONDIR', str(folder / 'ipython'))
    patch.delenv('TF_CPP_MIN_LOG_LEVEL', raising=False)
    client = nbclient.NotebookClient(
      notebook,
      timeout=None,
      kernel_name='python3',
      resources={'metadata': {'path': str(folder)}},
    )
    client.execute()
  # What is imported first says nothing of the machine that it runs on.
  imports = next(c for c in cells if 'startup.import_tensorflow' in c.source)
  streams = [o for o in imports.outputs if o.output_type == 'stream']
  assert [o.text for o in streams if o.name == 'stderr'] == []


@pytest.mark.slow
@pytest.mark.parametrize('path', _TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path, tmp_path):
  run(path, tmp_path)


@pytest.fixture(scope='module')
def instrument(tmp_path_factory):
  """Where the notebook that trains an instrument has run."""
  folder = tmp_path_factory.mktemp('demos')
  name = 'train_instrument'
  run(_DEMOS / f'{name}.ipynb', folder, _SMALL[name])
  return folder


@pytest.mark.slow
def test_an_instrument_is_trained(instrument):
  found = {path.name for path in (instrument / 'instrument/run').iterdir()}
  assert {'operative_config-0.gin', 'ckpt-16.index'} <= found


@pytest.mark.slow
@pytest.mark.parametrize('name', ['pitch', 'timbre_transfer'])
def test_demo_runs(name, instrument):
  run(_DEMOS / f'{name}.ipynb', instrument, _SMALL[name])
