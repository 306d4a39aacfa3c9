"""How late audio is, and what it then shares with its target."""

import numpy as np
import numpy.typing as npt
import scipy.signal

from dafx.metrics import pairs

# As in `dafx.losses`: scores this close are tied, and an overlap of less than
# this share of the energy does not normalise its own score.
_SCORE_TOLERANCE = 1e-6
_MIN_OVERLAP_ENERGY = 1e-3
# Samples that are correlated at once, which bounds the memory.
_SAMPLES_AT_ONCE = 2**18


def find_lag(
  target: npt.ArrayLike,
  audio: npt.ArrayLike,
  max_lag: int,
  ignore_polarity: bool = False,
  by_overlap: bool = True,
) -> int:
  """Finds how late `audio` is: `dafx.losses.find_lag` for one file.

  A positive lag says that `audio` is late: `audio[n + lag]` matches
  `target[n]`. The lag is that of the largest normalised cross-correlation,
  channels together; of equally good ones (to 1e-6) it is the shortest, and of
  +l and -l, -l.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels].
    audio: Audio of the same shape.
    max_lag: Longest lag that is tried, in samples; 0 <= max_lag < n_samples.
    ignore_polarity: Whether an inverted match counts as a match.
    by_overlap: Whether the correlation at a lag is relative to the energy of
      the parts that overlap there, as in `dafx.losses`; otherwise all are
      relative to that of the files, and a short overlap counts less.

  Returns:
    Lag in samples, an int in [-max_lag, max_lag].

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes, or
      `max_lag` is not allowed.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> metrics.find_lag(target, np.roll(target, 7), max_lag=100)
    7
  """
  target, audio = pairs.check_pair(target, audio)
  n_samples = len(target)
  if max_lag != int(max_lag) or not 0 <= max_lag < n_samples:
    raise ValueError(
      f'max_lag={max_lag} samples must be an integer from 0 to '
      f'{n_samples - 1}, one less than n_samples.'
    )
  # Shortest first, since argmax takes the first of equals.
  lags = np.arange(-max_lag, max_lag + 1)
  lags = lags[np.argsort(np.abs(lags), kind='stable')]
  late, early = np.maximum(lags, 0), np.maximum(-lags, 0)

  correlation = _correlate(target, audio, max_lag)[lags + max_lag]

  def overlap_energy(signal, start, stop):
    energy = np.cumsum(np.sum(pairs.channels_first(signal) ** 2, axis=0))
    energy = np.concatenate([[0.0], energy])
    return energy[stop] - energy[start]

  norm = total = np.linalg.norm(target) * np.linalg.norm(audio)
  if by_overlap:
    norm = np.maximum(
      np.sqrt(
        overlap_energy(target, early, n_samples - late)
        * overlap_energy(audio, late, n_samples - early)
      ),
      _MIN_OVERLAP_ENERGY * total,
    )
  scores = correlation / np.where(norm > 0, norm, 1.0)
  if ignore_polarity:
    scores = np.abs(scores)
  return int(lags[np.argmax(scores >= np.max(scores) - _SCORE_TOLERANCE)])


def _correlate(target, audio, max_lag):
  """Returns the sum of audio[n + lag] * target[n], lag from -max_lag on.

  Shape [2 * max_lag + 1].
  """
  n_samples = len(target)
  size = max(_SAMPLES_AT_ONCE, 2 * max_lag)
  total = np.zeros(2 * max_lag + 1)
  for start in range(0, n_samples, size):
    part = target[start : start + size]
    first, last = start - max_lag, start + len(part) + max_lag
    padding = (max(-first, 0), max(last - n_samples, 0))
    around = audio[max(first, 0) : last]
    for t, a in zip(pairs.channels_first(part), pairs.channels_first(around)):
      a = np.pad(a, padding)
      total += scipy.signal.correlate(a, t, mode='valid', method='fft')
  return total


def align(
  target: npt.ArrayLike, audio: npt.ArrayLike, lag: int
) -> tuple[np.ndarray, np.ndarray]:
  """Cuts from both the part that they share at a lag.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels].
    audio: Audio of the same shape.
    lag: How late `audio` is, in samples, as `find_lag` gives it.

  Returns:
    Target and audio. Shape [n_samples - abs(lag)] or [n_samples - abs(lag),
    n_channels].

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes, or the
      lag leaves no overlap.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> first, second = metrics.align(target, np.roll(target, 7), lag=7)
    >>> len(first), np.array_equal(first, second)
    (44093, True)
  """
  target, audio = pairs.check_pair(target, audio)
  n_shared = len(target) - abs(lag)
  if n_shared <= 0:
    raise ValueError(
      f'lag={lag} leaves nothing of {len(target)} samples; abs(lag) must be '
      'less than n_samples.'
    )
  early, late = max(-lag, 0), max(lag, 0)
  return target[early : early + n_shared], audio[late : late + n_shared]
