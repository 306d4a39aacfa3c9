"""Effects and what controls them, as DDSP processors."""

from dafx.effects.chains import LV2Chain
from dafx.effects.controlled import Control, Controlled, Gain
from dafx.effects.controllers import Const, Envelope, Fc
from dafx.effects.discrete import DiscreteLV2Plugin, choice_gradient
from dafx.effects.dynamics import Dynamics
from dafx.effects.filters import Biquads, Fir
from dafx.effects.joining import compare, find_runs, join_runs
from dafx.effects.plugins import LV2Plugin
from dafx.effects.proxies import ProxyLV2Plugin
from dafx.effects.waveshaper import Waveshaper

__all__ = [
  'Biquads',
  'Const',
  'Control',
  'Controlled',
  'DiscreteLV2Plugin',
  'Dynamics',
  'Envelope',
  'Fc',
  'Fir',
  'Gain',
  'LV2Chain',
  'LV2Plugin',
  'ProxyLV2Plugin',
  'Waveshaper',
  'choice_gradient',
  'compare',
  'find_runs',
  'join_runs',
]
