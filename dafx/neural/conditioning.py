"""Conditioning of a network's features: FiLM and its time-varying kinds.

All scale features and shift them: y = (1 + gain) x + offset, for each channel.

- 'film': by the knobs, through an MLP that all blocks share. Perez et al.,
  'FiLM: visual reasoning with a general conditioning layer', AAAI 2018.
- 'tfilm': by an LSTM in each block, over the largest value of each feature in
  each 128 samples, and the knobs if there are any. Birnbaum et al., 'Temporal
  FiLM', NeurIPS 2019; Comunità et al., 'Modelling black-box audio effects with
  time-varying feature modulation', ICASSP 2023.
- 'tiny_tfilm': the same through a bottleneck of four channels.
- 'tvfilm': by one LSTM over the largest |audio| in each 128 samples and the
  knobs, and a linear map of its output in each block. Both in Comunità et al.,
  'NablAFx: a framework for differentiable black-box and gray-box modeling of
  audio effects', 2025.

They have as many parameters as NablAFx's, and differ where that limits what
they can do. A frame's modulation comes from the frames before it, so that
streaming adds no latency. The gain has the 1, so that modulation starts as
none; there, an LSTM's output is the gain, which keeps it within -1 and 1 (here,
-2 and 4), and the tiny kind ends in a ReLU, which lets it neither lower nor
invert. FiLM has no batch normalisation, which makes an output depend on the
other items and training differ from use; it has no parameters there either.
"""

from typing import Any

import tensorflow as tf

from dafx import processors
from dafx.neural import base, cells

KINDS = (None, 'film', 'tfilm', 'tiny_tfilm', 'tvfilm')
FRAME_SIZE = 128
# Of an LSTM's output in -1..1, for gains of -2..4 and offsets of -3..3.
_LSTM_RANGE = 3.0
_N_SHARED = 32
_N_BOTTLENECK = 4


def check(kind, n_knobs):
  """Raises ValueError for an unknown kind, or knobs that do not fit it."""
  if kind not in KINDS:
    raise ValueError(f'conditioning is {kind!r}; it is one of {KINDS}.')
  if kind is None and n_knobs:
    raise ValueError(
      f'A network with {n_knobs} knob(s) needs a conditioning that takes them: '
      f'one of {KINDS[1:]}.'
    )
  if kind == 'film' and not n_knobs:
    raise ValueError("conditioning='film' is by knobs; n_knobs is 0.")


