"""What reads .nam files has in common: checks before anything is made.

A file may be anyone's. First all of it is checked, into a `Plan`; networks are
made of a plan alone. What a file asks for is bounded.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from dafx.audio import json_files
from dafx.neural import base

_FIRST_VERSION, _LAST_VERSION = (0, 5), (0, 7)
# Bounds of what is read: any number, layers of an array, layers of a file,
# networks inside of one another, numbers of the past that layers keep, and
# numbers of a kernel whose groups are filled up with zeros.
MOST, MOST_LAYERS = 2**24, 256
_MOST_LAYERS_OF_FILE, _MOST_DEPTH, _MOST_PAST, _MOST_DENSE = 1024, 8, MOST, MOST
_HIGHEST_RATE_HZ = 1e7


@dataclasses.dataclass(frozen=True)
class Plan:
  """A network of a file that was checked, and not made yet.

  Attributes:
    make: Makes it.
    n_outputs: Channels of its output.
  """

  make: Callable[[], base.SettlingNetwork]
  n_outputs: int = 1


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor of the list of weights, as the file has it: outputs first.

  Attributes:
    shape: Outputs, inputs of a group, and taps, as far as there are such.
    groups: Of the inputs.
  """

  shape: tuple[int, ...]
  groups: int = 1

  @property
  def size(self) -> int:
    """How many weights it has."""
    return math.prod(self.shape)


class Weights:
  """Takes the flat list of weights apart, from its start.

  Args:
    place: The list.

  Attributes:
    count: How many there are.

  Raises:
    FileError: It is no list.
  """

  def __init__(self, place: json_files.Place):
    self.place = place
    self.count = place.length()
    self._values = np.zeros(0, np.float32)
    self._position = 0

  def check(self, tensors: Sequence[Tensor]):
    """Checks that the list is what the config asks for, and reads it.

    Args:
      tensors: What it holds, in order.

    Raises:
      FileError: It has another length or what is no finite number, or a kernel
        of groups is too large.
    """
    n_weights = sum(tensor.size for tensor in tensors)
    if n_weights != self.count:
      raise self.place.error(
        f'a list of {n_weights} numbers, as the config asks for; there are '
        f'{self.count}'
      )
    if any(t.size * t.groups > _MOST_DENSE for t in tensors):
      raise self.place.error(
        f'for maps of {_MOST_DENSE} numbers at most, the zeros between their '
        'groups included'
      )
    self._values = self.place.numbers()

  def take(self, *shape: int) -> np.ndarray:
    """Returns the next numbers, in a shape."""
    n = math.prod(shape)
    values = self._values[self._position : self._position + n]
    self._position += n
    return values.reshape(shape)

  def replace(self, values: np.ndarray):
    """Goes on with other numbers, from their start."""
    self._values, self._position = values, 0

  def assign(self, variable: tf.Variable):
    """Assigns the next numbers, whose axes are those of a variable reversed."""
    variable.assign(self.take(*variable.shape[::-1]).T)


Planner = Callable[[json_files.Place, Weights, 'Reading'], Plan]


class Reading:
  """The reading of a file.

  Args:
    planners: What plans a network of an architecture, by its name: called with
      the places of config and weights, and the reading.
    size: Of networks that come in several, from 0 to 1, the largest.

  Attributes:
    sample_rate: In Hz; None where nothing said it yet.
  """

  def __init__(self, planners: Mapping[str, Planner], size: float):
    self._planners = planners
    self.size = size
    self.sample_rate: float | None = None
    self._depth = self._n_layers = self._n_past = 0

  def plan(self, place: json_files.Place) -> Plan:
    """Checks a network of the file: the whole, or one inside of it.

    Args:
      place: Its object.

    Returns:
      The plan.

    Raises:
      FileError: It is no such network, or one that dafx cannot make.
    """
    if self._depth == _MOST_DEPTH:
      raise place.error(f'no network: there are {_MOST_DEPTH} around it')
    fields = place.fields()
    if not self._depth or 'version' in fields:
      _check_version(place['version'])
    architecture = place['architecture']
    planner = self._planners.get(architecture.text())
    if planner is None:
      raise architecture.error(f'one of {tuple(self._planners)}')
    if 'sample_rate' in fields:
      self._check_rate(fields['sample_rate'])
    config, weights = place['config'], Weights(place['weights'])
    config.fields()
    self._depth += 1
    plan = planner(config, weights, self)
    self._depth -= 1
    return plan

  def plan_audio(self, place: json_files.Place) -> Plan:
    """As `plan`, for a network whose output is audio."""
    plan = self.plan(place)
    if plan.n_outputs != 1:
      raise place['config'].error(
        f'that of a network with 1 output; it has {plan.n_outputs}'
      )
    return plan

  def _check_rate(self, place):
    sample_rate = place.number(1, _HIGHEST_RATE_HZ)
    if self.sample_rate not in (None, sample_rate):
      raise place.error(
        f'{self.sample_rate}, the rate of the network around it or before it'
      )
    self.sample_rate = sample_rate

  def count(self, place: json_files.Place, n_layers: int, n_past: int):
    """Counts what a network has, and what the file has in all.

    Args:
      place: Its layers.
      n_layers: How many there are.
      n_past: Numbers of the past that they keep.

    Raises:
      FileError: There are too many.
    """
    self._n_layers += n_layers
    self._n_past += n_past
    if self._n_layers > _MOST_LAYERS_OF_FILE:
      raise place.error(f'a list of {_MOST_LAYERS_OF_FILE} layers at most')
    if self._n_past > _MOST_PAST:
      raise place.error(
        f'layers that keep {_MOST_PAST} numbers of the past at most (channels '
        f'times dilations times taps); they keep {self._n_past}'
      )


def _check_version(place):
  numbers = place.text().split('.')[:2]
  if (
    not all(n.isascii() and n.isdecimal() and len(n) < 9 for n in numbers)
    or not _FIRST_VERSION <= tuple(map(int, numbers)) <= _LAST_VERSION
  ):
    raise place.error('0.5 to 0.7, which dafx reads')
