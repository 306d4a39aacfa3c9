"""An electric guitar to try distortion on: plucked strings, from a seed.

Strings after Jaffe and Smith, "Extensions of the Karplus-Strong Plucked-String
Algorithm", Computer Music Journal 7 (1983): a burst of noise goes round a delay
line that damps it; where the string is plucked and where the pickup lies are
comb filters.
"""

import numpy as np
import scipy.signal

SAMPLE_RATE = 44100
STYLES = ('strum', 'power', 'arpeggio', 'lead')

_OPEN_STRINGS = (40, 45, 50, 55, 59, 64)  # MIDI notes: E A D G B E
# Frets of open chords, from the low E string; None is not played.
_CHORDS = {
  'E': (0, 2, 2, 1, 0, 0),
  'Am': (None, 0, 2, 2, 1, 0),
  'A': (None, 0, 2, 2, 2, 0),
  'C': (None, 3, 2, 0, 1, 0),
  'D': (None, None, 0, 2, 3, 2),
  'Em': (0, 2, 2, 0, 0, 0),
  'G': (3, 2, 0, 0, 0, 3),
  'F': (1, 3, 3, 2, 1, 1),
}
_PENTATONIC = (0, 3, 5, 7, 10)


def pluck(
  f0_hz: float, seconds: float, velocity: float, rng: np.random.Generator
) -> np.ndarray:
  """Plays one note.

  Args:
    f0_hz: Its pitch.
    seconds: How long it sounds; it is damped over the last 20 ms.
    velocity: How hard it is plucked, in (0, 1]: louder and brighter.
    rng: Draws the burst.

  Returns:
    Shape [n_samples], at 44.1 kHz.
  """
  n_samples = int(seconds * SAMPLE_RATE)
  damping = 0.3
  delay = SAMPLE_RATE / f0_hz - damping
  length = int(delay) - 1
  fraction = delay - length - 1
  taps = np.convolve([1 - damping, damping], [1 - fraction, fraction])
  taps *= 0.5 ** (1.0 / (f0_hz * 1.2))  # half as loud after 1.2 s
  burst = rng.uniform(-1.0, 1.0, length + 1)
  softness = 0.9 - 0.75 * velocity
  burst = scipy.signal.lfilter([1 - softness], [1, -softness], burst)
  burst -= burst.mean()
  # Delay of length + 1 to length + 3 samples: blocks of length + 1 at once.
  block = length + 1
  string = np.zeros(2 + block * (n_samples // block + 2))
  string[2 : 2 + block] = burst
  for start in range(2 + block, len(string), block):
    before = string[start - block - 2 : start]
    string[start : start + block] = (
      taps[0] * before[2:] + taps[1] * before[1:-1] + taps[2] * before[:-2]
    )
  string = string[2 : 2 + n_samples]
  for place in (0.13, 0.22):  # pick and pickup, as parts of the string
    lag = max(int(place * block), 1)
    string = string - np.concatenate([np.zeros(lag), string])[:n_samples]
  fade = min(int(0.02 * SAMPLE_RATE), n_samples)
  string[n_samples - fade :] *= np.linspace(1.0, 0.0, fade)
  return velocity * string


def _notes(style, seconds, rng):
  """Yields (onset in s, MIDI note, length in s, velocity)."""
  beat = 60.0 / rng.uniform(80.0, 140.0)
  names = rng.choice(list(_CHORDS), 4, replace=False)
  root = int(rng.integers(40, 50))
  onset, step = 0.05, 0
  while onset < seconds - 0.1:
    chord = _CHORDS[names[(step // 8) % 4]]
    strings = [
      base + fret
      for base, fret in zip(_OPEN_STRINGS, chord, strict=True)
      if fret is not None
    ]
    accent = rng.uniform(0.7, 1.0) if step % 4 == 0 else rng.uniform(0.15, 0.8)
    if style == 'strum':
      if step % 2 == 0 or rng.random() < 0.6:
        order = strings if step % 2 == 0 else strings[::-1][:4]
        for i, note in enumerate(order):
          yield onset + 0.012 * i, note, 1.5 * beat, accent
    elif style == 'power':
      muted = rng.random() < 0.5
      low = root + (0, 0, 3, 5)[(step // 8) % 4]
      for note in (low, low + 7, low + 12):
        yield onset, note, 0.09 if muted else 0.9 * beat, accent
    elif style == 'arpeggio':
      yield onset, strings[step % len(strings)], 2 * beat, accent
    elif rng.random() < 0.75:
      octave, degree = divmod(int(rng.integers(0, 11)), 5)
      note = root + 12 + 12 * octave + _PENTATONIC[degree]
      yield onset, note, rng.choice([0.5, 1.0, 2.0]) * beat, accent
    onset += beat / 2
    step += 1


def riff(style: str, seconds: float, seed) -> np.ndarray:
  """Plays a few bars.

  Args:
    style: One of `STYLES`.
    seconds: How long.
    seed: Of tempo, harmony, notes and touch.

  Returns:
    Shape [n_samples], at 44.1 kHz, peak 1.

  Raises:
    ValueError: No such style.
  """
  if style not in STYLES:
    raise ValueError(f'style={style!r} must be one of {STYLES}.')
  rng = np.random.default_rng(seed)
  audio = np.zeros(int(seconds * SAMPLE_RATE))
  for onset, note, length, velocity in _notes(style, seconds, rng):
    start = int(onset * SAMPLE_RATE)
    length = min(length, seconds - onset)
    if length < 0.03:
      continue
    sound = pluck(440.0 * 2 ** ((note - 69) / 12), length, velocity, rng)
    audio[start : start + len(sound)] += sound[: len(audio) - start]
  # The pickup's resonance, and no more above it.
  sos = scipy.signal.butter(2, 5000.0, fs=SAMPLE_RATE, output='sos')
  audio = scipy.signal.sosfilt(sos, audio)
  audio -= audio.mean()
  return audio / np.abs(audio).max()
