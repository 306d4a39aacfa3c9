"""Any function as a processor: an external renderer, and known boxes."""

import gin
import numpy as np
import pedalboard
import pytest
import tensorflow as tf

from dafx import core, effects, gradients, losses, processors
from dafx.training import models

RATE = 22050
RANGES = {'gain': (0.0, 4.0), 'offset': (-1.0, 1.0)}


def noise(*shape, seed=0, level=0.3):
  rng = np.random.default_rng(seed)
  return tf.constant(level * rng.standard_normal(shape), tf.float32)


def gain_and_offset(audio, controls):
  """gain * audio + offset, frame by frame; in NumPy."""
  hop_size = -(-audio.shape[1] // controls.shape[1])
  held = np.repeat(controls, hop_size, axis=1)[:, : audio.shape[1]]
  return held[..., :1] * audio + held[..., 1:]


def box(**kwargs):
  return effects.BlackBox(
    gain_and_offset, core.make_control_map(RANGES), **kwargs
  )


def gradients_of(processor, audio, unit, weights):
  audio, unit = tf.Variable(audio), tf.Variable(unit)
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(weights * processor(audio, unit))
  return [g.numpy() for g in tape.gradient(loss, [audio, unit])]


# ---------------------------------------------------- External renderer ----
def compress(audio, controls):
  """Pedalboard's compressor, under one setting for each item."""
  outputs = []
  for item, (threshold_db, ratio) in zip(audio, controls[:, 0]):
    effect = pedalboard.Compressor(
      float(threshold_db), float(ratio), attack_ms=5.0, release_ms=50.0
    )
    outputs.append(effect(item.T, RATE).T)
  return np.stack(outputs)


def compressor(estimator):
  ranges = {'threshold_db': (-40.0, 0.0), 'ratio': (1.5, 8.0, 'log')}
  return effects.BlackBox(
    compress,
    core.make_control_map(ranges),
    control_gradient=estimator,
    sample_rate=RATE,
    is_static=True,
    name='compressor',
  )


def test_an_external_compressor_gets_the_gradients_of_differences():
  audio, weights = noise(2, 4000), noise(2, 4000, seed=1)
  unit = np.array([[0.4, 0.5], [0.5, 0.3]], np.float32)
  # As many probes as controls: SPSA has no noise of its own.
  spsa = gradients.Spsa(n_probes=2, memory=None)
  _, found = gradients_of(compressor(spsa), audio, unit, weights)
  _, exact = gradients_of(
    compressor(gradients.CentralDifferences()), audio, unit, weights
  )
  np.testing.assert_allclose(found, exact, rtol=0.02)
  # And those of the function itself, by larger steps.
  control_map = compressor(spsa).control_map

  def loss(unit, audio, weights):
    values = control_map.to_port_units(unit)[:, np.newaxis].astype('f')
    signal = compress(np.asarray(audio)[..., np.newaxis], values)[..., 0]
    return float((signal * weights.numpy()).sum(dtype=float))

  step = 0.02 * np.array([[0.0, 1.0], [0.0, 0.0]], np.float32)
  ends = [loss(unit + side * step, audio, weights) for side in (1, -1)]
  slope = (ends[0] - ends[1]) / 0.04
  np.testing.assert_allclose(found[0, 1], slope, rtol=0.02)
  # To the audio: all of it louder, which the compressor gives back in part.
  to_audio, _ = gradients_of(compressor(spsa), audio, unit, audio)
  ends = [loss(unit, level * audio, audio) for level in (1.01, 0.99)]
  slope = (ends[0] - ends[1]) / 0.02
  np.testing.assert_allclose((to_audio * audio.numpy()).sum(), slope, rtol=0.05)
  wire = float(tf.reduce_sum(audio**2))
  assert slope < 0.5 * wire


def test_a_setting_of_an_external_compressor_is_learned():
  box = compressor(None)
  audio = noise(1, 4000)
  target = box(audio, tf.constant([[0.3, 0.7]]))
  unit = tf.Variable([[0.6, 0.7]])
  optimizer = tf.keras.optimizers.Adam(0.05)

  @tf.function
  def step():
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean((box(audio, unit) - target) ** 2)
    optimizer.apply_gradients([(tape.gradient(loss, unit), unit)])
    return loss

  values = [float(step()) for _ in range(40)]
  assert values[-1] < 0.05 * values[0]


def set_once(audio, controls):
  """gain * audio + offset, by the first frame alone."""
  return gain_and_offset(audio, controls[:, :1])


def test_what_takes_one_setting_is_moved_as_a_whole():
  audio, cotangent = noise(1, 8192, 1).numpy(), noise(1, 8192, 1, seed=1)
  processor = effects.BlackBox(
    set_once, core.make_control_map(RANGES), is_static=True
  )
  controls = np.array([[[1.0, 0.2]]], np.float32)
  estimates = [
    processor.gradient_to_controls(audio, controls, cotangent.numpy(), step)
    for step in range(100)
  ]
  exact = np.stack([(audio * cotangent).numpy().sum(), cotangent.numpy().sum()])
  error = 4 * np.std(estimates, axis=0) / 10
  assert (np.abs(np.mean(estimates, axis=0) - exact) < error + 1e-2).all()
  assert (error < 0.6 * np.abs(exact).max()).all()
  with pytest.raises(ValueError, match='have 3 frames; it takes one setting'):
    processor(audio, tf.fill([1, 3, 2], 0.5))


def test_a_function_that_hears_one_frame_has_to_say_so():
  processor = effects.BlackBox(set_once, core.make_control_map(RANGES))
  arguments = noise(1, 8192, 1).numpy(), np.ones((1, 1, 2), np.float32)
  with pytest.raises(ValueError, match='first frame.*is_static=True'):
    processor.gradient_to_controls(*arguments, np.ones((1, 8192, 1)), 0)


# ---------------------------------------------------------- Known boxes ----
@pytest.mark.parametrize('shape', [(2, 60), (2, 60, 1), (2, 60, 2)])
def test_both_gradients_of_a_box_known_in_full(shape):
  audio, weights = noise(*shape), noise(*shape, seed=1)
  unit = np.random.default_rng(2).uniform(0.2, 0.8, [2, 3, 2]).astype('f')
  # Framewise, two probes are exact for what is linear in its controls.
  estimator = gradients.Spsa(n_probes=2, memory=0)
  processor = box(control_gradient=estimator, name='known')
  to_audio, to_unit = gradients_of(processor, audio, unit, weights)
  assert processor(audio, unit).shape == shape
  flat = [np.reshape(x, [2, 3, -1]) for x in (audio, weights)]
  expected = np.stack(
    [4.0 * (flat[0] * flat[1]).sum(-1), 2.0 * flat[1].sum(-1)], axis=-1
  )
  np.testing.assert_allclose(to_unit, expected, rtol=1e-3, atol=1e-3)
  gains = 4.0 * np.repeat(unit[..., 0], 20, axis=1)
  gains = gains.reshape(2, 60, *[1] * (len(shape) - 2))
  np.testing.assert_allclose(to_audio, gains * weights, rtol=1e-3, atol=1e-4)


def test_what_is_drawn_goes_by_the_place_in_the_whole_batch():
  processor = box(control_gradient=gradients.Spsa(memory=0))
  audio, cotangent = noise(4, 60, 1).numpy(), noise(4, 60, 1, seed=1).numpy()
  controls = np.full((4, 3, 2), 0.5, np.float32)
  whole = processor.gradient_to_controls(audio, controls, cotangent, 3)
  # As the second of two replicas has it.
  half = [x[2:] for x in (audio, controls, cotangent)]
  second = processor.gradient_to_controls(*half, 3, first_key=2)
  np.testing.assert_array_equal(second, whole[2:])
  first = processor.gradient_to_controls(*half, 3)
  assert (first != second).any()


def test_the_runs_seed_and_the_name_decide_what_is_drawn():
  def estimate(run_seed, name):
    processor = box(control_gradient=gradients.Spsa(memory=0), name=name)
    processor.run_seed = run_seed
    audio, cotangent = noise(9, 60, 1).numpy(), noise(9, 60, 1, seed=1).numpy()
    controls = np.full((9, 3, 2), 0.5, np.float32)
    return processor.gradient_to_controls(audio, controls, cotangent, 0)

  same = estimate(0, 'a')
  np.testing.assert_array_equal(estimate(0, 'a'), same)
  assert (estimate(1, 'a') != same).any()
  assert (estimate(0, 'b') != same).any()


def test_memory_is_measured_with_the_channels_of_the_audio():
  heard = []

  def render(audio, controls):
    heard.append(audio.shape[-1])
    return gain_and_offset(audio, controls)

  processor = effects.BlackBox(render, core.make_control_map(RANGES))
  gradients_of(processor, noise(1, 2048, 2), np.full((1, 8, 2), 0.5), 1.0)
  assert set(heard) == {2}


def test_a_hop_that_is_not_the_default_can_be_given():
  controls = np.array([[[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]], np.float32)
  out = box().render(np.ones((1, 5, 1), np.float32), controls, hop_size=2)
  np.testing.assert_allclose(out[0, :, 0], [1, 1, 2, 2, 3])


class Constant(models.Encoder):
  """An encoder that hears nothing."""

  def call(self, audio):
    return tf.ones([tf.shape(audio)[0], 1, 2])


def test_a_control_model_drives_a_box():
  processor = box(sample_rate=RATE, name='knob')
  model = models.ControlModel(
    encoder=Constant(),
    processor_group=processors.ProcessorGroup(
      [(processor, ['audio', 'knob_controls'])]
    ),
    losses=[losses.TimeDomainLoss('L2')],
    sample_rate=RATE,
  )
  assert model.meanings()['knob/gain'] == 'from 0 to 4'
  audio = noise(2, 64)
  with tf.GradientTape() as tape:
    _, values = model({'audio': audio, 'target': 3.0 * audio}, True)
  (bias,) = [head.bias for head in model.heads.values()]
  # Louder is better.
  assert tape.gradient(values['total_loss'], bias)[0] < 0


# --------------------------------------------------------------- gin ----
@pytest.fixture
def clean_gin():
  gin.clear_config()
  yield
  gin.clear_config()


def test_defaults_are_those_that_gin_has_scoped_or_not(clean_gin):
  gin.parse_config("""
    import dafx.effects
    gradients.Spsa.n_probes = 2
    loud/gradients.Spsa.n_probes = 3
    loud/gradients.BestAdjoint.epsilons = (1.0,)
    loud/effects.Host.warm_up = 7
    loud/effects.LV2Plugin.uri = 'urn:dafx-test:gain'
    soft/effects.LV2Plugin.uri = 'urn:dafx-test:gain'
    soft/effects.LV2Plugin.control_gradient = @gradients.CentralDifferences()
    soft/gradients.CentralDifferences.epsilon = 0.05
    soft/effects.LV2Plugin.audio_gradient = @gradients.Reversal()
    soft/gradients.Reversal.epsilon = 0.5
  """)
  assert box().control_gradient == gradients.Spsa(n_probes=2)
  loud = gin.get_configurable('loud/effects.LV2Plugin')()
  assert loud.control_gradient == gradients.Spsa(n_probes=3)
  assert loud.audio_gradient == gradients.BestAdjoint(epsilons=(1.0,))
  assert loud.host == effects.Host(warm_up=7)
  soft = gin.get_configurable('soft/effects.LV2Plugin')()
  assert soft.control_gradient == gradients.CentralDifferences(epsilon=0.05)
  assert soft.audio_gradient == gradients.Reversal(0.5)
  # What was used is written down, so that a run can be built again.
  written = gin.operative_config_str()
  for line in ('loud/Spsa.n_probes = 3', 'soft/Reversal.epsilon = 0.5'):
    assert line in written, written


# ------------------------------------------------------------- Faults ----
def test_faults_are_named():
  with pytest.raises(ValueError, match='n_frames, 2. for gain, offset'):
    box()(noise(1, 9), tf.zeros([1, 3]))
  with pytest.raises(TypeError, match="no argument 'n_probes'.*Spsa"):
    box(n_probes=3)
  shorter = effects.BlackBox(
    lambda audio, controls: audio[:, 1:], core.make_control_map(RANGES)
  )
  with pytest.raises(ValueError, match=r'\(1, 8, 1\) of \(1, 9, 1\)'):
    shorter(noise(1, 9), tf.zeros([1, 2]))
  with pytest.raises(TypeError, match='abstract'):
    effects.BlackBoxProcessor('nothing')


@pytest.mark.parametrize(
  'ranges, kwargs, message',
  [
    ({'a': (1, 0)}, {}, r'low < high'),
    ({'a': (0, 1, 'log')}, {}, "above 0 for 'log'"),
    ({'a': (0, 1)}, {'defaults': {'a': 2}}, 'a=2 must be from 0 to 1'),
    ({'a': (0, 1)}, {'defaults': {'b': 2}}, "'b' has no range"),
    ({'a': (0, 1)}, {'units': {'b': 'dB'}}, "'b' has no range"),
  ],
)
def test_control_maps_that_are_none(ranges, kwargs, message):
  with pytest.raises((ValueError, KeyError), match=message):
    core.make_control_map(ranges, **kwargs)
