"""Tests of models that are an effect, and of training in windows."""

# First: importing dafx sets up what DDSP needs.

import json

import ddsp
import numpy as np
import pytest
import tensorflow as tf
from cases import some_quick

from dafx import losses, neural, processors
from dafx.audio import sources
from dafx.training import checkpoints, trainers
from dafx.training.inference import profiling
from dafx.training.models import effect

N_SAMPLES = 64


class Leaky(processors.Processor):
  """y[n] = a y[n - 1] + gain x[n], with knobs or without."""

  macs_per_sample = 2.0

  def __init__(self, name='leaky', field=None, frame_size=1):
    super().__init__(name=name, trainable=True)
    self.pole = tf.Variable(0.5)
    self.gain = tf.Variable(1.0)
    self.receptive_field = field
    self.frame_size = frame_size

  def get_controls(self, audio, knobs=None):
    return {'audio': audio, 'knobs': knobs}

  def get_signal(self, audio, knobs=None):
    return self.stream(self.initial_state(audio.shape[0]), audio, knobs)[0]

  def initial_state(self, batch_size):
    return tf.zeros([batch_size])

  def stream(self, state, audio, knobs=None):
    x = self.gain * audio
    if knobs is not None:
      x *= knobs[:, :1] if knobs.shape.rank == 2 else knobs[:, :, 0]
    samples = []
    for n in range(audio.shape[1]):
      state = self.pole * state + x[:, n]
      samples.append(state)
    return tf.stack(samples, axis=1), state


def leaky_np(x, pole, gain):
  y, state = np.zeros_like(x), 0.0
  for n in range(x.shape[1]):
    state = pole * state + gain * x[:, n]
    y[:, n] = state
  return y


def features(batch_size=3, n_samples=N_SAMPLES, seed=0):
  rng = np.random.default_rng(seed)
  audio = rng.standard_normal([batch_size, n_samples]).astype(np.float32)
  target = leaky_np(audio, 0.8, 0.5).astype(np.float32)
  return {'audio': tf.constant(audio), 'target': tf.constant(target)}


def model_of(*nodes, inputs=('audio',), **kwargs):
  dag = [(nodes[0], list(inputs))]
  for before, node in zip(nodes, nodes[1:]):
    dag.append((node, [f'{before.name}/signal']))
  group = ddsp.processors.ProcessorGroup(dag=dag)
  return effect.EffectModel(
    group, [losses.TimeDomainLoss('L2')], 8000, **kwargs
  )


def test_model_runs_its_graph_and_gives_losses():
  model, batch = model_of(Leaky('a'), Leaky('b')), features()
  outputs, values = model(batch, return_losses=True)
  audio = batch['audio'].numpy()
  expected = leaky_np(leaky_np(audio, 0.5, 1.0), 0.5, 1.0)
  np.testing.assert_allclose(
    model.get_audio_from_outputs(outputs), expected, rtol=1e-4, atol=1e-5
  )
  loss = np.mean((expected - batch['target'].numpy()) ** 2)
  np.testing.assert_allclose(values['total_loss'], loss, rtol=1e-4)
  assert set(values) == {'time_domain_loss', 'total_loss'}


def test_losses_leave_out_what_settles():
  batch = features()
  late = model_of(Leaky(), burn_in=20)
  audio = late(batch)['audio_synth'].numpy()[:, 20:]
  expected = np.mean((audio - batch['target'].numpy()[:, 20:]) ** 2)
  loss = late(batch, return_losses=True)[1]['total_loss']
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  # The fields of a chain add up; half of the crop is the most.
  assert model_of(Leaky(field=9), Leaky('b', field=5)).receptive_field == 13
  assert model_of(Leaky(field=9), Leaky('b', field=5)).settling(64) == 12
  assert model_of(Leaky(field=100)).settling(64) == 32
  assert model_of(Leaky(), Leaky('b')).receptive_field is None
  assert model_of(Leaky()).settling(64) == 0
  with pytest.raises(ValueError, match='burn_in=64'):
    model_of(Leaky(), burn_in=64)(batch, return_losses=True)


