"""Metadata of .nam files: what a network is of, and how loud it is."""

import dataclasses
import functools
import math
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from dafx import _arguments
from dafx.audio import files as audio_files
from dafx.audio import nam_words
from dafx.neural import base

_N_GAINS = 11


@dataclasses.dataclass(frozen=True)
class Metadata:
  """What a .nam file says of a network beside its sound.

  Attributes:
    name: Of the network, for people.
    modeled_by: Who made it.
    gear_make: Maker of what was captured.
    gear_model: Its model.
    gear_type: One of `nam_words.GEAR_TYPES`: 'amp', 'pedal' and so on.
    tone_type: One of `nam_words.TONE_TYPES`: 'clean', 'overdrive' and so on.
    input_level_dbu: Level of a sine of 1 kHz that peaks at full scale at the
      input, in dBu RMS.
    output_level_dbu: The same at the output.
    validation_esr: Error-to-signal ratio of the validation.

  Raises:
    ValueError: An unknown type, or a level that is not finite.

  Examples:
    >>> from dafx.neural import nam
    >>> nam.Metadata('Driven tube', tone_type='overdrive').name
    'Driven tube'
  """

  name: str | None = None
  modeled_by: str | None = None
  gear_make: str | None = None
  gear_model: str | None = None
  gear_type: str | None = None
  tone_type: str | None = None
  input_level_dbu: float | None = None
  output_level_dbu: float | None = None
  validation_esr: float | None = None

  def __post_init__(self):
    """Checks what is there."""
    for key, value, allowed in (
      ('gear_type', self.gear_type, nam_words.GEAR_TYPES),
      ('tone_type', self.tone_type, nam_words.TONE_TYPES),
    ):
      if value not in (None, *allowed):
        raise ValueError(f'{key} is {value!r}; it is one of {allowed}.')
    for key, level in (
      ('input_level_dbu', self.input_level_dbu),
      ('output_level_dbu', self.output_level_dbu),
      ('validation_esr', self.validation_esr),
    ):
      if level is not None and not _arguments.is_finite(level):
        raise ValueError(f'{key} is {level}; it is a finite number.')

  def to_json(self) -> dict[str, Any]:
    """Returns the entries of a file; what is not known has none."""
    entries = {
      key: value
      for key, value in dataclasses.asdict(self).items()
      if value is not None
    }
    if 'validation_esr' in entries:
      entries['training'] = {'validation_esr': entries.pop('validation_esr')}
    return entries


@functools.cache
def standard_input() -> np.ndarray:
  """Returns the noise that loudness is measured with, 48,000 samples."""
  path = pathlib.Path(__file__).parent / 'standard_input.flac'
  return audio_files.read(path)[0][:, 0]


def measure(network: base.SettlingNetwork) -> dict[str, float]:
  """Measures loudness and gain as Neural Amp Modeler defines them.

  The standard input is fed as samples, whatever the network's rate, after
  silence. Loudness is the RMS of the output in dB. Gain says how the RMS rises
  over 11 gains of the input from 0 to 1: 0 for a linear network, more for one
  that compresses.

  Args:
    network: A network without knobs.

  Returns:
    'loudness' in dB, and 'gain' from 0 to 1. Nothing for a network that is
    silent.

  Examples:
    >>> from dafx import neural
    >>> from dafx.neural import nam
    >>> wire = neural.Linear(1)
    >>> wire.set_response([1.0])
    >>> {key: round(x, 2) for key, x in nam.measure(wire).items()}
    {'loudness': -14.97, 'gain': 0.0}
  """
  rms = []
  for gain in np.linspace(0.0, 1.0, _N_GAINS, dtype=np.float32):
    audio = tf.constant(gain * standard_input()[np.newaxis])
    output = network.get_signal(audio).numpy().astype(np.float64)
    rms.append(np.sqrt(np.mean(output**2)))
  highest = _N_GAINS * rms[-1]
  lowest = 0.5 * highest
  if not highest > 0.0 or not math.isfinite(highest):
    return {}
  gain = float((sum(rms) - lowest) / (highest - lowest))
  loudness = 20.0 * math.log10(rms[-1])
  return {'loudness': loudness, 'gain': min(max(gain, 0.0), 1.0)}
