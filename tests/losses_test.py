"""Tests of dafx.losses against NumPy in float64, DDSP and closed forms."""

# First: importing dafx sets up what DDSP needs.
from dafx import losses, metrics

# isort: split
import ddsp
import gin
import numpy as np
import pytest
import tensorflow as tf


def noise(*shape, seed=0):
  return np.random.RandomState(seed).randn(*shape).astype(np.float32)


def delayed(x, lag):
  """Shifts along axis 0 with zeros moving in; positive lag: late."""
  y = np.zeros_like(x)
  if lag >= 0:
    y[lag:] = x[: len(x) - lag]
  else:
    y[:lag] = x[-lag:]
  return y


def gradient(loss_fn, audio):
  audio = tf.constant(audio)
  with tf.GradientTape() as tape:
    tape.watch(audio)
    loss = loss_fn(audio)
  return tape.gradient(loss, audio).numpy()


def spectral_loss_np(
  target,
  audio,
  fft_sizes,
  loss_type,
  mag_weight,
  logmag_weight,
  mag_floor,
  overlap=0.75,
):
  """The spectral loss of mono audio, written out in float64."""
  loss = 0.0
  for size in fft_sizes:
    hop = round(size * (1 - overlap))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    n_frames = -(-target.shape[1] // hop)

    def magnitude(x, size=size, hop=hop, window=window, n_frames=n_frames):
      x = np.pad(x.astype(np.float64), [[0, 0], [0, size]])
      frames = [x[:, i * hop : i * hop + size] for i in range(n_frames)]
      return np.abs(np.fft.rfft(np.stack(frames, 1) * window))

    a, b = magnitude(target), magnitude(audio)
    for weight, x, y in (
      (mag_weight, a, b),
      (
        logmag_weight,
        np.log(np.maximum(a, mag_floor)),
        np.log(np.maximum(b, mag_floor)),
      ),
    ):
      difference = np.abs(x - y) if loss_type == 'L1' else (x - y) ** 2
      loss += weight * np.mean(difference)
  return loss


# (n_fft, hop, window) in samples.
SMALL = ((256, 50, 200), (64, 16, 64))

ALL_LOSSES = {
  'time': lambda: losses.TimeDomainLoss(),
  'time_l2': lambda: losses.TimeDomainLoss('L2'),
  'spectral': lambda: losses.MultiScaleSpectralLoss((256, 64)),
  'spectral_log': lambda: losses.MultiScaleSpectralLoss(
    (256, 64), logmag_weight=1.0
  ),
  'spectral_matched': lambda: losses.MultiScaleSpectralLoss(
    (256, 64), logmag_weight=1.0, match_level=True
  ),
  'loudness': lambda: losses.LoudnessLoss(16000),
  'average_spectrum': lambda: losses.AverageSpectrumLoss(16000, 256),
  'dynamics': lambda: losses.DynamicsLoss(2000),
  'esr': lambda: losses.EsrLoss(),
  'dc': lambda: losses.DcLoss(),
  'log_cosh': lambda: losses.LogCoshLoss(sharpness=3.0),
  'mr_stft': lambda: losses.MultiResolutionStftLoss(SMALL, mag_weight=0.5),
  'mel_stft': lambda: losses.MultiResolutionStftLoss(
    SMALL, n_mels=10, sample_rate=16000
  ),
  'pre_emphasis': lambda: losses.PreEmphasisLoss(losses.EsrLoss()),
  'a_weighting': lambda: losses.PreEmphasisLoss(
    losses.TimeDomainLoss(), 'a_weighting', sample_rate=16000
  ),
  'aligned': lambda: losses.AlignedLoss(
    [losses.TimeDomainLoss(), losses.MultiScaleSpectralLoss((256, 64))],
    max_lag=20,
    ignore_polarity=True,
  ),
}


@pytest.mark.parametrize('make_loss', ALL_LOSSES.values(), ids=ALL_LOSSES)
@pytest.mark.parametrize('channels', [(), (2,)], ids=['mono', 'stereo'])
class TestEveryLoss:
  def test_equal_audio_costs_nothing(self, make_loss, channels):
    audio = noise(2, 400, *channels)
    loss = make_loss()
    assert loss(audio, audio).shape == ()
    assert float(loss(audio, audio)) == 0.0

  def test_is_the_mean_of_its_items(self, make_loss, channels):
    target, audio = noise(3, 400, *channels), noise(3, 400, *channels, seed=1)
    audio[0] = delayed(target[0], 7) + 0.1 * audio[0]
    audio[1] = -delayed(target[1], -13) + 0.1 * audio[1]
    loss = make_loss()
    items = [float(loss(target[i : i + 1], audio[i : i + 1])) for i in range(3)]
    order = [2, 0, 1]
    np.testing.assert_allclose(loss(target, audio), np.mean(items), rtol=1e-5)
    np.testing.assert_allclose(
      loss(target[order], audio[order]), np.mean(items), rtol=1e-5
    )

  def test_mono_is_the_mean_of_equal_channels(self, make_loss, channels):
    target, audio = noise(2, 400), noise(2, 400, seed=1)
    loss = make_loss()
    n = (channels or (1,))[0]
    many = [np.repeat(x[:, :, None], n, axis=2) for x in (target, audio)]
    np.testing.assert_allclose(
      loss(*many), loss(target, audio), rtol=1e-5, atol=1e-6
    )

  def test_gradients_are_finite_in_silence(self, make_loss, channels):
    sound = noise(2, 400, *channels)
    for target in (sound, 0 * sound):
      for level in (0.0, 1e-38, 1e-20):
        audio = sound * np.float32(level)
        grad = gradient(lambda a, t=target: make_loss()(t, a), audio)
        assert np.all(np.isfinite(grad))
        # A log of magnitude is steeper the quieter it is, down to its floor.
        assert np.max(np.abs(grad)) < 1e6

  def test_runs_in_a_graph_of_unknown_length(self, make_loss, channels):
    target, audio = noise(2, 400, *channels), noise(2, 400, *channels, seed=1)
    loss = make_loss()
    spec = tf.TensorSpec([None, None, *channels], tf.float32)
    in_graph = tf.function(loss, input_signature=[spec, spec], autograph=False)
    np.testing.assert_allclose(
      in_graph(target, audio), loss(target, audio), rtol=1e-5
    )

  def test_weight_scales(self, make_loss, channels):
    target, audio = noise(2, 400, *channels), noise(2, 400, *channels, seed=1)
    loss = make_loss()
    before = float(loss(target, audio))
    loss.weight = 2.5
    np.testing.assert_allclose(loss(target, audio), 2.5 * before, rtol=1e-6)


@pytest.mark.parametrize('make_loss', ALL_LOSSES.values(), ids=ALL_LOSSES)
@pytest.mark.parametrize(
  'target,audio,message',
  [
    (noise(2, 100), noise(2, 99), r'\(2, 100\).*\(2, 99\)'),
    (noise(2, 100), noise(2, 100, 1), r'\(2, 100\).*\(2, 100, 1\)'),
    (noise(100), noise(100), r'batch, n_samples'),
    (noise(0, 100), noise(0, 100), 'empty'),
    (np.ones([1, 100], np.int16), np.ones([1, 100], np.int16), 'int16'),
  ],
)
def test_bad_audio_is_named(make_loss, target, audio, message):
  with pytest.raises(ValueError, match=message):
    make_loss()(target, audio)


# ---------------------- Time domain -------------------------------------------
@pytest.mark.parametrize('loss_type,expected', [('L1', 0.5), ('L2', 0.25)])
def test_time_domain_loss_of_an_offset(loss_type, expected):
  target = noise(2, 50, 2).astype(np.float64)
  loss = losses.time_domain_loss(target, target + 0.5, loss_type)
  np.testing.assert_allclose(loss, expected, rtol=1e-12)


@pytest.mark.parametrize('loss_type', ['L1', 'L2'])
def test_time_domain_gradient(loss_type):
  target = noise(2, 20).astype(np.float64)
  audio = noise(2, 20, seed=1).astype(np.float64)
  theoretical, numerical = tf.test.compute_gradient(
    lambda a: losses.time_domain_loss(target, a, loss_type), [audio], delta=1e-5
  )
  np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-9)


