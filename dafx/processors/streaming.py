"""Streaming a group: audio that comes in chunks.

Nodes keep the protocol of `node.Node`. `Streamer` takes chunks of any size.
"""

import dataclasses
import functools
import math
from collections.abc import Collection, Mapping
from typing import Any

import ddsp
import tensorflow as tf

from dafx import core
from dafx.processors import dag, splitting
from dafx.processors import node as node_lib


@dataclasses.dataclass(frozen=True)
class _Row:
  """A node as it is streamed: what runs, on what, and what it gives.

  Attributes:
    name: Of the node.
    node: What runs.
    keys: Its inputs.
    part: Slice of the last input that is its own; None for all.
    outputs: Keys of what it returns, where that is no dictionary.
  """

  name: str
  node: node_lib.Node
  keys: list[str]
  part: slice | None = None
  outputs: tuple = ()


def _rows(group) -> list[_Row]:
  """Returns the nodes of a group, or of one processor, as they are streamed."""
  if isinstance(group, ddsp.processors.ProcessorGroup):
    dag.connect_controllers(group)
    nodes = dag.nodes(group)
    wired = [(nodes[row[0]], dag.node_keys(row), *row[2:]) for row in group.dag]
  else:
    node = node_lib.as_node(group)
    wired = [(node, node.inputs)]
  rows = []
  last: dict[str, str] = {}  # node that stands for several: its last one
  for node, keys, *outputs in wired:
    keys = [
      '/'.join([last.get(source, source), *rest])
      for source, *rest in (key.split('/') for key in keys)
    ]
    rows += [
      _Row(part.name, part, own_keys, own, tuple(outputs))
      for part, own_keys, own in node.as_nodes(keys)
    ]
    last[node.name] = rows[-1].name
  dag.check_dag([(row.name, row.keys) for row in rows])
  return rows


