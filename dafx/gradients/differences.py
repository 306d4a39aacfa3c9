"""Gradient to controls by central differences: the reference."""

from collections.abc import Sequence

import numpy as np

from dafx.gradients import black_box


def central_differences(
  render: black_box.Render,
  controls: np.ndarray,
  cotangent: np.ndarray,
  *,
  epsilon: float | Sequence[float] = 0.01,
) -> np.ndarray:
  """Estimates the gradient to control trajectories, one entry at a time.

  The reference: 2 * n_frames * n_controls renders per item, no noise.

  Args:
    render: The black box; see `dafx.gradients`.
    controls: In [0, 1], shape [batch, n_frames, n_controls].
    cotangent: Gradient to the box's output, shape [batch, n_samples, ...].
    epsilon: Size of the difference; at the bounds, what is left of it. A
      number, or one for each control.

  Returns:
    Gradient of shape [batch, n_frames, n_controls], float64.

  Raises:
    ValueError: Arguments that do not fit together.
  """
  controls, cotangent, sizes = black_box.check(controls, cotangent, epsilon)
  n_items = len(controls)
  items = np.arange(n_items)
  gradient = np.zeros(controls.shape)
  for frame, control in np.ndindex(controls.shape[1:]):
    plus, minus = controls.copy(), controls.copy()
    index = (slice(None), frame, control)
    plus[index] = np.minimum(plus[index] + sizes[control], 1.0)
    minus[index] = np.maximum(minus[index] - sizes[control], 0.0)
    signals = black_box.flatten(
      render(np.concatenate([plus, minus]), np.tile(items, 2)), 2 * n_items
    )
    products = (signals[:n_items] - signals[n_items:]) * cotangent
    gradient[index] = products.sum((1, 2)) / (plus - minus)[index]
  return gradient
