"""Steps that several processes take together."""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from absl import logging

from dafx import core, lv2
from dafx.training.trainers import crashes as crashes_lib
from dafx.training.trainers import steps
from dafx.training.trainers import team as team_lib


class TeamSteps(steps.Steps):
  """Takes steps together with the other workers.

  Each finds the gradients of its items by itself, so that a plugin's crash and
  any other fault stay its own until all have told. Then gradients are averaged
  over items, clipped and applied on all. In windows this is so for each window:
  where a plugin of one worker crashes in one, all begin the step anew.

  Args:
    team: The workers.
    **kwargs: As of `Steps`.
  """

  def __init__(self, team: team_lib.Team, **kwargs):
    super().__init__(**kwargs)
    self._team = team
    # Losses of this step so far: of windows, or of all; and the first of them
    # that is not finite.
    self._n_losses = 0
    self._diverged_at = math.inf
    # In windows: what this worker has of the batch, and what all said last.
    self._left: crashes_lib.Left | None = None
    self._said: list[dict] = []

  def take_together(
    self,
    batch: Mapping[str, tf.Tensor],
    kind: steps.Kind,
    crashes: crashes_lib.Crashes,
    name_item,
    is_asked_to_stop,
  ) -> dict[str, float] | None:
    """Takes one step; see `Trainer.train_step`.

    Args:
      batch: This worker's part.
      kind: What is trained.
      crashes: What is done about them.
      name_item: Names an item by its place in the part.
      is_asked_to_stop: Whether this worker was asked to; the team then knows.

    Raises:
      WorkerError: Another worker has ended, or its step has failed.
    """
    with steps.unchanged_at_faults(self.changed_variables()):
      return self._take(batch, kind, crashes, name_item, is_asked_to_stop)

  def _take(self, batch, kind, crashes, name_item, is_asked_to_stop):
    self._n_losses, self._diverged_at = 0, math.inf
    found: tuple | None = None
    fault: Exception | None = None
    if self.tbptt_samples is not None:
      found = self._take_windows(
        crashes.begin(batch, name_item), self.tbptt_samples
      )
    else:
      try:
        with core.raising_faults():
          found = crashes.leave_out(
            lambda part: self._find_or_leave(part, kind), batch, name_item
          )
        if found is not None:
          self._note_loss(found[1][0])
      except Exception as error:  # told to all, and raised below
        fault = error
    said = self._team.exchange(
      self._report(found, fault, crashes, is_asked_to_stop)
    )
    self._hear(said, fault, crashes)
    self._warn_of_diverged(said)
    n_items = [each['n_items'] for each in said]
    if not sum(n_items):
      return None
    losses = _mean_losses(said, n_items)
    if self.tbptt_samples is None:
      gradients = {} if found is None else found[1][1]
      losses['gradient_norm'] = float(self._apply_said(gradients, said))
    return losses

  def _take_windows(self, left, size):
    """Takes a step window by window; returns what `_report` takes of it.

    All begin it anew, from the variables before, where one of them has had to
    leave an item out. A worker with no item left goes along without gradients.
    """
    self._left, self._said = left, []
    while not self._said or sum(each['n_items'] for each in self._said):
      self._n_losses, self._diverged_at = 0, math.inf
      with (
        contextlib.suppress(_BeginAnewError),
        steps.unchanged_at_faults(self.changed_variables()),
      ):
        losses = self._update_by_windows(left.batch, size)
        return (left.batch, (losses, {})) if left.n_items else None
    return None

  def _report(self, found, fault, crashes, is_asked_to_stop):
    """Returns what the others are told of a step."""
    report: dict[str, Any] = {
      'n_items': 0,
      'stop': bool(is_asked_to_stop()),
      'crashes': crashes.take_news(),
      'diverged_at': self._diverged_at,
      **team_lib.report_of(fault),
    }
    if found is not None:
      part, (losses, gradients) = found
      report['n_items'] = int(next(iter(part.values())).shape[0])
      report['losses'] = {key: float(value) for key, value in losses.items()}
      report['gradients'] = list(gradients)
    return report

  def _hear(self, said, fault, crashes):
    """Takes in what all have told of a step; raises what ends it."""
    team = self._team
    for index, each in enumerate(said):
      # One whose batch cannot be read tells its fault alone.
      if index != team.index and not each['fault']:
        crashes.add_news(each['crashes'])
    team.end_at_faults(said, fault)
    team.is_to_stop = any(each['stop'] for each in said)

  def _note_loss(self, losses):
    """Notes the first losses of a step that are not finite."""
    self._n_losses += 1
    if not math.isfinite(float(losses['total_loss'])):
      self._diverged_at = min(self._diverged_at, self._n_losses)

  def _warn_of_diverged(self, said):
    """Names the workers whose loss was the first that is not finite."""
    first = min(each['diverged_at'] for each in said)
    if first < math.inf:
      names = [
        self._team.name(index)
        for index, each in enumerate(said)
        if each['diverged_at'] == first
      ]
      logging.warning('The loss is not finite on %s.', ', '.join(names))

  def local(self, variables):
    """Returns this replica's copies of variables; see `Steps`."""
    local = self._team.strategy.experimental_local_results
    return [local(variable)[0] for variable in variables]

  def _find_or_leave(self, part, kind):
    """Finds gradients; where that fails, variables are as before."""
    with steps.unchanged_at_faults(self.changed_variables()):
      return self._find(part, kind)

  @steps.graph
  def _find(self, batch, kind):
    del kind  # not a tensor: each kind has a graph of its own
    return self._team.strategy.run(self._gradients_of, args=(batch,))

  def _complete(self, gradients, keys):
    """Returns gradients of all keys: zeros where no item is left."""
    variables = self.model.trainable_variables
    return {
      key: gradients.get(key, tf.zeros(variables[int(key)].shape))
      for key in keys
    }

  @steps.graph
  def _apply_shared(self, gradients, share):
    def apply(gradients, share):
      context = tf.distribute.get_replica_context()
      keys = sorted(gradients)
      summed = context.all_reduce(
        tf.distribute.ReduceOp.SUM, [share * gradients[key] for key in keys]
      )
      return self._apply(dict(zip(keys, summed, strict=True)))

    return self._team.strategy.run(apply, args=(gradients, share))

  @steps.graph
  def _run_window(self, part, state):
    def run(part, state):
      return self.model.stream(state, part)[1:]

    return self._team.strategy.run(run, args=(part, state))

  @steps.graph
  def _settle(self, part, state):
    def settle(part, state):
      return self.model.stream(state, part)[2]

    return self._team.strategy.run(settle, args=(part, state))

  def _update_first_window(self, *parts):
    if self.model.learns_start:
      return self._update_if_all_find(self._find_from_start, *parts)
    return self._update_if_all_find(self._find_of_first, *parts)

  def _find_of_first(self, *parts):
    return self._find_of_window(parts[-1], self._settle_before(parts))

  def _update_window(self, part, state):
    return self._update_if_all_find(self._find_of_window, part, state)

  def _update_if_all_find(self, find, *args):
    """Updates by gradients of a window once all workers have found theirs."""
    assert self._left is not None
    losses, gradients, state = {}, {}, None
    fault: Exception | None = None
    is_again = False
    try:
      if self._left.n_items:
        with core.raising_faults():
          losses, gradients, state = find(*args)
        self._note_loss(losses)
    except lv2.CrashError as error:
      fault = self._leave_out(error)
      is_again = fault is None
    except Exception as error:  # told to all, and raised below
      fault = error
    report = {
      'n_items': self._left.n_items,
      'gradients': list(gradients),
      'again': is_again,
      **team_lib.report_of(fault),
    }
    self._said = self._team.exchange(report)
    self._team.end_at_faults(self._said, fault)
    if any(each['again'] for each in self._said):
      raise _BeginAnewError
    return {
      **losses,
      'gradient_norm': self._apply_said(gradients, self._said),
    }, state

  def _leave_out(self, error):
    """Leaves out the item of a crash; returns what ends all, if it does."""
    assert self._left is not None
    try:
      self._left.leave_out(error)
    except lv2.CrashError as fault:
      return fault
    return None

  def _apply_said(self, gradients, said):
    """Updates by the mean of gradients over the items that all have told of."""
    n_items = [each['n_items'] for each in said]
    keys = next(each['gradients'] for each in said if each['n_items'])
    share = n_items[self._team.index] / sum(n_items)
    return self._apply_shared(
      self._complete(gradients, keys), tf.constant(share)
    )

  @steps.graph
  def _find_of_window(self, part, state):
    return self._team.strategy.run(
      self._gradients_of_window, args=(part, state)
    )


class _BeginAnewError(Exception):
  """A worker has left an item out in a window: all begin the step anew."""


def _mean_losses(said, n_items):
  """Returns the means over the items of all workers."""
  rows = [(each['losses'], n) for each, n in zip(said, n_items) if n]
  total = sum(n for _, n in rows)
  return {
    key: sum(losses[key] * n for losses, n in rows) / total
    for key in rows[0][0]
  }
