"""Equalisers and impulse responses as processors."""

from collections.abc import Mapping, Sequence
from typing import Any

import ddsp
import gin
import numpy as np
import tensorflow as tf

from dafx import core, processors
from dafx.effects import siren
from dafx.effects.controlled import Control, Controlled

# Usual ranges of f0_hz, as in NablAFx where it has the type.
_F0_RANGES_HZ = {
  'low_pass': (2000.0, 20000.0),
  'high_pass': (20.0, 2000.0),
  'low_shelf': (20.0, 2000.0),
  'high_shelf': (4000.0, 16000.0),
}
# Below half of the sample rate, as `core.design_biquads` clips.
_MAX_F0 = 0.49


@gin.register(module='dafx.effects')
class Biquads(Controlled):
  """Second-order sections in series: any equaliser.

  Section i of type T has the controls `T_i_f0_hz` (20 Hz to 20 kHz, less for
  shelves, low and high pass) and `T_i_q` (0.1 to 10), both in equal ratios, and
  before these, if it is a peak or a shelf, `T_i_gain_db` (-12 to 12 dB): for
  example `low_shelf_0_gain_db`, `low_shelf_0_f0_hz`, `low_shelf_0_q`.
  Frequencies end below half of the sample rate.

  The filter is exact (`core.sosfilt`), in training as in use. Controls that
  change do so at the start of their frame; the state goes on.

  Args:
    types: Types of the sections, of `core.FILTER_TYPES`.
    trainable: Symbols of the controls that come from outside; all by default.
    fixed: Values of the others by symbol.
    ranges: (low, high) by symbol, where not those above.
    sample_rate: In Hz.
    name: Name of the layer.

  Raises:
    ValueError: An unknown type or symbol, or a value or range that makes no
      sense.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import effects
    >>> equaliser = effects.Biquads(['peak'], sample_rate=16000)
    >>> equaliser(
    ...   tf.zeros([1, 1000]), tf.fill([1, equaliser.n_controls], 0.5)
    ... ).shape
    TensorShape([1, 1000])
  """

  def __init__(
    self,
    types: Sequence[str] = gin.REQUIRED,
    trainable: Sequence[str] | None = None,
    fixed: Mapping[str, float] | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
    sample_rate: int = 48000,
    name: str = 'biquads',
  ):
    highest = _MAX_F0 * sample_rate
    controls = []
    for i, type_ in enumerate(types):
      if type_ not in core.FILTER_TYPES:
        raise ValueError(
          f'Filter type {type_!r} must be one of {core.FILTER_TYPES}.'
        )
      prefix = f'{type_}_{i}'
      if type_ in core.FILTERS_WITH_GAIN:
        controls.append(Control(f'{prefix}_gain_db', -12.0, 12.0, 0.0))
      low, high = (
        min(f, highest) for f in _F0_RANGES_HZ.get(type_, (20.0, 20000.0))
      )
      middle = float(np.sqrt(low * high))
      controls += [
        Control(f'{prefix}_f0_hz', low, high, middle, True),
        Control(f'{prefix}_q', 0.1, 10.0, float(np.sqrt(0.5)), True),
      ]
    ranges = {
      symbol: [min(b, highest) for b in bounds]
      if symbol.endswith('_f0_hz')
      else bounds
      for symbol, bounds in dict(ranges or {}).items()
    }
    super().__init__(controls, trainable, fixed, ranges, name)
    self.types = tuple(types)
    self.sample_rate: int = sample_rate

  @property
  def macs_per_sample(self) -> float:
    """Multiply-accumulates per sample of audio: five for each section."""
    return 5.0 * len(self.types)

  def initial_state(self, batch_size: int) -> Any:
    """Returns zeros, two for each section."""
    return tf.zeros([batch_size, len(self.types), 2], tf.float64)

  def coefficients(self, controls: tf.Tensor) -> tf.Tensor:
    """Returns sections [batch, n_frames, n_sections, 6] for units."""
    settings = self.settings(controls)
    n_frames = controls.shape[1]
    stacked = {}
    for part in ('f0_hz', 'q', 'gain_db'):
      values = []
      for i, type_ in enumerate(self.types):
        value = settings.get(f'{type_}_{i}_{part}', tf.zeros([1, 1]))
        values.append(
          tf.broadcast_to(value, [core.batch_size(controls), n_frames])
        )
      stacked[part] = tf.stack(values, axis=-1)
    return core.design_biquads(
      self.types, **stacked, sample_rate=self.sample_rate
    )

  def stream(
    self, state: Any, audio: tf.Tensor, controls: tf.Tensor
  ) -> tuple[Any, Any]:
    """Processes the next chunk; see `Controlled`."""
    return core.sosfilt(audio, self.coefficients(controls), state)


