"""What a training closes with: figures, words, plots and audio."""

import re

import gin
import numpy as np
import pytest

from dafx import losses, neural, processors
from dafx.audio import files as audio_files
from dafx.training import data, models, trainers
from dafx.training.evaluation import conclusion, tables

RATE = 16000
pytestmark = pytest.mark.usefixtures('fresh_gin')


@pytest.fixture(name='recording')
def make_recording(tmp_path):
  """Writes a recording; returns providers of its parts by split."""
  rng = np.random.default_rng(0)
  dry = 0.1 * rng.standard_normal([RATE * 2, 1])
  for name, audio in (('dry', dry), ('wet', np.tanh(3.0 * dry))):
    audio_files.write(tmp_path / f'{name}.wav', audio, RATE)

  def provider(split):
    paths = [str(tmp_path / f'{name}.wav') for name in ('dry', 'wet')]
    return data.RecordingProvider(
      *paths, split=split, sample_rate=RATE, n_samples=1000
    )

  return provider


def make_model():
  arrays = [neural.LayerArray(2, 1, (1, 2), head_bias=True)]
  group = processors.ProcessorGroup(
    [(neural.WaveNet(arrays=arrays), ['audio'])]
  )
  return models.EffectModel(group, [losses.EsrLoss()], RATE)


def test_it_measures_the_best_on_what_was_kept(recording, tmp_path):
  model, run = make_model(), tmp_path / 'run'
  trainers.train(
    recording('train'),
    recording('valid'),
    trainers.Trainer(model, learning_rate=1e-2),
    batch_size=2,
    num_steps=4,
    steps_per_validation=2,
    save_dir=str(run),
  )
  assert not conclusion.conclude(model, run)
  assert not (run / 'held_out').exists()
  held_out = recording('test')
  with gin.unlock_config():
    gin.external_configurable(lambda: held_out, 'held_out_of_a_test')
    gin.parse_config(
      'dafx.training.evaluate.provider = @held_out_of_a_test()\n'
      'dafx.training.conclude.after_training = True'
    )
  fresh = make_model()  # whose weights are not those
  said = conclusion.conclude(fresh, run)
  audio = run / 'held_out' / 'audio'
  files = {path.name.split('.', 2)[2] for path in audio.iterdir()}
  assert files == {
    'input.wav',
    'target.wav',
    'output.wav',
    'waveform.png',
    'spectra.png',
  }
  sides = {
    side: audio_files.read(audio / f'wet.wav.{side}.wav')[0]
    for side in ('target', 'output')
  }
  start = fresh.settling(len(sides['target']))
  target, output = (sides[s][start:, 0] for s in ('target', 'output'))
  esr = np.sum((target - output) ** 2) / np.sum(target**2)
  printed = float(re.search(r'mean ESR ([\d.]+): (.+)', said).group(1))
  assert printed == pytest.approx(esr, abs=2e-4)
  assert tables.verdict_of(printed) in said
  assert str(audio) in said and 'waveform.png' in said
  verdict = (run / 'held_out' / 'verdict.txt').read_text().strip()
  assert verdict and verdict in said


@pytest.mark.parametrize(
  'esr, words',
  [
    (0.0, 'very close'),
    (0.0099, 'very close'),
    (0.01, 'close'),
    (0.05, 'audibly different'),
    (0.2, 'not alike'),
    (0.9, 'went wrong'),
    (float('nan'), 'went wrong'),
  ],
)
def test_words_follow_the_limits_of_nam(esr, words):
  assert words in tables.verdict_of(esr)
