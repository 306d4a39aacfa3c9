"""Checkpoints on disk: written whole or not at all, read whole or not."""

import collections
import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping

import tensorflow as tf
from absl import logging

from dafx import _folders
from dafx.audio import disk
from dafx.training import gin_files

# What TensorFlow puts behind the name of a variable.
_VALUE = '/.ATTRIBUTES/VARIABLE_VALUE'
# State of estimates, not weights; 0.1.0 kept it elsewhere for chains that it
# made of plugins in a row, and for each combination of a DiscreteLV2Plugin.
_OF_ESTIMATES = ('gradient_step', 'input_choice', 'input_factor')

# What checkpoints of 0.2.0 and before lack: validations went by the loss.
_LATER = ('judged_by',)


# What TensorFlow takes for a pattern of file names when it reads.
_PATTERN = re.compile(r'[*?\[\]\\]')


@contextlib.contextmanager
def _plain(path: str | os.PathLike) -> Iterator[str]:
  """Yields a path to a checkpoint in which nothing reads as a pattern."""
  path = pathlib.Path(path).absolute()
  if not _PATTERN.search(str(path)):
    yield str(path)
    return
  root = tempfile.gettempdir()
  with tempfile.TemporaryDirectory(
    prefix='dafx-', dir='/tmp' if _PATTERN.search(root) else root
  ) as place:
    link = pathlib.Path(place, 'run')
    link.symlink_to(path.parent, target_is_directory=True)
    yield str(link / path.name)


def saved_steps(folder: str | os.PathLike) -> list[int]:
  """Returns the steps of the checkpoints in a folder, the newest last.

  The files that are there tell, not TensorFlow's index of them (`checkpoint`),
  which may be lost or damaged while they are whole.

  >>> from dafx.training import checkpoints
  >>> checkpoints.saved_steps('no_such_run')
  []

  Args:
    folder: Where checkpoints were saved; it need not exist.
  """
  names = [path.name for path in pathlib.Path(folder).glob('ckpt-*.index')]
  found = [re.fullmatch(r'ckpt-(\d+)\.index', name) for name in names]
  return sorted(int(match[1]) for match in found if match)


def _delete(folder, step):
  """Deletes the files of a checkpoint, whole or not."""
  for leftover in folder.glob(f'ckpt-{step}.*'):
    leftover.unlink(missing_ok=True)
  shutil.rmtree(folder / f'ckpt-{step}_temp', ignore_errors=True)


def save(checkpoint: tf.train.Checkpoint, folder, step: int, n_kept: int):
  """Writes ckpt-<step> and deletes those that are too old.

  Those of later steps go too: a run that is before them could not read them.

  Args:
    checkpoint: What is saved.
    folder: Where to.
    step: Its number.
    n_kept: How many to keep.

  Returns:
    Path of the checkpoint.

  Raises:
    OSError: It cannot be written, for want of space for example. What was
      there before still is.
  """
  folder = pathlib.Path(folder)
  path = folder / f'ckpt-{step}'
  former = saved_steps(folder)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with _plain(path) as prefix:
      checkpoint.write(prefix)
    steps = [each for each in former if each < step] + [step]
    _write_index(folder, steps[-n_kept:])
  except (tf.errors.OpError, OSError) as error:
    if step not in former:
      _delete(folder, step)
    intact = newest_intact(folder)
    raise OSError(
      f'The checkpoint of step {step} could not be written to {folder}'
      f': {error}\n'
      + (f'{intact} is intact. ' if intact else 'There is no earlier one. ')
      + 'Free some space on the disk (or mend its permissions), and run '
      'the same command to go on.'
    ) from error
  for each in set(former) - set(steps[-n_kept:]):
    _delete(folder, each)
  return str(path)


def _write_index(folder, steps):
  """Writes TensorFlow's list of checkpoints, which its own tools read."""
  keys = ['model_checkpoint_path'] + ['all_model_checkpoint_paths'] * len(steps)
  lines = [
    f'{key}: "ckpt-{step}"\n'
    for key, step in zip(keys, [steps[-1], *steps], strict=True)
  ]
  with disk.replacing(folder / 'checkpoint') as temporary:
    temporary.write_text(''.join(lines), encoding='utf-8')


def newest_intact(folder) -> str | None:
  """Returns the newest checkpoint of a folder that can be read whole.

  Args:
    folder: Where checkpoints were saved; it need not exist.

  Returns:
    Its path; None if none was ever saved.

  Raises:
    ValueError: There are some, but none of them can be read.
  """
  folder = pathlib.Path(folder)
  paths = [folder / f'ckpt-{step}' for step in saved_steps(folder)]
  for path in reversed(paths):
    try:
      with _read(path) as reader:
        for name in reader.get_variable_to_shape_map():
          reader.get_tensor(name)  # compares its checksum
    except (tf.errors.OpError, ValueError, IndexError) as error:
      logging.warning('%s cannot be read and is passed over: %s', path, error)
      continue
    return str(path)
  if paths:
    raise ValueError(
      f'There are checkpoints in {folder}, but none of '
      f'{", ".join(map(str, paths))} can be read. Choose another --save_dir to '
      'start over; nothing in this one was changed.'
    )
  return None


@contextlib.contextmanager
def _read(path):
  """Yields TensorFlow's reader of a checkpoint."""
  with _plain(path) as prefix:
    yield tf.train.load_checkpoint(prefix)


