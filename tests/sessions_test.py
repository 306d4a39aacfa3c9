"""Sessions: what is written for Ardour and Reaper, and what is refused."""

import re
import urllib.parse
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from dafx import lv2, sessions
from dafx.audio import files as audio_files
from dafx.audio import sources
from dafx.sessions import ardour, reaper

TEST = 'urn:dafx-test:'
COMPRESSOR = 'http://calf.sourceforge.net/plugins/Compressor'
RATE = 16000


def audio(n_channels=1, n_samples=RATE, rate=RATE):
  rng = np.random.default_rng(0)
  samples = 0.1 * rng.standard_normal([n_samples, n_channels])
  return sources.from_array(samples, rate)


def make(plugins, n_channels=1, name='song', **options):
  return sessions.Session(name, plugins, audio(n_channels), **options)


def tree(session):
  return ET.fromstring(ardour.to_xml(session))


def ports(element):
  return {p.get('symbol'): float(p.get('value')) for p in element.iter('Port')}


# ---------------------- Ardour ------------------------------------------------
def test_plugins_stand_in_order_with_all_their_controls():
  session = make(
    [sessions.Plugin(TEST + 'modal', {'mode': 2}),
     sessions.Plugin(COMPRESSOR, {'ratio': 4.0})],
    n_channels=2,
  )  # fmt: skip
  track = tree(session).find("Routes/Route[@name='input']")
  found = track.findall("Processor[@type='lv2']")
  assert [p.get('unique-id') for p in found] == [TEST + 'modal', COMPRESSOR]
  # One of one channel runs for each.
  assert [p.get('count') for p in found] == ['2', '1']
  assert ports(found[0].find('lv2')) == {'amount': 1.0, 'mode': 2.0}
  controls = lv2.get_plugin(COMPRESSOR).controls
  expected = {symbol: port.default for symbol, port in controls.items()}
  values = ports(found[1].find('lv2'))
  assert values == pytest.approx({**expected, 'ratio': 4.0}, rel=1e-7)
  # The fader is behind them.
  assert track.findall('Processor')[-1].get('type') == 'amp'


def test_ids_are_unique_and_all_that_is_named_is_there():
  root = tree(make([sessions.Plugin(TEST + 'gain')], target=audio(2)))
  ids = [element.get('id') for element in root.iter() if element.get('id')]
  assert len(set(ids)) == len(ids)
  assert int(root.get('id-counter')) > max(map(int, ids))
  for region in root.iter('Region'):
    assert region.get('source-0') in ids
  for track in root.findall('Routes/Route[@audio-playlist]'):
    playlist = root.find(
      f"Playlists/Playlist[@id='{track.get('audio-playlist')}']"
    )
    assert playlist.get('orig-track-id') == track.get('id')
  names = {p.get('name') for p in root.iter('Port') if p.get('type')}
  others = {c.get('other') for c in root.iter('Connection')}
  assert {o for o in others if not o.startswith('system:')} <= names


def test_the_target_is_muted_and_mono_goes_to_both_sides():
  root = tree(make([], n_channels=1, target=audio(2)))
  mutes = {
    route.get('name'): route.find('MuteMaster')
    for route in root.findall('Routes/Route')
  }
  assert mutes['target'].get('muted') == '1'
  assert mutes['input'] is mutes['Master'] is None
  output = root.find("Routes/Route[@name='input']/IO[@direction='Output']")
  others = [c.get('other') for c in output.iter('Connection')]
  assert others == ['Master/audio_in 1', 'Master/audio_in 2']


def test_gains_are_amplitudes_of_clip_and_fader():
  root = tree(make([], gain_db=-20.0, fader_db=20.0))
  amplitude = root.find('Playlists/Playlist/Region').get('scale-amplitude')
  assert float(amplitude) == pytest.approx(0.1)
  fader = root.find('.//Controllable').get('value')
  assert float(fader) == pytest.approx(10.0)


def moving(uri, symbol, automation):
  plugin = sessions.Plugin(uri, {}, {symbol: automation})
  processor = tree(make([plugin], 2)).find(".//Processor[@type='lv2']")
  found = processor.find('Automation/AutomationList')
  rows = [line.split() for line in found.find('events').text.splitlines()]
  return found, np.array(rows, float), ports(processor.find('lv2'))[symbol]


def test_a_control_that_moves_is_named_by_its_index_among_all_ports():
  line = sessions.Automation([0.0, 1.0], [0.5, 1.5])
  found, points, value = moving(TEST + 'gain', 'amount', line)
  assert found.get('automation-id') == 'parameter-2'
  assert found.get('interpolation-style') == 'Linear'
  assert value == 0.5
  # A line has two points, of which the last is where the last cycle starts.
  last = 256 + 15 * 1024
  np.testing.assert_allclose(points, [[0, 0.5], [last, 0.5 + last / RATE]])