def test_inputs_that_data_do_not_give_are_named():
  model = model_of(Leaky(), inputs=('audio', 'knobs'))
  assert model.inputs_used == ['audio', 'knobs']
  with pytest.raises(ValueError, match='audio, knobs.*knobs needs data'):
    model(features())
  batch = {**features(), 'knobs': tf.fill([3, 1], 0.5)}
  np.testing.assert_allclose(
    model(batch)['audio_synth'],
    leaky_np(batch['audio'].numpy(), 0.5, 0.5),
    rtol=1e-4,
    atol=1e-5,
  )
  with pytest.raises(ValueError, match='takes audio, pitch; the data give'):
    model_of(Leaky(), inputs=('audio', 'pitch'))(batch)


# ---------------------- Windows -----------------------------------------------
def test_windows_carry_the_state_on():
  model, batch = model_of(Leaky('a'), Leaky('b')), features()
  whole = model(batch)['audio_synth'].numpy()
  state, parts = model.initial_state(3), []
  for start in range(0, N_SAMPLES, 16):
    part = {k: v[:, start : start + 16] for k, v in batch.items()}
    audio, values, state = model.stream(state, part)
    parts.append(audio.numpy())
    expected = np.mean((audio - part['target']) ** 2)
    np.testing.assert_allclose(values['total_loss'], expected, rtol=1e-5)
  np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-5)


def test_a_step_in_windows_is_an_update_for_each():
  batch = features()
  model = model_of(Leaky())
  trainer = trainers.Trainer(
    model, learning_rate=0.01, tbptt_samples=16, grad_clip_norm=1e9
  )
  trainer.build(batch)
  values = trainer.train_step(batch)

  # The same by hand, with Keras's Adam and NumPy's recursion of the state.
  pole, gain = tf.Variable(0.5), tf.Variable(1.0)
  adam = tf.keras.optimizers.Adam(0.01)
  state, rows = np.zeros(3, np.float32), []
  for start in range(0, N_SAMPLES, 16):
    with tf.GradientTape() as tape:
      y, samples = tf.constant(state), []
      for n in range(start, start + 16):
        y = pole * y + gain * batch['audio'][:, n]
        samples.append(y)
      error = tf.stack(samples, 1) - batch['target'][:, start : start + 16]
      loss = tf.reduce_mean(error**2)
    rows.append(float(loss))
    gradients = tape.gradient(loss, [pole, gain])
    adam.apply_gradients(zip(gradients, [pole, gain]))
    state = y.numpy()
  (node,) = model.processor_group.processors
  np.testing.assert_allclose(node.pole.numpy(), pole.numpy(), rtol=1e-5)
  np.testing.assert_allclose(node.gain.numpy(), gain.numpy(), rtol=1e-5)
  np.testing.assert_allclose(values['total_loss'], np.mean(rows), rtol=1e-5)
  assert trainer.step == 1 and int(trainer.optimizer.iterations) == 4


def test_windows_that_settle_are_not_learned_from():
  batch = features()
  trainer = trainers.Trainer(model_of(Leaky(), burn_in=17), tbptt_samples=16)
  trainer.build(batch)
  trainer.train_step(batch)
  assert int(trainer.optimizer.iterations) == 2


@pytest.mark.parametrize('burn_in', [None, 17])
def test_the_start_of_an_lstm_is_learned_in_windows(burn_in):
  net = neural.Rnn(n_units=3, activation='linear', initial_state='trained')
  model = model_of(net, burn_in=burn_in)
  trainer = trainers.Trainer(model, learning_rate=0.02, tbptt_samples=16)
  trainer.build(features())
  before, kernel = net.start.numpy(), net.layers[0].kernel.numpy()
  trainer.train_step(features())
  assert np.all(net.start.numpy() != before)
  assert np.all(net.layers[0].kernel.numpy() != kernel)


def packed():
  networks = []
  for taps in ([1.0, 0.5], [0.5, 0.0, 0.25]):
    network = neural.Linear(len(taps))
    network.set_response(taps)
    networks.append(network)
  return neural.Packed(networks)


def test_networks_of_several_sizes_are_trained_as_if_alone():
  net = packed()
  both, batch = model_of(net, burn_in=2), features()
  with tf.GradientTape() as tape:
    outputs, all_losses = both(batch, return_losses=True)
  gradients = tape.gradient(all_losses['total_loss'], both.trainable_variables)
  alone = [model_of(network, burn_in=2) for network in packed().networks]
  total = 0.0
  for i, model in enumerate(alone):
    with tf.GradientTape() as tape:
      own, own_losses = model(batch, return_losses=True)
    (gradient,) = tape.gradient(
      own_losses['total_loss'], model.trainable_variables
    )
    np.testing.assert_allclose(gradients[i], gradient, rtol=1e-5)
    audio = both.audio_to_judge(outputs)[..., i]
    np.testing.assert_allclose(audio, own['audio_synth'], atol=1e-6)
    total += float(own_losses['total_loss'])
  assert float(all_losses['total_loss']) == pytest.approx(total)
  # The largest is what it is used with.
  np.testing.assert_array_equal(outputs['audio_synth'], audio)
  assert net.chosen == 1


