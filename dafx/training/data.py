"""Training data: pairs of input and target audio, as tf.data.

What comes at a step depends on the seed and the step alone, so a run goes on
after an interruption as if there had been none.

Pairs lie in folders, split by file:

    <path>/train/input/song.flac    <path>/train/target/song.flac
    <path>/valid/input/...          <path>/valid/target/...
    <path>/test/...
"""

import dataclasses
import os
import pathlib

import gin
import numpy as np
import soundfile
import tensorflow as tf
from google.protobuf.message import DecodeError

AUDIO_SUFFIXES = ('.wav', '.flac', '.ogg', '.mp3', '.aif', '.aiff')


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
  """

  name: str
  input_path: pathlib.Path
  target_path: pathlib.Path
  sample_rate: int
  n_channels: int
  n_samples: int


def read_info(path: str | os.PathLike):
  """Returns soundfile's info of an audio file that holds sound.

  Args:
    path: The file.

  Raises:
    ValueError: The file is no audio, or is empty.
    FileNotFoundError: There is no such file.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'{path}: there is no such file.')
  if not path.stat().st_size:
    raise ValueError(f'{path} is an empty file; remove or replace it.')
  try:
    info = soundfile.info(path)
    with soundfile.SoundFile(path) as file:
      file.seek(max(info.frames - 1, 0))  # a file that is cut short fails here
      n_last = len(file.read(1))
  except soundfile.LibsndfileError as error:
    raise ValueError(
      f'{path} is no audio file that can be read ({error}). Readable are '
      f'{", ".join(AUDIO_SUFFIXES)}; remove or convert it.'
    ) from error
  if not info.frames:
    raise ValueError(f'{path} holds no samples; remove or replace it.')
  if not n_last:
    raise ValueError(
      f'{path} is cut short: it ends before its {info.frames} samples do; '
      'remove or replace it.'
    )
  return info


