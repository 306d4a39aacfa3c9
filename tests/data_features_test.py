"""What the data give reaches the nodes of a graph, whatever it is called."""

# First: importing dafx sets up what DDSP needs.
import dafx  # noqa: F401  # isort: skip

import ddsp
import numpy as np
import pytest
import tensorflow as tf

from dafx import effects, losses, processors
from dafx.audio import sources
from dafx.training import checkpoints, data, models, trainers

RATE, N_SAMPLES, HOP = 16000, 1024, 64
N_FRAMES = N_SAMPLES // HOP


class Tones(data.Provider):
  """Saws with their pitch, and a gain that moves."""

  sample_rate = RATE

  @property
  def features(self):
    frames = [N_FRAMES, 1]
    samples = {'audio': [N_SAMPLES], 'target': [N_SAMPLES]}
    return {**samples, 'f0_hz': frames, 'moves': frames}

  def get_batch(self, batch_size, *args, first_step=0, **kwargs):
    rng = np.random.default_rng(first_step)
    f0 = rng.uniform(200.0, 400.0, [batch_size, 1, 1])
    times = np.arange(N_SAMPLES) / RATE
    audio = sum(np.sin(k * 2 * np.pi * f0[..., 0] * times) / k for k in (1, 2))
    moves = rng.uniform(0.4, 0.6, [batch_size, N_FRAMES, 1])
    gain_db = np.repeat(80.0 * moves[..., 0] - 40.0, HOP, axis=1)
    batch = {
      'audio': audio,
      'target': audio * 10.0 ** (gain_db / 20.0),
      'f0_hz': np.repeat(f0, N_FRAMES, axis=1),
      'moves': moves,
    }
    batch = {
      key: tf.constant(value, tf.float32) for key, value in batch.items()
    }
    return tf.data.Dataset.from_tensors(batch).repeat()

  def items(self):
    return []


def synth(pitch='f0_hz'):
  """A synth that plays the pitch of the data, through a plugin and a room."""
  dag = [
    (ddsp.synths.Harmonic(N_SAMPLES, RATE), ['amps', 'shape', pitch]),
    (
      effects.LV2Plugin('urn:dafx-test:gain', sample_rate=RATE, name='gain'),
      ['harmonic/signal', 'gain_controls'],
    ),
    (
      ddsp.effects.Reverb(trainable=True, reverb_length=200),
      ['gain/signal'],
    ),
  ]
  return models.ControlModel(
    models.Constant(),
    processors.ProcessorGroup(dag),
    [losses.TimeDomainLoss()],
    RATE,
    output_splits=(('amps', 1), ('shape', 4)),
  )


def moving_gain():
  dag = [(effects.Gain(trainable=['gain_db']), ['audio', 'moves'])]
  return models.EffectModel(
    processors.ProcessorGroup(dag), [losses.TimeDomainLoss()], RATE
  )


def test_a_synth_takes_its_pitch_from_the_data_and_is_restored(tmp_path):
  model = synth()
  assert model.inputs_used == ['audio', 'f0_hz']
  trainer = trainers.Trainer(model, learning_rate=1e-2)
  history = trainers.train(Tones(), None, trainer, 2, 3, save_dir=str(tmp_path))
  assert np.all(np.isfinite(history['total_loss']))
  trained = model.processor_group.reverb.get_weights()[0]
  assert trained.shape == (200,) and np.abs(trained).max() > 1e-3
  again = synth()
  checkpoints.restore_model(again, tmp_path)
  found = again.processor_group.reverb.get_weights()[0]
  np.testing.assert_array_equal(found, trained)
  batch = next(iter(Tones().get_batch(2)))
  outputs = [m(batch)['audio_synth'] for m in (model, again)]
  np.testing.assert_allclose(*outputs, atol=1e-6)
  # The synthesiser makes the length that it was made for.
  assert again.processor_group.harmonic.n_samples == N_SAMPLES


@pytest.mark.parametrize('model', [lambda: synth('f0_hertz'), None])
def test_a_name_that_no_provider_gives_is_named_at_the_start(model):
  if model is None:
    dag = [(effects.Gain(trainable=['gain_db']), ['audio', 'f0_hertz'])]
    group = processors.ProcessorGroup(dag)
    model = models.EffectModel(group, [losses.TimeDomainLoss()], RATE)
  else:
    model = model()
  trainer = trainers.Trainer(model)
  with pytest.raises(
    ValueError, match='gives .*f0_hz, moves: f0_hertz is missing.*correct the'
  ):
    trainers.train(Tones(), None, trainer, 2, 1)


@pytest.mark.parametrize('tbptt_samples', [None, 256])
def test_an_effect_is_moved_by_the_data(tbptt_samples):
  trainer = trainers.Trainer(moving_gain(), tbptt_samples=tbptt_samples)
  batch = next(iter(Tones().get_batch(2)))
  trained = trainer.train_step
  # What it makes of the audio is the target already.
  assert trained(batch)['total_loss'] < 1e-6


def test_windows_hold_whole_frames_of_the_data():
  trainer = trainers.Trainer(moving_gain(), tbptt_samples=32)
  with pytest.raises(ValueError, match='16 frames in 1024 samples cannot be'):
    trainer.train_step(next(iter(Tones().get_batch(1))))


@pytest.mark.parametrize('make', [synth, moving_gain])
def test_a_file_does_not_have_what_the_data_have(make):
  source = sources.from_array(np.zeros([1000, 1]), RATE)
  with pytest.raises(ValueError, match='from the data, which an audio file'):
    make().render(source)
