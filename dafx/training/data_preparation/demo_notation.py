"""Compact text notation for the embedded demo music, and its conversion.

Three kinds of text become the same list of `Note`s, in beats:

* `Melody`: notes one after another, `'E5:1/2 G5 C4+E4+G4:1 R | A5:4'`. A token
  is a pitch (`C4` is middle C, MIDI 60), several pitches joined by `+`, or `R`
  for a rest; `:` sets the duration in beats, which stays until it is set anew.
  `!` accents, `?` softens, `~` ties to the next token of the same pitches, and
  `|` is a bar line, whose place is checked.
* `Chords`: chord symbols with durations, `'Dm9:4 G13:4'`, played in a looped
  rhythm grid, `'x--x..X-'`. In the grid `x` is the whole chord, `X` an accented
  one, `o` a soft one, a digit n the nth chord tone counted upwards from the
  root, `-` holds and `.` rests.
* `Drums`: one looped grid per drum of `x`, `X`, `o` and `.`.

Spaces and `|` in grids are for the reader only.
"""

import dataclasses
import math
from fractions import Fraction
from typing import NamedTuple

# Pitch classes of the note names.
_PITCH_CLASSES = {'C': 0, 'D': 2, 'E': 4, 'F': 5, 'G': 7, 'A': 9, 'B': 11}
_ACCIDENTALS = {'': 0, '#': 1, 'b': -1}

# Semitones above the root, in the order of the digits of a grid.
CHORD_TONES = {
  '': (0, 4, 7),
  'm': (0, 3, 7),
  '5': (0, 7),
  'dim': (0, 3, 6),
  '7': (0, 4, 7, 10),
  'm7': (0, 3, 7, 10),
  'maj7': (0, 4, 7, 11),
  '9': (0, 4, 7, 10, 14),
  'm9': (0, 3, 7, 10, 14),
  'maj9': (0, 4, 7, 11, 14),
  '7b9': (0, 4, 7, 10, 13),
  '13': (0, 4, 10, 14, 21),
}

# General MIDI percussion keys.
DRUM_KEYS = {
  'kick': 36,
  'side_stick': 37,
  'snare': 38,
  'clap': 39,
  'hat': 42,
  'pedal_hat': 44,
  'open_hat': 46,
  'tom_mid': 47,
  'crash': 49,
  'ride': 51,
  'tambourine': 54,
  'cowbell': 56,
  'conga_open': 63,
  'conga_low': 64,
  'timbale': 65,
  'wood_block': 76,
  'shaker': 82,
}

# A drum's sound rings out by itself: its note only has to be a short one.
_DRUM_BEATS = Fraction(1, 8)
_GRID_ACCENTS = {'x': 0, 'X': 1, 'o': -1}


class Note(NamedTuple):
  """One sounding pitch.

  Attributes:
    start_beats: Onset in beats from the start of the piece.
    duration_beats: Notated length in beats.
    pitch: MIDI pitch, or the percussion key.
    accent: 1 accented, 0 plain, -1 soft.
  """

  start_beats: Fraction
  duration_beats: Fraction
  pitch: int
  accent: int = 0


@dataclasses.dataclass(frozen=True)
class Melody:
  """Notes one after another; see the module's text.

  Attributes:
    text: The notes.
    transpose: Shift in semitones.
  """

  text: str
  transpose: int = 0


@dataclasses.dataclass(frozen=True)
class Chords:
  """Chord symbols played in a rhythm, both looped to the end of the piece.

  Attributes:
    chords: Chord symbols with their durations in beats.
    grid: Rhythm, one character per step.
    low: Lowest MIDI pitch that may sound.
    step_beats: Length of a step in beats.
  """

  chords: str
  grid: str
  low: int
  step_beats: Fraction = Fraction(1, 4)


