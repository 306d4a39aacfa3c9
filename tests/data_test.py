"""Pairs, crops and their order; and what is said of files that do not fit."""

import dataclasses
import os

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from dafx.audio import files as audio_files
from dafx.training import labels
from dafx.training.data import augmentation, folders, preprocessing, tfrecords
from dafx.training.data import provider as providers

RATE = 8000


def write(path, audio, rate=RATE):
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, audio, rate, 'FLOAT')


def ramp(n_samples, n_channels=1, start=0.0):
  """Each sample tells its file, place and channel."""
  place = start + np.arange(n_samples)[:, np.newaxis] / 2**16
  return (place + 2.0**-20 * np.arange(n_channels)).astype(np.float32)


def make_pairs(folder, n_pairs=5, n_samples=400, n_channels=1, split='train'):
  for i in range(n_pairs):
    audio = ramp(n_samples, n_channels, start=0.1 * i)
    write(folder / split / 'input' / f'song_{i}.wav', audio)
    write(folder / split / 'target' / f'song_{i}.wav', -audio)
  return folder


def provider(folder, n_samples=100, kind=folders.FolderProvider, **kwargs):
  return kind(str(folder), sample_rate=RATE, n_samples=n_samples, **kwargs)


def batches(from_provider, n_batches, batch_size=2, **kwargs):
  dataset = from_provider.get_batch(batch_size, **kwargs).take(n_batches)
  return list(dataset.as_numpy_iterator())


def assert_equal(ours, theirs):
  assert len(ours) == len(theirs) > 0
  for a, b in zip(ours, theirs, strict=True):
    for key in ('audio', 'target'):
      np.testing.assert_array_equal(a[key], b[key])


def file_of(audio):
  """Which file of `make_pairs` crops [batch, n_samples, ...] are of."""
  return (audio.reshape(len(audio), -1)[:, 0] * 10 + 1e-3).astype(int).tolist()


# ----------------------------------------------------------------- Pairs ----
def test_pairs_are_found_by_name_in_order(tmp_path):
  audio = ramp(50)
  for name in ('b', 'a', 'deep/er.v2'):
    write(tmp_path / 'input' / f'{name}.wav', audio)
    write(tmp_path / 'target' / f'{name}.flac.wav', audio)
  for path in (tmp_path / 'target').rglob('*.wav'):
    # FLAC beside WAV: partners share the name, not the format.
    flac = path.with_suffix('')
    soundfile.write(flac, audio, RATE)
    path.unlink()
  pairs = folders.find_pairs(tmp_path)
  assert [p.name for p in pairs] == ['a', 'b', 'deep/er.v2']
  assert {(p.sample_rate, p.n_channels, p.n_samples) for p in pairs} == {
    (RATE, 1, 50)
  }
  assert pairs[0].target_path.suffix == '.flac'


def test_input_and_target_are_cropped_alike(tmp_path):
  for batch in batches(provider(make_pairs(tmp_path)), 6):
    np.testing.assert_array_equal(batch['audio'], -batch['target'])
    steps = np.diff(batch['audio'], axis=1)  # one stretch of one file
    np.testing.assert_allclose(steps, 2.0**-16, rtol=1e-2)


@pytest.mark.parametrize('n_channels, shape', [(1, (2, 100)), (2, (2, 100, 2))])
def test_shapes(tmp_path, n_channels, shape):
  folder = make_pairs(tmp_path, n_channels=n_channels)
  dataset = provider(folder, n_channels=n_channels).get_batch(2)
  assert dataset.element_spec['audio'].shape == shape
  batch = next(dataset.as_numpy_iterator())
  assert {v.shape for v in batch.values()} == {shape}
  assert {v.dtype for v in batch.values()} == {np.dtype(np.float32)}
  if n_channels == 2:
    np.testing.assert_allclose(
      np.diff(batch['audio'], axis=-1), 2.0**-20, atol=1e-7
    )


