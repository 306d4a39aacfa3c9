"""Controllers: nodes of a DAG that set the controls of processors.

A controller's output is {'controls': [batch, n_frames, n_controls]} in [0, 1].
It drives the processors that take 'name/controls', and learns their number of
controls and defaults from them when the group is connected
(`processors.connect_controllers`). All start at, or close to, the defaults.
"""

import math
from collections.abc import Sequence
from typing import Any

import gin
import numpy as np
import tensorflow as tf

from dafx import core, processors
from dafx.neural import base, conditioning

# Defaults at the end of a range are moved in, where the sigmoid still slopes.
_DEFAULT_MARGIN = 0.02


class Controller(processors.Node, processors.Rebuildable):
  """What controllers have in common.

  Subclasses give `_build_for(n_controls, defaults)`, which makes the weights,
  and `stream`. They call `_start` at the end of their constructor.

  Args:
    name: Name of the layer, which is the node's in a DAG.
  """

  def __init_subclass__(cls, **kwargs):
    """Names the inputs for Keras."""
    super().__init_subclass__(**kwargs)
    call = processors.name_inputs(Controller.call, cls.stream, 2)
    cls.call = call  # type: ignore[method-assign]

  def __init__(self, name: str):
    super().__init__(name=name, autocast=False)
    # Known when a node is driven, if not at once.
    self.n_controls: Any = None
    self.defaults: Any = None

  def _start(self, n_controls, defaults=None):
    """Makes the weights, unless the number of controls is to come."""
    if n_controls is None and defaults is not None:
      n_controls = len(defaults)
    if n_controls is None:
      return
    if n_controls < 1:
      raise ValueError(
        f'{self.name!r} has n_controls={n_controls}: there is nothing to '
        'control.'
      )
    self.n_controls = n_controls
    if defaults is None:
      defaults = np.full([n_controls], 0.5)
    if np.shape(defaults) != (n_controls,):
      raise ValueError(
        f'{self.name!r} has {n_controls} controls, but defaults={defaults!r}; '
        'it must have a number for each.'
      )
    defaults = np.clip(defaults, _DEFAULT_MARGIN, 1.0 - _DEFAULT_MARGIN)
    self.defaults = defaults.astype(np.float32)
    self._build_for(n_controls, self.defaults)

  def arguments(self):
    """Returns arguments that make one for what this one drives."""
    driven = {'n_controls': self.n_controls, 'defaults': self.defaults}
    return {**super().arguments(), **driven}

  def drive(self, node: processors.Node):
    """Makes the weights for the controls of a node.

    Args:
      node: With a `control_map`. A second one must have as many controls, and
        starts where the first one does.

    Raises:
      ValueError: A node without controls, or with another number of them than
        the first one.
    """
    taken = node.control_map
    if taken is None:
      raise ValueError(
        f'{node.name!r} has no controls that {self.name!r} sets.'
      )
    if self.n_controls is None:
      self._start(taken.n_controls, taken.defaults)
    elif self.n_controls != taken.n_controls:
      raise ValueError(
        f'{self.name!r} gives {self.n_controls} controls; {node.name!r} takes '
        f'{taken.n_controls}. Give each a controller of its own.'
      )

  def _check_is_built(self):
    if self.n_controls is None:
      raise ValueError(
        f'{self.name!r} does not know what it controls. Give n_controls, or '
        f"let a node of its group take '{self.name}/controls' and call "
        'processors.connect_controllers(group).'
      )

  def call(self, *inputs, training=None):
    """Returns {'controls': ...} for whole audio; arguments as for `stream`."""
    del training
    state = self.initial_state(core.batch_size(inputs[0]))
    return self.stream(state, *inputs)[0]

  def stream_outputs(self, state, *inputs):
    """Runs the next chunk; returns ({'controls': ...}, state)."""
    return self.stream(state, *inputs)


def _logit(unit):
  return np.log(unit / (1.0 - unit)).astype(np.float32)


@gin.register(module='dafx.effects')
class Const(Controller):
  """Trained controls that hold throughout: [batch, 1, n_controls].

  It takes the audio, for its batch size alone.

  Args:
    n_controls: Number of controls, where nothing in a DAG says it.
    defaults: In [0, 1], where these start; in the middle by default.
    start: 'defaults', or 'random': far from them, as published gray-box models
      start.
    seed: Seed of 'random'.
    name: Name of the layer.

  Raises:
    ValueError: An unknown start.
  """

  def __init__(
    self,
    n_controls: int | None = None,
    defaults: Sequence[float] | None = None,
    start: str = 'defaults',
    seed: int = 0,
    name: str = 'const',
  ):
    if start not in ('defaults', 'random'):
      raise ValueError(f"start={start!r} must be 'defaults' or 'random'.")
    super().__init__(name)
    self.start = start
    self.seed = seed
    self._start(n_controls, defaults)

  def _build_for(self, n_controls, defaults):
    logits = _logit(defaults)
    if self.start == 'random':
      logits = np.random.default_rng(self.seed).standard_normal(n_controls)
    self.logits = self.add_weight(
      'logits', [n_controls], initializer=tf.constant_initializer(logits)
    )

  def stream(self, state: Any, audio: tf.Tensor) -> tuple[Any, Any]:
    """Takes the next chunk; returns ({'controls': ...}, state)."""
    self._check_is_built()
    controls = tf.sigmoid(self.logits)[tf.newaxis, tf.newaxis]
    return {
      'controls': tf.tile(controls, [core.batch_size(audio), 1, 1])
    }, state


