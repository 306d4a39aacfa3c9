"""Neural Amp Modeler's .nam files: networks for plugins that play them.

A .nam file is JSON: version, metadata, architecture, config, sample_rate and
weights, one flat list. The format has no knobs. What players make of a file
counts; where the trainer of that program reads it in another way, what is
written here avoids that, or the docstrings say so.

Examples:
  >>> import tempfile
  >>> from dafx import neural
  >>> from dafx.neural import nam
  >>> with tempfile.TemporaryDirectory() as folder:
  ...   nam.write(f'{folder}/amp.nam', neural.Rnn(activation='linear'), 48000)
  ...   network, sample_rate = nam.read(f'{folder}/amp.nam')
  >>> sample_rate, type(network).__name__
  (48000, 'Rnn')
"""

from dafx.neural.nam.files import check, read, write
from dafx.neural.nam.knobs import at_setting
from dafx.neural.nam.metadata import Metadata, measure

__all__ = ['Metadata', 'at_setting', 'check', 'measure', 'read', 'write']
