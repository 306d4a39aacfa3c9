"""What losses hear: pre-emphasis filters, sum and difference of channels."""

from collections.abc import Sequence

import gin
import numpy as np
import numpy.typing as npt
import scipy.signal
import tensorflow as tf

from dafx.losses.shapes import check_audio, fold_channels
from dafx.losses.wrapping import WrappedLosses

# Poles of A-weighting in Hz and its gain at 1 kHz in dB (IEC 61672-1, E.4.1).
_A_POLES_HZ = (20.598997, 107.65265, 737.86223, 12194.217)
_A_GAIN_DB = 1.9997


def a_weighting_taps(sample_rate: float, n_taps: int = 101) -> np.ndarray:
  """Designs a linear-phase filter with the response of A-weighting.

  The analogue filter of IEC 61672-1, by the bilinear transform, fitted by least
  squares; as auraloss does it.

  Args:
    sample_rate: Sample rate in Hz, > 0.
    n_taps: Number of taps, odd.

  Returns:
    Taps. Shape [n_taps], float64.

  Raises:
    ValueError: If `n_taps` is even.

  Examples:
    >>> import numpy as np
    >>> from dafx import losses
    >>> taps = losses.a_weighting_taps(44100)
    >>> gain_at_1_khz = taps @ np.exp(
    ...   -2j * np.pi * 1000 / 44100 * np.arange(101)
    ... )
    >>> round(float(abs(gain_at_1_khz)), 1)
    1.0
  """
  if n_taps % 2 == 0:
    raise ValueError(f'n_taps={n_taps} must be odd.')
  f1, f2, f3, f4 = (2 * np.pi * f for f in _A_POLES_HZ)
  zeros = [f4**2 * 10 ** (_A_GAIN_DB / 20), 0, 0, 0, 0]
  poles = np.poly([-f1, -f1, -f2, -f3, -f4, -f4])
  digital = scipy.signal.bilinear(zeros, poles, fs=sample_rate)
  f_hz, response = scipy.signal.freqz(*digital, worN=512, fs=sample_rate)
  return scipy.signal.firls(n_taps, f_hz, np.abs(response), fs=sample_rate)


def pre_emphasis_taps(
  kind: str = 'highpass', coefficient: float = 0.85, sample_rate: float = 44100
) -> np.ndarray:
  """Returns the taps of a pre-emphasis filter.

  Wright and Valimaki, 2020 (https://arxiv.org/abs/1911.08922).

  Args:
    kind: 'highpass': 1 - c z^-1. 'differentiator' (folded): 1 - c z^-2, which
      leaves out the highest frequencies too. 'a_weighting': IEC 61672-1.
    coefficient: The c, in [0, 1]; 0.85 is meant for 44.1 kHz.
    sample_rate: Sample rate in Hz, for 'a_weighting'.

  Returns:
    Taps. Shape [n_taps], float64.

  Raises:
    ValueError: If `kind` or `coefficient` is not allowed.

  Examples:
    >>> from dafx import losses
    >>> losses.pre_emphasis_taps('differentiator', 0.85).tolist()
    [1.0, 0.0, -0.85]
  """
  if not 0.0 <= coefficient <= 1.0:
    raise ValueError(f'coefficient={coefficient} must lie in [0, 1].')
  if kind == 'highpass':
    return np.array([1.0, -coefficient])
  if kind == 'differentiator':
    return np.array([1.0, 0.0, -coefficient])
  if kind == 'a_weighting':
    return a_weighting_taps(sample_rate)
  raise ValueError(
    f"kind={kind!r} must be 'highpass', 'differentiator' or 'a_weighting'."
  )


