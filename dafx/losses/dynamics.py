"""Loss of the dynamics, blind to level."""

import ddsp
import gin
import tensorflow as tf

from dafx import core
from dafx.losses.shapes import (
  check_audio,
  check_length,
  check_sample_rate,
  mean_over_heard,
  to_db,
  with_channels,
)

# Of the dynamics: short and long times, and the power, relative to the mean of
# the item, below which a short time counts as silent.
_SHORT_S, _LONG_S = 0.05, 2.0
_RELATIVE_FLOOR = 1e-6
# Peak below which an item counts as quieter than it is, and what is added to a
# power relative to the peak's: the gradient in silence stays finite.
_SILENT_PEAK = 1e-5
_POWER_FLOOR = 1e-10


def _crest_db(audio, peak_norm):
  """Returns the soft crest factor of items at a peak of 1. Shape [batch]."""
  axes = list(range(1, audio.shape.rank))
  # Of silence the sum is 0, and its logarithm is kept finite.
  powers = tf.reduce_sum(tf.abs(audio) ** peak_norm, axis=axes)
  peak_db = to_db(powers + 1e-12) * (2.0 / peak_norm)
  return peak_db - to_db(tf.reduce_mean(audio**2, axis=axes) + _POWER_FLOOR)


def _short_over_long_db(audio, sample_rate):
  """Returns the level of short times over that of long ones.

  Shape [batch, n_short - 1].
  """
  power = tf.reduce_mean(with_channels(audio) ** 2, axis=2)
  mean = tf.reduce_mean(power, axis=1, keepdims=True)
  hop = max(round(_SHORT_S * sample_rate / 2), 1)
  n_hops = tf.shape(power)[1] // hop
  blocks = tf.reshape(power[:, : n_hops * hop], [-1, n_hops, hop])
  blocks = tf.reduce_mean(blocks, axis=2)
  short = 0.5 * (blocks[:, 1:] + blocks[:, :-1])
  # At the ends the mean is of what is there.
  n_long = max(round(2.0 * _LONG_S / _SHORT_S), 1)
  long = tf.nn.avg_pool1d(short[..., tf.newaxis], n_long, 1, 'SAME')[..., 0]
  floor = _RELATIVE_FLOOR * mean + _POWER_FLOOR
  return to_db(short + floor) - to_db(long + floor)


def dynamics_loss(
  target: tf.Tensor,
  audio: tf.Tensor,
  sample_rate: float,
  crest_weight: float = 1.0,
  short_term_weight: float = 1.0,
  peak_norm: float = 32.0,
) -> tf.Tensor:
  """Difference of the dynamics in dB, whatever the level.

  The sum of two terms. The first is the absolute difference of the crest
  factors, with a soft maximum of the samples in place of their peak:
  `metrics.crest_error_db` with a gradient for more than one sample. The second
  is the mean absolute difference of the level over 50 ms less the level over
  2 s (or as long as the item is), as the micro-dynamics of DiffVox (Yu et al.,
  2025, https://arxiv.org/abs/2504.14735): what a compressor changes.

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels], at least 50 ms.
    audio: Audio of the same shape.
    sample_rate: Sample rate in Hz, > 0.
    crest_weight: Weight of the first term.
    short_term_weight: Weight of the second.
    peak_norm: Which norm is the soft maximum, >= 2. It lies above the peak, the
      more the more samples are near it: 1,000 samples at the peak read 1.9 dB
      higher than one with 32, 0.9 dB with 64.

  Returns:
    Loss in dB, >= 0, mean over items. Scalar. What is 60 dB below the mean of
    an item counts as silent; an item whose target is silent counts 0.

  Raises:
    ValueError: If the shapes, dtypes, `sample_rate` or `peak_norm` are not
      allowed, or the audio is shorter than 50 ms.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = 0.1 * tf.random.stateless_normal([2, 22050], seed=[0, 0])
    >>> round(float(losses.dynamics_loss(target, 0.5 * target, 44100)), 3)
    0.0
  """
  target, audio = check_audio(target, audio)
  check_sample_rate(sample_rate)
  _check_peak_norm(peak_norm)
  n_needed = 2 * max(round(_SHORT_S * sample_rate / 2), 1)
  check_length(audio, n_needed, 'the dynamics are those of 50 ms')

  def at_unit_peak(x):
    # No gradient: what follows is blind to the level.
    axes = list(range(1, x.shape.rank))
    peak = tf.reduce_max(tf.abs(x), axis=axes, keepdims=True)
    return x / tf.stop_gradient(tf.maximum(peak, _SILENT_PEAK))

  pair = at_unit_peak(target), at_unit_peak(audio)
  loss = tf.zeros([tf.shape(audio)[0]], audio.dtype)
  if crest_weight:
    wanted, found = (_crest_db(x, peak_norm) for x in pair)
    loss += crest_weight * tf.abs(found - wanted)
  if short_term_weight:
    wanted, found = (_short_over_long_db(x, sample_rate) for x in pair)
    loss += short_term_weight * tf.reduce_mean(tf.abs(found - wanted), axis=1)
  return mean_over_heard(loss, target)


def _check_peak_norm(peak_norm):
  if not peak_norm >= 2:
    raise ValueError(
      f'peak_norm={peak_norm} must be at least 2; 32 is near the peak.'
    )


@gin.register(module='dafx.losses')
class DynamicsLoss(core.Recorded, ddsp.losses.Loss):
  """Difference of the dynamics in dB; see `dynamics_loss`.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = tf.random.stateless_normal([2, 22050], seed=[0, 0])
    >>> loss = losses.DynamicsLoss(sample_rate=44100, short_term_weight=0.0)
    >>> bool(loss(target, tf.clip_by_value(target, -1.0, 1.0)) > 6.0)  # dB
    True
  """

  def __init__(
    self,
    sample_rate: float = gin.REQUIRED,
    crest_weight: float = 1.0,
    short_term_weight: float = 1.0,
    peak_norm: float = 32.0,
    weight: float = 1.0,
    name: str = 'dynamics_loss',
  ):
    """Constructor.

    Args:
      sample_rate: Sample rate in Hz, > 0.
      crest_weight: Weight of the crest factors.
      short_term_weight: Weight of the level over 50 ms less that over 2 s.
      peak_norm: Which norm is the soft maximum, >= 2.
      weight: Factor on the loss.
      name: Name of the layer, and key of the loss.

    Raises:
      ValueError: If `sample_rate` or `peak_norm` is not allowed.
    """
    super().__init__(name=name, autocast=False)
    check_sample_rate(sample_rate)
    _check_peak_norm(peak_norm)
    self.sample_rate = sample_rate
    self.crest_weight = crest_weight
    self.short_term_weight = short_term_weight
    self.peak_norm = peak_norm
    self.weight = weight

  def call(self, target_audio: tf.Tensor, audio: tf.Tensor) -> tf.Tensor:
    """Returns the weighted loss, a scalar."""
    return self.weight * dynamics_loss(
      target_audio,
      audio,
      self.sample_rate,
      self.crest_weight,
      self.short_term_weight,
      self.peak_norm,
    )
