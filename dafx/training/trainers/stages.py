"""Stages of a training: one setting for all first, then plugin after plugin."""

import dataclasses
import os
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Stage:
  """What is trained for some steps.

  Attributes:
    n_plugins: How many plugins run; None for all.
    n_steps: Number of steps.
    is_single: Whether one setting for all is learned; see
      `models.ControlModel.is_single`.
  """

  n_plugins: int | None
  n_steps: int
  is_single: bool = False


def check_stages(
  model, stages: Sequence[tuple[int, int]], single_fraction: float = 0.0
):
  """Raises ValueError for stages that a model cannot be trained in.

  Args:
    model: What is trained.
    stages: (number of plugins, number of steps) of each stage.
    single_fraction: Part of the steps in which one setting is learned.

  Raises:
    ValueError: The model has no plugins that stages could add, or fewer than a
      stage asks for; or a stage without steps; or no network that sets plugins;
      or both are asked for.
  """
  if not 0.0 <= single_fraction < 1.0:
    raise ValueError(
      f'train.single_fraction={single_fraction} must be at least 0 and below 1.'
    )
  if single_fraction and stages:
    raise ValueError(
      f'train.single_fraction={single_fraction} and train.stages='
      f'{list(stages)} are two ways to begin. Set single_fraction=0, or leave '
      'stages empty.'
    )
  if single_fraction:
    model.is_single = True  # refuses what has no such network
    model.is_single = False
  if not stages:
    return
  if model.n_plugins is None:
    raise ValueError(
      f'train.stages={list(stages)} adds plugin after plugin, and '
      f'{type(model).__name__} sets none. Bind train.num_steps instead, and '
      'leave train.stages empty.'
    )
  former = model.n_plugins
  try:
    for n_plugins, n_steps in stages:
      if n_steps < 1:
        raise ValueError(f'{n_steps} steps must be at least 1.')
      model.n_plugins = n_plugins  # refuses what there is not
  except ValueError as error:
    raise ValueError(f'train.stages={list(stages)}: {error}') from error
  finally:
    model.n_plugins = former


class Stages:
  """Where a training is in its stages; one of all plugins where it has none.

  A stage ends after its steps, or when validation says stop.

  Args:
    trainer: The Trainer, which keeps the stage in its checkpoints.
    stages: (number of plugins, number of steps) of each stage.
    num_steps: Number of steps in all where there are no stages.
    single_fraction: Part of num_steps, at the start, in which one setting for
      all is learned.

  Attributes:
    option: Which of these says how many steps there are.
  """

  def __init__(
    self,
    trainer,
    stages: Sequence[tuple[int, int]],
    num_steps: int,
    single_fraction: float = 0.0,
  ):
    self._trainer = trainer
    self._stages = [Stage(*stage) for stage in stages]
    n_single = round(single_fraction * num_steps)
    if n_single:
      self._stages = [
        Stage(None, n_single, is_single=True),
        Stage(None, num_steps - n_single),
      ]
    self._num_steps = num_steps
    self.option = 'stages' if stages else 'num_steps'

  @property
  def n_steps(self) -> int:
    """Number of steps of all stages together."""
    if not self._stages:
      return self._num_steps
    return sum(stage.n_steps for stage in self._stages)

  @property
  def n_stage_steps(self) -> int:
    """Number of steps of the present stage."""
    trainer = self._trainer
    if not self._stages or (self._stages[0].is_single and trainer.stage):
      # What is left of all: of a run that was made longer, too.
      return self._num_steps - (trainer.step - trainer.stage_step)
    return self._stages[trainer.stage].n_steps

  @property
  def is_over(self) -> bool:
    """Whether the present stage is over, which need not be the last."""
    is_at_end = self._trainer.stage_step >= self.n_stage_steps
    return is_at_end or self._trainer.monitor.should_stop

  @property
  def is_last(self) -> bool:
    """Whether no stage comes after the present one."""
    return self._trainer.stage + 1 >= len(self._stages)

  def start(self, folder: str | os.PathLike | None):
    """Begins the first stage of a new run, or checks that of another.

    Args:
      folder: Where the run comes from, for the message.

    Raises:
      ValueError: The run was begun with other stages.
    """
    trainer = self._trainer
    if not self._stages:
      return
    if not trainer.step:
      trainer.begin_stage(0, self._stages[0])
    n_plugins = trainer.model.n_plugins
    if trainer.stage >= len(self._stages) or (
      self._stages[trainer.stage].n_plugins not in (n_plugins, None)
    ):
      raise ValueError(
        f'The run in {folder} is at stage {trainer.stage}, with {n_plugins} '
        'plugins, and the stages are '
        f'{[dataclasses.astuple(stage) for stage in self._stages]} now '
        '(plugins, steps, one setting for all). Choose another --save_dir, or '
        'the stages that it was begun with.'
      )
    trainer.model.is_single = self._stages[trainer.stage].is_single

  def go_on(self):
    """Begins the next stage."""
    stage = self._trainer.stage + 1
    self._trainer.begin_stage(stage, self._stages[stage])

  @property
  def name(self) -> str:
    """Names the present stage, for a folder: 'stage_2' or 'single'."""
    stage = self._stages[self._trainer.stage]
    n_plugins = self._trainer.model.n_plugins
    return 'single' if stage.is_single else f'stage_{n_plugins}'
