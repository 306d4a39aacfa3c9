"""What must agree at the start of a run is compared, and else named."""

# First: importing dafx sets up what DDSP needs.
import dafx  # noqa: F401  # isort: skip

import re

import ddsp
import numpy as np
import pytest
import tensorflow as tf

from dafx import core, effects, losses
from dafx.training import data, models, trainers
from dafx.training.trainers import agreement

RATE = 16000
GAIN = 'urn:dafx-test:gain'


class Batches(data.Provider):
  """Noise, and the same softer."""

  def __init__(self, sample_rate=RATE, **features):
    self.sample_rate = sample_rate
    self._features = {'audio': [256], 'target': [256], **features}

  @property
  def features(self):
    return self._features

  def get_batch(self, batch_size, *args, **kwargs):
    rng = np.random.default_rng(0)
    shapes = {k: [batch_size, *shape] for k, shape in self.features.items()}
    batch = {k: tf.constant(rng.random(s), 'float') for k, s in shapes.items()}
    return tf.data.Dataset.from_tensors(batch).repeat()

  def items(self):
    return []


def group(*nodes):
  """A chain of nodes, each with the inputs that are its own."""
  dag, signal_key = [], 'audio'
  for node, *inputs in nodes:
    dag.append((node, [signal_key, *inputs]))
    signal_key = f'{node.name}/signal'
  return ddsp.processors.ProcessorGroup(dag=dag)


def plugin(name, sample_rate=RATE):
  return effects.LV2Plugin(GAIN, sample_rate=sample_rate, name=name)


def control_model(*plugins, sample_rate=RATE):
  return models.ControlModel(
    models.Constant(),
    group(*((p, f'{p.name}_controls') for p in plugins)),
    [losses.TimeDomainLoss()],
    sample_rate,
  )


class Knobbed(effects.Gain):
  """An effect that takes two knobs, and passes over them."""

  n_knobs = 2

  def call(self, audio, knobs):
    return audio


def effect_model(node, *inputs):
  return models.EffectModel(
    group((node, *inputs)), [losses.TimeDomainLoss()], RATE
  )


def check(model, *providers, stages=()):
  agreement.check_agreement(model, providers, stages)


def test_what_agrees_passes():
  check(control_model(plugin('a')), Batches(), Batches(), stages=[(1, 1)])
  check(effect_model(effects.Gain()), Batches())


@pytest.mark.parametrize('wrong', [0, 1])
def test_data_of_another_rate(wrong):
  rates = [RATE, RATE]
  rates[wrong] = 44100
  with pytest.raises(ValueError, match='Batches gives.*44100 Hz.*16000 Hz'):
    check(control_model(plugin('a')), *map(Batches, rates))


def test_curves_of_another_frame_rate():
  model, batches = control_model(plugin('a')), Batches()
  model.frame_rate, batches.frame_rate = 100, 250
  with pytest.raises(ValueError, match='250 frames per second.*up for 100'):
    check(model, batches)
  batches.frame_rate = None
  check(model, batches)


def test_a_model_without_losses():
  graph = group((effects.Gain(),))
  with pytest.raises(ValueError, match='EffectModel has no losses.*such as'):
    check(models.EffectModel(graph, [], RATE), Batches())


@pytest.mark.parametrize('size', [0, -5])
def test_windows_that_are_none(size):
  model = effect_model(effects.Gain())
  with pytest.raises(ValueError, match=f'{size} must be the samples of a wind'):
    trainers.Trainer(model, tbptt_samples=size)


def test_a_model_that_is_not_trained_in_windows():
  with pytest.raises(
    ValueError, match='tbptt_samples=9 needs .*ControlModel d'
  ):
    trainers.Trainer(control_model(plugin('a')), tbptt_samples=9)


def test_what_is_no_graph_or_no_loss():
  graph, loss = group((effects.Waveshaper(),)), losses.TimeDomainLoss()
  of = {models.ControlModel: [models.Constant()], models.EffectModel: []}
  for make, first in of.items():
    for wrong in (None, ddsp.processors.ProcessorGroup):
      with pytest.raises(TypeError, match='processor_group is .*@processors'):
        make(*first, wrong, [loss], RATE)
    for wrong in (loss, [losses.TimeDomainLoss], ['mae']):
      with pytest.raises(
        TypeError, match='losses has .*a list of losses, such'
      ):
        make(*first, graph, wrong, RATE)


def test_a_plugin_of_another_rate():
  model = control_model(plugin('a'), plugin('late', 44100))
  message = "'late' of the graph works at 44100 Hz.*16000 Hz.*sample_rate"
  with pytest.raises(ValueError, match=message):
    check(model, Batches())


def test_a_plugin_of_another_rate_within_a_chain():
  chain = effects.LV2Chain([plugin('a', 44100), plugin('b', 44100)])
  model = models.ControlModel(
    models.Constant(),
    group((chain, 'a_controls', 'b_controls')),
    [losses.TimeDomainLoss()],
    RATE,
  )
  with pytest.raises(ValueError, match='works at 44100 Hz.*16000 Hz'):
    check(model, Batches())


def test_an_encoder_of_another_rate():
  with pytest.raises(ValueError, match='44100 Hz.*16000 Hz'):
    models.ControlModel(
      models.LogMelEncoder(44100, 512, 4),
      group((plugin('a'), 'a_controls')),
      [losses.TimeDomainLoss()],
      RATE,
    )


