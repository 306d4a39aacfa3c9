"""What users met with advice: a remedy that a message names works, and is safe.

Each group of tests begins with a line on the kind of fault that it stands for.
Remedies of runs are carried out in `runs_test`.
"""

import ast
import io
import pathlib
import re
import shutil
import tarfile

import numpy as np
import pytest
import soundfile

from dafx import lv2
from dafx.audio import files
from dafx.training.data_preparation import (
  archives,
  deb,
  mastering,
  pairs,
)
from dafx.training.data_preparation import files as prepared

ROOT = pathlib.Path(__file__).parents[2]
DESTROYS = re.compile(
  r'\b(delete|remove|erase|overwrite|unlink|rm)\b (it|this|them|that|the|one)\b'
  r'|\b(delete|remove|erase)\b(,| or\b)|\brm -',
  re.IGNORECASE,
)


# -------- No advice that destroys. --------------------------------------------
def strings_of(path):
  """Yields lines and strings of a module, but for docstrings."""
  tree = ast.parse(path.read_text(encoding='utf-8'))
  docs = {
    id(node.body[0].value)
    for node in ast.walk(tree)
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    and node.body
    and isinstance(node.body[0], ast.Expr)
  }
  for node in ast.walk(tree):
    if id(node) in docs:
      continue
    if isinstance(node, ast.JoinedStr):
      parts = [p.value for p in node.values if isinstance(p, ast.Constant)]
      yield node.lineno, ' '.join(map(str, parts))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
      yield node.lineno, node.value


def test_no_message_advises_to_delete():
  found = [
    f'{path}:{line}: {text}'
    for path in sorted((ROOT / 'dafx').rglob('*.py'))
    for line, text in strings_of(path)
    if DESTROYS.search(text)
  ]
  assert not found
  for text in ('Delete it', 'or delete this one', 'remove or replace it'):
    assert DESTROYS.search(text)
  for text in ('were deleted', 'removes the latency', 'removed'):
    assert not DESTROYS.search(text)


# -------- A remedy that is named is carried out. ------------------------------
def sound(n_samples=4000, n_channels=1, seed=0):
  rng = np.random.default_rng(seed)
  return 0.1 * rng.standard_normal([n_samples, n_channels])


def test_pairs_of_another_form_are_left_and_another_folder_is_taken(tmp_path):
  first = prepared.Manifest(tmp_path / 'set')
  first.settle('files', 8000, 1, 0)
  first.write_pair('train', 'a', (sound(), sound()), 8000, (8000, 1))
  before = {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
  again = prepared.Manifest(tmp_path / 'set')
  with pytest.raises(ValueError, match=r'Choose another output_dir\.$'):
    again.settle('files', 16000, 1, 0)
  with pytest.raises(ValueError, match=r'Choose another output_dir\.$'):
    again.has('train', 'a', 16000, 1)
  assert before == {p: p.read_bytes() for p in before}
  other = prepared.Manifest(tmp_path / 'other')
  pairs.settle(other, 16000, 1, 0)
  other.write_pair('train', 'a', (sound(), sound()), 8000, (16000, 1))
  assert other.has('train', 'a', 16000, 1)


def tarred():
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode='w:gz') as archive:
    info = tarfile.TarInfo('a.ogg')
    info.size = 5000
    archive.addfile(info, io.BytesIO(np.random.default_rng(0).bytes(5000)))
  return buffer.getvalue()


def packaged():
  data = tarred()
  parts = [b'!<arch>\n']
  for name, part in ((b'debian-binary', b'2.0\n'), (b'data.tar.gz', data)):
    size = str(len(part)).encode()
    parts.append(
      name.ljust(16) + b'0'.ljust(12) + 2 * b'0'.ljust(6) + b'644'.ljust(8)
    )
    parts.append(size.ljust(10) + b'`\n' + part + len(part) % 2 * b'\n')
  return b''.join(parts)


@pytest.mark.parametrize(
  'make, unpack', [(tarred, archives.unpack), (packaged, deb.unpack)]
)
@pytest.mark.parametrize('how', ['cut', 'spoilt', 'other'])
def test_a_damaged_archive_is_renamed_and_comes_again(
  tmp_path, make, unpack, how
):
  path, good = tmp_path / 'x_1.deb', make()
  bad = {'cut': good[:-60], 'other': b'?' * 9000}
  bad['spoilt'] = good[:2000] + b'?' * 100 + good[2100:]
  path.write_bytes(bad[how])
  with pytest.raises(ValueError, match=f'^{path} is .*Rename it'):
    unpack(path, tmp_path / 'out', lambda name: True)
  path.rename(tmp_path / 'renamed')
  path.write_bytes(good)  # as the same command downloads it
  (found,) = unpack(path, tmp_path / 'out', lambda name: True)
  assert found.stat().st_size == 5000


@pytest.mark.parametrize(
  'audio', [np.zeros([8820, 2]), sound(3000, 2)], ids=['silent', 'short']
)
def test_mixes_that_cannot_be_mastered_are_moved_away(
  tmp_path, audio, monkeypatch
):
  monkeypatch.setattr(mastering, 'make_input', lambda mix, *_: mix)
  monkeypatch.setattr(mastering, 'make_target', lambda mix, *_: mix)
  mixes = tmp_path / 'mixes'
  for split in ('train', 'valid'):
    (mixes / split).mkdir(parents=True)
    soundfile.write(mixes / split / 'good.wav', sound(8820, 2), 8820)
  soundfile.write(mixes / 'train/bad.wav', audio, 8820)

  def prepare():
    mastering.prepare_from_mixes(
      mixes, tmp_path / 'out', 8820, 2, {'train': 1, 'valid': 1}
    )

  with pytest.raises(ValueError, match=rf'bad\.wav .*Move it out of {mixes}\.'):
    prepare()
  shutil.move(mixes / 'train/bad.wav', tmp_path / 'bad.wav')
  prepare()
  assert set(prepared.Manifest(tmp_path / 'out').pairs) == {
    'train/good_0',
    'valid/good_0',
  }


def test_another_label_takes_no_other_bundle(tmp_path):
  uri = 'urn:dafx-test:gain'
  bundle = lv2.write_preset(tmp_path, uri, 'Mine', {'amount': 1.0})
  (bundle / 'manifest.ttl').write_text('# of another program')
  with pytest.raises(FileExistsError, match='Choose another folder or label'):
    lv2.write_preset(tmp_path, uri, 'Mine', {'amount': 0.5})
  assert (bundle / 'manifest.ttl').read_text() == '# of another program'
  for folder, label in ((tmp_path, 'Other'), (tmp_path / 'other', 'Mine')):
    assert lv2.write_preset(folder, uri, label, {'amount': 0.5}) != bundle


@pytest.mark.parametrize(
  'content, said',
  [(b'', 'is an empty file'), (b'words', 'no audio file')],
)
def test_files_that_are_no_audio_are_moved_away(tmp_path, content, said):
  good, bad = tmp_path / 'in/a.wav', tmp_path / 'in/b.wav'
  good.parent.mkdir()
  soundfile.write(good, sound(), 8000)
  bad.write_bytes(content)
  with pytest.raises(files.FileError, match=f'{said}.*out of its folder'):
    files.plan_outputs(tmp_path / 'in', tmp_path / 'out')
  bad.rename(tmp_path / 'b.wav')
  assert len(files.plan_outputs(tmp_path / 'in', tmp_path / 'out')) == 1
