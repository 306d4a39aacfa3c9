"""Whether models of effects learn: clones of installed plugins, their errors.

    python benchmarks/models.py
    python benchmarks/models.py --effects=tube --models=black,gray --minutes=15

Each run trains through the gin files that users have (`blackbox_demo.gin`,
`graybox_demo.gin`) on music rendered by a plugin, and measures on other songs,
and for the model with a knob at other values of it, the error-to-signal ratio
(ESR) of the output, processed whole and from silence on. 'linear' is the ESR of
the best gain alone: what there is to learn.

A run is held to --minutes: it takes as many of its steps as fit, by the time
that the first ones take, and its learning rate falls over those. --steps takes
so many instead. It prints a table; audio goes to --output_dir: input, target
and output of each run.
"""

import dataclasses
import pathlib
import time

# First: importing dafx sets up what DDSP needs.
import dafx  # noqa: F401  # isort: skip

import gin
import numpy as np
import results
import soundfile
from absl import app, flags, logging

FLAGS = flags.FLAGS
flags.DEFINE_list('effects', None, 'Of tube, compressor, fuzz; all by default.')
flags.DEFINE_list('models', None, 'Of black, gray, knob; all by default.')
flags.DEFINE_float('minutes', 15.0, 'Longest time of a training.')
flags.DEFINE_integer('steps', None, 'Steps in place of what fits.')
flags.DEFINE_multi_string('gin_param', [], 'Further bindings, for all runs.')
flags.DEFINE_string('output_dir', '~/dafx/models', 'Where table and audio go.')
flags.DEFINE_integer('seed', 0, 'Seed of weights and data.')

# Share of --minutes that steps may take; the rest is validation and tracing.
_SHARE_OF_STEPS = 0.85
_STEPS_TIMED = 8
_TEST_SECONDS = 20.0
TUBE = 'http://invadarecords.com/plugins/lv2/tube/mono'
COMPRESSOR = 'http://calf.sourceforge.net/plugins/Compressor'
SATURATOR = 'http://calf.sourceforge.net/plugins/Saturator'

EFFECTS = {
  'tube': [
    f"plugin = '{TUBE}'",
    "plugin_fixed = {'drive': 15.0, 'mix': 100.0}",
  ],
  'compressor': [
    f"plugin = '{COMPRESSOR}'",
    "plugin_fixed = {'bypass': 0.0, 'threshold': 0.05, 'ratio': 6.0, "
    "'attack': 20.0, 'release': 200.0}",
  ],
  # A saturator driven 24 dB too loud, dull behind: what a fuzz does.
  'fuzz': [
    f"plugin = '{SATURATOR}'",
    "plugin_fixed = {'bypass': 0.0, 'drive': 10.0, 'blend': 0.0, "
    "'level_in': 15.85, 'level_out': 2.0, 'hp_pre_freq': 80.0, "
    "'lp_post_freq': 6000.0, 'pre': 1.0, 'post': 1.0}",
  ],
}


MODELS = {
  'gray': 'gray box',
  'black': 'black box',
  'knob': 'black box with a knob',
}


@dataclasses.dataclass(frozen=True)
class Run:
  """A training: of which effect, by which files and bindings, to which ESR."""

  effect: str
  model: str
  target: float
  files: tuple[str, ...]
  bindings: tuple[str, ...] = ()


RUNS = (
  Run('tube', 'gray', 0.1, ('graybox_demo.gin',)),
  Run('tube', 'black', 0.02, ('blackbox_demo.gin',)),
  Run(
    'compressor',
    'gray',
    0.1,
    ('graybox_demo_dynamics.gin',),
  ),
  Run(
    'compressor',
    'black',
    0.02,
    ('blackbox_demo_level.gin',),
  ),
  # The saturator has filters before and behind, each twice.
  Run(
    'fuzz',
    'gray',
    0.1,
    ('graybox_demo.gin',),
    (
      "eq1/effects.Biquads.types = ['high_pass', 'high_pass', 'peak']",
      'eq1/effects.Biquads.ranges = {}',
      "eq2/effects.Biquads.types = ['low_pass', 'low_pass', 'peak']",
      'eq2/effects.Biquads.ranges = {}',
    ),
  ),
  Run('fuzz', 'black', 0.02, ('blackbox_demo.gin',)),
  Run(
    'tube',
    'knob',
    0.05,
    ('blackbox_demo.gin',),
    (
      "conditioning = 'film'",
      'n_knobs = 1',
      "net_inputs = ['audio', 'knobs']",
      "plugin_knobs = ['drive']",
      "plugin_fixed = {'mix': 100.0}",
      'n_settings = 24',
      'train/RenderedProvider.seconds = 10.0',
      'valid/RenderedProvider.seconds = 2.0',
    ),
  ),
)


def read(run, num_steps=None):
  """Parses what a run is made of."""
  from dafx.training import gin_files

  gin.clear_config()
  bindings = [
    *EFFECTS[run.effect],
    *run.bindings,
    *FLAGS.gin_param,
    'test/RenderedProvider.split = "test"',
    f'test/RenderedProvider.seconds = {_TEST_SECONDS}',
    'test/RenderedProvider.n_settings = 5',
  ]
  if num_steps is not None:
    bindings.append(f'num_steps = {num_steps}')
  gin_files.parse_gin(run.files, bindings)


