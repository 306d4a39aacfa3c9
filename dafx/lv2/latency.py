"""The lag of a plugin's output, by cross-correlation with what went in."""

from collections.abc import Callable

import numpy as np

from dafx.lv2 import errors

# Of what a plugin reports. More is no lag but a fault, and takes long to run.
_MOST_S = 60.0
# From which correlation with the input on an output is a copy of it.
_COPY = 0.9
_NOISE_S, _MOST_LAG_S = 0.25, 0.02


def of_report(reported: float, sample_rate: float, uri: str) -> int:
  """Returns the latency that a plugin reports, in whole samples.

  Args:
    reported: What its port holds; below 0, or not finite, stands for none.
    sample_rate: In Hz.
    uri: Of the plugin, for the message.

  Raises:
    errors.PluginError: More than a minute.
  """
  if not np.isfinite(reported):
    return 0
  if reported > _MOST_S * sample_rate:
    raise errors.PluginError(
      f'{uri} reports a latency of {reported:g} samples; dafx takes out '
      f'{_MOST_S:g} s at most. Leave it in the output by '
      'compensate_latency=False, or take another plugin.'
    )
  return max(int(round(reported)), 0)


def measure(
  render: Callable[[np.ndarray], np.ndarray], sample_rate: float
) -> int | None:
  """Finds the lag of the output by noise.

  A plugin without a latency port mostly has none; what such a plugin delays
  on purpose (an echo) is no latency. So only a lag below 20 ms counts, at
  which the output is a near copy of the input.

  Args:
    render: From audio, [1, n_samples], to [n_outputs, n_samples].
    sample_rate: In Hz.

  Returns:
    Lag in samples, None without one.
  """
  n_samples = int(_NOISE_S * sample_rate)
  noise = 0.05 * np.random.default_rng(0).standard_normal((1, n_samples))
  noise = noise.astype(np.float32)
  n_lags = int(_MOST_LAG_S * sample_rate)
  return lag_of_copy(render(noise)[:1], noise, n_lags, _COPY)


def lag_of_copy(
  outputs: np.ndarray, inputs: np.ndarray, n_lags: int, least: float
) -> int | None:
  """Returns the lag in samples of the best copy of an input, None without one.

  Args:
    outputs: Shape [n_outputs, n_samples].
    inputs: What went in, different noise each, [n_inputs, n_samples].
    n_lags: Lags that count: those from 0 to this, without it.
    least: Correlation from which on an output is a copy, below 1.
  """
  n_fft = 2 * inputs.shape[-1]
  # In float64: samples of a plugin that blows up have sums too.
  inputs, outputs = inputs.astype(np.float64), outputs.astype(np.float64)
  spectra = np.conj(np.fft.rfft(inputs, n_fft))
  best, lag = least, None
  for output in outputs:
    spectrum = np.fft.rfft(output, n_fft)
    for one, other in zip(inputs, spectra, strict=True):
      correlation = np.abs(np.fft.irfft(spectrum * other, n_fft)[:n_lags])
      scale = float(np.linalg.norm(output) * np.linalg.norm(one))
      scale = max(scale, 1e-12)
      if correlation.max() > best * scale:
        lag = int(np.argmax(correlation))
        best = correlation[lag] / scale
  return lag
