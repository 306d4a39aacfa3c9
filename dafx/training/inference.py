"""A trained model at work on audio files of any length, rate and channels."""

import csv
import dataclasses
import os
import pathlib

import gin
import librosa
import matplotlib.image
import numpy as np
import scipy.signal
import soundfile
import tensorflow as tf
from absl import logging

from dafx import lv2, processors
from dafx.training import (
  data,
  encoders,
  models,
  plotting,
  train_util,
  trainers,
)

# Samples between values of the controls, which move in straight lines between
# the frames that the network gives, so that nothing is heard of the frames.
_CONTROL_STEP = 64
# What is faster than half the highest rate that frames can show is taken out of
# the controls first, by a filter of order 4 without shift of phase (DeepAFx).
_SMOOTHING = scipy.signal.butter(4, 0.5, output='sos')
# Frames that a network for images hears at a time, to bound its memory.
_FRAMES_AT_ONCE = 256
# WAV and AIFF keep floats: what exceeds full scale is not lost.
_SUBTYPES = {
  '.wav': 'FLOAT',
  '.flac': 'PCM_24',
  '.aif': 'FLOAT',
  '.aiff': 'FLOAT',
}


@dataclasses.dataclass(frozen=True)
class Result:
  """What a model made of one piece of audio.

  Attributes:
    audio: Shape [n_samples, n_channels], at `sample_rate`.
    sample_rate: Rate of the audio, in Hz.
    controls: Trajectories as they were rendered, in port units, by processor,
      [n_frames, n_controls]; one frame if the setting does not move.
    frame_times_s: When each frame of the controls begins, [n_frames].
    points: What the trajectories are drawn through, smoothed, in port units, by
      processor, [n_points, n_controls].
    raw_points: The same as the network gave them.
    point_times_s: When the points are, [n_points].
  """

  audio: np.ndarray
  sample_rate: int
  controls: dict[str, np.ndarray]
  frame_times_s: np.ndarray
  points: dict[str, np.ndarray]
  raw_points: dict[str, np.ndarray]
  point_times_s: np.ndarray


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
    ValueError: There is no checkpoint, or one of another model.
  """
  folder = pathlib.Path(save_dir).expanduser()
  gin.clear_config()
  with gin.unlock_config():
    gin.parse_config_file(os.fspath(train_util.newest_operative_config(folder)))
    train_util.parse_gin(params=gin_params)
  model = models.get_model()
  restore_model(model, folder)
  return model


def restore_model(model: tf.keras.Model, save_dir: str | os.PathLike):
  """Gives a model the weights of a training run.

  Args:
    model: Built as it was for training.
    save_dir: Where the run was saved; of its checkpoints the best validated one
      is taken, or else the last one.

  Raises:
    ValueError: There is no checkpoint, or one of another model.
  """
  folder = pathlib.Path(save_dir).expanduser()
  trainer = trainers.Trainer(model)
  model.make_variables()
  trainer.optimizer.build(model.trainable_variables)
  if not (trainer.restore(folder / 'best') or trainer.restore(folder)):
    raise ValueError(f'{folder} holds no checkpoint that can be read.')
  logging.info('Model of %s, step %d.', folder, trainer.step)


def load_setting(save_dir: str | os.PathLike) -> dict[str, np.ndarray]:
  """Returns the setting that a training run with `encoders.Constant` found.

  Args:
    save_dir: Where the run was saved. Its gin configuration takes the place of
      what gin had before.

  Returns:
    Controls in [0, 1], {input of the DAG: [1, n_controls]}, for
    `process_audio`.

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
  return {key: value[0].numpy() for key, value in controls.items()}


def resample(audio: np.ndarray, source_hz: int, target_hz: int) -> np.ndarray:
  """Resamples audio of shape [n_samples, ...] by soxr; rates in Hz."""
  if source_hz == target_hz:
    return audio
  return librosa.resample(audio, orig_sr=source_hz, target_sr=target_hz, axis=0)


def _change_rate(group, sample_rate: int) -> bool:
  """Sets the rate of a DAG's plugins; returns whether all of it can follow."""
  found = processors.nodes(group).values()
  rated = [p for p in found if hasattr(p, 'sample_rate')]
  if any(
    not hasattr(p, 'set_sample_rate') and p.sample_rate != sample_rate
    for p in rated
  ):
    return False
  for processor in rated:
    if processor.sample_rate != sample_rate:
      processor.set_sample_rate(sample_rate)
  return True


