"""What the nodes of a graph can do, declared by their classes."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import ddsp
import tensorflow as tf

from dafx import core


class Node:
  """A node of a graph; all of dafx's processors and controllers are such.

  A class that is a Node declares here what it can do, and whoever runs a graph
  asks nothing else of it. What a class does not declare it has not: the
  attributes below have values that mean so.

  Streaming is what `initial_state` and `stream` are for. A processor's
  `get_signal` is its `stream` from the initial state on, so that there is one
  path for training, evaluation and streaming. Whoever calls `stream` sees to it
  that a chunk either lies within one frame of `frame_size` samples, or starts
  where a frame starts and holds whole frames. `Streamer` does: it takes chunks
  of any size.

  Attributes:
    name: Its name in the graph, which Keras gives it.
    control_map: How controls in [0, 1] set the node; None for a node that is
      not set from outside. The input behind the audio is the controls.
    identity: What it is, in a word: the URI of a plugin, otherwise the class.
    uri: Of the LV2 plugin that the node is; None for others.
    is_black_box: Whether it is rendered outside of TensorFlow.
    is_isolated: Whether that is in processes of its own, so that a crash there
      is an error, which names the item (`lv2.CrashError`).
    takes_channels: Whether audio may be [batch, n_samples, n_channels] too.
    sample_rate: Rate of the audio in Hz; None for a node that works at any.
    has_free_rate: Whether `set_sample_rate` takes other rates.
    run_seed: Seed of the run, which a training sets. Nodes that draw random
      numbers mix their name into it.
    workers: Who trains the graph, which a training sets; `core.Workers()` for
      this process alone.
    latency: Samples by which what `stream` returns is late; `get_signal` takes
      them out.
    frame_size: Samples per frame, of a node that works in frames. Frames start
      at multiples of it. What a node gives for a frame may depend on the audio
      before that frame only, so that it is known when the frame begins.
    control_step: Samples per frame of its controls, of a synthesiser that makes
      so many samples of each; None for a node whose audio has a length.
    block_size: Samples that are rendered at a time; the result may depend on
      where such blocks start.
    receptive_field: Samples that one sample of output depends on: 1 for a node
      without memory, None for one that has a state without bounds.
    n_knobs: Number of knobs that it takes.
    macs_per_sample: Multiply-accumulates per sample of audio; None if unknown.
    has_variables: Whether all its variables are there before its first call.
    learns_start: Whether its state before the first sample is trained.
    state_preset: URI of a preset of which a plugin has more than values of
      ports, such as files; '' for none.

  Examples:
    >>> from dafx import effects, processors
    >>> gain = effects.Gain()
    >>> isinstance(gain, processors.Node)
    True
    >>> gain.streams, gain.latency, gain.inputs
    (True, 0, ['audio', 'controls'])
    >>> gain.control_map.describe()['gain_db']
    'from -40 to 40'
  """

  name: str
  control_map: core.ControlMap | None = None
  uri: str | None = None
  is_black_box = False
  is_isolated = False
  takes_channels = False
  sample_rate: float | None = None
  has_free_rate = False
  run_seed = 0
  workers: core.Workers = core.Workers()
  latency = 0
  frame_size = 1
  control_step: int | None = None
  block_size = 1
  receptive_field: int | None = 1
  n_knobs = 0
  macs_per_sample: float | None = None
  has_variables = True
  learns_start = False
  state_preset = ''

  @property
  def identity(self) -> str:
    """What the node is, in a word."""
    return type(self).__name__

  @property
  def title(self) -> str:
    """What figures are headed with."""
    return self.name

  @property
  def members(self) -> Sequence['Node']:
    """The nodes that it stands for: itself, or the plugins of a chain."""
    return [self]

  @property
  def version(self) -> str:
    """Version of the plugin that the node is; '' for others."""
    return ''

  @property
  def port_values(self) -> Mapping[str, float]:
    """Values of a plugin's ports that nobody sets: its defaults, by symbol."""
    return {}

  @property
  def parameter_values(self) -> Mapping[str, Any]:
    """What a plugin was given beyond its ports, such as files, by URI."""
    return {}

  def hold_ports(self, values: Mapping[str, float]):
    """Sets ports of `port_values` to what they were in another version.

    Args:
      values: In port units, by symbol.

    Raises:
      ValueError: A value that this version of the plugin does not take.
    """
    del values

  @property
  def inputs(self) -> list[str]:
    """Names of the inputs of a node, in order."""
    # `call` and `get_controls` are those of the Keras layer that a node is.
    call = self.call  # type: ignore[attr-defined]
    parameters = inspect.signature(call).parameters.values()
    return [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]

  @property
  def streams(self) -> bool:
    """Whether the class has a `stream`."""
    return type(self).stream is not Node.stream

  def n_channels_out(self, n_channels: int) -> int:
    """Returns the number of channels that come out; those that go in.

    Args:
      n_channels: Number of channels that go in.

    Raises:
      ValueError: The node does not take so many.
    """
    return n_channels

  def set_sample_rate(self, sample_rate: float):
    """Goes on at another rate of the audio; controls keep their meaning.

    Args:
      sample_rate: In Hz.

    Raises:
      ValueError: The node works at one rate only.
    """
    if self.sample_rate not in (None, sample_rate):
      raise ValueError(
        f'{self.name!r} works at {self.sample_rate:g} Hz, not at '
        f'{sample_rate:g} Hz. Convert the audio, or make it with '
        f'sample_rate={sample_rate:g}.'
      )

  def run_members(self, n_members: int):
    """Has only the first ones of `members` run; of use to a chain only.

    Args:
      n_members: How many of them, at least one.
    """
    del n_members

  def values_of_members(self, controls: tf.Tensor) -> dict:
    """Splits controls into those of each of `members` that runs.

    Args:
      controls: In port units, shape [..., n]; array or tensor.

    Returns:
      {name of the member: its controls}.
    """
    return {self.name: controls}

  @property
  def length(self) -> int | None:
    """Samples that a synthesiser makes; None for what takes audio."""
    return None

  def set_length(self, n_samples: int):
    """Prepares for audio of a length; only a synthesiser has to know it.

    Args:
      n_samples: Samples of an item.
    """
    del n_samples

  def initial_state(self, batch_size: int) -> Any:
    """Returns the state before the first sample, a nest of tensors."""
    del batch_size
    return ()

  def stream(self, state: Any, **controls):
    """Processes the next chunk.

    Args:
      state: From `initial_state` or from the chunk before.
      **controls: As `get_signal` takes them.

    Returns:
      (signal, state).

    Raises:
      ValueError: The node does not stream; `streams` says so.
    """
    raise ValueError(
      f'{self.identity} does not stream. Call it with the whole audio.'
    )

  def stream_outputs(self, state: Any, *inputs) -> tuple[dict, object]:
    """Runs the next chunk, from the inputs to the outputs of the node.

    Args:
      state: From `initial_state` or from the chunk before.
      *inputs: Inputs of the node, in order.

    Returns:
      ({'signal', 'controls'}, state), as a group names them.
    """
    controls = self.get_controls(*inputs)  # type: ignore[attr-defined]
    signal, state = self.stream(state, **controls)
    return {'signal': signal, 'controls': controls}, state

  def as_nodes(self, keys: Sequence[str]) -> list[tuple]:
    """Returns the nodes of a graph that are streamed in its place.

    Args:
      keys: Its inputs.

    Returns:
      (node, input keys, slice of the last input that is its own or None) of
      each. The last one's signal is that of this node.
    """
    return [(self, list(keys), None)]

  def drive(self, node: 'Node'):
    """Learns which node takes its controls; only a controller has to.

    Args:
      node: The node that takes them.
    """
    del node

  def gradient_figures(self) -> Mapping[str, float]:
    """Returns figures of the last gradient that was estimated, by name."""
    return {}


