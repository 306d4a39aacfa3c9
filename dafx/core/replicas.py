"""Replicas of one process that share a batch, as `tf.distribute` has them."""

from collections.abc import Callable, Sequence

import tensorflow as tf


def call_once(
  function: Callable[..., tf.Tensor], inputs: Sequence[tf.Tensor]
) -> tf.Tensor:
  """Calls a function of a batch once, for all replicas of this process.

  Where several of them have parts of a batch, as they have by TensorFlow's
  `MirroredStrategy`, the function gets these together, in their order, and each
  replica its part of what comes out. Otherwise the function is just called.

  Args:
    function: From tensors to one of shape [batch, ...].
    inputs: Its arguments: [batch, ...] each, the first one too, or scalars, of
      which that of the first replica counts.

  Returns:
    What it makes of the inputs of this replica, [batch, ...].

  Raises:
    RuntimeError: TensorFlow cannot bring replicas together in a `tf.function`
      that a replica calls.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> core.call_once(lambda x: x - tf.reduce_mean(x), [[1.0, 3.0]]).numpy()
    array([-1.,  1.], dtype=float32)
  """
  inputs = [tf.convert_to_tensor(value) for value in inputs]
  if not tf.distribute.has_strategy():
    return function(*inputs)
  context = tf.distribute.get_replica_context()
  if context is None or len(context.strategy.extended.worker_devices) == 1:
    return function(*inputs)
  number = tf.cast(context.replica_id_in_sync_group, tf.int32)

  def merged(strategy, numbers, *inputs):
    numbers = strategy.experimental_local_results(numbers)
    parts = []
    for each in inputs:
      found = strategy.experimental_local_results(each)
      # What is the same tensor on all replicas comes once.
      parts.append(found * (len(numbers) // len(found)))
    whole = [
      tf.concat(part, axis=0) if part[0].shape.rank else part[0]
      for part in parts
    ]
    sizes = tf.stack([tf.shape(part)[0] for part in parts[0]])
    return function(*whole), tf.stack(numbers), sizes

  result, numbers, sizes = context.merge_call(merged, args=(number, *inputs))
  first = tf.reduce_sum(tf.where(numbers < number, sizes, 0))
  return result[first : first + tf.shape(inputs[0])[0]]
