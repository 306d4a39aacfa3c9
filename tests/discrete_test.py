"""Ports that take single values, learned by a probability over them."""

import ddsp
import numpy as np
import pytest
import tensorflow as tf
from cases import some_quick

from dafx import effects, gradients

TEST = 'urn:dafx-test:'
HOST = {'host': effects.Host(warm_up=0)}


def noise(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return tf.constant(0.3 * rng.standard_normal(shape), tf.float32)


def stepped(**kwargs):
  """A gain of 0, 1 or 8."""
  options = {'choices': {'amount': None}, **HOST, **kwargs}
  return effects.DiscreteLV2Plugin(TEST + 'stepped', **options)


def modal(**kwargs):
  """A gain from 0 to 4, and a mode: as it is, upside down, halved."""
  options = {'choices': {'mode': None}, **HOST, **kwargs}
  return effects.DiscreteLV2Plugin(TEST + 'modal', **options)


# -------------------------------------------------------------- Estimator ----
def test_the_mean_of_estimates_is_the_gradient_by_enumeration():
  rng = np.random.default_rng(0)
  probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
  losses = rng.standard_normal((2, 3)) + 5.0
  estimates = []
  for _ in range(4000):
    chosen = np.stack(
      [rng.choice(3, 3, p=row) for row in probabilities], axis=1
    )
    products = np.take_along_axis(losses, chosen.T, axis=1).T
    estimates.append(effects.choice_gradient(products, chosen, probabilities))
  mean = (probabilities * losses).sum(-1, keepdims=True)
  exact = probabilities * (losses - mean)
  error = np.std(estimates, axis=0) / np.sqrt(len(estimates))
  assert (np.abs(np.mean(estimates, axis=0) - exact) < 4 * error).all()
  assert (np.abs(exact) > 10 * error).any()


def test_one_sample_has_no_baseline():
  with pytest.raises(ValueError, match='1 sample has no baseline'):
    effects.choice_gradient(np.ones((1, 1)), np.zeros((1, 1), int), np.ones(1))


@pytest.mark.parametrize('estimator', ['score_function', 'straight_through'])
def test_logits_of_a_plugin_get_that_gradient(estimator):
  plugin = stepped(estimator=estimator, n_samples=2)
  audio, cotangent = noise(1, 50).numpy(), noise(1, 50, 1, seed=1).numpy()
  logits = np.array([[0.2, 0.0, -0.5]], np.float32)
  probabilities = np.exp(logits) / np.exp(logits).sum()
  losses = (audio[..., None] * cotangent).sum() * np.array([0.0, 1.0, 8.0])
  exact = probabilities * (losses - (probabilities * losses).sum())
  controls = np.zeros((1, 1, 1), np.float32)
  estimates = np.array(
    [
      plugin.gradient_to_logits(
        audio[..., None], controls, logits, cotangent, step
      )
      for step in range(1 if estimator == 'straight_through' else 800)
    ]
  )
  error = 4 * estimates.std(0) / np.sqrt(len(estimates))
  assert (np.abs(estimates.mean(0) - exact) <= error + 1e-5).all()
  assert np.abs(exact).max() > 1e-3
  again = plugin.gradient_to_logits(
    audio[..., None], controls, logits, cotangent, 0
  )
  np.testing.assert_array_equal(again, estimates[0])


# -------------------------------------------------------------- Processor ----
def test_renders_the_most_probable_value():
  plugin, audio = stepped(), noise(3, 20)
  assert isinstance(plugin, ddsp.processors.Processor)
  assert plugin.symbols == ('amount',)
  assert plugin.n_controls == 3
  np.testing.assert_allclose(plugin.control_map.defaults, [0.7, 0.5, 0.5])
  scores = tf.constant([[0.9, 0.5, 0.2], [0.1, 0.5, 0.2], [0.0, 0.9, 1.0]])
  out = plugin(audio, scores)
  np.testing.assert_allclose(out, audio * [[0.0], [1.0], [8.0]], rtol=1e-6)
  controls = plugin.get_controls(audio, scores)
  np.testing.assert_allclose(controls['controls'][..., 0], [[0], [1], [8]])


@pytest.mark.parametrize('in_graph', [False, True])
def test_ports_with_a_range_have_their_gradient_beside(in_graph):
  plugin, audio = modal(trainable=['amount']), tf.Variable(noise(2, 20))
  assert plugin.symbols == ('amount', 'mode')
  weights = noise(2, 20, seed=2)
  controls = tf.Variable([[0.5, 0.1, 0.9, 0.1], [0.25, 0.1, 0.1, 0.9]])

  def run():
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(weights * plugin(audio, controls))
    return tape.gradient(loss, [audio, controls])

  to_audio, to_controls = (
    tf.function(run, autograph=False) if in_graph else run
  )()
  factor = np.array([-1.0, 0.5])
  np.testing.assert_allclose(
    to_controls[:, 0],
    4 * factor * np.sum(weights * audio, axis=1),
    rtol=1e-3,
    atol=1e-4,
  )
  gain = factor * 4 * [0.5, 0.25]
  np.testing.assert_allclose(to_audio, gain[:, None] * weights, rtol=1e-3)


@pytest.mark.parametrize('estimator', ['score_function', 'straight_through'])
@pytest.mark.parametrize(
  'start_target', some_quick([(0, 1), (2, 1), (1, 0)], [(1, 0)])
)
def test_learns_the_value_that_made_the_target(estimator, start_target):
  start, target = start_target
  # Modes are gains of 1, -1 and 0.5.
  plugin = modal(estimator=estimator, trainable=[])
  audio = noise(2, 60)
  wanted = audio * [1.0, -1.0][target]
  logits = tf.Variable([[0.5 * (value == start) for value in range(3)]])
  optimizer = tf.keras.optimizers.Adam(0.1)
  for _ in range(40):
    with tf.GradientTape() as tape:
      scores = tf.repeat(tf.sigmoid(logits), 2, axis=0)
      loss = tf.reduce_mean((plugin(audio, scores) - wanted) ** 2)
    optimizer.apply_gradients([(tape.gradient(loss, logits), logits)])
  assert int(tf.argmax(logits[0])) == target
  assert float(loss) == 0.0


def test_combinations_and_given_values():
  plugin = modal(choices={'mode': [2, 0]}, trainable=[])
  np.testing.assert_array_equal(plugin.combinations, [[2], [0]])
  np.testing.assert_allclose(plugin.control_map.defaults, [0.5, 0.7])


def test_the_order_of_choices_says_nothing():
  given = [('stereo_link', None), ('detection', None)]
  plugins = [
    effects.DiscreteLV2Plugin(
      'http://calf.sourceforge.net/plugins/Compressor', choices=dict(items)
    )
    for items in (given, given[::-1])
  ]
  assert plugins[0].symbols == plugins[1].symbols
  np.testing.assert_array_equal(*(plugin.combinations for plugin in plugins))


@pytest.mark.parametrize(
  'kwargs, message',
  [
    ({'choices': {}}, 'choices is empty'),
    ({'choices': {'amount': [0, 2]}}, r'\[0.0, 2.0\].*two or more different'),
    ({'choices': {'amount': [1]}}, 'two or more different'),
    ({'choices': {'amount': [1, 1]}}, 'two or more different'),
    ({'estimator': 'guess'}, "estimator='guess' must be one of"),
    ({'n_samples': 1}, 'n_samples=1 must be at least 2'),
  ],
)
def test_wrong_options(kwargs, message):
  with pytest.raises(ValueError, match=message):
    stepped(**kwargs)


def test_a_port_with_a_range_is_no_choice():
  with pytest.raises(ValueError, match='Put it into `trainable`'):
    modal(choices={'amount': [1, 2]})


def test_none_refuses():
  plugin = stepped(audio_gradient=gradients.NoAudioGradient())
  audio = tf.Variable(noise(1, 8))
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(plugin(audio, tf.fill([1, 3], 0.5)))
  with pytest.raises(ValueError, match=r'NoAudioGradient\(\)'):
    tape.gradient(loss, audio)


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda plugin: effects.LV2Chain([plugin]), 'node of its own'),
    (lambda plugin: effects.ProxyLV2Plugin(plugin, None), 'into `fixed`'),
  ],
)
def test_scores_are_not_for_chains_and_proxies(make, message):
  with pytest.raises(ValueError, match=f"'discrete_lv2_plugin'.*{message}"):
    make(modal())
