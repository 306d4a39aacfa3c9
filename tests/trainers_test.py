"""Training: repeatable to the bit, resumed as if never interrupted."""

import csv
import hashlib
import json
import math
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time

import ddsp
import gin
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from absl import logging
from cases import some_quick

import dafx
from dafx import effects, losses, processors
from dafx.training import checkpoints, data, models, progress, trainers
from dafx.training.models import effect, encoders
from dafx.training.trainers import loop, rates, stages, summaries

RATE = 16000
HOP = 512
N_SAMPLES = 4 * HOP


@pytest.fixture(autouse=True)
def _without_gin():
  gin.clear_config()
  yield
  gin.clear_config()


@pytest.fixture(autouse=True)
def _untraced():
  """Runs steps op by op: for a few of them, tracing takes longest.

  Those of the processes that tests start are traced, as in use.
  """
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Folder of pairs: noise, and the same softer and duller."""
  path = tmp_path_factory.mktemp('pairs')
  rng = np.random.default_rng(0)
  for split, count in (('train', 3), ('valid', 2)):
    for i in range(count):
      audio = 0.1 * rng.standard_normal(2 * N_SAMPLES)
      for side, samples in (('input', audio), ('target', 0.3 * audio)):
        file = path / split / side / f'{i}.wav'
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, samples, RATE, 'FLOAT')
  return path


def make_model(seed=0, width=4, kinds=('gain', 'onepole'), n_threads=1):
  tf.keras.utils.set_random_seed(seed)
  dag, signal_key = [], 'audio'
  for kind in kinds:
    host = effects.Host(warm_up=0, n_threads=n_threads)
    plugin = effects.LV2Plugin(f'urn:dafx-test:{kind}', name=kind, host=host)
    dag.append((plugin, [signal_key, f'{kind}_controls']))
    signal_key = f'{kind}/signal'
  return models.ControlModel(
    encoders.LogMelEncoder(RATE, HOP, width, n_mels=8, fft_size=512),
    ddsp.processors.ProcessorGroup(dag=dag),
    [losses.TimeDomainLoss(weight=10.0)],  # which is traced fast
    RATE,
  )


def make_trainer(seed=0, learning_rate=1e-2, model=None, **kwargs):
  return trainers.Trainer(model or make_model(seed), learning_rate, **kwargs)


def built(folder, **kwargs):
  trainer = make_trainer(**kwargs)
  trainer.build(next(iter(provider(folder).get_batch(2))))
  return trainer


def provider(folder, split='train'):
  return data.FolderProvider(str(folder), split, RATE, N_SAMPLES)


def train(trainer, folder, num_steps, save_dir='', valid=False, **kwargs):
  kwargs = {'steps_per_validation': 4, 'steps_per_save': 4, **kwargs}
  return trainers.train(
    data_provider=provider(folder),
    valid_provider=provider(folder, 'valid') if valid else None,
    trainer=trainer,
    batch_size=2,
    num_steps=num_steps,
    save_dir=str(save_dir) if save_dir else '',
    **kwargs,
  )


def state(trainer):
  """All that a step depends on: weights, Adam, monitor, SPSA's counters."""
  values = [*trainer.model.variables, *trainer.optimizer.variables]
  values += trainer.monitor.variables
  values += [trainer.n_steps, trainer._stage, trainer._n_plugins]
  values += [p.gradient_step for p in trainer.model.driven.values()]
  return [v.numpy() for v in values]


def assert_same_state(ours, theirs):
  for a, b in zip(state(ours), state(theirs), strict=True):
    np.testing.assert_array_equal(a, b)


def hashes(folder):
  return {
    path: hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(pathlib.Path(folder).rglob('*'))
    if path.is_file()
  }


def column(folder, name):
  """Returns a column of history.csv."""
  with open(folder / 'history.csv', newline='') as file:
    return [float(row[name]) for row in csv.DictReader(file)]


def test_history_of_steps_that_were_lost_is_replaced(tmp_path):
  for step, more in ((2, {}), (4, {}), (6, {}), (4, {'new': 7.0})):
    summaries.append_history(
      tmp_path, {'step': step, 'loss': 0.1 * step, **more}
    )
  assert column(tmp_path, 'step') == [2, 4]
  assert column(tmp_path, 'loss') == [0.2, 0.4]
  assert (tmp_path / 'history.csv').read_text().splitlines()[1] == '2,0.2,'
  assert [p.name for p in tmp_path.iterdir()] == ['history.csv']


def at_step(monkeypatch, step, action):
  """Has `action` called while the given step is under way."""
  original = progress.Progress.update

  def update(self, text=''):
    original(self, text)
    if self.done == step:
      action()

  monkeypatch.setattr(progress.Progress, 'update', update)


def press_ctrl_c():
  os.kill(os.getpid(), signal.SIGINT)


def test_a_run_says_what_it_does_and_that_it_takes_hours(
  folder, monkeypatch, caplog
):
  class Slow(progress.Progress):
    """Whose clock goes on by three hours a step."""

    def __init__(self, *args, **kwargs):
      self.now_s = 0.0
      super().__init__(*args, clock=lambda: self.now_s, **kwargs)

    def update(self, text=''):
      self.now_s += 3 * 3600
      super().update(text)

  monkeypatch.setattr(progress, 'Progress', Slow)
  caplog.set_level('INFO', logger='absl')
  train(make_trainer(), folder, 6, valid=True, steps_per_validation=6)
  said = [m for m in caplog.messages if 'trainable' not in m]
  assert said[:4] == [
    'Reading the first batch of the training data.',
    'Building the model.',
    'Reading the validation data.',
    'Training: tracing the first step',
  ]
  assert 'Training: validating' in said
  (record,) = [r for r in caplog.records if 'on this machine' in r.message]
  assert record.levelname == 'WARNING'
  assert 'the 2 that are left take about 6.0 hours' in record.message
  assert 'dafx.training.train.num_steps' in record.message


