"""Gradients to the audio that goes into a black box.

A box with audio is a callable `render(audio, items, backwards)`:

  audio: shape [n, n_samples, n_in].
  items: which item of the batch each belongs to, shape [n]: its controls.
  backwards: whether to render under the controls in reversed order.
  returns: signals without latency, shape [n, n_samples, n_out].
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.ndimage
import scipy.signal

from dafx.gradients import black_box

# Silence has no level; -60 dB full scale is quiet for any box.
_MIN_LEVEL = 1e-3
# Gain times filter: longest impulse response, of an impulse this high.
_N_RESPONSE = 2048
_IMPULSE = 1e-3
# Seconds: over which gains are averaged, frames of the ride, one-poles that it
# is made of, and the distance between the values that the level is moved to.
_GAIN_S = 0.003
_FRAME_S = 0.003
_ONE_POLES_S = (0.0, 0.002, 0.008, 0.032, 0.128)
_MOVE_S = 0.016
# Frames to either side that the ride is fitted over, and how stiffly.
_N_AROUND = 8
_RIDGE = 1e-3


def _check_audio(audio, cotangent):
  """Returns audio and cotangent as [batch, n_samples, channels], float64.

  And where the cotangent is finite, [batch, 1, 1]; elsewhere it is set to zero,
  since it is no audio to render.
  """
  audio, cotangent = np.asarray(audio), np.asarray(cotangent)
  if audio.shape[:2] != cotangent.shape[:2] or audio.ndim < 2:
    raise ValueError(
      f'audio has shape {audio.shape}, its cotangent {cotangent.shape}; both '
      'must be [batch, n_samples, ...] of as many items and samples.'
    )
  n = len(audio)
  audio = black_box.flatten(audio, n)
  cotangent = black_box.flatten(cotangent, n)
  is_finite = np.isfinite(cotangent).all(axis=(1, 2), keepdims=True)
  return audio, np.where(is_finite, cotangent, 0.0), is_finite


def _level(signals):
  """Returns the root mean square of each item, [batch, 1, 1]."""
  return np.sqrt(np.mean(signals**2, axis=(1, 2), keepdims=True))


def _refusal(adjoint, n_in, n_out):
  """Returns the error of channels that an adjoint does not take."""
  return ValueError(
    f'{adjoint} does not pull back from {n_out} channels to {n_in}. '
    'Reversal() does, and BestAdjoint().'
  )


class _Stateless(black_box.AudioAdjoint):
  """An adjoint that keeps nothing from call to call."""

  def pull_back(
    self,
    render: black_box.AudioRender,
    audio: np.ndarray,
    cotangent: np.ndarray,
    *,
    sample_rate: float,
    state: black_box.AdjointState = black_box.AdjointState(),  # noqa: B008
    seed: int = 0,
    step: int = 0,
    item_keys: Sequence[int] | None = None,
    gather: black_box.Gather = black_box.alone,
  ) -> tuple[np.ndarray, black_box.AdjointState]:
    """Estimates the gradient; see `AudioAdjoint.pull_back`."""
    del gather  # Items have nothing to do with each other.
    n_in, n_out = _n_channels(audio), _n_channels(cotangent)
    if not self.takes(n_in, n_out):
      raise _refusal(self, n_in, n_out)
    item_keys = range(len(audio)) if item_keys is None else item_keys
    keys = [[seed, step, key] for key in item_keys]
    return self._gradient(render, audio, cotangent, sample_rate, keys), state

  @abc.abstractmethod
  def _gradient(self, render, audio, cotangent, sample_rate, keys):
    """Returns the gradient; `keys` are those of each item's draws."""


def _n_channels(signals):
  return signals.shape[-1] if signals.ndim > 2 else 1


