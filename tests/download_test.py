"""Downloads, archives, the index of the multitracks: against a local server."""

import errno
import hashlib
import http.server
import io
import json
import pathlib
import re
import tarfile
import threading
import zipfile

import numpy as np
import pytest
import soundfile
from absl import flags

from dafx.audio import disk
from dafx.commands import dafx_prepare
from dafx.training import data
from dafx.training.data_preparation import (
  archives,
  cambridge,
  download,
  files,
  matching,
  published,
)

RATE = 11025


class Server:
  """A server of a few files, with what can go wrong.

  Attributes:
    files: Contents by path.
    requests: (method, path, Range header) of what was asked.
    break_after: Bytes after which the connection ends, by path; once.
    with_ranges: Whether parts of files are given.
    with_head: Whether HEAD is answered.
  """

  def __init__(self):
    self.files, self.requests, self.break_after = {}, [], {}
    self.with_ranges = self.with_head = True
    outer = self

    class Handler(http.server.BaseHTTPRequestHandler):
      def do_HEAD(self):
        self.answer(with_body=False)

      def do_GET(self):
        self.answer(with_body=True)

      def answer(self, with_body):
        wanted = self.headers.get('Range')
        outer.requests.append((self.command, self.path, wanted))
        if not with_body and not outer.with_head:
          self.send_error(405)
          return
        content = outer.files.get(self.path)
        if content is None:
          self.send_error(404)
          return
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        start = 0
        if wanted and outer.with_ranges:
          if self.headers.get('If-Range', tag) == tag:
            start = int(re.fullmatch(r'bytes=(\d+)-', wanted)[1])
            if start >= len(content):
              self.send_error(416)
              return
        self.send_response(206 if start else 200)
        self.send_header('ETag', tag)
        self.send_header('Content-Length', str(len(content) - start))
        self.end_headers()
        if with_body:
          stop = outer.break_after.pop(self.path, len(content))
          self.wfile.write(content[start:stop])

      def log_message(self, *args):
        pass

    self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    self.url = f'http://127.0.0.1:{self.server.server_port}'
    self.thread = threading.Thread(
      target=self.server.serve_forever, args=(0.01,)
    )
    self.thread.start()

  def close(self):
    self.server.shutdown()
    self.server.server_close()
    self.thread.join()

  def downloads(self, path='/data.bin'):
    return [r for r in self.requests if r[0] == 'GET' and r[1] == path]

  def put_zenodo(self, record, name, content, checksum=None):
    path = f'/api/records/{record}/files/{name}/content'
    self.files[path] = content
    entry = {
      'key': name,
      'size': len(content),
      'checksum': checksum or 'md5:' + hashlib.md5(content).hexdigest(),
      'links': {'self': self.url + path},
    }
    answer = json.dumps({'id': record, 'files': [entry]}).encode()
    self.files[f'/api/records/{record}'] = answer
    return path


@pytest.fixture
def server():
  running = Server()
  yield running
  running.close()


CONTENT = bytes(range(256)) * 4096  # 1 MiB


def remote(server, content=CONTENT, with_checksum=True, path='/data.bin'):
  server.files[path] = content
  checksum = 'md5:' + hashlib.md5(content).hexdigest()
  return download.RemoteFile(
    server.url + path,
    'data.bin',
    len(content),
    checksum if with_checksum else None,
  )


# -------------------------------------------------------------- Download ----
@pytest.mark.parametrize('with_checksum', [True, False])
def test_a_file_is_downloaded_once(server, tmp_path, with_checksum):
  wanted = remote(server, with_checksum=with_checksum)
  path = download.Downloads(tmp_path).fetch(wanted)
  assert path.read_bytes() == CONTENT
  assert download.Downloads(tmp_path).fetch(wanted) == path
  assert len(server.downloads()) == 1
  known = files.read_state(tmp_path / 'downloads.json')['data.bin']
  assert known['sha256'] == hashlib.sha256(CONTENT).hexdigest()
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'data.bin',
    'downloads.json',
  ]
  # What was changed since is not taken for it.
  path.write_bytes(b'x' + CONTENT[1:])
  assert download.Downloads(tmp_path).fetch(wanted).read_bytes() == CONTENT


