"""Streaming a DAG: chunks of any size give what the whole audio gives."""

import ddsp
import numpy as np
import pytest
import tensorflow as tf
from cases import some_quick

from dafx import processors


class Delay(processors.Processor):
  """Delays by some samples; or, with `latency`, is late by them."""

  def __init__(self, n_samples, is_latency=False, name='delay'):
    super().__init__(name=name)
    self.n_samples = n_samples
    self.latency = n_samples if is_latency else 0

  def get_controls(self, audio):
    return {'audio': audio}

  def get_signal(self, audio):
    padded = tf.pad(audio, [[0, 0], [0, self.latency]])
    state = self.initial_state(audio.shape[0])
    return self.stream(state, padded)[0][:, self.latency :]

  def initial_state(self, batch_size):
    return tf.zeros([batch_size, self.n_samples])

  def stream(self, state, audio):
    line = tf.concat([state, audio], axis=1)
    return line[:, : audio.shape[1]], line[:, audio.shape[1] :]


class FrameCounter(processors.Node, tf.keras.layers.Layer):
  """Gives the number of the frame, and checks how audio is cut."""

  def __init__(self, frame_size, name):
    super().__init__(name=name)
    self.frame_size = frame_size

  def call(self, audio):
    return self.stream(self.initial_state(audio.shape[0]), audio)[0]

  def initial_state(self, batch_size):
    del batch_size
    return tf.constant(0)

  def stream(self, state, audio):
    n_samples, size = audio.shape[1], self.frame_size
    within = tf.debugging.Assert(
      (state % size == 0 and n_samples % size == 0)
      or state % size + n_samples <= size,
      [state, n_samples],
    )
    with tf.control_dependencies([within] if within is not None else []):
      n_frames = max(1, n_samples // size)
      frames = tf.range(n_frames) + state // size
    frames = tf.cast(frames, tf.float32)[tf.newaxis, :, tf.newaxis]
    controls = tf.tile(frames, [audio.shape[0], 1, 1])
    return {'controls': controls}, state + n_samples

  def stream_outputs(self, state, *inputs):
    return self.stream(state, *inputs)


class Scale(processors.Processor):
  """Multiplies by controls, frame by frame."""

  def __init__(self, name='scale'):
    super().__init__(name=name)

  def get_controls(self, audio, controls):
    return {'audio': audio, 'controls': controls}

  def get_signal(self, audio, controls):
    return self.stream((), audio, controls)[0]

  def stream(self, state, audio, controls):
    hop = -(-audio.shape[1] // controls.shape[1])
    gain = tf.repeat(tf.reduce_sum(controls, -1), hop, axis=1)
    return audio * gain[:, : audio.shape[1]], state


def stream_in_chunks(streamer, size, audio, **inputs):
  """Streams audio in chunks of one size, the last one shorter."""
  streamer.reset()
  out = [
    streamer.process(audio[:, i : i + size], **inputs)
    for i in range(0, audio.shape[1], size)
  ]
  return np.concatenate(out, axis=1)


AUDIO = np.random.default_rng(0).standard_normal([2, 512]).astype(np.float32)


@pytest.mark.parametrize('size', some_quick([1, 7, 16, 24, 48, 100, 512], [48]))
def test_frames_are_whole_or_parts_for_every_frame_size(size):
  group = processors.ProcessorGroup(
    [
      (FrameCounter(16, name='fast'), ['audio']),
      (FrameCounter(24, name='slow'), ['audio']),
      (Scale(name='by_fast'), ['audio', 'fast/controls']),
      (Scale(name='by_slow'), ['by_fast/signal', 'slow/controls']),
    ]
  )
  out = stream_in_chunks(processors.Streamer(group, 2), size, AUDIO)
  n = np.arange(512)
  np.testing.assert_allclose(out, AUDIO * (n // 16) * (n // 24), rtol=1e-6)


@pytest.mark.parametrize('size', [1, 5, 64, 512])
def test_latency_is_taken_out_and_parallel_paths_stay_together(size):
  group = processors.ProcessorGroup(
    [
      (Delay(5, is_latency=True, name='first'), ['audio']),
      (Delay(3, name='filter'), ['first/signal']),
      (Delay(2, is_latency=True, name='second'), ['filter/signal']),
      (ddsp.processors.Add(name='sum'), ['second/signal', 'audio']),
      (ddsp.processors.Add(name='sum_2'), ['sum/signal', 'first/signal']),
    ]
  )
  whole = group({'audio': AUDIO})
  expected = 2 * AUDIO
  expected[:, 3:] += AUDIO[:, :-3]
  np.testing.assert_allclose(whole[:, :505], expected[:, :505], rtol=1e-5)
  streamer = processors.Streamer(group, 2)
  assert streamer.latency == 7
  out = stream_in_chunks(streamer, size, AUDIO)
  assert out.shape == (2, 505)
  np.testing.assert_allclose(out, expected[:, :505], rtol=1e-5)


def test_controls_may_change_within_a_chunk():
  scale = Scale()
  controls = np.arange(1.0, 6.0, dtype=np.float32)[np.newaxis, :, np.newaxis]
  controls = np.repeat(controls, 2, axis=0)
  whole = scale(AUDIO, controls)
  streamer = processors.Streamer(scale, 2)
  out = streamer.process(audio=AUDIO, controls=controls)
  np.testing.assert_array_equal(out, whole)
  # One setting for the chunk: [batch, n_controls].
  streamer.reset()
  out = streamer.process(audio=AUDIO, controls=controls[:, 1])
  np.testing.assert_array_equal(out, 2 * AUDIO)


def test_state_goes_on_and_reset_goes_back():
  streamer = processors.Streamer(Delay(100), 2)
  first = streamer.process(AUDIO)
  second = streamer.process(AUDIO)
  np.testing.assert_array_equal(first[:, :100], 0 * AUDIO[:, :100])
  np.testing.assert_array_equal(second[:, :100], AUDIO[:, -100:])
  streamer.reset()
  np.testing.assert_array_equal(streamer.process(AUDIO), first)


def test_node_that_cannot_stream_is_named():
  group = processors.ProcessorGroup(
    [(ddsp.effects.FilteredNoiseReverb(name='room'), ['audio'])]
  )
  with pytest.raises(ValueError, match="'room' .FilteredNoiseReverb. cannot"):
    processors.Streamer(group)


def test_frames_behind_latency_are_refused():
  late = Delay(5, is_latency=True, name='late')
  group = processors.ProcessorGroup(
    [
      (late, ['audio']),
      (FrameCounter(16, name='counter'), ['late/signal']),
      (Scale(), ['late/signal', 'counter/controls']),
    ]
  )
  with pytest.raises(ValueError, match="'counter' works in frames of 16.* 5 "):
    processors.Streamer(group)
  group = processors.ProcessorGroup(
    [
      (FrameCounter(16, name='counter'), ['audio']),
      (late, ['audio']),
      (Scale(), ['late/signal', 'counter/controls']),
    ]
  )
  with pytest.raises(ValueError, match="'scale' .* 5 .*'counter' changes"):
    processors.Streamer(group)


@pytest.mark.parametrize(
  'inputs, message',
  [
    ({'audio': AUDIO[:1], 'controls': np.ones([1, 1])}, r'audio has shape \(1'),
    ({'audio': AUDIO, 'controls': np.ones([1, 1])}, 'controls has shape'),
    ({'audio': AUDIO, 'controls': np.ones([2, 513, 1])}, '513.*512 samples'),
    (
      {'audio': AUDIO, 'sidechain': AUDIO[:, 1:]},
      'sidechain has shape .2, 511',
    ),
  ],
)
def test_inputs_that_do_not_fit_are_named(inputs, message):
  with pytest.raises(ValueError, match=message):
    processors.Streamer(Scale(), 2).process(**inputs)
