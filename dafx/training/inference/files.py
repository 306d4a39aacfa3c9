"""A trained model at work on audio files of any length, rate and channels."""

import csv
import dataclasses
import os
import pathlib
import shlex
from collections.abc import Sequence

import gin
import matplotlib.image
import numpy as np
import scipy.signal
import tensorflow as tf

from dafx import _folders, lv2
from dafx.audio import band_powers
from dafx.audio import files as audio_files
from dafx.audio import sources as chunks
from dafx.training import checkpoints, gin_files, models, plotting
from dafx.training import progress as progress_bar
from dafx.training.models import encoders, rendering

# What is faster than half the highest rate that frames can show is taken out of
# the controls first, by a filter of order 4 without shift of phase (DeepAFx).
_SMOOTHING = scipy.signal.butter(4, 0.5, output='sos')


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a model does to one piece of audio.

  Attributes:
    points: What trajectories are drawn through, smoothed, in port units, by
      processor, [n_points, n_controls].
    raw_points: The same as the network gave them.
    point_times_s: When the points are, [n_points].
  """

  points: dict[str, np.ndarray]
  raw_points: dict[str, np.ndarray]
  point_times_s: np.ndarray


@dataclasses.dataclass(frozen=True)
class Result(Plan):
  """What a model made of one piece of audio.

  Attributes:
    audio: Shape [n_samples, n_channels], at `sample_rate`.
    sample_rate: Rate of the audio, in Hz.
    controls: Trajectories as they were rendered, in port units, by processor,
      [n_frames, n_controls]; one frame if the setting does not move.
    frame_times_s: When each frame of the controls begins, [n_frames]; one per
      64 samples at the rate that the plugins ran at.
  """

  audio: np.ndarray
  sample_rate: int
  controls: dict[str, np.ndarray]
  frame_times_s: np.ndarray


def load_model(save_dir: str | os.PathLike, gin_params=()):
  """Builds the model of a training run, with its best weights.

  Args:
    save_dir: Where the run was saved. Its gin configuration takes the place of
      what gin had before.
    gin_params: Bindings that come after it.

  Returns:
    The model: the best validated, or else the last one.

  Raises:
    FileNotFoundError: There is no training run.
    ValueError: There is no checkpoint, or one of another model; or the run is
      of an older version and its configuration has to be updated first.
  """
  folder = _folders.expand_user(save_dir)
  gin.clear_config()
  with gin.unlock_config():
    gin_files.parse_operative_config(folder)
    gin_files.parse_gin(params=gin_params)
  model = models.get_model()
  checkpoints.restore_model(model, folder)
  return model


def load_setting(
  save_dir: str | os.PathLike,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Returns the setting that a training run with `encoders.Constant` found.

  Args:
    save_dir: Where the run was saved. Its gin configuration takes the place of
      what gin had before.

  Returns:
    (Controls in [0, 1], {input of the DAG: [1, n_controls]}, for
    `process_audio`; what they mean, as of `Model.meanings`, which has to be
    the same for a model that takes them).

  Raises:
    ValueError: The run's encoder gives more than one setting; or as
      `load_model`.
  """
  model = load_model(save_dir)
  if not isinstance(model.encoder, encoders.Constant):
    raise ValueError(
      f'{save_dir} holds a model with {type(model.encoder).__name__}, which '
      'has no single setting; train one with --gin_file=single_setting.gin '
      'after the task.'
    )
  controls = model.predict_controls(tf.zeros([1, 1]))
  setting = {key: value[0].numpy() for key, value in controls.items()}
  return setting, model.meanings()


def _smooth(frames):
  """Takes what is fast out of controls in [0, 1]; [n, n_controls] both."""
  if len(frames) < 2:
    return frames
  padding = min(15, len(frames) - 1)
  smooth = scipy.signal.sosfiltfilt(_SMOOTHING, frames, axis=0, padlen=padding)
  return np.clip(smooth, 0.0, 1.0).astype(np.float32)


def prepare(model, audio: np.ndarray, sample_rate: int) -> np.ndarray:
  """Does to an input what was done to those that a model was trained on.

  Args:
    model: A `models.ControlModel`.
    audio: Shape [n_samples, n_channels].
    sample_rate: Its rate, in Hz.

  Returns:
    Audio of that shape.
  """
  if model.preprocessor is None:
    return audio
  return model.preprocessor.process_input(audio, sample_rate)


