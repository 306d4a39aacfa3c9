"""A run under way."""

import contextlib
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf
from absl import logging

from dafx.training import data, gin_files
from dafx.training.models import judging
from dafx.training.trainers import summaries
from dafx.training.trainers import trainer as trainer_lib


class DivergedError(ArithmeticError):
  """The loss is not a number any more."""


class Run:
  """A run under way: its steps and what is noted, shown and saved of them.

  Args:
    trainer: The Trainer, which is built.
    folder: Where checkpoints and summaries go, a path; None for nowhere.
    batches: A `data.TimedIterator` of batches to train on.
    valid_batches: Batches to validate on, a dataset, or None.
    name_item: Names the items of all batches from step 0 on, by their place; as
      `Provider.name_at`.
    name_valid_item: The same of the validation.
    is_asked_to_stop: Says whether this process was, by a signal.

  Attributes:
    history: Values of each step and validation by name, in order.

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
    >>> batches = data.TimedIterator(sines.get_batch(2))
    >>> trainer.build(next(batches))
    >>> run = trainers.Run(trainer, None, batches, valid_batches=None)
    >>> loss = run.take_step()
    >>> run.history['step'], run.history['total_loss'] == [loss]
    ([1], True)
  """

  def __init__(
    self,
    trainer: trainer_lib.Trainer,
    folder: pathlib.Path | None,
    batches: data.TimedIterator,
    valid_batches: Iterable | None,
    name_item: Callable[[int], str] = str,
    name_valid_item: Callable[[int], str] = str,
    is_asked_to_stop: Callable[[], bool] = lambda: False,
  ):
    self.trainer = trainer
    # The chief writes; the others take part where variables are read together.
    self._is_saved = folder is not None
    self.folder = folder = folder if trainer.workers.is_chief else None
    self.is_asked_to_stop = is_asked_to_stop
    self.batches = batches
    self.valid_batches = valid_batches
    self._name_item = name_item
    self._name_valid_item = name_valid_item
    self.history: dict[str, list] = {}
    # Step of the newest checkpoint, by subfolder.
    self._saved: dict[str, int] = {}
    # Losses since the last summary, and when that was.
    self._recent: list[dict[str, float]] = []
    self._since = time.monotonic()
    self._is_warned = False
    self.writers = {}
    if folder is not None:
      folder.mkdir(parents=True, exist_ok=True)
      for name in ('train', 'valid'):
        self.writers[name] = tf.summary.create_file_writer(
          str(folder / 'summaries' / name)
        )

  def _note(self, prefix, losses):
    for name, value in {'step': self.trainer.step, **losses}.items():
      self.history.setdefault(prefix + name, []).append(value)

  def take_step(self) -> float | None:
    """Takes a step; returns its loss, or None where no item was left."""
    try:
      batch = next(self.batches)
    except Exception as error:
      self.trainer.workers.tell_fault(error)
      raise
    n_items = next(iter(batch.values())).shape[0]
    first = self.trainer.workers.place(self.trainer.step, n_items)
    found = self.trainer.train_step(
      batch,
      lambda place: self._name_item(first + place),
      self.is_asked_to_stop,
    )
    if found is None:
      return None
    losses = {name: float(value) for name, value in found.items()}
    self._recent.append(losses)
    self._note('', losses)
    if len(self.history['step']) == 1:
      self.batches.reset()  # the first step is traced, the first batch awaited
    if not np.isfinite([*losses.values()]).all():
      raise self._diverged(f'the loss is {losses}')
    if self.folder is not None and len(self.history['step']) == 1:
      gin_files.write_operative_config(self.folder, self.trainer.step - 1)
    return losses['total_loss']

  @property
  def is_to_stop(self) -> bool:
    """Whether a signal has asked this process, or another worker, to stop."""
    workers = self.trainer.workers
    if workers.n_workers > 1:
      return workers.is_to_stop  # what all of them know
    return self.is_asked_to_stop()

  def summarize(self):
    """Writes the means since the last time."""
    if not (self.writers and self._recent):
      return
    recent, self._recent = self._recent, []
    seconds = (time.monotonic() - self._since) / len(recent)
    self._since = time.monotonic()
    means = {k: np.mean([row[k] for row in recent]) for k in recent[0]}
    summaries.write_steps(
      self.writers['train'],
      self.trainer,
      means,
      seconds,
      self.batches.wait_fraction,
    )

  def validate(self):
    """Validates, and keeps the best so far."""
    if self.valid_batches is None:
      return
    losses = self.trainer.validate(self.valid_batches, self._name_valid_item)
    if not losses:
      return
    self._note('valid_', losses)
    judged_by = self.trainer.model.judged_by
    decisive = 'figure' if 'figure' in losses else 'total_loss'
    if judged_by != judging.LOSS and decisive == 'total_loss':
      self._warn_of_no_figure(judged_by)
    if self.folder is not None:
      row = {name: values[-1] for name, values in self.history.items()}
      row['step'] = row.pop('valid_step')
      row['learning_rate'] = self.trainer.learning_rate
      row['stage'] = self.trainer.stage
      summaries.append_history(self.folder, row)
    is_best = self.trainer.end_validation(losses[decisive])
    named = 'loss' if decisive == 'total_loss' else f'figure ({judged_by})'
    logging.info(
      'Step %d: validation %s %.4f%s',
      self.trainer.step,
      named,
      losses[decisive],
      ', the best so far' if is_best else '',
    )
    if self.writers:
      summaries.write_examples(
        self.writers['valid'],
        self.trainer,
        next(iter(self.valid_batches)),
        losses,
        self.folder,
      )
    if is_best:
      self.save('best')

  def _warn_of_no_figure(self, judged_by):
    """Says once that the loss decides, because no item has a figure."""
    if self._is_warned:
      return
    self._is_warned = True
    logging.warning(
      'No item of the validation can be judged by %s: targets are silent, too '
      'short, or equal to the input. The loss decides.',
      judged_by,
    )

  def save(self, subfolder: str = ''):
    """Saves a checkpoint, if there is a folder for it."""
    step = self.trainer.step
    if not self._is_saved or self._saved.get(subfolder) == step:
      return
    self._saved[subfolder] = step
    if self.folder is not None:
      self.trainer.save(self.folder / subfolder)
      return
    # Reading a moving average takes all workers; the chief's file counts.
    with tempfile.TemporaryDirectory(prefix='dafx-') as folder:
      self.trainer.save(folder)

  @contextlib.contextmanager
  def saved_at_faults(self) -> Iterator[None]:
    """Saves the run before a fault ends it.

    A step that fails has changed no weights, so the newest checkpoint is that
    of the step before. Weights that are not finite are not saved.
    """
    try:
      yield
    except (DivergedError, KeyboardInterrupt):
      raise  # nothing to save; saved already
    except Exception as error:
      if not self.trainer.workers.is_agreed:
        raise  # the others are not at this step
      weights = [
        tf.convert_to_tensor(w)
        for w in self.trainer.model.variables
        if w.dtype.is_floating
      ]
      if not all(np.isfinite(w).all() for w in weights):
        raise self._diverged('weights are not finite') from error
      if self.history:
        self.save()
      raise

  def _diverged(self, what):
    """Returns the error for a training that went out of bounds."""
    self.trainer.workers.agree_to_end()
    before = f'The checkpoints in {self.folder} are from before. '
    return DivergedError(
      f'Training diverged at step {self.trainer.step}: {what}. '
      + (before if self.folder else '')
      + 'Lower dafx.training.Trainer.learning_rate or .grad_clip_norm.'
    )

  def interrupt(self):
    """Ends the run after Ctrl-C or a signal: saves it, says how it goes on.

    Raises:
      KeyboardInterrupt: Always.
    """
    self.save()
    self.trainer.workers.agree_to_end()
    goes_on = f'; the same command goes on from {self.folder}'
    logging.info(
      'Interrupted at step %d%s.',
      self.trainer.step,
      goes_on if self.folder is not None else '',
    )
    raise KeyboardInterrupt

  def close(self):
    """Says how long steps waited and what was left out; closes summaries."""
    self.trainer.crashes.report()
    if self.batches.n_items:
      logging.info(
        'Steps waited %.1f %% of the time for data.',
        100 * self.batches.wait_fraction,
      )
    for writer in self.writers.values():
      writer.close()
