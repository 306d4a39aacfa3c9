"""Levels: RMS, crest factor, loudness."""

import math

import numpy as np
import numpy.typing as npt
import scipy.signal

from dafx.audio import loudness
from dafx.metrics import pairs

# Absolute gate of ITU-R BS.1770-4; nothing quieter has a loudness.
SILENCE_LUFS = loudness.SILENCE_LUFS
# The standard has weights for so many.
MAX_LOUDNESS_CHANNELS = len(loudness.CHANNEL_GAINS)
# Of the standard: blocks, and their overlap.
_BLOCK_S = 0.4
_BLOCK_OVERLAP = 0.75
# Of the true peak: the rate that is enough to see it, samples oversampled at
# once, and more than half the length of the filter, so that pieces do not show.
_OVERSAMPLING, _OVERSAMPLED_HZ = 4, 192000
_SAMPLES_AT_ONCE = 2**18
_MARGIN = 16


def rms_db(audio: npt.ArrayLike) -> float:
  """Root mean square, in dB relative to full scale.

  Args:
    audio: Audio. Shape [n_samples] or [n_samples, n_channels].

  Returns:
    Level in dBFS, over all channels: 0 for a square wave at full scale, -3.01
    for a sine, -infinite for silence.

  Raises:
    ValueError: If the audio is empty or not finite.

  Examples:
    >>> from dafx import metrics
    >>> metrics.rms_db([0.1, -0.1])
    -20.0
  """
  audio = pairs.check_signal('audio', audio)
  with np.errstate(divide='ignore'):
    return float(10.0 * np.log10(np.mean(audio**2)))


def crest_factor_db(audio: npt.ArrayLike) -> float:
  """Peak over root mean square, in dB.

  Args:
    audio: Audio, not silent. Shape [n_samples] or [n_samples, n_channels].

  Returns:
    Crest factor in dB, >= 0, over all channels: 0 for a square wave, 3.01 for a
    sine.

  Raises:
    ValueError: If the audio is empty, not finite or silent.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> sine = np.sin(2.0 * np.pi * np.arange(44100) / 100)
    >>> round(metrics.crest_factor_db(sine), 2)
    3.01
  """
  audio = pairs.check_signal('audio', audio)
  pairs.target_energy(audio, 'crest_factor_db')
  peak = np.max(np.abs(audio))
  return float(20.0 * np.log10(peak / np.sqrt(np.mean(audio**2))))


def crest_error_db(target: npt.ArrayLike, audio: npt.ArrayLike) -> float:
  """Absolute difference of the crest factors.

  Args:
    target: Target audio, not silent. Shape [n_samples] or [n_samples,
      n_channels].
    audio: Audio of the same shape, not silent.

  Returns:
    Difference in dB, >= 0.

  Raises:
    ValueError: As `crest_factor_db`, or if the shapes are unequal.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> sine = np.sin(2.0 * np.pi * np.arange(44100) / 100)
    >>> round(metrics.crest_error_db(sine, np.sign(sine)), 1)
    3.0
  """
  target, audio = pairs.check_pair(target, audio)
  return abs(crest_factor_db(target) - crest_factor_db(audio))


def true_peak_dbtp(audio: npt.ArrayLike, sample_rate: float) -> float:
  """True peak by ITU-R BS.1770-4, annex 2: that of the signal between samples.

  Four times oversampled, or as often as makes 192 kHz of it if that is less,
  by `scipy.signal.resample_poly` with the filter that is its default, in place
  of the one that the standard gives for 48 kHz.

  Args:
    audio: Audio. Shape [n_samples] or [n_samples, n_channels].
    sample_rate: Sample rate in Hz, > 0.

  Returns:
    Peak in dBTP, of all channels: 0 for a sine at full scale, wherever its
    samples fall; -infinite for silence.

  Raises:
    ValueError: If the audio is empty or not finite, or `sample_rate` is not
      allowed.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> between = np.sin(0.5 * np.pi * np.arange(4410) + 0.25 * np.pi)
    >>> round(metrics.crest_factor_db(between), 2)  # samples miss the peaks
    0.0
    >>> round(metrics.true_peak_dbtp(between, 44100))
    0
  """
  audio = pairs.channels_first(pairs.check_signal('audio', audio))
  pairs.check_sample_rate(sample_rate)
  meter = TruePeakMeter(sample_rate)
  for start in range(0, audio.shape[1], _SAMPLES_AT_ONCE):
    meter.add(audio[:, start : start + _SAMPLES_AT_ONCE].T)
  return meter.dbtp()


