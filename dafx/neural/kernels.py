"""Compiled loops over time, forward and adjoint: LSTM, GRU, diagonal systems.

TensorFlow runs a recurrent layer on a processor as a loop of small ops, some
40 microseconds a sample. These loops, compiled by Numba, take one or two. They
release the interpreter's lock; the items of a batch run side by side.

Weights are as PyTorch orders them: gates i, f, g, o of an LSTM and r, z, n of a
GRU, side by side in the last axis.
"""

import concurrent.futures
import functools
import os

import numba
import numpy as np

_compile = numba.njit(
  cache=True, fastmath=True, nogil=True, error_model='numpy'
)


@_compile
def _tanh(x):
  """Tanh by Lambert's continued fraction at x / 2; error below 2e-7."""
  y = min(max(x, np.float32(-9.0)), np.float32(9.0)) * np.float32(0.5)
  s = y * y
  p = y * (
    np.float32(135135) + s * (np.float32(17325) + s * (np.float32(378) + s))
  )
  q = np.float32(135135) + s * (
    np.float32(62370) + s * (np.float32(3150) + s * np.float32(28))
  )
  # From tanh(x / 2) = p / q, the double angle without a second division.
  return np.float32(2) * p * q / (p * p + q * q)


@_compile
def _sigmoid(x):
  return np.float32(0.5) + np.float32(0.5) * _tanh(np.float32(0.5) * x)


@_compile
def _add_product(total, vector, matrix):
  """Adds vector @ matrix to total, four rows at a time."""
  n_rows, n_columns = matrix.shape
  n_whole = n_rows - n_rows % 4
  for k in range(0, n_whole, 4):
    a, b, c, d = vector[k], vector[k + 1], vector[k + 2], vector[k + 3]
    for j in range(n_columns):
      total[j] += (
        a * matrix[k, j]
        + b * matrix[k + 1, j]
        + c * matrix[k + 2, j]
        + d * matrix[k + 3, j]
      )
  for k in range(n_whole, n_rows):
    a = vector[k]
    for j in range(n_columns):
      total[j] += a * matrix[k, j]


@_compile
def _lstm_forward(x, h_start, c_start, kernel, recurrent, bias, h_out, c_out):
  n_steps = x.shape[0]
  n_units = h_start.shape[0]
  gates = np.empty(4 * n_units, np.float32)
  h = h_start.copy()
  c = c_start.copy()
  for t in range(n_steps):
    gates[:] = bias
    _add_product(gates, x[t], kernel)
    _add_product(gates, h, recurrent)
    for j in range(2 * n_units):
      gates[j] = _sigmoid(gates[j])
    for j in range(2 * n_units, 3 * n_units):
      gates[j] = _tanh(gates[j])
    for j in range(3 * n_units, 4 * n_units):
      gates[j] = _sigmoid(gates[j])
    for j in range(n_units):
      c[j] = gates[n_units + j] * c[j] + gates[j] * gates[2 * n_units + j]
    for j in range(n_units):
      h[j] = gates[3 * n_units + j] * _tanh(c[j])
    h_out[t] = h
    c_out[t] = c


@_compile
def _lstm_backward(gates, c, c_start, dh_out, dh, dc, recurrent_t):
  """Turns gates before activation into their gradients, backward in time."""
  n_steps, n_units = c.shape
  for t in range(n_steps):
    for j in range(2 * n_units):
      gates[t, j] = _sigmoid(gates[t, j])
    for j in range(2 * n_units, 3 * n_units):
      gates[t, j] = _tanh(gates[t, j])
    for j in range(3 * n_units, 4 * n_units):
      gates[t, j] = _sigmoid(gates[t, j])
  one = np.float32(1)
  for t in range(n_steps - 1, -1, -1):
    row = gates[t]
    before = c[t - 1] if t > 0 else c_start
    for j in range(n_units):
      i, f = row[j], row[n_units + j]
      g, o = row[2 * n_units + j], row[3 * n_units + j]
      s = _tanh(c[t, j])
      d = dh[j] + dh_out[t, j]
      e = dc[j] + d * o * (one - s * s)
      row[j] = e * g * i * (one - i)
      row[n_units + j] = e * before[j] * f * (one - f)
      row[2 * n_units + j] = e * i * (one - g * g)
      row[3 * n_units + j] = d * s * o * (one - o)
      dc[j] = e * f
      dh[j] = np.float32(0)
    _add_product(dh, row, recurrent_t)


