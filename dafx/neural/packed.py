"""`Packed`: networks of several sizes for one effect, one of which plays."""

from collections.abc import Sequence
from typing import Any

import gin
import tensorflow as tf

from dafx.neural import base
from dafx.neural.wavenet import WaveNet


@gin.register(module='dafx.neural')
class Packed(base.SettlingNetwork):
  """Networks of several sizes, from small to large; one plays.

  Players take the small one where computing power is scarce. The packed network
  that the trainer of Neural Amp Modeler has from 0.13 on (A2) is two WaveNets,
  of 3 and 8 channels. `training.models.PackedEffectModel` trains all of them.

  Args:
    networks: From small to large; without knobs. None for 'a2_small' and
      'a2_large' of `WaveNet`.
    chosen: Which of them plays, from 0; -1 for the last.
    seed: Seed of the weights of these.
    name: Name of the node.

  Attributes:
    chosen: Which of them plays, from 0.

  Raises:
    ValueError: No networks, or one with knobs or with several outputs.
    IndexError: There are not so many as `chosen` says.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import neural
    >>> packed = neural.Packed()
    >>> [network.n_parameters for network in packed.networks]
    [1870, 12145]
    >>> packed(tf.zeros([1, 100])).shape
    TensorShape([1, 100])
  """

  changeable = ('chosen',)

  def __init__(
    self,
    networks: Sequence[base.SettlingNetwork] | None = None,
    chosen: int = -1,
    seed: int = 0,
    name: str = 'packed',
  ):
    super().__init__(0, name)
    if networks is None:
      networks = [
        WaveNet(size, seed=seed, name=size) for size in ('a2_small', 'a2_large')
      ]
    self.networks = list(networks)
    base.check_plain(self.networks)
    self.chosen = range(len(self.networks))[chosen]

  @property
  def playing(self) -> base.SettlingNetwork:
    """The network that plays."""
    return self.networks[self.chosen]

  def index_of(self, size: float) -> int:
    """Returns which network a size stands for, as in players of .nam files.

    Args:
      size: From 0 to 1, the largest; each network has an equal range.

    Raises:
      ValueError: Another size.
    """
    if not 0.0 <= size <= 1.0:
      raise ValueError(f'size is {size}; it is a number from 0 to 1.')
    n = len(self.networks)
    return next((i for i in range(n) if size < (i + 1) / n), n - 1)

  @property
  def receptive_field(self) -> int | None:
    """Samples that an output depends on, in the network that hears most."""
    longest = 1
    for network in self.networks:
      if network.receptive_field is None:
        return None
      longest = max(longest, network.receptive_field)
    return longest

  @property
  def macs_per_sample(self) -> int:
    """Multiply-accumulates per sample of the network that plays."""
    return self.playing.macs_per_sample

  def settle(self, batch_size: int, x: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Returns the state after a constant input, and the output then."""
    return self.playing.settle(batch_size, x)

  def process(
    self, state: Any, x: tf.Tensor, knobs: tf.Tensor | None
  ) -> tuple[tf.Tensor, Any]:
    """Processes [batch, n_samples, 1]; see `Network.stream`."""
    return self.playing.process(state, x, knobs)
