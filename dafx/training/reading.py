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
from absl import logging

from dafx import metrics
from dafx.audio import files as audio_files
from dafx.audio import sources
from dafx.training import align, captures

# What `read_pair` can mend.
MENDABLE = ('sample_rate', 'channels', 'length', 'latency', 'lag')

# Blips are looked for in so much of the start, and answers so long after one.
_LEAD_S = 5.0
_LONGEST_LATENCY_S = 0.25
# An answer is what exceeds the noise before the blip so many times.
_OVER_NOISE = 4.0
_OVER_SILENCE = 1e-4
# Pairs further apart than this are no pairs, or late.
_MAX_LAG_S = 0.05
_SURE_CORRELATION = 0.3
# Filters have a delay of their own, which is no longer than this.
_FILTER_S = 2e-3
# Sound that is nowhere louder is silence.
_SILENCE_PEAK = 1e-6


@dataclasses.dataclass(frozen=True)
class PairAudio:
  """The audio of a pair.

  Attributes:
    audio: The input, float32, [n_samples, n_channels].
    target: The target, of that shape.
    sample_rate: Of both, in Hz.
    latency: Samples by which the target was late, which were taken out;
      negative where it was early.
    notes: What was mended, or is doubtful: a sentence each.
  """

  audio: np.ndarray
  target: np.ndarray
  sample_rate: int
  latency: int = 0
  notes: tuple[str, ...] = ()


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
      repeated. 'length': what one side has more is cut off; without
      `find_latency` each side keeps its own, for an alignment that comes later.
      'latency': samples by which blips tell that the target is late are taken
      out. 'lag': without blips, those that `align` tells, and what does not
      agree on that lag.
    find_latency: Whether this is a recording, whose target may be late: silence
      is refused, blips at the start of the input are looked for, and without
      them a target that is clearly late or early is refused, if 'lag' is not
      mended. A lag that may be the delay of a filter is noted.
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
  sides: list[np.ndarray] = []
  notes: list[str] = []
  for path, info in zip(paths, infos, strict=True):
    _check_form(path, info, rate, channels, mend)
    audio, _ = audio_files.read(path)
    if len(audio) < min_seconds * info.samplerate:
      raise ValueError(
        f'{path} is {len(audio) / info.samplerate:.2f} s long; a pair has at '
        f'least {min_seconds} s.'
      )
    notes += _changes_of_form(path, audio, info.samplerate, rate, channels)
    sides.append(conform(audio, info.samplerate, rate, channels))
  if len(sides[0]) != len(sides[1]):
    if 'length' not in mend:
      raise ValueError(
        f'{input_path} has {len(sides[0])} samples, {target_path} '
        f'{len(sides[1])}: one of them is cut or was recorded at another rate. '
        'Export both from the same region.'
      )
    if find_latency:
      notes.append(
        f'{input_path} has {len(sides[0])} samples, {target_path} '
        f'{len(sides[1])}: what one has more is cut off'
      )
  if not find_latency:
    return PairAudio(sides[0], sides[1], rate, notes=tuple(notes))
  lag, first, last, found = _find_latency(paths, sides, rate, mend)
  first = max(first, -lag)
  last = min(last, len(sides[0]), len(sides[1]) - lag)
  return PairAudio(
    sides[0][first:last],
    sides[1][first + lag : last + lag],
    rate,
    lag,
    (*notes, *found),
  )


def _changes_of_form(path, audio, source_hz, sample_rate, n_channels):
  """Says what `conform` changes of a file."""
  if source_hz != sample_rate:
    yield f'{path} is resampled from {source_hz} to {sample_rate} Hz'
  if n_channels == 1 < audio.shape[1]:
    is_same = np.array_equal(audio, np.tile(audio[:, :1], audio.shape[1]))
    which = 'the same' if is_same else 'that are not the same'
    yield f'{path} has {audio.shape[1]} channels, {which}, mixed to one'


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
def _find_latency(paths, sides, sample_rate, mend):
  """Returns (lag, first sample, last sample of the input, notes).

  The lag is what is to be taken out, in samples. What lies before the first
  sample and behind the last one is no pair.
  """
  for path, audio in zip(paths, sides, strict=True):
    if not np.any(np.abs(audio) > _SILENCE_PEAK):
      raise ValueError(
        f'{path} is silent: there is nothing to learn from it. Check the '
        'recording.'
      )
  whole = 0, len(sides[0])
  dry, wet = (side.mean(axis=1) for side in sides)
  standard = captures.find_standard(dry, sample_rate)
  latency = blip_latency(dry, wet, sample_rate)
  if latency is None:
    lag, said = _compare(paths, dry, wet, sample_rate)
    if lag and 'lag' not in mend:
      raise ValueError(
        f'{said}. Shift it by that; if the effect is meant to delay, this pair '
        'cannot be told from a misaligned one: put blips before the dry audio.'
      )
    lag, first, last, notes = _find_lag(paths, sides, sample_rate, lag, said)
    if 'lag' in mend:
      return lag, first, last, [f'{note}: taken out' for note in notes]
    return 0, *whole, [f'{note}: left as it is' for note in notes]
  if latency and 'latency' not in mend:
    raise ValueError(
      f'{paths[1]} is {latency} samples late by its blips. Set align=True, or '
      'shift it.'
    )
  notes = []
  if latency:
    notes.append(
      f'{paths[1]} is {latency} samples late by its blips: taken out'
    )
  if standard is None:
    return latency, *whole, notes
  known = standard[0]
  first = round(known.first_sample * sample_rate / known.sample_rate)
  notes += _about_standard(paths, known, wet[latency:], len(dry), sample_rate)
  return latency, first, len(sides[0]), notes


