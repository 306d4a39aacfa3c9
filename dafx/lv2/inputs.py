"""What goes into a renderer: values of ports, audio and controls that fit."""

import functools
import numbers
from collections.abc import Mapping, Sequence

import numpy as np

from dafx import _arguments
from dafx.lv2 import errors, instances, world

ISOLATIONS = ('thread', 'process')
# Beyond these a plugin or the system ends the process, or nothing ends.
_MOST_HZ, _MOST_BLOCK, _MOST_THREADS, _MOST_WARM_UP = 10**6, 2**24, 1024, 2**24


def check_sample_rate(sample_rate: float):
  """Raises ValueError for a rate, in Hz, that no renderer takes."""
  is_number = _arguments.is_number(sample_rate)
  if not is_number or not 1 <= float(sample_rate) <= _MOST_HZ:
    raise ValueError(
      f'sample_rate={sample_rate!r} must be a number of at least 1, and '
      f'{_MOST_HZ} at most.'
    )


def check_options(
  sample_rate,
  block_size,
  warm_up,
  preset,
  compensate_latency,
  *,
  strict,
  stateful,
  n_threads,
  isolation,
  time_limit_s,
):
  """Raises ValueError for an option of `Renderer` that is none."""
  check_sample_rate(sample_rate)
  for name, value, low, high in (
    ('block_size', block_size, 1, _MOST_BLOCK),
    ('n_threads', n_threads if n_threads is not None else 1, 1, _MOST_THREADS),
    ('warm_up', warm_up, 0, _MOST_WARM_UP),
  ):
    is_number = isinstance(value, numbers.Real) and low <= float(value) <= high
    if not is_number or value != int(value):
      raise ValueError(
        f'{name}={value!r} must be a whole number of at least {low}, and '
        f'{high} at most.'
      )
  if not _arguments.is_number(time_limit_s) or not time_limit_s > 0.0:
    raise ValueError(
      f'time_limit_s={time_limit_s!r} must be a number of seconds above 0.'
    )
  if preset is not None and not isinstance(preset, str):
    raise ValueError(
      f'preset={preset!r} must be the label or URI of a preset, a string, or '
      'None. lv2.list_presets names them.'
    )
  for name, value in (
    ('strict', strict),
    ('stateful', stateful),
    ('compensate_latency', compensate_latency),
  ):
    if not isinstance(value, (bool, np.bool_)) and value not in (0, 1):
      raise ValueError(f'{name}={value!r} must be True or False.')
  if isolation not in ISOLATIONS:
    raise ValueError(f'isolation={isolation!r} must be one of {ISOLATIONS}.')


def check_plugin(plugin: world.Plugin):
  """Raises PluginError for a plugin that this host cannot run."""
  lacking = set(plugin.required_features) - world.SUPPORTED_FEATURES
  if lacking:
    raise errors.PluginError(
      f'{plugin.uri} needs what this host does not have: '
      f'{", ".join(sorted(lacking))}.'
    )
  if not plugin.audio_outputs:
    raise errors.PluginError(f'{plugin.uri} has no audio output to render.')


def check_value(plugin: world.Plugin, symbol: str, value: float):
  """Raises ValueError unless a value is in the range of a control port.

  A range that goes with the sample rate is only known of `plugin.at_rate`.

  Examples:
    >>> from dafx import lv2
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> lv2.check_value(lv2.get_plugin(uri), 'ratio', 0.5)
    Traceback (most recent call last):
    ValueError: ratio=0.5 is out of range: ...
  """
  port = plugin.control(symbol)
  is_nan = isinstance(value, numbers.Real) and value != value
  if not is_nan and not _arguments.is_number(value):
    raise ValueError(f'{symbol}={value!r} must be a number, in port units.')
  if port.per_sample_rate and _arguments.is_finite(value):
    return
  low, high = port.minimum, port.maximum
  if not low - port.slack <= value <= high + port.slack:
    raise ValueError(
      f'{symbol}={value} is out of range: {plugin.uri} takes '
      f'{port.describe_range()}.'
    )


