"""dafx_run --mode=train: in this process, or with workers on several hosts."""

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from absl import app, flags

from dafx.commands import effect_modes, running
from dafx.training import cluster as cluster_lib

# Flags of dafx_run that only a training takes.
NAMES = ('workers', 'worker', 'local_workers')
_SLURM = 'slurm'
# Ports of workers in jobs of Slurm, above those that services have and below
# those that systems hand out. Jobs and steps side by side on a host have other
# ones.
_FIRST_PORT, _PORTS_PER_STEP, _N_STEPS = 20000, 100, 100
_MOST_TASKS = 1000  # on a host
_STRIDE = 37  # between steps of a job: other jobs near it rarely have so many
_NO_SLURM = (
  '--workers=slurm is for a job of Slurm, whose tasks srun starts, as in '
  '`srun dafx_run --workers=slurm ...`: {}'
)
# Lines of a worker's log that are shown where it has failed.
_N_LINES = 3
# Seconds that workers have to end once one of them has failed; between looks.
_PATIENCE_S, _POLL_S = 45.0, 0.1
_NO_FAULTS = (0, 130)  # all is done; a signal
_PR_SET_PDEATHSIG = 1

flags.DEFINE_list(
  'workers',
  None,
  'train: host:port of each of the processes that train together, the same '
  'list for all, or slurm for those of a job; '
  '--workers=node1:2222,node2:2222. TF_CONFIG in the environment does so too.',
)
flags.DEFINE_integer(
  'worker',
  None,
  'train: which of --workers this one is, from 0; --worker=1.',
  lower_bound=0,
)
flags.DEFINE_integer(
  'local_workers',
  None,
  'train: start so many workers on this machine, with a share of its '
  'processors each; --local_workers=2.',
  lower_bound=1,
)


def check_flags(values: flags.FlagValues):
  """Raises UsageError for flags that do not fit together.

  Args:
    values: Those of dafx_run.
  """
  is_slurm = values.workers == [_SLURM]
  if values.local_workers is not None and values.workers is not None:
    raise app.UsageError(
      '--local_workers starts workers itself: give it without --workers.'
    )
  if values.worker is not None and (values.workers is None or is_slurm):
    raise app.UsageError(
      '--worker says which of --workers=host1:port,host2:port this one is.'
    )
  if values.workers and not is_slurm:
    try:
      cluster_lib.from_list(values.workers, values.worker)
    except ValueError as error:
      raise app.UsageError(str(error)) from error


def _slurm_port() -> int:
  """Returns the first of the ports of a step of a job, which has some alone.

  Tasks of one step on a host have one each, from it on.
  """
  job = int(os.environ.get('SLURM_JOB_ID', '0'))
  step = int(os.environ.get('SLURM_STEP_ID', '0'))
  return _FIRST_PORT + _PORTS_PER_STEP * ((job + _STRIDE * step) % _N_STEPS)


def _of_slurm() -> cluster_lib.Cluster:
  """Returns the tasks of the job step that this process is of."""
  import tensorflow as tf

  try:
    port = _slurm_port()
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
      port_base=port,
      auto_set_gpu=False,
      # It would ask nvidia-smi, which is not everywhere, and wants a GPU for
      # each task. A worker looks for its GPU itself: here, all have one.
      gpus_per_node=_MOST_TASKS,
      gpus_per_task=1,
    )
    addresses = resolver.cluster_spec().as_dict()['worker']
    # The resolver sorts hosts by name, n10 before n9, and Slurm numbers tasks
    # in another order. So a task looks for its own address.
    host, local = os.environ['SLURMD_NODENAME'], os.environ['SLURM_LOCALID']
    own = f'{host}:{port + int(local)}'
    if own not in addresses:
      raise ValueError(f'{own} is none of {", ".join(addresses)}')
  except KeyError as error:
    raise ValueError(_NO_SLURM.format(f'{error} is not set')) from error
  except (RuntimeError, ValueError) as error:
    raise ValueError(_NO_SLURM.format(error)) from error
  return cluster_lib.Cluster(tuple(addresses), addresses.index(own))


def find_cluster(values: flags.FlagValues) -> cluster_lib.Cluster | None:
  """Returns who trains; None for this process alone.

  Args:
    values: Those of dafx_run.

  Raises:
    ValueError: TF_CONFIG, or what Slurm says, makes no cluster.
  """
  if values.workers == [_SLURM]:
    found: cluster_lib.Cluster | None = _of_slurm()
  elif values.workers:
    found = cluster_lib.from_list(values.workers, values.worker)
  else:
    found = cluster_lib.from_environment()
  return found if found is not None and found.n_workers > 1 else None


