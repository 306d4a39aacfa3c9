"""A network beside a plugin gives it its gradients."""

import numpy as np
import pytest
import tensorflow as tf

from dafx import effects, losses, neural, processors
from dafx.training import models

TEST = 'urn:dafx-test:'


class Gain(tf.keras.layers.Layer):
  """A plugin's likeness of one weight: weight * control * audio."""

  def build(self, shape):
    self.weight = self.add_weight('weight', [], initializer='ones')

  def call(self, audio, controls):
    return self.weight * controls[:, :, 0] * audio


class Square(tf.keras.layers.Layer):
  """A likeness whose error depends on where it is taken."""

  def call(self, audio, controls):
    return controls[:, :, 0] ** 2 * audio


def noise(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return tf.constant(0.3 * rng.standard_normal(shape), tf.float32)


def make(network=None, **kwargs):
  host = effects.Host(warm_up=0)
  plugin = effects.LV2Plugin(TEST + 'gain', host=host, name='gain')
  return effects.ProxyLV2Plugin(plugin, network or Gain(), **kwargs)


@pytest.mark.parametrize('in_graph', [False, True])
@pytest.mark.parametrize('mode, gain', [('forward_plugin', 4), ('proxy', 1)])
def test_the_signal_is_by_mode_and_gradients_are_the_networks(
  mode, gain, in_graph
):
  proxy = make(mode=mode)
  audio, unit = tf.Variable(noise(2, 20)), tf.Variable([[0.5], [0.25]])
  weights = noise(2, 20, seed=1)

  def run():
    with tf.GradientTape() as tape:
      signal = proxy(audio, unit)
      loss = tf.reduce_sum(weights * signal)
    network = proxy.network.trainable_variables
    return signal, tape.gradient(loss, [audio, unit, *network])

  signal, found = (tf.function(run, autograph=False) if in_graph else run)()
  np.testing.assert_allclose(signal, gain * unit * audio, rtol=1e-5)
  np.testing.assert_allclose(found[0], unit * weights, rtol=1e-5)
  expected = tf.reduce_sum(weights * audio, axis=1, keepdims=True)
  np.testing.assert_allclose(found[1], expected, rtol=1e-4)
  assert found[2] is None  # the loss does not train the network


@pytest.mark.slow
def test_the_added_loss_trains_the_network_alone():
  proxy, unit = make(), tf.Variable([[0.5], [0.25]])
  optimizer = tf.keras.optimizers.Adam(0.1)
  values = []
  for step in range(150):
    with tf.GradientTape(persistent=True) as tape:
      proxy(noise(2, 20, seed=step), unit)
      (loss,) = proxy.losses
    assert tape.gradient(loss, unit) is None
    variables = proxy.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    values.append(float(loss))
  assert values[0] == pytest.approx(9 / 16, rel=1e-2)
  assert float(proxy.network.weight) == pytest.approx(4.0, rel=1e-2)


@pytest.mark.parametrize('spread, n_renders', [(0.0, 2), (0.5, 4)])
def test_learning_at_other_controls_takes_renders_of_its_own(spread, n_renders):
  proxy = make(spread=spread)
  proxy(noise(2, 8), tf.constant([[0.5], [0.5]]))
  assert proxy.processor.n_renders == n_renders


def test_the_controls_that_it_learns_at_come_from_the_seed():
  def errors(seed, name='proxy'):
    proxy = make(Square(), name=name)
    proxy.run_seed = seed
    found = []
    for _ in range(2):
      proxy(noise(1, 8), tf.constant([[0.5]]))
      found.append(float(proxy.losses[0]))
    return found

  assert errors(0) == errors(0)
  assert len({*errors(0), *errors(1), *errors(0, 'another')}) == 6


def test_without_a_weight_the_proxy_renders_nothing():
  proxy = make(mode='proxy', proxy_weight=0.0)
  proxy(noise(1, 8), tf.constant([[0.5]]))
  assert proxy.losses == []
  assert proxy.processor.n_renders == 0


class Constant(models.Encoder):
  """An encoder that hears nothing."""

  def call(self, audio):
    return tf.ones([tf.shape(audio)[0], 1, 2])


@pytest.mark.slow
def test_a_model_learns_controls_through_a_network_of_dafx():
  network = neural.DilatedConv(
    n_blocks=2,
    kernel_size=3,
    n_channels=8,
    conditioning='film',
    n_knobs=1,
    name='network',
  )
  proxy = make(network, name='gain_proxy')
  model = models.ControlModel(
    encoder=Constant(),
    processor_group=processors.ProcessorGroup(
      [(proxy, ['audio', 'gain_controls'])]
    ),
    losses=[losses.MultiScaleSpectralLoss(fft_sizes=(64,))],
  )
  optimizer = tf.keras.optimizers.Adam(0.01)

  @tf.function(autograph=False)
  def step(audio):
    with tf.GradientTape() as tape:
      _, values = model(
        {'audio': audio, 'target': 2.5 * audio}, return_losses=True
      )
    variables = model.trainable_variables
    found = tape.gradient(values['total_loss'], variables)
    optimizer.apply_gradients(zip(found, variables))
    return values

  history = [step(noise(4, 256, seed=i)) for i in range(200)]
  first, last = history[0], history[-1]
  np.testing.assert_allclose(
    first['total_loss'], first['spectral_loss'] + first['added_loss'], rtol=1e-5
  )
  assert float(last['added_loss']) < 0.3 * float(first['added_loss'])
  assert float(last['spectral_loss']) < 0.3 * float(first['spectral_loss'])


@pytest.mark.parametrize(
  'kwargs, message',
  [
    ({'mode': 'guess'}, "mode='guess' must be one of"),
    ({'proxy_weight': -1.0}, 'proxy_weight=-1.0 must be at least 0'),
    ({'spread': 2.0}, 'spread=2.0 must be from 0 to 1'),
  ],
)
def test_wrong_options(kwargs, message):
  with pytest.raises(ValueError, match=message):
    make(**kwargs)


def test_audio_with_channels_is_refused():
  with pytest.raises(ValueError, match=r'takes \[batch, n_samples\]'):
    make()(noise(1, 8, 2), tf.constant([[0.5]]))
