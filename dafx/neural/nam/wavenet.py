"""WaveNets in .nam files.

Order of the weights, for each array: rechannel; for each layer, the convolution
`[out][in][tap]` and its bias, the mix-in of the condition, the linear map
`[out][in]` and its bias, that to the head and its bias, modulations and their
biases; the map to the head, and its bias if it has one. Then the convolutions
behind the arrays, and head_scale. With groups, `in` counts those of a group.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from dafx.audio import json_files
from dafx.neural import wavenet_shapes as shapes
from dafx.neural.nam import activations, arrays
from dafx.neural.nam import reading as reading_lib
from dafx.neural.wavenet import WaveNet

_SLICING = 'slice_channels_uniform'


@dataclasses.dataclass(frozen=True)
class _Shape:
  """All that the shape of a WaveNet is."""

  arrays: tuple[shapes.LayerArray, ...]
  n_condition: int
  post_head: shapes.PostHead | None

  @property
  def n_outputs(self):
    if self.post_head is not None:
      return self.post_head.out_channels
    return self.arrays[-1].head_size

  @property
  def n_past(self):
    """Numbers of the past that the convolutions keep."""
    total = 0
    for array in self.arrays:
      pairs = zip(array.kernel_sizes, array.dilations)
      total += array.channels * sum((k - 1) * d for k, d in pairs)
      n_head = (array.head_kernel_size - 1) * array.head_dilation
      total += array.n_to_head * n_head
    if (head := self.post_head) is not None:
      widths = [self.arrays[-1].head_size, *head.widths]
      total += sum((k - 1) * n for k, n in zip(head.kernel_sizes, widths))
    return total

  def tensors(self) -> list[reading_lib.Tensor]:
    """Returns the tensors of the list of weights, in order."""
    found: list[reading_lib.Tensor] = []

    def add(n_out, n_in, *taps, groups=1, bias=True):
      shape = (n_out, n_in // groups, *taps)
      found.append(reading_lib.Tensor(shape, groups))
      if bias:
        found.append(reading_lib.Tensor((n_out,)))

    n_in, n_condition = 1, self.n_condition
    for array in self.arrays:
      n, n_mid = array.channels, array.n_mid
      add(n, n_in, bias=False)
      for i, n_taps in enumerate(array.kernel_sizes):
        n_inner = array.n_inner(i)
        add(n_inner, n, n_taps, groups=array.groups_input)
        groups = array.groups_mixin
        add(n_inner, n_condition, groups=groups, bias=False)
        if array.layer1x1_groups is not None:
          add(n, n_mid, groups=array.layer1x1_groups)
        if array.head1x1 is not None:
          add(array.n_to_head, n_mid, groups=array.head1x1.groups)
        for name, size in array.film_sizes(i, n_condition).items():
          film = array.films[name]
          n_out = 2 * size if film.shift else size
          add(n_out, n_condition, groups=film.groups)
      n_taps, bias = array.head_kernel_size, array.head_bias
      add(array.head_size, array.n_to_head, n_taps, bias=bias)
      n_in = n
    if (head := self.post_head) is not None:
      n_in = self.arrays[-1].head_size
      for n_out, n_taps in zip(head.widths, head.kernel_sizes):
        add(n_out, n_in, n_taps)
        n_in = n_out
    return [*found, reading_lib.Tensor((1,))]


def plan(
  config: json_files.Place,
  weights: reading_lib.Weights,
  reading: reading_lib.Reading,
) -> reading_lib.Plan:
  """Plans a WaveNet; see `Reading.plan`.

  Args:
    config: Its config.
    weights: Its weights, and head_scale, which is the last of them.
    reading: What plans the network of the condition.

  Raises:
    FileError: It is none that dafx has.
  """
  if 'in_channels' in config.fields():
    config['in_channels'].integer(1, 1)
  condition, n_condition = None, 1
  if (place := config.get('condition_dsp')) is not None:
    condition = reading.plan(place)
    n_condition = condition.n_outputs
  if (scale := config.get('head_scale')) is not None:
    scale.number()
  layers = config['layers']
  places = layers.entries(reading_lib.MOST_LAYERS)
  if not places:
    raise layers.error('a list of arrays of layers')
  found: list[shapes.LayerArray] = []
  for place in places:
    n_in = found[-1].channels if found else 1
    found.append(arrays.read(place, n_in, n_condition))
  shape = _Shape(tuple(found), n_condition, _read_post_head(config))
  n_layers = sum(len(array.dilations) for array in shape.arrays)
  reading.count(layers, n_layers + len(places), shape.n_past)
  try:
    shapes.check_arrays(shape.arrays, shape.post_head, shape.n_outputs)
  except ValueError as error:
    raise layers.error(f'arrays that fit one another: {error}') from error
  weights.check(shape.tensors())
  smaller = _sliced(layers, places, shape, reading.size)
  if smaller is not shape:
    _slice(weights, shape, smaller)
  make = functools.partial(_make, smaller, condition, weights)
  return reading_lib.Plan(make, shape.n_outputs)


def _read_post_head(config):
  """Returns what follows the arrays; None for nothing."""
  if (head := config.get('head')) is None:
    return None
  sizes = head['kernel_sizes'].entries(reading_lib.MOST_LAYERS)
  if not sizes:
    raise head['kernel_sizes'].error('a list of integers')
  post_head = shapes.PostHead(
    head['channels'].integer(1, reading_lib.MOST),
    tuple(size.integer(1, reading_lib.MOST) for size in sizes),
    activations.read(head['activation']),
    head['out_channels'].integer(1, reading_lib.MOST),
  )
  if len(post_head.activation.negative_slopes) > 1:
    raise head['activation'].error('an activation with one slope for all')
  return post_head


def _sliced(layers, places, shape, size):
  """Returns the shape at a size, where arrays come in several."""
  channels = []
  for place, array in zip(places, shape.arrays):
    allowed = [array.channels]
    if (slimmable := place.get('slimmable')) is not None:
      if slimmable['method'].text() != _SLICING:
        raise slimmable['method'].error(f"'{_SLICING}'")
      allowed = _allowed_channels(
        slimmable['kwargs']['allowed_channels'], array.channels
      )
    channels.append(allowed[min(int(size * len(allowed)), len(allowed) - 1)])
  if channels == [array.channels for array in shape.arrays]:
    return shape
  if shape.post_head is not None:
    raise layers.error('without slimmable where there is a head behind them')
  smaller = []
  for i, (place, array) in enumerate(zip(places, shape.arrays)):
    n = channels[i]
    groups = [array.groups_input, array.groups_mixin]
    groups += [array.layer1x1_groups or 1]
    groups += [film.groups for film in array.films.values()]
    if array.head1x1 is not None:
      groups.append(array.head1x1.groups)
    if array.head_kernel_size != 1 or max(groups) > 1:
      raise place['slimmable'].error(
        'null in an array with groups or several taps to the head'
      )
    n_mid = max(1, array.n_mid * n // array.channels)
    n_head = channels[i + 1] if i + 1 < len(channels) else array.head_size
    try:
      smaller.append(
        dataclasses.replace(
          array, channels=n, bottleneck=n_mid, head_size=n_head
        )
      )
    except ValueError as error:
      raise place['slimmable'].error(f'possible: {error}') from error
  return dataclasses.replace(shape, arrays=tuple(smaller))


def _allowed_channels(place, n_channels):
  allowed = [n.integer(1, n_channels) for n in place.entries(n_channels)]
  if sorted(set(allowed)) != allowed or allowed[-1:] != [n_channels]:
    raise place.error(f'a list that rises and ends with {n_channels}')
  return allowed


def _slice(weights, full, smaller):
  """Keeps the first channels of all weights, as many as the smaller shape."""
  kept = []
  for whole, part in zip(full.tensors(), smaller.tensors(), strict=True):
    values = weights.take(*whole.shape)
    kept.append(values[tuple(slice(n) for n in part.shape)].ravel())
  weights.replace(np.concatenate(kept))


def _make(shape, condition, weights):
  model = WaveNet(
    arrays=shape.arrays,
    post_head=shape.post_head,
    condition=None if condition is None else condition.make(),
    n_outputs=shape.n_outputs,
  )
  for variable in _variables(model):
    weights.assign(variable)
  model.head_scale = float(weights.take(1)[0])
  return model


def _variables(model: WaveNet) -> list:
  """Returns the variables of a model, in the order of a file's weights."""
  parts: list = []
  for array in model.arrays:
    layers = [part for layer in array.layers for part in layer.parts]
    parts += [array.rechannel, *layers, array.head]
  parts += model.post_convs
  pairs = [(part.kernel, part.bias) for part in parts]
  return [value for pair in pairs for value in pair if value is not None]


