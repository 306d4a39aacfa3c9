"""Spectrograms in bands of equal ratios, of audio that comes in chunks."""

import math

import numpy as np
import scipy.signal

_WINDOW_S = 0.093  # of the STFT: 4,096 samples at 44.1 kHz
_LOWEST_HZ = 40.0
_N_BANDS = 160
_MAX_COLUMNS = 2000  # there are no pixels for more


class BandPowers:
  """Power density of a Hann-windowed STFT in 160 bands, mean over channels.

  Frame k is centred on sample k * hop. Frames of long audio are sparser, and
  where there are more than 2,000, neighbours are averaged.

  Args:
    sample_rate: In Hz.
    n_samples: Of the longest audio that is to be shown beside it.

  Attributes:
    edges_hz: Of the bands, [161], with equal ratios.
    column_s: Seconds from column to column.
  """

  def __init__(self, sample_rate: int, n_samples: int):
    self._n_fft = max(16, 2 ** round(math.log2(_WINDOW_S * sample_rate)))
    self._hop = int(
      np.clip(n_samples // _MAX_COLUMNS, self._n_fft // 8, self._n_fft // 2)
    )
    n_frames = 1 + n_samples // self._hop
    self._frames_per_column = -(-n_frames // (_MAX_COLUMNS + 1))
    self.column_s = self._frames_per_column * self._hop / sample_rate
    self.edges_hz = np.geomspace(
      min(_LOWEST_HZ, sample_rate / 32), sample_rate / 2, _N_BANDS + 1
    )
    self._bands = _band_means(self.edges_hz, self._n_fft, sample_rate)
    self._window = scipy.signal.get_window('hann', self._n_fft)
    self._held: np.ndarray | None = None  # for the next frames
    self._n_samples = 0
    self._columns: list[np.ndarray] = []
    # Of the column that is not yet full.
    self._sum, self._count = np.zeros(_N_BANDS), 0

  def add(self, audio: np.ndarray):
    """Takes the next chunk in, [n_samples, n_channels]."""
    self._n_samples += len(audio)
    self._take(audio)

  def _take(self, audio):
    held = self._held
    if held is None:  # what lies before the first sample is silence
      held = np.zeros([self._n_fft // 2, audio.shape[1]])
    held = np.concatenate([held, audio])
    n_frames = max(0, 1 + (len(held) - self._n_fft) // self._hop)
    for k in range(n_frames):
      frame = held[k * self._hop : k * self._hop + self._n_fft]
      spectrum = np.fft.rfft(frame * self._window[:, np.newaxis], axis=0)
      power = np.mean(np.abs(spectrum) ** 2, axis=1)
      self._sum = self._sum + self._bands @ power
      self._count += 1
      if self._count == self._frames_per_column:
        self._end_column()
    self._held = held[n_frames * self._hop :]

  def _end_column(self):
    self._columns.append(self._sum / self._count)
    self._sum, self._count = np.zeros(_N_BANDS), 0

  def powers(self) -> np.ndarray:
    """Ends the audio with silence; returns [n_bands, n_columns]."""
    n_missing = max(0, self._n_fft - self._n_samples) + self._n_fft // 2
    n_channels = 1 if self._held is None else self._held.shape[1]
    self._take(np.zeros([n_missing, n_channels]))
    if self._count:
      self._end_column()
    return np.stack(self._columns, axis=1)


def _band_means(edges_hz, n_fft, sample_rate):
  """Gives the matrix [n_bands, n_bins] that averages STFT bins within bands.

  A bin counts as far as it overlaps the band, so that bands narrower than a bin
  are not empty.
  """
  centres_hz = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)  # [n_bins]
  half_hz = 0.5 * sample_rate / n_fft
  highest = np.minimum(edges_hz[1:, np.newaxis], centres_hz + half_hz)
  lowest = np.maximum(edges_hz[:-1, np.newaxis], centres_hz - half_hz)
  overlaps_hz = np.maximum(0.0, highest - lowest)
  return overlaps_hz / overlaps_hz.sum(axis=1, keepdims=True)
