"""Whether the system has Ardour, and what it calls its export."""

import shutil

VERSIONS = range(7, 20)
REMEDY = '`apt-get install ardour`'


def export_command() -> str | None:
  """Returns the name of the command; None where there is none."""
  names = [f'ardour{version}-export' for version in VERSIONS]
  return next((name for name in names if shutil.which(name)), None)
