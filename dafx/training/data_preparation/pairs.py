"""Brings pairs of files into the layout that training reads.

In steps, each of which does only what is missing: find the pairs, align them
(alignments.json), and resample and write them (manifest.json). What does not
become a pair is listed in the manifest with the reason; nothing is guessed.
"""

import dataclasses
import os
import pathlib
import zlib
from collections.abc import Callable

import numpy as np
from absl import logging

from dafx import _arguments
from dafx.audio import disk
from dafx.audio import files as audio_files
from dafx.training import align, reading
from dafx.training import progress as progress_bar
from dafx.training.data_preparation import files, matching, side_by_side

# A pair shorter than this cannot be aligned.
MIN_SECONDS = 0.25
_SIDES = ('input', 'target')
# So many samples in a row at full scale are clipped.
_CLIPPED_RUN = 3
_FULL_SCALE = 0.9999
_BYTES_PER_SAMPLE = 4  # of what is not written as FLAC, which takes less
# With fewer pairs, valid and test have one each.
_FEW_PAIRS = 10


def read_sides(
  candidate: matching.Candidate, is_aligned: bool = False
) -> tuple[np.ndarray, np.ndarray, int]:
  """Reads both files, at the higher of their rates.

  Args:
    candidate: Which.
    is_aligned: Whether they have to be of one length.

  Returns:
    Input and target, [n_samples, n_channels] each, and their rate. A mono file
    beside one with channels is repeated on all of them.

  Raises:
    ValueError: A file that is no audio or too short, numbers of channels that
      do not go together, or lengths that differ and may not.
  """
  mend = ('sample_rate', 'channels') + (() if is_aligned else ('length',))
  paths = candidate.input_path, candidate.target_path
  pair = reading.read_pair(*paths, mend=mend, min_seconds=MIN_SECONDS)
  return pair.audio, pair.target, pair.sample_rate


def n_clipped(audio: np.ndarray) -> int:
  """Counts samples of [n_samples, n_channels] that lie in a clipped stretch."""
  loud = np.abs(audio) >= _FULL_SCALE
  runs = loud[2:] & loud[1:-1] & loud[:-2]
  clipped = np.zeros_like(loud)
  for k in range(_CLIPPED_RUN):
    clipped[k : len(loud) - 2 + k] |= runs
  return int(clipped.sum())


def align_all(
  candidates: list[matching.Candidate],
  output_dir: pathlib.Path,
  is_aligned: bool,
  workers: side_by_side.Workers = side_by_side.HERE,
) -> dict[str, dict]:
  """Aligns what was not aligned before.

  Args:
    candidates: What to align.
    output_dir: Gets alignments.json.
    is_aligned: Whether they are as they should be, and only need to be heard.
    workers: Who makes them.

  Returns:
    What was found, by name: the fields of an `align.Alignment`, or 'reason'.
  """
  path = output_dir / 'alignments.json'
  state = files.read_state(path)
  new = [
    candidate
    for candidate in candidates
    if not _is_of(state.get(candidate.name), candidate.source, is_aligned)
  ]
  progress = progress_bar.Progress(
    len(candidates), len(candidates) - len(new), 'Aligning'
  )
  found = workers.run_all(
    _align, [(candidate, is_aligned) for candidate in new]
  )
  for candidate, alignment in zip(new, found, strict=True):
    state[candidate.name] = {
      'source': candidate.source,
      'is_aligned': is_aligned,
      **alignment,
    }
    files.write_json(path, state)
    progress.update(candidate.name)
  progress.close()
  return {c.name: state[c.name] for c in candidates}


def _is_of(known, source, is_aligned) -> bool:
  """Whether what a file says of an alignment is whole, and of these files."""
  if (
    not isinstance(known, dict)
    or known.get('source') != source
    or known.get('is_aligned') != is_aligned
  ):
    return False
  if isinstance(known.get('reason'), str):
    return True
  clipped = known.get('clipped_samples')
  names = [field.name for field in dataclasses.fields(align.Alignment)]
  numbers = [known.get(name) for name in ('sample_rate', *names)]
  if isinstance(clipped, dict):
    numbers += [clipped.get(side) for side in _SIDES]
  return isinstance(clipped, dict) and all(
    _arguments.is_finite(number) for number in numbers
  )


def _align(candidate, is_aligned):
  try:
    audio, target, rate = read_sides(candidate, is_aligned)
    if is_aligned:
      found = align.Alignment(0.0, 1.0, 1, 0, len(audio))
    else:
      found = align.align(audio, target, rate)
  except ValueError as error:
    return {'reason': str(error)}
  clipped = {'input': n_clipped(audio), 'target': n_clipped(target)}
  return {
    'sample_rate': rate,
    'clipped_samples': clipped,
    **dataclasses.asdict(found),
  }


