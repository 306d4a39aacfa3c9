"""Training data: pairs of input and target audio, as tf.data.

What comes at a step depends on the seed and the step alone, so a run goes on
after an interruption as if there had been none.

Pairs lie in folders, split by file:

    <path>/train/input/song.flac    <path>/train/target/song.flac
    <path>/valid/input/...          <path>/valid/target/...
    <path>/test/...

What is labelled in a pair lies beside them, in <path>/test/labels/speech.csv.
"""

import dataclasses
import os
import pathlib
import threading
import time

import gin
import numpy as np
import tensorflow as tf

from dafx import _folders, core
from dafx.audio import files as audio_files
from dafx.training import labels
from dafx.training.data import preprocessing

# What the gin files of tasks take the folder of pairs by.
PATH_FLAG = '--gin_param="data_path = \'<folder>\'"'

# Batches made ahead of the step: a slow one, with files not read before, does
# not make the next step wait.
_N_AHEAD = 4


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two files of one length: what goes in and what shall come out.

  Attributes:
    name: Path of the files below their folders, without suffix.
    input_path: File of the input.
    target_path: File of the target.
    sample_rate: Of both, in Hz.
    n_channels: Of both.
    n_samples: Of both, per channel.
    events: What is labelled in them.
  """

  name: str
  input_path: pathlib.Path
  target_path: pathlib.Path
  sample_rate: int
  n_channels: int
  n_samples: int
  events: tuple[labels.Event, ...] = ()


def find_pairs(folder: str | os.PathLike) -> list[Pair]:
  """Returns the pairs below `folder`/input and `folder`/target, by name.

  Args:
    folder: Folder of one split.

  Raises:
    FileNotFoundError: A folder is missing or holds no audio.
    ValueError: Files without partner, two of one name, or partners that differ
      in rate, channels or length; the message names all of them.
  """
  folder = pathlib.Path(folder)
  files, faults = {'input': {}, 'target': {}}, []
  for side, by_name in files.items():
    for path in audio_files.find_audio(folder / side):
      name = path.relative_to(folder / side).with_suffix('').as_posix()
      if name in by_name:
        faults.append(f'{path} has the name of {by_name[name]}')
      by_name[name] = path
  for side, other in (('input', 'target'), ('target', 'input')):
    for name in sorted(set(files[side]) - set(files[other])):
      faults.append(f'{files[side][name]} has no partner in {folder / other}')
  pairs = []
  for name in sorted(set(files['input']) & set(files['target'])):
    paths = files['input'][name], files['target'][name]
    ours, theirs = map(audio_files.read_info, paths)
    for what, unit in (
      ('samplerate', 'Hz'),
      ('channels', 'channels'),
      ('frames', 'samples'),
    ):
      mine, other = getattr(ours, what), getattr(theirs, what)
      if mine != other:
        faults.append(
          f'{paths[0]} has {mine} {unit}, its target {paths[1]} {other}'
        )
    form = ours.samplerate, ours.channels, ours.frames
    events = labels.read_events(labels.events_path(folder, name))
    pairs.append(Pair(name, *paths, *form, events))
  if faults:
    raise ValueError(
      f'{len(faults)} faults in the pairs of {folder}:\n  '
      + '\n  '.join(faults)
      + '\nRemove or mend these files; dafx_prepare makes pairs that fit.'
    )
  return pairs


def _permuted(position: int, n_items: int, seed: int) -> int:
  """Returns which item comes at a position of an endless, shuffled list."""
  epoch, slot = divmod(position, n_items)
  return int(np.random.default_rng([seed, epoch]).permutation(n_items)[slot])


class TimedIterator:
  """An iterator that knows how long its user has waited for it.

  Attributes:
    wait_s: Seconds spent waiting, in all.
    n_items: Items given.
    start_s: time.monotonic() when it was made, or last reset.
  """

  def __init__(self, iterable):
    self._iterator = iter(iterable)
    self.reset()

  def reset(self):
    """Starts to count anew."""
    self.wait_s = 0.0
    self.n_items = 0
    self.start_s = time.monotonic()

  def __iter__(self):
    """Returns itself."""
    return self

  def __next__(self):
    """Returns the next item, and counts the time that it took."""
    start = time.monotonic()
    try:
      return next(self._iterator)
    finally:
      self.wait_s += time.monotonic() - start
      self.n_items += 1

  @property
  def wait_fraction(self) -> float:
    """Part of the time since the start that was spent waiting."""
    elapsed = time.monotonic() - self.start_s
    return self.wait_s / elapsed if elapsed > 0 else 0.0


class Provider:
  """Batches whose content depends on (seed, step) alone.

  A subclass says how many items an epoch has (`n_items`), how long they are
  (`_length`) and reads parts of them (`_read`).

  Args:
    As of `FolderProvider`.
  """

  def __init__(
    self,
    sample_rate: int,
    n_samples: int,
    n_channels: int,
    preprocessor=None,
    augmentation=None,
    fade_samples: int = 0,
    crops_per_file: int = 1,
  ):
    if crops_per_file < 1:
      raise ValueError(f'crops_per_file={crops_per_file} must be at least 1.')
    self.sample_rate = sample_rate
    self.n_samples = n_samples
    self.n_channels = n_channels
    self.preprocessor = preprocessor
    self.augmentation = augmentation
    self.fade_samples = fade_samples
    self.crops_per_file = crops_per_file
    self._gains = {}  # of the input, by index
    self._lock = threading.Lock()

  @property
  def n_items(self) -> int:
    """Items of an epoch."""
    raise NotImplementedError  # abstract

  def _length(self, index: int) -> int:
    """Returns the samples of an item."""
    raise NotImplementedError  # abstract

  def _span(self, index: int) -> tuple[int, int]:
    """Returns from where to where there is audio around an item's start."""
    return 0, self._length(index)

  def _read(self, index: int, start: int, n_samples: int) -> np.ndarray:
    """Returns a part of input and target, [2, n_samples, n_channels]."""
    raise NotImplementedError  # abstract

  @property
  def knob_names(self) -> tuple[str, ...]:
    """What the columns of 'knobs' in a batch are; none for most data."""
    return ()

  def _knobs(self, index: int) -> np.ndarray:
    """Returns the knob settings of an item, in [0, 1], [n_knobs]."""
    del index
    return np.zeros(0)

  def _input_gain(self, index: int) -> float:
    """Returns the gain of an item's input, which is measured once."""
    with self._lock:
      gain = self._gains.get(index)
    if gain is None:
      audio = self._read(index, 0, self._length(index))[0]
      gain = self.preprocessor.input_gain(audio, self.sample_rate)
      with self._lock:
        self._gains[index] = gain
    return gain

  def _load(self, index: int, start: int, rng, margin: int):
    """Returns a crop, and what is heard of its input.

    Args:
      index: Of the item.
      start: Where the crop begins.
      rng: Draws how it is varied; None leaves it as it is.
      margin: Samples before and after the crop that are heard too.

    Returns:
      (input and target [2, n_samples, n_channels], input with its margins
      [margin + n_samples + margin, n_channels]); silence lies where the item
      has ended or not begun.
    """
    low, high = self._span(index)
    stop = start + self.n_samples
    first, last = max(start - margin, low), min(stop + margin, high)
    if self.preprocessor is None:
      wide = self._read(index, first, last - first)
    else:
      around = self.preprocessor.margin(self.sample_rate)
      before, after = max(first - around, low), min(last + around, high)
      gains = (self._input_gain(index), 1.0)
      wide = np.stack(
        [
          self.preprocessor.apply(side, self.sample_rate, gain)
          for side, gain in zip(
            self._read(index, before, after - before), gains, strict=True
          )
        ]
      )
      wide = wide[:, first - before : last - before]
    if self.augmentation is not None and rng is not None:
      wide = np.stack(self.augmentation(*wide, self.sample_rate, rng))
    crop = wide[:, start - first : stop - first]
    crop = preprocessing.fade(crop, self.fade_samples)
    missing = self.n_samples - crop.shape[1]
    crop = np.pad(crop, ((0, 0), (0, missing), (0, 0)))
    silence = (first - (start - margin), stop + margin - last)
    return crop, np.pad(wide[0], (silence, (0, 0)))

  def fixed_crops(self) -> list[tuple[int, int]]:
    """Returns (item, where it begins) of the crops of an unshuffled epoch.

    The first ones of all items come first, then the second ones.
    """
    crops = []  # (which of its item, item, start)
    for index in range(self.n_items):
      length = self._length(index)
      n_crops = min(self.crops_per_file, -(-length // self.n_samples))
      last_start = max(length - self.n_samples, 0)
      starts = np.linspace(0, last_start, n_crops).astype(int)
      crops += [(k, index, int(start)) for k, start in enumerate(starts)]
    return [crop[1:] for crop in sorted(crops)]

  def get_batch(
    self,
    batch_size: int,
    shuffle: bool = True,
    repeats: int = -1,
    first_step: int = 0,
    seed: int = 0,
    margin: int = 0,
  ) -> tf.data.Dataset:
    """Returns batches {'audio', 'target'} from a step on.

    They are made ahead, on as many threads as there are processors.

    Args:
      batch_size: Items per batch.
      shuffle: Whether each epoch has an order of its own, and crops begin at
        random and are augmented; otherwise they come in order, from fixed
        places and as they are.
      repeats: Epochs; -1 for ever. What does not fill a batch at the end of the
        last one makes a smaller one.
      first_step: Batches to leave out at the beginning.
      seed: Seed of order and crops.
      margin: Samples around a crop that an encoder hears too; the model's
        `margin`.

    Returns:
      Dataset of {'audio': ..., 'target': ...}, each float32 of shape
      [batch_size, n_samples] for one channel, else [..., n_channels]; with a
      margin also 'heard', [batch_size, margin + n_samples + margin, ...], the
      input with what lies around it in its file, or silence; with 'knobs',
      [batch_size, n_knobs], where the data has some.
    """
    fixed = [] if shuffle else self.fixed_crops()
    shapes = {'audio': [self.n_samples], 'target': [self.n_samples]}
    if margin:
      shapes['heard'] = [margin + self.n_samples + margin]
    if self.n_channels > 1:
      shapes = {key: [*shape, self.n_channels] for key, shape in shapes.items()}
    if self.knob_names:
      shapes['knobs'] = [len(self.knob_names)]

    def load(position):
      position = int(position)
      if shuffle:
        rng = np.random.default_rng([seed, position])
        index = _permuted(position, self.n_items, seed)
        start = crop_start(rng, self._length(index), self.n_samples)
      else:
        rng, (index, start) = None, fixed[position % len(fixed)]
      pair, heard = self._load(index, start, rng, margin)
      values = {'audio': pair[0], 'target': pair[1], 'heard': heard}
      values['knobs'] = self._knobs(index)
      return [
        np.reshape(values[key], shape).astype(np.float32)
        for key, shape in shapes.items()
      ]

    def to_features(position):
      types = [tf.float32] * len(shapes)
      values = core.call_python(load, [position], types, 'reading of data')
      return {
        key: tf.ensure_shape(value, shape)
        for value, (key, shape) in zip(values, shapes.items(), strict=True)
      }

    first = first_step * batch_size
    if repeats < 0:
      positions = tf.data.Dataset.counter(first)
    else:
      n_items = self.n_items if shuffle else len(fixed)
      positions = tf.data.Dataset.range(first, repeats * n_items)
    n_threads = len(os.sched_getaffinity(0))
    dataset = positions.map(to_features, num_parallel_calls=n_threads)
    dataset = dataset.batch(batch_size, drop_remainder=repeats < 0)
    options = tf.data.Options()
    options.deterministic = True
    return dataset.prefetch(_N_AHEAD).with_options(options)


def crop_start(
  rng: np.random.Generator, n_available: int, n_samples: int
) -> int:
  """Returns where a crop begins: at random, or at 0 if there is no choice."""
  if n_available <= n_samples:
    return 0
  return int(rng.integers(n_available - n_samples + 1))


class PairProvider(Provider):
  """A provider of pairs that lie in a folder, by split.

  A subclass opens them (`_open`).

  Args:
    As of `FolderProvider`.
  """

  def __init__(
    self,
    path: str = gin.REQUIRED,
    split: str = 'train',
    sample_rate: int = 16000,
    n_samples: int = 32000,
    n_channels: int = 1,
    preprocessor=None,
    augmentation=None,
    fade_samples: int = 0,
    crops_per_file: int = 1,
  ):
    super().__init__(
      sample_rate,
      n_samples,
      n_channels,
      preprocessor,
      augmentation,
      fade_samples,
      crops_per_file,
    )
    self._open(_folders.expand_user(path, PATH_FLAG), split)

  def _open(self, path: pathlib.Path, split: str):
    """Finds the pairs of a split, and checks them."""
    raise NotImplementedError  # abstract


@gin.register(module='dafx.training.data')
class FolderProvider(PairProvider):
  """Crops of pairs of audio files.

  Args:
    path: Folder with the splits.
    split: Which of them: 'train', 'valid' or 'test'.
    sample_rate: Rate that the files must have, in Hz.
    n_samples: Length of a crop; silence follows a file that is shorter.
    n_channels: Channels that the files must have.
    preprocessor: What is done to both sides first, a
      `preprocessing.Preprocessor`; None for nothing.
    augmentation: How crops are varied where they are drawn at random; see
      `augmentation`. None for not at all.
    fade_samples: Length of the fades at both ends of a crop.
    crops_per_file: Without shuffling, as in validation, so many crops are taken
      of each file, spread evenly from its first sample to its last; fewer where
      fewer cover it, and the beginning alone if it is 1.

  Raises:
    FileNotFoundError: A folder is missing or empty.
    ValueError: Pairs that do not fit together, or not these settings.
  """

  def _open(self, path, split):
    self.folder = path / split
    try:
      self.pairs = find_pairs(self.folder)
    except FileNotFoundError as error:
      raise FileNotFoundError(
        f'{error} `dafx_prepare --help` says how pairs are made; '
        f'{type(self).__name__}.path (the macro data_path) says where they are.'
      ) from error
    faults = []
    for pair in self.pairs:
      for what, value, wanted in (
        ('Hz', pair.sample_rate, self.sample_rate),
        ('channels', pair.n_channels, self.n_channels),
      ):
        if value != wanted:
          faults.append(f'{pair.input_path}: {value} {what}, not {wanted}')
    if faults:
      raise ValueError(
        f'{len(faults)} files of {self.folder} do not fit the settings:\n  '
        + '\n  '.join(faults)
        + '\nPrepare them again (dafx_prepare, with '
        f'--sample_rate={self.sample_rate} --n_channels={self.n_channels}), or '
        'set the macro sample_rate, which the model shares, or '
        f'{type(self).__name__}.n_channels.'
      )

  @property
  def n_items(self) -> int:
    """Number of files."""
    return len(self.pairs)

  def _length(self, index):
    return self.pairs[index].n_samples

  def _read(self, index, start, n_samples):
    pair = self.pairs[index]
    sides = [
      audio_files.read(path, start, n_samples)[0]
      for path in (pair.input_path, pair.target_path)
    ]
    return np.stack(sides)
