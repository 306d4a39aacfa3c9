"""The published sets of the three tasks: where they are, what of them is used.

- distortion: Zenodo 3562442, AudioMDPI.zip (Martinez Ramirez et al., "Deep
  Learning for Black-Box Modeling of Audio Effects", Applied Sciences 10, 2020):
  dry guitar and bass, and the same through the preamplifier of a 6176.
- nonspeech: Zenodo 4660670, daps.tar.gz (Mysore, "Can We Automatically
  Transform Speech Recorded on Common Consumer Devices in Real-World
  Environments into Professional Production Quality Speech?", IEEE Signal
  Processing Letters 22, 2015): recordings, and the same without breaths and
  other noises.
- mastering: mixes and masters of the Cambridge Music Technology library.
"""

import pathlib

import sklearn.model_selection

from dafx.training.data_preparation import (
  cambridge,
  download,
  matching,
  nonspeech,
)


def _find_folder(root, name):
  found = sorted(p for p in root.rglob(name) if p.is_dir())
  if not found:
    raise FileNotFoundError(
      f'{root} holds no folder {name}: is this the published archive?'
    )
  return found[0]


def _is_in(name, folder, subfolders):
  parts = pathlib.PurePosixPath(name).parts[:-1]
  if not download.is_audio(name):
    return False
  if folder not in parts:
    return False
  return any(sub in parts for sub in subfolders)


def fetch_distortion(folder: pathlib.Path, zenodo_url: str):
  """Downloads and finds the pairs of distortion.

  Args:
    folder: Gets the downloads.
    zenodo_url: The server.

  Returns:
    As `matching.find_candidates`.
  """
  remote = download.find_zenodo_file(3562442, 'AudioMDPI.zip', zenodo_url)
  strip = '6176ChannelStrip'
  unpacked = download.fetch_archive(
    remote, folder, lambda name: _is_in(name, strip, ('dry', 'preamp'))
  )
  found = _find_folder(unpacked, strip)
  return matching.find_candidates(
    found / 'dry', found / 'preamp', by_order=True
  )


def fetch_nonspeech(folder: pathlib.Path, zenodo_url: str):
  """Downloads and finds the pairs of nonspeech; as `fetch_distortion`."""
  remote = download.find_zenodo_file(4660670, 'daps.tar.gz', zenodo_url)
  unpacked = download.fetch_archive(
    remote, folder, lambda name: _is_in(name, 'daps', ('cleanraw', 'clean'))
  )
  found = _find_folder(unpacked, 'daps')
  return matching.find_candidates(
    found / 'cleanraw', found / 'clean', '{name}_cleanraw', '{name}_clean'
  )


# What downloads the pairs of a task from Zenodo.
FROM_ZENODO = {'distortion': fetch_distortion, 'nonspeech': fetch_nonspeech}


def fetch_mastering(folder: pathlib.Path, index: str):
  """Downloads and finds the pairs of mastering.

  Args:
    folder: Gets the downloads.
    index: Address of the search page, or path of the saved page.

  Returns:
    As `matching.find_candidates`.
  """
  faults = cambridge.fetch_songs(cambridge.read_index(index), folder)
  candidates, left_out = matching.find_candidates(
    folder / 'input', folder / 'target'
  )
  candidates = [c for c in candidates if c.name not in faults]
  return candidates, {**left_out, **faults}


def _split_at_random(candidates):
  """Splits files as DeepAFx does those of distortion, by their sorted paths."""
  ordered = sorted(candidates, key=lambda c: c.input_path.as_posix())
  rest, test = sklearn.model_selection.train_test_split(
    [candidate.name for candidate in ordered], test_size=0.1, random_state=0
  )
  _, valid = sklearn.model_selection.train_test_split(
    rest, test_size=0.11111111111, random_state=0
  )
  return {
    **dict.fromkeys(rest, 'train'),
    **dict.fromkeys(valid, 'valid'),
    **dict.fromkeys(test, 'test'),
  }


def split_of(task: str, candidates: list[matching.Candidate]):
  """Returns the published way to split a task.

  Args:
    task: Its name.
    candidates: All of its published pairs, good or not.

  Returns:
    A function from name to split: for distortion as DeepAFx drew them, for
    nonspeech by speaker. None for a tenth of the files each to test and valid,
    as for mastering.

  Raises:
    ValueError: A name of nonspeech that does not begin with a speaker.
  """
  if task == 'distortion' and len(candidates) > 2:
    return _split_at_random(candidates).get
  return split_by_speaker(candidates) if task == 'nonspeech' else None


def split_by_speaker(candidates: list[matching.Candidate]):
  """Returns the published split of DAPS, f10_script1 and the like.

  Args:
    candidates: All pairs.

  Returns:
    A function from name to split.

  Raises:
    ValueError: A name that does not begin with a speaker.
  """
  for candidate in candidates:
    nonspeech.split_of(candidate.name)
  return nonspeech.split_of
