"""Checkpoints on disk: written whole or not at all, read whole or not."""

import os
import pathlib
import shutil

import tensorflow as tf
from absl import logging


def save(checkpoint: tf.train.Checkpoint, folder, step: int, n_kept: int):
  """Writes ckpt-<step> and deletes those that are too old.

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
  manager = tf.train.CheckpointManager(checkpoint, os.fspath(folder), n_kept)
  try:
    return manager.save(checkpoint_number=step)
  except (tf.errors.OpError, OSError) as error:
    if manager.latest_checkpoint != str(folder / f'ckpt-{step}'):
      for leftover in folder.glob(f'ckpt-{step}.*'):
        leftover.unlink(missing_ok=True)
      shutil.rmtree(folder / f'ckpt-{step}_temp', ignore_errors=True)
    intact = newest_intact(folder)
    raise OSError(
      f'The checkpoint of step {step} could not be written to {folder}'
      f': {error}\n'
      + (f'{intact} is intact. ' if intact else 'There is no earlier one. ')
      + 'Free some space on the disk (or mend its permissions), and run '
      'the same command to go on.'
    ) from error


def newest_intact(folder) -> str | None:
  """Returns the newest checkpoint of a folder that can be read whole.

  Args:
    folder: Where checkpoints were saved; it need not exist.

  Returns:
    Its path; None if none was ever saved.

  Raises:
    ValueError: There are some, but none of them can be read.
  """
  state = tf.train.get_checkpoint_state(os.fspath(folder))
  paths = list(state.all_model_checkpoint_paths) if state else []
  for path in reversed(paths):
    try:
      reader = tf.train.load_checkpoint(path)
      for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)  # compares its checksum
    except (tf.errors.OpError, ValueError, IndexError) as error:
      logging.warning('%s cannot be read and is passed over: %s', path, error)
      continue
    return path
  if paths:
    raise ValueError(
      f'There are checkpoints in {folder}, but none of {", ".join(paths)} '
      'can be read. Choose another --save_dir, or delete this one to start '
      'over.'
    )
  return None
