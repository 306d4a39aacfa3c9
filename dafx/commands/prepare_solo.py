"""What dafx_prepare does for `solo`: recordings of one instrument."""

import pathlib

from absl import app, flags

from dafx import _folders
from dafx.audio import disk

# Flags that solo shares with the other tasks, beside its own.
SHARED = ('source', 'input', 'output_dir', 'sample_rate', 'seed')
USAGE = 'dafx_prepare solo --input=DIR, or dafx_prepare solo --source=demo'


def define_flags(values: flags.FlagValues):
  """Defines the flags of solo.

  Args:
    values: Gets them.
  """
  flags.DEFINE_integer(
    'frame_rate',
    250,
    'Frames of pitch and loudness per second.',
    lower_bound=1,
    flag_values=values,
  )
  flags.DEFINE_string(
    'tracker',
    'swift_f0',
    'Pitch tracker: swift_f0, crepe, crepe_tiny or pyin.',
    flag_values=values,
  )
  flags.DEFINE_float(
    'f_min_hz',
    None,
    'Lowest pitch of the instrument, which keeps a tracker from octaves below; '
    '--f_min_hz=190 for a violin.',
    flag_values=values,
  )
  flags.DEFINE_float(
    'f_max_hz', None, 'Highest pitch of the instrument.', flag_values=values
  )
  flags.DEFINE_string(
    'instrument',
    'violin',
    '--source=demo: violin, cello, trumpet, oboe, clarinet or flute.',
    flag_values=values,
  )


def check(values: flags.FlagValues):
  """Raises UsageError for flags that do not go together.

  Args:
    values: All flags of the command.
  """
  is_demo = values.source is not None
  if is_demo == bool(values.input):
    raise app.UsageError(f'Give recordings or the demonstration: {USAGE}')
  if is_demo and values.source != 'demo':
    raise app.UsageError(f'--source={values.source} is not for solo: {USAGE}')
  if not is_demo and values.instrument != values['instrument'].default:
    raise app.UsageError('--instrument goes with --source=demo.')


def prepare(values: flags.FlagValues, output_dir: pathlib.Path) -> str:
  """Prepares recordings, or the demonstration, as the flags say.

  Args:
    values: All flags of the command.
    output_dir: Gets the records.

  Returns:
    Words that say whether the recordings will do.

  Raises:
    FileNotFoundError: There are no recordings.
    ValueError: Material that no instrument can be learned from.
    OSError: Another process is at work in output_dir, among others.
  """
  from dafx.training.data_preparation import solo, solo_demo

  form = solo.Form(
    values.sample_rate or 16000,
    values.frame_rate,
    values.tracker,
    values.f_min_hz,
    values.f_max_hz,
  )
  with disk.locked(output_dir, 'dafx_prepare'):
    if values.source == 'demo':
      return solo_demo.prepare(output_dir, form, values.instrument, values.seed)
    folder = _folders.expand_user(values.input)
    if not folder.exists():
      raise FileNotFoundError(f'{folder}: there is no such folder or file.')
    return solo.prepare_folder(folder, output_dir, form)
