"""What sounds otherwise in another host, said beside a session."""

import numpy as np

from dafx import lv2
from dafx.sessions import session as sessions

# As dafx runs plugins, and as another host may.
_BLOCK_SIZE, _OTHER_BLOCK_SIZES = 1024, (256, 64)
_WARM_UP, _LONG_WARM_UP_S = 1024, 1.0
# Of the loudest part of the audio, which is tried.
_TRIED_S = 0.5
_AUDIBLE_DB = -60.0


def find_host_dependence(session: sessions.Session) -> list[str]:
  """Tries which plugins sound otherwise in another host, as they are set.

  Each is run on the loudest part of what it gets: in blocks of other sizes, and
  after a longer time of silence.

  Args:
    session: The session.

  Returns:
    A sentence for each plugin that differs by more than -60 dB of its output.

  Examples:
    >>> import numpy as np
    >>> from dafx import sessions
    >>> from dafx.audio import sources
    >>> audio = sources.from_array(np.ones([4410, 2]), 44100)
    >>> sessions.find_host_dependence(sessions.Session('song', [], audio))
    []
  """
  signal = 10.0 ** (session.gain_db / 20.0) * _loudest(session)
  found = []
  for plugin in session.plugins:
    name = lv2.get_plugin(plugin.uri).name
    out = _render(session, plugin, signal)
    changes: dict[str, float] = {}
    for size in _OTHER_BLOCK_SIZES:
      try:
        other = _render(session, plugin, signal, block_size=size)
      except lv2.PluginError:  # it takes no such blocks
        continue
      changes['the size of blocks'] = max(
        changes.get('the size of blocks', -np.inf), _difference_db(other, out)
      )
    n_more = int(_LONG_WARM_UP_S * session.sample_rate)
    later = _render(session, plugin, signal, warm_up=_WARM_UP + n_more)
    changes['how long it ran before'] = _difference_db(later, out)
    found += [
      f'{name} depends on {what}: an export may differ from the file of dafx '
      f'by {change_db:.0f} dB of its output.'
      for what, change_db in changes.items()
      if change_db > _AUDIBLE_DB
    ]
    signal = out
  return found


def _loudest(session: sessions.Session) -> np.ndarray:
  """Returns the part of the audio with the highest peak, [n, n_channels]."""
  n_samples = max(int(_TRIED_S * session.sample_rate), 1)
  best, peak = np.zeros([1, session.audio.n_channels], np.float32), -1.0
  for block in session.audio.blocks():
    at = int(np.abs(block).max(-1).argmax())
    if np.abs(block[at]).max() > peak:
      peak = float(np.abs(block[at]).max())
      start = max(min(at - n_samples // 2, len(block) - n_samples), 0)
      best = block[start : start + n_samples]
  if best.shape[1] < session.n_channels:
    best = np.repeat(best, session.n_channels, axis=1)
  return best


def _render(session, plugin, signal, block_size=_BLOCK_SIZE, warm_up=_WARM_UP):
  """Renders a signal, [n, n_channels], through one plugin of a session."""
  renderer = session.renderer(plugin, block_size=block_size, warm_up=warm_up)
  if session.n_copies(plugin) > 1:  # channels as items
    return renderer.render(signal.T[..., np.newaxis])[..., 0].T.copy()
  return renderer.render(signal[np.newaxis])[0].copy()


def _difference_db(other: np.ndarray, out: np.ndarray) -> float:
  """Returns the level of a difference, in dB of the output."""
  level = np.linalg.norm(out.astype(np.float64))
  difference = np.linalg.norm(other.astype(np.float64) - out)
  if not difference:
    return -np.inf
  return float(20.0 * np.log10(difference / level)) if level else 0.0
