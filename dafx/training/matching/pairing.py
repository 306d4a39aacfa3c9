"""What comes before a search: the pair, its crops, and doubts about it."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import scipy.signal

from dafx import _arguments, metrics
from dafx.training import align

# Shorter audio has no average spectrum, and dynamics hardly show.
MIN_SECONDS = 0.5
# Where the quiet crop lies among levels in order, and how quiet it may be,
# relative to the loud one.
_QUIET_PART, _QUIETEST_DB = 0.25, -40.0
# The side of two channels counts so much, where it is above so many dB.
_SIDE_WEIGHT = 0.2
_LEAST_SIDE_DB = -40.0
# A coded file ends at a frequency: levels fall so far within two bands.
_BAND_HZ, _LOWEST_END_HZ, _FALL_DB = 500.0, 8000.0, 20.0
# Samples in a row at the peak that count as clipped, and how many such runs.
_CLIPPED_SAMPLES, _CLIPPED_RUNS = 3, 3
_LENGTHS_DIFFER_S = 1.0
# Parts at both ends whose lags are compared, and the difference that is told.
_DRIFT_PART_S, _DRIFT_SAMPLES = 4.0, 1.5


@dataclasses.dataclass(frozen=True)
class Pair:
  """Input and target, brought to one lag, polarity and length.

  Attributes:
    audio: Shape [n_samples, n_channels].
    target: Shape [n_samples, n_target_channels].
    first_sample: Of the input, where the pair begins.
    lag_samples: By how many samples the target was late.
    is_inverted: Whether the target was upside down.
    highest_hz: Where the target ends, infinite if it does not.
    doubts: What a user should know, in sentences.
  """

  audio: np.ndarray
  target: np.ndarray
  first_sample: int
  lag_samples: float
  is_inverted: bool
  highest_hz: float
  doubts: tuple[str, ...]


def check_audio(name: str, audio: np.ndarray, sample_rate: float) -> np.ndarray:
  """Returns audio as [n_samples, n_channels], float32.

  Args:
    name: What messages call it.
    audio: Shape [n_samples] or [n_samples, n_channels].
    sample_rate: In Hz.

  Raises:
    ValueError: Another shape, too short, silent, or values not finite.
  """
  audio = _arguments.audio_array(f'The {name}', audio).astype(np.float32)
  if audio.ndim == 1:
    audio = audio[:, np.newaxis]
  if audio.ndim != 2 or not 1 <= audio.shape[1] <= 2:
    raise ValueError(
      f'The {name} has shape {audio.shape}; a match takes mono or stereo, '
      '[n_samples] or [n_samples, n_channels].'
    )
  if len(audio) < MIN_SECONDS * sample_rate:
    raise ValueError(
      f'The {name} has {len(audio) / sample_rate:.2f} s; a match needs '
      f'{MIN_SECONDS:g} s at least, and some seconds to be any good.'
    )
  if not np.isfinite(audio).all():
    raise ValueError(f'The {name} holds values that are NaN or infinite.')
  if metrics.loudness_lufs(audio, sample_rate) <= metrics.SILENCE_LUFS:
    raise ValueError(
      f'The {name} is silent (below {metrics.SILENCE_LUFS:g} LUFS). Give one '
      'that has sound.'
    )
  return audio


def make_pair(
  audio: np.ndarray, target: np.ndarray, sample_rate: float
) -> Pair:
  """Finds lag, polarity and what both share, and looks for what is wrong.

  Args:
    audio: The input, [n_samples, n_channels].
    target: The target, [n_samples, n_channels]; neither number need be that of
      the input.
    sample_rate: Of both, in Hz.

  Raises:
    ValueError: They are not the same music, or no pair for another reason.
  """
  doubts = list(doubts_about_input(audio))
  rate = int(sample_rate)
  try:
    found = align.align(audio, target, rate)
  except align.AlignmentError as error:
    raise ValueError(
      f'Input and target are not the same performance: {error}. A target is '
      'the same music after other effects, at the same tempo. For the '
      'character of other music give it as a reference (--reference).'
    ) from error
  cut, moved = align.apply(audio, target, found)
  lag_s = found.lag_samples / sample_rate
  if abs(found.lag_samples) >= 0.5:
    side = 'late' if lag_s > 0 else 'early'
    doubts.append(
      f'The target is {abs(found.lag_samples):.1f} samples '
      f'({1000 * abs(lag_s):.2f} ms) {side}; it was moved into place.'
    )
  if found.polarity < 0:
    moved = -moved
    doubts.append(
      'The target is upside down; it was turned over, and the output keeps the '
      'polarity of the input.'
    )
  lengths_s = len(audio) / sample_rate, len(target) / sample_rate
  shared_s = len(cut) / sample_rate
  if shared_s < min(lengths_s) - _LENGTHS_DIFFER_S:
    doubts.append(
      f'Only {shared_s:.1f} of {min(lengths_s):.1f} s agree on one lag: one of '
      'the files was cut, or its clock drifts. The rest was not used.'
    )
  elif abs(lengths_s[0] - lengths_s[1]) > _LENGTHS_DIFFER_S:
    doubts.append(
      f'The input has {lengths_s[0]:.1f} s, the target {lengths_s[1]:.1f} s; '
      'what both share was used.'
    )
  drift = _drift(cut, moved, rate)
  if abs(drift) >= _DRIFT_SAMPLES:
    doubts.append(
      f'The lag drifts by {abs(drift):.1f} samples from the first to the last '
      'seconds: the clocks of both differ, and high frequencies cannot be '
      'matched.'
    )
  if audio.shape[1] != target.shape[1]:
    names = {1: 'mono', 2: 'stereo'}
    doubts.append(
      f'The input is {names[audio.shape[1]]}, the target '
      f'{names[target.shape[1]]}: their means were compared, and nothing is '
      'said of width.'
    )
  ends_hz = find_end_hz(moved, sample_rate)
  if ends_hz < find_end_hz(cut, sample_rate):
    doubts.append(
      f'Above {ends_hz / 1000:.1f} kHz the target has no content: it was coded '
      'or resampled. What lies above was left out of the search.'
    )
  else:
    ends_hz = np.inf
  return Pair(
    np.asarray(cut, np.float32),
    np.asarray(moved, np.float32),
    max(found.first_sample, -round(found.lag_samples)),
    found.lag_samples,
    found.polarity < 0,
    ends_hz,
    tuple(doubts),
  )


def _drift(audio, target, rate):
  """Returns how much later the target is at the end, in samples."""
  size = round(_DRIFT_PART_S * rate)
  if len(audio) < 2 * size:
    return 0.0
  lags = []
  for part in (slice(size), slice(-size, None)):
    try:
      lags.append(align.align(audio[part], target[part], rate).lag_samples)
    except align.AlignmentError:  # silence, or a tone
      return 0.0
  return lags[1] - lags[0]


def doubts_about_input(audio: np.ndarray) -> Iterator[str]:
  """Yields what is wrong with an input, [n_samples, n_channels]."""
  peak = np.abs(audio).max()
  at_peak = np.abs(audio) >= 0.9999 * peak
  # How many samples in a row are at the peak.
  runs = at_peak[_CLIPPED_SAMPLES - 1 :].copy()
  for i in range(_CLIPPED_SAMPLES - 1):
    runs &= at_peak[i : i - _CLIPPED_SAMPLES + 1]
  if runs.sum() >= _CLIPPED_RUNS:
    yield (
      f'The input is clipped at {20 * np.log10(peak):.1f} dB full scale, in '
      f'{int(runs.sum())} places at least; no plugin here takes that back.'
    )


def find_end_hz(audio: np.ndarray, sample_rate: float) -> float:
  """Returns the frequency above which audio has no content.

  Args:
    audio: Shape [n_samples, n_channels].
    sample_rate: In Hz.

  Returns:
    In Hz; infinite where levels do not end before half the rate.
  """
  size = min(8192, len(audio))
  hz, density = scipy.signal.welch(audio.mean(-1), sample_rate, nperseg=size)
  edges = np.arange(0.0, hz[-1] - _BAND_HZ, _BAND_HZ)
  levels_db = np.array(
    [
      10.0 * np.log10(density[(hz >= e) & (hz < e + _BAND_HZ)].mean() + 1e-20)
      for e in edges
    ]
  )
  for i in range(2, len(edges) - 1):
    before = levels_db[i - 2]
    if edges[i] >= _LOWEST_END_HZ and (levels_db[i:] < before - _FALL_DB).all():
      return float(edges[i] - _BAND_HZ)
  return float('inf')


def crops(
  pair: Pair, sample_rate: float, crop_s: float = 3.0, lead_s: float = 0.5
) -> tuple[np.ndarray, np.ndarray, int]:
  """Chooses what is searched: the whole, or a loud and a quiet part.

  Args:
    pair: Input and target.
    sample_rate: In Hz.
    crop_s: Seconds of a part that are compared; what is no longer than two of
      them, with their leads, is taken as a whole.
    lead_s: Seconds before it that are only rendered.

  Returns:
    Input and target, [n_items, n_samples, n_channels] each, and how many
    samples at the start of an item are not to be compared.
  """
  n_samples = len(pair.target)
  lead, size = (round(s * sample_rate) for s in (lead_s, crop_s))
  if n_samples <= 2 * (lead + size):
    return pair.audio[np.newaxis], pair.target[np.newaxis], 0
  power = np.sum(np.asarray(pair.target, np.float64) ** 2, axis=1)
  sums = np.concatenate([[0.0], np.cumsum(power)])
  starts = np.arange(lead, n_samples - size, lead)
  means = (sums[starts + size] - sums[starts]) / size
  levels_db = 10.0 * np.log10(means + 1e-12)
  loud = int(np.argmax(levels_db))
  apart = np.abs(starts - starts[loud]) >= lead + size
  allowed = apart & (levels_db > levels_db[loud] + _QUIETEST_DB)
  chosen = [starts[loud]]
  if allowed.any():
    order = np.flatnonzero(allowed)[np.argsort(levels_db[allowed])]
    chosen.append(starts[order[int(_QUIET_PART * (len(order) - 1))]])
  elif not apart.any():  # the loud part leaves no room: both ends
    chosen = [starts[0], starts[-1]]
  parts = [slice(start - lead, start + size) for start in sorted(chosen)]
  return (
    np.stack([pair.audio[part] for part in parts]),
    np.stack([pair.target[part] for part in parts]),
    lead,
  )


def side_weight(pair: Pair) -> float:
  """Returns how much the side counts: nothing in mono or nearly so."""
  if pair.audio.shape[1] < 2 or pair.target.shape[1] < 2:
    return 0.0
  middle = pair.target.mean(-1)
  side = 0.5 * (pair.target[:, 0] - pair.target[:, 1])
  energy = [float(np.vdot(x, x)) + 1e-20 for x in (side, middle)]
  width_db = 10.0 * np.log10(energy[0] / energy[1])
  return _SIDE_WEIGHT if width_db > _LEAST_SIDE_DB else 0.0
