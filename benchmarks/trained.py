"""What a model of mastering_clean.gin does to songs it never heard.

    dafx_prepare mastering --source=debian
    dafx_run --mode=train --gin_file=mastering_clean.gin --save_dir=~/dafx/clean
    python benchmarks/trained.py --run_dir=~/dafx/clean

Three sets are measured, each at the target's level, lag and polarity:

- debian: the pieces of the test split, and their masters by the house rule;
- masters: the same masters as input, which are to stay as they are;
- other: the embedded songs, as mixes drawn alike, and mastered by the same rule
  through another maker's plugins.

Beside the model stand the input at the target's loudness, and a rule that hears
loudness alone: gain into the model's own limiter until the mean loudness of the
training targets. Prints means (of true peaks, the highest) and which targets
are reached.
"""

import functools
import pathlib

import numpy as np
import results
from absl import app, flags

from dafx import metrics
from dafx.audio import files as audio_files
from dafx.audio import sources
from dafx.commands import running
from dafx.training import data, inference
from dafx.training.data_preparation import house_rule, mastering
from dafx.training.evaluation import rule

FLAGS = flags.FLAGS
flags.DEFINE_string(
  'data_dir', '~/dafx/data/debian', 'Pairs of --source=debian.'
)
flags.DEFINE_string('run_dir', '~/dafx/clean', 'The run.')
flags.DEFINE_integer('n_files', 0, 'Files of each set; 0 for all.')

RATE = 44100
UNTREATED, RULE, MODEL = 'untreated at loudness', 'a rule', 'dafx'
FIGURES = {
  'loudness_lu': 'Loudness (LU)',
  'matched_mr_stft': 'MR-STFT',
  'average_spectrum_db': 'Spectrum (dB)',
  'crest_error_db': 'Crest (dB)',
  'width_error_db': 'Width (dB)',
  'true_peak_dbtp': 'Highest true peak (dBTP)',
}


def measure(target, audio):
  """Returns the figures of one file."""
  values = metrics.matched(target, audio, RATE)
  values['loudness_lu'] = metrics.loudness_difference(target, audio, RATE)
  values['true_peak_dbtp'] = metrics.true_peak_dbtp(audio, RATE)
  return values


def debian_pairs(folder):
  """Yields (mix, master) of the test split."""
  for pair in data.find_pairs(folder / 'test'):
    yield tuple(
      audio_files.read(path, dtype='float64')[0]
      for path in (pair.input_path, pair.target_path)
    )


def other_pairs():
  """Yields (mix, master) of the embedded songs, by another maker's plugins."""
  for i, path in enumerate(audio_files.find_audio(mastering.DEMO_AUDIO)):
    song, rate = audio_files.read(path)
    song = sources.resample(song, rate, RATE)
    mix = house_rule.make_mix(song, RATE, [1, i])
    yield mix, house_rule.master(mix, RATE, maker='calf')


def measure_set(model, pairs, loudness_rule):
  """Returns figures by system."""
  rows = {UNTREATED: [], RULE: [], MODEL: []}
  for n, (mix, master) in enumerate(pairs, start=1):
    outputs = {
      UNTREATED: metrics.match_loudness(master, mix, RATE),
      RULE: loudness_rule.process(mix, RATE),
      MODEL: inference.process_audio(model, mix, RATE).audio,
    }
    for name, audio in outputs.items():
      rows[name].append(measure(master, audio))
    print(f'{n} files', end='\r', flush=True)
    if n == FLAGS.n_files:
      break
  return {name: summary(values) for name, values in rows.items()}


def summary(rows):
  """Returns the means of files' figures; of true peaks, the highest."""
  found = {}
  for key in FIGURES:
    take = np.nanmax if key == 'true_peak_dbtp' else np.nanmean
    found[key] = float(take([row[key] for row in rows]))
  return found


def change_of_masters(model, pairs):
  """Returns how far masters are changed, mean MR-STFT at equal level."""
  changes = []
  for n, (_, master) in enumerate(pairs, start=1):
    out = inference.process_audio(model, master, RATE).audio
    changes.append(metrics.matched(master, out, RATE)['matched_mr_stft'])
    if n == FLAGS.n_files:
      break
  return float(np.mean(changes))


