"""What the figures of an evaluation say, in words: learned, and not learned.

Nothing is claimed that the songs do not bear: a system is called closer to the
target, or further from it, only where the mean of its differences from another,
file by file, is on one side of zero with 95 % confidence for songs like these.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dafx.training.evaluation import measures, report, tables

CLOSER, FURTHER, UNCLEAR = 'closer', 'further', 'unclear'


def compare(
  rows: Sequence[Mapping],
  measure: measures.Measure,
  system: str,
  other: str,
  song_of: Callable[[str], str] = str,
  n_resamples: int = 2000,
  seed: int = 0,
) -> str:
  """Says whether a system is closer to the target than another.

  Args:
    rows: As `evaluate.evaluate` returns them.
    measure: Of which lower is better.
    system: Name in the rows.
    other: Likewise.
    song_of: Returns the song that a file is of, by the file's name; by default
      each is one of its own.
    n_resamples: How often the songs are drawn anew for the bootstrap.
    seed: Of these draws.

  Returns:
    CLOSER, FURTHER, or UNCLEAR: where the 95 % interval of the mean difference
    over the files holds zero, where both means read the same, or where fewer
    than two songs have a value of both.
  """
  values = [
    {
      row['name']: row[measure.name]
      for row in rows
      if row['system'] == name and row.get(measure.name) is not None
    }
    for name in (system, other)
  ]
  files = [name for name in values[0] if name in values[1]]
  own, others = (np.array([v[name] for name in files]) for v in values)
  if not files or _reads(own, measure) == _reads(others, measure):
    return UNCLEAR
  songs = [song_of(name) for name in files]
  interval = tables.mean_interval(own - others, songs, n_resamples, seed)
  if interval is None or interval[0] <= 0.0 <= interval[1]:
    return UNCLEAR
  return CLOSER if interval[1] < 0.0 else FURTHER


def describe(
  rows: Sequence[Mapping],
  columns: Sequence[measures.Measure],
  system: str,
  untreated: str,
  single: str,
  song_of: Callable[[str], str] = str,
) -> list[str]:
  """Says what a network learned, what it did not, and whether it had to listen.

  Args:
    rows: As `evaluate.evaluate` returns them.
    columns: Measures of which lower is better.
    system: Name of the network in the rows.
    untreated: Name of the input as it is.
    single: Name of the best setting that is the same for all files.
    song_of: As for `compare`.

  Returns:
    Three sentences or groups of them, plain text: those that begin with 'What
    was learned: ' and 'What was not: ', and the comparison with `single`.
  """
  n_files = len({row['name'] for row in rows})
  columns = [measure for measure in columns if measure.lower_is_better]
  groups = _by_verdict(rows, columns, system, untreated, song_of)
  learned = (
    f'What was learned: on {n_files} clips of songs that it never heard, '
  )
  if groups[CLOSER]:
    names = (untreated, system)
    falls = _figures(rows, groups[CLOSER], names, '', '{} from {} to {}')
    learned += f'the network lowers {falls}.'
  else:
    names = _join([_name(measure) for measure in columns])
    learned += f'nothing that these figures show: none of {names} is lowered.'
  words = {
    FURTHER: 'its songs are further from the master than untreated ones',
    UNCLEAR: 'there is no clear difference from untreated ones',
  }
  failed = _say(rows, groups, words, system, untreated)
  failed = failed or 'none of these figures is worse than untreated'
  return [
    learned,
    f'What was not: {failed}.',
    _against_single(rows, columns, system, single, song_of),
  ]


def describe_validation(
  steps: Sequence[int], values: Sequence[float], judged_by: str
) -> str:
  """Says at which step validation was best, and what that means.

  Args:
    steps: At which there was a validation, increasing.
    values: By what each is judged, the lower the better.
    judged_by: What that is, in words: 'the loss'.

  Returns:
    A sentence or two, or '' without a validation.
  """
  if not len(steps):
    return ''
  best, last = steps[int(np.argmin(values))], steps[-1]
  if best == last:
    return (
      f'Validation, judged by {judged_by}, was best at the last step, {last}.'
    )
  return (
    f'Validation, judged by {judged_by}, was best at step {best} of '
    f'{last}, and the network of that step is the one heard here; what '
    'came after did not help on songs outside the training.'
  )


def _by_verdict(rows, columns, system, other, song_of):
  """Returns {verdict: measures} of a system compared with another."""
  groups: dict[str, list] = {CLOSER: [], FURTHER: [], UNCLEAR: []}
  for measure in columns:
    groups[compare(rows, measure, system, other, song_of)].append(measure)
  return groups


def _against_single(rows, columns, system, single, song_of):
  """Compares with one setting for all songs, which hears nothing."""
  words = {
    CLOSER: 'closer to the master',
    FURTHER: 'further from the master',
    UNCLEAR: 'not clearly different',
  }
  groups = _by_verdict(rows, columns, system, single, song_of)
  return (
    'Against the best single setting, the same for all songs, the network is '
    f'{_say(rows, groups, words, system, single)}.'
  )


def _say(rows, groups, words, system, other):
  """Joins what there is to say of each verdict that has words."""
  item = '{} ({} against {})'
  return '; '.join(
    f'{text} {_figures(rows, groups[verdict], (system, other), "in ", item)}'
    for verdict, text in words.items()
    if groups[verdict]
  )


def _figures(rows, columns, systems, preposition, item):
  """Names measures with the means of two systems, the raw ones first."""
  groups = []
  for at_equal_level, where in ((False, ''), (True, 'at equal level ')):
    texts = [
      item.format(_name(measure), *(_mean(rows, s, measure) for s in systems))
      for measure in columns
      if measure.at_equal_level == at_equal_level
    ]
    if texts:
      groups.append(f'{where}{preposition}{_join(texts)}')
  return ', and '.join(groups)


def _name(measure):
  """Names a measure within a sentence."""
  name = measure.heading
  is_abbreviation = name[:2].isupper()
  return name if is_abbreviation else name[0].lower() + name[1:]


def _mean(rows, system, measure):
  """Writes the mean of a system over all files, with the unit."""
  found = [row[measure.name] for row in rows if row['system'] == system]
  values = np.array([math.nan if v is None else v for v in found], float)
  return _reads(values[np.isfinite(values)], measure)


def _reads(values, measure):
  """Writes the mean of values with the unit."""
  if not len(values):
    return 'no value'
  text = report.format_value(float(np.mean(values)), measure)
  return f'{text} {measure.unit}'.strip()


def _join(parts):
  """Joins words as a sentence has them: a, b and c."""
  *most, last = parts
  return f'{", ".join(most)} and {last}' if most else last
