"""The command dafx_run: its flags, its messages, and a whole small run."""

import csv
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import gin
import numpy as np
import pytest
import soundfile
from absl import app
from absl.testing import flagsaver

from dafx import lv2
from dafx.commands import (
  dafx_prepare,
  dafx_run,
  effect_modes,
  render_flags,
  running,
  train_mode,
)
from dafx.neural.nam import metadata
from dafx.training import trained_models, trainers

pytestmark = pytest.mark.usefixtures('empty_gin')

ROOT = pathlib.Path(__file__).parents[1]
RATE = 16000
TINY = """
import ddsp
import dafx.effects
import dafx.losses
import dafx.training.models
import dafx.training.models
include 'datasets/pairs.gin'
include 'optimization/base.gin'

data_path = '{data}'
sample_rate = 16000
n_samples = 2048
batch_size = 2
learning_rate = 1e-2
dafx.training.train.num_steps = 4
dafx.training.train.steps_per_validation = 4

dafx.training.models.make_model.model = @models.ControlModel()
ControlModel.encoder = @encoders.LogMelEncoder()
ControlModel.processor_group = @processors.ProcessorGroup()
ControlModel.losses = [@losses.MultiScaleSpectralLoss()]
ControlModel.sample_rate = %sample_rate
LogMelEncoder.sample_rate = %sample_rate
LogMelEncoder.hop_size = 512
LogMelEncoder.fft_size = 512
LogMelEncoder.width = 4
LogMelEncoder.n_mels = 8
MultiScaleSpectralLoss.fft_sizes = (256, 64)
processors.ProcessorGroup.dag = [
    (@gain/effects.LV2Plugin(), ['audio', 'gain_controls']),
    (@smooth/effects.LV2Plugin(), ['gain/signal', 'smooth_controls']),
]
gain/effects.LV2Plugin.name = 'gain'
gain/effects.LV2Plugin.uri = 'urn:dafx-test:gain'
gain/effects.LV2Plugin.sample_rate = %sample_rate
smooth/effects.LV2Plugin.name = 'smooth'
smooth/effects.LV2Plugin.uri = 'urn:dafx-test:onepole'
smooth/effects.LV2Plugin.sample_rate = %sample_rate
"""


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """A folder with data/ and gin/tiny.gin."""
  path = tmp_path_factory.mktemp('home')
  rng = np.random.default_rng(0)
  for split, count in (('train', 2), ('valid', 1), ('test', 1)):
    for i in range(count):
      audio = 0.1 * rng.standard_normal(RATE)
      for side, samples in (('input', audio), ('target', 0.3 * audio)):
        file = path / 'data' / split / side / f'{i}.wav'
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, samples, RATE, 'FLOAT')
  (path / 'gin').mkdir()
  (path / 'gin' / 'tiny.gin').write_text(TINY.format(data=path / 'data'))
  return path


def run(*words):
  """Runs the command in this process."""
  with flagsaver.flagsaver():
    argv = dafx_run.FLAGS(['dafx_run', *words])
    running.with_messages('dafx_run', dafx_run.main)(argv)


def message_of(capsys, *words):
  """Returns the one message that the command fails with."""
  capsys.readouterr()
  with pytest.raises(SystemExit) as caught:
    run(*words)
  assert caught.value.code == 1
  error = capsys.readouterr().err
  # The announcement, unless it failed before, and the message.
  assert error.count('dafx_run: ') in (1, 2) and 'Traceback' not in error
  assert error.endswith('\n  (--verbosity=1 shows the traceback.)\n')
  return error[error.rindex('dafx_run: ') :]


def flags_for(home, save_dir, *more):
  return (
    f'--gin_search_path={home}/gin',
    '--gin_file=tiny.gin',
    f'--save_dir={save_dir}',
    *more,
  )