@contextlib.contextmanager
def workers(values: flags.FlagValues) -> Iterator:
  """Joins the other workers; yields a `core.Workers`.

  Call it before TensorFlow does anything.

  Args:
    values: Those of dafx_run.

  Raises:
    OSError: The port of this worker is in use.
    WorkerError: Another worker does not come, or was started otherwise.
  """
  cluster = find_cluster(values) if values.mode == 'train' else None
  if cluster is None:
    from dafx import core

    if values.workers == [_SLURM]:
      running.announce('dafx_run: this is the only task of the job step')
    yield core.Workers()
    return
  from dafx.training.trainers import team as team_lib

  names = ', '.join(cluster.addresses)
  running.announce(
    f'dafx_run: this is {cluster.name(cluster.index)} of {names}'
  )
  with team_lib.Team(cluster) as team:
    yield team


def train(values: flags.FlagValues, save_dir: pathlib.Path, workers):
  """Trains.

  Args:
    values: Those of dafx_run.
    save_dir: Where the run is saved.
    workers: What `workers` yields.
  """
  from dafx.training import models, trainers
  from dafx.training.evaluation import conclusion
  from dafx.training.trainers import agreement

  agreement.check_settings(workers)
  with workers.scope():
    model = models.make_model()
  models.check_bindings(type(model), values.gin_param)
  if workers.is_chief:
    effect_modes.tell_of_export(model)
  where = dict(save_dir=str(save_dir), restore_dir=values.restore_dir)
  trainer = trainers.Trainer(model, workers=workers)
  trainers.train(trainer=trainer, seed=values.seed, **where)
  # What a team has trained is read by all of them together.
  if workers.n_workers == 1 and (said := conclusion.conclude(model, save_dir)):
    print(said)


# -------------------- Workers on this machine ---------------------------------
def shares(n_workers: int) -> list[set[int]]:
  """Returns the processors of each worker; all where there are too few.

  Args:
    n_workers: How many share those of this process.
  """
  processors = sorted(os.sched_getaffinity(0))
  if n_workers > len(processors):
    return [set(processors)] * n_workers
  return [set(processors[i::n_workers]) for i in range(n_workers)]


def _start(words, index, processors, log):
  """Starts a worker, in a group of its own."""

  def prepare():
    os.sched_setaffinity(0, processors)
    # Where the parent is killed, the worker ends too, saved.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

  return subprocess.Popen(
    [
      sys.executable,
      '-m',
      'dafx.commands.dafx_run',
      *words,
      f'--worker={index}',
    ],
    stdout=log,
    stderr=log,
    preexec_fn=prepare,
    start_new_session=True,  # signals come from here alone, once
  )


def _without_local_workers(words):
  """Returns a command line without that flag, in either of its forms."""
  kept, is_value = [], False
  for word in words:
    name, equals, _ = word.lstrip('-').partition('=')
    is_flag = word.startswith('-') and name == 'local_workers'
    if not (is_flag or is_value):
      kept.append(word)
    is_value = is_flag and not equals
  return kept


def run_local(words: Sequence[str], n_workers: int, save_dir: pathlib.Path):
  """Runs a training by workers on this machine; exits as they do.

  The chief's output is shown, that of the others goes to files beside the run.

  Args:
    words: The command line, without the command.
    n_workers: How many.
    save_dir: Where the run is saved.
  """
  save_dir.mkdir(parents=True, exist_ok=True)
  addresses = ','.join(cluster_lib.local(n_workers))
  words = [*_without_local_workers(words), f'--workers={addresses}']
  logs = [save_dir / f'worker_{i}.log' for i in range(n_workers)]
  with contextlib.ExitStack() as stack:
    started: list[subprocess.Popen] = []
    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)

    def forward(number, frame):
      del frame
      for each in started:
        each.send_signal(number)

    for number in asked:
      if signal.getsignal(number) != signal.SIG_IGN:
        stack.callback(signal.signal, number, signal.getsignal(number))
        signal.signal(number, forward)
    for index, processors in enumerate(shares(n_workers)):
      log = None
      if index:
        log = stack.enter_context(open(logs[index], 'wb'))
      started.append(_start(words, index, processors, log))
    codes = _wait_for_all(started)
  for index, code in enumerate(codes):
    if index and code not in _NO_FAULTS:
      _show_end(index, code, logs[index])
  failed = [code for code in codes if code]
  sys.exit(128 - failed[0] if failed and failed[0] < 0 else (failed or [0])[0])


def _wait_for_all(started):
  """Returns the statuses of all workers once they have ended.

  Those that train notice the end of another one, and name it. One that still
  waits for it to come does not: so it is ended, after a while.
  """
  failed_at = None
  while any(each.poll() is None for each in started):
    if failed_at is None and any(
      each.returncode not in (None, *_NO_FAULTS) for each in started
    ):
      failed_at = time.monotonic()
    if failed_at is not None and time.monotonic() > failed_at + _PATIENCE_S:
      for each in started:
        each.terminate()
      break
    time.sleep(_POLL_S)
  return [each.wait() for each in started]


def _show_end(index, code, log):
  """Prints what a worker has said last."""
  said = log.read_text(encoding='utf-8', errors='replace').splitlines()
  running.announce(f'worker {index} ended with status {code} ({log}):')
  for line in said[-_N_LINES:]:
    running.announce(f'  {line}')
