"""A rule that hears nothing but loudness, for comparison with what listens.

Gain into the task's own limiter, as much as gives the loudness that the targets
of the training have in the mean.
"""

import dataclasses
from collections.abc import Callable

import ddsp
import numpy as np
from absl import logging

from dafx import metrics, processors
from dafx.audio import loudness, sources
from dafx.training import data, models
from dafx.training.models import outputs, rendering


def mean_target_lufs(
  provider: data.Provider, preprocessor: data.Preprocessor | None = None
) -> float:
  """Returns the mean loudness of the targets of a split.

  Args:
    provider: Of the split, such as that of training.
    preprocessor: What is done to targets first; None for nothing.

  Returns:
    In LUFS; files without a loudness are left out.

  Raises:
    ValueError: No target has a loudness.
  """
  found = []
  for item in provider.items():
    target = np.concatenate(list(item.target.blocks())).astype(np.float64)
    rate = item.target.sample_rate
    if preprocessor is not None:
      target = preprocessor.process_target(target, rate)
    if target.shape[1] > metrics.MAX_LOUDNESS_CHANNELS:
      continue
    lufs = metrics.loudness_lufs(target, rate)
    if lufs > metrics.SILENCE_LUFS:
      found.append(lufs)
  if not found:
    raise ValueError(
      'No training target has a loudness, which the rule is to reach. Bind '
      'dafx.training.evaluate.rule_lufs, or rule_plugin = None.'
    )
  return float(np.mean(found))


@dataclasses.dataclass(frozen=True)
class Rule:
  """Gain into a limiter until the output has a loudness.

  Attributes:
    node: The limiter, a node of a model's graph, at its defaults.
    lufs: What it is to reach.
    sample_rate: Rate of the model, in Hz, below which the limiter does not run.
  """

  node: processors.Node
  lufs: float
  sample_rate: int

  def process(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Returns what the rule makes of audio.

    The gain is found by the secant method, in six renders at most.

    Args:
      audio: Shape [n_samples, n_channels].
      sample_rate: Its rate, in Hz.

    Returns:
      Of that shape: of what was tried, the output that is nearest to the
      loudness. Silence stays as it is.
    """
    lufs = metrics.loudness_lufs(audio, sample_rate)
    if lufs <= metrics.SILENCE_LUFS:
      return audio
    group = ddsp.processors.ProcessorGroup(
      dag=[(self.node, ['audio', 'controls'])]
    )

    def render(gain_db):
      out = self._render(group, audio * 10.0 ** (gain_db / 20.0), sample_rate)
      return metrics.loudness_lufs(out, sample_rate), out

    return loudness.find_gain(render, self.lufs, self.lufs - lufs)[1]

  def _render(self, group, audio, sample_rate):
    """Returns what the limiter makes of audio, at its defaults."""
    rate = max(sample_rate, self.sample_rate)
    if not rendering.can_run_at(group, rate):
      rate = self.sample_rate
    defaults = outputs.control_map_of(self.node).defaults[np.newaxis]
    work = rendering.Rendering(
      group,
      sources.from_array(audio, sample_rate),
      rate,
      {'controls': defaults},
      driven={'controls': self.node},
    )
    return np.concatenate(list(work.blocks()))


def make_rule(
  model: models.Model,
  plugin: str | None,
  lufs: float | None,
  targets: Callable[[], data.Provider] | None,
) -> Rule | None:
  """Returns the rule of a task.

  Args:
    model: Whose graph has the limiter.
    plugin: Name of the limiter in the graph; None for no rule.
    lufs: What it is to reach; None for what the targets have in the mean.
    targets: Makes the provider of the training, which is needed for that.

  Returns:
    The rule; None without a plugin, or where there are no targets, which is
    logged.

  Raises:
    ValueError: The graph has no such plugin, or there is neither a loudness nor
      targets.
  """
  if plugin is None:
    return None
  nodes = {
    member.name: member
    for node in processors.nodes(model.processor_group).values()
    for member in node.members
    if member.control_map is not None
  }
  if plugin not in nodes:
    raise ValueError(
      f'rule_plugin={plugin!r} is no node of the graph with controls; it has '
      f'{", ".join(nodes) or "none"}. Bind dafx.training.evaluate.rule_plugin '
      'to the limiter, or to None for no rule.'
    )
  if lufs is None:
    if targets is None:
      raise ValueError(
        f'rule_plugin={plugin!r} needs what it is to reach: bind '
        'dafx.training.evaluate.rule_lufs, in LUFS, or rule_targets.'
      )
    try:
      provider = targets()
    except FileNotFoundError as error:
      logging.warning(
        'No rule is compared, for want of training targets: %s. To have it, '
        'bind dafx.training.evaluate.rule_lufs.',
        error,
      )
      return None
    lufs = mean_target_lufs(provider, model.preprocessor)
    logging.info('The rule goes for %.1f LUFS, as the training targets.', lufs)
  return Rule(nodes[plugin], lufs, model.sample_rate)
