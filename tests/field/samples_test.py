"""What users met with audio files: bad samples, formats, pipes, outputs.

Each group of tests begins with a line on the kind of fault that it stands for.
"""

import os
import pathlib

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from dafx import core
from dafx.audio import files, formats, scans, sources
from dafx.training import data, reading

RATE = 16000
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
  """Each test has a cache of its own, which is not of an earlier run."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  scans._known.cache_clear()
  scans._report.cache_clear()
  yield
  scans._known.cache_clear()


def noise(n_samples=1600, n_channels=1, seed=0):
  rng = np.random.default_rng(seed)
  return (0.1 * rng.standard_normal([n_samples, n_channels])).astype(np.float32)


def with_bad(value=np.nan, n_channels=2):
  audio = noise(n_channels=n_channels)
  audio[800, -1] = value
  return audio


def write(path, audio, rate=RATE, subtype='FLOAT', **kwargs):
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, audio, rate, subtype, **kwargs)
  return path


def pairs(folder, bad_side=None, bad=None):
  for split in ('train', 'valid', 'test'):
    for side in ('input', 'target'):
      is_bad = bad is not None and (split, side) == ('train', bad_side)
      audio = bad if is_bad else noise(n_channels=2)
      write(folder / split / side / 'song.wav', audio)
  return folder


PLACE = r'the first at 0\.050 s in channel 2 of 2'


# -------- Samples that are not finite have a place: file, second, channel. ----
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('side', ['input', 'target'])
def test_pairs_in_folders_are_refused_before_the_first_step(
  tmp_path, side, value
):
  folder = pairs(tmp_path / 'pairs', side, with_bad(value))
  provider = data.FolderProvider(str(folder), 'train', RATE, 400, 2)
  said = rf'{side}/song\.wav has 1 samples that are NaN or infinite, {PLACE}'
  with pytest.raises(files.FileError, match=said):
    provider.get_batch(2)
  with pytest.raises(files.FileError, match=said):
    provider.items()
  # A step that still meets one names it too.
  with pytest.raises(files.FileError, match=said):
    provider._read(0, 700, 200)


def test_tfrecords_are_refused_before_the_first_step(tmp_path):
  folder = pairs(tmp_path / 'pairs')
  found = data.find_pairs(folder / 'train')
  data.write_tfrecord(found, folder / 'train.tfrecord')
  content = (folder / 'train.tfrecord').read_bytes()
  record = next(iter(tf.data.TFRecordDataset(str(folder / 'train.tfrecord'))))
  example = tf.train.Example.FromString(record.numpy())
  target = example.features.feature['target'].bytes_list.value
  target[0] = with_bad().astype('<f4').tobytes()
  assert content
  with tf.io.TFRecordWriter(str(folder / 'train.tfrecord')) as writer:
    writer.write(example.SerializeToString())
  provider = data.ShardProvider(str(folder), 'train', RATE, 400, 2)
  said = rf"target of 'song' of .*train\.tfrecord has 1 .*{PLACE}"
  for use in (lambda: provider.get_batch(2), provider.items):
    with pytest.raises(files.FileError, match=said):
      use()


@pytest.mark.parametrize(
  'key, values',
  [
    ('n_channels', [0]),
    ('n_channels', [-1]),
    ('sample_rate', [0]),
    ('audio', [b'']),
    ('audio', [b'123']),
    ('audio', []),
    ('name', [b'']),
    ('name', [b'../a\xff']),
  ],
)
def test_records_that_say_nonsense_are_refused(tmp_path, key, values):
  folder = pairs(tmp_path / 'pairs')
  file = folder / 'train.tfrecord'
  data.write_tfrecord(data.find_pairs(folder / 'train'), file)
  record = next(iter(tf.data.TFRecordDataset(str(file)))).numpy()
  example = tf.train.Example.FromString(record)
  feature = example.features.feature[key]
  kind = feature.WhichOneof('kind')
  getattr(feature, kind).value[:] = values
  if key == 'audio' and values == [b'']:
    example.features.feature['target'].bytes_list.value[:] = values
  with tf.io.TFRecordWriter(str(file)) as writer:
    writer.write(example.SerializeToString())
  with pytest.raises(ValueError, match=r'train\.tfrecord is damaged'):
    data.ShardProvider(str(folder), 'train', RATE, 400, 2)


def test_recordings_and_dry_files_are_refused(tmp_path):
  bad = write(tmp_path / 'bad.wav', with_bad(n_channels=1))
  good = write(tmp_path / 'good.wav', noise())
  place = r'bad\.wav has 1 .*0\.050 s in channel 1 of 1'
  for pair in ((bad, good), (good, bad)):
    with pytest.raises(files.FileError, match=place):
      reading.read_pair(*pair)
  with pytest.raises(files.FileError, match=place):
    data.RenderedProvider(
      'urn:dafx-test:gain', dry_path=str(bad), sample_rate=RATE, n_samples=400
    )
  recording = ('riff', noise()[:, 0], with_bad(n_channels=1)[:, 0], [], '')
  with pytest.raises(ValueError, match=r'riff \(target\) has 1 .*0\.050 s'):
    data.Recordings([recording], (), RATE, 400)


def test_audio_in_memory_and_in_chunks_has_a_place(tmp_path):
  for source in (
    sources.from_array(with_bad(), RATE),
    sources.from_file(write(tmp_path / 'bad.wav', with_bad())),
  ):
    with pytest.raises(ValueError, match=PLACE):
      list(source.blocks())


# -------- Files are looked at once; what was found is kept. -------------------
def test_what_was_found_is_kept_by_size_and_time(tmp_path, monkeypatch):
  path = write(tmp_path / 'song.wav', noise())
  n_scans = []
  real = scans.scan
  monkeypatch.setattr(
    scans, 'scan', lambda *args: n_scans.append(1) or real(*args)
  )
  jobs = [scans.of_file(path, RATE)]
  scans.check(jobs)
  scans.check(jobs)
  assert len(n_scans) == 1
  scans._known.cache_clear()  # as another process
  scans.check(jobs)
  assert len(n_scans) == 1
  write(path, with_bad())
  with pytest.raises(files.FileError, match=PLACE):
    scans.check(jobs)
  os.utime(path, ns=(0, 0))
  with pytest.raises(files.FileError, match=PLACE):
    scans.check(jobs)
  assert len(n_scans) == 3
  kept = tmp_path / 'cache/dafx/scans.jsonl'
  # Faults are not: what could not be read may be readable by then.
  assert len(kept.read_bytes().splitlines()) == 1
  kept.write_bytes(b'\xff\n{"a": 1}\n[1]\n' + kept.read_bytes()[:-9])
  scans._known.cache_clear()
  with pytest.raises(files.FileError, match=PLACE):
    scans.check(jobs)
  assert len(n_scans) == 4


def test_silent_and_clipped_files_are_reported(tmp_path, caplog):
  clipped = np.clip(4.0 * np.sin(np.arange(1600) / 9), -1, 1)
  loud = 4.0 * np.sin(np.arange(1600) / 9)  # floats keep that
  jobs = [
    scans.of_file(write(tmp_path / f'{name}.wav', x, subtype=kind), RATE)
    for name, x, kind in (
      ('silent', 0 * clipped, 'FLOAT'),
      ('clipped', clipped, 'PCM_16'),
      ('loud', loud, 'FLOAT'),
      ('fine', 0.5 * clipped, 'PCM_16'),
    )
  ]
  scans.check(jobs)
  scans.check(jobs)
  assert len(caplog.messages) == 2  # each once
  assert f'silent: {tmp_path}/silent.wav' in caplog.text
  assert 'clipped.wav (' in caplog.text
  assert 'loud.wav' not in caplog.text and 'fine.wav' not in caplog.text
  found = scans.scan_all(jobs)
  n_full = np.sum(np.abs(clipped) >= 1.0)
  assert found[1].n_clipped == n_full
  first = np.flatnonzero(np.abs(clipped) >= 1.0)[0]
  assert found[1].first_clipped_s == first / RATE


def test_all_files_that_cannot_be_used_are_named(tmp_path):
  whole = write(tmp_path / 'whole.wav', noise(40000))
  jobs = [scans.of_file(whole, RATE)]
  for name in ('a', 'b'):
    path = write(tmp_path / f'{name}.wav', with_bad())
    jobs.append(scans.of_file(path, RATE))
  flac = write(tmp_path / 'c.flac', noise(40000), subtype='PCM_16')
  content = bytearray(flac.read_bytes())
  content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
  flac.write_bytes(content)
  jobs.append(scans.of_file(flac, RATE))
  with pytest.raises(files.FileError, match='3 files cannot be used') as error:
    scans.check(jobs)
  for name in ('a.wav', 'b.wav', 'c.flac'):
    assert name in str(error.value)


# -------- What Python raises in a graph comes out as it was raised. -----------
def test_a_fault_in_a_graph_is_one_line():
  def crash():
    raise files.FileError('song.wav is damaged: replace it.')

  @tf.function
  def step():
    return core.call_python(crash, [], tf.float32, 'a read')

  with pytest.raises(files.FileError, match='^song.wav is damaged: replace it'):
    with core.raising_faults():
      step()
  dataset = tf.data.Dataset.range(2).map(
    lambda _: core.call_python(crash, [], tf.float32, 'a read')
  )
  with pytest.raises(files.FileError, match='^song.wav is damaged: replace it'):
    with core.raising_faults():
      list(dataset.prefetch(1))
  with pytest.raises(tf.errors.InvalidArgumentError):  # TensorFlow's own
    with core.raising_faults():
      tf.reshape(tf.zeros([3]), [2])


# -------- A format is read wherever audio is, or passed over aloud. -----------
READ = [('aifc', 'AIFF'), ('caf', 'CAF'), ('w64', 'W64'), ('au', 'AU')]
READ += [('rf64', 'RF64'), ('oga', 'OGG'), ('snd', 'AU')]


@pytest.mark.parametrize('suffix, kind', READ)
def test_formats_of_libsndfile_are_found_and_read(tmp_path, suffix, kind):
  subtype = 'VORBIS' if kind == 'OGG' else 'PCM_16'
  path = write(tmp_path / f'a.{suffix}', noise(), subtype=subtype, format=kind)
  assert files.find_audio(tmp_path) == [path]
  assert sum(map(len, sources.from_file(path).blocks())) == 1600
  # Of a folder, each becomes a file that is written.
  (_, output), *_ = files.plan_outputs(tmp_path, tmp_path / 'out')
  with files.Writer(output, RATE, 1600) as writer:
    writer.write(noise())
  assert files.read(output)[0].shape == (1600, 1)


@pytest.mark.parametrize('suffix', ['m4a', 'WMA', 'aac', 'mp4'])
def test_other_formats_are_passed_over_aloud(tmp_path, caplog, suffix):
  (tmp_path / f'b.{suffix}').write_bytes(b'not read')
  with pytest.raises(FileNotFoundError, match=f'ffmpeg -i b.{suffix} b.wav'):
    files.find_audio(tmp_path)
  song = write(tmp_path / 'a.wav', noise())
  assert files.find_audio(tmp_path) == [song]
  assert f'b.{suffix} cannot be read' in caplog.text


def test_formats_that_are_read_are_those_of_libsndfile():
  for suffix in formats.WRITTEN_SUFFIXES:
    kind, subtype = formats.written_as(suffix)
    assert soundfile.check_format(kind, subtype)
  assert set(formats.WRITTEN_SUFFIXES) <= set(formats.AUDIO_SUFFIXES)
  assert not set(formats.AUDIO_SUFFIXES) & set(formats.UNREAD_SUFFIXES)


# -------- What cannot be written is refused for the true reason. --------------
@pytest.mark.parametrize(
  'suffix, rate, n_channels, said',
  [
    ('mp3', 192000, 2, 'MP3 does not take 192000 Hz'),
    ('mp3', 44100, 6, 'MP3 does not take 6 channels'),
    ('mp3', 96000, 6, 'MP3 does not take 6 channels and 96000 Hz'),
    ('flac', 44100, 9, 'FLAC does not take 9 channels'),
  ],
)
def test_what_a_format_does_not_take_is_said(
  tmp_path, suffix, rate, n_channels, said
):
  path = tmp_path / f'out.{suffix}'
  with pytest.raises(ValueError, match=said) as error:
    files.write(path, noise(n_channels=n_channels), rate)
  assert 'disk' not in str(error.value)
  assert not list(tmp_path.iterdir())
  files.write(path.with_suffix('.wav'), noise(n_channels=n_channels), rate)


def test_an_output_is_no_input(tmp_path):
  song = write(tmp_path / 'a.wav', noise())
  link = tmp_path / 'link.wav'
  link.symlink_to(song)
  hard = tmp_path / 'hard.wav'
  os.link(song, hard)
  for output in (song, link, hard, tmp_path):
    with pytest.raises(ValueError, match='would replace an input'):
      files.plan_outputs(song, output)


def test_two_inputs_do_not_become_one_output(tmp_path):
  for suffix in ('oga', 'opus'):
    (tmp_path / 'in').mkdir(exist_ok=True)
    subtype = 'VORBIS' if suffix == 'oga' else 'OPUS'
    write(
      tmp_path / 'in' / f'a.{suffix}', noise(), subtype=subtype, format='OGG'
    )
  with pytest.raises(ValueError, match=r'Two inputs would become .*a\.wav'):
    files.plan_outputs(tmp_path / 'in', tmp_path / 'out')


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
  pipe = tmp_path / 'pipe.wav'
  os.mkfifo(pipe)
  for use in (
    lambda: files.read_info(pipe),
    lambda: files.read(pipe),
    lambda: sources.from_file(pipe),
    lambda: files.plan_outputs(pipe, tmp_path / 'out.wav'),
    lambda: reading.read_pair(pipe, pipe),
  ):
    with pytest.raises(files.FileError, match='is a pipe or a device'):
      use()
