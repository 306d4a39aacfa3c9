"""Recurrent cells over whole sequences: LSTM and GRU, fast on a processor.

`lstm` and `gru` run compiled loops with exact adjoints (`kernels`) on float32,
and loops of TensorFlow ops on other types and inside `core.portable()`, where
the graph must run without Python.
"""

import tensorflow as tf

from dafx import core, processors
from dafx.neural import kernels

# A state is settled when a block of steps moves it by no more than this, as a
# share of its size, or after so many blocks.
_SETTLED, _SETTLING_BLOCK, _MOST_BLOCKS = 1e-7, 64, 750


def weight_gradient(x, dy):
  """Returns the gradient to w of y = x @ w, for many steps of few channels.

  As the gradient of a 1 x 1 convolution, several times faster than `matmul`,
  which does not split the long axis.

  Args:
    x: Of shape [batch, n_steps, n_in].
    dy: Of shape [batch, n_steps, n_out].

  Returns:
    [n_in, n_out].
  """
  gradient = tf.raw_ops.Conv2DBackpropFilter(
    input=x[:, tf.newaxis],
    filter_sizes=[1, 1, x.shape[-1], dy.shape[-1]],
    out_backprop=dy[:, tf.newaxis],
    strides=[1, 1, 1, 1],
    padding='VALID',
  )
  return gradient[0, 0]


def _before(h, h_start):
  """Returns the outputs that the steps start from."""
  return tf.concat([h_start[:, tf.newaxis], h[:, :-1]], 1)


def _backward(kernel, inputs, name):
  """Returns the three gradients that a kernel computes, of unknown shapes."""
  return core.differentiable_once(
    lambda *inputs: tf.numpy_function(
      kernel, inputs, (tf.float32, tf.float32, tf.float32), stateful=False
    ),
    inputs,
    name,
  )


@tf.custom_gradient
def _compiled_lstm(x, h_start, c_start, kernel, recurrent, bias):
  inputs = (x, h_start, c_start, kernel, recurrent, bias)
  h, c = tf.numpy_function(
    kernels.lstm_forward, inputs, (tf.float32, tf.float32), stateful=False
  )
  shape = [*x.shape[:2], h_start.shape[-1]]
  h.set_shape(shape)
  c.set_shape(shape)

  def grad(dh_out, dc_last):
    before = _before(h, h_start)
    gates = tf.matmul(x, kernel) + tf.matmul(before, recurrent) + bias
    dgates, dh, dc = _backward(
      kernels.lstm_backward,
      (gates, c, c_start, dh_out, dc_last, recurrent),
      'a compiled LSTM',
    )
    dgates.set_shape(gates.shape)
    dh.set_shape(h_start.shape)
    dc.set_shape(c_start.shape)
    return (
      tf.matmul(dgates, kernel, transpose_b=True),
      dh,
      dc,
      weight_gradient(x, dgates),
      weight_gradient(before, dgates),
      tf.reduce_sum(dgates, [0, 1]),
    )

  return (h, c[:, -1]), grad


@tf.custom_gradient
def _compiled_gru(x, h_start, kernel, recurrent, bias, recurrent_bias):
  inputs = (x, h_start, kernel, recurrent, bias, recurrent_bias)
  h = tf.numpy_function(kernels.gru_forward, inputs, tf.float32, stateful=False)
  h.set_shape([*x.shape[:2], h_start.shape[-1]])

  def grad(dh_out):
    before = _before(h, h_start)
    gates = tf.matmul(x, kernel) + bias
    inner = tf.matmul(before, recurrent) + recurrent_bias
    dgates, dinner, dh = _backward(
      kernels.gru_backward,
      (gates, inner, h, h_start, dh_out, recurrent),
      'a compiled GRU',
    )
    dgates.set_shape(gates.shape)
    dinner.set_shape(gates.shape)
    dh.set_shape(h_start.shape)
    return (
      tf.matmul(dgates, kernel, transpose_b=True),
      dh,
      weight_gradient(x, dgates),
      weight_gradient(before, dinner),
      tf.reduce_sum(dgates, [0, 1]),
      tf.reduce_sum(dinner, [0, 1]),
    )

  return h, grad


def _lstm_step(gates, h, c, recurrent):
  gates = gates + tf.matmul(h, recurrent)
  i, f, g, o = tf.split(gates, 4, -1)
  c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
  return tf.sigmoid(o) * tf.tanh(c), c


def _gru_step(gates, h, recurrent, recurrent_bias):
  inner = tf.matmul(h, recurrent) + recurrent_bias
  r, z, n = tf.split(gates, 3, -1)
  inner_r, inner_z, inner_n = tf.split(inner, 3, -1)
  z = tf.sigmoid(z + inner_z)
  n = tf.tanh(n + tf.sigmoid(r + inner_r) * inner_n)
  return (1.0 - z) * n + z * h


def _loop(step, gates, state):
  """Runs step(gates, *state) -> state; returns outputs and the last state."""
  gates = tf.transpose(gates, [1, 0, 2])
  n_steps = core.batch_size(gates)
  outputs = tf.TensorArray(gates.dtype, n_steps)

  def body(t, outputs, *state):
    state = step(gates[t], *state)
    return (t + 1, outputs.write(t, state[0]), *state)

  _, outputs, *state = tf.while_loop(
    lambda t, *_: t < n_steps,
    body,
    (0, outputs, *state),
    maximum_iterations=n_steps,  # for gradients under XLA
  )
  return tf.transpose(outputs.stack(), [1, 0, 2]), state


