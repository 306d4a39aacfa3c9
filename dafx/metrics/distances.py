"""Distances of audio from its target."""

import librosa
import numpy as np
import numpy.typing as npt
import scipy.signal

from dafx.metrics import pairs, short_time

# (fft, hop, window) in samples, from Yamamoto et al., 2020.
_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))


def mae(target: npt.ArrayLike, audio: npt.ArrayLike) -> float:
  """Mean absolute error of the samples.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels].
    audio: Audio of the same shape.

  Returns:
    Error, >= 0, in units of full scale.

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes.

  Examples:
    >>> from dafx import metrics
    >>> metrics.mae([0.0, 1.0], [0.5, 1.0])
    0.25
  """
  target, audio = pairs.check_pair(target, audio)
  return float(np.mean(np.abs(target - audio)))


def esr(target: npt.ArrayLike, audio: npt.ArrayLike) -> float:
  """Error-to-signal ratio: energy of the error over that of the target.

  0 for equal audio, 1 for silence, 4 for the target upside down: a value near 4
  says that a model learned the wrong polarity (see `polarity`), to which
  spectral distances are deaf. As Wright et al., 2019
  (https://arxiv.org/abs/1911.08922), without pre-emphasis.

  Args:
    target: Target audio, not silent. Shape [n_samples] or [n_samples,
      n_channels].
    audio: Audio of the same shape.

  Returns:
    Ratio, >= 0; over all channels.

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes, or the
      target is silent.

  Examples:
    >>> from dafx import metrics
    >>> metrics.esr([0.5, -0.5], [-0.5, 0.5])  # upside down
    4.0
  """
  target, audio = pairs.check_pair(target, audio)
  energy = pairs.target_energy(target, 'esr')
  return float(np.sum((target - audio) ** 2) / energy)


def si_sdr(target: npt.ArrayLike, audio: npt.ArrayLike) -> float:
  """Scale-invariant signal-to-distortion ratio, in dB.

  Le Roux et al., 2019 (https://arxiv.org/abs/1811.02508), of the signals as
  they are: their means stay in.

  Args:
    target: Target audio, not silent. Shape [n_samples] or [n_samples,
      n_channels].
    audio: Audio of the same shape.

  Returns:
    Ratio in dB; infinite for a scaled copy, -infinite for what has nothing of
    the target in it. Mean over channels.

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes, or a
      channel of the target is silent.

  Examples:
    >>> from dafx import metrics
    >>> round(metrics.si_sdr([1.0, 0.0], [3.0, 0.3]), 6)
    20.0
  """
  target, audio = pairs.check_pair(target, audio)
  ratios = []
  for t, a in zip(pairs.channels_first(target), pairs.channels_first(audio)):
    part = np.dot(a, t) / pairs.target_energy(t, 'si_sdr') * t
    with np.errstate(divide='ignore'):
      ratio = np.sum(part**2) / np.sum((a - part) ** 2, dtype=np.float64)
      ratios.append(10.0 * np.log10(ratio))
  return float(np.mean(ratios))


def dc(target: npt.ArrayLike, audio: npt.ArrayLike) -> float:
  """Energy of the error's mean over that of the target (Wright et al., 2019).

  Args:
    target: Target audio, not silent. Shape [n_samples] or [n_samples,
      n_channels].
    audio: Audio of the same shape.

  Returns:
    Ratio, >= 0. Mean over channels.

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes, or a
      channel of the target is silent.

  Examples:
    >>> from dafx import metrics
    >>> metrics.dc([1.0, -1.0], [1.5, -0.5])
    0.25
  """
  target, audio = pairs.check_pair(target, audio)
  ratios = [
    np.mean(t - a) ** 2 * len(t) / pairs.target_energy(t, 'dc')
    for t, a in zip(pairs.channels_first(target), pairs.channels_first(audio))
  ]
  return float(np.mean(ratios))


def polarity(target: npt.ArrayLike, audio: npt.ArrayLike) -> float:
  """Tells whether audio is the target upside down.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels].
    audio: Audio of the same shape, aligned.

  Returns:
    Correlation of the two in [-1, 1], over all channels: clearly negative for
    inverted audio, 0 if one of them is silent.

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> round(metrics.polarity(target, -target), 6)
    -1.0
  """
  target, audio = pairs.check_pair(target, audio)
  norm = np.linalg.norm(target) * np.linalg.norm(audio)
  return float(np.sum(target * audio) / norm) if norm > 0 else 0.0


def mr_stft(target: npt.ArrayLike, audio: npt.ArrayLike) -> float:
  """Multi-resolution STFT distance, as auraloss's MultiResolutionSTFTLoss.

  Mean over three resolutions of spectral convergence plus the mean absolute
  difference of the natural logarithms of the magnitudes (Yamamoto et al.,
  2020, https://arxiv.org/abs/1910.11480), with auraloss's defaults:
  FFT 1024, 2048, 512, hop 120, 240, 50, periodic Hann window of 600, 1200, 240
  samples, frames centred with reflection, power not below 1e-8. It is blind to
  polarity and not symmetric: convergence is relative to the target.

  The channels of a file are taken together: one Frobenius norm and one mean
  over all of them. That is auraloss's value for a batch of this file alone; its
  value for a larger batch has one norm over all files, and is no mean of these.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels], at least
      2,048 samples, the longest frame.
    audio: Audio of the same shape.

  Returns:
    Distance, >= 0.

  Raises:
    ValueError: If the audio is empty, too short, not finite or of unequal
      shapes.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> metrics.mr_stft(target, -target)  # deaf to polarity
    0.0
  """
  target, audio = pairs.check_pair(target, audio)
  pairs.check_length(
    target, max(n_fft for n_fft, _, _ in _RESOLUTIONS), 'mr_stft'
  )

  distances = []
  for n_fft, hop_length, win_length in _RESOLUTIONS:
    squares, log_differences, n_values = np.zeros(2), 0.0, 0
    for a, b in zip(
      _powers(target, n_fft, hop_length, win_length),
      _powers(audio, n_fft, hop_length, win_length),
      strict=True,
    ):
      squares += (
        np.sum((np.sqrt(a) - np.sqrt(b)) ** 2, dtype=np.float64),
        np.sum(a, dtype=np.float64),
      )
      # Half of the powers' difference is that of the magnitudes.
      log_differences += 0.5 * np.sum(np.abs(np.log(a / b)), dtype=np.float64)
      n_values += a.size
    convergence = np.sqrt(squares[0] / squares[1])
    distances.append(convergence + log_differences / n_values)
  return float(np.mean(distances))


