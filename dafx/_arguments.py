"""What users hand in: arrays, names, values by name; or errors in words."""

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def audio_array(name: str, audio: npt.ArrayLike) -> np.ndarray:
  """Returns audio as an array, of the floating-point type that it came in.

  Args:
    name: What messages call it.
    audio: Floating point, of any shape, with full scale at +-1.

  Raises:
    ValueError: Integers, complex numbers or what is no number.
  """
  found = _as_array(name, audio)
  if not np.issubdtype(found.dtype, np.floating):
    raise ValueError(refusal_of_audio(name, str(found.dtype)))
  return found


def refusal_of_audio(name: str, dtype: str) -> str:
  """Says why audio of a type that is no floating point is refused.

  Args:
    name: What the message calls the audio.
    dtype: Name of the type that came.
  """
  advice = 'Give an array of numbers.'
  if 'complex' in dtype:
    advice = 'Give the real part, as in audio.real, if that is what you mean.'
  elif 'int' in dtype and dtype.strip('uint').isdigit():
    n_bits = int(dtype.strip('uint'))
    middle = f' - {2 ** (n_bits - 1)}' if dtype.startswith('u') else ''
    whole = f'({name}.astype(float){middle})' if middle else name
    advice = f'Scale it first, as in {whole} / {2 ** (n_bits - 1)}.'
  return (
    f'{name} has dtype {dtype}; it must be floating point, with full scale at '
    f'+-1. {advice}'
  )


def number_array(name: str, values: npt.ArrayLike) -> np.ndarray:
  """Returns real numbers as float32.

  Args:
    name: What messages call them.
    values: Of any shape.

  Raises:
    ValueError: Complex numbers, or what is no number.
  """
  found = _as_array(name, values)
  if found.dtype.kind not in 'fiub':
    raise ValueError(
      f'{name} has dtype {found.dtype}; it must be real numbers.'
    )
  return np.asarray(found, np.float32)


def _as_array(name, values):
  try:
    return np.asarray(values)
  except (TypeError, ValueError) as error:
    raise ValueError(
      f'{name} is no array: {error}. Rows must be of one length.'
    ) from error


def names(option: str, given: Any, example: str = 'gain') -> tuple[str, ...]:
  """Returns names that an option lists.

  Args:
    option: What messages call it.
    given: A list of strings, or another iterable of them.
    example: A name, for the message.

  Raises:
    ValueError: A single string, or anything else.
  """
  if isinstance(given, str):
    raise ValueError(
      f'{option}={given!r} is a single string; it must be a list of symbols: '
      f'[{given!r}].'
    )
  found = tuple(given) if isinstance(given, Iterable) else (None,)
  if not all(isinstance(name, str) for name in found):
    raise ValueError(
      f'{option}={given!r} must be a list of symbols, as in [{example!r}].'
    )
  return found


def by_name(option: str, given: Any, example: str) -> dict[str, Any]:
  """Returns a dictionary that an option gives; an empty one of None.

  Args:
    option: What messages call it.
    given: Values by name.
    example: A dictionary, for the message.

  Raises:
    ValueError: No dictionary, or one whose keys are no strings.
  """
  found = {} if given is None else given
  if not isinstance(found, Mapping):
    raise ValueError(
      f'{option}={given!r} must be a dictionary, as in {example}.'
    )
  for key in found:
    if not isinstance(key, str):
      raise ValueError(
        f'{option} has the key {key!r}; keys must be strings, as in {example}.'
      )
  return dict(found)


def are_numbers(values: Any, n: int) -> bool:
  """Whether values are a list, tuple or array of so many real numbers."""
  is_list = (
    isinstance(values, (list, tuple, np.ndarray)) and np.ndim(values) > 0
  )
  return is_list and len(values) == n and all(map(is_number, values))


def is_number(value: Any) -> bool:
  """Whether a value is a single real number, and not NaN."""
  if isinstance(value, np.ndarray) and value.ndim == 0:
    value = value[()]
  return isinstance(value, numbers.Real) and bool(value == value)


def whole(low: int, **values: float) -> list[int]:
  """Returns whole numbers, which gin may give as 1e4, or says which is none.

  Args:
    low: The least that is allowed.
    **values: Numbers by the names of their arguments.

  Raises:
    ValueError: One is no whole number, or less.

  Examples:
    >>> from dafx import _arguments
    >>> _arguments.whole(1, num_steps=1e4, batch_size=8)
    [10000, 8]
  """
  for name, value in values.items():
    if not is_finite(value) or value != int(value) or value < low:
      raise ValueError(
        f'{name}={value!r} must be a whole number, {low} or more.'
      )
  return [int(value) for value in values.values()]


def finite(low: float = 0.0, is_above: bool = False, **values: float):
  """Checks numbers before a long work begins with them.

  Args:
    low: The least that is allowed.
    is_above: Whether they have to be above it.
    **values: Numbers by the names of their arguments.

  Raises:
    ValueError: One is NaN, infinite, less, or no number.

  Examples:
    >>> from dafx import _arguments
    >>> _arguments.finite(learning_rate=1e-3, weight_decay=0.0)
  """
  for name, value in values.items():
    is_low = not is_finite(value) or value < low or is_above and value == low
    if is_low:
      bound = f'above {low:g}' if is_above else f'{low:g} or more'
      raise ValueError(f'{name}={value!r} must be a finite number, {bound}.')


def is_finite(value: Any) -> bool:
  """Whether a value is a single finite number, and no switch."""
  is_switch = isinstance(value, (bool, np.bool_))
  if is_switch or not is_number(value):
    return False
  try:
    return math.isfinite(value)
  except OverflowError:  # a whole number that no double holds
    return False
