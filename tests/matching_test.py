"""Tests of what is measured at equal level: SciPy, closed forms, standards."""

import math

import numpy as np
import pytest
import scipy.signal

from dafx import metrics
from dafx.metrics import alignment, levels, spectra, stereo

RATE = 44100
ALL = {
  'matched_mr_stft',
  'average_spectrum_db',
  'crest_error_db',
  'width_error_db',
  'mono_sum_error_db',
}


def noise(*shape, seed=0, level=0.1):
  return level * np.random.default_rng(seed).standard_normal(shape)


def music(n_samples=20000, n_channels=2, seed=0):
  """Returns noise of falling spectrum and moving level, channels alike."""
  pink = scipy.signal.lfilter([1.0], [1.0, -0.9], noise(n_samples, seed=seed))
  swell = 1.0 + 0.8 * np.sin(2 * np.pi * 3 * np.arange(n_samples) / RATE)
  own = noise(n_samples, n_channels, seed=seed + 1, level=0.03)
  return (pink * swell)[:, np.newaxis] + own


def sine(f0_hz, n_samples=9600, rate=48000, phase_deg=0.0, fade=1000):
  """Returns a sine at full scale that fades in and out."""
  phase = 2 * np.pi * f0_hz * np.arange(n_samples) / rate
  ramp = np.minimum(np.arange(n_samples) / fade, 1.0)
  return np.sin(phase + np.deg2rad(phase_deg)) * ramp * ramp[::-1]


# ---------------------- Matched -----------------------------------------------
@pytest.mark.parametrize('n_channels', [1, 2])
@pytest.mark.parametrize('gain, delay', [(-3.0, 0), (-0.2, 137), (0.5, -1999)])
def test_a_scaled_late_or_inverted_copy_is_its_target(n_channels, gain, delay):
  long = music(24000, n_channels)
  target, audio = long[2000:22000], gain * long[2000 - delay : 22000 - delay]
  values = metrics.matched(target, audio, RATE)
  assert values['matched_mr_stft'] < 1e-6
  assert values['average_spectrum_db'] < 1e-6
  assert values['crest_error_db'] < 1e-6
  assert metrics.mr_stft(target, audio) > 0.3  # raw, they are far apart
  if n_channels == 2 and not delay:
    assert values['width_error_db'] < 1e-6
    assert values['mono_sum_error_db'] < 1e-6


def test_matched_is_each_metric_on_the_matched_mean_of_the_channels():
  target = music()
  audio = np.tanh(3.0 * music()) + noise(20000, 2, seed=5, level=0.01)
  audio = np.concatenate([0.0 * audio[:50], -audio[:-50]])
  values = metrics.matched(target, audio, RATE)
  assert set(values) == ALL
  a, b = target.mean(axis=1)[:-50], -audio.mean(axis=1)[50:]
  b = b * np.sqrt(np.mean(a**2) / np.mean(b**2))
  expected = {
    'matched_mr_stft': metrics.multi_scale_spectral(a, b),
    'average_spectrum_db': metrics.average_spectrum_error_db(a, b, RATE),
    'crest_error_db': metrics.crest_error_db(a, b),
    'width_error_db': metrics.width_error_db(target, audio),
    'mono_sum_error_db': metrics.mono_sum_error_db(target, audio),
  }
  assert values == pytest.approx(expected, rel=1e-9)
  assert all(value > 0.01 for value in values.values())
  one = metrics.matched(target[:, :1], audio[:, :1], RATE)
  assert set(one) == {*list(expected)[:3]}


def test_measuring_leaves_audio_as_it_is():
  target, audio = music(9000), -0.5 * music(9000, seed=2)
  before = target.copy(), audio.copy()
  metrics.matched(target, audio, RATE)
  metrics.true_peak_dbtp(audio, RATE)
  np.testing.assert_array_equal((target, audio), before)


