"""Nonlinearities against closed forms; oversampling against sines."""

import numpy as np
import pytest
import tensorflow as tf

from dafx import core

N = 4096


def oversample(audio, function, factor):
  """Whole audio [n_samples], with latency taken out."""
  history = core.oversampling_history(factor)
  latency = core.oversampling_latency(factor)
  padded = np.pad(audio, (history, latency))[np.newaxis].astype(np.float32)
  return np.array(core.oversampled(padded, function, factor))[0, latency:]


def test_polynomial_is_numpys():
  x = np.linspace(-2, 2, 41).reshape(1, 41)
  coefficients = np.array([0.5, -1.0, 0.25, 2.0])
  ours = core.polynomial(tf.constant(x), tf.constant(coefficients))
  expected = np.polynomial.polynomial.polyval(x, coefficients)
  np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_rational_starts_as_tanh_and_has_no_poles():
  x = np.linspace(-3, 3, 301).astype(np.float32)
  ours = core.rational(x, core.TANH_NUMERATOR, core.TANH_DENOMINATOR)
  np.testing.assert_allclose(ours, np.tanh(x), atol=5e-4)
  wild = np.random.default_rng(0).standard_normal(5).astype(np.float32)
  ones = np.ones(7, np.float32)
  assert np.isfinite(core.rational(100 * x, ones, wild)).all()
  # All coefficients can learn from where they start.
  below = tf.Variable(core.TANH_DENOMINATOR)
  with tf.GradientTape() as tape:
    total = tf.reduce_sum(core.rational(x[151:], core.TANH_NUMERATOR, below))
  assert (np.abs(tape.gradient(total, below)) > 1e-3).all()


@pytest.mark.parametrize('factor', [2, 4, 8])
def test_oversampling_passes_audio_in_time(factor):
  n = np.arange(N)
  tones = [np.sin(2 * np.pi * f * n + f) for f in (0.001, 0.1, 0.3, 0.41)]
  audio = 0.2 * np.sum(tones, axis=0)
  out = oversample(audio, tf.identity, factor)
  np.testing.assert_allclose(out[100:-100], audio[100:-100], atol=2e-4)
  np.testing.assert_allclose(
    oversample(np.ones(N), tf.identity, factor)[100:-100], 1.0, atol=1e-6
  )


def test_factor_of_one_is_the_function():
  audio = np.linspace(-1, 1, 20)
  assert core.oversampling_history(1) == core.oversampling_latency(1) == 0
  np.testing.assert_allclose(
    oversample(audio, tf.tanh, 1), np.tanh(audio), rtol=1e-6
  )


def test_aliases_are_filtered_out():
  # Of a sine at 0.2 of the rate, the third harmonic folds from 0.6 to 0.4.
  audio = np.sin(2 * np.pi * (820 / N) * np.arange(N))

  def alias_db(factor):
    out = oversample(audio, lambda x: x**3, factor)
    window = np.blackman(N - 512)
    spectrum = np.abs(np.fft.rfft(out[256:-256] * window, 16 * N))
    peak, alias = (
      spectrum[16 * k - 200 : 16 * k + 200].max() for k in (820, N - 3 * 820)
    )
    return 20 * np.log10(alias / peak)

  assert alias_db(1) > -12
  assert alias_db(2) < -75


def test_gradient_passes_through():
  rng = np.random.default_rng(0)
  padding = core.oversampling_history(2)
  audio = tf.constant(rng.standard_normal([1, 100 + padding]), tf.float32)
  weights = rng.standard_normal([1, 100]).astype(np.float32)

  def loss(audio):
    return tf.reduce_sum(core.oversampled(audio, tf.tanh, 2) * weights)

  with tf.GradientTape() as tape:
    tape.watch(audio)
    total = loss(audio)
  direction = rng.standard_normal(audio.shape).astype(np.float32)
  ours = np.sum(tape.gradient(total, audio).numpy() * direction)
  step = 1e-2
  expected = (
    loss(audio + step * direction) - loss(audio - step * direction)
  ) / (2 * step)
  np.testing.assert_allclose(ours, expected, rtol=5e-3)
