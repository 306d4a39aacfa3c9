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
  mfcc_cosines,
  mr_stft,
  polarity,
  si_sdr,
)
from dafx.metrics.evaluation import evaluate
from dafx.metrics.levels import (
  MAX_LOUDNESS_CHANNELS,
  SILENCE_LUFS,
  LoudnessMeter,
  TruePeakMeter,
  crest_error_db,
  crest_factor_db,
  loudness_difference,
  loudness_lufs,
  loudness_over_time,
  rms_db,
  true_peak_dbtp,
)
from dafx.metrics.matching import (
  match,
  match_level,
  match_loudness,
  matched,
)
from dafx.metrics.sets import (
  frechet_audio_distance,
  frechet_distance,
  log_mel_embedding,
)
from dafx.metrics.spectra import (
  THIRD_OCTAVES_HZ,
  average_spectrum_db,
  average_spectrum_error_db,
  multi_scale_spectral,
)
from dafx.metrics.speech import (
  pesq,
  require_pesq,
)
from dafx.metrics.stereo import (
  mono_sum_db,
  mono_sum_error_db,
  width_db,
  width_error_db,
)

__all__ = [
  'MAX_LOUDNESS_CHANNELS',
  'SILENCE_LUFS',
  'THIRD_OCTAVES_HZ',
  'LoudnessMeter',
  'TruePeakMeter',
  'align',
  'average_spectrum_db',
  'average_spectrum_error_db',
  'crest_error_db',
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
  'loudness_over_time',
  'mae',
  'match',
  'match_level',
  'match_loudness',
  'matched',
  'mfcc_cosine',
  'mfcc_cosines',
  'mono_sum_db',
  'mono_sum_error_db',
  'mr_stft',
  'multi_scale_spectral',
  'pesq',
  'polarity',
  'require_pesq',
  'rms_db',
  'si_sdr',
  'true_peak_dbtp',
  'width_db',
  'width_error_db',
]
