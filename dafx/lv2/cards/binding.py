"""What a plugin needs to be trained: a gin binding, and warnings of traps."""

import re
from collections.abc import Mapping

from dafx.lv2 import ports as ports_lib
from dafx.lv2 import safety, world

_ENABLED = 'http://lv2plug.in/ns/lv2core#enabled'
_TURNS_ON = re.compile(r'\b(active|enabled?|on|high ?pass|low ?pass)\b')
_CHANGES_NONE = re.compile(r'analy[sz]er|fft|oversampl|dither')
_SILENCES = re.compile(r'bypass|enable|mute|muting|solo|pause|listen|panic')
# Controls of a neutral setting by their names, and others that sound alike.
_RATIO = re.compile(r'\bratio')
_GAIN = re.compile(r'\b(gain|level|makeup|make-?up|volume)\b')
_THRESHOLD = re.compile(r'\b(threshold|limit|ceiling)\b')
_NO_GAINS = ('s', 'ms', 'hz', 'khz', '%')
_NOT_NEUTRAL = re.compile(
  r'\b(dry|wet|mix|blend|side-?chain|sc|preamp|shift|zoom|release|boost|asc|'
  r'feedback|noise)\b'
)
# Times the default up to which a linear control can be learnt as it is. LSP's
# gains go from 0 to 1,000, 1 being the default.
_TOO_WIDE = 50.0
_MAX_SLEEPERS = 12  # that are named


def one_line(text: str) -> str:
  """Returns a plugin's text without line breaks and control characters."""
  return ' '.join(''.join(c if c.isprintable() else ' ' for c in text).split())


def trainable_controls(plugin: world.Plugin) -> list[ports_lib.Port]:
  """Returns the controls that take a range of values, in port order."""
  return [p for p in plugin.controls.values() if not p.is_discrete]


def control_kind(port: ports_lib.Port) -> str:
  """Returns what a control takes: 'switch', 'enum', 'integer' or 'range'."""
  if port.toggled:
    return 'switch'
  if port.enumeration:
    return 'enum'
  return 'integer' if port.integer else 'range'


def scope_name(uri: str) -> str:
  """Returns a name for a plugin in gin and in a DAG, of its URI's last part.

  Args:
    uri: Such as 'http://calf.sourceforge.net/plugins/MultibandCompressor'.

  Returns:
    Such as 'multiband_compressor': ASCII letters, digits and underscores.
  """
  parts = [part for part in re.split('[/:]', uri) if part]
  # What tells plugins of one folder apart names none of them.
  n_parts = 2 if parts[-1] in ('mono', 'stereo', 'sum') else 1
  name = re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', '_'.join(parts[-n_parts:]))
  name = re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_').lower()
  return name if re.match('[a-z]', name) else f'plugin_{name}'


def silences(port: ports_lib.Port) -> bool:
  """Returns whether a control is a switch that turns sound or effect off."""
  if not port.is_discrete:
    return False
  name = f'{port.symbol} {port.name}'.lower()
  return port.designation == _ENABLED or bool(_SILENCES.search(name))


def find_traps(plugin: world.Plugin) -> dict[str, tuple[float, str]]:
  """Returns controls to fix, because their defaults surprise.

  Args:
    plugin: The plugin.

  Returns:
    (value in port units, reason) by symbol.
  """
  traps: dict[str, tuple[float, str]] = {}
  for symbol, port in plugin.controls.items():
    name = f'{symbol} {port.name}'.lower()
    is_switch = port.toggled or (
      port.is_discrete and (port.minimum, port.maximum) == (0.0, 1.0)
    )
    if port.designation == _ENABLED and port.default == 0.0:
      traps[symbol] = 1, 'default 0: the plugin does nothing'
    elif is_switch and 'bypass' in name and port.default == 1.0:
      traps[symbol] = 0, 'default 1: what it bypasses does nothing'
    elif is_switch and 'boost' in name and port.default == 1.0:
      traps[symbol] = (
        1,
        'the default: the lower the threshold, the louder; 0 for a plain '
        'limiter',
      )
  return traps


def find_neutral(plugin: world.Plugin) -> dict[str, float]:
  """Returns the setting at which a plugin is to do nothing, by its names.

  Args:
    plugin: The plugin.

  Returns:
    Values in port units by symbol: ratios at 1, gains at 0 dB, thresholds at
    the top (at the bottom for gates and expanders), and on what is off by
    default as a whole. All other controls are to stay at their defaults.
  """
  opens_above = re.search('gate|expand', plugin.plugin_class.lower())
  neutral = {}
  for symbol, port in plugin.controls.items():
    name = f'{symbol.replace("_", " ")} {port.name}'.lower()
    if port.designation == _ENABLED and port.default == 0.0:
      neutral[symbol] = 1.0
    if port.is_discrete or _NOT_NEUTRAL.search(name):
      continue
    if _RATIO.search(name):
      value = 1.0
    elif _THRESHOLD.search(name):
      value = port.minimum if opens_above else port.maximum
    elif _GAIN.search(name) and port.unit.lower() not in _NO_GAINS:
      value = 0.0 if port.minimum < 0.0 or port.unit.lower() == 'db' else 1.0
    else:
      continue
    if port.minimum <= value <= port.maximum:
      neutral[symbol] = value
  return neutral


