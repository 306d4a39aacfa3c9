"""Functions of which the part that holds still is run once."""

import ddsp
import numpy as np
import pytest
import tensorflow as tf

from dafx import effects, processors
from dafx.processors import splitting


class Counter:
  """Doubles what it gets, outside of the graph, and counts how often."""

  def __init__(self):
    self.count = 0

  def __call__(self, x):
    def double(x):
      self.count += 1
      return 2.0 * x

    y = tf.numpy_function(double, [x], tf.float32, stateful=False)
    return tf.ensure_shape(y, x.shape)


def test_what_holds_is_run_once():
  held_side, moving_side = Counter(), Counter()
  weight = tf.Variable(3.0)

  def function(moving, held, offset):
    gain = held_side(held['gain'] * weight)
    y = moving_side(moving[0]) * gain + offset
    return {'y': y, 'none': None, 'same': moving[0], 'gain': gain}

  split = splitting.SplitFunction(function)
  x = tf.constant([1.0, 2.0])
  for gain, calls in ((1.0, 1), (1.0, 1), (5.0, 2)):
    outputs = split([x], {'gain': tf.constant(gain)}, 1.0)
    assert held_side.count == calls
    np.testing.assert_allclose(outputs['y'], 12.0 * gain * x + 1.0)
    np.testing.assert_allclose(outputs['gain'], 6.0 * gain)
    np.testing.assert_array_equal(outputs['same'], x)
    assert outputs['none'] is None
  assert moving_side.count == 3
  # Weights are read again when they are to be; another constant, another graph.
  weight.assign(1.0)
  held = {'gain': tf.constant(5.0)}
  np.testing.assert_allclose(split([x], held, 1.0)['gain'], 30.0)
  split.forget()
  np.testing.assert_allclose(split([x], held, 1.0)['gain'], 10.0)
  np.testing.assert_allclose(split([x], held, 0.0)['y'], 20.0 * x)
  # And so are other shapes.
  np.testing.assert_allclose(split([x[:1]], held, 1.0)['y'], [21.0])


def test_effects_and_loops_are_run_in_each_call():
  calls, weight = tf.Variable(0.0), tf.Variable(2.0)

  def function(moving, held):
    before = calls.read_value()
    calls.assign_add(1.0)  # Nothing that is returned depends on it.
    power = tf.while_loop(
      lambda i, _: i < 3, lambda i, p: (i + 1, p * weight * held), (0, 1.0)
    )[1]
    total = tf.while_loop(
      lambda i, _: i < 2, lambda i, t: (i + 1, t + moving * power), (0, moving)
    )[1]
    return total, before

  split = splitting.SplitFunction(function)
  for i in range(3):
    total, before = split(tf.constant(1.0 + i), tf.constant(1.0))
    assert before == i and calls == i + 1
    np.testing.assert_allclose(total, (1.0 + i) * 17.0)


@pytest.mark.parametrize('n_knobs', [0, 1])
def test_a_stream_follows_its_knobs_and_after_a_reset_its_weights(n_knobs):
  controller = effects.Fc() if n_knobs else effects.Const()
  group = processors.ProcessorGroup(
    [
      (controller, ['knobs' if n_knobs else 'audio']),
      (
        effects.Biquads(['peak', 'low_pass']),
        ['audio', f'{controller.name}/controls'],
      ),
      (ddsp.processors.Add(), ['biquads/signal', 'audio']),
    ]
  )
  rng = np.random.default_rng(0)
  audio = rng.standard_normal([1, 512]).astype(np.float32)
  streamer = processors.Streamer(group)

  def check(knob):
    inputs = {'knobs': np.float32([[knob]])} if n_knobs else {}
    streamer.reset()
    chunks = [
      streamer.process(audio[:, i : i + 128], **inputs)
      for i in range(0, 512, 128)
    ]
    whole = group({'audio': tf.constant(audio), **inputs})
    np.testing.assert_allclose(np.concatenate(chunks, 1), whole, atol=1e-5)
    return whole

  first = check(0.2)
  for variable in controller.trainable_variables:
    variable.assign(variable + 1.0)
  assert np.abs(check(0.2) - first).max() > 1e-2
  check(0.9)


def test_a_node_may_ask_tensors():
  """As AutoGraph allows: it is not used where nobody asks."""

  def function(moving, held):
    if tf.reduce_sum(moving) > 0.0:
      return moving * held
    return -moving

  split = splitting.SplitFunction(function)
  for x in (1.0, -1.0):
    out = split(tf.constant([x]), tf.constant(3.0))
    np.testing.assert_array_equal(out, [3.0 if x > 0.0 else 1.0])
