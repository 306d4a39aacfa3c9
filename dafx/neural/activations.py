"""Activations of Neural Amp Modeler's networks, by their names there."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from dafx import processors

Number = float | Sequence[float]


def _hard_swish(x):
  return x * tf.nn.relu6(x + 3.0) / 6.0


def _soft_sign(x):
  return x / (1.0 + tf.abs(x))


def _fast_tanh(x):
  """Tanh as players approximate it; within 8e-4."""
  size, square = tf.abs(x), x * x
  top = 2.45550750702956 + 2.45550750702956 * size
  top += (0.893229853513558 + 0.821226666969744 * size) * square
  bottom = tf.abs(x + 0.814642734961073 * x * size)
  return x * top / (2.44506634652299 + (2.44506634652299 + square) * bottom)


def _hard_tanh(x, min_val, max_val):
  return tf.clip_by_value(x, min_val, max_val)


def _leaky_relu(x, negative_slope):
  return tf.nn.leaky_relu(x, negative_slope)


def _p_relu(x, negative_slopes):
  slopes = tf.constant(negative_slopes, x.dtype)
  return tf.maximum(x, 0.0) + slopes * tf.minimum(x, 0.0)


def _leaky_hard_tanh(x, min_val, max_val, min_slope, max_slope):
  below, above = tf.minimum(x - min_val, 0.0), tf.maximum(x - max_val, 0.0)
  inside = tf.clip_by_value(x, min_val, max_val)
  return inside + min_slope * below + max_slope * above


_HARD: dict[str, Number] = {'min_val': -1.0, 'max_val': 1.0}
_SLOPES: dict[str, Number] = {'min_slope': 0.01, 'max_slope': 0.01}
# What each kind does, and its parameters where none are given.
KINDS: Mapping[str, tuple[Callable[..., Any], dict[str, Number]]] = {
  'Tanh': (tf.tanh, {}),
  'Fasttanh': (_fast_tanh, {}),
  'Hardtanh': (_hard_tanh, _HARD),
  'LeakyHardtanh': (_leaky_hard_tanh, {**_HARD, **_SLOPES}),
  'ReLU': (tf.nn.relu, {}),
  'LeakyReLU': (_leaky_relu, {'negative_slope': 0.01}),
  'PReLU': (_p_relu, {'negative_slopes': (0.01,)}),
  'Sigmoid': (tf.sigmoid, {}),
  'SiLU': (tf.nn.silu, {}),
  'Hardswish': (_hard_swish, {}),
  'Softsign': (_soft_sign, {}),
}


@processors.register_record
@dataclasses.dataclass(frozen=True)
class Activation:
  """An activation without trained parameters.

  Attributes:
    kind: One of KINDS: 'Tanh', 'ReLU', 'LeakyReLU' and so on.
    parameters: Those that differ from `KINDS`, by name. 'PReLU' has
      'negative_slopes', one for all channels or one each.

  Raises:
    ValueError: An unknown kind or parameter.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import neural
    >>> leaky = neural.Activation('LeakyReLU', {'negative_slope': 0.1})
    >>> leaky(tf.constant([-1.0, 2.0])).numpy().tolist()
    [-0.10000000149011612, 2.0]
  """

  kind: str = 'Tanh'
  parameters: Mapping[str, Number] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    """Checks the names."""
    if self.kind not in KINDS:
      raise ValueError(
        f'activation is {self.kind!r}; it is one of {tuple(KINDS)}.'
      )
    allowed = KINDS[self.kind][1]
    if unknown := set(self.parameters) - set(allowed):
      raise ValueError(
        f'{self.kind} has no {", ".join(sorted(unknown))}; its parameters are '
        f'{tuple(allowed)}.'
      )

  @property
  def all_parameters(self) -> dict[str, Number]:
    """The parameters, with those that were not given."""
    return {**KINDS[self.kind][1], **self.parameters}

  @property
  def negative_slopes(self) -> tuple[float, ...]:
    """Slopes of a PReLU: one for all channels or one each; () for others."""
    slopes: Any = self.all_parameters.get('negative_slopes', ())
    return tuple(slopes)

  def __call__(self, x: tf.Tensor) -> tf.Tensor:
    """Applies it to [..., n_channels]."""
    return KINDS[self.kind][0](x, **self.all_parameters)
