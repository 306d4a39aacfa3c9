"""What is done to audio before a model hears it, in training as in use.

One object serves the data pipeline, evaluation and inference, so that a model
never meets other audio than it was trained on.
"""

import dataclasses

import ddsp
import gin
import numpy as np
import scipy.signal

from dafx import core, metrics
from dafx.audio import sources

# After so many times 1 / (2 pi f) a high-pass has forgotten what was before.
_MEMORY = 32
# Samples that are processed at a time.
_CHUNK = 2**16


def high_pass(
  audio: np.ndarray, sample_rate: int, cutoff_hz: float, order: int = 4
) -> np.ndarray:
  """Takes out what is low, without a shift of phase.

  A Butterworth filter run forwards and backwards, which is 6 dB down at the
  cutoff and twice as steep.

  Args:
    audio: Shape [n_samples, n_channels].
    sample_rate: In Hz.
    cutoff_hz: Of the filter.
    order: Of the filter, in one direction.

  Returns:
    Audio of that shape.

  Raises:
    ValueError: A cutoff that this rate cannot have.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import data
    >>> dull = data.high_pass(np.ones([9000, 1]), 16000, cutoff_hz=100)
    >>> bool(np.abs(dull).max() < 1e-3)
    True
  """
  if not 0 < cutoff_hz < sample_rate / 2:
    raise ValueError(
      f'high_pass_hz={cutoff_hz} must lie between 0 and {sample_rate / 2:g} '
      f'Hz, half the sample rate.'
    )
  sos = scipy.signal.butter(
    order, cutoff_hz, 'highpass', fs=sample_rate, output='sos'
  )
  pad = min(_memory(sample_rate, cutoff_hz), len(audio) - 1)
  return scipy.signal.sosfiltfilt(sos, audio, axis=0, padlen=pad)


def _memory(sample_rate, cutoff_hz) -> int:
  return int(_MEMORY * sample_rate / (2 * np.pi * cutoff_hz))


def fade(audio: np.ndarray, n_samples: int) -> np.ndarray:
  """Fades in and out by halves of a Hann window.

  Args:
    audio: Shape [..., n_samples, n_channels].
    n_samples: Length of each fade; at most half of the audio is faded.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import data
    >>> data.fade(np.ones([6, 1]), n_samples=1)[:, 0]
    array([0.5, 1. , 1. , 1. , 1. , 0.5])
  """
  n_samples = min(n_samples, audio.shape[-2] // 2)
  if not n_samples:
    return audio
  ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(n_samples) + 0.5) / n_samples)
  window = np.ones(audio.shape[-2])
  window[:n_samples], window[-n_samples:] = ramp, ramp[::-1]
  return audio * window[:, np.newaxis]


@gin.register(module='dafx.training.data')
class Preprocessor(core.Recorded):
  """Level and high-pass, as a task wants them.

  The level is that of a whole file, so that all crops of it get one gain and
  the same as the file does in evaluation.

  Args:
    input_lufs: Loudness that the input's mono mix is brought to (mastering:
      -25); None leaves it. The target keeps its own: it is what is to be
      reached.
    high_pass_hz: Cutoff of a zero-phase high-pass of input and target
      (nonspeech: 100); None for none.
    high_pass_order: Its order in one direction.

  Examples:
    >>> import numpy as np
    >>> from dafx import metrics
    >>> from dafx.training import data
    >>> prepare = data.Preprocessor(input_lufs=-25.0)
    >>> audio = np.sin(np.arange(44100) / 9)[:, np.newaxis]
    >>> prepared = prepare.process_input(audio, sample_rate=44100)
    >>> round(metrics.loudness_lufs(prepared, 44100), 1)
    -25.0
  """

  def __init__(
    self,
    input_lufs: float | None = None,
    high_pass_hz: float | None = None,
    high_pass_order: int = 4,
  ):
    self.input_lufs = input_lufs
    self.high_pass_hz = high_pass_hz
    self.high_pass_order = high_pass_order

  def margin(self, sample_rate: int) -> int:
    """Returns how many samples on either side a crop's outcome depends on."""
    if self.high_pass_hz is None:
      return 0
    return _memory(sample_rate, self.high_pass_hz)

  def input_gain(self, audio: np.ndarray, sample_rate: int) -> float:
    """Returns what the input is multiplied by.

    The loudness is that of the mono mix, which is what an encoder hears: the
    powers of two channels add up (ITU-R BS.1770), so that one sound on both
    would be 3 dB louder than on one, and so softer than in mono training.

    Args:
      audio: All of it, [n_samples, n_channels].
      sample_rate: In Hz.

    Returns:
      A factor; 1 for a mix that is silent.
    """
    if self.input_lufs is None:
      return 1.0
    mix = self._filtered(audio.mean(axis=1, keepdims=True), sample_rate)
    return self._gain(metrics.loudness_lufs(mix, sample_rate))

  def _gain(self, lufs):
    if lufs <= metrics.SILENCE_LUFS:
      return 1.0
    return float(ddsp.core.db_to_amplitude(self.input_lufs - lufs))

  def _filtered(self, audio, sample_rate):
    if self.high_pass_hz is None:
      return audio
    return high_pass(
      audio, sample_rate, self.high_pass_hz, self.high_pass_order
    )

  def apply(
    self, audio: np.ndarray, sample_rate: int, gain: float = 1.0
  ) -> np.ndarray:
    """Processes audio at a known gain; of a target it is 1.

    Args:
      audio: Shape [n_samples, n_channels].
      sample_rate: In Hz.
      gain: As `input_gain` gives it.

    Returns:
      float32, of that shape.
    """
    return (gain * self._filtered(audio, sample_rate)).astype(np.float32)

  def process_input(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Processes a whole input, [n_samples, n_channels]."""
    gain = self.input_gain(audio, sample_rate)
    return self.apply(audio, sample_rate, gain)

  def process_target(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Processes a whole target, [n_samples, n_channels]."""
    return self.apply(audio, sample_rate)

  def process_source(self, source: sources.Source) -> sources.Source:
    """Processes a whole input in chunks; what comes out is `process_input`'s.

    Args:
      source: The input. For its level it is gone through once.

    Returns:
      What a model hears.
    """
    rate = source.sample_rate
    margin = 2 * self.margin(rate)  # so that seams are below -200 dB

    def filtered():
      size = max(_CHUNK, 4 * margin)
      pieces = sources.windows(source.blocks(), size, margin, margin)
      for piece, n_before in pieces:
        whole = self._filtered(piece.astype(np.float64), rate)
        yield whole[n_before : n_before + size]

    gain = 1.0
    if self.input_lufs is not None:
      meter = metrics.LoudnessMeter(rate, n_channels=1)
      for block in filtered():
        meter.add(block.mean(axis=1, keepdims=True))
      gain = self._gain(meter.lufs())

    def blocks():
      return ((gain * block).astype(np.float32) for block in filtered())

    return dataclasses.replace(source, blocks=blocks)
