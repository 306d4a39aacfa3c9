"""Renders in NumPy, and their estimated gradients, as ops of TensorFlow."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from dafx import core, lv2, processors

_WHAT = 'the rendering of a plugin'
# Where plugins are. Between two of them audio stays there too, and the gradient
# to it, whatever device the network has.
_HOST = 'CPU:0'


def _on_host(function):
  """Has a function's ops be where plugins are."""

  @functools.wraps(function)
  def placed(*args, **kwargs):
    with tf.device(_HOST):
      return function(*args, **kwargs)

  return placed


@tf.custom_gradient
def _with_axis(audio):
  """Returns mono audio with an axis of channels."""

  @_on_host
  def backward(cotangent):
    return cotangent[..., 0]

  return audio[..., tf.newaxis], backward


@_on_host
def joined(rendered: tf.Tensor, carrier: tf.Tensor, is_mono: bool) -> tf.Tensor:
  """Returns what was rendered, with both of its gradients.

  Args:
    rendered: Of `render_with_gradient`.
    carrier: Of `carry_audio_gradient`.
    is_mono: Whether to leave out the axis of channels.

  Returns:
    Shape [batch, n_samples], or with n_channels behind.
  """

  @tf.custom_gradient
  def join(rendered, carrier):
    @_on_host
    def backward(cotangent):
      whole = cotangent[..., tf.newaxis] if is_mono else cotangent
      return whole, whole

    signal = rendered + carrier
    return signal[..., 0] if is_mono else signal, backward

  return join(rendered, carrier)


@_on_host
def with_channels(audio: tf.Tensor) -> tuple[tf.Tensor, bool]:
  """Returns audio with an axis of channels, and whether it had none.

  Args:
    audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].

  Returns:
    (float32 audio of shape [batch, n_samples, n_channels], is mono).

  Raises:
    ValueError: Another shape.
  """
  audio = core.audio_tensor('audio', audio)
  is_mono = audio.shape.rank == 2
  if is_mono:
    audio = _with_axis(audio)
  if audio.shape.rank != 3:
    raise ValueError(
      f'audio has shape {audio.shape}; it must be [batch, n_samples] or '
      '[batch, n_samples, n_channels].'
    )
  return audio, is_mono


def render_items(
  render: Callable,
  audio: np.ndarray,
  controls: np.ndarray,
  items: Sequence[int] | np.ndarray | None,
  rows: np.ndarray | None = None,
) -> np.ndarray:
  """Renders items of a batch; a crash then tells which of the batch it was.

  Args:
    render: As `BlackBoxProcessor.render`.
    audio: Shape [n_audio, n_samples, n_channels].
    controls: Of these items, in port units, [n_items, n_frames, n_controls].
    items: Which of the batch they are; None for audio that is of no batch.
    rows: Which of `audio` each takes, [n_items]; None for one each.

  Returns:
    What it renders.

  Raises:
    lv2.CrashError: A plugin crashed or hung, at the item that it names.
  """
  with lv2.crashes_in(items):
    return render(audio, controls, rows=rows)


@_on_host
def render_with_gradient(
  render: Callable,
  gradient: Callable,
  audio: tf.Tensor,
  controls: Sequence[tf.Tensor],
  n_channels_out: int,
  step: tf.Variable,
  first_key: tf.Tensor,
  render_ahead: Callable | None = None,
) -> tf.Tensor:
  """Renders, with an estimated gradient to the controls only, not the audio.

  Args:
    render: From (audio, *controls), arrays, to [batch, n_samples, n_channels
      out], float32.
    gradient: From (audio, *controls, cotangent, step, first_key, signal), and
      what was rendered ahead, to a list of gradients, one for each of the
      controls, float32.
    audio: Shape [batch, n_samples, n_channels].
    controls: Tensors that get a gradient.
    n_channels_out: Channels that come out.
    step: Counts the gradients asked for; one asked for twice is the same.
    first_key: Key of the first item; see `core.first_item_key`.
    render_ahead: From (audio, *controls, step, first_key) to what the gradient
      needs and the cotangent has no part in, float32. A graph that has a
      gradient calls it as soon as the controls are known, beside all that
      comes until the cotangent is: on processors that a batch leaves idle.

  Returns:
    Audio of shape [batch, n_samples, n_channels_out].
  """
  current, heard, audio = tf.identity(step), audio, tf.stop_gradient(audio)

  @tf.custom_gradient
  def run(*controls):
    signal = core.call_python(render, [audio, *controls], tf.float32, _WHAT)
    signal.set_shape([*audio.shape[:-1], n_channels_out])

    @_on_host
    def backward(cotangent):
      # Here, as only a graph that has a gradient has use for it.
      ahead = []
      if render_ahead is not None:
        sources = [audio, *controls, current, first_key]
        ahead = [core.call_python(render_ahead, sources, tf.float32, _WHAT)]

      def estimate(*_):
        return core.call_python(
          gradient,
          [audio, *controls, cotangent, current, first_key, signal, *ahead],
          [tf.float32] * len(controls),
          _WHAT,
        )

      results = core.differentiable_once(
        estimate, [heard, *controls, cotangent], _WHAT
      )
      results = tf.nest.flatten(results)  # a single one comes without its list
      for result, source in zip(results, controls, strict=True):
        result.set_shape(source.shape)
      # Set, not added to: asked twice, a step has the same gradient.
      step.assign(current + 1)
      return results

    return signal, backward

  return run(*controls)


@_on_host
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
    gradient: From (audio, *others, cotangent), arrays, to the gradient to the
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

    @_on_host
    def backward(cotangent):
      check()

      def estimate(*_):
        # What is chosen for it is chosen by the whole batch.
        return core.call_once(
          lambda *inputs: core.call_python(gradient, inputs, tf.float32, _WHAT),
          [audio, *map(tf.stop_gradient, others), cotangent],
        )

      floats = [other for other in others if other.dtype.is_floating]
      result = core.differentiable_once(
        estimate, [audio, *floats, cotangent], _WHAT
      )
      result.set_shape(audio.shape)
      return result

    return tf.repeat(zeros, n_channels_out, axis=-1), backward

  return carry(audio)


def read_controls(
  node: processors.Node, audio: tf.Tensor, controls: tf.Tensor | None, what: str
) -> tf.Tensor:
  """Returns the controls that a node is given, in [0, 1].

  Args:
    node: What they set.
    audio: Its audio, shape [batch, ...].
    controls: Shape [batch, n_frames, n_controls] or [batch, n_controls]; None
      for a node that nothing sets.
    what: What they are for, for the message.

  Returns:
    Shape [batch, n_frames, n_controls], float32, clipped to [0, 1].

  Raises:
    ValueError: Another number of controls than the node's.
  """
  if controls is None:
    controls = tf.zeros([core.batch_size(audio), 1, 0])
  controls = core.number_tensor('controls', controls)
  if controls.shape.rank == 2:
    controls = controls[:, tf.newaxis, :]
  control_map = node.control_map
  n_controls = 0 if control_map is None else control_map.n_controls
  if controls.shape.rank != 3 or controls.shape[-1] != n_controls:
    raise ValueError(
      f'controls has shape {controls.shape}; {node.name!r} takes [batch, '
      f'n_frames, {n_controls}] {what}.'
    )
  return tf.clip_by_value(controls, 0.0, 1.0)