def test_networks_of_several_sizes_are_judged_together():
  model = model_of(packed(), burn_in=0, judged_by='esr')
  trainer = trainers.Trainer(model)
  found = trainer.validate([features()])
  dry, wet = (features()[key].numpy() for key in ('audio', 'target'))
  figures = []
  for network in packed().networks:
    error = network(tf.constant(dry)).numpy() - wet
    figures.append(np.sum(error**2) / np.sum(wet**2))
  assert found['figure_0'] == pytest.approx(figures[0], rel=1e-4)
  assert found['figure'] == pytest.approx(sum(figures), rel=1e-4)


def test_a_size_chooses_the_network_that_is_used():
  net, dry = packed(), features()['audio'][0].numpy()[:, np.newaxis]
  model = model_of(net)
  source = sources.from_array(dry, model.sample_rate)

  def used(**options):
    return np.concatenate(list(model.render(source, **options).blocks()))

  by_name = {name: used(**o) for name, o in model.sizes().items()}
  names = ['network 1 of 2 (linear)', 'network 2 of 2 (linear)']
  assert list(by_name) == names
  both = list(by_name.values())
  for network, audio in zip(net.networks, both, strict=True):
    np.testing.assert_allclose(
      audio[:, 0], network(dry.T).numpy()[0], atol=1e-6
    )
  assert np.abs(both[0] - both[1]).max() > 0.01
  # As players of .nam files: the first network up to its share, then the next.
  for size, expected in ((0.0, 0), (0.49, 0), (0.5, 1), (1.0, 1), (None, 1)):
    np.testing.assert_array_equal(used(size=size), both[expected])
  # And then it is as before.
  small, large = (model.render(source, size=s).blocks() for s in (0.0, 1.0))
  np.testing.assert_array_equal(np.concatenate(list(small)), both[0])
  np.testing.assert_array_equal(np.concatenate(list(large)), both[1])
  assert net.chosen == 1
  with pytest.raises(ValueError, match='from 0 to 1'):
    model.render(source, size=1.5)
  with pytest.raises(ValueError, match='one size.*blackbox_a2.gin'):
    model_of(neural.Linear(2)).render(source, size=0.5)


def test_networks_of_several_sizes_are_trained_whole():
  trainer = trainers.Trainer(model_of(packed()), tbptt_samples=16)
  with pytest.raises(ValueError, match='not trained in windows'):
    trainer.train_step(features())
  with pytest.raises(ValueError, match='2 nodes of neural.Packed'):
    model_of(packed(), neural.Packed([neural.Linear(2)], name='again'))


@pytest.mark.parametrize('judged_by, expected', [('esr', 0.25), ('loss', None)])
def test_a_run_tells_the_error_ratio_of_its_best_validation(
  judged_by, expected, tmp_path
):
  model = model_of(neural.Linear(2), judged_by=judged_by)
  trainer = trainers.Trainer(model)
  trainer.build(features())
  trainer.end_validation(0.25)
  trainer.save(tmp_path / 'best')
  assert checkpoints.validation_esr(tmp_path) == expected


def test_training_in_windows_learns():
  model = model_of(Leaky())
  trainer = trainers.Trainer(model, learning_rate=0.02, tbptt_samples=16)
  trainer.build(features())
  for step in range(40):
    trainer.train_step(features(seed=step))
  (node,) = model.processor_group.processors
  np.testing.assert_allclose(node.pole.numpy(), 0.8, atol=0.03)
  np.testing.assert_allclose(node.gain.numpy(), 0.5, atol=0.03)


def test_a_window_of_broken_frames_is_refused():
  trainer = trainers.Trainer(model_of(Leaky(frame_size=10)), tbptt_samples=16)
  trainer.build(features())
  with pytest.raises(ValueError, match='frames of 10'):
    trainer.train_step(features())


