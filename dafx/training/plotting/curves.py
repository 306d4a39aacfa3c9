"""Figures of training, and of curves."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from dafx.training.plotting import style


def training_curves(
  steps: np.ndarray, losses_by_name: Mapping[str, np.ndarray]
) -> Figure:
  """Draws losses over the train steps.

  With 100 steps or more, each loss is drawn faintly and its moving average over
  a fiftieth of the steps on top. The axis is logarithmic where all losses are
  positive and span more than a decade.

  Args:
    steps: Numbers of the steps, increasing, [n].
    losses_by_name: dict of name to the loss at each step, [n]; NaN where there
      is none (such a loss gets no moving average).

  Returns:
    matplotlib Figure with one panel; the loss as it came is the first line of
    each name, with the name as its label.

  Raises:
    ValueError: If there is no step or no loss, or lengths disagree, or a loss
      has no finite value.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import plotting
    >>> steps = np.arange(1, 201)
    >>> figure = plotting.training_curves(steps, {'total_loss': 1.0 / steps})
    >>> figure.axes[0].get_xlabel()
    'Train step'
  """
  steps = np.asarray(steps)
  losses = {k: np.asarray(v, np.float64) for k, v in losses_by_name.items()}
  if steps.ndim != 1 or not steps.size or not losses:
    raise ValueError(
      f'steps has shape {steps.shape} and there are {len(losses)} losses; '
      'steps must be [n], and there must be a step and a loss at least.'
    )
  for name, loss in losses.items():
    if loss.shape != steps.shape or not np.any(np.isfinite(loss)):
      raise ValueError(
        f"Loss '{name}' has shape {loss.shape}, {np.sum(np.isfinite(loss))} of "
        f'its values are finite; it must be {steps.shape} as steps, with a '
        'finite value.'
      )
  fig, (ax,) = style.panels(1, 1, height=3.4)
  cycle = (style.COLORS['after'], style.COLORS['target'], *style.MORE_COLORS)
  smooth = len(steps) >= 100
  for i, (name, loss) in enumerate(losses.items()):
    color = cycle[i % len(cycle)]
    average = smooth and np.all(np.isfinite(loss))
    ax.plot(
      steps,
      loss,
      color=color,
      label=style.plain(name),
      alpha=0.3 if average else 1.0,
      linewidth=1.0 if average else 1.6,
      marker='o' if len(steps) == 1 else None,
    )
    if average:
      mean = ndimage.uniform_filter1d(loss, len(steps) // 50, mode='nearest')
      ax.plot(steps, mean, color=color, linewidth=1.8)
  finite = np.concatenate([loss[np.isfinite(loss)] for loss in losses.values()])
  if finite.min() > 0.0 and finite.max() > 10.0 * finite.min():
    ax.set_yscale('log', subs=[2, 3, 5])
    ax.yaxis.set_minor_formatter(style.NUMBERS)
  ax.yaxis.set_major_formatter(style.NUMBERS)
  ax.xaxis.set_major_formatter(style.NUMBERS)
  ax.margins(x=0.01)
  style.label(ax, x='Train step', y='Loss')
  style.legend(fig, ax)
  return fig


def lines(
  x: np.ndarray,
  lines_by_name: Mapping[str, np.ndarray],
  x_label: str,
  y_label: str,
  title: str = '',
  log: bool = False,
) -> Figure:
  """Draws curves over one axis.

  Args:
    x: Shape [n_points].
    lines_by_name: {name: values [n_points]}; a legend names several.
    x_label: Quantity and unit of x.
    y_label: That of the values.
    title: Heading of the figure.
    log: Whether the axis of x is logarithmic.

  Returns:
    matplotlib Figure.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import plotting
    >>> x = np.linspace(-1.0, 1.0, 100)
    >>> curves = {'before': x, 'after': np.tanh(2.0 * x)}
    >>> figure = plotting.lines(x, curves, 'Input', 'Output')
  """
  fig, (ax,) = style.panels(1, 1, height=3.0)
  for name, values in lines_by_name.items():
    color = style.color_of(name) if name else style.COLORS['after']
    ax.plot(x, values, label=name, color=color)
  if log:
    ax.set_xscale('log')
  style.label(ax, x_label, y_label)
  style.heading(fig, title)
  if len(lines_by_name) > 1:
    style.legend(fig, ax)
  return fig
