"""What a plugin does, found out by rendering, to be run in a worker process.

Each experiment takes the arguments `uri`, `sample_rate` in Hz and `block_size`
in samples, and returns what can be written as JSON. All make new instances and
none takes the latency out, but for `sound`, which measures it.
"""

import ctypes
import functools
import hashlib
import statistics
import time
from collections.abc import Mapping, Sequence

import numpy as np

from dafx.lv2 import errors, latency, stimuli, world
from dafx.lv2 import ports as ports_lib
from dafx.lv2 import renderer as renderer_lib

# No level below this is told from silence.
_SILENCE_DB = -200.0
# Other block sizes that are tried.
_BLOCK_SIZES = (64, 100)
# Silence before a render, in which what glides to its values arrives.
_LONGER_S = 1.0
# An output that correlates with the input less than this is no late copy of it.
_COPY = 0.7
# Values that are tried of a control that takes single ones.
_MAX_VALUES = 4
# Controls that are moved at once, to find those that do nothing.
_GROUP = 8
_LOUD = 5.0
# Of glibc's mallopt: the byte that new and freed memory is filled with.
_M_PERTURB = -6
_FILLINGS = (0x55, 0xAA)


def level_db(samples: np.ndarray) -> float:
  """Returns the root mean square in dB, at least -200."""
  mean_square = float(np.mean(np.square(samples, dtype=np.float64)))
  return float(max(10.0 * np.log10(max(mean_square, 1e-20)), _SILENCE_DB))


def _host(uri, sample_rate, block_size, **kwargs) -> renderer_lib.Renderer:
  defaults = dict(compensate_latency=False, n_threads=1)
  kwargs = {**defaults, **kwargs}
  return renderer_lib.Renderer(
    uri, sample_rate, block_size=block_size, **kwargs
  )


def _audio(host, seconds: float, n_items: int = 1) -> np.ndarray:
  """Returns test signals, [n_items, n_samples, n_channels]."""
  n_samples = int(seconds * host.sample_rate)
  n_channels = max(host.n_channels_in, 1)
  return np.stack(
    [stimuli.test_signal(n_channels, n_samples, i).T for i in range(n_items)]
  )


def _peak(samples: np.ndarray) -> float:
  return float(np.max(np.abs(samples), initial=0.0))


# --------------------------------------------------------------- Defaults ----
def sound(uri: str, sample_rate: float, block_size: int) -> dict:
  """Renders a plugin at its defaults and says what there is to say of it.

  Args:
    uri: URI of the plugin.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.

  Returns:
    Dictionary of:
      latency: Samples that a `Renderer` takes out.
      latency_reported: Samples that the plugin reports, None if it has no port
        for that.
      latency_measured: Lag in samples at which an output is a copy of an
        input, None if none is.
      n_nonfinite: Samples that are NaN or infinite.
      level_db: Level of the output; -200 is silence.
      peak: Its largest sample.
      real_time_factor: Seconds of audio per second of rendering, one thread.
      instance_ms: Cost of a new instance, in milliseconds.
  """
  host = _host(uri, sample_rate, block_size)
  compensated = _host(uri, sample_rate, block_size, compensate_latency=True)
  audio = _audio(host, 0.5)
  out = host.render(audio)
  instance = host.new_instance()
  controls = host.default_controls()
  plane = audio[0].T.copy()

  def milliseconds(function):
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)

  # The least of several: what else the machine does only adds.
  render_ms = min(
    milliseconds(lambda: host.run(instance, plane, controls, plane.shape[1]))
    for _ in range(3)
  )
  plugin = host.plugin
  return dict(
    latency=compensated.latency,
    latency_reported=compensated.latency if plugin.latency_port else None,
    latency_measured=_measure_latency(host),
    n_nonfinite=host.n_nonfinite,
    level_db=level_db(out),
    peak=_peak(out),
    real_time_factor=1e3 * plane.shape[1] / sample_rate / render_ms,
    instance_ms=statistics.median(
      milliseconds(instance.renew) for _ in range(3)
    ),
  )


