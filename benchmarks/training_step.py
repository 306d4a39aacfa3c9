"""What a training step costs beside the plugins' own time, as ratios.

    python benchmarks/training_step.py

Takes steps of a task on noise and compares, in one run:

- step: a whole step of the trainer.
- plugins: the C render loop alone, for all that such a step renders, as many
  items at a time as there are threads; instances are made before.
- encoder and loss: both, forward and backward, without any plugin.

The ratio that counts is (step - encoder and loss) / plugins. Memory is the
encoder's: that of mastering.gin takes some 65 MB for each frame of the batch,
forward and backward. A batch of 4 x 16,384 samples takes 5 GB.
"""

import concurrent.futures
import statistics
import time

import network_step
import results
import tensorflow as tf
from absl import app, flags

from dafx.lv2 import inputs
from dafx.training import gin_files, models, trainers

FLAGS = flags.FLAGS
flags.DEFINE_string('gin_file', 'mastering.gin', 'Task.')
flags.DEFINE_integer('batch_size', 4, 'Items per step.')
flags.DEFINE_integer('n_samples', 16384, 'Samples per item.')
flags.DEFINE_integer('n_rounds', 7, 'Rounds; medians are printed.')


class Recorder:
  """Keeps what renderers are asked to render, and can do it again."""

  def __init__(self, renderers):
    self.calls = []
    n_threads = max(renderer.n_threads for renderer in renderers)
    self._pool = concurrent.futures.ThreadPoolExecutor(n_threads)
    # As many as there are threads, by renderer: some plugins take 100 MB each.
    self._instances = {
      renderer: [renderer.new_instance() for _ in range(renderer.n_threads)]
      for renderer in renderers
    }
    for renderer in renderers:
      self._wrap(renderer)

  def _wrap(self, renderer):
    render = renderer.render

    def recorded(audio, controls=None, hop_size=None, rows=None):
      checked, fitted_rows, *rest = inputs.fit(
        renderer.plugin,
        renderer.controls,
        renderer.default_controls()[0],
        audio,
        rows,
        controls,
        hop_size,
      )
      if fitted_rows is not None:
        checked = checked[fitted_rows]
      self.calls.append((renderer, checked, *rest))
      return render(audio, controls, hop_size, rows)

    renderer.render = recorded

  def seconds_in_c(self, calls):
    """Returns the wall time of the render loops of calls alone."""
    total = 0.0
    for renderer, audio, controls, hop_size in calls:
      n_threads = renderer.n_threads
      for start in range(0, len(audio), n_threads):
        some = slice(start, start + n_threads)
        total += self._seconds_side_by_side(
          renderer, audio[some], controls[some], hop_size
        )
    return total

  def _seconds_side_by_side(self, renderer, audio, controls, hop_size):
    """Returns the wall time of the loops of as many items as threads."""
    jobs = []
    for instance, item, frames in zip(
      self._instances[renderer], audio, controls, strict=False
    ):
      plane = item.T.copy()
      if len(plane) < renderer.n_channels_in:
        plane = plane.repeat(renderer.n_channels_in, axis=0)
      instance.renew()  # before the clock starts
      jobs.append((instance, plane, frames, hop_size, renderer.warm_up))
    start = time.perf_counter()
    list(self._pool.map(lambda job: renderer.run(*job), jobs))
    return time.perf_counter() - start


def seconds(function):
  """Returns how long a call takes."""
  start = time.perf_counter()
  function()
  return time.perf_counter() - start


def report(rounds, calls, plugins):
  """Prints and writes medians, and the ratio that counts.

  Args:
    rounds: Seconds of each round by what was timed.
    calls: What renderers were asked for in the last round.
    plugins: URIs of the task's plugins.
  """
  medians = {name: statistics.median(row) for name, row in rounds.items()}
  ratios = [
    (step - own) / in_c
    for step, in_c, own in zip(*rounds.values(), strict=True)
  ]
  ratio = statistics.median(ratios)
  n_items = sum(len(audio) for _, audio, _, _ in calls)
  print(
    f'{FLAGS.gin_file}: batch of {FLAGS.batch_size} x {FLAGS.n_samples} '
    f'samples, {n_items} renders per step, '
    f'{calls[0][0].n_threads} threads, medians of {FLAGS.n_rounds} rounds'
  )
  for name, value in medians.items():
    print(
      f'{name:18} {1e3 * value:8.1f} ms  {value / medians["step"]:6.3f} of step'
    )
  print(
    '(step - encoder and loss) / plugins: '
    f'{ratio:.3f} (rounds: {min(ratios):.3f} to {max(ratios):.3f}; at most '
    '1.25 is wanted)'
  )
  rows = [[name, 1e3 * value, None] for name, value in medians.items()]
  rows.append(['(step - encoder and loss) / plugins', None, ratio])
  results.write(
    'training_step',
    ['What', 'Milliseconds', 'Ratio'],
    rows,
    plugins,
  )


def main(argv):
  """Measures and prints."""
  del argv
  gin_files.add_gin_search_paths()
  gin_files.parse_gin(
    [FLAGS.gin_file],
    ["data_path = ''", f'n_samples = {FLAGS.n_samples}'],
  )
  tf.keras.utils.set_random_seed(0)
  model = models.make_model()
  trainer = trainers.Trainer(model)
  shape = [FLAGS.batch_size, FLAGS.n_samples]
  batch = {
    'audio': 0.1 * tf.random.stateless_normal(shape, [0, 1]),
    'target': 0.2 * tf.random.stateless_normal(shape, [0, 2]),
  }
  trainer.build(batch)

  encode_and_compare = network_step.make(model, batch)
  recorder = Recorder([p.renderer for p in model.driven.values()])
  trainer.train_step(batch)
  encode_and_compare()
  rounds = {'step': [], 'plugins': [], 'encoder and loss': []}
  for _ in range(FLAGS.n_rounds):
    recorder.calls.clear()
    rounds['step'].append(seconds(lambda: trainer.train_step(batch)))
    calls = list(recorder.calls)
    rounds['plugins'].append(recorder.seconds_in_c(calls))
    rounds['encoder and loss'].append(seconds(encode_and_compare))
  report(rounds, calls, [plugin.uri for plugin in model.driven.values()])
  results.keep(rounds)


if __name__ == '__main__':
  app.run(main)