def filter_fir(audio: tf.Tensor, taps: npt.ArrayLike) -> tf.Tensor:
  """Filters audio by a short FIR filter, from silence on.

  Args:
    audio: Audio. Shape [batch, n_samples] or [batch, n_samples, n_channels].
    taps: Impulse response. Shape [n_taps].

  Returns:
    Audio of the same shape.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> losses.filter_fir(tf.ones([1, 3]), [1.0, -0.5]).numpy().tolist()
    [[1.0, 0.5, 0.5]]
  """
  folded = fold_channels(audio)[:, :, tf.newaxis]
  taps = np.asarray(taps, np.float32)
  folded = tf.pad(folded, [[0, 0], [len(taps) - 1, 0], [0, 0]])
  # Convolution of networks is correlation: time runs backwards in the taps.
  kernel = tf.cast(taps[::-1, np.newaxis, np.newaxis], audio.dtype)
  filtered = tf.nn.conv1d(folded, kernel, stride=1, padding='VALID')
  if audio.shape.rank == 2:
    return filtered[:, :, 0]
  by_channel = tf.reshape(
    filtered, [-1, audio.shape[-1], tf.shape(filtered)[1]]
  )
  return tf.ensure_shape(tf.transpose(by_channel, [0, 2, 1]), audio.shape)


@gin.register(module='dafx.losses')
class PreEmphasisLoss(WrappedLosses):
  """Losses of the audio after a filter; see `pre_emphasis_taps`.

  Examples:
    >>> from dafx import losses
    >>> loss = losses.PreEmphasisLoss(losses.EsrLoss(), coefficient=1.0)
    >>> target = [[0.0, 0.5, 0.0]]
    >>> round(float(loss(target, [[0.0, 0.0, 0.0]])), 3)
    1.0
  """

  def __init__(
    self,
    losses: tf.keras.layers.Layer | Sequence[tf.keras.layers.Layer],
    kind: str = 'highpass',
    coefficient: float = 0.85,
    sample_rate: float = 44100,
    weight: float = 1.0,
    name: str = 'pre_emphasis',
  ):
    """Constructor.

    Args:
      losses: Losses to wrap, each called `(target_audio, audio)`; a list, or
        one loss. Names must differ.
      kind: 'highpass', 'differentiator' or 'a_weighting'.
      coefficient: Of the filter, in [0, 1].
      sample_rate: Sample rate in Hz, for 'a_weighting'.
      weight: Factor on all the losses.
      name: Name of the layer; it comes before the names of the wrapped losses.

    Raises:
      ValueError: If there is no loss, two have one name, or the filter is not
        allowed.
    """
    super().__init__(losses, weight, name)
    self.taps = pre_emphasis_taps(kind, coefficient, sample_rate)

  def views(
    self, target_audio: tf.Tensor, audio: tf.Tensor
  ) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
    """Returns both, filtered."""
    both = check_audio(target_audio, audio)
    return {'': tuple(filter_fir(x, self.taps) for x in both)}


@gin.register(module='dafx.losses')
class SumAndDifferenceLoss(WrappedLosses):
  """Mean of the losses of left plus right and of left minus right.

  Steinmetz et al., 2021 (https://arxiv.org/abs/2010.10291): a wrong width costs
  as much as a wrong middle; spectral losses then take swapped sides for equal.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> stereo = tf.random.stateless_normal([1, 4000, 2], seed=[0, 0])
    >>> loss = losses.SumAndDifferenceLoss(losses.MultiResolutionStftLoss())
    >>> round(float(loss(stereo, stereo[..., ::-1])), 4)  # swapped sides
    0.0
  """

  def __init__(
    self,
    losses: tf.keras.layers.Layer | Sequence[tf.keras.layers.Layer],
    weight: float = 1.0,
    name: str = 'sum_and_difference',
  ):
    """Constructor.

    Args:
      losses: Losses to wrap, each called `(target_audio, audio)`; a list, or
        one loss. Names must differ.
      weight: Factor on all the losses.
      name: Name of the layer; it comes before the names of the wrapped losses,
        and '_sum' or '_difference' after them.

    Raises:
      ValueError: If there is no loss, or two have one name.
    """
    super().__init__(losses, weight, name)

  def views(
    self, target_audio: tf.Tensor, audio: tf.Tensor
  ) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
    """Returns the sums and the differences of both.

    Raises:
      ValueError: If the audio is not stereo.
    """
    both = target_audio, audio = check_audio(target_audio, audio)
    if audio.shape.rank != 3 or audio.shape[-1] != 2:
      raise ValueError(
        f'Audio has shape {audio.shape}; sum and difference need stereo, '
        '[batch, n_samples, 2].'
      )
    return {
      '_sum': tuple(x[..., 0] + x[..., 1] for x in both),
      '_difference': tuple(x[..., 0] - x[..., 1] for x in both),
    }
