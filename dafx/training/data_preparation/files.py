"""What all ways of making pairs share: files, forms, plugins at one setting."""

import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from absl import logging

from dafx import lv2
from dafx.audio import disk, json_files
from dafx.audio import files as audio_files
from dafx.training import labels, reading

SPLITS = ('train', 'valid', 'test')
_CHUNK_BYTES = 2**20
# Of a manifest of some 100,000 pairs.
_MOST_BYTES = 2**28


@functools.lru_cache(maxsize=8)
def _renderer(uri: str, sample_rate: int, symbols: tuple[str, ...]):
  return lv2.Renderer(uri, sample_rate, symbols, n_threads=1, warm_up=4096)


def render(
  uri: str, audio: np.ndarray, sample_rate: int, settings: dict[str, float]
) -> np.ndarray:
  """Renders a plugin at one setting.

  Args:
    uri: The plugin.
    audio: Shape [n_samples, n_channels].
    sample_rate: In Hz.
    settings: Values by symbol, in port units.

  Returns:
    Audio of that length.
  """
  renderer = _renderer(uri, sample_rate, tuple(settings))
  values = np.array([[list(settings.values())]], np.float32)
  return renderer.render(np.asarray(audio, np.float32)[np.newaxis], values)[0]


def find_written(stem: pathlib.Path) -> pathlib.Path | None:
  """Returns the file that `write_audio` made for a stem, if there is one."""
  for suffix in ('.flac', '.wav'):
    path = stem.with_name(stem.name + suffix)
    if path.exists():
      return path
  return None


def write_audio(
  stem: pathlib.Path, audio: np.ndarray, sample_rate: int
) -> pathlib.Path:
  """Writes audio whole, under a temporary name first.

  A file of the other suffix, from before, goes.

  Args:
    stem: Path without suffix. It becomes 24 bit FLAC, or WAV of floats where
      samples lie beyond full scale, which FLAC would clip.
    audio: Shape [n_samples, n_channels].
    sample_rate: In Hz.

  Returns:
    The file.

  Raises:
    OSError: No room on the disk.
  """
  is_loud = bool(np.abs(audio).max(initial=0.0) >= 1.0)
  suffix, other = ('.wav', '.flac') if is_loud else ('.flac', '.wav')
  path = stem.with_name(stem.name + suffix)
  audio_files.write(path, audio, sample_rate)
  stem.with_name(stem.name + other).unlink(missing_ok=True)
  return path


def write_sides(
  folder: pathlib.Path,
  name: str,
  sides: Iterable[np.ndarray],
  source_hz: int,
  form: tuple[int, int],
  events: Iterable[labels.Event] = (),
):
  """Writes the files of a pair.

  Args:
    folder: Of its split.
    name: Its name.
    sides: Input and target, [n_samples, n_channels] each.
    source_hz: Their rate.
    form: Rate and channels of the files.
    events: What is labelled in it, at the rate of the sides.
  """
  sample_rate, n_channels = form
  for side, audio in zip(('input', 'target'), sides, strict=True):
    audio = reading.conform(audio, source_hz, sample_rate, n_channels)
    write_audio(folder / side / name, audio, sample_rate)
  labels_path = labels.events_path(folder, name)
  labels_path.unlink(missing_ok=True)
  if scaled := [event.at_rate(source_hz, sample_rate) for event in events]:
    labels.write_events(scaled, labels_path)


def is_there(stem: pathlib.Path, sample_rate: int, n_channels: int) -> bool:
  """Returns whether a file was written before, by the same settings.

  Raises:
    ValueError: It was written by other settings.
  """
  path = find_written(stem)
  if path is None:
    return False
  info = audio_files.read_info(path)
  if (info.samplerate, info.channels) != (sample_rate, n_channels):
    raise ValueError(
      f'{path} is there already, with {info.samplerate} Hz and '
      f'{info.channels} channels, not {sample_rate} Hz and {n_channels}. '
      'Choose another output_dir.'
    )
  return True