# ----------------------------------------------------------------- Flags ----
@pytest.mark.parametrize(
  'words, message',
  [
    ([], '--mode=train needs --gin_file'),
    (['--mode=eval'], '--mode=eval needs --gin_file'),
    (['--mode=process', '--output=b.wav'], 'needs --input'),
    (['--mode=process', '--input=a.wav'], 'needs --output'),
    (['--mode=export'], '--mode=export needs --output'),
    (['--mode=match', '--input=a', '--output=b'], '--target .*or --reference'),
    (
      [
        '--mode=match',
        '--input=a',
        '--output=b',
        '--target=c',
        '--reference=d',
      ],
      '--target .*or --reference',
    ),
    (['--mode=match', '--reference=b.wav'], '--mode=match needs --input'),
    (
      ['--gin_file=a.gin', '--reference=b.wav'],
      'reference is for --mode=match',
    ),
    (['--gin_file=mastering.gin', 'more'], 'Not a flag: more'),
    (
      ['--gin_file=mastering.gin', '--n_plugins=1'],
      'for --mode=eval and sample',
    ),
    (['--mode=export', '--output=b', '--n_plugins=1'], 'n_plugins is for'),
    (['--mode=eval', '--gin_file=a.gin', '--knobs=1'], 'for --mode=process'),
    (['--mode=eval', '--gin_file=a.gin', '--amount=0'], 'for --mode=process'),
    (['--gin_file=a.gin', '--model=a'], 'eval and sample and process; --mode='),
    (
      ['--mode=process', '--model=a', '--save_dir=b'],
      '--model=a and --save_dir both name a model',
    ),
    (
      ['--mode=eval', '--gin_file=a.gin', '--model=a', '--restore_dir=b'],
      '--model=a and --restore_dir both',
    ),
    (
      ['--mode=sample', '--gin_file=a.gin', '--single_dir=b'],
      'for --mode=eval',
    ),
  ],
)
def test_flags_that_do_not_fit_together(words, message):
  with pytest.raises(app.UsageError, match=message):
    run(*words)


def test_an_export_says_before_training_what_it_cannot_be(tmp_path, capsys):
  flags = ['--mode=export', '--output=a.nam', f'--save_dir={tmp_path}']
  data = [f"--gin_param={x}_path = '{tmp_path}'" for x in ('input', 'target')]
  task = ['--gin_file=blackbox_lstm.gin']
  error = message_of(capsys, *flags, *task, *data)
  assert "activation='linear' alone" in error
  linear = "--gin_param=neural.Rnn.activation = 'linear'"
  run(*flags, *task, *data, linear)
  assert 'can be exported to a.nam' in capsys.readouterr().out
  assert not any(tmp_path.iterdir())


def test_flags_of_metadata_are_those_of_the_format():
  names = {field.name for field in dataclasses.fields(metadata.Metadata)}
  assert names - {'validation_esr'} == {*effect_modes.NAMES} - {'nam_version'}


def test_modes_that_there_are():
  with pytest.raises(Exception, match='fly.*train.*eval.*sample.*process'):
    run('--mode=fly')


# ------------------------------------------------------------------- gin ----
def test_unknown_files_and_folders(home, tmp_path, capsys):
  error = message_of(capsys, '--gin_file=masterin.gin')
  assert 'masterin.gin' in error and '--gin_search_path' in error
  for path in (ROOT / 'gin' / 'tasks').glob('*.gin'):
    assert path.name in error
  error = message_of(
    capsys, f'--gin_search_path={tmp_path}/no', '--gin_file=tiny.gin'
  )
  assert f'{tmp_path}/no: no such folder' in error
  (tmp_path / 'outer.gin').write_text("include 'not/there.gin'\n")
  error = message_of(
    capsys, f'--gin_search_path={tmp_path}', '--gin_file=outer.gin'
  )
  assert 'not/there.gin' in error


@pytest.mark.parametrize(
  'line, named',
  [
    ('dafx.training.train.num_stepz = 1', 'num_stepz'),
    ('dafx.training.trainn.num_steps = 1', 'trainn'),
    ('NoSuchLayer.size = 1', 'NoSuchLayer'),
    ('ControlModel.encoder = @encoders.NoSuchEncoder()', 'NoSuchEncoder'),
    ('import dafx.no_such_module', 'no_such_module'),
    ('batch_size = = 4', 'is no value. Text has quotes'),
  ],
)
def test_wrong_gin_is_named(home, tmp_path, capsys, line, named):
  save_dir = tmp_path / 'run'
  flags = flags_for(home, save_dir, f'--gin_param={line}')
  error = message_of(capsys, *flags)
  assert named in error
  (tmp_path / 'wrong.gin').write_text(f"include 'tiny.gin'\n{line}\n")
  gin.clear_config()
  error = message_of(
    capsys,
    *flags_for(home, save_dir),
    f'--gin_search_path={tmp_path}',
    '--gin_file=wrong.gin',
  )
  assert named in error
  assert not save_dir.exists()


def test_what_is_not_bound_is_named(home, tmp_path, capsys):
  error = message_of(
    capsys, '--gin_file=optimization/base.gin', f'--save_dir={tmp_path}/run'
  )
  assert 'model' in error
  gin.clear_config()
  text = TINY.replace("data_path = '{data}'\n", '')
  (tmp_path / 'pathless.gin').write_text(text)
  error = message_of(
    capsys,
    f'--gin_search_path={tmp_path}',
    '--gin_file=pathless.gin',
    f'--save_dir={tmp_path}/run',
  )
  assert 'data_path' in error


