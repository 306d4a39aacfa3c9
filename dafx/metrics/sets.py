"""Distances of sets of files."""

from collections.abc import Callable, Sequence

import librosa
import numpy as np
import numpy.typing as npt

from dafx.metrics import pairs


def log_mel_embedding(audio: npt.ArrayLike, sample_rate: float) -> np.ndarray:
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

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> metrics.log_mel_embedding(target, 22050).shape
    (3, 64)
  """
  audio = pairs.check_signal('audio', audio)
  pairs.check_sample_rate(sample_rate)
  if sample_rate < 14000:
    raise ValueError(
      f'sample_rate={sample_rate} Hz must be at least 14000: the bands reach '
      '7 kHz.'
    )
  pairs.check_length(audio, int(sample_rate), 'log_mel_embedding')
  mel = librosa.feature.melspectrogram(
    y=np.mean(pairs.channels_first(audio), axis=0),
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


def frechet_distance(
  mean_a: np.ndarray,
  covariance_a: np.ndarray,
  mean_b: np.ndarray,
  covariance_b: np.ndarray,
) -> float:
  """Squared Frechet distance of two normal distributions.

  Dowson and Landau, 1982: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^1/2).

  Args:
    mean_a: Shape [n_dims].
    covariance_a: Shape [n_dims, n_dims].
    mean_b: Shape [n_dims].
    covariance_b: Shape [n_dims, n_dims].

  Returns:
    Distance, >= 0.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> metrics.frechet_distance(
    ...   np.zeros(2), np.eye(2), np.full(2, 3.0), np.eye(2)
    ... )
    18.0
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
  targets: Sequence[np.ndarray],
  audios: Sequence[np.ndarray],
  sample_rate: float,
  embedding: Callable[[np.ndarray, float], np.ndarray] = log_mel_embedding,
) -> float:
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

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> audio = np.random.default_rng(0).normal(0.0, 0.1, [44100, 2])
    >>> targets = [audio, 0.9 * audio]
    >>> round(metrics.frechet_audio_distance(targets, targets, 16000), 6)
    0.0
  """
  moments = []
  for name, files in (('targets', targets), ('audios', audios)):
    parts = [np.asarray(embedding(file, sample_rate)) for file in files]
    n_vectors = sum(len(part) for part in parts)
    if n_vectors < 2:
      raise ValueError(
        f'{name} give {n_vectors} vectors of the embedding; a covariance needs '
        'at least 2. Use more or longer files.'
      )
    rows = np.concatenate(parts).astype(np.float64)
    moments += [rows.mean(0), np.atleast_2d(np.cov(rows, rowvar=False))]
  return frechet_distance(*moments)