# ------------------------------------------------------------ Repeatable ----
def test_one_seed_gives_one_result_on_any_number_of_render_threads(folder):
  runs = []
  for n_threads in (1, 2):
    trainer = make_trainer(model=make_model(n_threads=n_threads))
    runs.append((trainer, train(trainer, folder, 20)))
  assert runs[0][1] == runs[1][1]
  assert_same_state(runs[0][0], runs[1][0])
  values = runs[0][1]['total_loss']
  assert runs[0][1]['step'] == list(range(1, 21))
  assert np.mean(values[-4:]) < 0.8 * np.mean(values[:4])  # and it learns


@pytest.mark.slow
def test_other_seeds_of_weights_and_of_data_give_other_results(folder):
  histories = [
    train(make_trainer(seed), folder, 3, seed=data_seed)
    for seed, data_seed in ((0, 0), (1, 0), (0, 1))
  ]
  assert len({tuple(h['total_loss']) for h in histories}) == 3


_ON_PROCESSORS = """
import os, sys
processors = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, processors[: int(sys.argv[1])])
sys.path.insert(0, sys.argv[2])
import dafx, tensorflow  # the demonstration imports it before it prepares it
from dafx.commands import running
running.prepare_tensorflow(seed=0)
import trainers_test
trainer = trainers_test.make_trainer(
    model=trainers_test.make_model(width=16, n_threads=None))
history = trainers_test.train(trainer, sys.argv[3], 8)
print([x.hex() for x in history['total_loss']])
print([v.numpy().tobytes().hex() for v in trainer.model.trainable_variables])
"""


@pytest.mark.slow
def test_the_number_of_processors_does_not_matter(folder):
  # TensorFlow shares sums among as many threads as there are processors,
  # unless dafx_run says how many.
  environment = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '2'}
  environment.pop('TF_NUM_INTRAOP_THREADS', None)
  command = [sys.executable, '-c', _ON_PROCESSORS]
  here = os.path.dirname(__file__)
  outputs = []
  for n in ('1', '2'):
    run = subprocess.run(
      [*command, n, here, str(folder)],
      env={**environment, 'PYTHONPATH': os.path.dirname(here)},
      capture_output=True,
      text=True,
    )
    assert run.returncode == 0, run.stderr
    outputs.append(run.stdout.splitlines()[-2:])
  assert outputs[0] == outputs[1]


# --------------------------------------------------------------- Resumed ----
def test_a_run_that_has_its_steps_already_says_so(folder, tmp_path, caplog):
  history = train(make_trainer(), folder, 4, tmp_path)
  assert history['step'] == [1, 2, 3, 4]
  assert 'already' not in caplog.text
  for num_steps in (2, 4):
    caplog.clear()
    assert train(make_trainer(), folder, num_steps, tmp_path) == {}
    (said,) = [m for m in caplog.messages if 'already' in m]
    assert f'The run in {tmp_path} has 4 steps already' in said
    assert f'train.num_steps, {num_steps} in all, counts these' in said
    assert 'set more than 4' in said
  caplog.clear()
  assert train(make_trainer(), folder, 5, tmp_path)['step'] == [5]
  assert 'already' not in caplog.text


SCHEDULES = {
  'plateau': dict(plateau_patience=1, plateau_factor=0.5, learning_rate=3.0),
  'cosine': dict(decay_steps=12),
}


