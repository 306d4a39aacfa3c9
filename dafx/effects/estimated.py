"""Joins what NumPy renders, and estimates the gradient of, to TensorFlow."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from dafx import core, gradients, processors

_WHAT = 'the rendering of a plugin'


class BlackBoxProcessor(processors.Processor):
  """A processor that Python renders, which a SavedModel cannot hold."""

  is_black_box = True
  takes_channels = True

  def _trackable_children(self, save_type='checkpoint', **kwargs):
    """Refuses to be written into a SavedModel; as Keras's otherwise."""
    if save_type == 'savedmodel':
      core.refuse_saved_model(repr(self.name))
    return super()._trackable_children(save_type, **kwargs)

  def add_counter(self, key: str, value, dtype=tf.int64) -> tf.Variable:
    """Returns a variable that is saved but not trained.

    Args:
      key: Its name; that of the layer goes before it.
      value: Its value at first.
      dtype: Its type.
    """
    return tf.Variable(
      value, trainable=False, dtype=dtype, name=f'{self.name}/{key}'
    )


def with_channels(audio: tf.Tensor) -> tuple[tf.Tensor, bool]:
  """Returns audio with an axis of channels, and whether it had none.

  Args:
    audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].

  Returns:
    (float32 audio of shape [batch, n_samples, n_channels], is mono).

  Raises:
    ValueError: Another shape.
  """
  audio = tf.cast(audio, tf.float32)
  is_mono = audio.shape.rank == 2
  if is_mono:
    audio = audio[..., tf.newaxis]
  if audio.shape.rank != 3:
    raise ValueError(
      f'audio has shape {audio.shape}; it must be [batch, n_samples] or '
      '[batch, n_samples, n_channels].'
    )
  return audio, is_mono


def render_with_gradient(
  render: Callable,
  gradient: Callable,
  audio: tf.Tensor,
  controls: Sequence[tf.Tensor],
  n_channels_out: int,
  step: tf.Variable,
) -> tf.Tensor:
  """Renders, with an estimated gradient to the controls only.

  Args:
    render: From (audio, *controls), arrays, to [batch, n_samples, n_channels
      out], float32.
    gradient: From (audio, *controls, upstream, step, signal) to a list of
      gradients, one for each of the controls, float32.
    audio: Shape [batch, n_samples, n_channels].
    controls: Tensors that get a gradient.
    n_channels_out: Channels that come out.
    step: Counts the gradients asked for; one asked for twice is the same.

  Returns:
    Audio of shape [batch, n_samples, n_channels_out].
  """
  current = tf.identity(step)

  @tf.custom_gradient
  def run(*controls):
    signal = core.call_python(render, [audio, *controls], tf.float32, _WHAT)
    signal.set_shape([*audio.shape[:-1], n_channels_out])

    def backward(upstream):
      results = core.call_python(
        gradient,
        [audio, *controls, upstream, current, signal],
        [tf.float32] * len(controls),
        _WHAT,
      )
      results = tf.nest.flatten(results)  # a single one comes without its list
      for result, source in zip(results, controls, strict=True):
        result.set_shape(source.shape)
      # Set, not added to: asked twice, a step has the same gradient.
      step.assign(current + 1)
      return results

    return signal, backward

  return run(*controls)


def carry_audio_gradient(
  gradient: Callable,
  audio: tf.Tensor,
  others: Sequence[tf.Tensor],
  n_channels_out: int,
  check: Callable[[], None],
) -> tf.Tensor:
  """Returns zeros in the shape of the output with a gradient to the audio.

  Added to what is rendered without one, so that each gradient is worked out
  only if it is asked for.

  Args:
    gradient: From (audio, *others, upstream), arrays, to the gradient to the
      audio, float32.
    audio: Shape [batch, n_samples, n_channels].
    others: Tensors that the gradient depends on, and that get none.
    n_channels_out: Channels that come out.
    check: Raises where no gradient is to be had; called before the graph is.

  Returns:
    Zeros of shape [batch, n_samples, n_channels_out].
  """

  @tf.custom_gradient
  def carry(audio):
    zeros = tf.zeros_like(audio[..., :1])

    def backward(upstream):
      check()
      result = core.call_python(
        gradient,
        [audio, *map(tf.stop_gradient, others), upstream],
        tf.float32,
        _WHAT,
      )
      result.set_shape(audio.shape)
      return result

    return tf.repeat(zeros, n_channels_out, axis=-1), backward

  return carry(audio)


def check_input_gradient(name: str, processors: Sequence):
  """Raises ValueError where a processor is to have no gradient to its audio.

  Args:
    name: Of what is asked for a gradient.
    processors: Processors whose `input_gradient` decides.

  Raises:
    ValueError: It is 'none'.
  """
  for processor in processors:
    if processor.input_gradient == 'none':
      raise ValueError(
        f'The gradient to the audio of {name!r} is asked for, but '
        f"{processor.name!r} has input_gradient='none'. Choose 'adjoint', or "
        f'do not train what comes before {name!r}.'
      )


def gradient_figures(
  symbols: Sequence[str],
  estimates: np.ndarray,
  unit: np.ndarray,
  epsilons: np.ndarray,
  n_renders: int,
) -> dict[str, float]:
  """Returns figures of an estimate by name, for TensorBoard.

  Args:
    symbols: Names of the controls.
    estimates: One per probe, to controls in [0, 1], shape [n_probes, batch,
      n_frames, n_controls].
    unit: The controls, in [0, 1], shape [batch, n_frames, n_controls].
    epsilons: Sizes of the perturbations, [n_controls].
    n_renders: Items rendered so far.

  Returns:
    For each control the gradient's norm, the signal-to-noise ratio of the
    probes in dB and the share of controls too near to a bound for a whole step.
  """
  norms = np.sqrt(np.square(estimates.mean(0)).sum((0, 1)))
  ratios_db = gradients.signal_to_noise_db(estimates)
  is_clipped = (unit < epsilons) | (unit > 1.0 - epsilons)
  figures = {'n_renders': float(n_renders)}
  for i, symbol in enumerate(symbols):
    figures[f'norm/{symbol}'] = float(norms[i])
    figures[f'signal_to_noise_db/{symbol}'] = float(ratios_db[i])
    figures[f'clipped_share/{symbol}'] = float(is_clipped[..., i].mean())
  return figures
