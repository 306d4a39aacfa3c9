"""Old configs are brought up to date; those of each version still build."""

import importlib.util
import pathlib
import subprocess
import sys

import gin
import numpy as np
import pytest

from dafx import effects, gradients, processors
from dafx.training import gin_files, inference, models, trainers  # noqa: F401
from dafx.training.evaluation import evaluate  # noqa: F401

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_SCRIPT = _ROOT / 'update_gin_config.py'
# What version 0.1.0 wrote of plugins with many options changed.
_OPTIONS = sorted((_ROOT / 'tests/data').glob('*_options-0.1.0.gin'))
# One per version: what a step of gin/tasks/mastering_demo.gin left behind, with
# its data_path and size set to 'pairs', batch_size = 2 and num_steps = 1.
_GOLDEN = sorted((_ROOT / 'tests/data').glob('operative_config-*.gin'))

_OLD = """\
import dafx.effects

# Macros:
# =====
rate = 16000

# Parameters for left/LV2Plugin:
left/LV2Plugin.knee = \\
    {'a': 1,
     'b': (2, 3)}
left/LV2Plugin.uri = 'urn:x#y'  # LV2Plugin.knee = 1
right/effects.LV2Plugin.knee = 0.5
Trainer.knee = 4
train.trainer = @dafx.training.Trainer()
"""