@pytest.mark.parametrize(
  'schedule, step',
  [('plateau', 6), pytest.param('cosine', 7, marks=pytest.mark.slow)],
)
def test_a_run_goes_on_after_ctrl_c_as_if_there_had_been_none(
  tmp_path, folder, monkeypatch, schedule, step
):
  settings = SCHEDULES[schedule]
  options = dict(valid=True, steps_per_validation=2)
  # Figures take longer than all else here; another test looks at them.
  monkeypatch.setattr(summaries, 'write_examples', lambda *args: None)
  whole = make_trainer(**settings)
  expected = train(whole, folder, 12, **options)

  first = make_trainer(**settings)
  with monkeypatch.context() as patch:
    at_step(patch, step, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
      train(first, folder, 12, tmp_path, **options)
  assert first.step == step
  assert (tmp_path / f'ckpt-{step}.index').exists()
  # Another seed of weights: all must come from the checkpoint.
  second = make_trainer(seed=9, **settings)
  history = train(second, folder, 12, tmp_path, **options)
  assert history['step'] == list(range(step + 1, 13))
  for name in ('total_loss', 'gradient_norm'):
    assert history[name] == expected[name][step:]
  n_before = step // 2
  assert history['valid_total_loss'] == expected['valid_total_loss'][n_before:]
  # What lies in the folder is of the whole run.
  for ours, theirs in (('step', 'valid_step'), ('valid_total_loss',) * 2):
    assert column(tmp_path, ours) == expected[theirs]
  assert column(tmp_path, 'total_loss') == expected['total_loss'][1::2]
  assert_same_state(second, whole)
  if schedule == 'plateau':
    assert second.learning_rate <= 1.5  # the plateau was seen


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(
  tmp_path, folder, monkeypatch
):
  whole = make_trainer()
  expected = train(whole, folder, 8)

  class PowerCutError(BaseException):
    pass

  def cut_power():
    raise PowerCutError

  with monkeypatch.context() as patch:
    at_step(patch, 6, cut_power)
    with pytest.raises(PowerCutError):
      train(make_trainer(), folder, 8, tmp_path / 'here')
  # Folders can be moved.
  (tmp_path / 'here').rename(tmp_path / 'there')
  second = make_trainer(seed=9)
  history = train(second, folder, 8, tmp_path / 'there')
  assert history['total_loss'] == expected['total_loss'][4:]
  assert_same_state(second, whole)


# What the script below prints is that of the run, as far as it came.
_KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
import dafx
from dafx.commands import running
running.prepare_tensorflow(seed=0)
import trainers_test
from dafx.training.trainers import summaries
from dafx.training import trainers
summaries.write_examples = lambda *args: None
take_step = trainers.Run.take_step

def noted(self):
  loss = take_step(self)
  print(self.trainer.step, loss.hex(), flush=True)
  return loss

trainers.Run.take_step = noted
history = trainers_test.train(
    trainers_test.make_trainer(), sys.argv[2], 0, sys.argv[3], valid=True,
    stages=trainers_test.STAGES, steps_per_validation=3, steps_per_save=2)
"""


@pytest.mark.slow
def test_killed_at_ten_random_times_it_goes_on_as_if_it_had_not_been(
  tmp_path, folder
):
  environment = {
    **os.environ,
    'TF_CPP_MIN_LOG_LEVEL': '3',
    'PYTHONPATH': str(pathlib.Path(__file__).parents[1]),
  }
  here = os.path.dirname(__file__)

  def run(save_dir, n_lines=None):
    """Returns what was printed; killed some time after so many lines."""
    with subprocess.Popen(
      [sys.executable, '-c', _KILLED, here, str(folder), str(save_dir)],
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
    ) as process:
      lines = []
      for line in process.stdout:
        lines.append(line.split())
        if len(lines) == n_lines:
          # Anywhere in a step or in the checkpoint behind it.
          time.sleep(rng.uniform(0, 0.3))
          process.kill()
    return [row for row in lines if len(row) == 2], process.returncode

  rng = np.random.default_rng(0)
  rows, code = run(tmp_path / 'whole')
  assert code == 0
  expected = dict(rows)
  assert len(expected) == sum(n for _, n in STAGES)
  n_killed = 0
  for _ in range(10):
    rows, code = run(tmp_path / 'killed', int(rng.integers(1, 4)))
    n_killed += code == -signal.SIGKILL
    assert rows and all(expected[step] == loss for step, loss in rows)
  rows, code = run(tmp_path / 'killed')
  assert code == 0 and n_killed >= 8
  assert rows and all(expected[step] == loss for step, loss in rows)
  assert rows[-1][0] == str(len(expected))


def test_a_run_that_is_done_stays_as_it_is(tmp_path, folder):
  train(make_trainer(), folder, 4, tmp_path)
  before = hashes(tmp_path)
  trainer = make_trainer(seed=9)
  history = train(trainer, folder, 4, tmp_path)
  assert 'step' not in history and trainer.step == 4
  after = hashes(tmp_path)
  assert {k: after[k] for k in before} == before
  assert {p.parent.parent.name for p in set(after) - set(before)} <= {
    'summaries'
  }


def test_ctrl_c_without_a_folder_ends_without_a_word_of_one(
  folder, monkeypatch
):
  at_step(monkeypatch, 2, press_ctrl_c)
  before = signal.getsignal(signal.SIGINT)
  with pytest.raises(KeyboardInterrupt):
    train(make_trainer(), folder, 4)
  assert signal.getsignal(signal.SIGINT) is before


# ---------------------------------------------------------------- Stages ----
STAGES = ((1, 10), (2, 20))


@pytest.mark.slow
def test_stages_train_the_first_plugins_first(tmp_path, folder, monkeypatch):
  monkeypatch.setattr(summaries, 'write_examples', lambda *args: None)
  trainer = make_trainer(decay_steps=10)
  trainer.build(next(iter(provider(folder).get_batch(2))))
  head = trainer.model.heads['onepole_controls']
  start = [v.numpy() for v in head.variables]
  seen = {}

  def note(run):
    if trainer.stage_step == 1:
      seen[trainer.step] = trainer.model.n_plugins, trainer.learning_rate
    if trainer.step == 4:
      for a, b in zip(start, head.variables, strict=True):
        np.testing.assert_array_equal(a, b)

  summarize = trainers.Run.summarize
  monkeypatch.setattr(
    trainers.Run, 'summarize', lambda run: (note(run), summarize(run))
  )
  kwargs = dict(valid=True, stages=((1, 4), (2, 3)), steps_per_summary=1)
  history = train(trainer, folder, 0, tmp_path, **kwargs)
  assert history['step'] == list(range(1, 8))
  assert history['valid_step'] == [4, 7]
  assert {k: v[0] for k, v in seen.items()} == {1: 1, 5: 2}
  assert seen[1][1] == seen[5][1] > trainer.learning_rate  # it starts anew
  assert trainer.stage == 1 and trainer.stage_step == 3
  assert (tmp_path / 'stage_1' / 'ckpt-4.index').exists()
  assert all((v.numpy() != s).any() for v, s in zip(head.variables, start))
  # As trained as the whole: in use the model has the plugins of its stage.
  for place, n_plugins in ((tmp_path / 'stage_1', 1), (tmp_path, 2)):
    other = built(folder, seed=9, decay_steps=10)
    assert other.restore(place)
    assert other.model.n_plugins == n_plugins
  with pytest.raises(ValueError, match=r'stage 1, with 2 plugins.*--save_dir'):
    train(make_trainer(decay_steps=10), folder, 0, tmp_path, stages=((1, 4),))


@pytest.mark.parametrize('average', some_quick([None, 0.8], [0.8]))
@pytest.mark.parametrize('step', some_quick([3, 4], [4]))
def test_a_run_in_stages_goes_on_where_it_was(
  tmp_path, folder, monkeypatch, step, average
):
  monkeypatch.setattr(summaries, 'write_examples', lambda *args: None)
  kwargs = dict(valid=True, stages=((1, 4), (2, 4)), steps_per_validation=2)
  whole = make_trainer(average_momentum=average)
  expected = train(whole, folder, 0, **kwargs)
  with monkeypatch.context() as patch:
    at_step(patch, step, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
      first = make_trainer(average_momentum=average)
      train(first, folder, 0, tmp_path, **kwargs)
  second = make_trainer(seed=9, average_momentum=average)
  history = train(second, folder, 0, tmp_path, **kwargs)
  assert history['total_loss'] == expected['total_loss'][step:]
  assert_same_state(second, whole)


def test_a_stage_begins_at_the_average_of_the_weights(folder):
  trainer = built(folder, average_momentum=0.8)
  (batch,) = provider(folder).get_batch(2).take(1)
  for _ in range(3):
    trainer.train_step(batch)
  last = [v.numpy() for v in trainer.model.trainable_variables]
  trainer.show_average()
  average = [v.numpy() for v in trainer.model.trainable_variables]
  assert any((a != b).any() for a, b in zip(last, average))
  trainer.begin_stage(1, stages.Stage(2, 4))
  for is_shown in (False, True):  # none of the last stage is left
    trainer.show_average(is_shown)
    for value, expected in zip(trainer.model.trainable_variables, average):
      np.testing.assert_array_equal(value.numpy(), expected)


def test_the_rate_falls_to_nothing_in_the_last_stage(folder, monkeypatch):
  found = []
  trainer = make_trainer(learning_rate=0.5, decay_steps='last_stage')
  take = trainer.train_step

  def train_step(*args):
    losses = take(*args)
    found.append(trainer.learning_rate)  # that of the update
    return losses

  monkeypatch.setattr(trainer, 'train_step', train_step)
  train(trainer, folder, 0, stages=((1, 4), (2, 2)))
  expected = [0.5, 0.5, 0.5, 0.5, 0.5, 0.25]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  found.clear()
  trainer = make_trainer(learning_rate=0.5, decay_steps='last_stage')
  take = trainer.train_step
  monkeypatch.setattr(trainer, 'train_step', train_step)
  train(trainer, folder, 2)  # one stage is all of it
  np.testing.assert_allclose(found, [0.5, 0.25], rtol=1e-6)


@pytest.mark.parametrize(
  'decay_steps', [0, -3, math.nan, math.inf, True, 'all', (1,)]
)
def test_other_lengths_of_a_decay_are_refused(decay_steps):
  with pytest.raises(ValueError, match=r"decay_steps=.*'last_stage' for those"):
    make_trainer(decay_steps=decay_steps)


def test_a_rate_over_the_last_stage_does_not_go_with_windows():
  with pytest.raises(ValueError, match='several updates'):
    rates.Rate(0.1, 'last_stage', 0.5, 1e-6, None, tbptt_samples=HOP)


def test_a_rate_goes_on_where_it_was_and_over_what_is_added(
  folder, tmp_path, monkeypatch
):
  monkeypatch.setattr(summaries, 'write_examples', lambda *args: None)
  found = []
  options = dict(single_fraction=0.5, steps_per_save=1)
  # Two steps of one setting, and two of the network; then two more.
  for num_steps in (3, 4, 6):
    trainer = make_trainer(learning_rate=0.5, decay_steps='last_stage')
    take = trainer.train_step

    def train_step(*args, take=take, trainer=trainer):
      losses = take(*args)
      found.append(trainer.learning_rate)
      return losses

    monkeypatch.setattr(trainer, 'train_step', train_step)
    if num_steps == 3:
      at_step(monkeypatch, 3, press_ctrl_c)
      with pytest.raises(KeyboardInterrupt):
        train(trainer, folder, 4, tmp_path, **options)
      monkeypatch.undo()
      monkeypatch.setattr(summaries, 'write_examples', lambda *args: None)
    else:
      train(trainer, folder, num_steps, tmp_path, **options)
  assert trainer.step == 6 and trainer.stage_step == 4
  cosines = [0.25 * (1 + math.cos(math.pi * part)) for part in (0.5, 0.75)]
  np.testing.assert_allclose(found, [0.5, 0.5, 0.5, 0.25, *cosines], rtol=1e-5)


@pytest.mark.slow
def test_a_stage_ends_when_validation_gets_no_better(folder):
  trainer = make_trainer(learning_rate=0.0, stop_patience=1)
  history = train(
    trainer,
    folder,
    0,
    valid=True,
    stages=((1, 9), (2, 9)),
    steps_per_validation=2,
  )
  assert history['valid_step'] == [2, 4, 6, 8]
  assert trainer.step == 8 and trainer.stage == 1


# ------------------------------------------- Learning rate, early stopping ----
def test_it_is_told_of_what_size_the_model_is_and_how_long_steps_waited(
  folder, monkeypatch
):
  made, said = [], []

  class Noted(data.TimedIterator):
    def __init__(self, iterable):
      super().__init__(iterable)
      made.append(self)

  monkeypatch.setattr(data, 'TimedIterator', Noted)
  monkeypatch.setattr(
    logging, 'info', lambda text, *args: said.append(text % args)
  )
  train(make_trainer(), folder, 4)
  assert made[0].n_items == 3  # all but the first, which is traced
  # Convolutions of 8 and 4 bands to 4, twice 4 mixed to 4; heads on 8 + 4.
  n_encoder = (3 * 8 * 4 + 4) + (3 * 4 * 4 + 4) + (8 * 4 + 4)
  n_model = n_encoder + 2 * (12 + 1)
  assert f'The encoder has {n_encoder} trainable parameters.' in said
  assert f'The model has {n_model} trainable parameters.' in said
  (line,) = [text for text in said if 'waited' in text]
  assert re.fullmatch(r'Steps waited \d+\.\d % of the time for data\.', line)


def test_plateau_lowers_the_rate_down_to_the_least(folder):
  trainer = built(
    folder,
    learning_rate=1e-9,
    plateau_patience=2,
    plateau_factor=0.1,
    min_learning_rate=5e-11,
  )
  rates = []
  for loss in (3.0, 3.0, 4.0, 2.0, 2.0, 2.5, 2.5, 2.5):
    trainer.end_validation(loss)
    rates.append(trainer.learning_rate)
  expected = [1e-9, 1e-9, 1e-10, 1e-10, 1e-10, 5e-11, 5e-11, 5e-11]
  np.testing.assert_allclose(rates, expected, rtol=1e-5)
  assert trainer.monitor.best == 2.0


def test_plateaus_are_those_of_keras_with_the_cooldown_of_deepafx():
  # Its callback ends a cooldown of 1 as the next epoch begins: no epoch is
  # left out.
  model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
  model.compile(tf.keras.optimizers.Adam(1.0))
  callback = tf.keras.callbacks.ReduceLROnPlateau(
    'val_loss', 0.2, patience=3, cooldown=1, min_delta=0, min_lr=0
  )
  callback.set_model(model)
  callback.on_train_begin()
  ours, rate = trainers.Monitor(plateau_patience=3), 1.0
  losses_seen = np.random.default_rng(0).uniform(0, 1, 60).astype(np.float32)
  rates = []
  for epoch, loss in enumerate(losses_seen):
    callback.on_epoch_end(epoch, {'val_loss': loss})
    ours.update(loss)
    rate *= 0.2 if ours.lower_rate() else 1.0
    rates.append(rate)
    np.testing.assert_allclose(rate, float(model.optimizer.lr), rtol=1e-5)
  assert len(set(rates)) > 10


# ----------------------------------------------------------- What decides ----
@pytest.fixture(scope='module')
def long_folder(tmp_path_factory):
  """Folder of pairs that are long enough to be judged at equal level."""
  path = tmp_path_factory.mktemp('long_pairs')
  rng = np.random.default_rng(0)
  for split in ('train', 'valid'):
    audio = 0.1 * rng.standard_normal(16 * HOP)
    duller = 0.5 * (audio + np.roll(audio, 1))
    for side, samples in (('input', audio), ('target', duller)):
      (path / split / side).mkdir(parents=True)
      soundfile.write(path / split / side / 'a.wav', samples, RATE, 'FLOAT')
  return path


def judged_trainer(judged_by, **kwargs):
  model = make_model(kinds=('onepole',))
  model.judged_by = judged_by
  return make_trainer(model=model, **kwargs)


def train_judged(trainer, folder, num_steps, save_dir=''):
  sides = [
    data.FolderProvider(str(folder), split, RATE, 16 * HOP)
    for split in ('train', 'valid')
  ]
  return trainers.train(
    *sides,
    trainer=trainer,
    batch_size=1,
    num_steps=num_steps,
    steps_per_validation=2,
    save_dir=str(save_dir) if save_dir else '',
  )


def test_the_figure_decides_and_is_written(tmp_path, long_folder, monkeypatch):
  said = []
  monkeypatch.setattr(
    logging, 'info', lambda text, *args: said.append(text % args)
  )
  trainer = judged_trainer('equal_level', learning_rate=0.3)
  history = train_judged(trainer, long_folder, 6, tmp_path)
  figures = history['valid_figure']
  assert len(set(figures)) == 3
  parts = ('average_spectrum_db', 'crest_error_db', 'loudness_difference')
  for i, figure in enumerate(figures):
    errors = sum(history[f'valid_{name}'][i] for name in parts)
    expected = history['valid_matched_mr_stft'][i] + 0.1 * errors
    assert figure == pytest.approx(expected)
  np.testing.assert_allclose(trainer.monitor.best, min(figures), rtol=1e-6)
  newest = tf.train.latest_checkpoint(str(tmp_path / 'best'))
  best_step = history['valid_step'][np.argmin(figures)]
  assert pathlib.Path(newest).name == f'ckpt-{best_step}'
  for name in ('figure', 'matched_mr_stft', *parts):
    assert column(tmp_path, f'valid_{name}') == history[f'valid_{name}']
    assert tags_in(tmp_path)[f'valid:losses/{name}'] == [2, 4, 6]
  line = f'Step 2: validation figure (equal_level) {figures[0]:.4f}'
  assert any(text.startswith(line) for text in said)


def test_the_loss_decides_where_nothing_has_a_figure(folder, monkeypatch):
  said = []
  monkeypatch.setattr(
    logging, 'warning', lambda text, *args: said.append(text % args)
  )
  trainer = judged_trainer('equal_level')
  history = train(trainer, folder, 4, valid=True, steps_per_validation=2)
  assert 'valid_figure' not in history
  best = min(history['valid_total_loss'])
  np.testing.assert_allclose(trainer.monitor.best, best, rtol=1e-6)
  (text,) = [t for t in said if 'The loss decides' in t]
  assert 'equal_level' in text


def test_a_run_of_before_goes_on_and_is_judged_anew(tmp_path, long_folder):
  former = judged_trainer('loss')
  train_judged(former, long_folder, 2)
  assert np.isfinite(float(former.monitor.best))
  # Checkpoints of before do not say by what they were judged.
  parts = dict(former.checkpoint._trackable_children())
  for name in ('judged_by', 'save_counter'):
    parts.pop(name, None)
  checkpoints.save(tf.train.Checkpoint(**parts), tmp_path, 2, 1)
  trainer = judged_trainer('equal_level')
  history = train_judged(trainer, long_folder, 4, tmp_path)
  assert history['step'] == [3, 4]
  np.testing.assert_allclose(
    trainer.monitor.best, history['valid_figure'][0], rtol=1e-6
  )


def test_two_ways_to_change_the_rate_are_one_too_many():
  with pytest.raises(ValueError, match='decay_steps=5 and plateau_patience=1'):
    make_trainer(decay_steps=5, plateau_patience=1)


def test_stops_when_validation_gets_no_better_and_stays_stopped(
  tmp_path, folder, monkeypatch
):
  monkeypatch.setattr(summaries, 'write_examples', lambda *args: None)
  kwargs = dict(learning_rate=0.0, stop_patience=2)
  options = dict(valid=True, steps_per_validation=2)
  trainer = make_trainer(**kwargs)
  history = train(trainer, folder, 20, tmp_path, **options)
  assert history['valid_step'] == [2, 4, 6]
  assert trainer.step == 6
  assert (tmp_path / 'ckpt-6.index').exists()
  again = make_trainer(**kwargs)
  assert 'step' not in train(again, folder, 20, tmp_path, **options)
  assert again.step == 6
  # With more patience it goes on.
  patient = make_trainer(learning_rate=0.0, stop_patience=3)
  history = train(patient, folder, 20, tmp_path, **options)
  assert history['step'] == [7, 8]


@pytest.mark.parametrize('split', ['train', 'valid'])
def test_data_of_another_rate_than_the_models(tmp_path, split):
  for side in ('input', 'target'):
    (tmp_path / split / side).mkdir(parents=True)
    path = tmp_path / split / side / 'a.wav'
    soundfile.write(path, np.ones(3 * N_SAMPLES), 44100, 'FLOAT')
  other = data.FolderProvider(str(tmp_path), split, 44100, N_SAMPLES)
  with pytest.raises(
    ValueError, match=r'44100 Hz.*16000 Hz.*macro sample_rate'
  ):
    trainers.train(other, other, trainer=make_trainer(), num_steps=1)


def test_stops_below_a_training_loss(folder):
  trainer = make_trainer()
  history = train(trainer, folder, 20, early_stop_loss_value=1e9)
  assert history['step'] == [1]


def test_large_gradients_are_scaled_to_the_norm_allowed(folder):
  trainer = make_trainer(grad_clip_norm=1e-3)
  batch = next(iter(provider(folder).get_batch(2)))
  trainer.build(batch)
  norm = float(trainer.train_step(batch)['gradient_norm'])
  assert norm > 1e-2  # what is reported is not clipped
  # After one step, Adam's first moment is a tenth of the gradient.
  moments = [v for v in trainer.optimizer.variables if v.name.startswith('m/')]
  assert len(moments) == len(trainer.model.trainable_variables)
  np.testing.assert_allclose(
    float(tf.linalg.global_norm(moments)), 0.1 * 1e-3, rtol=1e-4
  )


def test_gradients_are_taken_as_they_are_where_no_norm_is_given(folder):
  batch = next(iter(provider(folder).get_batch(2)))
  moments = []
  for norm in (None, 1e6):
    trainer = make_trainer(grad_clip_norm=norm)
    trainer.build(batch)
    reported = float(trainer.train_step(batch)['gradient_norm'])
    first = [v for v in trainer.optimizer.variables if v.name.startswith('m/')]
    moments.append([v.numpy() for v in first])
    np.testing.assert_allclose(
      0.1 * reported, float(tf.linalg.global_norm(first)), rtol=1e-4
    )
  for ours, theirs in zip(*moments, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-9)


# ----------------------------------------------------------- Checkpoints ----
def tags_in(folder):
  """Returns the steps of what TensorBoard shows, by writer and tag."""
  tags = {}
  for path in (folder / 'summaries').iterdir():
    (events,) = path.iterdir()
    for event in tf.compat.v1.train.summary_iterator(str(events)):
      for value in event.summary.value:
        tags.setdefault(f'{path.name}:{value.tag}', []).append(event.step)
  return tags


def test_figures_of_a_chain_are_written(tmp_path, folder):
  members = [
    effects.LV2Plugin(f'urn:dafx-test:{kind}', name=kind)
    for kind in ('gain', 'onepole')
  ]
  chain = effects.LV2Chain(members, name='both')
  keys = ['audio', 'gain_controls', 'onepole_controls']
  model = models.ControlModel(
    make_model().encoder,
    ddsp.processors.ProcessorGroup(dag=[(chain, keys)]),
    [losses.TimeDomainLoss()],
    RATE,
  )
  trainer = make_trainer(model=model)
  train(trainer, folder, 2, tmp_path, steps_per_summary=1)
  tags = tags_in(tmp_path)
  for figure in ('norm/gain/amount', 'norm/onepole/amount', 'n_renders'):
    assert tags[f'train:gradients/both/{figure}'] == [1, 2]


def test_what_lies_in_the_folder(tmp_path, folder):
  trainer = make_trainer(checkpoints_to_keep=2)
  history = train(
    trainer,
    folder,
    7,
    tmp_path,
    valid=True,
    steps_per_save=2,
    steps_per_summary=3,
  )
  kept = {p.stem for p in tmp_path.glob('*.index')}
  assert kept == {'ckpt-6', 'ckpt-7'}
  assert history['valid_step'] == [4, 7]  # the last step is validated too
  best_step = history['valid_step'][np.argmin(history['valid_total_loss'])]
  newest = tf.train.latest_checkpoint(str(tmp_path / 'best'))
  assert pathlib.Path(newest).name == f'ckpt-{best_step}'
  assert (tmp_path / 'operative_config-0.gin').exists()
  for name in ('total_loss', 'gradient_norm'):
    assert column(tmp_path, name) == [history[name][3], history[name][6]]
  assert column(tmp_path, 'valid_total_loss') == history['valid_total_loss']
  np.testing.assert_allclose(column(tmp_path, 'learning_rate'), 1e-2)
  tags = tags_in(tmp_path)
  assert tags['train:losses/total_loss'] == [3, 6]
  assert tags['train:learning_rate'] == [3, 6]
  assert tags['train:gradients/gain/norm/amount'] == [3, 6]
  assert tags['train:gradients/gain/n_renders'] == [3, 6]
  assert tags['valid:losses/total_loss'] == [4, 7]
  for tag in ('audio_1/after', 'spectrograms/0', 'controls/gain/amount'):
    assert tags[f'valid:{tag}'] == [4, 7]


def test_nothing_is_written_without_a_folder(tmp_path, folder, monkeypatch):
  monkeypatch.chdir(tmp_path)
  train(make_trainer(), folder, 2, valid=True)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  'other',
  [
    dict(width=5),
    dict(kinds=('gain',)),
    dict(kinds=('gain', 'onepole', 'square')),
    dict(kinds=('gain', 'square')),
  ],
)
def test_another_models_folder_is_left_alone(tmp_path, folder, other):
  built(folder).save(tmp_path)
  before = hashes(tmp_path)
  trainer = make_trainer(model=make_model(**other))
  with pytest.raises(ValueError, match=r'another model.*--save_dir'):
    train(trainer, folder, 4, tmp_path)
  assert hashes(tmp_path) == before


def test_a_run_whose_plugins_were_joined_goes_on_as_its_graph_was_written(
  tmp_path, folder
):
  """Version 0.1.0 made chains by itself where it thought it better."""
  plain = make_model()
  keys = [*plain.driven]
  members = [*make_model().driven.values()]
  chain = effects.LV2Chain(members, name='gain_onepole')
  joined = models.ControlModel(
    make_model().encoder,
    ddsp.processors.ProcessorGroup(dag=[(chain, ['audio', *keys])]),
    make_model().loss_objs,
    RATE,
  )
  members[0].input_choice.assign([2, 7])
  built(folder, model=joined).save(tmp_path)
  trainer = built(folder, model=plain, seed=9)
  assert trainer.restore(tmp_path)
  np.testing.assert_array_equal(plain.driven[keys[0]].input_choice, [2, 7])
  for ours, theirs in zip(
    plain.trainable_variables, joined.trainable_variables, strict=True
  ):
    np.testing.assert_array_equal(ours, theirs)
  # For use, too.
  checkpoints.restore_model(plain, tmp_path)


@pytest.mark.parametrize(
  'other, said',
  [
    (
      dict(ranges={'amount': (0.5, 2.0)}),
      r'gain/amount: from 0 to 4; now from 0\.5 to 2',
    ),
    (dict(ranges={'amount': (1, 4, 'log')}), 'logarithmic'),
  ],
)
def test_controls_that_mean_something_else_are_of_another_model(
  tmp_path, folder, other, said
):
  def model(**kwargs):
    own = make_model(kinds=('onepole',))
    gain = effects.LV2Plugin('urn:dafx-test:gain', name='gain', **kwargs)
    dag = [
      (own.driven['onepole_controls'], ['audio', 'onepole_controls']),
      (gain, ['onepole/signal', 'gain_controls']),
    ]
    return models.ControlModel(
      own.encoder, ddsp.processors.ProcessorGroup(dag=dag), own.loss_objs, RATE
    )

  built(folder, model=model()).save(tmp_path)
  assert built(folder, model=model(), seed=9).restore(tmp_path)
  before = hashes(tmp_path)
  with pytest.raises(ValueError, match=said + r'.*--save_dir'):
    built(folder, model=model(**other)).restore(tmp_path)
  assert hashes(tmp_path) == before


def test_a_checkpoint_says_what_the_controls_are():
  uri = 'http://calf.sourceforge.net/plugins/MultibandCompressor'
  descriptions = []
  # As written, and as gin writes it to the operative config.
  for fixed in (
    {'release0': 5.0, 'attack0': 0.01},
    {'attack0': 0.01, 'release0': 5.0},
  ):
    calf = effects.LV2Plugin(
      uri, ['freq0', 'knee0'], fixed, {'freq0': (10, 400)}, name='calf'
    )
    model = models.ControlModel(
      make_model().encoder,
      ddsp.processors.ProcessorGroup(dag=[(calf, ['audio', 'calf_controls'])]),
      [losses.TimeDomainLoss()],
      RATE,
    )
    descriptions.append(make_trainer(model=model).description.numpy())
  assert descriptions[0] == descriptions[1]
  found = json.loads(descriptions[0])['depends']
  wanted = {
    'calf': uri,
    'calf/freq0': 'from 10 to 400, logarithmic',
    'calf/knee0': 'from 1 to 8',
    'calf/attack0': 'fixed at 0.01',
    'calf/release0': 'fixed at 5',
  }
  assert {key: found[key] for key in wanted} == wanted


def test_a_checkpoint_says_what_the_controls_of_a_gray_box_are():
  gain = effects.Gain(name='drive', ranges={'gain_db': (-6.0, 12.0)})
  group = processors.ProcessorGroup(
    [
      (effects.Const(name='knob'), ['audio']),
      (gain, ['audio', 'knob/signal']),
    ]
  )
  model = effect.EffectModel(group, [losses.TimeDomainLoss()], RATE)
  found = json.loads(make_trainer(model=model).description.numpy())['depends']
  wanted = {
    'drive': 'Gain',
    'drive/gain_db': 'from -6 to 12',
    'drive/offset': 'fixed at 0',
    'drive/polarity': 'fixed at 1',
  }
  assert {key: found[key] for key in wanted} == wanted


def test_restore_dir_starts_from_a_trained_model(tmp_path, folder, caplog):
  trained = make_trainer()
  train(trained, folder, 4, tmp_path / 'old')
  config = tmp_path / 'old/operative_config-0.gin'
  version, text = config.read_text().split('\n', 1)
  assert version == f'# Written by dafx {dafx.__version__}.'
  config.write_text(text)  # as 0.1.0 wrote it
  before = hashes(tmp_path / 'old')
  trainer = make_trainer(seed=9)
  history = train(
    trainer, folder, 6, tmp_path / 'new', restore_dir=str(tmp_path / 'old')
  )
  assert history['step'] == [1, 2, 3, 4, 5, 6]
  assert hashes(tmp_path / 'old') == before
  assert [m for m in caplog.messages if 'was trained by dafx 0.1.0' in m]
  # What save_dir holds comes first.
  again = make_trainer(seed=9)
  history = train(
    again, folder, 7, tmp_path / 'new', restore_dir=str(tmp_path / 'old')
  )
  assert history['step'] == [7]
  with pytest.raises(ValueError, match='nowhere holds no checkpoint'):
    train(make_trainer(), folder, 6, restore_dir=str(tmp_path / 'nowhere'))


class Poisoned(data.Provider):
  """Data whose targets are NaN from a batch on."""

  def __init__(self, source, step):
    self.source, self.step = source, step
    self.sample_rate = source.sample_rate

  @property
  def features(self):
    return self.source.features

  def items(self):
    return self.source.items()

  def get_batch(self, *args, first_step=0, **kwargs):
    def poison(place, batch):
      is_bad = place + first_step >= self.step
      nothing = tf.where(is_bad, math.nan, 0.0)
      return {**batch, 'target': batch['target'] + nothing}

    batches = self.source.get_batch(*args, first_step=first_step, **kwargs)
    return batches.enumerate().map(poison)


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_saved(
  tmp_path, folder
):
  with pytest.raises(
    trainers.DivergedError, match=r'step 6: .*Lower dafx.training.Trainer'
  ):
    trainers.train(
      Poisoned(provider(folder), 5),
      trainer=make_trainer(),
      batch_size=2,
      num_steps=10,
      steps_per_save=2,
      save_dir=str(tmp_path),
    )
  assert {p.stem for p in tmp_path.glob('*.index')} == {'ckpt-2', 'ckpt-4'}
  trainer = make_trainer(seed=9)
  assert train(trainer, folder, 6, tmp_path)['step'] == [5, 6]
  assert all(np.isfinite(v).all() for v in trainer.model.variables)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, folder):
  trainer = built(folder)
  trainer.n_steps.assign(1)
  trainer.save(tmp_path)
  trainer.n_steps.assign(10)
  trainer.save(tmp_path)
  before = hashes(tmp_path)
  saved = [v.copy() for v in state(trainer)]
  trainer.model.trainable_variables[0].assign_add(
    tf.ones_like(trainer.model.trainable_variables[0])
  )
  # Step 1 again: a file name that those of step 10 begin with.
  for step in (11, 1):
    trainer.n_steps.assign(step)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
      resource.setrlimit(resource.RLIMIT_FSIZE, (512, former[1]))
      with pytest.raises(OSError, match=r'ckpt-10 is intact.*Free some space'):
        trainer.save(tmp_path)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, former)
    if step == 11:
      assert hashes(tmp_path) == before
      assert not [p for p in tmp_path.iterdir() if p.is_dir()]
  other = built(folder, seed=9)
  assert other.restore(tmp_path)
  for a, b in zip(state(other), saved, strict=True):
    np.testing.assert_array_equal(a, b)
  trainer.n_steps.assign(12)
  trainer.save(tmp_path)  # with space again


@pytest.mark.parametrize('what', ['index', 'data', 'flipped', 'gone'])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, folder, what):
  trainer = built(folder)
  states = {}
  for step in (3, 6):
    trainer.n_steps.assign(step)
    states[step] = [v.copy() for v in state(trainer)]
    trainer.save(tmp_path)
  content = (tmp_path / 'ckpt-6.data-00000-of-00001').read_bytes()
  if what == 'index':
    path = tmp_path / 'ckpt-6.index'
    path.write_bytes(path.read_bytes()[:100])
  elif what == 'gone':
    (tmp_path / 'ckpt-6.data-00000-of-00001').unlink()
  else:
    half = len(content) // 2
    end = bytes([content[half] ^ 0xFF]) + content[half + 1 :]
    (tmp_path / 'ckpt-6.data-00000-of-00001').write_bytes(
      content[:half] + (end if what == 'flipped' else b'')
    )
  other = built(folder, seed=9)
  assert other.restore(tmp_path)
  assert other.step == 3
  for a, b in zip(state(other), states[3], strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_folder_of_nothing_but_damage_is_not_started_over(tmp_path, folder):
  trainer = built(folder)
  trainer.n_steps.assign(3)
  trainer.save(tmp_path)
  (tmp_path / 'ckpt-3.data-00000-of-00001').write_bytes(b'')
  with pytest.raises(ValueError, match=r'none of .*can be read.*--save_dir'):
    built(folder).restore(tmp_path)


class Counted:
  """A provider of so many items that are zeros."""

  def __init__(self, n_items):
    self.n_items = n_items

  def get_batch(self, batch_size, **kwargs):
    del kwargs
    starts = range(0, self.n_items, batch_size)
    sizes = [min(batch_size, self.n_items - start) for start in starts]
    return [{'audio': np.zeros([size, 1])} for size in sizes]


@pytest.mark.parametrize(
  'n_items, batch_size, n_parts, sizes',
  [
    (20, 8, 1, [5] * 4),
    (16, 8, 1, [8, 8]),
    (3, 8, 1, [3]),
    (7, 4, 1, [4, 3]),  # no size of 3 or 4 divides it
    (20, 8, 2, [8, 8, 4]),  # each of the workers has its part
  ],
)
def test_validation_has_batches_of_one_size(
  n_items, batch_size, n_parts, sizes
):
  batches = loop._read_validation(
    Counted(n_items), batch_size, margin=0, part=(0, n_parts)
  )
  assert [len(batch['audio']) for batch in batches] == sizes
