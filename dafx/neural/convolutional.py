"""`DilatedConv`: temporal and gated convolutional networks."""

import math
from typing import Any

import ddsp
import gin
import tensorflow as tf

from dafx import processors
from dafx.neural import base
from dafx.neural import conditioning as film


class _Block(processors.Layer):
  """Dilated convolution, conditioning, activation and residual.

  Gated: z = tanh(a) sigmoid(b); z goes to the output, and on through a linear
  map. Else the activation's output goes on, with the input scaled by channel.
  """

  def __init__(
    self,
    n_in,
    n_channels,
    kernel_size,
    dilation,
    gated,
    kind,
    n_knobs,
    activation,
    residual,
    seeds,
  ):
    super().__init__(autocast=False)
    self.gated = gated
    self.residual = residual
    n_features = 2 * n_channels if gated else n_channels
    self.conv = base.CausalConv(n_in, n_features, kernel_size, dilation, seeds)
    self.modulation = None
    if kind is not None:
      self.modulation = film.Modulation(kind, n_features, n_knobs, seeds)
    if gated:
      self.mix = base.Dense(n_channels, n_channels, seeds)
    else:
      self.activation = base.activation(activation, n_channels)
      if residual:
        bound = tf.keras.initializers.RandomUniform(-1.0, 1.0, next(seeds))
        self.scale = self.add_weight('scale', [n_channels], initializer=bound)

  @property
  def macs(self):
    total = self.conv.macs
    if self.modulation is not None:
      total += self.modulation.macs
    return total + (self.mix.macs if self.gated else 0)

  def _after(self, x, y):
    """From features after modulation to (what goes on, what is output)."""
    if self.gated:
      signal, gate = tf.split(y, 2, -1)
      y = tf.tanh(signal) * tf.sigmoid(gate)
      # Broadcast where the input has one channel and the block many.
      return self.mix(y) + x if self.residual else self.mix(y), y
    y = self.activation(y)
    if self.residual:
      y = y + x * self.scale
    return y, y

  def initial_state(self, batch_size, x):
    """Returns the state after silence, and what goes on then, [n_channels]."""
    state = {'past': self.conv.initial_state(batch_size, x)}
    y = self.conv.constant(x)
    if self.modulation is not None:
      state['modulation'] = self.modulation.initial_state(batch_size, y)
    x, _ = self._after(x[tf.newaxis, tf.newaxis], y[tf.newaxis, tf.newaxis])
    return state, x[0, 0]

  def call(self, state, x, shared):
    y, past = self.conv(state['past'], x)
    new_state = {'past': past}
    if self.modulation is not None:
      y, new_state['modulation'] = self.modulation(
        state['modulation'], y, shared
      )
    return (*self._after(x, y), new_state)


