"""Neural Amp Modeler's .nam files: networks for plugins that play them.

A .nam file is JSON: version, metadata, architecture, config, sample_rate and
weights, one flat list. The format has no knobs.

Order of the weights of a WaveNet, for each array: rechannel; for each layer,
the convolution `[out][in][tap]` and its bias, the mix-in of the input, the
linear map `[out][in]` and its bias; the map to the head, and its bias if it has
one. Then head_scale. Of an LSTM, for each layer: `[gate][input, then h]` with
gates i, f, g, o, the bias, the initial h and c. Then the output's weights and
bias.

Examples:
  >>> import tempfile
  >>> from dafx import neural
  >>> with tempfile.TemporaryDirectory() as folder:
  ...   neural.nam.write(
  ...     f'{folder}/amp.nam', neural.Rnn(activation='linear'), 48000
  ...   )
  ...   network, sample_rate = neural.nam.read(f'{folder}/amp.nam')
  >>> sample_rate, type(network).__name__
  (48000, 'Rnn')
"""

import datetime
import json
import math
import pathlib

import numpy as np

from dafx.audio import json_files
from dafx.neural.recurrent import Rnn
from dafx.neural.wavenet import LayerArray, WaveNet

# The oldest version that knows head_bias and levels: all players read it.
_VERSION = '0.5.4'
_FIRST_VERSION, _LAST_VERSION = (0, 5), (0, 7)
# Bounds of what is read: the size of a file, layers, the past that they keep,
# and any other number.
_MOST_BYTES, _MOST_LAYERS, _MOST_PAST, _MOST = 2**24, 256, 2**24, 2**24
_HIGHEST_RATE_HZ = 1e7


def write(path, model, sample_rate, metadata=None):
  """Writes a network as a .nam file.

  Args:
    path: Where to.
    model: A `WaveNet`, or an `Rnn` of LSTM cells with a linear output; without
      knobs.
    sample_rate: Rate that it was trained at, in Hz.
    metadata: More entries of the metadata, such as 'name' or 'gear_type'.

  Raises:
    ValueError: A network that the format has no place for; the message says
      what is in the way.
  """
  if isinstance(model, (WaveNet, Rnn)) and model.n_knobs:
    raise ValueError(
      f'{model.name!r} has {model.n_knobs} knob(s), and the .nam format has '
      'none. Write a model without knobs, or export_saved_model.'
    )
  if isinstance(model, WaveNet):
    architecture, config = 'WaveNet', _wavenet_config(model)
    weights = _wavenet_weights(model)
  elif isinstance(model, Rnn):
    architecture, config = 'LSTM', _lstm_config(model)
    weights = _lstm_weights(model)
  else:
    raise ValueError(
      f'The .nam format has no {type(model).__name__}: it takes a WaveNet, or '
      "an Rnn with cell='lstm' and activation='linear'."
    )
  weights = [float(w) for w in np.concatenate([np.ravel(w) for w in weights])]
  if not np.all(np.isfinite(weights)):
    raise ValueError(f'{model.name!r} has weights that are not finite.')
  date = ('year', 'month', 'day', 'hour', 'minute', 'second')
  now = datetime.datetime.now().timetuple()  # begins with these
  content = {
    'version': _VERSION,
    'metadata': {
      'date': dict(zip(date, now)),
      **(metadata or {}),
    },
    'architecture': architecture,
    'config': config,
    'weights': weights,
    'sample_rate': sample_rate,
  }
  pathlib.Path(path).write_text(json.dumps(content), encoding='utf-8')


def read(path):
  """Reads a .nam file.

  Args:
    path: The file.

  Returns:
    The network, and the sample rate in Hz (None where the file has none).

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: No .nam file, one with what dafx has no network for, or one that
      is larger than files of such networks are; the message says at which place
      of the file.
  """
  content = json_files.read(path, _MOST_BYTES)
  version = content['version']
  numbers = version.text().split('.')[:2]
  if (
    not all(n.isascii() and n.isdecimal() and len(n) < 9 for n in numbers)
    or not _FIRST_VERSION <= tuple(map(int, numbers)) <= _LAST_VERSION
  ):
    raise version.error('0.5 to 0.7, which dafx reads')
  readers = {'WaveNet': _read_wavenet, 'LSTM': _read_lstm}
  architecture = content['architecture']
  if architecture.text() not in readers:
    raise architecture.error(f'one of {tuple(readers)}, which dafx has')
  rate = content.get('sample_rate')
  sample_rate = None if rate is None else rate.number(1, _HIGHEST_RATE_HZ)
  config = content['config']
  config.fields()
  weights = _Weights(content['weights'])
  return readers[architecture.value](config, weights), sample_rate


