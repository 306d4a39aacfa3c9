"""What users hand in: what is none is refused in words, before it is used."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest
import tensorflow as tf

from dafx import core, effects, lv2, metrics, neural, pitch, processors
from dafx.audio import sources
from dafx.training import matching

RATE = 16000
GAIN = 'urn:dafx-test:gain'
KINDS = {
  'complex': (np.complex64, 'audio.real'),
  'int16': (np.int16, 'audio / 32768'),
  'uint8': (np.uint8, r'\(audio.astype\(float\) - 128\) / 128'),
  'bool': (bool, 'array of numbers'),
  'text': (str, 'array of numbers'),
  'objects': (object, 'array of numbers'),
}


def sine(*shape):
  return 0.3 * np.sin(0.1 * np.arange(np.prod(shape))).reshape(shape)


def plugin(**kwargs):
  return effects.LV2Plugin(GAIN, sample_rate=RATE, **kwargs)


TAKERS = {
  'render': lambda x: lv2.Renderer(GAIN, RATE).render(x[..., np.newaxis]),
  'plugin': lambda x: plugin().get_signal(x, np.ones([1, 1, 1], 'f')),
  'node': lambda x: effects.Gain().get_signal(x, tf.zeros([1, 1, 1])),
  'network': lambda x: neural.Rnn(n_units=2).get_controls(x),
  'stream': lambda x: processors.Streamer(effects.Gain(), is_compiled=False)
  .process(x, controls=[[0.5]]),
  'dynamics': lambda x: core.ballistics(x, [[0.5]], [[0.5]]),
  'metric': lambda x: metrics.loudness_lufs(x[0], RATE),
  'source': lambda x: sources.from_array(x.T, RATE),
  'pitch': lambda x: pitch.loudness_db(x[0], RATE, 100),
  'match': lambda x: matching.match(
    [effects.Gain()], x[0], RATE, target=sine(8000), max_renders=1
  ),
}  # fmt: skip


@pytest.mark.parametrize('taker', TAKERS)
def test_audio_that_is_no_floating_point_is_refused(taker):
  for dtype, advice in KINDS.values():
    audio = sine(1, 8000).astype(dtype)
    with pytest.raises(ValueError, match=r'full scale at \+-1') as raised:
      TAKERS[taker](audio)
    if taker not in ('match', 'metric'):  # which name it otherwise
      assert raised.match(advice)


def test_floats_of_any_width_are_taken_alike():
  audio = sine(1, 800, 1)
  renderer = lv2.Renderer(GAIN, RATE)
  wanted = renderer.render(audio.astype(np.float32))
  for dtype in (np.float64, np.float16):
    found = renderer.render(audio.astype(dtype))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=2e-4)
    unit = np.ones([1, 1, 1], dtype)
    through = plugin().get_signal(audio[..., 0].astype(dtype), unit)
    np.testing.assert_allclose(through, found[..., 0], atol=2e-4)
  scaled = np.round(32768 * audio).astype(np.int16) / 32768  # as is advised
  np.testing.assert_allclose(renderer.render(scaled), wanted, atol=2e-5)


@pytest.mark.parametrize('kind', [np.complex64, str, object])
def test_controls_that_are_no_numbers_are_refused(kind):
  values = np.full([1, 1, 1], 0.5).astype(kind)
  with pytest.raises(ValueError, match='controls has dtype .* real numbers'):
    lv2.Renderer(GAIN, RATE, ['amount']).render(sine(1, 100, 1), values)
  for node in (plugin(), effects.Gain()):
    with pytest.raises(ValueError, match='controls has dtype .* real numbers'):
      node.get_controls(tf.zeros([1, 100]), values)


@pytest.mark.parametrize(
  'options, said',
  [
    ({'fixed': 5}, r"fixed=5 must be a dictionary, as in \{'gain': 0.5\}"),
    ({'fixed': ['amount']}, r"fixed=\['amount'\] must be a dictionary"),
    ({'fixed': {5: 1.0}}, 'fixed has the key 5; keys must be strings'),
    ({'fixed': {'amount': [1, 2]}}, r'amount=.*\[1, 2\].* must be a number'),
    ({'fixed': {'amount': np.ones(2)}}, 'must be a number, in port units'),
    ({'preset': 5}, 'preset=5 must be the label or URI of a preset'),
    ({'uri': 5}, 'uri=5 must be the URI of a plugin'),
  ],
)
@pytest.mark.parametrize('make', [lv2.Renderer, effects.LV2Plugin])
def test_options_of_plugins_are_refused(make, options, said):
  with pytest.raises(ValueError, match=said):
    make(**{'uri': GAIN, 'sample_rate': RATE, **options})


@pytest.mark.parametrize(
  'options, said',
  [
    ({'trainable': 5}, r"trainable=5 must be a list of symbols, as in \['gain"),
    ({'trainable': 'amount'}, r"single string; .*: \['amount'\]"),
    ({'trainable': [5]}, r'trainable=\[5\] must be a list of symbols'),
    ({'ranges': 5}, 'ranges=5 must be a dictionary'),
    ({'ranges': {'amount': 5}}, r"ranges has 5 for 'amount'; it must be \(low"),
    ({'ranges': {'amount': 'ab'}}, r"'ab' for 'amount'; it must be \(low, hi"),
    ({'ranges': {'amount': (0, 'x')}}, r'numbers in port units'),
    ({'ranges': {'amount': (0, 1, 2)}}, 'with a start'),
    ({'ranges': {'amount': (0, 1, '', 'x')}}, 'with a start'),
    ({'sample_rate': None}, 'sample_rate=None must be a number'),
  ],
)
def test_options_of_nodes_are_refused(options, said):
  with pytest.raises(ValueError, match=said):
    effects.LV2Plugin(GAIN, **{'sample_rate': RATE, **options})


@pytest.mark.parametrize(
  'options, said',
  [
    ({'controls': 5}, 'controls=5 must be a list of symbols'),
    ({'controls': 'amount'}, r'a list of symbols: \[.amount.\]'),
    ({'strict': 'no'}, "strict='no' must be True or False"),
    ({'time_limit_s': 'x'}, "time_limit_s='x' must be a number of seconds"),
    ({'time_limit_s': float('nan')}, 'time_limit_s=nan must be'),
  ],
)
def test_options_of_a_renderer_are_refused(options, said):
  with pytest.raises(ValueError, match=said):
    lv2.Renderer(GAIN, RATE, **options)


@pytest.mark.parametrize(
  'options, said',
  [
    ({'fixed': 5}, 'fixed=5 must be a dictionary'),
    (
      {'trainable': [], 'fixed': {'gain_db': 'x'}},
      "gain_db='x' of .* must be a number",
    ),
    ({'ranges': 5}, 'ranges=5 must be a dictionary'),
    ({'ranges': {'gain_db': 5}}, r"range 5 of 'gain_db' must be \(low, high\)"),
    ({'ranges': {'gain_db': 'ab'}}, r"range 'ab' of .* must be \(low, high\)"),
    ({'ranges': {'gain_db': (0, 'x')}}, r'must be \(low, high\)'),
    ({'trainable': 5}, r"trainable=5 must be .* \['gain_db'\]"),
    ({'trainable': 'gain_db'}, r": \['gain_db'\]"),
  ],
)
def test_options_of_differentiable_effects_are_refused(options, said):
  with pytest.raises(ValueError, match=said):
    effects.Gain(**options)


@pytest.mark.parametrize(
  'options, said',
  [
    ({'symbols': 5}, 'symbols=5 must be a list'),
    ({'symbols': 'ab'}, "symbols='ab' is a single string"),
    ({'low': ['x']}, 'low has dtype .* real numbers'),
    ({'high': [1.0, 2.0]}, r'high has shape \(2,\); it must be \[1\]'),
    ({'fixed': 5}, 'fixed=5 must be a dictionary'),
  ],
)
def test_options_of_control_maps_are_refused(options, said):
  usual = {
    'symbols': ('gain',), 'low': [0.0], 'high': [1.0], 'is_log': [False],
    'defaults': [0.5], 'units': ('',),
  }  # fmt: skip
  core.ControlMap(**usual)
  with pytest.raises(ValueError, match=said):
    core.ControlMap(**{**usual, **options})


@pytest.mark.parametrize(
  'arguments, said',
  [
    ([5], 'ranges=5 must be a dictionary'),
    ([{'gain': 5}], r"range 5 of 'gain' must be \(low, high\)"),
    ([{'gain': ('a', 'b')}], r'must be \(low, high\)'),
    ([{'gain': (0, 1)}, 5], 'defaults=5 must be a dictionary'),
    ([{'gain': (0, 1)}, {'gain': 'x'}], "default gain='x' must be from 0 to 1"),
    ([{'gain': (0, 1)}, None, 5], 'units=5 must be a dictionary'),
  ],
)
def test_ranges_of_control_maps_are_refused(arguments, said):
  with pytest.raises(ValueError, match=said):
    core.make_control_map(*arguments)


# ---------------------------------------------------------------- Copies ----
def render(renderer, audio):
  return renderer.render(audio, np.full([len(audio), 1, 1], 0.25))


@pytest.mark.parametrize(
  'in_process', [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_a_renderer_is_made_anew(in_process):
  renderer = lv2.Renderer(
    GAIN, RATE, ['amount'], warm_up=64, block_size=256,
    strict=True, n_threads=1,
  )  # fmt: skip
  audio = sine(2, 900, 1)
  wanted = render(renderer, audio)
  copied = [copy.deepcopy(renderer), copy.copy(renderer)]
  for other in (*copied, pickle.loads(pickle.dumps(renderer))):
    assert other is not renderer and other.plugin is renderer.plugin
    options = 'warm_up', 'block_size', 'n_threads', 'controls', 'isolation'
    for option in options:
      assert vars(other)[option] == vars(renderer)[option]
    np.testing.assert_array_equal(render(other, audio), wanted)
  if not in_process:
    return
  with multiprocessing.get_context('spawn').Pool(1) as pool:
    np.testing.assert_array_equal(pool.apply(render, (renderer, audio)), wanted)


def test_a_stream_is_copied_only_at_its_start():
  stateful = lv2.Renderer(GAIN, RATE, ['amount'], stateful=True)
  assert copy.deepcopy(stateful).stateful
  render(stateful, sine(1, 100, 1))
  with pytest.raises(lv2.PluginError, match='while it streams: .*reset_state'):
    pickle.dumps(stateful)
  stateful.reset_state()
  pickle.dumps(stateful)
  for is_compiled in (True, False):
    streamer = processors.Streamer(plugin(), is_compiled=is_compiled)
    audio, controls = sine(1, 100), [[0.5]]
    wanted = streamer.process(audio, controls=controls)
    with pytest.raises(ValueError, match=r'at sample 100.* Call reset\(\)'):
      copy.deepcopy(streamer)
    streamer.reset()
    other = pickle.loads(pickle.dumps(streamer))
    np.testing.assert_array_equal(
      other.process(audio, controls=controls), wanted
    )


def test_what_a_plugin_says_of_itself_is_pickled():
  found = lv2.get_plugin(GAIN)
  assert pickle.loads(pickle.dumps(found)) is found
  uri = 'http://calf.sourceforge.net/plugins/Compressor'
  ports = lv2.get_plugin(uri).at_rate(RATE).ports
  assert copy.deepcopy(lv2.get_plugin(uri).at_rate(RATE)).ports == ports


def test_a_crash_is_told_across_processes():
  crash = lv2.CrashError('It crashed.', GAIN, 3)
  other = pickle.loads(pickle.dumps(crash))
  assert (str(other), other.uri, other.item) == ('It crashed.', GAIN, 3)