@dataclasses.dataclass(frozen=True)
class Drums:
  """Drum grids, each looped to the end of the piece.

  Attributes:
    rows: Grid of each drum, by its name in `DRUM_KEYS`.
    step_beats: Length of a step in beats.
  """

  rows: dict[str, str]
  step_beats: Fraction = Fraction(1, 4)


@dataclasses.dataclass(frozen=True)
class Part:
  """One player: what is played, on what, and how it sits in the mix.

  Attributes:
    instrument: Name in `demo_music.PROGRAMS`, or in `demo_music.DRUM_KITS`.
    notes: `Melody`, `Chords` or `Drums`.
    level_db: Loudness (ITU-R BS.1770) in dB relative to the other parts'.
    pan: Position, -1 left to 1 right.
    reverb: Reverb send, 0 to 1.
    chorus: Chorus send, 0 to 1.
    velocity: MIDI velocity of a plain note, before metre and phrase.
    gate: Sounding part of the notated duration; above 1 overlaps.
    strum_ms: Delay in ms between the neighbouring notes of a chord.
  """

  instrument: str
  notes: Melody | Chords | Drums
  level_db: float = 0.0
  pan: float = 0.0
  reverb: float = 0.25
  chorus: float = 0.0
  velocity: int = 88
  gate: float = 0.95
  strum_ms: float = 0.0


@dataclasses.dataclass(frozen=True)
class Piece:
  """One demo clip.

  Attributes:
    name: File name without its suffix.
    split: 'train', 'valid' or 'test'.
    style: Style; each one occurs in 'train'.
    title: Title and composer, for people.
    bpm: Beats per minute.
    beats_per_bar: Metre.
    n_bars: Bars of the score. It lasts at least as long as the clip.
    parts: Players.
    pickup_beats: Beats before the first bar line.
    swing: Place of the off-beat within its span: 0.5 straight, 2/3 triplets.
    swing_span_beats: 1 swings quavers, 1/2 swings semiquavers.
    word_bits: Word length in bits of the clip, 2 to 16. It keeps the shipped
      files small: 12 for bands; more where there is little treble to hide the
      rounding error.
  """

  name: str
  split: str
  style: str
  title: str
  bpm: float
  n_bars: int
  parts: tuple[Part, ...]
  beats_per_bar: int = 4
  pickup_beats: Fraction = Fraction(0)
  swing: float = 0.5
  swing_span_beats: Fraction = Fraction(1)
  word_bits: int = 12

  @property
  def n_beats(self) -> Fraction:
    """Length of the score in beats, with its pickup."""
    return self.pickup_beats + self.n_bars * self.beats_per_bar


def parse_pitch(name: str) -> int:
  """MIDI pitch of a note name.

  Args:
    name: Letter, accidental (`#` or `b`, or none) and octave, such as 'Eb5'.

  Returns:
    MIDI pitch; 'C4' is 60 and 'A4', 440 Hz, is 69.

  Raises:
    ValueError: If `name` is no note name.
  """
  letter, accidental, octave = name[:1], name[1:-1], name[-1:]
  if (
    letter not in _PITCH_CLASSES
    or accidental not in _ACCIDENTALS
    or not octave.isdigit()
  ):
    raise ValueError(
      f'Note {name!r} is not a letter A to G, an optional # or b and an octave '
      "0 to 9, such as 'Eb5'."
    )
  return (
    12 * (int(octave) + 1) + _PITCH_CLASSES[letter] + _ACCIDENTALS[accidental]
  )


def parse_chord(symbol: str) -> tuple[int, tuple[int, ...]]:
  """Root and tones of a chord symbol.

  Args:
    symbol: Root and quality, such as 'F#m7'.

  Returns:
    Pitch class of the root, 0 to 11, and the semitones above it.

  Raises:
    ValueError: If the root or the quality is unknown.
  """
  n_root = 2 if symbol[1:2] in ('#', 'b') else 1
  root, quality = symbol[:n_root], symbol[n_root:]
  if quality not in CHORD_TONES:
    raise ValueError(
      f'Chord {symbol!r} has the quality {quality!r}; allowed are '
      f'{sorted(CHORD_TONES)}.'
    )
  return parse_pitch(root + '0') % 12, CHORD_TONES[quality]


