"""Pairs for mastering, made from finished mixes by plugins.

The target is the mix as a mastering engineer would hand it back: equalised
halfway to a common tonal balance, compressed in three bands, and limited to a
common loudness, each song by settings of its own. The input is the same mix at
another level and with another tone. So a model has to hear how loud and how
bright its input is; no single setting fits all.

The plugins are not those that models here are trained with: x42's equaliser and
peak limiter, Zam's multiband compressor.
"""

import functools
import pathlib
import zlib

import librosa
import numpy as np
import pyloudnorm
import scipy.signal
import soundfile

from dafx import lv2
from dafx.training import data, train_util

_EQUALISER = 'http://gareus.org/oss/lv2/fil4#stereo'
_COMPRESSOR = 'urn:zamaudio:ZaMultiCompX2'
_LIMITER = 'http://gareus.org/oss/lv2/dpl#stereo'

TARGET_LUFS = -14.0
INPUT_LUFS = (-32.0, -18.0)
INPUT_TONE_DB = 8.0

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


@functools.lru_cache(maxsize=8)
def _renderer(uri: str, sample_rate: int, symbols: tuple[str, ...]):
  return lv2.Renderer(uri, sample_rate, symbols, n_threads=1, warm_up=4096)


def _render(uri, audio, sample_rate, settings):
  """Renders [n_samples, 2] at settings by symbol."""
  renderer = _renderer(uri, sample_rate, tuple(settings))
  values = np.array([[list(settings.values())]], np.float32)
  return renderer.render(audio[np.newaxis], values)[0]


def _loudness_lufs(audio, sample_rate):
  """Integrated loudness of [n_samples, n_channels] (ITU-R BS.1770)."""
  return pyloudnorm.Meter(sample_rate).integrated_loudness(audio)


def _to_loudness(audio, sample_rate, lufs):
  gain_db = lufs - _loudness_lufs(audio, sample_rate)
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


def _equaliser_settings(gains_db):
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


def make_target(mix: np.ndarray, sample_rate: int, seed: int) -> np.ndarray:
  """Masters a mix, by settings that are worked out from it.

  Args:
    mix: Shape [n_samples, 2].
    sample_rate: In Hz.
    seed: Of the engineer's taste: up to 1 dB per section.

  Returns:
    Audio of the mix's shape, at about -14 LUFS, below -1 dB full scale.
  """
  rng = np.random.default_rng(seed)
  audio = _to_loudness(mix, sample_rate, -20.0)
  wanted = np.array([level for _, _, level in _SECTIONS])
  wanted -= 10 * np.log10(np.sum(10 ** (wanted / 10)))
  gains_db = 0.5 * (wanted - section_levels_db(audio, sample_rate))
  gains_db = np.clip(gains_db - gains_db.mean(), -6.0, 6.0)
  gains_db += rng.uniform(-1.0, 1.0, len(gains_db))
  audio = _render(_EQUALISER, audio, sample_rate, _equaliser_settings(gains_db))
  audio = _to_loudness(audio, sample_rate, -20.0)
  settings = dict(xover1=160.0, xover2=1600.0)
  for band, threshold_db in enumerate((-22.0, -24.0, -28.0), start=1):
    settings[f'toggle{band}'] = 1.0
    settings[f'thr{band}'] = threshold_db + rng.uniform(-2.0, 2.0)
    settings[f'rat{band}'] = 2.0
    settings[f'kn{band}'] = 6.0
    settings[f'att{band}'] = 20.0
    settings[f'rel{band}'] = 150.0
  audio = _render(_COMPRESSOR, audio, sample_rate, settings)
  gain_db = TARGET_LUFS - _loudness_lufs(audio, sample_rate)
  settings = dict(gain=np.clip(gain_db, -10.0, 30.0), threshold=-1.0)
  return _render(_LIMITER, audio, sample_rate, {**settings, 'release': 0.05})


def make_input(mix: np.ndarray, sample_rate: int, seed) -> np.ndarray:
  """Returns a mix at another level and with another tone.

  Args:
    mix: Shape [n_samples, 2].
    sample_rate: In Hz.
    seed: Of level and tone.

  Returns:
    Audio of the mix's shape, at -32 to -18 LUFS, its tone changed by up to 8 dB
    in the lows and the highs and half as much between.
  """
  rng = np.random.default_rng(seed)
  sizes = INPUT_TONE_DB * np.array([1.0, 0.5, 0.5, 0.5, 0.5, 1.0])
  gains_db = rng.uniform(-sizes, sizes)
  audio = _render(_EQUALISER, mix, sample_rate, _equaliser_settings(gains_db))
  return _to_loudness(audio, sample_rate, rng.uniform(*INPUT_LUFS))


