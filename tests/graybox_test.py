"""Gray-box processors: against closed forms and SciPy, whole and in chunks."""

import ddsp
import gin
import numpy as np
import pytest
import scipy.signal
import tensorflow as tf
from cases import some_quick

from dafx import core, effects, processors

SAMPLE_RATE = 48000
RNG = np.random.default_rng(0)
AUDIO = (0.3 * RNG.standard_normal([2, 768])).astype(np.float32)


def in_units(processor, **values):
  """Returns controls in [0, 1], [1, 1, n_controls], for values in units."""
  units = np.array([values[s] for s in processor.symbols])
  unit = processor.control_map.to_normalised(units)
  return unit[np.newaxis, np.newaxis].astype(np.float32)


PROCESSORS = {
  'gain': lambda: effects.Gain(trainable=['gain_db', 'offset', 'polarity']),
  'biquads': lambda: effects.Biquads(['low_shelf', 'peak', 'low_pass']),
  'fir': lambda: effects.Fir(ir=np.random.default_rng(1).standard_normal(20)),
  'siren_fir': lambda: effects.Fir(kind='siren', n_taps=8),
  'tanh': lambda: effects.Waveshaper('tanh'),
  'siren': lambda: effects.Waveshaper('siren'),
  'oversampled': lambda: effects.Waveshaper('hard_clip', oversample=2),
  'compressor': lambda: effects.Dynamics('compressor'),
  'look-ahead': lambda: effects.Dynamics('limiter', lookahead_ms=0.5),
  'gate': lambda: effects.Dynamics('gate'),
}


@pytest.mark.parametrize('name', PROCESSORS)
@pytest.mark.parametrize('n_frames', some_quick([1, 6], [6]))
def test_chunks_give_what_the_whole_gives(name, n_frames):
  processor = PROCESSORS[name]()
  inputs = {'audio': AUDIO}
  n_controls = getattr(processor, 'n_controls', 0)
  if n_controls:
    rng = np.random.default_rng(2)
    inputs['controls'] = rng.uniform(0, 1, [2, n_frames, n_controls])
  elif n_frames > 1:
    return  # There is nothing to change.
  whole = processor(*(tf.constant(v, tf.float32) for v in inputs.values()))
  assert whole.shape == AUDIO.shape
  for sizes in ([128] * 6, [1, 6, 121, 640]):
    streamer = processors.Streamer(processor, 2)
    done, out = 0, []
    for size in sizes:
      piece = {'audio': AUDIO[:, done : done + size]}
      if n_controls:
        # Each size is of whole frames, or lies within one.
        first, n_whole = done // 128, max(1, size // 128)
        frames = inputs['controls'][:, first : first + n_whole]
        piece['controls'] = frames if n_frames > 1 else inputs['controls']
      out.append(streamer.process(**piece))
      done += size
    out = np.concatenate(out, axis=1)
    assert out.shape[1] == 768 - streamer.latency
    scale = np.abs(whole).max()
    np.testing.assert_allclose(
      out, whole[:, : out.shape[1]], atol=1e-5 * max(scale, 1)
    )


@pytest.mark.parametrize('name', PROCESSORS)
def test_gradients_reach_audio_controls_and_weights(name):
  processor = PROCESSORS[name]()
  sources = [tf.constant(AUDIO[:, :256])]
  if getattr(processor, 'n_controls', 0):
    rng = np.random.default_rng(3)
    sources.append(
      tf.constant(
        rng.uniform(0.3, 0.7, [2, 2, processor.n_controls]), tf.float32
      )
    )
  with tf.GradientTape() as tape:
    tape.watch(sources)
    total = tf.reduce_sum(processor(*sources) ** 2)
  variables = processor.trainable_variables
  for gradient in tape.gradient(total, [*sources, *variables]):
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_gain_has_its_closed_form():
  gain = effects.Gain(trainable=['offset', 'gain_db'], fixed={'polarity': -1})
  assert gain.n_controls == 2 and gain.symbols == ('offset', 'gain_db')
  out = gain(AUDIO, in_units(gain, offset=0.5, gain_db=-6.0))
  np.testing.assert_allclose(out, 0.5 - 10 ** (-6 / 20) * AUDIO, atol=1e-6)
  # Nothing from outside: a node with audio alone.
  inversion = effects.Gain(trainable=(), fixed={'polarity': -1})
  assert inversion.n_controls == 0
  np.testing.assert_allclose(inversion(AUDIO), -AUDIO, rtol=1e-6)
  for plain in (effects.Gain(), effects.Gain(trainable=['polarity'])):
    out = plain(AUDIO, plain.control_map.defaults[np.newaxis])
    np.testing.assert_allclose(out, AUDIO, rtol=1e-6)


