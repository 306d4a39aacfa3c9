"""Gradient to controls by central differences: the reference."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dafx.gradients import black_box


@dataclasses.dataclass(frozen=True, kw_only=True)
class CentralDifferences(black_box.ControlEstimator):
  """Central differences, one entry of the controls at a time.

  The reference: 2 * n_frames * n_controls renders per item, no noise. At the
  bounds of [0, 1] the difference is what is left of it.

  Args:
    epsilon: Size of the difference; it and the other options are those of
      `ControlEstimator`.

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> def render(points, items):
    ...   return np.repeat(3.0 * points[..., 0], 100, axis=1)
    >>> box: gradients.Render = render
    >>> estimator = gradients.CentralDifferences(epsilon=0.01)
    >>> isinstance(estimator, gradients.ControlEstimator)
    True
    >>> controls, cotangent = np.full([1, 2, 1], 0.5), np.ones([1, 200])
    >>> estimator.estimates(box, controls, cotangent)[0, 0, :, 0].round(
    ...   3
    ... ).tolist()
    [300.0, 300.0]
  """

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
    """Measures the gradient; see `ControlEstimator.estimates`."""
    del measure_memory, signal, seed, item_keys  # It draws nothing.
    controls, cotangent = black_box.check(controls, cotangent)
    names: Sequence = range(controls.shape[-1]) if symbols is None else symbols
    sizes = self.epsilons_at(names, step)
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
    return gradient[np.newaxis]
