"""Curves of one sound made fit for an instrument that learned from another.

As the timbre transfer of DDSP does it (`ddsp.training.postprocessing` and its
notebook), on NumPy curves: pitch in Hz, loudness in dB.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import librosa
import numpy as np

from dafx import pitch

# Quantiles of the loudness that are kept of a training set.
_N_QUANTILES = 1000
# Of the mask of notes: frames at 250 per second over which confidence is
# averaged, and the share of the mean level that a note has at least.
_SMOOTHED_S = 0.16
_NOTE_SHARE = 0.49
_HIGHEST_MIDI = 110.0
_MAJOR = (0, 2, 4, 5, 7, 9, 11)


@dataclasses.dataclass(frozen=True)
class Statistics:
  """What transfer has to know of the recordings that a model learned from.

  Attributes:
    mean_pitch: Of notes, in semitones (69 is 440 Hz).
    min_pitch: The lowest, but for a hundredth of the frames.
    max_pitch: The highest, likewise.
    mean_loudness_db: Of all frames.
    loudness_quantiles_db: Of notes, at equal steps of the share of frames.
    voiced_s: Seconds of notes.
  """

  mean_pitch: float
  min_pitch: float
  max_pitch: float
  mean_loudness_db: float
  loudness_quantiles_db: tuple[float, ...]
  voiced_s: float

  def to_json(self) -> str:
    """Returns it as text."""
    return json.dumps(dataclasses.asdict(self))

  @classmethod
  def from_json(cls, text: str) -> 'Statistics':
    """Reads what `to_json` wrote.

    Raises:
      ValueError: Text that is none.
    """
    try:
      values: dict[str, Any] = json.loads(text)
      quantiles = tuple(float(q) for q in values.pop('loudness_quantiles_db'))
      return cls(loudness_quantiles_db=quantiles, **values)
    except (KeyError, TypeError, ValueError) as error:
      raise ValueError(f'These are no statistics: {error!r}') from error


def is_note(
  confidence: np.ndarray,
  loudness_db: np.ndarray,
  frame_rate: float,
  threshold: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
  """Finds where notes are.

  Args:
    confidence: Of the pitch, [n_frames].
    loudness_db: Shape [n_frames].
    frame_rate: Frames per second.
    threshold: The higher, the fewer frames are notes.

  Returns:
    (Whether each frame is one; how much it is one, 1 at the threshold), each
    [n_frames].
  """
  size = max(1, round(_SMOOTHED_S * frame_rate))
  box = np.ones(size) / size
  level = loudness_db - pitch.FLOOR_DB
  smooth = np.convolve(confidence**2, box, mode='same')[: len(confidence)]
  mean = max(float(np.mean(level)), 1e-6)
  ratio = smooth * level / (_NOTE_SHARE * mean)
  return ratio >= threshold, ratio / threshold


def measure(
  curves: Sequence[Mapping[str, np.ndarray]], frame_rate: float
) -> Statistics:
  """Measures the recordings of an instrument.

  Args:
    curves: Of each: 'f0_hz', 'f0_confidence' and 'loudness_db', [n_frames].
    frame_rate: Frames per second.

  Raises:
    ValueError: There are no notes.
  """
  keys = ('f0_hz', 'f0_confidence', 'loudness_db')
  f0_hz, confidence, loudness_db = (
    np.concatenate([each[key] for each in curves]).astype(np.float64)
    for key in keys
  )
  notes = (confidence >= pitch.VOICED) & (f0_hz > 0)
  if not notes.any():
    raise ValueError('There are no notes: no frame has a pitch.')
  midi = librosa.hz_to_midi(f0_hz[notes])
  shares = np.linspace(0.0, 1.0, _N_QUANTILES)
  low, high = np.quantile(midi, [0.01, 0.99])
  quantiles = np.quantile(loudness_db[notes], shares).round(3)
  return Statistics(
    mean_pitch=float(midi.mean()),
    min_pitch=float(low),
    max_pitch=float(high),
    mean_loudness_db=float(loudness_db.mean()),
    loudness_quantiles_db=tuple(quantiles.tolist()),
    voiced_s=float(notes.sum() / frame_rate),
  )


def octaves_to(mean_pitch: float, f0_hz: np.ndarray) -> int:
  """Returns by how many octaves notes are moved to be near a pitch.

  They are moved to the nearest octave, and up rather than down.

  Args:
    mean_pitch: Where they shall be, in semitones.
    f0_hz: Pitch of the notes, above 0, [n].
  """
  distance = (mean_pitch - float(np.mean(librosa.hz_to_midi(f0_hz)))) / 12.0
  return int(np.floor(distance + 0.5))


def fit_loudness(
  loudness_db: np.ndarray,
  notes: np.ndarray,
  ratio: np.ndarray,
  quantiles_db: np.ndarray,
  quiet_db: float,
) -> np.ndarray:
  """Gives notes the distribution of loudness of the training set.

  Args:
    loudness_db: Shape [n_frames].
    notes: Which frames are notes, [n_frames].
    ratio: How much each is one, as of `is_note`.
    quantiles_db: Of the training set, [n].
    quiet_db: By how much what is no note at all is turned down.

  Returns:
    Loudness in dB, [n_frames].
  """
  fitted = loudness_db.astype(np.float64)
  if notes.any():
    own = np.sort(fitted[notes])
    ranks = np.interp(fitted, own, np.linspace(0.0, 1.0, len(own)))
    there = np.linspace(0.0, 1.0, len(quantiles_db))
    target = np.interp(ranks, there, quantiles_db)
    # Beyond what the notes reach, by as much as the last of them is moved.
    target += fitted - np.clip(fitted, own[0], own[-1])
    fitted = target
  fitted -= np.where(notes, 0.0, quiet_db * np.clip(1.0 - ratio, 0.0, 1.0))
  return np.maximum(fitted, pitch.FLOOR_DB)


def autotune(f0_hz: np.ndarray, notes: np.ndarray, amount: float) -> np.ndarray:
  """Moves pitch towards the notes of the major scale that fits it best.

  Args:
    f0_hz: Shape [n_frames].
    notes: Which frames are notes, [n_frames].
    amount: The share of the way, from 0 to 1.

  Returns:
    Pitch in Hz, [n_frames].
  """
  if not notes.any() or amount == 0.0:
    return f0_hz
  midi = librosa.hz_to_midi(np.where(f0_hz > 0, f0_hz, 440.0))
  octaves = 12 * np.arange(-1, 12)[:, np.newaxis]
  best: tuple[float, np.ndarray] | None = None
  for tonic in range(12):
    scale = np.sort((tonic + np.array(_MAJOR) + octaves).ravel())
    after = np.clip(np.searchsorted(scale, midi), 1, len(scale) - 1)
    low, high = scale[after - 1], scale[after]
    nearest = np.where(midi - low <= high - midi, low, high)
    distance = float(np.mean(np.abs(midi - nearest)[notes]))
    if best is None or distance < best[0]:
      best = distance, nearest
  assert best is not None
  moved = midi + amount * (best[1] - midi)
  return np.where(f0_hz > 0, librosa.midi_to_hz(moved), f0_hz)


@dataclasses.dataclass(frozen=True)
class Transfer:
  """How the curves of a sound are made fit for an instrument.

  Attributes:
    transpose: Semitones by which all is moved.
    octave: Octaves by which it is moved beside; None for those that bring it
      nearest to the training set, or for none where it is transposed.
    autotune: Share of the way to the nearest notes, from 0 to 1.
    quiet_db: By how much what is no note is turned down.
    threshold: The higher, the fewer frames are notes.
  """

  transpose: float = 0.0
  octave: int | None = None
  autotune: float = 0.0
  quiet_db: float = 20.0
  threshold: float = 1.0

  def __post_init__(self):
    """Raises ValueError for values out of their range."""
    if not 0.0 <= self.autotune <= 1.0:
      raise ValueError(f'autotune={self.autotune} must be from 0 to 1.')
    if not -60.0 <= self.transpose <= 60.0:
      raise ValueError(
        f'transpose={self.transpose} must be from -60 to 60 semitones.'
      )

  def apply(
    self,
    curves: Mapping[str, np.ndarray],
    frame_rate: float,
    statistics: Statistics | None,
  ) -> dict[str, np.ndarray]:
    """Returns 'f0_hz' and 'loudness_db' as the instrument is to play them.

    Args:
      curves: 'f0_hz', 'f0_confidence' and 'loudness_db', [n_frames].
      frame_rate: Frames per second.
      statistics: Of the training set; None leaves loudness and octave.
    """
    f0_hz, loudness_db = curves['f0_hz'], curves['loudness_db']
    notes, ratio = is_note(
      curves['f0_confidence'], loudness_db, frame_rate, self.threshold
    )
    notes &= f0_hz > 0
    octave = self.octave
    if octave is None:
      octave = 0
      if statistics is not None and notes.any() and not self.transpose:
        octave = octaves_to(statistics.mean_pitch, f0_hz[notes])
    f0_hz = autotune(f0_hz, notes, self.autotune)
    f0_hz = f0_hz * 2.0 ** (octave + self.transpose / 12.0)
    f0_hz = np.minimum(f0_hz, librosa.midi_to_hz(_HIGHEST_MIDI))
    if statistics is not None:
      quantiles_db = np.array(statistics.loudness_quantiles_db)
      loudness_db = fit_loudness(
        loudness_db, notes, ratio, quantiles_db, self.quiet_db
      )
    curves = {'f0_hz': f0_hz, 'loudness_db': loudness_db}
    return {key: value.astype(np.float32) for key, value in curves.items()}
