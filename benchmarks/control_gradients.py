"""How good gradients to the controls are for what they cost in plugin renders.

    python benchmarks/control_gradients.py

Cosine with central differences, for the gradient of a squared error:

- moving: controls of their own in each of 20 frames.
- static: one setting for the item, perturbed in frames of its own or in one
  direction for all of the item.
- hops: one setting for the item, perturbed in frames of several lengths at one
  probe, so for the same renders.

Seeds are fixed. A line shows the target, what came out, and whether it was
reached.
"""

from collections.abc import Callable
from typing import NamedTuple

import gradient_systems as systems
import numpy as np
import results
from absl import app, flags

from dafx import effects, gradients

FLAGS = flags.FLAGS
PARTS = ('moving', 'static', 'hops')
flags.DEFINE_list('parts', list(PARTS), f'Of {", ".join(PARTS)}.')
flags.DEFINE_integer('n_points', 2, 'Settings of each plugin.', lower_bound=1)
flags.DEFINE_integer('n_seeds', 6, 'Of directions.', lower_bound=1)

PROBES = (1, 4, 16)
HOP_SIZES = (8192, 2048, 1024)
ESTIMATORS = {
  'credit of the whole item': dict(memory=None, directions='rademacher'),
  'credit by frame': dict(directions='rademacher'),
  'credit by frame, Hadamard directions': {},
  'the same, one-sided': dict(sides=1),
  'the same, two-sided, smoothed over 2 frames': dict(smoothing=2),
}


class Point(NamedTuple):
  """Controls of a plugin, and the gradient there.

  Attributes:
    plugin: The plugin.
    render: From controls [n, n_frames, n_controls] to audio [n, n_samples, 1].
    controls: In [0, 1], [1, n_frames, n_controls].
    error: Gradient of the loss to the output, [1, n_samples, 1].
    output: At the controls, [1, n_samples, 1].
    gradient: By central differences, [1, n_frames, n_controls].
    agreement: Cosine between differences of two sizes.
  """

  plugin: effects.LV2Plugin
  render: Callable
  controls: np.ndarray
  error: np.ndarray
  output: np.ndarray
  gradient: np.ndarray
  agreement: float

  def quality(self, estimator: gradients.Spsa, seed: int, n_frames=None):
    """Returns the cosine of an estimate.

    Args:
      estimator: What estimates.
      seed: Of its directions.
      n_frames: Frames that a static setting is perturbed in, by default those
        that the estimator chooses.
    """
    controls = self.controls
    if n_frames is not None:
      controls = np.repeat(controls, n_frames, axis=1)
    estimate = estimator.estimates(
      self.render,
      controls,
      self.error,
      measure_memory=self.plugin.measure_memory,
      signal=self.output,
      seed=seed,
    ).mean(0)
    if n_frames is not None:
      estimate = estimate.sum(1, keepdims=True)
    return systems.cosine(estimate, self.gradient)


def make_points(
  system: systems.ControlSystem, n_frames: int, n_samples: int
) -> list[Point]:
  """Returns points of a plugin whose target is the plugin's too.

  Args:
    system: The plugin.
    n_frames: Frames of controls; 1 for a static setting.
    n_samples: Of the item.
  """
  plugin, audio = system.make_plugin(), systems.make_audio(n_samples)

  def render(points, items):
    values = plugin.control_map.to_port_units(points).astype(np.float32)
    return plugin.render(audio[items], values)

  points, item = [], np.zeros(1, int)
  for seed in range(FLAGS.n_points):
    rng = np.random.default_rng(seed)
    shape = (1, n_frames, plugin.n_controls)
    steady = (1, 1, plugin.n_controls)
    controls = rng.uniform(0.3, 0.7, steady) + rng.uniform(-0.05, 0.05, shape)
    wanted = controls + rng.uniform(-0.15, 0.15, steady)
    wanted = np.clip(wanted + rng.uniform(-0.1, 0.1, shape), 0.0, 1.0)
    output = render(controls, item)
    error = (output - render(wanted, item)) / n_samples
    references = [
      gradients.CentralDifferences(epsilon=size).estimates(
        render, controls, error
      )[0]
      for size in (0.005, 0.02)
    ]
    agreement = systems.cosine(*references)
    points.append(
      Point(plugin, render, controls, error, output, sum(references), agreement)
    )
  return points


