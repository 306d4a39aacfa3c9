"""Pairs for nonspeech without a download: speech with breaths and pops put in.

The target is a synthesised voice in a quiet room. The input is the same with
breaths and pops in its pauses, and where they lie is written beside it.
"""

import pathlib
import re

import numpy as np

from dafx.training import labels
from dafx.training import progress as progress_bar
from dafx.training.data_preparation import files, side_by_side, speech

SECONDS = 10.0
# As the published split of DAPS: by speaker.
VALID_SPEAKERS = ('f10', 'm10')
TEST_SPEAKERS = ('f9', 'm9')
_TRAIN_SPEAKERS = ('f1', 'f2', 'f3', 'm1', 'm2', 'm3')
_SPEECH_LEVEL_DB = -26.0  # RMS of the phrases
_ROOM_DB = -72.0
# RMS of a breath, and peak of a pop, relative to the RMS of the speech.
_BREATH_DB = (-22.0, -12.0)
_POP_DB = (-4.0, 6.0)
# How many pauses have one. Pops are short: at every other pause whether they
# are learned at all was a matter of the seed.
_BREATH_SHARE = 0.85
_POP_SHARE = 0.9


def split_of(name: str) -> str:
  """Returns the split of a recording by its speaker.

  Args:
    name: As in DAPS: <speaker>_<script>, such as f10_script1.

  Raises:
    ValueError: It does not begin with a speaker.
  """
  match = re.match(r'([fm]\d+)_', pathlib.PurePath(name).name)
  if not match:
    raise ValueError(
      f'{name!r} does not begin with a speaker, such as f10_ or m3_.'
    )
  if match[1] in VALID_SPEAKERS:
    return 'valid'
  return 'test' if match[1] in TEST_SPEAKERS else 'train'


def make_pair(speaker: str, seed):
  """Makes one recording.

  Args:
    speaker: Such as 'f1'.
    seed: Of what is said, and of breaths and pops.

  Returns:
    (input, target, events): audio of shape [n_samples, 1] at 44.1 kHz, and a
    list of `labels.Event`.
  """
  rng = np.random.default_rng(seed)
  voice = speech.voice_of(speaker)
  rate = speech.SAMPLE_RATE
  n_samples = int(SECONDS * rate)
  target, noise, events = np.zeros(n_samples), np.zeros(n_samples), []
  level = 10 ** (_SPEECH_LEVEL_DB / 20)

  def put(kind, start, sound):
    stop = start + len(sound)
    noise[start:stop] += sound
    events.append(labels.Event(kind, start, stop))

  position = int(rng.uniform(0.1, 0.3) * rate)
  while True:
    pause = int(rng.uniform(0.45, 0.9) * rate)
    phrase = speech.say_phrase(voice, rng)
    phrase *= level / phrase.std() * 10 ** (rng.uniform(-3, 3) / 20)
    margin = int(0.05 * rate)
    begin = position + pause
    if begin + len(phrase) + margin > n_samples:
      break
    free = position + margin  # the first free sample of the pause
    if rng.random() < _BREATH_SHARE:
      seconds = rng.uniform(0.2, (pause - 2 * margin) / rate - 0.1)
      breath = speech.breathe(seconds, voice, rng)
      breath *= level * 10 ** (rng.uniform(*_BREATH_DB) / 20)
      put('breath', free, breath)
      free += len(breath)
    if rng.random() < _POP_SHARE:
      sound = speech.pop(rng.uniform(0.05, 0.08), rng)
      sound *= level * 10 ** (rng.uniform(*_POP_DB) / 20)
      put('pop', begin - len(sound) - int(0.01 * rate), sound)
    target[begin : begin + len(phrase)] += phrase
    position = begin + len(phrase)
  room = 10 ** (_ROOM_DB / 20) * rng.standard_normal(n_samples)
  target += room
  return (target + noise)[:, None], target[:, None], events


def _make(folder, name, speaker, seed, form):
  """Writes the files of a pair."""
  *sides, events = make_pair(speaker, seed)
  files.write_sides(folder, name, sides, speech.SAMPLE_RATE, form, events)


def prepare_demo(
  output_dir: pathlib.Path,
  sample_rate: int = 22050,
  n_channels: int = 1,
  n_variants: int = 8,
  seed: int = 0,
  workers: side_by_side.Workers = side_by_side.HERE,
):
  """Makes nonspeech pairs from synthesised voices.

  Args:
    output_dir: Gets train, valid and test, each with labels, and a manifest.
    sample_rate: Of train and valid, in Hz; test has 44.1 kHz.
    n_channels: Of train and valid; test is mono.
    n_variants: Recordings per speaker in train; valid and test have two.
    seed: Of all recordings.
    workers: Who makes them.

  Raises:
    ValueError: Files in output_dir that other settings made.
  """
  counts = {'train': n_variants, 'valid': 2, 'test': 2}
  speakers = (*_TRAIN_SPEAKERS, *VALID_SPEAKERS, *TEST_SPEAKERS)
  jobs = []
  for k, speaker in enumerate(speakers):
    split = split_of(f'{speaker}_')
    for i in range(counts[split]):
      jobs.append((split, f'{speaker}_demo{i}', speaker, [seed, k, i]))
  manifest = files.Manifest(output_dir)
  manifest.settle('speech', sample_rate, n_channels, seed)
  manifest.keep(f'{split}/{name}' for split, name, *_ in jobs)
  missing = []
  for split, name, speaker, pair_seed in jobs:
    form = (speech.SAMPLE_RATE, 1)
    if split != 'test':
      form = (sample_rate, n_channels)
    if not manifest.has(split, name, *form):
      missing.append((output_dir / split, name, speaker, pair_seed, form))
  manifest.begin(f'{folder.name}/{name}' for folder, name, *_ in missing)
  progress = progress_bar.Progress(
    len(jobs), len(jobs) - len(missing), 'Preparing'
  )
  made = workers.run_all(_make, missing)
  for (folder, name, speaker, *_), _ in zip(missing, made, strict=True):
    manifest.add(folder.name, name, source='speech', speaker=speaker)
    progress.update(name)
  progress.close()
