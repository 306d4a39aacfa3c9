"""Models as functions from state to state, for use outside of Python."""

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from dafx import neural, processors


class Stream(abc.ABC):
  """What `neural.export_stream` takes, of a model.

  Attributes:
    name: That of the model.
    variables: All that it reads.
    input_shapes: Shapes of what `stream` takes, by name, for one item.
    facts: Numbers to know it by.
  """

  name: str
  variables: Sequence[tf.Variable]
  input_shapes: Mapping[str, Sequence[int]]
  facts: Mapping[str, int]

  @abc.abstractmethod
  def initial_state(self, batch_size: int) -> Any:
    """Returns the state before the first block, a nest of tensors.

    Args:
      batch_size: Number of items.
    """

  @abc.abstractmethod
  def stream(self, state: Any, **inputs: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Runs the next block.

    Args:
      state: Of the block before, or `initial_state`.
      **inputs: Those of `input_shapes`.

    Returns:
      (Audio [batch, block_size], state).
    """


class EffectStream(Stream):
  """Audio, and knobs, to audio, through a graph without latency.

  Args:
    model: An `EffectModel`, all of whose variables are made.
    block_size: Samples of a block: a divisor or a multiple of the frames of the
      graph.

  Raises:
    ValueError: A block size that does not fit.
  """

  def __init__(self, model: Any, block_size: int):
    self.name, self.variables = model.name, model.variables
    self._group = model.processor_group
    nodes = processors.nodes(self._group).values()
    frame_size = math.lcm(*(node.frame_size for node in nodes))
    neural.check_block_size(block_size, frame_size, model.name)
    knobs = {'knobs': [1, model.n_knobs]} if model.n_knobs else {}
    self.input_shapes = {'audio': [1, block_size], **knobs}
    self.facts = {'sample_rate': model.sample_rate}

  def initial_state(self, batch_size: int) -> Any:
    """Returns the states of the nodes."""
    self._streamer = processors.Streamer(self._group, batch_size)
    return self._streamer.states

  def stream(self, state: Any, **inputs: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Runs the next block; see `Stream.stream`."""
    if 'knobs' in inputs:
      inputs['knobs'] = inputs['knobs'][:, tf.newaxis]
    return self._streamer.run(inputs, state)


class InstrumentStream(Stream):
  """Pitch and loudness, frame by frame, to audio that comes `latency` late.

  The decoder goes on from its state, as do the synthesisers and effects.

  Args:
    model: An `InstrumentModel`, all of whose variables are made.
    block_size: Samples of a block, in whole frames.

  Raises:
    ValueError: A decoder or a graph that cannot stream, or broken frames.
  """

  def __init__(self, model: Any, block_size: int):
    self.name, self.variables = model.name, model.variables
    self._model = model
    self._encoder = model.encoder
    hop_size = model.hop_size
    self._streamer = processors.BlockStreamer(
      model.processor_group, block_size, control_step=hop_size
    )
    n_frames = block_size // hop_size
    self.input_shapes = {
      key: [1, n_frames, 1] for key in self._encoder.features_used
    }
    self.facts = {
      'sample_rate': model.sample_rate,
      'hop_size': hop_size,
      'latency': self._streamer.latency,
    }
    state = self._encoder.initial_state(1)
    curves = {key: tf.ones(shape) for key, shape in self.input_shapes.items()}
    inputs, _ = self._inputs(state, curves)
    self._first = self._streamer.first_state(inputs)

  def _inputs(self, state, curves):
    """Returns inputs of the graph, and the state of the decoder."""
    embedding, state = self._encoder.stream(state, **curves)
    return {**curves, **self._model.controls_of(embedding)}, state

  def initial_state(self, batch_size: int) -> Any:
    """Returns the state of decoder and graph, for one item."""
    if batch_size != 1:
      raise ValueError(
        f'batch_size={batch_size}: an instrument plays one line.'
      )
    return {'decoder': self._encoder.initial_state(1), 'graph': self._first}

  def stream(self, state: Any, **inputs: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Plays the next frames; see `Stream.stream`."""
    inputs, decoder = self._inputs(state['decoder'], inputs)
    signal, graph = self._streamer.run_block(inputs, state['graph'])
    return signal, {'decoder': decoder, 'graph': graph}
