"""Audio files: which there are, and how they are read and written."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import soundfile
from absl import logging

from dafx import _folders
from dafx.audio import disk, formats, headers, opening
from dafx.audio.opening import FileError as FileError
from dafx.audio.opening import named as named

AUDIO_SUFFIXES = formats.AUDIO_SUFFIXES
# The most samples, in bytes, that the headers of WAV and AIFF can count.
_MOST_BYTES = 2**32 - 2**16
_COUNTED = 2**16  # samples at a time
_FLOAT_BYTES = 4
# Names of file systems have 255; the longest that is made of one is that of
# settings while they are written.
_MOST_NAME_BYTES = 255 - len('..settings.partial.json')
# Samples that sound does not have, 180 dB above full scale: squares and sums of
# these leave the range of floats.
_MOST_MAGNITUDE = 1e9


# ---------------------- Reading -----------------------------------------------
def read_info(path: str | os.PathLike):
  """Returns soundfile's info of an audio file that holds sound.

  Looks at both ends of the file, not at what lies between, but for MP3 that
  does not say its length: libsndfile estimates it, so its samples are counted.

  Args:
    path: The file.

  Raises:
    FileError: The file is no audio, is empty, or is cut short.
    FileNotFoundError: There is no such file.
  """
  file_path = opening.checked(path)
  if not file_path.stat().st_size:
    raise FileError(f'{path} is an empty file; {opening.REMEDY}.')
  if file_path.suffix.lower() == '.raw':  # soundfile would ask for its rate
    raise FileError(f'{path} has no header that tells its rate; convert it.')
  with named(path), opening.open_to_read(path) as file:
    info = soundfile.info(os.fsencode(path))
    if headers.is_estimate(path, info):
      info.frames = sum(map(len, read_blocks(path, _COUNTED)))
      info.duration = info.frames / info.samplerate
    if not info.frames and not headers.is_cut(file_path, info):
      raise FileError(f'{path} holds no samples; {opening.REMEDY}.')
    opening.go_to(file, max(info.frames - 1, 0))  # FLAC and MP3 fail here
    n_last = len(file.read(1))
    if not n_last or headers.is_cut(file_path, info):
      raise FileError(
        f'{path} is cut short: it ends before its header says; '
        f'{opening.REMEDY}.'
      )
  return info


def read(
  path: str | os.PathLike,
  start: int = 0,
  n_samples: int | None = None,
  dtype: str = 'float32',
) -> tuple[np.ndarray, int]:
  """Reads audio, or a part of it.

  Args:
    path: The file.
    start: First sample.
    n_samples: How many; by default all to the end.
    dtype: 'float32' or 'float64'.

  Returns:
    Audio [n_samples, n_channels], and its rate in Hz.

  Raises:
    FileError: The file is damaged, or ends before that, or has samples that
      are not finite.
  """
  with named(path), opening.open_to_read(path) as file:
    if n_samples is None:
      n_samples = file.frames - start
    opening.go_to(file, start)
    audio = file.read(n_samples, dtype, always_2d=True)
    if len(audio) != n_samples and not headers.is_estimate(path, file):
      raise _too_short(path, len(audio), n_samples)
    check_finite(audio, file.samplerate, start, path)
    return audio, file.samplerate


def read_blocks(
  path: str | os.PathLike, block_size: int
) -> Iterator[np.ndarray]:
  """Yields the audio of a file in blocks, float32 [n, n_channels].

  Args:
    path: The file.
    block_size: Samples of a block; the last one may be shorter.

  Raises:
    FileError: The file is damaged, or has samples that are not finite.
  """
  with named(path), opening.open_to_read(path) as file:
    n_read = 0
    while n_read < file.frames:
      n_wanted = min(block_size, file.frames - n_read)
      block = file.read(n_wanted, 'float32', always_2d=True)
      n_read += len(block)
      if len(block) < n_wanted and not headers.is_estimate(path, file):
        raise _too_short(path, n_read, file.frames)
      if not len(block):
        return
      check_finite(block, file.samplerate, n_read - len(block), path)
      yield block


def check_finite(
  audio: np.ndarray, sample_rate: float, start: int, name: str | os.PathLike
):
  """Raises FileError for samples that no sound has, and says where.

  These are NaN, infinity, and magnitudes from 1e9 (180 dB above full scale) on.

  Args:
    audio: Shape [n_samples, n_channels].
    sample_rate: In Hz.
    start: Where in the file it begins, in samples.
    name: The path of the file, or what else it is called.
  """
  is_bad = ~(np.abs(audio) < _MOST_MAGNITUDE)
  if is_bad.any():
    is_large = np.isfinite(audio[is_bad]).all()
    sample, channel = np.argwhere(is_bad)[0]
    raise FileError(
      f'{name} has {np.count_nonzero(is_bad)} samples that are '
      f'{"beyond 180 dB full scale" if is_large else "NaN or infinite"}, the '
      f'first at {(start + sample) / sample_rate:.3f} s in channel '
      f'{channel + 1} of {audio.shape[1]}; export it again.'
    )


def _too_short(path, n_read, n_wanted):
  return FileError(
    f'{path} is damaged: of {n_wanted} samples only {n_read} can be read; '
    'replace it.'
  )


def find_audio(folder: str | os.PathLike) -> list[pathlib.Path]:
  """Returns the audio files below a folder, sorted.

  Names that begin with a dot are passed over: what an interrupted write leaves.
  So are formats that have to be converted first, of which the log tells.

  Args:
    folder: Where to look, subfolders included.

  Raises:
    FileNotFoundError: There is no such folder, or no audio in it.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise FileNotFoundError(f'{folder}: there is no such folder.')
  found = sorted(
    p for p in folder.rglob('*') if not p.name.startswith('.') and p.is_file()
  )
  paths = [p for p in found if p.suffix.lower() in AUDIO_SUFFIXES]
  unread = [p for p in found if p.suffix.lower() in formats.UNREAD_SUFFIXES]
  passed_over = ''
  if unread:
    more = f' and {len(unread) - 3} more' if len(unread) > 3 else ''
    passed_over = (
      f'{", ".join(map(str, unread[:3]))}{more} cannot be read; convert first: '
      f'ffmpeg -i {unread[0].name} {unread[0].stem}.wav'
    )
  if not paths:
    raise FileNotFoundError(
      f'{folder} holds no audio files ({", ".join(AUDIO_SUFFIXES)}).'
      + (f' {passed_over}.' if unread else '')
    )
  if unread:
    logging.warning('Passed over: %s.', passed_over)
  return paths