def check_meanings(saved: Mapping[str, str], ours: Mapping[str, str]):
  """Raises ValueError for controls that mean something else.

  Args:
    saved: What `Model.meanings` said of the model that was saved.
    ours: What it says of the one that is set up now.

  Raises:
    ValueError: They differ; the message says in what.
  """
  if list(saved.items()) == list(ours.items()):
    return
  keys = [k for k in {**saved, **ours} if saved.get(k) != ours.get(k)]
  if not keys:
    names = ', '.join(saved)
    raise ValueError(f'its controls are in another order: {names}')
  parts = [
    f'{key}: {saved.get(key, "not there")}; now {ours.get(key, "not there")}'
    for key in keys[:3]
  ]
  more = f'; and {len(keys) - 3} more' if len(keys) > 3 else ''
  raise ValueError('. '.join(parts) + more)


def restore(checkpoint: tf.train.Checkpoint, path, meanings: Mapping[str, str]):
  """Restores all of a run that was saved.

  Args:
    checkpoint: What was saved, with all its variables made.
    path: The checkpoint, as `newest_intact` returns it.
    meanings: What the controls of the model mean, as of `Model.meanings`.

  Raises:
    ValueError: It is of another model, or of one whose controls had other
      ranges, scales or fixed values. Nothing was written.
  """
  with _refusing_others(path):
    _check_meanings_in(path, meanings)
    with _plain(path) as prefix:
      status = checkpoint.read(prefix)
    _check_matched(status, path, checkpoint)
    _check_all_taken(path, checkpoint.model)
    status.expect_partial()  # state of estimates may be left over


def restore_model(model: tf.keras.Model, folder: str | os.PathLike):
  """Restores a model for use: its weights, and how many of its plugins run.

  Args:
    model: A `models.Model`, built as it was for training.
    folder: Where the run was saved; of its checkpoints the best validated one
      is taken, or else the last one.

  Raises:
    ValueError: There is no checkpoint, or one of another model, or of one whose
      controls had other ranges, scales or fixed values. Nothing was written.
  """
  folder = _folders.expand_user(folder)
  path = newest_intact(folder / 'best') or newest_intact(folder)
  if path is None:
    raise ValueError(f'{folder} holds no checkpoint that can be read.')
  model.make_variables()
  with _refusing_others(path):
    _check_meanings_in(path, model.meanings())
    checkpoint = tf.train.Checkpoint(model=model)
    with _plain(path) as prefix:
      status = checkpoint.read(prefix)
    _check_matched(status, path, checkpoint)
    status.expect_partial()  # the optimizer's values stay behind
    _check_all_taken(path, model)
  n_plugins = int(_value_in(path, 'n_plugins', 0))
  if n_plugins:
    model.n_plugins = n_plugins
  logging.info('Model of %s, step %d.', folder, _value_in(path, 'n_steps', 0))
  gin_files.warn_of_old_run(folder)


def _value_in(path, name, default):
  """Returns a variable of a checkpoint; a default where it holds none."""
  key = name + _VALUE
  with _read(path) as reader:
    return reader.get_tensor(key) if reader.has_tensor(key) else default


def _check_meanings_in(path, ours):
  """Raises ValueError where a checkpoint's controls mean something else."""
  saved = _value_in(path, 'description', b'{}').decode()
  check_meanings(json.loads(saved), ours)


def _check_matched(status, path, checkpoint):
  """Raises AssertionError where a checkpoint lacks values, but of estimates."""
  try:
    status.assert_existing_objects_matched()
  except AssertionError:
    with _read(path) as saved:
      lacking = [
        k for k in _keys(checkpoint) if not saved.has_tensor(k + _VALUE)
      ]
    optional = [k for k in lacking if k.endswith(_OF_ESTIMATES) or k in _LATER]
    if not lacking or optional != lacking:
      raise


def _keys(checkpoint):
  """Returns the names of variables in a checkpoint, as TensorFlow makes them.

  Each is the shortest way to the variable.
  """
  view = tf.train.TrackableView(checkpoint)
  keys, seen = [], set()
  queue = collections.deque([('', checkpoint)])
  while queue:
    key, part = queue.popleft()
    if id(part) in seen:
      continue
    seen.add(id(part))
    if isinstance(part, tf.Variable):
      keys.append(key[1:])
    for name, child in view.children(part).items():
      name = name.replace('.', '..').replace('/', '.S')
      queue.append((f'{key}/{name}', child))
  return keys


def _check_all_taken(path, model):
  """Raises ValueError where a checkpoint has weights that the model has not.

  All of the model's are known to be in the checkpoint, so numbers tell.
  """
  with _read(path) as reader:
    keys = list(reader.get_variable_to_shape_map())
  saved = [
    key
    for key in keys
    if key.startswith('model/')
    and key.endswith(_VALUE)
    and not key.removesuffix(_VALUE).endswith(_OF_ESTIMATES)
  ]
  ours = [
    part
    for part in tf.train.TrackableView(model).descendants()
    if isinstance(part, tf.Variable)
    and not part.name.split(':')[0].endswith(_OF_ESTIMATES)
  ]
  if len(saved) != len(ours):
    raise ValueError(
      f'it holds {len(saved)} variables, and the model has {len(ours)}'
    )


@contextlib.contextmanager
def _refusing_others(path):
  """Says what to do about a checkpoint that does not fit."""
  try:
    yield
  except (AssertionError, ValueError) as error:
    detail = str(error).strip().splitlines()[-1]
    raise ValueError(
      f'{path} is of another model than the one that is set up now '
      f'({detail}). Choose another --save_dir, or the gin files that it '
      'was trained with (operative_config-*.gin beside it). Nothing in '
      'it was changed.'
    ) from error
