"""Pairs for mastering, made from finished mixes by plugins.

The target is the mix as a mastering engineer would hand it back: equalised
halfway to a common tonal balance, compressed in three bands, and limited to a
common loudness, each song by settings of its own. The input is the same mix at
another level and with another tone. So a model has to hear how loud and how
bright its input is; no single setting fits all.

The plugins are not those that models here are trained with: x42's equaliser and
peak limiter, Zam's multiband compressor.
"""

import pathlib
import zlib
from collections.abc import Sequence

import numpy as np
import scipy.signal

from dafx import metrics
from dafx.audio import files as audio_files
from dafx.training import progress as progress_bar
from dafx.training import reading
from dafx.training.data_preparation import files, side_by_side

# The music that comes with dafx; see LICENSE.md in it.
DEMO_AUDIO = pathlib.Path(__file__).resolve().parent / 'demo_audio'

EQUALISER = 'http://gareus.org/oss/lv2/fil4#stereo'
_COMPRESSOR = 'urn:zamaudio:ZaMultiCompX2'
LIMITER = 'http://gareus.org/oss/lv2/dpl#stereo'

TARGET_LUFS = -14.0
INPUT_LUFS = (-38.0, -16.0)
INPUT_TONE_DB = 10.0

# The equaliser's six sections: symbols' stem, centre, and the level that a
# balanced mix has there, per octave and relative to the sum of all six.
_SECTIONS = (
  ('LS', 80.0, -6.0),
  ('1', 200.0, -6.0),
  ('2', 500.0, -7.5),
  ('3', 1250.0, -9.5),
  ('4', 3200.0, -12.0),
  ('HS', 8000.0, -16.0),
)
SECTION_HZ = tuple(centre_hz for _, centre_hz, _ in _SECTIONS)


def to_loudness(audio: np.ndarray, sample_rate: int, lufs: float) -> np.ndarray:
  """Brings audio to an integrated loudness.

  Args:
    audio: Shape [n_samples, n_channels], not silent.
    sample_rate: In Hz.
    lufs: Loudness that is wanted.

  Returns:
    The audio times a gain.
  """
  gain_db = lufs - metrics.loudness_lufs(audio, sample_rate)
  return audio * np.float32(10 ** (gain_db / 20))


def section_levels_db(audio: np.ndarray, sample_rate: int) -> np.ndarray:
  """Measures the balance of a mix.

  Args:
    audio: Shape [n_samples, n_channels].
    sample_rate: In Hz.

  Returns:
    Power in the octave around each of the equaliser's six centres, in dB
    relative to their sum, shape [6].
  """
  frequencies, power = scipy.signal.welch(
    audio, sample_rate, nperseg=8192, axis=0
  )
  power = power.mean(axis=1)
  levels = []
  for _, centre_hz, _ in _SECTIONS:
    low, high = centre_hz / np.sqrt(2), centre_hz * np.sqrt(2)
    inside = (frequencies >= low) & (frequencies < high)
    levels.append(power[inside].sum() + 1e-12)
  return 10 * np.log10(np.array(levels) / np.sum(levels))


def equaliser_settings(gains_db: np.ndarray) -> dict[str, float]:
  """Returns the settings of x42's equaliser for gains of its six sections.

  Args:
    gains_db: Of the sections at `SECTION_HZ`, in dB, shape [6].
  """
  settings = {}
  for (stem, centre_hz, _), gain_db in zip(_SECTIONS, gains_db, strict=True):
    if stem in ('LS', 'HS'):
      settings[f'{stem}freq'] = centre_hz
      settings[f'{stem}gain'] = gain_db
    else:
      settings[f'freq{stem}'] = centre_hz
      settings[f'gain{stem}'] = gain_db
      settings[f'q{stem}'] = 0.6
  return settings


def make_target(
  mix: np.ndarray, sample_rate: int, seed: int | Sequence[int]
) -> np.ndarray:
  """Masters a mix, by settings that are worked out from it.

  Args:
    mix: Shape [n_samples, 2].
    sample_rate: In Hz.
    seed: Of the engineer's taste: up to 1 dB per section.

  Returns:
    Audio of the mix's shape, at about -14 LUFS, below -1 dB full scale.
  """
  rng = np.random.default_rng(seed)
  audio = to_loudness(mix, sample_rate, -20.0)
  wanted = np.array([level for _, _, level in _SECTIONS])
  wanted -= 10 * np.log10(np.sum(10 ** (wanted / 10)))
  gains_db = 0.5 * (wanted - section_levels_db(audio, sample_rate))
  gains_db = np.clip(gains_db - gains_db.mean(), -6.0, 6.0)
  gains_db += rng.uniform(-1.0, 1.0, len(gains_db))
  audio = files.render(
    EQUALISER, audio, sample_rate, equaliser_settings(gains_db)
  )
  audio = to_loudness(audio, sample_rate, -20.0)
  settings = dict(xover1=160.0, xover2=1600.0)
  for band, threshold_db in enumerate((-22.0, -24.0, -28.0), start=1):
    settings[f'toggle{band}'] = 1.0
    settings[f'thr{band}'] = threshold_db + rng.uniform(-2.0, 2.0)
    settings[f'rat{band}'] = 2.0
    settings[f'kn{band}'] = 6.0
    settings[f'att{band}'] = 20.0
    settings[f'rel{band}'] = 150.0
  audio = files.render(_COMPRESSOR, audio, sample_rate, settings)
  gain_db = TARGET_LUFS - metrics.loudness_lufs(audio, sample_rate)
  settings = dict(gain=np.clip(gain_db, -10.0, 30.0), threshold=-1.0)
  return files.render(
    LIMITER, audio, sample_rate, {**settings, 'release': 0.05}
  )


