"""The house rule, on synthetic music and an embedded song."""

import numpy as np
import pytest

from dafx import metrics
from dafx.audio import files as audio_files
from dafx.training.data_preparation import house_rule, mastering

RATE = 44100


def music(seed, seconds=8.0):
  """Returns noise with the house balance and beats, [n_samples, 2]."""
  rng = np.random.default_rng(seed)
  n_samples = int(seconds * RATE)
  noise = rng.normal(size=[n_samples, 2])
  spectrum = np.fft.rfft(noise, axis=0)
  hz = np.fft.rfftfreq(n_samples, 1 / RATE)
  # Per octave white noise rises by 3 dB, where the house balance falls.
  levels = np.array(house_rule.HOUSE_BALANCE_DB)
  octaves = np.log2(mastering.SECTION_HZ)
  shape = np.interp(np.log2(np.maximum(hz, 20)), octaves, levels - 3 * octaves)
  audio = np.fft.irfft(spectrum * 10 ** (shape[:, None] / 20), axis=0)
  beats = np.exp(-8 * (np.arange(n_samples) / RATE % 0.5))[:, np.newaxis]
  audio = audio / np.std(audio) * (0.2 + 0.8 * beats)
  return (0.1 * audio).astype(np.float32)


@pytest.fixture(scope='module')
def song():
  path = audio_files.find_audio(mastering.DEMO_AUDIO / 'test')[0]
  audio, rate = audio_files.read(path)
  return audio[: 12 * rate], rate


def test_loudness_falls_and_compression_grows_with_the_plr():
  plrs = np.linspace(4, 40, 37)
  lufs = [house_rule.target_lufs(plr) for plr in plrs]
  ratios = [house_rule.compression_ratio(plr) for plr in plrs]
  assert np.all(np.diff(lufs) <= 0) and np.all(np.diff(ratios) >= 0)
  assert lufs[0] == house_rule.LOUDEST_LUFS
  assert lufs[-1] == house_rule.QUIETEST_LUFS
  assert house_rule.target_lufs(15.0) == pytest.approx(-14.0)
  assert ratios[0] == 1.0 and ratios[-1] == house_rule.MAX_RATIO
  # A master of the rule has the PLR that its ceiling leaves; the rule hardly
  # makes it louder.
  master_plr = house_rule.CEILING_DB - house_rule.target_lufs(16.0)
  louder = house_rule.target_lufs(master_plr) - house_rule.target_lufs(16.0)
  assert 0 < louder < 1.0


def test_tone_is_corrected_outside_the_dead_zone_unless_it_is_meant():
  balance = np.array(house_rule.HOUSE_BALANCE_DB)

  def gain_db(index, excess_db, plr=20.0):
    levels = balance.copy()
    levels[index] += house_rule.DEAD_ZONE_DB[index] + excess_db
    gains = house_rule.tone_gains_db(levels, plr)
    assert np.count_nonzero(np.delete(gains, index)) == 0
    return gains[index]

  for index in range(6):
    assert gain_db(index, -0.5) == 0
    assert gain_db(index, 2.0) == pytest.approx(-2.0)
    assert gain_db(index, 5.0) == pytest.approx(-1.25)
    assert gain_db(index, 9.0) == 0
    assert gain_db(index, 2.0, plr=15.0) == pytest.approx(-1.0)
    assert gain_db(index, 2.0, plr=12.0) == 0
  down = house_rule.tone_gains_db(balance + np.eye(6)[3] * -4.0, 20.0)
  assert down[3] == pytest.approx(1.5)


@pytest.mark.parametrize('maker', house_rule.MAKERS)
def test_masters_are_at_their_loudness_below_the_ceiling(maker):
  mix = house_rule.make_mix(music(0), RATE, 3)
  plr = house_rule.plr_db(mix, RATE)
  master = house_rule.master(mix, RATE, maker)
  assert master.shape == mix.shape
  wanted = house_rule.target_lufs(plr)
  assert metrics.loudness_lufs(master, RATE) == pytest.approx(wanted, abs=0.1)
  peak_db = 20 * np.log10(np.abs(master).max())
  assert peak_db <= house_rule.CEILING_DB + 0.1
  assert metrics.find_lag(master, mix, 2000) == 0
  again = house_rule.master(mix, RATE, maker)
  np.testing.assert_array_equal(again, master)
  # Another level of the mix is another mix of the same master.
  quiet = house_rule.master(0.25 * mix, RATE, maker)
  assert metrics.esr(master, quiet) < 1e-3


def test_both_makers_do_the_same_rule():
  mix = house_rule.make_mix(music(1), RATE, 0)
  masters = [house_rule.master(mix, RATE, maker) for maker in house_rule.MAKERS]
  between = metrics.matched(*masters, RATE)
  assert between['average_spectrum_db'] < 0.5
  assert between['crest_error_db'] < 1.0


def test_a_master_hardly_changes(song):
  audio, rate = song
  master = house_rule.master(audio, rate)
  twice = house_rule.master(master, rate)
  changed = metrics.matched(master, twice, rate)
  assert changed['matched_mr_stft'] < 0.05
  assert changed['average_spectrum_db'] < 0.3


@pytest.mark.slow
def test_mixes_are_drawn_from_the_ranges():
  piece = music(2)
  mixes = [house_rule.make_mix(piece, RATE, seed) for seed in range(12)]
  lufs = [metrics.loudness_lufs(mix, RATE) for mix in mixes]
  peaks = [np.abs(mix).max() for mix in mixes]
  crests = [metrics.crest_factor_db(mix) for mix in mixes]
  own = metrics.crest_factor_db(piece)
  assert np.ptp(lufs) > 3
  assert min(lufs) >= -27.1 and max(lufs) <= -15.9
  assert max(peaks) <= 10 ** (house_rule.MIX_PEAK_DB / 20) + 1e-6
  assert max(crests) > own + 1
  for mix in mixes:
    error = metrics.average_spectrum_error_db(piece, mix, RATE)
    assert 0 < error < house_rule.TILT_DB + house_rule.BELL_DB
    width = metrics.width_db(mix) - metrics.width_db(piece)
    assert abs(width) < house_rule.SIDE_DB + 1
  same = house_rule.make_mix(piece, RATE, 0)
  np.testing.assert_array_equal(same, mixes[0])


def test_mono_stays_mono():
  piece = np.repeat(music(3, 2.0)[:, :1], 2, axis=1)
  mix = house_rule.make_mix(piece, RATE, 1)
  np.testing.assert_allclose(mix[:, 0], mix[:, 1], atol=1e-6)


def test_what_cannot_be_mastered():
  with pytest.raises(ValueError, match='silent'):
    house_rule.master(np.zeros([RATE, 2], np.float32), RATE)
  with pytest.raises(ValueError, match='stereo'):
    house_rule.make_mix(music(0, 1.0)[:, :1], RATE, 0)
  with pytest.raises(ValueError, match="maker='lsp'; there are x42, calf"):
    house_rule.master(music(0, 1.0), RATE, 'lsp')