def test_what_has_no_value_is_nan():
  target, silence = music(), np.zeros([20000, 2])
  values = metrics.matched(silence, target, RATE)
  assert set(values) == ALL and all(map(math.isnan, values.values()))
  # A system that is silent is far away, not left out.
  values = metrics.matched(target, silence, RATE)
  assert values.pop('matched_mr_stft') > 3.0
  assert all(map(math.isnan, values.values()))
  # Left and right cancel: no mean of the channels, but a width.
  opposite = target[:, :1] * [1.0, -1.0]
  values = metrics.matched(opposite, opposite, RATE)
  assert math.isnan(values['matched_mr_stft'])
  assert values['width_error_db'] == values['mono_sum_error_db'] == 0.0
  # A frame of the average spectrum is longer than this.
  values = metrics.matched(target[:8191], target[:8191], RATE)
  assert [name for name in values if math.isnan(values[name])] == [
    'average_spectrum_db'
  ]
  assert metrics.matched(np.ones(1), np.ones(1), RATE)['matched_mr_stft'] == 0.0


@pytest.mark.parametrize(
  'target, audio, rate, message',
  [
    (np.ones(9), np.ones(8), RATE, r'\(9,\) and audio \(8,\)'),
    (np.ones(9), np.full(9, np.nan), RATE, 'NaN'),
    (np.ones(9), np.ones(9), 0, 'sample_rate=0 must be a number of Hz'),
    (np.ones(9), np.ones(9), None, 'sample_rate=None must be a number of Hz'),
    (np.ones(9), np.ones(9), '44100', 'sample_rate=44100 must be a number'),
  ],
)
def test_matched_names_what_it_cannot_measure(target, audio, rate, message):
  with pytest.raises(ValueError, match=message):
    metrics.matched(target, audio, rate)


def test_levels_are_matched_by_one_gain():
  target, audio = music(), 0.1 * music(seed=3)
  for scaled in (
    metrics.match_level(target, audio),
    metrics.match_loudness(target, audio, RATE),
  ):
    np.testing.assert_allclose(scaled / audio, scaled[0, 0] / audio[0, 0])
  scaled = metrics.match_level(target, audio)
  assert metrics.rms_db(scaled) == pytest.approx(metrics.rms_db(target))
  scaled = metrics.match_loudness(target, audio, RATE)
  assert metrics.loudness_difference(target, scaled, RATE) < 1e-9


def test_silence_has_no_level_to_match():
  audio, silence = music(), np.zeros([20000, 2])
  np.testing.assert_array_equal(metrics.match_level(audio, silence), silence)
  for pair in ((audio, silence), (silence, audio)):
    same = metrics.match_loudness(*pair, RATE)
    np.testing.assert_array_equal(same, pair[1])
  for match in (metrics.match_level, metrics.match):
    with pytest.raises(ValueError, match='silent: match_level'):
      match(silence, audio)


def test_the_lag_of_the_file_is_not_that_of_its_ends():
  """At 3,000 the last samples are the first of the target, exactly."""
  target = noise(4000)
  audio = target + noise(4000, seed=1, level=0.05)
  audio[3000:] = target[:1000]
  assert metrics.find_lag(target, audio, 3500) == 3000
  assert metrics.find_lag(target, audio, 3500, by_overlap=False) == 0


@pytest.mark.parametrize('by_overlap', [True, False])
def test_the_lag_of_a_long_file_is_found_in_parts(by_overlap, monkeypatch):
  target = music(5000, 2)
  audio = np.roll(target, -77, axis=0)
  audio[-77:] = 0.0
  found = []
  for size in (2**18, 300):
    monkeypatch.setattr(alignment, '_SAMPLES_AT_ONCE', size)
    correlation = alignment._correlate(target, audio, 100)
    found.append(correlation)
    assert metrics.find_lag(target, audio, 100, by_overlap=by_overlap) == -77
  expected = sum(
    np.correlate(a, t, 'full')[5000 - 1 - 100 : 5000 + 100]
    for t, a in zip(target.T, audio.T)
  )
  np.testing.assert_allclose(found, [expected] * 2, atol=1e-9)


# ---------------------- Spectra -----------------------------------------------
def test_multi_scale_spectral_against_scipy():
  """Longer than what is transformed at once, of no round length."""
  a, b = music(70001, 1)[:, 0], np.tanh(music(70001, 1)[:, 0])
  expected = []
  for size in (2048, 1024, 512, 256, 128, 64):
    y, z = (
      np.abs(
        scipy.signal.stft(
          x,
          window='hann',
          nperseg=size,
          noverlap=size - size // 4,
          boundary='zeros',
          padded=False,
        )[2]
      )
      * (size / 2)  # the sum of the window
      for x in (a, b)
    )
    logs = np.abs(np.log(y + 1e-5) - np.log(z + 1e-5))
    expected.append(np.mean(np.abs(y - z)) + np.mean(logs))
  value = metrics.multi_scale_spectral(a, b)
  assert value == pytest.approx(np.mean(expected), rel=1e-9)
  # Mean over channels.
  pair = np.stack([a, b], axis=1), np.stack([b, b], axis=1)
  assert metrics.multi_scale_spectral(*pair) == pytest.approx(value / 2)


