"""Streams through a plugin: what it holds goes on from chunk to chunk."""

import functools

import numpy as np
import tensorflow as tf

from dafx import core, lv2
from dafx.effects import side_chains


class PluginStream:
  """Renders chunk after chunk through instances that go on.

  There is one stream at a time: beginning another ends it. A state is the
  number of the stream and of the samples that it has taken. It stands for what
  the instances hold, which never goes back, so each state can be streamed from
  once; anything else is an error.

  Args:
    processor: The `LV2Plugin`.
    make_renderer: Returns a stateful lv2.Renderer of it.
  """

  def __init__(self, processor, make_renderer):
    self._processor = processor
    self._make_renderer = make_renderer
    self._renderer: lv2.Renderer | None = None
    self._state = np.zeros(2, np.int64)

  def begin(self) -> tf.Tensor:
    """Begins a stream; returns its state before the first sample, int64 [2].

    Raises:
      ValueError: The plugin runs whole blocks only.
    """
    processor = self._processor
    if processor.plugin.needs_fixed_block:
      raise ValueError(
        f'{processor.name!r} ({processor.uri}) runs whole blocks of '
        f'{processor.block_size} samples only: pieces of any size cannot be '
        'streamed through it. Process the whole audio at once.'
      )
    if self._renderer is None:
      self._renderer = self._make_renderer()
    self._renderer.reset_state()
    self._state = np.array([self._state[0] + 1, 0])
    return tf.constant(self._state)

  def go_on(
    self,
    state,
    audio: tf.Tensor,
    controls: tf.Tensor,
    sidechain: tf.Tensor | None = None,
  ):
    """Renders the next chunk; see `LV2Plugin.stream`."""
    if sidechain is None:
      return self._go_on(state, audio, controls)
    processor, after = self._processor, [state]

    def render(audio, controls):
      signal, after[0] = self._go_on(state, audio, controls, is_keyed=True)
      return signal

    signal = side_chains.run(
      render, processor.plugin, audio, controls, sidechain,
      is_mixed=processor.channels == 'mono',
    )  # fmt: skip
    return signal, after[0]

  def _go_on(self, state, audio, controls, is_keyed=False):
    """Renders audio that has a channel for each input if it `is_keyed`."""
    processor = self._processor
    audio = core.audio_tensor('audio', audio)
    is_mono = audio.shape.rank == 2
    audio = audio[..., tf.newaxis] if is_mono else audio
    render_chunk = processor.render_keyed if is_keyed else processor.render
    n_out = (
      len(processor.plugin.audio_outputs)
      if is_keyed
      else processor.n_channels_out(audio.shape[-1])
    )

    @tf.custom_gradient
    def render(audio, controls):
      signal, after = core.call_python(
        functools.partial(self._render, render_chunk),
        [state, audio, controls],
        [tf.float32, tf.int64],
        'the rendering of a plugin',
        stateful=True,
      )
      signal.set_shape([*audio.shape[:-1], n_out])
      after.set_shape([2])

      def gradient(*cotangents):
        del cotangents
        raise ValueError(
          f'{processor.name!r} has no gradient while it streams: what it holds '
          'cannot go back. Train on whole crops.'
        )

      return (signal, after), gradient

    signal, state = render(audio, controls)
    return signal[..., 0] if is_mono and n_out == 1 else signal, state

  def _render(self, render, state, audio, controls):
    """Renders NumPy audio; returns (signal, state)."""
    if not np.array_equal(state, self._state):
      raise ValueError(
        f'{self._processor.name!r} is to go on from sample {state[1]} of '
        f'stream {state[0]}, but is at {self._state[1]} of stream '
        f'{self._state[0]}: it keeps one stream, which never goes back. Begin '
        'anew by initial_state (Streamer.reset); make a plugin for each stream.'
      )
    signal = render(audio, controls, renderer=self._renderer)
    self._state = state + np.array([0, audio.shape[1]])
    return signal, self._state
