"""`WaveNet` in the shapes that Neural Amp Modeler uses."""

from collections.abc import Sequence
from typing import Any

import gin
import tensorflow as tf

from dafx import processors
from dafx.neural import base
from dafx.neural import wavenet_shapes as shapes


class _Film(processors.Layer):
  """Scales features, and shifts them, by a linear map of the condition."""

  def __init__(self, n_condition, n_features, film, seeds):
    super().__init__(autocast=False)
    self.shift = film.shift
    shapes.check_groups('groups of a film', film.groups, [n_condition])
    n_out = 2 * n_features if film.shift else n_features
    self.dense = base.Dense(n_condition, n_out, seeds, groups=film.groups)

  @property
  def macs(self):
    return self.dense.macs

  def call(self, x, condition):
    scale = self.dense(condition)
    if not self.shift:
      return x * scale
    scale, offset = tf.split(scale, 2, -1)
    return x * scale + offset


class _Layer(processors.Layer):
  """A dilated convolution with the condition mixed in, and a residual."""

  def __init__(self, shape, index, n_condition, seeds):
    super().__init__(autocast=False)
    n, n_mid, n_inner = shape.channels, shape.n_mid, shape.n_inner(index)
    self.gating = shape.gatings[index]
    self.activation = shape.activations[index]
    self.gate_activation = shape.gate_activations[index]
    self.conv = base.CausalConv(
      n,
      n_inner,
      shape.kernel_sizes[index],
      shape.dilations[index],
      seeds,
      groups=shape.groups_input,
    )
    shapes.check_groups('groups_mixin', shape.groups_mixin, [n_condition])
    self.mixin = base.Dense(
      n_condition, n_inner, seeds, use_bias=False, groups=shape.groups_mixin
    )
    self.linear: Any = None
    if shape.layer1x1_groups is not None:
      self.linear = base.Dense(n_mid, n, seeds, groups=shape.layer1x1_groups)
    self.to_head: Any = None
    if (head := shape.head1x1) is not None:
      self.to_head = base.Dense(
        n_mid, head.out_channels, seeds, groups=head.groups
      )
    self.films = {
      name: _Film(n_condition, size, shape.films[name], seeds)
      for name, size in shape.film_sizes(index, n_condition).items()
    }

  @property
  def parts(self):
    """The maps of the layer, in the order of their weights in a file."""
    maps = [self.conv, self.mixin, self.linear, self.to_head]
    films = [self.films[n].dense for n in shapes.FILMS if n in self.films]
    return [part for part in maps if part is not None] + films

  @property
  def macs(self):
    return sum(part.macs for part in self.parts)

  def _film(self, name, x, condition):
    return self.films[name](x, condition) if name in self.films else x

  def _activate(self, z):
    if self.gating == 'none':
      return self.activation(z)
    signal, gate = tf.split(z, 2, -1)
    gate = self.gate_activation(gate)
    if self.gating == 'gated':
      return self.activation(signal) * gate
    return gate * self.activation(signal) + (1.0 - gate) * signal

  def _after(self, x, z, condition):
    """From the convolution's output to (what goes on, what the head gets)."""
    z = self._film('conv_post_film', z, condition)
    mixed = self._film('input_mixin_pre_film', condition, condition)
    mixed = self.mixin(mixed)
    z = z + self._film('input_mixin_post_film', mixed, condition)
    z = self._activate(self._film('activation_pre_film', z, condition))
    z = self._film('activation_post_film', z, condition)
    if self.linear is not None:
      y = self.linear(z)
      if self.gating == 'blended':  # As players have it, and in no other.
        y = self._film('layer1x1_post_film', y, condition)
      x = x + y
    if self.to_head is not None:
      z = self._film('head1x1_post_film', self.to_head(z), condition)
    return x, z

  def settle(self, batch_size, x, condition):
    """Returns the state after constant inputs, and what comes of them."""
    y = self._film('conv_pre_film', x, condition)[0, 0]
    past = self.conv.initial_state(batch_size, y)
    z = self.conv.constant(y)[tf.newaxis, tf.newaxis]
    return past, *self._after(x, z, condition)

  def call(self, past, x, condition):
    y = self._film('conv_pre_film', x, condition)
    z, past = self.conv(past, y)
    return past, *self._after(x, z, condition)


