"""How well pitch is tracked, and how fast, by each tracker.

    python benchmarks/instruments.py --trackers=swift_f0,crepe_tiny,pyin

Lines whose pitch is exact by construction: partials of four timbres, with
vibrato, glides and noise. With FluidSynth and the font FluidR3 also 16 notes of
four of its instruments; of each note, the mean detuning of its sample is
measured beforehand by its partials, and taken out. Its violin has vibrato of
its own, which counts as an error.

A line shows the median error in cents of voiced frames, the share of frames of
notes that are voiced and within 50 cents, and CPU seconds per minute of audio.
"""

import os
import pathlib
import subprocess
import tempfile
import time

import librosa
import mido
import numpy as np
import results
import scipy.signal
import soundfile
from absl import app, flags

from dafx import pitch

FLAGS = flags.FLAGS
flags.DEFINE_list('trackers', ['swift_f0', 'crepe_tiny', 'pyin'], 'Trackers.')
flags.DEFINE_bool('check', True, 'Correct octaves and cents by the partials.')

SAMPLE_RATE, FRAME_RATE = 16000, 250
SOUND_FONT = '/usr/share/sounds/sf2/FluidR3_GM.sf2'
# Amplitudes of partials, and the lowest note.
TIMBRES = {
  'saw': ([1 / k for k in range(1, 20)], 48),
  'clarinet': ([1 / k if k % 2 else 0.05 / k for k in range(1, 20)], 50),
  'flute': ([1, 0.6, 0.1, 0.05, 0.02], 60),
  'brass': ([0.5, 0.9, 1, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1, 0.05], 46),
}
# Program of General MIDI, lowest and highest note.
INSTRUMENTS = {
  'violin': (40, 55, 83),
  'flute': (73, 60, 88),
  'trumpet': (56, 58, 81),
  'cello': (42, 36, 60),
}
NOTE_S, GAP_S, N_NOTES = 0.45, 0.05, 16
EDGE_S = 0.08  # of a note, at both ends, is not counted


def additive_line(amplitudes, lowest, seed=0):
  """Returns (audio, f0 in Hz by sample) of notes with vibrato and glides."""
  rng = np.random.default_rng(seed)
  times = np.arange(int((NOTE_S + GAP_S) * SAMPLE_RATE)) / SAMPLE_RATE
  f0, gain = [], []
  for note in lowest + rng.integers(0, 29, N_NOTES):
    vibrato = 0.3 * np.sin(2 * np.pi * 5.5 * times) * np.clip(times / 0.2, 0, 1)
    bend = rng.choice([0.0, 0.0, 2.0]) * np.clip((times - 0.15) / 0.2, 0, 1)
    f0.append(librosa.midi_to_hz(note + vibrato + bend))
    edges = np.minimum(times / 0.02, (NOTE_S - times) / 0.04)
    gain.append(np.clip(edges, 0, 1) * 10.0 ** (-rng.uniform(0, 12) / 20))
  f0, gain = np.concatenate(f0), np.concatenate(gain)
  phase = 2.0 * np.pi * np.cumsum(f0) / SAMPLE_RATE
  sound = sum(
    a * np.sin(k * phase + k) * (k * f0 < 0.47 * SAMPLE_RATE)
    for k, a in enumerate(amplitudes, start=1)
  )
  noise = rng.normal(size=len(f0))
  return (0.1 * gain * sound + 1e-3 * noise).astype(np.float32), f0


def play(program, notes, note_s, gap_s):
  """Returns what FluidSynth plays, without reverb and chorus, [n_samples]."""
  track = mido.MidiTrack([mido.MetaMessage('set_tempo', tempo=1_000_000)])
  track.append(mido.Message('program_change', program=program))
  wait = 0
  for note in notes:
    track.append(mido.Message('note_on', note=note, velocity=90, time=wait))
    ticks = round(1000 * note_s)
    track.append(mido.Message('note_off', note=note, time=ticks))
    wait = round(1000 * gap_s)
  track.append(mido.MetaMessage('end_of_track', time=1000))
  with tempfile.TemporaryDirectory() as folder:
    midi, audio = (os.path.join(folder, name) for name in ('a.mid', 'a.wav'))
    mido.MidiFile(ticks_per_beat=1000, tracks=[track]).save(midi)
    command = ['fluidsynth', '-q', '-ni', '-R', '0', '-C', '0', '-g', '0.5']
    command += ['-r', str(SAMPLE_RATE), '-F', audio, SOUND_FONT, midi]
    subprocess.run(command, check=True, capture_output=True)
    return soundfile.read(audio)[0].mean(axis=1).astype(np.float32)


