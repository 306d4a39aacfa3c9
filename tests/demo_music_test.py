"""Tests of the demo music that ships with dafx, and of what renders it."""

import importlib.util
import pathlib
import sys

import librosa
import mido
import numpy as np
import pyloudnorm
import pytest
import soundfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
AUDIO_DIR = ROOT / 'dafx/training/data_preparation/demo_audio'
N_CLIPS = {'train': 12, 'valid': 3, 'test': 5}
MAX_BYTES = 12_000_000
HOP = 512  # of features of the clips


def _load_script():
  spec = importlib.util.spec_from_file_location(
    'render_demo_music', ROOT / 'scripts/render_demo_music.py'
  )
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module  # dataclasses look their module up
  spec.loader.exec_module(module)
  return module


script = _load_script()
PIECES = {piece.name: piece for piece in script.read_pieces()}


@pytest.fixture(scope='module', params=sorted(PIECES))
def clip(request):
  """A piece and its shipped audio `[n_samples, 2]`."""
  piece = PIECES[request.param]
  audio, _ = soundfile.read(AUDIO_DIR / piece.split / f'{piece.name}.flac')
  return piece, audio


# The shipped files.


def test_every_piece_has_its_file_and_no_file_lacks_a_piece():
  files = {(path.parent.name, path.stem) for path in AUDIO_DIR.glob('*/*.flac')}
  assert files == {(piece.split, piece.name) for piece in PIECES.values()}
  assert {path.stem for path in script.MUSIC_DIR.glob('*.mid')} == set(PIECES)
  for split, n_clips in N_CLIPS.items():
    assert sum(piece.split == split for piece in PIECES.values()) == n_clips


def test_no_work_is_in_two_splits_and_train_has_every_style():
  titles = [piece.title for piece in PIECES.values()]
  assert len(set(titles)) == len(titles)
  styles = {'train': set(), 'valid': set(), 'test': set()}
  for piece in PIECES.values():
    styles[piece.split].add(piece.style)
  assert styles['valid'] | styles['test'] <= styles['train']


def test_licence_names_every_clip_and_the_sound_font():
  text = (AUDIO_DIR / 'LICENSE.md').read_text(encoding='utf-8')
  for piece in PIECES.values():
    assert f'| `{piece.name}` | {piece.split} | {piece.style} |' in text
  assert 'Frank Wen' in text
  assert 'CC0' in text


def test_all_files_together_are_small():
  n_bytes = sum(path.stat().st_size for path in AUDIO_DIR.rglob('*.*'))
  assert n_bytes < MAX_BYTES


def test_format(clip):
  piece, _ = clip
  info = soundfile.info(AUDIO_DIR / piece.split / f'{piece.name}.flac')
  assert (info.format, info.subtype) == ('FLAC', 'PCM_16')
  assert (info.samplerate, info.channels) == (44100, 2)
  assert 8.0 <= info.duration <= 8.5


def test_level(clip):
  _, audio = clip
  peak_dbfs = 20.0 * np.log10(np.max(np.abs(audio)))
  assert peak_dbfs == pytest.approx(script.PEAK_DBFS, abs=0.05)
  loudness = pyloudnorm.Meter(44100).integrated_loudness(audio)
  assert -24.0 <= loudness <= -14.0
  assert np.max(np.abs(np.mean(audio, axis=0))) < 1e-3  # no offset


def test_sounds_at_once_without_gaps_and_ends_in_silence(clip):
  _, audio = clip
  level = np.max(np.abs(audio), axis=1)  # [n_samples]
  assert np.argmax(level > 0.003) < 0.05 * 44100
  # RMS of 0.25 s frames, but for the last, which fades: [n_frames].
  rms = np.sqrt(np.mean(audio.reshape(32, -1, 2)[:-1] ** 2, axis=(1, 2)))
  assert np.all(rms > 0.005)
  assert np.all(level[-44:] < 0.003)


