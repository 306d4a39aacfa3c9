"""`DiscreteLV2Plugin` learns ports that take single values only."""

import itertools
import zlib
from collections.abc import Mapping, Sequence

import gin
import numpy as np
import tensorflow as tf

from dafx import core
from dafx.effects import estimated
from dafx.effects import plugins as lv2_plugins

_ESTIMATORS = ('score_function', 'straight_through')
_MAX_COMBINATIONS = 64
_MARGIN = 1e-4  # scores are this far from 0 and 1, at logits of -9 and 9
_DEFAULT_SCORE = 0.7  # of the plugin's own values; all others have 0.5


def choice_gradient(
  products: np.ndarray, chosen: np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
  """Estimates the gradient of an expected loss to the logits of a choice.

  The score-function estimator (Williams 1992, "REINFORCE") with the mean of the
  other samples as each one's baseline (Kool et al. 2019, "Buy 4 REINFORCE
  samples, get a baseline for free"). Its expectation is
  p_v * (loss_v - sum_u p_u * loss_u).

  Args:
    products: Losses of the samples, shape [n_samples, batch].
    chosen: Which value each sample took, of the same shape.
    probabilities: Of the values, shape [batch, n_values].

  Returns:
    Gradient of shape [batch, n_values].

  Raises:
    ValueError: Fewer than two samples, which have no baseline.
  """
  n_samples = len(products)
  if n_samples < 2:
    raise ValueError(f'{n_samples} sample has no baseline; take 2 at least.')
  others = (products.sum(0) - products) / (n_samples - 1)
  taken = np.eye(probabilities.shape[1])[chosen]
  scores = taken - probabilities
  return ((products - others)[..., np.newaxis] * scores).mean(0)


@gin.register(module='dafx.effects')
class DiscreteLV2Plugin(estimated.BlackBoxProcessor):
  """An LV2 plugin with integer, enumerated or toggled ports that are trained.

  The network gives a score for each combination of their values, beside the
  controls of an `LV2Plugin`. The most probable combination is rendered, in
  training as in use; it holds for the whole item. The backward pass renders
  others too and moves the probability to those that do better.

  Limits: a processor knows of the loss only its gradient, so the loss of
  another combination is judged as if it were linear: sum(gradient * signal).
  That tells which way to go, not how far. Switches and kinds are learned so;
  where values are steps of one scale, a gain of 0, 1 or 8, and the right one is
  in the middle, the mean of all can come to be right and none of them: train a
  port with a range instead. A loss at its minimum moves nothing.

  Args:
    uri: URI of the plugin.
    choices: Values to choose from, in port units, by symbol; None for all that
      the port takes. Combinations count through them by sorted symbols, the
      last one fastest.
    fixed: Values of other controls by symbol, in port units.
    estimator: 'score_function' (`choice_gradient` over `n_samples` drawn
      combinations) or 'straight_through' (the signal as if it were the mean of
      all combinations, which are all rendered; no noise).
    n_samples: Combinations drawn per item for 'score_function'; at most as many
      renders.
    seed: Seed of the draws and of the directions; the name is mixed in.
    name: Name of the layer, which is the node's in a DAG.
    **kwargs: More arguments of `LV2Plugin`.

  Raises:
    ValueError: No choices, too many combinations of them, values that a port
      does not take, an unknown option, or what `LV2Plugin` finds wrong.
  """

  has_free_rate = True
  receptive_field = None
  changeable = ('sample_rate', 'estimator', 'n_samples')

  def __init__(
    self,
    uri: str,
    choices: Mapping[str, Sequence[float] | None],
    fixed: Mapping[str, float] | None = None,
    estimator: str = 'score_function',
    n_samples: int = 4,
    seed: int = 0,
    name: str = 'discrete_lv2_plugin',
    **kwargs,
  ):
    super().__init__(name=name)
    if estimator not in _ESTIMATORS:
      raise ValueError(f'estimator={estimator!r} must be one of {_ESTIMATORS}.')
    if estimator == 'score_function' and n_samples < 2:
      raise ValueError(
        f'n_samples={n_samples} must be at least 2: each sample has the others '
        'as its baseline.'
      )
    if not choices:
      raise ValueError('choices is empty; an LV2Plugin does for that.')
    self.estimator = estimator
    self.n_samples = n_samples
    self.seed = seed + zlib.crc32(name.encode())
    self.gradient_step = self.add_counter('gradient_step', 0)
    first = lv2_plugins.LV2Plugin(uri, fixed=fixed, name=name, **kwargs)
    self.choices = {
      symbol: _values_of(first.plugin, symbol, values)
      # gin writes dictionaries sorted: a run finds its scores again.
      for symbol, values in sorted(choices.items())
    }
    n_combinations = int(np.prod([len(v) for v in self.choices.values()]))
    if n_combinations > _MAX_COMBINATIONS:
      raise ValueError(
        f'choices of {uri} have {n_combinations} combinations; at most '
        f'{_MAX_COMBINATIONS} are allowed. Name fewer values, or put some '
        'ports into `fixed`.'
      )
    self.combinations = np.array(
      list(itertools.product(*self.choices.values())), np.float32
    )  # of shape [n_combinations, n_choices]
    self.variants = []
    for index, values in enumerate(self.combinations):
      chosen = dict(zip(self.choices, map(float, values)))
      # Variables are told apart by name in .h5 files.
      with tf.name_scope(f'variant_{index}'):
        variant = lv2_plugins.LV2Plugin(
          uri,
          fixed={**(fixed or {}), **chosen},
          seed=seed,
          name=name,
          **{**kwargs, 'trainable': first.symbols},
        )
      self.variants.append(variant)

  @property
  def uri(self) -> str:
    """URI of the plugin."""
    return self.variants[0].uri

  @property
  def plugin(self):
    """What the plugin says of itself."""
    return self.variants[0].plugin

  @property
  def sample_rate(self) -> int:
    """Rate of the audio, in Hz."""
    return self.variants[0].sample_rate

  @sample_rate.setter
  def sample_rate(self, sample_rate: int):
    self.set_sample_rate(sample_rate)

  def set_sample_rate(self, sample_rate: int):
    """Goes on at another rate of the audio; controls keep their meaning."""
    for variant in self.variants:
      variant.set_sample_rate(sample_rate)

  @property
  def symbols(self) -> tuple[str, ...]:
    """Symbols of the trained ports: those with a range, then the choices."""
    return (*self.variants[0].symbols, *self.choices)

  @property
  def latency(self) -> int:
    """Samples by which the plugin is late; they are taken out."""
    return self.renderer.latency

  @property
  def identity(self) -> str:
    """URI of the plugin."""
    return self.uri

  @property
  def control_map(self) -> core.ChoiceMap:
    """The ports with a range, then the scores of the combinations."""
    ranged = self.variants[0].control_map
    n_choices = len(self.choices)
    ports = [self.plugin.control(symbol) for symbol in self.choices]
    is_default = np.isclose(self.combinations, [p.default for p in ports])
    scores = np.where(is_default.all(-1), _DEFAULT_SCORE, 0.5)
    fixed = {s: v for s, v in ranged.fixed.items() if s not in self.choices}
    return core.ChoiceMap(
      symbols=self.symbols,
      low=np.append(ranged.low, self.combinations.min(0)),
      high=np.append(ranged.high, self.combinations.max(0)),
      is_log=np.append(ranged.is_log, [False] * n_choices),
      defaults=np.append(ranged.defaults, scores).astype(np.float32),
      units=(*ranged.units, *(port.unit for port in ports)),
      fixed=fixed,
      choices={s: tuple(map(float, v)) for s, v in self.choices.items()},
      combinations=self.combinations,
    )

  @property
  def renderer(self):
    """What renders the first combination: for what all of them share."""
    return self.variants[0].renderer

  @property
  def n_controls(self) -> int:
    """Number of network outputs: of ports with a range, and of scores."""
    return self.variants[0].n_controls + len(self.combinations)

  def get_controls(self, audio: tf.Tensor, controls: tf.Tensor):
    """Maps network outputs to port units and to logits.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: In [0, 1], shape [batch, n_frames, n_controls] or [batch,
        n_controls]: ports with a range, then a score s for each combination, of
        which log(s / (1 - s)), in the mean over frames, is its logit.

    Returns:
      {'audio': as it came, 'controls': all ports of `symbols` in port units,
      [batch, n_frames, n_symbols], 'logits': [batch, n_combinations]}.

    Raises:
      ValueError: Controls of another number than the plugin's.
    """
    controls = tf.cast(controls, tf.float32)
    if controls.shape.rank == 2:
      controls = controls[:, tf.newaxis, :]
    if controls.shape.rank != 3 or controls.shape[-1] != self.n_controls:
      raise ValueError(
        f'controls has shape {controls.shape}; {self.name!r} takes [batch, '
        f'n_frames, {self.n_controls}]: {self.variants[0].n_controls} controls '
        f'and {len(self.combinations)} scores.'
      )
    n_ranged = self.variants[0].n_controls
    ranged = self.variants[0].get_controls(audio, controls[..., :n_ranged])
    scores = tf.clip_by_value(controls[..., n_ranged:], _MARGIN, 1.0 - _MARGIN)
    logits = tf.reduce_mean(tf.math.log(scores / (1.0 - scores)), axis=1)
    values = tf.gather(self.combinations, tf.argmax(logits, axis=-1))
    values = tf.repeat(values[:, tf.newaxis], controls.shape[1], axis=1)
    ports = tf.concat([ranged['controls'], values], axis=-1)
    return dict(audio=audio, controls=ports, logits=logits)

  def get_signal(
    self, audio: tf.Tensor, controls: tf.Tensor, logits: tf.Tensor
  ) -> tf.Tensor:
    """Renders audio with the most probable values.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_symbols].
      logits: Shape [batch, n_combinations].

    Returns:
      Audio of shape [batch, n_samples] for mono, else [batch, n_samples,
      n_channels].

    Raises:
      ValueError: A number of channels that the plugin does not take.
    """
    audio, is_mono = estimated.with_channels(audio)
    self.variants[0].check_channels(audio.shape[-1])
    n_out = self.variants[0].n_channels_out(audio.shape[-1])
    ranged = controls[..., : self.variants[0].n_controls]

    def check():
      estimated.check_input_gradient(self.name, self.variants[:1])

    signal = estimated.render_with_gradient(
      self.render,
      self.control_gradients,
      tf.stop_gradient(audio),
      [ranged, logits],
      n_out,
      self.gradient_step,
    )
    signal += estimated.carry_audio_gradient(
      self.audio_gradient, audio, [ranged, logits], n_out, check
    )
    return signal[..., 0] if is_mono and n_out == 1 else signal

  def _by_variant(self, chosen):
    """Yields (variant, the items that it is chosen for)."""
    for index in np.unique(chosen):
      yield self.variants[index], np.flatnonzero(chosen == index)

  def _render_chosen(self, audio, ranged, chosen):
    n_out = self.variants[0].n_channels_out(audio.shape[-1])
    signal = np.empty((*audio.shape[:-1], n_out), np.float32)
    for variant, items in self._by_variant(chosen):
      signal[items] = variant.render(audio[items], ranged[items])
    return signal

  def render(
    self, audio: np.ndarray, ranged: np.ndarray, logits: np.ndarray
  ) -> np.ndarray:
    """Renders NumPy audio; `get_signal` without gradients.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      ranged: Ports with a range, in port units, [batch, n_frames, n].
      logits: Shape [batch, n_combinations].

    Returns:
      Audio of shape [batch, n_samples, n_channels out].
    """
    return self._render_chosen(audio, ranged, logits.argmax(-1))

  def control_gradients(self, audio, ranged, logits, upstream, step, signal):
    """Estimates the gradients to controls with a range and to logits.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      ranged: Ports with a range, in port units, [batch, n_frames, n].
      logits: Shape [batch, n_combinations].
      upstream: Gradient to the output, [batch, n_samples, n_channels out].
      step: Training step, for the draws and directions.
      signal: The output.

    Returns:
      Gradients of the shapes of ranged and logits, float32.
    """
    to_ranged = np.zeros_like(ranged)
    for variant, items in self._by_variant(logits.argmax(-1)):
      to_ranged[items] = variant.control_gradient(
        audio[items], ranged[items], upstream[items], step, signal[items]
      )
    to_logits = self.logit_gradient(audio, ranged, logits, upstream, step)
    return to_ranged, to_logits.astype(np.float32)

  def audio_gradient(self, audio, ranged, logits, upstream):
    """Estimates the gradient to the audio, through what was rendered.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      ranged: Ports with a range, in port units, [batch, n_frames, n].
      logits: Shape [batch, n_combinations].
      upstream: Gradient to the output, [batch, n_samples, n_channels out].

    Returns:
      Gradient of the shape of the audio, float32.
    """
    to_audio = np.zeros_like(audio)
    for variant, items in self._by_variant(logits.argmax(-1)):
      to_audio[items] = variant.audio_gradient(
        audio[items], ranged[items], upstream[items]
      )
    return to_audio

  def logit_gradient(self, audio, ranged, logits, upstream, step):
    """Estimates the gradient to the logits.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      ranged: Ports with a range, in port units, [batch, n_frames, n].
      logits: Shape [batch, n_combinations].
      upstream: Gradient to the output, [batch, n_samples, n_channels out].
      step: Training step, for the draws.

    Returns:
      Gradient of the shape of logits, float64.
    """
    n_items, n_values = logits.shape
    probabilities = np.exp(logits - logits.max(-1, keepdims=True), dtype=float)
    probabilities /= probabilities.sum(-1, keepdims=True)

    def loss(chosen):
      rendered = self._render_chosen(audio, ranged, chosen)
      return (rendered.astype(float) * upstream).sum((1, 2))

    if self.estimator == 'straight_through':
      losses = [loss(np.full(n_items, value)) for value in range(n_values)]
      losses = np.stack(losses, axis=-1)
      mean = (probabilities * losses).sum(-1, keepdims=True)
      return probabilities * (losses - mean)
    drawn = np.stack(
      [
        np.random.default_rng([self.seed, int(step), item]).choice(
          n_values, self.n_samples, p=probabilities[item]
        )
        for item in range(n_items)
      ],
      axis=1,
    )  # of shape [n_samples, n_items]
    known = {}
    products = np.empty(drawn.shape)
    for row, chosen in enumerate(drawn):
      for item, value in enumerate(chosen):
        if (item, value) not in known:
          one = slice(item, item + 1)
          known[item, value] = (
            self._render_chosen(audio[one], ranged[one], chosen[one])
            * upstream[one]
          ).sum(dtype=float)
        products[row, item] = known[item, value]
    return choice_gradient(products, drawn, probabilities)


def _values_of(plugin, symbol, values) -> list[float]:
  """Returns the values to choose from, checked."""
  port = plugin.control(symbol)
  if not port.is_discrete:
    raise ValueError(
      f'{symbol!r} of {plugin.uri} takes a range of values '
      f'({port.describe_range()}). Put it into `trainable`.'
    )
  if values is None:
    if port.enumeration and port.scale_points:
      return [float(value) for value, _ in port.scale_points]
    return list(np.arange(np.ceil(port.minimum), port.maximum + 0.5))
  values = [float(value) for value in values]
  unlike = [v for v in values if not np.isclose(port.nearest(np.array(v)), v)]
  if len(set(values)) < max(len(values), 2) or unlike:
    raise ValueError(
      f'The choices {values} of {symbol!r} must be two or more different '
      f'values that it takes: {port.describe_range()}.'
    )
  for value in values:
    lv2_plugins.lv2.check_value(plugin, symbol, value)
  return values
