"""A session as a folder, whole or not at all."""

import dataclasses
import os
import pathlib
import shlex
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np

from dafx import _folders, lv2
from dafx.audio import files as audio_files
from dafx.audio import sources
from dafx.sessions import ardour, reaper
from dafx.sessions import session as sessions

_READ_ME = 'READ_ME.txt'
# What Ardour leaves where it only opened or exported a session.
_OF_ARDOUR = ('instant.xml', 'plugins', 'peaks', 'analysis')
# Of a project, in which its writer names itself.
_HEAD_BYTES = 1024


def write(
  session: sessions.Session,
  folder: str | os.PathLike,
  notes: Sequence[str] = (),
) -> pathlib.Path:
  """Writes a folder that Ardour opens as it is, and a project for Reaper.

  It holds NAME.ardour, NAME.rpp (untested), the audio as floats, and
  READ_ME.txt, which says how to open them. The folder appears whole or not at
  all. A folder that dafx wrote and nobody changed is replaced. Any other stays
  as it is, and the new one gets a number behind its name.

  Args:
    session: What it is to hold.
    folder: Where.
    notes: Sentences that READ_ME.txt ends with.

  Returns:
    The folder that was written.

  Raises:
    OSError: No room on the disk, or a place that may not be written.
    ValueError: Audio that is damaged.

  Examples:
    >>> import tempfile
    >>> import numpy as np
    >>> from dafx import sessions
    >>> from dafx.audio import sources
    >>> audio = sources.from_array(np.zeros([44100, 2]), 44100)
    >>> session = sessions.Session('song', [], audio)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   written = sessions.write(session, f'{folder}/song_session')
    ...   sorted(path.name for path in written.iterdir())
    ['READ_ME.txt', 'interchange', 'song.ardour', 'song.rpp']
  """
  wanted = _folders.expand_user(folder)
  wanted.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(
    prefix=f'.{wanted.name}.', suffix='.partial', dir=wanted.parent
  ) as temporary:
    new = pathlib.Path(temporary) / wanted.name
    _fill(session, new)
    place = next(each for each in _places(wanted) if _is_free(each))
    text = '\n'.join([describe(session, place), *notes, ''])
    # The path of the folder may be no text.
    (new / _READ_ME).write_text(text, 'utf-8', errors='backslashreplace')
    if place.exists():
      # Out of the way first: a folder takes the place of an empty one only.
      place.rename(pathlib.Path(temporary) / 'former')
    new.rename(place)
  return place


def _fill(session: sessions.Session, folder: pathlib.Path):
  """Writes all but the note into a new folder."""
  name = session.file_name
  audio = folder / 'interchange' / name / 'audiofiles'
  audio.mkdir(parents=True)
  _write_audio(
    _spread(session.audio, session.n_channels), audio / f'{sessions.INPUT}.wav'
  )
  if session.target is not None:
    _write_audio(session.target, audio / f'{sessions.TARGET}.wav')
  ardour.write(session, folder)
  (folder / f'{name}.rpp').write_text(
    reaper.to_rpp(session), encoding='utf-8', newline='\n'
  )


def _spread(source: sources.Source, n_channels: int) -> sources.Source:
  """Returns audio with mono in all channels."""
  if source.n_channels == n_channels:
    return source

  def blocks():
    return (np.repeat(block, n_channels, axis=1) for block in source.blocks())

  return dataclasses.replace(source, n_channels=n_channels, blocks=blocks)


def _write_audio(source: sources.Source, path: pathlib.Path):
  with audio_files.Writer(path, source.sample_rate, source.n_samples) as writer:
    for block in source.blocks():
      writer.write(block)


def _places(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a folder, then the same with 2, 3 and so on behind its name."""
  yield folder
  number = 2
  while True:
    yield folder.with_name(f'{folder.name}_{number}')
    number += 1


def _is_free(folder: pathlib.Path) -> bool:
  """Returns whether nothing is there that a user may miss."""
  if not os.path.lexists(folder):
    return True
  if folder.is_symlink() or not folder.is_dir():
    return False
  found = [p for p in folder.rglob('*') if not p.is_dir() or p.is_symlink()]
  found = [p for p in found if p.relative_to(folder).parts[0] not in _OF_ARDOUR]
  projects = [p for p in found if p.suffix in ('.ardour', '.rpp')]
  others = {p.relative_to(folder) for p in set(found) - set(projects)}
  if len(projects) != 2 or projects[0].stem != projects[1].stem:
    return False
  audio = pathlib.Path('interchange', projects[0].stem, 'audiofiles')
  own = {pathlib.Path(_READ_ME)} | {
    audio / f'{name}.wav' for name in (sessions.INPUT, sessions.TARGET)
  }
  return others <= own and all(map(_is_as_written, projects))


def _is_as_written(project: pathlib.Path) -> bool:
  """Returns whether no DAW has saved a project since it was written."""
  with open(project, 'rb') as file:
    head = file.read(_HEAD_BYTES).decode('utf-8', 'replace')
  return ardour.SAVED_BY in head or reaper.SAVED_BY in head


def describe(session: sessions.Session, folder: pathlib.Path) -> str:
  """Says what a session holds and how it is opened.

  Args:
    session: The session.
    folder: Where it was written.

  Returns:
    Text for people.

  Examples:
    >>> import pathlib
    >>> import numpy as np
    >>> from dafx import sessions
    >>> from dafx.audio import sources
    >>> audio = sources.from_array(np.zeros([44100, 2]), 44100)
    >>> session = sessions.Session('song', [], audio)
    >>> text = sessions.describe(session, pathlib.Path('song_session'))
    >>> text.splitlines()[1]
    '  Ardour 7: ardour song_session/song.ardour'
  """
  name = session.file_name
  path = shlex.quote(str(folder))
  plugins = [lv2.get_plugin(plugin.uri).name for plugin in session.plugins]
  moving = sum(
    automation.moves
    for plugin in session.plugins
    for automation in plugin.automation.values()
  )
  lines = [
    f'Session in {folder}: {", ".join(plugins) or "no plugins"} on the track '
    f"'{sessions.INPUT}'"
    + (f', {moving} controls of which move' * bool(moving))
    + (f"; '{sessions.TARGET}' beside it is muted" * bool(session.target))
    + '.',
    f'  Ardour 7: ardour {shlex.quote(str(folder / name))}.ardour',
    f'  without a window: ardour7-export -b float -o exported.wav {path} '
    f'{shlex.quote(name)}',
    f'  Reaper: {name}.rpp in that folder (untested)',
    *session.left_out(),
  ]
  return '\n'.join(lines)
