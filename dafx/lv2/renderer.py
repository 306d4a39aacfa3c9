"""Renders batches of audio through one LV2 plugin: NumPy in, NumPy out.

A render depends on its inputs alone: each item starts from the state of a new
instance, whatever was rendered before, in whatever order and on however many
threads. On request, a plugin's state goes on from call to call instead.
"""

import functools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dafx import _arguments
from dafx.lv2 import (
  batches,
  errors,
  forks,
  inputs,
  instances,
  items,
  latency,
  nonfinite,
  parameters,
  presets,
  processes,
  shelf,
  states,
  supply,
  unheard,
  world,
)


class Renderer:
  """Renders audio through one plugin at one sample rate.

  Args:
    uri: URI of the plugin.
    sample_rate: Rate of the audio, in Hz.
    controls: Symbols of the control ports that `render` gets values for, in
      their order there.
    fixed: Values of other control ports by symbol, in port units, and of
      parameters by URI, such as files. All else stays at its default.
    block_size: Largest number of samples per run of the plugin.
    n_threads: Items rendered side by side; as many as there are processors by
      default.
    compensate_latency: Whether to take the plugin's latency out of its output.
    warm_up: Samples of silence to run before each item, under its first
      controls: hides what plugins do at their start.
    strict: Whether output that is not finite is an error. Otherwise it is set
      to zero, counted in `n_nonfinite` and warned of: at the first item that
      has some, the tenth, the hundredth and so on.
    isolation: 'thread' renders in this process; 'process' in worker processes,
      in which a plugin that crashes or hangs is an error.
    stateful: Whether each item of a batch goes on from call to call where it
      left off, for audio that comes in chunks, until `reset_state`. Then
      latency is not compensated, and `warm_up` goes before the first chunk.
      Chunks of whole blocks give what one render would; any chunks do for a
      plugin that does not depend on the block size. With isolation='process'
      each item has a process of its own, until `reset_state`. One thread at a
      time renders; others wait. A render that is interrupted ends the state.
    time_limit_s: With isolation='process', seconds after which a render of an
      item counts as hung.
    preset: Label or URI of a preset, in place of the plugin's defaults; what
      else it holds (state, such as files) is restored. None for none.

  Attributes:
    fixed: Values of `fixed` by symbol.
    parameters: Values of `fixed` by URI; paths are absolute.
    state_preset: URI of the preset whose state was restored; '' for none.
    latency: Samples by which the plugin's output lags behind, as reported or
      measured; 0 without `compensate_latency`, which takes them out.
    unheard_files: Files that changed nothing in what was rendered first, and
      what to do, in words, by the URI of the parameter.

  Raises:
    ValueError: No such plugin or file, or a value out of its range.
    KeyError: No such symbol, parameter or preset.
    errors.PluginError: The plugin cannot be run here, or not with that state.

  Examples:
    >>> import numpy as np
    >>> from dafx import lv2
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> lv2.ISOLATIONS
    ('thread', 'process')
    >>> renderer = lv2.Renderer(uri, 44100, ['threshold'], {'ratio': 4.0})
    >>> audio = np.random.default_rng(0).normal(0.0, 0.1, [8, 44100, 2])
    >>> threshold = np.full([8, 1, 1], 0.05)  # [batch, n_frames, n_controls]
    >>> renderer.render(audio, threshold).shape
    (8, 44100, 2)
  """

  def __init__(
    self,
    uri: str,
    sample_rate: float,
    controls: Sequence[str] = (),
    fixed: Mapping[str, Any] | None = None,
    block_size: int = 1024,
    n_threads: int | None = None,
    compensate_latency: bool = True,
    warm_up: int = 0,
    strict: bool = False,
    isolation: str = 'thread',
    stateful: bool = False,
    time_limit_s: float = 60.0,
    preset: str | None = None,
  ):
    self._own: dict[str, Any] = dict(
      strict=strict, stateful=stateful, n_threads=n_threads,
      isolation=isolation, time_limit_s=time_limit_s,
    )  # fmt: skip
    inputs.check_options(
      sample_rate, block_size, warm_up, preset, compensate_latency, **self._own
    )
    self.plugin = world.get_plugin(uri).at_rate(sample_rate)
    inputs.check_plugin(self.plugin)
    self.controls = _arguments.names('controls', controls)
    self._set_values(fixed, preset)
    self.sample_rate = float(sample_rate)
    self.block_size = int(block_size)
    self.n_threads = int(n_threads or supply.default_n_threads())
    self.warm_up = int(warm_up)
    self.isolation = isolation
    self.time_limit_s = time_limit_s
    self._nonfinite = nonfinite.NonfiniteWatch(uri, self.controls, strict)
    self._supply = supply.Supply(self.new_instance)
    self.stateful = stateful
    self._streams: list[instances.Instance | processes.Stream] = []  # by item
    self._lock = threading.RLock()  # of the streams
    self._is_rendering = self._is_broken = False
    if stateful:
      forks.free_lock_of(self)
    self._shelf = shelf.Shelf()
    ports = {symbol: float(value) for symbol, value in self.fixed.items()}
    # What a worker process makes the same renderer of.
    self._settings: dict[str, Any] = dict(
      uri=uri,
      sample_rate=self.sample_rate,
      controls=self.controls,
      fixed={**ports, **self.parameters},
      preset=preset,
      block_size=self.block_size,
      compensate_latency=bool(compensate_latency),
      warm_up=self.warm_up,
    )
    if isolation == 'process':
      self.latency = processes.open_renderer(self._settings, time_limit_s)
    else:
      if self._state is not None:  # an error now, not later
        self._supply.give_back(self._supply.take())
      self.latency = 0
      if compensate_latency:
        self.latency = self.latency_at(self.default_controls()) or 0

  def _set_values(self, fixed, preset):
    """Finds out what the plugin begins with."""
    fixed = _arguments.by_name('fixed', fixed, "{'gain': 0.5}")
    uri = self.plugin.uri
    self.fixed, given = parameters.split(fixed)
    self.parameters = parameters.resolve(self.plugin.parameters, given, uri)
    inputs.check_symbols(self.plugin, self.controls, self.fixed)
    of_preset, state_uri = presets.load(uri, preset) if preset else ({}, '')
    self.initial_values = inputs.initial_values(
      self.plugin, {**of_preset, **self.fixed}
    )
    self._defaults = self.initial_values[
      [self.plugin.control(symbol).index for symbol in self.controls]
    ]
    kept = self.plugin, self.parameters, state_uri
    self._state = states.State(*kept) if any(kept[1:]) else None
    self._silence, self.state_preset = states.SilenceWatch(*kept), state_uri
    self._files = unheard.FileWatch(self.plugin, self.parameters)
    self.unheard_files = self._files.found

  def _with(self, symbols: Sequence[str], given: Mapping[str, Any]):
    """Returns a renderer that moves other controls and has other files."""
    fixed = {s: v for s, v in self.fixed.items() if s not in symbols}
    settings = {**self._settings, 'controls': symbols}
    settings.update(fixed={**fixed, **given}, compensate_latency=False)
    settings.update({**self._own, 'n_threads': 1, 'stateful': False})
    return Renderer(**settings)

  def __reduce__(self):
    """Says how copies are made: anew, from the arguments."""
    if self._streams:
      raise errors.PluginError(
        f'{self.plugin.uri} cannot be copied or pickled while it streams: what '
        'it holds stays in its instance. Call reset_state() before.'
      )
    return functools.partial(Renderer, **self._settings, **self._own), ()

  @property
  def n_nonfinite(self) -> int:
    """Samples that were not finite so far, and were set to zero."""
    return self._nonfinite.n_samples

  @property
  def n_channels_in(self) -> int:
    """Number of channels that go in: of audio inputs but for side chains."""
    return len(self.plugin.main_inputs)

  @property
  def n_channels_out(self) -> int:
    """Number of the plugin's audio outputs."""
    return len(self.plugin.audio_outputs)

  def latency_at(self, controls: np.ndarray) -> int | None:
    """Finds the latency under a setting, on an instance of its own.

    Reported by the plugin where it has a port for that, else measured.

    Args:
      controls: In port units, shape [1, n_controls].

    Returns:
      Latency in samples; None where it is to be measured and cannot be.

    Raises:
      ValueError: Controls that are not finite or out of their range.
    """
    controls = inputs.fit_controls(self.plugin, self.controls, controls)
    with self._supply.loan() as instance:
      port = self.plugin.latency_port
      if port is None:
        if not self.n_channels_in:
          return None
        return latency.measure(
          lambda audio: self.run(instance, audio, controls, audio.shape[1])[0],
          self.sample_rate,
        )
      quiet = np.zeros((1, 2 * self.block_size), np.float32)
      self.run(instance, quiet, controls, quiet.shape[1])
      reported = instance.value(port.index)
      return latency.of_report(reported, self.sample_rate, self.plugin.uri)

  def default_controls(self) -> np.ndarray:
    """Returns the plugin's defaults of `controls`, shape [1, n_controls]."""
    return self._defaults[np.newaxis]

  def new_instance(self) -> instances.Instance:
    """Returns a new instance, in its start state."""
    return instances.Instance(
      self.plugin,
      self.sample_rate,
      self.block_size,
      self.initial_values,
      self.controls,
      self._state,
    )

  def run(
    self,
    instance: instances.Instance,
    audio: np.ndarray,
    controls: np.ndarray,
    hop_size: int,
    warm_up: int = 0,
  ) -> tuple[np.ndarray, int]:
    """Renders one item on an instance, as it is.

    Args:
      instance: Where to render.
      audio: Shape [n_channels_in or 1, n_samples].
      controls: Shape [n_frames, n_controls], as `inputs.fit_controls` has them.
      hop_size: Samples per frame.
      warm_up: Samples of silence before.

    Returns:
      (output [n_channels_out, n_samples], number of non-finite samples).
    """
    audio = inputs.feed(self.plugin, audio.T).T
    out = self._shelf.new((self.n_channels_out, audio.shape[-1]))
    n_nonfinite = instance.run(audio, controls, hop_size, out, warm_up=warm_up)
    return out, n_nonfinite

  def render_item(
    self,
    audio: np.ndarray,
    controls: np.ndarray,
    hop_size: int,
    out: np.ndarray,
  ) -> int:
    """Renders one item from a fresh state.

    Args:
      audio: Shape [n_channels, n_samples].
      controls: Shape [n_frames, n_controls], as `inputs.fit_controls` has them.
      hop_size: Samples per frame.
      out: Where to write, shape [n_channels_out, n_samples], rows contiguous.

    Returns:
      Number of samples not finite, which are zero.
    """
    with self._supply.batch(1):
      return self._render_item(audio, controls, hop_size, out)

  def _render_item(self, audio, controls, hop_size, out):
    if self.isolation == 'process':
      instances.check_finite('audio', audio, self.plugin.uri)
      return processes.render(
        self._settings, audio, controls, hop_size, out, self.time_limit_s
      )
    with self._supply.loan() as instance:
      return instance.run(
        audio, controls, hop_size, out, self.latency, self.warm_up
      )

  def _open_streams(self, n_items: int, n_samples: int):
    """Sees to it that there is a stream for each item of a chunk."""
    if self._is_broken:
      raise errors.PluginError(
        f'{self.plugin.uri} has ended in the midst of its audio; begin anew by '
        'reset_state().'
      )
    if not self._streams:
      self._streams = [self._new_stream() for _ in range(n_items)]
    if len(self._streams) != n_items:
      raise ValueError(
        f'audio has {n_items} items; {len(self._streams)} are going on. Render '
        'as many, or call reset_state() to begin anew.'
      )
    if self.plugin.needs_fixed_block and n_samples % self.block_size:
      raise ValueError(
        f'{self.plugin.uri} runs blocks of {self.block_size} samples only; '
        f'with stateful=True, a chunk of {n_samples} must be a multiple.'
      )

  def _new_stream(self):
    """Returns what goes on from chunk to chunk, in its start state."""
    if self.isolation == 'process':
      return processes.Stream(self._settings, self.time_limit_s)
    return self._supply.take()

  def reset_state(self):
    """Ends what `stateful` keeps: the next chunk starts from a fresh state."""
    with self._lock:
      for stream in self._streams:
        if isinstance(stream, processes.Stream):
          stream.close()
        else:
          self._supply.give_back(stream)
      self._streams = []
      self._is_broken = False

  def free_lock(self):
    """In a fork: what another thread was rendering has no end here."""
    self._lock = threading.RLock()
    if self._is_rendering:
      self._drop_streams()

  def _drop_streams(self):
    """Leaves what ended in the midst of a chunk to no one."""
    for stream in self._streams:
      if isinstance(stream, processes.Stream):
        stream.close()
    self._streams = []
    self._is_rendering, self._is_broken = False, True

  def _new_stop(self) -> items.Stop:
    # Those who wait for a process may be interrupted: it is ended then.
    return items.Stop(holds_interrupts=self.isolation == 'thread')

  def _render_streams(self, audio, controls, hop_size, out) -> list[int]:
    """Goes on with all items; returns the numbers of non-finite samples."""
    # Before any item goes on.
    instances.check_finite('audio', audio, self.plugin.uri)
    with self._lock:
      self._open_streams(*audio.shape[:2])

      def render_item(i):
        stream = self._streams[i]
        warm_up = 0 if stream.is_used else self.warm_up
        item = (audio[i].T, controls[i], hop_size, out[i])
        return stream.run(*item, warm_up=warm_up)

      self._is_rendering = True
      try:
        with self._new_stop() as stop:
          return items.render_all(render_item, len(audio), self.n_threads, stop)
      except BaseException:
        self._drop_streams()
        raise
      finally:
        self._is_rendering = False

  def render(
    self,
    audio: np.ndarray,
    controls: np.ndarray | None = None,
    hop_size: int | None = None,
    rows: Sequence[int] | np.ndarray | None = None,
  ) -> np.ndarray:
    """Renders a batch, each item from a fresh state unless `stateful`.

    Args:
      audio: Shape [batch, n_samples, n_channels]: as many channels as the
        plugin has audio inputs but for side chains, which then hear them too;
        or as many as it has with these; or one, which feeds all.
      controls: Values of `controls` in port units, shape [batch, n_frames,
        n_controls]. Frame t holds from sample t * hop_size on, the last one to
        the end. Those of switches and other single values are rounded.
      hop_size: Samples per frame. By default n_samples / n_frames, rounded up.
      rows: Which row of `audio` each item takes, [batch]; as `audio[rows]`,
        which is not copied. By default each takes its own.

    Returns:
      Audio of shape [batch, n_samples, n_outputs], float32.

    Raises:
      ValueError: Shapes that do not fit, no samples, values not finite,
        controls out of their range, or rows that are not there.
      errors.PluginError: Output that is not finite, if `strict`; a state that
        an interrupt has ended.
      errors.CrashError: A crash or a hang with isolation='process', at the item
        that it names.
    """
    audio, rows, controls, hop_size = inputs.fit(
      self.plugin, self.controls, self._defaults, audio, rows, controls,
      hop_size,
    )  # fmt: skip
    self._files.look(self, self._with, audio, rows, controls)
    out = self._shelf.new((len(controls), self.n_channels_out, audio.shape[1]))
    counts = self._render_all(audio, rows, controls, hop_size, out)
    self._nonfinite.look(counts, controls)
    self._silence.look(audio, out, rows)
    return np.moveaxis(out, 1, -1)

  def _render_all(self, audio, rows, controls, hop_size, out):
    """Renders all items; returns the numbers of non-finite samples."""
    n_items = len(controls)
    if self.stateful:
      if rows is not None:
        audio = audio[rows]
      return self._render_streams(audio, controls, hop_size, out)
    with self._supply.batch(n_items), self._new_stop() as stop:
      if self.isolation == 'thread':
        skipped = self.latency, self.warm_up
        job = batches.Job(audio, rows, controls, hop_size, out, *skipped)
        return batches.render_all(job, self._supply, self.n_threads, stop)

      def render_item(i):
        row = audio[i if rows is None else rows[i]].T
        return self._render_item(row, controls[i], hop_size, out[i])

      return items.render_all(render_item, n_items, self.n_threads, stop)
