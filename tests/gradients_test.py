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


def cotangent():
  return rng(2).standard_normal((N_ITEMS, N_SAMPLES))


def interior():
  return rng(3).uniform(0.2, 0.8, (N_ITEMS, N_FRAMES, N_CONTROLS))


# --------------------------------------------------- Central differences ----
@pytest.mark.parametrize('delay', [0, 1])
def test_central_differences_are_exact_for_linear_boxes(delay):
  box, controls = Box(delay=delay), interior()
  controls[0, 0, 0], controls[1, 1, 1] = 0.0, 1.0
  got = gradients.central_differences(box, controls, cotangent(), epsilon=0.1)
  np.testing.assert_allclose(got, box.gradient(1.0, cotangent()), atol=1e-9)


def test_central_differences_are_exact_for_quadratic_boxes_inside():
  box, controls = Box(np.square), interior()
  got = gradients.central_differences(box, controls, cotangent(), epsilon=0.1)
  expected = box.gradient(2 * controls, cotangent())
  np.testing.assert_allclose(got, expected, atol=1e-9)


def test_central_differences_cost_two_renders_per_entry():
  box = Box()
  gradients.central_differences(box, interior(), cotangent())
  assert box.n_renders == 2 * N_ITEMS * N_FRAMES * N_CONTROLS


# ------------------------------------------------------------------ SPSA ----
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
    return gradients.spsa(
      box, controls, cotangent(), memory=0, directions=directions, step=step
    )

  assert_unbiased(estimate, box.gradient(1.0, cotangent()))


def test_spsa_is_unbiased_for_saturating_and_delayed_boxes():
  controls = interior()
  box = Box(np.tanh, delay=1)

  def estimate(step):
    return gradients.spsa(
      box, controls, cotangent(), memory=1, epsilon=0.001, step=step
    )

  slope = 1 - np.tanh(controls) ** 2
  assert_unbiased(estimate, box.gradient(slope, cotangent()))


def test_whole_item_credit_is_unbiased_too_but_noisier():
  box, controls = Box(), interior()
  expected = box.gradient(1.0, cotangent())

  def errors(memory):
    return mean_and_error(
      lambda step: gradients.spsa(
        box, controls, cotangent(), memory=memory, step=step
      )
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
  got = gradients.spsa(box, controls, cotangent(), n_probes=8)
  np.testing.assert_allclose(got[:, 0], expected, atol=1e-9)
  rademacher = gradients.spsa(
    box, controls, cotangent(), n_probes=8, directions='rademacher'
  )
  assert np.abs(rademacher[:, 0] - expected).max() > 0.1


def test_spsa_divides_by_the_step_taken_at_the_bounds():
  controls = np.zeros((N_ITEMS, 1, 1))
  controls[1], controls[2] = 0.995, 1.0
  got = gradients.spsa(
    lambda points, items: np.repeat(points[:, :, 0], N_SAMPLES, axis=1),
    controls,
    np.ones((N_ITEMS, N_SAMPLES)),
    epsilon=0.01,
  )
  np.testing.assert_allclose(got, N_SAMPLES)


def test_spsa_costs_two_renders_per_probe():
  box = Box()
  gradients.spsa(box, interior(), cotangent(), n_probes=3)
  assert box.n_renders == 2 * 3 * N_ITEMS


def test_spsa_draws_by_seed_step_and_item():
  controls, g = interior()[:1].repeat(N_ITEMS, 0), cotangent()[:1]
  box = Box()
  box.weights[:] = box.weights[:1]

  def run(**kwargs):
    return gradients.spsa(box, controls, g.repeat(N_ITEMS, 0), **kwargs)

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
  got = gradients.spsa(Box(), np.zeros((3, 2, 0)), cotangent())
  assert got.shape == (3, 2, 0)


# --------------------------------------------------------------- Adjoint ----
@pytest.mark.parametrize('epsilon', [0.01, 1.0])
def test_adjoint_identity_for_a_linear_filter(epsilon):
  b, a = scipy.signal.butter(3, [0.1, 0.4], 'band')
  # A state that has died out at the end: zeros behind the signal.
  n_samples, n_tail = 400, 600
  audio, v, g = rng(4).standard_normal((3, 2, n_samples + n_tail))
  v[:, n_samples:] = 0
  g[:, n_samples:] = 0

  def box(signals):
    return scipy.signal.lfilter(b, a, signals, axis=1)

  adjoint = gradients.reversal_adjoint(box, audio, g, epsilon=epsilon)
  np.testing.assert_allclose(
    (g * box(v)).sum(1), (adjoint * v).sum(1), rtol=1e-9
  )


def test_adjoint_under_controls_that_change():
  gains = np.repeat(rng(5).uniform(0.1, 2, (1, 6)), 10, axis=1)
  audio, g = rng(6).standard_normal((2, 1, 60))
  adjoint = gradients.reversal_adjoint(
    lambda signals: signals * gains[:, ::-1], audio, g
  )
  np.testing.assert_allclose(adjoint, gains * g, rtol=1e-9)


def test_adjoint_of_a_memoryless_nonlinearity():
  audio, g = rng(7).standard_normal((2, 2, 50))
  adjoint = gradients.reversal_adjoint(np.tanh, audio, g, epsilon=1e-4)
  np.testing.assert_allclose(adjoint, g * (1 - np.tanh(audio) ** 2), rtol=1e-5)


def test_adjoint_of_nothing_is_nothing():
  audio = rng(8).standard_normal((2, 50))
  adjoint = gradients.reversal_adjoint(np.tanh, audio, np.zeros((2, 50)))
  np.testing.assert_array_equal(adjoint, 0)
  silent = gradients.reversal_adjoint(
    np.tanh, np.zeros((2, 50)), np.ones((2, 50))
  )
  np.testing.assert_allclose(silent, 1, rtol=1e-5)


# ---------------------------------------------------------------- Faults ----
@pytest.mark.parametrize(
  'kwargs, message',
  [
    (dict(epsilon=0.0), 'epsilon=0.0'),
    (dict(epsilon=0.6), 'epsilon=0.6'),
    (dict(n_probes=0), 'n_probes=0'),
    (dict(memory=-1), 'memory=-1'),
    (dict(directions='sobol'), 'sobol.*hadamard'),
    (dict(controls=np.full((3, 4, 5), 1.5)), '1.5 to 1.5'),
    (dict(controls=np.full((3, 4, 5), np.nan)), 'nan to nan'),
    (dict(controls=np.zeros((3, 5))), r'\(3, 5\)'),
    (dict(cotangent=np.zeros((2, N_SAMPLES))), '2 items'),
  ],
)
def test_wrong_arguments_are_named(kwargs, message):
  arguments = dict(render=Box(), controls=interior(), cotangent=cotangent())
  with pytest.raises(ValueError, match=message):
    gradients.spsa(**{**arguments, **kwargs})


def test_adjoint_needs_as_many_channels_out_as_in():
  with pytest.raises(ValueError, match='as many channels'):
    gradients.reversal_adjoint(np.tanh, np.ones((1, 9)), np.ones((1, 9, 2)))