@pytest.mark.parametrize(
  'make',
  [
    lambda: losses.TimeDomainLoss('COSINE'),
    lambda: losses.MultiScaleSpectralLoss(loss_type='l1'),
  ],
)
def test_bad_loss_type(make):
  with pytest.raises(ValueError, match="must be 'L1' or 'L2'"):
    make()


# ---------------------- Spectral ----------------------------------------------
@pytest.mark.parametrize(
  'weights',
  [
    {},
    {'mag_weight': 0.0, 'logmag_weight': 1.0},
    {'delta_time_weight': 0.3, 'delta_freq_weight': 0.7},
    {'cumsum_freq_weight': 0.2, 'logmag_weight': 2.0},
  ],
)
@pytest.mark.parametrize('loss_type', ['L1', 'L2'])
def test_spectral_loss_equals_ddsp_on_mono(weights, loss_type):
  target, audio = noise(2, 2000), 0.3 * noise(2, 2000, seed=1)
  # Zeros: DDSP's logarithm takes them for 1e-5, our default floor.
  audio[1] = 0.0
  ours = losses.MultiScaleSpectralLoss(loss_type=loss_type, **weights)
  theirs = ddsp.losses.SpectralLoss(loss_type=loss_type, **weights)
  np.testing.assert_allclose(
    ours(target, audio), theirs(target, audio), rtol=1e-6
  )


