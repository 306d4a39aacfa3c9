"""Tests of the stages of a training, with a trainer that trains nothing."""

import types

import pytest

from dafx.training.trainers import stages


class Model:
  """Drives three plugins."""

  def __init__(self, n_plugins=3):
    self._n_plugins = n_plugins
    self.is_single = False

  @property
  def n_plugins(self):
    return self._n_plugins

  @n_plugins.setter
  def n_plugins(self, value):
    if not 1 <= value <= 3:
      raise ValueError(f'n_plugins={value} must be from 1 to 3.')
    self._n_plugins = value


class Trainer:
  """Counts steps."""

  def __init__(self, step=0, stage=0, n_plugins=3):
    self.step, self.stage, self.stage_step = step, stage, step
    self.model = Model(n_plugins)
    self.monitor = types.SimpleNamespace(should_stop=False)

  def begin_stage(self, number, stage):
    self.stage, self.stage_step = number, 0
    if stage.n_plugins is not None:
      self.model.n_plugins = stage.n_plugins
    self.model.is_single = stage.is_single
    self.monitor.should_stop = False


def run(trainer, plan, n_steps=100):
  """Takes steps until the last stage is over; returns plugins of each."""
  plugins = []
  for _ in range(n_steps):
    while plan.is_over:
      if plan.is_last:
        return plugins
      plan.go_on()
    trainer.step, trainer.stage_step = trainer.step + 1, trainer.stage_step + 1
    plugins.append(trainer.model.n_plugins)
  return plugins


def test_each_stage_has_its_plugins_and_steps():
  trainer = Trainer()
  plan = stages.Stages(trainer, [(1, 2), (3, 4)], num_steps=99)
  plan.start(None)
  assert plan.n_steps == 6
  assert run(trainer, plan) == [1, 1, 3, 3, 3, 3]
  assert plan.is_over and plan.is_last
  # The same call again stays where it is.
  again = stages.Stages(trainer, [(1, 2), (3, 4)], num_steps=99)
  again.start('run')
  assert run(trainer, again) == []


def test_without_stages_all_plugins_have_all_steps():
  trainer = Trainer()
  plan = stages.Stages(trainer, (), num_steps=5)
  plan.start(None)
  assert plan.n_steps == 5 and plan.is_last
  assert run(trainer, plan) == [3] * 5


def test_a_stage_ends_where_its_validation_says_so():
  trainer = Trainer()
  plan = stages.Stages(trainer, [(1, 50), (2, 3)], num_steps=0)
  plan.start(None)
  assert run(trainer, plan, 4) == [1] * 4
  trainer.monitor.should_stop = True
  assert run(trainer, plan) == [2] * 3


@pytest.mark.parametrize('stage, n_plugins', [(2, 2), (0, 2)])
def test_a_run_of_other_stages_is_refused(stage, n_plugins):
  plan = stages.Stages(Trainer(9, stage, n_plugins), [(1, 9), (2, 9)], 0)
  with pytest.raises(ValueError, match=f'~/run is at stage {stage}, with 2'):
    plan.start('~/run')


def test_stages_are_compared_with_the_plugins_before_training():
  model = Model()
  stages.check_stages(model, [(1, 5), (3, 5)])
  assert model.n_plugins == 3  # as it was
  with pytest.raises(ValueError, match=r'stages=.*n_plugins=4.*from 1 to 3'):
    stages.check_stages(model, [(1, 5), (4, 5)])
  assert model.n_plugins == 3
  with pytest.raises(ValueError, match=r'stages=.*0 steps must be at least 1'):
    stages.check_stages(model, [(1, 0)])
  effect = types.SimpleNamespace(n_plugins=None)
  stages.check_stages(effect, ())
  with pytest.raises(ValueError, match='SimpleNamespace sets none.*num_steps'):
    stages.check_stages(effect, [(1, 5)])


def test_one_setting_is_learned_before_the_network_is_heard():
  trainer = Trainer()
  plan = stages.Stages(trainer, (), num_steps=5, single_fraction=0.4)
  plan.start(None)
  assert plan.n_steps == 5 and plan.name == 'single' and not plan.is_last
  kinds = []
  for _ in range(5):
    if plan.is_over:
      plan.go_on()
    trainer.step, trainer.stage_step = trainer.step + 1, trainer.stage_step + 1
    kinds.append(trainer.model.is_single)
  assert kinds == [True, True, False, False, False]
  assert plan.is_over and plan.is_last
  # A run that is taken up learns what its stage does.
  again = Trainer(step=1)
  plan = stages.Stages(again, (), num_steps=5, single_fraction=0.4)
  plan.start('run')
  assert again.model.is_single and again.model.n_plugins == 3
  plan.go_on()
  assert not again.model.is_single


def test_few_steps_are_the_network_s():
  trainer = Trainer()
  plan = stages.Stages(trainer, (), num_steps=1, single_fraction=0.25)
  plan.start(None)
  assert plan.n_steps == 1 and plan.is_last and not trainer.model.is_single


def test_a_single_setting_must_suit_the_model_and_the_stages():
  with pytest.raises(ValueError, match='single_fraction=1.0 must be at least'):
    stages.check_stages(Model(), (), 1.0)
  with pytest.raises(ValueError, match='two ways to begin'):
    stages.check_stages(Model(), [(1, 5)], 0.5)
