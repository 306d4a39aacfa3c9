"""Several processes that train one model, by TensorFlow's collectives."""

import contextlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dafx import core
from dafx.training import channel as channel_lib
from dafx.training import cluster as cluster_lib


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
    WorkerError: Another worker does not come, or is not reached by all.
  """

  def __init__(self, cluster: cluster_lib.Cluster, time_limit_s: float = 300.0):
    self.index = cluster.index
    self.n_workers = cluster.n_workers
    self.cluster = cluster
    self.is_to_stop = False
    self.is_agreed = False
    self._n_exchanges = 0
    self._channel = channel_lib.Channel(cluster, time_limit_s)
    options = _take_gpu(*cluster.place_on_host)
    _pass_proxies_by(cluster)
    tf.get_logger().addFilter(_is_told)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
      tf.train.ClusterSpec({'worker': list(cluster.addresses)}),
      task_type='worker',
      task_id=cluster.index,
      rpc_layer='grpc',
    )
    self.strategy = tf.distribute.MultiWorkerMirroredStrategy(
      cluster_resolver=resolver, communication_options=options
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
    self.end_at_faults(self.exchange(report_of(fault)), fault)
    return found

  def tell_fault(self, fault: Exception):
    """Tells the others what ends this worker; see `core.Workers`.

    Raises:
      Exception: The fault.
      WorkerError: Another worker has ended.
    """
    self.end_at_faults(self.exchange(report_of(fault)), fault)

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


def _take_gpu(place, n_on_host):
  """Has this process use one GPU of the host's, if there is any.

  One replica for each process: what else would share its processors?

  Args:
    place: Which of the workers on the host this one is.
    n_on_host: How many there are.

  Returns:
    How workers are to send tensors.
  """
  kinds = tf.distribute.experimental.CommunicationImplementation
  kind = kinds.AUTO
  if gpus := tf.config.list_physical_devices('GPU'):
    gpu = gpus[place % len(gpus)]
    tf.config.set_visible_devices(gpu, 'GPU')
    if n_on_host > len(gpus):
      # One alone would take all memory, and NCCL knows a GPU only once.
      tf.config.experimental.set_memory_growth(gpu, True)
      kind = kinds.RING
  return tf.distribute.experimental.CommunicationOptions(implementation=kind)


def _pass_proxies_by(cluster):
  """Has gRPC reach workers directly, where http_proxy names a proxy."""
  hosts = {cluster_lib.split_address(each)[0] for each in cluster.addresses}
  names = ('no_grpc_proxy', 'no_proxy')
  others = next((os.environ[n] for n in names if os.environ.get(n)), '')
  os.environ[names[0]] = ','.join(
    [*filter(None, others.split(',')), *sorted(hosts)]
  )


def _is_told(record):
  """Whether a record of TensorFlow's log is for people."""
  # Figures of a validation are made outside of a graph, seldom.
  return 'eagerly has significant overhead' not in record.getMessage()


def report_of(fault: Exception | None) -> dict[str, str]:
  """Returns what the others are told of a fault; None is none."""
  return {'fault': '' if fault is None else _first_line(fault)}


def _first_line(error):
  """Returns what an error says, without the graph that it came through."""
  return f'{type(error).__name__}: {error}'.splitlines()[0]
