"""Finds which files are pairs, by their names.

A file's name is its path below its folder, without suffix, so that song.wav and
song.flac are one. What names have besides is told by patterns, such as
'{name}_dry' and '{name}_wet'; nothing is guessed.
"""

import dataclasses
import os
import pathlib
import re
import shlex
import unicodedata
from collections.abc import Collection

from dafx import _folders
from dafx.audio import files as audio_files

_SPLITS = ('train', 'valid', 'test')
_N_NAMED = 3  # files that a message names
# File systems take names of so many bytes. What is written first has a longer
# name than the pair: .<name>.flac.partial.flac.
_MAX_NAME_BYTES = 255 - len('..flac.partial.flac')


@dataclasses.dataclass(frozen=True)
class Candidate:
  """Two files that may be a pair.

  Attributes:
    name: What it will be called.
    input_path: File of the input.
    target_path: File of the target.
    matched_by: 'name', or 'order' where names have nothing in common.
  """

  name: str
  input_path: pathlib.Path
  target_path: pathlib.Path
  matched_by: str = 'name'

  @property
  def source(self) -> dict:
    """Which files these are, and of what size and date."""
    sides = {'input': self.input_path, 'target': self.target_path}
    return {
      side: [os.fspath(path), path.stat().st_size, path.stat().st_mtime_ns]
      for side, path in sides.items()
    }


# ---------------------- Folders -----------------------------------------------
def check_folders(
  input_folder: pathlib.Path,
  target_folder: pathlib.Path,
  output_dir: pathlib.Path,
):
  """Checks the folders of own pairs before anything is written.

  Args:
    input_folder: Where inputs are.
    target_folder: Where targets are.
    output_dir: What is to get the pairs.

  Raises:
    FileNotFoundError: A folder is not there.
    ValueError: It is a file, or what is written would lie among what is read.
  """
  written = _folders.resolved(output_dir)
  for flag, folder in (('input', input_folder), ('target', target_folder)):
    if folder.is_file():
      raise ValueError(
        f'--{flag}={folder} is a file; give the folder that holds it. (An '
        'effect is learned from one recording of it by dafx_run, '
        '--gin_file=blackbox_demo.gin --gin_file=recordings.gin.)'
      )
    if not folder.is_dir():
      raise FileNotFoundError(f'--{flag}={folder}: there is no such folder.')
    read = _folders.resolved(folder)
    if written.is_relative_to(read) or any(
      read.is_relative_to(written / split) for split in _SPLITS
    ):
      raise ValueError(
        f'--output_dir={output_dir} and --{flag}={folder} lie in one another: '
        'what is written would be read as yours. Choose another --output_dir.'
      )


# ---------------------- Names -------------------------------------------------
def _parse_pattern(pattern: str):
  if pattern.count('{name}') != 1:
    raise ValueError(
      f'The pattern {pattern!r} must hold {{name}} once, such as '
      "'{name}_dry' or 'dry/{name}'."
    )
  for suffix in audio_files.AUDIO_SUFFIXES:
    pattern = pattern.removesuffix(suffix)
  before, after = pattern.split('{name}')
  text = re.escape(before) + '(.+)' + re.escape(after)
  return re.compile(unicodedata.normalize('NFC', text))


def _stem(path, folder):
  """Returns a file's path below its folder, without suffix."""
  place = path.relative_to(folder).with_suffix('').as_posix()
  return unicodedata.normalize('NFC', place)


def _find_side(folder, pattern, side, left_out):
  """Returns a folder's files by name; adds to `left_out`."""
  expression = _parse_pattern(pattern)
  by_name: dict[str, pathlib.Path] = {}
  for path in audio_files.find_audio(folder):
    match = expression.fullmatch(_stem(path, folder))
    if not match:
      continue
    if pathlib.PurePath(match[1]).name.startswith('.'):
      left_out[path.name] = (
        f'{match[1]!r} would be a hidden file; take the dot into the pattern'
      )
    elif len(os.fsencode(pathlib.PurePath(match[1]).name)) > _MAX_NAME_BYTES:
      left_out[path.name] = (
        f'its name is too long for the files that are made of it: it may have '
        f'{_MAX_NAME_BYTES} bytes without suffix. Rename both files of the pair'
      )
    elif match[1] in by_name:
      left_out[path.name] = f'has the name of {by_name[match[1]]}'
    else:
      by_name[match[1]] = path
  if not by_name:
    reasons = ''.join(f'\n  {name}: {why}' for name, why in left_out.items())
    raise FileNotFoundError(
      f'{folder} holds no {side}s: no audio file is called {pattern} (with '
      f'a suffix such as .wav).{reasons}'
    )
  return by_name


