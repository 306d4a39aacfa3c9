r"""dafx_prepare: makes pairs of audio files, or of an instrument, to train on.

    dafx_prepare folder --input=dry --target=wet --output_dir=~/dafx/data/mine
    dafx_prepare folder --input=takes --target=takes \
      --input_pattern='{name}_dry' --target_pattern='{name}_wet'
    dafx_prepare mastering
    dafx_prepare mastering --source=debian
    dafx_prepare nonspeech --source=download
    dafx_prepare all

What to prepare
  folder    Your own pairs. Two files are a pair if they have the same name
      below --input and --target; suffixes, rates and channels may differ. Files
      without a partner are reported.
  distortion, nonspeech, mastering
      The pairs of one task, made from the audio that comes with dafx, or
      downloaded with --source=download. For mastering, --source=debian takes
      free music from Debian's archive (about 500 MB; 3.5 GB of pairs), at 44.1
      kHz in stereo.
  all       The pairs of all three tasks.
  solo      Recordings of one instrument, with their pitch and loudness: those
      of a folder (--input), or a demonstration (--source=demo).

All pairs have the same layout: folders train, valid and test, each with input
and target. Train and valid are written at --sample_rate and with --n_channels.
Test keeps the rate and the channels of its source, because a trained model
takes any.

The command given again does only what is missing. --workers=4 has four
processes make pairs side by side, --runner=NAME a runner of Apache Beam
(pip install 'dafx[beam]'); the pairs are the same.
"""

import contextlib
import pathlib
import sys

from absl import app, flags, logging

from dafx import _folders
from dafx.audio import disk
from dafx.commands import prepare_flags, prepare_solo, running

FLAGS = flags.FLAGS
_TASKS = ('distortion', 'nonspeech', 'mastering')
TASKS = ('folder', *_TASKS, 'all', 'solo')
_OWN_PAIRS = 'dafx_prepare folder --input=DIR --target=DIR'


def _defined(*define) -> flags.FlagValues:
  values = flags.FlagValues()
  for function in define:
    function(values)
  return values


def _define_flags(values: flags.FlagValues = FLAGS):
  # Not on import: the tests take functions from here.
  for define in (
    prepare_flags.of_folder,
    prepare_flags.of_tasks,
    prepare_flags.of_both,
    prepare_solo.define_flags,
  ):
    define(values)


def _workers(output_dir, default=1):
  """Returns who makes the pairs; by default so many processes."""
  from dafx.training.data_preparation import side_by_side

  if FLAGS.runner:
    from dafx.training.data_preparation import beam  # needs Apache Beam

    return beam.Beam(output_dir, FLAGS.runner, tuple(FLAGS.runner_options))
  return side_by_side.Processes(FLAGS.workers or default)


def _write_tfrecords(output_dir):
  from dafx.training.data_preparation import shards  # TensorFlow

  shards.write_tfrecords(output_dir, FLAGS.tfrecord_shards)


def prepare_folder(output_dir: pathlib.Path):
  """Prepares the user's own pairs as the flags say.

  Args:
    output_dir: Gets the pairs.

  Raises:
    OSError: A folder is not there, or another process is at work in output_dir.
    ValueError: Folders or patterns that do not go together; see `matching`.
  """
  # Others take seconds to import; folders are checked before.
  from dafx.training.data_preparation import matching

  folders = (
    _folders.expand_user(FLAGS.input),
    _folders.expand_user(FLAGS.target),
  )
  matching.check_folders(*folders, output_dir)
  candidates, left_out = matching.find_candidates(
    *folders, FLAGS.input_pattern or '{name}', FLAGS.target_pattern or '{name}'
  )
  split_of = None
  if FLAGS.split_by == 'speaker':
    from dafx.training.data_preparation import published

    split_of = published.split_by_speaker(candidates)
  with disk.locked(output_dir, 'dafx_prepare'):
    _prepare_files(candidates, left_out, output_dir, split_of)


