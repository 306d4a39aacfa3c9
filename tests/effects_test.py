"""LV2Plugin as a processor, alone and in a DAG with DDSP's processors."""

import inspect

import ddsp
import gin
import numpy as np
import pytest
import tensorflow as tf

from dafx import effects, gradients, lv2, processors

RATE = 16000
TEST = 'urn:dafx-test:'
CALF = 'http://calf.sourceforge.net/plugins/MultibandCompressor'
TUBE = 'http://invadarecords.com/plugins/lv2/tube/mono'


def noise(*shape, seed=0, level=0.1):
  rng = np.random.default_rng(seed)
  return tf.constant(level * rng.standard_normal(shape), tf.float32)


def plugin(kind, **kwargs):
  kwargs = {'host': effects.Host(warm_up=0), **kwargs}
  return effects.LV2Plugin(TEST + kind, **kwargs)


# -------------------------------------------------------------- Controls ----
def test_is_a_ddsp_processor():
  assert isinstance(plugin('gain'), ddsp.processors.Processor)


def test_get_controls_maps_to_port_units_and_clips():
  gain = plugin('gain', ranges={'amount': (0.5, 2.5)})
  unit = tf.constant([[[0.0], [0.5], [1.0], [1.5], [-1.0]]])
  controls = gain.get_controls(noise(1, 10), unit)['controls']
  np.testing.assert_allclose(controls[0, :, 0], [0.5, 1.5, 2.5, 2.5, 0.5])
  square = plugin('square')  # 0.01 to 10, logarithmic
  controls = square.get_controls(noise(1, 10), tf.constant([[2 / 3]]))
  np.testing.assert_allclose(controls['controls'], [[[1.0]]], rtol=1e-5)


def test_scales_can_be_overridden():
  square = plugin('square', ranges={'amount': (0.01, 10, 'linear')})
  np.testing.assert_allclose(
    square.control_map.to_port_units(np.array([0.5])), [5.005]
  )
  gain = plugin('gain', ranges={'amount': (0.25, 4.0, 'log')})
  np.testing.assert_allclose(
    gain.control_map.to_port_units(np.array([0.5])), [1.0]
  )


def test_default_controls_give_the_defaults():
  calf = effects.LV2Plugin(CALF, fixed={'bypass0': 0}, sample_rate=RATE)
  assert 'bypass1' not in calf.symbols  # a switch is not trained
  defaults = [calf.plugin.control(s).default for s in calf.symbols]
  np.testing.assert_allclose(
    calf.control_map.to_port_units(calf.control_map.defaults),
    defaults,
    rtol=1e-4,
    atol=1e-6,
  )


# ---------------------------------------------------------------- Signal ----
def test_static_and_framewise_controls():
  gain, audio = plugin('gain'), noise(2, 12)
  static = gain(audio, tf.constant([[0.25], [0.5]]))
  np.testing.assert_allclose(static, audio * [[1.0], [2.0]], rtol=1e-6)
  frames = tf.constant([[[0.0], [0.25], [0.5]]] * 2)
  moving = gain(audio, frames)
  np.testing.assert_allclose(
    moving, audio * np.repeat([0.0, 1.0, 2.0], 4), rtol=1e-6
  )


@pytest.mark.parametrize(
  'name, shape, channels, expected',
  [
    ('gain', (2, 9), 'mono', (2, 9)),
    ('gain', (2, 9), 'stereo', (2, 9)),
    ('gain', (2, 9, 1), 'mono', (2, 9, 1)),
    ('gain', (2, 9, 2), 'mono', (2, 9, 2)),
    ('cross', (2, 9), 'mono', (2, 9)),
    ('cross', (2, 9), 'stereo', (2, 9, 2)),
    ('cross', (2, 9, 1), 'mono', (2, 9, 1)),
    ('cross', (2, 9, 2), 'mono', (2, 9, 2)),
  ],
)
def test_channels(name, shape, channels, expected):
  out = plugin(name, channels=channels)(noise(*shape), tf.fill([2, 1], 0.5))
  assert out.shape == expected


def test_mono_into_stereo_is_the_mean_of_the_outputs():
  audio = noise(1, 20)
  out = plugin('cross')(audio, tf.constant([[0.5]]))
  np.testing.assert_allclose(out, audio * 1.5, rtol=1e-6)


def test_channels_of_a_mono_plugin_are_rendered_by_themselves():
  audio = noise(3, 40, 2)
  controls = tf.constant(np.random.default_rng(0).uniform(0, 1, (3, 4, 1)))
  tube = effects.LV2Plugin(TUBE, trainable=['drive'], sample_rate=RATE)
  both = tube(audio, controls)
  for channel in range(2):
    np.testing.assert_array_equal(
      both[..., channel], tube(audio[..., channel], controls)
    )


