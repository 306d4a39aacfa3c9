"""Tensor maths that `ddsp.core` lacks, as pure functions."""

from dafx.core.control_map import (
  ChoiceMap,
  ControlMap,
  concatenate_maps,
  make_control_map,
  parse_range,
)
from dafx.core.dynamics import (
  amplitude_to_db,
  ballistics,
  reduction_db,
  smoothing_coefficient,
  soft_excess,
)
from dafx.core.filters import (
  FILTER_TYPES,
  FILTERS_WITH_GAIN,
  batch_size,
  design_biquads,
  frame_hop,
  sosfilt,
)
from dafx.core.given import audio_tensor, number_tensor
from dafx.core.portable import is_compiled, portable
from dafx.core.python_calls import (
  call_python,
  differentiable_once,
  raising_faults,
  refuse_saved_model,
)
from dafx.core.recorded import Recorded, describe
from dafx.core.replicas import call_once
from dafx.core.units import range_to_unit, unit_to_range, unit_to_range_slope
from dafx.core.waveshaping import (
  TANH_DENOMINATOR,
  TANH_NUMERATOR,
  mlp,
  oversampled,
  oversampling_history,
  oversampling_latency,
  polynomial,
  rational,
)
from dafx.core.workers import Workers, first_item_key, uniform_by_item

__all__ = [
  'ChoiceMap',
  'ControlMap',
  'FILTERS_WITH_GAIN',
  'FILTER_TYPES',
  'Recorded',
  'TANH_DENOMINATOR',
  'TANH_NUMERATOR',
  'Workers',
  'amplitude_to_db',
  'audio_tensor',
  'ballistics',
  'batch_size',
  'call_once',
  'call_python',
  'concatenate_maps',
  'describe',
  'design_biquads',
  'differentiable_once',
  'first_item_key',
  'frame_hop',
  'is_compiled',
  'make_control_map',
  'mlp',
  'number_tensor',
  'oversampled',
  'oversampling_history',
  'oversampling_latency',
  'parse_range',
  'polynomial',
  'portable',
  'raising_faults',
  'range_to_unit',
  'rational',
  'reduction_db',
  'refuse_saved_model',
  'smoothing_coefficient',
  'soft_excess',
  'sosfilt',
  'uniform_by_item',
  'unit_to_range',
  'unit_to_range_slope',
]
