"""What dafx's layers share, so that they work in a user's own Keras model."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import ddsp
import numpy as np
import tensorflow as tf

from dafx import _environment, core
from dafx.processors import node

_HALF = (tf.float16, tf.bfloat16)
# Keras's flag; the argument `trainable` of an effect is a list of controls.
_FROZEN = 'trainable'
# Dataclasses that arguments of layers may be, by their names in what is saved.
_RECORDS: dict[str, type] = {}
_register = tf.keras.utils.register_keras_serializable(package='dafx')
# Not a matter for AutoGraph, which converts what a layer's call calls.
_demand_keras_2_tensors = tf.autograph.experimental.do_not_convert(
  _environment.demand_keras_2_tensors
)


class Layer(tf.keras.layers.Layer):
  """A layer in single precision, whose weights have names of their own.

  Filters and recursions need single precision: under a policy such as
  'mixed_float16', weights and what is computed stay float32. The names begin
  with the layer's, because .h5 files tell the weights of a model's layer apart
  by them.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import processors
    >>> tf.keras.mixed_precision.set_global_policy('mixed_float16')
    >>> processors.Layer(name='exact').compute_dtype
    'float32'
    >>> tf.keras.mixed_precision.set_global_policy('float32')
  """

  def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)
    if tf.as_dtype(self.compute_dtype) in _HALF:
      self._set_dtype_policy('float32')

  def __call__(self, *args, **kwargs):
    """As Keras's.

    Raises:
      TypeError: A symbolic tensor of Keras 3.
    """
    _demand_keras_2_tensors(*args, *kwargs.values())
    return super().__call__(*args, **kwargs)

  def add_weight(self, name: str, *args, **kwargs) -> tf.Variable:
    """Adds a variable, named after the layer too; as Keras's."""
    with tf.name_scope(self.name):
      return super().add_weight(name, *args, **kwargs)


def register_record(cls: type) -> type:
  """Has Keras save a dataclass as an argument of a layer; returns it.

  Args:
    cls: A dataclass whose fields are arguments as `Rebuildable` takes them.

  Examples:
    >>> import dataclasses
    >>> from dafx import processors
    >>> @processors.register_record
    ... @dataclasses.dataclass(frozen=True)
    ... class Shape:
    ...   width: int
    >>> Shape(4)
    Shape(width=4)
  """
  _RECORDS[f'dafx>{cls.__name__}'] = cls
  return cls


def _to_json(value):
  """Returns an argument as JSON has it; tuples and arrays become lists."""
  if type(value) in _RECORDS.values():
    name = f'dafx>{type(value).__name__}'
    return {'class_name': name, 'config': _to_json(dict(vars(value)))}
  if isinstance(value, dict):
    return {key: _to_json(part) for key, part in value.items()}
  if isinstance(value, (list, tuple)):
    return [_to_json(part) for part in value]
  if isinstance(value, (np.ndarray, np.generic)):
    return value.tolist()
  if value is None or isinstance(value, (bool, int, float, str)):
    return value
  config = tf.keras.utils.serialize_keras_object(value)
  if isinstance(config, dict) and _is_ours(type(value)):
    # The name that whole models in .h5 files are read by, too.
    config['class_name'] = tf.keras.utils.get_registered_name(type(value))
  return config


def _is_ours(cls):
  return cls.__module__.startswith('dafx.')


def _from_json(value):
  """Returns an argument from what `_to_json` made of it."""
  if isinstance(value, list):
    return [_from_json(part) for part in value]
  if not isinstance(value, dict):
    return value
  if value.get('class_name') in _RECORDS:
    return _RECORDS[value['class_name']](**_from_json(value['config']))
  if 'class_name' in value:
    return tf.keras.utils.deserialize_keras_object(value)
  return {key: _from_json(part) for key, part in value.items()}


def _remake(cls, arguments, attributes, weights):
  """Makes a layer like another; see `Rebuildable.__reduce__`."""
  layer = cls(**arguments)
  layer.set_attributes(attributes)
  layer.set_weights(weights)
  return layer


