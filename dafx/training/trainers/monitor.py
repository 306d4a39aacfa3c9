"""When to lower the learning rate, and when to stop."""

import numpy as np
import tensorflow as tf


class Monitor(tf.Module):
  """Follows validations: when to lower the rate, when to stop.

  Its state is in variables, so that a resumed run decides as if it had not been
  interrupted.

  Args:
    plateau_patience: Validations without a new best until the learning rate is
      lowered; None never lowers it.
    stop_patience: Validations without a new best until training stops; None
      never stops it.

  Examples:
    >>> from dafx.training import trainers
    >>> monitor = trainers.Monitor(stop_patience=2)
    >>> [monitor.update(loss) for loss in (1.0, 0.5, 0.6, 0.7)]
    [True, True, False, False]
    >>> monitor.should_stop
    True
  """

  def __init__(
    self, plateau_patience: int | None = None, stop_patience: int | None = None
  ):
    super().__init__(name='monitor')
    self.plateau_patience = plateau_patience
    self.stop_patience = stop_patience
    self.best = tf.Variable(np.inf, trainable=False, dtype=tf.float32)
    self.since_best = tf.Variable(0, trainable=False, dtype=tf.int32)
    self.since_lowered = tf.Variable(0, trainable=False, dtype=tf.int32)

  def update(self, figure: float) -> bool:
    """Takes a validation in; returns whether it is the best so far.

    Args:
      figure: What it is judged by, such as its loss.
    """
    if figure < float(self.best):
      self.best.assign(figure)
      self.since_best.assign(0)
      self.since_lowered.assign(0)
      return True
    self.since_best.assign_add(1)
    self.since_lowered.assign_add(1)
    return False

  def lower_rate(self) -> bool:
    """Returns whether to lower the learning rate now."""
    patience = self.plateau_patience
    if patience is None or int(self.since_lowered) < patience:
      return False
    self.since_lowered.assign(0)
    return True

  @property
  def should_stop(self) -> bool:
    """Whether there has been no new best for too long."""
    patience = self.stop_patience
    return patience is not None and int(self.since_best) >= patience

  def reset(self):
    """Forgets all validations."""
    self.best.assign(np.inf)
    self.since_best.assign(0)
    self.since_lowered.assign(0)
