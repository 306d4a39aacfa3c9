"""Alignment in time and polarity, and losses after it."""

from collections.abc import Sequence

import gin
import numpy as np
import tensorflow as tf

from dafx.losses.shapes import check_audio
from dafx.losses.wrapping import WrappedLosses

# Scores closer than this count as tied, and the shortest lag wins: a periodic
# signal matches itself a period later up to rounding of its float32 samples.
_SCORE_TOLERANCE = 1e-6

# Below this share of the whole item's energy, an overlap's own energy no longer
# normalises its score: a match of two near-silent tails is no match.
_MIN_OVERLAP_ENERGY = 1e-3


def _check_max_lag(max_lag, n_samples):
  """`n_samples` is None where it is not known yet."""
  if max_lag != int(max_lag) or max_lag < 0:
    raise ValueError(f'max_lag={max_lag} samples must be an integer >= 0.')
  if n_samples is not None and max_lag >= n_samples:
    raise ValueError(
      f'max_lag={max_lag} samples must be less than the n_samples={n_samples} '
      'of the audio. Lower max_lag or use longer audio.'
    )


def correlation_by_lag(
  target: tf.Tensor, audio: tf.Tensor, max_lag: int
) -> tf.Tensor:
  """Normalised cross-correlation of the overlapping parts, for each lag.

  For lag l the score is `sum(target[n] * audio[n + l])` over the samples that
  both have, divided by the root of the product of their energies there: 1 for
  equal parts, -1 for inverted ones. Channels share the lag: sums run over them.
  Where an overlap has less than 0.001 of the energy of the items, the quotient
  is taken with that instead, and silence scores 0.

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels].
    audio: Audio of the same shape.
    max_lag: Longest lag, in samples; 0 <= max_lag < n_samples.

  Returns:
    Scores in [-1, 1] for the lags -max_lag .. max_lag. Shape [batch,
    2 * max_lag + 1], float64, without gradient.

  Raises:
    ValueError: If the shapes, dtypes or `max_lag` are not allowed.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = tf.random.stateless_normal([2, 4000], seed=[0, 0])
    >>> scores = losses.correlation_by_lag(
    ...   target, tf.roll(target, 3, axis=1), 10
    ... )
    >>> scores.shape, int(tf.argmax(scores[0])) - 10
    (TensorShape([2, 21]), 3)
  """
  target, audio = check_audio(target, audio)
  _check_max_lag(max_lag, audio.shape[1])

  def channels_first(x):
    # Float64: the tie between two lags is then one of the samples, not of FFTs.
    x = tf.cast(tf.stop_gradient(x), tf.float64)
    return (
      x[:, tf.newaxis, :]
      if x.shape.rank == 2
      else tf.linalg.matrix_transpose(x)
    )

  # [batch, n_channels, n_samples].
  target, audio = channels_first(target), channels_first(audio)
  n_samples = tf.shape(audio)[-1]

  # Room for max_lag zeros, so that the circular correlation does not wrap.
  room = tf.cast(n_samples + max_lag, tf.float64)
  n_fft = tf.cast(
    2.0 ** tf.math.ceil(tf.math.log(room) / np.log(2.0)), tf.int32
  )
  spectrum = tf.math.conj(tf.signal.rfft(target, [n_fft]))
  spectrum *= tf.signal.rfft(audio, [n_fft])
  # Sum over channels, then lag -max_lag first: [batch, 2 * max_lag + 1].
  correlation = tf.signal.irfft(tf.reduce_sum(spectrum, axis=1), [n_fft])
  correlation = tf.roll(correlation, max_lag, axis=-1)[:, : 2 * max_lag + 1]

  lags = tf.range(-max_lag, max_lag + 1)
  late, early = tf.maximum(lags, 0), tf.maximum(-lags, 0)

  def overlap_energy(x, start, stop):
    energy = tf.cumsum(tf.reduce_sum(x**2, axis=1), axis=-1)
    energy = tf.pad(energy, [[0, 0], [1, 0]])  # [batch, n_samples + 1].
    overlap = tf.gather(energy, stop, axis=-1)
    overlap -= tf.gather(energy, start, axis=-1)
    return tf.maximum(overlap, 0.0), energy[:, -1:]

  target_energy, target_total = overlap_energy(target, early, n_samples - late)
  energy, total = overlap_energy(audio, late, n_samples - early)
  norm = tf.maximum(
    tf.sqrt(target_energy * energy),
    _MIN_OVERLAP_ENERGY * tf.sqrt(target_total * total),
  )
  return tf.math.divide_no_nan(correlation, norm)


