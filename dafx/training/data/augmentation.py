"""Variations of training pairs, drawn by seed and step.

An augmentation is called as augment(audio, target, sample_rate, rng), both of
shape [n_samples, n_channels], and returns both.
"""

import functools

import ddsp
import gin
import numpy as np

from dafx import lv2

_EQUALIZER = 'http://calf.sourceforge.net/plugins/Equalizer8Band'
_BANDS = ('hp', 'lp', 'ls', 'hs', 'p1', 'p2', 'p3', 'p4')
# Below half the rate, where a filter still is what it says.
_HIGHEST = 0.45

# Curves of Calf's eight-band equaliser: by band, centre in Hz, and for shelves
# and peaks gain in dB, and for peaks Q.
EQ_PRESETS: dict[str, dict[str, tuple[float, ...]]] = {
  'flat': {},
  'old_time_radio': {'hp': (400,), 'lp': (3500,), 'p2': (1200, 6, 1.0)},
  'vocal_enhancer': {
    'hp': (90,),
    'p1': (250, -3, 1.0),
    'p3': (3000, 3, 0.8),
    'hs': (9000, 3),
  },
  'rap_vocals': {
    'hp': (80,),
    'p1': (350, -4, 1.2),
    'p3': (4000, 4, 0.8),
    'hs': (8000, 3),
  },
  'loudness_maximizer': {
    'ls': (90, 5),
    'p2': (500, -2, 0.7),
    'hs': (7000, 4),
  },
  'kick': {'p1': (60, 6, 1.2), 'p2': (350, -6, 1.0), 'p4': (3500, 4, 1.0)},
  'heavy_guitar': {
    'hp': (90,),
    'p1': (120, 3, 1.0),
    'p2': (600, -5, 0.8),
    'p3': (2500, 4, 1.0),
    'lp': (9000,),
  },
  'low_pass': {'lp': (2500,)},
  'high_pass': {'hp': (300,)},
  'beefy_snare': {
    'p1': (200, 5, 1.2),
    'p2': (600, -3, 1.0),
    'p4': (5000, 4, 0.8),
  },
  'acoustic_guitar': {
    'hp': (80,),
    'p1': (200, -3, 1.0),
    'p3': (2500, 2, 0.8),
    'hs': (8000, 4),
  },
}


@gin.register(module='dafx.training.data')
class NoiseAndGain:
  """Noise on the input alone, and one gain for input and target.

  Args:
    snr_db: Range of the ratio of the input's power to the noise's.
    gain: Range of the factor, which is drawn evenly.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import data
    >>> audio = np.ones([1000, 1], np.float32)
    >>> rng = np.random.default_rng(0)
    >>> vary = data.NoiseAndGain(snr_db=(30, 50), gain=(0.5, 0.5))
    >>> noisy, target = vary(audio, audio, 16000, rng)
    >>> float(target[0, 0])
    0.5
  """

  def __init__(
    self,
    snr_db: tuple[float, float] = (30.0, 50.0),
    gain: tuple[float, float] = (0.1, 1.0),
  ):
    for name, (low, high) in {'snr_db': snr_db, 'gain': gain}.items():
      if low > high:
        raise ValueError(f'{name}=({low}, {high}): the lower one comes first.')
    self.snr_db = snr_db
    self.gain = gain

  def __call__(self, audio, target, sample_rate, rng):
    """Returns both, varied."""
    del sample_rate
    level = np.sqrt(np.mean(np.square(audio)))
    level *= ddsp.core.db_to_amplitude(-rng.uniform(*self.snr_db))
    noise = rng.standard_normal(audio.shape, np.float32)
    gain = rng.uniform(*self.gain)
    return gain * (audio + level * noise), gain * target


@functools.lru_cache(maxsize=4)
def _renderer(sample_rate: int):
  names = ('active', 'freq', 'level', 'q')
  plugin = lv2.get_plugin(_EQUALIZER)
  symbols = [f'{b}_{n}' for b in _BANDS for n in names]
  symbols = [s for s in symbols if s in plugin.controls]
  # The plugin glides from its defaults to its settings, for half a second.
  warm_up = int(0.6 * sample_rate)
  return lv2.Renderer(
    _EQUALIZER, sample_rate, symbols, n_threads=1, warm_up=warm_up
  )


@gin.register(module='dafx.training.data')
class RandomEqualizer:
  """One of the curves above on the input, through the LV2 plugin.

  Args:
    presets: Which of `EQ_PRESETS` are drawn from.
    frequency_factor: Range of the factor of each frequency.
    gain_factor: Range of the factor of each gain in dB.

  Raises:
    KeyError: No such preset.

  Examples:
    >>> import numpy as np
    >>> from dafx.training import data
    >>> data.EQ_PRESETS['low_pass']
    {'lp': (2500,)}
    >>> vary = data.RandomEqualizer(presets=('low_pass',))
    >>> settings = vary.settings('low_pass', 44100, np.random.default_rng(0))
    >>> sorted(settings)
    ['lp_active', 'lp_freq']
  """

  def __init__(
    self,
    presets: tuple[str, ...] = tuple(EQ_PRESETS),
    frequency_factor: tuple[float, float] = (0.75, 1.25),
    gain_factor: tuple[float, float] = (0.5, 1.5),
  ):
    for name in presets:
      if name not in EQ_PRESETS:
        raise KeyError(
          f'There is no preset {name!r}; there are {", ".join(EQ_PRESETS)}.'
        )
    self.presets = tuple(presets)
    self.frequency_factor = frequency_factor
    self.gain_factor = gain_factor

  def settings(
    self, preset: str, sample_rate: int, rng: np.random.Generator
  ) -> dict[str, float]:
    """Draws values of the plugin's ports, by symbol.

    Args:
      preset: One of `EQ_PRESETS`.
      sample_rate: In Hz; what lies too close to half of it is left out.
      rng: Draws them.

    Returns:
      Those that are not the plugin's defaults.
    """
    values = {}
    for band, (freq_hz, *rest) in EQ_PRESETS[preset].items():
      freq_hz = freq_hz * rng.uniform(*self.frequency_factor)
      factor = rng.uniform(*self.gain_factor)
      if freq_hz > _HIGHEST * sample_rate:
        continue
      values[f'{band}_active'] = 1.0
      values[f'{band}_freq'] = freq_hz
      if rest:
        values[f'{band}_level'] = ddsp.core.db_to_amplitude(rest[0] * factor)
      if len(rest) > 1:
        values[f'{band}_q'] = rest[1]
    return values

  def __call__(self, audio, target, sample_rate, rng):
    """Returns the input, equalised, and the target as it is."""
    preset = self.presets[rng.integers(len(self.presets))]
    values = self.settings(preset, sample_rate, rng)
    renderer = _renderer(sample_rate)
    controls = renderer.default_controls().copy()
    for symbol, value in values.items():
      controls[0, renderer.controls.index(symbol)] = value
    planes = audio.T[..., np.newaxis]  # [n_channels, n_samples, 1]
    frames = np.repeat(controls[np.newaxis], len(planes), axis=0)
    out = renderer.render(planes, frames)  # [n_channels, n_samples, 2]
    return out[..., 0].T, target
