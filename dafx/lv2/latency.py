"""The lag of a plugin's output, by cross-correlation with what went in."""

import numpy as np

from dafx.lv2 import errors

# Of what a plugin reports. More is no lag but a fault, and takes long to run.
_MOST_S = 60.0


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
