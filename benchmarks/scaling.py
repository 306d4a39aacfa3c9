"""What several workers gain on this machine, beside what a model of cost says.

    python benchmarks/scaling.py

Trains a task on noise by 1, 2 and 4 processes, which share the processors, and
the same batch. Measured in the process that is alone is the time that a render
of each plugin takes of a processor; in one that has the part of a worker, what
a step renders and what all else of it takes; in the team, the time of a
reduction. From these docs/scaling.md predicts a step, and that is compared with
the steps that were taken.

With --simulated_threads=64, renders are replaced by sleeps of their measured
time, on so many threads: what is printed is how busy they are, while plugins
render and over all, with --batch_size items; and how busy they could be, as
plugins wait for each other.
"""

import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import cost_model
import numpy as np
import results
import simulated
import tensorflow as tf
from absl import app, flags

from dafx import core
from dafx.commands import running, train_mode
from dafx.training import cluster as cluster_lib
from dafx.training import gin_files, models, trainers
from dafx.training.trainers import team as team_lib

FLAGS = flags.FLAGS
flags.DEFINE_string('gin_file', 'mastering_demo.gin', 'Task.')
flags.DEFINE_integer('batch_size', 8, 'Items per step, of all workers.')
flags.DEFINE_integer('n_samples', 16384, 'Samples per item.')
flags.DEFINE_integer('n_steps', 8, 'Steps; medians are printed.')
flags.DEFINE_list('counts', ['1', '2', '4'], 'Numbers of workers.')
flags.DEFINE_integer('simulated_threads', 0, 'Threads that renders sleep on.')
flags.DEFINE_multi_string('gin_param', [], 'Bindings of the task.')
flags.DEFINE_string('addresses', '', 'Of workers; this is set for them.')
flags.DEFINE_integer('index', 0, 'Of a worker; this is set for it.')


def seconds(function):
  """Returns how long a call takes."""
  start = time.perf_counter()
  function()
  return time.perf_counter() - start


def noise(n_items):
  """Returns a part of a batch."""
  shape = [n_items, FLAGS.n_samples]
  return {
    'audio': 0.1 * tf.random.stateless_normal(shape, [0, 1]),
    'target': 0.2 * tf.random.stateless_normal(shape, [0, 2]),
  }


def record_calls(plugins):
  """Notes what is rendered from now on, as a list of `simulated.Call`."""
  calls = []
  ahead = threading.local()
  for index, plugin in enumerate(plugins):
    render, render_probes = plugin.renderer.render, plugin.render_probes

    def noted(audio, *args, index=index, render=render):
      n_items = len(args[0] if args else audio)  # of controls
      calls.append(
        simulated.Call(index, n_items, ahead.__dict__.get('is_so', False))
      )
      return render(audio, *args)

    def noted_probes(*args, render_probes=render_probes, **kwargs):
      ahead.is_so = True
      try:
        return render_probes(*args, **kwargs)
      finally:
        ahead.is_so = False

    plugin.renderer.render = noted
    plugin.render_probes = noted_probes
  return calls


def seconds_of_render(plugin):
  """Returns what a render of an item takes of a processor while all render.

  One that has the machine for itself is faster: they share caches and memory,
  and two of them may be one core. What other programs take does not count.
  """
  renderer = plugin.renderer
  n_items = 4 * renderer.n_threads
  shape = [n_items, FLAGS.n_samples, renderer.n_channels_in]
  audio = np.random.default_rng(0).normal(0.0, 0.1, shape).astype(np.float32)
  found = [both_times(lambda: renderer.render(audio))[1] for _ in range(5)]
  return statistics.median(found) / n_items


def both_times(function):
  """Returns how long a call takes, and what it takes of processors."""
  start, processors_start = time.perf_counter(), time.process_time()
  function()
  return (
    time.perf_counter() - start,
    time.process_time() - processors_start,
  )


def rest_of_step(trainer, batch, plugins):
  """Returns what a step takes in which renders take no time.

  That is the network, the losses, the arithmetic of the gradients and the
  update: on the processors that this process has.
  """
  renderer = plugins[0].renderer
  cores = simulated.Cores(renderer.n_threads, renderer.sample_rate)
  with cores.stand_for(plugins, [0.0] * len(plugins)):
    trainer.train_step(batch)
    found = [
      both_times(lambda: trainer.train_step(batch))
      for _ in range(FLAGS.n_steps)
    ]
  return cost_model.Rest(
    *(statistics.median(each) for each in zip(*found, strict=True))
  )


def seconds_of_reduction(team, n_weights):
  """Returns the time in which workers sum so many numbers."""

  @tf.function
  def run():
    def replica():
      context = tf.distribute.get_replica_context()
      values = tf.zeros([n_weights])
      return context.all_reduce(tf.distribute.ReduceOp.SUM, values)

    return team.strategy.run(replica)

  run()
  return statistics.median(seconds(run) for _ in range(9))


def work(workers):
  """Takes steps as one worker; returns what was measured."""
  with workers.scope():
    model = models.make_model()
  trainer = trainers.Trainer(model, workers=workers)
  n_items = FLAGS.batch_size // workers.n_workers
  batch = noise(n_items)
  trainer.build(batch)
  plugins = list(model.driven.values())
  calls = record_calls(plugins)
  for _ in range(2):
    trainer.train_step(batch)  # traces, and compares adjoints
  calls.clear()
  trainer.train_step(batch)
  measured: dict[str, Any] = {'calls': list(calls)}
  if FLAGS.addresses != 'part':
    measured['step'] = seconds_of_step(trainer, batch, workers)
  if isinstance(workers, team_lib.Team):
    n_weights = sum(int(tf.size(v)) for v in model.trainable_variables)
    measured['reduction'] = seconds_of_reduction(workers, n_weights)
    return measured
  measured['uris'] = [plugin.uri for plugin in plugins]
  measured['renders'] = [seconds_of_render(plugin) for plugin in plugins]
  measured['rest'] = rest_of_step(trainer, batch, plugins)
  if FLAGS.simulated_threads:
    measured['busy'] = simulate(trainer, batch, plugins, measured['renders'])
    measured['busy']['most'] = simulated.most_busy(
      measured['calls'], measured['renders'], FLAGS.simulated_threads
    )
  return measured


