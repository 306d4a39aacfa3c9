"""Figures of audio, controls and training. NumPy in, matplotlib Figure out.

Nothing here touches pyplot or its global state, so the functions work in a
train loop, in a thread and without a display. Save a figure with
`figure_to_png`, log it as an image summary with `figure_to_array`.

One colour set runs through all figures: before grey, target blue, after
orange, see `COLORS`.
"""

import io
import math
import re

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy import ndimage

from dafx.training import band_powers

COLORS = {
  'before': '#868e96',
  'target': '#1c6fc4',
  'after': '#e8710a',
  'best single setting': '#7b5ea7',
}
_MORE_COLORS = ('#2b8a6e', '#c2255c', '#0b7285', '#8d6e3f', '#495057')
_INK = '#24292f'
_PALE_INK = '#57606a'
_FAINT = '#d5d9de'

_WIDTH = 9.0  # inches
_DPI = 160
_TEXT = 9  # points
_SMALL = 8  # points

_FLOOR_DB = -80.0  # of a spectrogram, below its loudest cell
_FREQUENCY_TICKS_HZ = (100, 300, 1000, 3000, 10000)
_MAX_POINTS = 4000  # a longer waveform is drawn as its envelope
_STILL = 1e-3  # of its range: a control that moves less is static


# ---------------------------------------------------------------- Figures ----
def figure_to_png(fig):
  """Encodes a figure as PNG, fig.get_size_inches() * fig.dpi pixels large.

  Args:
    fig: matplotlib Figure.

  Returns:
    The file's content, bytes. Equal figures give equal bytes.
  """
  buffer = io.BytesIO()
  fig.savefig(buffer, format='png', dpi=fig.dpi, metadata={'Software': None})
  return buffer.getvalue()


def figure_to_array(fig):
  """Renders a figure, e.g. for `tf.summary.image`.

  Args:
    fig: matplotlib Figure.

  Returns:
    RGB image, uint8 [height, width, 3], fig.get_size_inches() * fig.dpi pixels.
  """
  canvas = FigureCanvasAgg(fig)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def color_of(name):
  """Gives the colour of a version of a clip, the same wherever it is shown.

  Args:
    name: E.g. 'before'. Names outside `COLORS` get a colour by their letters.

  Returns:
    '#rrggbb'.
  """
  other = _MORE_COLORS[sum(map(ord, name)) % len(_MORE_COLORS)]
  return COLORS.get(name, other)


# ------------------------------------------------------------------ Audio ----
def as_channels(audio, name='audio'):
  """Brings mono and multichannel audio to one shape and checks it.

  Args:
    audio: Samples, [n_samples] or [n_samples, n_channels].
    name: What to call it in an error.

  Returns:
    float64 [n_samples, n_channels].

  Raises:
    ValueError: If audio is empty, not finite, of another rank, or has more
      channels than samples (so is probably transposed).
  """
  audio = np.asarray(audio, dtype=np.float64)
  if audio.ndim not in (1, 2) or not audio.size:
    raise ValueError(
      f'{name} has shape {audio.shape}; allowed are [n_samples] and '
      '[n_samples, n_channels], not empty. Take one item out of a batch.'
    )
  if audio.ndim == 1:
    audio = audio[:, np.newaxis]
  if audio.shape[1] > audio.shape[0]:
    raise ValueError(
      f'{name} has shape {audio.shape}, more channels than samples; allowed '
      'is [n_samples, n_channels]. Transpose it.'
    )
  if not np.all(np.isfinite(audio)):
    raise ValueError(
      f'{name} has {np.sum(~np.isfinite(audio))} samples that are not finite; '
      'look for the processor that made them.'
    )
  return audio


def spectrograms(audio_by_name, sample_rate):
  """Draws spectrograms below each other, all on one colour scale.

  The power density of a Hann-windowed STFT (93 ms) is averaged over the
  channels and in each of 160 bands of equal width on a logarithmic axis. 0 dB
  is the loudest cell of all the spectrograms, so that levels can be compared
  between them.

  Args:
    audio_by_name: dict of name to samples, [n_samples] or
      [n_samples, n_channels]; lengths may differ. Drawn in the dict's order.
    sample_rate: Of all the audio, Hz.

  Returns:
    matplotlib Figure with one panel per name: an image, dB, over seconds and
    octaves above 1 Hz, the latter labelled in Hz.

  Raises:
    ValueError: If there is no audio, it is not as above, or sample_rate is
      not positive.
  """
  audio_by_name = _checked_audio(audio_by_name, sample_rate)
  longest = max(len(audio) for audio in audio_by_name.values())
  meters = {}
  for name, audio in audio_by_name.items():
    meters[name] = band_powers.BandPowers(sample_rate, longest)
    meters[name].add(audio)
  return draw_band_powers(meters, longest / sample_rate)


