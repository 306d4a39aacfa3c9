"""Flags of dafx_prepare."""

from absl import flags


def of_folder(values: flags.FlagValues):
  """Defines flags; see `dafx_prepare`."""
  flags.DEFINE_string(
    'input', None, 'Where the inputs are; --input=dry.', flag_values=values
  )
  flags.DEFINE_string(
    'target', None, 'Where the targets are; --target=wet.', flag_values=values
  )
  flags.DEFINE_string(
    'input_pattern',
    None,
    "Pattern of the inputs' names, such as '{name}_dry'. {name} is what both "
    'files of a pair have in common: the path below --input, without suffix. '
    "'{name}' if not given.",
    flag_values=values,
  )
  flags.DEFINE_string(
    'target_pattern',
    None,
    "Pattern of the targets' names, such as '{name}_wet'. '{name}' if not "
    'given.',
    flag_values=values,
  )
  flags.DEFINE_enum(
    'split_by',
    None,
    ['file', 'speaker'],
    'How pairs are shared out. file: a tenth of the files to valid, a tenth to '
    'test, at least one each; speaker: as DAPS is split, by names such as '
    'f10_script1. file if not given.',
    flag_values=values,
  )


def of_tasks(values: flags.FlagValues):
  """Defines flags; see `dafx_prepare`."""
  flags.DEFINE_enum(
    'source',
    None,
    ['demo', 'download', 'debian'],
    'demo: made from the audio that comes with dafx; download: the published '
    "data set; debian: free music from Debian's archive, for mastering. demo "
    'if not given.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'download_dir',
    None,
    'Folder to download to; <output_dir>/download if not given.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'n_variants',
    8,
    '--source=demo: pairs per song, speaker or style in train.',
    lower_bound=1,
    flag_values=values,
  )
  flags.DEFINE_string(
    'zenodo_url',
    'https://zenodo.org',
    '--source=download: address of Zenodo or of a copy of it.',
    flag_values=values,
  )
  flags.DEFINE_list(
    'debian_mirror',
    [],
    "--source=debian: addresses of Debian's archive or of copies of it, such "
    "as http://ftp.de.debian.org/debian. Debian's own if not given.",
    flag_values=values,
  )
  flags.DEFINE_string(
    'cambridge_index',
    None,
    '--source=download: address of the search page of the multitrack library, '
    'or path of that page, saved in a browser.',
    flag_values=values,
  )


def of_both(values: flags.FlagValues):
  """Defines flags; see `dafx_prepare`."""
  flags.DEFINE_string(
    'output_dir',
    None,
    'Folder to write train, valid and test to; ~/dafx/data/<task>, or '
    '~/dafx/data/folder, or ~/dafx/data/debian for --source=debian, if not '
    'given. For all, it holds a folder per task.',
    flag_values=values,
  )
  flags.DEFINE_bool(
    'align',
    True,
    'Take pairs as they are. Without it, targets are shifted to match their '
    'inputs, and pairs that do not match are left out; that is not done for '
    '--source=demo and debian.',
    flag_values=values,
  )
  flags.DEFINE_enum(
    'until',
    'all',
    ['download', 'align', 'all'],
    'Step to stop after.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'sample_rate',
    None,
    'Rate of train and valid, in Hz; 22050 if not given, 44100 for '
    '--source=debian.',
    lower_bound=4000,
    flag_values=values,
  )
  flags.DEFINE_integer(
    'n_channels',
    None,
    'Channels of train and valid; 1 if not given, 2 for --source=debian.',
    lower_bound=1,
    flag_values=values,
  )
  flags.DEFINE_integer(
    'seed',
    0,
    'Seed of the pairs of --source=demo and debian, and of the split by file.',
    lower_bound=0,
    flag_values=values,
  )
  flags.DEFINE_bool(
    'tfrecord',
    False,
    'Also write train and valid as TFRecord files.',
    flag_values=values,
  )
  _of_work(values)


def _of_work(values):
  """Defines flags of who makes the pairs, and into how many files."""
  flags.DEFINE_integer(
    'workers',
    None,
    'Processes that make pairs side by side; what they make is the same. One '
    'if not given, for --source=debian one per processor; --workers=4.',
    lower_bound=1,
    flag_values=values,
  )
  flags.DEFINE_string(
    'runner',
    None,
    "Runner of Apache Beam that makes the pairs in place of this machine's "
    'processes: DirectRunner, FlinkRunner, SparkRunner and others. All its '
    'machines see the folders at the same paths; what they make is the same.',
    flag_values=values,
  )
  flags.DEFINE_list(
    'runner_options',
    [],
    "--runner: its options, with Beam's names; "
    '--runner_options=direct_running_mode=multi_processing,'
    'direct_num_workers=2.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'tfrecord_shards',
    1,
    '--tfrecord: files that each of them is shared out among, with an index '
    'beside each; --tfrecord_shards=8.',
    lower_bound=1,
    upper_bound=10000,
    flag_values=values,
  )
