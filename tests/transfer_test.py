"""Curves made fit for an instrument, against what they are by construction."""

import librosa
import numpy as np
import pytest

from dafx import pitch
from dafx.training import transfer

RATE = 250


def curves(f0_hz, loudness_db=-30.0, confidence=0.9, n=500):
  values = (f0_hz, confidence, loudness_db)
  keys = ('f0_hz', 'f0_confidence', 'loudness_db')
  return {k: np.broadcast_to(v, n).astype(float) for k, v in zip(keys, values)}


def test_statistics_are_measured_on_notes_alone():
  notes = curves(440.0, np.linspace(-40.0, -20.0, 500))
  pause = curves(2000.0, -80.0, 0.1)
  found = transfer.measure([notes, pause], RATE)
  assert found.mean_pitch == found.min_pitch == found.max_pitch == 69.0
  assert found.voiced_s == 2.0 and found.mean_loudness_db == -55.0
  expected = np.linspace(-40.0, -20.0, 1000)
  np.testing.assert_allclose(found.loudness_quantiles_db, expected, atol=1e-3)
  assert transfer.Statistics.from_json(found.to_json()) == found


def test_statistics_that_are_none_are_refused():
  for text in ('', '{}', '{"mean_pitch": 3}', '[1]'):
    with pytest.raises(ValueError, match='These are no statistics'):
      transfer.Statistics.from_json(text)
  with pytest.raises(ValueError, match='There are no notes'):
    transfer.measure([curves(440.0, confidence=0.2)], RATE)


@pytest.mark.parametrize(
  'mean_pitch, f0_hz, octaves',
  [(69.0, 440.0, 0), (70.0, 440.0, 0), (69.0, 110.0, 2), (62.0, 440.0, -1)],
)
def test_octaves_are_the_nearest(mean_pitch, f0_hz, octaves):
  assert transfer.octaves_to(mean_pitch, np.array([f0_hz])) == octaves


def test_notes_are_what_is_sure_and_loud():
  given = curves(440.0)
  given['f0_confidence'][200:] = 0.1
  given['loudness_db'][:100] = -79.0
  notes, ratio = transfer.is_note(
    given['f0_confidence'], given['loudness_db'], RATE
  )
  assert np.all(notes[130:170]) and not notes[:70].any()
  assert not notes[230:].any()
  np.testing.assert_array_equal(notes, ratio >= 1.0)


def test_loudness_gets_the_distribution_of_the_training_set():
  rng = np.random.default_rng(0)
  loudness = rng.uniform(-60.0, -50.0, 4000)
  notes, ratio = np.ones(4000, bool), np.ones(4000)
  quantiles = np.linspace(-30.0, -10.0, 1000)
  fitted = transfer.fit_loudness(loudness, notes, ratio, quantiles, 20.0)
  np.testing.assert_allclose(fitted, 2.0 * (loudness + 60.0) - 30.0, atol=0.5)
  assert np.all(np.argsort(fitted) == np.argsort(loudness))  # order stays


def test_what_is_no_note_is_turned_down():
  loudness = np.array([-30.0, -25.0, -40.0, -70.0])
  notes = np.array([True, True, False, False])
  ratio = np.array([2.0, 2.0, 0.5, 0.0])
  quantiles = np.linspace(-20.0, -15.0, 1000)
  fitted = transfer.fit_loudness(loudness, notes, ratio, quantiles, 20.0)
  # 10 dB louder as the softest note is; half of 20 dB down, all of it.
  np.testing.assert_allclose(fitted, [-20.0, -15.0, -40.0, -80.0], atol=1e-6)


@pytest.mark.parametrize('amount', [0.0, 0.5, 1.0])
def test_autotune_moves_towards_the_scale(amount):
  scale = np.array([62, 64, 66, 67, 69, 71, 73, 74])  # D major
  off = np.array([0.2, -0.3, 0.1, 0.25, -0.2, 0.3, -0.1, 0.0])
  f0 = librosa.midi_to_hz(scale + off)
  moved = transfer.autotune(f0, np.ones(8, bool), amount)
  expected = scale + (1.0 - amount) * off
  np.testing.assert_allclose(librosa.hz_to_midi(moved), expected, atol=1e-9)


def test_transfer_moves_pitch_and_fits_loudness():
  statistics = transfer.measure(
    [curves(880.0, np.linspace(-30.0, -10.0, 500))], RATE
  )
  given = curves(220.0, np.linspace(-50.0, -40.0, 500))
  found = transfer.Transfer().apply(given, RATE, statistics)
  np.testing.assert_allclose(found['f0_hz'], 880.0, rtol=1e-6)
  # The mask is averaged over 40 frames, so that 20 at either end are no notes.
  middle = slice(50, -50)
  np.testing.assert_allclose(
    found['loudness_db'][middle],
    np.linspace(-30.0, -10.0, 500)[middle],
    atol=0.9,
  )
  for options, f0_hz in (
    ({'octave': 0}, 220.0),
    ({'transpose': 12.0}, 440.0),  # as was asked for, and no more
    ({'transpose': 3.0, 'octave': 1}, 440.0 * 2.0 ** (3 / 12)),
  ):
    moved = transfer.Transfer(**options).apply(given, RATE, statistics)
    np.testing.assert_allclose(moved['f0_hz'], f0_hz, rtol=1e-6)


def test_without_statistics_or_notes_all_stays():
  given = curves(220.0)
  found = transfer.Transfer().apply(given, RATE, None)
  np.testing.assert_allclose(found['f0_hz'], 220.0, rtol=1e-6)
  np.testing.assert_array_equal(found['loudness_db'], -30.0)
  statistics = transfer.measure([given], RATE)
  silence = curves(0.0, pitch.FLOOR_DB, 0.0)
  found = transfer.Transfer(autotune=1.0).apply(silence, RATE, statistics)
  assert np.all(found['f0_hz'] == 0.0)
  assert np.all(found['loudness_db'] == pitch.FLOOR_DB)


def test_values_out_of_range_are_refused():
  with pytest.raises(ValueError, match='autotune=2 must be from 0 to 1'):
    transfer.Transfer(autotune=2)
  with pytest.raises(ValueError, match='transpose=120 must be from -60 to 60'):
    transfer.Transfer(transpose=120)
