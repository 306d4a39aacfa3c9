"""Synthesisers that DDSP has otherwise."""

import zlib
from collections.abc import Callable

import ddsp
import gin
import tensorflow as tf

from dafx import processors


@gin.register(module='dafx.synths')
class SeededFilteredNoise(
  processors.Node, processors.Rebuildable, ddsp.synths.FilteredNoise
):
  """DDSP's filtered noise, from a seed.

  DDSP's own draws from TensorFlow's global generator, which starts anew with
  the process: a training that goes on from a checkpoint hears other noise than
  it would have. This one counts its draws, and the count is in the checkpoint.

  Engel et al. 2020, "DDSP: Differentiable Digital Signal Processing".

  Args:
    n_samples: Samples of an item.
    window_size: Taps of the filter; 0 for as many as the magnitudes give.
    scale_fn: Maps network outputs to magnitudes; None if they are that already.
    initial_bias: Added to network outputs, so that noise is soft at first.
    seed: Seed of the noise; the name and the run's seed are mixed in.
    name: Name of the layer, which is the node's in a DAG.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import synths
    >>> noise = synths.SeededFilteredNoise(n_samples=16000, seed=1)
    >>> noise(tf.zeros([2, 50, 65])).shape  # [batch, n_frames, n_bands]
    TensorShape([2, 16000])
  """

  def __init__(
    self,
    n_samples: int = 64000,
    window_size: int = 257,
    scale_fn: Callable | None = ddsp.core.exp_sigmoid,
    initial_bias: float = -5.0,
    seed: int = 0,
    name: str = 'filtered_noise',
  ):
    super().__init__(n_samples, window_size, scale_fn, initial_bias, name)
    self.seed = seed + zlib.crc32(name.encode())
    # With the model in a checkpoint, a resumed run draws what it would have.
    self.draw = tf.Variable(
      0, trainable=False, dtype=tf.int64, name=f'{name}/draw'
    )

  @property
  def length(self) -> int:
    """Samples of an item."""
    return self.n_samples

  def set_length(self, n_samples: int):
    """Makes items of so many samples from now on."""
    self.n_samples = n_samples

  def get_signal(self, magnitudes: tf.Tensor) -> tf.Tensor:
    """Filters noise of its own for each item and call.

    Args:
      magnitudes: Of the filter, above 0, [batch, n_frames, n_bands].

    Returns:
      Audio of shape [batch, n_samples].
    """
    draw = tf.identity(self.draw)
    self.draw.assign(draw + 1)
    seed = [self.seed + self.run_seed, draw]
    shape = [tf.shape(magnitudes)[0], self.n_samples]
    noise = tf.random.stateless_uniform(shape, seed, -1.0, 1.0)
    return ddsp.core.frequency_filter(
      noise, magnitudes, window_size=self.window_size
    )
