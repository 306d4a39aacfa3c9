"""What all networks share: inputs, streaming, and small layers."""

import functools
import itertools
import math
from typing import Any

import tensorflow as tf

from dafx import core, processors


class Network(processors.Processor):
  """A network from audio to audio, as a node of a DAG.

  Mono audio is [batch, n_samples]; the channels of [batch, n_samples,
  n_channels] go through the network one by one, as more items of the batch
  (`initial_state` then takes batch * n_channels).

  Subclasses give `initial_state(batch_size)` and `process(state, audio, knobs)`
  on [batch, n_samples, 1]. One path serves training, evaluation and streaming:
  `get_signal(audio)` is `stream(initial_state(batch_size), audio)[0]`.

  Args:
    n_knobs: Number of knobs; 0 for a network without.
    name: Name of the node.

  Raises:
    ValueError: A negative number of knobs.
  """

  receptive_field = None

  def __init__(self, n_knobs, name):
    super().__init__(name=name, trainable=True)
    if n_knobs < 0:
      raise ValueError(f'n_knobs is {n_knobs}; it is 0 or more.')
    self.n_knobs = n_knobs

  def get_controls(self, audio, knobs=None):
    """Checks the inputs.

    Args:
      audio: [batch, n_samples] or [batch, n_samples, n_channels].
      knobs: [batch, n_knobs] or [batch, n_frames, n_knobs], in [0, 1]; frame t
        holds from sample t * hop on, hop being n_samples / n_frames rounded up.

    Returns:
      Arguments of `get_signal`.

    Raises:
      ValueError: Knobs that are missing, not asked for, or too few; audio that
        is not floating point.
    """
    audio = core.audio_tensor('audio', audio)
    if self.n_knobs and knobs is None:
      raise ValueError(
        f'{self.name!r} has {self.n_knobs} knob(s) and was called without. Add '
        "'knobs' to its inputs in the DAG."
      )
    if knobs is None:
      return {'audio': audio}
    if not self.n_knobs:
      raise ValueError(
        f'{self.name!r} has no knobs and was given some. Build it with '
        f'n_knobs={knobs.shape[-1]} and a conditioning that takes them.'
      )
    if knobs.shape[-1] != self.n_knobs:
      raise ValueError(
        f'{self.name!r} has {self.n_knobs} knob(s) and was given '
        f'{knobs.shape[-1]}.'
      )
    return {'audio': audio, 'knobs': knobs}

  def get_signal(self, audio, knobs=None):
    """Returns the network's output for audio, from the initial state on."""
    batch_size = tf.shape(audio)[0]
    if len(audio.shape) == 3:
      batch_size *= audio.shape[-1]
    return self.stream(self.initial_state(batch_size), audio, knobs)[0]

  def stream(self, state, audio, knobs=None):
    """Processes the next chunk.

    Args:
      state: From `initial_state` or the chunk before.
      audio: As `get_controls` takes it. A chunk lies within a frame of
        `frame_size` samples, or starts with a frame.
      knobs: As `get_controls` takes them, for this chunk.

    Returns:
      Signal of the audio's shape, and the state after it.

    Raises:
      ValueError: An unknown number of samples.
    """
    n_samples = audio.shape[1]
    if not n_samples:
      raise ValueError(
        f'{self.name!r} was given audio of shape {audio.shape}; the number of '
        'samples has to be known when the graph is built, and above 0.'
      )
    n_channels = audio.shape[2] if len(audio.shape) == 3 else None
    if n_channels:
      audio = tf.transpose(audio, [0, 2, 1])
      audio = tf.reshape(audio, [-1, n_samples])
      if knobs is not None:
        knobs = tf.repeat(knobs, n_channels, axis=0)
    if knobs is not None and len(knobs.shape) == 2:
      knobs = knobs[:, tf.newaxis]
    signal, state = self.process(state, audio[..., tf.newaxis], knobs)
    signal = signal[..., 0]
    if n_channels:
      signal = tf.reshape(signal, [-1, n_channels, n_samples])
      signal = tf.transpose(signal, [0, 2, 1])
    return signal, state

  def initial_state(self, batch_size):
    """Returns the state before the first sample."""
    raise NotImplementedError  # abstract

  def process(self, state, x, knobs):
    """Processes [batch, n_samples, 1], knobs [batch, n_frames, n_knobs]."""
    raise NotImplementedError  # abstract

  @property
  def n_parameters(self):
    """Number of trainable numbers."""
    return sum(math.prod(v.shape) for v in self.trainable_variables)

  @property
  def macs_per_sample(self):
    """Multiply-accumulates per sample of audio, without activations."""
    raise NotImplementedError  # abstract


class SettlingNetwork(Network):
  """A network that can say what it is after a past in which nothing moved.

  Subclasses give `settle`; the state before the first sample is that after
  silence.

  Attributes:
    n_outputs: Channels that `process` gives. A network whose output is audio
      has one; more are for one that conditions another.
  """

  n_outputs = 1

  def settle(self, batch_size, x):
    """Returns the state after a constant input, and the output then.

    Args:
      batch_size: Number of items of the state.
      x: The input, [1, 1, 1].

    Returns:
      State, and output [1, 1, n_outputs].
    """
    raise NotImplementedError  # abstract

  def initial_state(self, batch_size: int) -> Any:
    """Returns the state after silence."""
    return self.settle(batch_size, tf.zeros([1, 1, 1]))[0]


