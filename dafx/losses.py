"""Training losses: siblings of `ddsp.losses` for audio that may have channels.

Audio is float, `[batch, n_samples]` or `[batch, n_samples, n_channels]`, full
scale at +-1. Each loss is a pure function first and a thin Keras layer over it;
the layers are called `(target_audio, audio)`, give a scalar, and work in
`ddsp.losses.LossGroup` or in a plain list through `get_losses_dict`.

A loss is the mean over the batch of what each item gives by itself: it depends
neither on the order of the items nor, for alignment, on the other items.
"""

import ddsp
import gin
import numpy as np
import tensorflow as tf

# Scores closer than this count as tied, and the shortest lag wins: a periodic
# signal matches itself a period later up to rounding of its float32 samples.
_SCORE_TOLERANCE = 1e-6

# Below this share of the whole item's energy, an overlap's own energy no longer
# normalises its score: a match of two near-silent tails is no match.
_MIN_OVERLAP_ENERGY = 1e-3


# ---------------------- Input checks ------------------------------------------
def _check_audio(target, audio):
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


def _check_loss_type(loss_type):
  if loss_type not in ('L1', 'L2'):
    raise ValueError(f"loss_type={loss_type!r} must be 'L1' or 'L2'.")


def _check_max_lag(max_lag, n_samples):
  """`n_samples` is None where it is not known yet."""
  if max_lag != int(max_lag) or max_lag < 0:
    raise ValueError(f'max_lag={max_lag} samples must be an integer >= 0.')
  if n_samples is not None and max_lag >= n_samples:
    raise ValueError(
      f'max_lag={max_lag} samples must be less than the n_samples={n_samples} '
      'of the audio. Lower max_lag or use longer audio.'
    )


def fold_channels(audio):
  """Moves channels into the batch.

  Args:
    audio: Audio. Shape [batch, n_samples] or [batch, n_samples, n_channels].

  Returns:
    Audio. Shape [batch, n_samples], unchanged, or
    [batch * n_channels, n_samples], the channels of an item side by side.
  """
  if audio.shape.rank == 2:
    return audio
  # [batch, n_samples, n_channels] -> [batch, n_channels, n_samples].
  audio = tf.transpose(audio, [0, 2, 1])
  return tf.reshape(audio, [-1, tf.shape(audio)[-1]])


