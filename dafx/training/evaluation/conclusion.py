"""What a training closes with: how near the model came, to read and hear."""

import os
import pathlib

import gin
import numpy as np

from dafx import _folders
from dafx.audio import disk
from dafx.audio import files as audio_files
from dafx.training import checkpoints, models, plotting
from dafx.training.evaluation import evaluate

FOLDER = 'held_out'
# Of the loudest part, in which single periods can be seen.
_SHOWN_S = 0.02


@gin.configurable(module='dafx.training')
def conclude(
  model: models.Model, save_dir: str | os.PathLike, after_training: bool = False
) -> str:
  """Measures a trained model on the recordings that were kept from training.

  It is the best checkpoint that is measured, on the recordings of
  `dafx.training.evaluate.provider`. Below <save_dir>/held_out lie what
  `evaluate` writes and plots of each recording; the verdict is in verdict.txt.

  Args:
    model: The model.
    save_dir: Folder of its run.
    after_training: Whether to do so; gin says where that takes no long time.

  Returns:
    Errors of each recording, a verdict in words (for each network of a model
    with several sizes), and where to listen; '' where it is not to be done.

  Examples:
    >>> from dafx.training import models
    >>> from dafx.training.evaluation import conclusion
    >>> def close(model: models.Model, save_dir: str):
    ...   print(conclusion.conclude(model, save_dir, after_training=True))
  """
  if not after_training:
    return ''
  folder = _folders.expand_user(save_dir)
  checkpoints.restore_model(model, folder)
  output_dir = folder / FOLDER
  rows = evaluate.evaluate(
    model, output_dir=str(output_dir), with_baselines=False
  )
  own = [row for row in rows if row['system'] == evaluate.DAFX]
  drawn = [path for row in own for path in _draw(output_dir, row)]
  verdict = evaluate.describe(model, rows)
  (output_dir / 'verdict.txt').write_text(verdict + '\n', encoding='utf-8')
  where = f'Listen to input, target and output in {output_dir / "audio"}'
  if drawn:
    where += f'; plots: {", ".join(map(str, drawn))}'
  return f'{verdict}\n{where}.'


def _draw(output_dir, row) -> list[pathlib.Path]:
  """Draws target and output of a recording that was written; returns where."""
  base = disk.inside(output_dir / 'audio', row['name'])
  paths = {
    name: base.with_name(f'{base.name}.{name}.wav')
    for name in ('target', 'output')
  }
  if not all(path.is_file() for path in paths.values()):
    return []  # one of those that no audio was written of
  sides = {name: audio_files.read(path) for name, path in paths.items()}
  audio = {name: samples for name, (samples, _) in sides.items()}
  audio['difference'] = audio['output'] - audio['target']
  rate = sides['target'][1]
  loudest = int(np.abs(audio['target']).max(-1).argmax())
  n_shown = int(_SHOWN_S * rate)
  start = max(min(loudest, len(audio['target']) - n_shown), 0)
  part = {name: x[start : start + n_shown] for name, x in audio.items()}
  figures = (
    ('waveform', plotting.waveforms(part, rate)),
    ('spectra', plotting.spectrograms(audio, rate)),
  )
  drawn = []
  for name, figure in figures:
    path = base.with_name(f'{base.name}.{name}.png')
    path.write_bytes(plotting.figure_to_png(figure))
    drawn.append(path)
  return drawn
