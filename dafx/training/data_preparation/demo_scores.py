"""Scores of the demo music, in the notation of `demo_notation`.

Works in the public domain, arranged for band or orchestra by the authors of
dafx, and short original pieces. `demo_audio/LICENSE.md` lists the composers.
Each style of 'valid' and 'test' occurs in 'train' with another piece.
"""

from fractions import Fraction

from dafx.training.data_preparation.demo_notation import (
  Chords,
  Drums,
  Melody,
  Part,
  Piece,
)

_QUAVER = Fraction(1, 2)

_COPPER_WIRE = 'E5:4 G5:2 A5:2 E5:4 C5:2 D5:2 E5:4'
_POCKET_CHANGE = 'E9:8 A9:4 E9:4'
_HARBOUR_STEPS = 'Dm9:4 G13 Cmaj9 A7b9 Dm9'
_NIGHT_BUS = 'Fm9:8 Dbmaj9:8 Eb9:4 Cm7:4'
_CORNER_STORE = 'Dm9:4 Bbmaj9 Gm9 A7b9'
_SALT_AND_LIME = 'Am:4 G F G Am'
_SYMPHONY_40 = 'Gm:2 Gm Gm Gm Adim Adim D D Gm'
_LATE_FREIGHT = 'A7:4 D7:4 A7:8 D7:4'
_ENTERTAINER = 'C:1 C7 F:2 C:1 G7 C:2 C:1 C7 F:2 D7:2'
_MOUNTAIN_KING = 'Bm:4 C#:2 C:2 Bm:4 D:4 F#:8'
_PRELUDE = 'C:4 Dm7 G7 C Am'
_ODE = 'D5:4 A5:4 B5:2 G5:2 D5:2 A5:2 D5:4'
_SAINTS = 'F:22 Dm:2 F:2 Dm:2'
_SWAN_LAKE = 'Bm:4 Gmaj7 Em9 Bm'
_CANON = 'D:2 A Bm F#m G D G A'
_CANCAN = 'D:2 A7 D D A7 A7 D A7 D A7'

_SYMPHONY_40_THEME = """
  R:3/2 Eb5:1/4 D5 | D5:1/2! Eb5:1/4 D5 D5:1/2 Eb5:1/4 D5 |
  D5:1/2 Bb5! R Bb5:1/4 A5 | G5:1/2 G5:1/4 F5 Eb5:1/2 Eb5:1/4 D5 |
  C5:1/2 C5 R D5:1/4 C5 | C5:1/2! D5:1/4 C5 C5:1/2 D5:1/4 C5 |
  C5:1/2 A5! R A5:1/4 G5 | F#5:1/2 F#5:1/4 Eb5 D5:1/2 D5:1/4 C5 |
  Bb4:1/2 Bb4 R:1
"""
_ENTERTAINER_THEME = """
  E4:1/4 C5:1/2! E4:1/4 C5:1/2! E4:1/4 C5~ | C5:5/4 C6:1/4 D6 D#6 |
  E6! C6 D6 E6:1/2! B5:1/4 D6:1/2 | C6:1 R:1/2 D4:1/4 D#4 |
  E4 C5:1/2! E4:1/4 C5:1/2! E4:1/4 C5~ | C5:3/2 A5:1/4 G5 |
  F#5 A5 C6 E6:1/2! D6:1/4 C6 A5
"""
_MOUNTAIN_KING_THEME = """
  B3:1/2 C#4 D4 E4 F#4 D4 F#4:1 | F4:1/2 C#4 F4:1 E4:1/2 C4 E4:1 |
  B3:1/2 C#4 D4 E4 F#4 D4 F#4 B4 | A4 F#4 D4 F#4 A4:2 |
  F#4:1/2 G#4 A#4 B4 C#5 A#4 C#5:1 | D5:1/2 A#4 D5:1 C#5:1/2 A#4 C#5:1
"""
_SPRING_BAR = 'G#5:1/2 G#5 G#5 F#5:1/4 E5 B5:3/2! B5:1/4 A5'
_SPRING_BAR_SECOND = 'E5:1/2 E5 E5 D#5:1/4 B4 G#5:3/2! G#5:1/4 F#5'
_SWAN_LAKE_THEME = """
  F#5:2! B4:1/2 C#5 D5 E5 | F#5:3/2! D5:1/2 F#5:3/2! D5:1/2 |
  F#5:3/2! B4:1/2 D5 B4 G4 D5 | B4:4
"""
_CANON_THEME = """
  A5:1/2! F#5:1/4 G5 A5:1/2 F#5:1/4 G5 A5 A4 B4 C#5 D5 E5 F#5 G5 |
  F#5:1/2! D5:1/4 E5 F#5:1/2 F#4:1/4 G4 A4 B4 A4 G4 A4 F#4 G4 A4 |
  G4:1/2! B4:1/4 A4 G4:1/2 F#4:1/4 E4 F#4 E4 D4 E4 F#4 G4 A4 B4 |
  G4:1/2! B4:1/4 A4 B4:1/2 C#5:1/4 D5 A4 B4 C#5 D5 E5 F#5 G5 A5
"""
_CANCAN_THEME = """
  D5:2! | E5:1/2 G5 F#5 E5 | A5:1! A5 | A5:1/2 B5 F#5 G5 | E5:1! E5 |
  E5:1/2 G5 F#5 E5 | D5 D6! C#6 B5 | A5 G5 F#5 E5 | D5:2! | E5:1/2 G5 F#5 E5
"""
_ALLA_TURCA_RIGHT = """
  B4:1/4 A4 G#4 A4 | C5:1/2! R D5:1/4 C5 B4 C5 |
  E5:1/2! R F5:1/4 E5 D#5 E5 | B5! A5 G#5 A5 B5! A5 G#5 A5 |
  C6:1! A5:1/2 C6 | B5! F#5+A5 E5+G5 F#5+A5 | B5! F#5+A5 E5+G5 F#5+A5 |
  B5! F#5+A5 E5+G5 D#5+F#5 | E5:1! B4:1/4 A4 G#4 A4 |
  C5:1/2! R D5:1/4 C5 B4 C5
"""
_ALLA_TURCA_LEFT = """
  R:1 | A3:1/2 C4+E4 C4+E4 C4+E4 | A3 C4+E4 C4+E4 C4+E4 |
  A3 C4+E4 A3 C4+E4 | A3 C4+E4 C4+E4 C4+E4 | E3 B3+E4 B3+E4 B3+E4 |
  E3 B3+E4 B3+E4 B3+E4 | E3 B3+E4 B2 B3+D#4 | E3:1 R |
  A3:1/2 C4+E4 C4+E4 C4+E4
"""

