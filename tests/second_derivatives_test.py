"""What Python computes has first derivatives; others are refused, not zero."""

import numpy as np
import pytest
import tensorflow as tf

from dafx import core, effects, gradients, neural
from dafx.neural import state_space

RATE = 16000
ASKED = r'gradient of .* was asked for.* finite differences of the first'


def noise(*shape, seed=0, level=0.3):
  rng = np.random.default_rng(seed)
  return tf.constant(level * rng.standard_normal(shape), tf.float32)


def cubed(audio, controls):
  return audio * controls**3


def box(control_gradient=None, audio_gradient=None):
  """A gain that is the cube of its control."""
  return effects.BlackBox(
    cubed,
    core.make_control_map({'gain': (0.0, 1.0)}),
    control_gradient=control_gradient or gradients.CentralDifferences(),
    audio_gradient=audio_gradient or gradients.StraightThrough(),
  )


def first(function, x):
  with tf.GradientTape() as tape:
    tape.watch(x)
    value = function(x)
  return tape.gradient(value, x)


def second(function, x):
  return first(lambda x: tf.reduce_sum(first(function, x)), x)


def product(function, x):
  """A Hessian times a vector: forward over reverse."""
  with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
    found = first(function, x)
  return accumulator.jvp(found)


def forward(function, x):
  with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
    value = function(x)
  return accumulator.jvp(value)


def hessians(function, x):
  return tf.function(lambda x: tf.hessians(function(x), x))(x)


def in_graph(function, x):
  return tf.function(lambda x: second(function, x))(x)


def inner_graph(function, x):
  return second(tf.function(function), x)


@pytest.mark.parametrize(
  'derivative', [second, product, forward, hessians, in_graph, inner_graph]
)
@pytest.mark.parametrize('of', ['controls', 'audio'])
def test_second_derivatives_of_a_black_box_are_refused(derivative, of):
  processor, audio, gain = box(), noise(1, 64), tf.fill([1, 1, 1], 0.5)

  def loss(x):
    inputs = {'audio': audio, 'controls': gain, of: x}
    return tf.reduce_sum(processor(**inputs) ** 2)

  refused = ValueError, tf.errors.InvalidArgumentError
  with pytest.raises(refused, match=ASKED):
    derivative(loss, {'audio': audio, 'controls': gain}[of])


@pytest.mark.parametrize(
  'control_gradient, audio_gradient',
  [
    (gradients.Spsa(), gradients.Reversal()),
    (gradients.CentralDifferences(), gradients.GainFilter()),
    (gradients.Spsa(n_probes=2), gradients.BestAdjoint()),
  ],
)
def test_second_derivatives_of_a_plugin_are_refused(
  control_gradient, audio_gradient
):
  plugin = effects.LV2Plugin(
    'urn:dafx-test:gain',
    control_gradient=control_gradient,
    audio_gradient=audio_gradient,
    sample_rate=RATE,
  )
  audio, unit = noise(1, 400), tf.fill([1, 1, 1], 0.3)

  def mixed(audio):
    return tf.reduce_sum(
      first(lambda unit: tf.reduce_sum(plugin(audio, unit) ** 2), unit)
    )

  for function, x in (
    (lambda x: tf.reduce_sum(first(mixed, x)), audio),
    (lambda x: second(lambda x: tf.reduce_sum(plugin(x, unit) ** 2), x), audio),
    (lambda x: second(lambda x: tf.reduce_sum(plugin(audio, x)), x), unit),
  ):
    with pytest.raises(ValueError, match=ASKED):
      function(x)


