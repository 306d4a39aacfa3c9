"""An encoder that hears a file once, and says what an engineer would note."""

import math
from collections.abc import Iterator

import gin
import numpy as np
import scipy.signal
import tensorflow as tf

from dafx.audio import loudness, sources
from dafx.losses import shapes
from dafx.training.models import encoders, tonal_balance

tfkl = tf.keras.layers

# What is noted, and its mean and spread over mixes of music: the level in LUFS;
# the shape of the average spectrum, as cosines over its bands; how far the
# bands move, likewise; the peak over the level of a few seconds. dB all.
_N_TONES, _N_MOVES = 10, 3
_MEANS = (
  *(-28.0,),
  *(17.0, -2.6, 2.0, -1.6, 0.3, -1.0, 0.0, -0.3, 0.0, -0.5),
  *(5.2, 1.3, 1.4),
  *(14.6,),
)
_SPREADS = (
  *(5.5,),
  *(4.0, 5.2, 2.2, 2.0, 1.3, 1.6, 1.1, 1.0, 0.9, 0.8),
  *(1.7, 1.6, 1.0),
  *(2.5,),
)
# And with a balance, the peak over the level of the whole file.
_PEAK_MEAN, _PEAK_SPREAD = 18.0, 3.0
# A note further off than so many spreads counts as that.
_LARGEST = 3.0
# Stretches that are softer than the mean by so much are not heard, as in
# BS.1770.
_GATE_DB = -10.0
_POWER_FLOOR = 1e-10
# Of a stretch that is no silence, where a sum of parts divides.
_LEAST_PART = 1e-6
# Seconds that are read at once.
_PIECE_S = 30.0


def _band_weights(n_bands, fft_size, sample_rate):
  """Returns triangles of equal width on a logarithmic axis, [n_bins, n_bands].

  Each sums to 1, so that a band is the mean power of a bin in it.
  """
  n_bins = fft_size // 2 + 1
  hz = np.maximum(np.linspace(0.0, sample_rate / 2, n_bins), 1.0)
  centres = np.geomspace(40.0, min(10000.0, 0.45 * sample_rate), n_bands)
  # Low bands are no narrower than a bin.
  bin_width = np.log1p(sample_rate / fft_size / centres)
  width = np.maximum(np.log(centres[1] / centres[0]), bin_width)
  distances = np.abs(np.log(hz[:, np.newaxis] / centres)) / width
  weights = np.maximum(0.0, 1.0 - distances)
  return (weights / weights.sum(axis=0)).astype(np.float32)