def draw_band_powers(meters, seconds):
  """Draws spectrograms as `spectrograms` does, of audio that came in chunks.

  Args:
    meters: dict of name to the `band_powers.BandPowers` that took the audio in,
      all of one rate and made for one length.
    seconds: How long the longest audio is.

  Returns:
    matplotlib Figure as of `spectrograms`.
  """
  powers = {name: meter.powers() for name, meter in meters.items()}
  meter = next(iter(meters.values()))
  edges_hz, column_s = meter.edges_hz, meter.column_s
  loudest = max(power.max() for power in powers.values()) or 1.0

  n = len(powers)
  fig, axes = _panels(n, 1, height=0.5 + 1.55 * n, sharex=True, sharey=True)
  ticks_hz = [f for f in _FREQUENCY_TICKS_HZ if edges_hz[0] < f < edges_hz[-1]]
  for ax, (name, power) in zip(axes, powers.items()):
    floor = 10.0 ** (_FLOOR_DB / 10.0)
    # A column stands for the time around its middle.
    image = ax.imshow(
      10.0 * np.log10(np.maximum(power / loudest, floor)),
      origin='lower',
      aspect='auto',
      cmap='magma',
      vmin=_FLOOR_DB,
      vmax=0.0,
      extent=(
        -0.5 * column_s,
        (power.shape[1] - 0.5) * column_s,
        *np.log2(edges_hz[[0, -1]]),
      ),
    )
    ax.grid(False)
    ax.set_title(
      _plain(name),
      loc='left',
      fontsize=_TEXT,
      fontweight='bold',
      color=color_of(name),
    )
    ax.set_yticks(np.log2(ticks_hz), [_number(f) for f in ticks_hz])
    _label(ax, y='Frequency (Hz)')
  axes[-1].set_xlim(0.0, seconds)
  _label(axes[-1], x='Time (s)')
  _color_bar(fig, image, axes, 'Level (dB re loudest)')
  return fig


def waveforms(audio_by_name, sample_rate):
  """Draws waveforms over each other, e.g. before and after; the last on top.

  Up to 4,000 samples are drawn as a line; more as the band between minimum and
  maximum of each column, so that no peak is lost.

  Args:
    audio_by_name: dict of name to samples, [n_samples] or
      [n_samples, n_channels], all with the same number of channels.
    sample_rate: Of all the audio, Hz.

  Returns:
    matplotlib Figure with one panel per channel: seconds by amplitude.

  Raises:
    ValueError: If there is no audio, it is not as above, the numbers of
      channels differ, or sample_rate is not positive.
  """
  audio_by_name = _checked_audio(audio_by_name, sample_rate)
  n_channels = {k: a.shape[1] for k, a in audio_by_name.items()}
  if len(set(n_channels.values())) > 1:
    raise ValueError(
      f'The numbers of channels differ: {n_channels}; waveforms are compared '
      'channel by channel, so bring them to the same number.'
    )
  n = next(iter(n_channels.values()))
  fig, axes = _panels(n, 1, height=0.8 + 1.5 * n, sharex=True, sharey=True)
  for channel, ax in enumerate(axes):
    for name, audio in audio_by_name.items():
      _waveform(ax, audio[:, channel], sample_rate, name)
    if n > 1:
      ax.set_title(f'Channel {channel + 1}', loc='left', fontsize=_TEXT)
    _label(ax, y='Amplitude')
  longest = max(len(audio) for audio in audio_by_name.values())
  peak = max(np.abs(audio).max() for audio in audio_by_name.values()) or 1.0
  axes[-1].set_xlim(0.0, longest / sample_rate)
  axes[-1].set_ylim(-1.05 * peak, 1.05 * peak)
  _label(axes[-1], x='Time (s)')
  _legend(fig, axes[0])
  return fig


