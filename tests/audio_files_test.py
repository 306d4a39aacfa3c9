"""Audio files that are read: whole, damaged and cut."""

import io
import pathlib
import resource
import shutil
import time

import librosa
import numpy as np
import pytest
import soundfile

from dafx.audio import files as audio_files
from dafx.audio import formats, sources
from dafx.training.data_preparation import files

RATE = 22050
FORMATS = {
  '.wav': ('WAV', 'FLOAT'),
  '.rf64.wav': ('RF64', 'PCM_16'),
  '.flac': ('FLAC', 'PCM_24'),
  '.ogg': ('OGG', 'VORBIS'),
  '.opus.ogg': ('OGG', 'OPUS'),
  '.mp3': ('MP3', 'MPEG_LAYER_III'),
  '.aif': ('AIFF', 'FLOAT'),
  '.aiff': ('AIFF', 'PCM_24'),
}


def noise(seconds=1.0, n_channels=1, seed=0):
  rng = np.random.default_rng(seed)
  audio = rng.standard_normal([int(seconds * RATE), n_channels])
  return (0.1 * audio).astype(np.float32)


def encoded(audio, suffix):
  buffer = io.BytesIO()
  kind, subtype = FORMATS[suffix]
  rate = 24000 if subtype == 'OPUS' else RATE
  soundfile.write(buffer, audio, rate, subtype, format=kind)
  return bytearray(buffer.getvalue())


def put(folder, suffix, content):
  path = folder / f'naïve take{suffix}'
  path.write_bytes(content)
  return path


def ways(path):
  """All ways to read a file, by name."""
  return {
    'read': lambda: audio_files.read(path),
    'blocks': lambda: list(audio_files.read_blocks(path, 1000)),
    'chunks': lambda: list(sources.from_file(path).blocks()),
  }


@pytest.mark.parametrize('suffix', FORMATS)
def test_whole_files_are_read_as_soundfile_reads_them(tmp_path, suffix):
  path = put(tmp_path, suffix, encoded(noise(n_channels=2), suffix))
  expected, rate = soundfile.read(path, dtype='float32', always_2d=True)
  info = audio_files.read_info(path)
  assert (info.frames, info.channels) == expected.shape
  audio, our_rate = audio_files.read(path)
  assert our_rate == rate and audio.dtype == np.float32
  np.testing.assert_array_equal(audio, expected)
  blocks = list(audio_files.read_blocks(path, 7000))
  assert [len(b) for b in blocks[:3]] == [7000] * 3
  # MP3's decoder rounds as its blocks lie.
  atol = 1e-6 if suffix == '.mp3' else 0.0
  np.testing.assert_allclose(np.concatenate(blocks), expected, 0.0, atol)
  if suffix in ('.wav', '.flac'):  # others are not exact in the middle
    part, _ = audio_files.read(path, 300, 500, 'float64')
    np.testing.assert_array_equal(part, expected[300:800].astype(np.float64))


@pytest.mark.parametrize('part', [0.99, 0.5, 0.1])
@pytest.mark.parametrize('suffix', FORMATS)
def test_files_that_are_cut_are_named(tmp_path, suffix, part):
  content = encoded(noise(), suffix)
  path = put(tmp_path, suffix, content[: int(part * len(content))])
  with pytest.raises(ValueError, match='cut short|damaged') as error:
    audio_files.read_info(path)
  assert str(error.value).startswith(str(path))


@pytest.mark.parametrize('way', ['read', 'blocks', 'chunks'])
@pytest.mark.parametrize('suffix', ['.flac', '.mp3'])
def test_a_damaged_middle_is_named_wherever_it_is_read(tmp_path, suffix, way):
  content = encoded(noise(2.0), suffix)
  middle = len(content) // 2
  for i in range(middle, middle + 400):
    content[i] ^= 0xFF
  path = put(tmp_path, suffix, content)
  with pytest.raises(audio_files.FileError, match='damaged|cut') as error:
    ways(path)[way]()
  assert str(error.value).startswith(str(path))
  assert str(error.value).count(str(path)) == 1


