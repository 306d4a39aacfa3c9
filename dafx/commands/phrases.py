"""What libraries say, in words for people who run commands."""

import pathlib
import re
import traceback

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
# What Keras puts before the message of a fault in a layer, and behind it.
_LAYER = re.compile(
  r"Exception encountered when calling layer '.*?' \(type \w+\)\.\s+"
)
_LAYER_INPUTS = '\n\nCall arguments received by layer'
# gin's message for it.
_UNBOUND_MACRO = re.compile(
  r"macro\(\) missing.*configurable 'macro' .* in scope '([^']*)'", re.DOTALL
)
# gin's message for an argument that nothing gives.
_UNBOUND = re.compile(
  r'Required bindings for `([\w./]+)` not provided in config: \[(.*?)\]'
)


def place_of(fault: BaseException) -> str:
  """Returns the class of a fault that others raise in terse words; or ''.

  Args:
    fault: What was raised.
  """
  frames = traceback.extract_tb(fault.__traceback__)
  is_ours = frames and pathlib.Path(frames[-1].filename).is_relative_to(
    _PACKAGE
  )
  is_terse = isinstance(fault, (KeyError, TypeError))
  return type(fault).__name__ if is_terse and not is_ours else ''


def plain(text: str, place: str = '') -> str:
  r"""Returns a message without the layers and functions that it went through.

  Args:
    text: The message.
    place: As `place_of` gives it.

  Examples:
    >>> from dafx.commands import phrases
    >>> phrases.plain("Too loud\n  In call to configurable 'train' (...)")
    'Too loud'
  """
  return without_keras(_without_gin(text, place))


def without_keras(text: str) -> str:
  """Leaves out through which layers a message went, and their inputs.

  Args:
    text: The message.
  """
  return _LAYER.sub('', text).partition(_LAYER_INPUTS)[0].strip()


def _without_gin(text, place):
  """Leaves out by which functions of gin a message went.

  Args:
    text: The message.
    place: Class of a fault whose message needs to be told what failed.
  """
  if unbound := _UNBOUND_MACRO.search(text):
    name = unbound[1]
    return (
      f'The configuration uses the macro {name}, which has no value. Give it '
      f'one: --gin_param="{name} = ..."'
    )
  if unbound := _UNBOUND.search(text):
    name, arguments = unbound[1], unbound[2].replace("'", '')
    return (
      f'The configuration does not say what {arguments} of {name} is. Give a '
      '--gin_file that does (gin/README.md lists them), or '
      f'--gin_param="{name}.{arguments.partition(",")[0]} = ..."'
    )
  text, _, calls = text.partition("\n  In call to configurable '")
  if place and calls:
    configurable = calls.partition("'")[0]
    return f'{configurable}: {place}: {text}'
  return text
