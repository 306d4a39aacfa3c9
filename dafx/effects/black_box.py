"""Black boxes as processors: the one place where NumPy and TensorFlow meet."""

import abc
import functools
import logging
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from dafx import core, gradients, processors
from dafx.effects import estimation, render_ops, strategies

_log = logging.getLogger('dafx.effects')

# The response to a change of the controls is looked for in this time.
_RESPONSE_S = 0.25
# Where a box does not say its rate, times in seconds are taken at this one.
_USUAL_RATE = 44100


class BlackBoxProcessor(processors.Processor, abc.ABC):
  """What NumPy renders, as a differentiable processor.

  Audio is [batch, n_samples] or [batch, n_samples, n_channels]. Controls are
  [batch, n_frames, n_controls]: frame t holds from sample t * hop on, hop being
  n_samples / n_frames rounded up. One frame is a static setting.

  Both gradients are estimates by renders (`dafx.gradients`), and are worked out
  only if they are asked for. What is drawn for them depends on the run's seed,
  the name of the processor, the step, and the item's place in the batch.

  Subclasses set `control_map`, and then the strategies by `_set_gradients`.

  Attributes:
    bears_threads: Whether several threads may call `render` at a time.
    n_renders: Items rendered so far, forward and for gradients.
    gradient_step: Variable that counts the steps of training, so that each
      draws directions of its own. In a checkpoint with the model, it has a
      resumed run draw what it would have.
    input_choice: Variable of what the audio gradient has chosen, -1 for nothing
      yet, and how often it was asked for. None without such a gradient.
    input_factor: Variable of the factor of what it has chosen.
  """

  control_map: core.ControlMap
  receptive_field = None
  is_black_box = takes_channels = True
  bears_threads = False
  n_renders = 0

  def __new__(cls, *args, **kwargs):
    """Says where arguments of older versions have gone.

    Raises:
      TypeError: An argument that has moved.
    """
    strategies.refuse_moved(cls, kwargs)
    return super().__new__(cls, *args, **kwargs)

  def __init__(self, name: str):
    super().__init__(name=name)
    self.gradient_step = self._add_counter('gradient_step', 0)
    # Keras tracks variables only under names that no class has.
    self.input_choice: Any = None
    self.input_factor: Any = None
    self._memories: dict = {}  # measured, by hop size, frames and channels
    self._figures: Callable | None = None  # returns those of the last estimate

  def _add_counter(self, key, value, dtype=tf.int64):
    """Returns a variable that is saved but not trained."""
    return tf.Variable(
      value, trainable=False, dtype=dtype, name=f'{self.name}/{key}'
    )

  def _set_gradients(self, control_gradient, audio_gradient):
    """Sets the strategies; None for those that gin chooses."""
    if control_gradient is None:
      control_gradient = strategies.default_control_gradient()
    if audio_gradient is None:
      audio_gradient = strategies.default_audio_gradient()
    self.control_gradient = control_gradient
    self.audio_gradient = audio_gradient

  def arguments(self) -> dict[str, Any]:
    """Returns arguments of the constructor that make a processor like it."""
    return {
      **super().arguments(),
      'control_gradient': self.control_gradient,
      'audio_gradient': self.audio_gradient,
    }

  def _trackable_children(self, save_type='checkpoint', **kwargs):
    """Refuses to be written into a SavedModel; as Keras's otherwise."""
    if save_type == 'savedmodel':
      core.refuse_saved_model(repr(self.name))
    return super()._trackable_children(save_type, **kwargs)

  @property
  def control_gradient(self) -> gradients.ControlEstimator:
    """Estimator of the gradient to the controls; can be set."""
    return self._control_gradient

  @control_gradient.setter
  def control_gradient(self, estimator: gradients.ControlEstimator):
    strategies.check_type(estimator, gradients.ControlEstimator)
    estimator.epsilons_at(self.symbols)  # raises for unknown ones
    self._control_gradient = estimator

  @property
  def audio_gradient(self) -> gradients.AudioAdjoint:
    """Estimator of the gradient to the audio; can be set."""
    return self._audio_gradient

  @audio_gradient.setter
  def audio_gradient(self, adjoint: gradients.AudioAdjoint):
    strategies.check_type(adjoint, gradients.AudioAdjoint)
    self._audio_gradient = adjoint
    if self.input_choice is None:
      self.input_choice = self._add_counter('input_choice', [-1, 0])
      self.input_factor = self._add_counter('input_factor', 1.0, tf.float32)

  @property
  def symbols(self) -> tuple[str, ...]:
    """Names of the controls that come from outside, in order."""
    return self.control_map.symbols

  @property
  def n_controls(self) -> int:
    """Number of values, in [0, 1], that come from outside."""
    return self.control_map.n_controls

  @property
  def estimated_map(self) -> core.ControlMap:
    """The controls that have an estimated gradient: the first ones, or all."""
    return self.control_map

  @property
  def seed(self) -> int:
    """The run's seed with the name mixed in, so that nodes differ."""
    return self.run_seed + zlib.crc32(self.name.encode())

  @abc.abstractmethod
  def render(
    self,
    audio: np.ndarray,
    controls: np.ndarray,
    hop_size: int | None = None,
    rows: np.ndarray | None = None,
  ) -> np.ndarray:
    """Renders NumPy audio; `get_signal` without gradients.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      hop_size: Samples per frame; n_samples / n_frames rounded up by default.
      rows: Which row of `audio` each item takes, [batch]; its own by default.

    Returns:
      Audio of shape [batch, n_samples, n_channels out], float32.
    """

  @abc.abstractmethod
  def n_channels_out(self, n_channels: int) -> int:
    """Returns the number of channels that come out.

    Args:
      n_channels: Number of channels that go in.

    Raises:
      ValueError: The processor does not take so many.
    """

  def get_controls(
    self, audio: tf.Tensor, controls: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Maps network outputs to port units.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: In [0, 1], shape [batch, n_frames, n_controls], or [batch,
        n_controls] for one setting per item. What lies outside is clipped. None
        for a processor that nothing sets.

    Returns:
      {'audio': as it came, 'controls': port units, [batch, n_frames,
      n_controls]}.

    Raises:
      ValueError: Another number of controls.
    """
    names = ', '.join(self.symbols)
    normalised = render_ops.read_controls(self, audio, controls, f'for {names}')
    return dict(
      audio=audio, controls=self.control_map.to_port_units(normalised)
    )

  def get_signal(self, audio: tf.Tensor, controls: tf.Tensor) -> tf.Tensor:
    """Renders audio.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].

    Returns:
      Audio of shape [batch, n_samples] for mono, else [batch, n_samples,
      n_channels].

    Raises:
      ValueError: A number of channels that the processor does not take.
    """
    return self._signal(audio, [controls])

  def _signal(self, audio, tensors, n_out=None, **options):
    """Renders under `tensors`, by another `render` if `options` has it."""
    audio, is_mono = render_ops.with_channels(audio)
    n_in = audio.shape[-1]
    n_out = self.n_channels_out(n_in) if n_out is None else n_out
    first_key = core.first_item_key(audio, self.workers)
    render = options.get('render', self.render)

    def ahead(audio, controls, *rest):
      return self.render_probes(audio, controls, *rest[-2:], **options)

    def to_audio(audio, controls, n_calls, first_key, cotangent):
      rest = cotangent, n_calls, first_key
      return self.gradient_to_audio(audio, controls, *rest, **options)

    # Two terms: each gradient is worked out only if it is asked for.
    signal = render_ops.render_with_gradient(
      lambda audio, controls, *rest: render(audio, controls),
      functools.partial(self.gradients_to_tensors, **options),
      audio,
      tensors,
      n_out,
      self.gradient_step,
      first_key,
      ahead if self.bears_threads else None,
    )
    # Read here, so that asked twice it is the same.
    n_calls = 0 if self.input_choice is None else self.input_choice[1]
    carrier = render_ops.carry_audio_gradient(
      to_audio,
      audio,
      [tensors[0], tf.identity(n_calls), first_key],
      n_out,
      lambda: self.check_audio_gradient(n_in, n_out),
    )
    return render_ops.joined(signal, carrier, is_mono and n_out == 1)

  def check_audio_gradient(self, n_in: int, n_out: int):
    """Raises ValueError where there is no gradient to audio of such channels.

    Args:
      n_in: Channels that go in.
      n_out: Channels that come out.
    """
    strategies.check_channels(self.audio_gradient, n_in, n_out, self.name)

  def gradients_to_tensors(
    self,
    audio: tf.Tensor,
    controls: tf.Tensor,
    cotangent: tf.Tensor,
    step: tf.Tensor,
    first_key: int,
    signal: tf.Tensor,
    probes: np.ndarray | None = None,
    render: Callable | None = None,
  ) -> list[np.ndarray]:
    """Estimates the gradients to all tensors but the audio.

    Arguments are those of `gradient_to_controls`.

    Returns:
      [gradient to the controls], float32.
    """
    tensors = audio, controls, cotangent, step, signal, first_key
    return [self.gradient_to_controls(*tensors, render, probes)]

  def render_probes(
    self,
    audio: np.ndarray,
    controls: np.ndarray,
    step: int,
    first_key: int = 0,
    render: Callable | None = None,
  ) -> np.ndarray:
    """Renders what `gradient_to_controls` begins with; see `Estimation`."""
    arguments = audio, controls, step, first_key, render
    return self._estimation(*arguments).render_probes()

  def gradient_to_controls(
    self,
    audio: np.ndarray,
    controls: np.ndarray,
    cotangent: np.ndarray,
    step: int,
    signal: np.ndarray | None = None,
    first_key: int = 0,
    render: Callable | None = None,
    probes: np.ndarray | None = None,
  ) -> np.ndarray:
    """Estimates the gradient to the controls, by `control_gradient`.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      cotangent: Gradient to the output, [batch, n_samples, n_channels out].
      step: Training step, for the directions.
      signal: The output, where it is known.
      first_key: Key of the first item, from which on they are counted: 0, or
        where the batch of a replica begins in the whole one.
      render: What renders, if not `self.render`.
      probes: What `render_probes` has rendered.

    Returns:
      Gradient in port units, shape [batch, n_frames, n_controls], float32; zero
      beyond `estimated_map`.
    """
    estimator = self._estimation(audio, controls, step, first_key, render)
    gradient, self._figures = estimator.gradient(cotangent, signal, probes)
    return gradient

  def _estimation(self, audio, controls, step, first_key, render):
    return estimation.Estimation(
      self.control_gradient.of_controls(self.estimated_map.symbols),
      self.estimated_map,
      render or self.render,
      audio,
      controls,
      lambda n, n_frames: self.measure_memory(n, n_frames, audio.shape[-1]),
      self.seed,
      int(step),
      _item_keys(first_key, audio),
    )

  def gradient_to_audio(
    self,
    audio: np.ndarray,
    controls: np.ndarray,
    cotangent: np.ndarray,
    n_calls: int | None = None,
    first_key: int = 0,
    render: Callable | None = None,
  ) -> np.ndarray:
    """Estimates the gradient to the audio, by `audio_gradient`.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      cotangent: Gradient to the output, [batch, n_samples, n_channels out].
      n_calls: How often it was asked for before; counted by default.
      first_key: As for `gradient_to_controls`.
      render: As for `gradient_to_controls`.

    Returns:
      Gradient of the shape of the audio, float32.

    Raises:
      ValueError: Numbers of channels that `audio_gradient` does not take.
    """
    n_samples, n_frames = audio.shape[1], controls.shape[1]
    choice, counted = (int(value) for value in self.input_choice.numpy())
    n_calls = counted if n_calls is None else int(n_calls)
    render_box = render or self.render
    # Whole frames, so that they have the same borders backwards.
    n_missing = -(-n_samples // n_frames) * n_frames - n_samples
    padding = ((0, 0), (0, n_missing), (0, 0))

    def render_signals(signals, items, backwards):
      values = controls[items]
      values = values[:, ::-1] if backwards else values
      signals = signals.astype(np.float32)
      return render_ops.render_items(render_box, signals, values, items)

    gradient, state = self.audio_gradient.pull_back(
      render_signals,
      np.pad(audio, padding),
      np.pad(cotangent, padding),
      sample_rate=self.sample_rate or _USUAL_RATE,
      state=gradients.AdjointState(choice, float(self.input_factor.numpy())),
      seed=self.seed,
      step=n_calls,
      item_keys=_item_keys(first_key, audio),
      gather=self.workers.gather_of(f'{self.name}/{n_calls}'),
    )
    if state.report:
      _log.log(
        logging.INFO if state.is_sure else logging.WARNING,
        'The gradient to the audio of %s is %s.', self.name, state.report,
      )  # fmt: skip
    self.input_factor.assign(state.factor)
    self.input_choice.assign([state.choice, n_calls + 1])
    return gradient[:, :n_samples].astype(np.float32)

  def measure_memory(
    self, n_samples: int, n_frames: int, n_channels: int = 1
  ) -> int:
    """Measures for how many frames the box responds, once for each hop.

    Args:
      n_samples: Samples of an item.
      n_frames: Its frames of controls.
      n_channels: Channels of the audio.

    Returns:
      Frames after its own in which a change of a frame's controls is heard.
    """
    hop_size = -(-n_samples // n_frames)
    n_heard = round(_RESPONSE_S * (self.sample_rate or _USUAL_RATE) / hop_size)
    n_frames = min(n_frames, max(12, n_heard))
    if n_frames == 1 or not self.estimated_map.n_controls:
      return 0
    key = (hop_size, n_frames, n_channels)
    if key not in self._memories:
      # Audio of its own, so that a resumed run measures the same.
      shape = (2, n_frames * hop_size, n_channels)
      audio = 0.1 * np.random.default_rng(0).standard_normal(shape)
      self._memories[key] = self._response_memory(audio, n_frames, hop_size)
      _log.info(
        '%s responds to its controls for %d frames of %d samples beyond their '
        'own.', self.name, self._memories[key], hop_size,
      )  # fmt: skip
    return self._memories[key]

  def _response_memory(self, audio, n_frames, hop_size):
    def render(points, items):
      values = self.estimated_map.to_port_units(points).astype(np.float32)
      return render_ops.render_items(self.render, audio, values, None, items)

    size = self.estimated_map.n_controls, hop_size
    return gradients.response_memory(render, len(audio), n_frames, *size)

  def gradient_figures(self) -> Mapping[str, float]:
    """Returns the renders so far and `gradients.estimate_figures`, by name.

    For TensorBoard; empty before the first estimate.
    """
    if self._figures is None:
      return {}
    return {'n_renders': float(self.n_renders), **self._figures()}


def _item_keys(first_key, audio):
  return range(int(first_key), int(first_key) + len(audio))
