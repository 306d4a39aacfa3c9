"""How far a plugin render brings learning: loss against renders.

    pip install 'dafx[benchmarks]'
    python benchmarks/learning.py --output_dir=build/learning

The tasks are those of `learning_tasks`. Every method descends from the same
start with Adam, at the better one of two learning rates, but for CMA-ES, which
has its own rule. What counts is renders of one item by one plugin, those of the
forward pass with them. Numbers are means over seeds (of directions, for CMA-ES
of samples); curves go to CSV and PNG.
"""

import csv
import dataclasses
import os
import time
from collections.abc import Callable

import cma
import learning_tasks
import matplotlib.pyplot as plt
import numpy as np
import results
from absl import app, flags, logging

from dafx import gradients

FLAGS = flags.FLAGS
flags.DEFINE_list('tasks', list(learning_tasks.TASKS), 'Tasks to run.')
flags.DEFINE_string('output_dir', 'build/learning', 'Where curves go.')
flags.DEFINE_integer('n_seeds', 2, 'Seeds; they run side by side.')
flags.DEFINE_integer('budget', None, 'Renders of a method, if not the usual.')

_RATES = (0.01, 0.03)  # of learning
_BASELINE = 'SPSA, credit of the whole item (DeepAFx)'
_EVOLUTION = 'CMA-ES'


# ------------------------------------------------------------- Learning ----
@dataclasses.dataclass
class Curve:
  """Losses of one method at one rate; [n_steps] and [n_steps, n_seeds]."""

  method: str
  rate: float
  renders: np.ndarray
  losses: np.ndarray

  def renders_to(self, share: float) -> float:
    """Mean renders until the loss is below a share of its start; inf if not."""
    below = self.losses < share * self.losses[0]
    first = np.where(below.any(0), below.argmax(0), len(below))
    return float(np.append(self.renders, np.inf)[first].mean())

  @property
  def final(self) -> float:
    """Mean loss over the last ten steps."""
    return float(self.losses[-10:].mean())


def descend(task, name, method, n_seeds) -> list[Curve]:
  """Runs Adam with a method, all rates and seeds side by side."""
  rates = np.repeat(_RATES, n_seeds)[:, np.newaxis, np.newaxis]
  points = np.repeat(task.start[np.newaxis], len(rates), axis=0)
  first, second = np.zeros_like(points), np.zeros_like(points)
  renders, history, spent, step = [], [], 0, 0
  while spent < task.budget:
    signal = task.render(points)
    values, cotangent = task.loss_and_cotangent(signal)
    spent += len(task.plugins)
    renders.append(spent)
    history.append(values)
    gradient, n_renders = method(task, points, signal, cotangent, step)
    spent += n_renders
    step += 1
    first = 0.9 * first + 0.1 * gradient
    second = 0.99 * second + 0.01 * gradient**2
    move = first / (1 - 0.9**step)
    move /= np.sqrt(second / (1 - 0.99**step)) + 1e-12
    falling = rates / (1.0 + spent / task.half_life)
    points = np.clip(points - falling * move, 0.0, 1.0)
  history = np.array(history)
  return [
    Curve(name, rate, np.array(renders), part)
    for rate, part in zip(_RATES, np.split(history, len(_RATES), axis=1))
  ]


def evolve(task, n_seeds) -> Curve:
  """Runs CMA-ES; a curve of the best loss so far."""
  curves = []
  for seed in range(n_seeds):
    options = dict(bounds=[0, 1], seed=seed + 1, verbose=-9)
    search = cma.CMAEvolutionStrategy(task.start.ravel(), 0.2, options)
    start, _ = task.loss_and_cotangent(task.render(task.start[np.newaxis]))
    best, spent = start[0], len(task.plugins)
    curve = [(spent, best)]
    while spent < task.budget:
      points = search.ask()
      shaped = np.stack(points).reshape(-1, *task.start.shape)
      values, _ = task.loss_and_cotangent(task.render(shaped))
      search.tell(points, values.tolist())
      spent += len(points) * len(task.plugins)
      best = min(best, values.min())
      curve.append((spent, best))
    curves.append(np.array(curve))
  renders = curves[0][:, 0]
  return Curve(_EVOLUTION, 0.2, renders, np.stack([c[:, 1] for c in curves], 1))


def methods_of(task) -> dict[str, Callable]:
  """Returns the methods that a task is learned by."""
  found = {
    _BASELINE: learning_tasks.Joint(1, 2, None, 1, 'rademacher'),
    'joint, 1 probe': learning_tasks.Joint(1),
    'central differences': learning_tasks.Central(),
  }
  if len(task.plugins) == 1:
    found['joint, 2 probes'] = learning_tasks.Joint(2)
  else:
    found['joint, 4 probes'] = learning_tasks.Joint(4)
    found['joint, 8 probes'] = learning_tasks.Joint(8)
    found['by plugin, 1 probe, straight_through'] = learning_tasks.PerPlugin(
      1, way=gradients.StraightThrough()
    )
    found['by plugin, 4 probes, reversal'] = learning_tasks.PerPlugin(
      4, way=gradients.Reversal()
    )
  return found


def learn(task, n_seeds) -> list[Curve]:
  """Learns a task by all methods."""
  curves = []
  for name, method in methods_of(task).items():
    is_exact = isinstance(method, learning_tasks.Central)
    curves += descend(task, name, method, 1 if is_exact else n_seeds)
    logging.info('%s: %s is done', task.name, name)
  return [*curves, evolve(task, n_seeds)]


