"""The metrics of a file, all together."""

import numpy.typing as npt

from dafx.metrics import alignment, distances, levels


def evaluate(
  target: npt.ArrayLike,
  audio: npt.ArrayLike,
  sample_rate: float,
  max_lag: int | None = None,
) -> dict[str, float]:
  """Gives all metrics of one file.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels], of at
      least 2,048 samples, after alignment.
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

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> values = metrics.evaluate(
    ...   target, np.roll(target, 7), 44100, max_lag=100
    ... )
    >>> values['lag_samples'], values['mae']
    (7.0, 0.0)
  """
  values = {}
  if max_lag is not None:
    lag = alignment.find_lag(target, audio, max_lag)
    target, audio = alignment.align(target, audio, lag)
    values['lag_samples'] = float(lag)
  values['mr_stft'] = distances.mr_stft(target, audio)
  values['mae'] = distances.mae(target, audio)
  values['mfcc_cosine'] = distances.mfcc_cosine(target, audio, sample_rate)
  values['loudness_difference'] = levels.loudness_difference(
    target, audio, sample_rate
  )
  return values
