"""What a session holds: tracks with audio, plugins, and how they are set."""

import dataclasses
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dafx import lv2
from dafx.audio import sources
from dafx.lv2 import parameters, presets

# Names of the tracks, of their audio files, and of the bus that they go to.
INPUT, TARGET, BUS = 'input', 'target', 'Master'
# Characters that a DAW takes for a part of a path or of the name of a port.
_NOT_IN_NAMES = '/\\:;*?"<>|'
_MAX_NAME = 100
# Between points of a control that moves by equal ratios, where a DAW knows
# straight lines alone: the change from one to the next, as a logarithm. The
# lines are then off by 5e-5 of the value.
_RATIO_STEP = 0.02


@dataclasses.dataclass(frozen=True)
class Automation:
  """A control that moves in lines from point to point.

  It holds before the first point and after the last one.

  Attributes:
    times_s: When the points are, [n_points], rising.
    values: In port units, [n_points].
    is_log: Whether it moves by equal ratios; in straight lines otherwise.

  Raises:
    ValueError: Shapes that differ, no points, times that do not rise, values
      that are not finite, or not above 0 where they move by equal ratios.

  Examples:
    >>> from dafx import sessions
    >>> sessions.Automation([0.0, 1.0], [-20.0, 0.0]).moves
    True
  """

  times_s: np.ndarray
  values: np.ndarray
  is_log: bool = False

  def __post_init__(self):
    """Checks the points."""
    times_s = np.asarray(self.times_s, np.float64)
    values = np.asarray(self.values, np.float32)
    if times_s.ndim != 1 or times_s.shape != values.shape or not len(values):
      raise ValueError(
        f'times_s has shape {times_s.shape} and values {values.shape}; both '
        'must be [n_points], with one point at least.'
      )
    if not (np.isfinite(times_s).all() and np.isfinite(values).all()):
      raise ValueError('Times and values of an automation must be finite.')
    if (np.diff(times_s) <= 0).any():
      raise ValueError('times_s must rise from point to point.')
    if self.is_log and (values <= 0).any():
      raise ValueError(
        f'values go down to {values.min():g}; those of a control that moves by '
        'equal ratios (is_log) must be above 0.'
      )
    object.__setattr__(self, 'times_s', times_s)
    object.__setattr__(self, 'values', values)

  @property
  def moves(self) -> bool:
    """Whether any value differs from the first."""
    return bool((self.values != self.values[0]).any())

  def at(self, times_s: np.ndarray) -> np.ndarray:
    """Returns the values at any times, float64, [n]."""
    values = self.values.astype(np.float64)
    if self.is_log:
      return np.exp(np.interp(times_s, self.times_s, np.log(values)))
    return np.interp(times_s, self.times_s, values)

  def in_lines(self) -> 'Automation':
    """Returns it in straight lines, with points between where they bend."""
    if not self.is_log:
      return self
    logs = np.log(self.values.astype(np.float64))
    n_steps = np.ceil(np.abs(np.diff(logs)) / _RATIO_STEP).astype(int)
    parts = [
      np.arange(n) / n for n in np.maximum(n_steps, 1)
    ]  # of the way to the next point
    starts = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    places = np.append(starts + np.concatenate([*parts, []]), len(logs) - 1)
    times_s = np.interp(places, np.arange(len(logs)), self.times_s)
    return Automation(times_s, self.at(times_s))


@dataclasses.dataclass(frozen=True)
class Plugin:
  """An LV2 plugin and how it is set.

  Attributes:
    uri: Its URI.
    values: In port units, by symbol. All else stays at the plugin's defaults.
    automation: Of the controls that move, by symbol.
    latency: Samples by which it is late, whether it reports that or not; None
      to have it measured at these values.
    parameters: Of what it keeps beyond its ports, by URI, such as files.
    preset: Label or URI of a preset that it begins with; '' for none.

  Examples:
    >>> from dafx import sessions
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> sessions.Plugin(uri, {'ratio': 4.0}).values
    {'ratio': 4.0}
  """

  uri: str
  values: Mapping[str, float] = dataclasses.field(default_factory=dict)
  automation: Mapping[str, Automation] = dataclasses.field(default_factory=dict)
  latency: int | None = None
  parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  preset: str = ''


