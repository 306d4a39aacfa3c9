r"""Makes training data: the command dafx_prepare.

    dafx_prepare mastering
    dafx_prepare mastering --source=folder --input_dir=my_pairs \
      --output_dir=~/dafx/data/mine

Train and valid are written at --sample_rate and with --n_channels; test keeps
the rate and the channels of its source, because a trained model takes any.
"""

import importlib
import pathlib
import sys

from absl import app, flags, logging

FLAGS = flags.FLAGS
TASKS = ('distortion', 'nonspeech', 'mastering')


def _define_flags():
  # Not on import: the tests take functions from here.
  flags.DEFINE_enum(
    'source',
    'demo',
    ['demo', 'folder'],
    'demo: pairs made from what comes with dafx; folder: your own pairs, in '
    'the folders input and target of --input_dir.',
  )
  flags.DEFINE_string('input_dir', None, 'source=folder: where your pairs are.')
  flags.DEFINE_string(
    'output_dir',
    None,
    'Gets train, valid and test; ~/dafx/data/<task> if not given.',
  )
  flags.DEFINE_integer('sample_rate', 22050, 'Of train and valid, in Hz.')
  flags.DEFINE_integer('n_channels', 1, 'Of train and valid.')
  flags.DEFINE_integer(
    'n_variants', 8, 'source=demo: pairs per song, speaker or style in train.'
  )
  flags.DEFINE_integer('seed', 0, 'source=demo: seed of what is drawn.')
  flags.DEFINE_bool(
    'tfrecord', False, 'Also write train and valid as TFRecord.'
  )


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
  output_dir = pathlib.Path(FLAGS.output_dir or f'~/dafx/data/{argv[1]}')
  output_dir = output_dir.expanduser()
  if FLAGS.source == 'demo':
    module = importlib.import_module(
      f'dafx.training.data_preparation.{argv[1]}'
    )
    module.prepare_demo(
      output_dir,
      FLAGS.sample_rate,
      FLAGS.n_channels,
      FLAGS.n_variants,
      FLAGS.seed,
    )
  else:
    from dafx.training.data_preparation import pairs

    pairs.prepare_from_pairs(
      pathlib.Path(FLAGS.input_dir).expanduser(),
      output_dir,
      FLAGS.sample_rate,
      FLAGS.n_channels,
    )
  if FLAGS.tfrecord:
    from dafx.training import data, tfrecords

    for split in ('train', 'valid'):
      tfrecords.write_tfrecord(
        data.find_pairs(output_dir / split), output_dir / f'{split}.tfrecord'
      )
  print(output_dir)


def _main_with_messages(argv):
  try:
    main(argv)
  except KeyboardInterrupt:
    sys.exit(130)
  except (ValueError, OSError, RuntimeError) as error:
    print(f'dafx_prepare: {error}', file=sys.stderr)
    sys.exit(1)


def console_entry_point():
  """The command dafx_prepare."""
  _define_flags()
  logging.set_verbosity(logging.INFO)
  app.run(_main_with_messages)


if __name__ == '__main__':
  console_entry_point()
