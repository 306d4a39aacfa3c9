"""Networks that listen: audio in, an embedding per frame of controls out."""

import math

import ddsp
import gin
import tensorflow as tf

tfkl = tf.keras.layers


def n_frames_for(n_samples, hop_size):
  """Returns how many frames of hop_size cover n_samples; ints or tensors."""
  return -(-n_samples // hop_size)


@gin.register
class LogMelEncoder(tfkl.Layer):
  """A small convolutional network over log-mel spectra.

  A frame's embedding holds the mean spectrum of the seconds around it as it is,
  because the level of a band mostly asks for gains in proportion, and what
  convolutions make of the sound around it and in its own hop.

  Args:
    sample_rate: Rate of the audio, in Hz.
    hop_size: Samples per frame of controls; a multiple of a quarter of
      `fft_size`.
    width: Size of the convolutions' part of the embedding.
    n_mels: Mel bands from 20 Hz to half the sample rate.
    fft_size: Samples per spectrum; spectra overlap by three quarters.
    context_s: Seconds around a frame that it sees the mean of.
    name: Name of the layer.

  Raises:
    ValueError: A hop size that holds no whole number of spectra.
  """

  def __init__(
    self,
    sample_rate: int = 16000,
    hop_size: int = 1024,
    width: int = 64,
    n_mels: int = 64,
    fft_size: int = 2048,
    context_s: float = 4.0,
    name: str = 'log_mel_encoder',
  ):
    super().__init__(name=name, autocast=False)
    if hop_size % (fft_size // 4):
      raise ValueError(
        f'hop_size={hop_size} must be a multiple of fft_size / 4 = '
        f'{fft_size // 4}.'
      )
    self.sample_rate = sample_rate
    self.hop_size = hop_size
    self.n_mels = n_mels
    self.fft_size = fft_size
    self.spectra_per_frame = hop_size // (fft_size // 4)
    self.n_context = max(1, round(context_s * sample_rate / (fft_size // 4)))
    self.convolutions = [
      tfkl.Conv1D(width, 3, padding='same', activation='relu') for _ in range(2)
    ]
    self.mix = tfkl.Dense(width, activation='tanh')
    # Gradients of black boxes are noisy, and Adam moves all weights alike: the
    # features' sum of magnitudes is about 2, so that a step on all their
    # weights moves a control not much further than a step on its bias.
    self.gain = 3.0 / (width + n_mels)

  def standardized_log_mel(self, audio: tf.Tensor) -> tf.Tensor:
    """Returns log-mel spectra, about 0 +- 1 for music at -25 LUFS.

    Args:
      audio: Shape [batch, n_samples].

    Returns:
      Natural logarithms of shape [batch, n_spectra, n_mels], at least -5.
    """
    spectra = ddsp.spectral_ops.compute_logmel(
      audio,
      lo_hz=20.0,
      hi_hz=self.sample_rate / 2,
      bins=self.n_mels,
      fft_size=self.fft_size,
      overlap=0.75,
      sample_rate=self.sample_rate,
    )
    # Measured on music: 1.0 in each band at 2,048 samples per spectrum.
    middle = 1.0 + math.log(self.fft_size / 2048)
    return tf.maximum(spectra - middle, -5.0)

  def call(self, audio: tf.Tensor) -> tf.Tensor:
    """Embeds audio.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels], which
        are mixed.

    Returns:
      Embedding of shape [batch, n_samples / hop_size rounded up, n_mels +
      width].
    """
    if audio.shape.rank == 3:
      audio = tf.reduce_mean(audio, axis=-1)
    spectra = self.standardized_log_mel(audio)
    x = spectra  # [B, T, n_mels]
    for convolution in self.convolutions:
      x = convolution(x)
    # [B, T, n] -> [B, n_frames, n], now and around
    step = self.spectra_per_frame
    n_frames = n_frames_for(tf.shape(audio)[1], self.hop_size)

    def around(x):
      x = tf.nn.avg_pool1d(x, self.n_context, 1, 'SAME')
      return x[:, ::step][:, :n_frames]

    now = tf.nn.avg_pool1d(x, step, step, 'SAME')[:, :n_frames]
    mixed = self.mix(tf.concat([now, around(x)], axis=-1))
    embedding = self.gain * tf.concat([around(spectra), mixed], axis=-1)
    if audio.shape[1] is not None:
      n_frames = n_frames_for(audio.shape[1], self.hop_size)
      embedding.set_shape([None, n_frames, None])
    return embedding


@gin.register
class Constant(tfkl.Layer):
  """Hears nothing: one embedding for all, and so one setting for all.

  With it a model learns the best single setting of its plugins.

  Args:
    name: Name of the layer.
  """

  def __init__(self, name: str = 'constant'):
    super().__init__(name=name, autocast=False)
    self.hop_size = None

  def call(self, audio: tf.Tensor) -> tf.Tensor:
    """Returns ones of shape [batch, 1, 1] for audio of any shape."""
    return tf.ones([tf.shape(audio)[0], 1, 1])