class _Array(processors.Layer):
  """Layers whose outputs are summed for the head."""

  def __init__(self, n_in, shape, n_condition, seeds):
    super().__init__(autocast=False)
    self.rechannel = base.Dense(n_in, shape.channels, seeds, use_bias=False)
    self.layers = [
      _Layer(shape, index, n_condition, seeds)
      for index in range(len(shape.dilations))
    ]
    self.head: Any
    self.head_streams = shape.head_kernel_size > 1
    if self.head_streams:
      self.head = base.CausalConv(
        shape.n_to_head,
        shape.head_size,
        shape.head_kernel_size,
        shape.head_dilation,
        seeds,
        use_bias=shape.head_bias,
      )
    else:
      self.head = base.Dense(
        shape.n_to_head, shape.head_size, seeds, use_bias=shape.head_bias
      )

  @property
  def macs(self):
    parts = [self.rechannel, *self.layers, self.head]
    return sum(part.macs for part in parts)

  def settle(self, batch_size, x, head, condition):
    x, states = self.rechannel(x), []
    for layer in self.layers:
      state, x, z = layer.settle(batch_size, x, condition)
      states.append(state)
      head = z if head is None else head + z
    if not self.head_streams:
      return {'layers': states, 'head': ()}, x, self.head(head)
    past = self.head.initial_state(batch_size, head[0, 0])
    head = self.head.constant(head[0, 0])[tf.newaxis, tf.newaxis]
    return {'layers': states, 'head': past}, x, head

  def call(self, state, x, head, condition):
    x, states, past = self.rechannel(x), [], ()
    for layer, layer_state in zip(self.layers, state['layers']):
      layer_state, x, z = layer(layer_state, x, condition)
      states.append(layer_state)
      head = z if head is None else head + z
    if self.head_streams:
      head, past = self.head(state['head'], head)
    else:
      head = self.head(head)
    return {'layers': states, 'head': past}, x, head