def mean_quality(points: list[Point], options: dict, n_frames=None) -> float:
  """Returns the mean cosine over points and seeds; see `Point.quality`."""
  estimator = gradients.Spsa(**options)
  return float(
    np.mean(
      [
        point.quality(estimator, seed, n_frames)
        for point in points
        for seed in range(FLAGS.n_seeds)
      ]
    )
  )


def measure_moving(report: results.Report):
  """Measures controls that move."""
  rows = []
  for system in systems.MOVING:
    n_samples = systems.N_FRAMES * systems.HOP_SIZE
    points = make_points(system, systems.N_FRAMES, n_samples)
    name = (
      f'{system.name}, {points[0].plugin.n_controls} controls, '
      f'{systems.N_FRAMES} frames'
    )
    agreement = np.mean([point.agreement for point in points])
    report.add('moving', f'{name}: differences agree', agreement)
    found = {}
    for label, options in ESTIMATORS.items():
      found[label] = [
        mean_quality(points, {**options, 'n_probes': n}) for n in PROBES
      ]
      for n_probes, value in zip(PROBES, found[label], strict=True):
        report.add('moving', f'  {n_probes} probes, {label}', value)
      rows.append([f'{name}: {label}', *found[label]])
    for i, n_probes in enumerate(PROBES):
      best = max(values[i] for values in found.values())
      target = system.targets[n_probes]
      report.add('moving', f'{name}: best of {n_probes} probes', best, target)
  results.write(
    'control_gradients',
    ['Plugin and estimator', '1 probe', '4 probes', '16 probes'],
    rows,
    [system.uri for system in systems.MOVING],
  )


def measure_static(report: results.Report):
  """Measures static settings."""
  rows = []
  for system in systems.STATIC:
    n_samples = systems.N_FRAMES * systems.HOP_SIZE
    points = make_points(system, 1, n_samples)
    plugin = points[0].plugin
    row = [system.name, plugin.n_controls]
    for n_probes in PROBES[:2]:
      value = mean_quality(points, dict(n_probes=n_probes))
      whole = mean_quality(points, dict(n_probes=n_probes, memory=None))
      row += [value, whole]
      label = f'{system.name}, static: {n_probes} probes'
      target = system.targets.get(n_probes)
      report.add('static', label, value, target, f'one direction {whole:.2f}')
    row.append(
      gradients.frames_of_probes(
        plugin.measure_memory, n_samples, plugin.n_controls, 1
      )
    )
    rows.append(row)
  results.write(
    'static_settings',
    [
      'Plugin',
      'Static controls',
      '1 probe',
      '1 probe, one direction',
      '4 probes',
      '4 probes, one direction',
      'Stretches',
    ],
    rows,
    [system.uri for system in systems.STATIC],
  )


def measure_hops(report: results.Report):
  """Measures one setting for an item, perturbed in frames of some lengths."""
  chosen = (systems.MULTIBAND, systems.EQUALISER)
  n_samples = 40960
  points = [make_points(system, 1, n_samples) for system in chosen]
  rows = []
  for hop_size in HOP_SIZES:
    n_frames = n_samples // hop_size
    found = [mean_quality(each, {}, n_frames) for each in points]
    rows.append([hop_size, *found])
    for system, value in zip(chosen, found, strict=True):
      report.add('hops', f'{system.name}, hop of {hop_size}', value)
  results.write(
    'hop_sizes',
    ['Hop in samples', 'Multiband compressor', 'Equaliser'],
    rows,
    [system.uri for system in chosen],
  )


def main(argv):
  """Runs the parts and prints what they found."""
  del argv
  unknown = set(FLAGS.parts) - set(PARTS)
  if unknown:
    raise app.UsageError(
      f'--parts={",".join(sorted(unknown))}: there are {", ".join(PARTS)}.'
    )
  report = results.Report()
  measures = (measure_moving, measure_static, measure_hops)
  for part, measure in zip(PARTS, measures, strict=True):
    if part in FLAGS.parts:
      measure(report)
  results.keep(report.rows)


if __name__ == '__main__':
  app.run(main)