def _powers(signal, n_fft, hop_length, win_length):
  """Yields parts of a power spectrogram, [n_frames, n_bins].

  Single precision, as auraloss's, takes half of the time of double.
  """
  padding = ((0, 0), (n_fft // 2, n_fft // 2))
  channels = pairs.channels_first(signal).astype(np.float32)
  channels = np.pad(channels, padding, mode='reflect')
  # A window in the middle of its frame: its magnitudes do not tell where.
  around = (n_fft - win_length) // 2
  channels = channels[:, around : channels.shape[1] - around]
  window = scipy.signal.get_window('hann', win_length).astype(np.float32)
  for part in short_time.spectra(channels, window, n_fft, hop_length):
    yield np.maximum(part.real**2 + part.imag**2, np.float32(1e-8))


def mfcc_cosine(
  target: npt.ArrayLike,
  audio: npt.ArrayLike,
  sample_rate: float,
  over: str = 'frames',
) -> float:
  """Cosine distance of the MFCCs.

  As in DeepAFx (Martinez Ramirez et al., 2021,
  https://arxiv.org/abs/2105.04752): the audio is scaled to the target's mean
  absolute value; power mel spectrogram with frames of 1,024, hops of 256, 128
  bands; decibels relative to each signal's own maximum, at most 80 below it; 13
  coefficients. At other rates than DeepAFx's 22,050 Hz the frames are shorter
  or longer in time. Channels are averaged.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels], at least
      1,024 samples.
    audio: Audio of the same shape.
    sample_rate: Sample rate in Hz, > 0.
    over: 'frames': mean over the frames of the distance between their vectors
      of 13 coefficients. 'rows': mean over the 13 coefficients of the distance
      between their courses in time; this is what DeepAFx's code computes.

  Returns:
    Distance in [0, 2]; 0 for equal directions. A zero vector (silence) is at
    distance 0 from another, and at 1 from anything else.

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes, or
      `sample_rate` or `over` is not allowed.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> round(
    ...   metrics.mfcc_cosine(target, 0.5 * target, 22050), 6
    ... )  # deaf to level
    0.0
  """
  distances = mfcc_cosines(target, audio, sample_rate)
  if over not in distances:
    raise ValueError(f'over={over!r} must be one of {list(distances)}.')
  return distances[over]


def mfcc_cosines(
  target: npt.ArrayLike, audio: npt.ArrayLike, sample_rate: float
) -> dict[str, float]:
  """Cosine distances of the MFCCs, all that `mfcc_cosine` knows.

  Args:
    target: As for `mfcc_cosine`.
    audio: Audio of the same shape.
    sample_rate: Sample rate in Hz, > 0.

  Returns:
    Distance by what `mfcc_cosine` calls `over`: 'frames' and 'rows'.

  Raises:
    ValueError: If the audio is empty, too short, not finite or of unequal
      shapes, or `sample_rate` is not allowed.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> values = metrics.mfcc_cosines(target, 0.5 * target, 22050)
    >>> {over: round(value, 6) for over, value in values.items()}
    {'frames': 0.0, 'rows': 0.0}
  """
  target, audio = pairs.check_pair(target, audio)
  pairs.check_sample_rate(sample_rate)
  pairs.check_length(target, 1024, 'mfcc_cosine')
  target_level, level = np.mean(np.abs(target)), np.mean(np.abs(audio))
  if target_level > 0 and level > 0:
    audio = np.asarray(audio * (target_level / level))

  def coefficients(channel):
    mel = librosa.feature.melspectrogram(
      y=channel, sr=sample_rate, n_fft=1024, hop_length=256, n_mels=128
    )
    return librosa.feature.mfcc(
      S=librosa.power_to_db(mel, ref=np.max), n_mfcc=13
    )

  # [n_channels, 13, n_frames].
  a = np.stack([coefficients(c) for c in pairs.channels_first(target)])
  b = np.stack([coefficients(c) for c in pairs.channels_first(audio)])
  return {'frames': _cosine(a, b, axis=1), 'rows': _cosine(a, b, axis=2)}


def _cosine(a, b, axis):
  """Returns the mean cosine distance of the vectors along an axis."""
  norm_a = np.linalg.norm(a, axis=axis)
  norm_b = np.linalg.norm(b, axis=axis)
  norm = norm_a * norm_b
  cosine = np.sum(a * b, axis=axis) / np.where(norm > 0, norm, 1.0)
  cosine = np.where((norm_a == 0) & (norm_b == 0), 1.0, cosine)
  return float(np.mean(1.0 - np.clip(cosine, -1.0, 1.0)))
