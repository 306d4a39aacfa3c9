"""Evaluation metrics: NumPy audio of one file in, a float out.

Audio is float, `[n_samples]` or `[n_samples, n_channels]`, full scale at +-1.
Target and audio have the same shape. Nothing here is differentiable; training
losses are in `dafx.losses`.
"""

import librosa
import numpy as np
import pyloudnorm
import scipy.signal

# (fft, hop, window) in samples, from Yamamoto et al., 2020.
_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))

# Absolute gate of ITU-R BS.1770-4; nothing quieter has a loudness.
_SILENCE_LUFS = -70.0

# As in `dafx.losses`: scores this close are tied, and an overlap of less than
# this share of the energy does not normalise its own score.
_SCORE_TOLERANCE = 1e-6
_MIN_OVERLAP_ENERGY = 1e-3


# ---------------------- Input checks ------------------------------------------
def _check_signal(name, signal):
  """Returns the signal in float64, or raises ValueError."""
  signal = np.asarray(signal)
  if not np.issubdtype(signal.dtype, np.floating):
    raise ValueError(
      f'{name} has dtype {signal.dtype}; it must be floating point, with full '
      'scale at +-1. Convert it first.'
    )
  if signal.ndim not in (1, 2) or signal.size == 0:
    raise ValueError(
      f'{name} has shape {signal.shape}; it must be [n_samples] or [n_samples, '
      'n_channels], and not empty. Pass one file at a time.'
    )
  n_bad = np.count_nonzero(~np.isfinite(signal))
  if n_bad:
    raise ValueError(
      f'{name} has {n_bad} of {signal.size} samples that are NaN or infinite; '
      'all must be finite.'
    )
  return signal.astype(np.float64)


def _check_pair(target, audio):
  """Returns both in float64, or raises ValueError."""
  target = _check_signal('target', target)
  audio = _check_signal('audio', audio)
  if target.shape != audio.shape:
    raise ValueError(
      f'target has shape {target.shape} and audio {audio.shape}; they must be '
      'equal. Crop both to one length and give both the same channels.'
    )
  return target, audio


def _check_sample_rate(sample_rate):
  if not (np.isfinite(sample_rate) and sample_rate > 0):
    raise ValueError(f'sample_rate={sample_rate} Hz must be > 0.')


def _check_length(signal, min_samples, metric):
  if len(signal) < min_samples:
    raise ValueError(
      f'The audio has {len(signal)} samples; {metric} needs at least '
      f'{min_samples}, one frame. Use a longer clip.'
    )


def _channels_first(signal):
  """[n_samples] or [n_samples, n_channels] -> [n_channels, n_samples]."""
  return np.atleast_2d(signal.T)


def _target_energy(target, metric):
  energy = np.sum(target**2)
  if not energy > 0:
    raise ValueError(
      f'The target (or a channel of it) is silent: {metric} is relative to its '
      'energy. Leave out silent files.'
    )
  return energy


# ---------------------- Metrics -----------------------------------------------
def mae(target, audio):
  """Mean absolute error of the samples.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels].
    audio: Audio of the same shape.

  Returns:
    Error, >= 0, in units of full scale.

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes.
  """
  target, audio = _check_pair(target, audio)
  return float(np.mean(np.abs(target - audio)))


def esr(target, audio):
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
  """
  target, audio = _check_pair(target, audio)
  energy = _target_energy(target, 'esr')
  return float(np.sum((target - audio) ** 2) / energy)


def si_sdr(target, audio):
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
  """
  target, audio = _check_pair(target, audio)
  ratios = []
  for t, a in zip(_channels_first(target), _channels_first(audio)):
    part = np.dot(a, t) / _target_energy(t, 'si_sdr') * t
    with np.errstate(divide='ignore'):
      ratio = np.sum(part**2) / np.sum((a - part) ** 2, dtype=np.float64)
      ratios.append(10.0 * np.log10(ratio))
  return float(np.mean(ratios))