def _as_wanted(audio, source_hz, sample_rate, n_channels):
  """Resamples [n_samples, channels] and mixes it to a number of channels."""
  if n_channels == 1:
    audio = audio.mean(axis=1, keepdims=True)
  elif audio.shape[1] != n_channels:
    raise ValueError(
      f'{audio.shape[1]} channels cannot become n_channels={n_channels}; only '
      'a mix to 1 is made.'
    )
  return librosa.resample(
    audio, orig_sr=source_hz, target_sr=sample_rate, axis=0
  )


def _write(path, audio, sample_rate):
  """Writes 24 bit FLAC whole, under a temporary name first."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.partial.flac')
  soundfile.write(temporary, audio, sample_rate, 'PCM_24')
  temporary.replace(path)


def prepare_from_mixes(
  mixes_dir: pathlib.Path,
  output_dir: pathlib.Path,
  sample_rate: int,
  n_channels: int,
  n_variants: dict[str, int],
  seed: int = 0,
):
  """Makes pairs from finished mixes, several of each.

  Files that are there already are left as they are, so that an interrupted call
  goes on where it stopped.

  Args:
    mixes_dir: Folder with `train`, `valid` and `test` folders of stereo mixes.
    output_dir: Gets the pairs; see `dafx.training.data`.
    sample_rate: Rate of train and valid, in Hz; test keeps the mixes'.
    n_channels: Channels of train and valid, 1 or 2; test stays stereo.
    n_variants: Pairs per mix, by split.
    seed: Of levels and tones.

  Raises:
    FileNotFoundError: There are no mixes.
    ValueError: A file that is no stereo audio.
  """
  jobs = []
  for split, count in n_variants.items():
    for path in data.find_audio(mixes_dir / split):
      info = data.read_info(path)
      if info.channels != 2:
        raise ValueError(f'{path} has {info.channels} channels; mixes have 2.')
      jobs.append((split, path, count))
  progress = train_util.Progress(len(jobs), label='Preparing')
  for split, path, count in jobs:
    song_seed = [seed, zlib.crc32(path.stem.encode())]
    names = [f'{path.stem}_{i}.flac' for i in range(count)]
    files = {
      side: [output_dir / split / side / name for name in names]
      for side in ('input', 'target')
    }
    if not all(f.exists() for side in files.values() for f in side):
      mix, rate = soundfile.read(path, dtype='float32', always_2d=True)
      target = make_target(mix, rate, song_seed)

      def write(file, audio, rate=rate, split=split):
        new_rate = rate
        if split != 'test':
          audio = _as_wanted(audio, rate, sample_rate, n_channels)
          new_rate = sample_rate
        _write(file, audio, new_rate)

      for i in range(count):
        write(files['input'][i], make_input(mix, rate, [*song_seed, i]))
        write(files['target'][i], target)
    progress.update(path.stem)
  progress.close()


def prepare_from_pairs(
  pairs_dir: pathlib.Path,
  output_dir: pathlib.Path,
  sample_rate: int,
  n_channels: int,
):
  """Brings the user's own pairs into the layout that training reads.

  Every tenth file goes to `valid` and every tenth to `test`, by a hash of its
  name, so that a file stays in its split when others are added.

  Args:
    pairs_dir: Folder with `input` and `target` folders of files of one name.
    output_dir: Gets the pairs; see `dafx.training.data`.
    sample_rate: Rate of train and valid, in Hz; test keeps the files'.
    n_channels: Channels of train and valid.

  Raises:
    FileNotFoundError: There are no pairs.
    ValueError: Pairs that do not fit together, or fewer than three.
  """
  pairs = data.find_pairs(pairs_dir)
  if len(pairs) < 3:
    raise ValueError(
      f'{pairs_dir} holds {len(pairs)} pairs; train, valid and test need one '
      'each.'
    )
  ranked = sorted(pairs, key=lambda p: zlib.crc32(p.name.encode()))
  tenth = max(1, len(ranked) // 10)
  splits = {'test': ranked[:tenth], 'valid': ranked[tenth : 2 * tenth]}
  splits['train'] = ranked[2 * tenth :]
  progress = train_util.Progress(len(pairs), label='Preparing')
  for split, members in splits.items():
    for pair in members:
      for side, path in (
        ('input', pair.input_path),
        ('target', pair.target_path),
      ):
        file = output_dir / split / side / f'{pair.name}.flac'
        if not file.exists():
          audio, rate = soundfile.read(path, dtype='float32', always_2d=True)
          if split != 'test':
            audio = _as_wanted(audio, rate, sample_rate, n_channels)
            rate = sample_rate
          _write(file, audio, rate)
      progress.update(pair.name)
  progress.close()
