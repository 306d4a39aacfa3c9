"""Writes presets as bundles that LV2 hosts load; `presets` reads them."""

import base64
import hashlib
import logging
import os
import pathlib
import re
import tempfile
import unicodedata
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dafx import _folders
from dafx.lv2 import inputs, parameters, presets, renderer, saving, world

_log = logging.getLogger('dafx.lv2')

_PREFIXES = """\
@prefix lv2: <http://lv2plug.in/ns/lv2core#> .
@prefix pset: <http://lv2plug.in/ns/ext/presets#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .

"""
_STATE_PREFIXES = """\
@prefix state: <http://lv2plug.in/ns/ext/state#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
"""
_SAMPLE_RATE_HZ = 48000  # at which a plugin says what it keeps
_MAX_NAME = 64  # characters of a label or plugin's name in a file name


def write_preset(
  folder: str | os.PathLike,
  uri: str,
  label: str,
  values: Mapping[str, Any],
  preset: str | None = None,
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
    values: Values in port units by symbol of a control input, and of
      parameters by URI, such as files, which stay where they are. Controls
      that are not in it get the plugin's defaults, but for those whose default
      depends on the sample rate: these stay as they are in the host.
    preset: Label or URI of a preset whose state it takes over; None for none.

  Returns:
    The bundle's path.

  Raises:
    ValueError: No such plugin or file, a value out of its port's range, no
      values, or a label that is empty or has control characters.
    KeyError: A symbol that is no control input, or no such parameter or
      preset.
    FileExistsError: Something else has the bundle's name.
    errors.PluginError: The plugin cannot use a file, or the preset's state.

  Examples:
    >>> from dafx import lv2
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   print(lv2.write_preset(folder, uri, 'Gentle', {'ratio': 1.5}).name)
    Calf_Compressor_Gentle.preset.lv2
  """
  plugin = world.get_plugin(uri)
  if not values and not preset:
    raise ValueError(
      f'values is empty; a preset of {uri} needs one value at least.'
    )
  ports, kept = parameters.split(values)
  state = _state_of(uri, kept, preset) if kept or preset else []
  for symbol, value in ports.items():
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
    f'{name}.ttl': _preset_turtle(plugin, label, ports, state),
  }
  folder = _folders.expand_user(folder).absolute()
  bundle = folder / f'{_ascii_name(plugin.name)}_{name}.preset.lv2'
  folder.mkdir(parents=True, exist_ok=True)
  _write_bundle(bundle, files)
  return bundle


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
  plugin: world.Plugin,
  label: str,
  values: Mapping[str, float],
  kept: Sequence[parameters.Property],
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
  state = f'  {_state(kept)} ;\n' if kept else ''
  return (
    (_STATE_PREFIXES if kept else '')
    + _PREFIXES
    + (
      '<>\n'
      '  a pset:Preset ;\n'
      f'  lv2:appliesTo <{plugin.uri}> ;\n'
      f'  rdfs:label {_literal(label)} ;\n'
      f'{state}'
      f'  <{presets.VERSION}> {_literal(plugin.full_version)}'
      + (f' ;\n  lv2:port {ports} .\n' if ports else ' .\n')
    )
  )


def _state_of(uri, kept, preset) -> list[parameters.Property]:
  """Returns the state of a plugin with parameters and that of a preset.

  It is a whole one: some plugins take no other.
  """
  made = renderer.Renderer(uri, _SAMPLE_RATE_HZ, fixed=kept, preset=preset)
  if not saving.takes_state(made):
    words = ', '.join(f'{key}={value!r}' for key, value in kept.items())
    _log.warning(
      '%s takes %s by messages alone: hosts do not have it from a preset.',
      uri,
      words,
    )
  return [p for p in saving.read_state(made) if p.is_written]


def state_turtle(uri: str, properties: Iterable[parameters.Property]) -> str:
  """Returns a state as Turtle, as hosts keep it in a file.

  Args:
    uri: The plugin's URI.
    properties: What the state has; see `read_state`. The path of a file may be
      relative: to the folder that the Turtle lies in.

  Raises:
    ValueError: What dafx cannot write.

  Examples:
    >>> from dafx import lv2
    >>> gain = lv2.Property('urn:example:gain', 'float', 0.5)
    >>> print(lv2.state_turtle('urn:example:plugin', [gain]).splitlines()[-2])
        <urn:example:gain> "0.5"^^xsd:float
  """
  return (
    _STATE_PREFIXES
    + _PREFIXES
    + f'<>\n  lv2:appliesTo <{uri}> ;\n  {_state(properties)} .\n'
  )


def _state(properties: Iterable[parameters.Property]) -> str:
  lines = (f'    <{p.uri}> {_term(p)}' for p in properties)
  return 'state:state [\n' + ' ;\n'.join(lines) + '\n  ]'


def _term(kept: parameters.Property) -> str:
  """Returns the value of a property as Turtle."""
  if kept.kind == 'path':
    path = pathlib.Path(kept.value)
    if path.is_absolute():
      return f'<{path.as_uri()}>'
    return f'<./{urllib.parse.quote(str(path))}>'
  if kept.kind == 'urid':
    return f'<{kept.value}>'
  if kept.kind == 'string':
    return _literal(kept.value)
  if kept.kind == 'chunk':
    words, name = base64.b64encode(kept.value).decode(), 'base64Binary'
  elif kept.kind == 'bool':
    words, name = str(kept.value).lower(), 'boolean'
  elif kept.kind:
    words, name = str(kept.value), kept.kind
  else:
    raise ValueError(f'dafx cannot write {kept.uri}, a part of a state.')
  return f'"{words}"^^xsd:{name}'


def _literal(text: str) -> str:
  text = text.replace('\\', '\\\\').replace('"', '\\"')
  return '"' + text.replace('\n', '\\n').replace('\r', '\\r') + '"'


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
