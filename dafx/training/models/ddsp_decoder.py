"""DDSP's own preprocessors and decoders, as an encoder of a dafx model.

What is DDSP's is met here: which keys its layers take and give, and how its
decoder goes on from a state.
"""

import sys
import types
from typing import Any

import gin
import tensorflow as tf

from dafx.training.models import decoders, kinds

tfkl = tf.keras.layers

# What a file or a record of an instrument has for a preprocessor.
_CURVES = ('f0_hz', 'loudness_db')


@gin.register(module='dafx.training.encoders')
class DdspDecoder(decoders.CurveEncoder):
  """A decoder of DDSP behind its preprocessor.

  What the decoder gives ('amps', 'harmonic_distribution', ...) are inputs of
  the graph as they are. All of it together is the embedding, which plugins in
  the graph have their heads on.

  An `RnnFcDecoder` goes on from the state of its recurrent layer, so that files
  are decoded in stretches and the model streams. Other decoders, and those with
  an encoder of audio, hear a line as a whole.

  >>> import tensorflow as tf
  >>> from dafx.training import models
  >>> models.DdspDecoder(tf.keras.layers.Dense(3), None)
  Traceback (most recent call last):
  TypeError: decoder is Dense; a DdspDecoder takes one of ddsp.training...

  Args:
    decoder: One of `ddsp.training.decoders` with `output_splits`.
    preprocessor: A `ddsp.training.preprocessing.F0LoudnessPreprocessor`. It
      scales the loudness that it is given, and measures none: in use, loudness
      is made to fit the instrument before it is heard. It gives as many frames
      as it gets.
    z_encoder: One of `ddsp.training.encoders`, which hears the audio and gives
      'z'; None for a decoder that takes none.
    sample_rate: Rate of the audio, in Hz.
    frame_rate: Frames per second; they hold whole samples.
    name: Name of the layer.

  Raises:
    TypeError: Parts that are none of DDSP's.
    ValueError: Parts that do not go together, outputs of one name, or frames
      that hold no whole samples.
  """

  features_used: tuple[str, ...] = _CURVES

  def __init__(
    self,
    decoder: Any = gin.REQUIRED,
    preprocessor: Any = gin.REQUIRED,
    z_encoder: Any = None,
    sample_rate: int = 16000,
    frame_rate: int = 250,
    name: str = 'ddsp_decoder',
  ):
    super().__init__(name=name, autocast=False)
    self.hop_size = decoders.hop_size_of(sample_rate, frame_rate)
    self.sample_rate = sample_rate
    self.frame_rate = frame_rate
    self.outputs = _slices(decoder)
    check_preprocessor(preprocessor)
    _check_decoder(decoder, preprocessor, z_encoder)
    preprocessor.compute_loudness = False
    self.ddsp_preprocessor = preprocessor
    self.z_encoder = z_encoder
    self.decoder = decoder
    if z_encoder is not None:
      self.features_used = (*_CURVES, 'audio')
    self.streams = z_encoder is None and _is_rnn(decoder)
    # Without a graph, Keras's GRU takes a millisecond for each frame.
    self._embed_all = tf.function(self._embed, autograph=False)
    self._run = tf.function(self._embed_next, autograph=False)

  def describe_arguments(self) -> dict[str, str]:
    """Says what it was made with, and what its decoder takes and gives."""
    return {
      **super().describe_arguments(),
      'input_keys': ', '.join(self.decoder.input_keys),
      'outputs': ', '.join(self.outputs),
    }

  def call(self, *features: tf.Tensor) -> tf.Tensor:
    """Decodes pitch and loudness.

    Args:
      *features: Those of `features_used`: pitch in Hz and loudness in dB as of
        `pitch.loudness_db`, [batch, n_frames, 1], and with a `z_encoder` audio
        [batch, n_samples].

    Returns:
      What the decoder gives, side by side, [batch, n_frames, width].
    """
    return self._embed_all(*features)

  def _conditions(self, features):
    """Returns what the decoder takes, by name."""
    given = dict(zip(self.features_used, features))
    # A Python number: DDSP's layers compare it with the frames that they get.
    self.ddsp_preprocessor.time_steps = given['f0_hz'].shape[1]
    given.update(self.ddsp_preprocessor(given))
    if self.z_encoder is not None:
      given.update(self.z_encoder(given))
    return given

  def _embed(self, *features):
    given = self._conditions(features)
    if 'state' in self.decoder.input_keys:
      given['state'] = self._zeros(tf.shape(given['f0_hz'])[0])
    found = self.decoder(given)
    return tf.concat([found[key] for key in self.outputs], axis=-1)

  @property
  def _cell(self):
    """The cell of the decoder's recurrent layer."""
    return self.decoder.rnn.rnn.cell

  @property
  def _n_states(self):
    """How many states of one size it has: an LSTM has two."""
    return len(tf.nest.flatten(self._cell.state_size))

  def _zeros(self, batch_size):
    return tf.zeros([batch_size, self._n_states * self._cell.units])

  def initial_state(self, batch_size: int) -> tf.Tensor:
    """Returns the state of the recurrent layer before the first frame."""
    if not self.streams:
      raise self._refusal()
    return self._zeros(batch_size)

  def stream(
    self, state: tf.Tensor, f0_hz: tf.Tensor, loudness_db: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes the next frames; see `CurveEncoder.stream`."""
    if not self.streams:
      raise self._refusal()
    return self._run(state, f0_hz, loudness_db)

  def _embed_next(self, state, *features):
    given, decoder = self._conditions(features), self.decoder
    keys = [key for key in decoder.input_keys if key != 'state']
    parts = [
      stack(given[key]) for stack, key in zip(decoder.input_stacks, keys)
    ]
    # DDSP's own layer gives no state. This one has its cell, so its weights.
    recurrent = tfkl.RNN(self._cell, return_sequences=True, return_state=True)
    heard, *states = recurrent(
      tf.concat(parts, axis=-1),
      initial_state=tf.split(state, self._n_states, axis=-1),
    )
    found = decoder.out_stack(tf.concat([*parts, heard], axis=-1))
    return decoder.dense_out(found), tf.concat(states, axis=-1)


def is_of_ddsp(part: Any, module: str, kind: str) -> bool:
  """Returns whether something is of a class of DDSP, and imports nothing.

  Args:
    part: What is asked about.
    module: Of `ddsp.training`.
    kind: Name of the class.
  """
  # It is imported if there is anything of it.
  found = sys.modules.get(f'ddsp.training.{module}')
  return found is not None and isinstance(part, vars(found)[kind])


def _slices(decoder):
  """Returns which part of the embedding each output of a decoder is."""
  try:
    splits = list(decoder.output_splits)
  except AttributeError as error:
    raise TypeError(
      f'decoder is {kinds.kind_of(decoder)}; a DdspDecoder takes one of '
      'ddsp.training.decoders with output_splits, such as '
      '@decoders.RnnFcDecoder().'
    ) from error
  found, start = {}, 0
  for key, size in splits:
    if key in found:
      raise ValueError(
        f'output_splits of {type(decoder).__name__} has {key!r} twice; give '
        'each output once, with its size.'
      )
    found[key] = slice(start, start + size)
    start += size
  return types.MappingProxyType(found)


def _is_rnn(decoder) -> bool:
  """Returns whether a decoder is an RnnFcDecoder."""
  return is_of_ddsp(decoder, 'decoders', 'RnnFcDecoder')


def check_preprocessor(preprocessor: Any):
  """Raises unless a preprocessor hears pitch and loudness.

  Args:
    preprocessor: One of `ddsp.training.preprocessing`.

  Raises:
    TypeError: It is none of DDSP's.
    ValueError: It hears something else.
  """
  if not is_of_ddsp(preprocessor, 'nn', 'DictLayer'):
    raise TypeError(
      f'preprocessor is {kinds.kind_of(preprocessor)}; it must be '
      '@preprocessing.F0LoudnessPreprocessor().'
    )
  if sorted(preprocessor.input_keys) != sorted(_CURVES):
    raise ValueError(
      f'preprocessor is {type(preprocessor).__name__}, which hears '
      f'{", ".join(preprocessor.all_input_keys)}; dafx has pitch and loudness '
      'for it. Take F0LoudnessPreprocessor, or train by `python -m dafx.ddsp '
      'run`.'
    )


def _check_decoder(decoder, preprocessor, z_encoder):
  """Raises for a decoder that takes nothing, or what nothing gives."""
  name, given = type(decoder).__name__, set(preprocessor.output_keys)
  if z_encoder is not None:
    if not is_of_ddsp(z_encoder, 'nn', 'DictLayer'):
      raise TypeError(
        f'z_encoder is {kinds.kind_of(z_encoder)}; it must be one of '
        'ddsp.training.encoders, such as '
        '@encoders.MfccTimeDistributedRnnEncoder(), or None.'
      )
    given |= set(z_encoder.output_keys)
  # A state is what it is given beside its inputs.
  is_stateless = _is_rnn(decoder) and decoder.stateless
  inputs = decoder.input_keys[: -1 if is_stateless else None]
  missing = [key for key in inputs if key not in given]
  if missing or not inputs:
    raise ValueError(
      f'{name} takes {", ".join(missing) or "nothing"}'
      f'{", which nothing gives" if missing else ""}; there are '
      f"{', '.join(sorted(given))}. Bind {name}.input_keys = ('ld_scaled', "
      "'f0_scaled'), or give an encoder of audio (z_encoder)."
    )
