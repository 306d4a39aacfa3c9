"""What users met with recordings of effects: files as a recorder leaves them.

Each group of tests begins with a line on the kind of fault that it stands for.
"""

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr

from dafx.training import align, captures, data, reading

RATE = 16000


def music(seconds=2.0, seed=0, rate=RATE):
  """Plucked notes over a little noise, [n_samples]."""
  rng = np.random.default_rng(seed)
  n_samples = int(seconds * rate)
  audio = 0.002 * rng.standard_normal(n_samples)
  t = np.arange(n_samples) / rate
  for onset in np.arange(0.05, seconds - 0.2, 0.15):
    f0_hz = 110 * 2 ** (rng.integers(0, 24) / 12)
    since = np.maximum(t - onset, 0.0)
    note = sum(np.sin(2 * np.pi * k * f0_hz * since) / k for k in range(1, 8))
    audio += 0.1 * note * np.exp(-8 * since) * (since > 0)
  return audio.astype(np.float32)


def delayed(audio, n_samples):
  """Returns audio that is late, or early, of the same length."""
  if n_samples < 0:
    return np.concatenate([audio[-n_samples:], np.zeros(-n_samples)])
  return np.concatenate([np.zeros(n_samples), audio])[: len(audio)]


def provider(tmp_path, dry, wet, rates=(RATE, RATE), **kwargs):
  for name, audio, rate in zip(('dry', 'wet'), (dry, wet), rates, strict=True):
    audio = np.asarray(audio, np.float32)
    soundfile.write(tmp_path / f'{name}.wav', audio, rate, 'FLOAT')
  kwargs = {'sample_rate': RATE, 'n_samples': 400, 'split': 'all', **kwargs}
  paths = str(tmp_path / 'dry.wav'), str(tmp_path / 'wet.wav')
  return data.RecordingProvider(*paths, **kwargs)


def sides(found):
  """Returns the pair that a provider holds."""
  ((_, dry, wet, *_),) = found.recordings
  return dry, wet


def drive(audio):
  return np.tanh(4.0 * audio)


CAPTURES = {
  'one sample longer': (
    lambda dry: (dry, np.append(drive(dry), 0.1)),
    'samples',
  ),
  'a second longer': (
    lambda dry: (dry, np.concatenate([drive(dry), 1e-3 * dry[:RATE]])),
    'samples',
  ),
  'shorter': (lambda dry: (dry, drive(dry)[:-3000]), 'samples'),
  'stereo, both the same': (
    lambda dry: (dry, np.stack([drive(dry)] * 2, axis=-1)),
    '2 channels',
  ),
  'late': (lambda dry: (dry, delayed(drive(dry), 300)), '300 samples late'),
  'early': (lambda dry: (dry, delayed(drive(dry), -300)), '300 samples early'),
  'late and upside down': (
    lambda dry: (dry, -delayed(drive(dry), 300)),
    '300 samples late',
  ),
}


# -------- One careful path, one careless: both mend what can be mended. -------
@pytest.mark.parametrize('key', CAPTURES)
def test_captures_are_taken_as_they_come(tmp_path, key, caplog):
  make, said = CAPTURES[key]
  dry, wet = sides(provider(tmp_path, *make(music())))
  assert len(dry) == len(wet) >= 2 * RATE - 3000
  sign = -1 if 'upside down' in key else 1
  np.testing.assert_allclose(wet, sign * drive(dry), atol=1e-5)
  assert said in caplog.text
  # Refused as before if asked to.
  with pytest.raises(ValueError, match=said):
    provider(tmp_path, *make(music()), strict=True)


def test_other_rates_are_resampled(tmp_path, caplog):
  dry = music(rate=44100)
  wet = soxr.resample(dry, 44100, 32000)
  ours, theirs = sides(provider(tmp_path, dry, wet, (44100, 32000)))
  np.testing.assert_allclose(ours, soxr.resample(dry, 44100, RATE), atol=1e-6)
  np.testing.assert_allclose(theirs, ours, atol=1e-2)
  assert 'dry.wav is resampled from 44100 to 16000 Hz' in caplog.text
  assert 'wet.wav is resampled from 32000 to 16000 Hz' in caplog.text
  with pytest.raises(ValueError, match='44100 Hz and 1 channels; wanted are'):
    provider(tmp_path, dry, wet, (44100, 32000), strict=True)


