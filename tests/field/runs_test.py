"""What users met with runs: folders, checkpoints, signals, what is resumed.

Each group of tests begins with a line on the kind of fault that it stands for.
"""

import json
import pathlib
import re
import shutil
import signal

import ddsp
import gin
import numpy as np
import pytest
import tensorflow as tf
from cases import some_quick

from dafx import effects, losses, neural, processors
from dafx.training import (
  checkpoints,
  data,
  gin_files,
  models,
  signals,
  trainers,
)

ROOT = pathlib.Path(__file__).parents[2]
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

  def train_step(self, *args):
    if self.step == self.at - 1:
      self.happens()
    return super().train_step(*args)


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
@pytest.mark.parametrize(
  'name', some_quick(['a [1]', 'b*?\\{c,d}'], ['b*?\\{c,d}'])
)
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


# -------- What may change takes effect, what may not is refused. --------------
def make_controlled(
  ranges=None, fixed=None, loss=None, extra=(), preprocessor=None, **kwargs
):
  """A model that sets `amount` of a plugin, and leaves its `mode` alone."""
  rate = kwargs.pop('sample_rate', RATE)
  tf.keras.utils.set_random_seed(kwargs.pop('seed', 0))
  arguments = dict(hop_size=64, width=4, n_mels=4, fft_size=128)
  encoder = models.LogMelEncoder(rate, **{**arguments, **kwargs})
  plugin = effects.LV2Plugin(
    'urn:dafx-test:modal',
    trainable=['amount'],
    ranges=ranges,
    fixed=fixed,
    sample_rate=rate,
    name='modal',
  )
  dag = [(plugin, ['audio', 'modal_controls']), *extra]
  return models.ControlModel(
    encoder,
    processors.ProcessorGroup(dag),
    [losses.EsrLoss() if loss is None else loss],
    rate,
    preprocessor=preprocessor,
  )


def built(model, **kwargs):
  trainer = trainers.Trainer(model, **kwargs)
  audio = tf.zeros([1, 128])
  trainer.build({'audio': audio, 'target': audio})
  return trainer


@pytest.fixture(scope='module')
def controlled(tmp_path_factory):
  """The folder of a run of `make_controlled`, saved at its third step."""
  folder = tmp_path_factory.mktemp('controlled') / 'run'
  tf.config.run_functions_eagerly(True)
  trainer = built(make_controlled(loss=random_loss()))
  trainer.n_steps.assign(3)
  trainer.model.loss_objs[0].n_calls.assign(7)
  trainer.monitor.update(0.25)
  trainer.save(folder)
  return folder


def random_loss(**kwargs):
  return losses.RandomResolutionStftLoss(1, 16, 32, **kwargs)


def resumed(folder, model, **kwargs):
  trainer = built(model, **kwargs)
  assert trainer.restore(folder)
  return trainer


# By row of the table in docs/runs.md: what is made otherwise, what is said.
REFUSED = {
  'encoder': [
    (dict(gain=2.0), 'encoder.gain: 1; now 2'),
    (dict(context_s=2.0), 'encoder.context_s: 4; now 2'),
    (dict(hop_size=32), 'encoder.hop_size: 64; now 32'),
    (dict(is_static=True), 'encoder.is_static: False; now True'),
  ],
  'sample_rate': [(dict(sample_rate=8000), 'sample_rate: 16000; now 8000')],
  'graph': [
    (
      dict(extra=[(effects.Waveshaper(name='bend'), ['modal/signal'])]),
      'graph: audio, modal_controls -> modal; now .*bend',
    ),
  ],
  'nodes': [],  # below
  'controls': [
    (dict(ranges={'amount': (0, 2)}), 'amount: from 0 to 4; now from 0 to 2'),
    (dict(fixed={'mode': 1}), 'modal/mode: not there; now fixed at 1'),
  ],
  'preprocessor': [
    (
      dict(preprocessor=data.Preprocessor(high_pass_hz=100.0)),
      'preprocessor: None; now Preprocessor',
    ),
  ],
}
CASES = [case for cases in REFUSED.values() for case in cases]


