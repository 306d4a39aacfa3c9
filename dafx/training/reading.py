"""The one way to read a pair of files: what goes in, and what shall come out.

Training, preparation and evaluation ask the same of the two files: one rate,
one number of channels, one length, samples that are finite, and of a recording
that its target is not late. What does not hold is an error that names the file,
unless the caller asks for it to be mended.
"""

import dataclasses
import os
from collections.abc import Collection, Sequence

import numpy as np

from dafx import metrics
from dafx.audio import files as audio_files
from dafx.audio import sources

# What `read_pair` can mend.
MENDABLE = ('sample_rate', 'channels', 'length', 'latency')

# A blip stands out of the quiet around it for no longer than this.
_BLIP_S = 2e-3
_QUIET_S = 0.1
_BLIP_PEAK = 0.1
_QUIET_PEAK = 1e-3
# Blips are looked for in so much of the start, and answers so long after one.
_LEAD_S = 5.0
_LONGEST_LATENCY_S = 0.25
# An answer is what exceeds the noise before the blip so many times.
_OVER_NOISE = 4.0
_OVER_SILENCE = 1e-4
# Pairs further apart than this are no pairs, or late.
_MAX_LAG_S = 0.05
_SURE_CORRELATION = 0.3
# Sound that is nowhere louder is silence.
_SILENCE_PEAK = 1e-6


@dataclasses.dataclass(frozen=True)
class PairAudio:
  """The audio of a pair.

  Attributes:
    audio: The input, float32, [n_samples, n_channels].
    target: The target, of that shape.
    sample_rate: Of both, in Hz.
    latency: Samples by which the target was late, which were taken out.
  """

  audio: np.ndarray
  target: np.ndarray
  sample_rate: int
  latency: int = 0


def differences(paths: Sequence[os.PathLike], infos: Sequence) -> list[str]:
  """Says in what the forms of two files differ.

  Args:
    paths: Input and target.
    infos: Of both, as of `audio_files.read_info`.

  Returns:
    A sentence each for rate, channels and length, where they differ.
  """
  ours, theirs = infos
  return [
    f'{paths[0]} has {mine} {unit}, its target {paths[1]} {other}'
    for mine, other, unit in (
      (ours.samplerate, theirs.samplerate, 'Hz'),
      (ours.channels, theirs.channels, 'channels'),
      (ours.frames, theirs.frames, 'samples'),
    )
    if mine != other
  ]


def version(*paths: os.PathLike) -> str:
  """Returns what changes where files do: their sizes and times."""
  stats = [os.stat(path) for path in paths]
  return repr([(stat.st_size, stat.st_mtime_ns) for stat in stats])


def read_pair(
  input_path: str | os.PathLike,
  target_path: str | os.PathLike,
  sample_rate: int | None = None,
  n_channels: int | None = None,
  mend: Collection[str] = (),
  find_latency: bool = False,
  min_seconds: float = 0.0,
) -> PairAudio:
  """Reads both files of a pair, and checks or mends what is wrong with them.

  Args:
    input_path: The file of the input.
    target_path: The file of the target.
    sample_rate: Rate that both must have, in Hz; None for any that they share,
      or if it is mended the higher one.
    n_channels: Channels that both must have; None for any number that they
      share, or if it is mended the larger one.
    mend: Of `MENDABLE`, what is mended in place of refused. 'sample_rate':
      files are resampled. 'channels': they are mixed to one, or the one is
      repeated. 'length': each side keeps its own, for an alignment that comes
      later. 'latency': samples by which blips tell that the target is late are
      taken out.
    find_latency: Whether this is a recording, whose target may be late: silence
      is refused, blips at the start of the input are looked for, and without
      them a target that is clearly late or early is refused.
    min_seconds: Length that each file must have.

  Returns:
    The audio, and what latency was taken out of it.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: What is not as it must be, and not mended; the message says in
      which file, by how much, and what to do.
  """
  unknown = set(mend) - set(MENDABLE)
  if unknown:
    raise ValueError(f'mend={tuple(mend)} must be of {MENDABLE}.')
  paths = input_path, target_path
  infos = [audio_files.read_info(path) for path in paths]
  rate = sample_rate or max(info.samplerate for info in infos)
  channels = n_channels or max(info.channels for info in infos)
  sides = []
  for path, info in zip(paths, infos, strict=True):
    _check_form(path, info, rate, channels, mend)
    audio, _ = audio_files.read(path)
    if len(audio) < min_seconds * info.samplerate:
      raise ValueError(
        f'{path} is {len(audio) / info.samplerate:.2f} s long; a pair has at '
        f'least {min_seconds} s.'
      )
    sides.append(conform(audio, info.samplerate, rate, channels))
  if len(sides[0]) != len(sides[1]) and 'length' not in mend:
    raise ValueError(
      f'{input_path} has {len(sides[0])} samples, {target_path} '
      f'{len(sides[1])}: one of them is cut or was recorded at another rate. '
      'Export both from the same region.'
    )
  latency = 0
  if find_latency:
    latency = _find_latency(paths, sides, rate, 'latency' in mend)
  n_samples = len(sides[0]) - latency
  return PairAudio(sides[0][:n_samples], sides[1][latency:], rate, latency)


def _check_form(path, info, sample_rate, n_channels, mend):
  """Raises ValueError for another rate or number of channels."""
  is_rate = info.samplerate == sample_rate or 'sample_rate' in mend
  if is_rate and (info.channels == n_channels or 'channels' in mend):
    return
  advice = 'Convert it.'
  if not is_rate:
    rate = info.samplerate
    advice = (
      f"Convert it, or train at its rate: --gin_param='sample_rate = {rate}'."
    )
  raise ValueError(
    f'{path} has {info.samplerate} Hz and {info.channels} channels; wanted are '
    f'{sample_rate} Hz and {n_channels} channels. {advice}'
  )