def prepare(task: str, output_dir: pathlib.Path, download_dir: pathlib.Path):
  """Prepares one task as the flags say.

  Args:
    task: Its name.
    output_dir: Gets the pairs.
    download_dir: Gets what is downloaded.

  Raises:
    OSError: Another process is at work there, among others.
  """
  with disk.locked(output_dir, 'dafx_prepare'), contextlib.ExitStack() as stack:
    if FLAGS.source in ('download', 'debian'):
      stack.enter_context(disk.locked(download_dir, 'dafx_prepare'))
    if FLAGS.source == 'download':
      _prepare_download(task, output_dir, download_dir)
    elif FLAGS.source == 'debian':
      _prepare_debian(output_dir, download_dir)
    else:
      _prepare_demo(task, output_dir)


def _form() -> tuple[int, int]:
  """Returns rate and channels of train and valid."""
  usual = (44100, 2) if FLAGS.source == 'debian' else (22050, 1)
  return FLAGS.sample_rate or usual[0], FLAGS.n_channels or usual[1]


def _prepare_debian(output_dir, download_dir):
  from dafx.training.data_preparation import debian_music, debian_packages

  mirrors = FLAGS.debian_mirror or debian_packages.MIRRORS
  known = debian_packages.PACKAGES
  debs = debian_packages.fetch(download_dir, mirrors, known)
  if FLAGS.until == 'download':
    return
  unpacked = download_dir / 'unpacked'
  pieces = [piece for d in debs for piece in debian_music.unpack(d, unpacked)]
  debian_music.prepare(
    pieces,
    output_dir,
    *_form(),
    seed=FLAGS.seed,
    workers=_workers(output_dir, default=None),
  )
  if FLAGS.tfrecord:
    _write_tfrecords(output_dir)


def _prepare_demo(task, output_dir):
  from dafx.training.data_preparation import distortion, mastering, nonspeech

  module = {
    'distortion': distortion,
    'nonspeech': nonspeech,
    'mastering': mastering,
  }[task]
  module.prepare_demo(
    output_dir,
    *_form(),
    FLAGS.n_variants,
    FLAGS.seed,
    _workers(output_dir),
  )
  if FLAGS.tfrecord:
    _write_tfrecords(output_dir)


def _prepare_download(task, output_dir, download_dir):
  from dafx.training.data_preparation import cambridge, files, pairs, published

  pairs.settle(files.Manifest(output_dir), *_form(), FLAGS.seed)
  if task == 'mastering':
    index = FLAGS.cambridge_index or cambridge.INDEX_URL
    found = published.fetch_mastering(download_dir, index)
  else:
    found = published.FROM_ZENODO[task](download_dir, FLAGS.zenodo_url)
  if FLAGS.until != 'download':
    candidates, left_out = found
    split_of = published.split_of(task, candidates)
    _prepare_files(candidates, left_out, output_dir, split_of)


def _prepare_files(candidates, left_out, output_dir, split_of):
  """Aligns pairs of files, and writes them if all steps are to be taken."""
  from dafx.training.data_preparation import pairs

  is_aligned = not FLAGS.align
  if FLAGS.until == 'align':
    workers = _workers(output_dir)
    pairs.align_all(candidates, output_dir, is_aligned, workers)
    return
  pairs.prepare_from_candidates(
    candidates,
    left_out,
    output_dir,
    *_form(),
    split_of,
    is_aligned,
    FLAGS.seed,
    _workers(output_dir),
  )
  if FLAGS.tfrecord:
    _write_tfrecords(output_dir)