def write_json(path: pathlib.Path, content):
  """Writes JSON whole, under a temporary name first."""
  path.parent.mkdir(parents=True, exist_ok=True)
  text = json.dumps(content, indent=1, ensure_ascii=False)
  with disk.replacing(path) as temporary:
    # Bytes of names that are no text become escapes, as JSON has them too.
    temporary.write_text(text + '\n', 'utf-8', errors='backslashreplace')


def read_state(path: pathlib.Path) -> dict:
  """Reads a JSON object that says what was done; one that is damaged is empty.

  What it says can be found out anew. No value of it need be of any type.
  """
  if not path.exists():
    return {}
  try:
    return {k: v.value for k, v in _read(path).fields().items()}
  except audio_files.FileError as error:
    logging.warning('%s What it says is found out anew.', error)
    return {}


def _read(path):
  return json_files.read(path, _MOST_BYTES)


def sha256(path: pathlib.Path) -> str:
  """Returns the SHA-256 of a file, in hexadecimal digits."""
  digest = hashlib.sha256()
  with open(path, 'rb') as file:
    while chunk := file.read(_CHUNK_BYTES):
      digest.update(chunk)
  return digest.hexdigest()


def _object(content, key):
  """Returns an object of a manifest, {} where it has none."""
  place = content.get(key)
  return {k: v.value for k, v in place.fields().items()} if place else {}


def _check_key(place):
  """Raises FileError where a text is not '<split>/<name>'."""
  split, _, name = place.text().partition('/')
  if split not in SPLITS or not disk.is_safe_name(name):
    raise place.error("'<split>/<name>', inside of the folder")


