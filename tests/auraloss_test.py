"""Tests of the losses that auraloss has too, against it.

The values were written by auraloss 0.4.0 (torch 2.13.0) for `example`; where
auraloss is installed, the tests compare with what it says now as well.
"""

# First: importing dafx sets up what DDSP needs.
from dafx import losses

# isort: split
import gin
import numpy as np
import pytest
import tensorflow as tf

try:
  import auraloss
  import torch
except ImportError:
  auraloss = None

SAMPLE_RATE = 16000
SMALL = ((512, 100, 400), (128, 32, 128))


def example(n_samples=6000):
  """Returns two noisy chirps and their saturated copies with a gap."""
  rng = np.random.RandomState(7)
  time = np.arange(n_samples) / SAMPLE_RATE  # s.
  f0_hz = np.array([200, 500])
  target = 0.5 * np.sin(2 * np.pi * f0_hz * (time * (1 + time))[:, np.newaxis])
  target = target + 0.05 * rng.randn(n_samples, 2)
  audio = 0.7 * np.tanh(2 * target) + 0.01 * rng.randn(n_samples, 2)
  audio[4000:5500] = 0
  return target.astype(np.float32)[None], audio.astype(np.float32)[None]


def theirs(module, name, **kwargs):
  """Returns auraloss's loss as ours are called."""
  loss = getattr(getattr(auraloss, module), name)(**kwargs)

  def call(target, audio):
    both = [torch.tensor(np.moveaxis(x, -1, 1)) for x in (audio, target)]
    return float(loss(*both))

  return call


def their_stft(**kwargs):
  sizes = dict(zip(('fft_sizes', 'hop_sizes', 'win_lengths'), zip(*SMALL)))
  return theirs('freq', 'MultiResolutionSTFTLoss', **sizes, **kwargs)


# Name: (ours, value of auraloss, auraloss's own).
CASES = {
  'esr': (
    lambda: losses.EsrLoss(),
    0.267516,
    lambda: theirs('time', 'ESRLoss'),
  ),
  'log_cosh': (
    lambda: losses.LogCoshLoss(),
    0.016515,
    lambda: theirs('time', 'LogCoshLoss'),
  ),
  'si_sdr': (
    lambda: losses.SiSdrLoss(),
    -4.677747,
    lambda: theirs('time', 'SISDRLoss', zero_mean=False),
  ),
  'mr_stft': (
    lambda: losses.MultiResolutionStftLoss(),
    2.109684,
    lambda: theirs('freq', 'MultiResolutionSTFTLoss'),
  ),
  'mr_stft_linear': (
    lambda: losses.MultiResolutionStftLoss(SMALL, 0.5, 0.0, 2.0),
    0.984278,
    lambda: their_stft(w_sc=0.5, w_log_mag=0.0, w_lin_mag=2.0),
  ),
  'mr_stft_mel': (
    lambda: losses.MultiResolutionStftLoss(
      SMALL, n_mels=20, sample_rate=SAMPLE_RATE
    ),
    2.542662,
    lambda: their_stft(scale='mel', n_bins=20, sample_rate=SAMPLE_RATE),
  ),
  'sum_and_difference': (
    lambda: losses.SumAndDifferenceLoss(losses.MultiResolutionStftLoss(SMALL)),
    2.657036,
    lambda: theirs(
      'freq',
      'SumAndDifferenceSTFTLoss',
      **dict(zip(('fft_sizes', 'hop_sizes', 'win_lengths'), zip(*SMALL))),
    ),
  ),
}


@pytest.mark.parametrize('ours, stored, make_theirs', CASES.values(), ids=CASES)
def test_loss_equals_auraloss(ours, stored, make_theirs):
  target, audio = example()
  value = float(ours()(target, audio))
  np.testing.assert_allclose(value, stored, rtol=2e-5)
  if auraloss is not None:
    now = make_theirs()(target, audio)
    np.testing.assert_allclose(value, now, rtol=2e-5)


