"""What a search works on: audio and target, and what it may cost."""

import dataclasses
import threading
import time
from collections.abc import Callable

import numpy as np

from dafx.training.matching import distances


class OutOfBudgetError(Exception):
  """Time or renders are used up."""


class Budget:
  """Time and renders that a search may take.

  Args:
    time_limit_s: Seconds; None for any.
    max_renders: Renders of one plugin; None for any.
    clock: Gives the time in s.

  Attributes:
    n_renders: Renders so far.
  """

  def __init__(
    self,
    time_limit_s: float | None = None,
    max_renders: int | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._limit_s, self._max_renders = time_limit_s, max_renders
    self._clock, self._start = clock, clock()
    self._lock = threading.Lock()
    self.n_renders = 0
    self.end = ''

  def seconds(self) -> float:
    """Returns the time so far."""
    return self._clock() - self._start

  def part(self) -> float:
    """Returns how much of the limit is used, from 0 to 1."""
    parts = [0.0]
    if self._limit_s is not None:
      parts.append(self.seconds() / max(self._limit_s, 1e-9))
    if self._max_renders is not None:
      parts.append(self.n_renders / max(self._max_renders, 1))
    return min(max(parts), 1.0)

  def spend(self, n_renders: int):
    """Counts renders that are about to be made.

    Raises:
      OutOfBudgetError: There is no room for them.
    """
    with self._lock:
      self.n_renders += n_renders
      if self._limit_s is not None and self.seconds() > self._limit_s:
        self.end = 'time'
      elif self._max_renders is not None and self.n_renders > self._max_renders:
        self.n_renders -= n_renders
        self.end = 'renders'
      if self.end:
        raise OutOfBudgetError(self.end)


@dataclasses.dataclass(frozen=True)
class Step:
  """What a search had reached at one time.

  Attributes:
    phase: What it did.
    distance: What it had reached, in the terms of that phase.
    n_renders: Renders of one plugin so far.
    seconds: Time so far.
    cpu_s: Processor time of all threads so far.
  """

  phase: str
  distance: float
  n_renders: int
  seconds: float
  cpu_s: float


class Heard:
  """A piece of audio, and what is heard of what becomes of it.

  Args:
    audio: Shape [n_items, n_samples, n_channels].
    sample_rate: In Hz.
    lead: Samples at the start of an item that are rendered, not heard.
  """

  def __init__(self, audio: np.ndarray, sample_rate: float, lead: int):
    self.audio = np.asarray(audio, np.float32)
    self.sample_rate, self.lead = sample_rate, lead

  def rows(self, audio: np.ndarray) -> np.ndarray:
    """Returns what is heard, [n_items, n_samples, n_channels]."""
    return audio[:, self.lead :]


class Problem(Heard):
  """A piece of audio, what it is to become, and what is heard of it.

  Args:
    audio: Shape [n_items, n_samples, n_channels].
    target: Shape [n_items, n_samples, n_target_channels].
    sample_rate: In Hz.
    lead: Samples at the start of an item that are rendered, not compared.
    side_weight: How much the side of two channels counts; 0 for not at all.
    highest_hz: What lies above is not compared.
  """

  def __init__(
    self,
    audio: np.ndarray,
    target: np.ndarray,
    sample_rate: float,
    lead: int = 0,
    side_weight: float = 0.0,
    highest_hz: float = np.inf,
  ):
    super().__init__(audio, sample_rate, lead)
    self.target = np.asarray(target, np.float32)
    self._has_side = side_weight > 0.0
    rows = self.rows(target)
    n_items = len(audio)
    shares = [1.0 - side_weight] + [side_weight] * self._has_side
    weights = np.repeat(np.array(shares) / n_items, n_items)
    self.envelopes = distances.Envelopes(rows, weights, sample_rate)
    self.distance = distances.Distance(
      rows, weights, sample_rate, n_items, highest_hz=highest_hz
    )

  def rows(self, audio: np.ndarray) -> np.ndarray:
    """Returns what is compared, [n_rows, n_samples]: middles, then sides."""
    audio = audio[:, self.lead :]
    rows = [audio.mean(-1)]
    if self._has_side:
      other = audio[..., 1] if audio.shape[-1] > 1 else audio[..., 0]
      rows.append(0.5 * (audio[..., 0] - other))
    return np.concatenate(rows)