def test_biquads_are_scipys():
  eq = effects.Biquads(['low_shelf', 'peak', 'high_pass'])
  assert eq.symbols[:4] == (
    'low_shelf_0_gain_db',
    'low_shelf_0_f0_hz',
    'low_shelf_0_q',
    'peak_1_gain_db',
  )
  assert eq.n_controls == 8
  values = dict.fromkeys(eq.symbols, 1.0)
  values.update(
    low_shelf_0_gain_db=6, low_shelf_0_f0_hz=100, peak_1_gain_db=-9,
    peak_1_f0_hz=3000, high_pass_2_f0_hz=30,
  )  # fmt: skip
  out = eq(AUDIO, in_units(eq, **values))
  sos = core.design_biquads(
    eq.types, [100, 3000, 30], [1, 1, 1], [6, -9, 0], SAMPLE_RATE
  )
  expected = scipy.signal.sosfilt(sos.numpy(), AUDIO.astype(np.float64))
  np.testing.assert_allclose(out, expected, atol=1e-5)
  # Gains start at 0 dB: nothing is heard but the high pass.
  flat = effects.Biquads(['low_shelf', 'peak', 'high_shelf'])
  out = flat(AUDIO, flat.control_map.defaults[np.newaxis, np.newaxis])
  np.testing.assert_allclose(out, AUDIO, atol=1e-5)


def test_frequencies_end_below_nyquist_and_may_be_fixed():
  eq = effects.Biquads(
    ['low_pass', 'low_pass'],
    ranges={'low_pass_0_f0_hz': (20000, 20000), 'low_pass_0_q': (0.7, 0.7)},
    fixed={'low_pass_1_f0_hz': 500, 'low_pass_1_q': 2},
    sample_rate=16000,
  )
  assert eq.symbols == ('low_pass_0_f0_hz', 'low_pass_0_q')
  for unit in (0.0, 1.0):
    controls = eq.to_units(np.full([1, 1, 2], unit))
    np.testing.assert_allclose(controls[0, 0], [7840, 0.7], rtol=1e-6)
  sos = eq.coefficients(controls).numpy()[0, 0, 1]
  design = core.design_biquads(['low_pass'], [500], [2], [0], 16000)
  np.testing.assert_allclose(sos, design[0], rtol=1e-6)


def test_fir_convolves():
  ir = np.random.default_rng(4).standard_normal(50).astype(np.float32)
  fir = effects.Fir(ir=ir)
  expected = scipy.signal.lfilter(ir, 1, AUDIO)
  np.testing.assert_allclose(fir(AUDIO), expected, atol=1e-4)
  assert [v.shape for v in fir.trainable_variables] == [[50]]
  assert not effects.Fir(ir=ir, trainable=False).trainable_variables
  np.testing.assert_allclose(effects.Fir(n_taps=9)(AUDIO), AUDIO, atol=1e-5)


def test_networks_have_as_many_parameters_as_nablafx():
  def count(layer):
    return sum(int(np.prod(v.shape)) for v in layer.trainable_variables)

  # 1 -> 32 -> 32 -> 32 -> 1, and two layers more for the response.
  assert count(effects.Waveshaper('siren')) == 2209
  assert count(effects.Waveshaper('mlp')) == 2209
  assert count(effects.Fir(kind='siren')) == 4321
  assert count(effects.Waveshaper('rational')) == 12
  assert count(effects.Waveshaper('tanh')) == 0
  # Same seed, same network.
  same = [effects.Fir(kind='siren').impulse_response() for _ in range(2)]
  np.testing.assert_array_equal(*same)
  other = effects.Fir(kind='siren', seed=1).impulse_response()
  assert np.abs(other - same[0]).max() > 1e-3