def test_all_at_once(tmp_path):
  dry = music(rate=48000)
  wet = delayed(drive(dry), 960)
  wet = np.stack([np.append(wet, 0.0)] * 2, axis=-1)
  ours, theirs = sides(provider(tmp_path, dry, wet, (48000, 48000)))
  np.testing.assert_allclose(theirs[:-9], drive(ours[:-9]), atol=2e-2)


def test_channels_that_differ_are_mixed_aloud(tmp_path, caplog):
  dry = music()
  stereo = np.stack([drive(dry), 0.5 * drive(dry)], axis=-1)
  _, wet = sides(provider(tmp_path, dry, stereo))
  np.testing.assert_allclose(wet, 0.75 * drive(dry), atol=1e-6)
  assert 'that are not the same, mixed to one' in caplog.text


# -------- A lag is small only against what it does. ---------------------------
@pytest.mark.parametrize('lag', [1, 7, -7, 32])
def test_a_small_lag_is_taken_out(tmp_path, lag, caplog):
  dry, wet = sides(provider(tmp_path, music(), delayed(drive(music()), lag)))
  np.testing.assert_allclose(wet, drive(dry), atol=1e-5)
  side = 'late' if lag > 0 else 'early'
  assert f'{abs(lag)} samples {side}' in caplog.text
  caplog.clear()
  strict = provider(
    tmp_path, music(), delayed(drive(music()), lag), strict=True
  )
  np.testing.assert_array_equal(
    sides(strict)[1], delayed(drive(music()), lag).astype(np.float32)
  )
  assert f'{abs(lag)} samples {side}' in caplog.text  # but not in silence


def test_what_is_not_late_stays_as_it_is_and_nothing_is_said(tmp_path, caplog):
  dry = music()
  for wet in (dry, drive(dry), scipy.signal.lfilter([1], [1, -0.8], dry)):
    for strict in (False, True):
      found = provider(tmp_path, dry, wet, strict=strict)
      np.testing.assert_array_equal(sides(found)[1], np.float32(wet))
  assert 'late' not in caplog.text and 'early' not in caplog.text


def test_the_answer_of_a_filter_stays_causal(tmp_path):
  """A filter of linear phase is strongest in its middle, not at its start."""
  dry = np.random.default_rng(0).normal(0, 0.2, 2 * RATE).astype(np.float32)
  fir = np.hanning(17)[1:-1]
  wet = delayed(np.convolve(dry, fir)[: len(dry)], 50)
  ours, theirs = sides(provider(tmp_path, dry, wet))
  lag = len(dry) - len(ours)
  assert 48 <= lag <= 52  # its middle is at 57
  # Of a filter whose start is strongest, as of an amplifier: the whole lag.
  late = delayed(scipy.signal.lfilter([1], [1, -0.5], dry), 50)
  assert len(dry) - len(sides(provider(tmp_path, dry, late))[0]) == 50


@pytest.mark.parametrize('lag', [0, 12])
def test_the_start_is_found_in_audio_of_a_narrow_band(lag):
  sos = scipy.signal.butter(8, 3000.0, fs=RATE, output='sos')
  dry = scipy.signal.sosfilt(sos, music())[:, np.newaxis]
  wet = delayed(drive(dry[:, 0]), lag)[:, np.newaxis]
  assert align.causal_lag(dry, wet, RATE, lag) == lag


