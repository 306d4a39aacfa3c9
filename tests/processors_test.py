"""Checks of DAGs, and their peace with DDSP's ProcessorGroup in gin."""

import ddsp
import gin
import numpy as np
import pytest
import tensorflow as tf

from dafx import effects, processors, synths


def add(name):
  return ddsp.processors.Add(name=name)


def test_runs_like_ddsps_group():
  group = processors.ProcessorGroup(
    [(add('first'), ['a', 'b']), (add('second'), ['first/signal', 'b'])],
    inputs=['a', 'b'],
  )
  out = group({'a': tf.ones([1, 4]), 'b': 2 * tf.ones([1, 4])})
  np.testing.assert_array_equal(out, 5 * np.ones([1, 4]))
  assert list(processors.nodes(group)) == ['first', 'second']
  assert processors.input_names(group.dag) == ['a', 'b']


@pytest.mark.parametrize(
  'dag, message',
  [
    ([('x', ['a']), ('x', ['x/signal'])], "0 and 1.*both named 'x'"),
    ([('out', ['a'])], "'out', which is reserved"),
    ([('inputs', ['a'])], "'inputs', which is reserved"),
    ([('a', ['a'])], "'a', as is an input"),
    ([('x', ['c'])], r"'x' takes 'c', which neither an input \(a, b\)"),
    ([('x', ['inputs/c'])], "'inputs/c'"),
    ([('x', ['y/signal']), ('y', ['a'])], 'comes after it'),
    ([('x', ['x/signal'])], 'cycle'),
  ],
)
def test_faults_are_named(dag, message):
  with pytest.raises(ValueError, match=message):
    processors.check_dag(dag, inputs=['a', 'b'])


def test_two_copies_of_one_plugin_need_two_names():
  def make(**kwargs):
    return effects.LV2Plugin('urn:dafx-test:gain', **kwargs)

  with pytest.raises(ValueError, match="both named 'lv2_plugin'"):
    processors.ProcessorGroup([(make(), ['a', 'c']), (make(), ['a', 'c'])])
  processors.ProcessorGroup(
    [(make(), ['a', 'c']), (make(name='second'), ['a', 'c'])]
  )


def test_gin_name_of_ddsps_group_stays_unambiguous():
  gin.clear_config()
  try:
    gin.parse_config("""
      processors.ProcessorGroup.dag = [(@processors.Add(), ['a', 'b'])]
    """)
    group = ddsp.processors.ProcessorGroup()
  finally:
    gin.clear_config()
  assert group.processor_names == ['add']


# --------------------------------------------------------------- Bypass ----
DAG = [
  ('a', ['audio', 'a_controls']),
  ('b', ['a/signal', 'b_controls']),
  ('c', ['audio', 'c_controls']),
  ('sum', ['b/signal', 'c/signal']),
]


@pytest.mark.parametrize(
  'names, expected',
  [
    ([], DAG),
    (['b'], [DAG[0], DAG[2], ('sum', ['a/signal', 'c/signal'])]),
    (['a', 'b'], [DAG[2], ('sum', ['audio', 'c/signal'])]),
    (['sum'], DAG[:2]),
    (['sum', 'b'], DAG[:1]),
  ],
)
def test_bypassed_nodes_let_their_first_input_through(names, expected):
  assert processors.bypass_nodes(DAG, names) == expected


@pytest.mark.parametrize(
  'names, message',
  [
    (['d'], r"\['d'\]"),
    (['a', 'b', 'sum'], 'Nothing is left'),
  ],
)
def test_bypasses_that_cannot_be(names, message):
  with pytest.raises(ValueError, match=message):
    processors.bypass_nodes(DAG, names)


def test_a_bypassed_node_has_no_controls_to_give():
  dag = [*DAG[:1], ('b', ['audio', 'a/controls/controls'])]
  with pytest.raises(ValueError, match="'b' takes 'a/controls/controls'"):
    processors.bypass_nodes(dag, ['a'])


# ---------------------------------------------------------------- Synths ----
def test_noise_from_a_seed_goes_on_after_a_checkpoint(tmp_path):
  magnitudes = tf.random.stateless_uniform([2, 5, 9], [0, 1], -1.0, 3.0)

  def make(seed=3):
    return synths.SeededFilteredNoise(n_samples=400, seed=seed)

  noise = make()
  play = tf.function(noise, autograph=False)
  first, second = play(magnitudes), play(magnitudes)
  assert first.shape == (2, 400)
  assert (first != second).numpy().any() and (
    first[0] != first[1]
  ).numpy().any()
  path = tf.train.Checkpoint(noise=noise).save(str(tmp_path / 'ckpt'))
  third = play(magnitudes)
  again = make()
  tf.train.Checkpoint(noise=again).restore(path).assert_consumed()
  np.testing.assert_array_equal(again(magnitudes), third)
  np.testing.assert_array_equal(make()(magnitudes), first)
  assert (make(seed=4)(magnitudes) != first).numpy().any()


def test_noise_from_a_seed_is_ddsps_but_for_the_draw():
  noise = synths.SeededFilteredNoise(n_samples=400, seed=3)
  controls = noise.get_controls(tf.zeros([1, 5, 9]))
  own = ddsp.synths.FilteredNoise(n_samples=400).get_controls(
    tf.zeros([1, 5, 9])
  )
  np.testing.assert_array_equal(controls['magnitudes'], own['magnitudes'])
  drawn = tf.random.stateless_uniform([1, 400], [noise.seed, 0], -1.0, 1.0)
  expected = ddsp.core.frequency_filter(drawn, controls['magnitudes'])
  np.testing.assert_array_equal(noise.get_signal(**controls), expected)