def test_pages_of_ogg_that_are_lost_are_noticed(tmp_path):
  content = encoded(noise(10.0), '.ogg')
  middle = len(content) // 2
  content[middle : middle + 50] = bytes(50)
  path = put(tmp_path, '.ogg', content)
  with pytest.raises(ValueError, match='cut short|damaged'):
    audio_files.read_info(path)
    audio_files.read(path)


@pytest.mark.parametrize('size', [0xFFFFFFFF, 0x7FFFF000])
def test_wav_of_unknown_length_is_read_to_its_end(tmp_path, size):
  # What a program writes into a pipe.
  audio = noise()
  content = encoded(audio, '.wav')
  place = content.index(b'data') + 4
  content[place : place + 4] = size.to_bytes(4, 'little')
  path = put(tmp_path, '.wav', content)
  assert audio_files.read_info(path).frames == len(audio)
  np.testing.assert_array_equal(audio_files.read(path)[0], audio)


def test_a_wav_that_counts_its_header_is_whole(tmp_path):
  audio = noise()
  content = encoded(audio, '.wav')
  place = content.index(b'data') + 4
  content[place : place + 4] = len(content).to_bytes(4, 'little')
  path = put(tmp_path, '.wav', content)
  np.testing.assert_array_equal(audio_files.read(path)[0], audio)
  assert audio_files.read_info(path).frames == len(audio)


def test_a_wav_with_other_chunks_around_its_samples_is_whole(tmp_path):
  content = encoded(noise(), '.wav')
  chunk = b'LIST' + (5).to_bytes(4, 'little') + b'abcde\0'  # padded
  place = content.index(b'data')
  content = content[:place] + chunk + content[place:] + chunk
  content[4:8] = (len(content) - 8).to_bytes(4, 'little')
  path = put(tmp_path, '.wav', content)
  assert audio_files.read_info(path).frames == RATE
  path.write_bytes(content[: -len(chunk) - 400])
  with pytest.raises(ValueError, match='cut short'):
    audio_files.read_info(path)


@pytest.mark.parametrize(
  'tag', [b'', b'ID3\x03\0\0\0\0\x10\0' + bytes(2048)], ids=['bare', 'tagged']
)
def test_mp3_that_does_not_say_its_length_is_counted(tmp_path, tag):
  buffer = io.BytesIO()
  # At a varying rate libsndfile's estimate may be too short: it stops there.
  form = {'format': 'MP3', 'bitrate_mode': 'CONSTANT', 'compression_level': 0.5}
  soundfile.write(buffer, noise(3.0), RATE, 'MPEG_LAYER_III', **form)
  content = buffer.getvalue()
  # The frames after the first, in which the encoder says how many come.
  start = content.index(content[:2], content.index(b'LAME'))
  path = put(tmp_path, '.mp3', tag + content[start:])
  assert b'Info' not in path.read_bytes() and b'Xing' not in path.read_bytes()
  expected = soundfile.read(path, dtype='float32', always_2d=True)[0]
  assert len(expected) >= 3 * RATE - 1152
  assert soundfile.info(path).frames != len(expected)  # an estimate
  info = audio_files.read_info(path)
  assert info.frames == len(expected)
  assert info.duration == len(expected) / RATE
  np.testing.assert_array_equal(audio_files.read(path)[0], expected)
  source = sources.from_file(path)
  assert source.n_samples == sum(map(len, source.blocks())) == len(expected)


def test_what_is_no_audio(tmp_path):
  for name in ('take.raw', 'take.wav'):
    path = tmp_path / name
    path.write_bytes(b'no sound at all')
    with pytest.raises(audio_files.FileError, match=name):
      audio_files.read_info(path)
  with pytest.raises(audio_files.FileError, match='is a folder'):
    audio_files.read_info(tmp_path)
  with pytest.raises(FileNotFoundError):
    sources.from_file(tmp_path / 'nothing.wav')