def _check_flags(argv):
  """Raises UsageError for arguments that do not fit together."""
  if len(argv) != 2 or argv[1] not in TASKS:
    raise app.UsageError(
      f'Give one of {", ".join(TASKS)}, not {" ".join(argv[1:]) or "none"}. '
      f'For your own pairs: {_OWN_PAIRS}'
    )
  if argv[1] == 'solo':
    _check_flags_of_solo()
    return
  for flag in _defined(prepare_solo.define_flags):
    if FLAGS[flag].value != FLAGS[flag].default:
      raise app.UsageError(f'--{flag} is for solo: {prepare_solo.USAGE}')
  if FLAGS.runner and FLAGS.workers:
    raise app.UsageError(
      '--workers is for processes of this machine. With --runner give '
      '--runner_options, such as direct_num_workers=2.'
    )
  if FLAGS.runner_options and not FLAGS.runner:
    raise app.UsageError('--runner_options goes with --runner.')
  if FLAGS.runner:
    from dafx.training.data_preparation import beam  # noqa: F401  Is it there?
  if FLAGS.tfrecord_shards > 1 and not FLAGS.tfrecord:
    raise app.UsageError(
      f'--tfrecord_shards={FLAGS.tfrecord_shards} goes with --tfrecord.'
    )
  is_folder = argv[1] == 'folder'
  if is_folder and not (FLAGS.input and FLAGS.target):
    raise app.UsageError(f'Give both folders: {_OWN_PAIRS}')
  # What the others would pass over.
  for flag in _defined(
    prepare_flags.of_tasks if is_folder else prepare_flags.of_folder
  ):
    if FLAGS[flag].value != FLAGS[flag].default:
      raise app.UsageError(
        f'--{flag} is not for {argv[1]}. For your own pairs: {_OWN_PAIRS}'
      )
  if FLAGS.source == 'debian' and argv[1] != 'mastering':
    raise app.UsageError(
      f'Not for {argv[1]}: give dafx_prepare mastering --source=debian'
    )
  if FLAGS.until == 'download' and FLAGS.source not in ('download', 'debian'):
    raise app.UsageError(
      '--until=download goes with --source=download and --source=debian.'
    )
  if FLAGS.until == 'align' and not (is_folder or FLAGS.source == 'download'):
    raise app.UsageError(
      '--until=align is for pairs of files: folder, or --source=download.'
    )


def _check_flags_of_solo():
  for flag in _defined(
    prepare_flags.of_folder, prepare_flags.of_tasks, prepare_flags.of_both
  ):
    is_given = FLAGS[flag].value != FLAGS[flag].default
    if is_given and flag not in prepare_solo.SHARED:
      raise app.UsageError(f'--{flag} is not for solo: {prepare_solo.USAGE}')
  prepare_solo.check(FLAGS)


def default_folder(task: str, source: str) -> str:
  """Returns where data go without --output_dir, and gin files find them.

  Args:
    task: Of TASKS.
    source: As of --source.
  """
  return f'~/dafx/data/{"debian" if source == "debian" else task}'


def main(argv):
  """Does what the arguments say."""
  _check_flags(argv)
  faults = {}
  for task in _TASKS if argv[1] == 'all' else argv[1:]:
    place = FLAGS.output_dir or default_folder(task, FLAGS.source)
    output_dir = pathlib.Path(place)
    if FLAGS.output_dir and argv[1] == 'all':
      output_dir /= task
    _folders.check_output_folder(output_dir, '--output_dir')
    output_dir = _folders.expand_user(output_dir, '--output_dir')
    download_dir = output_dir / 'download'
    if FLAGS.download_dir:
      download_dir = _folders.expand_user(FLAGS.download_dir) / task
    made = 'records' if task == 'solo' else 'pairs'
    running.announce(f'dafx_prepare: making {made} ({task}) in {output_dir}')
    try:
      if task == 'solo':
        print(prepare_solo.prepare(FLAGS, output_dir))
      elif task == 'folder':
        prepare_folder(output_dir)
      else:
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


def check_former(words: list[str]):
  """Says what took the place of flags of former versions.

  Args:
    words: The command line, without the command.

  Raises:
    ValueError: One of them is there.
  """
  for word in words:
    if word in ('--source=folder', '-source=folder') or word.lstrip(
      '-'
    ).startswith('input_dir'):
      raise ValueError(
        f'{word} was a flag of former versions. For your own pairs: '
        f'{_OWN_PAIRS} (patterns are of the paths below these folders).'
      )


def console_entry_point():
  """The command dafx_prepare."""
  try:
    check_former(sys.argv[1:])
  except ValueError as error:
    sys.exit(f'dafx_prepare: {error}')
  _define_flags()
  sections = {
    'Flags of folder': _defined(prepare_flags.of_folder),
    f'Flags of {", ".join(_TASKS)}, all': _defined(prepare_flags.of_tasks),
    'Flags of all these': _defined(prepare_flags.of_both),
    'Flags of solo': _defined(prepare_solo.define_flags),
  }
  running.run('dafx_prepare', main, __doc__, sections)


if __name__ == '__main__':
  console_entry_point()
