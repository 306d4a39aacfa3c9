r"""DDSP's own commands, in a process that is prepared for them.

    python -m dafx.ddsp run --mode=train --save_dir=~/ddsp/violin \
      --gin_file=models/solo_instrument.gin --gin_file=datasets/tfrecord.gin \
      --gin_param="TFRecordProvider.file_pattern = 'violin.tfrecord*'"
    python -m dafx.ddsp prepare_tfrecord \
      --input_audio_filepatterns='violin/*.wav' \
      --output_tfrecord_path=violin.tfrecord
    python -m dafx.ddsp export --model_path=~/ddsp/violin \
      --inference_model=autoencoder --nometadata

The first word is a command of DDSP without its `ddsp_`: run, prepare_tfrecord,
export or generate_synthetic_dataset. What follows are the flags of that
command; --help lists them. They need `scripts/setup ddsp`, or what docs/ddsp.md
says. `python -m dafx.ddsp gin_folder` prints where DDSP's gin files are.
"""

import importlib
import importlib.util
import pathlib
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import gin
from absl import app, flags

from dafx import _environment, _folders
from dafx.commands import running

_NAME = 'dafx.ddsp'
_TRAINING = 'ddsp.training'
_PREPARATION = f'{_TRAINING}.data_preparation'
# Modules of DDSP by command.
COMMANDS = {
  'run': f'{_TRAINING}.ddsp_run',
  'prepare_tfrecord': f'{_PREPARATION}.ddsp_prepare_tfrecord',
  'export': f'{_TRAINING}.ddsp_export',
  'generate_synthetic_dataset': (
    f'{_PREPARATION}.ddsp_generate_synthetic_dataset'
  ),
}
# What DDSP imports besides what dafx needs: packages of PyPI by module.
_OF_TRAINING = {
  'google.cloud.storage': 'google-cloud-storage',
  'hypertune': 'cloudml-hypertune',
  'mir_eval': 'mir_eval',
  'note_seq': 'note-seq',
  'tensorflow_datasets': 'tensorflow-datasets',
}
_OF_PREPARATION = {'apache_beam': 'apache-beam', 'pydub': 'pydub'}
PACKAGES = {**_OF_TRAINING, **_OF_PREPARATION}
# As scripts/setup installs it, without what it asks for.
BEAM = 'apache-beam==2.77.0'
_INSTALL = (
  'In a checkout `scripts/setup ddsp` installs them; elsewhere: pip install '
  f"'dafx[ddsp]' and then pip install --no-deps {BEAM}"
)
# What `export` imports to convert a SavedModel, by the flag that asks for it.
# They are built on a protobuf that TensorFlow has left behind.
_CONVERTERS = {'tfjs': 'tensorflowjs', 'tflite': 'tflite_support'}


def check_packages(command: str):
  """Raises unless all that a command of DDSP imports is installed.

  Args:
    command: One of `COMMANDS`.

  Raises:
    ImportError: Packages are missing; all of them are named.
  """
  prepares = COMMANDS[command].startswith(_PREPARATION)
  needs = PACKAGES if prepares else _OF_TRAINING
  missing = [
    package
    for module, package in needs.items()
    if not _environment.is_installed(module)
  ]
  if missing:
    raise ImportError(
      f'{command} needs {", ".join(missing)}, which DDSP imports and which '
      f'are not installed. {_INSTALL}'
    )


def load(command: str) -> types.ModuleType:
  """Imports a command of DDSP, with what no longer fits mended.

  Args:
    command: One of `COMMANDS`.

  Returns:
    DDSP's module, whose `main` is the command.

  Raises:
    ImportError: What it needs is not installed.
  """
  check_packages(command)
  running.quiet_tensorflow()  # before it is imported
  _environment.demand_tensorflow()
  if command == 'export':
    return _load_export()
  return importlib.import_module(COMMANDS[command])


