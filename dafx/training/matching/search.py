"""The search of a match: renders side by side, models, descent, starts."""

import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import scipy.fft

from dafx import lv2
from dafx.training.matching import chain as chain_lib
from dafx.training.matching import descent, distances
from dafx.training.matching import problem as problem_lib

# Steps of differences: coarse ones first, then fine ones.
_STEPS = (0.03, 0.01)
_FIRST_DAMPING = 0.01
# A round that gains less, relative to the distance, counts as stuck; so many
# of them in a row end a step size.
_LEAST_GAIN = 2e-3
_MAX_STUCK = 2
# Starts of the dynamics; how many of them go on, and for how many rounds.
_N_STARTS = 12
_ROUNDS_OF_STARTS = ((3, 2), (2, 2))
_COARSE_ROUNDS = 8
# Another combination of single values must gain so much.
_CHOICE_GAIN = 0.02
_CHOICE_ROUNDS = 2


class Search:
  """Finds the setting of a chain that brings audio nearest to a target.

  Args:
    chain: The chain.
    problem: Audio and target.
    coarse: Shorter parts of them, for the starts.
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
    problem: problem_lib.Problem,
    coarse: problem_lib.Problem,
    budget: problem_lib.Budget,
    seed: int = 0,
    report: Callable[[problem_lib.Step], None] = lambda step: None,
  ):
    self.chain, self.budget = chain, budget
    self.problem, self.coarse = problem, coarse
    self.best = chain.start()
    self.history: list[problem_lib.Step] = []
    self._best_of = '', np.inf
    self._seed, self._report = seed, report
    self._cpu_0 = time.process_time()
    self._pool = concurrent.futures.ThreadPoolExecutor(lv2.default_n_threads())
    self._is_stopped = threading.Event()

  def run(self) -> str:
    """Searches until nothing is gained, or the budget is used up.

    Returns:
      How it ended: 'converged', 'time', 'renders' or 'interrupted'. `best` is
      then the best setting that was found.
    """
    try:
      coarse = self._from_starts()
      coarse = self._choose(coarse)
      self._note_best(coarse)
      for size in _STEPS:
        self._descend(self.best, 'fine', size, self._model, self._distances)
    except problem_lib.OutOfBudgetError as error:
      return str(error)
    except KeyboardInterrupt:
      return 'interrupted'
    finally:
      self._pool.shutdown()
    return 'converged'

  # ---------------------- Renders ---------------------------------------------
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

  def _distances(self, points: Sequence[chain_lib.Point]) -> list[float]:
    """Returns the distance of each of some settings."""
    problem = self.problem
    return self._map(
      lambda p: problem.distance(self._heard(problem, p)[1]), points
    )

  def _features(self, point):
    """Returns the envelopes of a setting."""
    rows = self._heard(self.coarse, point)[1]
    return self.coarse.envelopes.features(rows)

  def _envelope_distances(self, points):
    return self._map(lambda p: self.coarse.envelopes(self._features(p)), points)

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

  # ---------------------- Models ----------------------------------------------
  def _model(self, point, size) -> distances.Model:
    """Returns the model of the distance, by differences of all controls."""
    problem, distance = self.problem, self.problem.distance
    signals, rows = self._heard(problem, point)
    slope = np.zeros(rows.shape, np.float32)
    value = distance(rows, slope)
    logs, extras = distance.features(rows)
    n = self.chain.n_controls
    jacobian = np.zeros((n, len(logs)), np.float32)

    def hear(moved, change):
      by_audio = float(np.vdot(moved - rows, slope)) / change
      more_logs, more_extras = distance.features(moved)
      return by_audio, (more_logs - logs) / change, (
        more_extras - extras
      ) / change  # fmt: skip

    found = self._responses_to(problem, point, signals, range(n), size, hear)
    for i, (_, row, _) in enumerate(found):
      jacobian[i] = row
    by_audio = np.array([each for each, _, _ in found])
    extra = np.array([each for _, _, each in found])
    return distance.model(rows, by_audio, value, jacobian, extra)

  def _coarse_model(self, point, size) -> distances.Model:
    """Returns the model of the envelopes.

    Of a linear stage the slopes of its response at the start are taken for
    those of the output, which costs nothing.
    """
    problem, envelopes = self.coarse, self.coarse.envelopes
    signals, rows = self._heard(problem, point)
    features = envelopes.features(rows)
    jacobian = np.zeros((self.chain.n_controls, len(features)), np.float32)

    def hear(moved, change):
      return (envelopes.features(moved) - features) / change

    others: list[int] = []
    for i, stage in enumerate(self.chain.stages):
      if stage.is_linear:
        jacobian[stage.part] = envelopes.of_bands(self._slopes[i])
      else:
        others += range(stage.part.start, stage.part.stop)
    found = self._responses_to(problem, point, signals, others, size, hear)
    for control, row in zip(others, found, strict=True):
      jacobian[control] = row
    return envelopes.model(features, jacobian)

  def _response_slopes(self, i, point):
    """Returns slopes of the log response of a stage, [n_controls, n_bands]."""
    stage, choice = self.chain.stages[i], point.choices[i]
    own = point.controls[stage.part]
    centres_hz = self.coarse.envelopes.centres_hz

    def response(controls):
      self.budget.spend(1)
      impulse = stage.impulse_response(controls, choice)
      magnitude = np.abs(scipy.fft.rfft(impulse))
      hz = np.arange(len(magnitude)) * self.problem.sample_rate / len(impulse)
      return np.log(np.maximum(np.interp(centres_hz, hz, magnitude), 1e-5))

    def slope(j):
      controls = own.copy()
      controls[j] += 0.05 if own[j] < 0.9 else -0.05
      return (response(controls) - at_own) / (controls[j] - own[j])

    at_own = response(own)
    return np.array(self._map(slope, range(len(own))))

  # ---------------------- Descent ---------------------------------------------
  def _descend(self, point, phase, size, model_of, values_of, max_rounds=1000):
    """Goes down until it is stuck; returns (distance, setting)."""
    if not self.chain.n_controls:  # single values alone
      return values_of([point])[0], point
    damping, n_stuck, model = _FIRST_DAMPING, 0, None
    value = np.inf
    for _ in range(max_rounds):
      if model is None:
        model = model_of(point, size)
      trials = [
        dataclasses.replace(
          point, controls=descent.bounded_step(point.controls, model, d)
        )
        for d in damping * np.array(descent.FACTORS)
      ]
      values = values_of(trials)
      winner = int(np.argmin(values))
      gain = 1.0 - values[winner] / max(model.value, 1e-12)
      value = min(model.value, values[winner])
      damping = descent.next_damping(damping, winner if gain > 0.0 else None)
      if gain > 0.0:
        point, model = trials[winner], None
        self._keep(phase, value, point)
      self._tell(phase, value)
      n_stuck = 0 if gain > _LEAST_GAIN else n_stuck + 1
      if n_stuck == _MAX_STUCK or value < 1e-6:
        break
    return value, point

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

  def _note_best(self, point):
    """Keeps a setting if it is better than what there is."""
    settings = [self.chain.start(), point]
    for value, each in zip(self._distances(settings), settings, strict=True):
      self._keep('fine', value, each)
    self._tell('fine', self._best_of[1])

  # ---------------------- Starts ----------------------------------------------
  def _equalised(self, point, n_rounds=2):
    """Returns (distance of envelopes, setting) with the equaliser solved."""
    envelopes = self.coarse.envelopes
    features = self._features(point)
    best = envelopes(features), point
    linear = [i for i, s in enumerate(self.chain.stages) if s.is_linear]
    for _ in range(n_rounds if linear else 0):
      i = linear[0]
      stage = self.chain.stages[i]
      move = descent.equaliser_move(
        self._slopes[i], envelopes.lack(features), envelopes.band_weights()
      )
      controls = point.controls.copy()
      own = controls[stage.part] + np.clip(move, -0.3, 0.3)
      controls[stage.part] = np.clip(own, 0.01, 0.99)
      point = dataclasses.replace(point, controls=controls)
      features = self._features(point)
      best = min(best, (envelopes(features), point), key=lambda each: each[0])
    return best

  def _from_starts(self):
    """Returns the best setting by envelopes, from several starts."""
    first = self.chain.start()
    self._slopes = {
      i: self._response_slopes(i, first)
      for i, stage in enumerate(self.chain.stages)
      if stage.is_linear
    }
    bent = np.concatenate(
      [np.full(s.n_controls, not s.is_linear) for s in self.chain.stages]
    )
    starts = [first]
    if bent.any():
      draws = descent.latin_hypercube(_N_STARTS, int(bent.sum()), self._seed)
      for draw in draws:
        controls = first.controls.copy()
        controls[bent] = np.clip(controls[bent] + draw - 0.5, 0.02, 0.98)
        starts.append(dataclasses.replace(first, controls=controls))
    found = self._map(self._equalised, starts)
    best = min(found, key=lambda each: each[0])
    self._keep('coarse', *best)
    self._tell('coarse', best[0])
    for n_kept, n_rounds in _ROUNDS_OF_STARTS if bent.any() else ():
      found = sorted(found, key=lambda each: each[0])[:n_kept]
      found = [self._descend_coarsely(p, n_rounds) for _, p in found]
    _, best_point = min(found, key=lambda each: each[0])
    return self._descend_coarsely(best_point, _COARSE_ROUNDS)[1]

  def _descend_coarsely(self, point, n_rounds):
    return self._descend(
      point,
      'coarse',
      _STEPS[0],
      self._coarse_model,
      self._envelope_distances,
      n_rounds,
    )

  def _choose(self, point):
    """Tries other combinations of single values, stage by stage."""
    for i, stage in enumerate(self.chain.stages):
      if stage.n_choices == 1:
        continue
      others = [k for k in range(stage.n_choices) if k != point.choices[i]]
      kept, _ = self._descend_coarsely(point, _CHOICE_ROUNDS)
      for choice in others:
        choices = list(point.choices)
        choices[i] = choice
        other = dataclasses.replace(point, choices=tuple(choices))
        value, other = self._descend_coarsely(other, _CHOICE_ROUNDS)
        if value < (1.0 - _CHOICE_GAIN) * kept:
          kept, point = value, other
    return point