def test_batch_equals_its_items_and_permutes():
  calf = effects.LV2Plugin(
    CALF, ['threshold0', 'ratio0'], {'bypass0': 0}, sample_rate=RATE
  )
  audio = noise(4, 4000, level=0.5)
  controls = tf.constant(np.random.default_rng(0).uniform(0, 1, (4, 2, 2)))
  whole = calf(audio, controls).numpy()
  for i in range(4):
    one = calf(audio[i : i + 1], controls[i : i + 1])
    np.testing.assert_array_equal(one[0], whole[i])
  order = [2, 0, 3, 1]
  permuted = calf(tf.gather(audio, order), tf.gather(controls, order))
  np.testing.assert_array_equal(permuted, whole[order])


# ------------------------------------------------------------- Gradients ----
def gradients_of(processor, audio, unit, in_graph=False):
  audio, unit = tf.Variable(audio), tf.Variable(unit)
  weights = noise(*audio.shape, seed=9)

  def run():
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(weights * processor(audio, unit))
    return tape.gradient(loss, [audio, unit])

  return tf.function(run, autograph=False)() if in_graph else run()


@pytest.mark.parametrize('sides', [1, 2])
def test_probes_that_a_graph_renders_ahead_are_those_of_the_estimate(sides):
  audio, unit = noise(2, 600), np.full((2, 3, 1), 0.4, np.float32)
  estimator = gradients.Spsa(n_probes=3, sides=sides)
  onepole = plugin('onepole', control_gradient=estimator, name='onepole')
  _, found = gradients_of(onepole, audio, unit, in_graph=True)
  n_renders, ports = onepole.n_renders, onepole.control_map.to_port_units(unit)
  for probes in (
    None,
    onepole.render_probes(audio.numpy()[..., None], ports, 0),
  ):
    estimate = onepole.gradient_to_controls(
      audio.numpy()[..., np.newaxis],
      ports,
      noise(2, 600, seed=9).numpy()[..., np.newaxis],
      0,
      onepole(audio, unit).numpy()[..., np.newaxis],
      probes=probes,
    )
    expected = estimate * onepole.control_map.slope(ports)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
  # None is rendered twice: forward, probes, and each probe of the audio.
  other = plugin('onepole', control_gradient=estimator, name='onepole')
  gradients_of(other, audio, unit)
  assert other.n_renders == n_renders


@pytest.mark.parametrize('in_graph', [False, True])
@pytest.mark.parametrize(
  'estimator', [gradients.Spsa(memory=0), gradients.CentralDifferences()]
)
def test_gradient_of_a_gain_is_exact(estimator, in_graph):
  # One control: SPSA's single direction is all there is.
  gain = plugin('gain', control_gradient=estimator)
  audio, unit = noise(2, 60), tf.constant([[[0.3], [0.0], [1.0]]] * 2)
  d_audio, d_unit = gradients_of(gain, audio, unit, in_graph)
  weights = noise(2, 60, seed=9)
  per_frame = tf.reshape(4.0 * weights * audio, [2, 3, 20])  # d amount / d unit
  np.testing.assert_allclose(
    d_unit[..., 0], tf.reduce_sum(per_frame, -1), rtol=1e-3, atol=1e-5
  )
  gains = 4.0 * np.repeat(unit[..., 0], 20, axis=1)
  np.testing.assert_allclose(d_audio, weights * gains, rtol=1e-3, atol=1e-4)


def test_gradient_in_a_logarithmic_scale():
  square = plugin(
    'square', control_gradient=gradients.CentralDifferences(epsilon=1e-3)
  )
  audio, unit = noise(1, 50, level=0.5), tf.constant([[[0.4]]])
  _, d_unit = gradients_of(square, audio, unit)
  amount = 0.01 * 1000**0.4
  slope = amount * np.log(1000)
  expected = slope * np.sum(noise(1, 50, seed=9) * np.square(audio))
  np.testing.assert_allclose(d_unit[0, 0, 0], expected, rtol=2e-3)


def test_gradient_to_the_audio_of_a_filter():
  onepole = plugin('onepole')
  audio = tf.pad(noise(2, 300), [[0, 0], [0, 100]])
  d_audio, _ = gradients_of(onepole, audio, tf.fill([2, 1, 1], 0.8 / 0.99))
  v = tf.pad(noise(2, 300, seed=3), [[0, 0], [0, 100]])
  forward = onepole(v, tf.fill([2, 1, 1], 0.8 / 0.99))
  weights = noise(*audio.shape, seed=9)
  np.testing.assert_allclose(
    tf.reduce_sum(d_audio * v), tf.reduce_sum(weights * forward), rtol=1e-3
  )


