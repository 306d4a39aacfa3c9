"""A trained model at work on files."""

from dafx.training.inference.files import (
  Plan,
  Result,
  describe_presets,
  load_model,
  load_setting,
  plan,
  plot_controls,
  prepare,
  process,
  process_audio,
  write_controls,
  write_presets,
)

__all__ = [
  'Plan',
  'Result',
  'describe_presets',
  'load_model',
  'load_setting',
  'plan',
  'plot_controls',
  'prepare',
  'process',
  'process_audio',
  'write_controls',
  'write_presets',
]