class TruePeakMeter:
  """True peak of audio that comes in chunks; see `true_peak_dbtp`.

  Args:
    sample_rate: Sample rate in Hz, > 0.

  Raises:
    ValueError: A `sample_rate` that is not allowed.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> noise = np.random.default_rng(0).normal(0.0, 0.1, [9000, 2])
    >>> meter = metrics.TruePeakMeter(44100)
    >>> for chunk in np.split(noise, 3):
    ...   meter.add(chunk)
    >>> round(meter.dbtp() - metrics.true_peak_dbtp(noise, 44100), 3)
    0.0
  """

  def __init__(self, sample_rate: float):
    pairs.check_sample_rate(sample_rate)
    self._factor = min(_OVERSAMPLING, math.ceil(_OVERSAMPLED_HZ / sample_rate))
    # What the filter reaches, before and after what was measured so far.
    self._held: np.ndarray | None = None
    self._n_measured = 0  # of what is held
    self._peak = 0.0

  def _peak_up_to(self, audio, stop):
    """Returns the peak from what was measured up to a sample of `audio`."""
    between = scipy.signal.resample_poly(audio, self._factor, 1, axis=0)
    own = slice(self._n_measured * self._factor, stop * self._factor)
    return np.max(np.abs(between[own]), initial=self._peak)

  def add(self, audio: np.ndarray) -> None:
    """Takes the next chunk in.

    Args:
      audio: Shape [n_samples, n_channels].
    """
    if self._held is not None:
      audio = np.concatenate([self._held, audio])
    stop = max(len(audio) - _MARGIN, self._n_measured)
    self._peak = self._peak_up_to(audio, stop)
    first = max(stop - _MARGIN, 0)
    self._held, self._n_measured = audio[first:], stop - first

  def dbtp(self) -> float:
    """Returns the peak in dBTP so far; -infinite for silence."""
    peak = 0.0
    if self._held is not None:
      peak = self._peak_up_to(self._held, len(self._held))
    with np.errstate(divide='ignore'):
      return float(20.0 * np.log10(peak))


class LoudnessMeter:
  """Integrated loudness by ITU-R BS.1770-4 of audio that comes in chunks.

  It is pyloudnorm's value, whose filters it runs; but audio shorter than a
  gating block of 0.4 s has a loudness here, that of one block of its length.

  Args:
    sample_rate: Sample rate in Hz, > 0.
    n_channels: At most 5, in the order left, right, centre, left surround,
      right surround.

  Raises:
    ValueError: More channels, or a `sample_rate` that is not allowed.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> sine = np.sin(2.0 * np.pi * 997 * np.arange(48000) / 48000)
    >>> meter = metrics.LoudnessMeter(48000, n_channels=1)
    >>> for chunk in np.split(sine[:, np.newaxis], 4):
    ...   meter.add(chunk)
    >>> round(meter.lufs(), 2)
    -3.05
  """

  def __init__(self, sample_rate: float, n_channels: int):
    pairs.check_sample_rate(sample_rate)
    if not 1 <= n_channels <= MAX_LOUDNESS_CHANNELS:
      raise ValueError(
        f'audio has {n_channels} channels; loudness is defined for at most '
        f'{MAX_LOUDNESS_CHANNELS}, [n_samples, n_channels]. Transpose or '
        'select channels.'
      )
    self._sample_rate = sample_rate
    self._gains = np.array(loudness.CHANNEL_GAINS[:n_channels])
    self._filters = loudness.k_filters(sample_rate)
    self._states = [np.zeros([2, n_channels]) for _ in self._filters]
    self._n_samples = 0
    self._energy = 0.0  # of all channels, weighted, so far
    # The energy up to where each block begins and ends, as far as known.
    self._at_starts: list[float] = []
    self._at_ends: list[float] = []

  def _bounds(self, block: np.ndarray):
    """Returns the samples from and up to which blocks go."""
    place = block * (1.0 - _BLOCK_OVERLAP)
    bounds = (_BLOCK_S * place, _BLOCK_S * (place + 1.0))
    return [(bound * self._sample_rate).astype(int) for bound in bounds]

  def weigh(self, audio: np.ndarray) -> np.ndarray:
    """Returns the K-weighted energy of the samples of the next chunk.

    Args:
      audio: Shape [n_samples, n_channels].

    Returns:
      The sum over the channels, by the standard's weights, [n_samples].
    """
    weighted = np.asarray(audio, np.float64)
    for i, design in enumerate(self._filters):
      weighted, self._states[i] = scipy.signal.lfilter(
        design.b, design.a, weighted, axis=0, zi=self._states[i]
      )
      weighted = weighted * design.passband_gain
    return weighted**2 @ self._gains

  def add(self, audio: np.ndarray) -> None:
    """Takes the next chunk in.

    Args:
      audio: Shape [n_samples, n_channels].
    """
    energies = np.cumsum(self.weigh(audio))
    energies = self._energy + np.concatenate([[0.0], energies])
    first, self._n_samples = self._n_samples, self._n_samples + len(audio)
    self._energy = energies[-1]
    hop = _BLOCK_S * (1.0 - _BLOCK_OVERLAP) * self._sample_rate
    for side, found in enumerate((self._at_starts, self._at_ends)):
      blocks = np.arange(len(found), int(self._n_samples / hop) + 2)
      at = self._bounds(blocks)[side]
      found += list(energies[at[at <= self._n_samples] - first])

  def lufs(self) -> float:
    """Returns the loudness of all that was taken in.

    Returns:
      In LUFS, at least -70, the standard's absolute gate; silence and audio
      that never passes the gate give -70.

    Raises:
      ValueError: There was nothing.
    """
    n, rate = self._n_samples, self._sample_rate
    if not n:
      raise ValueError('There is no audio to measure the loudness of.')
    if n < _BLOCK_S * rate:
      powers = np.array([self._energy / n])
    else:
      hop_s = _BLOCK_S * (1.0 - _BLOCK_OVERLAP)
      n_blocks = int(np.round((n / rate - _BLOCK_S) / hop_s)) + 1
      ends = self._at_ends[:n_blocks]
      # The last block may reach over the end.
      ends = ends + [self._energy] * (n_blocks - len(ends))
      starts = self._at_starts[:n_blocks]
      powers = (np.array(ends) - np.array(starts)) / (_BLOCK_S * rate)
    with np.errstate(divide='ignore'):
      levels = loudness.OFFSET_LUFS + 10.0 * np.log10(np.maximum(powers, 0.0))
    loud = powers[levels >= SILENCE_LUFS]
    if not len(loud):
      return SILENCE_LUFS
    gate = loudness.OFFSET_LUFS + 10.0 * np.log10(loud.mean()) - 10.0
    heard = powers[(levels > gate) & (levels > SILENCE_LUFS)]
    if not len(heard):
      return SILENCE_LUFS
    lufs = loudness.OFFSET_LUFS + 10.0 * np.log10(heard.mean())
    return float(max(lufs, SILENCE_LUFS))