def _about_standard(paths, known, wet, n_samples, sample_rate):
  """Says what is left out of a standard input, and how it was answered."""
  said = f'{paths[0]} is the standard input {known.name}'
  if known.first_sample:
    seconds = known.first_sample / known.sample_rate
    said += f': its first {seconds:.2f} s are left out'
  yield said
  esr = captures.repeat_esr(known, wet, n_samples, sample_rate)
  if esr is not None and esr > captures.MAX_REPEAT_ESR:
    yield (
      f'what it plays twice came back differently (ESR {esr:.3f}, at most '
      f'{captures.MAX_REPEAT_ESR} is wanted): noise, a setting that was moved, '
      'or an effect with a clock of its own, which no clone can follow'
    )


def _find_lag(paths, sides, sample_rate, plain_lag, said):
  """Finds the lag of a pair without blips, and the part that agrees on it.

  Args:
    paths: Of input and target.
    sides: Their audio, [n_samples, n_channels].
    sample_rate: Of both, in Hz.
    plain_lag: What `_compare` found, which counts where `align` finds nothing.
    said: Words for that.

  Returns:
    (lag, first sample, last sample of the input, notes on what is amiss).
  """
  audio, target = sides
  n_samples = len(audio)
  try:
    found = align.align(audio, target, sample_rate)
  except align.AlignmentError as error:
    if plain_lag:
      return plain_lag, 0, n_samples, [said]
    logging.warning('Whether %s is late cannot be told: %s.', paths[1], error)
    return 0, 0, n_samples, []
  lag = align.causal_lag(audio, target, sample_rate, found.lag_samples)
  # Stretches end a little before the files do, by the first guess of the lag.
  near = int(_FILTER_S * sample_rate)
  n_shared = min(n_samples, len(target) - lag)
  first, last = found.first_sample, found.last_sample
  first = 0 if first <= max(-lag, 0) + near else first
  last = n_samples if last >= n_shared - near else last
  notes = []
  if lag:
    notes.append(f'{_say_lag(paths, lag)} (correlation {found.confidence:.2f})')
  if first > 0 or last < n_samples:
    notes.append(
      f'all but {first / sample_rate:.2f} to {last / sample_rate:.2f} s of '
      f'{paths[0]} agrees less on its lag'
    )
  return lag, first, last, notes


def _say_lag(paths, lag):
  side = 'late' if lag > 0 else 'early'
  return f'{paths[1]} is {abs(lag)} samples {side} against {paths[0]}'


def _compare(paths, dry, wet, sample_rate):
  """Returns the lag that plain correlation tells for sure, and words for it.

  The lag is 0 where it is not sure, or may be the delay of a filter.
  """
  n = min(len(dry), len(wet), 10 * sample_rate)
  max_lag = min(int(_MAX_LAG_S * sample_rate), n // 2)
  if n < 2:
    return 0, ''
  dry, wet = dry[:n], wet[:n]
  lag = metrics.find_lag(dry, wet, max_lag, ignore_polarity=True)
  correlation = metrics.polarity(*metrics.align(dry, wet, lag))
  as_they_are = metrics.polarity(dry, wet)
  if abs(lag) <= _FILTER_S * sample_rate or abs(correlation) <= max(
    _SURE_CORRELATION, 2 * abs(as_they_are)
  ):
    return 0, ''
  said = (
    f'{_say_lag(paths, lag)} (correlation {correlation:.2f} there, '
    f'{as_they_are:.2f} as they are)'
  )
  return lag, said


def find_blips(dry: np.ndarray, sample_rate: int) -> list[int]:
  """Finds single clicks in the quiet at the start of a dry file.

  Those of a standard input are where it has them; see `captures`.

  Args:
    dry: Shape [n_samples].
    sample_rate: In Hz.

  Returns:
    First samples of the clicks.
  """
  standard = captures.find_standard(dry, sample_rate)
  if standard is not None:
    return standard[1]
  lead = np.abs(dry[: int(_LEAD_S * sample_rate)])
  length = int(captures.BLIP_S * sample_rate)
  blips: list[int] = []
  for start in np.flatnonzero(lead > captures.BLIP_PEAK):
    if blips and start < blips[-1] + length:
      continue
    if not captures.is_blip(lead, int(start), sample_rate):
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
    noise = np.abs(
      wet[max(start - int(captures.QUIET_S * sample_rate), 0) : start]
    )
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
