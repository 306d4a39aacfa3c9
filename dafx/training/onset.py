"""Where the answer of a processor begins, whatever it did to phases.

`align` finds the lag at which two signals are most alike. For a filter that is
the middle of its answer. Crossovers turn the phases of a bass, which then
correlates best late, or upside down.
"""

import dataclasses

import numpy as np
import scipy.fft
import scipy.signal

from dafx.training import align, likeness

# An answer begins where it comes to this share of its peak, so long before the
# peak at most. It is estimated from windows so long, and where the input has at
# least this share of its mean power.
_ONSET = 0.25
_ONSET_S = 2e-3
_ANSWER_SAMPLES = 4096
_POWER_FLOOR = 1e-3

# Below this correlation a processor has turned phases, as crossovers do (0.45
# and less through Calf's multiband compressor; 0.89 and more through plugins
# without), and so many samples are the delay of its filters.
_PHASES_KEPT, _DELAY_SAMPLES = 0.8, 3


def find_lag(
  audio: np.ndarray, target: np.ndarray, sample_rate: int
) -> align.Alignment:
  """Finds how a target lies to its input, whatever became of phases.

  As `align.align`, but where phases were turned the lag is that at which the
  answer begins, none if that is within 3 samples, and polarity, which cannot be
  told from phases then, is taken to be the input's.

  Args:
    audio: The input, [n_samples, n_channels].
    target: The target, [n_samples, n_channels].
    sample_rate: Of both, in Hz.

  Returns:
    What was found.

  Raises:
    AlignmentError: As `align.align`.
  """
  found = align.align(audio, target, sample_rate)
  if found.confidence >= _PHASES_KEPT:
    return found
  lag = causal_lag(audio, target, sample_rate, found.lag_samples)
  return dataclasses.replace(
    found,
    lag_samples=0.0 if abs(lag) <= _DELAY_SAMPLES else float(lag),
    polarity=1,
  )


def causal_lag(
  audio: np.ndarray, target: np.ndarray, sample_rate: int, lag_samples: float
) -> int:
  """Finds where the answer of an effect begins, from where it is strongest.

  `align` finds the lag at which both are most alike. Of a filter that is the
  middle of its answer, and a network that is causal cannot learn what comes
  before. The answer is estimated by Welch's method; what its beginning owes to
  the spectrum of the input, which rings before a peak too, does not count.

  Args:
    audio: The input, [n_samples, n_channels].
    target: The target, likewise.
    sample_rate: Of both, in Hz.
    lag_samples: What `align` found.

  Returns:
    The lag in whole samples at which the answer begins.
  """
  x, y = (
    likeness.high_passed(side.mean(axis=1), sample_rate)
    for side in (audio, target)
  )
  whole = round(lag_samples)
  first, last = max(0, -whole), min(len(x), len(y) - whole)
  x, y = x[first:last], y[first + whole : last + whole]
  n_fft = min(_ANSWER_SAMPLES, len(x))
  power, cross = (
    scipy.signal.csd(x, other, nperseg=n_fft, detrend=False)[1]
    for other in (x, y)
  )
  floor = _POWER_FLOOR * np.mean(power.real)
  n_before = min(int(_ONSET_S * sample_rate), n_fft // 4)

  def samples_before(spectrum):
    answer = np.abs(scipy.fft.irfft(spectrum / (power.real + floor), n_fft))
    around = np.roll(answer, n_before)[: 2 * n_before + 1]
    return max(n_before - int(np.argmax(around >= _ONSET * around.max())), 0)

  return whole - max(samples_before(cross) - samples_before(power), 0)