@gin.register(module='dafx.neural')
class WaveNet(base.SettlingNetwork):
  """The WaveNet of Neural Amp Modeler, with knobs if wanted.

  Arrays of dilated convolutions; the input, and the knobs, are mixed into every
  layer. The layers' outputs are summed and mapped to the next array's head, and
  at last to the output. Before the first sample there was silence (at all knobs
  0). van den Oord et al., 'WaveNet: a generative model for raw audio', 2016;
  github.com/sdatkinson/neural-amp-modeler.

  Args:
    size: 'standard', 'lite', 'feather' or 'nano'; or 'a2_small' or 'a2_large',
      that program's second architecture, A2.
    arrays: `LayerArray`s, in place of a size.
    gated: Whether the layers of a size are gated.
    n_knobs: Number of knobs. The .nam format has no knobs.
    head_scale: Gain of the output; not trained. None for that of the size:
      0.01 for A2, else 0.02.
    post_head: What follows the arrays, behind head_scale.
    condition: A network whose output is mixed into the layers in place of the
      input; without knobs.
    n_outputs: Channels of the output; more than one for a network that
      conditions another.
    seed: Seed of the weights.
    name: Name of the node.

  Raises:
    ValueError: An unknown size, or parts that do not fit one another.

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
    arrays: Sequence[shapes.LayerArray] | None = None,
    gated: bool = False,
    n_knobs: int = 0,
    head_scale: float | None = None,
    post_head: shapes.PostHead | None = None,
    condition: base.SettlingNetwork | None = None,
    n_outputs: int = 1,
    seed: int = 0,
    name: str = 'wavenet',
  ):
    super().__init__(n_knobs, name)
    self.shapes = tuple(arrays or shapes.layer_arrays(size, gated))
    self.post_shape: Any = post_head
    self.n_outputs = n_outputs
    n_condition = 1 + n_knobs
    if condition is not None:
      if n_knobs or condition.n_knobs:
        raise ValueError('A network with `condition` has no knobs.')
      n_condition = condition.n_outputs
    shapes.check_arrays(self.shapes, post_head, n_outputs)
    seeds = base.seeds_of(seed)
    if head_scale is None:
      is_a2 = arrays is None and size in shapes.A2_SIZES
      head_scale = shapes.A2_HEAD_SCALE if is_a2 else shapes.HEAD_SCALE
    self.head_scale: float = head_scale
    n_in = 1
    self.arrays = []
    for shape in self.shapes:
      self.arrays.append(_Array(n_in, shape, n_condition, seeds))
      n_in = shape.channels
    self.post_convs = []
    if post_head is not None:
      n_in = self.shapes[-1].head_size
      for n_out, kernel_size in zip(post_head.widths, post_head.kernel_sizes):
        conv = base.CausalConv(n_in, n_out, kernel_size, 1, seeds)
        self.post_convs.append(conv)
        n_in = n_out
    self.condition: Any = condition

  @property
  def receptive_field(self) -> int | None:
    """Samples that an output depends on: its own and those before."""
    n_past = sum(shape.n_past for shape in self.shapes)
    n_past += sum(conv.n_past for conv in self.post_convs)
    if self.condition is None:
      return 1 + n_past
    field = self.condition.receptive_field
    return None if field is None else field + n_past

  @property
  def macs_per_sample(self) -> int:
    """Multiply-accumulates per sample of audio, without activations."""
    n = sum(part.macs for part in (*self.arrays, *self.post_convs))
    return n if self.condition is None else n + self.condition.macs_per_sample

  def settle(self, batch_size: int, x: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Returns the state after a constant input, and the output then."""
    state: dict = {'arrays': [], 'post': [], 'condition': ()}
    knobs = tf.zeros([1, 1, self.n_knobs])
    condition = tf.concat([x, knobs], -1)
    head: Any = None
    if self.condition is not None:
      state['condition'], condition = self.condition.settle(batch_size, x)
    for array in self.arrays:
      array_state, x, head = array.settle(batch_size, x, head, condition)
      state['arrays'].append(array_state)
    y = self.head_scale * head
    for conv in self.post_convs:
      y = self.post_shape.activation(y)
      state['post'].append(conv.initial_state(batch_size, y[0, 0]))
      y = conv.constant(y[0, 0])[tf.newaxis, tf.newaxis]
    return state, y

  def process(
    self, state: Any, x: tf.Tensor, knobs: tf.Tensor | None
  ) -> tuple[tf.Tensor, Any]:
    """Processes [batch, n_samples, 1]; see `Network.stream`."""
    new_state: dict = {'arrays': [], 'post': [], 'condition': ()}
    condition = x
    if self.condition is not None:
      condition, new_state['condition'] = self.condition.process(
        state['condition'], x, None
      )
    if knobs is not None:
      knobs = base.hold(knobs, x.shape[1])
      if knobs.shape[1] == 1:
        knobs = tf.repeat(knobs, x.shape[1], axis=1)
      condition = tf.concat([x, knobs], -1)
    head: Any = None
    for array, array_state in zip(self.arrays, state['arrays']):
      array_state, x, head = array(array_state, x, head, condition)
      new_state['arrays'].append(array_state)
    y = self.head_scale * head
    for conv, past in zip(self.post_convs, state['post']):
      y, past = conv(past, self.post_shape.activation(y))
      new_state['post'].append(past)
    # The last linear map goes nowhere, as in that program: zero gradients.
    unused = self.arrays[-1].layers[-1].linear
    if unused is not None:
      y += 0.0 * (tf.reduce_sum(unused.kernel) + tf.reduce_sum(unused.bias))
    return y, new_state
