"""Tests of matching: settings that are known are found again."""

import numpy as np
import pytest
import scipy.signal

from dafx import effects, metrics, processors
from dafx.training import matching
from dafx.training.matching import chain as chain_lib
from dafx.training.matching import distances, newton, pairing, result
from dafx.training.matching import problem as problem_lib

RATE = 22050
TEST = 'urn:dafx-test:'


def music(n_samples=2 * RATE, n_channels=1, seed=0):
  """Returns plucked noise of falling spectrum, [n_samples, n_channels]."""
  rng = np.random.default_rng(seed)
  noise = rng.standard_normal([n_samples, n_channels])
  noise = scipy.signal.lfilter([1.0], [1.0, -0.7], noise, axis=0)
  starts = np.sort(rng.integers(0, n_samples, 12))
  envelope = np.full(n_samples, 0.02)
  for start in starts:
    decay = np.exp(-np.arange(n_samples - start) / (0.1 * RATE))
    envelope[start:] += rng.uniform(0.2, 1.0) * decay
  audio = noise * envelope[:, np.newaxis]
  return np.float32(0.1 * audio / np.sqrt(np.mean(audio**2)))


def plugin(name, ranges=None, **kwargs):
  return effects.LV2Plugin(
    TEST + name, ranges=ranges, sample_rate=RATE, name=name, **kwargs
  )


def gain_and_filter():
  return [
    plugin('onepole', {'amount': (0.0, 0.9)}),
    plugin('gain', {'amount': (0.1, 4.0, 'log')}),
  ]


# ---------------------- Distances ---------------------------------------------
def test_distance_is_the_metric_and_its_gradient_is_right():
  target, audio = (music(8000, seed=s).T for s in (0, 1))
  distance = distances.Distance(
    target, np.ones(1), RATE, 1, spectrum_weight=0.0, crest_weight=0.0
  )
  expected = metrics.multi_scale_spectral(target[0], audio[0])
  slope = np.zeros_like(audio)
  assert distance(audio, slope) == pytest.approx(expected, rel=1e-4)
  audio = np.float64(audio)  # in which small moves show
  move = 1e-6 * slope / np.linalg.norm(slope)
  after = metrics.multi_scale_spectral(target[0], (audio + move)[0])
  before = metrics.multi_scale_spectral(target[0], (audio - move)[0])
  assert np.vdot(slope, move) == pytest.approx((after - before) / 2, rel=2e-3)


def test_distance_adds_errors_of_spectrum_and_crest_in_db():
  target, audio = (music(20000, seed=s).T for s in (0, 1))
  plain, whole = (
    distances.Distance(target, np.ones(1), RATE, 1, *weights)(audio)
    for weights in ((0.0, 0.0), (0.5, 0.25))
  )
  spectrum_db = metrics.average_spectrum_error_db(target[0], audio[0], RATE)
  crest_db = metrics.crest_error_db(target[0], audio[0])
  expected = 0.5 * spectrum_db + 0.25 * crest_db
  assert whole - plain == pytest.approx(expected, rel=0.02)


def test_bounded_step_is_newtons_where_no_bound_is_near():
  rng = np.random.default_rng(0)
  root = rng.standard_normal([3, 3])
  hessian, gradient = root @ root.T + np.eye(3), 0.05 * rng.standard_normal(3)
  model = distances.Model(1.0, gradient, hessian)
  step = newton.bounded_step(np.full(3, 0.5), model, 1e-9) - 0.5
  np.testing.assert_allclose(hessian @ step, -gradient, atol=1e-6)


def test_a_secant_carries_the_slopes_of_what_is_linear_and_finds_others():
  """Of a linear function they stay; along a move they are the differences."""
  rng = np.random.default_rng(0)
  slopes = rng.standard_normal([3, 5])
  secant = newton.Secant(n_carried=2)
  secant.measured(np.zeros(3), np.zeros(5), slopes)
  place = np.array([0.1, -0.2, 0.3])
  np.testing.assert_allclose(secant.carried(place, place @ slopes), slopes)
  other = place + np.array([0.1, 0.0, 0.0])
  found = secant.carried(other, place @ slopes + 1.0)
  np.testing.assert_allclose(found[0], np.full(5, 10.0))
  np.testing.assert_allclose(found[1:], slopes[1:])
  assert secant.carried(place, place @ slopes) is None


