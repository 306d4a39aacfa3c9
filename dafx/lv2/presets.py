"""Presets: settings of a plugin under a name, which every LV2 host reads.

    fixed = lv2.load_preset(uri, 'Vocal')
    renderer = lv2.Renderer(uri, sample_rate=44100, fixed=fixed)
    lv2.write_preset('~/.lv2', uri, 'Vocal, softer', {**fixed, 'mix': 0.5})

A preset is what the LV2 presets extension calls so
(http://lv2plug.in/ns/ext/presets): a bundle of Turtle files beside the plugin.
"""

import dataclasses
import difflib
import hashlib
import logging
import math
import os
import pathlib
import re
import tempfile
import unicodedata
from collections.abc import Mapping

import numpy as np

from dafx import _folders
from dafx.lv2 import inputs, lilv, world
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
_VERSION = 'urn:dafx:ns#pluginVersion'

_PREFIXES = """\
@prefix lv2: <http://lv2plug.in/ns/lv2core#> .
@prefix pset: <http://lv2plug.in/ns/ext/presets#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .

"""
_MAX_NAME = 64  # characters of a label or plugin's name in a file name


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

  Only values of control inputs are read. Warned of in the log are what a
  preset has beyond them (state such as files, which is not applied), symbols
  that the plugin lacks, which are ignored, values out of a port's range, which
  are moved to the nearest end of it, and a preset that was written for another
  version of the plugin.

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
  plugin = world.get_plugin(uri)
  preset = _select_preset(plugin, name)
  with lilv.lock:
    opened = lilv.open_world()
    ports = opened.records(preset.uri, _PORT, (_SYMBOL, _VALUE))
    has_state = bool(opened.text(preset.uri, _STATE))
    version = opened.text(preset.uri, _VERSION)
  if has_state:
    _log.warning(
      'Preset %r of %s has more than port values (state:state, such as '
      'files); only its port values are used.',
      preset.label,
      uri,
    )
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
  return {
    symbol: _read_value(port, texts[symbol], preset)
    for symbol, port in plugin.controls.items()
    if symbol in texts
  }


def write_preset(
  folder: str | os.PathLike,
  uri: str,
  label: str,
  values: Mapping[str, float],
) -> pathlib.Path:
  """Writes a preset bundle that LV2 hosts load.

  It holds a value of every control, so that nothing is left to what was set
  before, and says for which version of the plugin it is. The bundle is
  `<plugin's name>_<label>.preset.lv2` in the folder. It appears whole or not at
  all; one that was written before for the same plugin and label gets the new
  values. Processes that start from then on see it, if the
  folder is on their LV2_PATH.

  Args:
    folder: Where to put the bundle, such as '~/.lv2', where hosts look. Made
      if it does not exist.
    uri: The plugin's URI.
    label: The preset's name for people.
    values: Values in port units by symbol of a control input. Controls that
      are not in it get the plugin's defaults, but for those whose default
      depends on the sample rate: these stay as they are in the host.

  Returns:
    The bundle's path.

  Raises:
    ValueError: No such plugin, a value out of its port's range, no values, or
      a label that is empty or has control characters.
    KeyError: A symbol that is no control input.
    FileExistsError: Something else has the bundle's name.

  Examples:
    >>> from dafx import lv2
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   print(lv2.write_preset(folder, uri, 'Gentle', {'ratio': 1.5}).name)
    Calf_Compressor_Gentle.preset.lv2
  """
  plugin = world.get_plugin(uri)
  if not values:
    raise ValueError(
      f'values is empty; a preset of {uri} needs one value at least.'
    )
  for symbol, value in values.items():
    inputs.check_value(plugin, symbol, value)
  if not label.strip() or any(
    unicodedata.category(c) in ('Cc', 'Cs') for c in label
  ):
    raise ValueError(
      f'label={label!r} must have a visible character, and no line break or '
      'other control character.'
    )
  name = _file_name(label)
  files = {
    'manifest.ttl': _manifest(uri, f'{name}.ttl'),
    f'{name}.ttl': _preset_turtle(plugin, label, values),
  }
  folder = _folders.expand_user(folder).absolute()
  bundle = folder / f'{_ascii_name(plugin.name)}_{name}.preset.lv2'
  folder.mkdir(parents=True, exist_ok=True)
  _write_bundle(bundle, files)
  return bundle