_TRAIN = (
  Piece(
    name='copper_wire',
    split='train',
    style='rock',
    title='Copper Wire (original)',
    bpm=132,
    n_bars=5,
    parts=(
      Part(
        'power_kit',
        Drums(
          {
            'kick': 'x.....x.x.x.....',
            'snare': '....X.......X...|....X.......X.oX',
            'hat': 'x.x.x.x.x.x.x.x.',
            'crash': 'X...............................',
          }
        ),
      ),
      Part(
        'pick_bass',
        Chords(_COPPER_WIRE, '1-1.1-1-1-1.1-1-', low=28),
        level_db=-5,
        reverb=0.05,
      ),
      Part(
        'distortion_guitar',
        Chords(_COPPER_WIRE, 'X-x.x-x-x.x-xxX-', low=40),
        level_db=-6,
        pan=-0.75,
        strum_ms=4,
        reverb=0.12,
      ),
      Part(
        'overdriven_guitar',
        Chords(_COPPER_WIRE, 'X-x.x-x-x.x-xxX-', low=45),
        level_db=-6,
        pan=0.75,
        strum_ms=6,
        reverb=0.12,
      ),
      Part(
        'rock_organ',
        Chords('Em:4 G:2 A Em:4 C:2 D Em:4', 'x' + '-' * 7, low=57),
        level_db=-13,
        pan=0.2,
        chorus=0.3,
      ),
      Part(
        'overdriven_guitar',
        Melody("""
          R:4 | B4:1/2 D5 E5:1 G5:1/2! E5 D5 B4 |
          A4:1/2! B4 D5:3/2 E5:1/2 B4:1 | G5:1/2! A5 G5 E5 D5:1 B4:1/2 D5 |
          E5:4!
        """),
        level_db=-4,
        reverb=0.45,
        chorus=0.2,
      ),
    ),
  ),
  Piece(
    name='pocket_change',
    split='train',
    style='funk',
    title='Pocket Change (original)',
    bpm=106,
    n_bars=4,
    swing=0.54,
    swing_span_beats=_QUAVER,
    parts=(
      Part(
        'standard_kit',
        Drums(
          {
            'kick': 'x..x......x..x..',
            'snare': '....X..o.o..X..o',
            'hat': 'xoxoxoxoxoxoxo.o',
            'open_hat': '..............x.',
            'tambourine': '....x.......x...',
            'crash': 'X' + '.' * 63,
          }
        ),
      ),
      Part(
        'slap_bass',
        Chords('E7:8 A7:4 E7:4', '1-.1..5-..4.5.31', low=28),
        level_db=-2,
        gate=0.8,
        reverb=0.03,
        velocity=96,
      ),
      Part(
        'clavinet',
        Chords(_POCKET_CHANGE, '1..x..1.x..1x.x.', low=52),
        level_db=-8,
        pan=-0.6,
        gate=0.6,
        reverb=0.1,
      ),
      Part(
        'clean_guitar',
        Chords(_POCKET_CHANGE, 'xoXox.xo.oXo.xxo', low=59),
        level_db=-9,
        pan=0.65,
        gate=0.5,
        strum_ms=5,
        chorus=0.2,
      ),
      Part(
        'brass',
        Chords(_POCKET_CHANGE, '......X-........|..x.X---........', low=60),
        level_db=-6,
        pan=0.15,
        reverb=0.35,
      ),
      Part(
        'organ',
        Chords(_POCKET_CHANGE, 'x' + '-' * 15, low=57),
        level_db=-17,
        pan=-0.2,
        chorus=0.5,
      ),
      Part(
        'tenor_sax',
        Melody("""
          R:4 | E5:1/4 G5! E5:1/2 D5:1/4 B4 R:1/2 A4:1/4 B4 D5:1/2 E5:1 |
          R:1 E5:1/2 F#5:1/4 G5! F#5:1/2 E5 C#5:1 | B4:1/2 D5 E5:3
        """),
        level_db=-5,
        pan=-0.1,
        reverb=0.35,
      ),
    ),
  ),
  Piece(
    name='harbour_steps',
    split='train',
    style='bossa',
    title='Harbour Steps (original)',
    bpm=128,
    n_bars=5,
    parts=(
      Part(
        'jazz_kit',
        Drums(
          {
            'kick': 'x.....xox.....xo',
            'side_stick': 'x.....x.....x...|....x.....x.....',
            'hat': 'xoxoxoxoxoxoxoxo',
            'shaker': 'oxoxoxoxoxoxoxox',
            'conga_open': '............x.x.',
            'conga_low': '......x.........',
          }
        ),
        level_db=-2,
        velocity=80,
      ),
      Part(
        'upright_bass',
        Chords('Dm:4 G C A Dm', '1----.3-3----.1-', low=33),
        level_db=-3,
        reverb=0.1,
      ),
      Part(
        'nylon_guitar',
        Chords(_HARBOUR_STEPS, 'x--x--x---x--x--', low=52),
        level_db=-4,
        pan=-0.5,
        strum_ms=9,
      ),
      Part(
        'rhodes',
        Chords(_HARBOUR_STEPS, '....x-----x-....', low=57),
        level_db=-10,
        pan=0.5,
        chorus=0.4,
      ),
      Part(
        'slow_strings',
        Chords(_HARBOUR_STEPS, 'x' + '-' * 15, low=64),
        level_db=-14,
        pan=0.2,
        reverb=0.5,
      ),
      Part(
        'flute',
        Melody("""
          A5:3/2 G5:1/2 F5:1 E5:1/2 C5 | E5:3 D5:1/2 B4 |
          G5:3/2 E5:1/2 D5:1 B4 | C#5:2 Bb4:1 E5 | D5:4
        """),
        level_db=-2,
        pan=0.1,
        reverb=0.45,
      ),
    ),
  ),
  Piece(
    name='night_bus',
    split='train',
    style='electronic',
    title='Night Bus (original, drum and bass)',
    bpm=172,
    n_bars=6,
    parts=(
      Part(
        'electronic_kit',
        Drums(
          {
            'kick': 'x.........x.....|x.x.......x.....',
            'snare': '....X..o.o..X..o',
            'hat': 'x.x.x.x.x.x.x.xx',
            'ride': 'x...x...x...x...',
            'crash': 'X' + '.' * 63,
          }
        ),
        velocity=98,
        reverb=0.12,
      ),
      Part(
        'sub_bass',
        Chords('Fm7:8 Dbmaj7:8 Eb7:4 Cm7:4', '1-----..1..4-.5-', low=29),
        level_db=-5,
        reverb=0.0,
      ),
      Part(
        'poly_pad',
        Chords(_NIGHT_BUS, 'x' + '-' * 15, low=56),
        level_db=-10,
        reverb=0.5,
        chorus=0.5,
      ),
      Part(
        'dx_piano',
        Chords(_NIGHT_BUS, '...x..x.....x...', low=60),
        level_db=-9,
        pan=-0.45,
        reverb=0.5,
      ),
      Part(
        'saw_lead',
        Chords(_NIGHT_BUS, '1.2.3.4.5.4.3.2.', low=65),
        level_db=-11,
        pan=0.5,
        gate=0.6,
        reverb=0.4,
        chorus=0.4,
      ),
      Part(
        'square_lead',
        Melody("""
          R:8 | C6:3 Ab5:1 | F5:2 G5:1 Ab5 | Bb5:3 G5:1 | Eb5:4
        """),
        level_db=-9,
        reverb=0.6,
        chorus=0.3,
      ),
    ),
  ),
  Piece(
    name='corner_store',
    split='train',
    style='hip_hop',
    title='Corner Store (original)',
    bpm=88,
    n_bars=4,
    swing=0.58,
    swing_span_beats=_QUAVER,
    parts=(
      Part(
        'tr808_kit',
        Drums(
          {
            'kick': 'X.....x...x..x..|X.....xx..x.....',
            'snare': '....X.......X...',
            'clap': '....x.......x...',
            'hat': 'xoxoxoxoxoxxxoxo',
            'open_hat': '..............x.|................',
            'shaker': 'o.x.o.x.o.x.o.x.',
          }
        ),
        velocity=98,
        reverb=0.1,
      ),
      Part(
        'finger_bass',
        Melody("""
          D2:3/2 D2:1/4 F2 A2:1/2 C3 D2:1 |
          Bb1:3/2 Bb1:1/4 D2 F2:1/2 A2 Bb1:1 |
          G1:3/2 G1:1/4 Bb1 D2:1/2 F2 G1:1 | A1:3/2 A1:1/4 C#2 E2:1/2 G2 A1:1
        """),
        level_db=-2,
        reverb=0.03,
      ),
      Part(
        'rhodes',
        Chords(_CORNER_STORE, 'x-----x-..x---..', low=53),
        level_db=-6,
        pan=-0.35,
        chorus=0.5,
      ),
      Part(
        'slow_strings',
        Chords(_CORNER_STORE, 'x' + '-' * 15, low=62),
        level_db=-13,
        pan=0.35,
        reverb=0.5,
      ),
      Part(
        'muted_guitar',
        Chords(_CORNER_STORE, '..4.5.3...4.2...', low=57),
        level_db=-10,
        pan=0.6,
        reverb=0.3,
      ),
      Part(
        'vibraphone',
        Melody("""
          A5:1/2 F5 E5:1/4 D5 A4:1/2 R:1 C5:1/2 D5 |
          F5:1! D5:1/2 C5 A4:1 R | Bb4:1/2 D5 F5 A5 G5:1 F5 | E5:1 C#5 Bb4 A4
        """),
        level_db=-5,
        reverb=0.45,
        gate=1.3,
      ),
    ),
  ),
  Piece(
    name='salt_and_lime',
    split='train',
    style='reggae',
    title='Salt and Lime (original)',
    bpm=144,
    n_bars=5,
    swing=0.58,
    parts=(
      Part(
        'room_kit',
        Drums(
          {
            'kick': '........X.......',
            'side_stick': '........X.....o.|..x.....X.......',
            'hat': 'x.x.x.x.x.x.x.x.',
            'open_hat': '................|............x...',
            'timbale': 'XxX.............' + '.' * 64,
            'cowbell': '....o.......o...',
          }
        ),
        level_db=-1,
        reverb=0.35,
      ),
      Part(
        'finger_bass',
        Melody("""
          A1:1 R:1/2 A1 C2:1 E2 | G1:3/2 B1:1/2 D2:1 G1 |
          F1:1 R:1/2 F1 A1:1 C2 | G1:3/2 G1:1/2 B1:1 D2 | A1:2 E2:1 A1
        """),
        level_db=-1,
        reverb=0.03,
      ),
      Part(
        'clean_guitar',
        Chords(_SALT_AND_LIME, '....X.......X...', low=60),
        level_db=-5,
        pan=-0.55,
        gate=0.45,
        strum_ms=4,
      ),
      Part(
        'organ',
        Chords(_SALT_AND_LIME, '..x.x.x...x.x.x.', low=57),
        level_db=-9,
        pan=0.5,
        gate=0.6,
        chorus=0.4,
      ),
      Part(
        'piano',
        Chords(_SALT_AND_LIME, '....x.......x...', low=64),
        level_db=-9,
        pan=0.3,
        gate=0.5,
      ),
      Part(
        'trombone',
        Melody("""
          C5:3/2! B4:1/2 A4:1 E4 | G4:2 R | A4:3/2! G4:1/2 F4:1 C4 |
          D4:1 E4 G4 B4 | A4:4
        """),
        level_db=-8,
        pan=-0.2,
        reverb=0.4,
      ),
      Part(
        'trumpet',
        Melody("""
          E5:3/2! D5:1/2 C5:1 A4 | B4:2 R | C5:3/2! B4:1/2 A4:1 F4 |
          G4:1 A4 B4 D5 | C5:4
        """),
        level_db=-5,
        pan=0.15,
        reverb=0.45,
      ),
    ),
  ),
  Piece(
    name='symphony_40_disco',
    split='train',
    style='disco',
    title='Symphony No. 40, first theme (Mozart)',
    bpm=128,
    n_bars=9,
    beats_per_bar=2,
    parts=(
      Part(
        'standard_kit',
        Drums(
          {
            'kick': 'x...',
            'snare': '....X...',
            'clap': '....x...',
            'hat': 'xx.x',
            'open_hat': '..x.',
            'crash': 'X' + '.' * 63,
            'tambourine': 'oxox',
          }
        ),
        velocity=94,
      ),
      Part(
        'finger_bass',
        Chords(_SYMPHONY_40, '1.4.1.4.', low=31),
        level_db=-2,
        reverb=0.03,
      ),
      Part(
        'strings',
        Melody(_SYMPHONY_40_THEME),
        level_db=-3,
        pan=-0.25,
        reverb=0.4,
      ),
      Part(
        'synth_strings',
        Melody(_SYMPHONY_40_THEME, transpose=-12),
        level_db=-9,
        pan=0.3,
        chorus=0.3,
      ),
      Part(
        'clean_guitar',
        Chords(_SYMPHONY_40, 'x.xox.xo', low=60),
        level_db=-9,
        pan=0.65,
        gate=0.5,
        strum_ms=4,
      ),
      Part(
        'rhodes',
        Chords(_SYMPHONY_40, 'x-...x-.', low=55),
        level_db=-10,
        pan=-0.5,
        chorus=0.4,
      ),
      Part(
        'brass',
        Chords(_SYMPHONY_40, '........|....X.x.', low=62),
        level_db=-9,
        pan=0.1,
        gate=0.7,
      ),
    ),
  ),
  Piece(
    name='late_freight',
    split='train',
    style='blues',
    title='Late Freight (original, twelve-bar blues)',
    bpm=120,
    n_bars=5,
    swing=2 / 3,
    parts=(
      Part(
        'room_kit',
        Drums(
          {
            'kick': 'x...x..o',
            'snare': '..X...X.|..X...Xo',
            'ride': 'xoxoxoxo',
            'pedal_hat': '..x...x.',
            'crash': 'X' + '.' * 39,
          },
          step_beats=_QUAVER,
        ),
        reverb=0.3,
      ),
      Part(
        'upright_bass',
        Melody("""
          A1:1 C#2 E2 F#2 | D2 F#2 A2 B2 | A2 F#2 E2 C#2 | A1 C#2 E2 G2 |
          D2 F#2 A2 C3
        """),
        level_db=-2,
        reverb=0.1,
      ),
      Part(
        'overdriven_guitar',
        Melody(
          'A2+E3:1/2! A2+E3 A2+F#3 A2+F#3 ' * 2
          + 'D3+A3! D3+A3 D3+B3 D3+B3 ' * 2
          + 'A2+E3! A2+E3 A2+F#3 A2+F#3 ' * 4
          + 'D3+A3! D3+A3 D3+B3 D3+B3 ' * 2
        ),
        level_db=-7,
        pan=-0.5,
        gate=0.85,
        strum_ms=3,
      ),
      Part(
        'piano',
        Chords(_LATE_FREIGHT, '..x-..xo|.x..x...', low=60, step_beats=_QUAVER),
        level_db=-7,
        pan=0.5,
        gate=0.7,
      ),
      Part(
        'organ',
        Chords(_LATE_FREIGHT, 'x' + '-' * 15, low=52),
        level_db=-16,
        pan=0.2,
        chorus=0.5,
      ),
      Part(
        'harmonica',
        Melody("""
          E5:1/2 G5! A5:3/2 G5:1/2 E5 D5 | F#5:1! A5:1/2 C6 A5:1 F#5 |
          E5:1/2 D5 C5 A4 A4:1 R | G4:1/2 A4 C5 C#5 E5:2! |
          D5:1/2 F5! A5 F5 D5:2
        """),
        level_db=-4,
        reverb=0.4,
      ),
    ),
  ),
  Piece(
    name='entertainer',
    split='train',
    style='jazz',
    title='The Entertainer (Joplin)',
    bpm=100,
    n_bars=7,
    beats_per_bar=2,
    parts=(
      Part(
        'jazz_kit',
        Drums(
          {
            'kick': 'x...x...',
            'snare': '..x...xo',
            'hat': 'x.xox.xo',
            'wood_block': 'x.xx.xx.',
            'crash': 'X' + '.' * 31,
          }
        ),
        level_db=-3,
        velocity=82,
      ),
      Part(
        'tuba',
        Chords('C:2 F C C C F D', '1-..3-..', low=31),
        level_db=-3,
        reverb=0.15,
      ),
      Part(
        'honky_tonk',
        Melody(_ENTERTAINER_THEME),
        level_db=-1,
        pan=0.2,
      ),
      Part(
        'honky_tonk',
        Chords(_ENTERTAINER, '..x...x.', low=52),
        level_db=-7,
        pan=0.0,
      ),
      Part(
        'banjo',
        Chords(_ENTERTAINER, '..xo..xo', low=57),
        level_db=-8,
        pan=-0.65,
        strum_ms=7,
      ),
      Part(
        'clarinet',
        Melody(_ENTERTAINER_THEME),
        level_db=-7,
        pan=0.5,
        reverb=0.35,
      ),
      Part(
        'trombone',
        Melody(
          'G3:2 | A3 | G3:1 B3 | C4:2 | G3:1 Bb3 | A3:2 | C4',
        ),
        level_db=-10,
        pan=-0.3,
        reverb=0.35,
      ),
    ),
  ),
  Piece(
    name='mountain_king',
    split='train',
    style='orchestral',
    title='In the Hall of the Mountain King (Grieg)',
    bpm=174,
    n_bars=6,
    word_bits=13,
    parts=(
      Part(
        'strings',
        Melody(_MOUNTAIN_KING_THEME, transpose=12),
        pan=-0.4,
        reverb=0.5,
        velocity=96,
      ),
      Part(
        'contrabass',
        Melody(_MOUNTAIN_KING_THEME, transpose=-12),
        level_db=-3,
        pan=0.45,
        reverb=0.4,
        velocity=100,
      ),
      Part(
        'piccolo',
        Melody(_MOUNTAIN_KING_THEME, transpose=24),
        level_db=-8,
        pan=-0.15,
        reverb=0.5,
      ),
      Part(
        'trombone',
        Chords(_MOUNTAIN_KING, 'X...x...x...x...', low=47),
        level_db=-5,
        pan=0.3,
        gate=1.8,
        reverb=0.5,
        velocity=100,
      ),
      Part(
        'brass',
        Chords(_MOUNTAIN_KING, '..x...x...x...x.', low=59),
        level_db=-4,
        pan=0.1,
        reverb=0.5,
        velocity=98,
      ),
      Part(
        'pizzicato',
        Chords(_MOUNTAIN_KING, 'x.x.x.x.', low=66),
        level_db=-8,
        pan=-0.5,
        reverb=0.4,
      ),
      Part(
        'timpani',
        Melody("""
          B2:1! F#2 B2 F#2 | C#3:1! C#3 C3 C3 | B2:1! F#2 B2 F#2 |
          D3:1! A2 D3:1/2 D3 D3:1 | F#2:1! C#3 F#2 C#3 | F#2:1! F#2 F#2 F#2
        """),
        level_db=-2,
        reverb=0.5,
        velocity=100,
      ),
      Part(
        'orchestra_kit',
        Drums(
          {
            'kick': 'X.......x.......',
            'crash': 'X' + '.' * 15 + '........x.......',
            'snare': '....x...x...x.xx',
          }
        ),
        level_db=-4,
        reverb=0.5,
      ),
    ),
  ),
  Piece(
    name='gymnopedie',
    split='train',
    style='piano',
    title='Gymnopédie No. 1 (Satie)',
    bpm=80,
    n_bars=4,
    word_bits=14,
    beats_per_bar=3,
    parts=(
      Part(
        'piano',
        Melody('R:1 F#5 A5 | G5 F#5 C#5 | B4 C#5 D5 | A4:3'),
        reverb=0.4,
        velocity=78,
        gate=1.1,
      ),
      Part(
        'piano',
        Melody("""
          R:1 B3+D4+F#4:2 | R:1 A3+C#4+F#4:2 | R:1 B3+D4+F#4:2 |
          R:1 A3+C#4+F#4:2
        """),
        level_db=-5,
        reverb=0.4,
        velocity=62,
        gate=1.0,
        strum_ms=6,
      ),
      Part(
        'piano',
        Melody('G2:3 | D2 | G2 | D2'),
        level_db=-4,
        reverb=0.4,
        velocity=68,
        gate=1.0,
      ),
    ),
  ),
  Piece(
    name='old_hundredth',
    split='train',
    style='brass',
    title='Old Hundredth (attributed to Bourgeois)',
    bpm=116,
    n_bars=4,
    word_bits=14,
    pickup_beats=Fraction(1),
    parts=(
      Part(
        'trumpet',
        Melody(
          'G4:1 | G4 F#4 E4 D4 | G4 A4 B4 B4 | B4 B4 A4 G4 | C5! B4 A4:2',
          transpose=3,
        ),
        pan=-0.4,
        reverb=0.5,
        velocity=98,
      ),
      Part(
        'horn',
        Melody(
          'D4:1 | D4 D4 B3 B3 | E4 F#4 G4 G4 | G4 G4 D4 D4 | E4 D4 F#4:2',
          transpose=3,
        ),
        level_db=-3,
        pan=0.4,
        reverb=0.5,
        velocity=98,
      ),
      Part(
        'trombone',
        Melody(
          'B3:1 | B3 A3 G3 F#3 | B3 A3 B3 D4 | D4 B3 A3 B3 | C4 B3 A3:2',
          transpose=3,
        ),
        level_db=-3,
        pan=0.15,
        reverb=0.5,
        velocity=98,
      ),
      Part(
        'tuba',
        Melody(
          'G2:1 | G2 D2 E2 B1 | E2 D2 G1 G2 | B1 E2 F#2 G2 | C2 D2 D2:2',
          transpose=3,
        ),
        level_db=-3,
        reverb=0.5,
        velocity=98,
      ),
      Part(
        'brass',
        Melody(
          """
            B3+D4+G4:1 | B3+D4+G4 A3+D4+F#4 G3+B3+E4 F#3+B3+D4 |
            B3+E4+G4 A3+F#4+A4 B3+G4+B4 D4+G4+B4 |
            D4+G4+B4 B3+G4+B4 A3+D4+A4 B3+D4+G4 |
            C4+E4+C5 B3+D4+B4 A3+F#4+A4:2
          """,
          transpose=3,
        ),
        level_db=-5,
        pan=-0.1,
        reverb=0.5,
        velocity=100,
      ),
      Part(
        'timpani',
        Melody(
          'G2:1 | G2:1! D2 R D2 | R D2 G2! G2:1/4 G2 G2 G2 | '
          'G2:1! R R G2:1/2 G2 | R:1 D2:1/4 D2 D2 D2 D2:2!',
          transpose=3,
        ),
        level_db=-7,
        reverb=0.5,
      ),
      Part(
        'orchestra_kit',
        Drums({'crash': 'x...............|........X.......'}),
        level_db=-9,
        reverb=0.5,
      ),
    ),
  ),
)

