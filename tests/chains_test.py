"""LV2Chain, on plugins known in full."""

import ddsp
import numpy as np
import pytest
import tensorflow as tf
from cases import some_quick

from dafx import effects, gradients, losses, processors
from dafx.training import models

TEST = 'urn:dafx-test:'


def noise(*shape, seed=0, level=0.5):
  rng = np.random.default_rng(seed)
  return tf.constant(level * rng.standard_normal(shape), tf.float32)


def plugin(kind, **kwargs):
  kwargs = {'host': effects.Host(warm_up=0), 'name': kind, **kwargs}
  return effects.LV2Plugin(TEST + kind, **kwargs)


def make_chain(**kwargs):
  """Gain (0 to 4), square (0.01 to 10, logarithmic), gain: a * b**2 * c."""
  return effects.LV2Chain(
    [plugin('gain'), plugin('square'), plugin('gain', name='gain_2')],
    **{'control_gradient': gradients.Spsa(memory=0), **kwargs},
  )


def gradients_of(processor, audio, unit, weights=None, in_graph=False):
  audio, unit = tf.Variable(audio), tf.Variable(unit)
  if weights is None:
    weights = noise(*audio.shape, seed=9)

  def run():
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(weights * processor(audio, unit))
    return tape.gradient(loss, [audio, unit])

  return tf.function(run, autograph=False)() if in_graph else run()


UNIT = np.array([[[0.3, 0.6, 0.4], [0.5, 0.4, 0.7]]] * 2, np.float32)


