"""A network learns to master; what it makes of songs it never heard, as a page.

The command is `dafx.commands.demo`.
"""

import csv
import html
import pathlib
import time

import gin
import tensorflow as tf
from absl import logging

from dafx.audio import files as audio_files
from dafx.training import (
  checkpoints,
  data,
  gin_files,
  inference,
  models,
  plotting,
  trainers,
)
from dafx.training.data_preparation import mastering
from dafx.training.evaluation import (
  evaluate,
  findings,
  measures,
  report,
  tables,
)
from dafx.training.models import judging

# What an engineer judges a master by; the first columns of the page.
_MAIN = (
  'loudness_difference',
  'matched_mr_stft',
  'average_spectrum_db',
  'crest_error_db',
  'true_peak_dbtp',
)
# Rows of the tables.
_SYSTEMS = {
  evaluate.UNTREATED: evaluate.UNTREATED,
  evaluate.UNTREATED_AT_LOUDNESS: evaluate.UNTREATED_AT_LOUDNESS,
  evaluate.RULE: 'a rule: gain into the limiter',
  evaluate.DEFAULT_SETTING: evaluate.DEFAULT_SETTING,
  evaluate.DEFAULT_AT_LOUDNESS: evaluate.DEFAULT_AT_LOUDNESS,
  evaluate.BEST_SINGLE_SETTING: evaluate.BEST_SINGLE_SETTING,
  evaluate.BEST_SINGLE_AT_LOUDNESS: evaluate.BEST_SINGLE_AT_LOUDNESS,
  evaluate.DAFX: 'dafx (network)',
}
_INTRO = """\
<p class="lead">{learned}</p>
<p>{against_single}</p>
<p>A small network listens to a mix and sets three LV2 plugins, once for each
song: {plugins}. It learned this from {n_train} pairs of mixes and masters, from
the sound that the plugins gave, without looking into them. {validation}</p>
<p><b>Before</b> is a mix at another level and with another tone for each song,
<b>target</b> the same mix as mastered by other makers' plugins, with settings
worked out for that song: they move the tone by 2 to 4 dB, more than real
masters do, so that there is something to hear. <b>Best single setting</b> is
the same three plugins at the one setting that fits the training songs best;
<b>after</b> is what the network makes of it.</p>
"""


class _Stopwatch:
  """Notes how long the parts of a run take."""

  def __init__(self):
    self._start = self._last = time.monotonic()
    self._parts = []

  def note(self, part):
    """Notes the time since the last note."""
    now = time.monotonic()
    self._parts.append((part, now - self._last))
    self._last = now

  def __str__(self):
    parts = [*self._parts, ('in all', time.monotonic() - self._start)]
    return ', '.join(
      f'{part} {int(seconds) // 60}:{int(seconds) % 60:02d}'
      for part, seconds in parts
    )


def _configure(gin_file, params):
  gin.clear_config()
  with gin.unlock_config():
    gin_files.parse_gin([gin_file], params)
  tf.keras.utils.set_random_seed(0)  # both runs start alike
  return models.make_model()


def _train(gin_file, params, save_dir):
  """Trains what gin says, or goes on with it; returns the model."""
  model = _configure(gin_file, params)
  trainers.train(trainer=trainers.Trainer(model), save_dir=str(save_dir))
  checkpoints.restore_model(model, save_dir)
  return model


def _song(name):
  """Returns the title of the song that the pair of a name is a variant of."""
  return name.rsplit('_', 1)[0].replace('_', ' ').capitalize()


def _make_clip(pair, model, single):
  """Returns a clip of the page: all versions, spectrograms, controls."""
  source, rate = audio_files.read(pair.input_path, dtype='float64')
  if model.preprocessor is not None:
    source = model.preprocessor.process_input(source, rate)
  target, _ = audio_files.read(pair.target_path, dtype='float64')
  result = inference.process_audio(model, source, rate)
  versions = {
    'before': source,
    'target': target,
    'best single setting': inference.process_audio(single, source, rate).audio,
    'after': result.audio,
  }
  controls = {}
  for processor in model.driven.values():
    figures = plotting.plugin_figures(
      processor,
      result.automation.points[processor.name],
      result.automation.point_times_s,
    )
    controls[processor.title] = [
      plotting.figure_to_png(figure) for figure in figures
    ]
  figure = plotting.spectrograms(versions, rate)
  return report.Clip(
    name=_song(pair.name),
    sample_rate=rate,
    audio=versions,
    spectrogram=plotting.figure_to_png(figure),
    controls=controls,
  )


