"""Heads of a `ControlModel`, and what it checks of the audio."""

from collections.abc import Collection, Mapping

import ddsp
import numpy as np
import tensorflow as tf

from dafx import core, processors
from dafx.training.models import encoders, rendering

tfkl = tf.keras.layers

# Defaults at the end of a range are moved in, where the sigmoid still slopes.
_DEFAULT_MARGIN = 0.02


def sigmoid_head(
  n_controls: int, defaults: np.ndarray, name: str
) -> tf.keras.layers.Layer:
  """Returns a layer to [0, 1] that starts at given values.

  Small weights and the bias alone start a network at the plugin's defaults,
  which DeepAFx trains it to in a stage of its own.

  Args:
    n_controls: Number of controls.
    defaults: Where they start, in [0, 1], [n_controls].
    name: Name of the layer.
  """
  start = np.clip(defaults, _DEFAULT_MARGIN, 1.0 - _DEFAULT_MARGIN)
  bias = np.log(start / (1.0 - start))
  return tfkl.Dense(
    n_controls,
    activation='sigmoid',
    kernel_initializer=tf.keras.initializers.VarianceScaling(1e-3, seed=0),
    bias_initializer=tf.constant_initializer(bias),
    name=name,
    dtype='float32',  # so that controls are, where Keras computes in less
  )


class Part(tf.keras.layers.Layer):
  """A head without weights: a part of the embedding as it is.

  Args:
    part: Which values.
    name: Name of the layer.
  """

  def __init__(self, part: slice, name: str):
    super().__init__(name=name)
    self._part = part

  def call(self, embedding: tf.Tensor) -> tf.Tensor:
    """Takes the part of an embedding [batch, n_frames, width]."""
    return embedding[..., self._part]


def make_heads(
  control_maps: Mapping[str, core.ControlMap],
  sizes: Mapping[str, int],
  parts: Mapping[str, slice],
) -> dict[str, tf.keras.layers.Layer]:
  """Returns the layers from an embedding to the inputs of a graph, by input.

  Args:
    control_maps: Of what has controls in [0, 1]: a sigmoid, at the defaults.
    sizes: Of what has linear heads.
    parts: Of what is a part of the embedding, unless it has another head.
  """
  found: dict[str, tf.keras.layers.Layer] = {
    key: sigmoid_head(known.n_controls, known.defaults, f'{key}_head')
    for key, known in control_maps.items()
  }
  for key, size in sizes.items():
    found[key] = tfkl.Dense(size, name=f'{key}_head', dtype='float32')
  for key, part in parts.items():
    found.setdefault(key, Part(part, f'{key}_head'))
  return found


def check_taken(given: Collection[str], taken: Collection[str]):
  """Raises ValueError for what a network gives and no node of a graph takes.

  Args:
    given: Names of `output_splits`, and of what the encoder gives as it is.
    taken: Inputs of the graph.
  """
  lost = [key for key in given if key not in taken]
  if lost:
    raise ValueError(
      f'The network gives {", ".join(lost)} (output_splits), which no node of '
      f'the graph takes: they take {", ".join(taken)}. Correct the name in '
      'output_splits or in the graph, or leave it out of output_splits.'
    )


def check_length(encoder: encoders.Encoder, features: Mapping[str, tf.Tensor]):
  """Checks that audio, and what is heard of it, fit an encoder.

  Args:
    encoder: What hears it.
    features: 'audio', [batch, n_samples(, n_channels)], and maybe 'heard', with
      the encoder's margins.

  Raises:
    ValueError: Audio that is no multiple of the hop size, or margins of another
      size.
  """
  hop_size, n_samples = encoder.hop_size, features['audio'].shape[1]
  if hop_size and n_samples is not None and n_samples % hop_size:
    raise ValueError(
      f"The audio has {n_samples} samples, no multiple of the encoder's "
      f'hop_size={hop_size}: its controls would be stretched. Take '
      f'{n_samples // hop_size * hop_size} samples, or pad it to '
      f'{-(-n_samples // hop_size) * hop_size}.'
    )
  n_heard = features['heard'].shape[1] if 'heard' in features else None
  if None not in (n_heard, n_samples) and (
    n_heard != n_samples + 2 * encoder.margin
  ):
    raise ValueError(
      f"'heard' has {n_heard} samples; it must be the {n_samples} of 'audio' "
      f'and the margin of {encoder.margin} at both ends, so '
      f'{n_samples + 2 * encoder.margin}.'
    )


def make_variables_of_nodes(
  group: ddsp.processors.ProcessorGroup, inputs: Mapping[str, tf.Tensor]
):
  """Runs a graph if some of its nodes make their variables when called.

  Such are some of DDSP's and Keras's.

  Args:
    group: The graph.
    inputs: Its inputs, among them 'audio', [1, n_samples].
  """
  nodes = processors.nodes(group).values()
  if not all(node.has_variables for node in nodes):
    with rendering.at_length(group, inputs['audio'].shape[1]):
      group(dict(inputs))
