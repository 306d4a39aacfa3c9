"""How near a trained instrument comes to notes that it never heard.

    python benchmarks/played_instrument.py --save_dir=~/dafx/violin

The run is one of `solo_instrument_demo.gin` or its like at 16 kHz. It plays the
records of the test split by their own pitch and loudness. Beside it stands a
synthesiser that plays the mean spectrum of the training set at that pitch and
loudness, without noise and reverb. Printed are MR-STFT of both, and how far the
pitch and the loudness of what was played are off.
"""

import numpy as np
import results
from absl import app, flags

from dafx import metrics, pitch, synths
from dafx.training import data, inference

FLAGS = flags.FLAGS
flags.DEFINE_string('save_dir', '~/dafx/violin', 'The run.')
flags.DEFINE_string('data_path', '~/dafx/data/solo', 'Its records.')
flags.DEFINE_integer('most', 40, 'Records of each split that are looked at.')

SAMPLE_RATE, FRAME_RATE = 16000, 250
HOP_SIZE = SAMPLE_RATE // FRAME_RATE
N_PARTIALS = 40
SIZE = 2048  # samples of a spectrum


def curves_of(batch):
  """Returns audio, pitch, whether frames are voiced, and loudness, [n] each."""
  keys = ('f0_hz', 'f0_confidence', 'loudness_db')
  f0_hz, confidence, loudness_db = (batch[key][0, :, 0].numpy() for key in keys)
  return batch['audio'][0].numpy(), f0_hz, confidence >= 0.5, loudness_db


def partials_at(audio, f0_hz):
  """Returns magnitudes of partials, [n_frames, N_PARTIALS]."""
  padded = np.pad(audio, SIZE // 2)
  frames = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[::HOP_SIZE]
  spectra = np.abs(np.fft.rfft(frames[: len(f0_hz)] * np.hanning(SIZE)))
  hz = f0_hz[:, np.newaxis] * np.arange(1, N_PARTIALS + 1)
  bins = np.minimum(np.round(hz * SIZE / SAMPLE_RATE).astype(int), SIZE // 2)
  return np.take_along_axis(spectra, bins, axis=1) * (hz < SAMPLE_RATE / 2)


def mean_spectrum(batches):
  """Returns the mean share of each partial in notes, [N_PARTIALS]."""
  rows = []
  for batch in batches:
    audio, f0_hz, voiced, _ = curves_of(batch)
    found = partials_at(audio, f0_hz)[voiced]
    rows.append(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-9))
  return np.concatenate(rows).mean(axis=0)


def play_spectrum(shares, f0_hz, voiced, loudness_db):
  """Plays a fixed spectrum at a pitch and loudness, [n_samples]."""
  synth = synths.StreamingHarmonic(HOP_SIZE, SAMPLE_RATE, scale_fn=None)
  f0 = f0_hz[np.newaxis, :, np.newaxis]
  distribution = np.tile(shares, [1, len(f0_hz), 1]).astype(np.float32)
  gain_db = np.zeros(len(f0_hz))

  def play():
    gain = np.where(voiced, 10.0 ** (gain_db / 20.0), 0.0).astype(np.float32)
    return synth(gain[np.newaxis, :, np.newaxis], distribution, f0)[0].numpy()

  for _ in range(2):  # the second time, what windows smear is set right
    found = pitch.loudness_db(play(), SAMPLE_RATE, FRAME_RATE)
    gain_db = gain_db + np.where(voiced, loudness_db - found, 0.0)
  return play()


def measure(model, shares, batch):
  """Returns (MR-STFT of a model and of the spectrum, dB), cents [n]."""
  audio, f0_hz, voiced, loudness_db = curves_of(batch)
  played = model(batch)['audio_synth'][0].numpy()
  plain = play_spectrum(shares, f0_hz, voiced, loudness_db)
  own_hz, confidence = pitch.estimate(played, SAMPLE_RATE, FRAME_RATE)
  own_db = pitch.loudness_db(played, SAMPLE_RATE, FRAME_RATE)
  both = voiced & (confidence >= pitch.VOICED)
  cents = 1200.0 * np.log2(own_hz[both] / f0_hz[both])
  figures = (
    metrics.mr_stft(audio, played),
    metrics.mr_stft(audio, plain),
    np.mean(np.abs(own_db - loudness_db)[voiced]),
  )
  return figures, np.abs(cents)


def main(argv):
  """Prints the figures."""
  del argv
  model = inference.load_model(FLAGS.save_dir)

  def batches(split):
    provider = data.InstrumentProvider(FLAGS.data_path, split)
    return provider.get_batch(1, shuffle=False, repeats=1).take(FLAGS.most)

  shares = mean_spectrum(batches('train'))
  rows = [measure(model, shares, batch) for batch in batches('test')]
  ours, plain, db = np.mean([figures for figures, _ in rows], axis=0)
  cents = np.median(np.concatenate([cents for _, cents in rows]))
  print(f'{len(rows)} records of test')
  print(f'MR-STFT {ours:.3f}; of a mean spectrum {plain:.3f}', end='')
  print(f': {100.0 * (1.0 - ours / plain):.0f} % lower')
  print(f'pitch {cents:.1f} cents off, loudness {db:.2f} dB')
  columns = ('MR-STFT', 'MR-STFT of a mean spectrum', 'Cents', 'Loudness, dB')
  row = [float(value) for value in (ours, plain, cents, db)]
  results.keep(dict(zip(columns, row)))
  results.write('played_instrument', columns, [row])


if __name__ == '__main__':
  app.run(main)