def detuning_cents(audio, note_hz):
  """Returns where the partials of a note lie in its mean, in cents from it.

  How often each turns is counted, between the edges of the note. Peaks of the
  spectrum would not do: those of vibrato lie at the ends of the swing.
  """
  edge = int(EDGE_S * SAMPLE_RATE)
  hz, weights = [], []
  for k in range(1, 9):
    band_hz = (k - 0.4) * note_hz, (k + 0.4) * note_hz
    if band_hz[1] < 0.47 * SAMPLE_RATE:
      band = scipy.signal.butter(
        2, band_hz, 'bandpass', fs=SAMPLE_RATE, output='sos'
      )
      partial = scipy.signal.hilbert(scipy.signal.sosfiltfilt(band, audio))
      turns = np.unwrap(np.angle(partial[edge:-edge])) / (2.0 * np.pi)
      hz.append((turns[-1] - turns[0]) / (len(turns) - 1) * SAMPLE_RATE / k)
      weights.append(k**2 * np.mean(np.abs(partial[edge:-edge]) ** 2))
  return 1200.0 * np.log2(np.average(hz, weights=weights) / note_hz)


def font_line(program, lowest, highest):
  """Returns (audio, f0 in Hz by sample) of an instrument of the font."""
  notes = np.round(np.linspace(lowest, highest, N_NOTES)).astype(int)
  notes = np.random.default_rng(1).permutation(notes)
  audio = play(program, notes, NOTE_S, GAP_S)
  step = int((NOTE_S + GAP_S) * SAMPLE_RATE)
  length = int(NOTE_S * SAMPLE_RATE)
  f0 = []
  for i, hz in enumerate(librosa.midi_to_hz(notes)):
    cents = detuning_cents(audio[i * step : i * step + length], hz)
    f0.append(np.full(step, hz * 2.0 ** (cents / 1200.0)))
  return audio[: N_NOTES * step], np.concatenate(f0)


def lines():
  """Yields (name, audio, f0 in Hz by sample)."""
  for name, (amplitudes, lowest) in TIMBRES.items():
    yield f'exact {name}', *additive_line(amplitudes, lowest)
  if pathlib.Path(SOUND_FONT).exists():
    for name, (program, lowest, highest) in INSTRUMENTS.items():
      yield f'FluidR3 {name}', *font_line(program, lowest, highest)


def main(argv):
  """Prints a line for each tracker and line of notes."""
  del argv
  print(
    f'{"tracker":12s}{"line":18s}{"median":>8s}{"within 50":>11s}{"s/min":>8s}'
  )
  rows = []
  for tracker in FLAGS.trackers:
    # Loads what the tracker needs.
    pitch.estimate(np.zeros(SAMPLE_RATE), SAMPLE_RATE, FRAME_RATE, tracker)
    for name, audio, true_hz in lines():
      start = time.process_time()
      f0, confidence = pitch.estimate(
        audio, SAMPLE_RATE, FRAME_RATE, tracker, is_checked=FLAGS.check
      )
      seconds = time.process_time() - start
      samples = np.arange(len(f0)) * SAMPLE_RATE // FRAME_RATE
      since_s = samples / SAMPLE_RATE % (NOTE_S + GAP_S)
      counts = (since_s > EDGE_S) & (since_s < NOTE_S - EDGE_S)
      voiced = confidence >= pitch.VOICED
      cents = np.full(len(f0), np.inf)
      cents[voiced] = np.abs(
        1200.0 * np.log2(f0[voiced] / true_hz[samples][voiced])
      )
      median_cents = np.median(cents[counts & voiced])
      within = 100.0 * np.mean(cents[counts] < 50.0)
      cost = 60.0 * seconds * SAMPLE_RATE / len(audio)
      print(
        f'{tracker:12s}{name:18s}{median_cents:8.1f}{within:10.1f}%{cost:8.1f}',
        flush=True,
      )
      rows.append([tracker, name, median_cents, within, cost])
  results.write(
    'instruments',
    [
      'Tracker',
      'Line',
      'Median error in cents',
      'Frames within 50 cents, %',
      'CPU seconds per minute of audio',
    ],
    rows,
    decimals=1,
  )
  results.keep(rows)


if __name__ == '__main__':
  app.run(main)
