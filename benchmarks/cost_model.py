"""What a step of one of several workers takes, as docs/scaling.md says."""

from collections.abc import Sequence
from typing import NamedTuple

import simulated


class Rest(NamedTuple):
  """What a step takes in which renders take no time.

  Attributes:
    seconds: From its begin to its end.
    processor_seconds: Of all processors together.
  """

  seconds: float
  processor_seconds: float


def predict(
  renders: Sequence[float],
  calls: Sequence[simulated.Call],
  rest: Rest,
  reduction: float,
  n_processors: float,
) -> tuple[float, float, float]:
  """Returns the parts of a step that the model of cost gives, in seconds.

  Args:
    renders: What a render of each plugin takes of a processor.
    calls: What a worker renders in a step.
    rest: All else of a step of its part, on its processors.
    reduction: Seconds of one.
    n_processors: Of a worker; below 1 where workers share one.

  Returns:
    (The work of a step, on all processors; what the chain of all that waits for
    each other adds to it; reduction.)
  """
  work = sum(renders[call.plugin] * call.n_items for call in calls)
  waited_for = sum(renders[call.plugin] for call in calls if not call.is_ahead)
  return (
    (work + rest.processor_seconds) / n_processors,
    (waited_for + rest.seconds) * max(1.0 - 1.0 / n_processors, 0.0),
    reduction,
  )
