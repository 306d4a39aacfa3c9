"""What train, eval and process share: gin files, folders of runs."""

import difflib
import importlib
import io
import os
import pathlib
import re
import shlex
from collections.abc import Sequence
from typing import Any

import gin
from absl import logging
from gin import config_parser

import dafx
from dafx import _folders
from dafx.audio import disk
from dafx.training import gin_text

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
# Folders of a gin root that a bare file name is looked for in.
_GIN_FOLDERS = (
  '',
  'tasks',
  'models',
  'plugins',
  'gradients',
  'datasets',
  'optimization',
)
# A config that is larger is none.
_MOST_BYTES = 2**24
# What DDSP's training registers too. gin writes the short name of what was the
# only one of its name then.
_SHARED = re.compile(r'^((?:\w+/)*)(Trainer|evaluate|train)\.', re.MULTILINE)
# How an operative config begins, from 0.2.0 on.
_VERSION = '# Written by dafx '


def gin_roots() -> list[pathlib.Path]:
  """Returns where dafx's own .gin files lie: the package's, the checkout's."""
  roots = [_PACKAGE / 'gin', _PACKAGE.parent / 'gin']
  return [root for root in roots if root.is_dir()]


def add_gin_search_paths(folders=()):
  """Makes gin look for files in the user's folders, then in dafx's own.

  Args:
    folders: The user's folders.

  Raises:
    FileNotFoundError: One of them does not exist.
  """
  # gin also takes each name for a path in a Python package. It logs an error
  # for every one that is none, and fails where a folder has the same name.
  gin.config._FILE_READERS[1:] = []
  own = [_folders.expand_user(folder).resolve() for folder in folders]
  for folder in own:
    if not folder.is_dir():
      raise FileNotFoundError(f'--gin_search_path={folder}: no such folder.')
  for root in [*own, *gin_roots()]:
    for below in _GIN_FOLDERS:
      if (root / below).is_dir():
        gin.add_config_file_search_path(str(root / below))


# (function or class, argument), without modules but with the scope, as in
# ('gain/LV2Plugin', 'uri'); a macro has no argument.
Bindings = dict[tuple[str, str], Any]


def check_gin(files=(), params=()) -> Bindings:
  """Reads .gin files, what they include, and bindings, and imports nothing.

  What is missing or misspelt is so found before TensorFlow loads.

  Args:
    files: Names of files, found on gin's search path.
    params: Bindings.

  Returns:
    What is bound, the last word on each.

  Raises:
    FileNotFoundError: A file that is nowhere; those that are there are named.
    ValueError: Text that gin cannot parse.
  """
  bound: Bindings = {}
  for file in files:
    _check_gin_file(file, f'--gin_file={file}', (), bound)
  text = '\n'.join(params)
  for statement in gin_text.statements(text, f'--gin_param={list(params)}'):
    _note(statement, bound)
  return bound


def _note(statement, bound):
  """Adds what a statement binds to `bound`."""
  if isinstance(statement, config_parser.BindingStatement):
    name = statement.selector.split('.')[-1]
    if statement.scope:
      name = f'{statement.scope}/{name}'
    bound[name, statement.arg_name or ''] = statement.value


def _check_gin_file(file, place, parents, bound):
  """Reads a file and those it includes; `place` names it in messages."""
  prefixes = gin.config._LOCATION_PREFIXES
  paths = [pathlib.Path(prefix, file) for prefix in prefixes]
  path = next((path for path in paths if path.is_file()), None)
  if path is None:
    known = sorted(
      p.name for root in gin_roots() for p in root.glob('tasks/*.gin')
    )
    raise FileNotFoundError(
      f'{place}: there is no such file. Tasks that come with dafx: '
      f'{", ".join(known)}. Other folders to look in are given by '
      '--gin_search_path.'
    )
  if path in parents:
    raise ValueError(f'{place}: the file includes itself.')
  for statement in gin_text.statements(path.read_bytes(), place):
    if isinstance(statement, config_parser.IncludeStatement):
      name = statement.filename
      place = f"{path}: include '{name}'"
      _check_gin_file(name, place, (*parents, path), bound)
    else:
      _note(statement, bound)