def _smooth(frames):
  """Takes what is fast out of controls in [0, 1]; [n, n_controls] both."""
  if len(frames) < 2:
    return frames
  padding = min(15, len(frames) - 1)
  smooth = scipy.signal.sosfiltfilt(_SMOOTHING, frames, axis=0, padlen=padding)
  return np.clip(smooth, 0.0, 1.0).astype(np.float32)


def _interpolate(controls, point_times_s, times_s):
  """Draws lines between points; [n, n_controls] both."""
  return np.stack(
    [np.interp(times_s, point_times_s, c) for c in controls.T], axis=-1
  ).astype(np.float32)


def _listen(model, heard: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the controls in [0, 1] for mono audio, [n_frames, n_controls]."""
  margin = getattr(model.encoder, 'margin', 0)
  if not margin:
    predicted = model.predict_controls(heard[np.newaxis])
    return {key: value[0].numpy() for key, value in predicted.items()}
  # A frame hears its context alone: so many at a time give the same.
  hop_size = model.encoder.hop_size
  step = _FRAMES_AT_ONCE * hop_size
  fill = -len(heard) % hop_size
  padded = np.pad(heard, (margin, margin + fill))
  parts = [
    model.predict_controls(
      padded[np.newaxis, start : start + step + 2 * margin], has_margins=True
    )
    for start in range(0, len(heard), step)
  ]
  return {
    key: np.concatenate([part[key][0] for part in parts]) for key in parts[0]
  }


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


def process_audio(
  model, audio: np.ndarray, sample_rate: int, setting=None
) -> Result:
  """Runs a model over a whole piece of audio.

  The encoder hears a mono mix at the rate that it was trained at. Its controls
  are smoothed. Plugins render all channels, under the same controls, at the
  audio's own rate, in steps of 64 samples, and without their latency.

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
  audio = np.asarray(audio, np.float32)
  if audio.ndim != 2 or not audio.size:
    raise ValueError(
      f'audio has shape {audio.shape}; it must be [n_samples, n_channels] with '
      'at least one of each.'
    )
  if not np.isfinite(audio).all():
    raise ValueError('audio holds values that are NaN or infinite.')
  n_samples = len(audio)
  predicted = setting
  if setting is None:
    heard = resample(audio.mean(axis=1), sample_rate, model.sample_rate)
    predicted = _listen(model, heard)

  own_rate = _change_rate(model.processor_group, sample_rate)
  rate = sample_rate if own_rate else model.sample_rate
  if not own_rate:
    _change_rate(model.processor_group, rate)
    audio = resample(audio, sample_rate, rate)
  n_frames = -(-len(audio) // _CONTROL_STEP)
  frame_times_s = np.arange(n_frames) * _CONTROL_STEP / rate
  padding = n_frames * _CONTROL_STEP - len(audio)
  for processor in processors.nodes(model.processor_group).values():
    if hasattr(processor, 'n_samples'):  # DDSP's synths have a fixed length
      processor.n_samples = n_frames * _CONTROL_STEP
  features = {'audio': np.pad(audio, ((0, padding), (0, 0)))[np.newaxis]}
  if audio.shape[1] == 1:
    features['audio'] = features['audio'][..., 0]
  hop_s = (model.encoder.hop_size or 1) / model.sample_rate
  n_points = max(len(frames) for frames in predicted.values())
  point_times_s = (np.arange(n_points) + 0.5) * hop_s
  smooth = {key: _smooth(frames) for key, frames in predicted.items()}
  for key, frames in smooth.items():
    if model.encoder.hop_size and setting is None:
      middles_s = frame_times_s + 0.5 * _CONTROL_STEP / rate
      frames = _interpolate(frames, point_times_s, middles_s)
    features[key] = frames[np.newaxis]
  group = model.active_group
  outputs = group.get_controls(features)
  out = group.get_signal(outputs)[0].numpy()
  out = out.reshape(len(out), -1)[: len(audio)]
  if not own_rate:
    out = librosa.util.fix_length(
      resample(out, rate, sample_rate), size=n_samples, axis=0
    )
  values = model.port_values(outputs)
  running = {k: p for k, p in model.driven.items() if p in model.running}

  def in_port_units(by_key):
    return {
      p.name: np.asarray(p.to_port_units(by_key[key]))
      for key, p in running.items()
    }

  return Result(
    out,
    sample_rate,
    {name: value[0].numpy() for name, value in values.items()},
    frame_times_s,
    in_port_units(smooth),
    in_port_units(predicted),
    point_times_s,
  )


def write_controls(model, result: Result, path: str | os.PathLike, raw=False):
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


def write_presets(model, result: Result, folder: str | os.PathLike, label: str):
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


def plot_controls(model, result: Result, raw: bool = False) -> list:
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


def write_audio(path: str | os.PathLike, audio: np.ndarray, sample_rate: int):
  """Writes audio in the format of the file's suffix.

  Args:
    path: The file; WAV and AIFF are written as floats, FLAC as 24 bits.
    audio: Shape [n_samples, n_channels].
    sample_rate: In Hz.

  Raises:
    ValueError: A format that cannot be written.
  """
  path = pathlib.Path(path)
  suffix = path.suffix.lower()
  if suffix not in data.AUDIO_SUFFIXES:
    raise ValueError(
      f'{path}: audio is written as one of {", ".join(data.AUDIO_SUFFIXES)}.'
    )
  peak = float(np.abs(audio).max())
  if peak > 1.0 and _SUBTYPES.get(suffix) != 'FLOAT':
    logging.warning(
      '%s: peaks of %.1f dB full scale are clipped; WAV would keep them.',
      path,
      20 * np.log10(peak),
    )
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.stem}.partial{path.suffix}')
  soundfile.write(
    temporary,
    audio,
    sample_rate,
    _SUBTYPES.get(suffix),
    format='AIFF' if suffix == '.aif' else None,  # not known by this suffix
  )
  os.replace(temporary, path)


def plan_outputs(
  input_path: str | os.PathLike, output_path: str | os.PathLike
) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Says which file is made of which, and looks at all of them first.

  Args:
    input_path: An audio file, or a folder of them.
    output_path: The file, or the folder that gets files of the same names.

  Returns:
    (input, output) of each file.

  Raises:
    FileNotFoundError: No such file, or no audio in the folder.
    ValueError: A file that is no audio, or one that would replace its input.
  """
  source = pathlib.Path(input_path).expanduser()
  target = pathlib.Path(output_path).expanduser()
  if source.is_dir():
    inputs = data.find_audio(source)
    outputs = [target / path.relative_to(source) for path in inputs]
  else:
    inputs, outputs = [source], [target]
    if target.is_dir():
      outputs = [target / source.name]
  # Each is looked at before the first is worked on.
  for path, output in zip(inputs, outputs, strict=True):
    data.read_info(path)
    if output.exists() and output.samefile(path):
      raise ValueError(f'{output} would replace its input; choose another.')
    if output.suffix.lower() not in data.AUDIO_SUFFIXES:
      raise ValueError(
        f'--output={output} must end in one of '
        f'{", ".join(data.AUDIO_SUFFIXES)} (or be a folder, if --input is).'
      )
  return list(zip(inputs, outputs, strict=True))


def process(model, input_path: str, output_path: str) -> list[pathlib.Path]:
  """Runs a model over a file or a folder and writes what it makes.

  Beside each output lie a plot of its controls and of the sound before and
  after (.png), and the controls themselves: as trajectories (.controls.csv), or
  as LV2 presets (.presets/) where they do not move.

  Args:
    model: A `models.ControlModel`.
    input_path: An audio file, or a folder of them.
    output_path: The file, or the folder that gets files of the same names.

  Returns:
    The audio files that were written.

  Raises:
    FileNotFoundError: No such file, or no audio in the folder.
    ValueError: A file that is no audio, or one that would replace its input.
  """
  jobs = plan_outputs(input_path, output_path)
  progress = train_util.Progress(len(jobs), label='Processing')
  for path, output in jobs:
    audio, sample_rate = soundfile.read(path, dtype='float32', always_2d=True)
    try:
      prepared = prepare(model, audio, sample_rate)
      result = process_audio(model, prepared, sample_rate)
    except ValueError as error:
      raise ValueError(f'{path}: {error}') from error
    write_audio(output, result.audio, sample_rate)
    if model.encoder.hop_size is None:
      folder = output.with_suffix('.presets')
      write_presets(model, result, folder, output.stem)
    else:
      write_controls(model, result, output.with_suffix('.controls.csv'))
    figures = [
      plotting.spectrograms(
        {'before': audio, 'after': result.audio}, sample_rate
      ),
      *plot_controls(model, result),
    ]
    image = plotting.stack_figures(figures)
    matplotlib.image.imsave(output.with_suffix('.png'), image)
    progress.update(str(output))
  progress.close()
  return [output for _, output in jobs]
