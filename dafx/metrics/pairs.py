"""What all metrics ask of audio."""

import numpy as np
import numpy.typing as npt

from dafx import _arguments


def check_signal(name: str, signal: npt.ArrayLike) -> np.ndarray:
  """Returns the signal in float64, or raises ValueError.

  What is float64 already is not copied: metrics must not write on it.
  """
  signal = _arguments.audio_array(name, signal)
  if signal.ndim not in (1, 2) or signal.size == 0:
    raise ValueError(
      f'{name} has shape {signal.shape}; it must be [n_samples] or [n_samples, '
      'n_channels], and not empty. Pass one file at a time.'
    )
  n_bad = np.count_nonzero(~np.isfinite(signal))
  if n_bad:
    raise ValueError(
      f'{name} has {n_bad} of {signal.size} samples that are NaN or infinite; '
      'all must be finite.'
    )
  return signal.astype(np.float64, copy=False)


def check_pair(
  target: npt.ArrayLike, audio: npt.ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
  """Returns both in float64, or raises ValueError."""
  target = check_signal('target', target)
  audio = check_signal('audio', audio)
  if target.shape != audio.shape:
    raise ValueError(
      f'target has shape {target.shape} and audio {audio.shape}; they must be '
      'equal. Crop both to one length and give both the same channels.'
    )
  return target, audio


def check_sample_rate(sample_rate: float):
  """Raises ValueError unless a sample rate, in Hz, is positive."""
  if not (_arguments.is_finite(sample_rate) and sample_rate > 0):
    raise ValueError(
      f'sample_rate={sample_rate} must be a number of Hz above 0. Give the '
      'rate of the audio, such as 44100.'
    )


def check_length(signal: np.ndarray, min_samples: int, metric: str):
  """Raises ValueError for a signal of less than so many samples."""
  if len(signal) < min_samples:
    raise ValueError(
      f'The audio has {len(signal)} samples; {metric} needs at least '
      f'{min_samples}, one frame. Use a longer clip.'
    )


def pieces(n_samples: int, size: int) -> list[tuple[int, int]]:
  """Returns (start, stop) of pieces of `size` samples; the last takes the rest.

  The last is as long as half to one and a half of the others, or is all.
  """
  starts = range(0, max(1, n_samples - size // 2), size)
  return list(zip(starts, [*starts[1:], n_samples]))


def channels_first(signal: np.ndarray) -> np.ndarray:
  """[n_samples] or [n_samples, n_channels] -> [n_channels, n_samples]."""
  return np.atleast_2d(signal.T)


def target_energy(target: np.ndarray, metric: str) -> float:
  """Returns the energy of a target, or raises ValueError for silence."""
  energy = np.vdot(target, target)
  if not energy > 0:
    raise ValueError(
      f'The target (or a channel of it) is silent: {metric} is relative to its '
      'energy. Leave out silent files.'
    )
  return energy
