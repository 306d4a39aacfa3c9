"""DDSP's Autoencoder as a model of dafx."""

from typing import Any

import gin

from dafx.training.models import base, ddsp_decoder, instrument, kinds


@gin.configurable(module='dafx.training.models')
class DdspModel(instrument.InstrumentModel):
  """DDSP's Autoencoder, trained and used as a model of dafx.

  Its preprocessor, encoder and decoder are a `DdspDecoder`; its graph and its
  losses are those of the model. It has the rates of its preprocessor. Plugins
  that take their controls from outside of the graph get heads of their own.
  Checkpoints of DDSP's trainer can be restored into it.

  >>> import tensorflow as tf
  >>> from dafx.training import models
  >>> models.DdspModel(tf.keras.layers.Dense(3))
  Traceback (most recent call last):
  TypeError: The model is Dense; dafx trains its own models and DDSP's...

  Args:
    autoencoder: A `ddsp.training.models.Autoencoder`.
    data_path: As of `InstrumentModel`.
    tracker: As of `InstrumentModel`.
    judged_by: As of `InstrumentModel`.
    name: Name of the model.

  Attributes:
    autoencoder: As above.

  Raises:
    TypeError: It is no Autoencoder.
    ValueError: One with another preprocessor than F0LoudnessPreprocessor.
  """

  def __init__(
    self,
    autoencoder: Any = gin.REQUIRED,
    data_path: str = '',
    tracker: str = 'swift_f0',
    judged_by: str = 'loss',
    name: str = 'ddsp_model',
  ):
    if not ddsp_decoder.is_of_ddsp(autoencoder, 'models', 'Autoencoder'):
      raise TypeError(
        f'The model is {kinds.kind_of(autoencoder)}; dafx trains its '
        "own models and DDSP's Autoencoder. Other models of DDSP are trained "
        'by `python -m dafx.ddsp run`; a model of your own derives from '
        'dafx.training.models.Model.'
      )
    preprocessor = autoencoder.preprocessor
    if preprocessor is None:
      raise ValueError(
        'The Autoencoder has no preprocessor. Give it one: '
        'Autoencoder.preprocessor = @preprocessing.F0LoudnessPreprocessor().'
      )
    ddsp_decoder.check_preprocessor(preprocessor)
    super().__init__(
      ddsp_decoder.DdspDecoder(
        autoencoder.decoder,
        preprocessor,
        autoencoder.encoder,
        preprocessor.sample_rate,
        preprocessor.frame_rate,
      ),
      autoencoder.processor_group,
      autoencoder.loss_objs,
      preprocessor.sample_rate,
      data_path=data_path,
      tracker=tracker,
      judged_by=judged_by,
      name=name,
    )
    self.autoencoder = autoencoder

  @property
  def ddsp_model(self) -> Any:
    """The Autoencoder, which DDSP's checkpoints are of."""
    return self.autoencoder


def as_model(model: Any) -> base.Model:
  """Returns a model as one of dafx: itself, or a `DdspModel` of it.

  This is the one place that takes models of others.

  Args:
    model: A `Model`, or an Autoencoder of DDSP.

  Raises:
    TypeError: It is something else.
  """
  if isinstance(model, base.Model):
    return model
  return DdspModel(model)