_VALID = (
  Piece(
    name='ode_to_joy_rock',
    split='valid',
    style='rock',
    title='Ode to Joy (Beethoven)',
    bpm=126,
    n_bars=5,
    parts=(
      Part(
        'power_kit',
        Drums(
          {
            'kick': 'x..x..x.x.x.....',
            'snare': '....X.......X...',
            'hat': 'x.x.x.x.x.x.x.x.',
            'crash': 'X' + '.' * 31,
            'tom_mid': '................' * 3 + '............x.x.' + '.' * 16,
          }
        ),
        velocity=94,
      ),
      Part(
        'pick_bass',
        Chords(_ODE, '1.1.1.1.', low=28),
        level_db=-3,
        gate=1.6,
        reverb=0.03,
      ),
      Part(
        'distortion_guitar',
        Chords(_ODE, 'X---x.x.x---x.x.', low=45),
        level_db=-6,
        pan=-0.7,
        strum_ms=5,
        reverb=0.12,
      ),
      Part(
        'distortion_guitar',
        Chords(_ODE, 'X---x.x.x---x.x.', low=40),
        level_db=-6,
        pan=0.7,
        strum_ms=4,
        reverb=0.12,
      ),
      Part(
        'overdriven_guitar',
        Melody("""
          F#5:1! F#5 G5 A5 | A5! G5 F#5 E5 | D5! D5 E5 F#5 |
          F#5:3/2! E5:1/2 E5:2 | F#5:1! F#5 G5 A5
        """),
        level_db=-3,
        pan=-0.1,
        reverb=0.4,
      ),
      Part(
        'overdriven_guitar',
        Melody("""
          D5:1! D5 E5 F#5 | F#5! E5 D5 C#5 | B4! B4 C#5 D5 |
          D5:3/2! C#5:1/2 C#5:2 | D5:1! D5 E5 F#5
        """),
        level_db=-7,
        pan=0.25,
        reverb=0.4,
      ),
      Part(
        'rock_organ',
        Chords('D:4 A Bm:2 G D A D:4', 'x' + '-' * 7, low=57),
        level_db=-13,
        chorus=0.4,
      ),
    ),
  ),
  Piece(
    name='saints',
    split='valid',
    style='jazz',
    title='When the Saints Go Marching In (traditional)',
    bpm=176,
    n_bars=7,
    swing=0.64,
    parts=(
      Part(
        'jazz_kit',
        Drums(
          {
            'kick': 'x...x...',
            'snare': '..xo..xo|..xo.oxo',
            'ride': 'x.xox.xo',
            'pedal_hat': '..x...x.',
            'crash': 'X' + '.' * 31,
          },
          step_beats=_QUAVER,
        ),
        level_db=-2,
      ),
      Part(
        'upright_bass',
        Melody("""
          F2:1 A2 C3 D3 | F2 C3 A2 C3 | F2 A2 C3 D3 | C3 A2 F2 C2 |
          F2 A2 C3 A2 | F2 E2 D2 C2 | F2 A2 D2 F2
        """),
        level_db=-3,
      ),
      Part(
        'trumpet',
        Melody("""
          R:1 F4 A4 Bb4 | C5:4! | R:1 F4 A4 Bb4 | C5:4! | R:1 F4 A4 Bb4 |
          C5:2! A4 | F4 A4
        """),
        pan=0.1,
        reverb=0.35,
        velocity=96,
      ),
      Part(
        'clarinet',
        Melody("""
          R:4 | A5:1/2 C6 A5 G5 F5 D5 C5 A4 | C5:2 R |
          C6:1/2 D6! C6 A5 G5 F5 D5 C5 | F5:2 R |
          F5:1/2 A5 C6 A5 F5:1 D5 | C5:1 D5 F5:2
        """),
        level_db=-4,
        pan=0.45,
        reverb=0.35,
      ),
      Part(
        'trombone',
        Melody("""
          F3:4 | A3:3 G3:1 | F3:4 | C4:2 A3:1 G3 | F3:4 | A3:2 C4 | C4 D4
        """),
        level_db=-6,
        pan=-0.4,
        reverb=0.35,
      ),
      Part(
        'banjo',
        Chords(_SAINTS, 'x.x.x.x.', low=57, step_beats=_QUAVER),
        level_db=-8,
        pan=-0.65,
        strum_ms=6,
      ),
      Part(
        'piano',
        Chords(_SAINTS, '..x...x.|..xo..x.', low=60, step_beats=_QUAVER),
        level_db=-8,
        pan=0.6,
        gate=0.7,
      ),
    ),
  ),
  Piece(
    name='prelude_electro',
    split='valid',
    style='electronic',
    title='Prelude in C major, BWV 846 (Bach)',
    bpm=124,
    n_bars=5,
    parts=(
      Part(
        'electronic_kit',
        Drums(
          {
            'kick': 'x...',
            'clap': '....x...',
            'hat': 'xxox',
            'open_hat': '..x.',
            'crash': 'X' + '.' * 63,
          }
        ),
        velocity=96,
        reverb=0.1,
      ),
      Part(
        'synth_bass',
        Melody(
          'C2:1/4 C2 R C3 ' * 4
          + '| '
          + 'C2 C2 R C3 ' * 4
          + '| '
          + 'B1 B1 R B2 ' * 4
          + '| '
          + 'C2 C2 R C3 ' * 4
          + '| '
          + 'C2 C2 R C3 ' * 4
        ),
        level_db=-5,
        reverb=0.0,
      ),
      Part(
        'saw_lead',
        Melody(
          'C4:1/4! E4 G4 C5 E5 G4 C5 E5 ' * 2
          + '| '
          + 'C4! D4 A4 D5 F5 A4 D5 F5 ' * 2
          + '| '
          + 'B3! D4 G4 D5 F5 G4 D5 F5 ' * 2
          + '| '
          + 'C4! E4 G4 C5 E5 G4 C5 E5 ' * 2
          + '| '
          + 'C4! E4 A4 E5 A5 A4 E5 A5 ' * 2
        ),
        level_db=-5,
        pan=-0.3,
        gate=0.7,
        reverb=0.35,
        chorus=0.4,
      ),
      Part(
        'harpsichord',
        Melody(
          'C5:1/4! E5 G5 C6 E6 G5 C6 E6 ' * 2
          + '| '
          + 'C5! D5 A5 D6 F6 A5 D6 F6 ' * 2
          + '| '
          + 'B4! D5 G5 D6 F6 G5 D6 F6 ' * 2
          + '| '
          + 'C5! E5 G5 C6 E6 G5 C6 E6 ' * 2
          + '| '
          + 'C5! E5 A5 E6 A6 A5 E6 A6 ' * 2
        ),
        level_db=-10,
        pan=0.5,
        reverb=0.4,
      ),
      Part(
        'warm_pad',
        Chords(_PRELUDE, 'x' + '-' * 15, low=55),
        level_db=-8,
        reverb=0.5,
        chorus=0.5,
      ),
      Part(
        'synth_strings',
        Chords(_PRELUDE, '..x-..x-..x-..x-', low=64),
        level_db=-9,
        pan=0.2,
        reverb=0.3,
      ),
    ),
  ),
)

