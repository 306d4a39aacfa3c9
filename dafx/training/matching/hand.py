"""How loud the hand behind a reference would leave another song.

A hand is plugins and their settings. Two songs that are equally loud do not
come out of it equally loud. Limiters take more from the one with higher peaks,
and compressors from the one whose loud parts stand out. Both act on levels,
whereas the ear, and BS.1770, hear highs more than lows.
"""

from collections.abc import Sequence

import numpy as np

from dafx import metrics

_BLOCK = 128
_PEAK_PERCENTILE = 99.7
_MOMENTARY_S, _HOP_S = 0.4, 0.1
# LU for each dB by which the first three traits of a song are above those of
# the reference, and an offset, as the hand has lowered those of the reference.
# Least squares over 410 pairs of Debian's songs. Through an equaliser, a
# compressor and a limiter the reference's own loudness was 1.27 LU off in the
# mean, this 0.93; through a multiband compressor and another limiter 0.90 and
# 0.71; where little was done, 0.72 and 0.68. `benchmarks/hands.py` does it so.
LU_PER_DB = np.array([-0.28, -0.09, 0.56])
OFFSET_LU = 0.74
# How far the highest peak stands out, in dB, of a reference that tells all, and
# of one that tells nothing, as it was not limited: a song before mastering has
# 1.7 dB, after a limiter 0.5 dB.
_LIMITED_DB, _UNLIMITED_DB = 0.5, 1.7
# So far it has been tried.
_LARGEST_LU = 2.0


def traits_db(audio: np.ndarray, sample_rate: float) -> np.ndarray:
  """Measures what decides how loud a song comes out of plugins.

  Args:
    audio: Shape [n_samples, n_channels], not silent.
    sample_rate: In Hz.

  Returns:
    In dB, [4]: peaks of the middle over its level, above which 0.3 % lie; the
    largest momentary loudness over that of the whole; loudness over the level
    of all channels; the highest peak over the first. No gain moves them.
  """
  middle = np.asarray(audio, np.float64).mean(-1)
  blocks = middle[: len(middle) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
  peaks = np.max(blocks**2, axis=1)
  usual_db = _decibels(np.percentile(peaks, _PEAK_PERCENTILE))
  _, momentary = metrics.loudness_over_time(
    audio, sample_rate, _MOMENTARY_S, _HOP_S
  )
  whole = _decibels(np.mean(10.0 ** (momentary / 10.0)))
  power = np.mean(np.sum(np.asarray(audio, np.float64) ** 2, axis=1))
  return np.array(
    [
      usual_db - _decibels(np.mean(middle**2)),
      np.max(momentary) - metrics.loudness_lufs(audio, sample_rate),
      whole - _decibels(power),
      _decibels(np.max(peaks)) - usual_db,
    ]
  )


def expected_change_lu(
  audio: np.ndarray, references: Sequence[np.ndarray], sample_rate: float
) -> float:
  """Returns how much louder than the references their hand would leave audio.

  What the references were before is not known; they are taken for songs like
  any others. Nothing is expected of references that were not limited.

  Args:
    audio: The input, [n_samples, n_channels].
    references: Each [n_samples, n_channels].
    sample_rate: Of all, in Hz.

  Returns:
    In LU, from -2 to 2.
  """
  others_db = np.mean([traits_db(r, sample_rate) for r in references], axis=0)
  return float(change_lu(traits_db(audio, sample_rate), others_db))


def change_lu(own_db: np.ndarray, other_db: np.ndarray) -> np.ndarray:
  """Returns how much louder than its reference a song is to become.

  Args:
    own_db: Traits of the song, [..., 4].
    other_db: Traits of the reference, [..., 4].

  Returns:
    In LU, from -2 to 2, [...].
  """
  change = (own_db - other_db)[..., :3] @ LU_PER_DB + OFFSET_LU
  return np.clip(share_told(other_db) * change, -_LARGEST_LU, _LARGEST_LU)


def share_told(other_db: np.ndarray) -> np.ndarray:
  """Returns how much a reference tells of its hand, from 0 to 1, [...].

  Args:
    other_db: Traits of the reference, [..., 4].
  """
  room_db = _UNLIMITED_DB - _LIMITED_DB
  return np.clip((_UNLIMITED_DB - other_db[..., 3]) / room_db, 0.0, 1.0)


def _decibels(power):
  return 10.0 * np.log10(np.maximum(power, 1e-14))
