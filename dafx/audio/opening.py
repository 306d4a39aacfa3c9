"""Audio files as they are opened: by any name, in any form, with their faults.

libsndfile takes names as bytes, so that any name that a file system has will
do, whatever the encoding of the terminal is.
"""

import contextlib
import os
import pathlib
from collections.abc import Sequence

import soundfile

from dafx.audio import formats

# What can be done about a file, without losing it.
REMEDY = 'give another file, or move this one out of its folder'
# Rates that sound has; what lies outside is a damaged header, or no sound.
LOWEST_HZ, HIGHEST_HZ = 1000, 768000
_DROPPED = 2**16  # samples at a time


class FileError(ValueError):
  """Something is wrong with a file; the message begins with its name."""


def checked(path: str | os.PathLike) -> pathlib.Path:
  """Returns the path of a file that is there; a pipe is not waited for.

  Args:
    path: The file.

  Raises:
    FileNotFoundError: There is none.
    FileError: A folder, a pipe or a device.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'{path}: there is no such file.')
  if path.is_dir():
    raise FileError(f'{path} is a folder, not an audio file.')
  if not path.is_file():
    raise FileError(
      f'{path} is a pipe or a device, not a file: audio is read more than '
      'once. Write it to a file first.'
    )
  return path


# Files that a message names.
_NAMED = 5


def error_of(faults: Sequence[str]) -> FileError:
  """Returns an error that names several files.

  Args:
    faults: Why each cannot be used, with its name; at least one.
  """
  more = f'\n  and {len(faults) - _NAMED} more' if faults[_NAMED:] else ''
  count = f'{len(faults)} files cannot be used:\n  ' if faults[1:] else ''
  return FileError(count + '\n  '.join(faults[:_NAMED]) + more)


@contextlib.contextmanager
def named(name: str | os.PathLike):
  """Names a file in what is raised about it.

  Args:
    name: Its path, or what else it is called.

  Raises:
    FileError: In place of a ValueError or an error of soundfile. One that names
      its file already stays as it is.
  """
  try:
    yield
  except FileError:
    raise
  except ValueError as error:
    raise FileError(f'{name}: {error}') from error
  except soundfile.SoundFileError as error:
    raise FileError(
      f'{name} is damaged or no audio file ({reason(error)}). Readable are '
      f'{", ".join(formats.AUDIO_SUFFIXES)}; convert it, or {REMEDY}.'
    ) from error


def reason(error: soundfile.SoundFileError) -> str:
  """Returns what libsndfile says, without the name of the file.

  Args:
    error: What was raised.
  """
  if isinstance(error, soundfile.LibsndfileError):
    return error.error_string
  return str(error)


def open_to_read(path: str | os.PathLike) -> soundfile.SoundFile:
  """Returns a file that is open.

  Args:
    path: The file.

  Raises:
    FileNotFoundError: There is none.
    FileError: No file, or one whose rate no sound has.
    soundfile.SoundFileError: It is no audio.
  """
  file = soundfile.SoundFile(os.fsencode(checked(path)))
  if not LOWEST_HZ <= file.samplerate <= HIGHEST_HZ:
    file.close()
    raise FileError(
      f'{path} says that it has {file.samplerate} samples per second; sound '
      f'has {LOWEST_HZ} to {HIGHEST_HZ}. Its header may be damaged: export it '
      f'again, or {REMEDY}.'
    )
  return file


def go_to(file: soundfile.SoundFile, start: int):
  """Has the next read begin at a sample, in forms without places too (GSM).

  Args:
    file: A file that is open, of which nothing was read.
    start: The sample, from 0.
  """
  if file.seekable():
    file.seek(start)
    return
  while start > 0:
    n_read = len(file.read(min(start, _DROPPED), 'float32', always_2d=True))
    if not n_read:
      return
    start -= n_read
