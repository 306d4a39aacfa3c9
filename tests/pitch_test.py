"""Pitch and loudness, against sounds whose pitch and loudness are known."""

import sys

import ddsp
import numpy as np
import pytest
import tensorflow as tf
from cases import some_quick

from dafx import pitch
from dafx.pitch import crepe, frames, partials, trackers

SR = 16000
RATE = 250


def cents(f0_hz, true_hz):
  return 1200.0 * np.log2(f0_hz / true_hz)


def tone(f0_hz, amplitudes, sample_rate=SR):
  """Returns partials of a pitch that may move, [n_samples]."""
  phase = 2.0 * np.pi * np.cumsum(f0_hz) / sample_rate
  sound = sum(
    a * np.sin(k * phase) * (k * f0_hz < 0.45 * sample_rate)
    for k, a in enumerate(amplitudes, start=1)
  )
  return (0.2 * sound).astype(np.float32)


def glide(low_hz, high_hz, n_samples):
  return low_hz * (high_hz / low_hz) ** (np.arange(n_samples) / n_samples)


SAW = [1.0 / k for k in range(1, 15)]
# A clarinet, whose odd partials are the strong ones; a flute; a trumpet, whose
# fundamental is not the strongest.
TIMBRES = {
  'saw': SAW,
  'odd': [1.0 / k if k % 2 else 0.05 / k for k in range(1, 15)],
  'flute': [1.0, 0.6, 0.1, 0.05, 0.02],
  'brass': [0.5, 0.9, 1.0, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1],
}


@pytest.mark.parametrize('timbre', TIMBRES)
@pytest.mark.parametrize('rate', [16000, 44100])
def test_pitch_of_vibrato_glide_and_noise_is_found(timbre, rate):
  n = 2 * rate
  times = np.arange(n) / rate
  f0 = glide(200.0, 700.0, n) * 2.0 ** (0.3 / 12 * np.sin(35.0 * times))
  noise = np.random.default_rng(0).normal(size=n)
  audio = tone(f0, TIMBRES[timbre], rate) + 1e-3 * noise
  found, confidence = pitch.estimate(audio, rate, RATE)
  assert found.shape == confidence.shape == (2 * RATE,)
  true = np.interp(np.arange(2 * RATE) / RATE, times, f0)
  inside = slice(20, -20)
  errors = np.abs(cents(found, true))[inside]
  assert np.median(errors) < 5.0
  assert np.mean(errors < 50.0) >= 0.98
  assert np.mean(confidence[inside] >= pitch.VOICED) >= 0.98


