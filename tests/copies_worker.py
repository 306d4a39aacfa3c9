"""Counts what goes between a GPU and processors in a step, for tests.

  python copies_worker.py

A second processor of TensorFlow's stands for the GPU. TensorFlow cuts a graph
between devices, and sends each tensor that is used beyond the cut: the count is
of what it sends. The last line is JSON: [[from where, type, what], ...].
"""

import json
import pathlib
import sys

import dafx  # noqa: F401  What makes ddsp importable, so before it.

HOST, DEVICE = 'CPU:0', 'CPU:1'


def count():
  """Returns [(from where, type, which op gives it), ...]."""
  import team_worker
  import tensorflow as tf
  from tensorflow.python.eager import context

  tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
  )
  call = tf.numpy_function

  def call_on_host(*args, **kwargs):
    # As TensorFlow places it, for want of a kernel on a GPU.
    with tf.device(HOST):
      return call(*args, **kwargs)

  tf.numpy_function = call_on_host
  batch = next(iter(team_worker.recordings(0, 1.0, deadly=False).get_batch(4)))
  with tf.device(DEVICE):
    model = team_worker.make_model('plugins')
    model({key: tf.zeros_like(value) for key, value in batch.items()})

  @tf.function(autograph=False)
  def step(batch):
    with tf.device(DEVICE):
      with tf.GradientTape() as tape:
        _, losses = model(batch, return_losses=True, training=True)
      found = tape.gradient(losses['total_loss'], model.trainable_variables)
      return tf.add_n([tf.reduce_sum(each) for each in found])

  context.context().enable_run_metadata()
  step(batch)
  return list(copies(context.context().export_run_metadata()))


def copies(found):
  """Yields (from where, type, what) is sent, of the graphs that were run."""
  import tensorflow as tf

  for whole in found.function_graphs:
    for graph in whole.partition_graphs:
      for node in graph.node:
        if node.op == '_Send':
          place = node.attr['send_device'].s.decode()[-len(HOST) :]
          kind = tf.as_dtype(node.attr['T'].type).name
          yield place, kind, node.input[0]


if __name__ == '__main__':
  sys.path[0] = str(pathlib.Path(__file__).parents[1])
  sys.path.append(str(pathlib.Path(__file__).parent))
  print(json.dumps(count()), flush=True)
