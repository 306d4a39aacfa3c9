"""What gives data: batches to train on, and whole recordings to evaluate on.

What comes at a step depends on the seed and the step alone, so a run goes on
after an interruption as if there had been none.
"""

import abc
import dataclasses
import json
import os
import threading
import time
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from dafx import core
from dafx.audio import sources
from dafx.training import labels
from dafx.training.data import positions as positions_lib
from dafx.training.data import preprocessing

# Batches made ahead of the step: a slow one, with files not read before, does
# not make the next step wait.
_N_AHEAD = 4


@dataclasses.dataclass(frozen=True)
class Item:
  """A whole recording, for evaluation: as it is, at its own rate.

  Attributes:
    name: What it is called in tables.
    input: What goes in.
    target: What shall come out: of the rate, channels and length of the input.
    options: What a model's output depends on besides the input, by name, such
      as 'knobs'.
    events: What is labelled in it.
    version: Changes where its files do; '' for audio that is in memory.

  Examples:
    >>> import numpy as np
    >>> from dafx.audio import sources
    >>> from dafx.training import data
    >>> audio = sources.from_array(np.zeros([32000, 1]), sample_rate=16000)
    >>> data.Item('song', input=audio, target=audio).target.n_samples
    32000
  """

  name: str
  input: sources.Source
  target: sources.Source
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  events: tuple[labels.Event, ...] = ()
  version: str = ''


class Provider(abc.ABC):
  """Batches whose content depends on (seed, step) alone.

  Attributes:
    sample_rate: Rate of the audio in batches, in Hz.
    frame_rate: Frames per second of curves in batches; None without curves.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx.training import data
    >>> class Silence(data.Provider):
    ...   sample_rate = 16000
    ...   features = {'audio': [8000], 'target': [8000]}
    ...
    ...   def get_batch(self, batch_size, *args, **kwargs):
    ...     batch = {key: tf.zeros([batch_size, 8000]) for key in self.features}
    ...     return tf.data.Dataset.from_tensors(batch).repeat()
    ...
    ...   def items(self):
    ...     return []
    >>> next(iter(Silence().get_batch(2)))['audio'].shape
    TensorShape([2, 8000])
  """

  sample_rate: int
  frame_rate: int | None = None

  @property
  @abc.abstractmethod
  def features(self) -> dict[str, list[int]]:
    """Shape of each feature of a batch by name, without the batch's size."""

  @abc.abstractmethod
  def get_batch(
    self,
    batch_size: int,
    shuffle: bool = True,
    repeats: int = -1,
    first_step: int = 0,
    seed: int = 0,
    margin: int = 0,
    part: tuple[int, int] = (0, 1),
  ) -> tf.data.Dataset:
    """Returns batches {feature: [batch_size, ...]} from a step on.

    Args:
      batch_size: Items per batch.
      shuffle: Whether each epoch has an order of its own, and what is drawn of
        an item is drawn at random; otherwise they come in order, as they are.
      repeats: Epochs; -1 for ever.
      first_step: Batches to leave out at the beginning.
      seed: Seed of all that is drawn.
      margin: Samples around a crop that an encoder hears too.
      part: (index, number of parts): which part of each batch to give, of
        parts that together are the batch, to the last bit.
    """

  @abc.abstractmethod
  def items(self) -> list[Item]:
    """Returns the whole recordings of the split, in order."""

  def summary(self) -> str:
    """Describes the data in a few words, which differ where the data do.

    Workers that train together compare them.
    """
    return f'{type(self).__name__} with {self.features}'

  def name_at(self, position: int, shuffle: bool = True, seed: int = 0) -> str:
    """Returns what an item of a batch is called; '' where it has no name.

    Args:
      position: Which item it is of all that `get_batch` gives: that of batch b
        at place i is b * batch_size + i.
      shuffle: As of `get_batch`.
      seed: As of `get_batch`.
    """
    del position, shuffle, seed
    return ''


class TimedIterator:
  """An iterator that knows how long its user has waited for it.

  Attributes:
    wait_s: Seconds spent waiting, in all.
    n_items: Items given.
    start_s: time.monotonic() when it was made, or last reset.

  Examples:
    >>> from dafx.training import data
    >>> batches = data.TimedIterator([1, 2, 3])
    >>> next(batches), batches.n_items
    (1, 1)
  """

  def __init__(self, iterable: Iterable):
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


