"""What an evaluation measures: names for people, and how to read them.

Tables, pages and logs take their headings from here, so that all say the same
of a figure: its unit, whether it is at equal level, and what it follows.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from absl import logging

from dafx import metrics
from dafx.metrics import pairs


@dataclasses.dataclass(frozen=True)
class Measure:
  """How to call and read one column of a table.

  Attributes:
    name: Key in the rows of an evaluation.
    heading: Words for people, with a capital and without the unit.
    unit: Such as 'dB' or 'LU'; '' for a number without one.
    at_equal_level: Whether a gain on the output leaves the figure as it is;
      otherwise it is raw, and follows the level of the file.
    follows: What the figure follows, to be read after 'follows'.
    lower_is_better: False if higher is better, None if neither is.
  """

  name: str
  heading: str
  unit: str
  at_equal_level: bool
  follows: str
  lower_is_better: bool | None

  @property
  def kind(self) -> str:
    """Says whether the figure is 'at equal level' or 'raw'."""
    return 'at equal level' if self.at_equal_level else 'raw'

  @property
  def title(self) -> str:
    """Heading of a column: with the unit, and whether it is raw."""
    unit = f' ({self.unit})' if self.unit else ''
    return f'{self.heading}{unit}, {self.kind}'


_ALL = (
  Measure(
    name='loudness_difference',
    heading='Loudness error',
    unit='LU',
    at_equal_level=False,
    follows='the level as it is heard, and nothing else',
    lower_is_better=True,
  ),
  Measure(
    name='true_peak_dbtp',
    heading='True peak',
    unit='dBTP',
    at_equal_level=False,
    follows='the highest peak of the output; above 0 it clips when played',
    lower_is_better=None,
  ),
  Measure(
    name='matched_mr_stft',
    heading='MR-STFT',
    unit='',
    at_equal_level=True,
    follows='tone, dynamics and noise, at equal level, lag and polarity',
    lower_is_better=True,
  ),
  Measure(
    name='average_spectrum_db',
    heading='Average spectrum error',
    unit='dB',
    at_equal_level=True,
    follows='the tone of the whole file, in third octaves',
    lower_is_better=True,
  ),
  Measure(
    name='crest_error_db',
    heading='Crest error',
    unit='dB',
    at_equal_level=True,
    follows='the highest peak over the mean level: limiting, clipping',
    lower_is_better=True,
  ),
  Measure(
    name='width_error_db',
    heading='Width error',
    unit='dB',
    at_equal_level=True,
    follows='the level of the side over that of the middle',
    lower_is_better=True,
  ),
  Measure(
    name='mono_sum_error_db',
    heading='Mono sum error',
    unit='dB',
    at_equal_level=True,
    follows='what is lost when both channels are played as one',
    lower_is_better=True,
  ),
  Measure(
    name='mr_stft',
    heading='MR-STFT',
    unit='',
    at_equal_level=False,
    follows='mostly the level of the file, and its lag',
    lower_is_better=True,
  ),
  Measure(
    name='mae',
    heading='Mean absolute error',
    unit='',
    at_equal_level=False,
    follows='the level of the file, and its lag',
    lower_is_better=True,
  ),
  Measure(
    name='esr',
    heading='Error-to-signal ratio',
    unit='',
    at_equal_level=False,
    follows='the level of the file, its lag and its polarity',
    lower_is_better=True,
  ),
  Measure(
    name='si_sdr',
    heading='SI-SDR',
    unit='dB',
    at_equal_level=True,
    follows='the waveform: its lag, but neither its level nor its polarity',
    lower_is_better=False,
  ),
  Measure(
    name='dc',
    heading='DC error',
    unit='',
    at_equal_level=False,
    follows='the mean of the samples',
    lower_is_better=True,
  ),
  Measure(
    name='polarity',
    heading='Polarity',
    unit='',
    at_equal_level=True,
    follows='the waveform: its lag and whether it is upside down',
    lower_is_better=False,
  ),
  Measure(
    name='mfcc_cosine',
    heading='MFCC cosine',
    unit='',
    at_equal_level=True,
    follows='the envelope of the spectrum, below its own maximum, and the lag',
    lower_is_better=True,
  ),
  Measure(
    name='mfcc_cosine_rows',
    heading='MFCC cosine over time',
    unit='',
    at_equal_level=True,
    follows='how the envelope of the spectrum moves, and the lag',
    lower_is_better=True,
  ),
  Measure(
    name='rms_difference_db',
    heading='RMS error',
    unit='dB',
    at_equal_level=False,
    follows='the level of the file, and nothing else',
    lower_is_better=True,
  ),
  Measure(
    name='crest_difference_db',
    heading='Crest error of all channels',
    unit='dB',
    at_equal_level=True,
    follows='the highest peak over the mean level, without aligning',
    lower_is_better=True,
  ),
  Measure(
    name='loss',
    heading='Loss',
    unit='',
    at_equal_level=False,
    follows='what the model was trained on',
    lower_is_better=True,
  ),
  Measure(
    name='pesq',
    heading='PESQ',
    unit='MOS-LQO',
    at_equal_level=True,
    follows='how good speech sounds',
    lower_is_better=False,
  ),
  Measure(
    name='events_change_db',
    heading='Change of all events',
    unit='dB',
    at_equal_level=False,
    follows='what is left of what is labelled, and the level of the file',
    lower_is_better=True,
  ),
  Measure(
    name='breath_change_db',
    heading='Change of breaths',
    unit='dB',
    at_equal_level=False,
    follows='what is left of them, and the level of the file',
    lower_is_better=True,
  ),
  Measure(
    name='pop_change_db',
    heading='Change of pops',
    unit='dB',
    at_equal_level=False,
    follows='what is left of them, and the level of the file',
    lower_is_better=True,
  ),
  Measure(
    name='rest_change_db',
    heading='Change of all else',
    unit='dB',
    at_equal_level=False,
    follows='what became of the rest, and the level of the file; best at 0',
    lower_is_better=None,
  ),
  Measure(
    name='rest_change_abs_db',
    heading='Size of the change of all else',
    unit='dB',
    at_equal_level=False,
    follows='what became of the rest, and the level of the file',
    lower_is_better=True,
  ),
)
MEASURES: dict[str, Measure] = {measure.name: measure for measure in _ALL}


def of(name: str) -> Measure:
  """Returns the measure of a name; for one that is not listed, just that name.

  Args:
    name: Key in the rows of an evaluation, such as 'mr_stft', or that of a kind
      of labelled events, '<kind>_change_db'.
  """
  unlisted = Measure(
    name=name,
    heading=name,
    unit='',
    at_equal_level=False,
    follows='',
    lower_is_better=None,
  )
  return MEASURES.get(name, unlisted)


# ---------------------- Measuring ---------------------------------------------
# Called (target, audio, sample_rate).
Metric = Callable[[np.ndarray, np.ndarray, int], float]


def _difference(metric):
  """Returns the absolute difference of a metric of one signal."""
  return lambda target, audio, sample_rate: abs(metric(target) - metric(audio))


def _of_pair(metric):
  """Returns a metric of two signals that asks for no rate."""
  return lambda target, audio, sample_rate: metric(target, audio)


_FUNCTIONS: dict[str, Metric] = {
  'loudness_difference': metrics.loudness_difference,
  'true_peak_dbtp': lambda target, audio, rate: metrics.true_peak_dbtp(
    audio, rate
  ),
  'mr_stft': _of_pair(metrics.mr_stft),
  'mae': _of_pair(metrics.mae),
  'rms_difference_db': _difference(metrics.rms_db),
  'crest_difference_db': _difference(metrics.crest_factor_db),
  'esr': _of_pair(metrics.esr),
  'si_sdr': _of_pair(metrics.si_sdr),
  'dc': _of_pair(metrics.dc),
  'polarity': _of_pair(metrics.polarity),
  'pesq': metrics.pesq,
}
# What is measured together: by the name that it has there.
_TOGETHER: tuple[tuple[Callable, dict[str, str]], ...] = (
  (
    metrics.matched,
    {
      name: name
      for name in (
        'matched_mr_stft',
        'average_spectrum_db',
        'crest_error_db',
        'width_error_db',
        'mono_sum_error_db',
      )
    },
  ),
  (
    metrics.mfcc_cosines,
    {'frames': 'mfcc_cosine', 'rows': 'mfcc_cosine_rows'},
  ),
)


def measure(
  names: Iterable[str],
  target: np.ndarray,
  audio: np.ndarray,
  sample_rate: int,
  others: Mapping[str, Metric] | None = None,
  at_another_level: Mapping[str, float] | None = None,
) -> dict[str, float]:
  """Measures audio against its target.

  Args:
    names: Measures, by their names in the rows of an evaluation.
    target: Shape [n_samples, n_channels].
    audio: Of that shape.
    sample_rate: Of both, in Hz.
    others: Further measures, called (target, audio, sample_rate), by name.
    at_another_level: What was measured of this audio times a gain: what is so
      at equal level is taken from there.

  Returns:
    Values by name; NaN where silence, or less than a frame, has no value. Width
    and mono sum are there for two channels alone.

  Raises:
    KeyError: A measure that there is not.
    ValueError: Audio of another shape, or that is not finite.
  """
  pairs.check_pair(target, audio)
  names = list(names)
  functions = {**_FUNCTIONS, **(others or {})}
  grouped = [name for _, group in _TOGETHER for name in group.values()]
  unknown = [n for n in names if n not in functions and n not in grouped]
  if unknown:
    raise KeyError(
      f'There is no measure {", ".join(unknown)}; there are '
      f'{", ".join([*grouped, *functions])}.'
    )
  values = {
    name: value
    for name, value in (at_another_level or {}).items()
    if name in names and of(name).at_equal_level
  }

  def call(function, name):
    try:
      return function(target, audio, sample_rate)
    except ValueError as error:  # silence, or shorter than a frame
      logging.info('No %s: %s', name, error)
      return math.nan

  for function, group in _TOGETHER:
    wanted = {k: n for k, n in group.items() if n in names and n not in values}
    if not wanted:
      continue
    found = call(function, ', '.join(wanted.values()))
    if isinstance(found, dict):
      values.update((n, found[k]) for k, n in wanted.items() if k in found)
    else:
      values.update(dict.fromkeys(wanted.values(), found))
  for name in names:
    if name in functions and name not in values:
      values[name] = call(functions[name], name)
  return {
    name: values[name] if math.isfinite(values[name]) else math.nan
    for name in names
    if name in values
  }