def _as_frames(knobs, n_knobs, name):
  """Returns knobs as [batch, n_frames, n_knobs], checked."""
  knobs = tf.cast(knobs, tf.float32)
  if knobs.shape.rank == 2:
    knobs = knobs[:, tf.newaxis]
  if knobs.shape.rank != 3 or knobs.shape[-1] != n_knobs:
    raise ValueError(
      f'knobs has shape {knobs.shape}; {name!r} takes [batch, {n_knobs}] or '
      f'[batch, n_frames, {n_knobs}]. Set its n_knobs if that is wrong.'
    )
  return knobs


@gin.register(module='dafx.effects')
class Fc(Controller):
  """Controls from knobs, by a small network of the knobs of a frame.

  Layers of `hidden_size` with tanh, and a last one with a sigmoid. It has as
  many parameters as NablAFx's, whose sigmoids behind every layer do not change
  their number.

  Args:
    n_knobs: Number of knobs.
    n_controls: Number of controls, where nothing in a DAG says it.
    defaults: In [0, 1], where these start; in the middle by default.
    n_layers: All layers.
    hidden_size: Width.
    seed: Seed of the weights.
    name: Name of the layer.

  Raises:
    ValueError: A size below 1.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import effects
    >>> knobs = tf.constant([[0.2, 0.8]])
    >>> effects.Fc(n_knobs=2, n_controls=3)(knobs)['controls'].shape
    TensorShape([1, 1, 3])
  """

  def __init__(
    self,
    n_knobs: int = 1,
    n_controls: int | None = None,
    defaults: Sequence[float] | None = None,
    n_layers: int = 3,
    hidden_size: int = 16,
    seed: int = 0,
    name: str = 'fc',
  ):
    for option, value in (
      ('n_knobs', n_knobs),
      ('n_layers', n_layers),
      ('hidden_size', hidden_size),
    ):
      if value < 1:
        raise ValueError(f'{option}={value} must be at least 1.')
    super().__init__(name)
    self.n_knobs = n_knobs
    self.n_layers = n_layers
    self.hidden_size = hidden_size
    self.seed = seed
    self._start(n_controls, defaults)

  def _build_for(self, n_controls, defaults):
    rng = np.random.default_rng(self.seed)
    hidden = [self.hidden_size] * (self.n_layers - 1)
    sizes = [self.n_knobs, *hidden, n_controls]
    self._dense = []
    for i, (n_in, n_out) in enumerate(zip(sizes, sizes[1:])):
      is_last = i == len(sizes) - 2
      # A small last layer starts close to the defaults, and lets the others
      # learn from the first step on.
      limit = np.sqrt(6.0 / (n_in + n_out)) * (0.01 if is_last else 1.0)
      kernel = rng.uniform(-limit, limit, [n_in, n_out])
      bias = _logit(defaults) if is_last else np.zeros([n_out])
      self._dense.append(
        tuple(
          self.add_weight(
            f'{part}_{i}',
            start.shape,
            initializer=tf.constant_initializer(start),
          )
          for part, start in (('kernel', kernel), ('bias', bias))
        )
      )

  def stream(self, state: Any, knobs: tf.Tensor | None) -> tuple[Any, Any]:
    """Takes the knobs of the next chunk; returns ({'controls': ...}, state)."""
    self._check_is_built()
    values = _as_frames(knobs, self.n_knobs, self.name)
    for i, (kernel, bias) in enumerate(self._dense):
      values = values @ kernel + bias
      is_last = i == len(self._dense) - 1
      values = tf.sigmoid(values) if is_last else tf.tanh(values)
    return {'controls': values}, state


