"""`Waveshaper`: memoryless nonlinearities as a processor."""

from collections.abc import Sequence
from typing import Any

import gin
import numpy as np
import tensorflow as tf

from dafx import core, processors
from dafx.effects import siren

_KINDS = ('tanh', 'hard_clip', 'mlp', 'siren', 'rational', 'polynomial')


@gin.register(module='dafx.effects')
class Waveshaper(processors.Processor):
  """A curve that each sample goes through by itself.

  Kinds:

  - 'tanh', and 'hard_clip' at -1 and 1: nothing to train.
  - 'rational': degrees 6 and 5, tanh at the start (`core.rational`).
  - 'polynomial': close to tanh on [-1, 1] at the start; it grows without bound
    outside.
  - 'mlp' and 'siren': networks with tanh, or sines, between layers, random at
    the start. What NablAFx calls an MLP is 'siren'.

  Args:
    kind: One of the above.
    oversample: Multiple of the sample rate at which the curve is applied, so
      that harmonics do not fold back. Above 1, streaming is late by `latency`
      samples.
    degree: Of the polynomial.
    hidden_size: Width of 'mlp' and 'siren'.
    n_layers: Layers with an activation, of 'mlp' and 'siren'.
    w0: Frequency of the first layer of 'siren'.
    seed: Seed of the networks.
    name: Name of the layer.

  Raises:
    ValueError: An unknown kind, or a size below 1.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import effects
    >>> effects.Waveshaper(oversample=4)(tf.zeros([1, 1000])).shape
    TensorShape([1, 1000])
  """

  def __init__(
    self,
    kind: str = 'tanh',
    oversample: int = 1,
    degree: int = 7,
    hidden_size: int = 32,
    n_layers: int = 3,
    w0: float = 30.0,
    seed: int = 0,
    name: str = 'waveshaper',
  ):
    super().__init__(name=name, trainable=True)
    if kind not in _KINDS:
      raise ValueError(f'kind={kind!r} must be one of {_KINDS}.')
    for option, value in (('oversample', oversample), ('degree', degree)):
      if value < 1 or value != int(value):
        raise ValueError(f'{option}={value} must be a whole number, 1 or more.')
    self.kind = kind
    self.oversample = oversample
    self.latency = core.oversampling_latency(oversample)
    self.receptive_field = 1 + core.oversampling_history(oversample)
    starts: dict[str, Sequence[float] | np.ndarray] = {}
    if kind == 'rational':
      starts['numerator'] = core.TANH_NUMERATOR
      starts['denominator'] = core.TANH_DENOMINATOR
    elif kind == 'polynomial':
      x = np.linspace(-1, 1, 1001)
      starts['numerator'] = np.polynomial.polynomial.polyfit(
        x, np.tanh(x), degree
      )
    elif kind in ('mlp', 'siren'):
      activation = {'mlp': 'tanh', 'siren': 'sine'}[kind]
      self.net = siren.Siren(hidden_size, n_layers, w0, seed, activation, kind)
    for key, start in starts.items():
      variable = self.add_weight(
        key, [len(start)], initializer=tf.constant_initializer(start)
      )
      setattr(self, key, variable)

  def curve(self, values: tf.Tensor) -> tf.Tensor:
    """Applies the curve to values of any shape."""
    if self.kind == 'tanh':
      return tf.tanh(values)
    if self.kind == 'hard_clip':
      return tf.clip_by_value(values, -1.0, 1.0)
    if self.kind == 'rational':
      return core.rational(values, self.numerator, self.denominator)
    if self.kind == 'polynomial':
      return core.polynomial(values, self.numerator)
    return self.net(values)

  def get_controls(self, audio: tf.Tensor) -> dict[str, tf.Tensor]:
    """Passes audio through."""
    return {'audio': audio}

  def get_signal(self, audio: tf.Tensor) -> tf.Tensor:
    """Shapes audio [batch, n_samples]; latency is taken out."""
    padded = tf.pad(audio, [[0, 0], [0, self.latency]])
    state = self.initial_state(core.batch_size(audio))
    return self.stream(state, padded)[0][:, self.latency :]

  def initial_state(self, batch_size: int) -> Any:
    """Returns the past samples, none: zeros."""
    return tf.zeros([batch_size, core.oversampling_history(self.oversample)])

  def stream(self, state: Any, audio: tf.Tensor) -> tuple[Any, Any]:
    """Processes the next chunk; returns (audio, state)."""
    line = tf.concat([state, audio], axis=1)
    out = core.oversampled(line, self.curve, self.oversample)
    return out, line[:, audio.shape[1] :]
