"""`S4`: networks of diagonal state-space layers."""

from typing import Any

import ddsp
import gin
import tensorflow as tf

from dafx import processors
from dafx.neural import base, state_space
from dafx.neural import conditioning as film


class _Block(processors.Layer):
  """Linear, activation, state space, conditioning, activation, residual."""

  def __init__(
    self, n_channels, n_states, kind, n_knobs, activation, residual, seeds
  ):
    super().__init__(autocast=False)
    self.linear = base.Dense(n_channels, n_channels, seeds)
    self.first = base.activation(activation, n_channels)
    self.system = state_space.StateSpace(n_channels, n_states, seeds)
    self.modulation = None
    if kind is not None:
      self.modulation = film.Modulation(kind, n_channels, n_knobs, seeds)
    self.second = base.activation(activation, n_channels)
    self.residual = residual
    if residual:
      bound = tf.keras.initializers.RandomUniform(-1.0, 1.0, next(seeds))
      self.scale = self.add_weight('scale', [n_channels], initializer=bound)

  @property
  def macs(self):
    total = self.linear.macs + self.system.macs
    return total + (self.modulation.macs if self.modulation else 0)

  def initial_state(self, batch_size, x):
    """Returns the state after silence, and what goes on then, [n_channels]."""
    y = self.first(self.linear(x[tf.newaxis, tf.newaxis]))[0, 0]
    state = {}
    state['system'], y = self.system.initial_state(batch_size, y)
    if self.modulation is not None:
      state['modulation'] = self.modulation.initial_state(batch_size, y)
    y = self.second(y)
    return state, y + x * self.scale if self.residual else y

  def call(self, state, x, shared):
    new_state = {}
    y = self.first(self.linear(x))
    y, new_state['system'] = self.system(state['system'], y)
    if self.modulation is not None:
      y, new_state['modulation'] = self.modulation(
        state['modulation'], y, shared
      )
    y = self.second(y)
    return y + x * self.scale if self.residual else y, new_state


@gin.register(module='dafx.neural')
class S4(base.Network):
  """A network of diagonal state-space layers (S4D).

  The layers of Gu et al., 2022 (see `state_space`), in the network of Comunità
  et al., 'Differentiable black-box and gray-box modeling of nonlinear audio
  effects', 2025: a linear map to n_channels, blocks, a linear map to one, tanh.
  Before the first sample there was silence.

  Args:
    n_blocks: Number of blocks.
    n_states: Complex states of each channel in each block.
    n_channels: Number of channels.
    conditioning: None, 'film', 'tfilm', 'tiny_tfilm' or 'tvfilm'; see
      `dafx.neural.conditioning`.
    n_knobs: Number of knobs; any but None takes them, 'film' needs them.
    activation: 'tanh', 'prelu' or 'rational'.
    residual: Whether blocks add their input, scaled by channel.
    input_gain_db: Gain of the audio that it gets; see `DilatedConv`.
    seed: Seed of the weights.
    name: Name of the node.

  Raises:
    ValueError: Sizes below 1, or an unknown conditioning or activation.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import neural
    >>> neural.S4(n_blocks=2, n_channels=8)(tf.zeros([4, 1000])).shape
    TensorShape([4, 1000])
  """

  def __init__(
    self,
    n_blocks: int = 4,
    n_states: int = 4,
    n_channels: int = 16,
    conditioning: str | None = None,
    n_knobs: int = 0,
    activation: str = 'tanh',
    residual: bool = True,
    input_gain_db: float = 0.0,
    seed: int = 0,
    name: str = 's4',
  ):
    super().__init__(n_knobs, name)
    base.check_sizes(
      n_blocks=n_blocks, n_states=n_states, n_channels=n_channels
    )
    film.check(conditioning, n_knobs)
    seeds = base.seeds_of(seed)
    self.input_gain = ddsp.core.db_to_amplitude(input_gain_db)
    self.frame_size = film.frame_size(conditioning)
    self.shared = film.Shared(conditioning, n_knobs, seeds)
    self.expand = base.Dense(1, n_channels, seeds)
    self.blocks = [
      _Block(
        n_channels,
        n_states,
        conditioning,
        n_knobs,
        activation,
        residual,
        seeds,
      )
      for _ in range(n_blocks)
    ]
    self.contract = base.Dense(n_channels, 1, seeds)

  @property
  def macs_per_sample(self) -> int:
    """Multiply-accumulates per sample of audio, without activations."""
    layers = [self.shared, self.expand, *self.blocks, self.contract]
    return sum(layer.macs for layer in layers)

  def initial_state(self, batch_size: int) -> Any:
    """Returns the state after silence."""
    blocks, x = [], self.expand(tf.zeros([1, 1, 1]))[0, 0]
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
    x = self.expand(x)
    states = []
    for block, block_state in zip(self.blocks, state['blocks']):
      x, block_state = block(block_state, x, shared)
      states.append(block_state)
    signal = tf.tanh(self.contract(x))
    return signal, {'shared': shared_state, 'blocks': states}