def test_average_spectrum_error_of_a_tilt_is_known():
  """Half a dB more in each third octave: 3.12 dB from their mean."""
  frequencies_hz = 1000 * 2.0 ** (np.arange(-13, 12) / 3)
  time_s = np.arange(2 * RATE) / RATE
  tones = np.sin(2 * np.pi * frequencies_hz[:, np.newaxis] * time_s)
  gains_db = 0.5 * np.arange(25)
  target, audio = (
    0.01 * tones.sum(axis=0),
    0.01 * (10 ** (gains_db / 20) @ tones),
  )
  error = metrics.average_spectrum_error_db(target, audio, RATE)
  assert error == pytest.approx(0.5 * 156 / 25, abs=0.01)
  half = metrics.average_spectrum_error_db(target, 0.5 * audio, RATE)
  assert half == pytest.approx(error, abs=1e-6)


@pytest.mark.parametrize(
  'rate, n_bands', [(44100, 25), (16000, 23), (8000, 20)]
)
def test_average_spectrum_is_welchs_in_bands(rate, n_bands, monkeypatch):
  audio = music(40000)
  f, p = scipy.signal.welch(audio, rate, nperseg=8192, axis=0)
  expected = []
  for centre in 1000 * 2.0 ** (np.arange(-13, 12) / 3):
    is_in = (f >= centre / 2 ** (1 / 6)) & (f < centre * 2 ** (1 / 6))
    if is_in.any():
      expected.append(10 * np.log10(p[is_in].mean() + 1e-15))
  assert len(expected) == n_bands  # none above half the rate
  for size in (2**16, 3 * 4096):
    monkeypatch.setattr(spectra, '_SAMPLES_AT_ONCE', size)
    got = metrics.average_spectrum_db(audio, rate)
    assert np.isfinite(got[:n_bands]).all() and np.isnan(got[n_bands:]).all()
    np.testing.assert_allclose(got[:n_bands], expected, rtol=1e-9)
  assert metrics.average_spectrum_error_db(audio, 2 * audio, rate) < 1e-6


def test_a_short_file_has_no_average_spectrum():
  with pytest.raises(ValueError, match='at least 8192, one frame'):
    metrics.average_spectrum_db(noise(8191), RATE)


# ---------------------- Peaks -------------------------------------------------
def test_crest_error_of_a_clipped_sine_is_known():
  phase = 2 * np.pi * np.arange(100000) / 100000
  target = np.sin(phase)
  for limit in (0.9, 0.5, 0.1):
    angle = np.arcsin(limit)
    power = angle / 2 - np.sin(2 * angle) / 4 + limit**2 * (np.pi / 2 - angle)
    crest_db = 20 * np.log10(limit / np.sqrt(power * 2 / np.pi))
    error = metrics.crest_error_db(target, np.clip(target, -limit, limit))
    assert error == pytest.approx(10 * np.log10(2) - crest_db, abs=1e-3)


