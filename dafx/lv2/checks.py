"""Plugin cards: whether a plugin can be trained, and how."""

import concurrent.futures
import json
import logging
import os
import sys
import time

import tqdm

from dafx.lv2 import errors, fresh_state, probing, processes, world

_log = logging.getLogger('dafx.lv2')
_SAMPLE_RATE = 48000
_BLOCK_SIZE = 1024
_STAGE_LIMIT_S = 120.0
# Controls looked at in one call: a crash loses what its call has found.
_CONTROLS_PER_CALL = 50
_AUDIBLE_DB = -60.0
_INDEPENDENT_DB = -120.0


def check(uri: str) -> dict:
  """Tries a plugin out in a worker process.

  Args:
    uri: URI of the plugin.

  Returns:
    The plugin's card: 'status' is 'ok' or 'failed' with a 'reason'; the rest is
    what `probing` found, as far as it came.

  Raises:
    ValueError: No such plugin.
  """
  plugin = world.get_plugin(uri)
  card = dict(
    uri=uri,
    name=plugin.name,
    version=plugin.version,
    audio_inputs=[p.symbol for p in plugin.audio_inputs],
    audio_outputs=[p.symbol for p in plugin.audio_outputs],
    status='ok',
    reason='',
  )
  settings = dict(uri=uri, sample_rate=_SAMPLE_RATE, block_size=_BLOCK_SIZE)
  try:
    card.update(_call('sound', settings))
    if card['n_nonfinite']:
      card['reason'] = f'{card["n_nonfinite"]} samples at the defaults are not '
      card['reason'] += 'finite'
    symbols = probing.continuous_symbols(plugin)
    card['fresh_state'] = vars(
      fresh_state.find(plugin, _SAMPLE_RATE, _BLOCK_SIZE)
    )
    card['controls'] = []
    for start in range(0, len(symbols), _CONTROLS_PER_CALL):
      some = symbols[start : start + _CONTROLS_PER_CALL]
      card['controls'] += _call(
        'control_effects', {**settings, 'symbols': some}
      )
  except errors.PluginError as error:
    # What came before stands: a plugin may render and fail at a range's end.
    card['reason'] = str(error)
    if 'repeatable' not in card:
      card['status'] = 'failed'
  return card


def _call(function, arguments):
  return processes.call('dafx.lv2.probing', function, arguments, _STAGE_LIMIT_S)


def check_all(uris: list[str], json_path: str | None = None) -> list[dict]:
  """Checks plugins, two at a time, and shows how far it is.

  Args:
    uris: URIs of the plugins.
    json_path: Where to write the cards; None for nowhere.

  Returns:
    Their cards, in order. One that fails has 'status' 'failed'.
  """
  cards = {}
  bar = tqdm.tqdm(total=len(uris), disable=not sys.stderr.isatty())
  last = time.monotonic()
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as executor:
    futures = {executor.submit(check, uri): uri for uri in uris}
    for future in concurrent.futures.as_completed(futures):
      cards[futures[future]] = future.result()
      bar.update()
      if bar.disable and time.monotonic() - last > 10.0:
        last = time.monotonic()
        _log.info('Checked %d of %d plugins.', len(cards), len(uris))
  bar.close()
  ordered = [cards[uri] for uri in uris]
  if json_path:
    temporary = f'{json_path}.partial'
    with open(temporary, 'w', encoding='utf-8') as file:
      json.dump(ordered, file, indent=1)
      file.write('\n')
    os.replace(temporary, json_path)
  return ordered


def _fresh_state_text(method: dict) -> str:
  if not method['repeatable']:
    return 'none: two new instances differ (a random generator?)'
  if method['kind'] == 'instance':
    return f'a new instance, {method["instance_ms"]:.3f} ms'
  return (
    f'rewound, {method["rewind_ms"]:.3f} ms (a new instance: '
    f'{method["instance_ms"]:.3f} ms)'
  )


def format_card(card: dict) -> str:
  """Returns a card as text for people.

  Args:
    card: As `check` returns it.
  """
  lines = [f'{card["name"]} {card["version"]}', card['uri']]

  def add(label, text):
    lines.append(f'  {label:16} {text}')

  add('audio in', ', '.join(card['audio_inputs']) or 'none')
  add('audio out', ', '.join(card['audio_outputs']) or 'none')
  if card['status'] != 'ok':
    add('FAILED', card['reason'])
    return '\n'.join(lines)
  if card['reason']:
    add('BUT', card['reason'])
  how = 'reported' if card['latency_is_reported'] else 'measured'
  add('latency', f'{card["latency"]} samples, {how}')
  add('speed', f'{card["real_time_factor"]:.0f} times real time, one thread')
  add('repeatable', 'yes' if card['repeatable'] else 'NO: trains with noise')
  add('threads', 'safe' if card['thread_safe'] else 'NOT SAFE: n_threads=1')
  difference = card['block_difference_db']
  add(
    'block size',
    'makes no difference'
    if difference < _INDEPENDENT_DB
    else f'64 instead of {_BLOCK_SIZE} changes the output by '
    f'{difference:.0f} dB of it',
  )
  if 'fresh_state' in card:
    add('fresh state', _fresh_state_text(card['fresh_state']))
  controls = sorted(card.get('controls', ()), key=lambda c: -c['effect_db'])
  audible = [c for c in controls if c['effect_db'] > _AUDIBLE_DB]
  add(
    'controls',
    f'{len(controls)} that take a range of values; {len(audible)} change the '
    'sound from the default setting:',
  )
  for control in audible:
    note = f'  {control["symbol"]:20} {control["effect_db"]:+.0f} dB'
    if control['n_nonfinite']:
      note += f', {control["n_nonfinite"]} samples not finite at its ends'
    lines.append(f'    {note}')
  silent = [c['symbol'] for c in controls if c['effect_db'] <= _AUDIBLE_DB]
  if silent:
    add('no effect', ', '.join(silent))
  return '\n'.join(lines)
