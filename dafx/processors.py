"""Groups of processors: DDSP's, with the checks that it lacks, and streaming.

DDSP's `ProcessorGroup` runs a list of nodes (processor, input keys). It takes
two nodes of one name for one, and finds a wrong key only when it runs. In gin,
`processors.ProcessorGroup` stays DDSP's class; the models of `dafx.training`
check the group that they are given. In Python, `ProcessorGroup` of this module
checks itself.

Streaming is a protocol that nodes keep by having these methods:

- `initial_state(batch_size)` returns the state before the first sample: a
  nest of tensors, `()` for a node that keeps none.
- `stream(state, **controls)` takes the next chunk, with the arguments of
  `get_signal`, and returns (signal, state). For a node without `get_signal`,
  such as a controller, it is `stream(state, *inputs)`, with the arguments of
  the call, and returns (what the call returns, state). A processor's
  `get_signal` is its `stream` from the initial state on: there is one path
  for training, evaluation and streaming.
- `frame_size`: samples per frame, for nodes that work in frames. All of a
  node's frames start at multiples of it, from the first sample on. What such a
  node gives for a frame may depend on the audio before that frame only, so that
  it is known when the frame begins.
- `latency`: samples by which what `stream` returns is late, if not 0;
  `get_signal` takes them out.

Whoever calls `stream` sees to it that a chunk either lies within one frame or
starts where a frame starts and holds whole frames. `Streamer` does: it takes
chunks of any size.
"""

import inspect
import math
from collections.abc import Collection, Iterable

import ddsp
import tensorflow as tf

RESERVED_NAMES = ('inputs', 'out')


def _node_name(node) -> str:
  module = node[0]
  return module if isinstance(module, str) else module.name


def node_keys(node) -> list[str]:
  """Returns the keys of the inputs of a node of a DAG."""
  return [node[1]] if isinstance(node[1], str) else list(node[1])


def check_dag(dag: Iterable, inputs: Collection[str] | None = None):
  """Raises ValueError unless a DAG can run as it reads.

  Args:
    dag: Nodes (module or its name, input keys, ...), as DDSP's ProcessorGroup
      takes them.
    inputs: Names of the group's inputs. Without, any key that starts with no
      node's name is taken for an input.

  Raises:
    ValueError: Two nodes of one name, a reserved name, or a key that no input
      and no earlier node gives; the message says which.
  """
  dag = list(dag)
  names = [_node_name(node) for node in dag]
  for position, name in enumerate(names):
    if name in RESERVED_NAMES:
      raise ValueError(
        f'Node {position} of the DAG is named {name!r}, which is reserved '
        f'(as are all of {RESERVED_NAMES}). Give it another name.'
      )
    if name in names[:position]:
      raise ValueError(
        f'Nodes {names.index(name)} and {position} of the DAG are both named '
        f'{name!r}: the first one would be lost. Give each a name of its '
        "own, such as LV2Plugin(name='limiter_2')."
      )
    if inputs is not None and name in inputs:
      raise ValueError(
        f'Node {position} of the DAG is named {name!r}, as is an input of '
        'the group. Give it another name.'
      )
  for position, node in enumerate(dag):
    for key in node_keys(node):
      source = key.split('/')[0]
      if source in names[:position]:
        continue
      if source in names:
        raise ValueError(
          f'Node {names[position]!r} takes {key!r} from a node that comes '
          'after it (or is itself). Sort the nodes; a cycle cannot run.'
        )
      name = key.split('/')[1] if source == 'inputs' and '/' in key else source
      if inputs is not None and name not in inputs:
        raise ValueError(
          f'Node {names[position]!r} takes {key!r}, which neither an input '
          f'({", ".join(sorted(inputs)) or "none"}) nor an earlier node '
          f'({", ".join(names[:position]) or "none"}) gives.'
        )


def input_names(dag: Iterable) -> list[str]:
  """Returns the names of the inputs that a DAG asks for, in order of use."""
  dag = list(dag)
  names = {_node_name(node) for node in dag}
  found = []
  for node in dag:
    for key in node_keys(node):
      parts = key.split('/')
      if parts[0] in names:
        continue
      name = parts[1] if parts[0] == 'inputs' and len(parts) > 1 else parts[0]
      if name not in found:
        found.append(name)
  return found


