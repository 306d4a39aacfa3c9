"""The base of dafx's processors: DDSP's, which refuses tensors of Keras 3."""

import ddsp
import tensorflow as tf

from dafx import _environment

# Not a matter for AutoGraph, which converts what a layer's call calls.
_demand_keras_2_tensors = tf.autograph.experimental.do_not_convert(
  _environment.demand_keras_2_tensors
)


class Keras2Only:
  """Lets a Keras layer say in a sentence that Keras 3 does not fit it.

  It goes before the layer's base class.
  """

  def __call__(self, *args, **kwargs):
    """Calls the layer, unless with symbolic tensors of Keras 3.

    Args:
      *args: Tensors, as the layer takes them.
      **kwargs: The same by name, and what Keras passes.

    Returns:
      What the layer returns.

    Raises:
      TypeError: A symbolic tensor of Keras 3.
    """
    _demand_keras_2_tensors(*args, *kwargs.values())
    return super().__call__(*args, **kwargs)


class Processor(Keras2Only, ddsp.processors.Processor):
  """DDSP's Processor, for Keras 2 only.

  Args:
    name: Name of the layer, which is the node's in a DAG.
    trainable: Whether the layer's weights are trained.
  """
