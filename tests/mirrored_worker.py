"""Trains by several replicas of one process, for tests.

  python mirrored_worker.py '{"n_replicas": 2, "out": "weights.npz", ...}'

Processors stand for GPUs. The last line is what came of it, as JSON; weights go
to `out`.
"""

import json
import pathlib
import sys

import dafx  # noqa: F401  What makes ddsp importable, so before it.


def make_by_whole():
  """Returns an audio gradient by the loudest item of the batch, and before."""
  import numpy as np

  from dafx import gradients

  class ByWhole(gradients.AudioAdjoint):
    """As if the box were a wire, by a factor that is not that of an item."""

    def pull_back(self, render, audio, cotangent, *, state, gather, **options):
      sizes = gather(np.mean(np.abs(cotangent), axis=(1, 2)))
      # Each replica's loss is a mean over its own items.
      factor = 0.5 * (state.factor + float(np.max(sizes) / np.mean(sizes)))
      return factor * cotangent, state._replace(choice=0, factor=factor)

  return ByWhole()


def train(n_replicas, out, batch_size=4, n_steps=6, by_whole=False):
  """Trains; returns what came of it."""
  import numpy as np
  import team_worker
  import tensorflow as tf

  from dafx.commands import running

  running.prepare_tensorflow(0)
  tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0],
    [tf.config.LogicalDeviceConfiguration()] * n_replicas,
  )
  strategy = tf.distribute.MirroredStrategy(
    [f'CPU:{i}' for i in range(n_replicas)]
  )
  with strategy.scope():
    model = team_worker.make_model('plugins')
    if by_whole:
      for node in model.driven.values():
        node.audio_gradient = make_by_whole()
    optimizer = tf.keras.optimizers.Adam(1e-2)
  batches = list(
    team_worker.recordings(0, 1.0, deadly=False)
    .get_batch(batch_size)
    .take(n_steps)
  )
  shapes = set()

  def step(batch):
    shapes.add(tuple(batch['audio'].shape))
    with tf.GradientTape() as tape:
      _, losses = model(batch, return_losses=True, training=True)
    variables = model.trainable_variables
    gradients = tape.gradient(losses['total_loss'], variables)
    means = tf.distribute.get_replica_context().all_reduce(
      tf.distribute.ReduceOp.MEAN, gradients
    )
    optimizer.apply_gradients(
      zip(means, variables), skip_gradients_aggregation=True
    )
    return losses['total_loss']

  @tf.function(autograph=False)
  def run(parts):
    return strategy.run(step, args=(parts,))

  with strategy.scope():
    model({key: tf.zeros_like(value) for key, value in batches[0].items()})
    optimizer.build(model.trainable_variables)
  losses = []
  for batch in batches:
    parts = {
      key: strategy.experimental_distribute_values_from_function(
        lambda context, value=value: tf.split(value, n_replicas)[
          context.replica_id_in_sync_group
        ]
      )
      for key, value in batch.items()
    }
    losses.append(float(strategy.reduce('MEAN', run(parts), axis=None)))
  copies = [
    [v.numpy() for v in strategy.experimental_local_results(variable)]
    for variable in model.trainable_variables
  ]
  np.savez(out, *[each[0] for each in copies])
  return {
    'replicas': strategy.num_replicas_in_sync,
    'losses': losses,
    'shapes': sorted(shapes),
    'alike': all(
      np.array_equal(each[0], other) for each in copies for other in each
    ),
    'ways': [
      [int(v) for v in node.input_choice.numpy()]
      + [float(node.input_factor.numpy())]
      for node in model.driven.values()
    ],
  }


if __name__ == '__main__':
  sys.path[0] = str(pathlib.Path(__file__).parents[1])
  sys.path.append(str(pathlib.Path(__file__).parent))
  print(json.dumps(train(**json.loads(sys.argv[1]))), flush=True)
