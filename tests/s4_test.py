"""The state-space layer against its closed form in double precision."""

import numpy as np
import pytest
import tensorflow as tf

from dafx import core, neural
from dafx.neural import state_space


def parameters(n_channels, n_states, seed=0):
  rng = np.random.default_rng(seed)
  shape = (n_channels, n_states)
  return [
    rng.uniform(np.log(0.001), np.log(0.1), n_channels),
    np.log(0.5) + 0.1 * rng.normal(size=shape),
    np.pi * np.arange(n_states) * np.ones(shape),
    rng.normal(size=shape),
    rng.normal(size=shape),
  ]


def direct_response(log_dt, log_a_real, a_imag, c_real, c_imag, n_samples):
  """The impulse response, one power for each sample, in double precision."""
  a = -np.exp(log_a_real) + 1j * a_imag
  z = a * np.exp(log_dt)[:, np.newaxis]
  weights = (c_real + 1j * c_imag) * (np.exp(z) - 1.0) / a
  powers = np.exp(z[..., np.newaxis] * np.arange(n_samples))
  return 2.0 * np.einsum('hn,hnt->ht', weights, powers).real


def single(arrays):
  """Rounds to single precision, and back."""
  return [np.asarray(a, np.float32).astype(np.float64) for a in arrays]


@pytest.mark.parametrize('n_samples', [1, 2, 1000, 30_011])
def test_impulse_response_is_the_direct_one(n_samples):
  values = single(parameters(3, 8))
  expected = direct_response(*values, n_samples)
  found = state_space.impulse_response(
    *state_space.discretize(*map(tf.constant, values)), n_samples
  )
  assert found.dtype == tf.float32
  error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
  assert error < 1e-6


@pytest.mark.parametrize('portable', [False, True])
@pytest.mark.parametrize('n_samples', [1, 100, 128, 20_000])
def test_state_space_is_convolution_with_the_response(n_samples, portable):
  values = single(parameters(3, 4))
  rng = np.random.default_rng(1)
  direct = rng.normal(size=3).astype(np.float32)
  x = rng.normal(size=(2, n_samples, 3)).astype(np.float32)
  response = direct_response(*values, n_samples)
  response[:, 0] += direct
  size = 2 * n_samples
  spectrum = np.fft.rfft(response, size)[:, :, np.newaxis].transpose(2, 1, 0)
  expected = np.fft.irfft(np.fft.rfft(x, size, 1) * spectrum, size, 1)
  expected = expected[:, :n_samples]
  poles, weights = state_space.discretize(*map(tf.constant, values))
  arguments = (poles, weights, tf.constant(direct), tf.zeros([3, 2, 8]))

  def run():
    return state_space.state_space(*arguments, tf.constant(x))[0]

  if portable:
    with core.portable():
      found = run()
  else:
    found = run()
  scale = np.abs(expected).max()
  np.testing.assert_allclose(found, expected, atol=1e-5 * scale)


def test_gradients_are_those_of_finite_differences():
  values = single(parameters(2, 3))
  rng = np.random.default_rng(2)
  x = rng.normal(size=(1, 400, 2)).astype(np.float32)
  weight = rng.normal(size=400)
  variables = [tf.Variable(v, dtype=tf.float32) for v in values]
  with tf.GradientTape() as tape:
    poles, weights = state_space.discretize(*variables)
    y, _ = state_space.state_space(
      poles, weights, tf.zeros([2]), tf.zeros([2, 1, 6]), tf.constant(x)
    )
    loss = tf.reduce_sum(y * tf.constant(weight[:, np.newaxis], tf.float32))
  gradients = tape.gradient(loss, variables)

  def reference(values):
    response = direct_response(*values, 400)
    rows = [np.convolve(x[0, :, h], response[h])[:400] for h in range(2)]
    return sum(row @ weight for row in rows)

  for i, (value, gradient) in enumerate(zip(values, gradients)):
    expected = np.zeros_like(value)
    for index in np.ndindex(value.shape):
      step = np.zeros_like(value)
      step[index] = 1e-6
      ends = [
        reference([v + s * step if j == i else v for j, v in enumerate(values)])
        for s in (1, -1)
      ]
      expected[index] = (ends[0] - ends[1]) / 2e-6
    scale = np.abs(expected).max()
    np.testing.assert_allclose(gradient, expected, atol=1e-4 * scale)


def test_recurrence_in_groups_is_a_loop():
  rng = np.random.default_rng(0)
  poles = 0.9 * np.exp(1j * rng.uniform(0, 3, 5))
  x = rng.normal(size=(5, 2, 3000)) + 1j * rng.normal(size=(5, 2, 3000))
  state = rng.normal(size=(5, 2)) + 0j
  before, last = state_space.recurrence(
    tf.constant(x, tf.complex64),
    tf.constant(poles),
    tf.constant(state, tf.complex64),
  )
  for q in range(3000):
    np.testing.assert_allclose(before[..., q], state, atol=1e-4)
    state = poles[:, np.newaxis] * state + x[..., q]
  np.testing.assert_allclose(last, state, atol=1e-4)


def test_silence_before_the_start_is_the_steady_state():
  net = neural.S4(2, 3, 4, seed=4)
  streamed = net(tf.zeros([1, 4000]))
  # As it would be after a long silence: constant from the first sample on.
  np.testing.assert_allclose(
    streamed, streamed[:, :1] + 0 * streamed, atol=1e-5
  )
