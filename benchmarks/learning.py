"""How far a plugin render brings learning: loss against renders.

    pip install 'dafx[benchmarks]'
    python benchmarks/learning.py --output_dir=build/learning

Two tasks whose answer is known, because the target is made by the plugins
themselves:

- trajectories: Calf's multiband compressor, 12 controls in each of 20 frames.
- chain: Calf's multiband compressor, LSP's graphic equaliser of 32 bands and
  LSP's limiter, 50 controls, one setting for all of the audio.

Every method descends from the same start with Adam, at the better one of two
learning rates, but for CMA-ES, which has its own rule. What counts is renders
of one item by one plugin, those of the forward pass with them. Numbers are
means over seeds (of directions, for CMA-ES of samples); curves go to CSV and
PNG.
"""

import csv
import dataclasses
import os
import time
from collections.abc import Callable

import cma
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from dafx import effects, gradients, losses

FLAGS = flags.FLAGS
flags.DEFINE_list('tasks', ['trajectories', 'chain'], 'Tasks to run.')
flags.DEFINE_string('output_dir', 'build/learning', 'Where curves go.')
flags.DEFINE_integer('n_seeds', 2, 'Seeds; they run side by side.')

_CALF = 'http://calf.sourceforge.net/plugins/MultibandCompressor'
_EQUALIZER = 'http://lsp-plug.in/plugins/lv2/graph_equalizer_x32_mono'
_LIMITER = 'http://lsp-plug.in/plugins/lv2/limiter_mono'

_SAMPLE_RATE = 22050
_HOP_SIZE = 1024
_N_FRAMES = 20
_RATES = (0.01, 0.03)  # of learning
_BASELINE = 'whole item, 1 probe'


# ---------------------------------------------------------------- Tasks ----
def make_audio() -> np.ndarray:
  """Returns decaying chords over soft noise, [1, n_samples, 1]."""
  rng = np.random.default_rng(0)
  time_s = np.arange(_N_FRAMES * _HOP_SIZE) / _SAMPLE_RATE
  envelope = np.exp(-3.0 * (2.0 * time_s % 1.0))
  tones = ((110, 0.3), (220, 0.2), (440, 0.15), (1500, 0.1), (5000, 0.05))
  audio = sum(
    level
    * envelope
    * np.sin(2 * np.pi * f0_hz * time_s * (1 + 1e-3 * np.sin(5 * time_s)))
    for f0_hz, level in tones
  )
  audio += 0.02 * rng.standard_normal(len(audio))
  return audio.astype(np.float32)[np.newaxis, :, np.newaxis]


def make_multiband(**kwargs) -> effects.LV2Plugin:
  """Returns Calf's compressor with its four bands switched on."""
  bands = range(4)
  fixed = {f'bypass{band}': 0 for band in bands}
  fixed.update({f'attack{band}': 5 for band in bands})
  fixed.update({f'release{band}': 50 for band in bands})
  trainable = [
    f'{kind}{band}'
    for band in bands
    for kind in ('threshold', 'ratio', 'makeup')
  ]
  return effects.LV2Plugin(
    _CALF,
    trainable + list(kwargs.pop('more', ())),
    fixed,
    {**{f'makeup{band}': (1, 5) for band in bands}, **kwargs.pop('ranges', {})},
    sample_rate=_SAMPLE_RATE,
    name='multiband',
    **kwargs,
  )


@dataclasses.dataclass
class Task:
  """What is to be learned.

  Attributes:
    name: Name of the task.
    plugins: Processors in a row.
    start: Controls to start from, [n_frames, n_controls].
    target: Controls that made the target, of the same shape.
    loss: From two batches of audio [batch, n_samples] to one loss per item.
    budget: Renders that a method may spend.
    half_life: Renders after which the learning rate is halved, after twice as
      many to a third, and so on. The loss of magnitudes does not flatten at its
      minimum; at a constant rate methods stay at a seventh of their start.
  """

  name: str
  plugins: list
  start: np.ndarray
  target: np.ndarray
  loss: Callable
  budget: int
  half_life: float = np.inf

  def __post_init__(self):
    """Renders the target."""
    self.audio = make_audio()
    self.chain = effects.LV2Chain(self.plugins, name='chain')
    self.target_audio = tf.constant(
      self.render(self.target[np.newaxis])[..., 0]
    )
    self._graph = tf.function(self._loss_and_cotangent)

  @property
  def n_renders(self) -> int:
    """Renders of items by plugins so far."""
    return sum(plugin.n_renders for plugin in self.plugins)

  def render(self, points) -> np.ndarray:
    """Renders controls [n, n_frames, n_controls] to [n, n_samples, 1]."""
    audio = np.repeat(self.audio, len(points), axis=0)
    return self.chain.render(audio, self.to_port_units(points))

  def to_port_units(self, points) -> np.ndarray:
    """Maps controls in [0, 1] to port units."""
    parts = zip(self.plugins, self.chain.split_controls(points))
    values = [plugin.control_map.to_port_units(part) for plugin, part in parts]
    return np.concatenate(values, axis=-1).astype(np.float32)

  def _loss_and_cotangent(self, signal):
    with tf.GradientTape() as tape:
      tape.watch(signal)
      values = self.loss(self.target_audio, signal)
    return values, tape.gradient(values, signal)

  def loss_and_cotangent(self, signal):
    """Returns losses [n] of audio [n, n_samples, 1], and their gradient."""
    values, cotangent = self._graph(tf.constant(signal[..., 0], tf.float32))
    return values.numpy(), cotangent.numpy()[..., np.newaxis]