# ----------------------------------------------------------------- Order ----
def test_seed_and_step_give_the_batch(tmp_path):
  folder = make_pairs(tmp_path)
  first = batches(provider(folder), 6, seed=3)
  assert_equal(first, batches(provider(folder), 6, seed=3))
  other = batches(provider(folder), 6, seed=4)
  assert any((a['audio'] != b['audio']).any() for a, b in zip(first, other))


@pytest.mark.parametrize('shuffle', [True, False])
@pytest.mark.parametrize('first_step', [1, 4, 7])
def test_first_step_goes_on_in_the_uninterrupted_order(
  tmp_path, first_step, shuffle
):
  # Five files in batches of two: steps lie across the ends of epochs.
  songs = provider(make_pairs(tmp_path))
  whole = batches(songs, 10, seed=1, shuffle=shuffle)
  rest = batches(
    songs, 10 - first_step, seed=1, shuffle=shuffle, first_step=first_step
  )
  assert_equal(rest, whole[first_step:])


def test_first_step_with_repeats(tmp_path):
  songs = provider(make_pairs(tmp_path))
  whole = batches(songs, -1, repeats=2)
  assert len(whole) == 5
  assert_equal(batches(songs, -1, repeats=2, first_step=3), whole[3:])


def test_each_epoch_has_each_file_once_in_an_order_of_its_own(tmp_path):
  songs = provider(make_pairs(tmp_path))
  order = []
  for batch in batches(songs, 20, batch_size=1):
    order += file_of(batch['audio'])
  epochs = [tuple(order[i : i + 5]) for i in range(0, 20, 5)]
  assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
  assert len(set(epochs)) > 1


def test_crops_reach_all_of_a_file(tmp_path):
  songs = provider(make_pairs(tmp_path, n_pairs=1, n_samples=103))
  starts = [
    round(float(b['audio'][0, 0]) * 2**16)
    for b in batches(songs, 80, batch_size=1)
  ]
  assert set(starts) == {0, 1, 2, 3}


def test_without_shuffling_files_come_in_order_from_their_start(tmp_path):
  songs = provider(make_pairs(tmp_path))
  (batch,) = batches(songs, -1, batch_size=5, shuffle=False, repeats=1)
  expected = [ramp(100, start=0.1 * i)[:, 0] for i in range(5)]
  np.testing.assert_array_equal(batch['audio'], expected)


def test_what_fills_no_batch_makes_a_smaller_one(tmp_path):
  songs = provider(make_pairs(tmp_path, n_pairs=3))
  (batch,) = batches(songs, -1, batch_size=8, shuffle=False, repeats=1)
  assert batch['audio'].shape == (3, 100)
  both = batches(songs, -1, batch_size=2, shuffle=False, repeats=1)
  assert [file_of(b['audio']) for b in both] == [[0, 1], [2]]


def test_fixed_crops_are_spread_over_each_file(tmp_path):
  for name, n_samples in (('a', 60), ('b', 100), ('c', 250), ('d', 901)):
    for side in ('input', 'target'):
      write(tmp_path / 'train' / side / f'{name}.wav', ramp(n_samples))
  songs = provider(tmp_path, crops_per_file=4)
  fixed = dict(batch_size=5, shuffle=False, repeats=1)
  starts = []
  for batch in batches(songs, -1, **fixed):
    starts += (batch['audio'][:, 0] * 2**16).tolist()
  # No more than cover a file: of 250 samples three crops of 100 do.
  assert starts == [0, 0, 0, 0, 75, 267, 150, 534, 801]
  assert_equal(batches(songs, -1, **fixed), batches(songs, -1, **fixed, seed=5))
  rest = batches(songs, -1, **fixed, first_step=1)
  assert_equal(rest, batches(songs, -1, **fixed)[1:])
  with pytest.raises(ValueError, match='crops_per_file=0'):
    provider(tmp_path, crops_per_file=0)


