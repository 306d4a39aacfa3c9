"""What all losses check of their audio, and how they fold its channels."""

import numpy as np
import tensorflow as tf


def check_audio(target, audio):
  """Returns both as tensors of `audio`'s dtype, or raises ValueError."""
  audio = tf.convert_to_tensor(audio)
  target = tf.convert_to_tensor(target)
  if not (audio.dtype.is_floating and target.dtype.is_floating):
    raise ValueError(
      f'Audio has dtype {target.dtype.name} (target) and {audio.dtype.name}; '
      'it must be floating point, with full scale at +-1. Convert it first.'
    )
  shapes = f'target {target.shape} and audio {audio.shape}'
  if audio.shape.rank not in (2, 3) or target.shape.rank != audio.shape.rank:
    raise ValueError(
      f'Audio has shapes {shapes}; both must be [batch, n_samples], or both '
      '[batch, n_samples, n_channels]. Add or squeeze an axis.'
    )
  if not target.shape.is_compatible_with(audio.shape):
    raise ValueError(
      f'Audio has shapes {shapes}; they must be equal. Crop both to one length '
      'and give both the same channels.'
    )
  if 0 in audio.shape.as_list():
    raise ValueError(f'Audio has shapes {shapes}; no axis may be empty.')
  return tf.cast(target, audio.dtype), audio


def check_loss_type(loss_type):
  """Raises ValueError unless a difference is called 'L1' or 'L2'."""
  if loss_type not in ('L1', 'L2'):
    raise ValueError(f"loss_type={loss_type!r} must be 'L1' or 'L2'.")


def fold_channels(audio: tf.Tensor) -> tf.Tensor:
  """Moves channels into the batch.

  Args:
    audio: Audio. Shape [batch, n_samples] or [batch, n_samples, n_channels].

  Returns:
    Audio. Shape [batch, n_samples], unchanged, or
    [batch * n_channels, n_samples], the channels of an item side by side.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> losses.fold_channels(tf.zeros([4, 1000, 2])).shape
    TensorShape([8, 1000])
  """
  if audio.shape.rank == 2:
    return audio
  # [batch, n_samples, n_channels] -> [batch, n_channels, n_samples].
  audio = tf.transpose(audio, [0, 2, 1])
  return tf.reshape(audio, [-1, tf.shape(audio)[-1]])


def to_db(power: tf.Tensor) -> tf.Tensor:
  """Returns a power in dB."""
  return tf.math.log(power) * (10.0 / np.log(10.0))


def check_sample_rate(sample_rate):
  """Raises ValueError unless a sample rate, in Hz, is positive."""
  if not sample_rate > 0:
    raise ValueError(f'sample_rate={sample_rate} Hz must be > 0.')


def check_length(audio, n_needed, what):
  """Raises ValueError for audio that is known to be shorter."""
  n_samples = audio.shape[1]
  if n_samples is not None and n_samples < n_needed:
    raise ValueError(
      f'n_samples={n_samples} must be at least {n_needed}: {what}. Use longer '
      'audio.'
    )


def with_channels(audio: tf.Tensor) -> tf.Tensor:
  """Returns audio as [batch, n_samples, n_channels]."""
  return audio[..., tf.newaxis] if audio.shape.rank == 2 else audio


def mean_over_heard(values: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
  """Returns the mean over items, 0 standing for those of a silent target."""
  axes = list(range(1, target.shape.rank))
  is_heard = tf.reduce_any(target != 0.0, axis=axes)
  return tf.reduce_mean(tf.where(is_heard, values, tf.zeros_like(values)))