def dc(target, audio):
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
  """
  target, audio = _check_pair(target, audio)
  ratios = [
    np.mean(t - a) ** 2 * len(t) / _target_energy(t, 'dc')
    for t, a in zip(_channels_first(target), _channels_first(audio))
  ]
  return float(np.mean(ratios))


def polarity(target, audio):
  """Tells whether audio is the target upside down.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels].
    audio: Audio of the same shape, aligned.

  Returns:
    Correlation of the two in [-1, 1], over all channels: clearly negative for
    inverted audio, 0 if one of them is silent.

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes.
  """
  target, audio = _check_pair(target, audio)
  norm = np.linalg.norm(target) * np.linalg.norm(audio)
  return float(np.sum(target * audio) / norm) if norm > 0 else 0.0


def rms_db(audio):
  """Root mean square, in dB relative to full scale.

  Args:
    audio: Audio. Shape [n_samples] or [n_samples, n_channels].

  Returns:
    Level in dBFS, over all channels: 0 for a square wave at full scale, -3.01
    for a sine, -infinite for silence.

  Raises:
    ValueError: If the audio is empty or not finite.
  """
  audio = _check_signal('audio', audio)
  with np.errstate(divide='ignore'):
    return float(10.0 * np.log10(np.mean(audio**2)))


def crest_factor_db(audio):
  """Peak over root mean square, in dB.

  Args:
    audio: Audio, not silent. Shape [n_samples] or [n_samples, n_channels].

  Returns:
    Crest factor in dB, >= 0, over all channels: 0 for a square wave, 3.01 for a
    sine.

  Raises:
    ValueError: If the audio is empty, not finite or silent.
  """
  audio = _check_signal('audio', audio)
  _target_energy(audio, 'crest_factor_db')
  peak = np.max(np.abs(audio))
  return float(20.0 * np.log10(peak / np.sqrt(np.mean(audio**2))))


def mr_stft(target, audio):
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
  """
  target, audio = _check_pair(target, audio)
  _check_length(target, max(n_fft for n_fft, _, _ in _RESOLUTIONS), 'mr_stft')

  def magnitude(signal, n_fft, hop_length, win_length):
    # [n_channels, n_fft // 2 + 1, n_frames].
    stft = librosa.stft(
      _channels_first(signal),
      n_fft=n_fft,
      hop_length=hop_length,
      win_length=win_length,
      window='hann',
      center=True,
      pad_mode='reflect',
    )
    return np.sqrt(np.maximum(stft.real**2 + stft.imag**2, 1e-8))

  distances = []
  for resolution in _RESOLUTIONS:
    target_mag = magnitude(target, *resolution)
    mag = magnitude(audio, *resolution)
    convergence = np.linalg.norm(target_mag - mag) / np.linalg.norm(target_mag)
    log_distance = np.mean(np.abs(np.log(target_mag) - np.log(mag)))
    distances.append(convergence + log_distance)
  return float(np.mean(distances))


