"""Every .gin file parses by itself; every task takes a training step."""

import pathlib
import re

import gin
import numpy as np
import pytest
import scipy.signal
import soundfile
import tensorflow as tf
from cases import some_quick

import dafx.training.evaluation.evaluate
import dafx.training.inference
import dafx.training.models
import dafx.training.trainers
from dafx import gradients, metrics, processors
from dafx.audio import sources
from dafx.commands import dafx_prepare
from dafx.training import data, gin_files, inference, models, trainers
from dafx.training.data import tfrecords
from dafx.training.trainers import summaries

pytestmark = pytest.mark.usefixtures('fresh_gin')

ROOT = pathlib.Path(__file__).parents[1] / 'gin'
FILES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob('*.gin'))
TASKS = [f for f in FILES if f.startswith('tasks/')]
# Those that train effects are in effect_gin_test.py, those that match files in
# match_files_test.py, those that learn an instrument in instrument_test.py.
_OTHERS = ('amp', 'blackbox', 'graybox', 'match', 'solo')
CONTROL_TASKS = [
  f for f in TASKS if not f.startswith(tuple(f'tasks/{x}' for x in _OTHERS))
]
# Small enough for a test; the rate stays, since plugins' ranges depend on it.
SMALL = [
  'n_samples = 8192',
  'batch_size = 1',
  'LogMelEncoder.width = 4',
  'LogMelEncoder.n_mels = 8',
  'InceptionEncoder.context_size = 5120',
  'InceptionEncoder.channels = (8, 8)',
  'MobileNetV2Encoder.context_size = 9216',
  'MobileNetV2Encoder.alpha = 0.35',
  'dafx.training.train.num_steps = 1',
  'dafx.training.train.stages = ()',
]


def head_of(file):
  """Returns the comment that a file begins with."""
  lines = (ROOT / file).read_text().splitlines()
  count = next(i for i, line in enumerate(lines) if not line.startswith('#'))
  return ' '.join(line.lstrip('# ') for line in lines[:count])


def needed_macros(file):
  """Returns the macros that a file's head says it needs."""
  match = re.search(r'Needs: ([\w, ]+?) \(macros?\)', head_of(file))
  return re.split(r',\s*', match[1]) if match else []


def used_macros(file):
  """Returns (used, given) macros of a file and what it includes."""
  text = (ROOT / file).read_text()
  text = re.sub(r'#.*', '', text)
  used = set(re.findall(r'%([\w.]+)', text))
  given = set(re.findall(r'^(\w+) =', text, re.MULTILINE))
  for included in re.findall(r"^include '(.*)'", text, re.MULTILINE):
    more_used, more_given = used_macros(included)
    used |= more_used
    given |= more_given
  return used, given


def test_there_are_files_and_no_python():
  assert 'tasks/mastering.gin' in FILES
  assert not list(ROOT.rglob('*.py'))  # `import gin` would find it


@pytest.mark.parametrize('file', FILES)
def test_file_says_what_it_is_and_needs(file):
  assert head_of(file)
  used, given = used_macros(file)
  assert used - given == set(needed_macros(file))


@pytest.mark.parametrize('file', FILES)
def test_file_parses_by_itself(file):
  gin_files.parse_gin([file])
  # Once more with its macros, as text that can be read again.
  for macro in needed_macros(file):
    gin.parse_config(f'{macro} = 1')
  text = gin.config_str()
  gin.clear_config()
  gin.parse_config(text)


def test_a_macro_that_nothing_refers_to_is_named(tmp_path):
  with pytest.raises(
    ValueError, match=r"'learnig_rate' is given.*Did you mean learning_rate"
  ):
    gin_files.parse_gin(['mastering.gin'], ['learnig_rate = 1'])
  gin.clear_config()
  own = tmp_path / 'own.gin'
  own.write_text("include 'mastering.gin'\nbatchsize = 4\nfor_another = 1\n")
  with pytest.raises(ValueError, match=r"'batchsize'.*Did you mean batch_size"):
    gin_files.parse_gin([str(own)])
  gin.clear_config()
  # What another file of the folder refers to is no fault, nor is a macro of
  # the command line that another there refers to.
  own.write_text("include 'mastering.gin'\nfor_another = 1\n")
  (tmp_path / 'other.gin').write_text('dafx.training.train.seed = %for_another')
  gin_files.parse_gin([str(own)])
  gin.clear_config()
  gin_files.parse_gin(
    ['mastering.gin'], ['steps = 7', 'dafx.training.train.num_steps = %steps']
  )
  gin.clear_config()
  with pytest.raises(ValueError, match=r"'n_blocks' is given a value, but"):
    gin_files.parse_gin(['mastering.gin'], ['n_blocks = 7'])


