"""Tests of dafx.metrics against auraloss, pyloudnorm and closed forms."""

import librosa
import numpy as np
import pyloudnorm
import pytest
import scipy.linalg
import scipy.signal
import scipy.spatial.distance

from dafx import losses, metrics
from dafx.metrics import short_time

SAMPLE_RATE = 16000


def example(n_channels=None, n_samples=6000):
  """Returns a noisy chirp and its saturated copy with a gap."""
  rng = np.random.RandomState(7)
  n = n_channels or 1
  time = np.arange(n_samples) / SAMPLE_RATE  # s.
  f0_hz = 200 + 300 * np.arange(n)
  target = 0.5 * np.sin(2 * np.pi * f0_hz * (time * (1 + time))[:, np.newaxis])
  target = target + 0.05 * rng.randn(n_samples, n)
  audio = 0.7 * np.tanh(2 * target) + 0.01 * rng.randn(n_samples, n)
  audio[4000:5500] = 0
  return (target, audio) if n_channels else (target[:, 0], audio[:, 0])


def noise(*shape, seed=0):
  return 0.1 * np.random.RandomState(seed).randn(*shape)


# ---------------------- Any metric --------------------------------------------
ALL_METRICS = {
  'mae': metrics.mae,
  'mr_stft': metrics.mr_stft,
  'mfcc_frames': lambda t, a: metrics.mfcc_cosine(t, a, SAMPLE_RATE),
  'mfcc_rows': lambda t, a: metrics.mfcc_cosine(t, a, SAMPLE_RATE, 'rows'),
  'loudness': lambda t, a: metrics.loudness_difference(t, a, SAMPLE_RATE),
}


@pytest.mark.parametrize('metric', ALL_METRICS.values(), ids=ALL_METRICS)
class TestEveryMetric:
  @pytest.mark.parametrize('n_channels', [None, 1, 2])
  def test_equal_audio_is_at_distance_zero(self, metric, n_channels):
    target, audio = example(n_channels, 8000)
    value = metric(target, target)
    assert isinstance(value, float)
    np.testing.assert_allclose(value, 0.0, atol=1e-12)
    assert metric(target, audio) > 1e-3

  def test_silence_is_equal_to_silence_only(self, metric):
    target, _ = example(n_samples=8000)
    silence = np.zeros_like(target)
    assert metric(silence, silence) == 0.0
    for pair in ((target, silence), (silence, target)):
      assert 1e-3 < metric(*pair) < np.inf

  def test_arguments_stay_as_they_are(self, metric):
    target, audio = (x.astype(np.float32) for x in example(2, 8000))
    before = target.copy(), audio.copy()
    metric(target, audio)
    np.testing.assert_array_equal(before, (target, audio))

  @pytest.mark.parametrize(
    'target,audio,message',
    [
      (noise(8000), noise(7999), r'\(8000,\) and audio \(7999,\)'),
      (noise(8000), noise(8000, 1), r'\(8000,\) and audio \(8000, 1\)'),
      (noise(0), noise(0), r'\(0,\).*not empty'),
      (noise(1, 8000, 2), noise(1, 8000, 2), r'\(1, 8000, 2\)'),
      (noise(8000), np.full(8000, np.nan), 'audio has 8000 of 8000.*NaN'),
      (np.r_[noise(7999), np.inf], noise(8000), 'target has 1 of 8000'),
      (np.ones(8000, np.int16), np.ones(8000, np.int16), 'int16'),
    ],
  )
  def test_bad_audio_is_named(self, metric, target, audio, message):
    with pytest.raises(ValueError, match=message):
      metric(target, audio)


# ---------------------- MAE ---------------------------------------------------
@pytest.mark.parametrize('shape', [(100,), (100, 2)])
def test_mae_of_an_offset_and_an_inversion(shape):
  target = noise(*shape)
  np.testing.assert_allclose(metrics.mae(target, target - 0.25), 0.25)
  np.testing.assert_allclose(
    metrics.mae(target, -target), 2 * np.mean(np.abs(target))
  )


