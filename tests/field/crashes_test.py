"""A plugin that crashes or hangs costs an item, not the run.

Kind: what ends a plugin must not end what is done with it. In training such an
item has no weight, in evaluation it is in no figure, and everything says which
plugin, file and values it was.
"""

import logging

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from dafx import effects, gradients, losses, lv2, neural, processors
from dafx.training import data, inference, models, trainers
from dafx.training.evaluation import evaluate

RATE = 16000
N_SAMPLES = 1024
BRITTLE = 'urn:dafx-test:brittle'
# What a plugin dies of: at once, in renders for gradients, by a hang.
DEADLY = {'crash': 20.0, 'probe': 2.0, 'hang': -20.0}
# From an amount of about 1 to 1.4 and back, where it dies of some samples.
PROBE = gradients.Spsa(n_probes=1, epsilon=0.1, sides=2)


@pytest.fixture(autouse=True)
def _untraced():
  """Runs steps op by op: for a few of them, tracing takes longest."""
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


def noise(deadly=0.0, n_samples=N_SAMPLES, seed=0):
  audio = 0.1 * np.random.default_rng(seed).standard_normal(n_samples)
  audio[n_samples // 2] += deadly
  return audio.astype(np.float32)


def batch_of(*deadly):
  audio = np.stack([noise(value, seed=i) for i, value in enumerate(deadly)])
  return {'audio': tf.constant(audio), 'target': tf.constant(0.5 * audio)}


def host(**kwargs):
  return effects.Host(warm_up=0, n_threads=1, isolation='process', **kwargs)


def plugin(name='brittle', kind=effects.LV2Plugin, **kwargs):
  kwargs = {
    'trainable': ['amount'],
    'host': host(),
    'control_gradient': PROBE,
    **kwargs,
  }
  return kind(BRITTLE, sample_rate=RATE, name=name, **kwargs)


class Gain(tf.keras.layers.Layer):
  """A plugin's likeness of one weight."""

  def build(self, shape):
    self.weight = self.add_weight('weight', [], initializer='ones')

  def call(self, audio, controls):
    return self.weight * tf.reduce_mean(controls, axis=1) * audio


def controlled(node, controls=('controls',)):
  tf.keras.utils.set_random_seed(0)
  return models.ControlModel(
    models.LogMelEncoder(RATE, 256, width=4, n_mels=4, fft_size=256),
    processors.ProcessorGroup([(node, ['audio', *controls])]),
    # One that keeps count of its calls, too.
    [losses.RandomResolutionStftLoss(1, 16, 32), losses.EsrLoss()],
    RATE,
  )


def chain():
  return effects.LV2Chain(
    [plugin('first'), plugin('second')], control_gradient=PROBE
  )


def discrete():
  return plugin(kind=effects.DiscreteLV2Plugin, choices={'mode': None})


def proxy():
  return effects.ProxyLV2Plugin(plugin(), Gain())


def effect_model():
  """A plugin before a network, which is not asked for gradients."""
  tf.keras.utils.set_random_seed(0)
  network = neural.Rnn(n_units=4, seed=0)
  group = processors.ProcessorGroup(
    [
      (plugin(trainable=[]), ['audio']),
      (network, ['brittle/signal']),
    ]
  )
  return models.EffectModel(group, [losses.EsrLoss()], RATE, burn_in=0)


MODELS = {
  'plugin': lambda: controlled(plugin()),
  # On a busy machine even a short render takes its time.
  'hanging': lambda: controlled(plugin(host=host(time_limit_s=10.0))),
  'chain': lambda: controlled(chain(), ['first_controls', 'second_controls']),
  'discrete': lambda: controlled(discrete()),
  'proxy': lambda: controlled(proxy()),
  'effect': effect_model,
}


def values(trainer):
  every = [*trainer.model.variables, *trainer.optimizer.variables]
  return [variable.numpy() for variable in every]


def step_of(kind, batch, **kwargs):
  """Returns what a step leaves, its losses, and what was counted."""
  trainer = trainers.Trainer(MODELS[kind](), **kwargs)
  trainer.build(batch)
  found = trainer.train_step(batch, 'file {}'.format)
  return values(trainer), found, trainer


@pytest.mark.parametrize(
  'kind, how, tbptt_samples',
  [
    ('plugin', 'crash', None),
    ('plugin', 'probe', None),
    pytest.param('hanging', 'hang', None, marks=pytest.mark.slow),
    pytest.param('chain', 'probe', None, marks=pytest.mark.slow),
    pytest.param('discrete', 'probe', None, marks=pytest.mark.slow),
    pytest.param('proxy', 'crash', None, marks=pytest.mark.slow),
    pytest.param('effect', 'crash', None, marks=pytest.mark.slow),
    # In the third of four windows.
    pytest.param('effect', 'crash', N_SAMPLES // 4, marks=pytest.mark.slow),
  ],
)
def test_a_step_is_that_of_the_items_left(kind, how, tbptt_samples, caplog):
  whole = batch_of(0.0, DEADLY[how], 0.0)
  left = {key: tf.gather(value, [0, 2]) for key, value in whole.items()}
  options = dict(tbptt_samples=tbptt_samples)
  expected, expected_losses, _ = step_of(kind, left, **options)
  with caplog.at_level(logging.WARNING):
    found, found_losses, trainer = step_of(kind, whole, **options)
  for ours, theirs in zip(found, expected, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  assert found_losses == expected_losses
  assert trainer.step == 1
  assert trainer.crashes.counts == {(BRITTLE, 'file 1'): 1}
  said = caplog.text
  what = 'hung for more than 10 s' if how == 'hang' else 'crashed (SIGSEGV)'
  assert f'file 1 is left out, its weight is 0: {BRITTLE} {what}' in said
  if kind != 'effect':
    assert 'at amount=' in said


def test_a_stereo_item_is_one_item():
  # A mono plugin renders the four channels as items of its own.
  audio = np.stack([noise(seed=i) for i in range(4)])
  audio = np.moveaxis(audio.reshape(2, 2, -1), 1, 2)  # [batch, n_samples, 2]
  audio[1, 500, 1] = DEADLY['crash']
  with pytest.raises(lv2.CrashError) as error:
    plugin().render(audio, np.ones((2, 1, 1), np.float32))
  assert error.value.item == 1


def test_a_step_of_no_item_changes_nothing():
  trainer = trainers.Trainer(controlled(plugin()))
  batch = batch_of(DEADLY['crash'], DEADLY['crash'])
  trainer.build(batch)
  before = values(trainer)
  assert trainer.train_step(batch) is None
  for ours, theirs in zip(values(trainer), before, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  assert trainer.step == 1


@pytest.fixture
def folder(tmp_path):
  """Pairs, of which b.wav kills the plugin."""
  for split in ('train', 'valid', 'test'):
    for i, name in enumerate('abc'):
      audio = noise(DEADLY['crash'] if name == 'b' else 0.0, seed=i)
      for side in ('input', 'target'):
        path = tmp_path / 'pairs' / split / side / f'{name}.wav'
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, audio, RATE, 'FLOAT')
  return tmp_path / 'pairs'


def provider(folder, split):
  return data.FolderProvider(str(folder), split, RATE, N_SAMPLES)


def train(folder, save_dir, num_steps, **kwargs):
  return trainers.train(
    data_provider=provider(folder, 'train'),
    trainer=trainers.Trainer(controlled(plugin())),
    batch_size=3,
    num_steps=num_steps,
    save_dir=str(save_dir),
    **kwargs,
  )


def test_the_third_crash_with_a_file_ends_the_run_saved(
  folder, tmp_path, caplog
):
  path = folder / 'train' / 'input' / 'b.wav'
  with pytest.raises(lv2.CrashError) as error:
    train(folder, tmp_path / 'run', 5)
  said = str(error.value)
  assert said.startswith(f'{path}: {BRITTLE} crashed (SIGSEGV) while it')
  assert 'at amount=' in said
  assert 'the third time with this plugin and file' in said
  assert '\n' not in said.partition('\n  In call to configurable')[0]
  assert caplog.text.count(f'{path} is left out, its weight is 0') == 2
  assert (tmp_path / 'run' / 'ckpt-2.index').exists()
  # The same command goes on, and two steps later it has not yet ended.
  assert train(folder, tmp_path / 'run', 4)['step'] == [3, 4]
  assert f'{path} was left out 2 times' in caplog.text


def test_a_validation_is_that_of_the_items_left(folder, tmp_path, caplog):
  valid = provider(folder, 'valid')
  trainer = trainers.Trainer(controlled(plugin()))
  batches = valid.get_batch(2, shuffle=False, repeats=1)
  trainer.build(next(iter(batches)))

  def name_item(position):
    return valid.name_at(position, shuffle=False)

  found = trainer.validate(batches, name_item)
  left = [
    {key: value[0::2] for key, value in batch.items()} for batch in batches
  ]  # a, then c
  trainer.model.loss_objs[0].n_calls.assign(0)  # draws alike
  assert found == trainer.validate(left)
  path = folder / 'valid' / 'input' / 'b.wav'
  assert trainer.crashes.counts == {(BRITTLE, str(path)): 1}


def test_an_evaluation_leaves_the_item_out_aloud(folder, tmp_path, caplog):
  model = controlled(plugin())
  rows = evaluate.evaluate(
    model, provider(folder, 'test'), str(tmp_path / 'out')
  )
  assert {row['name'] for row in rows} == {'a', 'c'}
  assert f'left out of all figures. b: {BRITTLE} crashed' in caplog.text
  assert '1 of 3 recordings are left out' in caplog.text
  only_b = provider(folder, 'test')
  only_b.pairs = only_b.pairs[1:2]
  with pytest.raises(lv2.PluginError, match='1 of 1 recordings are left out'):
    evaluate.evaluate(model, only_b)


def test_processing_names_the_file(folder, tmp_path):
  path = folder / 'test' / 'input' / 'b.wav'
  said = rf'{path}: {BRITTLE} crashed .* at amount='
  with pytest.raises(lv2.CrashError, match=said):
    inference.process(
      controlled(plugin()), str(path), str(tmp_path / 'out.wav')
    )