_TEST = (
  Piece(
    name='canon_rock',
    split='test',
    style='rock',
    title='Canon in D (Pachelbel)',
    bpm=112,
    n_bars=4,
    parts=(
      Part(
        'room_kit',
        Drums(
          {
            'kick': 'x......xx.x.....',
            'snare': '....X.......X...',
            'hat': 'x.x.x.x.x.x.x.x.',
            'crash': 'X' + '.' * 31,
          }
        ),
        velocity=94,
      ),
      Part(
        'finger_bass',
        Chords(_CANON, '1-1.1-2-', low=33),
        level_db=-3,
        reverb=0.05,
      ),
      Part(
        'distortion_guitar',
        Chords('D5:2 A5 B5 F#5 G5 D5 G5 A5', 'X-----x-', low=42),
        level_db=-7,
        pan=-0.7,
        strum_ms=5,
      ),
      Part(
        'clean_guitar',
        Chords(_CANON, '1.2.3.4.', low=50),
        level_db=-8,
        pan=0.7,
        gate=2.0,
        chorus=0.4,
      ),
      Part(
        'overdriven_guitar',
        Melody(_CANON_THEME),
        level_db=-3,
        reverb=0.4,
        chorus=0.15,
      ),
      Part(
        'strings',
        Melody('F#5:2 E5 | D5 C#5 | B4 A4 | B4 C#5'),
        level_db=-8,
        pan=0.25,
        reverb=0.5,
      ),
    ),
  ),
  Piece(
    name='swan_lake_hip_hop',
    split='test',
    style='hip_hop',
    title='Swan Lake, scene of act II (Tchaikovsky)',
    bpm=90,
    n_bars=4,
    swing=0.57,
    swing_span_beats=_QUAVER,
    parts=(
      Part(
        'tr808_kit',
        Drums(
          {
            'kick': 'X..x....x.x.....|X..x...x..x..x..',
            'snare': '....X.......X..o',
            'clap': '....x.......x...',
            'hat': 'xoxoxoxoxoxoxoxx',
            'tambourine': '....x.......x...',
          }
        ),
        velocity=98,
      ),
      Part(
        'synth_bass',
        Chords('Bm:4 G Em Bm', '1--1....1-3-..1.', low=28),
        level_db=-2,
        reverb=0.0,
      ),
      Part('oboe', Melody(_SWAN_LAKE_THEME), level_db=-4, reverb=0.5),
      Part(
        'strings',
        Melody(_SWAN_LAKE_THEME, transpose=-12),
        level_db=-8,
        pan=-0.3,
        reverb=0.4,
      ),
      Part(
        'tremolo_strings',
        Chords(_SWAN_LAKE, 'x' + '-' * 15, low=59),
        level_db=-11,
        pan=0.3,
        reverb=0.4,
      ),
      Part(
        'harp',
        Chords(_SWAN_LAKE, '1.2.3.4.5.6.5.4.', low=54),
        level_db=-8,
        pan=0.55,
        gate=2.0,
        reverb=0.4,
      ),
      Part(
        'rhodes',
        Chords(_SWAN_LAKE, '..x-..x-....x---', low=55),
        level_db=-9,
        pan=-0.5,
        chorus=0.4,
      ),
    ),
  ),
  Piece(
    name='cancan_disco',
    split='test',
    style='disco',
    title='Galop infernal (Offenbach)',
    bpm=132,
    n_bars=10,
    beats_per_bar=2,
    parts=(
      Part(
        'power_kit',
        Drums(
          {
            'kick': 'x...',
            'snare': '....X...|....X..o',
            'hat': 'xo.o',
            'open_hat': '..x.',
            'crash': 'X' + '.' * 63,
            'cowbell': 'x.x.x.xx',
          }
        ),
        velocity=94,
      ),
      Part(
        'slap_bass',
        Chords('D:2 A D D A A D A D A', '1.4.1.4.', low=33),
        level_db=-2,
        reverb=0.03,
      ),
      Part(
        'brass',
        Melody(_CANCAN_THEME),
        level_db=-3,
        pan=0.1,
        reverb=0.35,
        velocity=98,
      ),
      Part(
        'synth_strings',
        Melody(_CANCAN_THEME, transpose=-12),
        level_db=-8,
        pan=-0.3,
        chorus=0.4,
      ),
      Part(
        'piccolo',
        Melody(_CANCAN_THEME, transpose=12),
        level_db=-13,
        pan=0.35,
        reverb=0.4,
      ),
      Part(
        'muted_guitar',
        Chords(_CANCAN, 'xoxxxoxx', low=57),
        level_db=-8,
        pan=0.65,
        gate=0.5,
      ),
      Part(
        'dx_piano',
        Chords(_CANCAN, '..x...x.', low=60),
        level_db=-8,
        pan=-0.6,
      ),
    ),
  ),
  Piece(
    name='spring',
    split='test',
    style='orchestral',
    title='Spring, RV 269 (Vivaldi)',
    bpm=100,
    n_bars=4,
    word_bits=14,
    pickup_beats=Fraction(1, 2),
    parts=(
      Part(
        'strings',
        Melody(
          f'E5:1/2 | {_SPRING_BAR} | {_SPRING_BAR} | G#5:1/2 A5:1/4 B5 '
          f'A5:1/2 G#5 F#5:3/2 E5:1/2 | {_SPRING_BAR}'
        ),
        pan=-0.5,
        reverb=0.4,
        velocity=100,
      ),
      Part(
        'strings',
        Melody(
          f'B4:1/2 | {_SPRING_BAR_SECOND} | {_SPRING_BAR_SECOND} | E5:1/2 '
          f'F#5:1/4 G#5 F#5:1/2 E5 D#5:3/2 B4:1/2 | {_SPRING_BAR_SECOND}'
        ),
        level_db=-4,
        pan=0.4,
        reverb=0.4,
        velocity=96,
      ),
      Part(
        'strings',
        Chords('E:10 B:2 E:4', 'x.x.x.x.', low=54),
        level_db=-8,
        pan=0.15,
        reverb=0.4,
        gate=1.4,
      ),
      Part(
        'contrabass',
        Chords('E:10 B:2 E:4', '1.1.1.1.', low=35),
        level_db=-4,
        pan=0.3,
        reverb=0.35,
        gate=1.5,
        velocity=98,
      ),
      Part(
        'harpsichord',
        Chords('E:10 B:2 E:4', 'x.1.x.2.x.3.x.4.', low=57),
        level_db=-7,
        pan=-0.15,
        strum_ms=8,
        reverb=0.3,
      ),
    ),
  ),
  Piece(
    name='alla_turca',
    split='test',
    style='piano',
    title='Rondo alla turca (Mozart)',
    bpm=126,
    n_bars=9,
    word_bits=14,
    beats_per_bar=2,
    pickup_beats=Fraction(1),
    parts=(
      Part(
        'bright_piano',
        Melody(_ALLA_TURCA_RIGHT),
        reverb=0.3,
        velocity=90,
        gate=0.85,
      ),
      Part(
        'bright_piano',
        Melody(_ALLA_TURCA_LEFT),
        level_db=-4,
        reverb=0.3,
        velocity=76,
        gate=0.8,
      ),
    ),
  ),
)

PIECES = _TRAIN + _VALID + _TEST