def check_plain(networks):
  """Raises ValueError where there are no networks, or not all are plain."""
  if not networks:
    raise ValueError('networks is empty; there is at least one.')
  for network in networks:
    if network.n_knobs or network.n_outputs != 1:
      raise ValueError(
        f'{network.name!r} has {network.n_knobs} knob(s) and '
        f'{network.n_outputs} output(s); networks inside of another have no '
        'knobs and one output.'
      )


def hold(frames, n_samples):
  """Holds frames for n_samples.

  Args:
    frames: [batch, n_frames, n].
    n_samples: Length to give.

  Returns:
    [batch, n_samples, n], or [batch, 1, n] as it came where that is one frame.
  """
  n_frames = frames.shape[1]
  if n_frames == 1:
    return frames
  hop = -(-n_samples // n_frames)
  return tf.repeat(frames, hop, axis=1)[:, :n_samples]


def ungrouped(kernel, groups):
  """Returns the kernel of a grouped map as that of a plain one, zeros between.

  Args:
    kernel: [n_taps, n_in / groups, n_out].
    groups: Number of groups; each has its own inputs and outputs.

  Returns:
    [n_taps, n_in, n_out].
  """
  if groups == 1:
    return kernel
  n_taps, n_each, n_out = kernel.shape
  kernel = tf.reshape(kernel, [n_taps, n_each, groups, n_out // groups])
  # TensorFlow has no gradient of grouped convolutions on processors.
  kernel = tf.einsum('tigo,gh->thigo', kernel, tf.eye(groups))
  return tf.reshape(kernel, [n_taps, groups * n_each, n_out])


class Dense(processors.Layer):
  """A linear map of the channels of [..., n_in], with or without bias.

  Weights are uniform within sqrt(groups / n_in), as PyTorch starts them. With
  groups, each group of outputs hears its own group of inputs.
  """

  def __init__(self, n_in, n_out, seeds, use_bias=True, name=None, groups=1):
    super().__init__(name=name, autocast=False)
    self.groups = groups
    n_each = n_in // groups
    bound = n_each**-0.5
    uniform = tf.keras.initializers.RandomUniform
    self.kernel = self.add_weight(
      'kernel',
      [n_each, n_out],
      initializer=uniform(-bound, bound, next(seeds)),
    )
    self.bias: Any = None
    if use_bias:
      self.bias = self.add_weight(
        'bias', [n_out], initializer=uniform(-bound, bound, next(seeds))
      )

  @property
  def macs(self):
    """Multiply-accumulates per sample."""
    return math.prod(self.kernel.shape)

  def call(self, x):
    """Maps [batch, n_samples, n_in] to [batch, n_samples, n_out]."""
    # A convolution, whose gradient to the weights is the faster one.
    kernel = ungrouped(self.kernel[tf.newaxis], self.groups)
    y = tf.nn.conv1d(x, kernel, 1, 'VALID')
    return y if self.bias is None else y + self.bias


@functools.cache
def _has_dilated_gradient():
  """Whether this TensorFlow has the gradient of a dilated convolution.

  On processors it is oneDNN's.
  """
  with tf.init_scope():
    try:
      tf.raw_ops.Conv2DBackpropInput(
        input_sizes=[1, 1, 8, 1],
        filter=tf.zeros([1, 2, 1, 1]),
        out_backprop=tf.zeros([1, 1, 6, 1]),
        strides=[1, 1, 1, 1],
        padding='VALID',
        dilations=[1, 1, 2, 1],
      )
    except tf.errors.InvalidArgumentError:
      return False
  return True


def conv_in_phases(x, kernel, dilation):
  """As `dilated_conv`, by plain convolutions of every dilation-th sample."""
  n_samples, n_in = x.shape[1:]
  n_taps, _, n_out = kernel.shape
  n = -(-n_samples // dilation)
  x = tf.pad(x, [[0, 0], [0, n * dilation - n_samples], [0, 0]])
  x = tf.transpose(tf.reshape(x, [-1, n, dilation, n_in]), [0, 2, 1, 3])
  x = tf.reshape(x, [-1, n, n_in])
  y = tf.nn.conv1d(x, kernel, 1, 'VALID')
  n_left = n - n_taps + 1
  y = tf.reshape(y, [-1, dilation, n_left, n_out])
  y = tf.reshape(tf.transpose(y, [0, 2, 1, 3]), [-1, n_left * dilation, n_out])
  return y[:, : n_samples - (n_taps - 1) * dilation]


def dilated_conv(x, kernel, dilation):
  """Correlates along time, where all taps see samples.

  Args:
    x: [batch, n_samples, n_in].
    kernel: [n_taps, n_in, n_out].
    dilation: Samples between taps.

  Returns:
    [batch, n_samples - (n_taps - 1) * dilation, n_out].
  """
  if dilation > 1 and not _has_dilated_gradient():
    return conv_in_phases(x, kernel, dilation)
  return tf.nn.conv1d(x, kernel, 1, 'VALID', dilations=dilation)


class CausalConv(processors.Layer):
  """A dilated convolution that sees the past alone, with a state.

  Args:
    n_in: Number of channels in.
    n_out: Number of channels out.
    kernel_size: Number of taps.
    dilation: Samples between taps.
    seeds: Iterator of seeds for the weights: uniform within
      sqrt(groups / (n_in * kernel_size)).
    use_bias: Whether it adds a bias.
    name: Name of the layer.
    groups: Number of groups; each group of outputs hears its own inputs.
  """

  def __init__(
    self,
    n_in,
    n_out,
    kernel_size,
    dilation,
    seeds,
    use_bias=True,
    name=None,
    groups=1,
  ):
    super().__init__(name=name, autocast=False)
    self.dilation = dilation
    self.groups = groups
    self.n_past = (kernel_size - 1) * dilation
    self._n_in = n_in
    n_each = n_in // groups
    bound = (n_each * kernel_size) ** -0.5
    uniform = tf.keras.initializers.RandomUniform
    self.kernel = self.add_weight(
      'kernel',
      [kernel_size, n_each, n_out],
      initializer=uniform(-bound, bound, next(seeds)),
    )
    self.bias: Any = None
    if use_bias:
      self.bias = self.add_weight(
        'bias', [n_out], initializer=uniform(-bound, bound, next(seeds))
      )

  @property
  def macs(self):
    """Multiply-accumulates per sample."""
    return math.prod(self.kernel.shape)

  def initial_state(self, batch_size, x):
    """Returns the past [batch, n_past, n_in], all of it x [n_in]."""
    shape = [batch_size, self.n_past, self._n_in]
    return tf.broadcast_to(x, shape)

  def constant(self, x):
    """Returns the output [n_out] for an input that always was x [n_in]."""
    y = tf.einsum('i,kio->o', x, ungrouped(self.kernel, self.groups))
    return y if self.bias is None else y + self.bias

  def call(self, past, x):
    """Maps [batch, n_samples, n_in] to [..., n_out]; returns the new past."""
    x = tf.concat([past, x], 1)
    kernel = ungrouped(self.kernel, self.groups)
    y = dilated_conv(x, kernel, self.dilation)
    if self.bias is not None:
      y = y + self.bias
    return y, x[:, x.shape[1] - self.n_past :]


class PRelu(processors.Layer):
  """max(x, 0) + a min(x, 0), a per channel, 0.25 at first. He et al., 2015."""

  def __init__(self, n_channels, name=None):
    super().__init__(name=name, autocast=False)
    quarter = tf.keras.initializers.Constant(0.25)
    self.slope = self.add_weight('slope', [n_channels], initializer=quarter)

  def call(self, x):
    """Applies it to [..., n_channels]."""
    return tf.maximum(x, 0.0) + self.slope * tf.minimum(x, 0.0)


def seeds_of(seed):
  """Returns an iterator of seeds for the weights of a network, one each."""
  return itertools.count(1_000_003 * seed)


def check_sizes(**sizes):
  """Raises ValueError for sizes that are not whole and at least 1."""
  for key, size in sizes.items():
    if size != int(size) or size < 1:
      raise ValueError(f'{key} is {size}; it is a whole number from 1 on.')


# Least squares against tanh on [-3, 3]; b3 is not 0, where |b3| has no slope.
_TANH_NUMERATOR = (0.0, 1.01375, 0.0, 0.05306, 0.0)
_TANH_DENOMINATOR = (0.05077, 0.34057, 0.01)


class Rational(processors.Layer):
  """A rational function of degrees 4 and 3 without poles, tanh at first.

  P(x) / (1 + |b1 x| + |b2 x^2| + |b3 x^3|). Molina et al., 'Padé activation
  units', ICLR 2020.
  """

  def __init__(self, name=None):
    super().__init__(name=name, autocast=False)
    constant = tf.keras.initializers.Constant
    self.numerator = self.add_weight(
      'numerator', [5], initializer=constant(_TANH_NUMERATOR)
    )
    self.denominator = self.add_weight(
      'denominator', [3], initializer=constant(_TANH_DENOMINATOR)
    )

  def call(self, x):
    """Applies it to a tensor of any shape."""
    a, b = tf.unstack(self.numerator), tf.unstack(tf.abs(self.denominator))
    size = tf.abs(x)
    top = a[0] + x * (a[1] + x * (a[2] + x * (a[3] + x * a[4])))
    return top / (1.0 + size * (b[0] + size * (b[1] + size * b[2])))


def activation(kind, n_channels):
  """Returns an activation by name.

  Args:
    kind: 'tanh', 'prelu' or 'rational'.
    n_channels: Number of channels that it gets.

  Raises:
    ValueError: Another name.
  """
  if kind == 'tanh':
    return tf.tanh
  if kind == 'prelu':
    return PRelu(n_channels)
  if kind == 'rational':
    return Rational()
  raise ValueError(
    f"activation is {kind!r}; it is 'tanh', 'prelu' or 'rational'."
  )
