"""dafx_run --mode=match: which files, and what is said of the result.

What is here loads no TensorFlow before a search begins.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging

from dafx import _folders
from dafx.audio import files as audio_files
from dafx.commands import running
from dafx.training.data_preparation import matching as pairs_by_name

# Flags of dafx_run that only a match takes.
NAMES = ('target', 'reference', 'time_limit', 'max_renders', 'page')
# Flags that have no use beside --settings.
_OF_TRAINED_MODELS = (
  'model', 'amount', 'knobs', 'size', 'n_plugins', 'restore_dir', 'session',
)  # fmt: skip
# Input, target (None with references), output.
Job = tuple[pathlib.Path, pathlib.Path | None, pathlib.Path]


def check_flags(values: flags.FlagValues):
  """Raises UsageError unless it is said what to match to what.

  Args:
    values: Those of dafx_run.
  """
  for flag in ('input', 'output'):
    if not values[flag].value:
      raise app.UsageError(f'--mode=match needs --{flag}.')
  if (values.target is None) == (not values.reference):
    raise app.UsageError(
      '--mode=match needs either --target (the same music, such as its master) '
      'or --reference (other music, whose character is wanted).'
    )


def plan(
  input_path: str | os.PathLike,
  output_path: str | os.PathLike,
  target_path: str | os.PathLike | None = None,
  references: Sequence[str | os.PathLike] = (),
) -> list[Job]:
  """Says which files are matched to which, and looks at all of them first.

  Args:
    input_path: An audio file, or a folder of them.
    output_path: The file, or the folder, that is written.
    target_path: The same music after other effects: a file, or a folder of
      files of the inputs' names; None where there are references.
    references: Files of other music, whose character all inputs are to have.

  Returns:
    (input, target, output) of each; with references the target is None.

  Raises:
    FileNotFoundError: No such file, or no audio in a folder.
    ValueError: A file that is no audio, one that would replace an input, a
      target or a reference, or a folder beside a file.
  """
  jobs = audio_files.plan_outputs(input_path, output_path)
  if target_path is None:
    outputs = {_folders.resolved(output) for _, output in jobs}
    for reference in map(_folders.expand_user, references):
      audio_files.read_info(reference)
      if _folders.resolved(reference) in outputs:
        raise ValueError(
          f'{reference} would be replaced; choose another output.'
        )
    return [(path, None, output) for path, output in jobs]
  source, target = (_folders.expand_user(p) for p in (input_path, target_path))
  if source.is_dir() != target.is_dir() and target.exists():
    raise ValueError(
      f'--input={source} and --target={target} must both be files or both be '
      'folders.'
    )
  if not source.is_dir():
    targets = {source: target}
  else:
    candidates, left_out = pairs_by_name.find_candidates(source, target)
    targets = {each.input_path: each.target_path for each in candidates}
    for name, why in left_out.items():
      logging.warning('%s is left out: it %s.', name, why)
  planned: list[Job] = []
  for path, output in jobs:
    if path not in targets:
      continue
    audio_files.read_info(targets[path])
    if _folders.resolved(output) == _folders.resolved(targets[path]):
      raise ValueError(f'{output} would replace a target; choose another.')
    planned.append((path, targets[path], output))
  return planned


def plan_of(values: flags.FlagValues) -> list[Job]:
  """Returns what `plan` makes of flags.

  Args:
    values: Those of dafx_run.
  """
  return plan(values.input, values.output, values.target, values.reference)


def aim(values: flags.FlagValues) -> str:
  """Returns what the flags ask to come near to.

  Args:
    values: Those of dafx_run.
  """
  return values.target or ' and '.join(values.reference)


def options(values: flags.FlagValues) -> dict[str, Any]:
  """Returns the options of `run` that flags give.

  Args:
    values: Those of dafx_run.
  """
  found = {'seed': values.seed, 'max_renders': values.max_renders}
  if values.time_limit is not None:
    found['time_limit_s'] = values.time_limit
  elif values.max_renders is not None:
    found['time_limit_s'] = None
  if values.amount is not None:
    found['amount'] = values.amount
  found['references'] = [_folders.expand_user(r) for r in values.reference]
  found['session'] = values.session is not False
  found['with_page'] = values.page is not False
  return found


def run(jobs: list[Job], session: bool = True, **options):
  """Matches files, prints tables and verdicts, then the path of each output.

  Args:
    jobs: What `plan` returned.
    session: Whether a session is written beside each, and told of at the end.
    **options: Arguments of `matching.match_files` and `matching.match`.
  """
  from dafx.training import matching

  told: list[str] = []
  options['tell_session'] = told.append if session else None
  for path, found in matching.match_files(jobs, **options):
    running.announce(f'{path}\n{matching.table(found.figures)}')
    running.announce(found.verdict())
    print(path, flush=True)
  running.announce_all(told)


def check_settings_flags(values: flags.FlagValues):
  """Raises UsageError for flags that have no use beside --settings."""
  for flag in _OF_TRAINED_MODELS:
    if values[flag].value not in (None, '', []):
      raise app.UsageError(
        f'--{flag} is for a trained model; --settings takes the place of one.'
      )


def apply(settings: str, input_path: str, output_path: str):
  """Processes files by what a match found, and prints their paths.

  Args:
    settings: The .settings.json.
    input_path: An audio file, or a folder.
    output_path: What is written.
  """
  from dafx.training import matching

  for path in matching.process_files(settings, input_path, output_path):
    print(path, flush=True)