def test_blips_come_before_correlation(tmp_path):
  lead = np.zeros(RATE)
  lead[RATE // 2] = 0.9
  dry = np.concatenate([lead, music()])
  found = provider(tmp_path, dry, delayed(drive(dry), 37))
  assert len(sides(found)[0]) == len(dry) - 37


def test_where_the_lag_cannot_be_told_it_is_said(tmp_path, caplog):
  dry = music()
  other = np.random.default_rng(1).normal(0, 0.1, len(dry))
  found = provider(tmp_path, dry, other)
  np.testing.assert_array_equal(sides(found)[1], np.float32(other))
  assert 'is late cannot be told' in caplog.text


def test_a_lag_is_left_where_it_shall_be(tmp_path):
  wet = delayed(drive(music()), 300)
  with pytest.raises(ValueError, match='Set align=True|Shift it by that'):
    provider(tmp_path, music(), wet, align=False)
  provider(tmp_path, music(), wet, align=True)  # the remedy
  np.testing.assert_array_equal(
    sides(provider(tmp_path, music(), drive(music()), align=False))[0], music()
  )


def test_short_and_silent_captures_are_named(tmp_path):
  with pytest.raises(ValueError, match='wet.wav is silent'):
    provider(tmp_path, music(), 0 * music())
  for n_samples in (1, 2, 5, 50):
    with pytest.raises(ValueError, match='less than the crop'):
      provider(tmp_path, music()[1000:][:n_samples], music()[1000:][:n_samples])


def test_pairs_that_are_not_recordings_are_not_cut(tmp_path):
  dry, wet = music(), delayed(drive(music()), 300)
  paths = []
  for name, audio in (('dry', dry), ('wet', wet)):
    paths.append(tmp_path / f'{name}.wav')
    soundfile.write(paths[-1], np.float32(audio), RATE, 'FLOAT')
  pair = reading.read_pair(*paths, mend=reading.MENDABLE)
  np.testing.assert_array_equal(pair.target[:, 0], np.float32(wet))
  assert not pair.latency and not pair.notes


# -------- Standard inputs are known by their blips. ---------------------------
@pytest.mark.parametrize(
  'known', captures.STANDARD_INPUTS, ids=lambda k: k.name
)
def test_standard_inputs_are_known_at_any_rate(known):
  n_samples = known.blips[-1] + 40_000
  dry = np.zeros(n_samples)
  dry[list(known.blips)] = 0.9
  if known.name == 'Proteus':
    dry[0] = 0.9  # a blip without quiet before, which tells nothing
  # Music, as before the blips of v3.
  start = max(known.blips[0] - 24_000, 0)
  dry[:start] = 0.1 * np.random.default_rng(0).standard_normal(start)
  for rate in (known.sample_rate, 16000, 44100, 96000):
    resampled = np.zeros(round(n_samples * rate / known.sample_rate) + 1)
    for at in np.flatnonzero(np.abs(dry) > 0.5):
      resampled[round(at * rate / known.sample_rate)] = 0.9
    found, blips = captures.find_standard(resampled, rate)
    assert found is known
    want = [round(b * rate / known.sample_rate) for b in known.blips]
    assert blips == want
  assert captures.find_standard(dry[1000:], known.sample_rate) is None


def v3(seconds=3.0):
  """A short one: validation, silence, blips, music, validation again."""
  head = music(9.0)
  quiet = np.zeros(3 * RATE)
  quiet[[RATE + RATE // 2, 2 * RATE + RATE // 2]] = 0.9
  return np.concatenate([head, quiet, music(seconds, seed=1), head])


def test_the_standard_input_of_nam_is_taken(tmp_path, caplog):
  dry = v3()
  ours, wet = sides(provider(tmp_path, dry, delayed(drive(dry), 37)))
  # What comes again at the end is not trained on.
  np.testing.assert_allclose(ours, dry[10 * RATE : len(dry) - 37], atol=1e-7)
  np.testing.assert_allclose(wet, drive(ours), atol=1e-6)
  assert 'is the standard input v3 of Neural Amp Modeler' in caplog.text
  assert 'its first 10.00 s are left out' in caplog.text
  assert 'came back differently' not in caplog.text
  caplog.clear()
  gain = np.linspace(1.0, 0.5, len(dry))  # a knob that is turned
  provider(tmp_path, dry, gain * delayed(drive(dry), 37))
  assert 'came back differently (ESR 0.' in caplog.text


# -------- What is wrong with a recording is said, once and in numbers. --------
def test_clipped_and_silent_stretches_are_reported(tmp_path, caplog):
  dry = music(4.0)
  wet = drive(dry)
  provider(tmp_path, dry, wet)
  assert 'clipped' not in caplog.text and 'silent' not in caplog.text
  loud = np.clip(20.0 * wet, -1.0, 1.0)
  provider(tmp_path, dry, loud)
  assert 'samples of the target are clipped, the first at 0.0' in caplog.text
  caplog.clear()
  wet[2 * RATE : 3 * RATE] = 1e-6
  provider(tmp_path, dry, wet)
  assert 'the target is silent from 2.0 to 3.0 s' in caplog.text
  caplog.clear()
  dry[2 * RATE : 3 * RATE] = 1e-6  # so is the input
  provider(tmp_path, dry, wet)
  assert 'silent' not in caplog.text
