"""Training data of effect models: recorded, or rendered by a plugin.

Batches are {'audio', 'target'} and, where an effect was recorded at several
settings, 'knobs', [batch, n_knobs] in [0, 1]. As in `data`, a batch depends on
the seed and the step alone.
"""

import functools
import importlib.resources
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ddsp
import gin
import numpy as np
import scipy.stats
from absl import logging

from dafx import _folders, effects, metrics
from dafx.audio import files as audio_files
from dafx.audio import sources
from dafx.training import captures, reading
from dafx.training.data import pairs as effect_pairs
from dafx.training.data import positions, provider

_DEMO_AUDIO = 'data_preparation/demo_audio'
# Correlation below which a target counts as upside down.
_INVERTED = -0.3


class Recordings(provider.CropProvider):
  """Crops of pairs that are held in memory.

  Args:
    recordings: (name, dry, wet, knobs, version) of each: audio of shape
      [n_samples], knobs in [0, 1] of shape [n_knobs], version as of an `Item`.
    knob_names: What the knobs are.
    sample_rate: Rate of the audio, in Hz.
    n_samples: Length of a crop.

  Raises:
    ValueError: A recording that is shorter than a crop.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import data
    >>> dry, knobs = np.ones(32000, np.float32), np.float32([0.3])
    >>> loud = data.Recordings(
    ...   [('loud', dry, 2 * dry, knobs, '')],
    ...   knob_names=['drive'],
    ...   sample_rate=16000,
    ...   n_samples=8000,
    ... )
    >>> loud.features
    {'audio': [8000], 'target': [8000], 'knobs': [1]}
  """

  def __init__(
    self,
    recordings: Sequence[tuple],
    knob_names: Sequence[str],
    sample_rate: int,
    n_samples: int,
  ):
    super().__init__(sample_rate, n_samples, n_channels=1)
    self.recordings = list(recordings)
    self._knob_names = tuple(knob_names)
    self._segments = []  # (recording, first sample)
    for index, (name, dry, wet, *_) in enumerate(self.recordings):
      for side, audio in (('input', dry), ('target', wet)):
        audio_files.check_finite(
          audio[:, np.newaxis], sample_rate, 0, f'{name} ({side})'
        )
      if len(dry) < n_samples:
        raise ValueError(
          f'{name} has {len(dry)} samples in this split, less than the crop of '
          f'n_samples={n_samples} (which holds the receptive field of the '
          'model and what is learned from). Take shorter crops or longer audio.'
        )
      starts = range(0, len(dry) - n_samples + 1, n_samples)
      self._segments += [(index, start) for start in starts]

  @property
  def n_items(self) -> int:
    """Crops that lie side by side in the recordings."""
    return len(self._segments)

  @property
  def knob_names(self) -> tuple[str, ...]:
    """What the columns of 'knobs' are."""
    return self._knob_names

  def _knobs(self, index):
    return self.recordings[self._segments[index][0]][3]

  def _length(self, index):
    # Room for a crop to begin at random before the next segment does.
    recording, start = self._segments[index]
    n_left = len(self.recordings[recording][1]) - start
    return min(n_left, 2 * self.n_samples - 1)

  def _span(self, index):
    recording, start = self._segments[index]
    return -start, len(self.recordings[recording][1]) - start

  def _name(self, index):
    return self.recordings[self._segments[index][0]][0]

  def _read(self, index, start, n_samples):
    recording, first = self._segments[index]
    _, dry, wet, *_ = self.recordings[recording]
    part = slice(first + start, first + start + n_samples)
    return np.stack([dry[part], wet[part]])[..., np.newaxis]

  def items(self) -> list[provider.Item]:
    """Returns the recordings, with the 'knobs' of those that have some."""
    return [
      provider.Item(
        name=name,
        input=sources.from_array(dry[:, np.newaxis], self.sample_rate),
        target=sources.from_array(wet[:, np.newaxis], self.sample_rate),
        options={'knobs': knobs} if self.knob_names else {},
        version=version,
      )
      for name, dry, wet, knobs, version in self.recordings
    ]