@dataclasses.dataclass(frozen=True)
class StraightThrough(_Stateless):
  """The gradient to the audio as if the box were a wire.

  One input goes to all outputs; of several inputs, one output gets the mean.

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> def render(audio, items, backwards):  # a box of a gain of 3
    ...   return 3.0 * audio
    >>> box: gradients.AudioRender = render
    >>> audio, cotangent = np.ones([1, 100, 1]), np.full([1, 100, 1], 0.5)
    >>> adjoint = gradients.StraightThrough()
    >>> isinstance(adjoint, gradients.AudioAdjoint)
    True
    >>> gradient, _ = adjoint.pull_back(
    ...   box, audio, cotangent, sample_rate=48000
    ... )
    >>> float(gradient[0, 0, 0])
    0.5
  """

  def takes(self, n_in: int, n_out: int) -> bool:
    """Returns whether a wire from so many inputs to outputs is defined."""
    return n_in == n_out or 1 in (n_in, n_out)

  def _gradient(self, render, audio, cotangent, sample_rate, keys):
    del render, sample_rate, keys
    n_in, n_out = _n_channels(audio), _n_channels(cotangent)
    if n_in == n_out:
      return cotangent
    if n_in == 1:
      return cotangent.sum(-1, keepdims=True)
    return np.repeat(cotangent / n_in, n_in, axis=-1)


@dataclasses.dataclass(frozen=True)
class NoAudioGradient(black_box.AudioAdjoint):
  """No gradient to the audio: asking for one is an error.

  Examples:
    >>> from dafx import gradients
    >>> gradients.NoAudioGradient().takes(n_in=1, n_out=1)
    False
  """

  def takes(self, n_in: int, n_out: int) -> bool:
    """Returns False."""
    del n_in, n_out
    return False

  def pull_back(
    self,
    render: black_box.AudioRender,
    audio: np.ndarray,
    cotangent: np.ndarray,
    **options: Any,
  ) -> tuple[np.ndarray, black_box.AdjointState]:
    """Raises ValueError."""
    del render, options
    raise _refusal(self, _n_channels(audio), _n_channels(cotangent))


@dataclasses.dataclass(frozen=True)
class Reversal(_Stateless):
  """The gradient to the audio by time reversal.

  The adjoint of a linear system is the system run backwards in time. Of any
  box, the linearised one is taken: its response to the cotangent, reversed, is
  the difference of two renders around the reversed audio. With channels, each
  pair of an output and an input is a system of its own, which takes two renders
  of its own. Any number of channels will do.

  The gradient is zero for items whose cotangent is zero, and NaN for those
  whose cotangent is not finite.

  Args:
    epsilon: Level of the perturbation relative to the audio's. A small one
      drowns in the rounding of single precision (an equaliser of 32 steep bands
      gives a third of the gradient at 0.01, 0.94 of it at 0.1, 0.99 at 1), a
      large one leaves the range in which the box is linear: for a hard
      distortion take 0.01; for a box that is linear in its audio, 1.

  Raises:
    ValueError: A size that is not positive.

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> def render(audio, items, backwards):  # a box of a gain of 3
    ...   return 3.0 * audio
    >>> box: gradients.AudioRender = render
    >>> audio, cotangent = np.ones([1, 100, 1]), np.full([1, 100, 1], 0.5)
    >>> adjoint = gradients.Reversal(epsilon=0.1)
    >>> isinstance(adjoint, gradients.AudioAdjoint)
    True
    >>> gradient, _ = adjoint.pull_back(
    ...   box, audio, cotangent, sample_rate=48000
    ... )
    >>> round(float(gradient[0, 0, 0]), 3)
    1.5
  """

  epsilon: float = 0.1

  def __post_init__(self):
    """Checks the size."""
    if not self.epsilon > 0.0:
      raise ValueError(f'epsilon={self.epsilon} must be above 0.')

  def _gradient(self, render, audio, cotangent, sample_rate, keys):
    del sample_rate, keys  # It draws nothing.
    shape = np.shape(audio)
    audio, cotangent, is_finite = _check_audio(audio, cotangent)
    n_items, n_samples, n_in = audio.shape
    n_out = cotangent.shape[-1]
    level = np.maximum(_level(audio), _MIN_LEVEL)
    backwards = audio[:, ::-1]
    perturbed, scales = [], []
    for output in range(n_out):
      fed = cotangent[:, ::-1, output : output + 1]
      size = _level(fed)
      scale = self.epsilon * level / np.where(size > 0.0, size, 1.0)
      for entry in range(n_in):
        step = np.zeros(audio.shape)
        step[..., entry] = (scale * fed)[..., 0]
        perturbed += [backwards + step, backwards - step]
        scales.append(scale)
    items = np.tile(np.arange(n_items), len(perturbed))
    signals = np.asarray(
      render(np.concatenate(perturbed), items, True), np.float64
    ).reshape(n_out, n_in, 2, n_items, n_samples, n_out)
    gradient = np.zeros(audio.shape)
    for output, entry in np.ndindex(n_out, n_in):
      plus, minus = signals[output, entry, ..., output]
      scale = scales[output * n_in + entry][..., 0]
      gradient[..., entry] += (plus - minus) / (2.0 * scale)
    return np.where(is_finite, gradient[:, ::-1], np.nan).reshape(shape)


