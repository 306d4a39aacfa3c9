"""Evaluation on whole files: distances to the target, and the sound."""

import csv
import json
import os
import pathlib
from collections.abc import Mapping

import gin
import numpy as np
import soundfile
from absl import logging

from dafx import metrics
from dafx.training import data, inference, train_util


def mean_rows(rows: list[Mapping[str, float]]) -> dict[str, float]:
  """Returns the mean of each distance over files."""
  return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def write_table(rows: list[Mapping], folder: str | os.PathLike, name: str):
  """Writes rows as <name>.json and <name>.csv.

  Args:
    rows: Values by column.
    folder: Where to.
    name: Of the files.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  text = json.dumps(rows, indent=2)
  (folder / f'{name}.json').write_text(text + '\n', encoding='utf-8')
  with open(folder / f'{name}.csv', 'w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)


@gin.configurable(module='dafx.training')
def evaluate(
  model,
  path: str = gin.REQUIRED,
  split: str = 'test',
  output_dir: str = '',
  n_audio: int = 8,
  with_metrics: bool = True,
) -> list[dict]:
  """Runs a model over the pairs of a split and compares with the targets.

  Whole files are processed, at their own rate and with all their channels: what
  is measured is what a user gets.

  Args:
    model: A `models.ControlModel`.
    path: Folder with the splits; see `data`.
    split: Which of them.
    output_dir: Gets metrics.json and metrics.csv, and below `audio` the first
      files as input, target and output with their controls; '' writes nothing.
    n_audio: Number of files to write the audio of.
    with_metrics: Whether to compare; otherwise only the audio is written.

  Returns:
    A row per file: {'name', metric: of the output, 'untreated_' + metric: of
    the input}.

  Raises:
    FileNotFoundError: No such folder, or no pairs in it.
    ValueError: Pairs that do not fit together.
  """
  pairs = data.find_pairs(pathlib.Path(path).expanduser() / split)
  if not with_metrics:
    pairs = pairs[:n_audio]
  rows = []
  progress = train_util.Progress(len(pairs), label='Evaluating')
  for position, pair in enumerate(pairs):
    source, rate = soundfile.read(pair.input_path, always_2d=True)
    target, _ = soundfile.read(pair.target_path, always_2d=True)
    result = inference.process_audio(model, source, rate)
    row = {'name': pair.name}
    if with_metrics:
      row.update(metrics.evaluate(target, result.audio, rate))
      untreated = metrics.evaluate(target, source, rate)
      row.update({f'untreated_{k}': v for k, v in untreated.items()})
    rows.append(row)
    if output_dir and position < n_audio:
      base = pathlib.Path(output_dir) / 'audio' / pair.name
      for side, audio in (
        ('input', source),
        ('target', target),
        ('output', result.audio),
      ):
        file = base.with_name(f'{base.name}.{side}.wav')
        inference.write_audio(file, audio, rate)
      file = base.with_name(f'{base.name}.controls.csv')
      inference.write_controls(model, result, file)
    progress.update(pair.name)
  progress.close()
  if with_metrics:
    numbers = [{k: v for k, v in r.items() if k != 'name'} for r in rows]
    for name, value in mean_rows(numbers).items():
      logging.info('%s %s: %.4f', split, name, value)
  if output_dir and with_metrics:
    write_table(rows, output_dir, 'metrics')
  return rows
