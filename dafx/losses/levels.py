"""Losses of level: loudness; and one level for all."""

import ddsp
import gin
import numpy as np
import tensorflow as tf

from dafx import core
from dafx.audio import loudness
from dafx.losses.shapes import (
  check_audio,
  check_sample_rate,
  to_db,
  with_channels,
)

# Mean square below which audio is not made louder: -100 dBFS.
_SILENT_POWER = 1e-10


def match_level(target: tf.Tensor, audio: tf.Tensor) -> tf.Tensor:
  """Scales each item of audio to the root mean square of its target.

  All channels of an item get one gain. Gradients go through the gain too: what
  makes an item louder as a whole has none.

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels].
    audio: Audio of the same shape.

  Returns:
    Audio of that shape. What lies below -100 dBFS counts as if it were at -100
    dBFS, so that silence stays silence.

  Raises:
    ValueError: If the shapes or dtypes are not allowed.

  Examples:
    >>> import numpy as np
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = tf.random.stateless_normal([2, 4000], seed=[0, 0])
    >>> np.allclose(losses.match_level(target, 0.1 * target), target)
    True
  """
  target, audio = check_audio(target, audio)
  axes = list(range(1, audio.shape.rank))

  def power(x):
    return tf.reduce_mean(x**2, axis=axes, keepdims=True)

  wanted = tf.stop_gradient(tf.sqrt(power(target)))
  # A quotient of roots: exactly 1 for equal audio.
  return audio * (wanted / tf.sqrt(tf.maximum(power(audio), _SILENT_POWER)))


# ---------------------- Loudness ----------------------------------------------
def _k_weighting_power(frequencies: tf.Tensor, sample_rate: float):
  """Returns the power response of K-weighting.

  Args:
    frequencies: In radians per sample, float64: near 0 Hz the terms cancel.
    sample_rate: In Hz.
  """
  response = tf.ones_like(frequencies)
  for filter_ in loudness.k_filters(sample_rate):

    def power(c):
      # |c0 + c1 z^-1 + c2 z^-2|^2 on the unit circle.
      return (
        c[0] ** 2
        + c[1] ** 2
        + c[2] ** 2
        + 2.0 * (c[0] + c[2]) * c[1] * tf.cos(frequencies)
        + 2.0 * c[0] * c[2] * tf.cos(2.0 * frequencies)
      )

    response *= power(filter_.b) / power(filter_.a)
    response *= filter_.passband_gain**2
  return response


def _loudness_lufs(audio: tf.Tensor, sample_rate: float) -> tf.Tensor:
  """Returns the loudness of items as a whole, ungated. Shape [batch]."""
  audio = tf.linalg.matrix_transpose(with_channels(audio))
  n_samples = tf.shape(audio)[-1]
  # Room for zeros, so that the end does not ring into the beginning.
  n_fft = 2 ** tf.cast(
    tf.math.ceil(tf.math.log(tf.cast(n_samples, tf.float64)) / np.log(2.0)),
    tf.int32,
  )
  n_fft = tf.where(n_fft == n_samples, 2 * n_fft, n_fft)
  spectrum = tf.signal.rfft(audio, [n_fft])
  power = tf.math.real(spectrum) ** 2 + tf.math.imag(spectrum) ** 2
  half = n_fft // 2
  frequencies = tf.linspace(tf.zeros([], tf.float64), np.pi, half + 1)
  weights = _k_weighting_power(frequencies, sample_rate)
  # All bins but the first and the last stand for two of the whole spectrum.
  bins = tf.range(half + 1)
  is_single = (bins == 0) | (bins == half)
  weights *= 2.0 - tf.cast(is_single, tf.float64)
  n_values = tf.cast(n_fft, tf.float64) * tf.cast(n_samples, tf.float64)
  weights = tf.cast(weights / n_values, audio.dtype)
  # [batch, n_channels], by Parseval's theorem.
  power = tf.linalg.matvec(power, weights)
  gains = tf.constant(loudness.CHANNEL_GAINS[: audio.shape[1]], audio.dtype)
  silence = 10.0 ** ((loudness.SILENCE_LUFS - loudness.OFFSET_LUFS) / 10.0)
  power = tf.maximum(tf.linalg.matvec(power, gains), silence)
  return loudness.OFFSET_LUFS + to_db(power)


def loudness_loss(
  target: tf.Tensor, audio: tf.Tensor, sample_rate: float
) -> tf.Tensor:
  """Absolute difference of loudness, in LU.

  Loudness is that of ITU-R BS.1770-4 of the item as a whole, without the gates:
  crops of training are short, and a gate has no gradient. On steady sounds it
  is `metrics.loudness_difference`; where quiet and loud parts alternate, the
  standard leaves quiet ones out.

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels], of at most 5 channels, in the order left, right, centre, left
      surround, right surround.
    audio: Audio of the same shape.
    sample_rate: Sample rate in Hz, > 0.

  Returns:
    Difference in LU (dB), >= 0, mean over items. Scalar. What is below -70 LUFS
    counts as -70, without gradient.

  Raises:
    ValueError: If the shapes, dtypes or `sample_rate` are not allowed, or there
      are more than 5 channels.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = 0.1 * tf.random.stateless_normal([2, 22050], seed=[0, 0])
    >>> round(float(losses.loudness_loss(target, 0.5 * target, 44100)), 2)
    6.02
  """
  target, audio = check_audio(target, audio)
  check_sample_rate(sample_rate)
  n_channels = 1 if audio.shape.rank == 2 else audio.shape[2]
  if n_channels > len(loudness.CHANNEL_GAINS):
    raise ValueError(
      f'Audio has {n_channels} channels; loudness is defined for at most '
      f'{len(loudness.CHANNEL_GAINS)}. Select channels.'
    )
  difference = _loudness_lufs(audio, sample_rate)
  difference -= _loudness_lufs(target, sample_rate)
  return tf.reduce_mean(tf.abs(difference))


@gin.register(module='dafx.losses')
class LoudnessLoss(core.Recorded, ddsp.losses.Loss):
  """Absolute difference of loudness in LU; see `loudness_loss`.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = 0.1 * tf.random.stateless_normal([2, 22050], seed=[0, 0])
    >>> loss = losses.LoudnessLoss(sample_rate=44100, weight=0.1)
    >>> round(float(loss(target, 0.5 * target)), 3)
    0.602
  """

  def __init__(
    self,
    sample_rate: float = gin.REQUIRED,
    weight: float = 1.0,
    name: str = 'loudness_loss',
  ):
    """Constructor.

    Args:
      sample_rate: Sample rate in Hz, > 0.
      weight: Factor on the loss.
      name: Name of the layer, and key of the loss.

    Raises:
      ValueError: If `sample_rate` is not allowed.
    """
    super().__init__(name=name, autocast=False)
    check_sample_rate(sample_rate)
    self.sample_rate = sample_rate
    self.weight = weight

  def call(self, target_audio: tf.Tensor, audio: tf.Tensor) -> tf.Tensor:
    """Returns the weighted loss, a scalar."""
    return self.weight * loudness_loss(target_audio, audio, self.sample_rate)