def seconds_of_step(trainer, batch, workers):
  """Returns the time of a step, which all workers begin together."""
  found = []
  for _ in range(FLAGS.n_steps):
    workers.exchange('begin')
    found.append(seconds(lambda: trainer.train_step(batch)))
  return statistics.median(found)


def simulate(trainer, batch, plugins, seconds_each):
  """Returns how busy threads are that stand for cores, over some steps.

  Returns:
    'rendering': their share of the time in which any of them renders; 'all':
    of the whole time; 'step': seconds.
  """
  sample_rate = plugins[0].renderer.sample_rate
  cores = simulated.Cores(FLAGS.simulated_threads, sample_rate)
  with cores.stand_for(plugins, seconds_each):
    trainer.train_step(batch)
    cores.reset()
    whole = seconds(
      lambda: [trainer.train_step(batch) for _ in range(FLAGS.n_steps)]
    )
  return {
    'rendering': cores.busy_s / cores.n_threads / cores.rendering_s,
    'all': cores.busy_s / cores.n_threads / whole,
    'step': whole / FLAGS.n_steps,
  }


def run(n_workers):
  """Runs so many workers; returns what the first one measured.

  With several, one process also measures by itself what a worker renders, and
  the rest of its step, on the processors of a worker.
  """
  shares = train_mode.shares(n_workers)
  if n_workers == 1:
    return start('alone', FLAGS.batch_size, shares)
  part = start('part', FLAGS.batch_size // n_workers, shares[:1])
  addresses = ','.join(cluster_lib.local(n_workers))
  return {
    **start(addresses, FLAGS.batch_size, shares),
    'rest': part['rest'],
    'calls': part['calls'],
  }


def start(addresses, batch_size, shares):
  """Runs processes; returns what the first one measured.

  Args:
    addresses: Of workers; 'alone' for the only one, 'part' for one that stands
      for one of several.
    batch_size: Items per step.
    shares: Processors of each.
  """
  started = []
  for index, share in enumerate(shares):
    started.append(
      subprocess.Popen(
        [sys.executable, *sys.argv, f'--addresses={addresses}']
        + [f'--index={index}', f'--batch_size={batch_size}'],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=functools.partial(os.sched_setaffinity, 0, share),
      )
    )
  outputs = [each.communicate()[0] for each in started]
  if any(each.returncode for each in started):
    sys.exit(f'One of {len(shares)} workers has failed.')
  return json.loads(outputs[0].splitlines()[-1])


def be_worker(folder):
  """Measures as one worker, and prints what was found.

  Args:
    folder: For what is to be gone after it.
  """
  simulated.install(folder)
  if FLAGS.simulated_threads:  # as TensorFlow does with so many cores
    tf.config.threading.set_inter_op_parallelism_threads(
      FLAGS.simulated_threads
    )
  running.prepare_tensorflow(0)
  gin_files.add_gin_search_paths()
  gin_files.parse_gin(
    [FLAGS.gin_file],
    ["data_path = ''", f'n_samples = {FLAGS.n_samples}', *FLAGS.gin_param],
  )
  if FLAGS.addresses in ('alone', 'part'):
    print(json.dumps(work(core.Workers())))
    return
  found = cluster_lib.Cluster(tuple(FLAGS.addresses.split(',')), FLAGS.index)
  with team_lib.Team(found) as team:
    measured = work(team)
  print(json.dumps(measured))


def main(argv):
  """Measures and prints."""
  del argv
  if FLAGS.addresses:
    with tempfile.TemporaryDirectory() as folder:
      be_worker(folder)
    return
  found = {int(count): run(int(count)) for count in FLAGS.counts}
  alone = found[1]
  rows = []
  for n_workers, measured in found.items():
    step = measured['step']
    parts = cost_model.predict(
      alone['renders'],
      [simulated.Call(*call) for call in measured['calls']],
      cost_model.Rest(*measured['rest']),
      measured.get('reduction', 0.0),
      len(os.sched_getaffinity(0)) / n_workers,
    )
    rows.append(
      [
        n_workers,
        *(round(1e3 * each) for each in (step, sum(parts), *parts)),
        FLAGS.batch_size / step,
        alone['step'] / step,
      ]
    )
  head = ['Workers', 'Step, ms', 'Predicted, ms', 'Work, ms', 'Chain, ms']
  head += ['Reduction, ms', 'Items per s', 'To one worker']
  for row in [head, *rows]:
    print(
      ' '.join(
        f'{v:>18.2f}' if isinstance(v, float) else f'{v:>18}' for v in row
      )
    )
  if 'busy' in alone:
    busy = alone['busy']
    print(
      f'{FLAGS.simulated_threads} simulated threads are busy '
      f'{100 * busy["rendering"]:.0f} % of the time in which plugins render '
      f'({100 * busy["most"]:.0f} % could be), '
      f'{100 * busy["all"]:.0f} % of a step of {busy["step"]:.2f} s.'
    )
  results.write('scaling', head, rows, alone['uris'])
  results.keep(found)


if __name__ == '__main__':
  app.run(main)
