"""What a black box is to the estimators, and checks of what they are given."""

from collections.abc import Callable, Sequence

import numpy as np

# (controls [n, n_frames, n_controls], items [n]) -> signals [n, n_samples, ...]
Render = Callable[[np.ndarray, np.ndarray], np.ndarray]

# (audio [n, n_samples, n_in], items [n], whether under reversed controls) ->
# signals [n, n_samples, n_out], without latency.
AudioRender = Callable[[np.ndarray, np.ndarray, bool], np.ndarray]


def flatten(signals: np.ndarray, n: int) -> np.ndarray:
  """Returns signals [n, n_samples, ...] as float64 [n, n_samples, channels]."""
  signals = np.asarray(signals, np.float64)
  return signals.reshape(n, signals.shape[1], -1)


def check(
  controls: np.ndarray,
  cotangent: np.ndarray,
  epsilon: float | Sequence[float],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Checks what all estimators of the gradient to controls are given.

  Args:
    controls: In [0, 1], shape [batch, n_frames, n_controls].
    cotangent: Gradient to the box's output, shape [batch, n_samples, ...].
    epsilon: Size of the perturbation; a number, or one for each control.

  Returns:
    (controls, cotangent [batch, n_samples, channels], epsilon [n_controls]),
    float64.

  Raises:
    ValueError: Arguments that do not fit together.
  """
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
  sizes = np.asarray(epsilon, np.float64)
  n_controls = controls.shape[-1]
  if sizes.shape not in ((), (n_controls,)):
    raise ValueError(
      f'epsilon has shape {sizes.shape}; it must be one number, or one for '
      f'each of the {n_controls} controls.'
    )
  if not ((sizes > 0.0) & (sizes <= 0.5)).all():
    raise ValueError(f'epsilon={epsilon} must be above 0 and at most 0.5.')
  if len(cotangent) != len(controls):
    raise ValueError(
      f'cotangent has {len(cotangent)} items, controls has {len(controls)}.'
    )
  cotangent = flatten(cotangent, len(controls))
  return controls, cotangent, np.broadcast_to(sizes, n_controls)
