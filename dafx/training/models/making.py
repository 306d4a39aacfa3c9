"""The model that gin chose."""

from collections.abc import Sequence
from typing import Any

import gin
from gin import config_parser

from dafx.training import gin_text
from dafx.training.models import (
  base,
  control,
  ddsp_model,
  effect,
  instrument,
)

_KINDS = (
  control.ControlModel,
  effect.EffectModel,
  instrument.InstrumentModel,
  ddsp_model.DdspModel,
)


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


def check_bindings(kind: type[base.Model], params: Sequence[str]):
  """Raises ValueError for bindings of another kind of model than there is.

  Nothing reads them, and gin says nothing. Those of files are passed over: a
  file may bind several kinds, for several tasks.

  >>> from dafx.training import models
  >>> params = ['InstrumentModel.data_path = ""']
  >>> models.check_bindings(models.InstrumentModel, params)
  >>> models.check_bindings(models.DdspModel, params)
  Traceback (most recent call last):
  ValueError: InstrumentModel.data_path is bound, and the model is a DdspMo...

  Args:
    kind: Class of the model that gin made.
    params: Bindings of the command line.
  """
  own = kind.__name__
  others = {each.__name__ for each in _KINDS} - {own}
  for found in gin_text.statements('\n'.join(params), '--gin_param'):
    if not isinstance(found, config_parser.BindingStatement):
      continue
    name = found.selector.split('.')[-1]
    if name in others:
      raise ValueError(
        f'{name}.{found.arg_name} is bound, and the model is a {own}, which '
        f'does not read it. Bind {own}.{found.arg_name} if it is meant for '
        'this model, or leave it out.'
      )
