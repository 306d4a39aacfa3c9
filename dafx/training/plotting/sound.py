"""Figures of audio."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from dafx.audio import band_powers
from dafx.training.plotting import style

_FLOOR_DB = -80.0  # of a spectrogram, below its loudest cell
_FREQUENCY_TICKS_HZ = (100, 300, 1000, 3000, 10000)
_MAX_POINTS = 4000  # a longer waveform is drawn as its envelope


def as_channels(audio: np.ndarray, name: str = 'audio') -> np.ndarray:
  """Brings mono and multichannel audio to one shape and checks it.

  Args:
    audio: Samples, [n_samples] or [n_samples, n_channels].
    name: What to call it in an error.

  Returns:
    float64 [n_samples, n_channels].

  Raises:
    ValueError: If audio is empty, not finite, of another rank, or has more
      channels than samples (so is probably transposed).

  Examples:
    >>> import numpy as np
    >>> from dafx.training import plotting
    >>> plotting.as_channels(np.zeros(1000)).shape
    (1000, 1)
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


def spectrograms(
  audio_by_name: Mapping[str, np.ndarray], sample_rate: int
) -> Figure:
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

  Examples:
    >>> import numpy as np
    >>> from dafx.training import plotting
    >>> noise = np.random.default_rng(0).normal(0.0, 0.1, 44100)
    >>> figure = plotting.spectrograms(
    ...   {'before': noise, 'after': 2 * noise}, 44100
    ... )
    >>> figure.axes[1].get_xlabel()
    'Time (s)'
  """
  audio_by_name = _checked_audio(audio_by_name, sample_rate)
  longest = max(len(audio) for audio in audio_by_name.values())
  meters = {}
  for name, audio in audio_by_name.items():
    meters[name] = band_powers.BandPowers(sample_rate, longest)
    meters[name].add(audio)
  return draw_band_powers(meters, longest / sample_rate)


def draw_band_powers(
  meters: Mapping[str, band_powers.BandPowers], seconds: float
) -> Figure:
  """Draws spectrograms as `spectrograms` does, of audio that came in chunks.

  Args:
    meters: dict of name to the `band_powers.BandPowers` that took the audio in,
      all of one rate and made for one length.
    seconds: How long the longest audio is.

  Returns:
    matplotlib Figure as of `spectrograms`.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import plotting
    >>> from dafx.audio import band_powers
    >>> meter = band_powers.BandPowers(sample_rate=44100, n_samples=44100)
    >>> for _ in range(2):
    ...   meter.add(np.random.default_rng(0).normal(0.0, 0.1, [22050, 1]))
    >>> figure = plotting.draw_band_powers({'noise': meter}, seconds=1.0)
  """
  powers = {name: meter.powers() for name, meter in meters.items()}
  meter = next(iter(meters.values()))
  edges_hz, column_s = meter.edges_hz, meter.column_s
  loudest = max(power.max() for power in powers.values()) or 1.0

  n = len(powers)
  fig, axes = style.panels(
    n, 1, height=0.5 + 1.55 * n, sharex=True, sharey=True
  )
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
      style.plain(name),
      loc='left',
      fontsize=style.TEXT,
      fontweight='bold',
      color=style.color_of(name),
    )
    ax.set_yticks(np.log2(ticks_hz), [style.number(f) for f in ticks_hz])
    style.label(ax, y='Frequency (Hz)')
  axes[-1].set_xlim(0.0, seconds)
  style.label(axes[-1], x='Time (s)')
  style.color_bar(fig, image, axes, 'Level (dB re loudest)')
  return fig


def waveforms(
  audio_by_name: Mapping[str, np.ndarray], sample_rate: int
) -> Figure:
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

  Examples:
    >>> import numpy as np
    >>> from dafx.training import plotting
    >>> noise = np.random.default_rng(0).normal(0.0, 0.1, [44100, 2])
    >>> figure = plotting.waveforms(
    ...   {'before': noise, 'after': 0.5 * noise}, 44100
    ... )
    >>> len(figure.axes)  # one panel per channel
    2
  """
  audio_by_name = _checked_audio(audio_by_name, sample_rate)
  n_channels = {k: a.shape[1] for k, a in audio_by_name.items()}
  if len(set(n_channels.values())) > 1:
    raise ValueError(
      f'The numbers of channels differ: {n_channels}; waveforms are compared '
      'channel by channel, so bring them to the same number.'
    )
  n = next(iter(n_channels.values()))
  fig, axes = style.panels(n, 1, height=0.8 + 1.5 * n, sharex=True, sharey=True)
  for channel, ax in enumerate(axes):
    for name, audio in audio_by_name.items():
      _waveform(ax, audio[:, channel], sample_rate, name)
    if n > 1:
      ax.set_title(f'Channel {channel + 1}', loc='left', fontsize=style.TEXT)
    style.label(ax, y='Amplitude')
  longest = max(len(audio) for audio in audio_by_name.values())
  peak = max(np.abs(audio).max() for audio in audio_by_name.values()) or 1.0
  axes[-1].set_xlim(0.0, longest / sample_rate)
  axes[-1].set_ylim(-1.05 * peak, 1.05 * peak)
  style.label(axes[-1], x='Time (s)')
  style.legend(fig, axes[0])
  return fig


def _waveform(ax, samples, sample_rate, name):
  """Draws one channel, [n_samples], as a line or as its envelope."""
  look = {
    'color': style.color_of(name),
    'alpha': 0.7,
    'label': style.plain(name),
  }
  if len(samples) <= _MAX_POINTS:
    times_s = np.arange(len(samples)) / sample_rate
    ax.plot(times_s, samples, linewidth=1.0, **look)
    return
  edges = np.linspace(0, len(samples), _MAX_POINTS // 2, endpoint=False)
  starts = edges.astype(int)
  ax.fill_between(
    starts / sample_rate,
    np.minimum.reduceat(samples, starts),
    np.maximum.reduceat(samples, starts),
    linewidth=0.3,
    **look,
  )


def _checked_audio(audio_by_name, sample_rate):
  """Gives dict of name to float64 [n_samples, n_channels], or raises."""
  if not sample_rate > 0:
    raise ValueError(f'sample_rate={sample_rate} Hz must be positive.')
  if not audio_by_name:
    raise ValueError('No audio given; name at least one signal to draw.')
  return {k: as_channels(v, f"audio '{k}'") for k, v in audio_by_name.items()}
