"""Networks with knobs, at one setting: the same network without."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from dafx import processors
from dafx.neural import base
from dafx.neural.recurrent import Rnn
from dafx.neural.wavenet import WaveNet


def at_setting(
  network: processors.Node, knobs: Sequence[float]
) -> base.SettlingNetwork:
  """Returns a network without knobs that is another at a setting of its knobs.

  Knobs that do not move add a constant to what a layer gets, so this is exact.

  Args:
    network: A `WaveNet`, or an `Rnn` with conditioning='fixed'.
    knobs: The setting, in [0, 1], shape [n_knobs].

  Raises:
    ValueError: A network of another kind, or knobs that it does not have.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import neural
    >>> from dafx.neural import nam
    >>> amp = neural.WaveNet('nano', n_knobs=2)
    >>> nam.at_setting(amp, [0.3, 0.8]).n_knobs
    0
  """
  setting = np.asarray(knobs, np.float32)
  in_range = np.all((setting >= 0.0) & (setting <= 1.0))
  if setting.shape != (network.n_knobs,) or not in_range:
    raise ValueError(
      f'knobs={list(knobs)} must be {network.n_knobs} numbers from 0 to 1.'
    )
  if isinstance(network, WaveNet):
    return _wavenet_at(network, setting)
  if isinstance(network, Rnn) and network.conditioning == 'fixed':
    return _rnn_at(network, setting)
  raise ValueError(
    f'{network.name!r} has knobs that do more than add to what its layers get '
    'while they stand still: it has no network without knobs that is the same. '
    "Take a WaveNet, or an Rnn with conditioning='fixed'."
  )


def _wavenet_at(network, setting):
  for shape in network.shapes:
    if shape.films or shape.groups_mixin > 1:
      raise ValueError(
        f'{network.name!r} has modulations or groups of the knobs (films, '
        'groups_mixin); it has no network without knobs that is the same.'
      )
  plain = WaveNet(
    arrays=network.shapes,
    head_scale=network.head_scale,
    post_head=network.post_shape,
    name=network.name,
  )
  layers = [
    pair
    for arrays in zip(plain.arrays, network.arrays)
    for pair in zip(arrays[0].layers, arrays[1].layers)
  ]
  mixins = {layer.mixin.kernel.ref() for layer, _ in layers}
  for new, old in zip(plain.variables, network.variables, strict=True):
    if new.ref() not in mixins:
      new.assign(old)
  for new, old in layers:
    kernel = old.mixin.kernel
    new.mixin.kernel.assign(kernel[:1])
    new.conv.bias.assign_add(tf.linalg.matvec(kernel[1:], setting, True))
  return plain


def _rnn_at(network, setting):
  plain = Rnn(
    network.layers[0].cell,
    network.layers[0].n_units,
    len(network.layers),
    residual=network.residual,
    direct_path=network.direct_gain is not None,
    activation=network.activation,
    initial_state='trained' if network.learns_start else 'silence',
    name=network.name,
  )
  first = plain.layers[0]
  kernel = network.layers[0].kernel
  for new, old in zip(plain.variables, network.variables, strict=True):
    if new.ref() != first.kernel.ref():
      new.assign(old)
  first.kernel.assign(kernel[:1])
  first.bias.assign_add(tf.linalg.matvec(kernel[1:], setting, True))
  return plain
