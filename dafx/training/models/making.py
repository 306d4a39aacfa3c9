"""The model that gin chose."""

from typing import Any

import gin

from dafx.training.models import base, ddsp_model


@gin.configurable(module='dafx.training.models')
def make_model(model: Any = gin.REQUIRED) -> base.Model:
  """Returns the model that gin chose (`make_model.model = @...()`).

  >>> from dafx.training import models
  >>> import gin
  >>> _ = gin.parse_config(
  ...   [
  ...     'make_model.model = @effect_models.EffectModel()',
  ...     'EffectModel.processor_group = @processors.ProcessorGroup()',
  ...     'EffectModel.losses = []',
  ...     "ProcessorGroup.dag = [(@effects.Waveshaper(), ['audio'])]",
  ...   ]
  ... )
  >>> isinstance(models.make_model(), models.Model)
  True
  >>> gin.clear_config()

  Args:
    model: A `Model`, or an Autoencoder of DDSP, which becomes a `DdspModel`.

  Raises:
    TypeError: It is something else.
  """
  return ddsp_model.as_model(model)
