"""What a match makes small: distances of audio, with their slopes.

Audio is [n_rows, n_samples]: a row is a crop of the middle of the channels, or
of their side. Each class is made for one target.
"""

import dataclasses
import functools

import numpy as np
import scipy.fft
import scipy.signal
from numpy.lib.stride_tricks import sliding_window_view

from dafx import metrics

# As `metrics.multi_scale_spectral` has them.
FRAME_SIZES = (2048, 1024, 512, 256, 128, 64)
_FLOOR = np.float32(1e-5)
# Frames of the model of the distance: two resolutions are enough for that.
_MODEL_FRAMES = ((1024, 512), (128, 128))  # size and hop
# An error below this counts as this, where a slope is one over an error.
_LEAST_ERROR = 0.05
_LEAST_MAGNITUDE = 1e-3

# The envelopes: frames, bands on an ERB-like axis, their width; errors in
# nepers from which on they count linearly; the range of levels.
_ENVELOPE_FRAME, _ENVELOPE_HOP = 1024, 512
_N_BANDS = 32
_LINEAR_FROM = 0.3
_RANGE_DB = 70.0
_LEAST_WEIGHT = 0.05
_PEAK_WEIGHT = 4.0  # of the peak of a frame, relative to a band

# The average spectrum, as `metrics.average_spectrum_db` has it.
_WELCH = 8192


@functools.cache
def hann(size: int) -> np.ndarray:
  """Returns a periodic Hann window, float32."""
  return scipy.signal.get_window('hann', size).astype(np.float32)


def stft(audio: np.ndarray, size: int, hop: int) -> np.ndarray:
  """Returns the spectra of frames, [..., n_frames, size // 2 + 1]."""
  frames = sliding_window_view(audio, size, axis=-1)[..., ::hop, :]
  return scipy.fft.rfft(frames * hann(size))


