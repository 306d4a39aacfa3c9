"""What a plugin card says: the verdict, and cards as text for people.

A card is the dictionary that `checks.check` makes.
"""

import collections
import itertools
import textwrap

AUDIBLE_DB = -60.0
_INDEPENDENT_DB = -120.0
# An echo's lag is no latency; nor is that of a filter, by a sample or two.
_LATENCY_TOLERANCE = 4


# Effects by the settings from which controls were moved.
_EFFECTS = (
  ('effect_db', ''),
  ('fixed_effect_db', 'with what is to fix above'),
  ('other_effect_db', 'at other settings of the rest'),
  ('switched_effect_db', 'with switches at other settings'),
)


def audible_controls(card: dict) -> list[dict]:
  """Returns the controls with a range that change the sound, best first.

  Those count too that do so only at other settings than the defaults.
  """
  controls = [
    c
    for c in card.get('controls', ())
    if c['kind'] == 'range' and effect_db(c) > AUDIBLE_DB
  ]
  return sorted(controls, key=lambda c: -effect_db(c))


def effect_db(control: dict) -> float:
  """Returns the level of the largest change by a control, at any setting."""
  return max(control.get(key, -200.0) for key, _ in _EFFECTS)


def verdict(card: dict) -> dict:
  """Says whether a plugin can be trained and what to mind.

  Args:
    card: As `check` returns it.

  Returns:
    {'train': 'yes', 'with care' or 'no', 'advice': list of sentences}.
  """
  if card['status'] != 'ok':
    return dict(train='no', advice=[card['reason']])
  advice = []
  train = 'yes'
  audible = audible_controls(card)
  if not audible:
    train = 'no'
    advice.append(
      'No control with a range changes the sound, at any setting that was '
      'tried.'
    )
  else:
    switched = [
      c['symbol']
      for c in audible
      if max(c[k] for k, _ in _EFFECTS[:3] if k in c) <= AUDIBLE_DB
    ]
    if switched:
      advice.append(
        f'{_join(switched)} need{"s" if len(switched) == 1 else ""} switches '
        'at other settings than the defaults: fix these, or leave them out.'
      )
  if card['level_db'] < -100.0:
    advice.append('Silent at its defaults.')
  if not card['audio_inputs']:
    train = 'no'
    advice.append('It takes no audio: it makes sound of MIDI or by itself.')
  fixed = [f'{s}={value:g}' for s, (value, _) in card.get('traps', {}).items()]
  if fixed and audible:
    advice.append(f'Fix {_join(fixed)}, as `dafx_plugins gin` does.')

  care = []
  if not card.get('repeatable', True):
    why = card['why_not_repeatable']
    care.append(f'Not repeatable, {why}: gradients are noisy.')
  if card.get('threads_error'):
    care.append('Not safe on threads: n_threads=1, or isolation="process".')
  if any(f['kind'] in ('crash', 'exit', 'hang') for f in card['faults']):
    care.append('It crashes or hangs at some settings: isolation="process".')
  bad = [c['symbol'] for c in audible if c['n_nonfinite']]
  if bad:
    care.append(
      f'Samples are not finite at ends of {_join(bad)}: narrow their ranges.'
    )
  elif card.get('n_bad_settings') or card['n_nonfinite']:
    care.append('Some settings give samples that are not finite.')
  late = late_by(card)
  if late:
    care.append(
      f'The output is {late:+d} samples off the latency that it reports.'
    )
  if card.get('stream_error'):
    care.append('Streams (stateful=True) do not give what one render does.')
  if train == 'yes' and care:
    train = 'with care'
  if (card.get('block_difference_db') or -200.0) > AUDIBLE_DB:
    care.append('Train with the block size that you will use.')
  if card['real_time_factor'] < 20.0:
    milliseconds = 1e3 / card['real_time_factor']
    care.append(f'Slow: {milliseconds:.0f} ms per second of audio.')
  return dict(train=train, advice=advice + care)


def late_by(card: dict) -> int:
  """Returns by how many samples the output is off the reported latency."""
  reported, measured = card['latency_reported'], card['latency_measured']
  if reported is None or measured is None:
    return 0
  late = measured - reported
  return late if abs(late) > _LATENCY_TOLERANCE else 0


