"""How far a tone is from a balance, and what of that to take back."""

from collections.abc import Sequence

import gin
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

# Octaves around these centres are compared with the balance; a third of an
# octave lies between them.
OCTAVES_HZ = tuple(80.0 * 100.0 ** (i / 5) for i in range(6))
# Deviations at which the line that is learned may bend, in dB.
_BENDS_DB = (2.0, 4.0, 7.0, 10.0)
# A step of training moves levels by as many dB for each unit.
_UNIT_DB = 2.0
# Peaks over the loudness of a channel, in dB, where music counts as finished
# and as not, before this is learned.
_UNTREATED_DB, _UNTREATED_WIDTH_DB = 18.0, 0.75


def octave_weights(fft_size: int, sample_rate: int) -> np.ndarray:
  """Returns which bins of a spectrum lie in which octave, [n_bins, 6].

  Args:
    fft_size: Of the spectrum, in samples.
    sample_rate: In Hz.
  """
  hz = np.linspace(0.0, sample_rate / 2, fft_size // 2 + 1)[:, np.newaxis]
  low, high = (np.array(OCTAVES_HZ) * 2.0**half for half in (-0.5, 0.5))
  return ((hz >= low) & (hz < high)).astype(np.float32)


@gin.register(module='dafx.training.encoders')
class TonalBalance(tf.keras.layers.Layer):
  """What to take back of a tone that deviates from a balance.

  Music differs in tone, and mostly means it. So nothing is done about small
  deviations, and what is done about large ones is learned: for each octave a
  line that begins at 2 dB, and bends at 4, 7 and 10 dB. It starts as what is
  beyond 2 dB, of which it takes back 2 dB at most. Music whose peaks are as
  low as a master's is left alone; where that begins is learned, and so is the
  balance itself.

  >>> import tensorflow as tf
  >>> from dafx.training import models
  >>> balance = models.TonalBalance((-3.0, -6.0, -8.0, -12.0, -18.0, -24.0))
  >>> dull = tf.constant([[-3.0, -6.0, -8.0, -12.0, -18.0, -27.0]])
  >>> print(*(f'{x:.2f}' for x in balance(dull, tf.constant([[30.0]]))[0]))
  0.00 0.00 0.00 0.00 0.00 0.50
  >>> print(f'{balance(dull, tf.constant([[12.0]]))[0, 5]:.2f}')
  0.00

  Args:
    levels_db: Levels of the octaves at `OCTAVES_HZ` that music has, relative to
      their sum, in dB: where the balance starts.
    name: Name of the layer.

  Raises:
    ValueError: Other than six levels.
  """

  def __init__(self, levels_db: Sequence[float], name: str = 'tonal_balance'):
    super().__init__(name=name, autocast=False)
    if len(levels_db) != len(OCTAVES_HZ):
      raise ValueError(
        f'{len(levels_db)} levels came; a balance has {len(OCTAVES_HZ)}, of '
        f'octaves at {", ".join(f"{hz:.0f}" for hz in OCTAVES_HZ)} Hz.'
      )
    n_octaves, n_bends = len(OCTAVES_HZ), len(_BENDS_DB)

    def weight(label, values):
      values = np.asarray(values, np.float32)
      return self.add_weight(
        name=label,
        shape=values.shape,
        initializer=tf.constant_initializer(values),
      )

    self._levels = weight('levels', np.array(levels_db) / _UNIT_DB)
    slopes = np.zeros([n_octaves, n_bends])
    slopes[:, 0], slopes[:, 1] = 1.0, -1.0
    self._slopes = weight('slopes', slopes)
    self._untreated = weight('untreated', [_UNTREATED_DB / _UNIT_DB])

  def call(self, levels_db: tf.Tensor, peak_db: tf.Tensor) -> tf.Tensor:
    """Returns what each octave asks for.

    Args:
      levels_db: Of the octaves relative to their sum, shape [batch, 6].
      peak_db: Peak over the loudness of a channel, shape [batch, 1].

    Returns:
      In units of 2 dB, positive for what is to be louder, shape [batch, 6].
    """
    deviations = self._levels * _UNIT_DB - levels_db
    deviations -= tfp.stats.percentile(
      deviations, 50.0, axis=-1, interpolation='midpoint', keepdims=True
    )
    beyond = tf.nn.relu(
      tf.abs(deviations)[..., tf.newaxis] - np.array(_BENDS_DB, np.float32)
    )
    wanted = tf.reduce_sum(self._slopes * beyond, axis=-1) / _UNIT_DB
    centre_db = self._untreated * _UNIT_DB
    part = tf.sigmoid((peak_db - centre_db) / _UNTREATED_WIDTH_DB)
    return tf.sign(deviations) * wanted * part
