"""Recurrent cells against plain NumPy and finite differences."""

import numpy as np
import pytest
import tensorflow as tf

from dafx import neural
from dafx.neural import cells


def sigmoid(x):
  return 1.0 / (1.0 + np.exp(-x))


def numpy_lstm(x, state, kernel, recurrent, bias):
  h, c = state
  outputs = []
  for t in range(x.shape[1]):
    gates = x[:, t] @ kernel + h @ recurrent + bias
    i, f, g, o = np.split(gates, 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    outputs.append(h)
  return np.stack(outputs, 1), (h, c)


def numpy_gru(x, state, kernel, recurrent, bias, recurrent_bias):
  (h,) = state
  outputs = []
  for t in range(x.shape[1]):
    r, z, n = np.split(x[:, t] @ kernel + bias, 3, -1)
    ir, iz, inner = np.split(h @ recurrent + recurrent_bias, 3, -1)
    z = sigmoid(z + iz)
    n = np.tanh(n + sigmoid(r + ir) * inner)
    h = (1 - z) * n + z * h
    outputs.append(h)
  return np.stack(outputs, 1), (h,)


CELLS = {'lstm': (cells.lstm, numpy_lstm, 4), 'gru': (cells.gru, numpy_gru, 3)}


def arguments(cell, n_steps=40, n_in=3, n_units=6):
  rng = np.random.default_rng(0)
  n_gates = CELLS[cell][2] * n_units
  state = [rng.normal(size=(2, n_units)) for _ in range(2)]
  weights = [
    rng.normal(0.0, 0.4, (n_in, n_gates)),
    rng.normal(0.0, 0.4, (n_units, n_gates)),
    rng.normal(0.0, 0.4, n_gates),
  ]
  if cell == 'gru':
    state = state[:1]
    weights.append(rng.normal(0.0, 0.4, n_gates))
  return rng.normal(size=(2, n_steps, n_in)), state, weights


@pytest.mark.parametrize('dtype', [tf.float32, tf.float64])
@pytest.mark.parametrize('cell', CELLS)
def test_cells_are_those_of_the_papers(cell, dtype):
  function, reference, _ = CELLS[cell]
  x, state, weights = arguments(cell)
  expected, expected_state = reference(x, state, *weights)
  x, state, weights = tf.nest.map_structure(
    lambda a: tf.constant(a, dtype), (x, state, weights)
  )
  outputs, last = function(x, tuple(state), *weights)
  atol = 1e-6 if dtype == tf.float32 else 1e-12
  np.testing.assert_allclose(outputs, expected, atol=atol)
  for found, wanted in zip(last, expected_state):
    np.testing.assert_allclose(found, wanted, atol=atol)


@pytest.mark.parametrize('cell', CELLS)
def test_adjoints_are_finite_differences(cell):
  function, reference, _ = CELLS[cell]
  x, state, weights = arguments(cell)
  rng = np.random.default_rng(1)
  values = [x, *state, *weights]
  n_states = len(state)
  seen = rng.normal(size=(2, x.shape[1], 6))
  seen_last = [rng.normal(size=(2, 6)) for _ in state]

  def total(outputs, last, sum_of):
    parts = [sum_of(outputs * seen)]
    parts += [sum_of(s * w) for s, w in zip(last, seen_last)]
    return sum(parts)

  tensors = [tf.constant(v, tf.float32) for v in values]
  with tf.GradientTape() as tape:
    tape.watch(tensors)
    outputs, last = function(
      tensors[0], tuple(tensors[1 : 1 + n_states]), *tensors[1 + n_states :]
    )
    loss = total(outputs, last, tf.reduce_sum)
  gradients = tape.gradient(loss, tensors)
  for i, gradient in enumerate(gradients):
    direction = rng.normal(size=values[i].shape)
    ends = []
    for sign in (1, -1):
      moved = [
        v + sign * 1e-6 * direction if j == i else v
        for j, v in enumerate(values)
      ]
      outputs, last = reference(
        moved[0], moved[1 : 1 + n_states], *moved[1 + n_states :]
      )
      ends.append(total(outputs, last, np.sum))
    expected = (ends[0] - ends[1]) / 2e-6
    assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-4)


def test_compiled_tanh_is_tanh():
  # One LSTM step with all gates but the output's candidate wide open.
  x = np.linspace(-12, 12, 4001).astype(np.float32)
  big = tf.constant(np.repeat([0.0, 0.0, 1.0, 0.0], 1)[np.newaxis], tf.float32)
  bias = tf.constant([20.0, -20.0, 0.0, 20.0])
  zeros = tf.zeros([1, 1])
  batch = tf.constant(x[:, np.newaxis, np.newaxis])
  starts = tf.repeat(zeros, len(x), axis=0)
  h, _ = cells.lstm(batch, (starts, starts), big, tf.zeros([1, 4]), bias)
  expected = np.tanh(np.tanh(x.astype(np.float64)))
  np.testing.assert_allclose(h[:, 0, 0], expected, atol=3e-7)


def test_state_carries_truncated_training():
  net = neural.Rnn('lstm', 4, seed=2)
  audio = tf.constant(
    np.random.default_rng(0).normal(size=(1, 300)), tf.float32
  )
  state = net.initial_state(1)
  for start in range(0, 300, 100):
    with tf.GradientTape() as tape:
      signal, state = net.stream(state, audio[:, start : start + 100])
      loss = tf.reduce_mean(tf.square(signal))
    gradients = tape.gradient(loss, net.trainable_variables)
    assert all(np.any(g) for g in gradients)


def test_residual_and_direct_path_add_the_audio():
  audio = tf.constant([[0.5, -0.25, 0.1]])
  plain = neural.Rnn('gru', 3, activation='linear', seed=1)
  for options, added in (
    ({'residual': True}, audio),
    ({'direct_path': True}, tf.tanh(audio)),
  ):
    net = neural.Rnn('gru', 3, activation='linear', seed=1, **options)
    np.testing.assert_allclose(net(audio), plain(audio) + added, atol=1e-6)
