"""Several processes that train one model: equal to one, ended together.

Workers that train each by itself would pass most comparisons: every test looks
at the number of replicas and at the batch that each of them traced.
"""

import concurrent.futures
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import team_worker
import tensorflow as tf
from cases import some_quick

from dafx import core
from dafx.commands import running
from dafx.training import channel, cluster, trainers
from dafx.training.trainers import team

WORKER = pathlib.Path(__file__).with_name('team_worker.py')
# What a run on several machines may differ by: sums in another order.
CLOSE = 1e-6
LIMIT_S = 240.0
N_SAMPLES = 2048


def start(n_workers, save_dir='', each=(), **options):
  """Starts workers; `each` has options of single ones."""
  addresses = cluster.local(n_workers) if n_workers > 1 else []
  started = []
  for index in range(n_workers):
    words = {
      **options,
      'addresses': addresses,
      'index': index,
      'save_dir': str(save_dir),
      **(each[index] if index < len(each) else {}),
    }
    started.append(
      subprocess.Popen(
        [sys.executable, str(WORKER), json.dumps(words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
      )
    )
  return started


def end(started):
  """Waits for workers; returns [(status, what came of it or '', stderr)]."""
  limit, found = time.monotonic() + LIMIT_S, []
  try:
    for each in started:
      out, err = each.communicate(timeout=max(limit - time.monotonic(), 1.0))
      lines = out.strip().splitlines()
      result = json.loads(lines[-1]) if lines and lines[-1][0] == '{' else ''
      found.append((each.returncode, result, err))
  finally:
    for each in started:
      each.kill()
  return found


def run(*args, **options):
  """Trains; returns results and weights of all workers."""
  return begin(*args, **options)()


def begin(n_workers, tmp_path, name, batch_size=4, **options):
  """Begins a training; returns what waits for results and weights."""
  outs = [tmp_path / f'{name}_{i}.npz' for i in range(n_workers)]
  each = [{'out': str(out)} for out in outs]
  started = start(n_workers, each=each, batch_size=batch_size, **options)
  return functools.partial(finish, started, outs, batch_size)


def finish(started, outs, batch_size):
  """Waits for a training; returns results and weights of all workers."""
  n_workers = len(started)
  found = end(started)
  said = '\n'.join(err[-9000:] for status, _, err in found if status)
  for status, result, _ in found:
    assert status == 0, said
    assert result['replicas'] == n_workers
    # Less only where an item is left out.
    sizes = [shape[0] for shape in result['shapes']]
    assert max(sizes) == batch_size // n_workers
  weights = []
  for out in outs:
    with np.load(out) as file:
      weights.append([file[key] for key in file.files])
  return [result for _, result, _ in found], weights


def assert_alike(ours, theirs):
  """Losses and weights of several workers are those of one."""
  (results, weights), ((alone,), (expected,)) = ours, theirs
  for result in results:
    for key, values in alone['history'].items():
      np.testing.assert_allclose(
        result['history'][key], values, rtol=CLOSE, atol=CLOSE, err_msg=key
      )
    assert result['history'] == results[0]['history']
    for way, other in zip(result['ways'], alone['ways'], strict=True):
      assert way[:2] == other[:2]
      np.testing.assert_allclose(way[2], other[2], rtol=CLOSE)
  for found in weights:
    for ours_, first, theirs_ in zip(found, weights[0], expected, strict=True):
      np.testing.assert_array_equal(ours_, first)
      np.testing.assert_allclose(ours_, theirs_, rtol=CLOSE, atol=CLOSE)


def run_here(tmp_path, **options):
  """Trains alone, in this process."""
  running.prepare_tensorflow(0)
  out = tmp_path / 'here.npz'
  options = {**team_worker.DEFAULTS, **options, 'out': str(out)}
  result = team_worker.train(options, core.Workers())
  with np.load(out) as file:
    return [result], [[file[key] for key in file.files]]


def test_two_workers_are_one(tmp_path):
  two = begin(2, tmp_path, 'two', n_steps=4, average=0.8)
  alone = run_here(tmp_path, n_steps=4, average=0.8)
  assert alone[0][0]['ways'][1][0] >= 0  # an adjoint was chosen
  assert_alike(two(), alone)
  losses = alone[0][0]['history']['total_loss']
  assert len(losses) == 4 and losses[-1] < losses[0]


@pytest.mark.slow
def test_validations_are_shared(tmp_path):
  alone = run(1, tmp_path, 'one', validate=True, average=0.8)
  assert alone[0][0]['history']['valid_step'] == [3, 6]
  two = run(2, tmp_path, 'two', validate=True, average=0.8)
  assert_alike(two, alone)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['chain', 'discrete', 'windows'])
def test_other_models_are_alike_too(tmp_path, kind):
  alone = run(1, tmp_path, 'one', kind=kind, average=0.8)
  assert_alike(run(2, tmp_path, 'two', kind=kind, average=0.8), alone)


@pytest.mark.slow
def test_a_proxy_is_the_same_on_all_workers(tmp_path):
  """It is not that of one worker: see docs/scaling.md."""
  (first, second), weights = run(2, tmp_path, 'two', kind='proxy')
  assert first['history'] == second['history']
  assert np.isfinite(first['history']['added_loss']).all()
  for ours, theirs in zip(*weights, strict=True):
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_four_workers_are_one(tmp_path):
  alone = run(1, tmp_path, 'one', batch_size=8, validate=True)
  four = run(4, tmp_path, 'four', batch_size=8, validate=True)
  assert_alike(four, alone)


@pytest.mark.slow
def test_interrupted_workers_end_at_one_step_and_go_on(tmp_path):
  whole = run(2, tmp_path, 'whole', average=0.8)
  folder = tmp_path / 'run'
  each = [{'average': 0.8}, {'average': 0.8, 'stop_at': 3}]
  found = end(start(2, folder, each=each))
  assert [result['step'] for _, result, _ in found] == [4, 4] or [
    result['step'] for _, result, _ in found
  ] == [3, 3]
  assert all(r['error'] == 'KeyboardInterrupt' for _, r, _ in found)
  two = run(2, tmp_path, 'two', save_dir=str(folder), average=0.8)
  np.testing.assert_array_equal(two[1][0][0], whole[1][0][0])


@pytest.mark.slow
@pytest.mark.parametrize('n_after', [1, 2])
@pytest.mark.parametrize('victim', [0, 1])
def test_a_worker_that_dies_ends_the_others(tmp_path, victim, n_after):
  """They name it, in time, and go on from the last checkpoint."""
  whole = run(1, tmp_path, 'whole')
  folder = tmp_path / 'run'
  each = [{}, {}]
  each[victim] = {'die_at': 5}
  begun = start(2, folder, each=each)
  begun[victim].wait(LIMIT_S)
  died = time.monotonic()
  found = end(begun)
  assert time.monotonic() - died < 30.0
  status, _, err = found[1 - victim]
  assert status == 1
  assert re.search(rf'Worker {victim} \(127.0.0.1:\d+\) is lost', err)
  (result, *_), weights = run(n_after, tmp_path, 'on', save_dir=str(folder))
  assert result['step'] == 6 and result['history']['step'][0] == 5
  for ours, theirs in zip(weights[0], whole[1][0], strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=CLOSE, atol=CLOSE)


@pytest.mark.slow
def test_batch_normalisation_is_saved_by_all(tmp_path):
  results, _ = run(
    2, tmp_path, 'two', kind='normed', save_dir=str(tmp_path / 'run'),
    validate=True,
  )  # fmt: skip
  assert [result['step'] for result in results] == [6, 6]
  assert (tmp_path / 'run' / 'ckpt-6.index').exists()


@pytest.mark.slow
def test_a_crash_costs_its_item_and_is_counted_by_all(tmp_path):
  results, weights = run(2, tmp_path, 'two', kind='brittle', n_steps=1)
  assert results[0]['counts'] == results[1]['counts'] != []
  assert results[0]['history'] == results[1]['history']
  np.testing.assert_array_equal(weights[0][0], weights[1][0])


@pytest.mark.slow
@pytest.mark.parametrize('batch_size', [4, 2])
def test_a_crash_in_a_window_costs_its_item_as_with_one_worker(
  tmp_path, batch_size
):
  """Also where it is all that the worker has of the batch."""
  options = dict(kind='brittle windows', batch_size=batch_size, n_steps=3)
  alone = run(1, tmp_path, 'one', **options)
  ((uri, _, n_times),) = alone[0][0]['counts']
  assert uri == 'urn:dafx-test:brittle' and 1 <= n_times <= 2
  two = run(2, tmp_path, 'two', **options)
  assert all(r['counts'] == alone[0][0]['counts'] for r in two[0])
  assert_alike(two, alone)


@pytest.mark.slow
def test_the_third_crash_in_a_window_ends_all_at_one_step(tmp_path):
  found = end(start(2, tmp_path / 'run', kind='brittle windows', n_steps=20))
  (first, second) = (result for _, result, _ in found)
  assert first['step'] == second['step'] < 20
  own, other = sorted([first['error'], second['error']])
  assert own.startswith('CrashError: ') and 'third time' in own
  assert re.fullmatch(
    r'WorkerError: Worker \d \(127.0.0.1:\d+\) has failed: ' + re.escape(own),
    other,
  )


@pytest.mark.slow
def test_the_data_of_one_worker_moves_the_others(tmp_path):
  _, same = run(2, tmp_path, 'same', n_steps=2)
  outs = [str(tmp_path / f'other_{i}.npz') for i in (0, 1)]
  each = [{'out': outs[0]}, {'out': outs[1], 'loud': 2.0}]
  found = end(start(2, each=each, n_steps=2))
  assert all(status == 0 for status, *_ in found)
  with np.load(outs[0]) as file:
    assert np.abs(file['arr_0'] - same[0][0]).max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
  'other, message',
  [
    ({'settings': 'a_macro = 1'}, 'differ in settings'),
    ({'seed': 1}, 'differ in seed'),
    # At the same settings: TensorFlow notices, in its words.
    ({'kind': 'chain'}, 'Error'),
    ({'batch_size': 3}, 'does not divide'),
  ],
)
def test_workers_that_differ_are_refused(other, message):
  found = end(start(2, each=[{}, other]))
  assert all(status == 1 for status, *_ in found)
  assert any(message in err for *_, err in found), found


