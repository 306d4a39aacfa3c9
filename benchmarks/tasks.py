"""The three tasks, trained on demonstration data, beside what needs no network.

    python benchmarks/tasks.py --output_dir=build/tasks
    python benchmarks/tasks.py --tasks=mastering,simplest --seeds=0,1,2,3,4
    python benchmarks/tasks.py --tasks=clean --seeds=0,1

For each task: makes the data, trains by its demo overlay, finds the best single
setting of the same plugins by the same training, and measures all on the test
split. `simplest` is the job of `simplest_job`, by the plugins and the settings
of mastering, at a rate that falls to nothing in the end. Prints each task's
main metrics with what the trainings took, and whether the targets are reached:
of several seeds the worst counts. What is there of an earlier call is not
trained or measured again. Each metric says whether it is raw, which follows the
level of the file, or at equal level. With --write_results one seed writes the
table of tasks, several write that of seeds.

`clean` trains the model that comes trained, by mastering_clean.gin on the pairs
of `dafx_prepare mastering --source=debian` (--data_dir), and measures it as
`trained` does.
"""

import csv
import importlib
import json
import pathlib
import time

import gin
import results
import simplest_job
import tensorflow as tf
import trained
from absl import app, flags, logging

from dafx.commands import running
from dafx.training import checkpoints, gin_files, models, trainers
from dafx.training.evaluation import evaluate, measures, tables

FLAGS = flags.FLAGS
TASKS = ('distortion', 'nonspeech', 'mastering', 'simplest', 'clean')
flags.DEFINE_list('tasks', list(TASKS[:3]), f'Of {", ".join(TASKS)}.')
flags.DEFINE_list('seeds', ['0'], 'Of weights and of what trainings draw.')
flags.DEFINE_string('output_dir', 'build/tasks', 'Gets data, runs and tables.')
flags.DEFINE_integer(
  'steps', None, 'Of each training, if not as usual.', lower_bound=1
)
flags.DEFINE_multi_string('gin_param', [], 'Bindings that come last.')
flags.declare_key_flag('data_dir')  # of trained

SINGLE, OURS = evaluate.BEST_SINGLE_SETTING, evaluate.DAFX
BASELINES = (
  evaluate.UNTREATED,
  evaluate.UNTREATED_AT_LOUDNESS,
  evaluate.RULE,
  evaluate.DEFAULT_SETTING,
  evaluate.DEFAULT_AT_LOUDNESS,
  SINGLE,
  evaluate.BEST_SINGLE_AT_LOUDNESS,
)
# Systems of the table of docs/measurements.md.
COLUMNS = (
  evaluate.UNTREATED,
  evaluate.UNTREATED_AT_LOUDNESS,
  evaluate.RULE,
  evaluate.DEFAULT_SETTING,
  SINGLE,
  OURS,
)
# Main metrics, as `measures` names them: what an engineer hears a master by.
SOUND = (
  'loudness_difference',
  'true_peak_dbtp',
  'matched_mr_stft',
  'average_spectrum_db',
  'crest_error_db',
  'width_error_db',
  'mono_sum_error_db',
  'mr_stft',
)
METRICS = {
  'distortion': SOUND,
  'nonspeech': (
    'events_change_db',
    'breath_change_db',
    'pop_change_db',
    'rest_change_abs_db',
    'pesq',
    *SOUND,
  ),
  'mastering': SOUND,
  'simplest': SOUND,
}
# Those of a table of all seeds.
SEEDED = SOUND[:1] + SOUND[2:5]
# Steps of the simplest job: enough for a rate that falls to nothing.
SIMPLEST_STEPS = 300
OF_SIMPLEST = ["dafx.training.Trainer.decay_steps = 'last_stage'"]


def prepare(task, folder):
  """Makes the data of a task, or what is missing of it."""
  if task == 'simplest':
    simplest_job.prepare_demo(folder / 'data' / task)
    return
  module = importlib.import_module(f'dafx.training.data_preparation.{task}')
  module.prepare_demo(folder / 'data' / task)


def debian_folder() -> pathlib.Path:
  """Returns where the pairs of Debian's music are."""
  return pathlib.Path(FLAGS.data_dir).expanduser().absolute()


def configure(task, folder, files=(), params=(), seed=0):
  """Parses a task's demo overlay anew."""
  gin.clear_config()
  data_path = folder / 'data' / task
  gin_file = f'{task}_demo.gin'
  if task == 'simplest':
    gin_file = 'mastering_demo.gin'
  elif task == 'clean':
    gin_file, data_path = 'mastering_clean.gin', debian_folder()
  n_steps = FLAGS.steps or (SIMPLEST_STEPS if task == 'simplest' else None)
  steps = [f'num_steps = {n_steps}'] if n_steps else []
  own = OF_SIMPLEST if task == 'simplest' else []
  with gin.unlock_config():
    gin_files.parse_gin(
      [gin_file, *files],
      [f'data_path = {str(data_path)!r}', *steps, *own, *params],
    )
  tf.keras.utils.set_random_seed(seed)


