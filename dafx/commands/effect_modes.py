"""Modes of dafx_run for models of effects: export and profile."""

import pathlib
from typing import Any

from absl import flags, logging

from dafx.audio import nam_words

# Entries of `neural.nam.Metadata`.
_METADATA = (
  'name',
  'modeled_by',
  'gear_make',
  'gear_model',
  'gear_type',
  'tone_type',
  'input_level_dbu',
  'output_level_dbu',
)
# The flags of export, and of it alone.
NAMES, MODES = (*_METADATA, 'nam_version'), ('export',)

flags.DEFINE_list(
  'knobs',
  None,
  'process, export: knobs of a model of an effect, from 0 to 1; a .nam file '
  'has none, and is of one setting; --knobs=0.3,0.8.',
)
flags.DEFINE_float(
  'size',
  None,
  'process: of a model with networks of several sizes (blackbox_a2.gin), which '
  'to use, from 0 to 1, the largest, which is the default; --size=0.3.',
  lower_bound=0.0,
  upper_bound=1.0,
)
flags.DEFINE_string(
  'name', None, "export: what a .nam file is called; --name='Driven tube'."
)
flags.DEFINE_string('modeled_by', None, 'export: who made the .nam file.')
flags.DEFINE_string(
  'gear_make', None, 'export: maker of what was captured; --gear_make=Marshall.'
)
flags.DEFINE_string(
  'gear_model', None, 'export: model of what was captured; --gear_model=JTM45.'
)
flags.DEFINE_enum(
  'gear_type', None, nam_words.GEAR_TYPES, 'export: kind of what was captured.'
)
flags.DEFINE_enum(
  'tone_type', None, nam_words.TONE_TYPES, 'export: sound of what was captured.'
)
flags.DEFINE_float(
  'input_level_dbu',
  None,
  'export: level in dBu RMS of a sine of 1 kHz that peaks at full scale at the '
  'input; --input_level_dbu=12.5.',
)
flags.DEFINE_float('output_level_dbu', None, 'export: the same at the output.')
flags.DEFINE_enum(
  'nam_version',
  None,
  nam_words.VERSIONS,
  'export: version of the .nam format: 0.5.4 for players of before, 0.7.0 for '
  'the trainer from 0.13 on; by default the first that can hold the network.',
)


def export(model: Any, folder: pathlib.Path, values: flags.FlagValues):
  """Exports a trained model, as the flags say.

  Args:
    model: A `models.Model`.
    folder: Its run.
    values: All flags of the command.

  Raises:
    ValueError: It cannot be exported so.
  """
  from dafx import neural, processors
  from dafx.neural import nam
  from dafx.training import checkpoints, inference

  knobs = [float(knob) for knob in values['knobs'].value or ()] or None
  given = {name: values[name].value for name in NAMES}
  output = values['output'].value
  if not inference.is_nam(output):
    if named := [name for name in NAMES if given[name] is not None]:
      raise ValueError(
        f'--{named[0]} is for a .nam file; --output={output} is a SavedModel.'
      )
    inference.export(model, output, knobs=knobs)
    return
  version = given.pop('nam_version')
  nodes = processors.nodes(model.processor_group).values()
  esr = checkpoints.validation_esr(folder)
  if any(isinstance(node, neural.Packed) for node in nodes):
    esr = None  # it is the sum of several networks
  metadata = nam.Metadata(**given, validation_esr=esr)
  inference.export(
    model, output, metadata=metadata, nam_version=version, knobs=knobs
  )


def check_export(model: Any, values: flags.FlagValues) -> str:
  """Checks before training that a model can be exported.

  Args:
    model: A `models.Model`, trained or not.
    values: All flags of the command.

  Returns:
    That it can, in words.

  Raises:
    ValueError: It cannot; the message says what is in the way.
  """
  from dafx.training import inference

  output = values['output'].value
  model.check_mode('export')
  if inference.is_nam(output):
    inference.check_nam(model, values['nam_version'].value)
  return f'Once it is trained, the model can be exported to {output}.'


def tell_of_export(model: Any):
  """Says before a training whether a .nam file can hold what is trained.

  Args:
    model: A `models.Model`.
  """
  from dafx.training import inference

  if not model.can_be_nam:
    return
  try:
    inference.check_nam(model)
  except ValueError as error:
    logging.info('As a .nam file this cannot be exported: %s', error)
  else:
    logging.info('This can be exported as a .nam file.')


def profile(model: Any, save_dir: pathlib.Path):
  """Measures size and speed of a model, and prints them.

  Args:
    model: A `models.Model`.
    save_dir: Where a file with them goes.
  """
  from dafx.training.inference import profiling

  model.check_mode('profile')
  measured = profiling.profile(model)
  print(profiling.describe(measured))
  print(profiling.write(measured, save_dir))