def check_symbols(
  plugin: world.Plugin, controls: Sequence[str], fixed: Mapping[str, float]
):
  """Looks at the symbols and fixed values that a renderer gets.

  Args:
    plugin: The plugin, as it is at the sample rate.
    controls: Symbols of the controls that move.
    fixed: Values of others by symbol, in port units.

  Raises:
    ValueError: A symbol that is given twice, or a value out of its range.
    KeyError: No such symbol.
  """
  both = sorted(set(controls) & set(fixed))
  if both:
    raise ValueError(
      f'{", ".join(both)}: given both as a control and as a fixed value of '
      f'{plugin.uri}; choose one.'
    )
  if len(set(controls)) < len(controls):
    raise ValueError(f'controls={list(controls)} names a symbol twice.')
  for symbol in controls:
    plugin.control(symbol)
  for symbol, value in fixed.items():
    check_value(plugin, symbol, value)


def initial_values(
  plugin: world.Plugin, fixed: Mapping[str, float]
) -> np.ndarray:
  """Returns what each port holds at the start, [n_ports]; 0 but for controls.

  Args:
    plugin: The plugin, as it is at the sample rate.
    fixed: Values that are not the defaults, by symbol, in port units.
  """
  values = [p.default if p.kind == 'control' else 0.0 for p in plugin.ports]
  for symbol, value in fixed.items():
    port = plugin.control(symbol)
    values[port.index] = float(port.nearest(value))
  return np.array(values, np.float32)


