"""Work that is killed at random, and then goes on.

    python tests/field/killing.py WORK COUNT SEED FOLDER

does WORK in FOLDER/whole, undisturbed. Then it is begun in FOLDER/killed-0 and
killed by SIGKILL at a random time, COUNT times in all; a run that comes to its
end is followed by a new one. At last it is let come to its end. Printed is a
line of JSON: how often it was killed, and how many runs there are.
"""

import json
import logging
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.append(os.path.dirname(os.path.abspath(__file__)))

import dafx  # noqa: E402, F401  What makes ddsp importable, so before it.

RATE = 8000
N_PAIRS, N_STEPS = 12, 12


def music(seed, seconds=0.6):
  """Notes that begin and end, [n_samples, 1]."""
  import numpy as np

  rng = np.random.default_rng(seed)
  t = np.arange(int(seconds * RATE)) / RATE
  audio = 0.003 * rng.standard_normal(len(t))
  for onset in np.arange(0.02, seconds - 0.1, 0.1):
    since = np.maximum(t - onset, 0.0)
    f0_hz = 150 * 2 ** (rng.integers(0, 24) / 12)
    notes = sum(np.sin(2 * np.pi * k * f0_hz * since) / k for k in range(1, 6))
    audio += 0.1 * notes * np.exp(-9 * since) * (since > 0)
  return audio[:, np.newaxis].astype(np.float32)


def make_own(folder):
  """Writes pairs of one's own, the target 9 samples late."""
  import numpy as np

  from dafx.audio import files

  for i in range(N_PAIRS):
    audio = music(i)
    late = np.roll(np.tanh(3 * audio), 9, axis=0)
    for side, sound in (('input', audio), ('target', late)):
      path = folder / side / f'song {i}.wav'
      path.parent.mkdir(parents=True, exist_ok=True)
      files.write(path, sound, RATE)


def train(folder):
  """A training with validations, plateaus and checkpoints that are dropped."""
  import runs_test
  import tensorflow as tf

  from dafx.training import trainers

  tf.config.run_functions_eagerly(True)
  # Of one seed at first; of another one where it goes on, which is no matter.
  model = runs_test.make_model(seed=9 * any(folder.glob('ckpt-*.index')))
  trainers.train(
    runs_test.sines(),
    runs_test.sines(60),
    trainers.Trainer(model, plateau_patience=1),
    batch_size=2,
    num_steps=N_STEPS,
    save_dir=str(folder),
    steps_per_save=2,
    steps_per_validation=3,
  )


def prepare(folder):
  """What dafx_prepare does of one's own pairs, and TFRecords of them."""
  from dafx.audio import disk
  from dafx.training.data_preparation import matching, pairs, shards

  own = folder.parent / 'own'
  found, left_out = matching.find_candidates(own / 'input', own / 'target')
  with disk.locked(folder, 'dafx_prepare'):
    pairs.prepare_from_candidates(found, left_out, folder, RATE, 1)
    shards.write_tfrecords(folder, n_shards=2)


def evaluate(folder):
  """An evaluation, whose rows are kept as they come."""
  import numpy as np
  import runs_test
  import tensorflow as tf

  from dafx.training import data, evaluation

  tf.config.run_functions_eagerly(True)
  recordings = []
  for i in range(N_PAIRS):
    dry = music(i, 0.2)[:, 0]
    recordings.append((f'song {i}', dry, np.tanh(dry), np.zeros(0), ''))
  provider = data.Recordings(recordings, (), runs_test.RATE, 400)
  model = runs_test.make_model(seed=1)
  evaluation.evaluate.evaluate(model, provider, str(folder), n_audio=3)


WORKS = {'train': train, 'prepare': prepare, 'evaluate': evaluate}


def _begin(name, folder):
  """Begins work in a process of its own, which has loaded all it needs."""
  process = subprocess.Popen(
    [sys.executable, __file__, name, str(folder)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    errors='replace',
  )
  process.stdout.readline()
  return process


def _finish(name, folder):
  """Has work come to its end; returns how long that took, in seconds."""
  process = _begin(name, folder)
  start = time.monotonic()
  said = process.communicate()[1]
  if process.returncode:
    raise SystemExit(f'{name} fails in {folder}: {said[-3000:]}')
  return time.monotonic() - start


def run(name: str, count: int, seed: int, root: pathlib.Path):
  """Has work killed; see the head of this file."""
  make_own(root / 'own')
  _finish(name, root / 'whole')
  seconds = _finish(name, root / 'timed')
  rng = random.Random(f'{name} {seed}')
  n_killed = n_runs = 0
  while n_killed < count:
    folder = root / f'killed-{n_runs}'
    process = _begin(name, folder)
    try:
      said = process.communicate(timeout=rng.uniform(0, 0.8) * seconds)[1]
    except subprocess.TimeoutExpired:
      process.send_signal(signal.SIGKILL)
      process.communicate()
      n_killed += 1
      continue
    if process.returncode:
      raise SystemExit(f'{name} does not go on in {folder}: {said[-3000:]}')
    n_runs += 1
  _finish(name, root / f'killed-{n_runs}')
  sys.stdout.write(json.dumps({'killed': n_killed, 'runs': n_runs + 1}))


if __name__ == '__main__':
  os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
  if len(sys.argv) == 3:
    logging.disable(logging.CRITICAL)
    pathlib.Path(sys.argv[2]).mkdir(parents=True, exist_ok=True)
    import runs_test  # noqa: F401

    from dafx.training import data, evaluation  # noqa: F401
    from dafx.training.data_preparation import pairs, shards  # noqa: F401

    sys.stdout.write('loaded\n')
    sys.stdout.flush()
    WORKS[sys.argv[1]](pathlib.Path(sys.argv[2]))
  else:
    _, _name, _count, _seed, _root = sys.argv
    run(_name, int(_count), int(_seed), pathlib.Path(_root))
