"""Tables of what an evaluation measured: written, summed up, and as text."""

import csv
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.stats

from dafx.training.evaluation import measures


def write_table(rows: Sequence[Mapping], folder: str | os.PathLike, name: str):
  """Writes rows as <name>.json and <name>.csv.

  Args:
    rows: Values by column; None where there is none.
    folder: Where to.
    name: Of the files.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  text = json.dumps(rows, indent=2)
  (folder / f'{name}.json').write_text(text + '\n', encoding='utf-8')
  with open(
    folder / f'{name}.csv',
    'w',
    newline='',
    encoding='utf-8',
    errors='backslashreplace',  # names of files may be no text
  ) as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)


def mean_interval(
  values: Sequence[float],
  groups: Sequence[str],
  n_resamples: int = 2000,
  seed: int = 0,
) -> tuple[float, float] | None:
  """Returns where the mean of values lies with 95 % confidence.

  By the bootstrap, in percentiles. What is drawn with replacement are groups,
  not values: clips of one song are alike, and count as one draw (the cluster
  bootstrap; Davison and Hinkley, "Bootstrap Methods and their Application",
  1997, section 3.8).

  Args:
    values: Shape [n_values].
    groups: Of each value, what it is a part of, such as its song.
    n_resamples: How often groups are drawn anew.
    seed: Of the draws.

  Returns:
    (low, high); None for fewer than two groups, which say nothing of others.
  """
  names, places = np.unique(groups, return_inverse=True)
  if len(names) < 2:
    return None

  def mean(sums, counts, axis=-1):
    return sums.sum(axis=axis) / counts.sum(axis=axis)

  found = scipy.stats.bootstrap(
    (np.bincount(places, weights=values), np.bincount(places)),
    mean,
    n_resamples=n_resamples,
    paired=True,
    vectorized=True,
    method='percentile',
    rng=np.random.default_rng(seed),
  )
  low, high = found.confidence_interval
  return float(low), float(high)


def summarize(
  rows: Sequence[Mapping],
  n_resamples: int = 2000,
  seed: int = 0,
  song_of: Callable[[str], str] = str,
) -> list[dict]:
  """Returns means over files with their confidence, by system and metric.

  Args:
    rows: As `evaluate.evaluate` returns them.
    n_resamples: How often songs are drawn anew for the bootstrap.
    seed: Of these draws, which are the same for all systems and metrics.
    song_of: Returns the song that a file is of, by the file's name; by default
      each is one of its own.

  Returns:
    {'system', 'metric', 'heading', 'unit', 'kind', 'follows', 'mean', 'low',
    'high', 'n_files'}: how to read the metric, as `measures` has it; low and
    high as of `mean_interval`, None for files of one song. Files without a
    value are left out; the mean is None if none has one.
  """
  table = []
  for system in dict.fromkeys(row['system'] for row in rows):
    own = [row for row in rows if row['system'] == system]
    # Names and options, such as the knobs of a recording, are no measures.
    metric_names = dict.fromkeys(
      key
      for row in own
      for key, value in row.items()
      if value is None or isinstance(value, int | float)
    )
    for metric in metric_names:
      found = [
        (row[metric], song_of(row['name']))
        for row in own
        if row.get(metric) is not None and math.isfinite(row[metric])
      ]
      known = measures.of(metric)
      entry = {'system': system, 'metric': metric}
      entry.update(heading=known.heading, unit=known.unit)
      entry.update(kind=known.kind, follows=known.follows)
      entry.update(mean=None, low=None, high=None, n_files=len(found))
      if found:
        values, songs = zip(*found, strict=True)
        entry['mean'] = float(np.mean(values))
        interval = mean_interval(values, songs, n_resamples, seed)
        entry['low'], entry['high'] = interval or (None, None)
      table.append(entry)
  return table


def describe(table: Sequence[Mapping]) -> str:
  """Returns a table of `summarize` as text, a paragraph for each metric.

  Args:
    table: As `summarize` returns it.

  Returns:
    For each metric its heading, which says whether it is raw or at equal level
    and what it follows, and a line for each system that has a value: mean, and
    low and high where they are known.
  """
  lines = []
  for metric in dict.fromkeys(entry['metric'] for entry in table):
    own = [entry for entry in table if entry['metric'] == metric]
    own = [entry for entry in own if entry['mean'] is not None]
    if not own:
      continue
    known = measures.of(metric)
    follows = f'; follows {known.follows}' if known.follows else ''
    lines.append(f'{known.title}{follows}')
    for entry in own:
      line = f'  {entry["system"]:<38} {entry["mean"]:9.4f}'
      if entry['low'] is not None:
        line += f' [{entry["low"]:.4f}, {entry["high"]:.4f}]'
      lines.append(line)
  return '\n'.join(lines)


def verdict_of(esr: float) -> str:
  """Says in words what an error-to-signal ratio means.

  The limits are those of Neural Amp Modeler's trainer.

  Args:
    esr: The ratio; NaN where there is none.

  Examples:
    >>> from dafx.training.evaluation import tables
    >>> tables.verdict_of(0.004)
    'very close, hard to tell from the recording'
  """
  steps = (
    (0.01, 'very close, hard to tell from the recording'),
    (0.035, 'close, audible where both are compared'),
    (0.1, 'audibly different, and may sound fine'),
    (0.3, 'not alike; more steps or another network may help'),
  )
  beyond = 'something went wrong: is the target what became of the input?'
  return next((word for limit, word in steps if esr < limit), beyond)


def describe_recordings(rows: Sequence[Mapping], system: str) -> str:
  """Returns errors of each recording as text, and a verdict by their mean.

  Args:
    rows: As `evaluate.evaluate` returns them.
    system: Whose.

  Returns:
    A line for each recording; '' for rows without SI-SDR: only a model that is
    to give its target sample by sample is measured by that.
  """
  own = [r for r in rows if r['system'] == system and 'si_sdr' in r]
  if not own:
    return ''
  titles = [measures.MEASURES[k].title for k in ('esr', 'mr_stft', 'si_sdr')]
  lines = ['  '.join(['recording'.ljust(30), *titles])]
  for row in own:
    cells = [
      '–' if row[key] is None else f'{row[key]:.{n_digits}f}'
      for key, n_digits in (('esr', 4), ('mr_stft', 3), ('si_sdr', 1))
    ]
    cells = [c.rjust(len(title)) for c, title in zip(cells, titles)]
    lines.append('  '.join([f'{row["name"][-30:]:30}', *cells]))
  esr = mean_of(rows, system, 'esr')
  lines.append(f'mean ESR {esr:.4f}: {verdict_of(esr)}')
  return '\n'.join(lines)


def mean_of(rows: Sequence[Mapping], system: str, metric: str) -> float:
  """Returns the mean of a metric over the files of a system that have it."""
  values = [row[metric] for row in rows if row['system'] == system]
  values = [value for value in values if value is not None]
  return float(np.mean(values)) if values else math.nan
