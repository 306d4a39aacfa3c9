"""Models that play an instrument: pitch and loudness in, audio out."""

from collections.abc import Mapping, Sequence
from typing import Any

import ddsp
import gin
import numpy as np
import tensorflow as tf
from absl import logging

from dafx import _folders, pitch
from dafx.audio import sources
from dafx.training import transfer
from dafx.training.models import control, decoders, rendering
from dafx.training.models import outputs as automation

# Seconds of voiced sound below which a training is not begun.
_LEAST_VOICED_S = 10.0


@gin.register(module='dafx.training.models')
class InstrumentModel(control.ControlModel):
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
    encoder: A `F0LoudnessDecoder`.
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

  `render` takes 'transpose' in semitones, 'octave', None for the nearest to the
  training set where nothing is transposed, 'autotune' from 0 to 1, 'quiet_db',
  by how much what is no note is turned down, and 'threshold', how sure a note
  must be.

  Raises:
    TypeError: An encoder that hears something else.
    ValueError: As of `ControlModel`; or statistics that are none.
    FileNotFoundError: There are no statistics.
  """

  encoder: decoders.F0LoudnessDecoder
  options = ('transpose', 'octave', 'autotune', 'quiet_db', 'threshold')
  judges = ('loss',)
  measures = ('mr_stft', 'average_spectrum_db', 'crest_error_db', 'mae')

  def __init__(
    self,
    encoder: decoders.F0LoudnessDecoder = gin.REQUIRED,
    processor_group: ddsp.processors.ProcessorGroup = gin.REQUIRED,
    losses: Sequence[tf.keras.layers.Layer] = gin.REQUIRED,
    sample_rate: int = 16000,
    output_splits: Sequence[tuple[str, int]] = (),
    data_path: str = '',
    tracker: str = 'swift_f0',
    judged_by: str = 'loss',
    name: str = 'instrument_model',
  ):
    if not isinstance(encoder, decoders.F0LoudnessDecoder):
      raise TypeError(
        f'encoder is {type(encoder).__name__}; an InstrumentModel hears pitch '
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
    self.tracker = tracker
    # In the checkpoint, so that a model needs nothing beside it; not among the
    # weights, which are numbers.
    text = tf.Variable('', trainable=False, dtype=tf.string)
    self.kept = tf.train.Checkpoint(statistics=text)
    self._data_path = data_path

  @property
  def statistics(self) -> transfer.Statistics | None:
    """What is known of the training set; None for nothing."""
    text = self.kept.statistics.numpy().decode()
    return transfer.Statistics.from_json(text) if text else None

  def start(self):
    """Reads the statistics of the training set.

    Raises:
      FileNotFoundError: There are none.
      ValueError: They are damaged, or tell of too little sound.
    """
    if not self._data_path:
      return
    path = _folders.expand_user(self._data_path) / 'statistics.json'
    if not path.exists():
      raise FileNotFoundError(
        f'{path}: there are no statistics of the recordings. `dafx_prepare '
        'solo` writes them beside its TFRecord files; without them set '
        'InstrumentModel.data_path to an empty string, and loudness and octave '
        'of what is processed are left as they are.'
      )
    text = path.read_text(encoding='utf-8')
    found = transfer.Statistics.from_json(text)
    if found.voiced_s < _LEAST_VOICED_S:
      raise ValueError(
        f'{path} tells of {found.voiced_s:.1f} s of notes. An instrument takes '
        f'{_LEAST_VOICED_S:g} s at the very least, and 10 minutes to sound '
        'well: give dafx_prepare solo more recordings.'
      )
    self.kept.statistics.assign(found.to_json())

  def find_curves(self, source: sources.Source) -> dict[str, np.ndarray]:
    """Finds pitch and loudness of a file.

    Args:
      source: Audio of any rate and channels, which are mixed.

    Returns:
      'f0_hz', 'f0_confidence' and 'loudness_db', [n_frames] each.
    """
    heard = sources.resampled(sources.mixed(source), pitch.SAMPLE_RATE)
    audio = np.concatenate(list(heard.blocks()))[:, 0]
    form = pitch.SAMPLE_RATE, self.encoder.frame_rate
    f0_hz, confidence = pitch.estimate(audio, *form, self.tracker)
    if not f0_hz.any():
      logging.warning(
        'No pitch was found: the sound is silent, noisy, of several voices, or '
        'out of the range of %s. Loudness and octave are left as they are.',
        self.tracker,
      )
    return {
      'f0_hz': f0_hz,
      'f0_confidence': confidence,
      'loudness_db': pitch.loudness_db(audio, *form),
    }

  def render(
    self, source: sources.Source, *args: Any, **options: Any
  ) -> rendering.Rendering:
    """Plays a recording of one voice on the instrument.

    Its pitch and loudness are found and made fit for the instrument
    (`transfer.Transfer`), and the graph plays them at the model's rate.

    Args:
      source: The audio, of any length, rate and channels; one channel comes
        out.
      *args: None.
      **options: Those of `options`; see `transfer.Transfer`.

    Raises:
      ValueError: Options out of their range.
    """
    del args
    wanted = transfer.Transfer(**options)
    frame_rate = self.encoder.frame_rate
    found = self.find_curves(source)
    statistics = self.statistics
    if statistics is None:
      logging.info(
        'The model has no statistics of its recordings: loudness and octave '
        'are left as they are.'
      )
    curves = wanted.apply(found, frame_rate, statistics)
    mono = sources.mixed(source)
    n_samples = -(-source.n_samples * self.sample_rate // source.sample_rate)
    n_frames = -(-n_samples // self.encoder.hop_size)
    curves = {key: _fitted(value, n_frames) for key, value in curves.items()}
    raw = self.play(curves)
    driven = self.driven
    points = {
      **raw,
      **{key: value[:, np.newaxis] for key, value in curves.items()},
    }
    times_s = np.arange(n_frames) / frame_rate
    values = automation.in_port_units(driven, raw)
    return rendering.Rendering(
      self.processor_group,
      mono,
      self.sample_rate,
      points,
      times_s + 0.5 / frame_rate,  # the middles of frames, which so stay
      driven,
      automation.Automation(
        list(driven.values()), values, values, times_s, True, curves
      ),
      control_step=self.encoder.hop_size,
    )

  def play(self, curves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns what the decoder sets for curves.

    Args:
      curves: 'f0_hz' and 'loudness_db', [n_frames] each.

    Returns:
      {input of the DAG: [n_frames, size]}; in [0, 1] for plugins.
    """
    parts = [self.controls_of(x) for x in self.encoder.embed_curves(curves)]
    return {
      key: np.concatenate([part[key][0] for part in parts]) for key in parts[0]
    }

  def baselines(self, seed: int | Sequence[int]) -> dict[str, dict]:
    """Returns none: no setting of an instrument goes without saying."""
    del seed
    return {}


def _fitted(curve, n_frames):
  """Cuts a curve, or goes on with its last value, to a number of frames."""
  missing = max(n_frames - len(curve), 0)
  return np.pad(curve, (0, missing), mode='edge')[:n_frames]
