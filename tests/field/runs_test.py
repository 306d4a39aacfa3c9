"""What users met with runs: folders, checkpoints, signals, what is resumed.

Each group of tests begins with a line on the kind of fault that it stands for.
"""

import pathlib
import shutil
import signal

import ddsp
import gin
import numpy as np
import pytest
import tensorflow as tf

from dafx import losses, neural
from dafx.training import (
  checkpoints,
  data,
  gin_files,
  models,
  signals,
  trainers,
)

RATE = 16000


@pytest.fixture(autouse=True)
def _clean():
  """Runs steps op by op, for tracing takes longest; leaves gin empty."""
  gin.clear_config()
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)
  gin.clear_config()


def make_model(n_units=4, seed=0, **kwargs):
  tf.keras.utils.set_random_seed(seed)
  network = neural.Rnn(n_units=n_units, seed=seed, name='rnn')
  group = ddsp.processors.ProcessorGroup(dag=[(network, ['audio'])])
  arguments = dict(losses=[losses.EsrLoss()], sample_rate=RATE, **kwargs)
  return models.EffectModel(group, **arguments)


def sines(n_samples=40):
  dry = np.sin(np.arange(400) / 9).astype(np.float32)
  recording = ('sine', dry, np.tanh(dry), np.zeros(0), '')
  return data.Recordings([recording], (), RATE, n_samples)


class Interrupted(trainers.Trainer):
  """A trainer in whose `at`th step something happens."""

  def __init__(self, model, happens, at=3, **kwargs):
    super().__init__(model, **kwargs)
    self.happens, self.at = happens, at

  def train_step(self, batch):
    if self.step == self.at - 1:
      self.happens()
    return super().train_step(batch)