@dataclasses.dataclass(frozen=True)
class GainFilter(_Stateless):
  """The gradient to the audio of a gain that rides on a filter.

  For compressors and limiters, where time reversal swaps attack and release.
  The box is taken to be y = a * (h * x): a filter h, known from an impulse that
  is too small to move the gain, and a gain a, the ratio of what comes out to
  what the filter gives, averaged over 3 ms. The gain follows the level: probes
  move the level of the audio up and down at random, and the change of the gain
  is fitted, anew every 3 ms, as a sum of one-poles (0 to 128 ms) over the
  change of the level. The transpose of all this is applied to the cotangent.

  It takes as many channels out as in. The gradient is zero for items whose
  cotangent is zero, and NaN for those whose cotangent is not finite.

  Args:
    n_probes: Random changes of level, of two renders each. Three renders more
      are for the filter and the gain.
    epsilon: Size of the changes of level, relative to the audio's.

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> def render(audio, items, backwards):  # a box of a gain of 3
    ...   return 3.0 * audio
    >>> box: gradients.AudioRender = render
    >>> audio, cotangent = np.ones([1, 100, 1]), np.full([1, 100, 1], 0.5)
    >>> adjoint = gradients.GainFilter()
    >>> isinstance(adjoint, gradients.AudioAdjoint)
    True
    >>> gradient, _ = adjoint.pull_back(
    ...   box, audio, cotangent, sample_rate=48000
    ... )
    >>> gradient.shape
    (1, 100, 1)
  """

  n_probes: int = 4
  epsilon: float = 0.01

  def takes(self, n_in: int, n_out: int) -> bool:
    """Returns whether there are as many outputs as inputs."""
    return n_in == n_out

  def _gradient(self, render, audio, cotangent, sample_rate, keys):
    n_probes, epsilon = self.n_probes, self.epsilon
    shape = np.shape(audio)
    audio, cotangent, is_finite = _check_audio(audio, cotangent)
    n_items, n_samples, _ = audio.shape
    # Of shape [n_probes, batch, n_samples, 1].
    moves = np.stack(
      [_draw_moves(n_probes, n_samples, sample_rate, key) for key in keys],
      axis=1,
    )[..., np.newaxis]
    impulse = np.zeros(audio.shape)
    impulse[:, 0] = _IMPULSE
    signals = np.concatenate(
      [
        audio[np.newaxis],
        impulse[np.newaxis],
        -impulse[np.newaxis],
        audio + epsilon * moves * audio,
        audio - epsilon * moves * audio,
      ]
    )
    rendered = np.asarray(
      render(
        signals.reshape(-1, *audio.shape[1:]),
        np.tile(np.arange(n_items), len(signals)),
        False,
      ),
      np.float64,
    ).reshape(signals.shape)
    output = rendered[0]
    response = (rendered[1] - rendered[2])[:, :_N_RESPONSE] / (2.0 * _IMPULSE)
    plus, minus = np.split(rendered[3:], 2)

    def filtered(signals):
      """Filters [..., batch, n_samples, n_channels]."""
      kernel = response.reshape((1,) * (signals.ndim - 3) + response.shape)
      whole = scipy.signal.fftconvolve(signals, kernel, axes=-2)
      return whole[..., :n_samples, :]

    through = filtered(audio)
    gain = _local_ratio(output, through, max(int(_GAIN_S * sample_rate), 1))
    rides = (plus - minus) / (2.0 * epsilon) - gain * filtered(moves * audio)
    gradient = filtered((gain * cotangent)[:, ::-1])[:, ::-1]
    gradient += _ride_adjoint(
      audio, output, moves, rides, cotangent,
      max(int(_FRAME_S * sample_rate), 1), sample_rate,
    )  # fmt: skip
    return np.where(is_finite, gradient, np.nan).reshape(shape)


