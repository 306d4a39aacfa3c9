"""What a training closes with: figures, words, plots and audio."""

import re

import gin
import numpy as np
import pytest

from dafx import losses, neural, processors
from dafx.audio import files as audio_files
from dafx.training import data, models, trainers
from dafx.training.evaluation import conclusion, evaluate, tables

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


def test_networks_of_several_sizes_have_a_verdict_each(recording):
  taps = {'small': [0.5], 'large': [1.5, 0.0]}
  networks = [neural.Linear(len(t), name=name) for name, t in taps.items()]
  for network, response in zip(networks, taps.values(), strict=True):
    network.set_response(response)
  group = processors.ProcessorGroup([(neural.Packed(networks), ['audio'])])
  model = models.EffectModel(group, [losses.EsrLoss()], RATE, burn_in=0)
  held_out = recording('test')
  rows = evaluate.evaluate(model, held_out, with_baselines=False)
  lines = evaluate.describe(model, rows).splitlines()
  (item,) = held_out.items()
  dry, wet = (
    np.concatenate(list(side.blocks()))[:, 0]
    for side in (item.input, item.target)
  )
  expected = []
  for i, (name, response) in enumerate(taps.items(), 1):
    esr = np.sum((wet - response[0] * dry) ** 2) / np.sum(wet**2)
    verdict = f'mean ESR {esr:.4f}: {tables.verdict_of(esr)}'
    expected += [f'network {i} of 2 ({name})', verdict]
  assert lines[::4] + lines[3::4] == expected[::2] + expected[1::2]


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
