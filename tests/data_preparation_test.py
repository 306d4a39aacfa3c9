"""Making pairs: from mixes by plugins, and from nothing but a seed."""

import numpy as np
import pyloudnorm
import pytest
import scipy.signal
import soundfile
from cases import some_quick

from dafx.training import data, labels
from dafx.training.data_preparation import (
  distortion,
  files,
  guitar,
  mastering,
  nonspeech,
  speech,
)

RATE = 44100


def synthetic_mix(seed, seconds=1.5, rate=RATE):
  """A few notes with a beat and pink-like noise, stereo, [n_samples, 2]."""
  rng = np.random.default_rng(seed)
  t = np.arange(int(seconds * rate)) / rate
  notes = sum(
    np.sin(2 * np.pi * 110 * 2 ** (k / 12) * t) for k in rng.integers(0, 36, 4)
  )
  noise = scipy.signal.lfilter(
    [1], [1, -0.97], rng.standard_normal((2, len(t)))
  )
  beat = np.exp(-8 * (t % 0.25))
  mix = 0.05 * notes + 0.02 * noise * beat
  return mix.T.astype(np.float32)


@pytest.fixture(scope='module')
def mixes(tmp_path_factory):
  folder = tmp_path_factory.mktemp('mixes')
  for i, split in enumerate(('train', 'test')):
    (folder / split).mkdir()
    soundfile.write(
      folder / split / f'{split}_song.wav', synthetic_mix(i), RATE
    )
  return folder


def prepare(mixes, output, seed=0, sample_rate=22050, n_channels=1, count=3):
  mastering.prepare_from_mixes(
    mixes, output, sample_rate, n_channels, {'train': count, 'test': 1}, seed
  )


@pytest.fixture(scope='module')
def prepared(mixes, tmp_path_factory):
  folder = tmp_path_factory.mktemp('pairs')
  prepare(mixes, folder)
  return folder


def contents(folder):
  return {
    p.relative_to(folder).as_posix(): p.read_bytes()
    for p in sorted(folder.rglob('*.flac'))
  }


def loudness(path):
  audio, rate = soundfile.read(path, always_2d=True)
  return pyloudnorm.Meter(rate).integrated_loudness(audio)


# ------------------------------------------------------------ From mixes ----
def test_layout_rates_and_channels(prepared):
  assert set(contents(prepared)) == {
    'test/input/test_song_0.flac',
    'test/target/test_song_0.flac',
    *(f'train/input/train_song_{i}.flac' for i in range(3)),
    *(f'train/target/train_song_{i}.flac' for i in range(3)),
  }
  (test,) = data.find_pairs(prepared / 'test')
  assert (test.sample_rate, test.n_channels) == (RATE, 2)
  for pair in data.find_pairs(prepared / 'train'):
    assert (pair.sample_rate, pair.n_channels) == (22050, 1)
    assert abs(pair.n_samples - 1.5 * 22050) <= 1
  # What training reads takes them.
  data.FolderProvider(str(prepared), 'train', 22050, 16384)


def test_targets_are_at_minus_14_lufs_and_below_minus_1_db(prepared):
  for path in (prepared / 'test' / 'target').iterdir():
    assert abs(loudness(path) - mastering.TARGET_LUFS) < 1.0
    peak = np.abs(soundfile.read(path)[0]).max()
    assert 20 * np.log10(peak) < -0.9
  # Mixed to one channel, two that differ are softer.
  for path in (prepared / 'train' / 'target').iterdir():
    assert -22.0 < loudness(path) < -13.0


def test_inputs_vary_and_their_targets_do_not(prepared):
  inputs = [loudness(p) for p in sorted((prepared / 'train/input').iterdir())]
  assert np.ptp(inputs) > 1.0
  targets = {p.read_bytes() for p in (prepared / 'train/target').iterdir()}
  assert len(targets) == 1
  (test,) = (prepared / 'test' / 'input').iterdir()
  low, high = mastering.INPUT_LUFS
  assert low - 0.1 < loudness(test) < high + 0.1


def test_inputs_differ_in_tone():
  mix = synthetic_mix(0)
  balances = [
    mastering.section_levels_db(mastering.make_input(mix, RATE, i), RATE)
    for i in range(4)
  ]
  assert np.ptp(balances, axis=0).max() > 3.0


def test_section_levels_of_white_noise_rise_by_3_db_per_octave():
  audio = np.random.default_rng(0).standard_normal([4 * RATE, 2])
  levels = mastering.section_levels_db(audio, RATE)
  np.testing.assert_allclose(10 ** (levels / 10) @ np.ones(6), 1.0)
  centres = np.array([80, 200, 500, 1250, 3200, 8000])
  expected = 10 * np.log10(centres / centres.sum())
  np.testing.assert_allclose(levels, expected, atol=0.8)


def test_one_seed_gives_the_same_files_another_gives_others(
  mixes, prepared, tmp_path
):
  prepare(mixes, tmp_path / 'same', count=1)
  same = contents(tmp_path / 'same')
  original = contents(prepared)
  assert same == {name: original[name] for name in same}
  prepare(mixes, tmp_path / 'other', seed=1, count=1)
  other = contents(tmp_path / 'other')
  assert all(other[name] != same[name] for name in same)


