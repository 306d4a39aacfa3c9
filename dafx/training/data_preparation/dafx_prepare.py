r"""Makes training data: the command dafx_prepare.

    dafx_prepare mastering
    dafx_prepare nonspeech --source=download
    dafx_prepare distortion --source=folder --input_dir=my_pairs \
      --input_pattern='dry/{name}' --target_pattern='wet/{name}_amp' \
      --output_dir=~/dafx/data/mine
    dafx_prepare all --source=demo

Train and valid are written at --sample_rate and with --n_channels; test keeps
the rate and the channels of its source, because a trained model takes any.

Each step (download, align, resample and pair, TFRecord) notes what it has done,
and does only what is missing when the command is given again.
"""

import contextlib
import importlib
import pathlib

from absl import app, flags, logging

from dafx import _folders
from dafx.training import train_util

FLAGS = flags.FLAGS
_TASKS = ('distortion', 'nonspeech', 'mastering')
TASKS = (*_TASKS, 'all')
SOURCES = ('demo', 'download', 'folder')


def _define_flags():
  # Not on import: the tests take functions from here.
  flags.DEFINE_enum(
    'source',
    'demo',
    SOURCES,
    'demo: pairs made from what comes with dafx; download: the published set; '
    'folder: your own pairs, below --input_dir.',
  )
  flags.DEFINE_string('input_dir', None, 'source=folder: where your pairs are.')
  flags.DEFINE_string(
    'input_pattern',
    'input/{name}',
    'source=folder: paths of inputs below --input_dir, without suffix.',
  )
  flags.DEFINE_string(
    'target_pattern', 'target/{name}', 'source=folder: paths of targets.'
  )
  flags.DEFINE_bool(
    'align',
    True,
    'source=folder: move targets to where they fit their inputs, and leave out '
    'what is no pair; --noalign takes pairs as they lie.',
  )
  flags.DEFINE_string(
    'output_dir',
    None,
    'Gets train, valid and test; ~/dafx/data/<task> if not given. With all, it '
    'gets a folder per task.',
  )
  flags.DEFINE_string(
    'download_dir', None, 'Gets downloads; <output_dir>/download if not given.'
  )
  flags.DEFINE_enum(
    'until',
    'all',
    ['download', 'align', 'all'],
    'The last step to take, if not all of them.',
  )
  flags.DEFINE_integer(
    'sample_rate', 22050, 'Of train and valid, in Hz.', lower_bound=4000
  )
  flags.DEFINE_integer('n_channels', 1, 'Of train and valid.', lower_bound=1)
  flags.DEFINE_integer(
    'n_variants',
    8,
    'source=demo: pairs per song, speaker or style in train.',
    lower_bound=1,
  )
  flags.DEFINE_integer(
    'seed', 0, 'Of what is drawn, and of splits by file.', lower_bound=0
  )
  flags.DEFINE_bool(
    'tfrecord', False, 'Also write train and valid as TFRecord.'
  )
  flags.DEFINE_string(
    'zenodo_url', 'https://zenodo.org', 'source=download: another server.'
  )
  flags.DEFINE_string(
    'cambridge_index',
    None,
    'source=download: another address of the search page of the multitrack '
    'library, or the path of the page, saved in a browser.',
  )


def write_tfrecords(output_dir: pathlib.Path):
  """Writes train and valid as TFRecord, if their pairs have changed.

  Args:
    output_dir: Where the pairs are; gets <split>.tfrecord and tfrecords.json.

  Raises:
    OSError: No room on the disk.
  """
  from dafx.training import data, tfrecords
  from dafx.training.data_preparation import files

  state_path = output_dir / 'tfrecords.json'
  state = files.read_json(state_path, {})
  notes = files.Manifest(output_dir).pairs
  for split in ('train', 'valid'):
    path = output_dir / f'{split}.tfrecord'
    content = [
      [key, note['input']['sha256'], note['target']['sha256']]
      for key, note in sorted(notes.items())
      if note['split'] == split
    ]
    size = path.stat().st_size if path.exists() else None
    if size is None or state.get(split) != {'pairs': content, 'n_bytes': size}:
      found = data.find_pairs(output_dir / split)
      n_bytes = sum(8 * pair.n_samples * pair.n_channels for pair in found)
      files.check_space(output_dir, n_bytes, path.name)
      tfrecords.write_tfrecord(found, path)
      state[split] = {'pairs': content, 'n_bytes': path.stat().st_size}
      files.write_json(state_path, state)


