"""What the commands share: help, messages, their log, TensorFlow's level.

    def console_entry_point():
      running.run('dafx_run', main, __doc__)

It knows nothing of the rest of dafx but what has to be installed.
"""

import argparse
import ctypes
import difflib
import logging as python_logging
import os
import pathlib
import re
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence

from absl import app, flags, logging

from dafx import _environment
from dafx.commands import phrases, terminal

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
_HELP = ('-h', '-?', '-help', '--help', '-helpshort', '--helpshort')
_WIDTH = 80
_END_OF_HELP = """\
  --verbosity=1
      Also print the traceback of an error, and all that TensorFlow logs.
  --helpfull
      All flags, those of libraries included.
"""


def run(
  command: str,
  main: Callable[[list[str]], None],
  text: str,
  sections: Mapping[str, flags.FlagValues] | None = None,
):
  """Runs a command: `app.run` with help, messages and a log for people.

  Args:
    command: Its name.
    main: Function of argv.
    text: What --help begins with: what the command does, its modes, examples.
    sections: Flags that --help shows, by heading; by default all those that
      are defined now, but for absl's own.
  """
  logging.set_verbosity(logging.INFO)
  words = sys.argv[1:]
  if '--' in words:
    words = words[: words.index('--')]
  if any(word in _HELP for word in words):
    print(help_text(text, sections or {'Flags': flags.FLAGS}), end='')
    sys.exit(0)

  def parse(argv):
    try:
      return flags.FLAGS(argv)
    except flags.Error as error:
      _refuse(command, error)

  def logged(argv):
    set_up_log()
    quiet_tensorflow()
    try:
      with_messages(command, main)(argv)
    except app.UsageError as error:
      _refuse(command, error)

  app.run(logged, flags_parser=parse)


class Parser(argparse.ArgumentParser):
  """Arguments of a command that has sub-commands, or of one of these.

  A wrong command line is told of in one line, with what may have been meant,
  and ends the command with status 1, as all that goes wrong does.
  """

  def __init__(self, **kwargs):
    super().__init__(
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,
      **kwargs,
    )
    self.add_argument(
      '--verbosity',
      type=whole_number(-3, 3),
      default=argparse.SUPPRESS,  # a sub-command keeps what was given before it
      metavar='N',
      help='1: also print the traceback of an error, and all that is logged.',
    )

  def parse_known_args(self, args=None, namespace=None):
    """As argparse, but a sub-command tells what of its words it knows not."""
    parsed, unknown = super().parse_known_args(args, namespace)
    if unknown:
      word = unknown[0].partition('=')[0]
      known = [
        name for action in self._actions for name in action.option_strings
      ]
      near = difflib.get_close_matches(word, known)
      hint = f' Did you mean {" or ".join(near)}?' if near else ''
      self.error(f'{" ".join(unknown)} is not known here.{hint}')
    return parsed, unknown

  def error(self, message: str):
    """Ends the command."""
    _refuse(self.prog, message)


def whole_number(low: int, high: int) -> Callable[[str], int]:
  """Returns a type of arguments: whole numbers from low to high."""

  def parse(text):
    if not re.fullmatch('[-+]?[0-9]+', text) or not low <= int(text) <= high:
      raise argparse.ArgumentTypeError(
        f'{text!r} must be a whole number from {low} to {high}'
      )
    return int(text)

  return parse


def run_parsed(parser: Parser):
  """Runs the sub-command that the command line names, as `run` does a command.

  Args:
    parser: Each of its sub-commands has the default `run`: a function of what
      was parsed.
  """
  parser.set_defaults(verbosity=0)
  parsed = parser.parse_args()

  def logged(argv):
    set_up_log()
    quiet_tensorflow()
    with_messages(parser.prog, lambda _: parsed.run(parsed))(argv)

  # Only absl's log is left to its flags.
  app.run(logged, [parser.prog, f'--verbosity={parsed.verbosity}'])


def _refuse(command, error):
  """Ends for a wrong command line."""
  print(f'{command}: {error}', file=sys.stderr)
  print(f'  ({command} --help shows what there is.)', file=sys.stderr)
  sys.exit(1)


# ------------------------------------------------------------------ Help ----
def help_text(text: str, sections: Mapping[str, flags.FlagValues]) -> str:
  """Returns what --help prints.

  Args:
    text: What the command does, its modes, examples.
    sections: Flags by heading.
  """
  lines = [text.strip(), '']
  for heading, values in sections.items():
    lines += [heading, *describe_flags(values), '']
  return '\n'.join(lines[:-1]) + '\n' + _END_OF_HELP


