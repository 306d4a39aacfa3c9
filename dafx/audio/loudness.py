"""What ITU-R BS.1770-4 says of loudness, for metrics, losses and encoders."""

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
# The absolute gate, below which audio counts as silent.
SILENCE_LUFS = -70.0


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