def find_candidates(
  input_folder: pathlib.Path,
  target_folder: pathlib.Path,
  input_pattern: str = '{name}',
  target_pattern: str = '{name}',
  by_order: bool = False,
) -> tuple[list[Candidate], dict[str, str]]:
  """Finds what may be pairs in two folders, subfolders included.

  Args:
    input_folder: Where inputs are.
    target_folder: Where targets are; the same where patterns tell them apart.
    input_pattern: Path of an input below its folder, without suffix; `{name}`
      stands for what it has in common with its target.
    target_pattern: Path of a target.
    by_order: Whether files whose names have nothing in common are matched in
      alphabetical order, if there are as many of one kind as of the other.

  Returns:
    The candidates, and what is none with the reason.

  Raises:
    FileNotFoundError: There is no such folder, or no inputs or targets in it.
    ValueError: A pattern without {name}, files that would be inputs and targets
      alike, or no input with the name of a target.
  """
  left_out: dict[str, str] = {}
  inputs = _find_side(input_folder, input_pattern, 'input', left_out)
  targets = _find_side(target_folder, target_pattern, 'target', left_out)
  _check_sides_differ(input_folder, target_folder, inputs, targets)
  common = sorted(inputs.keys() & targets.keys())
  if not common and by_order and len(inputs) == len(targets):
    pairs = zip(sorted(inputs), sorted(targets), strict=True)
    return [
      Candidate(n, inputs[n], targets[m], 'order') for n, m in pairs
    ], left_out
  if not common:
    raise ValueError(
      f'No input in {input_folder} has the name of a target in '
      f'{target_folder}: there are {_some(inputs)}, and {_some(targets)}. '
      + _advice(input_folder, target_folder, inputs, targets)
    )
  candidates = [Candidate(n, inputs[n], targets[n]) for n in common]
  for ours, theirs, others in (
    (inputs, targets, 'targets'),
    (targets, inputs, 'inputs'),
  ):
    for name in sorted(ours.keys() - theirs.keys()):
      left_out[name] = f'{ours[name]} has no partner among the {others}'
  return candidates, left_out


def _check_sides_differ(input_folder, target_folder, inputs, targets):
  """Raises ValueError for files that would be inputs and targets alike."""
  ours = {_folders.resolved(path) for path in inputs.values()}
  shared = sorted(ours & {_folders.resolved(path) for path in targets.values()})
  if not shared:
    return
  if _folders.resolved(input_folder) == _folders.resolved(target_folder):
    why = f'inputs and targets are both looked for in {input_folder}'
  else:
    why = f'{input_folder} and {target_folder} lie in one another'
  raise ValueError(
    f'{shared[0]} would be input and target alike ({len(shared)} files would): '
    f'{why}. Give a folder for each side, or tell them apart by '
    "--input_pattern='{name}_dry' --target_pattern='{name}_wet'."
  )


def _some(names):
  """Returns the first of some names, for a message."""
  more = ', …' if len(names) > _N_NAMED else ''
  return ', '.join(sorted(names)[:_N_NAMED]) + more


# ---------------------- Advice ------------------------------------------------
def _advice(input_folder, target_folder, inputs, targets):
  """Returns what to do where no names agree."""
  sides = [
    [_stem(path, folder) for path in by_name.values()]
    for folder, by_name in ((input_folder, inputs), (target_folder, targets))
  ]
  patterns = suggest_patterns(*sides)
  if patterns is None:
    return 'Give the files of a pair one name.'
  flags = zip(('input', 'target'), patterns, strict=True)
  return 'These would pair them: ' + ' '.join(
    shlex.quote(f'--{side}_pattern={pattern}') for side, pattern in flags
  )


def suggest_patterns(
  inputs: Collection[str], targets: Collection[str]
) -> tuple[str, str] | None:
  """Looks for patterns by which names that differ would pair.

  What all names of a side end with is left out, or what they begin with.

  Args:
    inputs: Paths of inputs, without suffix.
    targets: Paths of targets.

  Returns:
    Patterns of inputs and of targets by which each input has a target; None
    where these do not.
  """
  for backwards in (True, False):
    patterns, names = [], []
    for side in (inputs, targets):
      read = [name[::-1] for name in side] if backwards else list(side)
      common = os.path.commonprefix(read)
      n = len(common)
      if backwards:
        patterns.append('{name}' + common[::-1])
        names.append({name[: len(name) - n] for name in side})
      else:
        patterns.append(common + '{name}')
        names.append({name[n:] for name in side})
    if names[0] <= names[1] and '' not in names[0]:
      return patterns[0], patterns[1]
  return None
