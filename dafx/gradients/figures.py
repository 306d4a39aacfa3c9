"""What estimates of a gradient say of themselves."""

from collections.abc import Sequence

import numpy as np


def signal_to_noise_db(estimates: np.ndarray) -> np.ndarray:
  """Says how far the mean of estimates stands out of their spread.

  10 log10 of (squared mean) / (squared standard error), per control, over
  probes, items and frames, less the 1 that noise alone would give; as noisy as
  the figure is, it is cut off at -30 dB.

  Args:
    estimates: Shape [n_probes, batch, n_frames, n_controls].

  Returns:
    In dB, shape [n_controls]; NaN for a single estimate.

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> gradients.signal_to_noise_db(
    ...   np.array([0.9, 1.1]).reshape(2, 1, 1, 1)
    ... ).round(1)
    array([20.])
  """
  samples = estimates.reshape(-1, estimates.shape[-1])
  n = len(samples)
  if n < 2:
    return np.full(samples.shape[-1], np.nan)
  error = samples.var(axis=0, ddof=1) / n
  ratio = samples.mean(axis=0) ** 2 / np.maximum(error, 1e-300) - 1.0
  return 10.0 * np.log10(np.maximum(ratio, 1e-3))


def estimate_figures(
  symbols: Sequence[str],
  estimates: np.ndarray,
  controls: np.ndarray,
  epsilons: np.ndarray,
) -> dict[str, float]:
  """Returns figures of an estimate by name.

  Args:
    symbols: Names of the controls.
    estimates: One for each probe, shape [n_probes, batch, n_frames,
      n_controls].
    controls: In [0, 1], shape [batch, n_frames, n_controls].
    epsilons: Sizes of the perturbations, shape [n_controls].

  Returns:
    For each control the norm of the gradient ('norm/<symbol>'), the
    signal-to-noise ratio of the probes in dB ('signal_to_noise_db/<symbol>')
    and the share of frames too near to a bound for a whole step
    ('clipped_share/<symbol>').

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> estimates, controls = np.ones([2, 1, 1, 1]), np.full([1, 1, 1], 0.5)
    >>> figures = gradients.estimate_figures(
    ...   ['gain'], estimates, controls, np.array([0.01])
    ... )
    >>> float(figures['norm/gain'])
    1.0
  """
  norms = np.sqrt(np.square(estimates.mean(0)).sum((0, 1)))
  ratios_db = signal_to_noise_db(estimates)
  is_clipped = (controls < epsilons) | (controls > 1.0 - epsilons)
  figures = {}
  for i, symbol in enumerate(symbols):
    figures[f'norm/{symbol}'] = float(norms[i])
    figures[f'signal_to_noise_db/{symbol}'] = float(ratios_db[i])
    figures[f'clipped_share/{symbol}'] = float(is_clipped[..., i].mean())
  return figures