# ---------------------- MR-STFT -----------------------------------------------
# auraloss 0.4.0, MultiResolutionSTFTLoss() of a batch of one, on torch 2.13.0
# in float64 (its windows too); in float32 it gives the same to 3e-7.
AURALOSS = {
  1: {
    'example': 2.1263834264853814,
    'swapped': 2.1344319399089575,
    'halved': 1.1931471805599454,
    'silence': 9.668652304663608,
  },
  2: {
    'example': 2.109684423687868,
    'swapped': 2.117891513528893,
    'halved': 1.1931471805599454,
    'silence': 9.658344088983645,
  },
}


@pytest.mark.parametrize('n_channels', [1, 2])
def test_mr_stft_equals_auraloss(n_channels):
  target, audio = example(n_channels)
  values = {
    'example': metrics.mr_stft(target, audio),
    'swapped': metrics.mr_stft(audio, target),
    'halved': metrics.mr_stft(target, 0.5 * target),
    'silence': metrics.mr_stft(target, 0 * target),
  }
  # dafx's spectra are in single precision, these values in double.
  for name, expected in AURALOSS[n_channels].items():
    np.testing.assert_allclose(values[name], expected, rtol=1e-6)


@pytest.mark.parametrize('metric', ['mr_stft', 'multi_scale_spectral'])
def test_spectra_in_parts_are_those_of_the_whole(monkeypatch, metric):
  target, audio = noise(5003), noise(5003, seed=1)
  whole = getattr(metrics, metric)(target, audio)
  for n_values in (1, 7 * 1024):
    monkeypatch.setattr(short_time, '_VALUES_AT_ONCE', n_values)
    np.testing.assert_allclose(
      getattr(metrics, metric)(target, audio), whole, rtol=1e-6
    )


def test_short_time_spectra_against_librosa():
  channels = np.random.default_rng(0).normal(size=(2, 5003))
  window = scipy.signal.get_window('hann', 600)
  parts = [*short_time.spectra(channels, window, 1024, 120)]
  expected = [
    librosa.stft(
      np.append(channel, np.zeros(1024 - 600)),
      n_fft=1024,
      hop_length=120,
      # librosa's window is in the middle of its frame: here at its start.
      window=np.append(window, np.zeros(1024 - 600)),
      center=False,
    ).T
    for channel in channels
  ]
  np.testing.assert_allclose(
    np.concatenate(parts), np.concatenate(expected), atol=1e-10
  )


def test_mr_stft_of_a_gain_is_known():
  # Convergence |1 - g| plus |log g|, where nothing is below the floor.
  target = noise(4000)
  for gain in (0.5, 2.0):
    expected = abs(1 - gain) + abs(np.log(gain))
    np.testing.assert_allclose(
      metrics.mr_stft(target, gain * target), expected, rtol=1e-4
    )


def test_mr_stft_is_blind_to_polarity():
  target = noise(4000)
  np.testing.assert_allclose(metrics.mr_stft(target, -target), 0, atol=1e-12)


@pytest.mark.parametrize(
  'metric,n_samples',
  [
    (metrics.mr_stft, 2047),
    (lambda t, a: metrics.mfcc_cosine(t, a, SAMPLE_RATE), 1023),
  ],
)
def test_short_clips_are_named(metric, n_samples):
  clip = noise(n_samples + 1)
  metric(clip, clip)
  with pytest.raises(ValueError, match=f'has {n_samples} samples.*needs'):
    metric(clip[1:], clip[1:])


