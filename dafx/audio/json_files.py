"""JSON that others may have written: bounded, and faults have a place.

A `Place` is a value of a file that knows where it lies, such as
`$.config.layers[0].channels`. What is not as it is asked for is a `FileError`
that names file and place, says what is there and what is allowed.
"""

import contextlib
import json
import math
import os
import pathlib
import reprlib
from typing import Any

import numpy as np

from dafx.audio import files

# Files of dafx are smaller by far.
MOST_BYTES = 2**24


class Place:
  """A value of a JSON file.

  Args:
    value: What `json.loads` returned.
    path: The file.
    name: Where in it, in the words of JSONPath (RFC 9535).
  """

  def __init__(self, value: Any, path: str | os.PathLike, name: str = '$'):
    self.value = value
    self._path = path
    self.name = name

  def error(self, allowed: str) -> files.FileError:
    """Returns an error that says what is there, and what is allowed."""
    return files.FileError(
      f'{self._path}: {self.name} is {_shown(self.value)}; it must be '
      f'{allowed}.'
    )

  def fields(self) -> dict[str, 'Place']:
    """Returns the fields of an object.

    Raises:
      FileError: Something else is there.
    """
    if not isinstance(self.value, dict):
      raise self.error('an object')
    return {key: self._below(key) for key in self.value}

  def key(self, key: str) -> 'Place':
    """Returns a name of a field, as the place that it is itself."""
    return Place(key, self._path, f'a key of {self.name}')

  def __getitem__(self, key: str) -> 'Place':
    """Returns a field of an object.

    Raises:
      FileError: Something else is there, or it has no such field.
    """
    if not isinstance(self.value, dict):
      raise self.error('an object')
    if key not in self.value:
      raise files.FileError(f'{self._path}: {self.name} lacks {key!r}.')
    return self._below(key)

  def get(self, key: str) -> 'Place | None':
    """Returns a field of an object; None where it is missing or null.

    Raises:
      FileError: Something else is there.
    """
    if not isinstance(self.value, dict):
      raise self.error('an object')
    return None if self.value.get(key) is None else self._below(key)

  def _below(self, key):
    name = f'.{key}' if key.isidentifier() else f'[{_shown(key)}]'
    return Place(self.value[key], self._path, f'{self.name}{name}')

  def entries(self, most: int | None = None) -> list['Place']:
    """Returns the entries of a list of `most` entries at most.

    Raises:
      FileError: Something else is there, or there are more.
    """
    n = self.length(most)
    return [
      Place(self.value[i], self._path, f'{self.name}[{i}]') for i in range(n)
    ]

  def length(self, most: int | None = None) -> int:
    """Returns how many entries a list has, `most` at most.

    Raises:
      FileError: Something else is there, or there are more.
    """
    if not isinstance(self.value, list):
      raise self.error('a list')
    if most is not None and len(self.value) > most:
      raise files.FileError(
        f'{self._path}: {self.name} has {len(self.value)} entries; {most} are '
        'allowed.'
      )
    return len(self.value)

  def integer(self, low: int, high: int) -> int:
    """Returns an integer from low to high, or raises FileError."""
    is_integer = isinstance(self.value, int) and not isinstance(
      self.value, bool
    )
    if not is_integer or not low <= self.value <= high:
      raise self.error(f'an integer from {low} to {high}')
    return self.value

  def number(
    self, low: float = -math.inf, high: float = math.inf
  ) -> int | float:
    """Returns a finite number from low to high, or raises FileError."""
    if not _is_finite(self.value) or not low <= self.value <= high:
      raise self.error(
        'a finite number' + f' from {low:g} to {high:g}' * (low > -math.inf)
      )
    return self.value

  def numbers(self, most: int | None = None) -> np.ndarray:
    """Returns a list of finite numbers as float32, or raises FileError."""
    self.length(most)
    # A list may have millions of entries: what is wrong is looked for later.
    if set(map(type, self.value)) <= {int, float}:
      with contextlib.suppress(OverflowError):
        numbers = np.array(self.value, np.float64)
        if np.all(np.abs(numbers) <= _LARGEST):  # not so where one is NaN
          return numbers.astype(np.float32)
    wrong = next(i for i, v in enumerate(self.value) if not _is_finite(v))
    place = Place(self.value[wrong], self._path, f'{self.name}[{wrong}]')
    raise place.error('a finite number of 32 bits')

  def flag(self) -> bool:
    """Returns true or false, or raises FileError."""
    if not isinstance(self.value, bool):
      raise self.error('true or false')
    return self.value

  def text(self, most: int | None = None) -> str:
    """Returns a string, or raises FileError.

    Args:
      most: Characters that it may have; None for any number.
    """
    if not isinstance(self.value, str):
      raise self.error('a string')
    if most is not None and len(self.value) > most:
      raise self.error(f'a string of {most} characters at most')
    return self.value


def _shown(value):
  """Returns a value as a message may hold it."""
  if value is None or isinstance(value, bool):
    return json.dumps(value)
  return reprlib.repr(value)


_LARGEST = float(np.finfo(np.float32).max)


def _is_finite(value):
  """Whether a value is a number that float32 can hold."""
  kind = type(value)
  return (kind is float or kind is int) and -_LARGEST <= value <= _LARGEST


def read(path: str | os.PathLike, most_bytes: int = MOST_BYTES) -> Place:
  """Reads a JSON file.

  Args:
    path: The file.
    most_bytes: Its largest size.

  Returns:
    What it holds.

  Raises:
    FileNotFoundError: There is no such file.
    FileError: It is larger, or no JSON.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'{path}: there is no such file.')
  if not path.is_file():
    raise files.FileError(f'{path} is no file.')
  with open(path, 'rb') as file:
    content = file.read(most_bytes + 1)
  if len(content) > most_bytes:
    raise files.FileError(
      f'{path} has {path.stat().st_size} bytes; {most_bytes} are allowed.'
    )
  return parse(content, path)


def parse(content: str | bytes, path: str | os.PathLike) -> Place:
  """Parses JSON.

  Args:
    content: The text, as bytes in UTF-8.
    path: What it is called in messages.

  Raises:
    FileError: It is no JSON.
  """
  try:
    if isinstance(content, bytes):
      content = content.decode('utf-8-sig')
    return Place(json.loads(content), path)
  except (ValueError, RecursionError) as error:
    reason = 'lists or objects lie too deep in one another'
    if isinstance(error, ValueError):
      reason = str(error)
    raise files.FileError(f'{path} is no JSON: {reason}.') from error
