"""Figures of plugins' controls."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from dafx.training.plotting import style

_STILL = 1e-3  # of its range: a control that moves less is static


def control_trajectories(
  controls: np.ndarray,
  *,
  symbols: Sequence[str],
  units: Sequence[str],
  ranges: Sequence[tuple[float, float]],
  logarithmic: Sequence[bool],
  frame_times_s: np.ndarray,
  title: str = '',
) -> Figure:
  """Draws a plugin's controls over time, each in its unit and full range.

  Controls that move get a panel each, on one time axis. Controls that stay
  within a thousandth of their range (all of them if n_frames is 1) are gathered
  below: their place in their range as a dot, then value and range.

  Args:
    controls: In port units, [n_frames, n_controls].
    symbols: n_controls names, e.g. the ports' symbols.
    units: n_controls units, e.g. 'dB'; '' for none.
    ranges: n_controls pairs (lowest, highest) in port units. A trajectory that
      leaves its range widens its panel.
    logarithmic: n_controls bools; True for a logarithmic axis, which needs a
      positive range.
    frame_times_s: Times of the frames, increasing, seconds, [n_frames].
    title: Heading of the figure, e.g. the plugin's name.

  Returns:
    matplotlib Figure. Axes of moving controls come first, in order, with a
    title 'symbol (unit)'.

  Raises:
    ValueError: If there is no control, lengths disagree, a value is not finite,
      a range is empty, or a logarithmic range or value is not positive.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import plotting
    >>> figure = plotting.control_trajectories(
    ...   np.geomspace(100.0, 1000.0, 20)[
    ...     :, np.newaxis
    ...   ],  # [n_frames, n_controls]
    ...   symbols=['freq0'],
    ...   units=['Hz'],
    ...   ranges=[(10.0, 20000.0)],
    ...   logarithmic=[True],
    ...   frame_times_s=0.1 * np.arange(20),
    ... )
    >>> figure.axes[0].get_title(loc='left')
    'freq0 (Hz)'
  """
  controls, times_s = _checked_frames(controls, frame_times_s, 'controls')
  _check_lengths(controls.shape[1], symbols, units, ranges, logarithmic)
  described = zip(controls.T, symbols, units, ranges, logarithmic, strict=True)
  moving, static = [], []
  for values, symbol, unit, (lowest, highest), log in described:
    _check_range(symbol, unit, values, lowest, highest, log)
    places = _place(values, lowest, highest, log)
    if np.ptp(places) > _STILL:
      name = style.plain(f'{symbol} ({unit})' if unit else symbol)
      moving.append((name, values, lowest, highest, log))
    else:
      span = f'{style.number(lowest)} to {style.number(highest)}'
      span += ', log' if log else ''
      value = f'{style.number(values[0])} {unit}'.strip()
      static.append(
        (style.plain(symbol), style.plain(f'{value}  ({span})'), places[0])
      )

  n_columns = min(len(moving), 3)
  if len(moving) > 3:
    n_columns = min(4, math.ceil(math.sqrt(len(moving))))
  n_rows = math.ceil(len(moving) / n_columns) if moving else 0
  panel_height = 2.0 if n_rows == 1 else 1.25
  static_columns = min(2, math.ceil(len(static) / 4))
  static_rows = math.ceil(len(static) / static_columns) if static else 0
  heights = []
  if moving:
    heights.append(panel_height * n_rows + 0.4)
  if static:
    heights.append(0.25 * static_rows + (0.4 if moving else 0.15))

  fig = style.figure(sum(heights) + (0.35 if title else 0.0))
  parts = fig.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)
  if moving:
    _draw_moving(parts[0, 0], moving, times_s, n_rows, n_columns)
  if static:
    _draw_static(parts[-1, 0], static, static_rows, static_columns)
    if moving:
      parts[-1, 0].suptitle(
        'Static', x=0.01, ha='left', fontsize=style.TEXT, color=style.INK
      )
  style.heading(fig, title)
  return fig


def _draw_moving(fig, moving, times_s, n_rows, n_columns):
  """Draws (name, values [n_frames], lowest, highest, log), a panel each."""
  axes = style.axes(fig, n_rows, n_columns, sharex=True)
  for i, (name, values, lowest, highest, log) in enumerate(moving):
    ax = axes[i]
    ax.plot(times_s, values, color=style.COLORS['after'], linewidth=1.4)
    ax.set_title(name, loc='left', fontsize=style.SMALL, color=style.INK)
    if log:
      ax.set_yscale('log')
    middle = _middle(lowest, highest, log)
    ax.yaxis.set_major_locator(FixedLocator([lowest, middle, highest]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(style.NUMBERS)
    bottom, top = min(lowest, values.min()), max(highest, values.max())
    # Room for a line that lies on a bound.
    margin = 0.05 * (math.log(top / bottom) if log else top - bottom)
    if log:
      ax.set_ylim(bottom * math.exp(-margin), top * math.exp(margin))
    else:
      ax.set_ylim(bottom - margin, top + margin)
    if i + n_columns >= len(moving):  # Nothing below it.
      ax.tick_params(labelbottom=True)
      style.label(ax, x='Time (s)')
      # The empty place below it has the room; rows need not move apart.
      ax.xaxis.set_in_layout(i // n_columns == n_rows - 1)
  axes[0].set_xlim(times_s[0], times_s[-1])
  for ax in axes[len(moving) :]:
    ax.remove()


def _draw_static(fig, static, n_rows, n_columns):
  """Draws (symbol, value and range as text, place in [0, 1]) as dots."""
  axes = style.axes(fig, 1, n_columns)
  for column, ax in enumerate(axes):
    entries = static[column * n_rows : (column + 1) * n_rows]
    symbols, texts, places = zip(*entries)
    rows = np.arange(len(entries))
    ax.hlines(rows, 0.0, 1.0, color=style.FAINT, linewidth=2.0, zorder=1)
    ax.scatter(places, rows, color=style.COLORS['after'], s=28, zorder=2)
    for row, text in zip(rows, texts):
      ax.annotate(
        text,
        (1.0, row),
        xytext=(10, 0),
        textcoords='offset points',
        va='center_baseline',
        fontsize=style.SMALL,
        color=style.INK,
      )
    ax.set_yticks(rows, symbols)
    ax.set_ylim(n_rows - 0.5, -0.5)
    ax.set_xlim(min(-0.02, *places), max(1.02, *places))
    ax.set_xticks([])
    ax.tick_params(axis='y', length=0, labelcolor=style.INK)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def gain_heatmap(
  gains_db: np.ndarray,
  *,
  band_labels: Sequence[str],
  frame_times_s: np.ndarray,
  title: str = '',
) -> Figure:
  """Draws the gains of an equalizer's bands over time as an image.

  Red is a boost, blue a cut, white 0 dB; the scale is symmetric and reaches the
  largest gain, at least 1 dB. A single frame is drawn as bars, band by band.

  Args:
    gains_db: [n_frames, n_bands], dB.
    band_labels: n_bands labels from the lowest band up, e.g. '250', '1k'.
    frame_times_s: Times of the frames, increasing, seconds, [n_frames].
    title: Heading of the figure, e.g. the plugin's name.

  Returns:
    matplotlib Figure with one panel.

  Raises:
    ValueError: If there is no band, lengths disagree or a value is not finite.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import plotting
    >>> figure = plotting.gain_heatmap(
    ...   np.random.default_rng(0).normal(0.0, 3.0, [20, 3]),
    ...   band_labels=['100', '1k', '10k'],
    ...   frame_times_s=0.1 * np.arange(20),
    ... )
  """
  gains_db, times_s = _checked_frames(gains_db, frame_times_s, 'gains_db')
  n_frames, n_bands = gains_db.shape
  _check_lengths(n_bands, band_labels)
  limit_db = max(1.0, np.abs(gains_db).max())
  labels = [style.plain(label) for label in band_labels]
  if n_frames == 1:
    fig, (ax,) = style.panels(1, 1, height=2.8)
    ax.bar(
      np.arange(n_bands), gains_db[0], color=style.COLORS['after'], width=0.7
    )
    ax.axhline(0.0, color=style.INK, linewidth=0.8)
    ax.set_ylim(-1.05 * limit_db, 1.05 * limit_db)
    step = math.ceil(n_bands / 24)
    ax.set_xticks(np.arange(n_bands)[::step], labels[::step])
    style.label(ax, x='Band', y='Gain (dB)')
  else:
    fig, (ax,) = style.panels(
      1, 1, height=float(np.clip(0.1 * n_bands, 2.2, 5))
    )
    mesh = ax.pcolormesh(
      times_s,
      np.arange(n_bands),
      gains_db.T,
      cmap='RdBu_r',
      vmin=-limit_db,
      vmax=limit_db,
      shading='nearest',
      rasterized=True,
    )
    ax.grid(False)
    step = math.ceil(n_bands / 16)
    ax.set_yticks(np.arange(n_bands)[::step], labels[::step])
    style.label(ax, x='Time (s)', y='Band')
    style.color_bar(fig, mesh, [ax], 'Gain (dB)')
  style.heading(fig, title)
  return fig


def plugin_figures(
  processor: Any, controls: np.ndarray, frame_times_s: np.ndarray
) -> list[Figure]:
  """Draws the controls of a plugin's processor.

  Gains of ten bands or more, whose symbols differ by a number (`g_0`, `g_1`,
  ...), are drawn as a heat map, the other controls as trajectories.

  Args:
    processor: A `processors.Node` with a `control_map`.
    controls: In port units, [n_frames, n_controls]; n_frames 1 is static.
    frame_times_s: Times of the frames, seconds, [n_frames].

  Returns:
    List of matplotlib Figures.

  Raises:
    ValueError: As `control_trajectories`.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import plotting
    >>> from dafx import effects
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> compressor = effects.LV2Plugin(uri, trainable=['threshold', 'ratio'])
    >>> controls = np.array([[0.1, 4.0], [0.2, 4.0]])  # [n_frames, n_controls]
    >>> len(plotting.plugin_figures(compressor, controls, [0.0, 0.5]))
    1
  """
  controls = np.asarray(controls)
  frame_times_s = np.asarray(frame_times_s)[: len(controls)]
  control_map = processor.control_map
  symbols, units = control_map.symbols, control_map.units
  families: dict[str, list[int]] = {}
  for i, symbol in enumerate(symbols):
    prefix = re.sub(r'\d+$', '', symbol)
    is_gain = control_map.low[i] > 0 and units[i] in ('G', 'coef', '')
    if prefix != symbol and is_gain:
      families.setdefault(prefix, []).append(i)
  bands = [i for f in families.values() if len(f) >= 10 for i in f]
  others = [i for i in range(len(symbols)) if i not in bands]
  figures = []
  title = processor.title
  if bands:
    figures.append(
      gain_heatmap(
        20.0 * np.log10(controls[:, bands]),
        band_labels=[control_map.labels[i].split()[-1] for i in bands],
        frame_times_s=frame_times_s,
        title=title,
      )
    )
  if others:
    figures.append(
      control_trajectories(
        controls[:, others],
        symbols=[symbols[i] for i in others],
        units=[units[i] for i in others],
        ranges=[(control_map.low[i], control_map.high[i]) for i in others],
        logarithmic=[bool(control_map.is_log[i]) for i in others],
        frame_times_s=frame_times_s,
        title=title,
      )
    )
  return figures


def _checked_frames(values, frame_times_s, name):
  """Gives values [n_frames, n] and frame_times_s [n_frames], or raises."""
  values = np.asarray(values, dtype=np.float64)
  times_s = np.asarray(frame_times_s, dtype=np.float64)
  if values.ndim != 2 or not values.size:
    raise ValueError(
      f'{name} has shape {values.shape}; allowed is [n_frames, n], not empty. '
      'Take one item out of a batch.'
    )
  if not np.all(np.isfinite(values)):
    raise ValueError(f'{name} has values that are not finite.')
  if times_s.shape != values.shape[:1] or np.any(np.diff(times_s) <= 0):
    raise ValueError(
      f'frame_times_s has shape {times_s.shape}; it must be increasing, one '
      f'time for each of the {len(values)} frames of {name}.'
    )
  return values, times_s


def _check_lengths(n, *sequences):
  """Raises unless each of the sequences has n entries."""
  lengths = [len(sequence) for sequence in sequences]
  if any(length != n for length in lengths):
    raise ValueError(
      f'There are {n} columns to draw, but their descriptions have lengths '
      f'{lengths}; give one entry per column.'
    )


def _check_range(symbol, unit, values, lowest, highest, log):
  """Raises unless the range of a control is fit to be an axis."""
  if not lowest < highest:
    raise ValueError(
      f"Range of '{symbol}' is {lowest} to {highest} {unit}; the first must be "
      'the lower one.'
    )
  if log and min(lowest, values.min()) <= 0:
    raise ValueError(
      f"'{symbol}' is logarithmic, but reaches down to "
      f'{min(lowest, values.min())} {unit}; give a positive range or '
      'logarithmic=False.'
    )


def _middle(lowest, highest, log):
  """Gives a value for a tick in the middle of a range, round if log."""
  if not log:
    return 0.5 * (lowest + highest)
  middle = math.sqrt(lowest * highest)
  rounded = float(f'{middle:.1g}')
  return rounded if lowest < rounded < highest else middle


def _place(values, lowest, highest, log):
  """Maps values to their place in a range: 0 at lowest, 1 at highest."""
  if log:
    return np.log(values / lowest) / math.log(highest / lowest)
  return (values - lowest) / (highest - lowest)