def conform(
  audio: np.ndarray, source_hz: int, sample_rate: int, n_channels: int
) -> np.ndarray:
  """Brings [n_samples, n] to a rate, by soxr, and a number of channels.

  Raises:
    ValueError: Channels that cannot be brought to that number.
  """
  audio = _to_channels(audio, n_channels)
  return sources.resample(audio, source_hz, sample_rate)


def _to_channels(audio, n_channels):
  """Mixes [n_samples, n] to one channel, or repeats a single one."""
  given = audio.shape[1]
  if given == n_channels:
    return audio
  if n_channels == 1:
    return audio.mean(axis=1, keepdims=True)
  if given == 1:
    return np.repeat(audio, n_channels, axis=1)
  raise ValueError(
    f'{given} channels cannot become n_channels={n_channels}; only a mix to 1 '
    'is made, and a single one is repeated.'
  )


# ---------------------- Latency -----------------------------------------------
def _find_latency(paths, sides, sample_rate, is_mended):
  """Returns the samples by which blips say that a target is late."""
  for path, audio in zip(paths, sides, strict=True):
    if not np.any(np.abs(audio) > _SILENCE_PEAK):
      raise ValueError(
        f'{path} is silent: there is nothing to learn from it. Check the '
        'recording.'
      )
  dry, wet = (side.mean(axis=1) for side in sides)
  latency = blip_latency(dry, wet, sample_rate)
  if latency is None:
    _check_lag(paths, dry, wet, sample_rate)
    return 0
  if latency and not is_mended:
    raise ValueError(
      f'{paths[1]} is {latency} samples late by its blips. Set align=True, or '
      'shift it.'
    )
  return latency


def _check_lag(paths, dry, wet, sample_rate):
  """Raises ValueError for a target that is clearly late or early."""
  n = min(len(dry), 10 * sample_rate)
  max_lag = min(int(_MAX_LAG_S * sample_rate), n // 2)
  if n < 2:
    return
  lag = metrics.find_lag(dry[:n], wet[:n], max_lag, ignore_polarity=True)
  if abs(lag) <= 2e-3 * sample_rate:
    return  # Filters have a delay of their own.
  both = metrics.align(dry[:n], wet[:n], lag)
  correlation = metrics.polarity(*both)
  as_they_are = metrics.polarity(dry[:n], wet[:n])
  if abs(correlation) > max(_SURE_CORRELATION, 2 * abs(as_they_are)):
    raise ValueError(
      f'{paths[1]} is {lag} samples {"late" if lag > 0 else "early"} '
      f'against {paths[0]} (correlation {correlation:.2f} there, '
      f'{as_they_are:.2f} as they are). Shift it by that; if the effect is '
      'meant to delay, this pair cannot be told from a misaligned one: put '
      'blips before the dry audio.'
    )


def find_blips(dry: np.ndarray, sample_rate: int) -> list[int]:
  """Finds single clicks in the quiet at the start of a dry file.

  Args:
    dry: Shape [n_samples].
    sample_rate: In Hz.

  Returns:
    First samples of the clicks.
  """
  lead = np.abs(dry[: int(_LEAD_S * sample_rate)])
  loud = np.flatnonzero(lead > _BLIP_PEAK)
  quiet, length = int(_QUIET_S * sample_rate), int(_BLIP_S * sample_rate)
  blips: list[int] = []
  for start in loud:
    if blips and start < blips[-1] + length:
      continue
    before = lead[max(start - quiet, 0) : start - 1]
    after = lead[start + length : start + quiet]
    is_single = (
      len(before) >= quiet // 2
      and len(after) >= quiet // 2
      and before.max() < _QUIET_PEAK
      and after.max() < _QUIET_PEAK
    )
    if not is_single:
      break  # The music begins.
    blips.append(int(start))
  return blips


def blip_latency(
  dry: np.ndarray, wet: np.ndarray, sample_rate: int
) -> int | None:
  """Measures the latency of a recording by its blips.

  Args:
    dry: Shape [n_samples].
    wet: Of that shape.
    sample_rate: In Hz.

  Returns:
    Samples from a blip to the first sample of the answer; None if there are no
    blips.

  Raises:
    ValueError: No answer to a blip, or blips that do not agree.
  """
  blips = find_blips(dry, sample_rate)
  if not blips:
    return None
  latencies = []
  for start in blips:
    noise = np.abs(wet[max(start - int(_QUIET_S * sample_rate), 0) : start])
    stop = start + int(_LONGEST_LATENCY_S * sample_rate)
    answer = np.abs(wet[start:stop])
    threshold = max(_OVER_NOISE * noise.max(), _OVER_SILENCE)
    over = np.flatnonzero(answer > threshold)
    if not len(over):
      raise ValueError(
        f'The dry audio has a blip at {start / sample_rate:.3f} s, and the wet '
        f'audio no answer to it within {_LONGEST_LATENCY_S} s (its noise is '
        f'{noise.max():.2g}). Is it the recording of this file?'
      )
    latencies.append(int(over[0]))
  if max(latencies) - min(latencies) > 2e-3 * sample_rate:
    raise ValueError(
      f'The blips are answered after {latencies} samples: they do not agree. '
      'Samples were lost in the recording; record it again.'
    )
  return min(latencies)
