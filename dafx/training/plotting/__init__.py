"""Figures of audio, controls and training. NumPy in, matplotlib Figure out.

Nothing here touches pyplot or its global state, so the functions work in a
train loop, in a thread and without a display. Save a figure with
`figure_to_png`, log it as an image summary with `figure_to_array`.

One colour set runs through all figures: before grey, target blue, after
orange, see `COLORS`.
"""

from dafx.training.plotting.controls import (
  control_trajectories,
  gain_heatmap,
  plugin_figures,
)
from dafx.training.plotting.curves import (
  lines,
  training_curves,
)
from dafx.training.plotting.images import (
  figure_to_array,
  figure_to_png,
  stack_figures,
)
from dafx.training.plotting.sound import (
  as_channels,
  draw_band_powers,
  spectrograms,
  waveforms,
)
from dafx.training.plotting.style import (
  COLORS,
  color_of,
)

__all__ = [
  'COLORS',
  'as_channels',
  'color_of',
  'control_trajectories',
  'draw_band_powers',
  'figure_to_array',
  'figure_to_png',
  'gain_heatmap',
  'lines',
  'plugin_figures',
  'spectrograms',
  'stack_figures',
  'training_curves',
  'waveforms',
]