def test_partials_make_the_pitch_finer():
  f0 = glide(220.0, 440.0, 2 * SR)
  audio = tone(f0, SAW)
  true = f0[:: SR // RATE]
  raw, fine = (
    np.abs(cents(pitch.estimate(audio, SR, RATE, is_checked=c)[0], true))[
      20:-20
    ]
    for c in (False, True)
  )
  assert np.median(fine) < 0.5 * np.median(raw)
  assert np.median(fine) < 1.0


def times_of(audio):
  return frames.times_s(len(audio), SR, RATE)


@pytest.mark.parametrize('timbre', TIMBRES)
@pytest.mark.parametrize('octaves', [-2, -1, 0, 1])
def test_octaves_are_corrected(timbre, octaves):
  audio = tone(np.full(SR, 330.0), TIMBRES[timbre])
  wrong = np.full(RATE, 330.0 * 2.0**octaves)
  right = partials.correct_octaves(audio, wrong, times_of(audio), 40.0, 2000.0)
  assert np.all(right[10:-10] == 330.0)


def test_octaves_stay_within_the_bounds():
  audio = tone(np.full(SR, 330.0), SAW)
  wrong = np.full(RATE, 660.0)
  found = partials.correct_octaves(audio, wrong, times_of(audio), 400.0, 2000.0)
  assert np.all(found == 660.0)


@pytest.mark.parametrize('f0_hz', [60.0, 130.0, 440.0, 1800.0])
@pytest.mark.parametrize('off_cents', [-45.0, 0.0, 30.0])
def test_refining_finds_the_partials(f0_hz, off_cents):
  audio = tone(np.full(SR, f0_hz), SAW)
  off = np.full(RATE, f0_hz * 2.0 ** (off_cents / 1200))
  found = partials.refine(audio, off, times_of(audio))
  assert np.max(np.abs(cents(found, f0_hz))[20:-20]) < 1.0


def test_refining_leaves_what_has_no_partials():
  f0 = np.full(RATE, 300.0)
  silence = np.zeros(SR, np.float32)
  np.testing.assert_array_equal(
    partials.refine(silence, f0, times_of(silence)), f0
  )


def test_unvoiced_frames_have_no_confidence_and_a_pitch_between():
  note = tone(np.full(SR, 200.0), SAW), tone(np.full(SR, 400.0), SAW)
  audio = np.concatenate([note[0], np.zeros(SR, np.float32), note[1]])
  f0, confidence = pitch.estimate(audio, SR, RATE)
  assert np.all(confidence[RATE + 15 : 2 * RATE - 15] < pitch.VOICED)
  # The line begins and ends within 60 ms, each worth 76 cents, of the notes.
  middle = f0[RATE + RATE // 2]
  assert abs(cents(middle, np.sqrt(200.0 * 400.0))) < 76.0
  assert np.all(np.abs(cents(f0[20 : RATE - 20], 200.0)) < 5.0)


@pytest.mark.parametrize('sound', ['silence', 'noise', 'below', 'short'])
def test_what_has_no_pitch_is_unvoiced(sound):
  audio = {
    'silence': np.zeros(SR),
    'noise': 0.1 * np.random.default_rng(0).normal(size=SR),
    'below': tone(np.full(SR, 25.0), [1.0]),
    'short': np.zeros(10),
  }[sound]
  f0, confidence = pitch.estimate(audio, SR, RATE)
  assert len(f0) == -(-len(audio) * RATE // SR)
  assert np.mean(confidence < pitch.VOICED) > 0.97
  if sound in ('silence', 'short'):
    assert np.all(f0 == 0.0)


def test_frames_need_not_be_whole_samples():
  audio = tone(np.full(48000, 300.0), SAW, 48000)
  f0, _ = pitch.estimate(audio, 48000, 187.5)
  assert len(f0) == 188
  assert np.max(np.abs(cents(f0[10:-10], 300.0))) < 2.0
  assert pitch.loudness_db(audio, 48000, 187.5).shape == (188,)


def test_bounds_keep_a_tracker_from_octaves():
  audio = tone(np.full(SR, 150.0), SAW)
  f0, confidence = pitch.estimate(audio, SR, RATE, f_min_hz=200.0)
  voiced = confidence >= pitch.VOICED
  assert np.all(f0[voiced] >= 200.0 / 1.03)


def test_a_track_jumps_where_it_does_not_glide():
  track = trackers.Track(
    np.array([0.0, 0.1, 0.2, 0.3]),
    np.array([100.0, 105.0, 210.0, 220.0]),
    np.array([0.9, 0.9, 0.9, 0.1]),
  )
  f0, confidence = trackers.at_times(track, np.array([0.05, 0.14, 0.16, 0.24]))
  expected = [np.sqrt(100.0 * 105.0), 105.0, 210.0, 210.0]
  np.testing.assert_allclose(f0, expected)
  np.testing.assert_allclose(confidence, [0.9, 0.9, 0.9, 0.58])


@pytest.mark.slow
def test_pyin_tracks_too():
  f0 = glide(200.0, 300.0, SR)
  found, _ = pitch.estimate(tone(f0, SAW), SR, RATE, 'pyin', 100.0, 600.0)
  assert np.median(np.abs(cents(found, f0[:: SR // RATE]))[20:-20]) < 5.0


@pytest.mark.parametrize('viterbi', some_quick([False, True], [False]))
def test_crepe_tracks_sines(viterbi):
  times = np.arange(SR // 2) / SR
  for f0_hz in (110.0, 440.0, 1318.5):
    _, found, confidence, activations = crepe.predict(
      np.sin(2 * np.pi * f0_hz * times), SR, 'tiny', viterbi
    )
    assert activations.shape == (51, 360)
    assert np.median(np.abs(cents(found[10:-10], f0_hz))) < 8.0
    assert confidence[10:-10].mean() > 0.8


def test_crepe_frames_begin_or_lie_around():
  """Frames that begin at their time are those half a frame later."""
  audio = tone(glide(200.0, 400.0, SR), SAW)
  _, centred, _, _ = crepe.predict(audio, SR, 'tiny', step_size=32)
  _, begun, _, _ = crepe.predict(audio, SR, 'tiny', center=False, step_size=32)
  assert len(centred) == 1 + SR // 512 and len(begun) == 1 + (SR - 1024) // 512
  np.testing.assert_allclose(begun, centred[1 : 1 + len(begun)], rtol=1e-5)


def test_crepe_of_ddsp_is_there():
  f0 = glide(200.0, 300.0, SR)
  found, _ = pitch.estimate(tone(f0, SAW), SR, 100, 'crepe_tiny')
  assert np.median(np.abs(cents(found, f0[:: SR // 100]))[10:-10]) < 5.0
  audio = tf.Variable(tone(f0, SAW)[np.newaxis])
  loss = ddsp.losses.PretrainedCREPEEmbeddingLoss()
  with tf.GradientTape() as tape:
    value = loss(audio, 0.9 * tf.reverse(audio, [1]))
  gradient = tape.gradient(value, audio)
  assert np.isfinite(value) and np.all(np.isfinite(gradient))
  network = ddsp.spectral_ops.PretrainedCREPE('tiny', hop_size=160)
  f0_hz, _ = network.predict_f0_and_confidence(audio)
  assert np.median(np.abs(cents(f0_hz[0, :100], f0[::160])[10:-10])) < 10.0


def test_missing_weights_are_named(monkeypatch):
  with pytest.raises(ValueError, match="no capacity 'huge'"):
    crepe.weights_path('huge')
  monkeypatch.setattr(crepe.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ImportError, match='pip install ml-pitch-.*-crepe-small'):
    crepe.weights_path('small')
  with pytest.raises(ImportError, match='crepe.predict: .*-crepe-full'):
    sys.modules['crepe'].predict(np.zeros(2000), SR)


def test_a_missing_package_is_named(monkeypatch):
  monkeypatch.setattr(trackers.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ImportError, match='pip install swift-f0'):
    pitch.estimate(np.zeros(SR), SR, RATE)


@pytest.mark.parametrize(
  'arguments, message',
  [
    ({'tracker': 'yin'}, "no pitch tracker 'yin'; there are swift_f0, crepe"),
    ({'audio': np.zeros([SR, 2])}, r'shape \(16000, 2\).*mean of channels'),
    ({'audio': np.zeros(0)}, 'at least one sample'),
    ({'audio': np.array([0.0, np.nan])}, 'not finite'),
    ({'frame_rate': 0}, 'must be above 0'),
    ({'f_min_hz': 3000.0}, 'it finds pitches from 46.875 to 2093.75 Hz'),
    ({'f_min_hz': 200.0, 'f_max_hz': 210.0}, 'two semitones'),
  ],
)
def test_bad_arguments_are_refused(arguments, message):
  given = {'audio': np.zeros(SR), 'sample_rate': SR, 'frame_rate': RATE}
  with pytest.raises(ValueError, match=message):
    pitch.estimate(**{**given, **arguments})


@pytest.mark.parametrize('frame_rate', [50, 100, 250])
def test_loudness_is_that_of_ddsp(frame_rate):
  audio = tone(glide(100.0, 2000.0, SR), SAW)
  audio *= np.linspace(0.0, 1.0, SR, dtype=np.float32)
  found = pitch.loudness_db(audio, SR, frame_rate)
  expected = ddsp.spectral_ops.compute_loudness(audio, SR, frame_rate)
  np.testing.assert_allclose(found, expected[: len(found)], atol=2e-3)
  assert len(found) == frame_rate


def test_loudness_is_the_same_at_any_rate():
  at_16k, at_48k = (
    pitch.loudness_db(tone(np.full(rate, 500.0), SAW[:8], rate), rate, RATE)
    for rate in (16000, 48000)
  )
  np.testing.assert_allclose(at_48k[5:-5], at_16k[5:-5], atol=0.05)


def test_loudness_of_silence_is_the_floor():
  found = pitch.loudness_db(np.zeros(SR), SR, RATE)
  assert np.all(found == pitch.FLOOR_DB)
