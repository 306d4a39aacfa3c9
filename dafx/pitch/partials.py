"""What the partials of a sound say about its pitch.

A tracker gives a pitch that may be an octave off, or some cents. The spectrum
around each frame decides on the octave, and says where the partials are.
"""

from collections.abc import Iterator

import numpy as np
import scipy.signal

from dafx.pitch import frames

# Samples of a spectrum: so that partials lie at least four bins apart.
_SIZES = ((125.0, 1024), (0.0, 2048))  # from which pitch on
_N_PARTIALS = 10
# Of the magnitudes at multiples of half a pitch, the share that lies between
# its partials: from so much on, the pitch is an octave too high. Measured: 0.22
# at most where it is right, 0.47 at least where it is not.
_MOST_BETWEEN = 0.35
# Of the magnitudes of its partials, the share of the odd ones: below so much,
# it is an octave too low. Measured: 0.26 at least, and 0.05 at most.
_LEAST_ODD = 0.12
# How far up it counts what lies beside partials.
_SHARE_BELOW_HZ = 4000.0


def _by_size(f0_hz) -> Iterator[tuple[np.ndarray, int]]:
  """Yields (which frames, samples of their spectra), where there are some."""
  above = np.inf
  for low_hz, size in _SIZES:
    indices = np.flatnonzero((f0_hz >= low_hz) & (f0_hz < above))
    if len(indices):
      yield indices, size
    above = low_hz


def correct_octaves(
  audio: np.ndarray,
  f0_hz: np.ndarray,
  times_s: np.ndarray,
  f_min_hz: float,
  f_max_hz: float,
) -> np.ndarray:
  """Moves a pitch by octaves where its partials say so.

  A pitch that has no odd partials is the octave below; one that has partials
  halfway between its own is the octave above.

  Args:
    audio: Audio at 16 kHz, [n_samples].
    f0_hz: Pitch of each frame, [n_frames].
    times_s: The middles of the frames, [n_frames].
    f_min_hz: The lowest pitch that may come out.
    f_max_hz: The highest.

  Returns:
    Pitch in Hz, [n_frames].
  """
  f0_hz = f0_hz.copy()
  left = np.arange(len(f0_hz))
  for _ in range(2):  # octaves that a tracker may be off
    is_odd, is_between = _shares(audio, f0_hz[left], times_s[left])
    factor = np.where(is_odd < _LEAST_ODD, 2.0, 1.0)
    factor[is_between > _MOST_BETWEEN] = 0.5
    moved = f0_hz[left] * factor
    is_moved = (factor != 1.0) & (moved >= f_min_hz) & (moved <= f_max_hz)
    left, moved = left[is_moved], moved[is_moved]
    f0_hz[left] = moved
  return f0_hz


def _shares(audio, f0_hz, times_s):
  """Returns the shares of odd partials, and of what lies between, [n] each."""
  odd, between = np.ones(len(f0_hz)), np.zeros(len(f0_hz))
  numbers = np.arange(1, 2 * _N_PARTIALS + 1)  # of multiples of f0 / 2
  for indices, size in _by_size(f0_hz / 2.0):
    window, done = scipy.signal.get_window('hann', size), 0
    for part in frames.around(audio, times_s[indices], size):
      own = indices[done : done + len(part)]
      done += len(part)
      magnitudes = np.abs(np.fft.rfft(window * part))
      bin_hz = frames.SAMPLE_RATE / size
      bins = np.round(f0_hz[own, None] / 2.0 * numbers / bin_hz).astype(int)
      is_inside = bins < magnitudes.shape[1] - 1
      bins = np.minimum(bins, magnitudes.shape[1] - 2)
      # Partials of a pitch that is a little off lie a bin beside.
      found = is_inside * np.max(
        [np.take_along_axis(magnitudes, bins + i, axis=1) for i in (-1, 0, 1)],
        axis=0,
      )
      partials = found[:, 1::2]
      total = np.maximum(partials.sum(axis=1), 1e-9)
      odd[own] = partials[:, ::2].sum(axis=1) / total
      halves = found[:, ::2].sum(axis=1)
      between[own] = halves / (halves + total)
  return odd, between


