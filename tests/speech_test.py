"""PESQ, against the package that computes it: `make test-all` builds it."""

import numpy as np
import pytest

from dafx import metrics
from dafx.training.data_preparation import speech

pytestmark = pytest.mark.speech


def test_pesq_is_high_for_speech_that_is_as_it_was():
  voice, rng = speech.voice_of('f1'), np.random.default_rng(0)
  phrase = 0.1 * speech.say_phrase(voice, rng)[:, np.newaxis]
  noisy = phrase + 0.03 * rng.standard_normal(phrase.shape)
  scores = [
    metrics.pesq(phrase, x, speech.SAMPLE_RATE) for x in (phrase, noisy)
  ]
  assert scores[0] == pytest.approx(4.644, abs=0.01)
  assert scores[1] < 3.0


def test_pesq_of_long_speech_is_the_mean_over_pieces():
  """More utterances than the package has room for, which ended the process."""
  pesq = metrics.require_pesq()
  rng = np.random.default_rng(0)
  burst = [np.zeros(3200), 0.1 * rng.standard_normal(3600)]
  target = np.concatenate(burst * 60)  # 25.5 s
  noisy = target + 0.01 * rng.standard_normal(len(target))
  by_hand = [
    pesq.pesq(16000, target[start:stop], noisy[start:stop], 'wb')
    for start, stop in ((0, 160000), (160000, 320000), (320000, len(target)))
  ]
  expected = np.average(by_hand, weights=[10, 10, 5.5])
  assert metrics.pesq(target, noisy, 16000) == pytest.approx(expected)
  # Without its first piece, where the target is silent.
  target[:160000] = 0
  expected = np.average(by_hand[1:], weights=[10, 5.5])
  assert metrics.pesq(target, noisy, 16000) == pytest.approx(expected)


def test_pesq_of_silence():
  phrase = speech.say_phrase(speech.voice_of('f1'), np.random.default_rng(0))
  silence = np.zeros_like(phrase)
  assert metrics.pesq(phrase, silence, speech.SAMPLE_RATE) == 1.0
  assert metrics.pesq(phrase, 1e-30 * phrase, speech.SAMPLE_RATE) == 1.0
  for target in (silence, phrase):  # no speech; less than a quarter second
    values = target[:3000], phrase[:3000]
    assert np.isnan(metrics.pesq(*values, speech.SAMPLE_RATE))
  assert np.isnan(metrics.pesq(silence, silence, speech.SAMPLE_RATE))
