"""Synthesisers that DDSP has otherwise: from a seed, and as streams."""

import zlib
from collections.abc import Callable
from typing import Any

import ddsp
import gin
import numpy as np
import tensorflow as tf

from dafx import core, processors


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
    noise = core.uniform_by_item(
      magnitudes, [self.n_samples], seed, -1.0, 1.0, self.workers
    )
    return ddsp.core.frequency_filter(
      noise, magnitudes, window_size=self.window_size
    )


# Of the hash below: multipliers of C. Wellons' lowbias32, and the golden ratio.
_MULTIPLIERS = (0x7FEB352D, 0x846CA68B)
_GOLDEN = 0x9E3779B9
_32_BITS = 0xFFFFFFFF


def _hash(values):
  """Mixes the bits of integers from 0 to 2^32 - 1; int64 in and out."""
  for shift, multiplier in zip((16, 15), _MULTIPLIERS):
    values = tf.bitwise.bitwise_xor(
      values, tf.bitwise.right_shift(values, tf.constant(shift, tf.int64))
    )
    # What int64 loses at its upper end is not looked at.
    values = tf.bitwise.bitwise_and(values * multiplier, _32_BITS)
  return tf.bitwise.bitwise_xor(
    values, tf.bitwise.right_shift(values, tf.constant(16, tf.int64))
  )


def white_noise(
  seed: tf.Tensor,
  start: tf.Tensor,
  n_items: int | tf.Tensor,
  n_samples: int,
  first_item: int | tf.Tensor = 0,
) -> tf.Tensor:
  """Draws noise whose samples depend on the seed, item and position alone.

  So a stream draws what the whole does.

  Args:
    seed: Integers, [n]; all of them count.
    start: Position of the first sample.
    n_items: Number of items.
    n_samples: Samples of each.
    first_item: Which item the first one is.

  Returns:
    Uniform from -1 to 1, [n_items, n_samples].

  Examples:
    >>> import numpy as np
    >>> from dafx import synths
    >>> whole = synths.white_noise([1, 2], 0, 1, 8)
    >>> part = synths.white_noise([1, 2], 3, 1, 5)
    >>> bool(np.all(whole[:, 3:] == part))
    True
  """
  key = tf.zeros([], tf.int64)
  for part in tf.unstack(tf.cast(seed, tf.int64)):
    key = _hash(tf.bitwise.bitwise_and(key * _GOLDEN + part + 1, _32_BITS))
  items = tf.range(tf.cast(n_items, tf.int64))[:, tf.newaxis]
  items += tf.cast(first_item, tf.int64)
  positions = tf.cast(start, tf.int64) + tf.range(n_samples, dtype=tf.int64)
  keys = _hash(tf.bitwise.bitwise_and(key + (items + 1) * _GOLDEN, _32_BITS))
  bits = _hash(tf.bitwise.bitwise_xor(keys, _hash(positions & _32_BITS)))
  return tf.cast(bits, tf.float32) * (2.0 / 2**32) - 1.0


