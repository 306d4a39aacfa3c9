"""How good gradients are through a chain of plugins, for what they cost.

    python benchmarks/chains.py

Cosine with central differences on the chain of `learning_tasks`: 50 controls,
one setting for the item, perturbed anew in each of its 20 frames, from one side
unless a line says otherwise. 'Plugin renders' are those of one item by one
plugin beside the forward pass, the median over seeds. Between plugins, 'the
best' compares its ways at the first step, which the median leaves out.
"""

import gradient_systems as systems
import learning_tasks
import numpy as np
import results
from absl import app, flags

from dafx import gradients

FLAGS = flags.FLAGS
flags.DEFINE_integer('n_seeds', 8, 'Of directions.', lower_bound=1)
flags.DEFINE_integer('max_probes', 16, 'Only estimates of so many at most.')

_JOINT, _REVERSAL = 'joint', 'by plugin, reversal between'
_BEST, _WIRE = 'by plugin, the best between', 'by plugin, a wire between'
_WHOLE = 'joint, one direction for the whole item, two-sided'


def methods():
  """Yields (estimate, number of probes, its method)."""
  for n_probes in (1, 4, 16):
    yield _JOINT, n_probes, learning_tasks.Joint(n_probes)
  for name, way in (
    (_BEST, gradients.BestAdjoint()),
    (_REVERSAL, gradients.Reversal()),
    (_WIRE, gradients.StraightThrough()),
  ):
    for n_probes in (1, 4):
      yield name, n_probes, learning_tasks.PerPlugin(n_probes, way=way)
  for n_probes in (1, 8):
    yield (
      _WHOLE,
      n_probes,
      learning_tasks.Joint(n_probes, 2, None, 1, 'rademacher'),
    )


def measure(task, method, point, reference):
  """Returns (mean cosine, median of renders) of a method at a point.

  Args:
    task: Of `learning_tasks`.
    method: From there too.
    point: Controls, [1, 1, n_controls].
    reference: The gradient there.
  """
  signal = task.render(point)
  _, cotangent = task.loss_and_cotangent(signal)
  for plugin in task.plugins:
    plugin.input_choice.assign([-1, 0])  # so that it compares anew
  cosines, renders = [], []
  for seed in range(FLAGS.n_seeds):
    estimate, n_renders = method(task, point, signal, cotangent, seed)
    cosines.append(systems.cosine(estimate, reference))
    renders.append(n_renders)
  return float(np.mean(cosines)), round(np.median(renders))


def main(argv):
  """Measures and prints."""
  del argv
  task = learning_tasks.make_chain()
  points, references = [], []
  for share in (0.0, 0.7):
    point = (task.start + share * (task.target - task.start))[np.newaxis]
    signal = task.render(point)
    _, cotangent = task.loss_and_cotangent(signal)
    central = learning_tasks.Central()
    references.append(central(task, point, signal, cotangent, 0)[0])
    points.append(point)
  rows = []
  for name, n_probes, method in methods():
    if n_probes > FLAGS.max_probes:
      continue
    cosines, renders = zip(
      *(
        measure(task, method, point, reference)
        for point, reference in zip(points, references, strict=True)
      ),
      strict=True,
    )
    rows.append([name, n_probes, max(renders), *cosines])
    print(
      f'{name:52}{n_probes:3} probes {rows[-1][2]:4} renders '
      f'{cosines[0]:6.3f} {cosines[1]:6.3f}',
      flush=True,
    )
  columns = ['Estimate', 'Probes', 'Plugin renders', 'Cosine at the start']
  columns.append('Cosine at 0.7 of the way')
  results.write(
    'chains', columns, rows, [plugin.uri for plugin in task.plugins]
  )
  results.keep([dict(zip(columns, row, strict=True)) for row in rows])


if __name__ == '__main__':
  app.run(main)