def at_frames(knobs, n_samples, n_frames):
  """Returns the knobs at the start of each frame of 128 samples.

  Args:
    knobs: [batch, n_knob_frames, n_knobs], over n_samples.
    n_samples: Number of samples.
    n_frames: Number of frames, the last one perhaps unfinished.

  Returns:
    [batch, n_frames, n_knobs].
  """
  hop = -(-n_samples // knobs.shape[1])
  index = [t * FRAME_SIZE // hop for t in range(n_frames)]
  return tf.gather(knobs, index, axis=1)


class PooledRecurrent(processors.Layer):
  """A recurrent layer over the maxima of frames of 128 samples.

  What it gives for a frame comes from the frames before it and the knobs at its
  start. Where a frame is in the middle at the start of a chunk is in the state.

  Args:
    n_features: Number of channels whose maxima it takes.
    n_knobs: Number of knobs.
    n_units: Size of its state and output.
    seeds: Iterator of seeds for the weights.
    bottleneck: A layer that maxima go through first, and its number of outputs.
    name: Name of the layer.
  """

  def __init__(
    self, n_features, n_knobs, n_units, seeds, bottleneck=None, name=None
  ):
    super().__init__(name=name, autocast=False)
    self.n_features = n_features
    self.bottleneck: Any
    self.bottleneck, n_in = bottleneck or (None, n_features)
    self.cell = cells.Recurrent('lstm', n_in + n_knobs, n_units, seeds)

  @property
  def macs(self):
    """Multiply-accumulates per sample."""
    inner = self.bottleneck.macs if self.bottleneck else 0
    return (self.cell.macs + inner) / FRAME_SIZE

  def initial_state(self, batch_size, x):
    """Returns the state after a past of nothing but features x."""
    return {
      'cell': self.cell.initial_state(batch_size),
      'maxima': tf.broadcast_to(x, [batch_size, self.n_features]),
      'position': tf.zeros([], tf.int32),
    }

  def _steps(self, cell_state, maxima, knobs):
    if self.bottleneck:
      maxima = self.bottleneck(maxima)
    if knobs is not None:
      maxima = tf.concat([maxima, knobs], -1)
    return self.cell(maxima, cell_state)

  def call(self, state, x, knobs):
    """Takes the next chunk.

    Args:
      state: From `initial_state` or the chunk before.
      x: Features, [batch, n_samples, n_features]: within a frame, or from the
        start of one.
      knobs: [batch, n_frames, n_knobs] over these samples, or None.

    Returns:
      What it gives for each frame of the chunk, [batch, n_frames, n_units],
      and the new state.
    """
    n_samples = x.shape[1]
    if knobs is not None:
      n_frames = -(-n_samples // FRAME_SIZE)
      knobs = at_frames(knobs, n_samples, n_frames)
    if n_samples < FRAME_SIZE:
      return self._within_frame(state, x, knobs)
    n_whole, n_rest = divmod(n_samples, FRAME_SIZE)
    shape = [-1, n_whole, FRAME_SIZE, self.n_features]
    whole = tf.reshape(x[:, : n_whole * FRAME_SIZE], shape)
    maxima = tf.concat(
      [state['maxima'][:, tf.newaxis], tf.reduce_max(whole, 2)], 1
    )
    last = maxima[:, -1]
    if n_rest:
      last = tf.reduce_max(x[:, -n_rest:], 1)
    else:
      maxima = maxima[:, :-1]
    frames, cell_state = self._steps(state['cell'], maxima, knobs)
    position = tf.constant(n_rest, tf.int32)
    return frames, {'cell': cell_state, 'maxima': last, 'position': position}

  def _within_frame(self, state, x, knobs):
    is_start = tf.equal(state['position'], 0)
    _, stepped = self._steps(
      state['cell'], state['maxima'][:, tf.newaxis], knobs
    )
    # Both cost less than a branch of the graph.
    cell_state = tuple(
      tf.where(is_start, new, old) for new, old in zip(stepped, state['cell'])
    )
    here = tf.reduce_max(x, 1)
    maxima = tf.where(is_start, here, tf.maximum(here, state['maxima']))
    position = (state['position'] + x.shape[1]) % FRAME_SIZE
    state = {'cell': cell_state, 'maxima': maxima, 'position': position}
    return cell_state[0][:, tf.newaxis], state


def _modulate(x, frames, n_each):
  """Scales and shifts x by (gain, offset) frames, held for n_each samples."""
  gain, offset = tf.split(frames, 2, -1)
  n_samples, n_frames = x.shape[1], frames.shape[1]
  if n_frames == 1:
    return x * (1.0 + gain) + offset
  if n_samples % n_each:
    gain = tf.repeat(gain, n_each, axis=1)[:, :n_samples]
    offset = tf.repeat(offset, n_each, axis=1)[:, :n_samples]
    return x * (1.0 + gain) + offset
  cut = tf.reshape(x, [-1, n_frames, n_each, x.shape[2]])
  cut = cut * (1.0 + gain[:, :, tf.newaxis]) + offset[:, :, tf.newaxis]
  return tf.reshape(cut, [-1, n_samples, x.shape[2]])


class Shared(processors.Layer):
  """What the blocks of a network have in common; see the module.

  Args:
    kind: One of KINDS.
    n_knobs: Number of knobs.
    seeds: Iterator of seeds for the weights.
    name: Name of the layer.
  """

  def __init__(self, kind, n_knobs, seeds, name=None):
    super().__init__(name=name, autocast=False)
    self.kind = kind
    self.mlp = []
    if kind == 'film':
      sizes = [n_knobs, _N_SHARED, _N_SHARED, _N_SHARED]
      self.mlp = [
        base.Dense(n_in, n_out, seeds) for n_in, n_out in zip(sizes, sizes[1:])
      ]
    elif kind == 'tvfilm':
      self.recurrent = PooledRecurrent(1, n_knobs, _N_SHARED, seeds)

  @property
  def macs(self):
    """Multiply-accumulates per sample; those of knobs cost nothing."""
    return self.recurrent.macs if self.kind == 'tvfilm' else 0

  def initial_state(self, batch_size):
    """Returns the state before the first sample."""
    if self.kind == 'tvfilm':
      return self.recurrent.initial_state(batch_size, tf.zeros([1]))
    return ()

  def call(self, state, audio, knobs):
    """Returns what `Modulation` takes, and the new state.

    Args:
      state: From `initial_state` or the chunk before.
      audio: [batch, n_samples, 1].
      knobs: [batch, n_frames, n_knobs] or None.
    """
    if self.kind == 'tvfilm':
      return self.recurrent(state, tf.abs(audio), knobs)
    if self.kind == 'film':
      for layer in self.mlp:
        knobs = tf.nn.relu(layer(knobs))
    return knobs, state


class Modulation(processors.Layer):
  """The conditioning of one block's features; see the module.

  Args:
    kind: One of KINDS, but not None.
    n_features: Number of channels.
    n_knobs: Number of knobs.
    seeds: Iterator of seeds for the weights.
    name: Name of the layer.
  """

  def __init__(self, kind, n_features, n_knobs, seeds, name=None):
    super().__init__(name=name, autocast=False)
    self.kind = kind
    n_out = 2 * n_features
    if kind in ('film', 'tvfilm'):
      self.adaptor = [base.Dense(_N_SHARED, n_out, seeds)]
    elif kind == 'tfilm':
      self.recurrent = PooledRecurrent(n_features, n_knobs, n_out, seeds)
      self.adaptor = []
    else:
      bottleneck = base.Dense(n_features, _N_BOTTLENECK, seeds)
      self.recurrent = PooledRecurrent(
        n_features,
        n_knobs,
        _N_BOTTLENECK,
        seeds,
        (bottleneck, _N_BOTTLENECK),
      )
      sizes = [_N_BOTTLENECK, 16, 32, n_out]
      self.adaptor = [
        base.Dense(n_in, n_out, seeds) for n_in, n_out in zip(sizes, sizes[1:])
      ]

  @property
  def _is_recurrent(self):
    return self.kind in ('tfilm', 'tiny_tfilm')

  @property
  def macs(self):
    """Multiply-accumulates per sample; those of knobs cost nothing."""
    if self.kind == 'film':
      return 0
    per_frame = sum(layer.macs for layer in self.adaptor) / FRAME_SIZE
    return per_frame + (self.recurrent.macs if self._is_recurrent else 0)

  def initial_state(self, batch_size, x):
    """Returns the state after a past of nothing but features x."""
    if self._is_recurrent:
      return self.recurrent.initial_state(batch_size, x)
    return ()

  def call(self, state, x, shared):
    """Returns modulated features and the new state.

    Args:
      state: From `initial_state` or the chunk before.
      x: Features, [batch, n_samples, n_features].
      shared: From `Shared`.
    """
    frames, n_each = shared, FRAME_SIZE
    if self.kind == 'film':
      n_each = -(-x.shape[1] // shared.shape[1])
    if self._is_recurrent:
      frames, state = self.recurrent(state, x, shared)
    for i, layer in enumerate(self.adaptor):
      frames = layer(frames if i == 0 else tf.nn.relu(frames))
    if self.kind == 'tfilm':
      frames = _LSTM_RANGE * frames
    return _modulate(x, frames, n_each), state


def frame_size(kind):
  """Returns the frame size that a network with this conditioning has."""
  return 1 if kind in (None, 'film') else FRAME_SIZE
