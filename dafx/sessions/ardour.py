"""A session as Ardour's: https://ardour.org, from version 7 on.

An export runs in cycles of 1,024 samples, the first of 256. A cycle reads each
control that moves at its start and holds it. Some plugins, but not all, are run
in parts where a point lies within a cycle. So points are written at the starts
of cycles alone, and every plugin reads the same.
"""

import dataclasses
import itertools
import pathlib
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import numpy as np

import dafx
from dafx import lv2
from dafx.audio import sources
from dafx.sessions import session as sessions

# Of the format. Ardour opens older ones than its own and refuses newer ones.
_VERSION = 7002
_START = {'sclock': '0', 'quarters': '0:0', 'bbt': '1|1|0'}
_SUPERCLOCKS = 282240000  # a second, of that version
_FIRST_CYCLE, _CYCLE = 256, 1024
# Of the largest value: what a point may lie off the line between its neighbours
# to be left out.
_ON_A_LINE = 1e-12
# Where a plugin's state lies. Ardour counts up from 1, also before it reads.
_STATE = 'state1000'
# Where along its way a muted track is silent.
_MUTED_AT = 'PreFader,PostFader,Listen,Main'
# Who saved the file last; Ardour puts its own name there.
SAVED_BY = 'modified-with="dafx '


def to_xml(session: sessions.Session) -> bytes:
  """Returns a session as the text of an .ardour file; see `write`.

  The audio has to lie in interchange/NAME/audiofiles/ beside it, as input.wav
  and target.wav, NAME being `Session.file_name`.

  Args:
    session: What it is to hold.
  """
  return _Document(session).text()


def write(session: sessions.Session, folder: pathlib.Path):
  """Writes NAME.ardour, and what plugins keep beyond their ports.

  That lies in plugins/ID/state1000/, ID being the plugin's in the session.
  Files are copied there, so that the folder can be moved.

  Args:
    session: What it is to hold.
    folder: Where; there is no session in it.
  """
  document = _Document(session)
  path = folder / f'{session.file_name}.ardour'
  path.write_bytes(document.text())
  for place, (plugin, plugin_state) in document.states.items():
    state = folder / 'plugins' / place / _STATE
    state.mkdir(parents=True)
    properties = [
      _in_folder(kept, state, f'{i}_') for i, kept in enumerate(plugin_state)
    ]
    text = lv2.state_turtle(plugin.uri, properties)
    (state / 'state.ttl').write_text(text, encoding='utf-8')


def _in_folder(
  kept: lv2.Property, folder: pathlib.Path, prefix: str
) -> lv2.Property:
  """Copies the file that a property names into a folder."""
  path = pathlib.Path(kept.value) if kept.kind == 'path' else None
  if path is None or not path.is_file():
    return kept
  name = prefix + path.name
  shutil.copyfile(path, folder / name)
  return dataclasses.replace(kept, value=name)


