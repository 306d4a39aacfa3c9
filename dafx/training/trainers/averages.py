"""A moving average of weights, which stands in for them."""

from collections.abc import Mapping

import tensorflow as tf

from dafx import _arguments
from dafx.training import checkpoint_files

# Momentum is at most (1 + n) / (10 + n) after n steps, as in TensorFlow's
# ExponentialMovingAverage.
_N_BEFORE = 10


# Keras's average (`use_ema`) is taken before `rate_multipliers` change an
# update, and TensorFlow's is not saved by the names of the weights.
class Averages:
  """The moving average of a model's weights (Polyak and Juditsky, 1992).

  Steps leave weights that wander about the best ones, as one batch asks for
  more of something and the next for less. Their average lies still.

  A model has one of two: the weights of the last step, with which steps go on,
  or their average. The other ones are here.

  >>> import tensorflow as tf
  >>> from dafx.training.trainers import averages
  >>> weight = tf.Variable(0.0)
  >>> average = averages.Averages(momentum=0.5)
  >>> average.begin({'weight': weight})
  >>> for value in (1.0, -1.0, 1.0, -1.0):
  ...   _ = weight.assign(value)
  ...   average.update()
  >>> average.show(True)
  >>> print(round(float(weight), 2))
  -0.51
  >>> average.show(False)
  >>> float(weight)
  -1.0

  Args:
    momentum: Share of the average that a step leaves, above 0 and below 1: 0.9
      goes over about ten steps. Less of it at the start.

  Attributes:
    kept: What a checkpoint holds beside the model.
    is_shown: Whether the model has the average.

  Raises:
    ValueError: Another momentum.
  """

  def __init__(self, momentum: float):
    if not _arguments.is_number(momentum) or not 0.0 < momentum < 1.0:
      raise ValueError(
        f'average_momentum={momentum!r} must be a number above 0 and below 1, '
        'or None for no average.'
      )
    self.momentum = momentum
    self.is_shown = False
    self.kept = tf.train.Checkpoint(
      n_steps=tf.Variable(0, trainable=False, dtype=tf.int64)
    )
    self.kept.others = {}
    self._weights: dict[str, tf.Variable] = {}

  @property
  def n_steps(self) -> int:
    """Steps since the average began."""
    return int(self.kept.n_steps)

  def begin(self, weights: Mapping[str, tf.Variable]):
    """Begins an average at the weights, which are those of the last step.

    Args:
      weights: By their names in checkpoints, which stay the same when other
        weights are frozen.
    """
    self.is_shown = False
    self._weights = dict(weights)
    self.kept.n_steps.assign(0)
    self.kept.others = {
      name: tf.Variable(weight, trainable=False)
      for name, weight in weights.items()
    }

  def update(self):
    """Takes the weights of a step in."""
    n_steps = self.n_steps
    momentum = min(self.momentum, (1 + n_steps) / (_N_BEFORE + n_steps))
    for name, weight in self._weights.items():
      other = self.kept.others[name]
      other.assign_add((1.0 - momentum) * (weight - other))
    self.kept.n_steps.assign_add(1)

  def show(self, is_shown: bool):
    """Gives the model the average, or the weights of the last step.

    Args:
      is_shown: Whether it is to have the average.
    """
    if self.is_shown == is_shown:
      return
    self.is_shown = is_shown
    for name, weight in self._weights.items():
      other = self.kept.others[name]
      value = tf.identity(weight)
      weight.assign(other)
      other.assign(value)

  def take_up(self, path: str):
    """Goes on where a checkpoint was saved, once that was restored.

    Args:
      path: The checkpoint. What it has no average of begins at its weights.
    """
    self.is_shown = True
    with checkpoint_files.reading(path) as reader:
      lacking = [
        name for name in self._weights if not reader.has_tensor(_key(name))
      ]
    for name in lacking:
      self.kept.others[name].assign(self._weights[name])
    if len(lacking) == len(self._weights):
      self.kept.n_steps.assign(0)


def _key(name):
  """Returns the key, in a checkpoint, of what belongs to a weight."""
  escaped = name.replace('.', '..').replace('/', '.S')
  return f'averages/others/{escaped}{checkpoint_files.VALUE}'


def make(momentum: float | None) -> Averages | None:
  """Returns what averages weights; None for no momentum."""
  return None if momentum is None else Averages(momentum)