# DDSP's nodes whose output depends on the samples of the moment alone.
MEMORYLESS = (ddsp.processors.Add, ddsp.processors.Mix)


class ForeignNode(Node):
  """A processor or layer that is no `Node`, such as DDSP's, as one.

  This is the one place that asks an object what it has.

  Args:
    module: The processor or layer.
  """

  takes_channels = True  # most of DDSP's do

  def __init__(self, module):
    self.module = module
    self.name = module.name
    self.sample_rate = getattr(module, 'sample_rate', None)
    if not isinstance(module, MEMORYLESS):
      self.receptive_field = None
    is_processor = isinstance(module, ddsp.processors.Processor)
    self.call = module.get_controls if is_processor else module.call

  @property
  def identity(self) -> str:
    """Name of the class."""
    return type(self.module).__name__

  @property
  def has_variables(self) -> bool:
    """Whether it was called: Keras makes the variables of a layer then."""
    return self.module.built or isinstance(self.module, MEMORYLESS)

  @property
  def streams(self) -> bool:
    """Whether it keeps nothing from one sample to the next."""
    return isinstance(self.module, MEMORYLESS)

  @property
  def length(self) -> int | None:
    """The length that DDSP's synthesisers make."""
    return getattr(self.module, 'n_samples', None)

  def set_length(self, n_samples: int):
    """Sets the length that DDSP's synthesisers make."""
    if self.length is not None:
      self.module.n_samples = n_samples

  def stream_outputs(self, state, *inputs):
    """Runs the next chunk of a module without a state."""
    controls = self.module.get_controls(*inputs)
    signal = self.module.get_signal(**controls)
    return {'signal': signal, 'controls': controls}, state


def as_node(module: tf.Module) -> Node:
  """Returns a module as a `Node`: itself, or one that stands for it.

  Examples:
    >>> from dafx import processors
    >>> node = processors.as_node(ddsp.processors.Add())
    >>> node.streams, node.identity
    (True, 'Add')
  """
  return module if isinstance(module, Node) else ForeignNode(module)