@pytest.mark.parametrize('is_log', [False, True])
@pytest.mark.parametrize('uri', [TEST + 'gain', TEST + 'square'])
def test_points_lie_where_ardour_reads_and_give_what_moves_there(uri, is_log):
  # gain's range is 0 to 4: Ardour would not move it by equal ratios.
  line = sessions.Automation([0.1, 0.3, 0.31, 0.9], [0.1, 2, 1, 3], is_log)
  found, points, _ = moving(uri, 'amount', line)
  by_ratios = is_log and uri.endswith('square')
  style = 'Logarithmic' if by_ratios else 'Linear'
  assert found.get('interpolation-style') == style
  grid = np.array([0, *range(256, RATE, 1024)])
  assert set(points[:, 0]) <= set(grid)
  bend = np.log if is_log else np.asarray
  expected = np.interp(grid / RATE, line.times_s, bend(line.values))
  bend = np.log if by_ratios else np.asarray
  heard = np.interp(grid, points[:, 0], bend(points[:, 1]))
  heard = np.exp(heard) if by_ratios else heard
  expected = np.exp(expected) if is_log else expected
  np.testing.assert_allclose(heard, expected, rtol=1e-7)


def test_equal_ratios_in_lines_are_near_them():
  line = sessions.Automation([0.0, 0.5, 1.0], [0.1, 2.0, 2.0], is_log=True)
  lines = line.in_lines()
  assert not lines.is_log
  times_s = np.linspace(0.0, 1.0, 999)
  expected = 0.1 * 20.0 ** np.minimum(2 * times_s, 1.0)
  heard = np.interp(times_s, lines.times_s, lines.values)
  np.testing.assert_allclose(heard, expected, rtol=1e-4)


def test_latency_that_a_plugin_does_not_report_is_told_to_ardour():
  plugins = [
    sessions.Plugin(TEST + name, latency=latency)
    for name, latency in [('delay', None), ('late', None), ('delay', 5)]
  ]
  found = tree(make(plugins)).findall(".//Processor[@type='lv2']")
  assert [p.get('user-latency') for p in found] == ['37', None, '5']
  assert [p.get('use-user-latency') for p in found] == ['1', None, '1']


def test_what_does_not_move_has_no_automation():
  plugin = sessions.Plugin(
    TEST + 'gain', {}, {'amount': sessions.Automation([0.0, 1.0], [3.0, 3.0])}
  )
  processor = tree(make([plugin])).find(".//Processor[@type='lv2']")
  assert processor.find('Automation') is None
  assert ports(processor) == {'amount': 3.0}


def test_a_plugin_that_is_late_is_set_for_what_goes_in():
  line = sessions.Automation([0.0, 1.0], [0.5, 1.0])
  _, points, _ = moving(TEST + 'delay', 'amount', line)
  assert points[0, 0] == 0
  expected = 0.5 + 0.5 * (points[:, 0] + 37) / RATE
  np.testing.assert_allclose(points[:, 1], expected, rtol=1e-7)


def test_points_lie_where_ardour_reads_before_a_plugin_that_is_late():
  line = sessions.Automation([0.0, 1.0], [0.5, 1.5], is_log=True)
  plugins = [
    sessions.Plugin(TEST + 'gain', {}, {'amount': line}),
    sessions.Plugin(TEST + 'late'),
    sessions.Plugin(TEST + 'gain', {}, {'amount': line}),
  ]
  before, after = (
    [line.split()[0] for line in events.text.splitlines()]
    for events in tree(make(plugins)).iter('events')
  )
  assert before[:4] == ['0', '37', '293', '1317']
  assert after[:3] == ['0', '256', '1280']


# ---------------------- Reaper ------------------------------------------------
def test_reapers_project_says_that_it_is_untested():
  plugin = sessions.Plugin(
    COMPRESSOR, {'ratio': 4.0},
    {'threshold': sessions.Automation([0.0, 1.0], [0.1, 0.2])},
  )  # fmt: skip
  text = reaper.to_rpp(make([plugin], 2, name='my "song"', target=audio(2)))
  lines = [line.strip() for line in text.splitlines()]
  assert 'untested' in lines[0]
  assert f'<LV2 "LV2: Calf Compressor" "{COMPRESSOR}" ""' in lines
  values = next(line for line in lines if line.startswith('P ')).split()[1:]
  assert values[values.index('ratio') + 1] == '4'
  assert [line for line in lines if line.startswith('PT ')] == [
    'PT 0.000000000 0.100000001 0', 'PT 1.000000000 0.200000003 0',
  ]  # fmt: skip
  assert 'MUTESOLO 0 0 0' in lines and 'MUTESOLO 1 0 0' in lines
  # Each element that begins ends.
  begun = sum(line.startswith('<') for line in lines)
  assert begun == sum(line == '>' for line in lines)


