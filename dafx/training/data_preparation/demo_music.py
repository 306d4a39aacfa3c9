r"""Renders the demo music that ships with dafx.

The scores of `demo_scores` are played by FluidSynth with the FluidR3 sound font
and written as FLAC, one clip per piece in a folder per split. The clips are
part of the package: run this only to change them.

Each part is rendered alone and mixed at its loudness (ITU-R BS.1770), so that
the balance does not depend on how loud the font's instruments were sampled.
Velocities follow metre and phrase; a jitter seeded by the piece's name moves
onsets and velocities a little. The same sound font gives the same samples.

Needs `pip install mido` and the programs and sounds of
`apt-get install fluidsynth fluid-soundfont-gm`.

Usage:
  python -m dafx.training.data_preparation.demo_music --output_dir=/tmp/demo
"""

import math
import os
import shutil
import subprocess
import tempfile
import zlib
from typing import NamedTuple

import numpy as np
import pyloudnorm
import scipy.signal
import soundfile
from absl import app, flags

from dafx.training.data_preparation import demo_notation, demo_scores

FLAGS = flags.FLAGS

SAMPLE_RATE = 44100
CLIP_SECONDS = 8.0
PEAK_DBFS = -3.0

# General MIDI programs, counted from 0.
PROGRAMS = {
  'piano': 0,
  'bright_piano': 1,
  'honky_tonk': 3,
  'rhodes': 4,
  'dx_piano': 5,
  'harpsichord': 6,
  'clavinet': 7,
  'vibraphone': 11,
  'organ': 16,
  'rock_organ': 18,
  'harmonica': 22,
  'nylon_guitar': 24,
  'clean_guitar': 27,
  'muted_guitar': 28,
  'overdriven_guitar': 29,
  'distortion_guitar': 30,
  'upright_bass': 32,
  'finger_bass': 33,
  'pick_bass': 34,
  'slap_bass': 36,
  'synth_bass': 38,
  'sub_bass': 39,
  'contrabass': 43,
  'tremolo_strings': 44,
  'pizzicato': 45,
  'harp': 46,
  'timpani': 47,
  'strings': 48,
  'slow_strings': 49,
  'synth_strings': 50,
  'trumpet': 56,
  'trombone': 57,
  'tuba': 58,
  'horn': 60,
  'brass': 61,
  'tenor_sax': 66,
  'oboe': 68,
  'clarinet': 71,
  'piccolo': 72,
  'flute': 73,
  'square_lead': 80,
  'saw_lead': 81,
  'warm_pad': 89,
  'poly_pad': 90,
  'banjo': 105,
}

# Programs of the percussion channel.
DRUM_KITS = {
  'standard_kit': 0,
  'room_kit': 8,
  'power_kit': 16,
  'electronic_kit': 24,
  'tr808_kit': 25,
  'jazz_kit': 32,
  'orchestra_kit': 48,
}
_DRUM_CHANNEL = 9

# The player, in velocity units and ms.
_METRE_VELOCITY = 10.0
_PHRASE_VELOCITY = 8.0
_ACCENT_VELOCITY = {1: 16.0, 0: 0.0, -1: -28.0}
_JITTER_VELOCITY = 3.0
# The font's metal and shakers are loud: a drummer keeps them behind the drums.
_DRUM_VELOCITY = {
  'hat': -20.0,
  'open_hat': -18.0,
  'pedal_hat': -20.0,
  'ride': -14.0,
  'crash': -12.0,
  'clap': -10.0,
  'tambourine': -34.0,
  'shaker': -34.0,
  'cowbell': -20.0,
}
_JITTER_MS = 5.0
_DRUM_JITTER_MS = 3.0

# Room in front of the first onset for notes that the jitter draws ahead.
_LEAD_SECONDS = 0.05
_TAIL_SECONDS = 1.0
_HIGH_PASS_HZ = 20.0
_FADE_IN_SECONDS = 0.002
_FADE_OUT_SECONDS = 0.3
# The clip starts where the mix first comes within this of its peak.
_ONSET_DB = -40.0

_TICKS_PER_BEAT = 960
# MIDI's default tempo, 120 beats per minute: two beats per s.
_TICKS_PER_SECOND = 2 * _TICKS_PER_BEAT


