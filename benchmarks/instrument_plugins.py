"""What plugins in the graph of an instrument add to it.

    python benchmarks/instrument_plugins.py --output_dir=~/dafx/amped_figures

The lines of `dafx_prepare solo --source=demo` are played through a tube and a
reverb that the model does not have (`HIDDEN`), and recorded: pitch and loudness
are found in what came out. `solo_plugins.gin` learns the instrument, and so
does the same model without plugins, from the same records in as many steps.
Printed is the MR-STFT of both on the test split, and that of the first with its
plugins taken out of the trained graph. A third training has the synthesiser
alone, without the room (`reverb`) that the other two learn.

What is there in --output_dir is not done again.
"""

import pathlib
import subprocess
import sys

import numpy as np
import results
from absl import app, flags

from dafx import _folders, metrics, processors
from dafx.audio import files as audio_files
from dafx.training import data, inference
from dafx.training.data_preparation import files, solo, solo_demo

FLAGS = flags.FLAGS
flags.DEFINE_string(
  'output_dir', '~/dafx/amped_figures', 'Recordings, records and runs.'
)
flags.DEFINE_string('instrument', 'cello', 'Of `solo_demo.INSTRUMENTS`.')
flags.DEFINE_multi_string('gin_param', [], 'Bindings of both trainings.')

RATE = 48000  # of the recordings
# What the instrument is recorded through.
HIDDEN = (
  ('urn:zamaudio:ZamTube', {'tubedrive': 11.0, 'gain': 20.0}),
  (
    'http://calf.sourceforge.net/plugins/Reverb',
    {'decay_time': 0.8, 'room_size': 0.0, 'amount': 0.3},
  ),
)
PEAK = 0.5  # of a recording
# As solo_plugins.gin has it, without its plugins and its room.
ALONE = """dafx.training.Trainer.rate_multipliers = None
processors.ProcessorGroup.dag = [
    (@synths.StreamingHarmonic(), ['amps', 'harmonic_distribution', 'f0_hz']),
    (@synths.StreamingFilteredNoise(), ['noise_magnitudes']),
    (@processors.Add(), ['filtered_noise/signal', 'harmonic/signal']),
]"""
# And with its room.
WITHOUT = (
  ALONE.removesuffix(']')
  + """\
    (@reverb/effects.Fir(), ['add/signal']),
]"""
)


def record(dry: np.ndarray) -> np.ndarray:
  """Returns what comes out of the hidden plugins, [n_samples]."""
  audio = dry[:, np.newaxis]
  for uri, settings in HIDDEN:
    audio = files.render(uri, audio, RATE, settings).mean(axis=1, keepdims=True)
  return audio[:, 0]


def prepare(folder: pathlib.Path) -> pathlib.Path:
  """Records the demonstration's lines, and makes records of them."""
  records, recordings = folder / 'records', folder / 'recordings'
  if (records / 'report.json').exists():
    return records
  recordings.mkdir(parents=True, exist_ok=True)
  program, moved = solo_demo.INSTRUMENTS[FLAGS.instrument]
  for i, (name, line) in enumerate(solo_demo.read_lines().items()):
    for key in (-4, 0, 3):
      path = recordings / f'{name}_{key:+d}.wav'
      if path.exists():
        continue
      notes = solo_demo.perform(line, moved + key, [0, i, key + 4])
      wet = record(solo_demo.render(notes, program))
      wet *= PEAK / np.max(np.abs(wet))
      audio_files.write(path, wet[:, np.newaxis], RATE)
  print(solo.prepare_folder(recordings, records, solo.Form()))
  return records


def train(name: str, folder: pathlib.Path, records: pathlib.Path, *params):
  """Trains, or goes on with a training; returns its folder."""
  save_dir = folder / name
  bindings = [f'data_path = {str(records)!r}', *params, *FLAGS.gin_param]
  command = [sys.executable, '-m', 'dafx.commands.dafx_run', '--mode=train']
  command += ['--gin_file=solo_plugins.gin', f'--save_dir={save_dir}']
  command += [f'--gin_param={binding}' for binding in bindings]
  with open(folder / f'{name}.log', 'a', encoding='utf-8') as log:
    subprocess.run(command, check=True, stdout=log, stderr=log)
  return save_dir


def without_plugins(group):
  """Returns a graph in which its plugins let audio through."""
  nodes = processors.nodes(group)
  plugins = [name for name, node in nodes.items() if node.uri is not None]
  modules = processors.modules(group)
  dag = processors.bypass_nodes(group.dag, plugins)
  return processors.ProcessorGroup([(modules[row[0]], *row[1:]) for row in dag])


def play(model, batch, group) -> np.ndarray:
  """Returns what a graph plays under what the model sets, [n_samples]."""
  controls = model.predict_controls(**batch)
  return group({**batch, **controls})[0].numpy()


def measure(with_plugins, without, alone, batch) -> tuple[float, ...]:
  """Returns MR-STFT with plugins, without, with them bypassed, of `ALONE`."""
  audio = batch['audio'][0].numpy()
  group = with_plugins.processor_group
  played = play(with_plugins, batch, group)
  bypassed = play(with_plugins, batch, without_plugins(group))
  # Not for their gain: as loud as with them.
  bypassed *= np.std(played) / max(np.std(bypassed), 1e-9)
  sounds = (
    played,
    play(without, batch, without.processor_group),
    bypassed,
    play(alone, batch, alone.processor_group),
  )
  return tuple(metrics.mr_stft(audio, sound) for sound in sounds)


def main(argv):
  """Prints the figures."""
  del argv
  folder = _folders.expand_user(FLAGS.output_dir) / FLAGS.instrument
  records = prepare(folder)
  with_plugins = inference.load_model(train('with_plugins', folder, records))
  without = inference.load_model(train('without', folder, records, WITHOUT))
  alone = inference.load_model(train('alone', folder, records, ALONE))
  test = data.InstrumentProvider(records, 'test')
  batches = test.get_batch(1, shuffle=False, repeats=1).take(test.n_items)
  models = with_plugins, without, alone
  rows = np.array([measure(*models, batch) for batch in batches])
  ours, theirs, bypassed, bare = rows.mean(axis=0)
  wins = np.mean(rows[:, 0] < rows[:, 1])
  print(f'{FLAGS.instrument}, {len(rows)} records of test')
  change = 100.0 * (ours / theirs - 1.0)
  print(f'MR-STFT with plugins {ours:.3f}, without {theirs:.3f}', end='')
  print(f': {change:+.1f} %, lower on {wins:.0%} of them')
  print(f'with the plugins bypassed, at the same level: {bypassed:.3f}')
  print(f'without plugins and without a room: {bare:.3f}')
  results.keep(rows.tolist())
  columns = (
    'Instrument', 'Records', 'With plugins', 'Without', 'Bypassed',
    'Without plugins and room',
  )  # fmt: skip
  row = [FLAGS.instrument, len(rows), *map(float, rows.mean(axis=0))]
  plugins = [uri for uri, _ in HIDDEN]
  results.write('instrument_plugins', columns, [row], plugins, decimals=3)


if __name__ == '__main__':
  app.run(main)
