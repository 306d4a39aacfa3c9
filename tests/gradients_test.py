"""Gradient estimators on black boxes whose gradient is known."""

import numpy as np
import pytest
import scipy.signal

from dafx import gradients

N_ITEMS, N_FRAMES, N_CONTROLS, HOP = 3, 4, 5, 8
N_SAMPLES = N_FRAMES * HOP


def rng(seed=0):
  return np.random.default_rng(seed)


class Box:
  """sum_p w[item, p, n] * shape(controls[frame(n) - delay, p])."""

  def __init__(self, shape=lambda u: u, delay=0):
    self.weights = rng(1).standard_normal((N_ITEMS, N_CONTROLS, N_SAMPLES))
    self.shape = shape
    self.delay = delay  # frames
    self.n_renders = 0

  def __call__(self, points, items):
    self.n_renders += len(points)
    per_frame = self.shape(np.asarray(points, np.float64))
    delayed = np.roll(per_frame, self.delay, axis=1)
    delayed[:, : self.delay] = 0.0
    held = np.repeat(delayed, HOP, axis=1)  # [n, n_samples, n_controls]
    return np.einsum('ntp,npt->nt', held, self.weights[items])

  def gradient(self, slope, cotangent):
    per_sample = self.weights * cotangent[:, np.newaxis]
    sums = per_sample.reshape(N_ITEMS, N_CONTROLS, N_FRAMES, HOP).sum(-1)
    sums = np.roll(np.moveaxis(sums, 1, 2), -self.delay, axis=1)
    if self.delay:
      sums[:, -self.delay :] = 0.0
    return sums * slope


def spsa(
  box, controls, cotangent, *, memory=1, seed=0, step=0, base=None,
  item_keys=None, symbols=None, **options
):  # fmt: skip
  """Returns the mean of SPSA's estimates."""
  return (
    gradients.Spsa(memory=memory, **options)
    .estimates(
      box,
      controls,
      cotangent,
      signal=base,
      seed=seed,
      step=step,
      item_keys=item_keys,
      symbols=symbols,
    )
    .mean(0)
  )


def central_differences(box, controls, cotangent, symbols=None, **options):
  """Returns the gradient by central differences."""
  estimator = gradients.CentralDifferences(**options)
  (found,) = estimator.estimates(box, controls, cotangent, symbols=symbols)
  return found


def reversal_adjoint(render, audio, cotangent, **options):
  """Returns the gradient to the audio by time reversal."""
  adjoint = gradients.Reversal(**options)
  return adjoint.pull_back(render, audio, cotangent, sample_rate=22050)[0]


def gain_filter_adjoint(render, audio, cotangent):
  """Returns the gradient to the audio of a gain that rides on a filter."""
  adjoint = gradients.GainFilter()
  return adjoint.pull_back(render, audio, cotangent, sample_rate=22050)[0]


def straight_through(cotangent, n_in):
  """Returns the gradient to audio of n_in channels, of a wire."""
  audio = np.zeros((*cotangent.shape[:2], n_in))
  wire = gradients.StraightThrough()
  return wire.pull_back(None, audio, cotangent, sample_rate=22050)[0]


def cotangent():
  return rng(2).standard_normal((N_ITEMS, N_SAMPLES))


def interior():
  return rng(3).uniform(0.2, 0.8, (N_ITEMS, N_FRAMES, N_CONTROLS))


# --------------------------------------------------- Central differences ----
@pytest.mark.parametrize('delay', [0, 1])
def test_central_differences_are_exact_for_linear_boxes(delay):
  box, controls = Box(delay=delay), interior()
  controls[0, 0, 0], controls[1, 1, 1] = 0.0, 1.0
  got = central_differences(box, controls, cotangent(), epsilon=0.1)
  np.testing.assert_allclose(got, box.gradient(1.0, cotangent()), atol=1e-9)


def test_central_differences_are_exact_for_quadratic_boxes_inside():
  box, controls = Box(np.square), interior()
  got = central_differences(box, controls, cotangent(), epsilon=0.1)
  expected = box.gradient(2 * controls, cotangent())
  np.testing.assert_allclose(got, expected, atol=1e-9)


def test_central_differences_cost_two_renders_per_entry():
  box = Box()
  central_differences(box, interior(), cotangent())
  assert box.n_renders == 2 * N_ITEMS * N_FRAMES * N_CONTROLS


