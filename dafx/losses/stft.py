"""Multi-resolution STFT loss, as auraloss and NablAFx have it, and variants."""

from collections.abc import Sequence

import ddsp
import gin
import librosa
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from dafx import core
from dafx.losses.shapes import check_audio, fold_channels

# (FFT, hop, window) in samples, from Yamamoto et al., 2020.
RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))

# Power below which a bin counts as silent.
_POWER_FLOOR = 1e-8


def stft_magnitude(
  audio: tf.Tensor, n_fft: int, hop_size: int, win_length: int
) -> tf.Tensor:
  """Magnitudes of a short-time Fourier transform, as torch.stft gives them.

  Frames are centred, with reflection at both ends; the window is a periodic
  Hann window in the middle of its frame; power is not below 1e-8.

  Args:
    audio: Audio. Shape [batch, n_samples], n_samples > n_fft / 2.
    n_fft: Length of the transform, in samples; an int or a scalar tensor.
    hop_size: Samples from frame to frame.
    win_length: Length of the window, in samples, <= n_fft.

  Returns:
    Magnitudes. Shape [batch, n_samples // hop_size + 1, n_fft // 2 + 1].

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = tf.random.stateless_normal([2, 4000], seed=[0, 0])
    >>> losses.stft_magnitude(
    ...   target, n_fft=512, hop_size=100, win_length=400
    ... ).shape
    TensorShape([2, 41, 257])
  """
  n_samples = tf.shape(audio)[1]
  half = n_fft // 2
  audio = tf.pad(audio, [[0, 0], [half, half]], mode='REFLECT')
  # Frames of the window alone: zeros before it turn phases only.
  start = (n_fft - win_length) // 2
  audio = audio[:, start : start + n_samples + win_length]
  stft = tf.signal.stft(audio, win_length, hop_size, n_fft)
  power = tf.math.real(stft) ** 2 + tf.math.imag(stft) ** 2
  return tf.sqrt(tf.maximum(power, _POWER_FLOOR))


def _norm(x):
  """Frobenius norm of each item, without gradient where it is 0."""
  energy = tf.reduce_sum(x**2, axis=list(range(1, x.shape.rank)))
  is_zero = energy == 0.0
  return tf.where(is_zero, 0.0, tf.sqrt(tf.where(is_zero, 1.0, energy)))


def stft_loss(
  target: tf.Tensor,
  audio: tf.Tensor,
  n_fft: int,
  hop_size: int,
  win_length: int,
  convergence_weight: float = 1.0,
  logmag_weight: float = 1.0,
  mag_weight: float = 0.0,
  mel_matrix: npt.ArrayLike | None = None,
) -> tf.Tensor:
  """Distance of two spectrograms of one resolution.

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels].
    audio: Audio of the same shape.
    n_fft: Length of the transform, in samples.
    hop_size: Samples from frame to frame.
    win_length: Length of the window, in samples.
    convergence_weight: Weight of the spectral convergence, the norm of the
      difference over that of the target (Arik et al., 2018).
    logmag_weight: Weight of the mean absolute difference of the natural
      logarithms of the magnitudes.
    mag_weight: Weight of that of the magnitudes.
    mel_matrix: Bands to sum magnitudes in, shape [n_mels, n_fft // 2 + 1]; None
      takes the bins as they are.

  Returns:
    Loss, >= 0, mean over items. Scalar. The channels of an item have one norm
    together; auraloss has one over the whole batch, which equals this for a
    batch of one.

  Raises:
    ValueError: If the shapes or dtypes are not allowed.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = tf.random.stateless_normal([2, 4000], seed=[0, 0])
    >>> loss = losses.stft_loss(
    ...   target, -target, n_fft=512, hop_size=50, win_length=240
    ... )
    >>> round(float(loss), 6)  # deaf to polarity
    0.0
  """
  target, audio = check_audio(target, audio)
  batch_size = tf.shape(audio)[0]

  def magnitude(x):
    mag = stft_magnitude(fold_channels(x), n_fft, hop_size, win_length)
    if mel_matrix is not None:
      mag = tf.matmul(mag, tf.cast(mel_matrix, mag.dtype), transpose_b=True)
    # Of shape [batch, n_channels * n_frames, n_bins].
    return tf.reshape(mag, [batch_size, -1, mag.shape[-1] or tf.shape(mag)[-1]])

  target_mag, mag = magnitude(target), magnitude(audio)
  loss = tf.zeros([], audio.dtype)
  if convergence_weight:
    ratio = _norm(target_mag - mag) / _norm(target_mag)
    loss += convergence_weight * tf.reduce_mean(ratio)
  if logmag_weight:
    difference = tf.math.log(target_mag) - tf.math.log(mag)
    loss += logmag_weight * tf.reduce_mean(tf.abs(difference))
  if mag_weight:
    loss += mag_weight * tf.reduce_mean(tf.abs(target_mag - mag))
  return loss