def erb_bands(sample_rate: float, size: int, n_bands: int) -> np.ndarray:
  """Returns triangular bands on the axis log(1 + f / 60 Hz).

  Args:
    sample_rate: In Hz.
    size: Samples of a frame.
    n_bands: Number of bands, from 30 Hz to 20 kHz or 0.45 of the rate.

  Returns:
    Weights, [size // 2 + 1, n_bands].
  """
  axis = np.linspace(
    np.log1p(0.5), np.log1p(min(20000.0, 0.45 * sample_rate) / 60.0), n_bands
  )
  hz, bin_hz = 60.0 * np.expm1(axis), sample_rate / size
  reach = np.maximum(axis[1] - axis[0], bin_hz / (60.0 + hz))
  bins = np.log1p(np.arange(size // 2 + 1) * bin_hz / 60.0)
  return np.maximum(0.0, 1.0 - np.abs(bins[:, np.newaxis] - axis) / reach)


def band_centres_hz(sample_rate: float, n_bands: int) -> np.ndarray:
  """Returns the centres of `erb_bands`, [n_bands]."""
  return 60.0 * np.expm1(
    np.linspace(
      np.log1p(0.5), np.log1p(min(20000.0, 0.45 * sample_rate) / 60.0), n_bands
    )
  )


@dataclasses.dataclass(frozen=True)
class Model:
  """A distance near one setting, as a quadratic function of the controls.

  Attributes:
    value: The distance there.
    gradient: Shape [n_controls].
    hessian: Shape [n_controls, n_controls].
    is_carried: Whether slopes are not measured there, but carried on.
  """

  value: float
  gradient: np.ndarray
  hessian: np.ndarray
  is_carried: bool = False


class Envelopes:
  """How far levels in bands are from the target's, frame by frame.

  Levels are logarithms, so a gain, an equaliser and a compressor move them
  evenly: this distance leads from far. It knows nothing of fine structure.

  Args:
    target: Shape [n_rows, n_samples].
    weights: Of the rows, [n_rows], sum 1.
    sample_rate: In Hz.
  """

  def __init__(
    self, target: np.ndarray, weights: np.ndarray, sample_rate: float
  ):
    self._bands = np.asarray(
      erb_bands(sample_rate, _ENVELOPE_FRAME, _N_BANDS), np.float32
    )
    self.centres_hz = band_centres_hz(sample_rate, _N_BANDS)
    self._floor = 1e-7 * float(np.mean(target**2)) * _ENVELOPE_FRAME
    self._target = self.features(target)
    levels = self._levels_of(self._target) * 10.0 / np.log(10.0)
    heard = np.clip(
      (levels - levels.max() + _RANGE_DB) / _RANGE_DB, _LEAST_WEIGHT, 1.0
    )
    peaks = np.full(heard.shape[:2] + (1,), _PEAK_WEIGHT * heard.mean())
    each = np.concatenate([heard, peaks], axis=-1) * weights[:, None, None]
    self._weights = np.asarray(each / each.sum(), np.float32).ravel()

  def _levels_of(self, features):
    return features.reshape(-1, self._n_frames, _N_BANDS + 1)[..., :-1]

  def features(self, audio: np.ndarray) -> np.ndarray:
    """Returns log powers of bands and frames, and log peaks, flat."""
    audio = np.asarray(audio, np.float32)
    powers = np.abs(stft(audio, _ENVELOPE_FRAME, _ENVELOPE_HOP)) ** 2
    levels = np.log(powers @ self._bands + self._floor)
    self._n_frames = levels.shape[1]
    frames = sliding_window_view(audio, _ENVELOPE_FRAME, axis=-1)
    peaks = np.abs(frames[..., ::_ENVELOPE_HOP, :]).max(-1, keepdims=True)
    # Twice the logarithm: of a power, as the levels are.
    peaks = 2.0 * np.log(peaks + np.sqrt(self._floor / _ENVELOPE_FRAME))
    return np.concatenate([levels, peaks], axis=-1).ravel()

  def of_bands(self, slopes: np.ndarray) -> np.ndarray:
    """Returns what a change of the response does to the features.

    Args:
      slopes: Of the log response in amplitude, [..., n_bands].

    Returns:
      Shape [..., n_features]: the same in all frames; peaks by the mean.
    """
    row = np.concatenate([slopes, slopes.mean(-1, keepdims=True)], axis=-1)
    n_rows = len(self._target) // (self._n_frames * (_N_BANDS + 1))
    return np.asarray(2.0 * np.tile(row, n_rows * self._n_frames), np.float32)

  def lack(self, features: np.ndarray) -> np.ndarray:
    """Returns what the response lacks, log amplitude by band, [n_bands]."""
    missing = self._levels_of(self._target - features)
    return 0.5 * np.median(missing.reshape(-1, _N_BANDS), axis=0)

  def band_weights(self) -> np.ndarray:
    """Returns how much each band counts, [n_bands]."""
    return self._levels_of(self._weights).reshape(-1, _N_BANDS).sum(0)

  def __call__(self, features: np.ndarray) -> float:
    """Returns the distance in nepers of power, of `features` of the audio."""
    error = np.abs(features - self._target)
    # Huber's: a square where it is small.
    small = 0.5 * error**2 / _LINEAR_FROM
    cost = np.where(error < _LINEAR_FROM, small, error - 0.5 * _LINEAR_FROM)
    return float(np.dot(self._weights, cost))

  def model(self, features: np.ndarray, jacobian: np.ndarray) -> Model:
    """Returns the model; `jacobian` is [n_controls, n_features]."""
    error = features - self._target
    bent = np.maximum(np.abs(error), _LINEAR_FROM)
    weights = self._weights / bent
    hessian = (jacobian * weights) @ jacobian.T
    return Model(
      self(features),
      np.asarray(jacobian @ (weights * error), np.float64),
      np.asarray(hessian, np.float64),
    )


class Distance:
  """Multi-scale spectral distance, average spectrum and crest factor.

  `metrics.multi_scale_spectral`, plus a share of the errors of the average
  spectrum and of the crest factor, in dB, which it hardly sees.

  Args:
    target: Shape [n_rows, n_samples].
    weights: Of the rows, [n_rows], sum 1.
    sample_rate: In Hz.
    n_middle: How many of the rows, from the first, are middles: average
      spectrum and crest are theirs.
    spectrum_weight: Of a dB of the average spectrum.
    crest_weight: Of a dB of the crest factor.
    highest_hz: What lies above is left out, where the target has no content.
  """

  def __init__(
    self,
    target: np.ndarray,
    weights: np.ndarray,
    sample_rate: float,
    n_middle: int,
    spectrum_weight: float = 0.03,
    crest_weight: float = 0.02,
    highest_hz: float = np.inf,
  ):
    self._rate, self._n_middle = sample_rate, n_middle
    self._weights = np.asarray(weights, np.float32)
    self._highest_hz = highest_hz
    self._n_samples = target.shape[-1]
    target = np.asarray(target, np.float32)
    self._magnitudes = {
      size: np.abs(self._centred(target, size)) for size in FRAME_SIZES
    }
    self._n_seen = {size: self._seen(size) for size in FRAME_SIZES}
    self._log_target = self._log_magnitudes(target)
    self._spectrum = self._average_spectrum_db(target)
    self._crest_db = self._crest(target)
    weights_db = np.full(len(self._spectrum), spectrum_weight)
    self._extra_weights = np.append(
      weights_db / max(len(weights_db), 1), crest_weight
    )

  def _seen(self, size):
    """Returns how many bins are looked at."""
    n_bins = size // 2 + 1
    return int(min(n_bins, 1 + self._highest_hz * size / self._rate))

  @staticmethod
  def _centred(audio, size):
    half = size // 2
    padded = np.pad(audio, ((0, 0), (half, half)))
    return stft(padded, size, size // 4)

  def _average_spectrum_db(self, audio):
    middle = audio[: self._n_middle]
    if middle.shape[-1] < _WELCH:
      return np.zeros(0)
    density = np.abs(stft(middle, _WELCH, _WELCH // 2)) ** 2
    density = density.mean((0, 1)) / (0.375 * _WELCH * self._rate)
    hz = np.arange(len(density)) * self._rate / _WELCH
    levels = []
    for centre in metrics.THIRD_OCTAVES_HZ:
      is_in = (hz >= centre * 2 ** (-1 / 6)) & (hz < centre * 2 ** (1 / 6))
      if is_in.any() and centre < self._highest_hz:
        levels.append(10.0 * np.log10(2.0 * density[is_in].mean() + 1e-15))
    return np.array(levels)

  def _crest(self, audio):
    middle = audio[: self._n_middle]
    rms = np.sqrt(np.mean(np.asarray(middle, np.float64) ** 2))
    return 20.0 * np.log10((np.abs(middle).max() + 1e-9) / (rms + 1e-9))

  def _log_magnitudes(self, audio):
    """Returns log magnitudes of both resolutions of the model, flat."""
    parts = []
    for size, hop in _MODEL_FRAMES:
      magnitudes = np.abs(stft(audio, size, hop))[..., : self._seen(size)]
      parts.append(magnitudes.reshape(len(audio), -1))
    return np.log(np.concatenate(parts, axis=-1) + _FLOOR)

  def features(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns log magnitudes, and errors of spectrum and crest in dB."""
    audio = np.asarray(audio, np.float32)
    return self._log_magnitudes(audio).ravel(), self._extras(audio)

  def _extras(self, audio):
    error = self._average_spectrum_db(audio) - self._spectrum
    if len(error):
      error = error - error.mean()
    return np.append(error, self._crest(audio) - self._crest_db)

  def __call__(
    self, audio: np.ndarray, gradient: np.ndarray | None = None
  ) -> float:
    """Returns the distance; adds its slope by the audio to `gradient`.

    The slope is that of the multi-scale spectral distance alone.
    """
    audio = np.asarray(audio, np.float32)
    total = 0.0
    for size in FRAME_SIZES:
      spectra = self._centred(audio, size)
      seen = self._n_seen[size]
      magnitudes = np.abs(spectra[..., :seen])
      target = self._magnitudes[size][..., :seen]
      error = magnitudes - target
      log_error = np.log((magnitudes + _FLOOR) / (target + _FLOOR))
      each = (np.abs(error) + np.abs(log_error)).mean((1, 2))
      total += float(self._weights @ each)
      if gradient is not None:
        slope = np.zeros_like(spectra)
        slope[..., :seen] = (
          np.sign(error) + np.sign(log_error) / (magnitudes + _FLOOR)
        ) * (spectra[..., :seen] / np.maximum(magnitudes, 1e-12))
        n_values = error.shape[1] * error.shape[2] * len(FRAME_SIZES)
        slope *= (self._weights * size / (2 * n_values))[:, None, None]
        self._add_adjoint(slope, size, gradient)
    total /= len(FRAME_SIZES)
    return total + float(self._extra_weights @ np.abs(self._extras(audio)))

  def _add_adjoint(self, slope, size, gradient):
    """Adds what a slope by the spectra is by the audio."""
    slope[..., [0, -1]] *= 2  # irfft counts the inner bins twice
    frames = scipy.fft.irfft(slope, size) * hann(size)
    hop, n_frames = size // 4, frames.shape[1]
    added = np.zeros((len(frames), (n_frames + 3) * hop), np.float32)
    for i in range(4):
      part = frames[:, :, i * hop : (i + 1) * hop].reshape(len(frames), -1)
      added[:, i * hop : i * hop + part.shape[1]] += part
    half = size // 2
    part = added[:, half : half + self._n_samples]
    gradient[:, : part.shape[1]] += part

  def model(
    self,
    audio: np.ndarray,
    by_audio: np.ndarray,
    value: float,
    jacobian: np.ndarray,
    extra_jacobian: np.ndarray,
  ) -> Model:
    """Returns the model: an exact gradient, and a Hessian of absolute errors.

    |r| has the slope of r² / (2 |r|), so each error counts by one over itself
    (iteratively reweighted least squares).

    Args:
      audio: The output, [n_rows, n_samples].
      by_audio: Gradient by the controls through the slope by the audio,
        [n_controls].
      value: The distance.
      jacobian: Of the log magnitudes, [n_controls, n_features].
      extra_jacobian: Of spectrum and crest, [n_controls, n_extras].
    """
    log_audio, extras = self.features(audio)
    log_target = self._log_target.ravel()
    magnitudes, target = np.exp(log_audio), np.exp(log_target)
    weights = 1.0 / np.maximum(np.abs(log_audio - log_target), _LEAST_ERROR)
    near = _LEAST_ERROR * np.maximum(target, _LEAST_MAGNITUDE)
    weights += magnitudes**2 / np.maximum(np.abs(magnitudes - target), near)
    shape = self._log_target.shape
    weights = weights.reshape(shape) * self._model_weights()
    weights = np.asarray(weights.ravel(), np.float32)
    hessian = np.asarray((jacobian * weights) @ jacobian.T, np.float64)
    slopes = self._extra_weights / np.maximum(np.abs(extras), _LEAST_ERROR)
    hessian += (extra_jacobian * slopes) @ extra_jacobian.T
    signs = np.clip(extras / _LEAST_ERROR, -1.0, 1.0)
    gradient = by_audio + extra_jacobian @ (self._extra_weights * signs)
    return Model(value, gradient, hessian)

  def _model_weights(self):
    """Returns one over the number of values of each resolution, by row."""
    counts = []
    for size, hop in _MODEL_FRAMES:
      n_frames = (self._n_samples - size) // hop + 1
      counts.append(n_frames * self._seen(size))
    each = np.repeat(1.0 / (len(counts) * np.array(counts)), counts)
    return self._weights[:, np.newaxis] * each