def melody_notes(
  text: str,
  beats_per_bar: int = 4,
  pickup_beats: Fraction = Fraction(0),
  transpose: int = 0,
) -> list[Note]:
  """Converts a melody's text to notes.

  Args:
    text: The notes, in the notation of this module.
    beats_per_bar: Metre, against which the bar lines are checked.
    pickup_beats: Beats before the first bar line.
    transpose: Shift in semitones.

  Returns:
    Notes in the order of their onsets.

  Raises:
    ValueError: If a pitch is malformed, or a bar line is out of place.
  """
  notes = []
  now = Fraction(0)
  duration = Fraction(1)
  tied_pitches = None
  for token in text.split():
    if token == '|':
      if (now - pickup_beats) % beats_per_bar:
        raise ValueError(
          f'A bar line stands at beat {now}, but bars of {beats_per_bar} beats '
          f'start at beat {pickup_beats}; check the durations before it in '
          f'{text!r}.'
        )
      continue
    tie = token.endswith('~')
    body = token.rstrip('~')
    accent = {'!': 1, '?': -1}.get(body[-1:], 0)
    names, _, length = body.rstrip('!?').partition(':')
    if length:
      duration = Fraction(length)
    pitches = (
      []
      if names == 'R'
      else [parse_pitch(name) + transpose for name in names.split('+')]
    )
    if tied_pitches is not None and tied_pitches == pitches:
      for i in range(len(notes) - len(pitches), len(notes)):
        notes[i] = notes[i]._replace(
          duration_beats=notes[i].duration_beats + duration
        )
    else:
      notes.extend(Note(now, duration, pitch, accent) for pitch in pitches)
    tied_pitches = pitches if tie else None
    now += duration
  return notes


def _clean_grid(grid: str) -> str:
  return grid.replace(' ', '').replace('|', '')


def chord_notes(
  chords: str,
  grid: str,
  low: int,
  n_beats: Fraction,
  step_beats: Fraction = Fraction(1, 4),
) -> list[Note]:
  """Converts chord symbols and a rhythm grid to notes.

  A whole chord is voiced closely: each of its tones at the lowest place from
  `low` on, which keeps the voices near from one chord to the next. A digit n
  counts the chord's tones upwards from the lowest root from `low` on, and goes
  on in the next octave after the last.

  Args:
    chords: Chord symbols with durations, in the notation of this module.
    grid: Rhythm, one character per step.
    low: Lowest MIDI pitch that may sound.
    n_beats: Length to fill; chords and grid are looped.
    step_beats: Length of a step in beats.

  Returns:
    Notes in the order of their onsets.

  Raises:
    ValueError: If a chord or a character of the grid is unknown.
  """
  timeline = []
  end = Fraction(0)
  duration = Fraction(4)
  for token in chords.split():
    symbol, _, length = token.partition(':')
    if length:
      duration = Fraction(length)
    end += duration
    timeline.append((end, *parse_chord(symbol)))
  steps = _clean_grid(grid)
  notes = []
  n_held = 0
  for i in range(math.ceil(n_beats / step_beats)):
    char = steps[i % len(steps)]
    now = i * step_beats
    if char == '-':
      for j in range(len(notes) - n_held, len(notes)):
        notes[j] = notes[j]._replace(
          duration_beats=notes[j].duration_beats + step_beats
        )
      continue
    n_held = 0
    if char == '.':
      continue
    root, tones = next(
      (root, tones)
      for end, root, tones in timeline
      if now % timeline[-1][0] < end
    )
    if char in _GRID_ACCENTS:
      pitches = sorted(low + (root + tone - low) % 12 for tone in tones)
    elif char in '123456789':
      octave, degree = divmod(int(char) - 1, len(tones))
      pitches = [low + (root - low) % 12 + tones[degree] + 12 * octave]
    else:
      raise ValueError(
        f"Character {char!r} in the grid {grid!r}; allowed are 'x', 'X', 'o', "
        "the digits 1 to 9, '-' and '.'."
      )
    accent = _GRID_ACCENTS.get(char, 0)
    notes.extend(Note(now, step_beats, pitch, accent) for pitch in pitches)
    n_held = len(pitches)
  return notes


