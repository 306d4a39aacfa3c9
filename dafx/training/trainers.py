"""The trainer: steps, checkpoints, learning rate; and the loop around it."""

import json
import os
import pathlib
import shutil
import time
from collections.abc import Mapping

import gin
import numpy as np
import tensorflow as tf
from absl import logging

from dafx import processors
from dafx.training import data, plotting, train_util


class DivergedError(ArithmeticError):
  """The loss is not a number any more."""


class Monitor(tf.Module):
  """Follows the validation loss: when to lower the rate, when to stop.

  Its state is in variables, so that a resumed run decides as if it had not been
  interrupted.

  Args:
    plateau_patience: Validations without a new best until the learning rate is
      lowered; None never lowers it.
    stop_patience: Validations without a new best until training stops; None
      never stops it.
  """

  def __init__(self, plateau_patience=None, stop_patience=None):
    super().__init__(name='monitor')
    self.plateau_patience = plateau_patience
    self.stop_patience = stop_patience
    self.best = tf.Variable(np.inf, trainable=False, dtype=tf.float32)
    self.since_best = tf.Variable(0, trainable=False, dtype=tf.int32)
    self.since_lowered = tf.Variable(0, trainable=False, dtype=tf.int32)

  def update(self, loss: float) -> bool:
    """Takes a validation loss in; returns whether it is the best so far."""
    if loss < float(self.best):
      self.best.assign(loss)
      self.since_best.assign(0)
      self.since_lowered.assign(0)
      return True
    self.since_best.assign_add(1)
    self.since_lowered.assign_add(1)
    return False

  def lower_rate(self) -> bool:
    """Returns whether to lower the learning rate now."""
    patience = self.plateau_patience
    if patience is None or int(self.since_lowered) < patience:
      return False
    self.since_lowered.assign(0)
    return True

  @property
  def should_stop(self) -> bool:
    """Whether there has been no new best for too long."""
    patience = self.stop_patience
    return patience is not None and int(self.since_best) >= patience


def _node(model, name):
  return processors.nodes(model.processor_group)[name]


def _check_multipliers(multipliers, model):
  if not multipliers:
    return
  known = list(processors.nodes(model.processor_group))
  for name, factor in multipliers.items():
    if name not in known or not factor >= 0.0:
      raise ValueError(
        f'rate_multipliers has {name!r}: {factor}; it must be a factor of at '
        f'least 0 for a node of the graph: {", ".join(known)}.'
      )


