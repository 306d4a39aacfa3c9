"""Loudness as DDSP defines it, at any rate."""

import librosa
import numpy as np
import scipy.signal

from dafx.audio import sources
from dafx.pitch import frames

# Of DDSP: the size of a spectrum, and the loudness of silence.
_FFT_SIZE = 512
FLOOR_DB = -80.0


def loudness_db(
  audio: np.ndarray, sample_rate: int, frame_rate: float
) -> np.ndarray:
  """Measures the loudness that DDSP's models are trained with.

  It is the mean over frequency of the power, weighted by the A curve (IEC
  61672), in dB, as of `ddsp.spectral_ops.compute_loudness`. Audio of another
  rate is brought to 16 kHz before: the number depends on the width of the bins
  and on how far they reach.

  Args:
    audio: Shape [n_samples].
    sample_rate: In Hz.
    frame_rate: Frames per second.

  Returns:
    Loudness in dB, from -80, [n_frames]: that of the 32 ms around the beginning
    of each frame; as many frames as of `estimate`.

  Raises:
    ValueError: Audio of another shape or that is not finite, or rates that are
      not above 0.

  Examples:
    >>> import numpy as np
    >>> from dafx import pitch
    >>> sine = np.sin(2 * np.pi * 1000 * np.arange(48000) / 48000)
    >>> loudness = pitch.loudness_db(sine, sample_rate=48000, frame_rate=100)
    >>> loudness.shape, round(float(loudness[50]), 1)
    ((100,), 19.8)
    >>> silence = np.zeros(1600)
    >>> set(pitch.loudness_db(silence, 16000, 100)) == {pitch.FLOOR_DB}
    True
  """
  audio = frames.check_audio(audio, sample_rate, frame_rate)
  times_s = frames.times_s(len(audio), sample_rate, frame_rate)
  heard = sources.resample(audio, sample_rate, frames.SAMPLE_RATE)
  bins_hz = librosa.fft_frequencies(sr=frames.SAMPLE_RATE, n_fft=_FFT_SIZE)
  with np.errstate(divide='ignore'):  # 0 Hz weighs nothing
    weights = 10.0 ** (librosa.A_weighting(bins_hz) / 10.0)
  window = scipy.signal.get_window('hann', _FFT_SIZE)
  powers = [
    np.mean(np.abs(np.fft.rfft(window * part)) ** 2 * weights, axis=1)
    for part in frames.around(heard, times_s, _FFT_SIZE)
  ]
  floor = 10.0 ** (FLOOR_DB / 10.0)
  power = np.maximum(np.concatenate(powers), floor)
  return (10.0 * np.log10(power)).astype(np.float32)