def find_lag(
  target: tf.Tensor,
  audio: tf.Tensor,
  max_lag: int,
  ignore_polarity: bool = False,
) -> tf.Tensor:
  """Finds how late `audio` is, by normalised cross-correlation.

  A positive lag says that `audio` is late: `audio[n + lag]` matches
  `target[n]`. Of equally good lags (to 1e-6 in score) the shortest is taken, so
  that silence, and a period of a periodic signal, give 0; of +l and -l, -l.
  A score from a short overlap is a chance one: keep max_lag well below
  n_samples.

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels].
    audio: Audio of the same shape.
    max_lag: Longest lag that is tried, in samples; 0 <= max_lag < n_samples.
    ignore_polarity: Whether an inverted match counts as a match.

  Returns:
    Lag in samples, in [-max_lag, max_lag]. Shape [batch], int32.

  Raises:
    ValueError: If the shapes, dtypes or `max_lag` are not allowed.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = tf.random.stateless_normal([2, 4000], seed=[0, 0])
    >>> losses.find_lag(target, tf.roll(target, 3, axis=1), max_lag=10).numpy()
    array([3, 3], dtype=int32)
  """
  scores = correlation_by_lag(target, audio, max_lag)
  if ignore_polarity:
    scores = tf.abs(scores)
  lags = np.arange(-max_lag, max_lag + 1, dtype=np.int32)
  # Shortest first, since argmax takes the first of equals.
  order = np.argsort(np.abs(lags), kind='stable')
  scores = tf.gather(scores, order, axis=-1)
  best = tf.reduce_max(scores, axis=-1, keepdims=True)
  tied = tf.cast(scores >= best - _SCORE_TOLERANCE, tf.int32)
  return tf.gather(lags[order], tf.argmax(tied, axis=-1))