def test_values_that_are_not_finite_are_named_by_their_file(tmp_path):
  audio = noise()
  audio[3000] = np.nan
  path = put(tmp_path, '.wav', encoded(audio, '.wav'))
  with pytest.raises(ValueError, match='NaN') as error:
    list(sources.from_file(path).blocks())
  assert str(error.value).startswith(str(path))


def test_a_file_is_named_once():
  path = pathlib.Path('song.wav')
  with pytest.raises(audio_files.FileError) as error:
    with audio_files.named('song'), audio_files.named(path):
      raise ValueError('it is wrong.')
  assert str(error.value) == 'song.wav: it is wrong.'


@pytest.mark.parametrize('suffix', ['.flac', '.wav'])
def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path, suffix):
  former = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20000, former[1]))  # a full disk
  try:
    for path, write in (
      (tmp_path / f'one{suffix}', audio_files.write),
      (tmp_path / f'two{suffix}', lambda p, *a: files.write_audio(p, *a)),
    ):
      with pytest.raises(OSError, match='room on the disk') as error:
        write(path, noise(4.0), RATE)
      assert path.stem in str(error.value)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, former)
  assert not list(tmp_path.iterdir())


def test_the_same_audio_is_the_same_file_at_any_time(tmp_path):
  """libsndfile writes the time into files of floats if it is let."""
  audio = np.sin(np.arange(2000.0))[:, np.newaxis]
  suffixes = {*formats.WRITTEN_SUFFIXES} - {'.ogg'}
  names = [f'a{suffix}' for suffix in sorted(suffixes)]
  for folder in ('first', 'later'):
    for name in names:
      audio_files.write(tmp_path / folder / name, audio, 44100)
    time.sleep(1.1)
  for name in names:
    first, later = (
      (tmp_path / f / name).read_bytes() for f in ('first', 'later')
    )
    assert first == later, name


def test_room_for_a_file_is_asked_for_before_it_is_written(
  tmp_path, monkeypatch
):
  path, audio = tmp_path / 'new/long.wav', noise(1.0, 2)
  needed = 4 * audio.size
  usage = shutil.disk_usage(tmp_path)
  for free in (needed - 1, needed):
    with monkeypatch.context() as patch:
      patch.setattr(
        shutil, 'disk_usage', lambda _, n=free: usage._replace(free=n)
      )
      if free < needed:
        with pytest.raises(OSError, match=r'long\.wav needs [0-9]+ [kM]B'):
          audio_files.write(path, audio, RATE)
        assert not path.parent.exists()
      else:
        audio_files.write(path, audio, RATE)
  assert path.exists()


@pytest.mark.parametrize('n_samples', [1, 100, 70001])
@pytest.mark.parametrize(
  'source_hz, target_hz', [(44100, 48000), (48000, 44100), (8000, 44100)]
)
def test_resampling_is_that_of_librosa(n_samples, source_hz, target_hz):
  audio = noise(n_samples / RATE + 1, 2)[:n_samples]
  expected = librosa.resample(
    audio, orig_sr=source_hz, target_sr=target_hz, axis=0
  )
  found = sources.resample(audio, source_hz, target_hz)
  np.testing.assert_array_equal(found, expected)
  mono = sources.resample(audio[:, 0], source_hz, target_hz)
  np.testing.assert_array_equal(mono, expected[:, 0])
  source = sources.resampled(sources.from_array(audio, source_hz), target_hz)
  assert source.n_samples == len(expected)
  np.testing.assert_array_equal(np.concatenate([*source.blocks()]), expected)


def test_folders_with_the_names_of_files_are_passed_over(tmp_path):
  (tmp_path / 'session.wav').mkdir()
  path = tmp_path / 'session.wav/take.wav'
  audio_files.write(path, noise(), RATE)
  assert audio_files.find_audio(tmp_path) == [path]