class _Weights:
  """Takes the flat list apart, from its start."""

  def __init__(self, place):
    self._place = place
    self._values = place.numbers()
    self._position = 0

  def check(self, n_weights):
    """Raises FileError where the config asks for another number of them."""
    if n_weights != len(self._values):
      raise self._place.error(
        f'a list of {n_weights} numbers, as the config asks for; there are '
        f'{len(self._values)}'
      )

  def take(self, *shape):
    n = math.prod(shape)
    values = self._values[self._position : self._position + n]
    self._position += n
    return values.reshape(shape)


def _wavenet_config(model):
  n_in, layers = 1, []
  for shape in model.shapes:
    layers.append(
      {
        'input_size': n_in,
        'condition_size': 1,
        'head_size': shape.head_size,
        'channels': shape.channels,
        'kernel_size': shape.kernel_size,
        'dilations': list(shape.dilations),
        'activation': 'Tanh',
        'gated': shape.gated,
        'head_bias': shape.head_bias,
      }
    )
    n_in = shape.channels
  return {'layers': layers, 'head': None, 'head_scale': model.head_scale}


def _wavenet_weights(model):
  weights = []
  for array in model.arrays:
    weights.append(array.rechannel.kernel.numpy().T)
    for layer in array.layers:
      # [tap, in, out] here.
      weights.append(layer.conv.kernel.numpy().transpose(2, 1, 0))
      weights.append(layer.conv.bias.numpy())
      weights.append(layer.mixin.kernel.numpy().T)
      weights.append(layer.linear.kernel.numpy().T)
      weights.append(layer.linear.bias.numpy())
    weights.append(array.head.kernel.numpy().T)
    if array.head.bias is not None:
      weights.append(array.head.bias.numpy())
  return [*weights, [model.head_scale]]


# What an entry of 'layers' may say.
_WAVENET_KEYS = (
  'input_size',
  'condition_size',
  'head_size',
  'channels',
  'kernel_size',
  'dilations',
  'activation',
  'gated',
  'head_bias',
)


def _read_wavenet(config, weights):
  if (head := config.get('head')) is not None:
    raise head.error('null: dafx has no head')
  if (scale := config.get('head_scale')) is not None:
    scale.number()
  arrays = config['layers'].entries(_MOST_LAYERS)
  if not arrays:
    raise config['layers'].error('a list of arrays of layers')
  shapes: list[LayerArray] = []
  n_in, n_layers, n_weights = 1, 0, 1
  for place in arrays:
    shape = _read_array(place, n_in)
    if shapes and shapes[-1].head_size != shape.channels:
      raise place['channels'].error(
        f'{shapes[-1].head_size}, the head_size of the array before'
      )
    shapes.append(shape)
    n_layers += len(shape.dilations)
    n_weights += _n_weights(shape, n_in)
    n_in = shape.channels
  last = arrays[-1]['head_size']
  if last.value != 1:
    raise last.error('1, in the last array')
  if n_layers > _MOST_LAYERS:
    raise config['layers'].error(f'a list of {_MOST_LAYERS} layers at most')
  _check_past(config['layers'], shapes)
  weights.check(n_weights)
  model = WaveNet(arrays=shapes)
  n_in = 1
  for shape, array in zip(shapes, model.arrays):
    n = shape.channels
    n_inner = 2 * n if shape.gated else n
    array.rechannel.kernel.assign(weights.take(n, n_in).T)
    for layer in array.layers:
      kernel = weights.take(n_inner, n, shape.kernel_size)
      layer.conv.kernel.assign(kernel.transpose(2, 1, 0))
      layer.conv.bias.assign(weights.take(n_inner))
      layer.mixin.kernel.assign(weights.take(n_inner, 1).T)
      layer.linear.kernel.assign(weights.take(n, n).T)
      layer.linear.bias.assign(weights.take(n))
    array.head.kernel.assign(weights.take(shape.head_size, n).T)
    if shape.head_bias:
      array.head.bias.assign(weights.take(shape.head_size))
    n_in = n
  model.head_scale = float(weights.take(1)[0])
  return model


