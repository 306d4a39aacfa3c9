"""Encoders that are networks for images, over spectrograms."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence

import gin
import numpy as np
import tensorflow as tf

from dafx.audio import sources
from dafx.training.models import encoders

tfkl = tf.keras.layers


class SpectrogramEncoder(encoders.Encoder):
  """A network for images over the log-mel spectrogram around each frame.

  Args:
    make_network: Returns the network, a layer from [n, n_spectra, n_mels, 1] to
      [n, width], for (n_spectra, n_mels).
    sample_rate: Rate of the audio, in Hz.
    hop_size: Samples per frame of controls.
    context_size: Samples that a frame hears, its own in the middle.
    is_static: Whether to give one embedding for all, the mean over the audio.
    n_mels: Mel bands from 0 Hz to half the sample rate.
    fft_size: Samples per spectrum.
    spectra_hop: Samples from spectrum to spectrum.
    name: Name of the layer.

  Raises:
    ValueError: Sizes that do not fit together.
  """

  def __init__(
    self,
    make_network: Callable[[int, int], tf.keras.layers.Layer],
    sample_rate: int,
    hop_size: int,
    context_size: int,
    is_static: bool,
    n_mels: int,
    fft_size: int,
    spectra_hop: int,
    name: str,
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
    self.sample_rate: int = sample_rate
    self.is_static = is_static
    self.hop_size = None if is_static else hop_size
    self.margin = 0 if is_static else (context_size - hop_size) // 2
    self.context_size = context_size
    self.n_mels = n_mels
    self.fft_size = fft_size
    self.spectra_hop = spectra_hop
    self.n_spectra = 1 + (context_size - fft_size) // spectra_hop
    # Frames of one setting for all lie half a context apart.
    self._step = (
      max(1, self.n_spectra // 2) if is_static else hop_size // spectra_hop
    )
    self.network = make_network(self.n_spectra, n_mels)

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

  def embed(self, source: sources.Source) -> Iterator[tf.Tensor]:
    """Hears a file of any length; see `Encoder.embed`."""
    if not self.is_static:
      yield from super().embed(source)
      return
    # The mean over all contexts.
    size = encoders.FRAMES_AT_ONCE * self.context_step
    after = self.context_size - self.context_step
    total, n_contexts = 0.0, 0
    for piece, _ in sources.windows(source.blocks(), size, 0, after):
      count = self.n_contexts(len(piece))
      if n_contexts and not count:
        break  # what is left fills no context
      embedding = self(piece[np.newaxis, :, 0])
      total += max(count, 1) * embedding
      n_contexts += max(count, 1)
    yield total / n_contexts


class _InceptionBlock(tf.keras.layers.Layer):
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


class _InceptionNetwork(tf.keras.layers.Layer):
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
class InceptionEncoder(SpectrogramEncoder):
  """An inception network over the spectrogram around each frame.

  As in Lee et al., 2020 (https://arxiv.org/abs/2008.03720), which DeepAFx
  takes: batch normalisation, a 5 x 5 convolution, six pairs of a strided and a
  plain inception block, an embedding by 1 x 1 convolution, its mean over time
  and frequency, brought to unit length. The blocks are those of Szegedy et al.,
  2015 (https://arxiv.org/abs/1409.4842), with batch normalisation; the numbers
  of channels are our own.

  >>> from dafx.training import models
  >>> models.InceptionEncoder(hop_size=1024, context_size=40960).margin
  19968

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
    super().__init__(
      lambda n_spectra, n_mels: _InceptionNetwork(channels, width),
      sample_rate,
      hop_size,
      context_size,
      is_static,
      n_mels,
      fft_size,
      spectra_hop,
      name,
    )


def _make_mobilenet_v2(alpha, bn_momentum, n_spectra, n_mels):
  """Returns the network, behind a batch normalisation."""
  network = tf.keras.applications.MobileNetV2(
    input_shape=(n_spectra, n_mels, 1),
    alpha=alpha,
    include_top=False,
    weights=None,
    pooling='avg',
  )
  for layer in network.layers:
    if isinstance(layer, tfkl.BatchNormalization):
      layer.momentum = bn_momentum
  return tf.keras.Sequential(
    [tfkl.BatchNormalization(momentum=bn_momentum), network]
  )


@gin.register(module='dafx.training.encoders')
class MobileNetV2Encoder(SpectrogramEncoder):
  """MobileNetV2 over the spectrogram around each frame.

  Sandler et al., 2018 (https://arxiv.org/abs/1801.04381), from Keras, behind a
  batch normalisation, as in DeepAFx; weights start at random.

  >>> from dafx.training import models
  >>> encoder = models.MobileNetV2Encoder(alpha=0.35, context_size=9216)
  >>> encoder.n_spectra, encoder.n_mels
  (33, 128)

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
    super().__init__(
      functools.partial(_make_mobilenet_v2, alpha, bn_momentum),
      sample_rate,
      hop_size,
      context_size,
      is_static,
      n_mels,
      fft_size,
      spectra_hop,
      name,
    )
