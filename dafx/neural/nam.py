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
import pathlib

import numpy as np

from dafx.neural.recurrent import Rnn
from dafx.neural.wavenet import LayerArray, WaveNet

# The oldest version that knows head_bias and levels: all players read it.
_VERSION = '0.5.4'
_FIRST_VERSION, _LAST_VERSION = (0, 5), (0, 7)


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
    ValueError: No .nam file, or one with what dafx has no network for.
  """
  try:
    content = json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
    version = tuple(int(n) for n in content['version'].split('.')[:2])
    architecture, config = content['architecture'], content['config']
    weights = np.array(content['weights'], np.float32)
  except (KeyError, TypeError, ValueError, AttributeError) as e:
    raise ValueError(f'{path} is no .nam file: {e!r}.') from e
  if not _FIRST_VERSION <= version <= _LAST_VERSION:
    raise ValueError(
      f'{path} is of version {content["version"]}; dafx reads 0.5 to 0.7.'
    )
  readers = {'WaveNet': _read_wavenet, 'LSTM': _read_lstm}
  if architecture not in readers:
    raise ValueError(
      f'{path} holds a {architecture!r}; dafx has {tuple(readers)}.'
    )
  try:
    model = readers[architecture](config, _Weights(weights))
  except (KeyError, TypeError) as e:
    raise ValueError(f'{path}: config lacks or mistakes {e}.') from e
  except ValueError as e:
    raise ValueError(f'{path}: {e}') from e
  return model, content.get('sample_rate')


class _Weights:
  """Takes the flat list apart, from its start."""

  def __init__(self, values):
    self._values = values
    self._position = 0

  def take(self, *shape):
    n = int(np.prod(shape))
    values = self._values[self._position : self._position + n]
    if len(values) < n:
      raise ValueError(
        f'It has {len(self._values)} weights, and the config asks for more.'
      )
    self._position += n
    return values.reshape(shape)

  def end(self):
    if self._position != len(self._values):
      raise ValueError(
        f'It has {len(self._values)} weights, and the config asks for '
        f'{self._position}.'
      )


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


# What an entry of 'layers' may say, and must where it says it.
_WAVENET_KEYS = {
  'input_size': None,
  'condition_size': 1,
  'head_size': None,
  'channels': None,
  'kernel_size': None,
  'dilations': None,
  'activation': 'Tanh',
  'gated': None,
  'head_bias': None,
}


def _read_wavenet(config, weights):
  if config.get('head') is not None:
    raise ValueError('It has a head, which dafx has not.')
  shapes = []
  for layer in config['layers']:
    for key, value in layer.items():
      if key not in _WAVENET_KEYS:
        raise ValueError(f'A layer has {key!r}, which dafx has not.')
      allowed = _WAVENET_KEYS[key]
      if allowed is not None and value != allowed:
        raise ValueError(f'{key} is {value!r}; dafx has {allowed!r} alone.')
    shapes.append(
      LayerArray(
        channels=layer['channels'],
        head_size=layer['head_size'],
        dilations=tuple(layer['dilations']),
        kernel_size=layer['kernel_size'],
        gated=layer['gated'],
        head_bias=layer['head_bias'],
      )
    )
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
  weights.end()
  return model


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
  if config['input_size'] != 1:
    raise ValueError(f'input_size is {config["input_size"]}; dafx has 1 alone.')
  n = config['hidden_size']
  model = Rnn(
    'lstm',
    n_units=n,
    n_layers=config['num_layers'],
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
  weights.end()
  return model
