"""Tests of the figures and of the notebook helpers that show them."""

import io
import subprocess
import sys
import types

import numpy as np
import pytest
from cases import some_quick
from matplotlib import image as matplotlib_image
from matplotlib import pyplot
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.text import Text

from dafx.colab import colab_utils
from dafx.training import plotting

SAMPLE_RATE = 16000


def _sine(frequency_hz, amplitude=0.5, n_samples=SAMPLE_RATE):
  times_s = np.arange(n_samples) / SAMPLE_RATE
  return amplitude * np.sin(2 * np.pi * frequency_hz * times_s)


def _controls(n_frames=20, n_controls=3, **changes):
  """Arguments of `control_trajectories`: sweeps over the whole range."""
  place = np.linspace(0.0, 1.0, n_frames)[:, np.newaxis]
  arguments = {
    'controls': 20.0 * 1000.0 ** np.repeat(place, n_controls, axis=1),
    'symbols': [f'freq_{i}' for i in range(n_controls)],
    'units': ['Hz'] * n_controls,
    'ranges': [(20.0, 20000.0)] * n_controls,
    'logarithmic': [True] * n_controls,
    'frame_times_s': np.arange(n_frames) * 0.02,
  }
  return arguments | changes


def _with_one_control(**changes):
  return _controls(n_controls=1, **changes)


def _titles(fig):
  return [ax.get_title(loc='left') for ax in fig.axes]


def _texts(fig):
  """All texts that are drawn, which needs a draw as ticks are made there."""
  plotting.figure_to_array(fig)
  return [text.get_text() for text in fig.findobj(Text)]


# ---------------------------------------------------------------- Figures ----
def test_png_and_array_have_the_size_of_the_figure():
  fig = plotting.training_curves([0, 1], {'loss': [1.0, 0.5]})
  width, height = np.round(fig.get_size_inches() * fig.dpi).astype(int)
  array = plotting.figure_to_array(fig)
  assert array.shape == (height, width, 3)
  assert array.dtype == np.uint8
  assert array.min() < 100 and array.max() == 255  # Ink on white.
  png = plotting.figure_to_png(fig)
  decoded = _decode_png(png)
  assert decoded.shape[:2] == (height, width)
  np.testing.assert_array_equal(np.round(255 * decoded[..., :3]), array)
  assert png == plotting.figure_to_png(fig)


def _decode_png(png):
  return matplotlib_image.imread(io.BytesIO(png), format='png')


def test_colors_of_versions_are_distinct_and_stable():
  colors = [plotting.color_of(name) for name in plotting.COLORS]
  assert len(set(colors)) == len(colors)
  assert plotting.color_of('mine') == plotting.color_of('mine')


def test_nothing_is_left_in_pyplot():
  plotting.waveforms({'before': _sine(100)}, SAMPLE_RATE)
  assert not pyplot.get_fignums()


