"""What LV2 plugins are installed, and what each says of itself.

Plugins are read through lilv once per process, on first use; a plugin's ports
are addressed by symbol, because indices move between versions of a plugin.
"""

import dataclasses
import difflib
import functools
import os
import pathlib

from dafx.lv2 import errors, lilv, packages
from dafx.lv2 import parameters as parameters_lib
from dafx.lv2 import ports as ports_lib

_LV2 = 'http://lv2plug.in/ns/lv2core#'
_BUF_SIZE = 'http://lv2plug.in/ns/ext/buf-size#'
_STATE = 'http://lv2plug.in/ns/ext/state#'
_PRESET = 'http://lv2plug.in/ns/ext/presets#Preset'

FIXED_BLOCK_FEATURES = (
  _BUF_SIZE + 'fixedBlockLength',
  _BUF_SIZE + 'powerOf2BlockLength',
)
SUPPORTED_FEATURES = frozenset(
  (
    'http://lv2plug.in/ns/ext/urid#map',
    'http://lv2plug.in/ns/ext/urid#unmap',
    'http://lv2plug.in/ns/ext/options#options',
    'http://lv2plug.in/ns/ext/worker#schedule',
    'http://lv2plug.in/ns/ext/log#log',
    _STATE + 'mapPath',
    _STATE + 'freePath',
    _STATE + 'loadDefaultState',
    _BUF_SIZE + 'boundedBlockLength',
    _BUF_SIZE + 'coarseBlockLength',
    *FIXED_BLOCK_FEATURES,
    # Promises about the host's behaviour, which need no code.
    _LV2 + 'hardRTCapable',
    _LV2 + 'isLive',
  )
)


@dataclasses.dataclass(frozen=True, eq=False)
class Plugin:
  """What an installed plugin says of itself.

  Attributes:
    uri: Its name in LV2.
    name: Its name for people.
    author: Who made it, or ''.
    plugin_class: Label of its LV2 class, such as 'Compressor'.
    version: 'minor.micro' of the plugin.
    bundle_path: Folder that it lies in.
    ports: All its ports, by index.
    required_features: URIs of what it needs from a host.
    loads_default_state: Whether it wants its default state restored.
    parameters: What else can be set, such as files, by URI.
    prefers_whole_blocks: Whether it asks for blocks of one length.
    lilv_plugin: Where this was read, for `instances` and `presets`.

  Examples:
    >>> from dafx import lv2
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> plugin = lv2.get_plugin(uri)
    >>> isinstance(plugin, lv2.Plugin), plugin.name, len(plugin.audio_inputs)
    (True, 'Calf Compressor', 2)
  """

  uri: str
  name: str
  author: str
  plugin_class: str
  version: str
  bundle_path: pathlib.Path
  ports: tuple[ports_lib.Port, ...]
  required_features: tuple[str, ...]
  loads_default_state: bool
  parameters: tuple[parameters_lib.Parameter, ...]
  prefers_whole_blocks: bool
  lilv_plugin: lilv.Plugin = dataclasses.field(repr=False)

  def __reduce__(self):
    """Says how it is copied and pickled: read anew, with the same ports."""
    return _again, (self.uri, self.ports)

  @functools.cached_property
  def controls(self) -> dict[str, ports_lib.Port]:
    """Control inputs by symbol."""
    return {
      p.symbol: p for p in self.ports if p.kind == 'control' and p.is_input
    }

  @functools.cached_property
  def has_presets(self) -> bool:
    """Whether presets of it are installed."""
    with lilv.lock:
      return bool(self.lilv_plugin.related(_PRESET))

  @functools.cached_property
  def audio_inputs(self) -> tuple[ports_lib.Port, ...]:
    """Audio inputs in port order, side chains included."""
    return tuple(p for p in self.ports if p.kind == 'audio' and p.is_input)

  @functools.cached_property
  def main_inputs(self) -> tuple[ports_lib.Port, ...]:
    """Audio inputs but for side chains: the channels that go in."""
    main = tuple(p for p in self.audio_inputs if not p.is_side_chain)
    return main or self.audio_inputs

  @functools.cached_property
  def side_chains(self) -> tuple[ports_lib.Port, ...]:
    """Audio inputs that are no channels: they hear what the channels are."""
    return tuple(p for p in self.audio_inputs if p not in self.main_inputs)

  @functools.cached_property
  def audio_outputs(self) -> tuple[ports_lib.Port, ...]:
    """Audio outputs in port order: the channels that come out."""
    return tuple(p for p in self.ports if p.kind == 'audio' and not p.is_input)

  @functools.cached_property
  def latency_port(self) -> ports_lib.Port | None:
    """The control output that reports the latency in samples, or None."""
    for port in self.ports:
      if port.kind == 'control' and not port.is_input:
        if port.designation == _LV2 + 'latency':
          return port
    return None

  @property
  def files(self) -> tuple[parameters_lib.Parameter, ...]:
    """The parameters that are paths of files."""
    return tuple(p for p in self.parameters if p.is_file)

  def parameter(self, name: str) -> parameters_lib.Parameter:
    """Returns the parameter of a name; see `parameters.choose`.

    Args:
      name: Its URI, or what stands behind the last '#', '/' or ':' of it.

    Raises:
      KeyError: There is none; those that there are are named.
    """
    return parameters_lib.choose(self.parameters, name, self.uri)

  @property
  def full_version(self) -> str:
    """Its version, and that of the Debian package that it came in."""
    return packages.full_version(self.uri, self.version, self.bundle_path)

  @property
  def needs_fixed_block(self) -> bool:
    """Whether each run must have just the block size in samples.

    Also where the plugin only prefers that (coarseBlockLength): convoLV2 drops
    sound where the length changes.
    """
    return self.prefers_whole_blocks or any(
      f in self.required_features for f in FIXED_BLOCK_FEATURES
    )

  def at_rate(self, sample_rate: float) -> 'Plugin':
    """Returns the plugin with its ports' values at a sample rate, in Hz."""
    if not any(p.per_sample_rate for p in self.ports):
      return self
    ports = tuple(p.at_rate(sample_rate) for p in self.ports)
    return dataclasses.replace(self, ports=ports)

  def control(self, symbol: str) -> ports_lib.Port:
    """Returns the control input of a symbol.

    Args:
      symbol: The port's symbol.

    Raises:
      KeyError: No such control; the closest symbols are named.
    """
    if symbol in self.controls:
      return self.controls[symbol]
    hint = errors.hint_of_names(symbol, self.controls)
    raise KeyError(
      f'symbol={symbol!r} is no control input of {self.uri}. {hint}'
    )


