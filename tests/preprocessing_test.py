"""Level, high-pass, fades, augmentation, and labels."""

import gin
import numpy as np
import pytest
import scipy.signal

from dafx import lv2, metrics
from dafx.audio import sources
from dafx.training import labels
from dafx.training.data import augmentation, preprocessing

RATE = 22050


def noise(n_samples=RATE, n_channels=1, seed=0):
  return np.random.default_rng(seed).standard_normal([n_samples, n_channels])


# ----------------------------------------------------------------- Level ----
@pytest.mark.parametrize('rate', [8000, 22050, 48000, 192000])
def test_loudness_of_a_sine_at_full_scale_is_minus_3_lufs(rate):
  # EBU Tech 3341: a sine of 997 Hz at 0 dB full scale on one channel.
  sine = np.sin(2 * np.pi * 997 * np.arange(2 * rate) / rate)[:, None]
  assert abs(metrics.loudness_lufs(sine, rate) + 3.01) < 0.2


def test_input_is_brought_to_a_loudness_and_the_target_is_not():
  prepare = preprocessing.Preprocessor(input_lufs=-25.0)
  audio = 0.01 * noise(n_channels=2)
  out = prepare.process_input(audio, RATE)
  mix = out.mean(axis=1, keepdims=True)
  assert abs(metrics.loudness_lufs(mix, RATE) + 25.0) < 0.01
  np.testing.assert_allclose(prepare.process_target(audio, RATE), audio, 1e-6)


@pytest.mark.parametrize('high_pass_hz', [None, 100])
def test_channels_get_the_gain_of_their_mono_mix(high_pass_hz):
  # Training hears mono files, use the stereo ones.
  prepare = preprocessing.Preprocessor(-25.0, high_pass_hz)
  mono = 0.05 * noise()
  gain = prepare.input_gain(mono, RATE)
  dual = np.repeat(mono, 2, axis=1)
  apart = mono + 0.03 * noise(seed=1) * [1, -1]
  for audio in (dual, apart):
    np.testing.assert_allclose(prepare.input_gain(audio, RATE), gain)
    source = prepare.process_source(sources.from_array(audio, RATE))
    out = np.concatenate(list(source.blocks())).mean(axis=1, keepdims=True)
    expected = prepare.process_input(mono, RATE)
    np.testing.assert_allclose(out, expected, atol=1e-6)


@pytest.mark.parametrize('n_samples', [100, 4000, RATE])
def test_level_of_short_and_of_silent_files(n_samples):
  prepare = preprocessing.Preprocessor(input_lufs=-25.0)
  gain = prepare.input_gain(0.1 * noise(n_samples), RATE)
  assert np.isfinite(gain) and 0.05 < gain < 10
  assert prepare.input_gain(np.zeros([n_samples, 1]), RATE) == 1.0


@pytest.mark.parametrize('input_lufs', [None, -25.0])
@pytest.mark.parametrize('high_pass_hz', [None, 100])
@pytest.mark.parametrize('n_samples', [1, 500, 30000])
def test_chunks_are_processed_as_the_whole(
  monkeypatch, input_lufs, high_pass_hz, n_samples
):
  monkeypatch.setattr(sources, '_BLOCK', 777)
  monkeypatch.setattr(preprocessing, '_CHUNK', 1000)
  prepare = preprocessing.Preprocessor(input_lufs, high_pass_hz)
  audio = noise(n_samples, 2) + 0.2
  source = prepare.process_source(sources.from_array(audio, RATE))
  parts = list(source.blocks())
  assert len(parts) >= n_samples // 10000 and source.n_samples == n_samples
  np.testing.assert_allclose(
    np.concatenate(parts), prepare.process_input(audio, RATE), atol=1e-6
  )


# ------------------------------------------------------------- High-pass ----
def test_high_pass_is_scipys_filtfilt():
  audio = noise()
  ours = preprocessing.Preprocessor(high_pass_hz=100).process_input(audio, RATE)
  b, a = scipy.signal.butter(4, 100, 'highpass', fs=RATE)
  theirs = scipy.signal.filtfilt(b, a, audio, axis=0)
  middle = slice(2000, -2000)  # the ends depend on how they are extended
  np.testing.assert_allclose(ours[middle], theirs[middle], atol=1e-5)


def test_a_crop_with_margins_comes_out_as_it_does_of_the_whole():
  prepare = preprocessing.Preprocessor(high_pass_hz=100)
  audio = noise() + np.cumsum(noise(seed=1), axis=0) / 30  # with much below
  margin = prepare.margin(RATE)
  assert 0 < margin < 0.1 * RATE
  whole = prepare.process_input(audio, RATE)[6000:9000]
  crop = prepare.process_input(audio[6000 - margin : 9000 + margin], RATE)
  np.testing.assert_allclose(crop[margin:-margin], whole, atol=1e-4)


def test_high_pass_of_very_short_audio_and_of_a_cutoff_too_high():
  prepare = preprocessing.Preprocessor(high_pass_hz=100)
  assert np.isfinite(prepare.process_input(noise(3), RATE)).all()
  with pytest.raises(ValueError, match=r'high_pass_hz=100.*80 Hz'):
    prepare.process_input(noise(), 160)


def test_fades_are_halves_of_a_hann_window():
  out = preprocessing.fade(np.ones([2, 200, 1]), 64)
  hann = scipy.signal.windows.hann(128, sym=False)
  ramp = 0.5 * (hann[:64] + np.append(hann[1:64], 1.0))  # between its samples
  np.testing.assert_allclose(out[1, :64, 0], ramp, atol=1e-3)
  np.testing.assert_allclose(out[0, :, 0], out[0, ::-1, 0])
  assert (out[:, 64:-64] == 1).all()
  assert preprocessing.fade(np.ones([3, 1]), 64).shape == (3, 1)


