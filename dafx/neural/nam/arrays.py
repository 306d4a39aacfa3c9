"""Arrays of layers of a WaveNet, as .nam files have them, of 0.5 and of 0.7."""

from typing import Any

from dafx.audio import json_files
from dafx.neural import wavenet_shapes as shapes
from dafx.neural.activations import Activation
from dafx.neural.nam import activations
from dafx.neural.nam.reading import MOST, MOST_LAYERS

_SIGMOID = Activation('Sigmoid')
# What an entry of 'layers' may say.
_KEYS = (
  'input_size',
  'condition_size',
  'head',
  'head_size',
  'head_bias',
  'channels',
  'kernel_size',
  'kernel_sizes',
  'dilations',
  'activation',
  'gated',
  'gating_mode',
  'secondary_activation',
  'bottleneck',
  'head1x1',
  'layer1x1',
  'groups_input',
  'groups_input_mixin',
  *shapes.FILMS,
  'slimmable',
)


def read(
  place: json_files.Place, n_in: int, n_condition: int
) -> shapes.LayerArray:
  """Returns the array that an entry of 'layers' describes.

  Args:
    place: The entry.
    n_in: Channels that come in.
    n_condition: Channels of the condition.

  Raises:
    FileError: It describes none, or one that dafx has not.
  """
  for key, entry in place.fields().items():
    if key not in _KEYS:
      raise entry.error('left out: dafx has no such thing in a layer')
  for key, allowed in (('input_size', n_in), ('condition_size', n_condition)):
    if place[key].integer(1, MOST) != allowed:
      raise place[key].error(f'{allowed}')
  dilations = place['dilations'].entries(MOST_LAYERS)
  if not dilations:
    raise place['dilations'].error('a list of integers')
  n = len(dilations)
  gatings = _gatings(place, n)
  values: dict[str, Any] = {
    'channels': _size(place['channels']),
    'dilations': tuple(map(_size, dilations)),
    'kernel_size': _kernel_sizes(place, n),
    'gating': gatings,
    'activation': _of_layers(place['activation'], n, activations.read),
    'gate_activation': _gate_activations(place, gatings),
    **_head(place),
    **_maps(place),
    'films': _films(place),
  }
  for key in ('kernel_size', 'gating', 'activation', 'gate_activation'):
    values[key] = _one_or_all(values[key])
  try:
    array = shapes.LayerArray(**values)
    shapes.check_groups('groups_input_mixin', array.groups_mixin, [n_condition])
    for film in array.films.values():
      shapes.check_groups('groups of a film', film.groups, [n_condition])
  except ValueError as error:
    raise place.error(f'parts that fit one another: {error}') from error
  return array


def _size(place):
  return place.integer(1, MOST)


def _one_or_all(values):
  """Returns what is the same in all layers once."""
  if all(value == values[0] for value in values):
    return values[0]
  return tuple(values)


def _of_layers(place, n, read_one):
  """Returns what there is one of for each layer, or one for all."""
  if not isinstance(place.value, list):
    return n * [read_one(place)]
  entries = place.entries(MOST_LAYERS)
  if len(entries) != n:
    raise place.error(f'a list of {n} entries, one for each layer')
  return [read_one(entry) for entry in entries]


def _kernel_sizes(place, n):
  if place.get('kernel_sizes') is None:
    return n * [_size(place['kernel_size'])]
  if (both := place.get('kernel_size')) is not None:
    raise both.error('left out, where there are kernel_sizes')
  place['kernel_sizes'].entries(MOST_LAYERS)
  return _of_layers(place['kernel_sizes'], n, _size)


def _gating(place):
  if place.text() not in shapes.GATINGS:
    raise place.error(f'one of {shapes.GATINGS}')
  return place.value


def _gatings(place, n):
  if 'gating_mode' in place.fields():
    return _of_layers(place['gating_mode'], n, _gating)
  is_gated = 'gated' in place.fields() and place['gated'].flag()
  return n * ['gated' if is_gated else 'none']


def _gate_activations(place, gatings):
  key, n = 'secondary_activation', len(gatings)
  uses_them = 'gating_mode' in place.fields() and set(gatings) != {'none'}
  if not uses_them or key not in place.fields():
    return n * [_SIGMOID]
  if not isinstance(place[key].value, list):
    return n * [activations.read(place[key])]
  entries = place[key].entries(MOST_LAYERS)
  if len(entries) != n:
    raise place[key].error(f'a list of {n} entries, one for each layer')
  return [
    _SIGMOID if gating == 'none' else activations.read(entry)
    for gating, entry in zip(gatings, entries)
  ]