def test_wrong_values_are_named(home, tmp_path, capsys):
  for binding, named in (
    ('gain/effects.LV2Plugin.uri = "urn:dafx-test:gian"', 'urn:dafx-test:gain'),
    ('gain/effects.LV2Plugin.trainable = ["amuont"]', 'amount'),
    ('gain/effects.LV2Plugin.uri = "urn:dafx-test:alien"', 'urn:dafx-test:fe'),
    ('smooth/effects.LV2Plugin.name = "gain"', "named 'gain'"),
    ('data_path = "/not/there"', 'data_path says that the data are there'),
    ('n_samples = 2000', '2000 samples'),
    ('sample_rate = 44100', '16000 Hz, not 44100'),
  ):
    gin.clear_config()
    flags = flags_for(home, tmp_path / 'run', f'--gin_param={binding}')
    error = message_of(capsys, *flags)
    assert named in error
  assert not list((tmp_path / 'run').rglob('*.*'))


def test_missing_data_are_followed_by_what_makes_them(
  home, tmp_path, capsys, monkeypatch
):
  monkeypatch.setenv('HOME', str(tmp_path))
  for task in ('distortion', 'mastering', 'nonspeech', 'solo'):
    binding = f'--gin_param=data_path = "~/dafx/data/{task}"'
    gin.clear_config()
    error = message_of(capsys, *flags_for(home, tmp_path / 'run', binding))
    assert f'`dafx_prepare {task}' in error
    assert task in dafx_prepare.TASKS


def test_a_run_that_diverges_ends_with_a_status(
  home, tmp_path, capsys, monkeypatch
):
  def diverge(values, save_dir, workers):
    raise trainers.DivergedError(f'The loss of {save_dir.name} is nan.')

  monkeypatch.setattr(train_mode, 'train', diverge)
  error = message_of(capsys, *flags_for(home, tmp_path / 'run'))
  assert 'The loss of run is nan.' in error


def test_the_users_folder_comes_before_dafxs(home, tmp_path, capsys):
  (tmp_path / 'tasks').mkdir()
  (tmp_path / 'tasks' / 'mastering.gin').write_text('NoSuchLayer.mine = 1\n')
  error = message_of(
    capsys, f'--gin_search_path={tmp_path}', '--gin_file=mastering.gin'
  )
  assert 'NoSuchLayer' in error


@pytest.mark.slow
def test_a_single_setting_is_one_of_the_same_controls(home, tmp_path, capsys):
  short = (
    '--gin_param=dafx.training.train.num_steps = 1',
    '--gin_param=dafx.training.train.valid_provider = None',
  )
  flags = flags_for(home, tmp_path / 'run', *short)
  run(*flags)
  for name, high in (('same', 4), ('other', 2)):
    gin.clear_config()
    ranges = f"gain/effects.LV2Plugin.ranges = {{'amount': (0, {high})}}"
    more = ('--gin_file=single_setting.gin', f'--gin_param={ranges}', *short)
    run(*flags_for(home, tmp_path / name, *more))
  gin.clear_config()
  run(*flags, '--mode=eval', f'--single_dir={tmp_path}/same')
  rows = json.loads(
    (tmp_path / 'run' / 'evaluation' / 'metrics.json').read_text()
  )
  assert 'best single setting' in [row['system'] for row in rows]
  gin.clear_config()
  error = message_of(
    capsys, *flags, '--mode=eval', f'--single_dir={tmp_path}/other'
  )
  assert 'gain/amount: from 0 to 2; now from 0 to 4' in error
  assert '--single_dir' in error and 'single_setting.gin' in error


