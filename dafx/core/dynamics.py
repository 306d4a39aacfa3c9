"""Dynamics: static curves, and smoothing with attack and release.

The smoothing is a recursion that branches at each sample, so no scan or filter
gives it. It is compiled with Numba (or, for export, a loop of TensorFlow's; see
`portable`), forwards and as its exact adjoint backwards
(C.-Y. Yu et al., "Differentiable all-pole filters for time-varying audio
systems", DAFx 2024): a recursion with the branches that were taken, backwards
in time.
"""

import functools

import numpy as np
import tensorflow as tf

from dafx.core import given, portable, python_calls
from dafx.core.filters import batch_size, frame_hop

# Levels below are taken for silence.
FLOOR_DB = -120.0


def amplitude_to_db(amplitude: tf.Tensor) -> tf.Tensor:
  """Returns the level in dB of amplitudes, no lower than `FLOOR_DB`.

  Examples:
    >>> from dafx import core
    >>> core.amplitude_to_db([1.0, 0.1, 0.0]).numpy().round(3).tolist()
    [0.0, -20.0, -120.0]
  """
  floor = 10.0 ** (FLOOR_DB / 20.0)
  amplitude = tf.maximum(tf.abs(amplitude), floor)
  return tf.math.log(amplitude) * (20.0 / np.log(10.0))


def soft_excess(
  level_db: tf.Tensor,
  threshold_db: tf.Tensor | float,
  knee_db: tf.Tensor | float,
) -> tf.Tensor:
  """Returns by how much levels exceed a threshold, with a quadratic knee.

  The knee of D. Giannoulis et al., "Digital dynamic range compressor design",
  JAES 2012, eq. 4: from half of `knee_db` below the threshold to half above,
  the slope goes from 0 to 1.

  Args:
    level_db: Any shape, in dB.
    threshold_db: In dB; a shape that broadcasts with the levels.
    knee_db: Width of the knee in dB, 0 for a corner; broadcasts as well.

  Returns:
    Excess in dB, at least 0, in the shape of the levels.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> levels_db = tf.constant([-30.0, -20.0, -10.0])
    >>> core.soft_excess(
    ...   levels_db, threshold_db=-20.0, knee_db=8.0
    ... ).numpy().tolist()
    [0.0, 1.0, 10.0]
  """
  over = level_db - threshold_db
  knee_db = tf.maximum(knee_db, 1e-3)
  within = tf.clip_by_value(over + knee_db / 2.0, 0.0, knee_db)
  beyond = tf.nn.relu(over - knee_db / 2.0)
  return within**2 / (2.0 * knee_db) + beyond


def reduction_db(
  kind: str,
  level_db: tf.Tensor,
  threshold_db: tf.Tensor | float,
  ratio: tf.Tensor | float | None = None,
  knee_db: tf.Tensor | float = 0.0,
  range_db: tf.Tensor | float | None = None,
) -> tf.Tensor:
  """Returns by how much a level is turned down: the static curve.

  Args:
    kind: 'compressor' (above the threshold, level rises by one part in
      `ratio`), 'limiter' (no further), 'expander' (below, it falls `ratio`
      times as fast) or 'gate' (below, it is turned down by `range_db`, which it
      reaches as an expander of 1 to 10 does).
    level_db: Level, any shape.
    threshold_db: In dB. This and the others broadcast with the levels.
    ratio: At least 1; for compressor and expander.
    knee_db: Width of the knee, in dB.
    range_db: Largest reduction of a gate, in dB.

  Returns:
    Reduction in dB, at least 0, in the shape of the levels.

  Raises:
    ValueError: An unknown kind, or one without its `ratio` or `range_db`.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> levels_db = tf.constant([-40.0, -20.0, 0.0])
    >>> core.reduction_db(
    ...   'compressor', levels_db, -20.0, ratio=4.0
    ... ).numpy().round(2)
    array([ 0.,  0., 15.], dtype=float32)
  """
  if kind not in ('compressor', 'limiter', 'expander', 'gate'):
    raise ValueError(
      f"kind={kind!r} must be 'compressor', 'limiter', 'expander' or 'gate'."
    )
  if kind == 'limiter':
    return soft_excess(level_db, threshold_db, knee_db)
  if kind == 'gate':
    if range_db is None:
      raise ValueError("kind='gate' needs range_db, its largest reduction.")
    lack = soft_excess(-level_db, -threshold_db, knee_db)
    return tf.minimum(9.0 * lack, range_db)
  if ratio is None:
    raise ValueError(f'kind={kind!r} needs ratio, at least 1.')
  if kind == 'compressor':
    excess = soft_excess(level_db, threshold_db, knee_db)
    return excess * (1.0 - 1.0 / ratio)
  return soft_excess(-level_db, -threshold_db, knee_db) * (ratio - 1.0)


