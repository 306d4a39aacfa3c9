"""Controllers and gray-box models: sizes, ranges, causality, streaming."""

import ddsp
import gin
import numpy as np
import pytest
import tensorflow as tf
from cases import some_quick

from dafx import effects, processors

RNG = np.random.default_rng(0)
N_SAMPLES = 1536
AUDIO = (0.3 * RNG.standard_normal([2, N_SAMPLES])).astype(np.float32)
KNOBS = RNG.uniform(0, 1, [2, 1, 2]).astype(np.float32)
PEQ = ['low_shelf', 'peak', 'peak', 'peak', 'high_shelf']


def count(module):
  return sum(int(np.prod(v.shape)) for v in module.trainable_variables)


def graybox(blocks, n_knobs=0):
  """Builds a chain from ('peq.s', 'gain.d', 'rnl', ...): NablAFx's names."""
  make = {
    'peq': lambda name: effects.Biquads(PEQ, name=name),
    'eq': lambda name: effects.Biquads(['low_shelf', 'peak'], name=name),
    'lp': lambda name: effects.Biquads(
      ['low_pass'],
      ranges={'low_pass_0_f0_hz': (20000, 20000), 'low_pass_0_q': (0.7, 0.7)},
      name=name,
    ),
    'gain': lambda name: effects.Gain(name=name),
    'offset': lambda name: effects.Gain(trainable=['offset'], name=name),
    'phinv': lambda name: effects.Gain((), {'polarity': -1}, name=name),
    'rnl': lambda name: effects.Waveshaper('rational', name=name),
    'mlp': lambda name: effects.Waveshaper('siren', name=name),
    'fir': lambda name: effects.Fir(64, 'siren', name=name),
  }
  control = {
    's': (effects.Const, {}, ['audio']),
    'sc': (effects.Fc, {'n_knobs': n_knobs}, ['knobs']),
    'd': (effects.Envelope, {}, ['$']),
    'dc': (effects.Envelope, {'n_knobs': n_knobs}, ['$', 'knobs']),
  }
  dag, signal = [], 'audio'
  for i, block in enumerate(blocks):
    kind, _, how = block.partition('.')
    name = f'{kind}_{i}'
    keys = [signal]
    if how:
      controller, options, inputs = control[how]
      controls = controller(**options, name=f'{name}_controls')
      dag.append((controls, [signal if k == '$' else k for k in inputs]))
      keys.append(f'{name}_controls/controls')
    dag.append((make[kind](name), keys))
    signal = f'{name}/signal'
  return processors.ProcessorGroup(dag)


COMP = ['peq.s', 'gain.d', 'peq.s', 'gain.s']
DIST_RNL = ['peq.s', 'gain.s', 'offset.s', 'rnl', 'gain.s', 'peq.s', 'lp.s']
FUZZ_C = ['peq.sc', 'gain.sc', 'offset.dc', 'rnl', 'gain.sc', 'peq.sc', 'lp.s']


def variant(blocks, **changes):
  return [changes.get(b.replace('.', '_'), b) for b in blocks]


@pytest.mark.parametrize(
  'blocks, n_knobs, n_parameters',
  [
    # 15 for an equaliser, 1 for a gain, 4 * (1 + 1 + 2) for an LSTM of one.
    (COMP, 0, 47),
    ([*COMP[:1], 'phinv', *COMP[1:]], 0, 47),
    (DIST_RNL, 0, 47),
    (variant(DIST_RNL, rnl='mlp'), 0, 2244),
    (variant(DIST_RNL, offset_s='offset.d'), 0, 62),
    (variant(DIST_RNL, offset_s='offset.d', rnl='mlp'), 0, 2259),
    ([*variant(DIST_RNL, rnl='mlp')[:6], 'fir', 'lp.s'], 0, 2244 + 4321),
    # From 1 and 4 knobs by layers of 16 and 16: 304 + 17 n and 352 + 17 n.
    (FUZZ_C, 1, 2 * 559 + 2 * 321 + 20 + 12 + 2),
    (variant(FUZZ_C, offset_dc='offset.sc', rnl='mlp'), 1, 4292),
    (variant(FUZZ_C, offset_dc='offset.sc'), 4, 2 * 607 + 3 * 369 + 12 + 2),
  ],
)
def test_graybox_models_have_as_many_parameters_as_nablafx(
  blocks, n_knobs, n_parameters
):
  assert count(graybox(blocks, n_knobs)) == n_parameters


STREAMED = ['eq.sc', 'gain.dc', 'offset.d', 'rnl', 'eq.d', 'gain.s']