@gin.register(module='dafx.training.data')
class RecordingProvider(Recordings):
  """Recordings of an effect, in the layouts of `pairs`.

  Captures are taken as they come: files of other rates are resampled, channels
  are mixed to one, what one of two files has more is cut off, and the lag of
  the target is taken out, by blips at the start of the input or else by
  correlation. Neural Amp Modeler's standard inputs are known by their blips.
  What was done is logged, and so is what is clipped, silent or upside down. The
  lag is that at which the effect begins to answer, so that a causal network can
  learn it.

  Args:
    input_path: A dry file, or a folder of `*.input.wav`.
    target_path: The wet file, or a folder of `*.target.wav`; '' for the folder
      of the dry ones.
    split: 'train', 'valid' or 'test': parts of each file side by side; 'all'
      for a folder of a split of its own.
    sample_rate: Rate of the crops, in Hz.
    n_samples: Length of a crop.
    valid_fraction: Share of each file that is for validation.
    test_fraction: Share of each file that is for the test.
    align: Whether to take out what the target is late; if not, one that is late
      by blips, or by more than 2 ms, is refused.
    strict: Whether to refuse files of another rate, length or number of
      channels, and without blips a lag of more than 2 ms.

  Raises:
    FileNotFoundError: There is no such file or folder.
    ValueError: Pairs that do not fit together or these settings; the message
      says which.

  Examples:
    >>> import tempfile
    >>> import numpy as np
    >>> from dafx.audio import files
    >>> from dafx.training import data
    >>> folder = tempfile.mkdtemp()
    >>> dry = np.random.default_rng(0).uniform(-0.5, 0.5, [48000, 1])
    >>> files.write(f'{folder}/riff.input.wav', dry, sample_rate=16000)
    >>> wet = f'{folder}/D030.riff.target.wav'  # the knob D at 0.3
    >>> files.write(wet, np.tanh(2 * dry), sample_rate=16000)
    >>> drive = data.RecordingProvider(
    ...   folder, sample_rate=16000, n_samples=4000
    ... )
    >>> drive.knob_names
    ('D',)
  """

  def __init__(
    self,
    input_path: str = gin.REQUIRED,
    target_path: str = '',
    split: str = 'train',
    sample_rate: int = 48000,
    n_samples: int = 48000,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.1,
    align: bool = True,
    strict: bool = False,
  ):
    source = _folders.expand_user(input_path)
    target = _folders.expand_user(target_path) if target_path else None
    if source.is_dir():
      pairs = effect_pairs.find_effect_pairs(source, target)
    elif target is None or target.is_dir():
      raise ValueError(
        f'{source} is a file: target_path={target_path!r} must be the file of '
        'what the effect made of it.'
      )
    else:
      pairs = [effect_pairs.EffectPair(target.name, source, target)]
    columns = effect_pairs.knob_columns(pairs)
    mend: list[str] = [] if strict else ['sample_rate', 'channels', 'length']
    if align:
      mend += ['latency'] if strict else ['latency', 'lag']
    recordings = []
    for pair in pairs:
      paths = pair.input_path, pair.target_path
      version = reading.version(*paths)
      dry, wet = _read(pair.name, *paths, version, sample_rate, tuple(mend))
      start, stop = effect_pairs.contiguous_part(
        len(dry), split, valid_fraction, test_fraction
      )
      knobs = effect_pairs.knob_values(pair, columns)
      part = dry[start:stop], wet[start:stop]
      recordings.append((pair.name, *part, knobs, version))
    super().__init__(recordings, columns, sample_rate, n_samples)


@functools.lru_cache(maxsize=2)  # the splits of a task read it one by one
def _read(name, input_path, target_path, version, sample_rate, mend):
  """Returns both sides of a recording, and reports on it."""
  del version  # other files of these names are read anew
  sides = reading.read_pair(
    input_path, target_path, sample_rate, 1, mend, find_latency=True
  )
  dry, wet = sides.audio[:, 0], sides.target[:, 0]
  _report(name, dry, wet, sample_rate, sides.notes)
  return dry, wet


def _report(name, dry, wet, sample_rate, notes):
  """Logs what was mended, and what was found of polarity and levels."""
  notes = [*notes, *captures.find_faults(dry, wet, sample_rate)]
  if notes:
    logging.warning('%s: %s.', name, '; '.join(notes))
  correlation = metrics.polarity(dry, wet)
  if correlation < _INVERTED:
    logging.warning(
      '%s is upside down against its input (correlation %.2f). Models that '
      'learn from spectra alone do not hear it.',
      name,
      correlation,
    )