def test_is_stereo_and_has_bass_mid_and_treble(clip):
  _, audio = clip
  mid, side = audio.sum(axis=1), audio[:, 0] - audio[:, 1]
  assert np.mean(side**2) > 0.02 * np.mean(mid**2)
  left, right = np.mean(audio**2, axis=0)
  assert 0.5 < left / right < 2.0
  power = np.abs(np.fft.rfft(audio, axis=0)) ** 2
  freqs_hz = np.fft.rfftfreq(len(audio), 1.0 / 44100)
  for low_hz, high_hz, min_db in (
    (20, 250, -20.0),
    (250, 2500, -10.0),
    (2500, 20000, -25.0),
  ):
    band = power[(freqs_hz >= low_hz) & (freqs_hz < high_hz)]
    assert 10.0 * np.log10(band.sum() / power.sum()) > min_db


def test_words_are_as_long_as_the_table_says(clip):
  piece, _ = clip
  samples, _ = soundfile.read(
    AUDIO_DIR / piece.split / f'{piece.name}.flac', dtype='int16'
  )
  # The lowest bit that any sample sets.
  lowest_bit = np.bitwise_or.reduce(samples, axis=None)
  assert lowest_bit & -lowest_bit == 2 ** (16 - piece.word_bits)


# The music against the clips.


def _notes(piece):
  """Notes of all parts: start and end in s, pitch, velocity, channel."""
  notes = []
  for part in piece.parts:
    sounding = {}
    for seconds, message in script.timed_messages(piece, part):
      if message.type == 'note_on':
        key = message.note
        sounding.setdefault(key, []).append((seconds, message))
      elif message.type == 'note_off':
        start, on = sounding[message.note].pop(0)
        notes.append((start, seconds, on.note, on.velocity, on.channel))
    assert not any(sounding.values())
  return notes


def _piece_features(piece, n_frames):
  """Pitch classes `[12, n_frames]` and onsets `[n_frames]` of a score."""
  chroma, onsets = np.zeros([12, n_frames]), np.zeros(n_frames)
  notes = _notes(piece)
  first = min(note[0] for note in notes)  # where the clip was cut
  for start, end, pitch, velocity, channel in notes:
    start, end = (round((s - first) * 44100 / HOP) for s in (start, end))
    if channel != 9:  # General MIDI's percussion
      chroma[pitch % 12, start : end + 1] += 1.0
    if start < n_frames:
      onsets[start] += velocity
  return chroma, onsets


def _clip_features(piece):
  """The same of a clip, by librosa."""
  path = AUDIO_DIR / piece.split / f'{piece.name}.flac'
  audio, _ = soundfile.read(path)
  mono = np.mean(audio, axis=1)
  power = np.abs(librosa.stft(mono, n_fft=4096, hop_length=HOP)) ** 2
  chroma = librosa.feature.chroma_stft(S=power, sr=44100, tuning=0.0)
  onsets = librosa.onset.onset_strength(y=mono, sr=44100, hop_length=HOP)
  return chroma, onsets


def _correlation(a, b):
  return np.corrcoef(a.ravel(), b.ravel())[0, 1]


@pytest.fixture(scope='module')
def features():
  """Chroma and onsets of all clips, and of all scores, by name."""
  clips = {name: _clip_features(piece) for name, piece in PIECES.items()}
  n_frames = len(clips['spring'][1])
  scores = {
    name: _piece_features(piece, n_frames) for name, piece in PIECES.items()
  }
  return clips, scores


@pytest.mark.parametrize('name', sorted(PIECES))
def test_the_clip_has_the_pitches_of_its_piece_and_of_no_other(features, name):
  clips, scores = features
  by_piece = {
    other: _correlation(clips[name][0], score[0])
    for other, score in scores.items()
  }
  own = by_piece.pop(name)
  assert own > 0.2
  assert own > 0.05 + max(by_piece.values())


