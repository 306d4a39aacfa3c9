"""Descent by renders: side by side, until nothing is gained."""

import abc
import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from dafx import lv2
from dafx.training.matching import chain as chain_lib
from dafx.training.matching import newton
from dafx.training.matching import problem as problem_lib

_FIRST_DAMPING = 0.01
# A round that gains less, relative to the distance, counts as stuck; so many
# of them in a row end a step size.
_LEAST_GAIN = 2e-3
_MAX_STUCK = 2
_POOR_GAIN = 0.03


class Descent(abc.ABC):
  """Renders of a chain side by side, and descent by differences of them.

  Args:
    chain: The chain.
    budget: Time and renders.
    seed: Of the starts.
    report: Is told each step.

  Attributes:
    best: The best setting so far.
    history: What was reached when.
  """

  def __init__(
    self,
    chain: chain_lib.Chain,
    budget: problem_lib.Budget,
    seed: int = 0,
    report: Callable[[problem_lib.Step], None] = lambda step: None,
  ):
    self.chain, self.budget = chain, budget
    self.best = chain.start()
    self.history: list[problem_lib.Step] = []
    self._best_of = '', np.inf
    self._seed, self._report = seed, report
    self._cpu_0 = time.process_time()
    self._pool = concurrent.futures.ThreadPoolExecutor(lv2.default_n_threads())
    self._is_stopped = threading.Event()

  @abc.abstractmethod
  def _search(self):
    """Goes from starts to the end; raises where the budget is used up."""

  def run(self) -> str:
    """Searches until nothing is gained, or the budget is used up.

    Returns:
      How it ended: 'converged', 'time', 'renders' or 'interrupted'. `best` is
      then the best setting that was found.
    """
    try:
      self._search()
    except problem_lib.OutOfBudgetError as error:
      return str(error)
    except KeyboardInterrupt:
      return 'interrupted'
    finally:
      self._pool.shutdown()
    return 'converged'

  def _map(self, task: Callable, items: Iterable) -> list[Any]:
    """Returns task(item) of all items, on all threads.

    Where one raises, or the user interrupts, the others are not begun.
    """

    def guarded(item):
      if self._is_stopped.is_set():
        raise problem_lib.OutOfBudgetError('interrupted')
      return task(item)

    futures = [self._pool.submit(guarded, item) for item in items]
    try:
      return [future.result() for future in futures]
    except BaseException:
      self._is_stopped.set()
      for future in futures:
        future.cancel()
      concurrent.futures.wait(futures)
      self._is_stopped.clear()
      raise

  def _heard(self, problem, point):
    """Returns the signals of a setting, and what is heard of them."""
    self.budget.spend(self.chain.cost())
    signals = self.chain.signals(problem.audio, point)
    return signals, problem.rows(self.chain.output(signals))

  def _moved(self, point, control, size):
    """Returns a setting with one control moved, and by how much."""
    controls = point.controls.copy()
    before = controls[control]
    controls[control] += size if before + size <= 1.0 else -size
    moved = dataclasses.replace(point, controls=controls)
    return moved, controls[control] - before

  def _responses_to(self, problem, point, signals, controls, size, hear):
    """Returns differences of what is heard by each control.

    Args:
      problem: Audio and target.
      point: Where.
      signals: Of that setting.
      controls: Numbers of the controls.
      size: How far they move.
      hear: Returns arrays of rows; their differences are returned.
    """

    def of(control):
      moved, change = self._moved(point, control, size)
      first = self.chain.stage_of(control)
      self.budget.spend(self.chain.cost(first))
      found = self.chain.signals(problem.audio, moved, signals, first)
      return hear(problem.rows(self.chain.output(found)), change)

    return self._map(of, controls)

  def _descend(
    self, point, phase, size, model_of, values_of, max_rounds=1000, until=1.0
  ):
    """Goes down until it is stuck; returns (distance, setting).

    It ends too where the share `until` of the budget is used.
    """
    damping, n_stuck, model = _FIRST_DAMPING, 0, None
    value, anew = None, True
    # Without controls there are single values alone.
    for _ in range(max_rounds if self.chain.n_controls else 0):
      if self.budget.part() >= until:
        break
      if model is None:
        model = model_of(point, size, anew)
      trials = [
        dataclasses.replace(
          point, controls=newton.bounded_step(point.controls, model, d)
        )
        for d in damping * np.array(newton.FACTORS)
      ]
      values = values_of(trials)
      winner = int(np.argmin(values))
      gain = 1.0 - values[winner] / max(model.value, 1e-12)
      value = min(model.value, values[winner])
      # Slopes that were carried on too far are to blame first.
      anew = model.is_carried and gain < _POOR_GAIN
      if gain > 0.0 or not anew:
        damping = newton.next_damping(damping, winner if gain > 0.0 else None)
      if gain > 0.0:
        point = trials[winner]
        self._keep(phase, value, point)
      if gain > 0.0 or anew:
        model = None
      self._tell(phase, value)
      n_stuck = 0 if gain > _LEAST_GAIN or anew else n_stuck + 1
      if n_stuck == _MAX_STUCK or value < 1e-6:
        break
    return values_of([point])[0] if value is None else value, point

  def _keep(self, phase, value, point):
    """Keeps the best setting of a phase; a later phase begins anew."""
    if phase != self._best_of[0] or value < self._best_of[1]:
      self._best_of = phase, value
      self.best = point

  def _tell(self, phase, value):
    step = problem_lib.Step(
      phase,
      float(value),
      self.budget.n_renders,
      self.budget.seconds(),
      time.process_time() - self._cpu_0,
    )
    self.history.append(step)
    self._report(step)

  def _bent_starts(self, n_starts):
    """Returns the defaults, and others where a stage is not linear."""
    first = self.chain.start()
    bent = np.concatenate(
      [np.full(s.n_controls, not s.is_linear) for s in self.chain.stages]
    )
    starts = [first]
    if bent.any():
      n_bent = int(bent.sum())
      for draw in newton.latin_hypercube(n_starts, n_bent, self._seed):
        controls = first.controls.copy()
        controls[bent] = np.clip(controls[bent] + draw - 0.5, 0.02, 0.98)
        starts.append(dataclasses.replace(first, controls=controls))
    return starts
