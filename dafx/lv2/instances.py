"""Instances of plugins: made, run, and made anew."""

import ctypes
import logging
import os
import pathlib

import numpy as np

from dafx.lv2 import _host, errors, lilv, states, world

_ffi = _host.ffi
_lib = _host.lib
_log = logging.getLogger('dafx.lv2')

# The C library's vector maths, which some plugins call without saying that they
# need it, such as Invada's tube as Debian 13 has it. Programs that are linked
# with it can load them.
try:
  ctypes.CDLL('libmvec.so.1', mode=ctypes.RTLD_GLOBAL)
except OSError:  # another C library, or another processor
  pass

_FLOAT32 = np.dtype(np.float32)

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


def library_path(plugin: world.Plugin) -> pathlib.Path | None:
  """Returns a plugin's library, or None if its bundle names none."""
  with lilv.lock:
    return plugin.lilv_plugin.library_path


def why_not_loaded(plugin: world.Plugin) -> str:
  """Returns why a plugin's library cannot be loaded, or '' if it can."""
  path = library_path(plugin)
  if path is None:
    return f'{plugin.bundle_path} names no library for it'
  try:
    ctypes.CDLL(os.fspath(path))
  except OSError as error:  # names the file, and what it lacks
    return str(error)
  return ''


_foreign: list[str] = []  # the first plugin of which it was said


def _say_memory_is_foreign(uri: str):
  """Says once per process what another allocator leaves undone."""
  if not _foreign:
    _foreign.append(uri)
    _log.warning(
      '%s takes memory that is not from the C library (jemalloc or another '
      'allocator, by LD_PRELOAD?). Memory that plugins never wrote is not zero '
      'then, and some sound different each time.',
      uri,
    )