@gin.register(module='dafx.training.encoders')
class ProfileEncoder(encoders.Encoder):
  """Level, tone and dynamics of a whole file; one embedding for all of it.

  It notes 15 figures: the loudness of a channel, ten cosines of the average
  spectrum over logarithmic bands, three of how far the bands move, and the
  crest factor. The embedding holds them about 0 +- 0.5, because the level and
  the tone of an input mostly ask for gains in proportion, and what a small
  network makes of them. Stretches of the file that are 10 dB softer than its
  mean are left out, and so is silence.

  With a balance, it notes seven more: the peak over the level of the whole
  file, and the levels of six octaves. What the balance makes of these, six
  values, is part of the embedding.

  A file costs a Fourier transform, whatever its length: no window is heard
  twice.

  >>> import numpy as np
  >>> from dafx.training import models
  >>> noise = np.random.default_rng(0).normal(0.0, 0.1, [2, 66150])
  >>> encoder = models.ProfileEncoder(sample_rate=22050)
  >>> encoder(noise.astype('f')).shape
  TensorShape([2, 1, 31])
  >>> loudness_lufs = encoder.describe(noise.astype('f'))[:, 0]
  >>> print(*(round(float(x)) for x in loudness_lufs))
  -17 -17

  Args:
    sample_rate: Rate of the audio, in Hz.
    width: Size of the network's two layers.
    n_bands: Bands of the spectrum, from 40 Hz to 10 kHz.
    stretch_s: Seconds over which bands move and peaks are taken; half as long
      apart.
    fft_size: Samples per spectrum, half as far apart; None for about 93 ms.
    margin_s: Seconds around a crop that it hears in training, so that it learns
      what a file asks for: soft parts stay soft. In use a file is heard whole.
    takes_channels: Whether it hears the mean power of all channels, for models
      that are trained on stereo, or the mean of the channels. A mix of wide
      stereo is up to 3 dB softer than its channels: what was trained on mono
      has to hear the mix.
    balance: What it makes of how far the tone is from that of other music;
      None to leave that to the network. It goes by the whole of a file, so in
      training by margins that are long.
    name: Name of the layer.

  Raises:
    ValueError: Fewer bands than cosines, or a margin below 0.
  """

  def __init__(
    self,
    sample_rate: int = 22050,
    width: int = 16,
    n_bands: int = 24,
    stretch_s: float = 3.0,
    fft_size: int | None = None,
    margin_s: float = 0.0,
    takes_channels: bool = False,
    balance: tonal_balance.TonalBalance | None = None,
    name: str = 'profile_encoder',
  ):
    super().__init__(name=name, autocast=False)
    if n_bands <= _N_TONES:
      raise ValueError(f'n_bands={n_bands} must be above {_N_TONES}.')
    if margin_s < 0.0:
      raise ValueError(f'margin_s={margin_s} must not be below 0.')
    self.sample_rate: int = sample_rate
    self.margin: int = round(margin_s * sample_rate)
    self.takes_channels = takes_channels
    self.n_bands = n_bands
    fft_size = fft_size or 2 ** round(math.log2(0.093 * sample_rate))
    self.fft_size = fft_size
    self.n_spectra = max(2, round(stretch_s * sample_rate / (fft_size // 2)))
    self.hidden = [tfkl.Dense(width, activation='tanh') for _ in range(2)]
    self._bands = _band_weights(n_bands, fft_size, sample_rate)
    hz = np.linspace(0.0, sample_rate / 2, fft_size // 2 + 1)
    k_power = loudness.k_power(hz, sample_rate).astype(np.float32)
    self._loudness = k_power[:, np.newaxis]
    self.balance = balance
    self._octaves = tonal_balance.octave_weights(fft_size, sample_rate)
    n_notes = len(_MEANS) + (balance is not None)
    self._means = np.array([*_MEANS, _PEAK_MEAN], np.float32)[:n_notes]
    self._spreads = np.array([*_SPREADS, _PEAK_SPREAD], np.float32)[:n_notes]

  def notes_of_stretches(self, audio: tf.Tensor) -> tf.Tensor:
    """Returns what is noted of each stretch.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].

    Returns:
      Of shape [batch, n_stretches, 2 * n_bands + 10]: power in each band, K
      weighted power, spread of each band in dB, crest factor in dB, power at
      the peak, power in six octaves; each of what is no silence, whose part of
      the stretch comes last. What is left at the end, less than half a stretch,
      is not heard. Audio that is shorter than a stretch is one stretch of its
      own length.
    """
    audio = tf.convert_to_tensor(audio, tf.float32)
    if audio.shape.rank == 2:
      audio = audio[..., tf.newaxis]
    if not self.takes_channels:
      audio = tf.reduce_mean(audio, axis=2, keepdims=True)
    hop_size = self.fft_size // 2
    missing = tf.maximum(self.fft_size - tf.shape(audio)[1], 0)
    audio = tf.pad(audio, [[0, 0], [0, missing], [0, 0]])
    # Silence after the end would count as the largest of all moves.
    size = tf.minimum(self.n_spectra, tf.shape(audio)[1] // hop_size - 1)
    channels = tf.transpose(audio, [0, 2, 1])
    stft = tf.signal.stft(channels, self.fft_size, hop_size)
    # Squares of a sine at full scale are 1/2, over all bins of its spectrum.
    window = np.sum(scipy.signal.get_window('hann', self.fft_size) ** 2)
    power = tf.math.real(stft) ** 2 + tf.math.imag(stft) ** 2
    power = tf.reduce_mean(power, axis=1) * (2.0 / (window * self.fft_size))
    bands = tf.matmul(power, self._bands)
    loud = tf.matmul(power, self._loudness)
    octaves = tf.matmul(power, self._octaves)
    squares = tf.reduce_mean(channels**2, axis=1)
    peaks = tf.reduce_max(tf.abs(channels), axis=1)

    def stretched(x):  # [batch, n, ...] -> [batch, n_stretches, size, ...]
      return tf.signal.frame(x, size, tf.maximum(size // 2, 1), axis=1)

    def per_hop(x):  # [batch, n_samples] -> [batch, n_hops, hop_size]
      return tf.signal.frame(x, hop_size, hop_size)[:, : tf.shape(bands)[1]]

    # What fills a margin beyond the ends of a file is not heard.
    sounds = tf.cast(loud > _POWER_FLOOR, tf.float32)
    weights = stretched(sounds)
    part = tf.reduce_mean(weights, axis=2)
    weights /= tf.maximum(tf.reduce_sum(weights, axis=2, keepdims=True), 1.0)

    def mean(x):  # [batch, n_spectra, n] -> [batch, n_stretches, n]
      return tf.reduce_sum(weights * stretched(x), axis=2)

    decibels = shapes.to_db(bands + _POWER_FLOOR)
    variance = mean(decibels**2) - mean(decibels) ** 2
    energy = mean(tf.reduce_mean(per_hop(squares), axis=2, keepdims=True))
    peak = tf.reduce_max(
      stretched(tf.reduce_max(per_hop(peaks), axis=2, keepdims=True)), axis=2
    )
    peak = peak**2 + _POWER_FLOOR
    return tf.concat(
      [
        mean(bands),
        mean(loud),
        tf.sqrt(tf.maximum(variance, 0.0)),
        shapes.to_db(peak / (energy + _POWER_FLOOR)),
        peak,
        mean(octaves),
        part,
      ],
      axis=-1,
    )

  def summarize(self, notes: tf.Tensor) -> tf.Tensor:
    """Returns the figures of a file, in LUFS and dB.

    Args:
      notes: Of all its stretches, as `notes_of_stretches` gives them.

    Returns:
      Of shape [batch, 15], or [batch, 22] with a balance.
    """
    n_bands, n_octaves = self.n_bands, len(tonal_balance.OCTAVES_HZ)
    sizes = [n_bands, 1, n_bands, 1, 1, n_octaves, 1]
    loud, part = notes[..., n_bands : n_bands + 1], notes[..., -1:]
    parts = tf.reduce_sum(part, axis=1, keepdims=True)
    power = tf.reduce_sum(part * loud, axis=1, keepdims=True)
    mean = power / tf.maximum(parts, _LEAST_PART)
    is_heard = loud >= mean * 10.0 ** (_GATE_DB / 10.0)
    weights = tf.cast(is_heard, notes.dtype) * part
    weights /= tf.maximum(
      tf.reduce_sum(weights, axis=1, keepdims=True), _LEAST_PART
    )
    means = tf.reduce_sum(weights * notes, axis=1)
    bands, loud, moves, crest, _, octaves, _ = tf.split(means, sizes, -1)
    bands, loud = bands + _POWER_FLOOR, loud + _POWER_FLOOR
    figures = [
      shapes.to_db(loud) + loudness.OFFSET_LUFS,
      tf.signal.dct(shapes.to_db(bands))[:, 1 : 1 + _N_TONES] / n_bands,
      tf.reduce_mean(moves, axis=-1, keepdims=True),
      tf.signal.dct(moves)[:, 1:_N_MOVES] / n_bands,
      crest,
    ]
    if self.balance is not None:
      peaks = tf.split(notes, sizes, -1)[4]
      octaves += _POWER_FLOOR
      all_octaves = tf.reduce_sum(octaves, axis=-1, keepdims=True)
      figures += [
        shapes.to_db(tf.reduce_max(peaks, axis=1) / loud)
        - loudness.OFFSET_LUFS,
        shapes.to_db(octaves / all_octaves),
      ]
    return tf.concat(figures, axis=-1)

  def describe(self, audio: tf.Tensor) -> tf.Tensor:
    """Returns the figures of audio, as `summarize` does.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].
    """
    return self.summarize(self.notes_of_stretches(audio))

  def _embed_figures(self, figures):
    n_notes = len(self._means)
    figures, octaves = figures[:, :n_notes], figures[:, n_notes:]
    notes = (figures - self._means) / self._spreads
    x = notes = tf.clip_by_value(notes, -_LARGEST, _LARGEST)
    for layer in self.hidden:
      x = layer(x)
    # A step on all weights of a head moves a control as a few steps on its
    # bias do.
    parts = [0.5 * notes, (1.0 / x.shape[-1]) * x]
    if self.balance is not None:
      parts.append(self.balance(octaves, figures[:, -1:]))
    return tf.concat(parts, axis=-1)[:, tf.newaxis]

  def call(self, audio: tf.Tensor) -> tf.Tensor:
    """Embeds audio.

    Args:
      audio: Shape [batch, n_samples] or [batch, n_samples, n_channels].

    Returns:
      Embedding of shape [batch, 1, 15 + width]; with a balance, 7 more.
    """
    return self._embed_figures(self.describe(audio))

  def embed(self, source: sources.Source) -> Iterator[tf.Tensor]:
    """Hears a file of any length; see `Encoder.embed`."""
    hop_size = self.fft_size // 2
    step = self.n_spectra // 2 * hop_size
    size = max(1, round(_PIECE_S * self.sample_rate / step)) * step
    # The stretches that begin in a piece reach beyond it.
    after = (self.n_spectra + 1) * hop_size - step
    notes: list[tf.Tensor] = []
    for piece, _ in sources.windows(source.blocks(), size, 0, after):
      if notes and len(piece) < (self.n_spectra + 1) * hop_size:
        break  # what is left fills no stretch
      notes.append(self.notes_of_stretches(tf.constant(piece[np.newaxis])))
    yield self._embed_figures(self.summarize(tf.concat(notes, axis=1)))
