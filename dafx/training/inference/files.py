"""A trained model at work on audio files of any length, rate and channels."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import gin
import matplotlib.image
import numpy as np
import tensorflow as tf
from absl import logging

from dafx import _folders, core, lv2, metrics
from dafx.audio import band_powers, disk, scans, sources
from dafx.audio import files as audio_files
from dafx.training import checkpoints, gin_files, models, plotting
from dafx.training import progress as progress_bar
from dafx.training.inference import sessions
from dafx.training.models import outputs
from dafx.training.models import rendering as rendering_lib


@dataclasses.dataclass(frozen=True)
class Result:
  """What a model made of one piece of audio.

  Attributes:
    audio: Shape [n_samples, n_channels], at `sample_rate`.
    sample_rate: Rate of the audio, in Hz.
    automation: What the model's network set.
    controls: Trajectories as they were rendered, in port units, by processor,
      [n_frames, n_controls]; one frame if the setting does not move.
    frame_times_s: When each frame of the controls begins, [n_frames]; one per
      64 samples at the rate that the graph ran at.
  """

  audio: np.ndarray
  sample_rate: int
  automation: outputs.Automation
  controls: Mapping[str, np.ndarray]
  frame_times_s: np.ndarray


def load_model(
  save_dir: str | os.PathLike,
  gin_params: Sequence[str] = (),
  gin_modules: Sequence[str] = (),
  trust: bool = False,
) -> models.Model:
  """Builds the model of a training run, with its best weights.

  The run may be someone else's: only what dafx, DDSP and TensorFlow register is
  made, unless more is allowed.

  Args:
    save_dir: Where the run was saved. Its gin configuration takes the place of
      what gin had before.
    gin_params: Bindings that come after it.
    gin_modules: Modules of your own that its configuration may import.
    trust: Whether it may import and call anything.

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
    gin_files.parse_operative_config(folder, gin_modules, trust)
    gin_files.parse_gin(params=gin_params)
  model = models.make_model()
  models.check_bindings(type(model), gin_params)
  checkpoints.restore_model(model, folder)
  return model


