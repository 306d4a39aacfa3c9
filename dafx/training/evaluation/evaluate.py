"""Evaluation on whole files: distances to the target, and the sound."""

import math
import pathlib
from collections.abc import Mapping

import gin
import matplotlib.image
import numpy as np
from absl import logging

import dafx
from dafx import _folders, metrics
from dafx.audio import files as audio_files
from dafx.audio import sources
from dafx.metrics import pairs as checks
from dafx.training import data, inference, labels, plotting
from dafx.training import progress as progress_bar
from dafx.training.evaluation import ledger, measures, tables
from dafx.training.models import outputs

# Systems that an evaluation compares, by their names in its rows.
UNTREATED = 'untreated'
UNTREATED_AT_LOUDNESS = 'untreated at target loudness'
DEFAULT_SETTING = 'default setting'
BEST_SINGLE_SETTING = 'best single setting'
RANDOM_SETTING = 'random setting'
DAFX = 'dafx'
# Losses of long files are means over pieces, which bounds their memory.
_LOSS_PIECE_S = 10.0
# Of a processor, what its controls do.
_SAYS_WHAT_IT_IS = ('name', 'uri', 'symbols', 'low', 'high', 'is_log')
# Rows as they come, until all are there.
_LEDGER = 'metrics.partial.jsonl'


