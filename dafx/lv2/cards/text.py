"""What is said of plugins to people: lists, descriptions, cards, a summary."""

import collections
import itertools
import re
import textwrap
from collections.abc import Sequence

from dafx.lv2 import errors, presets, world
from dafx.lv2.cards import binding
from dafx.lv2.cards import card as cards

# Not the whole of RFC 3986, but what no URI is without.
_URI = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*:[^\s<>"{}|\\^`]+')
# Level of a change below which there is none.
_NO_CHANGE_DB = -120.0
# MR-STFT at equal level below which a sound is as it was.
_NEUTRAL = 0.01


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
  lines += ['', f'{len(about["presets"])} presets']
  lines += [f'  {p["label"]}  <{p["uri"]}>' for p in about['presets']]
  return '\n'.join(lines)


def _latency_source(symbol: str | None) -> str:
  if symbol:
    return f'reported by the control output {symbol}'
  return 'not reported; measured when it renders'


# ----------------------------------------------------------------- Cards ----
def _wrap(text: str, first: str, following: str) -> list[str]:
  """Returns lines of 80 characters that begin with these indents."""
  return textwrap.wrap(
    text,
    80,
    initial_indent=first,
    subsequent_indent=following,
    break_long_words=False,
    break_on_hyphens=False,
  )


def _entry(label: str, text: str) -> list[str]:
  """Returns the lines of one entry of a card."""
  return _wrap(text or '-', f'  {label:12}  ', ' ' * 16)


def format_card(card: cards.Card) -> str:
  """Returns a card as text for people."""
  lines = [
    f'{card.name} {card.version}',
    card.uri,
    *_entry('audio in', ', '.join(card.audio_inputs) or 'none'),
    *_entry('audio out', ', '.join(card.audio_outputs) or 'none'),
  ]
  if card.side_chains:
    lines += _entry('side chain', ', '.join(card.side_chains))
  if not card.is_ok:
    lines += _entry('FAILED', f'{card.kind}: {card.reason}')
    return '\n'.join(lines)
  lines += _entry('TRAIN IT', card.verdict.train.upper())
  for sentence in card.verdict.advice:
    lines += _entry('', sentence)
  for text in card.fault_texts:
    lines += _entry('FAULT', text)
  lines += ['', *_rendering_lines(card)]
  if card.neutral_cost is not None:
    said = _neutral_text(card.neutral_cost, card.default_cost)
    lines += _entry('neutral cost', said)
  if card.n_settings is not None:
    n_bad = card.n_bad_settings
    text = f'at {card.n_settings} random settings'
    if n_bad:
      text = f'at {n_bad} of {card.n_settings} random settings NOT'
    lines += _entry('finite', text)
  lines += ['', *_control_lines(card)]
  return '\n'.join(lines)


def _rendering_lines(card: cards.Card) -> list[str]:
  """Returns the lines on how a plugin renders."""
  lines = _entry('latency', _latency_text(card))
  lines += _entry(
    'speed',
    f'{card.real_time_factor:.0f} times real time on one thread; '
    f'{card.instance_ms:.3f} ms for a new instance',
  )
  if card.repeatable is not None:
    text = 'yes' if card.repeatable else f'NO: {card.why_not_repeatable}'
    lines += _entry('repeatable', text)
  error = card.threads_error
  if error is not None:
    text = f'NOT SAFE: differs by {error:.1e}' if error else 'safe'
    lines += _entry('threads', text)
  change_db = card.block_difference_db
  if change_db is not None:
    text = (
      'makes no difference'
      if change_db < _NO_CHANGE_DB
      else f'64 or 100 instead of {card.block_size} changes the output by '
      f'{change_db:.0f} dB of it'
    )
    lines += _entry('block size', text)
  if card.refused_block_sizes:
    refused = ', '.join(map(str, card.refused_block_sizes))
    lines += _entry('', f'refuses blocks of {refused} samples')
  change_db = card.start_difference_db
  if change_db is not None and change_db >= _NO_CHANGE_DB:
    lines += _entry(
      'start',
      f'a second more of silence before changes the output by {change_db:.0f} '
      'dB of it',
    )
  error = card.stream_error
  if error is not None:
    text = f'NOT EXACT: chunks differ by {error:.1e} from one render'
    lines += _entry(
      'streams', text if error else 'chunks give what one render does'
    )
  return lines


def _latency_text(card: cards.Card) -> str:
  reported, measured = card.latency_reported, card.latency_measured
  seen = (
    'no output is a copy of an input, so none can be measured'
    if measured is None
    else f'{measured} measured'
  )
  said = 'none reported' if reported is None else f'{reported} reported'
  late = ' (THEY DIFFER)' if card.late_by else ''
  return f'{said}, {seen}{late}; {card.latency} samples are taken out'


def _neutral_text(cost: float, default_cost: float | None) -> str:
  """Says what a plugin changes where it is to do nothing, and by default."""
  text = f'{cost:.3f} (MR-STFT at equal level)'
  if cost < _NEUTRAL:
    text += ': it can leave a sound as it is'
  else:
    text += (
      ': it changes the sound even where it is to do nothing (ratios 1, gains '
      '0 dB, thresholds out of reach), as crossovers do'
    )
  if default_cost is not None:
    text += f'; {default_cost:.3f} at its defaults'
  return text


def _control_line(control: cards.Control) -> str:
  """Returns the line that says what an audible control does."""
  effects = (
    (control.effect_db, ''),
    (control.fixed_effect_db, ', with what is to fix above'),
    (control.other_effect_db, ', at other settings of the rest'),
    (control.switched_effect_db, ', with switches at other settings'),
  )
  where = next(text for level, text in effects if level > cards.AUDIBLE_DB)
  line = f'    {control.symbol:20} {control.largest_effect_db:+4.0f} dB{where}'
  if control.n_nonfinite:
    line += f', {control.n_nonfinite} samples not finite at its ends'
  return line


def _control_lines(card: cards.Card) -> list[str]:
  """Returns the lines that say what controls do."""
  if card.controls is None:
    return ['  Its controls were not looked at.']
  audible = card.audible_controls
  lines = [
    f'  {len(audible)} of {len(card.ranges)} controls with a range change the '
    'sound' + (':' if audible else '.'),
    *map(_control_line, audible),
  ]
  others = [c for c in card.controls if c.kind != 'range']
  for title, controls in (
    (
      'No effect at any setting tried',
      [c for c in card.ranges if not c.is_audible],
    ),
    ('Switches that change the sound', [c for c in others if c.is_audible]),
    ('Switches that do not', [c for c in others if not c.is_audible]),
  ):
    if controls:
      symbols = ', '.join(control.symbol for control in controls)
      lines += _wrap(f'{title}: {symbols}', '  ', '    ')
  return lines


def format_summary(found: Sequence[cards.Card]) -> str:
  """Returns what `checks.check_all` found in all, as text for people."""
  effects = [c for c in found if c.audio_inputs and c.audio_outputs]
  good = [card for card in effects if card.is_ok]
  lines = ['Plugins that fail:']
  failed = sorted((c for c in found if not c.is_ok), key=lambda c: c.kind)
  for kind, cards_of_kind in itertools.groupby(failed, key=lambda c: c.kind):
    group = list(cards_of_kind)
    lines.append(f'  {kind}: {len(group)}')
    if kind != 'no audio output':
      lines += [f'    {card.uri}\n      {card.reason}' for card in group]
  faulty = [card for card in found if card.is_ok and card.fault_texts]
  if faulty:
    lines.append('Plugins that render, with faults:')
  for card in faulty:
    lines.append(f'  {card.uri}')
    lines += [f'    {text}' for text in card.fault_texts]
  noisy = [card for card in good if card.repeatable is False]
  if noisy:
    lines.append('Plugins that are not repeatable:')
  lines += [f'  {card.uri}: {card.why_not_repeatable}' for card in noisy]
  lines.append('Slowest to check:')
  slow = sorted(found, key=lambda c: -sum(c.seconds.values()))[:5]
  lines += [f'  {sum(c.seconds.values()):5.1f} s  {c.uri}' for c in slow]
  share = 100.0 * len(good) / max(len(effects), 1)
  lines += [
    '',
    f'{len(found)} plugins, {len(effects)} with audio in and out. Of these:',
    f'  {len(good):4} render ({share:.1f} %)',
    *_counts(good),
  ]
  trained = collections.Counter(card.verdict.train for card in effects)
  verdicts = ', '.join(f'{trained[k]} {k}' for k in ('yes', 'with care', 'no'))
  return '\n'.join([*lines, f'  to train: {verdicts}'])


def _counts(good: Sequence[cards.Card]) -> list[str]:
  """Returns of how many plugins that render something is true."""

  def matters(change_db):
    return change_db is not None and change_db > _NO_CHANGE_DB

  facts = (
    (lambda c: c.repeatable, 'are repeatable'),
    (lambda c: c.threads_error, 'are not safe on threads'),
    (lambda c: matters(c.block_difference_db), 'depend on the block size'),
    (
      lambda c: matters(c.start_difference_db),
      'depend on how long they ran before',
    ),
    (lambda c: c.stream_error, 'do not stream exactly'),
    (lambda c: c.late_by, 'are off the latency that they report'),
    (
      lambda c: c.n_bad_settings or c.n_nonfinite,
      'give samples that are not finite at some settings',
    ),
    (lambda c: c.faults, 'crash or hang at some settings'),
  )
  return [f'  {sum(bool(fact(c)) for c in good):4} {t}' for fact, t in facts]
