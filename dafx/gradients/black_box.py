"""What a black box is to estimators, and what estimators are to a processor."""

import abc
import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence

import numpy as np

# (controls [n, n_frames, n_controls], items [n]) -> signals [n, n_samples, ...]
Render = Callable[[np.ndarray, np.ndarray], np.ndarray]

# (audio [n, n_samples, n_in], items [n], whether under reversed controls) ->
# signals [n, n_samples, n_out], without latency.
AudioRender = Callable[[np.ndarray, np.ndarray, bool], np.ndarray]

# Rows [n, ...] of the items that are here -> those of all machines that share
# the batch, in order.
Gather = Callable[[np.ndarray], np.ndarray]

# (n_samples, n_frames) of an item -> frames after its own that a frame acts in.
MeasureMemory = Callable[[int, int], int]


def flatten(signals: np.ndarray, n: int) -> np.ndarray:
  """Returns signals [n, n_samples, ...] as float64 [n, n_samples, channels]."""
  signals = np.asarray(signals, np.float64)
  return signals.reshape(n, signals.shape[1], -1)


def alone(rows: np.ndarray) -> np.ndarray:
  """Gathers rows where the whole batch is here: returns them."""
  return rows


def check_controls(controls: np.ndarray) -> np.ndarray:
  """Checks controls that all estimators of their gradient are given.

  Args:
    controls: In [0, 1], shape [batch, n_frames, n_controls].

  Returns:
    The controls, float64.

  Raises:
    ValueError: Another shape, or values outside.
  """
  controls = np.asarray(controls, np.float64)
  if controls.ndim != 3:
    raise ValueError(
      f'controls has shape {controls.shape}; it must be [batch, n_frames, '
      'n_controls].'
    )
  if controls.size and not (controls.min() >= 0.0 and controls.max() <= 1.0):
    raise ValueError(
      f'controls span {controls.min():g} to {controls.max():g}; they must '
      'lie in [0, 1].'
    )
  return controls