@pytest.mark.parametrize('with_checksum', [True, False])
def test_a_broken_download_goes_on_where_it_stopped(
  server, tmp_path, with_checksum
):
  wanted = remote(server, with_checksum=with_checksum)
  server.break_after['/data.bin'] = 700000
  downloads = download.Downloads(tmp_path)
  with pytest.raises(OSError, match=r'broke off after \d+ of 1048576 bytes'):
    downloads.fetch(wanted)
  assert not (tmp_path / 'data.bin').exists()
  missing = downloads.missing_bytes([wanted])
  assert 0 < missing < len(CONTENT)
  assert downloads.fetch(wanted).read_bytes() == CONTENT
  assert server.downloads()[1][2] == f'bytes={len(CONTENT) - missing}-'


def test_an_interrupted_check_does_not_download_again(
  server, tmp_path, monkeypatch
):
  wanted = remote(server)

  def interrupted(*args, **kwargs):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr('pooch.core.hash_matches', interrupted)
    with pytest.raises(KeyboardInterrupt):
      download.Downloads(tmp_path).fetch(wanted)
  assert not (tmp_path / 'data.bin').exists()
  path = download.Downloads(tmp_path).fetch(wanted)
  assert path.read_bytes() == CONTENT
  assert len(server.downloads()) == 1
  names = {p.name for p in tmp_path.iterdir()}
  assert names == {'data.bin', 'downloads.json'}


def test_a_server_that_gives_no_parts_begins_again(server, tmp_path):
  wanted = remote(server)
  server.break_after['/data.bin'] = 700000
  server.with_ranges = False
  for _ in range(2):
    try:
      path = download.Downloads(tmp_path).fetch(wanted)
    except OSError:
      continue
  assert path.read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_begins_again(server, tmp_path):
  server.break_after['/data.bin'] = 700000
  with pytest.raises(OSError, match='broke off'):
    download.Downloads(tmp_path).fetch(remote(server, with_checksum=False))
  new = CONTENT[::-1]
  wanted = remote(server, new, with_checksum=False)
  assert download.Downloads(tmp_path).fetch(wanted).read_bytes() == new
  # Shorter than what came of the old one.
  server.break_after['/data.bin'] = 700000
  (tmp_path / 'data.bin').unlink()
  with pytest.raises(OSError, match='broke off'):
    download.Downloads(tmp_path).fetch(wanted)
  (tmp_path / '.data.bin.version').unlink()
  wanted = remote(server, b'short', with_checksum=True)
  assert download.Downloads(tmp_path).fetch(wanted).read_bytes() == b'short'


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
  good = remote(server)
  server.files['/data.bin'] = b'?' + CONTENT[1:]
  with pytest.raises(ValueError, match='not what was published.*deleted'):
    download.Downloads(tmp_path).fetch(good)
  assert not list(tmp_path.glob('*data.bin*'))
  server.files['/data.bin'] = CONTENT
  assert download.Downloads(tmp_path).fetch(good).read_bytes() == CONTENT


def test_what_is_not_there(server, tmp_path):
  missing = download.RemoteFile(server.url + '/nothing', 'nothing')
  with pytest.raises(OSError, match='/nothing cannot be had.*404'):
    download.Downloads(tmp_path).fetch(missing)
  gone = download.RemoteFile('http://127.0.0.1:1/x', 'x')
  with pytest.raises(OSError, match='127.0.0.1:1/x cannot be had'):
    download.Downloads(tmp_path).fetch(gone)


def test_room_is_asked_for_first(server, tmp_path):
  with pytest.raises(OSError, match=r'1000000000\.0 GB in .*where .* GB are'):
    disk.check_room(tmp_path / 'not/yet', 10**18, 'All of it')
  wanted = remote(server)
  huge = download.RemoteFile(wanted.url, wanted.name, 10**17, wanted.checksum)
  with pytest.raises(OSError, match='data.bin, unpacked needs 300000000'):
    download.fetch_archive(huge, tmp_path, lambda name: True)
  assert not server.requests