@gin.register(module='dafx.synths')
class StreamingHarmonic(processors.Processor):
  """DDSP's harmonic synthesiser, in frames of a fixed size, as a stream.

  Amplitudes and pitch go in straight lines from frame to frame, so it is one
  frame late, and what comes out is `ddsp.core.harmonic_synthesis` with linear
  amplitudes. Phases keep their precision however long the sound is.

  Engel et al. 2020, "DDSP: Differentiable Digital Signal Processing".

  Args:
    hop_size: Samples of a frame.
    sample_rate: In Hz.
    scale_fn: Maps network outputs to amplitudes and distribution; None if they
      are that already.
    normalize_below_nyquist: Whether partials from half the rate on are taken
      out before the distribution is normalised.
    initial_bias: Added to the network output for the amplitude: at 0 it begins
      at 0.4, which is louder than most recordings are.
    initial_tilt_db: Added, for each octave above the fundamental, to the levels
      of partials that `scale_fn` gives. At 0 all begin alike, much too loud
      high up, so that a training may turn all of them off.
    name: Name of the layer, which is the node's in a DAG.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import synths
    >>> harmonic = synths.StreamingHarmonic(hop_size=64)
    >>> amplitudes, distribution = tf.zeros([1, 250, 1]), tf.zeros([1, 250, 60])
    >>> harmonic(amplitudes, distribution, tf.fill([1, 250, 1], 220.0)).shape
    TensorShape([1, 16000])
  """

  receptive_field = None

  def __init__(
    self,
    hop_size: int = 64,
    sample_rate: int = 16000,
    scale_fn: Callable | None = ddsp.core.exp_sigmoid,
    normalize_below_nyquist: bool = True,
    initial_bias: float = 0.0,
    initial_tilt_db: float = 0.0,
    name: str = 'harmonic',
  ):
    super().__init__(name=name)
    self.frame_size = self.control_step = self.latency = hop_size
    self.sample_rate: int = sample_rate
    self.scale_fn = scale_fn
    self.normalize_below_nyquist = normalize_below_nyquist
    self.initial_bias = initial_bias
    self.initial_tilt_db = initial_tilt_db

  def get_controls(
    self,
    amplitudes: tf.Tensor,
    harmonic_distribution: tf.Tensor,
    f0_hz: tf.Tensor,
  ) -> dict[str, tf.Tensor]:
    """Scales what a network gives.

    Args:
      amplitudes: Shape [batch, n_frames, 1].
      harmonic_distribution: Shape [batch, n_frames, n_harmonics].
      f0_hz: Pitch in Hz, [batch, n_frames, 1].

    Returns:
      'amplitudes' of the partials, [batch, n_frames, n_harmonics], and 'f0_hz'.
    """
    if self.scale_fn is not None:
      amplitudes = self.scale_fn(amplitudes + self.initial_bias)
      harmonic_distribution = self.scale_fn(harmonic_distribution)
      harmonic_distribution *= self._tilt(harmonic_distribution.shape[-1])
    shares = ddsp.core.normalize_harmonics(
      harmonic_distribution,
      f0_hz,
      self.sample_rate if self.normalize_below_nyquist else None,
    )
    return {'amplitudes': amplitudes * shares, 'f0_hz': f0_hz}

  def _tilt(self, n_harmonics):
    octaves = np.log2(np.arange(1, n_harmonics + 1))
    tilt = ddsp.core.db_to_amplitude(self.initial_tilt_db * octaves)
    return tilt.astype(np.float32)

  def _lines(self, starts, ends):
    """Goes from frame to frame, [batch, n_frames, hop_size, n_values]."""
    share = tf.range(self.frame_size, dtype=tf.float32) / self.frame_size
    share = share[:, tf.newaxis]
    starts, ends = starts[:, :, tf.newaxis], ends[:, :, tf.newaxis]
    return starts + (ends - starts) * share

  def _play(self, phases, starts, ends):
    """Plays from the first to the last values of frames.

    Args:
      phases: Of the fundamental at the starts of frames, [batch, n_frames, 1].
      starts: (f0 in Hz, amplitudes of partials) at the starts.
      ends: The same at the ends.

    Returns:
      Audio of shape [batch, n_frames * hop_size].
    """
    size = self.frame_size
    f0_hz = self._lines(starts[0], ends[0])
    amplitudes = self._lines(starts[1], ends[1])
    # The sum of the frequencies up to each sample, itself included.
    count = tf.range(1, size + 1, dtype=tf.float32)[:, tf.newaxis]
    slope = (ends[0] - starts[0])[:, :, tf.newaxis] / size
    sums = starts[0][:, :, tf.newaxis] * count + slope * count * (count - 1) / 2
    phases = phases[:, :, tf.newaxis] + sums * (2.0 * np.pi / self.sample_rate)
    numbers = tf.range(1, amplitudes.shape[-1] + 1, dtype=tf.float32)
    is_heard = f0_hz * numbers < self.sample_rate / 2.0
    partials = tf.where(is_heard, amplitudes * tf.sin(phases * numbers), 0.0)
    audio = tf.reduce_sum(partials, axis=-1)  # [batch, n_frames, hop_size]
    return tf.reshape(audio, [tf.shape(audio)[0], audio.shape[1] * size])

  def _advances(self, starts_hz, ends_hz):
    """Returns by how much the phase goes on in each frame, in double."""
    size = self.frame_size
    starts_hz, ends_hz = (tf.cast(f, tf.float64) for f in (starts_hz, ends_hz))
    sums = starts_hz * size + (ends_hz - starts_hz) * (size - 1) / 2
    return sums * (2.0 * np.pi / self.sample_rate)

  def get_signal(self, amplitudes: tf.Tensor, f0_hz: tf.Tensor) -> tf.Tensor:
    """Plays all frames; the last one holds.

    Args:
      amplitudes: Of the partials, [batch, n_frames, n_harmonics].
      f0_hz: Pitch in Hz, [batch, n_frames, 1].

    Returns:
      Audio of shape [batch, n_frames * hop_size].
    """
    ends_hz = tf.concat([f0_hz[:, 1:], f0_hz[:, -1:]], axis=1)
    ends = tf.concat([amplitudes[:, 1:], amplitudes[:, -1:]], axis=1)
    advances = self._advances(f0_hz, ends_hz)
    phases = tf.cumsum(advances, axis=1, exclusive=True) % (2.0 * np.pi)
    phases = tf.cast(phases, tf.float32)
    return self._play(phases, (f0_hz, amplitudes), (ends_hz, ends))

  def initial_state(self, batch_size: int) -> dict[str, Any]:
    """Returns a state in which nothing was played."""
    return {
      'phase': tf.zeros([batch_size, 1, 1], tf.float64),
      'f0_hz': tf.zeros([batch_size, 1, 1]),
      # As many as partials come, once they do.
      'amplitudes': tf.zeros([batch_size, 1, 1]),
      'has_begun': tf.zeros([], tf.float64),
    }

  def stream(
    self, state: dict[str, Any], amplitudes: tf.Tensor, f0_hz: tf.Tensor
  ) -> tuple[tf.Tensor, dict[str, Any]]:
    """Plays up to the values of the next frames; returns (audio, state)."""
    last = state['amplitudes']
    if last.shape[-1] != amplitudes.shape[-1]:
      last = tf.zeros_like(amplitudes[:, :1])
    starts_hz = tf.concat([state['f0_hz'], f0_hz[:, :-1]], axis=1)
    starts = tf.concat([last, amplitudes[:, :-1]], axis=1)
    advances = self._advances(starts_hz, f0_hz)
    # What is played before the first frame is no part of the sound.
    first = advances[:, :1] * state['has_begun']
    advances = tf.concat([first, advances[:, 1:]], axis=1)
    phases = state['phase'] + tf.cumsum(advances, axis=1, exclusive=True)
    phases %= 2.0 * np.pi
    audio = self._play(
      tf.cast(phases, tf.float32), (starts_hz, starts), (f0_hz, amplitudes)
    )
    return audio, {
      'phase': (phases[:, -1:] + advances[:, -1:]) % (2.0 * np.pi),
      'f0_hz': f0_hz[:, -1:],
      'amplitudes': amplitudes[:, -1:],
      'has_begun': tf.ones([], tf.float64),
    }


