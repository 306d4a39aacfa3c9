"""What a match found: settings, audio, figures, and what to think of them."""

import concurrent.futures
import dataclasses
from collections.abc import Mapping, Sequence

import ddsp
import numpy as np

from dafx import core, lv2, metrics, processors
from dafx.audio import sources
from dafx.training.matching import problem as problem_lib
from dafx.training.models import rendering

# Rows of `Match.figures`, and what people call them.
ROWS = {
  'input': 'input',
  'loudness': 'loudness alone',
  'result': 'result',
}
# Figures, and how they are printed.
COLUMNS = {
  'matched_mr_stft': ('MR-STFT at equal level', '.3f'),
  'average_spectrum_db': ('average spectrum, dB', '.2f'),
  'crest_error_db': ('crest, dB', '.2f'),
  'width_error_db': ('width, dB', '.2f'),
  'loudness_error_lu': ('loudness, LU', '.2f'),
  'mr_stft': ('MR-STFT', '.3f'),
  'true_peak_dbtp': ('true peak, dBTP', '.1f'),
}
# Improvement of the distance at equal level, below which it is hardly one, and
# a distance at which nobody hears a difference.
_HARDLY, _ALIKE = 0.05, 0.01
_TRUE_PEAK_DBTP = 0.0
# The least that has an average spectrum.
_SPECTRUM_SAMPLES = 8192
_ENDS = {
  'converged': 'The search ended because it gained nothing more.',
  'time': 'The time limit ended the search; more time may bring more.',
  'renders': 'The limit of renders ended the search; more may bring more.',
  'interrupted': 'The search was interrupted; this is the best it had found.',
}


@dataclasses.dataclass(frozen=True)
class Match:
  """Settings of a graph that bring audio near to a target.

  Attributes:
    graph: The graph; `processors.nodes` gives its plugins.
    setting: What its inputs take, in [0, 1], {input: [1, n_controls]}, as
      `ControlModel.render` takes it.
    controls: All controls that are set, those that are fixed too, in port
      units, {name of the node: {symbol: value}}.
    gain_db: Gain of the audio before the graph, in dB: of the clip in a DAW.
    sample_rate: Of the audio, in Hz.
    audio: The result, [n_samples, n_channels], as long as the input.
    figures: Distances to the target, {row: {figure: value}}: rows and figures
      are `ROWS` and `COLUMNS`.
    history: What the search had reached when.
    doubts: What a user should know, in sentences.
    end: How the search ended: 'converged', 'time', 'renders', 'interrupted'.
    others: What the result was to become, each [n_samples, n_channels], by what
      people call it: 'target', moved to the time of the input and filled up to
      its length, or 'reference', 'reference 2' and so on.
    lag_samples: By how many samples the target was late, before it was moved,
      parts of a sample included; None for references.
  """

  graph: ddsp.processors.ProcessorGroup
  setting: Mapping[str, np.ndarray]
  controls: Mapping[str, Mapping[str, float]]
  gain_db: float
  sample_rate: int
  audio: np.ndarray
  figures: Mapping[str, Mapping[str, float]]
  history: Sequence[problem_lib.Step]
  doubts: Sequence[str]
  end: str
  others: Mapping[str, np.ndarray]
  lag_samples: float | None

  @property
  def nodes(self) -> dict[str, processors.Node]:
    """The nodes that are set, by name; of a chain, its plugins."""
    return {
      member.name: member
      for node in processors.nodes(self.graph).values()
      for member in node.members
      if member.name in self.controls
    }

  def verdict(self) -> str:
    """Returns what was reached, what is left and why, in words."""
    return verdict(self)


def render(
  group: ddsp.processors.ProcessorGroup,
  setting: Mapping[str, np.ndarray],
  source: sources.Source,
  gain_db: float = 0.0,
) -> rendering.Rendering:
  """Returns a rendering of audio through a graph at one setting.

  Args:
    group: The graph.
    setting: What its inputs take, in [0, 1], {input: [1, n_controls]}.
    source: The audio, of any length; channels as the graph takes them.
    gain_db: Gain before the graph, in dB.
  """
  driven = processors.controlled_inputs(group)
  if gain_db:
    gain = np.float32(10.0 ** (gain_db / 20.0))
    raw = source.blocks
    source = dataclasses.replace(
      source, blocks=lambda: (gain * block for block in raw())
    )
  return rendering.Rendering(
    group, source, source.sample_rate, dict(setting), driven=driven
  )


