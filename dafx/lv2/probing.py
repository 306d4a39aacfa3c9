"""Experiments on a plugin, to be run in a worker process."""

import dataclasses
import statistics
import time

import numpy as np

from dafx.lv2 import fresh_state as fresh_state_lib
from dafx.lv2 import renderer as renderer_lib
from dafx.lv2 import world

_SILENCES = (0, 1024, 4096, 16384)
_PROBE_S = 3.0


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


def fresh_state(
  uri: str, sample_rate: float, block_size: int, controls, fixed
) -> dict:
  """Finds the cheapest way to a plugin's start state.

  A way counts only if, after loud use at random settings, what follows equals a
  new instance's output to the last bit, for several random settings.

  Args:
    uri: URI of the plugin.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.
    controls: Symbols of the controls that will move.
    fixed: Values of others, by symbol.

  Returns:
    A `fresh_state.Method` as a dictionary.
  """
  plugin = world.get_plugin(uri).at_rate(sample_rate)
  host = renderer_lib.Renderer(
    uri,
    sample_rate,
    controls,
    fixed,
    block_size=block_size,
    n_threads=1,
    compensate_latency=False,
  )
  rng = np.random.default_rng(0)
  n_channels = max(host.n_channels_in, 1)
  # Long enough for delay lines; odd lengths, so that no buffer is just full.
  audio = test_signal(n_channels, int(_PROBE_S * sample_rate))
  trials = []
  for n_loud in (9_999, 65_536, int(_PROBE_S * sample_rate) + 1):
    level = 10.0 ** rng.uniform(-1.0, 0.5)
    loud = level * rng.standard_normal((n_channels, n_loud))
    settings = [
      random_settings(plugin, controls, rng)[np.newaxis] for _ in '12'
    ]
    trials.append((loud.astype(np.float32), *settings))
  # Much work is done at the defaults.
  trials[0] = (trials[0][0], trials[0][1], host.default_controls())

  def fresh(controls):
    instance = host.new_instance()
    return host.run(instance, audio, controls, audio.shape[1])[0]

  references = [fresh(after) for _, _, after in trials]
  repeatable = all(
    np.array_equal(reference, fresh(after))
    for reference, (_, _, after) in zip(references, trials, strict=True)
  )
  instance = host.new_instance()
  instance_ms = _milliseconds(lambda: host.renew(instance))
  best = fresh_state_lib.Method(instance_ms=instance_ms, repeatable=repeatable)
  if not repeatable:
    return dataclasses.asdict(best)
  best_ms = instance_ms
  for activate in (False, True):
    for n_silence in _SILENCES:
      if not activate and not n_silence:
        continue
      method = fresh_state_lib.Method(
        'reset', activate, n_silence, instance_ms, 0.0
      )

      def reset(method=method, controls=trials[0][2]):
        host.reset(instance, method, controls)

      reset_ms = _milliseconds(reset)
      if reset_ms >= best_ms:
        continue
      if all(
        _equals_after_use(host, method, audio, trial, reference)
        for trial, reference in zip(trials, references, strict=True)
      ):
        best = dataclasses.replace(method, reset_ms=reset_ms)
        best_ms = reset_ms
  return dataclasses.asdict(best)


def _equals_after_use(host, method, audio, trial, reference) -> bool:
  loud, before, after = trial
  instance = host.new_instance()
  host.run(instance, loud, before, loud.shape[1])
  host.reset(instance, method, after)
  out = host.run(instance, audio, after, audio.shape[1])[0]
  return np.array_equal(out, reference)


def _level_db(samples: np.ndarray) -> float:
  """Root mean square in dB, at least -200."""
  mean_square = float(np.mean(np.square(samples, dtype=np.float64)))
  return 10.0 * np.log10(max(mean_square, 1e-20))


def sound(uri: str, sample_rate: float, block_size: int) -> dict:
  """Renders a plugin at its defaults and says what there is to say of it.

  Args:
    uri: URI of the plugin.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.

  Returns:
    Dictionary of:
      latency: Samples, as reported or measured.
      latency_is_reported: Whether the plugin has a port for it.
      n_nonfinite: Samples that are NaN or infinite.
      level_db: Level of the output.
      repeatable: Whether two new instances give the same samples.
      thread_safe: Whether two renders at a time give what one gives.
      block_difference_db: Level of what a block size of 64 changes, relative to
        the output; -200 for nothing.
      real_time_factor: Seconds of audio per second of rendering, one thread.
      milliseconds_per_instance: Cost of a new instance.
  """
  plugin = world.get_plugin(uri).at_rate(sample_rate)

  def host(block_size=block_size, **kwargs):
    return renderer_lib.Renderer(
      uri, sample_rate, block_size=block_size, n_threads=2, **kwargs
    )

  compensated = host()
  raw = host(compensate_latency=False)
  n_channels = max(raw.n_channels_in, 1)
  n_samples = int(sample_rate) // 2
  audio = test_signal(n_channels, n_samples).T[np.newaxis]
  first = raw.render(audio)
  second = host(compensate_latency=False).render(audio)
  pair = raw.render(np.concatenate([audio, audio]))
  small = host(block_size=64, compensate_latency=False).render(audio)
  level_db = _level_db(first)
  instance = raw.new_instance()
  controls = raw.default_controls()
  plane = audio[0].T.copy()
  milliseconds = _milliseconds(
    lambda: raw.run(instance, plane, controls, n_samples), 3
  )
  return dict(
    latency=compensated.latency,
    latency_is_reported=plugin.latency_port is not None,
    n_nonfinite=raw.n_nonfinite,
    level_db=level_db,
    repeatable=bool(np.array_equal(first, second)),
    thread_safe=bool(
      np.array_equal(pair[0], first[0]) and np.array_equal(pair[1], first[0])
    ),
    block_difference_db=max(_level_db(small - first) - level_db, -200.0),
    real_time_factor=1e3 * n_samples / sample_rate / milliseconds,
    milliseconds_per_instance=_milliseconds(lambda: raw.renew(instance), 3),
  )


def control_effects(
  uri: str, sample_rate: float, block_size: int, symbols
) -> list[dict]:
  """Moves controls one by one from the defaults to both ends of their ranges.

  Args:
    uri: URI of the plugin.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.
    symbols: Of the controls.

  Returns:
    Per control {'symbol', 'effect_db': level of the larger change, relative to
    the output at the defaults, 'n_nonfinite': samples not finite}.
  """
  plugin = world.get_plugin(uri).at_rate(sample_rate)
  host = renderer_lib.Renderer(
    uri,
    sample_rate,
    symbols,
    block_size=block_size,
    n_threads=1,
    compensate_latency=False,
  )
  n_channels = max(host.n_channels_in, 1)
  audio = test_signal(n_channels, int(sample_rate) // 4).T[np.newaxis]
  defaults = host.default_controls()[np.newaxis]  # [1, 1, n_controls]
  default = host.render(audio, defaults)[0]
  level_db = max(_level_db(default), -120.0)
  found = []
  for i, symbol in enumerate(symbols):
    port = plugin.control(symbol)
    settings = np.repeat(defaults, 2, axis=0)
    settings[:, 0, i] = port.minimum, port.maximum
    before = host.n_nonfinite
    moved = host.render(np.repeat(audio, 2, axis=0), settings)
    change_db = max(_level_db(out - default) for out in moved)
    found.append(
      dict(
        symbol=symbol,
        effect_db=max(change_db - level_db, -200.0),
        n_nonfinite=host.n_nonfinite - before,
      )
    )
  return found
