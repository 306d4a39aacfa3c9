"""What plugins outlive: values at and beyond the ends, on all ways to them."""

import pathlib
import tempfile

import numpy as np

from dafx import effects, lv2
from dafx.audio import files
from dafx.commands import dafx_plugins
from dafx.lv2 import stimuli

RATE = 44100
_N_SAMPLES = 2048
BEYOND = (1e30, -1e30, 1e9, np.nan)


def outlive(uri: str) -> dict:
  """Sets a plugin to random values, to the ends, and beyond them.

  All in this process, so that a plugin that does not bear it ends the process.

  Args:
    uri: URI of the plugin.

  Returns:
    Counts: 'rendered', of settings; 'refused', of values beyond the range that
    `Renderer` and the command refused; 'beyond', of those that they were given.
  """
  plugin = lv2.get_plugin(uri).at_rate(RATE)
  symbols = list(plugin.controls)
  n_rendered, n_refused = _by_renderer(plugin, symbols)
  n_rendered += _by_layer(uri)
  by_command = _by_command(plugin, symbols)
  return dict(
    rendered=n_rendered + by_command[0],
    refused=n_refused + by_command[1],
    beyond=len(BEYOND) * len(symbols) + bool(symbols),
  )


def _settings(plugin, symbols):
  """Returns random values, and those at either end."""
  rng = np.random.default_rng(0)
  ports = [plugin.control(symbol) for symbol in symbols]
  return [
    *(stimuli.random_settings(plugin, symbols, rng) for _ in range(3)),
    np.array([port.minimum for port in ports], np.float32),
    np.array([port.maximum for port in ports], np.float32),
  ]


def _audio(plugin):
  n_channels = max(len(plugin.main_inputs), 1)
  return stimuli.test_signal(n_channels, _N_SAMPLES).T


def _is_refused(function, *args) -> bool:
  try:
    function(*args)
  except ValueError:
    return True
  return False


def _by_renderer(plugin, symbols):
  """Returns the numbers of settings that were rendered and refused."""
  host = lv2.Renderer(plugin.uri, RATE, symbols, n_threads=1)
  audio = _audio(plugin)[np.newaxis]
  settings = _settings(plugin, symbols)
  for setting in settings:
    host.render(audio, setting[np.newaxis, np.newaxis])
  n_refused = 0
  for i in range(len(symbols)):
    for value in BEYOND:
      beyond = host.default_controls().copy()[np.newaxis]
      beyond[0, 0, i] = value
      n_refused += _is_refused(host.render, audio, beyond)
  return len(settings), n_refused


def _by_layer(uri):
  """Returns the number of settings that were rendered; all are clipped."""
  host = effects.Host(n_threads=1, warm_up=0)
  layer = effects.LV2Plugin(uri, sample_rate=RATE, host=host)
  audio = stimuli.test_signal(1, _N_SAMPLES)
  drawn = np.random.default_rng(0).uniform(size=layer.n_controls)
  values = (drawn, 0.0 * drawn, 0.0 * drawn + 1.0, 1e30 * (drawn - 0.5))
  for unit in values:
    layer(audio, unit[np.newaxis].astype(np.float32))
  return len(values)


def _by_command(plugin, symbols):
  """Returns the numbers of settings that `dafx_plugins render` took or not."""
  with tempfile.TemporaryDirectory() as folder:
    source, output = (pathlib.Path(folder) / f'{n}.wav' for n in ('in', 'out'))
    files.write(source, _audio(plugin), RATE)

    def render(setting):
      values = dict(zip(symbols, map(float, setting), strict=True))
      dafx_plugins.render_file(
        plugin.uri, source, output, values, isolation='thread'
      )

    settings = _settings(plugin, symbols)
    for setting in settings:
      render(setting)
    if not symbols:
      return len(settings), 0
    return len(settings), _is_refused(render, np.full(len(symbols), 1e30))
