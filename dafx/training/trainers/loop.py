"""The loop around the trainer."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Sequence

import gin
import tensorflow as tf
from absl import logging

from dafx import _arguments, _folders, core, processors
from dafx.audio import disk
from dafx.training import checkpoints, data, gin_files, signals
from dafx.training import progress as progress_bar
from dafx.training.data import positions
from dafx.training.trainers import agreement
from dafx.training.trainers import run as runs
from dafx.training.trainers import stages as stages_lib
from dafx.training.trainers import trainer as trainer_lib

_ADVICE = (
  'Ctrl-C saves, and the same command goes on later. It takes less with fewer '
  'steps (dafx.training.train.num_steps, or .stages), a smaller network, or a '
  'task whose name ends in _demo.gin.'
)


def _build(trainer, batches):
  """Makes all variables, and says how many parameters there are."""
  logging.info('Reading the first batch of the training data.')
  first_batch = next(iter(batches))
  logging.info('Building the model.')
  trainer.build(first_batch)
  for name, part in trainer.model.parts().items():
    count = sum(int(tf.size(v)) for v in part.trainable_variables)
    logging.info('The %s has %s trainable parameters.', name, f'{count:,}')


def _tell_nodes(model, seed, workers):
  """Gives nodes the seed of what they draw, and who shares their batches."""
  for node in processors.nodes(model.processor_group).values():
    for member in {id(n): n for n in (node, *node.members)}.values():
      member.run_seed = seed
      member.workers = workers


def _take_up(trainer, folder, restore_dir):
  """Restores what is there of a run, or begins a new one."""
  if folder is not None and trainer.restore(folder):
    logging.info('Resuming %s at step %d.', folder, trainer.step)
    gin_files.warn_of_old_run(folder)
  elif restore_dir:
    checkpoints.restore_weights(trainer.model, restore_dir)
    trainer.model.start(has_weights=True)
    trainer.begin_average()
  else:
    trainer.model.start()


def _read_validation(provider, batch_size, margin, part):
  """Returns the batches to validate on, all of which can be read, or None."""
  if provider is None:
    return None

  def batches_of(size):
    return provider.get_batch(
      size, shuffle=False, repeats=1, margin=margin, part=part
    )

  batches = batches_of(batch_size)
  logging.info('Reading the validation data.')
  # What cannot be read is known before training.
  n_items = sum(len(batch['audio']) for batch in batches)
  if part[1] > 1 or n_items <= batch_size:
    return batches
  # A graph is traced for each size of a batch: better all of one size.
  even = [
    size
    for size in range(batch_size, batch_size // 2, -1)
    if n_items % size == 0
  ]
  return batches_of(even[0]) if even else batches


def _names_of_validation(provider):
  """Returns what names the items that are validated on, by their place."""
  if provider is None:
    return str
  return functools.partial(provider.name_at, shuffle=False)


def _go_on(run, plan, progress):
  """Keeps what a stage ends with, and begins the next one."""
  model = run.trainer.model
  run.save(plan.name)
  plan.go_on()
  run.trainer.set_length(plan.n_stage_steps, plan.is_last)
  step = run.trainer.step
  logging.info(
    'Step %d: from now on %d plugins%s.',
    step,
    model.n_plugins,
    '' if model.is_single else ', and the network is heard',
  )
  progress.restart('tracing a step with them')


@gin.configurable(module='dafx.training')
def train(
  data_provider: data.Provider = gin.REQUIRED,
  valid_provider: data.Provider | None = None,
  trainer: trainer_lib.Trainer = gin.REQUIRED,
  batch_size: int = 8,
  num_steps: int = 1000,
  stages: Sequence[tuple[int, int]] = (),
  single_fraction: float = 0.0,
  steps_per_summary: int = 20,
  steps_per_validation: int = 100,
  steps_per_save: int = 100,
  early_stop_loss_value: float | None = None,
  seed: int = 0,
  save_dir: str = '',
  restore_dir: str = '',
) -> dict[str, list]:
  """Trains until the last step, or until validation says stop.

  A run that is interrupted is saved at its last step; the same call goes on
  from there, with the same result as if it had not been interrupted.

  Args:
    data_provider: Gives the batches to train on; see `data`.
    valid_provider: Gives those to validate on; None for no validation.
    trainer: The Trainer.
    batch_size: Items per step.
    num_steps: Steps in all, those before a resume included.
    stages: (number of plugins, number of steps) of each stage, in place of
      num_steps: the first plugins of the DAG are trained first, then more. A
      stage ends after its steps, or when its validation says stop. What it
      ends with is kept in <save_dir>/stage_<number of plugins>.
    single_fraction: Part of num_steps, at the start, in which the encoder is
      not heard and one setting for all is learned: the network then begins at
      the best single setting, and adds to it. What this stage ends with is kept
      in <save_dir>/single. Not with `stages`.
    steps_per_summary: Steps between entries in TensorBoard.
    steps_per_validation: Steps between validations.
    steps_per_save: Steps between checkpoints.
    early_stop_loss_value: Training loss below which to stop.
    seed: Seed of the data's order, and of what the nodes of the graph draw.
    save_dir: Where checkpoints, gin configuration and summaries go; '' writes
      nothing. A run that is there is resumed.
    restore_dir: Where to take trained weights from, if save_dir holds no run.
      What does not fit is named, and the run begins at step 0.

  Returns:
    {'step': [...], name of loss: [...], 'valid_step': [...], 'valid_' + name of
    loss: [...]}, from the start or resume on.

  Raises:
    ValueError: save_dir holds another model, or restore_dir none; or what
      must agree does not: rates, features, stages; or a number that none of
      its kind can be.
    DivergedError: The loss is not finite; the last checkpoint is good.
    lv2.CrashError: A plugin crashed or hung for the third time with the same
      file, in a process of its own; the run is saved. Before, such an item is
      left out of its step.
    KeyboardInterrupt: Ctrl-C, SIGTERM, SIGUSR1 or SIGHUP, after the step was
      ended and saved.
    OSError: A checkpoint could not be written, or another training is at work
      in save_dir.

  Examples:
    >>> import ddsp
    >>> import numpy as np
    >>> from dafx import losses, neural
    >>> from dafx.training import data, models, trainers
    >>> network = neural.Rnn(n_units=4, seed=0)
    >>> group = ddsp.processors.ProcessorGroup(dag=[(network, ['audio'])])
    >>> model = models.EffectModel(group, [losses.EsrLoss()], 16000)
    >>> dry = np.sin(np.arange(8000) / 9).astype(np.float32)
    >>> recording = ('sine', dry, np.tanh(dry), np.zeros(0), '')
    >>> sines = data.Recordings([recording], (), 16000, n_samples=1000)
    >>> trainer = trainers.Trainer(model, learning_rate=1e-2)
    >>> try:
    ...   history = trainers.train(sines, None, trainer, num_steps=3)
    ... except trainers.DivergedError as error:
    ...   print(error)
    >>> history['step']
    [1, 2, 3]
  """
  model = trainer.model
  num_steps, seed = _arguments.whole(0, num_steps=num_steps, seed=seed)
  batch_size = _arguments.whole(1, batch_size=batch_size)[0]
  every = _Intervals(steps_per_summary, steps_per_validation, steps_per_save)
  providers = [p for p in (data_provider, valid_provider) if p is not None]
  agreement.check_agreement(model, providers, stages, single_fraction)
  workers = trainer.workers
  positions.check_parts(batch_size, workers.n_workers)
  workers.n_items = batch_size // workers.n_workers
  _tell_nodes(model, seed, workers)
  margin, part = model.margin, workers.part
  folder = _place_of(save_dir)
  with contextlib.ExitStack() as stack:
    stack.enter_context(core.raising_faults())
    if folder is not None and workers.is_chief:
      stack.enter_context(disk.locked(folder, 'training'))
    agreement.check_workers(workers, model, providers, seed)
    agreement.check_folder(workers, folder)
    batches = data_provider.get_batch(
      batch_size, seed=seed, margin=margin, part=part
    )
    _build(trainer, batches)
    _take_up(trainer, folder, restore_dir)
    stack.callback(trainer.show_average)
    agreement.check_step(workers, trainer.step)
    valid_batches = _read_validation(valid_provider, batch_size, margin, part)
    batches = data_provider.get_batch(
      batch_size, first_step=trainer.step, seed=seed, margin=margin, part=part
    )
    interrupted = stack.enter_context(signals.deferred_signals())
    run = runs.Run(
      trainer,
      folder,
      data.TimedIterator(batches),
      valid_batches,
      functools.partial(data_provider.name_at, seed=seed),
      _names_of_validation(valid_provider),
      interrupted.is_set,
    )
    stack.callback(run.close)
    plan = stages_lib.Stages(trainer, stages, num_steps, single_fraction)
    plan.start(folder)
    trainer.set_length(plan.n_stage_steps, plan.is_last)
    progress = progress_bar.Progress(
      plan.n_steps, trainer.step, 'Training', unit='step', advice=_ADVICE
    )
    stack.callback(progress.close)
    with run.saved_at_faults():
      _take_steps(run, plan, progress, every, early_stop_loss_value)
  return run.history


@dataclasses.dataclass(frozen=True)
class _Intervals:
  """Steps between what a training does besides."""

  summary: int
  validation: int
  save: int

  def __post_init__(self):
    names = {f'steps_per_{key}': n for key, n in vars(self).items()}
    _arguments.whole(1, **names)


def _place_of(save_dir):
  """Returns the folder of a run, to which TensorFlow can write; or None."""
  if not save_dir:
    return None
  _folders.check_is_text(save_dir, 'save_dir')
  return _folders.expand_user(save_dir)


def _tell_if_over(trainer, plan, folder):
  """Says why a run that goes on takes no step."""
  if not (trainer.step and plan.is_over and plan.is_last):
    return
  place = '' if folder is None else f' in {folder}'
  why = 'It was stopped early, as validation went; begin a new run to train on.'
  if not trainer.monitor.should_stop:
    why = (
      f'dafx.training.train.{plan.option}, {plan.n_steps} in all, counts these '
      f'too: set more than {trainer.step} to train on.'
    )
  logging.warning(
    'The run%s has %d steps already, and no step is taken. %s',
    place, trainer.step, why,
  )  # fmt: skip


def _take_steps(run, plan, progress, every, stop_value):
  """Trains until the last stage is over, or something says stop."""
  trainer = run.trainer
  _tell_if_over(trainer, plan, run.folder)
  stop_value = -math.inf if stop_value is None else stop_value
  progress.say('tracing the first step')
  # A run that stopped early and is called again stays where it is.
  while True:
    if plan.is_over:
      if plan.is_last:
        return
      _go_on(run, plan, progress)
      continue
    loss = run.take_step()
    progress.update('no item left' if loss is None else f'loss {loss:.4f}')
    step = trainer.step
    if step % every.summary == 0:
      run.summarize()
    if step % every.validation == 0 or plan.is_over:
      if run.valid_batches is not None:
        progress.say('validating')
      run.validate()
    if step % every.save == 0 or plan.is_over:
      run.save()
    if run.is_to_stop:
      run.interrupt()
    is_enough = loss is not None and loss <= stop_value
    if is_enough or trainer.monitor.should_stop:
      logging.info('Stopping early at step %d.', step)
    if is_enough:
      run.save()
      return
