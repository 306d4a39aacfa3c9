"""Tests of the sound of a page."""

import io

import numpy as np
import pytest
import scipy.signal
import soundfile

from dafx import metrics
from dafx.training.evaluation import clip_audio

RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def _noise(n_samples, n_channels=1, amplitude=0.1, seed=0):
  rng = np.random.default_rng(seed)
  noise = rng.normal(size=(n_samples, n_channels))
  taps = scipy.signal.firwin(65, 0.3)[:, np.newaxis]
  return amplitude * scipy.signal.fftconvolve(noise, taps, 'same', axes=0)


@pytest.mark.parametrize('n_channels', [1, 2])
@pytest.mark.parametrize('rate', RATES)
def test_mp3_keeps_length_lag_and_level(rate, n_channels):
  audio = _noise(rate // 2 + 137, n_channels)
  data = clip_audio.encode_mp3(audio, rate)
  decoded, found_rate = soundfile.read(io.BytesIO(data), always_2d=True)
  assert (found_rate, decoded.shape) == (rate, audio.shape)
  for own, other in zip(audio.T, decoded.T, strict=True):
    correlation = scipy.signal.correlate(other, own, 'full')
    assert np.argmax(correlation) == len(own) - 1
  gain = np.vdot(decoded, audio) / np.vdot(audio, audio)
  assert gain == pytest.approx(1.0, abs=0.02)


def test_mp3_has_the_bit_rate_that_is_said():
  data = clip_audio.encode_mp3(_noise(4 * 44100, 2), 44100)
  assert 8 * len(data) / 4 >= 315e3


def _loudness(audio, gains_db, rate=44100):
  return [
    metrics.loudness_lufs(audio[k] * 10 ** (gains_db[k] / 20), rate)
    for k in audio
  ]


def test_all_versions_are_as_loud_as_the_loudest_where_peaks_allow():
  audio = {
    'a': _noise(44100, 2, 0.02),
    'b': _noise(44100, 2, 0.2, seed=1),
    'c': _noise(44100, 2, 0.1, seed=2),
  }
  lufs, gains_db = clip_audio.equal_loudness(audio, 44100)
  assert gains_db['b'] == pytest.approx(0.0, abs=1e-9)
  np.testing.assert_allclose(_loudness(audio, gains_db), lufs, atol=0.01)


def test_no_version_peaks_above_minus_1_dbtp():
  quiet = _noise(44100, 1, 0.001)
  quiet[20000] = 0.5  # a peak that leaves no room
  audio = {'quiet': quiet, 'loud': np.sign(_noise(44100, seed=1))}
  lufs, gains_db = clip_audio.equal_loudness(audio, 44100)
  np.testing.assert_allclose(_loudness(audio, gains_db), lufs, atol=0.01)
  peaks = [
    metrics.true_peak_dbtp(audio[k] * 10 ** (gains_db[k] / 20), 44100)
    for k in audio
  ]
  assert max(peaks) == pytest.approx(-1.0, abs=0.01)


def test_silence_is_left_as_it_is():
  silence = np.zeros([44100, 1])
  audio = {'silence': silence, 'loud': _noise(44100), 'more': _noise(44100)}
  _, gains_db = clip_audio.equal_loudness(audio, 44100)
  assert list(gains_db) == ['loud', 'more']
  assert clip_audio.equal_loudness({'a': silence}, 44100) == (None, {})


def test_shorter_versions_end_in_silence():
  audio = {'mono': np.ones(3), 'long': np.full([5, 2], 0.5)}
  even = clip_audio.even(audio, 44100, 'clip')
  np.testing.assert_array_equal(even['mono'][:, 0], [1, 1, 1, 0, 0])
  np.testing.assert_array_equal(even['long'], audio['long'])


@pytest.mark.parametrize(
  ('audio', 'rate', 'message'),
  [
    ({}, 44100, 'clip has no audio'),
    ({'a': []}, 44100, "'a' of clip has shape"),
    ({'a': [np.nan]}, 44100, 'not finite'),
    ({'a': np.zeros([9, 3])}, 44100, "hold 'a' of clip: 3 channels at 44100"),
    ({'a': np.zeros(9)}, 96000, '1 channels at 96000 Hz; allowed'),
  ],
)
def test_bad_input(audio, rate, message):
  with pytest.raises(ValueError, match=message):
    clip_audio.even(audio, rate, 'clip')


@pytest.mark.parametrize(
  'rate, expected',
  [(44100, 44100), (8000, 8000), (96000, 48000), (40000, 44100), (7000, 8000)],
)
def test_nearest_rate_is_one_that_is_encoded(rate, expected):
  assert clip_audio.nearest_rate(rate) == expected
  clip_audio.encode_mp3(np.zeros([expected // 4, 1]), expected)
