"""Models of effects and instruments for use outside of Python."""

import os
import pathlib
from collections.abc import Sequence

from dafx import _folders, neural, processors
from dafx.neural import nam
from dafx.training import models


def export(
  model: models.Model,
  path: str | os.PathLike,
  block_size: int = 512,
  metadata: nam.Metadata | None = None,
  nam_version: str | None = None,
  knobs: Sequence[float] | None = None,
):
  """Writes a model for use outside of Python.

  Args:
    model: A model of an effect or an instrument; for a .nam file, of one
      network.
    path: Ends in .nam for a file of Neural Amp Modeler (see `neural.nam.write`
      for networks that it holds); any other is the folder of a SavedModel that
      streams: audio to audio, or the pitch and loudness of frames to audio.
    block_size: Samples per call of the SavedModel; of an instrument, what whole
      frames take of it.
    metadata: What a .nam file says beside loudness and gain.
    nam_version: Of the .nam format; None for the first that can hold it.
    knobs: Setting at which a network with knobs becomes a .nam file, in [0, 1],
      shape [n_knobs]: the format has no knobs. A SavedModel keeps them.

  Raises:
    ValueError: A model that sets plugins, one that the .nam format does not
      have, or one with a plugin or latency; or knobs that it has not. For a
      .nam file of a network with knobs and no setting, a SavedModel is written
      beside first.

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
  if not is_nam(path):
    if knobs is not None:
      raise ValueError(
        f'knobs={list(knobs)}: a SavedModel takes its knobs when it is used; a '
        'setting is for a path that ends in .nam.'
      )
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_stream(model, path, block_size)
    return
  check_nam(model, nam_version)
  (network,) = processors.nodes(model.processor_group).values()
  path.parent.mkdir(parents=True, exist_ok=True)
  if knobs is not None:
    network = nam.at_setting(network, knobs)
  elif network.n_knobs:
    beside = path.with_suffix('.saved_model')
    _write_stream(model, beside, block_size)
    raise ValueError(
      f'{path} was not written: {network.name!r} has {network.n_knobs} '
      'knob(s), and neither the .nam format nor its players have any. '
      f'{beside} is a SavedModel that keeps them. For a .nam file at one '
      f'setting, give knobs (--knobs={",".join(network.n_knobs * ["0.5"])}).'
    )
  nam.write(path, network, model.sample_rate, metadata, nam_version)


def _write_stream(model, path, block_size):
  """Writes a model as a SavedModel."""
  stream = model.as_stream(block_size)
  neural.export_stream(stream, path, stream.input_shapes, facts=stream.facts)


def is_nam(path: str | os.PathLike) -> bool:
  """Whether a path is that of a .nam file, by its suffix.

  Examples:
    >>> from dafx.training import inference
    >>> inference.is_nam('amp.NAM')
    True
  """
  return pathlib.Path(path).suffix.lower() == '.nam'


def check_nam(model: models.Model, nam_version: str | None = None):
  """Checks that a model can become a .nam file, trained or not.

  One with knobs can at a setting of these.

  Args:
    model: The model.
    nam_version: As of `export`.

  Raises:
    ValueError: It cannot; the message says what is in the way.

  Examples:
    >>> from dafx import effects, losses, processors
    >>> from dafx.training import inference, models
    >>> group = processors.ProcessorGroup(
    ...   [(effects.Waveshaper('tanh'), ['audio'])]
    ... )
    >>> model = models.EffectModel(group, [losses.EsrLoss()])
    >>> inference.check_nam(model)
    Traceback (most recent call last):
    ValueError: The .nam format has no Waveshaper: ...
  """
  model.check_mode('export')
  if not model.can_be_nam:
    raise ValueError(
      f'{type(model).__name__} is no effect, so no .nam file can hold it. A '
      'path that does not end in .nam gets a SavedModel.'
    )
  nodes = list(processors.nodes(model.processor_group).values())
  if len(nodes) != 1:
    raise ValueError(
      'What a .nam file can hold is one network of dafx.neural; this model has '
      f'the nodes {", ".join(n.name for n in nodes)}. A path that does not end '
      'in .nam gets a SavedModel, which can hold it.'
    )
  (network,) = nodes
  if network.n_knobs:
    network = nam.at_setting(network, network.n_knobs * [0.5])
  nam.check(network, nam_version)