def test_import_needs_no_tensorflow_and_no_notebook():
  code = (
    'import sys, dafx.training.plotting, dafx.colab.colab_utils\n'
    'print(sorted({"tensorflow", "IPython"} & set(sys.modules)))'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == '[]'


# ------------------------------------------------------------------ Audio ----
@pytest.mark.parametrize('frequency_hz', [125.0, 1000.0, 5000.0])
def test_spectrogram_peaks_at_the_frequency_of_a_sine(frequency_hz):
  sine = _sine(frequency_hz)  # On the centre of a bin of 16000 / 2048 Hz.
  fig = plotting.spectrograms({'before': sine}, SAMPLE_RATE)
  image = fig.axes[0].images[0]
  decibels = image.get_array()
  _, _, bottom, top = image.get_extent()
  assert 2**top == pytest.approx(SAMPLE_RATE / 2)
  edges_hz = 2 ** np.linspace(bottom, top, len(decibels) + 1)
  band = decibels[:, decibels.shape[1] // 2].argmax()
  half_bin_hz = 0.5 * SAMPLE_RATE / 2048
  # The loudest band overlaps the bin of the sine.
  assert edges_hz[band] < frequency_hz + half_bin_hz
  assert edges_hz[band + 1] > frequency_hz - half_bin_hz


def test_spectrogram_of_white_noise_is_flat():
  noise = np.random.default_rng(0).standard_normal(4 * SAMPLE_RATE)
  fig = plotting.spectrograms({'before': noise}, SAMPLE_RATE)
  decibels = fig.axes[0].images[0].get_array()[:, 5:-5]
  power = np.mean(10 ** (decibels / 10), axis=1)
  # About 50 of the overlapping frames are independent: 3 deviations of 1/√50.
  np.testing.assert_allclose(power[5:-1], power.mean(), rtol=0.45)


def test_spectrogram_columns_are_where_the_sound_is():
  click = np.zeros(SAMPLE_RATE)
  click[SAMPLE_RATE // 4] = 1.0
  fig = plotting.spectrograms({'before': click}, SAMPLE_RATE)
  image = fig.axes[0].images[0]
  left, right, _, _ = image.get_extent()
  power = (10 ** (image.get_array() / 10)).sum(axis=0)
  frame = power.argmax()
  hop_s = (right - left) / len(power)
  assert left + (frame + 0.5) * hop_s == pytest.approx(0.25, abs=hop_s)
  assert fig.axes[0].get_xlim() == (0.0, 1.0)


def test_spectrograms_share_their_scale():
  signals = {'before': _sine(440, 0.05), 'after': _sine(440, 0.5)}
  fig = plotting.spectrograms(signals, SAMPLE_RATE)
  quiet, loud = (ax.images[0] for ax in fig.axes[:2])
  assert quiet.get_clim() == loud.get_clim() == (-80.0, 0.0)
  assert loud.get_array().max() == pytest.approx(0.0, abs=1e-9)
  assert quiet.get_array().max() == pytest.approx(-20.0, abs=1e-6)


def test_spectrogram_averages_the_power_of_channels():
  one = _sine(440)
  signals = {'mono': one, 'half': np.stack([one, 0 * one], axis=1)}
  fig = plotting.spectrograms(signals, SAMPLE_RATE)
  mono, half = (ax.images[0].get_array().max() for ax in fig.axes[:2])
  assert mono - half == pytest.approx(10 * np.log10(2), abs=1e-6)


def test_spectrogram_labels():
  fig = plotting.spectrograms(
    {'before': _sine(440), 'target': _sine(550)}, SAMPLE_RATE
  )
  first, last, bar = fig.axes
  assert _titles(fig)[:2] == ['before', 'target']
  assert first.get_ylabel() == last.get_ylabel() == 'Frequency (Hz)'
  assert last.get_xlabel() == 'Time (s)'
  assert 'dB' in bar.get_ylabel()
  ticks = dict(
    zip([t.get_text() for t in last.get_yticklabels()], last.get_yticks())
  )
  assert ticks['300'] == pytest.approx(np.log2(300))
  assert ticks['3k'] == pytest.approx(np.log2(3000))
  assert '10k' not in ticks  # Above half the sample rate.


@pytest.mark.parametrize('sample_rate', [8000, 44100, 96000])
@pytest.mark.parametrize('n_samples', [1, 100, 30000])
def test_spectrogram_of_any_length_and_rate(sample_rate, n_samples):
  fig = plotting.spectrograms({'before': np.zeros(n_samples)}, sample_rate)
  decibels = fig.axes[0].images[0].get_array()
  assert np.all(decibels == -80.0)  # Silence.
  plotting.figure_to_png(fig)


def test_long_spectrogram_is_thinned():
  fig = plotting.spectrograms({'before': np.zeros(3_000_000)}, SAMPLE_RATE)
  assert fig.axes[0].images[0].get_array().shape[1] < 6000


def test_waveform_shows_the_samples():
  before, after = _sine(5, 0.2, 1000), _sine(5, 0.8, 1000)
  fig = plotting.waveforms({'before': before, 'after': after}, SAMPLE_RATE)
  (ax,) = fig.axes
  for line, name, samples in zip(
    ax.lines, ('before', 'after'), (before, after), strict=True
  ):
    np.testing.assert_array_equal(line.get_ydata(), samples)
    np.testing.assert_allclose(line.get_xdata(), np.arange(1000) / SAMPLE_RATE)
    assert line.get_color() == plotting.COLORS[name]
  assert (ax.get_xlabel(), ax.get_ylabel()) == ('Time (s)', 'Amplitude')
  assert [t.get_text() for t in fig.legends[0].texts] == ['before', 'after']


def test_long_waveform_keeps_every_peak():
  samples = np.zeros((50001, 2))
  samples[20000, 1], samples[50000, 1] = 0.9, -0.7
  fig = plotting.waveforms({'after': samples}, SAMPLE_RATE)
  assert _titles(fig) == ['Channel 1', 'Channel 2']
  vertices = fig.axes[1].collections[0].get_paths()[0].vertices
  assert vertices[:, 1].max() == 0.9
  assert vertices[:, 1].min() == -0.7
  peak_s = vertices[vertices[:, 1].argmax(), 0]
  assert peak_s == pytest.approx(20000 / SAMPLE_RATE, abs=26 / SAMPLE_RATE)
  silent = fig.axes[0].collections[0].get_paths()[0].vertices
  assert np.all(silent[:, 1] == 0)


@pytest.mark.parametrize('draw', [plotting.spectrograms, plotting.waveforms])
@pytest.mark.parametrize(
  ('audio_by_name', 'sample_rate', 'message'),
  [
    ({}, 16000, 'No audio'),
    ({'a': []}, 16000, "audio 'a' has shape"),
    ({'a': np.zeros((2, 100, 1))}, 16000, 'Take one item'),
    ({'a': np.zeros((2, 100))}, 16000, 'Transpose'),
    ({'a': [0.0, np.nan]}, 16000, '1 samples that are not finite'),
    ({'a': [0.0, 1.0]}, 0, 'sample_rate=0'),
  ],
)
def test_bad_audio(draw, audio_by_name, sample_rate, message):
  with pytest.raises(ValueError, match=message):
    draw(audio_by_name, sample_rate)


def test_waveforms_of_unequal_channels():
  with pytest.raises(ValueError, match="'b': 2"):
    plotting.waveforms({'a': np.zeros(9), 'b': np.zeros((9, 2))}, SAMPLE_RATE)


# --------------------------------------------------------------- Controls ----
@pytest.mark.parametrize(
  'n_controls', some_quick([1, 2, 5, 16, 50], [1, 5, 16])
)
def test_moving_controls_get_a_panel_each(n_controls):
  arguments = _controls(n_controls=n_controls, title='Plugin')
  fig = plotting.control_trajectories(**arguments)
  assert _titles(fig) == [f'{s} (Hz)' for s in arguments['symbols']]
  for i, ax in enumerate(fig.axes):
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_ydata(), arguments['controls'][:, i])
    np.testing.assert_array_equal(line.get_xdata(), arguments['frame_times_s'])
    assert ax.get_yscale() == 'log'
    bottom, top = ax.get_ylim()
    assert bottom <= 20.0 and top >= 20000.0
    assert ax.get_xlim() == fig.axes[0].get_xlim()
  assert fig.axes[-1].get_xlabel() == 'Time (s)'
  assert {'Plugin', '20', '600', '20k'} <= set(_texts(fig))


def test_every_column_of_panels_has_a_time_axis():
  fig = plotting.control_trajectories(**_controls(n_controls=10))
  labelled = [ax.get_xlabel() == 'Time (s)' for ax in fig.axes]
  assert labelled == [False] * 6 + [True] * 4


def test_linear_control_out_of_its_range_widens_the_panel():
  fig = plotting.control_trajectories(
    **_with_one_control(
      controls=np.linspace(-70.0, 0.0, 20)[:, np.newaxis],
      ranges=[(-60.0, 0.0)],
      logarithmic=[False],
      units=[''],
    )
  )
  assert _titles(fig) == ['freq_0']
  assert fig.axes[0].get_yscale() == 'linear'
  assert fig.axes[0].get_ylim()[0] < -70.0
  np.testing.assert_allclose(fig.axes[0].get_yticks(), [-60, -30, 0])


@pytest.mark.parametrize('n_frames', [1, 20])
def test_static_controls_are_dots_in_their_range(n_frames):
  values = [200.0, -15.0]
  fig = plotting.control_trajectories(
    np.tile(values, (n_frames, 1)),
    symbols=['freq', 'gain'],
    units=['Hz', 'dB'],
    ranges=[(20.0, 2000.0), (-20.0, 0.0)],
    logarithmic=[True, False],
    frame_times_s=np.arange(n_frames),
  )
  (ax,) = fig.axes
  (dots,) = [c for c in ax.collections if isinstance(c, PathCollection)]
  np.testing.assert_allclose(dots.get_offsets(), [[0.5, 0], [0.25, 1]])
  assert [t.get_text() for t in ax.get_yticklabels()] == ['freq', 'gain']
  assert [t.get_text() for t in ax.texts] == [
    '200 Hz  (20 to 2k, log)',
    '−15 dB  (−20 to 0)',
  ]


def test_static_and_moving_controls_are_told_apart():
  arguments = _controls(n_controls=12)
  arguments['controls'][:, 1::2] = 440.0
  fig = plotting.control_trajectories(**arguments)
  assert _titles(fig)[:6] == [f'freq_{i} (Hz)' for i in range(0, 12, 2)]
  static = [
    label.get_text() for ax in fig.axes[6:] for label in ax.get_yticklabels()
  ]
  assert static == [f'freq_{i}' for i in range(1, 12, 2)]
  assert 'Static' in _texts(fig)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'controls': np.zeros((0, 1))}, 'not empty'),
    ({'controls': np.zeros((20, 0))}, 'not empty'),
    ({'controls': np.ones((2, 20, 1))}, 'Take one item'),
    ({'controls': np.full((20, 1), np.inf)}, 'not finite'),
    ({'symbols': ['a', 'b']}, r'lengths \[2, 1, 1, 1\]'),
    ({'units': []}, r'lengths \[1, 0, 1, 1\]'),
    ({'frame_times_s': np.arange(19)}, 'frame_times_s'),
    ({'frame_times_s': np.zeros(20)}, 'increasing'),
    ({'ranges': [(5.0, 5.0)]}, 'lower'),
    ({'ranges': [(0.0, 5.0)]}, 'logarithmic'),
    ({'controls': np.zeros((20, 1))}, "'freq_0' is logarithmic"),
  ],
)
def test_bad_controls(changes, message):
  with pytest.raises(ValueError, match=message):
    plotting.control_trajectories(**_with_one_control(**changes))