@gin.register(module='dafx.neural')
class DilatedConv(base.Network):
  """A causal temporal (TCN) or gated (GCN) convolutional network.

  The TCN of Steinmetz and Reiss, 'Efficient neural networks for real-time
  modeling of analog dynamic range compression', 2022, and the GCN of Comunità
  et al., 'Modelling black-box audio effects with time-varying feature
  modulation', 2023. Block i has dilation growth**i; a GCN's output is a linear
  map of the outputs of all its blocks, a TCN's is the tanh of one of the last.

  Each output sample depends on the input up to it: residuals are aligned, where
  NablAFx's causal ones are a sample late. Before the first sample there was
  silence. The linear map of a GCN's last block goes nowhere; it is there
  because it is in NablAFx's numbers of parameters.

  Args:
    n_blocks: Number of blocks.
    kernel_size: Taps of each convolution.
    dilation_growth: By what the dilation grows from block to block.
    n_channels: Number of channels.
    gated: Whether it is a GCN.
    conditioning: None, 'film', 'tfilm', 'tiny_tfilm' or 'tvfilm'; see
      `dafx.neural.conditioning`.
    n_knobs: Number of knobs; any but None takes them, 'film' needs them.
    activation: Of a TCN: 'tanh', 'prelu' or 'rational'.
    residual: Whether blocks add their input.
    stack_size: Number of blocks after which dilations start over.
    input_gain_db: Gain of the audio that it gets. Audio is quiet to activations
      that bend at 1: with 20 dB, strong curves are learned much faster.
    seed: Seed of the weights.
    name: Name of the node.

  Raises:
    ValueError: Sizes below 1, or an unknown conditioning or activation.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import neural
    >>> tcn = neural.DilatedConv(
    ...   3, n_channels=8, conditioning='film', n_knobs=2
    ... )
    >>> tcn(tf.zeros([4, 1000]), tf.fill([4, 2], 0.5)).shape
    TensorShape([4, 1000])
  """

  def __init__(
    self,
    n_blocks: int = 5,
    kernel_size: int = 7,
    dilation_growth: int = 4,
    n_channels: int = 16,
    gated: bool = False,
    conditioning: str | None = None,
    n_knobs: int = 0,
    activation: str = 'tanh',
    residual: bool = True,
    stack_size: int = 12,
    input_gain_db: float = 0.0,
    seed: int = 0,
    name: str = 'dilated_conv',
  ):
    super().__init__(n_knobs, name)
    base.check_sizes(
      n_blocks=n_blocks,
      kernel_size=kernel_size,
      dilation_growth=dilation_growth,
      n_channels=n_channels,
      stack_size=stack_size,
    )
    film.check(conditioning, n_knobs)
    seeds = base.seeds_of(seed)
    self.gated = gated
    self.input_gain = ddsp.core.db_to_amplitude(input_gain_db)
    self.frame_size = film.frame_size(conditioning)
    self.shared = film.Shared(conditioning, n_knobs, seeds)
    self.blocks = [
      _Block(
        n_channels if i else 1,
        n_channels,
        kernel_size,
        dilation_growth ** (i % stack_size),
        gated,
        conditioning,
        n_knobs,
        activation,
        residual,
        seeds,
      )
      for i in range(n_blocks)
    ]
    n_outputs = n_blocks if gated else 1
    bound = (n_channels * n_outputs) ** -0.5
    uniform = tf.keras.initializers.RandomUniform
    # Of shape [n_outputs, n_channels, 1]: a kernel for each block's output.
    self.out_kernel = self.add_weight(
      'out_kernel',
      [n_outputs, n_channels, 1],
      initializer=uniform(-bound, bound, next(seeds)),
    )
    self.out_bias = self.add_weight(
      'out_bias', [1], initializer=uniform(-bound, bound, next(seeds))
    )

  @property
  def receptive_field(self) -> int:
    """Samples that an output depends on: its own and those before.

    A modulation with memory, such as 'tfilm', comes on top.
    """
    return 1 + sum(block.conv.n_past for block in self.blocks)

  @property
  def macs_per_sample(self) -> int:
    """Multiply-accumulates per sample of audio, without activations."""
    blocks = sum(block.macs for block in self.blocks)
    return self.shared.macs + blocks + math.prod(self.out_kernel.shape)

  def initial_state(self, batch_size: int) -> Any:
    """Returns the state after silence."""
    blocks, x = [], tf.zeros([1])
    for block in self.blocks:
      state, x = block.initial_state(batch_size, x)
      blocks.append(state)
    return {'shared': self.shared.initial_state(batch_size), 'blocks': blocks}

  def process(
    self, state: Any, x: tf.Tensor, knobs: tf.Tensor | None
  ) -> tuple[tf.Tensor, Any]:
    """Processes [batch, n_samples, 1]; see `Network.stream`."""
    x = self.input_gain * x
    shared, shared_state = self.shared(state['shared'], x, knobs)
    states, outputs = [], []
    for block, block_state in zip(self.blocks, state['blocks']):
      x, output, block_state = block(block_state, x, shared)
      states.append(block_state)
      outputs.append(output)
    outputs = outputs if self.gated else outputs[-1:]
    signal = self.out_bias + tf.add_n(
      [
        tf.nn.conv1d(output, self.out_kernel[i][tf.newaxis], 1, 'VALID')
        for i, output in enumerate(outputs)
      ]
    )
    if self.gated:
      # The last linear map goes nowhere: gradients of zero, not none.
      unused = self.blocks[-1].mix
      signal += 0.0 * (
        tf.reduce_sum(unused.kernel) + tf.reduce_sum(unused.bias)
      )
    else:
      signal = tf.tanh(signal)
    return signal, {'shared': shared_state, 'blocks': states}
