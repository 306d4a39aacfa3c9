"""Evaluation on whole recordings: distances to the target, and the sound."""

import collections
import functools
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures

import gin
import matplotlib.image
import numpy as np
from absl import logging

import dafx
from dafx import core, lv2, metrics
from dafx.audio import disk, sources
from dafx.audio import files as audio_files
from dafx.metrics import pairs as checks
from dafx.training import (
  data,
  descriptions,
  inference,
  labels,
  models,
  plotting,
)
from dafx.training import progress as progress_bar
from dafx.training.evaluation import ledger, measures, rule, tables
from dafx.training.models import outputs

# Systems that an evaluation compares, by their names in its rows.
UNTREATED = 'untreated'
UNTREATED_AT_LOUDNESS = 'untreated at target loudness'
DEFAULT_SETTING = 'default setting'
BEST_SINGLE_SETTING = 'best single setting'
DEFAULT_AT_LOUDNESS = 'default setting at target loudness'
BEST_SINGLE_AT_LOUDNESS = 'best single setting at target loudness'
RULE = 'a rule'
RANDOM_SETTING = 'random setting'
DAFX = 'dafx'
# Settings that are measured at the loudness of the target too, as what.
_AT_LOUDNESS = {
  DEFAULT_SETTING: DEFAULT_AT_LOUDNESS,
  BEST_SINGLE_SETTING: BEST_SINGLE_AT_LOUDNESS,
}
# Losses of long files are means over pieces, which bounds their memory.
_LOSS_PIECE_S = 10.0
# Systems of a file whose audio is held while they are measured.
_MEASURED_AT_ONCE = 2
# Correlation below which an output counts as upside down.
_INVERTED = -0.3
# Rows as they come, until all are there.
_LEDGER = 'metrics.partial.jsonl'


def model_loss(model: models.Model, target, audio, sample_rate: int) -> float:
  """Returns the loss that a model was trained on, of a whole file.

  Args:
    model: The model.
    target: Shape [n_samples, n_channels].
    audio: Of that shape.
    sample_rate: Of both; they are brought to the model's.

  Returns:
    Sum of the losses, mean over pieces of 10 s.
  """
  target, audio = (
    sources.resample(np.asarray(x, np.float32), sample_rate, model.sample_rate)
    for x in (target, audio)
  )
  size = int(_LOSS_PIECE_S * model.sample_rate)
  values, weights = [], []
  for start, stop in checks.pieces(len(target), size):
    pair = target[np.newaxis, start:stop], audio[np.newaxis, start:stop]
    losses = model.losses_of(*pair)
    del losses['total_loss']
    values.append(sum(float(value) for value in losses.values()))
    weights.append(stop - start)
  return float(np.average(values, weights=weights))


def measure(
  model: models.Model,
  target: np.ndarray,
  audio: np.ndarray,
  sample_rate: int,
  with_pesq: bool = False,
  at_another_level: Mapping[str, float] | None = None,
) -> dict[str, float]:
  """Returns all that is measured of a file; `measures` says how to read it.

  Args:
    model: The model, whose `measures` are taken.
    target: Shape [n_samples, n_channels].
    audio: Of that shape.
    sample_rate: Of both, in Hz.
    with_pesq: Whether to give PESQ too, of which higher is better.
    at_another_level: What this gave of the audio times a gain.

  Returns:
    Values by name; NaN where silence, or less than a frame, has no value.

  Raises:
    ValueError: Audio of another shape, or that is not finite.
  """
  names = [*model.measures, *(['pesq'] if with_pesq else [])]
  of_model = {'loss': functools.partial(model_loss, model)}
  return measures.measure(
    names, target, audio, sample_rate, of_model, at_another_level
  )


def _without_nan(row):
  return {
    key: None
    if isinstance(value, float) and not math.isfinite(value)
    else value
    for key, value in row.items()
  }


def _write_audio(base, versions, automation, sample_rate):
  """Writes the sound and the automation of one file."""
  for side, audio in versions.items():
    file = base.with_name(f'{base.name}.{side}.wav')
    audio_files.write(file, audio, sample_rate)
  if not automation.nodes:
    return
  for suffix, raw in (('controls', False), ('controls_raw', True)):
    file = base.with_name(f'{base.name}.{suffix}.csv')
    outputs.write_controls(automation, file, raw)
    image = plotting.stack_figures(automation.figures(raw))
    matplotlib.image.imsave(file.with_suffix('.png'), image)