def test_gradient_to_stereo_audio():
  cross = plugin('cross')
  audio, unit = noise(1, 30, 2), tf.constant([[[0.5]]])
  d_audio, _ = gradients_of(cross, audio, unit)
  weights = noise(1, 30, 2, seed=9).numpy()
  expected = weights + 0.5 * weights[..., ::-1]
  np.testing.assert_allclose(d_audio, expected, rtol=1e-3, atol=1e-5)


def test_gradient_to_mono_audio_through_a_stereo_plugin():
  d_audio, _ = gradients_of(
    plugin('cross'), noise(1, 30), tf.constant([[[0.5]]])
  )
  np.testing.assert_allclose(
    d_audio, 1.5 * noise(1, 30, seed=9), rtol=1e-3, atol=1e-5
  )


def test_latency_is_out_of_both_gradients():
  late = plugin('late', control_gradient=gradients.CentralDifferences())
  audio = tf.pad(noise(1, 100), [[0, 0], [50, 50]])
  d_audio, d_unit = gradients_of(late, audio, tf.constant([[[0.5]]]))
  weights = noise(1, 200, seed=9)
  np.testing.assert_allclose(d_audio, 0.5 * weights, rtol=1e-3, atol=1e-5)
  expected = np.sum(weights * audio)
  np.testing.assert_allclose(d_unit[0, 0, 0], expected, rtol=1e-3)


class Counting:
  """Counts the items that a plugin renders."""

  def __init__(self, processor):
    self.n_items = 0
    render = processor.renderer.render

    def counted(audio, controls, *args):
      self.n_items += len(controls)
      return render(audio, controls, *args)

    processor.renderer.render = counted


@pytest.mark.parametrize('in_graph', [False, True])
@pytest.mark.parametrize(
  'trained, n_renders',
  [
    ('nothing', 1),
    ('controls', 1 + 2),
    ('audio', 1 + 2),
    ('both', 1 + 2 + 2),
  ],
)
@pytest.mark.parametrize(
  'adjoint', [gradients.BestAdjoint(), gradients.Reversal()]
)
def test_only_what_is_asked_for_is_rendered(
  trained, n_renders, in_graph, adjoint
):
  gain = plugin('gain', audio_gradient=adjoint)
  gain.input_choice.assign([0, 1])  # made its choice at the first call
  audio, unit = noise(3, 16), tf.fill([3, 1, 1], 0.5)
  variables = {'audio': tf.Variable(audio), 'controls': tf.Variable(unit)}
  wanted = [v for k, v in variables.items() if trained in (k, 'both')]

  def run():
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(wanted)
      loss = tf.reduce_sum(gain(variables['audio'], variables['controls']))
    return loss, tape.gradient(loss, wanted)

  counting = Counting(gain)
  (tf.function(run, autograph=False) if in_graph else run)()
  assert counting.n_items == 3 * n_renders


def test_one_sided_probes_use_the_forward_render():
  gain = plugin('gain', control_gradient=gradients.Spsa(sides=1, n_probes=3))
  audio, unit = noise(2, 16), tf.Variable(tf.fill([2, 1, 1], 0.5))
  counting = Counting(gain)
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(gain(audio, unit))
  found = tape.gradient(loss, unit)
  assert counting.n_items == 2 * (1 + 3) == gain.n_renders
  expected = 4.0 * tf.reduce_sum(audio, axis=-1)
  np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-3, atol=1e-5)


def settle(processor, audio, unit):
  """Lets the best adjoint be chosen; returns it."""
  gradients_of(processor, audio, unit)
  choice, _ = processor.input_choice.numpy()
  n_in = audio.shape[-1] if len(audio.shape) == 3 else 1
  ways = processor.audio_gradient.candidates(
    n_in, processor.n_channels_out(n_in)
  )
  return ways[choice]


def test_adjoint_chooses_by_a_check_and_keeps_its_choice(caplog):
  caplog.set_level('INFO', 'dafx.effects')
  audio, unit = noise(2, 4000, level=0.3), tf.fill([2, 1, 1], 0.5)
  onepole = settle(plugin('onepole'), audio, unit)
  assert isinstance(onepole, gradients.Reversal)
  hard = effects.LV2Plugin(
    'http://calf.sourceforge.net/plugins/Compressor',
    ['makeup'],
    {'threshold': 0.02, 'ratio': 8, 'attack': 2, 'release': 50},
    sample_rate=22050,
    name='hard',
  )
  assert settle(hard, audio, unit) == gradients.GainFilter()
  assert 'audio of hard is by GainFilter' in caplog.text
  # The next call costs the eleven renders of gain times filter, not a check.
  hard.n_renders = 0
  gradients_of(hard, audio, unit)
  assert hard.n_renders == 2 * (1 + 2 + 11)
  assert hard.input_choice.numpy()[1] == 2
  # The hundredth call is checked again.
  hard.input_choice.assign([0, 100])
  assert settle(hard, audio, unit) == gradients.GainFilter()


