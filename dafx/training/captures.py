"""Captures of effects: the inputs that players send, and what goes wrong.

Neural Amp Modeler's standard input files are known by where their blips lie, in
samples (its `nam/train/core.py` has these numbers).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dafx.audio import scans

# A blip stands out of the quiet around it for no longer than this.
BLIP_S = 2e-3
QUIET_S = 0.1
BLIP_PEAK = 0.1
QUIET_PEAK = 1e-3
# A blip of a standard input lies so close to its place; resampled ones ring.
_PLACE_S = 5e-4

# Stretches that are looked at for sound that is missing.
_STRETCH_S = 0.1
_SHORTEST_S = 0.3
# The input is heard where it is no further below its loudest; the target is
# missing where it is further below.
_HEARD_DB = -40.0
_MISSING_DB = -75.0
# Of what is played twice: the ratio of Neural Amp Modeler's check.
MAX_REPEAT_ESR = 0.01


@dataclasses.dataclass(frozen=True)
class StandardInput:
  """An input file that many capture with.

  Attributes:
    name: What it is called.
    sample_rate: Its rate, in Hz; the numbers below are samples at it.
    blips: Where clicks lie by which the latency is told.
    first_sample: Where what is to be learned begins: what lies before comes
      again at the end, and would be heard both in training and in the test.
    has_first_click: Whether there is a click on the first sample too, which
      tells nothing: there is no quiet before it.
    repeat: (Start of what is played twice, its length, where from the end it
      comes again), or None.
  """

  name: str
  sample_rate: int
  blips: tuple[int, ...]
  first_sample: int = 0
  has_first_click: bool = False
  repeat: tuple[int, int, int] | None = None


STANDARD_INPUTS = (
  StandardInput(
    'v3 of Neural Amp Modeler',
    48000,
    (504_000, 552_000),
    first_sample=480_000,
    repeat=(0, 432_000, 432_000),
  ),
  StandardInput('v2 of Neural Amp Modeler', 48000, (24_000, 72_000)),
  StandardInput('v1 of Neural Amp Modeler', 48000, (12_000, 36_000)),
  StandardInput(
    'Proteus', 44100, (22_050,), first_sample=11_025, has_first_click=True
  ),
)


def is_blip(dry: np.ndarray, start: int, sample_rate: int) -> bool:
  """Returns whether a click begins at a sample, with quiet before and behind.

  Args:
    dry: Shape [n_samples].
    start: The sample.
    sample_rate: In Hz.
  """
  quiet, length = int(QUIET_S * sample_rate), int(BLIP_S * sample_rate)
  before = np.abs(dry[max(start - quiet, 0) : max(start - 1, 0)])
  after = np.abs(dry[start + length : start + quiet])
  return (
    len(before) >= quiet // 2
    and len(after) >= quiet // 2
    and before.max() < QUIET_PEAK
    and after.max() < QUIET_PEAK
  )


def _blip_near(dry, place, sample_rate):
  """Returns the first sample of the blip at a place, or None."""
  reach = max(int(_PLACE_S * sample_rate), 2)
  near = np.abs(dry[max(place - reach, 0) : place + reach + 1])
  loud = np.flatnonzero(near > BLIP_PEAK)
  if not len(loud):
    return None
  start = max(place - reach, 0) + int(loud[0])
  return start if is_blip(dry, start, sample_rate) else None


def find_standard(
  dry: np.ndarray, sample_rate: int
) -> tuple[StandardInput, list[int]] | None:
  """Finds which standard input an input is, by its blips.

  Args:
    dry: Shape [n_samples], from the start of the file on.
    sample_rate: In Hz; the file may have been resampled to it.

  Returns:
    (The input, the first samples of its blips); None if it is none of them.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import captures
    >>> dry = np.zeros(200_000, np.float32)
    >>> dry[[24_000, 72_000]] = 1.0
    >>> captures.find_standard(dry, 48000)[0].name
    'v2 of Neural Amp Modeler'
  """
  for known in STANDARD_INPUTS:
    scale = sample_rate / known.sample_rate
    found = [
      _blip_near(dry, round(b * scale), sample_rate) for b in known.blips
    ]
    blips = [start for start in found if start is not None]
    start = np.abs(dry[: int(BLIP_S * sample_rate)]).max(initial=0.0)
    has_first_click = bool(start > BLIP_PEAK) or not known.has_first_click
    if len(blips) == len(known.blips) and has_first_click:
      return known, blips
  return None


def repeat_esr(
  known: StandardInput, wet: np.ndarray, n_samples: int, sample_rate: int
) -> float | None:
  """Returns how differently an effect answers to what is played twice.

  Args:
    known: The input.
    wet: What came back, without its latency, [n_samples].
    n_samples: Of the input.
    sample_rate: In Hz.

  Returns:
    Error-to-signal ratio of the second time to the first; None where nothing is
    played twice, or most of one time is missing.
  """
  if known.repeat is None:
    return None
  start, length, from_end = (
    round(n * sample_rate / known.sample_rate) for n in known.repeat
  )
  first = wet[start : start + length].astype(np.float64)
  second = wet[n_samples - from_end : n_samples - from_end + length]
  first = first[: len(second)]  # the latency is missing at the end
  energy = float(np.sum(first**2))
  if len(second) < length // 2 or not energy:
    return None
  return float(np.sum((first - second) ** 2)) / energy


def _levels_db(audio, length):
  frames = audio[: len(audio) // length * length].reshape(-1, length)
  power = np.mean(np.square(frames, dtype=np.float64), axis=1)
  return 10.0 * np.log10(power + 1e-20)


def find_missing(
  dry: np.ndarray, wet: np.ndarray, sample_rate: int
) -> list[tuple[float, float]]:
  """Finds where the target is silent and its input is not.

  Args:
    dry: Shape [n_samples].
    wet: Likewise.
    sample_rate: In Hz.

  Returns:
    (Start, end) of each stretch of at least 0.3 s, in seconds.
  """
  length = max(int(_STRETCH_S * sample_rate), 1)
  levels = [_levels_db(side, length) for side in (dry, wet)]
  if not len(levels[0]):
    return []
  ours, theirs = (level - level.max() for level in levels)
  is_missing = (ours > _HEARD_DB) & (theirs < _MISSING_DB)
  edges = np.flatnonzero(np.diff(np.r_[False, is_missing, False]))
  spans = edges.reshape(-1, 2) * length / sample_rate
  return [(a, b) for a, b in spans.tolist() if b - a >= _SHORTEST_S]


def find_faults(
  dry: np.ndarray, wet: np.ndarray, sample_rate: int
) -> Sequence[str]:
  """Says what of a recording is clipped or missing.

  Args:
    dry: The input, [n_samples].
    wet: The target, likewise.
    sample_rate: In Hz.

  Returns:
    A sentence each, without a stop at its end.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import captures
    >>> dry = np.random.default_rng(0).normal(0, 0.1, 32000)
    >>> wet = dry * (np.arange(32000) < 24000)
    >>> captures.find_faults(dry, wet, sample_rate=16000)
    ['the target is silent from 1.5 to 2.0 s, where the input is not']
  """
  found = []
  for side, audio in (('input', dry), ('target', wet)):
    scan = scans.scan([audio[:, np.newaxis]], sample_rate)
    if scan.n_clipped:
      found.append(
        f'{scan.n_clipped} samples of the {side} are clipped, the first at '
        f'{scan.first_clipped_s:.2f} s: record it at a lower level'
      )
  spans = find_missing(dry, wet, sample_rate)
  if spans:
    words = ', '.join(f'{a:.1f} to {b:.1f} s' for a, b in spans[:3])
    more = f' and {len(spans) - 3} more' if len(spans) > 3 else ''
    found.append(
      f'the target is silent from {words}{more}, where the input is not'
    )
  return found