def refine(
  audio: np.ndarray, f0_hz: np.ndarray, times_s: np.ndarray
) -> np.ndarray:
  """Moves a pitch to where its partials are, by up to half a semitone.

  The frequency of each partial is that of the phase of its bin (Auger and
  Flandrin, 1995); they are averaged by what they tell: the square of their
  number times their power.

  Args:
    audio: Audio at 16 kHz, [n_samples].
    f0_hz: Pitch of each frame, [n_frames].
    times_s: The middles of the frames, [n_frames].

  Returns:
    Pitch in Hz, [n_frames]; as it was where no partial is near.
  """
  refined = f0_hz.copy()
  for indices, size in _by_size(f0_hz):
    window = scipy.signal.get_window('hann', size)
    # Its slope, per sample.
    slope = np.pi / size * np.sin(2.0 * np.pi * np.arange(size) / size)
    done = 0
    for part in frames.around(audio, times_s[indices], size):
      own = indices[done : done + len(part)]
      done += len(part)
      spectra = np.fft.rfft(window * part)
      slopes = np.fft.rfft(slope * part)
      refined[own] = _near_partials(f0_hz[own], spectra, slopes, size)
  return refined


def _near_partials(f0_hz, spectra, slopes, size):
  """Returns the mean of what partials say of the pitch, [n]."""
  bin_hz = frames.SAMPLE_RATE / size
  numbers = np.arange(1, _N_PARTIALS + 1)
  bins = np.round(f0_hz[:, None] * numbers / bin_hz).astype(int)
  is_inside = bins < spectra.shape[1] - 1
  bins = np.minimum(bins, spectra.shape[1] - 1)
  values = np.take_along_axis(spectra, bins, axis=1)
  power = np.abs(values) ** 2
  ratio = np.take_along_axis(slopes, bins, axis=1) * values.conj()
  radians = -ratio.imag / np.maximum(power, 1e-20)
  hz = bins * bin_hz + radians * frames.SAMPLE_RATE / (2.0 * np.pi)
  said = hz / numbers / f0_hz[:, None]
  is_near = is_inside & (np.abs(said - 1.0) < 2.0 ** (0.5 / 12.0) - 1.0)
  weights = power * numbers**2 * is_near
  total = weights.sum(axis=1)
  mean = (weights * np.where(is_near, said, 1.0)).sum(axis=1)
  factor = np.where(total > 1e-12, mean / np.maximum(total, 1e-12), 1.0)
  return f0_hz * factor


def shares_at(
  audio: np.ndarray, f0_hz: np.ndarray, times_s: np.ndarray
) -> np.ndarray:
  """Returns how much of the power of frames lies at partials of a pitch.

  Args:
    audio: Audio at 16 kHz, [n_samples].
    f0_hz: Pitch of each frame, [n_frames].
    times_s: The middles of the frames, [n_frames].

  Returns:
    Shares from 0 to 1, of what lies below 4 kHz, [n_frames].
  """
  size = _SIZES[-1][1]
  bins_hz = np.arange(size // 2 + 1) * frames.SAMPLE_RATE / size
  is_below = bins_hz <= _SHARE_BELOW_HZ
  bins_hz = bins_hz[is_below]
  window, shares, done = scipy.signal.get_window('hann', size), [], 0
  for part in frames.around(audio, times_s, size):
    own = f0_hz[done : done + len(part), np.newaxis]
    done += len(part)
    power = np.abs(np.fft.rfft(window * part)[:, is_below]) ** 2
    number = np.maximum(np.round(bins_hz / own), 1.0)
    # The lobe of the window, and half a semitone of vibrato and glides.
    width = 2.0 * frames.SAMPLE_RATE / size + 0.03 * number * own
    is_at = np.abs(bins_hz - number * own) <= np.minimum(width, 0.35 * own)
    total = np.maximum(power.sum(axis=1), 1e-20)
    shares.append((power * is_at).sum(axis=1) / total)
  return np.concatenate(shares)
