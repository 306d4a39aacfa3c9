"""Functions of which the part that holds still is run once.

A stream calls one function again and again. Its weights and knobs stay what
they are, and yet all that follows from them alone, such as the design of a
filter or the powers of a matrix, would be computed in each call: in small
blocks, most of the work.
"""

import numpy as np
import tensorflow as tf

# Ops that read a variable and leave it as it is.
_READS = ('ReadVariableOp', 'ResourceGather', 'ResourceGatherNd')
# What an op depends on: nothing, what holds, or what moves.
_NOTHING, _HELD, _MOVING = range(3)


class SplitFunction:
  """A function of tensors, run in two parts.

  Its graph is split where what depends on the held arguments and on variables
  alone meets what depends on the moving ones. The first part runs when held
  arguments have other values than before, and after `forget`; the second one in
  each call. What comes out is what the function gives.

  The graph is built once for each signature. An op with side effects runs in
  each call, as does all that depends on a variable that the graph writes.
  There are no gradients.

  Args:
    function: Of (moving, held, *constants), both nests of tensors, and of
      Python constants; returns a nest of tensors and None.
  """

  def __init__(self, function):
    self._function = function
    self._parts = {}

  def __call__(self, moving, held, *constants):
    """Runs the function.

    Args:
      moving: Nest of tensors that change from call to call.
      held: Nest of tensors that seldom do.
      *constants: Hashable; other ones make another graph.

    Returns:
      What the function returns.
    """
    key = (_signature(moving), _signature(held), constants)
    if key not in self._parts:
      self._parts[key] = _Parts(self._function, moving, held, constants)
    return self._parts[key](tf.nest.flatten(moving), tf.nest.flatten(held))

  def forget(self):
    """Has variables read again by the next call."""
    for parts in self._parts.values():
      parts.held_values = None


def _signature(nest):
  """Returns what a graph depends on: structure, shapes and types."""
  if isinstance(nest, dict):
    return tuple((key, _signature(nest[key])) for key in sorted(nest))
  if isinstance(nest, list | tuple):
    return type(nest), *map(_signature, nest)
  return nest.shape, nest.dtype


class _Parts:
  """The two parts of a function for one signature."""

  def __init__(self, function, moving, held, constants):
    self.held_values = None  # Arguments that the first part was run with.
    self._structure = None
    n_moving, n_held = len(tf.nest.flatten(moving)), len(tf.nest.flatten(held))

    def whole(moving_flat, held_flat):
      outputs = function(
        tf.nest.pack_sequence_as(moving, moving_flat),
        tf.nest.pack_sequence_as(held, held_flat),
        *constants,
      )
      self._structure = tf.nest.map_structure(lambda x: x is not None, outputs)
      return [x for x in tf.nest.flatten(outputs) if x is not None]

    # Kept: it owns what the graph refers to by name.
    self._whole = _trace(
      whole, _specs(tf.nest.flatten(moving)), _specs(tf.nest.flatten(held))
    )
    graph = self._whole.graph
    moving = graph.inputs[:n_moving]
    held = graph.inputs[n_moving : n_moving + n_held]
    kinds = _kinds(graph, {x.op.name for x in moving})
    border = _border(graph, kinds)
    self._first = _part(graph, kinds, _HELD, held, border)
    # Variables, since each argument of a function costs time in each call.
    self._border = None
    self._make_second = lambda variables: _part(
      graph,
      kinds,
      _MOVING,
      moving,
      graph.outputs,
      dict(zip([x.name for x in border], variables)),
    )

  def __call__(self, moving, held):
    if not self._holds(held):
      self._run_first(held)
    outputs = iter(self._second(moving))
    return tf.nest.map_structure(
      lambda there: next(outputs) if there else None, self._structure
    )

  def _run_first(self, held):
    values = self._first(held)
    if self._border is None:
      self._border = [tf.Variable(x, trainable=False) for x in values]
      self._second = self._make_second(self._border)
    else:
      for variable, value in zip(self._border, values):
        variable.assign(value)
    self.held_values = held

  def _holds(self, held):
    if self.held_values is None:
      return False
    return all(
      new is old or np.array_equal(new, old)
      for new, old in zip(held, self.held_values)
    )


def _specs(tensors):
  return [tf.TensorSpec(x.shape, x.dtype) for x in tensors]


