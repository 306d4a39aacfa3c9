"""Aligning pairs of files, and bringing them into the layout of training."""

import pathlib
import shlex
import shutil
import unicodedata

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr

from dafx.audio import disk
from dafx.training import align, data, likeness
from dafx.training.data_preparation import (
  files,
  guitar,
  matching,
  nonspeech,
  pairs,
  published,
  shards,
)

RATE = 22050


def music(seconds=3.0, seed=0, rate=RATE, n_channels=1):
  """Notes that begin and end, over some noise; [n_samples, n_channels]."""
  rng = np.random.default_rng(seed)
  n_samples = int(seconds * rate)
  audio = 0.003 * rng.standard_normal([n_samples, n_channels])
  t = np.arange(int(0.6 * rate)) / rate
  for _ in range(int(6 * seconds)):
    start = int(rng.uniform(0, seconds) * rate)
    f0_hz = 110 * 2 ** (rng.integers(0, 30) / 12)
    gains = 0.06 * rng.uniform(0.5, 1, n_channels)
    for k in range(1, 9):
      if k * f0_hz < 0.45 * rate:
        note = np.exp(-6 * t) * np.sin(2 * np.pi * k * f0_hz * t) / k
        part = audio[start : start + len(t)]
        part += (note[:, np.newaxis] * gains)[: len(part)]
  return audio


def late(audio, samples):
  """Delays by a number of samples that need not be whole."""
  whole = int(np.floor(samples))
  if whole >= 0:
    audio = np.concatenate([np.zeros([whole, audio.shape[1]]), audio])
  else:
    audio = audio[-whole:]
  return align.shift(audio, samples - whole)


def processed(audio, rate=RATE):
  """Equalised, compressed and turned over, without delay."""
  sos = scipy.signal.butter(1, 3000, fs=rate, output='sos')
  audio = audio + 0.5 * scipy.signal.sosfilt(sos, audio, axis=0)
  return -0.5 * np.tanh(4 * audio)


# ----------------------------------------------------------------- Shift ----
def test_shift_is_that_of_a_sine():
  t = np.arange(2000)[:, None]
  window = np.hanning(2000)[:, None]

  def wave(delay):
    return window * np.sin(2 * np.pi * 0.11 * (t - delay))

  # The window hardly changes over a part of a sample.
  np.testing.assert_allclose(
    align.shift(wave(0), 0.3)[20:-20], wave(0.3)[20:-20], atol=1e-3
  )
  np.testing.assert_allclose(
    align.shift(align.shift(wave(0), 0.4), -0.4), wave(0), atol=1e-6
  )


# ------------------------------------------------------------------- Lag ----
@pytest.mark.parametrize(
  'lag', [0.0, 0.25, 0.5, 7.8, 333.37, 20000.6, -0.6, -81.35, -9000.25]
)
def test_lags_are_found_to_a_part_of_a_sample(lag):
  audio = music()
  found = align.align(audio, late(audio, lag), RATE)
  assert abs(found.lag_samples - lag) < 0.02
  assert found.polarity == 1 and found.confidence > 0.7


@pytest.mark.parametrize('rate', [8000, 44100, 96000, 192000])
def test_lags_at_any_rate(rate):
  audio = soxr.resample(music(2.0), RATE, rate)
  found = align.align(audio, late(audio, 50.4), rate)
  assert abs(found.lag_samples - 50.4) < 0.1


def test_one_second_is_enough():
  audio = music(1.0, seed=1)
  found = align.align(audio, late(audio, 120.3), RATE)
  assert abs(found.lag_samples - 120.3) < 0.05


def test_what_a_processor_did_is_no_lag_and_its_polarity_is_told():
  audio = music()
  found = align.align(audio, late(processed(audio), 500), RATE)
  assert abs(found.lag_samples - 500) < 0.5
  assert found.polarity == -1 and found.confidence > 0.4


def test_what_turns_phases_is_the_same_music():
  # All-pass filters alone, a hundred: the correlation has no peak any more.
  audio = music()
  poles = np.random.default_rng(2).uniform(0.3, 0.9, 100)
  turned = audio
  for pole in poles:
    turned = scipy.signal.lfilter([-pole, 1], [1, -pole], turned, axis=0)
  found = align.align(audio, turned, RATE)
  assert found.confidence < align.MIN_CONFIDENCE
  # Other music is not, be it filtered or not.
  for other in (music(seed=7), turned[::-1]):
    with pytest.raises(align.AlignmentError, match='alike'):
      align.align(audio, other, RATE)


