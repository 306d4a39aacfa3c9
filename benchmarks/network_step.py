"""What a step takes beside its plugins: the network and the losses."""

from collections.abc import Callable, Mapping

import tensorflow as tf

from dafx.training import models


def make(model: models.Model, batch: Mapping[str, tf.Tensor]) -> Callable:
  """Returns a function that goes through network and losses, and back.

  Args:
    model: One that sets plugins.
    batch: Features, 'audio' and 'target'.
  """

  @tf.function(autograph=False)
  def run():
    with tf.GradientTape() as tape:
      controls = model.predict_controls(batch['audio'])
      # As if each plugin's gradient to its controls were ones.
      total = tf.add_n([tf.reduce_sum(c) for c in controls.values()])
      audio = batch['audio'] + 1e-9 * total
      losses = [
        tf.add_n(list(loss.get_losses_dict(batch['target'], audio).values()))
        for loss in model.loss_objs
      ]
      loss = tf.add_n(losses)
    return loss, tape.gradient(loss, model.trainable_variables)

  return run
