"""Mixes and masters of the Cambridge Music Technology multitrack library.

Its search page holds a list of projects in JavaScript,

    var projects = [ {"a": artist, "p": project, "pt": type, "pv": preview}, ...

in which a song may stand with the type 'Mstr', whose preview is the mix before
mastering, and with 'Full', whose preview is the master. Songs with both are
pairs.
"""

import dataclasses
import errno
import html
import json
import pathlib
import re
import unicodedata
import urllib.parse

from absl import logging

from dafx import _folders
from dafx.audio import disk
from dafx.audio import files as audio_files
from dafx.training.data_preparation import download

INDEX_URL = 'https://multitracksearch.cambridge-mt.com/ms-mtk-search.htm'

_STRING = r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\''
_TOKEN = re.compile(_STRING + r'|[{}\[\]]', re.DOTALL)
_FIELD = re.compile(rf'["\']?(\w+)["\']?\s*:\s*({_STRING})', re.DOTALL)
# So many times in a row a server may not say how large a file is.
_MAX_FAILED = 3
_FORBIDDEN = re.compile(r'[\x00-\x1f/\\:*?"<>|]+')


@dataclasses.dataclass(frozen=True)
class Song:
  """A song that there is a mix and a master of.

  Attributes:
    name: Artist and project, fit for a file name.
    input_url: The mix.
    target_url: The master.
  """

  name: str
  input_url: str
  target_url: str


def _text(literal: str) -> str:
  """Reads a string of JavaScript."""
  body = literal[1:-1]
  if literal[0] == "'":
    body = body.replace("\\'", "'").replace('"', '\\"')
  try:
    body = json.loads(f'"{body}"', strict=False)
  except ValueError:
    body = literal[1:-1]
  return html.unescape(body).strip()


def _objects(text: str):
  """Yields the fields of each {...} up to the end of the list."""
  depth, start = 0, 0
  for match in _TOKEN.finditer(text):
    token = match[0]
    if token == '{':
      if not depth:
        start = match.end()
      depth += 1
    elif token == '}':
      depth -= 1
      if not depth:
        body = text[start : match.start()]
        yield {key: _text(value) for key, value in _FIELD.findall(body)}
    elif token == ']' and not depth:
      return


def _file_name(artist: str, project: str) -> str:
  parts = (p.strip('\'‘’"“” ') for p in (artist, project))
  name = _FORBIDDEN.sub('-', ' - '.join(parts))
  return unicodedata.normalize('NFC', name).strip(' .-')


def parse_index(text: str, index_url: str = INDEX_URL) -> list[Song]:
  """Finds the songs that there is a mix and a master of.

  Args:
    text: The search page.
    index_url: Its address, which others in it may be relative to.

  Returns:
    The songs, by name.

  Raises:
    ValueError: The page holds no list of projects, or none with both.
  """
  match = re.search(r'var\s+projects\s*=\s*\[', text)
  if not match:
    raise ValueError(
      f'{index_url} holds no list of projects: it may ask who looks at it. '
      'Open it in a browser, save the page, and give that file as '
      '--cambridge_index.'
    )
  urls: dict[str, dict[str, str]] = {}
  for fields in _objects(text[match.end() :]):
    kind = fields.get('pt')
    if kind in ('Mstr', 'Full') and fields.get('pv'):
      name = _file_name(fields.get('a', ''), fields.get('p', ''))
      url = urllib.parse.urljoin(index_url, fields['pv'])
      urls.setdefault(name, {}).setdefault(kind, url)
  songs = [
    Song(name, kinds['Mstr'], kinds['Full'])
    for name, kinds in sorted(urls.items())
    if len(kinds) == 2 and name
  ]
  if not songs:
    raise ValueError(
      f'{index_url} lists {len(urls)} songs, none of which has both a mix '
      "(type 'Mstr') and a master ('Full'). Has its layout changed?"
    )
  return songs


def read_index(place: str) -> list[Song]:
  """Reads the search page from its address or from a file.

  Args:
    place: http(s) address, or path of the saved page.

  Raises:
    OSError: The server does not answer, or there is no such file.
    ValueError: As `parse_index`.
  """
  if urllib.parse.urlsplit(place).scheme in ('http', 'https'):
    content = download.get(place).content
    return parse_index(content.decode('utf-8', 'replace'), place)
  content = _folders.expand_user(place).read_bytes()
  songs = parse_index(content.decode('utf-8', 'replace'), INDEX_URL)
  return songs


def _remote(song, side, url):
  suffix = pathlib.PurePosixPath(download.file_name_of(url)).suffix.lower()
  if suffix not in audio_files.AUDIO_SUFFIXES:
    raise ValueError(
      f'{url} is no audio file ({", ".join(audio_files.AUDIO_SUFFIXES)})'
    )
  return download.RemoteFile(url, f'{side}/{song.name}{suffix}')


def _with_sizes(remotes):
  """Asks for the sizes of files, until the server has failed to say thrice.

  It need not answer such a question to give the files.
  """
  sized, failed = [], 0
  for remote in remotes:
    if failed < _MAX_FAILED:
      try:
        n_bytes = download.find_size(remote.url)
        remote, failed = dataclasses.replace(remote, n_bytes=n_bytes), 0
      except OSError:
        failed += 1
    sized.append(remote)
  return sized


def _is_of_machine(error):
  """Returns whether an error tells of the disk here, not of a song."""
  number = error.errno if isinstance(error, OSError) else None
  return number not in (None, errno.ENAMETOOLONG)


def fetch_songs(songs: list[Song], folder: pathlib.Path) -> dict[str, str]:
  """Downloads mixes and masters; those that cannot be had are listed.

  No checksums are published; what came must be audio, whole, and its own
  checksum is noted.

  Args:
    songs: Which.
    folder: Gets the folders `input` and `target`.

  Returns:
    What went wrong, by song.

  Raises:
    OSError: No room on the disk, or not one song can be had.
  """
  downloads = download.Downloads(folder)
  faults, remotes = {}, {}
  for song in songs:
    sides = {'input': song.input_url, 'target': song.target_url}
    try:
      remotes[song.name] = [_remote(song, *side) for side in sides.items()]
    except ValueError as error:
      faults[song.name] = str(error)
  missing = [
    remote
    for pair in remotes.values()
    for remote in pair
    if not downloads.has(remote)
  ]
  n_bytes = downloads.missing_bytes(_with_sizes(missing))
  disk.check_room(folder, n_bytes, f'{len(songs)} songs')
  for name, pair in remotes.items():
    for remote in pair:
      try:
        path = downloads.fetch(remote)
        audio_files.read_info(path)
      except (OSError, ValueError) as error:
        if _is_of_machine(error):
          raise
        faults[name] = str(error)
        logging.warning('%s: %s', name, error)
        if isinstance(error, ValueError):
          downloads.state.pop(remote.name, None)
          downloads.save()
          (folder / remote.name).unlink(missing_ok=True)
  if len(faults) == len(songs):
    reasons = [f'\n  {name}: {text}' for name, text in faults.items()]
    raise OSError(
      f'Not one of {len(songs)} songs can be had:{"".join(reasons[:5])}'
    )
  return faults
