"""The page beside a match: what one hears, sees, and has to set."""

import html
import pathlib

import numpy as np

import dafx
from dafx import core, metrics
from dafx.audio import sources
from dafx.training import plotting
from dafx.training.evaluation import clip_audio, measures, report
from dafx.training.matching import result

# Of long audio the loudest part is heard: a page holds all its sound.
_HEARD_S = 30.0
# Columns of the table, as measures have them, and the figures of a match.
_COLUMNS = {
  'matched_mr_stft': 'matched_mr_stft',
  'average_spectrum_db': 'average_spectrum_db',
  'crest_error_db': 'crest_error_db',
  'width_error_db': 'width_error_db',
  'loudness_difference': 'loudness_error_lu',
  'true_peak_dbtp': 'true_peak_dbtp',
}
_INPUT, _RESULT = 'input', 'result'
# Loudness in windows of so many seconds: as it is told, and short enough to see
# what compressors and limiters do.
_LOUDNESS_S, _GAIN_S, _HOP_S = 3.0, 0.4, 0.1
# Quieter than this, a gain says nothing.
_QUIET_LUFS = -60.0


def write(
  path: pathlib.Path,
  match: result.Match,
  audio: np.ndarray,
):
  """Writes a page with everything in it: it can be mailed.

  Input, result and target play at equal loudness, and are switched at the same
  sample. Below are spectrograms, settings, average spectra, loudness over time
  and how much louder the result is than the input over time.

  Args:
    path: Of the HTML file.
    match: What was found.
    audio: The input, [n_samples, n_channels].
  """
  versions = {_INPUT: audio, _RESULT: match.audio, **match.others}
  verdict, *doubts = result.paragraphs(match)
  intro = f'<p class="lead">{html.escape(verdict)}</p>\n'
  intro += ''.join(f'<p>{html.escape(doubt)}</p>\n' for doubt in doubts)
  if match.gain_db:
    intro += (
      f'<p>Before the plugins stands a gain of {match.gain_db:.2f} dB.</p>\n'
    )
  report.write_report(
    path,
    title=f'{path.stem}: {_INPUT}, {_RESULT} and {" and ".join(match.others)}',
    intro_html=intro,
    table=_table(match),
    clips=[_clip(match, versions)],
    figures=_figures(match, versions),
    footer=f'Written by dafx {dafx.__version__}.',
    settings=settings(match),
  )


def settings(match: result.Match) -> dict[str, dict[str, str]]:
  """Returns the values that all controls have, with their units.

  Args:
    match: What was found.

  Returns:
    {plugin: {'symbol (what a person calls it)': value and unit}}, in port
    units, those that are fixed too.
  """
  found = {}
  for name, node in match.nodes.items():
    labels, units = {}, {}
    if isinstance(known := node.control_map, core.ControlMap):
      labels = dict(zip(known.symbols, known.labels, strict=True))
      units = dict(zip(known.symbols, known.units, strict=True))
    rows = {}
    for symbol, value in match.controls[name].items():
      label = labels.get(symbol, symbol)
      title = symbol if label == symbol else f'{symbol} ({label})'
      rows[title] = f'{value:.5g} {units.get(symbol, "")}'.rstrip()
    found[f'{node.title} ({name})'] = rows
  return found


def _table(match):
  """Returns the figures of input, loudness alone and result."""
  shown = {
    column: figure
    for column, figure in _COLUMNS.items()
    if any(np.isfinite(r.get(figure, np.nan)) for r in match.figures.values())
  }
  return report.Table(
    columns=[measures.MEASURES[column] for column in shown],
    rows={
      result.ROWS[row]: [values.get(f) for f in shown.values()]
      for row, values in match.figures.items()
    },
    caption='Distances to what was asked for, of the whole. Loudness alone is '
    'the input, turned to that loudness.',
  )


def _clip(match, versions):
  """Returns what is heard: all versions, or the loudest part of them."""
  rate = match.sample_rate
  heard = _loudest(versions, rate)
  playable = clip_audio.nearest_rate(rate)
  heard = {k: sources.resample(v, rate, playable) for k, v in heard.items()}
  controls = {}
  for name, node in match.nodes.items():
    known = node.control_map
    if isinstance(known, core.ControlMap) and known.symbols:
      values = np.array([[match.controls[name][s] for s in known.symbols]])
      controls[f'{node.title} ({name})'] = [
        plotting.figure_to_png(figure)
        for figure in plotting.plugin_figures(node, values, np.zeros(1))
      ]
  n_samples = max(map(len, versions.values()))
  name = 'All of it'
  if n_samples > _HEARD_S * rate:
    name = f'The loudest {_HEARD_S:.0f} s'
  return report.Clip(
    name=name,
    sample_rate=playable,
    audio=heard,
    spectrogram=plotting.figure_to_png(plotting.spectrograms(heard, playable)),
    controls=controls,
  )


def _loudest(versions, rate):
  """Returns the part where the result is loudest; references from theirs."""
  size = int(_HEARD_S * rate)

  def start_of(audio):
    if len(audio) <= size:
      return 0
    energies = np.cumsum(np.sum(np.square(audio, dtype=np.float64), axis=1))
    hop = max(rate // 10, 1)
    starts = np.arange(0, len(audio) - size, hop)
    return int(starts[np.argmax(energies[starts + size] - energies[starts])])

  common = start_of(versions[_RESULT])
  parts = {}
  for name, audio in versions.items():
    start = common if name in (_INPUT, _RESULT, 'target') else start_of(audio)
    parts[name] = np.asarray(audio[start : start + size], np.float64)
  return parts


def _figures(match, versions):
  """Returns {caption: PNG} of spectra, loudness and gain over time."""
  rate = match.sample_rate
  tones = {name: result.tone_db(each, rate) for name, each in versions.items()}
  loud = {
    name: metrics.loudness_over_time(audio, rate, _LOUDNESS_S, _HOP_S)
    for name, audio in versions.items()
  }
  times_s, _ = max(loud.values(), key=lambda found: len(found[0]))
  curves = {
    name: np.pad(
      lufs, (0, len(times_s) - len(lufs)), constant_values=np.nan
    )
    for name, (_, lufs) in loud.items()
  }  # fmt: skip
  short = [
    metrics.loudness_over_time(audio, rate, _GAIN_S, _HOP_S)
    for audio in (versions[_INPUT], match.audio)
  ]
  before, after = (lufs for _, lufs in short)
  gain_db = np.where(before > _QUIET_LUFS, after - before, np.nan)
  figures = {
    'Average spectrum in third octaves, each relative to its mean: tone.': (
      plotting.lines(
        metrics.THIRD_OCTAVES_HZ,
        tones,
        'Frequency (Hz)', 'Level (dB)', log=True,
      )
    ),
    f'Loudness over time, in windows of {_LOUDNESS_S:g} s.': plotting.lines(
      times_s, curves, 'Time (s)', 'Loudness (LUFS)'
    ),
    'Gain from input to result over time, in windows of '
    f'{_GAIN_S:g} s: where it falls, compressors and limiters act.': (
      plotting.lines(
        short[0][0], {'': gain_db}, 'Time (s)', 'Gain (dB)'
      )
    ),
  }  # fmt: skip
  return {
    caption: plotting.figure_to_png(figure)
    for caption, figure in figures.items()
  }