class CropProvider(Provider):
  """Crops of input and target audio.

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
    self._gains: dict[int, float] = {}  # of the input, by index
    self._lock = threading.Lock()

  @property
  @abc.abstractmethod
  def n_items(self) -> int:
    """Items of an epoch."""

  @abc.abstractmethod
  def _length(self, index: int) -> int:
    """Returns the samples of an item."""

  def _span(self, index: int) -> tuple[int, int]:
    """Returns from where to where there is audio around an item's start."""
    return 0, self._length(index)

  @abc.abstractmethod
  def _name(self, index: int) -> str:
    """Returns what an item is called in messages: its file, if it has one."""

  @abc.abstractmethod
  def _read(self, index: int, start: int, n_samples: int) -> np.ndarray:
    """Returns a part of input and target, [2, n_samples, n_channels]."""

  def _check(self):
    """Raises ValueError where the items are not as batches are to be."""

  @property
  def features(self) -> dict[str, list[int]]:
    """'audio' and 'target', and 'knobs' where the data has some."""
    shape = [self.n_samples]
    if self.n_channels > 1:
      shape = [self.n_samples, self.n_channels]
    shapes = {'audio': shape, 'target': shape}
    if self.knob_names:
      shapes['knobs'] = [len(self.knob_names)]
    return shapes

  @property
  def knob_names(self) -> tuple[str, ...]:
    """What the columns of 'knobs' in a batch are; none for most data."""
    return ()

  def _knobs(self, index: int) -> np.ndarray:
    """Returns the knob settings of an item, in [0, 1], [n_knobs]."""
    del index
    return np.zeros(0)

  def _more(self, index: int) -> dict[str, np.ndarray]:
    """Returns what else `features` has of an item, by name."""
    del index
    return {}

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

  def summary(self) -> str:
    """Describes the data by number, names and lengths of the items."""
    # By the names of files alone: their folder may be another elsewhere.
    names = [os.path.basename(self._name(i)) for i in range(self.n_items)]
    lengths = [self._length(i) for i in range(self.n_items)]
    content = json.dumps([names, lengths]).encode()
    return (
      f'{self.n_items} items of {sum(lengths)} samples at {self.sample_rate} '
      f'Hz (checksum {zlib.crc32(content):08x})'
    )

  def name_at(self, position: int, shuffle: bool = True, seed: int = 0) -> str:
    """Returns the name of an item of a batch; see `Provider.name_at`."""
    if shuffle:
      return self._name(positions_lib.permuted(position, self.n_items, seed))
    crops = self.fixed_crops()
    return self._name(crops[position % len(crops)][0])

  def get_batch(
    self,
    batch_size: int,
    shuffle: bool = True,
    repeats: int = -1,
    first_step: int = 0,
    seed: int = 0,
    margin: int = 0,
    part: tuple[int, int] = (0, 1),
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
      part: (index, number of parts): which part of each batch to give. Of a
        smaller batch at the end, the last parts have less, or nothing.

    Returns:
      Dataset of {'audio': ..., 'target': ...}, each float32 of shape
      [batch_size, n_samples] for one channel, else [..., n_channels]; with a
      margin also 'heard', [batch_size, margin + n_samples + margin, ...], the
      input with what lies around it in its file, or silence; with 'knobs',
      [batch_size, n_knobs], where the data has some.

    Raises:
      ValueError: Items of another rate or number of channels, or a batch that
        cannot be cut into so many parts.
    """
    positions_lib.check_parts(batch_size, part[1])
    self._check()
    fixed = [] if shuffle else self.fixed_crops()
    shapes = self.features
    if margin:
      n_heard = margin + self.n_samples + margin
      shapes['heard'] = [n_heard, *shapes['audio'][1:]]

    def load(position):
      position = int(position)
      if shuffle:
        rng = np.random.default_rng([seed, position])
        index = positions_lib.permuted(position, self.n_items, seed)
        start = positions_lib.crop_start(
          rng, self._length(index), self.n_samples
        )
      else:
        rng, (index, start) = None, fixed[position % len(fixed)]
      pair, heard = self._load(index, start, rng, margin)
      values = {'audio': pair[0], 'target': pair[1], 'heard': heard}
      values['knobs'] = self._knobs(index)
      values.update(self._more(index))
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

    n_positions = None
    if repeats >= 0:
      n_items = self.n_items if shuffle else len(fixed)
      n_positions = repeats * n_items
    positions = positions_lib.of_part(
      batch_size, first_step, n_positions, *part
    )
    n_threads = len(os.sched_getaffinity(0))
    dataset = positions.map(to_features, num_parallel_calls=n_threads)
    dataset = dataset.batch(batch_size // part[1], drop_remainder=repeats < 0)
    options = tf.data.Options()
    options.deterministic = True
    return dataset.prefetch(_N_AHEAD).with_options(options)
