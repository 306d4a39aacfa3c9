"""What is trained and used: the class that all models keep."""

import abc
import dataclasses
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import ddsp
import numpy as np
import tensorflow as tf

from dafx import core, lv2, processors
from dafx.audio import sources
from dafx.processors import dag
from dafx.training.models import judging, rendering
from dafx.training.models import streams as streams_lib


@dataclasses.dataclass(frozen=True)
class Figures:
  """What a model shows of a batch.

  Attributes:
    values: Arrays by name, for histograms.
    plots: Lists of matplotlib Figures by name.
    blocks: Figures of the blocks of a gray box, which are written as files too.
  """

  values: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  plots: Mapping[str, Sequence] = dataclasses.field(default_factory=dict)
  blocks: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Model(tf.keras.Model, abc.ABC):
  """What is trained and used; commands, trainers and evaluation know no other.

  A kind of model declares here what it can do. What it does not declare it
  cannot, and refuses.

  Attributes:
    modes: Modes of dafx_run that it is of use for.
    options: Names of what `render` takes besides a source.
    measures: Names of what an evaluation measures; `evaluation.measures`.
    judges: By what its validations can be judged; `judging.FIGURES`.
    judged_by: Which of these it is: what decides on the best checkpoint, on the
      learning rate and on when to stop.
    streams: Whether it can be trained in windows, by `stream`.
    mixes_channels: Whether it hears the mean of a file's channels alone.
    can_be_nam: Whether one of its kind can become a .nam file.
    margin: Samples around the audio of a crop that it hears too.
    max_true_peak_dbtp: True peak that files it makes louder stay below; None
      for no such bound.
    preprocessor: What was done to the audio that it is trained on, a
      `data.Preprocessor`; None for nothing.
    processor_group: The graph, as the user wrote it.
    loss_objs: Losses of (target audio, audio); their sum is trained.
    sample_rate: Rate of the audio, in Hz.
    frame_rate: Frames per second of curves that it takes from the data; None
      for a model that takes none.
  """

  modes: tuple[str, ...] = ('train', 'eval', 'sample', 'process')
  options: tuple[str, ...] = ()
  measures: tuple[str, ...] = ()
  judges: tuple[str, ...] = (judging.LOSS,)
  judged_by: str = judging.LOSS
  streams: bool = False
  mixes_channels: bool = False
  can_be_nam: bool = False
  margin: int = 0
  max_true_peak_dbtp: float | None = None
  preprocessor: Any = None
  processor_group: ddsp.processors.ProcessorGroup
  loss_objs: list
  sample_rate: int
  frame_rate: int | None = None

  # -------------------- What it can do ----------------------------------------
  def check_mode(self, mode: str):
    """Raises ValueError for a mode that this kind of model has no use for.

    Args:
      mode: Of dafx_run.
    """
    if mode not in self.modes:
      advice = {
        'export': ' Use --mode=process, which writes presets and automation.',
        'profile': ' Take a model of an effect: blackbox.gin or graybox.gin.',
      }.get(mode, '')
      raise ValueError(
        f'--mode={mode} is not for {type(self).__name__}; its modes are '
        f'{", ".join(self.modes)}.{advice}'
      )

  def check_options(self, options: Collection[str]):
    """Raises ValueError for options that this kind of model has no use for.

    Args:
      options: Names, as `render` takes them.
    """
    unknown = [name for name in options if name not in self.options]
    if unknown:
      raise ValueError(
        f'{type(self).__name__} does not take {", ".join(unknown)}; its '
        f'options are {", ".join(self.options) or "none"}.'
      )

  def check_file_has_all(self, *given: str):
    """Raises ValueError if the graph takes more from the data than a file has.

    Args:
      *given: What a file has, or the options of `render` stand for.
    """
    missing = [key for key in self.inputs_used if key not in given]
    if missing:
      raise ValueError(
        f'{type(self).__name__} takes {", ".join(missing)} from the data, '
        'which an audio file does not have.'
      )

  @property
  def n_plugins(self) -> int | None:
    """How many of its plugins run; None for a model that sets none."""
    return None

  @n_plugins.setter
  def n_plugins(self, value: int):
    raise ValueError(
      f'n_plugins={value}: {type(self).__name__} sets no plugins, so it is not '
      'trained in stages. Leave train.stages empty.'
    )

  @property
  def ddsp_model(self) -> Any:
    """The model of DDSP that it is made of; None for most models."""
    return None

  @property
  def is_single(self) -> bool:
    """Whether it learns one setting for all, and hears nothing."""
    return False

  @is_single.setter
  def is_single(self, value: bool):
    if value:
      raise ValueError(
        f'{type(self).__name__} has no network that sets plugins, so it cannot '
        'begin with a single setting. Leave train.single_fraction at 0.'
      )

  @property
  @abc.abstractmethod
  def inputs_used(self) -> list[str]:
    """Names of the features that a batch must have."""

  def meanings(self) -> dict[str, str]:
    """Describes the controls, so that weights for others are refused.

    Returns:
      The URI (or class) by processor that has controls, and by processor/symbol
      the range and scale, or the value at which it is fixed; by
      processor/parameter what file it was given. Driven controls lie in the
      order of what drives them.
    """
    lines = {}
    for node in processors.nodes(self.processor_group).values():
      for member in node.members:
        if member.control_map is None:
          continue
        lines[member.name] = member.identity
        for symbol, meaning in member.control_map.describe().items():
          lines[f'{member.name}/{symbol}'] = meaning
        if member.parameter_values:
          plugin = lv2.get_plugin(member.identity)
          kept = lv2.describe_parameters(plugin, member.parameter_values)
          for parameter, words in kept.items():
            lines[f'{member.name}/{parameter}'] = words
    return lines

  def depends(self) -> dict[str, str]:
    """Describes what weights are for: those of other words are refused.

    Returns:
      `meanings`, and by 'model.<name>', 'encoder.<argument>' and
      'node.<argument>' what else they are made with, but for what may change.
    """
    lines = {
      'model': type(self).__name__,
      'graph': dag.describe(self.processor_group),
      'model.sample_rate': core.describe(self.sample_rate),
      'model.preprocessor': core.describe(self.preprocessor),
      **self.meanings(),
    }
    for name, part in self.parts().items():
      if isinstance(part, core.Recorded):
        lines[f'{name}.kind'] = type(part).__name__
        for argument, words in part.describe_arguments().items():
          lines[f'{name}.{argument}'] = words
    for node in processors.nodes(self.processor_group).values():
      for member in {id(m): m for m in (node, *node.members)}.values():
        if isinstance(member, core.Recorded):
          for argument, words in member.describe_arguments().items():
            lines[f'{member.name}.{argument}'] = words
    return lines

  def weights_changed_by(self, keys: Sequence[str]) -> list[str]:
    """Returns what of the model would set something else by its weights.

    Args:
      keys: Of `depends`, where these are others than those of the weights.

    Returns:
      Names of its attributes, as paths, such as 'heads/gain_controls'.
    """
    del keys
    return []

  # -------------------- Training ----------------------------------------------
  @abc.abstractmethod
  def call(
    self,
    features: Mapping[str, tf.Tensor],
    return_losses: bool = False,
    training: bool = False,
  ) -> Any:
    """Runs the model.

    Args:
      features: Those of `inputs_used`, and 'target' if losses are wanted.
      return_losses: Whether to return (outputs, losses).
      training: Whether this is a step of training.

    Returns:
      Outputs of the graph by node, and at 'audio_synth' its audio; with
      return_losses also the losses by name, and at 'total_loss' their sum.
    """

  @abc.abstractmethod
  def make_variables(self):
    """Makes all variables, so that a checkpoint can be restored into them."""

  def parts(self) -> dict[str, tf.keras.layers.Layer]:
    """Returns what of it is worth a count of parameters, by name."""
    return {'model': self}

  def start(self, has_weights: bool = False):
    """Prepares for a run that is new; it does nothing for most models.

    Args:
      has_weights: Whether weights of another run are in it already.
    """
    del has_weights

  def losses_of(
    self, target: tf.Tensor, audio: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Returns losses by name, and at 'total_loss' their sum.

    Args:
      target: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      audio: Of that shape.
    """
    losses = {}
    for loss in self.loss_objs:
      losses.update(loss.get_losses_dict(target, audio))
    losses['total_loss'] = tf.add_n(list(losses.values()))
    return losses

  def judge(self, items: Iterable[judging.Item]) -> dict[str, float]:
    """Returns the figure by which a validation is judged, and its parts.

    Args:
      items: Input, target and output of each item, [n_samples] or [n_samples,
        n_channels].

    Returns:
      'figure', the lower the better, and its parts by name; {} where the loss
      is to decide.
    """
    return self.judge_rows([self.judge_row(item) for item in items])

  def judge_row(self, item: judging.Item) -> list[float]:
    """Measures what a validation is judged by of one item.

    Args:
      item: As of `judge`.

    Returns:
      Numbers for `judge_rows`.
    """
    if self.judged_by == judging.LOSS:
      return []
    return judging.FIGURES[self.judged_by].row(item, self.sample_rate)

  def judge_rows(self, rows: Sequence[list[float]]) -> dict[str, float]:
    """Returns what `judge` does, of the rows of all items, in order.

    Args:
      rows: What `judge_row` returned.
    """
    if self.judged_by == judging.LOSS:
      return {}
    return judging.FIGURES[self.judged_by].of(rows)

  def settling(self, n_samples: int) -> int:
    """Returns how many samples at the start are left out of losses.

    Args:
      n_samples: Samples of a crop.
    """
    del n_samples
    return 0

  @property
  def learns_start(self) -> bool:
    """Whether `initial_state` is trained."""
    return False

  def initial_state(self, batch_size: int) -> Any:
    """Returns the state before the first window, for `stream`.

    Args:
      batch_size: Number of items.

    Raises:
      ValueError: A model that cannot be trained in windows.
    """
    del batch_size
    self._refuse_windows()

  def stream(self, state: Any, features: Mapping[str, tf.Tensor]):
    """Runs the next window.

    Args:
      state: Of the window before, or `initial_state`.
      features: As for `call`.

    Returns:
      (audio [batch, n_samples], losses as of `call`, state).

    Raises:
      ValueError: A model that cannot be trained in windows.
    """
    del state, features
    self._refuse_windows()

  def _refuse_windows(self):
    raise ValueError(
      f'{type(self).__name__} cannot be trained in windows. Set '
      'tbptt_samples=None.'
    )

  def as_stream(self, block_size: int) -> streams_lib.Stream:
    """Returns the model as what can be exported as a SavedModel.

    Args:
      block_size: Samples of a block.

    Raises:
      ValueError: A model that is not exported (`modes` says so), or that cannot
        stream.
    """
    del block_size
    self.check_mode('export')
    raise ValueError(f'{type(self).__name__} has no stream to export.')

  @staticmethod
  def get_audio_from_outputs(outputs: Mapping[str, Any]) -> tf.Tensor:
    """Returns the audio of `call`'s outputs."""
    return outputs['audio_synth']

  def audio_to_judge(self, outputs: Mapping[str, Any]) -> tf.Tensor:
    """Returns what `judge` gets of `call`'s outputs with losses, by item."""
    return self.get_audio_from_outputs(outputs)

  def figures(self, outputs: Mapping[str, Any]) -> Figures:
    """Returns what TensorBoard shows of a validation.

    Args:
      outputs: As `call` returns them.
    """
    del outputs
    return Figures()

  def remark(self, outputs: Mapping[str, Any]) -> str:
    """Says what went wrong with a model; '' where nothing can be seen.

    Args:
      outputs: As `call` returns them, of a batch that is validated.
    """
    del outputs
    return ''

  # -------------------- Use ---------------------------------------------------
  def prepare(self, source: sources.Source) -> sources.Source:
    """Does to an input what was done to those that it was trained on.

    Args:
      source: The input.

    Returns:
      What `render` takes.
    """
    if self.preprocessor is None:
      return source
    return self.preprocessor.process_source(source)

  @abc.abstractmethod
  def render(
    self, source: sources.Source, *args: Any, **options: Any
  ) -> rendering.Rendering:
    """Sets the graph to work on audio of any length, rate and channels.

    Args:
      source: The audio, as `prepare` gives it.
      *args: The same in order.
      **options: Those of `options`.

    Raises:
      ValueError: Options that do not fit the model.
    """

  def baselines(self, seed: int | Sequence[int]) -> dict[str, dict]:
    """Returns what an evaluation compares with: options of `render` by name.

    Args:
      seed: Of what is drawn, as of `np.random.default_rng`.
    """
    del seed
    return {}

  def sizes(self) -> dict[str, dict]:
    """Returns options of `render` by network, where there are several sizes.

    Returns:
      From small to large; the one that is used by default has no options. {}
      for a model of one size.
    """
    return {}

  def describe_outputs(self, outputs: Sequence[pathlib.Path]) -> str:
    """Says what to do with what lies beside processed files; '' for nothing.

    Args:
      outputs: The audio files.
    """
    del outputs
    return ''