def model_loss(model, target, audio, sample_rate: int) -> float:
  """Returns the loss that a model was trained on, of a whole file.

  Args:
    model: A `models.ControlModel`.
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
    losses = [loss.get_losses_dict(*pair) for loss in model.loss_objs]
    values.append(sum(float(v) for d in losses for v in d.values()))
    weights.append(stop - start)
  return float(np.average(values, weights=weights))


def measure(
  model,
  target: np.ndarray,
  audio: np.ndarray,
  sample_rate: int,
  with_pesq: bool = False,
) -> dict[str, float]:
  """Returns all that is measured of a file; `measures` says how to read it.

  Args:
    model: A `models.ControlModel`, for its loss.
    target: Shape [n_samples, n_channels].
    audio: Of that shape.
    sample_rate: Of both, in Hz.
    with_pesq: Whether to give PESQ too, of which higher is better.

  Returns:
    Those of `metrics.matched` and `metrics.evaluate`; 'true_peak_dbtp', of the
    audio; 'mfcc_cosine_rows', as DeepAFx computes it; 'rms_difference_db' and
    'crest_difference_db', both absolute; 'esr'; 'loss', the model's own. NaN
    where silence, or less than a frame, has no value.

  Raises:
    ValueError: Audio of another shape, or that is not finite.
  """
  checks.check_pair(target, audio)

  def difference(metric):
    return lambda: abs(metric(target) - metric(audio))

  pair, rated = (target, audio), (target, audio, sample_rate)
  values = metrics.matched(*rated)
  wanted = {
    'loudness_difference': lambda: metrics.loudness_difference(*rated),
    'true_peak_dbtp': lambda: metrics.true_peak_dbtp(audio, sample_rate),
    'mr_stft': lambda: metrics.mr_stft(*pair),
    'mae': lambda: metrics.mae(*pair),
    'mfcc_cosine': lambda: metrics.mfcc_cosine(*rated),
    'mfcc_cosine_rows': lambda: metrics.mfcc_cosine(*rated, over='rows'),
    'rms_difference_db': difference(metrics.rms_db),
    'crest_difference_db': difference(metrics.crest_factor_db),
    'esr': lambda: metrics.esr(*pair),
    'loss': lambda: model_loss(model, *rated),
  }
  if with_pesq:
    wanted['pesq'] = lambda: metrics.pesq(*rated)
  for name, metric in wanted.items():
    try:
      value = metric()
    except ValueError as error:  # silence, or shorter than a frame
      logging.info('No %s: %s', name, error)
      value = math.nan
    values[name] = value if math.isfinite(value) else math.nan
  return values


def _default_setting(model):
  return {
    key: p.control_map.defaults[np.newaxis] for key, p in model.driven.items()
  }


def _random_setting(model, seed):
  rng = np.random.default_rng(seed)
  return {
    key: rng.uniform(size=[1, p.control_map.n_controls]).astype(np.float32)
    for key, p in model.driven.items()
  }


def _without_nan(row):
  return {
    key: None
    if isinstance(value, float) and not math.isfinite(value)
    else value
    for key, value in row.items()
  }


def _write_audio(base, versions, result, sample_rate):
  """Writes the sound and the automation of one file."""
  for side, audio in versions.items():
    file = base.with_name(f'{base.name}.{side}.wav')
    audio_files.write(file, audio, sample_rate)
  for suffix, raw in (('controls', False), ('controls_raw', True)):
    file = base.with_name(f'{base.name}.{suffix}.csv')
    outputs.write_controls(result.automation, file, raw)
    image = plotting.stack_figures(result.automation.figures(raw))
    matplotlib.image.imsave(file.with_suffix('.png'), image)


@gin.configurable(module='dafx.training')
def evaluate(
  model,
  path: str = gin.REQUIRED,
  split: str = 'test',
  output_dir: str = '',
  n_audio: int = 8,
  with_metrics: bool = True,
  with_baselines: bool = True,
  with_pesq: bool = False,
  settings: Mapping[str, Mapping] | None = None,
  seed: int = 0,
) -> list[dict]:
  """Runs a model over the pairs of a split and compares with the targets.

  Whole files are processed, at their own rate and with all their channels: what
  is measured is what a user gets. Both sides are prepared as in training.

  Args:
    model: A `models.ControlModel`.
    path: Folder with the splits; see `data`.
    split: Which of them.
    output_dir: Gets metrics.json and metrics.csv with a row for each file and
      system, summary.json and summary.csv (see `tables.summarize`), and below
      `audio` the first files as input, target and output, with the automation
      as it was rendered and as the network gave it; '' writes nothing. An
      evaluation that was interrupted goes on behind the files that it has
      measured, if the model, what is asked for and the files are as they were.
    n_audio: Number of files to write the audio of.
    with_metrics: Whether to compare; otherwise only the audio is written.
    with_baselines: Whether to measure the plugins at their default and at
      random settings too.
    with_pesq: Whether to measure PESQ, which is for speech.
    settings: Further settings to measure, {name: as of
      `Model.render`}, such as the best single one.
    seed: Of the random settings, another for each file.

  Returns:
    A row per file and system: {'name', 'system', metric: value}, those of
    `measure`, and of `labels.event_changes` where the pair has labels. Systems
    are 'untreated', 'untreated at target loudness' (times the gain that gives
    it the target's; as it is if one of them is silent; left out where more than
    five channels have no loudness), 'default setting', the names of `settings`,
    'random setting' and 'dafx'. None where there is no value.

  Raises:
    FileNotFoundError: No such folder, or no pairs in it.
    ValueError: Pairs that do not fit together, or a file that cannot be
      processed; the message begins with its name.
    ImportError: The package pesq is not installed.
  """
  if with_pesq:
    metrics.require_pesq()
  pairs = data.find_pairs(_folders.expand_user(path, data.PATH_FLAG) / split)
  if not with_metrics:
    pairs = pairs[:n_audio]
  settings = dict(settings or {})
  known = None
  if output_dir and with_metrics:
    key = _fingerprint(model, settings, with_baselines, with_pesq, seed)
    known = ledger.Ledger(pathlib.Path(output_dir) / _LEDGER, key)
    if len(known):
      logging.info('Going on after %d files that were measured.', len(known))
  rows = []
  progress = progress_bar.Progress(len(pairs), label='Evaluating')
  for position, pair in enumerate(pairs):
    base = None
    if output_dir and position < n_audio:
      base = pathlib.Path(output_dir) / 'audio' / pair.name
    noted = known and known.get(_note_name(position, pair, base))
    if not noted:
      tried = dict(settings)
      if with_baselines:
        tried = {
          DEFAULT_SETTING: _default_setting(model),
          **tried,
          RANDOM_SETTING: _random_setting(model, [seed, position]),
        }
      with audio_files.named(pair.input_path):
        noted = _evaluate_pair(
          model, pair, tried, base, with_metrics, with_pesq
        )
      if known is not None:
        known.add(_note_name(position, pair, base), noted)
    rows += noted
    progress.update(pair.name)
  progress.close()
  if with_metrics:
    table = tables.summarize(rows, seed=seed)
    logging.info('Means of %s:\n%s', split, tables.describe(table))
    columns = dict.fromkeys(key for row in rows for key in row)
    rows = [{key: row.get(key) for key in columns} for row in rows]
    if output_dir:
      tables.write_table(rows, output_dir, 'metrics')
      tables.write_table(table, output_dir, 'summary')
      known.remove()
  return rows


def _fingerprint(model, settings, *options):
  """Names all that rows depend on but for the files.

  What is measured counts: a table must not have rows of two sets of measures.
  """
  plugins = [
    [np.asarray(getattr(p, key, '')).tolist() for key in _SAYS_WHAT_IT_IS]
    for p in model.driven.values()
  ]
  values = [
    (name, key, np.asarray(value, np.float32).tolist())
    for name, setting in settings.items()
    for key, value in setting.items()
  ]
  weights = (variable.numpy().tobytes() for variable in model.variables)
  return ledger.fingerprint(
    dafx.__version__,
    list(measures.MEASURES),
    model.n_plugins,
    plugins,
    values,
    gin.config_str(),
    *options,
    *weights,
  )


def _note_name(position, pair, base):
  """Names a pair and what is made of it, as its files are now."""
  files = [pair.input_path.stat(), pair.target_path.stat()]
  times = [(file.st_size, file.st_mtime_ns) for file in files]
  return repr((position, pair.name, times, pair.events, base and str(base)))


def _evaluate_pair(model, pair, tried, base, with_metrics, with_pesq):
  """Returns the rows of a pair; writes its sound below `base`, if given."""
  source, rate = audio_files.read(pair.input_path, dtype='float64')
  target, _ = audio_files.read(pair.target_path, dtype='float64')
  if model.preprocessor is not None:
    source = model.preprocessor.process_input(source, rate)
    target = model.preprocessor.process_target(target, rate)
  result = inference.process_audio(model, source, rate)
  if base is not None:
    versions = {'input': source, 'target': target, 'output': result.audio}
    _write_audio(base, versions, result, rate)
  if not with_metrics:
    return []

  def systems():
    yield UNTREATED, source
    if source.shape[1] <= metrics.MAX_LOUDNESS_CHANNELS:
      yield UNTREATED_AT_LOUDNESS, metrics.match_loudness(target, source, rate)
    for name, setting in tried.items():
      options = {'setting': setting}
      yield name, inference.process_audio(model, source, rate, **options).audio
    yield DAFX, result.audio

  rows = []
  for name, audio in systems():
    row = {'name': pair.name, 'system': name}
    row.update(measure(model, target, audio, rate, with_pesq))
    row.update(labels.event_changes(source, audio, pair.events))
    rows.append(_without_nan(row))
  return rows
