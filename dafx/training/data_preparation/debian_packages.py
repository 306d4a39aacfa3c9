"""Packages of Debian with free music: which, and how they are downloaded."""

import dataclasses
import pathlib
from collections.abc import Sequence

from dafx.audio import disk
from dafx.training.data_preparation import download, files

MIRRORS = ('http://deb.debian.org/debian', 'http://ftp.debian.org/debian')


@dataclasses.dataclass(frozen=True)
class Package:
  """A version of a package of Debian.

  Attributes:
    path: Below the mirror.
    n_bytes: Its size.
    sha256: Its SHA-256.
  """

  path: str
  n_bytes: int
  sha256: str

  @property
  def name(self) -> str:
    """The file's name."""
    return self.path.rsplit('/', 1)[-1]


# Versions of Debian 12 and 13, the same for all kinds of processor. Of each
# package the first is taken that the archive still has.
PACKAGES = (
  (
    Package(
      'pool/main/w/wesnoth-1.16/wesnoth-1.16-music_1.16.9-1_all.deb',
      153244368,
      'f9bc3cde92b4ab30db5d7b85f89b4bcc3d788dd92602956d0347250850bf59bb',
    ),
    Package(
      'pool/main/w/wesnoth-1.18/wesnoth-1.18-music_1.18.5-1_all.deb',
      153307716,
      '18f8720c4d3a1e0541c55fc2edc2d85c5b045cf98f3ce5cd441934d2a7fddf8e',
    ),
  ),
  (
    Package(
      'pool/main/w/warzone2100/warzone2100-music_4.3.3-3_all.deb',
      85730052,
      'd3b2c9f90ea5438d45d4aff18339a03ec808e1affa9dac91f7dad61cb15ee64e',
    ),
    Package(
      'pool/main/w/warzone2100/warzone2100-music_4.5.5deb-1_all.deb',
      85735812,
      'cf65dafac037324a2c5680d3d2b12dfabc558a07d8c625ce62b6e7c02f4afd52',
    ),
  ),
  (
    Package(
      'pool/main/u/ufoai-music/ufoai-music_2.5-2_all.deb',
      210239176,
      '2465d55e9dce75a3a2a1ad1c8ca67da84e251c04e0965d63a8562b2d9f76f9e6',
    ),
  ),
  (
    Package(
      'pool/main/s/singularity-music/singularity-music_007-2_all.deb',
      51636048,
      '139ba1e408eeb0a72f1fff3760ca46558b9f81bed97dc8c0efa108c4007f4845',
    ),
  ),
)


def _find_remote(versions, mirrors):
  """Returns the first of some versions that a mirror has."""
  reasons = []
  for package in versions:
    for mirror in mirrors:
      url = f'{mirror.rstrip("/")}/{package.path}'
      try:
        download.find_size(url)
      except OSError as error:
        reasons.append(str(error))
        continue
      checksum = f'sha256:{package.sha256}'
      return download.RemoteFile(url, package.name, package.n_bytes, checksum)
  lines = '\n  '.join(reasons)
  raise OSError(
    f'No mirror has a version of this package that dafx knows:\n  {lines}\n'
    'Give the address of another mirror with --debian_mirror.'
  )


def fetch(
  folder: pathlib.Path,
  mirrors: Sequence[str],
  packages: Sequence[Sequence[Package]],
) -> list[pathlib.Path]:
  """Downloads the packages.

  Args:
    folder: Where to. A package that is there is checked and taken.
    mirrors: Addresses of the archive.
    packages: Of each package its versions, the wanted ones first.

  Returns:
    The files.

  Raises:
    OSError: No room, no network, or no version that is known.
    ValueError: What came has another checksum.
  """
  downloads = download.Downloads(folder)
  remotes = []
  for versions in packages:
    here = [
      download.RemoteFile('', p.name, p.n_bytes, f'sha256:{p.sha256}')
      for p in versions
      if (folder / p.name).exists()
    ]
    # pooch compares what lies there, and asks the network only for the rest.
    good = [r for r in here if _is_good(downloads, r)]
    remotes.append(good[0] if good else _find_remote(versions, mirrors))
  missing = downloads.missing_bytes(remotes)
  if missing:
    # As much again for what is unpacked: music is packed already.
    disk.check_room(folder, 3 * missing, 'The music of Debian, unpacked,')
  return [downloads.fetch(remote) for remote in remotes]


def _is_good(downloads, remote):
  if downloads.has(remote):
    return True
  path = downloads.folder / remote.name
  return remote.checksum == f'sha256:{files.sha256(path)}'