def _measure_latency(host) -> int | None:
  """Returns the lag of the best copy of an input among the outputs, or None.

  By cross-correlation with noise, another in each input, up to half a second.
  """
  n = int(host.sample_rate)
  rng = np.random.default_rng(0)
  noise = 0.05 * rng.standard_normal((host.n_channels_in, n))
  noise = noise.astype(np.float32)
  if not noise.size:
    return None
  out = host.render(noise.T[np.newaxis])[0].T
  return latency.lag_of_copy(out, noise, n // 2, _COPY)


def _fill_memory(byte: int):
  """Makes memory that is allocated from now on hold a byte; 0 for as it was."""
  libc = ctypes.CDLL(None)
  libc.malloc.restype = ctypes.c_void_p
  libc.malloc.argtypes = [ctypes.c_size_t]
  libc.free.argtypes = [ctypes.c_void_p]
  libc.mallopt(_M_PERTURB, byte ^ 0xFF if byte else 0)
  # glibc hands small freed blocks out again as they are.
  blocks = [(libc.malloc(n), n) for n in range(24, 1033, 16) for _ in range(8)]
  for block, n in blocks:
    ctypes.memset(block, byte, n)
    libc.free(block)


def _digest(samples: np.ndarray) -> str:
  return hashlib.sha256(samples.tobytes()).hexdigest()


class _Repeated:
  """A render at the defaults and at random values of controls with a range."""

  def __init__(self, uri, sample_rate, block_size, seeds):
    plugin = world.get_plugin(uri).at_rate(sample_rate)
    symbols = stimuli.continuous_symbols(plugin)
    self.new_host = functools.partial(
      _host, uri, sample_rate, block_size=block_size, controls=symbols
    )
    self.host = self.new_host()
    settings = [self.host.default_controls()]
    for seed in seeds:
      rng = np.random.default_rng(seed)
      random = stimuli.random_settings(plugin, symbols, rng)
      settings.append(random[np.newaxis])
    self.settings = np.stack(settings)  # [n_items, 1, n_controls]
    audio = _audio(self.host, 0.25)
    self.audio = np.repeat(audio, len(settings), axis=0)

  def render(self) -> np.ndarray:
    """Renders with the first renderer."""
    return self.host.render(self.audio, self.settings)

  def render_afresh(self) -> np.ndarray:
    """Renders with a new one, whose instance is new in every way."""
    return self.new_host().render(self.audio, self.settings)


def digest(
  uri: str, sample_rate: float, block_size: int, seeds: Sequence[int] = (0,)
) -> str:
  """Returns a hash of a render.

  Args:
    uri: URI of the plugin.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.
    seeds: Of random values for the controls with a range; one more item is at
      the defaults.
  """
  repeated = _Repeated(uri, sample_rate, block_size, seeds)
  return hashlib.sha256(repeated.render().tobytes()).hexdigest()


def repeatability(
  uri: str, sample_rate: float, block_size: int, seeds: Sequence[int] = (0,)
) -> dict:
  """Renders the same on new instances, and with other bytes in fresh memory.

  Args:
    uri: URI of the plugin.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.
    seeds: As for `digest`.

  Returns:
    Dictionary of:
      digest: As by `digest`.
      instances_error: Largest difference of two instances, the second made
        after loud use of another.
      alike_error: Largest difference of two instances while fresh memory holds
        the same bytes.
      memory_error: Largest difference by what fresh memory holds.
  """
  repeated = _Repeated(uri, sample_rate, block_size, seeds)
  first = repeated.render()
  # An instance often gets the memory of one before, with all that it left.
  loud = _LOUD * repeated.audio[:, ::-1]
  repeated.host.render(loud, repeated.settings[::-1])
  others = [repeated.render(), repeated.render_afresh()]
  filled = []
  for byte in (_FILLINGS[0], *_FILLINGS):
    _fill_memory(byte)
    filled.append(repeated.render_afresh())
  _fill_memory(0)
  return dict(
    digest=hashlib.sha256(first.tobytes()).hexdigest(),
    instances_error=max(_peak(out - first) for out in others),
    alike_error=_peak(filled[1] - filled[0]),
    memory_error=max(_peak(out - first) for out in filled),
  )


def thread_safety(uri: str, sample_rate: float, block_size: int) -> dict:
  """Renders items side by side and compares with one after the other.

  Args:
    uri: URI of the plugin.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.

  Returns:
    {'threads_error': largest difference}, which says something of plugins
    alone of which two instances do not differ.
  """
  alone = _host(uri, sample_rate, block_size)
  audio = _audio(alone, 0.1, n_items=6)
  want = alone.render(audio)
  host = _host(uri, sample_rate, block_size, n_threads=3)
  error = max(_peak(host.render(audio) - want) for _ in range(2))
  return dict(threads_error=error)


def _change_db(other: np.ndarray, out: np.ndarray) -> float:
  """Returns the highest level of a difference of items, in dB of the output."""
  found = [_SILENCE_DB]
  for one, usual in zip(other, out, strict=True):
    if np.isfinite(one).all() and np.isfinite(usual).all():
      change_db = level_db(one - usual)
      if change_db > _SILENCE_DB:
        found.append(change_db - level_db(usual))
  return max(found)


def host_dependence(
  uri: str, sample_rate: float, block_size: int, seeds: Sequence[int] = (0, 1)
) -> dict:
  """Renders in blocks of other sizes, and after a longer time of silence.

  What sounds otherwise then, sounds otherwise in another host.

  Args:
    uri: URI of the plugin.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.
    seeds: As for `digest`.

  Returns:
    Dictionary of:
      block_difference_db: Level of what block sizes of 64 or 100 change,
        relative to the output; -200 for nothing.
      refused_block_sizes: Those of them that the plugin does not take.
      start_difference_db: The same of a second more of silence before.
      stream_error: Largest difference of a stream, one block at a time, to one
        render, at the defaults.
  """
  repeated = _Repeated(uri, sample_rate, block_size, seeds)
  audio, settings = repeated.audio, repeated.settings

  def render(**options):
    host = repeated.new_host(**options)
    return host.render(audio, settings).copy()

  out = render()
  change_db, refused = _SILENCE_DB, []
  for n in _BLOCK_SIZES:
    try:
      change_db = max(change_db, _change_db(render(block_size=n), out))
    except errors.PluginError:
      refused.append(n)
  early = render(warm_up=block_size)
  late = render(warm_up=block_size + round(_LONGER_S * sample_rate))
  stream = _host(uri, sample_rate, block_size, stateful=True)
  n_whole = audio.shape[1] // block_size * block_size
  chunks = [
    stream.render(audio[:1, start : start + block_size]).copy()
    for start in range(0, n_whole, block_size)
  ]
  return dict(
    block_difference_db=change_db,
    refused_block_sizes=refused,
    start_difference_db=_change_db(late, early),
    stream_error=_peak(np.concatenate(chunks, axis=1) - out[:1, :n_whole]),
  )


# --------------------------------------------------------------- Controls ----
def _other_values(port: ports_lib.Port) -> list[float]:
  """Returns values to try a control at, none of them its default."""
  values = [port.minimum, port.maximum]
  if taken := port.single_values:
    # Of whole numbers without names, the ends.
    n_most = _MAX_VALUES
    if isinstance(taken, range) and len(taken) > _MAX_VALUES:
      n_most = 2
    picked = np.linspace(0, len(taken) - 1, min(len(taken), n_most))
    values = [float(taken[round(i)]) for i in picked]
  return [value for value in values if value != port.default]


def control_effects(
  uri: str,
  sample_rate: float,
  block_size: int,
  symbols: Sequence[str],
  fixed: Mapping[str, float],
  base: Mapping[str, float] | None = None,
) -> list[dict]:
  """Moves controls one by one from the defaults to the ends of their ranges.

  Of a control that takes single values, up to four are tried. Controls that do
  nothing when eight are moved at once are not moved alone.

  Args:
    uri: URI of the plugin.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.
    symbols: Of the controls.
    fixed: Values of others, by symbol.
    base: Values to start from instead of defaults, by symbol; those of symbols
      that are not among them are kept too.

  Returns:
    Per control {'symbol', 'effect_db': level of the largest change, relative to
    the output at the defaults, -200 for none, 'n_nonfinite': samples not
    finite}. A change that two renders at the defaults show as well counts as
    none.
  """
  base = base or {}
  others = {s: value for s, value in base.items() if s not in symbols}
  host = _host(
    uri,
    sample_rate,
    block_size,
    controls=symbols,
    fixed={**others, **fixed},
  )
  plugin = host.plugin
  audio = _audio(host, 0.25)
  defaults = host.default_controls()  # [1, n_controls]
  for i, symbol in enumerate(symbols):
    defaults[0, i] = base.get(symbol, defaults[0, i])
  values = [_other_values(plugin.control(symbol)) for symbol in symbols]
  default = host.render(audio, defaults[np.newaxis])
  # Two more: what differs between them is no control's doing.
  again = [host.render(audio, defaults[np.newaxis]) for _ in range(2)]
  noise_db = max(level_db(out - default) for out in again)
  reference_db = max(level_db(default), -120.0)

  def change_db(indices, turn):
    """Level of the change when controls take their values of one turn."""
    settings = defaults.copy()
    for i in indices:
      settings[0, i] = values[i][turn]
    return level_db(host.render(audio, settings[np.newaxis]) - default)

  def moving(indices, turn):
    return [i for i in indices if turn < len(values[i])]

  found = []
  for start in range(0, len(symbols), _GROUP):
    group = range(start, min(start + _GROUP, len(symbols)))
    before = host.n_nonfinite
    quiet = noise_db <= _SILENCE_DB and all(
      change_db(moving(group, turn), turn) <= _SILENCE_DB
      for turn in range(_MAX_VALUES)
      if moving(group, turn)
    )
    quiet = quiet and host.n_nonfinite == before
    for i in group:
      before = host.n_nonfinite
      largest_db = _SILENCE_DB
      if not quiet:
        changes = [change_db([i], turn) for turn in range(len(values[i]))]
        largest_db = max(changes, default=_SILENCE_DB)
      is_noise = largest_db <= max(noise_db + 6.0, _SILENCE_DB)
      found.append(
        dict(
          symbol=symbols[i],
          effect_db=_SILENCE_DB
          if is_noise
          else max(largest_db - reference_db, _SILENCE_DB),
          n_nonfinite=host.n_nonfinite - before,
        )
      )
  return found


def sweep(
  uri: str, sample_rate: float, block_size: int, seeds: Sequence[int]
) -> list[dict]:
  """Renders with all controls at random values, then jumping among them.

  Args:
    uri: URI of the plugin.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.
    seeds: One render each, of 0.2 s with four settings.

  Returns:
    Per seed {'n_nonfinite': samples not finite, 'peak': largest sample}.
  """
  plugin = world.get_plugin(uri).at_rate(sample_rate)
  symbols = list(plugin.controls)
  host = _host(uri, sample_rate, block_size, controls=symbols)
  audio = _audio(host, 0.2)
  found = []
  for seed in seeds:
    rng = np.random.default_rng(seed)
    settings = [stimuli.random_settings(plugin, symbols, rng) for _ in '1234']
    before = host.n_nonfinite
    out = host.render(audio, np.stack(settings)[np.newaxis])
    found.append(dict(n_nonfinite=host.n_nonfinite - before, peak=_peak(out)))
  return found