# ---------------------- Time domain -------------------------------------------
def time_domain_loss(target, audio, loss_type='L1'):
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
  """
  _check_loss_type(loss_type)
  target, audio = _check_audio(target, audio)
  return ddsp.losses.mean_difference(target, audio, loss_type)


@gin.register
class TimeDomainLoss(ddsp.losses.Loss):
  """Mean difference of the samples; see `time_domain_loss`."""

  def __init__(self, loss_type='L1', weight=1.0, name='time_domain_loss'):
    """Constructor.

    Args:
      loss_type: 'L1' or 'L2'.
      weight: Factor on the loss.
      name: Name of the layer, and key of the loss.

    Raises:
      ValueError: If `loss_type` is not allowed.
    """
    super().__init__(name=name)
    _check_loss_type(loss_type)
    self.loss_type = loss_type
    self.weight = weight

  def call(self, target_audio, audio):
    """Returns the weighted loss, a scalar."""
    loss = time_domain_loss(target_audio, audio, self.loss_type)
    return self.weight * loss


# ---------------------- Spectral ----------------------------------------------
def multi_scale_spectral_loss(
  target,
  audio,
  fft_sizes=(2048, 1024, 512, 256, 128, 64),
  loss_type='L1',
  mag_weight=1.0,
  delta_time_weight=0.0,
  delta_freq_weight=0.0,
  cumsum_freq_weight=0.0,
  logmag_weight=0.0,
  mag_floor=1e-5,
):
  """Multi-scale spectrogram loss of DDSP, for audio with channels.

  Equals `ddsp.losses.SpectralLoss` (Engel et al., 2020,
  https://arxiv.org/abs/2001.04643) on mono audio, with one difference:
  magnitudes below `mag_floor` count as `mag_floor` in the logarithm. DDSP
  replaces zeros only, so that silence at 1e-20 costs more than silence at 0 and
  its gradient is of the order of 1e18; here the gradient of the log of a
  magnitude is at most `1 / mag_floor`, and 0 below the floor. DDSP's loudness
  term is left out: it holds for 16 kHz only.

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels].
    audio: Audio of the same shape.
    fft_sizes: Frame lengths in samples, one spectrogram each; the hop is a
      quarter of it.
    loss_type: 'L1' or 'L2'.
    mag_weight: Weight of the magnitudes.
    delta_time_weight: Weight of their differences along time.
    delta_freq_weight: Weight of their differences along frequency.
    cumsum_freq_weight: Weight of their cumulative sum along frequency.
    logmag_weight: Weight of the natural logarithm of the magnitudes.
    mag_floor: Least magnitude in the logarithm, > 0, where a full-scale sine
      has about `fft_size / 4`.

  Returns:
    Loss, >= 0, summed over sizes and terms. Float32 scalar.

  Raises:
    ValueError: If the shapes, dtypes, `loss_type` or `mag_floor` are not
      allowed, or the audio has too few samples for `delta_time_weight`.
  """
  _check_loss_type(loss_type)
  if mag_floor <= 0:
    raise ValueError(f'mag_floor={mag_floor} must be > 0.')
  target, audio = _check_audio(target, audio)
  longest_hop = max(fft_sizes) // 4
  n_samples = audio.shape[1]
  if delta_time_weight and n_samples is not None and n_samples <= longest_hop:
    raise ValueError(
      f'n_samples={n_samples} gives one frame of {max(fft_sizes)} samples, and '
      'delta_time_weight needs two. Use more than '
      f'{longest_hop} samples, or smaller fft_sizes.'
    )
  target, audio = fold_channels(target), fold_channels(audio)

  terms = (
    (mag_weight, lambda mag: mag),
    (delta_time_weight, lambda mag: ddsp.core.diff(mag, axis=1)),
    (delta_freq_weight, lambda mag: ddsp.core.diff(mag, axis=2)),
    (cumsum_freq_weight, lambda mag: tf.math.cumsum(mag, axis=2)),
    (logmag_weight, lambda mag: tf.math.log(tf.maximum(mag, mag_floor))),
  )
  loss = tf.zeros([])
  for size in fft_sizes:
    # [batch * n_channels, n_frames, size // 2 + 1].
    target_mag = ddsp.spectral_ops.compute_mag(target, size=size)
    mag = ddsp.spectral_ops.compute_mag(audio, size=size)
    for weight, transform in terms:
      if weight:
        loss += weight * ddsp.losses.mean_difference(
          transform(target_mag), transform(mag), loss_type
        )
  return loss


# Not named SpectralLoss: gin would then find `@losses.SpectralLoss()`, as
# DDSP's own .gin files write it, ambiguous in every process with dafx.
@gin.register
class MultiScaleSpectralLoss(ddsp.losses.Loss):
  """DDSP's spectral loss with channels; see `multi_scale_spectral_loss`."""

  def __init__(
    self,
    fft_sizes=(2048, 1024, 512, 256, 128, 64),
    loss_type='L1',
    mag_weight=1.0,
    delta_time_weight=0.0,
    delta_freq_weight=0.0,
    cumsum_freq_weight=0.0,
    logmag_weight=0.0,
    mag_floor=1e-5,
    weight=1.0,
    name='spectral_loss',
  ):
    """Constructor.

    Args:
      fft_sizes: Frame lengths in samples.
      loss_type: 'L1' or 'L2'.
      mag_weight: Weight of the magnitudes.
      delta_time_weight: Weight of their differences along time.
      delta_freq_weight: Weight of their differences along frequency.
      cumsum_freq_weight: Weight of their cumulative sum along frequency.
      logmag_weight: Weight of the natural logarithm of the magnitudes.
      mag_floor: Least magnitude in the logarithm, > 0.
      weight: Factor on the loss.
      name: Name of the layer, and key of the loss; DDSP's by default.

    Raises:
      ValueError: If `loss_type` is not allowed.
    """
    super().__init__(name=name)
    _check_loss_type(loss_type)
    self.fft_sizes = tuple(fft_sizes)
    self.loss_type = loss_type
    self.mag_weight = mag_weight
    self.delta_time_weight = delta_time_weight
    self.delta_freq_weight = delta_freq_weight
    self.cumsum_freq_weight = cumsum_freq_weight
    self.logmag_weight = logmag_weight
    self.mag_floor = mag_floor
    self.weight = weight

  def call(self, target_audio, audio):
    """Returns the weighted loss, a scalar."""
    return self.weight * multi_scale_spectral_loss(
      target_audio,
      audio,
      fft_sizes=self.fft_sizes,
      loss_type=self.loss_type,
      mag_weight=self.mag_weight,
      delta_time_weight=self.delta_time_weight,
      delta_freq_weight=self.delta_freq_weight,
      cumsum_freq_weight=self.cumsum_freq_weight,
      logmag_weight=self.logmag_weight,
      mag_floor=self.mag_floor,
    )