def test_loudness_alone_is_the_input_turned_to_the_loudness():
  target, audio = music(n_channels=2), 0.2 * music(n_channels=2, seed=3)
  target = np.float32(np.tanh(5 * target) + 0.1 * audio)
  alone = result.compare(target, audio, audio, RATE)['loudness']
  lufs = [metrics.loudness_lufs(x, RATE) for x in (target, audio)]
  louder = audio * np.float32(10 ** ((lufs[0] - lufs[1]) / 20))
  expected = result.measure(target, louder, RATE)
  assert alone.keys() == expected.keys()
  for name, value in expected.items():
    assert alone[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name


def test_latin_hypercube_has_one_in_each_part():
  points = newton.latin_hypercube(8, 3, seed=0)
  for column in (8 * points).astype(int).T:
    assert sorted(column) == list(range(8))


# ---------------------- Chains ------------------------------------------------
def test_a_linear_plugin_is_known_by_its_impulse_response():
  chain = chain_lib.Chain(
    chain_lib.make_group([*gain_and_filter(), plugin('square')])
  )
  chain.find_linear(2)
  assert [stage.is_linear for stage in chain.stages] == [True, True, False]
  audio, controls = music(9000, 2)[np.newaxis], np.array([0.4])
  stage = chain.stages[0]
  np.testing.assert_allclose(
    stage.convolve(audio, controls, 0),
    stage.render([audio], controls, 0),
    atol=1e-5,
  )


def test_only_what_depends_on_a_stage_is_rendered_again():
  group = chain_lib.make_group(gain_and_filter())
  chain = chain_lib.Chain(group)
  audio, point = music(1000)[np.newaxis], chain.start()
  known = chain.signals(audio, point)
  again = chain.signals(audio, point, known, first=1)
  assert again['onepole'] is known['onepole']
  assert again['gain'] is not known['gain']
  np.testing.assert_array_equal(again['gain'], known['gain'])


def test_a_setting_is_a_point_and_back():
  node = effects.DiscreteLV2Plugin(
    TEST + 'modal', {'mode': None}, sample_rate=RATE, name='modal'
  )
  chain = chain_lib.Chain(chain_lib.make_group([node]))
  point = chain_lib.Point(np.array([0.25]), (2,))
  again = chain.point(chain.setting(point))
  assert again.choices == (2,)
  np.testing.assert_allclose(again.controls, [0.25])
  assert chain.in_port_units(point)['modal']['mode'] == 2.0


# ---------------------- Pairs -------------------------------------------------
def test_lag_polarity_and_lengths_are_found_and_told():
  audio = music(4 * RATE)
  target = -np.concatenate([np.zeros([123, 1]), 0.5 * audio, audio[:RATE]])
  pair = pairing.make_pair(audio, np.float32(target[: 6 * RATE]), RATE)
  assert pair.lag_samples == pytest.approx(123, abs=0.1) and pair.is_inverted
  n = len(pair.audio)
  np.testing.assert_allclose(pair.target, 0.5 * pair.audio[:n], atol=1e-3)
  text = ' '.join(pair.doubts)
  assert '123.0 samples' in text and 'upside down' in text


def test_long_audio_is_searched_by_a_loud_and_a_quiet_part():
  loud = np.repeat([0.1, 1.0, 0.3, 0.1, 0.02], 4 * RATE)
  audio = np.float32(loud * np.random.default_rng(0).standard_normal(len(loud)))
  pair = pairing.make_pair(audio[:, np.newaxis], audio[:, np.newaxis], RATE)
  items, targets, lead = pairing.crops(pair, RATE)
  assert items.shape == (2, lead + 3 * RATE, 1)
  np.testing.assert_array_equal(items, targets)
  levels = np.sqrt(np.mean(items[:, lead:, 0] ** 2, axis=1))
  assert 0.05 < min(levels) < 0.2 and max(levels) == pytest.approx(1.0, rel=0.1)


def test_where_the_loud_part_leaves_no_room_both_ends_are_searched():
  times_s = np.arange(8 * RATE) / RATE
  bump = 0.1 + np.exp(-((times_s - 4.0) ** 2))
  audio = np.random.default_rng(0).standard_normal(len(bump)) * bump
  pair = pairing.make_pair(audio[:, np.newaxis], audio[:, np.newaxis], RATE)
  items, _, lead = pairing.crops(pair, RATE)
  assert items.shape == (2, lead + 3 * RATE, 1)
  np.testing.assert_array_equal(items[0], pair.audio[: lead + 3 * RATE])


def test_where_a_coded_file_ends_is_found():
  rate = 44100
  noise = np.random.default_rng(0).standard_normal([rate, 1])
  low = scipy.signal.ellip(10, 0.1, 80, 12000, output='sos', fs=rate)
  coded = scipy.signal.sosfilt(low, noise, axis=0)
  assert pairing.find_end_hz(noise, rate) == np.inf
  assert 11000 < pairing.find_end_hz(coded, rate) < 15000


def test_what_is_doubtful_of_a_pair_is_told():
  audio = music(10 * RATE, seed=1)

  def doubts(target, audio=audio):
    return ' '.join(pairing.make_pair(audio, np.float32(target), RATE).doubts)

  assert doubts(0.5 * audio) == ''
  assert '10.0 s, the target 13.0 s' in doubts(
    np.pad(audio, ((0, 3 * RATE), (0, 0)))
  )
  clipped = np.clip(audio, -0.2, 0.2)
  assert 'clipped at -14.0 dB' in doubts(audio, clipped)
  low = scipy.signal.ellip(10, 0.1, 80, 8500, output='sos', fs=RATE)
  coded = scipy.signal.sosfiltfilt(low, audio, axis=0)
  assert 'kHz the target has no content' in doubts(coded)
  # A clock that is 20 parts in a million off: 0.4 samples a second of 22,050.
  places = np.arange(len(audio)) * (1 + 2e-5)
  drifting = np.interp(places, np.arange(len(audio)), audio[:, 0])
  assert 'drifts by' in doubts(drifting[:, np.newaxis])


def test_another_tempo_is_refused():
  audio = music(10 * RATE, seed=1)
  places = np.arange(len(audio)) * 1.01
  faster = np.interp(places, np.arange(len(audio)), audio[:, 0])
  with pytest.raises(ValueError, match='at the same tempo.*--reference'):
    pairing.make_pair(audio, np.float32(faster[:, np.newaxis]), RATE)


# ---------------------- Matches -----------------------------------------------
def test_hidden_settings_are_found():
  audio = music(n_channels=2)
  filtered = scipy.signal.lfilter([1 - 0.6], [1.0, -0.6], audio, axis=0)
  found = matching.match(
    gain_and_filter(), audio, RATE, target=2.0 * filtered, time_limit_s=None
  )
  assert found.end == 'converged'
  assert found.controls['onepole']['amount'] == pytest.approx(0.6, abs=0.02)
  assert found.figures['result']['matched_mr_stft'] < 0.02
  assert found.figures['result']['loudness_error_lu'] < 0.1
  assert found.audio.shape == audio.shape
  steps = [step.distance for step in found.history if step.phase == 'fine']
  assert steps == sorted(steps, reverse=True)
  assert 'fell by' in found.verdict()


def test_the_same_search_finds_the_same():
  audio = music()
  results = [
    matching.match(
      gain_and_filter(),
      audio,
      RATE,
      target=0.3 * audio,
      max_renders=60,
      time_limit_s=None,
    ).controls  # fmt: skip
    for _ in range(2)
  ]
  assert results[0] == results[1]


def test_renders_end_a_search_with_the_best_so_far():
  audio = music()
  found = matching.match(
    gain_and_filter(), audio, RATE, target=0.3 * audio, max_renders=3,
    time_limit_s=None,
  )  # fmt: skip
  assert found.end == 'renders'
  assert found.history[-1].n_renders <= 3 if found.history else True


def test_an_interruption_keeps_the_best_so_far():
  audio = music()

  def interrupt(step):
    if step.phase == 'fine':
      raise KeyboardInterrupt

  found = matching.match(
    gain_and_filter(), audio, RATE, target=0.3 * audio, report=interrupt
  )
  assert found.end == 'interrupted'
  assert found.figures['result']['loudness_error_lu'] < 3.0


def test_controls_at_their_ends_are_told():
  audio = music()
  gain = [plugin('gain', {'amount': (0.5, 4.0, 'log')})]
  found = matching.match(gain, audio, RATE, target=0.1 * audio, max_renders=60,
                         time_limit_s=None)  # fmt: skip
  assert 'At an end of their range are gain/amount' in found.verdict()


def test_where_a_gain_is_all_that_is_said():
  audio = music()
  found = matching.match(
    gain_and_filter(), audio, RATE, target=0.3 * audio, max_renders=200,
    time_limit_s=None,
  )  # fmt: skip
  assert 'a gain in loudness is all there was to it' in found.verdict()
  assert 'further' not in found.verdict()


def test_single_values_are_searched():
  node = effects.DiscreteLV2Plugin(
    TEST + 'stepped', {'amount': None}, [], sample_rate=RATE, name='stepped'
  )
  audio = music()
  target = effects.LV2Plugin(
    TEST + 'stepped', [], {'amount': 8.0}, sample_rate=RATE
  ).render(audio[np.newaxis], np.zeros([1, 1, 0]))[0]
  found = matching.match([node], audio, RATE, target=target, time_limit_s=None)
  assert found.controls['stepped']['amount'] == 8.0


def test_effects_of_dafx_and_ddsp_are_nodes_too():
  trim = effects.Gain(name='trim')
  group = processors.ProcessorGroup(
    [
      (plugin('onepole', {'amount': (0.0, 0.9)}), ['audio', 'filter_controls']),
      (trim, ['onepole/signal', 'trim_controls']),
    ]
  )
  audio = music()
  found = matching.match(
    group, audio, RATE, target=0.25 * audio, time_limit_s=None
  )
  assert found.controls['trim']['gain_db'] == pytest.approx(-12.04, abs=0.1)
  assert found.controls['onepole']['amount'] == pytest.approx(0.0, abs=0.02)


# ---------------------- Bad input ---------------------------------------------
@pytest.mark.parametrize(
  'audio, target, message',
  [
    (music(2000), music(2000), 'input has 0.09 s.*at least'),
    (music(), 0.0 * music(), 'target is silent'),
    (music(n_channels=3), music(), r'input has shape .*mono or stereo'),
    (music(), np.nan * music(), 'target holds values'),
    (music(), music(seed=5), 'do not sound alike.*--reference'),
  ],
)
def test_bad_audio_is_refused(audio, target, message):
  with pytest.raises(ValueError, match=message):
    matching.match(gain_and_filter(), audio, RATE, target=target)


def test_a_graph_that_cannot_be_set_is_refused():
  with pytest.raises(ValueError, match='no nodes'):
    matching.match([], music(), RATE, target=music())
  with pytest.raises(ValueError, match='Nothing in the graph can be set'):
    matching.match(
      processors.ProcessorGroup([(plugin('gain', trainable=[]), ['audio'])]),
      music(), RATE, target=music(),
    )  # fmt: skip


def test_mono_and_stereo_are_compared_by_their_means():
  audio = music(n_channels=2)
  found = matching.match(
    gain_and_filter(), audio, RATE,
    target=0.5 * audio.mean(-1, keepdims=True), time_limit_s=None,
  )  # fmt: skip
  assert any('stereo' in doubt for doubt in found.doubts)
  assert found.controls['gain']['amount'] == pytest.approx(0.5, rel=0.02)


def test_a_budget_ends_by_its_clock():
  now = [0.0]
  budget = problem_lib.Budget(10.0, None, lambda: now[0])
  budget.spend(5)
  now[0] = 11.0
  with pytest.raises(problem_lib.OutOfBudgetError, match='time'):
    budget.spend(1)