# ---------------------------------------------------------------- Reading ----
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
  labels = [p.label for p in found]
  near = difflib.get_close_matches(name, labels, n=5, cutoff=0.5)
  hint = (
    f'The closest are {", ".join(map(repr, near))}.'
    if near
    else f'It has {", ".join(map(repr, labels)) or "none"}.'
  )
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


# ---------------------------------------------------------------- Writing ----
def _ascii_name(text: str) -> str:
  """Returns a text as a part of a file name: ASCII, without spaces."""
  text = unicodedata.normalize('NFKD', text).encode('ascii', 'ignore').decode()
  return re.sub(r'[^A-Za-z0-9]+', '_', text).strip('_')[:_MAX_NAME]


def _file_name(label: str) -> str:
  """Returns the file name of a label, another one for each label.

  What ASCII letters, digits and single spaces do not tell, a hash does.
  """
  name = _ascii_name(label)
  if name.replace('_', ' ') == label:
    return name
  digest = hashlib.sha256(label.encode()).hexdigest()[:8]
  return f'{name}-{digest}' if name else f'preset-{digest}'


def _manifest(uri: str, file_name: str) -> str:
  """Returns the manifest of a bundle with one preset."""
  return _PREFIXES + (
    f'<{file_name}>\n'
    '  a pset:Preset ;\n'
    f'  lv2:appliesTo <{uri}> ;\n'
    f'  rdfs:seeAlso <{file_name}> .\n'
  )


def _preset_turtle(
  plugin: world.Plugin, label: str, values: Mapping[str, float]
) -> str:
  """Returns a preset as Turtle; its name in LV2 is that of the file."""
  every = {
    symbol: values.get(symbol, port.default)
    for symbol, port in plugin.controls.items()
    if symbol in values or not port.per_sample_rate
  }
  ports = ' , '.join(
    f'[\n    lv2:symbol "{symbol}" ;\n    pset:value {_decimal(value)}\n  ]'
    for symbol, value in every.items()
  )
  return _PREFIXES + (
    '<>\n'
    '  a pset:Preset ;\n'
    f'  lv2:appliesTo <{plugin.uri}> ;\n'
    f'  rdfs:label {_literal(label)} ;\n'
    f'  <{_VERSION}> {_literal(plugin.full_version)} ;\n'
    f'  lv2:port {ports} .\n'
  )


def _literal(text: str) -> str:
  return '"' + text.replace('\\', '\\\\').replace('"', '\\"') + '"'


def _decimal(value: float) -> str:
  """Returns the shortest xsd:decimal that reads back as the same float64.

  A float32 so becomes its exact value to 17 digits, which hosts whose parser
  errs in the last of them still round to the same float32. Always with a
  point: some hosts skip ports whose value is an integer.
  """
  return np.format_float_positional(np.float64(value), trim='0')


def _write_bundle(bundle: pathlib.Path, files: dict[str, str]):
  """Writes a bundle at once, or replaces the preset of an equal one.

  Args:
    bundle: Path of the bundle.
    files: The manifest's and the preset's text by file name. The manifest
      depends on plugin and label alone, so its text tells whose bundle it is.

  Raises:
    FileExistsError: What lies there is no such bundle.
  """
  with tempfile.TemporaryDirectory(prefix='.dafx-', dir=bundle.parent) as temp:
    new = pathlib.Path(temp) / bundle.name
    new.mkdir()
    for name, text in files.items():
      (new / name).write_text(text, encoding='utf-8', newline='\n')
    if not os.path.lexists(bundle):
      new.rename(bundle)
      return
    manifest = bundle / 'manifest.ttl'
    if (
      not manifest.is_file()
      or manifest.read_bytes() != files['manifest.ttl'].encode()
    ):
      raise FileExistsError(
        f'{bundle} exists and is no preset of this plugin and label that '
        'dafx wrote. Choose another folder or label.'
      )
    for name in files:
      (new / name).replace(bundle / name)
