"""Models of effects in use: on files, in other programs."""

import functools
import math
import os
from collections.abc import Callable

import matplotlib.image
import numpy as np
import tensorflow as tf

from dafx import _folders, neural, processors
from dafx.audio import files as audio_files
from dafx.audio import sources
from dafx.neural import nam
from dafx.training import plotting
from dafx.training import progress as progress_bar

# Samples that are streamed at once; whole frames, so that nothing is compiled
# but for the last chunk.
_CHUNK = 2**15


def process_audio(
  model,
  audio: np.ndarray,
  sample_rate: int,
  knobs=None,
  on_chunk: Callable[[float], None] | None = None,
) -> np.ndarray:
  """Runs a model of an effect over audio of any length, as a stream.

  Args:
    model: An EffectModel.
    audio: Shape [n_samples, n_channels]; channels go through one by one.
    sample_rate: Its rate, in Hz; it is brought to the model's, and back.
    knobs: In [0, 1], shape [n_knobs]; the middle of all if there are some.
    on_chunk: Called after each chunk with its length in s.

  Returns:
    Audio of that shape, float32, without the model's latency.

  Raises:
    ValueError: No samples, some that are not finite, or knobs that the model
      does not have.
  """
  audio = np.asarray(audio, np.float32)
  if audio.ndim != 2 or not audio.size or not np.isfinite(audio).all():
    raise ValueError(
      f'audio has shape {audio.shape}; it must be [n_samples, n_channels], not '
      'empty, and finite.'
    )
  inputs = _knob_inputs(model, knobs, audio.shape[1])
  n_samples = len(audio)
  audio = sources.resample(audio, sample_rate, model.sample_rate)
  streamer = processors.Streamer(model.processor_group, audio.shape[1])
  line = np.pad(audio, ((0, streamer.latency), (0, 0))).T
  chunks = []
  for start in range(0, line.shape[1], _CHUNK):
    chunk = line[:, start : start + _CHUNK]
    chunks.append(streamer.process(chunk, **inputs).numpy())
    if on_chunk is not None:
      on_chunk(chunk.shape[1] / model.sample_rate)
  out = np.concatenate(chunks, axis=1).T
  out = sources.resample(out, model.sample_rate, sample_rate)
  out = np.pad(out, ((0, max(n_samples - len(out), 0)), (0, 0)))[:n_samples]
  return out.astype(np.float32)


def _knob_inputs(model, knobs, n_channels):
  if not model.n_knobs:
    if knobs is not None and np.size(knobs):
      raise ValueError(f'knobs={np.asarray(knobs)}: the model has none.')
    return {}
  if knobs is None:
    knobs = np.full(model.n_knobs, 0.5)
  knobs = np.asarray(knobs, np.float32)
  in_range = np.all((knobs >= 0.0) & (knobs <= 1.0))
  if knobs.shape != (model.n_knobs,) or not in_range:
    raise ValueError(
      f'knobs={knobs} must be {model.n_knobs} numbers from 0 to 1.'
    )
  return {'knobs': np.tile(knobs, [n_channels, 1])}


def process(model, input_path: str, output_path: str, knobs=None):
  """Runs a model over a file or a folder, and writes what it makes.

  Beside each output lies a plot of the sound before and after (.png).

  Args:
    model: An EffectModel.
    input_path: An audio file, or a folder of them.
    output_path: The file, or the folder that gets files of the same names.
    knobs: As for `process_audio`.

  Returns:
    The audio files that were written.

  Raises:
    FileNotFoundError: No such file, or no audio in the folder.
    ValueError: A file that is no audio, or one that would replace an input.
  """
  jobs = audio_files.plan_outputs(input_path, output_path)
  progress = progress_bar.Progress(
    sum(audio_files.read_info(path).duration for path, _ in jobs),
    label='Processing',
    unit='second of audio',
  )
  bases = audio_files.without_suffixes([output for _, output in jobs])
  for (path, output), base in zip(jobs, bases, strict=True):
    progress.say(f'reading {path} and compiling')
    audio, sample_rate = audio_files.read(path)
    on_chunk = functools.partial(progress.update, str(output))
    with audio_files.named(path):
      out = process_audio(model, audio, sample_rate, knobs, on_chunk)
    progress.say(f'writing and drawing {output}')
    audio_files.write(output, out, sample_rate)
    figure = plotting.spectrograms({'before': audio, 'after': out}, sample_rate)
    image = plotting.figure_to_array(figure)
    matplotlib.image.imsave(base.with_name(f'{base.name}.png'), image)
  progress.close()
  return [output for _, output in jobs]


def export(model, path: str | os.PathLike, block_size: int = 512):
  """Writes a model for use outside of Python.

  Args:
    model: An EffectModel; for a .nam file, of one network.
    path: Ends in .nam for a file of Neural Amp Modeler (WaveNet or LSTM without
      knobs); any other is the folder of a SavedModel that streams.
    block_size: Samples per call of the SavedModel.

  Raises:
    ValueError: A model that the .nam format does not have, or with a plugin or
      latency.
  """
  path = _folders.expand_user(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix != '.nam':
    neural.export_saved_model(_Stream(model), path, block_size)
    return
  nodes = list(processors.nodes(model.processor_group).values())
  if len(nodes) != 1:
    raise ValueError(
      'What a .nam file can hold is one network of dafx.neural; this model has '
      f'the nodes {", ".join(n.name for n in nodes)}. A path that does not end '
      'in .nam gets a SavedModel, which can hold it.'
    )
  nam.write(path, nodes[0], model.sample_rate)


class _Stream:
  """A model as `neural.export_saved_model` takes it."""

  def __init__(self, model):
    self.name, self.n_knobs = model.name, model.n_knobs
    model.make_variables()
    self.variables = model.variables
    self._group = model.processor_group
    nodes = processors.nodes(self._group).values()
    self.frame_size = math.lcm(*(node.frame_size for node in nodes))

  def initial_state(self, batch_size):
    self._streamer = processors.Streamer(self._group, batch_size)
    return self._streamer.states

  def stream(self, state, audio, knobs=None):
    inputs = {'audio': audio}
    if knobs is not None:
      inputs['knobs'] = knobs[:, tf.newaxis]
    return self._streamer.run(inputs, state)
