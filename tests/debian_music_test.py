"""Music from packages of Debian: small ones, made here, on a local server."""

import hashlib
import io
import lzma
import pathlib
import re
import tarfile
import zipfile

import numpy as np
import pytest
import soundfile
from download_test import Server, command

from dafx.commands import dafx_prepare
from dafx.training.data_preparation import (
  deb,
  debian_music,
  debian_packages,
  files,
)

COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2001 The Team
License: GPL-2+

Files:
 base/music/long.ogg
 base/music/mono.ogg
Copyright:
 Ada Lovelace
 Gren
 Ada Lovelace
License: CC-BY-3.0
 The text of it.
"""


def ogg(seconds, n_channels=2, artist=None, rate=11025):
  rng = np.random.default_rng(0)
  audio = 0.1 * rng.normal(size=[int(seconds * rate), n_channels])
  buffer = io.BytesIO()
  with soundfile.SoundFile(
    buffer, 'w', rate, n_channels, format='OGG', subtype='VORBIS'
  ) as file:
    if artist:
      file.artist = artist
    file.write(audio)
  return buffer.getvalue()


def tar_xz(members):
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode='w') as tar:
    for name, content in members.items():
      info = tarfile.TarInfo(f'./{name}')
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))
  return lzma.compress(buffer.getvalue())


def ar(members):
  """Returns an archive as `ar` writes it."""
  content = b'!<arch>\n'
  for name, data in members.items():
    content += (
      f'{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n'.encode()
    )
    content += data + b'\n' * (len(data) % 2)
  return content


def package(members, data='data.tar.xz'):
  return ar(
    {
      'debian-binary': b'2.0\n',
      'control.tar.xz': tar_xz({'control': b'odd'}),
      data: tar_xz(members),
    }
  )


def zipped(members):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return buffer.getvalue()


@pytest.fixture(scope='module')
def game():
  """A package whose music lies in a .pk3, as ufoai's does."""
  pk3 = zipped(
    {
      'music/long.ogg': ogg(20.5),
      'music/short.ogg': ogg(3.0),
      'music/mono.ogg': ogg(20.5, 1),
      'music/tagged.ogg': ogg(20.5, 2, 'Grace Hopper'),
    }
  )
  return package(
    {
      'usr/share/games/ufoai/base/0music.pk3': pk3,
      'usr/share/doc/ufoai-music/copyright': COPYRIGHT.encode(),
      'usr/share/games/ufoai/other.txt': b'no music',
    }
  )


@pytest.fixture
def server():
  running = Server()
  yield running
  running.close()


def offer(server, content, version='1'):
  path = f'pool/ufoai-music_{version}_all.deb'
  server.files[f'/{path}'] = content
  digest = hashlib.sha256(content).hexdigest()
  return debian_packages.Package(path, len(content), digest)


# -------------------------------------------------------------- Packages ----
def test_the_first_version_that_is_there_is_taken_once(server, tmp_path):
  content = package({'a.ogg': b'sound'})
  gone = debian_packages.Package('pool/odd_0_all.deb', 7, 64 * '0')
  here = offer(server, content)
  versions = [(gone, here)]
  (path,) = debian_packages.fetch(tmp_path, [server.url], versions)
  assert path.read_bytes() == content
  n_requests = len(server.requests)
  assert debian_packages.fetch(tmp_path, [server.url], versions) == [path]
  assert len(server.requests) == n_requests


def test_a_package_that_was_put_there_is_not_downloaded(server, tmp_path):
  content = package({'a.ogg': b'sound'})
  here = offer(server, content)
  (tmp_path / here.name).write_bytes(content)
  (path,) = debian_packages.fetch(tmp_path, [server.url], [(here,)])
  assert path.read_bytes() == content and not server.requests


def test_a_mirror_that_has_it_not_is_passed_over(server, tmp_path):
  here = offer(server, package({'a.ogg': b'sound'}))
  mirrors = [server.url + '/empty', server.url]
  (path,) = debian_packages.fetch(tmp_path, mirrors, [(here,)])
  assert path.name == here.name
  with pytest.raises(OSError, match='(?s)No mirror.*404.*--debian_mirror'):
    debian_packages.fetch(tmp_path / 'b', mirrors[:1], [(here,)])


def test_another_content_than_published_is_refused(server, tmp_path):
  here = offer(server, package({'a.ogg': b'sound'}))
  server.files[f'/{here.path}'] = package({'a.ogg': b'other'})
  with pytest.raises(ValueError, match='not what was published'):
    debian_packages.fetch(tmp_path, [server.url], [(here,)])
  assert not list(tmp_path.glob('*.deb'))


def test_the_table_is_of_debs():
  for versions in debian_packages.PACKAGES:
    for version in versions:
      assert re.fullmatch(r'pool/main/.*-music_[^:]*_all\.deb', version.path)
      assert re.fullmatch('[0-9a-f]{64}', version.sha256)
      assert version.n_bytes > 5e7


def unpack(tmp_path, content):
  path = tmp_path / 'odd_1_all.deb'
  path.write_bytes(content)
  return deb.unpack(path, tmp_path / 'out', lambda name: name.endswith('.ogg'))


def test_what_is_wanted_is_unpacked(tmp_path):
  members = {'usr/a.ogg': b'one', 'usr/b.txt': b'two', '../c.ogg': b'out'}
  (path,) = unpack(tmp_path, package(members))
  assert path == tmp_path / 'out' / 'usr' / 'a.ogg'
  assert path.read_bytes() == b'one'


