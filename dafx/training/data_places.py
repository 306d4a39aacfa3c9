"""Where the data of a run are to be, and what makes those that are missing."""

from dafx import _folders
from dafx.training import gin_files, gin_text

# Where dafx's providers of data look, by the names of their arguments.
_DATA_PATHS = {
  'FolderProvider': ('path',),
  'ShardProvider': ('path',),
  'InstrumentProvider': ('path',),
  'RecordingProvider': ('input_path', 'target_path'),
  'RenderedProvider': ('dry_path',),
}
# What makes the data that tasks look for, by their place.
_PREPARED = {
  **{
    f'~/dafx/data/{task}': f'`dafx_prepare {task}` makes them'
    for task in ('distortion', 'mastering', 'nonspeech')
  },
  '~/dafx/data/solo': '`dafx_prepare solo --source=demo` makes those of the '
  'demonstration, --input=FOLDER takes yours',
}


def check_data(bound: gin_files.Bindings, is_training: bool):
  """Looks whether the data of a run are where its bindings say.

  Only dafx's own providers are known here; others say it themselves, later.

  Args:
    bound: What `gin_files.check_gin` returned.
    is_training: Whether the data of the training are meant, or of the test.

  Raises:
    FileNotFoundError: There is no such file or folder.
    ValueError: Where they are is not said.
  """
  user = ('train', 'data_provider')
  if not is_training:
    user = ('evaluate', 'provider')
  # '@train/data.RecordingProvider()' without what is around the name.
  provider = str(bound.get(user, '')).split('/')[-1].split('.')[-1]
  for argument in _DATA_PATHS.get(provider, ()):
    _check_data_path(bound, (provider, argument))


def _check_data_path(bound, key):
  """Raises unless an argument is unknown here, or a path that exists."""
  path, name = bound.get(key), '.'.join(key)
  while isinstance(path, gin_text.Macro):
    name, path = f'the macro {path}', bound.get((str(path), ''))
  if not isinstance(path, str):
    return
  if not path and key[1] == 'input_path':
    raise ValueError(
      f'Where the recordings are is not said ({name} is empty). Give '
      '--gin_param="input_path=\'dry.wav\'" and '
      '--gin_param="target_path=\'wet.wav\'".'
    )
  if path and not _folders.expand_user(path).exists():
    advice = ''
    if key[1] == 'path':
      how = '`dafx_prepare --help` says how they are made'
      advice = f' {_PREPARED.get(path, how)}.'
    raise FileNotFoundError(
      f'{path}: there is no such file or folder; {name} says that the data are '
      f'there.{advice}'
    )