def bypass_nodes(dag: Iterable, names: Collection[str]) -> list:
  """Returns a DAG in which some nodes let their first input through.

  What takes the signal of a bypassed node gets that node's first input instead.
  Nodes that the output then does not depend on are left out.

  Args:
    dag: Nodes (module or its name, input keys, ...), sorted.
    names: Names of the nodes to bypass.

  Raises:
    ValueError: No node of that name, none that is left, or one that takes
      something else than its signal from a bypassed one.
  """
  dag = list(dag)
  known = [_node_name(node) for node in dag]
  unknown = sorted(set(names) - set(known))
  if unknown:
    raise ValueError(
      f'No nodes of the DAG are {unknown}; its nodes are {known}.'
    )
  source_of = {}  # key of a bypassed node's signal: where it comes from
  kept, output = [], None
  for node in dag:
    name = _node_name(node)
    keys = [source_of.get(key, key) for key in node_keys(node)]
    if name in names:
      source_of[f'{name}/signal'] = keys[0]
      output = keys[0].split('/')[0]
      continue
    lost = [key for key in keys if key.split('/')[0] in names]
    if lost:
      raise ValueError(
        f'Node {name!r} takes {lost[0]!r}, which is not known if '
        f'{lost[0].split("/")[0]!r} is bypassed.'
      )
    kept.append((node[0], keys, *node[2:]))
    output = name
  needed, pruned = {output}, []
  for node in reversed(kept):
    if _node_name(node) in needed:
      needed |= {key.split('/')[0] for key in node[1]}
      pruned.insert(0, node)
  if not pruned or _node_name(pruned[-1]) != output:
    raise ValueError(
      f'Nothing is left of the DAG {known} without {sorted(names)}.'
    )
  return pruned


class ProcessorGroup(ddsp.processors.ProcessorGroup):
  """DDSP's ProcessorGroup, checked and its controllers connected when built.

  Args:
    dag: Nodes (processor, input keys), sorted; see DDSP.
    inputs: Names of the group's inputs, if they are to be checked too.
    **kwargs: As DDSP's: processors by name, and Keras arguments.

  Raises:
    ValueError: A DAG that cannot run as it reads; see `check_dag`.
  """

  def __init__(self, dag, inputs=None, **kwargs):
    check_dag(dag, inputs)
    super().__init__(dag=dag, **kwargs)
    connect_controllers(self)


def nodes(group: ddsp.processors.ProcessorGroup) -> dict[str, tf.Module]:
  """Returns the processors of a group by name, in the order they run."""
  return {_node_name(node): getattr(group, node[0]) for node in group.dag}


def connect_controllers(group: ddsp.processors.ProcessorGroup):
  """Tells each controller of a group what it drives.

  A controller is a node with a method `drive`; it drives the processors that
  take their controls from it. So a .gin file names nodes and wires, and no
  sizes. Connecting once more changes nothing.

  Args:
    group: Group of nodes.

  Raises:
    ValueError: A controller whose processors have different controls.
  """
  modules = nodes(group)
  for node in group.dag:
    processor = modules[node[0]]
    if not hasattr(processor, 'default_controls'):
      continue
    for key in node_keys(node):
      source, *rest = key.split('/')
      if rest == ['controls'] and hasattr(modules.get(source), 'drive'):
        modules[source].drive(processor)


def _run_node(module, state, values):
  """Streams a chunk through a node; returns (its outputs, state)."""
  if not _is_processor(module):
    return module.stream(state, *values)
  controls = module.get_controls(*values)
  if hasattr(module, 'stream'):
    signal, state = module.stream(state, **controls)
  else:
    signal = module.get_signal(**controls)
  return {'signal': signal, 'controls': controls}, state


# DDSP's nodes whose output depends on the samples of the moment alone.
_STATELESS = (ddsp.processors.Add, ddsp.processors.Mix)


def _can_stream(module) -> bool:
  return hasattr(module, 'stream') or isinstance(module, _STATELESS)


def _is_processor(module) -> bool:
  return hasattr(module, 'get_signal') and hasattr(module, 'get_controls')


def _frame_size(module) -> int:
  return getattr(module, 'frame_size', 1) or 1


