"""Mastering pairs from free music of Debian's archive.

The music of four games (`debian_packages`), some 150 pieces by many authors,
unpacked without being installed. Of each piece an excerpt is taken from its
middle; mixes are drawn from it and mastered by `house_rule`. In training and
validation one of the masters is a mix as well, and its own master: so a model
learns to leave masters alone. LICENSES.md says of each piece who made it and
how it may be used.
"""

import dataclasses
import logging
import pathlib
import re
import zlib
from collections.abc import Sequence

import numpy as np
import soundfile

from dafx import metrics
from dafx.audio import disk
from dafx.audio import files as audio_files
from dafx.training import progress as progress_bar
from dafx.training import reading
from dafx.training.data_preparation import (
  archives,
  deb,
  files,
  house_rule,
  side_by_side,
)

_log = logging.getLogger('dafx')

SAMPLE_RATE = 44100
EXCERPT_S = 30.0
SHORTEST_S = 20.0
QUIETEST_LUFS = -50.0
N_VARIANTS = {'train': 3, 'valid': 1, 'test': 1}
# Splits in which a master of each piece is a mix too, and is to stay as it is.
WITH_MASTERS = ('train', 'valid')
# Parts of all series that go to test and valid.
_TEST_PART = _VALID_PART = 0.12
# What a pair takes: two files of stereo in 24 bit, which FLAC makes no larger.
_BYTES_PER_PAIR = 2 * 2 * 3 * EXCERPT_S * SAMPLE_RATE


# Words of names that say of which album a piece is, or which version of it.
_VERSIONS = (
  'aftermath',
  'enhanced',
  'epic',
  'legacy',
  'old',
  'original',
  'soundtrack',
)


@dataclasses.dataclass(frozen=True)
class Piece:
  """A piece of music.

  Attributes:
    path: Its file.
    name: Of its pairs: <game>_<file>.
    package: Name of the package's file.
    authors: Who made it, as the package says.
    licence: Its short name.
    texts: Files that say it in full, by the name that each gets beside the
      pairs.
  """

  path: pathlib.Path
  name: str
  package: str
  authors: str
  licence: str
  texts: dict[str, pathlib.Path]


def _is_music(name):
  return name.lower().endswith(('.ogg', '.opus'))


def _is_wanted(name):
  return (
    _is_music(name)
    or name.endswith(('.pk3', '/album.json', '/license.txt'))
    or ('/doc/' in name and name.endswith('/copyright'))
  )


def unpack(package: pathlib.Path, folder: pathlib.Path) -> list[Piece]:
  """Unpacks a package's music.

  Args:
    package: The .deb.
    folder: Gets a folder for it.

  Returns:
    Its pieces, in the order of their names.

  Raises:
    ValueError: The package is damaged, or holds no music.
  """
  game = re.split(r'[-_]', package.name)[0]
  target = folder / game
  found = deb.unpack(package, target, _is_wanted)
  copyrights = [path for path in found if path.name == 'copyright']
  tracks = []
  for path in found:
    if path.suffix == '.pk3':  # a zip
      inside = target / 'pk3'
      tracks += [
        (track, track.relative_to(inside).as_posix())
        for track in archives.unpack(path, inside, _is_music)
      ]
    elif _is_music(path.name):
      tracks.append((path, path.relative_to(target).as_posix()))
  text = ''.join(p.read_text('utf-8', 'replace') for p in copyrights)
  licences = deb.read_licences(text)
  pieces = []
  for path, inner in sorted(tracks):
    authors, licence = _describe_rights(path, inner, licences)
    stem = re.sub(r'[^A-Za-z0-9]+', '_', path.stem).strip('_')
    if 'albums/' in inner:  # such as track3 of three albums
      stem = f'{path.parent.name}_{stem}'
    texts = {f'{game}.txt': text_path for text_path in copyrights}
    of_album = path.parent / 'license.txt'
    if of_album.exists():
      texts[f'{game}_{path.parent.name}.txt'] = of_album
    name = f'{game}_{stem}'
    pieces.append(Piece(path, name, package.name, authors, licence, texts))
  if not pieces:
    raise ValueError(
      f'{package} holds no music: is it one of those that dafx knows?'
    )
  return pieces


