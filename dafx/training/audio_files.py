"""Audio files that are written: which, and how."""

import os
import pathlib

import numpy as np
import soundfile
from absl import logging

from dafx.training import data

# WAV and AIFF keep floats: what exceeds full scale is not lost.
_SUBTYPES = {
  '.wav': 'FLOAT',
  '.flac': 'PCM_24',
  '.aif': 'FLOAT',
  '.aiff': 'FLOAT',
}


class Writer:
  """Writes audio block by block; the file is there when it is whole.

  A context manager: what raises in it leaves no file.

  Args:
    path: The file; WAV and AIFF are written as floats, FLAC as 24 bits.
    sample_rate: In Hz.

  Raises:
    ValueError: A format that cannot be written.
  """

  def __init__(self, path: str | os.PathLike, sample_rate: int):
    self._path = pathlib.Path(path)
    self._suffix = self._path.suffix.lower()
    if self._suffix not in data.AUDIO_SUFFIXES:
      raise ValueError(
        f'{path}: audio is written as one of {", ".join(data.AUDIO_SUFFIXES)}.'
      )
    self._sample_rate = sample_rate
    self._temporary = self._path.with_name(
      f'.{self._path.stem}.partial{self._path.suffix}'
    )
    self._file = None
    self._peak = 0.0

  def __enter__(self):
    """Returns itself."""
    return self

  def write(self, block: np.ndarray):
    """Writes the next block, [n_samples, n_channels]."""
    if self._file is None:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      self._file = soundfile.SoundFile(
        self._temporary,
        'w',
        self._sample_rate,
        block.shape[1],
        _SUBTYPES.get(self._suffix),
        format='AIFF' if self._suffix == '.aif' else None,  # not known by it
      )
    self._peak = max(self._peak, float(np.abs(block).max(initial=0.0)))
    self._file.write(block)

  def __exit__(self, kind, error, traceback):
    """Puts the file in its place, or takes away what there is of it."""
    if self._file is None:
      return
    self._file.close()
    if kind is not None:
      self._temporary.unlink()
      return
    os.replace(self._temporary, self._path)
    if self._peak > 1.0 and _SUBTYPES.get(self._suffix) != 'FLOAT':
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
  with Writer(path, sample_rate) as writer:
    writer.write(audio)


def plan_outputs(
  input_path: str | os.PathLike, output_path: str | os.PathLike
) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Says which file is made of which, and looks at all of them first.

  Args:
    input_path: An audio file, or a folder of them.
    output_path: The file, or the folder that gets files of the same names.

  Returns:
    (input, output) of each file.

  Raises:
    FileNotFoundError: No such file, or no audio in the folder.
    ValueError: A file that is no audio, or one that would replace its input.
  """
  source = pathlib.Path(input_path).expanduser()
  target = pathlib.Path(output_path).expanduser()
  if source.is_dir():
    inputs = data.find_audio(source)
    outputs = [target / path.relative_to(source) for path in inputs]
  else:
    inputs, outputs = [source], [target]
    if target.is_dir():
      outputs = [target / source.name]
  # Each is looked at before the first is worked on.
  for path, output in zip(inputs, outputs, strict=True):
    data.read_info(path)
    if output.exists() and output.samefile(path):
      raise ValueError(f'{output} would replace its input; choose another.')
    if output.suffix.lower() not in data.AUDIO_SUFFIXES:
      raise ValueError(
        f'--output={output} must end in one of '
        f'{", ".join(data.AUDIO_SUFFIXES)} (or be a folder, if --input is).'
      )
  return list(zip(inputs, outputs, strict=True))
