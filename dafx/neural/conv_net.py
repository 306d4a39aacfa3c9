"""`ConvNet` and `Linear`: the plain networks of Neural Amp Modeler."""

from collections.abc import Sequence
from typing import Any

import gin
import tensorflow as tf

from dafx.neural import base
from dafx.neural.activations import Activation

_N_TAPS = 2


@gin.register(module='dafx.neural')
class ConvNet(base.SettlingNetwork):
  """Convolutions of two taps with activations, and a linear map to the output.

  The ConvNet of github.com/sdatkinson/neural-amp-modeler; its normalisation of
  batches is part of the convolutions here. Before the first sample there was
  silence.

  Args:
    channels: Number of channels.
    dilations: Samples between the taps of each convolution.
    activation: Behind each convolution; None for tanh.
    seed: Seed of the weights.
    name: Name of the node.

  Raises:
    ValueError: Channels below 1.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import neural
    >>> neural.ConvNet(4, (1, 2, 4))(tf.zeros([1, 1000])).shape
    TensorShape([1, 1000])
  """

  def __init__(
    self,
    channels: int = 8,
    dilations: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    activation: Activation | None = None,
    seed: int = 0,
    name: str = 'conv_net',
  ):
    super().__init__(0, name)
    base.check_sizes(channels=channels)
    self.channels = channels
    self.dilations = tuple(dilations)
    self.activation = activation or Activation()
    seeds, n_in = base.seeds_of(seed), 1
    self.convs = []
    for dilation in self.dilations:
      conv = base.CausalConv(n_in, channels, _N_TAPS, dilation, seeds)
      self.convs.append(conv)
      n_in = channels
    self.out = base.Dense(channels, 1, seeds)

  @property
  def receptive_field(self) -> int:
    """Samples that an output depends on: its own and those before."""
    return 1 + sum(conv.n_past for conv in self.convs)

  @property
  def macs_per_sample(self) -> int:
    """Multiply-accumulates per sample of audio, without activations."""
    return sum(part.macs for part in (*self.convs, self.out))

  def settle(self, batch_size: int, x: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Returns the state after a constant input, and the output then."""
    state = []
    for conv in self.convs:
      state.append(conv.initial_state(batch_size, x[0, 0]))
      x = self.activation(conv.constant(x[0, 0])[tf.newaxis, tf.newaxis])
    return state, self.out(x)

  def process(
    self, state: Any, x: tf.Tensor, knobs: tf.Tensor | None
  ) -> tuple[tf.Tensor, Any]:
    """Processes [batch, n_samples, 1]; see `Network.stream`."""
    del knobs
    new_state = []
    for conv, past in zip(self.convs, state):
      x, past = conv(past, x)
      new_state.append(past)
      x = self.activation(x)
    return self.out(x), new_state


@gin.register(module='dafx.neural')
class Linear(base.SettlingNetwork):
  """An impulse response, and an offset if wanted: a cabinet, for example.

  Args:
    n_taps: Length of the impulse response in samples.
    use_bias: Whether there is an offset.
    seed: Seed of the weights.
    name: Name of the node.

  Raises:
    ValueError: A length below 1.

  Examples:
    >>> from dafx import neural
    >>> cabinet = neural.Linear(3)
    >>> cabinet.set_response([1.0, 0.5, 0.25])
    >>> import tensorflow as tf
    >>> cabinet(tf.constant([[1.0, 0.0, 0.0, 0.0]])).numpy().tolist()
    [[1.0, 0.5, 0.25, 0.0]]
  """

  def __init__(
    self,
    n_taps: int = 1024,
    use_bias: bool = False,
    seed: int = 0,
    name: str = 'linear',
  ):
    super().__init__(0, name)
    base.check_sizes(n_taps=n_taps)
    seeds = base.seeds_of(seed)
    # Its kernel has the oldest sample first: the response turned around.
    self.conv = base.CausalConv(1, 1, n_taps, 1, seeds, use_bias)

  def set_response(self, response: Sequence[float]):
    """Sets the impulse response.

    Args:
      response: Shape [n_taps], the sample at time 0 first.
    """
    taps = tf.constant(response, tf.float32)[::-1]
    self.conv.kernel.assign(taps[:, tf.newaxis, tf.newaxis])

  @property
  def response(self) -> tf.Tensor:
    """The impulse response, [n_taps], the sample at time 0 first."""
    return self.conv.kernel[::-1, 0, 0]

  @property
  def receptive_field(self) -> int:
    """Samples that an output depends on: its own and those before."""
    return 1 + self.conv.n_past

  @property
  def macs_per_sample(self) -> int:
    """Multiply-accumulates per sample of audio."""
    return self.conv.macs

  def settle(self, batch_size: int, x: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Returns the state after a constant input, and the output then."""
    past = self.conv.initial_state(batch_size, x[0, 0])
    return past, self.conv.constant(x[0, 0])[tf.newaxis, tf.newaxis]

  def process(
    self, state: Any, x: tf.Tensor, knobs: tf.Tensor | None
  ) -> tuple[tf.Tensor, Any]:
    """Processes [batch, n_samples, 1]; see `Network.stream`."""
    del knobs
    return self.conv(state, x)
