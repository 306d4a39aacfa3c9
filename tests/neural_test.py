"""Networks as nodes, their sizes, streaming and export."""

import numpy as np
import pytest
import tensorflow as tf
from cases import some_quick

from dafx import core, neural, processors

CONDITIONINGS = ('film', 'tfilm', 'tiny_tfilm', 'tvfilm')
# Blocks, kernel size, dilation growth, receptive field in samples.
SIZES = {
  '45-S': (5, 7, 4, 2047),
  '45-L': (10, 3, 2, 2047),
  '250-S': (6, 11, 4, 13651),
  '250-L': (11, 7, 2, 12283),
  '2500-S': (5, 13, 10, 133333),
  '2500-L': (10, 5, 3, 118097),
}
# Numbers of parameters of NablAFx 1.0.0's own modules, built with the sizes of
# its configurations and counted. (Comunità et al., 2025, give S4-F-S-16 as
# 89.0k in table 38, a misprint of 8.8k.) First without knobs: none, tfilm,
# tiny_tfilm, tvfilm; then with one and with four: film, tfilm, tiny_tfilm,
# tvfilm.
TCN = {
  '45-S': (
    (7457, 39457, 16997, 17217),
    (14913, 40097, 17077, 17345),
    (15009, 42017, 17317, 17729),
  ),
  '45-L': (
    (7297, 71297, 26377, 22337),
    (20033, 72577, 26537, 22465),
    (20129, 76417, 27017, 22849),
  ),
  '250-S': (
    (14465, 52865, 25913, 25281),
    (22977, 53633, 26009, 25409),
    (23073, 55937, 26297, 25793),
  ),
  '250-L': (
    (18401, 88801, 39389, 34497),
    (32193, 90209, 39565, 34625),
    (32289, 94433, 40093, 35009),
  ),
  '2500-S': (
    (13697, 45697, 23237, 23457),
    (21153, 46337, 23317, 23585),
    (21249, 48257, 23557, 23969),
  ),
  '2500-L': (
    (11937, 75937, 31017, 26977),
    (24673, 77217, 31177, 27105),
    (24769, 81057, 31657, 27489),
  ),
}
GCN = {
  '45-S': (
    (16161, 141601, 31301, 31201),
    (28897, 142881, 31381, 31329),
    (28993, 146721, 31621, 31713),
  ),
  '45-L': (
    (17121, 268001, 47401, 42721),
    (40417, 270561, 47561, 42849),
    (40513, 278241, 48041, 43233),
  ),
  '250-S': (
    (30433, 180961, 48601, 47585),
    (45281, 182497, 48697, 47713),
    (45377, 187105, 48985, 48097),
  ),
  '250-L': (
    (39585, 315553, 72893, 67297),
    (64993, 318369, 73069, 67425),
    (65089, 326817, 73597, 67809),
  ),
  '2500-S': (
    (28641, 154081, 43781, 43681),
    (41377, 155361, 43861, 43809),
    (41473, 159201, 44101, 44193),
  ),
  '2500-L': (
    (26401, 277281, 56681, 52001),
    (49697, 279841, 56841, 52129),
    (49793, 287521, 57321, 52513),
  ),
}
S4 = {
  (4, 4): (
    (2353, 27953, 9985, 11057),
    (8753, 28465, 10049, 11185),
    (8849, 30001, 10241, 11569),
  ),
  (8, 32): (
    (18993, 70193, 34257, 31921),
    (29617, 71217, 34385, 32049),
    (29713, 74289, 34769, 32433),
  ),
}
# (None, tvcond) without knobs, (fixed, tvcond) with one and with four.
LSTM = {
  32: ((4513, 7777), (4641, 7841), (5025, 8033)),
  96: ((38113, 45473), (38497, 45537), (39649, 45729)),
}


def named(table, kinds):
  """Yields (key, conditioning, n_knobs, number of parameters)."""
  without = (None, *kinds[1:])
  for key, rows in table.items():
    for n_knobs, names, row in zip((0, 1, 4), (without, kinds, kinds), rows):
      yield from ((key, kind, n_knobs, n) for kind, n in zip(names, row))