# ---------------------- Writing -----------------------------------------------
@contextlib.contextmanager
def writing(path: str | os.PathLike):
  """Names a file in what goes wrong while it is written.

  Args:
    path: The file.

  Raises:
    OSError: In place of an error of soundfile, which names no file.
  """
  try:
    yield
  except soundfile.SoundFileError as error:
    raise OSError(
      f'{path} cannot be written ({opening.reason(error)}). Is there room on '
      'the disk, and may files be written there?'
    ) from error


# SFC_SET_ADD_PEAK_CHUNK of sndfile.h.
_ADD_PEAK_CHUNK = 0x1050


class Writer:
  """Writes audio block by block; the file is there when it is whole.

  The same audio becomes the same bytes, whenever it is written; OGG alone has a
  number that is drawn.

  A context manager: what raises in it leaves no file.

  Args:
    path: The file; WAV and AIFF are written as floats, FLAC as 24 bits.
    sample_rate: In Hz.
    n_samples: How many will come, per channel, if known: above 4 GB, which is
      as far as its header counts, WAV becomes RF64.

  Raises:
    ValueError: A format that cannot be written, or not at that length.
    OSError: No room on the disk.
  """

  def __init__(
    self, path: str | os.PathLike, sample_rate: int, n_samples: int = 0
  ):
    self._path = pathlib.Path(path)
    self._n_samples = n_samples
    self._suffix = self._path.suffix.lower()
    if self._suffix not in formats.WRITTEN_SUFFIXES:
      raise ValueError(
        f'{path}: audio is written as one of '
        f'{", ".join(formats.WRITTEN_SUFFIXES)}.'
      )
    self._format, self._subtype = formats.written_as(self._suffix)
    self._sample_rate = sample_rate
    self._temporary = self._path.with_name(
      f'.{self._path.stem}.partial{self._path.suffix}'
    )
    self._file: soundfile.SoundFile | None = None
    self._peak = 0.0

  def __enter__(self):
    """Returns itself."""
    return self

  def write(self, block: np.ndarray):
    """Writes the next block, [n_samples, n_channels]."""
    if self._file is None:
      self._file = self._open(block.shape[1])
    self._peak = max(self._peak, float(np.abs(block).max(initial=0.0)))
    with writing(self._path):
      self._file.write(block)

  def _open(self, n_channels):
    reason = formats.refusal(self._suffix, self._sample_rate, n_channels)
    if reason:
      raise ValueError(f'{self._path} cannot be written: {reason}')
    if self._subtype == 'FLOAT':  # others take less, or little
      n_bytes = _FLOAT_BYTES * self._n_samples * n_channels
      disk.check_room(self._path.parent, n_bytes, self._path.name)
    self._path.parent.mkdir(parents=True, exist_ok=True)
    with writing(self._path):
      file = soundfile.SoundFile(
        os.fsencode(self._temporary),
        'w',
        self._sample_rate,
        n_channels,
        self._subtype,
        format=self._container(n_channels),
      )
    # The chunk of peaks, which libsndfile gives files of floats, has the time.
    # soundfile has no word for it.
    soundfile._snd.sf_command(
      file._file, _ADD_PEAK_CHUNK, soundfile._ffi.NULL, 0
    )
    return file

  def _container(self, n_channels):
    """Returns the format, which depends on how much will come."""
    n_bytes = _FLOAT_BYTES * self._n_samples * n_channels
    if self._format == 'WAV' and n_bytes > _MOST_BYTES:
      return 'RF64'
    if self._format == 'AIFF' and n_bytes > _MOST_BYTES:
      raise ValueError(
        f'{self._path} would have {n_bytes / 1e9:.1f} GB, and AIFF ends at '
        '4.3. Write WAV or FLAC.'
      )
    return self._format

  def __exit__(self, kind, error, traceback):
    """Puts the file in its place, or takes away what there is of it."""
    if self._file is None:
      # There is one where soundfile took nothing of what was asked for.
      self._temporary.unlink(missing_ok=True)
      return
    try:
      with writing(self._path):
        self._file.close()
    except OSError:
      self._temporary.unlink()
      raise
    if kind is not None:
      self._temporary.unlink()
      return
    os.replace(self._temporary, self._path)
    if self._peak > 1.0 and self._subtype != 'FLOAT':
      logging.warning(
        '%s: peaks of %.1f dB full scale are clipped; WAV would keep them.',
        self._path,
        20 * np.log10(self._peak),
      )