def steps_that_fit(run):
  """Returns the number of steps that a run takes, by the time of a few."""
  from dafx.training import models, trainers

  if FLAGS.steps is not None:
    return FLAGS.steps
  read(run)
  wanted = gin.query_parameter('num_steps/macro.value')
  trainer = trainers.Trainer(models.make_model())
  provider = gin.get_configurable('train/data.RenderedProvider')()
  batch_size = gin.query_parameter('batch_size/macro.value')
  batches = iter(provider.get_batch(batch_size, seed=FLAGS.seed))
  trainer.build(next(batches))
  trainer.train_step(next(batches))
  start = time.monotonic()
  for _ in range(_STEPS_TIMED):
    losses = trainer.train_step(next(batches))
  float(losses['total_loss'])
  seconds = (time.monotonic() - start) / _STEPS_TIMED
  return max(
    1, min(wanted, int(_SHARE_OF_STEPS * 60 * FLAGS.minutes / seconds))
  )


def evaluate(model, folder):
  """Returns errors on songs, and settings, that were not trained on.

  Args:
    model: The trained model.
    folder: Where the audio goes.

  Returns:
    (ESR of the model, ESR of the best gain alone, ESR at each setting), energy
    of all errors over that of all targets.
  """
  from dafx import metrics

  test = gin.get_configurable('test/data.RenderedProvider')()
  targets, outputs, gains, rows = [], [], [], {}
  for item in test.items():
    dry, wet = (
      np.concatenate(list(side.blocks()))[:, 0]
      for side in (item.input, item.target)
    )
    name, knobs = item.name, np.asarray(item.options.get('knobs', []))
    features = {'audio': dry[np.newaxis], 'knobs': knobs[np.newaxis]}
    audio = model.get_audio_from_outputs(model(features))[0].numpy()
    targets.append(wet)
    outputs.append(audio)
    gains.append(np.dot(dry, wet) / np.dot(dry, dry) * dry)
    value = ', '.join(f'{k:.3f}' for k in knobs)
    rows[f'{name} ({value})' if value else name] = metrics.esr(wet, audio)
    for kind, samples in (('input', dry), ('target', wet), ('output', audio)):
      path = folder / f'{name.replace(" ", "_")}.{kind}.wav'
      soundfile.write(path, samples, model.sample_rate, subtype='FLOAT')
  joined = np.concatenate(targets)
  return (
    metrics.esr(joined, np.concatenate(outputs)),
    metrics.esr(joined, np.concatenate(gains)),
    rows,
  )


def measure(run, output_dir):
  """Trains one model and returns its row of the table."""
  from dafx.commands import running
  from dafx.training import models, trainers

  running.prepare_tensorflow(FLAGS.seed)
  num_steps = steps_that_fit(run)
  read(run, num_steps)
  running.prepare_tensorflow(FLAGS.seed)
  model = models.make_model()
  start, cpu = time.monotonic(), time.process_time()
  trainers.train(trainer=trainers.Trainer(model), seed=FLAGS.seed)
  minutes = (time.monotonic() - start) / 60
  cpu_minutes = (time.process_time() - cpu) / 60
  folder = output_dir / f'{run.effect}_{run.model}'
  folder.mkdir(parents=True, exist_ok=True)
  error, linear, rows = evaluate(model, folder)
  if run.model == 'knob':
    error = max(rows.values())  # at each value, so at the worst one
  return {
    'effect': run.effect,
    'model': MODELS[run.model],
    'parameters': sum(int(np.prod(v.shape)) for v in model.trainable_variables),
    'steps': num_steps,
    'minutes': minutes,
    'cpu_minutes': cpu_minutes,
    'linear': linear,
    'esr': error,
    'target': run.target,
    'reached': bool(error < run.target),
    'settings': rows,
  }


def describe(row):
  """Returns a row as a line."""
  verdict = 'reached' if row['reached'] else 'MISSED'
  return (
    f'{row["effect"]}, {row["model"]}: {row["parameters"]:,} parameters, '
    f'{row["steps"]:,} steps, {row["minutes"]:.1f} minutes, '
    f'{row["cpu_minutes"]:.1f} CPU minutes; ESR {row["esr"]:.4f}, of the best '
    f'gain alone {row["linear"]:.3f}, target {row["target"]}: {verdict}'
  )


def write_results(rows):
  """Writes the table."""
  columns = {
    'Effect': 'effect',
    'Model': 'model',
    'Parameters': 'parameters',
    'Steps': 'steps',
    'CPU minutes': 'cpu_minutes',
    'ESR of the best gain alone': 'linear',
    'ESR': 'esr',
    'Target': 'target',
  }
  results.write(
    'models',
    list(columns),
    [[row[key] for key in columns.values()] for row in rows],
    [TUBE, COMPRESSOR, SATURATOR],
    decimals=4,
  )


def main(argv):
  """Trains, measures and prints."""
  del argv
  logging.set_verbosity(logging.WARNING)
  from dafx.training import gin_files

  gin_files.add_gin_search_paths()
  output_dir = pathlib.Path(FLAGS.output_dir).expanduser()
  output_dir.mkdir(parents=True, exist_ok=True)
  rows = []
  for run in RUNS:
    if FLAGS.effects and run.effect not in FLAGS.effects:
      continue
    if FLAGS.models and run.model not in FLAGS.models:
      continue
    rows.append(measure(run, output_dir))
    print(describe(rows[-1]), flush=True)
    results.keep(rows)  # what is done stays if a later one fails
  write_results(rows)


if __name__ == '__main__':
  app.run(main)