@pytest.mark.parametrize(
  'text, quoted',
  [
    ('a', '"a"'),
    ('a "b"', '\'a "b"\''),
    ('"a\'', '`"a\'`'),
    ('"\'`', "`\"''`"),
    ('a\nb', '"a b"'),
  ],
)
def test_reapers_texts_are_in_quotes_that_they_do_not_hold(text, quoted):
  assert reaper._quoted(text) == quoted


# ---------------------- Folders -----------------------------------------------
def test_a_folder_has_the_audio_in_as_many_channels_as_the_plugins(tmp_path):
  session = make([sessions.Plugin(COMPRESSOR)], target=audio(1))
  folder = sessions.write(session, tmp_path / 'out_session', ['A note.'])
  audio_folder = folder / 'interchange' / 'song' / 'audiofiles'
  written, rate = audio_files.read(audio_folder / 'input.wav')
  assert rate == RATE
  samples = np.concatenate(list(session.audio.blocks()))
  np.testing.assert_array_equal(written, np.repeat(samples, 2, 1))
  target, _ = audio_files.read(audio_folder / 'target.wav')
  np.testing.assert_array_equal(target, samples)
  note = (folder / 'READ_ME.txt').read_text()
  assert f'ardour7-export -b float -o exported.wav {folder} song' in note
  assert note.endswith('A note.\n')
  assert [path.name for path in tmp_path.iterdir()] == ['out_session']


@pytest.mark.parametrize(
  'name, file_name',
  [
    ('a & <b> "c"', 'a & _b_ _c_'),
    ('x/../y:z', 'x_.._y_z'),
    ('bell\x07\nline', 'bell__line'),
    ('\udcff', '_'),
    ('..', 'session'),
    ('Größe 高', 'Größe 高'),
  ],
)
def test_any_name_gives_a_file_that_can_be_read(name, file_name, tmp_path):
  session = make([], name=name)
  # What no UTF-8 can hold became a question mark, which files may not have.
  assert session.file_name == file_name
  folder = sessions.write(session, tmp_path / 'out')
  root = ET.parse(folder / f'{file_name}.ardour').getroot()
  assert root.get('name') == file_name


def test_a_failure_leaves_nothing_and_what_was_there(tmp_path):
  sessions.write(make([]), tmp_path / 'out')
  before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
  bad = sources.from_array(np.full([RATE, 1], np.nan), RATE)
  with pytest.raises(ValueError, match='NaN'):
    sessions.write(sessions.Session('song', [], bad), tmp_path / 'out')
  assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')} == before


def test_what_nobody_changed_is_replaced(tmp_path):
  folder = sessions.write(make([]), tmp_path / 'out')
  for name in ('instant.xml', 'plugins/13/state.ttl'):  # Ardour's, of an export
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text('')
  session = make([], name='other', target=audio(1))
  assert sessions.write(session, folder) == folder
  assert sorted(p.name for p in folder.iterdir()) == [
    'READ_ME.txt', 'interchange', 'other.ardour', 'other.rpp',
  ]  # fmt: skip
  assert [path.name for path in tmp_path.iterdir()] == ['out']


def save_by_ardour(folder):
  path = folder / 'song.ardour'
  text = path.read_text()
  path.write_text(text.replace('modified-with="dafx', 'modified-with="Ardour'))


def save_by_reaper(folder):
  path = folder / 'song.rpp'
  path.write_text(path.read_text().replace('7.14/dafx, untested', '7.14/linux'))


def add_a_file(folder):
  (folder / 'export').mkdir()
  (folder / 'export' / 'mix.wav').write_bytes(b'mine')


@pytest.mark.parametrize('change', [save_by_ardour, save_by_reaper, add_a_file])
def test_what_a_user_may_have_changed_stays(change, tmp_path):
  folder = sessions.write(make([]), tmp_path / 'out')
  change(folder)
  before = {p: p.stat().st_mtime_ns for p in folder.rglob('*')}
  assert sessions.write(make([]), folder) == tmp_path / 'out_2'
  assert {p: p.stat().st_mtime_ns for p in folder.rglob('*')} == before
  assert sessions.write(make([]), folder) == tmp_path / 'out_2'


def test_a_file_in_the_place_stays(tmp_path):
  (tmp_path / 'out').write_text('mine')
  assert sessions.write(make([]), tmp_path / 'out').name == 'out_2'
  assert (tmp_path / 'out').read_text() == 'mine'


# ---------------------- What depends on the host ------------------------------
def test_what_depends_on_the_host_is_named():
  plugins = [sessions.Plugin(TEST + name) for name in ('gain', 'block', 'late')]
  (note,) = sessions.find_host_dependence(make(plugins))
  assert note.startswith('Test block depends on the size of blocks')
  x42 = 'http://gareus.org/oss/lv2/dpl#stereo'
  (note,) = sessions.find_host_dependence(
    make([sessions.Plugin(x42, {'gain': 10.0})], 2)
  )
  assert 'depends on how long it ran before' in note


