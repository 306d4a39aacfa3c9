"""A synthesiser's parameters are learned through plugins."""

import ddsp
import numpy as np
import pytest
import tensorflow as tf

from dafx import effects, gradients, processors

RATE = 16000
N_SAMPLES = 8192
N_FRAMES = 8
N_HARMONICS = 4
TUBE = 'http://invadarecords.com/plugins/lv2/tube/mono'
LIMITER = 'http://lsp-plug.in/plugins/lv2/limiter_mono'


def make_group(audio_gradient):
  """A harmonic synth into a tube driven by 18 dB, into a limiter."""
  options = dict(trainable=[], sample_rate=RATE, audio_gradient=audio_gradient)
  harmonic = ddsp.synths.Harmonic(
    n_samples=N_SAMPLES, sample_rate=RATE, name='harmonic'
  )
  tube = effects.LV2Plugin(TUBE, fixed={'drive': 18}, name='tube', **options)
  limiter = effects.LV2Plugin(
    LIMITER, fixed={'th': 0.5, 'alr': 0, 'boost': 1}, name='limiter', **options
  )
  return processors.ProcessorGroup(
    [
      (harmonic, ['amplitudes', 'harmonic_distribution', 'f0_hz']),
      (tube, ['harmonic/signal', 'no_controls']),
      (limiter, ['tube/signal', 'no_controls']),
    ]
  )


def with_glide(amplitudes, distribution):
  """The group's inputs: the synth's parameters, and a gliding pitch."""
  f0_hz = 220.0 * 2.0 ** np.linspace(0.0, 0.3, N_FRAMES)
  return {
    'amplitudes': amplitudes,
    'harmonic_distribution': distribution,
    'f0_hz': tf.constant(f0_hz[np.newaxis, :, np.newaxis], tf.float32),
    'no_controls': tf.zeros([1, 1, 0]),
  }


def learn(audio_gradient, n_steps=80):
  """Returns the loss of each step, as a share of the first."""
  group = make_group(audio_gradient)
  rng = np.random.default_rng(0)
  target = group(
    with_glide(
      tf.constant(rng.uniform(-2, 0, [1, N_FRAMES, 1]), tf.float32),
      tf.constant(rng.uniform(-1, 1, [1, N_FRAMES, N_HARMONICS]), tf.float32),
    )
  )
  amplitudes = tf.Variable(tf.fill([1, N_FRAMES, 1], -1.0))
  distribution = tf.Variable(tf.zeros([1, N_FRAMES, N_HARMONICS]))
  optimizer = tf.keras.optimizers.Adam(0.1)

  @tf.function(autograph=False)
  def step():
    with tf.GradientTape() as tape:
      audio = group(with_glide(amplitudes, distribution))
      loss = tf.reduce_mean((audio - target) ** 2)
    variables = [amplitudes, distribution]
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    return loss

  values = np.array([float(step()) for _ in range(n_steps)])
  return values / values[0]


@pytest.mark.slow
def test_a_synth_is_learned_through_tube_and_limiter():
  assert learn(gradients.BestAdjoint())[-10:].mean() < 0.05


@pytest.mark.slow
def test_as_a_wire_they_stand_in_the_way():
  assert learn(gradients.StraightThrough()).min() > 0.05


def test_none_refuses():
  with pytest.raises(ValueError, match=r'is NoAudioGradient\(\)'):
    learn(gradients.NoAudioGradient(), n_steps=1)
