"""How notebooks start: TensorFlow loads without what it tells of itself."""

import importlib
import sys
import warnings

from dafx.commands import running


def import_tensorflow():
  """Imports TensorFlow for a notebook, if it is not imported yet.

  Its log has the level that the commands give it, unless TF_CPP_MIN_LOG_LEVEL
  says otherwise. Keras is Keras 2, which DDSP is written for.
  """
  if 'tensorflow' in sys.modules:
    return
  running.quiet_tensorflow()
  # Bars of TensorFlow Datasets, which DDSP imports, are text without widgets.
  warnings.filterwarnings('ignore', 'IProgress not found')
  importlib.import_module('tensorflow')
