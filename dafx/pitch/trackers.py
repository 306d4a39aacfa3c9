"""Pitch trackers: audio in, candidates at the tracker's own times out."""

import dataclasses
import functools
import importlib
import importlib.util

import librosa
import numpy as np

from dafx.pitch import frames

# A frame is voiced from this confidence on.
VOICED = 0.5
# pYIN: samples of a frame, and from frame to frame.
_PYIN_SIZE, _PYIN_HOP = 2048, 160


@dataclasses.dataclass(frozen=True)
class Track:
  """What a tracker finds.

  Attributes:
    times_s: The middles of its frames, [n].
    f0_hz: Pitch, above 0, [n]; of frames without one what it is likest.
    confidence: From 0 to 1, [n]; voiced from `VOICED` on.
  """

  times_s: np.ndarray
  f0_hz: np.ndarray
  confidence: np.ndarray


@functools.cache
def _swift_f0_detector():
  # As many threads as there are processors do not help so small a network, and
  # a pool that spins takes them from others.
  return importlib.import_module('swift_f0').SwiftF0(threads=1, spin=False)


def _swift_f0(audio, frame_rate, f_min_hz, f_max_hz):
  del frame_rate  # it has its own
  found = _swift_f0_detector().detect(
    audio, frames.SAMPLE_RATE, f_min_hz, f_max_hz
  )
  return Track(found.timestamps, found.pitch_hz, found.confidence)


def _crepe(audio, frame_rate, f_min_hz, f_max_hz, capacity):
  del f_min_hz, f_max_hz
  # The package where it is installed, otherwise dafx.pitch.crepe.
  times_s, f0_hz, confidence, _ = importlib.import_module('crepe').predict(
    audio,
    frames.SAMPLE_RATE,
    model_capacity=capacity,
    viterbi=True,
    # Steps of 10 ms are CREPE's own; finer ones cost in proportion.
    step_size=max(1000.0 / frame_rate, 10.0),
    verbose=0,
  )
  return Track(times_s, f0_hz, confidence)


def _pyin(audio, frame_rate, f_min_hz, f_max_hz):
  del frame_rate
  f0_hz, is_voiced, probability = librosa.pyin(
    audio,
    fmin=f_min_hz,
    fmax=f_max_hz,
    sr=frames.SAMPLE_RATE,
    frame_length=_PYIN_SIZE,
    hop_length=_PYIN_HOP,
    fill_na=None,
  )
  confidence = np.where(
    is_voiced, np.maximum(probability, VOICED), np.minimum(probability, 0.49)
  )
  times_s = np.arange(len(f0_hz)) * _PYIN_HOP / frames.SAMPLE_RATE
  return Track(times_s, f0_hz, confidence)


@dataclasses.dataclass(frozen=True)
class Tracker:
  """A tracker.

  Attributes:
    track: From audio at 16 kHz, frames per second and the bounds of its pitch
      in Hz to a `Track`.
    f_min_hz: The lowest pitch that it finds.
    f_max_hz: The highest.
    package: What it imports; None for nothing beside what dafx needs.
    install: What to install where that is missing.
  """

  track: functools.partial
  f_min_hz: float
  f_max_hz: float
  package: str | None = None
  install: str = ''

  def check_installed(self):
    """Raises ImportError if its package is missing."""
    if self.package and importlib.util.find_spec(self.package) is None:
      raise ImportError(
        f'This pitch tracker needs the package {self.package}, which is not '
        f'installed. Install it with: pip install {self.install}'
      )


# The lowest pitch of pYIN is one that two periods of fit into a frame.
TRACKERS = {
  'swift_f0': Tracker(
    functools.partial(_swift_f0), 46.875, 2093.75, 'swift_f0', 'swift-f0'
  ),
  'crepe': Tracker(functools.partial(_crepe, capacity='full'), 31.7, 2006.0),
  'crepe_tiny': Tracker(
    functools.partial(_crepe, capacity='tiny'), 31.7, 2006.0
  ),
  'pyin': Tracker(functools.partial(_pyin), 32.7, 2093.0),
}


def find(name: str) -> Tracker:
  """Returns a tracker by its name.

  Raises:
    ValueError: There is none of that name.
    ImportError: Its package is missing.
  """
  if name not in TRACKERS:
    raise ValueError(
      f'There is no pitch tracker {name!r}; there are {", ".join(TRACKERS)}.'
    )
  TRACKERS[name].check_installed()
  return TRACKERS[name]


def bounds_hz(
  name: str, f_min_hz: float | None, f_max_hz: float | None
) -> tuple[float, float]:
  """Returns the bounds of a pitch, within what a tracker finds.

  Args:
    name: Of the tracker.
    f_min_hz: The lowest pitch that is wanted; None for the tracker's.
    f_max_hz: The highest.

  Examples:
    >>> from dafx import pitch
    >>> pitch.bounds_hz('swift_f0', 196.0, None)  # a violin
    (196.0, 2093.75)

  Raises:
    ValueError: Bounds between which the tracker finds nothing.
  """
  tracker = TRACKERS[name]
  low = max(f_min_hz or 0.0, tracker.f_min_hz)
  high = min(f_max_hz or np.inf, tracker.f_max_hz)
  if not low * 1.1 <= high:
    raise ValueError(
      f'f_min_hz={f_min_hz} and f_max_hz={f_max_hz} leave {name} nothing: it '
      f'finds pitches from {tracker.f_min_hz:g} to {tracker.f_max_hz:g} Hz, '
      'and needs two semitones at least.'
    )
  return low, high


def at_times(
  track: Track, times_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Reads a track at other times.

  Pitch moves in straight lines on the logarithmic scale where it glides; where
  it jumps, each time has the nearer value.

  Args:
    track: What a tracker found.
    times_s: Times, [n_frames].

  Returns:
    (f0 in Hz, confidence), each [n_frames].
  """
  after = np.clip(
    np.searchsorted(track.times_s, times_s), 1, max(len(track.times_s) - 1, 1)
  )
  if len(track.times_s) == 1:
    ones = np.ones(len(times_s))
    return track.f0_hz[0] * ones, track.confidence[0] * ones
  before = after - 1
  span = track.times_s[after] - track.times_s[before]
  share = np.clip((times_s - track.times_s[before]) / span, 0.0, 1.0)
  logs = np.log2(track.f0_hz)
  jump = np.abs(logs[after] - logs[before]) > 1.0 / 12.0
  voiced = track.confidence >= VOICED
  jump |= voiced[after] != voiced[before]
  moved = np.where(jump, np.round(share), share)
  f0_hz = 2.0 ** (logs[before] + moved * (logs[after] - logs[before]))
  confidence = np.interp(times_s, track.times_s, track.confidence)
  return f0_hz, confidence
