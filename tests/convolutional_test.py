"""Causal convolutions against a loop over taps, and by impulses."""

import numpy as np
import pytest
import tensorflow as tf

from dafx import neural
from dafx.neural import base


def test_causal_convolution_is_a_sum_of_delayed_inputs():
  conv = base.CausalConv(3, 5, 4, 7, base.seeds_of(0))
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 60, 3)).astype(np.float32)
  y, past = conv(conv.initial_state(2, tf.zeros([3])), tf.constant(x))
  kernel, bias = conv.kernel.numpy(), conv.bias.numpy()
  expected = np.zeros((2, 60, 5)) + bias
  for tap in range(4):
    delay = (3 - tap) * 7
    expected[:, delay:] += x[:, : 60 - delay] @ kernel[tap]
  np.testing.assert_allclose(y, expected, atol=1e-5)
  np.testing.assert_array_equal(past, x[:, -21:])


@pytest.mark.parametrize('gated', [False, True])
@pytest.mark.parametrize('size', [(5, 7, 4), (10, 3, 2)])
def test_an_output_hears_the_receptive_field(size, gated):
  net = neural.DilatedConv(*size, gated=gated)
  n = net.receptive_field
  assert n == 2047
  # All weights alike, and no biases: no path cancels another or saturates.
  for v in net.trainable_variables:
    v.assign(tf.fill(v.shape, 0.0 if 'bias' in v.name else 0.05))
  audio = tf.zeros([1, n + 300])
  with tf.GradientTape() as tape:
    tape.watch(audio)
    sample = net(audio)[0, n + 200]
  heard = np.flatnonzero(tape.gradient(sample, audio)[0])
  assert (heard[0], heard[-1]) == (n + 200 - (n - 1), n + 200)


def test_residuals_are_not_late():
  net = neural.DilatedConv(2, 3, 2, 1, seed=0)
  for block in net.blocks:
    block.conv.kernel.assign(tf.zeros_like(block.conv.kernel))
    block.conv.bias.assign([0.0])
    block.scale.assign([1.0])
  net.out_kernel.assign([[[1.0]]])
  net.out_bias.assign([0.0])
  audio = tf.constant([[0.1, 0.5, -0.3, 0.2]])
  np.testing.assert_allclose(net(audio), np.tanh(audio), atol=1e-6)


@pytest.mark.parametrize('gated', [False, True])
def test_silence_before_the_start_is_the_steady_state(gated):
  net = neural.DilatedConv(4, 3, 3, 6, gated=gated, seed=3)
  signal = net(tf.zeros([1, 2 * net.receptive_field])).numpy()
  np.testing.assert_allclose(signal, signal[0, -1], atol=1e-6)


def test_dilations_start_over_behind_a_stack():
  net = neural.DilatedConv(5, 3, 2, 2, stack_size=2)
  assert [b.conv.dilation for b in net.blocks] == [1, 2, 1, 2, 1]
  assert net.receptive_field == 1 + 2 * 7


def test_macs_are_those_of_the_kernels():
  net = neural.DilatedConv(2, 3, 2, 4)
  assert net.macs_per_sample == 3 * 4 + 3 * 4 * 4 + 4
  gated = neural.DilatedConv(2, 3, 2, 4, gated=True)
  assert gated.macs_per_sample == 3 * 8 + 3 * 4 * 8 + 2 * 16 + 8


def test_activations_start_as_they_should():
  x = tf.linspace(-3.0, 3.0, 301)
  np.testing.assert_allclose(base.Rational()(x), np.tanh(x), atol=2e-3)
  prelu = base.PRelu(2)
  np.testing.assert_allclose(prelu(tf.constant([[-2.0, 4.0]])), [[-0.5, 4.0]])
  assert base.activation('tanh', 3) is tf.tanh


@pytest.mark.parametrize('n_samples, dilation', [(50, 7), (49, 7), (9, 4)])
def test_convolution_in_phases_is_the_dilated_one(n_samples, dilation):
  rng = np.random.default_rng(0)
  x = tf.constant(rng.normal(size=(2, n_samples, 3)), tf.float32)
  kernel = tf.constant(rng.normal(size=(3, 3, 4)), tf.float32)
  np.testing.assert_allclose(
    base.conv_in_phases(x, kernel, dilation),
    base.dilated_conv(x, kernel, dilation),
    atol=1e-5,
  )