def describe_flags(values: flags.FlagValues) -> list[str]:
  """Returns lines on flags and their defaults, but for absl's own flags.

  Args:
    values: The flags, in the order in which they were defined.
  """
  lines = []
  for module, defined in values.flags_by_module_dict().items():
    if module.startswith('absl.'):
      continue
    for flag in defined:
      form, about = _describe_flag(flag)
      lines.append(f'  {form}')
      lines += textwrap.wrap(
        about, _WIDTH, initial_indent=' ' * 6, subsequent_indent=' ' * 6
      )
  return lines


def _describe_flag(flag) -> tuple[str, str]:
  """Returns a flag as it is written, and what it is for."""
  form, about = f'--{flag.name}=...', flag.help
  if flag.boolean:
    return f'--{"no" if flag.default else ""}{flag.name}', about
  if isinstance(flag, flags.EnumFlag):  # absl puts the values before the help
    allowed = '|'.join(flag.parser.enum_values)
    form = f'--{flag.name}={allowed}'
    about = about.removeprefix(f'<{allowed}>: ')
  if isinstance(flag, flags.MultiFlag):  # and a sentence behind it
    about = about.split(';\n')[0] + ' Can be given again.'
  if flag.default not in (None, '', []):
    about += f' By default {flag.default}.'
  return form, about


# -------------------------------------------------------------- Messages ----
def announce(text: str):
  """Prints a line on standard error, above a bar that may be there."""
  tqdm = sys.modules.get('tqdm')  # where it is not imported, there is no bar
  if tqdm is None:
    print(text, file=sys.stderr, flush=True)
  else:
    tqdm.tqdm.write(text, file=sys.stderr)


def announce_all(texts: Sequence[str]):
  """Prints the first of several texts that are alike, and how many more."""
  for text in texts[:1]:
    announce(text)
  if len(texts) > 1:
    announce(f'and {len(texts) - 1} more like it, beside the other outputs.')


def is_verbose() -> bool:
  """Returns whether --verbosity=1 was given, or more."""
  return logging.get_verbosity() >= logging.DEBUG


def with_messages(command: str, main):
  """Returns main for `app.run`, whose faults of the user's end in a message.

  Args:
    command: Name of the command, which the message begins with.
    main: Function of argv. Ctrl-C ends it with status 130, a fault with 1;
      --verbosity=1 prints the traceback before the message.
  """

  def wrapped(argv):
    try:
      main(argv)
      if sys.stdout is not None:  # None: `>&-` closed it
        sys.stdout.flush()
      return
    except KeyboardInterrupt:
      sys.exit(130)
    except BrokenPipeError:  # `dafx_plugins list | head`
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      sys.exit(1)
    except app.UsageError:
      raise
    except (
      ValueError,
      KeyError,
      OSError,
      ArithmeticError,
      ImportError,
      RuntimeError,  # a plugin's, soundfile's, gin's for what is not bound
      TypeError,  # gin's for a macro without value
    ) as error:
      # str() of a KeyError has quotes; gin passes one on without args.
      is_key = isinstance(error, KeyError) and error.args
      fault, text = error, error.args[0] if is_key else error
      if isinstance(error, OSError):  # "[Errno 2] No such file …: 'in.wav'"
        text = str(error).removeprefix(f'[Errno {error.errno}] ')
    except Exception as error:
      # What fails in a graph, such as a plugin or a file, comes wrapped.
      tensorflow = sys.modules.get('tensorflow')
      if not tensorflow or not isinstance(error, tensorflow.errors.OpError):
        raise
      # "PluginError: what happened", then a traceback.
      fault, text = error, phrases.without_keras(error.message).splitlines()[0]
    if is_verbose():
      traceback.print_exception(fault)
    text = phrases.plain(str(text), phrases.place_of(fault))
    print(f'{command}: {text}', file=sys.stderr)
    # What dafx needs and is not installed is said in one line, with the remedy;
    # a module that Python does not find may be misspelt.
    is_misspelt = isinstance(fault, ModuleNotFoundError)
    is_remedy = isinstance(fault, ImportError) and not is_misspelt
    if not (is_verbose() or is_remedy):
      print('  (--verbosity=1 shows the traceback.)', file=sys.stderr)
    sys.exit(1)

  return wrapped