@pytest.mark.parametrize('n_samples', [1, 2, 7, 60, 500, 1200, 3000])
def test_short_signals_that_differ_are_no_pair(n_samples):
  # So short, they are coherent by chance.
  sides = np.random.default_rng(3).standard_normal([2, n_samples, 1])
  value = likeness.coherence(*sides[..., 0], RATE)
  assert value < 0.3
  turned = scipy.signal.lfilter([0.9], [1, -0.5], sides[0, :, 0])
  if n_samples == 3000:
    assert likeness.coherence(sides[0, :, 0], turned, RATE) > 0.9


def test_mono_beside_stereo():
  audio = music(n_channels=2)
  mono = audio.mean(axis=1, keepdims=True)
  found = align.align(mono, late(audio, 30), RATE)
  assert abs(found.lag_samples - 30) < 0.05


def test_noise_of_the_recording_does_not_matter():
  audio = music()
  noise = 0.1 * audio.std() * np.random.default_rng(1).standard_normal([1, 1])
  found = align.align(audio, late(audio, 200) + noise, RATE)
  assert abs(found.lag_samples - 200) < 0.05


def test_what_is_no_pair_is_refused():
  audio = music()
  with pytest.raises(align.AlignmentError, match='do not sound alike'):
    align.align(audio, music(seed=7), RATE)
  with pytest.raises(align.AlignmentError, match='the target is silent'):
    align.align(audio, np.zeros_like(audio), RATE)
  with pytest.raises(align.AlignmentError, match='the input is silent'):
    align.align(1e-6 * audio, audio, RATE)


def tone(f0_hz, seconds, n_harmonics, rng):
  """Harmonics of phases that are drawn."""
  t = np.arange(int(seconds * RATE))[:, None] / RATE
  phases = rng.uniform(0, 2 * np.pi, n_harmonics)
  waves = [
    np.sin(2 * np.pi * k * f0_hz * t + phase) / k
    for k, phase in enumerate(phases, 1)
  ]
  return 0.1 * sum(waves)


def test_tones_of_one_pitch_are_no_pair():
  rng = np.random.default_rng(0)
  for i in range(30):
    f0_hz, seconds = rng.uniform(110, 880), rng.uniform(0.3, 1.0)
    n_harmonics = (1, 6)[i % 2]
    sides = [tone(f0_hz, seconds, n_harmonics, rng) for _ in range(2)]
    if i % 3 == 0:
      sides = [s + 1e-3 * rng.standard_normal(s.shape) for s in sides]
    with pytest.raises(align.AlignmentError, match='a tone|alike|one lag'):
      align.align(*sides, RATE)


@pytest.mark.parametrize('rest', [0, 2000])  # or cut at its onset
def test_single_notes_are_aligned_to_the_right_period(rest):
  rng = np.random.default_rng(5)
  for f0_hz, seconds in (
    (110.0, 0.5),
    (290.0, 1.7),
    (364.0, 2.2),
    (650.0, 2.3),
  ):
    note = 0.3 * guitar.pluck(f0_hz, seconds, 0.6, rng)[:, None]
    note = np.concatenate([np.zeros([rest, 1]), note])
    found = align.align(note, late(np.tanh(4 * note), 60), guitar.SAMPLE_RATE)
    assert abs(found.lag_samples - 60) < 1


def test_steady_noise_is_a_pair():
  audio = 0.1 * np.random.default_rng(0).standard_normal([RATE, 1])
  assert abs(align.align(audio, late(audio, 9), RATE).lag_samples - 9) < 0.1


def test_a_clock_that_runs_differently_is_refused():
  audio = music(20.0)
  other = soxr.resample(audio, 100000, 100020)  # 200 ppm
  with pytest.raises(align.AlignmentError, match='agree|alike'):
    align.align(audio, other, RATE)


def test_of_a_file_that_was_cut_the_longest_part_is_taken():
  audio = music(24.0)
  target = np.concatenate([audio[: 5 * RATE], audio[7 * RATE :]])
  found = align.align(audio, target, RATE)
  assert abs(found.lag_samples + 2 * RATE) < 0.05
  assert 6 * RATE < found.first_sample < 12 * RATE
  assert abs(found.last_sample - 24 * RATE) <= 1
  ours, theirs = align.apply(audio, target, found)
  np.testing.assert_allclose(ours, theirs, atol=1e-9)
  # Half of it from elsewhere: no pair any more.
  target = np.concatenate([audio[: 10 * RATE], music(14.0, seed=5)])
  with pytest.raises(align.AlignmentError, match='only .* of 24.0 s agree'):
    align.align(audio, target, RATE)