def split_by_hash(
  names: list[str], known: dict[str, str], seed: int = 0
) -> dict[str, str]:
  """Assigns splits: a tenth of the files each to test and valid.

  The order in which they are filled is that of a hash of seed and name. What
  was assigned before stays where it is, so that others can be added, but that a
  split that lost its last file takes one of train.

  Args:
    names: The pairs.
    known: Splits from before, by name.
    seed: Of the hash.

  Returns:
    Splits by name.
  """
  splits = {name: known[name] for name in names if name in known}
  counts = {s: list(splits.values()).count(s) for s in files.SPLITS}
  tenth = max(1, len(names) // 10)
  names = sorted(
    names,
    key=lambda n: zlib.crc32(f'{seed}/{n}'.encode('utf-8', 'surrogateescape')),
  )
  for name in names:
    if name in splits:
      continue
    unfilled = [s for s in ('test', 'valid') if counts[s] < tenth]
    splits[name] = [*unfilled, 'train'][0]
    counts[splits[name]] += 1
  for split in ('test', 'valid'):
    in_train = [name for name in names if splits[name] == 'train']
    if split not in splits.values() and len(in_train) > 1:
      splits[in_train[0]] = split
      logging.warning(
        '%s lost its last pair and takes %s of train: a model that was trained '
        'before has heard it.',
        split,
        in_train[0],
      )
  return splits


def prepare_from_candidates(
  candidates: list[matching.Candidate],
  left_out: dict[str, str],
  output_dir: pathlib.Path,
  sample_rate: int,
  n_channels: int,
  split_of: Callable[[str], str] | None = None,
  is_aligned: bool = False,
  seed: int = 0,
  workers: side_by_side.Workers = side_by_side.HERE,
):
  """Aligns, resamples and writes pairs.

  What was written from the same files by the same settings stays as it is.

  Args:
    candidates: The pairs.
    left_out: What is none, with the reason.
    output_dir: Gets the pairs; see `dafx.training.data`.
    sample_rate: Rate of train and valid, in Hz; test keeps the files'.
    n_channels: Channels of train and valid; test keeps the files'.
    split_of: Gives the split of a name; by default a tenth of the files each
      goes to test and valid.
    is_aligned: Whether pairs are to be taken as they lie.
    seed: Of the split.
    workers: Who makes them.

  Raises:
    ValueError: Not one pair for each split, or files in output_dir that other
      settings made.
    OSError: No room on the disk.
  """
  manifest = files.Manifest(output_dir)
  settle(manifest, sample_rate, n_channels, seed)
  found = align_all(candidates, output_dir, is_aligned, workers)
  left_out = dict(left_out)
  good = []
  for candidate in candidates:
    reason = found[candidate.name].get('reason')
    if reason is not None:
      left_out[candidate.name] = reason
    else:
      good.append(candidate)
  for name, reason in left_out.items():
    logging.warning('Left out: %s: %s', name, reason)
  names = [candidate.name for candidate in good]
  if split_of is None:
    known = {
      key.removeprefix(f'{note["split"]}/'): note['split']
      for key, note in manifest.pairs.items()
    }
    splits = split_by_hash(names, known, seed)
  else:
    splits = {name: split_of(name) for name in names}
  _check_splits(splits, left_out)
  manifest.left_out = left_out
  manifest.drop(_stale(manifest, candidates, splits))
  manifest.save()
  jobs = []
  for candidate in good:
    name = candidate.name
    form = _form(candidate, splits[name], (sample_rate, n_channels))
    job = manifest, candidate, splits[name], form, found[name]
    if not _is_written(*job):
      jobs.append(job)
  n_bytes = sum(_expected_bytes(*job[3:]) for job in jobs)
  disk.check_room(output_dir, n_bytes, f'{len(jobs)} pairs')
  _write_all(jobs, manifest, workers)
  _report(manifest, len(good))


def _check_splits(splits, left_out):
  """Raises ValueError if a split has no pair."""
  lacking = set(files.SPLITS) - set(splits.values())
  if not lacking:
    return
  reasons = [f'{name}: {reason}' for name, reason in left_out.items()]
  raise ValueError(
    f'{len(splits)} pairs are good, and none is left for '
    f'{", ".join(sorted(lacking))}; each of {", ".join(files.SPLITS)} needs '
    'one. Give three pairs or more; a long one can be cut into several. Left '
    f'out were {len(left_out)}' + ''.join('\n  ' + r for r in reasons[:20])
  )


def _report(manifest, n_good):
  """Logs what a folder holds now, and what is to be thought of it."""
  splits = [note['split'] for note in manifest.pairs.values()]
  logging.info(
    '%d pairs: %s; %d left out.',
    len(splits),
    ', '.join(f'{splits.count(split)} in {split}' for split in files.SPLITS),
    len(manifest.left_out),
  )
  if len(splits) > n_good:
    logging.info('%d of them are of other folders.', len(splits) - n_good)
  if len(splits) < _FEW_PAIRS:
    logging.warning(
      'With fewer than %d pairs, what is measured on valid and test says '
      'little: it is that of one file each.',
      _FEW_PAIRS,
    )


def settle(manifest: files.Manifest, *form_and_seed):
  """Says how pairs of files are made; see `files.Manifest.settle`."""
  manifest.settle('files', *form_and_seed)


def _stale(manifest, candidates, splits):
  """Returns keys of the manifest that no longer stand for what is there.

  A pair that lies in another split now, is left out, or is of files that are
  gone or have become part of another pair. What was made of another folder
  stays.
  """
  keys = {f'{split}/{name}' for name, split in splits.items()}
  names = {candidate.name for candidate in candidates}
  used = {
    path
    for candidate in candidates
    for path in (candidate.input_path, candidate.target_path)
  }
  stale = list(manifest.unfinished)
  for key, note in manifest.pairs.items():
    sources = _source_paths(note)
    if key not in keys and (
      key.split('/', 1)[1] in names | manifest.left_out.keys()
      or not used.isdisjoint(sources)
      or not all(map(os.path.exists, sources))
    ):
      stale.append(key)
  return stale


def _source_paths(note):
  """Returns the files that a pair was made of, as far as its note says."""
  source = note.get('source')
  sides = source.values() if isinstance(source, dict) else ()
  return [
    pathlib.Path(side[0])
    for side in sides
    if isinstance(side, list) and side and isinstance(side[0], str)
  ]


def _form(candidate, split, form):
  """Returns rate and channels of a pair's files; test keeps the source's."""
  if split != 'test':
    return form
  paths = candidate.input_path, candidate.target_path
  infos = [audio_files.read_info(path) for path in paths]
  return max(i.samplerate for i in infos), max(i.channels for i in infos)


def _notes(candidate, found):
  """Returns what is noted of a pair before it is written."""
  return dict(
    source=candidate.source,
    matched_by=candidate.matched_by,
    lag_samples=found['lag_samples'],
    lag_sample_rate=found['sample_rate'],
    confidence=found['confidence'],
    polarity=found['polarity'],
    clipped_samples=found['clipped_samples'],
  )


def _is_written(manifest, candidate, split, form, found):
  """Returns whether a pair is there and of the same files.

  Raises:
    ValueError: Other files are there.
  """
  name = candidate.name
  known = manifest.pairs.get(f'{split}/{name}')
  if known is None:
    for side in _SIDES:
      files.is_there(manifest.folder / split / side / name, *form)
    return False
  notes = _notes(candidate, found)
  is_same = all(known.get(key) == value for key, value in notes.items())
  return is_same and manifest.has(split, name, *form)


def _expected_bytes(form, found):
  """Returns what both files of a pair take at most."""
  sample_rate, n_channels = form
  seconds = (found['last_sample'] - found['first_sample']) / found[
    'sample_rate'
  ]
  return int(2 * seconds * sample_rate * n_channels * _BYTES_PER_SAMPLE)


def _write_all(jobs, manifest, workers):
  """Writes pairs, or leaves them out.

  Args:
    jobs: Arguments of `_is_written` for each.
    manifest: Which notes them.
    workers: Who writes them.
  """
  for _, candidate, _, _, found in jobs:
    name = candidate.name
    if found['polarity'] < 0:
      logging.warning('%s: the target is upside down; it is left so.', name)
    if any(found['clipped_samples'].values()):
      logging.warning(
        '%s: clipped samples: %s.', name, found['clipped_samples']
      )
  manifest.begin(f'{split}/{each.name}' for _, each, split, *_ in jobs)
  progress = progress_bar.Progress(len(jobs), label='Writing')
  made = workers.run_all(
    _write,
    [
      (manifest.folder / split, candidate, form, found)
      for _, candidate, split, form, found in jobs
    ],
  )
  for (_, candidate, split, _, found), result in zip(jobs, made, strict=True):
    name = candidate.name
    if isinstance(result, str):
      manifest.left_out[name] = result
      manifest.drop([f'{split}/{name}'])
      logging.warning('Left out: %s: %s', name, result)
    else:
      notes = _notes(candidate, found)
      manifest.add(split, name, **notes, kept_samples=result)
    progress.update(name)
  progress.close()


def _write(folder, candidate, form, found):
  """Writes the files of a pair.

  Args:
    folder: Of its split.
    candidate: Which.
    form: Rate and channels of the files.
    found: Its alignment.

  Returns:
    [first sample, sample after the last] of the input that is kept; the reason
    where it is left out.
  """
  alignment = align.Alignment(
    *(found[field.name] for field in dataclasses.fields(align.Alignment))
  )
  try:
    audio, target, rate = read_sides(candidate)
    aligned = align.apply(audio, target, alignment)
    files.write_sides(folder, candidate.name, aligned, rate, form)
  except ValueError as error:
    return str(error)
  first = max(alignment.first_sample, -round(alignment.lag_samples))
  return [first, first + len(aligned[0])]