# ------------------------------------------------------------------- Log ----
class _Handler(python_logging.Handler):
  """Prints records by `announce`; of libraries, what is worse than information.

  TensorFlow and others log through absl too, so the file tells whose it is.
  """

  def emit(self, record):
    is_ours = pathlib.Path(record.pathname).is_relative_to(_PACKAGE)
    if record.levelno <= python_logging.INFO and not (is_ours or is_verbose()):
      return
    try:
      announce(self.format(record))
    except Exception:  # As the handlers of Python's logging do.
      self.handleError(record)


class _Formatter(python_logging.Formatter):
  """The time, a word for what is worse than information, the message."""

  def __init__(self):
    super().__init__('%(asctime)s %(message)s', '%H:%M:%S')

  def formatMessage(self, record):  # noqa: N802, the name is Python's.
    if record.levelno > python_logging.INFO:
      record.message = f'{record.levelname}: {record.message}'
    return super().formatMessage(record)


def set_up_log():
  """Has the log print above bars, for people; call it after parsing flags.

  Of libraries it prints warnings and what is worse. With --verbosity=1 it
  prints their information too, and where in the code each line comes from.
  """
  terminal.bear_all_characters()
  handler = _Handler()
  handler.setFormatter(
    logging.PythonFormatter() if is_verbose() else _Formatter()
  )
  root = python_logging.getLogger()
  root.removeHandler(logging.get_absl_handler())
  root.addHandler(handler)
  root.setLevel(python_logging.INFO if is_verbose() else python_logging.WARNING)
  # Without absl's handler at the root, absl's level is that of its logger.
  logging.set_verbosity(logging.get_verbosity())
  python_logging.getLogger('dafx').setLevel(
    logging.get_absl_logger().getEffectiveLevel()
  )
  python_logging.captureWarnings(True)
  if not is_verbose():  # what libraries tell those who write code with them
    for category in (DeprecationWarning, FutureWarning):
      warnings.simplefilter('ignore', category)


# ------------------------------------------------------------ TensorFlow ----
def quiet_tensorflow():
  """Sets the level of TensorFlow's log, if the user has not; before it loads.

  Information (level 0: oneDNN, instruction sets, how many devices) goes
  unless --verbosity=1 is given; warnings and errors stay, such as a GPU's
  memory that is exhausted. Where there is no GPU driver, TensorFlow logs its
  absence as an error ("failed call to cuInit"), and only level 3 leaves that
  out. What really fails there, memory included, is raised, and fatal errors
  have no level. (TensorFlow 2.21 logs three lines, twice, before it reads its
  level; `make setup` installs 2.20, which does not.)
  """
  if not is_verbose():
    level = '1' if has_gpu_driver() else '3'
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', level)


def has_gpu_driver(
  libraries: Sequence[str] = ('libcuda.so.1',),
  devices: Sequence[str] = ('/dev/kfd',),
) -> bool:
  """Returns whether a driver of a GPU is installed.

  Args:
    libraries: Of drivers, as TensorFlow loads them: NVIDIA's, which is the
      same on servers, boards and WSL, whatever their device files are.
    devices: Files that drivers make: AMD's.
  """
  if any(pathlib.Path(device).exists() for device in devices):
    return True
  for library in libraries:
    try:
      ctypes.CDLL(library)
      return True
    except OSError:
      continue
  return False


def prepare_tensorflow(seed: int, allow_memory_growth: bool = False):
  """Makes what TensorFlow does depend on the seed alone.

  Call it before TensorFlow does anything.

  Args:
    seed: Seed of weights and of all else that is random.
    allow_memory_growth: Whether to take GPU memory as it is needed.

  Raises:
    ImportError: TensorFlow or DDSP is not installed.
  """
  _environment.demand_tensorflow()
  # Sums are shared out among threads, and their last bits depend on how many:
  # so that the machine's number does not matter, it is said here. (Rendering,
  # which takes most of the time, has threads of its own.)
  os.environ.setdefault('TF_NUM_INTRAOP_THREADS', '2')
  # It takes seconds to import; flags and files are checked before.
  import tensorflow as tf

  tf.keras.utils.set_random_seed(seed)
  tf.config.experimental.enable_op_determinism()
  if allow_memory_growth:
    for device in tf.config.list_physical_devices('GPU'):
      tf.config.experimental.set_memory_growth(device, True)
