"""`ProxyLV2Plugin` takes a plugin's gradients from a network beside it."""

import zlib
from collections.abc import Mapping
from typing import Any

import gin
import tensorflow as tf

from dafx import core, processors
from dafx.effects import plugins as lv2_plugins
from dafx.effects import render_ops

_MODES = ('forward_plugin', 'proxy')


@gin.register(module='dafx.effects')
class ProxyLV2Plugin(processors.Processor):
  """A plugin, and a network that learns to sound like it.

  Gradients to controls and audio are the network's: they have no noise and cost
  no renders, and are as good as the network. It learns in the same steps, at
  the audio of the batch and at controls near those of the batch, for it has to
  know what a change of them does. Its squared error, relative to the power of
  the plugin's output, is added to the losses of the model (`add_loss`); the
  other losses do not train it. Steinmetz, Bryan and Reiss (2022, "Style
  transfer of audio effects with differentiable signal processing") take a
  network that was trained before.

  Args:
    plugin: The plugin; its own estimators are not used.
    network: Keras layer from audio, [batch, n_samples], and controls in [0, 1],
      shape [batch, n_frames, n_controls], to audio, such as those of
      `dafx.neural` with as many knobs as the plugin has controls.
    mode: What is heard: 'forward_plugin' (the plugin, with the network's
      gradients) or 'proxy' (the network).
    proxy_weight: Weight of the network's error in the losses; 0 if it is not to
      be trained, and then the mode 'proxy' renders nothing.
    name: Name of the layer, which is the node's in a DAG.

  Raises:
    ValueError: An unknown mode, a weight or spread out of its range, or a
      `DiscreteLV2Plugin`.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import effects
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> from dafx import neural
    >>> compressor = effects.LV2Plugin(uri, trainable=['threshold'])
    >>> network = neural.DilatedConv(2, 3, conditioning='film', n_knobs=1)
    >>> proxy = effects.ProxyLV2Plugin(compressor, network)
    >>> proxy(tf.zeros([1, 1000]), tf.fill([1, 1], 0.5)).shape
    TensorShape([1, 1000])
  """

  control_map: core.ControlMap
  receptive_field = None
  changeable = ('mode', 'proxy_weight', 'spread')
  free_arguments = (
    *processors.Processor.free_arguments,
    *('mode', 'plugin', 'proxy_weight', 'spread'),
  )

  is_black_box = True

  def __init__(
    self,
    plugin: lv2_plugins.LV2Plugin,
    network: tf.keras.layers.Layer,
    mode: str = 'forward_plugin',
    proxy_weight: float = 1.0,
    spread: float = 0.5,
    name: str = 'proxy_lv2_plugin',
  ):
    # DDSP's processors are not trainable unless they say so.
    super().__init__(name=name, trainable=True)
    if mode not in _MODES:
      raise ValueError(f'mode={mode!r} must be one of {_MODES}.')
    if not proxy_weight >= 0.0:
      raise ValueError(f'proxy_weight={proxy_weight} must be at least 0.')
    if not 0.0 <= spread <= 1.0:
      raise ValueError(f'spread={spread} must be from 0 to 1.')
    if isinstance(plugin.control_map, core.ChoiceMap):
      raise ValueError(
        f'{plugin.name!r} chooses by scores, which no network is like. Put its '
        'choices into `fixed` of an LV2Plugin.'
      )
    self.processor = plugin
    self.control_map = plugin.control_map
    self.network = network
    self.mode = mode
    self.proxy_weight = proxy_weight
    self.spread = spread
    # Counts the draws of controls; with the model in a checkpoint.
    self.draw = tf.Variable(
      0, trainable=False, dtype=tf.int64, name=f'{name}/draw'
    )

  @property
  def uri(self) -> str:
    """URI of the plugin."""
    return self.processor.uri

  @property
  def identity(self) -> str:
    """URI of the plugin."""
    return self.uri

  @property
  def version(self) -> str:
    """Version of the plugin."""
    return self.processor.version

  @property
  def port_values(self) -> Mapping[str, float]:
    """Values of the plugin's ports that nobody sets, by symbol."""
    return self.processor.port_values

  @property
  def parameter_values(self) -> Mapping[str, Any]:
    """What the plugin was given beyond its ports, such as files, by URI."""
    return self.processor.parameter_values

  @property
  def state_preset(self) -> str:
    """URI of a preset whose state was restored, beyond ports; '' for none."""
    return self.processor.state_preset

  def hold_ports(self, values: Mapping[str, float]):
    """Sets ports of `port_values`; as of `LV2Plugin`."""
    self.processor.hold_ports(values)

  @property
  def is_isolated(self) -> bool:
    """Whether the plugin runs in processes of its own."""
    return self.processor.is_isolated

  @property
  def title(self) -> str:
    """Name of the node, and that of the plugin."""
    return f'{self.name}: {self.processor.plugin.name}'

  @property
  def sample_rate(self) -> int:
    """Rate of the audio, in Hz; the network has no other."""
    return self.processor.sample_rate

  @property
  def latency(self) -> int:
    """Samples by which the plugin is late; they are taken out."""
    return self.processor.latency

  def get_controls(
    self, audio: tf.Tensor, controls: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Maps network outputs to port units.

    Args:
      audio: Shape [batch, n_samples].
      controls: In [0, 1], shape [batch, n_frames, n_controls], or [batch,
        n_controls] for one setting per item. What lies outside is clipped.

    Returns:
      {'audio': as it came, 'controls': port units, 'unit_controls': in [0, 1],
      both [batch, n_frames, n_controls]}.

    Raises:
      ValueError: Controls of another number than the plugin's.
    """
    names = ', '.join(self.control_map.symbols)
    unit = render_ops.read_controls(self, audio, controls, f'for {names}')
    ports = self.control_map.to_port_units(unit)
    return dict(audio=audio, controls=ports, unit_controls=unit)

  def get_signal(
    self, audio: tf.Tensor, controls: tf.Tensor, unit_controls: tf.Tensor
  ) -> tf.Tensor:
    """Renders audio, or lets the network do it.

    Args:
      audio: Shape [batch, n_samples].
      controls: In port units, shape [batch, n_frames, n_controls].
      unit_controls: The same in [0, 1].

    Returns:
      Audio of shape [batch, n_samples].

    Raises:
      ValueError: Audio with channels.
    """
    audio = core.audio_tensor('audio', audio)
    if audio.shape.rank != 2:
      raise ValueError(
        f'audio has shape {audio.shape}; {self.name!r} takes [batch, '
        'n_samples].'
      )
    held = tf.stop_gradient(unit_controls)
    if self.mode == 'forward_plugin':
      signal = self.processor.get_signal(
        tf.stop_gradient(audio), tf.stop_gradient(controls)
      )
    else:
      signal = self.network(tf.stop_gradient(audio), held)
    signal = tf.stop_gradient(signal)
    if self.proxy_weight:
      heard = signal if self.mode == 'forward_plugin' else None
      self._add_error(tf.stop_gradient(audio), held, heard)
    return self._with_gradients(signal, audio, unit_controls)

  def _add_error(self, audio, unit_controls, heard):
    """Adds the network's error to the losses.

    Args:
      audio: Shape [batch, n_samples].
      unit_controls: In [0, 1], shape [batch, n_frames, n_controls].
      heard: What the plugin makes of these, where that is known.
    """
    if self.spread or heard is None:
      # With the name, so that two proxies of a graph draw other controls.
      seed = self.run_seed + zlib.crc32(self.name.encode())
      offset = core.uniform_by_item(
        audio,
        [1, self.control_map.n_controls],
        [seed, self.draw],
        -self.spread,
        self.spread,
        self.workers,
      )
      self.draw.assign_add(1)
      unit_controls = tf.clip_by_value(unit_controls + offset, 0.0, 1.0)
      heard = self.processor.get_signal(
        audio, self.control_map.to_port_units(unit_controls)
      )
      heard = tf.stop_gradient(heard)
    error = tf.reduce_mean((self.network(audio, unit_controls) - heard) ** 2)
    power = tf.reduce_mean(heard**2)
    self.add_loss(self.proxy_weight * error / (power + 1e-6))

  def _with_gradients(self, signal, audio, unit_controls):
    """Returns the signal, with the network's gradients to what it is given."""

    @tf.custom_gradient
    def through(audio, unit_controls):
      def gradient(cotangent):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
          tape.watch([audio, unit_controls])
          likeness = self.network(audio, unit_controls)
        return tape.gradient(
          likeness,
          [audio, unit_controls],
          cotangent,
          unconnected_gradients='zero',
        )

      return tf.identity(signal), gradient

    return through(audio, unit_controls)