class PlayedNote(NamedTuple):
  """One note as it is played.

  Attributes:
    onset_seconds: Start in s from the start of the clip; may be slightly < 0.
    offset_seconds: End in s.
    pitch: MIDI pitch, or the percussion key.
    velocity: MIDI velocity, 1 to 127.
  """

  onset_seconds: float
  offset_seconds: float
  pitch: int
  velocity: int


def metre_weight(bar_beat: float, beats_per_bar: int) -> float:
  """Stress of a place in the bar.

  Args:
    bar_beat: Place in beats from the bar line, in [0, beats_per_bar).
    beats_per_bar: Metre.

  Returns:
    1 on the first beat, 0.5 in the middle of an even bar, 0.25 on the other
    beats, -0.25 on half beats, -0.6 elsewhere.
  """
  if bar_beat == 0:
    return 1.0
  if 2 * bar_beat == beats_per_bar:
    return 0.5
  if bar_beat % 1 == 0:
    return 0.25
  return -0.25 if (2 * bar_beat) % 1 == 0 else -0.6


def play_part(
  part: demo_notation.Part, piece: demo_notation.Piece, seed: int
) -> list[PlayedNote]:
  """Plays a part as a person would: metre, phrase, small deviations.

  Args:
    part: The part.
    piece: Its piece.
    seed: Seed of the deviations.

  Returns:
    Played notes, in the order of the score.
  """
  rng = np.random.default_rng(seed)
  is_drums = isinstance(part.notes, demo_notation.Drums)
  jitter_ms = _DRUM_JITTER_MS if is_drums else _JITTER_MS
  phrase_beats = piece.beats_per_bar * min(4, piece.n_bars)
  drum_velocity = (
    {demo_notation.DRUM_KEYS[k]: v for k, v in _DRUM_VELOCITY.items()}
    if is_drums
    else {}
  )
  played = []
  n_strummed = 0
  last_start = None
  for note in demo_notation.part_notes(part, piece):
    is_chord = note.start_beats == last_start and not is_drums
    n_strummed = n_strummed + 1 if is_chord else 0
    last_start = note.start_beats
    bar_beats = note.start_beats - piece.pickup_beats
    velocity = (
      part.velocity
      + drum_velocity.get(note.pitch, 0.0)
      + _METRE_VELOCITY
      * metre_weight(bar_beats % piece.beats_per_bar, piece.beats_per_bar)
      + _PHRASE_VELOCITY
      * (math.sin(math.pi * float(bar_beats / phrase_beats % 1)) - 0.5)
      + _ACCENT_VELOCITY[note.accent]
      + _JITTER_VELOCITY * rng.standard_normal()
    )
    start, end = (
      demo_notation.beats_to_seconds(
        beats, piece.bpm, piece.swing, piece.swing_span_beats
      )
      for beats in (note.start_beats, note.start_beats + note.duration_beats)
    )
    onset = start + 1e-3 * (
      part.strum_ms * n_strummed
      + jitter_ms * float(np.clip(rng.standard_normal(), -2.0, 2.0))
    )
    offset = onset + max(part.gate * (end - start), 0.03)
    played.append(
      PlayedNote(onset, offset, note.pitch, round(min(max(velocity, 8), 127)))
    )
  return played


def midi_file(part: demo_notation.Part, notes: list[PlayedNote]):
  """Writes a played part as MIDI.

  Args:
    part: The part, for its instrument, pan and sends.
    notes: Its played notes.

  Returns:
    A `mido.MidiFile` that lasts until the end of the clip.

  Raises:
    ImportError: If mido is missing.
    KeyError: If the instrument is unknown.
  """
  try:
    import mido
  except ImportError as error:
    raise ImportError(
      'Rendering the demo music needs mido: `pip install mido`, and '
      '`apt-get install fluidsynth fluid-soundfont-gm`.'
    ) from error
  if isinstance(part.notes, demo_notation.Drums):
    channel, programs = _DRUM_CHANNEL, DRUM_KITS
  else:
    channel, programs = 0, PROGRAMS
  if part.instrument not in programs:
    raise KeyError(
      f'Instrument {part.instrument!r}; allowed are {sorted(programs)}.'
    )
  # (tick, order at that tick, message): ends come before new onsets.
  events = []
  for note in notes:
    on, off = (
      round((_LEAD_SECONDS + seconds) * _TICKS_PER_SECOND)
      for seconds in (note.onset_seconds, note.offset_seconds)
    )
    events.append((on, 1, ('note_on', note.pitch, note.velocity)))
    events.append((off, 0, ('note_off', note.pitch, 0)))
  track = mido.MidiTrack()
  track.append(
    mido.Message(
      'program_change', channel=channel, program=programs[part.instrument]
    )
  )
  # Controllers 7 volume, 10 pan, 91 reverb and 93 chorus send.
  for control, value in (
    (7, 100),
    (10, round(63.5 + 63.5 * part.pan)),
    (91, round(127 * part.reverb)),
    (93, round(127 * part.chorus)),
  ):
    track.append(
      mido.Message(
        'control_change', channel=channel, control=control, value=value
      )
    )
  now = 0
  for tick, _, (kind, pitch, velocity) in sorted(events):
    track.append(
      mido.Message(
        kind, channel=channel, note=pitch, velocity=velocity, time=tick - now
      )
    )
    now = tick
  end = round((CLIP_SECONDS + _TAIL_SECONDS) * _TICKS_PER_SECOND)
  track.append(mido.MetaMessage('end_of_track', time=max(end - now, 0)))
  midi = mido.MidiFile(ticks_per_beat=_TICKS_PER_BEAT)
  midi.tracks.append(track)
  return midi


