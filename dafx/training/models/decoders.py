"""Networks that hear pitch and loudness, as DDSP's decoders do."""

import abc
from collections.abc import Iterator, Mapping

import ddsp
import gin
import numpy as np
import tensorflow as tf

from dafx.audio import sources
from dafx.training.models import encoders

tfkl = tf.keras.layers

# Frames that are decoded at a time, to bound the memory.
_FRAMES_AT_ONCE = 4096
_F0_RANGE = 127.0  # MIDI
_DB_RANGE = 80.0


def _stack(width, n_layers, name, first_bias='zeros'):
  """Returns DDSP's FcStack: Dense, LayerNormalization, leaky ReLU.

  Without a bias, normalisation takes all but the sign of a single number out:
  a stack that hears one begins with biases of its own.
  """
  layers: list[tf.keras.layers.Layer] = []
  for i in range(n_layers):
    layers += [
      tfkl.Dense(width, bias_initializer='zeros' if i else first_bias),
      tfkl.LayerNormalization(),
      tfkl.Activation(tf.nn.leaky_relu),
    ]
  return tf.keras.Sequential(layers, name=name)


def scaled_f0(f0_hz: tf.Tensor) -> tf.Tensor:
  """Scales pitch in Hz to MIDI / 127, as DDSP's preprocessors do.

  >>> from dafx.training import models
  >>> round(float(models.scaled_f0(440.0)) * 127)
  69
  """
  return ddsp.core.hz_to_midi(f0_hz) / _F0_RANGE


def scaled_loudness(loudness_db: tf.Tensor) -> tf.Tensor:
  """Scales loudness from -80 to 0 dB to [0, 1], as DDSP's preprocessors do.

  >>> from dafx.training import models
  >>> models.scaled_loudness(-20.0)
  0.75
  """
  return loudness_db / _DB_RANGE + 1.0


