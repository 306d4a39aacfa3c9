"""The demonstration: a network learns to master, and a page lets one hear it.

    python -m dafx.commands.demo --output_dir=build/demo

Makes mastering pairs from the music that comes with dafx, trains a network on
`mastering_demo.gin`, and compares it on songs that it never heard with the
input as it is and with the best single setting of the same plugins. Pairs
and trainings that are there are not made again. The last line printed is the
path of the page.
"""

from absl import app, flags, logging

from dafx import _folders
from dafx.commands import running
from dafx.training import gin_files

FLAGS = flags.FLAGS


def _define_flags():
  # Not on import: dafx_run has flags of the same names.
  flags.DEFINE_string('output_dir', 'build/demo', 'Gets the runs and the page.')
  flags.DEFINE_string(
    'data_dir', '~/dafx/data/mastering', 'Where the pairs are, or are made.'
  )
  flags.DEFINE_string('gin_file', 'mastering_demo.gin', 'What is trained.')
  flags.DEFINE_multi_string('gin_param', [], 'Bindings that come after it.')


def main(argv):
  """Does what the flags say."""
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {" ".join(argv[1:])}')
  output_dir = _folders.expand_user(FLAGS.output_dir).absolute()
  logging.info(
    'Trains a network to master music, finds the best single setting of the '
    'same plugins, compares both and writes %s: some minutes on two '
    'cores. Ctrl-C ends it; the same command goes on with it.',
    output_dir / 'index.html',
  )
  running.prepare_tensorflow(seed=0)
  gin_files.add_gin_search_paths()
  # TensorFlow takes seconds to import.
  from dafx.training.evaluation import demonstration

  path = demonstration.run(
    output_dir,
    _folders.expand_user(FLAGS.data_dir, '--data_dir'),
    FLAGS.gin_file,
    FLAGS.gin_param,
  )
  print(path)


if __name__ == '__main__':
  _define_flags()
  running.run('demo', main, __doc__)