def test_zenodo_says_size_and_checksum(server):
  server.put_zenodo(42, 'a.zip', b'abc')
  found = download.find_zenodo_file(42, 'a.zip', server.url)
  assert found.n_bytes == 3
  assert found.checksum == 'md5:900150983cd24fb0d6963f7d28e17f72'
  with pytest.raises(ValueError, match=r'holds a\.zip, but no b\.zip'):
    download.find_zenodo_file(42, 'b.zip', server.url)
  with pytest.raises(OSError, match='records/43 cannot be had'):
    download.find_zenodo_file(43, 'a.zip', server.url)
  for answer in (b'{}', b'<html>', b'[1]', b'{"files": [{"key": "a.zip"}]}'):
    server.files['/api/records/44'] = answer
    with pytest.raises(ValueError, match='does not answer as a record'):
      download.find_zenodo_file(44, 'a.zip', server.url)


# -------------------------------------------------------------- Archives ----
def zipped(members):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return buffer.getvalue()


def tarred(members):
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode='w:gz') as archive:
    for name, content in members.items():
      info = tarfile.TarInfo(name)
      info.size = len(content)
      archive.addfile(info, io.BytesIO(content))
  return buffer.getvalue()


PACKERS = [zipped, tarred]
NOISE = np.random.default_rng(0).bytes(200000)
MEMBERS = {
  'top/a b/ü.wav': NOISE,
  'top/a b/two.wav': NOISE[::-1],
  'top/notes.txt': b'notes',
  '__MACOSX/top/a b/._two.wav': b'rubbish',
  'top/a b/._two.wav': b'rubbish',
  '../outside.wav': b'evil',
  '/tmp/outside.wav': b'evil',
}


def is_wav(name):
  return name.endswith('.wav')


def contents(folder):
  return {
    p.relative_to(folder).as_posix(): p.read_bytes()
    for p in folder.rglob('*')
    if p.is_file() and p.suffix == '.wav'
  }


@pytest.mark.parametrize('pack', PACKERS)
def test_what_is_wanted_is_unpacked_and_nothing_outside(pack, tmp_path):
  archive = tmp_path / 'archive'
  archive.write_bytes(pack(MEMBERS))
  out = tmp_path / 'deep' / 'out'
  unpacked = archives.unpack(archive, out, is_wav)
  assert len(unpacked) == 2
  assert contents(out) == {
    name: MEMBERS[name] for name in ('top/a b/ü.wav', 'top/a b/two.wav')
  }
  assert not list(tmp_path.glob('outside*'))
  # Again: only what is missing.
  stamps = {p: p.stat().st_mtime_ns for p in unpacked}
  unpacked[0].unlink()
  assert archives.unpack(archive, out, is_wav) == unpacked
  assert unpacked[0].exists()
  assert unpacked[1].stat().st_mtime_ns == stamps[unpacked[1]]
  # Another archive: nothing of the old one is kept.
  archive.write_bytes(pack({'top/a b/ü.wav': NOISE[::-1], 'new.wav': b'new'}))
  archives.unpack(archive, out, is_wav)
  assert contents(out)['top/a b/ü.wav'] == NOISE[::-1]


