"""Streaming a group in blocks of one size, with all state in tensors."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from dafx.processors import streaming


class BlockStreamer(streaming.Streamer):
  """Runs a group block by block, as a function from state to state.

  A `Streamer` begins each node in Python, when its audio has arrived. Here all
  nodes run in each block, and what they make before that is left out in the
  graph, so that the graph is the same for all blocks and can be exported. What
  comes out is what `Streamer` gives, behind `latency` zeros.

  Args:
    group: ProcessorGroup or processor.
    block_size: Samples of a block, a multiple of `control_step`.
    batch_size: Number of items, each a stream of its own.
    control_step: As of `Streamer`.

  Raises:
    ValueError: As of `Streamer`, or blocks of broken frames.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import processors, synths
    >>> streamer = processors.BlockStreamer(
    ...   synths.StreamingFilteredNoise(hop_size=64), 128, control_step=64
    ... )
    >>> inputs = {'magnitudes': tf.zeros([1, 2, 65])}
    >>> state = streamer.first_state(inputs)
    >>> signal, state = streamer.run_block(inputs, state)
    >>> signal.shape, int(state['position']), streamer.latency
    (TensorShape([1, 128]), 128, 128)
  """

  def __init__(
    self,
    group: tf.Module,
    block_size: int,
    batch_size: int = 1,
    control_step: int | None = None,
  ):
    if block_size < 1 or block_size % (control_step or 1):
      raise ValueError(
        f'block_size={block_size} must hold whole frames of {control_step} '
        'samples.'
      )
    self.block_size = block_size
    super().__init__(
      group, batch_size, control_step=control_step, latency_step=block_size
    )
    self._arguments = {
      'group': group,
      'block_size': block_size,
      'batch_size': batch_size,
      'control_step': control_step,
    }

  def first_state(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, Any]:
    """Returns the state before the first block.

    Args:
      inputs: Inputs of the group by name, of a block; only their shapes count.
    """
    self.reset()
    first: dict[str, Any] = {**self.states, 'position': tf.zeros([], tf.int64)}
    _, later = self.run_block(inputs, first)

    def grown(now, then):
      """What gets its shape by what comes begins as zeros of that shape."""
      return now if now.shape == then.shape else tf.zeros_like(then)

    return {
      name: tf.nest.map_structure(grown, first[name], value)
      if name in first
      else tf.zeros_like(value)  # of a line that delays
      for name, value in later.items()
    }

  def run_block(
    self, inputs: Mapping[str, tf.Tensor], state: Mapping[str, Any]
  ) -> tuple[tf.Tensor, dict[str, Any]]:
    """Runs the next block.

    Args:
      inputs: Inputs of the group by name, as of `Streamer.process`.
      state: Of `first_state`, or of the block before.

    Returns:
      (Signal [batch, block_size(, n_channels)], state).
    """
    states = dict(state)
    self._now = states.pop('position')
    signal, states = self._run_piece(inputs, states, self._marks[-1])
    return signal, {**states, 'position': self._now + self.block_size}

  def _settled(self, name, node_outputs, before, after):
    """Leaves out what a node did before its audio was there."""
    has_begun = self._now >= self._starts[name]
    after = tf.nest.map_structure(
      lambda old, new: tf.where(has_begun, new, old), before, after
    )
    if 'signal' in node_outputs:  # a controller has none
      signal = node_outputs['signal']
      is_out = self._now >= self._ends[name]
      signal = tf.where(is_out, signal, tf.zeros_like(signal))
      node_outputs = {**node_outputs, 'signal': signal}
    return node_outputs, after
