"""What users hand in as tensors: audio and controls."""

import numpy as np
import tensorflow as tf

from dafx import _arguments


def audio_tensor(name: str, audio: tf.Tensor) -> tf.Tensor:
  """Returns audio as float32.

  Args:
    name: What messages call it.
    audio: Tensor or array of any shape, floating point, with full scale at +-1.

  Raises:
    ValueError: Integers, complex numbers or what is no number.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> core.audio_tensor('audio', tf.constant([100, -50], tf.int16))
    Traceback (most recent call last):
    ValueError: audio has dtype int16; ... as in audio / 32768.
  """
  dtype = _dtype(audio)
  if not dtype.is_floating:
    raise ValueError(_arguments.refusal_of_audio(name, dtype.name))
  return tf.cast(audio, tf.float32)


def number_tensor(name: str, values: tf.Tensor) -> tf.Tensor:
  """Returns real numbers, such as controls, as float32.

  Args:
    name: What messages call them.
    values: Tensor or array of any shape.

  Raises:
    ValueError: Complex numbers, or what is no number.

  Examples:
    >>> from dafx import core
    >>> core.number_tensor('controls', [[0, 1]]).numpy().tolist()
    [[0.0, 1.0]]
  """
  dtype = _dtype(values)
  if not (dtype.is_floating or dtype.is_integer or dtype.is_bool):
    raise ValueError(f'{name} has dtype {dtype.name}; it must be real numbers.')
  return tf.cast(values, tf.float32)


def _dtype(values):
  # Whatever has one: tensors, variables, arrays, Keras's symbolic tensors.
  found = getattr(values, 'dtype', None)
  kind = np.asarray(values).dtype if found is None else found
  try:
    return tf.as_dtype(kind)
  except TypeError:
    return tf.string