class _Document:
  """The tree of elements of one session."""

  def __init__(self, session):
    self._session = session
    # By ID: a plugin, and what it keeps beyond its ports.
    self.states: dict[str, tuple[sessions.Plugin, list[lv2.Property]]] = {}
    self._ids = itertools.count(1)
    self._root = ET.Element(
      'Session',
      {
        'version': str(_VERSION),
        'name': session.file_name,
        'sample-rate': str(session.sample_rate),
      },
    )
    saved_by = f'dafx {dafx.__version__}'
    self._add(
      self._root, 'ProgramVersion',
      created_with=saved_by, modified_with=saved_by,
    )  # fmt: skip
    config = self._add(self._root, 'Config')
    self._add(
      config, 'Option', name='native-file-data-format', value='FormatFloat'
    )
    self._sources, self._regions = (
      self._add(self._root, tag) for tag in ('Sources', 'Regions')
    )
    self._add(
      self._add(self._root, 'Locations'), 'Location', id=next(self._ids),
      name='session', start=0, end=session.audio.n_samples,
      flags='IsSessionRange',
    )  # fmt: skip
    self._routes, self._playlists = (
      self._add(self._root, tag) for tag in ('Routes', 'Playlists')
    )
    self._n_out = session.n_channels
    if session.target is not None:
      self._n_out = max(self._n_out, session.target.n_channels)

  def text(self) -> bytes:
    """Returns the whole as text."""
    session, n_channels = self._session, self._session.n_channels
    tracks = [sessions.INPUT]
    if session.target is not None:
      tracks.append(sessions.TARGET)
    self._add_bus(tracks)
    track = self._add_track(
      sessions.INPUT, session.audio, n_channels, session.gain_db
    )
    for place, plugin in enumerate(session.plugins):
      behind = session.plugins[place + 1 :]
      self._add_plugin(track, plugin, sum(map(session.latency, behind)))
    self._add_fader(track, session.fader_db)
    if session.target is not None:
      n_channels = session.target.n_channels
      track = self._add_track(sessions.TARGET, session.target, n_channels)
      self._add(track, 'MuteMaster', mute_point=_MUTED_AT, muted=1)
    self._add(self._root, 'RouteGroups')
    self._add_tempo()
    self._root.set('id-counter', str(next(self._ids)))
    ET.indent(self._root)
    return ET.tostring(self._root, 'UTF-8', xml_declaration=True)

  def _add(self, parent, tag, **attributes):
    """Adds an element; in names of attributes, _ stands for -."""
    attributes = {k.replace('_', '-'): str(v) for k, v in attributes.items()}
    return ET.SubElement(parent, tag, attributes)

  def _add_bus(self, tracks: Sequence[str]):
    """Adds the bus that all tracks go to."""
    inputs = [
      [f'{name}/audio_out {out}' for name in tracks
       for out in self._outputs_to(name, channel)]
      for channel in range(1, self._n_out + 1)
    ]  # fmt: skip
    outputs = [[f'system:playback_{c}'] for c in range(1, self._n_out + 1)]
    self._add_route(sessions.BUS, 'MasterOut', inputs, outputs)

  def _channels_of(self, track: str) -> int:
    target = self._session.target
    if track == sessions.TARGET and target is not None:
      return target.n_channels
    return self._session.n_channels

  def _outputs_to(self, track: str, channel: int) -> list[int]:
    """Returns which outputs of a track go to a channel of the bus, from 1."""
    n_channels = self._channels_of(track)
    if n_channels == 1:
      return [1]  # to all
    return [channel] if channel <= n_channels else []

  def _add_track(
    self,
    name: str,
    audio: sources.Source,
    n_channels: int,
    gain_db: float = 0.0,
  ) -> ET.Element:
    """Adds a track with a file on it, as that has it: mono or more channels."""
    outputs = [
      [f'{sessions.BUS}/audio_in {channel}'
       for channel in range(1, self._n_out + 1)
       if out in self._outputs_to(name, channel)]
      for out in range(1, n_channels + 1)
    ]  # fmt: skip
    # Without inputs it would have no channels, and no sound.
    inputs = [[f'system:capture_{c}'] for c in range(1, n_channels + 1)]
    playlist = self._add(
      self._playlists, 'Playlist', id=next(self._ids), name=name, type='audio'
    )
    track = self._add_route(
      name, 'AudioTrack', inputs, outputs,
      mode='Normal', audio_playlist=playlist.get('id'),
    )  # fmt: skip
    playlist.set('orig-track-id', track.get('id', ''))
    used = {}
    for channel in range(n_channels):
      source = self._add(
        self._sources, 'Source', name=f'{name}.wav', type='audio',
        id=next(self._ids), channel=channel,
      )  # fmt: skip
      used[f'source_{channel}'] = used[f'master_source_{channel}'] = source.get(
        'id'
      )
    for parent, is_whole in ((self._regions, 1), (playlist, 0)):
      self._add(
        parent, 'Region', name=name, id=next(self._ids), type='audio',
        whole_file=is_whole, position=0, start=0, length=audio.n_samples,
        channels=n_channels, scale_amplitude=_amplitude(gain_db),
        default_fade_in=0, default_fade_out=0, fade_in_active=0,
        fade_out_active=0, **used,
      )  # fmt: skip
    return track

  def _add_route(self, name, flags, inputs, outputs, **attributes):
    """Adds a track or a bus with its ports, each cabled to its peers."""
    route = self._add(
      self._routes, 'Route', version=_VERSION, id=next(self._ids), name=name,
      active=1, default_type='audio', **attributes,
    )  # fmt: skip
    order = len(self._routes) - 1
    self._add(route, 'PresentationInfo', order=order, flags=flags)
    for direction, side, peers in (
      ('Input', 'in', inputs),
      ('Output', 'out', outputs),
    ):
      io = self._add(
        route, 'IO', name=name, id=next(self._ids), direction=direction,
        default_type='audio',
      )  # fmt: skip
      for channel, others in enumerate(peers, 1):
        port = self._add(
          io, 'Port', type='audio', name=f'{name}/audio_{side} {channel}'
        )
        for other in others:
          self._add(port, 'Connection', other=other)
    return route

  def _add_plugin(
    self, track: ET.Element, plugin: sessions.Plugin, n_behind: int
  ):
    """Adds a plugin with its values and the automation of those that move.

    Those behind it are `n_behind` samples late.
    """
    found = lv2.get_plugin(plugin.uri).at_rate(self._session.sample_rate)
    processor = self._add(
      track, 'Processor', type='lv2', unique_id=plugin.uri, name=found.name,
      id=next(self._ids), active=1, count=self._session.n_copies(plugin),
    )  # fmt: skip
    latency = self._session.latency(plugin)
    if found.latency_port is None and latency:
      processor.set('user-latency', str(latency))
      processor.set('use-user-latency', '1')
    moving = {s: a for s, a in plugin.automation.items() if a.moves}
    if moving:
      lines = self._add(processor, 'Automation')
      for symbol, automation in moving.items():
        self._add_automation(
          lines, found.control(symbol), automation, latency, n_behind
        )
    state = self._add(processor, 'lv2')
    if kept := self._session.state(plugin):
      state.set('state-dir', _STATE)
      self.states[processor.get('id', '')] = plugin, kept
    for symbol, value in self._session.port_values(plugin).items():
      self._add(state, 'Port', symbol=symbol, value=f'{value:.9g}')

  def _add_automation(
    self,
    parent: ET.Element,
    port: lv2.Port,
    automation: sessions.Automation,
    n_late: int,
    n_behind: int,
  ):
    """Adds a control that moves.

    Ardour moves a control by equal ratios only where its whole range is above
    0; elsewhere a line from cycle to cycle stands for them.
    """
    is_log = automation.is_log and port.minimum > 0
    style = 'Logarithmic' if is_log else 'Linear'
    if port.is_discrete:
      style = 'Discrete'
    samples, values = on_the_grid(
      automation, self._session.sample_rate, self._session.audio.n_samples,
      n_late, n_behind,
    )  # fmt: skip
    kept = _bends(samples, np.log(values) if is_log else values)
    samples, values = samples[kept], values[kept]
    element = self._add(
      parent, 'AutomationList', id=next(self._ids), state='Play',
      automation_id=f'parameter-{port.index}', interpolation_style=style,
      time_domain='AudioTime',
    )  # fmt: skip
    self._add(element, 'events').text = ''.join(
      f'{n} {v:.9g}\n' for n, v in zip(samples, values, strict=True)
    )

  def _add_fader(self, track: ET.Element, gain_db: float):
    """Adds the fader of a track, behind its plugins."""
    fader = self._add(
      track, 'Processor', type='amp', name='Fader', id=next(self._ids), active=1
    )
    self._add(
      fader, 'Controllable', name='gaincontrol', id=next(self._ids),
      flags='GainLike', value=_amplitude(gain_db),
    )  # fmt: skip

  def _add_tempo(self):
    """Adds a tempo and a meter, without which no session opens."""
    tempo = self._add(
      self._root, 'TempoMap', superclocks_per_second=_SUPERCLOCKS
    )
    self._add(
      self._add(tempo, 'Tempos'), 'Tempo', type='Tempo::Constant', npm=120,
      enpm=120, note_type=4, active=1, **_START,
    )  # fmt: skip
    self._add(
      self._add(tempo, 'Meters'), 'Meter', note_value=4, divisions_per_bar=4,
      **_START,
    )  # fmt: skip
    self._add(tempo, 'MusicTimes')


