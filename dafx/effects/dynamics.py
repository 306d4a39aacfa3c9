"""`Dynamics`: compressor, limiter, expander and gate as a processor."""

from collections.abc import Mapping, Sequence
from typing import Any

import ddsp
import gin
import tensorflow as tf

from dafx import core
from dafx.effects.controlled import Control, Controlled, hold

_THRESHOLD = Control('threshold_db', -60.0, 0.0, -20.0)
_KNEE = Control('knee_db', 0.0, 24.0, 6.0, minimum=0.0)
_ATTACK = Control('attack_ms', 0.1, 200.0, 5.0, True)
_RELEASE = Control('release_ms', 5.0, 2000.0, 100.0, True)
_MAKEUP = Control('makeup_db', -12.0, 24.0, 0.0)
_RATIO = Control('ratio', 1.0, 20.0, 2.0, True, minimum=1.0)
_RANGE = Control('range_db', 0.0, 80.0, 60.0, minimum=0.0)
_CONTROLS = {
  'compressor': (_THRESHOLD, _RATIO, _KNEE, _ATTACK, _RELEASE, _MAKEUP),
  'limiter': (_THRESHOLD, _KNEE, _ATTACK, _RELEASE, _MAKEUP),
  'expander': (_THRESHOLD, _RATIO, _KNEE, _ATTACK, _RELEASE, _MAKEUP),
  'gate': (_THRESHOLD, _RANGE, _KNEE, _ATTACK, _RELEASE, _MAKEUP),
}


@gin.register(module='dafx.effects')
class Dynamics(Controlled):
  """Turns audio down by its level, or by a side chain's.

  The level of each sample gives a reduction (`core.reduction_db`), and this is
  smoothed with attack and release (`core.ballistics`): the feed-forward
  design with a smooth branching detector behind the curve, of D. Giannoulis et
  al., "Digital dynamic range compressor design", JAES 2012.

  Controls, in this order: `threshold_db` (-60 to 0), `ratio` (1 to 20; of
  compressor and expander) or `range_db` (0 to 80: the largest reduction; of a
  gate), `knee_db` (0 to 24), `attack_ms` (0.1 to 200) and `release_ms` (5 to
  2000), `makeup_db` (-12 to 24, added to all). Times are those to 1 - 1/e. A
  compressor's and limiter's attack is the time in which audio is turned down,
  an expander's and gate's that in which it comes up.

  Args:
    kind: 'compressor', 'limiter', 'expander' or 'gate'.
    trainable: Symbols of the controls that come from outside; all by default.
    fixed: Values of the others by symbol.
    ranges: (low, high) by symbol, where not those above.
    lookahead_ms: Time by which the level is known before the audio comes.
      Streaming is late by as much (`latency`).
    sample_rate: In Hz.
    name: Name of the layer.

  Raises:
    ValueError: An unknown kind or symbol, or a value or range that makes no
      sense.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import effects
    >>> gate = effects.Dynamics('gate', trainable=['threshold_db'])
    >>> gate(tf.zeros([1, 1000]), tf.fill([1, 1], 0.5)).shape
    TensorShape([1, 1000])
  """

  def __init__(
    self,
    kind: str = 'compressor',
    trainable: Sequence[str] | None = None,
    fixed: Mapping[str, float] | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
    lookahead_ms: float = 0.0,
    sample_rate: int = 48000,
    name: str = 'dynamics',
  ):
    if kind not in _CONTROLS:
      raise ValueError(f'kind={kind!r} must be one of {tuple(_CONTROLS)}.')
    if lookahead_ms < 0:
      raise ValueError(f'lookahead_ms={lookahead_ms} must be 0 or more.')
    super().__init__(_CONTROLS[kind], trainable, fixed, ranges, name)
    self.kind = kind
    self.sample_rate: int = sample_rate
    self.latency = round(lookahead_ms * sample_rate / 1000)

  def get_controls(
    self,
    audio: tf.Tensor,
    controls: tf.Tensor | None = None,
    sidechain: tf.Tensor | None = None,
  ) -> dict[str, tf.Tensor]:
    """Maps controls to units.

    Args:
      audio: Shape [batch, n_samples].
      controls: In [0, 1], shape [batch, n_frames, n_controls].
      sidechain: Audio whose level counts, in the shape of the audio; by
        default the audio itself.

    Returns:
      {'audio', 'controls': in units, 'sidechain'}.
    """
    controls = super().get_controls(audio, controls)
    return {**controls, 'sidechain': audio if sidechain is None else sidechain}

  def get_signal(
    self, audio: tf.Tensor, controls: tf.Tensor, sidechain: tf.Tensor
  ) -> tf.Tensor:
    """Processes audio from the initial state on; see `Controlled`.

    With look-ahead, controls act on what is heard, so on the audio that comes
    as much later.
    """
    return self._by_channel(self._process, controls, audio, sidechain)

  def _process(self, controls, audio, sidechain):
    """Processes [batch, n_samples] from the initial state on."""
    state = self.initial_state(core.batch_size(audio))
    signal, state = self.stream(state, audio, controls, sidechain)
    if not self.latency:
      return signal
    silence = tf.zeros([core.batch_size(audio), self.latency])
    rest, _ = self.stream(state, silence, controls[:, -1:], silence)
    return tf.concat([signal, rest], axis=1)[:, self.latency :]

  def initial_state(self, batch_size: int) -> Any:
    """Returns no change of the level and, for look-ahead, no past samples."""
    return {
      'change_db': tf.zeros([batch_size], tf.float64),
      'audio': tf.zeros([batch_size, self.latency]),
    }

  def stream(
    self,
    state: Any,
    audio: tf.Tensor,
    controls: tf.Tensor,
    sidechain: tf.Tensor,
  ) -> tuple[Any, Any]:
    """Processes the next chunk; see `Controlled`."""
    n_samples = audio.shape[1]
    settings = self.settings(controls)
    coefficients = {}
    for symbol in ('attack_ms', 'release_ms'):
      value = core.smoothing_coefficient(settings.pop(symbol), self.sample_rate)
      shape = [core.batch_size(audio), controls.shape[1]]
      coefficients[symbol] = tf.broadcast_to(value, shape)
    curve = {s: hold(v, n_samples) for s, v in settings.items()}
    makeup_db = curve.pop('makeup_db')
    level_db = core.amplitude_to_db(sidechain)
    reduction_db = core.reduction_db(self.kind, level_db, **curve)
    # Attack is a rise of what is smoothed.
    sign = 1.0 if self.kind in ('compressor', 'limiter') else -1.0
    change_db, last = core.ballistics(
      sign * reduction_db,
      coefficients['attack_ms'],
      coefficients['release_ms'],
      state['change_db'],
    )
    line = tf.concat([state['audio'], audio], axis=1)
    gain = ddsp.core.db_to_amplitude(makeup_db - sign * change_db)
    state = {'change_db': last, 'audio': line[:, n_samples:]}
    return line[:, :n_samples] * gain, state
