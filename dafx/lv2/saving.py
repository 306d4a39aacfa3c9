"""What plugins keep beyond their ports, as other hosts have it in a file."""

from dafx.lv2 import errors, instances, parameters, states
from dafx.lv2.renderer import Renderer


def read_state(renderer: Renderer) -> list[parameters.Property]:
  """Returns all that a plugin keeps, as hosts save it beside a project.

  It is what the plugin says of itself once it has what it was given, and what
  it was given (`fixed` by URI).

  Args:
    renderer: Renders the plugin, with its files and its preset.

  Returns:
    Its properties; [] for a plugin that keeps nothing.

  Examples:
    >>> from dafx import lv2
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> lv2.read_state(lv2.Renderer(uri, 44100))
    []
  """
  kept = {
    uri: parameters.unpack(uri, type_uri, body)
    for uri, type_uri, body in renderer.new_instance().saved()
  }
  for uri, value in renderer.parameters.items():
    kind = renderer.plugin.parameter(uri).kind
    kept[uri] = parameters.Property(uri, kind, value)
  return list(kept.values())


def takes_state(renderer: Renderer) -> bool:
  """Returns whether a plugin takes what it was given as hosts restore it.

  Some take parameters as messages alone, which no file of a host holds.

  Args:
    renderer: Renders the plugin, with its files.

  Examples:
    >>> from dafx import lv2
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> lv2.takes_state(lv2.Renderer(uri, 44100))
    True
  """
  if not renderer.parameters:
    return True
  state = states.State(renderer.plugin, renderer.parameters, by_messages=False)
  try:
    instances.Instance(
      renderer.plugin,
      renderer.sample_rate,
      renderer.block_size,
      renderer.initial_values,
      (),
      state,
    )
  except errors.PluginError:
    return False
  return True