@pytest.mark.parametrize(
  'kind, theirs_esr', [('highpass', 0.333233), ('differentiator', 0.348520)]
)
def test_pre_emphasis_equals_auraloss_but_at_the_edges(kind, theirs_esr):
  loss = losses.PreEmphasisLoss(losses.EsrLoss(), kind)
  # Auraloss centres its filter: one sample at each end differs.
  np.testing.assert_allclose(float(loss(*example())), theirs_esr, rtol=2e-3)


def test_a_weighting_equals_auraloss():
  taps = losses.a_weighting_taps(SAMPLE_RATE)
  theirs_middle = [-0.1858, 0.1648, 0.7816, 0.1648, -0.1858]
  np.testing.assert_allclose(taps[48:53], theirs_middle, atol=5e-5)
  # IEC 61672-1, table 3, in dB; the fit is good to about 1 dB from 500 Hz on.
  f_hz = np.array([500.0, 1000.0, 2000.0, 4000.0])
  phase = np.exp(-2j * np.pi * np.outer(f_hz, np.arange(101)) / SAMPLE_RATE)
  level_db = 20 * np.log10(np.abs(phase @ taps))
  np.testing.assert_allclose(level_db, [-3.2, 0.0, 1.2, 1.0], atol=1.2)


def test_a_weighted_stft_is_near_auraloss():
  loss = losses.PreEmphasisLoss(
    losses.MultiResolutionStftLoss(SMALL),
    'a_weighting',
    sample_rate=SAMPLE_RATE,
  )
  # Theirs filters with zeros on both sides, ours is 50 samples late.
  np.testing.assert_allclose(float(loss(*example())), 2.470594, rtol=2e-2)


def test_filter_fir_equals_numpy():
  audio = np.random.RandomState(0).randn(2, 50, 3).astype(np.float32)
  taps = [1.0, -0.5, 0.25]
  filtered = losses.filter_fir(tf.constant(audio), taps).numpy()
  for item in range(2):
    for channel in range(3):
      expected = np.convolve(audio[item, :, channel], taps)[:50]
      np.testing.assert_allclose(
        filtered[item, :, channel], expected, atol=1e-6
      )


def test_dc_of_an_offset_is_known():
  target, _ = example()
  power = np.mean(target.astype(np.float64) ** 2, axis=1)
  expected = np.mean(0.01 / power)
  value = float(losses.DcLoss()(target, target + np.float32(0.1)))
  np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_log_cosh_of_large_errors_is_linear():
  target = np.zeros((1, 10), np.float32)
  value = float(losses.LogCoshLoss()(target, target + 1000.0))
  np.testing.assert_allclose(value, 1000.0 - np.log(2.0), rtol=1e-6)


def test_esr_of_pauses_counts_by_their_energy():
  target, error = np.zeros([2, 100]), np.full([2, 100], 1e-3)
  target[1] = 1.0  # the first item is a pause
  found = losses.EsrLoss(eps=0.01)(target, target + error)
  np.testing.assert_allclose(
    found, (1e-4 / 0.01 + 1e-4 / 100.01) / 2, rtol=1e-5
  )
  with pytest.raises(ValueError, match='eps=0 must be > 0'):
    losses.EsrLoss(eps=0)


def test_esr_tells_polarity_where_mr_stft_does_not():
  target, _ = example()
  np.testing.assert_allclose(losses.EsrLoss()(target, -target), 4.0, rtol=1e-5)
  assert float(losses.MultiResolutionStftLoss()(target, -target)) < 1e-6


