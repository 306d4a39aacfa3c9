"""What a stranger's file may do: nothing but to be read.

Each group of tests begins with a line on the kind of fault that it stands for.
"""

import http.server
import io
import itertools
import json
import pathlib
import resource
import tarfile
import threading
import zipfile

import gin
import numpy as np
import pytest
import soundfile
import tensorflow as tf

from dafx import neural
from dafx.audio import disk, files, json_files
from dafx.neural import nam
from dafx.neural.nam import plain, wavenet
from dafx.training import data, descriptions, gin_files, gin_text, inference
from dafx.training.data_preparation import (
  archives,
  cambridge,
  download,
  pairs,
)
from dafx.training.data_preparation import files as prepared

HARMLESS = """\
# Written by dafx.
import ddsp
import dafx.effects
import tensorflow as tf
from dafx.training import models

macro = [1, {'a': @effects.Gain()}]
effects.Gain.trainable = ['gain_db']
make_model.model = @models.EffectModel()
"""


@pytest.fixture(autouse=True)
def _without_gin():
  gin.clear_config()
  yield
  gin.clear_config()


def run_of(tmp_path, text):
  folder = tmp_path / 'run'
  folder.mkdir(exist_ok=True)
  (folder / 'operative_config-0.gin').write_text(text)
  return folder


# -------- A config is read with a list of what is allowed. --------------------
WRONG = [
  ('import os\nos.system.command = "true"', 1, 'imports os'),
  ('\nimport os.path as dafx', 2, 'imports os.path'),
  (
    'from __gin__ import dynamic_registration',
    1,
    'imports __gin__.dynamic_registration',
  ),
  ('from subprocess import run', 1, 'imports subprocess.run'),
  ('import dafxtra', 1, 'imports dafxtra'),
  ('import gin.config', 1, 'imports gin.config'),
  ("include '/etc/passwd'", 1, 'includes /etc/passwd'),
  ('make_model.model = @dafx.training.train()', 1, 'calls dafx.training.train'),
  ('a = [{1: (0, @x/evaluate)}]', 1, 'calls x/evaluate'),
  ('\n\na.b:\n  c = 1\n  d = @train()', 5, 'calls train'),
]


@pytest.mark.parametrize('text, line, said', WRONG, ids=[w[2] for w in WRONG])
def test_what_a_run_may_not_do_is_refused_with_the_line(
  tmp_path, text, line, said
):
  folder = run_of(tmp_path, text)
  place = f'operative_config-0.gin, line {line}: the config {said}'
  for read in (
    gin_files.check_operative_config,
    gin_files.parse_operative_config,
    inference.load_model,
    inference.load_setting,
  ):
    with pytest.raises(ValueError, match='.*' + place.replace('.', r'\.')):
      read(folder)


def test_what_makes_models_is_allowed(tmp_path):
  folder = run_of(tmp_path, HARMLESS)
  bound = gin_files.check_operative_config(folder)
  assert bound['Gain', 'trainable'] == ['gain_db']
  assert isinstance(bound['make_model', 'model'], gin_text.Reference)


def test_a_module_that_the_user_names_is_allowed(tmp_path, monkeypatch):
  """The two remedies of the message."""
  (tmp_path / 'field_module.py').write_text(
    'import gin\n@gin.register\ndef of_field(x=1):\n  return x\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  folder = run_of(tmp_path, 'import field_module\nof_field.x = 3\n')
  with pytest.raises(ValueError, match='--gin_module=MODULE'):
    gin_files.parse_operative_config(folder)
  for kwargs in ({'modules': ['field_module']}, {'trust': True}):
    gin.clear_config()
    gin_files.parse_operative_config(folder, **kwargs)
    assert gin.query_parameter('of_field.x') == 3
  # One name does not stand for others that begin so.
  with pytest.raises(ValueError, match='imports field_module'):
    gin_files.parse_operative_config(folder, ['field'])


def test_a_config_is_bounded_and_a_file(tmp_path):
  folder = run_of(tmp_path, '')
  with open(folder / 'operative_config-0.gin', 'wb') as file:
    file.truncate(2**24 + 1)
  with pytest.raises(ValueError, match='has 16777217 bytes'):
    gin_files.parse_operative_config(folder)
  (folder / 'operative_config-7.gin').mkdir()
  assert gin_files.newest_operative_config(folder) == pathlib.Path(
    folder / 'operative_config-0.gin'
  )


# -------- A name in a file leads to no place outside of its folder. -----------
OUTSIDE = ['../x', 'a/../../x', '/x', '\\x', '', 'a\0b', 300 * 'x', 40 * 'a/']


@pytest.mark.parametrize('name', OUTSIDE)
def test_names_that_lead_outside_are_known(name, tmp_path):
  assert not disk.is_safe_name(name)
  with pytest.raises(ValueError, match='no name of a file inside of'):
    disk.inside(tmp_path, name)


def test_names_inside_are_taken(tmp_path):
  for name in ('x', 'a/b.c', 'ä b', '..x', 'a/..b', './x'):
    assert disk.inside(tmp_path, name) == tmp_path / name
  (tmp_path / 'in').mkdir()
  (tmp_path / 'in/link').symlink_to(tmp_path)
  with pytest.raises(ValueError, match='outside of .*, by a link'):
    disk.inside(tmp_path / 'in', 'link/x')


def make_prepared(folder, **entries):
  """A folder that dafx_prepare made, with a manifest that says more."""
  content = {'settings': {}, 'pairs': {}, 'left_out': {}, **entries}
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'manifest.json').write_text(json.dumps(content))
  return folder


