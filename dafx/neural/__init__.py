"""Black-box networks as processors."""

from dafx.neural.activations import Activation
from dafx.neural.chain import Chain
from dafx.neural.conv_net import ConvNet, Linear
from dafx.neural.convolutional import DilatedConv
from dafx.neural.export import (
  check_block_size,
  export_saved_model,
  export_stream,
)
from dafx.neural.packed import Packed
from dafx.neural.recurrent import Rnn
from dafx.neural.s4 import S4
from dafx.neural.wavenet import WaveNet
from dafx.neural.wavenet_shapes import Film, Head1x1, LayerArray, PostHead

__all__ = [
  'S4',
  'Activation',
  'Chain',
  'ConvNet',
  'DilatedConv',
  'Film',
  'Head1x1',
  'LayerArray',
  'Linear',
  'Packed',
  'PostHead',
  'Rnn',
  'WaveNet',
  'check_block_size',
  'export_saved_model',
  'export_stream',
]