# ---------------------- MFCC --------------------------------------------------
@pytest.mark.parametrize('over', ['frames', 'rows'])
def test_mfcc_cosine_against_scipy(over):
  target, audio = example()
  coefficients = []
  for signal in (target, audio * np.mean(abs(target)) / np.mean(abs(audio))):
    mel = librosa.feature.melspectrogram(
      y=signal, sr=SAMPLE_RATE, n_fft=1024, hop_length=256, n_mels=128
    )
    mel_db = librosa.power_to_db(mel, ref=np.max)
    mfcc = librosa.feature.mfcc(S=mel_db, n_mfcc=13)
    coefficients.append(mfcc.T if over == 'frames' else mfcc)
  expected = [
    scipy.spatial.distance.cosine(a, b) for a, b in zip(*coefficients)
  ]
  assert len(expected) == (24 if over == 'frames' else 13)
  np.testing.assert_allclose(
    metrics.mfcc_cosine(target, audio, SAMPLE_RATE, over),
    np.mean(expected),
    rtol=1e-9,
  )


@pytest.mark.parametrize('over', ['frames', 'rows'])
def test_mfcc_cosine_ignores_gain_and_averages_channels(over):
  target, audio = example(2)
  both = metrics.mfcc_cosine(target, audio, SAMPLE_RATE, over)
  np.testing.assert_allclose(
    metrics.mfcc_cosine(target, 0.01 * audio, SAMPLE_RATE, over), both
  )
  # Equal channels have one level, so that scaling each or all is the same.
  equal = [np.repeat(x[:, :1], 2, axis=1) for x in (target, audio)]
  np.testing.assert_allclose(
    metrics.mfcc_cosine(*equal, SAMPLE_RATE, over),
    metrics.mfcc_cosine(target[:, 0], audio[:, 0], SAMPLE_RATE, over),
  )


def test_mfcc_cosine_of_silence_and_sound_is_one():
  target = noise(4000)
  for over in ('frames', 'rows'):
    value = metrics.mfcc_cosine(target, 0 * target, SAMPLE_RATE, over)
    assert value == 1.0


def test_mfcc_cosine_names_bad_over():
  with pytest.raises(ValueError, match="over='cols'.*frames.*rows"):
    metrics.mfcc_cosine(noise(4000), noise(4000), SAMPLE_RATE, 'cols')


# ---------------------- Loudness ----------------------------------------------
@pytest.mark.parametrize('shape', [(8000,), (8000, 2)])
@pytest.mark.parametrize('gain_db', [20 * np.log10(2), -12.0])
def test_loudness_difference_of_a_gain_is_the_gain(shape, gain_db):
  target = noise(*shape)
  audio = target * 10 ** (gain_db / 20)
  np.testing.assert_allclose(
    metrics.loudness_difference(target, audio, SAMPLE_RATE),
    abs(gain_db),
    atol=1e-9,
  )


def test_loudness_of_the_reference_sine():
  # ITU-R BS.1770-4, annex 1: a 0 dBFS sine of 997 Hz in one channel has
  # -3.01 LKFS; in two, 3.01 dB more.
  sine = np.sin(2 * np.pi * 997 * np.arange(48000) / 48000)
  np.testing.assert_allclose(
    metrics.loudness_lufs(sine, 48000), -3.01, atol=0.05
  )
  np.testing.assert_allclose(
    metrics.loudness_lufs(np.stack([sine, sine], 1), 48000), 0.0, atol=0.05
  )


def test_loudness_over_time_is_that_of_each_window():
  """Of a sine, whose level steps by 10 dB after 4 s."""
  times_s = np.arange(8 * 48000) / 48000
  sine = np.sin(2 * np.pi * 997 * times_s) * np.where(times_s < 4, 0.1, 0.316)
  middles_s, lufs = metrics.loudness_over_time(sine, 48000)
  np.testing.assert_allclose(np.diff(middles_s), 0.1)
  assert middles_s[0] == 1.5 and len(lufs) == 51
  np.testing.assert_allclose(lufs[1:10], -23.01, atol=0.05)
  np.testing.assert_allclose(lufs[41:], -13.01, atol=0.05)
  half = 10 * np.log10(0.5 * (10**-2.301 + 10**-1.301))
  np.testing.assert_allclose(lufs[middles_s == 4.0], half, atol=0.05)
  _, short = metrics.loudness_over_time(sine[:4800], 48000)
  assert len(short) == 1
  _, silent = metrics.loudness_over_time(np.zeros(48000), 48000, 0.4)
  assert set(silent) == {metrics.SILENCE_LUFS}


