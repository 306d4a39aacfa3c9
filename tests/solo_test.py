"""Preparing recordings of an instrument, and reading them."""

# First: importing dafx sets up what DDSP needs.
import dafx  # noqa: F401  # isort: skip

import io
import json

import ddsp
import mido
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from absl import flags

from dafx import core, pitch
from dafx.commands import dafx_prepare
from dafx.training import data, transfer
from dafx.training.data_preparation import solo, solo_demo

SR, RATE = 16000, 250


def melody(seconds, sample_rate=SR, seed=0, pause_s=0.1):
  """Returns notes of a saw of half a second each."""
  rng = np.random.default_rng(seed)
  times = np.arange(int(0.5 * sample_rate)) / sample_rate
  gain = np.clip((0.5 - pause_s - times) / 0.02, 0, 1) * np.clip(
    times / 0.01, 0, 1
  )
  notes = []
  for _ in range(int(seconds / 0.5)):
    hz = 440.0 * 2.0 ** (rng.integers(-12, 13) / 12)
    saw = sum(np.sin(2 * np.pi * k * hz * times) / k for k in range(1, 8))
    notes.append(0.1 * rng.uniform(0.3, 1.0) * gain * saw)
  return np.concatenate(notes)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  folder = tmp_path_factory.mktemp('solo')
  takes = folder / 'takes'
  takes.mkdir()
  stereo = np.stack([melody(40, 44100), melody(40, 44100)], axis=1)
  soundfile.write(takes / 'a.wav', stereo, 44100)
  soundfile.write(takes / 'b.flac', melody(17, 22050, seed=1), 22050)
  words = solo.prepare_folder(takes, folder / 'out', solo.Form())
  return folder / 'out', words


def provider(folder, split='train', **arguments):
  return data.InstrumentProvider(folder, split, **arguments)


def test_a_folder_becomes_records_that_are_read(prepared):
  folder, _ = prepared
  found = provider(folder)
  assert found.features['f0_hz'] == [1000, 1]
  batch = next(iter(found.get_batch(3)))
  assert batch['audio'].shape == (3, 64000)
  np.testing.assert_array_equal(batch['audio'], batch['target'])
  for key in ('f0_hz', 'f0_confidence', 'loudness_db'):
    assert batch[key].shape == (3, 1000, 1)
  # What lies beside each other belongs together.
  for i in range(3):
    expected = pitch.loudness_db(batch['audio'][i], SR, RATE)
    found_db = batch['loudness_db'][i, :, 0]
    np.testing.assert_allclose(found_db[10:-10], expected[10:-10], atol=0.2)
  sizes = {s: provider(folder, s).n_items for s in solo.SPLITS}
  # 10 and 4 examples: stretches of 3, of which one is valid and one is test.
  assert sum(sizes.values()) == 14 and sizes['valid'] == sizes['test'] == 3


def test_batches_depend_on_seed_and_step(prepared):
  found = provider(prepared[0], n_samples=16000)
  batches = list(found.get_batch(2, seed=3).take(3))
  again = next(iter(found.get_batch(2, seed=3, first_step=2)))
  for key, value in again.items():
    np.testing.assert_array_equal(batches[2][key], value)
  assert found.n_items == 4 * provider(prepared[0]).n_items


def test_whole_records_are_for_evaluation(prepared):
  item = provider(prepared[0], 'test').items()[0]
  assert item.input.n_samples == 64000 and item.input.sample_rate == SR


def test_ddsp_reads_the_records(prepared):
  """By the features that its TFRecordProvider asks for."""
  fixed = {
    'audio': tf.io.FixedLenFeature([64000], tf.float32),
    'f0_hz': tf.io.FixedLenFeature([1000], tf.float32),
    'f0_confidence': tf.io.FixedLenFeature([1000], tf.float32),
    'loudness_db': tf.io.FixedLenFeature([1000], tf.float32),
  }
  path = str(prepared[0] / 'train.tfrecord')
  for record in tf.data.TFRecordDataset(path):
    found = tf.io.parse_single_example(record, fixed)
    expected = ddsp.spectral_ops.compute_loudness(found['audio'])[:1000]
    middle = slice(10, -10)
    np.testing.assert_allclose(
      found['loudness_db'][middle], expected[middle], atol=0.2
    )


