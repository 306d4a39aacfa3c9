"""The trainer: steps, stages, checkpoints, learning rate."""

import functools
import os
from collections.abc import Callable, Iterable, Mapping

import gin
import numpy as np
import tensorflow as tf
from absl import logging

from dafx import processors
from dafx.training import checkpoints, descriptions
from dafx.training.models import judging
from dafx.training.trainers import agreement, crashes, monitor, stages, windows

# AutoGraph would read and rewrite the source of all that a step calls, DDSP's
# and Keras's too: a third of the first step. Python's `if` and `for` over
# tensors need it; a function that has them is to be a tf.function itself.
_graph = functools.partial(tf.function, autograph=False)


def _name_behind(name_item, n_before, place):
  return name_item(n_before + place)


@gin.configurable(module='dafx.training')
class Trainer:
  """Trains a model by Adam, and keeps it in checkpoints.

  Training may go in stages, each with more of the model's plugins than the one
  before, a new optimizer and a new monitor.

  Args:
    model: Called as model(features, return_losses=True); see `models`.
    learning_rate: At the start.
    decay_steps: Updates of a stage over which the learning rate falls to
      nothing, as half a cosine; None keeps it. A step is one update, but for
      `tbptt_samples`.
    grad_clip_norm: Largest global norm of a gradient; larger ones are scaled.
      None takes them as they are.
    weight_decay: Share of the learning rate by which weights shrink in each
      update (Loshchilov and Hutter, 2019); None for none.
    rate_multipliers: Factor on the learning rate by node of the model's graph,
      for those that learn faster or slower than the rest.
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

  Attributes:
    crashes: What plugins crashed at, and is left out; see `Crashes`.
  """

  def __init__(
    self,
    model: tf.keras.Model,
    learning_rate: float = 1e-3,
    decay_steps: int | None = None,
    grad_clip_norm: float | None = 3.0,
    weight_decay: float | None = None,
    rate_multipliers: Mapping[str, float] | None = None,
    tbptt_samples: int | None = None,
    plateau_patience: int | None = None,
    plateau_factor: float = 0.5,
    min_learning_rate: float = 1e-6,
    stop_patience: int | None = None,
    checkpoints_to_keep: int = 3,
  ):
    self.model = model
    self.grad_clip_norm = grad_clip_norm
    self.plateau_factor = plateau_factor
    self.min_learning_rate = min_learning_rate
    self.checkpoints_to_keep = checkpoints_to_keep
    learning_rate = float(learning_rate)
    if decay_steps is not None:
      if plateau_patience is not None:
        raise ValueError(
          f'decay_steps={decay_steps} and plateau_patience={plateau_patience} '
          'both change the learning rate; set one of them to None.'
        )
      learning_rate = tf.keras.optimizers.schedules.CosineDecay(
        learning_rate, decay_steps
      )
    self._start_learning_rate = learning_rate
    self.optimizer = tf.keras.optimizers.Adam(
      learning_rate, weight_decay=weight_decay
    )
    self.tbptt_samples = tbptt_samples
    if tbptt_samples is not None and not model.streams:
      raise ValueError(
        f'tbptt_samples={tbptt_samples} needs a model that streams, such as '
        f'EffectModel; {type(model).__name__} does not. Set it to None.'
      )
    self.rate_multipliers = dict(rate_multipliers or {})
    agreement.check_multipliers(self.rate_multipliers, model)
    self.monitor = monitor.Monitor(plateau_patience, stop_patience)
    self.crashes = crashes.Crashes(model)

    def counter():
      return tf.Variable(0, trainable=False, dtype=tf.int64)

    self.n_steps = counter()
    self._stage = counter()
    self._stage_start = counter()  # the step at which it began
    self._n_plugins = counter()  # 0: what the model says
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

  @property
  def learning_rate(self) -> float:
    """The present learning rate."""
    return float(self.optimizer.learning_rate)

  def build(self, batch: Mapping[str, tf.Tensor]):
    """Makes all variables, which a checkpoint is restored into.

    Args:
      batch: Features as `train_step` gets them.
    """
    # Shapes will do; silence is what plugins bear.
    self.model({key: tf.zeros_like(value) for key, value in batch.items()})
    self.optimizer.build(self.model.trainable_variables)

  def begin_stage(self, number: int, stage: stages.Stage):
    """Starts a stage: weights stay, optimizer and monitor start anew.

    Args:
      number: Of the stage, from 0.
      stage: What is trained from now on.
    """
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
    if isinstance(self._start_learning_rate, float):
      rate.assign(self._start_learning_rate)
    self.monitor.reset()

  def train_step(
    self,
    batch: Mapping[str, tf.Tensor],
    name_item: Callable[[int], str] = str,
  ) -> dict[str, tf.Tensor] | None:
    """Takes one step; returns {name of loss: value before the updates}.

    Items at which a plugin crashes in a process of its own are left out.

    Args:
      batch: Features, {'audio', 'target', ...}.
      name_item: Names an item by its place in the batch.

    Returns:
      As said; None if no item is left: then nothing is updated.

    Raises:
      ValueError: Crops that hold no window of `tbptt_samples`.
      lv2.CrashError: A plugin crashed with a file for the third time.
    """
    found = self.crashes.leave_out(
      self._take_step, batch, name_item, self._changed_by_steps
    )
    self.n_steps.assign_add(1)
    return None if found is None else found[1]

  def _take_step(self, batch):
    if self.tbptt_samples is None:
      return self._update(batch, self._kind)
    return self._update_by_windows(batch, self.tbptt_samples)

  def _changed_by_steps(self):
    """Returns the variables that a step changes which fails on its way."""
    if self.tbptt_samples is None:
      return self.model.non_trainable_variables
    return [*self.model.variables, *self.optimizer.variables]

  @property
  def _kind(self):
    """What of the model is trained now."""
    return self.model.n_plugins, self.model.is_single

  @_graph
  def _update(self, batch, kind):
    del kind  # not a tensor: each kind has a graph of its own
    with tf.GradientTape() as tape:
      _, losses = self.model(batch, return_losses=True, training=True)
    return self._apply(tape, losses)

  def _update_by_windows(self, batch, size):
    """Goes through a batch window by window; returns mean losses."""
    settling = self.model.settling(batch['audio'].shape[1])
    parts, n_silent = windows.cut(batch, size, settling)
    losses, state = self._update_first_window(*parts[: n_silent + 1])
    rows = [losses]
    for part in parts[n_silent + 1 :]:
      losses, state = self._update_window(part, state)
      rows.append(losses)
    return {key: tf.reduce_mean([r[key] for r in rows]) for key in rows[0]}

  def _update_first_window(self, *parts):
    """Lets the state settle in all windows but the last, and updates there.

    Where the start is trained, its gradient comes through all of them.
    """
    n_items = parts[0]['audio'].shape[0]
    if not self.model.learns_start:
      state = self.model.initial_state(n_items)
      for part in parts[:-1]:
        state = self._settle(part, state)
      return self._update_window(parts[-1], state)
    with tf.GradientTape() as tape:
      state = self.model.initial_state(n_items)
      for part in parts[:-1]:
        state = self._settle(part, state)
      losses, state = self._run_window(parts[-1], state)
    return self._apply(tape, losses), state

  @_graph
  def _run_window(self, part, state):
    return self.model.stream(state, part)[1:]

  @_graph
  def _settle(self, part, state):
    return self.model.stream(state, part)[2]

  @_graph
  def _update_window(self, part, state):
    with tf.GradientTape() as tape:
      _, losses, state = self.model.stream(state, part)
    return self._apply(tape, losses), state

  def _apply(self, tape, losses):
    """Updates the variables; returns the losses and the gradient's norm."""
    variables = self.model.trainable_variables
    gradients = tape.gradient(losses['total_loss'], variables)
    # The heads of plugins that do not run have none.
    pairs = [(g, v) for g, v in zip(gradients, variables) if g is not None]
    gradients = [gradient for gradient, _ in pairs]
    norm = tf.linalg.global_norm(gradients)
    if self.grad_clip_norm is not None:
      gradients, _ = tf.clip_by_global_norm(
        gradients, self.grad_clip_norm, use_norm=norm
      )
    # Adam is deaf to the size of a gradient: what is scaled is the update.
    nodes = processors.modules(self.model.processor_group)
    scaled = [
      (factor, variable, tf.identity(variable))
      for name, factor in self.rate_multipliers.items()
      for variable in nodes[name].trainable_variables
    ]
    self.optimizer.apply_gradients(
      [(g, v) for g, (_, v) in zip(gradients, pairs)]
    )
    for factor, variable, before in scaled:
      variable.assign(before + factor * (variable - before))
    return {**losses, 'gradient_norm': norm}

  def validation_step(
    self, batch: Mapping[str, tf.Tensor]
  ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Returns ({name of loss: value}, audio), training nothing."""
    return self._validation_step(batch, self._kind)

  @_graph
  def _validation_step(self, batch, kind):
    del kind  # as above
    outputs, losses = self.model(batch, return_losses=True)
    return losses, self.model.audio_to_judge(outputs)

  def validate(
    self,
    batches: Iterable[Mapping[str, tf.Tensor]],
    name_item: Callable[[int], str] = str,
  ) -> dict[str, float]:
    """Returns the mean of each loss over the items of all batches.

    Args:
      batches: Features, {'audio', 'target', ...}.
      name_item: Names an item by its place in all the batches. Those at which a
        plugin crashes are left out.

    Returns:
      {name of loss: mean}, and what `Model.judge` says of the items: 'figure',
      where the model is judged by one, and its parts. {} if no item is left.

    Raises:
      lv2.CrashError: A plugin crashed with a file for the third time.
    """
    rows, sizes = [], []
    items: list[judging.Item] = []
    n_before = 0
    for whole in batches:
      found = self.crashes.leave_out(
        self.validation_step,
        whole,
        functools.partial(_name_behind, name_item, n_before),
      )
      n_before += whole['audio'].shape[0]
      if found is None:
        continue
      batch, (losses, audio) = found
      rows.append(losses)
      sizes.append(batch['audio'].shape[0])
      if self.model.judged_by != judging.LOSS:
        start = self.model.settling(batch['audio'].shape[1])
        sides = (batch['audio'], batch['target'], audio)
        items += zip(*(side.numpy()[:, start:] for side in sides), strict=True)
    if not rows:
      return {}
    means = {
      key: float(np.average([float(row[key]) for row in rows], weights=sizes))
      for key in rows[0]
    }
    return {**means, **self.model.judge(items)}

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
      lower = max(
        self.learning_rate * self.plateau_factor, self.min_learning_rate
      )
      self.optimizer.learning_rate.assign(lower)
      logging.info('No new best: the learning rate is now %g.', lower)
    return is_best

  def save(self, folder: str | os.PathLike) -> str:
    """Writes ckpt-<step> and deletes those that are too old.

    Args:
      folder: Where to.

    Returns:
      Path of the checkpoint.

    Raises:
      OSError: It cannot be written, for want of space for example. What was
        there before still is.
    """
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
    saved = checkpoints.restore(self.checkpoint, intact, self._describe())
    if int(self._n_plugins):
      self.model.n_plugins = int(self._n_plugins)
    ours = self._describe()
    self.description.assign(ours.to_json())
    self._change_learning_rate(saved)
    if saved.losses not in (None, ours.losses):
      logging.info('The losses are others than before: %s.', ours.losses)
      if self.model.judged_by == judging.LOSS:
        self.monitor.reset()  # what was the best was another figure
    return True

  def _describe(self) -> descriptions.Description:
    """Describes all that a checkpoint depends on, and the learning rate."""
    rate = self._start_learning_rate
    return descriptions.describe(
      self.model, rate if isinstance(rate, float) else None
    )

  def _change_learning_rate(self, saved):
    """Goes on at another learning rate than the run was begun with, if asked.

    A rate that a plateau has lowered stays, where the run began at this one.
    """
    rate, was = self._start_learning_rate, saved.learning_rate
    if not isinstance(rate, float):
      return  # a schedule, which no checkpoint holds
    if rate != was and (
      was is not None or self.monitor.plateau_patience is None
    ):
      if self.learning_rate != np.float32(rate):
        logging.info('The learning rate is now %g.', rate)
      self.optimizer.learning_rate.assign(rate)
