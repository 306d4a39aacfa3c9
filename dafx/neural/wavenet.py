"""`WaveNet` in the shape that Neural Amp Modeler uses."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import gin
import tensorflow as tf

from dafx import processors
from dafx.neural import base

_ONE_STACK = tuple(2**i for i in range(10))
# The lighter sizes have the two stacks cut elsewhere.
_LIGHT_STACKS = (_ONE_STACK[:7], _ONE_STACK[7:] + _ONE_STACK)
# Channels of the two arrays, and their dilations.
SIZES = {
  'standard': ((16, 8), (_ONE_STACK, _ONE_STACK)),
  'lite': ((12, 6), _LIGHT_STACKS),
  'feather': ((8, 4), _LIGHT_STACKS),
  'nano': ((4, 2), _LIGHT_STACKS),
}


@processors.register_record
@dataclasses.dataclass(frozen=True)
class LayerArray:
  """The shape of an array of layers, as a .nam file has it.

  Attributes:
    channels: Number of channels.
    head_size: Number of channels that it gives to the next array's head, or, in
      the last one, 1: the output.
    dilations: Dilation of each layer.
    kernel_size: Taps of each convolution.
    gated: Whether activations are multiplied by sigmoids.
    head_bias: Whether the map to the head has a bias.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import neural
    >>> array = neural.LayerArray(
    ...   channels=4, head_size=1, dilations=(1, 2, 4, 8)
    ... )
    >>> neural.WaveNet(arrays=[array])(tf.zeros([1, 1000])).shape
    TensorShape([1, 1000])
  """

  channels: int
  head_size: int
  dilations: Sequence[int]
  kernel_size: int = 3
  gated: bool = False
  head_bias: bool = False


def layer_arrays(size, gated=False):
  """Returns the arrays of a size by name: one of SIZES.

  Raises:
    ValueError: Another name.
  """
  if size not in SIZES:
    raise ValueError(f'size is {size!r}; it is one of {tuple(SIZES)}.')
  (first, second), (early, late) = SIZES[size]
  return (
    LayerArray(first, second, early, gated=gated),
    LayerArray(second, 1, late, gated=gated, head_bias=True),
  )


class _Layer(processors.Layer):
  """A dilated convolution with the condition mixed in, and a residual."""

  def __init__(self, shape, dilation, n_condition, seeds):
    super().__init__(autocast=False)
    n = shape.channels
    self.gated = shape.gated
    n_inner = 2 * n if shape.gated else n
    self.conv = base.CausalConv(n, n_inner, shape.kernel_size, dilation, seeds)
    self.mixin = base.Dense(n_condition, n_inner, seeds, use_bias=False)
    self.linear = base.Dense(n, n, seeds)

  @property
  def macs(self):
    return self.conv.macs + self.mixin.macs + self.linear.macs

  def _after(self, x, z):
    if self.gated:
      signal, gate = tf.split(z, 2, -1)
      z = tf.tanh(signal) * tf.sigmoid(gate)
    else:
      z = tf.tanh(z)
    return x + self.linear(z), z

  def initial_state(self, batch_size, x):
    """Returns the state after silence, and what goes on then, [channels]."""
    past = self.conv.initial_state(batch_size, x)
    z = self.conv.constant(x)
    x, _ = self._after(x[tf.newaxis, tf.newaxis], z[tf.newaxis, tf.newaxis])
    return past, x[0, 0]

  def call(self, past, x, condition):
    z, past = self.conv(past, x)
    return (*self._after(x, z + self.mixin(condition)), past)


class _Array(processors.Layer):
  """Layers whose outputs are summed for the head."""

  def __init__(self, n_in, shape, n_condition, seeds):
    super().__init__(autocast=False)
    self.rechannel = base.Dense(n_in, shape.channels, seeds, use_bias=False)
    self.layers = [
      _Layer(shape, dilation, n_condition, seeds)
      for dilation in shape.dilations
    ]
    self.head = base.Dense(
      shape.channels, shape.head_size, seeds, use_bias=shape.head_bias
    )

  @property
  def macs(self):
    parts = [self.rechannel, *self.layers, self.head]
    return sum(part.macs for part in parts)

  def initial_state(self, batch_size, x):
    states, x = [], self.rechannel(x[tf.newaxis, tf.newaxis])[0, 0]
    for layer in self.layers:
      state, x = layer.initial_state(batch_size, x)
      states.append(state)
    return states, x

  def call(self, states, x, head, condition):
    x = self.rechannel(x)
    new_states = []
    for layer, state in zip(self.layers, states):
      x, z, state = layer(state, x, condition)
      new_states.append(state)
      head = z if head is None else head + z
    return x, self.head(head), new_states


@gin.register(module='dafx.neural')
class WaveNet(base.Network):
  """The WaveNet of Neural Amp Modeler, with knobs if wanted.

  Arrays of dilated convolutions; the input, and the knobs, are mixed into every
  layer. The layers' outputs are summed and mapped to the next array's head, and
  at last to the output. Before the first sample there was silence (at all knobs
  0). van den Oord et al., 'WaveNet: a generative model for raw audio', 2016;
  github.com/sdatkinson/neural-amp-modeler.

  Args:
    size: 'standard', 'lite', 'feather' or 'nano'.
    arrays: `LayerArray`s, in place of a size.
    gated: Whether the layers of a size are gated.
    n_knobs: Number of knobs. The .nam format has no knobs.
    head_scale: Gain of the output; not trained.
    seed: Seed of the weights.
    name: Name of the node.

  Raises:
    ValueError: An unknown size, or arrays that do not fit one another.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import neural
    >>> neural.WaveNet('nano')(tf.zeros([1, 1000])).shape
    TensorShape([1, 1000])
  """

  changeable = ('head_scale',)

  def __init__(
    self,
    size: str = 'standard',
    arrays: Sequence[LayerArray] | None = None,
    gated: bool = False,
    n_knobs: int = 0,
    head_scale: float = 0.02,
    seed: int = 0,
    name: str = 'wavenet',
  ):
    super().__init__(n_knobs, name)
    self.shapes = tuple(arrays or layer_arrays(size, gated))
    for here, following in zip(self.shapes, self.shapes[1:]):
      if here.head_size != following.channels:
        raise ValueError(
          f'An array gives {here.head_size} channels to the head of the next, '
          f'which has {following.channels}. Make head_size equal to channels.'
        )
    if self.shapes[-1].head_size != 1:
      raise ValueError(
        f'head_size of the last array is {self.shapes[-1].head_size}; the '
        'output has 1 channel.'
      )
    seeds = base.seeds_of(seed)
    self.head_scale = head_scale
    n_in = 1
    self.arrays = []
    for shape in self.shapes:
      self.arrays.append(_Array(n_in, shape, 1 + n_knobs, seeds))
      n_in = shape.channels

  @property
  def receptive_field(self) -> int:
    """Samples that an output depends on: its own and those before."""
    layers = [layer for array in self.arrays for layer in array.layers]
    return 1 + sum(layer.conv.n_past for layer in layers)

  @property
  def macs_per_sample(self) -> int:
    """Multiply-accumulates per sample of audio, without activations."""
    return sum(array.macs for array in self.arrays)

  def initial_state(self, batch_size: int) -> Any:
    """Returns the state after silence."""
    states, x = [], tf.zeros([1])
    for array in self.arrays:
      state, x = array.initial_state(batch_size, x)
      states.append(state)
    return states

  def process(
    self, state: Any, x: tf.Tensor, knobs: tf.Tensor | None
  ) -> tuple[tf.Tensor, Any]:
    """Processes [batch, n_samples, 1]; see `Network.stream`."""
    condition = x
    if knobs is not None:
      knobs = base.hold(knobs, x.shape[1])
      if knobs.shape[1] == 1:
        knobs = tf.repeat(knobs, x.shape[1], axis=1)
      condition = tf.concat([x, knobs], -1)
    head: Any
    head, states = None, []
    for array, array_state in zip(self.arrays, state):
      x, head, array_state = array(array_state, x, head, condition)
      states.append(array_state)
    # The last linear map goes nowhere, as in that program: zero gradients.
    unused = self.arrays[-1].layers[-1].linear
    zero = 0.0 * (tf.reduce_sum(unused.kernel) + tf.reduce_sum(unused.bias))
    return self.head_scale * head + zero, states