@pytest.mark.parametrize('gated', [False, True])
@pytest.mark.parametrize('size', some_quick(SIZES, ('45-S',)))
def test_convolutional_networks_have_the_sizes_of_nablafx(size, gated):
  n_blocks, kernel_size, growth, receptive_field = SIZES[size]
  table = {size: (GCN if gated else TCN)[size]}
  for _, kind, n_knobs, expected in named(table, CONDITIONINGS):
    net = neural.DilatedConv(
      n_blocks,
      kernel_size,
      growth,
      gated=gated,
      conditioning=kind,
      n_knobs=n_knobs,
    )
    assert (kind, n_knobs, net.n_parameters) == (kind, n_knobs, expected)
    assert net.receptive_field == receptive_field


@pytest.mark.slow
def test_s4_has_the_sizes_of_nablafx():
  for size, kind, n_knobs, expected in named(S4, CONDITIONINGS):
    net = neural.S4(*size, conditioning=kind, n_knobs=n_knobs)
    assert (size, kind, n_knobs, net.n_parameters) == (
      size,
      kind,
      n_knobs,
      expected,
    )


def test_lstm_has_the_sizes_of_nablafx():
  for size, kind, n_knobs, expected in named(LSTM, ('fixed', 'tvcond')):
    net = neural.Rnn('lstm', size, conditioning=kind, n_knobs=n_knobs)
    assert (size, kind, n_knobs, net.n_parameters) == (
      size,
      kind,
      n_knobs,
      expected,
    )


ARRAYS = (
  neural.LayerArray(4, 2, (1, 2, 16)),
  neural.LayerArray(2, 1, (1, 8), head_bias=True),
)
NETWORKS = {
  'lstm': lambda: neural.Rnn('lstm', 6, seed=1),
  'lstm fixed, two layers': lambda: neural.Rnn(
    'lstm', 5, 2, conditioning='fixed', n_knobs=2, residual=True
  ),
  'gru tvcond': lambda: neural.Rnn(
    'gru', 6, conditioning='tvcond', n_knobs=2, direct_path=True
  ),
  'lstm tvcond, no knobs': lambda: neural.Rnn(conditioning='tvcond'),
  'lstm, trained start': lambda: neural.Rnn(
    'lstm', 4, initial_state='trained', activation='linear'
  ),
  'wavenet': lambda: neural.WaveNet(arrays=ARRAYS),
  'wavenet, gated, knobs': lambda: neural.WaveNet(
    arrays=[neural.LayerArray(3, 1, (1, 4), gating='gated', head_bias=True)],
    n_knobs=2,
    head_scale=1.0,
  ),
}
for _kind in (None, *CONDITIONINGS):
  _n_knobs = 0 if _kind in (None, 'tvfilm') else 2
  for _gated in (False, True):
    NETWORKS[f'{"gcn" if _gated else "tcn"} {_kind}'] = (
      lambda kind=_kind, n=_n_knobs, gated=_gated: neural.DilatedConv(
        3, 3, 4, 4, gated=gated, conditioning=kind, n_knobs=n, seed=2
      )
    )
  NETWORKS[f's4 {_kind}'] = lambda kind=_kind, n=_n_knobs: neural.S4(
    2, 3, 4, conditioning=kind, n_knobs=n, activation='prelu', seed=3
  )
NETWORKS['s4 smooth'] = lambda: neural.S4(2, 3, 4, 'film', 2)
NETWORKS['tcn rational'] = lambda: neural.DilatedConv(
  2, 3, 4, 4, activation='rational', residual=False
)

# A network of each kind.
COMPILED = ('gru tvcond', 'wavenet', 'tcn film', 's4 tvfilm')
# One of each kind of recurrence, and each conditioning once.
QUICK = (
  'gru tvcond',
  's4 tvfilm',
  'lstm, trained start',
  'gcn tfilm',
  'tcn rational',
)


@pytest.fixture
def eagerly():
  # Many graphs that run once cost more than they save.
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


def make(key):
  """Builds a network and moves its weights, as a little training does."""
  net = NETWORKS[key]()
  rng = np.random.default_rng(0)
  for v in net.trainable_variables:
    v.assign_add(rng.normal(0.0, 0.05, v.shape).astype(np.float32))
  return net


def sound(n_samples, batch_size=2, seed=0):
  rng = np.random.default_rng(seed)
  # Loud and soft, so that what follows the level has something to follow.
  level = 0.5 + 0.5 * np.sin(np.arange(n_samples) / 90.0)
  return tf.constant(
    rng.normal(0.0, 0.5, (batch_size, n_samples)) * level, tf.float32
  )


