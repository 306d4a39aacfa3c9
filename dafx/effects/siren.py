"""A network of sines from one number to one number."""

import numpy as np
import tensorflow as tf

from dafx import core, processors


class Siren(processors.Layer):
  """A network from values to values with sines between its layers.

  V. Sitzmann et al., "Implicit neural representations with periodic activation
  functions", NeurIPS 2020, with its initialisation.

  Args:
    hidden_size: Width.
    n_layers: Layers with sines; one without follows.
    w0: Frequency of the first sines; 1 for the others.
    seed: Seed of the weights.
    activation: 'sine', or 'tanh' for an ordinary network.
    name: Name of the layer.
  """

  def __init__(
    self,
    hidden_size: int,
    n_layers: int,
    w0: float,
    seed: int,
    activation: str = 'sine',
    name: str = 'siren',
  ):
    super().__init__(name=name, autocast=False)
    self.w0 = w0
    self.activation = activation
    self.layers = []
    rng = np.random.default_rng(seed)
    sizes = [1, *[hidden_size] * n_layers, 1]
    for i, (n_in, n_out) in enumerate(zip(sizes, sizes[1:])):
      limit = 1.0 if i == 0 else float(np.sqrt(6.0 / n_in))
      weights = []
      for part, shape in (('kernel', [n_in, n_out]), ('bias', [n_out])):
        start = rng.uniform(-limit, limit, shape)
        weights.append(
          self.add_weight(
            f'{part}_{i}', shape, initializer=tf.constant_initializer(start)
          )
        )
      self.layers.append(tuple(weights))

  def call(self, values):
    """Maps values of any shape to values of that shape."""
    return core.mlp(values, self.layers, self._activate)

  def _activate(self, layer, values):
    if self.activation == 'tanh':
      return tf.tanh(values)
    return tf.sin(self.w0 * values if layer == 0 else values)
