"""Compares gradients to audio with differences along a few directions."""

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dafx.gradients import adjoint, black_box

# Directions: octaves that a band is wide, and changes of its gain per item.
_OCTAVES = 1.0
_N_CHANGES = 16
_MIN_LEVEL = 1e-3
# The best adjoint is looked for at these calls, and at every so many.
_CHECKED_CALLS = (0, 100)
_CALLS_PER_CHECK = 1000
# A gradient that has to be multiplied by more, or less, is none.
_MAX_FACTOR = 1e3


class Agreement(typing.NamedTuple):
  """How a gradient compares with differences.

  Attributes:
    cosine: Between the slopes that it gives and those that were measured.
    factor: What it has to be multiplied by to fit them best.

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> gradients.Agreement(cosine=0.9, factor=1.1).cosine
    0.9
  """

  cosine: float
  factor: float


def draw_audio_directions(
  audio: np.ndarray,
  n_directions: int,
  seed: int = 0,
  step: int = 0,
  item_keys: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
  """Draws ways in which what stands before a box may change its audio.

  Each is a band of the audio, an octave or so wide, whose gain goes up and down
  at random; a little noise is in it where the audio is silent.

  Args:
    audio: Shape [batch, n_samples, n_channels].
    n_directions: Directions per item.
    seed: Seed of the directions.
    step: Training step; each has directions of its own.
    item_keys: A whole number for each item, by which what is drawn for it is
      told apart; its place in the batch by default.

  Returns:
    Directions of the level of the audio, shape [n_directions, batch, n_samples,
    n_channels], float64.

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> audio = np.random.default_rng(0).normal(0.0, 0.1, [1, 4096, 1])
    >>> gradients.draw_audio_directions(audio, 8).shape
    (8, 1, 4096, 1)
  """
  n_items, n_samples, n_channels = audio.shape
  level = np.sqrt(np.mean(np.square(audio, dtype=float), axis=(1, 2)))
  frequencies = np.fft.rfftfreq(n_samples)
  drawn = np.empty((n_directions, *audio.shape))
  item_keys = range(n_items) if item_keys is None else item_keys
  for item, key in enumerate(item_keys):
    rng = np.random.default_rng([seed, step, key])
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

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> def render(audio, items, backwards):  # a box of a gain of 3
    ...   return 3.0 * audio
    >>> box: gradients.AudioRender = render
    >>> audio, cotangent = np.ones([1, 100, 1]), np.full([1, 100, 1], 0.5)
    >>> directions = np.ones([1, 1, 100, 1])
    >>> gradients.measure_slopes(box, audio, cotangent, directions).round(3)
    array([[150.]])
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

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> gradient, directions = np.ones([1, 100, 1]), np.ones([1, 1, 100, 1])
    >>> gradients.compare_with_slopes(gradient, directions, np.array([[150.0]]))
    Agreement(cosine=1.0, factor=1.5)
  """
  return _agreement(_sums_by_item(gradient, directions, slopes))


def _sums_by_item(gradient, directions, slopes):
  """Returns what an agreement is made of for each item, [batch, 3]."""
  given = (gradient * directions).sum((2, 3))
  parts = [given * slopes, given**2, slopes**2]
  return np.stack([part.sum(0) for part in parts], axis=-1)


def _agreement(sums):
  """Returns the agreement over all items, of sums [batch, 3]."""
  product, own, other = sums.sum(0)
  if not (own > 0.0 and other > 0.0 and np.isfinite(product)):
    return Agreement(0.0, 0.0)
  return Agreement(float(product / np.sqrt(own * other)), float(product / own))


def choose_adjoint(
  render: black_box.AudioRender,
  audio: np.ndarray,
  cotangent: np.ndarray,
  candidates: Mapping[typing.Hashable, Callable],
  *,
  n_directions: int = 8,
  max_items: int = 4,
  seed: int = 0,
  step: int = 0,
  item_keys: Sequence[int] | None = None,
  gather: black_box.Gather = black_box.alone,
) -> dict[typing.Hashable, Agreement]:
  """Says how well ways to the gradient to the audio do, the best one first.

  Args:
    render: The box; see `adjoint`.
    audio: What goes into the box, shape [batch, n_samples, n_in].
    cotangent: Gradient to what comes out, [batch, n_samples, n_out].
    candidates: Functions (render, audio, cotangent, item_keys) -> gradient to
      the audio, by name.
    n_directions: Directions per item that slopes are measured along; two
      renders each.
    max_items: Items looked at: those with the largest cotangents of the whole
      batch.
    seed: Seed of the directions.
    step: Training step; each has directions of its own.
    item_keys: Place of each item in the whole batch; here by default.
    gather: Where other machines have other parts of the batch, returns the
      rows of all of them. Each looks at the items that it has, and all find
      the same.

  Returns:
    The agreement of each candidate, by falling cosine; candidates that are
    alike to 0.002 are in the order in which they came. Empty if no cotangent is
    finite and other than zero.

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> audio = np.random.default_rng(0).normal(0.0, 0.1, [1, 4096, 1])
    >>> def render(audio, items, backwards):
    ...   return 3.0 * audio
    >>> candidates = {
    ...   'wire': lambda render, audio, cotangent, keys: cotangent,
    ...   'silence': lambda render, audio, cotangent, keys: 0.0 * cotangent,
    ... }
    >>> list(gradients.choose_adjoint(render, audio, audio, candidates))
    ['wire', 'silence']
  """
  keys = np.arange(len(audio)) if item_keys is None else np.array(item_keys)
  ranked = _largest(gather(_sizes(cotangent, keys)), max_items)
  if not len(ranked):
    return {}
  here = [
    (r, i) for r, key in enumerate(ranked) for i in np.flatnonzero(keys == key)
  ]
  ranks = np.array([rank for rank, _ in here], int)
  chosen = np.array([item for _, item in here], int)
  sums = np.zeros((len(here), len(candidates), 3))
  if here:
    sums = _measure(
      render, audio, cotangent, candidates, chosen, ranks, n_directions, seed,
      step,
    )  # fmt: skip
  rows = gather(
    np.hstack([ranks[:, np.newaxis], sums.reshape(-1, 3 * len(candidates))])
  )
  # In the order of their sizes, whoever has them: sums are alike to the bit.
  rows = rows[np.argsort(rows[:, 0], kind='stable'), 1:]
  sums = rows.reshape(len(rows), len(candidates), 3)
  found = {name: _agreement(sums[:, k]) for k, name in enumerate(candidates)}
  # In steps of 0.002: what comes later is dearer and has to be better.
  return dict(sorted(found.items(), key=lambda e: -round(500 * e[1].cosine)))


def _sizes(cotangent, keys):
  """Returns (key, energy of the cotangent) of each item, [batch, 2]."""
  size = np.square(cotangent, dtype=float).sum((1, 2))
  return np.stack([keys, np.where(np.isfinite(size), size, 0.0)], axis=-1)


def _largest(sizes, n):
  """Returns the keys of the n items with the largest cotangents, above 0."""
  keys, size = sizes.T
  order = np.lexsort((keys, -size))[:n]
  return keys[order][size[order] > 0.0]


def _measure(
  render, audio, cotangent, candidates, chosen, ranks, n_directions, seed, step
):
  """Compares candidates with slopes at the chosen items.

  Args:
    render: The box; see `adjoint`.
    audio: Of the whole batch that is here.
    cotangent: Of the same.
    candidates: As of `choose_adjoint`.
    chosen: Items of it that are looked at, [n_chosen].
    ranks: Their keys, by which what is drawn for them is told apart.
    n_directions: Directions per item.
    seed: Seed of the directions.
    step: Training step.

  Returns:
    What agreements are made of, [n_chosen, n_candidates, 3].
  """

  def render_chosen(signals, of, backwards):
    return render(signals, chosen[of], backwards)

  audio, cotangent = audio[chosen], cotangent[chosen]
  directions = draw_audio_directions(audio, n_directions, seed, step, ranks)
  slopes = measure_slopes(render_chosen, audio, cotangent, directions)
  gradients = [
    candidate(render_chosen, audio, cotangent, ranks)
    for candidate in candidates.values()
  ]
  sums = [_sums_by_item(g, directions, slopes) for g in gradients]
  return np.stack(sums, axis=1)


@dataclasses.dataclass(frozen=True)
class BestAdjoint(black_box.AudioAdjoint):
  """The gradient to the audio that agrees best with differences.

  It compares time reversal, gain times filter and a wire with the slopes along
  a few directions, at its first call, at the hundredth and at every thousandth,
  by some 40 to 60 renders of up to four items. The best one is then taken,
  times the factor that fits it to the slopes.

  Args:
    epsilons: Sizes of the perturbation of the audio that `Reversal` is tried
      with. For a box that is linear in its audio, (1.0,) is enough.

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> audio = np.random.default_rng(0).normal(0.0, 0.1, [1, 4096, 1])
    >>> def render(audio, items, backwards):
    ...   return 3.0 * audio
    >>> adjoint = gradients.BestAdjoint()
    >>> gradient, state = adjoint.pull_back(
    ...   render, audio, audio, sample_rate=48000
    ... )
    >>> np.allclose(gradient, 3.0 * audio, atol=1e-3)
    True
  """

  epsilons: Sequence[float] = (0.1, 0.01, 1.0)

  def __post_init__(self):
    """Checks the sizes."""
    object.__setattr__(self, 'epsilons', tuple(self.epsilons))
    if not self.epsilons:
      raise ValueError('epsilons is empty; give a size, such as (0.1,).')
    self.candidates(1, 1)

  def candidates(self, n_in: int, n_out: int) -> list[black_box.AudioAdjoint]:
    """Returns what is compared, in the order that `AdjointState.choice` has.

    Args:
      n_in: Channels of the audio.
      n_out: Channels of the output.
    """
    ways: list[black_box.AudioAdjoint] = [
      *(adjoint.Reversal(size) for size in self.epsilons),
      adjoint.GainFilter(),
      adjoint.StraightThrough(),
    ]
    return [way for way in ways if way.takes(n_in, n_out)]

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
    ways = self.candidates(audio.shape[-1], cotangent.shape[-1])
    item_keys = range(len(audio)) if item_keys is None else item_keys
    options: dict[str, Any] = dict(
      sample_rate=sample_rate, seed=seed, step=step
    )
    is_due = step in _CHECKED_CALLS or step % _CALLS_PER_CHECK == 0
    state = state._replace(report='', is_sure=True)
    if is_due or not 0 <= state.choice < len(ways):
      state = _compare(
        ways, render, audio, cotangent, options, state, item_keys, gather
      )
    # -1: no cotangent to tell them apart by, so nothing to go wrong with.
    way = ways[max(state.choice, 0)]
    gradient, _ = way.pull_back(
      render, audio, cotangent, item_keys=item_keys, **options
    )
    return state.factor * gradient, state


def _compare(ways, render, audio, cotangent, options, state, item_keys, gather):
  """Returns the state with the way that agrees best with differences.

  Args:
    ways: Adjoints.
    render: The box; see `adjoint`.
    audio: Shape [batch, n_samples, n_channels].
    cotangent: Gradient to the output.
    options: sample_rate, seed and step.
    state: From before.
    item_keys: Place of each item in the whole batch.
    gather: As of `choose_adjoint`.
  """

  def candidate(way):
    return lambda *arrays: way.pull_back(
      *arrays[:3], item_keys=arrays[3], **options
    )[0]

  found = choose_adjoint(
    render,
    audio,
    cotangent,
    {way: candidate(way) for way in ways},
    seed=options['seed'],
    step=options['step'],
    item_keys=item_keys,
    gather=gather,
  )
  if not found:
    return state._replace(choice=-1)
  best, agreement = next(iter(found.items()))
  cosines = ', '.join(f'{way} {a.cosine:.3f}' for way, a in found.items())
  # A wire of a box that blows up agrees a little, times 10 to the 39.
  is_sane = 1.0 / _MAX_FACTOR < agreement.factor < _MAX_FACTOR
  if agreement.cosine <= 0.0 or not is_sane:
    wire = adjoint.StraightThrough()
    best = wire if wire in ways else best
    report = f'by {best}: none agrees with differences (cosines: {cosines})'
    return black_box.AdjointState(ways.index(best), 1.0, report, False)
  # In single precision, as a checkpoint keeps it.
  factor = float(np.float32(agreement.factor))
  report = f'by {best}, times {factor:.3f} (cosines to differences: {cosines})'
  return black_box.AdjointState(ways.index(best), factor, report)