def test_other_ways_choose_nothing_for_the_adjoint():
  audio, unit = noise(1, 400), tf.fill([1, 1, 1], 0.5)
  wire = plugin('onepole', audio_gradient=gradients.StraightThrough())
  gradients_of(wire, audio, unit)
  # Calls are counted; where another way follows from a checkpoint, it chooses.
  np.testing.assert_array_equal(wire.input_choice, [-1, 1])
  wire.audio_gradient = gradients.BestAdjoint()
  gradients_of(wire, audio, unit)
  assert wire.input_choice.numpy()[0] >= 0


def test_a_factor_beyond_reason_is_not_taken(monkeypatch, caplog):
  wild = {gradients.Reversal(0.1): gradients.Agreement(0.1, 1e39)}
  monkeypatch.setattr(
    gradients.directional, 'choose_adjoint', lambda *_, **__: wild
  )
  audio, unit = noise(1, 400), tf.fill([1, 1, 1], 0.5)
  d_audio, _ = gradients_of(plugin('onepole'), audio, unit)
  np.testing.assert_array_equal(d_audio, noise(1, 400, seed=9))
  assert 'is by StraightThrough(): none agrees' in caplog.text


def test_choice_and_step_are_in_the_checkpoint(tmp_path):
  audio, unit = noise(1, 500), tf.fill([1, 1, 1], 0.5)
  first = plugin('onepole')
  d_audio, _ = gradients_of(first, audio, unit)
  path = tf.train.Checkpoint(p=first).save(str(tmp_path / 'c'))
  second = plugin('onepole')
  tf.train.Checkpoint(p=second).restore(path)
  np.testing.assert_array_equal(second.input_choice, first.input_choice)
  np.testing.assert_array_equal(gradients_of(second, audio, unit)[0], d_audio)
  assert second.n_renders == 1 + 2 + 2  # no check


def test_gradient_of_silence_and_of_nothing():
  gain = plugin('gain')
  audio = tf.Variable(tf.zeros([1, 50]))
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(0.0 * gain(audio, tf.constant([[[0.5]]])))
  np.testing.assert_array_equal(tape.gradient(loss, audio), 0.0)
  assert gain.input_choice.numpy()[0] == -1  # nothing to choose by yet


@pytest.mark.parametrize('kind', ['gain', 'onepole', 'late', 'delay'])
def test_adjoint_identity_of_linear_plugins(kind):
  processor = plugin(kind, audio_gradient=gradients.Reversal(1.0))
  unit = np.full((2, 1, processor.n_controls), 0.5)
  n = 3000
  v, g = 0.1 * np.random.default_rng(0).standard_normal((2, 2, n, 1))
  for signal in (v, g):  # silent at both ends: latency and tails
    signal[:, :1000] = 0
    signal[:, 2000:] = 0
  v, g = v.astype(np.float32), g.astype(np.float32)
  values = processor.control_map.to_port_units(unit).astype(np.float32)
  adjoint = processor.gradient_to_audio(v, values, g).astype(np.float64)
  forward = processor.render(v, values).astype(np.float64)
  size = np.linalg.norm(g) * np.linalg.norm(forward)
  difference = (g * forward).sum() - (adjoint * v).sum()
  assert np.abs(forward).max() > 0
  assert abs(difference) < 1e-6 * size


def test_gradient_from_stereo_to_mono_audio():
  cross = plugin(
    'cross', channels='stereo', audio_gradient=gradients.Reversal()
  )
  audio, unit = tf.Variable(noise(1, 30)), tf.constant([[[0.5]]])
  weights = noise(1, 30, 2, seed=9)
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(weights * cross(audio, unit))
  expected = 1.5 * tf.reduce_sum(weights, axis=-1)
  np.testing.assert_allclose(
    tape.gradient(loss, audio), expected, rtol=1e-3, atol=1e-5
  )


def test_ways_that_do_not_fit_the_channels_are_named():
  cross = plugin(
    'cross', channels='stereo', audio_gradient=gradients.GainFilter()
  )
  audio = tf.Variable(noise(1, 30))
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(cross(audio, tf.constant([[[0.5]]])))
  with pytest.raises(
    ValueError, match='2 channels of 1: GainFilter.*BestAdjoint'
  ):
    tape.gradient(loss, audio)


def test_figures_of_the_last_gradient():
  calf = effects.LV2Plugin(
    CALF, ['threshold0', 'makeup0'], {'bypass0': 0}, sample_rate=RATE,
    control_gradient=gradients.Spsa(n_probes=4),
  )  # fmt: skip
  assert calf.gradient_figures() == {}
  audio = noise(2, 2000, level=0.5)
  unit = tf.constant([[[0.4, 0.005]], [[0.4, 0.5]]])
  unit = tf.Variable(unit)
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(calf(audio, unit) ** 2)
  d_unit = tape.gradient(loss, unit)
  stats = calf.gradient_figures()
  assert stats['n_renders'] == 2 * (1 + 8)
  for i, symbol in enumerate(calf.symbols):
    np.testing.assert_allclose(
      stats[f'norm/{symbol}'], np.linalg.norm(d_unit[..., i]), rtol=1e-3
    )
    assert stats[f'signal_to_noise_db/{symbol}'] >= -30.0
  assert stats['clipped_share/threshold0'] == 0.0
  assert stats['clipped_share/makeup0'] == 0.5


