"""Speech to try gates on: voices by formant synthesis, from a seed.

A pulse train for the glottis, noise for breath and friction, and resonators for
the vocal tract, whose settings move from sound to sound (Klatt, "Software for a
Cascade/Parallel Formant Synthesizer", J. Acoust. Soc. Am. 67, 1980). What is
said means nothing; level, pitch, pauses and spectra are those of speech.
"""

import dataclasses
import zlib

import numpy as np
import scipy.signal

SAMPLE_RATE = 44100
_FRAME = 220  # samples, 5 ms
_FRAME_S = _FRAME / SAMPLE_RATE

# Voiced sounds: level in dB, formants in Hz of a man's vocal tract (vowels as
# Peterson and Barney, J. Acoust. Soc. Am. 24, 1952), length in s.
_VOICED = {
  'i': (0, (270, 2290, 3010), 0.09),
  'e': (0, (530, 1840, 2480), 0.10),
  'a': (0, (730, 1090, 2440), 0.12),
  'o': (0, (570, 840, 2410), 0.11),
  'u': (0, (300, 870, 2240), 0.09),
  'er': (0, (490, 1350, 1690), 0.10),
  'l': (-6, (360, 1300, 2700), 0.06),
  'r': (-6, (420, 1300, 1600), 0.06),
  'w': (-6, (300, 700, 2200), 0.06),
  'm': (-9, (250, 1100, 2200), 0.07),
  'n': (-9, (250, 1500, 2500), 0.06),
}
_VOWELS = ('i', 'e', 'a', 'o', 'u', 'er')
# Sounds with friction: its level in dB, centre and bandwidth in Hz, length of
# the closure before and of the noise in s, level of the voice in dB.
_NOISY = {
  's': (-14, 6500, 2500, 0.0, 0.10, -60),
  'sh': (-14, 3500, 1800, 0.0, 0.10, -60),
  'f': (-26, 5000, 6000, 0.0, 0.09, -60),
  'z': (-20, 6000, 2500, 0.0, 0.07, -10),
  'v': (-30, 4000, 5000, 0.0, 0.06, -8),
  'h': (-28, 1500, 2000, 0.0, 0.06, -60),
  'p': (-24, 900, 1200, 0.06, 0.015, -60),
  't': (-18, 4500, 2500, 0.05, 0.02, -60),
  'k': (-20, 2000, 1000, 0.05, 0.025, -60),
  'b': (-28, 800, 1000, 0.04, 0.01, -22),
  'd': (-24, 4000, 2500, 0.04, 0.01, -22),
  'g': (-24, 1800, 1000, 0.04, 0.015, -22),
}
_ONSETS = (*_NOISY, 'l', 'r', 'w', 'm', 'n')
_CODAS = ('', '', '', 'n', 'l', 's', 't', 'm', 'k')


@dataclasses.dataclass(frozen=True)
class Voice:
  """A speaker.

  Attributes:
    f0_hz: Mean pitch.
    tract: Formants relative to the table's: shorter tracts have higher ones.
    breathiness_db: Level of noise in the voice.
    open_quotient: Part of a period that the glottis is open.
    rate: Speed relative to the table's.
  """

  f0_hz: float
  tract: float
  breathiness_db: float
  open_quotient: float
  rate: float


def voice_of(speaker: str) -> Voice:
  """Returns the voice of a speaker, f1, f2, ... or m1, m2, ...

  Raises:
    ValueError: Another name.
  """
  if speaker[:1] not in ('f', 'm') or not speaker[1:].isdigit():
    raise ValueError(f'speaker={speaker!r} must be f or m and a number.')
  rng = np.random.default_rng(zlib.crc32(speaker.encode()))
  is_female = speaker[0] == 'f'
  return Voice(
    f0_hz=rng.uniform(170, 230) if is_female else rng.uniform(90, 135),
    tract=rng.uniform(1.1, 1.2) if is_female else rng.uniform(0.94, 1.04),
    breathiness_db=rng.uniform(-34, -26),
    open_quotient=rng.uniform(0.5, 0.7),
    rate=rng.uniform(0.9, 1.15),
  )


def _resonators(centres_hz, bandwidths_hz):
  """Two-pole resonators of gain 1 at 0 Hz, as second-order sections."""
  r = np.exp(-np.pi * np.asarray(bandwidths_hz) / SAMPLE_RATE)
  a1 = -2 * r * np.cos(2 * np.pi * np.asarray(centres_hz) / SAMPLE_RATE)
  sos = np.zeros([len(r), 6])
  sos[:, 3], sos[:, 4], sos[:, 5] = 1.0, a1, r * r
  sos[:, 0] = 1.0 + a1 + r * r
  return sos


def _filter_moving(audio, sections):
  """Filters frame by frame; sections [n_frames, n_sections, 6]."""
  out = np.empty_like(audio)
  state = np.zeros([sections.shape[1], 2])
  for i, sos in enumerate(sections):
    part = slice(i * _FRAME, (i + 1) * _FRAME)
    out[part], state = scipy.signal.sosfilt(sos, audio[part], zi=state)
  return out


