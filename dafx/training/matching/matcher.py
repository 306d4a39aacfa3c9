"""`match`: settings of a graph that bring audio near to a target."""

from collections.abc import Callable, Sequence

import ddsp
import gin
import numpy as np
import threadpoolctl
from absl import logging

from dafx import metrics, processors
from dafx.audio import loudness, sources
from dafx.training.matching import chain as chain_lib
from dafx.training.matching import hand, pairing, result
from dafx.training.matching import problem as problem_lib
from dafx.training.matching import references as references_lib
from dafx.training.matching import search as search_lib
from dafx.training.models import rendering

# Of parts by which the starts are compared.
_COARSE_CROP_S, _COARSE_LEAD_S = 1.5, 0.3
# Parts that are searched for the character of a reference, whose amount by
# default, and renders of the whole to reach its loudness.
_CHARACTER_CROP_S = 2.5
_AMOUNT_OF_REFERENCE = 0.5
_MAX_RENDERS_OF_WHOLE = 4
# Up to this amount a result is as loud as the reference, at 1 as loud as the
# reference's hand would leave it; and what difference is told.
_AS_LOUD_AMOUNT, _TOLD_LU = 0.5, 0.3


@gin.configurable(module='dafx.training.matching')
def match(
  graph: ddsp.processors.ProcessorGroup
  | Sequence[processors.Node] = gin.REQUIRED,
  audio: np.ndarray | None = None,
  sample_rate: int = 44100,
  target: np.ndarray | None = None,
  reference: np.ndarray | Sequence[np.ndarray] | None = None,
  amount: float | None = None,
  time_limit_s: float | None = 60.0,
  max_renders: int | None = None,
  seed: int = 0,
  report: Callable[[problem_lib.Step], None] = lambda step: None,
) -> result.Match:
  """Finds settings of plugins that bring audio near to a target or reference.

  A target is the same music after other effects. Lag, polarity and what both
  share come first. Then the equaliser is solved for in closed form, from the
  responses of the plugin, in each of several starts of the dynamics; a descent
  on levels in bands follows, and one on the spectral distance itself
  (Levenberg-Marquardt, by differences of renders).

  A reference is other music, whose character is wanted. Its loudness and crest
  factor are matched; dynamics, width and tone only as far as the difference is
  larger than songs differ among themselves (`character.wanted`). Up to an
  amount of 0.5 it becomes as loud as the reference; at 1, as loud as the
  plugins behind the reference would probably leave it
  (`hand.expected_change_lu`).

  Long files are searched by a loud and a quiet part; audio and figures are
  those of the whole.

  Args:
    graph: The plugins and how they are wired, or plugins in a row. It may hold
      any effects of dafx. What is trainable is searched.
    audio: The input, [n_samples] or [n_samples, 2].
    sample_rate: Of audio and target, in Hz.
    target: What it is to become, [n_samples] or [n_samples, 2]; its length need
      not be the input's.
    reference: In place of a target, other music, [n_samples] or [n_samples, 2],
      or several such.
    amount: How much is done; 1 by default with a target, 0.5 with a reference.
      At 0 the graph stays at its defaults, and only the loudness becomes the
      target's, by a gain before it. In between, with a target, controls are on
      the way, each on its scale; with a reference, less is asked for: dynamics
      as a whole from 0.5 on, tone evenly.
    time_limit_s: Seconds after which the search ends with the best so far; None
      for none. Preparing and rendering the result are not counted.
    max_renders: Renders of one plugin after which it ends; None for any.
    seed: Of the starts.
    report: Is told each step of the search.

  Returns:
    What was found. A KeyboardInterrupt during the search ends it with the best
    so far.

  Raises:
    ValueError: Audio that cannot be matched, two files that are no pair, or a
      graph without controls; the message says what to do.
    lv2.PluginError: A plugin cannot be run here.

  Examples:
    >>> import numpy as np
    >>> from dafx import effects
    >>> from dafx.training import matching
    >>> rng = np.random.default_rng(0)
    >>> audio = rng.normal(0.0, 0.1, 22050) * np.linspace(0.1, 1.0, 22050)
    >>> found = matching.match(
    ...   [effects.Gain()], audio, 22050, target=0.5 * audio, max_renders=50
    ... )
    >>> isinstance(found, matching.Match)
    True
    >>> isinstance(found.history[0], matching.Step)
    True
    >>> round(found.controls['gain']['gain_db'], 1)
    -6.0
    >>> matching.describe_controls(found)
    'gain/gain_db: -6.0... dB'
    >>> 'MR-STFT at equal level' in matching.table(found.figures)
    True
  """
  if audio is None or (target is None) == (reference is None):
    raise ValueError(
      'match needs `audio`, and either a `target` (the same music) or a '
      '`reference` (other music).'
    )
  if amount is None:
    amount = _AMOUNT_OF_REFERENCE if target is None else 1.0
  if not 0.0 <= amount <= 1.0:
    raise ValueError(f'amount={amount} must be from 0 to 1.')
  audio = pairing.check_audio('input', audio, sample_rate)
  if target is not None:
    target = pairing.check_audio('target', target, sample_rate)
  else:
    several = [reference] if isinstance(reference, np.ndarray) else reference
    references = [
      pairing.check_audio('reference', each, sample_rate)
      for each in several or ()
    ]
  group = chain_lib.make_group(graph)
  chain = chain_lib.Chain(group)
  if not rendering.can_run_at(group, sample_rate):
    raise ValueError(
      f'A node of the graph cannot run at {sample_rate} Hz; convert the audio.'
    )
  # BLAS's own threads would stand in the way of those that render.
  with (
    threadpoolctl.threadpool_limits(1),
    rendering.at_rate(group, sample_rate),
  ):
    limits = time_limit_s, max_renders
    if target is not None:
      return _match_pair(
        chain, group, audio, target, sample_rate, amount, limits, seed, report
      )
    return _match_references(
      chain, group, audio, references, sample_rate, amount, limits, seed, report
    )


