"""Every family of effect models that gin declares has gradients and trains."""

# First: importing dafx sets up what DDSP needs.
import dafx  # noqa: F401  # isort: skip

import gin
import numpy as np
import pytest
import soundfile
import tensorflow as tf

from dafx.training import gin_files, models, trainers

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


# Name: (task, files after it, bindings).
FAMILIES = {
  'wavenet': ('blackbox', ['wavenet'], ["wavenet_size = 'nano'"]),
  'wavenet_knobs': ('blackbox', ['wavenet'], KNOBS),
  'lstm': ('blackbox', ['lstm'], []),
  'lstm_96': ('blackbox', ['lstm'], ['n_units = 96']),
  'lstm_fixed': ('blackbox', ['lstm'], conditioned('fixed')),
  'lstm_tvcond': ('blackbox', ['lstm'], conditioned('tvcond')),
  'tcn_demo': ('blackbox_demo', [], []),
  'tcn_level': ('blackbox_demo', ['tcn_level'], []),
  'gray_demo': ('graybox_demo', [], []),
  'gray_dynamics': ('graybox_demo', ['graybox_dynamics'], []),
  's4_l': ('blackbox', ['sizes/s4_l'], []),
  **{f's4_{c}': ('blackbox', [], conditioned(c)) for c in FILM},
  **{f'tcn_{c}': ('blackbox', ['tcn'], conditioned(c)) for c in FILM},
  **{f'gcn_{c}': ('blackbox', ['gcn'], conditioned(c)) for c in FILM},
  **{f'tcn_{s}': ('blackbox', ['tcn', f'sizes/{s}'], []) for s in SIZES},
  **{
    f'gray_{name}_{shaper}': (
      'graybox',
      [f'graybox_{name}'],
      [f'shaper = {shaper!r}'],
    )
    for name in ('dist', 'dist_fir', 'fuzz', 'fuzz_fir')
    for shaper in ('rational', 'siren')
  },
  **{
    f'gray_{name}_{how}': ('graybox', [f'graybox_{name}', *files], binding)
    for name in ('comp', 'dist', 'fuzz')
    for how, files, binding in (
      ('inverted', [], ['polarity = -1']),
      ('knobs', ['graybox_conditioned'], ['n_knobs = 2']),
    )
  },
}


@pytest.fixture(autouse=True)
def _fresh_gin():
  prefixes = gin.config._LOCATION_PREFIXES
  former = list(prefixes)
  gin.clear_config()
  gin_files.add_gin_search_paths()
  yield
  gin.clear_config()
  prefixes[:] = former


def parse(task, files, bindings):
  names = [f'{task}.gin', *(f'{file}.gin' for file in files)]
  gin_files.parse_gin(names, [*SMALL, *bindings])


@pytest.mark.parametrize(
  'task, files, bindings', FAMILIES.values(), ids=FAMILIES
)
def test_family_runs_and_all_of_it_has_gradients(task, files, bindings):
  parse(task, files, bindings)
  model = models.get_model()
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
  assert len(without) <= (2 if 'gcn' in files else 0), without


@pytest.mark.parametrize('name', ['comp', 'dist', 'fuzz'])
def test_polarity_turns_the_audio_over(name):
  audio = {'audio': tf.random.stateless_normal([1, 512], [1, 2])}
  sides = []
  for polarity in (1, -1):
    gin.clear_config()
    files = [f'graybox_{name}']
    parse('graybox', files, [f'polarity = {polarity}', "shaper = 'tanh'"])
    sides.append(models.get_model()(audio)['audio_synth'].numpy())
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


@pytest.mark.parametrize(
  'task, files',
  [('blackbox', ['tcn']), ('blackbox', ['lstm']), ('graybox', [])],
)
def test_task_trains_on_a_recording(task, files, recordings, tmp_path):
  parse(
    task,
    files,
    [
      *recordings,
      'n_samples = 2560',
      'batch_size = 2',
      'dafx.training.train.num_steps = 3',
    ]
    + (['Trainer.tbptt_samples = 1280'] if files == ['lstm'] else []),
  )
  trainer = trainers.Trainer(models.get_model())
  history = trainers.train(trainer=trainer, save_dir=str(tmp_path / 'run'))
  assert history['step'] == [1, 2, 3] and history['valid_step'] == [3]
  assert np.isfinite(history['total_loss']).all()
  assert list((tmp_path / 'run').glob('ckpt-3*'))
  drawn = {p.stem for p in (tmp_path / 'run').glob('blocks/*.png')}
  assert ({'eq1_response', 'shaper_curve'} <= drawn) == (task == 'graybox')


def test_a_plugin_is_cloned_by_its_uri(tmp_path):
  parse(
    'blackbox',
    ['tcn', 'rendered'],
    [
      f'plugin = {GAIN!r}',
      "plugin_knobs = ['amount']",
      'n_settings = 2',
      'RenderedProvider.seconds = 0.5',
      "net_inputs = ['audio', 'knobs']",
      'n_knobs = 1',
      "conditioning = 'film'",
      'n_samples = 2560',
      'batch_size = 2',
      'dafx.training.train.num_steps = 2',
    ],
  )
  trainer = trainers.Trainer(models.get_model())
  history = trainers.train(trainer=trainer, save_dir=str(tmp_path))
  assert history['step'] == [1, 2]
  assert np.isfinite(history['valid_total_loss']).all()
