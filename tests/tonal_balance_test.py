"""What a balance takes back of a tone, and what it is told by."""

import numpy as np
import pytest
import tensorflow as tf

from dafx import metrics
from dafx.training import models
from dafx.training.data_preparation import mastering

RATE = 44100
LEVELS_DB = (-3.0, -6.0, -8.0, -12.0, -18.0, -24.0)


def asked(deviations_db, peak_db=40.0):
  balance = models.TonalBalance(LEVELS_DB)
  levels = np.array([LEVELS_DB], 'f') + np.array(deviations_db, 'f')
  return balance(tf.constant(levels), tf.constant([[peak_db]]))[0].numpy()


@pytest.mark.parametrize(
  'deviation_db, wanted_db', [(1.9, 0.0), (3.0, -1.0), (9.0, -2.0), (-5.0, 2.0)]
)
def test_it_starts_as_a_dead_zone_with_a_limit(deviation_db, wanted_db):
  deviations = np.zeros(6)
  deviations[3] = deviation_db
  expected = np.zeros(6)
  expected[3] = wanted_db / 2.0  # in units of 2 dB
  np.testing.assert_allclose(asked(deviations), expected, atol=1e-6)


def test_a_level_common_to_all_octaves_is_no_deviation():
  np.testing.assert_allclose(asked(np.full(6, 9.0)), np.zeros(6), atol=1e-6)


def test_music_whose_peaks_are_low_is_left_alone():
  deviations = [0.0, 0.0, 0.0, 0.0, 0.0, 6.0]
  asked_for = [asked(deviations, peak)[5] for peak in (12.0, 18.0, 24.0)]
  np.testing.assert_allclose(asked_for, [0.0, -0.5, -1.0], atol=2e-3)


def test_everything_of_it_is_learned():
  balance = models.TonalBalance(LEVELS_DB)
  levels = np.array([LEVELS_DB], 'f')
  levels += np.array([3.0, -4.5, 0.0, 7.5, 0.5, -11.0], 'f')
  with tf.GradientTape() as tape:
    asked_for = balance(tf.constant(levels), tf.constant([[18.5]]))
    loss = tf.reduce_sum(asked_for * np.arange(1.0, 7.0, dtype='f'))
  slopes = tape.gradient(loss, balance.trainable_variables)
  assert [w.shape for w in balance.trainable_variables] == [[6], [6, 4], [1]]
  assert all(np.abs(slope).max() > 0.0 for slope in slopes)


@pytest.mark.parametrize('n_channels', [1, 2])
def test_an_encoder_measures_what_its_balance_goes_by(n_channels):
  rng = np.random.default_rng(3)
  audio = np.cumsum(rng.normal(size=[6 * RATE, n_channels]), axis=0)
  audio -= np.cumsum(audio, axis=0) / np.arange(1, 6 * RATE + 1)[:, np.newaxis]
  audio = (0.05 * audio / audio.std()).astype('f')
  audio += rng.normal(0.0, 0.01, audio.shape).astype('f')
  audio[2 * RATE] = 0.7
  encoder = models.ProfileEncoder(
    RATE, takes_channels=True, balance=models.TonalBalance(LEVELS_DB)
  )
  *_, peak = encoder.describe(audio[np.newaxis])[0, :16].numpy()
  levels = encoder.describe(audio[np.newaxis])[0, 16:].numpy()
  loudness = metrics.loudness_lufs(audio, RATE) - 10 * np.log10(n_channels)
  assert peak == pytest.approx(20 * np.log10(0.7) - loudness, abs=0.3)
  expected = mastering.section_levels_db(audio, RATE)
  np.testing.assert_allclose(levels, expected, atol=0.7)


def test_what_it_asks_for_is_in_the_embedding():
  rng = np.random.default_rng(4)
  audio = rng.normal(0.0, 0.1, [1, 4 * RATE, 2]).astype('f')
  audio[0, RATE] = 2.0
  encoder = models.ProfileEncoder(
    RATE, takes_channels=True, balance=models.TonalBalance(LEVELS_DB)
  )
  figures = encoder.describe(audio)
  expected = encoder.balance(figures[:, 16:], figures[:, 15:16])
  np.testing.assert_allclose(encoder(audio)[:, 0, -6:], expected, atol=1e-6)
  assert np.abs(expected).max() > 0.1  # white noise is far from music


def test_another_number_of_levels_is_refused():
  with pytest.raises(ValueError, match='5 levels came; a balance has 6'):
    models.TonalBalance(LEVELS_DB[:5])
