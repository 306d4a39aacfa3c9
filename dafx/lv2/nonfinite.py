"""What becomes of output that is not finite."""

import logging
from collections.abc import Iterable, Sequence

import numpy as np

from dafx.lv2 import errors

_log = logging.getLogger('dafx.lv2')


class NonfiniteWatch:
  """Counts samples of a plugin that were not finite, and warns of some.

  Args:
    uri: URI of the plugin.
    symbols: Of the controls that are moved.
    strict: Whether they are an error.

  Attributes:
    n_samples: Samples so far.
  """

  def __init__(self, uri: str, symbols: Sequence[str], strict: bool):
    self.n_samples = 0
    self._n_items = 0
    self._uri = uri
    self._symbols = symbols
    self._strict = strict

  def look(self, counts: Iterable[int], controls: np.ndarray):
    """Looks at a batch that was rendered.

    Args:
      counts: Samples that were not finite, by item.
      controls: Shape [batch, n_frames, n_controls].

    Raises:
      errors.PluginError: There are some, if `strict`.
    """
    for count, frames in zip(counts, controls, strict=True):
      if count:
        self._report(int(count), frames)

  def _report(self, n_samples: int, controls: np.ndarray):
    message = (
      f'{self._uri} gave {n_samples} samples that are not finite, at '
      f'{errors.describe_controls(self._symbols, controls)}.'
    )
    if self._strict:
      raise errors.PluginError(message)
    self.n_samples += n_samples
    self._n_items += 1
    count = str(self._n_items)
    if count.strip('0') == '1':
      again = f' It is item {count} of that kind.' if count != '1' else ''
      _log.warning('%s They are set to zero.%s', message, again)