@gin.register(module='dafx.training.data')
class RenderedProvider(Recordings):
  """What an LV2 plugin makes of dry audio: to clone it into a network.

  Args:
    uri: The plugin.
    knobs: Symbols of controls that become the model's knobs; in [0, 1] over
      their range, in their scale.
    ranges: (low, high) in port units, by symbol, of knobs that are to move in
      less than the plugin's range.
    fixed: Values of other controls, in port units, and of parameters by URI.
    preset: A preset in place of the plugin's defaults; '' for none.
    dry_path: A file, or a folder; '' for the music that comes with dafx. Of a
      folder with subfolders train, valid and test each split has its own; other
      audio is split side by side.
    split: 'train', 'valid' or 'test'.
    sample_rate: Of the audio, in Hz; dry files are resampled.
    n_samples: Length of a crop.
    n_settings: Settings of the knobs that the audio is rendered at; they are
      spread evenly, and other ones for each split.
    seconds: Dry audio per setting, at most.
    input_gain_db: Gain of the dry audio.
    valid_fraction: Share of validation where the split is side by side.
    test_fraction: Share of the test there.
    seed: Seed of settings and of which audio is taken.

  Raises:
    FileNotFoundError: There is no dry audio.
    ValueError: No such plugin or symbol, or settings out of range.
    lv2.PluginError: The plugin cannot be run here.

  Examples:
    >>> from dafx.training import data
    >>> tube = data.RenderedProvider(
    ...   'http://invadarecords.com/plugins/lv2/tube/mono',
    ...   knobs=['drive'],
    ...   n_settings=3,
    ...   seconds=1.0,
    ... )
    >>> [item.input.n_samples for item in tube.items()]
    [48000, 48000, 48000]
  """

  def __init__(
    self,
    uri: str = gin.REQUIRED,
    knobs: Sequence[str] = (),
    ranges: Mapping[str, Sequence[float]] | None = None,
    fixed: Mapping[str, Any] | None = None,
    preset: str = '',
    dry_path: str = '',
    split: str = 'train',
    sample_rate: int = 48000,
    n_samples: int = 48000,
    n_settings: int = 1,
    seconds: float = 60.0,
    input_gain_db: float = 0.0,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
  ):
    self.processor = effects.LV2Plugin(
      uri,
      trainable=list(knobs),
      fixed=fixed,
      ranges=ranges,
      sample_rate=sample_rate,
      preset=preset or None,
      name='target',
    )
    offset = ('train', 'valid', 'test').index(split)
    dry = _dry_audio(
      dry_path, split, sample_rate, valid_fraction, test_fraction
    )
    n_dry = max(int(seconds * sample_rate), n_samples)
    settings = spread_settings(n_settings, len(knobs), 3 * seed + offset)
    rng = np.random.default_rng([seed, offset])
    recordings = []
    for index, setting in enumerate(settings):
      start = positions.crop_start(rng, len(dry), n_dry)
      gain = ddsp.core.db_to_amplitude(input_gain_db)
      part = (gain * dry[start : start + n_dry]).astype(np.float32)
      wet = self.processor(part[np.newaxis], setting[np.newaxis])[0].numpy()
      name = f'{split} setting {index}'
      recordings.append((name, part, wet, setting, ''))
    names = self.processor.symbols
    super().__init__(recordings, names, sample_rate, n_samples)


def spread_settings(n_settings: int, n_knobs: int, seed: int) -> np.ndarray:
  """Draws settings that cover the range of each knob evenly.

  A Latin hypercube (McKay et al., 1979): of n intervals of a knob each has one
  setting.

  Args:
    n_settings: Number of settings.
    n_knobs: Number of knobs.
    seed: Seed of the draws.

  Returns:
    In [0, 1], shape [n_settings, n_knobs], float32.

  Examples:
    >>> from dafx.training import data
    >>> data.spread_settings(n_settings=8, n_knobs=2, seed=0).shape
    (8, 2)
  """
  if not n_knobs:
    return np.zeros([n_settings, 0], np.float32)
  sampler = scipy.stats.qmc.LatinHypercube(n_knobs, rng=seed)
  return sampler.random(n_settings).astype(np.float32)


def _dry_audio(path, split, sample_rate, valid_fraction, test_fraction):
  """Returns the dry audio of a split, one file after the other, [n_samples]."""
  if path:
    path = _folders.expand_user(path)
  else:
    path = pathlib.Path(
      str(importlib.resources.files('dafx.training') / _DEMO_AUDIO)
    )
  is_split = (path / split).is_dir()
  if path.is_dir():
    files = audio_files.find_audio(path / split if is_split else path)
  else:
    audio_files.read_info(path)
    files = [path]
  parts = []
  for file in files:
    audio, rate = audio_files.read(file)
    audio = sources.resample(audio.mean(axis=1), rate, sample_rate)
    start, stop = (0, len(audio))
    if not is_split:
      start, stop = effect_pairs.contiguous_part(
        len(audio), split, valid_fraction, test_fraction
      )
    parts.append(audio[start:stop])
  return np.concatenate(parts)