def test_files_that_are_there_are_left_as_they_are(mixes, tmp_path):
  prepare(mixes, tmp_path, count=1)
  stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*.flac')}
  before = contents(tmp_path)
  gone = tmp_path / 'train' / 'input' / 'train_song_0.flac'
  gone.unlink()
  # One is lost, and two more are wanted.
  prepare(mixes, tmp_path, count=2)
  after = contents(tmp_path)
  assert {name: after[name] for name in before} == before
  assert len(after) == len(before) + 2
  for path, stamp in stamps.items():
    if path != gone:
      assert path.stat().st_mtime_ns == stamp, path


def test_files_of_other_settings_are_not_taken_for_these(mixes, tmp_path):
  prepare(mixes, tmp_path, count=1)
  before = contents(tmp_path)
  for settings, found in (
    ({'sample_rate': 16000}, 'sample_rate=22050, not 16000'),
    ({'n_channels': 2}, 'n_channels=1, not 2'),
    ({'seed': 5}, 'seed=0, not 5'),
  ):
    with pytest.raises(ValueError, match=rf'{found}.*output_dir'):
      prepare(mixes, tmp_path, count=1, **settings)
  assert contents(tmp_path) == before


def test_what_is_no_longer_wanted_goes(mixes, tmp_path):
  prepare(mixes, tmp_path, count=2)
  before = contents(tmp_path)
  prepare(mixes, tmp_path, count=1)
  gone = {f'train/{side}/train_song_1.flac' for side in ('input', 'target')}
  assert contents(tmp_path).keys() == before.keys() - gone
  assert 'train/train_song_1' not in files.Manifest(tmp_path).pairs


def test_mixes_that_cannot_be_mastered_are_named(tmp_path):
  def expect(audio, message, error=ValueError):
    folder = tmp_path / 'mixes' / 'train'
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / 'bad.wav', audio, RATE)
    with pytest.raises(error, match=message):
      mastering.prepare_from_mixes(
        tmp_path / 'mixes', tmp_path / 'out', 22050, 1, {'train': 1}
      )
    assert not list(tmp_path.glob('out/**/*.flac'))

  with pytest.raises(FileNotFoundError, match='mixes/train'):
    mastering.prepare_from_mixes(
      tmp_path / 'mixes', tmp_path / 'out', 22050, 1, {'train': 1}
    )
  expect(np.zeros([RATE, 1]), r'bad\.wav has 1 channels')
  expect(np.zeros([RATE, 2]), r'bad\.wav.*silent')
  expect(synthetic_mix(0, 0.2), r'bad\.wav.*0\.4 s')


# ------------------------------------------------------------ Without any ----
@pytest.mark.parametrize('f0_hz', [82.41, 329.63, 880.0])
def test_a_plucked_string_has_its_pitch_and_dies_away(f0_hz):
  note = guitar.pluck(f0_hz, 1.0, 0.8, np.random.default_rng(0))
  spectrum = np.abs(np.fft.rfft(note * np.hanning(len(note)), 2**19))
  near = np.arange(len(spectrum)) * 44100 / 2**19
  near = np.where(abs(near / f0_hz - 1) < 0.1, spectrum, 0)
  found_hz = near.argmax() * 44100 / 2**19
  assert abs(1200 * np.log2(found_hz / f0_hz)) < 5  # cents
  quarters = [np.std(q) for q in np.split(note, 4)]
  assert quarters[0] > quarters[1] > quarters[2] > quarters[3] > 0


def test_guitars_are_of_their_style_and_seed():
  a, b, c = (guitar.riff('lead', 1.0, seed) for seed in (0, 0, 1))
  np.testing.assert_array_equal(a, b)
  assert (a != c).any() and np.abs(a).max() == 1.0
  with pytest.raises(ValueError, match=r"style='polka'.*strum"):
    guitar.riff('polka', 1.0, 0)


