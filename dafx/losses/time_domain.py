"""Losses of the samples."""

import ddsp
import gin
import numpy as np
import tensorflow as tf

from dafx import core
from dafx.losses.shapes import check_audio, check_loss_type, fold_channels


def time_domain_loss(
  target: tf.Tensor, audio: tf.Tensor, loss_type: str = 'L1'
) -> tf.Tensor:
  """Mean difference of the samples.

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels].
    audio: Audio of the same shape.
    loss_type: 'L1' (mean absolute) or 'L2' (mean squared difference).

  Returns:
    Loss, >= 0. Scalar.

  Raises:
    ValueError: If the shapes, dtypes or `loss_type` are not allowed.

  Examples:
    >>> from dafx import losses
    >>> target, audio = [[0.0, 1.0]], [[1.0, 1.0]]
    >>> float(losses.time_domain_loss(target, audio, 'L2'))
    0.5
  """
  check_loss_type(loss_type)
  target, audio = check_audio(target, audio)
  return ddsp.losses.mean_difference(target, audio, loss_type)


@gin.register(module='dafx.losses')
class TimeDomainLoss(core.Recorded, ddsp.losses.Loss):
  """Mean difference of the samples; see `time_domain_loss`.

  Examples:
    >>> from dafx import losses
    >>> float(
    ...   losses.TimeDomainLoss('L1', weight=10.0)([[0.0, 1.0]], [[1.0, 1.0]])
    ... )
    5.0
  """

  def __init__(
    self,
    loss_type: str = 'L1',
    weight: float = 1.0,
    name: str = 'time_domain_loss',
  ):
    """Constructor.

    Args:
      loss_type: 'L1' or 'L2'.
      weight: Factor on the loss.
      name: Name of the layer, and key of the loss.

    Raises:
      ValueError: If `loss_type` is not allowed.
    """
    super().__init__(name=name, autocast=False)
    check_loss_type(loss_type)
    self.loss_type = loss_type
    self.weight = weight

  def call(self, target_audio: tf.Tensor, audio: tf.Tensor) -> tf.Tensor:
    """Returns the weighted loss, a scalar."""
    loss = time_domain_loss(target_audio, audio, self.loss_type)
    return self.weight * loss


# ---------------------- Relative to the target --------------------------------
def esr_loss(
  target: tf.Tensor, audio: tf.Tensor, eps: float = 1e-8
) -> tf.Tensor:
  """Error-to-signal ratio, mean over items and channels.

  Wright et al., 2019 (https://arxiv.org/abs/1911.08922): energy of the error
  over that of the target. 1 for silence, 4 for inverted polarity.

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels].
    audio: Audio of the same shape.
    eps: Energy added to the target's, > 0; what a silent target is worth.

  Returns:
    Loss, >= 0. Scalar.

  Raises:
    ValueError: If the shapes or dtypes are not allowed.

  Examples:
    >>> from dafx import losses
    >>> target = [[0.5, -0.5]]
    >>> [
    ...   round(float(losses.esr_loss(target, [audio])), 3)
    ...   for audio in ([0.0, 0.0], [-0.5, 0.5])
    ... ]
    [1.0, 4.0]
  """
  target, audio = _fold_both(target, audio)
  error = tf.reduce_sum((target - audio) ** 2, axis=-1)
  return tf.reduce_mean(error / (tf.reduce_sum(target**2, axis=-1) + eps))


def dc_loss(
  target: tf.Tensor, audio: tf.Tensor, eps: float = 1e-8
) -> tf.Tensor:
  """Power of the error's mean over that of the target (Wright et al., 2019).

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels].
    audio: Audio of the same shape.
    eps: Power added to the target's, > 0.

  Returns:
    Loss, >= 0, mean over items and channels. Scalar.

  Raises:
    ValueError: If the shapes or dtypes are not allowed.

  Examples:
    >>> from dafx import losses
    >>> round(float(losses.dc_loss([[1.0, -1.0]], [[1.5, -0.5]])), 3)
    0.25
  """
  target, audio = _fold_both(target, audio)
  error = tf.reduce_mean(target - audio, axis=-1) ** 2
  return tf.reduce_mean(error / (tf.reduce_mean(target**2, axis=-1) + eps))


def log_cosh_loss(
  target: tf.Tensor, audio: tf.Tensor, sharpness: float = 1.0
) -> tf.Tensor:
  """Mean of log(cosh(a * error)) / a: square near zero, absolute beyond.

  Chen et al., 2019 (https://openreview.net/forum?id=rkglvsC9Ym).

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels].
    audio: Audio of the same shape.
    sharpness: The a, > 0: the larger, the nearer to the absolute error.

  Returns:
    Loss, >= 0. Scalar.

  Raises:
    ValueError: If the shapes, dtypes or `sharpness` are not allowed.

  Examples:
    >>> from dafx import losses
    >>> round(float(losses.log_cosh_loss([[0.0]], [[10.0]])), 3)  # 10 - log(2)
    9.307
  """
  if not sharpness > 0:
    raise ValueError(f'sharpness={sharpness} must be > 0.')
  target, audio = check_audio(target, audio)
  x = tf.abs(sharpness * (audio - target))
  # log cosh x, where cosh would overflow.
  log_cosh = x + tf.nn.softplus(-2.0 * x) - np.log(2.0)
  return tf.reduce_mean(log_cosh) / sharpness