def _head(place):
  if (head := place.get('head')) is None:
    size, bias = place['head_size'], place['head_bias']
    return {'head_size': _size(size), 'head_bias': bias.flag()}
  dilation = head.get('head_dilation')
  return {
    'head_size': _size(head['out_channels']),
    'head_bias': head['bias'].flag(),
    'head_kernel_size': _size(head['kernel_size']),
    'head_dilation': 1 if dilation is None else _size(dilation),
  }


def _maps(place):
  """Returns what an entry says of the maps of a layer, as arguments."""
  fields = place.fields()
  values: dict[str, Any] = {}
  for key, name in (
    ('bottleneck', 'bottleneck'),
    ('groups_input', 'groups_input'),
    ('groups_input_mixin', 'groups_mixin'),
  ):
    if key in fields:
      values[name] = _size(fields[key])
  if 'layer1x1' in fields:
    groups = _size(fields['layer1x1']['groups'])
    is_active = fields['layer1x1']['active'].flag()
    values['layer1x1_groups'] = groups if is_active else None
  if 'head1x1' in fields:
    head = fields['head1x1']
    sizes = _size(head['out_channels']), _size(head['groups'])
    if head['active'].flag():
      values['head1x1'] = shapes.Head1x1(*sizes)
  return values


def _films(place):
  films = {}
  for key in shapes.FILMS:
    film = place.fields().get(key)
    if film is None or film.value is False:
      continue
    fields = film.fields()
    if 'active' in fields and not fields['active'].flag():
      continue
    shift = fields['shift'].flag() if 'shift' in fields else True
    groups = _size(fields['groups']) if 'groups' in fields else 1
    films[key] = shapes.Film(shift, groups)
  return films


def config(
  array: shapes.LayerArray, n_in: int, n_condition: int
) -> dict[str, Any]:
  """Returns the entry of 'layers' for an array, in the form of 0.7.

  Args:
    array: The array.
    n_in: Channels that come in.
    n_condition: Channels of the condition.
  """
  head1x1, layer1x1 = array.head1x1, array.layer1x1_groups
  head = {
    'out_channels': array.head_size,
    'kernel_size': array.head_kernel_size,
    'bias': array.head_bias,
  }
  if array.head_dilation != 1:
    head['head_dilation'] = array.head_dilation
  entry: dict[str, Any] = {
    'input_size': n_in,
    'condition_size': n_condition,
    'head': head,
    'channels': array.channels,
    'kernel_sizes': list(array.kernel_sizes),
    'dilations': list(array.dilations),
    'activation': list(map(activations.config, array.activations)),
    'bottleneck': array.n_mid,
    'head1x1': {
      'active': head1x1 is not None,
      'out_channels': 1 if head1x1 is None else head1x1.out_channels,
      'groups': 1 if head1x1 is None else head1x1.groups,
    },
    'layer1x1': {
      'active': layer1x1 is not None,
      'groups': 1 if layer1x1 is None else layer1x1,
    },
    'groups_input': array.groups_input,
    'groups_input_mixin': array.groups_mixin,
  }
  for key in shapes.FILMS:
    film = array.films.get(key)
    entry[key] = {
      'active': film is not None,
      'shift': True if film is None else film.shift,
      'groups': 1 if film is None else film.groups,
    }
  entry['gating_mode'] = list(array.gatings)
  entry['secondary_activation'] = [
    None if gating == 'none' else activations.config(activation)
    for gating, activation in zip(array.gatings, array.gate_activations)
  ]
  entry['slimmable'] = None
  return entry


def old_config(array: shapes.LayerArray, n_in: int) -> dict[str, Any]:
  """Returns the entry in the form of 0.5, which holds what `is_old` says."""
  return {
    'input_size': n_in,
    'condition_size': 1,
    'head_size': array.head_size,
    'channels': array.channels,
    'kernel_size': array.kernel_sizes[0],
    'dilations': list(array.dilations),
    'activation': array.activations[0].kind,
    'gated': array.gatings[0] == 'gated',
    'head_bias': array.head_bias,
  }


def is_old(array: shapes.LayerArray) -> bool:
  """Whether the form of 0.5, as players then read it, can say an array."""
  plain = shapes.LayerArray(
    array.channels,
    array.head_size,
    array.dilations,
    array.kernel_sizes[0],
    'gated' if array.gatings[0] == 'gated' else 'none',
    array.head_bias,
    array.activations[0],
  )
  kinds = ('Tanh', 'ReLU', 'Hardtanh', 'Sigmoid')
  return config(array, 1, 1) == config(plain, 1, 1) and array.activations[
    0
  ] in map(Activation, kinds)
