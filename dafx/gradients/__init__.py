"""Derivatives of black boxes that can only be rendered.

A black box maps controls to signals. It is a callable `render(points, items)`:

  points: controls to render at, shape [n_renders, n_frames, n_controls], in
    the box [0, 1].
  items: which item of the batch each render belongs to, shape [n_renders].
    The other inputs of an item, such as its audio, are the callable's affair.
  returns: signals, shape [n_renders, n_samples, ...]; frame t of the controls
    acts from sample t * hop_size on, where hop_size is n_samples / n_frames
    rounded up.

A `ControlEstimator` gives gradients to the controls, an `AudioAdjoint` those to
the audio, where the box is a callable `render(audio, items, backwards)` (see
`adjoint`). Both are dataclasses of options:

>>> import numpy as np
>>> from dafx import gradients
>>> def render(points, items):
...   return np.repeat(3.0 * points[..., 0], 100, axis=1)
>>> controls, cotangent = np.full((1, 1, 1), 0.5), np.ones((1, 100))
>>> estimator = gradients.Spsa(memory=0)
>>> estimator.estimates(render, controls, cotangent).mean(0).round(6)
array([[[300.]]])

All of them return vector-Jacobian products: gradients of sum(cotangent *
render(controls)). Everything random comes in as (seed, step), and each item
draws its own numbers, so that any step can be repeated, on any number of
threads. NumPy only: nothing here knows of LV2, TensorFlow or gin.
"""

from dafx.gradients.adjoint import (
  GainFilter,
  NoAudioGradient,
  Reversal,
  StraightThrough,
)
from dafx.gradients.black_box import (
  AdjointState,
  AudioAdjoint,
  AudioRender,
  ControlEstimator,
  MeasureMemory,
  Render,
)
from dafx.gradients.differences import CentralDifferences
from dafx.gradients.directional import (
  Agreement,
  BestAdjoint,
  choose_adjoint,
  compare_with_slopes,
  draw_audio_directions,
  measure_slopes,
)
from dafx.gradients.figures import estimate_figures, signal_to_noise_db
from dafx.gradients.response import response_memory
from dafx.gradients.spsa import (
  DIRECTIONS,
  Spsa,
  draw_directions,
  frame_credit,
  frames_of_probes,
)

__all__ = [
  'DIRECTIONS',
  'AdjointState',
  'Agreement',
  'AudioAdjoint',
  'AudioRender',
  'BestAdjoint',
  'CentralDifferences',
  'ControlEstimator',
  'GainFilter',
  'MeasureMemory',
  'NoAudioGradient',
  'Render',
  'Reversal',
  'Spsa',
  'StraightThrough',
  'choose_adjoint',
  'compare_with_slopes',
  'draw_audio_directions',
  'draw_directions',
  'estimate_figures',
  'frame_credit',
  'frames_of_probes',
  'measure_slopes',
  'response_memory',
  'signal_to_noise_db',
]