def find_sleepers(plugin: world.Plugin) -> list[str]:
  """Returns the switches that are off and so leave other controls idle.

  Args:
    plugin: The plugin.

  Returns:
    Symbols of switches whose names tell that they turn something on, and of
    enumerations whose default is called off or none.
  """
  sleepers = []
  for symbol, port in plugin.controls.items():
    name = f'{symbol.replace("_", " ")} {port.name}'.lower()
    if not port.is_discrete or _CHANGES_NONE.search(name):
      continue
    label = dict(port.scale_points).get(port.default, '').strip().lower()
    turns_on = port.default == 0.0 and _TURNS_ON.search(name)
    if label in ('off', 'none') or (turns_on and port.designation != _ENABLED):
      sleepers.append(symbol)
  return sleepers


def gin_binding(
  plugin: world.Plugin, moves: Mapping[str, tuple[int, int]]
) -> str:
  """Returns gin text that makes a plugin a processor.

  Args:
    plugin: The plugin.
    moves: What `safety.moves_of_latency` found of its controls.

  Returns:
    Bindings of `dafx.effects.LV2Plugin` in the scope `scope_name` gives: all
    controls that take a range of values are trainable, but for those that it
    names as left out; what surprises is fixed. It needs the macro sample_rate.
  """
  scope = scope_name(plugin.uri)
  prefix = f'{scope}/effects.LV2Plugin'
  inputs, side_chains, outputs = (
    ', '.join(p.symbol for p in ports) or 'none'
    for ports in (plugin.main_inputs, plugin.side_chains, plugin.audio_outputs)
  )
  listens = []
  if plugin.side_chains:
    listens = [f'# Side chain, which hears what goes in: {side_chains}.']
  author = f' by {one_line(plugin.author)}' if plugin.author else ''
  trainable, left_out, refused = [], [], []
  for port in trainable_controls(plugin):
    about = (
      f'{one_line(port.name)}: {port.describe_range()}, {port.scale}, '
      f'default {port.default:g}'
    )
    if port.scale == 'linear' and port.maximum > _TOO_WIDE * port.default > 0:
      about += '; narrow it by `ranges`: nearly all of it is above the default'
    reason = safety.reason_not_to_train(port)
    if port.symbol in moves:
      low, high = moves[port.symbol]
      move = f'moves the latency, from {low} to {high} samples'
      refused.append(f'#     {port.symbol!r}: {move}. {about}')
    elif reason:
      left_out.append(f'#     {port.symbol!r}: {reason}. {about}')
    else:
      trainable.append(f'    {port.symbol!r},  # {about}')
  lines = [
    f'# {one_line(plugin.name)}{author}.',
    f'# Needs: sample_rate (macro). Node: {scope}.',
    f'# Audio in: {inputs}. Audio out: {outputs}.',
    *listens,
    'import dafx.effects',
    '',
    f'{prefix}.name = {scope!r}',
    f'{prefix}.uri = {plugin.uri!r}',
    f'{prefix}.sample_rate = %sample_rate',
  ]
  if trainable:
    lines += [f'{prefix}.trainable = [', *trainable, ']']
  else:
    lines += [
      '# It has no control to train: no network can move it.',
      f'{prefix}.trainable = []',
    ]
  if left_out:
    lines += ['# Left out; add what you want to train:', *left_out]
  if refused:
    lines += ['# Cannot be trained:', *refused]
  traps = find_traps(plugin)
  if traps:
    lines += [
      '# Mind the defaults of these.',
      f'{prefix}.fixed = {{',
      *(f'    {s!r}: {value},  # {why}' for s, (value, why) in traps.items()),
      '}',
    ]
  return '\n'.join([*lines, *_notes(plugin)])


def _notes(plugin):
  """Returns comments on files, and on controls that are off."""
  lines = []
  if plugin.files:
    lines.append(
      '# Files that it can load; put those that you use into `fixed`:'
    )
    lines += [
      f'#     {p.uri!r}: {"FILE"!r},  # {one_line(p.label)}'
      for p in plugin.files
    ]
  sleepers = find_sleepers(plugin)
  if sleepers:
    more = len(sleepers) - _MAX_SLEEPERS
    names = ', '.join(map(repr, sleepers[:_MAX_SLEEPERS]))
    lines += [
      '# Off at the defaults; controls of what they turn on do nothing until',
      f'# they are fixed: {names}'
      + (f' and {more} more.' if more > 0 else '.'),
    ]
  return lines
