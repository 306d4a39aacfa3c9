"""The character of a recording in numbers, and what of it to ask for.

What a reference has that another song lacks comes from processing and from
content: notes, instruments, a voice. Loudness and crest factor carry over from
song to song; of tone only as much as songs do not differ by themselves
(empirical Bayes, with the spread between songs of a corpus).
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dafx import metrics
from dafx.training.matching import distances

_STATISTICS = pathlib.Path(__file__).with_name('song_statistics.json')
# Tone: third octaves of frames that are so far below the loudest at most.
TONE_BANDS_HZ = 1000.0 * 2.0 ** (np.arange(-14, 13) / 3)
_FRAME, _HOP, _RANGE_DB = 4096, 2048, 50.0
_WIDE_EDGES_HZ = (0.0, 120.0, 350.0, 1000.0, 3000.0, 8000.0, np.inf)
_FRAME_PERCENTILES = (10, 50, 90, 98)
# The envelope: blocks of so many samples.
_BLOCK = 128
_POWER_PERCENTILES, _PEAK_PERCENTILES = (50, 75, 90, 97, 99.7), (50, 90, 99.7)
_LEAST_WIDTH_DB = -40.0
_SAMPLES_AT_ONCE = 2**18

# Processing, before anything is known: what it does to the tone in dB, and how
# smoothly, in octaves; what it does to other statistics in dB.
_USUAL_TONE_DB = 1.5
_SMOOTH_OCTAVES, _FINE_OCTAVES, _FINE_SHARE = 1.0, 0.4, 0.3
_OTHERS_DB = {'dynamics': 2.0, 'envelope': 2.0, 'width': 1.5}
# Variance of what songs have of their own, over that of what processing does to
# the crest factor. Of 40 songs of Debian's through random compressors and
# limiters, the crest factor was 1.4 dB from that of another song through the
# same, and 1.2 dB from 0.8 of the way there; 1.0 dB where it was never raised,
# which compressors and limiters do not do. Untreated it was 2.4 dB away.
_OWN_CREST = 0.25
# How much two songs that are compared have in common, as two of one genre.
_IN_COMMON = 0.3
# Covariance of tones: the share of what each band has by itself, and over how
# many octaves the rest is smooth. Without the first, the notes of a song would
# be taken for processing.
_OWN_SHARE, _SONG_OCTAVES = 0.5, 1.5
_OFFSET_DB = 0.3


@dataclasses.dataclass(frozen=True)
class Character:
  """Statistics of a recording, in dB.

  Attributes:
    loudness: Integrated loudness in LUFS, shape [1].
    crest: Peak over root mean square of the middle, shape [1].
    tone: Levels in third octaves relative to the loudness, [27]; NaN above half
      of the rate.
    dynamics: Percentiles of levels in six bands, relative to their mean, flat.
    envelope: Percentiles of powers and peaks of short blocks, relative to the
      level, flat.
    width: Side over middle in six bands; as nearly mono as is told for mono.
  """

  loudness: np.ndarray
  crest: np.ndarray
  tone: np.ndarray
  dynamics: np.ndarray
  envelope: np.ndarray
  width: np.ndarray


GROUPS = tuple(field.name for field in dataclasses.fields(Character))


@functools.cache
def _bands(sample_rate):
  """Returns which bins are in which band: third octaves, then wide ones."""
  hz = np.arange(_FRAME // 2 + 1) * sample_rate / _FRAME
  thirds = [
    (hz >= c * 2 ** (-1 / 6)) & (hz < c * 2 ** (1 / 6)) for c in TONE_BANDS_HZ
  ]
  wide = [
    (hz >= low) & (hz < high)
    for low, high in zip(_WIDE_EDGES_HZ, _WIDE_EDGES_HZ[1:])
  ]
  return np.stack([*thirds, *wide], axis=1).astype(np.float32)


def _pieces(items: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
  """Yields parts of items, so that long ones take little memory."""
  for item in items:
    for start in range(0, max(len(item) - _FRAME, 1), _SAMPLES_AT_ONCE):
      yield item[start : start + _SAMPLES_AT_ONCE + _FRAME - _HOP]


def measure(items: Sequence[np.ndarray], sample_rate: float) -> Character:
  """Measures a recording, or some parts of it.

  Args:
    items: Each [n_samples, n_channels], one or two channels.
    sample_rate: In Hz.
  """
  bands = _bands(sample_rate)
  found: dict[str, list] = {'middle': [], 'side': []}
  powers, peaks = [], []
  for piece in _pieces(items):
    piece = np.asarray(piece, np.float32)
    middle = piece.mean(-1)
    side = 0.5 * (piece[:, 0] - piece[:, -1])
    for name, signal in (('middle', middle), ('side', side)):
      spectra = np.abs(distances.stft(signal, _FRAME, _HOP)) ** 2
      found[name].append(spectra @ bands)
    blocks = middle[: len(middle) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    powers.append(np.mean(blocks**2, axis=1))
    peaks.append(np.max(blocks**2, axis=1))
  middle, side = (np.concatenate(found[k]) for k in ('middle', 'side'))
  total = middle.sum(1)
  heard = total > total.max() * 10 ** (-_RANGE_DB / 10)
  middle, side = middle[heard], side[heard]
  n_thirds = len(TONE_BANDS_HZ)
  whole = np.concatenate(items)
  lufs = metrics.loudness_lufs(whole, sample_rate)
  mono = whole.mean(-1)
  level_db = _decibels(np.mean(np.asarray(mono, np.float64) ** 2))
  means_db = _decibels(middle.mean(0))
  wide_db = _decibels(middle[:, n_thirds:])
  spread = np.percentile(wide_db, _FRAME_PERCENTILES, axis=0)
  widths = _decibels(side.mean(0)[n_thirds:]) - means_db[n_thirds:]
  power, peak = (np.concatenate(each) for each in (powers, peaks))
  envelope = np.concatenate(
    [
      _decibels(np.percentile(power, _POWER_PERCENTILES)),
      _decibels(np.percentile(peak, _PEAK_PERCENTILES)),
    ]
  )
  tone = means_db[:n_thirds] - _decibels(_FRAME**2) - lufs
  return Character(
    loudness=np.array([lufs]),
    crest=np.array([_decibels(np.max(mono**2)) - level_db]),
    tone=np.where(bands.any(0)[:n_thirds], tone, np.nan),
    dynamics=(spread - means_db[n_thirds:]).ravel(),
    envelope=envelope - level_db,
    width=np.maximum(widths, _LEAST_WIDTH_DB),
  )


def _decibels(power):
  return 10.0 * np.log10(np.maximum(power, 1e-14))


# ---------------------- Songs among themselves --------------------------------
@dataclasses.dataclass(frozen=True)
class Songs:
  """How songs of a corpus differ among themselves.

  Attributes:
    tone_db: Their tone, the median, [27].
    tone_covariance: Of the tone, [27, 27], dB².
    spreads_db: Standard deviations of the other statistics, by group.
  """

  tone_db: np.ndarray
  tone_covariance: np.ndarray
  spreads_db: dict[str, np.ndarray]


def compare_songs(characters: Sequence[Character]) -> Songs:
  """Returns how songs differ among themselves.

  Args:
    characters: Of each song, as `measure` gives it.
  """
  tones = np.array([each.tone for each in characters])
  covariance = np.cov(tones.T)
  # There are fewer songs than bands: half of what they have in common is taken
  # for a function of the distance.
  octaves = np.arange(len(TONE_BANDS_HZ)) / 3.0
  apart = np.abs(octaves[:, np.newaxis] - octaves)
  spread = np.sqrt(np.diag(covariance))
  smooth = np.exp(-0.5 * (apart / _SONG_OCTAVES) ** 2)
  shared = 0.5 * (covariance + np.outer(spread, spread) * smooth)
  return Songs(
    np.median(tones, axis=0),
    (1.0 - _OWN_SHARE) * shared + _OWN_SHARE * np.diag(spread**2),
    {
      group: np.std([vars(c)[group] for c in characters], axis=0, ddof=1)
      for group in _OTHERS_DB
    },
  )


def write_songs(songs: Songs, path: pathlib.Path = _STATISTICS):
  """Writes statistics of a corpus as JSON."""
  content = {
    'tone_db': np.round(songs.tone_db, 2).tolist(),
    'tone_covariance': np.round(songs.tone_covariance, 2).tolist(),
    'spreads_db': {
      group: np.round(values, 2).tolist()
      for group, values in songs.spreads_db.items()
    },
  }
  path.write_text(json.dumps(content) + '\n', encoding='utf-8')


@functools.cache
def read_songs(path: pathlib.Path = _STATISTICS) -> Songs:
  """Reads the statistics of a corpus; by default those that come with dafx."""
  content = json.loads(path.read_text(encoding='utf-8'))
  return Songs(
    np.array(content['tone_db']),
    np.array(content['tone_covariance']),
    {g: np.array(values) for g, values in content['spreads_db'].items()},
  )


# ---------------------- What to ask for ---------------------------------------
def expected_tone(
  audio: np.ndarray, references: np.ndarray, songs: Songs
) -> np.ndarray:
  """Returns what processing is likely to have done to the tone of references.

  The tone of a reference is that of the corpus, plus what the song has of its
  own, plus processing, which is smooth in frequency. The input tells what both
  songs may have in common. What the song has of its own is as large as songs
  differ. Both are Gaussian; the mean of the posterior is returned.

  Args:
    audio: Tone of the input, [27]; NaN where it has none.
    references: Tones of the references, [n_references, 27].
    songs: How songs differ.

  Returns:
    In dB, [27].
  """
  n = len(references)
  difference = references.mean(0) - songs.tone_db
  difference -= _IN_COMMON * (audio - songs.tone_db)
  share = (1.0 + (n - 1) * _IN_COMMON) / n - _IN_COMMON**2
  content = share * songs.tone_covariance + _OFFSET_DB**2
  octaves = np.arange(len(TONE_BANDS_HZ)) / 3.0
  squares = (octaves[:, np.newaxis] - octaves) ** 2
  shape = (1.0 - _FINE_SHARE) * np.exp(-0.5 * squares / _SMOOTH_OCTAVES**2)
  shape += _FINE_SHARE * np.exp(-0.5 * squares / _FINE_OCTAVES**2)

  processing = _USUAL_TONE_DB**2 * shape
  is_there = np.isfinite(difference)
  both = (processing + content)[np.ix_(is_there, is_there)]
  return processing[:, is_there] @ np.linalg.solve(both, difference[is_there])


def wanted(
  audio: Character,
  references: Sequence[Character],
  amount: float,
  songs: Songs,
  change_lu: float = 0.0,
) -> Character:
  """Returns the character that audio is to have.

  Loudness is the references', with what is added to it. Crest factor, dynamics
  and width come first, as a whole from an amount of 0.5 on; tone comes evenly.
  Of each, so much of the difference is asked for as processing is likely to
  have made.
  The crest factor is never to rise.

  Args:
    audio: Of the input.
    references: Of each reference.
    amount: From 0 (loudness alone) to 1.
    songs: How songs differ.
    change_lu: What is added to the loudness of the references, in LU.
  """
  n = len(references)
  mean = {g: np.mean([vars(r)[g] for r in references], axis=0) for g in GROUPS}
  first = min(1.0, 2.0 * amount)
  lower_crest = np.minimum(mean['crest'] - audio.crest, 0.0)
  found = {
    'loudness': mean['loudness'] + change_lu,
    'crest': audio.crest + first * lower_crest / (1.0 + _OWN_CREST / n),
    'tone': audio.tone
    + amount
    * expected_tone(audio.tone, np.array([r.tone for r in references]), songs),
  }
  for group, usual_db in _OTHERS_DB.items():
    own = vars(audio)[group]
    spread = (1.0 + 1.0 / n) * songs.spreads_db[group] ** 2
    share = usual_db**2 / (usual_db**2 + spread)
    found[group] = own + first * share * (mean[group] - own)
  return Character(**found)
