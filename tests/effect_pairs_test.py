"""Tests of the layouts of recorded effects, and of reading their pairs."""

import numpy as np
import pytest
import soundfile
import soxr

from dafx.audio import files as audio_files
from dafx.training import reading
from dafx.training.data import pairs as effect_pairs

RATE = 8000


def noise(n_samples, seed=0):
  return 0.3 * np.random.default_rng(seed).standard_normal(n_samples)


def write(path, audio, rate=RATE):
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, np.asarray(audio, np.float32), rate, 'FLOAT')
  return path


def with_blips(audio, at=(2000, 5000)):
  """Puts quiet with clicks before audio."""
  lead = np.zeros(8000)
  lead[list(at)] = 0.9
  return np.concatenate([lead, audio])


# ---------------------- Names -------------------------------------------------
@pytest.mark.parametrize(
  'name, knobs',
  [
    ('P030_Q050', {'P': 0.3, 'Q': 0.5}),
    ('G100', {'G': 1.0}),
    ('G000_MNormal_DSi', {'G': 0.0, 'M': 'Normal', 'D': 'Si'}),
    ('RAll', {'R': 'All'}),
    ('song', None),
    ('my_P030', None),
    ('P30', None),
  ],
)
def test_settings_are_read_from_names(name, knobs):
  assert effect_pairs.parse_knobs(name) == knobs


@pytest.mark.parametrize(
  'name, message', [('P130', '130'), ('P030_P040', "'P'")]
)
def test_bad_settings_are_named(name, message):
  with pytest.raises(ValueError, match=message):
    effect_pairs.parse_knobs(name)


def test_pairs_of_one_folder(tmp_path):
  for name in ('a b', 'Überton'):
    for side in ('input', 'target'):
      write(tmp_path / f'{name}.{side}.wav', noise(10))
  pairs = effect_pairs.find_effect_pairs(tmp_path)
  assert [p.name for p in pairs] == ['a b.target.wav', 'Überton.target.wav']
  assert pairs[0].input_path == tmp_path / 'a b.input.wav'
  assert pairs[0].knobs == {}
  assert effect_pairs.knob_columns(pairs) == []


def test_settings_from_files_and_folders_of_two_places(tmp_path):
  dry, wet = tmp_path / 'dry', tmp_path / 'wet'
  write(dry / 'riff.input.wav', noise(10))
  write(wet / 'x' / 'G030_MNormal.riff.target.wav', noise(10))
  write(wet / 'G100_MBright' / 'riff.target.wav', noise(10))
  pairs = effect_pairs.find_effect_pairs(dry, wet)
  by_knob = {p.knobs['G']: p for p in pairs}
  assert by_knob[0.3].knobs == {'G': 0.3, 'M': 'Normal'}
  assert by_knob[1.0].knobs == {'G': 1.0, 'M': 'Bright'}
  columns = effect_pairs.knob_columns(pairs)
  assert columns == ['G', 'M=Bright', 'M=Normal']
  np.testing.assert_allclose(
    effect_pairs.knob_values(by_knob[0.3], columns), [0.3, 0.0, 1.0]
  )
  with pytest.raises(ValueError, match='Normal'):
    effect_pairs.knob_values(by_knob[0.3], ['G', 'M=Bright'])
  with pytest.raises(ValueError, match='knows A, G'):
    effect_pairs.knob_values(by_knob[0.3], ['A', 'G'])


def test_all_faults_of_a_folder_are_named(tmp_path):
  write(tmp_path / 'a.input.wav', noise(10))
  write(tmp_path / 'b.target.wav', noise(10))
  write(tmp_path / 'c.input.wav', noise(10))
  write(tmp_path / 'P200.c.target.wav', noise(10))
  with pytest.raises(ValueError) as error:
    effect_pairs.find_effect_pairs(tmp_path)
  for part in ('a.input.wav has no', 'b.target.wav has no', "'P' to 200"):
    assert part in str(error.value)


def test_files_with_other_knobs_are_refused(tmp_path):
  write(tmp_path / 'a.input.wav', noise(10))
  write(tmp_path / 'P020.a.target.wav', noise(10))
  write(tmp_path / 'P020_Q010.a.target.wav', noise(10))
  with pytest.raises(ValueError, match='P, P/Q'):
    effect_pairs.find_effect_pairs(tmp_path)


def test_a_folder_without_pairs_is_named(tmp_path):
  write(tmp_path / 'song.wav', noise(10))
  with pytest.raises(FileNotFoundError, match='song.input.wav'):
    effect_pairs.find_effect_pairs(tmp_path)


# ---------------------- Reading -----------------------------------------------
def files_of(tmp_path, dry, wet, rate=RATE):
  return (
    write(tmp_path / 'dry.wav', dry),
    write(tmp_path / 'wet.wav', wet, rate),
  )


def read(paths, mend=('latency',)):
  """Reads a recording as `RecordingProvider` does."""
  return reading.read_pair(*paths, RATE, 1, mend, find_latency=True)


@pytest.mark.parametrize('latency', [0, 1, 37, 500])
def test_blips_tell_the_latency_and_it_is_taken_out(tmp_path, latency):
  dry = with_blips(noise(4000))
  answer = np.tanh(2 * dry) + 1e-5 * noise(len(dry), 1)
  wet = np.concatenate([np.zeros(latency), answer])[: len(dry)]
  paths = files_of(tmp_path, dry, wet)
  assert reading.find_blips(dry, RATE) == [2000, 5000]
  pair = read(paths)
  assert pair.latency == latency and pair.sample_rate == RATE
  n = len(dry) - latency
  np.testing.assert_allclose(pair.audio[:, 0], dry[:n], atol=1e-6)
  np.testing.assert_allclose(pair.target[:, 0], answer[:n], atol=1e-6)
  if latency:
    with pytest.raises(ValueError, match=f'{latency} samples late'):
      read(paths, mend=())