def find_audio(folder: str | os.PathLike) -> list[pathlib.Path]:
  """Returns the audio files below a folder, sorted.

  Names that begin with a dot are passed over: what an interrupted write leaves.

  Args:
    folder: Where to look, subfolders included.

  Raises:
    FileNotFoundError: There is no such folder, or no audio in it.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise FileNotFoundError(f'{folder}: there is no such folder.')
  paths = sorted(
    p
    for p in folder.rglob('*')
    if p.suffix.lower() in AUDIO_SUFFIXES and not p.name.startswith('.')
  )
  if not paths:
    raise FileNotFoundError(
      f'{folder} holds no audio files ({", ".join(AUDIO_SUFFIXES)}).'
    )
  return paths


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
    for path in find_audio(folder / side):
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
    ours, theirs = map(read_info, paths)
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
    pairs.append(
      Pair(name, *paths, ours.samplerate, ours.channels, ours.frames)
    )
  if faults:
    raise ValueError(
      f'{len(faults)} faults in the pairs of {folder}:\n  '
      + '\n  '.join(faults)
      + '\nRemove or mend these files; dafx_prepare makes pairs that fit.'
    )
  return pairs


def _permuted(position: int, n_items: int, seed: int, shuffle: bool) -> int:
  """Returns which item comes at a position of an endless, shuffled list."""
  epoch, slot = divmod(position, n_items)
  if not shuffle:
    return slot
  return int(np.random.default_rng([seed, epoch]).permutation(n_items)[slot])


class _Provider:
  """Batches whose content depends on (seed, step) alone.

  A subclass says how many items an epoch has (`n_items`), and gives the item of
  an index, cropped by a random generator (`_load`).
  """

  def __init__(self, sample_rate: int, n_samples: int, n_channels: int):
    self.sample_rate = sample_rate
    self.n_samples = n_samples
    self.n_channels = n_channels

  @property
  def n_items(self) -> int:
    raise NotImplementedError  # abstract

  def _load(self, index: int, rng: np.random.Generator) -> np.ndarray:
    """Returns input and target, [2, n_samples, n_channels]."""
    raise NotImplementedError  # abstract

  def get_batch(
    self,
    batch_size: int,
    shuffle: bool = True,
    repeats: int = -1,
    first_step: int = 0,
    seed: int = 0,
  ) -> tf.data.Dataset:
    """Returns batches {'audio', 'target'} from a step on.

    Args:
      batch_size: Items per batch.
      shuffle: Whether each epoch has an order of its own, and crops begin at
        random; otherwise items come in order, from their beginning.
      repeats: Epochs; -1 for ever. What does not fill a batch at the end of the
        last one is left out, unless it is all there is.
      first_step: Batches to leave out at the beginning.
      seed: Seed of order and crops.

    Returns:
      Dataset of {'audio': ..., 'target': ...}, each float32 of shape
      [batch_size, n_samples] for one channel, else [..., n_channels].
    """
    batch_size = batch_size if repeats < 0 else min(batch_size, self.n_items)

    def load(position):
      index = _permuted(int(position), self.n_items, seed, shuffle)
      rng = np.random.default_rng([seed, int(position)]) if shuffle else None
      return self._load(index, rng).astype(np.float32)

    def to_features(position):
      pair = tf.numpy_function(load, [position], tf.float32, stateful=False)
      pair.set_shape([2, self.n_samples, self.n_channels])
      if self.n_channels == 1:
        pair = pair[..., 0]
      return {'audio': pair[0], 'target': pair[1]}

    if repeats < 0:
      positions = tf.data.Dataset.counter(first_step * batch_size)
    else:
      n_batches = repeats * self.n_items // batch_size
      positions = tf.data.Dataset.range(
        first_step * batch_size, n_batches * batch_size
      )
    dataset = positions.map(to_features, num_parallel_calls=2)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    options = tf.data.Options()
    options.deterministic = True
    return dataset.prefetch(2).with_options(options)


def _crop_start(rng, n_available: int, n_samples: int) -> int:
  if rng is None or n_available <= n_samples:
    return 0
  return int(rng.integers(n_available - n_samples + 1))


@gin.register
class FolderProvider(_Provider):
  """Crops of pairs of audio files.

  Args:
    path: Folder with the splits.
    split: Which of them: 'train', 'valid' or 'test'.
    sample_rate: Rate that the files must have, in Hz.
    n_samples: Length of a crop.
    n_channels: Channels that the files must have.

  Raises:
    FileNotFoundError: A folder is missing or empty.
    ValueError: Pairs that do not fit together, or not these settings.
  """

  def __init__(
    self,
    path: str = gin.REQUIRED,
    split: str = 'train',
    sample_rate: int = 16000,
    n_samples: int = 32000,
    n_channels: int = 1,
  ):
    super().__init__(sample_rate, n_samples, n_channels)
    self.folder = pathlib.Path(path).expanduser() / split
    try:
      self.pairs = find_pairs(self.folder)
    except FileNotFoundError as error:
      raise FileNotFoundError(
        f'{error} `dafx_prepare mastering --output_dir={path}` makes pairs; '
        f'{type(self).__name__}.path (the macro data_path) says where they are.'
      ) from error
    faults = []
    for pair in self.pairs:
      for what, value, wanted in (
        ('Hz', pair.sample_rate, sample_rate),
        ('channels', pair.n_channels, n_channels),
      ):
        if value != wanted:
          faults.append(f'{pair.input_path}: {value} {what}, not {wanted}')
      if pair.n_samples < n_samples:
        faults.append(
          f'{pair.input_path}: {pair.n_samples} samples, not the {n_samples} '
          'of a crop'
        )
    if faults:
      raise ValueError(
        f'{len(faults)} files of {self.folder} do not fit the settings:\n  '
        + '\n  '.join(faults)
        + '\nPrepare them again (dafx_prepare mastering --source=folder '
        f'--sample_rate={sample_rate} --n_channels={n_channels}), or change '
        f'{type(self).__name__}.sample_rate, .n_channels or .n_samples.'
      )

  @property
  def n_items(self) -> int:
    """Number of files."""
    return len(self.pairs)

  def _load(self, index, rng):
    pair = self.pairs[index]
    start = _crop_start(rng, pair.n_samples, self.n_samples)
    sides = [
      soundfile.read(
        path, self.n_samples, start, dtype='float32', always_2d=True
      )[0]
      for path in (pair.input_path, pair.target_path)
    ]
    return np.stack(sides)


@gin.register
class TFRecordProvider(_Provider):
  """Crops of pairs stored in TFRecord files; see `write_tfrecord`.

  Args:
    path: Folder with one `<split>.tfrecord` per split.
    split: Which of them.
    sample_rate: Rate that the records must have, in Hz.
    n_samples: Length of a crop.
    n_channels: Channels that the records must have.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: Records that do not fit these settings, or cannot be read.
  """

  def __init__(
    self,
    path: str = gin.REQUIRED,
    split: str = 'train',
    sample_rate: int = 16000,
    n_samples: int = 32000,
    n_channels: int = 1,
  ):
    super().__init__(sample_rate, n_samples, n_channels)
    file = pathlib.Path(path).expanduser() / f'{split}.tfrecord'
    if not file.exists():
      raise FileNotFoundError(
        f'{file}: there is no such file; dafx_prepare --tfrecord writes it.'
      )
    try:
      records = list(
        tf.data.TFRecordDataset(os.fspath(file)).as_numpy_iterator()
      )
      self.items = [self._parse(record) for record in records]
    except (tf.errors.OpError, DecodeError, IndexError, ValueError) as error:
      raise ValueError(
        f'{file} is damaged or holds no pairs; write it again (dafx_prepare '
        f'--tfrecord). {type(error).__name__}: {error}'
      ) from error
    if not self.items:
      raise ValueError(
        f'{file} is empty; write it again (dafx_prepare --tfrecord).'
      )
    for name, rate, sides in self.items:
      given = (rate, sides.shape[-1])
      if given != (sample_rate, n_channels) or sides.shape[1] < n_samples:
        raise ValueError(
          f'{name!r} of {file} has {rate} Hz, {sides.shape[-1]} channels and '
          f'{sides.shape[1]} samples; wanted are {sample_rate} Hz, '
          f'{n_channels} channels and at least {n_samples} samples.'
        )

  @staticmethod
  def _parse(record: bytes):
    example = tf.train.Example.FromString(record).features.feature
    sides = [
      np.frombuffer(example[side].bytes_list.value[0], '<f4')
      for side in ('audio', 'target')
    ]
    n_channels = example['n_channels'].int64_list.value[0]
    return (
      example['name'].bytes_list.value[0].decode(),
      example['sample_rate'].int64_list.value[0],
      np.stack([side.reshape(-1, n_channels) for side in sides]),
    )

  @property
  def n_items(self) -> int:
    """Number of records."""
    return len(self.items)

  def _load(self, index, rng):
    sides = self.items[index][2]
    start = _crop_start(rng, sides.shape[1], self.n_samples)
    return sides[:, start : start + self.n_samples]


def write_tfrecord(pairs: list[Pair], path: str | os.PathLike):
  """Writes pairs into a TFRecord file, whole, under a temporary name first.

  Each record holds 'name', 'sample_rate', 'n_channels', and 'audio' and
  'target' as little-endian float32, samples before channels.

  Args:
    pairs: What to write.
    path: The file.
  """

  def feature(value):
    if isinstance(value, bytes):
      return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

  temporary = f'{os.fspath(path)}.partial'
  with tf.io.TFRecordWriter(temporary) as writer:
    for pair in pairs:
      sides = [
        soundfile.read(p, dtype='float32', always_2d=True)[0]
        for p in (pair.input_path, pair.target_path)
      ]
      values = dict(
        name=pair.name.encode(),
        sample_rate=pair.sample_rate,
        n_channels=pair.n_channels,
        audio=sides[0].astype('<f4').tobytes(),
        target=sides[1].astype('<f4').tobytes(),
      )
      features = {key: feature(value) for key, value in values.items()}
      example = tf.train.Example(features=tf.train.Features(feature=features))
      writer.write(example.SerializeToString())
  os.replace(temporary, path)