def test_sizes_of_single_controls_and_their_decay():
  calf = effects.LV2Plugin(
    CALF, ['threshold0', 'makeup0'], {'bypass0': 0}, sample_rate=RATE,
    control_gradient=gradients.Spsa(
      epsilons={'makeup0': 0.1}, epsilon_decay=1.0, epsilon_decay_steps=10
    ),
  )  # fmt: skip
  seen = []
  render = calf.renderer.render
  calf.renderer.render = lambda a, c, *rest: (
    seen.append(c),
    render(a, c, *rest),
  )[1]
  audio, values = noise(1, 500).numpy()[..., np.newaxis], [[[0.5, 0.5]]]
  port = calf.control_map.to_port_units(np.array(values)).astype(np.float32)
  for step, expected in ((0, [0.01, 0.1]), (10, [0.005, 0.05])):
    calf.gradient_to_controls(audio, port, np.ones_like(audio), step)
    moved = calf.control_map.to_normalised(seen[-1][0, 0]) - 0.5
    np.testing.assert_allclose(np.abs(moved), expected, rtol=1e-3)


def test_memory_is_measured_once():
  # 16 samples of memory at a coefficient of 0.5 are within a frame of 50.
  short = plugin('onepole')
  audio = noise(1, 1000).numpy()[..., np.newaxis]
  values = short.control_map.to_port_units(np.full((1, 20, 1), 0.5)).astype(
    np.float32
  )
  for _ in range(2):
    before = short.n_renders
    short.gradient_to_controls(audio, values, np.ones_like(audio), 0)
  assert short.n_renders - before == 2
  assert short.measure_memory(1000, 20) == 0
  assert short.measure_memory(1000, 1) == 0


def test_a_static_setting_gets_more_of_a_probe_than_the_whole_item_tells():
  compressor = effects.LV2Plugin(
    CALF,
    [f'{k}{i}' for i in range(4) for k in ('threshold', 'ratio', 'makeup')],
    {f'bypass{i}': 0 for i in range(4)},
    sample_rate=RATE,
  )
  audio = noise(1, 16384, level=0.5).numpy()[..., np.newaxis]
  values = compressor.control_map.to_port_units(
    np.full((1, 1, 12), 0.4, np.float32)
  )
  slope = compressor.control_map.slope(values)
  weights = compressor.render(audio, values)

  def estimate(estimator, step=0):
    compressor.control_gradient = estimator
    found = slope * compressor.gradient_to_controls(
      audio, values, weights, step
    )
    return (found / np.linalg.norm(found)).ravel()

  truth = estimate(gradients.CentralDifferences())
  in_frames, whole_item = gradients.Spsa(), gradients.Spsa(memory=None)
  cosines = [estimate(in_frames, step) @ truth for step in range(4)]
  whole = [estimate(whole_item, step) @ truth for step in range(4)]
  assert np.mean(cosines) > 0.8 > 0.6 > np.mean(whole), (cosines, whole)


def test_static_and_framewise_controls_of_two_plugins():
  fast = plugin('gain', name='fast', control_gradient=gradients.Spsa(memory=0))
  slow = plugin('gain', name='slow')
  audio = noise(2, 60)
  frames = tf.Variable(tf.fill([2, 3, 1], 0.5))
  static = tf.Variable(tf.fill([2, 1], 0.25))
  weights = noise(2, 60, seed=9)

  @tf.function(autograph=False)
  def step():
    with tf.GradientTape(persistent=True) as tape:
      loss = tf.reduce_sum(weights * slow(fast(audio, frames), static))
    return tape.gradient(loss, [frames, static])

  d_frames, d_static = step()
  product = weights * audio
  np.testing.assert_allclose(
    d_frames[..., 0],
    4.0 * tf.reduce_sum(tf.reshape(product, [2, 3, 20]), -1),
    rtol=2e-3,
    atol=1e-4,
  )
  np.testing.assert_allclose(
    d_static[:, 0], 4.0 * 2.0 * tf.reduce_sum(product, -1), rtol=2e-3, atol=1e-4
  )


