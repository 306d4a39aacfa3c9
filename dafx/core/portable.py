"""Whether loops over time may leave TensorFlow for compiled code."""

import contextlib
import contextvars
from collections.abc import Iterator

import tensorflow as tf

from dafx.core import python_calls

_PORTABLE = contextvars.ContextVar('portable', default=False)


@contextlib.contextmanager
def portable() -> Iterator[None]:
  """Makes graphs traced inside of TensorFlow's own ops alone, for export.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> audio = tf.zeros([1, 100])
    >>> with core.portable():
    ...   core.is_compiled(audio)
    False
    >>> core.is_compiled(audio)
    True
  """
  token = _PORTABLE.set(True)
  try:
    yield
  finally:
    _PORTABLE.reset(token)


def is_compiled(x: tf.Tensor) -> bool:
  """Returns whether compiled loops take x in this context.

  They run beside TensorFlow, so not under XLA nor in a SavedModel.
  """
  if x.dtype != tf.float32 or _PORTABLE.get():
    return False
  return not (python_calls.is_in_xla() or python_calls.is_in_saved_model())