@pytest.mark.parametrize('rate', [8000, 16000, 44100])
@pytest.mark.parametrize('n_channels', [1, 2, 5])
@pytest.mark.parametrize('seconds', [0.4, 0.55, 3.37])
def test_loudness_is_pyloudnorms_in_chunks_too(rate, n_channels, seconds):
  audio = noise(int(seconds * rate) + 1, n_channels)
  audio *= np.linspace(0, 1, len(audio))[:, np.newaxis] ** 6  # gates close
  expected = pyloudnorm.Meter(rate).integrated_loudness(audio)
  np.testing.assert_allclose(
    metrics.loudness_lufs(audio, rate), expected, atol=1e-9
  )
  meter = metrics.LoudnessMeter(rate, n_channels)
  for start in range(0, len(audio), 997):
    meter.add(audio[start : start + 997])
  np.testing.assert_allclose(meter.lufs(), expected, atol=1e-9)


def test_what_is_shorter_than_a_block_is_a_block():
  sine = np.sin(2 * np.pi * 997 * np.arange(4800) / 48000)
  np.testing.assert_allclose(
    metrics.loudness_lufs(sine, 48000), -3.01, atol=0.2
  )
  with pytest.raises(ValueError, match='no audio to measure'):
    metrics.LoudnessMeter(48000, 1).lufs()


def test_silence_counts_as_70_below():
  target = noise(8000)
  for silence in (0 * target, 1e-6 * target):
    assert metrics.loudness_lufs(silence, SAMPLE_RATE) == -70.0
    np.testing.assert_allclose(
      metrics.loudness_difference(target, silence, SAMPLE_RATE),
      metrics.loudness_lufs(target, SAMPLE_RATE) + 70.0,
    )


@pytest.mark.parametrize(
  'audio,sample_rate,message',
  [
    (noise(8000, 6), SAMPLE_RATE, '6 channels.*at most 5'),
    (noise(8000), 0, 'sample_rate=0'),
    (noise(8000), None, 'sample_rate=None'),
    (noise(8000), 10**400, 'sample_rate=1000'),
  ],
)
def test_loudness_names_what_it_cannot_measure(audio, sample_rate, message):
  with pytest.raises(ValueError, match=message):
    metrics.loudness_lufs(audio, sample_rate)


# ---------------------- Alignment ---------------------------------------------
@pytest.mark.parametrize('channels', [(), (2,)], ids=['mono', 'stereo'])
@pytest.mark.parametrize('lag', [0, 1, -1, 23, -40, 40])
@pytest.mark.parametrize('sign', [1, -1])
def test_find_lag_and_align_undo_a_known_lag(channels, lag, sign):
  source = noise(600, *channels)
  # The target starts at 50 of the source; a late copy starts earlier.
  target, audio = source[50:550], sign * source[50 - lag : 550 - lag]
  found = metrics.find_lag(target, audio, 40, ignore_polarity=sign < 0)
  assert found == lag
  new_target, new_audio = metrics.align(target, audio, found)
  assert len(new_target) == 500 - abs(lag)
  np.testing.assert_array_equal(new_target, sign * new_audio)


def test_find_lag_agrees_with_the_training_loss():
  time = np.arange(500)
  sine = np.sin(2 * np.pi * time / 20)
  pairs = [
    (noise(500, seed=seed), noise(500, seed=seed + 50)) for seed in range(20)
  ]
  pairs += [(sine, sine), (sine, np.roll(sine, 7)), (sine, -sine)]
  pairs += [(sine, 0 * sine), (0 * sine, 0 * sine)]
  target, audio = (np.stack(x) for x in zip(*pairs))
  for ignore_polarity in (False, True):
    np.testing.assert_array_equal(
      [metrics.find_lag(*pair, 60, ignore_polarity) for pair in pairs],
      losses.find_lag(target, audio, 60, ignore_polarity),
    )


