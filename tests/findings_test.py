"""Tests of what is said of figures: both outcomes, and neither."""

import itertools

import numpy as np
import pytest

from dafx.training.evaluation import findings, measures, tables

COLUMNS = [
  measures.MEASURES[name]
  for name in (
    'loudness_difference',
    'matched_mr_stft',
    'average_spectrum_db',
    'crest_error_db',
    'true_peak_dbtp',  # has no better and worse
  )
]
NAMES = [measure.name for measure in COLUMNS]
SYSTEMS = ('dafx', 'untreated', 'best single setting')


def make_rows(spread=0.0, **systems):
  """Returns rows of ten files with given means; files differ by a spread."""
  return [
    {
      'name': f'song_{i}',
      'system': system.replace('_', ' '),
      **{
        name: mean + spread * (i - 4.5)
        for name, mean in zip(NAMES, means, strict=True)
      },
    }
    for system, means in systems.items()
    for i in range(10)
  ]


UNTREATED = (12.3, 0.66, 2.1, 3.2, -14.0)
SINGLE = (5.2, 0.85, 3.0, 1.4, -1.0)
MIXED = (1.2, 0.99, 2.1, 1.4, -0.5)


def describe(dafx, untreated=UNTREATED, single=SINGLE, spread=0.1):
  rows = make_rows(
    spread, dafx=dafx, untreated=untreated, best_single_setting=single
  )
  return findings.describe(rows, COLUMNS, *SYSTEMS)


def test_some_learned_some_not():
  learned, failed, single = describe(MIXED)
  assert learned == (
    'What was learned: on 10 clips of songs that it never heard, the network '
    'lowers loudness error from 12.30 LU to 1.20 LU, and at equal level crest '
    'error from 3.20 dB to 1.40 dB.'
  )
  assert failed == (
    'What was not: its songs are further from the master than untreated ones '
    'at equal level in MR-STFT (0.990 against 0.660); there is no clear '
    'difference from untreated ones at equal level in average spectrum error '
    '(2.10 dB against 2.10 dB).'
  )
  assert single == (
    'Against the best single setting, the same for all songs, the network is '
    'closer to the master in loudness error (1.20 LU against 5.20 LU), and at '
    'equal level in average spectrum error (2.10 dB against 3.00 dB); further '
    'from the master at equal level in MR-STFT (0.990 against 0.850); not '
    'clearly different at equal level in crest error (1.40 dB against 1.40 dB).'
  )


def test_all_learned():
  learned, failed, single = describe((1.2, 0.33, 1.1, 0.7, 0.0))
  assert 'lowers loudness error from 12.30 LU to 1.20 LU, and at' in learned
  assert learned.endswith(
    'at equal level MR-STFT from 0.660 to 0.330, average spectrum error from '
    '2.10 dB to 1.10 dB and crest error from 3.20 dB to 0.70 dB.'
  )
  assert (
    failed == 'What was not: none of these figures is worse than untreated.'
  )
  assert 'further' not in single and 'not clearly' not in single


def test_nothing_learned():
  learned, failed, single = describe((13.0, 0.99, 3.1, 4.7, 0.0))
  assert learned.endswith(
    'nothing that these figures show: none of loudness error, MR-STFT, average '
    'spectrum error and crest error is lowered.'
  )
  assert 'further from the master than untreated ones in loudness' in failed
  assert 'no clear difference' not in failed
  assert 'the network is further from the master in loudness' in single


@pytest.mark.parametrize('other', [2.0, 2.3, 1.7])
def test_what_differs_by_chance_is_not_claimed(other):
  # The mean is lower; some files are much better, others much worse.
  rows = [
    {'name': str(i), 'system': system, 'mr_stft': value}
    for system, values in {
      'dafx': [0.5, 3.5, 0.4, 3.6, 1.9],
      'untreated': [other] * 5,
    }.items()
    for i, value in enumerate(values)
  ]
  measure = measures.MEASURES['mr_stft']
  assert findings.compare(rows, measure, *SYSTEMS[:2]) == findings.UNCLEAR
  rows[0:5] = [{**row, 'mr_stft': other - 0.1} for row in rows[:5]]
  assert findings.compare(rows, measure, *SYSTEMS[:2]) == findings.CLOSER


def test_clips_of_one_song_are_not_taken_for_independent():
  # Of two songs one is better, of each of their clips; the other is worse.
  rows = [
    {'name': f'{song}_{i}', 'system': system, 'mr_stft': value}
    for system, values in {
      'dafx': {'good': 0.5, 'bad': 2.1},
      'untreated': {'good': 2.0, 'bad': 2.0},
    }.items()
    for song, value in values.items()
    for i in range(20)
  ]
  measure = measures.MEASURES['mr_stft']
  assert findings.compare(rows, measure, *SYSTEMS[:2]) == findings.CLOSER
  by_song = findings.compare(
    rows, measure, *SYSTEMS[:2], lambda name: name.split('_')[0]
  )
  assert by_song == findings.UNCLEAR


def test_intervals_against_all_draws():
  values, groups = [1.0, 3.0, 2.0, 8.0], ['a', 'a', 'b', 'c']
  sums, counts = np.array([4.0, 2.0, 8.0]), np.array([2, 1, 1])
  draws = np.array(list(itertools.product(range(3), repeat=3)))
  means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
  low, high = np.percentile(means, [2.5, 97.5], method='inverted_cdf')
  found = tables.mean_interval(values, groups, n_resamples=20000)
  np.testing.assert_allclose(found, (low, high), atol=1e-9)
  assert tables.mean_interval(values[:2], groups[:2]) is None
  again = tables.mean_interval(values, groups, n_resamples=20000)
  assert found == again


def test_what_reads_the_same_is_not_claimed():
  rows = make_rows(dafx=(1.201,) * 5, untreated=(1.202,) * 5)
  compared = findings.compare(rows, COLUMNS[0], *SYSTEMS[:2])
  assert compared == findings.UNCLEAR


def test_files_without_a_value_are_left_out():
  rows = make_rows(dafx=MIXED, untreated=UNTREATED)
  for row in rows[:8]:
    row['loudness_difference'] = None
  measure = COLUMNS[0]
  assert findings.compare(rows, measure, *SYSTEMS[:2]) == findings.CLOSER
  rows[8]['loudness_difference'] = None  # one song says nothing of others
  assert findings.compare(rows, measure, *SYSTEMS[:2]) == findings.UNCLEAR
  rows[9]['loudness_difference'] = None
  assert findings.compare(rows, measure, *SYSTEMS[:2]) == findings.UNCLEAR


def test_validation():
  describe_validation = findings.describe_validation
  early = describe_validation([40, 80, 120], [1.0, 1.2, 1.1], 'the loss')
  assert early.startswith(
    'Validation, judged by the loss, was best at step 40 of 120, and'
  )
  last = describe_validation([40, 80], [1.2, 1.1], 'ESR')
  assert last == 'Validation, judged by ESR, was best at the last step, 80.'
  assert describe_validation([], [], 'ESR') == ''
