"""Starts of networks inside of gray boxes: fitted before training begins.

A curve or a response that a network gives is random at first, and so is what
comes out of a gray box; NablAFx starts them from a tanh and from the response
of a speaker. Nothing here is random: the seed is the network's.
"""

from collections.abc import Callable, Mapping

import ddsp
import numpy as np
import tensorflow as tf

from dafx import _folders, effects, processors
from dafx.audio import files as audio_files

_CURVES = {'tanh': tf.tanh, 'linear': tf.identity}
_NETWORKS = ('mlp', 'siren')


def _fit(output, target, variables, n_steps, learning_rate):
  """Fits output() to target by Adam; returns the relative RMS error."""
  if not variables:
    raise ValueError('There is nothing to train in what is to be fitted.')
  optimizer = tf.keras.optimizers.Adam(
    tf.keras.optimizers.schedules.CosineDecay(learning_rate, n_steps)
  )
  optimizer.build(variables)
  energy = tf.reduce_mean(target**2)

  @tf.function
  def run():
    for _ in tf.range(n_steps):
      with tf.GradientTape() as tape:
        loss = tf.reduce_mean((output() - target) ** 2) / energy
      optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))

  run()
  return float(tf.sqrt(tf.reduce_mean((output() - target) ** 2) / energy))


def fit_waveshaper(
  waveshaper: effects.Waveshaper,
  curve: Callable[[tf.Tensor], tf.Tensor] = tf.tanh,
  limit: float = 4.0,
  n_points: int = 401,
  n_steps: int = 2000,
  learning_rate: float = 2e-3,
) -> float:
  """Fits a waveshaper to a curve by Adam.

  Args:
    waveshaper: With something to train.
    curve: From values [n_points] to values of that shape.
    limit: It is fitted from -limit to limit.
    n_points: Points on the curve.
    n_steps: Updates.
    learning_rate: At the start; it falls to nothing, as half a cosine.

  Returns:
    RMS error over the RMS of the curve, at those points.

  Raises:
    ValueError: A waveshaper without weights.
  """
  x = tf.linspace(-float(limit), float(limit), n_points)
  variables = waveshaper.trainable_variables
  return _fit(
    lambda: waveshaper.curve(x), curve(x), variables, n_steps, learning_rate
  )


def fit_fir(
  fir: effects.Fir, ir, n_steps: int = 2000, learning_rate: float = 2e-3
) -> float:
  """Fits the response of a filter to another one by Adam.

  Args:
    fir: With something to train.
    ir: Response, [n_samples]; cut, or filled with zeros, to the filter's taps.
    n_steps: Updates.
    learning_rate: At the start; it falls to nothing, as half a cosine.

  Returns:
    RMS error over the RMS of the response.

  Raises:
    ValueError: A filter without weights, or a response that is not [n_samples],
      finite and not silent in its first taps.
  """
  ir = np.asarray(ir, np.float32)
  if ir.ndim != 1 or not np.isfinite(ir).all() or not ir[: fir.n_taps].any():
    raise ValueError(
      f'ir has shape {ir.shape}; it must be [n_samples], finite, and not '
      f'silent in its first {fir.n_taps} samples.'
    )
  ir = np.pad(ir[: fir.n_taps], [0, max(0, fir.n_taps - len(ir))])
  variables = fir.trainable_variables
  return _fit(
    fir.impulse_response, tf.constant(ir), variables, n_steps, learning_rate
  )


def read_ir(path, sample_rate: int) -> np.ndarray:
  """Reads an impulse response, scaled to energy 1: [n_samples], float32.

  Args:
    path: A mono audio file.
    sample_rate: Rate that it must have, in Hz.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: Another rate, more channels, or silence.
  """
  path = _folders.expand_user(path)
  if not path.is_file():
    raise FileNotFoundError(
      f"{path}: no such file. Give an impulse response, or 'impulse'."
    )
  ir, rate = audio_files.read(path)
  if rate != sample_rate or ir.shape[1] != 1 or not ir.any():
    raise ValueError(
      f'{path} has a rate of {rate} Hz and shape {ir.shape}; it must be at '
      f'{sample_rate} Hz, mono, and not silent.'
    )
  return ir[:, 0] / np.sqrt(np.sum(ir**2))


def check_starts(
  group: ddsp.processors.ProcessorGroup, starts: Mapping[str, str]
):
  """Raises ValueError for a node, or a curve, that there is not."""
  nodes = processors.nodes(group)
  for name, start in starts.items():
    node = nodes.get(name)
    if not isinstance(node, effects.Waveshaper | effects.Fir):
      raise ValueError(
        f'starts has {name!r}, which is no Waveshaper or Fir of the graph: '
        f'{", ".join(nodes)}.'
      )
    if isinstance(node, effects.Waveshaper) and start not in _CURVES:
      raise ValueError(
        f'{name!r} starts from {start!r}; a waveshaper starts from one of '
        f'{tuple(_CURVES)}.'
      )


def fit_nodes(
  group: ddsp.processors.ProcessorGroup,
  starts: Mapping[str, str],
  sample_rate: int,
  n_steps: int = 2000,
) -> dict[str, float]:
  """Fits the networks inside of a group to where they are to start.

  Waveshapers and filters that are no networks start where they are set up to,
  and are left alone.

  Args:
    group: Group of nodes.
    starts: By node: 'tanh' or 'linear' for a `Waveshaper`; 'impulse', or the
      path of an impulse response, for a `Fir`.
    sample_rate: Of the audio, in Hz.
    n_steps: Updates of each.

  Returns:
    Relative RMS error of each node that was fitted.

  Raises:
    ValueError: A node, or a start, that there is not.
    FileNotFoundError: There is no such impulse response.
  """
  check_starts(group, starts)
  nodes = processors.nodes(group)
  errors = {}
  for name, start in starts.items():
    node = nodes[name]
    if isinstance(node, effects.Waveshaper):
      if node.kind in _NETWORKS:
        errors[name] = fit_waveshaper(node, _CURVES[start], n_steps=n_steps)
    elif isinstance(node, effects.Fir):
      ir = [1.0] if start == 'impulse' else read_ir(start, sample_rate)
      if node.kind in _NETWORKS:
        errors[name] = fit_fir(node, ir, n_steps)
  return errors