def _read_array(place, n_in):
  """Returns the `LayerArray` that an entry of 'layers' describes."""
  for key, entry in place.fields().items():
    if key not in _WAVENET_KEYS:
      raise entry.error('left out: dafx has no such thing in a layer')
  for key, allowed in (('input_size', n_in), ('condition_size', 1)):
    if (entry := place.get(key)) is not None and entry.value != allowed:
      raise entry.error(f'{allowed}')
  if (activation := place.get('activation')) is not None:
    if activation.text() != 'Tanh':
      raise activation.error("'Tanh', which dafx has alone")
  dilations = place['dilations'].entries(_MOST_LAYERS)
  if not dilations:
    raise place['dilations'].error('a list of integers')
  return LayerArray(
    channels=place['channels'].integer(1, _MOST),
    head_size=place['head_size'].integer(1, _MOST),
    dilations=tuple(d.integer(1, _MOST) for d in dilations),
    kernel_size=place['kernel_size'].integer(1, _MOST),
    gated=place['gated'].flag(),
    head_bias=place['head_bias'].flag(),
  )


def _n_weights(shape, n_in):
  """Returns how many weights an array of layers has."""
  n = shape.channels
  n_inner = 2 * n if shape.gated else n
  layer = n_inner * n * shape.kernel_size + 2 * n_inner + n * n + n
  head = shape.head_size * (n + shape.head_bias)
  return n * n_in + len(shape.dilations) * layer + head


def _check_past(place, shapes):
  """Raises FileError where layers keep more of the past than fits."""
  n_samples = sum(
    shape.channels * (shape.kernel_size - 1) * sum(shape.dilations)
    for shape in shapes
  )
  if n_samples > _MOST_PAST:
    raise place.error(
      f'layers that keep {_MOST_PAST} numbers of the past at most (channels '
      f'times dilations times taps); they keep {n_samples}'
    )


def _lstm_config(model):
  found = {
    'cell': (model.layers[0].cell, 'lstm'),
    'activation': (model.activation, 'linear'),
    'residual': (model.residual, False),
    'direct_path': (model.direct_gain is not None, False),
    'conditioning': (model.conditioning, None),
  }
  for key, (value, allowed) in found.items():
    if value != allowed:
      raise ValueError(
        f'The .nam format has LSTMs with {key}={allowed!r} alone; '
        f'{model.name!r} has {value!r}.'
      )
  return {
    'input_size': 1,
    'hidden_size': model.layers[0].n_units,
    'num_layers': len(model.layers),
  }


def _lstm_weights(model):
  weights = []
  for layer, (h, c) in zip(model.layers, model.initial_state(1)['layers']):
    kernels = [layer.kernel.numpy(), layer.recurrent.numpy()]
    weights.append(np.concatenate(kernels).T)
    weights.append(layer.bias.numpy() + layer.recurrent_bias.numpy())
    weights += [h.numpy(), c.numpy()]
  return [*weights, model.out.kernel.numpy(), model.out.bias.numpy()]


def _read_lstm(config, weights):
  n_in = config['input_size'].integer(1, 1)
  n = config['hidden_size'].integer(1, _MOST)
  n_layers = config['num_layers'].integer(1, _MOST_LAYERS)
  first = 4 * n * (n_in + n + 1) + 2 * n
  weights.check(first + (n_layers - 1) * (8 * n * n + 6 * n) + n + 1)
  model = Rnn(
    'lstm',
    n_units=n,
    n_layers=n_layers,
    activation='linear',
    initial_state='trained',
  )
  starts = []
  for layer in model.layers:
    matrix = weights.take(4 * n, layer.n_in + n).T
    layer.kernel.assign(matrix[: layer.n_in])
    layer.recurrent.assign(matrix[layer.n_in :])
    layer.bias.assign(weights.take(4 * n))
    layer.recurrent_bias.assign(np.zeros(4 * n))
    starts.append(weights.take(2, n))
  model.start.assign(np.stack(starts))
  model.out.kernel.assign(weights.take(n, 1))
  model.out.bias.assign(weights.take(1))
  return model
