"""Figures as images."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def figure_to_png(fig: Figure) -> bytes:
  """Encodes a figure as PNG, fig.get_size_inches() * fig.dpi pixels large.

  Args:
    fig: matplotlib Figure.

  Returns:
    The file's content, bytes. Equal figures give equal bytes.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import plotting
    >>> figure = plotting.waveforms({'sine': np.sin(np.arange(1000))}, 16000)
    >>> plotting.figure_to_png(figure)[1:4]
    b'PNG'
  """
  buffer = io.BytesIO()
  fig.savefig(buffer, format='png', dpi=fig.dpi, metadata={'Software': None})
  return buffer.getvalue()


def figure_to_array(fig: Figure) -> np.ndarray:
  """Renders a figure, e.g. for `tf.summary.image`.

  Args:
    fig: matplotlib Figure.

  Returns:
    RGB image, uint8 [height, width, 3], fig.get_size_inches() * fig.dpi pixels.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import plotting
    >>> figure = plotting.waveforms({'sine': np.sin(np.arange(1000))}, 16000)
    >>> image = plotting.figure_to_array(figure)
    >>> image.ndim, image.dtype
    (3, dtype('uint8'))
  """
  canvas = FigureCanvasAgg(fig)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def stack_figures(figures: Sequence[Figure]) -> np.ndarray:
  """Draws figures below each other in one image.

  Args:
    figures: matplotlib Figures.

  Returns:
    RGB image, uint8 [height, width, 3].

  Raises:
    ValueError: If there is no figure.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import plotting
    >>> figure = plotting.waveforms({'sine': np.sin(np.arange(1000))}, 16000)
    >>> one = plotting.figure_to_array(figure)
    >>> len(plotting.stack_figures([figure, figure])) == 2 * len(one)
    True
  """
  if not figures:
    raise ValueError('There is no figure to stack; give at least one.')
  images = [figure_to_array(fig) for fig in figures]
  width = max(image.shape[1] for image in images)
  return np.concatenate(
    [
      np.pad(
        image,
        ((0, 0), (0, width - image.shape[1]), (0, 0)),
        constant_values=255,
      )
      for image in images
    ]
  )