def test_gain_heatmap():
  gains_db = np.random.default_rng(0).uniform(-6, 9, (30, 32))
  times_s = 0.1 * np.arange(30)
  fig = plotting.gain_heatmap(
    gains_db,
    band_labels=[f'band {i}' for i in range(32)],
    frame_times_s=times_s,
    title='Equalizer',
  )
  ax, bar = fig.axes
  (mesh,) = [c for c in ax.collections if isinstance(c, QuadMesh)]
  np.testing.assert_array_equal(
    np.asarray(mesh.get_array()).reshape(32, 30), gains_db.T
  )
  limit = np.abs(gains_db).max()
  assert mesh.get_clim() == (-limit, limit)
  # Cells are centred on their frame.
  np.testing.assert_allclose(mesh.get_coordinates()[0, :2, 0], [-0.05, 0.05])
  assert (ax.get_xlabel(), ax.get_ylabel()) == ('Time (s)', 'Band')
  assert bar.get_ylabel() == 'Gain (dB)'
  labels = [label.get_text() for label in ax.get_yticklabels()]
  assert ax.get_yticks()[labels.index('band 4')] == 4
  assert 'Equalizer' in _texts(fig)


def test_static_gains_are_bars():
  gains_db = np.array([[3.0, -2.0, 0.5]])
  fig = plotting.gain_heatmap(
    gains_db, band_labels=['100', '1k', '10k'], frame_times_s=[0.0]
  )
  (ax,) = fig.axes
  heights = [bar.get_height() for bar in ax.patches]
  np.testing.assert_array_equal(heights, gains_db[0])
  assert [t.get_text() for t in ax.get_xticklabels()] == ['100', '1k', '10k']
  assert ax.get_ylabel() == 'Gain (dB)'