@pytest.mark.parametrize('max_lag', [-1, 0.5, 100])
def test_find_lag_names_bad_max_lag(max_lag):
  with pytest.raises(ValueError, match=f'max_lag={max_lag} .* 0 to 99'):
    metrics.find_lag(noise(100), noise(100), max_lag)


def test_align_needs_an_overlap():
  with pytest.raises(ValueError, match='lag=-100 leaves nothing'):
    metrics.align(noise(100), noise(100), -100)


# ---------------------- All together ------------------------------------------
def test_evaluate_gives_each_metric_by_name():
  target, audio = example(2, 8000)
  assert metrics.evaluate(target, audio, SAMPLE_RATE) == {
    'mr_stft': metrics.mr_stft(target, audio),
    'mae': metrics.mae(target, audio),
    'mfcc_cosine': metrics.mfcc_cosine(target, audio, SAMPLE_RATE),
    'loudness_difference': metrics.loudness_difference(
      target, audio, SAMPLE_RATE
    ),
  }


def test_evaluate_with_alignment_leaves_latency_out():
  source = noise(9000)
  target, audio = source[100:8900], 0.5 * source[63:8863]
  values = metrics.evaluate(target, audio, SAMPLE_RATE, max_lag=50)
  shared = target[: 8800 - 37]
  assert values.pop('lag_samples') == 37.0
  expected = {
    'mr_stft': 0.5 + np.log(2),
    'mae': 0.5 * np.mean(np.abs(shared)),
    'mfcc_cosine': 0.0,
    'loudness_difference': 20 * np.log10(2),
  }
  assert set(values) == set(expected)
  for name, value in values.items():
    np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6)


# ---------------------- Error ratios and levels -------------------------------
@pytest.mark.parametrize('n_channels', [None, 2])
def test_esr_of_known_errors(n_channels):
  target, audio = example(n_channels)
  assert metrics.esr(target, target) == 0.0
  np.testing.assert_allclose(metrics.esr(target, 0 * target), 1.0)
  np.testing.assert_allclose(metrics.esr(target, -target), 4.0)
  np.testing.assert_allclose(metrics.esr(target, 1.1 * target), 0.01)
  expected = np.sum((target - audio) ** 2) / np.sum(target**2)
  np.testing.assert_allclose(metrics.esr(target, audio), expected)


def test_si_sdr_is_the_level_of_what_is_orthogonal():
  rng = np.random.default_rng(0)
  target = rng.standard_normal(5000)
  other = rng.standard_normal(5000)
  other -= other @ target / (target @ target) * target
  other *= np.linalg.norm(target) / np.linalg.norm(other)
  for scale in (0.1, -3.0):
    value = metrics.si_sdr(target, scale * (target + 0.01 * other))
    np.testing.assert_allclose(value, 40.0, atol=1e-6)
  assert metrics.si_sdr(target, 2.0 * target) > 200.0
  assert metrics.si_sdr(target, other) < -200.0


@pytest.mark.parametrize('n_channels', [None, 2])
def test_dc_of_an_offset(n_channels):
  target, _ = example(n_channels)
  power = np.mean(target**2, axis=0)
  value = metrics.dc(target, target + 0.1)
  np.testing.assert_allclose(value, np.mean(0.01 / power))
  assert metrics.dc(target, target) == 0.0


def test_polarity_tells_inverted_audio():
  target, audio = example()
  assert metrics.polarity(target, audio) > 0.7
  assert metrics.polarity(target, -audio) < -0.7
  np.testing.assert_allclose(metrics.polarity(target, -3 * target), -1.0)
  assert metrics.polarity(target, 0 * target) == 0.0