@pytest.mark.parametrize('name', sorted(PIECES))
def test_the_clip_has_the_onsets_of_its_piece_at_their_times(features, name):
  clips, scores = features
  heard, played = clips[name][1], scores[name][1]
  # librosa's onsets come a frame late (a difference), and an attack takes time.
  lags = range(-9, 10)
  by_lag = [
    _correlation(heard[10:-10], np.roll(played, lag)[10:-10]) for lag in lags
  ]
  assert lags[int(np.argmax(by_lag))] in (1, 2, 3)  # 12 to 35 ms
  assert max(by_lag) > 0.5


# The music itself.


def test_every_piece_is_well_formed_and_fills_its_clip():
  for piece in PIECES.values():
    notes = _notes(piece)
    # Played ahead of the beat, but not ahead of the part's lead.
    assert -0.05 <= min(start for start, *_ in notes) < 0.5
    assert max(end for _, end, *_ in notes) >= 0.95 * script.CLIP_SECONDS
    for start, end, pitch, velocity, _ in notes:
      assert end - start > 0.02
      assert 21 <= pitch <= 108
      assert 1 <= velocity <= 127


def test_a_bar_line_is_at_the_start_or_after_its_pickup():
  for piece in PIECES.values():
    head = piece.midi.tracks[0]
    (metre,) = (m for m in head if m.type == 'time_signature')
    start_ticks = sum(m.time for m in head[:-1])
    assert head[-2].text == 'start'
    beats = start_ticks / piece.midi.ticks_per_beat
    pickup_beats = -beats % metre.numerator
    assert pickup_beats in (0.0, 0.5, 1.0)
    assert metre.denominator == 4
    # Ticks are finer than those that FluidSynth is given, which come again.
    (tempo,) = (m.tempo for m in head if m.type == 'set_tempo')
    assert mido.tick2second(1, piece.midi.ticks_per_beat, tempo) < 1 / 1920


def test_every_part_sets_its_own_channel():
  for piece in PIECES.values():
    channels = []
    for track in piece.parts.values():
      (channel,) = {m.channel for m in track if not m.is_meta}
      channels.append(channel)
      program, *controls = [m for m in track if not m.is_meta][:5]
      assert program.type == 'program_change'
      assert [m.control for m in controls] == [7, 10, 91, 93]
    assert len(set(channels)) == len(channels)


# A small piece of its own.


def _write_piece(folder, track_name='piano', marker='start'):
  """60 beats per minute; one bar, then C4 on the next beat for a beat."""
  head = mido.MidiTrack(
    [
      mido.MetaMessage('set_tempo', tempo=1_000_000),
      mido.MetaMessage('marker', text=marker, time=400),
    ]
  )
  part = mido.MidiTrack(
    [
      mido.MetaMessage('track_name', name=track_name),
      mido.Message('program_change', channel=3, program=1),
      mido.Message('note_on', channel=3, note=60, velocity=90, time=398),
      mido.Message('note_on', channel=3, note=64, velocity=80, time=102),
      mido.Message('note_off', channel=3, note=60, time=0),
      mido.Message('note_off', channel=3, note=64, time=100),
    ]
  )
  mido.MidiFile(ticks_per_beat=100, tracks=[head, part]).save(folder / 'a.mid')
  (folder / 'pieces.json').write_text(
    '{"a": {"split": "train", "style": "s", "title": "t", "word_bits": 12, '
    '"levels_db": {"piano": -3}}}'
  )


