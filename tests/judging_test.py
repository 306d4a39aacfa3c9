"""By what validations are judged: against the metrics and closed forms."""

import numpy as np
import pytest

from dafx import losses, metrics, neural, processors
from dafx.training import models
from dafx.training.models import judging

RATE = 16000
N_SAMPLES = 12000


def sound(seed=0, *shape):
  return 0.1 * np.random.default_rng(seed).standard_normal((N_SAMPLES, *shape))


def test_equal_level_is_what_the_metrics_say():
  items = []
  for seed in range(2):
    target = sound(seed, 2)
    items.append((target, target, 0.3 * np.clip(target, -0.1, 0.1)))
  values = judging.equal_level(items, RATE)
  matched = [metrics.matched(t, a, RATE) for _, t, a in items]
  for name in ('matched_mr_stft', 'average_spectrum_db', 'crest_error_db'):
    assert values[name] == pytest.approx(np.mean([m[name] for m in matched]))
  loudness = [metrics.loudness_difference(t, a, RATE) for _, t, a in items]
  assert values['loudness_difference'] == pytest.approx(np.mean(loudness))
  assert values['figure'] == pytest.approx(
    values['matched_mr_stft']
    + 0.1
    * (
      values['average_spectrum_db']
      + values['crest_error_db']
      + values['loudness_difference']
    )
  )


def test_items_without_a_value_are_left_out_and_silence_is_far():
  target = sound()
  good = (target, target, 0.5 * target)
  expected = judging.equal_level([good], RATE)
  silent = (target, 0.0 * target, target)
  short = (target[:99], target[:99], target[:99])
  assert judging.equal_level([silent, good, short], RATE) == expected
  assert judging.equal_level([silent, short], RATE) == {}
  for lost in (0.0 * target, np.full_like(target, np.nan)):
    values = judging.equal_level([good, (target, target, lost)], RATE)
    assert values['figure'] == np.inf


def test_events_are_where_input_and_target_differ():
  target = sound()
  source = target.copy()
  source[4000:4800] += 3.0 * sound(1)[:800]
  audio = target.copy()
  audio[4000:4800] = 10 ** (-15.0 / 20.0) * source[4000:4800]
  audio[8000:] *= np.sqrt(0.5)
  values = judging.events([(source, target, audio)], RATE)
  rest = np.r_[target[:4000], target[4800:]]
  after = np.r_[audio[:4000], audio[4800:]]
  rest_db = 10 * np.log10(np.sum(after**2) / np.sum(rest**2))
  assert values['events_change_db'] == pytest.approx(-15.0)
  assert values['rest_change_db'] == pytest.approx(rest_db)
  assert values['figure'] == pytest.approx(-rest_db + 0.5)
  # Gone, and all else as it was.
  audio = target.copy()
  audio[4000:4800] = 0.0
  assert judging.events([(source, target, audio)], RATE)['figure'] == 0.0


def test_without_events_or_rest_nothing_is_judged():
  target = sound()
  assert judging.events([(target, target, target)], RATE) == {}
  assert judging.events([(target, 0.0 * target, target)], RATE) == {}


def test_esr_of_all_items_together():
  target = sound()
  items = [(target, target, 0.9 * target), (target, 0.0 * target, 0.0 * target)]
  assert judging.esr(items, RATE)['figure'] == pytest.approx(0.01)
  assert judging.esr(items[1:], RATE) == {}


def test_a_model_declares_by_what_it_is_judged():
  group = processors.ProcessorGroup(
    [(neural.Rnn(n_units=4, seed=0), ['audio'])]
  )
  loss = [losses.EsrLoss()]
  assert models.EffectModel(group, loss).judge([]) == {}
  model = models.EffectModel(group, loss, judged_by='esr')
  target = sound()
  values = model.judge([(target, target, 0.9 * target)])
  assert values['figure'] == pytest.approx(0.01)
  with pytest.raises(ValueError, match="judged_by='events' must be one of"):
    models.EffectModel(group, loss, judged_by='events')
