"""What a mastering model learns by one encoder and by another.

    python benchmarks/encoders.py --output_dir=build/tasks

Trains the demonstration of mastering by three encoders: the one that hears a
file once (`ProfileEncoder`), and DeepAFx's two over windows of 40,960 samples,
MobileNetV2 and the inception network, one window per 8,192 samples. All start
from the best single setting of `tasks`, and share data, chain, losses and seed;
each has the rates of learning that suit it. They are compared after equal
steps, and after as many as take the processor as long as those of the first.
All is measured on the test songs at equal level. What is there of an earlier
call is not trained or measured again.
"""

import dataclasses
import json
import pathlib

import results
import tasks
from absl import app, flags, logging

from dafx.commands import running
from dafx.training import gin_files
from dafx.training.evaluation import evaluate

FLAGS = flags.FLAGS
flags.DEFINE_integer(
  'equal_steps', 120, 'Of the trainings that are compared.', lower_bound=2
)


@dataclasses.dataclass(frozen=True)
class Encoder:
  """An encoder, and how it is trained.

  Attributes:
    name: In the table.
    gin_files: After the demonstration's.
    learning_rate: Of all weights.
    bindings: Further ones.
  """

  name: str
  gin_files: tuple[str, ...]
  learning_rate: float
  bindings: tuple[str, ...] = ()

  @property
  def title(self) -> str:
    """Name and rate."""
    return f'{self.name}, rate {self.learning_rate:g}'


_WINDOWS = ('hop_size = 8192',)
# Its statistics are to be those of so short a training.
_MOBILENET = (*_WINDOWS, 'MobileNetV2Encoder.bn_momentum = 0.9')
ENCODERS = (
  Encoder('profile', (), 2e-2),
  Encoder('MobileNetV2', ('mobilenet_encoder.gin',), 1e-3, _MOBILENET),
  Encoder('MobileNetV2', ('mobilenet_encoder.gin',), 1e-4, _MOBILENET),
  Encoder('inception', ('inception_encoder.gin',), 1e-3, _WINDOWS),
  Encoder('inception', ('inception_encoder.gin',), 1e-4, _WINDOWS),
)
FIGURES = {
  'matched_mr_stft': 'MR-STFT',
  'average_spectrum_db': 'Spectrum (dB)',
  'crest_error_db': 'Crest (dB)',
  'loudness_difference': 'Loudness (LU)',
}


def figures_of(summary, system) -> list[float]:
  """Returns the means of FIGURES of one system of an evaluation."""
  means = {
    row['metric']: row['mean'] for row in summary if row['system'] == system
  }
  return [means[key] for key in FIGURES]


def measure(encoder, n_steps, folder):
  """Trains by an encoder from a single setting, and evaluates.

  Args:
    encoder: One of ENCODERS.
    n_steps: Of the training.
    folder: Of all output.

  Returns:
    (summary of the evaluation, what it cost, number of weights, its plugins).
  """
  name = f'{encoder.name}_{encoder.learning_rate:g}_{n_steps}'
  FLAGS.steps = n_steps
  FLAGS.gin_param = [
    *encoder.bindings,
    f'learning_rate = {encoder.learning_rate}',
    'dafx.training.train.single_fraction = 0.0',
    f'dafx.training.train.restore_dir = {str(folder / "mastering/single")!r}',
  ]
  model, cost = tasks.train(
    'mastering', folder, name, seed=0, files=encoder.gin_files
  )
  output_dir = folder / 'mastering' / f'evaluation_{name}'
  if not (output_dir / 'summary.json').exists():
    evaluate.evaluate(model, output_dir=str(output_dir))
  summary = json.loads((output_dir / 'summary.json').read_text())
  n_weights = sum(w.shape.num_elements() for w in model.encoder.weights)
  return summary, cost, n_weights, tasks.plugins_of(model)


def main(argv):
  """Does what the flags say."""
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {" ".join(argv[1:])}')
  running.prepare_tensorflow(seed=0)
  gin_files.add_gin_search_paths()
  folder = pathlib.Path(FLAGS.output_dir).expanduser().absolute()
  tasks.prepare('mastering', folder)
  tasks.train('mastering', folder, 'single', 0, ['single_setting.gin'])
  table: list[list] = []
  minutes, plugins = None, []
  for encoder in ENCODERS:
    measured = measure(encoder, FLAGS.equal_steps, folder)
    runs = {'': measured}
    if minutes is None:
      minutes, plugins = measured[1]['cpu_minutes'], measured[3]
      untreated = figures_of(measured[0], evaluate.UNTREATED_AT_LOUDNESS)
      table.append(['untreated', *untreated, None, None, None])
    else:
      n_steps = FLAGS.equal_steps * minutes / measured[1]['cpu_minutes']
      n_steps = max(round(n_steps), 2)
      runs[', equal time'] = measure(encoder, n_steps, folder)
    for label, (summary, cost, n_weights, _) in runs.items():
      found = figures_of(summary, evaluate.DAFX)
      took = [cost['steps'], cost['cpu_minutes']]
      table.append([encoder.title + label, *found, *took, n_weights])
      print(table[-1], flush=True)
  heads = ['Encoder', *FIGURES.values(), 'Steps', 'CPU minutes', 'Weights']
  results.write('encoders', heads, table, plugins, decimals=3)
  results.keep([dict(zip(heads, row, strict=True)) for row in table])


if __name__ == '__main__':
  logging.set_verbosity(logging.INFO)
  app.run(running.with_messages('encoders', main))
