"""Tensor maths that `ddsp.core` lacks, as pure functions."""

from dafx.core.units import range_to_unit, unit_to_range, unit_to_range_slope

__all__ = ['range_to_unit', 'unit_to_range', 'unit_to_range_slope']
