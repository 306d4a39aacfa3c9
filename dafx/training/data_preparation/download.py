"""Files from the network: bounded, checked, and resumed.

pooch fetches files and compares their checksums. Its own downloader for DOIs
does not go on where a download broke off, which archives of many gigabytes
need, and does not tell sizes, by which room on the disk is asked for: so
`_Resuming` downloads, and Zenodo is asked for what a record holds.
"""

import dataclasses
import logging
import os
import pathlib
import time
import urllib.parse
from collections.abc import Callable, Iterator

import pooch
import requests
import tqdm
import urllib3

from dafx.audio import disk, json_files
from dafx.audio import files as audio_files
from dafx.training.data_preparation import archives, files

ZENODO_URL = 'https://zenodo.org'

_CHUNK_BYTES = 2**18
_TIMEOUT_S = 60
# A server that gives less than this in a second, over a minute and more, will
# not come to an end.
_SLOWEST_BYTES_PER_S = 2**10
# What is read of a page, and of a file of which nobody says how large it is.
_MOST_PAGE_BYTES = 2**26
_MOST_FILE_BYTES = 2**32
_clock = time.monotonic
# Room for the archive, what it holds, and the pairs made of it, in archives.
_ROOM = 3


@dataclasses.dataclass(frozen=True)
class RemoteFile:
  """A file that can be downloaded.

  Attributes:
    url: Where from.
    name: What it is called.
    n_bytes: Its size; 0 if the server does not say.
    checksum: As '<algorithm>:<digits>'; None if none is published.
  """

  url: str
  name: str
  n_bytes: int = 0
  checksum: str | None = None


def get(url: str, method: str = 'get', **kwargs):
  """Asks a server; an error says which address and what came."""
  try:
    response = requests.request(method, url, timeout=_TIMEOUT_S, **kwargs)
    response.raise_for_status()
  except requests.RequestException as error:
    raise OSError(
      f'{url} cannot be had: {error}. The same command goes on from here.'
    ) from error
  return response


def _chunks(response, url, most_bytes, have=0) -> Iterator[bytes]:
  """Yields what a server gives, as it comes, behind what is here already.

  Raises:
    OSError: It breaks off, or is too slow.
    ValueError: It gives more than `most_bytes`.
  """
  start, n_bytes = _clock(), have
  total = have + _length(response) if _length(response) else 'unknown'
  try:
    while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
      n_bytes += len(chunk)
      if n_bytes > most_bytes:
        raise ValueError(
          f'{url} gives more than the {most_bytes} bytes that it may have.'
        )
      yield chunk
      seconds = _clock() - start
      rate = (n_bytes - have) / max(seconds, _TIMEOUT_S)
      if seconds > _TIMEOUT_S and rate < _SLOWEST_BYTES_PER_S:
        raise OSError(
          f'{url} gave {rate:.0f} bytes per second, which is too slow. '
          'The same command goes on from there.'
        )
  except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
    raise OSError(
      f'{url} broke off after {n_bytes} of {total} bytes: {error}. The same '
      'command goes on from there.'
    ) from error
  finally:
    response.close()


def read_page(url: str) -> bytes:
  """Returns what an address gives, of 64 MiB at most.

  Raises:
    OSError: The server does not answer, or too slowly.
    ValueError: It gives more.
  """
  return b''.join(_chunks(get(url, stream=True), url, _MOST_PAGE_BYTES))


