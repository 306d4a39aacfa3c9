"""Derivatives of black boxes that can only be rendered.

A black box maps controls to signals. It is a callable `render(points, items)`:

  points: controls to render at, shape [n_renders, n_frames, n_controls], in
    the box [0, 1].
  items: which item of the batch each render belongs to, shape [n_renders].
    The other inputs of an item, such as its audio, are the callable's affair.
  returns: signals, shape [n_renders, n_samples, ...]; frame t of the controls
    acts from sample t * hop_size on, where hop_size is n_samples / n_frames
    rounded up.

For the gradient to its audio it is a callable `render(audio, items, backwards)`
(see `adjoint`).

The functions here return vector-Jacobian products: gradients of
sum(cotangent * render(controls)). Everything random comes in as (seed, step),
and each item draws its own numbers, so that any step can be repeated, on any
number of threads. NumPy only: nothing here knows of LV2, TensorFlow or gin.
"""

from dafx.gradients.adjoint import (
  gain_filter_adjoint,
  reversal_adjoint,
  straight_through,
)
from dafx.gradients.black_box import AudioRender, Render
from dafx.gradients.differences import central_differences
from dafx.gradients.directional import (
  Agreement,
  choose_adjoint,
  compare_with_slopes,
  draw_audio_directions,
  measure_slopes,
)
from dafx.gradients.response import response_memory
from dafx.gradients.spsa import (
  DIRECTIONS,
  decayed_epsilon,
  draw_directions,
  frame_credit,
  signal_to_noise_db,
  spsa,
  spsa_estimates,
)

__all__ = [
  'DIRECTIONS',
  'Agreement',
  'AudioRender',
  'Render',
  'central_differences',
  'choose_adjoint',
  'compare_with_slopes',
  'decayed_epsilon',
  'draw_audio_directions',
  'draw_directions',
  'frame_credit',
  'gain_filter_adjoint',
  'measure_slopes',
  'response_memory',
  'reversal_adjoint',
  'signal_to_noise_db',
  'spsa',
  'spsa_estimates',
  'straight_through',
]
