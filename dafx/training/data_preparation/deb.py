"""Debian packages, read without being installed.

A .deb is an archive of `ar`: debian-binary, control.tar.* and data.tar.*, the
last with the files (deb(5)). Who made them and under which licence is in the
package's file `copyright`, mostly in a form that programs read (DEP-5).
"""

import dataclasses
import fnmatch
import pathlib
import re
import shutil
from collections.abc import Callable

from dafx.audio import disk
from dafx.training.data_preparation import archives

_MAGIC = b'!<arch>\n'
_HEADER_BYTES = 60
# What Python's tarfile reads; Debian itself has no other form of data.
_SUFFIXES = ('', '.gz', '.bz2', '.xz')


def _find_data(package):
  """Returns name, offset and size of data.tar.* in a .deb."""
  size_of_package = package.stat().st_size
  with open(package, 'rb') as file:
    if file.read(len(_MAGIC)) != _MAGIC:
      raise ValueError(f'{package} is no Debian package. Rename it.')
    while len(header := file.read(_HEADER_BYTES)) == _HEADER_BYTES:
      name = header[:16].decode('ascii', 'replace').strip().rstrip('/')
      digits = header[48:58].strip()
      if header[58:60] != b'`\n' or not digits.isdigit():
        break
      size = int(digits)
      if file.tell() + size > size_of_package:
        break
      if name.startswith('data.tar'):
        return name, file.tell(), size
      file.seek(size + size % 2, 1)
  raise ValueError(
    f'{package} is damaged: there is no whole data.tar in it. Rename it, and '
    'the same command downloads it again.'
  )


def unpack(
  package: pathlib.Path, folder: pathlib.Path, wanted: Callable[[str], bool]
) -> list[pathlib.Path]:
  """Unpacks files of a .deb; nothing of it is run.

  Args:
    package: The .deb.
    folder: Where to.
    wanted: Says of a member's name, such as './usr/share/…', whether to unpack
      it.

  Returns:
    The files.

  Raises:
    ValueError: It is damaged, no package, compressed by what Python does not
      read, or holds nothing that is wanted.
    OSError: No room.
  """
  name, offset, size = _find_data(package)
  if name.removeprefix('data.tar') not in _SUFFIXES:
    raise ValueError(
      f'{package} holds {name}; data.tar with one of {", ".join(_SUFFIXES)} '
      'can be unpacked. Take the package of Debian.'
    )
  data = folder / f'{package.stem}.{name}'
  if not (data.exists() and data.stat().st_size == size):
    disk.check_room(folder, size, f'{name} of {package.name}')
    folder.mkdir(parents=True, exist_ok=True)
    with open(package, 'rb') as source, disk.replacing(data) as temporary:
      source.seek(offset)
      with open(temporary, 'wb') as target:
        shutil.copyfileobj(_Part(source, size), target)
  try:
    return archives.unpack(data, folder, wanted, package)
  except ValueError:
    data.unlink()  # so that a whole package is not taken for this one
    raise


class _Part:
  """The next bytes of a file, as a file of its own."""

  def __init__(self, file, size):
    self.file, self.left = file, size

  def read(self, size=-1):
    content = self.file.read(self.left if size < 0 else min(size, self.left))
    self.left -= len(content)
    return content


@dataclasses.dataclass(frozen=True)
class Licence:
  """Who made some files, and how they may be used.

  Attributes:
    patterns: Of the files' paths in the source package, with * and ?.
    authors: As the package says it.
    name: Short name of the licence, such as 'GPL-2+'.
  """

  patterns: tuple[str, ...]
  authors: str
  name: str


def read_licences(text: str) -> list[Licence]:
  """Reads a file `copyright` in the form of DEP-5.

  Args:
    text: What it holds.

  Returns:
    Its paragraphs of files, in their order; none if it has another form.
  """
  if not re.match(r'Format(-Specification)?:', text.lstrip()):
    return []
  found = []
  for paragraph in re.split(r'\n\s*\n', text):
    fields = dict(
      re.findall(r'^([A-Za-z-]+):(.*(?:\n[ \t].*)*)', paragraph, re.MULTILINE)
    )
    if 'Files' in fields and 'License' in fields:
      lines = [x.strip() for x in fields.get('Copyright', '').splitlines()]
      found.append(
        Licence(
          tuple(fields['Files'].split()),
          '; '.join(dict.fromkeys(line for line in lines if line)),
          fields['License'].strip().splitlines()[0],
        )
      )
  return found


def find_licence(licences: list[Licence], name: str) -> Licence | None:
  """Returns the licence of a file: as in DEP-5, the last that fits.

  Args:
    licences: Of the package.
    name: End of the file's path, such as 'music/dawn.ogg'. A package may
      install its files elsewhere than its source has them.
  """
  fitting = None
  for licence in licences:
    if any(
      fnmatch.fnmatchcase(name, pattern)
      or fnmatch.fnmatchcase(pattern, f'*/{name}')
      for pattern in licence.patterns
    ):
      fitting = licence
  return fitting
