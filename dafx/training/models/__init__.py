"""What is trained and used: models that set plugins, models of effects.

All that gin knows of models and encoders is registered on import.
"""

from dafx.training.models.base import Model
from dafx.training.models.control import ControlModel
from dafx.training.models.ddsp_decoder import DdspDecoder
from dafx.training.models.ddsp_model import DdspModel
from dafx.training.models.decoders import (
  F0LoudnessDecoder,
  scaled_f0,
  scaled_loudness,
)
from dafx.training.models.effect import EffectModel
from dafx.training.models.encoders import (
  Constant,
  Encoder,
  LogMelEncoder,
  n_frames_for,
)
from dafx.training.models.instrument import InstrumentModel
from dafx.training.models.making import check_bindings, make_model
from dafx.training.models.profile_encoder import ProfileEncoder
from dafx.training.models.spectrogram_encoders import (
  InceptionEncoder,
  MobileNetV2Encoder,
)
from dafx.training.models.tonal_balance import TonalBalance

__all__ = [
  'Constant',
  'ControlModel',
  'DdspDecoder',
  'DdspModel',
  'EffectModel',
  'Encoder',
  'F0LoudnessDecoder',
  'InceptionEncoder',
  'InstrumentModel',
  'LogMelEncoder',
  'MobileNetV2Encoder',
  'Model',
  'ProfileEncoder',
  'TonalBalance',
  'check_bindings',
  'make_model',
  'n_frames_for',
  'scaled_f0',
  'scaled_loudness',
]
