"""Diagonal state-space systems: discretised, run over chunks, as a layer."""

import math

import tensorflow as tf

from dafx import core, processors
from dafx.neural import kernels

# Samples per block of the block recurrence: the fastest, by measurement.
_MAX_BLOCK = 128
# Blocks per group of the recurrence from block to block.
_MAX_GROUP = 48


def powers(x, n):
  """Returns x**0 .. x**(n - 1) in a new last axis, by doubling."""
  table = tf.ones_like(x)[..., tf.newaxis]
  factor = x[..., tf.newaxis]
  while table.shape[-1] < n:
    table = tf.concat([table, table * factor], -1)
    factor = factor * factor
  return table[..., :n]


def discretize(log_dt, log_a_real, a_imag, c_real, c_imag):
  """Returns poles and output weights of sampled diagonal systems.

  x' = a x + u, y = 2 Re(c x) with a = -exp(log_a_real) + i a_imag, held between
  samples that are dt = exp(log_dt) apart (zero-order hold): the 'S4D' of Gu et
  al., 'On the parameterization and initialization of diagonal state space
  models', NeurIPS 2022. In double precision: errors of poles grow with time.

  Args:
    log_dt: [n_channels].
    log_a_real: [n_channels, n_states].
    a_imag: [n_channels, n_states].
    c_real: [n_channels, n_states].
    c_imag: [n_channels, n_states].

  Returns:
    Poles and weights, complex128 [n_channels, n_states]: the impulse response
    is 2 Re(sum(weights * poles**t)).
  """
  double = tf.float64
  a = tf.complex(-tf.exp(tf.cast(log_a_real, double)), tf.cast(a_imag, double))
  dt = tf.exp(tf.cast(log_dt, double))[:, tf.newaxis]
  poles = tf.exp(a * tf.complex(dt, tf.zeros_like(dt)))
  c = tf.complex(tf.cast(c_real, double), tf.cast(c_imag, double))
  return poles, c * (poles - 1.0) / a


def _parts(x, axis):
  """Returns the real and imaginary parts, one after the other, in float32."""
  parts = tf.concat([tf.math.real(x), tf.math.imag(x)], axis)
  return tf.cast(parts, tf.float32)