NOTE = {'split': 'train', 'input': {'sha256': ''}, 'target': {'sha256': ''}}
WRONG_MANIFESTS = [
  ({'pairs': {f'train/{name}': NOTE}}, 'a key of $.pairs is')
  for name in OUTSIDE
]
WRONG_MANIFESTS += [
  ({'pairs': {'x': NOTE}}, 'a key of $.pairs'),
  ({'pairs': {'../x': NOTE}}, 'a key of $.pairs'),
  ({'pairs': {'valid/x': NOTE}}, '.split is'),
  ({'pairs': {'train/x': None}}, "['train/x'] is null"),
  ({'pairs': {'train/x': {**NOTE, 'input': []}}}, '.input is []'),
  ({'pairs': []}, '$.pairs is []'),
  ({'unfinished': ['train/../../x']}, '$.unfinished[0] is'),
  ({'unfinished': 3}, '$.unfinished is 3'),
  ({'settings': 'x'}, '$.settings is'),
  ({'left_out': 3}, '$.left_out is 3'),
]


@pytest.mark.parametrize('entries, said', WRONG_MANIFESTS)
def test_a_manifest_deletes_nothing_outside(tmp_path, entries, said):
  mine = tmp_path / 'x.flac'
  soundfile.write(mine, np.zeros(100), 8000)
  folder = make_prepared(tmp_path / 'data' / 'set', **entries)
  with pytest.raises(ValueError) as error:
    prepared.Manifest(folder)
  assert str(error.value).startswith(f'{folder}/manifest.json: ')
  assert said in str(error.value)
  assert 'Choose another output_dir' in str(error.value)
  assert mine.exists()
  prepared.Manifest(tmp_path / 'another')  # the remedy


@pytest.mark.parametrize('source', [None, 3, 'x', [], {'input': 3}, {'a': [3]}])
def test_sources_of_pairs_may_be_anything(source):
  assert pairs._source_paths({'source': source}) == []


def test_links_in_prepared_data_delete_nothing_outside(tmp_path):
  mine = tmp_path / 'mine'
  mine.mkdir()
  soundfile.write(mine / 'x.flac', np.zeros(100), 8000)
  folder = make_prepared(tmp_path / 'set', pairs={'train/x': NOTE})
  (folder / 'train').mkdir()
  for side in ('input', 'target', 'labels'):
    (folder / 'train' / side).symlink_to(mine)
  with pytest.raises(ValueError, match='by a link.*Nothing is .* deleted'):
    prepared.Manifest(folder).drop(['train/x'])
  assert (mine / 'x.flac').exists()


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(tmp_path):
  mine = tmp_path / 'mine'
  mine.write_text('mine')
  (tmp_path / '.a.partial.json').symlink_to(mine)
  prepared.write_json(tmp_path / 'a.json', {})
  assert mine.read_text() == 'mine'
  assert (tmp_path / 'a.json').read_text() == '{}\n'


