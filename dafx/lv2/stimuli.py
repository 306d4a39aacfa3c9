"""Sound and settings to try plugins with."""

import numpy as np

from dafx.lv2 import world


def random_settings(
  plugin: world.Plugin, symbols, rng: np.random.Generator
) -> np.ndarray:
  """Draws a value for each of some controls, uniformly in its own scale.

  Args:
    plugin: The plugin.
    symbols: Symbols of controls; those of whole numbers get whole numbers.
    rng: Source of randomness.

  Returns:
    Values in port units, shape [n_symbols], float32.
  """
  values = []
  for symbol in symbols:
    port = plugin.control(symbol)
    unit = rng.random()
    if port.scale == 'log':
      values.append(port.minimum * (port.maximum / port.minimum) ** unit)
    else:
      value = port.minimum + (port.maximum - port.minimum) * unit
      values.append(round(value) if port.is_discrete else value)
  return np.array(values, np.float32)


def continuous_symbols(plugin: world.Plugin) -> list[str]:
  """Returns the symbols of the controls that take a range of values."""
  return [
    p.symbol
    for p in plugin.controls.values()
    if not p.is_discrete and p.maximum > p.minimum
  ]


def test_signal(n_channels: int, n_samples: int, seed: int = 0) -> np.ndarray:
  """Returns bursts of noise on a chord, [n_channels, n_samples], float32."""
  rng = np.random.default_rng(seed)
  t = np.arange(n_samples)
  chord = sum(np.sin(2 * np.pi * f * t) for f in (0.003, 0.011, 0.05, 0.2))
  bursts = rng.standard_normal((n_channels, n_samples)) * (t // 2048 % 2)
  return (0.05 * chord + 0.1 * bursts).astype(np.float32)
