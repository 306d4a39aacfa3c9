"""What the commands share: help, messages, log, TensorFlow's level."""

import functools
import logging as python_logging
import os
import subprocess
import sys

import gin
import pytest
import tensorflow as tf
from absl import app, flags, logging

from dafx.commands import running

MODULES = {
  'dafx_run': 'dafx.commands.dafx_run',
  'dafx_prepare': 'dafx.commands.dafx_prepare',
  'dafx_plugins': 'dafx.commands.dafx_plugins',
}
# As the installed command: __main__ is a stub. An import of TensorFlow is an
# error that no command catches.
_STUB = """
import sys
class Blocker:
  def find_spec(self, name, *args):
    if name.split('.')[0] in ('tensorflow', 'ddsp'):
      raise SystemError(f'{name} is imported')
from dafx import _environment
sys.meta_path.insert(0, Blocker())
from %s import console_entry_point
sys.argv[0] = '%s'
console_entry_point()
"""


def run_without_tensorflow(command, *words, **environment):
  code = _STUB % (MODULES[command], command)
  return subprocess.run(
    [sys.executable, '-c', code, *map(str, words)],
    capture_output=True,
    text=True,
    env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), **environment},
  )


# ------------------------------------------------------------------ Help ----
@pytest.mark.parametrize(
  'command, words',
  [
    ('dafx_run', ['dafx_run --mode=process', '--gin_file=mastering.gin']),
    (
      'dafx_prepare',
      ['dafx_prepare mastering', 'Flags of folder', '--sample_rate=...'],
    ),
    ('dafx_plugins', ['dafx_plugins show http', '    render ']),
  ],
)
def test_help_shows_modes_and_flags_without_tensorflow(command, words):
  result = run_without_tensorflow(command, '--help')
  assert (result.returncode, result.stderr) == (0, '')
  for word in [*words, '--verbosity']:
    assert word in result.stdout
  for word in ('absl', '--logtostderr', 'tensorflow.', 'repeat this option'):
    assert word not in result.stdout
  assert max(map(len, result.stdout.splitlines())) <= 80


def test_flags_are_described_as_they_are_written():
  values = flags.FlagValues()
  flags.DEFINE_enum('mode', 'train', ['train', 'eval'], 'What.', values)
  flags.DEFINE_bool('align', True, 'Move.', values)
  flags.DEFINE_multi_string('set', [], 'A control.', values)
  flags.DEFINE_integer('rate', 5, 'In Hz.', flag_values=values)
  assert running.describe_flags(values) == [
    '  --mode=train|eval',
    '      What. By default train.',
    '  --noalign',
    '      Move.',
    '  --set=...',
    '      A control. Can be given again.',
    '  --rate=...',
    '      In Hz. By default 5.',
  ]