def _trace(function, *specs):
  """Returns a graph of a function."""
  # AutoGraph reads and rewrites the source of all that is called, which takes
  # nearly all of the time. Only Python's `if` and `for` over tensors need it.
  try:
    return tf.function(function, autograph=False).get_concrete_function(*specs)
  except tf.errors.OperatorNotAllowedInGraphError:
    return tf.function(function).get_concrete_function(*specs)


def _has_effects(op):
  return op.op_def.is_stateful and op.type not in (*_READS, 'Placeholder')


def _kinds(graph, moving):
  """Returns what each op depends on: {name: kind}."""
  kinds: dict = {}
  written = {
    x.name
    for op in graph.get_operations()
    for x in op.inputs
    if x.dtype == tf.resource and op.type not in _READS
  }
  # Ops come after those whose outputs they take.
  for op in graph.get_operations():
    sources = [x.op.name for x in op.inputs]
    if op.type == 'Placeholder':
      is_resource = op.outputs[0].dtype == tf.resource
      if op.name in moving or op.outputs[0].name in written:
        kind = _MOVING
      else:
        kind = _NOTHING if is_resource else _HELD
    elif op.type in _READS:
      kind = max([_HELD, *(kinds[s] for s in sources)])
    elif _has_effects(op):
      kind = _MOVING
    else:
      kind = max((kinds[s] for s in sources), default=_NOTHING)
    kinds[op.name] = kind
  return kinds


def _border(graph, kinds):
  """Returns the held tensors that moving ops, or the outputs, take."""
  found = {}
  for op in graph.get_operations():
    if kinds[op.name] == _MOVING:
      found.update({x.name: x for x in op.inputs})
  found.update({x.name: x for x in graph.outputs})
  return [x for x in found.values() if kinds[x.op.name] == _HELD]


def _part(graph, kinds, kind, inputs, outputs, variables=()):
  """Returns a function that runs the ops of one kind alone.

  Args:
    graph: Graph of the whole.
    kinds: What each op depends on.
    kind: That of the ops to take, beside those that depend on nothing.
    inputs: Tensors of the graph that the function takes, as a list.
    outputs: Tensors that it returns, as a list.
    variables: Those that hold tensors of the graph, by the tensor's name.
  """
  variables = dict(variables)
  names = [x.name for x in inputs]
  taken = _ops_for(outputs, {*names, *variables}, graph, kinds, kind)
  used = {x.name for op in taken.values() for x in op.inputs}
  captures = {x.name: outer for outer, x in graph.captures if x.name in used}
  computed = [x.name for x in outputs if x.op.name in taken]
  graph_def = _graph_def(graph, taken)

  def run(values, captured):
    values = dict(zip([*names, *captures], [*values, *captured]))
    values.update((name, v.read_value()) for name, v in variables.items())
    known = {name: x for name, x in values.items() if name in used}
    imported = tf.graph_util.import_graph_def(
      graph_def, known, computed, name='part'
    )
    values.update(zip(computed, imported))
    return [values[x.name] for x in outputs]

  captured = list(captures.values())
  traced = _trace(run, _specs(inputs), _specs(captured))
  return lambda values: traced(values, captured)


def _ops_for(outputs, given, graph, kinds, kind):
  """Returns the ops of a kind that tensors take, by name, but for `given`."""
  wanted = [x.op for x in outputs if x.name not in given]
  if kind == _MOVING:
    wanted += [o for o in graph.get_operations() if _has_effects(o)]
  taken, allowed = {}, (kind, _NOTHING)
  while wanted:
    op = wanted.pop()
    if op.name in taken or op.type == 'Placeholder':
      continue
    taken[op.name] = op
    wanted += [x.op for x in op.inputs if x.name not in given]
    wanted += [o for o in op.control_inputs if kinds[o.name] in allowed]
  return taken


def _graph_def(graph, ops):
  """Returns the description of some ops of a graph, in their order."""
  graph_def = graph.as_graph_def()
  nodes = [node for node in graph_def.node if node.name in ops]
  del graph_def.node[:]
  for node in nodes:
    sources = [s for s in node.input if s[0] != '^' or s[1:] in ops]
    del node.input[:]
    node.input.extend(sources)
    node.attr.pop('_class', None)  # It may name ops of the other part.
    graph_def.node.append(node)
  return graph_def