def _phrase_frames(rng, voice):
  """Returns tracks of one phrase: [n_frames, ...] by name."""
  rows = []

  def add(seconds, voiced_db, formants, noise=(-90, 3000, 3000)):
    n_frames = max(1, round(seconds / voice.rate / _FRAME_S))
    rows.extend([(voiced_db, *formants, *noise)] * n_frames)

  for _ in range(rng.integers(2, 6)):  # words
    stress = rng.uniform(-4, 0)
    for _ in range(rng.integers(1, 4)):  # syllables
      vowel = _VOICED[rng.choice(_VOWELS)]
      for sound in (rng.choice(_ONSETS), vowel, rng.choice(_CODAS)):
        if isinstance(sound, tuple):
          level_db, formants, seconds = sound
          add(seconds * rng.uniform(0.8, 1.4), level_db + stress, formants)
        elif sound in _VOICED:
          level_db, formants, seconds = _VOICED[sound]
          add(seconds, level_db + stress, formants)
        elif sound:
          level_db, centre, width, closure, seconds, voiced_db = _NOISY[sound]
          formants = vowel[1]
          if closure:
            add(closure, voiced_db, formants)
          add(seconds, voiced_db, formants, (level_db + stress, centre, width))
    add(rng.uniform(0.01, 0.05), -60, (500, 1500, 2500))
  return np.array(rows, float)


def _smooth(track, n_frames):
  padded = np.pad(track, (n_frames // 2, n_frames // 2), mode='edge')
  return np.convolve(padded, np.ones(n_frames) / n_frames, mode='valid')


def say_phrase(voice: Voice, rng: np.random.Generator) -> np.ndarray:
  """Says two to five words that mean nothing.

  Args:
    voice: Who.
    rng: Draws sounds, stress and melody.

  Returns:
    Shape [n_samples], at 44.1 kHz; the loudest vowels have an RMS near 0.1.
  """
  frames = _phrase_frames(rng, voice)
  n_frames = len(frames)
  n_samples = n_frames * _FRAME
  voiced = 10 ** (_smooth(frames[:, 0], 5) / 20)
  formants = np.stack([_smooth(frames[:, k], 9) for k in (1, 2, 3)], axis=1)
  noise = 10 ** (_smooth(frames[:, 4], 3) / 20)

  def per_sample(track):
    return np.interp(
      np.arange(n_samples), (np.arange(n_frames) + 0.5) * _FRAME, track
    )

  # Pitch falls along the phrase, with accents on it.
  place = np.linspace(0.0, 1.0, n_frames)
  melody = 1.12 - 0.25 * place
  for _ in range(3):
    melody += 0.12 * np.exp(-(((place - rng.random()) / 0.06) ** 2))
  jitter = _smooth(rng.standard_normal(n_frames), 5)
  f0_hz = voice.f0_hz * melody * (1 + 0.01 * jitter)
  phase = np.cumsum(per_sample(f0_hz) / SAMPLE_RATE) % 1.0
  opening = np.clip(phase / voice.open_quotient, 0.0, 1.0)
  flow = opening**2 * (1 - opening)  # Rosenberg's polynomial pulse
  pulses = np.diff(flow, prepend=0.0) / (voice.f0_hz / SAMPLE_RATE)
  breath = rng.standard_normal(n_samples)
  source = pulses + 10 ** (voice.breathiness_db / 20) * breath
  source *= per_sample(voiced)

  tract = np.concatenate(
    [formants, np.full([n_frames, 2], [3500.0, 4500.0])], axis=1
  )
  bandwidths = np.array([70.0, 90.0, 140.0, 200.0, 260.0])
  sections = np.stack([_resonators(f, bandwidths) for f in tract * voice.tract])
  audio = _filter_moving(source, sections)
  friction = np.stack(
    [_resonators([c, c], [w, w]) for c, w in frames[:, 5:] * [voice.tract, 1]]
  )
  # Of gain 1 at the centre, in place of at 0 Hz.
  friction[:, :, 0] *= (frames[:, 6] / frames[:, 5])[:, None]
  friction[:, :, 2] = -friction[:, :, 0]
  hiss = _filter_moving(rng.standard_normal(n_samples), friction)
  return 0.1 * (audio + hiss * per_sample(noise))


def breathe(seconds: float, voice: Voice, rng: np.random.Generator):
  """Draws a breath in: noise through the open vocal tract.

  Args:
    seconds: How long.
    voice: Who.
    rng: Draws the noise and how it swells.

  Returns:
    Shape [n_samples], of RMS 1, at 44.1 kHz.
  """
  n_samples = int(seconds * SAMPLE_RATE)
  noise = rng.standard_normal(n_samples)
  centres = np.array([600.0, 1500.0, 2600.0, 4200.0]) * voice.tract
  sos = [
    scipy.signal.butter(
      1, [0.7 * f, 1.4 * f], 'bandpass', fs=SAMPLE_RATE, output='sos'
    )
    for f in centres
  ]
  gains = 10 ** (rng.uniform(-9, 0, len(sos)) / 20)
  audio = sum(g * scipy.signal.sosfilt(s, noise) for g, s in zip(gains, sos))
  place = np.linspace(0, 1, n_samples)
  peak = rng.uniform(0.5, 0.8)
  envelope = np.minimum(place / peak, (1 - place) / (1 - peak)) ** 1.2
  audio = audio * envelope
  return audio / (audio.std() + 1e-12)


def pop(seconds: float, rng: np.random.Generator) -> np.ndarray:
  """Blows at the microphone: a damped thump.

  Args:
    seconds: How long.
    rng: Draws its pitch and its noise.

  Returns:
    Shape [n_samples], peak 1, at 44.1 kHz.
  """
  t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
  f_hz = rng.uniform(90.0, 220.0) * (1 - 0.4 * t / seconds)
  thump = np.sin(2 * np.pi * np.cumsum(f_hz) / SAMPLE_RATE)
  sos = scipy.signal.butter(2, 900.0, fs=SAMPLE_RATE, output='sos')
  wind = scipy.signal.sosfilt(sos, rng.standard_normal(len(t)))
  audio = (thump + wind) * np.exp(-4.0 * t / seconds)
  audio *= np.minimum(t / 0.003, 1.0) * np.minimum((seconds - t) / 0.01, 1.0)
  return audio / np.abs(audio).max()
