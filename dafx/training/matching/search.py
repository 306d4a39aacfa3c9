"""The search for a target: starts, models, and the way down."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import scipy.fft

from dafx.training.matching import chain as chain_lib
from dafx.training.matching import descent, distances, newton
from dafx.training.matching import problem as problem_lib

# Steps of differences: coarse ones first, then fine ones.
_STEPS = (0.03, 0.01)
# Starts of the dynamics; how many of them go on, and for how many rounds.
_N_STARTS = 12
_ROUNDS_OF_STARTS = ((3, 4), (2, 4))
_COARSE_ROUNDS = 24
# Rounds for which slopes are carried on after they were measured.
_N_CARRIED = 3
# Of the budget: the levels in bands may take so much, the distance the rest.
_COARSE_SHARE = 0.4
# Slopes of a response do for controls that are so near; bands that overlap add
# up otherwise far off.
_NEAR = 0.1
# Another combination of single values must gain so much.
_CHOICE_GAIN = 0.02
_CHOICE_ROUNDS = 4


class Search(descent.Descent):
  """Finds the setting of a chain that brings audio nearest to a target.

  Args:
    chain: The chain.
    problem: Audio and target.
    coarse: Shorter parts of them, for the starts.
    budget: Time and renders.
    seed: Of the starts.
    report: Is told each step.
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
    super().__init__(chain, budget, seed, report)
    self.problem, self.coarse = problem, coarse
    # Slopes of responses of linear stages: where, and what they are.
    self._slopes: dict[int, tuple[np.ndarray, np.ndarray]] = {}

  def _search(self):
    """Goes from starts to the end; raises where the budget is used up."""
    coarse = self._from_starts()
    coarse = self._choose(coarse)
    self._note_best(coarse)
    for size in _STEPS:
      self._descend(self.best, 'fine', size, self._model, self._distances)

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

  def _model(self, point, size, anew) -> distances.Model:
    """Returns the model of the distance, by differences of all controls."""
    del anew  # it always is
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

  def _coarse_model(self, secant, point, size, anew) -> distances.Model:
    """Returns the model of the envelopes, measured anew or carried on.

    Of a linear stage the slopes of its response are taken for those of the
    output, which costs little.
    """
    problem, envelopes = self.coarse, self.coarse.envelopes
    signals, rows = self._heard(problem, point)
    features = envelopes.features(rows)
    if not anew:
      carried = secant.carried(point.controls, features)
      if carried is not None:
        model = envelopes.model(features, carried)
        return dataclasses.replace(model, is_carried=True)
    jacobian = np.zeros((self.chain.n_controls, len(features)), np.float32)

    def hear(moved, change):
      return (envelopes.features(moved) - features) / change

    others: list[int] = []
    for i, stage in enumerate(self.chain.stages):
      if stage.is_linear:
        jacobian[stage.part] = envelopes.of_bands(self._slopes_near(i, point))
      else:
        others += range(stage.part.start, stage.part.stop)
    found = self._responses_to(problem, point, signals, others, size, hear)
    for control, row in zip(others, found, strict=True):
      jacobian[control] = row
    secant.measured(point.controls, features, jacobian)
    return envelopes.model(features, jacobian)

  def _slopes_near(self, i, point):
    """Returns slopes of a response, anew where they were taken far off."""
    where, slopes = self._slopes[i]
    own = point.controls[self.chain.stages[i].part]
    if np.abs(own - where).max() > _NEAR:
      slopes = self._response_slopes(i, point)
      self._slopes[i] = own, slopes
    return slopes

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

  def _note_best(self, point):
    """Keeps a setting if it is better than what there is."""
    settings = [self.chain.start(), point]
    for value, each in zip(self._distances(settings), settings, strict=True):
      self._keep('fine', value, each)
    self._tell('fine', self._best_of[1])

  def _equalised(self, point, n_rounds=2):
    """Returns (distance of envelopes, setting) with the equaliser solved."""
    envelopes = self.coarse.envelopes
    features = self._features(point)
    best = envelopes(features), point
    linear = [i for i, s in enumerate(self.chain.stages) if s.is_linear]
    for _ in range(n_rounds if linear else 0):
      i = linear[0]
      stage = self.chain.stages[i]
      move = newton.equaliser_move(
        self._slopes[i][1], envelopes.lack(features), envelopes.band_weights()
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
      i: (first.controls[stage.part], self._response_slopes(i, first))
      for i, stage in enumerate(self.chain.stages)
      if stage.is_linear
    }
    starts = self._bent_starts(_N_STARTS)
    found = self._map(self._equalised, starts)
    best = min(found, key=lambda each: each[0])
    self._keep('coarse', *best)
    self._tell('coarse', best[0])
    for n_kept, n_rounds in _ROUNDS_OF_STARTS if len(starts) > 1 else ():
      found = sorted(found, key=lambda each: each[0])[:n_kept]
      found = [self._descend_coarsely(p, n_rounds) for _, p in found]
    _, best_point = min(found, key=lambda each: each[0])
    return self._descend_coarsely(best_point, _COARSE_ROUNDS)[1]

  def _descend_coarsely(self, point, n_rounds):
    return self._descend(
      point,
      'coarse',
      _STEPS[0],
      functools.partial(self._coarse_model, newton.Secant(_N_CARRIED)),
      self._envelope_distances,
      n_rounds,
      _COARSE_SHARE,
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
