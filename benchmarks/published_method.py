"""The published method (DeepAFx) and dafx, trained on one task.

    python benchmarks/published_method.py

Trains a task of `tasks` twice, once as its demo overlay says and once with the
settings of DeepAFx: one probe whose outcome is credited to whole items,
directions of independent signs, plugins whose state is never reset and whose
latency stays, linear scales of all controls, losses aligned within 100 samples.
Network, rate and how it falls, data and number of steps are ours. Both are
validated alike: fresh state, no latency, no alignment. Draws validation loss
against time and plugin renders (comparison.png in --output_dir) and says after
how many renders ours is where the other ends.
"""

import dataclasses
import pathlib
import time

import gin
import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import results
import tasks
from absl import app, flags, logging

from dafx import losses, lv2
from dafx.commands import running
from dafx.training import gin_files, models, plotting, trainers

FLAGS = flags.FLAGS
flags.DEFINE_string('task', 'distortion', 'Of those of tasks.py.')
flags.declare_key_flag('steps')  # of tasks

OURS, PUBLISHED = 'dafx', 'DeepAFx'
# Of each training, without --steps.
STEPS = 240


class Counter:
  """Counts the items that all renderers render."""

  def __init__(self):
    self.n_renders = 0
    self.is_on = True
    render = lv2.Renderer.render
    counter = self

    def counted(self, audio, *args, **kwargs):
      if counter.is_on:
        counter.n_renders += len(audio)
      return render(self, audio, *args, **kwargs)

    lv2.Renderer.render = counted


class NeverReset(lv2.Renderer):
  """A renderer whose plugins go on from what they rendered last.

  As in DeepAFx, what renders the output, each plus and each minus of the probes
  has a history of its own, and none is ever reset.

  Args:
    plugin: Whose renderer it takes the place of.
  """

  def __init__(self, plugin):
    options = dict(
      uri=plugin.uri,
      sample_rate=plugin.sample_rate,
      controls=plugin.renderer.controls,
      fixed=plugin.renderer.fixed,
      **dataclasses.asdict(plugin.host),
    )
    super().__init__(**options)
    self.is_leaking = True
    options['compensate_latency'] = False
    self._new = lambda: lv2.Renderer(stateful=True, **options)
    self._going_on = {}  # by number of items: outputs, or pluses and minuses

  def render(self, audio, controls=None, hop_size=None, rows=None):
    """Renders as `lv2.Renderer` does, or from where it left off."""
    if not self.is_leaking:
      return super().render(audio, controls, hop_size, rows)
    n_items = len(audio if rows is None else rows)
    if n_items not in self._going_on:
      self._going_on[n_items] = self._new()
    return self._going_on[n_items].render(audio, controls, hop_size, rows)


def trace(task, folder, steps, counter, is_published):
  """Trains; returns [(seconds, renders, validation loss)], and URIs."""
  params = [f'num_steps = {steps}']
  files = []
  if is_published:
    files = ['gradients/spsa_whole_item.gin']
    params += ['effects.Host.warm_up = 0']
  tasks.configure(task, folder, files, params)
  model = models.make_model()
  plain_losses = list(model.loss_objs)
  leaks = []
  if is_published:
    for plugin in model.driven.values():
      plugin.control_map = dataclasses.replace(
        plugin.control_map, is_log=np.zeros_like(plugin.control_map.is_log)
      )
      plugin.renderer = NeverReset(plugin)
      leaks.append(plugin.renderer)
    # Heads start at the defaults on the linear scale.
    model = models.ControlModel(
      model.encoder, model.processor_group, plain_losses, model.sample_rate
    )
    aligned_losses = [losses.AlignedLoss(plain_losses, 100, True)]
  trainer = trainers.Trainer(model)
  points, seconds = [], 0.0
  validate, train_step = trainer.validate, trainer.train_step

  def timed_step(*args):
    nonlocal seconds
    if is_published:
      model.loss_objs = aligned_losses
    start = time.monotonic()
    values = train_step(*args)
    float(values['total_loss'])
    seconds += time.monotonic() - start
    return values

  def alike(*args):
    counter.is_on = False
    model.loss_objs = plain_losses
    for leak in leaks:
      leak.is_leaking = False
    values = validate(*args)
    for leak in leaks:
      leak.is_leaking = True
    counter.is_on = True
    points.append((seconds, counter.n_renders, values['total_loss']))
    return values

  trainer.train_step, trainer.validate = timed_step, alike
  counter.n_renders = 0
  with gin.unlock_config():
    gin.parse_config(
      f'dafx.training.train.steps_per_validation = {max(1, steps // 24)}'
    )
  trainers.train(trainer=trainer)
  return points, tasks.plugins_of(model)


def draw(traces, path):
  """Draws validation loss against seconds and renders.

  Args:
    traces: [(seconds, renders, validation loss)] by name.
    path: Of the picture.
  """
  figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True)
  for name, points in traces.items():
    seconds, renders, values = np.array(points).T
    for axis, x in zip(axes, (seconds, renders)):
      axis.plot(x, values, label=name)
  axes[0].set(xlabel='Seconds of training', ylabel='Validation loss')
  axes[1].set(xlabel='Plugin renders')
  axes[1].legend()
  figure.tight_layout()
  matplotlib.image.imsave(path, plotting.figure_to_array(figure))


def report(traces, plugins):
  """Prints and writes where each ends, and when each is where DeepAFx ends.

  Args:
    traces: [(seconds, renders, validation loss)] by name.
    plugins: URIs of the task's plugins.
  """
  goal = traces[PUBLISHED][-1][2]
  rows = []
  for name, points in traces.items():
    there = [renders for _, renders, loss in points if loss <= goal]
    best = min(loss for _, _, loss in points)
    _, n_renders, last = points[-1]
    rows.append([name, last, best, n_renders, there[0] if there else None])
    print(
      f'{name}: ends at {last:.4f} after {n_renders} renders, {best:.4f} at '
      f'its best; at {goal:.4f} after {rows[-1][-1] or "more than that"}'
    )
  results.write(
    'published_method',
    [
      'Settings',
      'Validation loss at the end',
      'At its best',
      'Plugin renders',
      "Plugin renders to the end of DeepAFx's",
    ],
    rows,
    plugins,
    decimals=3,
  )


def main(argv):
  """Trains both ways."""
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {" ".join(argv[1:])}')
  task = FLAGS.task
  if task not in tasks.TASKS:
    raise app.UsageError(f'--task={task} is none of {", ".join(tasks.TASKS)}.')
  running.prepare_tensorflow(seed=0)
  gin_files.add_gin_search_paths()
  folder = pathlib.Path(FLAGS.output_dir).expanduser().absolute()
  tasks.prepare(task, folder)
  counter = Counter()
  steps = FLAGS.steps or STEPS
  traces = {}
  for name in (OURS, PUBLISHED):
    traces[name], plugins = trace(
      task, folder, steps, counter, name == PUBLISHED
    )
  draw(traces, folder / 'comparison.png')
  report(traces, plugins)
  results.keep({'task': task, 'steps': steps, **traces})


if __name__ == '__main__':
  logging.set_verbosity(logging.INFO)
  app.run(running.with_messages('published_method', main))
