"""Which channels of audio a plugin hears, and which come out of it."""

import numpy as np

from dafx import lv2


def are_apart(renderer: lv2.Renderer) -> bool:
  """Returns whether channels are rendered each by itself."""
  return renderer.n_channels_in == renderer.n_channels_out == 1


def n_channels_out(
  renderer: lv2.Renderer, n_channels: int, is_mixed: bool, name: str
) -> int:
  """Returns the number of channels that come out.

  Args:
    renderer: Renders the plugin.
    n_channels: Number of channels that go in.
    is_mixed: Whether mono audio comes back as mono.
    name: Of the node, for messages.

  Raises:
    ValueError: The plugin takes another number.
  """
  if are_apart(renderer):
    return n_channels
  plugin = renderer.plugin
  if n_channels not in (1, renderer.n_channels_in, len(plugin.audio_inputs)):
    raise ValueError(
      f'audio has {n_channels} channels; {name!r} ({plugin.uri}) takes '
      f'{lv2.describe_inputs(plugin)}.'
    )
  return 1 if n_channels == 1 and is_mixed else renderer.n_channels_out


def split(audio: np.ndarray) -> np.ndarray:
  """Returns channels as items, [batch * n_channels, n_samples, 1].

  Args:
    audio: Shape [batch, n_samples, n_channels].
  """
  return np.moveaxis(audio, -1, 1).reshape(-1, audio.shape[1], 1)


def join(audio: np.ndarray, n_channels: int) -> np.ndarray:
  """Returns items as channels again; see `split`."""
  by_channel = audio.reshape(-1, n_channels, audio.shape[1])
  return np.moveaxis(by_channel, 1, -1)


def mix(audio: np.ndarray) -> np.ndarray:
  """Returns the mean of the channels, [batch, n_samples, 1].

  Args:
    audio: Shape [batch, n_samples, n_channels], finite.
  """
  # Divided first: the sum of samples near the largest float is infinite.
  share = np.float32(1.0 / audio.shape[-1])
  return (share * audio).sum(axis=-1, keepdims=True)