def check(
  controls: np.ndarray, cotangent: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Checks what all estimators of the gradient to controls are given.

  Args:
    controls: In [0, 1], shape [batch, n_frames, n_controls].
    cotangent: Gradient to the box's output, shape [batch, n_samples, ...].

  Returns:
    (controls, cotangent [batch, n_samples, channels]), float64.

  Raises:
    ValueError: Arguments that do not fit together.
  """
  controls = check_controls(controls)
  if len(cotangent) != len(controls):
    raise ValueError(
      f'cotangent has {len(cotangent)} items, controls has {len(controls)}.'
    )
  return controls, flatten(cotangent, len(controls))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControlEstimator(abc.ABC):
  """Estimates the gradient to the controls of a black box.

  An estimator holds options and no state. All sizes are shares of a control's
  range, which is [0, 1].

  Args:
    epsilon: Size of the perturbation of a control; above 0 and at most 0.5.
    epsilons: Other sizes for single controls, by symbol.
    epsilon_decay: Exponent by which sizes shrink as training goes on. At a step
      they are divided by (1 + step / epsilon_decay_steps) ** epsilon_decay,
      Spall's gain sequence c_k (1998, "Implementation of the simultaneous
      perturbation algorithm", eq. 2), for which he advises 0.101. 0 keeps them.
    epsilon_decay_steps: Steps after which sizes are divided by
      2 ** epsilon_decay.

  Raises:
    ValueError: A size, exponent or number of steps out of its range.
  """

  epsilon: float = 0.01
  epsilons: Mapping[str, float] | None = None
  epsilon_decay: float = 0.0
  epsilon_decay_steps: int = 1000

  def __post_init__(self):
    """Checks the options."""
    sizes = {'epsilon': self.epsilon}
    sizes |= {f'epsilons[{s!r}]': v for s, v in (self.epsilons or {}).items()}
    for name, size in sizes.items():
      if not 0.0 < size <= 0.5:
        raise ValueError(f'{name}={size} must be above 0 and at most 0.5.')
    if not (self.epsilon_decay >= 0.0 and self.epsilon_decay_steps > 0):
      raise ValueError(
        f'epsilon_decay={self.epsilon_decay} must be at least 0 and '
        f'epsilon_decay_steps={self.epsilon_decay_steps} positive.'
      )

  def epsilons_at(self, symbols: Sequence[str], step: int = 0) -> np.ndarray:
    """Returns the size of each control's perturbation at a step.

    Args:
      symbols: Names of the controls.
      step: Training step.

    Returns:
      Sizes of shape [n_controls], float64.

    Raises:
      ValueError: `epsilons` names a control that is not there.
    """
    epsilons = dict(self.epsilons or {})
    for symbol in epsilons:
      if symbol not in symbols:
        raise ValueError(
          f'epsilons names {symbol!r}, which is not trainable; trainable are '
          f'{", ".join(map(str, symbols)) or "none"}.'
        )
    sizes = np.array([epsilons.get(s, self.epsilon) for s in symbols], float)
    return sizes / (1.0 + step / self.epsilon_decay_steps) ** self.epsilon_decay

  def of_controls(self, symbols: Sequence[str]) -> 'ControlEstimator':
    """Returns it with the sizes of some controls alone.

    Args:
      symbols: Names of these controls.
    """
    if not self.epsilons:
      return self
    sizes = {s: size for s, size in self.epsilons.items() if s in symbols}
    return dataclasses.replace(self, epsilons=sizes)

  def points_ahead(
    self,
    controls: np.ndarray,
    n_samples: int,
    *,
    symbols: Sequence[str] | None = None,
    measure_memory: MeasureMemory | None = None,
    seed: int = 0,
    step: int = 0,
    item_keys: Sequence[int] | None = None,
  ) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns what `estimates` renders first, before the cotangent is known.

    Who has idle processors can render it ahead.

    Args:
      controls: As of `estimates`, and so are all that follow.
      n_samples: Samples of an item.
      symbols: Names of the controls.
      measure_memory: As of `estimates`.
      seed: Seed of the run.
      step: Training step.
      item_keys: A whole number for each item.

    Returns:
      (controls [n, n_frames, n_controls], items [n]), as the first call of
      `render` gets them; None for an estimator that does not say.

    Raises:
      ValueError: Arguments that do not fit together.
    """
    del controls, n_samples, symbols, measure_memory, seed, step, item_keys
    return None

  @abc.abstractmethod
  def estimates(
    self,
    render: Render,
    controls: np.ndarray,
    cotangent: np.ndarray,
    *,
    symbols: Sequence[str] | None = None,
    measure_memory: MeasureMemory | None = None,
    signal: np.ndarray | None = None,
    seed: int = 0,
    step: int = 0,
    item_keys: Sequence[int] | None = None,
  ) -> np.ndarray:
    """Estimates the gradient of sum(cotangent * render(controls)).

    Args:
      render: The black box; see `dafx.gradients`.
      controls: In [0, 1], shape [batch, n_frames, n_controls].
      cotangent: Gradient to the box's output, shape [batch, n_samples, ...].
      symbols: Names of the controls, which `epsilons` refers to; their numbers
        by default.
      measure_memory: From (n_samples, n_frames) of an item to the number of
        frames after its own in which the box responds to a frame.
      signal: The box's output at `controls`, where it is known.
      seed: Seed of the run.
      step: Training step.
      item_keys: A whole number for each item, by which what is drawn for it is
        told apart; its place in the batch by default. With keys that stay with
        their items, a permuted batch has permuted gradients.

    Returns:
      One gradient for each probe, of which the mean is the estimate: shape
      [n_probes, batch, n_frames, n_controls], float64.

    Raises:
      ValueError: Arguments that do not fit together.
    """


class AdjointState(typing.NamedTuple):
  """What an `AudioAdjoint` keeps from one call to the next.

  Attributes:
    choice: Index of the way that was chosen; -1 for none yet.
    factor: What the gradient of that way is multiplied by.
    report: What a comparison in this call found, as the end of a sentence that
      begins with 'The gradient is'; empty where there was none.
    is_sure: False where that comparison found no way that is right.

  Examples:
    >>> import numpy as np
    >>> from dafx import gradients
    >>> gradients.AdjointState().factor
    1.0
  """

  choice: int = -1
  factor: float = 1.0
  report: str = ''
  is_sure: bool = True


class AudioAdjoint(abc.ABC):
  """Estimates the gradient to the audio that goes into a black box.

  It holds options. State comes in and goes out.
  """

  def takes(self, n_in: int, n_out: int) -> bool:
    """Returns whether it can pull back from n_out channels to n_in."""
    del n_in, n_out
    return True

  @abc.abstractmethod
  def pull_back(
    self,
    render: AudioRender,
    audio: np.ndarray,
    cotangent: np.ndarray,
    *,
    sample_rate: float,
    state: AdjointState = AdjointState(),  # noqa: B008  It cannot change.
    seed: int = 0,
    step: int = 0,
    item_keys: Sequence[int] | None = None,
    gather: Gather = alone,
  ) -> tuple[np.ndarray, AdjointState]:
    """Estimates the gradient of sum(cotangent * render(audio)) to the audio.

    Args:
      render: The box; see `adjoint`.
      audio: What went into the box, shape [batch, n_samples, ...].
      cotangent: Gradient to what came out, shape [batch, n_samples, ...].
      sample_rate: Rate of the audio, in Hz.
      state: What the call before returned.
      seed: Seed of the run.
      step: How often the gradient was asked for before.
      item_keys: A whole number for each item, by which what is drawn for it is
        told apart; its place in the batch by default.
      gather: Where other machines have other parts of the batch, returns the
        rows of all of them; what it is called with and how often does not
        depend on the items.

    Returns:
      (Gradient to the audio, of its shape, and the state for the next call).

    Raises:
      ValueError: Shapes that do not fit, or numbers of channels that it does
        not take.
    """