def render_midi(midi, sound_font: str) -> np.ndarray:
  """Renders MIDI with FluidSynth.

  Args:
    midi: A `mido.MidiFile`.
    sound_font: Path of the SoundFont 2 file.

  Returns:
    Audio `[n_samples, 2]` at 44.1 kHz, as float64.

  Raises:
    FileNotFoundError: If FluidSynth or the sound font is missing.
    RuntimeError: If FluidSynth fails.
  """
  fluidsynth = shutil.which('fluidsynth')
  if fluidsynth is None or not os.path.isfile(sound_font):
    missing = sound_font if fluidsynth else 'fluidsynth'
    raise FileNotFoundError(
      f'{missing} is missing: `apt-get install fluidsynth fluid-soundfont-gm` '
      'and `pip install mido`.'
    )
  with tempfile.TemporaryDirectory() as folder:
    midi_path = os.path.join(folder, 'part.mid')
    wav_path = os.path.join(folder, 'part.wav')
    midi.save(midi_path)
    # An empty configuration, so that the user's own does not change the sound.
    command = [fluidsynth, '-q', '-n', '-i', '-f', os.devnull]
    command += ['-r', str(SAMPLE_RATE), '-g', '0.5', '-T', 'wav', '-O', 'float']
    for setting in (
      'synth.reverb.room-size=0.55',
      'synth.reverb.damp=0.3',
      'synth.reverb.width=0.9',
      'synth.reverb.level=0.8',
      'synth.polyphony=512',
    ):
      command += ['-o', setting]
    command += ['-F', wav_path, sound_font, midi_path]
    result = subprocess.run(
      command, capture_output=True, text=True, check=False
    )
    if result.returncode or not os.path.isfile(wav_path):
      raise RuntimeError(
        f'FluidSynth gave code {result.returncode} and no audio: '
        f'{result.stderr.strip() or result.stdout.strip()}'
      )
    return soundfile.read(wav_path, always_2d=True)[0]


def mix_parts(stems: list[np.ndarray], levels_db: list[float]) -> np.ndarray:
  """Mixes parts at the given loudness.

  Args:
    stems: Audio of each part, `[n_samples, 2]`.
    levels_db: Loudness (ITU-R BS.1770) of each part in dB, on any scale.

  Returns:
    Mix `[n_samples, 2]` of the shortest stem's length.

  Raises:
    ValueError: If a stem is silent.
  """
  meter = pyloudnorm.Meter(SAMPLE_RATE)
  n_samples = min(len(stem) for stem in stems)
  mix = np.zeros([n_samples, 2])
  for i, (stem, level_db) in enumerate(zip(stems, levels_db, strict=True)):
    loudness = meter.integrated_loudness(stem[:n_samples])
    if not np.isfinite(loudness):
      raise ValueError(f'Part {i} is silent; check its notes and pitch range.')
    mix += 10.0 ** ((level_db - loudness) / 20.0) * stem[:n_samples]
  return mix


def remove_offset(mix: np.ndarray) -> np.ndarray:
  """Removes what lies below hearing; some of the font's samples have an offset.

  Args:
    mix: Audio `[n_samples, 2]`.

  Returns:
    Audio of the same shape through a Butterworth high-pass of order 2 at 20 Hz.
  """
  sos = scipy.signal.butter(
    2, _HIGH_PASS_HZ, 'highpass', fs=SAMPLE_RATE, output='sos'
  )
  return scipy.signal.sosfilt(sos, mix, axis=0)


