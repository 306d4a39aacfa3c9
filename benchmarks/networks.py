"""What networks cost beside what their arithmetic would, as ratios.

    python benchmarks/networks.py

On one core, in one run, in time of that core:

- S4's impulse response by two small tables and a matrix product, against one
  power of each pole for each sample; forward and backward, 144,000 samples.
- For each network, a training step on 2 x 3 s at 48 kHz, and streaming in
  blocks as a multiple of real time. 'floor' is the time that the
  multiply-accumulates of the step (three times those of a forward pass) take at
  the rate measured for a product of large matrices; 'step/floor' is the
  distance from it.
"""

import os
import time

import numpy as np
import results
import tensorflow as tf
from absl import app, flags

from dafx import neural, processors
from dafx.neural import state_space

FLAGS = flags.FLAGS
flags.DEFINE_list('only', None, 'Names of networks, by default all.')
flags.DEFINE_list('blocks', ['128', '1024'], 'Samples per block of streaming.')
flags.DEFINE_float('seconds', 3.0, 'Length of the items of a step.')

SAMPLE_RATE = 48_000
NETWORKS = {
  'LSTM-32': lambda: neural.Rnn('lstm', 32),
  'LSTM-96': lambda: neural.Rnn('lstm', 96),
  'LSTM-TVC-32': lambda: neural.Rnn('lstm', 32, conditioning='tvcond'),
  'TCN-45-S': lambda: neural.DilatedConv(5, 7, 4),
  'TCN-TF-45-S': lambda: neural.DilatedConv(5, 7, 4, conditioning='tfilm'),
  'TCN-2500-L': lambda: neural.DilatedConv(10, 5, 3),
  'GCN-45-L': lambda: neural.DilatedConv(10, 3, 2, gated=True),
  'GCN-TF-250-L': lambda: neural.DilatedConv(
    11, 7, 2, gated=True, conditioning='tfilm'
  ),
  'S4-S': lambda: neural.S4(4, 4),
  'S4-L': lambda: neural.S4(8, 32),
  'S4-TF-L': lambda: neural.S4(8, 32, conditioning='tfilm'),
  'WaveNet standard': lambda: neural.WaveNet('standard'),
  'WaveNet nano': lambda: neural.WaveNet('nano'),
}


def seconds(function, *arguments, n_runs=2):
  """Returns the shortest time of some runs, after one that is not counted."""
  function(*arguments)
  times = []
  for _ in range(n_runs):
    start = time.process_time()
    function(*arguments)
    times.append(time.process_time() - start)
  return min(times)


def macs_per_second():
  """Returns the rate of a product of large matrices."""
  a = tf.random.stateless_normal([1024, 1024], [0, 0])
  return 1024**3 / seconds(tf.function(tf.matmul), a, a, n_runs=10)


def direct_response(poles, weights, n_samples):
  """One power of each pole for each sample, then a sum over the poles."""
  t = tf.range(n_samples, dtype=tf.float32)
  exponents = tf.cast(tf.math.log(poles), tf.complex64)[..., tf.newaxis]
  powers = tf.exp(exponents * tf.complex(t, tf.zeros_like(t)))
  weights = tf.cast(weights, tf.complex64)
  return 2.0 * tf.math.real(tf.einsum('hn,hnt->ht', weights, powers))


def response_error(system, n_samples):
  """Returns the relative error of the response, against double precision."""
  poles, weights = (x.numpy() for x in system.discretized())
  found = state_space.impulse_response(
    tf.constant(poles), tf.constant(weights), n_samples
  )
  error = total = 0.0
  t = np.arange(n_samples)
  for row, p, w in zip(found.numpy(), poles, weights):
    expected = sum(2 * (b * np.exp(np.log(a) * t)).real for a, b in zip(p, w))
    error += np.sum((row - expected) ** 2)
    total += np.sum(expected**2)
  return np.sqrt(error / total)


def compare_responses():
  """Prints the ratio of the two ways to an impulse response."""
  n_samples = 3 * SAMPLE_RATE
  cotangent = tf.random.stateless_normal([16, n_samples], [0, 2])
  for n_states in (4, 32):
    system = state_space.StateSpace(16, n_states, iter(range(10)))
    times = []
    for response in (direct_response, state_space.impulse_response):

      @tf.function
      def step(response=response, system=system):
        with tf.GradientTape() as tape:
          y = response(*system.discretized(), n_samples)
        return tape.gradient(
          y,
          system.trainable_variables,
          output_gradients=cotangent,
          unconnected_gradients='zero',
        )

      times.append(seconds(step, n_runs=4))
    print(
      f'S4 response, {n_states} states: direct {times[0]:.3f} s, tables '
      f'{times[1]:.4f} s: {times[0] / times[1]:.0f} times faster; relative '
      f'error {response_error(system, n_samples):.1e}',
      flush=True,
    )


def streaming_factor(net, block):
  """Returns how many times real time a network streams at, by a `Streamer`."""
  streamer = processors.Streamer(net)
  audio = tf.random.stateless_normal([1, block], [0, 1])
  n_blocks = max(4, SAMPLE_RATE // 2 // block)
  # What is compiled for a length of piece is compiled before the clock starts.
  for _ in range(4):
    streamer.process(audio)
  start = time.process_time()
  for _ in range(n_blocks):
    streamer.process(audio)
  return n_blocks * block / SAMPLE_RATE / (time.process_time() - start)


def main(argv):
  """Measures and prints."""
  del argv
  # One core for TensorFlow, and for the threads of compiled loops.
  os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  rate = macs_per_second()
  print(f'Matrix product: {2e-9 * rate:.0f} GFLOP/s on one core', flush=True)
  compare_responses()
  blocks = [int(b) for b in FLAGS.blocks]
  n_samples = int(FLAGS.seconds * SAMPLE_RATE)
  audio = 0.1 * tf.random.stateless_normal([2, n_samples], [0, 0])
  heads = ['step s', 'floor s', 'step/floor', *(f'x @{b}' for b in blocks)]
  print(
    f'{"network":17}{"parameters":>11}{"MACs/sample":>12}'
    + ''.join(f'{h:>11}' for h in heads)
  )
  rows = []
  for name, build in NETWORKS.items():
    if FLAGS.only and name not in FLAGS.only:
      continue
    net = build()

    @tf.function
    def step(net=net):
      with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(net(audio) - audio))
      return tape.gradient(loss, net.trainable_variables)

    spent = seconds(step, n_runs=1)
    floor = 3 * net.macs_per_sample * 2 * n_samples / rate
    factors = [streaming_factor(net, block) for block in blocks]
    print(
      f'{name:17}{net.n_parameters:11,}{net.macs_per_sample:12,.0f}'
      f'{spent:11.2f}{floor:11.2f}{spent / floor:11.1f}'
      + ''.join(f'{factor:11.1f}' for factor in factors),
      flush=True,
    )
    macs = round(net.macs_per_sample)
    rows.append([name, net.n_parameters, macs, spent, spent / floor, *factors])
  results.write(
    'networks',
    [
      'Network',
      'Parameters',
      'MACs per sample',
      'Seconds of a step',
      'Step over its arithmetic',
      *(f'Times real time in blocks of {b}' for b in blocks),
    ],
    rows,
  )
  results.keep(rows)


if __name__ == '__main__':
  app.run(main)