def train(task, folder, name, seed, files=()):
  """Trains, or goes on, or does nothing where it was done.

  Args:
    task: Which of TASKS.
    folder: Of all output.
    name: Of the run.
    seed: Of the training.
    files: Further gin files.

  Returns:
    (model, {'steps', 'minutes', 'cpu_minutes'} of the whole training).
  """
  configure(task, folder, files, FLAGS.gin_param, seed)
  model = models.make_model()
  trainer = trainers.Trainer(model)
  cost_file = folder / task / f'{name}.json'
  cost = {'steps': 0, 'minutes': 0.0, 'cpu_minutes': 0.0}
  if cost_file.exists():
    cost = json.loads(cost_file.read_text())
  start, cpu = time.monotonic(), time.process_time()
  save_dir = str(folder / task / name)
  history = trainers.train(trainer=trainer, seed=seed, save_dir=save_dir)
  if history.get('step'):
    cost['steps'] += len(history['step'])
    cost['minutes'] += (time.monotonic() - start) / 60
    cost['cpu_minutes'] += (time.process_time() - cpu) / 60
    cost_file.write_text(json.dumps(cost) + '\n')
  checkpoints.restore_model(model, folder / task / name)
  return model, cost


def plugins_of(model):
  """Returns the URIs of the plugins that a model drives."""
  return [plugin.uri for plugin in model.driven.values()]


def named(name, seed):
  """Returns the name of a run or an evaluation of a seed."""
  return f'{name}_{seed}' if seed else name


def is_measured(path, *runs) -> bool:
  """Returns whether figures in a file are of trainings as they are now."""
  return path.exists() and all(
    (run / 'checkpoint').stat().st_mtime < path.stat().st_mtime for run in runs
  )


def measure_task(task, folder, seed):
  """Returns the rows of one task and seed, and the URIs of its plugins."""
  prepare(task, folder)
  names = [named(name, seed) for name in ('single', 'network')]
  costs = {}
  single, costs[SINGLE] = train(
    task, folder, names[0], seed, ['single_setting.gin']
  )
  setting = {
    key: value[0].numpy()
    for key, value in single.predict_controls(tf.zeros([1, 1])).items()
  }
  model, costs[OURS] = train(task, folder, names[1], seed)
  output_dir = folder / task / named('evaluation', seed)
  runs = [folder / task / name for name in names]
  if not is_measured(output_dir / 'metrics.json', *runs):
    evaluate.evaluate(
      model, output_dir=str(output_dir), settings={SINGLE: {'setting': setting}}
    )
  rows = json.loads((output_dir / 'metrics.json').read_text())
  for row in rows:
    if row.get('rest_change_db') is not None:
      row['rest_change_abs_db'] = abs(row['rest_change_db'])
  none = dict.fromkeys(costs[OURS])
  found = [
    {'task': task, 'seed': seed, **entry, **costs.get(entry['system'], none)}
    for entry in tables.summarize(rows)
    if entry['metric'] in METRICS[task]
  ]
  return found, plugins_of(model)


def measure_clean(folder, seed):
  """Trains the model that comes trained; returns the figures of `trained`."""
  run = folder / 'clean' / named('network', seed)
  model, cost = train('clean', folder, run.name, seed)
  path = folder / 'clean' / f'{named("figures", seed)}.json'
  if not is_measured(path, run):
    found = trained.measure_model(model, debian_folder())
    path.write_text(json.dumps({'cost': cost, **found}) + '\n')
  return json.loads(path.read_text())


def last_over_best(task, folder, seed):
  """Returns the last validation figure of a network over its best."""
  path = folder / task / named('network', seed) / 'history.csv'
  with open(path, newline='', encoding='utf-8') as file:
    figures = [
      float(row['valid_figure'])
      for row in csv.DictReader(file)
      if row.get('valid_figure')
    ]
  return figures[-1] / min(figures)


def targets(task, means, last):
  """Returns {target: whether one training reached it}.

  Args:
    task: Which of TASKS.
    means: By (system, metric).
    last: What `last_over_best` gives.
  """

  def share(metric, system=OURS, of=evaluate.UNTREATED_AT_LOUDNESS):
    return means[system, metric] / means[of, metric]

  if task == 'nonspeech':

    def is_clean(system):
      return (
        means[system, 'events_change_db'] <= -10.0
        and means[system, 'rest_change_abs_db'] < 1.0
      )

    others = [name for name in BASELINES if (name, 'mr_stft') in means]
    return {
      'events gone, speech as it was': is_clean(OURS)
      and not any(map(is_clean, others))
    }
  if task == 'simplest':
    return {
      f'{name}: MR-STFT a third, spectrum within 0.5 dB': share(
        'matched_mr_stft', system
      )
      <= 1 / 3
      and means[system, 'average_spectrum_db'] <= 0.5
      for name, system in (('network', OURS), ('single setting', SINGLE))
    }
  limits = {
    'matched_mr_stft': 0.9,
    'average_spectrum_db': 0.75,
    'crest_error_db': 0.6,
  }
  return {
    **{
      f'{measures.MEASURES[metric].title} at most {limit:.2f} of untreated': (
        share(metric) <= limit
      )
      for metric, limit in limits.items()
    },
    'loudness within 1 LU': means[OURS, 'loudness_difference'] <= 1.0,
    'better than the best single setting in each': all(
      share(metric, of=SINGLE) < 1
      for metric in (*limits, 'loudness_difference')
    ),
    'last validation within 2 % of the best': last <= 1.02,
  }


