"""Tests of the demo music that ships with dafx, and of its score notation."""

import pathlib
from fractions import Fraction

import numpy as np
import pyloudnorm
import pytest
import soundfile

from dafx.training.data_preparation import (
  demo_music,
  demo_notation,
  demo_scores,
)

AUDIO_DIR = pathlib.Path(demo_music.__file__).parent / 'demo_audio'
N_CLIPS = {'train': 12, 'valid': 3, 'test': 5}
MAX_BYTES = 12_000_000
PIECES = {piece.name: piece for piece in demo_scores.PIECES}


@pytest.fixture(scope='module', params=sorted(PIECES))
def clip(request):
  """A piece and its shipped audio `[n_samples, 2]`."""
  piece = PIECES[request.param]
  audio, _ = soundfile.read(AUDIO_DIR / piece.split / f'{piece.name}.flac')
  return piece, audio


# The shipped files.


def test_every_piece_has_its_file_and_no_file_lacks_a_piece():
  files = {(path.parent.name, path.stem) for path in AUDIO_DIR.glob('*/*.flac')}
  assert files == {(piece.split, piece.name) for piece in demo_scores.PIECES}
  assert len(PIECES) == len(demo_scores.PIECES) == sum(N_CLIPS.values())
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
  assert peak_dbfs == pytest.approx(demo_music.PEAK_DBFS, abs=0.05)
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


# Scores to notes, in closed form.


def test_parse_pitch():
  assert demo_notation.parse_pitch('C4') == 60
  assert demo_notation.parse_pitch('A4') == 69
  assert demo_notation.parse_pitch('F#3') == 54
  assert demo_notation.parse_pitch('Eb5') == 75
  for name in ('', 'H4', 'C', 'C##4', 'c4'):
    with pytest.raises(ValueError, match='octave'):
      demo_notation.parse_pitch(name)


def test_melody_durations_chords_rests_accents_and_ties():
  half = Fraction(1, 2)
  notes = demo_notation.melody_notes(
    'R:1 | C4:1/2! E4+G4 R A4?~ | A4:3/2 B4:1',
    beats_per_bar=2,
    pickup_beats=Fraction(1),
    transpose=12,
  )
  assert notes == [
    (Fraction(1), half, 72, 1),
    (Fraction(3, 2), half, 76, 0),
    (Fraction(3, 2), half, 79, 0),
    (Fraction(5, 2), Fraction(2), 81, -1),
    (Fraction(9, 2), Fraction(1), 83, 0),
  ]


def test_melody_bar_line_out_of_place():
  with pytest.raises(ValueError, match='bar line stands at beat 3'):
    demo_notation.melody_notes('C4:1 D4 E4 | F4')


def test_chords_are_voiced_from_the_lowest_pitch():
  # C: C E G; F/C: C F A from middle C on. Chords and grid are looped.
  notes = demo_notation.chord_notes(
    'C:1 F:1', 'x-.X', low=60, n_beats=Fraction(3), step_beats=Fraction(1, 2)
  )
  tones = {'C': (60, 64, 67), 'F': (60, 65, 69)}
  assert notes == [
    *((0, 1, pitch, 0) for pitch in tones['C']),
    *((Fraction(3, 2), Fraction(1, 2), pitch, 1) for pitch in tones['F']),
    *((2, 1, pitch, 0) for pitch in tones['C']),
  ]


def test_chord_digits_count_tones_upwards_from_the_root():
  # G7 from E1 (28): G1 B1 D2 F2 G2 B2.
  notes = demo_notation.chord_notes('G7:4', '123456..', 28, Fraction(2))
  assert [note.pitch for note in notes] == [31, 35, 38, 41, 43, 47]
  assert [note.start_beats for note in notes] == [
    Fraction(i, 4) for i in range(6)
  ]


def test_drum_grids_are_looped():
  notes = demo_notation.drum_notes(
    {'kick': 'X...', 'snare': '..o.|....'}, Fraction(3)
  )
  starts = {
    key: [(note.start_beats, note.accent) for note in notes if note[2] == key]
    for key in (36, 38)
  }
  assert starts[36] == [(0, 1), (1, 1), (2, 1)]
  assert starts[38] == [(Fraction(1, 2), -1), (Fraction(5, 2), -1)]


def test_unknown_symbols_say_what_is_allowed():
  with pytest.raises(ValueError, match="'maj9'"):
    demo_notation.chord_notes('Cfoo:4', 'x', 60, Fraction(1))
  with pytest.raises(ValueError, match="'z'"):
    demo_notation.chord_notes('C:4', 'z', 60, Fraction(1))
  with pytest.raises(KeyError, match='snare'):
    demo_notation.drum_notes({'gong': 'x'}, Fraction(1))
  with pytest.raises(ValueError, match="'9'"):
    demo_notation.drum_notes({'kick': '9'}, Fraction(1))


