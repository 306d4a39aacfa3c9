"""Tensor maths that `ddsp.core` lacks, as pure functions."""

from dafx.core.dynamics import (
  amplitude_to_db,
  ballistics,
  db_to_amplitude,
  reduction_db,
  smoothing_coefficient,
  soft_excess,
)
from dafx.core.filters import (
  FILTER_TYPES,
  FILTERS_WITH_GAIN,
  design_biquads,
  frame_hop,
  sosfilt,
)
from dafx.core.units import range_to_unit, unit_to_range, unit_to_range_slope

__all__ = [
  'FILTERS_WITH_GAIN',
  'FILTER_TYPES',
  'amplitude_to_db',
  'ballistics',
  'db_to_amplitude',
  'design_biquads',
  'frame_hop',
  'range_to_unit',
  'reduction_db',
  'smoothing_coefficient',
  'soft_excess',
  'sosfilt',
  'unit_to_range',
  'unit_to_range_slope',
]
