"""Renders batches of audio through one LV2 plugin: NumPy in, NumPy out.

A render depends on its inputs alone: each item starts from the state of a new
instance, whatever was rendered before, in whatever order and on however many
threads. A new instance is made for each item; on request a used one is reset
instead, where that is cheaper and was seen to give the same samples to the last
bit (`fresh_state`).
"""

import collections
import concurrent.futures
import functools
import logging
import os
import time
from collections.abc import Mapping, Sequence

import numpy as np

from dafx.lv2 import _host, errors, fresh_state, processes, world

_ffi = _host.ffi
_lib = _host.lib
_log = logging.getLogger('dafx.lv2')

ISOLATIONS = ('thread', 'process')
STARTS = ('instance', 'probed')
# Below this cost of a new instance, no cheaper way is looked for.
_CHEAP_INSTANCE_S = 1e-4
# The first two resets and three in so many are compared with a new instance.
_RESETS_PER_AUDIT = 256

_KINDS = {
  ('control', True): _lib.DAFX_CONTROL_IN,
  ('control', False): _lib.DAFX_CONTROL_OUT,
  ('audio', True): _lib.DAFX_AUDIO_IN,
  ('audio', False): _lib.DAFX_AUDIO_OUT,
  ('cv', True): _lib.DAFX_CV_IN,
  ('cv', False): _lib.DAFX_CV_OUT,
  ('atom', True): _lib.DAFX_ATOM_IN,
  ('atom', False): _lib.DAFX_ATOM_OUT,
}


def default_n_threads() -> int:
  """Returns the number of processors that this process may use."""
  return len(os.sched_getaffinity(0))


@functools.cache
def _executor(n_threads: int, process_id: int):
  """Returns the threads to render on; a forked process makes its own."""
  del process_id
  return concurrent.futures.ThreadPoolExecutor(n_threads, 'dafx_render')


class _Instance:
  """An active instance of a plugin, freed with this object."""

  def __init__(self, renderer: 'Renderer'):
    plugin = renderer.plugin
    kinds = [
      _KINDS.get((p.kind, p.is_input), _lib.DAFX_UNCONNECTED)
      for p in plugin.ports
    ]
    with world.instantiation_lock():
      handle = _lib.dafx_instance_new(
        plugin.handle,
        os.fsencode(plugin.bundle_path) + b'/',
        renderer.sample_rate,
        renderer.block_size,
        plugin.needs_fixed_block,
        len(kinds),
        _ffi.new('uint8_t[]', kinds),
        _ffi.from_buffer('float[]', renderer.initial_values),
        _ffi.new('uint32_t[]', [max(p.n_bytes, 16) for p in plugin.ports]),
        renderer.default_state,
      )
    if handle == _ffi.NULL:
      reason = world.why_not_loaded(plugin)
      why = f'its library does not load ({reason})'
      if not reason:
        why = (
          f'the plugin refuses sample_rate={renderer.sample_rate:g} Hz or '
          f'block_size={renderer.block_size}. DAFX_LV2_LOG=1 in the '
          'environment shows what it says; another rate or size may do'
        )
      message = f'{plugin.uri} could not be instantiated: {why}.'
      raise errors.PluginError(message)
    self.handle = _ffi.gc(handle, _lib.dafx_instance_free)
    self.is_used = False