@pytest.mark.parametrize('key', some_quick(NETWORKS, QUICK))
def test_chunks_give_what_the_whole_gives(key, eagerly):
  net = make(key)
  audio = sound(517)
  inputs = {}
  if net.n_knobs:
    inputs['knobs'] = tf.constant([[0.2, 0.9], [0.7, 0.1]])
  whole = net(audio, **inputs)
  assert whole.shape == audio.shape
  assert np.std(whole) > 1e-3
  assert np.all(np.isfinite(whole))
  # splitting_test compares what is compiled with what is not; some here too.
  is_compiled = key in COMPILED
  streamer = processors.Streamer(net, batch_size=2, is_compiled=is_compiled)
  chunks, start = [], 0
  for size in (1, 7, 120, 128, 200, 61):
    chunks.append(streamer.process(audio[:, start : start + size], **inputs))
    start += size
  np.testing.assert_allclose(np.concatenate(chunks, 1), whole, atol=1e-5)


@pytest.mark.parametrize(
  'key', some_quick(NETWORKS, ('gru tvcond', 'tcn film'))
)
def test_portable_graphs_give_the_same_with_the_same_gradients(key):
  net = make(key)
  audio = sound(300)
  inputs = [audio]
  if net.n_knobs:
    inputs.append(tf.constant([[0.2, 0.9], [0.7, 0.1]]))

  def run():
    with tf.GradientTape() as tape:
      tape.watch(inputs)
      signal = net(*inputs)
      loss = tf.reduce_sum(signal * sound(300, seed=1))
    return signal, tape.gradient(loss, [*inputs, *net.trainable_variables])

  signal, gradients = run()
  with core.portable():
    expected, expected_gradients = run()
  np.testing.assert_allclose(signal, expected, atol=1e-5)
  largest = max(np.abs(g).max() for g in expected_gradients)
  for gradient, other in zip(gradients, expected_gradients):
    scale = max(np.abs(other).max(), 1e-3 * largest)
    np.testing.assert_allclose(gradient, other, atol=2e-4 * scale)


@pytest.mark.parametrize(
  'key', ['tcn None', 'gcn None', 'wavenet, gated, knobs', 's4 smooth']
)
def test_gradients_are_those_of_finite_differences(key):
  net = make(key)
  audio, weight = sound(200, 1), sound(200, 1, 5)
  knobs = [tf.constant([[0.3, 0.6]])] if net.n_knobs else []

  def loss():
    # Sums in double precision: the differences are small.
    signal = tf.cast(net(audio, *knobs), tf.float64)
    return tf.reduce_sum(signal * tf.cast(weight, tf.float64))

  with tf.GradientTape() as tape:
    value = loss()
  gradients = tape.gradient(value, net.trainable_variables)
  rng = np.random.default_rng(1)
  directions = [
    rng.normal(size=v.shape).astype(np.float32) for v in net.trainable_variables
  ]
  values = []
  for sign in (1.0, -1.0):
    for v, d in zip(net.trainable_variables, directions):
      v.assign_add(sign * 3e-4 * d)
    values.append(loss().numpy())
    for v, d in zip(net.trainable_variables, directions):
      v.assign_sub(sign * 3e-4 * d)
  expected = (values[0] - values[1]) / 6e-4
  found = sum(np.sum(g * d) for g, d in zip(gradients, directions))
  assert found == pytest.approx(expected, rel=2e-2)


@pytest.mark.parametrize('key', ['gcn tfilm', 's4 tvfilm', 'gru tvcond'])
def test_a_frames_modulation_comes_from_the_frames_before(key):
  net = make(key)
  audio = sound(400)
  inputs = [tf.constant([[0.2, 0.9], [0.7, 0.1]])] if net.n_knobs else []
  later = tf.concat([audio[:, :200], -2.0 * audio[:, 200:]], 1)
  first, second = net(audio, *inputs), net(later, *inputs)
  np.testing.assert_array_equal(first[:, :200], second[:, :200])
  assert np.abs(first - second)[:, 200:].max() > 1e-3


def test_time_varying_knobs_stream_too(eagerly):
  net = make('s4 tfilm')
  audio = sound(512)
  knobs = tf.constant(
    np.random.default_rng(3).uniform(size=(2, 4, 2)), tf.float32
  )
  whole = net(audio, knobs)
  streamer = processors.Streamer(net, batch_size=2)
  chunks = [
    streamer.process(
      audio[:, 256 * i : 256 * (i + 1)], knobs=knobs[:, 2 * i : 2 * i + 2]
    )
    for i in range(2)
  ]
  np.testing.assert_allclose(np.concatenate(chunks, 1), whole, atol=1e-5)
  assert np.abs(whole - net(audio, knobs[:, :1])).max() > 1e-4


