r"""Brings operative gin configs of older versions of dafx up to date.

    python update_gin_config.py ~/dafx/mastering
    python update_gin_config.py ~/dafx/mastering/operative_config-0.gin
    python update_gin_config.py --overwrite ~/dafx/mastering

A training run is built anew from the operative_config-<step>.gin beside its
checkpoints, which binds every parameter by name. When a version of dafx drops,
renames or adds one, the tables below say so, and this script applies them. It
writes updated_operative_config-<step>.gin beside each file that changes; with
--overwrite, which dafx_run needs to find it, it replaces the file.
"""

import io
import os
import pathlib
import re
import shutil
import sys
import tokenize
from collections.abc import Iterable, Sequence

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_bool(
  'overwrite', False, 'Replace the files instead of writing updated_ copies.'
)

# What versions changed, newest last.

# Bindings to drop: 'Configurable.parameter', or the name of a macro.
REMOVE: Sequence[str] = ()

# (regular expression, replacement), applied to each binding in turn.
SUBSTITUTE: Sequence[tuple[str, str]] = (
  # 0.2.0: files of dafx.training moved into packages, which register under the
  # same names what they hold.
  (
    r'^import dafx\.training\.'
    r'(?:augmentation|effect_data|preprocessing|tfrecords)(?![.\w])',
    'import dafx.training.data',
  ),
  (
    r'^import dafx\.training\.(?:effect_models|encoders|pretraining)(?![.\w])',
    'import dafx.training.models',
  ),
  (
    r'^import dafx\.training\.(?:effect_inference|evaluators)(?![.\w])',
    'import dafx.training.evaluation',
  ),
  # What data hold registers under their package; TFRecords are shards.
  (
    r'(?<![\w.])((?:dafx\.)?(?:training\.)?)'
    r'(?:augmentation|effect_data|preprocessing|tfrecords)\.'
    r'(NoiseAndGain|RandomEqualizer|RecordingProvider|RenderedProvider'
    r'|Preprocessor|TFRecordProvider)(?!\w)',
    r'\1data.\2',
  ),
  (r'(?<!\w)TFRecordProvider(?!\w)', 'ShardProvider'),
  # Evaluation takes a provider, for all kinds of models.
  (r'(?<!\w)evaluate_effect\.', 'evaluate.'),
  (
    r'^((?:dafx\.)?(?:training\.)?)evaluate\.path\s*=',
    r'\1evaluate.provider = @evaluation/data.FolderProvider()' + '\n'
    "evaluation/data.FolderProvider.split = 'test'\n"
    'evaluation/data.FolderProvider.path =',
  ),
  (
    r'^(?:dafx\.)?(?:training\.)?evaluate\.split\s*=',
    'evaluation/data.FolderProvider.split =',
  ),
  # DDSP's gin has a get_model of its own.
  (r'^(\s*(?:[\w.]+\.)?)get_model\.model(?=\s*=)', r'\1make_model.model'),
)

# (configurable, parameter, value): bound where a config uses the configurable
# and does not bind the parameter, so that an old run keeps its behaviour.
ADD: Sequence[tuple[str, str, str]] = ()

_KEY = re.compile(r'\s*((?:[\w.-]+/)*)([\w.]+)\s*=(?!=)')
_REFERENCE = re.compile(r'@(?:[\w.-]+/)*([\w.]+)')


def split_statements(text: str) -> list[str]:
  """Splits a gin file into statements, comments and blank lines.

  Args:
    text: A gin file.

  Returns:
    Pieces of whole lines, which joined give the text. A binding over several
    lines is one piece.

  Raises:
    ValueError: A bracket or string that does not end.
  """
  lines = io.StringIO(text).readlines()
  pieces, start = [], 0
  first = None  # line on which the statement begins
  try:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
      if token.type == tokenize.NEWLINE:
        pieces += lines[start:first]
        pieces.append(''.join(lines[first : token.end[0]]))
        start, first = token.end[0], None
      elif first is None and token.type not in (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
      ):
        first = token.start[0] - 1
  except (tokenize.TokenError, SyntaxError) as error:
    raise ValueError(f'This is no gin file: {error}') from error
  return pieces + lines[start:]


def _is_same(name: str, other: str) -> bool:
  """Whether two dotted names may mean one thing: one is the other's end."""
  ours, theirs = name.split('.'), other.split('.')
  n = min(len(ours), len(theirs))
  return ours[-n:] == theirs[-n:]


def _key(statement: str) -> tuple[str, str]:
  """Returns (scope, name) that a statement binds; ('', '') for others."""
  match = _KEY.match(statement)
  return (match[1], match[2]) if match else ('', '')


