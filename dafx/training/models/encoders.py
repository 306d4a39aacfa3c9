"""Networks that listen: audio in, an embedding per frame of controls out."""

import math
from collections.abc import Sequence

import ddsp
import gin
import tensorflow as tf

tfkl = tf.keras.layers


def n_frames_for(n_samples, hop_size):
  """Returns how many frames of hop_size cover n_samples; ints or tensors."""
  return -(-n_samples // hop_size)


@gin.register(module='dafx.training.encoders')
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
    gain: Factor on the embedding. Gradients of black boxes are noisy, and Adam
      moves all weights alike: at 1 a step on all weights of a head moves a
      control not much further than a step on its bias. Larger ones are for
      controls that have to follow what is heard, rather than settle.
    is_static: Whether to give one embedding for all, the mean over the frames.
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
    gain: float = 1.0,
    is_static: bool = False,
    name: str = 'log_mel_encoder',
  ):
    super().__init__(name=name, autocast=False)
    if hop_size % (fft_size // 4):
      raise ValueError(
        f'hop_size={hop_size} must be a multiple of fft_size / 4 = '
        f'{fft_size // 4}.'
      )
    self.sample_rate = sample_rate
    self.is_static = is_static
    self.hop_size = None if is_static else hop_size
    self.frame_size = hop_size
    self.n_mels = n_mels
    self.fft_size = fft_size
    self.spectra_per_frame = hop_size // (fft_size // 4)
    self.n_context = max(1, round(context_s * sample_rate / (fft_size // 4)))
    self.convolutions = [
      tfkl.Conv1D(width, 3, padding='same', activation='relu') for _ in range(2)
    ]
    self.mix = tfkl.Dense(width, activation='tanh')
    # The features' sum of magnitudes is about 2 at a gain of 1.
    self.gain = gain * 3.0 / (width + n_mels)

  @property
  def context(self) -> int:
    """Samples around a frame's own that it depends on; whole frames."""
    # Half the mean's window, a spectrum for each convolution, and the last
    # spectra, which reach over their time.
    n_spectra = self.n_context // 2 + 1 + len(self.convolutions)
    n_samples = n_spectra * self.fft_size // 4 + self.fft_size
    return n_frames_for(n_samples, self.frame_size) * self.frame_size

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
      width], or [batch, 1, n_mels + width] if it is static.
    """
    embedding = self.embed_frames(audio)
    if self.is_static:
      return tf.reduce_mean(embedding, axis=1, keepdims=True)
    return embedding

  def embed_frames(self, audio: tf.Tensor) -> tf.Tensor:
    """Embeds audio frame by frame, also if the encoder is static.

    Args:
      audio: As of `call`.

    Returns:
      Embedding of shape [batch, n_samples / frame_size rounded up, n_mels +
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
    n_frames = n_frames_for(tf.shape(audio)[1], self.frame_size)

    def around(x):
      x = tf.nn.avg_pool1d(x, self.n_context, 1, 'SAME')
      return x[:, ::step][:, :n_frames]

    now = tf.nn.avg_pool1d(x, step, step, 'SAME')[:, :n_frames]
    mixed = self.mix(tf.concat([now, around(x)], axis=-1))
    embedding = self.gain * tf.concat([around(spectra), mixed], axis=-1)
    if audio.shape[1] is not None:
      n_frames = n_frames_for(audio.shape[1], self.frame_size)
      embedding.set_shape([None, n_frames, None])
    return embedding


class _SpectrogramEncoder(tfkl.Layer):
  """A network for images over the log-mel spectrogram around each frame.

  A subclass gives the network (`_make_network`).
  """

  def __init__(
    self,
    sample_rate,
    hop_size,
    context_size,
    is_static,
    n_mels,
    fft_size,
    spectra_hop,
    name,
  ):
    super().__init__(name=name, autocast=False)
    if context_size < max(hop_size, fft_size) or (context_size - hop_size) % 2:
      raise ValueError(
        f'context_size={context_size} must be at least hop_size={hop_size} and '
        f'fft_size={fft_size}, and differ from hop_size by an even number: a '
        'frame lies in the middle of its context.'
      )
    if hop_size % spectra_hop:
      raise ValueError(
        f'hop_size={hop_size} must be a multiple of spectra_hop={spectra_hop}.'
      )
    self.sample_rate = sample_rate
    self.is_static = is_static
    self.hop_size = None if is_static else hop_size
    self.context_size = context_size
    self.n_mels = n_mels
    self.fft_size = fft_size
    self.spectra_hop = spectra_hop
    self.n_spectra = 1 + (context_size - fft_size) // spectra_hop
    # Frames of one setting for all lie half a context apart.
    self._step = (
      max(1, self.n_spectra // 2) if is_static else hop_size // spectra_hop
    )
    self.network = self._make_network()

  def _make_network(self):
    """Returns a layer from [n, n_spectra, n_mels, 1] to [n, width]."""
    raise NotImplementedError  # abstract

  @property
  def margin(self) -> int:
    """Samples before and after the audio of its frames that it hears too."""
    return 0 if self.is_static else (self.context_size - self.hop_size) // 2

  @property
  def context_step(self) -> int:
    """Samples from one context to the next."""
    return self._step * self.spectra_hop

  def n_contexts(self, n_samples: int) -> int:
    """Returns how many whole contexts audio has."""
    n_spectra = 1 + (n_samples - self.fft_size) // self.spectra_hop
    return max(0, 1 + (n_spectra - self.n_spectra) // self._step)

  def log_mel(self, audio: tf.Tensor) -> tf.Tensor:
    """Returns log-mel power spectra, without padding at the ends.

    Args:
      audio: Shape [batch, n_samples].

    Returns:
      Decimal logarithms of the power in mel bands from 0 Hz to half the rate,
      plus 1e-6; shape [batch, 1 + (n_samples - fft_size) // spectra_hop,
      n_mels].
    """
    stft = tf.signal.stft(audio, self.fft_size, self.spectra_hop)
    power = tf.math.real(stft) ** 2 + tf.math.imag(stft) ** 2
    bands = tf.signal.linear_to_mel_weight_matrix(
      self.n_mels,
      self.fft_size // 2 + 1,
      self.sample_rate,
      0.0,
      self.sample_rate / 2,
    )
    return tf.math.log(tf.matmul(power, bands) + 1e-6) / math.log(10.0)

  def call(self, audio: tf.Tensor, training=None) -> tf.Tensor:
    """Embeds audio that has its margins.

    Args:
      audio: Shape [batch, margin + n_samples + margin] or [..., n_channels],
        which are mixed; n_samples is a multiple of `hop_size`.
      training: Whether batch statistics are used, and followed.

    Returns:
      Embedding of shape [batch, n_samples / hop_size, width], or [batch, 1,
      width] if it is static: the mean over the audio.
    """
    if audio.shape.rank == 3:
      audio = tf.reduce_mean(audio, axis=-1)
    if self.is_static:  # at least one context
      missing = tf.maximum(0, self.context_size - tf.shape(audio)[1])
      audio = tf.pad(audio, [[0, 0], [0, missing]])
    spectra = self.log_mel(audio)
    # [batch, n_frames, n_spectra, n_mels] -> an image each.
    windows = tf.signal.frame(spectra, self.n_spectra, self._step, axis=1)
    n_frames = tf.shape(windows)[1]
    images = tf.reshape(windows, [-1, self.n_spectra, self.n_mels, 1])
    embedding = self.network(images, training=training)
    width = embedding.shape[-1]
    embedding = tf.reshape(embedding, [-1, n_frames, width])
    if self.is_static:
      return tf.reduce_mean(embedding, axis=1, keepdims=True)
    return embedding


class _InceptionBlock(tfkl.Layer):
  """Four branches side by side: 1 x 1, 3 x 3, 5 x 5 and pooling."""

  def __init__(self, n_channels, stride):
    super().__init__(autocast=False)
    quarter, narrow = n_channels // 4, max(1, n_channels // 8)
    self.branches = [
      [self._unit(quarter, 1, stride)],
      [self._unit(narrow, 1), self._unit(quarter, 3, stride)],
      [self._unit(narrow, 1), self._unit(quarter, 5, stride)],
      [
        tfkl.MaxPool2D(3, stride, padding='same'),
        self._unit(n_channels - 3 * quarter, 1),
      ],
    ]

  @staticmethod
  def _unit(n_channels, size, stride=1):
    return tf.keras.Sequential(
      [
        tfkl.Conv2D(n_channels, size, stride, padding='same', use_bias=False),
        tfkl.BatchNormalization(),
        tfkl.ReLU(),
      ]
    )

  def call(self, x, training=None):
    outputs = []
    for branch in self.branches:
      y = x
      for unit in branch:
        y = unit(y, training=training)
      outputs.append(y)
    return tf.concat(outputs, axis=-1)


class _InceptionNetwork(tfkl.Layer):
  """Batch norm, 5 x 5, pairs of strided and plain blocks, mean, unit length."""

  def __init__(self, channels, width):
    super().__init__(autocast=False)
    self.parts = [
      tfkl.BatchNormalization(),
      tfkl.Conv2D(channels[0], 5, padding='same', use_bias=False),
      tfkl.BatchNormalization(),
      tfkl.ReLU(),
      *(_InceptionBlock(n, stride) for n in channels for stride in (2, 1)),
      tfkl.Conv2D(width, 1),
      tfkl.GlobalAveragePooling2D(),
    ]

  def call(self, images, training=None):
    x = images
    for part in self.parts:
      x = part(x, training=training)
    return tf.math.l2_normalize(x, axis=-1)


@gin.register(module='dafx.training.encoders')
class InceptionEncoder(_SpectrogramEncoder):
  """An inception network over the spectrogram around each frame.

  As in Lee et al., 2020 (https://arxiv.org/abs/2008.03720), which DeepAFx
  takes: batch normalisation, a 5 x 5 convolution, six pairs of a strided and a
  plain inception block, an embedding by 1 x 1 convolution, its mean over time
  and frequency, brought to unit length. The blocks are those of Szegedy et al.,
  2015 (https://arxiv.org/abs/1409.4842), with batch normalisation; the numbers
  of channels are our own.

  Args:
    sample_rate: Rate of the audio, in Hz.
    hop_size: Samples per frame of controls.
    context_size: Samples that a frame hears, its own in the middle.
    is_static: Whether to give one embedding for all, the mean over the audio.
    channels: Channels of each pair of blocks.
    width: Size of the embedding.
    n_mels: Mel bands from 0 Hz to half the sample rate.
    fft_size: Samples per spectrum.
    spectra_hop: Samples from spectrum to spectrum.
    name: Name of the layer.

  Raises:
    ValueError: Sizes that do not fit together.
  """

  def __init__(
    self,
    sample_rate: int = 22050,
    hop_size: int = 1024,
    context_size: int = 40960,
    is_static: bool = False,
    channels: Sequence[int] = (64, 128, 128, 256, 256, 512),
    width: int = 256,
    n_mels: int = 128,
    fft_size: int = 1024,
    spectra_hop: int = 256,
    name: str = 'inception_encoder',
  ):
    self._channels, self._width = tuple(channels), width
    super().__init__(
      sample_rate,
      hop_size,
      context_size,
      is_static,
      n_mels,
      fft_size,
      spectra_hop,
      name,
    )

  def _make_network(self):
    return _InceptionNetwork(self._channels, self._width)


@gin.register(module='dafx.training.encoders')
class MobileNetV2Encoder(_SpectrogramEncoder):
  """MobileNetV2 over the spectrogram around each frame.

  Sandler et al., 2018 (https://arxiv.org/abs/1801.04381), from Keras, behind a
  batch normalisation, as in DeepAFx; weights start at random.

  Args:
    sample_rate: Rate of the audio, in Hz.
    hop_size: Samples per frame of controls.
    context_size: Samples that a frame hears, its own in the middle.
    is_static: Whether to give one embedding for all, the mean over the audio.
    alpha: Width of the network, relative to the published one.
    bn_momentum: Of the running statistics of batch normalisation. Keras's 0.999
      takes thousands of steps to forget how they start.
    n_mels: Mel bands from 0 Hz to half the sample rate.
    fft_size: Samples per spectrum.
    spectra_hop: Samples from spectrum to spectrum.
    name: Name of the layer.

  Raises:
    ValueError: Sizes that do not fit together, or an image of less than 32 by
      32.
  """

  def __init__(
    self,
    sample_rate: int = 22050,
    hop_size: int = 1024,
    context_size: int = 40960,
    is_static: bool = False,
    alpha: float = 1.0,
    bn_momentum: float = 0.99,
    n_mels: int = 128,
    fft_size: int = 1024,
    spectra_hop: int = 256,
    name: str = 'mobilenet_v2_encoder',
  ):
    self._alpha, self._bn_momentum = alpha, bn_momentum
    super().__init__(
      sample_rate,
      hop_size,
      context_size,
      is_static,
      n_mels,
      fft_size,
      spectra_hop,
      name,
    )

  def _make_network(self):
    network = tf.keras.applications.MobileNetV2(
      input_shape=(self.n_spectra, self.n_mels, 1),
      alpha=self._alpha,
      include_top=False,
      weights=None,
      pooling='avg',
    )
    for layer in network.layers:
      if isinstance(layer, tfkl.BatchNormalization):
        layer.momentum = self._bn_momentum
    return tf.keras.Sequential(
      [tfkl.BatchNormalization(momentum=self._bn_momentum), network]
    )


@gin.register(module='dafx.training.encoders')
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
