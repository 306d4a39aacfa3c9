"""Averages of weights: what they are, and who goes by them."""

import gin
import numpy as np
import pytest
import tensorflow as tf
from field import runs_test as runs

from dafx.training import checkpoint_files, checkpoints, trainers
from dafx.training.trainers import averages

MOMENTUM = 0.8


@pytest.fixture(autouse=True)
def _clean():
  gin.clear_config()
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)
  gin.clear_config()


class Noting(trainers.Trainer):
  """A trainer that notes the weights after each step."""

  def __init__(self, model=None, average_momentum=MOMENTUM, **kwargs):
    super().__init__(
      model or runs.make_model(), average_momentum=average_momentum, **kwargs
    )
    self.noted: list[list[np.ndarray]] = []

  def train_step(self, *args):
    if not self.noted:
      self.noted.append(weights_of(self.model))
    losses = super().train_step(*args)
    self.noted.append(weights_of(self.model))
    return losses


def weights_of(model):
  return [weight.numpy() for weight in model.trainable_variables]


def average_of(noted, momentum=MOMENTUM):
  """Returns the average by its closed form: a sum over all steps."""
  momenta = [min(momentum, (1 + n) / (10 + n)) for n in range(len(noted) - 1)]
  shares = [
    (1.0 if n == 0 else 1 - momenta[n - 1]) * np.prod(momenta[n:])
    for n in range(len(noted))
  ]
  assert sum(shares) == pytest.approx(1.0)
  return [
    sum(share * each for share, each in zip(shares, of_weight))
    for of_weight in zip(*noted)
  ]


def assert_close(ours, theirs):
  for one, other in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def assert_differ(ours, theirs):
  assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(ours, theirs))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(folder, trainer) of six steps, validated and saved each second one."""
  tf.config.run_functions_eagerly(True)
  folder = tmp_path_factory.mktemp('averages') / 'run'
  trainer = Noting(learning_rate=0.03)
  history = trainers.train(
    runs.sines(),
    runs.sines(),
    trainer,
    batch_size=2,
    num_steps=6,
    steps_per_validation=2,
    steps_per_save=2,
    save_dir=str(folder),
  )
  return folder, trainer, history


def test_the_model_ends_with_the_average(run):
  _, trainer, _ = run
  assert_close(weights_of(trainer.model), average_of(trainer.noted))
  assert_differ(weights_of(trainer.model), trainer.noted[-1])


def test_validations_go_by_the_average(run):
  _, trainer, history = run
  assert history['valid_step'] == [2, 4, 6]
  for step, loss in zip(history['valid_step'], history['valid_total_loss']):
    model = runs.make_model()
    other = trainers.Trainer(model)
    other.build(next(iter(runs.sines().get_batch(2))))
    average = average_of(trainer.noted[: step + 1])
    for weight, value in zip(model.trainable_variables, average):
      weight.assign(value)
    batches = runs.sines().get_batch(2, shuffle=False, repeats=1)
    assert other.validate(batches)['total_loss'] == pytest.approx(
      loss, rel=1e-4
    )


def test_who_restores_a_model_gets_the_average(run):
  folder, trainer, _ = run
  for step in (4, 6):
    model = runs.make_model()
    (best,) = [
      path
      for path in (folder / 'best').glob('ckpt-*.index')
      if path.stem == f'ckpt-{step}'
    ] or [folder / f'ckpt-{step}.index']
    model.make_variables()
    with checkpoint_files.plain(best.with_suffix('')) as prefix:
      tf.train.Checkpoint(model=model).read(prefix).expect_partial()
    assert_close(weights_of(model), average_of(trainer.noted[: step + 1]))
  model = runs.make_model()
  checkpoints.restore_model(model, folder)
  assert_differ(weights_of(model), trainer.noted[-1])


def test_training_goes_on_from_the_last_step(run, tmp_path):
  _, trainer, _ = run
  options = dict(steps_per_validation=2, steps_per_save=2)
  for n_steps in (1, 4, 6):
    resumed = Noting(learning_rate=0.03)
    runs.train(tmp_path / 'run', n_steps, resumed, **options)
  assert len(resumed.noted) == 3
  for ours, theirs in zip(resumed.noted, trainer.noted[4:]):
    for one, other in zip(ours, theirs):
      np.testing.assert_array_equal(one, other)
  for one, other in zip(weights_of(resumed.model), weights_of(trainer.model)):
    np.testing.assert_array_equal(one, other)


def test_saving_leaves_the_weights_as_they_are(tmp_path):
  trainer = Noting()
  trainer.build(next(iter(runs.sines().get_batch(2))))
  trainer.save(tmp_path / 'before')  # no step was taken
  for batch in runs.sines().get_batch(2).take(3):
    trainer.train_step(batch)
  before = weights_of(trainer.model)
  with trainer.averaged():
    average = weights_of(trainer.model)
    trainer.save(tmp_path / 'run')
    assert_close(weights_of(trainer.model), average)
  (tmp_path / 'file').write_text('no folder')
  with pytest.raises(OSError, match='could not be written'):
    trainer.save(tmp_path / 'file')
  for one, other in zip(before, weights_of(trainer.model), strict=True):
    np.testing.assert_array_equal(one, other)
  model = runs.make_model()
  checkpoints.restore_model(model, tmp_path / 'run')
  assert_close(weights_of(model), average)
  checkpoints.restore_model(model, tmp_path / 'before')
  assert_close(weights_of(model), trainer.noted[0])


def test_a_run_without_an_average_gets_one(tmp_path):
  runs.train(tmp_path / 'run', 2)
  trainer = Noting()
  runs.train(tmp_path / 'run', 4, trainer)
  assert len(trainer.noted) == 3
  assert_differ(weights_of(trainer.model), trainer.noted[-1])


def test_a_run_goes_on_without_its_average(tmp_path, caplog):
  runs.train(tmp_path / 'run', 3, first := Noting())
  trainer = Noting(average_momentum=None)
  with caplog.at_level('INFO'):
    runs.train(tmp_path / 'run', 4, trainer)
  assert 'Going on from the average of the weights' in caplog.text
  assert_close(trainer.noted[0], average_of(first.noted))
  assert_close(weights_of(trainer.model), trainer.noted[-1])


@pytest.mark.parametrize('momentum', [0.0, 1.0, -0.5, 2, float('nan')])
def test_other_momenta_are_refused(momentum):
  with pytest.raises(ValueError, match='above 0 and below 1'):
    averages.Averages(momentum)
