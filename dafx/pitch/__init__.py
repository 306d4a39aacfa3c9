"""Pitch and loudness of recordings of one voice or instrument.

NumPy audio of one channel in, frames out. Frame t is that of the sound around
t / frame_rate seconds.
"""

from dafx.pitch.estimates import estimate, harmonic_share
from dafx.pitch.frames import SAMPLE_RATE
from dafx.pitch.loudness import FLOOR_DB, loudness_db
from dafx.pitch.trackers import TRACKERS, VOICED, bounds_hz

__all__ = [
  'FLOOR_DB',
  'SAMPLE_RATE',
  'TRACKERS',
  'VOICED',
  'bounds_hz',
  'estimate',
  'harmonic_share',
  'loudness_db',
]
