"""Every family of effect models that gin declares has gradients and trains."""

# First: importing dafx sets up what DDSP needs.
import dafx  # noqa: F401  # isort: skip

import pathlib
import re

import gin
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from cases import some_quick

from dafx.training import gin_files, models, trainers

pytestmark = pytest.mark.usefixtures('fresh_gin')

ROOT = pathlib.Path(__file__).parents[1]
RATE = 48000
SMALL = [
  'MultiResolutionStftLoss.resolutions = ((256, 64, 128),)',
  'EffectModel.burn_in = 0',
  'EffectModel.n_start_steps = 3',
]
KNOBS = ["net_inputs = ['audio', 'knobs']", 'n_knobs = 2']
FILM = ('film', 'tfilm', 'tiny_tfilm', 'tvfilm')
SIZES = ('45_s', '45_l', '250_s', '250_l', '2500_s', '2500_l')
GAIN = 'urn:dafx-test:gain'


def conditioned(kind):
  return [f'conditioning = {kind!r}', *KNOBS]


# Name: (task, files after it).
GRAY_BOXES = {
  'comp': ('graybox_compressor', []),
  'dist': ('graybox', []),
  'fuzz': ('graybox', ['graybox_fuzz']),
  'dist_fir': ('graybox_speaker', []),
  'fuzz_fir': ('graybox_fuzz_speaker', []),
}
# Name: (task, files after it, bindings).
FAMILIES = {
  'wavenet': ('blackbox_wavenet', [], ["wavenet_size = 'nano'"]),
  'a2': ('blackbox_a2', [], []),
  'wavenet_knobs': ('blackbox_wavenet', [], KNOBS),
  'lstm': ('blackbox_lstm', [], []),
  'lstm_96': ('blackbox_lstm', [], ['n_units = 96']),
  'lstm_fixed': ('blackbox_lstm', [], conditioned('fixed')),
  'lstm_tvcond': ('blackbox_lstm', [], conditioned('tvcond')),
  'tcn_demo': ('blackbox_demo', [], []),
  'tcn_level': ('blackbox_demo_level', [], []),
  'gray_demo': ('graybox_demo', [], []),
  'gray_dynamics': ('graybox_demo_dynamics', [], []),
  's4_l': ('blackbox', ['sizes/s4_l'], []),
  **{f's4_{c}': ('blackbox', [], conditioned(c)) for c in FILM},
  **{f'tcn_{c}': ('blackbox_tcn', [], conditioned(c)) for c in FILM},
  **{f'gcn_{c}': ('blackbox_gcn', [], conditioned(c)) for c in FILM},
  **{f'tcn_{s}': ('blackbox_tcn', [f'sizes/{s}'], []) for s in SIZES},
  **{
    f'gray_{name}_{shaper}': (task, files, [f'shaper = {shaper!r}'])
    for name, (task, files) in GRAY_BOXES.items()
    for shaper in ('rational', 'siren')
    if name != 'comp'
  },
  **{
    f'gray_{name}_{how}': (task, [*model, *files], binding)
    for name, (task, model) in GRAY_BOXES.items()
    for how, files, binding in (
      ('inverted', [], ['polarity = -1']),
      ('knobs', ['graybox_conditioned'], ['n_knobs = 2']),
    )
  },
}
# Every task, each conditioning and each shaper once.
QUICK = (
  'wavenet',
  'lstm_tvcond',
  'tcn_demo',
  'tcn_level',
  'gray_demo',
  'gray_dynamics',
  's4_film',
  'gcn_tiny_tfilm',
  'gray_comp_knobs',
)


def parse(task, files, bindings):
  names = [f'{task}.gin', *(f'{file}.gin' for file in files)]
  gin_files.parse_gin(names, [*SMALL, *bindings])


