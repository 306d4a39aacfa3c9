"""`DiscreteLV2Plugin` learns ports that take single values only."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gin
import numpy as np
import tensorflow as tf

from dafx import _arguments, core, gradients, lv2
from dafx.effects import plugin_controls, render_ops, strategies
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

  Examples:
    >>> import numpy as np
    >>> from dafx import effects
    >>> losses, chosen = np.array([[1.0], [0.0]]), np.array([[0], [1]])
    >>> effects.choice_gradient(losses, chosen, np.array([[0.5, 0.5]]))
    array([[ 0.5, -0.5]])
  """
  n_samples = len(products)
  if n_samples < 2:
    raise ValueError(f'{n_samples} sample has no baseline; take 2 at least.')
  others = (products.sum(0) - products) / (n_samples - 1)
  taken = np.eye(probabilities.shape[1])[chosen]
  scores = taken - probabilities
  return ((products - others)[..., np.newaxis] * scores).mean(0)


@gin.register(module='dafx.effects')
class DiscreteLV2Plugin(lv2_plugins.LV2Plugin):
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
    trainable: Symbols of the controls with a range that come from a network
      too; by default those of `LV2Plugin`.
    fixed: As for `LV2Plugin`.
    ranges: As for `LV2Plugin`, and so are the arguments below but two.
    sample_rate: Rate of the audio, in Hz.
    channels: What mono audio comes back as: 'mono' or 'stereo'.
    estimator: 'score_function' (`choice_gradient` over `n_samples` drawn
      combinations) or 'straight_through' (the signal as if it were the mean of
      all combinations, which are all rendered; no noise).
    n_samples: Combinations drawn per item for 'score_function'; at most as many
      renders.
    control_gradient: Estimator of the gradient to the controls with a range.
    audio_gradient: Estimator of the gradient to the audio.
    host: How the plugin is run.
    preset: As for `LV2Plugin`.
    name: Name of the layer, which is the node's in a DAG.

  Raises:
    ValueError: No choices, too many combinations of them, values that a port
      does not take, an unknown option, or what `LV2Plugin` finds wrong.
    TypeError: An argument of version 0.1.0 that has moved.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import effects
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> compressor = effects.DiscreteLV2Plugin(
    ...   uri, choices={'detection': None}, trainable=['threshold']
    ... )
    >>> unit = tf.fill([1, 1, compressor.n_controls], 0.5)
    >>> compressor(tf.zeros([1, 1000]), unit).shape
    TensorShape([1, 1000])
  """

  control_map: core.ChoiceMap
  changeable = ('sample_rate', 'channels', 'estimator', 'n_samples')
  free_arguments = (
    *lv2_plugins.LV2Plugin.free_arguments,
    'estimator',
    'n_samples',
  )

  def __init__(
    self,
    uri: str,
    choices: Mapping[str, Sequence[float] | None],
    trainable: Sequence[str] | None = None,
    fixed: Mapping[str, Any] | None = None,
    ranges: Mapping[str, Sequence] | None = None,
    sample_rate: int = 16000,
    channels: str = 'mono',
    estimator: str = 'score_function',
    n_samples: int = 4,
    control_gradient: gradients.ControlEstimator | None = None,
    audio_gradient: gradients.AudioAdjoint | None = None,
    host: strategies.Host | None = None,
    preset: str | None = None,
    name: str = 'discrete_lv2_plugin',
  ):
    if estimator not in _ESTIMATORS:
      raise ValueError(f'estimator={estimator!r} must be one of {_ESTIMATORS}.')
    if estimator == 'score_function' and n_samples < 2:
      raise ValueError(
        f'n_samples={n_samples} must be at least 2: each sample has the others '
        'as its baseline.'
      )
    choices = _arguments.by_name('choices', choices, "{'mode': [0, 1]}")
    if not choices:
      raise ValueError('choices is empty; an LV2Plugin does for that.')
    super().__init__(
      uri,
      trainable,
      fixed,
      ranges,
      sample_rate,
      channels,
      control_gradient,
      audio_gradient,
      host,
      preset,
      name,
    )
    self.estimator = estimator
    self.n_samples = n_samples
    self._ranged_map = self.control_map
    self.control_map = self._map_choices(choices)
    moves = self._moves_of_latency(sorted(choices))
    plugin_controls.check_latency(self.uri, moves)
    self._rendered = self.control_map.symbols
    self.set_sample_rate(sample_rate)

  def _map_choices(self, choices) -> core.ChoiceMap:
    """Returns the ports with a range, then the scores of the combinations."""
    taken = {
      symbol: _values_of(self.plugin, symbol, given)
      # gin writes dictionaries sorted: a run finds its scores again.
      for symbol, given in sorted(choices.items())
    }
    n_combinations = math.prod(len(v) for v in taken.values())
    if n_combinations > _MAX_COMBINATIONS:
      raise ValueError(
        f'choices of {self.uri} have {n_combinations} combinations; at most '
        f'{_MAX_COMBINATIONS} are allowed. Name fewer values, or put some '
        'ports into `fixed`.'
      )
    values = {s: tuple(map(float, those)) for s, those in taken.items()}
    combinations = np.array(
      list(itertools.product(*values.values())), np.float32
    )  # of shape [n_combinations, n_choices]
    ranged = self._ranged_map
    ports = [self.plugin.control(symbol) for symbol in values]
    defaults = [plugin_controls.default_of(self.renderer, p) for p in ports]
    is_default = np.isclose(combinations, defaults).all(-1)
    scores = np.where(is_default, _DEFAULT_SCORE, 0.5)
    return core.ChoiceMap(
      symbols=(*ranged.symbols, *values),
      low=np.append(ranged.low, combinations.min(0)),
      high=np.append(ranged.high, combinations.max(0)),
      is_log=np.append(ranged.is_log, [False] * len(values)),
      defaults=np.append(ranged.defaults, scores),
      units=(*ranged.units, *(port.unit for port in ports)),
      fixed=ranged.fixed,
      labels=(*ranged.labels, *(port.name for port in ports)),
      choices=values,
      combinations=combinations,
    )

  @property
  def estimated_map(self) -> core.ControlMap:
    """The controls with a range."""
    return self._ranged_map

  @property
  def combinations(self) -> np.ndarray:
    """Combinations of values to choose from, [n_combinations, n_choices]."""
    return self.control_map.combinations

  @property
  def streams(self) -> bool:
    """False: a choice holds for the whole item, which a chunk is not."""
    return False

  def get_controls(
    self, audio: tf.Tensor, controls: tf.Tensor
  ) -> dict[str, tf.Tensor]:
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
    n_ranged = self._ranged_map.n_controls
    what = f'for {n_ranged} controls and {len(self.combinations)} scores'
    controls = render_ops.read_controls(self, audio, controls, what)
    ranged = self._ranged_map.to_port_units(controls[..., :n_ranged])
    scores = tf.clip_by_value(controls[..., n_ranged:], _MARGIN, 1.0 - _MARGIN)
    logits = tf.reduce_mean(tf.math.log(scores / (1.0 - scores)), axis=1)
    values = tf.gather(self.combinations, tf.argmax(logits, axis=-1))
    values = tf.repeat(values[:, tf.newaxis], controls.shape[1], axis=1)
    ports = tf.concat([ranged, values], axis=-1)
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
    return self._signal(audio, [controls, logits])

  def _choose(self, controls, chosen):
    """Returns controls with the combinations `chosen`, [batch]."""
    values = self.combinations[chosen][:, np.newaxis]
    values = np.repeat(values, controls.shape[1], axis=1)
    ranged = controls[..., : self._ranged_map.n_controls]
    return np.concatenate([ranged, values], axis=-1)

  def _response_memory(self, audio, n_frames, hop_size):
    """Returns the longest memory of all combinations."""
    n_controls = self._ranged_map.n_controls
    memories = []
    for index in range(len(self.combinations)):

      def render(points, items, index=index):
        values = self._ranged_map.to_port_units(points).astype(np.float32)
        chosen = np.full(len(values), index)
        values = self._choose(values, chosen)
        return render_ops.render_items(self.render, audio, values, None, items)

      memories.append(
        gradients.response_memory(
          render, len(audio), n_frames, n_controls, hop_size
        )
      )
    return max(memories)

  def gradients_to_tensors(
    self,
    audio: tf.Tensor,
    controls: tf.Tensor,
    logits: tf.Tensor,
    cotangent: tf.Tensor,
    step: tf.Tensor,
    first_key: int,
    signal: tf.Tensor,
    probes: np.ndarray | None = None,
  ) -> list[np.ndarray]:
    """Estimates the gradients to the controls and to the logits.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_symbols].
      logits: Shape [batch, n_combinations].
      cotangent: Gradient to the output, [batch, n_samples, n_channels out].
      step: Training step, for the draws and directions.
      first_key: Key of the first item; see `gradient_to_controls`.
      signal: The output.
      probes: What `render_probes` has rendered.

    Returns:
      Gradients of the shapes of controls and logits, float32.
    """
    to_controls = self.gradient_to_controls(
      audio, controls, cotangent, step, signal, first_key, probes=probes
    )
    to_logits = self.gradient_to_logits(
      audio, controls, logits, cotangent, step, first_key
    )
    return [to_controls, to_logits.astype(np.float32)]

  def gradient_to_logits(
    self,
    audio: tf.Tensor,
    controls: tf.Tensor,
    logits: tf.Tensor,
    cotangent: tf.Tensor,
    step: tf.Tensor,
    first_key: int = 0,
  ) -> np.ndarray:
    """Estimates the gradient to the logits.

    Args:
      audio: Shape [batch, n_samples, n_channels].
      controls: In port units, shape [batch, n_frames, n_symbols].
      logits: Shape [batch, n_combinations].
      cotangent: Gradient to the output, [batch, n_samples, n_channels out].
      step: Training step, for the draws.
      first_key: Key of the first item; see `gradient_to_controls`.

    Returns:
      Gradient of the shape of logits, float64.
    """
    n_items, n_values = logits.shape
    probabilities = np.exp(logits - logits.max(-1, keepdims=True), dtype=float)
    probabilities /= probabilities.sum(-1, keepdims=True)

    def losses(items, chosen):
      values = self._choose(controls[items], chosen)
      rendered = render_ops.render_items(
        self.render, audio, values, items, items
      )
      return (rendered.astype(float) * cotangent[items]).sum((1, 2))

    if self.estimator == 'straight_through':
      all_items = np.arange(n_items)
      of_values = np.stack(
        [losses(all_items, np.full(n_items, v)) for v in range(n_values)],
        axis=-1,
      )
      mean = (probabilities * of_values).sum(-1, keepdims=True)
      return probabilities * (of_values - mean)
    drawn = np.stack(
      [
        np.random.default_rng(
          [self.seed, int(step), int(first_key) + item]
        ).choice(n_values, self.n_samples, p=probabilities[item])
        for item in range(n_items)
      ],
      axis=1,
    )  # of shape [n_samples, n_items]
    # What is drawn twice for an item is rendered once.
    items = np.broadcast_to(np.arange(n_items), drawn.shape)
    pairs, places = np.unique(
      np.stack([items.ravel(), drawn.ravel()]), axis=1, return_inverse=True
    )
    products = losses(*pairs)[places].reshape(drawn.shape)
    return choice_gradient(products, drawn, probabilities)


def _values_of(plugin, symbol, values) -> Sequence[float]:
  """Returns the values to choose from, checked."""
  port = plugin.control(symbol)
  if not port.is_discrete:
    raise ValueError(
      f'{symbol!r} of {plugin.uri} takes a range of values '
      f'({port.describe_range()}). Put it into `trainable`.'
    )
  if values is None:
    return port.single_values
  is_list = isinstance(values, (list, tuple, range, np.ndarray))
  if not is_list or not all(map(_arguments.is_number, values)):
    raise ValueError(
      f'The choices {values!r} of {symbol!r} must be a list of numbers, or '
      'None for all that it takes.'
    )
  values = [float(value) for value in values]
  unlike = [v for v in values if not np.isclose(port.nearest(np.array(v)), v)]
  if len(set(values)) < max(len(values), 2) or unlike:
    raise ValueError(
      f'The choices {values} of {symbol!r} must be two or more different '
      f'values that it takes: {port.describe_range()}.'
    )
  for value in values:
    lv2.check_value(plugin, symbol, value)
  return values