def mel_matrix(sample_rate, n_fft, n_mels):
  """Returns librosa's mel bands over all frequencies, [n_mels, n_bins]."""
  return librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels)


def _check_length(audio, n_fft):
  n_samples = audio.shape[1]
  if n_samples is not None and n_samples <= n_fft // 2:
    raise ValueError(
      f'n_samples={n_samples} must be more than {n_fft // 2}, half a frame of '
      f'n_fft={n_fft}. Use longer audio or smaller resolutions.'
    )


@gin.register(module='dafx.losses')
class MultiResolutionStftLoss(core.Recorded, ddsp.losses.Loss):
  """Mean over resolutions of `stft_loss`, as auraloss's of a similar name.

  Yamamoto et al., 2020 (https://arxiv.org/abs/1910.11480). Blind to polarity:
  watch `metrics.polarity`, or add a loss of the samples.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = tf.random.stateless_normal([2, 4000], seed=[0, 0])
    >>> loss = losses.MultiResolutionStftLoss(n_mels=64, sample_rate=16000)
    >>> round(float(loss(target, -target)), 6)
    0.0
  """

  def __init__(
    self,
    resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS,
    convergence_weight: float = 1.0,
    logmag_weight: float = 1.0,
    mag_weight: float = 0.0,
    n_mels: int | None = None,
    sample_rate: float | None = None,
    weight: float = 1.0,
    name: str = 'mr_stft_loss',
  ):
    """Constructor.

    Args:
      resolutions: (n_fft, hop_size, win_length) of each, in samples.
      convergence_weight: Weight of the spectral convergence.
      logmag_weight: Weight of the logarithms of the magnitudes.
      mag_weight: Weight of the magnitudes.
      n_mels: Number of mel bands; None takes the bins as they are.
      sample_rate: Sample rate in Hz, for mel bands.
      weight: Factor on the loss.
      name: Name of the layer, and key of the loss.

    Raises:
      ValueError: If a resolution is not allowed, or mel bands have no rate.
    """
    super().__init__(name=name, autocast=False)
    self.resolutions = [tuple(r) for r in resolutions]
    for n_fft, hop_size, win_length in self.resolutions:
      if not (0 < win_length <= n_fft and hop_size > 0):
        raise ValueError(
          f'The resolution (n_fft, hop_size, win_length) = ({n_fft}, '
          f'{hop_size}, {win_length}) needs 0 < win_length <= n_fft and '
          'hop_size > 0.'
        )
    if n_mels is not None and sample_rate is None:
      raise ValueError(f'n_mels={n_mels} needs sample_rate, in Hz.')
    self.term_weights = dict(
      convergence_weight=convergence_weight,
      logmag_weight=logmag_weight,
      mag_weight=mag_weight,
    )
    self.mel_matrices = [
      n_mels and mel_matrix(sample_rate, n_fft, n_mels)
      for n_fft, _, _ in self.resolutions
    ]
    self.weight = weight

  def call(self, target_audio: tf.Tensor, audio: tf.Tensor) -> tf.Tensor:
    """Returns the weighted loss, a scalar.

    Raises:
      ValueError: If the audio is shorter than half a frame.
    """
    target_audio, audio = check_audio(target_audio, audio)
    _check_length(audio, max(r[0] for r in self.resolutions))
    values = [
      stft_loss(
        target_audio,
        audio,
        n_fft,
        hop_size,
        win_length,
        mel_matrix=bands,
        **self.term_weights,
      )
      for (n_fft, hop_size, win_length), bands in zip(
        self.resolutions, self.mel_matrices
      )
    ]
    return self.weight * tf.add_n(values) / len(values)


