"""Models: an encoder that listens, and a group of processors that it drives."""

from collections.abc import Sequence

import ddsp
import gin
import numpy as np
import tensorflow as tf

from dafx import effects, processors

tfkl = tf.keras.layers

# Defaults at the end of a range are moved in, where the sigmoid still slopes.
_DEFAULT_MARGIN = 0.02


@gin.configurable
def get_model(model=gin.REQUIRED):
  """Returns the model that gin chose (`get_model.model = @...()`)."""
  return model


def _sigmoid_head(n_controls: int, defaults: np.ndarray, name: str):
  """Returns a layer to [0, 1] that starts at given values.

  Small weights and the bias alone start a network at the plugin's defaults,
  which DeepAFx trains it to in a stage of its own.
  """
  start = np.clip(defaults, _DEFAULT_MARGIN, 1.0 - _DEFAULT_MARGIN)
  bias = np.log(start / (1.0 - start))
  return tfkl.Dense(
    n_controls,
    activation='sigmoid',
    kernel_initializer=tf.keras.initializers.VarianceScaling(1e-3, seed=0),
    bias_initializer=tf.constant_initializer(bias),
    name=name,
  )


def _needed_inputs(name, members) -> str:
  """Says which inputs a node takes."""
  if len(members) == 1:
    return f"two, audio and controls, such as ['audio', '{name}_controls']."
  controls = ', '.join(f"'{m.name}_controls'" for m in members)
  return f"audio and the controls of each plugin: ['audio', {controls}]."


@gin.register
class ControlModel(tf.keras.Model):
  """An encoder listens to the audio and sets the processors of a DAG.

  Each input of the DAG that is the controls of a processor with `n_controls`
  (such as `LV2Plugin`) gets a head of the network, which starts at the
  processor's defaults. So a .gin file names plugins and wires, and no sizes.

  Plugins in a row become one black box, an `LV2Chain`, where that is cheaper
  for the same quality; see `effects.join_runs`, which logs why. A chain that is
  in the DAG as a node takes one input of controls for each of its plugins.

  Args:
    encoder: Layer from audio to an embedding [batch, n_frames, width]. It has
      `hop_size`, the samples per frame, or None if it gives one for all.
    processor_group: DAG from {'audio', controls} to audio. It is checked here.
    losses: Losses of (target audio, audio); their sum is trained.
    sample_rate: Rate of the audio that the encoder hears, in Hz.
    output_splits: (name, size) of further inputs of the DAG, such as a DDSP
      synth's; they get linear heads.
    name: Name of the model.

  Raises:
    ValueError: A DAG that cannot run, or an input that nothing gives.
  """

  def __init__(
    self,
    encoder: tfkl.Layer = gin.REQUIRED,
    processor_group: ddsp.processors.ProcessorGroup = gin.REQUIRED,
    losses: Sequence[tfkl.Layer] = gin.REQUIRED,
    sample_rate: int = 16000,
    output_splits: Sequence[tuple[str, int]] = (),
    name: str = 'control_model',
  ):
    super().__init__(name=name)
    self.encoder = encoder
    self.processor_group = effects.join_runs(processor_group)
    self.loss_objs = list(losses)
    self.sample_rate = sample_rate
    self.driven = self._find_driven()  # {input of the DAG: processor}
    sizes = dict(output_splits)
    processors.check_dag(
      self.processor_group.dag, {'audio', 'target', *self.driven, *sizes}
    )
    self.heads = {
      key: _sigmoid_head(p.n_controls, p.default_controls, f'{key}_head')
      for key, p in self.driven.items()
    }
    for key, size in sizes.items():
      self.heads[key] = tfkl.Dense(size, name=f'{key}_head')

  def _find_driven(self):
    """Returns {input of the DAG: the processor whose controls it is}."""
    free = set(processors.input_names(self.processor_group.dag))
    driven = {}
    for node in self.processor_group.dag:
      processor = getattr(self.processor_group, node[0])
      if not hasattr(processor, 'default_controls'):
        continue
      members = getattr(processor, 'plugins', [processor])
      keys = processors.node_keys(node)[1:]
      if not keys and not processor.n_controls:
        continue
      if len(keys) < len(members) or len(keys) > len(members) > 1:
        raise ValueError(
          f'Node {node[0]!r} of the DAG has the inputs {node[1]!r}; it takes '
          + _needed_inputs(node[0], members)
        )
      for key, member in zip(keys, members):
        key = key.removeprefix('inputs/')
        if key not in free:
          continue  # from another node
        if key in driven or key in ('audio', 'target'):
          raise ValueError(
            f'Node {member.name!r} of the DAG takes {key!r} as its controls, '
            'which '
            + (
              f'are those of {driven[key].name!r}'
              if key in driven
              else 'is audio'
            )
            + f". Name them for it alone, such as '{member.name}_controls'."
          )
        driven[key] = member
    return driven

  def predict_controls(self, audio: tf.Tensor) -> dict[str, tf.Tensor]:
    """Listens to audio and says how to set the processors.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels], at the
        encoder's rate.

    Returns:
      Inputs of the DAG by name, each [batch, n_frames, size]; in [0, 1] for
      plugins.
    """
    embedding = self.encoder(audio)
    return {key: head(embedding) for key, head in self.heads.items()}

  def port_values(self, outputs) -> dict[str, tf.Tensor]:
    """Returns what the driven processors are set to, in port units.

    Args:
      outputs: Outputs of the DAG, as `call` returns them.

    Returns:
      Controls [batch, n_frames, n_controls] by the name of the processor.
    """
    values = {}
    for name, processor in processors.nodes(self.processor_group).items():
      if hasattr(processor, 'plugins'):
        parts = processor.split_controls(outputs[name]['controls']['controls'])
        values.update(zip([p.name for p in processor.plugins], parts))
      elif processor in self.driven.values():
        values[name] = outputs[name]['controls']['controls']
    return values

  def call(self, features, return_losses=False, training=False):
    """Runs the model.

    Args:
      features: {'audio': [batch, n_samples(, n_channels)]}, and 'target' of
        the same shape if losses are wanted; what else is there the DAG may use.
      return_losses: Whether to return (outputs, losses).
      training: Not used: the parts behave alike in training and use.

    Returns:
      Outputs of the DAG by node, and at 'audio_synth' its audio; with
      return_losses also {name of loss: value, 'total_loss': their sum}.
    """
    del training
    self._check_length(features['audio'])
    inputs = {**features, **self.predict_controls(features['audio'])}
    outputs = self.processor_group.get_controls(inputs)
    audio = self.processor_group.get_signal(outputs)
    outputs = {**outputs, 'audio_synth': audio}
    if not return_losses:
      return outputs
    losses = {}
    for loss in self.loss_objs:
      losses.update(loss.get_losses_dict(features['target'], audio))
    if self.losses:  # what layers add, such as a proxy's error
      losses['added_loss'] = tf.add_n(self.losses)
    losses['total_loss'] = tf.add_n(list(losses.values()))
    return outputs, losses

  def _check_length(self, audio):
    hop_size, n_samples = self.encoder.hop_size, audio.shape[1]
    if hop_size and n_samples is not None and n_samples % hop_size:
      raise ValueError(
        f"The audio has {n_samples} samples, no multiple of the encoder's "
        f'hop_size={hop_size}: its controls would be stretched. Take '
        f'{n_samples // hop_size * hop_size} samples, or pad it to '
        f'{-(-n_samples // hop_size) * hop_size}.'
      )

  @staticmethod
  def get_audio_from_outputs(outputs) -> tf.Tensor:
    """Returns the audio of `call`'s outputs."""
    return outputs['audio_synth']
