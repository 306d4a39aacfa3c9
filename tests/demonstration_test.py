"""Tests of what the demonstration says; what it trains is tested elsewhere."""

import subprocess
import sys
import types

import numpy as np
import pytest
import soundfile

from dafx import effects, losses, processors
from dafx.training import data, models
from dafx.training.evaluation import demonstration, evaluate, measures
from dafx.training.trainers import summaries

VALUES = {
  evaluate.UNTREATED: (12.0, 0.6, 2.0, 3.0, -14.0),
  evaluate.UNTREATED_AT_LOUDNESS: (0.0, 0.6, 2.0, 3.0, -1.0),
  evaluate.DEFAULT_SETTING: (11.0, 0.7, 2.5, 2.5, -12.0),
  evaluate.BEST_SINGLE_SETTING: (5.0, 0.8, 3.0, 2.0, -2.0),
  evaluate.DAFX: (1.0, 0.9, 1.0, 1.0, -0.5),
}


def make_rows(values):
  return [
    {
      'name': f'song {i}_0',
      'system': system,
      **dict(zip(demonstration._MAIN, numbers, strict=True)),
    }
    for i in range(4)
    for system, numbers in values.items()
  ]


def make_model(name='EQ'):
  processor = types.SimpleNamespace(plugin=types.SimpleNamespace(name=name))
  return types.SimpleNamespace(
    driven={'eq_controls': processor}, judged_by='equal_level'
  )


def test_table_leads_with_what_masters_are_judged_by():
  rows = make_rows(VALUES)
  table = demonstration._make_table(rows, demonstration._MAIN, 'Means.')
  assert [measure.title for measure in table.columns] == [
    'Loudness error (LU), raw',
    'MR-STFT, at equal level',
    'Average spectrum error (dB), at equal level',
    'Crest error (dB), at equal level',
    'True peak (dBTP), raw',
  ]
  assert list(table.rows) == [
    'untreated',
    'untreated at target loudness',
    'default setting',
    'best single setting',
    'dafx (network)',
  ]
  assert table.rows['dafx (network)'] == list(VALUES[evaluate.DAFX])


@pytest.mark.parametrize(
  ('dafx', 'learned', 'failed'),
  [
    (
      (1.0, 0.9, 1.0, 1.0, 0.0),
      'lowers loudness error from 12.00 LU to 1.00 LU, and at equal level '
      'average spectrum error from 2.00 dB to 1.00 dB and crest error from '
      '3.00 dB to 1.00 dB.',
      'its songs are further from the master than untreated ones at equal '
      'level in MR-STFT (0.900 against 0.600).',
    ),
    (
      (1.0, 0.3, 1.0, 1.0, 0.0),
      'at equal level MR-STFT from 0.600 to 0.300, average spectrum error from '
      '2.00 dB to 1.00 dB and crest error from 3.00 dB to 1.00 dB.',
      'none of these figures is worse than untreated.',
    ),
  ],
)
def test_first_paragraph_is_what_the_figures_say(dafx, learned, failed):
  rows = make_rows({**VALUES, evaluate.DAFX: dafx})
  intro = demonstration._make_intro(
    rows,
    make_model('<EQ>'),
    36,
    ([40, 80], [1.0, 2.0], 'valid_figure'),
  )
  paragraph = intro[: intro.index('</p>')]
  start, end = paragraph.split(' <b>What was not:</b> ')
  assert start.startswith('<p class="lead"><b>What was learned:</b> on 4 clips')
  assert start.endswith(learned)
  assert end == failed
  assert '&lt;EQ&gt;' in intro and '36 pairs' in intro
  assert 'Validation, judged by MR-STFT at equal level' in intro
  assert 'was best at step 40 of 80' in intro


def test_validations_of_all_sessions_are_read(tmp_path):
  for step, loss in ((40, 2.0), (80, 1.5)):
    row = {'step': step, 'valid_total_loss': loss}
    summaries.append_history(tmp_path, row)
  validations = demonstration._validations(tmp_path)
  assert validations == ([40, 80], [2.0, 1.5], 'valid_total_loss')
  curves = demonstration._curves({'network': validations}, 'equal_level')
  assert list(curves) == ['Validation, judged by the loss']


def test_validations_are_those_that_were_judged(tmp_path):
  # The first is of a version that knew the loss alone.
  row = {'step': 40, 'valid_total_loss': 2.0}
  summaries.append_history(tmp_path, row)
  for step, figure in ((80, 0.7), (120, 0.8)):
    row = {'step': step, 'valid_total_loss': 1.0, 'valid_figure': figure}
    summaries.append_history(tmp_path, row)
  validations = demonstration._validations(tmp_path)
  assert validations == ([80, 120], [0.7, 0.8], 'valid_figure')
  runs = {'network': validations, 'single': validations}
  (title,) = demonstration._curves(runs, 'equal_level')
  assert title.startswith('Validation, judged by MR-STFT at equal level')


def test_times_are_told(monkeypatch):
  times = iter([0.0, 61.0, 200.0, 200.0])
  monkeypatch.setattr(demonstration.time, 'monotonic', lambda: next(times))
  watch = demonstration._Stopwatch()
  watch.note('pairs')
  watch.note('training')
  assert str(watch) == 'pairs 1:01, training 2:19, in all 3:20'


def test_all_that_is_shown_has_a_measure():
  assert set(demonstration._MAIN) < set(measures.MEASURES)


def test_flags_are_checked_before_tensorflow_loads():
  code = (
    'import sys\n'
    'from absl import app\n'
    'from dafx.commands import demo\n'
    'try:\n'
    '  demo.main(["demo", "more"])\n'
    'except app.UsageError as error:\n'
    '  print(error)\n'
    'assert "tensorflow" not in sys.modules\n'
  )
  process = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert process.stdout == 'Not a flag: more\n'


def test_a_clip_has_all_versions_and_controls(tmp_path):
  audio = 0.1 * np.random.default_rng(0).standard_normal(16000)
  for side, gain in (('input', 1.0), ('target', 0.5)):
    (tmp_path / side).mkdir()
    soundfile.write(tmp_path / side / 'own_song_0.wav', gain * audio, 16000)
  (pair,) = data.find_pairs(tmp_path)

  def model_with(encoder):
    gain = effects.LV2Plugin('urn:dafx-test:gain', name='gain')
    dag = [(gain, ['audio', 'gain_controls'])]
    group = processors.ProcessorGroup(dag=dag)
    objective = [losses.TimeDomainLoss()]
    return models.ControlModel(encoder, group, objective, 16000)

  encoder = models.LogMelEncoder(16000, 2048, 4)
  clip = demonstration._make_clip(
    pair, model_with(encoder), model_with(models.Constant())
  )
  assert clip['name'] == 'Own song' and clip['sample_rate'] == 16000
  versions = ['before', 'target', 'best single setting', 'after']
  assert list(clip['audio']) == versions
  assert {v.shape for v in clip['audio'].values()} == {(16000, 1)}
  (images,) = clip['controls'].values()
  for image in [clip['spectrogram'], *images]:
    assert image.startswith(b'\x89PNG')