@gin.configurable(module='dafx.training')
def evaluate(
  model: models.Model,
  provider: data.Provider = gin.REQUIRED,
  output_dir: str = '',
  n_audio: int = 8,
  with_metrics: bool = True,
  with_baselines: bool = True,
  with_pesq: bool = False,
  settings: Mapping[str, Mapping] | None = None,
  rule_plugin: str | None = None,
  rule_lufs: float | None = None,
  rule_targets: Callable[[], data.Provider] | None = None,
  seed: int = 0,
) -> list[dict]:
  """Runs a model over whole recordings and compares with the targets.

  They are processed at their own rate and with all their channels: what is
  measured is what a user gets. Both sides are prepared as in training. What a
  model leaves out at the start, in which it settles, is not measured.

  Args:
    model: The model.
    provider: Gives the recordings, those of the test split.
    output_dir: Gets metrics.json and metrics.csv with a row for each recording
      and system, summary.json and summary.csv (see `tables.summarize`), and
      below `audio` the first recordings as input, target and output, with the
      automation as it was rendered and as the network gave it; '' writes
      nothing. An evaluation that was interrupted goes on behind the recordings
      that it has measured, if the model, what is asked for and the files are as
      they were.
    n_audio: Number of recordings to write the audio of.
    with_metrics: Whether to compare; otherwise only the audio is written.
    with_baselines: Whether to measure the model's `baselines` too, such as its
      plugins at their defaults.
    with_pesq: Whether to measure PESQ, which is for speech.
    settings: Further systems to measure, as options of `Model.render` by name,
      such as the best single setting.
    rule_plugin: Name of the limiter in the model's graph that the row 'a rule'
      is made by: gain into it until the output has the loudness that training
      targets have in the mean; see `rule.Rule`. None for no such row.
    rule_lufs: That loudness, in LUFS; None to measure it.
    rule_targets: Called without arguments; gives the provider of the training,
      whose targets are measured. There is no such row where they are missing.
    seed: Of baselines that are random, others for each recording.

  Returns:
    A row per recording and system: {'name', 'system', option: value, measure:
    value}: the options that the recording has, such as its knobs, the model's
    `measures`, and those of `labels.event_changes` where it has labels. Systems
    are 'untreated', 'untreated at target loudness' (times the gain that gives
    it the target's; as it is if one of them is silent; left out where more than
    five channels have no loudness), 'a rule', the baselines, the networks of
    other sizes than the one that is used (`Model.sizes`), the names of
    `settings`, and 'dafx'; default and best single setting are also there 'at
    target loudness', in the same way. None where there is no value.

  Raises:
    ValueError: A recording that cannot be processed; the message begins with
      its name.
    lv2.PluginError: A plugin fails; or it crashes at all of the recordings, in
      a process of its own. Those at which it does are left out of the figures,
      and that is logged.
    ImportError: The package pesq is not installed.
  """
  if with_pesq:
    metrics.require_pesq()
  items = provider.items()
  if not with_metrics:
    items = items[:n_audio]
  the_rule = None
  if with_metrics:
    the_rule = rule.make_rule(model, rule_plugin, rule_lufs, rule_targets)
  known = None
  if output_dir and with_metrics:
    options = (with_baselines, with_pesq, seed, the_rule and the_rule.lufs)
    key = _fingerprint(model, settings, *options)
    known = ledger.Ledger(pathlib.Path(output_dir) / _LEDGER, key)
    if len(known):
      logging.info('Going on after %d files that were measured.', len(known))
  rows: list[dict] = []
  left_out: list[str] = []
  progress = progress_bar.Progress(len(items), label='Evaluating')
  for position, item in enumerate(items):
    base = None
    if output_dir and position < n_audio:
      base = disk.inside(pathlib.Path(output_dir) / 'audio', item.name)
    noted = known and known.get(_note_name(position, item, base))
    if not noted:
      sizes = {name: o for name, o in model.sizes().items() if o}
      tried = {**sizes, **(settings or {})}
      if with_baselines:
        tried = {**model.baselines([seed, position]), **tried}
      if RANDOM_SETTING in tried:  # comes last
        tried[RANDOM_SETTING] = tried.pop(RANDOM_SETTING)
      noted = _evaluate_unless_it_crashes(
        model, item, tried, the_rule, base, with_metrics, with_pesq
      )
      if noted is None:
        left_out.append(item.name)
      elif known is not None:
        known.add(_note_name(position, item, base), noted)
    rows += noted or []
    progress.update(item.name)
  progress.close()
  _tell_of_left_out(left_out, len(items))
  if with_metrics:
    table = tables.summarize(rows, seed=seed)
    logging.info('Means:\n%s', tables.describe(table))
    columns = dict.fromkeys(key for row in rows for key in row)
    rows = [{key: row.get(key) for key in columns} for row in rows]
    if output_dir:
      tables.write_table(rows, output_dir, 'metrics')
      tables.write_table(table, output_dir, 'summary')
    if known is not None:
      known.remove()
  return rows


def describe(model: models.Model, rows: Sequence[Mapping]) -> str:
  """Returns errors of each recording as text, and a verdict.

  Args:
    model: The model; of one with networks of several sizes, each has its own.
    rows: What `evaluate` returned.

  Returns:
    As of `tables.describe_recordings`; '' for a model that is not to give its
    target sample by sample.
  """
  parts = []
  for name, options in (model.sizes() or {'': {}}).items():
    text = tables.describe_recordings(rows, name if options else DAFX)
    parts += [part for part in (name, text) if text and part]
  return '\n'.join(parts)


