"""What a plugin does with files, found out by giving it some."""

import pathlib
import tempfile
import wave

import numpy as np

from dafx.lv2 import renderer, stimuli, world
from dafx.lv2.cards import experiments

_MAX_FILES = 4  # that are tried
_SECONDS = 0.5


def write_impulse_response(path: pathlib.Path, sample_rate: int):
  """Writes a short decaying response, mono, as most convolvers read it.

  Args:
    path: Of a WAV file.
    sample_rate: In Hz.
  """
  n_samples = sample_rate // 20
  rng = np.random.default_rng(0)
  response = rng.standard_normal(n_samples)
  response *= 0.1 * np.exp(-6.0 * np.arange(n_samples) / n_samples)
  response[0] = 0.5
  with wave.open(str(path), 'wb') as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(sample_rate)
    samples = np.round(32767.0 * np.clip(response, -1.0, 1.0))
    file.writeframes(samples.astype('<i2').tobytes())


def file_levels(uri: str, sample_rate: float, block_size: int) -> dict:
  """Gives a plugin an impulse response for each file that it can load.

  Args:
    uri: URI of the plugin.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.

  Returns:
    Dictionary of:
      file_levels: Level of what comes out of it at its defaults then, in dB, by
        the parameter; of the first few.
      file_advice: What lets those be heard that change nothing, in words.

  Raises:
    errors.PluginError: It does not take a file.
  """
  plugin = world.get_plugin(uri)
  levels, advice = {}, {}
  with tempfile.TemporaryDirectory(prefix='dafx-') as folder:
    path = pathlib.Path(folder) / 'response.wav'
    write_impulse_response(path, int(sample_rate))
    for parameter in plugin.files[:_MAX_FILES]:
      host = renderer.Renderer(
        uri, sample_rate, fixed={parameter.uri: path}, block_size=block_size
      )
      n_samples = int(_SECONDS * sample_rate)
      signal = stimuli.test_signal(max(host.n_channels_in, 1), n_samples, 0)
      levels[parameter.uri] = experiments.level_db(
        host.render(signal.T[np.newaxis])
      )
      advice.update(host.unheard_files)
  return dict(file_levels=levels, file_advice=advice)
