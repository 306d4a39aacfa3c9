"""Renders as sleeps of their measured time, on more threads than processors.

What a sleep takes of a processor is next to nothing, so that the threads stand
for as many cores. A plugin sleeps (`sleeper.c`), which the host renders as any
other. All else of a step is as it is, too: threads and locks, NumPy, the
network, and the order in which TensorFlow runs them.
"""

import contextlib
import ctypes
import heapq
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dafx import lv2

_URI = 'urn:dafx-benchmark:sleeper'
_N_SAMPLES = 16  # of the audio that a sleep is given, in one block
_TURTLE = f"""
@prefix lv2: <http://lv2plug.in/ns/lv2core#> .
@prefix doap: <http://usefulinc.com/ns/doap#> .
<{_URI}> a lv2:Plugin ; lv2:binary <sleeper.so> ; doap:name "Sleeper" ;
  lv2:port [ a lv2:AudioPort, lv2:InputPort ; lv2:index 0 ;
             lv2:symbol "in" ; lv2:name "In" ],
           [ a lv2:AudioPort, lv2:OutputPort ; lv2:index 1 ;
             lv2:symbol "out" ; lv2:name "Out" ],
           [ a lv2:ControlPort, lv2:InputPort ; lv2:index 2 ;
             lv2:symbol "seconds" ; lv2:name "Seconds" ; lv2:default 0.0 ;
             lv2:minimum 0.0 ; lv2:maximum 60.0 ] .
"""
# Where the host looks without LV2_PATH.
_FOLDERS = ('~/.lv2', '/usr/local/lib/lv2', '/usr/lib/lv2')


def install(folder: str | os.PathLike):
  """Builds the plugin that sleeps; before anything looks for plugins.

  Args:
    folder: Where to; it must stay there as long as plugins are used.
  """
  folder = pathlib.Path(folder)
  bundle = folder / 'sleeper.lv2'
  bundle.mkdir()
  subprocess.run(
    ['gcc', '-O2', '-shared', '-fPIC', '-o', str(bundle / 'sleeper.so')]
    + [str(pathlib.Path(__file__).with_name('sleeper.c')), '-lpthread'],
    check=True,
  )
  (bundle / 'manifest.ttl').write_text(_TURTLE, encoding='utf-8')
  multiarch = f'/usr/lib/{sys.implementation._multiarch}/lv2'
  folders = [*map(os.path.expanduser, _FOLDERS), multiarch]
  former = os.environ.get('LV2_PATH', os.pathsep.join(folders))
  os.environ['LV2_PATH'] = os.pathsep.join([str(folder), former])


class Call(NamedTuple):
  """A batch that a plugin renders in a step.

  Attributes:
    plugin: Number of the plugin.
    n_items: Items of the batch.
    is_ahead: Whether nothing waits for it until the gradients are asked for.
  """

  plugin: int
  n_items: int
  is_ahead: bool


def most_busy(
  calls: Sequence[Call], seconds: Sequence[float], n_threads: int
) -> float:
  """Returns how busy threads are where nothing but dependencies stops them.

  Each call that is waited for begins when the one before has ended, and with it
  what its plugin renders ahead, which fills the threads that are left.

  Args:
    calls: Of a step, in their order.
    seconds: What a render of an item takes, of each plugin.
    n_threads: How many.

  Returns:
    Their share of the time in which any of them renders.
  """
  chain = [call for call in calls if not call.is_ahead]
  ahead = [call for call in calls if call.is_ahead]
  first: list[float] = []
  behind: list[float] = []
  running: list[tuple[float, bool]] = []  # when it ends, whether waited for
  now = busy = 0.0
  n_waited_for = 0
  while chain or first or behind or running:
    if chain and not n_waited_for:
      call = chain.pop(0)
      first = [seconds[call.plugin]] * call.n_items
      n_waited_for = call.n_items
      behind += [
        seconds[each.plugin]
        for each in ahead
        if each.plugin == call.plugin
        for _ in range(each.n_items)
      ]
      ahead = [each for each in ahead if each.plugin != call.plugin]
    while len(running) < n_threads and (first or behind):
      is_first = bool(first)
      takes = (first or behind).pop(0)
      heapq.heappush(running, (now + takes, is_first))
      busy += takes
    now, is_first = heapq.heappop(running)
    n_waited_for -= is_first
  return busy / (n_threads * now)


class Cores:
  """Threads that stand for cores, and how busy they are.

  Args:
    n_threads: How many.
    sample_rate: Of the audio, in Hz.
  """

  def __init__(self, n_threads: int, sample_rate: float):
    self.n_threads = n_threads
    self._sample_rate = sample_rate
    self._outputs: dict[tuple, np.ndarray] = {}
    bundle = lv2.get_plugin(_URI).bundle_path
    self._library = ctypes.CDLL(os.path.join(bundle, 'sleeper.so'))
    self._library.sleeper_busy_s.restype = ctypes.c_double
    self._library.sleeper_rendering_s.restype = ctypes.c_double

  @property
  def busy_s(self) -> float:
    """Time that all of them have slept, added."""
    return self._library.sleeper_busy_s()

  @property
  def rendering_s(self) -> float:
    """Time in which at least one of them slept."""
    return self._library.sleeper_rendering_s()

  def reset(self):
    """Counts from here on."""
    self._library.sleeper_reset()

  @contextlib.contextmanager
  def stand_for(self, plugins: Sequence[Any], seconds: Sequence[float]):
    """Has plugins render by sleeping.

    Args:
      plugins: Which, `effects.LV2Plugin`.
      seconds: What a render of an item takes, of each.
    """
    for plugin, each in zip(plugins, seconds, strict=True):
      plugin.renderer.render = self._sleeper(plugin.renderer, each)
    try:
      yield
    finally:
      for plugin in plugins:
        del plugin.renderer.render  # the class's own is behind it

  def _sleeper(self, renderer: lv2.Renderer, each: float):
    sleeper = lv2.Renderer(
      _URI,
      self._sample_rate,
      ['seconds'],
      n_threads=self.n_threads,
      compensate_latency=False,
    )

    def render(audio, controls=None, hop_size=None, rows=None):
      del controls, hop_size
      n_items = len(audio if rows is None else rows)
      quiet = np.zeros((n_items, _N_SAMPLES, 1), np.float32)
      sleeper.render(quiet, np.full((n_items, 1, 1), each))
      shape = (n_items, audio.shape[1], renderer.n_channels_out)
      if shape not in self._outputs:
        noise = np.random.default_rng(0).normal(0.0, 0.1, shape)
        self._outputs[shape] = noise.astype(np.float32)
      return self._outputs[shape]

    return render