# ------------------------------------------------------------------ SPSA ----
@pytest.mark.parametrize(
  'options',
  [dict(n_probes=2), dict(sides=1, memory='auto'), dict(hold=2, n_probes=3)],
)
@pytest.mark.parametrize('n_frames', [1, N_FRAMES])
def test_probes_are_known_before_the_cotangent(options, n_frames):
  calls, controls = [], interior()[:, :n_frames]
  drawing = dict(
    measure_memory=lambda n_samples, n_frames: 1,
    seed=2,
    step=3,
    item_keys=(5, 0, 7),
  )

  def box(points, items):
    calls.append((points, items))
    return np.zeros((len(points), N_SAMPLES))

  estimator = gradients.Spsa(**options)
  ahead = estimator.points_ahead(controls, N_SAMPLES, **drawing)
  estimator.estimates(box, controls, cotangent(), **drawing)
  for found, expected in zip(ahead, calls[0], strict=True):
    np.testing.assert_array_equal(found, expected)


def test_an_estimator_need_not_say_what_it_renders():
  estimator = gradients.CentralDifferences()
  assert estimator.points_ahead(interior(), N_SAMPLES) is None
  nothing = np.zeros((N_ITEMS, N_FRAMES, 0))
  assert gradients.Spsa(memory=1).points_ahead(nothing, N_SAMPLES) is None


def mean_and_error(estimate, n=400):
  draws = np.stack([estimate(step) for step in range(n)])
  return draws.mean(0), draws.std(0, ddof=1) / np.sqrt(n)


def assert_unbiased(estimate, expected):
  """The mean over steps is within 5 standard errors, in all entries."""
  mean, error = mean_and_error(estimate)
  assert (np.abs(mean - expected) <= 5 * error + 1e-9).all()
  # And that says something: the error is smaller than the gradient.
  assert np.median(error) < 0.3 * np.median(np.abs(expected))


@pytest.mark.parametrize('directions', gradients.DIRECTIONS)
@pytest.mark.parametrize('place', ['inside', 'at 0', 'at 1'])
def test_spsa_is_unbiased_for_linear_boxes(directions, place):
  controls = interior()
  if place != 'inside':
    controls[:] = float(place[-1])
  box = Box()

  def estimate(step):
    return spsa(
      box, controls, cotangent(), memory=0, directions=directions, step=step
    )

  assert_unbiased(estimate, box.gradient(1.0, cotangent()))


def test_spsa_is_unbiased_for_saturating_and_delayed_boxes():
  controls = interior()
  box = Box(np.tanh, delay=1)

  def estimate(step):
    return spsa(box, controls, cotangent(), memory=1, epsilon=0.001, step=step)

  slope = 1 - np.tanh(controls) ** 2
  assert_unbiased(estimate, box.gradient(slope, cotangent()))


def test_whole_item_credit_is_unbiased_too_but_noisier():
  box, controls = Box(), interior()
  expected = box.gradient(1.0, cotangent())

  def errors(memory):
    return mean_and_error(
      lambda step: spsa(box, controls, cotangent(), memory=memory, step=step)
    )

  whole, whole_error = errors(None)
  assert (np.abs(whole - expected) <= 5 * whole_error).all()
  assert whole_error.mean() > 1.5 * errors(0)[1].mean()


def test_hadamard_probes_are_exact_for_static_linear_boxes():
  weights = rng(1).standard_normal((N_CONTROLS, N_SAMPLES))

  def box(points, items):
    del items
    return points[:, 0] @ weights

  controls = interior()[:, :1]
  controls[0, 0, :2] = 0.0, 1.0
  expected = cotangent() @ weights.T
  # 8 probes: the power of two from 5 controls on.
  got = spsa(box, controls, cotangent(), n_probes=8)
  np.testing.assert_allclose(got[:, 0], expected, atol=1e-9)
  rademacher = spsa(
    box, controls, cotangent(), n_probes=8, directions='rademacher'
  )
  assert np.abs(rademacher[:, 0] - expected).max() > 0.1


def test_spsa_divides_by_the_step_taken_at_the_bounds():
  controls = np.zeros((N_ITEMS, 1, 1))
  controls[1], controls[2] = 0.995, 1.0
  got = spsa(
    lambda points, items: np.repeat(points[:, :, 0], N_SAMPLES, axis=1),
    controls,
    np.ones((N_ITEMS, N_SAMPLES)),
    epsilon=0.01,
  )
  np.testing.assert_allclose(got, N_SAMPLES)