def find_zenodo_file(
  record: int, name: str, base_url: str = ZENODO_URL
) -> RemoteFile:
  """Asks Zenodo for a file's address, size and checksum.

  Args:
    record: Number of the record.
    name: Name of the file in it.
    base_url: The server.

  Raises:
    OSError: The server does not answer.
    ValueError: The record holds no such file, or the answer is no record.
  """
  url = f'{base_url}/api/records/{record}'
  try:
    entries = json_files.parse(read_page(url), url)['files'].entries()
    found = {entry['key'].text(): entry for entry in entries}
    if name in found:
      entry = found[name]
      return RemoteFile(
        entry['links']['self'].text(),
        name,
        entry['size'].integer(0, 2**50),
        entry['checksum'].text(),
      )
  except audio_files.FileError as error:
    raise ValueError(
      f'{url} does not answer as a record of Zenodo does: {error}'
    ) from error
  raise ValueError(f'{url} holds {", ".join(found)}, but no {name}.')


def find_size(url: str) -> int:
  """Returns the size of a file on a server, 0 if it does not say."""
  headers = {'Accept-Encoding': 'identity'}
  return _length(get(url, 'head', allow_redirects=True, headers=headers))


def _length(response) -> int:
  """Returns how many bytes a server says that come, 0 if it does not."""
  said = response.headers.get('Content-Length', '')
  return int(said) if said.isascii() and said.isdecimal() else 0


