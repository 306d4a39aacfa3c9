"""Training losses: siblings of `ddsp.losses` for audio that may have channels.

Audio is float, `[batch, n_samples]` or `[batch, n_samples, n_channels]`, full
scale at +-1. Each loss is a pure function first and a thin Keras layer over it;
the layers are called `(target_audio, audio)`, give a scalar, and work in
`ddsp.losses.LossGroup` or in a plain list through `get_losses_dict`.

A loss is the mean over the batch of what each item gives by itself: it depends
neither on the order of the items nor, for alignment, on the other items.
`match_level`, `average_spectrum_loss` and `dynamics_loss` are blind to level,
which `loudness_loss` alone hears.
"""

from dafx.losses.alignment import (
  AlignedLoss,
  align,
  aligned_overlap,
  correlation_by_lag,
  find_lag,
  find_polarity,
)
from dafx.losses.average_spectrum import (
  AverageSpectrumLoss,
  average_spectrum_loss,
)
from dafx.losses.dynamics import DynamicsLoss, dynamics_loss
from dafx.losses.levels import LoudnessLoss, loudness_loss, match_level
from dafx.losses.shapes import fold_channels
from dafx.losses.spectral import (
  MultiScaleSpectralLoss,
  multi_scale_spectral_loss,
)
from dafx.losses.stft import (
  MultiResolutionStftLoss,
  RandomResolutionStftLoss,
  stft_loss,
  stft_magnitude,
)
from dafx.losses.time_domain import (
  DcLoss,
  EsrLoss,
  LogCoshLoss,
  SiSdrLoss,
  TimeDomainLoss,
  dc_loss,
  esr_loss,
  log_cosh_loss,
  si_sdr_loss,
  time_domain_loss,
)
from dafx.losses.weighting import (
  PreEmphasisLoss,
  SumAndDifferenceLoss,
  a_weighting_taps,
  filter_fir,
  pre_emphasis_taps,
)
from dafx.losses.wrapping import WrappedLosses

__all__ = [
  'AlignedLoss',
  'AverageSpectrumLoss',
  'DcLoss',
  'DynamicsLoss',
  'EsrLoss',
  'LogCoshLoss',
  'LoudnessLoss',
  'MultiResolutionStftLoss',
  'MultiScaleSpectralLoss',
  'PreEmphasisLoss',
  'RandomResolutionStftLoss',
  'SiSdrLoss',
  'SumAndDifferenceLoss',
  'TimeDomainLoss',
  'WrappedLosses',
  'a_weighting_taps',
  'align',
  'aligned_overlap',
  'average_spectrum_loss',
  'correlation_by_lag',
  'dc_loss',
  'dynamics_loss',
  'esr_loss',
  'filter_fir',
  'find_lag',
  'find_polarity',
  'fold_channels',
  'log_cosh_loss',
  'loudness_loss',
  'match_level',
  'multi_scale_spectral_loss',
  'pre_emphasis_taps',
  'si_sdr_loss',
  'stft_loss',
  'stft_magnitude',
  'time_domain_loss',
]