def test_pauses_belong_to_a_pair():
  audio = np.concatenate(
    [np.zeros([5 * RATE, 1]), music(8.0), np.zeros([6 * RATE, 1]), music(5.0)]
  )
  found = align.align(audio, late(audio, 40), RATE)
  assert found.first_sample == 0
  assert found.last_sample >= len(audio) - 41


@pytest.mark.parametrize('lag', [0, 300, -300, 41.4])
def test_aligned_pairs_lie_on_each_other(lag):
  audio = music()
  target = late(audio, lag)
  ours, theirs = align.apply(audio, target, align.align(audio, target, RATE))
  assert len(ours) == len(theirs) > len(audio) - 310
  middle = slice(200, -200)
  np.testing.assert_allclose(ours[middle], theirs[middle], atol=2e-3)


def test_what_is_aligned_stays_as_it_is():
  audio = music()
  target = align.shift(audio, 0.3)
  ours, theirs = align.apply(audio, target, align.align(audio, target, RATE))
  np.testing.assert_array_equal(ours, audio)
  np.testing.assert_array_equal(theirs, target)


# --------------------------------------------------------------- Finding ----
def find(folder, **kwargs):
  return matching.find_candidates(folder / 'input', folder / 'target', **kwargs)


def write(path, audio, rate=RATE):
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, audio, rate, 'FLOAT')


def touch(folder, *names):
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


def test_pairs_are_found_by_names(tmp_path):
  touch(tmp_path, 'dry/a b.wav', 'dry/deep/ü.1.WAV', 'dry/deep/ü.2.wav')
  touch(tmp_path, 'wet/a b.flac', 'wet/deep/ü.1.wav', 'wet/alone.wav')
  found, left_out = matching.find_candidates(tmp_path / 'dry', tmp_path / 'wet')
  assert [c.name for c in found] == ['a b', 'deep/ü.1']
  assert found[0].target_path == tmp_path / 'wet/a b.flac'
  assert left_out == {
    'deep/ü.2': f'{tmp_path}/dry/deep/ü.2.wav has no partner among the targets',
    'alone': f'{tmp_path}/wet/alone.wav has no partner among the inputs',
  }


def test_pairs_are_found_by_patterns(tmp_path):
  touch(
    tmp_path,
    'a b-dry.wav',
    'a b-wet.flac',
    'deep/ü.1-dry.wav',
    'deep/ü.1-wet.wav',
    'alone-dry.wav',
    'notes.txt',
    '.hidden-dry.wav',
  )
  both = tmp_path, tmp_path
  found, left_out = matching.find_candidates(
    *both, '{name}-dry', '{name}-wet.wav'
  )
  assert [c.name for c in found] == ['a b', 'deep/ü.1']
  assert found[0].target_path.name == 'a b-wet.flac'
  assert list(left_out) == ['alone']
  assert 'no partner among the targets' in left_out['alone']
  with pytest.raises(ValueError, match=r"'dry/\*'.*\{name\}"):
    matching.find_candidates(*both, 'dry/*', 'wet/*')
  with pytest.raises(FileNotFoundError, match='holds no inputs.*in/{name}'):
    matching.find_candidates(*both, 'in/{name}', 'out/{name}')


@pytest.mark.parametrize(
  'names, patterns',
  [
    (('a_dry b_dry', 'a_wet b_wet c_wet'), ('{name}_dry', '{name}_wet')),
    (('a1 b1', 'a1-amp b1-amp'), ('{name}1', '{name}1-amp')),
    (('dry/x/a dry/b', 'b x/a'), ('dry/{name}', '{name}')),
    (('in_1 in_2', 'out_1 out_2'), ('in_{name}', 'out_{name}')),
    (('a_dry b_dry', 'c_wet d_wet'), None),
    (('one', 'two'), None),
  ],
)
def test_names_that_differ_alike_are_an_error_with_the_patterns(
  tmp_path, names, patterns
):
  inputs, targets = (side.split() for side in names)
  assert matching.suggest_patterns(inputs, targets) == patterns
  dry, wet = tmp_path / 'my dry', tmp_path / 'wet'
  touch(dry, *(f'{name}.wav' for name in inputs))
  touch(wet, *(f'{name}.flac' for name in targets))
  with pytest.raises(ValueError, match='(?s)No input in .*my dry has') as error:
    matching.find_candidates(dry, wet)
  assert all(name in str(error.value) for name in (*inputs, *targets))
  if patterns is None:
    assert 'one name' in str(error.value)
    return
  flags = shlex.split(str(error.value).split(': ')[-1])
  assert flags == [
    f'--{side}_pattern={pattern}'
    for side, pattern in zip(('input', 'target'), patterns)
  ]
  found, _ = matching.find_candidates(dry, wet, *patterns)
  assert len(found) == len(inputs)


