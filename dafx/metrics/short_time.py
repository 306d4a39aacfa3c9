"""Short-time spectra of whole files, in parts that fit a cache."""

from collections.abc import Iterator

import numpy as np
import scipy.fft

# Values of spectra that are given at once. Whole ones of a song would take
# gigabytes; at this size a part stays in the processor's cache.
_VALUES_AT_ONCE = 2**17


def spectra(
  channels: np.ndarray, window: np.ndarray, n_fft: int, hop_size: int
) -> Iterator[np.ndarray]:
  """Yields the short-time spectrum of channels, part by part.

  Args:
    channels: Shape [n_channels, n_samples], at least a frame. What is to be
      before and behind the audio is there already.
    window: Shape [window_size], at most `n_fft`; it begins where a frame does.
    n_fft: Length of a transform: zeros are appended to shorter windows.
    hop_size: Samples from a frame to the next.

  Yields:
    Spectra of some frames of one channel, the first channel first, in the
    precision of the audio and the window. Shape [n_frames, n_fft // 2 + 1].
  """
  frames = np.lib.stride_tricks.sliding_window_view(
    channels, len(window), axis=1
  )[:, ::hop_size]  # [n_channels, n_frames, window_size]
  n_at_once = max(1, _VALUES_AT_ONCE // n_fft)
  for channel in frames:
    for first in range(0, len(channel), n_at_once):
      yield scipy.fft.rfft(channel[first : first + n_at_once] * window, n_fft)
