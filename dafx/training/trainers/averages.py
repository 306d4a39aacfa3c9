"""A moving average of weights, which stands in for them."""

import contextlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

# Steps over which the average begins: momentum is below (1 + n) / (10 + n), as
# in TensorFlow's ExponentialMovingAverage.
_N_BEFORE = 10


class Averages(tf.Module):
  """The moving average of a model's weights (Polyak and Juditsky, 1992).

  Steps leave weights that wander about the best ones, as one batch asks for
  more of something and the next for less. Their average lies still.

  >>> import tensorflow as tf
  >>> from dafx.training.trainers import averages
  >>> weight = tf.Variable(0.0)
  >>> average = averages.Averages(momentum=0.5)
  >>> average.begin([weight])
  >>> for step, value in enumerate((1.0, -1.0, 1.0, -1.0)):
  ...   _ = weight.assign(value)
  ...   average.update([weight], step)
  >>> with average.in_place([weight]):
  ...   print(round(float(weight), 2))
  -0.3
  >>> float(weight)
  -1.0

  Args:
    momentum: Share of the average that a step leaves, above 0 and below 1: 0.9
      goes over about ten steps. Less of it at the start.

  Attributes:
    others: The average while the model has its weights, and the weights that
      training goes on with while it has the average, as in a checkpoint.
  """

  def __init__(self, momentum: float):
    super().__init__(name='averages')
    if not 0.0 < momentum < 1.0:
      raise ValueError(
        f'average_momentum={momentum!r} must be above 0 and below 1, or None '
        'for no average.'
      )
    self.momentum = momentum
    self.others: list[tf.Variable] = []
    self._is_in_place = False

  def begin(self, weights: Sequence[tf.Variable]):
    """Begins an average at the weights.

    Args:
      weights: All of a model, in the same order each time.
    """
    if not self.others:
      self.others = [tf.Variable(w, trainable=False) for w in weights]
    for other, weight in zip(self.others, weights, strict=True):
      other.assign(weight)

  def update(self, weights: Sequence[tf.Variable], n_steps: int):
    """Takes weights in.

    Args:
      weights: After a step.
      n_steps: Steps since the average began, this one not counted.
    """
    momentum = min(self.momentum, (1 + n_steps) / (_N_BEFORE + n_steps))
    for other, weight in zip(self.others, weights, strict=True):
      other.assign_add((1.0 - momentum) * (weight - other))

  def exchange(self, weights: Sequence[tf.Variable]):
    """Has the weights and the average change places.

    Args:
      weights: Of the model.
    """
    for other, weight in zip(self.others, weights, strict=True):
      value = tf.identity(weight)
      weight.assign(other)
      other.assign(value)

  @contextlib.contextmanager
  def in_place(self, weights: Sequence[tf.Variable]) -> Iterator[None]:
    """Gives a model its average for a while, if it has not got it.

    Args:
      weights: Of the model.
    """
    if self._is_in_place:
      yield
      return
    self.exchange(weights)
    self._is_in_place = True
    try:
      yield
    finally:
      self.exchange(weights)
      self._is_in_place = False


def make(momentum: float | None) -> Averages | None:
  """Returns what averages weights; None for no momentum."""
  return None if momentum is None else Averages(momentum)