@pytest.fixture(scope='module')
def streamed():
  """A conditioned, dynamic model with weights at random, and its output."""
  group = graybox(STREAMED, n_knobs=2)
  rng = np.random.default_rng(5)
  for variable in group.trainable_variables:
    if 'kernel' in variable.name:
      noise = 0.7 * rng.standard_normal(variable.shape)
      variable.assign_add(noise.astype(np.float32))
  whole = group({'audio': tf.constant(AUDIO), 'knobs': tf.constant(KNOBS)})
  # Its controls do move, and are heard.
  controls = group.get_controls({'audio': AUDIO, 'knobs': KNOBS})
  moves = controls['gain_1_controls']['controls']
  assert np.ptp(moves, axis=1).min() > 0.02
  return group, whole.numpy(), processors.Streamer(group, 2)


# Of a chunk, and of the audio.
N_SAMPLES_EACH = (
  (1, 300), (7, 203), (64, 512), (128, 512), (1000, 1024),
  (N_SAMPLES, N_SAMPLES),
)  # fmt: skip


@pytest.mark.parametrize('sizes', some_quick(N_SAMPLES_EACH, ((7, 203),)))
def test_chunks_of_any_size_give_what_the_whole_gives(streamed, sizes):
  size, n_samples = sizes
  _, whole, streamer = streamed
  streamer.reset()
  out = [
    streamer.process(audio=AUDIO[:, i : min(i + size, n_samples)], knobs=KNOBS)
    for i in range(0, n_samples, size)
  ]
  out = np.concatenate(out, axis=1)
  np.testing.assert_allclose(out, whole[:, :n_samples], atol=1e-5)


@pytest.mark.parametrize('n_samples', [1000, 131, 100])
def test_lengths_that_are_not_of_whole_frames(streamed, n_samples):
  group, whole, _ = streamed
  out = group({'audio': tf.constant(AUDIO[:, :n_samples]), 'knobs': KNOBS})
  np.testing.assert_allclose(out, whole[:, :n_samples], atol=1e-5)