# -------------------------------------------------------------- All of it ----
def test_train_eval_sample_process(home, tmp_path, capsys):
  save_dir = tmp_path / 'run'
  late = "gain/effects.LV2Plugin.uri = 'urn:dafx-test:late'"
  flags = flags_for(home, save_dir, '--seed=1', f'--gin_param={late}')
  run(*flags)
  assert (save_dir / 'ckpt-4.index').exists()
  config = (save_dir / 'operative_config-0.gin').read_text()
  assert "gain/LV2Plugin.uri = 'urn:dafx-test:late'" in config

  gin.clear_config()
  run(*flags, '--mode=eval')
  rows = json.loads((save_dir / 'evaluation' / 'metrics.json').read_text())
  assert [(row['name'], row['system']) for row in rows] == [
    ('0', system)
    for system in (
      'untreated',
      'untreated at target loudness',
      'default setting',
      'default setting at target loudness',
      'random setting',
      'dafx',
    )
  ]
  assert all(
    np.isfinite(v) for k, v in rows[0].items() if k not in ('name', 'system')
  )
  gin.clear_config()
  run(*flags, '--mode=sample')
  assert (save_dir / 'samples' / 'audio' / '0.output.wav').exists()
  assert not (save_dir / 'samples' / 'metrics.json').exists()

  # process needs the folder of the run alone.
  source, out = tmp_path / 'mix.flac', tmp_path / 'master.wav'
  audio = 0.1 * np.random.default_rng(1).standard_normal([30000, 2])
  soundfile.write(source, audio, 44100, 'PCM_24')
  gin.clear_config()
  gin.config._LOCATION_PREFIXES[:] = ['']
  capsys.readouterr()
  run(
    '--mode=process',
    f'--save_dir={save_dir}',
    f'--input={source}',
    f'--output={out}',
  )
  assert capsys.readouterr().out.split() == [str(out)]
  info = soundfile.info(out)
  assert (info.samplerate, info.channels, info.frames) == (44100, 2, 30000)
  with open(tmp_path / 'master.controls.csv', newline='') as file:
    header = next(csv.reader(file))
  assert [h.split(' ')[0] for h in header] == [
    'time_s',
    'gain/amount',
    'smooth/amount',
  ]
  # The same as evaluation heard: one model.
  gin.clear_config()
  run(
    '--mode=process',
    f'--save_dir={save_dir}',
    f'--input={home}/data/test/input',
    f'--output={tmp_path}/again',
  )
  np.testing.assert_allclose(
    soundfile.read(tmp_path / 'again' / '0.wav')[0],
    soundfile.read(save_dir / 'evaluation' / 'audio' / '0.output.wav')[0],
    atol=1e-6,
  )

  # The first plugin alone: what is left is neither late nor smooth.
  first, source = tmp_path / 'first.wav', home / 'data/test/input/0.wav'
  gin.clear_config()
  run(
    '--mode=process',
    '--n_plugins=1',
    f'--save_dir={save_dir}',
    f'--input={source}',
    f'--output={first}',
  )
  with open(tmp_path / 'first.controls.csv', newline='') as file:
    header, *points = csv.reader(file)
  assert [h.split(' ')[0] for h in header] == ['time_s', 'gain/amount']
  points = np.array(points, float)
  values = np.interp((np.arange(250) + 0.5) * 64 / RATE, *points.T)
  renderer = lv2.Renderer('urn:dafx-test:late', RATE, ['amount'])
  assert renderer.latency == 37
  audio = soundfile.read(source)[0]
  expected = renderer.render(
    audio[np.newaxis, :, np.newaxis].astype('f'),
    values[np.newaxis, :, np.newaxis].astype('f'),
    hop_size=64,
  )
  out = soundfile.read(first)[0]
  np.testing.assert_allclose(out, expected[0, :, 0], atol=1e-5)
  assert np.corrcoef(out, audio)[0, 1] > 0.99
  gin.clear_config()
  run(*flags, '--mode=eval', '--n_plugins=1')
  text = (save_dir / 'evaluation' / 'metrics.json').read_text()
  errors = {row['system']: row['mae'] for row in json.loads(text)}
  wanted = soundfile.read(home / 'data/test/target/0.wav')[0]
  assert errors['dafx'] == pytest.approx(np.abs(out - wanted).mean(), rel=1e-4)
  assert errors['dafx'] != pytest.approx(rows[3]['mae'], rel=0.01)


