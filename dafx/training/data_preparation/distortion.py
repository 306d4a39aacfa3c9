"""Pairs for distortion without a download: a guitar through a channel strip.

The input is a synthesised guitar, clean, each take at a level of its own. The
target is the same take through a preamplifier and a compressor of another
maker, ZamTube and ZamComp, at one setting, as one recorded device would have
one: soft takes stay nearly clean, loud ones break up, and their levels come
together over tenths of a second.
"""

import pathlib

import numpy as np

from dafx.training import progress as progress_bar
from dafx.training.data_preparation import files, guitar, side_by_side

_PREAMPLIFIER = 'urn:zamaudio:ZamTube'
_DRIVE = dict(
  tubedrive=8.0,
  gain=10.0,
  bass=5.0,
  mids=5.0,
  treb=5.0,
  tonestack=4.0,  # a British lead amplifier
  insane=0.0,
)
_COMPRESSOR = 'urn:zamaudio:ZamComp'
# A copy that only distorts has no release of this length.
_LEVELLING = dict(
  att=1.0,
  rel=300.0,
  kn=3.0,
  rat=8.0,
  thr=-30.0,
  mak=9.0,
  slew=1.0,
  sidech=0.0,
)
SECONDS = 6.0
PEAK_DB = (-24.0, -6.0)
_SPLIT_SEEDS = {'train': 0, 'valid': 1, 'test': 2}


def amplify(dry: np.ndarray) -> np.ndarray:
  """Plays [n_samples, 1] at 44.1 kHz through the channel strip."""
  driven = files.render(_PREAMPLIFIER, dry, guitar.SAMPLE_RATE, _DRIVE)
  return files.render(_COMPRESSOR, driven, guitar.SAMPLE_RATE, _LEVELLING)


def make_pair(style: str, seed):
  """Makes one take.

  Args:
    style: One of `guitar.STYLES`.
    seed: A list of integers: of the take.

  Returns:
    (input, target), each of shape [n_samples, 1], at 44.1 kHz. Peaks of the
    input lie between -24 and -6 dB full scale.
  """
  rng = np.random.default_rng([*seed, 1])
  dry = guitar.riff(style, SECONDS, seed)[:, None]
  dry = dry * 10 ** (rng.uniform(*PEAK_DB) / 20)
  return dry, amplify(dry)


def _make(folder, name, style, seed, form):
  """Writes the files of a pair."""
  sides = make_pair(style, seed)
  files.write_sides(folder, name, sides, guitar.SAMPLE_RATE, form)


def prepare_demo(
  output_dir: pathlib.Path,
  sample_rate: int = 22050,
  n_channels: int = 1,
  n_variants: int = 8,
  seed: int = 0,
  workers: side_by_side.Workers = side_by_side.HERE,
):
  """Makes distortion pairs from synthesised guitars.

  Args:
    output_dir: Gets train, valid and test, and a manifest.
    sample_rate: Of train and valid, in Hz; test has 44.1 kHz.
    n_channels: Of train and valid; test is mono.
    n_variants: Takes per style in train; valid and test have two.
    seed: Of all takes.
    workers: Who makes them.

  Raises:
    ValueError: Files in output_dir that other settings made.
  """
  counts = {'train': n_variants, 'valid': 2, 'test': 2}
  jobs = [
    (split, f'{style}_{i}', style, [seed, _SPLIT_SEEDS[split], k, i])
    for split, count in counts.items()
    for k, style in enumerate(guitar.STYLES)
    for i in range(count)
  ]
  manifest = files.Manifest(output_dir)
  manifest.settle('guitar', sample_rate, n_channels, seed)
  manifest.keep(f'{split}/{name}' for split, name, *_ in jobs)
  missing = []
  for split, name, style, take_seed in jobs:
    form = (guitar.SAMPLE_RATE, 1)
    if split != 'test':
      form = (sample_rate, n_channels)
    if not manifest.has(split, name, *form):
      missing.append((output_dir / split, name, style, take_seed, form))
  manifest.begin(f'{folder.name}/{name}' for folder, name, *_ in missing)
  progress = progress_bar.Progress(
    len(jobs), len(jobs) - len(missing), 'Preparing'
  )
  made = workers.run_all(_make, missing)
  for (folder, name, *_), _ in zip(missing, made, strict=True):
    manifest.add(folder.name, name, source='guitar')
    progress.update(name)
  progress.close()
