"""A session as a project of Reaper, from version 7 on: untested.

No Reaper has opened what is written here. It follows what a project of Reaper
7.14 was seen to hold.
"""

import uuid

from dafx import lv2
from dafx.audio import sources
from dafx.sessions import session as sessions

# Who saved the file last; Reaper puts its own version there.
SAVED_BY = 'dafx, untested'
_LINE, _SQUARE = 0, 1  # shapes between points


def to_rpp(session: sessions.Session) -> str:
  """Returns a session as the text of an .rpp file.

  The audio lies where Ardour has it: in interchange/NAME/audiofiles/.

  Args:
    session: What it is to hold.
  """
  lines = [
    f'<REAPER_PROJECT 0.1 "7.14/{SAVED_BY}" 0',
    '  <NOTES 0 2',
    '    |Written by dafx. No Reaper has opened this file yet: untested.',
    '  >',
    f'  SAMPLERATE {session.sample_rate} 1 0',
    '  TEMPO 120 4 4',
  ]
  lines += _track(session, sessions.INPUT, session.audio)
  if session.target is not None:
    lines += _track(session, sessions.TARGET, session.target)
  return '\n'.join([*lines, '>', ''])


def _quoted(text: str) -> str:
  """Returns a text in quotes that it does not hold."""
  text = ' '.join(text.split())
  for quote in '"\'`':
    if quote not in text:
      return f'{quote}{text}{quote}'
  return '`{}`'.format(text.replace('`', "'"))


def _id(session, *names) -> str:
  """Returns an identifier, the same each time for the same thing."""
  path = '/'.join(map(str, [session.file_name, *names]))
  return '{' + str(uuid.uuid5(uuid.NAMESPACE_URL, path)).upper() + '}'


def _track(
  session: sessions.Session, name: str, audio: sources.Source
) -> list[str]:
  """Returns the lines of a track with its audio and plugins."""
  is_target = name == sessions.TARGET
  n_channels = audio.n_channels if is_target else session.n_channels
  gain_db = 0.0 if is_target else session.gain_db
  fader_db = 0.0 if is_target else session.fader_db
  folder = f'interchange/{session.file_name}/audiofiles'
  lines = [
    f'  <TRACK {_id(session, name)}',
    f'    NAME {_quoted(name)}',
    f'    VOLPAN {_amplitude(fader_db)} 0 -1 -1 1',
    f'    MUTESOLO {int(is_target)} 0 0',
    f'    NCHAN {max(2, n_channels)}',
    '    FX 1',
  ]
  if session.plugins and not is_target:
    lines += ['    <FXCHAIN', '      SHOW 0', '      LASTSEL 0']
    for place, plugin in enumerate(session.plugins):
      lines += _plugin(session, plugin, place)
    lines.append('    >')
  return [
    *lines,
    '    <ITEM',
    '      POSITION 0',
    f'      LENGTH {audio.n_samples / audio.sample_rate:.9f}',
    '      LOOP 0',
    f'      NAME {_quoted(name)}',
    f'      VOLPAN {_amplitude(gain_db)} 0 1 -1',
    '      SOFFS 0',
    '      <SOURCE WAVE',
    f'        FILE {_quoted(f"{folder}/{name}.wav")}',
    '      >',
    '    >',
    '  >',
  ]


def _plugin(session, plugin: sessions.Plugin, place: int) -> list[str]:
  """Returns the lines of a plugin, and of its controls that move."""
  found = lv2.get_plugin(plugin.uri).at_rate(session.sample_rate)
  values = ' '.join(
    f'{symbol} {value:.9g}'
    for symbol, value in session.port_values(plugin).items()
  )
  lines = [
    '      BYPASS 0 0 0',
    f'      <LV2 {_quoted(f"LV2: {found.name}")} {_quoted(plugin.uri)} ""',
    '        CFG 1 0 0 ""',
    f'        P {values}',
    '      >',
    f'      FXID {_id(session, place)}',
  ]
  for index, (symbol, port) in enumerate(found.controls.items()):
    automation = plugin.automation.get(symbol)
    if automation is None or not automation.moves:
      continue
    if port.is_discrete:
      shape = _SQUARE
    else:
      shape, automation = _LINE, automation.in_lines()
    middle = 0.5 * (port.minimum + port.maximum)
    lines += [
      f'      <PARMENV {index}:{symbol} {port.minimum:.9g} {port.maximum:.9g} '
      f'{middle:.9g}',
      '        ACT 1 -1',
      '        VIS 1 1 1',
      '        LANEHEIGHT 0 0',
      '        ARM 1',
      f'        DEFSHAPE {shape} -1 -1',
    ]
    lines += [
      f'        PT {time_s:.9f} {value:.9g} {shape}'
      for time_s, value in zip(
        automation.times_s, automation.values, strict=True
      )
    ]
    lines.append('      >')
  return lines


def _amplitude(gain_db: float) -> str:
  return f'{10.0 ** (gain_db / 20.0):.9g}'