def _match_pair(
  chain, group, audio, target, sample_rate, amount, limits, seed, report
):
  """Matches a pair whose audio was checked."""
  logging.info('Matching: finding lag and polarity')
  pair = pairing.make_pair(audio, target, sample_rate)
  problem, coarse = (
    problem_lib.Problem(
      items, targets, sample_rate, lead,
      pairing.side_weight(pair), pair.highest_hz,
    )
    for items, targets, lead in (
      pairing.crops(pair, sample_rate),
      pairing.crops(pair, sample_rate, _COARSE_CROP_S, _COARSE_LEAD_S),
    )
  )  # fmt: skip
  if amount > 0.0:
    logging.info('Matching: finding which plugins are linear')
    chain.find_linear(audio.shape[1], seed)
    budget = problem_lib.Budget(*limits)
    search = search_lib.Search(chain, problem, coarse, budget, seed, report)
    end = search.run()
    point, history = chain.blend(search.best, amount), search.history
  else:
    point, history, end = chain.start(), [], 'converged'
  gain_db = 0.0
  if amount < 1.0:
    gain_db = _find_gain_db(chain, problem, point)
  rendered = _render(chain, group, point, audio, sample_rate, gain_db)
  heard = rendered[pair.first_sample : pair.first_sample + len(pair.audio)]
  doubts = [*pair.doubts, *_doubts_of_bounds(chain, point)]
  figures = result.compare(pair.target, pair.audio, heard, sample_rate)
  placed = np.zeros([len(audio), pair.target.shape[1]], np.float32)
  placed[pair.first_sample :][: len(pair.target)] = pair.target
  return _make_match(
    chain, group, point, gain_db, sample_rate, rendered, figures, history,
    doubts, end, {'target': placed}, pair.lag_samples,
  )  # fmt: skip