def _draw_moves(n_probes, n_samples, sample_rate, key):
  """Draws changes of level, [n_probes, n_samples], from 1 to -1 and back.

  Each is as large as can be everywhere, which says more of the ride than
  normal values that are often next to nothing.
  """
  distance = max(int(_MOVE_S * sample_rate), 1)
  values = np.random.default_rng(key).choice(
    [-1.0, 1.0], (n_probes, n_samples // distance + 2)
  )
  places = np.arange(n_samples) / distance
  left = places.astype(int)
  part = places - left
  return values[:, left] * (1.0 - part) + values[:, left + 1] * part


def _local_ratio(numerator, denominator, width):
  """Returns the gain from one signal to another, averaged over a window."""
  window = scipy.signal.windows.hann(width + 2)[1:-1]

  def smooth(signals):
    return scipy.ndimage.convolve1d(signals, window, axis=1, mode='constant')

  power = smooth(denominator**2)
  # Where next to nothing comes through, no gain is known.
  floor = 1e-8 * power.max(axis=1, keepdims=True) + 1e-12
  return smooth(numerator * denominator) / (power + floor)


def _ride_adjoint(audio, output, moves, rides, cotangent, n_frame, sample_rate):
  """Returns the part of the gradient that goes by way of the level.

  Args:
    audio: Shape [batch, n_samples, n_channels].
    output: What comes out for it, of the same shape.
    moves: Relative changes of level, [n_probes, batch, n_samples, 1].
    rides: What they change but for their direct way, [n_probes, batch,
      n_samples, n_channels].
    cotangent: Of the shape of the audio.
    n_frame: Samples per frame of the ride.
    sample_rate: In Hz.
  """
  n_samples = audio.shape[1]

  def sums(signals):
    """Sums frames of [..., n_samples, n_channels]."""
    edges = np.arange(0, n_samples, n_frame)
    return np.add.reduceat(signals, edges, axis=-2)

  # [batch, n_frames, n_channels]; change of the gain, relative to the gain.
  out_power = np.maximum(sums(output**2), 1e-12)
  change = sums(rides * output) / out_power
  # Relative change of the power as one-poles see it, all channels together,
  # shape [n_probes, batch, n_frames, n_poles].
  poles = [
    np.exp(-n_frame / (sample_rate * t)) if t else 0.0 for t in _ONE_POLES_S
  ]
  in_power = sums(audio**2).sum(-1)
  moved_power = sums(moves * audio**2).sum(-1)
  floor = 1e-6 * in_power.max(axis=1, keepdims=True) + 1e-12
  levels = [_follow(in_power, pole) + floor for pole in poles]
  followed = np.stack(
    [
      _follow(moved_power, pole) / level
      for pole, level in zip(poles, levels, strict=True)
    ],
    axis=-1,
  )
  window = scipy.signal.windows.hann(2 * _N_AROUND + 3)[1:-1]

  def around(values):
    return scipy.ndimage.convolve1d(values, window, axis=1, mode='constant')

  # Loud frames count more, within what is fitted together.
  weight = out_power / np.maximum(around(out_power), 1e-12)
  normal = np.einsum('kbti,kbtj,btc->btcij', followed, followed, weight)
  right = np.einsum('kbti,kbtc,btc->btci', followed, change, weight)
  normal, right = around(normal), around(right)
  n_poles = len(poles)
  stiffness = _RIDGE * np.trace(normal, axis1=-2, axis2=-1) / n_poles + 1e-12
  normal += stiffness[..., np.newaxis, np.newaxis] * np.eye(n_poles)
  # Of shape [batch, n_frames, n_channels, n_poles].
  weights = np.linalg.solve(normal, right[..., np.newaxis])[..., 0]

  driven = sums(cotangent * output)[..., np.newaxis] * weights
  to_power = np.zeros(in_power.shape)
  for i, (pole, level) in enumerate(zip(poles, levels, strict=True)):
    share = driven[..., i].sum(-1) / level
    to_power += _follow(share[:, ::-1], pole)[:, ::-1]
  per_sample = np.repeat(to_power, n_frame, axis=1)[:, :n_samples]
  return per_sample[..., np.newaxis] * audio


def _follow(values, pole):
  """Smooths [..., n_frames] by a one-pole of unit gain."""
  return scipy.signal.lfilter([1.0 - pole], [1.0, -pole], values, axis=-1)
