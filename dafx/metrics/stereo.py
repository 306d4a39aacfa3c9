"""What two channels make together: width, and what is left of them in mono."""

import numpy as np
import numpy.typing as npt

from dafx.metrics import pairs

# Beyond this a ratio counts as this: a side 60 dB below the middle is mono to
# the ear, and 16 bits of dither on a mono file must not make a difference.
_LIMIT_DB = 60.0
# Samples that are summed at once, which bounds the memory.
_SAMPLES_AT_ONCE = 2**18


def width_db(audio: npt.ArrayLike) -> float:
  """Level of the side over that of the middle, in dB.

  The middle is half the sum of left and right, the side half their difference.

  Args:
    audio: Audio, not silent. Shape [n_samples, 2].

  Returns:
    Width in dB, from -60 (mono, or nearly) to 60 (one channel is the other
    upside down); 0 for independent channels, or one that is silent.

  Raises:
    ValueError: If the audio is empty, not finite, silent or not of two
      channels.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> audio = np.random.default_rng(0).normal(0.0, 0.1, [44100, 2])
    >>> round(metrics.width_db(audio))
    0
    >>> metrics.width_db(np.repeat(audio[:, :1], 2, axis=1))  # mono
    -60.0
  """
  middle, side = _energies(_check_stereo(audio, 'width_db'))
  return _ratio_db(side, middle)


def mono_sum_db(audio: npt.ArrayLike) -> float:
  """Level of the mean of the channels over that of the channels, in dB.

  Args:
    audio: Audio, not silent. Shape [n_samples, 2].

  Returns:
    Level in dB, from -60 (nothing is left in mono) to 0 (equal channels);
    -3.01 for independent channels of equal level.

  Raises:
    ValueError: If the audio is empty, not finite, silent or not of two
      channels.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> audio = np.random.default_rng(0).normal(0.0, 0.1, [44100, 2])
    >>> round(metrics.mono_sum_db(audio))
    -3
  """
  middle, side = _energies(_check_stereo(audio, 'mono_sum_db'))
  # Both together have half the energy of left and right.
  return _ratio_db(middle, middle + side)


def width_error_db(target: npt.ArrayLike, audio: npt.ArrayLike) -> float:
  """Absolute difference of `width_db`, whatever the levels.

  Args:
    target: Target audio, not silent. Shape [n_samples, 2].
    audio: Audio of the same shape, not silent.

  Returns:
    Difference in dB, from 0 to 120.

  Raises:
    ValueError: As `width_db`, or if the shapes are unequal.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> audio = np.random.default_rng(0).normal(0.0, 0.1, [44100, 2])
    >>> metrics.width_error_db(audio, audio[:, ::-1])
    0.0
  """
  target, audio = pairs.check_pair(target, audio)
  return abs(width_db(target) - width_db(audio))


def mono_sum_error_db(target: npt.ArrayLike, audio: npt.ArrayLike) -> float:
  """Absolute difference of `mono_sum_db`, whatever the levels.

  Args:
    target: Target audio, not silent. Shape [n_samples, 2].
    audio: Audio of the same shape, not silent.

  Returns:
    Difference in dB, from 0 to 60.

  Raises:
    ValueError: As `mono_sum_db`, or if the shapes are unequal.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> audio = np.random.default_rng(0).normal(0.0, 0.1, [44100, 2])
    >>> metrics.mono_sum_error_db(audio, 0.5 * audio)
    0.0
  """
  target, audio = pairs.check_pair(target, audio)
  return abs(mono_sum_db(target) - mono_sum_db(audio))


def _check_stereo(audio, metric):
  """Returns audio of two channels that is not silent, in float64."""
  audio = pairs.check_signal('audio', audio)
  if audio.ndim != 2 or audio.shape[1] != 2:
    raise ValueError(
      f'audio has shape {audio.shape}; {metric} takes stereo, [n_samples, 2]. '
      'Leave it out for audio of another number of channels.'
    )
  if not audio.any():
    raise ValueError(
      f'The audio is silent: {metric} is a ratio of levels. Leave out silent '
      'files.'
    )
  return audio


def _energies(audio):
  """Returns the energies of middle and side."""
  middle, side = 0.0, 0.0
  for start in range(0, len(audio), _SAMPLES_AT_ONCE):
    left, right = audio[start : start + _SAMPLES_AT_ONCE].T
    middle += np.sum((0.5 * (left + right)) ** 2)
    side += np.sum((0.5 * (left - right)) ** 2)
  return middle, side


def _ratio_db(energy, reference):
  with np.errstate(divide='ignore'):
    ratio_db = 10.0 * (np.log10(energy) - np.log10(reference))
  return float(np.clip(ratio_db, -_LIMIT_DB, _LIMIT_DB))
