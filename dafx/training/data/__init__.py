"""Batches of audio whose content depends on (seed, step) alone.

All that gin knows of data is registered on import.
"""

from dafx.training.data.augmentation import (
  EQ_PRESETS,
  NoiseAndGain,
  RandomEqualizer,
)
from dafx.training.data.folders import (
  PATH_FLAG,
  FolderProvider,
  Pair,
  PairProvider,
  Provider,
  TimedIterator,
  crop_start,
  find_pairs,
)
from dafx.training.data.preprocessing import Preprocessor, fade, high_pass
from dafx.training.data.recordings import (
  RecordingProvider,
  Recordings,
  RenderedProvider,
  spread_settings,
)
from dafx.training.data.tfrecords import TFRecordProvider, write_tfrecord

__all__ = [
  'EQ_PRESETS',
  'FolderProvider',
  'NoiseAndGain',
  'PATH_FLAG',
  'Pair',
  'PairProvider',
  'Preprocessor',
  'Provider',
  'RandomEqualizer',
  'RecordingProvider',
  'Recordings',
  'RenderedProvider',
  'TFRecordProvider',
  'TimedIterator',
  'crop_start',
  'fade',
  'find_pairs',
  'high_pass',
  'spread_settings',
  'write_tfrecord',
]