def mfcc_cosine(target, audio, sample_rate, over='frames'):
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
  """
  axes = {'frames': 1, 'rows': 2}
  if over not in axes:
    raise ValueError(f'over={over!r} must be one of {list(axes)}.')
  target, audio = _check_pair(target, audio)
  _check_sample_rate(sample_rate)
  _check_length(target, 1024, 'mfcc_cosine')
  target_level, level = np.mean(np.abs(target)), np.mean(np.abs(audio))
  if target_level > 0 and level > 0:
    audio = audio * (target_level / level)

  def coefficients(channel):
    mel = librosa.feature.melspectrogram(
      y=channel, sr=sample_rate, n_fft=1024, hop_length=256, n_mels=128
    )
    return librosa.feature.mfcc(
      S=librosa.power_to_db(mel, ref=np.max), n_mfcc=13
    )

  # [n_channels, 13, n_frames].
  a = np.stack([coefficients(c) for c in _channels_first(target)])
  b = np.stack([coefficients(c) for c in _channels_first(audio)])
  axis = axes[over]
  norm_a = np.linalg.norm(a, axis=axis)
  norm_b = np.linalg.norm(b, axis=axis)
  norm = norm_a * norm_b
  cosine = np.sum(a * b, axis=axis) / np.where(norm > 0, norm, 1.0)
  cosine = np.where((norm_a == 0) & (norm_b == 0), 1.0, cosine)
  return float(np.mean(1.0 - np.clip(cosine, -1.0, 1.0)))


def loudness_lufs(audio, sample_rate):
  """Integrated loudness by ITU-R BS.1770-4, through pyloudnorm.

  Args:
    audio: Audio. Shape [n_samples] or [n_samples, n_channels], of at least
      0.4 s (one gating block) and at most 5 channels, in the order left, right,
      centre, left surround, right surround.
    sample_rate: Sample rate in Hz, > 0.

  Returns:
    Loudness in LUFS, at least -70, the standard's absolute gate; silence and
    audio that never passes the gate give -70.

  Raises:
    ValueError: If the audio is empty, shorter than 0.4 s, not finite or of more
      than 5 channels, or `sample_rate` is not allowed.
  """
  audio = _check_signal('audio', audio)
  _check_sample_rate(sample_rate)
  meter = pyloudnorm.Meter(sample_rate)
  if len(audio) < meter.block_size * sample_rate:
    raise ValueError(
      f'The audio has {len(audio)} samples at {sample_rate} Hz, '
      f'{len(audio) / sample_rate:.3f} s; loudness needs at least '
      f'{meter.block_size} s. Use a longer clip.'
    )
  if audio.ndim == 2 and audio.shape[1] > 5:
    raise ValueError(
      f'audio has shape {audio.shape}; loudness is defined for at most 5 '
      'channels, [n_samples, n_channels]. Transpose or select channels.'
    )
  return float(max(meter.integrated_loudness(audio), _SILENCE_LUFS))


def loudness_difference(target, audio, sample_rate):
  """Absolute difference of the integrated loudness.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels], of at
      least 0.4 s and at most 5 channels.
    audio: Audio of the same shape.
    sample_rate: Sample rate in Hz, > 0.

  Returns:
    Difference in LU (dB), >= 0. Silence counts as -70 LUFS.

  Raises:
    ValueError: As `loudness_lufs`, or if the shapes are unequal.
  """
  target, audio = _check_pair(target, audio)
  return abs(
    loudness_lufs(target, sample_rate) - loudness_lufs(audio, sample_rate)
  )


# ---------------------- Alignment ---------------------------------------------
def find_lag(target, audio, max_lag, ignore_polarity=False):
  """Finds how late `audio` is: `dafx.losses.find_lag` for one file.

  A positive lag says that `audio` is late: `audio[n + lag]` matches
  `target[n]`. The lag is that of the largest normalised cross-correlation of
  the overlapping parts, channels together; of equally good ones (to 1e-6) it is
  the shortest, and of +l and -l, -l.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels].
    audio: Audio of the same shape.
    max_lag: Longest lag that is tried, in samples; 0 <= max_lag < n_samples.
    ignore_polarity: Whether an inverted match counts as a match.

  Returns:
    Lag in samples, an int in [-max_lag, max_lag].

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes, or
      `max_lag` is not allowed.
  """
  target, audio = _check_pair(target, audio)
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

  # Index n_samples - 1 of the full correlation is lag 0.
  correlation = sum(
    scipy.signal.correlate(a, t, mode='full', method='fft')
    for t, a in zip(_channels_first(target), _channels_first(audio))
  )[lags + n_samples - 1]

  def overlap_energy(signal, start, stop):
    energy = np.cumsum(np.sum(_channels_first(signal) ** 2, axis=0))
    energy = np.concatenate([[0.0], energy])
    return energy[stop] - energy[start], energy[-1]

  target_energy, target_total = overlap_energy(target, early, n_samples - late)
  energy, total = overlap_energy(audio, late, n_samples - early)
  norm = np.maximum(
    np.sqrt(target_energy * energy),
    _MIN_OVERLAP_ENERGY * np.sqrt(target_total * total),
  )
  scores = correlation / np.where(norm > 0, norm, 1.0)
  if ignore_polarity:
    scores = np.abs(scores)
  return int(lags[np.argmax(scores >= np.max(scores) - _SCORE_TOLERANCE)])


def align(target, audio, lag):
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
  """
  target, audio = _check_pair(target, audio)
  n_shared = len(target) - abs(lag)
  if n_shared <= 0:
    raise ValueError(
      f'lag={lag} leaves nothing of {len(target)} samples; abs(lag) must be '
      'less than n_samples.'
    )
  early, late = max(-lag, 0), max(lag, 0)
  return target[early : early + n_shared], audio[late : late + n_shared]


