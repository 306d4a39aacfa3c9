"""Activations as .nam files have them: a name, or an object with parameters."""

from typing import Any

from dafx.audio import json_files
from dafx.neural import activations

# PReLU of one slope for all channels.
_ONE_SLOPE = 'negative_slope'


def read(place: json_files.Place) -> activations.Activation:
  """Returns the activation that is there.

  Args:
    place: A name, or an object with 'type' and parameters.

  Raises:
    FileError: It is none that dafx has, or has other parameters.
  """
  if isinstance(place.value, str):
    return activations.Activation(_kind(place))
  fields = place.fields()
  kind = _kind(place['type'])
  allowed = {'type', *activations.KINDS[kind][1]}
  if kind == 'PReLU':
    allowed.add(_ONE_SLOPE)
  parameters: dict[str, Any] = {}
  for key, field in fields.items():
    if key not in allowed:
      raise field.error(f'left out: {kind} has no such parameter')
    if key == 'negative_slopes':
      slopes = field.numbers()
      if not slopes.size:
        raise field.error('a list of numbers, one for each channel')
      parameters[key] = tuple(float(slope) for slope in slopes)
    elif key == _ONE_SLOPE and kind == 'PReLU':
      parameters.setdefault('negative_slopes', (float(field.number()),))
    elif key != 'type':
      parameters[key] = float(field.number())
  return activations.Activation(kind, parameters)


def _kind(place):
  if place.text() not in activations.KINDS:
    raise place.error(f'one of {tuple(activations.KINDS)}')
  return place.value


def config(activation: activations.Activation) -> dict[str, Any]:
  """Returns the object that a file has for an activation."""
  parameters: dict[str, Any] = dict(activation.all_parameters)
  slopes = list(activation.negative_slopes)
  if len(slopes) == 1:
    parameters = {_ONE_SLOPE: slopes[0]}
  elif slopes:
    parameters = {'negative_slopes': slopes}
  return {'type': activation.kind, **parameters}


def name_or_config(activation: activations.Activation) -> Any:
  """Returns the name of an activation where that says all, else its object."""
  if activation == activations.Activation(activation.kind):
    return activation.kind
  return config(activation)