@pytest.mark.slow
@pytest.mark.parametrize('victim', [0, 1])
def test_a_fault_in_a_window_ends_all_at_one_step(tmp_path, victim):
  """And what was saved goes on as if nothing had been."""
  whole = run(2, tmp_path, 'whole', kind='windows')
  folder, each = tmp_path / 'run', [{}, {}]
  each[victim] = {'fail_at': 4 * 3 + 3}  # in the fourth step
  found = end(start(2, folder, each=each, kind='windows'))
  assert [result['step'] for _, result, _ in found] == [3, 3], found
  own, other = found[victim][1]['error'], found[1 - victim][1]['error']
  assert own == 'ArithmeticError: as the test asks for'
  assert re.fullmatch(
    rf'WorkerError: Worker {victim} \(127.0.0.1:\d+\) has failed: {own}', other
  )
  results, weights = run(
    2, tmp_path, 'on', kind='windows', save_dir=str(folder)
  )
  assert results[0]['history']['step'] == [4, 5, 6]
  for ours, theirs in zip(weights[0], whole[1][0], strict=True):
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['windows', 'plugins'])
def test_a_loss_that_is_not_finite_ends_all(tmp_path, kind):
  each = [{}, {'loud': 1e25}]  # its square is above what float32 has
  found = end(start(2, tmp_path / 'run', each=each, kind=kind))
  for _, result, err in found:
    assert result['step'] == 1
    assert 'diverged at step 1' in result['error']
    assert re.search(r'not finite on worker 1 \(127.0.0.1:\d+\)\.', err)


