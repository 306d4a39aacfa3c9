"""Graphs with a `neural.Packed`, all of whose networks are trained at once.

Each network is trained as if it were alone: losses are summed, and so are the
figures by which a validation is judged.
"""

from collections.abc import Callable, Iterable
from typing import Any

import ddsp
import numpy as np
import tensorflow as tf

from dafx import neural, processors
from dafx.training.models import judging


def packed_in(group: ddsp.processors.ProcessorGroup) -> neural.Packed | None:
  """Returns the `neural.Packed` of a graph; None where it has none.

  Args:
    group: The graph.

  Raises:
    ValueError: It has several.
  """
  nodes = processors.nodes(group).values()
  packed = [node for node in nodes if isinstance(node, neural.Packed)]
  if len(packed) > 1:
    raise ValueError(
      f'The graph has {len(packed)} nodes of neural.Packed; one is allowed.'
    )
  return packed[0] if packed else None


def run_all(
  packed: neural.Packed,
  run: Callable[[], tuple[dict[str, Any], dict[str, tf.Tensor]]],
) -> tuple[dict[str, Any], dict[str, tf.Tensor]]:
  """Runs a graph once with each network.

  Args:
    packed: The networks.
    run: Runs the graph with the one that is chosen; returns (outputs, losses).

  Returns:
    The outputs with the network that was chosen, and at 'audio_of_sizes' the
    audio of all, [batch, n_samples, n_networks]; losses with the number of the
    network behind their names, and their sum.
  """
  chosen = packed.chosen
  outputs: dict[str, Any] = {}
  all_losses: dict[str, tf.Tensor] = {}
  audio, totals = [], []
  try:
    for i in range(len(packed.networks)):
      packed.chosen = i
      found, losses = run()
      totals.append(losses['total_loss'])
      audio.append(found['audio_synth'])
      all_losses |= {
        f'{name}_{i}': loss
        for name, loss in losses.items()
        if name != 'total_loss'
      }
      if i == chosen:
        outputs = found
  finally:
    packed.chosen = chosen
  outputs = {**outputs, 'audio_of_sizes': tf.stack(audio, -1)}
  return outputs, {**all_losses, 'total_loss': tf.add_n(totals)}


def judge_all(
  packed: neural.Packed,
  judge: Callable[[Iterable[judging.Item]], dict[str, float]],
  items: Iterable[judging.Item],
) -> dict[str, float]:
  """Judges each network by itself.

  Args:
    packed: The networks.
    judge: As `Model.judge`, of one network.
    items: Input and target [n_samples], and the audio of all networks,
      [n_samples, n_networks].

  Returns:
    'figure', the sum of the figures, and each as 'figure_0' and so on; {} where
    one has none.
  """
  items, figures = list(items), []
  for i in range(len(packed.networks)):
    found = judge([(dry, wet, audio[:, i]) for dry, wet, audio in items])
    if not found:
      return {}
    figures.append(found['figure'])
  parts = {f'figure_{i}': figure for i, figure in enumerate(figures)}
  return {'figure': float(np.sum(figures)), **parts}