def test_a_batch_larger_than_the_data_repeats_it(tmp_path):
  (batch,) = batches(provider(make_pairs(tmp_path, 2)), 1, batch_size=5)
  counts = np.bincount(file_of(batch['audio']), minlength=2)
  assert sorted(counts) == [2, 3]


# --------------------------------------------------------------- Margins ----
KINDS = [folders.FolderProvider, tfrecords.ShardProvider]


def of_kind(kind, folder, **kwargs):
  pairs = folders.find_pairs(folder / 'train')
  tfrecords.write_tfrecord(pairs, folder / 'train.tfrecord')
  return provider(folder, kind=kind, **kwargs)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('n_channels', [1, 2])
@pytest.mark.parametrize('n_samples', [60, 400])
def test_margins_are_the_audio_around_a_crop_or_silence(
  tmp_path, kind, n_channels, n_samples
):
  margin = 130
  make_pairs(tmp_path, n_samples=n_samples, n_channels=n_channels)
  songs = of_kind(kind, tmp_path, n_channels=n_channels)
  with_margins = batches(songs, 12, batch_size=3, margin=margin)
  # A margin changes neither what is drawn nor where a crop begins.
  assert_equal(with_margins, batches(songs, 12, batch_size=3))
  places = set()
  for batch in with_margins:
    for item, audio in enumerate(batch['audio']):
      first = float(audio.flat[0])
      index = int(first * 10 + 1e-3)
      place = round((first - 0.1 * index) * 2**16)
      places.add(place)
      whole = ramp(n_samples, n_channels, 0.1 * index)
      filled = max(margin + n_samples, place + 100 + 2 * margin)
      expected = np.zeros([filled + margin, n_channels], np.float32)
      expected[margin : margin + n_samples] = whole
      heard = batch['heard'][item].reshape(-1, n_channels)
      np.testing.assert_array_equal(
        heard, expected[place : place + 100 + 2 * margin]
      )
  # Crops reach both ends: what is rendered has no margins of its own.
  assert min(places) < 30 and max(places) >= max(0, n_samples - 130)


def test_each_sample_of_a_file_shorter_than_a_context_is_rendered(tmp_path):
  songs = provider(make_pairs(tmp_path, n_pairs=1, n_samples=140))
  rendered = np.zeros(140, bool)
  for batch in batches(songs, 200, batch_size=1, margin=2000):
    start = round(float(batch['audio'][0, 0]) * 2**16)
    rendered[start : start + 100] = True
    assert np.count_nonzero(batch['audio']) >= 99
  assert rendered.all()


def test_margins_are_prepared_as_the_whole_file_and_not_faded(tmp_path):
  noise_pairs(tmp_path)
  prepare = preprocessing.Preprocessor(input_lufs=-20.0, high_pass_hz=200)
  songs = provider(
    tmp_path,
    n_samples=500,
    preprocessor=prepare,
    fade_samples=20,
    crops_per_file=3,
  )
  fixed = dict(batch_size=3, shuffle=False, repeats=1, margin=1800)
  wholes = []
  for pair in songs.pairs:
    audio = soundfile.read(pair.input_path, always_2d=True)[0]
    whole = prepare.process_input(audio, RATE)[:, 0]
    wholes.append(np.pad(whole, 1800))
  # The first crops of all files, then the second ones.
  for start, batch in zip(
    (0, 1750, 3500), batches(songs, -1, **fixed), strict=True
  ):
    for whole, heard, crop in zip(
      wholes, batch['heard'], batch['audio'], strict=True
    ):
      expected = whole[start : start + 500 + 2 * 1800]
      np.testing.assert_allclose(heard, expected, atol=1e-4)
      inside = slice(1800 + 20, 1800 + 480)
      np.testing.assert_array_equal(crop[20:-20], heard[inside])
      assert np.abs(crop[[0, -1]]).max() < 0.01