def impulse_response(poles, weights, n_samples):
  """Returns 2 Re(sum(weights * poles**t)) for t = 0 .. n_samples - 1.

  With t = q n + r, two tables of some sqrt(n_samples) powers and their matrix
  product, in place of n_samples powers of each pole.

  Args:
    poles: complex128 [n_channels, n_states].
    weights: As `poles`.
    n_samples: Length.

  Returns:
    float32 [n_channels, n_samples].
  """
  root = max(1, math.isqrt(n_samples))
  # A divisor near the root, if there is one: nothing to cut off.
  n = next((n for n in range(root, 2 * root) if n_samples % n == 0), root)
  n_rows = -(-n_samples // n)
  fine = powers(poles, n)
  coarse = powers(fine[..., -1] * poles, n_rows)
  rows = _parts(2.0 * tf.math.conj(weights[..., tf.newaxis] * coarse), 1)
  table = tf.matmul(rows, _parts(fine, 1), transpose_a=True)
  return tf.reshape(table, [-1, n_rows * n])[:, :n_samples]


def toeplitz(x):
  """Returns the upper triangular Toeplitz matrices of first rows [..., n].

  A row vector times this matrix is its convolution with x, cut to n.
  """
  n = x.shape[-1]
  lead = x.shape[:-1]
  if n == 1:
    return x[..., tf.newaxis]
  # Rows of 2n, read as rows of 2n - 1, move by one from row to row.
  padded = tf.concat([x, tf.zeros_like(x)], -1)
  tiled = tf.tile(padded, [1] * len(lead) + [n])
  tiled = tf.reshape(tiled[..., : n * (2 * n - 1)], [*lead, n, 2 * n - 1])
  return tiled[..., :n]


def recurrence(x, poles, start):
  """Runs s[q + 1] = poles * s[q] + x[q].

  In groups, by matrix products with powers of the poles; then the same from
  group to group.

  Args:
    x: complex64 [n_poles, batch, n_steps].
    poles: complex128 [n_poles].
    start: s[0], complex64 [n_poles, batch].

  Returns:
    s[0] .. s[n_steps - 1], of the shape of x, and s[n_steps].
  """
  n_poles, n_steps = x.shape[0], x.shape[2]
  n = min(n_steps, _MAX_GROUP)
  n_groups = -(-n_steps // n)
  n_padded = n_groups * n
  x = tf.pad(x, [[0, 0], [0, 0], [0, n_padded - n_steps]])
  grouped = tf.reshape(x, [n_poles, -1, n])
  # After each step of a group that starts from zero.
  table = powers(poles, n)
  within = tf.matmul(grouped, tf.cast(toeplitz(table), tf.complex64))
  within = tf.reshape(within, [n_poles, -1, n_groups, n])
  group_pole = table[:, -1] * poles
  if n_groups == 1:
    starts = start[..., tf.newaxis]
  else:
    starts, _ = recurrence(within[..., -1], group_pole, start)
  decay = tf.cast(table * poles[:, tf.newaxis], tf.complex64)
  after = within + starts[..., tf.newaxis] * decay[:, tf.newaxis, tf.newaxis]
  after = tf.reshape(after, [n_poles, -1, n_padded])[..., :n_steps]
  before = tf.concat([start[..., tf.newaxis], after[..., :-1]], -1)
  return before, after[..., -1]


@tf.custom_gradient
def _compiled_recurrence(x, pole, start):
  before, last = tf.numpy_function(
    kernels.scan_forward,
    (x, pole, start),
    (tf.float32, tf.float32),
    stateful=False,
  )
  before.set_shape(x.shape)
  last.set_shape(start.shape)

  def grad(dbefore, dlast):
    gradients = core.differentiable_once(
      lambda *inputs: tf.numpy_function(
        kernels.scan_backward,
        inputs,
        (tf.float32, tf.float32, tf.float32),
        stateful=False,
      ),
      (before, pole, dbefore, dlast),
      'a compiled recurrence',
    )
    for gradient, value in zip(gradients, (x, pole, start)):
      gradient.set_shape(value.shape)
    return gradients

  return (before, last), grad


class Tables:
  """What the block recurrence needs of a system, for blocks of up to n samples.

  With s the state before a block of n samples u: the output is
  u @ within + s @ from_state, the next state poles**n s + u @ to_state. Complex
  numbers are their real and imaginary parts, side by side.

  Args:
    poles: complex128 [n_channels, n_states].
    weights: As `poles`.
    direct: Gain of the input itself, [n_channels].
    n: Number of samples.
  """

  def __init__(self, poles, weights, direct, n):
    self.poles = poles
    self.n = n
    self.table = powers(poles, n + 1)
    weighted = 2.0 * weights[..., tf.newaxis] * self.table
    response = tf.reduce_sum(tf.math.real(weighted[..., :-1]), 1)
    response = tf.cast(response, tf.float32)
    self.response = tf.concat(
      [response[:, :1] + direct[:, tf.newaxis], response[:, 1:]], 1
    )
    # Of shape [n_channels, 2 * n_states, n].
    self.from_state = _parts(tf.math.conj(weighted[..., 1:]), 1)

  def matrices(self, n):
    """Returns (within and to_state side by side, from_state) for n samples."""
    to_state = tf.reverse(self.table[..., :n], [-1])
    to_state = tf.transpose(_parts(to_state, 1), [0, 2, 1])
    into = tf.concat([toeplitz(self.response[:, :n]), to_state], -1)
    return into, self.from_state[..., :n]


def _as_complex(x):
  real, imaginary = tf.split(x, 2, -1)
  return tf.complex(real, imaginary)


def in_blocks(tables, state, x):
  """Runs diagonal systems over a chunk, in blocks, by matrix products.

  Args:
    tables: `Tables` of the systems, for min(n_samples, 128) samples.
    state: [n_channels, batch, 2 * n_states]: sums of poles**(t - 1) times the
      input t samples ago, real and imaginary parts.
    x: [batch, n_samples, n_channels].

  Returns:
    Output of the shape of x, and the new state.
  """
  n_samples, n_channels = x.shape[1:]
  x = tf.transpose(x, [2, 0, 1])
  n = tables.n
  n_blocks, n_rest = divmod(n_samples, n)
  outputs = []
  if n_blocks:
    into, from_state = tables.matrices(n)
    n_states = tables.poles.shape[1]
    blocks = tf.reshape(x[..., : n_blocks * n], [n_channels, -1, n])
    y = tf.matmul(blocks, into)
    inputs = tf.reshape(y[..., n:], [n_channels, -1, n_blocks, 2 * n_states])
    before, state = _block_states(tables, state, inputs)
    before = tf.reshape(before, [n_channels, -1, 2 * n_states])
    y = y[..., :n] + tf.matmul(before, from_state)
    outputs.append(tf.reshape(y, [n_channels, -1, n_blocks * n]))
  if n_rest:
    into, from_state = tables.matrices(n_rest)
    rest = x[..., n_blocks * n :]
    y = tf.matmul(rest, into)
    outputs.append(y[..., :n_rest] + tf.matmul(state, from_state))
    pole = tf.cast(tables.table[:, :, n_rest], tf.complex64)
    state = _as_complex(state) * pole[:, tf.newaxis]
    state = _parts(state, -1) + y[..., n_rest:]
  y = outputs[0] if len(outputs) == 1 else tf.concat(outputs, -1)
  return tf.transpose(y, [1, 2, 0]), state


def _block_states(tables, state, inputs):
  """Returns the states before each block, and the one after the last.

  Args:
    tables: `Tables`.
    state: [n_channels, batch, 2 * n_states].
    inputs: What each block adds, [n_channels, batch, n_blocks, 2 * n_states].
  """
  n_channels, n_states = tables.poles.shape
  n_blocks = inputs.shape[2]
  pole = tables.table[:, :, tables.n]
  if n_blocks == 1:
    after = _as_complex(state) * tf.cast(pole, tf.complex64)[:, tf.newaxis]
    return state, _parts(after, -1) + inputs[:, :, 0]
  if core.is_compiled(inputs):
    return _compiled_recurrence(inputs, _parts(pole, -1), state)
  # Of shape [n_channels * n_states, batch, n_blocks].
  x = tf.transpose(_as_complex(inputs), [0, 3, 1, 2])
  x = tf.reshape(x, [n_channels * n_states, -1, n_blocks])
  start = tf.transpose(_as_complex(state), [0, 2, 1])
  start = tf.reshape(start, [n_channels * n_states, -1])
  before, last = recurrence(x, tf.reshape(pole, [-1]), start)
  before = tf.reshape(before, [n_channels, n_states, -1])
  before = _parts(tf.transpose(before, [0, 2, 1]), -1)
  last = tf.reshape(last, [n_channels, n_states, -1])
  return before, _parts(tf.transpose(last, [0, 2, 1]), -1)


def state_space(poles, weights, direct, state, x):
  """Runs diagonal systems over a chunk.

  Forward in a compiled loop over samples, which needs no tables and so is fast
  for short chunks; the gradient is that of `in_blocks`, which computes more and
  is yet faster. `in_blocks` serves both where compiled loops do not.

  Args:
    poles: complex128 [n_channels, n_states].
    weights: As `poles`; see `discretize`.
    direct: Gain of the input itself, [n_channels].
    state: See `in_blocks`.
    x: [batch, n_samples, n_channels].

  Returns:
    Output of the shape of x, and the new state.
  """
  inputs = (*_split(poles), *_split(weights), direct, state, x)
  if core.is_compiled(x):
    # Of a strategy's variable a custom gradient would see a part.
    return _compiled_state_space(*map(tf.convert_to_tensor, inputs))
  return _state_space(*inputs)


def _split(x):
  return tf.math.real(x), tf.math.imag(x)


def _state_space(pole_r, pole_i, weight_r, weight_i, direct, state, x):
  poles = tf.complex(pole_r, pole_i)
  weights = tf.complex(weight_r, weight_i)
  n = min(x.shape[1], _MAX_BLOCK)
  return in_blocks(Tables(poles, weights, direct, n), state, x)


@tf.custom_gradient
def _compiled_state_space(pole_r, pole_i, weight_r, weight_i, direct, state, x):
  inputs = (pole_r, pole_i, weight_r, weight_i, direct, state, x)
  poles = tf.complex(pole_r, pole_i)
  weights = tf.complex(weight_r, weight_i)
  gain = 2.0 * tf.reduce_sum(weight_r, 1)
  y, last = tf.numpy_function(
    kernels.state_space,
    (
      x,
      state,
      _parts(poles - 1.0, -1),
      _parts(2.0 * weights * poles, -1),
      tf.cast(gain, tf.float32) + direct,
    ),
    (tf.float32, tf.float32),
    stateful=False,
  )
  y.set_shape(x.shape)
  last.set_shape(state.shape)

  def grad(dy, dlast):
    with tf.GradientTape() as tape:
      tape.watch(inputs)
      outputs = _state_space(*inputs)
    return tape.gradient(outputs, inputs, [dy, dlast])

  return (y, last), grad


class StateSpace(processors.Layer):
  """A diagonal state-space system for each channel.

  Args:
    n_channels: Number of channels.
    n_states: Complex states of each, standing for conjugate pairs.
    seeds: Iterator of seeds: log_dt is uniform between the logarithms of 0.001
      and 0.1, poles start at -1/2 + i pi n (S4D-Lin), output weights and direct
      gains are normal.
    name: Name of the layer.
  """

  def __init__(self, n_channels, n_states, seeds, name=None):
    super().__init__(name=name, autocast=False)
    initializers = tf.keras.initializers
    uniform, normal = initializers.RandomUniform, initializers.RandomNormal
    low, high = math.log(0.001), math.log(0.1)
    shape = [n_channels, n_states]
    self.log_dt = self.add_weight(
      'log_dt', [n_channels], initializer=uniform(low, high, next(seeds))
    )
    self.log_a_real = self.add_weight(
      'log_a_real', shape, initializer=initializers.Constant(math.log(0.5))
    )
    frequencies = [[math.pi * n for n in range(n_states)]] * n_channels
    self.a_imag = self.add_weight(
      'a_imag', shape, initializer=initializers.Constant(frequencies)
    )
    # Of variance 1 as complex numbers.
    self.c_real, self.c_imag = (
      self.add_weight(
        name, shape, initializer=normal(0.0, 0.5**0.5, next(seeds))
      )
      for name in ('c_real', 'c_imag')
    )
    self.direct = self.add_weight(
      'direct', [n_channels], initializer=normal(0.0, 1.0, next(seeds))
    )

  def discretized(self):
    """Returns poles and weights; see `discretize`."""
    return discretize(
      self.log_dt, self.log_a_real, self.a_imag, self.c_real, self.c_imag
    )

  @property
  def macs(self):
    """Multiply-accumulates per sample, as `state_space` does it in blocks."""
    n_channels, n_states = self.a_imag.shape
    return n_channels * (_MAX_BLOCK + 4 * n_states)

  def initial_state(self, batch_size, x):
    """Returns the state and output [n_channels] after x [n_channels] forever.

    The state is [n_channels, batch, 2 * n_states].
    """
    poles, weights = self.discretized()
    total = 1.0 / (1.0 - poles)
    gain = 2.0 * tf.reduce_sum(tf.math.real(weights * total), 1)
    y = x * (tf.cast(gain, tf.float32) + self.direct)
    state = _parts(total, -1) * x[:, tf.newaxis]
    shape = [state.shape[0], batch_size, state.shape[1]]
    return tf.broadcast_to(state[:, tf.newaxis], shape), y

  def call(self, state, x):
    """Maps [batch, n_samples, n_channels] to the same; returns the state."""
    direct = tf.convert_to_tensor(self.direct)
    poles, weights = self.discretized()
    return state_space(poles, weights, direct, state, x)