class Rebuildable(core.Recorded, Layer):
  """A layer that can be made again from the arguments it was made with.

  These are recorded as it is made, those that gin bound included. So Keras can
  save and clone it (`get_config`), and `copy.deepcopy` and `pickle` make one
  like it: with weights of its own, of the same values. What such a layer keeps
  beside its weights, such as a stream that goes on, begins anew.

  Arguments are numbers, strings, None, arrays, Keras layers, dataclasses of
  `register_record`, and lists and dictionaries of these. All weights must be
  made by the constructor. Subclasses in dafx are registered with Keras as
  'dafx>Name'.

  Attributes:
    changeable: Names of attributes that may be set after the layer was made.
      What they are then is saved too.

  Examples:
    >>> import copy
    >>> from dafx import effects, processors
    >>> gain = effects.Gain(ranges={'gain_db': (-12.0, 12.0)})
    >>> isinstance(gain, processors.Rebuildable)
    True
    >>> again = copy.deepcopy(gain)
    >>> again.get_config() == gain.get_config()
    True
  """

  changeable: tuple[str, ...] = ()

  def __init_subclass__(cls, **kwargs):
    """Registers dafx's own with Keras."""
    super().__init_subclass__(**kwargs)
    if _is_ours(cls):
      _register(cls)

  def __call__(self, *args, **kwargs):
    """As Keras's; half-precision inputs are cast to single precision."""
    args, kwargs = tf.nest.map_structure(_at_least_single, (args, kwargs))
    return super().__call__(*args, **kwargs)

  def arguments(self) -> dict[str, Any]:
    """Returns arguments of the constructor that make a layer like this one."""
    return {**self.recorded_arguments(), 'name': self.name}

  def attributes(self) -> dict[str, Any]:
    """Returns those that may have changed since: `changeable`, `trainable`."""
    return {name: getattr(self, name) for name in (_FROZEN, *self.changeable)}

  def set_attributes(self, attributes: dict[str, Any]):
    """Sets those of `attributes` that are not so already."""
    for name, value in attributes.items():
      if getattr(self, name) != value:
        setattr(self, name, value)

  def get_config(self) -> dict[str, Any]:
    """Returns `arguments`, and `attributes`, as what goes into JSON."""
    config = {**self.arguments(), 'attributes': self.attributes()}
    return _to_json(config)

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> 'Rebuildable':
    """Makes a layer from what `get_config` returned.

    Raises:
      ValueError: What the constructor refuses, such as a plugin that is not
        installed here.
    """
    arguments = {name: _from_json(value) for name, value in config.items()}
    attributes = arguments.pop('attributes')
    layer = cls(**arguments)
    layer.set_attributes(attributes)
    return layer

  def __reduce__(self):
    """Says how copies are made: again, from the arguments and the weights."""
    state = (self.arguments(), self.attributes(), self.get_weights())
    return _remake, (type(self), *state)


def _at_least_single(value):
  # Whatever has a type of numbers: tensors, arrays, Keras's symbolic tensors.
  is_half = getattr(value, 'dtype', None) in _HALF
  return tf.cast(value, tf.float32) if is_half else value


def name_inputs(call: Callable, method: Callable, n_left_out: int) -> Callable:
  """Returns a method `call` that tells Keras the names of a layer's inputs.

  A functional model is saved with its inputs by name. From *args Keras learns
  no names, and drops all inputs but the first.

  Args:
    call: From (self, *inputs, **kwargs); takes the inputs by name too.
    method: What the inputs are for, whose arguments have their names.
    n_left_out: How many of its arguments, from `self` on, are no inputs.

  Examples:
    >>> from dafx import processors
    >>> class Wide(processors.Layer):
    ...   def get_controls(self, audio, knobs):
    ...     return {'audio': audio, 'knobs': knobs}
    ...
    ...   def _call(self, *inputs, **kwargs):
    ...     return inputs[0]
    ...
    ...   call = processors.name_inputs(_call, get_controls, 1)
    >>> Wide()(1.0, 0.5).numpy()
    np.float32(1.0)
  """

  @functools.wraps(call)
  def named(self, *args, **kwargs):
    return call(self, *args, **kwargs)

  itself, *_ = parameters = inspect.signature(method).parameters.values()
  rest = inspect.Parameter('kwargs', inspect.Parameter.VAR_KEYWORD)
  signature = inspect.Signature([itself, *list(parameters)[n_left_out:], rest])
  named.__signature__ = signature  # type: ignore[attr-defined]
  return named


class Processor(node.Node, Rebuildable, ddsp.processors.Processor):
  """DDSP's Processor, in single precision, that can be saved and copied.

  What else it can do is declared as `Node` says.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import processors
    >>> class Invert(processors.Processor):
    ...   def get_controls(self, audio):
    ...     return {'audio': audio}
    ...
    ...   def get_signal(self, audio):
    ...     return -audio
    >>> Invert(name='invert')(tf.ones([1, 2])).numpy().tolist()
    [[-1.0, -1.0]]
  """

  # What a node is and what its controls mean is compared as such; how it is
  # rendered and how gradients are estimated may change.
  free_arguments: ClassVar[tuple[str, ...]] = (
    *('uri', 'plugins', 'control_map'),
    *('choices', 'fixed', 'ranges', 'trainable'),
    *('n_plugins', 'host', 'audio_gradient', 'control_gradient'),
  )

  def __init_subclass__(cls, **kwargs):
    """Names the inputs for Keras."""
    super().__init_subclass__(**kwargs)
    if 'get_controls' in vars(cls) and 'call' not in vars(cls):
      call = ddsp.processors.Processor.call
      cls.call = name_inputs(call, cls.get_controls, 1)