def test_folders_that_do_not_go_together(tmp_path):
  touch(tmp_path, 'dry/a.wav', 'dry/wet/a.wav', 'other/a.wav')
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'again').symlink_to(tmp_path / 'dry')

  def find(*names):
    matching.find_candidates(*(tmp_path / name for name in names))

  with pytest.raises(ValueError, match='both looked for in .*dry.*_pattern'):
    find('dry', 'dry')
  with pytest.raises(ValueError, match='both looked for'):
    find('dry', 'again')
  with pytest.raises(ValueError, match='wet lie in one another.*_pattern'):
    find('dry', 'dry/wet')
  with pytest.raises(ValueError, match='lie in one another'):
    find('dry/wet', 'dry')
  with pytest.raises(FileNotFoundError, match='empty holds no audio files'):
    find('dry', 'empty')

  def check(*names):
    matching.check_folders(*(tmp_path / name for name in names))

  check('dry', 'other', 'out')
  check('dry', 'other', '.')  # as ~/mine/dry and ~/mine/train
  with pytest.raises(ValueError, match='--input=.*a file.*blackbox_demo'):
    check('dry/a.wav', 'other/a.wav', 'out')
  with pytest.raises(FileNotFoundError, match='--target=.*/wett: .*no such'):
    check('dry', 'wett', 'out')
  for out in ('other', 'other/new'):
    with pytest.raises(ValueError, match='--target=.*another --output_dir'):
      check('dry', out.split('/')[0], out)
  touch(tmp_path, 'out/train/input/a.wav')
  with pytest.raises(ValueError, match='--input=.*another --output_dir'):
    check('out/train/input', 'other', 'out')


def test_names_written_in_two_ways_of_unicode_are_one(tmp_path):
  composed, apart = (
    unicodedata.normalize(form, 'Übung é') for form in ('NFC', 'NFD')
  )
  assert composed != apart
  touch(tmp_path, f'input/{composed}.wav', f'target/{apart}.wav')
  found, left_out = find(tmp_path)
  assert [c.name for c in found] == [composed] and not left_out


def test_names_that_would_be_hidden_files_are_listed(tmp_path):
  touch(tmp_path, 'dry.one.wav', 'wet.one.wav', 'dry two.wav', 'wet two.wav')
  found, left_out = matching.find_candidates(
    tmp_path, tmp_path, 'dry{name}', 'wet{name}'
  )
  assert [candidate.name for candidate in found] == [' two']
  assert 'hidden' in left_out['dry.one.wav']


def test_two_preparations_of_one_folder_do_not_meet(tmp_path):
  with disk.locked(tmp_path / 'new', 'dafx_prepare'):
    with disk.locked(tmp_path / 'other', 'dafx_prepare'):
      pass
    with pytest.raises(OSError, match='is at work in .*new'):
      with disk.locked(tmp_path / 'new', 'dafx_prepare'):
        pass
  with disk.locked(tmp_path / 'new', 'dafx_prepare'):
    pass


def test_order_matches_only_where_it_is_asked_for(tmp_path):
  touch(tmp_path, *(f'input/d{i}.wav' for i in range(3)))
  touch(tmp_path, *(f'target/p{i}.wav' for i in range(3)))
  with pytest.raises(ValueError, match='No input in'):
    find(tmp_path)
  found, left_out = find(tmp_path, by_order=True)
  assert [(c.name, c.target_path.stem) for c in found] == [
    ('d0', 'p0'),
    ('d1', 'p1'),
    ('d2', 'p2'),
  ]
  assert {c.matched_by for c in found} == {'order'} and not left_out


# --------------------------------------------------------------- Writing ----
def make_own(folder, names, n_channels=1, rate=RATE, seconds=0.5):
  for i, name in enumerate(names):
    audio = music(seconds, 100 + i, rate, n_channels)
    for side in ('input', 'target'):
      write(folder / side / f'{name}.wav', audio, rate)


def prepare(source, output, n_channels=1, sample_rate=16000, **kwargs):
  pairs.prepare_from_candidates(
    *find(source), output, sample_rate, n_channels, **kwargs
  )


def splits(folder):
  return {
    split: {p.name for p in data.find_pairs(folder / split)}
    for split in ('train', 'valid', 'test')
  }