@pytest.mark.parametrize('file', TASKS)
def test_task_is_found_by_its_bare_name(file):
  assert not needed_macros(file)
  gin_files.parse_gin([pathlib.Path(file).name])


@pytest.mark.parametrize(
  'file, expected',
  [
    # The task's own memory stays where a file does not speak of it.
    ('spsa.gin', gradients.Spsa(memory=1)),
    ('spsa_one_sided.gin', gradients.Spsa(memory=1, sides=1)),
    (
      'spsa_whole_item.gin',
      gradients.Spsa(memory=None, directions='rademacher'),
    ),
    ('central_differences.gin', gradients.CentralDifferences()),
  ],
)
def test_gradients_are_chosen_by_name(file, expected):
  gin_files.parse_gin(['mastering.gin', file])
  with gin.config_scope('limiter'):
    limiter = gin.get_configurable('effects.LV2Plugin')()
  assert limiter.name == 'limiter'
  assert limiter.control_gradient == expected
  assert limiter.audio_gradient == gradients.StraightThrough()


def test_a_chain_is_a_node_that_a_file_chooses():
  gin_files.parse_gin(['mastering.gin', 'mastering_joint.gin'])
  with gin.unlock_config():
    gin.parse_config(SMALL)
  model = models.make_model()
  (chain,) = processors.nodes(model.processor_group).values()
  assert [plugin.name for plugin in chain.members] == list(
    PUBLISHED['mastering']
  )
  assert chain.control_gradient == gradients.Spsa(n_probes=4, memory=1)
  assert chain.audio_gradient is None
  counts = {p.name: p.control_map.n_controls for p in model.driven.values()}
  assert counts == PUBLISHED['mastering']


def test_an_argument_that_has_moved_says_where_to():
  with pytest.raises(ValueError, match=r'in gin: gradients\.Spsa\.n_probes'):
    gin_files.parse_gin(['mastering.gin'], ['effects.LV2Plugin.n_probes = 4'])


@pytest.fixture(scope='module')
def noise_pairs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('noise')
  rng = np.random.default_rng(0)
  for split in ('train', 'valid', 'test'):
    audio = 0.1 * rng.standard_normal(13000)
    for side, samples in (('input', audio), ('target', 0.5 * audio)):
      path = folder / split / side / 'noise.wav'
      path.parent.mkdir(parents=True)
      soundfile.write(path, samples, 22050, 'FLOAT')
  return folder


# What DeepAFx trains, by task.
PUBLISHED = {
  'distortion': {'multiband': 21},
  'distortion_limiter': {'multiband': 21, 'limiter': 1},
  'nonspeech': {'gate': 17},
  # 33 of the equaliser there, of which three lie above half the rate.
  'mastering': {'multiband': 16, 'equalizer': 30, 'limiter': 1},
}


@pytest.mark.parametrize('task', PUBLISHED)
def test_task_trains_as_many_controls_as_published(task):
  gin_files.parse_gin([f'{task}.gin'])
  with gin.unlock_config():
    gin.parse_config(SMALL)
  model = models.make_model()
  counts = {p.name: p.n_controls for p in model.driven.values()}
  assert counts == PUBLISHED[task]
  for plugin in model.driven.values():
    # None is bypassed, by default or otherwise.
    fixed = plugin.renderer.fixed
    assert all(
      fixed.get(symbol, port.default) == (symbol == 'enabled')
      for symbol, port in plugin.plugin.controls.items()
      if symbol == 'enabled' or symbol.startswith('bypass')
    )
  (loss,) = model.loss_objs
  assert loss.max_lag == model.latency + 100
  assert [part.weight for part in loss.wrapped_losses] == [1.0, 10.0]


@pytest.mark.parametrize('task', ['mastering', 'nonspeech', 'distortion_demo'])
def test_any_task_can_have_one_setting_per_file(task):
  gin_files.parse_gin([f'{task}.gin', 'static.gin'])
  with gin.unlock_config():
    gin.parse_config(SMALL)
  model = models.make_model()
  assert model.encoder.hop_size is None and model.margin == 0
  controls_by_key = model.predict_controls(np.zeros([2, 20000], np.float32))
  for key, controls in controls_by_key.items():
    assert controls.shape == (2, 1, model.driven[key].n_controls)