def test_all_first_derivatives_are_as_before():
  processor, audio, gain = box(), noise(1, 64), tf.fill([1, 1, 1], 0.5)
  slope = 2 * 3 * 0.5**5 * np.sum(audio.numpy() ** 2)  # of sum (g^3 x)^2

  def loss(gain):
    return tf.reduce_sum(processor(audio, gain) ** 2)

  # Central differences leave the third derivative's part.
  close = dict(rtol=1e-3)
  compiled = tf.function(loss)
  both = tf.function(lambda gain: (compiled(gain), first(compiled, gain)))
  for function in (loss, compiled):
    # Within the tape, which then holds the gradient's own.
    with tf.GradientTape(persistent=True) as tape:
      tape.watch(gain)
      value = function(gain)
      double = 2 * value
      inner = tape.gradient(value, gain)
    np.testing.assert_allclose(inner, [[[slope]]], **close)
    outer = tape.gradient(double, gain)
    np.testing.assert_allclose(outer, [[[2 * slope]]], **close)
  # A graph that returns both, where the tape asks for one.
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(gain)
    value, found = both(gain)
  np.testing.assert_allclose(tape.gradient(value, gain), found)
  np.testing.assert_allclose(found, [[[slope]]], **close)

  # As a constant, on request.
  def held(gain):
    return loss(gain) * tf.stop_gradient(first(loss, gain))

  np.testing.assert_allclose(first(held, gain), [[[slope**2]]], **close)
  for has_graphs in (True, False):
    with tf.GradientTape(persistent=True) as tape:
      tape.watch(gain)
      signal = processor(audio, gain)[:, :5]
    found = tape.jacobian(signal, gain, experimental_use_pfor=has_graphs)
    expected = 3 * 0.5**2 * audio[0, :5].numpy()
    np.testing.assert_allclose(found[0, :, 0, 0, 0], expected, **close)


def test_a_step_beside_another_tape_is_not_refused():
  processor, audio = box(), noise(1, 64)
  unit = tf.Variable(tf.fill([1, 1, 1], 0.5))
  other = tf.Variable(3.0)

  def loss(x):
    return x * tf.reduce_sum(processor(audio, unit) ** 2)

  @tf.function
  def step():
    with tf.GradientTape() as tape:
      value = loss(1.0)
    return tape.gradient(value, unit)

  with tf.GradientTape() as tape:
    step()
    first(loss, tf.ones([]))
    value = other**2
  assert float(tape.gradient(value, other)) == 6.0
  with tf.autodiff.ForwardAccumulator(other, tf.ones([])) as accumulator:
    step()
    value = other**2
  assert float(accumulator.jvp(value)) == 6.0


def smoothed(x):
  attack, release = tf.constant([[0.8]]), tf.constant([[0.1]])
  return core.ballistics(x, attack, release)[0]


@pytest.mark.parametrize(
  'make',
  [
    lambda: smoothed,
    lambda: neural.Rnn(cell='gru', n_units=3, seed=0),
    pytest.param(lambda: neural.Rnn(n_units=3), marks=pytest.mark.slow),
  ],
  ids=['ballistics', 'gru', 'lstm'],
)
def test_compiled_code_refuses_what_graphs_have(make):
  node, audio, weights = make(), noise(1, 20), noise(1, 20, seed=1)

  def loss(x):
    return tf.reduce_sum(weights * node(x) ** 3)

  node(audio)
  with pytest.raises(ValueError, match=ASKED):
    second(loss, audio)
  # TensorFlow's own ops have it: against differences of the first.
  with core.portable():
    found = np.sum(second(loss, audio))
    step = 2e-3
    ends = [np.sum(first(loss, audio + sign * step)) for sign in (1, -1)]
  np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * step), rtol=0.02)


@pytest.mark.slow
def test_compiled_recurrences_refuse_them():
  poles = tf.constant([[0.5 + 0.2j, 0.3 - 0.1j]], tf.complex128)
  rest = tf.ones_like(poles), tf.ones([1]), tf.zeros([1, 1, 4])

  def loss(x):
    return tf.reduce_sum(state_space.state_space(poles, *rest, x)[0] ** 3)

  with pytest.raises(ValueError, match=ASKED):
    second(loss, noise(1, 300, 1))