@pytest.mark.parametrize('family', some_quick(FAMILIES, QUICK))
def test_family_runs_and_all_of_it_has_gradients(family):
  task, files, bindings = FAMILIES[family]
  parse(task, files, bindings)
  model = models.make_model()
  rng = np.random.default_rng(0)
  audio = 0.3 * rng.standard_normal([2, 512]).astype(np.float32)
  features = {'audio': audio, 'target': np.tanh(3 * audio)}
  if 'knobs' in model.inputs_used:
    features['knobs'] = np.float32([[0.2, 0.8], [0.6, 0.4]])
  features = {key: tf.constant(value) for key, value in features.items()}
  with tf.GradientTape() as tape:
    outputs, losses = model(features, return_losses=True)
  assert outputs['audio_synth'].shape == audio.shape
  assert np.isfinite(float(losses['total_loss']))
  variables = model.trainable_variables
  assert variables
  gradients = tape.gradient(losses['total_loss'], variables)
  without = [v.name for v, g in zip(variables, gradients) if g is None]
  # The last block's linear map of a GCN leads nowhere (see its docstring).
  assert len(without) <= (2 if 'gcn' in task else 0), without


@pytest.mark.parametrize('task, files', GRAY_BOXES.values(), ids=GRAY_BOXES)
def test_polarity_turns_the_audio_over(task, files):
  audio = {'audio': tf.random.stateless_normal([1, 512], [1, 2])}
  sides = []
  for polarity in (1, -1):
    gin.clear_config()
    parse(task, files, [f'polarity = {polarity}', "shaper = 'tanh'"])
    sides.append(models.make_model()(audio)['audio_synth'].numpy())
  assert np.std(sides[0]) > 0.1
  np.testing.assert_allclose(sides[0], -sides[1], rtol=1e-4, atol=1e-5)


@pytest.fixture
def recordings(tmp_path):
  rng = np.random.default_rng(0)
  dry = 0.3 * rng.standard_normal(40000)
  paths = []
  for name, audio in (('dry', dry), ('wet', np.tanh(2 * dry))):
    path = tmp_path / f'{name}.wav'
    soundfile.write(path, audio, RATE, 'FLOAT')
    paths.append(
      f'{"input" if name == "dry" else "target"}_path = {str(path)!r}'
    )
  return paths


@pytest.mark.slow
@pytest.mark.parametrize(
  'task',
  ['amp', 'blackbox_tcn', 'blackbox_lstm', 'graybox_compressor', 'graybox'],
)
def test_task_trains_on_a_recording(task, recordings, tmp_path):
  parse(
    task,
    [],
    [
      *recordings,
      'n_samples = 2560',
      'batch_size = 2',
      'dafx.training.train.num_steps = 3',
    ]
    + (['Trainer.tbptt_samples = 1280'] if task == 'blackbox_lstm' else []),
  )
  trainer = trainers.Trainer(models.make_model())
  history = trainers.train(trainer=trainer, save_dir=str(tmp_path / 'run'))
  assert history['step'] == [1, 2, 3] and history['valid_step'] == [3]
  assert np.isfinite(history['total_loss']).all()
  assert list((tmp_path / 'run').glob('ckpt-3*'))
  drawn = {p.stem for p in (tmp_path / 'run').glob('blocks/*.png')}
  assert ('eq1_response' in drawn) == task.startswith('graybox')
  assert ('shaper_curve' in drawn) == (task == 'graybox')


def test_a_plugin_is_cloned_by_its_uri(tmp_path):
  parse(
    'blackbox_tcn',
    ['rendered'],
    [
      f'plugin = {GAIN!r}',
      "plugin_knobs = ['amount']",
      'n_settings = 2',
      'train/RenderedProvider.seconds = 0.5',
      'valid/RenderedProvider.seconds = 0.1',
      "net_inputs = ['audio', 'knobs']",
      'n_knobs = 1',
      "conditioning = 'film'",
      'n_samples = 2560',
      'batch_size = 2',
      'dafx.training.train.num_steps = 2',
    ],
  )
  trainer = trainers.Trainer(models.make_model())
  history = trainers.train(trainer=trainer, save_dir=str(tmp_path))
  assert history['step'] == [1, 2]
  assert np.isfinite(history['valid_total_loss']).all()


def test_models_bind_models_only():
  """How long, how fast and on what is trained is the task's to say."""
  training = r'^(dafx\.training\.(train|Trainer|evaluate)\b|\w*Provider\.)'
  numbers = r'^(learning_rate|num_steps|n_samples|batch_size|data_path)\b'
  for path in sorted((ROOT / 'gin/models').rglob('*.gin')):
    text = path.read_text()
    found = re.findall(f'{training}|{numbers}', text, re.M)
    assert not found, f'{path.name} binds {found}'
