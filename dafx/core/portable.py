"""Whether loops over time may leave TensorFlow for compiled code."""

import contextlib
import contextvars

import tensorflow as tf

_PORTABLE = contextvars.ContextVar('portable', default=False)


@contextlib.contextmanager
def portable():
  """Makes graphs traced inside of TensorFlow's own ops alone, for export."""
  token = _PORTABLE.set(True)
  try:
    yield
  finally:
    _PORTABLE.reset(token)


def is_compiled(x):
  """Returns whether compiled loops take x in this context."""
  return x.dtype == tf.float32 and not _PORTABLE.get()