def load_setting(
  save_dir: str | os.PathLike,
  gin_modules: Sequence[str] = (),
  trust: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Returns the setting that a training run with `encoders.Constant` found.

  Args:
    save_dir: Where the run was saved. Its gin configuration takes the place of
      what gin had before.
    gin_modules: As of `load_model`.
    trust: As of `load_model`.

  Returns:
    (Controls in [0, 1], {input of the DAG: [1, n_controls]}, an option of
    `Model.render`; what they mean, as of `Model.meanings`, which has to be the
    same for a model that takes them).

  Raises:
    ValueError: The run's encoder gives more than one setting, or its model has
      none; or as `load_model`.

  Examples:
    >>> from dafx.training import inference
    >>> inference.load_setting('no_such_run')
    Traceback (most recent call last):
    FileNotFoundError: no_such_run holds no trained model ...
  """
  model = load_model(save_dir, (), gin_modules, trust)
  model.check_options(['setting'])
  if not isinstance(model.encoder, models.Constant):
    raise ValueError(
      f'{save_dir} holds a model with {type(model.encoder).__name__}, which '
      'has no single setting; train one with --gin_file=single_setting.gin '
      'after the task.'
    )
  controls = model.predict_controls(tf.zeros([1, 1]))
  setting = {key: value[0].numpy() for key, value in controls.items()}
  return setting, model.meanings()


@core.raising_faults()
def process_audio(
  model: models.Model, audio: np.ndarray, sample_rate: int, **options
) -> Result:
  """Runs a model over a piece of audio in memory; see `process` for files.

  As in files, what became louder is turned down as a whole where its true peak
  would pass `Model.max_true_peak_dbtp`.

  Args:
    model: The model.
    audio: Shape [n_samples, n_channels], as `Model.prepare` gives it.
    sample_rate: Its rate, in Hz.
    **options: Those of the model; `Model.render`.

  Returns:
    What came out, without latency; as many samples as went in.

  Raises:
    ValueError: No samples, or some that are not finite, or a number of channels
      that the plugins do not take; or options that the model does not take.

  Examples:
    >>> import numpy as np
    >>> from dafx import effects, losses, processors
    >>> from dafx.training import inference, models
    >>> dag = [(effects.Gain(), ['audio', 'gain_controls'])]
    >>> model = models.ControlModel(
    ...   models.Constant(),
    ...   processors.ProcessorGroup(dag),
    ...   [losses.TimeDomainLoss()],
    ...   sample_rate=16000,
    ... )
    >>> result = inference.process_audio(model, np.zeros([44100, 2]), 44100)
    >>> isinstance(result, inference.Result), result.audio.shape
    (True, (44100, 2))
  """
  model.check_options(options)
  source = sources.from_array(audio, sample_rate)
  rendering = model.render(source, **options)
  blocks = list(rendering.blocks())
  if (max_dbtp := model.max_true_peak_dbtp) is not None:
    before, after = (
      _levels(each, sample_rate) for each in (source.blocks(), blocks)
    )
    if excess_db := _excess_db(before, after, max_dbtp):
      blocks = [_turned_down(block, excess_db) for block in blocks]
      _tell('The audio', excess_db, max_dbtp)
  return Result(
    np.concatenate(blocks),
    sample_rate,
    rendering.automation,
    rendering.controls(),
    rendering.frame_times_s,
  )


def process(
  model: models.Model,
  input_path: str,
  output_path: str,
  tell_session: Callable[[str], None] | None = None,
  **options,
) -> list[pathlib.Path]:
  """Runs a model over a file or a folder and writes what it makes.

  Beside each output lie a plot of its controls and of the sound before and
  after (.png), and of a model that sets plugins the controls themselves: as
  trajectories (.controls.csv), or as LV2 presets (.presets/) where they do not
  move. Beside a.wav and a.flac they are a.wav.png, a.flac.png and so on.

  Files are read, rendered and written in chunks, so that their length costs
  time and no memory but for the points of the controls; unless a processor of
  the model cannot stream, which is logged. An output is there when it is whole.
  One that became louder is turned down as a whole, and that is logged, where
  its true peak would pass `Model.max_true_peak_dbtp`: it is rendered twice.

  Args:
    model: The model.
    input_path: An audio file, or a folder of them.
    output_path: The file, or the folder that gets files of the same names.
    tell_session: If given, a session for Ardour and Reaper is written beside
      each output, in <output>_session/, and this is told what is in it.
    **options: Those of the model; `Model.render`.

  Returns:
    The audio files that were written.

  Raises:
    FileNotFoundError: No such file, or no audio in the folder.
    ValueError: Files that are no audio, or of channels that the model does not
      take, all named before the first is rendered; one that would replace an
      input; or options that the model does not take, or a graph that no
      session holds.
    lv2.PluginError: A plugin fails, or crashes in a process of its own.
    OSError: No room on the disk.
  """
  model.check_options(options)
  jobs = audio_files.plan_outputs(input_path, output_path)
  inputs = _open(model, [path for path, _ in jobs], options)
  written = [output for _, output in jobs]
  progress = progress_bar.Progress(
    sum(source.n_samples / source.sample_rate for source in inputs),
    label='Processing',
    unit='second of audio',
  )
  bases = audio_files.without_suffixes(written)
  for (path, output), source, base in zip(jobs, inputs, bases, strict=True):
    progress.say(f'listening to {path}')
    with (
      audio_files.named(path),
      lv2.errors_with(path),
      core.raising_faults(),
    ):
      # Nothing of it is done, not even what comes before the plugins.
      is_left = options.get('amount') == 0.0
      heard = source if is_left else model.prepare(source)
      rendering = model.render(heard, **options)
      session = (
        None
        if tell_session is None
        else sessions.of_rendering(rendering, base.name)
      )
      meters, excess_db = _write(
        rendering, source, output, progress, model.max_true_peak_dbtp
      )
    rendering.write_beside(base)
    if session is not None and tell_session is not None:
      session = dataclasses.replace(session, fader_db=-excess_db)
      tell_session(sessions.write(session, base))
    progress.say(f'drawing what was made of {path}')
    figures = [
      plotting.draw_band_powers(meters, source.n_samples / source.sample_rate),
      *rendering.figures(),
    ]
    with disk.replacing(base.with_name(f'{base.name}.png')) as temporary:
      matplotlib.image.imsave(temporary, plotting.stack_figures(figures))
  progress.close()
  return written


def _open(model, paths, options) -> list[sources.Source]:
  """Returns files as sources, once all are known to be taken.

  Raises:
    audio_files.FileError: Files that cannot be used; the message names all.
  """
  group = None
  if not model.mixes_channels and options.get('amount') != 0.0:
    group = model.processor_group
  if group is not None and isinstance(model, models.ControlModel):
    if options.get('n_plugins') is not None:
      model.n_plugins = options['n_plugins']
    group = model.active_group
  opened, faults = {}, []
  for path in paths:
    try:
      with audio_files.named(path):
        source = sources.from_file(path)
        if group is not None:
          rendering_lib.check_channels(group, source.n_channels)
    except ValueError as error:
      faults.append(str(error))
    else:
      opened[path] = source
  scans.check(
    [scans.of_file(path, each.sample_rate) for path, each in opened.items()],
    faults,
  )
  return [opened[path] for path in paths]


class _Levels:
  """Loudness and true peak of audio that comes in chunks."""

  def __init__(self, sample_rate):
    self._rate = sample_rate
    self._loudness: metrics.LoudnessMeter | None = None
    self._peak = metrics.TruePeakMeter(sample_rate)

  def add(self, block):
    """Takes in [n, n_channels]; loudness is that of the first five channels."""
    heard = block[:, : metrics.MAX_LOUDNESS_CHANNELS]
    if self._loudness is None:
      self._loudness = metrics.LoudnessMeter(self._rate, heard.shape[1])
    self._loudness.add(heard)
    self._peak.add(block)

  def lufs(self):
    return self._loudness.lufs() if self._loudness else metrics.SILENCE_LUFS

  def dbtp(self):
    return self._peak.dbtp()


def _levels(blocks, sample_rate):
  levels = _Levels(sample_rate)
  for block in blocks:
    levels.add(block)
  return levels


def _excess_db(before, after, max_dbtp):
  """Returns by how much what became louder passes a true peak, >= 0."""
  if after.lufs() <= before.lufs() or after.dbtp() <= max_dbtp:
    return 0.0
  # A little more, which rounding of the samples may take.
  return after.dbtp() - max_dbtp + 0.01


def _turned_down(block, excess_db):
  # At 0 dB samples stay as they are, to the bit.
  return block * np.float32(10.0 ** (-excess_db / 20.0)) if excess_db else block


def _tell(what, excess_db, max_dbtp):
  logging.info(
    '%s is turned down by %.2f dB, so that its true peak is %g dBTP.',
    what,
    excess_db,
    max_dbtp,
  )


class _PeaksTooHighError(Exception):
  """Takes back a file that is being written, for it to be written lower."""

  def __init__(self, excess_db: float):
    super().__init__(excess_db)
    self.excess_db = excess_db


def _write(rendering, source, output, progress, max_dbtp):
  """Writes a file chunk by chunk.

  Returns the powers before and after, and by how much it was turned down.
  """
  rate = source.sample_rate
  powers = {
    name: band_powers.BandPowers(rate, source.n_samples)
    for name in ('before', 'after')
  }
  progress.say(f'rendering {output}')
  levels = None if max_dbtp is None else _Levels(rate)
  excess_db = 0.0
  try:
    with audio_files.Writer(output, rate, source.n_samples) as writer:
      for block in rendering.blocks():
        writer.write(block)
        powers['after'].add(block)
        if levels is not None:
          levels.add(block)
        progress.update(str(output), len(block) / rate)
      if levels is not None:
        before = _levels(source.blocks(), rate)
        excess_db = _excess_db(before, levels, max_dbtp)
        if excess_db:
          raise _PeaksTooHighError(excess_db)
  except _PeaksTooHighError as error:
    _tell(output, error.excess_db, max_dbtp)
    # Rendered again, which needs no room: what is written may be clipped.
    with audio_files.Writer(output, rate, source.n_samples) as writer:
      for block in rendering.blocks():
        writer.write(_turned_down(block, error.excess_db))
  for block in source.blocks():
    powers['before'].add(block)
  return powers, excess_db