def test_levels_of_sine_and_square():
  sine = np.sin(2 * np.pi * np.arange(16000) / 100)
  np.testing.assert_allclose(metrics.rms_db(sine), -3.0103, atol=1e-4)
  np.testing.assert_allclose(metrics.rms_db(np.sign(sine + 1e-9)), 0.0)
  np.testing.assert_allclose(metrics.crest_factor_db(sine), 3.0103, atol=1e-4)
  square = 0.3 * np.sign(sine + 1e-9)
  np.testing.assert_allclose(metrics.crest_factor_db(square), 0.0, atol=1e-9)
  assert metrics.rms_db(0 * sine) == -np.inf


@pytest.mark.parametrize('metric', [metrics.esr, metrics.si_sdr, metrics.dc])
def test_a_silent_target_has_no_error_ratio(metric):
  target, audio = example(2)
  target[:, 1] = 0
  with pytest.raises(ValueError, match='silent'):
    metric(0 * target, audio)
  if metric is metrics.esr:
    assert metric(target, audio) > 0
  else:
    with pytest.raises(ValueError, match='silent'):
      metric(target, audio)


def test_crest_factor_of_silence_is_refused():
  with pytest.raises(ValueError, match='silent'):
    metrics.crest_factor_db(np.zeros(100))


# ---------------------- Sets of files -----------------------------------------
def test_frechet_distance_against_a_matrix_root():
  rng = np.random.default_rng(0)
  a, b = rng.standard_normal((2, 5, 8))
  moments = [a.mean(1), a @ a.T, b.mean(1), b @ b.T]
  root = scipy.linalg.sqrtm(a @ a.T @ b @ b.T).real
  expected = np.sum((a.mean(1) - b.mean(1)) ** 2)
  expected += np.trace(a @ a.T + b @ b.T - 2 * root)
  value = metrics.frechet_distance(*moments)
  np.testing.assert_allclose(value, expected, rtol=1e-8)
  # One dimension: (m - n)^2 + (s - t)^2.
  one = metrics.frechet_distance([1.0], [[4.0]], [3.0], [[25.0]])
  np.testing.assert_allclose(one, 4.0 + 9.0)


def test_frechet_audio_distance_grows_with_the_change():
  rng = np.random.default_rng(0)
  files = [0.1 * rng.standard_normal((24000, 1)) for _ in range(3)]
  others = [0.1 * rng.standard_normal((32000, 1)) for _ in range(3)]
  louder = [1.5 * x for x in others]
  clipped = [np.clip(20 * x, -1, 1) for x in others]
  found = [
    metrics.frechet_audio_distance(files, x, SAMPLE_RATE)
    for x in (files, others, louder, clipped)
  ]
  assert found[0] < 1e-6
  assert found == sorted(found)
  # 3.52 dB in each of 32 means, and the windows' own scatter.
  assert 32 * 3.52**2 * 0.8 < found[2] < 32 * 3.52**2 * 1.4


def test_frechet_audio_distance_takes_any_embedding():
  def moments(audio, sample_rate):
    assert sample_rate == SAMPLE_RATE
    return audio.reshape(-1, 1)

  rng = np.random.default_rng(0)
  a, b = rng.standard_normal((2, 100000))
  value = metrics.frechet_audio_distance(
    [a], [2 * b + 1], SAMPLE_RATE, embedding=moments
  )
  np.testing.assert_allclose(value, 2.0, rtol=0.05)
  with pytest.raises(ValueError, match='1 vectors'):
    metrics.frechet_audio_distance([a[:1]], [b], SAMPLE_RATE, moments)


def test_embedding_names_what_it_cannot_describe():
  with pytest.raises(ValueError, match='at least 16000'):
    metrics.log_mel_embedding(noise(8000), SAMPLE_RATE)
  with pytest.raises(ValueError, match='14000'):
    metrics.log_mel_embedding(noise(8000), 8000)
