"""Graphs with a `neural.Packed`, all of whose networks are trained at once.

Each network is trained as if it were alone: losses are summed, and so are the
figures by which a validation is judged.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ddsp
import numpy as np
import tensorflow as tf

from dafx import neural, processors
from dafx.training.models import judging, rendering


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


def sizes_of(packed: neural.Packed) -> dict[str, dict[str, float]]:
  """Returns options of `Model.render` by network, from small to large.

  Args:
    packed: The networks. The one that is chosen needs no option.
  """
  n = len(packed.networks)
  return {
    f'network {i + 1} of {n} ({network.name})': (
      {} if i == packed.chosen else {'size': (i + 0.5) / n}
    )
    for i, network in enumerate(packed.networks)
  }


class SizedRendering(rendering.Rendering):
  """A rendering by another network than the one that is chosen.

  Args:
    packed: The networks, one node of the graph.
    size: Which to take, from 0 to 1, the largest.
    *args: Those of `Rendering`.

  Raises:
    ValueError: A size out of that range.
  """

  def __init__(self, packed: neural.Packed, size: float, *args: Any):
    super().__init__(*args)
    self._packed, self._index = packed, packed.index_of(size)

  def blocks(self) -> Iterator[np.ndarray]:
    """Yields what comes out; the networks are then as before."""
    former = self._packed.chosen
    self._packed.chosen = self._index
    try:
      yield from super().blocks()
    finally:
      self._packed.chosen = former


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


def judge_row(
  packed: neural.Packed,
  row_of: Callable[[judging.Item], list[float]],
  item: judging.Item,
) -> list[float]:
  """Measures an item for each network, one after the other.

  Args:
    packed: The networks.
    row_of: As `Model.judge_row`, of one network.
    item: Input and target, [n_samples], and the audio of all networks,
      [n_samples, n_networks].
  """
  dry, wet, audio = item
  rows = [row_of((dry, wet, audio[:, i])) for i in range(len(packed.networks))]
  return [number for row in rows for number in row]


def judge_rows(
  packed: neural.Packed,
  judge: Callable[[Sequence[list[float]]], dict[str, float]],
  rows: Sequence[list[float]],
) -> dict[str, float]:
  """Judges each network by itself.

  Args:
    packed: The networks.
    judge: As `Model.judge_rows`, of one network.
    rows: What `judge_row` returned.

  Returns:
    'figure', the sum of the figures, and each as 'figure_0' and so on; {} where
    one has none.
  """
  figures = []
  for i in range(len(packed.networks)):
    sizes = [len(row) // len(packed.networks) for row in rows]
    own = [row[i * n : (i + 1) * n] for row, n in zip(rows, sizes)]
    found = judge(own)
    if not found:
      return {}
    figures.append(found['figure'])
  parts = {f'figure_{i}': figure for i, figure in enumerate(figures)}
  return {'figure': float(np.sum(figures)), **parts}