def verdicts(table, folder):
  """Returns a line for each target of each task: whether all seeds reach it."""
  lines = []
  for task in dict.fromkeys(row['task'] for row in table):
    own = [row for row in table if row['task'] == task]
    reached = {}
    for seed in dict.fromkeys(row['seed'] for row in own):
      means = {
        (row['system'], row['metric']): row['mean']
        for row in own
        if row['seed'] == seed
      }
      last = last_over_best(task, folder, seed)
      for target, is_reached in targets(task, means, last).items():
        reached.setdefault(target, {})[seed] = is_reached
    for target, by_seed in reached.items():
      missed = [seed for seed, is_reached in by_seed.items() if not is_reached]
      words = f'NO, with seeds {missed} of {list(by_seed)}' if missed else 'yes'
      lines.append(f'{task}: {target}: {words}')
    costs = [row for row in own if row['system'] == OURS]
    longest = max(costs, key=lambda row: row['minutes'])
    lines.append(
      f'{task}: {longest["steps"]} steps took {longest["minutes"]:.1f} minutes '
      f'at most, {longest["cpu_minutes"]:.1f} CPU minutes.'
    )
  return lines


def print_table(table):
  """Prints mean and confidence interval of each row, by task and seed."""
  for task, seed in dict.fromkeys((row['task'], row['seed']) for row in table):
    own = [row for row in table if (row['task'], row['seed']) == (task, seed)]
    print(f'{task}, seed {seed}\n{tables.describe(own)}\n')


def write_results(table, plugins):
  """Writes the means of all tasks, of one seed."""
  rows = []
  for task, metric in dict.fromkeys((r['task'], r['metric']) for r in table):
    own = {
      row['system']: row
      for row in table
      if (row['task'], row['metric']) == (task, metric)
    }
    row = [f'{task}, {measures.MEASURES[metric].title}']
    row += [own[s]['mean'] if s in own else None for s in COLUMNS]
    # The costs of a task stand once, in its first row.
    is_first = not any(above[0].startswith(f'{task}, ') for above in rows)
    cost = own[OURS] if is_first else {}
    rows.append([*row, cost.get('minutes'), cost.get('cpu_minutes')])
  heads = ['Task and measure', *COLUMNS, 'minutes', 'CPU minutes']
  results.write('tasks', heads, rows, plugins, decimals=3)


def write_seeds(table, plugins, folder):
  """Writes what each seed came to, by tasks that have several."""
  heads = ['Task and system', *(measures.MEASURES[m].title for m in SEEDED)]
  heads.append('Last validation over the best')
  rows = []
  for task in dict.fromkeys(row['task'] for row in table):
    own = [row for row in table if row['task'] == task]
    seeds = list(dict.fromkeys(row['seed'] for row in own))
    if len(seeds) == 1:
      continue
    means = {(r['seed'], r['system'], r['metric']): r['mean'] for r in own}
    untreated = evaluate.UNTREATED_AT_LOUDNESS
    for seed, system in [
      (seeds[0], untreated),
      *((seed, SINGLE) for seed in seeds),
      *((seed, OURS) for seed in seeds),
    ]:
      title = f'{task}, {system}'
      title += '' if system == untreated else f', seed {seed}'
      last = last_over_best(task, folder, seed) if system == OURS else None
      rows.append([title, *(means[seed, system, m] for m in SEEDED), last])
  if rows:
    results.write('task_seeds', heads, rows, plugins, decimals=3)


def main(argv):
  """Does what the flags say."""
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {" ".join(argv[1:])}')
  running.prepare_tensorflow(seed=0)
  gin_files.add_gin_search_paths()
  folder = pathlib.Path(FLAGS.output_dir).expanduser().absolute()
  table, plugins = [], []
  for task in FLAGS.tasks:
    if task not in TASKS:
      raise app.UsageError(f'--tasks={task} is none of {", ".join(TASKS)}.')
    is_seeded = task in ('mastering', 'simplest', 'clean')
    for seed in map(int, FLAGS.seeds if is_seeded else FLAGS.seeds[:1]):
      if task == 'clean':
        print(
          f'clean, seed {seed}{trained.describe(measure_clean(folder, seed))}'
        )
        continue
      rows, uris = measure_task(task, folder, seed)
      table += rows
      plugins += uris
  if table:
    print_table(table)
    print('\n'.join(verdicts(table, folder)))
    if len(FLAGS.seeds) == 1:
      write_results(table, plugins)
    write_seeds(table, plugins, folder)
  results.keep(table)


if __name__ == '__main__':
  logging.set_verbosity(logging.INFO)
  app.run(running.with_messages('tasks', main))