# ---------------------------------------------------------- Augmentation ----
def test_noise_is_on_the_input_alone_and_the_gain_on_both():
  augment = augmentation.NoiseAndGain()
  audio, target = noise(seed=1), noise(seed=2)
  ratios, gains = [], []
  for seed in range(200):
    rng = np.random.default_rng(seed)
    varied, goal = augment(audio, target, RATE, rng)
    gain = float(goal[0, 0] / target[0, 0])
    np.testing.assert_allclose(goal, gain * target)
    added = varied / gain - audio
    ratios.append(10 * np.log10(np.mean(audio**2) / np.mean(added**2)))
    gains.append(gain)
  assert 29.8 < min(ratios) < 32 and 48 < max(ratios) < 50.2
  assert 0.1 <= min(gains) < 0.15 and 0.95 < max(gains) <= 1.0
  silent, _ = augment(0 * audio, target, RATE, np.random.default_rng(0))
  assert not silent.any()


def test_one_seed_gives_one_variation():
  for augment in (augmentation.NoiseAndGain(), augmentation.RandomEqualizer()):
    a, b, c = (
      augment(noise(4000), noise(4000), RATE, np.random.default_rng(s))[0]
      for s in (3, 3, 4)
    )
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_each_preset_fits_the_ports_of_the_plugin():
  assert len(augmentation.EQ_PRESETS) == 11
  for rate in (8000, 22050, 48000):
    plugin = lv2.get_plugin(
      'http://calf.sourceforge.net/plugins/Equalizer8Band'
    ).at_rate(rate)
    for name in augmentation.EQ_PRESETS:
      rng = np.random.default_rng(0)
      augment = augmentation.RandomEqualizer()
      for symbol, value in augment.settings(name, rate, rng).items():
        port = plugin.control(symbol)
        assert port.minimum <= value <= port.maximum, (name, symbol)
        if symbol.endswith('_freq'):
          assert value < rate / 2


def response_db(name, freq_hz):
  """Of a preset as it stands, at one frequency."""
  augment = augmentation.RandomEqualizer((name,), (1.0, 1.0), (1.0, 1.0))
  impulse = np.zeros([8192, 1], np.float32)
  impulse[100] = 0.5
  out, _ = augment(impulse, impulse, RATE, np.random.default_rng(0))
  turns = np.exp(-2j * np.pi * freq_hz / RATE * np.arange(len(out)))
  return 20 * np.log10(abs(turns @ out[:, 0]) / 0.5)


@pytest.mark.parametrize(
  'name, freq_hz, low, high',
  [
    ('flat', 1000, -0.1, 0.1),
    ('kick', 60, 5.0, 7.0),
    ('kick', 350, -7.0, -5.0),
    ('high_pass', 60, -60, -20),
    ('low_pass', 8000, -90, -20),
    ('loudness_maximizer', 30, 4, 6),
  ],
)
def test_presets_do_what_they_say(name, freq_hz, low, high):
  assert low < response_db(name, freq_hz) < high


def test_equaliser_takes_each_channel_for_itself():
  augment = augmentation.RandomEqualizer()
  both = noise(4000, 2)
  out, target = augment(both, both, RATE, np.random.default_rng(1))
  assert out.shape == both.shape
  for k in (0, 1):
    side = both[:, k : k + 1]
    alone, _ = augment(side, side, RATE, np.random.default_rng(1))
    np.testing.assert_array_equal(alone[:, 0], out[:, k])
  np.testing.assert_array_equal(target, both)


def test_settings_that_cannot_be():
  with pytest.raises(KeyError, match="no preset 'smiley'.*beefy_snare"):
    augmentation.RandomEqualizer(('smiley',))
  with pytest.raises(ValueError, match=r'snr_db=\(50, 30\)'):
    augmentation.NoiseAndGain(snr_db=(50, 30))


def test_all_are_known_to_gin():
  gin.clear_config()
  with gin.unlock_config():
    gin.parse_config('data.Preprocessor.input_lufs = -25.0')
    gin.parse_config('data.NoiseAndGain.gain = (1, 1)')
    gin.parse_config("data.RandomEqualizer.presets = ('flat',)")
  gin.clear_config()


# ---------------------------------------------------------------- Labels ----
def test_labels_are_read_as_they_were_written(tmp_path):
  path = labels.events_path(tmp_path, 'folder/ä name')
  events = (labels.Event('breath', 10, 20), labels.Event('pop', 5, 12))
  labels.write_events(events, path)
  assert labels.read_events(path) == events
  assert labels.read_events(tmp_path / 'nothing.csv') == ()
  mask = labels.event_mask(events, 15)
  assert mask.tolist() == [False] * 5 + [True] * 10
  assert labels.event_mask(events, 15, 'breath').sum() == 5


def test_an_event_at_another_rate():
  event = labels.Event('pop', 44100, 88200).at_rate(44100, 22050)
  assert event == labels.Event('pop', 22050, 44100)


@pytest.mark.parametrize('text', ['kind,start\npop,1\n', 'a\nb\n', 'x,y\n1,2'])
def test_damaged_labels_are_named(tmp_path, text):
  (tmp_path / 'bad.csv').write_text(text)
  with pytest.raises(ValueError, match=r'bad\.csv.*kind, start and stop'):
    labels.read_events(tmp_path / 'bad.csv')