@pytest.mark.parametrize(
  'kind, atol', [('rational', 5e-4), ('polynomial', 1e-4)]
)
def test_curves_start_as_tanh(kind, atol):
  x = tf.linspace([-1.0], [1.0], 101, axis=1)
  out = effects.Waveshaper(kind)(x)
  np.testing.assert_allclose(out, np.tanh(x), atol=atol)


def test_latency_is_taken_out():
  shaper = effects.Waveshaper('tanh', oversample=4)
  assert shaper.latency == 31
  n = np.arange(2000)
  tone = 0.01 * np.sin(0.05 * n)[np.newaxis].astype(np.float32)
  out = shaper(tone).numpy()
  np.testing.assert_allclose(out[:, 100:-100], tone[:, 100:-100], atol=2e-6)
  limiter = effects.Dynamics('limiter', lookahead_ms=1.0)
  assert limiter.latency == 48
  quiet = limiter(tone, in_units(limiter, **LIMITER))
  np.testing.assert_allclose(quiet, tone, atol=1e-6)


LIMITER = dict(
  threshold_db=-20, knee_db=0, attack_ms=0.1, release_ms=50, makeup_db=0
)


def steady_gain_db(kind, level_db, **values):
  """Returns the gain for a steady level after a second."""
  dynamics = effects.Dynamics(kind, sample_rate=8000)
  values = {'makeup_db': 0, 'knee_db': 0, 'attack_ms': 1, **values}
  values.setdefault('release_ms', 50)
  audio = np.full([1, 8000], 10 ** (level_db / 20), np.float32)
  out = dynamics(audio, in_units(dynamics, **values)).numpy()
  return 20 * np.log10(out[0, -1]) - level_db


def test_dynamics_settle_on_the_curve():
  for kind, level_db, values, expected in (
    ('compressor', -10, dict(threshold_db=-30, ratio=4), -15),
    ('compressor', -40, dict(threshold_db=-30, ratio=4, makeup_db=6), 6),
    ('limiter', -5, dict(threshold_db=-20), -15),
    ('expander', -40, dict(threshold_db=-30, ratio=3), -20),
    ('gate', -50, dict(threshold_db=-30, range_db=40), -40),
    ('gate', -20, dict(threshold_db=-30, range_db=40), 0),
  ):
    gain = steady_gain_db(kind, level_db, **values)
    np.testing.assert_allclose(gain, expected, atol=0.02, err_msg=kind)


def test_attack_and_release_take_their_times():
  # Steps of the level: the change goes 1 - 1/e of its way in the time set.
  loud, quiet = 1.0, 10 ** (-60 / 20)
  for kind, first, second in (
    ('compressor', quiet, loud),
    ('gate', quiet, loud),
  ):
    dynamics = effects.Dynamics(kind, sample_rate=8000)
    values = dict(
      threshold_db=-20, knee_db=0, attack_ms=20, release_ms=100, makeup_db=0
    )
    values.update(ratio=4) if kind == 'compressor' else values.update(
      range_db=40
    )
    sizes = (16000, 8000, 8000)
    parts = zip((first, second, first), sizes)
    audio = np.concatenate([np.full(n, v, np.float32) for v, n in parts])
    out = dynamics(audio[np.newaxis], in_units(dynamics, **values))[0]
    gain_db = 20 * np.log10(out.numpy() / audio)
    settled = [gain_db[15999], gain_db[23999], gain_db[31999]]
    for start, samples, before, after in (
      (16000, 160, settled[0], settled[1]),
      (24000, 800, settled[1], settled[2]),
    ):
      way = (gain_db[start + samples - 1] - before) / (after - before)
      np.testing.assert_allclose(way, 1 - np.exp(-1), atol=2e-3)


def test_side_chain_ducks_and_look_ahead_is_in_time():
  limiter = effects.Dynamics('limiter', lookahead_ms=1.0)
  audio = np.full([1, 4000], 0.05, np.float32)
  sidechain = np.zeros_like(audio)
  sidechain[:, 2000:] = 1.0
  out = limiter(audio, in_units(limiter, **LIMITER), sidechain).numpy()[0]
  # 1 ms is ten time constants: all the reduction is there when the step is.
  np.testing.assert_allclose(out[:1951], 0.05, rtol=1e-4)
  np.testing.assert_allclose(out[2000:3900], 0.005, rtol=2e-3)


