"""Files of checkpoints, read by the names of their variables."""

import collections
import contextlib
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

# What TensorFlow puts behind the name of a variable.
VALUE = '/.ATTRIBUTES/VARIABLE_VALUE'

# What TensorFlow takes for a pattern of file names when it reads, and bytes
# that are no text, which it takes not at all.
_PATTERN = re.compile(r'[*?\[\]\\\udc80-\udcff]')


@contextlib.contextmanager
def plain(path: str | os.PathLike) -> Iterator[str]:
  """Yields a path to a checkpoint that TensorFlow takes for what it is.

  Args:
    path: The checkpoint.
  """
  path = pathlib.Path(path).absolute()
  if not _PATTERN.search(str(path)):
    yield str(path)
    return
  root = tempfile.gettempdir()
  with tempfile.TemporaryDirectory(
    prefix='dafx-', dir='/tmp' if _PATTERN.search(root) else root
  ) as place:
    link = pathlib.Path(place, 'run')
    link.symlink_to(path.parent, target_is_directory=True)
    yield str(link / path.name)


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Iterator[Any]:
  """Yields TensorFlow's reader of a checkpoint.

  Args:
    path: The checkpoint.
  """
  with plain(path) as prefix:
    yield tf.train.load_checkpoint(prefix)


def value_in(path: str | os.PathLike, name: str, default: Any) -> Any:
  """Returns a variable of a checkpoint; a default where it holds none.

  Args:
    path: The checkpoint.
    name: Name of the variable.
    default: What is returned where there is none.
  """
  key = name + VALUE
  with reading(path) as reader:
    return reader.get_tensor(key) if reader.has_tensor(key) else default


def is_of_ddsp(path: str | os.PathLike) -> bool:
  """Returns whether DDSP's own trainer wrote a checkpoint.

  Args:
    path: The checkpoint.
  """
  # dafx counts steps itself, DDSP by its optimizer.
  with reading(path) as reader:
    return not reader.has_tensor(f'n_steps{VALUE}') and reader.has_tensor(
      f'save_counter{VALUE}'
    )


def has_average(path: str | os.PathLike) -> bool:
  """Returns whether a checkpoint has the average of the model's weights.

  Args:
    path: The checkpoint.
  """
  return value_in(path, 'averages/n_steps', None) is not None


def named(checkpoint: tf.train.Checkpoint) -> dict[str, tf.Variable]:
  """Returns the variables in a checkpoint by the names that TensorFlow makes.

  Each is the shortest way to the variable.

  Args:
    checkpoint: What is saved or restored.
  """
  view = tf.train.TrackableView(checkpoint)
  found: dict[str, tf.Variable] = {}
  seen = set()
  queue = collections.deque([('', checkpoint)])
  while queue:
    key, part = queue.popleft()
    if id(part) in seen:
      continue
    seen.add(id(part))
    if isinstance(part, tf.Variable):
      found[key[1:]] = part
    for name, child in view.children(part).items():
      name = name.replace('.', '..').replace('/', '.S')
      queue.append((f'{key}/{name}', child))
  return found
