"""Listening and looking in notebooks, for Jupyter and Colab alike.

Audio is [n_samples], [batch, n_samples] or [batch, n_samples, n_channels], as
everywhere in dafx, and may be a tensor. Of a batch, one item is shown.
"""

import numpy as np

from dafx.training import plotting

_FIGURE_WIDTH = 800  # pixels


def play(audio, sample_rate, item=0):
  """Makes a player for audio.

  The level is kept, so that versions can be compared by ear: samples outside
  [-1, 1] are clipped, quiet ones are not turned up.

  Args:
    audio: [n_samples], [batch, n_samples] or [batch, n_samples, n_channels].
    sample_rate: Hz.
    item: Which item of a batch.

  Returns:
    IPython.display.Audio; shown if it is a cell's last value, else with
    `display(...)`.

  Raises:
    ImportError: Without IPython, i.e. outside a notebook.
    ValueError: If audio has another shape or batch has no such item.
  """
  samples = _item(audio, item)  # [n_samples, n_channels]
  return _display().Audio(
    np.clip(samples, -1.0, 1.0).T, rate=int(sample_rate), normalize=False
  )


def specplot(audio, sample_rate, item=0):
  """Draws the spectrogram of audio, or several on one colour scale.

  Args:
    audio: [n_samples], [batch, n_samples] or [batch, n_samples, n_channels]; or
      a dict of name to such audio.
    sample_rate: Hz.
    item: Which item of a batch.

  Returns:
    IPython.display.Image.

  Raises:
    ImportError: Without IPython, i.e. outside a notebook.
    ValueError: If audio has another shape or batch has no such item.
  """
  audio_by_name = audio if isinstance(audio, dict) else {'audio': audio}
  items = {name: _item(value, item) for name, value in audio_by_name.items()}
  return _image(plotting.spectrograms(items, sample_rate))


def control_plot(controls, *, item=0, **kwargs):
  """Draws a plugin's controls over time.

  Args:
    controls: In port units, [n_frames, n_controls] or
      [batch, n_frames, n_controls].
    item: Which item of a batch.
    **kwargs: symbols, units, ranges, logarithmic, frame_times_s, title, as
      `plotting.control_trajectories` takes them.

  Returns:
    IPython.display.Image.

  Raises:
    ImportError: Without IPython, i.e. outside a notebook.
    ValueError: If controls have another shape, batch has no such item, or
      the plot cannot be made of them.
  """
  controls = np.asarray(controls)
  if controls.ndim == 3:
    controls = _pick(controls, item)
  return _image(plotting.control_trajectories(controls, **kwargs))


def _item(audio, item):
  """Takes one item, [n_samples, n_channels], out of audio."""
  audio = np.asarray(audio)
  if audio.ndim == 2 and audio.shape[0] > audio.shape[1]:
    raise ValueError(
      f'audio has shape {audio.shape}, more items than samples; two axes are '
      '[batch, n_samples]. Give [n_samples, n_channels] as audio[None].'
    )
  return plotting.as_channels(_pick(audio, item) if audio.ndim > 1 else audio)


def _pick(batch, item):
  if not -len(batch) <= item < len(batch):
    raise ValueError(f'item={item} is not in a batch of {len(batch)}.')
  return batch[item]


def _image(fig):
  return _display().Image(plotting.figure_to_png(fig), width=_FIGURE_WIDTH)


def _display():
  """Imports IPython.display, which only a notebook needs."""
  try:
    from IPython import display
  except ImportError as error:
    raise ImportError(
      'colab_utils shows its results through IPython, which is not installed; '
      "run it in a notebook, or 'pip install ipython'."
    ) from error
  return display
