"""Which items come at which step: by position, of which workers have parts."""

import functools

import numpy as np
import tensorflow as tf


def permuted(position: int, n_items: int, seed: int) -> int:
  """Returns which item comes at a position of an endless, shuffled list.

  Args:
    position: From 0 on.
    n_items: Items of an epoch.
    seed: Of the order.
  """
  epoch, slot = divmod(position, n_items)
  return int(_permutation(n_items, seed, epoch)[slot])


# Positions come nearly in order: of several lists at once, and at most from
# two epochs of each.
@functools.lru_cache(maxsize=16)
def _permutation(n_items, seed, epoch):
  return np.random.default_rng([seed, epoch]).permutation(n_items)


def crop_start(
  rng: np.random.Generator, n_available: int, n_samples: int
) -> int:
  """Returns where a crop begins: at random, or at 0 if there is no choice."""
  if n_available <= n_samples:
    return 0
  return int(rng.integers(n_available - n_samples + 1))


def check_parts(batch_size: int, n_parts: int):
  """Raises ValueError for a batch that cannot be cut into so many parts.

  Args:
    batch_size: Items of a whole batch.
    n_parts: How many parts.
  """
  if batch_size % n_parts:
    raise ValueError(
      f'batch_size={batch_size} does not divide by {n_parts}, the number of '
      'workers. Set dafx.training.train.batch_size to a multiple of it.'
    )


def of_part(
  batch_size: int,
  first_step: int,
  n_positions: int | None,
  index: int = 0,
  n_parts: int = 1,
) -> tf.data.Dataset:
  """Returns the positions of one part of each batch.

  Batch s has the positions from s * batch_size on. Parts lie side by side in
  it, so that all parts together are the batch.

  Args:
    batch_size: Items of a whole batch.
    first_step: The first batch.
    n_positions: Where the batches end; None for never. Of a smaller batch at
      the end, the last parts have less, or nothing.
    index: Which part.
    n_parts: How many there are.

  Returns:
    Dataset of scalars, int64.
  """
  first = first_step * batch_size
  if n_parts == 1 and n_positions is None:
    return tf.data.Dataset.counter(first)
  if n_parts == 1:
    return tf.data.Dataset.range(first, n_positions)
  size = batch_size // n_parts
  first += index * size
  if n_positions is None:
    starts = tf.data.Dataset.counter(tf.constant(first, tf.int64), batch_size)
  else:
    starts = tf.data.Dataset.range(first, n_positions, batch_size)

  def part_at(start):
    stop = start + size
    if n_positions is not None:
      stop = tf.minimum(stop, tf.constant(n_positions, tf.int64))
    return tf.data.Dataset.range(start, stop)

  return starts.flat_map(part_at)