# ---------------------- Sets of files -----------------------------------------
def log_mel_embedding(audio, sample_rate):
  """Describes a file by its log-mel spectrogram, second by second.

  An embedding for `frechet_audio_distance` that needs no network and no
  download: mean and standard deviation over time of 32 mel bands from 50 Hz to
  7 kHz, in dB, for windows of 1 s with half overlap, channels averaged.
  It tells timbre, level and their movement, not what a listener makes of them.

  Args:
    audio: Audio. Shape [n_samples] or [n_samples, n_channels], of at least 1 s.
    sample_rate: Sample rate in Hz, >= 14,000.

  Returns:
    One row per window. Shape [n_windows, 64].

  Raises:
    ValueError: If the audio is shorter than 1 s or not finite, or `sample_rate`
      is not allowed.
  """
  audio = _check_signal('audio', audio)
  if not sample_rate >= 14000:
    raise ValueError(
      f'sample_rate={sample_rate} Hz must be at least 14000: the bands reach '
      '7 kHz.'
    )
  _check_length(audio, int(sample_rate), 'log_mel_embedding')
  mel = librosa.feature.melspectrogram(
    y=np.mean(_channels_first(audio), axis=0),
    sr=sample_rate,
    n_fft=2048,
    hop_length=int(sample_rate) // 100,
    n_mels=32,
    fmin=50.0,
    fmax=7000.0,
  )
  level_db = librosa.power_to_db(mel, ref=1.0, top_db=None)  # [32, n_frames]
  windows = librosa.util.frame(level_db, frame_length=100, hop_length=50)
  # From [32, 100, n_windows].
  return np.concatenate([windows.mean(1), windows.std(1)]).T


def frechet_distance(mean_a, covariance_a, mean_b, covariance_b):
  """Squared Frechet distance of two normal distributions.

  Dowson and Landau, 1982: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^1/2).

  Args:
    mean_a: Shape [n_dims].
    covariance_a: Shape [n_dims, n_dims].
    mean_b: Shape [n_dims].
    covariance_b: Shape [n_dims, n_dims].

  Returns:
    Distance, >= 0.
  """
  # Eigenvalues of C_a C_b are those of a symmetric matrix, real and >= 0; so
  # their roots are sure, where a matrix root of a singular product is not.
  values, vectors = np.linalg.eigh(covariance_a)
  root_a = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
  eigenvalues = np.linalg.eigvalsh(root_a @ covariance_b @ root_a)
  trace = np.trace(covariance_a) + np.trace(covariance_b)
  trace -= 2.0 * np.sum(np.sqrt(np.maximum(eigenvalues, 0.0)))
  difference = np.asarray(mean_a) - np.asarray(mean_b)
  return float(max(difference @ difference + trace, 0.0))


