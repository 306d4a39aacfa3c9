"""How late a target is: lag, polarity, and whether it is the same music.

Generalised cross-correlation (Knapp and Carter, IEEE Trans. ASSP 24, 1976) of
what lies above a high-pass, whitened in part (the beta of 0.7 of Donohue,
Hannemann and Dietz, "Performance of Phase Transform for Detecting Sound
Sources", Signal Processing 87, 2007): tone and level do not matter, and neither
does a bass that repeats itself.

The lag of the whole is found first. Then each stretch of some seconds is asked
for its own: where stretches disagree, one of the files was cut, or its clock
ran differently, and only the longest part that agrees is a pair.

A processor that turns phases, such as the crossovers of a multiband compressor,
takes the correlation down at any lag. So a stretch that correlates little is
asked for its coherence, which no filter changes.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import scipy.fft
import scipy.signal

from dafx.audio import sources
from dafx.training import likeness

_COARSE_HZ = 11025
_STRETCH_S = 4.0
# How far a stretch may look around the lag of the whole, and how far its own
# may lie from it.
_LOOK_S = 0.05
_AGREE_S = 2e-4
_SILENCE_DB = -80.0
# Lags between samples are found on a grid so fine, then by a parabola.
_GRID = 16
_SINC_SAMPLES = 32
# An answer begins where it comes to this share of its peak, so long before the
# peak at most. It is estimated from windows so long, and where the input has at
# least this share of its mean power.
_ONSET = 0.25
_ONSET_S = 2e-3
_ANSWER_SAMPLES = 4096
_POWER_FLOOR = 1e-3

# A tone fits another of its pitch at many lags. Where the level of both keeps
# within so many dB, over frames so long, lags so far from the best are asked
# whether they fit nearly as well. Of what decays or has an onset, such as a
# plucked string, the next period fits worse, and the best lag is the right one.
_STEADY_DB = 3.0
_FRAME_S = 0.05
_NEXT_S = 2e-3
_AS_WELL = 0.85

# Of the first 20 s of the embedded songs, masters and their mixes come to 0.93
# and more; two songs to 0.30, and not half of them at one lag.
MIN_CONFIDENCE = 0.3
MIN_PART = 0.5

# Mean of the squared coherence above the high-pass. Twelve of those songs
# through multiband compressors, equalisers and distortion at random settings
# have 0.84 and more; two songs, at the lag that fits best, have 0.29 at most.
_MIN_COHERENCE = 0.5


class AlignmentError(ValueError):
  """Two files that are no pair; the message says why."""


@dataclasses.dataclass(frozen=True)
class Alignment:
  """How a target lies to its input.

  Attributes:
    lag_samples: By how many samples, at the rate of both, the target is late;
      negative if early. Not rounded.
    confidence: Correlation at that lag, whitened, from 0 to 1, the median over
      the stretches of the part that agrees.
    polarity: -1 where the target is upside down, else 1.
    first_sample: Where the part that agrees begins, in the input.
    last_sample: The sample of the input after that part.
  """

  lag_samples: float
  confidence: float
  polarity: int
  first_sample: int
  last_sample: int


def _peak_between(values: np.ndarray, index: int) -> float:
  """Returns where a band-limited sequence peaks, close to an index.

  Interpolates by a windowed sinc, then by a parabola.
  """
  reach = min(_SINC_SAMPLES, index, len(values) - 1 - index)
  if reach < 2:
    return float(index)
  offsets = np.arange(-reach, reach + 1)
  places = np.arange(-_GRID, _GRID + 1) / _GRID
  distance = places[:, np.newaxis] - offsets
  window = np.cos(np.pi * np.clip(distance / (2 * reach + 2), -0.5, 0.5)) ** 2
  fine = (np.sinc(distance) * window) @ values[index + offsets]
  fine *= np.sign(values[index])
  k = int(np.clip(fine.argmax(), 1, len(fine) - 2))
  left, middle, right = fine[k - 1 : k + 2]
  bend = left - 2 * middle + right
  step = 0.5 * (left - right) / bend if bend else 0.0
  return index + places[k] + np.clip(step, -1, 1) / _GRID


def _level_db(audio):
  return 10 * np.log10(np.mean(np.square(audio, dtype=np.float64)) + 1e-20)


def _mono(audio):
  return np.asarray(audio, np.float32).mean(axis=1)


def _coarse_lag(x, y, sample_rate):
  """Returns the lag of the whole in samples, and where audio is silent."""
  rate = min(sample_rate, _COARSE_HZ)
  x, y = (
    likeness.high_passed(sources.resample(s, sample_rate, rate), rate)
    for s in (x, y)
  )
  n_samples = max(len(x), len(y))
  x, y = (np.pad(s, (0, n_samples - len(s))) for s in (x, y))
  found = np.abs(likeness.correlate(x, y)).argmax() - (n_samples - 1)
  return round(found * sample_rate / rate)


def _fades(n_samples, sample_rate):
  """Returns fades so short that the onset of a note stays in it.

  The onset tells one period of it from the next.
  """
  n_faded = min(2 * _FRAME_S * sample_rate, 0.5 * n_samples)
  return scipy.signal.windows.tukey(n_samples, n_faded / n_samples)


class _Stretch(NamedTuple):
  """A part of the input, and how the target lies to it.

  Attributes:
    first: Its first sample.
    last: The sample after it.
    lag_samples: The target's lag there; None where one of them is quiet.
    correlation: At that lag.
    is_sure: Whether they are the same music there.
  """

  first: int
  last: int
  lag_samples: float | None
  correlation: float
  is_sure: bool


def _stretches(x, y, lag, sample_rate, min_confidence):
  """Yields a `_Stretch` for each part of x."""
  first, last = max(0, -lag), min(len(x), len(y) - lag)
  length = min(int(_STRETCH_S * sample_rate), last - first)
  n_parts = max((last - first) // max(length, 1), 1)
  edges = np.linspace(first, last, n_parts + 1).astype(int)
  look = min(int(_LOOK_S * sample_rate), length // 4)
  for start, stop in zip(edges[:-1], edges[1:], strict=True):
    sides = x[start:stop], y[start + lag : stop + lag]
    if min(map(_level_db, sides)) < _SILENCE_DB:
      yield _Stretch(start, stop, None, 0.0, False)
      continue
    # Faded: the edges would correlate at the very lag they were cut at.
    fade = _fades(stop - start, sample_rate)
    values = likeness.correlate(*(side * fade for side in sides))
    centre = stop - start - 1
    near = values[centre - look : centre + look + 1]
    index = int(np.abs(near).argmax())
    own = lag + _peak_between(near, index) - look
    correlation = float(near[index])
    is_sure = abs(correlation) >= min_confidence
    if not is_sure:
      shift = index - look
      ours = sides[0][max(0, -shift) : len(sides[0]) - max(0, shift)]
      theirs = sides[1][max(0, shift) : len(sides[1]) - max(0, -shift)]
      is_sure = likeness.coherence(ours, theirs, sample_rate) >= _MIN_COHERENCE
    yield _Stretch(start, stop, own, correlation, is_sure)


def _is_steady(audio, sample_rate):
  length = int(_FRAME_S * sample_rate)
  audio = audio[length:]  # the high-pass sets in
  if len(audio) < 2 * length:
    return False
  frames = audio[: len(audio) // length * length].reshape(-1, length)
  power = np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-20
  return 10 * np.log10(power.max() / power.min()) <= _STEADY_DB


def _rival_lag(x, y, sample_rate):
  """Returns by how much else y fits x as well, in samples; None if by none.

  Only tones that last are asked for it, in their first seconds.
  """
  if not (_is_steady(x, sample_rate) and _is_steady(y, sample_rate)):
    return None
  n_samples = min(len(x), len(y), int(_STRETCH_S * sample_rate))
  fade = _fades(n_samples, sample_rate)
  values = likeness.correlate(x[:n_samples] * fade, y[:n_samples] * fade)
  look = min(int(_LOOK_S * sample_rate), n_samples // 4)
  near = np.abs(values[n_samples - 1 - look : n_samples + look])
  lags = np.arange(-look, look + 1) - (near.argmax() - look)
  others = np.where(np.abs(lags) > _NEXT_S * sample_rate, near, 0.0)
  if others.max() < _AS_WELL * near.max():
    return None
  return int(lags[others.argmax()])


def _longest_run(agrees):
  """Returns (first, last + 1) of the longest run of what is not False."""
  best, start = (0, 0), 0
  for i, value in enumerate([*agrees, False]):
    if value is False:
      if i - start > best[1] - best[0]:
        best = start, i
      start = i + 1
  return best


def _part_that_agrees(found, lag, n_samples, sample_rate, min_confidence):
  """Finds the longest part that agrees on one lag.

  Args:
    found: What `_stretches` yields.
    lag: The lag of the whole, in samples.
    n_samples: Of the shorter of both.
    sample_rate: In Hz.
    min_confidence: Correlation that makes a stretch sure, for the message.

  Returns:
    Its stretches that are not quiet, its first sample, and the one after it.

  Raises:
    AlignmentError: There is none, or it is less than half of the whole.
  """
  heard = [part for part in found if part.lag_samples is not None]
  sure = [part.lag_samples for part in heard if part.is_sure]
  if not sure:
    values = np.abs([part.correlation for part in heard])
    confidence = float(np.median(values)) if heard else 0.0
    raise AlignmentError(
      f'they do not sound alike: correlation {confidence:.3f} at a lag of '
      f'{lag / sample_rate:.3f} s, and {min_confidence} is needed'
    )
  centre = _most_common(np.array(sure), _AGREE_S * sample_rate)
  tolerance = max(_AGREE_S * sample_rate, 2.0)
  agrees = [
    None
    if part.lag_samples is None
    else bool(abs(part.lag_samples - centre) <= tolerance and part.is_sure)
    for part in found
  ]
  start, stop = _longest_run(agrees)
  # A stretch beside one that disagrees may lie across the cut.
  start += start > 0
  stop -= stop < len(found)
  while start < stop and agrees[start] is None:
    start += 1
  while start < stop and agrees[stop - 1] is None:
    stop -= 1
  first = last = 0
  if start < stop:
    first, last = found[start].first, found[stop - 1].last
  if last - first < MIN_PART * n_samples:
    raise AlignmentError(
      f'only {(last - first) / sample_rate:.1f} of '
      f'{n_samples / sample_rate:.1f} s agree on one lag; over the file it '
      f'goes from '
      f'{min(sure) / sample_rate:.4f} to '
      f'{max(sure) / sample_rate:.4f} s: other takes or cuts, or clocks '
      'that differ'
    )
  inside = [p for p in found[start:stop] if p.lag_samples is not None]
  if start == 0 or all(a is None for a in agrees[:start]):
    first = found[0].first  # the quiet before it belongs to it
  if stop == len(found) or all(a is None for a in agrees[stop:]):
    last = found[-1].last
  return inside, first, last


def align(
  audio: np.ndarray,
  target: np.ndarray,
  sample_rate: int,
  min_confidence: float = MIN_CONFIDENCE,
) -> Alignment:
  """Finds how a target lies to its input.

  Args:
    audio: The input, [n_samples, n_channels].
    target: The target, [n_samples, n_channels]; neither number need be the
      input's.
    sample_rate: Of both, in Hz.
    min_confidence: Correlation that a pair must have, if it has not the
      coherence of one.

  Returns:
    What was found.

  Raises:
    AlignmentError: One is silent, they correlate too little, less than half of
      them agrees on one lag, or they are a tone that fits at many.
  """
  x, y = _mono(audio), _mono(target)
  for side, signal in (('input', x), ('target', y)):
    if not len(signal) or _level_db(signal) < _SILENCE_DB:
      raise AlignmentError(
        f'the {side} is silent (below {_SILENCE_DB:g} dB full scale)'
      )
  lag = _coarse_lag(x, y, sample_rate)
  x, y = (likeness.high_passed(s, sample_rate) for s in (x, y))
  found = list(_stretches(x, y, lag, sample_rate, min_confidence))
  whole = min(len(x), len(y))
  inside, first, last = _part_that_agrees(
    found, lag, whole, sample_rate, min_confidence
  )
  values = np.array([part.correlation for part in inside])
  lag_samples = float(np.median([part.lag_samples for part in inside]))
  whole = round(lag_samples)
  start, stop = max(first, -whole), min(last, len(y) - whole)
  sides = x[start:stop], y[start + whole : stop + whole]
  rival = _rival_lag(*sides, sample_rate)
  if rival is not None:
    raise AlignmentError(
      'they are a tone that lasts, and fit as well at a lag of '
      f'{(whole + rival) / sample_rate:.4f} s as of '
      f'{lag_samples / sample_rate:.4f} s'
    )
  return Alignment(
    lag_samples=lag_samples,
    confidence=float(np.median(np.abs(values))),
    polarity=-1 if np.median(values) < 0 else 1,
    first_sample=int(first),
    last_sample=int(last),
  )


def causal_lag(
  audio: np.ndarray, target: np.ndarray, sample_rate: int, lag_samples: float
) -> int:
  """Finds where the answer of an effect begins, from where it is strongest.

  `align` finds the lag at which both are most alike. Of a filter that is the
  middle of its answer, and a network that is causal cannot learn what comes
  before. The answer is estimated by Welch's method; what its beginning owes to
  the spectrum of the input, which rings before a peak too, does not count.

  Args:
    audio: The input, [n_samples, n_channels].
    target: The target, likewise.
    sample_rate: Of both, in Hz.
    lag_samples: What `align` found.

  Returns:
    The lag in whole samples at which the answer begins.
  """
  x, y = (
    likeness.high_passed(_mono(side), sample_rate) for side in (audio, target)
  )
  whole = round(lag_samples)
  first, last = max(0, -whole), min(len(x), len(y) - whole)
  x, y = x[first:last], y[first + whole : last + whole]
  n_fft = min(_ANSWER_SAMPLES, len(x))
  power, cross = (
    scipy.signal.csd(x, other, nperseg=n_fft, detrend=False)[1]
    for other in (x, y)
  )
  floor = _POWER_FLOOR * np.mean(power.real)
  n_before = min(int(_ONSET_S * sample_rate), n_fft // 4)

  def samples_before(spectrum):
    answer = np.abs(scipy.fft.irfft(spectrum / (power.real + floor), n_fft))
    around = np.roll(answer, n_before)[: 2 * n_before + 1]
    return max(n_before - int(np.argmax(around >= _ONSET * around.max())), 0)

  return whole - max(samples_before(cross) - samples_before(power), 0)


def _most_common(lags, tolerance):
  """Returns the lag that most others are close to."""
  votes = np.sum(np.abs(lags[:, np.newaxis] - lags) <= tolerance, axis=1)
  return lags[votes.argmax()]


def shift(audio: np.ndarray, samples: float) -> np.ndarray:
  """Moves audio by a part of a sample, by the phase of its spectrum.

  Args:
    audio: Shape [n_samples, n_channels].
    samples: By how much later.

  Returns:
    Audio of that shape; silence is taken to lie around it.
  """
  n_samples = len(audio)
  n_fft = scipy.fft.next_fast_len(n_samples + 256, real=True)
  turns = np.exp(-2j * np.pi * samples * np.arange(n_fft // 2 + 1) / n_fft)
  if n_fft % 2 == 0:
    turns[-1] = np.cos(np.pi * samples)  # at half the rate only a real part is
  spectrum = scipy.fft.rfft(audio, n_fft, axis=0) * turns[:, np.newaxis]
  return scipy.fft.irfft(spectrum, n_fft, axis=0)[:n_samples]


def apply(
  audio: np.ndarray, target: np.ndarray, alignment: Alignment
) -> tuple[np.ndarray, np.ndarray]:
  """Cuts both to the part that agrees, the target moved into place.

  Whole samples are cut off; the rest of the lag, less than half a sample, is a
  shift of the target by phase. A target that is less than half a sample off is
  left as it is, bit by bit: an equaliser's phase is no delay.

  Args:
    audio: The input, [n_samples, n_channels].
    target: The target, likewise.
    alignment: What `align` found.

  Returns:
    Both, of one length.
  """
  whole = round(alignment.lag_samples)
  part = alignment.lag_samples - whole
  first = max(alignment.first_sample, -whole)
  last = min(alignment.last_sample, len(audio), len(target) - whole)
  if whole and abs(part) >= 0.01:
    target = shift(target, -part)
  return audio[first:last], target[first + whole : last + whole]