@pytest.mark.parametrize('rate', [8000, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize(
  'divisor, phase_deg', [(4, 45.0), (4, 0.0), (6, 60.0), (8, 67.5)]
)
def test_true_peak_of_the_standards_sines(rate, divisor, phase_deg):
  """EBU Tech 3341, cases 15 to 18, with its tolerance."""
  # At 192 kHz nothing is oversampled: the sine lies as low as at 48 kHz.
  divisor *= max(1, rate // 48000)
  audio = sine(rate / divisor, rate=rate, phase_deg=phase_deg)
  assert -0.4 < metrics.true_peak_dbtp(audio, rate) < 0.2
  if (rate, divisor, phase_deg) == (48000, 4, 45.0):
    sample_peak_db = 20 * np.log10(np.abs(audio).max())
    assert sample_peak_db == pytest.approx(-3.01, abs=0.01)
    assert metrics.true_peak_dbtp(audio, rate) == pytest.approx(0.0, abs=0.05)


def test_true_peak_is_that_of_the_loudest_channel_anywhere(monkeypatch):
  audio = noise(5000, 2)
  whole = [metrics.true_peak_dbtp(audio[:, i], 48000) for i in range(2)]
  both = metrics.true_peak_dbtp(audio, 48000)
  assert both == max(whole)
  assert both > 20 * np.log10(np.abs(audio).max())
  monkeypatch.setattr(levels, '_SAMPLES_AT_ONCE', 70)
  assert metrics.true_peak_dbtp(audio, 48000) == pytest.approx(both, abs=1e-9)
  louder = metrics.true_peak_dbtp(2.0 * audio, 48000)
  assert louder == pytest.approx(both + 6.0206, abs=1e-4)
  assert metrics.true_peak_dbtp(0.0 * audio, 48000) == -math.inf


# ---------------------- Stereo ------------------------------------------------
def test_width_and_mono_sum_in_closed_form():
  # Of equal energy, and with nothing in common.
  time = np.arange(8000) * 2 * np.pi / 8000
  middle, side = np.sin(100 * time), np.cos(200 * time)
  for gain in (0.01, 0.5, 1.0, 20.0):
    audio = np.stack([middle + gain * side, middle - gain * side], axis=1)
    width_db = metrics.width_db(audio)
    assert width_db == pytest.approx(20 * np.log10(gain))
    mono_db = metrics.mono_sum_db(audio)
    assert mono_db == pytest.approx(-10 * np.log10(1 + gain**2))
    plain = np.stack([middle + side, middle - side], axis=1)
    for error, value in (
      (metrics.width_error_db(3.0 * plain, audio), width_db),
      (metrics.mono_sum_error_db(3.0 * plain, audio), mono_db + 3.0103),
    ):
      assert error == pytest.approx(abs(value), abs=1e-4)


def test_width_of_mono_and_of_what_cancels_has_a_bound():
  mono = noise(1000, 1) * [1.0, 1.0]
  opposite = mono * [1.0, -1.0]
  dithered = mono + noise(1000, 2, seed=3, level=1e-5)
  assert metrics.width_db(mono) == metrics.width_db(dithered) == -60.0
  assert metrics.width_db(opposite) == 60.0
  assert metrics.mono_sum_db(mono) == pytest.approx(0.0, abs=1e-9)
  assert metrics.mono_sum_db(opposite) == -60.0
  assert metrics.width_error_db(mono, dithered) == 0.0
  assert metrics.width_error_db(mono, opposite) == 120.0
  assert metrics.width_db(mono * [1.0, 0.0]) == pytest.approx(0.0)


def test_width_of_a_long_file_is_summed_in_parts(monkeypatch):
  audio = music(5000)
  whole = metrics.width_db(audio), metrics.mono_sum_db(audio)
  monkeypatch.setattr(stereo, '_SAMPLES_AT_ONCE', 300)
  parts = metrics.width_db(audio), metrics.mono_sum_db(audio)
  assert parts == pytest.approx(whole)


@pytest.mark.parametrize('metric', [metrics.width_db, metrics.mono_sum_db])
def test_stereo_measures_name_what_has_none(metric):
  for shape in ([100], [100, 1], [100, 3]):
    with pytest.raises(ValueError, match=rf'{metric.__name__} takes stereo'):
      metric(np.ones(shape))
  with pytest.raises(ValueError, match=rf'silent: {metric.__name__}'):
    metric(np.zeros([100, 2]))


@pytest.mark.parametrize('sizes', [(5000,), (1, 7, 20, 4972), (2500, 2500)])
def test_true_peak_of_chunks_is_that_of_the_whole(sizes):
  """Where a chunk begins, the filter must not see a step from silence."""
  audio = np.sin(np.arange(5000) * 0.02 + 0.5)[:, np.newaxis]
  audio *= np.hanning(5000)[:, np.newaxis]
  meter = metrics.TruePeakMeter(RATE)
  for chunk in np.split(audio, np.cumsum(sizes)[:-1]):
    meter.add(chunk)
  wanted = 20 * np.log10(np.abs(scipy.signal.resample(audio, 40000)).max())
  assert meter.dbtp() == pytest.approx(wanted, abs=0.02)
  assert meter.dbtp() == pytest.approx(metrics.true_peak_dbtp(audio, RATE))