@pytest.mark.parametrize('count, sizes', [(3, (1, 1, 1)), (30, (24, 3, 3))])
def test_own_pairs_are_split_apart(tmp_path, count, sizes):
  names = [f'album_{i % 2}/take.{i}' for i in range(count)]
  make_own(tmp_path / 'own', names, n_channels=2)
  prepare(tmp_path / 'own', tmp_path / 'out')
  found = splits(tmp_path / 'out')
  assert tuple(map(len, found.values())) == sizes
  assert set.union(*found.values()) == set(names)  # sizes add up: disjoint
  train = data.find_pairs(tmp_path / 'out' / 'train')
  assert {(p.sample_rate, p.n_channels) for p in train} == {(16000, 1)}
  test = data.find_pairs(tmp_path / 'out' / 'test')
  assert {(p.sample_rate, p.n_channels) for p in test} == {(RATE, 2)}


def test_own_pairs_stay_in_their_split_when_others_come(tmp_path):
  former = {}
  for count in (3, 9, 12, 25):
    make_own(tmp_path / 'own', [f'song {i}' for i in range(count)])
    prepare(tmp_path / 'own', tmp_path / 'out')
    found = splits(tmp_path / 'out')
    now = {name: s for s, names in found.items() for name in names}
    assert len(now) == sum(map(len, found.values())) == count  # disjoint
    assert {name: now[name] for name in former} == former
    former = now


def test_the_split_depends_on_names_and_seed():
  names = [f'song {i}' for i in range(50)]
  first = pairs.split_by_hash(names, {}, 0)
  assert pairs.split_by_hash(names[::-1], {}, 0) == first
  assert pairs.split_by_hash(names, {}, 1) != first


def test_own_pairs_are_written_once_and_again_if_they_change(tmp_path):
  make_own(tmp_path / 'own', 'abcd')
  prepare(tmp_path / 'own', tmp_path / 'out')
  written = list((tmp_path / 'out').rglob('*.flac'))
  assert len(written) == 8
  stamps = {p: p.stat().st_mtime_ns for p in written}
  prepare(tmp_path / 'own', tmp_path / 'out')
  assert {p: p.stat().st_mtime_ns for p in written} == stamps
  for side in ('input', 'target'):
    write(tmp_path / 'own' / side / 'b.wav', music(0.6, seed=3))
  prepare(tmp_path / 'own', tmp_path / 'out')
  changed = {p for p in written if p.stat().st_mtime_ns != stamps[p]}
  assert {p.stem for p in changed} == {'b'} and len(changed) == 2


def test_an_interrupted_preparation_goes_on(tmp_path, monkeypatch):
  make_own(tmp_path / 'own', 'abcde')
  prepare(tmp_path / 'own', tmp_path / 'whole')
  calls = []
  real = files.write_audio

  def failing(*args):
    calls.append(args)
    if len(calls) == 4:
      raise KeyboardInterrupt
    return real(*args)

  monkeypatch.setattr(files, 'write_audio', failing)
  with pytest.raises(KeyboardInterrupt):
    prepare(tmp_path / 'own', tmp_path / 'out')
  aligned = []
  monkeypatch.setattr(pairs, '_align', lambda *args: aligned.append(args))
  prepare(tmp_path / 'own', tmp_path / 'out')
  assert not aligned  # that was done
  assert len(calls) == 4 + 2 * 5 - 2  # one pair of two files was whole
  for path in (tmp_path / 'whole').rglob('*.flac'):
    twin = tmp_path / 'out' / path.relative_to(tmp_path / 'whole')
    assert twin.read_bytes() == path.read_bytes()
  ours, theirs = (files.Manifest(tmp_path / n).pairs for n in ('out', 'whole'))
  assert ours == theirs


def places(folder):
  """Splits by name: of the files, which the manifest agrees with."""
  found = {}
  for split in ('train', 'valid', 'test'):
    for side in ('input', 'target'):
      for path in (folder / split / side).glob('*'):
        found.setdefault(path.stem, set()).add(f'{split}/{side}')
  assert all(
    sides in ({f'{s}/input', f'{s}/target'} for s in ('train', 'valid', 'test'))
    for sides in found.values()
  ), found
  splits_of = {
    name: min(sides)[: -len('/input')] for name, sides in found.items()
  }
  manifest = files.Manifest(folder)
  assert set(manifest.pairs) == {f'{s}/{n}' for n, s in splits_of.items()}
  assert not manifest.left_out.keys() & splits_of.keys()
  return splits_of


