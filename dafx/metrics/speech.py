"""What listeners would say of speech."""

import librosa

from dafx.metrics import checks


def require_pesq():
  """Returns the package pesq.

  Raises:
    ImportError: It is not installed; the message says how to get it.
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


def pesq(target, audio, sample_rate):
  """Wide-band PESQ, ITU-T P.862.2, through the package pesq, at 16 kHz.

  Args:
    target: Clean speech. Shape [n_samples] or [n_samples, n_channels], which
      are mixed; at least a quarter of a second.
    audio: Speech of the same shape.
    sample_rate: Sample rate in Hz, > 0; both are brought to 16 kHz.

  Returns:
    Predicted opinion score from 1.04 to 4.64, higher is better; NaN where
    the standard's algorithm finds no speech.

  Raises:
    ValueError: If the audio is empty, not finite or of unequal shapes.
    ImportError: If the package is not installed.
  """
  package = require_pesq()
  target, audio = checks.check_pair(target, audio)
  checks.check_sample_rate(sample_rate)
  at_16k = [
    librosa.resample(
      checks.channels_first(x).mean(axis=0),
      orig_sr=sample_rate,
      target_sr=16000,
    )
    for x in (target, audio)
  ]
  try:
    return float(package.pesq(16000, *at_16k, 'wb'))
  except package.NoUtterancesError:
    return float('nan')
