"""What a step of several workers is said to take."""

import pathlib
import sys

import pytest
from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'benchmarks'))


@pytest.fixture
def scaling():
  """The benchmark, without its flags, which others have too."""
  before = set(flags.FLAGS)
  import scaling

  yield scaling
  for name in set(flags.FLAGS) - before:
    delattr(flags.FLAGS, name)


def test_a_step_is_its_work_and_what_the_chain_leaves_idle(scaling):
  renders = [2.0, 3.0]
  calls = [
    scaling.Call(0, 8, is_ahead=False),
    scaling.Call(0, 16, is_ahead=True),
    scaling.Call(1, 8, is_ahead=False),
  ]
  rest = scaling.Rest(10.0, 12.0)
  work = 2.0 * 24 + 3.0 * 8 + 12.0
  for n_processors, chain in [(0.5, 0.0), (1, 0.0), (2, 7.5), (4, 11.25)]:
    assert scaling.predict(renders, calls, rest, 1.0, n_processors) == (
      work / n_processors,
      chain,
      1.0,
    )
  # With any number of processors, one render of each plugin after the other.
  found = sum(scaling.predict(renders, calls, rest, 0.0, 1e9))
  assert found == pytest.approx(2.0 + 3.0 + 10.0)
