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

import ast
import io
import os
import pathlib
import re
import shutil
import sys
import tokenize
from collections.abc import Callable, Iterable, Sequence

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_bool(
  'overwrite', False, 'Replace the files instead of writing updated_ copies.'
)

# What versions changed, newest last.

# Bindings to drop: 'Configurable.parameter', or the name of a macro.
REMOVE: Sequence[str] = (
  # 0.2.0: the seed is the run's, train.seed.
  'ProxyLV2Plugin.seed',
)

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

# 0.2.0: options of estimators and of the host are classes of their own, which
# the scopes of plugins and chains hold for too.
_PLUGINS = ('LV2Plugin', 'DiscreteLV2Plugin', 'LV2Chain')
_OF_ESTIMATORS = ('epsilon', 'epsilons', 'epsilon_decay', 'epsilon_decay_steps')
_OF_SPSA = ('n_probes', 'sides', 'memory', 'hold', 'smoothing', 'directions')
_OF_HOST = (
  'block_size',
  'n_threads',
  'compensate_latency',
  'warm_up',
  'strict',
  'isolation',
)
_ESTIMATORS = {'spsa': 'Spsa', 'central_differences': 'CentralDifferences'}
_ADJOINTS = {
  'adjoint': 'BestAdjoint',
  'reversal': 'Reversal',
  'gain_filter': 'GainFilter',
  'straight_through': 'StraightThrough',
  'none': 'NoAudioGradient',
}

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


def _value(statement: str) -> str:
  """Returns the text of the value that a statement binds."""
  return statement.partition('=')[2].strip().removeprefix('\\').strip()


def _literal(text: str):
  """Returns a value; macros in it are strings such as '%name'.

  Raises:
    ValueError: It is no literal.
  """
  quoted = re.sub(r'(?<![\'"\w])%([\w.]+)', r"'%\1'", text)
  try:
    return ast.literal_eval(quoted)
  except (SyntaxError, ValueError) as error:
    raise ValueError(f'{text} is no plain value: change it by hand.') from error


def _written(value) -> str:
  """Returns the text of a value that `_literal` has read."""
  return re.sub(r"'(%[\w.]+)'", r'\1', repr(value))


class _Bindings:
  """Looks up what a plugin's old arguments are bound to.

  Args:
    statements: Of the whole config.
  """

  def __init__(self, statements: Sequence[str]):
    self._values = {}  # text by (scope, class, parameter), or macro
    for statement in statements:
      scope, name = _key(statement)
      owner, _, parameter = name.rpartition('.')
      key = (scope, owner.rpartition('.')[2], parameter)
      self._values[key] = _value(statement)

  def get(self, scope: str, owner: str, parameter: str, default=None):
    """Returns a value; a scope's own comes before those of outer scopes."""
    parts = scope.split('/')[:-1]
    for n in range(len(parts), -1, -1):
      outer = ''.join(f'{part}/' for part in parts[:n])
      if (outer, owner, parameter) in self._values:
        return self.resolved(_literal(self._values[outer, owner, parameter]))
    return default

  def resolved(self, value):
    """Returns the value of a macro; other values as they are."""
    while isinstance(value, str) and value.startswith('%'):
      name = value[1:]
      owner, _, parameter = name.rpartition('.')
      if ('', owner, parameter) not in self._values:
        raise ValueError(f'The macro {value} has no value: change it by hand.')
      value = _literal(self._values['', owner, parameter])
    return value

  def has(self, scope: str, owner: str, parameter: str) -> bool:
    """Returns whether a scope itself binds a parameter."""
    return (scope, owner, parameter) in self._values


def move_plugin_arguments(
  statements: Sequence[str],
) -> tuple[list[str], list[str]]:
  """Moves arguments of plugins and chains of 0.1.0 to where they are in 0.2.0.

  Args:
    statements: Of a config.

  Returns:
    (the new statements, what was changed: a line each).

  Raises:
    ValueError: A value that has to be changed by hand; the message says which.
  """
  bindings = _Bindings(statements)
  moved, changes = [], []
  for statement in statements:
    scope, name = _key(statement)
    prefix, _, parameter = name.rpartition('.')
    owner = prefix.rpartition('.')[2]
    new = None
    if owner in _PLUGINS:
      new = _moved(bindings, scope, prefix, owner, parameter, _value(statement))
    if new is None:
      moved.append(statement)
      continue
    lines = [line + '\n' for line in new]
    moved += lines
    what = ', '.join(line.strip() for line in lines)
    verb = f'changed: {_headline(statement)} ->' if new else 'removed:'
    changes.append(f'{verb} {what or _headline(statement)}')
  return moved, changes