def _validations(save_dir):
  """Returns all validations of a run, of any session.

  Returns:
    (steps, values, column): the figure of each where the run has one, or else
    its loss, and the column of history.csv that it is from.
  """
  with open(save_dir / 'history.csv', newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  # A run that was begun by an older version has no figure at first.
  judged = [row for row in rows if row.get('valid_figure')]
  column = 'valid_figure' if judged else 'valid_total_loss'
  rows = judged or rows
  steps = [int(row['step']) for row in rows]
  return steps, [float(row[column]) for row in rows], column


def _curves(validations, judged_by):
  """Draws validations, {name: `_validations`}, where steps are equal.

  Args:
    validations: Those of each run.
    judged_by: `Model.judged_by`, which the title tells.
  """
  longest, _, column = max(validations.values(), key=lambda v: len(v[0]))
  curves = {
    name: values
    for name, (steps, values, other) in validations.items()
    if (steps, other) == (longest, column)
  }
  figure = plotting.training_curves(longest, curves)
  title = f'Validation, judged by {_words(column, judged_by)}'
  return {title: plotting.figure_to_png(figure)}


def _words(column, judged_by):
  """Says what a column of `_validations` is."""
  if column == 'valid_total_loss':
    return 'the loss'
  return judging.FIGURES[judged_by].words


def _make_table(rows, names, caption):
  """Returns a `report.Table` of the means of the named measures."""
  measured = {row['system'] for row in rows}
  return report.Table(
    columns=[measures.MEASURES[name] for name in names],
    rows={
      title: [tables.mean_of(rows, system, name) for name in names]
      for system, title in _SYSTEMS.items()
      if system in measured
    },
    caption=caption,
  )


def _make_intro(rows, model, n_train, validation):
  """Returns the first paragraphs of the page, from the figures."""
  learned, not_learned, against_single = (
    html.escape(text)
    for text in findings.describe(
      rows,
      [measures.MEASURES[name] for name in _MAIN],
      evaluate.DAFX,
      evaluate.UNTREATED,
      evaluate.BEST_SINGLE_SETTING,
      _song,
    )
  )
  sentences = []
  for text in (learned, not_learned):
    head, tail = text.split(': ', 1)
    sentences.append(f'<b>{head}:</b> {tail}')
  steps, values, column = validation
  plugins = ', '.join(p.plugin.name for p in model.driven.values())
  return _INTRO.format(
    learned=' '.join(sentences),
    against_single=against_single,
    plugins=html.escape(plugins),
    n_train=n_train,
    validation=html.escape(
      findings.describe_validation(
        steps, values, _words(column, model.judged_by)
      )
    ),
  )


def run(
  output_dir: pathlib.Path,
  data_dir: pathlib.Path,
  gin_file: str = 'mastering_demo.gin',
  params=(),
):
  """Runs the demonstration; pairs and trainings that are there stay.

  Args:
    output_dir: Gets the runs `network` and `single`, and `index.html`.
    data_dir: Where the pairs are, or are made.
    gin_file: What is trained.
    params: gin bindings that come last.

  Returns:
    Path of the page.

  Raises:
    As `trainers.train` and `inference.process`.
  """
  watch = _Stopwatch()
  logging.info('Making pairs in %s.', data_dir)
  mastering.prepare_demo(data_dir)
  watch.note('pairs')
  params = [f'data_path = {str(data_dir)!r}', *params]
  logging.info('Training the network.')
  model = _train(gin_file, params, output_dir / 'network')
  watch.note('training the network')
  logging.info('Finding the best single setting of the same plugins.')
  single_params = [
    'import dafx.training.models',
    'ControlModel.encoder = @encoders.Constant()',
    'dafx.training.train.single_fraction = 0.0',  # all of it is
  ]
  single = _train(gin_file, [*params, *single_params], output_dir / 'single')
  watch.note('the best single setting')
  logging.info('Comparing on the test songs.')
  rows = evaluate.evaluate(
    model,
    output_dir=str(output_dir / 'evaluation'),
    n_audio=0,  # the page has it
    with_baselines=False,  # no random settings
    settings={
      evaluate.DEFAULT_SETTING: model.baselines(0)[evaluate.DEFAULT_SETTING],
      evaluate.BEST_SINGLE_SETTING: {
        'setting': {
          key: value[0].numpy()
          for key, value in single.predict_controls(tf.zeros([1, 1])).items()
        }
      },
    },
  )
  watch.note('comparing')
  logging.info('Rendering what the page lets one hear.')
  path = _write_page(output_dir, data_dir, model, single, rows)
  watch.note('the page')
  logging.info('Minutes: %s.', watch)
  return path


def _write_page(output_dir, data_dir, model, single, rows):
  """Writes index.html and overview.png; returns the path of the page."""
  pairs = data.find_pairs(data_dir / 'test')
  caption = (
    f'Distance to the target, mean over {len(pairs)} test clips of songs that '
    'were not trained on. Rows at target loudness are given the loudness of '
    'the target, which the others have to find. The rule hears loudness alone: '
    'it turns the mix up, into the limiter, to the mean loudness of the '
    'masters of the training.'
  )
  table = _make_table(rows, _MAIN, caption)
  for name, values in table.rows.items():
    numbers = zip(table.columns, values, strict=True)
    text = ', '.join(f'{m.title}: {v:.4f}' for m, v in numbers)
    logging.info('%s: %s', name, text)
  measured = [name for name in rows[0] if name in measures.MEASURES]

  songs: dict[str, data.Pair] = {}  # the first variant of each song
  for pair in pairs:
    songs.setdefault(_song(pair.name), pair)
  clips = [_make_clip(pair, model, single) for pair in songs.values()]
  # The song that is neither the best nor the worst.
  distances = {
    row['name']: row['matched_mr_stft']
    for row in rows
    if row['system'] == evaluate.DAFX
  }
  ranked = sorted(
    zip(songs.values(), clips, strict=True), key=lambda p: distances[p[0].name]
  )
  _, middle = ranked[len(ranked) // 2]
  (output_dir / 'overview.png').write_bytes(middle['spectrogram'])
  validations = {
    'network': _validations(output_dir / 'network'),
    'best single setting': _validations(output_dir / 'single'),
  }
  n_train = len(data.find_pairs(data_dir / 'train'))
  path = output_dir / 'index.html'
  report.write_report(
    path,
    title='dafx: a network masters music with LV2 plugins',
    intro_html=_make_intro(rows, model, n_train, validations['network']),
    table=table,
    full_table=_make_table(rows, measured, 'Means over the same clips.'),
    clips=clips,
    figures=_curves(validations, model.judged_by),
    footer='Music: public-domain scores and our own, rendered by FluidSynth '
    'with the FluidR3 sound font (MIT); CC0. Train it yourself: make demo.',
  )
  return path
