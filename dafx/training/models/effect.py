"""Models that are an effect themselves: audio, and knobs, in; audio out."""

from collections.abc import Mapping, Sequence
from typing import Any

import ddsp
import gin
import numpy as np
import tensorflow as tf

from dafx import processors
from dafx.audio import sources
from dafx.training.models import base, judging, kinds, packed, rendering
from dafx.training.models import starts as starts_lib
from dafx.training.models import streams as streams_lib
from dafx.training.plotting import blocks

tfkl = tf.keras.layers


@gin.register(module='dafx.training.effect_models')
class EffectModel(base.Model):
  """A group of processors that is trained to be an effect.

  Its nodes are networks (`dafx.neural`) or differentiable effects with their
  controllers (`dafx.effects`), plugins and DDSP's. It is trained on crops of
  pairs, whole or in windows (`stream`), and used as a stream. Of a
  `neural.Packed`, all networks are trained at once, whole, and the one that is
  chosen is used: the largest.

  >>> import tensorflow as tf
  >>> from dafx import losses, neural, processors
  >>> from dafx.training import models
  >>> network = neural.WaveNet('nano', name='amp')
  >>> group = processors.ProcessorGroup([(network, ['audio'])])
  >>> model = models.EffectModel(group, [losses.EsrLoss()], sample_rate=48000)
  >>> model({'audio': tf.zeros([1, 480])})['audio_synth'].shape
  TensorShape([1, 480])

  Args:
    processor_group: DAG from 'audio', 'knobs' if it has some, and other
      features of the data, to audio. It is checked, and controllers are told
      what they drive.
    losses: Losses of (target audio, audio); their sum is trained.
    sample_rate: Rate of the audio, in Hz.
    burn_in: Samples at the start of a crop that losses leave out, in which the
      state of the model settles. None for its receptive field, but at most half
      of the crop; 0 for a model without bounds, such as a recurrent one.
    starts: What networks inside of the graph start from, by node: 'tanh' for a
      waveshaper, 'impulse' or the path of an impulse response for a filter; see
      `fit_starts`. None leaves them random.
    n_start_steps: Updates by which each of these is fitted.
    judged_by: What decides on a validation: one of `judges`; see `judging`.
    name: Name of the model.

  `render` takes 'knobs', in [0, 1], shape [n_knobs]; by default the middle of
  all; and of a `neural.Packed` 'size', from 0 to 1, the largest network. The
  graph runs at the model's rate.

  Raises:
    ValueError: A DAG that cannot run, or a start that there is not.
  """

  modes = (*base.Model.modes, 'export', 'profile')
  options = ('knobs', 'size')
  judges = ('loss', 'esr')
  measures = ('esr', 'mae', 'mr_stft', 'si_sdr', 'dc', 'polarity')
  streams = True
  can_be_nam = True

  def __init__(
    self,
    processor_group: ddsp.processors.ProcessorGroup = gin.REQUIRED,
    losses: Sequence[tf.keras.layers.Layer] = gin.REQUIRED,
    sample_rate: int = 48000,
    burn_in: int | None = None,
    starts: Mapping[str, str] | None = None,
    n_start_steps: int = 2000,
    judged_by: str = 'loss',
    name: str = 'effect_model',
  ):
    super().__init__(name=name, autocast=False)
    kinds.check_group(processor_group)
    self.processor_group = processor_group
    self.loss_objs = kinds.list_losses(losses)
    self.sample_rate = sample_rate
    self.burn_in = burn_in
    self.judged_by = judging.check_judge(judged_by, self.judges)
    # What no node gives comes from the data; `trainers` compares the names.
    dag = processor_group.dag
    processors.check_dag(dag, processors.input_names(dag))
    processors.connect_controllers(processor_group)
    starts_lib.check_starts(processor_group, starts or {})
    packed.packed_in(processor_group)
    self._starts = dict(starts or {})
    self._n_start_steps = n_start_steps
    self._streamer: processors.Streamer | None = None

  def start(self, has_weights: bool = False):
    """Fits what `starts` names, unless it has weights; see `fit_starts`."""
    if not has_weights:
      self.fit_starts()

  def fit_starts(self) -> dict[str, float]:
    """Fits networks to their `starts`.

    Returns:
      Relative RMS error of each node that was fitted; `starts.fit_nodes`.

    Raises:
      ValueError: An impulse response of another rate, or that is no response.
      FileNotFoundError: There is no such impulse response.
    """
    return starts_lib.fit_nodes(
      self.processor_group, self._starts, self.sample_rate, self._n_start_steps
    )

  @property
  def inputs_used(self) -> list[str]:
    """Names of the inputs that the DAG takes."""
    return processors.input_names(self.processor_group.dag)

  @property
  def n_knobs(self) -> int:
    """Number of knobs that the model takes; 0 without."""
    nodes = processors.nodes(self.processor_group).values()
    return max(node.n_knobs for node in nodes)

  @property
  def _packed(self):
    """The networks of several sizes in the graph; None where it has none."""
    return packed.packed_in(self.processor_group)

  @property
  def learns_start(self) -> bool:
    """Whether a node has its state before the first sample trained."""
    nodes = processors.nodes(self.processor_group).values()
    return any(node.learns_start for node in nodes)

  @property
  def receptive_field(self) -> int | None:
    """Samples that one sample of output depends on; None without bounds.

    The sum over the nodes, as of a chain; less where they are side by side.
    """
    total = 1
    for node in processors.nodes(self.processor_group).values():
      if node.receptive_field is None:
        return None
      total += node.receptive_field - 1
    return total

  def make_variables(self):
    """Makes all variables, so that a checkpoint can be restored into them."""
    features = {'audio': tf.zeros([1, 1024])}
    if self.n_knobs:
      features['knobs'] = tf.zeros([1, self.n_knobs])
    self(features)

  def settling(self, n_samples: int) -> int:
    """Returns how many samples of a crop the losses leave out."""
    if self.burn_in is not None:
      if self.burn_in >= n_samples:
        raise ValueError(
          f'burn_in={self.burn_in} leaves nothing of crops of {n_samples} '
          'samples. Take longer crops.'
        )
      return self.burn_in
    field = self.receptive_field
    return 0 if field is None else min(field - 1, n_samples // 2)

  def _inputs(self, features):
    missing = [key for key in self.inputs_used if key not in features]
    if missing:
      raise ValueError(
        f'The model takes {", ".join(self.inputs_used)}; the data give '
        f'{", ".join(features)}. A model with knobs needs data with knobs.'
      )
    return {key: features[key] for key in self.inputs_used}

  def call(
    self,
    features: Mapping[str, tf.Tensor],
    return_losses: bool = False,
    training: bool = False,
  ) -> Any:
    """Runs the model from its initial state on.

    Args:
      features: {'audio': [batch, n_samples]}, 'knobs' [batch, n_knobs] if the
        model has some, and 'target' as the audio if losses are wanted.
      return_losses: Whether to return (outputs, losses).
      training: Not used: the parts behave alike in training and use.

    Returns:
      Outputs of the DAG by node, and at 'audio_synth' its audio; with
      return_losses also {name of loss: value, 'total_loss': their sum}.

    Raises:
      ValueError: Features that lack an input of the DAG.
    """
    del training
    if return_losses and self._packed is not None:
      return packed.run_all(
        self._packed, lambda: self._run(features, return_losses)
      )
    return self._run(features, return_losses)

  def _run(self, features, return_losses):
    """Runs the graph as it is; see `call`."""
    outputs = self.processor_group.get_controls(self._inputs(features))
    audio = self.processor_group.get_signal(outputs)
    outputs = {**outputs, 'audio_synth': audio}
    if not return_losses:
      return outputs
    start = self.settling(features['audio'].shape[1])
    return outputs, self.losses_of(
      features['target'][:, start:], audio[:, start:]
    )

  def audio_to_judge(self, outputs: Mapping[str, Any]) -> tf.Tensor:
    """Returns the audio of outputs; that of all networks of a Packed."""
    if self._packed is not None:
      return outputs['audio_of_sizes']
    return self.get_audio_from_outputs(outputs)

  def judge_row(self, item: judging.Item) -> list[float]:
    """Measures an item; of a Packed, for each of its networks."""
    if self._packed is not None:
      return packed.judge_row(self._packed, super().judge_row, item)
    return super().judge_row(item)

  def judge_rows(self, rows: Sequence[list[float]]) -> dict[str, float]:
    """Returns the figure of a validation; the sum of those of a Packed."""
    if self._packed is not None:
      return packed.judge_rows(self._packed, super().judge_rows, rows)
    return super().judge_rows(rows)

  def figures(self, outputs: Mapping[str, Any]) -> base.Figures:
    """Draws the blocks of a gray box; see `blocks.block_figures`."""
    group = self.processor_group
    figures = blocks.block_figures(group, outputs, self.sample_rate)
    return base.Figures(blocks=figures)

  def initial_state(self, batch_size: int) -> Any:
    """Returns the state before the first window, for `stream`.

    Raises:
      ValueError: A model with latency, whose windows do not fit its target, or
        with several networks to train at once.
    """
    if self._packed is not None:
      raise ValueError(
        'A model with neural.Packed is not trained in windows. Set '
        'tbptt_samples=None.'
      )
    streamer = self._streamer
    if streamer is None or streamer.batch_size != batch_size:
      streamer = processors.Streamer(self.processor_group, batch_size)
      self._streamer = streamer
    streamer.reset()
    if streamer.latency:
      raise ValueError(
        f'The model has a latency of {streamer.latency} samples: it '
        'cannot be trained in windows. Set tbptt_samples=None, or take the '
        'latency away (oversample=1, lookahead_ms=0).'
      )
    return streamer.states

  def stream(
    self, state: Any, features: Mapping[str, tf.Tensor]
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor], Any]:
    """Runs the next window.

    Args:
      state: Of the window before, or `initial_state`.
      features: As for `call`; n_samples a multiple of the nodes' frames.

    Returns:
      (audio [batch, n_samples], losses as of `call`, state).
    """
    inputs = self._inputs(features)
    if 'knobs' in inputs and inputs['knobs'].shape.rank == 2:
      inputs['knobs'] = inputs['knobs'][:, tf.newaxis]
    if self._streamer is None:
      raise ValueError('A stream begins with the state of initial_state.')
    audio, state = self._streamer.run(inputs, state)
    return audio, self.losses_of(features['target'], audio), state

  def as_stream(self, block_size: int) -> streams_lib.Stream:
    """Returns the model as a stream of audio; see `Model.as_stream`."""
    self.make_variables()
    return streams_lib.EffectStream(self, block_size)

  def render(
    self,
    source: sources.Source,
    knobs: Sequence[float] | None = None,
    size: float | None = None,
  ) -> rendering.Rendering:
    """Sets the model to work on audio of any length, rate and channels.

    Args:
      source: The audio; channels go through one by one.
      knobs: In [0, 1], shape [n_knobs]; the middle of all if there are some.
      size: Which network of a Packed, from 0 to 1, the largest; by default the
        one that is chosen.

    Raises:
      ValueError: Knobs or sizes that the model does not have, or out of their
        range; or a graph that takes more from the data than a file has.
    """
    self.check_file_has_all('audio', 'knobs')
    inputs = self._knob_frames(knobs)
    made = self.processor_group, source, self.sample_rate, inputs
    if size is None:
      return rendering.Rendering(*made)
    if self._packed is None:
      raise ValueError(
        f'size={size}: the model has one size; networks of several sizes come '
        'by neural.Packed (blackbox_a2.gin).'
      )
    return packed.SizedRendering(self._packed, size, *made)

  def sizes(self) -> dict[str, dict[str, float]]:
    """Returns options of `render` by network of a Packed; {} without one."""
    return {} if self._packed is None else packed.sizes_of(self._packed)

  def _knob_frames(self, knobs):
    """Returns the knobs as one frame of an input of the graph."""
    if not self.n_knobs:
      if knobs is not None and np.size(knobs):
        raise ValueError(f'knobs={np.asarray(knobs)}: the model has none.')
      return {}
    if knobs is None:
      knobs = np.full(self.n_knobs, 0.5)
    knobs = np.asarray(knobs, np.float32)
    in_range = np.all((knobs >= 0.0) & (knobs <= 1.0))
    if knobs.shape != (self.n_knobs,) or not in_range:
      raise ValueError(
        f'knobs={knobs} must be {self.n_knobs} numbers from 0 to 1.'
      )
    return {'knobs': knobs[np.newaxis]}
