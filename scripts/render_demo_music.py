r"""Renders the demo music: MIDI files in, the FLAC clips of the package out.

FluidSynth plays the pieces of `demo_music/` with the FluidR3 sound font. Their
clips are part of the package already: run this only after a change of a piece.

A piece is a MIDI file, played as a person would (metre, phrase and small
deviations are in its onsets and velocities). Track 0 holds tempo, metre and the
marker 'start', where the clip begins; each further track is a part, with its
program, pan (controller 10), reverb (91) and chorus send (93). What MIDI has no
word for is in `demo_music/pieces.json`, by the piece's name: its split, style
and title, the word length of the clip in bits (12 for bands keeps the shipped
files small; more where there is little treble to hide the rounding error), and
the loudness of each part in dB relative to the others, by the track's name.

Each part is rendered alone and mixed at its loudness (ITU-R BS.1770), so that
the balance does not depend on how loud the font's instruments were sampled.
The same FluidSynth and sound font give the same samples.

`scripts/setup music` installs what it needs: `pip install mido` and
`apt-get install fluidsynth fluid-soundfont-gm`.

Usage:
  python scripts/render_demo_music.py --output_dir=/tmp/demo
"""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import mido
import numpy as np
import pyloudnorm
import scipy.signal
import soundfile
from absl import app, flags

FLAGS = flags.FLAGS

MUSIC_DIR = pathlib.Path(__file__).resolve().parent / 'demo_music'
SOUND_FONT = '/usr/share/sounds/sf2/FluidR3_GM.sf2'
SAMPLE_RATE = 44100
CLIP_SECONDS = 8.0
PEAK_DBFS = -3.0

# Room in front of the start for notes that are played ahead of the beat.
_LEAD_SECONDS = 0.05
_TAIL_SECONDS = 1.0
_HIGH_PASS_HZ = 20.0
_FADE_IN_SECONDS = 0.002
_FADE_OUT_SECONDS = 0.3
# The clip starts where the mix first comes within this of its peak.
_ONSET_DB = -40.0

# FluidSynth is given MIDI's default tempo, 120 beats per minute.
_TICKS_PER_BEAT = 960
_TICKS_PER_SECOND = 2 * _TICKS_PER_BEAT


@dataclasses.dataclass(frozen=True)
class Piece:
  """One demo clip.

  Attributes:
    name: File name without its suffix.
    split: 'train', 'valid' or 'test'.
    style: Style; each one occurs in 'train'.
    title: Title and composer, for people.
    word_bits: Word length in bits of the clip, 2 to 16.
    levels_db: Loudness (ITU-R BS.1770) in dB of each part relative to the other
      parts', by the name of its track.
    midi: The music.
  """

  name: str
  split: str
  style: str
  title: str
  word_bits: int
  levels_db: dict[str, float]
  midi: mido.MidiFile

  @property
  def parts(self) -> dict[str, mido.MidiTrack]:
    """Tracks of the parts by name, in the order of the file."""
    return {track.name: track for track in self.midi.tracks[1:]}


def read_pieces(folder: pathlib.Path = MUSIC_DIR) -> list[Piece]:
  """Reads all pieces.

  Args:
    folder: Folder with `pieces.json` and the MIDI files that it names.

  Returns:
    Pieces in the order of the table.

  Raises:
    FileNotFoundError: If the table or a MIDI file is missing.
    ValueError: If a MIDI file has other tracks than the table has levels.
  """
  table = json.loads((folder / 'pieces.json').read_text(encoding='utf-8'))
  pieces = []
  for name, entry in table.items():
    midi = mido.MidiFile(folder / f'{name}.mid')
    tracks = [track.name for track in midi.tracks[1:]]
    if tracks != list(entry['levels_db']):
      raise ValueError(
        f'{name}.mid has the parts {tracks}, but pieces.json gives levels_db '
        f'of {list(entry["levels_db"])}: name each part once in both, in the '
        'same order.'
      )
    pieces.append(Piece(name=name, midi=midi, **entry))
  return pieces


def timed_messages(
  piece: Piece, part: str
) -> list[tuple[float, mido.Message | mido.MetaMessage]]:
  """Messages of a part, each with its time.

  Args:
    piece: The piece.
    part: Name of the part's track.

  Returns:
    Time in s from the marker 'start', and message. What stands ahead of the
    start has a negative time.

  Raises:
    ValueError: If the file has no marker 'start'.
  """
  # mido gives times in s by the tempo of track 0.
  alone = mido.MidiFile(
    ticks_per_beat=piece.midi.ticks_per_beat,
    tracks=[piece.midi.tracks[0], piece.parts[part]],
  )
  now_seconds, start_seconds, timed = 0.0, None, []
  for message in alone:
    now_seconds += message.time
    if message.type == 'marker' and message.text == 'start':
      start_seconds = now_seconds
    timed.append((now_seconds, message))
  if start_seconds is None:
    raise ValueError(
      f"{piece.name}.mid has no marker 'start' in its first track: set it "
      'where the clip is to begin.'
    )
  return [(seconds - start_seconds, message) for seconds, message in timed]


def part_midi(piece: Piece, part: str) -> mido.MidiFile:
  """Writes one part as FluidSynth is to play it.

  FluidSynth starts notes in blocks of samples. So the part begins a fixed time
  ahead of its piece's start, in ticks of a fixed length, whatever its tempo.

  Args:
    piece: The piece.
    part: Name of the part's track.

  Returns:
    One track at MIDI's default tempo that lasts until the end of the clip.
    What stands ahead of its first tick, such as the program, comes at once.

  Raises:
    ValueError: If the piece has no marker 'start'.
  """
  track = mido.MidiTrack()
  now = 0
  for seconds, message in timed_messages(piece, part):
    if message.is_meta:
      continue
    tick = max(round((_LEAD_SECONDS + seconds) * _TICKS_PER_SECOND), 0)
    track.append(message.copy(time=tick - now))
    now = tick
  end = round((CLIP_SECONDS + _TAIL_SECONDS) * _TICKS_PER_SECOND)
  track.append(mido.MetaMessage('end_of_track', time=max(end - now, 0)))
  return mido.MidiFile(ticks_per_beat=_TICKS_PER_BEAT, tracks=[track])


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
      f'{missing} is missing: `apt-get install --no-install-recommends '
      'fluidsynth fluid-soundfont-gm`, which `scripts/setup music` does too.'
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


def render_piece(piece: Piece, sound_font: str = SOUND_FONT) -> np.ndarray:
  """Renders a piece.

  Args:
    piece: The piece.
    sound_font: Path of the SoundFont 2 file.

  Returns:
    Audio `[n_samples, 2]` at 44.1 kHz.
  """
  stems = [
    render_midi(part_midi(piece, part), sound_font) for part in piece.parts
  ]
  mix = mix_parts(stems, list(piece.levels_db.values()))
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
    SOUND_FONT,
    'SoundFont 2 file with the General MIDI instruments.',
  )
  flags.DEFINE_multi_string('piece', [], 'Only these pieces; all if not given.')


def main(argv):
  """Renders the pieces asked for."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}.')
  pieces = read_pieces()
  names = [piece.name for piece in pieces]
  unknown = sorted(set(FLAGS.piece) - set(names))
  if unknown:
    raise app.UsageError(f'Unknown pieces {unknown}; allowed are {names}.')
  for piece in pieces:
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
