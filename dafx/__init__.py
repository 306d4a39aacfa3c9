"""dafx: any LV2 audio plugin as a differentiable DDSP processor.

Modules load on first use, so that `dafx.lv2` starts without TensorFlow.
"""

import importlib

from dafx import _environment

_environment.prepare()

__version__ = '0.2.0'

_MODULES = (
  'audio',
  'colab',
  'commands',
  'core',
  'effects',
  'gradients',
  'losses',
  'lv2',
  'metrics',
  'neural',
  'pitch',
  'processors',
  'sessions',
  'synths',
  'training',
)


def __getattr__(name):
  if name in _MODULES:
    return importlib.import_module(f'dafx.{name}')
  raise AttributeError(f'module dafx has no attribute {name!r}')


def __dir__():
  return sorted([*globals(), *_MODULES])