def test_an_encoder_hears_what_is_rendered_varied_alike(tmp_path):
  noise_pairs(tmp_path)
  songs = provider(tmp_path, augmentation=augmentation.NoiseAndGain())
  first = batches(songs, 4, seed=2, margin=50)
  for batch in first:
    np.testing.assert_array_equal(batch['heard'][:, 50:-50], batch['audio'])
  assert_equal(batches(songs, 2, seed=2, margin=50, first_step=2), first[2:])


# ----------------------------------------------------------------- Items ----
@pytest.mark.parametrize('kind', KINDS)
def test_items_are_whole_files_as_they_are(tmp_path, kind):
  make_pairs(tmp_path, n_pairs=2, n_samples=70000, n_channels=2)
  events = (labels.Event('pop', 3, 9),)
  path = labels.events_path(tmp_path / 'train', 'song_1')
  labels.write_events(events, path)
  # Neither rate nor channels of batches, nor what is done to crops, matters.
  songs = of_kind(kind, tmp_path, augmentation=augmentation.NoiseAndGain())
  items = songs.items()
  assert [item.name for item in items] == ['song_0', 'song_1']
  assert [item.events for item in items] == [(), events]
  for i, item in enumerate(items):
    assert item.input.sample_rate == RATE and item.input.n_samples == 70000
    assert not item.options
    audio = ramp(70000, 2, start=0.1 * i)
    for source, expected in ((item.input, audio), (item.target, -audio)):
      for _ in range(2):  # as often as one likes
        np.testing.assert_array_equal(
          np.concatenate(list(source.blocks())), expected
        )
  before = items[0].version
  make_pairs(tmp_path, n_pairs=2, n_samples=70001, n_channels=2)
  assert of_kind(kind, tmp_path).items()[0].version != before


def test_features_are_the_shapes_of_batches(tmp_path):
  make_pairs(tmp_path, n_channels=2)
  for n_channels in (1, 2):
    songs = provider(tmp_path, n_channels=n_channels)
    assert songs.features == {
      'audio': [100] if n_channels == 1 else [100, 2],
      'target': [100] if n_channels == 1 else [100, 2],
    }


def test_a_crop_that_is_not_finite_is_named_in_training(tmp_path):
  audio = ramp(400)
  audio[200] = np.nan
  for side in ('input', 'target'):
    write(tmp_path / 'train' / side / 'song.wav', audio)
  said = r'song\.wav has 1 samples that are NaN or infinite'
  with pytest.raises(ValueError, match=said):
    batches(provider(tmp_path, 400), 1)


def test_a_provider_says_what_it_has_to_have():
  class Half(providers.Provider):
    def get_batch(self, *args, **kwargs):
      return None

  with pytest.raises(TypeError, match='features.*items'):
    Half()


# -------------------------------------------------------------- TFRecord ----
@pytest.mark.parametrize('n_channels', [1, 2])
def test_tfrecord_gives_what_the_folder_gives(tmp_path, n_channels):
  folder = make_pairs(tmp_path, n_channels=n_channels)
  pairs = folders.find_pairs(folder / 'train')
  tfrecords.write_tfrecord(pairs, tmp_path / 'train.tfrecord')
  records = provider(
    folder, kind=tfrecords.ShardProvider, n_channels=n_channels
  )
  songs = provider(folder, n_channels=n_channels)
  assert records.n_items == songs.n_items == 5
  assert_equal(batches(records, 6, seed=2), batches(songs, 6, seed=2))
  assert os.listdir(tmp_path).count('train.tfrecord') == 1
  assert not list(tmp_path.glob('*.partial*'))


