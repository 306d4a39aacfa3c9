"""What commands print, on terminals of any encoding.

A file may be called anything, and a terminal may know few characters. The path
of a result is then written as far as it can be, and never ends a run.
"""

import codecs
import io
import sys

_HANDLER = 'dafx-terminal'


def _replace(error: UnicodeError) -> tuple[bytes | str, int]:
  """Gives bytes of file names back as they are, and escapes the rest."""
  if not isinstance(error, UnicodeEncodeError):
    raise error
  character = error.object[error.start]
  try:
    return character.encode('ascii', 'surrogateescape'), error.start + 1
  except UnicodeEncodeError:
    escaped = character.encode('ascii', 'backslashreplace')
    return escaped, error.start + 1


def bear_all_characters():
  """Has standard output take every text."""
  codecs.register_error(_HANDLER, _replace)
  if isinstance(sys.stdout, io.TextIOWrapper):  # not None, nor what tests put
    sys.stdout.reconfigure(errors=_HANDLER)
