"""Export of what streams, with its state, as a SavedModel."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import tensorflow as tf

from dafx import core


class _Exported(tf.Module):
  """Holds what a SavedModel offers."""


def _foreign_ops(function):
  """Returns the types of ops that call Python, in a function and its own."""
  graph_def = function.graph.as_graph_def()
  nodes = [graph_def.node, *(f.node_def for f in graph_def.library.function)]
  return {n.op for part in nodes for n in part if 'PyFunc' in n.op}


def export_saved_model(
  model: tf.Module,
  path: str | os.PathLike,
  block_size: int,
  batch_size: int = 1,
) -> None:
  """Writes a model for use outside Python, block by block.

  The SavedModel offers two signatures. 'initial_state' takes nothing and
  returns the state, as tensors 'state_0', 'state_1' and so on. 'stream' takes
  'audio' [batch_size, block_size], 'knobs' [batch_size, n_knobs] if the model
  has any, and the state; it returns 'signal' and the state after it. Its graph
  has TensorFlow's own ops alone.

  Args:
    model: A network of `dafx.neural`, or anything with its `initial_state`,
      `stream(state, audio, knobs)`, `n_knobs` and `frame_size`.
    path: Folder to write.
    block_size: Samples per call: a divisor or a multiple of frame_size, so that
      no block crosses a frame.
    batch_size: Items side by side.

  Raises:
    ValueError: A block size that does not fit, or a part that is not in
      TensorFlow, such as a plugin.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import neural
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   neural.export_saved_model(
    ...     neural.Rnn(n_units=4), folder, block_size=64
    ...   )
    ...   stream = tf.saved_model.load(folder).signatures['stream']
    >>> 'state_0' in stream.structured_outputs
    True
  """
  check_block_size(block_size, model.frame_size, model.name)
  spec = {'audio': [batch_size, block_size]}
  if model.n_knobs:
    spec['knobs'] = [batch_size, model.n_knobs]
  export_stream(model, path, spec, batch_size)


def check_block_size(block_size: int, frame_size: int, name: str):
  """Raises unless no block of samples crosses a frame.

  Args:
    block_size: Samples of a block.
    frame_size: Samples of a frame.
    name: What has such frames.

  Raises:
    ValueError: One is neither a divisor nor a multiple of the other.

  Examples:
    >>> from dafx import neural
    >>> neural.check_block_size(100, 64, 'net')
    Traceback (most recent call last):
    ValueError: block_size is 100; 'net' works in frames of 64 samples, ...
  """
  if block_size < 1 or (block_size % frame_size and frame_size % block_size):
    raise ValueError(
      f'block_size is {block_size}; {name!r} works in frames of {frame_size} '
      'samples, and takes a divisor or a multiple of that.'
    )


def export_stream(
  model: tf.Module,
  path: str | os.PathLike,
  input_shapes: Mapping[str, Sequence[int]],
  batch_size: int = 1,
  facts: Mapping[str, int] | None = None,
) -> None:
  """Writes what streams as a SavedModel, whatever its inputs are.

  As `export_saved_model`, with these inputs in place of audio and knobs.

  Args:
    model: Anything with `name`, `variables`, `initial_state(batch_size)` and
      `stream(state, **inputs)`.
    path: Folder to write.
    input_shapes: Of its inputs, by name.
    batch_size: Items side by side.
    facts: Numbers that a third signature, 'facts', returns by name.

  Raises:
    ValueError: A part that is not in TensorFlow, such as a plugin.

  Examples:
    >>> import tempfile
    >>> import tensorflow as tf
    >>> from dafx import neural
    >>> class Sum(tf.Module):
    ...   def initial_state(self, batch_size):
    ...     return tf.zeros([batch_size])
    ...
    ...   def stream(self, state, x):
    ...     state = state + tf.reduce_sum(x, axis=1)
    ...     return state[:, tf.newaxis], state
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   neural.export_stream(Sum(), folder, {'x': [1, 3]}, facts={'rate': 9})
    ...   signatures = tf.saved_model.load(folder).signatures
    ...   state = signatures['initial_state']()
    ...   result = signatures['stream'](x=tf.ones([1, 3]), **state)
    >>> float(result['signal'][0, 0]), int(signatures['facts']()['rate'])
    (3.0, 9)
  """
  structure = model.initial_state(batch_size)
  flat = tf.nest.flatten(structure)
  names = [f'state_{i}' for i in range(len(flat))]

  def named(state):
    state = tf.nest.flatten(state)
    # Outputs of a signature may not be its inputs as they are.
    return {n: tf.identity(s) for n, s in zip(names, state)}

  @tf.function(input_signature=[], autograph=False)
  def initial_state():
    return named(model.initial_state(batch_size))

  @tf.function(autograph=False)
  def stream(**inputs):
    state = tf.nest.pack_sequence_as(structure, [inputs[n] for n in names])
    given = {name: inputs[name] for name in input_shapes}
    signal, state = model.stream(state, **given)
    return {'signal': signal, **named(state)}

  @tf.function(input_signature=[], autograph=False)
  def tell():
    return {name: tf.constant(value) for name, value in (facts or {}).items()}

  spec = {
    name: tf.TensorSpec(shape, name=name)
    for name, shape in input_shapes.items()
  }
  for name, tensor in zip(names, flat):
    spec[name] = tf.TensorSpec(tensor.shape, tensor.dtype, name)
  exported = _Exported()
  exported.variables_of_model = model.variables
  with core.portable():
    signatures = {
      'initial_state': initial_state.get_concrete_function(),
      'stream': stream.get_concrete_function(**spec),
    }
    if facts:
      signatures['facts'] = tell.get_concrete_function()
  foreign = sorted(set().union(*map(_foreign_ops, signatures.values())))
  if foreign:
    raise ValueError(
      f'{model.name!r} has parts that run outside of TensorFlow '
      f'({", ".join(foreign)}), such as plugins: they cannot be exported.'
    )
  exported.signatures_of_model = signatures
  tf.saved_model.save(exported, str(pathlib.Path(path)), signatures=signatures)
