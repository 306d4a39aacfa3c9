"""What listeners would say of speech."""

import math
import types

import numpy as np
import numpy.typing as npt

from dafx.audio import sources
from dafx.metrics import pairs


def require_pesq() -> types.ModuleType:
  """Returns the package pesq.

  Raises:
    ImportError: It is not installed; the message says how to get it.

  Examples:
    >>> import sys
    >>> from dafx import metrics
    >>> sys.modules['pesq'] = None  # as where it is not installed
    >>> metrics.require_pesq()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ImportError: PESQ needs the package pesq: pip install 'dafx[speech]' ...
    >>> del sys.modules['pesq']
  """
  try:
    import pesq as package
  except ImportError as error:
    raise ImportError(
      "PESQ needs the package pesq: pip install 'dafx[speech]' (it is compiled "
      'when it is installed). Or do without: dafx.training.evaluate.with_pesq '
      '= False.'
    ) from error
  return package


# The package keeps 50 utterances, unchecked: 51 of them, which fit in 20 s,
# write behind its table, and 60 end the process. P.862 is made for 8 to 12 s.
_PIECE_S = 10.0
_SAMPLE_RATE = 16000
# The least opinion score; what of speech is noise alone gets 1.02.
_WORST = 1.0


def pesq(
  target: npt.ArrayLike, audio: npt.ArrayLike, sample_rate: int
) -> float:
  """Wide-band PESQ, ITU-T P.862.2, through the package pesq, at 16 kHz.

  Audio of more than 15 s is scored in pieces of 10 s; the score is their mean,
  by length. Pieces in which the target has no speech are left out.

  Args:
    target: Clean speech. Shape [n_samples] or [n_samples, n_channels], which
      are mixed.
    audio: Speech of the same shape.
    sample_rate: Sample rate in Hz, > 0; both are brought to 16 kHz.

  Returns:
    Predicted opinion score from 1 to 4.64, higher is better; 1 for silence in
    place of speech. NaN where the standard's algorithm finds no speech in the
    target, such as in less than a quarter of a second.

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes.
    ImportError: If the package is not installed.
  """
  package = require_pesq()
  target, audio = pairs.check_pair(target, audio)
  pairs.check_sample_rate(sample_rate)
  clean, heard = (
    sources.resample(
      pairs.channels_first(x).mean(axis=0), sample_rate, _SAMPLE_RATE
    )
    for x in (target, audio)
  )
  scores, lengths = [], []
  for start, stop in pairs.pieces(len(clean), int(_PIECE_S * _SAMPLE_RATE)):
    score = _score(package, clean[start:stop], heard[start:stop])
    if not math.isnan(score):
      scores.append(score)
      lengths.append(stop - start)
  return float(np.average(scores, weights=lengths)) if scores else math.nan


def _score(package, target, audio):
  """Returns the score of a piece at 16 kHz; NaN without speech."""
  if not np.any(target):
    return math.nan
  try:
    return float(package.pesq(_SAMPLE_RATE, target, audio, 'wb'))
  except (package.NoUtterancesError, package.BufferTooShortError):
    return math.nan
  except ValueError:  # its own level comes to NaN: it is silent
    return _WORST