def _partial(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(f'.{path.name}.partial')


class _Resuming:
  """What pooch calls to download: goes on where an earlier call stopped.

  What has come is in .<file>.partial, and beside it of which version of the
  file it is a part: its ETag, or else its date. It stays until pooch has
  compared the checksum, which takes minutes of a large file.
  """

  def __init__(self, path: pathlib.Path, remote: RemoteFile):
    self.partial = _partial(path)
    self.version_path = path.with_name(f'.{path.name}.version')
    self.has_checksum = remote.checksum is not None
    self.n_bytes = remote.n_bytes

  def __call__(self, url, output_file, pooch, check_only=False):
    del pooch, check_only
    have = self.partial.stat().st_size if self.partial.exists() else 0
    if not (self.has_checksum and have and have == self.n_bytes):
      self._download(url, have)
    output_file = pathlib.Path(output_file)
    output_file.unlink(missing_ok=True)
    try:
      os.link(self.partial, output_file)
    except OSError:  # not every file system can
      os.replace(self.partial, output_file)

  def _download(self, url, have):
    headers = {'Accept-Encoding': 'identity'}
    version = files.read_state(self.version_path).get('version')
    # A change in between would go unnoticed without version and checksum.
    if have and (version or self.has_checksum):
      headers['Range'] = f'bytes={have}-'
      if isinstance(version, str) and version.isascii():
        headers['If-Range'] = version
    try:
      response = get(url, headers=headers, stream=True)
    except OSError as error:
      cause = error.__cause__
      if not isinstance(cause, requests.HTTPError) or cause.response is None:
        raise
      if cause.response.status_code != 416:
        raise
      # What is here is longer than the file there: begin again.
      self.partial.unlink()
      response = get(url, headers={'Accept-Encoding': 'identity'}, stream=True)
    goes_on = response.status_code == 206
    if not goes_on:
      have = 0
    version = response.headers.get('ETag', 'W/')
    if version.startswith('W/'):  # a weak one does not stand for all bytes
      version = response.headers.get('Last-Modified')
    files.write_json(self.version_path, {'version': version})
    total = have + _length(response) if _length(response) else 0
    expected = self.n_bytes or total
    if total > expected:
      raise ValueError(f'{url} has {total} bytes; {expected} were expected.')
    bar = tqdm.tqdm(
      total=total or None,
      initial=have,
      unit='B',
      unit_scale=True,
      desc=self.partial.name[1 : -len('.partial')],
    )
    most = expected or _MOST_FILE_BYTES
    with bar, open(self.partial, 'ab' if goes_on else 'wb') as file:
      for chunk in _chunks(response, url, most, have):
        file.write(chunk)
        bar.update(len(chunk))
    size = self.partial.stat().st_size
    if size < total:
      raise OSError(
        f'{url} broke off after {size} of {total} bytes. The same command goes '
        'on from there.'
      )
    self.version_path.unlink()


class Downloads:
  """A folder of downloaded files, and what is known of them: downloads.json.

  Args:
    folder: Where they lie.
  """

  NAME = 'downloads.json'

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self.state = files.read_state(folder / self.NAME)

  def has(self, remote: RemoteFile) -> bool:
    """Returns whether a file is here and as it was when it was checked."""
    path = self.folder / remote.name
    known = self.state.get(remote.name)
    if not path.exists() or not isinstance(known, dict):
      return False
    stat = path.stat()
    return (
      known.get('n_bytes') == stat.st_size
      and known.get('mtime_ns') == stat.st_mtime_ns
      and known.get('checksum') == remote.checksum
    )

  def missing_bytes(self, remotes: list[RemoteFile]) -> int:
    """Returns how much there is to download."""
    total = 0
    for remote in remotes:
      partial = _partial(self.folder / remote.name)
      have = partial.stat().st_size if partial.exists() else 0
      if not self.has(remote):
        total += max(remote.n_bytes - have, 0)
    return total

  def fetch(self, remote: RemoteFile) -> pathlib.Path:
    """Downloads a file, unless it is here and good.

    Args:
      remote: Which. If no checksum is published, that of what came is noted.

    Returns:
      Its path.

    Raises:
      OSError: The server does not answer, or breaks off.
      ValueError: What came is longer or has another checksum than published.
    """
    path = disk.inside(self.folder, remote.name)
    if self.has(remote):
      return path
    path.parent.mkdir(parents=True, exist_ok=True)
    if remote.checksum is None:
      path.unlink(missing_ok=True)  # nothing says that it is whole
    pooch.get_logger().setLevel(logging.WARNING)
    resuming = _Resuming(path, remote)
    try:
      pooch.retrieve(
        remote.url,
        known_hash=remote.checksum,
        fname=path.name,
        path=path.parent,
        downloader=resuming,
      )
    except ValueError as error:
      for file in (resuming.partial, resuming.version_path):
        file.unlink(missing_ok=True)
      raise ValueError(
        f'{remote.url} is not what was published: {error} What came was '
        'deleted; the same command downloads it again.'
      ) from error
    _partial(path).unlink(missing_ok=True)
    stat = path.stat()
    self.state[remote.name] = {
      'url': remote.url,
      'n_bytes': stat.st_size,
      'mtime_ns': stat.st_mtime_ns,
      'checksum': remote.checksum,
      'sha256': files.sha256(path),
    }
    self.save()
    return path

  def save(self):
    """Writes what is known."""
    files.write_json(self.folder / self.NAME, self.state)


def fetch_archive(
  remote: RemoteFile, folder: pathlib.Path, wanted: Callable[[str], bool]
) -> pathlib.Path:
  """Downloads an archive and unpacks what is wanted of it.

  Args:
    remote: The archive, .zip or .tar.gz.
    folder: Gets the archive, and below `unpacked` what it holds.
    wanted: Says of a member's name whether to unpack it.

  Returns:
    The folder `unpacked`.

  Raises:
    OSError: No room, or a server that does not answer.
    ValueError: Another checksum than published, or a damaged archive.
  """
  downloads = Downloads(folder)
  missing = downloads.missing_bytes([remote])
  if missing:
    disk.check_room(
      folder, missing + (_ROOM - 1) * remote.n_bytes, f'{remote.name}, unpacked'
    )
  archive = downloads.fetch(remote)
  archives.unpack(archive, folder / 'unpacked', wanted)
  return folder / 'unpacked'


def file_name_of(url: str) -> str:
  """Returns the last part of an address, its %xx read."""
  path = urllib.parse.urlsplit(url).path
  return urllib.parse.unquote(path.rsplit('/', 1)[-1])


def is_audio(name: str) -> bool:
  """Returns whether a name is that of an audio file."""
  suffix = pathlib.PurePosixPath(name).suffix.lower()
  return suffix in audio_files.AUDIO_SUFFIXES