@_compile
def _gru_forward(x, h_start, kernel, recurrent, bias, recurrent_bias, h_out):
  n_steps = x.shape[0]
  n_units = h_start.shape[0]
  gates = np.empty(3 * n_units, np.float32)
  inner = np.empty(3 * n_units, np.float32)
  h = h_start.copy()
  one = np.float32(1)
  for t in range(n_steps):
    gates[:] = bias
    inner[:] = recurrent_bias
    _add_product(gates, x[t], kernel)
    _add_product(inner, h, recurrent)
    for j in range(n_units):
      r = _sigmoid(gates[j] + inner[j])
      z = _sigmoid(gates[n_units + j] + inner[n_units + j])
      n = _tanh(gates[2 * n_units + j] + r * inner[2 * n_units + j])
      h[j] = (one - z) * n + z * h[j]
    h_out[t] = h


@_compile
def _gru_backward(gates, inner, h, h_start, dh_out, dh, recurrent_t):
  """As `_lstm_backward`; `inner` becomes the gradient of h @ recurrent."""
  n_steps, n_units = h.shape
  one = np.float32(1)
  for t in range(n_steps):
    for j in range(n_units):
      r = _sigmoid(gates[t, j] + inner[t, j])
      z = _sigmoid(gates[t, n_units + j] + inner[t, n_units + j])
      k = 2 * n_units + j
      gates[t, k] = _tanh(gates[t, k] + r * inner[t, k])
      gates[t, j] = r
      gates[t, n_units + j] = z
  for t in range(n_steps - 1, -1, -1):
    row, inside = gates[t], inner[t]
    before = h[t - 1] if t > 0 else h_start
    for j in range(n_units):
      r, z, n = row[j], row[n_units + j], row[2 * n_units + j]
      d = dh[j] + dh_out[t, j]
      dn = d * (one - z) * (one - n * n)
      dr = dn * inside[2 * n_units + j] * r * (one - r)
      dz = d * (before[j] - n) * z * (one - z)
      row[j] = inside[j] = dr
      row[n_units + j] = inside[n_units + j] = dz
      row[2 * n_units + j] = dn
      inside[2 * n_units + j] = dn * r
      dh[j] = d * z
    _add_product(dh, inside, recurrent_t)


@_compile
def _scan_forward(x, pole, state, before):
  n_steps, n = x.shape[0], pole.shape[0] // 2
  real, imaginary = pole[:n], pole[n:]
  for q in range(n_steps):
    before[q] = state
    for j in range(n):
      a, b = state[j], state[n + j]
      state[j] = real[j] * a - imaginary[j] * b + x[q, j]
      state[n + j] = real[j] * b + imaginary[j] * a + x[q, n + j]


@_compile
def _scan_backward(before, pole, dbefore, dstate, dx, dpole):
  n_steps, n = before.shape[0], pole.shape[0] // 2
  real, imaginary = pole[:n], pole[n:]
  for q in range(n_steps - 1, -1, -1):
    dx[q] = dstate
    for j in range(n):
      a, b = dstate[j], dstate[n + j]
      dpole[j] += a * before[q, j] + b * before[q, n + j]
      dpole[n + j] += b * before[q, j] - a * before[q, n + j]
      dstate[j] = real[j] * a + imaginary[j] * b + dbefore[q, j]
      dstate[n + j] = real[j] * b - imaginary[j] * a + dbefore[q, n + j]


@_compile
def _state_space(x, state, step, out, gain, y):
  n = step.shape[1] // 2
  for h in range(step.shape[0]):
    state_r, state_i = state[h, :n], state[h, n:]
    step_r, step_i = step[h, :n], step[h, n:]
    out_r, out_i = out[h, :n], out[h, n:]
    for t in range(x.shape[0]):
      u = x[t, h]
      total = np.float32(0)
      for j in range(n):
        a, b = state_r[j], state_i[j]
        total += out_r[j] * a - out_i[j] * b
        state_r[j] = a + (step_r[j] * a - step_i[j] * b + u)
        state_i[j] = b + (step_r[j] * b + step_i[j] * a)
      y[t, h] = total + gain[h] * u


@functools.lru_cache(maxsize=1)
def _pool(process_id):
  del process_id  # A forked process needs threads of its own.
  return concurrent.futures.ThreadPoolExecutor(os.cpu_count(), 'dafx-recurrent')


def _each_item(function, n_items):
  """Calls function(item) for each item, side by side; returns the results."""
  if n_items == 1:
    return [function(0)]
  return list(_pool(os.getpid()).map(function, range(n_items)))


def _contiguous(*arrays):
  return [np.ascontiguousarray(a, np.float32) for a in arrays]


def lstm_forward(x, h_start, c_start, kernel, recurrent, bias):
  """Runs an LSTM; see `cells.lstm` for shapes. Returns h and c of all steps."""
  x, h_start, c_start, *weights = _contiguous(
    x, h_start, c_start, kernel, recurrent, bias
  )
  h = np.empty((*x.shape[:2], h_start.shape[-1]), np.float32)
  c = np.empty_like(h)
  _each_item(
    lambda i: _lstm_forward(x[i], h_start[i], c_start[i], *weights, h[i], c[i]),
    len(x),
  )
  return h, c