def test_features_that_the_data_do_not_have():
  model = effect_model(Knobbed(), 'knobs')
  with pytest.raises(
    ValueError, match='takes audio, knobs, and Batches gives audio, target.*set'
  ):
    check(model, Batches())
  with pytest.raises(ValueError, match='gives 3 knobs.*takes 2.*n_knobs'):
    check(model, Batches(knobs=[3]))
  check(model, Batches(knobs=[2]))
  without_target = Batches()
  del without_target.features['target']
  with pytest.raises(ValueError, match='target is missing'):
    check(control_model(plugin('a')), without_target)


def test_stages_that_the_model_does_not_have():
  model = control_model(plugin('a'), plugin('b'))
  with pytest.raises(ValueError, match='train.stages=.*n_plugins=3.*1 to 2'):
    check(model, Batches(), stages=[(1, 5), (3, 5)])
  with pytest.raises(ValueError, match='EffectModel sets none'):
    check(effect_model(effects.Gain()), Batches(), stages=[(1, 5)])


def test_train_compares_and_gives_the_nodes_its_seed():
  trainer = trainers.Trainer(control_model(plugin('a'), plugin('b')))
  with pytest.raises(ValueError, match='44100 Hz'):
    trainers.train(Batches(44100), trainer=trainer, num_steps=1)
  trainers.train(Batches(), trainer=trainer, num_steps=0, seed=7)
  assert [p.run_seed for p in trainer.model.driven.values()] == [7, 7]


def test_a_run_of_an_older_version_is_told_where_it_is_taken_up(
  tmp_path, caplog
):
  def train(**kwargs):
    trainer = trainers.Trainer(control_model(plugin('a')))
    trainers.train(Batches(), trainer=trainer, **kwargs)

  train(num_steps=1, save_dir=str(tmp_path))
  (config,) = tmp_path.glob('operative_config-*.gin')
  config.write_text('# Macros:\n')  # as 0.1.0, it names no version
  for kwargs in ({'save_dir': str(tmp_path)}, {'restore_dir': str(tmp_path)}):
    caplog.clear()
    with caplog.at_level('WARNING'):
      train(num_steps=1, **kwargs)
    assert '0.1.0' in caplog.text


# --------------------------------------------------------------- Workers ----
class Two(core.Workers):
  """Two workers, of which the other one says something else."""

  n_workers = 2

  def __init__(self, **others):
    self._others = others
    self.said = None

  def exchange(self, value):
    self.said = value
    return [value, {**value, **self._others}]


class Versioned(effects.Gain):
  """An effect that comes in versions, as plugins do."""

  identity, version = 'urn:example:it', '1.2'


def check_two(**others):
  workers = Two(**others)
  provider = Batches()
  provider.summary = lambda: '3 items\na.wav 100'
  agreement.check_workers(workers, effect_model(Versioned()), [provider], 7)
  return workers.said


def test_workers_that_agree_go_on():
  said = check_two()
  assert said['seed'] == '7' and said['version of urn:example:it'] == '1.2'
  assert said['what runs the network'] == 'processors'
  agreement.check_settings(Two())


@pytest.mark.parametrize(
  'what, theirs, message',
  [
    ('version of dafx', '0.1', f"'{dafx.__version__}', worker 1 has '0.1'"),
    ('version of TensorFlow', '1.0', "worker 1 has '1.0'"),
    ('version of urn:example:it', '1.3', "'1.2', worker 1 has '1.3'"),
    ('version of urn:example:other', '1', "'none', worker 1 has '1'"),
    ('what runs the network', 'a GPU', "'processors', worker 1 has 'a GPU'"),
    ('settings', 'a = 1', "has .*, worker 1 has 'a = 1'"),
    ('seed', '8', "'7', worker 1 has '8'"),
    ('data (0)', '3 items\na.wav 99', "'a.wav 100', worker 1 has 'a.wav 99'"),
  ],
)
def test_what_workers_differ_in_is_named(what, theirs, message):
  with pytest.raises(ValueError) as caught:
    check_two(**{what: theirs})
  text = str(caught.value)
  assert text.startswith(f'Workers differ in {what}: worker 0 has ')
  assert re.search(message, text) and '\n' not in text


def test_a_folder_that_comes_late_is_waited_for(tmp_path, monkeypatch):
  """NFS shows a new folder, or a new file in it, some seconds later."""
  folder, looks = tmp_path / 'run', []

  class Second(core.Workers):
    index, n_workers = 1, 2

    def exchange(self, value):
      return ['0123', '0123'] if value == '' else [True, value]

  def sleep(seconds):
    looks.append(seconds)
    if len(looks) == 3:
      folder.mkdir()
      (folder / '.workers_0123').touch()

  monkeypatch.setattr(agreement.time, 'sleep', sleep)
  agreement.check_folder(Second(), folder)
  assert len(looks) == 3
  times = iter([0.0, 1.0, 61.0])
  monkeypatch.setattr(agreement.time, 'monotonic', lambda: next(times))
  with pytest.raises(ValueError, match='worker 1 does not see the folder'):
    agreement.check_folder(Second(), tmp_path / 'other')
