"""The demonstration: a network learns to master, and a page lets one hear it.

    python -m dafx.training.demo --output_dir=build/demo

Makes mastering pairs from the music that comes with dafx, trains a network on
`mastering_demo.gin`, and compares it on songs that it never heard with the
input as it is and with the best single setting of the same plugins. The last
line printed is the path of the page.
"""

import pathlib
import time

import gin
import tensorflow as tf
from absl import app, flags, logging

from dafx import _command, _folders
from dafx.training import (
  audio_files,
  data,
  evaluators,
  inference,
  models,
  plotting,
  report,
  train_util,
  trainers,
)
from dafx.training.data_preparation import mastering

FLAGS = flags.FLAGS

_METRICS = {
  'mr_stft': 'MR-STFT',
  'mfcc_cosine': 'MFCC cosine',
  'loudness_difference': 'Loudness difference (LU)',
  'mae': 'Mean absolute error',
}
_INTRO = """\
<p>A small network listens to a mix and sets three LV2 plugins, 22 times a
second: {plugins}. It learned this in {minutes:.0f} minutes on
{n_train} pairs of mixes and masters, from the sound that the plugins gave,
without looking into them. These songs were not among them.</p>
<p><b>Before</b> is a mix at another level and with another tone for each song,
<b>target</b> the same mix as mastered by other makers' plugins, with settings
worked out for that song. <b>Best single setting</b> is the same three plugins
at the one setting that fits the training songs best; <b>after</b> is what the
network makes of it.</p>
"""


def _configure(gin_file, params):
  gin.clear_config()
  with gin.unlock_config():
    train_util.parse_gin([gin_file], params)
  tf.keras.utils.set_random_seed(0)  # both runs start alike
  return models.get_model()


def _train(gin_file, params, save_dir):
  """Trains what gin says, or goes on with it; returns (model, history)."""
  model = _configure(gin_file, params)
  history = trainers.train(
    trainer=trainers.Trainer(model), save_dir=str(save_dir)
  )
  inference.restore_model(model, save_dir)
  return model, history


def _make_clip(pair, model, single):
  """Returns a clip of the page: all versions, spectrograms, controls."""
  source, rate = audio_files.read(pair.input_path, dtype='float64')
  source = inference.prepare(model, source, rate)
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
      processor, result.points[processor.name], result.point_times_s
    )
    controls[f'{processor.name}: {processor.plugin.name}'] = [
      plotting.figure_to_png(figure) for figure in figures
    ]
  figure = plotting.spectrograms(versions, rate)
  return report.Clip(
    name=pair.name,
    sample_rate=rate,
    audio=versions,
    spectrogram=plotting.figure_to_png(figure),
    controls=controls,
  )


def _curves(histories):
  """Draws the validation losses; a resumed run may lack its beginning."""
  longest = max(histories.values(), key=lambda h: len(h.get('valid_step', ())))
  steps = longest.get('valid_step', [])
  losses = {
    name: history['valid_total_loss']
    for name, history in histories.items()
    if history.get('valid_step') == steps and steps
  }
  if not losses:
    return {}
  figure = plotting.training_curves(steps, losses)
  return {'Validation loss': plotting.figure_to_png(figure)}


def run(
  output_dir: pathlib.Path,
  data_dir: pathlib.Path,
  gin_file: str = 'mastering_demo.gin',
  params=(),
):
  """Runs the demonstration; what is there of an earlier one is not done again.

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
  start = time.monotonic()
  logging.info('Making pairs in %s.', data_dir)
  mastering.prepare_demo(data_dir)
  params = [f'data_path = {str(data_dir)!r}', *params]
  logging.info('Training the network.')
  model, network_history = _train(gin_file, params, output_dir / 'network')
  minutes = (time.monotonic() - start) / 60
  logging.info('Finding the best single setting of the same plugins.')
  single, single_history = _train(
    gin_file,
    [
      *params,
      'import dafx.training.encoders',
      'ControlModel.encoder = @encoders.Constant()',
    ],
    output_dir / 'single',
  )
  logging.info('Comparing on the test songs.')
  setting = {
    key: value[0].numpy()
    for key, value in single.predict_controls(tf.zeros([1, 1])).items()
  }
  rows = evaluators.evaluate(
    model,
    output_dir=str(output_dir / 'evaluation'),
    settings={'best single setting': setting},
  )
  systems = ('untreated', 'default setting', 'best single setting', 'dafx')
  pairs = data.find_pairs(data_dir / 'test')
  table = report.Table(
    columns=list(_METRICS.values()),
    rows={
      system: [evaluators.mean_of(rows, system, m) for m in _METRICS]
      for system in systems
    },
    caption=f'Distance to the target, mean over {len(pairs)} test clips of '
    'songs that were not trained on.',
  )
  for name, values in table.rows.items():
    numbers = (f'{m} {v:.4f}' for m, v in zip(_METRICS, values, strict=True))
    logging.info('%s: %s', name, ', '.join(numbers))

  songs = {}  # the first variant of each song
  for pair in pairs:
    songs.setdefault(pair.name.rsplit('_', 1)[0], pair)
  clips = [_make_clip(pair, model, single) for pair in songs.values()]
  # The song that is neither the best nor the worst.
  distances = {
    row['name']: row['mr_stft'] for row in rows if row['system'] == 'dafx'
  }
  ranked = sorted(clips, key=lambda clip: distances[clip['name']])
  middle = ranked[len(ranked) // 2]
  (output_dir / 'overview.png').write_bytes(middle['spectrogram'])
  plugins = ', '.join(p.plugin.name for p in model.driven.values())
  path = output_dir / 'index.html'
  report.write_report(
    path,
    title='dafx: a network masters music with LV2 plugins',
    intro_html=_INTRO.format(
      plugins=plugins,
      minutes=max(minutes, 1),
      n_train=len(data.find_pairs(data_dir / 'train')),
    ),
    table=table,
    clips=clips,
    figures=_curves(
      {'network': network_history, 'best single setting': single_history}
    ),
    footer='Music: public-domain scores and our own, rendered by FluidSynth '
    'with the FluidR3 sound font (MIT); CC0. Train it yourself: make demo.',
  )
  return path


def _define_flags():
  # Not on import: the tests take functions from here.
  flags.DEFINE_string('output_dir', 'build/demo', 'Gets the runs and the page.')
  flags.DEFINE_string(
    'data_dir', '~/dafx/data/mastering', 'Where the pairs are, or are made.'
  )
  flags.DEFINE_string('gin_file', 'mastering_demo.gin', 'What is trained.')
  flags.DEFINE_multi_string('gin_param', [], 'Bindings that come after it.')


def main(argv):
  """Does what the flags say."""
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {" ".join(argv[1:])}')
  train_util.prepare_tensorflow(seed=0)
  train_util.add_gin_search_paths()
  path = run(
    _folders.expand_user(FLAGS.output_dir).absolute(),
    _folders.expand_user(FLAGS.data_dir, '--data_dir'),
    FLAGS.gin_file,
    FLAGS.gin_param,
  )
  print(path)


if __name__ == '__main__':
  _define_flags()
  _command.run('demo', main, __doc__)
