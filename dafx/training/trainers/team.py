"""Several processes that train one model, by TensorFlow's collectives."""

import contextlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from dafx import core
from dafx.training import channel as channel_lib
from dafx.training import cluster as cluster_lib
from dafx.training.trainers import crashes as crashes_lib
from dafx.training.trainers import steps


class Team(core.Workers):
  """The workers of a `tf.distribute.MultiWorkerMirroredStrategy`.

  Each process runs the whole program on its part of every batch: plugins run
  where they were traced, and only gradients travel by TensorFlow. All else that
  is decided together goes over a `Channel`. Make it before TensorFlow does
  anything, make the model in its `scope`, and use it as a context: on leaving
  it, the others learn whether this worker has failed. Where one of them is
  lost, this process ends within seconds, whatever it waits for.

  Args:
    cluster: Who trains.
    time_limit_s: Seconds to wait for the others.

  Attributes:
    strategy: TensorFlow's strategy.

  Raises:
    OSError: The worker's port is in use.
    WorkerError: Another worker does not come.
  """

  def __init__(self, cluster: cluster_lib.Cluster, time_limit_s: float = 300.0):
    self.index = cluster.index
    self.n_workers = cluster.n_workers
    self.cluster = cluster
    self.is_to_stop = False
    self.is_agreed = False
    self._n_exchanges = 0
    self._channel = channel_lib.Channel(cluster, time_limit_s)
    # One replica for each process: what else would share its processors?
    if gpus := tf.config.list_physical_devices('GPU'):
      tf.config.set_visible_devices(gpus[self.index % len(gpus)], 'GPU')
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
      tf.train.ClusterSpec({'worker': list(cluster.addresses)}),
      task_type='worker',
      task_id=cluster.index,
      rpc_layer='grpc',
    )
    self.strategy = tf.distribute.MultiWorkerMirroredStrategy(
      cluster_resolver=resolver
    )
    # Workers that train each by itself would seem to be right.
    n_replicas = self.strategy.num_replicas_in_sync
    if n_replicas != cluster.n_workers:
      raise channel_lib.WorkerError(
        f'TensorFlow has {n_replicas} replicas for {cluster.n_workers} workers.'
      )

  def __enter__(self) -> 'Team':
    """Returns itself."""
    return self

  def __exit__(self, kind, error, trace):
    """Ends together with the others, or tells them what this one ends of."""
    if error is not None and not self.is_agreed:
      self._channel.close(_first_line(error))
      return
    with contextlib.suppress(channel_lib.WorkerError):  # all is done
      self._channel.finish()

  def name(self, index: int) -> str:
    """Returns what a worker is called in messages."""
    return self.cluster.name(index)

  def scope(self):
    """Returns the strategy's scope."""
    return self.strategy.scope()

  def gather(self, name: str, rows: np.ndarray) -> np.ndarray:
    """Returns the rows of all workers; see `core.Workers`.

    Raises:
      WorkerError: Another worker has ended.
    """
    content = io.BytesIO()
    np.save(content, rows, allow_pickle=False)
    found = self._channel.gather(name, content.getvalue())
    return np.concatenate(
      [np.load(io.BytesIO(each), allow_pickle=False) for each in found]
    )

  def exchange(self, value: Any) -> list:
    """Returns what all workers say; see `core.Workers`.

    Raises:
      WorkerError: Another worker has ended.
    """
    self._n_exchanges += 1
    name = f'exchange {self._n_exchanges}'
    blob = json.dumps(value).encode()
    return [json.loads(b) for b in self._channel.gather(name, blob, True)]

  def attempt(self, function: Callable, *args: Any) -> Any:
    """Calls a function, as all do now; see `core.Workers`.

    Raises:
      Exception: What the function raises here; the others know it then.
      WorkerError: Another worker has ended, or its call has failed.
    """
    fault: Exception | None = None
    try:
      with core.raising_faults():
        found = function(*args)
    except Exception as error:  # told to all, and raised below
      fault = error
    self.end_at_faults(self.exchange(_report_of(fault)), fault)
    return found

  def tell_fault(self, fault: Exception):
    """Tells the others what ends this worker; see `core.Workers`.

    Raises:
      Exception: The fault.
      WorkerError: Another worker has ended.
    """
    self.end_at_faults(self.exchange(_report_of(fault)), fault)

  def end_at_faults(
    self, said: Sequence[Mapping[str, Any]], fault: Exception | None
  ):
    """Ends all workers, at the same step, where one of them reports a fault.

    Args:
      said: Reports of all: 'fault' is '' where nothing has failed.
      fault: That of this worker.

    Raises:
      Exception: The fault of this worker.
      WorkerError: What another one reports.
    """
    faults = {i: each['fault'] for i, each in enumerate(said) if each['fault']}
    if not faults:
      return
    # Weights are those of the step before, on all: they can be saved.
    self.agree_to_end()
    if fault is not None:
      raise fault
    index, text = next(iter(faults.items()))
    raise channel_lib.WorkerError(
      f'{self.name(index).capitalize()} has failed: {text}'
    )

  def run(self, function, batch):
    """Calls a function of a part of a batch as a replica, alone."""
    return self.strategy.run(function, args=(batch,))

  def agree_to_end(self):
    """Notes that all end now, at the same step."""
    self.is_agreed = True

  def synchronise(self, variables):
    """Sets averages that each replica keeps for itself to their mean.

    Args:
      variables: Of a model; only moving averages of BatchNormalization and the
        like are concerned. All workers have to call this.
    """
    for variable in variables:
      if variable.synchronization == tf.VariableSynchronization.ON_READ:
        variable.assign(variable.read_value())


