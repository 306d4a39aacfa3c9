"""Evaluation metrics: NumPy audio of one file in, a float out.

Audio is float, `[n_samples]` or `[n_samples, n_channels]`, full scale at +-1.
Target and audio have the same shape. Nothing here is differentiable; training
losses are in `dafx.losses`.
"""

from dafx.metrics.alignment import (
  align,
  find_lag,
)
from dafx.metrics.distances import (
  dc,
  esr,
  mae,
  mfcc_cosine,
  mr_stft,
  polarity,
  si_sdr,
)
from dafx.metrics.evaluation import evaluate
from dafx.metrics.levels import (
  SILENCE_LUFS,
  LoudnessMeter,
  crest_factor_db,
  loudness_difference,
  loudness_lufs,
  rms_db,
)
from dafx.metrics.sets import (
  frechet_audio_distance,
  frechet_distance,
  log_mel_embedding,
)
from dafx.metrics.speech import (
  pesq,
  require_pesq,
)

__all__ = [
  'SILENCE_LUFS',
  'LoudnessMeter',
  'align',
  'crest_factor_db',
  'dc',
  'esr',
  'evaluate',
  'find_lag',
  'frechet_audio_distance',
  'frechet_distance',
  'log_mel_embedding',
  'loudness_difference',
  'loudness_lufs',
  'mae',
  'mfcc_cosine',
  'mr_stft',
  'pesq',
  'polarity',
  'require_pesq',
  'rms_db',
  'si_sdr',
]
