"""Audio that is read and changed in chunks, so that its length costs no memory.

A `Source` is audio that can be gone through as often as one likes; functions
make sources of sources, and nothing is read until their blocks are asked for.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import soxr

from dafx import _arguments
from dafx.audio import files as audio_files

# Samples that are read at a time.
_BLOCK = 2**16


@dataclasses.dataclass(frozen=True)
class Source:
  """Audio in blocks.

  Attributes:
    sample_rate: In Hz.
    n_samples: In all, per channel.
    n_channels: Their number.
    blocks: Returns an iterator over float32 [n, n_channels], from the start on,
      n as it comes; together they are n_samples.
  """

  sample_rate: int
  n_samples: int
  n_channels: int
  blocks: Callable[[], Iterator[np.ndarray]]


def _checked(blocks, sample_rate):
  n_before = 0
  for block in blocks:
    audio_files.check_finite(block, sample_rate, n_before, 'audio')
    n_before += len(block)
    yield block


def from_array(audio: np.ndarray, sample_rate: int) -> Source:
  """Returns audio in memory as a source.

  Args:
    audio: Shape [n_samples, n_channels].
    sample_rate: In Hz.

  Raises:
    ValueError: Another shape, or no samples; as blocks are read, values that
      are not finite.
  """
  audio = _arguments.audio_array('audio', audio)
  if audio.ndim != 2 or not audio.size:
    raise ValueError(
      f'audio has shape {audio.shape}; it must be [n_samples, n_channels] with '
      'at least one of each.'
    )

  def blocks():
    starts = range(0, len(audio), _BLOCK)
    parts = (np.float32(audio[start : start + _BLOCK]) for start in starts)
    return _checked(parts, sample_rate)

  n_samples, n_channels = audio.shape
  return Source(sample_rate, n_samples, n_channels, blocks)


def from_file(path: str | os.PathLike) -> Source:
  """Returns an audio file as a source.

  Args:
    path: A file that soundfile reads.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: The file is no audio; as blocks are read, values that are not
      finite, or a file that is damaged. The message names the file.
  """
  info = audio_files.read_info(path)

  def blocks():
    return audio_files.read_blocks(path, _BLOCK)

  return Source(info.samplerate, info.frames, info.channels, blocks)


def mixed(source: Source) -> Source:
  """Returns the mean of the channels."""

  def blocks():
    return (block.mean(axis=1, keepdims=True) for block in source.blocks())

  return dataclasses.replace(source, n_channels=1, blocks=blocks)


def resample(audio: np.ndarray, source_hz: int, target_hz: int) -> np.ndarray:
  """Resamples audio by soxr, at its high quality.

  Args:
    audio: Shape [n_samples] or [n_samples, n_channels].
    source_hz: Its rate.
    target_hz: The rate that is wanted.

  Returns:
    Audio of n_samples * target_hz / source_hz samples, rounded up.
  """
  if source_hz == target_hz:
    return audio
  n_samples = int(-(-len(audio) * target_hz // source_hz))
  out = soxr.resample(audio, source_hz, target_hz, quality='HQ')[:n_samples]
  # soxr leaves the last one out where less than half of it is there.
  fill = [(0, n_samples - len(out)), *[(0, 0)] * (out.ndim - 1)]
  return np.pad(out, fill)


def resampled(source: Source, sample_rate: int) -> Source:
  """Returns audio at another rate, as `resample` does it.

  Args:
    source: Audio.
    sample_rate: The rate, in Hz.
  """
  if sample_rate == source.sample_rate:
    return source
  n_samples = int(-(-source.n_samples * sample_rate // source.sample_rate))
  blocks = functools.partial(resample_blocks, source, sample_rate, n_samples)
  return Source(sample_rate, n_samples, source.n_channels, blocks)


def resample_blocks(
  source: Source, sample_rate: int, n_samples: int
) -> Iterator[np.ndarray]:
  """Yields blocks at another rate, cut or filled to a number of samples.

  Args:
    source: Audio.
    sample_rate: The rate, in Hz.
    n_samples: How many samples shall come out.
  """
  stream = soxr.ResampleStream(
    source.sample_rate, sample_rate, source.n_channels, dtype='float32'
  )

  def parts():
    for block in source.blocks():
      yield stream.resample_chunk(np.ascontiguousarray(block))
    end = np.zeros([0, source.n_channels], np.float32)
    yield stream.resample_chunk(end, last=True)

  yield from with_length(parts(), n_samples, source.n_channels)


def with_length(
  blocks: Iterable[np.ndarray], n_samples: int, n_channels: int
) -> Iterator[np.ndarray]:
  """Yields blocks [n, n_channels], cut or filled with zeros to n_samples."""
  for block in blocks:
    block = block[:n_samples]
    n_samples -= len(block)
    if len(block):
      yield block
  if n_samples:
    yield np.zeros([n_samples, n_channels], np.float32)


def windows(
  blocks: Iterable[np.ndarray], size: int, before: int = 0, after: int = 0
) -> Iterator[tuple[np.ndarray, int]]:
  """Goes through audio stretch by stretch, with what lies around each.

  Args:
    blocks: Shape [n, n_channels] each.
    size: Samples of a stretch; the last one may be shorter.
    before: Samples before it that are given too.
    after: Samples after it.

  Yields:
    (Audio [n, n_channels], how many samples of it lie before the stretch):
    fewer than asked for at the ends.
  """
  held: np.ndarray | None = None
  first, start = 0, 0  # first: where what is held begins
  for block in blocks:
    held = block if held is None else np.concatenate([held, block])
    while first + len(held) >= start + size + after:
      begin = max(0, start - before)
      yield held[begin - first : start + size + after - first], start - begin
      start += size
      drop = max(0, start - before - first)
      held, first = held[drop:], first + drop
  if held is None:
    return
  n_samples = first + len(held)
  while start < n_samples:
    begin = max(0, start - before)
    end = min(n_samples, start + size + after)
    yield held[begin - first : end - first], start - begin
    start += size
