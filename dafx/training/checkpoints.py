"""Checkpoints on disk: written whole or not at all, read whole or not."""

import contextlib
import os
import pathlib
import re
import shutil

import numpy as np
import tensorflow as tf
from absl import logging

from dafx import _folders
from dafx.audio import disk
from dafx.training import (
  checkpoint_files,
  descriptions,
  gin_files,
  trained_models,
)

# State of estimates, not weights; 0.1.0 kept it elsewhere for chains that it
# made of plugins in a row, and for each combination of a DiscreteLV2Plugin.
_OF_ESTIMATES = ('gradient_step', 'input_choice', 'input_factor')

# State of losses, which may change from one step to the next.
_OF_LOSSES = ('model/loss_objs/', 'model/change_losses/')

# What a checkpoint may lack: the figure that decides (0.2.0 and before), and
# the learning rate, which is elsewhere where it is a schedule.
_LATER = (
  'judged_by',
  'optimizer/_learning_rate',
  'optimizer/_current_learning_rate',
)

# What to do about a checkpoint of another model.
_ADVICE = (
  'Choose another --save_dir, or the gin files that it was trained with '
  '(operative_config-*.gin beside it); another --save_dir with this one as '
  '--restore_dir starts a new run from those of its weights that fit'
)


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
    with checkpoint_files.plain(path) as prefix:
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
      with checkpoint_files.reading(path) as reader:
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


def restore(
  checkpoint: tf.train.Checkpoint, path, ours: descriptions.Description
) -> descriptions.Description:
  """Restores all of a run that was saved, and has its plugins sound as then.

  The state of losses is restored where they are the same; otherwise it begins
  anew.

  Args:
    checkpoint: What was saved, with all its variables made.
    path: The checkpoint, as `newest_intact` returns it.
    ours: What the checkpoint would depend on now.

  Returns:
    What it depended on when it was saved.

  Raises:
    ValueError: It is of another model, or of one whose controls had other
      ranges, scales or fixed values, or DDSP's trainer saved it. Nothing was
      written.
  """
  if checkpoint_files.is_of_ddsp(path):
    raise ValueError(
      f"{path} was saved by DDSP's own trainer, and dafx does not go on with "
      'its runs. Choose another --save_dir: with this one as --restore_dir it '
      'begins with its weights. Nothing was changed.'
    )
  saved = description_in(path)
  model = checkpoint.model
  with _refusing_others(path):
    descriptions.check(saved.depends, ours.depends)
    of_losses = [
      (variable, tf.identity(variable))
      for key, variable in checkpoint_files.named(checkpoint).items()
      if key.startswith(_OF_LOSSES)
    ]
    with checkpoint_files.plain(path) as prefix:
      status = checkpoint.read(prefix)
    _check_matched(status, path, checkpoint)
    _check_all_taken(path, model)
    status.expect_partial()  # state of estimates may be left over
    descriptions.take_up(model, saved)
  if saved.losses not in (None, ours.losses):
    for variable, start in of_losses:
      variable.assign(start)
  return saved


def restore_model(model: tf.keras.Model, folder: str | os.PathLike):
  """Restores a model for use: its weights, and how many of its plugins run.

  Args:
    model: A `models.Model`, built as it was for training.
    folder: Where the run was saved; of its checkpoints the best validated one
      is taken, or else the last one.

  Raises:
    ValueError: There is no checkpoint, or one of another model, or of one whose
      controls had other ranges, scales or fixed values. Nothing was written.
    FileNotFoundError: DDSP's own trainer saved it, and the model has a
      `data_path` without statistics.
  """
  folder = _folders.expand_user(folder)
  path = _best_in(folder)
  model.make_variables()
  if checkpoint_files.is_of_ddsp(path):
    _restore_of_ddsp(model, path)
    model.start(has_weights=True)  # statistics, which DDSP keeps elsewhere
    return
  saved = description_in(path)
  with _refusing_others(path):
    descriptions.check(saved.depends, model.depends())
    checkpoint = tf.train.Checkpoint(model=model)
    with checkpoint_files.plain(path) as prefix:
      status = checkpoint.read(prefix)
    _check_matched(status, path, checkpoint)
    status.expect_partial()  # the optimizer's values stay behind
    _check_all_taken(path, model)
    is_ours = folder.resolve().parent == trained_models.ROOT
    descriptions.take_up(model, saved, is_ours)
  n_plugins = int(checkpoint_files.value_in(path, 'n_plugins', 0))
  if n_plugins:
    model.n_plugins = n_plugins
  logging.info(
    'Model of %s, step %d.',
    folder,
    checkpoint_files.value_in(path, 'n_steps', 0),
  )
  gin_files.warn_of_old_run(folder)


