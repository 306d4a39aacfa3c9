"""What a plugin changes where it is to do nothing; run in a worker process.

A chain whose parts change the sound at their neutral settings, as crossovers
do, does harm before it does anything.
"""

from collections.abc import Mapping

import numpy as np

from dafx import metrics
from dafx.lv2 import renderer as renderer_lib

# Measured, and what goes before: plugins glide to their settings.
_MEASURED_S, _BEFORE_S = 1.5, 0.5
_BEAT_S, _DECAY_S = 0.25, 0.08
_LEVEL = 0.1
# Below this RMS an output is silent.
_SILENCE = 1e-5


def music(n_samples: int, sample_rate: float, seed: int = 0) -> np.ndarray:
  """Makes noise that has the tone and the beat of music.

  Args:
    n_samples: Length.
    sample_rate: In Hz.
    seed: Of the noise.

  Returns:
    Shape [n_samples], float32, at -20 dB RMS; its spectrum falls by 3 dB an
    octave from 50 Hz on, and every quarter of a second has a beat.
  """
  rng = np.random.default_rng(seed)
  spectrum = np.fft.rfft(rng.standard_normal(n_samples))
  frequencies_hz = np.fft.rfftfreq(n_samples, 1.0 / sample_rate)
  tone = 1.0 / np.sqrt(np.maximum(frequencies_hz, 50.0))
  sound = np.fft.irfft(spectrum * tone, n_samples)
  times_s = np.arange(n_samples) / sample_rate
  sound *= 0.25 + np.exp(-(times_s % _BEAT_S) / _DECAY_S)
  sound *= _LEVEL / max(np.sqrt(np.mean(sound**2)), 1e-12)
  return sound.astype(np.float32)


def neutral_cost(
  uri: str, sample_rate: float, block_size: int, neutral: Mapping[str, float]
) -> dict:
  """Measures what a plugin changes at its defaults and where it is neutral.

  Args:
    uri: URI of the plugin.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.
    neutral: The neutral setting, by symbol, as `binding.find_neutral` has it.

  Returns:
    'default_cost' and 'neutral_cost', MR-STFT between input and output at equal
    level (`metrics.multi_scale_spectral`), of mono noise that is like music in
    all inputs and the mean of the outputs; None for output that is silent or
    not finite.
  """
  host = renderer_lib.Renderer(
    uri,
    sample_rate,
    list(neutral),
    block_size=block_size,
    n_threads=1,
  )
  n_before = int(_BEFORE_S * sample_rate)
  n_samples = n_before + int(_MEASURED_S * sample_rate)
  audio = music(n_samples, sample_rate)
  target = audio[n_before:]

  def cost(setting):
    out = host.render(audio[np.newaxis, :, np.newaxis], setting)
    out = out[0, n_before:].mean(axis=1)
    # Samples that are not finite come as zeros, and are counted.
    if host.n_nonfinite or np.sqrt(np.mean(out**2)) < _SILENCE:
      return None
    # The renderer takes the latency out. A search for the lag would be misled
    # by crossovers, which turn phases.
    level = metrics.match_level(target, out)
    return metrics.multi_scale_spectral(target, level)

  setting = np.array([[list(neutral.values())]], np.float32)
  return dict(
    default_cost=cost(None),
    neutral_cost=cost(setting if neutral else None),
  )
