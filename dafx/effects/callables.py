"""`BlackBox` makes a processor with gradients of any function."""

from collections.abc import Callable

import gin
import numpy as np
import tensorflow as tf

from dafx import core, gradients
from dafx.effects import black_box


@gin.register(module='dafx.effects')
class BlackBox(black_box.BlackBoxProcessor):
  """Any function that renders NumPy audio, as a processor with gradients.

  A model that holds one can be saved as a whole if Keras can save the function.

  >>> import numpy as np
  >>> from dafx import core, effects
  >>> def gain(audio, controls):
  ...   return audio * controls
  >>> controls = core.make_control_map({'gain': (0, 4)})
  >>> knob = effects.BlackBox(gain, controls, is_static=True)
  >>> audio = np.ones((1, 3), np.float32)
  >>> knob(audio, np.array([[0.25]])).numpy()
  array([[1., 1., 1.]], dtype=float32)

  Args:
    render: From audio [batch, n_samples, n_channels] and controls [batch,
      n_frames, n_controls] in port units, both float32, to audio of the same
      shape, without latency. Frame t of the controls holds from sample t * hop
      on, hop being n_samples / n_frames rounded up. Asked twice for the same,
      it returns the same.
    control_map: What the controls are, in port units (`make_control_map`).
    control_gradient: Estimator of the gradient to the controls; `Spsa()` by
      default.
    audio_gradient: Estimator of the gradient to the audio; `BestAdjoint()` by
      default.
    sample_rate: Rate of the audio in Hz, where the function works at one rate
      only.
    is_static: Whether the function takes one setting for each item: it is then
      given one frame, and more are refused. Otherwise a setting too is moved
      frame by frame where that is a better estimate.
    name: Name of the layer, which is the node's in a graph.

  Raises:
    ValueError: What `render` returns has another shape than the audio, or it
      hears the first frame alone, without `is_static`.
  """

  def __init__(
    self,
    render: Callable[[np.ndarray, np.ndarray], np.ndarray],
    control_map: core.ControlMap,
    control_gradient: gradients.ControlEstimator | None = None,
    audio_gradient: gradients.AudioAdjoint | None = None,
    sample_rate: float | None = None,
    is_static: bool = False,
    name: str = 'black_box',
  ):
    super().__init__(name=name)
    self._function = render
    self.control_map = control_map
    self.sample_rate = sample_rate
    self.is_static = is_static
    self._set_gradients(control_gradient, audio_gradient)

  def n_channels_out(self, n_channels: int) -> int:
    """Returns the number of channels that come out: as many as go in."""
    return n_channels

  def get_controls(
    self, audio: tf.Tensor, controls: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Maps network outputs to port units; see `BlackBoxProcessor`.

    Raises:
      ValueError: Another number of controls, or more frames than one where
        `is_static`.
    """
    found = super().get_controls(audio, controls)
    n_frames = found['controls'].shape[1]
    if self.is_static and n_frames not in (1, None):
      raise ValueError(
        f'controls of {self.name!r} have {n_frames} frames; it takes one '
        'setting for each item (is_static). Give one frame, such as of an '
        'encoder with is_static=True.'
      )
    return found

  def render(
    self,
    audio: np.ndarray,
    controls: np.ndarray,
    hop_size: int | None = None,
    rows: np.ndarray | None = None,
  ) -> np.ndarray:
    """Calls the function; see `BlackBoxProcessor.render`."""
    if rows is not None:
      audio = audio[rows]
    n_items, n_samples, n_channels = audio.shape
    self.n_renders += n_items
    n_missing = 0
    if hop_size is not None:
      # As many samples as the frames last, which gives them this hop.
      n_missing = max(controls.shape[1] * hop_size - n_samples, 0)
    padded = np.pad(audio, ((0, 0), (0, n_missing), (0, 0)))
    signal = self._function(
      padded.astype(np.float32), controls.astype(np.float32)
    )
    signal = np.asarray(signal, np.float32)
    if signal.shape != padded.shape:
      raise ValueError(
        f'{self.name!r} made audio of shape {signal.shape} of '
        f'{padded.shape}; it must be the same.'
      )
    return signal[:, :n_samples]

  def measure_memory(
    self, n_samples: int, n_frames: int, n_channels: int = 1
  ) -> int:
    """Measures the memory; all frames where a setting holds for the item."""
    if self.is_static:
      return n_frames
    return super().measure_memory(n_samples, n_frames, n_channels)

  def _response_memory(self, audio, n_frames, hop_size):
    """Measures the memory, of a function that hears its frames."""
    n_controls = self.control_map.n_controls
    points = np.full([3, n_frames, n_controls], 0.25)
    points[1, 1:] = 0.75
    points[2] = 0.75
    first, later, other = self.render(
      np.repeat(audio[:1], 3, axis=0), self.control_map.to_port_units(points)
    )
    if np.array_equal(first, later) and not np.array_equal(first, other):
      raise ValueError(
        f'The function of {self.name!r} hears the first frame of its controls '
        'alone. Give is_static=True for one that takes one setting for each '
        'item; otherwise have frame t hold from sample t * hop on.'
      )
    return super()._response_memory(audio, n_frames, hop_size)