@gin.register(module='dafx.losses')
class RandomResolutionStftLoss(core.Recorded, ddsp.losses.Loss):
  """As `MultiResolutionStftLoss`, with resolutions drawn anew at each call.

  Steinmetz and Reiss, 2020 (auraloss): no frame length stays that the model
  could learn to please. The draws depend on the seed and on a count of the
  calls, which is in the checkpoint of what has the loss.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = tf.random.stateless_normal([2, 4000], seed=[0, 0])
    >>> loss = losses.RandomResolutionStftLoss(n_resolutions=2, max_fft=1024)
    >>> audio = tf.roll(target, 1, axis=1)
    >>> float(loss(target, audio)) == float(loss(target, audio))
    False
  """

  def __init__(
    self,
    n_resolutions: int = 3,
    min_fft: int = 64,
    max_fft: int = 4096,
    convergence_weight: float = 1.0,
    logmag_weight: float = 1.0,
    mag_weight: float = 0.0,
    seed: int = 0,
    weight: float = 1.0,
    name: str = 'random_stft_loss',
  ):
    """Constructor.

    Args:
      n_resolutions: Number of resolutions per call, >= 1.
      min_fft: Least length of the transform, in samples, >= 16.
      max_fft: Largest length; lengths in between are equally likely by octave.
        Windows are as long, hops 0.1 to 0.5 of it.
      convergence_weight: Weight of the spectral convergence.
      logmag_weight: Weight of the logarithms of the magnitudes.
      mag_weight: Weight of the magnitudes.
      seed: Seed of the draws.
      weight: Factor on the loss.
      name: Name of the layer, and key of the loss.

    Raises:
      ValueError: If the lengths or their number are not allowed.
    """
    super().__init__(name=name, autocast=False)
    if not (n_resolutions >= 1 and 16 <= min_fft <= max_fft):
      raise ValueError(
        f'n_resolutions={n_resolutions}, min_fft={min_fft}, max_fft={max_fft}:'
        ' there must be at least one, and 16 <= min_fft <= max_fft.'
      )
    self.n_resolutions = n_resolutions
    self.min_fft, self.max_fft = min_fft, max_fft
    self.term_weights = dict(
      convergence_weight=convergence_weight,
      logmag_weight=logmag_weight,
      mag_weight=mag_weight,
    )
    self.seed = seed
    self.weight = weight
    self.n_calls = tf.Variable(
      0, trainable=False, dtype=tf.int64, name='n_calls'
    )

  def draw_resolution(
    self, n_calls: tf.Tensor, index: int
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (n_fft, hop_size), scalar int32 tensors."""
    seed = tf.stack([n_calls, self.seed * self.n_resolutions + index])
    draws = tf.random.stateless_uniform([2], seed)
    octaves = np.log2((self.max_fft + 1) / self.min_fft)
    length = self.min_fft * 2.0 ** (octaves * draws[0])
    n_fft = tf.minimum(tf.cast(length, tf.int32), self.max_fft)
    hop_size = tf.cast(length * (0.1 + 0.4 * draws[1]), tf.int32)
    return n_fft, hop_size

  def call(self, target_audio: tf.Tensor, audio: tf.Tensor) -> tf.Tensor:
    """Returns the weighted loss, a scalar.

    Raises:
      ValueError: If the audio is shorter than half a frame.
    """
    target_audio, audio = check_audio(target_audio, audio)
    _check_length(audio, self.max_fft)
    n_calls = self.n_calls.assign_add(1)
    values = []
    for index in range(self.n_resolutions):
      n_fft, hop_size = self.draw_resolution(n_calls, index)
      values.append(
        stft_loss(
          target_audio, audio, n_fft, hop_size, n_fft, **self.term_weights
        )
      )
    return self.weight * tf.add_n(values) / len(values)
