"""Filters against SciPy, recursions sample by sample and finite differences."""

import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from dafx import core

SAMPLE_RATE = 48000
TYPES = ['low_shelf', 'peak', 'high_pass', 'all_pass', 'high_shelf']


def random_settings(rng, shape):
  """Returns f0_hz, q and gain_db for TYPES, with poles close to 1 as well."""
  low = np.log([20, 20, 20, 200, 4000])
  high = np.log([200, 12000, 2000, 12000, 16000])
  f0_hz = np.exp(rng.uniform(low, high, [*shape, 5]))
  q = np.exp(rng.uniform(np.log(0.1), np.log(10), [*shape, 5]))
  return f0_hz, q, rng.uniform(-12, 12, [*shape, 5])


def recursion(audio, sos, state=None):
  """The filter sample by sample, float64: audio [n], sos [n, sections, 6]."""
  state = np.zeros([sos.shape[1], 2]) if state is None else state.copy()
  out = np.empty(len(audio))
  for n, x in enumerate(audio):
    for k, (b0, b1, b2, _, a1, a2) in enumerate(sos[n]):
      y = b0 * x + state[k, 0]
      state[k] = b1 * x - a1 * y + state[k, 1], b2 * x - a2 * y
      x = y
    out[n] = x
  return out, state


def response(type_, f0_hz, q, gain_db, at_hz):
  sos = core.design_biquads([type_], [f0_hz], [q], [gain_db], SAMPLE_RATE)
  return scipy.signal.sosfreqz(sos.numpy(), at_hz, fs=SAMPLE_RATE)[1]


def test_low_and_high_pass_are_butterworth_at_their_q():
  for type_ in ('low_pass', 'high_pass'):
    sos = core.design_biquads(
      [type_], [30.0], [np.sqrt(0.5)], [0.0], SAMPLE_RATE
    )
    expected = scipy.signal.butter(
      2, 30.0, type_.replace('_', ''), fs=SAMPLE_RATE, output='sos'
    )
    np.testing.assert_allclose(sos, expected, rtol=1e-8)


def test_notch_and_band_pass_are_scipys():
  # SciPy sets the bandwidth before, the cookbook after the bilinear transform:
  # the same for a bandwidth that the transform hardly bends.
  at_hz = np.geomspace(20, 20000, 200)
  for type_, design in (
    ('notch', scipy.signal.iirnotch),
    ('band_pass', scipy.signal.iirpeak),
  ):
    b, a = design(500.0, 8.0, fs=SAMPLE_RATE)
    _, expected = scipy.signal.freqz(b, a, at_hz, fs=SAMPLE_RATE)
    ours = response(type_, 500.0, 8.0, 0.0, at_hz)
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_peaks_and_shelves_have_their_gain():
  def gain_db(*args):
    return 20 * np.log10(np.abs(response(*args)))

  at_hz = np.array([0.0, 1000.0, SAMPLE_RATE / 2])
  for q in (0.3, np.sqrt(0.5), 5.0):
    for gain in (-9.0, 6.0):
      peak = gain_db('peak', 1000.0, q, gain, at_hz)
      np.testing.assert_allclose(peak, [0, gain, 0], atol=1e-8)
      low = gain_db('low_shelf', 1000.0, q, gain, at_hz)
      np.testing.assert_allclose(low[[0, 2]], [gain, 0], atol=1e-8)
      high = gain_db('high_shelf', 1000.0, q, gain, at_hz)
      np.testing.assert_allclose(high[[0, 2]], [0, gain], atol=1e-8)
  # Half of the gain, in dB, in the middle of the slope.
  middle = gain_db('low_shelf', 1000.0, np.sqrt(0.5), 6.0, at_hz)[1]
  np.testing.assert_allclose(middle, 3.0, atol=1e-8)


def test_all_pass_turns_the_phase_alone():
  at_hz = np.array([1.0, 1000.0, 23999.0])
  h = response('all_pass', 1000.0, 0.7, 0.0, at_hz)
  np.testing.assert_allclose(np.abs(h), 1.0, rtol=1e-9)
  np.testing.assert_allclose(h[1], -1.0, atol=1e-9)


def test_frequencies_are_clipped_below_nyquist():
  designs = [
    core.design_biquads(['low_pass'], [f0], [0.7], [0.0], 16000)
    for f0 in (0.49 * 16000, 20000.0)
  ]
  np.testing.assert_array_equal(*designs)
  poles = np.roots(designs[0].numpy()[0, 3:])
  assert (np.abs(poles) < 1).all()


@pytest.mark.parametrize('n_samples', [1, 5, 128, 1000, 24001])
def test_static_filter_is_scipys(n_samples):
  rng = np.random.default_rng(n_samples)
  audio = rng.standard_normal([2, n_samples]).astype(np.float32)
  sos = core.design_biquads(
    TYPES, *random_settings(rng, [2, 1]), SAMPLE_RATE
  ).numpy()
  start = rng.standard_normal([2, 5, 2])
  out, end = core.sosfilt(audio, sos, start)
  for i in range(2):
    expected, state = scipy.signal.sosfilt(
      sos[i, 0], audio[i].astype(np.float64), zi=start[i]
    )
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(out[i], expected, atol=1e-6 * scale)
    np.testing.assert_allclose(end[i], state, atol=1e-6 * scale)


