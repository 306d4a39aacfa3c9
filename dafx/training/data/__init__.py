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
  find_pairs,
)
from dafx.training.data.preprocessing import Preprocessor, fade, high_pass
from dafx.training.data.provider import (
  CropProvider,
  Item,
  Provider,
  TimedIterator,
  crop_start,
)
from dafx.training.data.recordings import (
  RecordingProvider,
  Recordings,
  RenderedProvider,
  spread_settings,
)
from dafx.training.data.tfrecords import ShardProvider, write_tfrecord

__all__ = [
  'CropProvider',
  'EQ_PRESETS',
  'FolderProvider',
  'Item',
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
  'ShardProvider',
  'TimedIterator',
  'crop_start',
  'fade',
  'find_pairs',
  'high_pass',
  'spread_settings',
  'write_tfrecord',
]
