"""A trained model at work on files, and in other programs."""

from dafx.training.inference.export import export
from dafx.training.inference.files import (
  Result,
  load_model,
  load_setting,
  process,
  process_audio,
)

__all__ = [
  'Result',
  'export',
  'load_model',
  'load_setting',
  'process',
  'process_audio',
]