def best(curves, name, figure) -> float:
  """Returns the least figure of a method over its rates."""
  return min(figure(curve) for curve in curves if curve.method == name)


def renders_to_tenth(curve: Curve) -> float:
  """Returns the renders until a tenth of the starting loss."""
  return curve.renders_to(0.1)


def _judge(what, measured, target):
  verdict = 'reached' if measured <= target else 'MISSED'
  if np.isinf([measured, target]).all():
    verdict = 'neither is there'
  print(f'  {what}: {measured:.4g}, target at most {target:.4g}: {verdict}')


def report(task, curves):
  """Prints the table of a task, and how its targets are met."""
  start = curves[0].losses[0].mean()
  print(f'{task.name}: loss {start:.4f} at the start; renders of a plugin')
  print(f'{"method":34} {"rate":>5} {"1/2":>6} {"1/4":>6} {"1/10":>6}    last')
  for curve in curves:
    shares = ''.join(f'{curve.renders_to(s):7.0f}' for s in (0.5, 0.25, 0.1))
    print(f'{curve.method:34} {curve.rate:5.2f}{shares} {curve.final:10.5f}')
  own = {
    curve.method: best(curves, curve.method, renders_to_tenth)
    for curve in curves
    if curve.method.startswith(('joint', 'by plugin'))
  }
  ours = min(own, key=own.get)
  baseline = best(curves, _BASELINE, renders_to_tenth)
  if task.name == 'trajectories':
    # What a method has not reached takes more than it was given.
    target = min(baseline, task.budget) / 4
    _judge(f'renders to a tenth, {ours}', own[ours], target)
    last = best(curves, _BASELINE, lambda curve: curve.final)
    final = min(best(curves, name, lambda c: c.final) for name in own)
    _judge(f'loss after {task.budget} renders', final, last / 20)
    return
  for name, figure in own.items():
    _judge(f'renders to a tenth, {name}, against whole item', figure, baseline)
  evolved = min(best(curves, _EVOLUTION, renders_to_tenth), task.budget)
  _judge(f'renders to a tenth, {ours}, against CMA-ES', own[ours], evolved / 2)


def write_results(task, curves):
  """Writes the table of a task: of each method its better rate."""

  def renders(name, share):
    found = best(curves, name, lambda curve: curve.renders_to(share))
    return round(found) if np.isfinite(found) else None

  start = curves[0].losses[0].mean()
  rows = []
  for name in dict.fromkeys(curve.method for curve in curves):
    last = best(curves, name, lambda curve: curve.final)
    rows.append([name, renders(name, 0.25), renders(name, 0.1), last / start])
  results.write(
    f'learning_{task.name}',
    [
      'Method',
      'Renders to a quarter of the loss',
      'Renders to a tenth',
      f'Share of the loss left after {task.budget:,} renders',
    ],
    rows,
    [plugin.uri for plugin in task.plugins],
    decimals=4,
  )


def write_curves(task, curves, folder):
  """Writes curves as CSV and PNG."""
  stem = os.path.join(folder, task.name)
  with open(f'{stem}.csv', 'w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file)
    writer.writerow(['method', 'rate', 'renders', 'loss'])
    for curve in curves:
      for n_renders, loss in zip(curve.renders, curve.losses.mean(1)):
        writer.writerow([curve.method, curve.rate, n_renders, loss])
  figure, axes = plt.subplots(figsize=(8, 5), layout='constrained')
  for name in dict.fromkeys(curve.method for curve in curves):
    curve = min(
      (c for c in curves if c.method == name),
      key=lambda c: (c.renders_to(0.1), c.final),
    )
    axes.loglog(curve.renders, curve.losses.mean(1), label=name)
  axes.axhline(
    0.1 * curves[0].losses[0].mean(), color='grey', linestyle=':', label='1/10'
  )
  axes.set(xlabel='renders of a plugin', ylabel='loss', title=task.name)
  axes.legend(fontsize='small')
  figure.savefig(f'{stem}.png', dpi=150)
  plt.close(figure)


def run(name: str):
  """Learns one task, prints its table, writes its curves; returns them."""
  started_s = time.monotonic()
  os.makedirs(FLAGS.output_dir, exist_ok=True)
  task = learning_tasks.TASKS[name]()
  if FLAGS.budget is not None:
    task.budget = FLAGS.budget
  curves = learn(task, FLAGS.n_seeds)
  report(task, curves)
  write_results(task, curves)
  write_curves(task, curves, FLAGS.output_dir)
  print(f'  {time.monotonic() - started_s:.0f} s\n', flush=True)
  return [
    {
      'task': name,
      'method': curve.method,
      'rate': curve.rate,
      'renders': curve.renders.tolist(),
      'losses': curve.losses.tolist(),
    }
    for curve in curves
  ]


def main(argv):
  """Runs the tasks."""
  del argv
  for name in FLAGS.tasks:
    if name not in learning_tasks.TASKS:
      raise app.UsageError(
        f'--tasks={name} must be of {sorted(learning_tasks.TASKS)}.'
      )
  results.keep([row for name in FLAGS.tasks for row in run(name)])


if __name__ == '__main__':
  app.run(main)
