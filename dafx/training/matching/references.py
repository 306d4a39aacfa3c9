"""The search for the character of references, which are other music."""

from collections.abc import Sequence

import numpy as np

from dafx.training.matching import chain as chain_lib
from dafx.training.matching import character, descent, distances
from dafx.training.matching import problem as problem_lib

# How exactly each group is asked for, in dB, and its weight. That of the crest
# factor is how well the crest factor of another song foretells it: asked for to
# 0.4 dB, it was bought with much of all else.
_TOLERANCES_DB = {
  'loudness': (0.3, 1.0),
  'crest': (1.2, 1.0),
  'tone': (1.0, 1.0),
  'dynamics': (2.0, 0.5),
  'envelope': (1.5, 0.5),
  'width': (2.0, 0.3),
}
# Of the square of a control's distance from its default.
_PULL = 0.3
_STEP = 0.02
_N_STARTS = 6
_ROUNDS_OF_STARTS = ((2, 2), (1, 8))


class CharacterProblem(problem_lib.Heard):
  """Audio, and the character that it is to have.

  Args:
    audio: Parts of the input, [n_items, n_samples, n_channels].
    wished: The character that these parts are to have.
    sample_rate: In Hz.
    lead: Samples at the start of an item that are rendered, not heard.
  """

  def __init__(
    self,
    audio: np.ndarray,
    wished: character.Character,
    sample_rate: int,
    lead: int,
  ):
    super().__init__(audio, sample_rate, lead)
    self._has_width = audio.shape[-1] > 1
    self._weights = np.concatenate(
      [
        np.full(len(vars(wished)[g]), self._weight(g, vars(wished)[g]))
        for g in character.GROUPS
      ]
    )
    self._wished = self._flat(wished)

  def _weight(self, group, values):
    tolerance_db, weight = _TOLERANCES_DB[group]
    if group == 'width' and not self._has_width:
      return 0.0
    return np.sqrt(weight / len(values)) / tolerance_db

  @staticmethod
  def _flat(found):
    return np.concatenate([vars(found)[group] for group in character.GROUPS])

  def errors(self, rows: np.ndarray) -> np.ndarray:
    """Returns how far the character is from what is wished, weighted."""
    found = self._flat(character.measure(list(rows), self.sample_rate))
    # Above half of the rate there is no tone.
    return np.nan_to_num(found - self._wished) * self._weights


class CharacterSearch(descent.Descent):
  """Finds the setting that gives audio a character.

  Args:
    chain: The chain.
    problem: Audio and what it is to become.
    budget: Time and renders.
    **options: `seed` and `report`, as for `Search`.
  """

  def __init__(self, chain, problem: CharacterProblem, budget, **options):
    super().__init__(chain, budget, **options)
    self._wished = problem
    self._default = chain.start().controls

  def _search(self):
    """Descends from several starts of what is not linear."""
    starts = self._bent_starts(_N_STARTS)
    found = list(zip(self._values(starts), starts, strict=True))
    for n_kept, n_rounds in _ROUNDS_OF_STARTS:
      found = sorted(found, key=lambda each: each[0])[:n_kept]
      found = [
        self._descend(
          point, 'character', _STEP, self._model_of, self._values, n_rounds
        )
        for _, point in found
      ]

  def _pull(self, point):
    return _PULL * float(np.sum((point.controls - self._default) ** 2))

  def _values(self, points: Sequence[chain_lib.Point]) -> list[float]:
    """Returns what each of some settings costs."""

    def value(point):
      errors = self._wished.errors(self._heard(self._wished, point)[1])
      return float(errors @ errors) + self._pull(point)

    return self._map(value, points)

  def _model_of(self, point, size, anew) -> distances.Model:
    """Returns the model of the cost, by differences of all controls."""
    del anew  # it always is
    signals, rows = self._heard(self._wished, point)
    errors = self._wished.errors(rows)

    def hear(moved, change):
      return (self._wished.errors(moved) - errors) / change

    n = self.chain.n_controls
    jacobian = np.array(
      self._responses_to(self._wished, point, signals, range(n), size, hear)
    )
    moved = point.controls - self._default
    return distances.Model(
      float(errors @ errors) + self._pull(point),
      2.0 * jacobian @ errors + 2.0 * _PULL * moved,
      2.0 * jacobian @ jacobian.T + 2.0 * _PULL * np.eye(n),
    )


def make_problem(
  audio: np.ndarray,
  parts: tuple[np.ndarray, int],
  references: Sequence[np.ndarray],
  amount: float,
  sample_rate: int,
  change_lu: float,
) -> CharacterProblem:
  """Returns what a search for the character of references works on.

  Args:
    audio: The input as a whole, [n_samples, n_channels].
    parts: The parts that are searched, [n_items, n_samples, n_channels], and
      samples at their start that are not heard.
    references: Each [n_samples, n_channels].
    amount: From 0 (loudness alone) to 1.
    sample_rate: Of all, in Hz.
    change_lu: How much louder than the references it is to become, in LU.
  """
  items, lead = parts
  songs = character.read_songs()
  whole = character.measure([audio], sample_rate)
  heard = character.measure(list(items[:, lead:]), sample_rate)
  wished = character.wanted(
    whole,
    [character.measure([each], sample_rate) for each in references],
    amount,
    songs,
    change_lu,
  )
  # What is asked of the whole is asked of the parts.
  asked = character.Character(
    **{
      group: vars(heard)[group] + vars(wished)[group] - vars(whole)[group]
      for group in character.GROUPS
    }
  )
  return CharacterProblem(items, asked, sample_rate, lead)