def test_channels_go_through_one_by_one():
  net = make('gcn film')
  audio = tf.stack([sound(100, seed=1), sound(100, seed=2)], -1)
  knobs = tf.constant([[0.2, 0.9], [0.7, 0.1]])
  both = net(audio, knobs)
  assert both.shape == audio.shape
  for c in range(2):
    np.testing.assert_allclose(
      both[..., c], net(audio[..., c], knobs), atol=1e-6
    )


def test_a_network_is_a_node_of_a_dag():
  group = processors.ProcessorGroup(
    dag=[
      (neural.DilatedConv(2, 3, 2, 4, name='first'), ['audio']),
      (
        neural.S4(1, 2, 4, conditioning='film', n_knobs=1, name='second'),
        ['first/signal', 'knobs'],
      ),
    ],
    name='group',
  )
  inputs = {'audio': sound(130), 'knobs': tf.constant([[0.1], [0.8]])}
  signal = group(inputs)
  first, second = processors.nodes(group).values()
  np.testing.assert_allclose(
    signal, second(first(inputs['audio']), inputs['knobs']), atol=1e-6
  )
  n = first.n_parameters + second.n_parameters
  assert sum(np.prod(v.shape) for v in group.trainable_variables) == n


@pytest.mark.parametrize('network', [neural.DilatedConv, neural.S4])
def test_the_input_gain_is_one_on_the_audio(network):
  audio = 0.05 * tf.random.stateless_normal([2, 300], [1, 2])
  hot = network(input_gain_db=20.0)(audio)
  np.testing.assert_allclose(hot, network()(10.0 * audio), atol=1e-6)
  assert np.max(np.abs(hot - network()(audio))) > 1e-2


def test_the_seed_makes_the_weights():
  def weights(seed):
    net = neural.S4(1, 2, 3, conditioning='tiny_tfilm', seed=seed)
    return [v.numpy() for v in net.trainable_variables]

  for a, b in zip(weights(1), weights(1)):
    np.testing.assert_array_equal(a, b)
  assert any(np.any(a != b) for a, b in zip(weights(1), weights(2)))


def test_training_moves_every_weight():
  net = neural.DilatedConv(2, 3, 2, 4, gated=True, conditioning='tfilm')
  audio = sound(300)
  with tf.GradientTape() as tape:
    loss = tf.reduce_mean(tf.square(net(audio) - tf.tanh(3.0 * audio)))
  gradients = tape.gradient(loss, net.trainable_variables)
  assert all(g is not None for g in gradients)
  # But the last linear map of a gated network, which is not used.
  n_still = sum(not np.any(g) for g in gradients)
  assert n_still == 2


def test_wrong_inputs_and_names_say_what_is_allowed():
  audio = sound(10)
  with pytest.raises(ValueError, match='2 knob'):
    make('tcn film')(audio)
  with pytest.raises(ValueError, match='has no knobs'):
    make('tcn None')(audio, tf.zeros([2, 1]))
  with pytest.raises(ValueError, match='was given 3'):
    make('tcn film')(audio, tf.zeros([2, 3]))
  with pytest.raises(ValueError, match="'tfilm'"):
    neural.S4(conditioning='filmm')
  with pytest.raises(ValueError, match='needs a conditioning'):
    neural.S4(n_knobs=1)
  with pytest.raises(ValueError, match='n_knobs is 0'):
    neural.DilatedConv(conditioning='film')
  with pytest.raises(ValueError, match="'prelu'"):
    neural.DilatedConv(activation='relu')
  with pytest.raises(ValueError, match='kernel_size is 0'):
    neural.DilatedConv(kernel_size=0)
  with pytest.raises(ValueError, match="'gru'"):
    neural.Rnn('rnn')
  with pytest.raises(ValueError, match="'fixed'"):
    neural.Rnn(n_knobs=1)
  with pytest.raises(ValueError, match="'lite'"):
    neural.WaveNet('small')
  with pytest.raises(ValueError, match='number of samples'):
    lstm = tf.function(make('lstm'), autograph=False)
    lstm.get_concrete_function(tf.TensorSpec([1, None]))