class Renderer:
  """Renders audio through one plugin at one sample rate.

  Args:
    uri: URI of the plugin.
    sample_rate: Rate of the audio, in Hz.
    controls: Symbols of the control ports that `render` gets values for, in
      their order there.
    fixed: Values of other control ports by symbol, in port units. All else
      stays at the plugin's defaults.
    block_size: Largest number of samples per run of the plugin.
    n_threads: Items rendered side by side; as many as there are processors by
      default.
    compensate_latency: Whether to take the plugin's latency out of its output.
    warm_up: Samples of silence to run before each item, under its first
      controls: hides what plugins do at their start.
    strict: Whether output that is not finite is an error. Otherwise it is set
      to zero, counted in `n_nonfinite` and warned of.
    isolation: 'thread' renders in this process; 'process' in worker processes,
      in which a plugin that crashes or hangs costs an error, not the run.
    start: How an item gets the start state: 'instance' makes a new instance,
      which is sure; 'probed' may reset a used one, by a way that a probe found
      to be exact and that is checked now and then.
    time_limit_s: With isolation='process', seconds after which a render of an
      item counts as hung.

  Raises:
    ValueError: No such plugin, or a fixed value or setting out of its range.
    KeyError: No such symbol.
    errors.PluginError: The plugin cannot be run here; the message says why.
  """

  def __init__(
    self,
    uri: str,
    sample_rate: float,
    controls: Sequence[str] = (),
    fixed: Mapping[str, float] | None = None,
    block_size: int = 1024,
    n_threads: int | None = None,
    compensate_latency: bool = True,
    warm_up: int = 0,
    strict: bool = False,
    isolation: str = 'thread',
    start: str = 'instance',
    time_limit_s: float = 60.0,
  ):
    plugin = world.get_plugin(uri)
    for name, value, low in (
      ('sample_rate', sample_rate, 1),
      ('block_size', block_size, 1),
      ('n_threads', n_threads if n_threads is not None else 1, 1),
      ('warm_up', warm_up, 0),
    ):
      if not value >= low:
        raise ValueError(f'{name}={value} must be at least {low}.')
    self.plugin = plugin = plugin.at_rate(sample_rate)
    lacking = set(plugin.required_features) - world.SUPPORTED_FEATURES
    if lacking:
      raise errors.PluginError(
        f'{uri} needs what this host does not have: '
        f'{", ".join(sorted(lacking))}.'
      )
    if not plugin.audio_outputs:
      raise errors.PluginError(f'{uri} has no audio output to render.')

    if isolation not in ISOLATIONS:
      raise ValueError(f'isolation={isolation!r} must be one of {ISOLATIONS}.')

    self.sample_rate = float(sample_rate)
    self.controls = tuple(controls)
    self.fixed = dict(fixed or {})
    self.block_size = int(block_size)
    self.n_threads = int(n_threads or default_n_threads())
    self.warm_up = int(warm_up)
    self.strict = strict
    if start not in STARTS:
      raise ValueError(f'start={start!r} must be one of {STARTS}.')
    self.isolation = isolation
    self.start = start
    self.time_limit_s = time_limit_s
    self.n_nonfinite = 0
    self._idle = collections.deque()
    self._method = None  # how to get back to the start, when known
    self._n_resets = 0
    self.default_state = _ffi.NULL
    state = world.load_default_state(plugin)
    if state != _ffi.NULL:
      self.default_state = _ffi.gc(state, _lib.lilv_state_free)

    self._check_symbols()
    values = [p.default if p.kind == 'control' else 0.0 for p in plugin.ports]
    for symbol, value in self.fixed.items():
      values[plugin.control(symbol).index] = value
    self.initial_values = np.array(values, np.float32)
    self._control_ports = self._indices(
      plugin.control(symbol) for symbol in self.controls
    )
    self._in_ports = self._indices(plugin.audio_inputs)
    self._out_ports = self._indices(plugin.audio_outputs)
    # What a worker process makes the same renderer of.
    self._settings = dict(
      uri=uri,
      sample_rate=self.sample_rate,
      controls=self.controls,
      fixed={symbol: float(value) for symbol, value in self.fixed.items()},
      block_size=self.block_size,
      compensate_latency=bool(compensate_latency),
      warm_up=self.warm_up,
      start=start,
    )
    self._probe_settings = {
      key: self._settings[key]
      for key in ('uri', 'sample_rate', 'block_size', 'controls', 'fixed')
    }
    if isolation == 'process':
      self.latency = processes.open_renderer(self._settings, time_limit_s)
    else:
      self.latency = self._find_latency() if compensate_latency else 0

  def _check_symbols(self):
    both = sorted(set(self.controls) & set(self.fixed))
    if both:
      raise ValueError(
        f'{", ".join(both)}: given both as a control and as a fixed value of '
        f'{self.plugin.uri}; choose one.'
      )
    if len(set(self.controls)) < len(self.controls):
      raise ValueError(f'controls={list(self.controls)} names a symbol twice.')
    for symbol in self.controls:
      self.plugin.control(symbol)
    for symbol, value in self.fixed.items():
      check_value(self.plugin, symbol, value)

  @staticmethod
  def _indices(ports):
    return np.array([p.index for p in ports], np.uint32)

  @property
  def n_channels_in(self) -> int:
    """Number of the plugin's audio inputs."""
    return len(self.plugin.audio_inputs)

  @property
  def n_channels_out(self) -> int:
    """Number of the plugin's audio outputs."""
    return len(self.plugin.audio_outputs)

  def _find_latency(self) -> int:
    """Returns the latency at the fixed and default settings, in samples.

    Reported by the plugin where it has a port for that, else measured.
    """
    instance = self.new_instance()
    port = self.plugin.latency_port
    if port is not None:
      quiet = np.zeros((self.n_channels_in, 2 * self.block_size), np.float32)
      self.run(instance, quiet, self.default_controls(), quiet.shape[1])
      latency = _lib.dafx_instance_value(instance.handle, port.index)
      self._idle.append(instance)
      return max(int(round(latency)), 0) if np.isfinite(latency) else 0
    self._idle.append(instance)
    return self._measure_latency()

  def _measure_latency(self) -> int:
    """Finds the lag of the output by cross-correlation with noise.

    A plugin without a latency port mostly has none; what such a plugin delays
    on purpose (an echo) is no latency. So only a lag below 20 ms counts, at
    which the output is a near copy of the input (correlation above 0.9).
    """
    if not self.n_channels_in:
      return 0
    n = int(0.25 * self.sample_rate)
    noise = 0.05 * np.random.default_rng(0).standard_normal(n)
    noise = noise.astype(np.float32)
    audio = np.broadcast_to(noise, (self.n_channels_in, n))
    instance = self.new_instance()
    out = self.run(instance, audio, self.default_controls(), n)[0][0]
    self._idle.append(instance)
    n_fft = 2 * n
    spectrum = np.fft.rfft(out, n_fft) * np.conj(np.fft.rfft(noise, n_fft))
    correlation = np.fft.irfft(spectrum, n_fft)[: int(0.02 * self.sample_rate)]
    scale = np.linalg.norm(noise) * np.linalg.norm(out)
    lag = int(np.argmax(np.abs(correlation)))
    return lag if abs(correlation[lag]) > 0.9 * scale > 0.0 else 0

  def default_controls(self) -> np.ndarray:
    """Returns the plugin's defaults of `controls`, shape [1, n_controls]."""
    return self.initial_values[self._control_ports][np.newaxis]

  def new_instance(self) -> _Instance:
    """Returns a new instance, in its start state."""
    return _Instance(self)

  def renew(self, instance: _Instance):
    """Gives an instance a new handle, in its start state.

    Raises:
      errors.PluginError: The plugin refuses.
    """
    if not _lib.dafx_instance_renew(instance.handle):
      raise errors.PluginError(
        f'{self.plugin.uri} could not be instantiated again.'
      )

  def reset(self, instance, method: fresh_state.Method, controls: np.ndarray):
    """Brings a used instance to its start state.

    Args:
      instance: The instance.
      method: How.
      controls: What comes next, shape [n_frames, n_controls].
    """
    if method.kind == 'instance':
      self.renew(instance)
      return
    if method.activate:
      _lib.dafx_instance_reactivate(instance.handle)
    if method.n_silence:
      quiet = np.zeros((self.n_channels_in, 0), np.float32)
      self.run(instance, quiet, controls, 1, method.n_silence)

  def _borrow(self, controls) -> _Instance:
    """Returns an instance in its start state, which no one else uses."""
    try:
      instance = self._idle.pop()
    except IndexError:
      return self.new_instance()
    if instance.is_used:
      if self._method is None:
        if self.start == 'instance':
          self._method = fresh_state.INSTANCE
        else:
          self._method = self._find_method(instance)
      self.reset(instance, self._method, controls)
    return instance

  def _find_method(self, instance) -> fresh_state.Method:
    """Returns how to get back to the start; probes only where it may pay."""
    start = time.perf_counter()
    self.renew(instance)
    if time.perf_counter() - start < _CHEAP_INSTANCE_S:
      return fresh_state.INSTANCE
    return fresh_state.find(self.plugin, self._probe_settings)

  def run(self, instance, audio, controls, hop_size, warm_up=0):
    """Renders one item on an instance.

    Args:
      instance: Where to render.
      audio: [n_channels_in, n_samples], rows contiguous; may be a broadcast.
      controls: [n_frames, n_controls], contiguous.
      hop_size: Samples per frame.
      warm_up: Samples of silence before.

    Returns:
      (output [n_channels_out, n_samples], number of non-finite samples).
    """
    instance.is_used = True
    n_samples = audio.shape[-1]
    # Zeros: some plugins add to what they find in their output.
    out = np.zeros((self.n_channels_out, n_samples), np.float32)
    n_nonfinite = _lib.dafx_render(
      instance.handle,
      self.n_channels_in,
      _ffi.from_buffer('uint32_t[]', self._in_ports),
      _row_pointers(audio),
      self.n_channels_out,
      _ffi.from_buffer('uint32_t[]', self._out_ports),
      _row_pointers(out),
      n_samples,
      len(self.controls),
      _ffi.from_buffer('uint32_t[]', self._control_ports),
      _ffi.from_buffer('float[]', controls),
      len(controls) if self.controls else 0,
      hop_size,
      warm_up,
    )
    return out, n_nonfinite

  def render_item(self, audio, controls, hop_size):
    """Renders one item from a fresh state.

    Args:
      audio: Shape [n_channels, n_samples].
      controls: Shape [n_frames, n_controls].
      hop_size: Samples per frame.

    Returns:
      (audio [n_channels_out, n_samples], number of samples not finite, which
      are zero).
    """
    if self.isolation == 'process':
      return processes.render(
        self._settings,
        audio,
        controls,
        hop_size,
        self.n_channels_out,
        self.time_limit_s,
      )
    n_samples = audio.shape[-1]
    if self.latency:
      tail = np.zeros((audio.shape[0], self.latency), np.float32)
      audio = np.concatenate([audio, tail], axis=-1)
    if len(audio) < self.n_channels_in:
      audio = np.broadcast_to(audio, (self.n_channels_in, audio.shape[-1]))
    instance = self._borrow(controls)
    was_reset = instance.is_used
    rendered = self.run(instance, audio, controls, hop_size, self.warm_up)
    if was_reset and self._method.kind == 'reset':
      self._n_resets += 1
      if self._n_resets % _RESETS_PER_AUDIT < 3:
        rendered = self._audit(instance, rendered, audio, controls, hop_size)
    self._idle.append(instance)
    out, n_nonfinite = rendered
    return out[:, self.latency : self.latency + n_samples], n_nonfinite

  def _audit(self, instance, rendered, audio, controls, hop_size):
    """Compares what a reset instance rendered with a new one's output."""
    self.renew(instance)
    fresh = self.run(instance, audio, controls, hop_size, self.warm_up)
    if not np.array_equal(fresh[0], rendered[0]):
      self._method = fresh_state.INSTANCE
      fresh_state.disprove(self.plugin, self._probe_settings)
    return fresh

  def _report_nonfinite(self, n_nonfinite: int, controls: np.ndarray):
    settings = ', '.join(
      f'{symbol}={low:g}' + (f'..{high:g}' if high > low else '')
      for symbol, low, high in zip(
        self.controls, controls.min(0), controls.max(0), strict=True
      )
    )
    message = (
      f'{self.plugin.uri} gave {n_nonfinite} samples that are not finite, at '
      f'{settings or "its default settings"}.'
    )
    if self.strict:
      raise errors.PluginError(message)
    self.n_nonfinite += n_nonfinite
    _log.warning('%s They are set to zero.', message)

  def render(
    self,
    audio: np.ndarray,
    controls: np.ndarray | None = None,
    hop_size: int | None = None,
  ) -> np.ndarray:
    """Renders a batch, each item from a fresh state.

    Args:
      audio: Shape [batch, n_samples, n_channels], as many channels as the
        plugin has audio inputs, or one, which then feeds them all.
      controls: Values of `controls` in port units, shape [batch, n_frames,
        n_controls]. Frame t holds from sample t * hop_size on, the last one to
        the end.
      hop_size: Samples per frame. By default n_samples / n_frames, rounded up.

    Returns:
      Audio of shape [batch, n_samples, n_outputs], float32.

    Raises:
      ValueError: Shapes that do not fit, no samples, or values not finite.
      errors.PluginError: Output that is not finite, if `strict`.
    """
    audio, controls, hop_size = self._check_input(audio, controls, hop_size)
    planes = np.ascontiguousarray(np.moveaxis(audio, -1, 1))
    items = [
      functools.partial(self.render_item, plane, frames, hop_size)
      for plane, frames in zip(planes, controls, strict=True)
    ]
    if self.n_threads == 1 or len(items) == 1:
      rendered = [item() for item in items]
    else:
      executor = _executor(self.n_threads, os.getpid())
      rendered = list(executor.map(lambda item: item(), items))
    for (_, n_nonfinite), frames in zip(rendered, controls, strict=True):
      if n_nonfinite:
        self._report_nonfinite(n_nonfinite, frames)
    rendered = [out for out, _ in rendered]
    return np.moveaxis(np.stack(rendered), 1, -1)

  def _check_input(self, audio, controls, hop_size):
    """Returns the arguments of `render` as float32 arrays that fit."""
    audio = np.asarray(audio, np.float32)
    if audio.ndim != 3 or not audio.size:
      raise ValueError(
        f'audio has shape {audio.shape}; it must be [batch, n_samples, '
        'n_channels] with at least one of each.'
      )
    n_items, n_samples, n_channels = audio.shape
    if n_channels not in (1, self.n_channels_in):
      raise ValueError(
        f'audio has {n_channels} channels; {self.plugin.uri} takes '
        f'{self.n_channels_in} '
        f'({", ".join(p.symbol for p in self.plugin.audio_inputs)}), or 1 '
        'for all of them.'
      )
    if controls is None:
      controls = np.broadcast_to(
        self.default_controls(), (n_items, 1, len(self.controls))
      )
    controls = np.ascontiguousarray(controls, np.float32)
    n_frames = controls.shape[1] if controls.ndim == 3 else 0
    if (
      controls.shape != (n_items, n_frames, len(self.controls)) or not n_frames
    ):
      raise ValueError(
        f'controls has shape {controls.shape}; for this audio it must be '
        f'[{n_items}, n_frames, {len(self.controls)}], the controls being '
        f'{", ".join(self.controls) or "none"}.'
      )
    if hop_size is None:
      hop_size = -(-n_samples // n_frames)
    if hop_size < 1 or (n_frames - 1) * hop_size >= n_samples:
      raise ValueError(
        f'{n_frames} frames of hop_size={hop_size} do not fit '
        f'{n_samples} samples: the last ones would hold none.'
      )
    for name, values in (('audio', audio), ('controls', controls)):
      if not np.isfinite(values).all():
        raise ValueError(
          f'{name} holds {np.count_nonzero(~np.isfinite(values))} values '
          f'that are NaN or infinite; {self.plugin.uri} was not run.'
        )
    return audio, controls, int(hop_size)


def check_value(plugin: world.Plugin, symbol: str, value: float):
  """Raises ValueError unless a value is in the range of a control port.

  A range that goes with the sample rate is only known of `plugin.at_rate`.
  """
  port = plugin.control(symbol)
  if port.per_sample_rate and np.isfinite(value):
    return
  # Ranges are stored as float32: allow for a value rounded from it.
  slack = 1e-6 * max(abs(port.minimum), abs(port.maximum))
  if not port.minimum - slack <= value <= port.maximum + slack:
    raise ValueError(
      f'{symbol}={value!r} is out of range: {plugin.uri} takes '
      f'{port.describe_range()}.'
    )


def _row_pointers(array: np.ndarray):
  """Returns pointers to the rows of a float32 array whose rows are dense."""
  base = array.ctypes.data
  stride = array.strides[0]
  return _ffi.new(
    'float*[]',
    [_ffi.cast('float*', base + i * stride) for i in range(len(array))],
  )
