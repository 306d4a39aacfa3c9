"""What `amp.gin` makes of a recording, beside Neural Amp Modeler's own trainer.

    python -m venv nam && nam/bin/pip install torch neural-amp-modeler==0.13.0
    python benchmarks/captures.py --nam_python=nam/bin/python

It takes a quarter of an hour. A training whose files lie in --output_dir is not
done again.

A guitar is recorded through a driven tube and a fuzz, which are installed
plugins, 100 samples late and with noise at -80 dB. The command of the README
trains on it. Then that program trains what it trains by default, for as long as
the command took, start and end included. It is told the lag, which dafx has to
find.

Both train on the first 80 % of the recording and choose by the next 10 %. What
is measured is the error-to-signal ratio (ESR) of their .nam files on the rest,
at the lag where it is least: how late a player is does not count. Without
--nam_python there is no second training.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np
import results
import soundfile
from absl import app, flags

from dafx import metrics
from dafx.audio import files as audio_files
from dafx.audio import sources
from dafx.neural import nam
from dafx.training.data_preparation import files, guitar

FLAGS = flags.FLAGS
flags.DEFINE_list('effects', ['tube', 'fuzz'], 'Which of these.')
flags.DEFINE_string('model_size', 'nano', "Of amp.gin's network.")
flags.DEFINE_float('seconds', 90.0, 'Length of the recording.')
flags.DEFINE_string('nam_python', '', 'A Python with neural-amp-modeler.')
flags.DEFINE_multi_string('gin_param', [], 'Further bindings, for amp.gin.')
flags.DEFINE_string('output_dir', 'build/captures', 'Recordings and runs.')

RATE = 48000
LAG = 100
LAGS = range(LAG - 8, LAG + 9)
NOISE_DB = -80.0
TAKE_S = 6.0
# Where training ends, and where the test begins, as shares of a recording.
TRAIN_END, TEST_START = 0.8, 0.9
_CPU = ('ru_utime', 'ru_stime')
TUBE = 'http://invadarecords.com/plugins/lv2/tube/mono'
SATURATOR = 'http://calf.sourceforge.net/plugins/Saturator'
# As in models.py: a saturator driven 24 dB too loud, dull behind, is a fuzz.
EFFECTS = {
  'tube': (TUBE, {'drive': 15.0, 'mix': 100.0}),
  'fuzz': (
    SATURATOR,
    {
      'bypass': 0.0,
      'drive': 10.0,
      'blend': 0.0,
      'level_in': 15.85,
      'level_out': 2.0,
      'hp_pre_freq': 80.0,
      'lp_post_freq': 6000.0,
      'pre': 1.0,
      'post': 1.0,
    },
  ),
}
WANTED = {'tube': 0.01, 'fuzz': 0.02}
MINUTES = 5.0
OURS, THEIRS = 'dafx, amp.gin', 'Neural Amp Modeler 0.13'

# For that program's Python: trains by a JSON of its settings, in a time limit
# that its start and its export are part of.
TRAIN_NAM = """
import datetime, json, pathlib, sys, time
start = float(sys.argv[2])
settings = json.loads(pathlib.Path(sys.argv[1]).read_text())
from nam.train import core, full
left = settings['seconds'] - (time.time() - start) - settings['export_s']
trainer = {'max_epochs': -1, 'max_time': datetime.timedelta(seconds=left),
  'enable_progress_bar': False}
original = full._json.dump
full._json.dump = lambda *args, **kwargs: original(*args, default=str, **kwargs)
full.main(
  settings['data'],
  core._get_packed_model_config(),
  {
    'train_dataloader': {
      'batch_size': 16, 'shuffle': True, 'drop_last': True, 'num_workers': 0},
    'val_dataloader': {},
    'trainer': trainer,
  },
  pathlib.Path(settings['folder']),
  no_show=True,
  make_plots=False,
)
"""


def dry_guitar() -> np.ndarray:
  """Returns takes of all styles, at levels of their own, [n_samples]."""
  rng = np.random.default_rng(0)
  takes = []
  for i in range(round(FLAGS.seconds / TAKE_S)):
    style = guitar.STYLES[i % len(guitar.STYLES)]
    level = 10.0 ** (rng.uniform(-18.0, -3.0) / 20.0)
    takes.append(level * guitar.riff(style, TAKE_S, [0, i]))
  audio = np.concatenate(takes)[:, np.newaxis]
  return sources.resample(audio, guitar.SAMPLE_RATE, RATE)[:, 0]


def record(effect: str, dry: np.ndarray) -> np.ndarray:
  """Returns what comes out of an effect, late and with noise, [n_samples]."""
  uri, settings = EFFECTS[effect]
  n_channels = 2 if uri == SATURATOR else 1
  audio = np.repeat(dry[:, np.newaxis], n_channels, axis=1)
  wet = files.render(uri, audio, RATE, settings)[:, 0]
  wet *= 0.7 / np.max(np.abs(wet))
  wet = np.concatenate([np.zeros(LAG), wet[:-LAG]])
  noise = np.random.default_rng(1).normal(size=len(wet))
  return wet + 10.0 ** (NOISE_DB / 20.0) * noise


def run(name: str, folder: pathlib.Path, command: list[str]):
  """Runs a command with its output in a file, unless it was run.

  Returns:
    (Seconds, CPU seconds).

  Raises:
    RuntimeError: It failed.
  """
  kept, log = folder / f'{name}.times.json', folder / f'{name}.log'
  if kept.exists():
    return json.loads(kept.read_text(encoding='utf-8'))
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  start = time.perf_counter()
  with open(log, 'w', encoding='utf-8') as out:
    code = subprocess.run(command, stdout=out, stderr=out).returncode
  seconds = time.perf_counter() - start
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  if code:
    raise RuntimeError(f'{name} failed, see {log}.')
  cpu = sum(getattr(after, k) - getattr(before, k) for k in _CPU)
  kept.write_text(json.dumps([seconds, cpu]), encoding='utf-8')
  return seconds, cpu


def train_ours(folder: pathlib.Path, wet_path: pathlib.Path):
  """Trains by the README's command, and returns its times and files."""
  save_dir, file = folder / 'run', folder / 'ours.nam'
  dafx_run = [sys.executable, '-m', 'dafx.commands.dafx_run']
  times = run(
    'ours',
    folder,
    [
      *dafx_run,
      '--mode=train',
      '--gin_file=amp.gin',
      f'--save_dir={save_dir}',
      f'--gin_param=input_path={str(folder.parent / "dry.wav")!r}',
      f'--gin_param=target_path={str(wet_path)!r}',
      f'--gin_param=model_size={FLAGS.model_size!r}',
      *(f'--gin_param={binding}' for binding in FLAGS.gin_param),
    ],
  )
  export = ['--mode=export', f'--save_dir={save_dir}', f'--output={file}']
  run('export', folder, [*dafx_run, *export])
  return times, file


