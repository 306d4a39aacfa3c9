"""Models: an encoder that listens, and a group of processors that it drives."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ddsp
import gin
import numpy as np
import tensorflow as tf

from dafx import losses as dafx_losses
from dafx import processors
from dafx.audio import sources
from dafx.training.models import (
  base,
  encoders,
  heads,
  judging,
  kinds,
  rendering,
)
from dafx.training.models import outputs as automation


@gin.register(module='dafx.training.models')
class ControlModel(base.Model):
  """An encoder listens to the audio and sets the processors of a DAG.

  Each input of the DAG that is the controls of a processor with `n_controls`
  (such as `LV2Plugin`) gets a head of the network, which starts at the
  processor's defaults. So a .gin file names plugins and wires, and no sizes. An
  `LV2Chain` takes one input of controls for each of its plugins.

  >>> import tensorflow as tf
  >>> from dafx import effects, losses, processors
  >>> from dafx.training import models
  >>> gain = effects.Gain(name='gain', trainable=['gain_db'])
  >>> group = processors.ProcessorGroup([(gain, ['audio', 'gain_controls'])])
  >>> model = models.ControlModel(
  ...   models.LogMelEncoder(hop_size=1024), group, [losses.EsrLoss()]
  ... )
  >>> model.predict_controls(tf.zeros([1, 4096]))['gain_controls'].shape
  TensorShape([1, 4, 1])
  >>> model.meanings()['gain/gain_db']
  'from -40 to 40'

  Args:
    encoder: From features to an embedding [batch, n_frames, width].
    processor_group: DAG from {'audio', controls, features of the data} to
      audio. It is checked here, and what the data have when a training starts.
    losses: Losses of (target audio, audio); their sum is trained.
    sample_rate: Rate of the audio that the encoder hears, in Hz.
    output_splits: (name, size) of further inputs of the DAG, such as a DDSP
      synth's; they get linear heads.
    align_margin: If given, losses compare audio after alignment, blind to
      polarity; the window is the latency that the plugins report or were
      measured to have, all together, and so many samples more.
    change_losses: Losses of (input audio, audio), which are trained too: a cost
      for what is changed, so that a control moves only if the data asks for it.
    preprocessor: What was done to the audio that it is trained on, a
      `data.Preprocessor`: evaluation and inference do the same.
    max_true_peak_dbtp: True peak that files which it makes louder stay below;
      they are turned down by what is too much.
    judged_by: What decides on a validation: one of `judges`; see `judging`.
    name: Name of the model.

  `render` takes 'n_plugins', how many run from now on, 'setting', controls in
  [0, 1] in place of the network's, {input of the DAG: [1, n_controls]}, and
  'amount', how much of that is done.

  Raises:
    TypeError: An encoder that is no `Encoder`.
    ValueError: A DAG that cannot run or does not take what the network gives,
      or an encoder of another rate.
  """

  options: tuple[str, ...] = ('n_plugins', 'setting', 'amount')
  judges: tuple[str, ...] = ('loss', 'equal_level', 'events')
  measures: tuple[str, ...] = (
    'loudness_difference',
    'true_peak_dbtp',
    'matched_mr_stft',
    'average_spectrum_db',
    'crest_error_db',
    'width_error_db',
    'mono_sum_error_db',
    'mr_stft',
    'mae',
    'mfcc_cosine',
    'mfcc_cosine_rows',
    'rms_difference_db',
    'crest_difference_db',
    'esr',
    'loss',
  )

  def __init__(
    self,
    encoder: encoders.Encoder = gin.REQUIRED,
    processor_group: ddsp.processors.ProcessorGroup = gin.REQUIRED,
    losses: Sequence[tf.keras.layers.Layer] = gin.REQUIRED,
    sample_rate: int = 16000,
    output_splits: Sequence[tuple[str, int]] = (),
    align_margin: int | None = None,
    change_losses: Sequence[tf.keras.layers.Layer] = (),
    preprocessor: Any | None = None,
    max_true_peak_dbtp: float | None = None,
    judged_by: str = 'loss',
    name: str = 'control_model',
  ):
    super().__init__(name=name, autocast=False)
    encoders.check_encoder(encoder, sample_rate)
    kinds.check_group(processor_group)
    processors.connect_controllers(processor_group)
    self.encoder = encoder
    self.margin = encoder.margin
    self.processor_group = processor_group
    self.sample_rate = sample_rate
    self.preprocessor = preprocessor
    self.max_true_peak_dbtp = max_true_peak_dbtp
    self.judged_by = judging.check_judge(judged_by, self.judges)
    self.driven = processors.controlled_inputs(self.processor_group)
    self._n_plugins = len(self.driven)
    self.loss_objs = kinds.list_losses(losses)
    if align_margin is not None:
      self.loss_objs = [
        dafx_losses.AlignedLoss(
          self.loss_objs, self.latency + align_margin, ignore_polarity=True
        )
      ]
    self.change_losses = kinds.list_losses(change_losses)
    self._is_single = False
    sizes = dict(output_splits)
    dag = self.processor_group.dag  # what no head gives comes from the data
    inputs = processors.input_names(dag)
    processors.check_dag(dag, {*inputs, *sizes})
    heads.check_taken([*sizes, *encoder.outputs], inputs)
    self.heads = heads.make_heads(self._control_maps(), sizes, encoder.outputs)

  def _control_maps(self):
    """Returns the control maps of the driven nodes, by input of the DAG."""
    return {k: automation.control_map_of(n) for k, n in self.driven.items()}

  @property
  def latency(self) -> int:
    """Samples by which the driven plugins are late, all together."""
    return sum(node.latency for node in self.driven.values())

  @property
  def n_plugins(self) -> int:
    """How many of the driven plugins run, the first ones of the DAG.

    The others let audio through as it is. All of them run unless this is set.
    """
    return self._n_plugins

  @n_plugins.setter
  def n_plugins(self, value: int):
    if not 1 <= value <= len(self.driven):
      raise ValueError(
        f'n_plugins={value} must be from 1 to {len(self.driven)}: the model '
        f'drives {", ".join(p.name for p in self.driven.values())}.'
      )
    self._n_plugins = value
    running = self.running
    for node in processors.nodes(self.processor_group).values():
      members = [member for member in node.members if member in running]
      if members:
        node.run_members(len(members))

  @property
  def is_single(self) -> bool:
    """Whether the encoder is not heard: all get one setting, which is learned.

    What is learned so is where the network begins that is heard afterwards.
    """
    return self._is_single

  @is_single.setter
  def is_single(self, value: bool):
    self._is_single = bool(value)

  @property
  def running(self) -> list:
    """The driven plugins that run, in the order of the DAG."""
    return list(self.driven.values())[: self._n_plugins]

  @property
  def active_group(self) -> ddsp.processors.ProcessorGroup:
    """The DAG without the plugins that do not run; see `n_plugins`."""
    all_idle = list(self.driven.values())[self._n_plugins :]
    idle = [
      name
      for name, node in processors.nodes(self.processor_group).items()
      if node.members[0] in all_idle
    ]
    if not idle:
      return self.processor_group
    dag = processors.bypass_nodes(self.processor_group.dag, idle)
    modules = processors.modules(self.processor_group)
    return ddsp.processors.ProcessorGroup(
      dag=[(modules[node[0]], *node[1:]) for node in dag]
    )

  @property
  def inputs_used(self) -> list[str]:
    """Names of the features that a batch must have."""
    taken = processors.input_names(self.processor_group.dag)
    given = [key for key in taken if key not in self.heads]
    return list(dict.fromkeys([*self.encoder.features_used, *given]))

  def parts(self) -> dict[str, tf.keras.layers.Layer]:
    """Returns the model and its encoder."""
    return {'model': self, 'encoder': self.encoder}

  def weights_changed_by(self, keys: Sequence[str]) -> list[str]:
    """Returns the heads of nodes whose controls mean something else."""
    others = {key.split('/')[0] for key in keys}
    return [f'heads/{k}' for k, n in self.driven.items() if n.name in others]

  def make_variables(self):
    """Makes all variables, so that a checkpoint can be restored into them."""
    hop_size = self.encoder.hop_size or self.sample_rate // 100
    n_frames = -(-self.sample_rate // hop_size)
    audio = tf.zeros([1, n_frames * hop_size])
    frame = tf.zeros([1, n_frames, 1])
    given = {key: frame for key in self.inputs_used if key != 'audio'}
    given |= self.predict_controls(audio, **given)
    given |= {'audio': audio, 'target': audio}
    heads.make_variables_of_nodes(self.processor_group, given)

  def predict_controls(
    self, audio: tf.Tensor, has_margins: bool = False, **features: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Listens to audio and says how to set the processors.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels], at the
        encoder's rate.
      has_margins: Whether the encoder's margins are part of it already;
        otherwise silence stands for them, if it gives a setting per frame.
      **features: What else the encoder takes, by name.

    Returns:
      Inputs of the DAG by name, each [batch, n_frames, size]; in [0, 1] for
      plugins.
    """
    if self.margin and self.encoder.hop_size and not has_margins:
      fill = -tf.shape(audio)[1] % self.encoder.hop_size
      channels = [[0, 0]] * (audio.shape.rank - 2)
      silence = [self.margin, self.margin + fill]
      audio = tf.pad(audio, [[0, 0], silence, *channels])
    features = {**features, 'audio': audio}
    used = [features[key] for key in self.encoder.features_used]
    return self.controls_of(self.encoder(*used))

  def listen(self, source: sources.Source) -> dict[str, np.ndarray]:
    """Listens to a file of any length and says how to set the processors.

    Args:
      source: Audio of any rate and channels; the encoder hears it at the
        model's rate, as a mono mix unless it takes channels.

    Returns:
      Controls in [0, 1], {input of the DAG: [n_frames, n_controls]}, with one
      frame for an encoder that gives one setting for all.
    """
    if not self.encoder.takes_channels:
      source = sources.mixed(source)
    heard = sources.resampled(source, self.sample_rate)
    parts = [self.controls_of(part) for part in self.encoder.embed(heard)]
    return {
      key: np.concatenate([part[key][0] for part in parts]) for key in parts[0]
    }

  def controls_of(self, embedding: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns what the heads make of an embedding; see `predict_controls`.

    Args:
      embedding: Shape [batch, n_frames, width], as the encoder gives it.
    """
    if self._is_single:
      embedding = tf.zeros_like(embedding)
    return {key: head(embedding) for key, head in self.heads.items()}

  def port_values(self, outputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Returns what the driven processors are set to, in port units.

    Args:
      outputs: Outputs of the DAG, as `call` returns them.

    Returns:
      Controls [batch, n_frames, n_controls] by the name of the processor.
    """
    values = {}
    running = self.running
    for name, node in processors.nodes(self.active_group).items():
      if any(member in running for member in node.members):
        controls = outputs[name]['controls']['controls']
        values.update(node.values_of_members(controls))
    return values

  def call(
    self,
    features: Mapping[str, tf.Tensor],
    return_losses: bool = False,
    training: bool = False,
  ) -> Any:
    """Runs the model.

    Args:
      features: {'audio': [batch, n_samples(, n_channels)]}, and 'target' of
        the same shape if losses are wanted; 'heard', [batch, margin + n_samples
        + margin(, n_channels)], is what the encoder hears in place of the audio
        and silence around it; what else is there the DAG may use.
      return_losses: Whether to return (outputs, losses).
      training: Whether the encoder's batch statistics are used and followed.

    Returns:
      Outputs of the DAG by node, and at 'audio_synth' its audio; with
      return_losses also {name of loss: value, 'total_loss': their sum}.
    """
    del training  # Keras hands it on to the encoder.
    heads.check_length(self.encoder, features)
    has_margins = 'heard' in features
    heard = features['heard' if has_margins else 'audio']
    others = {
      key: features[key] for key in self.encoder.features_used if key != 'audio'
    }
    controls = self.predict_controls(heard, has_margins, **others)
    group = self.active_group
    outputs = group.get_controls({**features, **controls})
    audio = group.get_signal(outputs)
    outputs = {**outputs, 'audio_synth': audio}
    if not return_losses:
      return outputs
    losses = self.losses_of(features['target'], audio)
    for loss in self.change_losses:
      for key, value in loss.get_losses_dict(features['audio'], audio).items():
        losses[f'change_{key}'] = value
        losses['total_loss'] += value
    if self.losses:  # what layers add, such as a proxy's error
      total = losses.pop('total_loss')
      losses['added_loss'] = tf.add_n(self.losses)
      losses['total_loss'] = total + losses['added_loss']
    return outputs, losses

  def figures(self, outputs: Mapping[str, Any]) -> base.Figures:
    """Returns the controls of a batch, and those of its first item drawn."""
    seconds = outputs['audio_synth'].shape[1] / self.sample_rate
    port_values = self.port_values(outputs)
    return base.Figures(
      *automation.of_batch(self.running, port_values, seconds)
    )

  def render(
    self,
    source: sources.Source,
    n_plugins: int | None = None,
    setting: Mapping[str, np.ndarray] | None = None,
    amount: float = 1.0,
  ) -> rendering.Rendering:
    """Listens to audio, and sets the plugins to work on it.

    Plugins run at the rate of the audio, so that nothing of it is lost, but not
    below the model's: controls in Hz may lie above half of a lower rate, where
    filters blow up. All channels are rendered under the same controls.

    Args:
      source: The audio, of any length, rate and channels.
      n_plugins: How many of the plugins run from now on; see `n_plugins`.
      setting: Controls in [0, 1] to use instead of the network's, {input of the
        DAG: [1, n_controls]}.
      amount: How far controls go from the plugins' defaults to that, each on
        its scale, from 0 to 1: half the way is half of the dB. At 0 the audio
        stays as it is.

    Raises:
      ValueError: More plugins than there are, an amount outside of [0, 1], or
        a graph that takes more than a file has.
    """
    if not 0.0 <= amount <= 1.0:
      raise ValueError(f'amount={amount} must be from 0 to 1.')
    self.check_file_has_all('audio')
    if amount == 0.0:
      return rendering.Untouched(source)
    if n_plugins is not None:
      self.n_plugins = n_plugins
    group = self.active_group
    raw = self.listen(source) if setting is None else dict(setting)
    for key, known in self._control_maps().items() if amount < 1.0 else ():
      raw[key] = known.defaults + amount * (raw[key] - known.defaults)
    points = {key: automation.smooth(frames) for key, frames in raw.items()}
    running = list(self.driven.items())[: self.n_plugins]
    driven = dict(running)
    for key in driven:
      points[key] = np.clip(points[key], 0.0, 1.0)
    n_points = max(len(frames) for frames in raw.values())
    hop_s = (self.encoder.hop_size or 1) / self.sample_rate
    times_s = (np.arange(n_points) + 0.5) * hop_s
    moves = self.encoder.hop_size is not None and setting is None
    rate = max(source.sample_rate, self.sample_rate)
    if not rendering.can_run_at(group, rate):
      rate = self.sample_rate
    return rendering.Rendering(
      group,
      source,
      rate,
      points,
      times_s if moves else None,
      driven,
      automation.Automation(
        list(driven.values()),
        automation.in_port_units(driven, points),
        automation.in_port_units(driven, raw),
        times_s,
        moves,
      ),
    )

  def baselines(self, seed: int | Sequence[int]) -> dict[str, dict]:
    """Returns the plugins' defaults, and a random setting.

    Args:
      seed: Of the random one, as of `np.random.default_rng`.
    """
    rng, maps = np.random.default_rng(seed), self._control_maps()
    defaults = {key: known.defaults[np.newaxis] for key, known in maps.items()}
    drawn = {
      key: rng.uniform(size=[1, known.n_controls]).astype('f')
      for key, known in maps.items()
    }
    return {
      'default setting': {'setting': defaults},
      'random setting': {'setting': drawn},
    }

  def describe_outputs(self, outputs: Sequence[pathlib.Path]) -> str:
    """Says where presets were written; '' where there are none.

    Args:
      outputs: The audio files that they lie beside.
    """
    plugins = [node for node in self.running if node.uri is not None]
    if self.encoder.hop_size is not None or not plugins:
      return ''
    return automation.describe_presets(outputs, plugins[0])