def _find_candidates(task, download_dir):
  """Returns what `pairs.find_candidates` does, after a download if asked."""
  from dafx.training.data_preparation import cambridge, pairs, published

  if FLAGS.source == 'folder':
    folder = _folders.expand_user(FLAGS.input_dir)
    return pairs.find_candidates(
      folder, FLAGS.input_pattern, FLAGS.target_pattern
    )
  if task == 'mastering':
    index = FLAGS.cambridge_index or cambridge.INDEX_URL
    return published.fetch_mastering(download_dir, index)
  fetch = getattr(published, f'fetch_{task}')
  return fetch(download_dir, FLAGS.zenodo_url)


def prepare(task: str, output_dir: pathlib.Path, download_dir: pathlib.Path):
  """Prepares one task as the flags say.

  Args:
    task: One of `TASKS`, but not 'all'.
    output_dir: Gets the pairs.
    download_dir: Gets what is downloaded.

  Raises:
    OSError: Another process is at work there, among others.
  """
  from dafx.training.data_preparation import files

  with files.locked(output_dir), contextlib.ExitStack() as stack:
    if FLAGS.source == 'download':
      stack.enter_context(files.locked(download_dir))
    _prepare(task, output_dir, download_dir)


def _prepare(task, output_dir, download_dir):
  form = FLAGS.sample_rate, FLAGS.n_channels
  if FLAGS.source == 'demo':
    module = importlib.import_module(f'dafx.training.data_preparation.{task}')
    module.prepare_demo(output_dir, *form, FLAGS.n_variants, FLAGS.seed)
  else:
    from dafx.training.data_preparation import files, pairs, published

    pairs.settle(files.Manifest(output_dir), *form, FLAGS.seed)
    candidates, left_out = _find_candidates(task, download_dir)
    if FLAGS.until == 'download':
      return
    is_aligned = not FLAGS.align
    if FLAGS.until == 'align':
      pairs.align_all(candidates, output_dir, is_aligned)
      return
    pairs.prepare_from_candidates(
      candidates,
      left_out,
      output_dir,
      *form,
      published.split_of(task, candidates, FLAGS.source == 'download'),
      is_aligned,
      FLAGS.seed,
    )
  if FLAGS.tfrecord:
    write_tfrecords(output_dir)


def main(argv):
  """Does what the arguments say."""
  if len(argv) != 2 or argv[1] not in TASKS:
    raise app.UsageError(
      f'Give one task of {", ".join(TASKS)}, not {" ".join(argv[1:]) or "none"}'
    )
  if (FLAGS.source == 'folder') != bool(FLAGS.input_dir):
    raise app.UsageError(
      '--input_dir goes with --source=folder, and it needs it.'
    )
  if argv[1] == 'all' and FLAGS.source == 'folder':
    raise app.UsageError('--source=folder is for one task, not for all.')
  if FLAGS.source == 'demo' and FLAGS.until != 'all':
    raise app.UsageError(
      f'--until={FLAGS.until} is for what is downloaded or aligned; '
      '--source=demo is not.'
    )
  faults = {}
  for task in _TASKS if argv[1] == 'all' else argv[1:]:
    output_dir = pathlib.Path(FLAGS.output_dir or f'~/dafx/data/{task}')
    if FLAGS.output_dir and argv[1] == 'all':
      output_dir /= task
    output_dir = _folders.expand_user(output_dir, '--output_dir')
    download_dir = output_dir / 'download'
    if FLAGS.download_dir:
      download_dir = _folders.expand_user(FLAGS.download_dir) / task
    try:
      prepare(task, output_dir, download_dir)
      print(output_dir)
    except (ValueError, KeyError, OSError, RuntimeError) as error:
      if argv[1] != 'all':
        raise
      logging.error('%s: %s', task, error)
      faults[task] = error
  if faults:
    texts = [f'\n  {task}: {error}' for task, error in faults.items()]
    raise RuntimeError(f'{len(faults)} tasks failed:{"".join(texts)}')


def console_entry_point():
  """The command dafx_prepare."""
  _define_flags()
  logging.set_verbosity(logging.INFO)
  app.run(train_util.with_messages('dafx_prepare', main))


if __name__ == '__main__':
  console_entry_point()
