"""The search for a way to a plugin's start state, run in a worker process."""

import dataclasses
import statistics
import time

import numpy as np

from dafx.lv2 import fresh_state as fresh_state_lib
from dafx.lv2 import renderer as renderer_lib
from dafx.lv2 import world

_PROBE_S = 1.0
_N_TRIALS = 6


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


def _milliseconds(function, n=5) -> float:
  times = []
  for _ in range(n):
    start = time.perf_counter()
    function()
    times.append(1e3 * (time.perf_counter() - start))
  return statistics.median(times)


def fresh_state(uri: str, sample_rate: float, block_size: int) -> dict:
  """Finds the cheapest way to a plugin's start state.

  Rewinding counts only if, after loud use at random settings, what follows
  equals a new instance's output to the last bit, several times over on one
  instance. Settings at which two new instances differ (LSP's limiter with
  dither) say nothing of it; those of its switches are drawn in every other
  trial.

  Args:
    uri: URI of the plugin.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.

  Returns:
    A `fresh_state.Method` as a dictionary.
  """
  plugin = world.get_plugin(uri).at_rate(sample_rate)
  host = renderer_lib.Renderer(
    uri,
    sample_rate,
    list(plugin.controls),
    block_size=block_size,
    n_threads=1,
    compensate_latency=False,
    start='instance',
  )
  rng = np.random.default_rng(0)
  n_channels = max(host.n_channels_in, 1)
  n_samples = int(_PROBE_S * sample_rate)
  audio = test_signal(n_channels, n_samples)
  first = host.new_instance()  # holds what instances share
  instance = host.new_instance(can_rewind=True)
  instance_ms = _milliseconds(instance.renew)
  found = fresh_state_lib.Method(instance_ms=instance_ms)

  is_discrete = [plugin.control(s).is_discrete for s in host.controls]

  def random_controls(n_frames, discrete):
    drawn = [random_settings(plugin, host.controls, rng) for _ in n_frames]
    if discrete:
      return np.stack(drawn)
    return np.where(is_discrete, host.default_controls(), drawn)

  def render(instance, controls):
    hop_size = -(-n_samples // len(controls))
    return host.run(instance, audio, controls, hop_size)[0]

  n_equal = 0
  for trial in range(_N_TRIALS):
    # Much work is done at the defaults.
    controls = host.default_controls()
    if trial:
      controls = random_controls(range(trial), discrete=trial % 2)
    first.renew()
    fresh = render(first, controls)
    error = fresh - render(host.new_instance(), controls)
    if np.any(error):
      if not trial:
        error = float(np.max(np.abs(error)))
        found = dataclasses.replace(found, repeatable=False, error=error)
        return dataclasses.asdict(found)
      continue
    level = 10.0 ** rng.uniform(-1.0, 0.5)
    n_loud = int(rng.integers(1, 2 * n_samples))
    loud = level * rng.standard_normal((n_channels, n_loud))
    dirt = random_controls(range(1), discrete=True)
    host.run(instance, loud.astype(np.float32), dirt, n_loud)
    if instance.rewind():  # else it takes memory at these settings
      n_equal += 1
    else:
      instance.renew()
    if not np.array_equal(fresh, render(instance, controls)):
      return dataclasses.asdict(found)
  instance.renew()
  if n_equal < 3 or not instance.rewind():
    return dataclasses.asdict(found)
  rewind_ms = _milliseconds(instance.rewind)
  if rewind_ms < instance_ms / 2:
    found = dataclasses.replace(found, kind='rewind', rewind_ms=rewind_ms)
  return dataclasses.asdict(found)