# ---------------------- Alignment ---------------------------------------------
def correlation_by_lag(target, audio, max_lag):
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
  """
  target, audio = _check_audio(target, audio)
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


def find_lag(target, audio, max_lag, ignore_polarity=False):
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


def align(target, audio, lag):
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
  """
  target, audio = _check_audio(target, audio)
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


def find_polarity(target, audio):
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
  """
  target, audio = _check_audio(target, audio)
  product = tf.stop_gradient(target * audio)
  product = tf.reduce_sum(product, axis=list(range(1, product.shape.rank)))
  return tf.where(product < 0, -tf.ones_like(product), tf.ones_like(product))


def aligned_overlap(target, audio, max_lag, ignore_polarity=False):
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
  """
  target, audio = _check_audio(target, audio)
  lag = find_lag(target, audio, max_lag, ignore_polarity)
  target, audio = align(target, audio, lag)
  n_shared = tf.shape(audio)[1] - max_lag
  target, audio = target[:, :n_shared], audio[:, :n_shared]
  if ignore_polarity:
    polarity = find_polarity(target, audio)
    audio *= tf.reshape(polarity, [-1] + [1] * (audio.shape.rank - 1))
  return target, audio


@gin.register
class AlignedLoss(ddsp.losses.Loss):
  """Losses after alignment: blind to latency and, if asked, to polarity.

  Each item is aligned by the integer lag of the best normalised
  cross-correlation (see `aligned_overlap`); the wrapped losses then compare
  what is left. Training through it does not correct a latency.
  """

  def __init__(
    self,
    losses,
    max_lag=100,
    ignore_polarity=False,
    weight=1.0,
    name='aligned',
  ):
    """Constructor.

    Args:
      losses: Losses to wrap, each called `(target_audio, audio)`; a list, or
        one loss. Names must differ.
      max_lag: Longest lag that is tried, in samples, >= 0.
      ignore_polarity: Whether to turn inverted items over as well.
      weight: Factor on all the losses.
      name: Name of the layer; `get_losses_dict` puts it before the names of the
        wrapped losses, as in 'aligned_spectral_loss'.

    Raises:
      ValueError: If there is no loss, two have one name, or `max_lag` is not
        allowed.
    """
    super().__init__(name=name)
    losses = list(losses) if isinstance(losses, (list, tuple)) else [losses]
    names = [loss.name for loss in losses]
    if not losses or len(set(names)) < len(names):
      raise ValueError(
        f'AlignedLoss got losses named {names}; it needs at least one, and '
        'names that differ. Give each loss its own name=.'
      )
    _check_max_lag(max_lag, None)
    self.wrapped_losses = losses
    self.max_lag = int(max_lag)
    self.ignore_polarity = ignore_polarity
    self.weight = weight

  def get_losses_dict(self, target_audio, audio, **kwargs):
    """Returns the wrapped losses, {'<name>_<name of the loss>': scalar}.

    Args:
      target_audio: Target audio. Shape [batch, n_samples] or [batch, n_samples,
        n_channels].
      audio: Audio of the same shape.
      **kwargs: Passed on to the wrapped losses; `ddsp.losses.LossGroup` gives
        `training`.

    Returns:
      Dictionary of the weighted losses, scalars.
    """
    target_audio, audio = aligned_overlap(
      target_audio, audio, self.max_lag, self.ignore_polarity
    )
    losses_dict = {}
    for loss in self.wrapped_losses:
      values = loss.get_losses_dict(target_audio, audio, **kwargs)
      for name, value in values.items():
        losses_dict[f'{self.name}_{name}'] = self.weight * value
    return losses_dict

  def call(self, target_audio, audio):
    """Returns the sum of the wrapped losses, a scalar."""
    return tf.add_n(list(self.get_losses_dict(target_audio, audio).values()))
