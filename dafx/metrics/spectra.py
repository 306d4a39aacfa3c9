"""Distances of spectra: short-time ones in six sizes, and the average one."""

import numpy as np
import numpy.typing as npt
import scipy.signal

from dafx.metrics import pairs as checks
from dafx.metrics import short_time

# Frames in samples, and what is added to a magnitude before its logarithm.
_FRAME_SIZES = (2048, 1024, 512, 256, 128, 64)
_MAGNITUDE_FLOOR = 1e-5
# The average spectrum: frames in samples, the middles of its third octaves
# (50 Hz to 12.7 kHz), and what is added to a density in 1/Hz.
_WELCH_SIZE = 8192
THIRD_OCTAVES_HZ = 1000.0 * 2.0 ** (np.arange(-13, 12) / 3)
_DENSITY_FLOOR = 1e-15
# Samples that are transformed at once, which bounds the memory.
_SAMPLES_AT_ONCE = 2**16


def multi_scale_spectral(target: npt.ArrayLike, audio: npt.ArrayLike) -> float:
  """Multi-scale spectral distance, of six frame sizes.

  Mean over frames of 2,048, 1,024, 512, 256, 128 and 64 samples of the mean
  absolute difference of the magnitudes plus that of their natural logarithms,
  1e-5 added to each magnitude: DDSP's loss (Engel et al., 2020,
  https://arxiv.org/abs/2001.04643), divided by the number of sizes. Periodic
  Hann windows, hops of a quarter frame, frames centred, with zeros at both
  ends. It follows the level of the file; see `matched`.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels].
    audio: Audio of the same shape.

  Returns:
    Distance, >= 0; mean over channels.

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> metrics.multi_scale_spectral(target, -target)
    0.0
  """
  target, audio = checks.check_pair(target, audio)
  distances = []
  for size in _FRAME_SIZES:
    total, n_values = 0.0, 0
    for a, b in zip(
      _magnitudes(target, size), _magnitudes(audio, size), strict=True
    ):
      ratio = (a + _MAGNITUDE_FLOOR) / (b + _MAGNITUDE_FLOOR)
      total += np.sum(np.abs(a - b)) + np.sum(np.abs(np.log(ratio)))
      n_values += a.size
    distances.append(total / n_values)
  return float(np.mean(distances))


def _magnitudes(signal, size):
  """Yields parts of a spectrogram, [n_frames, size // 2 + 1]."""
  half = size // 2
  channels = np.pad(checks.channels_first(signal), ((0, 0), (half, half)))
  window = scipy.signal.get_window('hann', size)  # periodic
  for part in short_time.spectra(channels, window, size, size // 4):
    yield np.sqrt(part.real**2 + part.imag**2)  # faster than np.abs


def average_spectrum_db(audio: npt.ArrayLike, sample_rate: float) -> np.ndarray:
  """Average spectrum in third octaves, in dB.

  Mean density by Welch's method (frames of 8,192 samples, Hann window, half
  overlap) in bands around 1,000 · 2^(k/3) Hz, k from -13 (50 Hz) to 11 (12.7
  kHz), 1e-15 added.

  Args:
    audio: Audio. Shape [n_samples] or [n_samples, n_channels], at least 8,192
      samples.
    sample_rate: Sample rate in Hz, > 0.

  Returns:
    Levels in dB, of the mean power of the channels. Shape [25]; NaN for a band
    that holds no bin of the spectrum, such as one above half the sample rate.

  Raises:
    ValueError: If the audio is empty, too short or not finite, or
      `sample_rate` is not allowed.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> metrics.average_spectrum_db(target, 44100).shape
    (25,)
    >>> metrics.THIRD_OCTAVES_HZ[[0, 13]].round().tolist()
    [50.0, 1000.0]
  """
  audio = checks.check_signal('audio', audio)
  checks.check_sample_rate(sample_rate)
  checks.check_length(audio, _WELCH_SIZE, 'the average spectrum')
  hop = _WELCH_SIZE // 2
  n_frames, n_at_once = len(audio) // hop - 1, _SAMPLES_AT_ONCE // hop
  total = np.zeros(hop + 1)
  for first in range(0, n_frames, n_at_once):
    n_here = min(n_at_once, n_frames - first)
    piece = audio[first * hop : (first + n_here + 1) * hop]
    frequencies_hz, density = scipy.signal.welch(
      checks.channels_first(piece), sample_rate, nperseg=_WELCH_SIZE
    )
    total += n_here * density.mean(axis=0)
  density = total / n_frames
  levels = np.full(len(THIRD_OCTAVES_HZ), np.nan)
  for i, middle_hz in enumerate(THIRD_OCTAVES_HZ):
    low_hz, high_hz = (middle_hz * 2.0 ** (side / 6) for side in (-1, 1))
    is_in = (frequencies_hz >= low_hz) & (frequencies_hz < high_hz)
    if is_in.any():
      levels[i] = 10.0 * np.log10(density[is_in].mean() + _DENSITY_FLOOR)
  return levels


def average_spectrum_error_db(
  target: npt.ArrayLike, audio: npt.ArrayLike, sample_rate: float
) -> float:
  """How far the average spectrum is from the target's, whatever the level.

  Args:
    target: Target audio, not silent. Shape [n_samples] or [n_samples,
      n_channels], at least 8,192 samples.
    audio: Audio of the same shape, not silent.
    sample_rate: Sample rate in Hz, > 0.

  Returns:
    Mean over third octaves of |d - mean d| in dB, d being the difference of
    `average_spectrum_db`; >= 0.

  Raises:
    ValueError: As `average_spectrum_db`, or if the shapes are unequal or one
      of both is silent: silence has no spectrum.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> round(metrics.average_spectrum_error_db(target, 0.5 * target, 44100), 6)
    0.0
  """
  target, audio = checks.check_pair(target, audio)
  for name, signal in (('target', target), ('audio', audio)):
    if not signal.any():
      raise ValueError(
        f'The {name} is silent and has no average spectrum. Leave out silent '
        'files.'
      )
  gap_db = average_spectrum_db(audio, sample_rate)
  gap_db = gap_db - average_spectrum_db(target, sample_rate)
  gap_db = gap_db[np.isfinite(gap_db)]
  return float(np.mean(np.abs(gap_db - gap_db.mean())))