def test_files_that_say_what_was_done_are_found_out_anew(tmp_path, caplog):
  """Those beside the manifest: alignments, downloads, what was unpacked."""
  for text in ('', '[', '3', '[]', '\udcff', '{"a": ' * 5000):
    path = tmp_path / 'state.json'
    path.write_text(text, errors='surrogateescape')
    assert prepared.read_state(path) == {}
    assert 'found out anew' in caplog.text
    caplog.clear()
  source = {'input': ['x', 1, 2]}
  whole = dict(
    source=source,
    is_aligned=False,
    sample_rate=8000,
    clipped_samples={'input': 0, 'target': 0},
    lag_samples=0.0,
    confidence=1.0,
    polarity=1,
    first_sample=0,
    last_sample=9,
  )
  assert pairs._is_of(whole, source, False)
  for key in whole:
    for value in (None, 'x', [], float('nan')):
      assert not pairs._is_of({**whole, key: value}, source, False)
  assert not pairs._is_of([], source, False)


@pytest.mark.parametrize('name', ['../../x', '/x', ''])
def test_names_of_records_lead_nowhere(tmp_path, name):
  """An evaluation writes audio by the names of its items."""
  for side in ('input', 'target'):
    (tmp_path / 'train' / side).mkdir(parents=True)
    soundfile.write(tmp_path / f'train/{side}/a.wav', 0.1 * np.ones(900), 8000)
  path = tmp_path / 'train.tfrecord'
  data.write_tfrecord(data.find_pairs(tmp_path / 'train'), path)
  record = next(iter(tf.data.TFRecordDataset(str(path)))).numpy()
  example = tf.train.Example.FromString(record)
  example.features.feature['name'].bytes_list.value[:] = [name.encode()]
  with tf.io.TFRecordWriter(str(path)) as writer:
    writer.write(example.SerializeToString())
  with pytest.raises(ValueError, match=r'train\.tfrecord is damaged.*no name'):
    data.ShardProvider(str(tmp_path), 'train', 8000, 400, 1)


def test_names_of_a_page_lead_nowhere():
  for artist in ('../..', '/etc', 'a\0', '..'):
    name = cambridge._file_name(artist, '../../x')
    assert disk.is_safe_name(f'input/{name}.wav') and '/' not in name


@pytest.mark.parametrize(
  'text',
  ['', '[]', '3', '{"depends": 3}', '{"a": 3}', '{"depends": {}, "ports": []}']
  + ['{"depends": {}, "ports": {"a": {"b": "c"}}, "versions": {}}', 9999 * '['],
)
def test_a_description_that_is_none_is_refused(text):
  with pytest.raises(ValueError, match='The description of a checkpoint'):
    descriptions.Description.from_json(text)


# -------- What comes from the network or an archive has an end. ---------------
class Endless(http.server.BaseHTTPRequestHandler):
  """A server whose bodies do not end: until the other side has enough."""

  protocol_version = 'HTTP/1.0'  # whose bodies end with the connection

  def do_GET(self):
    self.send_response(200)
    if self.path == '/said':
      self.send_header('Content-Length', str(10**12))
    self.end_headers()
    try:
      for _ in range(4000):
        self.wfile.write(bytes(2**15))
    except OSError:
      pass
    self.server.gone.set()

  def log_message(self, *args):
    pass


@pytest.fixture
def endless():
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Endless)
  server.gone = threading.Event()
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  yield f'http://127.0.0.1:{server.server_port}'
  assert server.gone.wait(10)  # the connection was closed
  server.shutdown()
  server.server_close()
  thread.join()


@pytest.mark.parametrize('checksum', [None, 'md5:' + 32 * '0'])
@pytest.mark.parametrize('path', ['/said', '/unsaid'])
def test_a_download_ends_where_it_should(endless, tmp_path, path, checksum):
  remote = download.RemoteFile(endless + path, 'x', 100000, checksum)
  with pytest.raises(ValueError, match='100000'):
    download.Downloads(tmp_path).fetch(remote)
  assert not list(tmp_path.glob('*x*'))


def test_a_download_of_unknown_size_ends(endless, tmp_path, monkeypatch):
  monkeypatch.setattr(download, '_MOST_FILE_BYTES', 10**6)
  with pytest.raises(ValueError, match='more than the 1000000 bytes'):
    download.Downloads(tmp_path).fetch(
      download.RemoteFile(endless + '/unsaid', 'x')
    )
  assert not list(tmp_path.glob('*x*'))


def test_a_page_ends(endless, monkeypatch):
  monkeypatch.setattr(download, '_MOST_PAGE_BYTES', 10**6)
  with pytest.raises(ValueError, match='more than the 1000000 bytes'):
    download.read_page(endless + '/unsaid')