def _as_tensors(*weights):
  """Reads weights: of a strategy's variable a custom gradient sees a part."""
  return [tf.convert_to_tensor(weight) for weight in weights]


def lstm(x, state, kernel, recurrent, bias):
  """Runs an LSTM over a sequence.

  Gates i, f, g, o: c = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o)
  tanh(c). Hochreiter and Schmidhuber, 'Long short-term memory', 1997, with the
  forget gate of Gers et al., 2000.

  Args:
    x: Input, [batch, n_steps, n_in].
    state: (h, c) before the first step, both [batch, n_units].
    kernel: Weights of the input, [n_in, 4 * n_units].
    recurrent: Weights of h, [n_units, 4 * n_units].
    bias: [4 * n_units].

  Returns:
    h after each step, [batch, n_steps, n_units], and the last (h, c).
  """
  h, c = state
  if core.is_compiled(x):
    weights = _as_tensors(kernel, recurrent, bias)
    outputs, c = _compiled_lstm(x, h, c, *weights)
    return outputs, (outputs[:, -1], c)
  gates = tf.matmul(x, kernel) + bias
  outputs, (h, c) = _loop(
    lambda gates, h, c: _lstm_step(gates, h, c, recurrent), gates, (h, c)
  )
  outputs.set_shape([*x.shape[:2], recurrent.shape[0]])
  return outputs, (h, c)


def gru(x, state, kernel, recurrent, bias, recurrent_bias):
  """Runs a GRU over a sequence, with the reset gate behind the product.

  Gates r, z, n: n = tanh(W x + b + r (U h + b')), h = (1 - z) n + z h. Cho et
  al., 'Learning phrase representations using RNN encoder-decoder', 2014.

  Args:
    x: Input, [batch, n_steps, n_in].
    state: (h,) before the first step, [batch, n_units].
    kernel: Weights of the input, [n_in, 3 * n_units].
    recurrent: Weights of h, [n_units, 3 * n_units].
    bias: [3 * n_units].
    recurrent_bias: [3 * n_units].

  Returns:
    h after each step, [batch, n_steps, n_units], and the last (h,).
  """
  (h,) = state
  if core.is_compiled(x):
    weights = _as_tensors(kernel, recurrent, bias, recurrent_bias)
    outputs = _compiled_gru(x, h, *weights)
    return outputs, (outputs[:, -1],)
  gates = tf.matmul(x, kernel) + bias
  outputs, (h,) = _loop(
    lambda gates, h: (_gru_step(gates, h, recurrent, recurrent_bias),),
    gates,
    (h,),
  )
  outputs.set_shape([*x.shape[:2], recurrent.shape[0]])
  return outputs, (h,)


class Recurrent(processors.Layer):
  """An LSTM or GRU with its weights and an explicit state.

  It has two biases, as PyTorch's cells, so that numbers of parameters are those
  that are published.

  Args:
    cell: 'lstm' or 'gru'.
    n_in: Number of inputs.
    n_units: Size of the state.
    seeds: Iterator of seeds for the weights: uniform within 1 / sqrt(n_units).
    name: Name of the layer.

  Raises:
    ValueError: A cell that is neither.
  """

  def __init__(self, cell, n_in, n_units, seeds, name=None):
    super().__init__(name=name, autocast=False)
    if cell not in ('lstm', 'gru'):
      raise ValueError(f"cell is {cell!r}; it is 'lstm' or 'gru'.")
    self.cell = cell
    self.n_in = n_in
    self.n_units = n_units
    n_gates = n_units * {'lstm': 4, 'gru': 3}[cell]
    bound = n_units**-0.5
    shapes = {
      'kernel': [n_in, n_gates],
      'recurrent': [n_units, n_gates],
      'bias': [n_gates],
      'recurrent_bias': [n_gates],
    }
    for key, shape in shapes.items():
      init = tf.keras.initializers.RandomUniform(-bound, bound, next(seeds))
      setattr(self, key, self.add_weight(key, shape, initializer=init))

  @property
  def macs(self):
    """Multiply-accumulates per step."""
    return self.kernel.shape[1] * (self.n_in + self.n_units)

  def initial_state(self, batch_size):
    """Returns zeros: (h, c) or (h,), each [batch, n_units]."""
    n_states = 2 if self.cell == 'lstm' else 1
    return tuple(tf.zeros([batch_size, self.n_units]) for _ in range(n_states))

  def settle(self, state, x):
    """Returns the state that a constant input leads to, without gradient.

    Args:
      state: The state before, of one item.
      x: The input, [1, 1, n_in].

    Returns:
      The state where it no longer moves, or after a second at 48 kHz.
    """
    block = tf.repeat(x, _SETTLING_BLOCK, axis=1)

    def step(moved, *state):
      del moved
      _, after = self(block, state)
      moved = [
        tf.reduce_max(tf.abs(new - old) / (1.0 + tf.abs(new)))
        for new, old in zip(after, state)
      ]
      return (tf.reduce_max(moved), *after)

    _, *state = tf.while_loop(
      lambda moved, *_: moved > _SETTLED,
      step,
      (tf.constant(1.0), *state),
      maximum_iterations=_MOST_BLOCKS,
    )
    return tuple(tf.stop_gradient(value) for value in state)

  def call(self, x, state):
    """Returns outputs [batch, n_steps, n_units] and the new state."""
    if self.cell == 'lstm':
      bias = self.bias + self.recurrent_bias
      return lstm(x, state, self.kernel, self.recurrent, bias)
    return gru(
      x, state, self.kernel, self.recurrent, self.bias, self.recurrent_bias
    )
