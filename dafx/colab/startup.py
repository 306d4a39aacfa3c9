"""How notebooks start: TensorFlow loads without what it tells of itself."""

import contextlib
import importlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator

from dafx import _command

# How TensorFlow's log, Abseil's, marks information; and what it says before.
_INFORMATION = re.compile(
  rb'I\d{4} .*|WARNING: All log messages before absl::InitializeLog\(\) .*'
)


@contextlib.contextmanager
def without_information() -> Iterator[None]:
  """Takes lines of information out of what libraries write to standard error.

  For what a library writes before it reads the level of its log. All else is
  written when the context ends.

  Yields:
    Nothing.
  """
  sys.stderr.flush()
  kept = os.dup(2)
  with tempfile.TemporaryFile() as file:
    os.dup2(file.fileno(), 2)
    try:
      yield
    finally:
      sys.stderr.flush()
      os.dup2(kept, 2)
      os.close(kept)
      file.seek(0)
      for line in file:
        if not _INFORMATION.fullmatch(line.rstrip(b'\n')):
          os.write(2, line)


def import_tensorflow():
  """Imports TensorFlow for a notebook, if it is not imported yet.

  Its log has the level that the commands give it, unless TF_CPP_MIN_LOG_LEVEL
  says otherwise. Keras is Keras 2, which DDSP is written for.
  """
  if 'tensorflow' in sys.modules:
    return
  _command.quiet_tensorflow()
  # Bars of TensorFlow Datasets, which DDSP imports, are text without widgets.
  warnings.filterwarnings('ignore', 'IProgress not found')
  with without_information():
    importlib.import_module('tensorflow')
