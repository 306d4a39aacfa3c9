"""What the samples of files are like: looked at once, before they are used.

Samples that are not finite and files that cannot be read to their end are
refused, those that are silent or clipped are reported. What was found is kept
by path, size and time of change: faults in this process alone, since another
program (FFmpeg) may read the file tomorrow, the rest in the user's cache.
"""

import concurrent.futures
import dataclasses
import functools
import json
import logging
import os
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from dafx import _folders
from dafx.audio import files as audio_files
from dafx.audio import opening

_log = logging.getLogger('dafx')
_lock = threading.Lock()
_BLOCK = 2**16
_SILENCE_PEAK = 1e-6
# So many equal samples in a row at full scale are clipped.
_CLIPPED_RUN = 3
_FULL_SCALE = 0.999
# 40 dB above full scale: floats that hold integers, such as 16-bit samples.
_FAR_ABOVE = 100.0
# Files that a message names.
_NAMED = 5


@dataclasses.dataclass(frozen=True)
class Scan:
  """What was found in a file.

  Attributes:
    fault: Why it cannot be used; '' if it can.
    peak: Largest magnitude of a sample.
    n_clipped: Samples that are equal to their neighbours at full scale.
    first_clipped_s: Where the first of them lies, in seconds.
  """

  fault: str = ''
  peak: float = 0.0
  n_clipped: int = 0
  first_clipped_s: float = 0.0


@dataclasses.dataclass(frozen=True)
class Job:
  """A piece of audio to look at.

  Attributes:
    path: The file that it lies in.
    blocks: Returns an iterator over it, [n, n_channels].
    sample_rate: In Hz.
    name: What it is called, where a file holds more than one.
  """

  path: pathlib.Path
  blocks: Callable[[], Iterator[np.ndarray]]
  sample_rate: float
  name: str = ''

  @property
  def place(self) -> str:
    """Returns what it is called in messages."""
    return f'{self.path}: {self.name}' if self.name else str(self.path)


def of_file(path: str | os.PathLike, sample_rate: float) -> Job:
  """Returns the job of looking at an audio file.

  Args:
    path: The file.
    sample_rate: Its rate, in Hz.
  """
  blocks = functools.partial(audio_files.read_blocks, path, _BLOCK)
  return Job(pathlib.Path(path), blocks, sample_rate)


def scan(blocks: Iterable[np.ndarray], sample_rate: float) -> Scan:
  """Looks at audio.

  Args:
    blocks: Shape [n, n_channels] each; what they raise as ValueError is a
      fault.
    sample_rate: In Hz.

  Examples:
    >>> import numpy as np
    >>> from dafx.audio import scans
    >>> scans.scan([np.ones([4, 1])], sample_rate=2)
    Scan(fault='', peak=1.0, n_clipped=4, first_clipped_s=0.0)
  """
  peak, n_clipped, first, n_before = 0.0, 0, 0.0, 0
  try:
    for block in blocks:
      peak = max(peak, float(np.abs(block).max(initial=0.0)))
      if peak >= _FULL_SCALE:
        found = _clipped(block)
        if len(found) and not n_clipped:
          first = (n_before + int(found[0])) / sample_rate
        n_clipped += len(found)
      n_before += len(block)
  except ValueError as error:
    return Scan(str(error))
  return Scan('', peak, n_clipped, first)


def _clipped(block):
  """Returns the indices of clipped samples, of all channels."""
  is_full = np.abs(block) >= _FULL_SCALE
  same = (block[1:] == block[:-1]) & is_full[1:]
  n = _CLIPPED_RUN - 1  # so many steps without a change are a run
  if len(same) < n:
    return np.zeros(0, int)
  runs = np.all([same[i : len(same) - n + 1 + i] for i in range(n)], axis=0)
  is_clipped = np.zeros(block.shape, bool)
  for i in range(_CLIPPED_RUN):
    is_clipped[i : i + len(runs)] |= runs
  return np.nonzero(is_clipped)[0]


# ---------------------- What is kept ------------------------------------------
def _key(job):
  stat = os.stat(job.path)
  path = os.fspath(_folders.resolved(job.path))
  return f'{path}|{job.name}|{stat.st_size}|{stat.st_mtime_ns}'


@functools.cache
def _known() -> dict[str, Scan]:
  """Returns what is known, by key: that of earlier runs at first."""
  known = {}
  path = _kept()
  if path is not None and path.exists():
    for line in path.read_bytes().splitlines():
      try:
        key, values = json.loads(line)
        known[str(key)] = Scan(*values)
      except (ValueError, TypeError, RecursionError):
        continue  # cut short, or of another version
  return known


def _kept() -> pathlib.Path | None:
  root = _folders.user_cache()
  return root and root / 'dafx' / 'scans.jsonl'


def _keep(found):
  """Adds what was found, and what has no fault to the user's cache."""
  _known().update(found)
  found = {key: result for key, result in found.items() if not result.fault}
  path = _kept()
  if path is None or not found:
    return
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'a', encoding='utf-8') as file:
      for key, result in found.items():
        file.write(json.dumps([key, dataclasses.astuple(result)]) + '\n')
  except OSError:
    _folders.say_nothing_is_kept()


def scan_all(jobs: Sequence[Job]) -> list[Scan]:
  """Looks at what was not looked at before, on threads.

  Args:
    jobs: What to look at.

  Returns:
    What was found, in their order.
  """
  keys = [_key(job) for job in jobs]
  with _lock:
    new = {k: j for k, j in zip(keys, jobs, strict=True) if k not in _known()}
  if len(new) > 1:
    _log.info('Looking at the samples of %d files, once.', len(new))
  n_threads = len(os.sched_getaffinity(0))
  with concurrent.futures.ThreadPoolExecutor(n_threads) as executor:
    results = list(
      executor.map(
        lambda job: scan(job.blocks(), job.sample_rate), new.values()
      )
    )
  with _lock:
    _keep(dict(zip(new, results, strict=True)))
    return [_known()[key] for key in keys]


def check(jobs: Sequence[Job], faults: Sequence[str] = ()):
  """Refuses what cannot be used, and reports what may be a mistake.

  Args:
    jobs: What is to be used.
    faults: Why other files cannot be, each with its name.

  Raises:
    FileError: Samples that are not finite, or files that cannot be read to
      their end; the message names all of them.
  """
  found = scan_all(jobs)
  own = [each.fault for each in found if each.fault]
  faults = list(dict.fromkeys([*faults, *own]))
  if faults:
    raise opening.error_of(faults)
  is_silent = [each.peak < _SILENCE_PEAK for each in found]
  _report(
    'silent', tuple(j.place for j, x in zip(jobs, is_silent, strict=True) if x)
  )
  _report(
    'far above full scale, as where integers were written as floats',
    tuple(
      f'{job.place} (by {20 * np.log10(each.peak):.0f} dB)'
      for job, each in zip(jobs, found, strict=True)
      if each.peak > _FAR_ABOVE
    ),
  )
  _report(
    'clipped',
    tuple(
      f'{job.place} ({each.n_clipped} samples, from {each.first_clipped_s:.3f} '
      's on)'
      for job, each in zip(jobs, found, strict=True)
      if each.n_clipped
    ),
  )


@functools.cache
def _report(what: str, places: tuple[str, ...]):
  """Reports files, once."""
  if places:
    more = f' and {len(places) - _NAMED} more' if places[_NAMED:] else ''
    _log.warning(
      '%s %s: %s%s.',
      'This is' if len(places) == 1 else 'These are',
      what,
      ', '.join(places[:_NAMED]),
      more,
    )