def closed_form(audio, unit):
  """The chain's output, its derivative to the audio and to the controls."""
  held = np.repeat(unit, audio.shape[1] // unit.shape[1], axis=1)
  before, after = 4 * held[..., 0], 4 * held[..., 2]
  factor = 0.01 * 1000 ** held[..., 1]
  signal = before**2 * factor * after * audio**2
  d_unit = np.stack(
    [
      2 * signal / held[..., 0],
      signal * np.log(1000),
      signal / held[..., 2],
    ],
    axis=-1,
  )
  return signal, 2 * before**2 * factor * after * audio, d_unit


# -------------------------------------------------------------- Controls ----
def test_is_a_processor_with_the_controls_of_its_plugins():
  chain = make_chain()
  assert isinstance(chain, ddsp.processors.Processor)
  assert chain.symbols == ('gain/amount', 'square/amount', 'gain_2/amount')
  assert chain.n_controls == 3
  np.testing.assert_allclose(
    chain.control_map.defaults, [0.25, 2 / 3, 0.25], 1e-5
  )


def test_controls_come_together_or_plugin_by_plugin():
  chain, audio = make_chain(), noise(2, 8)
  together = chain.get_controls(audio, tf.constant(UNIT))['controls']
  np.testing.assert_allclose(together[..., 2], 4 * UNIT[..., 2], rtol=1e-6)
  # One frame is held for as many as the others have.
  parts = [UNIT[..., :1], UNIT[:, :1, 1:2], UNIT[..., 2:]]
  apart = chain.get_controls(audio, *map(tf.constant, parts))['controls']
  np.testing.assert_array_equal(apart[..., ::2], together[..., ::2])
  np.testing.assert_array_equal(
    apart[..., 1], np.repeat(together[:, :1, 1], 2, axis=1)
  )


@pytest.mark.parametrize(
  'shapes, message',
  [
    ([(1, 2, 4)], r'4 entries.*takes 3.*gain \(1\)'),
    ([(1, 2, 1), (1, 2, 1)], '2 tensors.*each of its 3 plugins'),
    ([(1, 2, 1), (1, 3, 1), (1, 1, 1)], r'\[1, 2, 3\] frames'),
  ],
)
def test_controls_that_do_not_fit(shapes, message):
  with pytest.raises(ValueError, match=message):
    make_chain().get_controls(noise(1, 6), *[tf.zeros(s) for s in shapes])


@pytest.mark.parametrize(
  'kwargs, message',
  [
    ({'plugins': []}, 'at least one'),
    ({'plugins': ['gain', 'gain']}, 'name of its own'),
    ({'n_plugins': 0}, 'n_plugins=0 must be from 1 to 1'),
    ({'n_plugins': 2}, 'n_plugins=2 must be from 1 to 1'),
    ({'control_gradient': 'guess'}, "'guess' must be a ControlEstimator"),
    ({'audio_gradient': 'guess'}, "'guess' must be an? AudioAdjoint"),
    ({'memory': 1}, r"LV2Chain has no argument 'memory'.*Spsa\(memory="),
    (
      {'input_gradient': 'none'},
      "has no argument 'input_gradient'.*audio_grad",
    ),
  ],
)
def test_wrong_options(kwargs, message):
  names = kwargs.pop('plugins', ['gain'])
  with pytest.raises((TypeError, ValueError), match=message):
    effects.LV2Chain([plugin(name) for name in names], **kwargs)


# ---------------------------------------------------------------- Signal ----
def test_signal_is_that_of_the_plugins_in_a_row():
  chain, audio = make_chain(), noise(2, 8)
  out = chain(audio, tf.constant(UNIT))
  expected = audio
  for member, unit in zip(chain.plugins, chain.split_controls(UNIT)):
    expected = member(expected, tf.constant(unit))
  np.testing.assert_array_equal(out, expected)
  np.testing.assert_allclose(out, closed_form(audio, UNIT)[0], rtol=1e-5)


@pytest.mark.parametrize(
  'shape, channels, expected',
  [
    ((2, 9), 'mono', (2, 9)),
    ((2, 9), 'stereo', (2, 9, 2)),
    ((2, 9, 1), 'mono', (2, 9, 1)),
    ((2, 9, 2), 'mono', (2, 9, 2)),
  ],
)
def test_channels_are_those_of_the_plugins_in_a_row(shape, channels, expected):
  chain = effects.LV2Chain([plugin('cross', channels=channels), plugin('gain')])
  audio, unit = noise(*shape), tf.fill([2, 1, 2], 0.5)
  out = chain(audio, unit)
  assert out.shape == expected
  apart = chain.plugins[1](
    chain.plugins[0](audio, unit[..., :1]), unit[..., 1:]
  )
  np.testing.assert_array_equal(out, apart)


def test_wrong_number_of_channels_names_the_plugin():
  chain = effects.LV2Chain([plugin('gain'), plugin('cross')])
  with pytest.raises(ValueError, match="3 channels; 'cross'"):
    chain(noise(1, 8, 3), tf.fill([1, 1, 2], 0.5))


def test_latency_is_taken_out_of_each():
  chain = effects.LV2Chain([plugin('late'), plugin('late', name='late_2')])
  audio = noise(1, 100)
  np.testing.assert_allclose(chain(audio, tf.ones([1, 1, 2])), audio, rtol=1e-6)


# ------------------------------------------------------------- Gradients ----
@pytest.mark.parametrize('in_graph', [False, True])
def test_central_differences_meet_the_closed_form(in_graph):
  audio, weights = noise(2, 8), noise(2, 8, seed=9)
  chain = make_chain(control_gradient=gradients.CentralDifferences())
  d_audio, d_unit = gradients_of(chain, audio, UNIT, in_graph=in_graph)
  _, to_audio, to_unit = closed_form(audio.numpy(), UNIT)
  products = weights.numpy()[..., None] * to_unit
  expected = products.reshape(2, 2, 4, 3).sum(2)
  np.testing.assert_allclose(d_unit, expected, rtol=1e-2, atol=1e-3)
  # A box without memory: its adjoint by reversal is exact.
  np.testing.assert_allclose(d_audio, weights * to_audio, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize('at', some_quick([0.4, 0.0, 1.0], [0.4]))
def test_the_mean_of_joint_estimates_is_the_gradient(at):
  # Linear in all controls at once, of which only one at a time is off its
  # place: three gains of which the product is taken.
  audio = noise(1, 8)
  chain = effects.LV2Chain(
    [plugin('gain', name=f'gain_{i}') for i in range(3)],
    control_gradient=gradients.Spsa(memory=0, n_probes=4),
  )
  unit = np.array([[[at, 0.5, 0.25], [0.75, at, 0.5]]], np.float32)
  weights = noise(1, 8, seed=3)
  estimates = [
    gradients_of(chain, audio, unit, weights)[1].numpy() for _ in range(64)
  ]
  products = (audio * weights).numpy().reshape(1, 2, 4).sum(-1)[..., None]
  others = np.stack(
    [np.prod(np.delete(unit, i, axis=-1), axis=-1) for i in range(3)], axis=-1
  )
  expected = 64 * products * others
  estimates = np.array(estimates)
  error = np.abs(estimates.mean(0) - expected)
  bound = 4 * estimates.std(0) / np.sqrt(len(estimates))
  # At a bound the difference is one-sided, of half the step: of an order less.
  slack = 2e-2 * np.abs(64 * products).max()
  assert (error <= bound + slack).all()
  assert np.abs(expected).max() > 10 * slack


def test_one_probe_of_a_static_setting_is_many_within_an_item():
  # Four frames of the same samples: the crosstalk of two gains, whose signs
  # agree as often as not, cancels. One frame of it does not.
  audio = tf.tile(noise(1, 1024), [1, 4])
  weights = tf.tile(noise(1, 1024, seed=9), [1, 4])
  unit = np.array([[[0.3, 0.6]]], np.float32)
  product = 16.0 * float(tf.reduce_sum(weights * audio))
  expected = product * unit[..., ::-1]

  def estimate(**kwargs):
    gains = [plugin('gain'), plugin('gain', name='gain_2')]
    estimator = gradients.Spsa(**kwargs)
    chain = effects.LV2Chain(gains, control_gradient=estimator)
    return gradients_of(chain, audio, unit, weights)[1].numpy()

  np.testing.assert_allclose(estimate(), expected, rtol=2e-3)
  whole_item = estimate(memory=None)
  assert np.abs(whole_item / expected - 1.0).min() > 0.3
  # With as many probes as controls one frame is exact, and is taken.
  np.testing.assert_allclose(estimate(n_probes=2), expected, rtol=2e-3)


def test_gradient_is_that_of_plugins_as_nodes():
  audio = noise(2, 40, level=0.3)
  members = [
    plugin('onepole', ranges={'amount': (0.2, 0.9)}),
    plugin('cross'),
    plugin('gain'),
  ]
  exact = gradients.CentralDifferences()
  for member in members:
    member.control_gradient = exact
  chain = effects.LV2Chain(members, control_gradient=exact)
  unit = np.full((2, 1, 3), 0.4, np.float32)

  def nodes(audio, unit):
    for i, member in enumerate(members):
      audio = member(audio, unit[..., i : i + 1])
    return audio

  joint = gradients_of(chain, audio, unit)
  apart = gradients_of(nodes, audio, unit)
  np.testing.assert_allclose(joint[0], apart[0], rtol=1e-5, atol=1e-6)
  # All that stands before a plugin is linear here: its adjoint is exact.
  np.testing.assert_allclose(joint[1], apart[1], rtol=2e-2, atol=1e-3)


def test_straight_through_and_none():
  audio = noise(1, 8)
  chain = make_chain(audio_gradient=gradients.StraightThrough())
  d_audio, _ = gradients_of(chain, audio, UNIT[:1])
  np.testing.assert_allclose(d_audio, noise(1, 8, seed=9), rtol=1e-6)
  nothing = gradients.NoAudioGradient()
  chain = make_chain(audio_gradient=nothing)
  with pytest.raises(ValueError, match=r"'lv2_chain' is .*NoAudioGradient\(\)"):
    gradients_of(chain, audio, UNIT[:1])
  chain = make_chain()
  chain.plugins[1].audio_gradient = nothing
  with pytest.raises(ValueError, match=r"'square' is .*NoAudioGradient\(\)"):
    gradients_of(chain, audio, UNIT[:1])


def test_figures_of_the_gradient_name_plugin_and_control():
  estimator = gradients.Spsa(
    n_probes=2, memory=0, epsilons={'square/amount': 0.02}
  )
  chain = make_chain(control_gradient=estimator)
  assert chain.gradient_figures() == {}
  audio, unit = noise(2, 60), tf.Variable(UNIT)
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(chain(audio, unit) ** 2)
  d_unit = tape.gradient(loss, unit)
  figures = chain.gradient_figures()
  assert figures['n_renders'] == 3 * 2 * (1 + 4)
  for i, name in enumerate(('gain/amount', 'square/amount', 'gain_2/amount')):
    np.testing.assert_allclose(
      figures[f'norm/{name}'], np.linalg.norm(d_unit[..., i]), rtol=1e-3
    )
    assert figures[f'clipped_share/{name}'] == 0.0
  # Of plugins that are not in use, sizes are there for later.
  chain.n_plugins = 1
  gradients_of(chain, audio, UNIT)
  assert 'norm/gain/amount' in chain.gradient_figures()
  assert 'norm/square/amount' not in chain.gradient_figures()


def test_each_step_draws_directions_of_its_own_and_can_be_repeated():
  audio = noise(2, 8)
  first, second = make_chain(), make_chain()
  a = [gradients_of(first, audio, UNIT)[1].numpy() for _ in range(2)]
  b = [gradients_of(second, audio, UNIT)[1].numpy() for _ in range(2)]
  np.testing.assert_array_equal(a, b)
  assert not np.array_equal(a[0], a[1])
  assert int(first.gradient_step) == 2
  for member in first.plugins:
    member.renderer.n_threads = 1
  first.gradient_step.assign(0)
  np.testing.assert_array_equal(gradients_of(first, audio, UNIT)[1], a[0])


# ----------------------------------------------------------- Progressive ----
def test_first_plugins_alone():
  audio, unit = noise(2, 8), tf.constant(UNIT)
  chain = make_chain(
    n_plugins=1, control_gradient=gradients.CentralDifferences()
  )
  np.testing.assert_array_equal(
    chain(audio, unit), chain.plugins[0](audio, unit[..., :1])
  )
  d_unit = gradients_of(chain, audio, UNIT)[1].numpy()
  assert not d_unit[..., 1:].any() and d_unit[..., 0].all()
  run = tf.function(chain, autograph=False)
  run(audio, unit)
  chain.n_plugins = 3  # also where the graph is built already
  np.testing.assert_array_equal(run(audio, unit), make_chain()(audio, unit))


# ----------------------------------------------------------------- Model ----
class Constant(models.Encoder):
  """An encoder that hears nothing."""

  def call(self, audio):
    return tf.ones([tf.shape(audio)[0], 1, 2])


def test_control_model_drives_the_plugins_of_a_chain():
  members = [plugin('gain', name='a'), plugin('gain', name='b')]
  chain = effects.LV2Chain(members, name='chain')
  group = processors.ProcessorGroup(
    [(chain, ['audio', 'a_controls', 'b_controls'])]
  )
  model = models.ControlModel(
    encoder=Constant(),
    processor_group=group,
    losses=[losses.MultiScaleSpectralLoss(fft_sizes=(16,))],
  )
  assert model.driven == {'a_controls': members[0], 'b_controls': members[1]}
  audio = noise(2, 64)
  with tf.GradientTape() as tape:
    outputs, values = model(
      {'audio': audio, 'target': 3.0 * audio}, return_losses=True
    )
  settings = model.port_values(outputs)
  assert {name: v.shape for name, v in settings.items()} == {
    'a': (2, 1, 1),
    'b': (2, 1, 1),
  }
  np.testing.assert_allclose(
    model.get_audio_from_outputs(outputs),
    audio * settings['a'][..., 0] * settings['b'][..., 0],
    rtol=1e-5,
  )
  # Louder is better, for both.
  found = tape.gradient(
    values['total_loss'], [h.bias for h in model.heads.values()]
  )
  assert all(float(g[0]) < 0 for g in found)


def test_control_model_says_what_inputs_a_chain_takes():
  chain = effects.LV2Chain(
    [plugin('gain', name=name) for name in 'ab'], name='chain'
  )
  group = processors.ProcessorGroup([(chain, ['audio', 'chain_controls'])])
  with pytest.raises(ValueError, match="'audio', 'a_controls', 'b_controls'"):
    models.ControlModel(encoder=Constant(), processor_group=group, losses=[])
