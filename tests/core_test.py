"""Unit maps against their closed form."""

import types

import numpy as np
import pytest
import tensorflow as tf

from dafx import core, synths

LOW, HIGH = np.array([0.0, 20.0, -6.0]), np.array([2.0, 20000.0, 6.0])
IS_LOG = np.array([False, True, False])


@pytest.mark.parametrize('wrap', [np.asarray, tf.constant])
def test_ends_and_middle(wrap):
  unit = np.array([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]], np.float32)
  values = np.asarray(core.unit_to_range(wrap(unit), LOW, HIGH, IS_LOG))
  middle = [1.0, np.sqrt(20.0 * 20000.0), 0.0]
  np.testing.assert_allclose(values, [LOW, HIGH, middle], rtol=1e-5)


def test_inverse_and_slope():
  unit = np.random.default_rng(0).uniform(0.01, 0.99, (50, 3))
  values = core.unit_to_range(unit, LOW, HIGH, IS_LOG)
  back = core.range_to_unit(values, LOW, HIGH, IS_LOG)
  np.testing.assert_allclose(back, unit, atol=1e-6)
  step = 1e-4
  higher = core.unit_to_range(unit + step, LOW, HIGH, IS_LOG)
  lower = core.unit_to_range(unit - step, LOW, HIGH, IS_LOG)
  slope = core.unit_to_range_slope(values, LOW, HIGH, IS_LOG)
  np.testing.assert_allclose((higher - lower) / (2 * step), slope, rtol=1e-4)


def test_inverse_clips():
  values = np.array([[-1.0, 1.0, -7.0], [3.0, 1e6, 7.0], [0.0, -5.0, 0.0]])
  unit = core.range_to_unit(values, LOW, HIGH, IS_LOG)
  np.testing.assert_array_equal(unit, [[0, 0, 0], [1, 1, 1], [0, 0, 0.5]])


def test_gradient_flows_through_tensors():
  unit = tf.Variable([[0.3, 0.6, 0.9]])
  with tf.GradientTape() as tape:
    values = core.unit_to_range(unit, LOW, HIGH, IS_LOG)
  slope = core.unit_to_range_slope(values.numpy(), LOW, HIGH, IS_LOG)
  np.testing.assert_allclose(tape.gradient(values, unit), slope, rtol=1e-5)


# ---------------------------------------------------------------- Workers ----
def test_replicas_draw_what_the_whole_batch_would(monkeypatch):
  """Each has its items' numbers, also where one has lost an item."""
  workers = core.Workers()
  workers.n_items = 3
  options = dict(shape=[5], seed=[1, 2], low=-1.0, high=1.0, workers=workers)
  whole = core.uniform_by_item(tf.zeros([6, 1]), **options)
  noise = synths.white_noise([1, 2], 0, 6, 5)
  found = {}
  for replica in (0, 1):
    context = types.SimpleNamespace(replica_id_in_sync_group=replica)
    monkeypatch.setattr(
      tf.distribute, 'get_replica_context', lambda context=context: context
    )
    batch = tf.zeros([3 - replica, 1])
    found[replica] = core.uniform_by_item(batch, **options)
    first = core.first_item_key(batch, workers)
    assert int(first) == 3 * replica
    np.testing.assert_array_equal(
      synths.white_noise([1, 2], 0, 3 - replica, 5, first),
      noise[3 * replica :][: 3 - replica],
    )
  np.testing.assert_array_equal(found[0], whole[:3])
  np.testing.assert_array_equal(found[1], whole[3:5])
  assert np.unique(whole).size == 30