def test_no_audio_gradient_is_an_error_only_when_asked_for():
  gain = plugin('gain', audio_gradient=gradients.NoAudioGradient(), name='last')
  audio, unit = tf.Variable(noise(1, 9)), tf.Variable([[[0.5]]])
  with tf.GradientTape(persistent=True) as tape:
    from_data = tf.reduce_sum(gain(tf.constant(audio), unit))
    from_variable = tf.reduce_sum(gain(audio, unit))
  assert tape.gradient(from_data, unit) is not None
  with pytest.raises(ValueError, match=r"'last'.*NoAudioGradient\(\)"):
    tape.gradient(from_variable, audio)


def test_straight_through_is_a_wire():
  gain = plugin('gain', audio_gradient=gradients.StraightThrough())
  d_audio, _ = gradients_of(gain, noise(1, 9), tf.constant([[[0.75]]]))
  np.testing.assert_array_equal(d_audio, noise(1, 9, seed=9))


def test_a_step_repeats_and_the_next_one_differs():
  calf = effects.LV2Plugin(
    CALF,
    ['threshold0', 'ratio0', 'makeup0'],
    {'bypass0': 0},
    sample_rate=RATE,
  )
  audio, unit = noise(1, 3000, level=0.5), tf.Variable(tf.fill([1, 1, 3], 0.4))
  with tf.GradientTape(persistent=True) as tape:
    loss = tf.reduce_sum(calf(audio, unit) ** 2)
  first = tape.gradient(loss, unit)
  np.testing.assert_array_equal(tape.gradient(loss, unit), first)
  assert int(calf.gradient_step) == 1
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(calf(audio, unit) ** 2)
  assert (tape.gradient(loss, unit).numpy() != first.numpy()).any()
  calf.gradient_step.assign(0)
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(calf(audio, unit) ** 2)
  np.testing.assert_array_equal(tape.gradient(loss, unit), first)


@pytest.mark.parametrize('n_threads', [1, 2])
def test_gradients_are_the_same_on_any_number_of_threads(n_threads):
  calf = effects.LV2Plugin(
    CALF, ['threshold0', 'makeup0'], {'bypass0': 0}, sample_rate=RATE,
    control_gradient=gradients.Spsa(n_probes=2),
    host=effects.Host(n_threads=n_threads),
  )  # fmt: skip
  audio, unit = noise(3, 2000, level=0.5), tf.fill([3, 2, 2], 0.4)
  got = [g.numpy() for g in gradients_of(calf, audio, unit)]
  calf.renderer.n_threads = 3 - n_threads
  calf.gradient_step.assign(0)
  for one, other in zip(got, gradients_of(calf, audio, unit), strict=True):
    np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------- DAG ----
GIN_DAG = """
import ddsp
import dafx.effects
drive/effects.LV2Plugin.name = 'drive'
drive/effects.LV2Plugin.uri = 'http://invadarecords.com/plugins/lv2/tube/mono'
drive/effects.LV2Plugin.trainable = ['drive', 'mix']
drive/effects.LV2Plugin.sample_rate = 16000
drive/effects.LV2Plugin.control_gradient = @gradients.CentralDifferences()
processors.ProcessorGroup.dag = [
    (@synths.Harmonic(), ['amplitudes', 'harmonic_distribution', 'f0_hz']),
    (@drive/effects.LV2Plugin(), ['harmonic/signal', 'drive_controls']),
    (@effects.Reverb(), ['drive/signal']),
]
Harmonic.n_samples = 4000
Harmonic.sample_rate = 16000
Reverb.trainable = True
Reverb.reverb_length = 800
"""


@pytest.fixture
def gin_group():
  gin.clear_config()
  gin.parse_config(GIN_DAG)
  yield ddsp.processors.ProcessorGroup()
  gin.clear_config()


def test_dag_of_synth_plugin_and_reverb_trains(gin_group):
  processors.check_dag(gin_group.dag)

  def raw(value, size):
    return tf.Variable(tf.fill([1, 10, size], value))

  variables = {
    'amplitudes': raw(0.5, 1),
    'harmonic_distribution': raw(0.1, 8),
    'drive_logits': raw(0.0, 2),
  }

  def render(values):
    inputs = {
      'amplitudes': values['amplitudes'],
      'harmonic_distribution': values['harmonic_distribution'],
      'f0_hz': tf.fill([1, 10, 1], 220.0),
      'drive_controls': tf.sigmoid(values['drive_logits']),
    }
    return gin_group(inputs)

  target = render(
    {
      'amplitudes': tf.fill([1, 10, 1], 1.5),
      'harmonic_distribution': tf.linspace(1.0, -2.0, 8) * tf.ones([1, 10, 1]),
      'drive_logits': tf.fill([1, 10, 2], 1.0),
    }
  )
  trained = [*variables.values(), *gin_group.trainable_variables]
  optimizer = tf.keras.optimizers.Adam(0.05)

  @tf.function(autograph=False)
  def step():
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean((render(variables) - target) ** 2)
    found = tape.gradient(loss, trained)
    optimizer.apply_gradients(zip(found, trained))
    return loss, found

  losses, first = [], None
  for _ in range(60):
    loss, found = step()
    losses.append(float(loss))
    first = first or [g.numpy() for g in found]
  assert losses[-1] < 0.2 * losses[0]
  # From before (synth), from the plugin and from behind (reverb).
  assert len(first) == 4
  assert all(np.abs(g).max() > 0 for g in first)

  # The plugin's gradient, through the reverb, against differences of the loss.
  for name in ('drive_logits', 'amplitudes'):
    values = {k: tf.constant(v) for k, v in variables.items()}
    with tf.GradientTape() as tape:
      tape.watch(values[name])
      loss = tf.reduce_mean((render(values) - target) ** 2)
    gradient = tape.gradient(loss, values[name]).numpy()
    direction = np.random.default_rng(1).standard_normal(gradient.shape)
    ends = []
    for sign in (1, -1):
      moved = {**values, name: values[name] + sign * 0.05 * direction}
      ends.append(float(tf.reduce_mean((render(moved) - target) ** 2)))
    slope = (ends[0] - ends[1]) / 0.1
    np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=0.1)


