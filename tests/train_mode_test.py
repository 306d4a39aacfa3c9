"""Who trains, by what Slurm says; what workers of one machine share."""

import os
import signal
import subprocess
import types

import pytest
from absl import app

from dafx.commands import train_mode
from dafx.training import cluster


def flags(**given):
  """Returns flags of dafx_run."""
  values = {'workers': None, 'worker': None, 'local_workers': None, **given}
  return types.SimpleNamespace(mode='train', **values)


BY_SLURM = flags(workers=['slurm'])


def step_of_slurm(monkeypatch, host, rank, local, **changes):
  """Sets what `srun` tells a task of four on three hosts."""
  words = {
    'SLURM_JOB_ID': '4711',
    'SLURM_STEP_ID': '0',
    'SLURM_PROCID': str(rank),
    'SLURM_LOCALID': str(local),
    'SLURMD_NODENAME': host,
    'SLURM_STEP_NUM_TASKS': '4',
    'SLURM_STEP_NODELIST': 'n[8-10]',
    'SLURM_STEP_TASKS_PER_NODE': '1(x2),2',
    **changes,
  }
  for name in [name for name in os.environ if name.startswith('SLURM')]:
    monkeypatch.delenv(name)
  for name, value in words.items():
    if value is not None:
      monkeypatch.setenv(name, value)


# As `srun` deals tasks out by default, and as --distribution=cyclic has them.
@pytest.mark.parametrize(
  'tasks',
  [
    [('n8', 0), ('n9', 0), ('n10', 0), ('n10', 1)],
    [('n10', 1), ('n10', 0), ('n9', 0), ('n8', 0)],
  ],
)
def test_each_task_of_slurm_finds_its_own_host(monkeypatch, tasks):
  monkeypatch.setenv('PATH', '')  # no nvidia-smi
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  found = []
  for rank, (host, local) in enumerate(tasks):
    step_of_slurm(monkeypatch, host, rank, local)
    found.append(train_mode.find_cluster(BY_SLURM))
  assert len({each.addresses for each in found}) == 1
  assert sorted(each.index for each in found) == [0, 1, 2, 3]
  first = int(found[0].addresses[0].split(':')[1])
  for (host, local), each in zip(tasks, found, strict=True):
    assert each.addresses[each.index] == f'{host}:{first + local}'
  assert 'CUDA_VISIBLE_DEVICES' not in os.environ


def ports(found):
  return {cluster.split_address(each)[1] for each in found.addresses}


def test_jobs_and_steps_side_by_side_have_other_ports(monkeypatch):
  taken = set()
  for job, step in [(4711, 0), (4712, 0), (4713, 0), (4711, 1), (4711, 2)]:
    step_of_slurm(
      monkeypatch, 'n8', 0, 0, SLURM_JOB_ID=str(job), SLURM_STEP_ID=str(step)
    )
    new = ports(train_mode.find_cluster(BY_SLURM))
    assert len(new) == 2 and not new & taken
    assert all(1024 < port < 32768 for port in new)
    taken |= new


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'SLURM_PROCID': None}, 'srun starts.*SLURM_PROCID not found'),
    ({'SLURM_STEP_NUM_TASKS': None}, 'SLURM_STEP_NUM_TASKS not found'),
    ({'SLURMD_NODENAME': None}, "'SLURMD_NODENAME' is not set"),
    ({'SLURMD_NODENAME': 'n7'}, 'srun starts.*n7:.* is none of n10:'),
    ({'SLURM_STEP_NODELIST': 'n[8-'}, 'Invalid hostlist format'),
    ({'SLURM_STEP_TASKS_PER_NODE': '2'}, 'Requested 4 tasks but only 2'),
    ({'SLURM_JOB_ID': 'x'}, "srun starts.*'x'"),
  ],
)
def test_what_is_no_step_of_slurm(monkeypatch, changes, message):
  step_of_slurm(monkeypatch, 'n8', 0, 0, **changes)
  with pytest.raises(ValueError, match=message):
    train_mode.find_cluster(BY_SLURM)


def test_a_task_that_is_alone_trains_alone(monkeypatch, capsys):
  step_of_slurm(
    monkeypatch, 'n8', 0, 0, SLURM_STEP_NODELIST='n8',
    SLURM_STEP_TASKS_PER_NODE='1', SLURM_STEP_NUM_TASKS='1',
  )  # fmt: skip
  with train_mode.workers(BY_SLURM) as workers:
    assert workers.n_workers == 1
  assert 'the only task' in capsys.readouterr().err


@pytest.mark.parametrize(
  'given, message',
  [
    (dict(workers=['a:1'], local_workers=2), 'without --workers'),
    (dict(worker=1), '--worker says which'),
    (dict(workers=['slurm'], worker=1), '--worker says which'),
    (dict(workers=['a:1', 'b:2']), 'needs --worker'),
    (dict(workers=['a:1', 'b:2'], worker=2), 'from 0 to 1'),
    (dict(workers=['a:1', 'b'], worker=0), 'no address'),
  ],
)
def test_flags_that_do_not_fit_together(given, message):
  with pytest.raises(app.UsageError, match=message):
    train_mode.check_flags(flags(**given))


@pytest.mark.parametrize('n_workers', [1, 2, 3, 5])
def test_local_workers_share_the_processors(monkeypatch, n_workers):
  monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {1, 3, 4, 6})
  found = train_mode.shares(n_workers)
  assert len(found) == n_workers
  if n_workers > 4:
    assert found == [{1, 3, 4, 6}] * n_workers
  else:
    assert sorted(p for each in found for p in each) == [1, 3, 4, 6]
    sizes = [len(each) for each in found]
    assert max(sizes) - min(sizes) <= 1


def test_workers_that_wait_for_one_that_has_failed_are_ended(monkeypatch):
  """One whose port is taken never comes, and the others would wait minutes."""
  monkeypatch.setattr(train_mode, '_PATIENCE_S', 0.3)
  commands = ('exit 1', 'exec sleep 60', 'exec sleep 60')
  started = [subprocess.Popen(['sh', '-c', each]) for each in commands]
  codes = train_mode._wait_for_all(started)
  assert codes == [1, -signal.SIGTERM, -signal.SIGTERM]


def test_workers_that_were_asked_to_stop_take_their_time(monkeypatch):
  monkeypatch.setattr(train_mode, '_PATIENCE_S', 0.1)
  commands = ('exit 130', 'sleep 1; exit 130', 'exit 0')
  started = [subprocess.Popen(['sh', '-c', each]) for each in commands]
  assert train_mode._wait_for_all(started) == [130, 130, 0]