def _join(names: list[str], most: int = 6) -> str:
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + more


def fault_texts(card: dict) -> list[str]:
  """Returns what is wrong with a plugin that renders."""
  texts = []
  if card['n_nonfinite']:
    texts.append(
      f'{card["n_nonfinite"]} samples at the defaults are not finite'
    )
  texts += [
    f'{fault["kind"]} in {fault["stage"]}'
    + (f' ({fault["where"]})' if fault['where'] else '')
    + f': {fault["text"]}'
    for fault in card['faults']
  ]
  return texts


def format_card(card: dict) -> str:
  """Returns a card as text for people.

  Args:
    card: As `check` returns it.
  """
  lines = [f'{card["name"]} {card["version"]}', card['uri']]

  def add(label, text):
    lines.extend(
      textwrap.wrap(
        text or '-',
        80,
        initial_indent=f'  {label:12}  ',
        subsequent_indent=' ' * 16,
        break_long_words=False,
        break_on_hyphens=False,
      )
    )

  add('audio in', ', '.join(card['audio_inputs']) or 'none')
  add('audio out', ', '.join(card['audio_outputs']) or 'none')
  if card['status'] != 'ok':
    add('FAILED', f'{card["kind"]}: {card["reason"]}')
    return '\n'.join(lines)
  add('TRAIN IT', card['verdict']['train'].upper())
  for sentence in card['verdict']['advice']:
    add('', sentence)
  for text in fault_texts(card):
    add('FAULT', text)
  lines.append('')
  add('latency', _latency_text(card))
  add(
    'speed',
    f'{card["real_time_factor"]:.0f} times real time on one thread; '
    f'{card["instance_ms"]:.3f} ms for a new instance',
  )
  if 'repeatable' in card:
    why = card['why_not_repeatable']
    add('repeatable', 'yes' if card['repeatable'] else f'NO: {why}')
  if 'fresh_state' in card:
    add('fresh state', _fresh_state_text(card['fresh_state']))
  threads = card.get('threads_error')
  if threads is not None:
    add('threads', f'NOT SAFE: differs by {threads:.1e}' if threads else 'safe')
  difference = card.get('block_difference_db')
  if difference is not None:
    add(
      'block size',
      'makes no difference'
      if difference < _INDEPENDENT_DB
      else f'64 or 100 instead of {card["block_size"]} changes the output by '
      f'{difference:.0f} dB of it',
    )
  if card.get('refused_block_sizes'):
    refused = ', '.join(map(str, card['refused_block_sizes']))
    add('', f'refuses blocks of {refused} samples')
  error = card.get('stream_error')
  if error is not None:
    text = f'NOT EXACT: chunks differ by {error:.1e} from one render'
    add('streams', text if error else 'chunks give what one render does')
  if 'n_settings' in card:
    n_bad = card['n_bad_settings']
    text = f'at {n_bad} of {card["n_settings"]} random settings NOT'
    add('finite', text if n_bad else f'at {card["n_settings"]} random settings')
  lines += ['', *_control_lines(card)]
  return '\n'.join(lines)


def _latency_text(card: dict) -> str:
  reported, measured = card['latency_reported'], card['latency_measured']
  seen = (
    'no output is a copy of an input, so none can be measured'
    if measured is None
    else f'{measured} measured'
  )
  said = 'none reported' if reported is None else f'{reported} reported'
  late = ' (THEY DIFFER)' if late_by(card) else ''
  return f'{said}, {seen}{late}; {card["latency"]} samples are taken out'


def _fresh_state_text(method: dict) -> str:
  if not method['repeatable']:
    return f'none: two new instances differ by {method["error"]:.1e}'
  new = f'a new instance, {method["instance_ms"]:.3f} ms'
  if method['kind'] == 'instance':
    return f'{new}, exact'
  return f'rewound, {method["rewind_ms"]:.3f} ms, exact ({new})'


