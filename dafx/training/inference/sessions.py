"""What was set for a file, as a session of a DAW; see `dafx.sessions`."""

import pathlib
from collections.abc import Mapping

import ddsp
import numpy as np

from dafx import lv2, processors, sessions
from dafx.audio import sources
from dafx.training.models import outputs, rendering


def chain_of(group: ddsp.processors.ProcessorGroup) -> list[processors.Node]:
  """Returns the plugins of a graph that is a chain of LV2 plugins.

  Args:
    group: The graph.

  Raises:
    ValueError: It is not: a node is no plugin, or takes more than the audio of
      the one before it.

  Examples:
    >>> from dafx import effects, processors
    >>> from dafx.training.inference import sessions
    >>> group = processors.ProcessorGroup([(effects.Gain(), ['audio', 'c'])])
    >>> sessions.chain_of(group)
    Traceback (most recent call last):
    ValueError: 'gain' is no LV2 plugin but Gain...
  """
  driven = processors.controlled_inputs(group)
  nodes = processors.nodes(group)
  found: list[processors.Node] = []
  before = 'audio'
  for row in group.dag:
    node = nodes[row[0]]
    for member in node.members:
      if member.uri is None:
        raise ValueError(
          f'{member.name!r} is no LV2 plugin but {member.identity}, which no '
          'DAW has; a session holds LV2 plugins in a row. Go on without one.'
        )
    keys = [key.removeprefix('inputs/') for key in processors.node_keys(row)]
    taken = [key.split('/')[0] for key in keys if key not in driven]
    if taken != [before]:
      raise ValueError(
        f'{node.name!r} takes {", ".join(taken)}, not {before} alone; a '
        'session holds LV2 plugins in a row. Go on without one.'
      )
    found += node.members
    before = node.name
  return found


def make(
  group: ddsp.processors.ProcessorGroup,
  name: str,
  audio: sources.Source,
  values: Mapping[str, Mapping[str, float]],
  moving: Mapping[str, Mapping[str, sessions.Automation]] | None = None,
  target: sources.Source | None = None,
  gain_db: float = 0.0,
) -> sessions.Session:
  """Returns a graph and how it is set as a session.

  Args:
    group: The graph; it runs at the rate of the audio.
    name: Name of the session.
    audio: What goes into the graph.
    values: In port units, {name of the node: {symbol: value}}. Plugins that are
      not named are left out.
    moving: Controls that move, {name of the node: {symbol: automation}}.
    target: What it is compared with.
    gain_db: Gain before the graph, in dB.

  Raises:
    ValueError: A graph that no session holds; the message says why.
  """
  moving = moving or {}
  with rendering.at_rate(group, audio.sample_rate):
    plugins = [
      sessions.Plugin(
        str(node.uri), {**_held(node), **values[node.name]},
        moving.get(node.name, {}), node.latency, node.parameter_values,
        node.state_preset,
      )
      for node in chain_of(group)
      if node.name in values
    ]  # fmt: skip
  return sessions.Session(name, plugins, audio, target, gain_db)


def _held(node):
  """Returns values of ports that nobody sets, where these are no defaults."""
  ports = lv2.get_plugin(node.uri).at_rate(node.sample_rate).controls
  return {
    symbol: value
    for symbol, value in node.port_values.items()
    if value != np.float32(ports[symbol].default)
  }


def of_rendering(made: rendering.Rendering, name: str) -> sessions.Session:
  """Returns what a model set for a file as a session.

  It has the rate that the graph runs at.

  Args:
    made: The rendering.
    name: Name of the session.

  Raises:
    ValueError: Nothing was set, or a graph that no session holds.
  """
  if made.group is None:
    raise ValueError('Nothing was set, so there is nothing for a session.')
  values: dict[str, dict[str, float]] = {}
  moving: dict[str, dict[str, sessions.Automation]] = {}
  idle = list(processors.controlled_inputs(made.group).values())
  for node in chain_of(made.group):
    is_set = node in made.automation.nodes
    if node in idle and not is_set:
      continue
    known = outputs.control_map_of(node)
    values[node.name] = dict(known.fixed)
    if not is_set:
      continue
    frames = made.automation.points[node.name]
    for i, symbol in enumerate(known.symbols):
      if made.automation.moves and len(frames) > 1:
        moving.setdefault(node.name, {})[symbol] = sessions.Automation(
          made.automation.point_times_s, frames[:, i], bool(known.is_log[i])
        )
      else:
        values[node.name][symbol] = float(frames[0, i])
  return make(made.group, name, made.heard, values, moving)


def folder_of(base: pathlib.Path) -> pathlib.Path:
  """Returns where the session of an output lies; `base` has no suffix."""
  return base.with_name(f'{base.name}_session')


def write(session: sessions.Session, base: pathlib.Path) -> str:
  """Writes the session of an output; see `sessions.write`.

  Args:
    session: The session.
    base: Path of the output, without its suffix.

  Returns:
    What is in it and how to open it, for people.
  """
  notes = sessions.find_host_dependence(session)
  folder = sessions.write(session, folder_of(base), notes)
  return '\n  '.join([sessions.describe(session, folder), *notes])
