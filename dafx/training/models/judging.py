"""By what figure a validation is judged: NumPy audio of all its items in.

The figure decides which checkpoint is the best, when the learning rate falls
and when training stops. Losses are what has a gradient; figures are what is
asked for.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from dafx import metrics

LOSS = 'loss'
# Input, target and output of an item, [n_samples] or [n_samples, n_channels].
Item = tuple[np.ndarray, np.ndarray, np.ndarray]

# A dB or an LU counts as much as so much of MR-STFT.
_PER_DB = 0.1
# Events are where input and target differ by this share of the input's power,
# over so many seconds at a time; what they should fall by, in dB.
_EVENT_SHARE = 0.1
_EVENT_S = 0.01
_EVENT_DB = 20.0
_LEAST_CHANGE_DB = -100.0


def _equal_level_row(item, sample_rate):
  _, target, audio = item
  # What is not finite is as far as silence.
  is_lost = not (np.all(np.isfinite(audio)) and np.any(audio))
  if is_lost:
    audio = target
  values = metrics.matched(target, audio, sample_rate)
  row = [
    values['matched_mr_stft'],
    values['average_spectrum_db'],
    values['crest_error_db'],
    metrics.loudness_difference(target, audio, sample_rate),
  ]
  if not np.isfinite(row).all():
    return []
  return [math.inf] * len(row) if is_lost else [float(x) for x in row]


def _equal_level_of(rows):
  rows = [row for row in rows if row]
  if not rows:
    return {}
  mr_stft, *errors = (float(x) for x in np.mean(rows, axis=0))
  names = ('average_spectrum_db', 'crest_error_db', 'loudness_difference')
  return {
    'figure': mr_stft + _PER_DB * sum(errors),
    'matched_mr_stft': mr_stft,
    **dict(zip(names, errors, strict=True)),
  }


def equal_level(items: Iterable[Item], sample_rate: float) -> dict[str, float]:
  """Judges masters: tone, dynamics and detail at equal level, and loudness.

  Args:
    items: Input, target and output of each.
    sample_rate: In Hz.

  Returns:
    Means over items: 'matched_mr_stft', 'average_spectrum_db',
    'crest_error_db' (see `metrics.matched`), 'loudness_difference' in LU, and
    'figure', the first plus a tenth of the sum of the others. Items whose
    target is silent or shorter than 8,192 samples have no figure and are left
    out; {} if all are. Silence in place of a target is infinitely far.
  """
  return judge('equal_level', items, sample_rate)


def _events_row(item, sample_rate):
  size = max(round(_EVENT_S * sample_rate), 1)

  def powers(signal):
    signal = np.asarray(signal, np.float64).reshape(len(signal), -1)
    whole = len(signal) // size * size
    return np.sum(signal[:whole].reshape(whole // size, -1) ** 2, axis=1)

  source, target, audio = item
  before, after = powers(source), powers(audio)
  difference = powers(np.subtract(source, target, dtype=np.float64))
  is_event = difference > _EVENT_SHARE * before
  return [
    float(energy[mask].sum())
    for mask in (~is_event, is_event)
    for energy in (before, after)
  ]


def _events_of(rows):
  energies = np.zeros([2, 2])  # (rest, events) x (before, after)
  for row in rows:
    energies += np.reshape(row, [2, 2])
  if not np.all(energies[:, 0] > 0):
    return {}
  if not np.isfinite(energies).all():
    rest_db = event_db = math.inf
  else:
    floor = 10.0 ** (_LEAST_CHANGE_DB / 10.0)
    rest_db, event_db = (
      float(10.0 * np.log10(max(after / before, floor)))
      for before, after in energies
    )
  return {
    'figure': abs(rest_db) + max(0.0, _EVENT_DB + event_db) / 10.0,
    'events_change_db': event_db,
    'rest_change_db': rest_db,
  }


def events(items: Iterable[Item], sample_rate: float) -> dict[str, float]:
  """Judges what is to take events out of a sound and leave the rest alone.

  Batches have no labels: an event is where input and target differ by more than
  a tenth of the input's power, over 10 ms at a time.

  Args:
    items: Input, target and output of each.
    sample_rate: In Hz.

  Returns:
    'events_change_db' and 'rest_change_db', the changes of the energy in all
    events and outside of them, over all items together, at least -100; and
    'figure', the size of the latter plus a tenth of what the former lacks of
    20 dB: 0 where events are 20 dB down and all else is as it was. {} where
    there are no events, or nothing else.
  """
  return judge('events', items, sample_rate)


def _esr_row(item, sample_rate):
  del sample_rate
  _, target, audio = item
  target = np.asarray(target, np.float64)
  return [float(np.sum((audio - target) ** 2)), float(np.sum(target**2))]


def _esr_of(rows):
  error, energy = (sum(row[i] for row in rows) for i in (0, 1))
  return {'figure': float(error / energy)} if energy > 0 else {}


def esr(items: Iterable[Item], sample_rate: float) -> dict[str, float]:
  """Judges effects: energy of the error over that of the target.

  Args:
    items: Input, target and output of each.
    sample_rate: Not used: the figure is of samples.

  Returns:
    'figure', the ratio for all items together, so that quiet ones count for
    what they are; {} where all targets are silent.
  """
  return judge('esr', items, sample_rate)


@dataclasses.dataclass(frozen=True)
class Figure:
  """A way to judge.

  Attributes:
    row: Called (item, sample_rate); returns what is measured of an item, a list
      of numbers.
    of: Called with the rows of all items; returns values by name, 'figure'
      among them, or {}.
    words: What it is, to be read after 'judged by'.
  """

  row: Callable[[Item, float], list[float]]
  of: Callable[[Sequence[list[float]]], dict[str, float]]
  words: str


FIGURES: Mapping[str, Figure] = {
  'equal_level': Figure(
    _equal_level_row,
    _equal_level_of,
    'MR-STFT at equal level plus a tenth of the errors of average spectrum and '
    'crest (dB) and loudness (LU)',
  ),
  'events': Figure(
    _events_row,
    _events_of,
    'the change of all else (dB) plus a tenth of what the change of events '
    'lacks of -20 dB',
  ),
  'esr': Figure(_esr_row, _esr_of, 'the error-to-signal ratio'),
}


def check_judge(judged_by: str, judges: Collection[str]) -> str:
  """Returns by what validations are judged.

  Args:
    judged_by: A name.
    judges: Those that are allowed.

  Raises:
    ValueError: It is none of them.
  """
  if judged_by not in judges:
    raise ValueError(
      f'judged_by={judged_by!r} must be one of {", ".join(map(repr, judges))}.'
    )
  return judged_by


def judge(
  judged_by: str, items: Iterable[Item], sample_rate: float
) -> dict[str, float]:
  """Returns the figure of a validation, and its parts.

  Args:
    judged_by: 'loss', or one of FIGURES.
    items: Input, target and output of each.
    sample_rate: In Hz.

  Returns:
    'figure' and its parts by name; {} for 'loss', or where there is no value.
  """
  if judged_by == LOSS:
    return {}
  figure = FIGURES[judged_by]
  return figure.of([figure.row(item, sample_rate) for item in items])
