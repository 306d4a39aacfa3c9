"""Validations: what a model makes of items that it is not trained on."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from dafx.training.models import judging


def validate(
  trainer,
  batches: Iterable[Mapping[str, tf.Tensor]],
  name_item: Callable[[int], str] = str,
) -> dict[str, float]:
  """Returns means of losses and figures; see `Trainer.validate`.

  Args:
    trainer: The Trainer.
    batches: Features, {'audio', 'target', ...}.
    name_item: Names an item by its place in all the batches.
  """
  workers, crashes, model = trainer.workers, trainer.crashes, trainer.model
  workers.synchronise(model.variables)
  found = workers.attempt(_validate_part, trainer, batches, name_item)
  said = workers.exchange([found, crashes.take_news()])
  for index, (_, news) in enumerate(said):
    if index != workers.index:
      crashes.add_news(news)
  # In the order of the items: batch by batch, worker by worker.
  rows = [row for each, _ in said for row in each if row['n_items']]
  rows.sort(key=lambda row: row['number'])
  if not rows:
    return {}
  sizes = [row['n_items'] for row in rows]
  means = {
    key: float(np.average([r['losses'][key] for r in rows], weights=sizes))
    for key in rows[0]['losses']
  }
  judged = [values for row in rows for values in row['judged']]
  return {**means, **model.judge_rows(judged)}


def _validate_part(trainer, batches, name_item):
  """Returns what this worker's batches give to a validation."""
  found: list[dict[str, Any]] = []
  for number, batch in enumerate(batches):
    if not found:  # of all batches but the last one
      n_items = trainer.workers.n_items or batch['audio'].shape[0]
    first = trainer.workers.place(number, n_items)
    named = functools.partial(_name_behind, name_item, first)
    found.append(_validate_batch(trainer, number, batch, named))
  return found


def _validate_batch(trainer, number, whole, name_item):
  """Returns what a batch gives to a validation, as JSON can hold it."""
  found = trainer.crashes.leave_out(trainer.validation_step, whole, name_item)
  if found is None:
    return {'number': number, 'n_items': 0}
  batch, (losses, audio) = found
  start = trainer.model.settling(batch['audio'].shape[1])
  sides = (batch['audio'], batch['target'], audio)
  judged = []
  if trainer.model.judged_by != judging.LOSS:
    items = zip(*(side.numpy()[:, start:] for side in sides), strict=True)
    judged = [trainer.model.judge_row(item) for item in items]
  return {
    'number': number,
    'n_items': batch['audio'].shape[0],
    'losses': {key: float(value) for key, value in losses.items()},
    'judged': judged,
  }


def _name_behind(name_item, n_before, place):
  return name_item(n_before + place)
