"""Figures of what the blocks of a gray box do: responses, curves, controls."""

import pathlib

import numpy as np
import scipy.signal
import tensorflow as tf

from dafx import _folders, core, effects, processors
from dafx.training import plotting

_N_POINTS = 400
_LOWEST_HZ = 20.0


def frequency_response(processor, sample_rate: int, controls=None):
  """Draws the magnitude of a filter's response.

  Args:
    processor: `Biquads` or `Fir`.
    sample_rate: In Hz.
    controls: Of `Biquads`, in units, [n_frames, n_controls]: the first, middle
      and last frame are drawn if they differ.

  Returns:
    matplotlib Figure.
  """
  at_hz = np.geomspace(_LOWEST_HZ, 0.499 * sample_rate, _N_POINTS)
  responses = {}
  if isinstance(processor, effects.Fir):
    ir = processor.impulse_response().numpy()
    responses[''] = scipy.signal.freqz(ir, worN=at_hz, fs=sample_rate)[1]
  else:
    sections = processor.coefficients(tf.constant(controls)[tf.newaxis])
    frames = sections[0].numpy()
    for name, sos in zip(('first', 'middle', 'last'), _ends(frames)):
      responses[name] = scipy.signal.sosfreqz(sos, at_hz, fs=sample_rate)[1]
  gains_db = {
    name: 20.0 * np.log10(np.maximum(np.abs(h), 1e-6))
    for name, h in responses.items()
  }
  labels = 'Frequency (Hz)', 'Gain (dB)'
  return plotting.lines(at_hz, gains_db, *labels, processor.name, log=True)


def transfer_curve(waveshaper, limit: float = 2.0):
  """Draws what a waveshaper makes of values from -limit to limit.

  Args:
    waveshaper: A `Waveshaper`.
    limit: Largest value.

  Returns:
    matplotlib Figure.
  """
  x = np.linspace(-limit, limit, _N_POINTS, dtype=np.float32)
  y = waveshaper.curve(tf.constant(x)).numpy()
  return plotting.lines(x, {'': y}, 'Input', 'Output', waveshaper.name)


def static_curve(dynamics, controls):
  """Draws output over input level of a `Dynamics` that has settled.

  Args:
    dynamics: A `Dynamics`.
    controls: In units, [n_frames, n_controls]: the first, middle and last frame
      are drawn if they differ.

  Returns:
    matplotlib Figure.
  """
  level_db = np.linspace(-80.0, 0.0, _N_POINTS, dtype=np.float32)
  curves = {}
  for name, frame in zip(('first', 'middle', 'last'), _ends(controls)):
    frame = tf.constant(frame[np.newaxis, np.newaxis])
    settings = {s: v[0, 0] for s, v in dynamics.settings(frame).items()}
    for symbol in ('attack_ms', 'release_ms'):
      settings.pop(symbol)
    makeup_db = settings.pop('makeup_db')
    reduction = core.reduction_db(dynamics.kind, level_db, **settings)
    curves[name] = (level_db - reduction + makeup_db).numpy()
  return plotting.lines(
    level_db, curves, 'Input (dB)', 'Output (dB)', dynamics.name
  )


def trajectories(processor, controls, seconds: float):
  """Draws the controls of a processor over time, in units.

  Args:
    processor: With a `control_map`.
    controls: In units, [n_frames, n_controls].
    seconds: Length of the audio.

  Returns:
    matplotlib Figure.
  """
  n_frames, control_map = len(controls), processor.control_map
  return plotting.control_trajectories(
    controls,
    symbols=control_map.symbols,
    units=[''] * len(control_map.symbols),
    ranges=list(zip(control_map.low, control_map.high)),
    logarithmic=[bool(log) for log in control_map.is_log],
    frame_times_s=np.arange(n_frames) * seconds / n_frames,
    title=f'{processor.name}: controls',
  )


def block_figures(group, outputs, sample_rate: int, item: int = 0):
  """Draws each block of a gray box as it was for one item.

  Args:
    group: Group of nodes.
    outputs: What `group.get_controls` gave.
    sample_rate: In Hz.
    item: Which item of the batch.

  Returns:
    {'node/response', 'node/curve' or 'node/controls': matplotlib Figure}; empty
    for a graph without such blocks.
  """
  figures = {}
  for name, node in processors.nodes(group).items():
    controls, n_controls = None, 0
    if isinstance(node, effects.Controlled):
      n_controls = node.n_controls
      inputs = outputs[name]['controls']
      controls = np.asarray(inputs['controls'])[item]
    if isinstance(node, effects.Biquads):
      figures[f'{name}/response'] = frequency_response(
        node, sample_rate, controls
      )
    elif isinstance(node, effects.Fir):
      figures[f'{name}/response'] = frequency_response(node, sample_rate)
    elif isinstance(node, effects.Waveshaper):
      figures[f'{name}/curve'] = transfer_curve(node)
    elif isinstance(node, effects.Dynamics):
      figures[f'{name}/curve'] = static_curve(node, controls)
    if n_controls:
      n_samples = np.shape(inputs['audio'])[1]
      figures[f'{name}/controls'] = trajectories(
        node, controls, n_samples / sample_rate
      )
  return figures


def write(figures, folder) -> list[pathlib.Path]:
  """Writes figures as PNG files, node_what.png; returns their paths."""
  folder = _folders.expand_user(folder)
  if figures:
    folder.mkdir(parents=True, exist_ok=True)
  paths = []
  for name, figure in figures.items():
    paths.append(folder / f'{name.replace("/", "_")}.png')
    paths[-1].write_bytes(plotting.figure_to_png(figure))
  return paths


def _ends(frames):
  """Returns the first, middle and last frame, or the first if all are one."""
  frames = np.asarray(frames)
  if np.allclose(frames, frames[:1], rtol=1e-4, atol=1e-6):
    return frames[:1]
  return frames[[0, len(frames) // 2, -1]]
