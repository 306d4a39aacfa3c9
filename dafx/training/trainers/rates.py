"""The learning rate of a training: kept, falling, or lowered at plateaus."""

import numpy as np
import tensorflow as tf
from absl import logging

from dafx import _arguments
from dafx.training import descriptions

# What `decay_steps` may be: as many as the last stage has.
LAST_STAGE = 'last_stage'

# So many steps that the rate hardly changes: for stages before the last one. A
# stage that comes to rest is a worse start for the next one.
_NEVER = 2**40


class Rate:
  """The learning rate of an optimizer.

  Args:
    start: What it begins at.
    decay_steps: Updates of a stage over which it falls to nothing, as half a
      cosine; `LAST_STAGE` for all of the last stage alone; None for a rate that
      stays.
    factor: What a plateau multiplies it by.
    least: What a plateau brings it to at the least.
    plateau_patience: As of `Trainer`.
    tbptt_samples: As of `Trainer`.

  Attributes:
    start: What it begins at; None where a schedule sets the rate, and then
      checkpoints hold no start.
    of_optimizer: What an optimizer takes: a number, or a schedule.

  Raises:
    ValueError: Numbers that it cannot be made of; or both plateaus and steps
      are to change it.
  """

  def __init__(
    self,
    start: float,
    decay_steps: int | str | None,
    factor: float,
    least: float,
    plateau_patience: int | None,
    tbptt_samples: int | None = None,
  ):
    _arguments.finite(
      learning_rate=start, plateau_factor=factor, min_learning_rate=least
    )
    self._has_plateaus = plateau_patience is not None
    self._factor = factor
    self._least = least
    self._n_steps = tf.Variable(_NEVER, trainable=False, dtype=tf.int64)
    self.start: float | None = float(start)
    self.of_optimizer = self.start
    if decay_steps is None:
      return
    if self._has_plateaus:
      raise ValueError(
        f'decay_steps={decay_steps!r} and plateau_patience={plateau_patience} '
        'both change the learning rate; set one of them to None.'
      )
    n_steps = self._n_steps if decay_steps == LAST_STAGE else decay_steps
    if decay_steps != LAST_STAGE and (
      isinstance(decay_steps, str)
      or not _arguments.is_finite(decay_steps)
      or not decay_steps > 0
    ):
      raise ValueError(
        f'decay_steps={decay_steps!r} must be a number of updates above 0, '
        f'{LAST_STAGE!r} for those of the last stage, or None.'
      )
    if decay_steps == LAST_STAGE and tbptt_samples is not None:
      raise ValueError(
        f'decay_steps={LAST_STAGE!r} and tbptt_samples={tbptt_samples}: a step '
        'of windows takes several updates. Give decay_steps as their number.'
      )
    self.of_optimizer = tf.keras.optimizers.schedules.CosineDecay(
      self.start, n_steps
    )
    self.start = None

  def set_length(self, n_steps: int, is_last: bool):
    """Sets over how many steps the rate is to fall, where a stage says so.

    Args:
      n_steps: Of the stage.
      is_last: Whether no stage comes after it.
    """
    self._n_steps.assign(max(n_steps, 1) if is_last else _NEVER)

  def begin(self, optimizer: tf.keras.optimizers.Optimizer):
    """Sets the rate back to the start.

    Args:
      optimizer: Whose rate it is.
    """
    if self.start is not None:
      optimizer.learning_rate.assign(self.start)

  def lower(self, optimizer: tf.keras.optimizers.Optimizer):
    """Lowers the rate, because validations get no better.

    Args:
      optimizer: Whose rate it is.
    """
    lower = max(value_of(optimizer) * self._factor, self._least)
    optimizer.learning_rate.assign(lower)
    logging.info('No new best: the learning rate is now %g.', lower)

  def go_on(
    self,
    optimizer: tf.keras.optimizers.Optimizer,
    saved: descriptions.Description,
  ):
    """Goes on at another rate than a run was begun with, if asked to.

    A rate that a plateau has lowered stays, where the run began at this one.

    Args:
      optimizer: Whose rate it is, as it was saved.
      saved: What the checkpoint says of the start.
    """
    was = saved.learning_rate
    if self.start is None or self.start == was:
      return
    if was is None and self._has_plateaus:
      return
    if value_of(optimizer) != np.float32(self.start):
      logging.info('The learning rate is now %g.', self.start)
    optimizer.learning_rate.assign(self.start)


def value_of(optimizer: tf.keras.optimizers.Optimizer) -> float:
  """Returns the present rate of an optimizer."""
  # A strategy has a variable of its own kind.
  return float(tf.convert_to_tensor(optimizer.learning_rate))