@pytest.mark.parametrize(
  'spoil, message',
  [
    (lambda content: b'PK' + content, 'no Debian package'),
    (lambda content: content[:-50], 'damaged'),
    (lambda content: content[:100], 'damaged'),
    (lambda content: content.replace(b'\xfd7zXZ', b'\0\0\0\0\0'), 'damaged'),
    (lambda content: content.replace(b'r.xz', b'r.zz'), 'data.tar.zz'),
  ],
)
def test_damaged_packages_are_named(spoil, message, tmp_path):
  content = package({'a.ogg': b'sound' * 99})
  with pytest.raises(ValueError, match=f'odd_1_all.*{message}'):
    unpack(tmp_path, spoil(content))


def test_licences_are_of_the_last_paragraph_that_fits():
  licences = deb.read_licences(COPYRIGHT)
  other = deb.find_licence(licences, 'music/other.ogg')
  assert (other.authors, other.name) == ('2001 The Team', 'GPL-2+')
  long = deb.find_licence(licences, 'music/long.ogg')
  assert (long.authors, long.name) == ('Ada Lovelace; Gren', 'CC-BY-3.0')
  assert deb.read_licences('This package was debianized by hand.') == []


# ---------------------------------------------------------------- Splits ----
def test_versions_of_a_piece_stay_together():
  for names in (
    ('wesnoth_frantic', 'wesnoth_frantic_old'),
    ('wesnoth_defeat', 'wesnoth_defeat2'),
    ('warzone2100_menu', 'warzone2100_aftermath_soundtrack_menu_enhanced'),
    (
      'warzone2100_original_soundtrack_track3',
      'warzone2100_aftermath_soundtrack_track3_enhanced',
    ),
  ):
    assert len({debian_music.series_of(name) for name in names}) == 1
    assert len({debian_music.split_of(name) for name in names}) == 1
  tracks = {debian_music.series_of(f'warzone2100_track{i}') for i in range(9)}
  assert len(tracks) == 9


def test_splits_are_about_76_12_and_12_percent():
  splits = [debian_music.split_of(f'game_piece_{i}x') for i in range(2000)]
  for split, part in (('train', 0.76), ('valid', 0.12), ('test', 0.12)):
    assert splits.count(split) / 2000 == pytest.approx(part, abs=0.03)


# ----------------------------------------------------------------- Pairs ----
@pytest.mark.slow
def test_from_the_archive_to_pairs(server, game, tmp_path, monkeypatch, caplog):
  version = offer(server, game)
  monkeypatch.setattr(debian_packages, 'PACKAGES', [(version,)])
  out = tmp_path / 'out'

  def run():
    command(
      monkeypatch,
      'mastering',
      source='debian',
      sample_rate=None,
      output_dir=str(out),
      debian_mirror=[server.url],
    )

  run()
  manifest = files.Manifest(out)
  counts = debian_music.N_VARIANTS
  wanted = {
    f'{split}/{name}_{i}'
    for name in ('ufoai_long', 'ufoai_tagged')
    for split in [debian_music.split_of(name)]
    for i in range(counts[split])
  }
  with_masters = {
    key.rsplit('_', 1)[0]
    for key in wanted
    if key.split('/')[0] in debian_music.WITH_MASTERS
  }
  assert with_masters
  for key in with_masters:  # the last master is a mix, and its own master
    split, name = key.split('/')
    last = f'{name}_{counts[split] - 1}'
    audio = [
      soundfile.read(files.find_written(out / split / side / name))[0]
      for side, name in (
        ('target', last),
        ('input', f'{name}_master'),
        ('target', f'{name}_master'),
      )
    ]
    assert np.array_equal(audio[0], audio[1])
    assert np.array_equal(audio[0], audio[2])
  wanted |= {f'{key}_master' for key in with_masters}
  assert set(manifest.pairs) == wanted
  assert '3 s are shorter' in manifest.left_out['ufoai_short']
  assert 'stereo' in manifest.left_out['ufoai_mono']
  assert 'ufoai_short is left out' in caplog.text
  for key, note in manifest.pairs.items():
    split, name = key.split('/')
    for side in ('input', 'target'):
      info = soundfile.info(files.find_written(out / split / side / name))
      assert (info.samplerate, info.channels) == (44100, 2)
      assert info.duration == pytest.approx(20.5, abs=0.01)
      assert note[side]['n_samples'] == info.frames
  text = (out / 'LICENSES.md').read_text()
  assert 'ufoai_long | long.ogg | ufoai-music_1_all.deb | Ada Love' in text
  assert 'Grace Hopper' in text and 'ufoai_short' not in text
  assert (out / 'licences' / 'ufoai.txt').read_text() == COPYRIGHT
  # The second time nothing is made or downloaded.
  before = {p: p.stat().st_mtime_ns for p in out.rglob('*.flac')}
  n_requests = len(server.requests)
  run()
  assert {p: p.stat().st_mtime_ns for p in out.rglob('*.flac')} == before
  assert len(server.requests) == n_requests


def test_debian_is_for_mastering(monkeypatch):
  for task in ('distortion', 'all'):
    with pytest.raises(
      dafx_prepare.app.UsageError, match='mastering --source=debian'
    ):
      command(monkeypatch, task, source='debian')


def test_room_is_asked_for_before_anything_is_made(tmp_path, monkeypatch):
  def none(folder, n_bytes, purpose):
    raise OSError(f'{purpose} needs {n_bytes} bytes')

  monkeypatch.setattr(debian_music.disk, 'check_room', none)
  piece = debian_music.Piece(
    pathlib.Path('x.ogg'), 'game_x', 'x.deb', 'A', 'GPL', {}
  )
  with pytest.raises(OSError, match='All pairs needs [1-9]'):
    debian_music.prepare([piece], tmp_path)
  assert not list(tmp_path.iterdir())