def _control_lines(card: dict) -> list[str]:
  """Returns the lines that say what controls do."""
  if 'controls' not in card:
    return ['  Its controls were not looked at.']
  audible = audible_controls(card)
  ranges = [c for c in card['controls'] if c['kind'] == 'range']
  lines = [
    f'  {len(audible)} of {len(ranges)} controls with a range change the sound'
    + (':' if audible else '.')
  ]
  for control in audible:
    text = f'    {control["symbol"]:20} {effect_db(control):+4.0f} dB'
    where = next(
      w for key, w in _EFFECTS if control.get(key, -200) > AUDIBLE_DB
    )
    text += f', {where}' if where else ''
    if control['n_nonfinite']:
      text += f', {control["n_nonfinite"]} samples not finite at its ends'
    lines.append(text)

  def list_symbols(title, controls):
    if controls:
      lines.extend(
        textwrap.wrap(
          f'{title}: {", ".join(c["symbol"] for c in controls)}',
          80,
          initial_indent='  ',
          subsequent_indent='    ',
          break_long_words=False,
          break_on_hyphens=False,
        )
      )

  others = [c for c in card['controls'] if c['kind'] != 'range']
  silent = [c for c in ranges if effect_db(c) <= AUDIBLE_DB]
  list_symbols('No effect at any setting tried', silent)
  loud = [c for c in others if effect_db(c) > AUDIBLE_DB]
  list_symbols('Switches that change the sound', loud)
  list_symbols('Switches that do not', [c for c in others if c not in loud])
  return lines


def format_summary(cards: list[dict]) -> str:
  """Returns what `check_all` found in all, as text for people.

  Args:
    cards: As `check_all` returns them.
  """
  effects = [c for c in cards if c['audio_inputs'] and c['audio_outputs']]
  good = [c for c in effects if c['status'] == 'ok']
  lines = ['Plugins that fail:']
  failed = sorted(
    (c for c in cards if c['status'] != 'ok'), key=lambda c: c['kind']
  )
  for kind, group in itertools.groupby(failed, key=lambda c: c['kind']):
    group = list(group)
    lines.append(f'  {kind}: {len(group)}')
    if kind != 'no audio output':
      lines += [f'    {c["uri"]}\n      {c["reason"]}' for c in group]
  faulty = [c for c in cards if c['status'] == 'ok' and fault_texts(c)]
  if faulty:
    lines.append('Plugins that render, with faults:')
  for card in faulty:
    lines.append(f'  {card["uri"]}')
    lines += [f'    {text}' for text in fault_texts(card)]
  noisy = [c for c in good if not c.get('repeatable', True)]
  if noisy:
    lines.append('Plugins that are not repeatable:')
  for card in noisy:
    lines.append(f'  {card["uri"]}: {card["why_not_repeatable"]}')
  lines.append('Slowest to check:')
  slow = sorted(cards, key=lambda c: -sum(c['seconds'].values()))[:5]
  for card in slow:
    lines.append(f'  {sum(card["seconds"].values()):5.1f} s  {card["uri"]}')
  trained = collections.Counter(c['verdict']['train'] for c in effects)
  share = 100.0 * len(good) / max(len(effects), 1)

  def count(condition):
    return sum(map(bool, map(condition, good)))

  lines += [
    '',
    f'{len(cards)} plugins, {len(effects)} with audio in and out. Of these:',
    f'  {len(good):4} render ({share:.1f} %)',
    f'  {count(lambda c: c.get("repeatable")):4} are repeatable',
    f'  {count(lambda c: c.get("threads_error")):4} are not safe on threads',
    '  {:4} depend on the block size'.format(
      count(lambda c: (c.get('block_difference_db') or -200) > _INDEPENDENT_DB)
    ),
    '  {:4} do not stream exactly'.format(
      count(lambda c: c.get('stream_error'))
    ),
    f'  {count(late_by):4} are off the latency that they report',
    '  {:4} give samples that are not finite at some settings'.format(
      count(lambda c: c.get('n_bad_settings') or c['n_nonfinite'])
    ),
    f'  {count(lambda c: c["faults"]):4} crash or hang at some settings',
    '  to train: '
    + ', '.join(f'{trained[k]} {k}' for k in ('yes', 'with care', 'no')),
  ]
  return '\n'.join(lines)