def _moved(bindings, scope, prefix, owner, parameter, value):
  """Returns what takes the place of a binding; None where it stays."""
  new = _moved_in_scope(bindings, scope, prefix, owner, parameter, value)
  if new is None:
    return None
  # What a chain without a scope has is not for all plugins.
  is_general = (scope, owner) == ('', 'LV2Chain')
  if is_general and bindings.has('', owner, 'gradient'):
    new = [
      f'chain/{line}'
      if line.startswith('gradients.')
      else line.replace('@gradients.', '@chain/gradients.')
      for line in new
    ]
  return [scope + line for line in new]


def _moved_in_scope(bindings, scope, prefix, owner, parameter, value):
  """Returns what takes the place of a binding, without its scope."""

  def look_up(name, default=None):
    return bindings.get(scope, owner, name, default)

  if parameter in _OF_HOST:
    return [f'effects.Host.{parameter} = {value}']
  if parameter in ('seed', 'log_gradients'):
    return []
  if parameter == 'gradient':
    estimator = _ESTIMATORS[look_up(parameter)]
    return [f'{prefix}.control_gradient = @gradients.{estimator}()']
  if parameter in _OF_ESTIMATORS:
    estimator = _ESTIMATORS[look_up('gradient', 'spsa')]
    return [f'gradients.{estimator}.{parameter} = {value}']
  if parameter in _OF_SPSA:
    is_spsa = look_up('gradient', 'spsa') == 'spsa'
    return [f'gradients.Spsa.{parameter} = {value}'] if is_spsa else []
  if parameter == 'input_gradient':
    way = look_up(parameter)
    if owner == 'LV2Chain' and way == 'adjoint':
      return [f'{prefix}.audio_gradient = None']  # those of its plugins
    return [f'{prefix}.audio_gradient = @gradients.{_ADJOINTS[way]}()']
  if parameter == 'input_epsilon':
    way, size = look_up('input_gradient', 'adjoint'), look_up(parameter)
    if size is None or way not in ('adjoint', 'reversal'):
      return []
    if way == 'reversal':
      return [f'gradients.Reversal.epsilon = {value}']
    return [f'gradients.BestAdjoint.epsilons = ({value},)']
  if parameter == 'scales':
    # With the ranges, where the same scope has some.
    has_own = bindings.has(scope, owner, 'ranges')
    return [] if has_own else _joined_ranges(bindings, look_up, prefix)
  if parameter == 'ranges' and look_up('scales'):
    return _joined_ranges(bindings, look_up, prefix)
  return None


def _joined_ranges(bindings, look_up, prefix):
  """Returns the binding of the ranges with their scales behind them."""
  scales = look_up('scales') or {}
  ranges = dict(look_up('ranges') or {})
  if not scales:
    return []
  for symbol, scale in scales.items():
    # None is the plugin's own end of the range.
    low, high = bindings.resolved(ranges.get(symbol, (None, None)))[:2]
    ranges[symbol] = (low, high, scale)
  return [f'{prefix}.ranges = {_written(ranges)}']


# Functions from statements to (statements, changes), for arguments of which
# several have to be looked at together. After the tables above.
REWRITE: Sequence[Callable] = (move_plugin_arguments,)


def update_text(
  text: str,
  remove: Iterable[str] = REMOVE,
  substitute: Iterable[tuple[str, str]] = SUBSTITUTE,
  add: Iterable[tuple[str, str, str]] = ADD,
  rewrite: Iterable[Callable] = REWRITE,
) -> tuple[str, list[str]]:
  """Applies tables of changes to a gin config.

  It removes, substitutes, rewrites, and then adds.

  Names are compared from their end, as gin does: 'dafx.training.Trainer' and
  'Trainer' are one. Applied again, nothing changes, provided that no
  substitution matches its own result.

  Args:
    text: The config.
    remove: Bindings to drop, 'Configurable.parameter' in any scope, or macros.
    substitute: (regular expression, replacement), for each binding in turn.
    add: (configurable, parameter, value): bound without a scope, at the end,
      where the configurable is used and the parameter has no such binding.
    rewrite: Functions from all statements to (statements, changes).

  Returns:
    (the new config, what was changed: a line each).

  Raises:
    ValueError: The text is no gin file, or has to be changed by hand.
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
  for function in rewrite:
    statements, more = function(statements)
    changes += more
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
      path.read_text(encoding='utf-8'), REMOVE, SUBSTITUTE, ADD, REWRITE
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
