"""Dynamics against closed forms, the recursion and tf.scan."""

import numpy as np
import pytest
import tensorflow as tf

from dafx import core


def recursion(audio, attack, release, state):
  """Ballistics sample by sample; coefficients per sample."""
  out = np.empty_like(audio)
  for i in range(len(audio)):
    y = state[i]
    for n, x in enumerate(audio[i]):
      y += (attack if x > y else release)[i, n] * (x - y)
      out[i, n] = y
  return out


def case(n_samples, n_frames, seed=0):
  rng = np.random.default_rng(seed)
  audio = 20 * np.abs(rng.standard_normal([2, n_samples]))
  audio = audio.astype(np.float32).astype(np.float64)
  attack = rng.uniform(0.05, 0.3, [2, n_frames])
  release = rng.uniform(1e-4, 0.01, [2, n_frames])
  return audio, attack, release, rng.uniform(0, 10, 2)


def per_sample(frames, n_samples):
  hop = -(-n_samples // frames.shape[1])
  return np.repeat(frames, hop, axis=1)[:, :n_samples]


@pytest.mark.parametrize('n_samples, n_frames', [(1, 1), (200, 1), (201, 4)])
def test_smoothing_is_the_recursion(n_samples, n_frames):
  audio, attack, release, state = case(n_samples, n_frames)
  out, end = core.ballistics(audio, attack, release, state)
  expected = recursion(
    audio,
    per_sample(attack, n_samples),
    per_sample(release, n_samples),
    state,
  )
  np.testing.assert_allclose(out, expected, rtol=1e-6)
  np.testing.assert_allclose(end, expected[:, -1], rtol=1e-12)


def test_slow_release_does_not_come_to_rest():
  # A time constant of 2 s at 48 kHz: steps of y are below the resolution of
  # single precision long before y arrives.
  release = core.smoothing_coefficient([[2000.0]], 48000)
  n = np.arange(480000)
  audio = np.full([1, len(n)], -20.0)
  out, _ = core.ballistics(audio, release, release, [0.0])
  expected = -20.0 * (1 - np.exp(-(n + 1) / 96000.0))
  np.testing.assert_allclose(out[0], expected, atol=1e-5)


def test_gradients_are_those_of_tf_scan():
  inputs = [tf.constant(x) for x in case(60, 3)]

  def by_scan(audio, attack, release, state):
    attack, release = (tf.repeat(c, 20, axis=1) for c in (attack, release))

    def step(y, x):
      audio, attack, release = x
      return y + tf.where(audio > y, attack, release) * (audio - y)

    sources = [tf.transpose(x) for x in (audio, attack, release)]
    out = tf.transpose(tf.scan(step, sources, state))
    return out, out[:, -1]

  weights = np.random.default_rng(1).standard_normal([2, 60])
  results = []
  for smooth in (by_scan, core.ballistics):
    with tf.GradientTape() as tape:
      tape.watch(inputs)
      out, end = smooth(*inputs)
      total = tf.reduce_sum(tf.cast(out, tf.float64) * weights)
      total += 3.0 * tf.reduce_sum(end)
    results.append(tape.gradient(total, inputs))
  for expected, ours in zip(*results):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6 * scale)


def test_gradients_are_those_of_finite_differences():
  points = case(80, 2, seed=3)
  weights = np.random.default_rng(1).standard_normal([2, 80])

  def loss(audio, attack, release, state):
    expanded = [per_sample(c, 80) for c in (attack, release)]
    return np.sum(weights * recursion(audio, *expanded, state))

  inputs = [tf.constant(x) for x in points]
  with tf.GradientTape() as tape:
    tape.watch(inputs)
    out, _ = core.ballistics(*inputs)
    total = tf.reduce_sum(tf.cast(out, tf.float64) * weights)
  rng = np.random.default_rng(4)
  for which, gradient in enumerate(tape.gradient(total, inputs)):
    direction = rng.standard_normal(points[which].shape)
    moved = []
    for sign in (1, -1):
      at = list(points)
      at[which] = points[which] + sign * 1e-7 * direction
      moved.append(loss(*at))
    expected = (moved[0] - moved[1]) / 2e-7
    ours = np.sum(gradient.numpy() * direction)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_state_goes_on_across_calls_and_in_graphs():
  audio, attack, release, state = case(100, 1)
  whole, end = core.ballistics(audio, attack, release, state)
  smooth = tf.function(core.ballistics, autograph=False)
  parts = []
  for i in range(0, 100, 20):
    part, state = smooth(audio[:, i : i + 20], attack, release, state)
    parts.append(part)
  np.testing.assert_array_equal(tf.concat(parts, 1), whole)
  np.testing.assert_array_equal(state, end)


def test_time_constant():
  coefficient = core.smoothing_coefficient(10.0, 48000).numpy()
  assert coefficient.dtype == np.float64
  np.testing.assert_allclose((1 - coefficient) ** 480, np.exp(-1), rtol=1e-10)


def test_curves():
  level = np.array([-60.0, -30.0, -20.0, -10.0, 0.0])
  for kind, options, expected in (
    ('compressor', {'ratio': 4.0}, [0, 0, 0, 7.5, 15]),
    ('limiter', {}, [0, 0, 0, 10, 20]),
    ('expander', {'ratio': 2.0}, [40, 10, 0, 0, 0]),
    ('gate', {'range_db': 50.0}, [50, 50, 0, 0, 0]),
  ):
    ours = core.reduction_db(kind, level, -20.0, **options)
    np.testing.assert_allclose(ours, expected, atol=2e-3, err_msg=kind)


def test_knee_is_smooth_and_a_corner_at_zero():
  over = np.linspace(-12, 12, 2401)
  soft = core.soft_excess(over, 0.0, 10.0).numpy()
  np.testing.assert_allclose(soft[over <= -5], 0, atol=1e-12)
  np.testing.assert_allclose(soft[over >= 5], over[over >= 5], rtol=1e-6)
  np.testing.assert_allclose(soft[1200], 10 / 8)  # knee / 8 in the middle
  slope = np.diff(soft) / np.diff(over)
  assert (np.diff(slope) > -1e-3).all() and slope.max() < 1 + 1e-3
  with tf.GradientTape() as tape:
    knee = tf.Variable(0.0)
    total = tf.reduce_sum(core.soft_excess(tf.constant([-1.0, 0, 1]), 0, knee))
  np.testing.assert_allclose(total, 1.0, atol=1e-3)
  assert np.isfinite(tape.gradient(total, knee))


def test_levels():
  amplitude = tf.constant([1.0, -0.1, 0.0])
  level = core.amplitude_to_db(amplitude)
  np.testing.assert_allclose(level, [0, -20, -120], atol=1e-4)


def test_bad_inputs_are_named():
  one = np.ones([1, 1])
  with pytest.raises(ValueError, match=r'audio has shape \(8,\)'):
    core.ballistics(np.zeros(8), one, one)
  with pytest.raises(ValueError, match=r'release \(1, 2\)'):
    core.ballistics(np.zeros([1, 8]), one, np.ones([1, 2]))
  with pytest.raises(ValueError, match="'clipper' must be 'compressor'"):
    core.reduction_db('clipper', 0.0, 0.0)