def frechet_audio_distance(
  targets, audios, sample_rate, embedding=log_mel_embedding
):
  """Frechet distance of two sets of files in an embedding.

  Kilgour et al., 2019 (https://arxiv.org/abs/1812.08466), for any embedding;
  values of different embeddings do not compare. Theirs is VGGish; pass a
  function that computes it, if you have the network.

  Args:
    targets: Target files. Sequence of [n_samples] or [n_samples, n_channels].
    audios: Files to judge; neither as many nor as long need they be.
    sample_rate: Sample rate in Hz.
    embedding: Called `(audio, sample_rate)`; gives [n_vectors, n_dims].

  Returns:
    Distance, >= 0; 0 for sets of equal mean and covariance.

  Raises:
    ValueError: If a set gives fewer than two vectors; or as the embedding.
  """
  moments = []
  for name, files in (('targets', targets), ('audios', audios)):
    rows = [np.asarray(embedding(file, sample_rate)) for file in files]
    n_vectors = sum(len(r) for r in rows)
    if n_vectors < 2:
      raise ValueError(
        f'{name} give {n_vectors} vectors of the embedding; a covariance needs '
        'at least 2. Use more or longer files.'
      )
    rows = np.concatenate(rows).astype(np.float64)
    moments += [rows.mean(0), np.atleast_2d(np.cov(rows, rowvar=False))]
  return frechet_distance(*moments)


# ---------------------- Speech ------------------------------------------------
def require_pesq():
  """Returns the package pesq.

  Raises:
    ImportError: It is not installed; the message says how to get it.
  """
  try:
    import pesq as package
  except ImportError as error:
    raise ImportError(
      "PESQ needs the package pesq: pip install 'dafx[speech]' (it is compiled "
      'when it is installed). Or do without: dafx.training.evaluate.with_pesq '
      '= False.'
    ) from error
  return package


def pesq(target, audio, sample_rate):
  """Wide-band PESQ, ITU-T P.862.2, through the package pesq, at 16 kHz.

  Args:
    target: Clean speech. Shape [n_samples] or [n_samples, n_channels], which
      are mixed; at least a quarter of a second.
    audio: Speech of the same shape.
    sample_rate: Sample rate in Hz, > 0; both are brought to 16 kHz.

  Returns:
    Predicted opinion score from 1.04 to 4.64, higher is better; NaN where
    the standard's algorithm finds no speech.

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes.
    ImportError: If the package is not installed.
  """
  package = require_pesq()
  target, audio = _check_pair(target, audio)
  _check_sample_rate(sample_rate)
  at_16k = [
    librosa.resample(
      _channels_first(x).mean(axis=0), orig_sr=sample_rate, target_sr=16000
    )
    for x in (target, audio)
  ]
  try:
    return float(package.pesq(16000, *at_16k, 'wb'))
  except package.NoUtterancesError:
    return float('nan')


# ---------------------- All together ------------------------------------------
def evaluate(target, audio, sample_rate, max_lag=None):
  """Gives all metrics of one file.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels], of at
      least 0.4 s and 2,048 samples, after alignment.
    audio: Audio of the same shape.
    sample_rate: Sample rate in Hz, > 0.
    max_lag: Longest lag in samples, 0 <= max_lag < n_samples, within which to
      align first, so that latency does not dominate; None: compare as they are.

  Returns:
    Dictionary of floats: 'mr_stft', 'mae', 'mfcc_cosine' (over frames),
    'loudness_difference' (LU), and, when aligned, 'lag_samples' (positive:
    audio is late).

  Raises:
    ValueError: As the metrics and `find_lag`.
  """
  values = {}
  if max_lag is not None:
    lag = find_lag(target, audio, max_lag)
    target, audio = align(target, audio, lag)
    values['lag_samples'] = float(lag)
  values['mr_stft'] = mr_stft(target, audio)
  values['mae'] = mae(target, audio)
  values['mfcc_cosine'] = mfcc_cosine(target, audio, sample_rate)
  values['loudness_difference'] = loudness_difference(
    target, audio, sample_rate
  )
  return values