def smoothing_coefficient(
  time_ms: tf.Tensor | float, sample_rate: float
) -> tf.Tensor:
  """Returns the coefficient of a one-pole smoother with a time constant.

  Args:
    time_ms: Time to 1 - 1/e of a step, above 0, any shape.
    sample_rate: In Hz.

  Returns:
    In (0, 1), of the shape of the times, float64.

  Examples:
    >>> from dafx import core
    >>> round(float(core.smoothing_coefficient(10.0, sample_rate=1000)), 4)
    0.0952
  """
  time_ms = tf.cast(time_ms, tf.float64)
  return -tf.math.expm1(-1000.0 / (time_ms * sample_rate))


def ballistics(
  audio: tf.Tensor,
  attack: tf.Tensor,
  release: tf.Tensor,
  state: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Smooths a signal, fast or slowly depending on whether it rises or falls.

  y[n] = y[n-1] + a (x[n] - y[n-1]), where a is `attack` if x[n] > y[n-1], else
  `release`. Gradients are exact, but for the jump at x[n] = y[n-1], which has
  none. State and sums are in double precision: in single precision a slow
  release would come to rest.

  Args:
    audio: The signal x, such as a level in dB, shape [batch, n_samples].
    attack: Coefficient in (0, 1] for rises, shape [batch, n_frames], or with 1
      for batch; see `smoothing_coefficient`. Frame t holds from sample t * hop
      on, hop being n_samples / n_frames rounded up.
    release: Coefficient for falls, of the shape of the attack.
    state: y before the first sample, shape [batch]; zeros without.

  Returns:
    (y [batch, n_samples] float32, state after it [batch] float64).

  Raises:
    ValueError: Shapes that do not fit.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> step = tf.constant([[0.0, 1.0, 1.0, 0.0, 0.0]])
    >>> attack, release = tf.constant([[1.0]]), tf.constant([[0.5]])
    >>> smooth, state = core.ballistics(step, attack, release)
    >>> smooth.numpy().tolist()
    [[0.0, 1.0, 1.0, 0.5, 0.25]]
  """
  audio = given.audio_tensor('audio', audio)
  attack, release = tf.cast(attack, tf.float64), tf.cast(release, tf.float64)
  if audio.shape.rank != 2 or attack.shape.rank != 2:
    raise ValueError(
      f'audio has shape {audio.shape}, attack {attack.shape}; they must be '
      '[batch, n_samples] and [batch, n_frames].'
    )
  if attack.shape != release.shape:
    raise ValueError(
      f'attack has shape {attack.shape}, release {release.shape}; they must '
      'have the same.'
    )
  n_items = batch_size(audio)
  if state is None:
    state = tf.zeros([n_items], tf.float64)
  state = tf.cast(state, tf.float64)
  shape = [n_items, attack.shape[1]]
  attack = tf.broadcast_to(attack, shape)
  release = tf.broadcast_to(release, shape)
  if not portable.is_compiled(audio):
    return _smooth_in_graph(audio, attack, release, state)

  @tf.custom_gradient
  def smooth(audio, attack, release, state):
    inputs = [audio, attack, release, state]
    signal, end = tf.numpy_function(
      _smooth, inputs, (tf.float32, tf.float64), stateful=False
    )
    signal.set_shape(audio.shape)
    end.set_shape(state.shape)

    def gradient(for_signal, for_end):
      results = python_calls.differentiable_once(
        lambda *inputs: tf.numpy_function(
          _smooth_adjoint,
          inputs,
          (tf.float32, tf.float64, tf.float64, tf.float64),
          stateful=False,
        ),
        [*inputs, for_signal, for_end],
        'compiled ballistics',
      )
      for result, source in zip(results, inputs):
        result.set_shape(source.shape)
      return results

    return (signal, end), gradient

  return smooth(audio, attack, release, state)


def _smooth_in_graph(audio, attack, release, state):
  """As `_smooth`, in TensorFlow's own ops."""
  n_samples = audio.shape[1]
  hop = frame_hop(n_samples, attack.shape[1])
  levels = tf.transpose(tf.cast(audio, tf.float64))
  signal = tf.TensorArray(tf.float64, n_samples, element_shape=audio.shape[:1])

  def step(n, y, signal):
    difference = levels[n] - y
    rises = difference > 0.0
    y += tf.where(rises, attack[:, n // hop], release[:, n // hop]) * difference
    return n + 1, y, signal.write(n, y)

  _, end, signal = tf.while_loop(
    lambda n, *_: n < n_samples,
    step,
    (0, state, signal),
    maximum_iterations=n_samples,  # for gradients under XLA
  )
  return tf.cast(tf.transpose(signal.stack()), tf.float32), end


def _smooth(audio, attack, release, state):
  signal = np.empty_like(audio)
  end = np.empty_like(state)
  hop = frame_hop(audio.shape[1], attack.shape[1])
  _kernels()[0](audio, attack, release, state, hop, signal, end)
  return signal, end


def _smooth_adjoint(audio, attack, release, state, for_signal, for_end):
  gradients = [np.zeros_like(a) for a in (audio, attack, release, state)]
  hop = frame_hop(audio.shape[1], attack.shape[1])
  _kernels()[1](
    audio, attack, release, state, hop, for_signal, for_end, *gradients
  )
  return gradients


@functools.cache
def _kernels():
  """Returns the compiled (recursion, adjoint); Numba keeps them on disk."""
  import numba

  @numba.njit(cache=True)
  def recursion(audio, attack, release, state, hop, signal, end):
    for i in range(audio.shape[0]):
      y = state[i]
      for n in range(audio.shape[1]):
        difference = audio[i, n] - y
        frame = n // hop
        rises = difference > 0.0
        y += (attack[i, frame] if rises else release[i, frame]) * difference
        signal[i, n] = y
      end[i] = y

  @numba.njit(cache=True)
  def adjoint(
    audio,
    attack,
    release,
    state,
    hop,
    for_signal,
    for_end,
    to_audio,
    to_attack,
    to_release,
    to_state,
  ):
    n_samples = audio.shape[1]
    before = np.empty(n_samples)  # y[n - 1], in double precision as it was.
    for i in range(audio.shape[0]):
      y = state[i]
      for n in range(n_samples):
        before[n] = y
        difference = audio[i, n] - y
        frame = n // hop
        rises = difference > 0.0
        y += (attack[i, frame] if rises else release[i, frame]) * difference
      to_y = for_end[i]
      for n in range(n_samples - 1, -1, -1):
        to_y += for_signal[i, n]
        difference = audio[i, n] - before[n]
        frame = n // hop
        if difference > 0.0:
          to_attack[i, frame] += difference * to_y
          step = attack[i, frame] * to_y
        else:
          to_release[i, frame] += difference * to_y
          step = release[i, frame] * to_y
        to_audio[i, n] = step
        to_y -= step
      to_state[i] = to_y

  return recursion, adjoint