def make_trajectories() -> Task:
  """Calf's multiband compressor, smooth trajectories, squared error."""
  plugin = make_multiband()
  start = np.full((_N_FRAMES, plugin.n_controls), 0.5)
  walk = np.random.default_rng(1).standard_normal(start.shape)
  for _ in range(3):
    walk = (np.roll(walk, 1, 0) + walk + np.roll(walk, -1, 0)) / 3
  target = np.clip(start + 0.35 * walk / np.abs(walk).max(), 0.0, 1.0)

  def loss(target_audio, audio):
    error = tf.reduce_mean((audio - target_audio) ** 2, axis=-1)
    return error / tf.reduce_mean(target_audio**2)

  return Task('trajectories', [plugin], start, target, loss, budget=3000)


def make_chain() -> Task:
  """Compressor, equaliser and limiter, one setting, spectral loss."""
  multiband = make_multiband(
    more=('freq0', 'freq1', 'freq2', 'level_in'),
    ranges={
      'freq0': (10, 400),
      'freq1': (400, 3000),
      'freq2': (3000, 10000),
      'level_in': (0.25, 4),
    },
  )
  bands = [f'g_{band}' for band in range(32)]
  equalizer = effects.LV2Plugin(
    _EQUALIZER,
    [*bands, 'g_out'],
    {'slope': 4},
    {**{band: (0.125, 8) for band in bands}, 'g_out': (0.25, 4)},
    sample_rate=_SAMPLE_RATE,
    audio_gradient=gradients.BestAdjoint(epsilons=(1.0,)),
    name='equalizer',
  )
  limiter = effects.LV2Plugin(
    _LIMITER,
    ['th'],
    {'alr': 0, 'boost': 1},
    {'th': (0.0625, 1)},
    sample_rate=_SAMPLE_RATE,
    name='limiter',
  )
  start = np.full((1, 50), 0.5)
  rng = np.random.default_rng(2)
  target = start + rng.uniform(-0.35, 0.35, start.shape)
  spectral = losses.MultiScaleSpectralLoss(
    fft_sizes=(2048, 512, 128),
  )

  def loss(target_audio, audio):
    return tf.stack(
      [spectral(target_audio, item[tf.newaxis]) for item in tf.unstack(audio)]
    )

  plugins = [multiband, equalizer, limiter]
  return Task('chain', plugins, start, target, loss, budget=3500, half_life=600)


TASKS = {'trajectories': make_trajectories, 'chain': make_chain}


# -------------------------------------------------------------- Methods ----
@dataclasses.dataclass
class Joint:
  """One perturbation of all controls, two renders of all plugins a probe.

  Attributes:
    n_probes: Directions per step.
    sides: Renders of each direction.
    memory: Frames after its own that a frame is credited with.
    n_frames: Frames that a static setting is perturbed in.
    directions: Kind of the directions.
  """

  n_probes: int = 1
  sides: int = 1
  memory: int | None = 0
  n_frames: int = _N_FRAMES
  directions: str = 'hadamard'

  def __call__(self, task, points, signal, cotangent, step):
    """Returns the gradient to points, and the renders of an item."""
    n_frames = max(self.n_frames, points.shape[1])
    before = task.n_renders
    estimator = gradients.Spsa(
      n_probes=self.n_probes,
      sides=self.sides,
      memory=self.memory,
      directions=self.directions,
    )
    estimates = estimator.estimates(
      lambda points, items: task.render(points),
      _in_frames(points, n_frames),
      cotangent,
      signal=signal,
      step=step,
    )
    # Counted, for near a bound the one-sided estimate takes one render more.
    n_renders = (task.n_renders - before) / len(points)
    return _of_frames(estimates.mean(0), points.shape[1]), n_renders


