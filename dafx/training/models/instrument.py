"""Models that play an instrument: pitch and loudness in, audio out."""

from collections.abc import Mapping, Sequence
from typing import Any

import ddsp
import gin
import numpy as np
import tensorflow as tf

from dafx import pitch, processors, synths
from dafx.audio import sources
from dafx.training.models import (
  base,
  control,
  decoders,
  kinds,
  playing,
  rendering,
)
from dafx.training.models import streams as streams_lib

# What plays partials, and what plays noise.
_TONES = (
  synths.StreamingHarmonic,
  ddsp.synths.Harmonic,
  ddsp.synths.Sinusoidal,
)
_NOISES = (synths.StreamingFilteredNoise, ddsp.synths.FilteredNoise)
# Of the noise: what is softer is not heard beside it.
_SILENT = 0.01


@gin.register(module='dafx.training.models')
class InstrumentModel(playing.CurveModel, control.ControlModel):
  """A decoder that sets synthesisers and plugins by pitch and loudness.

  It learns one instrument from recordings, and then plays any line of one voice
  as that instrument. A graph of DDSP's synthesisers and reverb gives DDSP's
  model; with plugins in it, these are set by the same decoder.

  Engel et al. 2020, "DDSP: Differentiable Digital Signal Processing".

  >>> import tensorflow as tf
  >>> from dafx import losses, processors, synths
  >>> from dafx.training import models
  >>> keys = ['amps', 'harmonic_distribution', 'f0_hz']
  >>> model = models.InstrumentModel(
  ...   models.F0LoudnessDecoder(ch=8, rnn_channels=4),
  ...   processors.ProcessorGroup([(synths.StreamingHarmonic(), keys)]),
  ...   [losses.EsrLoss()],
  ...   output_splits=(('amps', 1), ('harmonic_distribution', 20)),
  ... )
  >>> curves = {'f0_hz': [[[220.0]] * 250], 'loudness_db': [[[-20.0]] * 250]}
  >>> features = {key: tf.constant(value) for key, value in curves.items()}
  >>> model({'audio': tf.zeros([1, 16000]), **features})['audio_synth'].shape
  TensorShape([1, 16000])

  Args:
    encoder: A `F0LoudnessDecoder` or a `DdspDecoder`.
    processor_group: DAG from 'f0_hz', 'loudness_db', controls and what
      `output_splits` names, to audio.
    losses: As of `ControlModel`.
    sample_rate: Rate of the audio, in Hz.
    output_splits: As of `ControlModel`.
    data_path: Folder of the training set, whose statistics are kept in the
      checkpoint; `dafx_prepare solo` writes them. '' for none: loudness and
      octave of what is processed are then left as they are.
    tracker: Pitch tracker for what is processed; `pitch.TRACKERS`.
    judged_by: As of `ControlModel`.
    name: Name of the model.

  `render` takes the options of `CurveModel`.

  Raises:
    TypeError: An encoder that hears something else.
    ValueError: As of `ControlModel`; or statistics that are none.
    FileNotFoundError: There are no statistics.
  """

  modes = (*base.Model.modes, 'export')
  encoder: decoders.CurveEncoder

  def __init__(
    self,
    encoder: decoders.CurveEncoder = gin.REQUIRED,
    processor_group: ddsp.processors.ProcessorGroup = gin.REQUIRED,
    losses: Sequence[tf.keras.layers.Layer] = gin.REQUIRED,
    sample_rate: int = 16000,
    output_splits: Sequence[tuple[str, int]] = (),
    data_path: str = '',
    tracker: str = 'swift_f0',
    judged_by: str = 'loss',
    name: str = 'instrument_model',
  ):
    if not isinstance(encoder, decoders.CurveEncoder):
      raise TypeError(
        f'encoder is {kinds.kind_of(encoder)}; an InstrumentModel hears pitch '
        'and loudness: give it @encoders.F0LoudnessDecoder().'
      )
    super().__init__(
      encoder,
      processor_group,
      losses,
      sample_rate,
      output_splits,
      judged_by=judged_by,
      name=name,
    )
    self.frame_rate = encoder.frame_rate
    self._keep_statistics(data_path, tracker)

  def call(
    self,
    features: Mapping[str, tf.Tensor],
    return_losses: bool = False,
    training: bool = False,
  ) -> Any:
    """Runs the model; see `ControlModel.call`.

    DDSP's synthesisers make as much as the batch has.
    """
    n_samples = features['audio'].shape[1]
    with rendering.at_length(self.processor_group, n_samples):
      return super().call(features, return_losses, training)

  def remark(self, outputs: Mapping[str, Any]) -> str:
    """Says whether all partials are silent; see `Model.remark`."""
    confidence = outputs.get('f0_confidence')
    if confidence is not None and np.mean(confidence) < pitch.VOICED:
      return ''
    tones, noises = self._synths(_TONES), self._synths(_NOISES)
    noise = sum(_rms(outputs[name]['signal']) for name in noises)
    levels = [_rms(outputs[name]['signal']) for name in tones]
    # Of what is not finite, nothing is said here.
    if not tones or not all(level < _SILENT * noise for level in levels):
      return ''
    advice = ['a lower dafx.training.Trainer.learning_rate'] + [
      f'softer noise (initial_bias of {name}, now {module.initial_bias:g})'
      for name, module in noises.items()
    ]
    advice += [
      f'softer high partials (initial_tilt_db of {name}, now 0; try -6)'
      for name, module in tones.items()
      if isinstance(module, synths.StreamingHarmonic)
      and module.initial_tilt_db == 0.0
    ]
    return (
      f'The partials of {", ".join(tones)} are silent: what sounds is noise. '
      'If that stays so, begin again in another folder, with '
      f'{" or ".join(advice)}.'
    )

  def _synths(self, kinds_of_synths):
    """Returns the synthesisers of some kinds that run, by name."""
    found = processors.modules(self.active_group).items()
    return {n: m for n, m in found if isinstance(m, kinds_of_synths)}

  def play(
    self, curves: Mapping[str, np.ndarray], source: sources.Source
  ) -> dict[str, np.ndarray]:
    """Returns what the decoder sets for curves; see `CurveModel.play`."""
    curves = dict(curves)
    if 'audio' in self.encoder.features_used:
      heard = sources.resampled(source, self.sample_rate)
      audio = np.concatenate(list(heard.blocks()))[:, 0]
      n_samples = len(curves['f0_hz']) * self.hop_size
      curves['audio'] = np.pad(audio, (0, n_samples - len(audio)))
    parts = [self.controls_of(x) for x in self.encoder.embed_curves(curves)]
    return {
      key: np.concatenate([part[key][0] for part in parts]) for key in parts[0]
    }

  def as_stream(self, block_size: int) -> streams_lib.Stream:
    """Returns the model as a stream of curves; see `Model.as_stream`.

    Args:
      block_size: Samples of a block; at least a frame, and whole ones.

    Raises:
      ValueError: Its decoder or its graph cannot stream.
    """
    nodes = processors.nodes(self.processor_group).values()
    still = [node.identity for node in nodes if not node.streams]
    if still:
      raise ValueError(
        f'{", ".join(still)} of the graph cannot stream, so the model cannot '
        'be exported as it is. These can: synths.StreamingHarmonic, '
        'synths.StreamingFilteredNoise, effects.Fir. `python -m dafx.ddsp '
        "export` exports runs of DDSP's own trainer."
      )
    self.make_variables()
    n_frames = max(block_size // self.hop_size, 1)
    return streams_lib.InstrumentStream(self, n_frames * self.hop_size)


def _rms(signal):
  return float(np.sqrt(np.mean(np.square(signal))))
