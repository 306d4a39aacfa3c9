"""What can go wrong with a plugin."""

from collections.abc import Sequence

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
