"""A team on two hosts, whose names, networks and files are their own."""

import json
import os
import re
import subprocess
import sys
import time

import hosts
import numpy as np
import pytest
import soundfile
import team_test
from dafx_run_test import TINY

WORKERS = 'first:2222,second:2223'
# A worker that is lost is named in this time.
NAMED_S = 30.0


@pytest.fixture
def pair(tmp_path):
  with hosts.Hosts(tmp_path) as found:
    yield found


def start(pair, words, index, out, **options):
  """Starts Python on a host; its output goes to a file."""
  with open(out, 'wb') as file:
    return subprocess.Popen(
      [*pair.on(index), sys.executable, *words],
      stdout=file,
      stderr=subprocess.STDOUT,
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), **options},
    )


def end(started, outs, limit_s=240.0):
  """Waits for both; returns [(status, what it said), ...]."""
  limit = time.monotonic() + limit_s
  try:
    for each in started:
      each.wait(max(limit - time.monotonic(), 1.0))
  finally:
    for each in started:
      each.kill()
  return [(p.returncode, o.read_text()) for p, o in zip(started, outs)]


def work(pair, tmp_path, each=({}, {}), addresses=WORKERS, **options):
  """Starts the workers of team_test; returns (processes, files they write)."""
  outs = [tmp_path / f'{i}.log' for i in range(2)]
  started = []
  for index in range(2):
    words = {
      'addresses': addresses.split(','),
      'index': index,
      'out': str(tmp_path / f'{index}.npz'),
      **options,
      **each[index],
    }
    script = [str(team_test.WORKER), json.dumps(words)]
    # As where the world is reached through a proxy, which knows no worker.
    proxy = {'http_proxy': 'http://10.213.0.77:3128'}
    started.append(start(pair, script, index, outs[index], **proxy))
  return started, outs


@pytest.mark.slow
@pytest.mark.parametrize(
  'addresses', [WORKERS, '10.213.0.1:2222,10.213.0.2:2223']
)
def test_two_hosts_are_one_worker(pair, tmp_path, addresses):
  (alone,), (expected,) = team_test.run(1, tmp_path, 'one', n_steps=3)
  found = end(*work(pair, tmp_path, addresses=addresses, n_steps=3))
  for index, (status, said) in enumerate(found):
    assert status == 0, said
    result = json.loads(said.strip().splitlines()[-1])
    assert result['replicas'] == 2
    assert result['shapes'] == [[2, team_test.N_SAMPLES]]
    np.testing.assert_allclose(
      result['history']['total_loss'],
      alone['history']['total_loss'],
      rtol=team_test.CLOSE,
    )
    with np.load(tmp_path / f'{index}.npz') as file:
      for key, weights in zip(file.files, expected, strict=True):
        np.testing.assert_allclose(
          file[key], weights, rtol=team_test.CLOSE, atol=team_test.CLOSE
        )


@pytest.mark.slow
@pytest.mark.parametrize('way', ['killed', 'cut'])
def test_a_host_that_is_gone_is_named_in_time(pair, tmp_path, way):
  save_dir = tmp_path / 'run'
  options = dict(save_dir=str(save_dir), n_steps=10**6)
  started, outs = work(pair, tmp_path, **options)
  hosts.wait_for(save_dir / 'ckpt-4.index', 200.0)
  begun = time.monotonic()
  if way == 'cut':
    pair.cut()
  else:
    started[1].kill()
  found = end(started, outs, NAMED_S + 30.0)
  assert time.monotonic() - begun < NAMED_S
  status, said = found[0]
  assert status == 1
  assert 'Worker 1 (second:2223) is lost' in said
  if way == 'cut':  # the other one cannot be told, and sees it itself
    assert found[1][0] == 1
    assert 'Worker 0 (first:2222) is lost' in found[1][1]


def train(pair, folder, by_slurm=False):
  """Runs dafx_run on both hosts; returns [(status, what it said), ...].

  Args:
    pair: The hosts.
    folder: For data, and for the run.
    by_slurm: Whether tasks of Slurm are to find each other; the list is given
      otherwise.
  """
  rng = np.random.default_rng(0)
  for split in ('train', 'valid', 'test'):
    for side in ('input', 'target'):
      for number in range(2):
        file = folder / 'data' / split / side / f'{number}.wav'
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, 0.1 * rng.standard_normal(16000), 16000)
  (folder / 'tiny.gin').write_text(TINY.format(data=folder / 'data'))
  outs = [folder / f'{i}.log' for i in range(2)]
  started = []
  for index in range(2):
    words = [
      '-m',
      'dafx.commands.dafx_run',
      '--mode=train',
      f'--gin_search_path={folder}',
      '--gin_file=tiny.gin',
      f'--save_dir={folder}/run',
    ]
    step = {}
    if by_slurm:
      words.append('--workers=slurm')
      step = {
        'SLURM_JOB_ID': '99',
        'SLURM_STEP_ID': '0',
        # As `srun --distribution=arbitrary` may number them.
        'SLURM_PROCID': str(1 - index),
        'SLURM_LOCALID': '0',
        'SLURMD_NODENAME': hosts.NAMES[index],
        'SLURM_STEP_NUM_TASKS': '2',
        'SLURM_STEP_NODELIST': ','.join(hosts.NAMES),
        'SLURM_STEP_TASKS_PER_NODE': '1(x2)',
      }
    else:
      words += [f'--workers={WORKERS}', f'--worker={index}']
    started.append(start(pair, words, index, outs[index], **step))
  return end(started, outs)