@pytest.fixture
def gpus(monkeypatch):
  """Has TensorFlow see two GPUs; returns [(what is set, of which), ...]."""
  devices = [tf.config.PhysicalDevice(f'GPU:{i}', 'GPU') for i in range(2)]
  calls = []
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: devices)
  monkeypatch.setattr(
    tf.config,
    'set_visible_devices',
    lambda gpu, kind: calls.append((kind, devices.index(gpu))),
  )
  monkeypatch.setattr(
    tf.config.experimental,
    'set_memory_growth',
    lambda gpu, is_on: calls.append((is_on, devices.index(gpu))),
  )
  return calls


def take_gpus(addresses):
  """Returns how workers at these addresses would send tensors."""
  members = [cluster.Cluster(addresses, i) for i in range(len(addresses))]
  return {
    team._take_gpu(*each.place_on_host).implementation.value for each in members
  }


@pytest.mark.parametrize(
  'addresses, expected',
  [
    (('a:1', 'a:2'), [0, 1]),
    (('a:1', 'a:2', 'b:1', 'b:2'), [0, 1, 0, 1]),
    (('a:1', 'b:1', 'a:2', 'b:2'), [0, 0, 1, 1]),
  ],
)
def test_each_worker_of_a_host_has_a_gpu_of_its_own(gpus, addresses, expected):
  assert take_gpus(addresses) == {'AUTO'}
  assert gpus == [('GPU', i) for i in expected]


