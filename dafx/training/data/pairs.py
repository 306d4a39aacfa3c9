"""Recordings of effects: pairs of dry and wet audio, at known knob settings.

Three layouts are read.

- One pair: two files, as Neural Amp Modeler takes them.
- A folder of pairs (ToneTwist AFx): `song.input.wav` and `song.target.wav`, in
  one folder or in two.
- The same at several settings: `P030_Q050.song.target.wav`, or
  `P030_Q050/song.target.wav`, beside one `song.input.wav`. A letter and three
  digits are a knob and its hundredths; a letter and a word a switch and its
  position (`MNormal`, `DSi`).
"""

import dataclasses
import os
import pathlib
import re

import numpy as np

from dafx.audio import files as audio_files

_KNOB = re.compile(r'^([A-Z])(\d{3})$')
_SWITCH = re.compile(r'^([A-Z])([A-Z][A-Za-z]*)$')


@dataclasses.dataclass(frozen=True)
class EffectPair:
  """A dry file and what an effect made of it.

  Attributes:
    name: What it is called in messages.
    input_path: The dry file.
    target_path: The wet file.
    knobs: Settings by knob: a number in [0, 1], or the position of a switch.
  """

  name: str
  input_path: pathlib.Path
  target_path: pathlib.Path
  knobs: dict[str, float | str] = dataclasses.field(default_factory=dict)


def parse_knobs(name: str) -> dict[str, float | str] | None:
  """Reads knob settings from a name such as 'P030_Q050_MNormal'.

  Args:
    name: Letters and settings, joined by underscores.

  Returns:
    Numbers in [0, 1] and positions of switches, by letter; None if the name is
    not one of settings.

  Raises:
    ValueError: A setting above 100, or a knob named twice.
  """
  knobs: dict[str, float | str] = {}
  for word in name.split('_'):
    number, switch = _KNOB.match(word), _SWITCH.match(word)
    found = number or switch
    if found is None:
      return None
    letter, setting = found.groups()
    if letter in knobs:
      raise ValueError(f'{name!r} sets the knob {letter!r} twice.')
    if number and int(setting) > 100:
      raise ValueError(
        f'{name!r} sets the knob {letter!r} to {setting}, in hundredths; it '
        'must lie between 000 and 100.'
      )
    knobs[letter] = int(setting) / 100 if number else setting
  return knobs


def find_effect_pairs(
  input_folder: str | os.PathLike,
  target_folder: str | os.PathLike | None = None,
) -> list[EffectPair]:
  """Finds the pairs of a folder, or of two, subfolders included.

  Args:
    input_folder: Where `*.input.wav` are (any suffix that can be read).
    target_folder: Where `*.target.wav` are; the same by default.

  Returns:
    Pairs, sorted by name.

  Raises:
    FileNotFoundError: A folder is missing or holds no audio.
    ValueError: Files without partner, two dry files of one name, or settings
      that do not read; the message names all of them.
  """
  folders = (
    pathlib.Path(input_folder),
    pathlib.Path(target_folder or input_folder),
  )
  dry: dict[str, pathlib.Path] = {}
  faults = []
  for path in audio_files.find_audio(folders[0]):
    name, kind = _split_name(path)
    if kind == 'input':
      if name in dry:
        faults.append(f'{path} has the name of {dry[name]}')
      dry[name] = path
  pairs, used = [], set()
  for path in audio_files.find_audio(folders[1]):
    name, kind = _split_name(path)
    if kind != 'target':
      continue
    try:
      song, knobs = _read_settings(name, path.parent.name)
    except ValueError as error:
      faults.append(f'{path}: {error}')
      continue
    if song not in dry:
      faults.append(f'{path} has no {song}.input{path.suffix}')
      continue
    used.add(song)
    shown = path.relative_to(folders[1]).as_posix()
    pairs.append(EffectPair(shown, dry[song], path, knobs))
  faults += [
    f'{dry[s]} has no target of that name' for s in sorted(dry) if s not in used
  ]
  lettered = {tuple(sorted(pair.knobs)) for pair in pairs}
  if len(lettered) > 1:
    faults.append(
      'files differ in what knobs they have: '
      + ', '.join('/'.join(k) or 'none' for k in sorted(lettered))
    )
  if faults:
    raise ValueError(
      f'{len(faults)} faults in the pairs of {folders[0]} and {folders[1]}:\n  '
      + '\n  '.join(faults)
      + '\nName pairs song.input.wav and song.target.wav, settings as '
      'P030_Q050.song.target.wav.'
    )
  if not pairs:
    raise FileNotFoundError(
      f'{folders[1]} holds no pairs: name them song.input.wav and '
      'song.target.wav.'
    )
  return sorted(pairs, key=lambda pair: pair.name)