class TeamSteps(steps.Steps):
  """Takes steps together with the other workers.

  Each finds the gradients of its items by itself, so that a plugin's crash and
  any other fault stay its own until all have told. Then gradients are averaged
  over items, clipped and applied on all. In windows this is so for each window.

  Args:
    team: The workers.
    **kwargs: As of `Steps`.
  """

  def __init__(self, team: Team, **kwargs):
    super().__init__(**kwargs)
    self._team = team
    # Losses of this step so far: of windows, or of all; and the first of them
    # that is not finite.
    self._n_losses = 0
    self._diverged_at = math.inf

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
      losses = self._update_by_windows(batch, self.tbptt_samples)
      found = batch, (losses, {})
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
      keys = next(each['gradients'] for each in said if each['n_items'])
      share = n_items[self._team.index] / sum(n_items)
      losses['gradient_norm'] = float(
        self._apply_shared(self._complete(gradients, keys), tf.constant(share))
      )
    return losses

  def _report(self, found, fault, crashes, is_asked_to_stop):
    """Returns what the others are told of a step."""
    report: dict[str, Any] = {
      'n_items': 0,
      'stop': bool(is_asked_to_stop()),
      'crashes': crashes.take_news(),
      'diverged_at': self._diverged_at,
      **_report_of(fault),
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

  def changed_variables(self) -> list[tf.Variable]:
    """Returns this replica's copies of what a step changes on its way."""
    local = self._team.strategy.experimental_local_results
    return [local(variable)[0] for variable in super().changed_variables()]

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

    def find_noted():
      found = find(*args)
      self._note_loss(found[0])
      return found

    losses, gradients, state = self._team.attempt(find_noted)
    return {**losses, 'gradient_norm': self._apply_all(gradients)}, state

  def _apply_all(self, gradients):
    return self._apply_shared(
      gradients, tf.constant(1.0 / self._team.n_workers)
    )

  @steps.graph
  def _find_of_window(self, part, state):
    return self._team.strategy.run(
      self._gradients_of_window, args=(part, state)
    )


def _report_of(fault):
  """Returns what the others are told of a fault; None is none."""
  return {'fault': '' if fault is None else _first_line(fault)}


def _first_line(error):
  """Returns what an error says, without the graph that it came through."""
  return f'{type(error).__name__}: {error}'.splitlines()[0]


def _mean_losses(said, n_items):
  """Returns the means over the items of all workers."""
  rows = [(each['losses'], n) for each, n in zip(said, n_items) if n]
  total = sum(n for _, n in rows)
  return {
    key: sum(losses[key] * n for losses, n in rows) / total
    for key in rows[0][0]
  }
