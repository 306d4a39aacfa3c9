"""Shapes of WaveNets: what Neural Amp Modeler's files can say of layers."""

import dataclasses
from collections.abc import Mapping, Sequence

from dafx import processors
from dafx.neural.activations import Activation

GATINGS = ('none', 'gated', 'blended')
# Where a layer may be modulated, in the order of the weights in a file.
FILMS = (
  'conv_pre_film',
  'conv_post_film',
  'input_mixin_pre_film',
  'input_mixin_post_film',
  'activation_pre_film',
  'activation_post_film',
  'layer1x1_post_film',
  'head1x1_post_film',
)
_ONE_STACK = tuple(2**i for i in range(10))
# The lighter sizes have the two stacks cut elsewhere.
_LIGHT_STACKS = (_ONE_STACK[:7], _ONE_STACK[7:] + _ONE_STACK)
# Channels of the two arrays, and their dilations.
SIZES = {
  'standard': ((16, 8), (_ONE_STACK, _ONE_STACK)),
  'lite': ((12, 6), _LIGHT_STACKS),
  'feather': ((8, 4), _LIGHT_STACKS),
  'nano': ((4, 2), _LIGHT_STACKS),
}
# Channels of the networks of that program's second architecture, A2.
A2_SIZES = {'a2_small': 3, 'a2_large': 8}
_A2_STACK = (1, 3, 7, 17, 41, 101, 239)
_A2_HEAD_KERNEL_SIZE = 16
# The gain of the output where an architecture is trained.
HEAD_SCALE, A2_HEAD_SCALE = 0.02, 0.01


@processors.register_record
@dataclasses.dataclass(frozen=True)
class Film:
  """A modulation of features by the condition: y = scale x + offset.

  Scale and offset are a linear map of the condition. Perez et al., 'FiLM', AAAI
  2018.

  Attributes:
    shift: Whether there is an offset.
    groups: Groups of the linear map.

  Examples:
    >>> from dafx import neural
    >>> neural.LayerArray(4, 1, (1, 2), films={'conv_pre_film': neural.Film()})
    LayerArray(channels=4, head_size=1, ...
  """

  shift: bool = True
  groups: int = 1


@processors.register_record
@dataclasses.dataclass(frozen=True)
class Head1x1:
  """A linear map of each layer's output on its way to the head.

  Attributes:
    out_channels: Channels that it gives.
    groups: Its groups.

  Examples:
    >>> from dafx import neural
    >>> neural.LayerArray(4, 1, (1, 2), head1x1=neural.Head1x1(2))
    LayerArray(channels=4, head_size=1, ...
  """

  out_channels: int
  groups: int = 1


@processors.register_record
@dataclasses.dataclass(frozen=True)
class PostHead:
  """What follows the last array: blocks of activation and convolution.

  Attributes:
    channels: Channels between the blocks.
    kernel_sizes: Taps of each convolution.
    activation: Before each convolution.
    out_channels: Channels of the output.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import neural
    >>> net = neural.WaveNet('nano', post_head=neural.PostHead(3, (3, 2)))
    >>> net(tf.zeros([1, 100])).shape
    TensorShape([1, 100])
  """

  channels: int
  kernel_sizes: Sequence[int]
  activation: Activation = Activation('ReLU')
  out_channels: int = 1

  @property
  def widths(self) -> tuple[int, ...]:
    """Channels that each convolution gives."""
    inner = (len(self.kernel_sizes) - 1) * (self.channels,)
    return (*inner, self.out_channels)


