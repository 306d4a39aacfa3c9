"""Memory for arrays that come and go in one size."""

import collections
import math

import numpy as np


class Shelf:
  """Memory for results, used again when their last reader lets go.

  New memory of that size comes from the system page by page, each on its first
  touch, which takes a light plugin's whole time.
  """

  def __init__(self):
    self._idle: collections.deque[np.ndarray] = collections.deque(maxlen=2)

  def new(self, shape) -> np.ndarray:
    """Returns a float32 array that holds anything, rows on 64 bytes."""
    *rows, n_samples = shape
    padded = (*rows, -(-n_samples // 16) * 16)
    try:
      memory = self._idle.pop()
    except IndexError:
      memory = None
    if memory is None or memory.size != math.prod(padded) + 16:
      memory = np.empty(math.prod(padded) + 16, np.float32)
    first = -memory.__array_interface__['data'][0] % 64 // 4
    loan = _Loan(memory[first : first + math.prod(padded)], memory, self._idle)
    return np.asarray(loan).reshape(padded)[..., :n_samples]


class _Loan:
  """Owner of an array's memory, which it puts back when the array is gone."""

  def __init__(self, array, memory, shelf):
    self.__array_interface__ = array.__array_interface__
    self._memory = memory
    self._shelf = shelf

  def __del__(self):
    self._shelf.append(self._memory)
