"""Derivatives of black boxes that can only be rendered.

A black box maps controls to signals. It is a callable `render(points, items)`:

  points: controls to render at, shape [n_renders, n_frames, n_controls], in
    the box [0, 1].
  items: which item of the batch each render belongs to, shape [n_renders].
    The other inputs of an item, such as its audio, are the callable's affair.
  returns: signals, shape [n_renders, n_samples, ...]; frame t of the controls
    acts from sample t * hop_size on, where hop_size is n_samples / n_frames
    rounded up.

The functions here return vector-Jacobian products: gradients of
sum(cotangent * render(controls)). Everything random comes in as (seed, step),
and each item draws its own numbers, so that any step can be repeated, on any
number of threads. NumPy only: nothing here knows of LV2, TensorFlow or gin.
"""

from collections.abc import Callable

import numpy as np
import scipy.linalg

Render = Callable[[np.ndarray, np.ndarray], np.ndarray]

DIRECTIONS = ('hadamard', 'rademacher')


def frame_credit(
  products: np.ndarray, n_frames: int, memory: int | None
) -> np.ndarray:
  """Sums per sample into what each frame of controls answers for.

  A frame cannot change what came before it, and its effect lasts only so long:
  it is credited with its own samples and those of the `memory` frames after it.

  Args:
    products: Per-sample terms, shape [n, n_samples].
    n_frames: Number of frames of controls.
    memory: Frames after its own that a frame still acts in; None for all.

  Returns:
    Credit of shape [n, n_frames].
  """
  n, n_samples = products.shape
  hop_size = -(-n_samples // n_frames)
  padded = np.zeros((n, n_frames * hop_size), products.dtype)
  padded[:, :n_samples] = products
  sums = padded.reshape(n, n_frames, hop_size).sum(-1)
  ends = np.concatenate([np.zeros((n, 1)), np.cumsum(sums, axis=1)], axis=1)
  first = np.arange(n_frames)
  reach = n_frames if memory is None else memory + 1
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
    item: Place in the batch.

  Returns:
    Directions of shape [n_probes, n_frames, n_controls].

  Raises:
    ValueError: An unknown kind.
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


def _flatten(signals: np.ndarray, n: int) -> np.ndarray:
  """Returns signals [n, n_samples, ...] as float64 [n, n_samples, channels]."""
  signals = np.asarray(signals, np.float64)
  return signals.reshape(n, signals.shape[1], -1)


def spsa(
  render: Render,
  controls: np.ndarray,
  cotangent: np.ndarray,
  *,
  epsilon: float = 0.01,
  n_probes: int = 1,
  memory: int | None = 1,
  directions: str = 'hadamard',
  seed: int = 0,
  step: int = 0,
) -> np.ndarray:
  """Estimates the gradient to control trajectories, all of them at once.

  Simultaneous perturbation (Spall 1992, eq. 2.2): each probe renders every item
  at controls + epsilon * d and controls - epsilon * d, d being +1 or -1 for
  each frame and control. Unlike there, a frame is credited with what follows
  it within its memory, not with the whole item, and differences are divided by
  the step that was really taken within [0, 1].

  Args:
    render: The black box; see the module.
    controls: In [0, 1], shape [batch, n_frames, n_controls].
    cotangent: Gradient to the box's output, shape [batch, n_samples, ...].
    epsilon: Size of the perturbation.
    n_probes: Directions per item; two renders each.
    memory: Frames after its own that a frame still acts in; None for all.
    directions: 'hadamard' or 'rademacher'; see `draw_directions`.
    seed: Seed of the run.
    step: Training step; each has directions of its own.

  Returns:
    Gradient of shape [batch, n_frames, n_controls], float64.

  Raises:
    ValueError: Arguments that do not fit together.
  """
  controls, cotangent = _check(controls, cotangent, epsilon)
  if n_probes < 1 or (memory is not None and memory < 0):
    raise ValueError(
      f'n_probes={n_probes} must be at least 1 and memory={memory} at least '
      '0, or None for the whole item.'
    )
  n_items, n_frames, n_controls = controls.shape
  if not n_controls:
    return np.zeros(controls.shape)
  deltas = np.stack(
    [
      draw_directions(
        directions, n_probes, n_frames, n_controls, seed, step, item
      )
      for item in range(n_items)
    ],
    axis=1,
  )  # [n_probes, n_items, n_frames, n_controls]
  plus = np.clip(controls + epsilon * deltas, 0.0, 1.0)
  minus = np.clip(controls - epsilon * deltas, 0.0, 1.0)
  points = np.concatenate([plus, minus]).reshape(-1, n_frames, n_controls)
  items = np.tile(np.arange(n_items), 2 * n_probes)
  signals = _flatten(render(points, items), len(points))
  halves = signals.reshape(2, n_probes, n_items, *signals.shape[1:])
  products = ((halves[0] - halves[1]) * cotangent).sum(-1)
  credit = frame_credit(
    products.reshape(n_probes * n_items, -1), n_frames, memory
  ).reshape(n_probes, n_items, n_frames, 1)
  return (credit / (plus - minus)).mean(0)


def central_differences(
  render: Render,
  controls: np.ndarray,
  cotangent: np.ndarray,
  *,
  epsilon: float = 0.01,
) -> np.ndarray:
  """Estimates the gradient to control trajectories, one entry at a time.

  The reference: 2 * n_frames * n_controls renders per item, no noise.

  Args:
    render: The black box; see the module.
    controls: In [0, 1], shape [batch, n_frames, n_controls].
    cotangent: Gradient to the box's output, shape [batch, n_samples, ...].
    epsilon: Size of the difference; at the bounds, what is left of it.

  Returns:
    Gradient of shape [batch, n_frames, n_controls], float64.

  Raises:
    ValueError: Arguments that do not fit together.
  """
  controls, cotangent = _check(controls, cotangent, epsilon)
  n_items = len(controls)
  items = np.arange(n_items)
  gradient = np.zeros(controls.shape)
  for place in np.ndindex(controls.shape[1:]):
    plus, minus = controls.copy(), controls.copy()
    index = (slice(None), *place)
    plus[index] = np.minimum(plus[index] + epsilon, 1.0)
    minus[index] = np.maximum(minus[index] - epsilon, 0.0)
    signals = _flatten(
      render(np.concatenate([plus, minus]), np.tile(items, 2)), 2 * n_items
    )
    products = (signals[:n_items] - signals[n_items:]) * cotangent
    gradient[index] = products.sum((1, 2)) / (plus - minus)[index]
  return gradient


def reversal_adjoint(
  render: Callable[[np.ndarray], np.ndarray],
  audio: np.ndarray,
  cotangent: np.ndarray,
  *,
  epsilon: float = 0.1,
) -> np.ndarray:
  """Estimates the gradient to the audio that goes into a black box.

  The adjoint of a linear system is the system run backwards in time. Of any
  box, the linearised one is taken: its response to the cotangent, reversed, is
  the difference of two renders around the reversed audio.

  Args:
    render: Renders reversed audio [batch, n_samples, ...] under reversed
      controls, without latency; twice the batch is given in one call, the items
      in order, first all plus, then all minus.
    audio: What went into the box, shape [batch, n_samples, ...].
    cotangent: Gradient to what came out, of the same shape.
    epsilon: Level of the perturbation relative to the audio's. A small one
      drowns in the rounding of single precision (an equaliser of 32 steep bands
      gives a third of the gradient at 0.01, 0.94 of it at 0.1, 0.99 at 1); for
      a box that is linear in its audio, take 1.

  Returns:
    Gradient to the audio, of its shape, float64. Zero for items whose cotangent
    is zero, NaN for those whose cotangent is not finite.

  Raises:
    ValueError: Shapes that differ.
  """
  audio = np.asarray(audio, np.float64)
  cotangent = np.asarray(cotangent, np.float64)
  if audio.shape != cotangent.shape:
    raise ValueError(
      f'audio has shape {audio.shape}, its cotangent {cotangent.shape}; '
      'only boxes with as many channels out as in have this adjoint.'
    )
  axes = tuple(range(1, audio.ndim))
  level = np.sqrt(np.mean(audio**2, axis=axes, keepdims=True))
  # A cotangent that is not finite is no audio to render: its gradient is NaN.
  is_finite = np.isfinite(cotangent).all(axis=axes, keepdims=True)
  cotangent = np.where(is_finite, cotangent, 0.0)
  size = np.sqrt(np.mean(cotangent**2, axis=axes, keepdims=True))
  # Silence has no level; -60 dB full scale is quiet for any box.
  scale = epsilon * np.maximum(level, 1e-3) / np.where(size > 0.0, size, 1.0)
  backwards = audio[:, ::-1]
  step = scale * cotangent[:, ::-1]
  signals = np.asarray(
    render(np.concatenate([backwards + step, backwards - step])), np.float64
  )
  difference = signals[: len(audio)] - signals[len(audio) :]
  return np.where(is_finite, difference / (2.0 * scale), np.nan)[:, ::-1]


def _check(controls, cotangent, epsilon):
  """Returns controls and cotangent as float64, or says what is wrong."""
  controls = np.asarray(controls, np.float64)
  if controls.ndim != 3:
    raise ValueError(
      f'controls has shape {controls.shape}; it must be [batch, n_frames, '
      'n_controls].'
    )
  if controls.size and not (controls.min() >= 0.0 and controls.max() <= 1.0):
    raise ValueError(
      f'controls span {controls.min():g} to {controls.max():g}; they must '
      'lie in [0, 1].'
    )
  if not 0.0 < epsilon <= 0.5:
    raise ValueError(f'epsilon={epsilon} must be above 0 and at most 0.5.')
  if len(cotangent) != len(controls):
    raise ValueError(
      f'cotangent has {len(cotangent)} items, controls has {len(controls)}.'
    )
  return controls, _flatten(cotangent, len(controls))
