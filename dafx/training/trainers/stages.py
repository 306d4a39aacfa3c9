"""Stages of a training: the first plugins first, then more."""

import os
from collections.abc import Sequence


def check_stages(model, stages: Sequence[tuple[int, int]]):
  """Raises ValueError for stages that a model cannot be trained in.

  Args:
    model: What is trained.
    stages: (number of plugins, number of steps) of each stage.

  Raises:
    ValueError: The model has no plugins that stages could add, or fewer than a
      stage asks for; or a stage without steps.
  """
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
  """

  def __init__(
    self, trainer, stages: Sequence[tuple[int, int]], num_steps: int
  ):
    self._trainer = trainer
    self._stages = [tuple(stage) for stage in stages]
    self._num_steps = num_steps

  @property
  def n_steps(self) -> int:
    """Number of steps of all stages together."""
    if not self._stages:
      return self._num_steps
    return sum(n_steps for _, n_steps in self._stages)

  @property
  def is_over(self) -> bool:
    """Whether the present stage is over, which need not be the last."""
    n_steps = self._num_steps
    if self._stages:
      n_steps = self._stages[self._trainer.stage][1]
    is_at_end = self._trainer.stage_step >= n_steps
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
      trainer.begin_stage(0, self._stages[0][0])
    n_plugins = trainer.model.n_plugins
    if trainer.stage >= len(self._stages) or (
      n_plugins != self._stages[trainer.stage][0]
    ):
      raise ValueError(
        f'The run in {folder} is at stage {trainer.stage}, with {n_plugins} '
        f'plugins, and train.stages is {self._stages} now. Choose another '
        '--save_dir, or the stages that it was begun with.'
      )

  def go_on(self):
    """Begins the next stage."""
    stage = self._trainer.stage + 1
    self._trainer.begin_stage(stage, self._stages[stage][0])