def _point_times(model, n_points):
  """Returns when points of the network's controls are, in s, [n_points]."""
  hop_s = (model.encoder.hop_size or 1) / model.sample_rate
  return (np.arange(n_points) + 0.5) * hop_s


def _in_port_units(model, by_key):
  """Maps controls in [0, 1] to port units, by processor that runs."""
  audio = np.zeros([1, 1], np.float32)
  return {
    p.name: np.asarray(p.get_controls(audio, by_key[key][None])['controls'][0])
    for key, p in model.driven.items()
    if p in model.running
  }


def plan(model, source: chunks.Source, setting=None):
  """Listens to audio and says how it is to be rendered.

  Args:
    model: A `models.ControlModel`.
    source: The audio.
    setting: As for `process_audio`.

  Returns:
    (what renders it, a `rendering.Rendering`; `Plan`).
  """
  raw = model.listen(source) if setting is None else setting
  smooth = {key: _smooth(frames) for key, frames in raw.items()}
  n_points = max(len(frames) for frames in raw.values())
  times_s = _point_times(model, n_points)
  moves = model.encoder.hop_size and setting is None
  return rendering.Rendering(
    model, source, smooth, times_s if moves else None
  ), Plan(_in_port_units(model, smooth), _in_port_units(model, raw), times_s)


def process_audio(
  model, audio: np.ndarray, sample_rate: int, setting=None
) -> Result:
  """Runs a model over a whole piece of audio.

  The encoder hears a mono mix at the rate that it was trained at. Its controls
  are smoothed. Plugins render all channels, under the same controls, in steps
  of 64 samples, and without their latency: at the audio's own rate, or at the
  model's if that is higher.

  Args:
    model: A `models.ControlModel`.
    audio: Shape [n_samples, n_channels], as `prepare` gives it.
    sample_rate: Its rate, in Hz.
    setting: Controls in [0, 1] to use instead of the network's, {input of the
      DAG: [1, n_controls]}.

  Returns:
    What came out; as many samples as went in.

  Raises:
    ValueError: No samples, or some that are not finite, or a number of channels
      that the plugins do not take.
  """
  source = chunks.from_array(audio, sample_rate)
  renders, planned = plan(model, source, setting)
  out = np.concatenate(list(renders.blocks()))
  return Result(
    planned.points,
    planned.raw_points,
    planned.point_times_s,
    out,
    sample_rate,
    _in_port_units(model, renders.controls()),
    renders.frame_times_s,
  )