class Manifest:
  """What was made of what: manifest.json of a folder of pairs.

  Written whole before and after each pair, so that an interrupted preparation
  goes on. `pairs` holds, by '<split>/<name>', how the pair came about: 'split',
  'input' and 'target' (each 'file', 'sha256', 'n_samples', 'sample_rate',
  'n_channels'), 'source', and what else its maker notes; `left_out` the reason
  by name for what did not become a pair; `settings` what all pairs were made
  by; `unfinished` the pairs that were being written.

  Args:
    folder: Folder with the splits.

  Raises:
    ValueError: The file is damaged, or names what lies outside of the folder.
  """

  NAME = 'manifest.json'

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self.pairs: dict[str, dict] = {}
    self.left_out: dict[str, str] = {}
    self.settings: dict[str, Any] = {}
    self.unfinished: list[str] = []
    if (folder / self.NAME).exists():
      try:
        self._fill(_read(folder / self.NAME))
      except audio_files.FileError as error:
        raise ValueError(
          f'{error} Nothing was changed. Choose another output_dir.'
        ) from error

  def _fill(self, content):
    """Takes over what a manifest says; what becomes a path is looked at."""
    self.settings = _object(content, 'settings')
    self.left_out = _object(content, 'left_out')
    if (unfinished := content.get('unfinished')) is not None:
      for place in unfinished.entries():
        _check_key(place)
        self.unfinished.append(place.value)
    pairs = content.get('pairs')
    for key, note in pairs.fields().items() if pairs else ():
      _check_key(pairs.key(key))
      if note['split'].text() != key.split('/', 1)[0]:
        raise note['split'].error('as in its key')
      for side in ('input', 'target'):
        note[side]['sha256'].text()
      self.pairs[key] = note.value

  def save(self):
    """Writes the file."""
    content: dict[str, Any] = {
      'settings': self.settings,
      'pairs': dict(sorted(self.pairs.items())),
      'left_out': dict(sorted(self.left_out.items())),
    }
    if self.unfinished:
      content['unfinished'] = self.unfinished
    write_json(self.folder / self.NAME, content)

  def settle(self, source: str, sample_rate: int, n_channels: int, seed: int):
    """Says how all pairs are made; it is saved with the next one.

    Args:
      source: Of what.
      sample_rate: Of train and valid, in Hz.
      n_channels: Of train and valid.
      seed: Of what is drawn.

    Raises:
      ValueError: The folder holds pairs that were made in another way.
    """
    settings = {
      'source': source,
      'sample_rate': sample_rate,
      'n_channels': n_channels,
      'seed': seed,
    }
    if self.settings not in ({}, settings):
      others = [
        f'{key}={self.settings.get(key)!r}, not {value!r}'
        for key, value in settings.items()
        if self.settings.get(key) != value
      ]
      raise ValueError(
        f'{self.folder} holds pairs that were made with {"; ".join(others)}. '
        'Choose another output_dir.'
      )
    self.settings = settings

  def begin(self, keys: Iterable[str]):
    """Notes that the files of pairs are about to change.

    Args:
      keys: '<split>/<name>' of each; the TFRecords of their splits go.
    """
    self.unfinished = list(dict.fromkeys([*self.unfinished, *keys]))
    for key in self.unfinished:
      self.pairs.pop(key, None)
    self.save()
    for split in {key.split('/', 1)[0] for key in self.unfinished}:
      self._drop_record(split)

  def _end(self, key):
    """Notes that the files of a pair are written, or gone."""
    self.unfinished = [each for each in self.unfinished if each != key]

  def drop(self, keys: Iterable[str]):
    """Takes pairs out, with their files and labels and the TFRecords of them.

    Args:
      keys: Of `pairs`, or `unfinished`.
    """
    for key in keys:
      split, name = key.split('/', 1)
      stems = [
        disk.inside(self.folder, f'{split}/{side}/{name}')
        for side in ('input', 'target')
      ]
      events = labels.events_path(self.folder / split, name)
      disk.inside(self.folder, events.relative_to(self.folder).as_posix())
      self._drop_record(split)
      for stem in stems:
        while (path := find_written(stem)) is not None:
          path.unlink()
      events.unlink(missing_ok=True)
      self.pairs.pop(key, None)
      self._end(key)
      self.save()

  def _drop_record(self, split):
    # Shards and their indices too.
    for path in self.folder.glob(f'{split}.tfrecord*'):
      path.unlink(missing_ok=True)

  def keep(self, keys: Iterable[str]):
    """Takes out all pairs but these."""
    known = {*self.pairs, *self.unfinished}
    self.drop(sorted(known - set(keys)))

  def describe(self, stem: pathlib.Path) -> dict:
    """Returns what the manifest says of one file of a pair.

    Args:
      stem: Its path without suffix.

    Raises:
      FileNotFoundError: It was not written.
    """
    path = find_written(stem)
    if path is None:
      raise FileNotFoundError(f'{stem}.flac or .wav: there is no such file.')
    info = audio_files.read_info(path)
    return {
      'file': path.relative_to(self.folder).as_posix(),
      'sha256': sha256(path),
      'n_samples': info.frames,
      'sample_rate': info.samplerate,
      'n_channels': info.channels,
    }

  def add(self, split: str, name: str, **notes):
    """Notes a pair whose files are written, and saves.

    Args:
      split: Its split.
      name: Its name.
      **notes: What else is known of it, as JSON can hold it.
    """
    sides = {
      side: self.describe(self.folder / split / side / name)
      for side in ('input', 'target')
    }
    self._drop_record(split)
    self.pairs[f'{split}/{name}'] = {'split': split, **sides, **notes}
    self._end(f'{split}/{name}')
    self.save()

  def has(
    self, split: str, name: str, sample_rate: int, n_channels: int
  ) -> bool:
    """Returns whether a pair was made before, by the same settings.

    Raises:
      ValueError: It was made by other settings.
    """
    stems = [self.folder / split / side / name for side in ('input', 'target')]
    there = [is_there(stem, sample_rate, n_channels) for stem in stems]
    return all(there) and f'{split}/{name}' in self.pairs

  def write_pair(self, split, name, sides, source_hz, form, events=(), **notes):
    """Writes a pair's files and notes it.

    Args:
      split: Its split.
      name: Its name.
      sides: As of `write_sides`.
      source_hz: As of `write_sides`.
      form: As of `write_sides`.
      events: As of `write_sides`.
      **notes: What else is known of it, as JSON can hold it.
    """
    self.begin([f'{split}/{name}'])
    write_sides(self.folder / split, name, sides, source_hz, form, events)
    self.add(split, name, **notes)
