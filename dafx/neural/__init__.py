"""Black-box networks as processors."""

from dafx.neural import nam
from dafx.neural.convolutional import DilatedConv
from dafx.neural.export import export_saved_model
from dafx.neural.recurrent import Rnn
from dafx.neural.s4 import S4
from dafx.neural.wavenet import LayerArray, WaveNet

__all__ = [
  'S4',
  'DilatedConv',
  'LayerArray',
  'Rnn',
  'WaveNet',
  'export_saved_model',
  'nam',
]
