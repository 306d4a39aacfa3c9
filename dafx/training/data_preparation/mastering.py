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
    Audio of the mix's shape, at -38 to -16 LUFS, its lows and highs changed by
    up to 10 dB and what lies between by half as much.
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


def _is_there(path, sample_rate, n_channels) -> bool:
  """Returns whether a file was written before, by the same settings."""
  if not path.exists():
    return False
  info = data.read_info(path)
  if (info.samplerate, info.channels) != (sample_rate, n_channels):
    raise ValueError(
      f'{path} is there already, with {info.samplerate} Hz and '
      f'{info.channels} channels, not {sample_rate} Hz and {n_channels}. '
      'Choose another output_dir, or delete this one.'
    )
  return True


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
    ValueError: A file that is no stereo audio, is silent or too short, or files
      in output_dir that other settings made.
  """
  jobs = []
  for split, count in n_variants.items():
    for path in data.find_audio(mixes_dir / split):
      info = data.read_info(path)
      if info.channels != 2:
        raise ValueError(f'{path} has {info.channels} channels; mixes have 2.')
      if info.duration < 0.5:
        raise ValueError(
          f'{path} is {info.duration:.2f} s long; loudness needs more than '
          '0.4 s. Remove it.'
        )
      form = sample_rate, n_channels
      if split == 'test':
        form = info.samplerate, info.channels
      missing = [
        (side, i, file)
        for i in range(count)
        for side in ('input', 'target')
        for file in [output_dir / split / side / f'{path.stem}_{i}.flac']
        if not _is_there(file, *form)
      ]
      jobs.append((path, form, missing))
  progress = train_util.Progress(len(jobs), label='Preparing')
  for path, form, missing in jobs:
    song_seed = [seed, zlib.crc32(path.stem.encode())]
    if missing:
      mix, rate = soundfile.read(path, dtype='float32', always_2d=True)
      if not np.isfinite(_loudness_lufs(mix, rate)):
        raise ValueError(f'{path} is silent (below -70 LUFS). Remove it.')
      if any(side == 'target' for side, _, _ in missing):
        target = make_target(mix, rate, song_seed)
    for side, i, file in missing:
      if side == 'input':
        audio = make_input(mix, rate, [*song_seed, i])
      else:
        audio = target
      _write(file, _as_wanted(audio, rate, *form), form[0])
    progress.update(path.stem)
  progress.close()


def _assign_splits(pairs, output_dir):
  """Returns {split: pairs}; those that lie in a split already stay in it."""
  splits = {'test': [], 'valid': [], 'train': []}
  new = []
  for pair in sorted(pairs, key=lambda p: zlib.crc32(p.name.encode())):
    for split, members in splits.items():
      if (output_dir / split / 'input' / f'{pair.name}.flac').exists():
        members.append(pair)
        break
    else:
      new.append(pair)
  tenth = max(1, len(pairs) // 10)
  for pair in new:
    unfilled = [s for s in ('test', 'valid') if len(splits[s]) < tenth]
    splits[[*unfilled, 'train'][0]].append(pair)
  return splits


def prepare_from_pairs(
  pairs_dir: pathlib.Path,
  output_dir: pathlib.Path,
  sample_rate: int,
  n_channels: int,
):
  """Brings the user's own pairs into the layout that training reads.

  A tenth of the files goes to `test` and a tenth to `valid`, in the order of a
  hash of their names. What lies in output_dir already stays in its split and as
  it is, so that others can be added.

  Args:
    pairs_dir: Folder with `input` and `target` folders of files of one name.
    output_dir: Gets the pairs; see `dafx.training.data`.
    sample_rate: Rate of train and valid, in Hz; test keeps the files'.
    n_channels: Channels of train and valid.

  Raises:
    FileNotFoundError: There are no pairs.
    ValueError: Pairs that do not fit together, fewer than three, or files in
      output_dir that other settings made.
  """
  pairs = data.find_pairs(pairs_dir)
  if len(pairs) < 3:
    raise ValueError(
      f'{pairs_dir} holds {len(pairs)} pairs; train, valid and test need one '
      'each.'
    )
  for pair in pairs:
    if n_channels not in (1, pair.n_channels):
      raise ValueError(
        f'{pair.input_path} has {pair.n_channels} channels, which cannot '
        f'become n_channels={n_channels}; only a mix to 1 is made.'
      )
  missing = []
  for split, members in _assign_splits(pairs, output_dir).items():
    for pair in members:
      form = sample_rate, n_channels
      if split == 'test':
        form = pair.sample_rate, pair.n_channels
      for side, path in (
        ('input', pair.input_path),
        ('target', pair.target_path),
      ):
        file = output_dir / split / side / f'{pair.name}.flac'
        if not _is_there(file, *form):
          missing.append((path, file, form))
  progress = train_util.Progress(len(missing), label='Preparing')
  for path, file, form in missing:
    audio, rate = soundfile.read(path, dtype='float32', always_2d=True)
    _write(file, _as_wanted(audio, rate, *form), form[0])
    progress.update(path.name)
  progress.close()