@pytest.fixture(scope='module')
def script():
  spec = importlib.util.spec_from_file_location('update_gin_config', _SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def clean_gin():
  gin.clear_config()
  yield
  gin.clear_config()


@pytest.fixture
def old(tmp_path):
  path = tmp_path / 'operative_config-0.gin'
  path.write_text(_OLD)
  return path


def test_pieces_are_statements_and_join_to_the_text(script):
  pieces = script.split_statements(_OLD)
  assert ''.join(pieces) == _OLD
  assert "left/LV2Plugin.knee = \\\n    {'a': 1,\n     'b': (2, 3)}\n" in pieces
  without_end = 'a = 1\nb = 2'
  assert script.split_statements(without_end) == ['a = 1\n', 'b = 2']
  assert script.split_statements('') == []


@pytest.mark.parametrize('golden', _GOLDEN, ids=lambda path: path.stem)
def test_pieces_of_real_configs_join_to_them(script, golden):
  text = golden.read_text()
  pieces = script.split_statements(text)
  assert ''.join(pieces) == text
  n_bindings = sum(bool(script._key(piece)[1]) for piece in pieces)
  assert n_bindings == len(text.split(' = ')) - 1


def test_no_tables_change_nothing(script):
  assert script.update_text(_OLD, (), (), ()) == (_OLD, [])


@pytest.mark.parametrize(
  'name',
  ['LV2Plugin.knee', 'effects.LV2Plugin.knee', 'dafx.effects.LV2Plugin.knee'],
)
def test_remove_takes_whole_bindings_in_every_scope(script, name):
  text, changes = script.update_text(_OLD, [name], (), ())
  assert changes == [
    'removed: left/LV2Plugin.knee =',
    'removed: right/effects.LV2Plugin.knee = 0.5',
  ]
  assert "'a'" not in text
  assert 'Trainer.knee = 4' in text
  assert "uri = 'urn:x#y'  # LV2Plugin.knee = 1" in text


def test_remove_takes_macros_by_their_whole_name(script):
  text, changes = script.update_text(_OLD, ['rate', 'knee'], (), ())
  assert changes == ['removed: rate = 16000']
  assert text == _OLD.replace('rate = 16000\n', '')


def test_substitute_renames_in_order(script):
  text, changes = script.update_text(
    _OLD,
    (),
    [(r'\bLV2Plugin\.knee\b', 'LV2Plugin.bend'), (r'\.bend\b', '.curve')],
    (),
  )
  assert 'left/LV2Plugin.curve = \\\n' in text
  assert 'right/effects.LV2Plugin.curve = 0.5' in text
  assert 'Trainer.knee = 4' in text
  assert changes[0] == (
    'changed: left/LV2Plugin.knee = -> left/LV2Plugin.curve ='
  )


def test_add_binds_what_is_used_and_not_bound(script):
  add = [
    ('dafx.training.Trainer', 'speed', '2'),
    ('Trainer', 'knee', '5'),  # bound already
    ('LV2Plugin', 'knee', '1'),  # bound in scopes only, which come first
    ('Absent', 'speed', '3'),
    ('knee', 'speed', '4'),
  ]
  text, changes = script.update_text(_OLD, (), (), add)
  added = 'dafx.training.Trainer.speed = 2\nLV2Plugin.knee = 1\n'
  assert text == _OLD + added
  assert changes == [
    'added: dafx.training.Trainer.speed = 2',
    'added: LV2Plugin.knee = 1',
  ]


def test_add_finds_what_is_only_referred_to(script):
  add = [('losses.Loud', 'weight', '1.0')]
  text, _ = script.update_text('Model.losses = [@Loud()]', (), (), add)
  assert text == 'Model.losses = [@Loud()]\nlosses.Loud.weight = 1.0\n'
  text = '# [@Loud()]\n'
  assert script.update_text(text, (), (), add) == (text, [])


def test_a_second_time_changes_nothing(script):
  tables = (
    ['rate'],
    [(r'\bknee\b', 'bend')],
    [('Trainer', 'speed', '2')],
  )
  once, changes = script.update_text(_OLD, *tables)
  assert len(changes) == 6
  assert script.update_text(once, *tables) == (once, [])


def test_what_is_no_gin_file_is_refused(script):
  with pytest.raises(ValueError, match='no gin file'):
    script.update_text('a = [1,\n', (), (), ())


def test_a_copy_is_written_beside(script, old, monkeypatch):
  monkeypatch.setattr(script, 'REMOVE', ['rate'])
  target, _ = script.update_file(old)
  assert target == old.with_name('updated_operative_config-0.gin')
  assert target.read_text() == _OLD.replace('rate = 16000\n', '')
  assert old.read_text() == _OLD
  # A folder means the configs of the run, not the copies.
  assert script.find_configs(old.parent) == [old]


def test_overwrite_replaces_whole_or_not_at_all(script, old, monkeypatch):
  monkeypatch.setattr(script, 'REMOVE', ['rate'])

  def fail(*_):
    raise OSError('no space')

  with monkeypatch.context() as context:
    context.setattr(script.os, 'replace', fail)
    with pytest.raises(OSError, match='no space'):
      script.update_file(old, overwrite=True)
  assert old.read_text() == _OLD
  old.chmod(0o640)
  assert script.update_file(old, overwrite=True)[0] == old
  assert old.read_text() == _OLD.replace('rate = 16000\n', '')
  assert old.stat().st_mode & 0o777 == 0o640
  assert script.update_file(old, overwrite=True) == (None, [])


def _run(*args):
  return subprocess.run(
    [sys.executable, _SCRIPT, *args], capture_output=True, text=True
  )


def test_command_takes_files_and_folders(old, tmp_path):
  for path in (old, tmp_path):
    result = _run(path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f'{old}: is up to date\n'
  assert [*tmp_path.iterdir()] == [old]


def test_command_says_what_is_wrong(tmp_path):
  for path, message in (
    (tmp_path, 'holds no operative_config'),
    (tmp_path / 'nowhere', 'there is no such file'),
  ):
    result = _run(path)
    assert result.returncode == 1
    assert message in result.stderr
    assert 'Traceback' not in result.stderr
  result = _run()
  assert result.returncode == 1
  assert 'Give a gin file' in result.stdout + result.stderr


@pytest.mark.parametrize('golden', _GOLDEN, ids=lambda path: path.stem)
def test_models_of_every_version_still_build(script, clean_gin, golden):
  text, _ = script.update_text(golden.read_text())
  gin.parse_config(gin_files.name_modules(text), skip_unknown=False)
  model = models.make_model()
  assert [*processors.nodes(model.processor_group)] == [
    'multiband',
    'equalizer',
    'limiter',
  ]
  n_samples = gin.query_parameter('%n_samples')
  n_frames = n_samples // gin.query_parameter('%hop_size')
  controls = model.predict_controls(np.zeros([2, n_samples], np.float32))
  assert {key: c.shape for key, c in controls.items()} == {
    'multiband_controls': (2, n_frames, 16),
    'equalizer_controls': (2, n_frames, 30),
    'limiter_controls': (2, n_frames, 1),
  }
  trainer = trainers.Trainer(model)
  assert trainer.grad_clip_norm == gin.query_parameter(
    'dafx.training.Trainer.grad_clip_norm'
  )


@pytest.mark.parametrize(
  'old, new',
  [
    ('import dafx.training.encoders', 'import dafx.training.models'),
    (
      'import dafx.training.effect_models as m',
      'import dafx.training.models as m',
    ),
    ('import dafx.training.tfrecords', 'import dafx.training.data'),
    ('import dafx.training.effect_data', 'import dafx.training.data'),
    (
      'import dafx.training.evaluators as e',
      'import dafx.training.evaluation as e',
    ),
    (
      'import dafx.training.effect_inference',
      'import dafx.training.evaluation',
    ),
  ],
)
def test_imports_of_modules_that_moved_become_packages(script, old, new):
  assert script.update_text(f'{old}\na = 1')[0] == f'{new}\na = 1'
  assert script.update_text(old)[0] == new
  assert script.update_text(new) == (new, [])


@pytest.mark.parametrize(
  'old, new',
  [
    ('p = @preprocessing.Preprocessor()', 'p = @data.Preprocessor()'),
    (
      'augmentation.NoiseAndGain.gain = (0.1, 1.0)',
      'data.NoiseAndGain.gain = (0.1, 1.0)',
    ),
    (
      'train.data_provider = @train/effect_data.RenderedProvider()',
      'train.data_provider = @train/data.RenderedProvider()',
    ),
    (
      'train.data_provider = @dafx.training.tfrecords.TFRecordProvider()',
      'train.data_provider = @dafx.training.data.ShardProvider()',
    ),
    ("valid/TFRecordProvider.split = 'v'", "valid/ShardProvider.split = 'v'"),
  ],
)
def test_what_data_hold_is_named_by_their_package(script, old, new):
  assert script.update_text(old)[0] == new
  assert script.update_text(new) == (new, [])


@pytest.mark.parametrize('module', ['', 'models.', 'dafx.training.models.'])
def test_the_model_is_made_by_another_name(script, module):
  new = f'{module}make_model.model = @models.ControlModel()\n'
  old = new.replace('make_model', 'get_model')
  assert script.update_text(old)[0] == new
  assert script.update_text(new) == (new, [])


def test_an_evaluation_of_before_takes_a_provider(script, clean_gin):
  import dafx.training.evaluation  # noqa: F401

  old = (
    'import dafx.training.evaluators\n'
    "dafx.training.evaluate.path = '/pairs'\n"
    "evaluate.split = 'valid'\n"
    'evaluate_effect.n_audio = 3\n'
  )
  new, _ = script.update_text(old)
  assert script.update_text(new) == (new, [])
  gin.parse_config(gin_files.name_modules(new), skip_unknown=False)
  provider = gin.query_parameter('dafx.training.evaluate.provider')
  assert str(provider) == '@evaluation/data.FolderProvider()'
  for name, value in (('path', '/pairs'), ('split', 'valid')):
    key = f'evaluation/data.FolderProvider.{name}'
    assert gin.query_parameter(key) == value
  assert gin.query_parameter('dafx.training.evaluate.n_audio') == 3
  # Without a split, it was that of the test.
  new, _ = script.update_text('evaluate.path = %data_path')
  assert "evaluation/data.FolderProvider.split = 'test'" in new
  assert new.endswith('FolderProvider.path = %data_path')


def test_what_stays_is_not_touched(script):
  for text in (
    'import dafx.training.data as d\n',
    'import dafx.training.encoders_of_mine\n',
    'ControlModel.encoder = @dafx.training.encoders.Constant()\n',
    'preprocessing.MyOwn.level = 1\n',
  ):
    assert script.update_text(text) == (text, [])


@pytest.mark.parametrize('golden', _GOLDEN[:1], ids=lambda path: path.stem)
def test_an_old_run_says_how_to_convert_it(clean_gin, tmp_path, golden):
  path = tmp_path / 'operative_config-0.gin'
  path.write_bytes(golden.read_bytes())
  with pytest.raises(ValueError, match='update_gin_config.py') as caught:
    inference.load_model(tmp_path)
  assert f'--overwrite {path}' in str(caught.value)
  assert 'dafx.training.encoders' in str(caught.value)
  assert [*tmp_path.iterdir()] == [path]
  assert path.read_bytes() == golden.read_bytes()
  assert _run('--overwrite', tmp_path).returncode == 0
  # Now only the checkpoint is missing.
  with pytest.raises(ValueError, match='no checkpoint that can be read'):
    inference.load_model(tmp_path)


def test_a_run_of_an_old_version_is_known(script, clean_gin, tmp_path, caplog):
  gin_files.write_operative_config(tmp_path, 10)
  gin_files.warn_of_old_run(tmp_path)
  gin_files.warn_of_old_run(tmp_path / 'nowhere')
  assert not caplog.messages
  # What the script has brought up to date is still what 0.1.0 trained.
  old, _ = script.update_text(_GOLDEN[0].read_text())
  (tmp_path / 'operative_config-0.gin').write_text(old)
  gin_files.warn_of_old_run(tmp_path)
  (record,) = caplog.records
  assert record.levelname == 'WARNING'
  assert f'{tmp_path} was trained by dafx 0.1.0' in record.message
  assert '--seed did not reach' in record.message


def test_there_is_a_config_of_this_version():
  import dafx

  assert f'operative_config-{dafx.__version__}' in [p.stem for p in _GOLDEN]


# ---------------------------------------- Arguments of plugins and chains ----
@pytest.mark.parametrize(
  'old, new',
  [
    ('block_size = 64', ['effects.Host.block_size = 64']),
    ('n_threads = 2', ['effects.Host.n_threads = 2']),
    ('warm_up = 0', ['effects.Host.warm_up = 0']),
    ('strict = True', ['effects.Host.strict = True']),
    ("isolation = 'process'", ["effects.Host.isolation = 'process'"]),
    (
      'compensate_latency = False',
      ['effects.Host.compensate_latency = False'],
    ),
    ('n_probes = %n', ['gradients.Spsa.n_probes = %n']),
    ('sides = 1', ['gradients.Spsa.sides = 1']),
    ("memory = 'auto'", ["gradients.Spsa.memory = 'auto'"]),
    ('hold = 2', ['gradients.Spsa.hold = 2']),
    ('smoothing = 2', ['gradients.Spsa.smoothing = 2']),
    (
      "directions = 'rademacher'",
      ["gradients.Spsa.directions = 'rademacher'"],
    ),
    ('epsilon = 0.1', ['gradients.Spsa.epsilon = 0.1']),
    ("epsilons = {'a': 0.1}", ["gradients.Spsa.epsilons = {'a': 0.1}"]),
    ('epsilon_decay = 0.1', ['gradients.Spsa.epsilon_decay = 0.1']),
    ('epsilon_decay_steps = 9', ['gradients.Spsa.epsilon_decay_steps = 9']),
    ("gradient = 'spsa'", ['LV2Plugin.control_gradient = @gradients.Spsa()']),
    (
      "gradient = 'central_differences'",
      ['LV2Plugin.control_gradient = @gradients.CentralDifferences()'],
    ),
    (
      "input_gradient = 'adjoint'",
      ['LV2Plugin.audio_gradient = @gradients.BestAdjoint()'],
    ),
    (
      "input_gradient = 'gain_filter'",
      ['LV2Plugin.audio_gradient = @gradients.GainFilter()'],
    ),
    (
      "input_gradient = 'straight_through'",
      ['LV2Plugin.audio_gradient = @gradients.StraightThrough()'],
    ),
    (
      "input_gradient = 'none'",
      ['LV2Plugin.audio_gradient = @gradients.NoAudioGradient()'],
    ),
    ('input_epsilon = 0.1', ['gradients.BestAdjoint.epsilons = (0.1,)']),
    ('input_epsilon = None', []),
    ('scales = None', []),
    (
      "scales = {'a': 'log'}",
      ["LV2Plugin.ranges = {'a': (None, None, 'log')}"],
    ),
    ('seed = 3', []),
    ('log_gradients = True', []),
  ],
)
def test_each_argument_that_moved_has_an_entry(script, old, new):
  text, _ = script.update_text(f'p/LV2Plugin.{old}\nn = 4\n')
  assert text == ''.join(f'p/{line}\n' for line in new) + 'n = 4\n'
  assert script.update_text(text) == (text, [])


@pytest.mark.parametrize(
  'old, new',
  [
    # Ranges and scales, of which either may be a macro, in one.
    (
      [
        "p/LV2Plugin.ranges = {'a': (1, 2), 'b': %b}",
        "p/LV2Plugin.scales = {'b': 'log', 'c': 'linear'}",
        'b = (3, 4)',
      ],
      [
        "p/LV2Plugin.ranges = {'a': (1, 2), 'b': (3, 4, 'log'), "
        "'c': (None, None, 'linear')}",
        'b = (3, 4)',
      ],
    ),
    (
      ["p/LV2Plugin.ranges = {'a': %b}", "LV2Plugin.scales = {'d': 'log'}"],
      [
        "p/LV2Plugin.ranges = {'a': %b, 'd': (None, None, 'log')}",
        "LV2Plugin.ranges = {'d': (None, None, 'log')}",
      ],
    ),
    # The size of the perturbation is of the way that is taken.
    (
      [
        'p/LV2Plugin.input_epsilon = 1.0',
        "p/LV2Plugin.input_gradient = 'reversal'",
      ],
      [
        'p/gradients.Reversal.epsilon = 1.0',
        'p/LV2Plugin.audio_gradient = @gradients.Reversal()',
      ],
    ),
    (
      [
        'p/LV2Plugin.input_epsilon = 1.0',
        "LV2Plugin.input_gradient = 'straight_through'",
      ],
      ['LV2Plugin.audio_gradient = @gradients.StraightThrough()'],
    ),
    # So are sizes of the controls; differences have no probes.
    (
      [
        'p/LV2Plugin.epsilon = 0.05',
        'p/LV2Plugin.n_probes = 2',
        "p/LV2Plugin.gradient = 'central_differences'",
        'q/LV2Plugin.epsilon = 0.02',
      ],
      [
        'p/gradients.CentralDifferences.epsilon = 0.05',
        'p/LV2Plugin.control_gradient = @gradients.CentralDifferences()',
        'q/gradients.Spsa.epsilon = 0.02',
      ],
    ),
    # A chain took the gradients to the audio of its plugins.
    (
      ["LV2Chain.input_gradient = 'adjoint'", 'LV2Chain.n_probes = 4'],
      ['LV2Chain.audio_gradient = None', 'gradients.Spsa.n_probes = 4'],
    ),
    # What is the chain's is not for other plugins.
    (
      ["LV2Chain.gradient = 'spsa'", 'LV2Chain.n_probes = 4'],
      [
        'LV2Chain.control_gradient = @chain/gradients.Spsa()',
        'chain/gradients.Spsa.n_probes = 4',
      ],
    ),
    (
      ['d/effects.DiscreteLV2Plugin.warm_up = 0', 'ProxyLV2Plugin.seed = 1'],
      ['d/effects.Host.warm_up = 0'],
    ),
  ],
)
def test_arguments_that_are_looked_at_together(script, old, new):
  text, _ = script.update_text('\n'.join(old) + '\n')
  assert text.splitlines() == new


def test_what_has_to_be_changed_by_hand_is_said(script):
  for value in ('@ranges()', "{'a': @range()}"):
    with pytest.raises(ValueError, match='by hand'):
      script.update_text(
        f"p/LV2Plugin.ranges = {value}\np/LV2Plugin.scales = {{'a': 'log'}}\n"
      )


@pytest.mark.parametrize('options', _OPTIONS, ids=lambda path: path.stem)
def test_plugins_of_0_1_0_build_with_the_options_that_they_had(
  script, clean_gin, options
):
  text, _ = script.update_text(options.read_text())
  gin.parse_config(gin_files.name_modules(text), skip_unknown=False)
  nodes = processors.nodes(models.make_model().processor_group)
  if 'lv2_chain' in nodes:
    chain, kind = nodes.values()
    assert chain.control_gradient == gradients.Spsa(n_probes=4, memory=1)
    assert chain.audio_gradient == gradients.StraightThrough()
    assert kind.control_gradient == gradients.Spsa(n_probes=2)
    assert kind.host == effects.Host(warm_up=0)
    assert kind.control_map.is_log.tolist() == [True, False]
    return
  multiband, equalizer, limiter = nodes.values()
  assert multiband.control_gradient == gradients.CentralDifferences(
    epsilon=0.02, epsilons={'ratio0': 0.05}
  )
  assert multiband.audio_gradient == gradients.BestAdjoint()
  assert multiband.host == effects.Host(isolation='process')
  scales = dict(zip(multiband.symbols, multiband.control_map.is_log))
  assert scales['ratio0'] and not scales['freq0'] and scales['freq1']
  assert equalizer.control_gradient == gradients.Spsa(
    n_probes=3, sides=1, memory=1, hold=2, smoothing=2, epsilon_decay=0.101
  )
  assert equalizer.audio_gradient == gradients.Reversal(1.0)
  scales = dict(zip(equalizer.symbols, equalizer.control_map.is_log))
  assert not scales['g_3'] and scales['g_4']
  np.testing.assert_allclose(equalizer.control_map.high[:4], 5.0)
  assert limiter.control_gradient == gradients.Spsa(
    memory=1, directions='rademacher'
  )
  assert limiter.audio_gradient == gradients.GainFilter()
  assert limiter.host == effects.Host(strict=True)
  assert not limiter.control_map.is_log[0]
