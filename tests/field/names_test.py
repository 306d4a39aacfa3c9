"""Audio files of any name and form, on terminals of any encoding.

Kind: what a file is called, and how it stores sound, costs nothing; what cannot
be sound is refused by name, before anything is made of it.
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from dafx import _folders
from dafx.audio import disk, files, scans, sources
from dafx.commands import match_mode
from dafx.lv2 import world
from dafx.training import checkpoint_files, data
from dafx.training.data_preparation import matching, pairs
from dafx.training.evaluation import tables
from dafx.training.models import outputs

_URI = 'http://calf.sourceforge.net/plugins/Compressor'
_NO_TEXT = os.fsdecode(b'caf\xe9 \xff.wav')  # of Latin-1, and of no encoding


def _sound(n_samples=8000):
  return 0.1 * np.random.default_rng(0).standard_normal([n_samples, 1])


@pytest.mark.parametrize(
  'name',
  [
    _NO_TEXT,
    'two\nlines.wav',
    '100%s {name} [1]*?.wav',
    '日本 ünï.wav',
    ' .wav',
  ],
)
def test_a_file_is_read_and_written_whatever_it_is_called(tmp_path, name):
  path, other = tmp_path / name, tmp_path / 'out' / name
  files.write(path, _sound(), 8000)
  audio, rate = files.read(path)
  np.testing.assert_array_equal(audio, np.float32(_sound()))
  assert rate == 8000 and files.find_audio(tmp_path) == [path]
  assert files.plan_outputs(tmp_path, tmp_path / 'out') == [(path, other)]
  scans.check([scans.of_file(path, rate)])
  np.testing.assert_array_equal(
    np.concatenate(list(sources.from_file(path).blocks())), audio
  )


def test_a_terminal_of_any_encoding_ends_no_run(tmp_path):
  name = _NO_TEXT
  files.write(tmp_path / name, _sound(), 8000)
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'dafx.commands.dafx_plugins', 'render', _URI),
      *(f'--input={tmp_path / name}', f'--output={tmp_path / "ü.wav"}'),
    ],
    env={**os.environ, 'PYTHONIOENCODING': 'ascii'},
    capture_output=True,
  )
  assert done.returncode == 0, done.stderr
  assert soundfile.info(tmp_path / 'ü.wav').frames == 8000
  # A path of bytes is those bytes, for whatever reads it from a pipe.
  assert os.fsencode(name) in done.stdout


@pytest.mark.parametrize('name', [_NO_TEXT, 'two\nlines', 'a\x1b[31mb\x85c'])
def test_a_preset_is_called_as_a_host_can_show_it(tmp_path, name):
  label = outputs.preset_label(name)
  assert label.isprintable() and len(label) == len(name)
  assert outputs.preset_label('Ünï 日本 (1)') == 'Ünï 日本 (1)'


@pytest.mark.parametrize(
  'kind', ['GSM610', 'G721_32', 'NMS_ADPCM_16', 'NMS_ADPCM_24', 'IMA_ADPCM']
)
def test_forms_that_are_read_from_their_start_alone(tmp_path, kind):
  path = tmp_path / 'voice.wav'
  soundfile.write(path, _sound(9600), 8000, subtype=kind)
  whole = soundfile.read(path, dtype='float32', always_2d=True)[0]
  assert files.read_info(path).frames == len(whole) >= 9600
  np.testing.assert_array_equal(files.read(path)[0], whole)
  np.testing.assert_array_equal(files.read(path, 500, 70)[0], whole[500:570])
  np.testing.assert_array_equal(
    np.concatenate(list(files.read_blocks(path, 1000))), whole
  )


@pytest.mark.parametrize('rate', [1, 999, 768001, 2**31 - 1])
def test_rates_that_no_sound_has_are_refused(tmp_path, rate):
  path = tmp_path / 'odd.wav'
  soundfile.write(path, _sound(100), rate)
  for read in (
    files.read_info,
    files.read,
    sources.from_file,
    lambda path: list(files.read_blocks(path, 10)),
    lambda path: files.plan_outputs(path, tmp_path / 'out.wav'),
  ):
    with pytest.raises(files.FileError, match=f'odd.wav says .* {rate} samp'):
      read(path)


def test_links_in_a_circle_are_files_that_are_not_there(tmp_path):
  circle, sound = tmp_path / 'circle.wav', tmp_path / 'sound.wav'
  circle.symlink_to(circle)
  files.write(sound, _sound(), 8000)
  for plan in (
    lambda: files.plan_outputs(circle, tmp_path / 'out.wav'),
    lambda: match_mode.plan(sound, tmp_path / 'out.wav', circle),
    lambda: match_mode.plan(sound, tmp_path / 'out.wav', None, [circle]),
    lambda: matching.check_folders(circle, tmp_path, tmp_path / 'out'),
  ):
    with pytest.raises(FileNotFoundError, match='circle.wav: there is no such'):
      plan()
  # In its place, an output takes the link's.
  (_, output), *_ = files.plan_outputs(sound, circle)
  files.write(output, _sound(), 8000)
  assert circle.is_file() and not circle.is_symlink()


@pytest.mark.parametrize('level', [1e9, 1e20, 3e38])
def test_what_floats_cannot_square_is_refused_with_its_place(tmp_path, level):
  audio = np.float32(_sound())
  audio[4000] = -level
  soundfile.write(tmp_path / 'a.wav', audio, 8000, subtype='FLOAT')
  told = r'1 samples that are beyond 180 dB full scale, the first at 0.500 s'
  with pytest.raises(files.FileError, match=rf'a.wav has {told}'):
    files.read(tmp_path / 'a.wav')
  with pytest.raises(files.FileError, match=told):
    list(sources.from_array(audio, 8000).blocks())


def test_integers_that_were_written_as_floats_are_reported(tmp_path, caplog):
  paths = [tmp_path / f'{i}.wav' for i in range(2)]
  for path, scale in zip(paths, (1.0, 2**15), strict=True):
    soundfile.write(path, scale * _sound(), 8000, subtype='FLOAT')
  scans.check([scans.of_file(path, 8000) for path in paths])
  assert 'This is far above full scale' in caplog.text
  assert f'{paths[1]} (by 8' in caplog.text and '0.wav' not in caplog.text


def test_a_name_too_long_for_what_lies_beside_is_refused_first(tmp_path):
  sound = tmp_path / 'sound.wav'
  files.write(sound, _sound(), 8000)
  (_, output), *_ = files.plan_outputs(sound, tmp_path / f'{"x" * 228}.wav')
  base = pathlib.Path(str(output)[: -len('.wav')])
  files.write(output, _sound(), 8000)
  with disk.replacing(base.with_name(f'{base.name}.settings.json')) as path:
    path.write_text('{}')
  for name in ('x' * 229, 'ü' * 115):
    with pytest.raises(ValueError, match='bytes; .* Choose a shorter one'):
      files.plan_outputs(sound, tmp_path / f'{name}.wav')


def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  files.write('a.wav', _sound(), 8000)
  for given in (('', 'out'), ('a.wav', '')):
    with pytest.raises(ValueError, match='put is empty. Give the path'):
      files.plan_outputs(*given)


@pytest.mark.parametrize('path', [None, '', '/nowhere', '/etc/passwd'])
def test_folders_of_plugins_that_hold_none_are_named(path, monkeypatch):
  world.list_uris()  # of the folders of the tests, once for this process
  if path is None:
    monkeypatch.delenv('LV2_PATH')
  else:
    monkeypatch.setenv('LV2_PATH', path)
  monkeypatch.setattr(world, 'list_uris', lambda: [])
  told = 'set LV2_PATH to the' if path is None else f"LV2_PATH is '{path}'"
  for uri in ('urn:somebody:else', 'urn:zamaudio:NoSuch'):
    with pytest.raises(ValueError, match=told):
      world.get_plugin(uri)


def test_pairs_are_made_whatever_they_are_called(tmp_path):
  name = os.fsdecode(b'caf\xe9')
  rng = np.random.default_rng(0)
  for stem in (name, 'two\nlines', '%s', 'd'):
    audio = 0.1 * rng.standard_normal([16000, 1])
    for side, gain in (('dry', 1.0), ('wet', 0.5)):
      files.write(tmp_path / side / f'{stem}.wav', gain * audio, 16000)
  for _ in range(2):  # made, then found to be there
    candidates, _ = matching.find_candidates(
      *(tmp_path / side for side in ('dry', 'wet'))
    )
    pairs.prepare_from_candidates(candidates, {}, tmp_path / 'out', 16000, 1)
  (made,) = (tmp_path / 'out').rglob(f'target/{name}.flac')
  assert np.isfinite(files.read(made)[0]).all()
  # What says so is JSON, in which names come back as they were.
  known = json.loads((tmp_path / 'out' / 'manifest.json').read_bytes())
  assert name in json.dumps(known, ensure_ascii=False)
  # So they do in records, which are bytes.
  found = data.find_pairs(made.parents[1])
  data.write_tfrecord(found, tmp_path / 'out' / 'train.tfrecord')
  provider = data.ShardProvider(str(tmp_path / 'out'), 'train', 16000, 400, 1)
  assert {item.name for item in provider.items()} == {p.name for p in found}
  assert name in {pair.name for pair in found}


def test_a_checkpoint_is_read_and_a_new_run_refused_by_its_folders_name(
  tmp_path,
):
  folder = tmp_path / os.fsdecode(b'caf\xe9')
  folder.mkdir()
  weights = tf.Variable([1.0, 2.0])
  with checkpoint_files.plain(folder / 'ckpt-1') as prefix:
    tf.train.Checkpoint(weights=weights).write(prefix)
  assert (folder / 'ckpt-1.index').is_file()
  read = checkpoint_files.value_in(folder / 'ckpt-1', 'weights', None)
  np.testing.assert_array_equal(read, [1.0, 2.0])
  with pytest.raises(ValueError, match='no text .* Rename it, or give another'):
    _folders.check_is_text(folder, '--save_dir')
  _folders.check_is_text(tmp_path / 'ünï\n%s', '--save_dir')


def test_tables_hold_names_that_are_no_text(tmp_path):
  rows = [{'file': os.fsdecode(b'caf\xe9'), 'esr': 0.5}]
  tables.write_table(rows, tmp_path, 'metrics')
  assert json.loads((tmp_path / 'metrics.json').read_bytes()) == rows
  assert 'caf' in (tmp_path / 'metrics.csv').read_text(encoding='utf-8')
