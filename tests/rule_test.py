"""The rule that hears loudness alone, through a limiter in closed form."""

import numpy as np
import pytest

from dafx import core, effects, losses, metrics, processors
from dafx.audio import files as audio_files
from dafx.audio import loudness
from dafx.training import data, models
from dafx.training.evaluation import evaluate, rule

RATE = 16000


def noise(n_samples, n_channels=1, seed=0, level=0.1):
  rng = np.random.default_rng(seed)
  return level * rng.standard_normal([n_samples, n_channels])


def clip(audio, controls):
  """Limits hard at the one control."""
  ceiling = np.repeat(
    controls, -(-audio.shape[1] // controls.shape[1]), axis=1
  )[:, : audio.shape[1]]
  return np.clip(audio, -ceiling, ceiling)


@pytest.fixture(scope='module')
def model():
  ceiling = core.make_control_map({'ceiling': (0.1, 0.9)}, {'ceiling': 0.5})
  gain = effects.Gain(name='gain', trainable=['gain_db'])
  limiter = effects.BlackBox(clip, ceiling, name='limiter')
  group = processors.ProcessorGroup(
    [
      (gain, ['audio', 'gain_controls']),
      (limiter, ['gain/signal', 'limiter_controls']),
    ]
  )
  loss = losses.TimeDomainLoss()
  return models.ControlModel(models.Constant(), group, [loss], RATE)


@pytest.mark.parametrize('n_channels', [1, 2])
@pytest.mark.parametrize('lufs', [-20.0, -7.0])
def test_gain_goes_into_the_limiter_until_the_loudness_is_there(
  model, n_channels, lufs
):
  audio = noise(2 * RATE, n_channels)
  out = rule.make_rule(model, 'limiter', lufs, None).process(audio, RATE)
  assert metrics.loudness_lufs(out, RATE) == pytest.approx(lufs, abs=0.05)
  # What comes out is a clipped multiple of what went in.
  is_free = np.abs(out) < 0.499
  gain = np.median(out[is_free] / audio[is_free])
  np.testing.assert_allclose(out, np.clip(gain * audio, -0.5, 0.5), atol=1e-5)
  assert is_free.all() == (lufs == -20.0)


def test_what_cannot_be_reached_is_come_near_to(model):
  audio = noise(RATE)
  out = rule.make_rule(model, 'limiter', 20.0, None).process(audio, RATE)
  assert np.max(np.abs(out)) == pytest.approx(0.5)
  square = metrics.loudness_lufs(0.5 * np.sign(audio), RATE)
  assert metrics.loudness_lufs(out, RATE) == pytest.approx(square, abs=1.0)


def test_silence_stays_as_it_is(model):
  silence = np.zeros([RATE, 1])
  out = rule.make_rule(model, 'limiter', -14.0, None).process(silence, RATE)
  np.testing.assert_array_equal(out, silence)


def test_the_loudness_is_the_mean_of_the_training_targets(model, tmp_path):
  levels = (0.05, 0.2, 0.0)  # silence has none
  for i, level in enumerate(levels):
    target = noise(2 * RATE, 1, i, level)
    for split in ('train', 'test'):
      for side, audio in (('input', 0.1 * target), ('target', target)):
        path = tmp_path / split / side / f'{i}.wav'
        audio_files.write(path, audio, RATE)

  def targets():
    return data.FolderProvider(str(tmp_path), 'train')

  found = rule.make_rule(model, 'limiter', None, targets)
  loudness = [
    metrics.loudness_lufs(noise(2 * RATE, 1, i, level), RATE)
    for i, level in enumerate(levels[:2])
  ]
  assert found.lufs == pytest.approx(np.mean(loudness), abs=0.01)

  # As a row of an evaluation.
  rows = evaluate.evaluate(
    model,
    data.FolderProvider(str(tmp_path), 'test'),
    with_baselines=False,
    rule_plugin='limiter',
    rule_targets=targets,
  )
  own = [r for r in rows if r['system'] == evaluate.RULE]
  assert [row['name'] for row in own] == ['0', '1', '2']
  half_way = abs(loudness[1] - loudness[0]) / 2
  for row in own[:2]:
    assert row['loudness_difference'] == pytest.approx(half_way, abs=0.1)


def test_settings_are_measured_at_the_loudness_of_the_target_too(
  model, tmp_path
):
  audio = noise(2 * RATE)
  for side, gain in (('input', 0.5), ('target', 1.0)):
    audio_files.write(tmp_path / f'test/{side}/a.wav', gain * audio, RATE)
  value = np.array([[0.6]], np.float32)
  setting = {'gain_controls': value, 'limiter_controls': value}
  rows = evaluate.evaluate(
    model,
    data.FolderProvider(str(tmp_path), 'test'),
    settings={evaluate.BEST_SINGLE_SETTING: {'setting': setting}},
  )
  by_system = {row['system']: row for row in rows}
  assert evaluate.RULE not in by_system
  for name in (evaluate.DEFAULT_SETTING, evaluate.BEST_SINGLE_SETTING):
    louder = by_system[f'{name} at target loudness']
    assert louder['loudness_difference'] == pytest.approx(0.0, abs=1e-6)
    assert by_system[name]['loudness_difference'] > 1.0
    assert louder['crest_error_db'] == pytest.approx(
      by_system[name]['crest_error_db']
    )


def test_what_cannot_be_the_rule(model, tmp_path):
  assert rule.make_rule(model, None, None, None) is None
  with pytest.raises(ValueError, match="'saturator' is no node.*gain, limiter"):
    rule.make_rule(model, 'saturator', -14.0, None)
  with pytest.raises(ValueError, match='rule_lufs'):
    rule.make_rule(model, 'limiter', None, None)

  def missing():
    return data.FolderProvider(str(tmp_path / 'nowhere'), 'train')

  assert rule.make_rule(model, 'limiter', None, missing) is None


@pytest.mark.parametrize('lufs', [-30.0, -14.0, -9.9])
def test_a_gain_into_a_soft_limit_reaches_a_loudness(lufs):
  """The curve is -10 - ln(1 + e^-x), whose inverse is known."""
  tried = []

  def render(gain_db):
    tried.append(gain_db)
    return -10.0 - np.log1p(np.exp(-gain_db - 5.0)), f'at {gain_db}'

  gain_db, output = loudness.find_gain(render, lufs, n_renders=8)
  assert output == f'at {gain_db}' and gain_db in tried and len(tried) <= 8
  if lufs < -10.0:
    wanted = -np.log(np.expm1(-10.0 - lufs)) - 5.0
    assert render(gain_db)[0] == pytest.approx(lufs, abs=0.05)
    assert gain_db == pytest.approx(wanted, abs=0.05 / (1 - np.exp(10 + lufs)))
  else:  # out of reach: the loudest of what was tried
    loudest = max(render(each)[0] for each in tuple(tried))
    assert render(gain_db)[0] == loudest
