"""A house rule of mastering, and mixes as they come to be mastered by it.

The rule is a function of the mix, without chance, and as light as real masters
are: of 14 published ones the average spectrum differs from the mix's by 0.8 dB,
the crest factor by 3.7 dB in the mean. It goes by two measures: the level in
six octaves, and the peak to loudness ratio (PLR), the true peak in dBTP minus
the integrated loudness in LUFS.

1. Tone. Where an octave deviates from the house balance by more than a dead
   zone, an equaliser takes the excess back, `MAX_TONE_DB` at most. What lies
   `MEANT_DB` outside is taken to be meant, such as music without any highs, and
   is left; in between the correction falls evenly. It is done in full from the
   second of `UNTREATED_PLR_DB` on, and not at all below the first: music whose
   peaks are as low as a master's has been treated.
2. Dynamics. Above the first of `UNTREATED_PLR_DB`, a stereo compressor works,
   the more the larger the PLR.
3. Loudness. `target_lufs`: music with high peaks is mastered less loud.
4. Peaks. A limiter holds them at `CEILING_DB`; its input gain is found by
   rendering until the loudness is reached.

So no constant loudness, tone or setting is right for all mixes, and what is a
master already hardly changes, because its PLR is low.

Two makers' plugins do the same rule: 'x42' (x42's equaliser and limiter, Zam's
compressor), which the training data are made with, and 'calf', which tells
whether a model has learned the rule or its plugins.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy.ndimage

from dafx import metrics
from dafx.training.data_preparation import files, mastering

# The rule.
# Levels of six octaves relative to their sum, as `mastering.section_levels_db`:
# the median of the pieces of `debian_music`. The dead zone is half their
# standard deviation, 2 dB at least.
HOUSE_BALANCE_DB = (-3.5, -6.5, -7.5, -12.0, -17.0, -24.0)
DEAD_ZONE_DB = (2.5, 2.0, 2.0, 2.5, 3.5, 5.0)
MAX_TONE_DB = 2.5
MEANT_DB = 7.5  # outside the dead zone
UNTREATED_PLR_DB = (13.5, 16.5)
RATIO_PER_DB = 0.06
MAX_RATIO = 1.5
THRESHOLD_LU = 4.0  # above the integrated loudness
LOUDEST_LUFS, QUIETEST_LUFS = -11.5, -18.0
CEILING_DB = -1.0

# What is drawn of a mix.
MIX_LUFS = (-27.0, -16.0)
MIX_PEAK_DB = -1.0
TILT_DB = 3.0
TILT_HZ = (250.0, 3000.0)
BELL_DB = 1.5
BELL_HZ = (200.0, 5000.0)
BELL_OCTAVES = 2.0
# Parts of the mixes whose peaks are raised, and that are compressed; the others
# are as they are.
RAISED_PART, COMPRESSED_PART = 0.6, 0.2
RAISED_RATIO = (1.2, 1.8)
RAISED_THRESHOLD_LU = (4.0, 8.0)
MIX_RATIO = (1.2, 2.0)
MIX_THRESHOLD_LU = (0.0, 6.0)
SIDE_DB = 2.0

# Levels at which the chains' thresholds are meant.
_WORKING_LUFS = -20.0
_LOUDNESS_TOLERANCE_LU = 0.1
_MAX_RENDERS = 5
_MAX_LIMITER_GAIN_DB = 25.0


def _equalise_x42(audio, sample_rate, gains_db):
  settings = mastering.equaliser_settings(gains_db)
  return files.render(mastering.EQUALISER, audio, sample_rate, settings)


def _compress_zam(audio, sample_rate, ratio, threshold_db):
  settings = {
    'rat': ratio,
    'thr': threshold_db,
    'kn': 6.0,
    'att': 20.0,
    'rel': 200.0,
    'stereodet': 1.0,
  }
  # The third input is its side chain, which is off.
  audio = np.pad(audio, ((0, 0), (0, 1)))
  return files.render('urn:zamaudio:ZamCompX2', audio, sample_rate, settings)


def _limit_x42(audio, sample_rate, gain_db):
  settings = {'gain': gain_db, 'threshold': CEILING_DB, 'release': 0.05}
  return files.render(mastering.LIMITER, audio, sample_rate, settings)


def _linear(gain_db):
  return 10 ** (gain_db / 20)


def _equalise_calf(audio, sample_rate, gains_db):
  uri = 'http://calf.sourceforge.net/plugins/Equalizer8Band'
  settings = {}
  for stem, (centre_hz, gain_db) in zip(
    ('ls', 'p1', 'p2', 'p3', 'p4', 'hs'),
    zip(mastering.SECTION_HZ, gains_db, strict=True),
    strict=True,
  ):
    settings[f'{stem}_active'] = 1.0
    settings[f'{stem}_freq'] = centre_hz
    settings[f'{stem}_level'] = _linear(gain_db)
    settings[f'{stem}_q'] = 0.7
  return files.render(uri, audio, sample_rate, settings)


def _compress_calf(audio, sample_rate, ratio, threshold_db):
  uri = 'http://calf.sourceforge.net/plugins/Compressor'
  settings = {
    'ratio': ratio,
    'threshold': _linear(threshold_db),
    'knee': _linear(6.0),
    'attack': 20.0,
    'release': 200.0,
    'detection': 1.0,  # of peaks
    'stereo_link': 1.0,  # of the louder channel
  }
  return files.render(uri, audio, sample_rate, settings)


def _limit_calf(audio, sample_rate, gain_db):
  uri = 'http://calf.sourceforge.net/plugins/Limiter'
  settings = {
    'level_in': _linear(gain_db),
    'limit': _linear(CEILING_DB),
    'attack': 5.0,
    'release': 50.0,
    'asc': 0.0,
    'auto_level': 0.0,
  }
  return files.render(uri, audio, sample_rate, settings)


@dataclasses.dataclass(frozen=True)
class Maker:
  """The plugins of one maker, by which the rule is rendered.

  Each function takes audio of shape [n_samples, 2] and a rate in Hz.

  Attributes:
    equalise: Takes also the gains of the six sections, in dB.
    compress: Takes also ratio and threshold in dB.
    limit: Takes also the input gain in dB.
  """

  equalise: Callable[..., np.ndarray]
  compress: Callable[..., np.ndarray]
  limit: Callable[..., np.ndarray]


MAKERS = {
  'x42': Maker(_equalise_x42, _compress_zam, _limit_x42),
  'calf': Maker(_equalise_calf, _compress_calf, _limit_calf),
}


def plr_db(audio: np.ndarray, sample_rate: int) -> float:
  """Returns the peak to loudness ratio: dBTP minus LUFS.

  Args:
    audio: Shape [n_samples, n_channels].
    sample_rate: In Hz.
  """
  peak_dbtp = metrics.true_peak_dbtp(audio, sample_rate)
  return peak_dbtp - metrics.loudness_lufs(audio, sample_rate)


def tone_gains_db(levels_db: np.ndarray, plr: float) -> np.ndarray:
  """Returns what the rule does to the tone.

  Args:
    levels_db: Levels of the six octaves; see `mastering.section_levels_db`.
      Shape [6].
    plr: Of the mix, in dB.

  Returns:
    Gains in dB, shape [6].
  """
  deviations = levels_db - np.array(HOUSE_BALANCE_DB)
  # By the median: one octave that sticks out does not move the others.
  deviations -= np.median(deviations)
  excess = np.maximum(np.abs(deviations) - np.array(DEAD_ZONE_DB), 0.0)
  gains_db = np.interp(
    excess, (0.0, MAX_TONE_DB, MEANT_DB), (0.0, MAX_TONE_DB, 0.0)
  )
  part = np.interp(plr, UNTREATED_PLR_DB, (0.0, 1.0))
  return -np.sign(deviations) * part * gains_db


def compression_ratio(plr: float) -> float:
  """Returns the ratio of the rule's compressor for a PLR in dB."""
  above = max(plr - UNTREATED_PLR_DB[0], 0.0)
  return min(1.0 + RATIO_PER_DB * above, MAX_RATIO)