@pytest.mark.parametrize(
  'loss_type, overlap', [('L1', 0.75), ('L2', 0.75), ('L2', 0.0)]
)
def test_spectral_loss_and_gradient_against_float64(loss_type, overlap):
  kwargs = {
    'fft_sizes': (64, 32),
    'loss_type': loss_type,
    'mag_weight': 1.0,
    'logmag_weight': 0.5,
    'mag_floor': 0.5,
    'overlap': overlap,
  }
  target, audio = noise(2, 200), noise(2, 200, seed=1)
  audio[1, 100:] *= 1e-3  # Frames below the floor.
  np.testing.assert_allclose(
    losses.multi_scale_spectral_loss(target, audio, **kwargs),
    spectral_loss_np(target, audio, **kwargs),
    rtol=1e-5,
  )
  grad = gradient(
    lambda a: losses.multi_scale_spectral_loss(target, a, **kwargs), audio
  )
  for seed in range(5):
    direction = noise(2, 200, seed=10 + seed).astype(np.float64)
    step = 1e-6
    plus, minus = (
      spectral_loss_np(target, audio + s * step * direction, **kwargs)
      for s in (1, -1)
    )
    np.testing.assert_allclose(
      np.sum(grad * direction), (plus - minus) / (2 * step), rtol=1e-3
    )


def test_log_floor_makes_all_near_silence_equal():
  target = noise(1, 1000)
  kwargs = {'mag_weight': 0.0, 'logmag_weight': 1.0}
  silence = losses.multi_scale_spectral_loss(target, 0 * target, **kwargs)
  for level in (1e-38, 1e-20, 1e-9):
    quiet = target * np.float32(level)
    np.testing.assert_allclose(
      losses.multi_scale_spectral_loss(target, quiet, **kwargs), silence
    )


def test_gain_is_its_logarithm_in_every_scale():
  # |log(g m) - log(m)| = |log g| in each of the two scales.
  target = noise(2, 1000, 2)
  loss = losses.multi_scale_spectral_loss(
    target, 0.5 * target, (256, 64), mag_weight=0.0, logmag_weight=1.0
  )
  np.testing.assert_allclose(loss, 2 * np.log(2.0), rtol=1e-5)


def test_delta_time_needs_two_frames():
  audio = noise(1, 400)
  with pytest.raises(ValueError, match='n_samples=400'):
    losses.multi_scale_spectral_loss(audio, audio, delta_time_weight=1.0)


@pytest.mark.parametrize('name, value', [('mag_floor', 0), ('overlap', 1.0)])
def test_values_that_are_not_allowed(name, value):
  audio = noise(1, 400)
  with pytest.raises(ValueError, match=f'{name}={value}'):
    losses.multi_scale_spectral_loss(audio, audio, **{name: value})


# ---------------------- Level, tone and dynamics ------------------------------
RATE = 44100