def fit(
  plugin: world.Plugin,
  symbols: Sequence[str],
  defaults: np.ndarray,
  audio: np.ndarray,
  rows: Sequence[int] | np.ndarray | None,
  controls: np.ndarray | None,
  hop_size: int | None,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, int]:
  """Returns the arguments of `Renderer.render` as they go to the plugin.

  Args:
    plugin: The plugin.
    symbols: Of the controls.
    defaults: Their defaults, [n_controls].
    audio: Shape [n_audio, n_samples, n_channels]; see `feed`.
    rows: Which of `audio` each item takes, [batch]; None for one each.
    controls: In port units, shape [batch, n_frames, n_controls]; None for the
      defaults.
    hop_size: Samples per frame; None for n_samples / n_frames, rounded up.

  Returns:
    (audio, rows, controls [batch, n_frames, n_controls], hop_size): float32,
    aligned, rows int64; controls contiguous, in range, and rounded where a port
    takes single values only.

  Raises:
    ValueError: Shapes that do not fit, no samples, rows that are not there, or
      controls that are not finite or out of range.
  """
  audio = np.asarray(_arguments.audio_array('audio', audio), np.float32)
  if audio.ndim != 3 or not audio.size:
    raise ValueError(
      f'audio has shape {audio.shape}; it must be [batch, n_samples, '
      'n_channels] with at least one of each.'
    )
  audio = feed(plugin, audio)
  if not audio.flags.aligned:
    audio = audio.copy()
  n_items, n_samples, _ = audio.shape
  if rows is not None:
    rows = _fit_rows(rows, n_items)
    n_items = len(rows)
  if controls is None:
    controls = np.broadcast_to(defaults, (n_items, 1, len(symbols)))
  controls = _arguments.number_array('controls', controls)
  controls = np.ascontiguousarray(controls)
  n_frames = controls.shape[1] if controls.ndim == 3 else 0
  if controls.shape != (n_items, n_frames, len(symbols)) or not n_frames:
    raise ValueError(
      f'controls has shape {controls.shape}; for this audio it must be '
      f'[{n_items}, n_frames, {len(symbols)}], the controls being '
      f'{", ".join(symbols) or "none"}.'
    )
  if hop_size is None:
    hop_size = -(-n_samples // n_frames)
  if not _arguments.is_number(hop_size) or hop_size % 1 != 0:
    raise ValueError(
      f'hop_size={hop_size!r} must be a whole number of samples, 1 or more.'
    )
  if hop_size < 1 or (n_frames - 1) * hop_size >= n_samples:
    raise ValueError(
      f'{n_frames} frames of hop_size={hop_size} do not fit '
      f'{n_samples} samples: the last ones would hold none.'
    )
  return audio, rows, fit_controls(plugin, symbols, controls), int(hop_size)


def _fit_rows(rows, n_audio: int) -> np.ndarray:
  """Returns rows of audio as int64; raises ValueError unless all are there."""
  found = np.asarray(rows)
  is_whole = np.issubdtype(found.dtype, np.integer)
  if found.ndim != 1 or not len(found) or not is_whole:
    raise ValueError(
      f'rows={rows!r} must be whole numbers, one for each item, and one or '
      'more.'
    )
  if found.min() < 0 or found.max() >= n_audio:
    raise ValueError(
      f'rows={found.tolist()} must be of 0 to {n_audio - 1}: audio '
      f'has {n_audio} rows.'
    )
  return np.ascontiguousarray(found, np.int64)


def feed(plugin: world.Plugin, audio: np.ndarray) -> np.ndarray:
  """Returns what each audio input gets.

  A side chain hears what goes in: its own channel, where there are as many of
  them, otherwise the mean of all.

  Args:
    plugin: The plugin.
    audio: Shape [..., n_channels]: one, for all inputs; as many as
      `main_inputs`; or one for each audio input, side chains included.

  Returns:
    Shape [..., n_audio_inputs], or [..., 1] as it came.

  Raises:
    ValueError: Another number of channels.
  """
  n_channels, n_inputs = audio.shape[-1], len(plugin.audio_inputs)
  if n_channels in (1, n_inputs):
    return audio
  main, side_chains = plugin.main_inputs, plugin.side_chains
  if n_channels != len(main):
    raise ValueError(
      f'audio has {n_channels} channels; {plugin.uri} takes '
      f'{describe_inputs(plugin)}.'
    )
  channels = {p.symbol: audio[..., i] for i, p in enumerate(main)}
  for i, port in enumerate(side_chains):
    channels[port.symbol] = (
      audio[..., i]
      if len(side_chains) == len(main)
      else audio.mean(-1, dtype=np.float32)
    )
  return np.stack([channels[p.symbol] for p in plugin.audio_inputs], axis=-1)


def describe_inputs(plugin: world.Plugin) -> str:
  """Says how many channels a plugin takes, and which inputs they go to.

  Examples:
    >>> from dafx import lv2
    >>> lv2.describe_inputs(
    ...   lv2.get_plugin('http://calf.sourceforge.net/plugins/Compressor')
    ... )
    '2 (in_l, in_r), or 1 for all of them'
  """

  def symbols(ports):
    return ', '.join(port.symbol for port in ports) or 'none'

  main, side_chains = plugin.main_inputs, plugin.side_chains
  said = f'{len(main)} ({symbols(main)})'
  if len(main) > 1:
    said += ', or 1 for all of them'
  if side_chains:
    said += (
      f', or {len(plugin.audio_inputs)} with audio of its own for each side '
      f'chain ({symbols(plugin.audio_inputs)})'
    )
  return said


def fit_controls(
  plugin: world.Plugin, symbols: Sequence[str], controls: np.ndarray
) -> np.ndarray:
  """Returns values of controls as they go to the plugin.

  Args:
    plugin: The plugin, as it is at the sample rate.
    symbols: Of the controls.
    controls: In port units, shape [..., n_controls].

  Returns:
    Of that shape, float32, contiguous, in range, and rounded where a port takes
    single values only.

  Raises:
    ValueError: Values that are not finite or out of range.
  """
  controls = np.ascontiguousarray(controls, np.float32)
  instances.check_finite('controls', controls, plugin.uri)
  low, high, discrete = _limits(plugin, tuple(symbols))
  if ((controls < low) | (controls > high)).any():
    for i, symbol in enumerate(symbols):
      for value in (controls[..., i].min(), controls[..., i].max()):
        check_value(plugin, symbol, value)
    controls = np.clip(controls, low, high)  # what rounding put beyond
  if discrete:
    controls = controls.copy()
    for i, port in discrete:
      controls[..., i] = port.nearest(controls[..., i])
  return controls


@functools.lru_cache(maxsize=256)
def _limits(plugin, symbols):
  """Returns the ends of controls, and (index, port) of those of single values.

  Ends are [n_controls], float32. Light plugins take less time than to ask.
  """
  ports = [plugin.control(symbol) for symbol in symbols]
  low = np.array([port.minimum for port in ports], np.float32)
  high = np.array([port.maximum for port in ports], np.float32)
  return low, high, [(i, p) for i, p in enumerate(ports) if p.is_discrete]
