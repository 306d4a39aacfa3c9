"""How well a reference foretells how loud its hand would leave another song.

    pip install 'dafx[benchmarks]'
    dafx_prepare mastering --source=debian --output_dir=FOLDER
    python benchmarks/hands.py --music=FOLDER

A problem is two songs, 8 s each, equally loud, through the same plugins at the
same random settings: the one is the reference, the loudness of the other is
sought. Errors are those of the reference's own loudness, and of what
`training.matching.hand` says. Three hands: that of the set 'others' of
`matching.py`, one with a multiband compressor and another limiter, and one that
does little. The weights that least squares finds are printed beside those in
use. No search runs. `results` says what --write_results and --json do.
"""

import pathlib

import matching as match_benchmark
import numpy as np
import results
from absl import app, flags

from dafx import metrics
from dafx.audio import files as audio_files
from dafx.commands import running
from dafx.training.data_preparation import mastering
from dafx.training.matching import hand

FLAGS = flags.FLAGS
flags.DEFINE_string(
  'music', None, 'Prepared from Debian; without it, the embedded songs.'
)
flags.DEFINE_integer('pairs', 150, 'Of songs, for each hand.', lower_bound=4)

_RATE, _LUFS, _SECONDS, _QUIETEST_LUFS = 44100, -20.0, 8, -45.0
_COMPRESSOR = 'urn:zamaudio:ZaMultiCompX2'
_LIMITER = 'http://calf.sourceforge.net/plugins/Limiter'
_COLUMNS = (
  'Hand', 'Pairs', 'Loudness of', 'Off in the mean, LU', 'At the median, LU',
)  # fmt: skip
_PLUGINS = (
  _COMPRESSOR, _LIMITER, match_benchmark.COMPRESSOR, mastering.EQUALISER,
)  # fmt: skip


def find_songs() -> list[list[pathlib.Path]]:
  """Returns the files of each song; mixes of one piece are one song."""
  if FLAGS.music is None:
    return [[path] for path in match_benchmark.songs()]
  songs: dict[str, list[pathlib.Path]] = {}
  for path in sorted(pathlib.Path(FLAGS.music).glob('*/input/*_[0-9].flac')):
    songs.setdefault(path.name.rsplit('_', 1)[0], []).append(path)
  return list(songs.values())


def draw_piece(paths, rng: np.random.Generator) -> np.ndarray:
  """Returns a piece of a song that is not silent, [n_samples, 2]."""
  size = _SECONDS * _RATE
  for _ in range(20):
    audio, _ = audio_files.read(paths[rng.integers(len(paths))])
    start = rng.integers(max(len(audio) - size, 0) + 1)
    piece = audio[start : start + size]
    if metrics.loudness_lufs(piece, _RATE) > _QUIETEST_LUFS:
      return mastering.to_loudness(piece, _RATE, _LUFS)
  raise ValueError(f'{paths[0]} is too quiet; take it out of --music.')


def others(audio: np.ndarray, seed: int) -> np.ndarray:
  """Returns audio through the hand of the set 'others'."""
  return match_benchmark.others_target(audio, seed, rides=False)


def multiband(audio: np.ndarray, seed: int) -> np.ndarray:
  """Returns audio through a multiband compressor and Calf's limiter."""
  rng = np.random.default_rng(seed)
  tone = mastering.equaliser_settings(rng.uniform(-4.0, 4.0, 6))
  bands = dict(xover1=rng.uniform(120, 250), xover2=rng.uniform(1500, 4000))
  for band, threshold_db in enumerate((-22.0, -24.0, -28.0), start=1):
    bands[f'toggle{band}'] = 1.0
    bands[f'thr{band}'] = threshold_db + rng.uniform(-5, 5)
    bands[f'rat{band}'] = rng.uniform(1.5, 4)
    bands[f'kn{band}'] = 6.0
    bands[f'att{band}'] = rng.uniform(5, 40)
    bands[f'rel{band}'] = rng.uniform(60, 300)
  limiter = dict(
    level_in=10 ** (rng.uniform(6, 14) / 20), limit=10 ** (-1 / 20), attack=5,
    release=rng.uniform(20, 200), asc=0, auto_level=0,
  )  # fmt: skip
  audio = match_benchmark.through(mastering.EQUALISER, audio, tone)
  audio = match_benchmark.through(_COMPRESSOR, audio, bands)
  return match_benchmark.through(_LIMITER, audio, limiter)


def light(audio: np.ndarray, seed: int) -> np.ndarray:
  """Returns audio through the plugins of 'others', which do little."""
  rng = np.random.default_rng(seed)
  tone = mastering.equaliser_settings(rng.uniform(-3.0, 3.0, 6))
  compressor = dict(
    threshold=rng.uniform(-20, -6), ratio=rng.uniform(1, 2.5), rms=0.5,
    attack=rng.uniform(0.002, 0.03), release=rng.uniform(0.04, 0.3), noClip=0,
  )  # fmt: skip
  limiter = dict(gain=rng.uniform(0, 8), threshold=-1.0)
  audio = match_benchmark.through(mastering.EQUALISER, audio, tone)
  audio = match_benchmark.through(match_benchmark.COMPRESSOR, audio, compressor)
  return match_benchmark.through(mastering.LIMITER, audio, limiter)


def measure(make, songs, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Measures pairs of songs through a hand.

  Args:
    make: The hand.
    songs: Files of each song.
    seed: Of pairs, pieces and settings.

  Returns:
    Traits of songs and of their references in dB, [2, n_pairs, 4], and by how
    much the songs come out louder in LU, [n_pairs].
  """
  rng = np.random.default_rng(seed)
  traits, louder = [], []
  for i in range(FLAGS.pairs):
    drawn = rng.choice(len(songs), 2, replace=False)
    own, other = (draw_piece(songs[k], rng) for k in drawn)
    true, reference = (make(x, 1000 * seed + i) for x in (own, other))
    lufs = [metrics.loudness_lufs(x, _RATE) for x in (true, reference)]
    traits.append([hand.traits_db(x, _RATE) for x in (own, reference)])
    louder.append(lufs[0] - lufs[1])
  return np.array(traits).transpose(1, 0, 2), np.array(louder)


def main(argv):
  """Prints errors by each hand, and the weights that fit it."""
  del argv
  songs, rows = find_songs(), []
  print(f'{len(songs)} songs; off in the mean and at the median, in LU:')
  for seed, make in enumerate((others, multiband, light), start=1):
    (own, other), louder = measure(make, songs, seed)
    errors = {
      'the reference': louder,
      '`--amount=1`': louder - hand.change_lu(own, other),
    }
    for name, error in errors.items():
      off = np.abs(error)
      row = make.__name__, len(off), name, float(off.mean())
      rows.append([*row, float(np.median(off))])
      print(*rows[-1])
    told = hand.share_told(other)[:, np.newaxis]
    above = np.column_stack([(own - other)[:, :3], np.ones(len(own))])
    weights = np.linalg.lstsq(told * above, louder, rcond=None)[0]
    print(f'{make.__name__}: least squares: {weights.round(2)}', flush=True)
  print(f'in use: {hand.LU_PER_DB}, {hand.OFFSET_LU}')
  results.keep(rows)
  results.write('hands', _COLUMNS, rows, _PLUGINS)


if __name__ == '__main__':
  running.prepare_tensorflow(0)
  app.run(main)
