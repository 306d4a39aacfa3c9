"""What is drawn and decided alike, however many machines share a batch."""

import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


class Workers:
  """The processes that train one model, each on its part of every batch.

  This class is a process that is alone; `trainers.Team` is several.

  Attributes:
    index: Which of them this is, from 0.
    n_workers: How many there are.
    n_items: Items of a batch that each of them has; None for as many as a
      replica is given.
    is_agreed: Whether what ends this process now ends all, at the same step.
    is_to_stop: Whether another one was asked to stop.

  Examples:
    >>> import numpy as np
    >>> from dafx import core
    >>> core.Workers().gather('sizes', np.ones([2, 1])).shape
    (2, 1)
  """

  index = 0
  n_workers = 1
  n_items: int | None = None
  is_agreed = True
  is_to_stop = False

  def gather(self, name: str, rows: np.ndarray) -> np.ndarray:
    """Returns the rows of all workers, in the order of their indices.

    A worker that has lost all items of its batch gives none.

    Args:
      name: What the rows are; another one for each time in a step.
      rows: Shape [n, ...]; n may differ from worker to worker.

    Returns:
      Shape [n of all, ...], the same on all workers.
    """
    del name
    return rows

  def gather_of(self, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function of rows that gathers them, each call by its own name.

    Args:
      name: What it is for; another one for each time in a step.
    """
    numbers = itertools.count()
    return lambda rows: self.gather(f'{name}/{next(numbers)}', rows)

  def name(self, index: int) -> str:
    """Returns what a worker is called in messages."""
    return f'worker {index}'

  @property
  def is_chief(self) -> bool:
    """Whether this is the one that writes files."""
    return self.index == 0

  @property
  def part(self) -> tuple[int, int]:
    """Which part of each batch it has, of how many."""
    return self.index, self.n_workers

  def place(self, number: int, n_items: int) -> int:
    """Returns the place of its first item in all batches.

    Args:
      number: Of the batch.
      n_items: Items that each worker has of a batch.
    """
    return (number * self.n_workers + self.index) * n_items

  def exchange(self, value: Any) -> list:
    """Returns what all workers say, in order; all have to say something.

    Args:
      value: What this one says, as JSON can hold it.
    """
    return [value]

  def attempt(self, function: Callable, *args: Any) -> Any:
    """Calls a function, as all do now; where one's call fails, all end.

    Args:
      function: What may fail on one worker alone: it waits for no other.
      *args: Its arguments.

    Returns:
      What the function returns here.
    """
    return function(*args)

  def tell_fault(self, fault: Exception):
    """Tells the others what ends this worker, in place of its next report.

    Args:
      fault: Raised before this worker could report.
    """

  def scope(self) -> contextlib.AbstractContextManager:
    """Returns the context in which models and optimizers are made."""
    return contextlib.nullcontext()

  def run(self, function: Callable, batch: Any) -> Any:
    """Calls a function of a part of a batch, as a replica does.

    Args:
      function: From features to tensors.
      batch: Features.
    """
    return function(batch)

  def synchronise(self, variables: Sequence[tf.Variable]):
    """Sets averages that each worker keeps for itself to their mean.

    Args:
      variables: Of a model.
    """

  def agree_to_end(self):
    """Notes that all end now, at the same step, and none is lost by it."""


def first_item_key(batch: tf.Tensor, workers: Workers) -> tf.Tensor:
  """Returns where the items of a replica begin in the whole batch, int32.

  What is drawn for an item then depends on its place in the whole batch, not on
  how many machines share it.

  Args:
    batch: Of the replica, shape [n_items, ...].
    workers: Who shares the batch.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> int(core.first_item_key(tf.zeros([4, 1]), core.Workers()))
    0
  """
  context = tf.distribute.get_replica_context()
  replica = 0 if context is None else context.replica_id_in_sync_group
  n_items = workers.n_items  # as it was before items were left out
  return tf.cast(replica, tf.int32) * (
    tf.shape(batch)[0] if n_items is None else n_items
  )


def uniform_by_item(
  batch: tf.Tensor,
  shape: list,
  seed: tf.Tensor | list,
  low: float,
  high: float,
  workers: Workers,
) -> tf.Tensor:
  """Draws even numbers for each item, by its place in the whole batch.

  Args:
    batch: Of the replica, shape [n_items, ...].
    shape: Of what is drawn for an item.
    seed: Two numbers.
    low: Lower bound.
    high: Upper bound.
    workers: Who shares the batch.

  Returns:
    Shape [n_items, *shape], float32: what a single replica with the whole
    batch would draw for these items.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> drawn = core.uniform_by_item(
    ...   tf.zeros([4, 1]), [3], [0, 0], -1.0, 1.0, core.Workers()
    ... )
    >>> drawn.shape
    TensorShape([4, 3])
  """
  n_items = tf.shape(batch)[0]
  first = first_item_key(batch, workers)
  # Of the whole batch up to here, since the numbers lie in one row.
  drawn = tf.random.stateless_uniform(
    [first + n_items, *shape], seed, low, high
  )
  drawn = drawn[first:]
  return tf.ensure_shape(drawn, [batch.shape[0], *[None] * len(shape)])