def test_spsa_costs_two_renders_per_probe():
  box = Box()
  spsa(box, interior(), cotangent(), n_probes=3)
  assert box.n_renders == 2 * 3 * N_ITEMS


def test_spsa_draws_by_seed_step_and_item():
  controls, g = interior()[:1].repeat(N_ITEMS, 0), cotangent()[:1]
  box = Box()
  box.weights[:] = box.weights[:1]

  def run(**kwargs):
    return spsa(box, controls, g.repeat(N_ITEMS, 0), **kwargs)

  first = run(seed=1, step=2)
  np.testing.assert_array_equal(first, run(seed=1, step=2))
  assert (first != run(seed=2, step=2)).any()
  assert (first != run(seed=1, step=3)).any()
  # Items alike in all but their place draw different directions.
  assert (first[0] != first[1]).any() and (first[1] != first[2]).any()


def test_directions_of_a_frame_are_orthogonal():
  drawn = gradients.draw_directions('hadamard', 8, 6, 8, 0, 0, 0)
  assert set(np.unique(drawn)) == {-1.0, 1.0}
  for frame in range(6):
    probes = drawn[:, frame]  # [8, 8]
    np.testing.assert_array_equal(probes @ probes.T, 8 * np.eye(8))
    np.testing.assert_array_equal(probes.T @ probes, 8 * np.eye(8))


def test_frame_credit_in_closed_form():
  products = np.arange(10.0)[np.newaxis]  # hop 4: frames 0-3, 4-7, 8-9
  assert gradients.frame_credit(products, 3, 0).tolist() == [[6, 22, 17]]
  assert gradients.frame_credit(products, 3, 1).tolist() == [[28, 39, 17]]
  assert gradients.frame_credit(products, 3, None).tolist() == [[45, 39, 17]]


def test_no_controls_have_no_gradient():
  got = spsa(Box(), np.zeros((3, 2, 0)), cotangent())
  assert got.shape == (3, 2, 0)


def test_permuted_batch_has_permuted_gradients():
  order = [2, 0, 1]
  box, controls, g = Box(), interior(), cotangent()
  whole = spsa(box, controls, g, step=5)
  permuted = spsa(
    lambda points, items: box(points, np.array(order)[items]),
    controls[order],
    g[order],
    step=5,
    item_keys=order,
  )
  np.testing.assert_array_equal(permuted, whole[order])


# ------------------------------------------- One-sided, sizes, held frames ----
@pytest.mark.parametrize('place', ['inside', 'at 0', 'at 1'])
def test_one_sided_spsa_is_unbiased_for_linear_boxes(place):
  controls = interior()
  if place != 'inside':
    controls[:] = float(place[-1])
  box = Box()

  def estimate(step):
    return spsa(box, controls, cotangent(), memory=0, sides=1, step=step)

  assert_unbiased(estimate, box.gradient(1.0, cotangent()))


def test_one_sided_spsa_is_exact_with_all_directions_and_at_bounds():
  weights = rng(1).standard_normal((N_CONTROLS, N_SAMPLES))

  def box(points, items):
    del items
    return points[:, 0] @ weights

  controls = interior()[:, :1]
  controls[0, 0, :2] = 0.0, 1.0
  expected = cotangent() @ weights.T
  got = spsa(box, controls, cotangent(), n_probes=8, sides=1)
  np.testing.assert_allclose(got[:, 0], expected, atol=1e-9)


def test_one_sided_spsa_costs_one_render_where_the_base_is_known():
  controls = interior()
  box = Box()
  base = box(controls, np.arange(N_ITEMS))
  expected = spsa(box, controls, cotangent(), sides=1, n_probes=3)
  box.n_renders = 0
  got = spsa(box, controls, cotangent(), sides=1, n_probes=3, base=base)
  assert box.n_renders == 3 * N_ITEMS
  np.testing.assert_array_equal(got, expected)
  # An item at a bound is compared with a signal from inside.
  controls[1, 0, 0] = 0.0
  box.n_renders = 0
  spsa(box, controls, cotangent(), sides=1, n_probes=3, base=base)
  assert box.n_renders == 3 * N_ITEMS + 1