def target_lufs(plr: float) -> float:
  """Returns the integrated loudness of the master for a PLR in dB.

  A mix whose PLR is 12 dB comes to about what its peaks allow. What is more
  dynamic gets less loud and loses two thirds of the PLR above 12 dB.
  """
  lufs = -14.0 - 0.35 * (plr - 15.0)
  return min(max(lufs, QUIETEST_LUFS), LOUDEST_LUFS)


def _measure_lufs(audio, sample_rate):
  """Returns the loudness; raises ValueError for what has none."""
  if audio.ndim != 2 or audio.shape[1] != 2:
    raise ValueError(
      f'Audio of shape {audio.shape} came; the rule masters stereo, '
      '[n_samples, 2].'
    )
  lufs = metrics.loudness_lufs(audio, sample_rate)
  if lufs <= metrics.SILENCE_LUFS:
    raise ValueError(
      'The audio is silent (below -70 LUFS). Leave out silent files.'
    )
  return lufs


def _raise_peaks(audio, sample_rate, ratio, threshold_db):
  """Raises what is above a threshold: undoes a limiter, so to say.

  The level is that of the louder channel's peaks within 10 ms.
  """
  size = round(0.01 * sample_rate) | 1
  peaks = scipy.ndimage.maximum_filter1d(np.abs(audio).max(axis=1), size)
  peaks = scipy.ndimage.uniform_filter1d(peaks, size)
  over = np.maximum(peaks / _linear(threshold_db), 1.0)
  return audio * over[:, np.newaxis] ** (ratio - 1.0)


