"""Presets: settings of a plugin under a name, which every LV2 host reads.

    renderer = lv2.Renderer(uri, sample_rate=44100, preset='Vocal')
    values = lv2.load_preset(uri, 'Vocal')
    lv2.write_preset('~/.lv2', uri, 'Vocal, softer', {**values, 'mix': 0.5})

A preset is what the LV2 presets extension calls so
(http://lv2plug.in/ns/ext/presets): a bundle of Turtle files beside the plugin.
"""

import dataclasses
import logging
import math
import pathlib
import re

from dafx.lv2 import errors, lilv, world
from dafx.lv2 import ports as ports_lib

_log = logging.getLogger('dafx.lv2')

_APPLIES_TO = 'http://lv2plug.in/ns/lv2core#appliesTo'
_LABEL = 'http://www.w3.org/2000/01/rdf-schema#label'
_PORT = 'http://lv2plug.in/ns/lv2core#port'
_PRESET = 'http://lv2plug.in/ns/ext/presets#Preset'
_SEE_ALSO = 'http://www.w3.org/2000/01/rdf-schema#seeAlso'
_STATE = 'http://lv2plug.in/ns/ext/state#state'
_SYMBOL = 'http://lv2plug.in/ns/lv2core#symbol'
_VALUE = 'http://lv2plug.in/ns/ext/presets#value'
# Of presets that dafx writes: the version of the plugin whose values they are.
VERSION = 'urn:dafx:ns#pluginVersion'


@dataclasses.dataclass(frozen=True)
class Preset:
  """One preset of an installed plugin.

  Attributes:
    uri: Its name in LV2, unlike that of any other.
    label: Its name for people; two presets may share it.
    bundle_path: Folder that it lies in, or None where lilv does not say.

  Examples:
    >>> from dafx import lv2
    >>> presets = lv2.list_presets('http://calf.sourceforge.net/plugins/Reverb')
    >>> all(isinstance(preset, lv2.Preset) for preset in presets)
    True
  """

  uri: str
  label: str
  bundle_path: pathlib.Path | None


# Preset files by URI: whether lilv read them to the end. Use under the lock.
_is_whole: dict[str, bool] = {}


def list_presets(uri: str) -> list[Preset]:
  """Returns the presets of a plugin, in any bundle on LV2_PATH, by label.

  Installed is what lay there at the first use of `dafx.lv2` in this process.
  A preset whose file cannot be read to its end is left out, with a warning.

  Args:
    uri: The plugin's URI.

  Raises:
    ValueError: No such plugin is installed.

  Examples:
    >>> from dafx import lv2
    >>> uri = 'http://calf.sourceforge.net/plugins/Reverb'
    >>> labels = [preset.label for preset in lv2.list_presets(uri)]
  """
  found = _find_presets(world.get_plugin(uri))
  for preset, is_whole in found.items():
    if not is_whole:
      _log.warning('%s Left out.', _unreadable_message(preset))
  return [preset for preset, is_whole in found.items() if is_whole]


def load_preset(uri: str, name: str) -> dict[str, float]:
  """Returns a preset's values, fit for `Renderer(uri, ..., fixed=values)`.

  Only values of control inputs are read; `Renderer(preset=...)` restores what
  else a preset has. Warned of in the log are state beyond the values (such as
  files), symbols that the plugin lacks, which are ignored, values out of a
  port's range, which are moved to the nearest end of it, and a preset that was
  written for another version of the plugin.

  Args:
    uri: The plugin's URI.
    name: The preset's label or URI.

  Returns:
    Values in port units by symbol, in port order, each in its port's range.
    Controls that the preset does not name are not in it.

  Raises:
    KeyError: The plugin has no such preset; the closest labels are named.
    ValueError: No such plugin; a preset of another plugin; a label that
      several presets have; a file that is no whole Turtle; or a value that is
      no finite number.

  Examples:
    >>> from dafx import lv2
    >>> lv2.load_preset('http://calf.sourceforge.net/plugins/Reverb', 'no such')
    ... # doctest: +ELLIPSIS
    Traceback (most recent call last):
    KeyError: ...
  """
  values, state_uri = load(uri, name)
  if state_uri:
    _log.warning(
      'Preset %r of %s has more than port values (state:state, such as '
      'files), which Renderer(preset=%r) restores; here are its port values '
      'alone.',
      name,
      uri,
      name,
    )
  return values


