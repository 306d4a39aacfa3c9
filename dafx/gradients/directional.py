"""Compares gradients to audio with differences along a few directions."""

import typing
from collections.abc import Callable, Mapping

import numpy as np

from dafx.gradients import black_box

# Directions: octaves that a band is wide, and changes of its gain per item.
_OCTAVES = 1.0
_N_CHANGES = 16
_MIN_LEVEL = 1e-3


class Agreement(typing.NamedTuple):
  """How a gradient compares with differences.

  Attributes:
    cosine: Between the slopes that it gives and those that were measured.
    factor: What it has to be multiplied by to fit them best.
  """

  cosine: float
  factor: float


def draw_audio_directions(
  audio: np.ndarray, n_directions: int, seed: int = 0, step: int = 0
) -> np.ndarray:
  """Draws ways in which what stands before a box may change its audio.

  Each is a band of the audio, an octave or so wide, whose gain goes up and down
  at random; a little noise is in it where the audio is silent.

  Args:
    audio: Shape [batch, n_samples, n_channels].
    n_directions: Directions per item.
    seed: Seed of the directions.
    step: Training step; each has directions of its own.

  Returns:
    Directions of the level of the audio, shape [n_directions, batch, n_samples,
    n_channels], float64.
  """
  n_items, n_samples, n_channels = audio.shape
  level = np.sqrt(np.mean(np.square(audio, dtype=float), axis=(1, 2)))
  frequencies = np.fft.rfftfreq(n_samples)
  drawn = np.empty((n_directions, *audio.shape))
  for item in range(n_items):
    rng = np.random.default_rng([seed, step, item])
    item_level = max(level[item], _MIN_LEVEL)
    noise = rng.standard_normal((n_samples, n_channels))
    spectrum = np.fft.rfft(audio[item] + 0.01 * item_level * noise, axis=0)
    for k in range(n_directions):
      centre = 2.0 ** rng.uniform(-8.0, -1.5)  # of the sample rate
      distance = np.log2(np.maximum(frequencies, 1e-6) / centre) / _OCTAVES
      weight = np.exp(-0.5 * distance**2)[:, np.newaxis]
      band = np.fft.irfft(weight * spectrum, n_samples, axis=0)
      gains = rng.standard_normal(_N_CHANGES)
      places = np.linspace(0.0, _N_CHANGES - 1.0, n_samples)
      band *= np.interp(places, np.arange(_N_CHANGES), gains)[:, np.newaxis]
      size = np.sqrt(np.mean(band**2))
      drawn[k, item] = band * item_level / max(size, 1e-12)
  return drawn


def measure_slopes(
  render: black_box.AudioRender,
  audio: np.ndarray,
  cotangent: np.ndarray,
  directions: np.ndarray,
  *,
  epsilon: float = 0.01,
) -> np.ndarray:
  """Measures sum(cotangent * J v) for directions v by central differences.

  Args:
    render: The box; see `adjoint`.
    audio: Shape [batch, n_samples, n_in].
    cotangent: Shape [batch, n_samples, n_out].
    directions: Shape [n_directions, batch, n_samples, n_in].
    epsilon: Size of the step along a direction.

  Returns:
    Slopes of shape [n_directions, batch].
  """
  n_directions, n_items = directions.shape[:2]
  moved = np.stack([audio + epsilon * directions, audio - epsilon * directions])
  items = np.tile(np.arange(n_items), 2 * n_directions)
  signals = render(moved.reshape(-1, *audio.shape[1:]), items, False)
  signals = np.asarray(signals, np.float64)
  plus, minus = signals.reshape(2, n_directions, *cotangent.shape)
  return ((plus - minus) * cotangent).sum((2, 3)) / (2.0 * epsilon)


def compare_with_slopes(
  gradient: np.ndarray, directions: np.ndarray, slopes: np.ndarray
) -> Agreement:
  """Compares a gradient to audio with slopes that were measured.

  Args:
    gradient: Shape [batch, n_samples, n_in].
    directions: Shape [n_directions, batch, n_samples, n_in].
    slopes: As `measure_slopes` gives them.

  Returns:
    Their agreement; 0 and 0 where either is zero.
  """
  given = (gradient * directions).sum((2, 3))
  product = (given * slopes).sum()
  own, other = (given**2).sum(), (slopes**2).sum()
  if not (own > 0.0 and other > 0.0 and np.isfinite(product)):
    return Agreement(0.0, 0.0)
  return Agreement(float(product / np.sqrt(own * other)), float(product / own))


def choose_adjoint(
  render: black_box.AudioRender,
  audio: np.ndarray,
  cotangent: np.ndarray,
  candidates: Mapping[str, Callable],
  *,
  n_directions: int = 8,
  max_items: int = 4,
  seed: int = 0,
  step: int = 0,
) -> dict[str, Agreement]:
  """Says how well ways to the gradient to the audio do, the best one first.

  Args:
    render: The box; see `adjoint`.
    audio: What goes into the box, shape [batch, n_samples, n_in].
    cotangent: Gradient to what comes out, [batch, n_samples, n_out].
    candidates: Functions (render, audio, cotangent) -> gradient to the audio,
      by name.
    n_directions: Directions per item that slopes are measured along; two
      renders each.
    max_items: Items looked at: those with the largest cotangents.
    seed: Seed of the directions.
    step: Training step; each has directions of its own.

  Returns:
    The agreement of each candidate, by falling cosine; candidates that are
    alike to 0.002 are in the order in which they came. Empty if no cotangent is
    finite and other than zero.
  """
  size = np.square(cotangent, dtype=float).sum((1, 2))
  order = np.argsort(-np.where(np.isfinite(size), size, 0.0), kind='stable')
  items = [i for i in order[:max_items] if np.isfinite(size[i]) and size[i]]
  if not items:
    return {}
  chosen = np.array(items)

  def render_chosen(signals, of, backwards):
    return render(signals, chosen[of], backwards)

  audio, cotangent = audio[chosen], cotangent[chosen]
  directions = draw_audio_directions(audio, n_directions, seed, step)
  slopes = measure_slopes(render_chosen, audio, cotangent, directions)
  found = {
    name: compare_with_slopes(
      candidate(render_chosen, audio, cotangent), directions, slopes
    )
    for name, candidate in candidates.items()
  }
  # In steps of 0.002: what comes later is dearer and has to be better.
  return dict(sorted(found.items(), key=lambda e: -round(500 * e[1].cosine)))
