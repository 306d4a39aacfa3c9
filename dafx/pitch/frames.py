"""Audio cut into frames that lie around given times."""

from collections.abc import Iterator

import numpy as np

from dafx import _arguments

# What trackers and loudness hear, in Hz.
SAMPLE_RATE = 16000
# Frames that are worked on at a time, to bound the memory.
_AT_ONCE = 4096


def check_audio(
  audio: np.ndarray, sample_rate: int, frame_rate: float
) -> np.ndarray:
  """Returns audio as float32, or raises ValueError for what is none.

  Args:
    audio: Shape [n_samples].
    sample_rate: In Hz.
    frame_rate: Frames per second.
  """
  audio = np.asarray(_arguments.audio_array('audio', audio), np.float32)
  if audio.ndim != 1 or not audio.size:
    raise ValueError(
      f'audio has shape {audio.shape}; it must be [n_samples], with at least '
      'one sample. Take the mean of channels before.'
    )
  if not np.isfinite(audio).all():
    raise ValueError('audio has samples that are not finite.')
  if not sample_rate > 0 or not frame_rate > 0:
    raise ValueError(
      f'sample_rate={sample_rate} and frame_rate={frame_rate} must be above 0.'
    )
  return audio


def n_frames(n_samples: int, sample_rate: int, frame_rate: float) -> int:
  """Returns how many frames begin in so many samples."""
  # Rates such as 187.5 are exact in floats; a sample is far more than rounding.
  return int(np.ceil(n_samples * frame_rate / sample_rate - 1e-6))


def times_s(n_samples: int, sample_rate: int, frame_rate: float) -> np.ndarray:
  """Returns when each frame begins, in seconds, [n_frames]."""
  return np.arange(n_frames(n_samples, sample_rate, frame_rate)) / frame_rate


def around(
  audio: np.ndarray, times_s: np.ndarray, size: int
) -> Iterator[np.ndarray]:
  """Yields frames of audio at 16 kHz, with silence beyond its ends.

  Args:
    audio: Shape [n_samples].
    times_s: The middles of frames, [n_frames], >= 0.
    size: Samples of a frame.

  Yields:
    Frames of shape [n, size], together one for each time.
  """
  starts = np.round(times_s * SAMPLE_RATE).astype(int)
  after = max(int(starts.max(initial=0)) + size - len(audio) - size // 2, 0)
  padded = np.pad(audio, (size // 2, after))
  views = np.lib.stride_tricks.sliding_window_view(padded, size)
  for start in range(0, len(starts), _AT_ONCE):
    yield views[starts[start : start + _AT_ONCE]]