@pytest.mark.slow
def test_knobs_that_move_are_streamed_too(streamed):
  group, _, streamer = streamed
  knobs = np.random.default_rng(1).uniform(0, 1, [2, 6, 2]).astype(np.float32)
  whole = group({'audio': tf.constant(AUDIO), 'knobs': tf.constant(knobs)})
  streamer.reset()
  out = [
    streamer.process(
      audio=AUDIO[:, i : i + 512], knobs=knobs[:, i // 256 : i // 256 + 2]
    )
    for i in range(0, N_SAMPLES, 512)
  ]
  np.testing.assert_allclose(np.concatenate(out, 1), whole, atol=1e-5)


def test_envelope_hears_the_past_alone_and_knobs_at_once():
  envelope = effects.Envelope(n_knobs=1, n_controls=2, hidden_size=3)
  for variable in envelope.trainable_variables:
    variable.assign(0.5 * tf.ones_like(variable))

  def controls(audio, knob=0.5):
    knobs = tf.fill([1, 1, 1], knob)
    return envelope(tf.constant(audio[np.newaxis]), knobs)['controls'][
      0
    ].numpy()

  before = controls(AUDIO[0])
  assert before.shape == (12, 2)
  audio = AUDIO[0].copy()
  audio[300] = 5.0  # In frame 2, of samples 256 to 383.
  after = controls(audio)
  np.testing.assert_array_equal(after[:3], before[:3])
  assert (np.abs(after[3] - before[3]) > 1e-3).all()
  assert (np.abs(controls(AUDIO[0], 0.9)[0] - before[0]) > 1e-3).all()


@pytest.mark.parametrize('hidden_size', [None, 4])
def test_envelope_starts_at_the_defaults_and_reaches_all_of_the_range(
  hidden_size,
):
  gain = effects.Gain(ranges={'gain_db': (-30, 10)})  # 0 dB at 0.75
  envelope = effects.Envelope(hidden_size=hidden_size)
  envelope.drive(gain)
  start = envelope(AUDIO)['controls'].numpy()
  np.testing.assert_allclose(start, 0.75, atol=0.05)
  for sign, bound in ((-1, 0.003), (1, 0.997)):
    for variable in envelope.trainable_variables:
      if 'bias' in variable.name:
        # Input, forget and output gates open; the cell's input by sign.
        gates = np.repeat([9.0, 9.0, sign * 9.0, 9.0], variable.shape[0] // 4)
        variable.assign(gates if len(gates) else [sign * 9.0])
    reached = envelope(AUDIO)['controls'].numpy()[0, -1, 0]
    assert sign * reached > sign * bound


def test_const_and_fc_start_at_the_defaults():
  eq = effects.Biquads(PEQ)
  for controller, source in (
    (effects.Const(), AUDIO),
    (effects.Fc(n_knobs=2), KNOBS),
  ):
    controller.drive(eq)
    controls = controller(source)['controls']
    assert controls.shape == [2, 1, 15]
    expected = np.tile(eq.control_map.defaults, [2, 1, 1])
    np.testing.assert_allclose(controls, expected, atol=0.02)
  random = [effects.Const(start='random', seed=s) for s in (0, 0, 1)]
  for controller in random:
    controller.drive(eq)
  values = [c(AUDIO)['controls'].numpy() for c in random]
  np.testing.assert_array_equal(values[0], values[1])
  assert np.abs(values[0] - values[2]).max() > 0.1
  assert np.abs(values[0] - eq.control_map.defaults).max() > 0.1


def test_every_weight_learns(streamed):
  group, _, _ = streamed
  with tf.GradientTape() as tape:
    out = group({'audio': tf.constant(AUDIO), 'knobs': tf.constant(KNOBS)})
    loss = tf.reduce_mean(tf.abs(out))
  variables = group.trainable_variables
  for variable, gradient in zip(variables, tape.gradient(loss, variables)):
    assert np.isfinite(gradient).all(), variable.name
    assert np.abs(gradient).max() > 0, variable.name


def test_gradient_of_the_envelope_is_that_of_finite_differences():
  envelope = effects.Envelope(n_controls=2)
  for variable in envelope.trainable_variables:
    rng = np.random.default_rng(variable.shape.num_elements())
    variable.assign(rng.standard_normal(variable.shape))
  weights = np.random.default_rng(1).standard_normal([2, 12, 2])

  def loss():
    return tf.reduce_sum(envelope(AUDIO)['controls'] * weights)

  with tf.GradientTape() as tape:
    total = loss()
  variables = envelope.trainable_variables
  for variable, gradient in zip(variables, tape.gradient(total, variables)):
    direction = np.random.default_rng(2).standard_normal(variable.shape)
    start = variable.numpy()
    moved = []
    for step in (1e-2, -1e-2):
      variable.assign(start + step * direction)
      moved.append(loss().numpy())
    variable.assign(start)
    expected = (moved[0] - moved[1]) / 2e-2
    ours = np.sum(gradient.numpy() * direction)
    np.testing.assert_allclose(ours, expected, rtol=2e-2, atol=1e-3)


def test_gin_needs_no_sizes():
  gin.clear_config()
  try:
    gin.parse_config("""
      eq/effects.Biquads.types = ['peak', 'low_pass']
      eq/effects.Biquads.name = 'eq'
      effects.Fc.n_knobs = %n_knobs
      n_knobs = 2
      processors.ProcessorGroup.dag = [
        (@effects.Fc(), ['knobs']),
        (@eq/effects.Biquads(), ['audio', 'fc/controls']),
      ]
    """)
    group = ddsp.processors.ProcessorGroup()
  finally:
    gin.clear_config()
  processors.connect_controllers(group)
  processors.connect_controllers(group)
  assert count(group) == 2 * 16 + 16 + 17 * 16 + 17 * 5
  assert group({'audio': AUDIO, 'knobs': KNOBS}).shape == AUDIO.shape


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: effects.Const(start='zero'), "start='zero'"),
    (lambda: effects.Const(n_controls=0), 'nothing to control'),
    (lambda: effects.Const()(AUDIO), r'processors.connect_controllers\(group'),
    (lambda: effects.Fc(n_knobs=0), 'n_knobs=0 must be at least 1'),
    (lambda: effects.Envelope(hidden_size=0), 'hidden_size=0'),
    (
      lambda: effects.Fc(1, 3)(KNOBS),
      r"knobs has shape \(2, 1, 2\); 'fc' takes \[batch, 1\]",
    ),
    (lambda: effects.Envelope(0, 3)(AUDIO, KNOBS), 'n_knobs=0.*knobs as well'),
    (lambda: effects.Envelope(2, 3)(AUDIO), 'n_knobs=2.*audio alone'),
    (lambda: effects.Envelope(0, 3)(AUDIO[..., None]), 'Fold channels'),
    (
      lambda: effects.Const(3).drive(effects.Gain()),
      "'const' gives 3 controls; 'gain' takes 1",
    ),
  ],
)
def test_bad_input_is_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