def test_one_sided_error_is_of_first_order_and_two_sided_of_second():
  controls = np.full((1, 1, 1), 0.5)

  def box(points, items):
    del items
    return np.repeat(np.exp(points[:, :, 0]), N_SAMPLES, axis=1)

  def error(sides, epsilon):
    got = spsa(
      box, controls, np.ones((1, N_SAMPLES)), sides=sides, epsilon=epsilon
    )
    return abs(got[0, 0, 0] - N_SAMPLES * np.exp(0.5))

  np.testing.assert_allclose(error(1, 0.02) / error(1, 0.01), 2, rtol=0.02)
  np.testing.assert_allclose(error(2, 0.02) / error(2, 0.01), 4, rtol=0.02)


def test_each_control_has_a_size_of_its_own():
  seen = []

  def box(points, items):
    seen.append(points)
    return Box()(points, items)

  sizes = [0.001, 0.01, 0.1, 0.2, 0.02]
  options = dict(
    symbols='abcde', epsilon=0.01, epsilons=dict(a=0.001, c=0.1, d=0.2, e=0.02)
  )
  controls = interior()
  for sides in (1, 2):
    spsa(box, controls, cotangent(), sides=sides, **options)
    moved = np.abs(seen[0][:N_ITEMS] - controls)
    np.testing.assert_allclose(moved, np.broadcast_to(sizes, controls.shape))
    seen.clear()
  exact = central_differences(Box(), controls, cotangent(), **options)
  np.testing.assert_allclose(exact, Box().gradient(1.0, cotangent()), atol=1e-9)


def test_sizes_decay_as_spall_has_it():
  estimator = gradients.Spsa(
    epsilon=0.1, epsilons={'b': 0.2}, epsilon_decay=0.5, epsilon_decay_steps=10
  )
  np.testing.assert_array_equal(estimator.epsilons_at('ab', 0), [0.1, 0.2])
  np.testing.assert_allclose(estimator.epsilons_at('ab', 30), [0.05, 0.1])
  seen = []

  def box(points, items):
    seen.append(points)
    return np.zeros((len(points), N_SAMPLES))

  spsa(
    box, np.full((1, 1, 1), 0.5), np.ones((1, N_SAMPLES)), step=30,
    epsilon=0.1, epsilon_decay=0.5, epsilon_decay_steps=10,
  )  # fmt: skip
  np.testing.assert_allclose(np.abs(seen[0] - 0.5), 0.05)
  assert gradients.Spsa(epsilon=0.02).epsilons_at('a', 10**6) == [0.02]


def test_held_frames_share_the_gradient_of_their_block():
  controls, box = interior(), Box()
  exact = box.gradient(1.0, cotangent())  # 4 frames
  blocks = [exact[:, :3].mean(1, keepdims=True), exact[:, 3:]]
  expected = np.concatenate([np.repeat(blocks[0], 3, axis=1), blocks[1]], 1)

  def estimate(step):
    return spsa(box, controls, cotangent(), memory=0, hold=3, step=step)

  assert_unbiased(estimate, expected)
  # The directions themselves are held.
  seen = []

  def spy(points, items):
    seen.append(points - controls[items])
    return box(points, items)

  spsa(spy, controls, cotangent(), hold=3)
  np.testing.assert_array_equal(np.sign(seen[0][:, 0]), np.sign(seen[0][:, 2]))
  assert (np.sign(seen[0][:, 2]) != np.sign(seen[0][:, 3])).any()


def test_held_frames_have_less_noise_where_the_gradient_is_slow():
  box = Box()
  box.weights[:] = box.weights[:, :, :1]
  g = np.ones((N_ITEMS, N_SAMPLES))
  exact = box.gradient(1.0, g)

  def error(hold):
    runs = [
      spsa(box, interior(), g, memory=1, hold=hold, step=s) - exact
      for s in range(50)
    ]
    return np.square(runs).mean()

  assert error(4) < 0.7 * error(1)


def test_smoothing_is_a_triangular_mean_over_frames():
  box, controls, g = Box(), interior(), cotangent()
  raw = spsa(box, controls, g, memory=0)
  smooth = spsa(box, controls, g, memory=0, smoothing=1)
  np.testing.assert_allclose(
    smooth[:, 1], (raw[:, 0] + 2 * raw[:, 1] + raw[:, 2]) / 4
  )
  np.testing.assert_allclose(smooth[:, 0], (2 * raw[:, 0] + raw[:, 1]) / 3)