def _describe_rights(path, inner, licences):
  """Returns authors and licence: by the package, else by the file's tags."""
  with soundfile.SoundFile(path) as file:
    tags = file.copy_metadata()
  artist = files.read_state(path.parent / 'album.json').get('author')
  if not artist or not isinstance(artist, str):
    artist = tags.get('artist', '')
  artist = artist.replace('<Unknown>', '').strip()
  of_package = deb.find_licence(licences, inner)
  if of_package is None:
    licence = tags.get('license') or 'that of the package'
    return artist or 'not named', licence
  authors = of_package.authors or 'not named'
  if artist and artist not in authors:
    authors = f'{artist} (of the package: {authors})'
  return authors, of_package.name


def series_of(name: str) -> str:
  """Returns what the versions of one piece have in common.

  Args:
    name: Name of a piece, such as wesnoth_frantic_old or wesnoth_defeat2.

  Returns:
    The name without the album, words for a version and a last single digit:
    wesnoth_frantic, wesnoth_defeat. Numbers of tracks stay.
  """
  words = [word for word in name.lower().split('_') if word not in _VERSIONS]
  if not words[-1].startswith('track'):
    words[-1] = re.sub(r'(?<=[a-z])\d$', '', words[-1])
  return '_'.join(words)


def split_of(name: str) -> str:
  """Returns the split of a piece: by its series, of which a hash decides."""
  # Of like salts, this one shares out the games evenly.
  part = zlib.crc32(f'21 {series_of(name)}'.encode()) % 1000 / 1000
  if part < _TEST_PART:
    return 'test'
  return 'valid' if part < _TEST_PART + _VALID_PART else 'train'


def read_excerpt(path: pathlib.Path) -> np.ndarray:
  """Reads the middle of a piece.

  Args:
    path: The piece.

  Returns:
    Stereo at 44.1 kHz, `EXCERPT_S` long at most, [n_samples, 2].

  Raises:
    ValueError: It is too short, mono or silent there, or no audio.
  """
  info = audio_files.read_info(path)
  if info.duration < SHORTEST_S:
    raise ValueError(f'{info.duration:.0f} s are shorter than {SHORTEST_S:g} s')
  n_samples = min(round(EXCERPT_S * info.samplerate), info.frames)
  start = (info.frames - n_samples) // 2
  audio, rate = audio_files.read(path, start, n_samples)
  if audio.shape[1] != 2 or np.ptp(audio, axis=1).max() == 0:
    raise ValueError('it is not stereo')
  if metrics.loudness_lufs(audio, rate) < QUIETEST_LUFS:
    raise ValueError(f'its middle is quieter than {QUIETEST_LUFS:g} LUFS')
  return reading.conform(audio, rate, SAMPLE_RATE, 2)


def _make(folder, path, split, names_and_seeds, form):
  """Writes the pairs of a piece; returns why it is left out, if it is.

  A pair without a seed is the master before it, on both sides.
  """
  try:
    piece = read_excerpt(path)
  except ValueError as error:
    return str(error)
  target = piece
  for name, seed in names_and_seeds:
    if seed is None:
      mix = target  # the last master
    else:
      mix = house_rule.make_mix(piece, SAMPLE_RATE, seed)
      target = house_rule.master(mix, SAMPLE_RATE)
    for side, audio in (('input', mix), ('target', target)):
      audio = reading.conform(audio, SAMPLE_RATE, *form)
      files.write_audio(folder / split / side / name, audio, form[0])
  return None


def _jobs(pieces, manifest, form, n_variants, seed):
  """Returns (piece, split, form, names and seeds, whether to make it)."""
  jobs = []
  for piece in pieces:
    split = split_of(piece.name)
    own_form = (SAMPLE_RATE, 2) if split == 'test' else form
    piece_seed = [seed, zlib.crc32(piece.name.encode())]
    names: list[tuple[str, list[int] | None]] = [
      (f'{piece.name}_{i}', [*piece_seed, i]) for i in range(n_variants[split])
    ]
    if split in WITH_MASTERS:
      names.append((f'{piece.name}_master', None))
    is_missing = not all(
      manifest.has(split, name, *own_form) for name, _ in names
    )
    jobs.append((piece, split, own_form, names, is_missing))
  return jobs


