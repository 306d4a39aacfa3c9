"""The LV2 host: what is installed, and how to render through it.

NumPy only; nothing here knows of TensorFlow or gin.

    from dafx import lv2
    plugin = lv2.get_plugin('http://calf.sourceforge.net/plugins/Compressor')
    renderer = lv2.Renderer(plugin.uri, sample_rate=44100,
                            controls=['threshold'])
    out = renderer.render(audio, controls)  # [batch, n_samples, n_channels]
"""

from dafx.lv2.errors import (
  CrashError,
  PluginError,
  crashes_in,
  errors_with,
)
from dafx.lv2.inputs import ISOLATIONS, check_value, describe_inputs
from dafx.lv2.parameters import Parameter, Property
from dafx.lv2.ports import Port
from dafx.lv2.preset_files import state_turtle, write_preset
from dafx.lv2.presets import Preset, list_presets, load_preset
from dafx.lv2.renderer import Renderer
from dafx.lv2.safety import moves_of_latency, reason_not_to_train
from dafx.lv2.saving import read_state, takes_state
from dafx.lv2.states import describe_parameters
from dafx.lv2.supply import default_n_threads
from dafx.lv2.world import Plugin, advice_on_path, get_plugin, list_uris

__all__ = [
  'ISOLATIONS',
  'CrashError',
  'Parameter',
  'Plugin',
  'PluginError',
  'Port',
  'Preset',
  'Property',
  'Renderer',
  'advice_on_path',
  'check_value',
  'crashes_in',
  'default_n_threads',
  'describe_inputs',
  'describe_parameters',
  'errors_with',
  'get_plugin',
  'list_presets',
  'list_uris',
  'load_preset',
  'moves_of_latency',
  'read_state',
  'reason_not_to_train',
  'state_turtle',
  'takes_state',
  'write_preset',
]
