"""Presets: read from real bundles, written, and read back by lilv."""

import json
import logging
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from dafx import lv2

ZAM = 'urn:zamaudio:ZamComp'
MDA = 'http://drobilla.net/plugins/mda/Detune'
SQUARE = 'urn:dafx-test:square'  # 'amount', 0.01 to 10
GAIN = 'urn:dafx-test:gain'  # 'amount', 0 to 4
VALID = 'not valid Turtle'

PREFIXES = """\
@prefix lv2: <http://lv2plug.in/ns/lv2core#> .
@prefix pset: <http://lv2plug.in/ns/ext/presets#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix state: <http://lv2plug.in/ns/ext/state#> .
"""
# Loads every preset of a plugin by its URI; prints what came, and the log.
READ = """
import json, logging, sys
from dafx import lv2
class Keep(logging.Handler):
  def emit(self, record):
    log.append(record.getMessage())
log = []
logging.getLogger('dafx.lv2').addHandler(Keep())
presets = lv2.list_presets(sys.argv[1])
names = sys.argv[2:] or [p.uri for p in presets]
loaded, errors = {}, {}
for name in names:
  try:
    loaded[name] = lv2.load_preset(sys.argv[1], name)
    lv2.Renderer(sys.argv[1], 44100, fixed=loaded[name])
  except (KeyError, ValueError) as error:
    errors[name] = f'{type(error).__name__}: {error}'
print(json.dumps({
  'presets': [(p.uri, p.label, str(p.bundle_path)) for p in presets],
  'loaded': loaded, 'errors': errors, 'log': log}))
"""


def environment(folder):
  path = os.pathsep.join([str(folder), os.environ['LV2_PATH']])
  return {
    **os.environ,
    'LV2_PATH': path,
    'PYTHONPATH': os.pathsep.join(sys.path),
  }