class Instance:
  """An active instance of a plugin, in its start state; freed with the object.

  Args:
    plugin: The plugin, as it is at the sample rate.
    sample_rate: In Hz.
    block_size: Largest number of samples per run.
    values: What each port holds at the start; of use to controls only.
    controls: Symbols of the controls that `run` gets values for.
    state: What else it begins with, or None.

  Attributes:
    uri: URI of the plugin.
    is_used: Whether it may have left its start state.

  Raises:
    errors.PluginError: The plugin refuses, or its library does not load; or it
      cannot use the state.
  """

  def __init__(
    self,
    plugin: world.Plugin,
    sample_rate: float,
    block_size: int,
    values: np.ndarray,
    controls,
    state: states.State | None = None,
  ):
    kinds = [
      _KINDS.get((p.kind, p.is_input), _lib.DAFX_UNCONNECTED)
      for p in plugin.ports
    ]
    self._plugin = plugin
    self.uri = plugin.uri
    self._n_inputs = len(plugin.audio_inputs)
    self._n_outputs = len(plugin.audio_outputs)
    self._n_controls = len(controls)
    self._state = state
    with lilv.lock:
      default_state = _ffi.NULL
      if plugin.loads_default_state:
        default_state = plugin.lilv_plugin.default_state()
      self._default_state = default_state  # must outlive the handle
      handle = _lib.dafx_instance_create(
        plugin.lilv_plugin.handle,
        os.fsencode(plugin.bundle_path) + b'/',
        os.fsencode(library_path(plugin) or ''),
        sample_rate,
        block_size,
        plugin.needs_fixed_block,
        len(kinds),
        _ffi.new('uint8_t[]', kinds),
        _ffi.from_buffer('float[]', values),
        _ffi.new('uint32_t[]', [max(p.n_bytes, 16) for p in plugin.ports]),
        len(controls),
        _ffi.new('uint32_t[]', [plugin.control(s).index for s in controls]),
        default_state,
      )
    if handle == _ffi.NULL:
      reason = why_not_loaded(plugin)
      why = f'its library does not load ({reason})'
      if not reason:
        why = (
          f'the plugin refuses sample_rate={sample_rate:g} Hz or '
          f'block_size={block_size}. DAFX_LV2_LOG=1 in the environment shows '
          'what it says; another rate or size may do'
        )
      message = f'{plugin.uri} could not be instantiated: {why}.'
      raise errors.PluginError(message)
    self.handle = _ffi.gc(handle, _lib.dafx_instance_free)
    self.is_used = False
    if not _lib.dafx_instance_is_led(handle):
      _say_memory_is_foreign(plugin.uri)
    if state is not None:
      self._check(_lib.dafx_instance_set_state(handle, state.handle))

  def renew(self):
    """Replaces the plugin's handle by a new one, in its start state.

    Raises:
      errors.PluginError: The plugin refuses, or cannot use its state; the
        instance is of no more use. Or another thread runs it.
    """
    self._check(_lib.dafx_instance_renew(self.handle))
    self.is_used = False

  def _check(self, renewed: int):
    """Raises PluginError unless the instance was renewed."""
    if renewed == 1:
      if self._state is None or not self._state.why_unused(self.handle):
        return
    raise self.renewal_error(renewed == _lib.DAFX_BUSY)

  def renewal_error(self, is_busy: bool) -> errors.PluginError:
    """Returns why the plugin's handle was not replaced.

    Args:
      is_busy: Whether another thread runs it.
    """
    if is_busy:
      return self._busy_error()
    why = '' if self._state is None else self._state.why_unused(self.handle)
    return errors.PluginError(
      why or f'{self._plugin.uri} could not be instantiated again.'
    )

  def _busy_error(self) -> errors.PluginError:
    return errors.PluginError(
      f'Another thread runs this instance of {self._plugin.uri}. Give each '
      'thread an instance of its own.'
    )

  def saved(self) -> list[tuple[str, str, bytes]]:
    """Returns all that the plugin keeps now, as hosts save it.

    Returns:
      Key, type of the atom, both URIs, and the atom's body, of each property;
      [] of a plugin that keeps no state.

    Raises:
      errors.PluginError: Another thread runs the instance.
    """
    n = _lib.dafx_instance_save(self.handle)
    if n == _lib.DAFX_BUSY:
      raise self._busy_error()
    found = [_lib.dafx_instance_saved(self.handle, n - i - 1) for i in range(n)]
    return [
      (
        lilv.unmap(p.key),
        lilv.unmap(p.type),
        bytes(_ffi.buffer(p.value, p.size)),
      )
      for p in found
    ]

  @property
  def n_bytes(self) -> int:
    """Memory that the plugin has taken since the start, as far as is known."""
    return _lib.dafx_instance_n_bytes(self.handle)

  def value(self, index: int) -> float:
    """Returns what a control port holds now."""
    return _lib.dafx_instance_value(self.handle, index)

  def run(
    self,
    audio: np.ndarray,
    controls: np.ndarray,
    hop_size: int,
    out: np.ndarray,
    n_skip: int = 0,
    warm_up: int = 0,
  ) -> int:
    """Renders on from the present state.

    Args:
      audio: Shape [n_channels, n_samples], strides as they may be; as many
        channels as the plugin has inputs, or one, which then feeds them all.
      controls: In port units, shape [n_frames, n_controls], contiguous.
      hop_size: Samples per frame.
      out: Where to write, shape [n_outputs, n_samples], rows contiguous.
      n_skip: Samples to drop at the start of the output; as much silence
        follows the audio, so that the output has its length.
      warm_up: Samples of silence to run before.

    Returns:
      Number of samples that were not finite, which are set to zero.

    Raises:
      TypeError: Arrays that are not float32.
      ValueError: Another number of channels or controls, audio that is not
        finite; the plugin stopped before it.
      errors.PluginError: Another thread runs the instance.
    """
    n_channels, n_samples = audio.shape
    if n_channels not in (1, self._n_inputs) and self._n_inputs:
      raise ValueError(
        f'audio has {n_channels} channels, {self._plugin.uri} '
        f'{self._n_inputs} audio inputs.'
      )
    # What the C part takes to be so.
    dtypes = audio.dtype, controls.dtype, out.dtype
    if set(dtypes) != {_FLOAT32}:
      raise TypeError(
        f'audio, controls and out are {", ".join(map(str, dtypes))}; each must '
        'be float32.'
      )
    n_rows, n_controls = len(out), controls.shape[-1]
    if n_rows != self._n_outputs or n_controls != self._n_controls:
      raise ValueError(
        f'out has {n_rows} rows and controls {n_controls} columns; '
        f'{self._plugin.uri} has {self._n_outputs} audio outputs, and '
        f'{self._n_controls} controls are moved.'
      )
    self.is_used = True
    n_nonfinite = _lib.dafx_render(
      self.handle,
      _ffi.cast('float*', audio.__array_interface__['data'][0]),
      audio.strides[1] // 4,
      audio.strides[0] // 4 if n_channels > 1 else 0,
      _ffi.cast('float*', out.__array_interface__['data'][0]),
      out.strides[0] // 4,
      n_samples,
      n_skip,
      _ffi.from_buffer('float[]', controls),
      len(controls) if self._n_controls else 0,
      hop_size,
      warm_up,
    )
    if n_nonfinite == _lib.DAFX_BUSY:
      raise self._busy_error()
    if n_nonfinite == _lib.DAFX_NONFINITE:
      check_finite('audio', audio, self._plugin.uri)
    return n_nonfinite


def nonfinite_error(name: str, values: np.ndarray, uri: str) -> ValueError:
  """Returns what to say of values that are NaN or infinite.

  Args:
    name: What they are.
    values: Of any shape.
    uri: URI of the plugin that they were to go into.
  """
  n_bad = values.size - np.count_nonzero(np.isfinite(values))
  return ValueError(
    f'{name} holds {n_bad} values that are NaN or infinite; {uri} was not '
    'given them.'
  )


def check_finite(name: str, values: np.ndarray, uri: str):
  """Raises `nonfinite_error` where values are NaN or infinite."""
  if not np.isfinite(values).all():
    raise nonfinite_error(name, values, uri)