def measure(
  target: np.ndarray, audio: np.ndarray, sample_rate: int
) -> dict[str, float]:
  """Measures how far audio is from a target of the same music.

  Args:
    target: Shape [n_samples, n_channels].
    audio: Shape [n_samples, n_channels]; where the number of channels differs,
      means are compared.
    sample_rate: In Hz.

  Returns:
    {figure: value}; see `COLUMNS`.
  """
  peak_dbtp = metrics.true_peak_dbtp(audio, sample_rate)
  lufs = [metrics.loudness_lufs(x, sample_rate) for x in (target, audio)]
  if target.shape[1] != audio.shape[1]:
    target, audio = (x.mean(-1, keepdims=True) for x in (target, audio))
  raw = metrics.multi_scale_spectral(target.mean(-1), audio.mean(-1))
  return {
    **metrics.matched(target, audio, sample_rate),
    'loudness_error_lu': abs(lufs[1] - lufs[0]),
    'mr_stft': raw,
    'true_peak_dbtp': peak_dbtp,
  }


def compare(
  target: np.ndarray, audio: np.ndarray, heard: np.ndarray, sample_rate: int
) -> dict[str, dict[str, float]]:
  """Measures the input, the input at the target's loudness, and the result.

  Args:
    target: Shape [n_samples, n_channels].
    audio: The input, [n_samples, n_channels].
    heard: The result, [n_samples, n_channels].
    sample_rate: In Hz.

  Returns:
    {row: {figure: value}}; see `ROWS`.
  """
  lufs = [metrics.loudness_lufs(x, sample_rate) for x in (target, audio)]
  gain_db = lufs[0] - lufs[1]
  louder = audio * np.float32(10.0 ** (gain_db / 20.0))
  # Side by side, as those of a song take half a minute each.
  with concurrent.futures.ThreadPoolExecutor(lv2.default_n_threads()) as pool:
    before, after = (
      pool.submit(measure, target, version, sample_rate)
      for version in (audio, heard)
    )
    raw = pool.submit(
      metrics.multi_scale_spectral, target.mean(-1), louder.mean(-1)
    )
  # What is at equal level does not depend on the loudness.
  alone = {
    **before.result(),
    'loudness_error_lu': 0.0,
    'mr_stft': raw.result(),
    'true_peak_dbtp': before.result()['true_peak_dbtp'] + gain_db,
  }
  return {'input': before.result(), 'loudness': alone, 'result': after.result()}


def compare_characters(
  references: Sequence[np.ndarray],
  audio: np.ndarray,
  heard: np.ndarray,
  sample_rate: int,
) -> dict[str, dict[str, float]]:
  """Measures how far the character of audio is from that of references.

  Args:
    references: Each [n_samples, n_channels].
    audio: The input, [n_samples, n_channels].
    heard: The result, [n_samples, n_channels].
    sample_rate: In Hz.

  Returns:
    {row: {figure: value}}; see `ROWS`. There is no distance of fine structure.
  """

  def of(signal):
    return np.concatenate(
      [
        [metrics.loudness_lufs(signal, sample_rate)],
        [metrics.crest_factor_db(signal.mean(-1))],
        tone_db(signal, sample_rate),
      ]
    )

  wanted = np.mean([of(each) for each in references], axis=0)
  lufs = metrics.loudness_lufs(audio, sample_rate)
  louder = audio * np.float32(10.0 ** ((wanted[0] - lufs) / 20.0))
  figures = {}
  rows = {'input': audio, 'loudness': louder, 'result': heard}
  for row, signal in rows.items():
    error = of(signal) - wanted
    figures[row] = {
      'loudness_error_lu': abs(float(error[0])),
      'crest_error_db': abs(float(error[1])),
      'average_spectrum_db': float(np.nanmean(np.abs(error[2:]))),
      'true_peak_dbtp': metrics.true_peak_dbtp(signal, sample_rate),
    }
  return figures