def _waveform(ax, samples, sample_rate, name):
  """Draws one channel, [n_samples], as a line or as its envelope."""
  style = {'color': color_of(name), 'alpha': 0.7, 'label': _plain(name)}
  if len(samples) <= _MAX_POINTS:
    times_s = np.arange(len(samples)) / sample_rate
    ax.plot(times_s, samples, linewidth=1.0, **style)
    return
  starts = np.linspace(0, len(samples), _MAX_POINTS // 2, endpoint=False)
  starts = starts.astype(int)
  ax.fill_between(
    starts / sample_rate,
    np.minimum.reduceat(samples, starts),
    np.maximum.reduceat(samples, starts),
    linewidth=0.3,
    **style,
  )


# --------------------------------------------------------------- Controls ----
def control_trajectories(
  controls, *, symbols, units, ranges, logarithmic, frame_times_s, title=''
):
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
  """
  controls, times_s = _checked_frames(controls, frame_times_s, 'controls')
  _check_lengths(controls.shape[1], symbols, units, ranges, logarithmic)
  described = zip(controls.T, symbols, units, ranges, logarithmic, strict=True)
  moving, static = [], []
  for values, symbol, unit, (lowest, highest), log in described:
    _check_range(symbol, unit, values, lowest, highest, log)
    places = _place(values, lowest, highest, log)
    if np.ptp(places) > _STILL:
      name = _plain(f'{symbol} ({unit})' if unit else symbol)
      moving.append((name, values, lowest, highest, log))
    else:
      span = f'{_number(lowest)} to {_number(highest)}{", log" if log else ""}'
      value = f'{_number(values[0])} {unit}'.strip()
      static.append((_plain(symbol), _plain(f'{value}  ({span})'), places[0]))

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

  fig = _figure(sum(heights) + (0.35 if title else 0.0))
  parts = fig.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)
  if moving:
    _draw_moving(parts[0, 0], moving, times_s, n_rows, n_columns)
  if static:
    _draw_static(parts[-1, 0], static, static_rows, static_columns)
    if moving:
      parts[-1, 0].suptitle(
        'Static', x=0.01, ha='left', fontsize=_TEXT, color=_INK
      )
  _heading(fig, title)
  return fig


def _draw_moving(fig, moving, times_s, n_rows, n_columns):
  """Draws (name, values [n_frames], lowest, highest, log), a panel each."""
  axes = _axes(fig, n_rows, n_columns, sharex=True)
  for i, (name, values, lowest, highest, log) in enumerate(moving):
    ax = axes[i]
    ax.plot(times_s, values, color=COLORS['after'], linewidth=1.4)
    ax.set_title(name, loc='left', fontsize=_SMALL, color=_INK)
    if log:
      ax.set_yscale('log')
    middle = _middle(lowest, highest, log)
    ax.yaxis.set_major_locator(FixedLocator([lowest, middle, highest]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(_NUMBERS)
    bottom, top = min(lowest, values.min()), max(highest, values.max())
    # Room for a line that lies on a bound.
    margin = 0.05 * (math.log(top / bottom) if log else top - bottom)
    if log:
      ax.set_ylim(bottom * math.exp(-margin), top * math.exp(margin))
    else:
      ax.set_ylim(bottom - margin, top + margin)
    if i + n_columns >= len(moving):  # Nothing below it.
      ax.tick_params(labelbottom=True)
      _label(ax, x='Time (s)')
      # The empty place below it has the room; rows need not move apart.
      ax.xaxis.set_in_layout(i // n_columns == n_rows - 1)
  axes[0].set_xlim(times_s[0], times_s[-1])
  for ax in axes[len(moving) :]:
    ax.remove()


def _draw_static(fig, static, n_rows, n_columns):
  """Draws (symbol, value and range as text, place in [0, 1]) as dots."""
  axes = _axes(fig, 1, n_columns)
  for column, ax in enumerate(axes):
    entries = static[column * n_rows : (column + 1) * n_rows]
    symbols, texts, places = zip(*entries)
    rows = np.arange(len(entries))
    ax.hlines(rows, 0.0, 1.0, color=_FAINT, linewidth=2.0, zorder=1)
    ax.scatter(places, rows, color=COLORS['after'], s=28, zorder=2)
    for row, text in zip(rows, texts):
      ax.annotate(
        text,
        (1.0, row),
        xytext=(10, 0),
        textcoords='offset points',
        va='center_baseline',
        fontsize=_SMALL,
        color=_INK,
      )
    ax.set_yticks(rows, symbols)
    ax.set_ylim(n_rows - 0.5, -0.5)
    ax.set_xlim(min(-0.02, *places), max(1.02, *places))
    ax.set_xticks([])
    ax.tick_params(axis='y', length=0, labelcolor=_INK)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def gain_heatmap(gains_db, *, band_labels, frame_times_s, title=''):
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
  """
  gains_db, times_s = _checked_frames(gains_db, frame_times_s, 'gains_db')
  n_frames, n_bands = gains_db.shape
  _check_lengths(n_bands, band_labels)
  limit_db = max(1.0, np.abs(gains_db).max())
  labels = [_plain(label) for label in band_labels]
  if n_frames == 1:
    fig, (ax,) = _panels(1, 1, height=2.8)
    ax.bar(np.arange(n_bands), gains_db[0], color=COLORS['after'], width=0.7)
    ax.axhline(0.0, color=_INK, linewidth=0.8)
    ax.set_ylim(-1.05 * limit_db, 1.05 * limit_db)
    step = math.ceil(n_bands / 24)
    ax.set_xticks(np.arange(n_bands)[::step], labels[::step])
    _label(ax, x='Band', y='Gain (dB)')
  else:
    fig, (ax,) = _panels(1, 1, height=float(np.clip(0.1 * n_bands, 2.2, 5)))
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
    _label(ax, x='Time (s)', y='Band')
    _color_bar(fig, mesh, [ax], 'Gain (dB)')
  _heading(fig, title)
  return fig


# --------------------------------------------------------------- Training ----
def training_curves(steps, losses_by_name):
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
  fig, (ax,) = _panels(1, 1, height=3.4)
  cycle = (COLORS['after'], COLORS['target'], *_MORE_COLORS)
  smooth = len(steps) >= 100
  for i, (name, loss) in enumerate(losses.items()):
    color = cycle[i % len(cycle)]
    average = smooth and np.all(np.isfinite(loss))
    ax.plot(
      steps,
      loss,
      color=color,
      label=_plain(name),
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
    ax.yaxis.set_minor_formatter(_NUMBERS)
  ax.yaxis.set_major_formatter(_NUMBERS)
  ax.xaxis.set_major_formatter(_NUMBERS)
  ax.margins(x=0.01)
  _label(ax, x='Train step', y='Loss')
  _legend(fig, ax)
  return fig


def lines(x, lines_by_name, x_label, y_label, title='', log=False):
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
  """
  fig, (ax,) = _panels(1, 1, height=3.0)
  for name, values in lines_by_name.items():
    color = color_of(name) if name else COLORS['after']
    ax.plot(x, values, label=name, color=color)
  if log:
    ax.set_xscale('log')
  _label(ax, x_label, y_label)
  _heading(fig, title)
  if len(lines_by_name) > 1:
    _legend(fig, ax)
  return fig


# ----------------------------------------------------------------- Checks ----
def _checked_audio(audio_by_name, sample_rate):
  """Gives dict of name to float64 [n_samples, n_channels], or raises."""
  if not sample_rate > 0:
    raise ValueError(f'sample_rate={sample_rate} Hz must be positive.')
  if not audio_by_name:
    raise ValueError('No audio given; name at least one signal to draw.')
  return {k: as_channels(v, f"audio '{k}'") for k, v in audio_by_name.items()}


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


# ------------------------------------------------------------------ Style ----
def _figure(height):
  return Figure(
    (_WIDTH, height), dpi=_DPI, layout='constrained', facecolor='white'
  )


def _panels(n_rows, n_columns, *, height, **kwargs):
  """Makes a figure `height` inches high; returns it and its list of axes."""
  fig = _figure(height)
  return fig, _axes(fig, n_rows, n_columns, **kwargs)


def _axes(fig, n_rows, n_columns, **kwargs):
  """Lays out styled axes in a figure; returns a list, row by row."""
  axes = fig.subplots(n_rows, n_columns, squeeze=False, **kwargs)
  for ax in axes.flat:
    ax.set_facecolor('white')
    ax.spines[['top', 'right']].set_visible(False)
    ax.spines[['left', 'bottom']].set_color(_FAINT)
    ax.tick_params(
      which='both',
      length=3,
      color=_FAINT,
      labelsize=_SMALL,
      labelcolor=_PALE_INK,
    )
    ax.grid(True, color=_FAINT, linewidth=0.5, alpha=0.7)
    ax.set_axisbelow(True)
  return list(axes.flat)


def _label(ax, x=None, y=None):
  if x:
    ax.set_xlabel(x, fontsize=_SMALL, color=_INK)
  if y:
    ax.set_ylabel(y, fontsize=_SMALL, color=_INK)


def _heading(fig, title):
  if title:
    fig.suptitle(
      _plain(title),
      x=0.01,
      ha='left',
      fontsize=_TEXT + 2,
      fontweight='bold',
      color=_INK,
    )


def _legend(fig, ax):
  handles, labels = ax.get_legend_handles_labels()
  legend = fig.legend(
    handles,
    labels,
    loc='outside upper left',
    ncols=4,
    frameon=False,
    fontsize=_TEXT,
    labelcolor=_INK,
  )
  for handle in legend.legend_handles:
    handle.set(alpha=1.0, linewidth=2.0)


def _color_bar(fig, image, axes, label):
  bar = fig.colorbar(image, ax=axes, pad=0.01, fraction=0.03, aspect=30)
  bar.set_label(label, fontsize=_SMALL, color=_INK)
  bar.ax.tick_params(color=_FAINT, labelsize=_SMALL, labelcolor=_PALE_INK)
  bar.outline.set_visible(False)


def _plain(text):
  """Keeps matplotlib from reading mathematics into dollar signs."""
  return str(text).replace('$', r'\$')


def _number(value):
  """Writes a number in few characters: 0.05, 250, 1.5k."""
  short = f'{value / 1000:.3g}k' if abs(value) >= 1000 else f'{value:.3g}'
  return short.replace('-', '\N{MINUS SIGN}')


_NUMBERS = FuncFormatter(lambda value, _: _number(value))


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


# ---------------------------------------------------------------- Plugins ----
def plugin_figures(processor, controls, frame_times_s):
  """Draws the controls of a plugin's processor.

  Gains of ten bands or more, whose symbols differ by a number (`g_0`, `g_1`,
  ...), are drawn as a heat map, the other controls as trajectories.

  Args:
    processor: A processor with `symbols`, `low`, `high`, `is_log` and `plugin`,
      such as `effects.LV2Plugin`.
    controls: In port units, [n_frames, n_controls]; n_frames 1 is static.
    frame_times_s: Times of the frames, seconds, [n_frames].

  Returns:
    List of matplotlib Figures.

  Raises:
    ValueError: As `control_trajectories`.
  """
  controls = np.asarray(controls)
  frame_times_s = np.asarray(frame_times_s)[: len(controls)]
  ports = [processor.plugin.control(s) for s in processor.symbols]
  families = {}
  for i, port in enumerate(ports):
    prefix = re.sub(r'\d+$', '', port.symbol)
    is_gain = processor.low[i] > 0 and port.unit in ('G', 'coef', '')
    if prefix != port.symbol and is_gain:
      families.setdefault(prefix, []).append(i)
  bands = [i for f in families.values() if len(f) >= 10 for i in f]
  others = [i for i in range(len(ports)) if i not in bands]
  figures = []
  title = f'{processor.name}: {processor.plugin.name}'
  if bands:
    figures.append(
      gain_heatmap(
        20.0 * np.log10(controls[:, bands]),
        band_labels=[ports[i].name.split()[-1] for i in bands],
        frame_times_s=frame_times_s,
        title=title,
      )
    )
  if others:
    figures.append(
      control_trajectories(
        controls[:, others],
        symbols=[ports[i].symbol for i in others],
        units=[ports[i].unit for i in others],
        ranges=[(processor.low[i], processor.high[i]) for i in others],
        logarithmic=[bool(processor.is_log[i]) for i in others],
        frame_times_s=frame_times_s,
        title=title,
      )
    )
  return figures


def stack_figures(figures):
  """Draws figures below each other in one image.

  Args:
    figures: matplotlib Figures.

  Returns:
    RGB image, uint8 [height, width, 3].

  Raises:
    ValueError: If there is no figure.
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
