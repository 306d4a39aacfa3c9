"""Training where Keras's layers compute in bfloat16, as GPUs do fast."""

# First: importing dafx sets up what DDSP needs.
import dafx  # noqa: F401  # isort: skip

import numpy as np
import pytest
import team_worker
import tensorflow as tf
from cases import some_quick

from dafx import losses
from dafx.training import trainers


@pytest.fixture(autouse=True)
def _bfloat16():
  former = tf.keras.mixed_precision.global_policy()
  tf.keras.mixed_precision.set_global_policy('mixed_bfloat16')
  yield
  tf.keras.mixed_precision.set_global_policy(former)


@pytest.mark.parametrize(
  'case',
  some_quick(
    [('plugins', None), ('windows', None), ('windows', 512)],
    [('plugins', None), ('windows', 512)],
  ),
)
def test_steps_learn_with_losses_and_weights_in_float32(case):
  kind, size = case
  model = team_worker.make_model(kind)
  trainer = trainers.Trainer(model, learning_rate=1e-2, tbptt_samples=size)
  batches = team_worker.recordings(0, 1.0, deadly=False).get_batch(4)
  batch = next(iter(batches))
  trainer.build(batch)
  found = [trainer.train_step(batch) for _ in range(4)]
  for step in found:
    for name, value in step.items():
      assert value.dtype == tf.float32 and np.isfinite(value), name
  assert found[-1]['total_loss'] < found[0]['total_loss']
  for variable in model.trainable_variables:
    assert variable.dtype == tf.float32, variable.name


def test_audio_and_controls_of_plugins_are_not_rounded():
  model = team_worker.make_model('plugins')
  batches = team_worker.recordings(0, 1.0, deadly=False).get_batch(4)
  batch = next(iter(batches))
  outputs, values = model(batch, return_losses=True)
  heard = outputs['gain']['controls']['audio']
  np.testing.assert_array_equal(heard, batch['audio'])
  for name in ('gain', 'second'):
    assert outputs[name]['controls']['controls'].dtype == tf.float32
  # What the encoder's convolutions compute in.
  assert model.encoder.convolutions[0].compute_dtype == 'bfloat16'
  error = outputs['audio_synth'].numpy() - batch['target'].numpy()
  expected = 100.0 * np.mean(error.astype('d') ** 2)
  np.testing.assert_allclose(values['total_loss'], expected, rtol=1e-5)


def test_a_target_is_not_rounded():
  rng = np.random.default_rng(0)
  target, audio = rng.standard_normal([2, 3, 400]).astype(np.float32)
  expected = np.mean((target - audio).astype('d') ** 2)
  found = losses.TimeDomainLoss('L2')(target, audio)
  np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
  'make',
  [
    losses.TimeDomainLoss,
    losses.EsrLoss,
    losses.DcLoss,
    losses.LogCoshLoss,
    losses.SiSdrLoss,
    losses.MultiScaleSpectralLoss,
    losses.MultiResolutionStftLoss,
    losses.RandomResolutionStftLoss,
    lambda: losses.AverageSpectrumLoss(16000),
    lambda: losses.DynamicsLoss(16000),
    lambda: losses.LoudnessLoss(16000),
    lambda: losses.PreEmphasisLoss([losses.EsrLoss()]),
    lambda: losses.SumAndDifferenceLoss([losses.EsrLoss()]),
    lambda: losses.AlignedLoss([losses.EsrLoss()]),
  ],
)
def test_no_loss_rounds_what_it_hears(make):
  rng = np.random.default_rng(0)
  sides = 0.1 * rng.standard_normal([2, 2, 16384, 2]).astype(np.float32)
  found = []
  for policy in ('float32', 'mixed_bfloat16'):
    tf.keras.mixed_precision.set_global_policy(policy)
    value = make()(*map(tf.constant, sides))
    assert value.dtype == tf.float32
    found.append(value.numpy())
  assert found[0] > 0.0
  np.testing.assert_array_equal(*found)