def prepare(
  pieces: Sequence[Piece],
  output_dir: pathlib.Path,
  sample_rate: int = SAMPLE_RATE,
  n_channels: int = 2,
  n_variants: dict[str, int] = N_VARIANTS,
  seed: int = 0,
  workers: side_by_side.Workers = side_by_side.ON_ALL_PROCESSORS,
):
  """Makes pairs from pieces; what is there is left, so that it goes on.

  Args:
    pieces: The music.
    output_dir: Gets train, valid and test, manifest.json and LICENSES.md.
    sample_rate: Rate of train and valid, in Hz; test has 44.1 kHz.
    n_channels: Channels of train and valid, 1 or 2; test is stereo.
    n_variants: Mixes of each piece, by split.
    seed: Of the mixes.
    workers: Who makes them; a process per processor if not given.

  Raises:
    OSError: No room.
    ValueError: output_dir holds pairs that were made in another way.
  """
  manifest = files.Manifest(output_dir)
  manifest.settle('debian', sample_rate, n_channels, seed)
  form = sample_rate, n_channels
  jobs = _jobs(pieces, manifest, form, n_variants, seed)
  manifest.keep(f'{job[1]}/{name}' for job in jobs for name, _ in job[3])
  missing = [
    job for job in jobs if job[4] and job[0].name not in manifest.left_out
  ]
  n_pairs = sum(len(job[3]) for job in missing)
  disk.check_room(output_dir, int(n_pairs * _BYTES_PER_PAIR), 'All pairs')
  progress = progress_bar.Progress(
    len(jobs), len(jobs) - len(missing), 'Preparing', 'piece'
  )
  faults = workers.run_all(
    _make,
    [
      (output_dir, piece.path, split, names, own_form)
      for piece, split, own_form, names, _ in missing
    ],
  )
  for (piece, split, _, names, _), fault in zip(missing, faults, strict=True):
    _note(manifest, piece, split, names, fault)
    progress.update(piece.name)
  progress.close()
  manifest.save()
  write_licences(pieces, manifest, output_dir)


def _note(manifest, piece, split, names, fault):
  """Notes what became of a piece."""
  if fault is not None:
    _log.warning('%s is left out: %s.', piece.name, fault)
    manifest.left_out[piece.name] = fault
    manifest.save()
    return
  for name, seed in names:
    manifest.add(
      split,
      name,
      source=piece.path.name,
      package=piece.package,
      authors=piece.authors,
      licence=piece.licence,
      seed=seed,
    )


def write_licences(
  pieces: Sequence[Piece], manifest: files.Manifest, output_dir: pathlib.Path
):
  """Writes LICENSES.md: package, authors and licence of each piece.

  Args:
    pieces: The music.
    manifest: Which of it was left out.
    output_dir: Where to.
  """
  lines = [
    '# Licences of the music',
    '',
    'Excerpts of the music of these packages of Debian, changed: mixes drawn',
    'from them, and masters of these. Authors and licences are those that',
    "each package's `copyright` file or the tags of the music name. The files",
    'in `licences` say it in full; that of an album holds for the album.',
    '',
    '| piece | file | package | authors | licence |',
    '|---|---|---|---|---|',
  ]
  for piece in pieces:
    if piece.name not in manifest.left_out:
      row = (
        piece.name,
        piece.path.name,
        piece.package,
        piece.authors,
        piece.licence,
      )
      cells = (' '.join(cell.split()).replace('|', '/') for cell in row)
      lines.append(f'| {" | ".join(cells)} |')
      for name, text in piece.texts.items():
        copy = output_dir / 'licences' / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(text.read_bytes())
  with disk.replacing(output_dir / 'LICENSES.md') as temporary:
    temporary.write_text('\n'.join(lines) + '\n', encoding='utf-8')