def damage(kind, path):
  """Replaces a good TFRecord file by one that is not."""
  content = path.read_bytes()
  if kind == 'garbage':
    path.write_bytes(b'no TFRecord at all, but long enough to be one' * 20)
  elif kind == 'cut':
    path.write_bytes(content[: len(content) * 2 // 3])
  elif kind == 'flipped':
    middle = len(content) // 2
    flipped = bytes([content[middle] ^ 0xFF])
    path.write_bytes(content[:middle] + flipped + content[middle + 1 :])
  elif kind == 'empty':
    path.write_bytes(b'')
  elif kind == 'not an example':
    with tf.io.TFRecordWriter(str(path)) as writer:
      writer.write(b'\xff\xff\xff\xff')
  elif kind == 'of something else':
    with tf.io.TFRecordWriter(str(path)) as writer:
      writer.write(tf.train.Example().SerializeToString())


@pytest.mark.parametrize(
  'kind',
  ['garbage', 'cut', 'flipped', 'empty', 'not an example', 'of something else'],
)
def test_tfrecords_that_cannot_be_read(tmp_path, kind):
  folder = make_pairs(tmp_path, n_pairs=2)
  path = tmp_path / 'train.tfrecord'
  tfrecords.write_tfrecord(folders.find_pairs(folder / 'train'), path)
  damage(kind, path)
  with pytest.raises(ValueError, match=r'train\.tfrecord.*dafx_prepare'):
    provider(folder, kind=tfrecords.ShardProvider)


def test_records_that_are_replaced_meanwhile(tmp_path):
  make_pairs(tmp_path)
  path = tmp_path / 'train.tfrecord'
  tfrecords.write_tfrecord(folders.find_pairs(tmp_path / 'train'), path)
  ours = provider(tmp_path, kind=tfrecords.ShardProvider)
  before = batches(ours, 2)
  found = folders.find_pairs(tmp_path / 'train')
  tfrecords.write_tfrecord(found[3:], path)
  assert_equal(batches(ours, 2), before)
  # One that is too long, or damaged, leaves what is there.
  content = path.read_bytes()
  long = dataclasses.replace(found[0], n_samples=2**30)
  with pytest.raises(ValueError, match='song_0.*1073741824 samples'):
    tfrecords.write_tfrecord([*found, long], path)
  found[4].input_path.write_bytes(b'')
  with pytest.raises(ValueError, match='song_4'):
    tfrecords.write_tfrecord(found, path)
  assert path.read_bytes() == content
  assert [p.name for p in tmp_path.glob('*tfrecord*')] == [path.name]


def test_tfrecords_that_do_not_fit(tmp_path):
  folder = make_pairs(tmp_path, n_pairs=2)
  with pytest.raises(FileNotFoundError, match=r'train\.tfrecord.*dafx_prepare'):
    provider(folder, kind=tfrecords.ShardProvider)
  path = tmp_path / 'train.tfrecord'
  tfrecords.write_tfrecord(folders.find_pairs(folder / 'train'), path)
  with pytest.raises(ValueError, match=r"'song_0' of .*1 channels, not 2"):
    provider(folder, kind=tfrecords.ShardProvider, n_channels=2).get_batch(1)
  of_another_rate = tfrecords.ShardProvider(str(folder), sample_rate=16000)
  with pytest.raises(ValueError, match=r"'song_1' of .*8000 Hz, not 16000"):
    of_another_rate.get_batch(1)


# ----------------------------------------------------------- What is bad ----
def expect(error, folder, *parts, **settings):
  """Construction fails with one message that has all parts; returns it."""
  with pytest.raises(error) as caught:
    provider(folder, **settings)
  message = str(caught.value)
  for part in parts:
    assert part in message, message
  assert not isinstance(caught.value, tf.errors.OpError)
  return message


def test_an_empty_file(tmp_path):
  bad = make_pairs(tmp_path) / 'train/input/song_2.wav'
  bad.write_bytes(b'')
  expect(ValueError, tmp_path, str(bad), 'empty', 'out of its folder')


def test_a_file_without_samples(tmp_path):
  bad = make_pairs(tmp_path) / 'train/target/song_2.wav'
  write(bad, np.zeros([0, 1]))
  expect(ValueError, tmp_path, str(bad), 'no samples', 'out of its folder')


def test_a_file_that_is_no_audio(tmp_path):
  bad = make_pairs(tmp_path) / 'train/target/song_1.wav'
  bad.write_text('These are words. ' * 50)
  expect(ValueError, tmp_path, str(bad), 'no audio file', 'convert it')


def test_partners_of_other_rate_channels_and_length_are_all_named(tmp_path):
  target = make_pairs(tmp_path) / 'train/target'
  write(target / 'song_0.wav', ramp(400), rate=2 * RATE)
  write(target / 'song_1.wav', ramp(400, 2))
  write(target / 'song_2.wav', ramp(399))
  (target / 'song_3.wav').unlink()
  (tmp_path / 'train/input/song_4.wav').unlink()
  message = expect(
    ValueError,
    tmp_path,
    '5 faults',
    'song_0.wav has 8000 Hz',
    'song_0.wav 16000',
    'song_1.wav has 1 channels',
    'song_2.wav has 400 samples',
    'song_2.wav 399',
    'Mend these files',
  )
  assert f'{tmp_path}/train/input/song_3.wav has no partner' in message
  assert f'{target}/song_4.wav has no partner' in message


def test_files_that_do_not_fit_the_settings_are_all_named(tmp_path):
  make_pairs(tmp_path)
  for side in ('input', 'target'):
    folder = tmp_path / 'train' / side
    write(folder / 'song_0.wav', ramp(400), rate=44100)
    write(folder / 'song_1.wav', ramp(400, 2))
  # Evaluation takes them as they are; batches do not.
  songs = provider(tmp_path)
  rates = [item.input.sample_rate for item in songs.items()]
  assert rates == [44100, RATE, RATE, RATE, RATE]
  with pytest.raises(ValueError) as caught:
    songs.get_batch(1)
  for part in (
    '2 pairs',
    'song_0.wav: 44100 Hz, not 8000',
    'song_1.wav: 2 channels, not 1',
    'dafx_prepare',
    'macro sample_rate',
    'FolderProvider.n_channels',
  ):
    assert part in str(caught.value)


def test_two_files_of_one_name_are_not_taken_for_one(tmp_path):
  make_pairs(tmp_path)
  soundfile.write(tmp_path / 'train/input/song_0.flac', ramp(400), RATE)
  expect(ValueError, tmp_path, 'song_0.flac', 'song_0.wav', 'Mend these files')


def test_leftovers_of_an_interrupted_write_are_no_audio(tmp_path):
  make_pairs(tmp_path)
  write(tmp_path / 'train/input/.song_9.flac.partial.wav', ramp(400))
  assert provider(tmp_path).n_items == 5


def test_missing_and_empty_folders(tmp_path):
  expect(FileNotFoundError, tmp_path / 'nowhere', 'nowhere/train/input')
  make_pairs(tmp_path)
  (tmp_path / 'valid' / 'input').mkdir(parents=True)
  (tmp_path / 'valid/input/notes.txt').write_text('x')
  expect(FileNotFoundError, tmp_path, 'valid/input', 'no audio', split='valid')
  for path in (tmp_path / 'train/target').iterdir():
    path.unlink()
  expect(FileNotFoundError, tmp_path, 'train/target', 'no audio', '.flac')


def test_a_file_cut_short_is_found_at_construction(tmp_path):
  make_pairs(tmp_path)
  rng = np.random.default_rng(0)
  noise = 0.1 * rng.standard_normal([20000, 1])
  for side in ('input', 'target'):
    folder = tmp_path / 'train' / side
    soundfile.write(folder / 'cut.flac', noise, RATE)
  content = (folder / 'cut.flac').read_bytes()
  (folder / 'cut.flac').write_bytes(content[: len(content) // 2])
  expect(ValueError, tmp_path, 'cut.flac')


def test_a_file_that_is_damaged_in_the_middle_is_named_first(tmp_path):
  make_pairs(tmp_path, 1)
  rng = np.random.default_rng(0)
  for side in ('input', 'target'):
    noise = 0.1 * rng.standard_normal([20000, 1])
    path = tmp_path / 'train' / side / 'song_0.flac'
    path.with_suffix('.wav').unlink()
    soundfile.write(path, noise, RATE)
  content = bytearray(path.read_bytes())
  middle = len(content) // 2
  content[middle : middle + 200] = bytes(200)
  path.write_bytes(content)
  with pytest.raises(audio_files.FileError, match=f'{path} is damaged'):
    batches(provider(tmp_path, 20000), 1)


# --------------------------------------------------------- Preprocessing ----
def noise_pairs(folder, n_samples=4000):
  for i in range(3):
    rng = np.random.default_rng(i)
    audio = 0.1 * (i + 1) * rng.standard_normal([n_samples, 1])
    write(folder / 'train' / 'input' / f'{i}.wav', audio)
    write(folder / 'train' / 'target' / f'{i}.wav', 0.5 * audio)
  return folder


def test_crops_come_out_as_of_the_whole_file(tmp_path):
  noise_pairs(tmp_path)
  prepare = preprocessing.Preprocessor(input_lufs=-20.0, high_pass_hz=200)
  songs = provider(tmp_path, n_samples=500, preprocessor=prepare)
  wholes = {'audio': [], 'target': []}
  for pair in songs.pairs:
    audio, target = (
      soundfile.read(path, always_2d=True)[0]
      for path in (pair.input_path, pair.target_path)
    )
    wholes['audio'].append(prepare.process_input(audio, RATE)[:, 0])
    wholes['target'].append(prepare.process_target(target, RATE)[:, 0])
  for batch in batches(songs, 4):
    for side, windows in wholes.items():
      for crop in batch[side]:
        found = [
          np.abs(
            np.lib.stride_tricks.sliding_window_view(whole, 500) - crop
          ).max(axis=1)
          for whole in windows
        ]
        assert np.min(found) < 1e-4


def test_augmentation_depends_on_seed_and_step_and_spares_validation(tmp_path):
  noise_pairs(tmp_path)
  plain = provider(tmp_path)
  varied = provider(tmp_path, augmentation=augmentation.NoiseAndGain())
  first = batches(varied, 5, seed=2)
  assert_equal(batches(varied, 3, seed=2, first_step=2), first[2:])
  others = batches(plain, 5, seed=2)
  assert all((a['audio'] != b['audio']).all() for a, b in zip(first, others))
  assert_equal(
    batches(varied, -1, shuffle=False, repeats=1),
    batches(plain, -1, shuffle=False, repeats=1),
  )


def test_crops_are_faded_at_both_ends(tmp_path):
  songs = provider(noise_pairs(tmp_path), fade_samples=20)
  plain = provider(tmp_path)
  for a, b in zip(batches(songs, 3), batches(plain, 3)):
    np.testing.assert_array_equal(a['audio'][:, 20:-20], b['audio'][:, 20:-20])
    assert np.abs(a['audio'][:, [0, -1]]).max() < 0.01
    assert np.abs(a['target'][:, [0, -1]]).max() < 0.01


@pytest.mark.parametrize('kind', KINDS)
def test_silence_follows_short_files(tmp_path, kind):
  make_pairs(tmp_path, n_samples=60)
  songs = of_kind(kind, tmp_path)
  (batch,) = batches(songs, -1, 5, shuffle=False, repeats=1)
  assert batch['audio'].shape == (5, 100)
  np.testing.assert_array_equal(batch['audio'][0, :60], ramp(60)[:, 0])
  assert not batch['audio'][:, 60:].any()


def test_labels_come_with_their_pair_and_go_into_records(tmp_path):
  make_pairs(tmp_path, n_pairs=2)
  events = (labels.Event('pop', 3, 9), labels.Event('breath', 20, 50))
  path = labels.events_path(tmp_path / 'train', 'song_1')
  labels.write_events(events, path)
  pairs = folders.find_pairs(tmp_path / 'train')
  assert [p.events for p in pairs] == [(), events]
  tfrecords.write_tfrecord(pairs, tmp_path / 'train.tfrecord')
  records = tf.data.TFRecordDataset(str(tmp_path / 'train.tfrecord'))
  feature = [
    tf.train.Example.FromString(r).features.feature
    for r in records.as_numpy_iterator()
  ]
  assert list(feature[1]['event_kind'].bytes_list.value) == [b'pop', b'breath']
  assert list(feature[1]['event_start'].int64_list.value) == [3, 20]
  assert list(feature[1]['event_stop'].int64_list.value) == [9, 50]


def test_an_iterator_tells_how_long_it_was_waited_for(monkeypatch):
  clock = iter([0.0, 1.0, 3.0, 10.0, 10.5, 20.0])
  monkeypatch.setattr(providers.time, 'monotonic', lambda: next(clock))
  timed = providers.TimedIterator([7, 8])
  assert [next(timed), next(timed)] == [7, 8]
  assert timed.wait_s == 2.5 and timed.n_items == 2
  assert timed.wait_fraction == 2.5 / 20.0


# ------------------------------------------------------ Parts and shards ----
@pytest.mark.parametrize(
  'order', [dict(seed=3, first_step=1), dict(shuffle=False, repeats=1)]
)
def test_the_parts_of_a_batch_are_the_batch(tmp_path, order):
  """Workers have parts by position: together they are one, to the bit."""
  songs = provider(make_pairs(tmp_path, n_pairs=7), crops_per_file=2)
  whole = batches(songs, 4, 6, **order)
  parts = [batches(songs, 4, 6, part=(i, 3), **order) for i in range(3)]
  for step, batch in enumerate(whole):
    here = [each[step]['audio'] for each in parts if step < len(each)]
    assert all(len(audio) <= 2 for audio in here)
    np.testing.assert_array_equal(np.concatenate(here), batch['audio'])
  n_items = sum(len(batch['audio']) for part in parts for batch in part)
  assert n_items == sum(len(batch['audio']) for batch in whole)
  with pytest.raises(ValueError, match='batch_size=6 does not divide by 4'):
    songs.get_batch(6, part=(0, 4))


def test_shards_give_what_one_file_gives(tmp_path, monkeypatch, caplog):
  folder = make_pairs(tmp_path)
  pairs = folders.find_pairs(folder / 'train')
  path = tmp_path / 'train.tfrecord'
  tfrecords.write_tfrecord(pairs, path)
  alone = provider(folder, kind=tfrecords.ShardProvider)
  expected = batches(alone, 6, seed=2)
  tfrecords.write_tfrecord(pairs, path, n_shards=2)
  shards = sorted(p.name for p in tmp_path.glob('train.tfrecord*'))
  assert shards == [
    f'train.tfrecord-0000{i}-of-00002{end}'
    for i in (0, 1)
    for end in ('', '.index.json')
  ]
  with monkeypatch.context() as patch:
    patch.setattr(tfrecords, 'records', None)  # none is read whole
    ours = provider(folder, kind=tfrecords.ShardProvider)
  assert_equal(batches(ours, 6, seed=2), expected)
  assert ours.summary() != provider(make_pairs(tmp_path / 'b', 4)).summary()
  # An index of another file is not believed.
  first = tmp_path / shards[0]
  tfrecords.write_shard(pairs[2:], first, with_index=False)
  found = provider(folder, kind=tfrecords.ShardProvider)
  names = [p.name for p in found.pairs]
  assert names == [f'song_{i}' for i in (1, 2, 3, 3, 4)]
  assert 'is not of this file' in caplog.text
  (tmp_path / shards[1]).write_text('{"state": []}')
  (tmp_path / shards[3]).write_text('{"state": [], "records": [{}]}')
  assert provider(folder, kind=tfrecords.ShardProvider).n_items == 5
  first.unlink()
  with pytest.raises(
    FileNotFoundError, match='of 2 shards .*00000-of-00002 is'
  ):
    provider(folder, kind=tfrecords.ShardProvider)
  tfrecords.write_tfrecord(pairs, path)
  assert [p.name for p in tmp_path.glob('train.tfrecord*')] == [path.name]
