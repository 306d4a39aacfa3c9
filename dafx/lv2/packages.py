"""Which Debian package a plugin comes in, and of which version it is."""

import functools
import pathlib
import re
import subprocess

# Packages of Debian and Ubuntu by what URIs of their plugins begin with.
_PACKAGES = {
  'http://lsp-plug.in/': 'lsp-plugins-lv2',
  'http://calf.sourceforge.net/': 'calf-plugins',
  'http://gareus.org/oss/lv2/': 'x42-plugins',
  'urn:zamaudio:': 'zam-plugins',
  'http://invadarecords.com/': 'invada-studio-plugins-lv2',
  'http://drobilla.net/plugins/mda/': 'mda-lv2',
  'http://plugin.org.uk/swh-plugins/': 'swh-lv2',
  'http://hippie.lt/lv2/gate': 'abgate',
}


def package_of(uri: str) -> str | None:
  """Returns the Debian package of a plugin; None if it is not known here.

  >>> from dafx.lv2 import packages
  >>> packages.package_of('http://calf.sourceforge.net/plugins/Compressor')
  'calf-plugins'

  Args:
    uri: The plugin's URI; it need not be installed.
  """
  for prefix, package in _PACKAGES.items():
    if uri.startswith(prefix):
      return package
  return None


def version_in_names(names: list[str]) -> str | None:
  """Returns the version that names of libraries end with; None without one.

  >>> from dafx.lv2 import packages
  >>> packages.version_in_names(['lsp-plugins-lv2-1.2.5.so'])
  '1.2.5'

  Args:
    names: File names.
  """
  found = [re.search(r'-(\d+(?:\.\d+)+)\.so$', name) for name in names]
  return next((match[1] for match in found if match), None)


def full_version(uri: str, own: str, bundle_path: pathlib.Path) -> str:
  """Returns the version of a plugin, with that of its package if it is known.

  >>> import pathlib
  >>> from dafx.lv2 import packages
  >>> packages.full_version('urn:mine', '1.2', pathlib.Path('mine.lv2'))
  '1.2'

  Args:
    uri: The plugin's URI.
    own: Its own version.
    bundle_path: Its folder.

  Returns:
    Such as '1.2 (lsp-plugins-lv2 1.2.5)'.
  """
  package = package_of(uri)
  version = package and installed_version(package, bundle_path)
  return f'{own} ({package} {version})' if version else own


@functools.cache
def installed_version(package: str, bundle_path: pathlib.Path) -> str | None:
  """Returns the version of the package that a plugin came in.

  A plugin itself has numbers of its own (lv2:minorVersion), which say nothing
  of the package. LSP's name the version in their library up to some release;
  else dpkg knows it.

  Args:
    package: Its name in Debian.
    bundle_path: The plugin's folder.

  Returns:
    The version without Debian's additions, such as '1.2.5'; None if neither
    tells it.
  """
  names = [path.name for path in bundle_path.glob('*.so')]
  if version := version_in_names(names):
    return version
  try:
    done = subprocess.run(
      ['dpkg-query', '--search', str(bundle_path / 'manifest.ttl')],
      capture_output=True,
      text=True,
      check=True,
    )
    owner = done.stdout.split(':')[0]
    if owner != package:
      return None
    done = subprocess.run(
      ['dpkg-query', '--show', '--showformat=${Version}', package],
      capture_output=True,
      text=True,
      check=True,
    )
  except (OSError, subprocess.CalledProcessError):
    return None  # no Debian, or a plugin that was installed otherwise
  match = re.match(r'(?:\d+:)?(\d+(?:\.\d+)*)', done.stdout)
  return match[1] if match else None
