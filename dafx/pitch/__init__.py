"""Pitch and loudness of recordings of one voice or instrument.

NumPy audio of one channel in, frames out. Frame t is that of the sound around
t / frame_rate seconds.
"""

from dafx.pitch.estimates import estimate
from dafx.pitch.loudness import FLOOR_DB, loudness_db
from dafx.pitch.trackers import TRACKERS, VOICED

__all__ = ['FLOOR_DB', 'TRACKERS', 'VOICED', 'estimate', 'loudness_db']