def test_a_part_is_timed_from_the_start_and_given_its_lead(tmp_path):
  _write_piece(tmp_path)
  (piece,) = script.read_pieces(tmp_path)
  timed = {
    (m.type, m.note): seconds
    for seconds, m in script.timed_messages(piece, 'piano')
    if m.type in ('note_on', 'note_off')
  }
  assert timed == {
    ('note_on', 60): pytest.approx(-0.02),
    ('note_on', 64): pytest.approx(1.0),
    ('note_off', 60): pytest.approx(1.0),
    ('note_off', 64): pytest.approx(2.0),
  }
  midi = script.part_midi(piece, 'piano')
  (track,) = midi.tracks
  # 960 ticks per beat at 120 beats per minute, after 50 ms.
  times = np.cumsum([m.time for m in track])
  np.testing.assert_array_equal(times, [0, 58, 2016, 2016, 3936, 9 * 1920])
  assert midi.length == pytest.approx(9.0)
  assert (track[0].type, track[0].program) == ('program_change', 1)


def test_a_piece_without_a_start(tmp_path):
  _write_piece(tmp_path, marker='verse')
  (piece,) = script.read_pieces(tmp_path)
  with pytest.raises(ValueError, match="a.mid has no marker 'start'"):
    script.part_midi(piece, 'piano')


def test_parts_that_the_table_does_not_know(tmp_path):
  _write_piece(tmp_path, track_name='organ')
  with pytest.raises(ValueError, match=r"parts \['organ'\].* of \['piano'\]"):
    script.read_pieces(tmp_path)


# The renderer.


def test_without_fluidsynth_it_says_what_to_install(monkeypatch, tmp_path):
  monkeypatch.setattr(script.shutil, 'which', lambda name: None)
  with pytest.raises(FileNotFoundError, match='fluidsynth is missing: `apt-'):
    script.render_midi(mido.MidiFile(), 'font.sf2')
  monkeypatch.setattr(script.shutil, 'which', lambda name: f'/usr/bin/{name}')
  font = str(tmp_path / 'font.sf2')
  with pytest.raises(FileNotFoundError, match='font.sf2 is missing: `apt-'):
    script.render_midi(mido.MidiFile(), font)


def test_parts_are_mixed_at_their_loudness():
  rng = np.random.default_rng(0)
  stem = 0.01 * rng.standard_normal([44100, 2])
  mix = script.mix_parts([stem], [-20.0])
  meter = pyloudnorm.Meter(44100)
  assert meter.integrated_loudness(mix) == pytest.approx(-20.0, abs=1e-6)
  with pytest.raises(ValueError, match='Part 0 is silent'):
    script.mix_parts([np.zeros([44100, 2])], [0.0])


def test_offset_is_removed_and_music_is_kept():
  n = np.arange(44100)
  tone = np.sin(2.0 * np.pi * 1000.0 * n / 44100)
  mix = np.stack([tone, tone], axis=1)
  out = script.remove_offset(mix + 0.3)[22050:]
  assert np.max(np.abs(np.mean(out, axis=0))) < 1e-3
  assert np.std(out) == pytest.approx(np.sqrt(0.5), rel=1e-3)


def test_finish_clip_cuts_leading_silence_and_fades():
  n_clip = round(script.CLIP_SECONDS * 44100)
  mix = np.zeros([n_clip + 5000, 2])
  mix[4000:] = 0.1
  clip = script.finish_clip(mix)
  assert clip.shape == (n_clip, 2)
  assert np.argmax(clip[:, 0] > 0.0) == 88  # 2 ms of fade-in, in silence
  assert np.max(clip) == pytest.approx(10.0 ** (-3.0 / 20.0))
  assert clip[-1, 0] == pytest.approx(0.0, abs=1e-9)
  with pytest.raises(ValueError, match='needs'):
    script.finish_clip(mix[:-2000])


def test_quantize():
  audio = np.array([-1.0, -0.5, 0.0, 2.4 / 2048, 2.6 / 2048, 1.0])
  np.testing.assert_array_equal(
    script.quantize(audio, 12), [-32768, -16384, 0, 32, 48, 32752]
  )
  np.testing.assert_array_equal(
    script.quantize(np.array([0.5, 1 / 32768]), 16), [16384, 1]
  )