def _match_references(
  chain, group, audio, references, sample_rate, amount, limits, seed, report
):
  """Matches the character of references that were checked."""
  logging.info('Matching: measuring input and references')
  alone = pairing.Pair(audio, audio, 0, 0.0, False, np.inf, ())
  items, _, lead = pairing.crops(alone, sample_rate, _CHARACTER_CROP_S)
  change_lu = 0.0
  if amount > _AS_LOUD_AMOUNT:
    share = (amount - _AS_LOUD_AMOUNT) / (1.0 - _AS_LOUD_AMOUNT)
    change_lu = share * hand.expected_change_lu(audio, references, sample_rate)
  problem = references_lib.make_problem(
    audio, (items, lead), references, amount, sample_rate, change_lu
  )
  point, history, end = chain.start(), [], 'converged'
  if amount > 0.0:
    chain.find_linear(audio.shape[1], seed)
    budget = problem_lib.Budget(*limits)
    search = references_lib.CharacterSearch(
      chain, problem, budget, seed=seed, report=report
    )
    end = search.run()
    point, history = search.best, search.history
  lufs = [metrics.loudness_lufs(r, sample_rate) for r in references]
  wanted = np.mean(lufs) + change_lu

  def render(gain_db):
    rendered = _render(chain, group, point, audio, sample_rate, gain_db)
    return metrics.loudness_lufs(rendered, sample_rate), rendered

  gain_db, rendered = loudness.find_gain(
    render, float(wanted), n_renders=_MAX_RENDERS_OF_WHOLE
  )
  doubts = [
    *pairing.doubts_about_input(audio), *_doubts_of_bounds(chain, point),
    *_doubts_of_loudness(change_lu),
  ]  # fmt: skip
  figures = result.compare_characters(references, audio, rendered, sample_rate)
  others = {
    f'reference {i}' if i > 1 else 'reference': each
    for i, each in enumerate(references, start=1)
  }
  return _make_match(
    chain, group, point, gain_db, sample_rate, rendered, figures, history,
    doubts, end, others,
  )  # fmt: skip


def _render(chain, group, point, audio, sample_rate, gain_db):
  """Renders the whole through the plugins themselves."""
  logging.info('Matching: rendering and measuring the whole')
  source = sources.from_array(audio, sample_rate)
  setting = chain.setting(point)
  return np.concatenate(
    list(result.render(group, setting, source, gain_db).blocks())
  )


def _doubts_of_bounds(chain, point):
  if bound := chain.at_bounds(point):
    yield (
      f'At an end of their range are {", ".join(bound)}: a wider range, or '
      'another plugin, may bring more.'
    )


def _doubts_of_loudness(change_lu):
  if abs(change_lu) >= _TOLD_LU:
    side = 'louder' if change_lu > 0 else 'quieter'
    yield (
      f'It was made {abs(change_lu):.1f} LU {side} than the reference, as what '
      'the reference went through would probably leave this song, by its peaks '
      f'and balance. With --amount={_AS_LOUD_AMOUNT:g} it is as loud.'
    )


def _make_match(
  chain, group, point, gain_db, sample_rate, rendered, figures, history, doubts,
  end, others, lag_samples=None,
):  # fmt: skip
  return result.Match(
    graph=group,
    setting=chain.setting(point),
    controls=chain.in_port_units(point),
    gain_db=gain_db,
    sample_rate=sample_rate,
    audio=rendered,
    figures=figures,
    history=tuple(history),
    doubts=tuple(doubts),
    end=end,
    others=others,
    lag_samples=lag_samples,
  )


def _find_gain_db(chain, problem, point):
  """Returns the gain before the graph that gives the target's loudness.

  It is searched on the crops.
  """

  def measured(items):
    heard = items[:, problem.lead :].reshape(-1, items.shape[-1])
    return metrics.loudness_lufs(heard, problem.sample_rate)

  def render(gain_db):
    audio = problem.audio * np.float32(10.0 ** (gain_db / 20.0))
    return measured(chain.output(chain.signals(audio, point))), None

  wanted = measured(problem.target)
  return loudness.find_gain(render, wanted, n_renders=8)[0]
