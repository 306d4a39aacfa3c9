"""Solo lines for a demonstration, played by FluidSynth as a person would.

The lines are those of the embedded music; articulation, slides, vibrato and
dynamics are drawn from a seed. Their true pitch is kept beside what a tracker
finds, but for the tuning of the samples.
"""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence

import numpy as np
import soundfile

from dafx.audio import sources
from dafx.training import progress as progress_bar
from dafx.training.data_preparation import solo

SOUND_FONT = pathlib.Path('/usr/share/sounds/sf2/FluidR3_GM.sf2')
# Program of General MIDI, and by how many semitones lines are moved.
INSTRUMENTS = {
  'violin': (40, 0),
  'cello': (42, -21),
  'trumpet': (56, -7),
  'oboe': (68, -2),
  'clarinet': (71, -7),
  'flute': (73, 2),
}
# Each line is played in these keys, so that all notes are heard.
_KEYS = (0, -4, 3)
_SAMPLE_RATE = 48000
_LINES = pathlib.Path(__file__).with_name('solo_lines.json')
_TICKS_PER_S = 960  # at MIDI's own tempo, 480 per beat
_BEND_RANGE = 2.0  # semitones, of General MIDI
_BEND_STEP_S = 0.01
_TAIL_S = 0.5
# Vibrato begins on notes of this length, after a while.
_LONG_S, _VIBRATO_AFTER_S = 0.35, 0.15


@dataclasses.dataclass(frozen=True)
class Note:
  """A note as it is played.

  Attributes:
    start_s: When it begins.
    seconds: How long it is.
    midi: Its pitch, 69 for 440 Hz.
    velocity: From 1 to 127.
    slide: Semitones below its pitch from which it begins.
    vibrato: Depth in semitones.
    vibrato_hz: Its rate.
  """

  start_s: float
  seconds: float
  midi: int
  velocity: int
  slide: float = 0.0
  vibrato: float = 0.0
  vibrato_hz: float = 5.5

  def bend(self, times_s: np.ndarray) -> np.ndarray:
    """Returns by how many semitones it is bent, at times since it began."""
    slide = -self.slide * np.clip(1.0 - times_s / 0.07, 0.0, 1.0)
    since_s = times_s - _VIBRATO_AFTER_S
    depth = self.vibrato * np.clip(since_s / 0.2, 0.0, 1.0)
    return slide + depth * np.sin(2.0 * np.pi * self.vibrato_hz * since_s)


def read_lines() -> dict[str, list[tuple[float, float, int, int]]]:
  """Returns the lines: (start in s, seconds, pitch, velocity) of each note."""
  lines = json.loads(_LINES.read_text(encoding='utf-8'))
  return {name: [tuple(n) for n in notes] for name, notes in lines.items()}


def perform(line: Sequence, key: int, seed) -> list[Note]:
  """Plays a line as a person would.

  Args:
    line: Notes as of `read_lines`.
    key: Semitones by which it is moved.
    seed: Of articulation and expression.
  """
  rng = np.random.default_rng(seed)
  swell, phase = rng.uniform(0.1, 0.3), rng.uniform(0.0, 2.0 * np.pi)
  notes = []
  for start_s, seconds, midi, velocity in line:
    is_short = rng.random() < 0.2
    seconds *= rng.uniform(0.45, 0.6) if is_short else rng.uniform(0.9, 1.0)
    loud = 1.0 + swell * np.sin(2.0 * np.pi * start_s / 6.0 + phase)
    loud *= rng.uniform(0.85, 1.1)
    has_vibrato = seconds >= _LONG_S and rng.random() < 0.8
    notes.append(
      Note(
        start_s,
        max(seconds, 0.06),
        midi + key,
        int(np.clip(velocity * loud, 20, 127)),
        rng.uniform(0.3, 1.2) if rng.random() < 0.15 else 0.0,
        rng.uniform(0.12, 0.3) if has_vibrato else 0.0,
        rng.uniform(5.0, 6.3),
      )
    )
  return notes


def true_f0_hz(notes: Iterable[Note], times_s: np.ndarray) -> np.ndarray:
  """Returns the pitch of what is played, [n_frames]; 0 between notes."""
  midi = np.zeros(len(times_s))
  for note in notes:
    since_s = times_s - note.start_s
    sounds = (since_s >= 0) & (since_s < note.seconds)
    midi[sounds] = note.midi + note.bend(since_s[sounds])
  return np.where(midi > 0, 440.0 * 2.0 ** ((midi - 69.0) / 12.0), 0.0)


