"""What must be so before TensorFlow and DDSP are imported."""

import importlib.util
import os
import sys
import types


def _demand_keras_2():
  """Makes tf.keras mean Keras 2, which DDSP is written for.

  Raises:
    ImportError: Keras 3 is in place already; the message says what to do.
  """
  os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
  chosen = os.environ['TF_USE_LEGACY_KERAS'].lower()
  tensorflow = sys.modules.get('tensorflow')
  loaded = getattr(tensorflow, '__dict__', {}).get('keras')
  version = getattr(loaded, '__version__', '2')
  if chosen not in ('1', 'true') or version.startswith('3'):
    raise ImportError(
      'dafx needs Keras 2 (the package tf-keras), but tf.keras is Keras 3 in '
      'this process. Import dafx before anything that uses tf.keras, or set '
      'TF_USE_LEGACY_KERAS=1 in the environment.'
    )


class _MissingCrepe(types.ModuleType):
  """Stands in for crepe, whose absence would keep DDSP from being imported."""

  def __getattr__(self, name):
    if name.startswith('__'):
      raise AttributeError(name)
    raise ImportError(
      f'crepe.{name}: pitch tracking needs the package crepe, which is not '
      "installed. Install it with: pip install 'setuptools<81' && pip "
      'install --no-build-isolation crepe'
    )


def _stand_in_for_crepe():
  if 'crepe' in sys.modules or importlib.util.find_spec('crepe'):
    return
  sys.modules['crepe'] = _MissingCrepe('crepe')


def prepare():
  """Sets the process up for TensorFlow and DDSP. Harmless when called twice.

  Raises:
    ImportError: Keras 3 is in place already, or ddsp is not installed.
  """
  _demand_keras_2()
  _stand_in_for_crepe()
  if not importlib.util.find_spec('ddsp'):
    raise ImportError(
      'dafx needs ddsp, which pip cannot install by itself because of its '
      'outdated pins. Install it with: pip install --no-deps ddsp==3.7.0'
    )
