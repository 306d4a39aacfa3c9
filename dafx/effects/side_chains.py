"""Side chains of plugins that hear something else than what goes in."""

from collections.abc import Callable

import tensorflow as tf

from dafx import lv2
from dafx.effects import render_ops


def run(
  render: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
  plugin: lv2.Plugin,
  audio: tf.Tensor,
  controls: tf.Tensor,
  sidechain: tf.Tensor,
  is_mixed: bool,
) -> tf.Tensor:
  """Renders audio while the side chains hear other audio.

  A plugin of one channel renders each channel of the audio by itself; its side
  chain hears the channel of that number, or the one that there is.

  Args:
    render: From (audio with a channel for each input of the plugin, controls)
      to audio.
    plugin: The plugin.
    audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
    controls: In port units, shape [batch, n_frames, n_controls].
    sidechain: For the side chains, in one of these shapes; one channel for all
      of them, or one for each. More, for a single side chain, are mixed.
    is_mixed: Whether mono audio comes back as mono, the mean of the outputs.

  Returns:
    Audio in the shape that comes without a side chain.

  Raises:
    ValueError: The plugin has no side chain, or takes other channels.
  """
  audio, is_mono = render_ops.with_channels(audio)
  sidechain, _ = render_ops.with_channels(sidechain)
  n_main, n_side = len(plugin.main_inputs), len(plugin.side_chains)
  n_channels, n_given = audio.shape[-1], sidechain.shape[-1]
  if not n_side:
    raise ValueError(
      f'{plugin.uri} has no side chain. Its inputs: '
      f'{lv2.describe_inputs(plugin)}.'
    )
  is_split = n_main == 1 and len(plugin.audio_outputs) == 1 and n_channels > 1
  if n_channels not in (1, n_main) and not is_split:
    raise ValueError(
      f'audio has {n_channels} channels; beside a side chain, {plugin.uri} '
      f'takes {n_main}, or 1 for all of them.'
    )
  if is_split:
    if n_given not in (1, n_channels):
      raise ValueError(
        f'sidechain has {n_given} channels; for audio of {n_channels} it must '
        f'have 1 or {n_channels}.'
      )
    # Channels become items of their own.
    keys = tf.repeat(sidechain, n_channels // n_given, axis=-1)
    inputs = tf.concat(
      _inputs(plugin, _as_items(audio), _as_items(keys)), axis=-1
    )
    signal = render(inputs, tf.repeat(controls, n_channels, axis=0))
    n_samples = tf.shape(audio)[1]
    signal = tf.reshape(signal, [-1, n_channels, n_samples])
    return tf.transpose(signal, [0, 2, 1])
  if n_given not in (1, n_side):
    if n_side > 1:
      raise ValueError(
        f'sidechain has {n_given} channels; {plugin.uri} takes {n_side}, or 1 '
        'for all of its side chains.'
      )
    sidechain = tf.reduce_mean(sidechain, axis=-1, keepdims=True)
  inputs = tf.concat(_inputs(plugin, audio, sidechain), axis=-1)
  signal = render(inputs, controls)
  if n_channels == 1 and is_mixed:
    signal = tf.reduce_mean(signal, axis=-1, keepdims=True)
  return signal[..., 0] if is_mono and signal.shape[-1] == 1 else signal


def _as_items(signal):
  """[batch, n_samples, n_channels] to [batch * n_channels, n_samples, 1]."""
  by_channel = tf.transpose(signal, [0, 2, 1])
  return tf.reshape(by_channel, [-1, tf.shape(signal)[1], 1])


def _inputs(plugin, audio, sidechain):
  """Returns what each audio input gets, in port order, with an axis each."""

  def channel(signal, ports, port):
    i = ports.index(port) if signal.shape[-1] > 1 else 0
    return signal[..., i : i + 1]

  return [
    channel(sidechain, plugin.side_chains, port)
    if port in plugin.side_chains
    else channel(audio, plugin.main_inputs, port)
    for port in plugin.audio_inputs
  ]