ALTERNATIVES = [
  ('invada_tube', 'tube', 'audio'),
  ('calf_limiter', 'limiter', 'audio'),
  ('calf_equalizer', 'equalizer', 'audio'),
  ('lsp_parametric_equalizer', 'equalizer', 'audio'),
  ('lsp_multiband_expander', 'gate', 'audio'),
]


@gin.configurable(module='gin_test')
def given(part=gin.REQUIRED):
  return part


@pytest.mark.parametrize('file, node, source', ALTERNATIVES)
def test_other_plugins_do_something_at_all_their_controls(file, node, source):
  import dafx.effects

  gin_files.parse_gin([f'plugins/{file}.gin'], ['sample_rate = 22050'])
  gin.parse_config(f'given.part = @{node}/effects.LV2Plugin()')
  plugin = given()
  assert isinstance(plugin, dafx.effects.LV2Plugin)
  # From loud to quiet: an expander acts on what is below its threshold alone.
  fade = np.geomspace(0.3, 3e-4, 16384)[:, np.newaxis]
  audio = fade * np.random.default_rng(0).standard_normal([1, 16384, 1])
  middle = np.full([1, 1, plugin.n_controls], 0.5)
  reference = plugin.render(audio, plugin.control_map.to_port_units(middle))
  dead = []
  for i, symbol in enumerate(plugin.symbols):
    moved = middle.copy()
    moved[..., i] = 0.9
    out = plugin.render(audio, plugin.control_map.to_port_units(moved))
    if np.abs(out - reference).max() < 1e-6:
      dead.append(symbol)
  assert not dead


@pytest.mark.parametrize('task', ['nonspeech', 'mastering_demo'])
def test_records_give_a_task_what_its_files_give(task, noise_pairs):
  for split in ('train', 'valid'):
    found = data.find_pairs(noise_pairs / split)
    tfrecords.write_tfrecord(found, noise_pairs / f'{split}.tfrecord')
  gin_files.parse_gin(
    [f'{task}.gin', 'tfrecords.gin'],
    [*SMALL, f'data_path = {str(noise_pairs)!r}', 'valid_crops_per_file = 3'],
  )
  model = models.make_model()
  for use, scope in (('data_provider', ''), ('valid_provider', 'valid/')):
    chosen = gin.query_parameter(f'dafx.training.train.{use}')
    assert str(chosen) == f'@{scope}data.ShardProvider()'
    batches = []
    for kind in ('data.FolderProvider', 'data.ShardProvider'):
      with gin.config_scope(scope.rstrip('/') or None):
        provider = gin.get_configurable(kind)()
      is_same = type(provider.preprocessor) is type(model.preprocessor)
      assert is_same and provider.crops_per_file == (3 if scope else 1)
      dataset = provider.get_batch(2, shuffle=not scope, seed=3)
      batches.append(next(dataset.as_numpy_iterator()))
    for key, expected in batches[0].items():
      np.testing.assert_array_equal(batches[1][key], expected)


@pytest.fixture
def untraced():
  """Runs functions op by op: large networks take long to trace."""
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


def _prepare_commands():
  """Yields (file, task, source, folder or '') of commands that files name."""
  for path in sorted((ROOT / 'tasks').glob('*.gin')):
    text = path.read_text().replace(' \\\n#', '')
    for task, flags in re.findall(r'^# +dafx_prepare (\w+)(.*)$', text, re.M):
      source = re.search(r'--source=(\w+)', flags)
      folder = re.search(r'--output_dir=(\S+)', flags)
      yield (
        f'tasks/{path.name}',
        task,
        source[1] if source else 'demo',
        folder[1] if folder else '',
      )


@pytest.mark.parametrize('file, task, source, folder', _prepare_commands())
def test_training_looks_where_its_data_are_made(file, task, source, folder):
  gin_files.parse_gin([file])
  made_at = folder or dafx_prepare.default_folder(task, source)
  assert gin.query_parameter('%data_path') == made_at


