"""Files from the network, and what archives hold: checked, and resumed.

pooch fetches files and compares their checksums. Its own downloader for DOIs
does not go on where a download broke off, which archives of many gigabytes
need, and does not tell sizes, by which room on the disk is asked for: so
`_Resuming` downloads, and Zenodo is asked for what a record holds.
"""

import dataclasses
import gzip
import logging
import os
import pathlib
import shutil
import tarfile
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable

import pooch
import requests
import tqdm

from dafx.audio import disk
from dafx.audio import files as audio_files
from dafx.training.data_preparation import files

ZENODO_URL = 'https://zenodo.org'

_CHUNK_BYTES = 2**18
_TIMEOUT_S = 60
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
    found = {entry['key']: entry for entry in get(url).json()['files']}
    if name not in found:
      raise ValueError(f'{url} holds {", ".join(found)}, but no {name}.')
    entry = found[name]
    return RemoteFile(
      entry['links']['self'], name, int(entry['size']), entry['checksum']
    )
  except (KeyError, TypeError, requests.JSONDecodeError) as error:
    raise ValueError(
      f'{url} does not answer as a record of Zenodo does: '
      f'{type(error).__name__} {error}.'
    ) from error


def find_size(url: str) -> int:
  """Returns the size of a file on a server, 0 if it does not say."""
  headers = {'Accept-Encoding': 'identity'}
  response = get(url, 'head', allow_redirects=True, headers=headers)
  return int(response.headers.get('Content-Length', 0))


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
    version = files.read_json(self.version_path, None)
    # A change in between would go unnoticed without version and checksum.
    if have and (version or self.has_checksum):
      headers['Range'] = f'bytes={have}-'
      if version:
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
    files.write_json(self.version_path, version)
    total = have + int(response.headers.get('Content-Length', 0))
    bar = tqdm.tqdm(
      total=total or None,
      initial=have,
      unit='B',
      unit_scale=True,
      desc=self.partial.name[1 : -len('.partial')],
    )
    try:
      with bar, open(self.partial, 'ab' if goes_on else 'wb') as file:
        for chunk in response.iter_content(_CHUNK_BYTES):
          file.write(chunk)
          bar.update(len(chunk))
    except requests.RequestException as error:
      raise OSError(
        f'{url} broke off after {self.partial.stat().st_size} of {total} '
        f'bytes: {error}. The same command goes on from there.'
      ) from error
    size = self.partial.stat().st_size
    if total and size < total:
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
    self.state = files.read_json(folder / self.NAME, {})

  def has(self, remote: RemoteFile) -> bool:
    """Returns whether a file is here and as it was when it was checked."""
    path = self.folder / remote.name
    known = self.state.get(remote.name, {})
    if not path.exists():
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
      ValueError: What came has another checksum than published.
    """
    path = self.folder / remote.name
    if self.has(remote):
      return path
    path.parent.mkdir(parents=True, exist_ok=True)
    if remote.checksum is None:
      path.unlink(missing_ok=True)  # nothing says that it is whole
    pooch.get_logger().setLevel(logging.WARNING)
    try:
      pooch.retrieve(
        remote.url,
        known_hash=remote.checksum,
        fname=path.name,
        path=path.parent,
        downloader=_Resuming(path, remote),
      )
    except ValueError as error:
      _partial(path).unlink(missing_ok=True)
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
  unpack(archive, folder / 'unpacked', wanted)
  return folder / 'unpacked'


def _is_safe(name: str) -> bool:
  parts = pathlib.PurePosixPath(name).parts
  return bool(parts) and '..' not in parts and not name.startswith(('/', '\\'))


def _is_rubbish(name: str) -> bool:
  parts = pathlib.PurePosixPath(name).parts
  return '__MACOSX' in parts or parts[-1].startswith('.')


def _members(archive):
  """Yields (name, size, function that opens it) of all files of an archive."""
  if zipfile.is_zipfile(archive):
    with zipfile.ZipFile(archive) as file:
      for info in file.infolist():
        if not info.is_dir():
          yield info.filename, info.file_size, lambda i=info: file.open(i)
    return
  with tarfile.open(archive, 'r:*') as tar:
    for member in tar:
      if member.isfile():
        yield member.name, member.size, lambda m=member: tar.extractfile(m)
    while tar.fileobj.read(_CHUNK_BYTES):
      pass  # the checksum of a compressed file comes last


def unpack(
  archive: pathlib.Path, folder: pathlib.Path, wanted: Callable[[str], bool]
) -> list[pathlib.Path]:
  """Unpacks an archive; files that are there in their size are left.

  Args:
    archive: .zip, .tar or a compressed .tar.
    folder: Where to.
    wanted: Says of a member's name whether to unpack it.

  Returns:
    The files.

  Raises:
    ValueError: The archive is damaged, or holds nothing that is wanted.
    OSError: No room.
  """
  state_path = folder / 'unpacked.json'
  stat = archive.stat()
  mark = [archive.name, stat.st_size, stat.st_mtime_ns]
  state = files.read_json(state_path, {})
  if state.get('archive') == mark and all(
    (folder / name).exists() and (folder / name).stat().st_size == size
    for name, size in state['members'].items()
  ):
    return [folder / name for name in state['members']]
  # Files of an archive that this one took the place of are not trusted.
  is_same = state.get('archive') == mark
  files.write_json(state_path, {'archive': mark, 'members': {'': -1}})
  members = {}
  try:
    for name, size, open_member in _members(archive):
      if not _is_safe(name) or _is_rubbish(name) or not wanted(name):
        continue
      members[name] = size
      path = folder / name
      if is_same and path.exists() and path.stat().st_size == size:
        continue
      disk.check_room(folder, size, f'{name} of {archive.name}')
      path.parent.mkdir(parents=True, exist_ok=True)
      temporary = path.with_name(f'.{path.name}.partial')
      with open_member() as source, open(temporary, 'wb') as target:
        shutil.copyfileobj(source, target, _CHUNK_BYTES)
      if temporary.stat().st_size != size:
        raise EOFError(f'{name} ends too early')
      temporary.replace(path)
  except (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
    NotImplementedError,  # zipfile's, for a compression it does not know.
  ) as error:
    what = (str(error).splitlines() or [''])[0]
    raise ValueError(
      f'{archive} is damaged or no archive ({type(error).__name__}: {what}). '
      'Delete it, and the same command downloads it again.'
    ) from error
  if not members:
    raise ValueError(
      f'{archive} holds none of the files that are wanted; is it the published '
      'one?'
    )
  files.write_json(state_path, {'archive': mark, 'members': members})
  return [folder / name for name in members]


def file_name_of(url: str) -> str:
  """Returns the last part of an address, its %xx read."""
  path = urllib.parse.urlsplit(url).path
  return urllib.parse.unquote(path.rsplit('/', 1)[-1])


def is_audio(name: str) -> bool:
  """Returns whether a name is that of an audio file."""
  suffix = pathlib.PurePosixPath(name).suffix.lower()
  return suffix in audio_files.AUDIO_SUFFIXES
