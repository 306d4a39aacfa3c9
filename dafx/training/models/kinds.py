"""What a model is made of, and how it is told of what is something else."""

from collections.abc import Sequence
from typing import Any

import ddsp
import tensorflow as tf


def kind_of(part: Any) -> str:
  """Returns what something is called that is none of what is wanted.

  Args:
    part: An object, or a class that gin was to call.
  """
  if isinstance(part, type):
    return f'the class {part.__name__}, which () behind its name would call'
  return type(part).__name__


def check_group(processor_group: Any):
  """Raises TypeError unless a model is given a graph.

  Args:
    processor_group: What it is given.
  """
  if not isinstance(processor_group, ddsp.processors.ProcessorGroup):
    raise TypeError(
      f'processor_group is {kind_of(processor_group)}; it must be '
      '@processors.ProcessorGroup(), with a dag.'
    )


def list_losses(losses: Any) -> list[tf.keras.layers.Layer]:
  """Returns the losses that a model is given; none is an empty list.

  Args:
    losses: What it is given.

  Raises:
    TypeError: They are no sequence of layers.
  """
  found = losses if isinstance(losses, Sequence) else [losses]
  wrong = [
    loss for loss in found if not isinstance(loss, tf.keras.layers.Layer)
  ]
  if wrong or found is not losses:
    raise TypeError(
      f'losses has {kind_of((wrong or found)[0])}; it must be a list of '
      'losses, such as [@losses.SpectralLoss()].'
    )
  return list(found)