@pytest.mark.parametrize('pack', PACKERS)
@pytest.mark.parametrize('how', ['cut', 'flipped', 'garbage', 'empty'])
def test_damaged_archives_are_named(pack, how, tmp_path):
  archive = tmp_path / 'archive'
  content = bytearray(pack(MEMBERS))
  if how == 'cut':
    content = content[: len(content) // 2]
  elif how == 'flipped':
    content[len(content) // 3] ^= 0xFF
  elif how == 'garbage':
    content = NOISE
  elif how == 'empty':
    content = b''
  archive.write_bytes(content)
  with pytest.raises(ValueError, match='archive is damaged.*Rename it'):
    archives.unpack(archive, tmp_path / 'out', is_wav)
  # The whole one mends it.
  archive.write_bytes(pack(MEMBERS))
  archives.unpack(archive, tmp_path / 'out', is_wav)
  assert contents(tmp_path / 'out')['top/a b/two.wav'] == NOISE[::-1]


def test_an_archive_of_something_else(tmp_path):
  archive = tmp_path / 'archive.zip'
  archive.write_bytes(zipped({'readme.txt': b'no'}))
  with pytest.raises(ValueError, match='none of the files that are wanted'):
    archives.unpack(archive, tmp_path / 'out', is_wav)


# ----------------------------------------------------------------- Index ----
def entry(artist, project, kind, preview):
  fields = f'"a": "{artist}", "p": "\'{project}\'", "pt": "{kind}"'
  link = f'"dl": ["<a href=\\"{preview}.zip\\">Zip</a>", {{"n": 3}}]'
  return f'{{"s": "x [1] {{2}}", {fields}, "pv": "{preview}",\n{link}}},\n\n'


def page(*entries):
  return (
    '<html><script>var other = [];\nvar projects = [\n\n'
    + ''.join(entries)
    + '];\nvar after = [{"a": "no", "p": "no", "pt": "Full"}];</script></html>'
  )


def test_songs_with_mix_and_master_are_found():
  text = page(
    entry('Ann &amp; Bo', 'A/B: caf\\u00e9?', 'Full', 'full 1.mp3'),
    entry('Ann &amp; Bo', 'A/B: caf\\u00e9?', 'Mstr', 'http://other/mix.wav'),
    entry('Alone', 'Only Full', 'Full', 'full2.mp3'),
    entry('Third', 'Say \\"Hi\\"', 'Excerpt', 'e.mp3'),
    entry('Third', 'Say \\"Hi\\"', 'Mstr', 'm.wav'),
    entry('Third', 'Say \\"Hi\\"', 'Full', 'f.wav'),
  )
  songs = cambridge.parse_index(text, 'http://here/dir/index.htm')
  names = [song.name for song in songs]
  assert names == ['Ann & Bo - A-B- café', 'Third - Say -Hi']
  assert songs[0].input_url == 'http://other/mix.wav'
  assert songs[0].target_url == 'http://here/dir/full 1.mp3'


def test_pages_without_songs():
  with pytest.raises(ValueError, match='no list of projects.*browser'):
    cambridge.parse_index('<html>Just a moment...</html>', 'http://here')
  with pytest.raises(ValueError, match='lists 1 songs, none of which'):
    cambridge.parse_index(page(entry('A', 'B', 'Full', 'x')), 'http://here')


# ------------------------------------------------------------------- All ----
def sound(seed, seconds=0.6, n_channels=1):
  """Notes and noise, [n_samples, n_channels]."""
  rng = np.random.default_rng(seed)
  t = np.arange(int(seconds * RATE)) / RATE
  notes = sum(
    np.sin(2 * np.pi * 220 * 2 ** (k / 12) * t) for k in rng.integers(0, 36, 4)
  )
  noise = rng.standard_normal([len(t), n_channels])
  return 0.05 * notes[:, np.newaxis] + 0.05 * noise


def wav(audio):
  buffer = io.BytesIO()
  soundfile.write(buffer, audio, RATE, 'PCM_16', format='WAV')
  return buffer.getvalue()


def late(audio, samples):
  return np.concatenate([np.zeros([samples, audio.shape[1]]), audio])


def command(monkeypatch, task, source='download', **changes):
  """Runs dafx_prepare with flags."""
  values = flags.FlagValues()
  dafx_prepare._define_flags(values)
  values(['dafx_prepare'])
  changes = {'source': source, 'sample_rate': 8000, **changes}
  for name, value in changes.items():
    values[name].value = value
  monkeypatch.setattr(dafx_prepare, 'FLAGS', values)
  dafx_prepare.main(['dafx_prepare', task])


def put_distortion(server, n_pairs=12, checksum=None):
  members = {'AudioMDPI/6176ChannelStrip/readme.txt': b'x'}
  for i in range(n_pairs):
    audio = sound(i)
    for folder, side in (
      ('dry', audio),
      ('preamp', np.tanh(2 * late(audio, 30 + i))),
      ('limiter', audio),
    ):
      name = f'AudioMDPI/6176ChannelStrip/{folder}/gtr {i}_{folder}.wav'
      members[name] = wav(side)
  members['AudioMDPI/LA2A/dry/other.wav'] = b'not unpacked'
  content = zipped(members)
  return server.put_zenodo(3562442, 'AudioMDPI.zip', content, checksum)


def splits(folder):
  return {
    split: {p.name for p in data.find_pairs(folder / split)}
    for split in ('train', 'valid', 'test')
  }


def test_distortion_from_download_to_records(
  server, tmp_path, monkeypatch, capsys
):
  path = put_distortion(server)
  server.break_after[path] = 50000
  where = dict(output_dir=str(tmp_path), zenodo_url=server.url, tfrecord=True)
  with pytest.raises(OSError, match='broke off'):
    command(monkeypatch, 'distortion', **where)
  command(monkeypatch, 'distortion', until='download', **where)
  assert not (tmp_path / 'train').exists()
  command(monkeypatch, 'distortion', until='align', **where)
  assert (tmp_path / 'alignments.json').exists()
  assert not (tmp_path / 'train').exists()
  command(monkeypatch, 'distortion', **where)
  assert str(tmp_path) in capsys.readouterr().out
  found = splits(tmp_path)
  names = {f'gtr {i}_dry' for i in range(12)}
  assert set.union(*found.values()) == names
  assert {s: len(n) for s, n in found.items()} == {
    'train': 8,
    'valid': 2,
    'test': 2,
  }
  for note in files.Manifest(tmp_path).pairs.values():
    assert note['matched_by'] == 'order' and note['polarity'] == 1
    number = int(re.search(r'gtr (\d+)', note['source']['input'][0])[1])
    assert abs(note['lag_samples'] - 30 - number) < 0.1
  rates = {pair.sample_rate for pair in data.find_pairs(tmp_path / 'test')}
  assert rates == {RATE}
  # Given again, the command does nothing.
  asked = len(server.downloads(path))
  stamps = {
    p: p.stat().st_mtime_ns
    for p in tmp_path.rglob('*')
    if p.suffix in ('.flac', '.wav', '.zip', '.tfrecord')
  }
  assert any(p.suffix == '.tfrecord' for p in stamps)
  command(monkeypatch, 'distortion', **where)
  assert len(server.downloads(path)) == asked
  assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


def test_nonspeech_is_split_by_speaker(server, tmp_path, monkeypatch):
  members = {'daps/._junk.wav': b'x', 'daps/supplementary/x.wav': b'x'}
  for i, speaker in enumerate(('f1', 'f2', 'm10', 'f9', 'm1')):
    name = f'{speaker}_script1'
    audio = sound(i)
    members[f'daps/cleanraw/{name}_cleanraw.wav'] = wav(audio)
    members[f'daps/cleanraw/._{name}_cleanraw.wav'] = b'rubbish'
    other = sound(99) if speaker == 'm1' else 0.7 * audio
    members[f'daps/clean/{name}_clean.wav'] = wav(other)
    members[f'daps/ipad/{name}_ipad.wav'] = b'not unpacked'
  server.put_zenodo(4660670, 'daps.tar.gz', tarred(members))
  command(
    monkeypatch,
    'nonspeech',
    output_dir=str(tmp_path / 'out'),
    download_dir=str(tmp_path / 'raw'),
    zenodo_url=server.url,
  )
  assert splits(tmp_path / 'out') == {
    'train': {'f1_script1', 'f2_script1'},
    'valid': {'m10_script1'},
    'test': {'f9_script1'},
  }
  manifest = files.Manifest(tmp_path / 'out')
  assert 'do not sound alike' in manifest.left_out['m1_script1']
  assert (tmp_path / 'raw/nonspeech/daps.tar.gz').exists()
  assert not list((tmp_path / 'raw').rglob('*ipad*'))


def candidates(*names):
  folder = pathlib.Path('set')
  return [
    matching.Candidate(n, folder / f'x/{n}.wav', folder / f'y/{n}.wav')
    for n in names
  ]


def test_a_split_needs_speakers():
  def split_of(task, *names):
    return published.split_of(task, candidates(*names))

  with pytest.raises(ValueError, match="'talk' does not begin with a speaker"):
    split_of('nonspeech', 'f1_a', 'talk')
  assert split_of('nonspeech', 'f1_a')('f10_b') == 'valid'
  assert split_of('mastering', 'f1_a') is None


def test_distortion_is_split_as_published():
  # scikit-learn's ShuffleSplit: a permutation, of which the first are taken.
  names = np.array([f'take {i:03}' for i in range(57)])
  order = np.random.RandomState(0).permutation(57)
  rest = names[order[6:]]  # a tenth, rounded up
  valid = rest[np.random.RandomState(0).permutation(51)[:6]]  # a ninth
  found = candidates(*np.random.default_rng(1).permutation(names))
  split_of = published.split_of('distortion', found)
  assert {n for n in names if split_of(n) == 'test'} == set(names[order[:6]])
  assert {n for n in names if split_of(n) == 'valid'} == set(valid)
  assert {split_of(n) for n in rest} == {'train', 'valid'}


def test_mastering_from_the_index(server, tmp_path, monkeypatch):
  entries = []
  for i in range(5):
    mix = sound(i, n_channels=2)
    server.files[f'/s{i}_Unmastered.wav'] = wav(mix)
    server.files[f'/s{i}_Full.wav'] = wav(np.tanh(3 * late(mix, 200)))
    for kind, name in (('Mstr', 'Unmastered'), ('Full', 'Full')):
      entries.append(entry('Béla', f'Song {i}', kind, f's{i}_{name}.wav'))
  server.files['/s3_Full.wav'] = b'<html>Not for you</html>' * 9
  del server.files['/s4_Unmastered.wav']
  index = page(*entries).encode()
  server.files['/index.htm'] = index
  out = tmp_path / 'out'
  where = dict(
    output_dir=str(out), cambridge_index=server.url + '/index.htm', n_channels=2
  )
  command(monkeypatch, 'mastering', **where)
  names = {f'Béla - Song {i}' for i in range(3)}
  assert set.union(*splits(out).values()) == names
  left_out = files.Manifest(out).left_out
  assert 'no audio file' in left_out['Béla - Song 3']
  assert 'cannot be had' in left_out['Béla - Song 4']
  # A saved page will do; what failed is tried again, what is there is not.
  server.files['/s3_Full.wav'] = wav(sound(3, n_channels=2))
  asked = len(server.requests)
  saved = tmp_path / 'saved page.html'
  saved.write_bytes(index.replace(b'"pv": "', f'"pv": "{server.url}/'.encode()))
  command(monkeypatch, 'mastering', **where | {'cambridge_index': str(saved)})
  assert set.union(*splits(out).values()) == names | {'Béla - Song 3'}
  again = {path for _, path, _ in server.requests[asked:]}
  assert again <= {
    '/s3_Full.wav',
    '/s3_Unmastered.wav',
    '/s4_Full.wav',
    '/s4_Unmastered.wav',
  }


def songs_of(server, count):
  songs = []
  for i in range(count):
    urls = [f'/{side} {i}.wav' for side in ('mix', 'master')]
    for url in urls:
      server.files[url.replace(' ', '%20')] = wav(sound(i))
    urls = [server.url + url.replace(' ', '%20') for url in urls]
    songs.append(cambridge.Song(f'Naïve {i}', *urls))
  return songs


def test_a_server_that_does_not_tell_sizes_gives_the_songs(server, tmp_path):
  songs = songs_of(server, 3)
  server.with_head = False
  assert cambridge.fetch_songs(songs, tmp_path) == {}
  names = sorted(p.name for p in tmp_path.rglob('*.wav'))
  assert names == sorted(2 * [f'{song.name}.wav' for song in songs])
  heads = [r for r in server.requests if r[0] == 'HEAD']
  assert len(heads) == 3  # and then no more
  asked = len(server.requests)
  assert cambridge.fetch_songs(songs, tmp_path) == {}
  assert len(server.requests) == asked


def test_reasons_are_told_when_not_one_song_can_be_had(server, tmp_path):
  songs = songs_of(server, 3)
  server.files.clear()
  with pytest.raises(OSError, match='(?s)one of 3 songs.*Naïve 0: .*404') as e:
    cambridge.fetch_songs(songs, tmp_path)
  assert 'Naïve 2: ' in str(e.value)


def test_a_full_disk_is_no_fault_of_a_song(server, tmp_path):
  songs = songs_of(server, 2)
  (tmp_path / 'target').mkdir()
  (tmp_path / 'target/.Naïve 0.wav.partial').symlink_to('/dev/full')
  with pytest.raises(OSError, match='No space left') as error:
    cambridge.fetch_songs(songs, tmp_path)
  assert error.value.errno == errno.ENOSPC


def test_a_wrong_checksum_is_an_error_of_the_command(
  server, tmp_path, monkeypatch
):
  put_distortion(server, checksum='md5:' + 32 * '0')
  with pytest.raises(ValueError, match='not what was published'):
    command(
      monkeypatch,
      'distortion',
      output_dir=str(tmp_path),
      zenodo_url=server.url,
    )
  assert not list(tmp_path.rglob('*.zip'))


def test_arguments_that_do_not_go_together(monkeypatch):
  own = {'source': None, 'input': 'x', 'target': 'y'}
  for task, changes, message in (
    ('polka', {}, 'not polka.*folder --input=DIR --target=DIR'),
    ('mastering', {'input': 'x'}, '--input is not for mastering.*folder'),
    ('all', {'split_by': 'file'}, '--split_by is not for all'),
    ('folder', own | {'target': None}, 'both.*--input=DIR --target=DIR'),
    ('folder', own | {'source': 'demo'}, '--source is not for folder'),
    ('folder', own | {'until': 'download'}, '--source=download'),
    ('mastering', {'source': 'demo', 'until': 'align'}, '--until=align'),
    ('mastering', {'source': None, 'until': 'download'}, '--until=download'),
    ('mastering', {'f_min_hz': 50.0}, '--f_min_hz is for solo: dafx_prepare s'),
    ('solo', own, '--target is not for solo: dafx_prepare solo --input=DIR'),
    ('solo', {'source': None}, 'Give recordings or the demonstration'),
    ('solo', {'source': 'demo', 'input': 'x'}, 'or the demonstration'),
    ('solo', {'source': 'debian'}, '--source=debian is not for solo'),
    (
      'solo',
      {'source': None, 'input': 'x', 'instrument': 'flute'},
      '--instrument goes with --source=demo',
    ),
  ):
    with pytest.raises(dafx_prepare.app.UsageError, match=message):
      command(monkeypatch, task, **changes)


def test_flags_of_former_versions_say_the_new_ones():
  for word in ('--source=folder', '--input_dir=x', '-input_dir'):
    with pytest.raises(ValueError, match='folder --input=DIR --target=DIR'):
      dafx_prepare.check_former(['distortion', word])
  dafx_prepare.check_former(['folder', '--input=x', '--source=demo'])


_SIDES = {'input': 'dry', 'target': 'wet'}


def own_command(monkeypatch, folder, **changes):
  """Runs dafx_prepare folder on folder/dry and folder/wet."""
  sides = {side: str(folder / name) for side, name in _SIDES.items()}
  out = str(folder / 'out')
  settings = {'source': None, 'output_dir': out, **sides, **changes}
  command(monkeypatch, 'folder', **settings)


def put_own(folder, names, ends=('', '')):
  for i, name in enumerate(names):
    for side, end in zip(_SIDES.values(), ends):
      path = folder / side / f'{name}{end}.wav'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(wav(sound(i)))


def test_own_pairs_need_no_name_of_a_task(tmp_path, monkeypatch, capsys):
  put_own(tmp_path, [f'song {i}' for i in range(6)], ('_dry', '_wet'))
  (tmp_path / 'wet/alone_wet.wav').write_bytes(wav(sound(9)))
  with pytest.raises(ValueError, match="'--target_pattern={name}_wet'"):
    own_command(monkeypatch, tmp_path)
  assert not (tmp_path / 'out').exists()
  patterns = {
    f'{side}_pattern': f'{{name}}_{name}' for side, name in _SIDES.items()
  }
  own_command(monkeypatch, tmp_path, **patterns, tfrecord=True)
  assert capsys.readouterr().out.splitlines() == [str(tmp_path / 'out')]
  found = splits(tmp_path / 'out')
  assert set.union(*found.values()) == {f'song {i}' for i in range(6)}
  assert [len(found[s]) for s in ('train', 'valid', 'test')] == [4, 1, 1]
  assert (tmp_path / 'out/train.tfrecord').exists()
  assert 'no partner' in files.Manifest(tmp_path / 'out').left_out['alone']
  # Of both sides in one folder.
  for path in (tmp_path / 'wet').iterdir():
    path.rename(tmp_path / 'dry' / path.name)
  one = {
    'target': str(tmp_path / 'dry'),
    'output_dir': str(tmp_path / 'out2'),
  }
  own_command(monkeypatch, tmp_path, **patterns, **one)
  assert splits(tmp_path / 'out2') == found


def test_own_pairs_are_split_by_speaker_if_asked(tmp_path, monkeypatch):
  put_own(tmp_path, ['f1_a', 'f10_a', 'm9_a', 'm10_a'])
  own_command(monkeypatch, tmp_path, split_by='speaker')
  assert splits(tmp_path / 'out') == {
    'train': {'f1_a'},
    'valid': {'f10_a', 'm10_a'},
    'test': {'m9_a'},
  }


def test_folders_are_looked_at_before_anything_is_written(
  tmp_path, monkeypatch
):
  put_own(tmp_path, 'abc')
  with pytest.raises(FileNotFoundError, match='--target=.*no such folder'):
    own_command(monkeypatch, tmp_path, target=str(tmp_path / 'wett'))
  with pytest.raises(ValueError, match='another --output_dir'):
    own_command(monkeypatch, tmp_path, output_dir=str(tmp_path / 'wet/out'))
  assert {p.name for p in tmp_path.iterdir()} == {'dry', 'wet'}


def test_all_tasks_get_a_folder_each(tmp_path, monkeypatch):
  done = []
  monkeypatch.setattr(dafx_prepare, 'prepare', lambda *args: done.append(args))
  command(monkeypatch, 'all', source='demo', output_dir=str(tmp_path))
  assert [(task, out.name) for task, out, _ in done] == [
    (task, task) for task in ('distortion', 'nonspeech', 'mastering')
  ]


def test_a_task_that_fails_does_not_end_the_others(
  server, tmp_path, monkeypatch, capsys
):
  put_distortion(server, checksum='md5:' + 32 * '0')
  prepared = []
  real = dafx_prepare.prepare

  def prepare(task, *args):
    prepared.append(task)
    if task != 'mastering':  # which comes last
      real(task, *args)

  monkeypatch.setattr(dafx_prepare, 'prepare', prepare)
  with pytest.raises(
    RuntimeError,
    match=r'(?s)2 tasks.*distortion: .*not what was.*nonspeech: .*404',
  ):
    command(monkeypatch, 'all', output_dir=str(tmp_path), zenodo_url=server.url)
  assert prepared == ['distortion', 'nonspeech', 'mastering']
  assert capsys.readouterr().out.splitlines() == [str(tmp_path / 'mastering')]