def test_a_download_that_is_too_slow_ends(endless, tmp_path, monkeypatch):
  minutes = itertools.count(step=600.0)
  monkeypatch.setattr(download, '_clock', lambda: next(minutes))
  remote = download.RemoteFile(endless + '/unsaid', 'x', 10**9)
  with pytest.raises(OSError, match='too slow.*goes on from there'):
    download.Downloads(tmp_path).fetch(remote)
  assert (tmp_path / '.x.partial').exists()


def zipped(**members):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return buffer.getvalue()


def tarred(mode='w:gz', **members):
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode=mode) as archive:
    for name, content in members.items():
      info = tarfile.TarInfo(name)
      info.size = len(content)
      archive.addfile(info, io.BytesIO(content))
  return buffer.getvalue()


def unpack(tmp_path, content, wanted=lambda name: True):
  archive = tmp_path / 'archive'
  archive.write_bytes(content)
  return archives.unpack(archive, tmp_path / 'out', wanted)


@pytest.mark.parametrize('pack', [zipped, tarred])
@pytest.mark.parametrize('is_wanted', [True, False])
def test_an_archive_holds_no_more_than_it_may(
  tmp_path, monkeypatch, pack, is_wanted
):
  monkeypatch.setattr(archives, '_MOST_BYTES', 2**20)
  bomb = pack(a=b'fine', b=bytes(2**25), c=b'last')
  if pack is zipped and not is_wanted:
    assert unpack(tmp_path, bomb, lambda name: name != 'b')  # is not read
    return
  with pytest.raises(ValueError, match='GB'):
    unpack(tmp_path, bomb, lambda name: is_wanted or name != 'b')
  n_bytes = sum(p.stat().st_size for p in (tmp_path / 'out').rglob('*'))
  assert n_bytes < 2**20


def test_an_archive_has_no_more_files_than_it_may(tmp_path, monkeypatch):
  monkeypatch.setattr(archives, '_MOST_MEMBERS', 10)
  with pytest.raises(ValueError, match='more than 10 files'):
    unpack(tmp_path, zipped(**{f'n{i}': b'' for i in range(11)}))


def test_headers_of_an_archive_are_bounded(tmp_path):
  info = tarfile.TarInfo('x')
  info.type, info.size = tarfile.XHDTYPE, 2**33
  with pytest.raises(ValueError, match='a header of it has 8589934592 bytes'):
    unpack(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


def test_a_locked_archive_is_named(tmp_path):
  content = bytearray(zipped(a=b'content'))
  for magic, place in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
    content[content.index(magic) + place] |= 1
  with pytest.raises(ValueError, match='password'):
    unpack(tmp_path, bytes(content))


@pytest.mark.parametrize('mode', ['w:', 'w:gz', 'w:bz2', 'w:xz'])
def test_links_of_an_archive_are_left(tmp_path, mode):
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode=mode) as archive:
    link = tarfile.TarInfo('up')
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    archive.addfile(link)
    for name in ('up/x', 'good'):
      info = tarfile.TarInfo(name)
      info.size = 4
      archive.addfile(info, io.BytesIO(b'evil'))
  unpack(tmp_path, buffer.getvalue())
  assert not (tmp_path / 'x').exists()
  assert (tmp_path / 'out/good').read_bytes() == b'evil'


# -------- A network in a file is looked at before it is made. -----------------
@pytest.fixture(scope='module')
def networks(tmp_path_factory):
  """Contents of a .nam file of a WaveNet and of an LSTM."""
  path = tmp_path_factory.mktemp('nam') / 'a.nam'
  found = []
  arrays = [neural.LayerArray(2, 3, (1, 2)), neural.LayerArray(3, 1, (4,))]
  for network in (
    neural.WaveNet(arrays=arrays),
    neural.Rnn(n_units=2, activation='linear'),
  ):
    nam.write(path, network, 48000, measures=False)
    found.append(json.loads(path.read_text()))
  return found


