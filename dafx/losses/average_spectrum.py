"""Loss of the average spectrum, blind to level."""

import functools

import ddsp
import gin
import numpy as np
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

# Third octaves by number around 1 kHz (50 Hz to 12.7 kHz), and what is added to
# a density in 1/Hz, as in `dafx.metrics`.
_THIRD_OCTAVES = np.arange(-13, 12)
_DENSITY_FLOOR = 1e-15


@functools.lru_cache(maxsize=8)
def _third_octaves(sample_rate: float, frame_size: int) -> np.ndarray:
  """Returns what takes the mean density in each band, [n_bands, n_bins]."""
  frequencies_hz = np.fft.rfftfreq(frame_size, 1.0 / sample_rate)
  # One-sided: a bin stands for two, but for the first and the last.
  n_alike = np.full(len(frequencies_hz), 2.0)
  n_alike[0] = n_alike[frame_size // 2] = 1.0
  rows = []
  for k in _THIRD_OCTAVES:
    low_hz, high_hz = (1000 * 2.0 ** ((k + side) / 3) for side in (-0.5, 0.5))
    is_in = (frequencies_hz >= low_hz) & (frequencies_hz < high_hz)
    if is_in.any():
      rows.append(n_alike * is_in / np.count_nonzero(is_in))
  if not rows:
    raise ValueError(
      f'Frames of {frame_size} samples at {sample_rate} Hz have no bin in any '
      'third octave from 50 Hz to 12.7 kHz. Use longer frames.'
    )
  return np.array(rows)


def _average_spectrum_db(audio, sample_rate, frame_size):
  """Returns levels in third octaves by Welch's method, [batch, n_bands]."""
  audio = tf.linalg.matrix_transpose(with_channels(audio))
  # [batch, n_channels, n_frames, frame_size].
  frames = tf.signal.frame(audio, frame_size, frame_size // 2)
  frames -= tf.reduce_mean(frames, axis=-1, keepdims=True)
  window = np.hanning(frame_size + 1)[:-1]
  spectrum = tf.signal.rfft(frames * tf.cast(window, audio.dtype))
  power = tf.math.real(spectrum) ** 2 + tf.math.imag(spectrum) ** 2
  power = tf.reduce_mean(power, axis=[1, 2])
  scale = 1.0 / (sample_rate * np.sum(window**2))
  bands = scale * _third_octaves(sample_rate, frame_size)
  density = tf.matmul(power, tf.cast(bands, audio.dtype), transpose_b=True)
  return to_db(density + _DENSITY_FLOOR)


def average_spectrum_loss(
  target: tf.Tensor,
  audio: tf.Tensor,
  sample_rate: float,
  frame_size: int = 8192,
) -> tf.Tensor:
  """How far the average spectrum is from the target's, whatever the level.

  `metrics.average_spectrum_error_db` with a gradient: levels in third octaves
  from 50 Hz to 12.7 kHz by Welch's method (Hann window, half overlap), mean
  power of the channels.

  Args:
    target: Target audio. Shape [batch, n_samples] or [batch, n_samples,
      n_channels], at least `frame_size` samples.
    audio: Audio of the same shape.
    sample_rate: Sample rate in Hz, > 0.
    frame_size: Frames in samples; those of the metric by default. Shorter ones
      have no bin in the lowest bands, which are then left out.

  Returns:
    Mean over items and bands of |d - mean d| in dB, d being the difference of
    the levels; >= 0. Scalar. An item whose target is silent counts 0.

  Raises:
    ValueError: If the shapes, dtypes, `sample_rate` or `frame_size` are not
      allowed, or the audio is shorter than a frame.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = 0.1 * tf.random.stateless_normal([2, 22050], seed=[0, 0])
    >>> loss = losses.average_spectrum_loss(target, 0.5 * target, 44100)
    >>> round(float(loss), 3)
    0.0
  """
  target, audio = check_audio(target, audio)
  check_sample_rate(sample_rate)
  check_length(audio, frame_size, 'one frame of the average spectrum')
  gap_db = _average_spectrum_db(audio, sample_rate, frame_size)
  gap_db -= _average_spectrum_db(target, sample_rate, frame_size)
  gap_db -= tf.reduce_mean(gap_db, axis=1, keepdims=True)
  return mean_over_heard(tf.reduce_mean(tf.abs(gap_db), axis=1), target)


@gin.register(module='dafx.losses')
class AverageSpectrumLoss(core.Recorded, ddsp.losses.Loss):
  """Distance of the average spectra in dB; see `average_spectrum_loss`.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> target = 0.1 * tf.random.stateless_normal([2, 22050], seed=[0, 0])
    >>> loss = losses.AverageSpectrumLoss(sample_rate=44100)
    >>> bool(loss(target, losses.filter_fir(target, [1.0, -0.9])) > 1.0)  # dB
    True
  """

  def __init__(
    self,
    sample_rate: float = gin.REQUIRED,
    frame_size: int = 8192,
    weight: float = 1.0,
    name: str = 'average_spectrum_loss',
  ):
    """Constructor.

    Args:
      sample_rate: Sample rate in Hz, > 0.
      frame_size: Frames in samples.
      weight: Factor on the loss.
      name: Name of the layer, and key of the loss.

    Raises:
      ValueError: If `sample_rate` or `frame_size` is not allowed.
    """
    super().__init__(name=name, autocast=False)
    check_sample_rate(sample_rate)
    _third_octaves(sample_rate, frame_size)
    self.sample_rate = sample_rate
    self.frame_size = frame_size
    self.weight = weight

  def call(self, target_audio: tf.Tensor, audio: tf.Tensor) -> tf.Tensor:
    """Returns the weighted loss, a scalar."""
    return self.weight * average_spectrum_loss(
      target_audio, audio, self.sample_rate, self.frame_size
    )
