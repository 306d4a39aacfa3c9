"""Results that are written as they come, so that work goes on after a break."""

import hashlib
import json
import os
import pathlib

from dafx.audio import disk


def fingerprint(*parts) -> str:
  """Returns a name for what results depend on.

  Args:
    *parts: Bytes, or what says all of itself in `repr`.
  """
  digest = hashlib.sha256()
  for part in parts:
    text = part if isinstance(part, bytes) else repr(part).encode()
    digest.update(len(text).to_bytes(8, 'little') + text)
  return digest.hexdigest()


class Ledger:
  """A file of results by name, a line of JSON for each.

  What was noted under another key, or cut short by a crash, counts as not
  there.

  Args:
    path: The file; its folder is made.
    key: What the results depend on; see `fingerprint`.
  """

  def __init__(self, path: str | os.PathLike, key: str):
    self._path = pathlib.Path(path)
    self._key = key
    self._path.parent.mkdir(parents=True, exist_ok=True)
    lines = self._path.read_bytes().splitlines() if self._path.exists() else []
    self._results = dict(filter(None, map(self._parse, lines)))
    # Anew, without what does not count: a line cut short would spoil the next.
    text = ''.join(self._line(*item) for item in self._results.items())
    with disk.replacing(self._path) as temporary:
      temporary.write_text(text, encoding='utf-8')

  def _parse(self, line):
    """Returns (name, result) of a line; None if it does not count."""
    try:
      key, name, result = json.loads(line)
    except (ValueError, TypeError, RecursionError):
      return None
    is_ours = key == self._key and isinstance(name, str)
    return (name, result) if is_ours else None

  def _line(self, name, result):
    return json.dumps([self._key, name, result]) + '\n'

  def __len__(self) -> int:
    """Returns the number of results."""
    return len(self._results)

  def get(self, name: str):
    """Returns what was noted of a name, or None."""
    return self._results.get(name)

  def add(self, name: str, result):
    """Notes a result, on disk before it returns.

    Args:
      name: Of what.
      result: What JSON can hold.
    """
    self._results[name] = result
    with open(self._path, 'a', encoding='utf-8') as file:
      file.write(self._line(name, result))
      file.flush()
      os.fsync(file.fileno())

  def remove(self):
    """Takes the file away, when all is done."""
    self._path.unlink()
