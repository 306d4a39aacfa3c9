"""LSTM, ConvNet and Linear in .nam files.

Order of the weights of an LSTM, for each layer: `[gate][input, then h]` with
gates i, f, g, o, the bias, the initial h and c; then the output's weights and
bias. Of a ConvNet, for each block: the convolution `[out][in][tap]`, and its
bias, or mean, variance, weight and bias of the normalisation and its epsilon;
then the output's weights and bias. Of a Linear: the impulse response from time
0 on, as players have it, and the bias.
"""

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from dafx.audio import json_files
from dafx.neural.conv_net import ConvNet, Linear
from dafx.neural.nam import activations
from dafx.neural.nam import reading as reading_lib
from dafx.neural.nam.reading import MOST, MOST_LAYERS, Plan, Tensor, Weights
from dafx.neural.recurrent import Rnn

_N_TAPS = 2


def _check_channels(config):
  for key in ('in_channels', 'out_channels'):
    if key in config.fields():
      config[key].integer(1, 1)


def plan_lstm(
  config: json_files.Place, weights: Weights, reading: reading_lib.Reading
) -> Plan:
  """Plans an LSTM; see `Reading.plan`."""
  _check_channels(config)
  n_in = config['input_size'].integer(1, 1)
  n = config['hidden_size'].integer(1, MOST)
  n_layers = config['num_layers'].integer(1, MOST_LAYERS)
  reading.count(config['num_layers'], n_layers, 0)
  tensors = []
  for i in range(n_layers):
    shape = (4 * n, (n if i else n_in) + n)
    tensors += [Tensor(shape), Tensor((4 * n,)), Tensor((2, n))]
  weights.check([*tensors, Tensor((n,)), Tensor((1,))])
  return Plan(functools.partial(_make_lstm, n, n_layers, weights))


def _make_lstm(n, n_layers, weights):
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
  model.start.assign(_settled(model))  # Players let silence run in, too.
  return model


def _settled(model):
  """Returns the state that silence leads to, [n_layers, 2, n_units]."""
  state, _ = model.settle(1, tf.zeros([1, 1, 1]))
  return np.array([[h[0], c[0]] for h, c in state['layers']])


def check_lstm(model: Rnn):
  """Checks that the format can hold a recurrent network.

  Raises:
    ValueError: It cannot; the message says for what.
  """
  found = {
    'cell': (model.layers[0].cell, 'lstm'),
    'activation': (model.activation, 'linear'),
    'residual': (model.residual, False),
    'direct_path': (model.direct_gain is not None, False),
  }
  for key, (value, allowed) in found.items():
    if value != allowed:
      raise ValueError(
        f'The .nam format has LSTMs with {key}={allowed!r} alone; '
        f'{model.name!r} has {value!r}.'
      )
  if model.conditioning not in (None, 'fixed'):
    raise ValueError(
      'The .nam format has LSTMs with conditioning=None alone; '
      f'{model.name!r} has {model.conditioning!r}.'
    )


def lstm_config(model: Rnn) -> dict[str, Any]:
  """Returns the config of a file."""
  return {
    'input_size': 1,
    'hidden_size': model.layers[0].n_units,
    'num_layers': len(model.layers),
  }


def lstm_weights(model: Rnn) -> list[np.ndarray]:
  """Returns the weights of a file, in order, with the settled state."""
  found: list[np.ndarray] = []
  for layer, start in zip(model.layers, _settled(model)):
    kernels = [layer.kernel.numpy(), layer.recurrent.numpy()]
    bias = layer.bias.numpy() + layer.recurrent_bias.numpy()
    found += [np.concatenate(kernels).T, bias, start]
  return [*found, model.out.kernel.numpy(), model.out.bias.numpy()]


