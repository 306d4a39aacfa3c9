"""Groups of processors: DDSP's, with the checks that it lacks."""

from collections.abc import Collection, Iterable, Sequence

import ddsp
import tensorflow as tf

from dafx.processors import layers
from dafx.processors import node as node_lib

RESERVED_NAMES = ('inputs', 'out')


def _node_name(node) -> str:
  module = node[0]
  return module if isinstance(module, str) else module.name


def node_keys(node: Sequence) -> list[str]:
  """Returns the keys of the inputs of a node of a DAG.

  Examples:
    >>> from dafx import processors
    >>> processors.node_keys(('limiter', ['audio', 'limiter_controls']))
    ['audio', 'limiter_controls']
  """
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

  Examples:
    >>> from dafx import processors
    >>> processors.check_dag([('limiter', ['audio']), ('limiter', ['audio'])])
    Traceback (most recent call last):
    ValueError: Nodes 0 and 1 of the DAG are both named 'limiter': ...
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
  """Returns the names of the inputs that a DAG asks for, in order of use.

  Examples:
    >>> from dafx import effects, processors
    >>> dag = [
    ...   (effects.Const(1), ['audio']),
    ...   (effects.Gain(), ['audio', 'const/controls']),
    ... ]
    >>> processors.input_names(dag)
    ['audio']
  """
  dag = list(dag)
  names = {_node_name(node) for node in dag}
  found = []
  for node in dag:
    for key in node_keys(node):
      parts = key.split('/')
      if parts[0] in names or (len(parts) > 1 and parts[0] != 'inputs'):
        continue  # of a node, there or not
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

  Examples:
    >>> from dafx import processors
    >>> dag = [
    ...   ('equalizer', ['audio', 'a']),
    ...   ('limiter', ['equalizer/signal', 'b']),
    ... ]
    >>> processors.bypass_nodes(dag, ['equalizer'])
    [('limiter', ['audio', 'b'])]
  """
  dag = list(dag)
  known = [_node_name(node) for node in dag]
  unknown = sorted(set(names) - set(known))
  if unknown:
    raise ValueError(
      f'No nodes of the DAG are {unknown}; its nodes are {known}.'
    )
  # Key of a bypassed node's signal: where it comes from.
  source_of: dict[str, str] = {}
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
  needed = {output}
  pruned: list[tuple] = []
  for node in reversed(kept):
    if _node_name(node) in needed:
      needed |= {key.split('/')[0] for key in node[1]}
      pruned.insert(0, node)
  if not pruned or _node_name(pruned[-1]) != output:
    raise ValueError(
      f'Nothing is left of the DAG {known} without {sorted(names)}.'
    )
  return pruned


class ProcessorGroup(layers.Rebuildable, ddsp.processors.ProcessorGroup):
  """DDSP's ProcessorGroup, checked and its controllers connected when built.

  Args:
    dag: Nodes (processor, input keys), sorted; see DDSP.
    inputs: Names of the group's inputs, if they are to be checked too.
    **kwargs: As DDSP's: processors by name, and Keras arguments.

  Raises:
    ValueError: A DAG that cannot run as it reads; see `check_dag`.

  Examples:
    >>> from dafx import effects, processors
    >>> dag = [
    ...   (effects.Const(1), ['audio']),
    ...   (effects.Gain(), ['audio', 'const/controls']),
    ... ]
    >>> import tensorflow as tf
    >>> group = processors.ProcessorGroup(dag)
    >>> group({'audio': tf.zeros([1, 1000])}).shape
    TensorShape([1, 1000])
  """

  def __init__(
    self, dag: Iterable, inputs: Collection[str] | None = None, **kwargs
  ):
    check_dag(dag, inputs)
    super().__init__(dag=dag, **kwargs)
    connect_controllers(self)


def modules(group: ddsp.processors.ProcessorGroup) -> dict[str, tf.Module]:
  """Returns the processors of a group by name, in the order they run.

  Examples:
    >>> from dafx import effects, processors
    >>> dag = [
    ...   (effects.Const(1), ['audio']),
    ...   (effects.Gain(), ['audio', 'const/controls']),
    ... ]
    >>> list(processors.modules(processors.ProcessorGroup(dag)))
    ['const', 'gain']
  """
  return {_node_name(row): getattr(group, row[0]) for row in group.dag}


def nodes(group: ddsp.processors.ProcessorGroup) -> dict[str, node_lib.Node]:
  """Returns the processors of a group as nodes, by name, in their order.

  Examples:
    >>> from dafx import effects, processors
    >>> dag = [
    ...   (effects.Const(1), ['audio']),
    ...   (effects.Gain(), ['audio', 'const/controls']),
    ... ]
    >>> list(processors.nodes(processors.ProcessorGroup(dag)))
    ['const', 'gain']
  """
  return {n: node_lib.as_node(module) for n, module in modules(group).items()}


def connect_controllers(group: ddsp.processors.ProcessorGroup):
  """Tells each controller of a group what it drives.

  A controller (`Node.drive`) drives the processors that take their controls
  from it. So a .gin file names nodes and wires, and no sizes. Connecting once
  more changes nothing.

  Args:
    group: Group of nodes.

  Raises:
    ValueError: A controller whose processors have different controls.

  Examples:
    >>> from dafx import effects, processors
    >>> dag = [
    ...   (effects.Const(1), ['audio']),
    ...   (effects.Gain(), ['audio', 'const/controls']),
    ... ]
    >>> import ddsp
    >>> group = ddsp.processors.ProcessorGroup(dag=dag)
    >>> processors.connect_controllers(group)  # the knob now knows what it sets
    >>> group.const.n_controls
    1
  """
  found = nodes(group)
  for row in group.dag:
    processor = found[row[0]]
    if processor.control_map is None:
      continue
    for key in node_keys(row):
      source, *rest = key.split('/')
      if rest == ['controls'] and source in found:
        found[source].drive(processor)


def _needed_inputs(name, members) -> str:
  """Says which inputs a node takes."""
  if len(members) == 1:
    return f"two, audio and controls, such as ['audio', '{name}_controls']."
  controls = ', '.join(f"'{m.name}_controls'" for m in members)
  return f"audio and the controls of each plugin: ['audio', {controls}]."


def controlled_inputs(
  group: ddsp.processors.ProcessorGroup,
) -> dict[str, node_lib.Node]:
  """Finds which inputs of a group set which nodes.

  >>> from dafx import effects, processors
  >>> gain = effects.Gain(name='gain')
  >>> group = processors.ProcessorGroup([(gain, ['audio', 'gain_controls'])])
  >>> list(processors.controlled_inputs(group))
  ['gain_controls']

  Args:
    group: Group of nodes.

  Returns:
    {input of the group: the node whose controls it is}, in the order of the
    nodes. Of a chain, each member has an input of its own.

  Raises:
    ValueError: A node with other inputs than it takes, or an input that sets
      two nodes or is audio.
  """
  free = set(input_names(group.dag))
  driven: dict = {}
  found = nodes(group)
  for name, inputs, *_ in group.dag:
    node = found[name]
    if node.control_map is None:
      continue
    members = node.members
    keys = node_keys((name, inputs))[1:]
    if not keys and not node.control_map.n_controls:
      continue
    if len(keys) < len(members) or len(keys) > len(members) > 1:
      raise ValueError(
        f'Node {name!r} of the DAG has the inputs {inputs!r}; it takes '
        + _needed_inputs(name, members)
      )
    for key, member in zip(keys, members):
      key = key.removeprefix('inputs/')
      if key not in free:
        continue  # from another node
      if key in driven or key in ('audio', 'target'):
        known = f'are those of {driven[key].name!r}' if key in driven else ''
        raise ValueError(
          f'Node {member.name!r} of the DAG takes {key!r} as its controls, '
          f'which {known or "is audio"}. Name them for it '
          f"alone, such as '{member.name}_controls'."
        )
      driven[key] = member
  return driven


def describe(group: ddsp.processors.ProcessorGroup) -> str:
  """Says which node gets what; plugins of a chain as nodes in a row."""
  lines: list[str] = []
  renamed: dict[str, str] = {}
  for row, node in zip(group.dag, nodes(group).values(), strict=True):
    audio, *controls = [renamed.get(k, k) for k in node_keys(row)]
    is_each = len(controls) == len(node.members) > 1
    for i, member in enumerate(node.members):
      own = controls[i : i + 1] if is_each else controls
      lines.append(f'{", ".join([audio, *own])} -> {member.name}')
      audio = f'{member.name}/signal'
    renamed[f'{node.name}/signal'] = audio
  return '; '.join(lines)