def loudness_over_time(
  audio: npt.ArrayLike,
  sample_rate: float,
  window_s: float = 3.0,
  hop_s: float = 0.1,
) -> tuple[np.ndarray, np.ndarray]:
  """Loudness in windows, without gates, by EBU Tech 3341.

  Windows of 3 s give short-term loudness, of 0.4 s momentary loudness. Audio
  shorter than a window is one window.

  Args:
    audio: Audio. Shape [n_samples] or [n_samples, n_channels], as for
      `loudness_lufs`.
    sample_rate: Sample rate in Hz, > 0.
    window_s: Length of a window, in s.
    hop_s: From one window to the next, in s.

  Returns:
    (middles of the windows in s, loudness in LUFS, at least -70), [n_windows].

  Raises:
    ValueError: As `loudness_lufs`.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> sine = np.sin(2.0 * np.pi * 997 * np.arange(96000) / 48000)
    >>> times_s, lufs = metrics.loudness_over_time(sine, 48000, 0.4, 0.4)
    >>> lufs.round().tolist()
    [-3.0, -3.0, -3.0, -3.0, -3.0]
  """
  audio = pairs.channels_first(pairs.check_signal('audio', audio)).T
  meter = LoudnessMeter(sample_rate, audio.shape[1])
  pieces = pairs.pieces(len(audio), _SAMPLES_AT_ONCE)
  energies = [meter.weigh(audio[start:stop]) for start, stop in pieces]
  sums = np.concatenate([[0.0], *energies])
  np.cumsum(sums, out=sums)
  size = min(max(int(window_s * sample_rate), 1), len(audio))
  hop = max(int(hop_s * sample_rate), 1)
  starts = np.arange(0, len(audio) - size + 1, hop)
  powers = (sums[starts + size] - sums[starts]) / size
  lufs = loudness.OFFSET_LUFS + 10.0 * np.log10(np.maximum(powers, 1e-12))
  times_s = (starts + 0.5 * size) / sample_rate
  return times_s, np.maximum(lufs, SILENCE_LUFS)


def loudness_lufs(audio: npt.ArrayLike, sample_rate: float) -> float:
  """Integrated loudness by ITU-R BS.1770-4; see `LoudnessMeter`.

  Args:
    audio: Audio. Shape [n_samples] or [n_samples, n_channels], of at most 5
      channels, in the order left, right, centre, left surround, right surround.
    sample_rate: Sample rate in Hz, > 0.

  Returns:
    Loudness in LUFS, at least -70, the standard's absolute gate; silence and
    audio that never passes the gate give -70.

  Raises:
    ValueError: If the audio is empty, not finite or of more than 5 channels, or
      `sample_rate` is not allowed.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> metrics.MAX_LOUDNESS_CHANNELS
    5
    >>> metrics.loudness_lufs(
    ...   np.zeros([48000, 2]), 48000
    ... ) == metrics.SILENCE_LUFS
    True
  """
  audio = pairs.channels_first(pairs.check_signal('audio', audio)).T
  meter = LoudnessMeter(sample_rate, audio.shape[1])
  meter.add(audio)
  return meter.lufs()


def loudness_difference(
  target: npt.ArrayLike, audio: npt.ArrayLike, sample_rate: float
) -> float:
  """Absolute difference of the integrated loudness.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels], of at
      most 5 channels.
    audio: Audio of the same shape.
    sample_rate: Sample rate in Hz, > 0.

  Returns:
    Difference in LU (dB), >= 0. Silence counts as -70 LUFS.

  Raises:
    ValueError: As `loudness_lufs`, or if the shapes are unequal.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> round(metrics.loudness_difference(target, 0.5 * target, 44100), 2)
    6.02
  """
  target, audio = pairs.check_pair(target, audio)
  return abs(
    loudness_lufs(target, sample_rate) - loudness_lufs(audio, sample_rate)
  )