def make_input(mix: np.ndarray, sample_rate: int, seed) -> np.ndarray:
  """Returns a mix at another level and with another tone.

  Args:
    mix: Shape [n_samples, 2].
    sample_rate: In Hz.
    seed: Of level and tone.

  Returns:
    Audio of the mix's shape, at -38 to -16 LUFS, its lows and highs changed by
    up to 10 dB and what lies between by half as much.
  """
  rng = np.random.default_rng(seed)
  sizes = INPUT_TONE_DB * np.array([1.0, 0.5, 0.5, 0.5, 0.5, 1.0])
  gains_db = rng.uniform(-sizes, sizes)
  audio = files.render(
    EQUALISER, mix, sample_rate, equaliser_settings(gains_db)
  )
  return to_loudness(audio, sample_rate, rng.uniform(*INPUT_LUFS))


def _make(path, form, missing, seed, mixes_dir):
  """Writes the files of a song that are missing.

  Args:
    path: The song.
    form: Rate and channels of the files.
    missing: (side, number of the pair, file without suffix) of each.
    seed: Of the song.
    mixes_dir: Where all songs are.

  Raises:
    ValueError: It is silent.
  """
  mix, rate = audio_files.read(path)
  if metrics.loudness_lufs(mix, rate) <= metrics.SILENCE_LUFS:
    raise ValueError(
      f'{path} is silent (below -70 LUFS). Move it out of {mixes_dir}.'
    )
  if any(side == 'target' for side, _, _ in missing):
    target = make_target(mix, rate, seed)
  for side, i, file in missing:
    audio = make_input(mix, rate, [*seed, i]) if side == 'input' else target
    files.write_audio(file, reading.conform(audio, rate, *form), form[0])


def prepare_from_mixes(
  mixes_dir: pathlib.Path,
  output_dir: pathlib.Path,
  sample_rate: int,
  n_channels: int,
  n_variants: dict[str, int],
  seed: int = 0,
  workers: side_by_side.Workers = side_by_side.HERE,
):
  """Makes pairs from finished mixes, several of each.

  Files that are there already are left as they are, so that an interrupted call
  goes on where it stopped.

  Args:
    mixes_dir: Folder with `train`, `valid` and `test` folders of stereo mixes.
    output_dir: Gets the pairs and a manifest; see `dafx.training.data`.
    sample_rate: Rate of train and valid, in Hz; test keeps the mixes'.
    n_channels: Channels of train and valid, 1 or 2; test stays stereo.
    n_variants: Pairs per mix, by split.
    seed: Of levels and tones.
    workers: Who makes them.

  Raises:
    FileNotFoundError: There are no mixes.
    ValueError: A file that is no stereo audio, is silent or too short, or files
      in output_dir that other settings made.
  """

  def song_seed(path):
    return [seed, zlib.crc32(path.stem.encode())]

  manifest = files.Manifest(output_dir)
  manifest.settle('mixes', sample_rate, n_channels, seed)
  jobs = []
  for split, count in n_variants.items():
    for path in audio_files.find_audio(mixes_dir / split):
      info = audio_files.read_info(path)
      if info.channels != 2:
        raise ValueError(f'{path} has {info.channels} channels; mixes have 2.')
      if info.duration < 0.5:
        raise ValueError(
          f'{path} is {info.duration:.2f} s long; loudness needs more than '
          f'0.4 s. Move it out of {mixes_dir}.'
        )
      form = sample_rate, n_channels
      if split == 'test':
        form = info.samplerate, info.channels
      missing = [
        (side, i, file)
        for i in range(count)
        for side in ('input', 'target')
        for file in [output_dir / split / side / f'{path.stem}_{i}']
        if not files.is_there(file, *form)
      ]
      jobs.append((path, split, form, missing))
  manifest.keep(
    f'{split}/{path.stem}_{i}'
    for path, split, *_ in jobs
    for i in range(n_variants[split])
  )
  manifest.save()
  progress = progress_bar.Progress(len(jobs), label='Preparing')
  made = workers.run_all(
    _make,
    [
      (path, form, missing, song_seed(path), mixes_dir)
      for path, _, form, missing in jobs
      if missing
    ],
  )
  for path, split, _, missing in jobs:
    if missing:
      next(made)
    for i in range(n_variants[split]):
      name = f'{path.stem}_{i}'
      if missing or f'{split}/{name}' not in manifest.pairs:
        manifest.add(split, name, source=path.name, seed=[*song_seed(path), i])
    progress.update(path.stem)
  progress.close()


def prepare_demo(
  output_dir: pathlib.Path,
  sample_rate: int = 22050,
  n_channels: int = 1,
  n_variants: int = 8,
  seed: int = 0,
  workers: side_by_side.Workers = side_by_side.HERE,
):
  """Makes mastering pairs from the music that comes with dafx.

  Args:
    output_dir: Gets train, valid and test, and a manifest.
    sample_rate: Of train and valid, in Hz.
    n_channels: Of train and valid.
    n_variants: Pairs per song in train; valid and test have two.
    seed: Of levels and tones.
    workers: Who makes them.
  """
  prepare_from_mixes(
    DEMO_AUDIO,
    output_dir,
    sample_rate,
    n_channels,
    {'train': n_variants, 'valid': 2, 'test': 2},
    seed,
    workers,
  )