def verdicts(found):
  """Returns {target: whether it is reached}."""
  ours, plain, _ = (found['debian'][n] for n in (MODEL, UNTREATED, RULE))
  other, other_plain, other_rule = (
    found['other'][n] for n in (MODEL, UNTREATED, RULE)
  )
  spectrum = 'average_spectrum_db'
  return {
    'debian: loudness within 1 LU': ours['loudness_lu'] < 1.0,
    'debian: crest error below half of untreated': ours['crest_error_db']
    < 0.5 * plain['crest_error_db'],
    **{
      f'debian: {FIGURES[key]} not above untreated': ours[key] <= plain[key]
      for key in ('matched_mr_stft', spectrum, 'width_error_db')
    },
    **{
      f'{name}: no true peak above -1 dBTP': found[name][MODEL][
        'true_peak_dbtp'
      ]
      <= -1.0
      for name in ('debian', 'other')
    },
    'masters: changed by less than 0.05': found['masters'] < 0.05,
    'other: MR-STFT not above untreated': other['matched_mr_stft']
    <= other_plain['matched_mr_stft'],
    'other: spectrum at most 10 % above untreated': other[spectrum]
    <= 1.1 * other_plain[spectrum],
    **{
      f'other: {FIGURES[key]} 15 % better than the rule': other[key]
      <= 0.85 * other_rule[key]
      for key in ('loudness_lu', 'crest_error_db')
    },
  }


def write_results(found, model):
  """Writes the table of the model's card."""
  sets = {'debian': 'Debian', 'other': 'songs of dafx'}
  rows = [
    [f'{title}, {system}', *(found[name][system][key] for key in FIGURES)]
    for name, title in sets.items()
    for system in found[name]
  ]
  masters = [
    found['masters'] if k == 'matched_mr_stft' else None for k in FIGURES
  ]
  rows.append(['masters of Debian: how far they are changed', *masters])
  results.write(
    'trained_mastering',
    ['System', *FIGURES.values()],
    rows,
    [plugin.uri for plugin in model.driven.values()],
    decimals=3,
  )


def measure_model(model, folder) -> dict:
  """Measures a model on all three sets.

  Args:
    model: Of `mastering_clean.gin`.
    folder: Of the pairs of `dafx_prepare mastering --source=debian`.

  Returns:
    {'debian' and 'other': {system: {figure: mean}}, 'masters': by how much
    they are changed}.
  """
  targets = functools.partial(
    data.FolderProvider, str(folder), 'train', sample_rate=RATE, n_channels=2
  )
  loudness_rule = rule.make_rule(model, 'limiter', None, targets)
  print(f'The rule goes for {loudness_rule.lufs:.1f} LUFS.')
  return {
    'debian': measure_set(model, debian_pairs(folder), loudness_rule),
    'other': measure_set(model, other_pairs(), loudness_rule),
    'masters': change_of_masters(model, debian_pairs(folder)),
  }


def describe(found) -> str:
  """Returns the figures of `measure_model`, and which targets are reached."""
  lines = []
  for name in ('debian', 'other'):
    lines += ['', f'{name:26}' + ' '.join(f'{h:>24}' for h in FIGURES.values())]
    for system, values in found[name].items():
      cells = ' '.join(f'{values[key]:24.3f}' for key in FIGURES)
      lines.append(f'{system:26}{cells}')
  lines += ['', f'Masters are changed by {found["masters"]:.3f} of MR-STFT.']
  for target, is_reached in verdicts(found).items():
    lines.append(f'{"yes" if is_reached else "NO ":4}{target}')
  return '\n'.join(lines)


def main(argv):
  """Does what the flags say."""
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {" ".join(argv[1:])}')
  running.prepare_tensorflow(seed=0)
  model = inference.load_model(FLAGS.run_dir)
  found = measure_model(model, pathlib.Path(FLAGS.data_dir).expanduser())
  print(describe(found))
  results.keep(found)
  write_results(found, model)


if __name__ == '__main__':
  app.run(running.with_messages('trained', main))