def lstm_backward(gates, c, c_start, dh_out, dc_last, recurrent):
  """Returns gradients to the gates (before activation), h_start and c_start.

  Args:
    gates: Gates before activation, [batch, n_steps, 4 * n_units].
    c: Cell states after each step, [batch, n_steps, n_units].
    c_start: Cell states before the first, [batch, n_units].
    dh_out: Gradients to the outputs, as `c`.
    dc_last: Gradients to the last cell states, as `c_start`.
    recurrent: Recurrent weights, [n_units, 4 * n_units].
  """
  c, c_start, dh_out = _contiguous(c, c_start, dh_out)
  gates = np.array(gates, np.float32)
  dc = np.array(dc_last, np.float32)
  dh = np.zeros_like(dc)
  transposed = np.ascontiguousarray(recurrent.T, np.float32)
  _each_item(
    lambda i: _lstm_backward(
      gates[i], c[i], c_start[i], dh_out[i], dh[i], dc[i], transposed
    ),
    len(c),
  )
  return gates, dh, dc


def gru_forward(x, h_start, kernel, recurrent, bias, recurrent_bias):
  """Runs a GRU; see `cells.gru` for shapes. Returns h of all steps."""
  x, h_start, *weights = _contiguous(
    x, h_start, kernel, recurrent, bias, recurrent_bias
  )
  h = np.empty((*x.shape[:2], h_start.shape[-1]), np.float32)
  _each_item(lambda i: _gru_forward(x[i], h_start[i], *weights, h[i]), len(x))
  return h


def gru_backward(gates, inner, h, h_start, dh_out, recurrent):
  """Returns gradients to gates, inner gates and h_start.

  Args:
    gates: x @ kernel + bias, [batch, n_steps, 3 * n_units].
    inner: h_before @ recurrent + recurrent_bias, as `gates`.
    h: Outputs, [batch, n_steps, n_units].
    h_start: What came before the first, [batch, n_units].
    dh_out: Gradients to the outputs, as `h`.
    recurrent: Recurrent weights, [n_units, 3 * n_units].
  """
  h, h_start, dh_out = _contiguous(h, h_start, dh_out)
  gates = np.array(gates, np.float32)
  inner = np.array(inner, np.float32)
  dh = np.zeros_like(h_start)
  transposed = np.ascontiguousarray(recurrent.T, np.float32)
  _each_item(
    lambda i: _gru_backward(
      gates[i], inner[i], h[i], h_start[i], dh_out[i], dh[i], transposed
    ),
    len(h),
  )
  return gates, inner, dh


def scan_forward(x, pole, start):
  """Runs s[q + 1] = pole * s[q] + x[q] for complex numbers in two halves.

  Args:
    x: [n_channels, batch, n_steps, 2 * n_states], real and imaginary parts.
    pole: [n_channels, 2 * n_states].
    start: s[0], [n_channels, batch, 2 * n_states].

  Returns:
    s[0] .. s[n_steps - 1], and s[n_steps].
  """
  x, pole = _contiguous(x, pole)
  state = np.array(start, np.float32)
  before = np.empty_like(x)

  def one_channel(h):
    for i in range(x.shape[1]):
      _scan_forward(x[h, i], pole[h], state[h, i], before[h, i])

  _each_item(one_channel, len(x))
  return before, state


def scan_backward(before, pole, dbefore, dlast):
  """Returns the gradients to x, pole and start of `scan_forward`."""
  before, pole, dbefore = _contiguous(before, pole, dbefore)
  dstate = np.array(dlast, np.float32)
  dx = np.empty_like(before)
  dpole = np.zeros_like(pole)

  def one_channel(h):
    for i in range(before.shape[1]):
      _scan_backward(
        before[h, i], pole[h], dbefore[h, i], dstate[h, i], dx[h, i], dpole[h]
      )

  _each_item(one_channel, len(before))
  return dx, dpole, dstate


def state_space(x, state, step, out, gain):
  """Runs s[t + 1] = (1 + step) s[t] + x[t], y[t] = Re(out s[t]) + gain x[t].

  The poles come less 1: near 1, single precision has no digits to spare.

  Args:
    x: [batch, n_samples, n_channels].
    state: s[0], real and imaginary parts, [n_channels, batch, 2 * n_states].
    step: Poles less 1, [n_channels, 2 * n_states].
    out: As `step`.
    gain: [n_channels].

  Returns:
    y, of the shape of x, and the state after it.
  """
  x, step, out, gain = _contiguous(x, step, out, gain)
  # Items side by side; each has a state of its own.
  state = np.array(state.transpose(1, 0, 2), np.float32)
  y = np.empty_like(x)
  _each_item(
    lambda i: _state_space(x[i], state[i], step, out, gain, y[i]), len(x)
  )
  return y, np.ascontiguousarray(state.transpose(1, 0, 2))
