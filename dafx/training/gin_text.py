"""Gin text as statements, read without importing or calling what it names."""

import tokenize

from gin import config_parser


class Macro(str):
  """The name of a macro, where its value will stand."""


class _LooksNothingUp(config_parser.ParserDelegate):
  """Has gin's parser read values without the modules that they refer to."""

  def configurable_reference(self, name, evaluate):
    del evaluate
    return name

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
  raise ValueError(f'{place}, line {line}: {fault}.')