def test_the_channel_strip_distorts_and_levels_what_is_loud():
  def harmonics_and_level_db(peak):
    t = np.arange(guitar.SAMPLE_RATE) / guitar.SAMPLE_RATE
    tone = peak * np.sin(2 * np.pi * 400 * t)[:, None]
    out = distortion.amplify(tone)[:, 0]
    lines = np.abs(np.fft.rfft(out * np.hanning(len(out))))[::400]
    harmonics = np.linalg.norm(lines[2:20]) / lines[1]
    return 20 * np.log10([harmonics, np.std(out[len(out) // 2 :])])

  low, high = (
    harmonics_and_level_db(10 ** (db / 20)) for db in distortion.PEAK_DB
  )
  assert low[0] < -30 < -14 < high[0]
  # Of 18 dB, less than a third are left.
  assert high[1] - low[1] < 6


@pytest.mark.parametrize(
  'speaker, low, high', [('m1', 70, 160), ('f2', 140, 280)]
)
def test_a_voice_has_pitch_formants_and_pauses(speaker, low, high):
  voice = speech.voice_of(speaker)
  assert low < voice.f0_hz < high
  phrase = speech.say_phrase(voice, np.random.default_rng(0))
  frames = phrase[: len(phrase) // 2205 * 2205].reshape(-1, 2205)
  loudest = frames[frames.std(axis=1).argmax()]
  lags = np.correlate(loudest, loudest, 'full')[len(loudest) - 1 :]
  first = int(44100 / high)
  period = first + lags[first : int(44100 / low)].argmax()
  assert lags[period] > 0.5 * lags[0]  # it is periodic, within these limits
  frequencies, power = scipy.signal.welch(phrase, 44100, nperseg=2048)
  below = power[frequencies < 4000].sum() / power.sum()
  assert below > 0.8
  with pytest.raises(ValueError, match="speaker='bob'"):
    speech.voice_of('bob')


def test_breaths_and_pops_lie_where_the_labels_say():
  source, target, events = nonspeech.make_pair('f1', [0, 0])
  assert {e.kind for e in events} == {'breath', 'pop'}
  added = (source - target)[:, 0]
  mask = labels.event_mask(events, len(added))
  assert not added[~mask].any()
  for event in events:
    part = slice(event.start, event.stop)
    level_db = 20 * np.log10(added[part].std() / target[part].std())
    assert level_db > 15  # over the room
    spectrum = np.abs(np.fft.rfft(added[part])) ** 2
    low = spectrum[: int(500 * len(added[part]) / 44100)].sum()
    assert (low > 0.5 * spectrum.sum()) == (event.kind == 'pop')
  same = nonspeech.make_pair('f1', [0, 0])
  np.testing.assert_array_equal(same[0], source)
  assert same[2] == events


def test_speakers_are_split_as_published():
  assert nonspeech.split_of('folder/f10_script1_clean') == 'valid'
  assert nonspeech.split_of('m10_script5') == 'valid'
  assert nonspeech.split_of('f9_script1') == 'test'
  assert nonspeech.split_of('m9_script2') == 'test'
  assert nonspeech.split_of('m1_script2') == 'train'
  with pytest.raises(ValueError, match="'script1'.*f10_"):
    nonspeech.split_of('script1')


@pytest.mark.parametrize(
  'module', some_quick([distortion, nonspeech], [nonspeech])
)
def test_demo_pairs(module, tmp_path, monkeypatch):
  monkeypatch.setattr(module, 'SECONDS', 4.0)
  module.prepare_demo(tmp_path, 22050, 1, n_variants=1)
  found = {s: data.find_pairs(tmp_path / s) for s in ('train', 'valid', 'test')}
  for split, members in found.items():
    rate = 44100 if split == 'test' else 22050
    assert {(p.sample_rate, p.n_channels) for p in members} == {(rate, 1)}
    assert {p.n_samples for p in members} == {4 * rate}
    if module is nonspeech:
      assert all(p.events for p in members)
      assert {nonspeech.split_of(p.name) for p in members} == {split}
  notes = files.Manifest(tmp_path).pairs
  assert len(notes) == sum(map(len, found.values()))
  for key, note in notes.items():
    for side in ('input', 'target'):
      path = tmp_path / note[side]['file']
      assert note[side]['sha256'] == files.sha256(path), key
  # What is there stays; what is lost comes back as it was.
  before = contents(tmp_path)
  stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*.flac')}
  lost = found['train'][0].target_path
  lost.unlink()
  module.prepare_demo(tmp_path, 22050, 1, n_variants=1)
  assert contents(tmp_path) == before
  changed = {p for p, s in stamps.items() if p.stat().st_mtime_ns != s}
  assert changed <= {lost, found['train'][0].input_path}
  with pytest.raises(ValueError, match='sample_rate=22050, not 16000'):
    module.prepare_demo(tmp_path, 16000, 1, n_variants=1)
  with pytest.raises(ValueError, match='seed=0, not 5'):
    module.prepare_demo(tmp_path, 22050, 1, n_variants=1, seed=5)
  assert contents(tmp_path) == before
  # What is no longer wanted goes, labels too.
  module.prepare_demo(tmp_path, 22050, 1, n_variants=0)
  assert not [p for p in (tmp_path / 'train').rglob('*') if p.is_file()]
  assert all(
    key.split('/')[0] != 'train' for key in files.Manifest(tmp_path).pairs
  )
  assert contents(tmp_path) == {
    name: content
    for name, content in before.items()
    if not name.startswith('train/')
  }


def test_what_exceeds_full_scale_is_kept(tmp_path):
  loud = np.array([[0.5], [-1.5], [1.25]])
  path = files.write_audio(tmp_path / 'ä loud.one', loud, 8000)
  assert path.name == 'ä loud.one.wav'
  np.testing.assert_array_equal(soundfile.read(path)[0][:, None], loud)
  assert files.find_written(tmp_path / 'ä loud.one') == path
  path = files.write_audio(tmp_path / 'soft', 0.1 * loud, 8000)
  assert path.suffix == '.flac'