@gin.register(module='dafx.effects')
class Envelope(Controller):
  """Controls that follow the audio, and knobs, frame by frame.

  An LSTM hears the largest |sample| of the 128 before the frame, and the knobs
  at its start. With h in (-1, 1) its output, a control has the odds of its
  default times (1 + h) / (1 - h): h = 0 gives the default, and all of (0, 1)
  can be reached. NablAFx takes the sigmoid of h, which reaches 0.27 to 0.73
  with as many parameters: 4 n (n_in + n + 2), the LSTM having two biases as
  PyTorch's.

  Controls of a frame depend on the audio before it only, so that streaming adds
  no latency; the reaction comes a frame later. For audio of less than 128 ** 2
  samples that is not of whole frames, frames are cut into equal parts that fit
  it, down to single samples: whole frames are faster.

  Args:
    n_knobs: Number of knobs.
    n_controls: Number of controls, where nothing in a DAG says it.
    defaults: In [0, 1], where these start; in the middle by default.
    hidden_size: Size of the LSTM, with a linear layer behind it to the log of
      the odds; by default the number of controls, without such a layer.
    seed: Seed of the weights.
    name: Name of the layer.

  Raises:
    ValueError: A size that is too small.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import effects
    >>> envelope = effects.Envelope(n_controls=1)
    >>> envelope(tf.zeros([1, 1000]))['controls'].shape[-1]
    1
  """

  frame_size = conditioning.FRAME_SIZE
  receptive_field = None

  def __init__(
    self,
    n_knobs: int = 0,
    n_controls: int | None = None,
    defaults: Sequence[float] | None = None,
    hidden_size: int | None = None,
    seed: int = 0,
    name: str = 'envelope',
  ):
    for option, value, least in (
      ('n_knobs', n_knobs, 0),
      ('hidden_size', hidden_size, 1),
    ):
      if value is not None and value < least:
        raise ValueError(f'{option}={value} must be at least {least}.')
    super().__init__(name)
    self.n_knobs = n_knobs
    self.hidden_size = hidden_size
    self.seed = seed
    self._start(n_controls, defaults)

  def _build_for(self, n_controls, defaults):
    size = self.hidden_size or n_controls
    self.pooled = conditioning.PooledRecurrent(
      1, self.n_knobs, size, base.seeds_of(self.seed), name='pooled'
    )
    # Small weights start close to the defaults; the forget gate starts open.
    for variable in self.pooled.trainable_variables:
      variable.assign(0.1 * variable)
    forget = np.repeat([0.0, 1.0, 0.0, 0.0], size)
    self.pooled.cell.bias.assign_add(forget.astype(np.float32))
    self.out = None
    if self.hidden_size:
      start = np.random.default_rng(self.seed).uniform(
        -0.1, 0.1, [size, n_controls]
      )
      self.out = (
        self.add_weight(
          'out_kernel', start.shape, initializer=tf.constant_initializer(start)
        ),
        self.add_weight('out_bias', [n_controls], initializer='zeros'),
      )

  def initial_state(self, batch_size: int) -> Any:
    """Returns the state before the first sample: after silence."""
    self._check_is_built()
    return self.pooled.initial_state(batch_size, tf.zeros([1, 1]))

  def stream(
    self, state: Any, audio: tf.Tensor, knobs: tf.Tensor | None = None
  ) -> tuple[Any, Any]:
    """Takes the next chunk.

    Args:
      state: From `initial_state`, or the chunk before.
      audio: Shape [batch, n_samples].
      knobs: In [0, 1], shape [batch, n_knobs] or [batch, n_frames, n_knobs]; if
        there are any.

    Returns:
      ({'controls': [batch, n_frames, n_controls]}, state).

    Raises:
      ValueError: Shapes that do not fit.
    """
    self._check_is_built()
    if audio.shape.rank != 2:
      raise ValueError(
        f'audio has shape {audio.shape}; {self.name!r} takes [batch, '
        'n_samples]. Fold channels into the batch.'
      )
    if (knobs is None) != (self.n_knobs == 0):
      raise ValueError(
        f'{self.name!r} has n_knobs={self.n_knobs}, but its node takes '
        f'{"audio alone" if knobs is None else "knobs as well"}.'
      )
    if knobs is not None:
      knobs = _as_frames(knobs, self.n_knobs, self.name)
    level = tf.abs(tf.cast(audio, tf.float32))[..., tf.newaxis]
    hidden, state = self.pooled(state, level, knobs)
    controls = self._fit_frames(self._to_unit(hidden), audio.shape[1])
    return {'controls': controls}, state

  def _to_unit(self, hidden):
    """Maps the LSTM's output to controls in (0, 1)."""
    if self.out:
      kernel, bias = self.out
      return tf.sigmoid(hidden @ kernel + bias + _logit(self.defaults))
    up = self.defaults * (1.0 + hidden)
    down = (1.0 - self.defaults) * (1.0 - hidden)
    return up / (up + down)

  def _fit_frames(self, controls, n_samples):
    """Cuts frames where n_samples / n_frames would not give their size."""
    n_frames, size = controls.shape[1], self.frame_size
    if n_frames == 1 or -(-n_samples // n_frames) == size:
      return controls
    part = math.gcd(n_samples, size)
    controls = tf.repeat(controls, size // part, axis=1)
    return controls[:, : n_samples // part]
