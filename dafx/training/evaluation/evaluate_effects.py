"""Models of effects measured against recordings."""

import json
import pathlib
from collections.abc import Mapping

import gin
import numpy as np
from absl import logging

from dafx import metrics
from dafx.audio import files as audio_files
from dafx.training import inference
from dafx.training import progress as progress_bar
from dafx.training.evaluation import measures


@gin.configurable(module='dafx.training')
def evaluate_effect(
  model, provider=gin.REQUIRED, output_dir: str = '', n_audio: int = 8
) -> list[dict]:
  """Compares a model of an effect with recordings that it never heard.

  Args:
    model: An EffectModel.
    provider: Recordings of the test split; see `data.recordings`.
    output_dir: Gets metrics.json, and below `audio` the first recordings as
      input, target and output; '' writes nothing.
    n_audio: Number of recordings to write the audio of.

  Returns:
    A row for each recording: {'name', 'knobs', 'esr', 'mae', 'mr_stft',
    'si_sdr', 'dc', 'polarity'}, as of `dafx.metrics`. The part in which the
    model settles is left out.
  """
  rows, folder = [], pathlib.Path(output_dir)
  progress = progress_bar.Progress(
    len(provider.recordings), label='Evaluating', unit='recording'
  )
  progress.say('compiling')
  for name, dry, target, knobs, _ in provider.recordings:
    out = inference.process_audio(
      model, dry[:, None], provider.sample_rate, knobs=knobs
    ).audio[:, 0]
    start = model.settling(len(dry))
    pair = target[start:].astype(np.float64), out[start:].astype(np.float64)
    measures = ('esr', 'mae', 'mr_stft', 'si_sdr', 'dc', 'polarity')
    row = {'name': name, 'knobs': [float(k) for k in knobs]}
    row.update({key: getattr(metrics, key)(*pair) for key in measures})
    if row['polarity'] < -0.3:
      logging.warning('%s comes out upside down (ESR near 4).', name)
    rows.append(row)
    if output_dir and len(rows) <= n_audio:
      for kind, audio in (('input', dry), ('target', target), ('output', out)):
        path = folder / 'audio' / f'{len(rows) - 1}_{kind}.wav'
        audio_files.write(path, audio[:, None], provider.sample_rate)
    progress.update(f'{name}: ESR {row["esr"]:.4f}')
  progress.close()
  if output_dir:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rows, indent=2) + '\n'
    (folder / 'metrics.json').write_text(text, encoding='utf-8')
  return rows


def describe(rows: list[Mapping]) -> str:
  """Returns what `evaluate_effect` found as text, and a verdict by ESR."""
  titles = [measures.MEASURES[k].title for k in ('esr', 'mr_stft', 'si_sdr')]
  lines = ['  '.join(['recording'.ljust(30), *titles])]
  for row in rows:
    lines.append(
      f'{row["name"][-30:]:30}  {row["esr"]:>{len(titles[0])}.4f}  '
      f'{row["mr_stft"]:>{len(titles[1])}.3f}  '
      f'{row["si_sdr"]:>{len(titles[2])}.1f}'
    )
  esr = float(np.mean([row['esr'] for row in rows]))
  steps = ((0.01, 'very close'), (0.035, 'close'), (0.1, 'audibly different'))
  words = next((word for limit, word in steps if esr < limit), 'not alike')
  lines.append(f'mean ESR {esr:.4f}: {words}')
  return '\n'.join(lines)
