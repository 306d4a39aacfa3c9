"""What must agree: rates, stages, seeds, channels, rows of evaluations, ports.

Kind: what one part is told and another is not, so that both go on, each right
by itself, and what comes out is wrong.
"""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from dafx import effects, losses, lv2, neural, processors
from dafx.audio import sources
from dafx.training import data, inference, models, trainers
from dafx.training.evaluation import evaluate
from dafx.training.models import outputs

RATE = 16000
TEST = 'urn:dafx-test:'


@pytest.fixture(autouse=True)
def _untraced():
  """Runs steps op by op: for a few of them, tracing takes longest."""
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


def noise(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return (0.1 * rng.standard_normal(shape)).astype(np.float32)


class Noise(data.Provider):
  """Noise, and the same softer."""

  def __init__(self, n_channels=1, sample_rate=RATE):
    self.sample_rate = sample_rate
    shape = [1024] if n_channels == 1 else [1024, n_channels]
    self._shapes = {'audio': shape, 'target': shape}

  @property
  def features(self):
    return self._shapes

  def get_batch(self, batch_size, *args, **kwargs):
    audio = noise(batch_size, *self.features['audio'])
    batch = {'audio': audio, 'target': 0.5 * audio}
    return tf.data.Dataset.from_tensors(batch).repeat()

  def items(self):
    audio = noise(4000, 1)
    sides = [sources.from_array(x, RATE) for x in (audio, 0.5 * audio)]
    return [data.Item('noise', *sides)]


def host(**kwargs):
  return effects.Host(warm_up=0, **kwargs)


def gain(name='gain', uri=TEST + 'gain', **kwargs):
  kwargs = {'sample_rate': RATE, 'host': host(), **kwargs}
  return effects.LV2Plugin(uri, name=name, **kwargs)


class Likeness(tf.keras.layers.Layer):
  """A plugin's likeness of one weight."""

  def build(self, shape):
    self.weight = self.add_weight('weight', [], initializer='ones')

  def call(self, audio, controls):
    return self.weight * tf.reduce_mean(controls, axis=1) * audio


def proxy(name, **kwargs):
  return effects.ProxyLV2Plugin(gain(**kwargs), Likeness(), name=name)


def discrete(name='modal', **kwargs):
  kwargs = {'sample_rate': RATE, 'host': host(), **kwargs}
  return effects.DiscreteLV2Plugin(
    TEST + 'modal', choices={'mode': None}, name=name, **kwargs
  )


def model_of(*nodes, seed=0, encoder=None):
  tf.keras.utils.set_random_seed(seed)
  dag, signal_key = [], 'audio'
  for node in nodes:
    dag.append((node, [signal_key, f'{node.name}_controls']))
    signal_key = f'{node.name}/signal'
  return models.ControlModel(
    encoder or models.Constant(),
    processors.ProcessorGroup(dag),
    [losses.EsrLoss()],
    RATE,
  )


def train(model, provider=None, **kwargs):
  kwargs = {'batch_size': 2, 'num_steps': 2, **kwargs}
  trainer = trainers.Trainer(model)
  trainers.train(provider or Noise(), None, trainer, **kwargs)
  return [v.numpy() for v in model.variables]


# --------------------------------------------------------------- Rates ------
@pytest.mark.parametrize(
  'make',
  [
    lambda: gain(sample_rate=44100),
    lambda: discrete(sample_rate=44100),
    lambda: proxy('proxy', sample_rate=44100),
    lambda: effects.Dynamics(sample_rate=44100),
  ],
)
def test_a_node_of_another_rate_is_refused(make):
  with pytest.raises(ValueError, match='works at 44100 Hz.*for 16000 Hz'):
    train(model_of(make()))


def test_data_and_encoders_of_another_rate_are_refused():
  with pytest.raises(ValueError, match='gives audio of 44100 Hz.*16000 Hz'):
    train(model_of(gain()), Noise(sample_rate=44100))
  with pytest.raises(ValueError, match='44100 Hz.*16000 Hz'):
    model_of(gain(), encoder=models.LogMelEncoder(44100, 512, 4))


def test_stages_of_a_model_that_sets_no_plugins_are_refused():
  group = processors.ProcessorGroup(
    [(neural.Rnn(n_units=2, seed=0), ['audio'])]
  )
  model = models.EffectModel(group, [losses.EsrLoss()], RATE)
  with pytest.raises(ValueError, match='EffectModel sets none'):
    train(model, stages=[(1, 2)])


# --------------------------------------------------------------- Seeds ------
def differs(ours, theirs):
  return any((a != b).any() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
  'make',
  [
    lambda: [gain('a', TEST + 'modal', trainable=['amount']), gain('b')],
    lambda: [proxy('a')],
    lambda: [discrete()],
  ],
)
def test_the_seed_of_a_run_reaches_all_draws(make):
  same = [train(model_of(*make()), seed=3) for _ in range(2)]
  assert not differs(*same)
  assert differs(same[0], train(model_of(*make()), seed=4))


def test_two_of_a_kind_draw_differently():
  plugins, proxies = [gain('a'), gain('b')], [proxy('a'), proxy('b')]
  assert len({node.seed for node in plugins}) == 2
  audio, unit = tf.constant(noise(2, 500)), tf.fill([2, 1, 1], 0.5)
  errors = []
  for node in proxies:
    node(audio, unit)
    errors.append(float(node.losses[0]))
  assert errors[0] != errors[1]


# ------------------------------------------------------------- Channels -----
@pytest.mark.parametrize(
  'make', [effects.Gain, lambda: effects.Biquads(['peak']), effects.Dynamics]
)
def test_channels_are_processed_each_by_itself(make):
  node, audio = make(), noise(3, 500, 2)
  rng = np.random.default_rng(0)
  for n_frames in (1, 5):
    shape = (3, n_frames, node.n_controls)
    unit = rng.uniform(size=shape).astype(np.float32)
    each = [node(audio[..., i], unit) for i in range(2)]
    np.testing.assert_allclose(
      node(audio, unit), np.stack(each, axis=-1), atol=1e-6
    )


def test_stereo_goes_through_effects_of_a_control_model():
  node = effects.Biquads(['peak'], sample_rate=RATE, name='eq')
  model = model_of(node, gain())
  train(model, Noise(n_channels=2))
  stereo = noise(3000, 2)
  result = inference.process_audio(model, stereo, RATE).audio
  for channel in range(2):
    alone = inference.process_audio(model, stereo[:, [channel]], RATE).audio
    np.testing.assert_allclose(result[:, [channel]], alone, atol=1e-6)


# ----------------------------------------------------------- Evaluation -----
def test_rows_of_other_fixed_values_are_not_reused(tmp_path, monkeypatch):
  def modal(mode):
    fixed = {'mode': mode}
    return model_of(gain('modal', TEST + 'modal', fixed=fixed, trainable=[]))

  def esr_of(mode):
    rows = evaluate.evaluate(
      modal(mode), Noise(), str(tmp_path), n_audio=0, with_baselines=False
    )
    return next(row['esr'] for row in rows if row['system'] == 'dafx')

  # Interrupted when all is measured, and nothing is written yet.
  with monkeypatch.context() as patch:
    patch.setattr(evaluate.tables, 'summarize', _interrupt)
    with pytest.raises(KeyboardInterrupt):
      esr_of(0)
  assert esr_of(2) < 1e-9  # it halves, as the target does


def _interrupt(*args, **kwargs):
  raise KeyboardInterrupt


# -------------------------------------------------------------- Presets -----
@pytest.mark.parametrize('kind', ['plugin', 'proxy', 'discrete'])
def test_a_preset_holds_every_port_and_says_for_which_version(kind, tmp_path):
  modal = {'uri': TEST + 'modal', 'trainable': ['amount']}
  node = {
    'plugin': lambda: gain('node', **modal),
    'proxy': lambda: proxy('node', **modal),
    'discrete': lambda: discrete('node', trainable=['amount']),
  }[kind]()
  mode = 0.0
  if kind != 'discrete':
    node.hold_ports({'mode': 2.0})  # as an older version had it
    mode = 2.0
  model = model_of(node)
  rendering = model.render(sources.from_array(noise(500, 1), RATE))
  folder = tmp_path / 'presets'
  [bundle] = outputs.write_presets(rendering.automation, folder, 'Soft')
  text = _preset_in(bundle)
  amount = rendering.automation.points['node'][0, 0]
  for symbol, value in (('amount', float(amount)), ('mode', mode)):
    said = f'lv2:symbol "{symbol}" ;\n    pset:value (.*)\n'
    assert float(re.search(said, text)[1]) == value
  assert lv2.get_plugin(TEST + 'modal').version == '1.2'
  assert '<urn:dafx:ns#pluginVersion> "1.2" ;' in text


def test_what_nobody_sets_is_in_a_preset_at_its_default(tmp_path):
  bundle = lv2.write_preset(tmp_path, TEST + 'modal', 'Half', {'amount': 0.5})
  assert '"mode" ;\n    pset:value 0.0\n' in _preset_in(bundle)


def _preset_in(bundle):
  [path] = [p for p in bundle.iterdir() if p.name != 'manifest.ttl']
  return path.read_text()


def test_a_preset_of_another_version_is_told_of(tmp_path):
  bundle = lv2.write_preset(tmp_path, TEST + 'gain', 'Half', {'amount': 0.5})
  path = bundle / 'Half.ttl'
  path.write_text(path.read_text().replace('"1.2"', '"1.0"'))
  done = subprocess.run(
    [
      sys.executable,
      '-c',
      f"""
import logging
from dafx import lv2
logging.basicConfig()
print(lv2.load_preset('{TEST}gain', 'Half'))
""",
    ],
    env={
      **os.environ,
      'LV2_PATH': os.pathsep.join([str(tmp_path), os.environ['LV2_PATH']]),
      'PYTHONPATH': os.pathsep.join(sys.path),
    },
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout == "{'amount': 0.5}\n"
  assert 'is for its version 1.0; installed is 1.2' in done.stderr