def _binds(statement: str, name: str) -> bool:
  """Whether a statement binds a parameter, in any scope, or a macro."""
  bound = _key(statement)[1]
  # A macro has no dot; a parameter has one at least.
  if '.' not in bound or '.' not in name:
    return bound == name
  return _is_same(bound, name)


def _uses(statement: str, configurable: str) -> bool:
  """Whether a statement binds a parameter of a configurable or refers to it."""
  owner = _key(statement)[1].rpartition('.')[0]
  if owner and _is_same(owner, configurable):
    return True
  if statement.lstrip().startswith('#'):
    return False
  return any(_is_same(n, configurable) for n in _REFERENCE.findall(statement))


def update_text(
  text: str,
  remove: Iterable[str] = REMOVE,
  substitute: Iterable[tuple[str, str]] = SUBSTITUTE,
  add: Iterable[tuple[str, str, str]] = ADD,
) -> tuple[str, list[str]]:
  """Applies tables of changes to a gin config: removes, substitutes, then adds.

  Names are compared from their end, as gin does: 'dafx.training.Trainer' and
  'Trainer' are one. Applied again, nothing changes, provided that no
  substitution matches its own result.

  Args:
    text: The config.
    remove: Bindings to drop, 'Configurable.parameter' in any scope, or macros.
    substitute: (regular expression, replacement), for each binding in turn.
    add: (configurable, parameter, value): bound without a scope, at the end,
      where the configurable is used and the parameter has no such binding.

  Returns:
    (the new config, what was changed: a line each).

  Raises:
    ValueError: The text is no gin file.
  """
  statements, changes = [], []
  for statement in split_statements(text):
    if any(_binds(statement, name) for name in remove):
      changes.append(f'removed: {_headline(statement)}')
      continue
    new = statement
    for pattern, replacement in substitute:
      new = re.sub(pattern, replacement, new)
    if new != statement:
      changes.append(f'changed: {_headline(statement)} -> {_headline(new)}')
    statements.append(new)
  for configurable, parameter, value in add:
    name = f'{configurable}.{parameter}'
    if not any(_uses(s, configurable) for s in statements):
      continue
    if any(_binds(s, name) and not _key(s)[0] for s in statements):
      continue
    if statements and not statements[-1].endswith('\n'):
      statements[-1] += '\n'
    statements.append(f'{name} = {value}\n')
    changes.append(f'added: {name} = {value}')
  return ''.join(statements), changes


def _headline(statement: str) -> str:
  """Returns a statement's first line."""
  return statement.strip().splitlines()[0].rstrip(' \\')


def find_configs(path: str | os.PathLike) -> list[pathlib.Path]:
  """Returns the configs that a path means.

  Args:
    path: A file, or a folder with files operative_config-*.gin.

  Raises:
    FileNotFoundError: No such path, or no config in the folder.
  """
  path = pathlib.Path(path).expanduser()
  if path.is_dir():
    found = sorted(path.glob('operative_config-*.gin'))
    if not found:
      raise FileNotFoundError(
        f'{path} holds no operative_config-*.gin: is it the --save_dir of a '
        'training run?'
      )
    return found
  if not path.is_file():
    raise FileNotFoundError(f'{path}: there is no such file or folder.')
  return [path]


def update_file(
  path: pathlib.Path, overwrite: bool = False
) -> tuple[pathlib.Path | None, list[str]]:
  """Updates one file by the tables of this script.

  Args:
    path: The file.
    overwrite: Whether to replace it, in one step; otherwise a copy of the name
      updated_<name> is written beside it.

  Returns:
    (the file written, or None where there was nothing to change; what was
    changed).

  Raises:
    ValueError: The file is no gin file.
    OSError: It cannot be read or written.
  """
  try:
    text, changes = update_text(
      path.read_text(encoding='utf-8'), REMOVE, SUBSTITUTE, ADD
    )
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  if not changes:
    return None, changes
  target = path if overwrite else path.with_name(f'updated_{path.name}')
  partial = target.with_name(f'.{target.name}.partial')
  partial.write_text(text, encoding='utf-8')
  shutil.copymode(path, partial)
  os.replace(partial, target)
  return target, changes


def main(argv):
  """Updates the files and folders that are given."""
  if len(argv) < 2:
    raise app.UsageError('Give a gin file, or the folder of a training run.')
  try:
    paths = [path for word in argv[1:] for path in find_configs(word)]
    for path in paths:
      target, changes = update_file(path, FLAGS.overwrite)
      for change in changes:
        print(f'  {change}')
      print(f'{path}: ' + (f'-> {target}' if target else 'is up to date'))
  except (ValueError, OSError) as error:
    print(f'update_gin_config: {error}', file=sys.stderr)
    sys.exit(1)


if __name__ == '__main__':
  app.run(main)
