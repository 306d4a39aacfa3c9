"""Numbers that are given to a training, by gin or by a caller: checked first.

A wrong one would fail in the middle of the work, in the words of others, or
train something else in silence.
"""

import math
import numbers


def whole(low: int, **values: float) -> list[int]:
  """Returns whole numbers, which gin may give as 1e4.

  Args:
    low: The least that is allowed.
    **values: Numbers by the names of their arguments.

  Raises:
    ValueError: One is no whole number, or less.

  Examples:
    >>> from dafx.training import arguments
    >>> arguments.whole(1, num_steps=1e4, batch_size=8)
    [10000, 8]
  """
  for name, value in values.items():
    if not _is_number(value) or value != int(value) or value < low:
      raise ValueError(
        f'{name}={value!r} must be a whole number, {low} or more.'
      )
  return [int(value) for value in values.values()]


def finite(low: float = 0.0, is_above: bool = False, **values: float):
  """Looks at numbers.

  Args:
    low: The least that is allowed.
    is_above: Whether they have to be above it.
    **values: Numbers by the names of their arguments.

  Raises:
    ValueError: One is NaN, infinite, less, or no number.

  Examples:
    >>> from dafx.training import arguments
    >>> arguments.finite(learning_rate=1e-3, weight_decay=0.0)
  """
  for name, value in values.items():
    is_low = not _is_number(value) or value < low or is_above and value == low
    if is_low:
      bound = f'above {low:g}' if is_above else f'{low:g} or more'
      raise ValueError(f'{name}={value!r} must be a finite number, {bound}.')


def _is_number(value) -> bool:
  is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
  return is_real and math.isfinite(value)
