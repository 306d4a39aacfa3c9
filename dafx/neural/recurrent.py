"""`Rnn`: recurrent networks from sample to sample."""

from typing import Any

import gin
import tensorflow as tf

from dafx.neural import base, cells
from dafx.neural import conditioning as film

_CONDITIONINGS = (None, 'fixed', 'tvcond')
_N_CONDITIONS = 16
_STARTS = ('silence', 'zeros', 'trained')


@gin.register(module='dafx.neural')
class Rnn(base.SettlingNetwork):
  """LSTMs or GRUs and a linear map to one channel.

  Wright et al., 'Real-time guitar amplifier emulation with deep learning',
  2020. With conditioning 'fixed', the knobs are inputs beside the audio; with
  'tvcond', it is the output of an LSTM that runs over the largest |audio| in
  each 128 samples, and the knobs (Comunità et al., 'NablAFx', 2025). What that
  gives for a frame comes from the frames before it.

  For long sequences, train on some thousand samples at a time, with the state
  kept: `stream`.

  Args:
    cell: 'lstm' or 'gru'.
    n_units: Size of the state.
    n_layers: Number of recurrent layers.
    conditioning: None, 'fixed' or 'tvcond'.
    n_knobs: Number of knobs; 'fixed' needs some, 'tvcond' takes them.
    residual: Whether the audio is added before the output's activation.
    direct_path: Whether tanh(g x) of the audio x is, with a trained g.
    activation: Of the output: 'tanh' or 'linear'.
    initial_state: What it begins with. 'silence': where silence leads to from
      zeros (at all knobs 0), so that a sound does not begin with a click; no
      gradient goes through it. 'zeros', as in the papers. 'trained': part of
      the weights.
    seed: Seed of the weights.
    name: Name of the node.

  Raises:
    ValueError: Sizes below 1, an unknown name, or knobs that do not fit.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import neural
    >>> rnn = neural.Rnn('gru', n_units=8)
    >>> audio = tf.random.stateless_normal([1, 1000], seed=[0, 0])
    >>> state = rnn.initial_state(1)
    >>> first, state = rnn.stream(state, audio[:, :400])
    >>> second, state = rnn.stream(state, audio[:, 400:])
    >>> bool(
    ...   tf.reduce_all(abs(tf.concat([first, second], 1) - rnn(audio)) < 1e-5)
    ... )
    True
  """

  def __init__(
    self,
    cell: str = 'lstm',
    n_units: int = 32,
    n_layers: int = 1,
    conditioning: str | None = None,
    n_knobs: int = 0,
    residual: bool = False,
    direct_path: bool = False,
    activation: str = 'tanh',
    initial_state: str = 'silence',
    seed: int = 0,
    name: str = 'rnn',
  ):
    super().__init__(n_knobs, name)
    base.check_sizes(n_units=n_units, n_layers=n_layers)
    _check_name('conditioning', conditioning, _CONDITIONINGS)
    _check_name('activation', activation, ('tanh', 'linear'))
    _check_name('initial_state', initial_state, _STARTS)
    if conditioning is None and n_knobs:
      raise ValueError(
        f"A network with {n_knobs} knob(s) needs conditioning='fixed' or "
        "'tvcond'."
      )
    if conditioning == 'fixed' and not n_knobs:
      raise ValueError("conditioning='fixed' is by knobs; n_knobs is 0.")
    seeds = base.seeds_of(seed)
    self.conditioning = conditioning
    self.residual = residual
    self.activation = activation
    self.condition = None
    n_in = 1
    if conditioning == 'fixed':
      n_in += n_knobs
    elif conditioning == 'tvcond':
      n_in += _N_CONDITIONS
      self.frame_size = film.FRAME_SIZE
      self.condition = film.PooledRecurrent(1, n_knobs, _N_CONDITIONS, seeds)
    self.layers = [
      cells.Recurrent(cell, n_units if i else n_in, n_units, seeds)
      for i in range(n_layers)
    ]
    self.out = base.Dense(n_units, 1, seeds)
    self.direct_gain = None
    if direct_path:
      one = tf.keras.initializers.Ones()
      self.direct_gain = self.add_weight('direct_gain', [], initializer=one)
    self._is_settled = initial_state == 'silence'
    self.start: Any = None
    if initial_state == 'trained':
      n_states = len(self.layers[0].initial_state(1))
      self.start = self.add_weight(
        'start', [n_layers, n_states, n_units], initializer='zeros'
      )

  @property
  def macs_per_sample(self) -> int:
    """Multiply-accumulates per sample of audio, without activations."""
    layers = [*self.layers, self.out]
    if self.condition is not None:
      layers.append(self.condition)
    return sum(layer.macs for layer in layers)

  def initial_state(self, batch_size: int) -> Any:
    """Returns the state before the first sample."""
    if self._is_settled:
      return self.settle(batch_size, tf.zeros([1, 1, 1]))[0]
    return self._start(batch_size)

  @property
  def learns_start(self) -> bool:
    """Whether the state before the first sample is part of the weights."""
    return self.start is not None

  def _start(self, batch_size):
    """Returns zeros, or the trained start."""
    states = [layer.initial_state(batch_size) for layer in self.layers]
    if self.start is not None:
      states = [
        tuple(zero + start for zero, start in zip(state, tf.unstack(starts)))
        for state, starts in zip(states, tf.unstack(self.start))
      ]
    condition = ()
    if self.condition is not None:
      condition = self.condition.initial_state(batch_size, tf.zeros([1]))
    return {'layers': states, 'condition': condition}

  def settle(self, batch_size: int, x: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Returns the state after a constant input, and the output then.

    Args:
      batch_size: Number of items of the state.
      x: The input, [1, 1, 1]; knobs are 0.

    Returns:
      State, without gradient, and output [1, 1, 1].
    """
    state = self._start(1)
    y, knobs = x, tf.zeros([1, 1, self.n_knobs])
    condition = state['condition']
    if self.condition is not None:
      heard = tf.concat([tf.abs(x), knobs], -1)
      cell = self.condition.cell.settle(condition['cell'], heard)
      y = tf.concat([x, cell[0][:, tf.newaxis]], -1)
      condition = {**condition, 'cell': cell, 'maxima': tf.abs(x)[0]}
    elif self.n_knobs:
      y = tf.concat([x, knobs], -1)
    states = []
    for layer, layer_state in zip(self.layers, state['layers']):
      layer_state = layer.settle(layer_state, y)
      states.append(layer_state)
      y = layer_state[0][:, tf.newaxis]
    state = {'layers': states, 'condition': condition}

    def of_batch(value):
      if value.shape.rank:  # not the place in a frame
        value = tf.broadcast_to(value, [batch_size, *value.shape[1:]])
      return value

    return tf.nest.map_structure(of_batch, state), self._output(x, y)

  def _output(self, x, y):
    """Maps what the last layer gives to the output."""
    y = self.out(y)
    if self.residual:
      y += x
    if self.direct_gain is not None:
      y += tf.tanh(self.direct_gain * x)
    return tf.tanh(y) if self.activation == 'tanh' else y

  def process(
    self, state: Any, x: tf.Tensor, knobs: tf.Tensor | None
  ) -> tuple[tf.Tensor, Any]:
    """Processes [batch, n_samples, 1]; see `Network.stream`."""
    n_samples = x.shape[1]
    y, condition_state = x, state['condition']
    if self.condition is not None:
      frames, condition_state = self.condition(
        condition_state, tf.abs(x), knobs
      )
      if frames.shape[1] > 1:
        frames = tf.repeat(frames, film.FRAME_SIZE, axis=1)[:, :n_samples]
      y = _append(y, frames)
    elif self.n_knobs:
      y = _append(y, base.hold(knobs, n_samples))
    states = []
    for layer, layer_state in zip(self.layers, state['layers']):
      y, layer_state = layer(y, layer_state)
      states.append(layer_state)
    y = self._output(x, y)
    return y, {'layers': states, 'condition': condition_state}


def _append(x, frames):
  """Appends channels, of one frame or as many as x has samples."""
  if frames.shape[1] == 1:
    frames = tf.repeat(frames, x.shape[1], axis=1)
  return tf.concat([x, frames], -1)


def _check_name(key, value, allowed):
  if value not in allowed:
    raise ValueError(f'{key} is {value!r}; it is one of {allowed}.')
