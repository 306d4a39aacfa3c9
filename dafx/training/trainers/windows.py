"""Windows of a batch, for truncated backpropagation through time."""

from collections.abc import Mapping

import tensorflow as tf


def check_size(size: int, model: tf.keras.Model):
  """Raises ValueError unless a model can be trained in windows of a size.

  Args:
    size: Samples of a window.
    model: The `models.Model`.
  """
  if size < 1:
    raise ValueError(
      f'tbptt_samples={size} must be the samples of a window, at least 1, such '
      'as 4864; or None to train on whole crops.'
    )
  if not model.streams:
    raise ValueError(
      f'tbptt_samples={size} needs a model that streams, such as EffectModel; '
      f'{type(model).__name__} does not. Set it to None.'
    )


def cut(
  batch: Mapping[str, tf.Tensor], size: int, settling: int
) -> tuple[list[dict[str, tf.Tensor]], int]:
  """Cuts a batch into windows.

  Args:
    batch: Features; 'audio' [batch, n_samples] says how long it is.
    size: Samples of a window.
    settling: Samples at the start in which a model settles.

  Returns:
    The features of each window, and how many of the first ones only settle.

  Raises:
    ValueError: No window is left, or features whose frames a window cuts.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx.training.trainers import windows
    >>> parts, n_silent = windows.cut({'audio': tf.zeros([1, 100])}, 30, 10)
    >>> len(parts), n_silent
    (3, 1)
  """
  n_samples = batch['audio'].shape[1]
  n_silent = -(-settling // size)
  if n_samples < (n_silent + 1) * size:
    raise ValueError(
      f'Crops of {n_samples} samples hold no window of tbptt_samples={size} '
      f'after {settling} samples in which the model settles. Take longer crops '
      'or shorter windows.'
    )
  parts = [
    {
      key: _window(value, window, size, n_samples)
      for key, value in batch.items()
    }
    for window in range(n_samples // size)
  ]
  return parts, n_silent


def _window(value, window, size, n_samples):
  """Returns a window of a feature; what has no frames is the same in all."""
  if value.shape.rank == 2 and value.shape[1] != n_samples:
    return value  # knobs
  n_frames = value.shape[1] * size // n_samples
  if not n_frames or value.shape[1] * size % n_samples:
    raise ValueError(
      f'A feature of {value.shape[1]} frames in {n_samples} samples cannot be '
      f'cut into windows of tbptt_samples={size}: take windows of whole frames.'
    )
  return value[:, window * n_frames : (window + 1) * n_frames]