def load(uri: str, name: str) -> tuple[dict[str, float], str]:
  """Returns all that there is to a preset.

  Args:
    uri: The plugin's URI.
    name: The preset's label or URI.

  Returns:
    (values as of `load_preset`, URI of what has its state, '' where it has
    none).

  Raises:
    KeyError, ValueError: As of `load_preset`.
  """
  plugin = world.get_plugin(uri)
  preset = _select_preset(plugin, name)
  with lilv.lock:
    opened = lilv.open_world()
    ports = opened.records(preset.uri, _PORT, (_SYMBOL, _VALUE))
    has_state = bool(opened.text(preset.uri, _STATE))
    version = opened.text(preset.uri, VERSION)
  if version and version != plugin.full_version:
    _log.warning(
      'Preset %r of %s is for its version %s; installed is %s, which may sound '
      'otherwise.',
      preset.label,
      uri,
      version,
      plugin.full_version,
    )
  unknown = sorted(
    {s or '(none)' for s, _ in ports if s not in plugin.controls}
  )
  if unknown:
    _log.warning(
      'Preset %r of %s: ignored symbols that are no control input: %s.',
      preset.label,
      uri,
      ', '.join(unknown),
    )
  texts = {symbol: value for symbol, value in ports}
  values = {
    symbol: _read_value(port, texts[symbol], preset)
    for symbol, port in plugin.controls.items()
    if symbol in texts
  }
  return values, preset.uri if has_state else ''


def _find_presets(plugin: world.Plugin) -> dict[Preset, bool]:
  """Returns the presets by label, and whether each could be read."""
  with lilv.lock:
    opened = lilv.open_world()
    found = {}
    for uri in plugin.lilv_plugin.related(_PRESET):
      files = _load_files(opened, uri)
      # A label is a must; who forgets it gets the last part of the URI.
      label = opened.text(uri, _LABEL)
      label = label or re.split(r'[/#:]', uri.rstrip('/#:'))[-1]
      preset = Preset(uri, label, _bundle_path([*files, uri]))
      found[preset] = all(_is_whole[file] for file in files)
  return dict(sorted(found.items(), key=lambda p: (p[0].label, p[0].uri)))


def _load_files(opened: lilv.World, uri: str) -> list[str]:
  """Lets lilv read the files that a preset lies in; returns their URIs."""
  files = [
    file
    for file in opened.texts(uri, _SEE_ALSO)
    if file.startswith('file:') and file.endswith('.ttl')  # all that lilv reads
  ]
  new = [f for f in files if f not in _is_whole]
  if new:
    n_read = opened.load_resource(uri)
    if n_read < len(new):
      # Broken, or read before as a part of the plugin: only a second reading
      # tells which.
      opened.unload_resource(uri)
      n_read = opened.load_resource(uri)
      _is_whole.update(dict.fromkeys(new, n_read >= len(files)))
    else:
      _is_whole.update(dict.fromkeys(new, True))
  return files


def _bundle_path(uris: list[str]) -> pathlib.Path | None:
  """Returns the folder with a manifest that holds the first file of URIs."""
  for uri in uris:
    if uri.startswith('file:'):
      path = lilv.file_path(uri)
      for parent in path.parents:
        if (parent / 'manifest.ttl').exists():
          return parent
  return None


def _unreadable_message(preset: Preset) -> str:
  return (
    f'Preset {preset.uri} in {preset.bundle_path} could not be read: its file '
    'is missing or not valid Turtle; lilv names the line on stderr.'
  )


def _select_preset(plugin: world.Plugin, name: str) -> Preset:
  """Returns the preset of a label or URI; see `load_preset`."""
  found = _find_presets(plugin)
  matches = [p for p in found if p.uri == name]
  matches = matches or [p for p in found if p.label == name]
  if len(matches) > 1:
    raise ValueError(
      f'name={name!r} is the label of {len(matches)} presets of '
      f'{plugin.uri}; choose one by its URI: '
      f'{", ".join(p.uri for p in matches)}.'
    )
  if matches:
    if not found[matches[0]]:
      raise ValueError(_unreadable_message(matches[0]))
    return matches[0]

  if ':' in name and not any(c in name for c in ' <>"\n'):
    with lilv.lock:
      owner = lilv.open_world().text(name, _APPLIES_TO)
    if owner:
      raise ValueError(
        f'name={name!r} is a preset of {owner}, not of {plugin.uri}.'
      )
  labels = (p.label for p in found)
  hint = errors.hint_of_names(name, labels, is_quoted=True)
  raise KeyError(f'name={name!r} is no preset of {plugin.uri}. {hint}')


def _read_value(port: ports_lib.Port, text: str, preset: Preset) -> float:
  """Returns the value that a preset gives a port, moved into its range."""
  try:
    value = {'true': 1.0, 'false': 0.0}.get(text)
    value = float(text) if value is None else value
  except ValueError:
    value = math.nan
  if not math.isfinite(value):
    raise ValueError(
      f'Preset {preset.label!r} ({preset.uri}) sets {port.symbol}={text!r}; '
      f'it must be a finite number from {port.describe_range()}.'
    )
  if port.per_sample_rate:  # its range is known at a rate only
    return value
  clipped = min(max(value, port.minimum), port.maximum)
  # Ranges are stored as float32: a value rounded from one is no news.
  if not math.isclose(clipped, value, rel_tol=1e-6):
    _log.warning(
      'Preset %r (%s) sets %s=%r, out of its range; %r is used.',
      preset.label,
      preset.uri,
      port.symbol,
      value,
      clipped,
    )
  return clipped