class CurveEncoder(encoders.Encoder, abc.ABC):
  """An encoder that hears curves of pitch and loudness, not audio.

  A subclass sets the attributes, and gives `call`, whose features are curves
  [batch, n_frames, 1] of `features_used`. If it `streams`, it gives
  `initial_state` and `stream` too.

  Attributes:
    frame_rate: Frames per second.
    hop_size: Samples per frame.
    streams: Whether it can go on from a state.
  """

  features_used: tuple[str, ...] = ('f0_hz', 'loudness_db')
  frame_rate: int
  hop_size: int
  streams: bool = False

  def initial_state(self, batch_size: int) -> tf.Tensor:
    """Returns the state before the first frame.

    Args:
      batch_size: Number of items.

    Raises:
      ValueError: It does not stream.
    """
    del batch_size
    raise self._refusal()

  def stream(
    self, state: tf.Tensor, f0_hz: tf.Tensor, loudness_db: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Embeds the next frames.

    Args:
      state: Of the frames before, or `initial_state`.
      f0_hz: Pitch in Hz, [batch, n_frames, 1].
      loudness_db: Loudness as of `pitch.loudness_db`, [batch, n_frames, 1].

    Returns:
      (Embedding [batch, n_frames, width], state).

    Raises:
      ValueError: It does not stream.
    """
    del state, f0_hz, loudness_db
    raise self._refusal()

  def _refusal(self):
    return ValueError(
      f'{self.name!r} needs the whole line at once, so it cannot stream. Take '
      'F0LoudnessDecoder, or a DdspDecoder with an RnnFcDecoder that hears '
      'nothing but pitch and loudness.'
    )

  def embed_curves(
    self, curves: Mapping[str, np.ndarray]
  ) -> Iterator[tf.Tensor]:
    """Embeds curves of any length, stretch by stretch if it streams.

    Args:
      curves: Those of `features_used`: 'f0_hz' and 'loudness_db', [n_frames]
        each.

    Yields:
      Embeddings [1, n_frames, width], which together are what `call` gives.
    """
    if not self.streams:
      yield self(*self._as_features(curves))
      return
    state = self.initial_state(1)
    n_frames = len(curves['f0_hz'])
    for start in range(0, n_frames, _FRAMES_AT_ONCE):
      n = min(_FRAMES_AT_ONCE, n_frames - start)
      # All stretches have one length, so that they share a graph.
      part = {
        key: np.pad(curve[start : start + n], (0, _FRAMES_AT_ONCE - n))
        for key, curve in curves.items()
      }
      embedding, state = self.stream(state, *self._as_features(part))
      yield embedding[:, :n]

  def _as_features(self, curves):
    """Returns what `call` takes, for one item."""
    # Audio is [batch, n_samples].
    return [
      tf.constant(
        curves[key][None] if key == 'audio' else curves[key][None, :, None],
        tf.float32,
      )
      for key in self.features_used
    ]

  def embed(self, source: sources.Source) -> Iterator[tf.Tensor]:
    """Refuses a file: pitch and loudness have to be found in it before."""
    raise ValueError(
      f'{self.name!r} hears pitch and loudness, not audio: take an '
      'InstrumentModel, which finds them in a file.'
    )


def hop_size_of(sample_rate: int, frame_rate: int) -> int:
  """Returns how many samples a frame holds.

  Args:
    sample_rate: Rate of the audio, in Hz.
    frame_rate: Frames per second.

  Raises:
    ValueError: Frames that hold no whole samples.
  """
  if frame_rate < 1 or sample_rate % frame_rate:
    raise ValueError(
      f'frame_rate={frame_rate} does not divide sample_rate={sample_rate}: '
      'a frame must hold whole samples, as with 250 at 16000 or 48000 Hz.'
    )
  return sample_rate // frame_rate


@gin.register(module='dafx.training.encoders')
class F0LoudnessDecoder(CurveEncoder):
  """DDSP's RnnFcDecoder on F0LoudnessPreprocessor, without its last layer.

  A stack of dense layers for each of loudness and pitch, a GRU over both, and a
  stack over all three. The heads of the model are its last layer: those of
  `output_splits` are DDSP's, and each plugin has one.

  Engel et al. 2020, "DDSP: Differentiable Digital Signal Processing".

  >>> import tensorflow as tf
  >>> from dafx.training import models
  >>> decoder = models.F0LoudnessDecoder(ch=8, rnn_channels=4)
  >>> decoder(tf.fill([1, 250, 1], 440.0), tf.fill([1, 250, 1], -20.0)).shape
  TensorShape([1, 250, 8])

  Args:
    sample_rate: Rate of the audio, in Hz.
    frame_rate: Frames per second; they hold whole samples.
    rnn_channels: Units of the GRU.
    ch: Width of the dense layers.
    layers_per_stack: Dense layers of each stack.
    name: Name of the layer.

  Raises:
    ValueError: Frames that hold no whole samples.
  """

  streams = True

  def __init__(
    self,
    sample_rate: int = 16000,
    frame_rate: int = 250,
    rnn_channels: int = 512,
    ch: int = 512,
    layers_per_stack: int = 3,
    name: str = 'f0_loudness_decoder',
  ):
    super().__init__(name=name, autocast=False)
    self.hop_size = hop_size_of(sample_rate, frame_rate)
    self.sample_rate = sample_rate
    self.frame_rate = frame_rate
    bias = tf.keras.initializers.RandomUniform(-1.0, 1.0, seed=0)
    self.loudness_stack = _stack(ch, layers_per_stack, 'loudness_stack', bias)
    self.f0_stack = _stack(ch, layers_per_stack, 'f0_stack', bias)
    self.rnn = tfkl.GRU(
      rnn_channels, return_sequences=True, return_state=True, name='rnn'
    )
    self.out_stack = _stack(ch, layers_per_stack, 'out_stack')
    # Without a graph, Keras's GRU takes a millisecond for each frame.
    self._run = tf.function(self._embed, autograph=False)

  def initial_state(self, batch_size: int) -> tf.Tensor:
    """Returns the state of the GRU before the first frame."""
    return tf.zeros([batch_size, self.rnn.units])

  def stream(
    self, state: tf.Tensor, f0_hz: tf.Tensor, loudness_db: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Embeds the next frames; the state is that of the GRU."""
    return self._run(state, f0_hz, loudness_db)

  def _embed(self, state, f0_hz, loudness_db):
    parts = [
      self.loudness_stack(scaled_loudness(loudness_db)),
      self.f0_stack(scaled_f0(f0_hz)),
    ]
    embedding, state = self.rnn(tf.concat(parts, axis=-1), initial_state=state)
    return self.out_stack(tf.concat([*parts, embedding], axis=-1)), state

  def call(self, f0_hz: tf.Tensor, loudness_db: tf.Tensor) -> tf.Tensor:
    """Embeds pitch and loudness.

    Args:
      f0_hz: Pitch in Hz, [batch, n_frames, 1].
      loudness_db: Loudness as of `pitch.loudness_db`, [batch, n_frames, 1].

    Returns:
      Embedding of shape [batch, n_frames, ch].
    """
    state = tf.zeros([tf.shape(f0_hz)[0], self.rnn.units])
    return self.stream(state, f0_hz, loudness_db)[0]