@dataclasses.dataclass
class PerPlugin:
  """Each plugin by itself, the gradient passed back through those after it.

  Attributes:
    n_probes: Directions per plugin and step.
    sides: Renders of each direction.
    memory: Frames after its own that a frame is credited with.
    way: `audio_gradient` of the plugins.
  """

  n_probes: int = 1
  sides: int = 1
  memory: int | None = 0
  way: gradients.AudioAdjoint = gradients.BestAdjoint()

  def __call__(self, task, points, signal, cotangent, step):
    """Returns the gradient to points, and the renders of an item."""
    n_items, own_frames, _ = points.shape
    ports = task.to_port_units(_in_frames(points, _N_FRAMES))
    values = task.chain.split_controls(ports)
    # What the forward pass has rendered is not counted twice.
    audio = np.repeat(task.audio, n_items, axis=0)
    signals = task.chain.signals(audio, ports)
    before = task.n_renders
    estimates = []
    for i in reversed(range(len(task.plugins))):
      plugin = task.plugins[i]
      plugin.control_gradient = gradients.Spsa(
        n_probes=self.n_probes, sides=self.sides, memory=self.memory
      )
      plugin.audio_gradient = self.way
      estimate = plugin.gradient_to_controls(
        signals[i], values[i], cotangent, step, signals[i + 1]
      )
      slope = plugin.control_map.slope(values[i])
      estimates.insert(0, estimate * slope)
      if i:
        cotangent = plugin.gradient_to_audio(signals[i], values[i], cotangent)
    n_renders = (task.n_renders - before) / n_items
    return _of_frames(np.concatenate(estimates, -1), own_frames), n_renders


@dataclasses.dataclass
class Central:
  """Central differences, one control of one frame at a time."""

  def __call__(self, task, points, signal, cotangent, step):
    """Returns the gradient to points, and the renders of an item."""
    (estimate,) = gradients.CentralDifferences().estimates(
      lambda points, items: task.render(points), points, cotangent
    )
    return estimate, 2 * points[0].size * len(task.plugins)


def _in_frames(points, n_frames):
  """Holds a static setting [n, 1, n_controls] for n_frames."""
  if points.shape[1] == n_frames:
    return points
  return np.repeat(points, n_frames, axis=1)


def _of_frames(estimate, n_frames):
  """Sums what `_in_frames` has spread."""
  if estimate.shape[1] == n_frames:
    return estimate
  return estimate.sum(1, keepdims=True)


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
  return Curve('CMA-ES', 0.2, renders, np.stack([c[:, 1] for c in curves], 1))


def methods_of(task) -> dict[str, Callable]:
  """Returns the methods that a task is learned by."""
  found = {
    _BASELINE: Joint(1, 2, None, 1, 'rademacher'),
    'joint, 1 probe': Joint(1),
    'central differences': Central(),
  }
  if len(task.plugins) == 1:
    found['joint, 2 probes'] = Joint(2)
  else:
    found['joint, 4 probes'] = Joint(4)
    found['joint, 8 probes'] = Joint(8)
    found['by plugin, 1 probe, straight_through'] = PerPlugin(
      1, way=gradients.StraightThrough()
    )
    found['by plugin, 4 probes, reversal'] = PerPlugin(
      4, way=gradients.Reversal()
    )
  return found


def learn(task, n_seeds) -> list[Curve]:
  """Learns a task by all methods."""
  curves = []
  for name, method in methods_of(task).items():
    is_exact = isinstance(method, Central)
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
  evolved = min(best(curves, 'CMA-ES', renders_to_tenth), task.budget)
  _judge(f'renders to a tenth, {ours}, against CMA-ES', own[ours], evolved / 2)


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
  """Learns one task, prints its table, writes its curves."""
  started_s = time.monotonic()
  os.makedirs(FLAGS.output_dir, exist_ok=True)
  task = TASKS[name]()
  curves = learn(task, FLAGS.n_seeds)
  report(task, curves)
  write_curves(task, curves, FLAGS.output_dir)
  print(f'  {time.monotonic() - started_s:.0f} s\n', flush=True)


def main(argv):
  """Runs the tasks."""
  del argv
  for name in FLAGS.tasks:
    if name not in TASKS:
      raise app.UsageError(f'--tasks={name} must be of {sorted(TASKS)}.')
  for name in FLAGS.tasks:
    run(name)


if __name__ == '__main__':
  app.run(main)
