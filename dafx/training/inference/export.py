"""Models of effects for use outside of Python."""

import math
import os

import tensorflow as tf

from dafx import _folders, neural, processors
from dafx.neural import nam
from dafx.training import models


def export(model: models.Model, path: str | os.PathLike, block_size: int = 512):
  """Writes a model for use outside of Python.

  Args:
    model: A model of an effect; for a .nam file, of one network.
    path: Ends in .nam for a file of Neural Amp Modeler (WaveNet or LSTM without
      knobs); any other is the folder of a SavedModel that streams.
    block_size: Samples per call of the SavedModel.

  Raises:
    ValueError: A model that sets plugins, one that the .nam format does not
      have, or one with a plugin or latency.

  Examples:
    >>> import pathlib
    >>> import tempfile
    >>> from dafx import losses, neural, processors
    >>> from dafx.training import inference, models
    >>> network = neural.Rnn(n_units=4, activation='linear')
    >>> model = models.EffectModel(
    ...   processors.ProcessorGroup([(network, ['audio'])]),
    ...   [losses.EsrLoss()],
    ...   sample_rate=48000,
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   inference.export(model, f'{folder}/amp.nam')
    ...   pathlib.Path(folder, 'amp.nam').exists()
    True
  """
  model.check_mode('export')
  path = _folders.expand_user(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix != '.nam':
    neural.export_saved_model(_Stream(model), path, block_size)
    return
  nodes = list(processors.nodes(model.processor_group).values())
  if len(nodes) != 1:
    raise ValueError(
      'What a .nam file can hold is one network of dafx.neural; this model has '
      f'the nodes {", ".join(n.name for n in nodes)}. A path that does not end '
      'in .nam gets a SavedModel, which can hold it.'
    )
  nam.write(path, nodes[0], model.sample_rate)


class _Stream:
  """A model as `neural.export_saved_model` takes it."""

  def __init__(self, model):
    self.name, self.n_knobs = model.name, model.n_knobs
    model.make_variables()
    self.variables = model.variables
    self._group = model.processor_group
    nodes = processors.nodes(self._group).values()
    self.frame_size = math.lcm(*(node.frame_size for node in nodes))

  def initial_state(self, batch_size):
    self._streamer = processors.Streamer(self._group, batch_size)
    return self._streamer.states

  def stream(self, state, audio, knobs=None):
    inputs = {'audio': audio}
    if knobs is not None:
      inputs['knobs'] = knobs[:, tf.newaxis]
    return self._streamer.run(inputs, state)