def si_sdr_loss(
  target: tf.Tensor, audio: tf.Tensor, eps: float = 1e-8
) -> tf.Tensor:
  """Negative scale-invariant signal-to-distortion ratio, in dB.

  Le Roux et al., 2019 (https://arxiv.org/abs/1811.02508). Deaf to gain and to
  polarity.

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels].
    audio: Audio of the same shape.
    eps: Added to energies and to their ratio, > 0; the loss lies between
      10 log10(eps) and -10 log10(eps) plus the target's level.

  Returns:
    Loss in dB, mean over items and channels. Scalar.

  Raises:
    ValueError: If the shapes or dtypes are not allowed.

  Examples:
    >>> from dafx import losses
    >>> target, audio = [[1.0, 0.0]], [[3.0, 0.3]]
    >>> round(float(losses.si_sdr_loss(target, audio)), 2)
    -20.0
  """
  target, audio = _fold_both(target, audio)
  energy = tf.reduce_sum(target**2, axis=-1, keepdims=True) + eps
  scale = tf.reduce_sum(target * audio, axis=-1, keepdims=True) / energy
  part = scale * target
  error = tf.reduce_sum((audio - part) ** 2, axis=-1) + eps
  ratio = tf.reduce_sum(part**2, axis=-1) / error + eps
  return -10.0 / np.log(10.0) * tf.reduce_mean(tf.math.log(ratio))


def _fold_both(target, audio):
  target, audio = check_audio(target, audio)
  return fold_channels(target), fold_channels(audio)


@gin.register(module='dafx.losses')
class EsrLoss(core.Recorded, ddsp.losses.Loss):
  """Error-to-signal ratio; see `esr_loss`.

  Examples:
    >>> from dafx import losses
    >>> round(float(losses.EsrLoss(weight=2.0)([[0.5, -0.5]], [[0.0, 0.0]])), 3)
    2.0
  """

  def __init__(
    self, weight: float = 1.0, eps: float = 1e-8, name: str = 'esr_loss'
  ):
    """Constructor.

    Args:
      weight: Factor on the loss.
      eps: Energy added to the target's, > 0: items with less than that, such
        as the pauses of a recording, count less.
      name: Name of the layer, and key of the loss.

    Raises:
      ValueError: If `eps` is not above 0.
    """
    super().__init__(name=name, autocast=False)
    if not eps > 0:
      raise ValueError(f'eps={eps} must be > 0.')
    self.weight = weight
    self.eps = eps

  def call(self, target_audio: tf.Tensor, audio: tf.Tensor) -> tf.Tensor:
    """Returns the weighted loss, a scalar."""
    return self.weight * esr_loss(target_audio, audio, self.eps)


@gin.register(module='dafx.losses')
class DcLoss(core.Recorded, ddsp.losses.Loss):
  """Power of the error's mean; see `dc_loss`.

  Examples:
    >>> from dafx import losses
    >>> round(float(losses.DcLoss()([[1.0, -1.0]], [[1.5, -0.5]])), 3)
    0.25
  """

  def __init__(self, weight: float = 1.0, name: str = 'dc_loss'):
    """Constructor.

    Args:
      weight: Factor on the loss.
      name: Name of the layer, and key of the loss.
    """
    super().__init__(name=name, autocast=False)
    self.weight = weight

  def call(self, target_audio: tf.Tensor, audio: tf.Tensor) -> tf.Tensor:
    """Returns the weighted loss, a scalar."""
    return self.weight * dc_loss(target_audio, audio)


@gin.register(module='dafx.losses')
class LogCoshLoss(core.Recorded, ddsp.losses.Loss):
  """Mean of log(cosh(error)); see `log_cosh_loss`.

  Examples:
    >>> from dafx import losses
    >>> round(
    ...   float(losses.LogCoshLoss()([[0.0]], [[0.1]])), 4
    ... )  # about 0.1 ** 2 / 2
    0.005
  """

  def __init__(
    self,
    sharpness: float = 1.0,
    weight: float = 1.0,
    name: str = 'log_cosh_loss',
  ):
    """Constructor.

    Args:
      sharpness: The larger, the nearer to the absolute error, > 0.
      weight: Factor on the loss.
      name: Name of the layer, and key of the loss.
    """
    super().__init__(name=name, autocast=False)
    self.sharpness = sharpness
    self.weight = weight

  def call(self, target_audio: tf.Tensor, audio: tf.Tensor) -> tf.Tensor:
    """Returns the weighted loss, a scalar."""
    return self.weight * log_cosh_loss(target_audio, audio, self.sharpness)


@gin.register(module='dafx.losses')
class SiSdrLoss(core.Recorded, ddsp.losses.Loss):
  """Negative SI-SDR in dB; see `si_sdr_loss`.

  Examples:
    >>> from dafx import losses
    >>> round(float(losses.SiSdrLoss()([[1.0, 0.0]], [[3.0, 0.3]])), 2)
    -20.0
  """

  def __init__(self, weight: float = 1.0, name: str = 'si_sdr_loss'):
    """Constructor.

    Args:
      weight: Factor on the loss.
      name: Name of the layer, and key of the loss.
    """
    super().__init__(name=name, autocast=False)
    self.weight = weight

  def call(self, target_audio: tf.Tensor, audio: tf.Tensor) -> tf.Tensor:
    """Returns the weighted loss, a scalar."""
    return self.weight * si_sdr_loss(target_audio, audio)
