"""Gin text as statements, read without importing or calling what it names."""

import tokenize
from collections.abc import Iterator, Sequence
from typing import Any

from gin import config_parser

# Packages whose modules the config of a stranger may import.
_KNOWN_PACKAGES = ('dafx', 'ddsp', 'tensorflow', 'gin.tf')
# What is registered there and does more than to make something.
_ACTS = ('train', 'evaluate')


class Macro(str):
  """The name of a macro, where its value will stand."""


class Reference(str):
  """The name of a function or class, or of what it returns."""


class _LooksNothingUp(config_parser.ParserDelegate):
  """Has gin's parser read values without the modules that they refer to."""

  def configurable_reference(self, name, evaluate):
    del evaluate
    return Reference(name)

  def macro(self, name):
    return Macro(name)


def statements(text: str | bytes, place: str) -> list:
  """Returns the statements of gin text; references are their names.

  Args:
    text: The text.
    place: What it is called in messages.

  Returns:
    Statements of `gin.config_parser`.

  Raises:
    ValueError: Text that gin cannot parse; the message is one line.

  Examples:
    >>> from dafx.training import gin_text
    >>> gin_text.statements('a.b = 3', 'text')[0].value
    3
    >>> gin_text.statements('a.b = (3', 'text')
    Traceback (most recent call last):
    ValueError: text, line 2: EOF in multi-line statement.
  """
  line = 1
  try:
    if isinstance(text, bytes):
      text = text.decode('utf-8')
    if text.startswith('\ufeff'):
      raise ValueError(
        'It begins with a byte order mark; save it as UTF-8 without one'
      )
    parser = config_parser.ConfigParser(text, _LooksNothingUp())
    found = []
    for statement in parser:
      found.append(statement)
      line = parser.current_token.start[0]
  except tokenize.TokenError as error:
    fault, (line, _) = error.args
  except SyntaxError as error:
    fault, line = error.msg, error.lineno or line
  except (RecursionError, MemoryError):
    fault = 'Values lie too deep in one another'
  except (ValueError, TypeError) as error:  # of a literal, such as {[]: 1}
    fault = str(error)
  else:
    return found
  fault = fault.strip().splitlines()[0].rstrip('.')
  if 'malformed node' in fault or 'Unable to parse value' in fault:
    fault = (
      "What stands behind = is no value. Text has quotes, such as 'esr'; other "
      'values are numbers, True, False, None, lists, @references and %macros'
    )
  raise ValueError(f'{place}, line {line}: {fault}.')


def check_harmless(found: Sequence, place: str, modules: Sequence[str] = ()):
  """Refuses statements that could run what nobody asked for.

  gin imports modules, and calls what a config names. Allowed is what dafx, DDSP
  and TensorFlow register, but for what writes files.

  Args:
    found: Statements, as of `statements`.
    place: What the text is called in messages.
    modules: Modules that the user names besides; what lies below them too.

  Raises:
    ValueError: A statement that is not allowed; the message says in which line.
  """
  for statement in found:
    fault = ''
    if isinstance(statement, config_parser.ImportStatement):
      name, known = statement.module, (*_KNOWN_PACKAGES, *modules)
      if not any(name == m or name.startswith(f'{m}.') for m in known):
        fault = f'imports {name}'
    elif isinstance(statement, config_parser.IncludeStatement):
      fault = f'includes {statement.filename}'
    elif isinstance(statement, config_parser.BindingStatement):
      names = _references(statement.value)
      acts = [n for n in names if n.split('/')[-1].split('.')[-1] in _ACTS]
      if acts:
        fault = f'calls {acts[0]}'
    if fault:
      raise ValueError(
        f'{place}, line {statement.location.line_num}: the config {fault}, '
        'which is not what dafx, DDSP and TensorFlow make models of. Such a '
        'line can run any program. Only if you know where the file comes from, '
        'allow the module by --gin_module=MODULE, or all by --trust.'
      )


def _references(value: Any) -> Iterator[str]:
  """Yields the names of functions and classes in a value."""
  if isinstance(value, Reference):
    yield value
  elif isinstance(value, dict):
    for item in value.items():
      yield from _references(item)
  elif isinstance(value, (list, tuple)):
    for part in value:
      yield from _references(part)