def tone_db(audio: np.ndarray, sample_rate: int) -> np.ndarray:
  """Returns the average spectrum of the middle, relative to its mean.

  Args:
    audio: Shape [n_samples, n_channels]; what is too short for a spectrum is
      filled up with silence.
    sample_rate: In Hz.

  Returns:
    In dB, [25], at `metrics.THIRD_OCTAVES_HZ`; NaN above half the rate.
  """
  lack = max(_SPECTRUM_SAMPLES - len(audio), 0)
  levels_db = metrics.average_spectrum_db(
    np.pad(audio.mean(-1), (0, lack)), sample_rate
  )
  return levels_db - np.nanmean(levels_db)


def table(figures: Mapping[str, Mapping[str, float]]) -> str:
  """Returns figures as a table, a row for each figure."""
  rows = [name for name in ROWS if name in figures]
  width = max(len(name) for name, _ in COLUMNS.values())
  lines = [' ' * width + ''.join(f'{ROWS[row]:>16}' for row in rows)]
  for key, (name, style) in COLUMNS.items():
    values = [figures[row].get(key, np.nan) for row in rows]
    if np.isfinite(values).any():
      cells = ''.join(f'{value:>16{style}}' for value in values)
      lines.append(f'{name:<{width}}{cells}')
  return '\n'.join(lines)


def verdict(match: Match) -> str:
  """Returns what a match reached, what is left and why, in words."""
  return ' '.join(paragraphs(match))


def paragraphs(match: Match) -> list[str]:
  """Returns the verdict: what was reached, then a doubt each.

  Args:
    match: What was found.
  """
  before, after = match.figures['input'], match.figures['result']
  parts = [_ENDS[match.end]]
  near, far = (row.get('matched_mr_stft', np.nan) for row in (after, before))
  if far < _ALIKE:
    parts.append(
      'The target is the input at another level: a gain in loudness is all '
      'there was to it.'
    )
  elif np.isfinite([near, far]).all():
    change = 1.0 - near / far
    if change > _HARDLY:
      parts.append(
        f'At equal level the distance to the target fell by {100 * change:.0f} '
        f'%, from {far:.3f} to {near:.3f}.'
      )
    elif change >= 0:
      parts.append(
        'At equal level the result is hardly nearer to the target than the '
        'input: a gain in loudness is all there was to it, or the plugins of '
        'this chain cannot do what was done.'
      )
    else:
      parts.append(
        'At equal level the result is further from the target in fine '
        f'structure ({far:.3f} before, {near:.3f} after); what was gained is '
        'loudness, peaks or average spectrum.'
      )
  left = [
    f'{name} {after[key]:{style}} (before {before[key]:{style}})'
    for key, (name, style) in COLUMNS.items()
    if key in ('average_spectrum_db', 'crest_error_db', 'loudness_error_lu')
    and np.isfinite(after.get(key, np.nan))
  ]
  if left:
    parts.append(f'What is left: {"; ".join(left)}.')
  if after['true_peak_dbtp'] > _TRUE_PEAK_DBTP:
    parts.append(
      f'True peaks reach {after["true_peak_dbtp"]:.1f} dBTP: players may clip. '
      'Turn the result down, or set the ceiling of a limiter lower.'
    )
  return [' '.join(parts), *match.doubts]


def describe_controls(match: Match) -> str:
  """Returns the controls that the search set, a line for each."""
  lines = []
  for name, node in match.nodes.items():
    known = node.control_map
    if not isinstance(known, core.ControlMap):
      continue
    for symbol, unit in zip(known.symbols, known.units, strict=True):
      value = match.controls[name][symbol]
      lines.append(f'{name}/{symbol}: {value:.4g} {unit}'.rstrip())
  return '\n'.join(lines)