@processors.register_record
@dataclasses.dataclass(frozen=True)
class LayerArray:
  """The shape of an array of layers, as a .nam file has it.

  What is one for each layer may be given as one for all.

  Attributes:
    channels: Number of channels.
    head_size: Number of channels that it gives to the next array's head, or, in
      the last one, to the output.
    dilations: Dilation of each layer.
    kernel_size: Taps of each convolution, or of all.
    gating: 'none'; 'gated', in which activations are multiplied by those of
      other features; or 'blended', in which these say how much of the features
      goes through the activation. Of each layer, or of all.
    head_bias: Whether the map to the head has a bias.
    activation: Of each layer, or of all.
    gate_activation: Of the other features, where layers are gated or blended.
    head_kernel_size: Taps of the map to the head.
    head_dilation: Samples between these.
    bottleneck: Channels after the activation; None for `channels`.
    layer1x1_groups: Groups of the linear map to the next layer. None for no
      such map: the next layer then gets what this one got.
    head1x1: Linear map of what goes to the head.
    groups_input: Groups of the convolutions.
    groups_mixin: Groups of the linear maps of the condition.
    films: Modulations by the condition, by their places: some of `FILMS`. As in
      players, 'layer1x1_post_film' acts in blended layers alone.

  Raises:
    ValueError: Lists of other lengths than dilations, groups that do not fit,
      or an unknown name.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import neural
    >>> array = neural.LayerArray(
    ...   channels=4, head_size=1, dilations=(1, 2, 4, 8)
    ... )
    >>> neural.WaveNet(arrays=[array])(tf.zeros([1, 1000])).shape
    TensorShape([1, 1000])
  """

  channels: int
  head_size: int
  dilations: Sequence[int]
  kernel_size: int | Sequence[int] = 3
  gating: str | Sequence[str] = 'none'
  head_bias: bool = False
  activation: Activation | Sequence[Activation] = Activation()
  gate_activation: Activation | Sequence[Activation] = Activation('Sigmoid')
  head_kernel_size: int = 1
  head_dilation: int = 1
  bottleneck: int | None = None
  layer1x1_groups: int | None = 1
  head1x1: Head1x1 | None = None
  groups_input: int = 1
  groups_mixin: int = 1
  films: Mapping[str, Film] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    """Checks that the parts fit one another."""
    for key, values in (
      ('kernel_size', self.kernel_sizes),
      ('gating', self.gatings),
      ('activation', self.activations),
      ('gate_activation', self.gate_activations),
    ):
      if len(values) != len(self.dilations):
        raise ValueError(
          f'{key} has {len(values)} entries, and dilations has '
          f'{len(self.dilations)}; there is one for each layer.'
        )
    if wrong := set(self.gatings) - set(GATINGS):
      raise ValueError(f'gating is {wrong.pop()!r}; it is one of {GATINGS}.')
    if unknown := set(self.films) - set(FILMS):
      raise ValueError(f'films has {sorted(unknown)}; places are {FILMS}.')
    self._check_maps()
    self._check_slopes()

  def _check_maps(self):
    if self.layer1x1_groups is None:
      if self.n_mid != self.channels:
        raise ValueError(
          f'bottleneck is {self.n_mid} and channels {self.channels}: without a '
          'map to the next layer (layer1x1_groups=None) they are the same.'
        )
      if 'layer1x1_post_film' in self.films:
        raise ValueError('layer1x1_post_film needs the map to the next layer.')
    if self.head1x1 is None and 'head1x1_post_film' in self.films:
      raise ValueError('head1x1_post_film needs a head1x1.')
    inner = {self.n_inner(i) for i in range(len(self.dilations))}
    divided = [('groups_input', self.groups_input, {self.channels, *inner})]
    divided.append(('groups_mixin', self.groups_mixin, inner))
    if self.layer1x1_groups is not None:
      sizes = {self.n_mid, self.channels}
      divided.append(('layer1x1_groups', self.layer1x1_groups, sizes))
    if self.head1x1 is not None:
      sizes = {self.n_mid, self.head1x1.out_channels}
      divided.append(('groups of head1x1', self.head1x1.groups, sizes))
    for key, groups, sizes in divided:
      check_groups(key, groups, sizes)

  def _check_slopes(self):
    for activation in (*self.activations, *self.gate_activations):
      slopes = activation.negative_slopes
      if len(slopes) > 1 and len(slopes) != self.n_mid:
        raise ValueError(
          f'PReLU has {len(slopes)} negative_slopes for {self.n_mid} channels.'
        )

  @property
  def n_mid(self) -> int:
    """Number of channels after the activation."""
    return self.channels if self.bottleneck is None else self.bottleneck

  @property
  def n_to_head(self) -> int:
    """Number of channels that go to the head."""
    return self.n_mid if self.head1x1 is None else self.head1x1.out_channels

  def n_inner(self, layer: int) -> int:
    """Returns the number of channels before the activation of a layer."""
    return self.n_mid * (1 if self.gatings[layer] == 'none' else 2)

  def film_sizes(self, layer: int, n_condition: int) -> dict[str, int]:
    """Returns the channels that each modulation of a layer changes."""
    n_inner = self.n_inner(layer)
    sizes = (
      self.channels, n_inner, n_condition, n_inner,
      n_inner, self.n_mid, self.channels, self.n_to_head,
    )  # fmt: skip
    return {n: size for n, size in zip(FILMS, sizes) if n in self.films}

  @property
  def kernel_sizes(self) -> tuple[int, ...]:
    """Taps of the convolution of each layer."""
    return self._of_each(self.kernel_size)

  @property
  def gatings(self) -> tuple[str, ...]:
    """Gating of each layer."""
    return self._of_each(self.gating)

  @property
  def activations(self) -> tuple[Activation, ...]:
    """Activation of each layer."""
    return self._of_each(self.activation)

  @property
  def gate_activations(self) -> tuple[Activation, ...]:
    """Activation of the gate of each layer."""
    return self._of_each(self.gate_activation)

  def _of_each(self, value):
    if isinstance(value, (int, str, Activation)):
      return len(self.dilations) * (value,)
    return tuple(value)

  @property
  def n_past(self) -> int:
    """Samples before its own that an output depends on."""
    layers = sum((k - 1) * d for k, d in zip(self.kernel_sizes, self.dilations))
    return layers + (self.head_kernel_size - 1) * self.head_dilation