def weights(model: WaveNet) -> list[np.ndarray]:
  """Returns the weights of a file, in order."""
  found = [variable.numpy().T for variable in _variables(model)]
  return [*found, np.array([model.head_scale])]


def is_old(model: WaveNet) -> bool:
  """Whether version 0.5.4 can hold a model."""
  if model.post_shape is not None or model.condition is not None:
    return False
  return all(arrays.is_old(shape) for shape in model.shapes)


def check(model: WaveNet):
  """Checks that players and trainer of that program agree on a model.

  Raises:
    ValueError: They do not; the message says on what.
  """
  for shape in model.shapes:
    film = 'layer1x1_post_film' in shape.films
    if film and set(shape.gatings) != {'blended'}:
      raise ValueError(
        f'{model.name!r} has layer1x1_post_film in layers that are not '
        "blended: players leave it out there. Use gating='blended', or none."
      )
    if shape.layer1x1_groups is None:
      raise ValueError(
        f'{model.name!r} has layers without a linear map to the next one '
        '(layer1x1_groups=None): players and the trainer differ there. Give it '
        'one, such as layer1x1_groups=1.'
      )


def config(
  model: WaveNet, is_old_form: bool, nested: Callable[[Any], dict]
) -> dict[str, Any]:
  """Returns the config of a file.

  Args:
    model: The network.
    is_old_form: Whether in the form of 0.5.
    nested: Returns the whole of what a file has for another network.
  """
  n_in, entries = 1, []
  n_condition = 1 if model.condition is None else model.condition.n_outputs
  for shape in model.shapes:
    if is_old_form:
      entries.append(arrays.old_config(shape, n_in))
    else:
      entries.append(arrays.config(shape, n_in, n_condition))
    n_in = shape.channels
  found: dict[str, Any] = {'layers': entries, 'head': None}
  if (head := model.post_shape) is not None:
    found['head'] = {
      'channels': head.channels,
      'activation': activations.name_or_config(head.activation),
      'out_channels': head.out_channels,
      'kernel_sizes': list(head.kernel_sizes),
    }
  found['head_scale'] = model.head_scale
  if model.condition is not None:
    found['condition_dsp'] = nested(model.condition)
  return found
