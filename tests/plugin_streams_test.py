"""Plugins and chains as streams: what the whole audio gives, chunk by chunk."""

import dataclasses

import ddsp
import numpy as np
import pytest
import tensorflow as tf
from cases import some_quick

from dafx import effects, processors

RATE = 16000
TEST = 'urn:dafx-test:'
LIMITER = 'http://lsp-plug.in/plugins/lv2/limiter_stereo'
STEP = 64
N_SAMPLES = 40 * STEP


def noise(*shape, seed=0, level=0.1):
  rng = np.random.default_rng(seed)
  return (level * rng.standard_normal(shape)).astype(np.float32)


def moving(n_controls, n_frames=N_SAMPLES // STEP, batch=2, seed=1):
  rng = np.random.default_rng(seed)
  return rng.uniform(0.1, 0.9, [batch, n_frames, n_controls]).astype('f')


def plugin(kind, name=None, **kwargs):
  """Returns a plugin; `kwargs` are arguments of it, or of the host."""
  fields = [field.name for field in dataclasses.fields(effects.Host)]
  options = {k: kwargs.pop(k) for k in fields if k in kwargs}
  host = effects.Host(**{'warm_up': 0, 'block_size': 256, **options})
  uri = kind if ':' in kind else TEST + kind
  return effects.LV2Plugin(
    uri, sample_rate=RATE, host=host, name=name or kind, **kwargs
  )


def in_chunks(streamer, sizes, audio, step=None, **controls):
  """Streams audio in chunks of sizes that come again and again, and ends."""
  out, done = [], 0
  while done < audio.shape[1]:
    size = sizes[len(out) % len(sizes)]
    part = controls
    if step:
      frames = slice(done // step, (done + size) // step)
      part = {key: value[:, frames] for key, value in controls.items()}
    out.append(streamer.process(audio[:, done : done + size], **part))
    done += size
  out = [part for part in [*out, streamer.finish()] if part.shape[1]]
  return np.concatenate(out, axis=1)


@pytest.mark.parametrize('shape', [(2, N_SAMPLES), (2, N_SAMPLES, 2)])
@pytest.mark.parametrize('kind', ['gain', 'onepole', 'cross'])
def test_a_plugin_streams(kind, shape):
  audio, controls = noise(*shape), moving(1)[:, :1]
  processor = plugin(kind, warm_up=100)
  whole = processor(audio, controls)
  streamer = processors.Streamer(processor, 2)
  for sizes in ([N_SAMPLES], [1000, 1, 300]):  # and all anew
    out = in_chunks(streamer, sizes, audio, controls=controls[:, 0])
    np.testing.assert_array_equal(out, whole)


def test_stereo_from_mono():
  audio, controls = noise(1, N_SAMPLES), moving(1, batch=1)[:, :1]
  processor = plugin('cross', channels='stereo')
  out = in_chunks(
    processors.Streamer(processor), [500], audio, controls=controls[:, 0]
  )
  assert out.shape == (1, N_SAMPLES, 2)
  np.testing.assert_array_equal(out, processor(audio, controls))


def group_with_latency():
  """Plugins late by 37 each, a parallel path, and one behind all."""
  return processors.ProcessorGroup(
    [
      (plugin('onepole', 'first'), ['audio', 'first_controls']),
      (plugin('late', 'second'), ['first/signal', 'second_controls']),
      (plugin('onepole', 'third'), ['second/signal', 'third_controls']),
      (plugin('late', 'fourth'), ['third/signal', 'fourth_controls']),
      (ddsp.processors.Add(name='sum'), ['fourth/signal', 'audio']),
      (plugin('gain', 'last'), ['sum/signal', 'last_controls']),
    ]
  )


@pytest.mark.parametrize(
  'sizes',
  some_quick(
    [[STEP], [5 * STEP, 3 * STEP], [N_SAMPLES]], [[5 * STEP, 3 * STEP]]
  ),
)
@pytest.mark.parametrize('n_samples', [N_SAMPLES, STEP])
def test_controls_are_held_back_with_the_audio(sizes, n_samples):
  group, audio = group_with_latency(), noise(2, n_samples)
  controls = {
    f'{name}_controls': moving(1, n_samples // STEP, seed=i)
    for i, name in enumerate(['first', 'second', 'third', 'fourth', 'last'])
  }
  whole = group({'audio': audio, **controls})
  streamer = processors.Streamer(group, 2, control_step=STEP)
  assert streamer.latency == 2 * STEP
  for _ in range(2):
    out = in_chunks(streamer, sizes, audio, STEP, **controls)
    # To the last sample: behind its end each node hears silence.
    np.testing.assert_allclose(out, whole, atol=1e-7)


def test_stereo_is_held_back_too():
  group = processors.ProcessorGroup(
    [
      (plugin('late'), ['audio', 'late_controls']),
      (plugin('cross'), ['late/signal', 'cross_controls']),
      (ddsp.processors.Add(name='sum'), ['cross/signal', 'audio']),
    ]
  )
  audio = noise(1, N_SAMPLES, 2)
  controls = {f'{n}_controls': moving(1, batch=1) for n in ('late', 'cross')}
  whole = group({'audio': audio, **controls})
  streamer = processors.Streamer(group, control_step=STEP)
  out = in_chunks(streamer, [4 * STEP], audio, STEP, **controls)
  np.testing.assert_allclose(out, whole, atol=1e-7)


def test_blocks_behind_latency_lie_as_in_the_whole():
  # It gives the length of the run.
  group = processors.ProcessorGroup(
    [
      (plugin('late', block_size=100), ['audio', 'late_controls']),
      (plugin('block', block_size=100), ['late/signal', 'block_controls']),
    ]
  )
  audio = noise(1, 1000)
  static = {f'{name}_controls': [[0.5]] for name in ('late', 'block')}
  whole = group({'audio': audio, **static})
  assert np.ptp(whole) == 0.0
  streamer = processors.Streamer(group, latency_step=100)
  out = in_chunks(streamer, [500], audio, **static)
  np.testing.assert_array_equal(out, whole)


@pytest.mark.parametrize('n_plugins', some_quick([1, 2, 3], [2]))
def test_a_chain_streams_alone_and_in_a_group(n_plugins):
  chain = effects.LV2Chain(
    [plugin('onepole'), plugin('late'), plugin('gain')], n_plugins
  )
  audio, controls = noise(2, N_SAMPLES), moving(3)
  whole = chain(audio, controls)
  streamer = processors.Streamer(chain, 2, control_step=STEP)
  out = in_chunks(streamer, [8 * STEP], audio, STEP, controls=controls)
  np.testing.assert_allclose(out, whole, atol=1e-7)
  keys = ['a', 'b', 'c']
  group = processors.ProcessorGroup(
    [
      (plugin('late', 'before'), ['audio', 'before_controls']),
      (chain, ['before/signal', *keys]),
      (plugin('square'), ['lv2_chain/signal', 'square_controls']),
    ]
  )
  parts = dict(zip(keys, chain.split_controls(controls)))
  parts.update(before_controls=moving(1), square_controls=moving(1, seed=3))
  whole = group({'audio': audio, **parts})
  streamer = processors.Streamer(group, 2, control_step=STEP)
  out = in_chunks(streamer, [8 * STEP], audio, STEP, **parts)
  np.testing.assert_allclose(out, whole, atol=1e-7)


def test_a_plugin_with_lookahead_streams():
  limiter = plugin(LIMITER, 'limiter', trainable=['th'], fixed={'boost': 0})
  assert limiter.latency > 0
  audio, controls = noise(1, 6000, 2, level=0.6), np.full([1, 1, 1], 0.3, 'f')
  whole = limiter(audio, controls)
  streamer = processors.Streamer(limiter, latency_step=256)
  out = in_chunks(streamer, [1024], audio, controls=controls)
  np.testing.assert_allclose(out, whole, atol=1e-6)


def test_another_rate_begins_another_stream():
  processor = plugin('onepole')
  audio, controls = noise(1, N_SAMPLES), np.full([1, 1], 0.7, 'f')
  processors.Streamer(processor).process(audio, controls=controls)
  processor.set_sample_rate(48000)
  out = processors.Streamer(processor).process(audio, controls=controls)
  np.testing.assert_array_equal(out, processor(audio, controls))


def test_streams_in_a_process_of_their_own():
  audio, controls = noise(1, N_SAMPLES), np.full([1, 1], 0.7, 'f')
  out, expected = (
    processors.Streamer(plugin('onepole', isolation=isolation)).process(
      audio, controls=controls
    )
    for isolation in ('process', 'thread')
  )
  np.testing.assert_array_equal(out, expected)


def test_streams_that_cannot_be_are_named():
  processor, audio = plugin('gain'), noise(1, 100)
  controls = processor.get_controls(audio, [[0.5]])['controls']
  first = processor.initial_state(1)
  _, second = processor.stream(first, audio, controls)
  with pytest.raises(Exception, match="'gain' is to go on from sample 0 of"):
    processor.stream(first, audio, controls)
  processor.stream(second, audio, controls)
  with pytest.raises(ValueError, match="'fixed' .* whole blocks of 256"):
    processors.Streamer(plugin('fixed'))
  state = processor.initial_state(1)
  with tf.GradientTape() as tape:
    tape.watch(controls)
    out, _ = processor.stream(state, audio, controls)
  with pytest.raises(ValueError, match="'gain' has no gradient while it"):
    tape.gradient(out, controls)
  chain = effects.LV2Chain([processor, plugin('square')])
  with pytest.raises(ValueError, match='2 plugins'):
    chain.as_nodes(['audio', 'a', 'b', 'c'])
  streamer = processors.Streamer(processor, control_step=STEP)
  with pytest.raises(ValueError, match=r'controls has.*a frame for each 64'):
    streamer.process(audio, controls=[[0.5]])