def test_parallel_paths_are_mixed_by_a_dag():
  group = processors.ProcessorGroup(
    [
      (effects.Gain(name='drive'), ['audio', 'drive_controls']),
      (
        effects.Waveshaper('tanh', oversample=2, name='shaper'),
        ['drive/signal'],
      ),
      (effects.Gain(name='dry'), ['audio', 'dry_controls']),
      (ddsp.processors.Add(name='sum'), ['shaper/signal', 'dry/signal']),
    ]
  )
  inputs = {
    'audio': tf.constant(AUDIO),
    'drive_controls': tf.fill([2, 1, 1], 0.6),  # 8 dB
    'dry_controls': tf.fill([2, 1, 1], 0.4),  # -8 dB
  }
  whole = group(inputs).numpy()
  factor = 10 ** (8 / 20)
  wet = effects.Waveshaper('tanh', oversample=2)(factor * AUDIO).numpy()
  np.testing.assert_allclose(whole, wet + AUDIO / factor, atol=1e-5)
  streamer = processors.Streamer(group, 2)
  assert streamer.latency == 31
  out = [
    streamer.process(**{**inputs, 'audio': AUDIO[:, i : i + 100]})
    for i in range(0, 768, 100)
  ]
  np.testing.assert_allclose(np.concatenate(out, 1), whole[:, :-31], atol=1e-5)


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: effects.Gain(trainable=['volume']), "'volume'; there are gain_db"),
    (lambda: effects.Gain(fixed={'polarity': -2}), 'polarity=-2.*from -1 to 1'),
    (
      lambda: effects.Gain(fixed={'gain_db': 1}),
      "'gain_db'.*trainable and fix",
    ),
    (lambda: effects.Gain(ranges={'offset': (0, 1)}), "'offset', which is not"),
    (lambda: effects.Gain(ranges={'gain_db': (1, 0)}), 'low <= high'),
    (lambda: effects.Biquads(['bell']), "'bell' must be one of"),
    (lambda: effects.Biquads(['peak'], fixed={'peak_0_q': 0}), 'peak_0_q=0'),
    (lambda: effects.Fir(kind='fft'), "kind='fft'"),
    (lambda: effects.Fir(n_taps=0), 'n_taps=0'),
    (lambda: effects.Fir(ir=[[1.0]]), r'ir of shape \(1, 1\)'),
    (lambda: effects.Fir(ir=[np.nan]), 'finite'),
    (lambda: effects.Waveshaper('fold'), "kind='fold'"),
    (lambda: effects.Waveshaper(oversample=0), 'oversample=0'),
    (lambda: effects.Dynamics('de-esser'), "kind='de-esser'"),
    (lambda: effects.Dynamics(lookahead_ms=-1), 'lookahead_ms=-1'),
    (lambda: effects.Dynamics(fixed={'ratio': 0.5}), 'ratio=0.5.*from 1 to'),
    (
      lambda: effects.Gain()(AUDIO, np.zeros([2, 1, 3], np.float32)),
      r"controls has shape \(2, 1, 3\); 'gain' takes",
    ),
    (
      lambda: effects.Gain()(AUDIO[0], np.zeros([2, 1, 1])),
      r'audio has shape \(768,\).*takes \[batch, n_samples\] or',
    ),
    (
      lambda: effects.Dynamics()(AUDIO, np.zeros([2, 1, 6]), AUDIO[:, 1:]),
      r'audio has shape \(2, 768\), \(2, 767\)',
    ),
  ],
)
def test_bad_input_is_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_gin_builds_them():
  gin.clear_config()
  try:
    gin.parse_config("""
      eq/effects.Biquads.types = ['peak', 'low_pass']
      eq/effects.Biquads.name = 'eq'
      processors.ProcessorGroup.dag = [
        (@eq/effects.Biquads(), ['audio', 'eq_controls']),
        (@effects.Waveshaper(), ['eq/signal']),
      ]
      effects.Waveshaper.kind = 'rational'
    """)
    group = ddsp.processors.ProcessorGroup()
  finally:
    gin.clear_config()
  controls = tf.fill([2, 1, 5], 0.5)
  assert group({'audio': AUDIO, 'eq_controls': controls}).shape == AUDIO.shape
