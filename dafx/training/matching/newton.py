"""Steps of a Levenberg-Marquardt descent in [0, 1], and where to start."""

import numpy as np
import scipy.stats.qmc

from dafx.training.matching import distances

# Dampings that are tried at once, relative to the last one that won.
FACTORS = (0.1, 1.0, 10.0, 100.0)
_DAMPINGS = (1e-5, 1e3)
_LARGEST_STEP = 0.3
# A control whose curvature is this small, relative to the mean, does nothing.
_IDLE = 1e-9
# How often controls at a bound are taken out of a step.
_MAX_SOLUTIONS = 6
# Of the trace, added to the normal matrix of an equaliser.
_RIDGE = 2e-3


def bounded_step(
  controls: np.ndarray, model: distances.Model, damping: float
) -> np.ndarray:
  """Returns where a damped Newton step leads, within [0, 1].

  Controls at a bound that the step would pass stay there, and the others are
  solved for anew.

  >>> import numpy as np
  >>> from dafx.training.matching import distances, newton
  >>> model = distances.Model(1.0, np.array([1.0, -1.0]), np.eye(2))
  >>> newton.bounded_step(np.array([0.0, 0.5]), model, 1e-9).round(3).tolist()
  [0.0, 0.8]

  Args:
    controls: Where to start, in [0, 1], [n_controls].
    model: The distance there.
    damping: Relative to the curvature of each control.
  """
  scale = np.diag(model.hessian)
  mean = scale.mean()
  damped = model.hessian + damping * np.diag(scale + 0.05 * mean)
  free = scale > _IDLE * mean
  step = np.zeros(len(controls))
  for _ in range(_MAX_SOLUTIONS):
    i = np.flatnonzero(free)
    step = np.zeros(len(controls))
    if not len(i):
      break
    step[i] = np.linalg.lstsq(
      damped[np.ix_(i, i)], -model.gradient[i], rcond=None
    )[0]
    leaves = ((controls <= 1e-6) & (step < 0.0)) | (
      (controls >= 1.0 - 1e-6) & (step > 0.0)
    )
    if not leaves.any():
      break
    free &= ~leaves
  step = np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
  return np.clip(controls + step, 0.0, 1.0)


class Secant:
  """A Jacobian that is measured now and then, and carried on between.

  Broyden's update: C. G. Broyden, "A Class of Methods for Solving Nonlinear
  Simultaneous Equations", Mathematics of Computation 19, 1965.

  >>> import numpy as np
  >>> from dafx.training.matching import newton
  >>> secant = newton.Secant(n_carried=1)
  >>> secant.measured(np.zeros(1), np.zeros(2), np.array([[1.0, 1.0]]))
  >>> secant.carried(np.array([0.5]), np.array([0.5, 1.0])).tolist()
  [[1.0, 2.0]]
  >>> secant.carried(np.array([1.0]), np.array([1.0, 2.0])) is None
  True

  Args:
    n_carried: How often it may be carried on.
  """

  def __init__(self, n_carried: int):
    self._n_carried, self._left = n_carried, 0
    self._controls = self._features = self._jacobian = np.zeros(0)

  def measured(
    self, controls: np.ndarray, features: np.ndarray, jacobian: np.ndarray
  ):
    """Takes what was measured, [n_controls, n_features], and where."""
    self._left = self._n_carried
    self._controls, self._features = controls, features
    self._jacobian = jacobian

  def carried(
    self, controls: np.ndarray, features: np.ndarray
  ) -> np.ndarray | None:
    """Returns the Jacobian at another place, or None if it is to be measured.

    Args:
      controls: The place, [n_controls].
      features: What is there, [n_features].
    """
    move = controls - self._controls if self._left else np.zeros(1)
    if not self._left or not move.any():
      return None
    self._left -= 1
    error = features - self._features - move @ self._jacobian
    self._jacobian = self._jacobian + np.outer(move, error) / (move @ move)
    self._controls, self._features = controls, features
    return self._jacobian


def next_damping(damping: float, winner: int | None) -> float:
  """Returns the damping of the next round.

  Args:
    damping: Of this one.
    winner: Which of `FACTORS` gave the best point; None where none did better.
  """
  factor = FACTORS[-1] if winner is None else FACTORS[winner]
  return float(np.clip(damping * factor, *_DAMPINGS))


def equaliser_move(
  slopes: np.ndarray, lack: np.ndarray, weights: np.ndarray
) -> np.ndarray:
  """Returns how an equaliser's controls move to make up for what lacks.

  A ridge regression on the slopes of its response: one Gauss-Newton step.

  Args:
    slopes: Of the log response by the controls, [n_controls, n_bands].
    lack: Log response that is missing, [n_bands].
    weights: Of the bands, [n_bands].
  """
  normal = (slopes * weights) @ slopes.T
  ridge = _RIDGE * np.trace(normal) / len(normal) + 1e-12
  return np.linalg.solve(
    normal + ridge * np.eye(len(normal)), slopes @ (weights * lack)
  )


def latin_hypercube(n_points: int, n_controls: int, seed: int) -> np.ndarray:
  """Draws points of which each control has one in each of n_points parts.

  Args:
    n_points: Number of points.
    n_controls: Their dimensions.
    seed: Of what is drawn.

  Returns:
    In [0, 1], [n_points, n_controls].
  """
  return scipy.stats.qmc.LatinHypercube(n_controls, rng=seed).random(n_points)