@pytest.mark.parametrize(
  'loss_fn',
  [
    losses.esr_loss,
    losses.dc_loss,
    losses.log_cosh_loss,
    losses.si_sdr_loss,
    lambda t, a: losses.stft_loss(t, a, 64, 16, 48, 1.0, 1.0, 0.5),
  ],
)
def test_gradients_equal_finite_differences(loss_fn):
  rng = np.random.RandomState(1)
  target, audio, direction = rng.randn(3, 2, 80, 2)
  variable = tf.constant(audio)
  with tf.GradientTape() as tape:
    tape.watch(variable)
    loss = loss_fn(tf.constant(target), variable)
  slope = np.sum(tape.gradient(loss, variable).numpy() * direction)
  step = 1e-6
  sides = [loss_fn(target, audio + s * direction) for s in (step, -step)]
  np.testing.assert_allclose(
    slope, (sides[0] - sides[1]) / (2 * step), rtol=1e-5
  )


# ---------------------- Random resolutions ------------------------------------
def test_random_resolutions_depend_on_seed_and_count():
  target, audio = example()
  a, b, other = (
    losses.RandomResolutionStftLoss(max_fft=1024, seed=s) for s in (1, 1, 2)
  )
  first = [float(a(target, audio)) for _ in range(4)]
  assert len(set(first)) == 4
  assert [float(b(target, audio)) for _ in range(4)] == first
  assert float(other(target, audio)) != first[0]
  # What a checkpoint holds is where it goes on.
  resumed = losses.RandomResolutionStftLoss(max_fft=1024, seed=1)
  resumed.n_calls.assign(2)
  assert [float(resumed(target, audio)) for _ in range(2)] == first[2:]


def test_random_resolutions_span_their_range():
  loss = losses.RandomResolutionStftLoss(min_fft=64, max_fft=1024)
  draws = np.array(
    [loss.draw_resolution(tf.constant(i, tf.int64), 0) for i in range(300)]
  )
  n_fft, hop = draws.T
  assert n_fft.min() >= 64 and n_fft.max() <= 1024
  assert n_fft.min() < 70 and n_fft.max() > 950
  # Half of them below the middle octave.
  assert 120 < np.sum(n_fft < 256) < 180
  assert np.all(hop >= 0.1 * n_fft - 1) and np.all(hop <= 0.5 * n_fft + 1)


def test_random_resolutions_run_in_a_graph():
  target, audio = example(2000)
  loss = losses.RandomResolutionStftLoss(max_fft=512)
  eager = losses.RandomResolutionStftLoss(max_fft=512)
  in_graph = tf.function(loss, autograph=False)
  for _ in range(3):
    np.testing.assert_allclose(
      in_graph(target, audio), eager(target, audio), rtol=1e-5
    )


# ---------------------- Bad input ---------------------------------------------
@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: losses.MultiResolutionStftLoss([(64, 16, 128)]), 'win_length'),
    (lambda: losses.MultiResolutionStftLoss(n_mels=20), 'sample_rate'),
    (lambda: losses.RandomResolutionStftLoss(min_fft=8), 'min_fft=8'),
    (lambda: losses.PreEmphasisLoss(losses.EsrLoss(), 'lowpass'), 'highpass'),
    (
      lambda: losses.PreEmphasisLoss(losses.EsrLoss(), coefficient=2.0),
      'coefficient=2.0',
    ),
    (lambda: losses.PreEmphasisLoss([]), 'at least one'),
    (lambda: losses.LogCoshLoss(0.0)(*example()), 'sharpness=0.0'),
    (lambda: losses.a_weighting_taps(16000, 100), 'odd'),
    (lambda: losses.MultiResolutionStftLoss()(*example(900)), 'more than 1024'),
    (
      lambda: losses.SumAndDifferenceLoss(losses.EsrLoss())(
        np.zeros((1, 9, 3)), np.zeros((1, 9, 3))
      ),
      'stereo',
    ),
  ],
)
def test_bad_arguments_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_gin_finds_every_loss():
  names = (
    'DcLoss EsrLoss LogCoshLoss MultiResolutionStftLoss PreEmphasisLoss '
    'RandomResolutionStftLoss SiSdrLoss SumAndDifferenceLoss'
  )
  for name in names.split():
    with gin.unlock_config():
      gin.parse_config(f'x/losses.{name}.weight = 0.5')