def _limit_to(audio, sample_rate, lufs, limit):
  """Limits audio at the input gain that gives a loudness in LUFS."""
  gain_db = lufs - metrics.loudness_lufs(audio, sample_rate)
  for _ in range(_MAX_RENDERS):
    gain_db = min(gain_db, _MAX_LIMITER_GAIN_DB)
    limited = limit(audio, sample_rate, gain_db)
    error = lufs - metrics.loudness_lufs(limited, sample_rate)
    if abs(error) < _LOUDNESS_TOLERANCE_LU:
      break
    gain_db += error
  return limited


def master(mix: np.ndarray, sample_rate: int, maker: str = 'x42') -> np.ndarray:
  """Masters a mix by the house rule.

  Args:
    mix: Shape [n_samples, 2].
    sample_rate: In Hz.
    maker: Whose plugins; one of `MAKERS`.

  Returns:
    Audio of the mix's shape, within 0.1 LU of `target_lufs` of the mix's PLR,
    no sample above `CEILING_DB`.

  Raises:
    ValueError: No such maker, or audio that is silent, not stereo, or too short
      for a loudness (0.4 s).
  """
  if maker not in MAKERS:
    raise ValueError(f'maker={maker!r}; there are {", ".join(MAKERS)}.')
  lufs = _measure_lufs(mix, sample_rate)
  plr = metrics.true_peak_dbtp(mix, sample_rate) - lufs
  plugins = MAKERS[maker]
  levels_db = mastering.section_levels_db(mix, sample_rate)
  gains_db = tone_gains_db(levels_db, plr)
  audio = mix * np.float32(_linear(_WORKING_LUFS - lufs))
  audio = plugins.equalise(audio, sample_rate, gains_db)
  ratio = compression_ratio(plr)
  if ratio > 1.0:
    threshold_db = _WORKING_LUFS + THRESHOLD_LU
    audio = plugins.compress(audio, sample_rate, ratio, threshold_db)
  return _limit_to(audio, sample_rate, target_lufs(plr), plugins.limit)


def make_mix(
  piece: np.ndarray, sample_rate: int, seed: int | Sequence[int]
) -> np.ndarray:
  """Draws a mix as it comes to a mastering engineer, from a finished piece.

  Drawn evenly from the ranges of this module:
  - tone: low and high shelf in opposite senses, up to 3 dB, and a bell two
    octaves wide of up to 1.5 dB, its centre between 200 and 5,000 Hz;
  - dynamics: of 60 % of the mixes the peaks are raised, by a ratio of 1.2 to
    1.8 from 4 to 8 LU above the loudness, because a finished piece has been
    limited before; 20 % are compressed lightly, at 1.2 to 2 from 0 to 6 LU
    above it; the others are as they are;
  - stereo: the side up to 2 dB stronger or weaker; mono stays mono;
  - level: -27 to -16 LUFS, less where peaks would pass -1 dB full scale.

  Args:
    piece: Shape [n_samples, 2].
    sample_rate: In Hz.
    seed: Of what is drawn.

  Returns:
    Audio of the piece's shape.

  Raises:
    ValueError: As `master`.
  """
  lufs = _measure_lufs(piece, sample_rate)
  rng = np.random.default_rng(seed)
  tilt_db = rng.uniform(-TILT_DB, TILT_DB)
  settings = {
    'LSfreq': TILT_HZ[0],
    'LSgain': tilt_db,
    'HSfreq': TILT_HZ[1],
    'HSgain': -tilt_db,
    'freq3': math.exp(rng.uniform(*np.log(BELL_HZ))),
    'q3': BELL_OCTAVES,
    'gain3': rng.uniform(-BELL_DB, BELL_DB),
  }
  audio = piece * np.float32(_linear(_WORKING_LUFS - lufs))
  audio = files.render(mastering.EQUALISER, audio, sample_rate, settings)
  kind = rng.uniform()
  if kind < RAISED_PART:
    ratio = rng.uniform(*RAISED_RATIO)
    threshold_db = _WORKING_LUFS + rng.uniform(*RAISED_THRESHOLD_LU)
    audio = _raise_peaks(audio, sample_rate, ratio, threshold_db)
  elif kind < RAISED_PART + COMPRESSED_PART:
    ratio = rng.uniform(*MIX_RATIO)
    threshold_db = _WORKING_LUFS + rng.uniform(*MIX_THRESHOLD_LU)
    audio = _compress_zam(audio, sample_rate, ratio, threshold_db)
  middle = audio.mean(axis=1, keepdims=True)
  audio = middle + (audio - middle) * _linear(rng.uniform(-SIDE_DB, SIDE_DB))
  audio = mastering.to_loudness(audio, sample_rate, rng.uniform(*MIX_LUFS))
  loudest = _linear(MIX_PEAK_DB) / np.abs(audio).max()
  return np.asarray(audio * min(loudest, 1.0), np.float32)
