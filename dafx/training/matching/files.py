"""Matches of files and folders, and settings applied to other files."""

import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from dafx import _folders, lv2
from dafx.audio import files as audio_files
from dafx.audio import sources
from dafx.training import progress as progress_bar
from dafx.training.inference import sessions
from dafx.training.matching import matcher, page, problem, result, settings
from dafx.training.models import outputs

# Longer files are refused: they are held in memory as a whole.
_LONGEST_S = 1800.0


def read(path: pathlib.Path, sample_rate: int | None = None):
  """Reads a file as a whole, at another rate if that is given.

  Args:
    path: The file.
    sample_rate: In Hz; None for its own.

  Returns:
    (Audio [n_samples, n_channels], rate in Hz).

  Raises:
    FileError: It is damaged, or longer than half an hour.
  """
  source = sources.from_file(path)
  if source.n_samples > _LONGEST_S * source.sample_rate:
    raise audio_files.FileError(
      f'{path} has {source.n_samples / source.sample_rate / 60:.0f} minutes; a '
      f'match takes {_LONGEST_S / 60:.0f} at most. Cut it.'
    )
  rate = source.sample_rate if sample_rate is None else sample_rate
  blocks = sources.resampled(source, rate).blocks()
  return np.concatenate(list(blocks)), rate


def match_files(
  jobs: Sequence[tuple[pathlib.Path, pathlib.Path | None, pathlib.Path]],
  tell_session: Callable[[str], None] | None = None,
  references: Sequence[pathlib.Path] = (),
  with_page: bool = True,
  **options,
) -> list[tuple[pathlib.Path, result.Match]]:
  """Matches files, and writes what was found.

  Beside each output lie <output>.settings.json, which `process_files` takes,
  and in <output>.presets/ an LV2 preset of each plugin.

  Args:
    jobs: (input, target, output) of each; None for a target where there are
      references. What is at another rate than the input is resampled.
    tell_session: If given, a session for Ardour and Reaper is written beside
      each output, in <output>_session/, and this is told what is in it. A graph
      that no session holds is warned of.
    references: Other music, whose character all inputs are to have.
    with_page: Whether to write a page beside each, <output>.html.
    **options: Arguments of `match`, such as `time_limit_s`, for each file.

  Returns:
    Each output, and what was found.

  Raises:
    FileNotFoundError: No such file.
    ValueError: A file that cannot be matched; the message names it.

  Examples:
    >>> from dafx.training import matching
    >>> matching.match_files([])
    []
  """
  bases = audio_files.without_suffixes([output for _, _, output in jobs])
  found = []
  for (path, target, output), base in zip(jobs, bases, strict=True):
    to = [target] if target is not None else list(references)
    names = ' and '.join(str(each) for each in to)
    logging.info('Matching %s to %s', path, names)
    with audio_files.named(path):
      audio, rate = read(path)
    heard = [read(each, rate)[0] for each in to]
    aim = {'reference': heard} if target is None else {'target': heard[0]}
    with audio_files.named(f'{path} and {names}'), lv2.errors_with(path):
      each = matcher.match(
        audio=audio, sample_rate=rate, **aim,
        report=make_report(options.get('time_limit_s')), **options,
      )  # fmt: skip
    write(each, output, base)
    if with_page:
      page.write(page_path(base), each, audio)
    if tell_session is not None:
      beside = None if target is None else heard[0]
      write_session(each, audio, beside, base, tell_session)
    found.append((output, each))
  return found


def make_report(limit_s: float | None) -> Callable[[problem.Step], None]:
  """Returns what logs how far a search is: each step that gains, and the time.

  Args:
    limit_s: Seconds that it may take; None for any.
  """
  names = {
    'coarse': 'levels in bands',
    'fine': 'spectral distance',
    'character': 'distance of character',
  }
  of = (
    '' if limit_s is None else f' of {progress_bar.describe_duration(limit_s)}'
  )

  def report(step):
    logging.info(
      'Matching: %s %.4f after %.0f s%s, %d renders',
      names[step.phase],
      step.distance,
      step.seconds,
      of,
      step.n_renders,
    )

  return report


