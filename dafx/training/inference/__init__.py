"""A trained model at work on files, and in other programs."""

from dafx.training.inference.export import check_nam, export, is_nam
from dafx.training.inference.files import (
  Result,
  load_model,
  load_setting,
  process,
  process_audio,
)

__all__ = [
  'Result',
  'check_nam',
  'export',
  'is_nam',
  'load_model',
  'load_setting',
  'process',
  'process_audio',
]
