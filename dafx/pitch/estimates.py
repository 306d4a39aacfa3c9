"""Pitch of a recording of one voice or instrument."""

import numpy as np

from dafx.audio import sources
from dafx.pitch import frames, partials, trackers

# Half a second of silence is what every tracker can work on.
_LEAST_SAMPLES = frames.SAMPLE_RATE // 2


def estimate(
  audio: np.ndarray,
  sample_rate: int,
  frame_rate: float,
  tracker: str = 'swift_f0',
  f_min_hz: float | None = None,
  f_max_hz: float | None = None,
  is_checked: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
  """Tracks the pitch of one voice or instrument.

  The tracker's pitch is brought to the frames: along straight lines on the
  logarithmic scale where it glides, without a line where it jumps. Trackers are
  octaves off where they are sure of it, and some cents off: the spectrum around
  each voiced frame decides on the octave and says where the partials are.

  Trackers are 'swift_f0' (Nieradzik 2025, "SwiftF0: Fast and Accurate
  Monophonic Pitch Detection"), 'crepe' and 'crepe_tiny' (Kim et al. 2018,
  "CREPE: A Convolutional Representation for Pitch Estimation", with Viterbi
  decoding) and 'pyin' (Mauch and Dixon 2014, "pYIN: A fundamental frequency
  estimator using probabilistic threshold distributions").

  Args:
    audio: Shape [n_samples].
    sample_rate: Its rate, in Hz.
    frame_rate: Frames per second.
    tracker: One of `TRACKERS`.
    f_min_hz: The lowest pitch of the instrument, which keeps a tracker from
      octaves below; None for the tracker's own.
    f_max_hz: The highest.
    is_checked: Whether octaves and cents are corrected by the partials;
      otherwise the pitch is the tracker's.

  Returns:
    (f0 in Hz, confidence from 0 to 1), float32, each [n_frames]: those at the
    beginning of each frame. A frame is voiced from a confidence of 0.5 on. f0
    goes on between voiced frames in a straight line on the logarithmic scale;
    it is 0 throughout where no frame is voiced.

  Raises:
    ValueError: Audio of another shape or that is not finite, rates that are not
      above 0, no such tracker, or bounds that leave it nothing.
    ImportError: A package of the tracker is missing; the message says which.

  Examples:
    >>> import numpy as np
    >>> from dafx import pitch
    >>> phase = 2 * np.pi * 220 * np.arange(44100) / 44100
    >>> reed = sum(np.sin(k * phase) / k for k in (1, 2, 3, 4))
    >>> f0_hz, confidence = pitch.estimate(reed, 44100, frame_rate=250)
    >>> f0_hz.shape, round(float(f0_hz[125]))
    ((250,), 220)
    >>> bool(confidence[125] > pitch.VOICED)
    True
    >>> list(pitch.TRACKERS)
    ['swift_f0', 'crepe', 'crepe_tiny', 'pyin']
  """
  found = trackers.find(tracker)
  low_hz, high_hz = trackers.bounds_hz(tracker, f_min_hz, f_max_hz)
  audio = frames.check_audio(audio, sample_rate, frame_rate)
  times_s = frames.times_s(len(audio), sample_rate, frame_rate)
  heard = sources.resample(audio, sample_rate, frames.SAMPLE_RATE)
  long = np.pad(heard, (0, max(_LEAST_SAMPLES - len(heard), 0)))
  track = found.track(long, frame_rate, low_hz, high_hz)
  f0_hz, confidence = trackers.at_times(track, times_s)
  is_voiced = confidence >= trackers.VOICED
  if is_checked:
    is_voiced &= (f0_hz >= low_hz / 2) & (f0_hz <= high_hz * 2)
    own_hz, own_s = f0_hz[is_voiced], times_s[is_voiced]
    own_hz = partials.correct_octaves(heard, own_hz, own_s, low_hz, high_hz)
    f0_hz[is_voiced] = partials.refine(heard, own_hz, own_s)
  # A little beyond the bounds is what a pitch at a bound may be refined to.
  is_voiced &= (f0_hz >= low_hz / 1.03) & (f0_hz <= high_hz * 1.03)
  confidence = np.where(is_voiced, confidence, np.minimum(confidence, 0.49))
  if not is_voiced.any():
    return np.zeros(len(times_s), np.float32), confidence.astype(np.float32)
  logs = np.interp(times_s, times_s[is_voiced], np.log2(f0_hz[is_voiced]))
  return (2.0**logs).astype(np.float32), confidence.astype(np.float32)


def harmonic_share(
  audio: np.ndarray,
  sample_rate: int,
  frame_rate: float,
  f0_hz: np.ndarray,
  confidence: np.ndarray,
) -> float:
  """Measures how much of a sound its pitch explains.

  It is near 1 for one voice alone, and less where others sound too, or noise.

  Args:
    audio: Shape [n_samples].
    sample_rate: Its rate, in Hz.
    frame_rate: Frames per second.
    f0_hz: Pitch as of `estimate`, [n_frames].
    confidence: Likewise, [n_frames].

  Returns:
    The median over voiced frames of the share of the power, up to 4 kHz, that
    lies at partials of the pitch, from 0 to 1; NaN without voiced frames.

  Examples:
    >>> import numpy as np
    >>> from dafx import pitch
    >>> rate = pitch.SAMPLE_RATE  # what trackers hear
    >>> sine = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    >>> curves = pitch.estimate(sine, rate, frame_rate=250)
    >>> round(pitch.harmonic_share(sine, rate, 250, *curves), 2)
    1.0
  """
  audio = frames.check_audio(audio, sample_rate, frame_rate)
  times_s = frames.times_s(len(audio), sample_rate, frame_rate)
  heard = sources.resample(audio, sample_rate, frames.SAMPLE_RATE)
  is_voiced = (confidence >= trackers.VOICED) & (f0_hz > 0)
  if not is_voiced.any():
    return float('nan')
  shares = partials.shares_at(heard, f0_hz[is_voiced], times_s[is_voiced])
  return float(np.median(shares))