def test_the_mean_of_large_outputs_is_finite():
  """Between plugins the host looks at each output, not at their mean."""
  cross = plugin('cross', name='cross')
  gain = plugin('gain', name='gain')
  loud = tf.constant([[3e38, -3e38, 1e-30, 0.1]])
  mean = cross.get_signal(loud, tf.constant([[[0.0]]]))
  np.testing.assert_array_equal(mean, loud)
  chain = effects.LV2Chain([cross, gain])
  doubled = chain.get_signal(loud, tf.constant([[[0.0, 2.0]]]))
  np.testing.assert_allclose(doubled, [[0.0, 0.0, 2e-30, 0.2]], rtol=1e-6)
  assert gain.renderer.n_nonfinite == 2


def test_frequencies_stay_below_half_of_the_rate():
  """Above it Calf's crossovers blow up to 1e38."""
  ranges = {'freq1': (300, 3000), 'freq2': (3000, 10000)}
  fixed = {f'bypass{band}': 0 for band in range(4)}
  highs = {}
  for rate in (16000, 22050):
    calf = effects.LV2Plugin(
      CALF, tuple(ranges), fixed, ranges, sample_rate=rate,
      host=effects.Host(strict=True),
    )  # fmt: skip
    highs[rate] = tuple(calf.control_map.high)
    ends = calf.get_controls(0, tf.ones([1, 2]))['controls']
    out = calf.get_signal(noise(1, rate // 2), ends)
    assert np.abs(out).max() < 10
  assert highs == {16000: (3000, 7840), 22050: (3000, 10000)}
  # At another rate the controls mean what they did.
  calf.set_sample_rate(16000)
  assert tuple(calf.control_map.high) == (3000, 10000)


# ---------------------------------------------------------------- Faults ----
@pytest.mark.parametrize(
  'kwargs, message',
  [
    (dict(trainable=['threshold']), 'closest are threshold'),
    (dict(fixed={'ratio0': 100}), r'ratio0=100.*1 to 20'),
    (dict(ranges={'ratio0': (0, 5)}), r'ratio0=0 .*1 to 20'),
    (dict(ranges={'ratio0': (5, 2)}), 'low < high'),
    (dict(ranges={'knee0': (1, 2)}, trainable=['ratio0']), 'not trainable'),
    (dict(ranges={'ratio0': (1, 5, 'cubic')}), "'cubic'"),
    (dict(ranges={'knee0': (0, 1, 'log')}), "must be above 0 for 'log'"),
    (dict(ranges={'ratio0': (1,)}), r"or \(low, high, 'log'\)"),
    (dict(trainable=['bypass0']), 'no gradient'),
    (dict(channels='left'), "channels='left'"),
    (dict(control_gradient='spsa'), r"'spsa' must be a Contr.* gradients.Spsa"),
    (dict(audio_gradient='adjoint'), "'adjoint' must be an? AudioAdjoint"),
    (dict(host='process'), r"'process' must be an? Host.*effects.Host\(\)"),
    (
      dict(
        control_gradient=gradients.Spsa(epsilons={'knee0': 0.1}),
        trainable=['ratio0'],
      ),
      'not trainable',
    ),
  ],
)
def test_wrong_settings_are_named(kwargs, message):
  with pytest.raises((ValueError, KeyError, TypeError), match=message):
    effects.LV2Plugin(CALF, sample_rate=RATE, **kwargs)


# The arguments of version 0.1.0 that are gone, and where each one is now.
MOVED = {
  'scales': 'ranges=',
  'gradient': r'control_gradient=gradients\.Spsa\(\) or Central',
  'epsilon': r'gradients\.Spsa\(epsilon=\.\.\.\) or CentralDifferences',
  'epsilons': r'gradients\.Spsa\(epsilons=',
  'epsilon_decay': r'gradients\.Spsa\(epsilon_decay=',
  'epsilon_decay_steps': r'gradients\.Spsa\(epsilon_decay_steps=',
  'n_probes': r'gradients\.Spsa\(n_probes=',
  'sides': r'gradients\.Spsa\(sides=',
  'memory': r'gradients\.Spsa\(memory=',
  'hold': r'gradients\.Spsa\(hold=',
  'smoothing': r'gradients\.Spsa\(smoothing=',
  'directions': r'gradients\.Spsa\(directions=',
  'input_gradient': r'audio_gradient=gradients\.BestAdjoint\(\), Reversal',
  'input_epsilon': r'gradients\.Reversal\(epsilon=\.\.\.\) or Best',
  'block_size': r'host=effects\.Host\(block_size=',
  'n_threads': r'host=effects\.Host\(n_threads=',
  'compensate_latency': r'host=effects\.Host\(compensate_latency=',
  'warm_up': r'host=effects\.Host\(warm_up=',
  'strict': r'host=effects\.Host\(strict=',
  'isolation': r'host=effects\.Host\(isolation=',
  'seed': 'run_seed',
  'log_gradients': r'gradient_figures\(\)',
}


def test_there_are_eleven_arguments_and_each_old_one_says_its_new_place():
  arguments = [*inspect.signature(effects.LV2Plugin.__init__).parameters][1:]
  assert arguments == [
    'uri', 'trainable', 'fixed', 'ranges', 'sample_rate', 'channels',
    'control_gradient', 'audio_gradient', 'host', 'preset', 'name',
  ]  # fmt: skip
  for name, place in MOVED.items():
    message = f"LV2Plugin has no argument '{name}'.*{place}"
    with pytest.raises(TypeError, match=message):
      plugin('gain', **{name: 1})
  with pytest.raises(TypeError, match='knee'):
    plugin('gain', knee=1)


def test_wrong_shapes_are_named():
  gain = plugin('gain')
  with pytest.raises(ValueError, match=r'n_frames, 1\] for amount'):
    gain(noise(1, 10), tf.zeros([1, 1, 2]))
  with pytest.raises(ValueError, match='3 channels'):
    plugin('cross')(noise(1, 10, 3), tf.zeros([1, 1]))
  with pytest.raises(ValueError, match='audio has shape'):
    gain(noise(10), tf.zeros([1, 1]))


def test_unknown_plugin():
  with pytest.raises(ValueError, match='urn:dafx-test:gain'):
    effects.LV2Plugin('urn:dafx-test:gian')


def test_strict_names_plugin_and_settings():
  nan = plugin('nan', host=effects.Host(strict=True))
  with pytest.raises(Exception, match='urn:dafx-test:nan.*amount=2'):
    nan(noise(1, 10), tf.constant([[1.0]]))


def test_plugin_error_is_a_runtime_error():
  assert issubclass(lv2.PluginError, RuntimeError)


@pytest.mark.parametrize('in_graph', [False, True])
def test_a_plugin_that_crashes_costs_an_error_not_the_run(in_graph):
  # It crashes from an amount of 1 on: the render is well, a step beyond is not.
  fatal = plugin(
    'fatal',
    control_gradient=gradients.Spsa(epsilon=0.05, n_probes=2),
    host=effects.Host(isolation='process', n_threads=1, warm_up=0),
  )
  audio = noise(1, 256)

  def gradient(unit):
    with tf.GradientTape() as tape:
      tape.watch(unit)
      loss = tf.reduce_sum(fatal(audio, unit))
    return tape.gradient(loss, unit)

  if in_graph:
    gradient = tf.function(gradient, autograph=False)
  error = tf.errors.UnknownError if in_graph else lv2.PluginError
  with pytest.raises(error, match=r'urn:dafx-test:fatal crashed \(SIGSEGV\)'):
    gradient(tf.constant([[0.24]]))
  assert np.isfinite(gradient(tf.constant([[0.1]]))).all()


def test_a_range_may_say_where_a_network_starts():
  options = dict(uri='http://calf.sourceforge.net/plugins/Compressor')
  plugin = effects.LV2Plugin(
    trainable=['ratio', 'makeup'],
    ranges={'ratio': (1.0, 4.0, 'log', 1.5), 'makeup': (1.0, 4.0)},
    **options,
  )
  start = plugin.control_map.to_port_units(plugin.control_map.defaults)
  np.testing.assert_allclose(start, [1.5, 1.0], rtol=1e-5)
  with pytest.raises(ValueError, match='starts .ratio. at 5, which must lie'):
    effects.LV2Plugin(
      trainable=['ratio'], ranges={'ratio': (1.0, 4.0, '', 5.0)}, **options
    )