def midi_file(notes: Iterable[Note], program: int) -> bytes:
  """Writes notes as a MIDI file of one track.

  Args:
    notes: What is played.
    program: Of General MIDI, from 0.
  """
  events = [(0.0, 0, bytes([0xC0, program]))]
  end_s = 0.0
  for note in notes:
    stop_s = note.start_s + note.seconds
    for since_s in np.arange(0.0, note.seconds, _BEND_STEP_S):
      share = float(note.bend(np.array([since_s]))[0]) / _BEND_RANGE
      value = int(np.clip(round(8192 * (1.0 + share)), 0, 16383))
      bend = bytes([0xE0, value & 127, value >> 7])
      events.append((note.start_s + since_s, 1, bend))
    events.append((note.start_s, 2, bytes([0x90, note.midi, note.velocity])))
    events.append((stop_s, 0, bytes([0x80, note.midi, 0])))
    end_s = max(end_s, stop_s)
  events.append((end_s + _TAIL_S, 3, bytes([0xFF, 0x2F, 0])))
  track, now = b'', 0
  for time_s, _, message in sorted(events, key=lambda event: event[:2]):
    ticks = round(time_s * _TICKS_PER_S)
    track += _variable_length(ticks - now) + message
    now = ticks
  head = b'MThd' + b''.join(n.to_bytes(2) for n in (0, 6, 0, 1, 480))
  return head + b'MTrk' + len(track).to_bytes(4) + track


def _variable_length(value):
  """Returns a number as MIDI files have it, seven bits to a byte."""
  out = [value & 127]
  while value := value >> 7:
    out.append(value & 127 | 128)
  return bytes(reversed(out))


def render(notes: Iterable[Note], program: int) -> np.ndarray:
  """Plays notes by FluidSynth, without reverberation, [n_samples] at 48 kHz.

  Args:
    notes: What is played.
    program: Of General MIDI, from 0.

  Raises:
    FileNotFoundError: FluidSynth or its sounds are not installed.
    RuntimeError: FluidSynth failed.
  """
  if shutil.which('fluidsynth') is None or not SOUND_FONT.exists():
    raise FileNotFoundError(
      'The demonstration is played by FluidSynth, which is missing, or its '
      'sounds are: `apt-get install fluidsynth fluid-soundfont-gm`.'
    )
  with tempfile.TemporaryDirectory() as folder:
    midi, audio = (pathlib.Path(folder, name) for name in ('a.mid', 'a.wav'))
    midi.write_bytes(midi_file(notes, program))
    command = ['fluidsynth', '-q', '-ni', '-R', '0', '-C', '0', '-g', '0.6']
    command += ['-O', 'float', '-r', str(_SAMPLE_RATE), '-F', str(audio)]
    done = subprocess.run(
      [*command, str(SOUND_FONT), str(midi)], capture_output=True, text=True
    )
    if done.returncode or not audio.exists():
      raise RuntimeError(f'fluidsynth failed: {done.stderr.strip()}')
    return soundfile.read(audio, dtype='float32')[0].mean(axis=1)


def prepare(
  output_dir: pathlib.Path,
  form: solo.Form,
  instrument: str = 'violin',
  seed: int = 0,
) -> str:
  """Makes a training set of the demonstration.

  Args:
    output_dir: As of `solo.write`. Records hold 'f0_true_hz' too.
    form: What records are like.
    instrument: One of `INSTRUMENTS`.
    seed: Of how the lines are played.

  Returns:
    Words for people.

  Raises:
    ValueError: No such instrument.
    FileNotFoundError: FluidSynth or its sounds are not installed.
  """
  if instrument not in INSTRUMENTS:
    raise ValueError(
      f'There is no instrument {instrument!r}; there are '
      f'{", ".join(INSTRUMENTS)}.'
    )
  program, moved = INSTRUMENTS[instrument]
  lines = read_lines()
  progress = progress_bar.Progress(len(lines) * len(_KEYS), label='Preparing')
  recordings = []
  for i, (name, line) in enumerate(lines.items()):
    for key in _KEYS:
      notes = perform(line, moved + key, [seed, i, key - min(_KEYS)])
      audio = render(notes, program)[:, np.newaxis]
      source = sources.from_array(audio, _SAMPLE_RATE)
      found = solo.analyse(f'{name} ({key:+d})', source, form)
      times_s = np.arange(len(found.curves['f0_hz'])) / form.frame_rate
      curves = {**found.curves, 'f0_true_hz': true_f0_hz(notes, times_s)}
      recordings.append(dataclasses.replace(found, curves=curves))
      progress.update(name)
  progress.close()
  return solo.write(recordings, output_dir, form)