@pytest.mark.slow
def test_a_model_that_comes_trained(home, tmp_path, capsys, monkeypatch):
  """It is found by its name; nothing is written beside it."""
  root = tmp_path / 'trained'
  folder = trained_models.folder
  monkeypatch.setattr(trained_models, 'folder', lambda n: folder(n, root))
  model = root / 'tiny'
  short = '--gin_param=dafx.training.train.num_steps = 1'
  flags = (f'--gin_search_path={home}/gin', '--gin_file=tiny.gin')
  run(*flags, f'--save_dir={model}', short)
  before = {path: path.stat().st_mtime_ns for path in model.rglob('*')}
  source = home / 'data' / 'test' / 'input' / '0.wav'
  audio = soundfile.read(source, dtype='float32')[0]
  out = {}
  for amount in ('0', '0.5', '1', None):
    gin.clear_config()
    run(
      '--mode=process',
      '--model=tiny',
      f'--input={source}',
      f'--output={tmp_path}/{amount}.wav',
      *([f'--amount={amount}'] if amount else []),
    )
    out[amount] = soundfile.read(tmp_path / f'{amount}.wav', dtype='float32')[0]
  np.testing.assert_array_equal(out['0'], audio)
  np.testing.assert_array_equal(out['1'], out[None])
  assert not np.allclose(out['0.5'], out['1'], atol=1e-6)
  assert not (tmp_path / '0.controls.csv').exists()

  gin.clear_config()
  run(*flags, '--mode=eval', '--model=tiny', f'--save_dir={tmp_path}/eval')
  assert (tmp_path / 'eval' / 'evaluation' / 'metrics.json').exists()
  after = {path: path.stat().st_mtime_ns for path in model.rglob('*')}
  assert after == before

  # What is wrong is told before TensorFlow is started.
  monkeypatch.delattr(running, 'prepare_tensorflow')
  process = ('--mode=process', f'--input={source}', f'--output={tmp_path}/x')
  error = message_of(capsys, *process, '--model=large')
  assert '--model=large: no such model comes with dafx; there are tiny' in error
  gone = "--gin_param=gain/LV2Plugin.uri = 'urn:zamaudio:NoSuch'"
  error = message_of(capsys, *process, '--model=tiny', gone)
  assert 'the tiny model' in error and 'apt-get install zam-plugins' in error


@pytest.mark.parametrize(
  'flags, kind, message',
  [
    (dict(n_plugins=1), 'effect', r'--n_plugins is not .*options are knobs'),
    (dict(single_dir='a'), 'effect', r'--single_dir is not .*take setting'),
    (dict(amount=0.0), 'effect', '--amount is not .*options are knobs'),
    (dict(knobs=['0.5']), 'control', r'--knobs is not .*n_plugins, setting'),
  ],
)
def test_flags_that_a_model_has_no_use_for(flags, kind, message):
  from dafx.training import models

  made = {
    'effect': models.EffectModel.__new__(models.EffectModel),
    'control': models.ControlModel.__new__(models.ControlModel),
  }
  other = made.pop(kind)
  dafx_run.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(**flags):
    with pytest.raises(ValueError, match=message):
      render_flags.options_of(dafx_run.FLAGS, other)
    (model,) = made.values()
    render_flags.options_of(dafx_run.FLAGS, model)


def test_modes_that_a_model_has_no_use_for():
  from dafx.training import models

  model = models.ControlModel.__new__(models.ControlModel)
  model.check_mode('process')
  for mode, advice in (
    ('export', '--mode=process'),
    ('profile', 'blackbox.gin'),
  ):
    message = f'mode={mode} is not for ControlModel.*{advice}'
    with pytest.raises(ValueError, match=message):
      model.check_mode(mode)


def test_process_and_eval_without_a_run(home, tmp_path, capsys):
  soundfile.write(tmp_path / 'in.wav', np.zeros(100), RATE)
  error = message_of(
    capsys,
    '--mode=process',
    f'--save_dir={tmp_path}/nothing',
    f'--input={tmp_path}/in.wav',
    f'--output={tmp_path}/out.wav',
  )
  assert f'{tmp_path}/nothing holds no trained model' in error
  error = message_of(
    capsys, *flags_for(home, tmp_path / 'nothing', '--mode=eval')
  )
  assert f'{tmp_path}/nothing holds no checkpoint' in error


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(home, tmp_path):
  save_dir = tmp_path / 'run'
  flags = flags_for(
    home, save_dir, '--gin_param=dafx.training.train.num_steps = 1000000'
  )
  with open(tmp_path / 'log', 'w') as log:
    process = subprocess.Popen(
      [sys.executable, '-m', 'dafx.commands.dafx_run', *flags],
      env={**os.environ, 'PYTHONPATH': str(ROOT)},
      stderr=log,
    )
    try:
      # Written after the first step. A run that fails ends the wait.
      while process.poll() is None:
        if (save_dir / 'operative_config-0.gin').exists():
          process.send_signal(signal.SIGINT)
          break
        time.sleep(0.05)
      code = process.wait()
    finally:
      process.kill()
      process.wait()
  text = (tmp_path / 'log').read_text()
  assert code == 130, text
  assert 'Traceback' not in text
  assert f'the same command goes on from {save_dir}' in text
  steps = [int(p.stem.split('-')[1]) for p in save_dir.glob('ckpt-*.index')]
  step = max(steps)
  assert f'Interrupted at step {step}' in text
  run(*flags, f'--gin_param=dafx.training.train.num_steps = {step + 2}')
  assert (save_dir / f'ckpt-{step + 2}.index').exists()
  assert (save_dir / f'operative_config-{step}.gin').exists()
