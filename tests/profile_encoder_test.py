"""The encoder that hears a file once: its figures, and files in pieces."""

import numpy as np
import pytest
import tensorflow as tf

from dafx import metrics
from dafx.audio import sources
from dafx.training import models

RATE = 22050


def noise(seed, n_samples, n_channels=1, slope=0.0, swell=0.3):
  """Noise whose spectrum falls or rises, of a level that moves slowly."""
  rng = np.random.default_rng(seed)
  spectrum = np.fft.rfft(rng.normal(size=[n_channels, n_samples]))
  octaves = np.log2(np.maximum(np.arange(spectrum.shape[1]), 1))
  tilted = np.fft.irfft(spectrum * 10 ** (slope * octaves / 20), n_samples)
  tilted *= 0.1 / np.std(tilted)
  gain = 1.0 + swell * np.sin(np.arange(n_samples) / 30000)
  return (tilted * gain).T.astype('f')  # [n_samples, n_channels]


@pytest.mark.parametrize('rate', [16000, 22050, 44100])
@pytest.mark.parametrize('n_channels', [1, 2])
def test_it_hears_the_loudness_of_the_standard(rate, n_channels):
  encoder = models.ProfileEncoder(sample_rate=rate, takes_channels=True)
  audio = noise(0, 6 * rate, n_channels, slope=-4.0, swell=0.0)
  heard = float(encoder.describe(audio[np.newaxis])[0, 0])
  loudness = metrics.loudness_lufs(audio, rate)
  loudness -= 10 * np.log10(n_channels)  # the standard adds channels up
  assert heard == pytest.approx(loudness, abs=0.2)


@pytest.mark.parametrize('takes_channels', [False, True])
def test_stereo_is_heard_as_it_was_trained(takes_channels):
  encoder = models.ProfileEncoder(
    sample_rate=RATE, takes_channels=takes_channels
  )
  wide = noise(8, 5 * RATE, 2)
  mix = wide.mean(axis=1, keepdims=True)
  heard, alone = (
    float(encoder.describe(x[np.newaxis])[0, 0]) for x in (wide, mix)
  )
  # Channels that have nothing in common lose 3 dB in the mix.
  assert heard - alone == pytest.approx(3.0 * takes_channels, abs=0.3)


def test_a_gain_moves_the_loudness_alone():
  encoder = models.ProfileEncoder(sample_rate=RATE)
  audio = noise(1, 5 * RATE)[np.newaxis]
  before, after = (encoder.describe(x)[0].numpy() for x in (audio, audio / 4))
  assert after[0] - before[0] == pytest.approx(-12.04, abs=0.01)
  np.testing.assert_allclose(after[1:], before[1:], atol=0.02)


def test_tone_follows_the_slope_of_the_spectrum():
  encoder = models.ProfileEncoder(sample_rate=RATE)
  dark, bright = (
    encoder.describe(noise(2, 4 * RATE, slope=slope)[np.newaxis])[0, 1]
    for slope in (-6.0, 0.0)
  )
  # The first cosine falls from low to high bands: 6 dB an octave over eight
  # octaves is 48 dB between the ends, of which it holds 0.4.
  assert float(dark - bright) == pytest.approx(0.4 * 48, rel=0.15)


def test_limiting_lowers_the_crest_factor():
  encoder = models.ProfileEncoder(sample_rate=RATE)
  audio = noise(3, 4 * RATE)[np.newaxis]
  open_, limited = (
    float(encoder.describe(x)[0, -1])
    for x in (audio, np.clip(audio, -0.1, 0.1))
  )
  peaks = np.abs(audio).max() / np.sqrt(np.mean(audio**2))
  assert open_ == pytest.approx(20 * np.log10(peaks), abs=1.0)
  assert limited < open_ - 6.0


def test_soft_stretches_are_not_heard():
  encoder = models.ProfileEncoder(sample_rate=RATE)
  loud = noise(4, 6 * RATE, slope=-6.0)
  soft = 0.01 * noise(5, 6 * RATE)
  heard = encoder.describe(np.concatenate([loud, soft])[np.newaxis])[0]
  alone = encoder.describe(loud[np.newaxis])[0]
  np.testing.assert_allclose(heard, alone, atol=2.5)
  assert float(encoder.describe(soft[np.newaxis])[0, 0]) < -55.0


@pytest.mark.parametrize('rate', [22050, 44100])
def test_a_crop_is_heard_as_its_file(rate):
  # Training hears crops of 65,536 samples, a little less than a stretch.
  encoder = models.ProfileEncoder(sample_rate=rate)
  audio = noise(7, 16 * 65536, slope=-3.0, swell=0.0)[np.newaxis]
  whole = encoder.describe(audio)[0].numpy()
  crop = encoder.describe(audio[:, : rate * 65536 // 22050])[0].numpy()
  np.testing.assert_allclose(crop[:-1], whole[:-1], atol=0.4)
  assert crop[-1] == pytest.approx(whole[-1], abs=1.5)


@pytest.mark.parametrize('where', ['start', 'middle', 'end'])
def test_a_crop_with_its_margins_is_heard_as_the_file(where):
  encoder = models.ProfileEncoder(sample_rate=RATE, margin_s=8.0)
  n_crop, margin = 65536, encoder.margin
  audio = noise(9, 8 * RATE, slope=-3.0)
  last = len(audio) - n_crop
  start = {'start': 0, 'middle': last // 2, 'end': last}[where]
  padded = np.pad(audio, ((margin, margin), (0, 0)))
  heard = padded[start : start + n_crop + 2 * margin]
  whole, with_margins = (
    encoder.describe(x[np.newaxis])[0].numpy() for x in (audio, heard)
  )
  np.testing.assert_allclose(with_margins, whole, atol=0.6)


@pytest.mark.parametrize('seconds', [0.3, 2.0, 29.0, 31.7, 95.2])
def test_a_file_in_pieces_is_heard_as_a_whole(seconds):
  encoder = models.ProfileEncoder(
    sample_rate=RATE, width=4, takes_channels=True
  )
  audio = noise(6, round(seconds * RATE), 2, slope=-3.0)
  source = sources.Source(
    RATE, len(audio), 2, lambda: iter(np.array_split(audio, 7))
  )
  (pieces,) = encoder.embed(source)
  np.testing.assert_allclose(pieces, encoder(audio[np.newaxis]), atol=1e-5)


def test_silence_gives_a_finite_embedding():
  encoder = models.ProfileEncoder(sample_rate=RATE)
  embedding = encoder(tf.zeros([1, RATE]))
  assert np.isfinite(embedding).all() and np.abs(embedding).max() <= 1.5


def test_too_few_bands_are_refused():
  with pytest.raises(ValueError, match='n_bands=10 must be above 10'):
    models.ProfileEncoder(n_bands=10)
  with pytest.raises(ValueError, match='margin_s=-1.0 must not be below 0'):
    models.ProfileEncoder(margin_s=-1.0)