def align(
  target: tf.Tensor, audio: tf.Tensor, lag: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """Cuts from both the part that they share at a lag.

  Sample 0 of both results is the first one that both signals have: a late
  `audio` (lag > 0) loses its first `lag` samples, an early one (lag < 0) costs
  the target `-lag`. The last `abs(lag)` samples of both results are 0, so that
  the shape stays.

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels].
    audio: Audio of the same shape.
    lag: How late `audio` is, in samples, as `find_lag` gives it. Shape [batch],
      int32.

  Returns:
    Target and audio, aligned. The shapes of the arguments. Gradients flow to
    the samples, not to the lag.

  Raises:
    ValueError: If the shapes or dtypes are not allowed.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = tf.random.stateless_normal([2, 4000], seed=[0, 0])
    >>> late = tf.roll(target, 3, axis=1)
    >>> lag = losses.find_lag(target, late, max_lag=10)
    >>> first, second = losses.align(target, late, lag)
    >>> bool(tf.reduce_all(first == second))
    True
  """
  target, audio = check_audio(target, audio)
  lag = tf.convert_to_tensor(lag)[:, tf.newaxis]  # [batch, 1].
  n_samples = tf.shape(audio)[1]
  time = tf.range(n_samples)[tf.newaxis, :]
  is_shared = time < n_samples - tf.abs(lag)

  def advance(x, shift):
    shifted = tf.gather(
      x, tf.minimum(time + shift, n_samples - 1), batch_dims=1
    )
    mask = is_shared if x.shape.rank == 2 else is_shared[:, :, tf.newaxis]
    return tf.ensure_shape(tf.where(mask, shifted, 0.0), x.shape)

  return advance(target, tf.maximum(-lag, 0)), advance(
    audio, tf.maximum(lag, 0)
  )


def find_polarity(target: tf.Tensor, audio: tf.Tensor) -> tf.Tensor:
  """Finds whether `audio` is the target upside down.

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels].
    audio: Audio of the same shape, aligned.

  Returns:
    -1 where the inner product of the two is negative, else 1. Shape [batch], of
    the dtype of `audio`, without gradient.

  Raises:
    ValueError: If the shapes or dtypes are not allowed.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = tf.random.stateless_normal([2, 4000], seed=[0, 0])
    >>> losses.find_polarity(target, -target).numpy().tolist()
    [-1.0, -1.0]
  """
  target, audio = check_audio(target, audio)
  product = tf.stop_gradient(target * audio)
  product = tf.reduce_sum(product, axis=list(range(1, product.shape.rank)))
  return tf.where(product < 0, -tf.ones_like(product), tf.ones_like(product))


def aligned_overlap(
  target: tf.Tensor,
  audio: tf.Tensor,
  max_lag: int,
  ignore_polarity: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Aligns each item, and crops all to a length that every lag leaves.

  That length is the same for all items and lags, and nothing in it is padding:
  what a loss makes of an item depends on that item alone, and a long lag does
  not make it smaller. Up to `max_lag` samples at an end stay out.

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels].
    audio: Audio of the same shape.
    max_lag: Longest lag that is tried, in samples; 0 <= max_lag < n_samples.
    ignore_polarity: Whether to turn inverted items over as well.

  Returns:
    Target and audio. Shape [batch, n_samples - max_lag] or [batch,
    n_samples - max_lag, n_channels]. Gradients flow to the samples; the choice
    of lag and polarity has none.

  Raises:
    ValueError: If the shapes, dtypes or `max_lag` are not allowed.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = tf.random.stateless_normal([2, 4000], seed=[0, 0])
    >>> late = -tf.roll(target, 3, axis=1)
    >>> pair = losses.aligned_overlap(target, late, 10, ignore_polarity=True)
    >>> pair[0].shape, bool(tf.reduce_all(pair[0] == pair[1]))
    (TensorShape([2, 3990]), True)
  """
  target, audio = check_audio(target, audio)
  lag = find_lag(target, audio, max_lag, ignore_polarity)
  target, audio = align(target, audio, lag)
  n_shared = tf.shape(audio)[1] - max_lag
  target, audio = target[:, :n_shared], audio[:, :n_shared]
  if ignore_polarity:
    polarity = find_polarity(target, audio)
    audio *= tf.reshape(polarity, [-1] + [1] * (audio.shape.rank - 1))
  return target, audio


@gin.register(module='dafx.losses')
class AlignedLoss(WrappedLosses):
  """Losses after alignment: blind to latency and, if asked, to polarity.

  Each item is aligned by the integer lag of the best normalised
  cross-correlation (see `aligned_overlap`); the wrapped losses then compare
  what is left. Training through it does not correct a latency.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = tf.random.stateless_normal([2, 4000], seed=[0, 0])
    >>> loss = losses.AlignedLoss(losses.TimeDomainLoss(), max_lag=10)
    >>> float(loss(target, tf.roll(target, 3, axis=1)))
    0.0
    >>> list(loss.get_losses_dict(target, target))
    ['aligned_time_domain_loss']
  """

  def __init__(
    self,
    losses: tf.keras.layers.Layer | Sequence[tf.keras.layers.Layer],
    max_lag: int = 100,
    ignore_polarity: bool = False,
    weight: float = 1.0,
    name: str = 'aligned',
  ):
    """Constructor.

    Args:
      losses: Losses to wrap, each called `(target_audio, audio)`; a list, or
        one loss. Names must differ.
      max_lag: Longest lag that is tried, in samples, >= 0.
      ignore_polarity: Whether to turn inverted items over as well.
      weight: Factor on all the losses.
      name: Name of the layer; it comes before the names of the wrapped losses,
        as in 'aligned_spectral_loss'.

    Raises:
      ValueError: If there is no loss, two have one name, or `max_lag` is not
        allowed.
    """
    super().__init__(losses, weight, name)
    _check_max_lag(max_lag, None)
    self.max_lag = int(max_lag)
    self.ignore_polarity = ignore_polarity

  def views(
    self, target_audio: tf.Tensor, audio: tf.Tensor
  ) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
    """Returns what is left of both after alignment."""
    overlap = aligned_overlap(
      target_audio, audio, self.max_lag, self.ignore_polarity
    )
    return {'': overlap}
