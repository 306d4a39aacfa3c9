"""Groups of processors: DDSP's, with the checks that it lacks, and streaming.

DDSP's `ProcessorGroup` runs a list of nodes (processor, input keys). It takes
two nodes of one name for one, and finds a wrong key only when it runs. In gin,
`processors.ProcessorGroup` stays DDSP's class; the models of `dafx.training`
check the group that they are given. In Python, `ProcessorGroup` of this package
checks itself. `Streamer` runs groups over audio that comes in chunks.
"""

from dafx.processors.blocks import BlockStreamer
from dafx.processors.dag import (
  ProcessorGroup,
  bypass_nodes,
  check_dag,
  connect_controllers,
  controlled_inputs,
  input_names,
  modules,
  node_keys,
  nodes,
)
from dafx.processors.layers import (
  Layer,
  Processor,
  Rebuildable,
  name_inputs,
  register_record,
)
from dafx.processors.node import Node, as_node
from dafx.processors.streaming import Streamer

__all__ = [
  'BlockStreamer',
  'Layer',
  'Node',
  'Processor',
  'ProcessorGroup',
  'Rebuildable',
  'Streamer',
  'as_node',
  'bypass_nodes',
  'check_dag',
  'connect_controllers',
  'controlled_inputs',
  'input_names',
  'modules',
  'name_inputs',
  'node_keys',
  'nodes',
  'register_record',
]