class Streamer:
  """Runs a group, or one processor, over audio that comes in chunks.

  Chunks may have any size, and different ones; what comes out is what the
  whole audio gives at once. Nodes keep the protocol of `Node`. DDSP's `Add` and
  `Mix` need not: they keep nothing. `Mix` is exact for a level that is static
  or given for each sample.

  The group is compiled once for each length of a piece into which chunks are
  cut, so equal chunks are fastest, and most of all multiples of the nodes'
  `frame_size`. What depends on weights and controls alone, such as the design
  of a filter, is computed when controls change; weights are read after `reset`.
  What comes out has no gradient; see `run`.

  A node behind another's latency hears its audio late, but controls from
  outside when they come. With `control_step` they are held back as the audio
  is.

  Args:
    group: ProcessorGroup or processor.
    batch_size: Number of items, each a stream of its own.
    audio_inputs: Names of the inputs that have a value for each sample. All
      others are controls.
    control_step: Samples per frame of all controls. Chunks then hold whole
      frames, and nodes behind latency get the frames that their audio had.
    latency_step: Latency of each node is made a multiple of it, by a delay, so
      that frames, and blocks in which plugins run, lie behind it as in the
      whole audio. With `control_step`, a multiple of that.
    is_compiled: Whether to compile. Not to pays for few or unequal chunks, and
      where plugins take most of the time.

  Attributes:
    latency: Samples that stay inside: the first `latency` samples that come in
      give none, from then on each gives one. With what comes out, it is the
      group's `get_signal` but for its last `latency` samples; these come from
      `finish`.

  Raises:
    ValueError: A node that cannot stream, or not behind another's latency; the
      message names it.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import effects, processors
    >>> gain = effects.Gain()
    >>> streamer = processors.Streamer(gain)
    >>> controls = tf.fill([1, 1, 1], 0.5)  # [batch, n_frames, n_controls]
    >>> chunks = [tf.ones([1, n]) for n in (100, 300)]
    >>> [streamer.process(c, controls=controls).shape[1] for c in chunks]
    [100, 300]
  """

  def __init__(
    self,
    group: tf.Module,
    batch_size: int = 1,
    audio_inputs: Collection[str] = ('audio', 'sidechain'),
    control_step: int | None = None,
    latency_step: int = 1,
    is_compiled: bool = True,
  ):
    self._arguments = {
      'group': group,
      'batch_size': batch_size,
      'audio_inputs': audio_inputs,
      'control_step': control_step,
      'latency_step': latency_step,
      'is_compiled': is_compiled,
    }
    self.group = group
    self.batch_size = batch_size
    self.audio_inputs = tuple(audio_inputs)
    self.control_step = control_step
    self.latency_step = math.lcm(latency_step, control_step or 1)
    self._rows = _rows(group)
    self._nodes = {row.name: row.node for row in self._rows}
    for name, node in self._nodes.items():
      if not node.streams:
        raise ValueError(
          f'Node {name!r} ({node.identity}) cannot be streamed: it is no '
          'processors.Node with a `stream`, and none of '
          f"DDSP's {', '.join(c.__name__ for c in node_lib.MEMORYLESS)}. "
          'Process the whole audio at once, or take the node out.'
        )
      if node.control_step not in (None, control_step):
        raise ValueError(
          f'Node {name!r} makes {node.control_step} samples of each frame of '
          f'its controls: stream with control_step={node.control_step}, not '
          f'{control_step}.'
        )
    self._frame_sizes = {node.frame_size for node in self._nodes.values()}
    self._plan_latency()
    self._run = splitting.SplitFunction(self._run_split)
    self._is_compiled = is_compiled
    self.reset()

  def __reduce__(self):
    """Says how copies are made: anew, from the arguments."""
    if self.position:
      raise ValueError(
        f'A stream cannot be copied or pickled at sample {self.position}: what '
        'plugins hold stays where they run. Call reset() before, or finish().'
      )
    return functools.partial(type(self), **self._arguments), ()

  def _plan_latency(self):
    """Finds when each node starts, and what its inputs are delayed by."""
    self._starts: dict[str, int] = {}
    self._ends: dict[str, int] = {}
    self._delays = {}  # samples, or frames of controls, by node and key
    self._paddings = {}  # samples that a node's own signal is delayed by
    for row in self._rows:
      latencies = [self._ends.get(key.split('/')[0], 0) for key in row.keys]
      start = max(latencies, default=0)
      if start % row.node.frame_size:
        raise ValueError(
          f'Node {row.name!r} works in frames of {row.node.frame_size} '
          f'samples, but hears audio that is {start} samples late: its frames '
          'would lie elsewhere than in the whole audio. Put it before the '
          'nodes with latency, take their latency away (oversample=1, '
          'lookahead_ms=0), or make it whole frames (latency_step).'
        )
      for key, latency in zip(row.keys, latencies):
        if latency == start:
          continue
        source = key.split('/')[0]
        if self._is_audio(key):
          self._delays[row.name, key] = start - latency
        elif source not in self._nodes:
          if self.control_step:
            self._delays[row.name, key] = (start - latency) // self.control_step
        elif self._nodes[source].frame_size > 1:
          raise ValueError(
            f'Node {row.name!r} takes audio that is {start} samples late, and '
            f'controls that {source!r} changes in time: they cannot be held '
            'back. Take the latency away (oversample=1, lookahead_ms=0).'
          )
      latency = row.node.latency
      self._paddings[row.name] = -latency % self.latency_step
      self._starts[row.name] = start
      self._ends[row.name] = start + latency + self._paddings[row.name]
    self.latency = self._ends[self._rows[-1].name]
    self._marks = sorted({0, *self._starts.values(), *self._ends.values()})

  def _is_audio(self, key):
    return key.endswith('/signal') or key.split('/')[-1] in self.audio_inputs

  def reset(self):
    """Goes back to before the first sample."""
    self.position = 0
    self._run.forget()
    self._last = {}  # the inputs of the last chunk
    self.states = {
      name: node.initial_state(self.batch_size)
      for name, node in self._nodes.items()
    }

  def process(self, audio: tf.Tensor, **inputs) -> tf.Tensor:
    """Takes the next chunk.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      **inputs: Other inputs of the group by name. Those in `audio_inputs` have
        the shape of the audio; controls are [batch, n_controls], or [batch,
        n_frames, n_controls] where they change within the chunk.

    Returns:
      The group's signal, [batch, n_samples(, n_channels)], but for `latency`
      samples less at the start; [batch, 0] where there is none.

    Raises:
      ValueError: Inputs of another batch size or length than the audio's, or
        frames of another size than `control_step`.
    """
    inputs = {'audio': audio, **inputs}
    for key, value in inputs.items():
      is_audio = key in self.audio_inputs
      read = core.audio_tensor if is_audio else core.number_tensor
      inputs[key] = read(key, value)
    n_samples = inputs['audio'].shape[1]
    hops = {}
    for key, value in inputs.items():
      if key in self.audio_inputs:
        fits = value.shape.rank in (2, 3) and value.shape[1] == n_samples
      else:
        if value.shape.rank == 2:
          inputs[key] = value = tf.expand_dims(value, 1)
        fits = value.shape.rank == 3 and 1 <= value.shape[1] <= n_samples
        if fits and self.control_step:
          hops[key] = self.control_step
          fits = value.shape[1] * self.control_step == n_samples
        elif fits and value.shape[1] > 1:
          hops[key] = -(-n_samples // value.shape[1])
      if not fits or value.shape[0] != self.batch_size:
        step = self.control_step
        raise ValueError(
          f'{key} has shape {value.shape} beside {n_samples} samples of audio. '
          f'It must be [{self.batch_size}, {n_samples}] for audio and '
          f'[{self.batch_size}, n_controls] or [{self.batch_size}, n_frames, '
          'n_controls] for controls, with '
          + (f'a frame for each {step}' if step else 'no more frames than')
          + ' samples.'
        )
    signals, done = [], 0
    while done < n_samples:
      size = self._piece_size(n_samples - done, done, hops.values())
      piece = {}
      for key, value in inputs.items():
        start, stop = done, done + size
        if key not in self.audio_inputs:
          start = done // hops[key] if key in hops else 0
          stop = start + max(1, size // hops.get(key, size))
        is_all = stop - start == value.shape[1]
        piece[key] = value if is_all else value[:, start:stop]
      signals += self._take_piece(piece, size)
      done += size
    self._last = inputs
    if not signals:
      return tf.zeros([self.batch_size, 0])
    return signals[0] if len(signals) == 1 else tf.concat(signals, axis=1)

  def finish(self) -> tf.Tensor:
    """Ends the stream, as `get_signal` ends: to each node, with silence.

    Controls stay at their last frame. Then all is as after `reset`.

    Returns:
      The last samples of the group's signal, as many as stayed inside.
    """
    end = self.position
    starts = sorted(set(self._starts.values()))
    signals = []
    while self.position < end + self.latency:
      size = self._piece_size(
        end + self.latency - self.position, 0, (), [end + s for s in starts]
      )
      ended = max(s for s in starts if end + s <= self.position)
      n_frames = size // self.control_step if self.control_step else 1
      piece = {
        key: tf.repeat(value[:, -1:] * 0.0, size, axis=1)
        if key in self.audio_inputs
        else tf.repeat(value[:, -1:], n_frames, axis=1)
        for key, value in self._last.items()
      }
      signals += self._take_piece(piece, size, ended)
    self.reset()
    if not signals:
      return tf.zeros([self.batch_size, 0])
    return tf.concat(signals, axis=1)

  def run(
    self, inputs: Mapping[str, tf.Tensor], states: dict[str, Any]
  ) -> tuple[tf.Tensor, dict[str, Any]]:
    """Runs one piece from given states on, for training in windows.

    Unlike `process` it keeps nothing, cuts nothing and may be differentiated.

    Args:
      inputs: Inputs of the group by name, as for `process`; controls [batch,
        n_frames, n_controls]. The piece starts where a frame starts and holds
        whole frames, or all pieces have one size, and frames hold whole pieces.
      states: As `states` after `reset`, or as returned.

    Returns:
      (signal, states).

    Raises:
      ValueError: A group with latency, or a piece of broken frames.
    """
    n_samples = inputs['audio'].shape[1]
    unit = math.lcm(*self._frame_sizes)
    fits = all(
      n_samples % size == 0 or size % n_samples == 0
      for size in self._frame_sizes
    )
    if self.latency or not fits:
      raise ValueError(
        f'A piece of {n_samples} samples through a group with a latency of '
        f'{self.latency} samples and frames of {unit}: there must be no '
        'latency, and whole frames.'
      )
    return self._run_piece(inputs, states, 0)

  def _piece_size(self, n_left, done, hops, marks=()):
    """Returns how many samples can be run at once from here on."""
    marks = [m for m in [*self._marks, *marks] if m > self.position]
    size = min([n_left, *(m - self.position for m in marks)])
    unit = math.lcm(*self._frame_sizes, *hops)
    is_start = self.position % math.lcm(*self._frame_sizes) == 0
    if is_start and size >= unit and not any(done % hop for hop in hops):
      return size // unit * unit
    return min(
      size,
      *(f - self.position % f for f in self._frame_sizes if f > 1),
      *(hop - done % hop for hop in hops),
    )

  def _take_piece(self, piece, size, ended=-1):
    """Runs a piece from the present state on; returns [signal] if it has one.

    Args:
      piece: Inputs by name.
      size: Its number of samples.
      ended: Nodes that start so late, or earlier, hear silence from now on.
    """
    reached = max(m for m in self._marks if m <= self.position)
    controls = {k: x for k, x in piece.items() if k not in self.audio_inputs}
    audio = {k: x for k, x in piece.items() if k in self.audio_inputs}
    if self._is_compiled:
      signal, self.states = self._run(
        (audio, self.states), controls, reached, ended
      )
    else:
      signal, self.states = self._run_piece(piece, self.states, reached, ended)
    is_out = self.position >= self.latency
    self.position += size
    return [signal] if is_out else []

  def _run_split(self, moving, controls, reached, ended):
    """As `_run_piece`, for `SplitFunction`: what changes, and what holds."""
    audio, states = moving
    return self._run_piece({**audio, **controls}, states, reached, ended)

  def _run_piece(self, inputs, states, reached, ended=-1):
    """Runs the nodes whose audio has arrived; returns (signal, states)."""
    states = dict(states)
    outputs = {'inputs': inputs, **inputs}
    node_outputs: dict = {}

    def delayed(line, value, n):
      """Returns what came n entries ago; the line is made at its first."""
      if line not in states:
        states[line] = tf.repeat(tf.zeros_like(value[:, :1]), n, axis=1)
      values = tf.concat([states[line], value], axis=1)
      states[line] = values[:, value.shape[1] :]
      return values[:, : value.shape[1]]

    for row in self._rows:
      values = []
      for key in row.keys:
        source = key.split('/')[0]
        if self._ends.get(source, 0) > reached:
          continue  # The node has not started either.
        if len(self._rows) == 1 and key not in inputs:
          continue  # An optional input of a single processor.
        value = ddsp.core.nested_lookup(key, outputs)
        if row.part is not None and key == row.keys[-1]:
          value = value[..., row.part]
        if (row.name, key) in self._delays:
          n = self._delays[row.name, key]
          value = delayed(f'{row.name}<{key}', value, n)
        if self._starts[row.name] <= ended and self._is_audio(key):
          value = tf.zeros_like(value)
        values.append(value)
      if self._starts[row.name] > reached:
        continue
      state = states.get(row.name)
      node_outputs, state = row.node.stream_outputs(state, *values)
      if not isinstance(node_outputs, dict):
        node_outputs = ddsp.core.to_dict(node_outputs, row.outputs[0])
      if self._paddings[row.name]:
        signal = node_outputs['signal']
        n = self._paddings[row.name]
        node_outputs['signal'] = delayed(f'{row.name}>', signal, n)
      node_outputs, states[row.name] = self._settled(
        row.name, node_outputs, states.get(row.name), state
      )
      outputs[row.name] = node_outputs
    return node_outputs.get('signal'), states

  def _settled(self, name, node_outputs, before, after):
    """Returns outputs and state of a node, as they are gone on with."""
    del name, before
    return node_outputs, after
