"""Tests of references: what is measured, what is asked for, what is found."""

import dataclasses

import numpy as np
import pytest
import scipy.signal
from match_test import RATE, TEST, gain_and_filter, music

from dafx import effects, metrics
from dafx.training import matching
from dafx.training.matching import character

N_BANDS = len(character.TONE_BANDS_HZ)


def test_statistics_of_a_recording_are_those_of_the_metrics():
  audio = music(4 * RATE, 2)
  found = character.measure([audio], RATE)
  middle = audio.mean(-1)
  lufs = metrics.loudness_lufs(audio, RATE)
  assert found.loudness[0] == pytest.approx(lufs)
  crest_db = metrics.crest_factor_db(middle)
  assert found.crest[0] == pytest.approx(crest_db, abs=1e-3)
  assert {len(found.tone), len(found.width)} == {N_BANDS, 6}


def test_a_gain_moves_the_loudness_alone_and_an_equaliser_the_tone():
  audio = music(4 * RATE, 2)
  before, louder = (character.measure([x], RATE) for x in (audio, 0.5 * audio))
  for group in character.GROUPS:
    move = vars(louder)[group] - vars(before)[group]
    move = move[np.isfinite(move)]
    expected = -6.02 if group == 'loudness' else 0.0
    np.testing.assert_allclose(move, expected, atol=0.02, err_msg=group)
  shelf = scipy.signal.lfilter([1.0, 0.5], [1.0], audio, axis=0)
  tone = character.measure([np.float32(shelf)], RATE).tone - before.tone
  hz = character.TONE_BANDS_HZ
  _, response = scipy.signal.freqz([1.0, 0.5], worN=hz, fs=RATE)
  expected = 20 * np.log10(np.abs(response))
  heard = (hz > 300) & (hz < 8000)
  np.testing.assert_allclose(
    np.diff(tone[heard]), np.diff(expected[heard]), atol=0.3
  )


def songs_that_differ(spread_db):
  spreads = {g: np.ones(1) for g in ('dynamics', 'envelope', 'width')}
  covariance = spread_db**2 * np.eye(N_BANDS)
  return character.Songs(np.zeros(N_BANDS), covariance, spreads)


def test_tone_is_asked_for_where_songs_hardly_differ_and_not_where_they_do():
  octaves = np.arange(N_BANDS) / 3.0
  tilt = 3.0 * np.cos(octaves * np.pi / 4.5)
  alike, other = (
    character.expected_tone(np.zeros(N_BANDS), tilt[np.newaxis], songs)
    for songs in (songs_that_differ(0.1), songs_that_differ(30.0))
  )
  assert np.abs(alike - tilt).max() < 0.5
  assert np.abs(other).max() < 0.3


def test_several_references_narrow_the_prior():
  rng = np.random.default_rng(0)
  tilt = np.linspace(-3.0, 3.0, N_BANDS)
  tones = tilt + 3.0 * rng.standard_normal([8, N_BANDS])
  songs, own = songs_that_differ(3.0), np.zeros(N_BANDS)
  one, many = (character.expected_tone(own, tones[:n], songs) for n in (1, 8))
  assert np.linalg.norm(many - tilt) < 0.8 * np.linalg.norm(one - tilt)


def test_the_tone_of_processing_is_guessed_better_than_by_nothing():
  """With the shipped statistics, of songs drawn from them, on the average."""
  songs, rng = character.read_songs(), np.random.default_rng(0)
  root = np.linalg.cholesky(songs.tone_covariance + 1e-6 * np.eye(N_BANDS))
  octaves = np.arange(N_BANDS) / 3.0
  errors = []
  for _ in range(60):
    own, other = songs.tone_db + (root @ rng.standard_normal([N_BANDS, 2])).T
    done = rng.normal(0, 3) * np.cos(octaves + rng.uniform(0, 6))
    guess = character.expected_tone(own, (other + done)[np.newaxis], songs)
    errors.append([np.abs(done).mean(), np.abs(done - guess).mean()])
  nothing, guessed = np.mean(errors, axis=0)
  assert guessed < nothing


def test_an_amount_of_0_asks_for_loudness_alone():
  own, reference = (
    character.measure([music(4 * RATE, 2, seed)], RATE) for seed in (0, 1)
  )
  songs = character.read_songs()
  none = character.wanted(own, [reference], 0.0, songs)
  np.testing.assert_array_equal(none.loudness, reference.loudness)
  for group in ('crest', 'tone', 'dynamics', 'envelope', 'width'):
    np.testing.assert_array_equal(vars(none)[group], vars(own)[group])


def test_crest_comes_nearer_to_references_and_never_rises():
  own = character.measure([music(4 * RATE, 2, 0)], RATE)
  songs = character.read_songs()

  def crest_of(higher_db, n):
    other = dataclasses.replace(own, crest=own.crest + higher_db)
    wanted = character.wanted(own, [other] * n, 0.5, songs)
    return float(wanted.crest[0] - own.crest[0])

  assert crest_of(3.0, 1) == 0.0
  assert crest_of(-3.0, 1) == pytest.approx(-3.0 * 0.8)
  assert crest_of(-3.0, 3) == pytest.approx(-3.0 / (1.0 + 0.25 / 3.0))


# ---------------------- Matches -----------------------------------------------
def clip():
  """Returns a clipper of dafx: a gain into a limit of 0.1."""

  def render(audio, controls):
    gain = controls[:, :, :1]
    return np.clip(gain * audio, -0.3, 0.3)

  from dafx import core

  known = core.make_control_map({'gain': (0.1, 10.0, 'log')}, {'gain': 1.0})
  return effects.BlackBox(render, known, is_static=True, name='clip')


def test_loudness_and_crest_of_a_reference_are_matched():
  audio, other = music(3 * RATE, 2, 0), music(3 * RATE, 2, 1)
  reference = np.clip(4.0 * other, -0.3, 0.3)
  chain = [clip(), effects.LV2Plugin(
    TEST + 'gain', ranges={'amount': (0.1, 4.0, 'log')}, sample_rate=RATE,
    name='gain',
  )]  # fmt: skip
  found = matching.match(
    chain, audio, RATE, reference=reference, max_renders=300, time_limit_s=None
  )
  before, after = (found.figures[row] for row in ('loudness', 'result'))
  assert after['loudness_error_lu'] < 0.5
  assert after['crest_error_db'] < 0.4 * before['crest_error_db']
  assert 'matched_mr_stft' not in after and found.verdict()


def test_an_amount_of_0_is_a_gain_alone():
  audio = music(n_channels=2)
  found = matching.match(
    gain_and_filter()[1:], audio, RATE, amount=0.0,
    reference=[0.5 * music(seed=3), 0.5 * music(seed=4)],
  )  # fmt: skip
  assert found.controls['gain']['amount'] == pytest.approx(1.0)
  assert found.figures['result']['loudness_error_lu'] < 0.3
  scale = found.audio[1000, 0] / audio[1000, 0]
  np.testing.assert_allclose(found.audio, scale * audio, rtol=1e-3, atol=1e-6)


def test_target_or_reference_is_needed_and_not_both():
  audio = music()
  for given in ({}, {'target': audio, 'reference': audio}):
    with pytest.raises(ValueError, match='either a `target`'):
      matching.match(gain_and_filter(), audio, RATE, **given)
  with pytest.raises(ValueError, match='reference is silent'):
    matching.match(gain_and_filter(), audio, RATE, reference=0.0 * audio)
