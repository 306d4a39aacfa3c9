"""What plugins say of themselves, told to people: lists and descriptions."""

import re
from collections.abc import Sequence

from dafx.lv2 import errors, presets, world
from dafx.lv2.cards import binding

# Not the whole of RFC 3986, but what no URI is without.
_URI = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*:[^\s<>"{}|\\^`]+')


def get_plugin(uri: str) -> world.Plugin:
  """Returns what the plugin of a URI says of itself, if that can be read.

  Args:
    uri: The plugin's URI.

  Raises:
    ValueError: No URI, or no such plugin is installed; the closest ones are
      named.
    errors.PluginError: Its description is missing or not valid Turtle.
  """
  if not _URI.fullmatch(uri):
    raise ValueError(
      f'uri={uri!r} is no URI: one has a scheme and no spaces, such as '
      'http://calf.sourceforge.net/plugins/Compressor or urn:zamaudio:ZamComp. '
      '`dafx_plugins list` names those of the installed plugins.'
    )
  plugin = world.get_plugin(uri)
  if not plugin.ports:
    raise errors.PluginError(
      f'The ports of {uri} in {plugin.bundle_path} could not be read: a file '
      'of its bundle is missing or not valid Turtle; lilv names the line '
      'above. Install it anew.'
    )
  return plugin


# -------------------------------------------------------- Tables and text ----
def _number(value: float) -> str:
  return f'{value:g}'


def _table(
  header: Sequence[str],
  rows: Sequence[Sequence[object]],
  numeric: Sequence[int] = (),
) -> list[str]:
  """Returns the lines of a table; columns in `numeric` are set right."""
  cells = [[str(cell) for cell in row] for row in (header, *rows)]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  return [
    '  '.join(
      cell.rjust(width) if i in numeric else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in cells
  ]


# ------------------------------------------------------------ List, show ----
def summarize(plugin: world.Plugin) -> dict:
  """Returns a plugin's line in the list.

  Args:
    plugin: The plugin.

  Returns:
    Its 'uri', 'name', 'author' and 'class', and the numbers of its
    'audio_inputs', 'audio_outputs' and 'trainable' controls.
  """
  return {
    'uri': plugin.uri,
    'name': binding.one_line(plugin.name),
    'author': binding.one_line(plugin.author),
    'class': plugin.plugin_class,
    'audio_inputs': len(plugin.main_inputs),
    'audio_outputs': len(plugin.audio_outputs),
    'trainable': len(binding.trainable_controls(plugin)),
  }


def find_plugins(text: str = '') -> list[dict]:
  """Returns `summarize` of the plugins that have a text, by URI.

  Args:
    text: Looked for in URI, name, author and class, in any case of letters.
  """
  rows = (summarize(world.get_plugin(uri)) for uri in world.list_uris())
  return [
    row
    for row in rows
    if any(
      text.lower() in row[key].lower()
      for key in ('uri', 'name', 'author', 'class')
    )
  ]


def format_list(rows: Sequence[dict]) -> str:
  """Returns `find_plugins`'s answer as a table."""
  keys = 'uri name class audio_inputs audio_outputs trainable'.split()
  header = 'URI NAME CLASS IN OUT TRAINABLE'.split()
  cells = [[row[key] for key in keys] for row in rows]
  return '\n'.join(_table(header, cells, numeric=(3, 4, 5)))


def describe(uri: str) -> dict:
  """Returns all that is to know of a plugin without running it.

  Args:
    uri: The plugin's URI.

  Returns:
    What can be written as JSON. Values of controls are in port units.

  Raises:
    ValueError: No such plugin is installed.
    errors.PluginError: Its description cannot be read.
  """
  plugin = get_plugin(uri)
  latency_port = plugin.latency_port
  return {
    'uri': plugin.uri,
    'name': binding.one_line(plugin.name),
    'author': binding.one_line(plugin.author),
    'version': plugin.version,
    'class': plugin.plugin_class,
    'bundle': str(plugin.bundle_path),
    'required_features': list(plugin.required_features),
    'missing_features': sorted(
      set(plugin.required_features) - world.SUPPORTED_FEATURES
    ),
    'latency_port': latency_port.symbol if latency_port else None,
    'audio_inputs': [p.symbol for p in plugin.main_inputs],
    'side_chains': [p.symbol for p in plugin.side_chains],
    'audio_outputs': [p.symbol for p in plugin.audio_outputs],
    'controls': [
      {
        'symbol': port.symbol,
        'name': binding.one_line(port.name),
        'kind': binding.control_kind(port),
        'default': port.default,
        'minimum': port.minimum,
        'maximum': port.maximum,
        'unit': port.unit,
        'scale': port.scale,
        'scale_points': [
          {'value': value, 'label': binding.one_line(label)}
          for value, label in port.scale_points
        ],
      }
      for port in plugin.controls.values()
    ],
    'parameters': [
      {
        'uri': parameter.uri,
        'name': parameter.short_name,
        'label': binding.one_line(parameter.label),
        'kind': parameter.kind,
      }
      for parameter in plugin.parameters
    ],
    'presets': [
      {'label': binding.one_line(p.label), 'uri': p.uri}
      for p in presets.list_presets(uri)
    ],
  }


def format_description(about: dict) -> str:
  """Returns `describe`'s answer as text for people."""
  missing = set(about['missing_features'])
  features = [
    f'{feature} (this host lacks it)' if feature in missing else feature
    for feature in about['required_features']
  ]
  lines = [
    about['uri'],
    f'  name      {about["name"]}',
    f'  author    {about["author"] or "(not said)"}',
    f'  version   {about["version"]}',
    f'  class     {about["class"]}',
    f'  bundle    {about["bundle"]}',
    f'  needs     {", ".join(features) or "nothing"}',
    f'  latency   {_latency_source(about["latency_port"])}',
  ]
  sides = {'inputs': 'audio_inputs', 'outputs': 'audio_outputs'}
  if about['side_chains']:
    sides['listens'] = 'side_chains'
  for title, what in sides.items():
    symbols = ', '.join(about[what])
    lines.append(
      f'  {title:9} {len(about[what])} audio: {symbols}'.rstrip(': ')
    )
  lines.append('')
  if about['controls']:
    header = 'symbol default minimum maximum unit scale kind name'.split()
    rows = [
      [_number(c[h]) if isinstance(c[h], float) else c[h] for h in header]
      for c in about['controls']
    ]
    lines += _table([h.upper() for h in header], rows, numeric=(1, 2, 3))
  else:
    lines.append('No controls.')
  for control in about['controls']:
    if control['scale_points']:
      points = ', '.join(
        f'{_number(p["value"])} {p["label"]}' for p in control['scale_points']
      )
      lines.append(f'{control["symbol"]}: {points}')
  if about['parameters']:
    lines += ['', 'Parameters, set by --file or `fixed`:']
  lines += [
    f'  {p["name"]}: {p["label"] or "(no name)"} '
    f'({_KINDS.get(p["kind"], p["kind"])})  <{p["uri"]}>'
    for p in about['parameters']
  ]
  lines += ['', f'{len(about["presets"])} presets']
  lines += [f'  {p["label"]}  <{p["uri"]}>' for p in about['presets']]
  return '\n'.join(lines)


# Kinds of parameters for people, where they are called otherwise.
_KINDS = {'path': 'a file', '': 'of a kind that dafx cannot set'}


def _latency_source(symbol: str | None) -> str:
  if symbol:
    return f'reported by the control output {symbol}'
  return 'not reported; measured when it renders'