@dataclasses.dataclass(frozen=True)
class Session:
  """Audio on a track through plugins in a row, and a target beside it.

  A mono input goes to both channels where a plugin takes two. A plugin of one
  channel runs once for each.

  Attributes:
    name: Its name.
    plugins: The plugins, in the order of the chain.
    audio: What is on the track, at the rate of the session.
    target: What is on a second track, which is muted; at the same rate.
    gain_db: Gain of the audio before the plugins, in dB.
    fader_db: Gain behind the plugins, in dB.

  Raises:
    ValueError: An unknown plugin, a value out of its range, a file that is not
      there, plugins whose channels do not fit, or a target at another rate.
    KeyError: An unknown symbol, parameter or preset.

  Examples:
    >>> import numpy as np
    >>> from dafx import sessions
    >>> from dafx.audio import sources
    >>> audio = sources.from_array(np.zeros([44100, 2]), 44100)
    >>> sessions.Session('song', [], audio).n_channels
    2
  """

  name: str
  plugins: Sequence[Plugin]
  audio: sources.Source
  target: sources.Source | None = None
  gain_db: float = 0.0
  fader_db: float = 0.0

  def __post_init__(self):
    """Checks what it holds."""
    rate = self.audio.sample_rate
    if self.target is not None and self.target.sample_rate != rate:
      raise ValueError(
        f'The target is at {self.target.sample_rate} Hz, the input at {rate} '
        'Hz; a session has one rate. Resample one of them.'
      )
    for plugin in self.plugins:
      self._check_channels(plugin)
      self.port_values(plugin)
      self.parameters(plugin)

  def _check_channels(self, plugin: Plugin):
    found = lv2.get_plugin(plugin.uri)
    n_in, n_out = len(found.audio_inputs), len(found.audio_outputs)
    if n_in != n_out or n_in not in (1, self.n_channels):
      raise ValueError(
        f'{found.name} ({plugin.uri}) has {n_in} audio inputs and {n_out} '
        f'outputs, and the track {self.n_channels} channels: a session holds '
        'plugins of one channel, or of as many as the track has. Use such '
        'plugins, or go on without a session.'
      )

  @property
  def sample_rate(self) -> int:
    """Rate of all audio, in Hz."""
    return self.audio.sample_rate

  @property
  def n_channels(self) -> int:
    """Channels of the track: those of the audio, or of a plugin for mono."""
    found = [lv2.get_plugin(plugin.uri) for plugin in self.plugins]
    most = max([len(plugin.audio_inputs) for plugin in found], default=1)
    return self.audio.n_channels if self.audio.n_channels > 1 else max(most, 1)

  @property
  def file_name(self) -> str:
    """Its name as a part of a file's, and of XML: what is unsafe is '_'."""
    name = self.name.encode('utf-8', 'replace').decode('utf-8')
    name = ''.join(
      '_' if c in _NOT_IN_NAMES or unicodedata.category(c)[0] == 'C' else c
      for c in name
    )
    return name.strip(' .')[:_MAX_NAME] or 'session'

  def n_copies(self, plugin: Plugin) -> int:
    """Returns how often a plugin runs side by side, for all channels."""
    n_inputs = len(lv2.get_plugin(plugin.uri).audio_inputs)
    return self.n_channels // n_inputs

  def latency(self, plugin: Plugin) -> int:
    """Returns the samples by which a plugin is late, whether it says so or not.

    Args:
      plugin: Of those of the session.
    """
    if plugin.latency is not None:
      return plugin.latency
    return self.renderer(plugin).latency

  def renderer(self, plugin: Plugin, **options: Any) -> lv2.Renderer:
    """Returns what renders a plugin as it is set, at its first values.

    Args:
      plugin: Of those of the session.
      **options: Those of `lv2.Renderer`.
    """
    fixed = {**self.port_values(plugin), **self.parameters(plugin)}
    return lv2.Renderer(
      plugin.uri,
      self.sample_rate,
      fixed=fixed,
      preset=plugin.preset or None,
      **options,
    )

  def parameters(self, plugin: Plugin) -> dict[str, Any]:
    """Returns what a plugin keeps beyond its ports, by URI; paths are absolute.

    Args:
      plugin: Of those of the session.

    Raises:
      ValueError: A file that is not there, or a value of another type.
      KeyError: No such parameter.
    """
    known = lv2.get_plugin(plugin.uri).parameters
    return parameters.resolve(known, plugin.parameters, plugin.uri)

  def state(self, plugin: Plugin) -> list[lv2.Property]:
    """Returns what a plugin keeps beyond its ports, as far as it is written.

    Args:
      plugin: Of those of the session.

    Returns:
      Nothing of a plugin that was given neither parameters nor a preset.
    """
    if not plugin.parameters and not plugin.preset:
      return []
    kept = lv2.read_state(self.renderer(plugin))
    return [p for p in kept if p.is_written]

  def left_out(self) -> list[str]:
    """Says, a sentence each, what a session does not hold of its plugins."""
    given = [p for p in self.plugins if p.parameters or p.preset]
    return [words for plugin in given for words in self._left_out_of(plugin)]

  def _left_out_of(self, plugin):
    name, renderer = lv2.get_plugin(plugin.uri).name, self.renderer(plugin)
    words = ', '.join(f'{k}={v!r}' for k, v in renderer.parameters.items())
    words = words or f'the state of the preset {plugin.preset!r}'
    then = 'Set it in the window of the plugin.'
    if not lv2.takes_state(renderer):
      yield f'{name} takes {words} by messages, which no session holds. {then}'
      return
    yield f"Reaper's project does not hold {words} of {name}. {then}"
    plain = lv2.read_state(lv2.Renderer(plugin.uri, self.sample_rate))
    unknown = [
      kept.uri
      for kept in lv2.read_state(renderer)
      if not kept.kind and kept not in plain
    ]
    if unknown:
      yield f'No session holds {", ".join(unknown)} of {name}. {then}'

  def port_values(self, plugin: Plugin) -> dict[str, float]:
    """Returns values of all controls of a plugin, in port units, by symbol.

    Args:
      plugin: Of those of the session. A control that moves has its first value.

    Raises:
      ValueError: A value out of its range.
      KeyError: An unknown symbol.
    """
    found = lv2.get_plugin(plugin.uri).at_rate(self.sample_rate)
    values = {symbol: port.default for symbol, port in found.controls.items()}
    if plugin.preset:
      values |= presets.load(plugin.uri, plugin.preset)[0]
    for symbol, value in plugin.values.items():
      lv2.check_value(found, symbol, value)
      values[symbol] = float(found.control(symbol).nearest(value))
    for symbol, automation in plugin.automation.items():
      for value in (automation.values.min(), automation.values.max()):
        lv2.check_value(found, symbol, float(value))
      values[symbol] = float(automation.values[0])
    return values
