"""What ITU-R BS.1770-4 says of loudness, and gains that reach one."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pyloudnorm
import scipy.signal

# The filters of K-weighting: gain in dB, quality, corner in Hz, and their kind.
_K_WEIGHTING = (
  ((4.0, 2**-0.5, 1500.0), 'high_shelf'),
  ((0.0, 0.5, 38.0), 'high_pass'),
)
# Weights of left, right, centre, left surround and right surround.
CHANNEL_GAINS = (1.0, 1.0, 1.0, 1.41, 1.41)
# What makes a sine of 997 Hz at full scale -3.01.
OFFSET_LUFS = -0.691
# How near a search for a gain ends, and its largest gain and step.
_TOLERANCE_LU = 0.05
_MAX_GAIN_DB = 60.0
_MAX_STEP_DB = 24.0
# A limiter that limits all lets through this share of a gain at least.
_LEAST_SLOPE = 0.1
# The absolute gate, below which audio counts as silent.
SILENCE_LUFS = -70.0

_Output = TypeVar('_Output')


def k_filters(sample_rate: float) -> list[pyloudnorm.IIRfilter]:
  """Returns the two filters of K-weighting at a rate.

  Args:
    sample_rate: In Hz.
  """
  return [
    pyloudnorm.IIRfilter(*design, sample_rate, kind)
    for design, kind in _K_WEIGHTING
  ]


def k_power(hz: np.ndarray, sample_rate: float) -> np.ndarray:
  """Returns the power gain of K-weighting at frequencies.

  Args:
    hz: Frequencies, [n].
    sample_rate: In Hz.

  Returns:
    Shape [n].
  """
  gains = np.ones(len(hz))
  for unit in k_filters(sample_rate):
    _, response = scipy.signal.freqz(unit.b, unit.a, hz, fs=sample_rate)
    gains *= np.abs(response * unit.passband_gain) ** 2
  return gains


def find_gain(
  render: Callable[[float], tuple[float, _Output]],
  lufs: float,
  gain_db: float = 0.0,
  n_renders: int = 6,
) -> tuple[float, _Output]:
  """Finds the gain into something, such as a limiter, that gives a loudness.

  By the secant method, which stops once it is within 0.05 LU.

  Args:
    render: Takes a gain in dB, and returns the loudness that comes of it, in
      LUFS, and the output.
    lufs: What it is to be.
    gain_db: Where to start.
    n_renders: How often to render at most, >= 1.

  Returns:
    (gain in dB, output): of what was tried, what is nearest.
  """
  slope, last = 1.0, None  # of the last render: gain in dB, error in LU
  best: tuple[float, float, _Output] | None = None  # |error|, gain, output
  for _ in range(n_renders):
    gain_db = float(np.clip(gain_db, -_MAX_GAIN_DB, _MAX_GAIN_DB))
    reached, output = render(gain_db)
    error = reached - lufs
    if best is None or abs(error) < best[0]:
      best = abs(error), gain_db, output
    if abs(error) < _TOLERANCE_LU:
      break
    if last is not None and last[0] != gain_db:
      rise = (error - last[1]) / (gain_db - last[0])
      slope = float(np.clip(rise, _LEAST_SLOPE, 1.0))
    last = gain_db, error
    gain_db -= float(np.clip(error / slope, -_MAX_STEP_DB, _MAX_STEP_DB))
  assert best is not None
  return best[1:]
