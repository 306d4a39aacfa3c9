"""Simultaneous perturbation of control trajectories."""

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.ndimage

from dafx.gradients import black_box

DIRECTIONS = ('hadamard', 'rademacher')
# Samples, at least, for which a static setting is perturbed in one direction.
_PROBE_HOP_SIZE = 1024


def frame_credit(
  products: np.ndarray, n_frames: int, memory: int | None, hold: int = 1
) -> np.ndarray:
  """Sums per sample into what each frame of controls answers for.

  A frame cannot change what came before it, and its effect lasts only so long:
  it is credited with its own samples and those of the `memory` frames after it.
  Frames that are moved together are credited together.

  Args:
    products: Per-sample terms, shape [n, n_samples].
    n_frames: Number of frames of controls.
    memory: Frames after its own that a frame still acts in; None for all.
    hold: Frames that are moved together, from the first one on.

  Returns:
    Credit of shape [n, n_frames].

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> gradients.frame_credit(np.ones([1, 100]), n_frames=4, memory=1)
    array([[50., 50., 50., 25.]])
  """
  n, n_samples = products.shape
  hop_size = -(-n_samples // n_frames)
  padded = np.zeros((n, n_frames * hop_size), products.dtype)
  padded[:, :n_samples] = products
  sums = padded.reshape(n, n_frames, hop_size).sum(-1)
  ends = np.concatenate([np.zeros((n, 1)), np.cumsum(sums, axis=1)], axis=1)
  first = np.arange(n_frames) // hold * hold
  reach = n_frames if memory is None else memory + hold
  last = np.minimum(first + reach, n_frames)
  return ends[:, last] - ends[:, first]


def draw_directions(
  kind: str,
  n_probes: int,
  n_frames: int,
  n_controls: int,
  seed: int,
  step: int,
  item: int,
) -> np.ndarray:
  """Draws the directions that one item is perturbed in: all entries +1 or -1.

  'rademacher' draws each entry by itself. 'hadamard' takes the rows of a
  Hadamard matrix with random signs and order, probe by probe and frame by
  frame: n_controls probes (rounded up to a power of two) of a frame give the
  gradient of a linear box exactly; in the mean over as many frames, controls
  that act alike in all of them do not disturb each other.

  Args:
    kind: 'hadamard' or 'rademacher'.
    n_probes: Number of directions.
    n_frames: Number of frames.
    n_controls: Number of controls.
    seed: Seed of the run.
    step: Training step.
    item: Key of the item, its place in the batch for example.

  Returns:
    Directions of shape [n_probes, n_frames, n_controls].

  Raises:
    ValueError: An unknown kind.

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> gradients.DIRECTIONS
    ('hadamard', 'rademacher')
    >>> delta = gradients.draw_directions(
    ...   'hadamard', 2, 4, 3, seed=0, step=0, item=0
    ... )
    >>> delta.shape, sorted(set(delta.ravel().tolist()))
    ((2, 4, 3), [-1.0, 1.0])
  """
  rng = np.random.default_rng([seed, step, item])
  shape = (n_probes, n_frames, n_controls)
  if kind == 'rademacher':
    return rng.integers(0, 2, shape) * 2.0 - 1.0
  if kind != 'hadamard':
    raise ValueError(f'directions={kind!r} must be one of {DIRECTIONS}.')
  # A power of two that holds all controls; what is beyond it starts over.
  order = 1 << max(n_controls - 1, 0).bit_length()
  hadamard = scipy.linalg.hadamard(order).astype(float)
  hadamard = hadamard[rng.permutation(order)][:, rng.permutation(order)]
  hadamard = hadamard[:, :n_controls] * (rng.integers(0, 2, n_controls) * 2 - 1)
  # Frames take up the rows where the frame before left off.
  rows = np.arange(n_frames * n_probes).reshape(n_frames, n_probes) % order
  # A sign per frame and probe keeps frames apart within a probe.
  signs = rng.integers(0, 2, (n_frames, n_probes, 1)) * 2.0 - 1.0
  return np.moveaxis(signs * hadamard[rows], 1, 0)


def frames_of_probes(
  measure_memory: black_box.MeasureMemory,
  n_samples: int,
  n_controls: int,
  n_probes: int,
) -> int:
  """Returns the number of frames in which a static setting is perturbed.

  Each frame is a probe of its own for what all frames share, at no more
  renders, as long as the response to one has died away within the next. With at
  least as many probes as controls, one frame is enough.

  Args:
    measure_memory: From samples of an item and its frames to frames that the
      response to one lasts in after it.
    n_samples: Samples of an item.
    n_controls: Number of controls.
    n_probes: Probes of each frame.

  Returns:
    The number of frames, of 1,024 samples or of twice, four times... as many.

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> memory: gradients.MeasureMemory = lambda n_samples, n_frames: 1
    >>> gradients.frames_of_probes(memory, 8192, n_controls=12, n_probes=1)
    8
  """
  if n_probes >= n_controls:
    return 1
  hop_size = _PROBE_HOP_SIZE
  while hop_size < n_samples:
    n_frames = -(-n_samples // hop_size)
    if measure_memory(n_samples, n_frames) <= 1:
      return n_frames
    hop_size *= 2
  return 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spsa(black_box.ControlEstimator):
  """Simultaneous perturbation of all frames and controls at once.

  Each probe renders every item at controls + epsilon * d and controls -
  epsilon * d, d being +1 or -1 for each frame and control (Spall 1992, eq.
  2.2). Unlike there, a frame is credited with what follows it within its
  memory, not with the whole item, and differences are divided by the step that
  was really taken within [0, 1].

  Args:
    n_probes: Directions per item and step; `sides` renders each.
    sides: 2 renders each direction and its opposite. 1 renders the direction
      and compares with the unperturbed signal: half the cost, and an error of
      first order in epsilon. Items with a control nearer to a bound than
      epsilon are then rendered once more, from as far inside.
    memory: Frames after its own that a frame of controls is credited with. None
      for the whole rest of the item. 'auto' for as long as the box responds,
      which is measured; a static setting, one frame, is then perturbed in
      several frames (`frames_of_probes`).
    hold: Frames that move together, for controls that vary slowly: fewer
      unknowns, and less noise. What is found for them is shared in equal parts.
    smoothing: Frames to either side that a frame's estimate is averaged with,
      by a triangular window. Neighbours have directions of their own: where the
      gradient changes slowly, this is as good as more probes; 2 is good where
      probes are few. It takes what changes from frame to frame away.
    directions: 'hadamard' or 'rademacher'; see `draw_directions`.
    epsilon: Size of the perturbation; it, `epsilons`, `epsilon_decay` and
      `epsilon_decay_steps` are those of `ControlEstimator`.

  Raises:
    ValueError: An option out of its range.
  """

  n_probes: int = 1
  sides: int = 2
  memory: int | str | None = 'auto'
  hold: int = 1
  smoothing: int = 0
  directions: str = 'hadamard'

  def __post_init__(self):
    """Checks the options."""
    super().__post_init__()
    if self.n_probes < 1 or self.hold < 1 or self.smoothing < 0:
      raise ValueError(
        f'n_probes={self.n_probes} and hold={self.hold} must be at least 1, '
        f'and smoothing={self.smoothing} at least 0.'
      )
    if self.sides not in (1, 2):
      raise ValueError(f'sides={self.sides} must be 1 or 2.')
    is_number = isinstance(self.memory, numbers.Integral) and self.memory >= 0
    if self.memory not in (None, 'auto') and not is_number:
      raise ValueError(
        f"memory={self.memory!r} must be a number of frames, None or 'auto'."
      )
    if self.directions not in DIRECTIONS:
      raise ValueError(
        f'directions={self.directions!r} must be one of {DIRECTIONS}.'
      )

  def estimates(
    self,
    render: black_box.Render,
    controls: np.ndarray,
    cotangent: np.ndarray,
    *,
    symbols: Sequence[str] | None = None,
    measure_memory: black_box.MeasureMemory | None = None,
    signal: np.ndarray | None = None,
    seed: int = 0,
    step: int = 0,
    item_keys: Sequence[int] | None = None,
  ) -> np.ndarray:
    """Estimates the gradient; see `ControlEstimator.estimates`."""
    controls, cotangent = black_box.check(controls, cotangent)
    probes = self._draw(
      controls,
      cotangent.shape[1],
      symbols,
      measure_memory,
      seed,
      step,
      item_keys,
    )
    if probes is None:
      return np.zeros((self.n_probes, *controls.shape))
    estimates = self._estimates_of_frames(render, probes, cotangent, signal)
    is_static = probes.controls.shape[1] > controls.shape[1]
    return estimates.sum(2, keepdims=True) if is_static else estimates

  def points_ahead(
    self,
    controls: np.ndarray,
    n_samples: int,
    *,
    symbols: Sequence[str] | None = None,
    measure_memory: black_box.MeasureMemory | None = None,
    seed: int = 0,
    step: int = 0,
    item_keys: Sequence[int] | None = None,
  ) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the probes; see `ControlEstimator.points_ahead`."""
    controls = black_box.check_controls(controls)
    probes = self._draw(
      controls, n_samples, symbols, measure_memory, seed, step, item_keys
    )
    return None if probes is None else _as_items(probes.points)

  def _draw(
    self, controls, n_samples, symbols, measure_memory, seed, step, item_keys
  ):
    """Returns the `_Probes` of a step; None where there is no control."""
    n_items, n_frames, n_controls = controls.shape
    item_keys = range(n_items) if item_keys is None else item_keys
    if len(item_keys) != n_items:
      raise ValueError(f'{len(item_keys)} item_keys for {n_items} items.')
    names: Sequence = range(n_controls) if symbols is None else symbols
    epsilon = self.epsilons_at(names, step)
    memory: Any = self.memory
    n_probed = n_frames
    if memory == 'auto':
      if measure_memory is None:
        raise ValueError(
          "memory='auto' takes measure_memory, which there is none of. Give "
          'it, or a number of frames, such as Spsa(memory=1).'
        )
      if n_frames == 1:
        n_probed = frames_of_probes(
          measure_memory, n_samples, n_controls, self.n_probes
        )
      memory = measure_memory(n_samples, n_probed)
    if not n_controls:
      return None
    controls = np.repeat(controls, n_probed // n_frames, axis=1)
    n_blocks = -(-n_probed // self.hold)
    deltas = np.stack(
      [
        draw_directions(
          self.directions, self.n_probes, n_blocks, n_controls, seed, step, key
        )
        for key in item_keys
      ],
      axis=1,
    )
    deltas = np.repeat(deltas, self.hold, axis=2)[:, :, :n_probed]
    if self.sides == 2:
      plus = np.clip(controls + epsilon * deltas, 0.0, 1.0)
      minus = np.clip(controls - epsilon * deltas, 0.0, 1.0)
      points, steps = np.concatenate([plus, minus]), plus - minus
      return _Probes(controls, controls, points, steps, memory)
    # From where there is room on either side: a step that could go one way
    # only would be the same in all probes, and correlate with the others.
    centre = np.clip(controls, epsilon, 1.0 - epsilon)
    steps = epsilon * deltas
    return _Probes(controls, centre, centre + steps, steps, memory)

  def _estimates_of_frames(self, render, probes, cotangent, signal):
    """Renders the probes; returns what each says of each frame."""
    n_items, n_frames, _ = probes.controls.shape
    n_probes, hold = self.n_probes, self.hold
    signals = _render_all(render, probes.points)
    if self.sides == 2:
      differences = signals[:n_probes] - signals[n_probes:]
    else:
      differences = signals - _base(
        render, probes.controls, probes.centre, signal
      )
    products = (differences * cotangent).sum(-1).reshape(n_probes * n_items, -1)
    credit = frame_credit(products, n_frames, probes.memory, hold)
    # What is found for a block is shared by its frames.
    frames = np.arange(n_frames)
    in_block = np.minimum(frames // hold * hold + hold, n_frames)
    in_block -= frames // hold * hold
    shared = credit / in_block
    estimates = shared.reshape(n_probes, n_items, n_frames, 1) / probes.steps
    return _smooth(estimates, self.smoothing) if self.smoothing else estimates


class _Probes(NamedTuple):
  """What a step perturbs.

  Attributes:
    controls: Of all frames that are perturbed, [n_items, n_frames, n_controls].
    centre: What is perturbed, of that shape.
    points: What is rendered, [n, n_items, n_frames, n_controls].
    steps: What differences are divided by, [n_probes, n_items, n_frames,
      n_controls].
    memory: Frames after its own that a frame is credited with; None for all.
  """

  controls: np.ndarray
  centre: np.ndarray
  points: np.ndarray
  steps: np.ndarray
  memory: int | None


def _smooth(estimates, n_around):
  """Averages frames, axis 2, with those around, by a triangular window."""
  window = n_around + 1.0 - np.abs(np.arange(-n_around, n_around + 1))

  def convolve(values, axis):
    return scipy.ndimage.convolve1d(values, window, axis=axis, mode='constant')

  total = convolve(np.ones(estimates.shape[2]), 0)
  return convolve(estimates, 2) / total[:, np.newaxis]


def _as_items(points):
  """Returns points [n, n_items, ...] as [n * n_items, ...], and which items."""
  n, n_items = points.shape[:2]
  flat = points.reshape(n * n_items, *points.shape[2:])
  return flat, np.tile(np.arange(n_items), n)


def _render_all(render, points):
  """Renders points [n, n_items, ...] to [n, n_items, n_samples, channels]."""
  flat, items = _as_items(points)
  signals = black_box.flatten(render(flat, items), len(flat))
  return signals.reshape(*points.shape[:2], *signals.shape[1:])


def _base(render, controls, centre, base):
  """Returns the signals at the centre, rendering those that are not known."""
  n_items = len(controls)
  if base is None:
    unknown = np.arange(n_items)
  else:
    base = np.array(black_box.flatten(base, n_items))
    unknown = np.flatnonzero((centre != controls).any(axis=(1, 2)))
  if len(unknown):
    signals = render(centre[unknown], unknown)
    signals = black_box.flatten(signals, len(unknown))
    if base is None:
      return signals
    base[unknown] = signals
  return base
