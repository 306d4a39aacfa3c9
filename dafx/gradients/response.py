"""How long a black box answers to a change of its controls."""

import numpy as np

from dafx.gradients import black_box

# The share of the response's energy that is to be within the memory.
_SHARE = 0.9


def response_memory(
  render: black_box.Render,
  n_items: int,
  n_frames: int,
  n_controls: int,
  hop_size: int,
  *,
  epsilon: float = 0.05,
  n_settings: int = 4,
  share: float = _SHARE,
  seed: int = 0,
) -> int:
  """Measures the memory that suits SPSA: how many frames a change lasts in.

  Moves the controls of the third frame, at random settings, and looks at how
  much of the response's energy lies in that frame and each one after it.

  Args:
    render: The black box; see `dafx.gradients`.
    n_items: Items that it knows.
    n_frames: Frames to render.
    n_controls: Number of controls.
    hop_size: Samples per frame.
    epsilon: How far the controls are moved.
    n_settings: Random settings of each item.
    share: Share of the response's energy that is to be within the memory.
    seed: Seed of the settings.

  Returns:
    Frames after its own, 0 to n_frames - 3.

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> def render(points, items):
    ...   return np.repeat(3.0 * points[..., 0], 100, axis=1)
    >>> box: gradients.Render = render
    >>> gradients.response_memory(
    ...   box, 1, n_frames=8, n_controls=1, hop_size=100
    ... )
    0
  """
  rng = np.random.default_rng(seed)
  n = n_items * n_settings
  settings = rng.uniform(0.1, 0.9, (n, 1, n_controls))
  controls = np.repeat(settings, n_frames, axis=1)
  signs = rng.integers(0, 2, (n, n_controls)) * 2.0 - 1.0
  moved = min(2, n_frames - 1)
  plus, minus = controls.copy(), controls.copy()
  plus[:, moved] += epsilon * signs
  minus[:, moved] -= epsilon * signs
  items = np.tile(np.arange(n_items), 2 * n_settings)
  signals = black_box.flatten(
    render(np.concatenate([plus, minus]), items), 2 * n
  )
  energy = ((signals[:n] - signals[n:]) ** 2).sum(-1)  # [n, n_samples]
  edges = np.arange(n_frames) * hop_size
  per_frame = np.add.reduceat(energy, edges, axis=1)
  per_frame = per_frame[:, moved:]
  # Settings count alike, whatever their level.
  total = per_frame.sum(1, keepdims=True)
  shares = (per_frame / np.where(total > 0.0, total, 1.0)).mean(0)
  if not shares.any():
    return 0
  return int(np.searchsorted(np.cumsum(shares) / shares.sum(), share))