@gin.register(module='dafx.effects')
class Fir(processors.Processor):
  """Convolution with an impulse response that is trained, or given.

  Args:
    n_taps: Length of the response; that of `ir` if it is given.
    kind: 'taps', each of its own, or 'siren': a network of sines from time to
      tap (V. Sitzmann et al., NeurIPS 2020), smoother and with a number of
      parameters of its own.
    ir: Response to start from, [n_taps], for 'taps'; by default 1 and zeros.
    hidden_size: Width of the network for 'siren'.
    n_layers: Layers of sines for 'siren'.
    w0: Frequency of the first layer of sines.
    seed: Seed of the network.
    trainable: Whether the response is trained.
    name: Name of the layer.

  Raises:
    ValueError: An unknown kind, or an `ir` of another shape, not finite, or for
      'siren'.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import effects
    >>> delay = effects.Fir(ir=[0.0, 1.0])
    >>> delay(tf.constant([[1.0, 2.0, 3.0]])).numpy().round(3) + 0.0
    array([[0., 1., 2.]], dtype=float32)
  """

  def __init__(
    self,
    n_taps: int = 64,
    kind: str = 'taps',
    ir: Sequence[float] | None = None,
    hidden_size: int = 32,
    n_layers: int = 5,
    w0: float = 1000.0,
    seed: int = 0,
    trainable: bool = True,
    name: str = 'fir',
  ):
    super().__init__(name=name, trainable=trainable)
    if kind not in ('taps', 'siren'):
      raise ValueError(f"kind={kind!r} must be 'taps' or 'siren'.")
    if ir is not None:
      taps = np.asarray(ir, np.float32)
      if kind != 'taps' or taps.ndim != 1 or not np.isfinite(taps).all():
        raise ValueError(
          f'ir of shape {taps.shape} for kind={kind!r} must be [n_taps], '
          "finite, for kind='taps'."
        )
      n_taps = len(taps)
    if n_taps < 1:
      raise ValueError(f'n_taps={n_taps} must be at least 1.')
    self.n_taps = n_taps
    self.kind = kind
    if kind == 'taps':
      start = np.eye(1, n_taps, dtype=np.float32)[0] if ir is None else taps
      self.taps = self.add_weight(
        'taps', [n_taps], initializer=tf.constant_initializer(start)
      )
    else:
      self.siren = siren.Siren(hidden_size, n_layers, w0, seed, name='siren')

  def impulse_response(self) -> tf.Tensor:
    """Returns the response, [n_taps]."""
    if self.kind == 'taps':
      return tf.identity(self.taps)
    return self.siren(tf.linspace(-1.0, 1.0, self.n_taps))

  def get_controls(self, audio: tf.Tensor) -> dict[str, tf.Tensor]:
    """Passes audio through, with the response, [n_taps]."""
    return {'audio': audio, 'ir': self.impulse_response()}

  def get_signal(self, audio: tf.Tensor, ir: tf.Tensor) -> tf.Tensor:
    """Convolves audio [batch, n_samples] with ir [n_taps]; of equal length."""
    state = self.initial_state(core.batch_size(audio))
    return self.stream(state, audio, ir)[0]

  @property
  def receptive_field(self) -> int:
    """Samples that an output depends on: its own and those before."""
    return self.n_taps

  @property
  def macs_per_sample(self) -> float:
    """Multiply-accumulates per sample of audio, without a FFT."""
    return float(self.n_taps)

  def initial_state(self, batch_size: int) -> Any:
    """Returns the past samples, none: zeros [batch, n_taps - 1]."""
    return tf.zeros([batch_size, self.n_taps - 1])

  def stream(
    self, state: Any, audio: tf.Tensor, ir: tf.Tensor
  ) -> tuple[Any, Any]:
    """Processes the next chunk; returns (audio, state)."""
    n_samples = audio.shape[1]
    line = tf.concat([state, audio], axis=1)
    # As `ddsp.core.fft_convolve`, which has to know the size of the batch.
    size = ddsp.core.get_fft_size(line.shape[1], self.n_taps, power_of_2=True)
    spectrum = tf.signal.rfft(line, [size]) * tf.signal.rfft(ir, [size])
    out = tf.signal.irfft(spectrum, [size])
    start = self.n_taps - 1
    return out[:, start : start + n_samples], line[:, n_samples:]