@pytest.mark.parametrize(
  ('gains_db', 'band_labels'),
  [(np.zeros((0, 2)), 'ab'), (np.zeros((1, 2)), 'abc'), ([[np.nan, 1]], 'ab')],
)
def test_bad_gains(gains_db, band_labels):
  with pytest.raises(ValueError):
    plotting.gain_heatmap(
      gains_db, band_labels=band_labels, frame_times_s=np.arange(len(gains_db))
    )


# --------------------------------------------------------------- Training ----
def test_training_curves_show_the_losses():
  losses = {'total': [3.0, 2.0, np.nan], 'stft $1$': [2.0, 1.0, 0.5]}
  fig = plotting.training_curves([0, 1000, 2000], losses)
  (ax,) = fig.axes
  for line, values in zip(ax.lines, losses.values(), strict=True):
    np.testing.assert_array_equal(line.get_xdata(), [0, 1000, 2000])
    np.testing.assert_array_equal(line.get_ydata(), values)
  assert (ax.get_xlabel(), ax.get_ylabel()) == ('Train step', 'Loss')
  assert ax.get_yscale() == 'linear'
  # The dollars are escaped, so that they are no mathematics.
  legend = [text.get_text() for text in fig.legends[0].texts]
  assert legend == ['total', r'stft \$1\$']
  assert '2k' in _texts(fig)