def plan_conv_net(
  config: json_files.Place, weights: Weights, reading: reading_lib.Reading
) -> Plan:
  """Plans a ConvNet; see `Reading.plan`."""
  _check_channels(config)
  if 'groups' in config.fields():
    config['groups'].integer(1, 1)
  n = config['channels'].integer(1, MOST)
  places = config['dilations'].entries(MOST_LAYERS)
  if not places:
    raise config['dilations'].error('a list of integers')
  dilations = tuple(place.integer(1, MOST) for place in places)
  activation = activations.read(config['activation'])
  if len(activation.negative_slopes) not in (0, 1, n):
    raise config['activation'].error(f'an activation of {n} channels')
  is_normalised = config['batchnorm'].flag()
  n_past = (1 + (len(dilations) - 1) * n) * max(dilations)
  reading.count(config['dilations'], len(dilations), n_past)
  tensors, n_in = [], 1
  for _ in dilations:
    tensors.append(Tensor((n, n_in, _N_TAPS)))
    tensors += 4 * [Tensor((n,))] if is_normalised else []
    tensors.append(Tensor((1,)) if is_normalised else Tensor((n,)))
    n_in = n
  weights.check([*tensors, Tensor((n,)), Tensor((1,))])
  blocks: list = []
  for _ in dilations:
    kernel = weights.take(n, 1 if not blocks else n, _N_TAPS)
    if not is_normalised:
      blocks.append((kernel, weights.take(n)))
      continue
    mean, variance, weight, bias = weights.take(4, n).astype(np.float64)
    spread = variance + weights.take(1)
    if not np.all(spread > 0.0):
      raise weights.place.error(
        'a list in which variances and epsilon of a normalisation add up to '
        'more than 0'
      )
    scale = weight / np.sqrt(spread)
    blocks.append((scale[:, None, None] * kernel, bias - scale * mean))
  out = weights.take(n, 1), weights.take(1)
  return Plan(
    functools.partial(_make_conv_net, n, dilations, activation, blocks, out)
  )


def _make_conv_net(n, dilations, activation, blocks, out):
  model = ConvNet(n, dilations, activation)
  for conv, (kernel, bias) in zip(model.convs, blocks):
    conv.kernel.assign(kernel.T)
    conv.bias.assign(bias)
  model.out.kernel.assign(out[0])
  model.out.bias.assign(out[1])
  return model


def conv_net_config(model: ConvNet) -> dict[str, Any]:
  """Returns the config of a file."""
  return {
    'channels': model.channels,
    'dilations': list(model.dilations),
    'batchnorm': False,
    'activation': activations.name_or_config(model.activation),
  }


def conv_net_weights(model: ConvNet) -> list[np.ndarray]:
  """Returns the weights of a file, in order."""
  parts = [*model.convs, model.out]
  pairs = [(part.kernel.numpy().T, part.bias.numpy()) for part in parts]
  return [array for pair in pairs for array in pair]


def plan_linear(
  config: json_files.Place, weights: Weights, reading: reading_lib.Reading
) -> Plan:
  """Plans a Linear; see `Reading.plan`."""
  _check_channels(config)
  n_taps = config['receptive_field'].integer(1, MOST)
  has_bias = config['bias'].flag()
  reading.count(config['receptive_field'], 1, n_taps)
  weights.check([Tensor((n_taps + has_bias,))])
  return Plan(functools.partial(_make_linear, n_taps, has_bias, weights))


def _make_linear(n_taps, has_bias, weights):
  model = Linear(n_taps, has_bias)
  model.set_response(weights.take(n_taps))
  if has_bias:
    model.conv.bias.assign(weights.take(1))
  return model


def linear_config(model: Linear) -> dict[str, Any]:
  """Returns the config of a file."""
  has_bias = model.conv.bias is not None
  return {'receptive_field': model.receptive_field, 'bias': has_bias}


def linear_weights(model: Linear) -> list[np.ndarray]:
  """Returns the weights of a file: the response from time 0 on, the bias."""
  bias = [] if model.conv.bias is None else [model.conv.bias.numpy()]
  return [model.response.numpy(), *bias]