def music(n_samples=RATE, n_channels=None, seed=0):
  """Returns beats of coloured noise, [2, n_samples(, n_channels)]."""
  beats = np.exp(-6.0 * (np.arange(n_samples) / RATE % 0.25))
  sound = noise(2, n_samples, n_channels or 1, seed=seed)
  sound = 0.1 * np.cumsum(sound, axis=1) * 0.05 + 0.1 * sound
  sound = sound * (0.05 + beats)[:, np.newaxis]
  return sound if n_channels else sound[..., 0]


def changed(target):
  """Returns what a clipper and a filter make of audio, and half of it."""
  clipped = np.clip(target, -0.25, 0.25)
  late = np.concatenate([0.0 * clipped[:, :1], clipped[:, :-1]], axis=1)
  return 0.5 * (clipped - 0.6 * late)


BLIND = {
  'spectral': lambda t, a: losses.multi_scale_spectral_loss(
    t, a, logmag_weight=1.0, match_level=True
  ),
  'average_spectrum': lambda t, a: losses.average_spectrum_loss(t, a, RATE),
  'dynamics': lambda t, a: losses.dynamics_loss(t, a, RATE),
}


@pytest.mark.parametrize('loss', BLIND.values(), ids=BLIND)
def test_level_costs_nothing_and_has_no_gradient(loss):
  target = music().astype(np.float32)
  audio = changed(target).astype(np.float32)
  value = float(loss(target, audio))
  assert value > 0.1
  for gain in (0.01, 3.0):
    np.testing.assert_allclose(loss(target, gain * audio), value, rtol=1e-3)
  grad = gradient(lambda a: loss(target, a), audio).astype(np.float64)
  # Along the audio itself, far less than in the directions that matter.
  along = abs(np.vdot(grad, audio)) / np.linalg.norm(audio)
  assert along < 1e-3 * np.linalg.norm(grad)


@pytest.mark.parametrize('n_channels', [None, 2])
def test_spectral_loss_at_equal_level_is_the_metric(n_channels):
  target = music(n_channels=n_channels)
  audio = changed(target)
  expected = [
    metrics.multi_scale_spectral(t, metrics.match_level(t, a))
    for t, a in zip(target, audio)
  ]
  loss = losses.MultiScaleSpectralLoss(
    logmag_weight=1.0, match_level=True, weight=1 / 6
  )
  found = loss(target.astype(np.float32), audio.astype(np.float32))
  np.testing.assert_allclose(found, np.mean(expected), rtol=0.02)


def test_gradient_of_the_spectral_loss_at_equal_level_against_float64():
  kwargs = {'fft_sizes': (64, 32), 'loss_type': 'L2', 'mag_floor': 0.5}
  weights = {'mag_weight': 1.0, 'logmag_weight': 0.5}
  target, audio = noise(2, 200), 0.3 * noise(2, 200, seed=1)

  def expected(audio):
    matched = [metrics.match_level(t, a) for t, a in zip(target, audio)]
    return spectral_loss_np(target, np.stack(matched), **kwargs, **weights)

  def loss(a):
    return losses.multi_scale_spectral_loss(
      target, a, match_level=True, **kwargs, **weights
    )

  np.testing.assert_allclose(loss(audio), expected(audio), rtol=1e-5)
  grad = gradient(loss, audio)
  for seed in range(3):
    direction = noise(2, 200, seed=10 + seed).astype(np.float64)
    plus, minus = (expected(audio + s * 1e-6 * direction) for s in (1, -1))
    np.testing.assert_allclose(
      np.sum(grad * direction), (plus - minus) / 2e-6, rtol=1e-3
    )


@pytest.mark.parametrize('sample_rate', [22050, 48000])
@pytest.mark.parametrize('n_channels', [1, 2, 5])
def test_loudness_loss_of_steady_sound_is_the_metric(sample_rate, n_channels):
  # Tones where K-weighting rises, is flat, and is at its top.
  time = np.arange(2 * sample_rate) / sample_rate
  tone = np.stack([np.sin(2 * np.pi * f * time) for f in (45.0, 1000.0)])
  target = np.repeat(0.1 * tone[..., np.newaxis], n_channels, axis=2)
  audio = np.stack(2 * [0.2 * np.sin(2 * np.pi * 5000.0 * time)])
  audio = np.repeat(audio[..., np.newaxis], n_channels, axis=2)
  audio[..., -1] *= 0.3
  expected = [
    metrics.loudness_difference(t, a, sample_rate)
    for t, a in zip(target, audio)
  ]
  found = losses.loudness_loss(
    target.astype(np.float32), audio.astype(np.float32), sample_rate
  )
  np.testing.assert_allclose(found, np.mean(expected), atol=0.02)


