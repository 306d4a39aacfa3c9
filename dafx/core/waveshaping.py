"""Memoryless nonlinearities, and oversampling that keeps their aliases away."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import scipy.signal
import tensorflow as tf

# Padé approximant of tanh, from its continued fraction: x (945 + 105 x^2 + x^4)
# / (945 + 420 x^2 + 15 x^4). Powers of x from 0 on, and from 1 on.
TANH_NUMERATOR = (0.0, 1.0, 0.0, 1.0 / 9.0, 0.0, 1.0 / 945.0, 0.0)
TANH_DENOMINATOR = (0.0, 4.0 / 9.0, 0.0, 1.0 / 63.0, 0.0)

# Taps of each phase of the oversampling filter, an even number, and the
# parameter of its Kaiser window: flat up to 0.42 of the sample rate, 80 dB down
# from 0.58 on.
_PHASE_TAPS, _KAISER_BETA = 32, 8.0


def polynomial(x: tf.Tensor, coefficients: tf.Tensor) -> tf.Tensor:
  """Returns the sum of coefficients[k] * x ** k; of the shape of x.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> x = tf.constant([0.0, 2.0])
    >>> core.polynomial(x, [1.0, 0.0, 3.0]).numpy().tolist()
    [1.0, 13.0]
  """
  result = tf.zeros_like(x)
  for coefficient in reversed(tf.unstack(coefficients)):
    result = result * x + coefficient
  return result


def rational(
  x: tf.Tensor, numerator: tf.Tensor, denominator: tf.Tensor
) -> tf.Tensor:
  """Returns P(x) / (1 + |Q(x)|), which has no poles.

  A safe Padé activation unit: A. Molina et al., "Padé activation units", ICLR
  2020, eq. 3.

  Args:
    x: Any shape.
    numerator: Coefficients of P, of the powers from 0 on.
    denominator: Coefficients of Q, of the powers from 1 on.

  Returns:
    Values in the shape of x.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> x = tf.constant([0.5])
    >>> y = core.rational(x, core.TANH_NUMERATOR, core.TANH_DENOMINATOR)
    >>> abs(float(y[0] - tf.tanh(0.5))) < 1e-6
    True
  """
  below = x * polynomial(x, denominator)
  return polynomial(x, numerator) / (1.0 + tf.abs(below))


def mlp(
  x: tf.Tensor,
  layers: Sequence[tuple[tf.Tensor, tf.Tensor]],
  activation: Callable[[int, tf.Tensor], tf.Tensor],
) -> tf.Tensor:
  """Runs a small network on each value by itself.

  Args:
    x: Any shape.
    layers: (kernel [n_in, n_out], bias [n_out]) of each layer; the first has
      one input, the last one output.
    activation: Function between layers, of (layer number, values).

  Returns:
    Values in the shape of x.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> layers = [
    ...   (tf.ones([1, 2]), tf.zeros([2])),
    ...   (tf.ones([2, 1]), tf.zeros([1])),
    ... ]
    >>> core.mlp(tf.constant([[0.0, 1.0]]), layers, lambda i, x: tf.nn.relu(x))
    <tf.Tensor: shape=(1, 2), dtype=float32, numpy=array([[0., 2.]], ...)>
  """
  values = tf.reshape(x, [-1, 1])
  for i, (kernel, bias) in enumerate(layers):
    values = values @ kernel + bias
    if i < len(layers) - 1:
      values = activation(i, values)
  return tf.reshape(values, tf.shape(x))


@functools.cache
def _phases(factor):
  """Returns the low pass at half of the lower rate, as [taps, factor].

  Tap m of phase j is tap m * factor + j of the filter at the higher rate, which
  has linear phase and is late by half of its length.
  """
  n_taps = _PHASE_TAPS * factor + 1
  h = scipy.signal.firwin(n_taps, 1.0 / factor, window=('kaiser', _KAISER_BETA))
  # Its last tap is next to nothing, and has no place among the phases.
  phases = h[:-1].reshape(_PHASE_TAPS, factor)
  phases /= phases.sum(axis=0)  # A constant stays one.
  return phases.astype(np.float32)


def oversampling_latency(factor: int) -> int:
  """Returns the samples by which `oversampled` is late: 0 for a factor of 1."""
  return 0 if factor == 1 else _PHASE_TAPS - 1


def oversampling_history(factor: int) -> int:
  """Returns the past samples that `oversampled` needs: 0 for a factor of 1."""
  return 0 if factor == 1 else 2 * (_PHASE_TAPS - 1)


def oversampled(
  audio: tf.Tensor, function: Callable[[tf.Tensor], tf.Tensor], factor: int
) -> tf.Tensor:
  """Applies a function at a multiple of the sample rate.

  Harmonics above half of the higher rate still alias; those between are
  filtered out, 80 dB down up to 0.42 of the sample rate.

  Args:
    audio: Shape [batch, n_samples + oversampling_history(factor)].
    function: Memoryless, from values to values of the same shape.
    factor: Multiple of the rate; 1 applies the function as it is.

  Returns:
    Shape [batch, n_samples], late by oversampling_latency(factor) samples.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> core.oversampling_latency(4), core.oversampling_history(4)
    (31, 62)
    >>> audio = tf.ones([1, 100 + core.oversampling_history(4)])
    >>> core.oversampled(audio, tf.tanh, factor=4).shape
    TensorShape([1, 100])
  """
  if factor == 1:
    return function(audio)
  phases = _phases(factor)
  # Interpolation: phase j of the higher rate, from the taps turned round.
  up = tf.nn.conv1d(
    audio[..., tf.newaxis], phases[::-1, np.newaxis], stride=1, padding='VALID'
  )
  shaped = function(up)  # [batch, n_samples + _PHASE_TAPS - 1, factor]
  # The filter is symmetric: all phases of 32 steps, the newest one included.
  down = phases[..., np.newaxis] / factor
  return tf.nn.conv1d(shaped, down, stride=1, padding='VALID')[..., 0]
