"""What a mastering model learns by one encoder and by another.

    python benchmarks/encoders.py --output_dir=build/tasks

Trains the demonstration of mastering by three encoders: the one that hears a
file once (`ProfileEncoder`), and DeepAFx's two over windows of 40,960 samples,
MobileNetV2 and the inception network, one window per 8,192 samples. Everything
else is the same: data, chain, losses, seed. They are compared after equal steps
and after as many as take the time of the first (of its whole training, in
minutes of the processor). Data and the first training are those of `tasks`, if
they are there. All is measured on the test songs at equal level; what is there
of an earlier call is not trained or measured again.
"""

import pathlib

import results
import tasks
from absl import app, flags, logging

from dafx.commands import running
from dafx.training import gin_files
from dafx.training.evaluation import evaluate, tables

FLAGS = flags.FLAGS
_FIRST = 'profile'
ENCODERS = {
  _FIRST: [],
  'mobilenet': ['mobilenet_encoder.gin'],
  'inception': ['inception_encoder.gin'],
}
_HOP = 'hop_size = 8192'
FIGURES = {
  'matched_mr_stft': 'MR-STFT',
  'average_spectrum_db': 'Spectrum (dB)',
  'crest_error_db': 'Crest (dB)',
  'loudness_difference': 'Loudness (LU)',
}


def measure(encoder, n_steps, name, folder):
  """Trains by an encoder; returns (figures, cost, number of weights, plugins).

  Args:
    encoder: One of ENCODERS.
    n_steps: Of the training; None for the demonstration's own.
    name: Of the run.
    folder: Of all output.
  """
  if encoder != _FIRST:
    FLAGS.gin_param = [_HOP]
  FLAGS.steps = n_steps
  model, cost = tasks.train(
    'mastering', folder, name, seed=0, files=ENCODERS[encoder]
  )
  rows = evaluate.evaluate(
    model, output_dir=str(folder / 'mastering' / f'evaluation_{name}')
  )
  means = {
    row['metric']: row['mean']
    for row in tables.summarize(rows)
    if row['system'] == evaluate.DAFX
  }
  n_weights = sum(int(w.shape.num_elements()) for w in model.encoder.weights)
  uris = tasks.plugins_of(model)
  return means, cost, n_weights, uris


def main(argv):
  """Does what the flags say."""
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {" ".join(argv[1:])}')
  running.prepare_tensorflow(seed=0)
  gin_files.add_gin_search_paths()
  folder = pathlib.Path(FLAGS.output_dir).expanduser().absolute()
  tasks.prepare('mastering', folder)
  rows: list[list] = []
  first_minutes = None
  for encoder in ENCODERS:
    name = 'network' if encoder == _FIRST else encoder
    means, cost, n_weights, uris = measure(encoder, None, name, folder)
    whole = {'as many steps': (means, cost)}
    if first_minutes is None:
      first_minutes = cost['cpu_minutes']
    else:
      n_steps = round(cost['steps'] * first_minutes / cost['cpu_minutes'])
      whole['as much time'] = measure(
        encoder, max(n_steps, 2), f'{encoder}_in_time', folder
      )[:2]
    for label, (found, took) in whole.items():
      rows.append(
        [
          f'{encoder}, {label}' if encoder != _FIRST else encoder,
          *(found[key] for key in FIGURES),
          took['steps'],
          took['cpu_minutes'],
          n_weights,
        ]
      )
      print(rows[-1], flush=True)
  heads = ['Encoder', *FIGURES.values(), 'steps', 'CPU minutes', 'weights']
  results.write('encoders', heads, rows, uris, decimals=3)
  results.keep([dict(zip(heads, row, strict=True)) for row in rows])


if __name__ == '__main__':
  logging.set_verbosity(logging.INFO)
  app.run(running.with_messages('encoders', main))
