"""The trainer: steps, stages, checkpoints, learning rate."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gin
import numpy as np
import tensorflow as tf
from absl import logging

from dafx import _arguments, core
from dafx.training import checkpoint_files, checkpoints, descriptions
from dafx.training.models import judging
from dafx.training.trainers import (
  agreement,
  averages,
  crashes,
  monitor,
  rates,
  stages,
  steps,
  team,
  team_steps,
  validation,
  windows,
)


def _counter():
  return tf.Variable(0, trainable=False, dtype=tf.int64)


@gin.configurable(module='dafx.training')
class Trainer:
  """Trains a model by Adam, and keeps it in checkpoints.

  Training may go in stages, each with more of the model's plugins than the one
  before, a new optimizer and a new monitor.

  Args:
    model: Called as model(features, return_losses=True); see `models`.
    learning_rate: At the start.
    decay_steps: Updates of a stage over which the learning rate falls to
      nothing, as half a cosine; 'last_stage' for all of the last stage, before
      which the rate stays; None keeps it. A step is one update, but for
      `tbptt_samples`, which 'last_stage' does not go with.
    grad_clip_norm: Largest global norm of a gradient; larger ones are scaled.
      None takes them as they are.
    weight_decay: Share of the learning rate by which weights shrink in each
      update (Loshchilov and Hutter, 2019); None for none.
    rate_multipliers: Factor on the learning rate by node of the model's graph,
      for those that learn faster or slower than the rest.
    average_momentum: Share of a moving average of the weights that a step
      leaves, below 1. Validations and checkpoints go by the average, and the
      model has it after a training; see `Averages`. None goes by the weights of
      the last step.
    tbptt_samples: Truncated backpropagation through time: a step goes through
      its crops in windows of so many samples, with an update after each, and
      carries the state of the model on. For models with `stream`.
    plateau_patience: Validations without a new best until the learning rate is
      lowered; None never lowers it.
    plateau_factor: What it is multiplied by then.
    min_learning_rate: It goes no lower.
    stop_patience: Validations without a new best until training stops; None
      never stops it.
    checkpoints_to_keep: The older ones are deleted.
    workers: Who trains: this process alone, or a `Team` in whose scope the
      model was made.

  Attributes:
    crashes: What plugins crashed at, and is left out; see `Crashes`.
  """

  def __init__(
    self,
    model: tf.keras.Model,
    learning_rate: float = 1e-3,
    decay_steps: int | str | None = None,
    grad_clip_norm: float | None = 3.0,
    weight_decay: float | None = None,
    rate_multipliers: Mapping[str, float] | None = None,
    average_momentum: float | None = None,
    tbptt_samples: int | None = None,
    plateau_patience: int | None = None,
    plateau_factor: float = 0.5,
    min_learning_rate: float = 1e-6,
    stop_patience: int | None = None,
    checkpoints_to_keep: int = 3,
    workers: core.Workers | None = None,
  ):
    if grad_clip_norm is not None:
      _arguments.finite(0.0, True, grad_clip_norm=grad_clip_norm)
    _arguments.finite(weight_decay=weight_decay or 0.0)
    _arguments.whole(1, checkpoints_to_keep=checkpoints_to_keep)
    self.model = model
    self.workers = core.Workers() if workers is None else workers
    self.grad_clip_norm = grad_clip_norm
    self.checkpoints_to_keep = checkpoints_to_keep
    self._rate = rates.Rate(
      learning_rate,
      decay_steps,
      plateau_factor,
      min_learning_rate,
      plateau_patience,
      tbptt_samples,
    )
    with self.workers.scope():
      self.optimizer = tf.keras.optimizers.Adam(
        self._rate.of_optimizer, weight_decay=weight_decay
      )
    if tbptt_samples is not None:
      windows.check_size(tbptt_samples, model)
    agreement.check_multipliers(rate_multipliers or {}, model)
    self._make_steps(rate_multipliers or {}, tbptt_samples)
    self._averages = averages.make(average_momentum)
    self.monitor = monitor.Monitor(plateau_patience, stop_patience)
    self.crashes = crashes.Crashes(model)
    self.n_steps = _counter()
    self._stage = _counter()
    self._stage_start = _counter()  # the step at which it began
    self._n_plugins = _counter()  # 0: what the model says
    self._judged_by = tf.Variable(
      judging.LOSS, trainable=False, dtype=tf.string
    )
    # Variables of one shape may mean something else: this tells.
    self.description = tf.Variable(
      self._describe().to_json(), trainable=False, dtype=tf.string
    )
    self.checkpoint = tf.train.Checkpoint(
      model=model,
      optimizer=self.optimizer,
      monitor=self.monitor,
      description=self.description,
      n_steps=self.n_steps,
      stage=self._stage,
      stage_start=self._stage_start,
      n_plugins=self._n_plugins,
      judged_by=self._judged_by,
    )
    if self._averages is not None:
      self.checkpoint.averages = self._averages.kept

  def _make_steps(self, rate_multipliers, tbptt_samples):
    options: dict[str, Any] = dict(
      model=self.model,
      optimizer=self.optimizer,
      grad_clip_norm=self.grad_clip_norm,
      rate_multipliers=dict(rate_multipliers),
      tbptt_samples=tbptt_samples,
    )
    self._steps: steps.Steps
    if isinstance(self.workers, team.Team):
      self._steps = team_steps.TeamSteps(self.workers, **options)
    else:
      self._steps = steps.Steps(**options)

  @property
  def step(self) -> int:
    """Number of steps trained, in all stages."""
    return int(self.n_steps)

  @property
  def stage(self) -> int:
    """The present stage, from 0."""
    return int(self._stage)

  @property
  def stage_step(self) -> int:
    """Number of steps trained in this stage."""
    return int(self.n_steps - self._stage_start)

  def set_length(self, n_steps: int, is_last: bool):
    """Says how long the present stage is to be, for a rate that falls in it.

    Args:
      n_steps: Its steps.
      is_last: Whether no stage comes after it.
    """
    self._rate.set_length(n_steps, is_last)

  @property
  def learning_rate(self) -> float:
    """The present learning rate."""
    return rates.value_of(self.optimizer)

  def build(self, batch: Mapping[str, tf.Tensor]):
    """Makes all variables, which a checkpoint is restored into.

    Args:
      batch: Features as `train_step` gets them.
    """
    with self.workers.scope():
      # Shapes will do; silence is what plugins bear.
      self.model({key: tf.zeros_like(value) for key, value in batch.items()})
      self.optimizer.build(self.model.trainable_variables)
    if self._averages is not None and not self._averages.n_steps:
      self.begin_average()

  def begin_average(self):
    """Begins the average of the weights, if there is one, at what they are."""
    if self._averages is None:
      return
    named = checkpoint_files.named(tf.train.Checkpoint(model=self.model))
    names = {id(weight): name for name, weight in named.items()}
    trained = self.model.trainable_variables
    own = self._steps.local(trained)
    self._averages.begin(
      {names[id(w)]: mine for w, mine in zip(trained, own, strict=True)}
    )

  def show_average(self, is_shown: bool = True):
    """Gives the model the average of its weights, or those of the last step.

    Steps go on with the latter: `train_step` takes them, and what validates or
    saves takes the average.

    Args:
      is_shown: Whether the model is to have the average, if there is one.
    """
    if self._averages is None:
      return
    if not self._averages.n_steps:
      self.begin_average()
    self._averages.show(is_shown)

  def begin_stage(self, number: int, stage: stages.Stage):
    """Starts a stage: weights stay, optimizer and monitor start anew.

    Where there is an average of the weights, the stage begins there.

    Args:
      number: Of the stage, from 0.
      stage: What is trained from now on.
    """
    self.show_average()
    self.begin_average()
    if stage.n_plugins is not None:
      self.model.n_plugins = stage.n_plugins
    self.model.is_single = stage.is_single
    self._n_plugins.assign(self.model.n_plugins)
    self._stage.assign(number)
    if not self.stage_step:
      return
    self._stage_start.assign(self.n_steps)
    rate = self.optimizer.learning_rate
    for variable in self.optimizer.variables:
      if variable is not rate:
        variable.assign(tf.zeros_like(variable))
    self._rate.begin(self.optimizer)
    self.monitor.reset()

  def train_step(
    self,
    batch: Mapping[str, tf.Tensor],
    name_item: Callable[[int], str] = str,
    is_asked_to_stop: Callable[[], bool] = lambda: False,
  ) -> Mapping[str, Any] | None:
    """Takes one step; returns {name of loss: value before the updates}.

    Items at which a plugin crashes in a process of its own are left out.

    Args:
      batch: Features, {'audio', 'target', ...}: of a team, its part.
      name_item: Names an item by its place in the batch.
      is_asked_to_stop: Says whether this process was; of a team, all know then.

    Returns:
      As said; None if no item is left: then nothing is updated.

    Raises:
      ValueError: Crops that hold no window of `tbptt_samples`.
      lv2.CrashError: A plugin crashed with a file for the third time.
      WorkerError: Another worker has ended.
    """
    self.show_average(False)
    if isinstance(self._steps, team_steps.TeamSteps):
      losses = self._steps.take_together(
        batch, self._kind, self.crashes, name_item, is_asked_to_stop
      )
    else:
      found = self.crashes.leave_out(
        lambda part: self._steps.take(part, self._kind), batch, name_item
      )
      losses = None if found is None else found[1]
    if self._averages is not None and losses is not None:
      self._averages.update()
    self.n_steps.assign_add(1)
    return losses

  @property
  def _kind(self):
    """What of the model is trained now."""
    return self.model.n_plugins, self.model.is_single

  def validation_step(
    self, batch: Mapping[str, tf.Tensor]
  ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Returns ({name of loss: value}, audio), training nothing."""
    return self._validation_step(batch, self._kind)

  @steps.graph
  def _validation_step(self, batch, kind):
    del kind  # not a tensor: each kind has a graph of its own

    def validate(batch):
      outputs, losses = self.model(batch, return_losses=True)
      return losses, self.model.audio_to_judge(outputs)

    return self.workers.run(validate, batch)

  def outputs_of(self, batch: Mapping[str, tf.Tensor]) -> dict[str, Any]:
    """Returns what the model makes of a batch, whether others do so or not.

    Args:
      batch: Features, {'audio', 'target', ...}.
    """
    return self.workers.run(self.model, batch)

  def validate(
    self,
    batches: Iterable[Mapping[str, tf.Tensor]],
    name_item: Callable[[int], str] = str,
  ) -> dict[str, float]:
    """Returns the mean of each loss over the items of all batches.

    The model has the average of its weights from then on, if there is one. Of a
    team, each worker validates its part, and all get the same means.

    Args:
      batches: Features, {'audio', 'target', ...}.
      name_item: Names an item by its place in all the batches. Those at which a
        plugin crashes are left out.

    Returns:
      {name of loss: mean}, and what `Model.judge` says of the items: 'figure',
      where the model is judged by one, and its parts. {} if no item is left.

    Raises:
      lv2.CrashError: A plugin crashed with a file for the third time.
      WorkerError: Another worker has ended.
    """
    self.show_average()
    return validation.validate(self, batches, name_item)

  def end_validation(self, figure: float) -> bool:
    """Takes what decides in; returns whether it is the best so far.

    Args:
      figure: That of a validation, the lower the better; its loss where it has
        none.
    """
    judged_by = self.model.judged_by
    if self._judged_by.numpy().decode() != judged_by:
      if np.isfinite(float(self.monitor.best)):
        logging.info('Validations are judged anew, by %s.', judged_by)
      self.monitor.reset()  # what was the best was another figure
      self._judged_by.assign(judged_by)
    is_best = self.monitor.update(figure)
    if self.monitor.lower_rate():
      self._rate.lower(self.optimizer)
    return is_best

  def save(self, folder: str | os.PathLike) -> str:
    """Writes ckpt-<step> and deletes those that are too old.

    The model has the average of its weights from then on, if there is one.

    Args:
      folder: Where to.

    Returns:
      Path of the checkpoint.

    Raises:
      OSError: It cannot be written, for want of space for example. What was
        there before still is.
    """
    self.show_average()
    return checkpoints.save(
      self.checkpoint, folder, self.step, self.checkpoints_to_keep
    )

  def restore(self, folder: str | os.PathLike) -> bool:
    """Goes on from the newest checkpoint of a folder that can be read.

    Call `build` before.

    Args:
      folder: Where checkpoints were saved; it need not exist.

    Returns:
      Whether there was one.

    Raises:
      ValueError: It is of another model, or of one whose controls had other
        ranges, scales or fixed values; or all are damaged. Nothing was written.
    """
    intact = checkpoints.newest_intact(folder)
    if intact is None:
      return False
    if self._averages is not None and not self._averages.n_steps:
      self.begin_average()
    saved = checkpoints.restore(self.checkpoint, intact, self._describe())
    if self._averages is not None:
      self._averages.take_up(intact)
    elif checkpoint_files.has_average(intact):
      logging.info('Going on from the average of the weights, without one.')
    if int(self._n_plugins):
      self.model.n_plugins = int(self._n_plugins)
    ours = self._describe()
    self.description.assign(ours.to_json())
    self._rate.go_on(self.optimizer, saved)
    if saved.losses not in (None, ours.losses):
      logging.info('The losses are others than before: %s.', ours.losses)
      if self.model.judged_by == judging.LOSS:
        self.monitor.reset()  # what was the best was another figure
    return True

  def _describe(self) -> descriptions.Description:
    """Describes all that a checkpoint depends on, and the learning rate."""
    return descriptions.describe(self.model, self._rate.start)
