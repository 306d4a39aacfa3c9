"""Which controls of a plugin may be trained, and why others may not."""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dafx.lv2 import inputs, parameters, processes, renderer, world
from dafx.lv2 import ports as ports_lib

# Hosts, not users, set the ports of this vocabulary, such as the tempo.
_TIME = 'http://lv2plug.in/ns/ext/time#'
# Switches that are moved at once in the search for what moves the latency.
_SWITCHES_AT_ONCE = 8
_DISPLAY = re.compile(r'\b(analy[sz]er|display|fft|graph|zoom)\b')


def reason_not_to_train(port: ports_lib.Port) -> str:
  """Returns why a control is better left alone by what it says, or ''.

  Examples:
    >>> from dafx import lv2
    >>> equaliser = lv2.get_plugin(
    ...   'http://lsp-plug.in/plugins/lv2/graph_equalizer_x16_mono'
    ... )
    >>> lv2.reason_not_to_train(equaliser.control('zoom'))
    'changes what is displayed, by its name, not the sound'
  """
  name = f'{port.symbol.replace("_", " ")} {port.name}'.lower()
  if port.designation.startswith(_TIME):
    return 'the host sets it'
  if not port.is_discrete and _DISPLAY.search(name):
    return 'changes what is displayed, by its name, not the sound'
  return ''


def moves_of_latency(
  uri: str,
  sample_rate: float,
  symbols: Sequence[str],
  fixed: Mapping[str, Any] | None = None,
  block_size: int = 1024,
  isolation: str = 'thread',
  time_limit_s: float = 60.0,
  preset: str | None = None,
) -> dict[str, tuple[int, int]]:
  """Finds the controls that move the latency of a plugin, by rendering.

  The latency is taken out as it is at the defaults, so training one of these
  would move the sound in time. What a plugin reports is looked at; where it
  reports nothing and is late at its defaults, that is measured.

  Args:
    uri: URI of the plugin.
    sample_rate: In Hz.
    symbols: Of the controls to try.
    fixed: Values of others, as of `Renderer`.
    block_size: Largest number of samples per run.
    isolation: 'thread', or 'process' for plugins that may crash.
    time_limit_s: With isolation='process', seconds after which it counts as
      hung.
    preset: A preset in place of the defaults, as of `Renderer`.

  Returns:
    (lowest, highest) latency in samples, by symbol.

  Raises:
    errors.PluginError: The plugin cannot be run, or crashes in its process.

  Examples:
    >>> from dafx import lv2
    >>> limiter = 'http://lsp-plug.in/plugins/lv2/limiter_mono'
    >>> list(lv2.moves_of_latency(limiter, 44100, ['th', 'lk']))
    ['lk']
  """
  inputs.check_sample_rate(sample_rate)
  plugin = world.get_plugin(uri).at_rate(sample_rate)
  ports, kept = parameters.split(fixed or {})
  for symbol, value in ports.items():
    inputs.check_value(plugin, symbol, value)
  kept = parameters.resolve(plugin.parameters, kept, uri)
  values = {symbol: float(value) for symbol, value in ports.items()} | kept
  pairs = tuple(sorted(values.items()))
  symbols = tuple(symbols)
  how = (isolation, time_limit_s, preset)
  return dict(_moves(uri, float(sample_rate), symbols, pairs, block_size, *how))


@functools.cache  # the same plugin is often made again
def _moves(
  uri, sample_rate, symbols, fixed, block_size, isolation, time_limit_s, preset
):
  if not symbols:
    return {}
  arguments = dict(
    uri=uri,
    sample_rate=sample_rate,
    symbols=list(symbols),
    fixed=dict(fixed),
    block_size=block_size,
    preset=preset,
  )
  if isolation == 'thread':
    moves = find_moves_of_latency(**arguments)
  else:
    moves = processes.call(
      __name__, 'find_moves_of_latency', arguments, time_limit_s
    )
  return {symbol: (low, high) for symbol, (low, high) in moves.items()}


def find_moves_of_latency(
  uri: str,
  sample_rate: float,
  symbols: Sequence[str],
  fixed: Mapping[str, Any] | None = None,
  block_size: int = 1024,
  preset: str | None = None,
) -> dict[str, list[int]]:
  """Does what `moves_of_latency` does, in this process."""
  host = renderer.Renderer(
    uri,
    sample_rate,
    symbols,
    fixed,
    block_size,
    n_threads=1,
    compensate_latency=False,
    preset=preset,
  )
  defaults = host.default_controls()  # [1, n_controls]
  usual = host.latency_at(defaults) or 0
  reports = host.plugin.latency_port is not None
  if not (usual or reports):
    return {}
  ports = [host.plugin.control(symbol) for symbol in symbols]
  moves: dict[str, list[int]] = {}

  def moves_with(values: dict[int, float]) -> bool:
    """Whether controls at these values, by index, move the latency."""
    setting = defaults.copy()
    for i, value in values.items():
      setting[0, i] = value
    found = host.latency_at(setting)
    if found is None or found == usual:  # None: no copy there, says nothing
      return False
    if len(values) == 1:
      known = moves.get(ports[i].symbol, [usual, usual])
      moves[ports[i].symbol] = [min(known[0], found), max(known[1], found)]
    return True

  def search(values: dict[int, float]):
    """Halves a group that moves the latency until single controls are left."""
    if values and moves_with(values) and len(values) > 1:
      indices = list(values)
      half = len(indices) // 2
      search({i: values[i] for i in indices[:half]})
      search({i: values[i] for i in indices[half:]})

  for values in _groups(ports):
    if reports:
      search(values)
    else:  # many at an end leave no copy of the input
      for i, value in values.items():
        moves_with({i: value})
  return {s: moves[s] for s in symbols if s in moves}


def _groups(ports: Sequence[ports_lib.Port]) -> Iterator[dict[int, float]]:
  """Yields values at which controls are tried together, by index.

  So that hundreds of controls take some dozens of renders. Switches come by
  few: one that bypasses the plugin hides what the others do.
  """
  tried = [_values(port) for port in ports]
  switches = [i for i, port in enumerate(ports) if port.toggled]
  rest = [i for i, port in enumerate(ports) if not port.toggled]
  parts = [
    switches[start : start + _SWITCHES_AT_ONCE]
    for start in range(0, len(switches), _SWITCHES_AT_ONCE)
  ]
  for indices in (rest, *parts):
    for turn in range(max((len(tried[i]) for i in indices), default=0)):
      yield {i: tried[i][turn] for i in indices if turn < len(tried[i])}


def _values(port: ports_lib.Port) -> list[float]:
  """Returns the values at which a control is tried, none of them the default.

  The ends of a range, or of whole numbers; all that have a name.
  """
  taken = port.single_values
  if not taken or isinstance(taken, range):
    taken = (port.minimum, port.maximum)
  return [float(value) for value in taken if value != port.default]
