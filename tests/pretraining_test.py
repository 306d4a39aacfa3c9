"""Tests of fitting networks inside of gray boxes to a curve or a response."""

# First: importing dafx sets up what DDSP needs.
import dafx  # noqa: F401  # isort: skip

import itertools

import ddsp
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from cases import some_quick

from dafx import effects, losses
from dafx.training import data, trainers
from dafx.training.models import effect
from dafx.training.models import starts as pretraining

RATE = 48000


@pytest.mark.parametrize('kind', some_quick(['siren', 'mlp'], ['mlp']))
def test_waveshaper_is_fitted_to_a_curve(kind):
  x = np.linspace(-3.7, 3.7, 75, dtype=np.float32)
  results = []
  for _ in range(2):
    shaper = effects.Waveshaper(kind)
    before = np.abs(shaper.curve(x) - np.tanh(x)).max()
    error = pretraining.fit_waveshaper(shaper, n_steps=500)
    results.append(shaper.curve(x).numpy())
    # Between the points as well.
    assert np.abs(results[-1] - np.tanh(x)).max() < min(0.1, before / 2)
    assert error < 0.05
  np.testing.assert_array_equal(*results)


def test_fir_is_fitted_to_a_response():
  ir = np.zeros(64, np.float32)
  ir[:6] = [0.2, 0.9, -0.5, 0.3, -0.1, 0.05]
  fir = effects.Fir(64, 'siren')
  before = fir.impulse_response().numpy()
  error = pretraining.fit_fir(fir, ir, n_steps=1000)
  found = fir.impulse_response().numpy()
  expected = np.sqrt(np.sum((found - ir) ** 2) / np.sum(ir**2))
  assert error == pytest.approx(expected, rel=1e-3)
  assert error < 0.05 < np.sqrt(np.sum((before - ir) ** 2))


def test_short_responses_are_filled_and_long_ones_cut():
  for n in (1, 100):
    fir = effects.Fir(8, 'taps', ir=np.full(8, 0.1))
    pretraining.fit_fir(fir, 0.5 ** np.arange(n), 200, 0.05)
    expected = 0.5 ** np.arange(8) if n > 8 else np.eye(8)[0]
    np.testing.assert_allclose(fir.impulse_response(), expected, atol=0.02)


def group():
  nodes = (
    effects.Waveshaper('siren', name='shaper'),
    effects.Fir(32, 'siren', name='speaker'),
  )
  dag = [(nodes[0], ['audio']), (nodes[1], ['shaper/signal'])]
  return ddsp.processors.ProcessorGroup(dag=dag)


def test_model_starts_where_it_is_told(tmp_path):
  ir = np.zeros(50, np.float32)
  ir[:3] = [3.0, 0.0, 4.0]
  soundfile.write(tmp_path / 'ir.wav', ir, RATE, subtype='FLOAT')
  model = effect.EffectModel(
    group(),
    [losses.TimeDomainLoss()],
    RATE,
    starts={'shaper': 'tanh', 'speaker': str(tmp_path / 'ir.wav')},
    n_start_steps=500,
  )
  errors = model.fit_starts()
  assert sorted(errors) == ['shaper', 'speaker']
  x = np.float32([[0.0, 0.5, -1.0, 2.0, 0.0, 0.0]])
  audio = model({'audio': tf.constant(x)})['audio_synth'].numpy()
  expected = np.convolve(np.tanh(x[0]), [0.6, 0.0, 0.8])[:6]
  np.testing.assert_allclose(audio[0], expected, atol=0.1)


def test_only_a_new_run_is_fitted(tmp_path, monkeypatch):
  fitted = []

  def fit_nodes(group, starts, sample_rate, n_steps):
    del group
    fitted.append((starts, sample_rate, n_steps))

  monkeypatch.setattr(pretraining, 'fit_nodes', fit_nodes)
  audio = np.random.default_rng(0).standard_normal([1, 64])
  batch = {'audio': tf.constant(audio, tf.float32)}
  batch['target'] = 0.5 * batch['audio']

  class Provider(data.Provider):
    sample_rate = RATE
    features = {'audio': [64], 'target': [64]}

    def get_batch(self, *args, **kwargs):
      del args, kwargs
      return itertools.repeat(batch)

    def items(self):
      return []

  for num_steps in (1, 2):
    model = effect.EffectModel(
      group(),
      [losses.TimeDomainLoss()],
      RATE,
      starts={'shaper': 'tanh'},
      n_start_steps=7,
    )
    assert len(fitted) == num_steps - 1
    trainers.train(
      Provider(),
      trainer=trainers.Trainer(model),
      num_steps=num_steps,
      save_dir=str(tmp_path),
    )
  # The second one went on from the checkpoint of the first.
  assert fitted == [({'shaper': 'tanh'}, RATE, 7)]


def test_bad_starts_are_named(tmp_path):
  for starts, message in (
    ({'valve': 'tanh'}, 'valve.*shaper, speaker'),
    ({'shaper': 'cosh'}, 'cosh.*tanh'),
  ):
    with pytest.raises(ValueError, match=message):
      pretraining.fit_nodes(group(), starts, RATE)
  with pytest.raises(FileNotFoundError, match=r'none\.wav'):
    pretraining.fit_nodes(group(), {'speaker': 'none.wav'}, RATE)
  soundfile.write(tmp_path / 'slow.wav', np.ones(9), 8000)
  with pytest.raises(ValueError, match='8000 Hz'):
    pretraining.read_ir(tmp_path / 'slow.wav', RATE)
  with pytest.raises(ValueError, match='nothing to train'):
    pretraining.fit_waveshaper(effects.Waveshaper('tanh'))
  with pytest.raises(ValueError, match='not silent'):
    pretraining.fit_fir(effects.Fir(8), np.zeros(8))
