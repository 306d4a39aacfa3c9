"""Batches of audio whose content depends on (seed, step) alone.

All that gin knows of data is registered on import.
"""

from dafx.training.data.augmentation import (
  EQ_PRESETS,
  NoiseAndGain,
  RandomEqualizer,
)
from dafx.training.data.folders import (
  FolderProvider,
  Pair,
  find_pairs,
)
from dafx.training.data.instruments import (
  CURVES,
  InstrumentProvider,
  write_examples,
)
from dafx.training.data.preprocessing import Preprocessor, fade, high_pass
from dafx.training.data.provider import (
  Item,
  Provider,
  TimedIterator,
)
from dafx.training.data.recordings import (
  RecordingProvider,
  Recordings,
  RenderedProvider,
  spread_settings,
)
from dafx.training.data.tfrecords import ShardProvider, write_tfrecord

__all__ = [
  'CURVES',
  'EQ_PRESETS',
  'FolderProvider',
  'InstrumentProvider',
  'Item',
  'NoiseAndGain',
  'Pair',
  'Preprocessor',
  'Provider',
  'RandomEqualizer',
  'RecordingProvider',
  'Recordings',
  'RenderedProvider',
  'ShardProvider',
  'TimedIterator',
  'fade',
  'find_pairs',
  'high_pass',
  'spread_settings',
  'write_examples',
  'write_tfrecord',
]
