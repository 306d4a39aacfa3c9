"""Plugins, settings and audio that gradients are measured on."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dafx import effects

CALF = 'http://calf.sourceforge.net/plugins/'
LSP = 'http://lsp-plug.in/plugins/lv2/'
TUBE = 'http://invadarecords.com/plugins/lv2/tube/mono'
SAMPLE_RATE = 22050
HOP_SIZE = 1024
N_FRAMES = 20


def make_audio(n_samples: int) -> np.ndarray:
  """Returns decaying chords over soft noise, shape [1, n_samples, 1]."""
  t = np.arange(n_samples) / SAMPLE_RATE
  decay = np.exp(-3.0 * (2.0 * t % 1.0))
  tones = ((110, 0.3), (220, 0.2), (440, 0.15), (1500, 0.1), (5000, 0.05))
  audio = sum(a * decay * np.sin(2 * np.pi * f * t) for f, a in tones)
  audio += 0.02 * np.random.default_rng(0).standard_normal(n_samples)
  return audio.astype(np.float32)[np.newaxis, :, np.newaxis]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
  """Returns the cosine between two arrays, 0 if one of them is zero."""
  size = np.linalg.norm(a) * np.linalg.norm(b)
  return float((a * b).sum() / size) if size > 0.0 else 0.0


class ControlSystem(NamedTuple):
  """A plugin whose gradient to the controls is measured.

  Attributes:
    name: Of its row.
    uri: Of the plugin.
    trainable: Symbols of the controls.
    fixed: Values of others.
    targets: Cosine to be reached, by number of probes.
  """

  name: str
  uri: str
  trainable: list[str]
  fixed: dict[str, float]
  targets: dict[int, float]

  def make_plugin(self) -> effects.LV2Plugin:
    """Returns the plugin at `SAMPLE_RATE`."""
    return effects.LV2Plugin(
      self.uri, self.trainable, self.fixed, sample_rate=SAMPLE_RATE
    )


_BANDS = range(4)
_MULTIBAND = (
  'Calf multiband compressor',
  CALF + 'MultibandCompressor',
  [f'{kind}{b}' for b in _BANDS for kind in ('threshold', 'ratio', 'makeup')],
  {f'bypass{b}': 0.0 for b in _BANDS},
)
_TUBE = ('Invada tube', TUBE, ['drive', 'dcoffset', 'mix'], {})

# Controls of their own in each frame.
MOVING = (
  ControlSystem(*_MULTIBAND, {1: 0.30, 4: 0.50, 16: 0.85}),
  ControlSystem(*_TUBE, {1: 0.40, 4: 0.75, 16: 0.90}),
)
MULTIBAND = ControlSystem(*_MULTIBAND, {})
EQUALISER = ControlSystem(
  'LSP graphic equaliser',
  LSP + 'graph_equalizer_x32_mono',
  [*(f'g_{band}' for band in range(32)), 'g_out'],
  {},
  {1: 0.15, 4: 0.35},
)
# One setting for the item.
STATIC = (
  EQUALISER,
  MULTIBAND,
  ControlSystem(
    'Calf reverb',
    CALF + 'Reverb',
    ['decay_time', 'hf_damp', 'diffusion', 'amount', 'dry', 'predelay']
    + ['bass_cut', 'treble_cut', 'level_in', 'level_out'],
    {},
    {},
  ),
  ControlSystem(
    'Calf vintage delay',
    CALF + 'VintageDelay',
    ['level_in', 'level_out', 'feedback', 'amount', 'dry', 'width', 'bpm'],
    {},
    {},
  ),
  ControlSystem(
    'Calf flanger',
    CALF + 'Flanger',
    ['min_delay', 'mod_depth', 'mod_rate', 'feedback', 'stereo', 'amount']
    + ['dry', 'level_in', 'level_out'],
    {},
    {},
  ),
  ControlSystem(
    'Calf 8-band EQ',
    CALF + 'Equalizer8Band',
    ['ls_level', 'ls_freq', 'hs_level', 'hs_freq', 'p1_level', 'p1_freq']
    + ['p1_q'],
    {'ls_active': 1.0, 'hs_active': 1.0, 'p1_active': 1.0},
    {},
  ),
  ControlSystem(
    'LSP compressor',
    LSP + 'compressor_mono',
    ['al', 'at', 'rt', 'cr', 'kn', 'mk'],
    {},
    {},
  ),
  ControlSystem(*_TUBE, {}),
)


class AudioSystem(NamedTuple):
  """A plugin at a setting, whose gradient to the audio is measured.

  Attributes:
    name: Of its row.
    uri: Of the plugin.
    settings: Values of its controls.
    gain: Of the audio before it.
    target: Cosine that the best estimate is to reach, or None.
  """

  name: str
  uri: str
  settings: dict[str, float]
  gain: float = 1.0
  target: float | None = 0.99


def audio_systems() -> Iterator[AudioSystem]:
  """Yields plugins with a target, then harder ones without."""
  bands = {f'bypass{band}': 0.0 for band in _BANDS}
  multiband = CALF + 'MultibandCompressor'
  yield AudioSystem('LSP limiter', LSP + 'limiter_mono', {})
  yield AudioSystem('Calf multiband compressor', multiband, bands)
  yield AudioSystem(
    'Calf 8-band EQ',
    CALF + 'Equalizer8Band',
    dict(ls_active=1, ls_level=4, p1_active=1, p1_level=0.1, p1_freq=800),
  )
  yield AudioSystem('Calf reverb', CALF + 'Reverb', {})
  yield AudioSystem('LSP compressor', LSP + 'compressor_mono', dict(al=0.05))
  yield AudioSystem('Calf vintage delay', CALF + 'VintageDelay', {})
  # 18 dB is all that the plugin gives; 2 more come with the audio.
  drive = dict(drive=18, mix=100)
  yield AudioSystem(
    'Invada tube, driven by 20 dB', TUBE, drive, gain=10 ** (2 / 20)
  )
  yield AudioSystem(
    'Calf compressor, hard',
    CALF + 'Compressor',
    dict(threshold=0.02, ratio=8, attack=2, release=50),
  )
  limiting = dict(alr=0, boost=1, th=0.1)
  yield AudioSystem(
    'LSP limiter, 20 dB of limiting',
    LSP + 'limiter_mono',
    limiting,
    target=None,
  )
  hard = bands | {f'threshold{band}': 0.02 for band in _BANDS}
  hard |= {f'ratio{band}': 8.0 for band in _BANDS}
  yield AudioSystem(
    'Calf multiband compressor, hard', multiband, hard, target=None
  )
