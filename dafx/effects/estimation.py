"""The gradient to the controls of a black box in a step, in port units."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dafx import core, gradients
from dafx.effects import render_ops


@dataclasses.dataclass(frozen=True)
class Estimation:
  """What an estimator needs to know of a black box and of a step.

  Args:
    estimator: Of the gradient.
    control_map: The controls that have one, the first of all.
    render: As `BlackBoxProcessor.render`.
    audio: Shape [batch, n_samples, n_channels].
    controls: In port units, shape [batch, n_frames, n_controls].
    measure_memory: As of `ControlEstimator.estimates`.
    seed: Of the run and the box.
    step: Training step.
    item_keys: Place of each item in the whole batch.
  """

  estimator: gradients.ControlEstimator
  control_map: core.ControlMap
  render: Callable
  audio: np.ndarray
  controls: np.ndarray
  measure_memory: gradients.MeasureMemory
  seed: int
  step: int
  item_keys: Sequence[int]

  def _render_points(self, points, items):
    """Renders items of the batch at points in [0, 1]."""
    values = self.control_map.to_port_units(points).astype(np.float32)
    rest = self.controls[..., self.control_map.n_controls :]
    if rest.shape[-1]:
      n_repeats = points.shape[1] // rest.shape[1]
      held = np.repeat(rest[items], n_repeats, axis=1)
      values = np.concatenate([values, held], axis=-1)
    return render_ops.render_items(
      self.render, self.audio, values, items, items
    )

  @property
  def _used(self) -> np.ndarray:
    return self.controls[..., : self.control_map.n_controls]

  @property
  def _options(self) -> Mapping[str, Any]:
    return dict(
      symbols=self.control_map.symbols,
      measure_memory=self.measure_memory,
      seed=self.seed,
      step=self.step,
      item_keys=self.item_keys,
    )

  def render_probes(self) -> np.ndarray:
    """Renders what the estimator begins with, whatever the cotangent.

    Returns:
      Audio of shape [n, n_samples, n_channels out], float32; n = 0 for an
      estimator that does not say.
    """
    ahead = self.estimator.points_ahead(
      self.control_map.to_normalised(self._used),
      self.audio.shape[1],
      **self._options,
    )
    if ahead is None:
      return np.zeros((0, *self.audio.shape[1:]), np.float32)
    # As TensorFlow takes it without a copy.
    return np.ascontiguousarray(self._render_points(*ahead), np.float32)

  def gradient(
    self,
    cotangent: np.ndarray,
    signal: np.ndarray | None = None,
    probes: np.ndarray | None = None,
  ) -> tuple[np.ndarray, Callable[[], dict[str, float]]]:
    """Estimates the gradient.

    Args:
      cotangent: Gradient to the output, [batch, n_samples, n_channels out].
      signal: The output, where it is known.
      probes: What `render_probes` has returned.

    Returns:
      (Gradient in port units, shape [batch, n_frames, n_controls], float32;
      zero beyond `control_map`; what returns figures of it by name.)
    """
    ahead = [] if probes is None or not len(probes) else [probes]

    def render(points, items):
      return ahead.pop() if ahead else self._render_points(points, items)

    control_map = self.control_map
    normalised = control_map.to_normalised(self._used)
    estimates = self.estimator.estimates(
      render, normalised, cotangent, signal=signal, **self._options
    )
    gradient = np.zeros(self.controls.shape, np.float32)
    gradient[..., : control_map.n_controls] = estimates.mean(
      0
    ) / control_map.slope(self._used)
    figures = functools.partial(
      gradients.estimate_figures,
      control_map.symbols,
      estimates,
      normalised,
      self.estimator.epsilons_at(control_map.symbols, self.step),
    )
    return gradient, figures