def on_the_grid(
  automation: sessions.Automation,
  sample_rate: int,
  n_samples: int,
  n_late: int = 0,
  n_behind: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns what an export reads of a control.

  Args:
    automation: How it moves.
    sample_rate: In Hz.
    n_samples: Of the session.
    n_late: Samples by which the plugin is late. Ardour reads for what comes
      out of it; automation is for what goes in.
    n_behind: Samples by which those behind it are late; so many are run before
      the first cycle.

  Returns:
    (Samples at which it reads, [n_cycles]; values in port units, float64,
    [n_cycles]).
  """
  samples = np.arange(n_behind + _FIRST_CYCLE, max(n_samples, 1), _CYCLE)
  samples = np.unique([0, n_behind, *samples])
  return samples, automation.at((samples + n_late) / sample_rate)


def _bends(places: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Returns which points a line needs: its ends, and where it bends."""
  steps, rises = np.diff(places), np.diff(values)
  # How far a point is off the line between its neighbours.
  off = (rises[1:] * steps[:-1] - rises[:-1] * steps[1:]) / (
    steps[1:] + steps[:-1]
  )
  slack = _ON_A_LINE * np.abs(values).max()
  kept = np.ones(len(values), bool)
  kept[1:-1] = np.abs(off) > slack
  return kept


def _amplitude(gain_db: float) -> str:
  return f'{10.0 ** (gain_db / 20.0):.9g}'