def test_statistics_and_report_tell_of_the_recordings(prepared):
  folder, words = prepared
  text = (folder / 'statistics.json').read_text()
  found = transfer.Statistics.from_json(text)
  assert 56.9 < found.min_pitch < 62 and 76 < found.max_pitch <= 81.2
  assert 25 < found.voiced_s < 40
  quantiles = np.array(found.loudness_quantiles_db)
  assert len(quantiles) == 1000 and np.all(np.diff(quantiles) >= 0)
  report = json.loads((folder / 'report.json').read_text())
  assert report['words'] == words and report['harmonic_share'] > 0.9
  assert words.startswith('0.9 minutes, of which 0.')
  assert '10 minutes of notes are recommended' in words
  assert 'clipped' not in words and 'voice' not in words


def test_what_is_wrong_with_recordings_is_said():
  form = solo.Form()
  noise = 0.01 * np.random.default_rng(0).normal(size=20 * SR)
  loud = np.clip(40 * melody(20, pause_s=0.0), -1, 1) + noise
  audio = np.clip(loud, -1, 1)[:, np.newaxis]
  recording = solo.analyse('a', solo.sources.from_array(audio, SR), form)
  statistics = transfer.measure([recording.curves], RATE)
  figures, words = solo.describe([recording], statistics, form)
  assert figures['n_clipped'] > 100 and 'samples are clipped' in words
  assert 'there are no pauses' in words


@pytest.mark.parametrize(
  'sound, message',
  [
    ('silence', 'are silent'),
    ('short', r'last 3\.0 s in all\. 12 s is the least'),
    ('noise', 'A pitch was found in 0.* noisy or of several voices'),
    ('low', 'out of the range of swift_f0, 47 to 2094 Hz.*crepe or pyin'),
    ('chords', 'several voices sound at a time.*chords.wav'),
  ],
)
def test_what_will_not_do_is_refused(tmp_path, sound, message):
  times = np.arange(16 * SR) / SR
  audio = {
    'silence': np.zeros(16 * SR),
    'short': melody(3),
    'noise': 0.1 * np.random.default_rng(0).normal(size=16 * SR),
    'low': 0.3 * np.sin(2 * np.pi * 30 * times),
    'chords': sum(melody(16, seed=i, pause_s=0.0) for i in range(4)),
  }[sound]
  soundfile.write(tmp_path / f'{sound}.wav', audio, SR)
  with pytest.raises(ValueError, match=message):
    solo.prepare_folder(tmp_path, tmp_path / 'out', solo.Form())
  assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_the_command_prepares_a_folder(tmp_path, monkeypatch, capsys):
  takes, out = tmp_path / 'takes', tmp_path / 'out'
  takes.mkdir()
  soundfile.write(takes / 'a.wav', melody(16, 48000), 48000)
  values = flags.FlagValues()
  dafx_prepare._define_flags(values)
  words = [f'--input={takes}', f'--output_dir={out}', '--sample_rate=48000']
  values(['dafx_prepare', *words, '--frame_rate=50', '--tracker=crepe_tiny'])
  monkeypatch.setattr(dafx_prepare, 'FLAGS', values)
  dafx_prepare.main(['dafx_prepare', 'solo'])
  printed = capsys.readouterr().out
  assert 'have a pitch, from' in printed and str(out) in printed
  found = data.InstrumentProvider(out, 'train', 48000, 50, 192000)
  assert found.features['f0_hz'] == [200, 1]