def test_swing_moves_the_off_beat_only():
  seconds = [
    demo_notation.beats_to_seconds(Fraction(i, 4), bpm=60, swing=2 / 3)
    for i in range(6)
  ]
  np.testing.assert_allclose(seconds, [0, 1 / 3, 2 / 3, 5 / 6, 1, 4 / 3])
  assert demo_notation.beats_to_seconds(3.25, bpm=120) == 1.625
  assert demo_notation.beats_to_seconds(
    1.25, bpm=60, swing=0.6, swing_span_beats=Fraction(1, 2)
  ) == pytest.approx(1.3)


def test_every_score_is_well_formed_and_fills_its_clip():
  for piece in demo_scores.PIECES:
    end_seconds = demo_notation.beats_to_seconds(
      piece.n_beats, piece.bpm, piece.swing, piece.swing_span_beats
    )
    assert end_seconds >= demo_music.CLIP_SECONDS
    for part in piece.parts:
      pitches = [n.pitch for n in demo_notation.part_notes(part, piece)]
      assert min(pitches) >= 21 and max(pitches) <= 108
      is_drums = isinstance(part.notes, demo_notation.Drums)
      names = demo_music.DRUM_KITS if is_drums else demo_music.PROGRAMS
      assert part.instrument in names


def test_a_melody_longer_than_its_piece():
  part = demo_notation.Part('piano', demo_notation.Melody('C4:5'))
  piece = demo_notation.Piece('p', 'train', 's', 't', 60, 1, (part,))
  with pytest.raises(ValueError, match='ends at beat 5'):
    demo_notation.part_notes(part, piece)


# The player and the mix.


def test_metre_weight():
  weights = [demo_music.metre_weight(b, 4) for b in (0, 2, 1, 3, 0.5, 0.75)]
  assert weights == [1.0, 0.5, 0.25, 0.25, -0.25, -0.6]
  assert demo_music.metre_weight(1.5, 3) == 0.5


def test_playing_is_seeded_and_close_to_the_score():
  piece = PIECES['copper_wire']
  part = piece.parts[1]
  played = demo_music.play_part(part, piece, seed=1)
  assert played == demo_music.play_part(part, piece, seed=1)
  assert played != demo_music.play_part(part, piece, seed=2)
  notes = demo_notation.part_notes(part, piece)
  scored_seconds = [float(n.start_beats) * 60.0 / piece.bpm for n in notes]
  deviations = [n.onset_seconds for n in played] - np.array(scored_seconds)
  assert 0.0 < np.std(deviations) < 0.01
  assert np.max(np.abs(deviations)) <= 0.0101
  assert [n.pitch for n in played] == [n.pitch for n in notes]
  velocities = np.array([n.velocity for n in played])
  on_bar = np.array([n.start_beats % 4 == 0 for n in notes])
  assert velocities[on_bar].mean() > velocities[~on_bar].mean() + 5.0


def test_parts_are_mixed_at_their_loudness():
  rng = np.random.default_rng(0)
  stem = 0.01 * rng.standard_normal([44100, 2])
  mix = demo_music.mix_parts([stem], [-20.0])
  meter = pyloudnorm.Meter(44100)
  assert meter.integrated_loudness(mix) == pytest.approx(-20.0, abs=1e-6)
  with pytest.raises(ValueError, match='Part 0 is silent'):
    demo_music.mix_parts([np.zeros([44100, 2])], [0.0])


def test_offset_is_removed_and_music_is_kept():
  n = np.arange(44100)
  tone = np.sin(2.0 * np.pi * 1000.0 * n / 44100)
  mix = np.stack([tone, tone], axis=1)
  out = demo_music.remove_offset(mix + 0.3)[22050:]
  assert np.max(np.abs(np.mean(out, axis=0))) < 1e-3
  assert np.std(out) == pytest.approx(np.sqrt(0.5), rel=1e-3)


def test_finish_clip_cuts_leading_silence_and_fades():
  n_clip = round(demo_music.CLIP_SECONDS * 44100)
  mix = np.zeros([n_clip + 5000, 2])
  mix[4000:] = 0.1
  clip = demo_music.finish_clip(mix)
  assert clip.shape == (n_clip, 2)
  assert np.argmax(clip[:, 0] > 0.0) == 88  # 2 ms of fade-in, in silence
  assert np.max(clip) == pytest.approx(10.0 ** (-3.0 / 20.0))
  assert clip[-1, 0] == pytest.approx(0.0, abs=1e-9)
  with pytest.raises(ValueError, match='needs'):
    demo_music.finish_clip(mix[:-2000])


def test_quantize():
  audio = np.array([-1.0, -0.5, 0.0, 2.4 / 2048, 2.6 / 2048, 1.0])
  np.testing.assert_array_equal(
    demo_music.quantize(audio, 12), [-32768, -16384, 0, 32, 48, 32752]
  )
  np.testing.assert_array_equal(
    demo_music.quantize(np.array([0.5, 1 / 32768]), 16), [16384, 1]
  )
