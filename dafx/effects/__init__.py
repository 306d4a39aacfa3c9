"""Effects and what controls them, as DDSP processors."""

from dafx.effects.black_box import BlackBoxProcessor
from dafx.effects.callables import BlackBox
from dafx.effects.chains import LV2Chain
from dafx.effects.controlled import Control, Controlled, Gain
from dafx.effects.controllers import Const, Envelope, Fc
from dafx.effects.discrete import DiscreteLV2Plugin, choice_gradient
from dafx.effects.dynamics import Dynamics
from dafx.effects.filters import Biquads, Fir
from dafx.effects.plugins import LV2Plugin
from dafx.effects.proxies import ProxyLV2Plugin
from dafx.effects.strategies import Host
from dafx.effects.waveshaper import Waveshaper

__all__ = [
  'Biquads',
  'BlackBox',
  'BlackBoxProcessor',
  'Const',
  'Control',
  'Controlled',
  'DiscreteLV2Plugin',
  'Dynamics',
  'Envelope',
  'Fc',
  'Fir',
  'Gain',
  'Host',
  'LV2Chain',
  'LV2Plugin',
  'ProxyLV2Plugin',
  'Waveshaper',
  'choice_gradient',
]