@pytest.mark.parametrize('sample_rate', [22050, 44100])
@pytest.mark.parametrize('n_channels', [None, 2])
def test_average_spectrum_loss_is_the_metric(sample_rate, n_channels):
  target = music(30000, n_channels)
  audio = changed(target)
  expected = [
    metrics.average_spectrum_error_db(t, a, sample_rate)
    for t, a in zip(target, audio)
  ]
  found = losses.average_spectrum_loss(target, audio, sample_rate)
  np.testing.assert_allclose(found, np.mean(expected), rtol=1e-9)


def test_soft_crest_error_tends_to_the_metric():
  target = music(n_channels=2)
  audio = changed(target)
  expected = np.mean(
    [metrics.crest_error_db(t, a) for t, a in zip(target, audio)]
  )
  errors = [
    abs(
      float(
        losses.dynamics_loss(
          target, audio, RATE, short_term_weight=0.0, peak_norm=norm
        )
      )
      - expected
    )
    for norm in (32, 2048)
  ]
  assert errors[1] < 0.05 < errors[0] < 2.5


def test_short_over_long_level_of_beats():
  # Power that alternates between 1 and 9 for 1 s each, against a steady one:
  # 2 s have the mean of 5, and so has one in 40 short times: it lies astride.
  rate, n_samples = 2000, 400000
  power = np.where(np.arange(n_samples) // rate % 2, 9.0, 1.0)
  target = np.sqrt(power)[np.newaxis]
  found = losses.dynamics_loss(
    target, np.ones([1, n_samples]), rate, crest_weight=0.0
  )
  expected = np.mean([10 * np.log10(5.0), 10 * np.log10(9.0 / 5.0)])
  np.testing.assert_allclose(found, 39 / 40 * expected, rtol=0.01)


@pytest.mark.parametrize(
  'loss',
  [
    lambda t, a: losses.loudness_loss(t, a, 8000),
    lambda t, a: losses.average_spectrum_loss(t, a, 8000, 512),
    lambda t, a: losses.dynamics_loss(t, a, 2000, peak_norm=8.0),
  ],
  ids=['loudness', 'average_spectrum', 'dynamics'],
)
def test_gradients_of_level_losses_against_differences(loss):
  target = noise(2, 1100, 2).astype(np.float64)
  audio = tf.constant(0.3 * np.tanh(noise(2, 1100, 2, seed=1)), tf.float64)
  grad = gradient(lambda a: loss(target, a), audio)
  for seed in range(3):
    direction = noise(2, 1100, 2, seed=10 + seed).astype(np.float64)
    plus, minus = (
      float(loss(target, audio + s * 1e-6 * direction)) for s in (1, -1)
    )
    np.testing.assert_allclose(
      np.sum(grad * direction), (plus - minus) / 2e-6, rtol=1e-4
    )


def test_silent_targets_count_nothing_for_tone_and_dynamics():
  audio = music().astype(np.float32)
  target = audio * np.float32([[1.0], [0.0]])
  assert float(losses.average_spectrum_loss(target, audio, RATE)) == 0.0
  assert float(losses.dynamics_loss(target, audio, RATE)) == 0.0


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: losses.LoudnessLoss(0), 'sample_rate=0'),
    (lambda: losses.AverageSpectrumLoss(50, 16), '16 samples'),
    (lambda: losses.DynamicsLoss(8000, peak_norm=1), 'peak_norm=1'),
    (
      lambda: losses.average_spectrum_loss(noise(1, 99), noise(1, 99), 8000),
      'n_samples=99 must be at least 8192',
    ),
    (
      lambda: losses.loudness_loss(noise(1, 9, 6), noise(1, 9, 6), 8000),
      '6 channels',
    ),
  ],
)
def test_level_losses_refuse(make, message):
  with pytest.raises(ValueError, match=message):
    make()