@pytest.mark.parametrize('other, said', CASES, ids=[said for _, said in CASES])
def test_what_may_not_change_is_refused_with_the_difference(
  controlled, other, said
):
  model = make_controlled(**other, loss=random_loss())
  trainer = built(model)
  before = [variable.numpy() for variable in model.variables]
  with pytest.raises(ValueError, match=said):
    trainer.restore(controlled)
  with pytest.raises(ValueError, match=said):
    checkpoints.restore_model(model, controlled)
  for ours, variable in zip(before, model.variables, strict=True):
    np.testing.assert_array_equal(ours, variable)


def test_arguments_of_nodes_may_not_change(run):
  tf.keras.utils.set_random_seed(0)
  other = neural.Rnn(n_units=4, residual=True, name='rnn')
  group = ddsp.processors.ProcessorGroup(dag=[(other, ['audio'])])
  model = models.EffectModel(group, [losses.EsrLoss()], RATE)
  with pytest.raises(ValueError, match=r'rnn\.residual: False; now True'):
    checkpoints.restore_model(model, run)


def test_a_learning_rate_takes_effect(controlled, tmp_path):
  same = resumed(controlled, make_controlled(), learning_rate=1e-3)
  assert same.learning_rate == np.float32(1e-3)
  other = resumed(controlled, make_controlled(), learning_rate=1e-6)
  assert other.learning_rate == np.float32(1e-6)
  # A rate that a plateau lowered stays where nothing else is asked for.
  rates = dict(learning_rate=1e-6, plateau_patience=1)
  other.optimizer.learning_rate.assign(5e-7)
  other.save(tmp_path)
  assert resumed(tmp_path, make_controlled(), **rates).learning_rate == (
    np.float32(5e-7)
  )
  rates['learning_rate'] = 1e-4
  assert resumed(tmp_path, make_controlled(), **rates).learning_rate == (
    np.float32(1e-4)
  )
  # To a schedule, and back.
  decaying = resumed(tmp_path, make_controlled(), decay_steps=10)
  assert decaying.learning_rate == np.float32(1e-3)
  decaying.save(tmp_path / 'decaying')
  back = resumed(tmp_path / 'decaying', make_controlled(), learning_rate=2e-3)
  assert back.learning_rate == np.float32(2e-3)


def test_what_a_diverged_training_advises_goes_on(copy):
  """Its remedies: a lower learning rate, a lower norm of the gradient."""
  for settings in (dict(learning_rate=1e-6), dict(grad_clip_norm=0.1)):
    folder = shutil.copytree(copy, copy.with_name(str(settings)))
    trainer = trainers.Trainer(make_model(), **settings)
    train(folder, 5, trainer)
    assert trainer.learning_rate == np.float32(
      settings.get('learning_rate', 1e-3)
    )


def test_losses_take_effect_and_their_state_begins_anew(controlled):
  same = resumed(controlled, make_controlled(loss=random_loss()))
  assert int(same.model.loss_objs[0].n_calls) == 7
  assert float(same.monitor.best) == 0.25
  for other in (random_loss(weight=2.0), losses.EsrLoss()):
    trainer = resumed(controlled, make_controlled(loss=other))
    assert np.isinf(float(trainer.monitor.best))  # of another figure
    if isinstance(other, losses.RandomResolutionStftLoss):
      assert not int(other.n_calls)
  # In use, the state of a loss does not matter.
  checkpoints.restore_model(make_controlled(), controlled)


def test_a_plugin_sounds_as_it_was_trained(controlled, tmp_path, caplog):
  """As if another version had been there, whose default differed."""
  trainer = built(make_controlled())
  said = json.loads(trainer.description.numpy())
  assert said['ports'] == {'modal': {'mode': 0.0}}
  assert said['versions'] == {'modal': '1.2'}
  said['ports']['modal']['mode'] = 2.0
  said['versions']['modal'] = '1.1'
  trainer.description.assign(json.dumps(said))
  trainer.save(tmp_path)
  audio = np.sin(np.arange(300, dtype=np.float32))[np.newaxis]
  as_trained = make_controlled(fixed={'mode': 2})
  for restore in (
    lambda model: checkpoints.restore_model(model, tmp_path),
    lambda model: built(model).restore(tmp_path),
  ):
    caplog.clear()
    model = make_controlled()
    restore(model)
    plugins = [m.driven['modal_controls'] for m in (model, as_trained)]
    outputs = [p(audio, np.float32([[0.5]])) for p in plugins]
    np.testing.assert_array_equal(*outputs)
    assert 'version 1.2; the model was trained with 1.1' in caplog.text
    assert 'mode at 2, not at its default of now, 0' in caplog.text
  # What is saved next says so too.
  again = built(make_controlled())
  again.restore(tmp_path)
  again.save(tmp_path / 'again')
  third = resumed(tmp_path / 'again', make_controlled())
  assert json.loads(third.description.numpy())['ports']['modal']['mode'] == 2.0


