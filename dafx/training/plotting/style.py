"""What all figures share: sizes, colours, axes, numbers."""

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

COLORS = {
  'before': '#868e96',
  'target': '#1c6fc4',
  'after': '#e8710a',
  'best single setting': '#7b5ea7',
}
MORE_COLORS = ('#2b8a6e', '#c2255c', '#0b7285', '#8d6e3f', '#495057')
INK = '#24292f'
PALE_INK = '#57606a'
FAINT = '#d5d9de'
WIDTH = 9.0  # inches
DPI = 160
TEXT = 9  # points
SMALL = 8  # points


def color_of(name: str) -> str:
  """Gives the colour of a version of a clip, the same wherever it is shown.

  Args:
    name: E.g. 'before'. Names outside `COLORS` get a colour by their letters.

  Returns:
    '#rrggbb'.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import plotting
    >>> plotting.color_of('target') == plotting.COLORS['target']
    True
  """
  other = MORE_COLORS[sum(map(ord, name)) % len(MORE_COLORS)]
  return COLORS.get(name, other)


def figure(height):
  """Makes a figure so many inches high."""
  return Figure(
    (WIDTH, height), dpi=DPI, layout='constrained', facecolor='white'
  )


def panels(n_rows, n_columns, *, height, **kwargs):
  """Makes a figure `height` inches high; returns it and its list of axes."""
  fig = figure(height)
  return fig, axes(fig, n_rows, n_columns, **kwargs)


def axes(fig, n_rows, n_columns, **kwargs):
  """Lays out styled axes in a figure; returns a list, row by row."""
  axes = fig.subplots(n_rows, n_columns, squeeze=False, **kwargs)
  for ax in axes.flat:
    ax.set_facecolor('white')
    ax.spines[['top', 'right']].set_visible(False)
    ax.spines[['left', 'bottom']].set_color(FAINT)
    ax.tick_params(
      which='both',
      length=3,
      color=FAINT,
      labelsize=SMALL,
      labelcolor=PALE_INK,
    )
    ax.grid(True, color=FAINT, linewidth=0.5, alpha=0.7)
    ax.set_axisbelow(True)
  return list(axes.flat)


def label(ax, x=None, y=None):
  """Names the axes."""
  if x:
    ax.set_xlabel(x, fontsize=SMALL, color=INK)
  if y:
    ax.set_ylabel(y, fontsize=SMALL, color=INK)


def heading(fig, title):
  """Writes a heading over a figure, if there is one."""
  if title:
    fig.suptitle(
      plain(title),
      x=0.01,
      ha='left',
      fontsize=TEXT + 2,
      fontweight='bold',
      color=INK,
    )


def legend(fig, ax):
  """Puts the legend of some axes above the figure."""
  handles, labels = ax.get_legend_handles_labels()
  legend = fig.legend(
    handles,
    labels,
    loc='outside upper left',
    ncols=4,
    frameon=False,
    fontsize=TEXT,
    labelcolor=INK,
  )
  for handle in legend.legend_handles:
    handle.set(alpha=1.0, linewidth=2.0)


def color_bar(fig, image, axes, label):
  """Puts the scale of an image beside its axes."""
  bar = fig.colorbar(image, ax=axes, pad=0.01, fraction=0.03, aspect=30)
  bar.set_label(label, fontsize=SMALL, color=INK)
  bar.ax.tick_params(color=FAINT, labelsize=SMALL, labelcolor=PALE_INK)
  bar.outline.set_visible(False)


def plain(text):
  """Keeps matplotlib from reading mathematics into dollar signs."""
  return str(text).replace('$', r'\$')


def number(value):
  """Writes a number in few characters: 0.05, 250, 1.5k."""
  short = f'{value / 1000:.3g}k' if abs(value) >= 1000 else f'{value:.3g}'
  return short.replace('-', '\N{MINUS SIGN}')


NUMBERS = FuncFormatter(lambda value, _: number(value))
