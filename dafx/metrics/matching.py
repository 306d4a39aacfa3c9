"""Audio brought to its target's level, lag and polarity, and measured there.

A raw distance says mostly how loud a file is. What is left of it at equal level
says what an engineer asks: tone, dynamics, width.
"""

import contextlib
import math

import numpy as np
import numpy.typing as npt

from dafx.metrics import alignment, levels, pairs, spectra, stereo

# Samples within which audio may be late or early.
_MAX_LAG = 2000


def match_level(target: npt.ArrayLike, audio: npt.ArrayLike) -> np.ndarray:
  """Scales audio to the root mean square of its target.

  Args:
    target: Target audio, not silent. Shape [n_samples] or [n_samples,
      n_channels].
    audio: Audio of the same shape.

  Returns:
    Audio of that shape, float64; silence stays silence.

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes, or the
      target is silent.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> louder = metrics.match_level(target, 0.1 * target)
    >>> np.allclose(louder, target)
    True
  """
  target, audio = pairs.check_pair(target, audio)
  target_energy = pairs.target_energy(target, 'match_level')
  energy = np.vdot(audio, audio)
  return audio * np.sqrt(target_energy / energy) if energy > 0 else audio


def match_loudness(
  target: npt.ArrayLike, audio: npt.ArrayLike, sample_rate: float
) -> np.ndarray:
  """Scales audio to the integrated loudness (BS.1770-4) of its target.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels], of at
      most 5 channels.
    audio: Audio of the same shape.
    sample_rate: Sample rate in Hz, > 0.

  Returns:
    Audio of that shape, float64, times one gain; as it is if it or the target
    has no loudness, being silent. Nothing keeps peaks below full scale.

  Raises:
    ValueError: As `loudness_lufs`, or if the shapes are unequal.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> louder = metrics.match_loudness(target, 0.1 * target, 44100)
    >>> np.allclose(louder, target)
    True
  """
  target, audio = pairs.check_pair(target, audio)
  wanted, lufs = (levels.loudness_lufs(x, sample_rate) for x in (target, audio))
  if levels.SILENCE_LUFS in (wanted, lufs):
    return audio
  return audio * 10.0 ** ((wanted - lufs) / 20.0)


def match(
  target: npt.ArrayLike, audio: npt.ArrayLike, max_lag: int = _MAX_LAG
) -> tuple[np.ndarray, np.ndarray]:
  """Brings audio to the lag, polarity and level of its target.

  The lag is that of the largest cross-correlation, of either sign, channels
  together. What both share at it is kept; audio that is upside down there is
  turned over; its root mean square is made the target's.

  Args:
    target: Target audio, not silent. Shape [n_samples] or [n_samples,
      n_channels].
    audio: Audio of the same shape.
    max_lag: Longest lag that is tried, in samples, >= 0.

  Returns:
    Target and audio, float64. Shape [n_samples - abs(lag)] or [n_samples -
    abs(lag), n_channels].

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes, or the
      target is silent where both overlap.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> first, second = metrics.match(target, -0.1 * np.roll(target, 7))
    >>> len(first), np.allclose(first, second)
    (44093, True)
  """
  target, audio = pairs.check_pair(target, audio)
  lag = alignment.find_lag(
    target,
    audio,
    min(max_lag, len(target) - 1),
    ignore_polarity=True,
    by_overlap=False,
  )
  target, audio = alignment.align(target, audio, lag)
  if np.vdot(target, audio) < 0:
    audio = -audio
  return target, match_level(target, audio)


def matched(
  target: npt.ArrayLike, audio: npt.ArrayLike, sample_rate: float
) -> dict[str, float]:
  """Measures audio after its level, lag and polarity are the target's.

  The first three are of the mean of the channels, brought to the target by
  `match`, with lags up to 2,000 samples: a gain, a delay of at most that and a
  turn upside down leave them as they are. The last two compare ratios of levels
  of the whole files, which no gain changes.

  Args:
    target: Target audio. Shape [n_samples] or [n_samples, n_channels].
    audio: Audio of the same shape.
    sample_rate: Sample rate in Hz, > 0.

  Returns:
    Dictionary of floats, >= 0: 'matched_mr_stft', the distance of
    `multi_scale_spectral` (`mr_stft` is auraloss's, another one);
    'average_spectrum_db' and 'crest_error_db', the errors in dB of average
    spectrum and crest factor; for two channels also 'width_error_db' and
    'mono_sum_error_db'. NaN for what the audio has not: all of them for a
    silent target, the average spectrum, the crest and the width of silence, the
    average spectrum of less than 8,192 samples.

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes, or
      `sample_rate` is not allowed.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> target = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> values = metrics.matched(target, -0.1 * np.roll(target, 7), 44100)
    >>> {name: round(value, 6) for name, value in values.items()}
    {'matched_mr_stft': 0.0, 'average_spectrum_db': 0.0, 'crest_error_db': 0.0}
  """
  pair = pairs.check_pair(target, audio)
  pairs.check_sample_rate(sample_rate)
  values = dict.fromkeys(
    ('matched_mr_stft', 'average_spectrum_db', 'crest_error_db'), math.nan
  )
  # Each of these raises for what has no such value, such as silence.
  with contextlib.suppress(ValueError):
    target, audio = (pairs.channels_first(x).mean(axis=0) for x in pair)
    target, audio = match(target, audio)
    values['matched_mr_stft'] = spectra.multi_scale_spectral(target, audio)
    with contextlib.suppress(ValueError):
      values['average_spectrum_db'] = spectra.average_spectrum_error_db(
        target, audio, sample_rate
      )
    values['crest_error_db'] = levels.crest_error_db(target, audio)
  if pair[0].ndim == 2 and pair[0].shape[1] == 2:
    values.update(width_error_db=math.nan, mono_sum_error_db=math.nan)
    with contextlib.suppress(ValueError):
      values['width_error_db'] = stereo.width_error_db(*pair)
      values['mono_sum_error_db'] = stereo.mono_sum_error_db(*pair)
  return values