def _tell_of_left_out(names, n_items):
  """Says which recordings are in no figure, if any.

  Raises:
    lv2.PluginError: There is no other.
  """
  if not names:
    return
  said = (
    f'{len(names)} of {n_items} recordings are left out of all figures, since '
    f'a plugin crashed or hung: {", ".join(names)}.'
  )
  if len(names) == n_items:
    raise lv2.PluginError(f'{said} There is nothing to tell of.')
  logging.warning('%s', said)


def _plain(options):
  """Returns options of `Model.render` as what says all of itself in `repr`."""
  if isinstance(options, Mapping):
    return [(key, _plain(value)) for key, value in options.items()]
  return np.asarray(options).tolist()


def _fingerprint(model, settings, *options):
  """Names all that rows depend on but for the recordings.

  What is measured counts: a table must not have rows of two sets of measures.
  """
  weights = (variable.numpy().tobytes() for variable in model.variables)
  return ledger.fingerprint(
    dafx.__version__,
    [list(measures.MEASURES), list(model.measures)],
    model.n_plugins,
    descriptions.describe(model),
    _plain(settings or {}),
    gin.config_str(),
    *options,
    *weights,
  )


def _note_name(position, item, base):
  """Names a recording and what is made of it, as its files are now."""
  place = base and str(base)
  options = _plain(item.options)
  return repr((position, item.name, item.version, item.events, options, place))


def _settling(model, n_samples, sample_rate):
  """Returns how many samples at a rate the model leaves out at the start."""
  in_model = round(n_samples * model.sample_rate / sample_rate)
  return math.ceil(model.settling(in_model) * sample_rate / model.sample_rate)


def _evaluate_unless_it_crashes(model, item, *args):
  """Returns the rows of a recording; None where a plugin crashed or hung."""
  try:
    with (
      audio_files.named(item.name),
      lv2.errors_with(item.name),
      core.raising_faults(),
    ):
      return _evaluate_item(model, item, *args)
  except lv2.CrashError as error:
    logging.warning('A recording is left out of all figures. %s', error)
    return None


def _evaluate_item(model, item, tried, the_rule, base, with_metrics, with_pesq):
  """Returns the rows of a recording; writes its sound below a `base`."""
  rate = item.input.sample_rate
  source, target = (
    np.concatenate(list(side.blocks())).astype(np.float64)
    for side in (item.input, item.target)
  )
  if model.preprocessor is not None:
    source = model.preprocessor.process_input(source, rate)
    target = model.preprocessor.process_target(target, rate)

  def process(**options):
    options = {**item.options, **options}
    return inference.process_audio(model, source, rate, **options)

  result = process()
  if base is not None:
    versions = {'input': source, 'target': target, 'output': result.audio}
    _write_audio(base, versions, result.automation, rate)
  if not with_metrics:
    return []

  has_loudness = source.shape[1] <= metrics.MAX_LOUDNESS_CHANNELS

  def systems():
    """Yields names and audio: of a system, and of it at another level."""
    untreated = [(UNTREATED, source)]
    if has_loudness:
      louder = metrics.match_loudness(target, source, rate)
      untreated.append((UNTREATED_AT_LOUDNESS, louder))
    yield untreated
    if has_loudness and the_rule is not None:
      yield [(RULE, the_rule.process(source, rate))]
    for name, options in tried.items():
      versions = [(name, process(**options).audio)]
      if has_loudness and name in _AT_LOUDNESS:
        louder = metrics.match_loudness(target, versions[0][1], rate)
        versions.append((_AT_LOUDNESS[name], louder))
      yield versions
    yield [(DAFX, result.audio)]

  start = _settling(model, len(source), rate)
  options = {key: np.asarray(v).tolist() for key, v in item.options.items()}

  def rows_of(versions):
    measured: dict[str, float] | None = None
    found = []
    for name, audio in versions:
      measured = measure(
        model, target[start:], audio[start:], rate, with_pesq, measured
      )
      row = {'name': item.name, 'system': name, **options, **measured}
      row.update(labels.event_changes(source, audio, item.events))
      found.append(_without_nan(row))
    return found

  # Measuring takes as long as rendering, and releases Python's lock. Systems
  # are rendered as their turn comes: a long file is held few times.
  rows: list[dict] = []
  waiting: collections.deque[futures.Future] = collections.deque()
  with futures.ThreadPoolExecutor(_MEASURED_AT_ONCE) as pool:
    for versions in systems():
      if len(waiting) == _MEASURED_AT_ONCE:
        rows += waiting.popleft().result()
      waiting.append(pool.submit(rows_of, versions))
    for task in waiting:
      rows += task.result()
  polarity = rows[-1].get('polarity')
  if polarity is not None and polarity < _INVERTED:
    logging.warning('%s comes out upside down (ESR near 4).', item.name)
  return rows
