"""Tensor maths that ddsp.core lacks.

The unit maps use operators alone, so they take NumPy arrays and tensors alike.
"""

import numpy as np
import numpy.typing as npt
import tensorflow as tf


def unit_to_range(
  unit: np.ndarray | tf.Tensor,
  low: npt.ArrayLike,
  high: npt.ArrayLike,
  is_log: npt.ArrayLike,
) -> np.ndarray | tf.Tensor:
  """Maps [0, 1] to physical values, linearly or by equal ratios.

  Args:
    unit: In [0, 1], shape [..., n_controls]; array or tensor.
    low: Value at 0, shape [n_controls].
    high: Value at 1, shape [n_controls].
    is_log: Whether equal steps are equal ratios, shape [n_controls]; `low` must
      then be positive.

  Returns:
    Values in the units of `low` and `high`, shape [..., n_controls].

  Examples:
    >>> import numpy as np
    >>> from dafx import core
    >>> low, high, is_log = [20.0, -12.0], [20000.0, 12.0], [True, False]
    >>> unit = np.array([[0.0, 0.0], [0.5, 0.5]])
    >>> core.unit_to_range(unit, low, high, is_log).round(1).tolist()
    [[20.0, -12.0], [632.5, 0.0]]
  """
  low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
  # Linear controls: 0 * 1**unit + (low + span * unit); logarithmic ones:
  # low * ratio**unit + (0 + 0 * unit). One formula, no branches.
  base = np.where(is_log, low, np.float32(0))
  ratio = np.where(is_log, high / np.where(is_log, low, 1), np.float32(1))
  span = np.where(is_log, np.float32(0), high - low)
  offset = np.where(is_log, np.float32(0), low)
  return base * ratio**unit + (span * unit + offset)


def range_to_unit(
  values: np.ndarray,
  low: npt.ArrayLike,
  high: npt.ArrayLike,
  is_log: npt.ArrayLike,
) -> np.ndarray:
  """Maps physical values to [0, 1]: the inverse of `unit_to_range`, clipped.

  Args:
    values: In the units of `low` and `high`, shape [..., n_controls]; an array.
    low: Value at 0, shape [n_controls].
    high: Value at 1, shape [n_controls].
    is_log: Whether equal steps are equal ratios, shape [n_controls].

  Returns:
    Array in [0, 1], shape [..., n_controls], float64.

  Examples:
    >>> from dafx import core
    >>> core.range_to_unit(
    ...   [200.0, 6.0], [20.0, -12.0], [2000.0, 12.0], [True, False]
    ... )
    array([0.5 , 0.75])
  """
  values = np.asarray(values, np.float64)
  low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)

  def safe(x):
    return np.where(is_log, np.maximum(x, 1e-30), 1.0)

  with np.errstate(divide='ignore', invalid='ignore'):
    by_ratio = np.log(safe(values) / safe(low)) / np.log(safe(high) / safe(low))
  unit = np.where(is_log, by_ratio, (values - low) / (high - low))
  return np.clip(unit, 0.0, 1.0)


def unit_to_range_slope(
  values: np.ndarray,
  low: npt.ArrayLike,
  high: npt.ArrayLike,
  is_log: npt.ArrayLike,
) -> np.ndarray:
  """Returns the derivative of `unit_to_range` where it gives `values`.

  Args:
    values: In the units of `low` and `high`, shape [..., n_controls]; an array.
    low: Value at 0, shape [n_controls].
    high: Value at 1, shape [n_controls].
    is_log: Whether equal steps are equal ratios, shape [n_controls].

  Returns:
    Array of positive slopes, shape [..., n_controls], float64.

  Examples:
    >>> from dafx import core
    >>> core.unit_to_range_slope(
    ...   [0.0], low=[-12.0], high=[12.0], is_log=[False]
    ... )
    array([24.])
  """
  values = np.asarray(values, np.float64)
  low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
  log_ratio = np.log(np.where(is_log, high / np.where(is_log, low, 1.0), np.e))
  return np.where(is_log, values * log_ratio, high - low)