def _split_name(path):
  """'song.input.wav' -> ('song', 'input')."""
  name, _, kind = path.stem.rpartition('.')
  return name, kind


def _read_settings(name, folder):
  """Returns (name of the song, knobs) of a wet file."""
  first, _, rest = name.partition('.')
  if rest:
    knobs = parse_knobs(first)
    if knobs is not None:
      return rest, knobs
  return name, parse_knobs(folder) or {}


def knob_columns(pairs: list[EffectPair]) -> list[str]:
  """Names the columns that settings become as numbers.

  Args:
    pairs: All the pairs of a model.

  Returns:
    One name per knob, and one per position of a switch, such as 'M=Normal'.
  """
  columns = []
  for letter in sorted(pairs[0].knobs):
    values = {pair.knobs[letter] for pair in pairs}
    if any(isinstance(v, str) for v in values):
      columns += [f'{letter}={v}' for v in sorted(map(str, values))]
    else:
      columns.append(letter)
  return columns


def knob_values(pair: EffectPair, columns: list[str]) -> np.ndarray:
  """Returns a pair's settings as numbers in [0, 1], shape [n_columns].

  Args:
    pair: The pair.
    columns: As `knob_columns` names them; those of switches are 0 or 1.

  Raises:
    ValueError: A setting that no column stands for.
  """
  values = []
  for column in columns:
    letter, is_switch, position = column.partition('=')
    setting = pair.knobs.get(letter)
    values.append(float(setting == position) if is_switch else setting)
  switches = {c for c in columns if '=' in c}
  for letter, setting in pair.knobs.items():
    known = letter in columns or f'{letter}={setting}' in switches
    if not known or None in values:
      raise ValueError(
        f'{pair.name} has the settings {pair.knobs}; the model knows '
        f'{", ".join(columns) or "none"}.'
      )
  return np.array(values, np.float32)


def contiguous_part(
  n_samples: int, split: str, valid_fraction: float, test_fraction: float = 0.0
) -> tuple[int, int]:
  """Returns which part of a file a split is.

  Training has the start, then comes validation, then the test: parts side by
  side, not mixed, so that no sample is heard in two of them.

  Args:
    n_samples: Length of the file.
    split: 'train', 'valid', 'test' or 'all'.
    valid_fraction: Share of 'valid', in (0, 1).
    test_fraction: Share of 'test', in [0, 1).

  Returns:
    (first sample, sample after the last).

  Raises:
    ValueError: Another split, or shares that leave nothing to train on.
  """
  if not (valid_fraction > 0.0 <= test_fraction) or (
    valid_fraction + test_fraction >= 1.0
  ):
    raise ValueError(
      f'valid_fraction={valid_fraction} must be above 0, test_fraction='
      f'{test_fraction} at least 0, and both together below 1.'
    )
  first = round(n_samples * (1.0 - valid_fraction - test_fraction))
  second = round(n_samples * (1.0 - test_fraction))
  parts = {
    'train': (0, first),
    'valid': (first, second),
    'test': (second, n_samples),
    'all': (0, n_samples),
  }
  if split not in parts:
    raise ValueError(f'split={split!r} must be one of {tuple(parts)}.')
  return parts[split]