def test_a_value_that_a_plugin_takes_no_more_is_refused(tmp_path):
  trainer = built(make_controlled())
  said = json.loads(trainer.description.numpy())
  said['ports']['modal']['mode'] = 9.0
  trainer.description.assign(json.dumps(said))
  trainer.save(tmp_path)
  with pytest.raises(ValueError, match='modal was trained with mode at 9'):
    checkpoints.restore_model(make_controlled(), tmp_path)


def test_the_table_of_what_may_change_is_tested():
  text = (ROOT / 'docs/runs.md').read_text()
  rows = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in text.splitlines()
    if line.startswith('| ')
  ]
  outcomes = {row[0].split(':')[0].strip('`'): row[1] for row in rows[1:]}
  refused = {name for name, said in outcomes.items() if said == 'refused'}
  assert refused == set(REFUSED) | {'stages'}  # which trainers_test.py tests
  others = {
    name: said for name, said in outcomes.items() if name not in refused
  }
  assert others == {
    'learning_rate': 'takes effect',
    'decay_steps': 'takes effect',  # trainers_test.py
    'average_momentum': 'takes effect',  # averages_test.py
    'losses': 'takes effect; validations are judged anew',
    'ports': 'as trained, with a warning',
    'versions': 'a warning',
    'all else': 'takes effect',
  }


# -------- --restore_dir starts a new run from weights, and names the rest. ----
def test_restore_dir_takes_weights_alone(copy, tmp_path, caplog):
  trainer = trainers.Trainer(make_model(seed=5), learning_rate=0.0)
  history = train(tmp_path / 'new', 2, trainer, restore_dir=str(copy))
  assert history['step'] == [1, 2]
  assert int(trainer.optimizer.iterations) == 2
  best = values(copy / 'best' / 'ckpt-2')
  ours = values(tmp_path / 'new' / 'ckpt-2')
  weights = [name for name in best if name.startswith('model/')]
  assert weights
  for name in weights:
    np.testing.assert_array_equal(ours[name], best[name], name)
  assert 'not' not in caplog.text


def test_restore_dir_names_what_does_not_fit(copy, controlled, caplog):
  model = make_model(n_units=5)
  trainers.Trainer(model).build(next(iter(sines().get_batch(2))))
  bias = model.processor_group.rnn.out.bias
  bias.assign([9.0])
  checkpoints.restore_weights(model, copy)
  assert float(bias[0]) != 9.0  # fits, and is taken
  assert re.search(r'recurrent: of shape \[4, \d+\], now \[5, ', caplog.text)
  assert 'rnn.n_units: 4; now 5' in caplog.text
  # Controls that mean something else: their head begins anew.
  caplog.clear()
  model = make_controlled(ranges={'amount': (0, 2)}, seed=3)
  trainer = built(model)
  head = [v.numpy() for v in model.heads['modal_controls'].variables]
  checkpoints.restore_weights(model, controlled)
  for before, now in zip(
    head, model.heads['modal_controls'].variables, strict=True
  ):
    np.testing.assert_array_equal(before, now)
  saved = values(controlled / 'ckpt-3')
  np.testing.assert_array_equal(
    model.encoder.mix.kernel,
    saved['model/encoder/mix/kernel/.ATTRIBUTES/VARIABLE_VALUE'],
  )
  assert 'controls that mean something else' in caplog.text
  assert not trainer.step
  with pytest.raises(ValueError, match='no weights of .* fit this model'):
    checkpoints.restore_weights(model, copy)
