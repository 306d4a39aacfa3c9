"""The one place where graphs of TensorFlow call Python."""

import atexit
import collections
import contextlib
import functools
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import control_flow_util
from tensorflow.python.saved_model import save_context


def is_in_xla() -> bool:
  """Returns whether XLA is to compile what is traced (`jit_compile=True`)."""
  if tf.executing_eagerly():
    return False
  graph = tf.compat.v1.get_default_graph()
  return control_flow_util.GraphOrParentsInXlaContext(graph)


def is_in_saved_model() -> bool:
  """Returns whether a SavedModel is being written of what is traced."""
  return save_context.in_save_context()


def refuse_saved_model(name: str) -> NoReturn:
  """Raises ValueError: Python cannot go into a SavedModel.

  Args:
    name: What runs in Python.

  Raises:
    ValueError: Always.

  Examples:
    >>> from dafx import core
    >>> core.refuse_saved_model("the plugin 'limiter'")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: A SavedModel cannot hold the plugin 'limiter', which runs ...
  """
  raise ValueError(
    f'A SavedModel cannot hold {name}, which runs in Python. Save the model '
    "with its weights as one file, model.save('model.keras'). Where it has to "
    'run without Python, train a network in its place '
    '(effects.ProxyLV2Plugin), and export that by neural.export_saved_model.'
  )


def call_python(
  function: Callable,
  inputs: Sequence[tf.Tensor],
  types: Any,
  name: str,
  stateful: bool = False,
) -> Any:
  """As `tf.numpy_function`; says where a graph cannot call Python.

  Args:
    function: From arrays to arrays.
    inputs: Its arguments.
    types: Types of what it returns.
    name: What it computes, for messages, such as "the plugin 'limiter'".
    stateful: Whether what it returns depends on more than the inputs.

  Returns:
    Tensors of these types, of unknown shape.

  Raises:
    ValueError: XLA is to compile the graph, or it goes into a SavedModel.

  Examples:
    >>> import numpy as np
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> core.call_python(
    ...   np.sort, [[3.0, 1.0]], tf.float32, 'a sort'
    ... ).numpy().tolist()
    [1.0, 3.0]
  """
  if is_in_xla():
    raise ValueError(
      f'XLA cannot compile {name}, which runs in Python. Leave jit_compile '
      'away, in model.compile(...) and in every tf.function around it; the '
      'rest of a step is compiled by TensorFlow anyway.'
    )
  if is_in_saved_model():
    refuse_saved_model(name)
  _close_iterators_at_exit()

  def noted(*arrays):
    try:
      return function(*arrays)
    except Exception as error:
      _faults.append(error)
      raise

  return tf.numpy_function(noted, inputs, types, stateful=stateful)


def differentiable_once(
  function: Callable, inputs: Sequence[tf.Tensor], name: str
) -> Any:
  """Calls a function that is a gradient, and has none itself.

  What Python computes is constant to TensorFlow: a second derivative through
  it would lack that part, in silence.

  Args:
    function: From tensors to a tensor, or to several.
    inputs: All that it depends on and that a gradient may be asked of, floats.
    name: What it is the gradient of, for messages.

  Returns:
    What the function returns. A derivative of it (`tf.hessians`, a tape in a
    tape, `tf.autodiff.ForwardAccumulator`) raises ValueError as it is computed,
    in a graph as TensorFlow wraps it, unless it is multiplied by zero.

  Examples:
    >>> import numpy as np
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> x = tf.Variable([0.0])
    >>> with tf.GradientTape() as tape:
    ...   slope = core.differentiable_once(
    ...     lambda x: core.call_python(np.cos, [x], tf.float32, 'a sine'),
    ...     [x.read_value()],
    ...     'a sine',
    ...   )
    >>> slope.numpy().tolist()
    [1.0]
    >>> tape.gradient(slope, x)
    Traceback (most recent call last):
    ValueError: A derivative of the gradient of a sine was asked for, ...
  """

  def refuse(*cotangents):
    if any(np.any(cotangent) for cotangent in cotangents):
      raise ValueError(
        f'A derivative of the gradient of {name} was asked for, as for a '
        'second derivative or in forward mode. It has first derivatives in '
        'reverse mode alone: tf.GradientTape.gradient and .jacobian. Take '
        'finite differences of the first derivative, or tf.stop_gradient of '
        'it where it is to count as a constant.'
      )
    return np.float32(0.0)

  @tf.custom_gradient
  def call(*inputs):
    def gradient(*cotangents):
      # As it runs: a graph may hold it for a tape that never asks.
      zero = call_python(refuse, cotangents, tf.float32, name)
      zero.set_shape([])
      zeros = [tf.zeros_like(x) + tf.cast(zero, x.dtype) for x in inputs]
      return zeros if len(zeros) > 1 else zeros[0]

    return function(*inputs), gradient

  return call(*inputs)


# What Python raised in graphs of late; data is read ahead of its step.
_faults: collections.deque[Exception] = collections.deque(maxlen=64)


@contextlib.contextmanager
def raising_faults() -> Iterator[None]:
  """Has what Python raises in a graph come out as it was raised.

  TensorFlow gives an error of its own, whose text tells of the graph first.
  Keras and gin raise others in place of what is raised in a layer.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> @tf.function
    ... def fails():
    ...   return core.call_python(lambda: 1 / 0, [], tf.float32, 'a division')
    >>> with core.raising_faults():
    ...   _ = fails()
    Traceback (most recent call last):
    ZeroDivisionError: division by zero
  """
  try:
    yield
  except tf.errors.OpError as error:
    for fault in reversed(_faults):
      if f'{type(fault).__name__}: {fault}' in error.message:
        raise fault from error
    raise
  except Exception as error:
    hidden: BaseException = error
    while hidden.__suppress_context__ and hidden.__cause__ is None:
      if hidden.__context__ is None:
        break
      hidden = hidden.__context__
      if any(fault is hidden for fault in _faults):
        raise hidden from None
    raise


@functools.cache
def _close_iterators_at_exit():
  """Has iterators of tf.data ended while Python still runs, at most once.

  A pipeline works ahead on threads of its own. When the interpreter ends, a
  thread that waits for Python never gets it, its item never comes, and the
  iterator, freed last of all, waits for that item for ever.
  """
  atexit.register(_close_iterators)


def _close_iterators():
  for thing in gc.get_objects():
    if issubclass(type(thing), tf.data.Iterator):
      # Its only owner: the pipeline is cancelled, and waited for.
      thing._iterator_resource = None