def restore_weights(model: tf.keras.Model, folder: str | os.PathLike):
  """Starts a model from the weights of another run, as far as they fit.

  What does not fit is named in a warning, and stays as it is: weights of other
  names or shapes, and those that set controls which mean something else.

  Args:
    model: A `models.Model`, all of whose variables are made.
    folder: Where the run was saved; of its checkpoints the best validated one
      is taken, or else the last one.

  Raises:
    ValueError: There is no checkpoint, or nothing in it fits.
  """
  folder = _folders.expand_user(folder)
  path = _best_in(folder)
  if checkpoint_files.is_of_ddsp(path):
    _restore_of_ddsp(model, path)
    return
  found = descriptions.differences(
    description_in(path).depends, model.depends()
  )
  others = tuple(
    f'model/{part}/' for part in model.weights_changed_by(list(found))
  )
  left, taken = [], 0
  with checkpoint_files.reading(path) as reader:
    there = {
      key.removesuffix(checkpoint_files.VALUE): shape
      for key, shape in reader.get_variable_to_shape_map().items()
      if _is_weight(key.removesuffix(checkpoint_files.VALUE))
    }
    named = {
      key: variable
      for key, variable in checkpoint_files.named(
        tf.train.Checkpoint(model=model)
      ).items()
      if _is_weight(key)
    }
    for key, variable in named.items():
      shape = there.pop(key, None)
      if shape is None:
        left.append(f'{key}: not in the checkpoint')
      elif list(shape) != variable.shape.as_list():
        left.append(f'{key}: of shape {shape}, now {variable.shape.as_list()}')
      elif key.startswith(others):
        left.append(f'{key}: it sets controls that mean something else')
      else:
        variable.assign(reader.get_tensor(key + checkpoint_files.VALUE))
        taken += 1
  left += [f'{key}: not in this model' for key in there]
  if not taken:
    raise ValueError(
      f'--restore_dir={folder}: no weights of {path} fit this model '
      f'({_first(left)}). Leave it out, or choose another.'
    )
  if left:
    logging.warning(
      'Of %s, %d weights are taken, and %d are not: %s. They start anew.',
      path,
      taken,
      len(left),
      _first(left, 9),
    )
  if found:
    logging.warning(
      'The weights of %s were trained for something else: %s.',
      path,
      _first(list(found.values()), 9),
    )
  logging.info('Starting from the weights of %s, at step 0.', path)
  gin_files.warn_of_old_run(folder)


def _restore_of_ddsp(model, path):
  """Restores the weights that DDSP's own trainer saved."""
  if model.ddsp_model is None:
    raise ValueError(
      f"{path} was saved by DDSP's own trainer, and the model that is set up "
      "is none of DDSP's. Give its gin file: one of the folder that `python -m "
      'dafx.ddsp gin_folder` prints.'
    )
  advice = (
    'Give the gin files and sizes that it was trained with '
    '(operative_config-*.gin beside it)'
  )
  with _refusing_others(path, advice):
    with checkpoint_files.plain(path) as prefix:
      status = tf.train.Checkpoint(model=model.ddsp_model).read(prefix)
    status.assert_existing_objects_matched().expect_partial()
    _check_all_taken(path, model.ddsp_model)
  logging.info("Weights of DDSP's run %s.", path)


def validation_esr(folder: str | os.PathLike) -> float | None:
  """Returns the error-to-signal ratio of a run's best validation.

  Args:
    folder: Where the run was saved.

  Returns:
    None where validations were judged by something else, or there was none.

  Raises:
    ValueError: There is no checkpoint.
  """
  path = _best_in(_folders.expand_user(folder))
  best = float(checkpoint_files.value_in(path, 'monitor/best', np.inf))
  is_esr = checkpoint_files.value_in(path, 'judged_by', b'') == b'esr'
  return best if is_esr and np.isfinite(best) else None


def _first(parts, n=3):
  """Joins some parts to a text, and says how many more there are."""
  more = f'; and {len(parts) - n} more' if len(parts) > n else ''
  return '; '.join(parts[:n]) + more


def _best_in(folder):
  """Returns the best validated checkpoint of a run, or else the last one."""
  path = newest_intact(folder / 'best') or newest_intact(folder)
  if path is None:
    raise ValueError(f'{folder} holds no checkpoint that can be read.')
  return path


def description_in(path) -> descriptions.Description:
  """Returns what a checkpoint depends on, as it was written with it.

  Args:
    path: The checkpoint, as `newest_intact` returns it.
  """
  return descriptions.Description.from_json(
    checkpoint_files.value_in(path, 'description', b'{}')
  )


def _is_weight(key):
  """Returns whether a variable is a model's, not of its estimates or losses."""
  return (
    key.startswith('model/')
    and not key.startswith(_OF_LOSSES)
    and not key.endswith(_OF_ESTIMATES)
  )


def _check_matched(status, path, checkpoint):
  """Raises AssertionError where a checkpoint lacks weights."""
  try:
    status.assert_existing_objects_matched()
  except AssertionError:
    with checkpoint_files.reading(path) as saved:
      lacking = [
        k
        for k in checkpoint_files.named(checkpoint)
        if not saved.has_tensor(k + checkpoint_files.VALUE)
      ]
    optional = [
      key
      for key in lacking
      if key.endswith(_OF_ESTIMATES)
      or key.startswith((*_OF_LOSSES, 'averages/'))
      or key in _LATER
    ]
    if not lacking or optional != lacking:
      raise


def _check_all_taken(path, model):
  """Raises ValueError where a checkpoint has weights that the model has not.

  All of the model's are known to be in the checkpoint, so numbers tell.
  """
  with checkpoint_files.reading(path) as reader:
    keys = [
      key.removesuffix(checkpoint_files.VALUE)
      for key in reader.get_variable_to_shape_map()
    ]
  n_saved = sum(map(_is_weight, keys))
  n_ours = sum(
    map(_is_weight, checkpoint_files.named(tf.train.Checkpoint(model=model)))
  )
  if n_saved != n_ours:
    raise ValueError(
      f'it holds {n_saved} variables, and the model has {n_ours}'
    )


@contextlib.contextmanager
def _refusing_others(path, advice=_ADVICE):
  """Says what to do about a checkpoint that does not fit."""
  try:
    yield
  except (AssertionError, ValueError) as error:
    # Behind what TensorFlow misses it writes all values.
    detail = str(error).partition(' Showing ')[0].strip().splitlines()[-1]
    raise ValueError(
      f'{path} is of another model than the one that is set up now '
      f'({detail}). {advice}. Nothing in it was changed.'
    ) from error