def check_groups(key, groups, sizes):
  """Raises ValueError where a number of channels has no so many groups.

  Args:
    key: What they are groups of.
    groups: Their number.
    sizes: The numbers of channels.
  """
  if uneven := [size for size in sorted(sizes) if size % groups]:
    raise ValueError(
      f'{key} is {groups}; it must divide the number of channels, {uneven[0]}.'
    )


def check_arrays(
  arrays: Sequence[LayerArray], post_head: PostHead | None, n_outputs: int
):
  """Checks that arrays fit one another, and the output.

  Args:
    arrays: In order.
    post_head: What follows them.
    n_outputs: Channels of the output.

  Raises:
    ValueError: They do not; the message says which.
  """
  for before, here in zip(arrays, arrays[1:]):
    for key, size in (
      ('channels', here.channels),
      ('channels that go to its head', here.n_to_head),
    ):
      if before.head_size != size:
        raise ValueError(
          f'An array gives {before.head_size} channels to the head of the '
          f'next, which has {size} {key}. Make head_size equal to them.'
        )
  n_given = arrays[-1].head_size
  if post_head is not None:
    n_given = post_head.out_channels
  if n_given != n_outputs:
    raise ValueError(
      f'head_size of the last array, or out_channels of post_head, is '
      f'{n_given}; the output has {n_outputs} channel(s).'
    )


def layer_arrays(size: str, gated: bool = False) -> tuple[LayerArray, ...]:
  """Returns the arrays of a size by name: one of SIZES or A2_SIZES.

  Args:
    size: The name.
    gated: Whether layers are gated.

  Raises:
    ValueError: Another name.
  """
  gating = 'gated' if gated else 'none'
  if size in A2_SIZES:
    stack, n = _A2_STACK, len(_A2_STACK)
    array = LayerArray(
      A2_SIZES[size],
      1,
      (*stack, *stack, 1, 13, *stack),
      (6,) * 2 * n + (15, 15) + (6,) * n,
      gating,
      head_bias=True,
      activation=Activation('LeakyReLU'),
      head_kernel_size=_A2_HEAD_KERNEL_SIZE,
    )
    return (array,)
  if size not in SIZES:
    raise ValueError(f'size is {size!r}; it is one of {(*SIZES, *A2_SIZES)}.')
  (first, second), (early, late) = SIZES[size]
  return (
    LayerArray(first, second, early, gating=gating),
    LayerArray(second, 1, late, gating=gating, head_bias=True),
  )