def test_signal_to_noise_in_closed_form():
  noisy = rng(0).standard_normal((4, 5, 100, 2)) + [0.0, 1.0]
  ratio_db = gradients.signal_to_noise_db(noisy)
  # 2,000 samples of unit variance: the squared mean of 1 is 33 dB above.
  np.testing.assert_allclose(ratio_db[1], 10 * np.log10(2000), atol=0.5)
  assert -30.0 <= ratio_db[0] < 10.0
  assert np.isnan(gradients.signal_to_noise_db(np.ones((1, 1, 1, 3)))).all()


@pytest.mark.parametrize('shape', [(1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1)])
@pytest.mark.parametrize('sides', [1, 2])
def test_one_item_one_frame_one_control(shape, sides):
  n_items, n_frames, n_controls = shape
  weights = rng(1).standard_normal((n_controls, N_SAMPLES))

  def box(points, items):
    del items
    held = np.repeat(points, -(-N_SAMPLES // n_frames), axis=1)[:, :N_SAMPLES]
    return np.einsum('ntp,pt->nt', held, weights)

  controls = interior()[:n_items, :n_frames, :n_controls]
  g = cotangent()[:n_items]
  exact = central_differences(box, controls, g)
  found = spsa(box, controls, g, n_probes=8, sides=sides, memory=0, hold=1)
  np.testing.assert_allclose(found, exact, atol=1e-9)


# ---------------------------------------------------------------- Memory ----
def test_static_settings_are_probed_for_as_long_as_the_plugin_responds():
  # By samples of a frame: the frames after it that a response lasts in.
  memories = {1024: 5, 2048: 2, 4096: 1}
  asked = []

  def memory(n_samples, n_frames):
    asked.append(n_frames)
    return memories[n_samples // n_frames]

  assert gradients.frames_of_probes(memory, 16384, 9, 2) == 4
  assert asked == [16, 8, 4]
  assert gradients.frames_of_probes(memory, 2048, 9, 2) == 1
  assert gradients.frames_of_probes(memory, 16384, 9, 9) == 1


@pytest.mark.parametrize('delay', [0, 1, 3])
def test_memory_is_how_long_the_box_responds(delay):
  box = Box(delay=delay)
  box.weights = rng(1).standard_normal((2, N_CONTROLS, 10 * HOP))

  def render(points, items):
    return box(points, items)

  memory = gradients.response_memory(render, 2, 10, N_CONTROLS, HOP)
  assert memory == delay


def test_memory_of_a_box_that_does_nothing():
  memory = gradients.response_memory(
    lambda points, items: np.zeros((len(points), 80)), 2, 10, 3, 8
  )
  assert memory == 0


# --------------------------------------------------------------- Adjoint ----
def as_render(system):
  """Makes an AudioRender of a system that knows no controls."""

  def render(audio, items, backwards):
    del items, backwards
    return system(audio)

  return render


def butterworth(signals):
  b, a = scipy.signal.butter(3, [0.1, 0.4], 'band')
  return scipy.signal.lfilter(b, a, signals, axis=1)


@pytest.mark.parametrize('epsilon', [0.01, 1.0])
@pytest.mark.parametrize('shape', [(2,), (2, 1)])
def test_adjoint_identity_for_a_linear_filter(epsilon, shape):
  # A state that has died out at the end: zeros behind the signal.
  n_samples, n_tail = 400, 600
  audio, v, g = rng(4).standard_normal(
    (3, shape[0], n_samples + n_tail, *shape[1:])
  )
  v[:, n_samples:] = 0
  g[:, n_samples:] = 0
  adjoint = reversal_adjoint(as_render(butterworth), audio, g, epsilon=epsilon)
  assert adjoint.shape == audio.shape
  np.testing.assert_allclose(
    (g * butterworth(v)).sum(1), (adjoint * v).sum(1), rtol=1e-6
  )


@pytest.mark.parametrize('n_in, n_out', [(1, 2), (2, 1), (2, 2), (2, 3)])
def test_adjoint_identity_between_channels(n_in, n_out):
  # Each output hears each input through a filter of its own.
  kernels = rng(3).standard_normal((n_out, n_in, 20))

  def mixer(signals):
    wet = np.stack(
      [
        sum(
          scipy.signal.lfilter(kernels[o, i], 1, signals[..., i], axis=1)
          for i in range(n_in)
        )
        for o in range(n_out)
      ],
      axis=-1,
    )
    return wet

  audio, v = rng(4).standard_normal((2, 2, 300, n_in))
  g = rng(5).standard_normal((2, 300, n_out))
  adjoint = reversal_adjoint(as_render(mixer), audio, g)
  np.testing.assert_allclose(
    (g * mixer(v)).sum((1, 2)), (adjoint * v).sum((1, 2)), rtol=1e-6
  )


def test_adjoint_under_controls_that_change():
  gains = np.repeat(rng(5).uniform(0.1, 2, (1, 6)), 10, axis=1)[..., np.newaxis]
  audio, g = rng(6).standard_normal((2, 1, 60))

  def render(signals, items, backwards):
    assert backwards and items.tolist() == [0, 0]
    return signals * gains[:, ::-1]

  adjoint = reversal_adjoint(render, audio, g)
  np.testing.assert_allclose(adjoint, gains[..., 0] * g, rtol=1e-9)


def test_adjoint_of_a_memoryless_nonlinearity():
  audio, g = rng(7).standard_normal((2, 2, 50))
  adjoint = reversal_adjoint(as_render(np.tanh), audio, g, epsilon=1e-4)
  np.testing.assert_allclose(adjoint, g * (1 - np.tanh(audio) ** 2), rtol=1e-5)


@pytest.mark.parametrize('adjoint', [reversal_adjoint, gain_filter_adjoint])
def test_adjoint_of_nothing_is_nothing(adjoint):
  audio = rng(8).standard_normal((2, 500))
  nothing = adjoint(as_render(np.tanh), audio, np.zeros((2, 500)))
  np.testing.assert_array_equal(nothing, 0)
  g = np.ones((2, 500))
  g[1, 3] = np.nan
  found = adjoint(as_render(np.tanh), audio, g)
  assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


def test_adjoint_of_silence():
  adjoint = reversal_adjoint(
    as_render(np.tanh), np.zeros((2, 50)), np.ones((2, 50))
  )
  np.testing.assert_allclose(adjoint, 1, rtol=1e-5)


def compressor(signals, ratio=8.0, seconds=0.01, rate=22050):
  """A feed-forward compressor of the power, in float64."""
  pole = np.exp(-1 / (seconds * rate))
  power = scipy.signal.lfilter([1 - pole], [1, -pole], signals**2, axis=1)
  over = np.maximum(power + 1e-12, 1e-4) / 1e-4
  return signals * over ** (0.5 * (1 / ratio - 1))


def test_gain_filter_is_exact_where_the_gain_stands_still():
  audio, v, g = rng(4).standard_normal((3, 2, 1500))
  found = gain_filter_adjoint(as_render(butterworth), audio, g)
  np.testing.assert_allclose(
    (g * butterworth(v)).sum(1), (found * v).sum(1), rtol=1e-3
  )


def test_gain_filter_follows_a_compressor_where_reversal_does_not():
  n = 8000
  level = np.exp(np.sin(np.arange(n) / 400)) * np.minimum(
    np.arange(n) / 1000, 1
  )
  audio = 0.3 * rng(4).standard_normal((1, n, 1)) * level[:, np.newaxis]
  g = compressor(audio) - butterworth(compressor(audio))
  render = as_render(compressor)
  directions = gradients.draw_audio_directions(audio, 24)
  slopes = gradients.measure_slopes(render, audio, g, directions, epsilon=1e-4)

  def agreement(gradient):
    return gradients.compare_with_slopes(gradient, directions, slopes)

  by_gain = agreement(gain_filter_adjoint(render, audio, g))
  by_reversal = agreement(reversal_adjoint(render, audio, g))
  assert by_gain.cosine > 0.96
  assert 0.9 < by_gain.factor < 1.1
  assert by_reversal.cosine < 0.9


def test_gain_filter_knows_latency_is_out_and_channels_are_linked():
  audio = 0.3 * rng(4).standard_normal((2, 3000, 2))
  g = rng(5).standard_normal((2, 3000, 2))
  found = gain_filter_adjoint(as_render(lambda x: 0.5 * x), audio, g)
  np.testing.assert_allclose(found, 0.5 * g, rtol=1e-3, atol=1e-3)


def test_wire():
  g = rng(0).standard_normal((2, 9, 2))
  np.testing.assert_array_equal(straight_through(g, 2), g)
  # From 1 to 2, v becomes [v, v]; from 2 to 1, the mean.
  np.testing.assert_allclose(straight_through(g, 1), g.sum(-1, keepdims=True))
  np.testing.assert_allclose(
    straight_through(g[..., :1], 2),
    np.repeat(g[..., :1] / 2, 2, axis=-1),
  )
  with pytest.raises(ValueError, match='from 2 channels to 3'):
    straight_through(g, 3)


# ---------------------------------------------------------------- Choice ----
def test_slopes_are_those_of_a_linear_system():
  audio, g = rng(4).standard_normal((2, 3, 400, 1))
  directions = gradients.draw_audio_directions(audio, 5, seed=1)
  assert directions.shape == (5, 3, 400, 1)
  slopes = gradients.measure_slopes(
    as_render(butterworth), audio, g, directions
  )
  expected = (g * [butterworth(v) for v in directions]).sum((2, 3))
  np.testing.assert_allclose(slopes, expected, rtol=1e-6, atol=1e-9)


def test_directions_to_audio_draw_by_seed_step_and_item():
  audio = rng(4).standard_normal((2, 400, 1))
  first = gradients.draw_audio_directions(audio, 3, seed=1, step=2)
  again = gradients.draw_audio_directions(audio, 3, seed=1, step=2)
  np.testing.assert_array_equal(first, again)
  for seed, step in ((2, 2), (1, 3)):
    other = gradients.draw_audio_directions(audio, 3, seed=seed, step=step)
    assert (other != first).any()
  level = np.sqrt(np.mean(first**2, axis=(2, 3)))
  expected = np.sqrt(np.mean(audio**2, axis=(1, 2)))
  np.testing.assert_allclose(level, np.broadcast_to(expected, level.shape))


def test_of_ways_that_are_alike_the_first_one_is_taken():
  audio, g = rng(4).standard_normal((2, 2, 400, 1))
  noisy = g + 0.02 * rng(5).standard_normal(g.shape)
  candidates = {
    'cheap': lambda render, audio, g, keys: noisy,
    'dear': lambda render, audio, g, keys: g,
  }
  found = gradients.choose_adjoint(
    as_render(lambda signals: signals), audio, g, candidates
  )
  assert list(found) == ['cheap', 'dear']
  assert found['cheap'].cosine < found['dear'].cosine


def test_the_best_candidate_comes_first_and_its_factor_mends_it():
  audio, g = rng(4).standard_normal((2, 6, 400, 1))
  g[3] = np.nan
  exact = reversal_adjoint
  candidates = {
    'wire': lambda render, audio, g, keys: g,
    'halved': lambda render, audio, g, keys: 0.5 * exact(render, audio, g),
    'reversed': lambda render, audio, g, keys: -exact(render, audio, g),
    'lost': lambda render, audio, g, keys: np.full(audio.shape, np.nan),
  }
  found = gradients.choose_adjoint(as_render(butterworth), audio, g, candidates)
  assert list(found)[0] == 'halved' and list(found)[-1] == 'reversed'
  np.testing.assert_allclose(found['halved'], [1.0, 2.0], rtol=1e-2)
  np.testing.assert_allclose(found['reversed'], [-1.0, -1.0], rtol=1e-2)
  assert found['lost'] == (0.0, 0.0)
  nothing = gradients.choose_adjoint(
    as_render(butterworth), audio, 0 * g, candidates
  )
  assert nothing == {}


def test_the_best_adjoint_keeps_what_it_has_chosen():
  render = as_render(lambda signals: 0.5 * butterworth(signals))
  audio, g = 0.3 * rng(4).standard_normal((2, 2, 900, 1))
  best = gradients.BestAdjoint(epsilons=(1.0,))
  options = dict(sample_rate=22050)
  first, state = best.pull_back(render, audio, g, **options)
  assert best.candidates(1, 1)[state.choice] == gradients.Reversal(1.0)
  assert state.report.startswith('by Reversal(epsilon=1.0), times')
  assert state.is_sure
  again, kept = best.pull_back(render, audio, g, state=state, step=1, **options)
  np.testing.assert_array_equal(again, first)
  assert kept == state._replace(report='')
  # What is no index of a candidate is chosen anew.
  lost = state._replace(choice=7)
  _, found = best.pull_back(render, audio, g, state=lost, step=1, **options)
  assert found.choice == state.choice
  with pytest.raises(ValueError, match='epsilons is empty'):
    gradients.BestAdjoint(epsilons=())
  with pytest.raises(ValueError, match='epsilon=-1.0 must be above 0'):
    gradients.BestAdjoint(epsilons=(0.1, -1.0))


def test_between_other_channels_only_what_takes_them_is_compared():
  best = gradients.BestAdjoint(epsilons=(0.1,))
  reversal, wire = gradients.Reversal(0.1), gradients.StraightThrough()
  assert best.candidates(1, 2) == [reversal, wire]
  assert best.candidates(2, 3) == [reversal]
  nothing = gradients.NoAudioGradient()
  assert not nothing.takes(1, 1)
  with pytest.raises(ValueError, match=r'NoAudioGradient\(\) does not pull'):
    nothing.pull_back(None, np.ones((1, 9)), np.ones((1, 9)), sample_rate=22050)


# ---------------------------------------------------------------- Faults ----
@pytest.mark.parametrize(
  'kwargs, message',
  [
    (dict(epsilon=0.0), 'epsilon=0.0'),
    (dict(epsilon=0.6), 'epsilon=0.6'),
    (dict(epsilons={'a': 0.0}), r"epsilons\['a'\]=0.0 must be above 0"),
    (dict(epsilons={'z': 0.1}, symbols='abcde'), "'z'.*not trainable"),
    (dict(epsilons={'z': 0.1}), "'z'.*trainable are 0, 1, 2"),
    (dict(epsilon_decay=-1), 'epsilon_decay=-1'),
    (dict(epsilon_decay_steps=0), 'epsilon_decay_steps=0 positive'),
    (dict(n_probes=0), 'n_probes=0'),
    (dict(hold=0), 'hold=0'),
    (dict(smoothing=-1), 'smoothing=-1'),
    (dict(sides=3), 'sides=3'),
    (dict(item_keys=[1, 2]), '2 item_keys for 3 items'),
    (dict(memory=-1), 'memory=-1'),
    (dict(memory='long'), "memory='long'"),
    (dict(memory='auto'), 'takes measure_memory'),
    (dict(directions='sobol'), 'sobol.*hadamard'),
    (dict(controls=np.full((3, 4, 5), 1.5)), '1.5 to 1.5'),
    (dict(controls=np.full((3, 4, 5), np.nan)), 'nan to nan'),
    (dict(controls=np.zeros((3, 5))), r'\(3, 5\)'),
    (dict(cotangent=np.zeros((2, N_SAMPLES))), '2 items'),
  ],
)
def test_wrong_arguments_are_named(kwargs, message):
  arguments = dict(box=Box(), controls=interior(), cotangent=cotangent())
  with pytest.raises(ValueError, match=message):
    spsa(**{**arguments, **kwargs})


def test_shapes_of_audio_that_do_not_fit():
  render = as_render(np.tanh)
  with pytest.raises(ValueError, match='from 2 channels to 1'):
    gain_filter_adjoint(render, np.ones((1, 9)), np.ones((1, 9, 2)))
  with pytest.raises(ValueError, match='as many items and samples'):
    reversal_adjoint(render, np.ones((1, 9)), np.ones((1, 8)))


# All items that are looked at may be of one part.
@pytest.mark.parametrize('loud', [slice(4, 5), slice(4, 8)])
def test_the_best_adjoint_of_parts_is_that_of_the_whole_batch(loud):
  """Machines that have parts of a batch choose alike, by the same items."""
  render = as_render(lambda signals: 0.5 * butterworth(signals))
  audio, g = 0.3 * rng(4).standard_normal((2, 8, 900, 1))
  g[loud] *= 3.0
  best = gradients.BestAdjoint(epsilons=(1.0,))
  options = dict(sample_rate=22050)
  whole, state = best.pull_back(render, audio, g, **options)
  rows: dict[int, list] = {}
  halves = [slice(0, 4), slice(4, 8)]

  def pull_back(part, found):
    """One half, which hears what both have said."""
    calls = iter(range(9))

    def gather(own):
      k = next(calls)
      found.setdefault(k, own)
      return np.concatenate([each[k] for each in said]) if said else own

    said = rows.get('said')
    return best.pull_back(
      render,
      audio[part],
      g[part],
      item_keys=range(part.start, part.stop),
      gather=gather,
      **options,
    )

  # What each says second depends on what all have said first.
  for _ in range(3):
    found = [{}, {}]
    parts = [pull_back(p, f) for p, f in zip(halves, found, strict=True)]
    rows['said'] = found
  gradient = np.concatenate([each for each, _ in parts])
  assert parts[0][1] == parts[1][1] == state
  np.testing.assert_array_equal(gradient, whole)