def finish_clip(mix: np.ndarray) -> np.ndarray:
  """Cuts, fades and scales a mix to the clip.

  Args:
    mix: Audio `[n_samples, 2]`, longer than the clip.

  Returns:
    Audio `[n_clip_samples, 2]` with its peak at -3 dBFS.

  Raises:
    ValueError: If the mix is too short.
  """
  n_clip = round(CLIP_SECONDS * SAMPLE_RATE)
  level = np.max(np.abs(mix), axis=1)  # [n_samples]
  onset = int(np.argmax(level > level.max() * 10.0 ** (_ONSET_DB / 20.0)))
  n_fade_in = round(_FADE_IN_SECONDS * SAMPLE_RATE)
  start = max(onset - n_fade_in, 0)
  clip = mix[start : start + n_clip].copy()
  if len(clip) < n_clip:
    raise ValueError(
      f'The mix has {len(clip)} samples from its first sound on; the clip '
      f'needs {n_clip}.'
    )
  n_fade_out = round(_FADE_OUT_SECONDS * SAMPLE_RATE)
  clip[:n_fade_in] *= np.linspace(0.0, 1.0, n_fade_in)[:, None]
  fade = 0.5 + 0.5 * np.cos(np.linspace(0.0, np.pi, n_fade_out))
  clip[-n_fade_out:] *= fade[:, None]
  return clip * (10.0 ** (PEAK_DBFS / 20.0) / np.max(np.abs(clip)))


def render_piece(piece: demo_notation.Piece, sound_font: str) -> np.ndarray:
  """Renders a piece.

  Args:
    piece: The piece.
    sound_font: Path of the SoundFont 2 file.

  Returns:
    Audio `[n_samples, 2]` at 44.1 kHz.
  """
  stems = []
  for i, part in enumerate(piece.parts):
    seed = zlib.crc32(f'{piece.name}/{i}'.encode())
    midi = midi_file(part, play_part(part, piece, seed))
    stems.append(render_midi(midi, sound_font))
  mix = mix_parts(stems, [part.level_db for part in piece.parts])
  return finish_clip(remove_offset(mix))


def quantize(audio: np.ndarray, word_bits: int) -> np.ndarray:
  """Rounds audio to words of `word_bits` in 16-bit samples.

  The low bits of the samples are zero. FLAC does not store them, and the error
  of at most half a step stays far below the music.

  Args:
    audio: Audio in [-1, 1), any shape.
    word_bits: Word length in bits, 2 to 16.

  Returns:
    Samples as int16, of the same shape.
  """
  n_steps = 2 ** (word_bits - 1)
  words = np.clip(np.round(audio * n_steps), -n_steps, n_steps - 1)
  return (words * 2 ** (16 - word_bits)).astype(np.int16)


def _define_flags():
  """Defines the flags; importing this module defines none."""
  flags.DEFINE_string(
    'output_dir', None, 'Folder for the folders of the splits.', required=True
  )
  flags.DEFINE_string(
    'sound_font',
    '/usr/share/sounds/sf2/FluidR3_GM.sf2',
    'SoundFont 2 file with the General MIDI instruments.',
  )
  flags.DEFINE_multi_string('piece', [], 'Only these pieces; all if not given.')


def main(argv):
  """Renders the pieces asked for."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}.')
  names = [piece.name for piece in demo_scores.PIECES]
  unknown = sorted(set(FLAGS.piece) - set(names))
  if unknown:
    raise app.UsageError(f'Unknown pieces {unknown}; allowed are {names}.')
  for piece in demo_scores.PIECES:
    if FLAGS.piece and piece.name not in FLAGS.piece:
      continue
    audio = render_piece(piece, FLAGS.sound_font)
    folder = os.path.join(FLAGS.output_dir, piece.split)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f'{piece.name}.flac')
    samples = quantize(audio, piece.word_bits)
    soundfile.write(
      path, samples, SAMPLE_RATE, subtype='PCM_16', compression_level=1.0
    )
    loudness = pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(audio)
    print(f'{path}: {loudness:.1f} LUFS, {os.path.getsize(path)} bytes')


if __name__ == '__main__':
  _define_flags()
  app.run(main)
