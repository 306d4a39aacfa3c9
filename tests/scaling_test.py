"""What a step of several workers is said to take."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'benchmarks'))

import cost_model  # noqa: E402
import simulated  # noqa: E402


@pytest.mark.parametrize(
  'calls, busy',
  [
    # Three plugins, 32 items, two probes: 9 / 2 waves of 64, in 5.
    ([(i, n, n > 32) for i in range(3) for n in (32, 64)], 0.9),
    ([(0, 64, False), (1, 64, False)], 1.0),
    ([(0, 16, False), (1, 16, False)], 0.25),
    # The plugin after comes before what is left of the probes.
    ([(0, 64, False), (0, 32, True), (1, 32, False)], 1.0),
  ],
)
def test_threads_can_be_as_busy_as_dependencies_allow(calls, busy):
  calls = [simulated.Call(*call) for call in calls]
  found = simulated.most_busy(calls, [2.0] * 3, 64)
  assert found == pytest.approx(busy)


def test_a_step_is_its_work_and_what_the_chain_leaves_idle():
  renders = [2.0, 3.0]
  calls = [
    simulated.Call(0, 8, is_ahead=False),
    simulated.Call(0, 16, is_ahead=True),
    simulated.Call(1, 8, is_ahead=False),
  ]
  rest = cost_model.Rest(10.0, 12.0)
  work = 2.0 * 24 + 3.0 * 8 + 12.0
  for n_processors, chain in [(0.5, 0.0), (1, 0.0), (2, 7.5), (4, 11.25)]:
    assert cost_model.predict(renders, calls, rest, 1.0, n_processors) == (
      work / n_processors,
      chain,
      1.0,
    )
  # With any number of processors, one render of each plugin after the other.
  found = sum(cost_model.predict(renders, calls, rest, 0.0, 1e9))
  assert found == pytest.approx(2.0 + 3.0 + 10.0)