def test_workers_that_share_a_gpu_take_memory_as_they_need_it(gpus):
  assert take_gpus(('a:1', 'a:2', 'a:3')) == {'RING'}
  assert gpus == [
    ('GPU', 0), (True, 0), ('GPU', 1), (True, 1), ('GPU', 0), (True, 0)
  ]  # fmt: skip


# --------------------------------------------- Faults of one worker alone ----
class OfOneReplica:
  """Stands for TensorFlow's strategy: two threads, which share no gradients."""

  num_replicas_in_sync = 2

  def __init__(self, cluster_resolver, communication_options):
    del cluster_resolver, communication_options
    self._strategy = tf.distribute.get_strategy()
    self.scope = self._strategy.scope
    self.run = self._strategy.run
    self.experimental_local_results = self._strategy.experimental_local_results


class Failing:
  """Calls something until its n-th call, which fails."""

  def __init__(self, function, n):
    self._function, self._n = function, n

  def __call__(self, *args):
    self._n -= 1
    if not self._n:
      raise ArithmeticError('as the test asks for')
    return self._function(*args)


@pytest.fixture
def threads(monkeypatch):
  """Has workers of a team be threads of this process."""
  monkeypatch.setattr(channel.Channel, '_end_in_time', lambda self: None)
  monkeypatch.setattr(
    tf.distribute, 'MultiWorkerMirroredStrategy', OfOneReplica
  )


def take_steps(found, folder, size, fail_in, fail_at):
  """Takes three steps as one worker; returns what they leave.

  Args:
    found: The cluster.
    folder: Where the run is saved.
    size: Samples of a window, or None.
    fail_in: What fails on worker 1: 'batch', 'step' or 'validation'.
    fail_at: Which call of it.
  """
  left = []
  with pytest.raises((ArithmeticError, channel.WorkerError)) as raised:
    with team.Team(found, time_limit_s=20.0) as workers:
      model = team_worker.make_model('windows')
      trainer = trainers.Trainer(model, tbptt_samples=size, workers=workers)
      data = team_worker.recordings(found.index, 1.0, deadly=False)
      batches = list(data.get_batch(2).take(4))
      trainer.build(batches[0])
      variables = [*model.variables, *trainer.optimizer.variables]
      if found.index and fail_in == 'step':
        # Graphs are traced once: what fails is not in them.
        name = '_find' if size is None else '_find_of_window'
        steps = trainer._steps
        setattr(steps, name, Failing(getattr(steps, name), fail_at))
      if found.index and fail_in == 'validation':
        trainer.validation_step = Failing(trainer.validation_step, fail_at)
      if found.index and fail_in == 'batch':
        batches = [*batches[:2], None]
      taken = iter(batches)

      class Batches:
        """Gives batches until one cannot be read."""

        reset = staticmethod(lambda: None)

        def __next__(self):
          batch = next(taken)
          if batch is None:
            raise ArithmeticError('as the test asks for')
          return batch

      run = trainers.Run(trainer, folder, Batches(), batches[:2])
      with run.saved_at_faults():
        for _ in range(3):
          run.take_step()
          left = [variable.numpy() for variable in variables]
          if fail_in == 'validation' and trainer.step == 2:
            run.validate()
  now = [variable.numpy() for variable in variables]
  return raised.value, trainer.step, left, now


@pytest.mark.parametrize(
  'case',
  some_quick(
    [
      (N_SAMPLES // 4, 'step', 4 * 2 + 3),  # windows of which two have updated
      (N_SAMPLES // 4, 'step', 4 * 2 + 1),
      (N_SAMPLES // 4, 'batch', 3),
      (None, 'step', 3),
      (None, 'validation', 2),
    ],
    [(N_SAMPLES // 4, 'step', 4 * 2 + 3), (None, 'validation', 2)],
  ),
)
def test_a_fault_of_one_ends_all_as_before_the_step(threads, tmp_path, case):
  addresses = cluster.local(2)
  with concurrent.futures.ThreadPoolExecutor(2) as executor:
    futures = [
      executor.submit(
        take_steps,
        cluster.Cluster(addresses, index),
        tmp_path,
        *case,
      )
      for index in (0, 1)
    ]
    found = [future.result(timeout=LIMIT_S) for future in futures]
  assert re.fullmatch(
    r'Worker 1 \(127.0.0.1:\d+\) has failed: ArithmeticError: as the test '
    'asks for',
    str(found[0][0]),
  )
  assert isinstance(found[1][0], ArithmeticError)
  for _, step, left, now in found:
    assert step == 2
    for before, after in zip(left, now, strict=True):
      np.testing.assert_array_equal(before, after)
  assert (tmp_path / 'ckpt-2.index').exists()
