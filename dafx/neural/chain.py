"""`Chain`: networks one behind the other, as one."""

from collections.abc import Sequence
from typing import Any

import gin
import tensorflow as tf

from dafx.neural import base


@gin.register(module='dafx.neural')
class Chain(base.SettlingNetwork):
  """Networks one behind the other, such as an amplifier and its cabinet.

  Before the first sample there was silence, which each network hears as the one
  before it has it.

  Args:
    networks: From the input to the output; without knobs.
    name: Name of the node.

  Raises:
    ValueError: No networks, or one with knobs or with several outputs.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import neural
    >>> rig = neural.Chain([neural.WaveNet('nano'), neural.Linear(64)])
    >>> rig(tf.zeros([1, 1000])).shape
    TensorShape([1, 1000])
  """

  def __init__(
    self, networks: Sequence[base.SettlingNetwork], name: str = 'chain'
  ):
    super().__init__(0, name)
    self.networks = list(networks)
    base.check_plain(self.networks)

  @property
  def receptive_field(self) -> int | None:
    """Samples that an output depends on; None without bounds."""
    total = 1
    for network in self.networks:
      if network.receptive_field is None:
        return None
      total += network.receptive_field - 1
    return total

  @property
  def macs_per_sample(self) -> int:
    """Multiply-accumulates per sample of audio, without activations."""
    return sum(network.macs_per_sample for network in self.networks)

  def settle(self, batch_size: int, x: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Returns the state after a constant input, and the output then."""
    states = []
    for network in self.networks:
      state, x = network.settle(batch_size, x)
      states.append(state)
    return states, x

  def process(
    self, state: Any, x: tf.Tensor, knobs: tf.Tensor | None
  ) -> tuple[tf.Tensor, Any]:
    """Processes [batch, n_samples, 1]; see `Network.stream`."""
    states = []
    for network, network_state in zip(self.networks, state):
      x, network_state = network.process(network_state, x, knobs)
      states.append(network_state)
    return x, states
