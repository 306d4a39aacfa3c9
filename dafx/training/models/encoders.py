"""Networks that listen: features in, an embedding per frame of controls out."""

import abc
import math
import types
from collections.abc import Iterator, Mapping

import ddsp
import gin
import numpy as np
import tensorflow as tf

from dafx import core
from dafx.audio import sources
from dafx.training.models import kinds

tfkl = tf.keras.layers

# Frames that a network hears of a file at a time, to bound its memory.
FRAMES_AT_ONCE = 256


def n_frames_for(n_samples: int, hop_size: int) -> int:
  """Returns how many frames of hop_size cover n_samples; ints or tensors.

  >>> from dafx.training import models
  >>> models.n_frames_for(1000, hop_size=256)
  4
  """
  return -(-n_samples // hop_size)


class Encoder(core.Recorded, tf.keras.layers.Layer, abc.ABC):
  """Features to an embedding, for the heads of a `ControlModel`.

  A subclass gives `call`, and `hop_size` if its embedding moves in time. Its
  `embed` hears a file of any length: with a `margin` in stretches, otherwise
  at once. An encoder that can hear stretches in another way overrides it.

  >>> import tensorflow as tf
  >>> from dafx.training import models
  >>> class Power(models.Encoder):
  ...   hop_size = 1024
  ...
  ...   def call(self, audio):
  ...     frames = tf.signal.frame(audio, 1024, 1024, pad_end=True)
  ...     return tf.reduce_mean(frames**2, axis=-1, keepdims=True)
  >>> Power()(tf.ones([1, 5000])).shape
  TensorShape([1, 5, 1])

  Attributes:
    features_used: Names of the features that `call` takes, in order.
    sample_rate: Rate of the audio that it takes, in Hz; None for any.
    hop_size: Samples per frame; None for one embedding for all.
    margin: Samples before and after the audio of its frames that `call` takes
      too.
    takes_channels: Whether it makes something of channels; otherwise a model
      mixes those of a file before.
    outputs: Parts of its embedding that are inputs of the graph as they are, by
      name; other inputs have heads.
  """

  features_used: tuple[str, ...] = ('audio',)
  sample_rate: int | None = None
  hop_size: int | None = None
  margin: int = 0
  takes_channels: bool = False
  outputs: Mapping[str, slice] = types.MappingProxyType({})

  @abc.abstractmethod
  def call(self, *features: tf.Tensor) -> tf.Tensor:
    """Embeds features.

    Args:
      *features: Those of `features_used`. Audio has the shape [batch, margin +
        n_samples + margin] or [..., n_channels].

    Returns:
      Embedding of shape [batch, n_samples / hop_size rounded up, width], or
      [batch, 1, width] without a hop size.
    """

  def embed(self, source: sources.Source) -> Iterator[tf.Tensor]:
    """Hears a file of any length, stretch by stretch.

    Args:
      source: Audio at `sample_rate`; mono unless it `takes_channels`.

    Yields:
      Embeddings [1, n_frames, width], which together are what `call` gives for
      all of it.
    """
    if not self.margin or self.hop_size is None:
      audio = np.concatenate(list(source.blocks()))[:, 0]
      yield self(audio[np.newaxis])
      return
    # Stretches as crops that have their margins; silence at the ends.
    size = FRAMES_AT_ONCE * self.hop_size
    start, margin = 0, self.margin
    for piece, n_before in sources.windows(
      source.blocks(), size, margin, margin
    ):
      n_samples = min(size, source.n_samples - start)
      n_after = len(piece) - n_before - n_samples
      fill = -n_samples % self.hop_size  # whole frames
      silence = (margin - n_before, margin + fill - n_after)
      yield self(np.pad(piece[:, 0], silence)[np.newaxis])
      start += size


def moving_mean(x: tf.Tensor, size: int, step: int) -> tf.Tensor:
  """Returns means around frames, of what there is of them at the ends.

  As a mean pooling with 'SAME' and a stride of 1, of which every `step`-th
  frame is taken. But on processors, code of poolings is made for each length of
  the audio, grows with their size, and is kept: 12 MB for a file.

  Args:
    x: Shape [batch, n_frames, n_values].
    size: Frames in a mean.
    step: Frames from one to the next.

  Returns:
    Shape [batch, n_frames / step rounded up, n_values].
  """
  before, after = (size - 1) // 2, size // 2
  n_frames = tf.shape(x)[1]
  padded = tf.pad(tf.cast(x, tf.float64), [[0, 0], [before + 1, after], [0, 0]])
  sums = tf.cumsum(padded, axis=1)
  middles = tf.range(0, n_frames, step)
  counts = tf.minimum(middles + after + 1, n_frames) - tf.maximum(
    middles - before, 0
  )
  totals = sums[:, size::step] - sums[:, :n_frames:step]
  means = totals / tf.cast(counts, tf.float64)[:, tf.newaxis]
  return tf.cast(means, x.dtype)


def check_encoder(encoder: Encoder, sample_rate: int):
  """Raises for what is no encoder, or hears another rate.

  Args:
    encoder: What a model is given as its encoder.
    sample_rate: Rate of the model, in Hz.

  Raises:
    TypeError: It is no `Encoder`.
    ValueError: It hears another rate.
  """
  if isinstance(encoder, type) and issubclass(encoder, Encoder):
    raise TypeError(
      f'encoder is {kinds.kind_of(encoder)}: @encoders.{encoder.__name__}().'
    )
  if not isinstance(encoder, Encoder):
    is_class = isinstance(encoder, type)
    kind = encoder.__name__ if is_class else type(encoder).__name__
    raise TypeError(
      f'encoder is {kind}, which is no Encoder. Derive it from '
      f'dafx.training.models.Encoder (class {kind}(models.Encoder)) and set '
      'hop_size to the samples per frame of what its call returns, or leave it '
      'at None for one setting for all.'
    )
  if encoder.sample_rate not in (None, sample_rate):
    raise ValueError(
      f'The encoder {encoder.name!r} hears {encoder.sample_rate} Hz, and the '
      f'model is set up for {sample_rate} Hz. Give both the same sample_rate.'
    )


@gin.register(module='dafx.training.encoders')
class LogMelEncoder(Encoder):
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
    self.sample_rate: int = sample_rate
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
      return moving_mean(x, self.n_context, step)[:, :n_frames]

    now = tf.nn.avg_pool1d(x, step, step, 'SAME')[:, :n_frames]
    mixed = self.mix(tf.concat([now, around(x)], axis=-1))
    # Layers may compute in less than float32, and spectra are made in that.
    mixed = tf.cast(mixed, spectra.dtype)
    embedding = self.gain * tf.concat([around(spectra), mixed], axis=-1)
    if audio.shape[1] is not None:
      n_frames = n_frames_for(audio.shape[1], self.frame_size)
      embedding.set_shape([None, n_frames, None])
    return embedding

  def embed(self, source: sources.Source) -> Iterator[tf.Tensor]:
    """Hears a file of any length; see `Encoder.embed`."""
    stretches = self._embed_stretches(source)
    if not self.is_static:
      yield from stretches
      return
    total, n_frames = 0.0, 0
    for frames in stretches:
      total += tf.reduce_sum(frames, axis=1, keepdims=True)
      n_frames += frames.shape[1]
    yield total / n_frames

  def _embed_stretches(self, source):
    """Yields embeddings of stretches of audio, each heard in its context."""
    hop_size, context = self.frame_size, self.context
    size = FRAMES_AT_ONCE * hop_size
    # All pieces end at the same place in a hop, as the audio does: where
    # frames are pooled depends on it.
    after = context + source.n_samples % hop_size
    for piece, n_before in sources.windows(
      source.blocks(), size, context, after
    ):
      first = n_before // hop_size
      embedding = self.embed_frames(tf.constant(piece[np.newaxis, :, 0]))
      yield embedding[:, first : first + FRAMES_AT_ONCE]


@gin.register(module='dafx.training.encoders')
class Constant(Encoder):
  """Hears nothing: one embedding for all, and so one setting for all.

  With it a model learns the best single setting of its plugins.

  >>> import tensorflow as tf
  >>> from dafx.training import models
  >>> models.Constant()(tf.zeros([2, 1000])).shape
  TensorShape([2, 1, 1])

  Args:
    name: Name of the layer.
  """

  def __init__(self, name: str = 'constant'):
    super().__init__(name=name, autocast=False)

  def call(self, audio: tf.Tensor) -> tf.Tensor:
    """Returns ones of shape [batch, 1, 1] for audio of any shape."""
    return tf.ones([tf.shape(audio)[0], 1, 1])

  def embed(self, source: sources.Source) -> Iterator[tf.Tensor]:
    """Yields the embedding, and reads nothing; see `Encoder.embed`."""
    del source
    yield self(tf.zeros([1, 1]))