def test_what_is_left_out_later_is_taken_out(tmp_path):
  own, out = tmp_path / 'own', tmp_path / 'out'
  make_own(own, 'abcdef')
  prepare(own, out)
  before = places(out)
  bad, gone, same = sorted(n for n, s in before.items() if s == 'train')[:3]
  (out / 'train.tfrecord').write_text('records')
  (out / 'valid.tfrecord').write_text('records')
  write(own / f'target/{bad}.wav', np.zeros([RATE // 2, 1]))
  for side in ('input', 'target'):
    (own / side / f'{gone}.wav').unlink()
  prepare(own, out)
  assert places(out) == {
    n: s for n, s in before.items() if n not in (bad, gone)
  }
  assert 'silent' in files.Manifest(out).left_out[bad]
  assert not (out / 'train.tfrecord').exists()  # it held what is gone
  assert (out / 'valid.tfrecord').exists()
  # Under another name, and so perhaps in another split.
  for side in ('input', 'target'):
    (own / side / f'{same}.wav').rename(own / side / 'new.wav')
  prepare(own, out)
  after = places(out)
  assert same not in after and after['new'] == 'train'


@pytest.mark.parametrize('split', ['test', 'valid'])
def test_a_split_that_lost_its_last_pair_gets_another(tmp_path, split):
  own, out = tmp_path / 'own', tmp_path / 'out'
  make_own(own, 'abcdef')
  prepare(own, out)
  before = places(out)
  (lost,) = (name for name, s in before.items() if s == split)
  write(own / f'target/{lost}.wav', np.zeros([RATE // 2, 1]))
  prepare(own, out)
  after = places(out)
  assert sorted(after.values()) == ['test', *3 * ['train'], 'valid']
  moved = {name for name in after if after[name] != before[name]}
  assert len(moved) == 1 and after[moved.pop()] == split
  stays = places(out)
  prepare(own, out)
  assert places(out) == stays


def test_pairs_of_another_folder_stay(tmp_path):
  make_own(tmp_path / 'one', 'abc')
  make_own(tmp_path / 'two', 'defg')
  prepare(tmp_path / 'one', tmp_path / 'out')
  before = places(tmp_path / 'out')
  prepare(tmp_path / 'two', tmp_path / 'out')
  after = places(tmp_path / 'out')
  assert after.keys() == set('abcdefg')
  assert {name: after[name] for name in before} == before


def test_a_pair_is_in_one_split_when_the_way_to_split_changes(tmp_path):
  own, out = tmp_path / 'own', tmp_path / 'out'
  names = [f'{s}_{i}' for s in ('f1', 'f9', 'f10', 'm2', 'm3') for i in (0, 1)]
  make_own(own, names)

  def prepare_speech(by_speaker):
    found = find(own)
    split_of = published.split_by_speaker(found[0]) if by_speaker else None
    pairs.prepare_from_candidates(*found, out, 16000, 1, split_of)
    return places(out)

  write(own / 'input/talk.wav', music(0.5))
  write(own / 'target/talk.wav', music(0.5))
  by_file = prepare_speech(False)
  with pytest.raises(ValueError, match="'talk' does not begin with a speaker"):
    prepare_speech(True)
  for side in ('input', 'target'):
    (own / side / 'talk.wav').unlink()
  by_speaker = prepare_speech(True)
  assert by_speaker == {n: nonspeech.split_of(n) for n in names}
  assert any(by_file[name] != by_speaker[name] for name in names)


def test_a_seed_splits_a_folder_once(tmp_path):
  make_own(tmp_path / 'own', 'abcde')
  prepare(tmp_path / 'own', tmp_path / 'out')
  before = places(tmp_path / 'out')
  with pytest.raises(ValueError, match='seed=0, not 5.*output_dir'):
    prepare(tmp_path / 'own', tmp_path / 'out', seed=5)
  assert places(tmp_path / 'out') == before


def test_pairs_are_written_again_when_they_are_aligned_otherwise(tmp_path):
  own, out = tmp_path / 'own', tmp_path / 'out'
  make_own(own, 'abc')
  audio = music(1.0, 3)
  write(own / 'input/b.wav', audio)
  write(own / 'target/b.wav', late(audio, 50)[: len(audio)])
  prepare(own, out, is_aligned=True)
  prepare(own, out)
  note = next(v for k, v in files.Manifest(out).pairs.items() if k[-1] == 'b')
  assert abs(note['lag_samples'] - 50) < 0.05
  assert note['kept_samples'][1] <= len(audio) - 50


def test_what_an_interrupted_write_leaves_goes(tmp_path, monkeypatch):
  own, out = tmp_path / 'own', tmp_path / 'out'
  make_own(own, 'abcde')
  real = files.Manifest.add

  def interrupted(manifest, split, name, **notes):
    if name == 'c':  # both of its files are written
      raise KeyboardInterrupt
    real(manifest, split, name, **notes)

  with monkeypatch.context() as patch:
    patch.setattr(files.Manifest, 'add', interrupted)
    with pytest.raises(KeyboardInterrupt):
      prepare(own, out)
  write(own / 'target/c.wav', np.zeros([RATE // 2, 1]))
  prepare(own, out)
  assert places(out).keys() == set('abde')


def test_room_for_pairs_is_asked_for_before_they_are_written(
  tmp_path, monkeypatch
):
  own, out = tmp_path / 'own', tmp_path / 'out'
  make_own(own, 'abcd', n_channels=2)
  usage = shutil.disk_usage(tmp_path)
  # Three pairs of 0.5 s at 16 kHz, and one that keeps rate and channels.
  needed = 2 * 4 * (3 * 8000 + 2 * (RATE // 2))

  def prepare_with(n_bytes):
    with monkeypatch.context() as patch:
      patch.setattr(
        shutil, 'disk_usage', lambda _: usage._replace(free=n_bytes)
      )
      prepare(own, out)

  with pytest.raises(
    OSError, match=r'4 pairs needs [0-9]+ [kM]B.*another folder'
  ):
    prepare_with(needed - 1)
  assert not places(out)
  prepare_with(needed)
  assert places(out).keys() == set('abcd')
  prepare_with(0)  # there is nothing to write
  made = sum(p.stat().st_size for p in out.rglob('*.flac'))
  assert 0.2 * needed < made <= needed


def test_room_for_records_is_asked_for(tmp_path, monkeypatch):
  make_own(tmp_path / 'own', 'abc')
  prepare(tmp_path / 'own', tmp_path)
  usage = shutil.disk_usage(tmp_path)
  n_bytes = 2 * 4 * 8000  # float32
  free = [n_bytes - 1]
  monkeypatch.setattr(
    shutil, 'disk_usage', lambda _: usage._replace(free=free[0])
  )
  with pytest.raises(OSError, match='train.tfrecord needs'):
    shards.write_tfrecords(tmp_path)
  assert not list(tmp_path.glob('*tfrecord*'))
  free[0] = n_bytes
  shards.write_tfrecords(tmp_path)
  size = (tmp_path / 'train.tfrecord').stat().st_size
  assert n_bytes < size < 1.02 * n_bytes


def test_bad_files_are_listed_and_the_good_ones_are_made(tmp_path):
  own = tmp_path / 'own folder ä'
  good = ['one', 'two', 'naïve song', '三', 'clipped', 'wide', 'fast']
  make_own(own, good[:4], seconds=1.0)
  clipped = np.clip(40 * music(1.0, 3), -1, 1)
  write(own / 'input/clipped.wav', 0.1 * clipped)
  write(own / 'target/clipped.wav', clipped)
  wide = music(1.0, 4, n_channels=2)
  write(own / 'input/wide.wav', wide.mean(axis=1))  # mono beside stereo
  write(own / 'target/wide.wav', wide)
  fast = music(1.0, 5)
  write(own / 'input/fast.wav', soxr.resample(fast, RATE, 8000), 8000)
  write(own / 'target/fast.wav', soxr.resample(fast, RATE, 192000), 192000)
  bad = ['silent', 'other', 'short', 'nan', 'cut', 'words', 'alone', 'flipped']
  make_own(own, bad)
  write(own / 'target/silent.wav', np.zeros([RATE, 1]))
  write(own / 'target/other.wav', music(1.0, seed=99))
  write(own / 'target/short.wav', music(0.2))
  write(own / 'input/nan.wav', np.full([RATE, 1], np.nan))
  content = (own / 'target/cut.wav').read_bytes()
  (own / 'target/cut.wav').write_bytes(content[: len(content) // 2])
  (own / 'target/flipped.wav').unlink()
  flipped = own / 'target/flipped.flac'
  soundfile.write(flipped, music(0.5), RATE)
  content = bytearray(flipped.read_bytes())
  middle = len(content) // 2
  content[middle : middle + 100] = bytes(100)
  flipped.write_bytes(content)
  (own / 'input/words.wav').write_text('no audio ' * 99)
  (own / 'target/alone.wav').unlink()
  prepare(own, tmp_path / 'out')
  made = set.union(*splits(tmp_path / 'out').values())
  assert made == set(good)
  manifest = files.Manifest(tmp_path / 'out')
  for name, reason in {
    'silent': 'the target is silent',
    'other': 'do not sound alike',
    'short': '0.20 s long',
    'nan': 'NaN',
    'cut': 'is cut short',
    'flipped': f'{flipped} is damaged',
    'words': 'no audio file',
    'alone': 'no partner',
  }.items():
    assert reason in manifest.left_out.pop(name)
  assert not manifest.left_out
  notes = {k.split('/', 1)[1]: v for k, v in manifest.pairs.items()}
  assert set(notes) == made
  assert notes['clipped']['clipped_samples']['target'] > 100
  assert notes['clipped']['clipped_samples']['input'] == 0
  assert notes['one']['clipped_samples'] == {'input': 0, 'target': 0}
  assert notes['fast']['lag_sample_rate'] == 192000
  for note in notes.values():
    assert abs(note['lag_samples']) < 1 or note is notes['fast']
    assert note['input']['n_samples'] == note['target']['n_samples']
    file = tmp_path / 'out' / note['input']['file']
    assert files.sha256(file) == note['input']['sha256']


def test_late_targets_are_moved_and_this_is_noted(tmp_path):
  for i, name in enumerate('abc'):
    audio = music(1.5, i)
    write(tmp_path / f'own/input/{name}.wav', audio)
    write(tmp_path / f'own/target/{name}.wav', -late(audio, 100 * i + 50.5))
  prepare(tmp_path / 'own', tmp_path / 'out', sample_rate=RATE)
  for note in files.Manifest(tmp_path / 'out').pairs.values():
    name = pathlib.Path(note['source']['input'][0]).stem
    expected = 100 * 'abc'.index(name) + 50.5
    assert abs(note['lag_samples'] - expected) < 0.05
    assert note['polarity'] == -1  # reported, and left as it is
    ours, theirs = (
      soundfile.read(tmp_path / 'out' / note[side]['file'])[0]
      for side in ('input', 'target')
    )
    middle = slice(500, -500)
    np.testing.assert_allclose(ours[middle], -theirs[middle], atol=3e-3)


def test_a_name_that_is_too_long_is_left_out_with_the_reason(tmp_path):
  fits, long = 'b' * 236, 'ä' * 119
  make_own(tmp_path / 'own', ['a', fits, 'c', long, 'd' * 240])
  prepare(tmp_path / 'own', tmp_path / 'out')
  assert set.union(*splits(tmp_path / 'out').values()) == {'a', fits, 'c'}
  left_out = files.Manifest(tmp_path / 'out').left_out
  assert set(left_out) == {f'{long}.wav', 'd' * 240 + '.wav'}
  for reason in left_out.values():
    assert 'too long' in reason and '236 bytes' in reason
    assert 'Rename' in reason
  with pytest.raises(FileNotFoundError, match='(?s)no inputs.*too long'):
    make_own(tmp_path / 'only', ['e' * 240])
    find(tmp_path / 'only')


def test_pairs_can_be_taken_as_they_lie(tmp_path):
  make_own(tmp_path / 'own', 'abcd')
  write(tmp_path / 'own/target/b.wav', music(0.5, seed=77))
  write(tmp_path / 'own/target/c.wav', music(0.6, seed=77))
  prepare(tmp_path / 'own', tmp_path / 'out', is_aligned=True)
  assert set.union(*splits(tmp_path / 'out').values()) == set('abd')
  reason = files.Manifest(tmp_path / 'out').left_out['c']
  assert f'c.wav has {RATE // 2} samples' in reason and '600' not in reason


def test_own_pairs_that_cannot_be_taken(tmp_path):
  make_own(tmp_path / 'own', 'ab')
  with pytest.raises(ValueError, match='2 pairs are good.*none.*for train'):
    prepare(tmp_path / 'own', tmp_path / 'out')
  make_own(tmp_path / 'own', 'abcd')
  with pytest.raises(ValueError, match='none is left for valid'):
    prepare(
      tmp_path / 'own',
      tmp_path / 'out2',
      split_of={'a': 'train', 'b': 'train', 'c': 'test', 'd': 'test'}.get,
    )
  prepare(tmp_path / 'own', tmp_path / 'out')
  with pytest.raises(
    ValueError, match='sample_rate=16000, not 8000.*output_dir'
  ):
    prepare(tmp_path / 'own', tmp_path / 'out', sample_rate=8000)
  (tmp_path / 'out/manifest.json').write_text('{"pairs": {')
  with pytest.raises(
    ValueError, match=r'manifest\.json is no JSON.*another output_dir'
  ):
    prepare(tmp_path / 'own', tmp_path / 'out')