class Streamer:
  """Runs a group, or one processor, over audio that comes in chunks.

  Chunks may have any size, and different ones; what comes out is what the
  whole audio gives at once. Nodes keep the protocol that the head of this
  module describes. DDSP's `Add` and `Mix` need not: they keep nothing. `Mix`
  is exact for a level that is static or given for each sample.

  The group is compiled once for each length of a piece into which chunks are
  cut, so equal chunks are fastest, and most of all multiples of the nodes'
  `frame_size`.

  Args:
    group: ProcessorGroup or processor.
    batch_size: Number of items, each a stream of its own.
    audio_inputs: Names of the inputs that have a value for each sample. All
      others are controls.

  Attributes:
    latency: Samples that stay inside: the first `latency` samples that come in
      give none, from then on each gives one. With what comes out, it is the
      group's `get_signal` but for its last `latency` samples.

  Raises:
    ValueError: A node that cannot stream, or not behind another's latency; the
      message names it.
  """

  def __init__(
    self,
    group,
    batch_size: int = 1,
    audio_inputs: Collection[str] = ('audio', 'sidechain'),
  ):
    self.group = group
    self.batch_size = batch_size
    self.audio_inputs = tuple(audio_inputs)
    if hasattr(group, 'dag'):
      connect_controllers(group)
      self._modules = nodes(group)
      self._dag = [(node[0], node_keys(node), *node[2:]) for node in group.dag]
    else:
      takes = group.get_controls if _is_processor(group) else group.call
      keys = list(inspect.signature(takes).parameters)
      self._modules = {group.name: group}
      self._dag = [(group.name, keys)]
    for name, module in self._modules.items():
      if not _can_stream(module):
        raise ValueError(
          f'Node {name!r} ({type(module).__name__}) cannot be streamed: it has '
          "no `stream`, and is none of DDSP's "
          f'{", ".join(c.__name__ for c in _STATELESS)}. Process the whole '
          'audio at once, or take the node out.'
        )
    self._frame_sizes = {_frame_size(m) for m in self._modules.values()}
    self._plan_latency()
    self._run = tf.function(self._run_piece)
    self.reset()

  def _plan_latency(self):
    """Finds when each node starts, and what its inputs are delayed by."""
    self._starts, self._ends, self._delays = {}, {}, {}
    for name, keys, *_ in self._dag:
      module = self._modules[name]
      latencies = [self._ends.get(key.split('/')[0], 0) for key in keys]
      start = max(latencies, default=0)
      if start and _frame_size(module) > 1:
        raise ValueError(
          f'Node {name!r} works in frames of {module.frame_size} samples, but '
          f'hears audio that is {start} samples late: its frames would lie '
          'elsewhere than in the whole audio. Put it before the nodes with '
          'latency, or take their latency away (oversample=1, lookahead_ms=0).'
        )
      for key, latency in zip(keys, latencies):
        if latency == start:
          continue
        source = key.split('/')[0]
        if key.endswith('/signal') or key.split('/')[-1] in self.audio_inputs:
          self._delays[name, key] = start - latency
        elif _frame_size(self._modules.get(source)) > 1:
          raise ValueError(
            f'Node {name!r} takes audio that is {start} samples late, and '
            f'controls that {source!r} changes in time: they cannot be held '
            'back. Take the latency away (oversample=1, lookahead_ms=0).'
          )
      self._starts[name] = start
      self._ends[name] = start + getattr(module, 'latency', 0)
    self.latency = self._ends[self._dag[-1][0]]
    self._marks = sorted({0, *self._starts.values(), *self._ends.values()})

  def reset(self):
    """Goes back to before the first sample."""
    self.position = 0
    self.states = {
      name: module.initial_state(self.batch_size)
      for name, module in self._modules.items()
      if hasattr(module, 'stream')
    }
    for (name, key), delay in self._delays.items():
      self.states[f'{name}<{key}'] = tf.zeros([self.batch_size, delay])

  def process(self, audio, **inputs) -> tf.Tensor:
    """Takes the next chunk.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      **inputs: Other inputs of the group by name. Those in `audio_inputs` have
        the shape of the audio; controls are [batch, n_controls], or [batch,
        n_frames, n_controls] where they change within the chunk.

    Returns:
      The group's signal, [batch, n_samples], but for `latency` samples less at
      the start.

    Raises:
      ValueError: Inputs of another batch size or length than the audio's.
    """
    inputs = {'audio': audio, **inputs}
    inputs = {k: tf.convert_to_tensor(v, tf.float32) for k, v in inputs.items()}
    n_samples = inputs['audio'].shape[1]
    hops = {}
    for key, value in inputs.items():
      if key in self.audio_inputs:
        fits = value.shape.rank in (2, 3) and value.shape[1] == n_samples
      else:
        if value.shape.rank == 2:
          inputs[key] = value = value[:, tf.newaxis]
        fits = value.shape.rank == 3 and 1 <= value.shape[1] <= n_samples
        if fits and value.shape[1] > 1:
          hops[key] = -(-n_samples // value.shape[1])
      if not fits or value.shape[0] != self.batch_size:
        raise ValueError(
          f'{key} has shape {value.shape} beside {n_samples} samples of audio. '
          f'It must be [{self.batch_size}, {n_samples}] for audio and '
          f'[{self.batch_size}, n_controls] or [{self.batch_size}, n_frames, '
          'n_controls] for controls, with no more frames than samples.'
        )
    signals, done = [], 0
    while done < n_samples:
      size = self._piece_size(n_samples - done, done, hops.values())
      piece = {}
      for key, value in inputs.items():
        if key in self.audio_inputs:
          piece[key] = value[:, done : done + size]
        else:
          frame = done // hops[key] if key in hops else 0
          piece[key] = value[:, frame : frame + 1]
      reached = max(m for m in self._marks if m <= self.position)
      signal, self.states = self._run(piece, self.states, reached)
      if self.position >= self.latency:
        signals.append(signal)
      done += size
      self.position += size
    if not signals:
      return tf.zeros([self.batch_size, 0])
    return tf.concat(signals, axis=1)

  def run(self, inputs, states):
    """Runs one piece from given states on, for training in windows.

    Unlike `process` it keeps nothing, cuts nothing and may be differentiated.

    Args:
      inputs: Inputs of the group by name, as for `process`; controls [batch,
        n_frames, n_controls]. The piece starts where a frame starts and holds
        whole frames.
      states: As `states` after `reset`, or as returned.

    Returns:
      (signal, states).

    Raises:
      ValueError: A group with latency, or a piece of broken frames.
    """
    n_samples = inputs['audio'].shape[1]
    unit = math.lcm(*self._frame_sizes)
    if self.latency or n_samples % unit:
      raise ValueError(
        f'A piece of {n_samples} samples through a group with a latency of '
        f'{self.latency} samples and frames of {unit}: there must be no '
        'latency, and whole frames.'
      )
    return self._run_piece(inputs, states, 0)

  def _piece_size(self, n_left, done, hops):
    """Returns how many samples can be run at once from here on."""
    limits = [n_left]
    limits += [m - self.position for m in self._marks if m > self.position]
    limits += [hop - done % hop for hop in hops]
    size = min(limits)
    unit = math.lcm(*self._frame_sizes)
    if self.position % unit == 0 and size >= unit:
      return size // unit * unit
    return min(
      size, *(f - self.position % f for f in self._frame_sizes if f > 1)
    )

  def _run_piece(self, inputs, states, reached):
    """Runs the nodes whose audio has arrived; returns (signal, states)."""
    states = dict(states)
    outputs = {'inputs': inputs, **inputs}
    module_outputs = {}
    for name, keys, *rest in self._dag:
      values = []
      for key in keys:
        source = key.split('/')[0]
        if self._ends.get(source, 0) > reached:
          continue  # The node has not started either.
        if len(self._dag) == 1 and key not in inputs:
          continue  # An optional input of a single processor.
        value = ddsp.core.nested_lookup(key, outputs)
        if (name, key) in self._delays:
          line = tf.concat([states[f'{name}<{key}'], value], axis=1)
          n_samples = value.shape[1]
          value, states[f'{name}<{key}'] = (
            line[:, :n_samples],
            line[:, n_samples:],
          )
        values.append(value)
      if self._starts[name] > reached:
        continue
      module, state = self._modules[name], states.get(name)
      module_outputs, state = _run_node(module, state, values)
      if not isinstance(module_outputs, dict):
        module_outputs = ddsp.core.to_dict(module_outputs, rest[0])
      outputs[name] = module_outputs
      if hasattr(module, 'stream'):
        states[name] = state
    return module_outputs.get('signal'), states