@pytest.mark.parametrize(
  'n_samples, n_frames', [(640, 5), (630, 5), (700, 7), (97, 97), (50, 26)]
)
def test_coefficients_change_as_in_the_recursion(n_samples, n_frames):
  rng = np.random.default_rng(n_samples)
  audio = rng.standard_normal([2, n_samples]).astype(np.float32)
  settings = random_settings(rng, [2, n_frames])
  sos = core.design_biquads(TYPES, *settings, SAMPLE_RATE).numpy()
  start = 0.1 * rng.standard_normal([2, 5, 2])
  out, end = core.sosfilt(audio, sos, start)
  hop = -(-n_samples // n_frames)
  for i in range(2):
    each = np.repeat(sos[i], hop, axis=0)[:n_samples]
    expected, state = recursion(audio[i], each, start[i])
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(out[i], expected, atol=2e-6 * scale)
    np.testing.assert_allclose(end[i], state, atol=2e-6 * scale)


@pytest.mark.parametrize('compiled', [False, True])
def test_items_may_share_their_coefficients(compiled):
  # TensorFlow's own broadcasting was wrong here, from the third item on.
  rng = np.random.default_rng(7)
  audio = rng.standard_normal([4, 16384]).astype(np.float32)
  sos = core.design_biquads(
    ['low_pass'], [[[2e4]]], [[[0.7]]], [[[0.0]]], SAMPLE_RATE
  )
  run = tf.function(core.sosfilt, autograph=False) if compiled else core.sosfilt
  expected = scipy.signal.sosfilt(sos[0, 0].numpy(), audio.astype(float))
  found = run(tf.constant(audio), sos)[0]
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_state_goes_on_across_calls():
  rng = np.random.default_rng(1)
  audio = rng.standard_normal([1, 3000]).astype(np.float32)
  settings = random_settings(rng, [1, 1])
  sos = core.design_biquads(TYPES, *settings, SAMPLE_RATE)
  whole, _ = core.sosfilt(audio, sos)
  parts, state, done = [], None, 0
  for size in (1, 1, 130, 7, 1000, 1861):
    part, state = core.sosfilt(audio[:, done : done + size], sos, state)
    parts.append(part)
    done += size
  np.testing.assert_allclose(tf.concat(parts, 1), whole, atol=2e-6)


@pytest.mark.parametrize('n_frames', [1, 3])
def test_gradients_are_those_of_finite_differences(n_frames):
  rng = np.random.default_rng(n_frames)
  n_samples = 300
  audio = rng.standard_normal([1, n_samples])
  weights = rng.standard_normal([1, n_samples])
  settings = random_settings(rng, [1, n_frames])
  start = 0.1 * rng.standard_normal([1, 5, 2])

  def design(f0_hz, q, gain_db):
    return core.design_biquads(TYPES, f0_hz, q, gain_db, SAMPLE_RATE)

  def loss(audio, *args):
    *settings, start = args
    each = np.repeat(design(*settings).numpy()[0], 100 * 3 // n_frames, axis=0)
    out, end = recursion(audio[0], each, start[0])
    return weights[0] @ out + end.sum()

  points = [audio, *settings, start]
  variables = [tf.constant(p, tf.float64) for p in points]
  variables[0] = tf.cast(variables[0], tf.float32)
  with tf.GradientTape() as tape:
    tape.watch(variables)
    out, end = core.sosfilt(variables[0], design(*variables[1:4]), variables[4])
    total = tf.reduce_sum(tf.cast(out, tf.float64) * weights)
    total += tf.reduce_sum(end)
  gradients = tape.gradient(total, variables)
  for which, gradient in enumerate(gradients):
    direction = rng.standard_normal(points[which].shape)
    direction *= np.abs(points[which]) if which in (1, 2) else 1.0
    moved = []
    for sign in (1, -1):
      at = list(points)
      at[which] = points[which] + sign * 1e-5 * direction
      moved.append(loss(*at))
    expected = (moved[0] - moved[1]) / 2e-5
    ours = np.sum(gradient.numpy() * direction)
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)


def test_bad_inputs_are_named():
  audio, sos = tf.zeros([1, 8]), tf.zeros([1, 1, 2, 6])
  with pytest.raises(
    ValueError, match=r'audio has shape \(8,\).*Fold channels'
  ):
    core.sosfilt(audio[0], sos)
  with pytest.raises(ValueError, match=r'sos has shape \(1, 2, 6\)'):
    core.sosfilt(audio, sos[0])
  with pytest.raises(ValueError, match="'bell' must be one of .*'peak'"):
    core.design_biquads(['bell'], [1.0], [1.0], [0.0], 48000)
  with pytest.raises(ValueError, match='q has shape .2,.*must be 1'):
    core.design_biquads(['peak'], [1.0], [1.0, 1.0], [0.0], 48000)
