"""What models that play curves of pitch and loudness have in common."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from dafx import _folders, effects, pitch, processors
from dafx.audio import sources
from dafx.training import transfer
from dafx.training.models import base, rendering
from dafx.training.models import outputs as automation

# Seconds of voiced sound below which a training is not begun.
_LEAST_VOICED_S = 10.0


class CurveModel(base.Model):
  """A model that plays a voice's pitch and loudness on what it learned.

  `render` takes 'transpose' in semitones, 'octave', None for the nearest to the
  training set where nothing is transposed, 'autotune' from 0 to 1, 'quiet_db',
  by how much what is no note is turned down, and 'threshold', how sure a note
  must be.

  Attributes:
    frame_rate: Frames per second of the curves.
    driven: Nodes of the graph that curves set, by the name of the input.
    tracker: Pitch tracker for what is processed; `pitch.TRACKERS`.
  """

  options: tuple[str, ...] = (
    'transpose',
    'octave',
    'autotune',
    'quiet_db',
    'threshold',
  )
  judges: tuple[str, ...] = ('loss',)
  measures: tuple[str, ...] = (
    'mr_stft',
    'average_spectrum_db',
    'crest_error_db',
    'mae',
  )
  mixes_channels = True
  frame_rate: int
  driven: dict[str, processors.Node]
  tracker: str

  def _keep_statistics(self, data_path: str, tracker: str):
    """Prepares what is kept of a training set; for constructors.

    Args:
      data_path: Folder of the training set, or '' for none.
      tracker: Pitch tracker for what is processed.
    """
    self.tracker = tracker
    # In the checkpoint, so that a model needs nothing beside it; not among the
    # weights, which are numbers.
    text = tf.Variable('', trainable=False, dtype=tf.string)
    self.kept = tf.train.Checkpoint(statistics=text)
    self._data_path = data_path

  @property
  def hop_size(self) -> int:
    """Samples per frame."""
    return self.sample_rate // self.frame_rate

  @property
  def statistics(self) -> transfer.Statistics | None:
    """What is known of the training set; None for nothing."""
    text = self.kept.statistics.numpy().decode()
    return transfer.Statistics.from_json(text) if text else None

  def start(self, has_weights: bool = False):
    """Reads the statistics of the training set.

    Args:
      has_weights: Weights of another run come with its statistics, which stay
        where this one has no `data_path`.

    Raises:
      FileNotFoundError: There are none.
      ValueError: They are damaged, or tell of too little sound.
    """
    del has_weights
    if not self._data_path:
      return
    path = _folders.expand_user(self._data_path) / 'statistics.json'
    if not path.exists():
      raise FileNotFoundError(
        f'{path}: there are no statistics of the recordings. `dafx_prepare '
        'solo` writes them beside its TFRecord files; without them set '
        f'{type(self).__name__}.data_path to an empty string, and loudness and '
        'octave of what is processed are left as they are.'
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
    form = pitch.SAMPLE_RATE, self.frame_rate
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
    frame_rate = self.frame_rate
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
    n_frames = -(-n_samples // self.hop_size)
    curves = {key: _fitted(value, n_frames) for key, value in curves.items()}
    raw = self.play(curves, mono)
    driven = self.driven
    points = {
      **{key: value[:, np.newaxis] for key, value in curves.items()},
      **raw,  # in which a decoder may have another pitch
    }
    times_s = np.arange(n_frames) / frame_rate
    held, settings = _held(self.processor_group, n_frames)
    values = {**automation.in_port_units(driven, raw), **settings}
    return rendering.Rendering(
      self.processor_group,
      mono,
      self.sample_rate,
      points,
      times_s + 0.5 / frame_rate,  # the middles of frames, which so stay
      driven,
      automation.Automation(
        [*driven.values(), *held],
        values,
        values,
        times_s,
        True,
        curves,
      ),
      control_step=self.hop_size,
    )

  @abc.abstractmethod
  def play(
    self, curves: Mapping[str, np.ndarray], source: sources.Source
  ) -> dict[str, np.ndarray]:
    """Returns what the network sets for curves.

    Args:
      curves: 'f0_hz' and 'loudness_db', [n_frames] each.
      source: The sound that they were found in, of one channel.

    Returns:
      {input of the graph: [n_frames, size]}; in [0, 1] for plugins.
    """

  def baselines(self, seed: int | Sequence[int]) -> dict[str, dict]:
    """Returns none: no setting of an instrument goes without saying."""
    del seed
    return {}


def _held(group, n_frames):
  """Returns nodes that `effects.Const` sets, and to what, as automation.

  Args:
    group: Group of nodes.
    n_frames: Frames of the curves.

  Returns:
    (Nodes, {name: controls in port units, [n_frames, n_controls]}).
  """
  modules, driven, settings = processors.modules(group), {}, {}
  for name, keys, *_ in group.dag:
    members = processors.nodes(group)[name].members
    for key, member in zip(list(keys)[1:], members):
      source = modules.get(key.removesuffix('/controls'))
      if isinstance(source, effects.Const):
        driven[member.name] = member
        setting = source(tf.zeros([1, 1]))['controls'][0].numpy()
        settings[member.name] = np.tile(setting, [n_frames, 1])
  return list(driven.values()), automation.in_port_units(driven, settings)


def _fitted(curve, n_frames):
  """Cuts a curve, or goes on with its last value, to a number of frames."""
  missing = max(n_frames - len(curve), 0)
  return np.pad(curve, (0, missing), mode='edge')[:n_frames]
