"""Formats of audio files: which are read, which are written, what they take."""

import functools
import io

import numpy as np
import soundfile

# What is read, by libsndfile.
AUDIO_SUFFIXES = (
  *('.wav', '.flac', '.ogg', '.mp3', '.aif', '.aiff'),
  *('.aifc', '.au', '.caf', '.oga', '.opus', '.rf64', '.snd', '.w64'),
)
# What is audio too, and has to be converted.
UNREAD_SUFFIXES = (
  *('.3gp', '.aac', '.ac3', '.alac', '.amr', '.ape', '.dff', '.dsf', '.dts'),
  *('.m4a', '.m4b', '.mka', '.mp4', '.mpc', '.tta', '.webm', '.wma', '.wv'),
)
# What is written: libsndfile's name, and its kind of samples. Floats where that
# is possible: what exceeds full scale is not lost.
_WRITTEN = {
  '.wav': ('WAV', 'FLOAT'),
  '.flac': ('FLAC', 'PCM_24'),
  '.ogg': ('OGG', None),
  '.mp3': ('MP3', None),
  '.aif': ('AIFF', 'FLOAT'),
  '.aiff': ('AIFF', 'FLOAT'),
  '.aifc': ('AIFF', 'FLOAT'),
  '.au': ('AU', 'FLOAT'),
  '.caf': ('CAF', 'FLOAT'),
  '.w64': ('W64', 'FLOAT'),
}
WRITTEN_SUFFIXES = tuple(_WRITTEN)


def written_as(suffix: str) -> tuple[str, str | None]:
  """Returns libsndfile's names of a format and of its kind of samples.

  Args:
    suffix: One of `WRITTEN_SUFFIXES`.
  """
  return _WRITTEN[suffix]


@functools.cache
def _takes(suffix, sample_rate, n_channels):
  kind, subtype = _WRITTEN[suffix]
  try:
    with soundfile.SoundFile(
      io.BytesIO(), 'w', sample_rate, n_channels, subtype, format=kind
    ) as file:
      file.write(np.zeros([1, n_channels], np.float32))
  except (soundfile.SoundFileError, ValueError, OverflowError):
    return False
  return True


def refusal(suffix: str, sample_rate: int, n_channels: int) -> str:
  """Says why a format cannot hold audio; '' if it can.

  Args:
    suffix: One of `WRITTEN_SUFFIXES`.
    sample_rate: In Hz.
    n_channels: Number of channels.
  """
  if _takes(suffix, sample_rate, n_channels):
    return ''
  faults = []
  if not _takes(suffix, 44100, n_channels):
    faults.append(f'{n_channels} channels')
  if not _takes(suffix, sample_rate, 1):
    faults.append(f'{sample_rate} Hz')
  what = ' and '.join(faults) or f'{n_channels} channels at {sample_rate} Hz'
  return f'{_WRITTEN[suffix][0]} does not take {what}. Write WAV.'