def _read_plugin(plugin: lilv.Plugin) -> Plugin:
  version = '.'.join(
    plugin.text(_LV2 + part) or '0' for part in ('minorVersion', 'microVersion')
  )
  return Plugin(
    uri=plugin.uri,
    name=plugin.name,
    author=plugin.author,
    plugin_class=plugin.class_label,
    version=version,
    bundle_path=plugin.bundle_path,
    ports=tuple(
      ports_lib.read(port, i) for i, port in enumerate(plugin.ports())
    ),
    required_features=tuple(sorted(plugin.required_features)),
    loads_default_state=plugin.has_feature(_STATE + 'loadDefaultState'),
    parameters=parameters_lib.read(plugin),
    prefers_whole_blocks=plugin.has_feature(_BUF_SIZE + 'coarseBlockLength'),
    lilv_plugin=plugin,
  )


_plugins: dict[str, Plugin] = {}  # by URI; use under `lilv.lock`


def list_uris() -> list[str]:
  """Returns the URIs of all installed plugins, sorted.

  Installed is what lies in the folders of the variable LV2_PATH, or in the
  standard ones (such as /usr/lib/lv2) where it is not set, at the first use.

  Examples:
    >>> from dafx import lv2
    >>> 'http://calf.sourceforge.net/plugins/Compressor' in lv2.list_uris()
    True
  """
  with lilv.lock:
    return sorted(lilv.open_world().plugin_uris())


def _again(uri, ports):
  """Makes a plugin like another; see `Plugin.__reduce__`."""
  plugin = get_plugin(uri)
  same = plugin.ports == ports
  return plugin if same else dataclasses.replace(plugin, ports=ports)


def get_plugin(uri: str) -> Plugin:
  """Returns what the plugin of a URI says of itself.

  Args:
    uri: The plugin's URI, such as
      'http://calf.sourceforge.net/plugins/Compressor'.

  Raises:
    ValueError: None of that URI is installed; the closest
      ones are named.

  Examples:
    >>> from dafx import lv2
    >>> plugin = lv2.get_plugin(
    ...   'http://calf.sourceforge.net/plugins/Compressor'
    ... )
    >>> plugin.control('attack').unit
    'ms'
  """
  if not isinstance(uri, str):
    raise ValueError(
      f'uri={uri!r} must be the URI of a plugin, a string. lv2.list_uris() '
      'names those that are installed.'
    )
  with lilv.lock:
    if uri not in _plugins:
      found = None
      is_uri = uri.isprintable() and not any(c in uri for c in ' <>"')
      if is_uri and ':' in uri:
        found = lilv.open_world().plugin(uri)
      if found is None:
        raise ValueError(_not_found_message(uri))
      _plugins[uri] = _read_plugin(found)
    return _plugins[uri]


def advice_on_path() -> str:
  """Returns what to do where plugins lie in folders that are not looked into.

  Examples:
    >>> import os
    >>> from dafx import lv2
    >>> 'LV2_PATH' in lv2.advice_on_path()
    True
  """
  path = os.environ.get('LV2_PATH')
  if path is None:
    return 'If they lie elsewhere, set LV2_PATH to the folder that holds them.'
  return (
    f'LV2_PATH is {path!r}, and nothing else is looked into: unset it, or add '
    'the folder that holds them.'
  )


def _not_found_message(uri: str) -> str:
  uris = list_uris()
  package = packages.package_of(uri)
  makers = {packages.package_of(known) for known in uris}
  if package is not None and package not in makers:
    return (
      f'uri={uri!r}: no such LV2 plugin is installed. Debian and Ubuntu have '
      f'it in {package}: sudo apt-get install {package}. {advice_on_path()}'
    )
  if not uris:
    return (
      f'uri={uri!r}: no LV2 plugin is installed. Install some (Debian: '
      f'apt-get install calf-plugins lsp-plugins-lv2). {advice_on_path()}'
    )

  def tail(text):
    return text.rstrip('/').rsplit('/', 1)[-1].rsplit('#', 1)[-1].lower()

  # Makers share long prefixes: what differs is the last part.
  by_tail: dict[str, list[str]] = {}
  for known in uris:
    by_tail.setdefault(tail(known), []).append(known)
  near = difflib.get_close_matches(uri, uris, n=3, cutoff=0.8)
  for match in difflib.get_close_matches(tail(uri), by_tail, n=3, cutoff=0.6):
    near.extend(u for u in by_tail[match] if u not in near)
  hint = (
    f'The closest are {", ".join(near[:3])}.'
    if near
    else f'{len(uris)} others are: dafx.lv2.list_uris() names them.'
  )
  return f'uri={uri!r}: no such LV2 plugin is installed. {hint}'