# ---------------------- Alignment ---------------------------------------------
LAGS = [0, 1, -1, 17, -30, 30]


@pytest.mark.parametrize('channels', [(), (2,)], ids=['mono', 'stereo'])
@pytest.mark.parametrize('gain', [1.0, 0.001, -0.5])
def test_find_lag_finds_known_lags(channels, gain):
  target = noise(len(LAGS), 300, *channels)
  audio = np.stack([gain * delayed(x, lag) for x, lag in zip(target, LAGS)])
  found = losses.find_lag(target, audio, 30, ignore_polarity=gain < 0)
  assert found.dtype == tf.int32
  np.testing.assert_array_equal(found, LAGS)


@pytest.mark.parametrize('channels', [(), (2,)], ids=['mono', 'stereo'])
def test_correlation_against_a_loop(channels):
  target, audio = noise(2, 40, *channels), noise(2, 40, *channels, seed=1)
  target[0, 20:] = 0.0
  audio[0, :19] = 0.0
  scores = losses.correlation_by_lag(target, audio, 25).numpy()
  for item in range(2):
    t, a = target[item].astype(np.float64), audio[item].astype(np.float64)
    total = np.sqrt(np.sum(t**2) * np.sum(a**2))
    for lag in range(-25, 26):
      t_part = t[max(-lag, 0) : 40 - max(lag, 0)]
      a_part = a[max(lag, 0) : 40 - max(-lag, 0)]
      norm = np.sqrt(np.sum(t_part**2) * np.sum(a_part**2))
      expected = np.sum(t_part * a_part) / max(norm, 1e-3 * total)
      np.testing.assert_allclose(scores[item, lag + 25], expected, atol=1e-12)


def test_ties_give_the_shortest_lag():
  time = np.arange(400)
  sine = np.sin(2 * np.pi * time / 16).astype(np.float32)
  late = np.sin(2 * np.pi * (time - 5) / 16).astype(np.float32)
  target = np.stack([sine, sine, 0 * sine, sine])
  audio = np.stack([sine, late, 0 * sine, 0 * sine])
  np.testing.assert_array_equal(
    losses.find_lag(target, audio, 100), [0, 5, 0, 0]
  )


def test_lag_of_an_item_ignores_the_others():
  target = noise(3, 200)
  audio = np.stack([delayed(target[0], 9), 1e4 * target[1], 0 * target[2]])
  for max_lag in (9, 50):
    assert losses.find_lag(target[:1], audio[:1], max_lag).numpy()[0] == 9
    np.testing.assert_array_equal(
      losses.find_lag(target, audio, max_lag), [9, 0, 0]
    )


@pytest.mark.parametrize('channels', [(), (2,)], ids=['mono', 'stereo'])
def test_align_shares_the_overlap(channels):
  target, audio = noise(3, 10, *channels), noise(3, 10, *channels, seed=1)
  new_target, new_audio = losses.align(target, audio, [3, -2, 0])
  for new, starts, old in (
    (new_target, [0, 2, 0], target),
    (new_audio, [3, 0, 0], audio),
  ):
    for item, (start, n_shared) in enumerate(zip(starts, [7, 8, 10])):
      expected = np.zeros_like(old[item])
      expected[:n_shared] = old[item, start : start + n_shared]
      np.testing.assert_array_equal(new[item], expected)


def test_align_keeps_nan_out_of_the_padding():
  target, audio = noise(1, 10), noise(1, 10, seed=1)
  target[0, -1] = np.nan  # Has no counterpart at this lag.
  new_target, new_audio = losses.align(target, audio, [1])
  assert np.all(np.isfinite(new_target)) and np.all(np.isfinite(new_audio))


@pytest.mark.parametrize('sign', [1.0, -1.0])
def test_aligned_loss_of_a_delay_is_zero(sign):
  target = noise(len(LAGS), 300, 2)
  audio = np.stack([sign * delayed(x, lag) for x, lag in zip(target, LAGS)])
  loss = losses.AlignedLoss(
    losses.TimeDomainLoss(), max_lag=30, ignore_polarity=True
  )
  assert float(loss(target, audio)) == 0.0