def write(path: str | os.PathLike, audio: np.ndarray, sample_rate: int):
  """Writes audio in the format of the file's suffix.

  Args:
    path: The file; see `Writer`.
    audio: Shape [n_samples, n_channels].
    sample_rate: In Hz.

  Raises:
    ValueError: A format that cannot be written.
  """
  with Writer(path, sample_rate, len(audio)) as writer:
    writer.write(audio)


def plan_outputs(
  input_path: str | os.PathLike, output_path: str | os.PathLike
) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Says which file is made of which, and looks at all of them first.

  Args:
    input_path: An audio file, or a folder of them.
    output_path: The file, or the folder that gets files of the same names, but
      for formats that are read and not written, which become WAV. If
      it is below the input's, what lies in it is no input.

  Returns:
    (input, output) of each file.

  Raises:
    FileNotFoundError: No such file, or no audio in the folder.
    ValueError: A file that is no audio, or one that would replace an input.
  """
  for flag, path in (('--input', input_path), ('--output', output_path)):
    if not os.fspath(path):
      raise ValueError(f'{flag} is empty. Give the path of a file or folder.')
  source = _folders.expand_user(input_path)
  target = _folders.expand_user(output_path)
  if source.is_dir():
    inputs = find_audio(source)
    out = _folders.resolved(target)
    if out != _folders.resolved(source) and out.is_relative_to(
      _folders.resolved(source)
    ):
      inputs = [
        p for p in inputs if not _folders.resolved(p).is_relative_to(out)
      ]
      if not inputs:
        raise FileNotFoundError(f'{source} holds no audio outside of {target}.')
    outputs = [target / _as_written(p.relative_to(source)) for p in inputs]
  else:
    inputs, outputs = [source], [target]
    if target.is_dir():
      outputs = [target / _as_written(pathlib.Path(source.name))]
  # Each is looked at before the first is worked on.
  _check_readable(inputs)
  for output in outputs:
    _check_name(output)
  places = {_folders.resolved(path) for path in inputs}
  for path, output in zip(inputs, outputs, strict=True):
    if _folders.resolved(output) in places or (
      output.exists() and output.samefile(path)
    ):
      raise ValueError(f'{output} would replace an input; choose another.')
    if outputs.count(output) > 1:
      raise ValueError(
        f'Two inputs would become {output}. Give them names of their own.'
      )
    if output.suffix.lower() not in formats.WRITTEN_SUFFIXES:
      raise ValueError(
        f'--output={output} must end in one of '
        f'{", ".join(formats.WRITTEN_SUFFIXES)} (or be a folder, if --input '
        'is).'
      )
  return list(zip(inputs, outputs, strict=True))


def _check_readable(paths):
  """Raises for files that are no audio; for several, one error names them."""
  faults = []
  for path in paths:
    try:
      read_info(path)
    except ValueError as error:
      faults.append(str(error))
  if faults:
    raise opening.error_of(faults)


def _check_name(output):
  n_bytes = len(os.fsencode(output.name))
  if n_bytes > _MOST_NAME_BYTES:
    raise ValueError(
      f'The name of {output} has {n_bytes} bytes; what is written beside it '
      f'has longer names, so it may have {_MOST_NAME_BYTES}. Choose a shorter '
      'one.'
    )


def _as_written(path):
  """Returns a name with a suffix that is written: .wav for others."""
  is_written = path.suffix.lower() in formats.WRITTEN_SUFFIXES
  return path if is_written else path.with_suffix('.wav')


def without_suffixes(paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
  """Returns what names of files that belong to audio files begin with.

  Args:
    paths: Audio files.

  Returns:
    The path of each without its suffix; with it where that is another's too,
    as for a.wav and a.flac.
  """
  bare = [path.with_suffix('') for path in paths]
  return [
    path if bare.count(name) > 1 else name
    for path, name in zip(paths, bare, strict=True)
  ]
