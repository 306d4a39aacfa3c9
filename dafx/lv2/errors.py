"""What can go wrong with a plugin."""

import contextlib
import difflib
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np


class PluginError(RuntimeError):
  """A plugin refused, failed or did what no plugin may do.

  Examples:
    >>> import numpy as np
    >>> from dafx import lv2
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> renderer = lv2.Renderer(uri, sample_rate=44100, isolation='process')
    >>> try:
    ...   audio = renderer.render(np.zeros([1, 1000, 2]))
    ... except (
    ...   lv2.PluginError
    ... ) as error:  # it crashed, and only its worker ended
    ...   print(error)
  """


class CrashError(PluginError):
  """A plugin crashed or hung, and took a process of its own down with it.

  Attributes:
    uri: Of the plugin.
    item: Which item of a batch it was rendering, from 0; None for audio that is
      none of the caller's.
  """

  def __init__(self, message: str, uri: str, item: int | None = None):
    super().__init__(message)
    self.uri = uri
    self.item = item

  def __reduce__(self):
    """Says how it is pickled, as between processes: with all it tells."""
    return type(self), (*self.args, self.uri, self.item)


@contextlib.contextmanager
def crashes_in(items: Sequence[int] | np.ndarray | None) -> Iterator[None]:
  """Has a `CrashError` tell of the batch that its items were taken from.

  Args:
    items: Which item of that batch each one is that is rendered; None where
      they are of no batch.

  Examples:
    >>> from dafx import lv2
    >>> try:
    ...   with lv2.crashes_in([5, 7]):
    ...     raise lv2.CrashError('It crashed.', 'urn:a', item=1)
    ... except lv2.CrashError as error:
    ...   print(error.item)
    7
  """
  try:
    yield
  except CrashError as error:
    if error.item is not None:
      error.item = None if items is None else int(items[error.item])
    raise


@contextlib.contextmanager
def errors_with(name: str | os.PathLike) -> Iterator[None]:
  """Names a file in what is raised of a plugin that works on it.

  Args:
    name: Its path, or what else it is called.

  Raises:
    PluginError: With the name before the message.

  Examples:
    >>> from dafx import lv2
    >>> with lv2.errors_with('song.wav'):
    ...   raise lv2.PluginError('It crashed.')
    Traceback (most recent call last):
    dafx.lv2.errors.PluginError: song.wav: It crashed.
  """
  try:
    yield
  except PluginError as error:
    error.args = (f'{name}: {error}', *error.args[1:])
    raise


def describe_controls(symbols: Sequence[str], controls: np.ndarray) -> str:
  """Returns what controls were at, for messages: 'ratio=2, mix=0..1'.

  Args:
    symbols: Their symbols.
    controls: In port units, shape [n_frames, n_controls].

  Returns:
    The value of each, or the lowest and highest; for none, 'its defaults'.
  """
  rows = zip(symbols, controls.min(0), controls.max(0), strict=True)
  return ', '.join(
    f'{symbol}={low:g}' + (f'..{high:g}' if high > low else '')
    for symbol, low, high in rows
  ) or 'its defaults'  # fmt: skip


def hint_of_names(
  name: str, known: Iterable[str], is_quoted: bool = False
) -> str:
  """Returns a sentence that names what may have been meant: the closest.

  Args:
    name: What was asked for, and is not there.
    known: What is there, all of which is named if nothing is close.
    is_quoted: Whether names are put in quotes, being words for people.
  """
  known = list(known)
  near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
  named = ', '.join(repr(n) if is_quoted else n for n in near or known)
  return f'The closest are {named}.' if near else f'It has {named or "none"}.'
