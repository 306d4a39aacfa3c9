"""Synthesisers that stream: against DDSP's own, and pieces against all."""

# First: importing dafx sets up what DDSP needs.
import dafx  # noqa: F401  # isort: skip

import ddsp
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from dafx import effects, processors, synths

SR, HOP, N_FRAMES = 16000, 64, 50


def controls(n_items=2, n_harmonics=20, n_bands=17, seed=0):
  rng = np.random.default_rng(seed)

  def frames(low, high, width):
    values = rng.uniform(low, high, [n_items, N_FRAMES, width])
    return tf.constant(values, tf.float32)

  return {
    'amps': frames(-1.0, 1.0, 1),
    'harmonic_distribution': frames(-1.0, 1.0, n_harmonics),
    'f0_hz': frames(200.0, 700.0, 1),  # partials beyond half the rate
    'magnitudes': frames(-2.0, 4.0, n_bands),
  }


def harmonic_inputs(given):
  return [given[k] for k in ('amps', 'harmonic_distribution', 'f0_hz')]


def test_harmonic_is_that_of_ddsp():
  given = controls()
  n_samples = N_FRAMES * HOP
  theirs = ddsp.synths.Harmonic(
    n_samples, SR, amp_resample_method='linear', use_angular_cumsum=True
  )
  expected = theirs(*harmonic_inputs(given))
  ours = synths.StreamingHarmonic(HOP, SR)(*harmonic_inputs(given))
  assert ours.shape == expected.shape
  np.testing.assert_allclose(ours, expected, atol=1e-3)


def test_harmonic_begins_softer_with_a_bias():
  amps, distribution, f0_hz = harmonic_inputs(controls())
  biased = synths.StreamingHarmonic(HOP, SR, initial_bias=-1.5)
  found = biased(amps, distribution, f0_hz)
  expected = synths.StreamingHarmonic(HOP, SR)(amps - 1.5, distribution, f0_hz)
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_harmonic_begins_with_a_tilt():
  tilted = synths.StreamingHarmonic(HOP, SR, initial_tilt_db=-6.0)
  one = tf.zeros([1, N_FRAMES, 1])
  alike = tf.zeros([1, N_FRAMES, 8])
  found = tilted.get_controls(one, alike, one + 100.0)['amplitudes']
  flat = synths.StreamingHarmonic(HOP, SR)
  expected = flat.get_controls(one, alike, one + 100.0)['amplitudes']
  fundamental = found[0, 0, 0]
  found_db = 20.0 * np.log10(found[0, 0] / fundamental)
  np.testing.assert_allclose(found_db[[1, 3, 7]], [-6, -12, -18], atol=1e-4)
  # All of them together are as loud as before.
  np.testing.assert_allclose(
    tf.reduce_sum(found, -1), tf.reduce_sum(expected, -1), rtol=1e-5
  )


def test_harmonic_does_not_drift():
  """A minute of a sine is where its frequency says."""
  n_frames, f0_hz = 1500, 440.3
  sine = synths.StreamingHarmonic(640, SR, scale_fn=None)
  audio = sine(
    tf.ones([1, n_frames, 1]),
    tf.ones([1, n_frames, 1]),
    tf.fill([1, n_frames, 1], f0_hz),
  )[0]
  samples = np.arange(1, n_frames * 640 + 1, dtype=np.float64)
  expected = np.sin(2 * np.pi * np.float32(f0_hz).astype(float) * samples / SR)
  np.testing.assert_allclose(audio[-1000:], expected[-1000:], atol=2e-3)


@pytest.mark.parametrize('window_size', [0, 15])
def test_noise_is_filtered_as_by_ddsp(window_size):
  magnitudes = controls()['magnitudes']
  noise = synths.StreamingFilteredNoise(HOP, 17, window_size, name='noise')
  scaled = noise.get_controls(magnitudes)['magnitudes']
  draw = int(noise.draw)
  audio = noise.get_signal(scaled)
  white = noise._noise(tf.constant(draw, tf.int64), 0, scaled)
  expected = ddsp.core.frequency_filter(white, scaled, window_size)
  end = N_FRAMES * HOP - noise.latency  # DDSP's noise stops at the end
  np.testing.assert_allclose(audio[:, :end], expected[:, :end], atol=1e-5)
  assert np.abs(noise.get_signal(scaled) - audio).max() > 0.01  # drawn anew


def test_white_noise_is_white_and_uniform():
  noise = synths.white_noise([3, 5], 0, 3, 2**15).numpy().astype(np.float64)
  for item in noise:
    assert scipy.stats.kstest(item, 'uniform', (-1, 2)).pvalue > 1e-3
    power = np.abs(np.fft.rfft(item)[1:-1]) ** 2
    power /= power.mean()
    assert scipy.stats.kstest(power, 'expon').pvalue > 1e-3
  # Items, seeds and their order differ.
  others = [synths.white_noise(s, 0, 1, 2**15)[0] for s in ([5, 3], [3, 6])]
  for one in (noise[1], noise[2], *others):
    assert abs(np.corrcoef(noise[0], one)[0, 1]) < 0.03


def instrument(n_bands=17):
  """A graph as DDSP's, with a room and a gain behind it."""
  keys = ['amps', 'harmonic_distribution', 'f0_hz']
  noise = synths.StreamingFilteredNoise(HOP, n_bands)
  add = ['filtered_noise/signal', 'harmonic/signal']
  ir = np.r_[1.0, 0.1 * np.random.default_rng(0).normal(size=99)]
  return processors.ProcessorGroup(
    [
      (synths.StreamingHarmonic(HOP, SR), keys),
      (noise, ['magnitudes']),
      (ddsp.processors.Add(), add),
      (effects.Fir(ir=ir, name='reverb'), ['add/signal']),
    ]
  )


@pytest.mark.parametrize('sizes', [(N_FRAMES,), (1, 30, 19), (7, 8, 35)])
def test_pieces_are_the_whole(sizes):
  given, group = controls(), instrument()
  streamer = processors.Streamer(
    group, 2, control_step=HOP, latency_step=HOP, is_compiled=False
  )
  parts, done = [], 0
  for size in sizes:
    piece = {k: v[:, done : done + size] for k, v in given.items()}
    parts.append(streamer.process(tf.zeros([2, size * HOP]), **piece))
    done += size
  parts.append(streamer.finish())
  found = np.concatenate([part for part in parts if part.shape[1]], axis=1)
  expected = group(given)
  assert found.shape == expected.shape
  np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_stream_needs_the_frames_of_its_synthesisers():
  with pytest.raises(ValueError, match='stream with control_step=64, not None'):
    processors.Streamer(instrument())


def test_gradients_reach_all_that_a_network_sets():
  group = instrument()
  given = {key: tf.Variable(value) for key, value in controls().items()}
  with tf.GradientTape() as tape:
    loss = tf.reduce_mean(group(given) ** 2)
  for gradient in tape.gradient(loss, list(given.values())):
    assert np.all(np.isfinite(gradient)) and np.abs(gradient).max() > 0