def read_in_new_process(folder, uri, *names):
  """Returns what a process that starts now reads, with a folder more."""
  result = subprocess.run(
    [sys.executable, '-c', READ, uri, *names],
    env=environment(folder),
    capture_output=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  return json.loads(result.stdout)


def add_bundle(folder, name, preset, manifest='', uri=SQUARE):
  """Writes a bundle as makers do, its preset named urn:dafx-preset:<name>."""
  bundle = folder / f'{name}.lv2'
  bundle.mkdir(parents=True)
  subject = f'<urn:dafx-preset:{name}>'
  (bundle / 'manifest.ttl').write_text(
    f'{PREFIXES}{subject} a pset:Preset ; lv2:appliesTo <{uri}> ; '
    f'rdfs:seeAlso <preset.ttl> .\n{manifest}'
  )
  (bundle / 'preset.ttl').write_text(f'{PREFIXES}{subject} {preset}\n')
  return f'urn:dafx-preset:{name}'


def port(value, symbol='amount'):
  return f'lv2:port [ lv2:symbol "{symbol}" ; pset:value {value} ]'


def parse_presets(path):
  """Returns {URI: {symbol: value}} of a Turtle file with one URI per line."""
  _, *parts = re.split(r'^<(.+)>', path.read_text(), flags=re.MULTILINE)
  pattern = r'lv2:symbol "(\w+)" ;\s+pset:value ([-\d.]+)'
  return {
    uri: {symbol: float(value) for symbol, value in re.findall(pattern, text)}
    for uri, text in zip(parts[::2], parts[1::2], strict=True)
  }


# --------------------------------------------------------- Real presets ----
@pytest.mark.parametrize(
  'uri, file, labels',
  [
    (ZAM, 'presets.ttl', ['PoppySnare', 'VocalLeveller', 'Zero']),
    (
      MDA,
      'Detune-presets.ttl',
      ['Out Of Tune', 'Stereo Detune', 'Symphonic'],
    ),
  ],
)
def test_real_presets_have_the_values_of_their_turtle(uri, file, labels):
  presets = lv2.list_presets(uri)
  plugin = lv2.get_plugin(uri)
  want = parse_presets(plugin.bundle_path / file)
  assert [p.label for p in presets] == labels
  assert sorted(p.uri for p in presets) == sorted(want)
  for preset in presets:
    assert preset.bundle_path == plugin.bundle_path
    values = lv2.load_preset(uri, preset.label)
    assert len(values) >= 3
    assert values == lv2.load_preset(uri, preset.uri)
    assert values == {
      s: v for s, v in want[preset.uri].items() if s in plugin.controls
    }
    renderer = lv2.Renderer(uri, 44100, fixed=values)
    for symbol, value in values.items():
      index = plugin.control(symbol).index
      assert renderer.initial_values[index] == np.float32(value)


def test_says_that_a_preset_has_more_than_ports(caplog):
  uri = 'http://gareus.org/oss/lv2/zeroconvolv#Mono'
  (preset,) = lv2.list_presets(uri)
  with caplog.at_level(logging.WARNING):
    lv2.load_preset(uri, preset.label)
  assert 'more than port values' in caplog.text


def test_plugin_without_presets():
  assert lv2.list_presets('urn:dafx-test:cross') == []
  with pytest.raises(KeyError, match='It has none'):
    lv2.load_preset('urn:dafx-test:cross', 'Warm')


@pytest.mark.parametrize('name', ['VocalLevel', 'zam:Zeros', 'Zero '])
def test_unknown_name_gives_the_closest_labels(name):
  with pytest.raises(KeyError, match="'Zero'|'VocalLeveller'"):
    lv2.load_preset(ZAM, name)


def test_preset_of_another_plugin_names_both():
  preset = lv2.list_presets(ZAM)[0]
  with pytest.raises(ValueError, match=f'{ZAM}, not of {MDA}'):
    lv2.load_preset(MDA, preset.uri)


def test_unknown_plugin():
  for call in (
    lambda: lv2.list_presets('urn:none'),
    lambda: lv2.load_preset('urn:none', 'Warm'),
    lambda: lv2.write_preset('unused', 'urn:none', 'Warm', {'a': 1}),
  ):
    with pytest.raises(ValueError, match='no such LV2 plugin'):
      call()


# -------------------------------------------------------------- Writing ----
LABELS = [
  'Warm',
  'Two words',
  'Two_words',
  'Zuer\u030cst "laut" \\ <a> {b} ; # . %41',
  '日本語 🎸',
  '\\',
  'é' * 200,
]


def test_round_trip_through_lilv_in_a_new_process(tmp_path):
  folder = tmp_path / 'my présets'
  rng = np.random.default_rng(0)
  # Half are float32, as training gives them, half are as people type them.
  amounts = [float(np.float32(x)) for x in rng.uniform(0.01, 10, 4)]
  amounts += [0.1, 3.3, 0.0123]
  want = {}
  for label, amount in zip(LABELS, amounts, strict=True):
    bundle = lv2.write_preset(folder, SQUARE, label, {'amount': amount})
    want[label] = (bundle, amount)
  assert len({bundle for bundle, _ in want.values()}) == len(LABELS)
  assert (folder / 'Test_square_Two_words.preset.lv2').is_dir()
  assert sorted(folder.iterdir()) == sorted(b for b, _ in want.values())

  read = read_in_new_process(folder, SQUARE)
  assert [label for _, label, _ in read['presets']] == sorted(LABELS)
  for uri, label, bundle_path in read['presets']:
    bundle, amount = want[label]
    assert pathlib.Path(bundle_path) == bundle
    assert read['loaded'][uri] == {'amount': amount}
  assert not read['errors'] and not read['log']
  by_label = read_in_new_process(folder, SQUARE, *LABELS)['loaded']
  assert by_label == {k: {'amount': v} for k, (_, v) in want.items()}


def test_another_lilv_program_lists_written_presets(tmp_path):
  for label in LABELS:
    lv2.write_preset(tmp_path, SQUARE, label, {'amount': 2})
  result = subprocess.run(
    ['lv2info', SQUARE],
    env=environment(tmp_path),
    capture_output=True,
    text=True,
    check=True,
  )
  section = result.stdout.split('Presets:')[1].split('Port 0:')[0]
  listed = [line.strip() for line in section.splitlines() if line.strip()]
  assert sorted(listed) == sorted(LABELS)
  assert not result.stderr


@pytest.mark.parametrize(
  'value, text',
  [
    (1, '1.0'),
    (np.float32(0.3), '0.30000001192092896'),
    (0.3, '0.3'),
    (3e-5, '0.00003'),
    (1e-45, '0.' + '0' * 44 + '1'),
  ],
)
def test_values_are_decimals(tmp_path, value, text):
  bundle = lv2.write_preset(tmp_path, GAIN, 'Warm', {'amount': value})
  assert f'pset:value {text}\n' in (bundle / 'Warm.ttl').read_text()


def test_presets_that_were_written_before_get_new_values(tmp_path):
  bundle = lv2.write_preset(tmp_path, GAIN, 'Warm', {'amount': 1})
  before = (bundle / 'Warm.ttl').read_text()
  assert lv2.write_preset(tmp_path, GAIN, 'Warm', {'amount': 2}) == bundle
  after = (bundle / 'Warm.ttl').read_text()
  assert after == before.replace('1.0', '2.0')
  assert [p.name for p in tmp_path.iterdir()] == [bundle.name]


@pytest.mark.parametrize('kind', ['foreign', 'empty', 'file', 'dangling'])
def test_nothing_else_is_replaced(tmp_path, kind):
  path = tmp_path / 'Test_gain_Warm.preset.lv2'
  if kind == 'file':
    path.write_text('mine')
  elif kind == 'dangling':
    path.symlink_to(tmp_path / 'none')
  else:
    path.mkdir()
    if kind == 'foreign':
      (path / 'manifest.ttl').write_text('# mine')
  with pytest.raises(FileExistsError, match='Choose another'):
    lv2.write_preset(tmp_path, GAIN, 'Warm', {'amount': 1})
  assert [p.name for p in tmp_path.iterdir()] == [path.name]
  assert kind != 'foreign' or len(list(path.iterdir())) == 1


@pytest.mark.parametrize(
  'label, values, error',
  [
    ('Warm', {'amount': np.nan}, ValueError),
    ('Warm', {'amount': np.inf}, ValueError),
    ('Warm', {'amount': 5}, ValueError),
    ('Warm', {'amuont': 1}, KeyError),
    ('Warm', {'report': 1}, KeyError),
    ('Warm', {}, ValueError),
    (' ', {'amount': 1}, ValueError),
    ('a\nb', {'amount': 1}, ValueError),
    ('a\0b', {'amount': 1}, ValueError),
    ('a\ud800b', {'amount': 1}, ValueError),
  ],
)
def test_bad_presets_are_not_written(tmp_path, label, values, error):
  with pytest.raises(error):
    lv2.write_preset(tmp_path / 'new', GAIN, label, values)
  assert not (tmp_path / 'new').exists()


# ---------------------------------------------------------- Odd bundles ----
def test_odd_presets(tmp_path):
  good = add_bundle(tmp_path, 'good', f'rdfs:label "Good" ; {port(2.5)} .')
  high = add_bundle(tmp_path, 'high', f'rdfs:label "High" ; {port("1e9")} .')
  true = add_bundle(tmp_path, 'true', f'rdfs:label "True" ; {port("true")} .')
  nan = add_bundle(
    tmp_path,
    'nan',
    'rdfs:label "NaN" ; '
    + port('"NaN"^^<http://www.w3.org/2001/XMLSchema#float>')
    + ' .',
  )
  word = add_bundle(tmp_path, 'word', f'rdfs:label "W" ; {port(chr(34) * 2)} .')
  more = add_bundle(
    tmp_path,
    'more',
    f'rdfs:label "More" ; {port(2)} ; {port(3, "old")} ; {port(4, "report")} ; '
    'lv2:port [ pset:value 1 ] ; state:state [ <urn:a> 1 ] .',
  )
  nameless = add_bundle(tmp_path, 'nameless', f'{port(3)} .')
  read = read_in_new_process(tmp_path, SQUARE)
  labels = {uri: label for uri, label, _ in read['presets']}
  assert labels[nameless] == 'nameless'
  assert read['loaded'] == {
    good: {'amount': 2.5},
    high: {'amount': 10.0},
    true: {'amount': 1.0},
    more: {'amount': 2.0},
    nameless: {'amount': 3.0},
  }
  assert list(read['errors']) == [nan, word]
  assert all('amount=' in message for message in read['errors'].values())
  clipped, unknown, state = read['log']
  assert 'amount=1000000000.0, out of its range; 10.0' in clipped
  assert 'more than port values' in state
  assert '(none), old, report' in unknown


def test_label_of_two_presets_asks_for_the_uri(tmp_path):
  one = add_bundle(tmp_path, 'one', f'rdfs:label "Same" ; {port(1)} .')
  two = add_bundle(tmp_path, 'two', f'rdfs:label "Same" ; {port(2)} .')
  read = read_in_new_process(tmp_path, SQUARE, 'Same', two)
  assert read['loaded'] == {two: {'amount': 2.0}}
  assert f'{one}, {two}' in read['errors']['Same']


def test_files_that_the_plugin_names_too_are_read_once(tmp_path):
  name = add_bundle(
    tmp_path,
    'shared',
    f'rdfs:label "Shared" ; {port(2)} .',
    manifest=f'<{SQUARE}> rdfs:seeAlso <preset.ttl> .',
  )
  read = read_in_new_process(tmp_path, SQUARE)
  assert read['loaded'] == {name: {'amount': 2.0}}
  assert not read['log']


@pytest.mark.parametrize(
  'file, text, error',
  [
    # What was read up to the fault must not pass for the whole.
    ('preset.ttl', f'rdfs:label "B" ; {port(2)} ; lv2:port [ oops', VALID),
    ('preset.ttl', None, VALID),
    ('manifest.ttl', '<oops', 'is no preset'),
    ('manifest.ttl', None, 'is no preset'),
  ],
)
def test_broken_bundles_do_not_hide_others(tmp_path, file, text, error):
  before = add_bundle(tmp_path, 'a', f'rdfs:label "A" ; {port(1)} .')
  after = add_bundle(tmp_path, 'c', f'rdfs:label "C" ; {port(3)} .')
  broken = add_bundle(tmp_path, 'b', f'rdfs:label "B" ; {port(2)} .')
  path = tmp_path / 'b.lv2' / file
  if text is None:
    path.unlink()
  else:
    path.write_text(f'{PREFIXES}<{broken}> {text}')
  read = read_in_new_process(tmp_path, SQUARE, before, after, broken, 'A', 'C')
  assert [uri for uri, _, _ in read['presets']] == [before, after]
  assert read['loaded'] == {
    before: {'amount': 1.0},
    after: {'amount': 3.0},
    'A': {'amount': 1.0},
    'C': {'amount': 3.0},
  }
  assert error in read['errors'][broken]
  if error == VALID:
    assert 'Left out' in read['log'][0] and 'b.lv2' in read['log'][0]
