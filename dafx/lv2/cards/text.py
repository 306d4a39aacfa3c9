"""Cards of plugins, and what was found in all, told to people."""

import collections
import itertools
import textwrap
from collections.abc import Sequence

from dafx.lv2.cards import card as cards

# Level of a change below which there is none.
_NO_CHANGE_DB = -120.0
# MR-STFT at equal level below which a sound is as it was.
_NEUTRAL = 0.01


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
  if card.files:
    lines += _entry('files', ', '.join(card.files))
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
