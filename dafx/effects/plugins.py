"""`LV2Plugin` makes a DDSP processor of any LV2 plugin."""

import logging
import zlib
from collections.abc import Mapping, Sequence

import gin
import numpy as np
import tensorflow as tf

from dafx import core, gradients, lv2
from dafx.effects import estimated, plugin_streams

_log = logging.getLogger('dafx.effects')

_GRADIENTS = ('spsa', 'central_differences')
_INPUT_GRADIENTS = (
  'adjoint',
  'reversal',
  'gain_filter',
  'straight_through',
  'none',
)
_CHANNELS = ('mono', 'stereo')
# Controls in Hz are moved up to this part of the sample rate.
_HIGHEST_FREQUENCY = 0.49
# The response to a change of the controls is looked for in this time.
_RESPONSE_S = 0.25


@gin.register(module='dafx.effects')
class LV2Plugin(estimated.BlackBoxProcessor):
  """Any LV2 plugin as a processor with gradients.

  Audio is [batch, n_samples] or [batch, n_samples, n_channels]. Mono audio
  feeds all audio inputs of the plugin and comes back as mono, the mean of its
  outputs, unless `channels` is 'stereo'. Audio with channels goes to the audio
  inputs in port order; a plugin with one input and one output renders each
  channel by itself, under the same controls.

  Controls are [batch, n_frames, n_controls]: frame t holds from sample t * hop
  on, hop being n_samples / n_frames rounded up. One frame is a static setting.

  The gradient to the controls is an estimate by renders at controls nearby
  (`dafx.gradients`); that to the audio too, by one of several ways, of which
  'adjoint' takes the one that agrees best with differences along a few
  directions. It checks at its first call, at the hundredth and at every
  thousandth, with some 40 to 60 renders of up to four items; the choice is kept
  in checkpoints.

  Args:
    uri: URI of the plugin.
    trainable: Symbols of the controls that come from a network, in its order.
      By default all that take a range of values.
    fixed: Values of other controls by symbol, in port units. All else stays at
      the plugin's defaults.
    ranges: (low, high) in port units, by symbol, where a trainable control is
      to move in less than the plugin's range. What is in Hz stays below half
      of the sample rate.
    scales: 'log' or 'linear' by symbol, where not what the port suggests.
    sample_rate: Rate of the audio, in Hz.
    block_size: Largest number of samples per run of the plugin.
    channels: What mono audio comes back as: 'mono' or 'stereo' (all outputs).
    gradient: Estimator of the gradient to the controls: 'spsa' or
      'central_differences' (slow, without noise).
    n_probes: Directions per item and step for 'spsa'; `sides` renders each.
    sides: For 'spsa', 2 renders each direction and its opposite, 1 compares
      with what was rendered already; half the cost, and less exact.
    epsilon: Size of the perturbation, of the control's range.
    epsilons: Other sizes for single controls, by symbol.
    epsilon_decay: Exponent by which perturbations get smaller; see
      `gradients.ControlEstimator`. 0 keeps them.
    epsilon_decay_steps: Steps after which they are divided by 2 to the power of
      that.
    memory: Frames after its own that a frame of controls is credited with;
      None for the whole rest of the item; 'auto' for as long as the plugin
      responds, which is measured once (`gradients.response_memory`). With
      'auto', 'spsa' perturbs a static setting in several directions in turn
      within an item (`gradients.frames_of_probes`).
    hold: Frames that 'spsa' moves together, for controls that vary slowly.
    smoothing: Frames to either side that estimates of 'spsa' are averaged with,
      for gradients that vary slowly; 2 is good where probes are few.
    directions: 'hadamard' or 'rademacher'; see `gradients.draw_directions`.
    input_gradient: Gradient to the audio: 'adjoint' (the best of the three
      next, by a check), 'reversal' (time reversal; two renders, and exact for
      linear plugins), 'gain_filter' (for gains that ride on the level; eleven
      renders), 'straight_through' (as if the plugin were a wire) or 'none'
      (asking for it is an error). Nothing is rendered unless something before
      the plugin is trained.
    input_epsilon: Size of the perturbation of the audio for 'reversal',
      relative to the audio; 1 for a plugin that is linear in its audio, 0.01
      for a hard distortion. None for 0.1, and for what 'adjoint' finds best.
    log_gradients: Whether to keep figures of each control gradient in
      `gradient_stats`, from where the trainer writes them to TensorBoard.
    seed: Seed of the directions; the name is mixed in, so that the plugins of
      a chain draw different ones.
    n_threads: Items rendered side by side; all processors by default.
    compensate_latency: Whether to take the plugin's latency out.
    warm_up: Samples of silence before each item, which hide what plugins do at
      their start.
    strict: Whether output that is not finite is an error.
    isolation: Where the plugin runs: 'thread' (of this process) or 'process',
      in which one that crashes or hangs costs an lv2.PluginError, not the run.
    name: Name of the layer, which is the node's in a DAG.

  Raises:
    ValueError: An unknown plugin, symbol or option, or a value or range outside
      the plugin's; the message names what is allowed.
    lv2.PluginError: The plugin cannot be run here.
  """

  has_free_rate = True
  receptive_field = None
  changeable = (
    'sample_rate',
    'channels',
    'gradient',
    'n_probes',
    'sides',
    'epsilon_decay',
    'epsilon_decay_steps',
    'memory',
    'hold',
    'smoothing',
    'directions',
    'input_gradient',
    'input_epsilon',
    'log_gradients',
  )

  def __init__(
    self,
    uri: str,
    trainable: Sequence[str] | None = None,
    fixed: Mapping[str, float] | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
    scales: Mapping[str, str] | None = None,
    sample_rate: int = 16000,
    block_size: int = 1024,
    channels: str = 'mono',
    gradient: str = 'spsa',
    n_probes: int = 1,
    sides: int = 2,
    epsilon: float = 0.01,
    epsilons: Mapping[str, float] | None = None,
    epsilon_decay: float = 0.0,
    epsilon_decay_steps: int = 1000,
    memory: int | str | None = 'auto',
    hold: int = 1,
    smoothing: int = 0,
    directions: str = 'hadamard',
    input_gradient: str = 'adjoint',
    input_epsilon: float | None = None,
    log_gradients: bool = False,
    seed: int = 0,
    n_threads: int | None = None,
    compensate_latency: bool = True,
    warm_up: int = 1024,
    strict: bool = False,
    isolation: str = 'thread',
    name: str = 'lv2_plugin',
  ):
    super().__init__(name=name)
    for option, value, allowed in (
      ('channels', channels, _CHANNELS),
      ('gradient', gradient, _GRADIENTS),
      ('input_gradient', input_gradient, _INPUT_GRADIENTS),
      ('directions', directions, gradients.DIRECTIONS),
    ):
      if value not in allowed:
        raise ValueError(f'{option}={value!r} must be one of {allowed}.')
    self.uri = uri
    self.channels = channels
    self.gradient = gradient
    self.n_probes = n_probes
    self.sides = sides
    self.epsilon = epsilon
    self.epsilon_decay = epsilon_decay
    self.epsilon_decay_steps = epsilon_decay_steps
    self.memory = memory
    self.hold = hold
    self.smoothing = smoothing
    self.directions = directions
    self.input_gradient = input_gradient
    self.input_epsilon = input_epsilon
    self.log_gradients = log_gradients
    self.gradient_stats = {}
    self.n_renders = 0  # items rendered so far, forward and for gradients
    self.seed = seed + zlib.crc32(name.encode())
    # Counts the steps of training, so that each draws directions of its own;
    # with the model in a checkpoint, a resumed run draws what it would have.
    self.gradient_step = self.add_counter('gradient_step', 0)
    # What 'adjoint' has chosen, -1 for nothing yet; how often it was asked.
    self.input_choice = self.add_counter('input_choice', [-1, 0])
    self.input_factor = self.add_counter('input_factor', 1.0, tf.float32)

    fixed = dict(fixed or {})
    if trainable is None:
      trainable = [
        p.symbol
        for p in lv2.get_plugin(uri).controls.values()
        if not p.is_discrete and p.symbol not in fixed
      ]
    self._renderer_options = dict(
      uri=uri,
      controls=tuple(trainable),
      fixed=fixed,
      block_size=block_size,
      n_threads=n_threads,
      compensate_latency=compensate_latency,
      warm_up=warm_up,
      strict=strict,
      isolation=isolation,
    )
    self.set_sample_rate(sample_rate)
    self._set_ranges(dict(ranges or {}), dict(scales or {}))
    self._epsilons = dict(epsilons or {})
    self.epsilons_at(0)  # checks them

  def arguments(self):
    """Returns arguments of the constructor that make a plugin like this one."""
    # By name, whatever ports another version of the plugin has.
    return {**super().arguments(), 'trainable': list(self.symbols)}

  @property
  def sample_rate(self) -> int:
    """Rate of the audio, in Hz."""
    return self._sample_rate

  @sample_rate.setter
  def sample_rate(self, sample_rate: int):
    self.set_sample_rate(sample_rate)

  def set_sample_rate(self, sample_rate: int):
    """Goes on at another rate of the audio; controls keep their meaning."""
    self._sample_rate = sample_rate
    self.renderer = lv2.Renderer(
      sample_rate=sample_rate, **self._renderer_options
    )
    self._memories = {}  # measured, by hop size and number of frames
    self._stream = plugin_streams.PluginStream(
      self,
      lambda: lv2.Renderer(
        sample_rate=sample_rate, stateful=True, **self._renderer_options
      ),
    )

  def _set_ranges(self, ranges, scales):
    """Sets low, high and is_log per control from ports and overrides."""
    plugin = self.plugin
    for option, given in (('ranges', ranges), ('scales', scales)):
      for symbol in given:
        plugin.control(symbol)
        if symbol not in self.symbols:
          raise ValueError(
            f'{option} names {symbol!r}, which is not trainable; trainable '
            f'are {", ".join(self.symbols) or "none"}.'
          )
    lows, highs, is_log = [], [], []
    for symbol in self.symbols:
      port = plugin.control(symbol)
      if port.is_discrete:
        raise ValueError(
          f'{symbol!r} of {self.uri} takes single values only '
          f'({port.describe_range()}): it has no gradient. Set it in `fixed`.'
        )
      bounds = tuple(ranges.get(symbol, (port.minimum, port.maximum)))
      if len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise ValueError(
          f'The range {bounds} of {symbol!r} must be (low, high), low < '
          f'high, within {port.describe_range()}.'
        )
      for bound in bounds:
        lv2.check_value(plugin, symbol, bound)
      bounds = self._below_nyquist(port, bounds)
      scale = scales.get(symbol)
      if scale is None:
        # A narrower range may start above 0 where the port's does not.
        gain_from_zero = port.logarithmic and not port.is_discrete
        scale = 'log' if gain_from_zero and bounds[0] > 0 else port.scale
      if scale not in ('log', 'linear') or (scale == 'log' and bounds[0] <= 0):
        raise ValueError(
          f'scale {scale!r} of {symbol!r}, from {bounds[0]:g} to '
          f"{bounds[1]:g}, must be 'linear', or 'log' for a range above 0."
        )
      lows.append(bounds[0])
      highs.append(bounds[1])
      is_log.append(scale == 'log')
    low, high = np.array(lows, np.float32), np.array(highs, np.float32)
    ports = [plugin.control(symbol) for symbol in self.symbols]
    defaults = np.array([port.default for port in ports])
    defaults = core.range_to_unit(defaults, low, high, is_log)
    self.control_map = core.ControlMap(
      symbols=self.symbols,
      low=low,
      high=high,
      is_log=np.array(is_log, bool),
      defaults=defaults.astype(np.float32),
      units=tuple(port.unit for port in ports),
      fixed=self.renderer.fixed,
    )

  def _below_nyquist(self, port, bounds):
    """Cuts the range of a frequency where filters blow up (Calf's, to 1e38)."""
    low, high = bounds
    limit = _HIGHEST_FREQUENCY * self.sample_rate
    # One that is higher as a whole is no filter's.
    if port.unit != 'Hz' or high <= limit or low >= limit:
      return bounds
    _log.info(
      '%s of %s moves from %g to %g Hz, not to %g: the rate is %g Hz.',
      port.symbol, self.name, low, limit, high, self.sample_rate,
    )  # fmt: skip
    return low, limit

  def control_estimator(self) -> gradients.ControlEstimator:
    """Returns what estimates the gradient to the controls."""
    options = dict(
      epsilon=self.epsilon,
      epsilons=self._epsilons,
      epsilon_decay=self.epsilon_decay,
      epsilon_decay_steps=self.epsilon_decay_steps,
    )
    if self.gradient == 'central_differences':
      return gradients.CentralDifferences(**options)
    return gradients.Spsa(
      n_probes=self.n_probes,
      sides=self.sides,
      memory=self.memory,
      hold=self.hold,
      smoothing=self.smoothing,
      directions=self.directions,
      **options,
    )

  def audio_adjoint(self) -> gradients.AudioAdjoint:
    """Returns what estimates the gradient to the audio."""
    size = self.input_epsilon
    if self.input_gradient == 'adjoint':
      best = gradients.BestAdjoint
      return best() if size is None else best(epsilons=(size,))
    if self.input_gradient == 'reversal':
      reversal = gradients.Reversal
      return reversal() if size is None else reversal(epsilon=size)
    return {
      'gain_filter': gradients.GainFilter,
      'straight_through': gradients.StraightThrough,
      'none': gradients.NoAudioGradient,
    }[self.input_gradient]()

  def epsilons_at(self, step: int) -> np.ndarray:
    """Returns the sizes of the perturbations at a step, [n_controls]."""
    return self.control_estimator().epsilons_at(self.symbols, int(step))

  @property
  def plugin(self) -> lv2.Plugin:
    """What the plugin says of itself."""
    return self.renderer.plugin

  @property
  def symbols(self) -> tuple[str, ...]:
    """Symbols of the trainable controls, in order."""
    return self.renderer.controls

  @property
  def n_controls(self) -> int:
    """Number of trainable controls."""
    return len(self.symbols)

  @property
  def identity(self) -> str:
    """URI of the plugin."""
    return self.uri

  def gradient_figures(self):
    """Returns figures of the last gradient; see `log_gradients`."""
    return self.gradient_stats

  def get_controls(self, audio: tf.Tensor, controls: tf.Tensor | None = None):
    """Maps network outputs to port units.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: In [0, 1], shape [batch, n_frames, n_controls], or [batch,
        n_controls] for one setting per item. What lies outside is clipped. None
        for a plugin without trainable controls.

    Returns:
      {'audio': as it came, 'controls': port units, [batch, n_frames,
      n_controls]}.

    Raises:
      ValueError: Controls of another number than the plugin's.
    """
    if controls is None:
      controls = tf.zeros([core.batch_size(audio), 1, 0])
    controls = tf.cast(controls, tf.float32)
    if controls.shape.rank == 2:
      controls = controls[:, tf.newaxis, :]
    if controls.shape.rank != 3 or controls.shape[-1] != self.n_controls:
      raise ValueError(
        f'controls has shape {controls.shape}; {self.name!r} takes [batch, '
        f'n_frames, {self.n_controls}] for {", ".join(self.symbols)}.'
      )
    unit = tf.clip_by_value(controls, 0.0, 1.0)
    return dict(audio=audio, controls=self.control_map.to_port_units(unit))

  def get_signal(self, audio: tf.Tensor, controls: tf.Tensor) -> tf.Tensor:
    """Renders audio through the plugin.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].

    Returns:
      Audio of shape [batch, n_samples] for mono, else [batch, n_samples,
      n_channels].

    Raises:
      ValueError: A number of channels that the plugin does not take.
    """
    audio, is_mono = estimated.with_channels(audio)
    self.check_channels(audio.shape[-1])
    n_out = self.n_channels_out(audio.shape[-1])

    def to_controls(*arrays):
      return [self.control_gradient(*arrays)]

    def to_audio(audio, controls, n_calls, upstream):
      return self.audio_gradient(audio, controls, upstream, n_calls)

    def check():
      estimated.check_input_gradient(self.name, [self])
      self._check_adjoint(audio.shape[-1], n_out)

    # Two terms, so that each gradient is worked out only if it is asked for.
    signal = estimated.render_with_gradient(
      self.render,
      to_controls,
      tf.stop_gradient(audio),
      [controls],
      n_out,
      self.gradient_step,
    )
    # How often it was asked is read here, so that asked twice it is the same.
    n_calls = tf.identity(self.input_choice[1])
    signal += estimated.carry_audio_gradient(
      to_audio, audio, [controls, n_calls], n_out, check
    )
    return signal[..., 0] if is_mono and signal.shape[-1] == 1 else signal

  @property
  def latency(self) -> int:
    """Samples by which `stream` is late; `get_signal` takes them out."""
    return self.renderer.latency

  @property
  def block_size(self) -> int:
    """Largest number of samples per run of the plugin."""
    return self.renderer.block_size

  def initial_state(self, batch_size: int) -> tf.Tensor:
    """Begins a stream, and ends the one before; see `plugin_streams`.

    Args:
      batch_size: Number of items, which `stream` sees by itself.

    Returns:
      The state before the first sample; it can be streamed from once.

    Raises:
      ValueError: The plugin runs whole blocks only.
    """
    del batch_size
    return self._stream.begin()

  def stream(self, state, audio: tf.Tensor, controls: tf.Tensor):
    """Renders the next chunk.

    Args:
      state: From `initial_state`, or from the chunk before.
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].

    Returns:
      (audio, late by `latency`, and the state). It has no gradient: asking for
      one raises ValueError.

    Raises:
      ValueError: A number of channels that the plugin does not take.
    """
    return self._stream.go_on(state, audio, controls)

  @property
  def _is_mono_plugin(self) -> bool:
    """Whether channels of the audio are rendered each by itself."""
    n_in, n_out = self.renderer.n_channels_in, self.renderer.n_channels_out
    return (n_in, n_out) == (1, 1)

  def check_channels(self, n_channels):
    """Raises ValueError where the plugin does not take so many channels.

    Args:
      n_channels: Number of channels of the audio.

    Raises:
      ValueError: The plugin takes another number.
    """
    n_in = self.renderer.n_channels_in
    if n_channels not in (1, n_in) and not self._is_mono_plugin:
      inputs = ', '.join(p.symbol for p in self.plugin.audio_inputs)
      raise ValueError(
        f'audio has {n_channels} channels; {self.name!r} ({self.uri}) takes '
        f'{n_in} ({inputs}), or mono.'
      )

  def n_channels_out(self, n_channels: int) -> int:
    """Returns the number of channels that come out.

    Args:
      n_channels: Number of channels that go in.
    """
    if self._is_mono_plugin:
      return n_channels
    is_mono = n_channels == 1 and self.channels == 'mono'
    return 1 if is_mono else self.renderer.n_channels_out

  def render(
    self,
    audio: np.ndarray,
    controls: np.ndarray,
    hop_size: int | None = None,
    renderer: lv2.Renderer | None = None,
  ) -> np.ndarray:
    """Renders NumPy audio; `get_signal` without gradients.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      hop_size: Samples per frame; n_samples / n_frames rounded up by default.
      renderer: What renders, if not `self.renderer`.

    Returns:
      Audio of shape [batch, n_samples, n_channels out].
    """
    renderer = renderer or self.renderer
    n_items, n_samples, n_channels = audio.shape
    self.n_renders += n_items
    if self._is_mono_plugin and n_channels > 1:
      # Channels become items of their own.
      audio = np.moveaxis(audio, -1, 1).reshape(-1, n_samples, 1)
      controls = np.repeat(controls, n_channels, axis=0)
      signal = renderer.render(audio, controls, hop_size)
      return np.moveaxis(signal.reshape(n_items, n_channels, n_samples), 1, -1)
    signal = renderer.render(audio, controls, hop_size)
    if signal.shape[-1] != self.n_channels_out(n_channels):
      # Divided first: the sum of samples near the largest float is infinite,
      # and the host has looked at what the plugin gave already.
      share = np.float32(1.0 / signal.shape[-1])
      signal = (share * signal).sum(axis=-1, keepdims=True)
    return signal

  def control_gradient(
    self, audio, controls, upstream, step, signal=None
  ) -> np.ndarray:
    """Estimates the gradient to the controls.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      upstream: Gradient to the output, [batch, n_samples, n_channels out].
      step: Training step, for the directions.
      signal: The output, where it is known, for `sides` = 1.

    Returns:
      Gradient in port units, shape [batch, n_frames, n_controls], float32.
    """

    def render(points, items):
      values = self.control_map.to_port_units(points).astype(np.float32)
      return self.render(audio[items], values)

    step = int(step)
    unit = self.control_map.to_normalised(controls)
    estimates = self.control_estimator().estimates(
      render,
      unit,
      upstream,
      symbols=self.symbols,
      measure_memory=self.measure_memory,
      signal=signal,
      seed=self.seed,
      step=step,
    )
    if self.log_gradients:
      self.gradient_stats = estimated.gradient_figures(
        self.symbols, estimates, unit, self.epsilons_at(step), self.n_renders
      )
    slope = self.control_map.slope(controls)
    return (estimates.mean(0) / slope).astype(np.float32)

  def find_memory(self, n_samples: int, n_frames: int) -> int | None:
    """Returns the memory of the control gradient, measured if it is 'auto'.

    Args:
      n_samples: Samples of an item.
      n_frames: Its frames of controls.

    Returns:
      Frames after its own that a frame is credited with; None for all.
    """
    if self.memory != 'auto':
      return self.memory
    return self.measure_memory(n_samples, n_frames)

  def measure_memory(self, n_samples: int, n_frames: int) -> int:
    """Measures for how many frames the plugin responds, once for each hop.

    Args:
      n_samples: Samples of an item.
      n_frames: Its frames of controls.

    Returns:
      Frames after its own in which a change of a frame's controls is heard.
    """
    hop_size = -(-n_samples // n_frames)
    n_frames = min(
      n_frames, max(12, round(_RESPONSE_S * self.sample_rate / hop_size))
    )
    if n_frames == 1 or not self.n_controls:
      return 0
    key = (hop_size, n_frames)
    if key not in self._memories:
      # Audio of its own, so that a resumed run measures the same.
      shape = (2, n_frames * hop_size, 1)
      audio = 0.1 * np.random.default_rng(0).standard_normal(shape)

      def render(points, items):
        values = self.control_map.to_port_units(points).astype(np.float32)
        return self.render(audio[items], values, hop_size)

      self._memories[key] = gradients.response_memory(
        render, len(audio), n_frames, self.n_controls, hop_size
      )
      _log.info(
        '%s responds to its controls for %d frames of %d samples beyond their '
        'own.', self.name, self._memories[key], hop_size,
      )  # fmt: skip
    return self._memories[key]

  def audio_gradient(
    self, audio, controls, upstream, n_calls=None
  ) -> np.ndarray:
    """Estimates the gradient to the audio, by `input_gradient`.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_controls].
      upstream: Gradient to the output, [batch, n_samples, n_channels out].
      n_calls: How often it was asked before, for the directions and for when
        'adjoint' checks itself; counted by default.

    Returns:
      Gradient of the shape of the audio, float32.

    Raises:
      ValueError: A way that does not fit the numbers of channels.
    """
    n_items, n_samples, n_channels = audio.shape
    choice, counted = (int(value) for value in self.input_choice.numpy())
    n_calls = counted if n_calls is None else int(n_calls)
    if self._is_mono_plugin and n_channels > 1:

      def as_items(signals):
        return np.moveaxis(signals, -1, 1).reshape(-1, n_samples, 1)

      gradient = self.audio_gradient(
        as_items(audio),
        np.repeat(controls, n_channels, axis=0),
        as_items(upstream),
        n_calls,
      )
      return np.moveaxis(gradient.reshape(n_items, n_channels, -1), 1, -1)
    n_frames = controls.shape[1]
    hop_size = -(-n_samples // n_frames)
    # Whole frames, so that they have the same borders backwards.
    padding = ((0, 0), (0, n_frames * hop_size - n_samples), (0, 0))
    audio, upstream = np.pad(audio, padding), np.pad(upstream, padding)

    def render(signals, items, backwards):
      values = controls[items]
      values = values[:, ::-1] if backwards else values
      return self.render(signals.astype(np.float32), values)

    gradient, state = self.audio_adjoint().pull_back(
      render,
      audio,
      upstream,
      sample_rate=self.sample_rate,
      state=gradients.AdjointState(choice, float(self.input_factor.numpy())),
      seed=self.seed,
      step=n_calls,
    )
    if state.report:
      _log.log(
        logging.INFO if state.is_sure else logging.WARNING,
        'The gradient to the audio of %s is %s.', self.name, state.report,
      )  # fmt: skip
    self.input_factor.assign(state.factor)
    self.input_choice.assign([state.choice, n_calls + 1])
    return gradient[:, :n_samples].astype(np.float32)

  def _check_adjoint(self, n_in, n_out):
    """Raises ValueError where `input_gradient` does not fit the channels."""
    if not self.audio_adjoint().takes(n_in, n_out):
      raise ValueError(
        f'{self.name!r} makes {n_out} channels of {n_in}: there is no '
        f"input_gradient={self.input_gradient!r} for that. Choose 'adjoint'."
      )
