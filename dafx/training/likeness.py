"""How much two signals have in common, whatever filters stand between them."""

import numpy as np
import scipy.fft
import scipy.signal

# What lies below it repeats itself too much to tell lags apart.
_HIGH_PASS_HZ = 500.0
_WHITENING = 0.7
_COHERENCE_S = 0.1
_N_SEGMENTS, _SHORTEST_SEGMENT = 8, 128  # of a signal; in samples
_COHERENCE_HZ = 10000.0


def high_passed(audio: np.ndarray, sample_rate: float) -> np.ndarray:
  """Returns audio [n_samples] without what lies below 500 Hz, float32."""
  cutoff_hz = min(_HIGH_PASS_HZ, 0.2 * sample_rate)
  sos = scipy.signal.butter(
    4, cutoff_hz, 'highpass', fs=sample_rate, output='sos'
  )
  return scipy.signal.sosfilt(sos, audio).astype(np.float32)


def _whitened(audio, n_fft):
  spectrum = scipy.fft.rfft(audio, n_fft)
  magnitude = np.abs(spectrum)
  floor = 1e-3 * magnitude.max() + 1e-30  # what is empty stays so
  return spectrum * (magnitude + floor) ** -_WHITENING


def correlate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Correlates two signals of one length, whitened in part.

  Args:
    x: Shape [n_samples].
    y: Shape [n_samples].

  Returns:
    Shape [2 * n_samples - 1], from -1 to 1; index n_samples - 1 + lag is for y
    being `lag` samples late. Zeros if one of them is silent.
  """
  n_samples = len(x)
  n_fft = scipy.fft.next_fast_len(2 * n_samples, real=True)
  spectra = [_whitened(signal, n_fft) for signal in (x, y)]
  energies = [2 * np.sum(np.abs(s) ** 2) - np.abs(s[0]) ** 2 for s in spectra]
  product = spectra[1] * np.conj(spectra[0])
  scale = np.sqrt(energies[0] * energies[1]) / n_fft
  if not scale:
    return np.zeros(2 * n_samples - 1)
  around = scipy.fft.irfft(product, n_fft) / scale
  return np.concatenate([around[-(n_samples - 1) :], around[:n_samples]])


def coherence(x: np.ndarray, y: np.ndarray, sample_rate: float) -> float:
  """Returns how far one signal is the other through some filter.

  Args:
    x: Shape [n_samples].
    y: Shape [n_samples], at the lag of x.
    sample_rate: Of both, in Hz.

  Returns:
    Mean of the magnitude-squared coherence (Welch's estimate) from 500 Hz to 10
    kHz, from 0 to 1; 0 where they are too short to tell: one segment by itself
    is coherent with any other.
  """
  n_segment = min(int(_COHERENCE_S * sample_rate), len(x) // _N_SEGMENTS)
  if n_segment < _SHORTEST_SEGMENT:
    return 0.0
  frequencies, values = scipy.signal.coherence(
    x, y, sample_rate, nperseg=n_segment
  )
  top_hz = min(_COHERENCE_HZ, 0.4 * sample_rate)
  return float(
    values[(frequencies > _HIGH_PASS_HZ) & (frequencies < top_hz)].mean()
  )