def test_polarity_counts_unless_ignored():
  target = noise(2, 200)
  loss = losses.AlignedLoss(losses.TimeDomainLoss(), max_lag=10)
  assert float(loss(target, -target)) > 0.5


def test_aligned_loss_is_blind_to_how_far_the_delay_is():
  # An offset of 0.1 costs 0.1, however many samples the lag leaves.
  target = noise(len(LAGS), 300)
  audio = np.stack([delayed(x, lag) for x, lag in zip(target, LAGS)])
  loss = losses.AlignedLoss(losses.TimeDomainLoss(), max_lag=30)
  for item in range(len(LAGS)):
    np.testing.assert_allclose(
      loss(target[item : item + 1], audio[item : item + 1] + 0.1),
      0.1,
      rtol=1e-5,
    )


def test_gradient_through_alignment_is_that_of_the_aligned_samples():
  n_samples, max_lag, lag = 40, 5, 3
  target = noise(1, n_samples).astype(np.float64)
  audio = -delayed(target[0], lag)[np.newaxis]
  audio += 0.1 * noise(1, n_samples, seed=1)

  def loss_fn(a):
    pair = losses.aligned_overlap(target, a, max_lag, ignore_polarity=True)
    return losses.time_domain_loss(*pair, 'L2')

  theoretical, numerical = tf.test.compute_gradient(
    loss_fn, [tf.constant(audio)], delta=1e-6
  )
  np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-8)
  n_shared = n_samples - max_lag
  expected = np.zeros(n_samples)
  shared = audio[0, lag : lag + n_shared]
  expected[lag : lag + n_shared] = 2 * (shared + target[0, :n_shared])
  np.testing.assert_allclose(theoretical[0][0], expected / n_shared, rtol=1e-9)


@pytest.mark.parametrize('max_lag', [-1, 2.5, 100])
def test_bad_max_lag(max_lag):
  audio = noise(1, 100)
  with pytest.raises(ValueError, match=f'max_lag={max_lag}'):
    losses.find_lag(audio, audio, max_lag)


def test_max_lag_zero_is_no_alignment():
  target, audio = noise(2, 100), noise(2, 100, seed=1)
  aligned = losses.AlignedLoss(losses.TimeDomainLoss(), max_lag=0)
  np.testing.assert_allclose(
    aligned(target, audio), losses.TimeDomainLoss()(target, audio)
  )


@pytest.mark.parametrize(
  'wrapped', [[], [losses.TimeDomainLoss('L1'), losses.TimeDomainLoss('L2')]]
)
def test_aligned_loss_needs_distinct_names(wrapped):
  with pytest.raises(ValueError, match='names'):
    losses.AlignedLoss(wrapped)


# ---------------------- As DDSP's siblings ------------------------------------
def test_losses_work_in_a_ddsp_loss_group_and_in_a_list():
  target, audio = noise(2, 400), noise(2, 400, seed=1)
  members = [
    losses.TimeDomainLoss(),
    losses.MultiScaleSpectralLoss((64,)),
    losses.AlignedLoss([losses.TimeDomainLoss('L2')], max_lag=10),
  ]
  group = ddsp.losses.LossGroup(
    dag=[(loss, ['audio', 'audio_synth']) for loss in members]
  )
  from_group = group({'audio': target, 'audio_synth': audio})
  from_list = {}
  for loss in members:
    from_list.update(loss.get_losses_dict(target, audio))
  assert set(from_group) == {
    'time_domain_loss',
    'spectral_loss',
    'aligned_time_domain_loss',
  }
  for name, value in from_list.items():
    np.testing.assert_allclose(from_group[name], value)


def test_gin_names_do_not_shadow_those_of_ddsp():
  with gin.unlock_config():
    gin.parse_config("""
      losses.SpectralLoss.mag_weight = 0.5
      dafx.losses.AlignedLoss.losses = [@dafx.losses.TimeDomainLoss()]
      dafx.losses.AlignedLoss.max_lag = 7
      dafx.losses.MultiScaleSpectralLoss.logmag_weight = 1.0
    """)
  try:
    aligned = gin.get_configurable('dafx.losses.AlignedLoss')()
    assert aligned.max_lag == 7
    assert isinstance(aligned.wrapped_losses[0], ddsp.losses.Loss)
  finally:
    gin.clear_config()