def drum_notes(
  rows: dict[str, str],
  n_beats: Fraction,
  step_beats: Fraction = Fraction(1, 4),
) -> list[Note]:
  """Converts drum grids to notes.

  Args:
    rows: Grid of each drum, by its name in `DRUM_KEYS`.
    n_beats: Length to fill; each grid is looped.
    step_beats: Length of a step in beats.

  Returns:
    Notes in the order of their onsets.

  Raises:
    KeyError: If a drum is unknown.
    ValueError: If a character of a grid is unknown.
  """
  notes = []
  for drum, grid in rows.items():
    if drum not in DRUM_KEYS:
      raise KeyError(f'Drum {drum!r}; allowed are {sorted(DRUM_KEYS)}.')
    steps = _clean_grid(grid)
    for i in range(math.ceil(n_beats / step_beats)):
      char = steps[i % len(steps)]
      if char == '.':
        continue
      if char not in _GRID_ACCENTS:
        raise ValueError(
          f"Character {char!r} in the grid of {drum!r}; allowed are 'x', 'X', "
          "'o' and '.'."
        )
      notes.append(
        Note(i * step_beats, _DRUM_BEATS, DRUM_KEYS[drum], _GRID_ACCENTS[char])
      )
  return sorted(notes)


def part_notes(part: Part, piece: Piece) -> list[Note]:
  """Converts one part of a piece to notes.

  Args:
    part: The part.
    piece: The piece, for its metre and length.

  Returns:
    Notes in the order of their onsets. Grids begin at the first bar line.

  Raises:
    KeyError: If a drum is unknown.
    ValueError: If the text is malformed, or longer than the piece.
  """
  source = part.notes
  n_beats = piece.n_beats - piece.pickup_beats
  if isinstance(source, Melody):
    notes = melody_notes(
      source.text, piece.beats_per_bar, piece.pickup_beats, source.transpose
    )
  elif isinstance(source, Chords):
    notes = chord_notes(
      source.chords, source.grid, source.low, n_beats, source.step_beats
    )
  else:
    notes = drum_notes(source.rows, n_beats, source.step_beats)
  if not isinstance(source, Melody):
    notes = [
      note._replace(start_beats=note.start_beats + piece.pickup_beats)
      for note in notes
    ]
  end_beats = max(note.start_beats + note.duration_beats for note in notes)
  if end_beats > piece.n_beats:
    raise ValueError(
      f'Part {part.instrument!r} of {piece.name!r} ends at beat {end_beats}, '
      f'after the end of the piece at beat {piece.n_beats}.'
    )
  return notes


def beats_to_seconds(
  beats: Fraction | float,
  bpm: float,
  swing: float = 0.5,
  swing_span_beats: Fraction | float = 1,
) -> float:
  """Time of a place in the score, with swing.

  Each span keeps its length, but its middle moves to the fraction `swing`.

  Args:
    beats: Place in beats from the start.
    bpm: Beats per minute.
    swing: Place of the off-beat within its span; 0.5 is straight.
    swing_span_beats: 1 swings quavers, 1/2 swings semiquavers.

  Returns:
    Time in s.
  """
  span = float(swing_span_beats)
  n_spans, place = divmod(float(beats) / span, 1.0)
  if place < 0.5:
    place = 2.0 * swing * place
  else:
    place = swing + 2.0 * (1.0 - swing) * (place - 0.5)
  return (n_spans + place) * span * 60.0 / bpm