def test_crops_without_a_window_are_refused():
  trainer = trainers.Trainer(model_of(Leaky()), tbptt_samples=100)
  trainer.build(features())
  with pytest.raises(ValueError, match='64 samples.*tbptt_samples=100'):
    trainer.train_step(features())


# ---------------------- Rates -------------------------------------------------
@pytest.mark.parametrize('weight_decay', some_quick([None, 0.1], []))
def test_rate_multipliers_scale_the_update_of_a_node(weight_decay):
  moves = []
  for multipliers in (None, {'b': 0.01}):
    model = model_of(Leaky('a'), Leaky('b'))
    trainer = trainers.Trainer(
      model,
      learning_rate=0.1,
      weight_decay=weight_decay,
      rate_multipliers=multipliers,
    )
    trainer.build(features())
    trainer.train_step(features())
    a, b = model.processor_group.processors
    moves.append((float(a.pole) - 0.5, float(b.pole) - 0.5))
  (a, b), (a_scaled, b_scaled) = moves
  assert abs(a) > 0.05
  np.testing.assert_allclose(a_scaled, a, rtol=1e-5)
  np.testing.assert_allclose(b_scaled, 0.01 * b, rtol=1e-3)


@pytest.mark.parametrize('multipliers', [{'c': 0.1}, {'a': -1.0}])
def test_bad_multipliers_are_named(multipliers):
  with pytest.raises(ValueError, match='graph: a, b'):
    trainers.Trainer(
      model_of(Leaky('a'), Leaky('b')), rate_multipliers=multipliers
    )


def test_a_run_in_windows_goes_on_where_it_stopped(tmp_path):
  def trainer_of():
    trainer = trainers.Trainer(
      model_of(Leaky('a'), Leaky('b')),
      tbptt_samples=16,
      rate_multipliers={'a': 0.5},
      weight_decay=0.01,
    )
    trainer.build(features())
    return trainer

  whole = trainer_of()
  expected = [
    float(whole.train_step(features(seed=s))['total_loss']) for s in range(4)
  ]
  first, second = trainer_of(), trainer_of()
  for seed in range(2):
    first.train_step(features(seed=seed))
  first.save(tmp_path)
  assert second.restore(tmp_path) and second.step == 2
  resumed = [
    float(second.train_step(features(seed=s))['total_loss']) for s in (2, 3)
  ]
  assert resumed == expected[2:]


def test_windows_need_a_model_that_streams():
  class Whole(effect.EffectModel):
    """Takes whole crops alone."""

    streams = False

  group = model_of(Leaky()).processor_group
  model = Whole(group, [losses.TimeDomainLoss('L2')], 8000)
  with pytest.raises(ValueError, match='tbptt_samples=8 needs'):
    trainers.Trainer(model, tbptt_samples=8)


# ---------------------- Profile -----------------------------------------------
def test_profile_counts_what_nodes_tell(tmp_path):
  model = model_of(Leaky('a', field=9), Leaky('b', field=5))
  model(features())
  found = profiling.profile(model, block_sizes=(4, 16), seconds=0.01)
  assert found['parameters'] == 4
  assert found['macs_per_second'] == 2 * 2 * 8000
  assert found['flops_per_second'] == 2 * found['macs_per_second']
  assert found['receptive_field'] == 13 and found['latency'] == 0
  assert found['state_bytes'] == 2 * 4
  assert found['not_counted'] == []
  assert set(found['blocks']) == {'4', '16'}
  for row in found['blocks'].values():
    assert 0.0 < row['real_time_factor'] <= row['longest']
  text = profiling.describe(found)
  assert '13 samples (1.6 ms)' in text and 'parameters        4' in text
  path = profiling.write(found, tmp_path)
  assert json.loads(path.read_text()) == found


def test_profile_names_what_it_cannot_count():
  mixer = ddsp.processors.Add(name='add')
  group = ddsp.processors.ProcessorGroup(
    dag=[(Leaky('a'), ['audio']), (mixer, ['a/signal', 'audio'])]
  )
  assert profiling.count_macs(group) == (2.0, ['add'])
  model = effect.EffectModel(group, [losses.EsrLoss()], 8000)
  found = profiling.profile(model, block_sizes=(8,), seconds=0.01)
  assert found['receptive_field'] is None
  text = profiling.describe(found)
  assert 'without         add' in text and 'without bounds' in text
