"""Groups of processors: DDSP's, with the checks that it lacks.

DDSP's `ProcessorGroup` runs a list of nodes (processor, input keys). It takes
two nodes of one name for one, and finds a wrong key only when it runs. In gin,
`processors.ProcessorGroup` stays DDSP's class; the models of `dafx.training`
check the group that they are given. In Python, `ProcessorGroup` of this module
checks itself.
"""

from collections.abc import Collection, Iterable

import ddsp
import tensorflow as tf

RESERVED_NAMES = ('inputs', 'out')


def _node_name(node) -> str:
  module = node[0]
  return module if isinstance(module, str) else module.name


def _node_keys(node) -> list[str]:
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
    for key in _node_keys(node):
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
    for key in _node_keys(node):
      parts = key.split('/')
      if parts[0] in names:
        continue
      name = parts[1] if parts[0] == 'inputs' and len(parts) > 1 else parts[0]
      if name not in found:
        found.append(name)
  return found


class ProcessorGroup(ddsp.processors.ProcessorGroup):
  """DDSP's ProcessorGroup, checked when it is built.

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


def nodes(group: ddsp.processors.ProcessorGroup) -> dict[str, tf.Module]:
  """Returns the processors of a group by name, in the order they run."""
  return {_node_name(node): getattr(group, node[0]) for node in group.dag}
