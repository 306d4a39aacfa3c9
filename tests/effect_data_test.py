"""Tests of the training data of effect models."""

# First: importing dafx sets up what DDSP needs.
import dafx  # noqa: F401  # isort: skip

import pathlib

import numpy as np
import pytest
import soundfile

from dafx.training.data import recordings

RATE = 8000
GAIN = 'urn:dafx-test:gain'


def noise(n_samples, seed=0):
  rng = np.random.default_rng(seed)
  return 0.3 * rng.standard_normal(n_samples).astype(np.float32)


def write(path, audio, rate=RATE):
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, np.asarray(audio, np.float32), rate, 'FLOAT')
  return str(path)


def batches(provider, n=2, **kwargs):
  return list(provider.get_batch(2, **kwargs).take(n).as_numpy_iterator())


def starts_in(dry, crops):
  """Returns where crops begin in what they were taken from."""
  found = []
  for crop in crops:
    windows = np.lib.stride_tricks.sliding_window_view(dry, len(crop))
    found.append(int(np.argmin(np.abs(windows - crop).sum(1))))
    np.testing.assert_allclose(dry[found[-1] :][: len(crop)], crop, atol=1e-6)
  return found


@pytest.fixture
def one_pair(tmp_path):
  dry = noise(10000)
  write(tmp_path / 'x.wav', dry)
  write(tmp_path / 'y.wav', 0.5 * dry)
  paths = dict(
    input_path=str(tmp_path / 'x.wav'), target_path=str(tmp_path / 'y.wav')
  )
  return dry, dict(paths, sample_rate=RATE, n_samples=500)


def test_splits_of_one_pair_share_no_sample(one_pair):
  dry, settings = one_pair
  ranges = {'train': (0, 8000), 'valid': (8000, 9000), 'test': (9000, 10000)}
  for split, (first, last) in ranges.items():
    provider = recordings.RecordingProvider(split=split, **settings)
    assert provider.n_items == (last - first) // 500
    for batch in batches(provider, 12):
      np.testing.assert_allclose(batch['target'], 0.5 * batch['audio'])
      assert 'knobs' not in batch
      for start in starts_in(dry, batch['audio']):
        assert first <= start <= last - 500


def test_crops_begin_at_random_and_validation_in_order(one_pair):
  dry, settings = one_pair
  provider = recordings.RecordingProvider(split='train', **settings)
  crops = np.concatenate([b['audio'] for b in batches(provider, 8)])
  assert len({start % 500 for start in starts_in(dry, crops)}) > 10
  again = np.concatenate([b['audio'] for b in batches(provider, 8)])
  np.testing.assert_array_equal(crops, again)
  later = batches(provider, 4, first_step=4)
  np.testing.assert_array_equal(crops[8:10], later[0]['audio'])
  valid = recordings.RecordingProvider(split='valid', **settings)
  in_order = batches(valid, 9, shuffle=False, repeats=1)
  assert starts_in(dry, in_order[0]['audio']) == [8000, 8500]
  assert len(in_order) == 1


def test_knobs_come_with_the_audio(tmp_path):
  dry = noise(4000)
  write(tmp_path / 'riff.input.wav', dry)
  for name, gain in (('G020_MHi', 0.2), ('G070_MLo', 0.7), ('G100_MHi', 1.0)):
    write(tmp_path / f'{name}.riff.target.wav', gain * dry)
  provider = recordings.RecordingProvider(
    str(tmp_path), sample_rate=RATE, n_samples=400
  )
  assert provider.knob_names == ('G', 'M=Hi', 'M=Lo')
  seen = set()
  for batch in batches(provider, 12):
    knobs = batch['knobs']
    np.testing.assert_allclose(
      batch['target'], knobs[:, :1] * batch['audio'], rtol=1e-5
    )
    np.testing.assert_array_equal(knobs[:, 1] + knobs[:, 2], 1.0)
    np.testing.assert_array_equal(knobs[:, 2], knobs[:, 0] == np.float32(0.7))
    seen |= set(knobs[:, 0].tolist())
  assert len(seen) == 3


@pytest.mark.parametrize(
  'change, message',
  [
    ({'n_samples': 900}, 'n_samples=900'),
    ({'target_path': ''}, 'target_path'),
    ({'split': 'tests'}, 'tests'),
    ({'sample_rate': 44100, 'strict': True}, '44100'),
  ],
)
def test_bad_recordings_are_named(one_pair, change, message):
  settings = {**one_pair[1], 'split': 'valid', **change}
  if change.get('n_samples'):
    settings['valid_fraction'] = 0.05
  with pytest.raises(ValueError, match=message):
    recordings.RecordingProvider(**settings)