@gin.configurable(module='dafx.training')
class Trainer:
  """Trains a model by Adam, and keeps it in checkpoints.

  Args:
    model: Called as model(features, return_losses=True); see `models`.
    learning_rate: At the start.
    decay_steps: Updates over which the learning rate falls to nothing, as half
      a cosine; None keeps it. A step is one update, but for `tbptt_samples`.
    grad_clip_norm: Largest global norm of a gradient; larger ones are scaled.
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
  """

  def __init__(
    self,
    model: tf.keras.Model,
    learning_rate: float = 1e-3,
    decay_steps: int | None = None,
    grad_clip_norm: float = 3.0,
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
    if decay_steps is not None:
      if plateau_patience is not None:
        raise ValueError(
          f'decay_steps={decay_steps} and plateau_patience={plateau_patience} '
          'both change the learning rate; set one of them to None.'
        )
      learning_rate = tf.keras.optimizers.schedules.CosineDecay(
        learning_rate, decay_steps
      )
    self.optimizer = tf.keras.optimizers.Adam(
      learning_rate, weight_decay=weight_decay
    )
    self.tbptt_samples = tbptt_samples
    if tbptt_samples is not None and not hasattr(model, 'stream'):
      raise ValueError(
        f'tbptt_samples={tbptt_samples} needs a model that streams, such as '
        f'EffectModel; {type(model).__name__} does not. Set it to None.'
      )
    self.rate_multipliers = dict(rate_multipliers or {})
    _check_multipliers(self.rate_multipliers, model)
    self.n_steps = tf.Variable(0, trainable=False, dtype=tf.int64)
    self.monitor = Monitor(plateau_patience, stop_patience)
    # Variables of one shape may belong to another plugin: this tells.
    self.description = tf.Variable(
      _describe(model), trainable=False, dtype=tf.string
    )
    self.checkpoint = tf.train.Checkpoint(
      model=model,
      optimizer=self.optimizer,
      monitor=self.monitor,
      description=self.description,
      n_steps=self.n_steps,
    )

  @property
  def step(self) -> int:
    """Number of steps trained."""
    return int(self.n_steps)

  @property
  def learning_rate(self) -> float:
    """The present learning rate."""
    return float(self.optimizer.learning_rate)

  def build(self, batch):
    """Makes all variables, which a checkpoint is restored into.

    Args:
      batch: Features as `train_step` gets them.
    """
    self.model(batch)
    self.optimizer.build(self.model.trainable_variables)

  def train_step(self, batch):
    """Takes one step; returns {name of loss: value before the updates}.

    Args:
      batch: Features, {'audio', 'target', ...}.

    Raises:
      ValueError: Crops that hold no window of `tbptt_samples`.
    """
    if self.tbptt_samples is None:
      losses = self._update(batch)
    else:
      losses = self._update_by_windows(batch)
    self.n_steps.assign_add(1)
    return losses

  @tf.function
  def _update(self, batch):
    with tf.GradientTape() as tape:
      _, losses = self.model(batch, return_losses=True, training=True)
    return self._apply(tape, losses)

  def _update_by_windows(self, batch):
    """Goes through a batch window by window; returns mean losses."""
    size, n_samples = self.tbptt_samples, batch['audio'].shape[1]
    settling = self.model.settling(n_samples)
    n_silent = -(-settling // size)  # windows that only settle the state
    if n_samples < (n_silent + 1) * size:
      raise ValueError(
        f'Crops of {n_samples} samples hold no window of tbptt_samples={size} '
        f'after {settling} samples in which the model settles. Take longer '
        'crops or shorter windows.'
      )
    state = self.model.initial_state(batch['audio'].shape[0])
    rows = []
    for window in range(n_samples // size):
      part = {
        key: value[:, window * size : (window + 1) * size]
        if key in ('audio', 'target')
        else value
        for key, value in batch.items()
      }
      if window < n_silent:
        state = self._settle(part, state)
      else:
        losses, state = self._update_window(part, state)
        rows.append(losses)
    return {key: tf.reduce_mean([r[key] for r in rows]) for key in rows[0]}

  @tf.function
  def _settle(self, part, state):
    return self.model.stream(state, part)[2]

  @tf.function
  def _update_window(self, part, state):
    with tf.GradientTape() as tape:
      _, losses, state = self.model.stream(state, part)
    return self._apply(tape, losses), state

  def _apply(self, tape, losses):
    """Updates the variables; returns the losses and the gradient's norm."""
    variables = self.model.trainable_variables
    gradients = tape.gradient(losses['total_loss'], variables)
    gradients, norm = tf.clip_by_global_norm(gradients, self.grad_clip_norm)
    # Adam is deaf to the size of a gradient: what is scaled is the update.
    scaled = [
      (factor, variable, tf.identity(variable))
      for name, factor in self.rate_multipliers.items()
      for variable in _node(self.model, name).trainable_variables
    ]
    self.optimizer.apply_gradients(zip(gradients, variables))
    for factor, variable, before in scaled:
      variable.assign(before + factor * (variable - before))
    return {**losses, 'gradient_norm': norm}

  @tf.function
  def validation_step(self, batch):
    """Returns {name of loss: value}, training nothing."""
    _, losses = self.model(batch, return_losses=True)
    return losses

  def validate(self, batches) -> dict[str, float]:
    """Returns the mean of each loss over batches of one size."""
    rows = [self.validation_step(batch) for batch in batches]
    return {k: float(np.mean([float(r[k]) for r in rows])) for k in rows[0]}

  def end_validation(self, loss: float) -> bool:
    """Takes a validation loss in; returns whether it is the best so far."""
    is_best = self.monitor.update(loss)
    if self.monitor.lower_rate():
      lower = max(
        self.learning_rate * self.plateau_factor, self.min_learning_rate
      )
      self.optimizer.learning_rate.assign(lower)
      logging.info('No new best: the learning rate is now %g.', lower)
    return is_best

  def save(self, folder) -> str:
    """Writes ckpt-<step> and deletes those that are too old.

    Args:
      folder: Where to.

    Returns:
      Path of the checkpoint.

    Raises:
      OSError: It cannot be written, for want of space for example. What was
        there before still is.
    """
    folder = pathlib.Path(folder)
    manager = self._manager(folder)
    try:
      return manager.save(checkpoint_number=self.step)
    except (tf.errors.OpError, OSError) as error:
      if manager.latest_checkpoint != str(folder / f'ckpt-{self.step}'):
        for leftover in folder.glob(f'ckpt-{self.step}.*'):
          leftover.unlink(missing_ok=True)
        shutil.rmtree(folder / f'ckpt-{self.step}_temp', ignore_errors=True)
      intact = self._newest_intact_checkpoint(folder)
      raise OSError(
        f'The checkpoint of step {self.step} could not be written to {folder}'
        f': {error}\n'
        + (f'{intact} is intact. ' if intact else 'There is no earlier one. ')
        + 'Free some space on the disk (or mend its permissions), and run '
        'the same command to go on.'
      ) from error

  def _manager(self, folder):
    return tf.train.CheckpointManager(
      self.checkpoint, os.fspath(folder), self.checkpoints_to_keep
    )

  @staticmethod
  def _newest_intact_checkpoint(folder) -> str | None:
    """Returns the newest checkpoint of a folder that can be read whole.

    Args:
      folder: Where checkpoints were saved; it need not exist.

    Returns:
      Its path; None if none was ever saved.

    Raises:
      ValueError: There are some, but none of them can be read.
    """
    state = tf.train.get_checkpoint_state(os.fspath(folder))
    paths = list(state.all_model_checkpoint_paths) if state else []
    for path in reversed(paths):
      try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
          reader.get_tensor(name)  # compares its checksum
      except (tf.errors.OpError, ValueError, IndexError) as error:
        logging.warning('%s cannot be read and is passed over: %s', path, error)
        continue
      return path
    if paths:
      raise ValueError(
        f'There are checkpoints in {folder}, but none of {", ".join(paths)} '
        'can be read. Choose another --save_dir, or delete this one to start '
        'over.'
      )
    return None

  def restore(self, folder) -> bool:
    """Goes on from the newest checkpoint of a folder that can be read.

    Call `build` before.

    Args:
      folder: Where checkpoints were saved; it need not exist.

    Returns:
      Whether there was one.

    Raises:
      ValueError: It is of another model, or all are damaged; nothing was
        written.
    """
    intact = self._newest_intact_checkpoint(folder)
    if intact is None:
      return False
    try:
      self._check_description(intact)
      self.checkpoint.restore(intact).assert_consumed()
    except (AssertionError, ValueError) as error:
      detail = str(error).strip().splitlines()[-1]
      raise ValueError(
        f'{intact} is of another model than the one that is set up now '
        f'({detail}). Choose another --save_dir, or the gin files that it '
        'was trained with (operative_config-*.gin beside it). Nothing in '
        'it was changed.'
      ) from error
    return True

  def _check_description(self, path):
    reader = tf.train.load_checkpoint(path)
    key = 'description/.ATTRIBUTES/VARIABLE_VALUE'
    saved = reader.get_tensor(key) if reader.has_tensor(key) else b'not said'
    saved, ours = saved.decode(), self.description.numpy().decode()
    if saved != ours:
      raise ValueError(f'its plugins are {saved}; those set up are {ours}')


def _describe(model) -> str:
  """Says which plugins and controls a model's variables belong to."""
  plugins = {
    p.name: {'uri': p.uri, 'trainable': list(p.symbols)}
    for p in getattr(model, 'driven', {}).values()
    if hasattr(p, 'uri')
  }
  return json.dumps(plugins)


def _summarize(writer, trainer, losses, seconds_per_step, wait_fraction):
  with writer.as_default(step=trainer.step):
    for name, value in losses.items():
      tf.summary.scalar(f'losses/{name}', value)
    tf.summary.scalar('seconds_per_step', seconds_per_step)
    tf.summary.scalar('data_wait_fraction', wait_fraction)
    tf.summary.scalar('learning_rate', trainer.learning_rate)
    for processor in getattr(trainer.model, 'driven', {}).values():
      # Empty unless the processor has log_gradients.
      for name, value in getattr(processor, 'gradient_stats', {}).items():
        tf.summary.scalar(f'gradients/{processor.name}/{name}', value)


def _summarize_examples(writer, trainer, batch, losses, n_examples=2):
  """Writes validation losses, and what the first items look and sound like."""
  model = trainer.model
  outputs = model(batch)
  audio = model.get_audio_from_outputs(outputs).numpy()
  versions = {
    'before': batch['audio'].numpy(),
    'target': batch['target'].numpy(),
    'after': audio,
  }
  with writer.as_default(step=trainer.step):
    for name, value in losses.items():
      tf.summary.scalar(f'losses/{name}', value)
    for item in range(min(n_examples, len(audio))):
      item_versions = {k: v[item] for k, v in versions.items()}
      for name, samples in item_versions.items():
        channels = samples.reshape(1, len(samples), -1)
        tf.summary.audio(
          f'audio_{item}/{name}',
          channels.clip(-1, 1),
          int(model.sample_rate),
        )
      figure = plotting.spectrograms(item_versions, int(model.sample_rate))
      tf.summary.image(
        f'spectrograms/{item}', plotting.figure_to_array(figure)[None]
      )
    port_values = model.port_values(outputs)
    for processor in model.driven.values():
      values = port_values[processor.name].numpy()
      for i, symbol in enumerate(processor.symbols):
        tf.summary.histogram(
          f'controls/{processor.name}/{symbol}', values[..., i]
        )
      n_frames = values.shape[1]
      seconds = batch['audio'].shape[1] / model.sample_rate
      figures = plotting.plugin_figures(
        processor, values[0], np.arange(n_frames) * seconds / n_frames
      )
      image = plotting.stack_figures(figures)
      tf.summary.image(f'controls/{processor.name}', image[None])


@gin.configurable(module='dafx.training')
def train(
  data_provider=gin.REQUIRED,
  valid_provider=None,
  trainer=gin.REQUIRED,
  batch_size: int = 8,
  num_steps: int = 1000,
  steps_per_summary: int = 20,
  steps_per_validation: int = 100,
  steps_per_save: int = 100,
  early_stop_loss_value: float | None = None,
  seed: int = 0,
  save_dir: str = '',
  restore_dir: str = '',
):
  """Trains until the last step, or until the validation loss says stop.

  A run that is interrupted is saved at its last step; the same call goes on
  from there, with the same result as if it had not been interrupted.

  Args:
    data_provider: Gives the batches to train on; see `data`.
    valid_provider: Gives those to validate on; None for no validation.
    trainer: The Trainer.
    batch_size: Items per step.
    num_steps: Steps in all, those before a resume included.
    steps_per_summary: Steps between entries in TensorBoard.
    steps_per_validation: Steps between validations.
    steps_per_save: Steps between checkpoints.
    early_stop_loss_value: Training loss below which to stop.
    seed: Seed of the data's order.
    save_dir: Where checkpoints, gin configuration and summaries go; '' writes
      nothing. A run that is there is resumed.
    restore_dir: Where to take a trained model from, if save_dir holds none.

  Returns:
    {'step': [...], name of loss: [...], 'valid_step': [...], 'valid_' + name of
    loss: [...]}, from the start or resume on.

  Raises:
    ValueError: save_dir holds another model, or restore_dir no model.
    DivergedError: The loss is not finite; the last checkpoint is good.
    KeyboardInterrupt: Ctrl-C, after the step was ended and saved.
    OSError: A checkpoint could not be written.
  """
  trainer.build(next(iter(data_provider.get_batch(batch_size, seed=seed))))
  folder = pathlib.Path(save_dir).expanduser() if save_dir else None
  if folder is not None and trainer.restore(folder):
    logging.info('Resuming %s at step %d.', folder, trainer.step)
  elif restore_dir:
    if not trainer.restore(pathlib.Path(restore_dir).expanduser()):
      raise ValueError(f'--restore_dir={restore_dir} holds no checkpoint.')
    logging.info('Starting from %s, step %d.', restore_dir, trainer.step)

  writers = {}
  if folder is not None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ('train', 'valid'):
      writers[name] = tf.summary.create_file_writer(
        str(folder / 'summaries' / name)
      )
  valid_batches = []
  if valid_provider is not None:
    valid_batches = list(
      valid_provider.get_batch(batch_size, shuffle=False, repeats=1)
    )

  history = {}

  def note(prefix, losses):
    for name, value in {'step': trainer.step, **losses}.items():
      history.setdefault(prefix + name, []).append(value)

  def save():
    if folder is not None:
      trainer.save(folder)

  batches = data.TimedIterator(
    data_provider.get_batch(batch_size, first_step=trainer.step, seed=seed)
  )
  progress = train_util.Progress(num_steps, trainer.step, 'Training')
  recent, since = [], time.monotonic()
  try:
    with train_util.deferred_interrupts() as interrupted:
      # A run that stopped early and is called again stays where it is.
      while trainer.step < num_steps and not trainer.monitor.should_stop:
        losses = trainer.train_step(next(batches))
        losses = {name: float(value) for name, value in losses.items()}
        recent.append(losses)
        note('', losses)
        if len(history['step']) == 1:
          batches.reset()  # the first step is traced, the first batch awaited
        if not np.isfinite([*losses.values()]).all():
          raise DivergedError(
            f'The loss at step {trainer.step} is {losses}. '
            + (
              f'The checkpoints in {folder} are from before. ' if folder else ''
            )
            + 'Lower dafx.training.Trainer.learning_rate or .grad_clip_norm.'
          )
        progress.update(f'loss {losses["total_loss"]:.4f}')
        step = trainer.step
        if folder is not None and len(history['step']) == 1:
          train_util.write_operative_config(folder, step - 1)

        if step % steps_per_summary == 0 and writers:
          seconds = (time.monotonic() - since) / len(recent)
          means = {k: np.mean([r[k] for r in recent]) for k in recent[0]}
          _summarize(
            writers['train'], trainer, means, seconds, batches.wait_fraction
          )
          recent, since = [], time.monotonic()
        is_last = step == num_steps
        if valid_batches and (step % steps_per_validation == 0 or is_last):
          valid_losses = trainer.validate(valid_batches)
          note('valid_', valid_losses)
          is_best = trainer.end_validation(valid_losses['total_loss'])
          logging.info(
            'Step %d: validation loss %.4f%s',
            step,
            valid_losses['total_loss'],
            ', the best so far' if is_best else '',
          )
          if writers:
            _summarize_examples(
              writers['valid'], trainer, valid_batches[0], valid_losses
            )
          if is_best and folder is not None:
            trainer.save(folder / 'best')
        if step % steps_per_save == 0 or is_last:
          save()
        if interrupted.is_set():
          save()
          logging.info(
            'Interrupted at step %d%s.',
            step,
            f'; the same command goes on from {folder}' if folder else '',
          )
          raise KeyboardInterrupt
        stop_value = early_stop_loss_value
        low = stop_value is not None and losses['total_loss'] <= stop_value
        if low or trainer.monitor.should_stop:
          logging.info('Stopping early at step %d.', step)
          save()
          break
  finally:
    progress.close()
    if batches.n_items:
      logging.info(
        'Steps waited %.1f %% of the time for data.',
        100 * batches.wait_fraction,
      )
    for writer in writers.values():
      writer.close()
  return history
