"""Models that come trained, as folders of runs in the package."""

import pathlib

# Each folder has a run's configuration and weights, a model card and a licence.
ROOT = pathlib.Path(__file__).resolve().parent / 'trained'


def names(root: pathlib.Path = ROOT) -> list[str]:
  """Returns the names of the models that come with dafx.

  >>> from dafx.training import trained_models
  >>> 'no_such_model' in trained_models.names()
  False

  Args:
    root: Where they are.
  """
  return sorted(path.parent.name for path in root.glob('*/checkpoint'))


def folder(name: str, root: pathlib.Path = ROOT) -> pathlib.Path:
  """Returns the folder of a model, as of a run that was trained.

  Args:
    name: One of `names`.
    root: Where they are.

  Raises:
    ValueError: There is no such model; the message lists those that are there.
  """
  known = names(root)
  if name not in known:
    raise ValueError(
      f'--model={name}: no such model comes with dafx; there are '
      f'{", ".join(known) or "none"}. For a run of your own give '
      '--save_dir=FOLDER.'
    )
  return root / name