# -------------------------------------------------------------- Messages ----
@pytest.mark.parametrize(
  'command, words, message',
  [
    ('dafx_run', ['--mode=fly'], 'value should be one of <train|eval'),
    ('dafx_run', ['--modus=eval'], "flag 'modus'. Did you mean: mode"),
    ('dafx_run', [], '--mode=train needs --gin_file'),
    ('dafx_run', ['--gin_file=masterin.gin'], 'masterin.gin: there is no such'),
    ('dafx_run', ['--gin_file={0}/a.gin'], "b.gin: include 'gone.gin': there"),
    ('dafx_run', ['--gin_file={0}/self.gin'], 'includes itself'),
    ('dafx_run', ['--gin_file={0}/wrong.gin'], 'wrong.gin, line 2: '),
    (
      'dafx_run',
      ['--gin_file=mastering.gin', '--gin_param=a = = 1'],
      "--gin_param=['a = = 1'], line 1: ",
    ),
    (
      'dafx_run',
      ['--gin_file=mastering.gin', '--gin_search_path={0}/no'],
      '/no: no such folder',
    ),
    (
      'dafx_run',
      ['--mode=process', '--save_dir={0}', '--input=a.wav', '--output=b.wav'],
      'holds no trained model',
    ),
    (
      'dafx_run',
      [
        '--mode=process',
        '--save_dir={0}/run',
        '--input={0}/gone.wav',
        '--output=b.wav',
      ],
      'gone.wav: there is no such file',
    ),
    (
      'dafx_run',
      ['--mode=export', '--save_dir={0}/cut', '--output=b.nam'],
      'cut holds no checkpoint',
    ),
    (
      'dafx_run',
      ['--mode=sample', '--gin_file=mastering.gin', '--save_dir={0}'],
      'holds no checkpoint',
    ),
    (
      'dafx_run',
      ['--gin_file=mastering.gin', '--save_dir={0}', '--restore_dir={0}/cut'],
      'cut holds no checkpoint',
    ),
    (
      'dafx_run',
      [
        '--mode=eval',
        '--gin_file=mastering.gin',
        '--save_dir={0}/run',
        '--single_dir={0}',
      ],
      'holds no trained model',
    ),
    (
      'dafx_run',
      ['--gin_file=mastering.gin', '--save_dir={0}/a.gin/run'],
      'a.gin is no folder',
    ),
    (
      'dafx_run',
      ['--gin_file=mastering.gin', '--save_dir='],
      '--save_dir is empty',
    ),
    (
      'dafx_run',
      ['--gin_file=mastering.gin', "--gin_param=data_path = '{0}/gone'"],
      'gone: there is no such file or folder; the macro data_path',
    ),
    (
      'dafx_run',
      ['--mode=eval', '--gin_file=mastering.gin', '--save_dir={0}/run']
      + ["--gin_param=FolderProvider.path = '{0}/gone'"],
      'gone: there is no such file or folder; FolderProvider.path',
    ),
    (
      'dafx_run',
      ['--gin_file=blackbox_demo.gin', '--gin_file=recordings.gin'],
      'Where the recordings are is not said (the macro input_path is empty)',
    ),
    (
      'dafx_run',
      ['--gin_file=blackbox_demo.gin', '--gin_file=recordings.gin']
      + ["--gin_param=input_path = '{0}/dry.wav'"],
      'dry.wav: there is no such file or folder; the macro input_path',
    ),
    ('dafx_plugins', ['lsit'], "invalid choice: 'lsit' (choose from"),
    ('dafx_plugins', ['list', '--filtre=a'], 'Did you mean --filter?'),
    ('dafx_prepare', ['--sample_rate=a'], 'sample_rate'),
    (
      'dafx_prepare',
      ['mastering', '--runner=DirectRunner', '--workers=2'],
      '--workers is for processes of this machine',
    ),
    (
      'dafx_prepare',
      ['mastering', '--runner_options=direct_num_workers=2'],
      '--runner_options goes with --runner',
    ),
    (
      'dafx_prepare',
      ['mastering', '--output_dir={0}/a.gin'],
      'a.gin is no folder',
    ),
  ],
)
def test_what_is_wrong_is_found_without_tensorflow(
  tmp_path, command, words, message
):
  for folder, names in (
    ('run', ['operative_config-0.gin', 'ckpt-1.index']),
    ('cut', ['operative_config-0.gin']),
  ):
    (tmp_path / folder).mkdir()
    for name in names:
      (tmp_path / folder / name).touch()
  for name, text in (
    ('a', f"include '{tmp_path}/b.gin'"),
    ('b', "# include 'none.gin'\ninclude 'gone.gin'"),
    ('self', f"include '{tmp_path}/self.gin'"),
    ('wrong', '\nbatch_size = = 4'),
  ):
    (tmp_path / f'{name}.gin').write_text(text + '\n')
  result = run_without_tensorflow(
    command, *(word.format(tmp_path) for word in words)
  )
  text = result.stderr
  assert (result.returncode, result.stdout) == (1, ''), text
  assert text.startswith(command) and message in text
  *_, hint = text.splitlines()
  assert hint in (
    '  (--verbosity=1 shows the traceback.)',
    f'  ({text.partition(":")[0]} --help shows what there is.)',
  )
  assert 'Traceback' not in text


def test_a_runner_of_beam_without_beam_says_what_to_install(tmp_path):
  (tmp_path / 'apache_beam.py').write_text("raise ImportError('broken')\n")
  result = run_without_tensorflow(
    'dafx_prepare',
    'mastering',
    '--runner=DirectRunner',
    f'--output_dir={tmp_path / "out"}',
    PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]),
  )
  assert (result.returncode, result.stdout) == (1, '')
  assert result.stderr == (
    "dafx_prepare: --runner needs Apache Beam: pip install 'dafx[beam]'. Or do "
    'without it: --workers=4 for processes of this machine.\n'
  )
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  'command, words',
  [
    ('dafx_run', ['--gin_file=masterin.gin']),
    ('dafx_plugins', ['show', 'urn:dafx-test:no']),
    ('dafx_prepare', ['mastering', '--output_dir=/dev/null/no']),
  ],
)
def test_verbosity_shows_the_traceback(command, words):
  result = run_without_tensorflow(command, *words, '--verbosity=1')
  assert result.returncode == 1
  assert 'Traceback (most recent call last)' in result.stderr
  assert result.stderr.splitlines()[-1].startswith(f'{command}: ')


def test_a_fault_of_ours_is_a_traceback():
  def main(argv):
    raise AssertionError(argv)

  with pytest.raises(AssertionError):
    running.with_messages('command', main)([])


def test_standard_output_may_be_closed(monkeypatch):
  monkeypatch.setattr(sys, 'stdout', None)
  running.with_messages('command', print)(['What goes nowhere.'])


def test_a_missing_file_is_named_without_a_number(tmp_path, capsys):
  path = tmp_path / 'gone.wav'

  def main(argv):
    path.read_bytes()

  with pytest.raises(SystemExit):
    running.with_messages('command', main)([])
  assert capsys.readouterr().err.splitlines()[0] == (
    f"command: No such file or directory: '{path}'"
  )