@gin.register(module='dafx.synths')
class StreamingFilteredNoise(processors.Processor):
  """DDSP's filtered noise, in frames of a fixed size, as a stream.

  Each frame of noise goes through the filter of its magnitudes, whose tail is
  added to what follows: what comes out is `ddsp.core.frequency_filter` of noise
  that goes on at the end, late by the filter's delay. The noise depends on seed
  and position; each call of a training draws another.

  Engel et al. 2020, "DDSP: Differentiable Digital Signal Processing".

  Args:
    hop_size: Samples of a frame.
    n_bands: Magnitudes of a frame, from 0 Hz to half the rate.
    window_size: Taps of the filter; 0 for as many as the magnitudes give.
    scale_fn: Maps network outputs to magnitudes; None if they are that already.
    initial_bias: Added to network outputs, so that noise is soft at first.
    seed: Seed of the noise; the name and the run's seed are mixed in.
    name: Name of the layer, which is the node's in a DAG.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import synths
    >>> noise = synths.StreamingFilteredNoise(hop_size=64)
    >>> noise(tf.zeros([2, 250, 65])).shape  # [batch, n_frames, n_bands]
    TensorShape([2, 16000])
  """

  receptive_field = None

  def __init__(
    self,
    hop_size: int = 64,
    n_bands: int = 65,
    window_size: int = 0,
    scale_fn: Callable | None = ddsp.core.exp_sigmoid,
    initial_bias: float = -5.0,
    seed: int = 0,
    name: str = 'filtered_noise',
  ):
    super().__init__(name=name)
    self.frame_size = self.control_step = hop_size
    self.window_size = window_size
    self.scale_fn = scale_fn
    self.initial_bias = initial_bias
    self.seed = seed + zlib.crc32(name.encode())
    self.draw = tf.Variable(
      0, trainable=False, dtype=tf.int64, name=f'{name}/draw'
    )
    with tf.init_scope():
      flat = tf.ones([1, 1, n_bands])
      taps = ddsp.core.frequency_impulse_response(flat, window_size).shape[-1]
    self.n_taps: int = taps
    # As DDSP takes it off.
    self.latency = max((self.n_taps - 1) // 2 - 1, 0)

  def get_controls(self, magnitudes: tf.Tensor) -> dict[str, tf.Tensor]:
    """Scales magnitudes, [batch, n_frames, n_bands]."""
    if self.scale_fn is not None:
      magnitudes = self.scale_fn(magnitudes + self.initial_bias)
    return {'magnitudes': magnitudes}

  def _filter(self, noise, magnitudes):
    """Filters frames; returns audio with its tail of n_taps - 1 samples."""
    size, n_frames = self.frame_size, magnitudes.shape[1]
    responses = ddsp.core.frequency_impulse_response(
      magnitudes, self.window_size
    )
    fft_size = ddsp.core.get_fft_size(size, self.n_taps, power_of_2=True)
    frames = tf.reshape(noise, [tf.shape(noise)[0], n_frames, size])
    spectra = tf.signal.rfft(frames, [fft_size])
    spectra *= tf.signal.rfft(responses, [fft_size])
    frames = tf.signal.irfft(spectra, [fft_size])
    audio = tf.signal.overlap_and_add(frames, size)
    return audio[:, : n_frames * size + self.n_taps - 1]

  def _noise(self, draw, position, magnitudes):
    seed = tf.stack([tf.cast(self.seed + self.run_seed, tf.int64), draw])
    n_samples = magnitudes.shape[1] * self.frame_size
    n_items = core.batch_size(magnitudes)
    first = core.first_item_key(magnitudes, self.workers)
    return white_noise(seed, position, n_items, n_samples, first)

  def get_signal(self, magnitudes: tf.Tensor) -> tf.Tensor:
    """Filters noise of its own for each item and call.

    Args:
      magnitudes: Of the filter, above 0, [batch, n_frames, n_bands].

    Returns:
      Audio of shape [batch, n_frames * hop_size].
    """
    draw = tf.identity(self.draw)
    self.draw.assign(draw + 1)
    n_samples = magnitudes.shape[1] * self.frame_size
    # Noise goes on under the last frame, as in a stream that is ended.
    n_more = -(-self.latency // self.frame_size)
    held = tf.repeat(magnitudes[:, -1:], n_more, axis=1)
    magnitudes = tf.concat([magnitudes, held], axis=1)
    audio = self._filter(self._noise(draw, 0, magnitudes), magnitudes)
    return audio[:, self.latency : self.latency + n_samples]

  def initial_state(self, batch_size: int) -> dict[str, Any]:
    """Returns a state in which nothing was played."""
    return {
      'tail': tf.zeros([batch_size, self.n_taps - 1]),
      'position': tf.zeros([], tf.int64),
      'draw': tf.identity(self.draw),
    }

  def stream(
    self, state: dict[str, Any], magnitudes: tf.Tensor
  ) -> tuple[tf.Tensor, dict[str, Any]]:
    """Filters the noise of the next frames; returns (audio, state)."""
    noise = self._noise(state['draw'], state['position'], magnitudes)
    audio = self._filter(noise, magnitudes)
    n_samples = magnitudes.shape[1] * self.frame_size
    tail = tf.pad(state['tail'], [[0, 0], [0, n_samples]])
    audio += tail[:, : n_samples + self.n_taps - 1]
    return audio[:, :n_samples], {
      **state,
      'tail': audio[:, n_samples:],
      'position': state['position'] + n_samples,
    }
