"""Plugins whose settings are to be learned, and ways to a gradient for them.

The answer of a task is known, because its target is made by the plugins
themselves:

- trajectories: Calf's multiband compressor, 12 controls in each of 20 frames.
- chain: Calf's multiband compressor, LSP's graphic equaliser of 32 bands and
  LSP's limiter, 50 controls, one setting for all of the audio.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from dafx import effects, gradients, losses

_CALF = 'http://calf.sourceforge.net/plugins/MultibandCompressor'
_EQUALIZER = 'http://lsp-plug.in/plugins/lv2/graph_equalizer_x32_mono'
_LIMITER = 'http://lsp-plug.in/plugins/lv2/limiter_mono'

_SAMPLE_RATE = 22050
_HOP_SIZE = 1024
_N_FRAMES = 20


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