def train(folder, num_steps, trainer=None, **kwargs):
  kwargs = {'steps_per_save': 2, **kwargs}
  return trainers.train(
    sines(),
    None,
    trainer or trainers.Trainer(make_model()),
    batch_size=2,
    num_steps=num_steps,
    save_dir=str(folder),
    **kwargs,
  )


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The folder of a run of four steps, the second of which is the best."""
  folder = tmp_path_factory.mktemp('run') / 'run'
  tf.config.run_functions_eagerly(True)
  train(folder, 2)
  (folder / 'best').mkdir()
  for path in folder.glob('c*'):
    shutil.copy(path, folder / 'best')
  train(folder, 4)
  return folder


def values(path):
  """Returns all values of a checkpoint by name."""
  reader = tf.train.load_checkpoint(str(path))
  return {
    name: reader.get_tensor(name)
    for name in reader.get_variable_to_shape_map()
    if '/' in name  # not the graph of objects, whose names are counted
  }


def assert_same(*paths):
  ours, theirs = map(values, paths)
  assert ours.keys() == theirs.keys()
  for name, value in ours.items():
    np.testing.assert_array_equal(value, theirs[name], name)


@pytest.fixture
def copy(run, tmp_path):
  """A copy of that run, for a test to break."""
  return pathlib.Path(shutil.copytree(run, tmp_path / 'copy'))


# -------- The name of a folder is a name, whatever characters are in it. ------
@pytest.mark.parametrize('name', ['a [1]', 'b*?\\{c,d}'])
def test_a_run_is_resumed_whatever_its_folder_is_called(run, tmp_path, name):
  folder = tmp_path / name / 'run'
  shutil.copytree(run, folder)
  assert train(folder, 6)['step'] == [5, 6]
  assert checkpoints.saved_steps(folder) == [2, 4, 6]
  assert train(folder, 8)['step'] == [7, 8]
  assert checkpoints.saved_steps(folder) == [4, 6, 8]  # of which three are kept
  checkpoints.restore_model(make_model(), folder)
  # As in a folder with an ordinary name, to the bit.
  plain = tmp_path / 'plain'
  shutil.copytree(run, plain)
  train(plain, 8)
  shutil.copytree(folder, tmp_path / 'named')
  assert_same(plain / 'ckpt-8', tmp_path / 'named' / 'ckpt-8')


def test_the_folder_of_temporary_files_may_be_called_so_too(
  run, tmp_path, monkeypatch
):
  folder = tmp_path / '[1]'
  shutil.copytree(run, folder / 'run')
  (folder / 'tmp').mkdir()
  monkeypatch.setattr('tempfile.tempdir', str(folder / 'tmp'))
  assert train(folder / 'run', 5)['step'] == [5]


# -------- What can be found out anew is not lost with the file that said it. --
@pytest.mark.parametrize(
  'content',
  [
    None,
    b'',
    b'\xff\xfe\x00garbage',
    b'model_checkpoint_path: "ckpt-2"\nall_model_che',
    b'model_checkpoint_path: "/somewhere/else/ckpt-9"\n',
  ],
)
def test_an_index_that_is_lost_or_damaged_is_written_anew(copy, content):
  for folder in (copy, copy / 'best'):
    index = folder / 'checkpoint'
    index.unlink()
    if content is not None:
      index.write_bytes(content)
  checkpoints.restore_model(make_model(seed=1), copy)
  assert train(copy, 5)['step'] == [5]
  assert tf.train.latest_checkpoint(copy) == str(copy / 'ckpt-5')


def test_later_checkpoints_that_are_damaged_are_not_come_back_to(copy):
  newest = copy / 'ckpt-4.data-00000-of-00001'
  newest.write_bytes(newest.read_bytes()[:-9])
  train(copy, 3, steps_per_save=1)
  assert checkpoints.saved_steps(copy) == [2, 3]
  assert train(copy, 4)['step'] == [4]


# -------- No advice that destroys. --------------------------------------------
def test_where_no_checkpoint_can_be_read_the_remedy_leaves_them(copy, tmp_path):
  for path in copy.glob('ckpt-*.data*'):
    path.write_bytes(b'')
  before = sorted(p.name for p in copy.iterdir())
  with pytest.raises(ValueError, match='Choose another --save_dir') as error:
    train(copy, 6)
  assert 'delete' not in str(error.value)
  assert sorted(p.name for p in copy.iterdir()) == before
  assert train(tmp_path / 'another', 2)['step'] == [1, 2]  # the remedy


# -------- Two that write to one place do not meet. ----------------------------
def test_one_run_holds_its_folder(copy, tmp_path):
  link = tmp_path / 'link'
  link.symlink_to(copy)

  def another():
    for folder in (copy, link):
      with pytest.raises(OSError, match='Another training is at work in'):
        train(folder, 9)
    train(tmp_path / 'other', 1)  # the remedy

  train(copy, 6, Interrupted(make_model(), another, at=5))
  assert train(copy, 7)['step'] == [7]  # and waiting for its end, the other one


# -------- Whatever asks a run to end, it is saved first. ----------------------
ASKING = ('SIGINT', 'SIGTERM', 'SIGUSR1', 'SIGHUP')


@pytest.mark.parametrize('name', ASKING)
def test_a_signal_saves_and_ends(run, copy, tmp_path, name):
  number = signal.Signals[name]

  def ask():
    signal.raise_signal(number)
    if name != 'SIGINT':  # terminals and schedulers send more than one
      signal.raise_signal(signal.SIGTERM)

  former = signal.getsignal(number)
  with pytest.raises(KeyboardInterrupt):
    train(copy, 9, Interrupted(make_model(), ask, at=5), steps_per_save=100)
  assert signal.getsignal(number) == former
  assert checkpoints.saved_steps(copy)[-1] == 5
  assert train(copy, 6)['step'] == [6]
  whole = shutil.copytree(run, tmp_path / 'whole')
  train(whole, 6)
  assert_same(copy / 'ckpt-6', whole / 'ckpt-6')


@pytest.mark.parametrize('name', ['SIGHUP', 'SIGUSR1', 'SIGTERM'])
def test_a_signal_that_was_ignored_stays_ignored(name):
  number = signal.Signals[name]
  former = signal.signal(number, signal.SIG_IGN)
  try:
    with signals.deferred_signals() as requested:
      signal.raise_signal(number)
      assert not requested.is_set()
    assert signal.getsignal(number) == signal.SIG_IGN
  finally:
    signal.signal(number, former)


def test_a_second_ctrl_c_ends_at_once():
  with pytest.raises(KeyboardInterrupt):
    with signals.deferred_signals():
      signal.raise_signal(signal.SIGINT)
      signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize('at', [5, 1])
def test_a_fault_saves_the_steps_before_it(copy, tmp_path, at):
  def fail():
    raise RuntimeError('the plugin crashed')

  folder = copy if at == 5 else tmp_path / 'new'
  with pytest.raises(RuntimeError, match='the plugin crashed'):
    trainer = Interrupted(make_model(), fail, at=at + 2)
    train(folder, 9, trainer, steps_per_save=100)
  assert checkpoints.saved_steps(folder)[-1] == at + 1


def test_weights_that_are_not_finite_are_not_saved(copy):
  model = make_model()

  def spoil():
    model.trainable_variables[0].assign_add(
      np.nan * model.trainable_variables[0]
    )
    raise RuntimeError('the plugin took no NaN')

  with pytest.raises(trainers.DivergedError, match='Lower .*learning_rate'):
    train(copy, 9, Interrupted(model, spoil, at=6), steps_per_save=100)
  assert checkpoints.saved_steps(copy) == [2, 4]


# -------- A file that cannot be read is named, in one line. -------------------
@pytest.mark.parametrize(
  'text',
  [
    b'train.num_steps = = 4',
    b'train.num_steps = (4',
    b"name = '''",
    b'x = {[]: 1}',
    b'x = ' + 3000 * b'[' + 3000 * b']',
    b'\xff\xfe\x00',
    b'x y z',
  ],
)
def test_wrong_text_in_an_operative_config_is_one_line(copy, text):
  path = gin_files.newest_operative_config(copy)
  path.write_bytes(b'import dafx.effects\n' + text)
  with pytest.raises(ValueError) as error:
    gin_files.parse_operative_config(copy)
  assert str(error.value).startswith(f'{path}, line ')
  assert '\n' not in str(error.value)