def test_terse_words_of_others_say_where(capsys):
  @gin.configurable
  def of_another(kind):
    return {'gru': 1}[kind]

  # As if it were of another package, which this file is.
  with pytest.raises(SystemExit):
    running.with_messages('command', lambda _: of_another('foo'))([])
  line = capsys.readouterr().err.splitlines()[0]
  assert line == "command: of_another: KeyError: 'foo'"


def test_what_fails_in_a_layer_is_said_without_the_layers(capsys):
  class Layer(tf.keras.layers.Layer):
    def call(self, audio):
      raise ValueError('The audio is too short.')

  inner = Layer()
  for layer in (inner, tf.keras.Sequential([inner])):
    main = functools.partial(layer, tf.zeros([1, 2]))
    with pytest.raises(SystemExit):
      running.with_messages('command', lambda _, main=main: main())([])
    assert capsys.readouterr().err.splitlines() == [
      'command: The audio is too short.',
      '  (--verbosity=1 shows the traceback.)',
    ]


def test_wrong_usage_passes(capsys):
  def main(argv):
    raise app.UsageError('Give one.')

  with pytest.raises(app.UsageError):
    running.with_messages('command', main)([])
  with pytest.raises(SystemExit):
    running._refuse('command', 'Give one.')
  assert capsys.readouterr().err.splitlines() == [
    'command: Give one.',
    '  (command --help shows what there is.)',
  ]


# ------------------------------------------------------------------- Log ----
@pytest.fixture
def loggers():
  """Gives all loggers back as they were."""
  root, dafx = python_logging.getLogger(), python_logging.getLogger('dafx')
  former = list(root.handlers), root.level, dafx.level
  verbosity = logging.get_verbosity()
  yield root
  root.handlers[:] = former[0]
  root.setLevel(former[1])
  dafx.setLevel(former[2])
  python_logging.captureWarnings(False)
  logging.set_verbosity(verbosity)


def lines_of_log(capsys, verbosity):
  """Returns what is printed of a record of each level from three places."""
  logging.set_verbosity(verbosity)
  running.set_up_log()
  for name, path in (
    ('absl', running.__file__),
    ('dafx.lv2', running.__file__),
    ('absl', '/site-packages/tensorflow/checkpoint.py'),
    ('numba.core', '/site-packages/numba/core.py'),
  ):
    logger = python_logging.getLogger(name)
    for level in (python_logging.DEBUG, python_logging.INFO, 30):
      if logger.isEnabledFor(level):
        file = os.path.basename(path)
        logger.handle(
          logger.makeRecord(name, level, path, 1, f'{file}: {level}', (), None)
        )
  return capsys.readouterr().err.splitlines()


def test_the_log_is_for_people(loggers, capsys):
  del loggers
  lines = [line.split(' ', 1) for line in lines_of_log(capsys, logging.INFO)]
  assert [text for _, text in lines] == [
    'running.py: 20',
    'WARNING: running.py: 30',
    'running.py: 20',
    'WARNING: running.py: 30',
    'WARNING: checkpoint.py: 30',
    'WARNING: core.py: 30',
  ]


def test_verbosity_brings_the_rest(loggers, capsys):
  del loggers
  lines = lines_of_log(capsys, logging.DEBUG)
  assert [line.split('] ', 1)[1] for line in lines] == [
    *2 * ['running.py: 10', 'running.py: 20', 'running.py: 30'],
    *['checkpoint.py: 10', 'checkpoint.py: 20', 'checkpoint.py: 30'],
    *['core.py: 20', 'core.py: 30'],
  ]
  assert ' running.py:1] ' in lines[0]


# ------------------------------------------------------------ TensorFlow ----
LEVEL = 'TF_CPP_MIN_LOG_LEVEL'


@pytest.mark.parametrize(
  'verbosity, has_driver, given, expected',
  [
    (logging.INFO, False, None, '3'),
    (logging.INFO, True, None, '1'),
    (logging.INFO, False, '0', '0'),
    (logging.DEBUG, False, None, None),
    (logging.DEBUG, True, '2', '2'),
  ],
)
def test_tensorflows_level(
  loggers, monkeypatch, verbosity, has_driver, given, expected
):
  del loggers
  monkeypatch.setattr(running, 'has_gpu_driver', lambda: has_driver)
  monkeypatch.delenv(LEVEL, raising=False)
  if given is not None:
    monkeypatch.setenv(LEVEL, given)
  logging.set_verbosity(verbosity)
  running.quiet_tensorflow()
  assert os.environ.get(LEVEL) == expected
  os.environ.pop(LEVEL, None)


def test_drivers_are_found(tmp_path):
  (tmp_path / 'kfd').touch()
  gone = str(tmp_path / 'gone')
  assert not running.has_gpu_driver([gone], [gone])
  assert running.has_gpu_driver([gone], [gone, str(tmp_path / 'kfd')])
  assert running.has_gpu_driver([gone, 'libc.so.6'], [gone])
