"""Averages of weights: what they are, and who goes by them."""

import signal

import ddsp
import numpy as np
import pytest
import tensorflow as tf
from field import runs_test as runs

from dafx import effects, losses
from dafx.training import checkpoint_files, checkpoints, models, trainers
from dafx.training.trainers import averages

MOMENTUM = 0.8


_clean = runs._clean  # steps op by op, and no gin left


class Noting(trainers.Trainer):
  """A trainer that notes the weights after each step."""

  def __init__(self, model=None, average_momentum=MOMENTUM, **kwargs):
    super().__init__(
      model or runs.make_model(), average_momentum=average_momentum, **kwargs
    )
    self.noted: list[list[np.ndarray]] = []

  def train_step(self, *args):
    if not self.noted:
      self.show_average(False)
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
  trainer.show_average()
  average = weights_of(trainer.model)
  assert_close(average, average_of(trainer.noted))
  trainer.save(tmp_path / 'run')
  assert_close(weights_of(trainer.model), average)
  (tmp_path / 'file').write_text('no folder')
  with pytest.raises(OSError, match='could not be written'):
    trainer.save(tmp_path / 'file')
  trainer.show_average(False)
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
  with caplog.at_level('INFO', 'absl'):
    runs.train(tmp_path / 'run', 4, trainer)
  assert 'Going on from the average of the weights' in caplog.text
  assert_close(trainer.noted[0], average_of(first.noted))
  assert_close(weights_of(trainer.model), trainer.noted[-1])


def two_filters(are_trained=(True, True)):
  """A model of two filters of one shape."""
  starts = (np.eye(8)[0], np.linspace(0.5, -0.2, 8))
  first, second = (
    effects.Fir(8, ir=start, trainable=is_trained, name=name)
    for name, start, is_trained in zip('ab', starts, are_trained, strict=True)
  )
  group = ddsp.processors.ProcessorGroup(
    dag=[(first, ['audio']), (second, ['a/signal'])]
  )
  return models.EffectModel(group, [losses.EsrLoss()], runs.RATE)


def test_what_is_frozen_meanwhile_stays_what_it_was(tmp_path):
  """Weights are known by their names, not by their places."""
  trainer = Noting(two_filters(), learning_rate=0.03)
  runs.train(tmp_path / 'run', 4, trainer)
  first, second = trainer.noted[-1]
  assert np.abs(first - second).max() > 0.1
  average = average_of(trainer.noted)
  frozen = Noting(two_filters((False, True)))
  frozen.build(next(iter(runs.sines().get_batch(2))))
  assert frozen.restore(tmp_path / 'run')
  frozen.show_average(False)
  (found,) = weights_of(frozen.model)
  np.testing.assert_array_equal(found, second)
  (fixed,) = [
    v for v in frozen.model.non_trainable_variables if v.shape == found.shape
  ]
  assert_close([fixed.numpy()], average[:1])


def test_an_average_of_which_a_part_is_lost_begins_there_anew(tmp_path):
  trainer = Noting()
  trainer.build(next(iter(runs.sines().get_batch(2))))
  for batch in runs.sines().get_batch(2).take(3):
    trainer.train_step(batch)
  trainer.show_average()
  whole = weights_of(trainer.model)
  kept = trainer.checkpoint.averages
  part = dict(list(kept.others.items())[::2])
  trainer.checkpoint.averages = tf.train.Checkpoint(n_steps=kept.n_steps)
  trainer.checkpoint.averages.others = part
  checkpoints.save(trainer.checkpoint, tmp_path / 'run', 3, 1)
  other = Noting(runs.make_model(seed=9))
  other.build(next(iter(runs.sines().get_batch(2))))
  assert other.restore(tmp_path / 'run')
  other.show_average(False)
  found = weights_of(other.model)
  lost = [np.array_equal(a, b) for a, b in zip(found, whole)]
  kept = [np.array_equal(a, b) for a, b in zip(found, trainer.noted[-1])]
  assert any(lost) and any(kept)
  assert all(a or b for a, b in zip(lost, kept))


def test_another_run_of_the_same_trainer_begins_its_average_anew(tmp_path):
  runs.train(tmp_path / 'other', 2, trainers.Trainer(runs.make_model(seed=9)))
  start = runs.make_model()
  checkpoints.restore_model(start, tmp_path / 'other')
  trainer = Noting(learning_rate=0.0)
  runs.train('', 4, trainer)
  assert_differ(weights_of(trainer.model), weights_of(start))
  runs.train('', 5, trainer, restore_dir=str(tmp_path / 'other'))
  assert_close(weights_of(trainer.model), weights_of(start))


def test_a_run_in_two_calls_is_that_in_one():
  once, twice = Noting(), Noting()
  runs.train('', 6, once)
  runs.train('', 3, twice)
  first = len(twice.noted)
  runs.train('', 6, twice)
  assert first < len(twice.noted)
  assert_close(weights_of(twice.model), weights_of(once.model))


def test_what_is_restored_unbuilt_goes_on_from_the_last_step(tmp_path):
  trainer = Noting()
  runs.train(tmp_path / 'run', 3, trainer)
  other = Noting(runs.make_model(seed=9))
  other.model.make_variables()
  assert other.restore(tmp_path / 'run')
  other.show_average(False)
  for one, last in zip(weights_of(other.model), trainer.noted[-1], strict=True):
    np.testing.assert_array_equal(one, last)


@pytest.mark.parametrize('is_saved', [True, False])
def test_an_interrupted_run_leaves_the_model_with_the_average(
  tmp_path, is_saved
):
  trainer = Noting()
  take = trainer.train_step

  def train_step(*args):
    losses = take(*args)
    if trainer.step == 3:
      signal.raise_signal(signal.SIGTERM)
    return losses

  trainer.train_step = train_step
  with pytest.raises(KeyboardInterrupt):
    runs.train(tmp_path / 'run' if is_saved else '', 6, trainer)
  assert_close(weights_of(trainer.model), average_of(trainer.noted))
  assert_differ(weights_of(trainer.model), trainer.noted[-1])


@pytest.mark.parametrize(
  'momentum', [0.0, 1.0, -0.5, 2, float('nan'), '0.9', True]
)
def test_other_momenta_are_refused(momentum):
  with pytest.raises(ValueError, match='above 0 and below 1'):
    averages.Averages(momentum)
