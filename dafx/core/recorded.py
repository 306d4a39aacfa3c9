"""Objects that know the arguments they were made with."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np


@dataclasses.dataclass(frozen=True)
class _Arguments:
  """Holds arguments where Keras does not look for layers and variables."""

  values: dict[str, Any]


def _copy(value):
  """Copies lists and dictionaries, which the caller may go on to change."""
  if type(value) in (list, tuple):
    return type(value)(map(_copy, value))
  if type(value) is dict:
    return {key: _copy(part) for key, part in value.items()}
  return value


def _bound_arguments(cls, args, kwargs) -> dict[str, Any]:
  """Returns the arguments of a constructor by name, with its defaults."""
  signature = inspect.signature(cls.__init__)
  bound = signature.bind_partial(None, *args, **kwargs)
  bound.apply_defaults()
  values = {}
  for name, parameter in list(signature.parameters.items())[1:]:
    if parameter.kind == parameter.VAR_KEYWORD:
      values.update(bound.arguments[name])
    elif name in bound.arguments:
      values[name] = bound.arguments[name]
  return _copy(values)


class Recorded:
  """A base class that records the arguments of the constructor.

  Those that gin bound are included, and defaults.

  Attributes:
    free_arguments: Names of those that what it has learned does not depend on:
      they may be others when weights are loaded.

  Examples:
    >>> from dafx import core
    >>> class Echo(core.Recorded):
    ...   def __init__(self, delay_s, gain=0.5, seed=0):
    ...     self.delay_s, self.gain = delay_s, gain
    >>> Echo(0.1).recorded_arguments()
    {'delay_s': 0.1, 'gain': 0.5, 'seed': 0}
    >>> Echo(0.1).describe_arguments()
    {'delay_s': '0.1', 'gain': '0.5'}
  """

  free_arguments: ClassVar[tuple[str, ...]] = ()
  _made_with: _Arguments

  def __new__(cls, *args, **kwargs):
    """Records the arguments."""
    arguments = _Arguments(_bound_arguments(cls, args, kwargs))
    if super().__new__ is object.__new__:  # which takes no arguments
      made = super().__new__(cls)
    else:
      made = super().__new__(cls, *args, **kwargs)
    made._made_with = arguments
    return made

  def recorded_arguments(self) -> dict[str, Any]:
    """Returns the arguments by name."""
    return dict(self._made_with.values)

  def describe_arguments(self) -> dict[str, str]:
    """Says what each argument was, but for the free ones, names and seeds."""
    free = {'name', 'seed', *self.free_arguments}
    return {
      name: describe(value)
      for name, value in sorted(self._made_with.values.items())
      if name not in free
    }


def describe(value: Any) -> str:
  """Says what a value is, so that equal words mean the same.

  Args:
    value: Numbers, strings, arrays, lists and dictionaries are told in full,
      what is `Recorded` or a dataclass by its arguments, anything else by its
      class, a function by its name.

  Examples:
    >>> from dafx import core
    >>> core.describe([1, 0.25, 'a', None, {'x': (1.0, 2)}])
    "[1, 0.25, 'a', None, {'x': [1, 2]}]"
  """
  if value is None or isinstance(value, (bool, str)):
    return repr(value)
  if isinstance(value, (int, float, np.number)):
    return f'{value:.9g}'
  if isinstance(value, np.ndarray):
    return describe(value.tolist())
  if isinstance(value, (list, tuple)):
    return f'[{", ".join(map(describe, value))}]'
  if isinstance(value, Mapping):
    items = [f'{key!r}: {describe(value[key])}' for key in sorted(value)]
    return f'{{{", ".join(items)}}}'
  if isinstance(value, type) or inspect.isroutine(value):
    return value.__qualname__
  parts: dict[str, str] = {}
  if isinstance(value, Recorded):
    parts = value.describe_arguments()
  elif dataclasses.is_dataclass(value):
    parts = {
      field.name: describe(vars(value)[field.name])
      for field in dataclasses.fields(value)
      if field.compare and not field.name.startswith('_')
    }
  words = ', '.join(f'{name}={part}' for name, part in parts.items())
  return f'{type(value).__name__}({words})'