def test_silence_and_audio_shorter_than_a_block_are_tried_too():
  quiet = sources.from_array(np.zeros([10, 1]), RATE)
  gain = sessions.Plugin(TEST + 'gain')
  assert sessions.find_host_dependence(
    sessions.Session('song', [gain], quiet)
  ) == []  # fmt: skip


# ---------------------- What is refused ---------------------------------------
def test_what_a_session_cannot_hold_is_refused():
  with pytest.raises(ValueError, match='2 audio inputs and 2 outputs'):
    make([sessions.Plugin(TEST + 'cross')], n_channels=3)
  with pytest.raises(ValueError, match='16000 Hz.*one rate'):
    make([], target=audio(1, rate=44100))
  with pytest.raises(ValueError, match='amount=5'):
    make([sessions.Plugin(TEST + 'gain', {'amount': 5.0})])
  with pytest.raises(ValueError, match='amount=5'):
    line = sessions.Automation([0.0, 1.0], [0.0, 5.0])
    make([sessions.Plugin(TEST + 'gain', {}, {'amount': line})])
  with pytest.raises(KeyError, match='amont'):
    make([sessions.Plugin(TEST + 'gain', {'amont': 1.0})])
  with pytest.raises(ValueError, match='no such LV2 plugin'):
    make([sessions.Plugin(TEST + 'none')])


@pytest.mark.parametrize(
  'times_s, values, is_log, match',
  [
    ([0.0], [1.0, 2.0], False, 'one point'),
    ([], [], False, 'one point'),
    ([0.0, 0.0], [1.0, 2.0], False, 'rise'),
    ([0.0, 1.0], [1.0, np.nan], False, 'finite'),
    ([0.0, 1.0], [1.0, 0.0], True, 'above 0'),
  ],
)
def test_automation_that_cannot_be_is_refused(times_s, values, is_log, match):
  with pytest.raises(ValueError, match=match):
    sessions.Automation(times_s, values, is_log)


# ---------------------- What plugins keep beyond ports ------------------------
KEEPER, MAILBOX = TEST + 'keeper', TEST + 'mailbox'


@pytest.fixture(name='taps')
def write_taps(tmp_path):
  path = tmp_path / 'the taps: 1#.txt'
  path.write_text('0.5 0.25')
  return path


def test_files_of_plugins_lie_in_the_session(taps, tmp_path):
  kept = {TEST + 'taps': taps, TEST + 'trim': 0.5}
  session = make([sessions.Plugin(KEEPER, parameters=kept)], n_channels=2)
  folder = sessions.write(session, tmp_path / 's')
  root = ET.parse(folder / 'song.ardour').getroot()
  (processor,) = root.findall(".//Processor[@type='lv2']")
  place = processor.find('lv2').get('state-dir')
  state = folder / 'plugins' / processor.get('id') / place
  taps.unlink()
  turtle = (state / 'state.ttl').read_text()
  assert f'lv2:appliesTo <{KEEPER}>' in turtle
  # Relative to the file, as a URI.
  (copied,) = re.findall(f'<{TEST}taps> <([^>]+)>', turtle)
  copied = state / urllib.parse.unquote(copied)
  assert copied.parent == state and copied.read_text() == '0.5 0.25'
  assert f'<{TEST}trim> "0.5"^^xsd:float' in turtle
  text = (folder / 'READ_ME.txt').read_text()
  assert "Reaper's project does not hold" in text and str(taps) in text
  # It is replaced as others are.
  assert sessions.write(make([]), tmp_path / 's') == folder


def test_what_a_session_does_not_hold_is_said(taps):
  session = make([sessions.Plugin(MAILBOX, parameters={TEST + 'taps': taps})])
  (said,) = session.left_out()
  assert 'by messages, which no session holds' in said and str(taps) in said
  assert make([sessions.Plugin(TEST + 'gain')]).left_out() == []


def test_what_a_plugin_keeps_is_checked(tmp_path):
  for kept, error in (
    ({TEST + 'taps': tmp_path / 'none'}, 'there is no file'),
    ({TEST + 'trim': 'loud'}, 'must be of the kind float'),
  ):
    with pytest.raises(ValueError, match=error):
      make([sessions.Plugin(KEEPER, parameters=kept)])


def test_a_plugin_is_tried_with_its_files(taps):
  # Without taps it would be silent, and depend on nothing.
  plugin = sessions.Plugin(KEEPER, parameters={TEST + 'taps': taps})
  session = make([plugin])
  out = session.renderer(plugin).render(np.ones([1, 8, 1], np.float32))
  np.testing.assert_allclose(out[0, 2:, 0], 0.75)
