"""`BlackBox` makes a processor with gradients of any function."""

from collections.abc import Callable

import gin
import numpy as np

from dafx import core, gradients
from dafx.effects import black_box


@gin.register(module='dafx.effects')
class BlackBox(black_box.BlackBoxProcessor):
  """Any function that renders NumPy audio, as a processor with gradients.

  A model that holds one can be saved as a whole if Keras can save the function.

  >>> import numpy as np
  >>> from dafx import core, effects
  >>> def gain(audio, controls):
  ...   return audio * controls[:, :1]  # one setting per item
  >>> knob = effects.BlackBox(gain, core.make_control_map({'gain': (0, 4)}))
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
    name: Name of the layer, which is the node's in a graph.

  Raises:
    ValueError: What `render` returns has another shape than the audio.
  """

  def __init__(
    self,
    render: Callable[[np.ndarray, np.ndarray], np.ndarray],
    control_map: core.ControlMap,
    control_gradient: gradients.ControlEstimator | None = None,
    audio_gradient: gradients.AudioAdjoint | None = None,
    sample_rate: float | None = None,
    name: str = 'black_box',
  ):
    super().__init__(name=name)
    self._function = render
    self.control_map = control_map
    self.sample_rate = sample_rate
    self._set_gradients(control_gradient, audio_gradient)

  def n_channels_out(self, n_channels: int) -> int:
    """Returns the number of channels that come out: as many as go in."""
    return n_channels

  def render(
    self, audio: np.ndarray, controls: np.ndarray, hop_size: int | None = None
  ) -> np.ndarray:
    """Calls the function; see `BlackBoxProcessor.render`."""
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