def said_by(text):
  """Returns the one line that a command has ended with."""
  lines = re.findall(r'^dafx_run: (?!training|this is)(.*)$', text, re.M)
  assert len(lines) == 1, text
  assert 'Traceback' not in text
  return lines[0]


@pytest.mark.slow
def test_tasks_of_slurm_find_each_other(pair, tmp_path):
  found = train(pair, tmp_path, by_slurm=True)
  for index, (status, said) in enumerate(found):
    assert status == 0, said
    assert re.search(
      rf'this is worker {index} \({hosts.NAMES[index]}:\d+\) of first:\d+, '
      r'second:\d+',
      said,
    )
  assert (tmp_path / 'run' / 'ckpt-4.index').exists()


@pytest.mark.slow
def test_a_folder_that_one_host_does_not_see(pair, tmp_path):
  """As where save_dir is on a disk of each host's own."""
  (tmp_path / 'run').mkdir()
  pair.call(1, 'mount', '-t', 'tmpfs', 'tmpfs', str(tmp_path / 'run'))
  for status, said in train(pair, tmp_path):
    assert status == 1
    assert said_by(said) == (
      f'worker 1 (second:2223) does not see the folder {tmp_path}/run of '
      'worker 0 (first:2222). Take a save_dir on a disk that all hosts share.'
    )


@pytest.mark.slow
def test_data_that_one_host_has_otherwise(pair, tmp_path):
  other = tmp_path / 'other'
  for side in ('input', 'target'):
    (other / side).mkdir(parents=True)
    soundfile.write(other / side / 'more.wav', np.zeros(16000), 16000)
  (tmp_path / 'data' / 'train').mkdir(parents=True)
  place = str(tmp_path / 'data' / 'train')
  pair.call(1, 'mount', '--bind', str(other), place)
  for status, said in train(pair, tmp_path):
    assert status == 1
    assert re.match(
      r'Workers differ in data \(0\): worker 0 \(.*\) has .*, worker 1 .* has ',
      said_by(said),
    )


# ------------------------------------------------- Who reaches whom, quickly --
CONNECT = """
import sys
from dafx.training import channel, cluster
try:
  channel.Channel(cluster.Cluster(tuple(sys.argv[1].split(',')),
                                  int(sys.argv[2])), 20.0).finish()
except channel.WorkerError as error:
  print(error)
"""


def connect(pair, tmp_path, addresses, swapped=False):
  """Returns what workers on both hosts say of coming together."""
  outs = [tmp_path / f'{i}.log' for i in range(2)]
  started = [
    start(
      pair, ['-c', CONNECT, addresses, str(abs(i - swapped))], i, outs[i]
    )
    for i in range(2)
  ]  # fmt: skip
  found = end(started, outs)
  assert [status for status, _ in found] == [0, 0], found
  return [said for _, said in found]


def test_hosts_meet_by_name_and_by_addresses_of_ipv6(pair, tmp_path):
  assert connect(pair, tmp_path, WORKERS) == ['', '']
  for index, end_ in enumerate(('end0', 'end1')):
    address = f'fd00::{index + 1}/64'
    pair.call(
      index, 'ip', 'address', 'add', address, 'dev', end_, 'nodad'
    )  # fmt: skip
  assert connect(pair, tmp_path, '[fd00::1]:2222,[fd00::2]:2222') == ['', '']


@pytest.mark.parametrize(
  'address, reason',
  [
    (None, '(Name or service not known|Temporary failure in name resolution)'),
    ('127.0.0.9', 'Connection refused'),
  ],
)
def test_a_host_that_only_one_side_reaches(pair, tmp_path, address, reason):
  """Tensors go both ways: this would hang in the first step."""
  line = f'{address} second\n' if address else ''
  names = tmp_path / 'hosts_first'
  names.write_text(f'127.0.0.1 localhost\n127.0.1.1 first\n{line}')
  said = connect(pair, tmp_path, WORKERS)
  assert said[0] == said[1]
  assert re.match(
    r'Worker 0 \(first:2222\) cannot reach worker 1 \(second:2223\): '
    f'{reason}. Each worker must reach each',
    said[0],
  )
