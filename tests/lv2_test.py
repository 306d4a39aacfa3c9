"""The LV2 host, on plugins whose output is known, then on real ones."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.signal

from dafx import lv2
from dafx.lv2 import instances, world

RATE = 22050
TEST = 'urn:dafx-test:'
REAL = {
  'http://calf.sourceforge.net/plugins/MultibandCompressor': ['threshold0'],
  'http://lsp-plug.in/plugins/lv2/graph_equalizer_x32_mono': ['g_10'],
  'http://lsp-plug.in/plugins/lv2/limiter_mono': ['th'],
  'http://invadarecords.com/plugins/lv2/tube/mono': ['drive'],
  'http://gareus.org/oss/lv2/fil4#stereo': ['gain1'],
}


def noise(*shape, seed=0, level=0.1):
  rng = np.random.default_rng(seed)
  return (level * rng.standard_normal(shape)).astype(np.float32)


def renderer(name, controls=('amount',), **kwargs):
  return lv2.Renderer(TEST + name, RATE, controls, **kwargs)


# ------------------------------------------------------------- Discovery ----
def test_reads_what_a_plugin_says_of_itself():
  plugin = lv2.get_plugin(TEST + 'late')
  assert plugin.name == 'Test late'
  assert plugin.version == '1.2'
  assert [p.symbol for p in plugin.ports] == ['in', 'out', 'amount', 'report']
  port = plugin.control('amount')
  assert (port.default, port.minimum, port.maximum) == (1, 0, 1)
  assert port.unit == 'coef'
  assert plugin.latency_port.symbol == 'report'


def test_lists_installed_plugins():
  uris = lv2.list_uris()
  assert TEST + 'gain' in uris
  assert all(uri in uris for uri in REAL)


def test_scale_is_logarithmic_for_wide_positive_ratios():
  assert lv2.get_plugin(TEST + 'square').control('amount').scale == 'log'
  assert lv2.get_plugin(TEST + 'gain').control('amount').scale == 'linear'
  calf = lv2.get_plugin(next(iter(REAL)))
  assert calf.control('freq0').scale == 'log'
  assert calf.control('knee0').scale == 'linear'
  assert calf.control('bypass0').is_discrete


def test_scale_points_by_value():
  equaliser = lv2.get_plugin(
    'http://lsp-plug.in/plugins/lv2/graph_equalizer_x32_mono'
  )
  points = equaliser.control('slope').scale_points
  assert points[0] == (0.0, 'BT48') and points[4] == (4.0, 'BT96')


@pytest.mark.parametrize(
  'uri, named',
  [
    (TEST + 'gian', TEST + 'gain'),
    ('http://lsp-plug.in/plugins/lv2/limitr_mono', 'lv2/limiter_mono'),
    ('not a uri', 'list_uris'),
    ('', 'list_uris'),
  ],
)
def test_unknown_uri_names_the_closest(uri, named):
  with pytest.raises(ValueError, match='no such LV2 plugin') as error:
    lv2.get_plugin(uri)
  assert named in str(error.value)


def test_unknown_symbol_names_the_closest():
  with pytest.raises(KeyError, match="'amuont'.*The closest are amount"):
    renderer('gain', ['amuont'])
  with pytest.raises(KeyError, match='amount'):
    renderer('gain', [], fixed={'level': 1})


def test_starts_without_tensorflow():
  code = (
    'import sys; from dafx import lv2; lv2.list_uris(); '
    "sys.exit('tensorflow' in sys.modules or 'gin' in sys.modules)"
  )
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0


# ------------------------------------------------------------- Rendering ----
def test_controls_act_frame_by_frame():
  audio = noise(2, 1000, 1)
  controls = np.array([[[1], [2], [3]], [[0], [0.5], [4]]], np.float32)
  out = renderer('gain').render(audio, controls, hop_size=400)
  gains = np.repeat(controls, 400, axis=1)[:, :1000]
  np.testing.assert_array_equal(out, audio * gains)


def test_hop_size_is_samples_per_frame_rounded_up():
  audio = np.ones((1, 10, 1), np.float32)
  controls = np.arange(4, dtype=np.float32).reshape(1, 4, 1)
  out = renderer('gain').render(audio, controls)
  np.testing.assert_array_equal(out[0, :, 0], [0, 0, 0, 1, 1, 1, 2, 2, 2, 3])


def test_blocks_end_at_frames_and_the_last_is_partial():
  controls = np.zeros((1, 2, 1), np.float32)
  out = renderer('block', block_size=64).render(
    np.zeros((1, 230, 1)), controls, hop_size=100
  )[0, :, 0]
  lengths = np.repeat([64, 36, 64, 64, 2], [64, 36, 64, 64, 2])
  np.testing.assert_array_equal(out, lengths)


def test_fixed_blocks_are_filled_up():
  controls = np.array([0, 0.25, 0.5], np.float32).reshape(1, 3, 1)
  out = renderer('fixed', block_size=64).render(
    np.zeros((1, 230, 1)), controls, hop_size=100
  )[0, :, 0]
  # Controls change where a block begins: at 128 and at 192... of hop 100.
  amounts = np.repeat([0, 0, 0.25, 0.25], 64)[:230]
  np.testing.assert_array_equal(out, 64 + amounts)


def test_recursive_filter_equals_scipy():
  audio = noise(1, 5000, 1)
  out = renderer('onepole', fixed=None).render(
    audio, np.full((1, 1, 1), 0.9, np.float32)
  )
  expected = scipy.signal.lfilter([0.1], [1, -0.9], audio[0, :, 0])
  np.testing.assert_allclose(out[0, :, 0], expected, atol=1e-6)


@pytest.mark.parametrize('name', ['late', 'delay'])
def test_latency_is_compensated_reported_or_measured(name):
  audio = noise(1, 3000, 1)
  compensated = renderer(name)
  assert compensated.latency == 37
  np.testing.assert_array_equal(compensated.render(audio), audio)
  raw = renderer(name, compensate_latency=False)
  assert raw.latency == 0
  out = raw.render(audio)[0, :, 0]
  np.testing.assert_array_equal(out[37:], audio[0, :-37, 0])
  np.testing.assert_array_equal(out[:37], 0)


def test_channels_are_ports_in_order():
  audio = noise(1, 100, 2)
  cross = renderer('cross', block_size=32)
  assert (cross.n_channels_in, cross.n_channels_out) == (2, 2)
  out = cross.render(audio, np.full((1, 1, 1), 0.5, np.float32))
  np.testing.assert_allclose(
    out, audio + np.float32(0.5) * audio[..., ::-1], rtol=1e-6
  )
  mono = cross.render(audio[..., :1], np.full((1, 1, 1), 0.5, np.float32))
  np.testing.assert_allclose(mono, audio[..., [0, 0]] * 1.5, rtol=1e-6)


def test_fixed_values_and_defaults():
  audio = noise(1, 100, 1)
  out = renderer('gain', [], fixed={'amount': 3}).render(audio)
  np.testing.assert_array_equal(out, 3 * audio)
  np.testing.assert_array_equal(renderer('gain', []).render(audio), audio)


def test_ranges_that_go_with_the_sample_rate():
  tuned = renderer('tuned', ())
  port = tuned.plugin.control('amount')
  assert (port.default, port.minimum, port.maximum) == (RATE / 2, 0, RATE / 2)
  out = tuned.render(np.zeros((1, 8, 1)))  # gives block length + amount
  np.testing.assert_array_equal(out, 8 + RATE / 2)
  lv2.Renderer(TEST + 'tuned', RATE, [], {'amount': 1000.0})
  with pytest.raises(ValueError, match='amount=20000.0.*0 to 11025'):
    lv2.Renderer(TEST + 'tuned', RATE, [], {'amount': 20000.0})
  for value in (10**30, 10**400):  # beyond int64, and beyond a double
    with pytest.raises(ValueError, match=f'amount={value} is out of range'):
      lv2.Renderer(TEST + 'tuned', RATE, [], {'amount': value})
  assert (
    'sample rate'
    in lv2.get_plugin(TEST + 'tuned').control('amount').describe_range()
  )


def test_options_tell_the_block_length():
  out = renderer('options', block_size=321).render(np.zeros((1, 10, 1)))
  np.testing.assert_array_equal(out, 321)


def test_worker_runs_in_the_render_thread():
  audio = np.arange(1, 301, dtype=np.float32).reshape(1, 300, 1)
  out = renderer('worker', block_size=100).render(audio)[0, :, 0]
  # Each run gives twice the first sample of the run before it.
  np.testing.assert_array_equal(out, np.repeat([0, 2, 202], 100))


def test_warm_up_runs_silence_under_the_first_controls():
  audio = np.ones((1, 10, 1), np.float32)
  controls = np.zeros((1, 1, 1), np.float32)
  out = renderer('delay', warm_up=100, compensate_latency=False).render(
    audio, controls + 1
  )
  assert not out.any()
  worker = renderer('worker', block_size=10, warm_up=10)
  assert not worker.render(audio).any()


@pytest.mark.parametrize('step', [1, 2, 3])
def test_audio_may_lie_in_memory_as_it_likes(step):
  # Channels before samples, every other sample, addresses that fit no SIMD.
  audio = noise(3, 2, 1501 * step)[:, :, 1::step].swapaxes(1, 2)
  cross = renderer('cross', block_size=48)
  controls = np.full((3, 1, 1), 0.5, np.float32)
  out = cross.render(audio, controls)
  np.testing.assert_allclose(
    out, audio + np.float32(0.5) * audio[..., ::-1], rtol=1e-6
  )
  assert out.shape == audio.shape


def test_results_are_not_overwritten_while_they_are_read():
  gain = renderer('gain')
  audio = noise(2, 300, 1)
  kept = [gain.render(audio, np.full((2, 1, 1), g, 'f')) for g in range(4)]
  parts = [gain.render(audio, np.full((2, 1, 1), g, 'f'))[1:] for g in range(4)]
  for g, (whole, part) in enumerate(zip(kept, parts)):
    np.testing.assert_array_equal(whole, g * audio)
    np.testing.assert_array_equal(part, g * audio[1:])


def test_switches_and_enumerations_take_the_closest_value():
  values = np.float32([0.4, 0.6, 4.4, 4.6, 8.0]).reshape(-1, 1, 1)
  audio = np.ones((5, 4, 1), np.float32)
  out = renderer('stepped').render(audio, values)
  np.testing.assert_array_equal(out[:, 0, 0], [0, 1, 1, 8, 8])
  out = renderer('stepped', [], fixed={'amount': 6.9}).render(audio)
  np.testing.assert_array_equal(out, 8)


# ------------------------------------------------------------- Streaming ----
@pytest.mark.parametrize('name', ['onepole', 'late', 'delay', 'worker'])
def test_chunks_give_what_one_render_gives(name):
  audio = noise(3, 2000, 1)
  whole = renderer(name, [], block_size=100, compensate_latency=False)
  stream = renderer(name, [], block_size=100, stateful=True, warm_up=50)
  for warm_up in (50, 0):
    expected = lv2.Renderer(
      TEST + name, RATE, block_size=100, compensate_latency=False,
      warm_up=warm_up,
    ).render(audio)  # fmt: skip
    stream.warm_up = warm_up
    chunks = np.split(audio, [300, 400, 1900], axis=1)
    found = np.concatenate([stream.render(c) for c in chunks], axis=1)
    np.testing.assert_array_equal(found, expected)
    stream.reset_state()
  np.testing.assert_array_equal(whole.render(audio), expected)


def test_any_chunks_do_where_blocks_do_not_matter():
  audio = noise(2, 1000, 1)
  controls = np.random.default_rng(0).uniform(0, 0.9, (2, 10, 1))
  expected = renderer('onepole').render(audio, controls, hop_size=100)
  stream = renderer('onepole', stateful=True)
  found = np.zeros_like(audio)
  for start, end in ((0, 1), (1, 130), (130, 700), (700, 1000)):
    frames = controls[:, np.minimum(np.arange(start, end) // 100, 9)]
    found[:, start:end] = stream.render(audio[:, start:end], frames, 1)
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('uri, symbols', REAL.items())
def test_real_plugins_stream(uri, symbols):
  audio = noise(2, 6000, 1)
  kwargs = dict(block_size=256, compensate_latency=False)
  expected = lv2.Renderer(uri, RATE, symbols, **kwargs).render(audio)
  stream = lv2.Renderer(uri, RATE, symbols, stateful=True, **kwargs)
  for _ in range(2):
    chunks = np.split(audio, [256, 1024, 5120], axis=1)
    found = np.concatenate([stream.render(c) for c in chunks], axis=1)
    np.testing.assert_array_equal(found, expected)
    stream.reset_state()


def test_wrong_streams_are_named():
  stream = renderer('gain', stateful=True)
  stream.render(noise(2, 10, 1))
  with pytest.raises(ValueError, match='3 items; 2 are going on.*reset_state'):
    stream.render(noise(3, 10, 1))
  stream.reset_state()
  stream.render(noise(3, 10, 1))
  fixed = renderer('fixed', block_size=64, stateful=True)
  fixed.render(np.zeros((1, 128, 1)))
  with pytest.raises(ValueError, match='blocks of 64.*chunk of 100'):
    fixed.render(np.zeros((1, 100, 1)))


# --------------------------------------------------- A render's own inputs ----
def test_starts_fresh_although_the_plugin_keeps_its_state():
  onepole = renderer('onepole', n_threads=1)
  audio, controls = noise(1, 500, 1), np.full((1, 1, 1), 0.99, np.float32)
  first = onepole.render(audio, controls)
  onepole.render(noise(1, 500, 1, level=10.0), controls)
  np.testing.assert_array_equal(onepole.render(audio, controls), first)


@pytest.mark.parametrize('uri, symbols', REAL.items())
def test_real_plugins_depend_on_their_inputs_alone(uri, symbols):
  audio = noise(6, 6000, 1)
  port = lv2.get_plugin(uri).control(symbols[0])
  rng = np.random.default_rng(1)
  controls = rng.uniform(port.minimum, port.maximum, (6, 3, 1))
  fixed = {'bypass0': 0} if 'Multiband' in uri else {}
  one = lv2.Renderer(uri, RATE, symbols, fixed, n_threads=1)
  two = lv2.Renderer(uri, RATE, symbols, fixed, n_threads=2)
  whole = two.render(audio, controls)
  assert np.isfinite(whole).all() and whole.any()
  np.testing.assert_array_equal(one.render(audio, controls), whole)
  order = rng.permutation(6)
  np.testing.assert_array_equal(
    two.render(audio[order], controls[order]), whole[order]
  )
  for i in range(6):
    np.testing.assert_array_equal(
      one.render(audio[i : i + 1], controls[i : i + 1])[0], whole[i]
    )


@pytest.mark.parametrize('sample_rate', [8000, 44100, 96000])
def test_renders_at_any_rate(sample_rate):
  uri = 'http://lsp-plug.in/plugins/lv2/limiter_mono'
  limiter = lv2.Renderer(uri, sample_rate, ['th'], {'boost': 0, 'alr': 0})
  audio = noise(1, sample_rate // 4, 1, level=0.3)
  out = limiter.render(audio, np.full((1, 1, 1), 0.2, np.float32))
  assert out.shape == audio.shape
  assert 0.15 < np.abs(out).max() < 0.21
  # The limiter looks ahead; its latency is taken out.
  lag = scipy.signal.correlate(out[0, :, 0], audio[0, :, 0]).argmax()
  assert lag == audio.shape[1] - 1


# ---------------------------------------------------------------- Faults ----
def test_nonfinite_output_is_zeroed_counted_and_said(caplog):
  bad = renderer('nan')
  audio = noise(1, 100, 1)
  out = bad.render(audio, np.full((1, 1, 1), 2.0, np.float32))
  assert not out.any() and bad.n_nonfinite == 100
  assert 'urn:dafx-test:nan gave 100 samples' in caplog.text
  assert 'amount=2' in caplog.text
  for _ in range(10):  # said at the tenth, and not each time
    bad.render(audio, np.full((1, 1, 1), 2.0, np.float32))
  assert bad.n_nonfinite == 1100
  assert len(caplog.records) == 2
  assert 'item 10 of that kind' in caplog.records[1].getMessage()
  with pytest.raises(lv2.PluginError, match='100 samples.*amount=2'):
    renderer('nan', strict=True).render(
      audio, np.full((1, 1, 1), 2.0, np.float32)
    )


def test_missing_feature_is_named():
  with pytest.raises(lv2.PluginError, match='urn:dafx-test:feature'):
    renderer('alien')


def test_a_library_that_does_not_load_is_named():
  # Debian's build of it lacks a link to fftw.
  uri = 'http://plugin.org.uk/swh-plugins/mbeq'
  why = instances.why_not_loaded(lv2.get_plugin(uri))
  if why:
    with pytest.raises(lv2.PluginError, match='undefined symbol'):
      lv2.Renderer(uri, 48000)
  else:  # a later Debian
    lv2.Renderer(uri, 48000)
  assert instances.why_not_loaded(lv2.get_plugin(TEST + 'gain')) == ''


def test_refused_sample_rate_is_named():
  lv2.Renderer(TEST + 'fussy', 48000)
  with pytest.raises(lv2.PluginError, match='192000 Hz'):
    lv2.Renderer(TEST + 'fussy', 192000)


@pytest.mark.parametrize(
  'kwargs, message',
  [
    (dict(fixed={'amount': 5.0}, controls=[]), r'amount=5.0.*0 to 4'),
    (dict(fixed={'amount': np.nan}, controls=[]), r'amount=nan'),
    (dict(fixed={'amount': 1.0}), 'both as a control and as a fixed'),
    (dict(controls=['amount', 'amount']), 'twice'),
    (dict(block_size=0), 'block_size=0'),
    (dict(n_threads=0), 'n_threads=0'),
    (dict(warm_up=-1), 'warm_up=-1'),
  ],
)
def test_wrong_settings_are_named(kwargs, message):
  with pytest.raises(ValueError, match=message):
    renderer('gain', **kwargs)


@pytest.mark.parametrize('isolation', lv2.ISOLATIONS)
@pytest.mark.parametrize(
  'audio, controls, message',
  [
    (np.zeros((1, 0, 1)), None, r'\(1, 0, 1\)'),
    (np.zeros((1, 10)), None, 'n_channels'),
    (np.zeros((1, 10, 3)), None, '3 channels.*takes 1'),
    (np.full((1, 10, 1), np.nan), None, 'audio holds 10 values'),
    (np.full((2, 10, 1), [[[0]], [[-np.inf]]]), None, 'audio holds 10 values'),
    (np.zeros((1, 10, 1)), np.full((1, 1, 1), np.inf), 'controls holds 1'),
    (np.zeros((1, 10, 1)), np.full((1, 1, 1), np.nan), 'controls holds 1'),
    (np.zeros((1, 10, 1)), np.zeros((1, 1, 2)), r'n_frames, 1'),
    (np.zeros((2, 10, 1)), np.zeros((1, 1, 1)), r'\[2, n_frames'),
    (np.zeros((1, 10, 1)), np.zeros((1, 6, 1)), '6 frames'),
    (np.zeros((1, 10, 1)), np.zeros((1, 11, 1)), '11 frames'),
  ],
)
def test_wrong_input_is_named(audio, controls, message, isolation):
  with pytest.raises(ValueError, match=message):
    renderer('gain', isolation=isolation).render(audio, controls)


def test_a_stream_stays_where_it_was_when_input_is_wrong():
  stream = renderer('onepole', stateful=True, n_threads=1)
  audio = noise(2, 20, 1)
  first = stream.render(audio[:, :10])
  with pytest.raises(ValueError, match='audio holds 1 values'):
    stream.render(np.float32([[[0], [0]], [[0], [np.nan]]]))
  found = np.concatenate([first, stream.render(audio[:, 10:])], axis=1)
  np.testing.assert_array_equal(found, renderer('onepole').render(audio))


def test_world_is_read_once():
  assert lv2.get_plugin(TEST + 'gain') is world.get_plugin(TEST + 'gain')