def parse_gin(files=(), params=()):
  """Parses .gin files and then single bindings, strictly.

  Args:
    files: Names of files, found on gin's search path.
    params: Bindings, such as 'dafx.training.train.num_steps = 100'.

  Raises:
    FileNotFoundError: A file that is nowhere; those that are there are named.
    ValueError: A name that gin does not know, a macro that nothing refers to
      (gin takes `learnig_rate = 1` without a word), or text that it cannot
      parse.
  """
  check_gin(files, params)
  for file in files:
    _parse_file(file)
  bound, _ = _macros()
  try:
    gin.parse_config(list(params))
  except ValueError as error:
    raise ValueError(
      f'--gin_param={list(params)}: {error}{_new_place(error)}'
    ) from error
  _check_macros(files, bound)


def check_operative_config(
  folder: str | os.PathLike, modules: Sequence[str] = (), trust: bool = False
) -> Bindings:
  """Reads the config of a run, and imports and calls nothing.

  Args:
    folder: Where the run was saved.
    modules: Modules that it may import, besides those of dafx, DDSP and
      TensorFlow.
    trust: Whether it may import and call anything.

  Returns:
    What is bound.

  Raises:
    FileNotFoundError: There is no training run.
    ValueError: Text that gin cannot parse, or that is not allowed; or it is of
      DDSP's own trainer.
  """
  path = newest_operative_config(folder)
  if path.stat().st_size > _MOST_BYTES:
    raise ValueError(
      f'{path} has {path.stat().st_size} bytes; a config has {_MOST_BYTES} at '
      'most.'
    )
  content = path.read_bytes()
  found = gin_text.statements(content, str(path))
  if b'ddsp' in content and b'dafx' not in content:
    raise ValueError(
      f"{path} was written by DDSP's own trainer and names no model of dafx. "
      f'Give its gin files by --gin_file, and --restore_dir={folder}, to '
      '--mode=train, eval or sample; docs/ddsp.md shows how.'
    )
  if not trust:
    gin_text.check_harmless(found, str(path), modules)
  bound: Bindings = {}
  for statement in found:
    _note(statement, bound)
  return bound


def parse_operative_config(
  folder: str | os.PathLike, modules: Sequence[str] = (), trust: bool = False
):
  """Parses the newest operative config of a training run.

  Args:
    folder: Where the run was saved.
    modules: As of `check_operative_config`; they are imported first.
    trust: As of `check_operative_config`.

  Raises:
    FileNotFoundError: There is no training run.
    ValueError: The config cannot be parsed, names what is not allowed
      (`gin_text.check_harmless`), or is of an older version of dafx
      and has to be brought up to date first, or names what this version does
      not have.
  """
  check_operative_config(folder, modules, trust)
  for module in modules:
    importlib.import_module(module)
  path = newest_operative_config(folder)
  text = io.StringIO(name_modules(path.read_text(encoding='utf-8')))
  text.name = os.fspath(path)  # for messages
  _parse_file(os.fspath(path), text)


def name_modules(text: str) -> str:
  """Returns a config that is dafx's where `ddsp.training` has the same names.

  Args:
    text: A config in which `train`, `Trainer` and `evaluate` may be short.
  """
  return _SHARED.sub(r'\1dafx.training.\2.', text)


def _parse_file(file, text=None):
  """Parses a file, or its text; of imports of old, says what to do."""
  remedy = (
    "If an older one wrote this file, update_gin_config.py, beside dafx's "
    'README, brings it up to date: `python update_gin_config.py '
    f'--overwrite {shlex.quote(str(file))}`. Nothing was changed.'
  )
  try:
    if text is None:
      gin.parse_config_file(file)
    else:
      gin.parse_config(text)
  except ModuleNotFoundError as error:
    # gin raises a copy of it, without its `name`.
    gone = re.search(r"No module named '(dafx\.[\w.]+)'", str(error))
    if not gone:
      raise
    raise ValueError(
      f'{file}: this version of dafx has no module {gone[1]}. {remedy}'
    ) from error
  except ValueError as error:
    place = _new_place(error)
    if not place and not _is_of_older_version(file):
      raise
    raise ValueError(f'{error}{place}\n{remedy}') from error


def _is_of_older_version(file) -> bool:
  """Returns whether a file is the operative config of a run of 0.1.0."""
  path = pathlib.Path(file)
  if not path.name.startswith('operative_config-') or not path.is_file():
    return False
  try:
    text = path.read_text(encoding='utf-8')
  except UnicodeDecodeError:
    return False  # it is damaged, and says nothing
  return bool(text) and not text.startswith(_VERSION)


