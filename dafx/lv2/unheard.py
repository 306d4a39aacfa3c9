"""Files that a plugin has and leaves aside, as long as no switch takes them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dafx.lv2 import errors, world
from dafx.lv2 import ports as ports_lib

_log = logging.getLogger('dafx.lv2')

_SECONDS = 0.5  # of audio that are tried
_INAUDIBLE = 1e-6  # of the peak of the output
_MAX_SETTINGS = 64  # that are tried
_MAX_VALUES = 4  # of them, of one control
_MAX_NAMED = 3

# Symbols of controls and values of parameters to a `renderer.Renderer`, which
# stands above this module.
NewRenderer = Callable[[Sequence[str], Mapping[str, Any]], Any]


def _render(renderer, audio, controls) -> np.ndarray:
  """Renders [n_channels, n_samples] with controls [1, n_controls]."""
  n_samples = audio.shape[-1]
  out = np.zeros((renderer.n_channels_out, n_samples), np.float32)
  renderer.render_item(audio, controls, n_samples, out)
  return out


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
  """Returns whether two outputs differ by more than nothing."""
  peak = np.max(np.abs(one), initial=0.0)
  change = np.max(np.abs(one - other), initial=0.0)
  return bool(change > _INAUDIBLE * peak)


def _values_of(port: ports_lib.Port, value: float) -> list[float]:
  """Returns other values of a switch, a few."""
  values = port.single_values
  return [float(v) for v in values[: _MAX_VALUES + 1] if v != value]


class FileWatch:
  """Warns, once, of files that make no difference to what a plugin renders.

  Many take a file only after a switch was set, and say nothing. So the first
  audio is rendered again without the file. If that gives the same, switches are
  tried, one by one, and those with which the file is heard are named.

  Args:
    plugin: The plugin.
    given: What its parameters are set to, by URI.

  Attributes:
    found: Of files that change nothing, what to do, in words, by their URI.
  """

  def __init__(self, plugin: world.Plugin, given: Mapping[str, Any]):
    self.found: dict[str, str] = {}
    self._plugin = plugin
    self._given = dict(given)
    self._files = [p for p in plugin.files if p.uri in given]
    self._is_done = not (self._files and plugin.main_inputs)

  def look(
    self,
    renderer: Any,
    new_renderer: NewRenderer,
    audio: np.ndarray,
    rows: np.ndarray | None,
    controls: np.ndarray,
  ):
    """Looks at what a plugin is to render first.

    Args:
      renderer: The `renderer.Renderer` that is to render it.
      new_renderer: Returns others, for trials.
      audio: Shape [n_audio, n_samples, n_channels].
      rows: Which of `audio` each item takes, [batch]; None for one each.
      controls: Shape [batch, n_frames, n_controls].
    """
    if self._is_done:
      return
    has_sound = np.any(audio != 0.0, axis=(1, 2))
    rows = np.arange(len(audio)) if rows is None else rows
    item = int(np.argmax(has_sound[rows]))
    row = rows[item]
    if not has_sound[row]:
      return
    self._is_done = True
    start = int(np.argmax(audio[row].any(axis=-1)))
    n_samples = int(_SECONDS * renderer.sample_rate)
    piece = audio[row, start : start + n_samples].T
    for file in self._files:
      without = {k: v for k, v in self._given.items() if k != file.uri}

      def is_heard(symbols, setting, without=without):
        both = (
          _render(new_renderer(symbols, given), piece, setting)
          for given in (self._given, without)
        )
        return _differ(*both)

      try:
        found = self._try(renderer, is_heard, controls[item, :1])
      except errors.PluginError:
        continue  # it does not run without the file, or not at these settings
      if found is not None:
        self.found[file.uri] = self._advise(found)
        _log.warning(
          '%s: %s=%r changes nothing in the first %g s. %s',
          self._plugin.uri,
          file.short_name,
          self._given[file.uri],
          piece.shape[1] / renderer.sample_rate,
          self.found[file.uri],
        )

  def _try(self, renderer, is_heard, controls):
    """Returns settings with which a file is heard; None if it is as it is."""
    if is_heard(renderer.controls, controls):
      return None
    found = []
    for symbol, value in self._settings(renderer):
      setting = np.column_stack([controls, np.array([value], np.float32)])
      if is_heard([*renderer.controls, symbol], setting):
        found.append((symbol, value))
      if len(found) == _MAX_NAMED:
        break
    return found

  def _settings(self, renderer) -> list[tuple[str, float]]:
    """Returns switches, each at another of its values; the first ones.

    Enumerations come before buttons, among which is one that plays the file.
    """
    kept = {*renderer.controls, *renderer.fixed}
    ports = [
      port
      for symbol, port in self._plugin.controls.items()
      if port.is_discrete and symbol not in kept
    ]
    return [
      (port.symbol, value)
      for port in sorted(ports, key=lambda port: not port.enumeration)
      for value in _values_of(port, float(renderer.initial_values[port.index]))
    ][:_MAX_SETTINGS]

  def _advise(self, found: Sequence[tuple[str, float]]) -> str:
    """Says which settings let a file be heard."""
    if not found:
      return (
        'No single switch was found that lets it be heard; `dafx_plugins show` '
        'lists the controls.'
      )
    settings = ', or '.join(self._describe(*each) for each in found)
    return (
      f'It is heard with {settings}: give that by `fixed`, or by --set of '
      'dafx_plugins render.'
    )

  def _describe(self, symbol: str, value: float) -> str:
    """Returns a setting in words, such as "cs=1 (Channel source: Track 0)"."""
    port = self._plugin.control(symbol)
    label = dict(port.scale_points).get(value, '').strip()
    return f'{symbol}={value:g} ({port.name}{label and ": " + label})'