def write(match: result.Match, output: pathlib.Path, base: pathlib.Path):
  """Writes audio, settings and presets of a match.

  Args:
    match: What was found.
    output: The audio file.
    base: What the names of the others begin with.
  """
  output.parent.mkdir(parents=True, exist_ok=True)
  audio_files.write(output, match.audio, match.sample_rate)
  settings.write(settings_path(base), match)
  points = {
    name: np.array(
      [[match.controls[name][s] for s in node.control_map.symbols]]
    )
    for name, node in match.nodes.items()
    if node.control_map is not None
  }
  nodes = [match.nodes[name] for name in points]
  automation = outputs.Automation(nodes, points, points, np.zeros(1))
  outputs.write_presets(automation, outputs.preset_folder(base), base.name)


def write_session(
  match: result.Match,
  audio: np.ndarray,
  target: np.ndarray | None,
  base: pathlib.Path,
  tell_session: Callable[[str], None],
):
  """Writes a match as a session, or warns that no session holds its graph.

  Args:
    match: What was found.
    audio: The input, [n_samples, n_channels].
    target: The target, [n_samples, n_channels], at the same rate; None for
      none, as of a match to references.
    base: Path of the output, without its suffix.
    tell_session: Is told what is in the session.
  """
  rate = match.sample_rate
  heard = sources.from_array(audio, rate)
  wanted = None if target is None else sources.from_array(target, rate)
  try:
    session = sessions.make(
      match.graph, base.name, heard, match.controls, target=wanted,
      gain_db=match.gain_db,
    )  # fmt: skip
  except ValueError as error:
    logging.warning('No session is written beside %s: %s', base, error)
    return
  tell_session(sessions.write(session, base))


def page_path(base: pathlib.Path) -> pathlib.Path:
  """Returns where the page of an output lies; `base` has no suffix."""
  return base.with_name(f'{base.name}.html')


def settings_path(base: pathlib.Path) -> pathlib.Path:
  """Returns where the settings of an output lie; `base` has no suffix."""
  return base.with_name(f'{base.name}.settings.json')


def process_files(
  settings_file: str | os.PathLike,
  input_path: str | os.PathLike,
  output_path: str | os.PathLike,
) -> list[pathlib.Path]:
  """Applies settings to files of any length, in chunks.

  Args:
    settings_file: What `match_files` wrote; its values may have been changed.
    input_path: An audio file, or a folder of them.
    output_path: The file, or the folder, that is written.

  Returns:
    The files that were written.

  Raises:
    FileNotFoundError: No such file.
    ValueError: A file that is no audio, settings that a plugin does not take.

  Examples:
    >>> from dafx.training import matching
    >>> matching.process_files('none.settings.json', 'mix.wav', 'out.wav')
    Traceback (most recent call last):
    FileNotFoundError: none.settings.json: there is no such file.
  """
  path = _folders.expand_user(settings_file)
  read_settings = settings.read(path)
  jobs = audio_files.plan_outputs(input_path, output_path)
  with audio_files.named(path):
    group, setting = settings.make_graph(read_settings)
  inputs = [sources.from_file(each) for each, _ in jobs]
  progress = progress_bar.Progress(
    sum(source.n_samples / source.sample_rate for source in inputs),
    label='Processing',
    unit='second of audio',
  )
  for (each, output), source in zip(jobs, inputs, strict=True):
    with audio_files.named(each), lv2.errors_with(each):
      rendering = result.render(
        group, setting, source, read_settings['gain_db']
      )
      rate, n_samples = source.sample_rate, source.n_samples
      with audio_files.Writer(output, rate, n_samples) as writer:
        for block in rendering.blocks():
          writer.write(block)
          progress.update(str(output), len(block) / rate)
  progress.close()
  return [output for _, output in jobs]
