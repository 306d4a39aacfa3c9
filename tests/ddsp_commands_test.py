"""`python -m dafx.ddsp`: DDSP's own commands, and what is said without them."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from dafx import _environment, ddsp

_ROOT = pathlib.Path(__file__).resolve().parents[1]
SR = 16000


def run(*words, **environment) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, '-m', 'dafx.ddsp', *map(str, words)],
    env={**os.environ, 'PYTHONPATH': str(_ROOT), **environment},
    capture_output=True,
    text=True,
  )


def without(monkeypatch, *packages):
  """Has packages look as if they were not installed."""
  is_installed = _environment.is_installed
  monkeypatch.setattr(
    _environment,
    'is_installed',
    lambda name: name not in packages and is_installed(name),
  )


def test_help_names_the_commands(capsys):
  for words in ([], ['--help'], ['help']):
    ddsp.main(['dafx.ddsp', *words])
    text = capsys.readouterr().out
    assert all(command in text for command in ddsp.COMMANDS)


def test_a_command_that_there_is_not_is_refused(capsys):
  with pytest.raises(SystemExit) as stop:
    ddsp.main(['dafx.ddsp', 'train'])
  assert stop.value.code == 1
  text = capsys.readouterr().err
  assert "'train' is no command of DDSP; there are run, prepare_t" in text


def test_the_folder_of_gin_files_is_printed(capsys):
  ddsp.main(['dafx.ddsp', 'gin_folder'])
  folder = pathlib.Path(capsys.readouterr().out.strip())
  assert (folder / 'models' / 'solo_instrument.gin').is_file()


@pytest.mark.parametrize('command', ddsp.COMMANDS)
def test_what_is_not_installed_is_one_line(command, monkeypatch, capsys):
  without(monkeypatch, *ddsp.PACKAGES)
  with pytest.raises(SystemExit) as stop:
    ddsp.main(['dafx.ddsp', command])
  assert stop.value.code == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert f'{command} needs google-cloud-storage, cloudml-hypertune' in line
  assert 'scripts/setup ddsp' in line and "pip install 'dafx[ddsp]'" in line
  prepares = command in ('prepare_tfrecord', 'generate_synthetic_dataset')
  assert ('apache-beam, ' in line) == prepares


def test_home_folders_in_flags_are_found(monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  words = ['--save_dir=~/violin', '--mode=train', '--gin_param=a = "~/b"']
  assert ddsp.expand_home(words) == ['--save_dir=/home/me/violin', *words[1:]]


def test_every_package_is_in_the_extra():
  """But for Beam, which is installed beside it."""
  text = (_ROOT / 'setup.py').read_text(encoding='utf-8')
  extra = text[text.index("'ddsp': [") :]
  extra = extra[: extra.index('],')]
  for package in ddsp.PACKAGES.values():
    assert f"'{package}" in extra or package == 'apache-beam'
  setup = (_ROOT / 'scripts' / 'setup').read_text(encoding='utf-8')
  assert ddsp.BEAM in setup


# ---------------------- with the extra ddsp -----------------------------------
@pytest.fixture(scope='module')
def wav(tmp_path_factory):
  """A line of one voice, 2 s."""
  path = tmp_path_factory.mktemp('wav') / 'voice.wav'
  n = 2 * SR
  f0_hz = 220.0 * 1.3 ** (np.arange(n) / n)
  phase = 2 * np.pi * np.cumsum(f0_hz) / SR
  audio = 0.1 * sum(np.sin(k * phase) / k for k in range(1, 8))
  soundfile.write(path, audio, SR)
  return path


@pytest.fixture(scope='module')
def records(wav, tmp_path_factory):
  """Records of it, by DDSP's command."""
  folder = tmp_path_factory.mktemp('records')
  result = run(
    'prepare_tfrecord',
    f'--input_audio_filepatterns={wav}',
    f'--output_tfrecord_path={folder / "train.tfrecord"}',
    '--num_shards=1',
    '--example_secs=1',
    '--hop_secs=0.5',
    '--chunk_secs=0',
  )
  assert result.returncode == 0, result.stderr
  return folder


@pytest.mark.ddsp
def test_records_of_ddsp_are_read_with_their_pitch(records):
  from dafx.training import data

  provider = data.InstrumentProvider(records, n_samples=8000)
  (batch,) = provider.get_batch(2, shuffle=False, repeats=1).take(1)
  assert batch['audio'].shape == (2, 8000)
  f0_hz = np.asarray(batch['f0_hz'])[:, 10:-10]
  # The line goes from 220 Hz on.
  assert np.all((f0_hz > 215) & (f0_hz < 300))


@pytest.mark.ddsp
def test_a_model_is_trained_and_exported(records, tmp_path):
  sizes = [
    f"TFRecordProvider.file_pattern = '{records}/train.tfrecord*'",
    'TFRecordProvider.example_secs = 1',
    'F0LoudnessPreprocessor.time_steps = 250',
    'Harmonic.n_samples = 16000',
    'FilteredNoise.n_samples = 16000',
    'RnnFcDecoder.ch = 8',
    'RnnFcDecoder.rnn_channels = 8',
    'RnnFcDecoder.layers_per_stack = 1',
    'Reverb.reverb_length = 1000',
    'batch_size = 2',
    'ddsp.training.train_util.train.num_steps = 2',
  ]
  result = run(
    'run',
    '--mode=train',
    '--save_dir=~/violin',
    '--gin_file=models/solo_instrument.gin',
    '--gin_file=datasets/tfrecord.gin',
    *(f'--gin_param={size}' for size in sizes),
    HOME=str(tmp_path),
  )
  assert result.returncode == 0, result.stderr
  assert (tmp_path / 'violin' / 'ckpt-2.index').exists()
  result = run(
    'export',
    '--model_path=~/violin',
    '--save_dir=~/exported',
    '--inference_model=autoencoder',
    '--nometadata',
    HOME=str(tmp_path),
  )
  assert result.returncode == 0, result.stderr
  assert (tmp_path / 'exported' / 'saved_model.pb').exists()
  assert (tmp_path / 'exported' / 'reverb_ir_16000_hz.wav').exists()
  (line,) = [x for x in result.stderr.splitlines() if 'SavedModel is writ' in x]
  assert 'tensorflowjs and tflite_support cannot be installed' in line
