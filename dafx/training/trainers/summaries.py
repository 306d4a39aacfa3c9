"""What a training run writes for TensorBoard."""

import csv
import pathlib

import tensorflow as tf
from absl import logging

from dafx import processors
from dafx.audio import disk
from dafx.training import plotting
from dafx.training.plotting import blocks


def write_steps(writer, trainer, losses, seconds_per_step, wait_fraction):
  """Writes the means over some steps.

  Args:
    writer: TensorFlow's summary writer.
    trainer: The Trainer.
    losses: {name: mean}.
    seconds_per_step: Mean time of a step.
    wait_fraction: Part of the time that was spent waiting for data.
  """
  with writer.as_default(step=trainer.step):
    for name, value in losses.items():
      tf.summary.scalar(f'losses/{name}', value)
    tf.summary.scalar('seconds_per_step', seconds_per_step)
    tf.summary.scalar('data_wait_fraction', wait_fraction)
    tf.summary.scalar('learning_rate', trainer.learning_rate)
    if n_left_out := trainer.crashes.counts.total():
      tf.summary.scalar('items_left_out', n_left_out)
    # A chain of plugins has figures, and its members have none.
    nodes = processors.nodes(trainer.model.processor_group)
    for key, node in nodes.items():
      for name, value in node.gradient_figures().items():
        tf.summary.scalar(f'gradients/{key}/{name}', value)


def append_history(folder, row):
  """Adds a validation to history.csv, which is written whole or not at all.

  What is there of this step and later ones is of a run that was interrupted
  after its last checkpoint, and is replaced.

  Args:
    folder: Where the run is saved.
    row: Values by column; one is 'step'.
  """
  path = pathlib.Path(folder) / 'history.csv'
  rows = []
  if path.exists():
    with open(path, newline='', encoding='utf-8') as file:
      rows = [r for r in csv.DictReader(file) if int(r['step']) < row['step']]
  rows.append(row)
  with (
    disk.replacing(path) as temporary,
    open(temporary, 'w', newline='', encoding='utf-8') as file,
  ):
    writer = csv.DictWriter(
      file, list(dict.fromkeys(k for r in rows for k in r))
    )
    writer.writeheader()
    writer.writerows(rows)


def write_examples(writer, trainer, batch, losses, folder, n_examples=2):
  """Writes a validation, and what the first items look and sound like.

  Where the model sees what went wrong (`Model.remark`), a warning says so.

  Args:
    writer: TensorFlow's summary writer.
    trainer: The Trainer.
    batch: Features of the first validation batch.
    losses: {name: mean over all validation batches}, and what the validation
      is judged by, where that is another figure.
    folder: Where the blocks of a gray box are drawn as files, below 'blocks'.
    n_examples: Items to show.
  """
  model = trainer.model
  found = trainer.crashes.leave_out(
    trainer.outputs_of, batch, str, counts=False
  )
  with writer.as_default(step=trainer.step):
    for name, value in losses.items():
      tf.summary.scalar(f'losses/{name}', value)
  if found is None:
    return
  batch, outputs = found
  remark = model.remark(outputs)
  if remark:
    logging.warning('Step %d: %s', trainer.step, remark)
  audio = model.get_audio_from_outputs(outputs).numpy()
  versions = {
    'before': batch['audio'].numpy(),
    'target': batch['target'].numpy(),
    'after': audio,
  }
  with writer.as_default(step=trainer.step):
    for item in range(min(n_examples, len(audio))):
      item_versions = {k: v[item] for k, v in versions.items()}
      for name, samples in item_versions.items():
        channels = samples.reshape(1, len(samples), -1)
        tf.summary.audio(
          f'audio_{item}/{name}',
          channels.clip(-1, 1),
          int(model.sample_rate),
        )
      figure = plotting.spectrograms(item_versions, int(model.sample_rate))
      tf.summary.image(
        f'spectrograms/{item}', plotting.figure_to_array(figure)[None]
      )
    shown = model.figures(outputs)
    for name, values in shown.values.items():
      tf.summary.histogram(name, values)
    for name, figures in shown.plots.items():
      tf.summary.image(name, plotting.stack_figures(figures)[None])
    for name, figure in shown.blocks.items():
      image = plotting.figure_to_array(figure)
      tf.summary.image(f'blocks/{name}', image[None])
    blocks.write(shown.blocks, pathlib.Path(folder) / 'blocks')