def write_controls(model, result: Plan, path: str | os.PathLike, raw=False):
  """Writes controls as CSV: a column per control, with its unit.

  A row is a point of the trajectories, in the middle of one of the network's
  frames; between them a control moves in a straight line, on its scale.

  Args:
    model: The model that made them.
    result: What it made.
    path: The file.
    raw: Whether to write them as the network gave them, not smoothed.
  """
  points = result.raw_points if raw else result.points
  header, columns = ['time_s'], [result.point_times_s]
  for processor in model.running:
    for i, symbol in enumerate(processor.symbols):
      unit = processor.plugin.control(symbol).unit
      header.append(
        f'{processor.name}/{symbol}' + (f' [{unit}]' if unit else '')
      )
      columns.append(points[processor.name][:, i])
  with open(path, 'w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file)
    writer.writerow(header)
    for row in zip(*columns, strict=True):
      writer.writerow([f'{value:.6g}' for value in row])


def write_presets(model, result: Plan, folder: str | os.PathLike, label: str):
  """Writes the setting of a model that does not move as presets of its plugins.

  Args:
    model: The model that made it.
    result: What it made, with one frame of controls.
    folder: Gets a bundle per plugin. Where it is on LV2_PATH, hosts show them.
    label: Name of the presets.

  Returns:
    Paths of the bundles.
  """
  paths = []
  for processor in model.running:
    values = {
      **processor.renderer.fixed,
      **dict(zip(processor.symbols, result.points[processor.name][0])),
    }
    values = {symbol: float(value) for symbol, value in values.items()}
    paths.append(
      lv2.write_preset(
        folder, processor.uri, f'{label} ({processor.name})', values
      )
    )
  return paths


def plot_controls(model, result: Plan, raw: bool = False) -> list:
  """Returns figures of the controls of all plugins that run.

  Args:
    model: The model that made them.
    result: What it made.
    raw: Whether to draw them as the network gave them, not smoothed.
  """
  points = result.raw_points if raw else result.points
  return [
    figure
    for processor in model.running
    for figure in plotting.plugin_figures(
      processor, points[processor.name], result.point_times_s
    )
  ]


def process(model, input_path: str, output_path: str) -> list[pathlib.Path]:
  """Runs a model over a file or a folder and writes what it makes.

  Beside each output lie a plot of its controls and of the sound before and
  after (.png), and the controls themselves: as trajectories (.controls.csv), or
  as LV2 presets (.presets/) where they do not move. Beside a.wav and a.flac
  they are a.wav.png, a.flac.png and so on.

  Args:
    model: A `models.ControlModel`.
    input_path: An audio file, or a folder of them.
    output_path: The file, or the folder that gets files of the same names.

  Files are read, rendered and written in chunks, so that their length costs
  time and no memory but for the points of the controls; unless a processor of
  the model cannot stream, which is logged.

  Returns:
    The audio files that were written.

  Raises:
    FileNotFoundError: No such file, or no audio in the folder.
    ValueError: A file that is no audio, or one that would replace an input.
  """
  jobs = audio_files.plan_outputs(input_path, output_path)
  sources = [chunks.from_file(path) for path, _ in jobs]
  progress = progress_bar.Progress(
    sum(source.n_samples / source.sample_rate for source in sources),
    label='Processing',
    unit='second of audio',
  )
  bases = audio_files.without_suffixes([output for _, output in jobs])
  for (path, output), source, base in zip(jobs, sources, bases, strict=True):
    progress.say(f'listening to {path}')
    with audio_files.named(path):
      planned, meters = _process_source(model, source, output, progress)
    if model.encoder.hop_size is None:
      write_presets(model, planned, _preset_folder(base), base.name)
    else:
      file = base.with_name(f'{base.name}.controls.csv')
      write_controls(model, planned, file)
    progress.say(f'drawing what was set for {path}')
    figures = [
      plotting.draw_band_powers(meters, source.n_samples / source.sample_rate),
      *plot_controls(model, planned),
    ]
    image = plotting.stack_figures(figures)
    matplotlib.image.imsave(base.with_name(f'{base.name}.png'), image)
  progress.close()
  return [output for _, output in jobs]


def _preset_folder(base):
  """Returns where the presets of an output lie; `base` has no suffix."""
  return base.with_name(f'{base.name}.presets')


def describe_presets(model, outputs: Sequence[pathlib.Path]) -> str:
  """Says where `process` wrote presets, and how a host finds them.

  Args:
    model: The model that made them.
    outputs: What `process` returned.

  Returns:
    Text for people; '' if the model's controls move, which no preset holds.
  """
  if model.encoder.hop_size is not None:
    return ''
  bases = audio_files.without_suffixes(outputs)
  folder = _preset_folder(bases[0])
  more = f', and {len(bases) - 1} more like it' if len(bases) > 1 else ''
  return (
    f"LV2 presets in {folder}{more}, named '{bases[0].name} "
    f"({model.running[0].name})' and so on. To use them:\n"
    f'  mkdir -p ~/.lv2 && cp -r {shlex.quote(str(folder))}/*.preset.lv2 '
    '~/.lv2/\n'
    'and start your DAW anew: they are in the preset menu of each plugin.'
  )


def _process_source(model, source, output, progress):
  """Writes a file chunk by chunk; returns what was planned and heard."""
  heard = source
  if model.preprocessor is not None:
    heard = model.preprocessor.process_source(source)
  renders, planned = plan(model, heard)
  meters = {
    name: band_powers.BandPowers(source.sample_rate, source.n_samples)
    for name in ('before', 'after')
  }
  progress.say(f'rendering {output}')
  with audio_files.Writer(
    output, source.sample_rate, source.n_samples
  ) as writer:
    for block in renders.blocks():
      writer.write(block)
      meters['after'].add(block)
      progress.update(str(output), len(block) / source.sample_rate)
  for block in source.blocks():
    meters['before'].add(block)
  return planned, meters