def _load_export():
  """Imports `ddsp_export`, which asks for its converters whether used or not.

  A module takes the place of each that is not installed. Flags that need one
  are off unless they are given, and then refused.
  """
  missing = {}
  for flag, package in _CONVERTERS.items():
    if not _environment.is_installed(package):
      missing[flag] = package
      # `from tensorflowjs.converters import converter`
      # `from tflite_support import metadata`
      stand_in = types.ModuleType(package)
      vars(stand_in).update(metadata=None, converter=None)
      sys.modules[package] = stand_in
      sys.modules[f'{package}.converters'] = stand_in
  module: Any = importlib.import_module(COMMANDS['export'])
  for flag in missing:
    flags.FLAGS.set_default(flag, False)
  module.main = _with_converters(module.main, missing)
  inference: Any = importlib.import_module(f'{_TRAINING}.inference')
  inference.parse_operative_config = _hearing_curves(
    inference.parse_operative_config
  )
  return module


def _with_converters(main: Callable, missing: dict[str, str]) -> Callable:
  """Returns DDSP's main, which refuses flags whose converter is missing."""

  def checked(argv):
    for flag, package in missing.items():
      if flags.FLAGS[flag].value:
        raise ImportError(
          f'--{flag} needs {package}, which cannot be installed beside '
          f'TensorFlow 2.20 or newer. Leave --{flag} out: the SavedModel that '
          'is written can be converted elsewhere.'
        )
    if missing:
      running.announce(
        f'{_NAME}: {" and ".join(missing.values())} cannot be installed beside '
        'TensorFlow 2.20 or newer: a SavedModel is written, and nothing for '
        f'{" or ".join(missing)}.'
      )
    main(argv)

  return checked


def _hearing_curves(parse: Callable) -> Callable:
  """Has a model take its loudness from its input, where it would take audio.

  `AutoencoderInference` is given pitch and loudness, and no audio, from which
  `F0LoudnessPreprocessor` would measure the loudness again.
  """

  def parsed(path):
    parse(path)
    with gin.unlock_config():
      gin.parse_config('F0LoudnessPreprocessor.compute_loudness = False')

  return parsed


def gin_folder() -> pathlib.Path:
  """Returns where DDSP's gin files are, and imports nothing of it.

  Raises:
    ImportError: DDSP is not installed.
  """
  spec = importlib.util.find_spec('ddsp')
  if spec is None or spec.origin is None:
    raise ImportError(
      'DDSP is not installed: pip install --no-deps ddsp==3.7.0'
    )
  return pathlib.Path(spec.origin).parent / 'training' / 'gin'


def check_weights():
  """Raises if `prepare_tfrecord` is to track pitch, and cannot.

  In its pipeline the message would stand below a hundred lines.

  Raises:
    ImportError: CREPE's weights are not installed.
  """
  if flags.FLAGS.frame_rate and _environment.stands_in_for_crepe():
    from dafx.pitch import crepe  # which imports TensorFlow

    crepe.weights_path('full')


def expand_home(words: Sequence[str]) -> list[str]:
  """Puts the home folder for the '~' of flags, such as --save_dir=~/run.

  A shell leaves it there, and so does DDSP for most flags.

  Args:
    words: Of a command line.

  Returns:
    As many words.

  Raises:
    ValueError: There is a '~', and no home folder.
  """
  found = []
  for word in words:
    name, equals, value = word.partition('=')
    if name.startswith('-') and value.startswith('~'):
      value = str(_folders.expand_user(value, name))
    found.append(f'{name}{equals}{value}')
  return found


def main(argv: Sequence[str] | None = None):
  """Runs a command of DDSP.

  Args:
    argv: The command line, by default that of the process: its first word is
      the command.
  """
  words = list(sys.argv if argv is None else argv)[1:]
  if not words or words[0] in ('help', '-h', '--help'):
    print(__doc__)
    return
  command, *words = words
  if command == 'gin_folder':
    print(gin_folder())
    return
  name = f'{_NAME} {command}'
  loaded = []

  def import_it(_):
    if command not in COMMANDS:
      raise ValueError(
        f'{command!r} is no command of DDSP; there are {", ".join(COMMANDS)}.'
      )
    loaded.append(load(command))  # which defines the flags

  def hand_over(argv):
    if command == 'prepare_tfrecord':
      check_weights()
    loaded[0].main(argv)

  running.with_messages(name, import_it)([])
  app.run(
    running.with_messages(name, hand_over), argv=[name, *expand_home(words)]
  )


if __name__ == '__main__':
  main()
