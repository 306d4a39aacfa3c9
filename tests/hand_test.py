"""Tests of how loud the hand behind a reference would leave another song."""

import numpy as np
import pytest
import scipy.signal
from character_test import clip
from match_test import RATE, music, plugin

from dafx import metrics
from dafx.training import matching
from dafx.training.matching import hand


def test_traits_of_a_sine_are_known():
  sine = np.sin(2.0 * np.pi * 997 * np.arange(4 * RATE) / RATE)
  traits = hand.traits_db(0.1 * sine[:, np.newaxis], RATE)
  np.testing.assert_allclose(traits, [3.01, 0.0, 0.0, 0.0], atol=0.1)


def test_no_gain_moves_traits():
  audio = music(4 * RATE, 2)
  before, louder = (hand.traits_db(x, RATE) for x in (audio, 3.0 * audio))
  np.testing.assert_allclose(louder, before, atol=1e-4)


def test_a_second_channel_that_is_alike_moves_no_trait():
  mono = music(4 * RATE)
  stereo = np.repeat(mono, 2, axis=1)
  np.testing.assert_allclose(
    hand.traits_db(stereo, RATE), hand.traits_db(mono, RATE), atol=1e-4
  )


def songs(n_songs):
  """Returns songs of -20 LUFS with lower and higher peaks, brighter and not."""
  rng, found = np.random.default_rng(0), []
  for seed in range(n_songs):
    audio = music(4 * RATE, 2, seed)
    size = RATE // 10
    loud = np.abs(audio).max(-1)
    envelope = scipy.signal.lfilter(np.ones(size) / size, [1.0], loud) + 1e-3
    audio = audio * envelope[:, np.newaxis] ** rng.uniform(-0.8, 0.3)
    audio = scipy.signal.lfilter([1.0, rng.uniform(-0.9, 0.3)], [1.0], audio, 0)
    lufs = metrics.loudness_lufs(audio, RATE)
    found.append(np.float32(audio * 10.0 ** ((-20.0 - lufs) / 20.0)))
  return found


def test_of_two_songs_through_a_limiter_the_louder_one_is_foretold():
  """Which comes out louder, through one gain into one ceiling, and by what.

  All pairs are taken both ways, so that an offset does not count: these songs
  have higher peaks than music.
  """
  found = songs(10)
  masters = [np.clip(4.0 * song, -0.3, 0.3) for song in found]
  lufs = np.array([metrics.loudness_lufs(each, RATE) for each in masters])
  own, others = (
    np.array([hand.traits_db(x, RATE) for x in each])
    for each in (found, masters)
  )
  own[:, 0] -= np.mean(own[:, 0] - others[:, 0])
  foretold = hand.change_lu(own[:, np.newaxis], others)  # [song, reference]
  foretold = 0.5 * (foretold - foretold.T)
  above = lufs[:, np.newaxis] - lufs
  assert np.corrcoef(above.ravel(), foretold.ravel())[0, 1] > 0.7
  assert np.abs(above - foretold).mean() < 0.7 * np.abs(above).mean()


def test_a_reference_that_was_not_limited_tells_nothing():
  song, other = music(4 * RATE, 2, 0), music(4 * RATE, 2, 1)
  other[RATE] *= 1.5 * np.abs(other).max() / np.abs(other[RATE]).min()
  assert hand.expected_change_lu(song, [other], RATE) == 0.0


def test_several_references_count_by_their_mean():
  song, *others = songs(3)
  others = [np.clip(1.5 * other, -0.3, 0.3) for other in others]
  each = [hand.expected_change_lu(song, [other], RATE) for other in others]
  both = hand.expected_change_lu(song, others, RATE)
  assert both == pytest.approx(np.mean(each), abs=0.01)


def test_songs_that_differ_more_than_songs_do_change_by_2_lu_at_most():
  own = np.array([[60.0, 0.0, 0.0, 0.0], [-60.0, 0.0, 0.0, 0.0]])
  np.testing.assert_allclose(hand.change_lu(own, 0.0 * own), [-2.0, 2.0])


@pytest.mark.parametrize('amount, share', [(0.5, 0.0), (0.75, 0.5), (1.0, 1.0)])
def test_a_result_moves_to_that_loudness_above_an_amount_of_a_half(
  amount, share
):
  audio, other = music(3 * RATE, 2, 0), music(3 * RATE, 2, 1)
  reference = np.clip(1.5 * other, -0.3, 0.3)
  expected_lu = hand.expected_change_lu(audio, [reference], RATE)
  assert abs(expected_lu) > 0.6
  found = matching.match(
    [clip(), plugin('gain', {'amount': (0.1, 4.0, 'log')})], audio, RATE,
    reference=reference, amount=amount, max_renders=20, time_limit_s=None,
  )  # fmt: skip
  lufs = [metrics.loudness_lufs(x, RATE) for x in (found.audio, reference)]
  assert lufs[0] - lufs[1] == pytest.approx(share * expected_lu, abs=0.1)
  told = f'{abs(share * expected_lu):.1f} LU quieter than the reference'
  assert (told in found.verdict()) == (share > 0.0)