def test_items_are_the_recordings_of_the_split(tmp_path):
  dry = noise(1000)
  write(tmp_path / 'riff.input.wav', dry)
  for name, gain in (('G020', 0.2), ('G070', 0.7)):
    write(tmp_path / f'{name}.riff.target.wav', gain * dry)
  items = recordings.RecordingProvider(
    str(tmp_path), split='test', sample_rate=RATE, n_samples=100
  ).items()
  assert [item.options['knobs'].tolist() for item in items] == [
    [np.float32(0.2)],
    [np.float32(0.7)],
  ]
  for item in items:
    assert item.name.endswith('riff.target.wav') and item.version
    assert item.input.sample_rate == item.target.sample_rate == RATE
    source = np.concatenate(list(item.input.blocks()))
    np.testing.assert_array_equal(source, dry[900:, np.newaxis])
    target = np.concatenate(list(item.target.blocks()))
    np.testing.assert_allclose(target, item.options['knobs'] * source)


def test_an_inverted_target_is_reported(one_pair, caplog):
  dry, settings = one_pair
  write(pathlib.Path(settings['target_path']), -np.tanh(dry))
  with caplog.at_level('WARNING'):
    recordings.RecordingProvider(**settings)
  assert 'upside down' in caplog.text


# ---------------------- Rendered ----------------------------------------------
def test_settings_cover_each_knob_and_splits_differ():
  settings = recordings.spread_settings(10, 3, seed=1)
  for knob in settings.T:
    assert sorted(np.floor(10 * knob)) == list(range(10))
  np.testing.assert_array_equal(
    settings, recordings.spread_settings(10, 3, seed=1)
  )
  other = recordings.spread_settings(10, 3, seed=2)
  assert not np.any(np.isclose(settings, other))
  assert recordings.spread_settings(2, 0, seed=0).shape == (2, 0)


def test_a_plugin_is_rendered_at_settings_of_its_knobs(tmp_path):
  path = write(tmp_path / 'dry.wav', noise(16000))
  settings = dict(
    uri=GAIN,
    knobs=['amount'],
    ranges={'amount': (0.5, 1.5)},
    dry_path=path,
    sample_rate=RATE,
    n_samples=400,
    n_settings=4,
    seconds=1.0,
  )
  seen = {}
  for split in ('train', 'valid', 'test'):
    provider = recordings.RenderedProvider(split=split, **settings)
    assert provider.knob_names == ('amount',)
    for batch in batches(provider, 10):
      gain = 0.5 + batch['knobs']
      np.testing.assert_allclose(
        batch['target'], gain * batch['audio'], rtol=1e-4, atol=1e-6
      )
      seen.setdefault(split, set()).update(gain.ravel().tolist())
  assert len(seen['train']) == 4
  assert not seen['train'] & seen['valid']
  assert not seen['test'] & (seen['train'] | seen['valid'])


def test_folders_of_splits_and_rates_are_taken_as_they_are(tmp_path):
  for split, seed in (('train', 1), ('valid', 2)):
    write(tmp_path / split / 'a.wav', noise(8000, seed), 2 * RATE)
  provider = recordings.RenderedProvider(
    GAIN,
    fixed={'amount': 0.25},
    dry_path=str(tmp_path),
    split='valid',
    sample_rate=RATE,
    n_samples=400,
    input_gain_db=6.0206,
  )
  ((_, dry, wet, knobs, _),) = provider.recordings
  assert len(dry) == 4000 and knobs.shape == (0,)
  np.testing.assert_allclose(wet, 0.25 * dry, atol=1e-6)
  # Half of the energy of white noise is above the new Nyquist frequency.
  np.testing.assert_allclose(np.std(dry), 2 * 0.3 / np.sqrt(2), rtol=0.05)


def test_the_music_of_dafx_is_the_default():
  provider = recordings.RenderedProvider(
    GAIN, fixed={'amount': 1.0}, sample_rate=RATE, n_samples=800, seconds=2.0
  )
  ((_, dry, *_),) = provider.recordings
  assert len(dry) == 2 * RATE
  assert 0.01 < np.std(dry) < 1.0


def test_a_missing_dry_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='no.wav'):
    recordings.RenderedProvider(GAIN, dry_path=str(tmp_path / 'no.wav'))