def test_many_steps_get_a_moving_average():
  loss = 10.0 ** np.linspace(0, -2, 200)
  fig = plotting.training_curves(np.arange(200), {'total': loss})
  raw, mean = fig.axes[0].lines
  np.testing.assert_array_equal(raw.get_ydata(), loss)
  np.testing.assert_allclose(mean.get_ydata()[100], loss[98:102].mean())
  assert fig.axes[0].get_yscale() == 'log'
  assert len(fig.legends[0].texts) == 1


@pytest.mark.parametrize(
  ('steps', 'losses'),
  [
    ([], {'a': []}),
    ([0], {}),
    ([0, 1], {'a': [1.0]}),
    ([0], {'a': [np.nan]}),
    ([[0]], {'a': [[1.0]]}),
  ],
)
def test_bad_training_curves(steps, losses):
  with pytest.raises(ValueError):
    plotting.training_curves(steps, losses)


# ------------------------------------------------------------ colab_utils ----
@pytest.fixture
def display(monkeypatch):
  """IPython.display as a recorder: what was shown is told by its fields."""
  module = types.ModuleType('IPython.display')

  def record(data, **options):
    return types.SimpleNamespace(data=data, **options)

  module.Audio = module.Image = record
  package = types.ModuleType('IPython')
  package.display = module
  monkeypatch.setitem(sys.modules, 'IPython', package)
  monkeypatch.setitem(sys.modules, 'IPython.display', module)
  return module


@pytest.mark.parametrize(
  ('shape', 'item', 'expected'),
  [
    ((50,), 0, lambda audio: audio[np.newaxis]),
    ((3, 50), 2, lambda audio: audio[2:]),
    ((3, 50, 2), 1, lambda audio: audio[1].T),
    ((1, 50, 2), -1, lambda audio: audio[0].T),
  ],
)
def test_play_takes_any_audio(display, shape, item, expected):
  audio = np.random.default_rng(0).uniform(-0.1, 0.1, shape)
  player = colab_utils.play(audio, 16000.0, item=item)
  np.testing.assert_array_equal(player.data, expected(audio))
  assert (player.rate, player.normalize) == (16000, False)


def test_play_clips(display):
  player = colab_utils.play(np.array([0.5, -3.0, 2.0]), 16000)
  np.testing.assert_array_equal(player.data, [[0.5, -1.0, 1.0]])


@pytest.mark.parametrize(
  ('shape', 'item', 'message'),
  [
    ((50, 2), 0, r'audio\[None\]'),
    ((2, 50), 2, 'item=2 is not in a batch of 2'),
    ((2, 2, 50), 0, 'Transpose'),
    ((0,), 0, 'not empty'),
  ],
)
def test_play_refuses(display, shape, item, message):
  with pytest.raises(ValueError, match=message):
    colab_utils.play(np.zeros(shape), 16000, item=item)


@pytest.mark.slow
def test_specplot_and_control_plot_show_the_figures(display):
  one = _sine(440)
  image = colab_utils.specplot(one[np.newaxis], SAMPLE_RATE)
  assert image.data == plotting.figure_to_png(
    plotting.spectrograms({'audio': one}, SAMPLE_RATE)
  )
  both = {'before': one, 'after': np.stack([one, one])[..., np.newaxis]}
  assert _decode_png(colab_utils.specplot(both, SAMPLE_RATE).data).size
  arguments = _controls()
  expected = plotting.figure_to_png(plotting.control_trajectories(**arguments))
  controls = arguments.pop('controls')
  for batch in (controls, controls[np.newaxis]):
    assert colab_utils.control_plot(batch, **arguments).data == expected
  with pytest.raises(ValueError, match='item=1'):
    colab_utils.control_plot(controls[np.newaxis], item=1, **arguments)


def test_without_ipython(monkeypatch):
  monkeypatch.setitem(sys.modules, 'IPython', None)
  with pytest.raises(ImportError, match='pip install ipython'):
    colab_utils.play(np.zeros(10), 16000)