@pytest.mark.parametrize(
  'arguments, message',
  [
    ({'frame_rate': 100}, '250 frames per second at 16000 Hz, and 100 are ask'),
    ({'sample_rate': 48000, 'n_samples': 192000}, '750 frames per second'),
    ({'n_samples': 128000}, 'have 64000 samples, which is less than n_samples'),
    ({'n_samples': 1000}, 'multiple of 64, the samples of a frame, as 960'),
    ({'frame_rate': 0}, 'frame_rate=0 does not divide sample_rate=16000'),
    ({'split': 'other'}, 'there is no other.tfrecord; `dafx_prepare solo`'),
  ],
)
def test_records_that_do_not_fit_are_named(prepared, arguments, message):
  error = FileNotFoundError if 'split' in arguments else ValueError
  with pytest.raises(error, match=message):
    data.InstrumentProvider(prepared[0], **arguments)


def test_records_with_bad_values_are_named(tmp_path):
  curves = {key: np.full(1000, 300.0) for key in data.CURVES}
  examples = [{'audio': np.zeros(64000), **curves} for _ in range(3)]
  examples[2]['f0_hz'] = np.full(1000, np.nan)
  data.write_examples(examples, tmp_path / 'train.tfrecord')
  found = provider(tmp_path)
  assert found.name_at(2, shuffle=False).startswith('record 2 of ')
  with pytest.raises(Exception, match="'f0_hz' of record 2 of .*not finite"):
    with core.raising_faults():
      list(found.get_batch(1, shuffle=False, repeats=1))


def test_records_without_a_pitch_are_named(tmp_path):
  path = tmp_path / 'train.tfrecord'
  data.write_examples([{'audio': np.zeros(64000)}], path)
  with pytest.raises(ValueError, match='lacks f0_hz, f0_confidence, loudness'):
    provider(tmp_path)
  path.write_bytes(b'no record at all, but text' * 9)
  with pytest.raises(ValueError, match='damaged or no TFRecord'):
    provider(tmp_path)


# ---------------------- Demonstration -----------------------------------------
def test_a_performance_has_the_pitch_that_it_says():
  note = solo_demo.Note(1.0, 1.0, 69, 90, slide=1.0, vibrato=0.2)
  times = np.arange(750) / RATE
  f0 = solo_demo.true_f0_hz([note], times)
  assert np.all(f0[:250] == 0) and np.all(f0[500:] == 0)
  assert abs(1200 * np.log2(f0[250] / 440) + 100) < 1e-6  # where it slides from
  settled = 1200 * np.log2(f0[350:500] / 440)
  assert 19 < settled.max() < 20.01 and -20.01 < settled.min() < -19


def test_a_midi_file_holds_what_is_played():
  notes = [solo_demo.Note(0.5, 0.4, 60, 80, slide=0.5)]
  content = solo_demo.midi_file(notes, 40)
  messages = list(mido.MidiFile(file=io.BytesIO(content)))
  times = np.cumsum([m.time for m in messages])
  kinds = [m.type for m in messages]
  on, off = (times[kinds.index(kind)] for kind in ('note_on', 'note_off'))
  assert abs(on - 0.5) < 2e-3 and abs(off - 0.9) < 2e-3
  assert kinds[0] == 'program_change' and messages[0].program == 40
  first = next(m for m in messages if m.type == 'pitchwheel')
  assert first.pitch == -2048  # a quarter of two semitones
  assert kinds.index('pitchwheel') < kinds.index('note_on')


def test_lines_are_played_alike_from_a_seed():
  line = solo_demo.read_lines()['saints']
  first, again, other = (solo_demo.perform(line, 2, s) for s in (1, 1, 2))
  assert first == again != other
  assert [n.midi - 2 for n in first] == [n[2] for n in line]


def test_what_plays_the_demonstration_is_named(monkeypatch, tmp_path):
  monkeypatch.setattr(solo_demo.shutil, 'which', lambda name: None)
  with pytest.raises(FileNotFoundError, match='apt-get install fluidsynth'):
    solo_demo.prepare(tmp_path, solo.Form())
  with pytest.raises(ValueError, match="no instrument 'kazoo'; there are vio"):
    solo_demo.prepare(tmp_path, solo.Form(), 'kazoo')