def test_music_has_no_blips():
  assert reading.find_blips(noise(40000), RATE) == []
  assert reading.find_blips(np.zeros(40000), RATE) == []
  # A blip that the music follows at once tells nothing.
  assert reading.find_blips(with_blips(noise(100), (7990,)), RATE) == []


def test_blips_without_answer_or_agreement_are_named(tmp_path):
  dry = with_blips(noise(4000))
  with pytest.raises(ValueError, match='no answer'):
    reading.blip_latency(dry, 0 * dry, RATE)
  wet = dry.copy()
  wet[5000], wet[5100] = 0.0, 0.9
  with pytest.raises(ValueError, match=r'\[0, 100\]'):
    reading.blip_latency(dry, wet, RATE)


@pytest.mark.parametrize('lag', [60, -60])
def test_a_misaligned_pair_is_named(tmp_path, lag):
  dry = noise(8000)
  paths = files_of(tmp_path, dry, -np.tanh(np.roll(dry, lag)))
  with pytest.raises(ValueError, match=f'is {abs(lag)} samples') as error:
    read(paths)
  assert ('late' if lag > 0 else 'early') in str(error.value)


def test_a_filter_is_no_misalignment(tmp_path):
  dry = noise(8000)
  wet = np.convolve(dry, np.hanning(17))[: len(dry)]
  pair = read(files_of(tmp_path, dry, wet))
  assert pair.latency == 0 and len(pair.audio) == len(pair.target) == 8000


@pytest.mark.parametrize(
  'wet, rate, message',
  [
    (noise(8000), 16000, '16000 Hz'),
    (np.stack([noise(8000)] * 2, -1), RATE, '2 channels'),
    (noise(7000), RATE, '8000 samples.*7000'),
    (np.zeros(8000), RATE, 'silent'),
    (np.where(np.arange(8000) == 5, np.nan, noise(8000)), RATE, '1 samples'),
  ],
)
def test_bad_pairs_are_named(tmp_path, wet, rate, message):
  with pytest.raises(ValueError, match=message):
    read(files_of(tmp_path, noise(8000), wet, rate))


def test_what_is_asked_for_is_mended_and_nothing_else(tmp_path):
  dry = noise(8000)
  stereo = np.stack([dry, -dry], -1)
  paths = files_of(tmp_path, stereo, noise(15000, 1), 2 * RATE)
  for mend, message in (
    ((), '8000 Hz and 2 channels; wanted are 16000 Hz and 2'),
    (('sample_rate',), 'wet.wav has 16000 Hz and 1 channels'),
    (('sample_rate', 'channels'), '16000 samples.*15000'),
    (('speed',), "mend=.'speed',.*sample_rate"),
  ):
    with pytest.raises(ValueError, match=message):
      reading.read_pair(*paths, mend=mend)
  pair = reading.read_pair(*paths, mend=('sample_rate', 'channels', 'length'))
  assert pair.sample_rate == 2 * RATE and pair.latency == 0
  # Resampled by soxr, the mono side on both channels, at lengths of their own.
  np.testing.assert_array_equal(
    pair.audio,
    soxr.resample(soundfile.read(paths[0], dtype='float32')[0], RATE, 2 * RATE),
  )
  np.testing.assert_allclose(
    pair.target, noise(15000, 1)[:, np.newaxis].repeat(2, axis=1), atol=1e-7
  )
  mixed = reading.read_pair(*paths, RATE, 1, mend=reading.MENDABLE[:3])
  assert not mixed.audio.any()  # the channels cancel
  with pytest.raises(ValueError, match='at least 1.5 s'):
    reading.read_pair(*paths, mend=reading.MENDABLE, min_seconds=1.5)


def test_a_part_of_a_file_is_checked_as_the_whole_is(tmp_path):
  audio = noise(8000)
  audio[5000] = np.inf
  path = write(tmp_path / 'a.wav', audio)
  part, rate = audio_files.read(path, 1000, 4000)
  np.testing.assert_array_equal(part[:, 0], np.float32(audio[1000:5000]))
  assert rate == RATE
  with pytest.raises(ValueError, match=r'a\.wav has 1 samples that are NaN'):
    audio_files.read(path, 1001, 4000)


def test_splits_are_side_by_side():
  parts = [
    effect_pairs.contiguous_part(1000, split, 0.2, 0.1)
    for split in ('train', 'valid', 'test')
  ]
  assert parts == [(0, 700), (700, 900), (900, 1000)]
  assert effect_pairs.contiguous_part(1000, 'valid', 0.2) == (800, 1000)
  assert effect_pairs.contiguous_part(1000, 'all', 0.2) == (0, 1000)


@pytest.mark.parametrize(
  'arguments, message',
  [
    (('tests', 0.2), 'tests'),
    (('train', 1.0), 'valid_fraction=1.0'),
    (('train', 0.0), 'valid_fraction=0.0'),
    (('train', 0.5, 0.5), 'test_fraction=0.5'),
  ],
)
def test_bad_splits_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    effect_pairs.contiguous_part(1000, *arguments)