def _new_place(error) -> str:
  """Says where a parameter is now that gin does not find; '' if unknown."""
  gone = re.search(
    r"LV2(?:Plugin|Chain)' doesn't have a parameter named '(\w+)'", str(error)
  )
  if not gone:
    return ''
  from dafx.effects import strategies  # gin has imported it by now

  return f'\n{strategies.where_moved(gone[1])}'.rstrip()


def _macros() -> tuple[set[str], set[str]]:
  """Returns the macros that gin has values for, and those referred to."""
  config = gin.config._CONFIG
  bound = {scope for scope, selector in config if selector == 'gin.macro'}
  keys = [r.config_key for r in gin.config.iterate_references(config)]
  return bound, {scope for scope, selector in keys if selector == 'gin.macro'}


def _check_macros(files, bound_by_files):
  """Raises ValueError for a macro that has a value and no use.

  One of a file may be meant for another that is not part of this run; one of
  --gin_param may not.
  """
  bound, used = _macros()
  for name in sorted(bound - used):
    if name in bound_by_files and name in _macros_elsewhere(files):
      continue
    known = sorted((bound_by_files | used) - {name})
    near = difflib.get_close_matches(name, known, n=3)
    advice = 'Did you mean ' if near else 'There are '
    raise ValueError(
      f'{name!r} is given a value, but nothing in this run refers to '
      f'%{name}. {advice}{", ".join(near or known) or "none"}? An argument is '
      'bound as <function>.<argument>.'
    )


def _macros_elsewhere(files) -> set[str]:
  """Returns what .gin files refer to: dafx's, and those beside the user's."""
  folders = [pathlib.Path(prefix) for prefix in gin.config._LOCATION_PREFIXES]
  folders += [pathlib.Path(file).parent for file in files]
  found = {path for root in gin_roots() for path in root.rglob('*.gin')}
  found |= {path for folder in folders for path in folder.glob('*.gin')}
  text = '\n'.join(path.read_text(encoding='utf-8') for path in found)
  return set(re.findall(r'%([\w./]+)', re.sub(r'#.*', '', text)))


def newest_operative_config(folder) -> pathlib.Path:
  """Returns the last operative_config-<step>.gin of a folder.

  Args:
    folder: Where a training run was saved.

  Raises:
    FileNotFoundError: There is none.
  """
  folder = _folders.expand_user(folder)
  found = {}
  for path in folder.glob('operative_config-*.gin'):
    match = re.fullmatch(r'operative_config-(\d+)', path.stem)
    if match and path.is_file():
      found[int(match[1])] = path
  if not found:
    raise FileNotFoundError(
      f'{folder} holds no trained model (no operative_config-*.gin): '
      'is it the --save_dir of a training run?'
    )
  return found[max(found)]


def warn_of_old_run(save_dir: str | os.PathLike):
  """Logs a warning for a run that an older version of dafx began.

  Args:
    save_dir: Where the run was saved; it need not exist.
  """
  folder = _folders.expand_user(save_dir)
  for path in folder.glob('operative_config-*.gin'):
    if _is_of_older_version(path):
      logging.warning(
        '%s was trained by dafx 0.1.0 (%s names no version). That version did '
        'not compare the sample rates of model, encoder, plugins and data, and '
        'its --seed did not reach the random directions of gradient estimates: '
        'training goes on with other directions.',
        folder,
        path.name,
      )
      return


def check_checkpoints(save_dir: str | os.PathLike):
  """Looks whether a training run has saved a model, without reading it.

  Args:
    save_dir: Where the run was saved.

  Raises:
    FileNotFoundError: No checkpoint lies there.
  """
  folder = _folders.expand_user(save_dir)
  if not has_checkpoint(folder) and not has_checkpoint(folder / 'best'):
    raise FileNotFoundError(
      f'{folder} holds no checkpoint (ckpt-*.index): is it the --save_dir of a '
      'training run, and did the run come to its first save?'
    )


def has_checkpoint(folder: str | os.PathLike) -> bool:
  """Returns whether a folder holds a checkpoint, whole or not."""
  return any(_folders.expand_user(folder).glob('ckpt-*.index'))


def write_operative_config(folder, step: int):
  """Writes the gin bindings in use to operative_config-<step>.gin.

  Args:
    folder: Where the training run is saved.
    step: Step at which it starts.
  """
  # Imports stay in it, so that it can be parsed by itself.
  text = f'{_VERSION}{dafx.__version__}.\n{gin.operative_config_str()}'
  path = pathlib.Path(folder) / f'operative_config-{step}.gin'
  with disk.replacing(path) as temporary:
    temporary.write_text(text, encoding='utf-8')