@pytest.mark.parametrize(
  'file',
  [
    # The published sizes; the demos take the same path.
    file if '_demo' in file else pytest.param(file, marks=pytest.mark.slow)
    for file in CONTROL_TASKS
  ],
)
def test_task_takes_a_step_and_can_be_used(
  file, noise_pairs, tmp_path, request, monkeypatch
):
  if file != 'tasks/mastering_demo.gin':  # one is traced, as in use
    request.getfixturevalue('untraced')
  # Figures take seconds; trainers_test.py looks at them.
  monkeypatch.setattr(summaries, 'write_examples', lambda *args: None)
  params = [*SMALL, f'data_path = {str(noise_pairs)!r}']
  if file == 'tasks/mastering_clean.gin':  # the pairs are mono at 22,050 Hz
    params += ['FolderProvider.n_channels = 1', 'sample_rate = 22050']
  gin_files.parse_gin([file], params)
  model = models.make_model()
  trainer = trainers.Trainer(model)
  before = {}

  def note(batch):
    # What is heard around a crop comes on top of what is rendered.
    n_samples = 8192
    assert batch['audio'].shape == batch['target'].shape == (1, n_samples)
    assert ('heard' in batch) == ('demo' not in file) == bool(model.margin)
    if model.margin:
      assert batch['heard'].shape == (1, n_samples + 2 * model.margin)
    trainers.Trainer.build(trainer, batch)
    before.update({v.ref(): v.numpy() for v in model.trainable_variables})

  trainer.build = note
  history = trainers.train(trainer=trainer, save_dir=str(tmp_path))
  assert history['step'] == [1] and history['valid_step'] == [1]
  assert all(np.isfinite(v).all() for v in history.values())
  # Each head has learned something.
  for key, head in model.heads.items():
    assert (head.bias.numpy() != before[head.bias.ref()]).all(), key
  # What was written is all that `process` needs.
  again = dafx.training.inference.load_model(tmp_path)
  audio = 0.1 * np.random.default_rng(1).standard_normal([9001, 2])
  outputs = [
    dafx.training.inference.process_audio(m, audio, 44100).audio
    for m in (model, again)
  ]
  assert outputs[0].shape == audio.shape
  np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize(
  'task',
  some_quick(['distortion', 'nonspeech', 'mastering'], ['mastering']),
)
def test_plugins_of_a_task_at_other_rates(task):
  """Of one sound, the same is made at each rate that files have."""
  gin_files.parse_gin([f'{task}.gin', 'single_setting.gin'])
  model = models.make_model()
  settings = {'moving': None}  # as the network has it
  for name, value in (('default', None), ('low', 0.0), ('high', 1.0)):
    settings[name] = {
      key: np.full_like(p.control_map.defaults, value)[np.newaxis]
      if value is not None
      else p.control_map.defaults[np.newaxis]
      for key, p in model.driven.items()
    }
  rng = np.random.default_rng(0)
  source = 0.05 * rng.standard_normal([1000, 1]).astype('f')
  source = sources.resample(source, 4000, 8000)  # nothing above 2 kHz
  audible = scipy.signal.butter(4, 100, 'highpass', fs=8000, output='sos')
  for name, setting in settings.items():
    levels = {}
    for rate in (8000, 16000, 22050, 192000):
      audio = sources.resample(source, 8000, rate)
      out = inference.process_audio(model, audio, rate, setting=setting).audio
      assert np.isfinite(out).all() and np.abs(out).max() < 100
      heard = sources.resample(out, rate, 8000)
      # LSP's equaliser makes noise below 50 Hz where the rate is high.
      heard = scipy.signal.sosfilt(audible, heard, axis=0)
      levels[rate] = metrics.rms_db(heard)
    np.testing.assert_allclose(
      list(levels.values()), levels[22050], atol=1.0, err_msg=name
    )


def test_a_run_of_an_older_version_says_how_to_convert_it(tmp_path):
  text = 'get_model.model = @models.ControlModel()\n'
  config = tmp_path / 'operative_config-0.gin'
  config.write_text(text)
  with pytest.raises(ValueError, match=r"'get_model'(?s:.*)update_gin_config"):
    gin_files.parse_operative_config(tmp_path)
  assert config.read_text() == text
  gin.clear_config()
  config.write_text(f'# Written by dafx {dafx.__version__}.\n{text}')
  with pytest.raises(ValueError, match="'get_model'") as caught:
    gin_files.parse_operative_config(tmp_path)
  assert 'update_gin_config' not in str(caught.value)


def test_the_config_of_a_run_of_ddsp_is_told(tmp_path):
  path = tmp_path / 'operative_config-0.gin'
  path.write_text('import ddsp\nTrainer.lr_decay_rate = 0.98\n')
  with pytest.raises(ValueError, match="DDSP's own trainer.*--restore_dir="):
    gin_files.check_operative_config(tmp_path)
