"""`settings.json`: what a match found, to be read, changed and applied."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

import dafx
from dafx import effects, lv2, processors
from dafx.audio import disk, json_files, opening
from dafx.audio import files as audio_files
from dafx.training.matching import result

# Bounds of what is read.
_MOST_GAIN_DB, _MOST_NODES, _MOST_DEPTH, _MOST_CHARACTERS = 200, 256, 64, 1024
_NAMED = 5  # names that a message lists
# Packages whose classes a file may have made.
_PACKAGES = ('dafx', 'ddsp')


def to_json(match: result.Match) -> dict[str, Any]:
  """Returns the settings of a match as what JSON holds.

  Args:
    match: What was found.

  Returns:
    'written_by', 'sample_rate' in Hz, 'gain_db' before the graph, 'nodes' in
    their order, and for people 'figures', 'doubts', 'end' and 'verdict'. A node
    has a 'name', 'inputs' ('audio', or names of nodes), 'controls' in port
    units by symbol, and of a plugin 'uri' and 'channels', and 'parameters' by
    URI (such as files) and 'preset' where it has some; else 'layer', as Keras
    serialises it.
  """
  nodes = []
  last_of: dict[str, str] = {}
  modules = processors.modules(match.graph)
  for row in match.graph.dag:
    node = processors.nodes(match.graph)[row[0]]
    driven = processors.controlled_inputs(match.graph)
    keys = [k for k in processors.node_keys(row) if k not in driven]
    keys = [last_of.get(key.split('/')[0], key) for key in keys]
    for member in node.members:
      entry: dict[str, Any] = {'name': member.name, 'inputs': list(keys)}
      if isinstance(member, effects.LV2Plugin):
        entry['uri'] = member.uri
        entry['plugin'] = member.plugin.name
        entry['channels'] = member.channels
        if member.parameter_values:
          entry['parameters'] = dict(member.parameter_values)
        if member.preset:
          entry['preset'] = member.preset
      else:
        layer = modules.get(member.name, member)
        entry['layer'] = tf.keras.layers.serialize(layer)
      entry['controls'] = dict(match.controls.get(member.name, {}))
      nodes.append(entry)
      keys = [member.name]
    last_of[node.name] = node.members[-1].name
  return {
    'written_by': f'dafx {dafx.__version__}',
    'sample_rate': match.sample_rate,
    'gain_db': match.gain_db,
    'nodes': nodes,
    'figures': {row: dict(values) for row, values in match.figures.items()},
    'doubts': list(match.doubts),
    'end': match.end,
    'verdict': match.verdict(),
  }


def write(path: str | os.PathLike, match: result.Match):
  """Writes the settings of a match; the file appears whole or not at all."""
  text = json.dumps(_finite(to_json(match)), indent=2, ensure_ascii=False)
  with disk.replacing(path) as temporary:
    # Bytes of names that are no text become escapes, as JSON has them too.
    temporary.write_text(text + '\n', 'utf-8', errors='backslashreplace')


def _finite(value):
  """Returns what JSON holds, None in place of what is not finite."""
  if isinstance(value, Mapping):
    return {key: _finite(each) for key, each in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(each) for each in value]
  if isinstance(value, (float, np.floating)):
    return float(value) if np.isfinite(value) else None
  return value


def read(path: str | os.PathLike) -> dict[str, Any]:
  """Reads settings.

  Args:
    path: What `write` wrote.

  Raises:
    FileNotFoundError: There is no such file.
    FileError: It is no file of settings.
  """
  try:
    found = json_files.read(path)
    _check(found)
  except audio_files.FileError as error:
    raise audio_files.FileError(
      f'{error} Give a .settings.json that `dafx_run --mode=match` wrote.'
    ) from error
  return found.value


def _check(found):
  """Raises FileError where something is not of the type that `write` wrote."""
  found['sample_rate'].integer(opening.LOWEST_HZ, opening.HIGHEST_HZ)
  found['gain_db'].number(-_MOST_GAIN_DB, _MOST_GAIN_DB)
  nodes = found['nodes'].entries(_MOST_NODES)
  if not nodes:
    raise found['nodes'].error('a list with one node at least')
  names = ['audio']
  for node in nodes:
    keys = node['inputs'].entries(_MOST_NODES)
    if not keys:
      raise node['inputs'].error('a list with one name at least')
    for key in keys:
      if key.text(_MOST_CHARACTERS) not in names:
        raise key.error(f'one of {", ".join(names[-_NAMED:])}')
    name = node['name'].text(_MOST_CHARACTERS)
    if not name.isprintable() or not name.strip() or name in names:
      raise node['name'].error('a name of its own, of visible characters')
    names.append(name)
    for value in node['controls'].fields().values():
      value.number()
    if 'uri' in node.fields():
      node['uri'].text(_MOST_CHARACTERS)
      node['channels'].text(_MOST_CHARACTERS)
      if 'preset' in node.fields():
        node['preset'].text(_MOST_CHARACTERS)
      if 'parameters' in node.fields():
        for uri, value in node['parameters'].fields().items():
          if ':' not in uri:
            raise value.error('left out: the name of a parameter is a URI')
          if not isinstance(value.value, (str, int, float)):
            raise value.error('a text, a number or a truth value')
    else:
      node['layer'].fields()


def make_graph(
  settings: Mapping[str, Any],
) -> tuple[processors.ProcessorGroup, dict[str, np.ndarray]]:
  """Makes the graph that settings describe.

  Args:
    settings: As `read` gives them.

  Returns:
    The graph, and what its inputs take, {input: [1, n_controls]}.

  Raises:
    ValueError: An unknown plugin or symbol, a value that its port does not
      take, a file or preset that is not there, a layer that is neither dafx's
      nor DDSP's, or one that cannot be made.
  """
  rate = int(settings['sample_rate'])
  dag, names, setting = [], [], {}
  for entry in settings['nodes']:
    keys = [f'{k}/signal' if k in names else k for k in entry['inputs']]
    controls = dict(entry['controls'])
    name = entry['name']
    if 'uri' in entry:
      plugin = lv2.get_plugin(entry['uri'])
      try:
        for symbol, value in controls.items():
          lv2.check_value(plugin, symbol, value)
        node = effects.LV2Plugin(
          entry['uri'], [], {**controls, **entry.get('parameters', {})},
          sample_rate=rate, channels=entry['channels'],
          preset=entry.get('preset'), name=name,
        )  # fmt: skip
      except (KeyError, lv2.PluginError) as error:  # no such symbol, or state
        raise ValueError(error.args[0]) from error
    else:
      _check_harmless(entry['layer'])
      node = _make_layer(name, entry['layer'])
      known = processors.as_node(node).control_map
      if controls and known is not None:
        keys.append(f'{name}_controls')
        if lacking := set(known.symbols) - set(controls):
          raise ValueError(f'{name} lacks values of {", ".join(lacking)}.')
        values = np.array([controls[symbol] for symbol in known.symbols])
        unit = known.to_normalised(values)
        setting[f'{name}_controls'] = np.asarray([unit], np.float32)
    dag.append((node, keys))
    names.append(name)
  return processors.ProcessorGroup(dag), setting


def _make_layer(name, config):
  """Returns the layer that Keras serialised."""
  try:
    layer = tf.keras.layers.deserialize(config)
    if not isinstance(layer, tf.keras.layers.Layer):
      raise TypeError(f'{config.get("class_name")!r} is no layer')
    return layer
  except Exception as error:  # of any kind: Keras looks at nothing before
    reason = (str(error).splitlines() or [''])[0]
    raise ValueError(
      f'The layer of {name!r} cannot be made ({type(error).__name__}: '
      f'{reason}).'
    ) from error


def _check_harmless(value, depth=0):
  """Raises ValueError where Keras would make what is not dafx's or DDSP's."""
  if depth > _MOST_DEPTH:
    raise ValueError('The settings of a layer lie too deep in one another.')
  if isinstance(value, list):
    for part in value:
      _check_harmless(part, depth + 1)
  if not isinstance(value, dict):
    return
  if 'class_name' in value:
    name, module = str(value['class_name']), str(value.get('module') or '')
    package = name.split('>')[0] if '>' in name else module.split('.')[0]
    if package not in _PACKAGES:
      raise ValueError(
        f'The settings have Keras make {name!r}, which is neither of dafx nor '
        'of DDSP, and could run any program. Give settings that `dafx_run '
        '--mode=match` wrote.'
      )
  for part in value.values():
    _check_harmless(part, depth + 1)