def train_theirs(folder: pathlib.Path, wet_path: pathlib.Path, seconds: float):
  """Trains by the other program, and returns its times and file."""
  n = len(audio_files.read(wet_path)[0])
  first, second = round(n * TRAIN_END), round(n * TEST_START)
  out = folder / 'theirs'
  out.mkdir(exist_ok=True)
  settings = {
    'seconds': seconds,
    'export_s': 5.0,
    'folder': str(out),
    'data': {
      'common': {
        'x_path': str(folder.parent / 'dry.wav'),
        'y_path': str(wet_path),
        'delay': LAG,
      },
      'train': {'ny': 8192, 'start_samples': 0, 'stop_samples': first},
      'validation': {
        'ny': None,
        'start_samples': first,
        'stop_samples': second,
        'require_input_pre_silence': None,
      },
    },
  }
  path = folder / 'theirs.json'
  path.write_text(json.dumps(settings), encoding='utf-8')
  command = [FLAGS.nam_python, '-c', TRAIN_NAM, str(path), str(time.time())]
  times = run('theirs', folder, command)
  (file,) = out.glob('*.nam')
  return times, file


def esr(file: pathlib.Path, dry: np.ndarray, wet: np.ndarray, size=1.0):
  """Returns the ESR of a .nam file on the end of a recording."""
  network, _ = nam.read(file, size)
  start = round(len(dry) * TEST_START)
  before = start - RATE  # a second to settle
  out = np.asarray(network(dry[np.newaxis, before:].astype(np.float32)))[0]
  values = []
  for lag in LAGS:
    target = wet[start + lag :]
    values.append(metrics.esr(target, out[RATE : RATE + len(target)]))
  return min(values)


def measure(effect: str, folder: pathlib.Path, dry: np.ndarray):
  """Returns the rows of an effect."""
  wet_path = folder / 'wet.wav'
  folder.mkdir(parents=True, exist_ok=True)
  soundfile.write(wet_path, record(effect, dry), RATE, 'PCM_24')
  wet = audio_files.read(wet_path)[0][:, 0]
  (seconds, cpu), file = train_ours(folder, wet_path)
  name = f'WaveNet, {FLAGS.model_size}'
  found = [(effect, OURS, name, seconds, cpu, esr(file, dry, wet))]
  if FLAGS.nam_python:
    (theirs_s, cpu), file = train_theirs(folder, wet_path, seconds)
    for size, channels in ((0.0, 3), (1.0, 8)):
      name = f'packed, {channels} channels'
      value = esr(file, dry, wet, size)
      found.append((effect, THEIRS, name, theirs_s, cpu, value))
  return found


def main(argv):
  """Prints the figures."""
  del argv
  output_dir = pathlib.Path(os.path.expanduser(FLAGS.output_dir)).resolve()
  output_dir.mkdir(parents=True, exist_ok=True)
  dry_path = output_dir / 'dry.wav'
  soundfile.write(dry_path, dry_guitar(), RATE, 'PCM_24')
  dry = audio_files.read(dry_path)[0][:, 0]
  columns = ['Effect', 'Trainer', 'Network', 'Minutes', 'CPU minutes', 'ESR']
  rows = []
  for effect in FLAGS.effects:
    found = measure(effect, output_dir / effect, dry)
    for *names, seconds, cpu, value in found:
      minutes, cpu_minutes = seconds / 60.0, cpu / 60.0
      print(
        f'{", ".join(names)}: {minutes:.2f} minutes, {cpu_minutes:.2f} of CPU, '
        f'ESR {value:.4f}'
      )
      rows.append([*names, round(minutes, 1), round(cpu_minutes, 1), value])
    reached = found[0][-1] < WANTED[effect] and found[0][3] < 60.0 * MINUTES
    print(
      f'{effect}: ESR below {WANTED[effect]} in {MINUTES:g} minutes: '
      f'{"reached" if reached else "missed"}'
    )
  plugins = [EFFECTS[effect][0] for effect in FLAGS.effects]
  results.keep([dict(zip(columns, row)) for row in rows])
  results.write('captures', columns, rows, plugins, decimals=4)


if __name__ == '__main__':
  app.run(main)