NAN, INF = float('nan'), float('inf')
WAVENET, LSTM = 0, 1
WRONG_NETWORKS = [
  (WAVENET, ['weights', 3], NAN, '$.weights[3] is nan'),
  (LSTM, ['weights', 0], -INF, '$.weights[0] is -inf'),
  (WAVENET, ['weights', 5], 1e39, '$.weights[5] is 1e+39'),
  (WAVENET, ['weights', 5], None, '$.weights[5] is null'),
  (WAVENET, ['weights', 5], '1', "$.weights[5] is '1'"),
  (WAVENET, ['weights', 5], True, '$.weights[5] is true'),
  (WAVENET, ['weights'], None, '$.weights is null'),
  (WAVENET, ['weights'], {}, '$.weights is {}'),
  (WAVENET, ['weights'], [], 'as the config asks for; there are 0'),
  (LSTM, ['weights'], [1.0], 'as the config asks for; there are 1'),
  (WAVENET, ['sample_rate'], -1, '$.sample_rate is -1'),
  (WAVENET, ['sample_rate'], NAN, '$.sample_rate is nan'),
  (WAVENET, ['sample_rate'], '48000', '$.sample_rate is'),
  (WAVENET, ['version'], 5, '$.version is 5'),
  (WAVENET, ['version'], '0.5.x' + 5000 * '9', None),  # the third is not read
  (WAVENET, ['version'], '9' * 5000, '$.version is'),
  (WAVENET, ['version'], '', '$.version is'),
  (WAVENET, ['architecture'], [], '$.architecture is []'),
  (WAVENET, ['config'], None, '$.config is null'),
  (WAVENET, ['config'], [1], '$.config is [1]'),
  (WAVENET, ['config', 'layers'], None, '$.config.layers is null'),
  (WAVENET, ['config', 'layers'], [], '$.config.layers is []'),
  (WAVENET, ['config', 'layers', 0], None, '$.config.layers[0] is null'),
  (WAVENET, ['config', 'layers', 0], [], '$.config.layers[0] is []'),
]
for key, values in {
  'channels': (0, -1, 2.0, True, None, '2', 10**30, 100000),
  'kernel_size': (0, -1, None, 10**9, 10**6),
  'dilations': ([], None, 3, {}, [0], [-1], [10**9], 10**6 * [1]),
  'head_size': (0, None, [], 10**6),
  'gated': (None, 0, 'true'),
  'head_bias': (None, 1),
  'activation': ('GELU', [], {}),
  'input_size': (2, '1'),
  'condition_size': (2, [1]),
}.items():
  for value in values:
    place = ['config', 'layers', 0, key]
    WRONG_NETWORKS.append((WAVENET, place, value, '$.'))
for key in ('hidden_size', 'num_layers', 'input_size'):
  for value in (0, -1, 2.0, None, '2', 10**6, 10**18, []):
    WRONG_NETWORKS.append((LSTM, ['config', key], value, '$.'))


@pytest.mark.parametrize('which, place, value, said', WRONG_NETWORKS)
def test_networks_that_cannot_be_are_refused_with_their_place(
  networks, tmp_path, monkeypatch, which, place, value, said
):
  content = json.loads(json.dumps(networks[which]))
  *parents, last = place
  inner = content
  for key in parents:
    inner = inner[key]
  inner[last] = value
  path = tmp_path / 'a.nam'
  path.write_text(json.dumps(content))
  if said is None:
    nam.read(path)
    return
  # Not one layer is made of what is refused: that takes the time.
  monkeypatch.setattr(wavenet, 'WaveNet', None)
  monkeypatch.setattr(plain, 'Rnn', None)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with pytest.raises(files.FileError) as error:
    nam.read(path)
  assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100e3
  assert str(error.value).startswith(f'{path}: $')
  assert said in str(error.value)
  assert len(str(error.value)) < 500


def test_what_a_network_lacks_is_said(networks, tmp_path):
  for network in networks:
    for key in ('version', 'architecture', 'config', 'weights'):
      less = {k: v for k, v in network.items() if k != key}
      (tmp_path / 'a.nam').write_text(json.dumps(less))
      with pytest.raises(files.FileError, match=rf'a\.nam: \$ lacks .{key}'):
        nam.read(tmp_path / 'a.nam')


@pytest.mark.parametrize(
  'content',
  [b'', b'RIFF', b'\xff\xfe', b'[]', b'3', b'null', 10**5 * b'[', b'{"a":']
  + [b'{"version":' + 10**4 * b'9' + b'}'],
)
def test_what_is_no_network_is_refused(tmp_path, content):
  path = tmp_path / 'a.nam'
  path.write_bytes(content)
  with pytest.raises(files.FileError, match=r'a\.nam'):
    nam.read(path)


def test_files_of_json_are_bounded_and_files(tmp_path):
  with open(tmp_path / 'a.nam', 'wb') as file:
    file.truncate(2**40)
  with pytest.raises(files.FileError, match='1099511627776 bytes; 16777216'):
    nam.read(tmp_path / 'a.nam')
  with pytest.raises(files.FileError, match='is no file'):
    json_files.read(tmp_path)
  with pytest.raises(FileNotFoundError):
    nam.read(tmp_path / 'none.nam')
